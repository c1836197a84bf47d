"""Blocks of a recording: how they are cut, what a call sees in them, and a process that may hang or die."""

from __future__ import annotations

import os
import platform
import queue
import shutil
import signal
import time
from pathlib import Path
from typing import Any, Callable, Iterator, List, Tuple

import numpy as np
import pytest
from recording_tools import HEIGHT, WIDTH, recorder, run_script, statuses

from ProcessedPiRecorder import open_recording
from ProcessedPiRecorder.errors import ClusterError, ProcessingError
from ProcessedPiRecorder.processing import worker
from ProcessedPiRecorder.processing.block_process import Order
from ProcessedPiRecorder.processing.block_recording import BlockRecording
from ProcessedPiRecorder.processing.blocks import CallsInOrder, block_frames_for, ranges
from ProcessedPiRecorder.processing.sending import pickled, state_of
from ProcessedPiRecorder.processing.worker import BlockResult, end_processes, run_block
from ProcessedPiRecorder.reading import sources
from ProcessedPiRecorder.reading.kept import opening_of
from ProcessedPiRecorder.recordings.reader import RecordingFile

FRAMES = 12
JOB = 'test'
COUNT = 0


@pytest.fixture(scope='module')
def trial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('blocks') / 'trial.tif'
    with recorder(path, controls={'frames': FRAMES}) as rec:
        rec.recordVid()
    return path


def calls_for(path: Path, callback: Callable[..., Any], start: int, stop: int, buffer_length: int = 1) -> List[Any]:
    with open_recording(path) as recording:
        calls = CallsInOrder(recording, recording.indices, recording.times_ns, callback, buffer_length)
        return list(calls.calls(start, stop))


def order(path: Path, start: int = 0, stop: int = FRAMES, **options: Any) -> Order:
    with open_recording(path) as recording:
        opening = opening_of(recording)
    return Order(**{'job': JOB, 'opening': opening, 'start': start, 'stop': stop, 'buffer_length': 1,
                    'timeout_s': 20.0, 'first_timeout_s': 40.0, **options})


@pytest.fixture
def run() -> Iterator[Callable[..., BlockResult]]:
    """run_block in this process; what it starts ends with the test."""
    yield lambda callback, *args, **options: run_block(order(*args, **options), pickled(callback).data)
    end_processes(JOB)
    worker._processes._ended.discard(JOB)


# ---------------------------------------------------------------------- cutting

@pytest.mark.parametrize(('start', 'stop', 'size'), [(0, 10, 3), (4, 5, 10), (0, 1000, 7), (3, 3, 5), (0, 6, 1)])
def test_ranges_cover_all_and_are_no_longer_than_asked(start: int, stop: int, size: int) -> None:
    found = list(ranges(start, stop, size))
    assert [page for begin, end in found for page in range(begin, end)] == list(range(start, stop))
    assert all(0 < end - begin <= size for begin, end in found)


def test_blocks_last_seconds_and_there_are_several_for_each_worker() -> None:
    assert block_frames_for(100_000, 2, 0.02, 0, 1) == 150                    # 3 s
    assert block_frames_for(100, 2, 0.02, 0, 1) == 7                          # 8 for each of 2
    assert block_frames_for(100_000, 2, 10, 0, 1) == 1
    assert block_frames_for(100_000, 2, 10, 0, 11) == 40                      # else the frames before cost more
    assert block_frames_for(100_000, 2, 0.02, 3, 1) == 1500                   # entering is a tenth of it
    assert block_frames_for(1000, 2, 0.02, 30, 1) == 500                      # but nobody is to be without work
    assert block_frames_for(0, 2, 0, 0, 1) == 1


# ---------------------------------------------------------------------- the contract of a call

def shapes_and_numbers(buffer: Any, cb_queue: Any) -> None:
    cb_queue.put([frame.index for frame in buffer])


def test_the_deque_is_as_in_one_run_wherever_the_block_begins(trial: Path) -> None:
    whole = [called.lines for called in calls_for(trial, shapes_and_numbers, 0, FRAMES, 4)]
    for start in range(FRAMES):
        assert [called.lines for called in calls_for(trial, shapes_and_numbers, start, FRAMES, 4)] == whole[start:]


def test_frames_are_private_copies_with_number_and_time(trial: Path) -> None:
    def draw(buffer: Any, cb_queue: Any) -> None:
        assert buffer[-1].flags.writeable and buffer[-1].flags.c_contiguous
        seen.append((buffer[-1].index, buffer[-1].time_ns))
        buffer[-1][:] = 0
    seen: List[Tuple[int, int]] = []
    assert not any(called.failure for called in calls_for(trial, draw, 0, FRAMES))
    with open_recording(trial) as recording:
        assert seen == list(zip(recording.indices.tolist(), recording.times_ns.tolist()))
        assert recording[3].any()


def test_the_queue_takes_results_and_has_none_to_give(trial: Path) -> None:
    def ask(buffer: Any, cb_queue: Any) -> None:
        assert cb_queue.empty() and not cb_queue.full() and cb_queue.qsize() == 0 and list(cb_queue) == []
        for get in (cb_queue.get, cb_queue.get_nowait, lambda: cb_queue.get(timeout=9)):
            with pytest.raises(queue.Empty):
                get()
        cb_queue.put_nowait('one')
        cb_queue.put('two', timeout=1)
    called = calls_for(trial, ask, 0, 1)[0]
    assert called.failure is None and [b'"one"' in called.lines[0], b'"two"' in called.lines[1]] == [True, True]


@pytest.mark.parametrize(('returned', 'why'), [
    (7, 'it returned a int'), (np.zeros((2, 2), np.uint8), 'shape (2, 2)'),
    (np.zeros((HEIGHT, WIDTH, 3)), 'array of float64'), (np.zeros((HEIGHT, WIDTH, 3), np.uint8), '')])
def test_only_a_frame_can_be_returned(trial: Path, returned: Any, why: str) -> None:
    called = calls_for(trial, lambda buffer, cb_queue: returned, 2, 3)[0]
    if why:
        assert called.failure is not None and called.failure.why == 'returned' and why in called.failure.text
        assert called.returned is None
    else:
        assert called.failure is None and called.returned is returned


def test_a_result_that_cannot_be_pickled_fails_its_call(trial: Path) -> None:
    called = calls_for(trial, lambda buffer, cb_queue: cb_queue.put(lambda: 0), 0, 1)[0]
    assert called.failure is not None and called.failure.why == 'raised' and not called.lines


def test_a_call_that_raises_is_told_and_others_go_on(trial: Path) -> None:
    def sometimes(buffer: Any, cb_queue: Any) -> None:
        cb_queue.put('before')
        if buffer[-1].index % 3 == 1:
            raise SystemExit('tired')
    called = calls_for(trial, sometimes, 0, FRAMES)
    assert [item.page for item in called if item.failure] == [1, 4, 7, 10]
    assert 'SystemExit: tired' in called[1].failure.text and 'sometimes' in called[1].failure.text
    assert all(len(item.lines) == 1 for item in called)


def test_a_page_that_cannot_be_read_is_a_failure_and_no_part_of_the_deque(trial: Path, tmp_path: Path) -> None:
    broken = tmp_path / 'broken.tif'
    broken.write_bytes(trial.read_bytes())
    with RecordingFile(trial) as file:
        place = int(file.index()[4]['strip_offset'])
    with open(broken, 'r+b') as target:
        target.seek(place + 20)
        target.write(b'\xff' * 40)
    called = calls_for(broken, shapes_and_numbers, 3, 8, 3)
    assert [(item.page, item.failure and item.failure.why) for item in called] == [
        (3, None), (4, 'unreadable'), (5, None), (6, None), (7, None)]
    numbers = [item.lines[0].partition(b'"result": ')[2].strip(b'}\n') for item in called if item.lines]
    assert numbers == [b'[1, 2, 3]', b'[2, 3, 5]', b'[3, 5, 6]', b'[5, 6, 7]']
    assert calls_for(broken, shapes_and_numbers, 6, 7, 3)[0].lines == called[3].lines


# ---------------------------------------------------------------------- in a process of its own

class Context:
    """Notes where it is, and what it was given."""

    def __init__(self) -> None:
        self.entered = 0
        self.pids: List[int] = []

    def __enter__(self) -> Context:
        self.entered += 1
        return self

    def __exit__(self, *exc_info: object) -> None:
        raise RuntimeError('the door is stuck')

    def __call__(self, buffer: Any, cb_queue: Any) -> None:
        self.pids.append(os.getpid())
        cb_queue.put([self.entered, len(self.pids), os.getpid() == os.getpgid(0)])


def test_each_block_has_a_fresh_copy_that_is_entered_and_left(trial: Path, run: Any) -> None:
    context = Context()
    first, second = run(context, trial, 0, 3), run(context, trial, 3, 6)
    for result in (first, second):
        assert [line.partition(b'"result": ')[2] for line in result.lines.splitlines()] == [
            b'[1, 1, true]}', b'[1, 2, true]}', b'[1, 3, true]}']
        assert result.notes == ("the callback's __exit__ failed: RuntimeError: the door is stuck",)
    assert not context.entered and (first.processed, first.results, first.start, first.stop) == (3, 3, 0, 3)


def count_calls(buffer: Any, cb_queue: Any) -> None:
    global COUNT
    COUNT += 1
    cb_queue.put(COUNT)


def test_what_a_module_keeps_begins_anew_with_each_block(trial: Path, run: Any) -> None:
    for start in (0, 4):
        assert run(count_calls, trial, start, start + 4).lines.count(b'"result": 4}') == 1


def die_at_two(buffer: Any, cb_queue: Any) -> None:
    cb_queue.put(len(buffer))
    if buffer[-1].index == 2:
        os.kill(os.getpid(), signal.SIGSEGV)


def test_a_call_that_ends_its_process_costs_its_own_frame(trial: Path, run: Any) -> None:
    result = run(die_at_two, trial, 0, 6, buffer_length=2)
    assert [(failure.page, failure.why) for failure in result.failures] == [(2, 'died')]
    assert 'SIGSEGV' in result.failures[0].text and 'die_at_two' in result.failures[0].text
    assert result.processed == 5 and result.stop == 6
    assert [line[-3:-1] for line in result.lines.splitlines(keepends=True)] == [b'1}', b'2}', b'2}', b'2}', b'2}']


def hang_at_last(buffer: Any, cb_queue: Any) -> None:
    if buffer[-1].index == 3:
        time.sleep(600)


def test_a_call_that_hangs_is_ended_and_told_with_its_place(trial: Path, run: Any) -> None:
    result = run(hang_at_last, trial, 0, 4, timeout_s=1.0)
    assert [(failure.page, failure.why) for failure in result.failures] == [(3, 'hung')]
    assert 'longer than 1 s' in result.failures[0].text and 'hang_at_last' in result.failures[0].text
    assert result.processed == 3


def always_die(buffer: Any, cb_queue: Any) -> None:
    os._exit(3)


def test_a_callback_that_always_dies_is_refused(trial: Path, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, 'MOST_DEATHS_IN_A_ROW', 2)
    result = run(always_die, trial)
    assert result.refused is not None and '2 frames in a row' in result.refused.message
    assert 'exit code 3' in result.refused.message


def always_abort(buffer: Any, cb_queue: Any) -> None:
    os.abort()


def test_one_that_always_crashes_is_told_in_a_line(trial: Path, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, 'MOST_DEATHS_IN_A_ROW', 1)
    message = run(always_abort, trial).refused.message
    assert '\n' not in message and 'SIGABRT (Fatal Python error: Aborted, File "' in message
    assert message.endswith(' in always_abort)')


class Closed:
    """Cannot be entered."""

    def __enter__(self) -> None:
        raise FileNotFoundError('no model here')

    def __exit__(self, *exc_info: object) -> None:
        pass

    def __call__(self, buffer: Any, cb_queue: Any) -> None:
        pass


def test_a_callback_that_cannot_be_entered_is_refused(trial: Path, run: Any) -> None:
    result = run(Closed(), trial)
    assert result.refused is not None and 'no model here' in str(result.refused.to_exception())


def test_another_recording_of_that_name_is_noticed(trial: Path, run: Any) -> None:
    opening = order(trial).opening
    for other in (opening._replace(first=(0, 1)), opening._replace(pages=99)):
        with pytest.raises(ClusterError, match='is not what it was.* than the 12 here'):
            run(shapes_and_numbers, trial, opening=other)


def test_a_recording_that_is_replaced_between_two_blocks_is_noticed(trial: Path, tmp_path: Path, run: Any) -> None:
    path = tmp_path / 'trial.tif'
    shutil.copyfile(trial, path)
    opening = order(path).opening
    assert run(shapes_and_numbers, path, 0, 3).processed == 3
    with recorder(tmp_path / 'other.tif', controls={'frames': FRAMES}) as rec:
        rec.recordVid()
    (tmp_path / 'other.tif').replace(path)
    with pytest.raises(ClusterError, match='is not what it was'):      # the process that has it open is the same
        run(shapes_and_numbers, path, 3, 6, opening=opening)


def invert_some(buffer: Any, cb_queue: Any) -> Any:
    if buffer[-1].index == 5:
        raise ValueError
    return 255 - buffer[-1] if buffer[-1].index % 2 == 0 else None


@pytest.mark.parametrize('level', [6, 0])
def test_a_block_s_recording_holds_what_was_returned_and_else_the_original(trial: Path, run: Any, tmp_path: Path,
                                                                           level: int) -> None:
    result = run(invert_some, trial, 3, 9, level=level, folder=str(tmp_path))
    block = Path(result.recording)
    assert statuses(block) == ['raw', 'returned', 'failed', 'returned', 'raw', 'returned']
    with open_recording(block) as made, open_recording(trial) as original:
        assert made.settings == {} and len(made) == 6
        for page, frame in enumerate(made.frames(threads=0), 3):
            assert frame.index == page and frame.time_ns == original.times_ns[page]
            np.testing.assert_array_equal(frame, original[page] if page % 2 else 255 - original[page])
    with RecordingFile(block) as file:
        assert all(file.verify_page(page) for page in range(6)) and file.finished


def test_a_block_of_a_recording_in_many_files_opens_few_of_them(run: Any, tmp_path: Path,
                                                                monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, 'MOST_OPEN', 3)
    path = tmp_path / 'many.tif'
    with recorder(path, split_frames=1, controls={'frames': FRAMES}) as rec:
        rec.recordVid()
    before = len(os.listdir('/proc/self/fd'))
    block = BlockRecording(tmp_path / 'block.tif', order(path).opening, 6, None)
    try:
        for page in range(FRAMES):
            block.add(page, 'raw', 1.0, None)
        assert len(os.listdir('/proc/self/fd')) - before <= 3 + 1         # and the new file
        assert block.finish() is not None
    finally:
        block.close()
    with open_recording(tmp_path / 'block.tif') as made, open_recording(path) as original:
        np.testing.assert_array_equal(made[:], original[:])


# ---------------------------------------------------------------------- sending

def test_what_a_callback_carries_is_seen() -> None:
    assert state_of(shapes_and_numbers) == ''
    assert state_of(Context()) == 'an object (Context)'
    assert state_of(Context().__call__) == 'an object (Context)'
    assert state_of((lambda value: lambda buffer, cb_queue: value)(7)) == 'a function with variables of its own'


def test_what_cannot_be_sent_is_told_with_the_way_out() -> None:
    lock = __import__('threading').Lock()
    with pytest.raises(ProcessingError, match='cannot be sent to the workers.*lock.*__enter__'):
        pickled(lambda buffer, cb_queue: lock)


def test_the_user_s_module_and_its_neighbours_travel_along(tmp_path: Path, own_folder: None) -> None:
    import pickle
    import subprocess
    import sys
    (tmp_path / 'own_helper.py').write_text('def double(value): return 2 * value\n')
    (tmp_path / 'own_callback.py').write_text('import own_helper\nFACTOR = 5\n'
                                              'def call(value): return own_helper.double(value) * FACTOR\n')
    sys.path.insert(0, str(tmp_path))
    import own_callback  # type: ignore[import-not-found]
    (tmp_path / 'sent').write_bytes(pickled(own_callback.call).data)
    assert own_callback.FACTOR == 5 and pickle.loads(pickle.dumps(own_callback.call)) is own_callback.call
    elsewhere = tmp_path / 'elsewhere'
    elsewhere.mkdir()
    answer = subprocess.run([sys.executable, '-c', 'import pickle; print(pickle.load(open("../sent", "rb"))(3))'],
                            cwd=elsewhere, capture_output=True, text=True, check=True).stdout
    assert answer == '30\n'


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='only glibc can be asked to keep what is freed')
def test_memory_that_frames_free_is_there_for_the_next(tmp_path: Path) -> None:
    script = run_script('''
import resource
from ProcessedPiRecorder.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        several = [bytearray(3_000_000) for _ in range(4)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

without = faults()
assert keep_freed_memory(64 << 20)
faults()
print(without, faults())
''', tmp_path)
    without, kept = map(int, script.out.split())         # type: ignore[attr-defined]
    assert without > 10_000 and kept < without / 10
