"""Recordings processed again through the pipeline: the same results, whichever frames fail, and nothing half done."""

from __future__ import annotations

import contextlib
import errno
import faulthandler
import json
import multiprocessing
import os
import pickle
import re
import shutil
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy as np
import pytest
import tifffile
from camera_kit import run as play
from recording_tools import paced, pages, recorder, results, run_script, statuses, wait_until

from ProcessedPiRecorder import errors, open_recording
from ProcessedPiRecorder.cameras import CameraRequest, ReplayCamera
from ProcessedPiRecorder.cli import main
from ProcessedPiRecorder.processing import outputs, process
from ProcessedPiRecorder.processing.outputs import Outputs
from ProcessedPiRecorder.processing.watched import CallState, Trail, watched
from ProcessedPiRecorder.recordings import workfolder
from ProcessedPiRecorder.recordings.page import PageRecord
from ProcessedPiRecorder.recordings.reader import RecordingFile
from ProcessedPiRecorder.recordings.results import ResultsFile
from ProcessedPiRecorder.recordings.sink import PageJob, PageSink
from ProcessedPiRecorder.recordings.verification import verify
from ProcessedPiRecorder.report import Loss, Report

FRAMES = 24
START_NS = 1_700_000_000_000_000_007


def measure(buffer: Any, cb_queue: Any) -> None:
    """Stateless and deterministic; looks at all frames that it has."""
    cb_queue.put({'sums': [int(frame.sum()) for frame in buffer], 'times': [frame.time_ns for frame in buffer]})


def number(buffer: Any, cb_queue: Any) -> None:
    cb_queue.put(buffer[-1].index)


def number_and_frame(buffer: Any, cb_queue: Any) -> np.ndarray:
    cb_queue.put(buffer[-1].index)
    return np.asarray(buffer[-1])


def invert(buffer: Any, cb_queue: Any) -> np.ndarray:
    cb_queue.put(buffer[-1].index)
    return 255 - np.asarray(buffer[-1])


def on_frame(index: int, action: Callable[[], Any]) -> Callable[[Any, Any], Any]:
    """A callback that does something at one frame, and puts every frame's number."""
    def callback(buffer: Any, cb_queue: Any) -> Any:
        cb_queue.put(buffer[-1].index)
        return action() if buffer[-1].index == index else None
    return callback


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def quick_restarts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('ProcessedPiRecorder.pipeline.keeper.RESTART_PAUSE_S', 0.001)


@pytest.fixture(scope='module')
def live(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A live recording that has lost frames, in three files, with its callback's results."""
    path = tmp_path_factory.mktemp('live') / 'trial.tif'
    rec = recorder(path, controls={'frames': FRAMES, 'lose_every': 7}, callback=measure, record='raw', buffer_length=3,
                   split_frames=8, metadata={'animal': 'M12'})
    report = rec.recordVid()
    assert report is not None and report.lost == 3 and len(report.files) == 3
    return path


@pytest.fixture(scope='module')
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording without losses and without a callback."""
    path = tmp_path_factory.mktemp('plain') / 'plain.tif'
    recorder(path, controls={'frames': FRAMES}).recordVid()
    return path


def left_over(folder: Path) -> List[str]:
    return sorted(path.name for path in folder.iterdir())


# ---------------------------------------------------------------- the same again

def test_a_live_run_and_its_processing_agree_to_the_letter(live: Path, tmp_path: Path) -> None:
    report = process(live, measure, results=tmp_path / 'again.results.jsonl')
    assert (tmp_path / 'again.results.jsonl').read_bytes() == live.with_suffix('.results.jsonl').read_bytes()
    assert (report.frames, report.processed, report.results, report.failures) == (21, 21, 21, [])
    assert report.complete and report.notes == [] and report.failures_path is None and report.out is None
    assert left_over(tmp_path) == ['again.results.jsonl']


def test_results_are_bound_to_the_original_and_lie_beside_it(plain: Path) -> None:
    report = process(plain, number)
    assert report.results_path == plain.with_name('plain_processed.results.jsonl')
    with open_recording(plain, results=report.results_path) as recording:
        assert [(result.page, result.result) for result in recording.results] == [(n, n) for n in range(FRAMES)]
    assert left_over(plain.parent) == ['plain.tif', 'plain_processed.results.jsonl']


def test_what_was_opened_is_processed_though_the_working_folder_changes(plain: Path, tmp_path: Path,
                                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(plain.parent)
    with open_recording(plain.name) as recording:
        monkeypatch.chdir(tmp_path)
        report = process(recording, number, results=tmp_path / 'a.results.jsonl')
    assert report.complete and report.processed == FRAMES


@pytest.mark.parametrize('record', ['returned', 'raw'])
def test_a_processed_recording_has_the_originals_frames_times_losses_and_marks(live: Path, tmp_path: Path, record: str
                                                                               ) -> None:
    out = tmp_path / 'out.tif'
    report = process(live.with_name('trial_002.tif'), invert, out=out, record=record)
    assert report.out == out and report.results_path == tmp_path / 'out.results.jsonl'
    assert verify(out).findings == []
    with open_recording(live) as old, open_recording(out) as new:
        np.testing.assert_array_equal(old.times_ns, new.times_ns)
        np.testing.assert_array_equal(old.indices, new.indices)
        assert [(loss.index, loss.count, loss.reason) for loss in old.losses] == \
            [(loss.index, loss.count, loss.reason) for loss in new.losses]
        for page in range(len(old)):
            np.testing.assert_array_equal(new[page], 255 - old[page] if record == 'returned' else old[page])
        assert set(new.status) == {record} and len(new.files) == len(old.files) == 3
        assert new.metadata == {'animal': 'M12', 'processed': {'recording': 'trial.tif', 'frames': 21, 'marks': []}}
        assert new.report.complete == old.report.complete == 'no'


def test_what_is_stored_in_the_recording_holds_unless_told_otherwise(live: Path, tmp_path: Path) -> None:
    def lengths(buffer: Any, cb_queue: Any) -> None:
        cb_queue.put(len(buffer))

    for told, expected in ((None, [1, 2, 3, 3]), (2, [1, 2, 2, 2])):
        found = process(live, lengths, buffer_length=told, overwrite=True, results=tmp_path / 'a.results.jsonl')
        with open_recording(live, results=found.results_path) as recording:
            assert [result.result for result in recording.results][:4] == expected


class Counting:
    """A callback that is entered, keeps state, and is left; what it enters may be another."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0

    def __enter__(self) -> 'Counting':
        (self.folder / 'entered').touch()
        return self

    def __exit__(self, *exc_info: object) -> None:
        (self.folder / 'left').write_text(str(self.count))

    def __call__(self, buffer: Any, cb_queue: Any) -> None:
        assert (self.folder / 'entered').exists()
        self.count += 1
        cb_queue.put(self.count)


@pytest.mark.parametrize('start_method', ['fork', 'spawn'])
def test_a_callback_with_a_context_and_a_state(plain: Path, tmp_path: Path, start_method: str) -> None:
    report = process(plain, Counting(tmp_path), results=tmp_path / 'a.results.jsonl', start_method=start_method)
    assert report.complete and (tmp_path / 'left').read_text() == str(FRAMES)
    with open_recording(plain, results=report.results_path) as recording:
        assert [result.result for result in recording.results] == list(range(1, FRAMES + 1))


def test_the_callback_gets_its_share_of_a_busy_machine(plain: Path, tmp_path: Path) -> None:
    def niceness(buffer: Any, cb_queue: Any) -> None:
        cb_queue.put(os.nice(0))

    process(plain, niceness, out=tmp_path / 'a.tif')           # no other process has to be ahead of it
    assert {result for _, _, result in results(tmp_path / 'a.tif')} == {os.nice(0)}


# ---------------------------------------------------------------- replay with the original's times

def crafted(path: Path, records: List[PageRecord], report: Optional[Report] = None) -> Path:
    """A recording with these pages."""
    failed: List[BaseException] = []
    sink = PageSink(path, height=16, width=32, pixel_format='gray', level=1, on_written=lambda jobs: None,
                    on_error=failed.append)
    sink.publish()
    for place, record in enumerate(records):
        sink.submit(PageJob(np.full((16, 32), place, np.uint8), record))
    stored = {} if report is None else report.as_dict()
    sink.finish(lambda info: {'report': stored, 'settings': {}, 'metadata': {}, 'camera': {}})
    assert not failed
    return path


def lost(index: int, count: int, reason: str) -> Dict[str, Any]:
    return {'index': index, 'count': count, 'time_ns': None, 'reason': reason}


def test_times_numbers_and_losses_are_the_originals_exactly(tmp_path: Path) -> None:
    """Also where times are nearer to one another than a recorder would make them, and losses at both ends."""
    records = [PageRecord(3, START_NS, lost=(lost(0, 3, 'ring full'),)), PageRecord(4, START_NS + 1),
               PageRecord(9, START_NS + 90, lost=(lost(5, 1, 'stall'), lost(6, 3, 'ring full'))),
               PageRecord(12, START_NS + 10**9), *(PageRecord(n, START_NS + n * 10**9) for n in range(13, 17))]
    told = Report('no', lost=14, losses=[
        Loss(0, 3, None, 'ring full'), Loss(5, 1, None, 'stall'), Loss(6, 3, None, 'ring full'),
        Loss(10, 2, None, 'camera gap'), Loss(17, 5, None, 'process died', 'at the end')])
    path = crafted(tmp_path / 'a.tif', records, told)
    report = process(path, number, out=tmp_path / 'b.tif')
    assert report.complete
    with open_recording(path) as old, open_recording(tmp_path / 'b.tif') as new:
        np.testing.assert_array_equal(old.times_ns, new.times_ns)
        assert list(new.indices) == [3, 4, 9, *range(12, 17)]
        assert [(loss.index, loss.count, loss.reason, loss.detail) for loss in new.losses] == [
            (0, 3, 'ring full', ''), (5, 1, 'stall', ''), (6, 3, 'ring full', ''), (10, 2, 'camera gap', ''),
            (17, 5, 'process died', 'at the end')]
        assert new.report.complete == 'no' and new.report.lost == 14
    assert verify(tmp_path / 'b.tif').findings == []


def test_what_nobody_knows_stays_unknown(tmp_path: Path) -> None:
    path = crafted(tmp_path / 'a.tif', [PageRecord(n, START_NS + n * 10**7) for n in range(4)], Report('unknown'))
    process(path, number, out=tmp_path / 'b.tif')
    with open_recording(tmp_path / 'b.tif') as new:
        assert new.report.complete == 'unknown'


def test_a_replay_can_be_asked_for_the_original_times(tmp_path: Path) -> None:
    path = crafted(tmp_path / 'a.tif', [PageRecord(n, START_NS + n * 10**7) for n in (2, 3, 5)])
    for asked in (ReplayCamera(path, 'fastest', original_times=True), ReplayCamera(path, 'fastest')):
        sink = play(asked, pixel_format='gray', controls={'original_times': True})
        assert [stamp.sensor_ns for stamp in sink.stamps] == [START_NS + n * 10**7 for n in (2, 3, 5)]
        assert sink.granted.clock_base == 'utc' and sink.losses == [(2, 'camera gap', ''), (1, 'camera gap', '')]
    sink = play(ReplayCamera(path, 'fastest'), pixel_format='gray')
    assert [stamp.sensor_ns for stamp in sink.stamps] == [0, 10**7, 3 * 10**7] and sink.losses == []
    with pytest.raises(errors.CameraFormatError, match='original_times'):
        ReplayCamera(path).open(CameraRequest(pixel_format='gray', controls={'original_times': 'yes'}))


@pytest.mark.parametrize('given', ['trial.tif', 'trial_001.tif'])
def test_all_files_of_a_split_recording_are_replayed_as_one(live: Path, given: str) -> None:
    sink = play(ReplayCamera(live.with_name(given), 'fastest'))
    with open_recording(live) as recording:
        assert len(sink.frames) == len(recording) == 21
        for image, frame in zip(sink.frames, recording):
            np.testing.assert_array_equal(image, frame)
        assert [stamp.count for stamp in sink.stamps] == list(recording.indices)
    assert sink.losses == []


def test_a_missing_file_of_a_split_recording_is_told(live: Path, tmp_path: Path) -> None:
    for name in ('trial.tif', 'trial_002.tif'):
        (tmp_path / name).write_bytes(live.with_name(name).read_bytes())
    sink = play(ReplayCamera(tmp_path / 'trial.tif', 'fastest', original_times=True))
    assert len(sink.frames) == 13
    assert (9, 'source broke off', 'files of the original are missing') in sink.losses     # 8 frames and a lost one
    assert any(count == 0 and 'trial_001.tif' in detail for count, _, detail in sink.losses)


def test_large_frames_are_decoded_ahead_and_come_in_order(tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    recorder(path, x_resolution=320, y_resolution=240, controls={'frames': 30}).recordVid()
    sink = play(ReplayCamera(path, 'fastest'))
    for (record, image), frame, stamp in zip(pages(path), sink.frames, sink.stamps):
        np.testing.assert_array_equal(image, frame)
        assert stamp.count == record.index
    assert len(sink.frames) == 30 and len(play(ReplayCamera(path, 'fastest'), limit=3).frames) == 3


# ---------------------------------------------------------------- frames that fail

@pytest.mark.usefixtures('quick_restarts')
def test_frames_that_fail_are_listed_and_the_others_go_on(plain: Path, tmp_path: Path) -> None:
    def callback(buffer: Any, cb_queue: Any) -> Any:
        index = buffer[-1].index
        if index == 2:
            raise ValueError('no mouse')
        if index == 5:
            kill_self()
        if index == 8:
            return 'a word'
        if index == 11:
            buffer.clear()
            time.sleep(100)
        if index == FRAMES - 1:
            os.kill(os.getpid(), signal.SIGSEGV)
        cb_queue.put(index)
        return None

    report = process(plain, callback, out=tmp_path / 'out.tif', cb_timeout=0.5)
    assert [(failure.page, failure.index, failure.why) for failure in report.failures] == [
        (2, 2, 'raised'), (5, 5, 'died'), (8, 8, 'returned'), (11, 11, 'hung'), (FRAMES - 1, FRAMES - 1, 'died')]
    texts = [failure.text for failure in report.failures]
    assert "raise ValueError('no mouse')" in texts[0] and texts[0].endswith('ValueError: no mouse\n')
    assert 'watched.py' not in texts[0]                       # their own code, not ours
    assert 'killed by SIGKILL' in texts[1] and 'returned a str' in texts[2]
    assert 'did not return in time' in texts[3] and 'time.sleep(100)' in texts[3]
    assert 'killed by SIGSEGV' in texts[4] and 'Segmentation fault' in texts[4] and 'in callback' in texts[4]
    failed = {failure.index for failure in report.failures}
    assert [index for index, _, _ in results(tmp_path / 'out.tif')] == [n for n in range(FRAMES) if n not in failed]
    assert (report.processed, report.results, report.complete) == (FRAMES - 5, FRAMES - 5, False)
    assert statuses(tmp_path / 'out.tif') == ['failed' if n in failed else 'raw' for n in range(FRAMES)]
    with open(tmp_path / 'out.failures.jsonl') as file:
        assert [json.loads(line) for line in file] == [failure._asdict() for failure in report.failures]
    # A process that dies at the very last frame may be started again before the end of the source is known.
    assert any(re.search('started again [23] times', note) for note in report.notes)


@pytest.mark.usefixtures('quick_restarts')
def test_a_callback_may_die_at_many_frames_as_long_as_it_gets_on(plain: Path, tmp_path: Path) -> None:
    def callback(buffer: Any, cb_queue: Any) -> None:
        if buffer[-1].index % 3 == 1:
            faulthandler.disable()
            os._exit(3)
        cb_queue.put(buffer[-1].index)

    report = process(plain, callback, results=tmp_path / 'a.results.jsonl')
    assert [failure.index for failure in report.failures] == list(range(1, FRAMES, 3))       # eight of them
    assert all(failure.why == 'died' and 'exit code 3' in failure.text for failure in report.failures)
    assert report.processed == FRAMES - 8


@pytest.mark.usefixtures('quick_restarts')
def test_one_that_dies_at_every_frame_is_given_up(plain: Path, tmp_path: Path) -> None:
    with pytest.raises(errors.ProcessingError, match=r'SIGKILL.*not started any longer.*nothing has its final name'):
        process(plain, lambda buffer, cb_queue: kill_self(), results=tmp_path / 'a.results.jsonl')
    assert left_over(tmp_path) == []


def test_one_that_cannot_be_entered_leaves_nothing(plain: Path, tmp_path: Path) -> None:
    with pytest.raises(errors.CallbackError, match='__enter__ failed'):
        process(plain, Counting(tmp_path / 'there is no such folder'), results=tmp_path / 'a.results.jsonl')
    assert left_over(tmp_path) == []


def test_an_error_at_its_end_is_told(plain: Path, tmp_path: Path) -> None:
    class Leaves(Counting):
        def __exit__(self, *exc_info: object) -> None:
            raise OSError('the lamp does not go out')

    report = process(plain, Leaves(tmp_path), results=tmp_path / 'a.results.jsonl')
    assert report.complete and any('the lamp does not go out' in note for note in report.notes)


def test_a_death_that_costs_no_frame_is_told(plain: Path, tmp_path: Path) -> None:
    class Dies(Counting):
        def __exit__(self, *exc_info: object) -> None:
            kill_self()

    report = process(plain, Dies(tmp_path), results=tmp_path / 'a.results.jsonl')
    assert (report.processed, report.results, report.failures) == (FRAMES, FRAMES, [])
    assert any('after the last one: killed by SIGKILL' in note for note in report.notes)


def test_results_that_cannot_be_stored_end_it(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: List[bytes] = []

    def write(results_file: ResultsFile, data: bytes) -> None:
        if len(written) == 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(data)

    monkeypatch.setattr(ResultsFile, '_write', write)
    with pytest.raises(errors.ProcessingError, match='results could not be stored.*No space left'):
        process(plain, number, results=tmp_path / 'a.results.jsonl')
    assert left_over(tmp_path) == []


def test_a_disk_that_is_full_before_it_begins(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, 'write_bytes', full)
    with pytest.raises(errors.ProcessingError, match='cannot be written to: No space left.*make room'):
        process(plain, number, results=tmp_path / 'a.results.jsonl')
    assert left_over(tmp_path) == []


def test_a_recording_that_was_cut_off_is_processed_as_far_as_it_goes(plain: Path, tmp_path: Path) -> None:
    with RecordingFile(plain) as file:
        row = file.index()[0]
    whole = plain.read_bytes()
    cut = tmp_path / 'cut.tif'
    # As before its clean end: the header leads to the first IFD, whose text is the page's own.
    cut.write_bytes(whole[:8] + int(row['ifd_offset']).to_bytes(8, 'little') + whole[16:])
    report = process(cut, number, out=tmp_path / 'b.tif')
    assert report.complete and report.processed == FRAMES and any('unfinished' in note for note in report.notes)
    with open_recording(tmp_path / 'b.tif') as new:
        assert new.report.complete == 'no' and 'never finished' in ' '.join(new.report.reasons)


@pytest.mark.parametrize('more', [('trial_001.tif',), ('trial_001.tif', 'trial_002.tif')])
def test_of_a_recording_that_grew_meanwhile_the_frames_that_were_there_are_processed(live: Path, tmp_path: Path,
                                                                                      more: Tuple[str, ...]) -> None:
    """The camera opens the files anew, and finds more of them; with the last one, also that it came to its end."""
    shutil.copy(live, tmp_path)
    told: List[int] = []
    with open_recording(tmp_path / 'trial.tif') as recording:
        for name in more:
            shutil.copy(live.with_name(name), tmp_path)
        report = process(recording, number, out=tmp_path / 'b.tif', progress=lambda done, total: told.append(done))
        indices = list(recording.indices)
    assert (report.frames, report.processed, report.failures, max(told)) == (8, 8, [], 8)
    assert [index for index, _, _ in results(tmp_path / 'b.tif')] == indices
    with open_recording(tmp_path / 'b.tif') as new:
        assert list(new.indices) == indices and all(loss.index < indices[-1] for loss in new.losses if loss.count)
        assert new.report.complete == 'no' and 'the first 8 of its' in ' '.join(new.report.reasons)


def test_a_page_that_cannot_be_read_is_listed(tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    recorder(path, controls={'frames': 8}, callback=invert).recordVid()
    with RecordingFile(path) as file:
        at = int(file.index()[3]['strip_offset']) + int(file.index()[3]['strip_length']) // 2
    with open(path, 'r+b') as raw:
        raw.seek(at)
        raw.write(bytes(100))
    report = process(path, number, out=tmp_path / 'b.tif')
    failure, = report.failures
    assert (failure.page, failure.index, failure.why) == (3, 3, 'unreadable') and 'damaged' in failure.text
    assert report.processed == 7 and [index for index, _, _ in results(tmp_path / 'b.tif')] == [0, 1, 2, 4, 5, 6, 7]
    assert any('8 of its 8 pages hold what a callback had returned' in note for note in report.notes)
    assert any('not in the processed recording' in note for note in report.notes)
    with open_recording(tmp_path / 'b.tif') as new:
        assert list(new.indices) == [0, 1, 2, 4, 5, 6, 7] and new.report.complete == 'no'


@pytest.mark.parametrize('overwrite', [False, True])
def test_where_no_page_can_be_read_there_is_no_processed_recording(tmp_path: Path, overwrite: bool) -> None:
    path = crafted(tmp_path / 'a.tif', [PageRecord(n, START_NS + n * 10**7) for n in range(4)])
    if overwrite:
        process(path, number, out=tmp_path / 'b.tif')
    before = {name: (tmp_path / name).read_bytes() for name in left_over(tmp_path) if name.startswith('b')}
    with RecordingFile(path) as file:
        rows = file.index()
    with open(path, 'r+b') as raw:
        for row in rows:
            raw.seek(int(row['strip_offset']))
            raw.write(bytes(int(row['strip_length'])))
    with pytest.raises(errors.ProcessingError, match='no frame of .*a.tif could be read, so there is nothing'):
        process(path, number, out=tmp_path / 'b.tif', overwrite=overwrite)
    assert {name: (tmp_path / name).read_bytes() for name in left_over(tmp_path) if name != 'a.tif'} == before
    report = process(path, number, results=tmp_path / 'c.results.jsonl')
    assert [failure.why for failure in report.failures] == ['unreadable'] * 4 and report.results_path is None


def test_a_fork_that_comes_back_from_the_call_spoils_nothing(plain: Path, tmp_path: Path) -> None:
    def callback(buffer: Any, cb_queue: Any) -> None:
        if buffer[-1].index == 4 and os.fork() == 0:
            raise ValueError('in the fork')
        number(buffer, cb_queue)

    report = process(plain, callback, results=tmp_path / 'a.results.jsonl')
    assert report.complete and report.failures == []


def test_a_watched_callback_is_carried_and_named_as_the_users_own(tmp_path: Path) -> None:
    trail = Trail(tmp_path)
    trail.prepare(3)
    wrapped = pickle.loads(pickle.dumps(watched(number, trail, np.array([5, 7, 9]), 10.0)))
    assert (wrapped.__module__, wrapped.__qualname__) == (number.__module__, 'number')
    assert trail._lines() == [] and list(trail.states()) == [CallState.NOT_BEGUN] * 3


def test_a_frame_behind_the_last_one_calls_nothing_off(tmp_path: Path) -> None:
    trail = Trail(tmp_path)
    trail.prepare(3)
    wrapped = watched(lambda buffer, cb_queue: None, trail, np.array([5, 6, 7]), 10.0)

    def calls() -> None:
        for index in (5, 8, 6, 7):
            with contextlib.suppress(IndexError):
                wrapped([SimpleNamespace(index=index, shape=(2, 2))], None)
            if index == 6:
                trail.call_off()

    child = multiprocessing.get_context('fork').Process(target=calls)      # it watches for as long as it lives
    child.start()
    child.join()
    assert list(trail.states()) == [CallState.DONE, CallState.DONE, CallState.NOT_BEGUN] and child.exitcode == 0


# ---------------------------------------------------------------- whole or not at all

def slow(buffer: Any, cb_queue: Any) -> None:
    cb_queue.put(buffer[-1].index)
    time.sleep(0.1)


def test_ended_early_the_results_so_far_are_kept_under_another_name(plain: Path, tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        assert total == FRAMES
        if done >= 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match=rf'after \d+ of {FRAMES} frames of plain.tif; the results so far'):
        process(plain, slow, out=tmp_path / 'a.tif', progress=interrupt)
    assert left_over(tmp_path) == ['a.partial.results.jsonl']
    kept = [index for index, _, _ in results(tmp_path / 'a.partial.tif')]
    assert 3 <= len(kept) < FRAMES and kept == list(range(len(kept)))
    assert process(plain, number, out=tmp_path / 'a.tif').complete
    assert left_over(tmp_path) == ['a.results.jsonl', 'a.tif']


def test_killed_it_leaves_a_folder_that_the_next_run_clears_away(plain: Path, tmp_path: Path) -> None:
    script = run_script(f'''
import time
from ProcessedPiRecorder.processing import process
def slow(buffer, cb_queue):
    cb_queue.put(buffer[-1].index)
    time.sleep(0.1)
process({str(plain)!r}, slow, results={str(tmp_path / 'a.results.jsonl')!r})
''', tmp_path, wait=False)
    folder = tmp_path / '.a.part'
    stored = folder / 'a.results.jsonl'
    wait_until(lambda: stored.exists() and stored.stat().st_size)
    with pytest.raises(errors.ProcessingError, match='made already, by another process'):
        process(plain, number, results=tmp_path / 'a.results.jsonl')
    script.kill()
    script.communicate()
    assert folder.is_dir() and not (tmp_path / 'a.results.jsonl').exists()
    os.unlink(tmp_path / 'script.py')

    def again() -> Any:
        try:                               # its callback's process may still hold the lock for a moment
            return process(plain, number, results=tmp_path / 'a.results.jsonl')
        except errors.ProcessingError:
            return None

    assert wait_until(again).complete
    assert left_over(tmp_path) == ['a.results.jsonl']


@pytest.mark.parametrize('kind', ['file', 'link', 'folder without locks'])
def test_a_work_folder_that_is_not_known_to_be_ours_stays(plain: Path, tmp_path: Path, kind: str,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*arguments: Any) -> None:
        raise OSError(errno.ENOLCK, 'No locks available')
    precious, work = tmp_path / 'precious', tmp_path / '.a.part'
    precious.mkdir()
    (precious / 'x').touch()
    if kind == 'file':
        work.touch()
    elif kind == 'link':
        work.symlink_to(precious)
    else:
        precious.rename(work)
        monkeypatch.setattr(workfolder.fcntl, 'flock', no_locks)
    before = sorted(str(path) for path in tmp_path.rglob('x'))
    with pytest.raises(errors.ProcessingError, match='in the way|no locks that would tell'):
        process(plain, number, results=tmp_path / 'a.results.jsonl')
    assert sorted(str(path) for path in tmp_path.rglob('x')) == before and os.path.lexists(work)


def test_what_is_there_is_not_touched(live: Path, tmp_path: Path) -> None:
    existing = tmp_path / 'there.results.jsonl'
    existing.write_text('precious')
    link = tmp_path / 'link.tif'
    link.symlink_to(live)
    os.link(live.with_name('trial_001.tif'), live.with_name('hard.tif'))
    refused: List[Dict[str, Any]] = [
        {'out': live}, {'out': live.with_name('trial_001.tif')}, {'out': link}, {'out': live.with_name('hard.tif')},
        {'results': live.with_suffix('.results.jsonl')}]
    for wish in refused:
        with pytest.raises(errors.ProcessingError, match='the recording that is to be processed'):
            process(live, number, overwrite=True, **wish)
    with pytest.raises(errors.ProcessingError, match='exists already'):
        process(live, number, results=existing)
    with pytest.raises(errors.ProcessingError, match='not a folder that exists'):
        process(live, number, results=tmp_path / 'nowhere' / 'a.results.jsonl')
    os.unlink(live.with_name('hard.tif'))
    assert existing.read_text() == 'precious' and left_over(tmp_path) == ['link.tif', 'there.results.jsonl']


def test_parts_of_a_new_recording_never_take_a_file_of_the_old_one(tmp_path: Path) -> None:
    recorder(tmp_path / 'a_001.tif', controls={'frames': 4}).recordVid()
    with open_recording(tmp_path / 'a_001.tif') as recording, \
            pytest.raises(errors.ProcessingError, match='belongs to it'):
        Outputs(recording, tmp_path / 'a.tif', None, True)


def test_results_kept_of_a_run_never_take_the_place_of_the_originals(tmp_path: Path) -> None:
    path = tmp_path / 'trial.partial.tif'
    recorder(path, controls={'frames': 4}, callback=number).recordVid()
    before = path.with_suffix('.results.jsonl').read_bytes()
    with pytest.raises(errors.ProcessingError, match=r'trial\.partial\.results\.jsonl is the recording that is to be '):
        process(path, measure, out=tmp_path / 'trial.tif')
    assert path.with_suffix('.results.jsonl').read_bytes() == before
    assert left_over(tmp_path) == ['trial.partial.results.jsonl', 'trial.partial.tif']
    assert process(path, measure, out=tmp_path / 'other.tif').complete


@pytest.mark.parametrize('overwrite', [False, True])
def test_what_an_earlier_run_kept_stays_beside_the_new(plain: Path, tmp_path: Path, overwrite: bool) -> None:
    def interrupt(done: int, total: int) -> None:
        if done >= 3:
            raise KeyboardInterrupt

    kept, second = tmp_path / 'a.partial.results.jsonl', tmp_path / 'a.partial_2.results.jsonl'
    kept.write_text('an earlier result\n')
    says = rf'the results so far are in {kept if overwrite else second};'
    with pytest.raises(KeyboardInterrupt, match=says):
        process(plain, slow, results=tmp_path / 'a.results.jsonl', overwrite=overwrite, progress=interrupt)
    assert left_over(tmp_path) == [kept.name] + [second.name] * (not overwrite)
    assert (kept.read_text() == 'an earlier result\n') == (not overwrite)


def test_overwriting_replaces_nothing_of_other_recordings(plain: Path, tmp_path: Path) -> None:
    with recorder(tmp_path / 'other.tif', controls={'frames': 20}, split_frames=8) as rec:
        rec.recordVid()
    for part in (1, 2):
        (tmp_path / f'other_00{part}.tif').rename(tmp_path / f'out_00{part}.tif')
    parts = {name: (tmp_path / name).read_bytes() for name in ('out_001.tif', 'out_002.tif')}
    process(plain, number_and_frame, out=tmp_path / 'out.tif', overwrite=True)
    process(plain, number_and_frame, out=tmp_path / 'out.tif', overwrite=True)
    assert {name: (tmp_path / name).read_bytes() for name in parts} == parts
    with pytest.raises(errors.ProcessingError, match=r'out_001\.tif exists already, and is no file of a rec'):
        process(plain, number_and_frame, out=tmp_path / 'out.tif', overwrite=True, split_frames=10)
    assert {name: (tmp_path / name).read_bytes() for name in parts} == parts
    (tmp_path / 'x.tiff').write_bytes(plain.read_bytes())
    (tmp_path / 'x.results.jsonl').write_text('of x.tiff')
    with pytest.raises(errors.ProcessingError, match=r'may hold the results of x\.tiff'):
        process(plain, number, out=tmp_path / 'x.tif', overwrite=True)
    assert (tmp_path / 'x.results.jsonl').read_text() == 'of x.tiff'


def test_a_recording_that_is_being_made_is_never_overwritten(plain: Path, tmp_path: Path) -> None:
    with recorder(tmp_path / 'live.tif', controls=paced(), split_frames=10, blocking=False) as rec:
        rec.recordVid()
        wait_until(lambda: (tmp_path / 'live_002.tif').exists())
        with pytest.raises(errors.RecordingFileError, match='is being recorded at this moment'):
            process(plain, number, out=tmp_path / 'live.tif', overwrite=True)
        with pytest.raises(errors.RecordingFileError, match=r'being recorded at this moment .* come to live_\d{3}'), \
                recorder(tmp_path / 'live.tif', overwrite=True) as second:
            second.recordVid()
        report = rec.stopVid()
    assert report.complete == 'yes' and len(report.files) >= 3


def test_overwriting_leaves_nothing_of_the_older_run(plain: Path, tmp_path: Path) -> None:
    out = tmp_path / 'a.tif'
    process(plain, on_frame(3, lambda: 'nonsense'), out=out, split_frames=5)
    assert left_over(tmp_path) == ['a.failures.jsonl', 'a.results.jsonl', 'a.tif', 'a_001.tif', 'a_002.tif',
                                   'a_003.tif', 'a_004.tif']
    report = process(plain, lambda buffer, cb_queue: None, out=out, overwrite=True, split_frames=20)
    assert left_over(tmp_path) == ['a.tif', 'a_001.tif'] and report.results_path is None
    assert verify(out).findings == []


def test_arguments_that_cannot_work(plain: Path, tmp_path: Path) -> None:
    wrong: Any = [('callback must be a function', 3, {}), ("'colour' is no setting", number, {'colour': 1}),
                  ('buffer_length', number, {'buffer_length': 0}), ('record', number, {'record': 'both'}),
                  ('does not end in .tif', number, {'out': tmp_path / 'a.mp4'}),
                  ('has times of its own', number, {'rate_hz': 30})]
    for says, callback, options in wrong:
        with pytest.raises(errors.SettingsError, match=says):
            process(plain, callback, **{'results': tmp_path / 'a.results.jsonl', **options})
    with pytest.raises(errors.RecordingFileError, match='no such file'):
        process(tmp_path / 'gone.tif', number)
    assert left_over(tmp_path) == []


def test_results_never_pass_for_those_of_the_recording_itself(plain: Path, tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    os.link(plain, path)
    for overwrite in (False, True):
        with pytest.raises(errors.ProcessingError, match='belongs to it'):
            process(path, number, results=tmp_path / 'a.results.jsonl', overwrite=overwrite)
    assert left_over(tmp_path) == ['a.tif']


# ---------------------------------------------------------------- other programs' TIFFs

def test_a_tiff_without_times_needs_a_rate(tmp_path: Path) -> None:
    images = np.random.default_rng(1).integers(0, 255, (6, 20, 30), np.uint8)
    tifffile.imwrite(tmp_path / 'old.tif', images, photometric='minisblack')
    with pytest.raises(errors.ProcessingError, match='rate_hz'):
        process(tmp_path / 'old.tif', measure)
    report = process(tmp_path / 'old.tif', measure, rate_hz=40, buffer_length=2)
    stored = results(tmp_path / 'old_processed.tif')
    assert [(index, time_ns) for index, time_ns, _ in stored] == [(n, n * 25_000_000) for n in range(6)]
    assert [result['sums'][-1] for _, _, result in stored] == [int(image.sum()) for image in images]
    assert report.complete and any('times at 40 Hz' in note for note in report.notes)
    tifffile.imwrite(tmp_path / 'deep.tif', images.astype(np.uint16), photometric='minisblack')
    with pytest.raises(errors.ProcessingError, match='uint16'):
        process(tmp_path / 'deep.tif', measure, rate_hz=40)


# ---------------------------------------------------------------- the command

TRACKING = '''
def centre(buffer, cb_queue):
    cb_queue.put(buffer[-1].index)

def fussy(buffer, cb_queue):
    if buffer[-1].index % 2:
        raise ValueError(f'no mouse in frame {buffer[-1].index}')

class Tracker:
    def __call__(self, buffer, cb_queue):
        cb_queue.put(buffer[-1].index)
'''


@pytest.fixture
def ppr(own_folder: None, plain: Path, live: Path, capfd: pytest.CaptureFixture[str]) -> Any:
    Path('own_tracking.py').write_text(TRACKING)
    for path in (plain, *live.parent.glob('trial*.tif')):
        os.link(path, path.name)

    def call(*arguments: str) -> Any:
        with pytest.raises(SystemExit) as left:
            main(['process', *arguments])
        out, err = capfd.readouterr()
        return left.value.code or 0, out, err
    return call


def test_the_command_takes_many_and_goes_on_after_one_that_fails(ppr: Any) -> None:
    code, out, err = ppr('plain.tif', 'trial.tif', 'trial_001.tif', 'gone.tif', '--callback', 'own_tracking:centre')
    assert code == 3 and '24 of 24 frames' in out and '21 of 21 frames' in out
    assert '2 of 3 recordings processed in full' in out
    assert 'gone.tif was not processed' in err and 'trial_001.tif: processed already' in err
    assert len(results(Path('plain_processed.tif'))) == 24 and len(results(Path('trial_processed.tif'))) == 21
    assert ppr('plain.tif', '--callback', 'own_tracking:Tracker')[0] == 2          # its results are there already
    folder = Path('made')
    assert ppr('plain.tif', 'trial.tif', '--callback', 'own_tracking:Tracker', '--out', 'made', '-q') == (0, '', '')
    assert {'plain_processed.tif', 'trial_processed.tif', 'plain_processed.results.jsonl'} <= set(os.listdir(folder))


def test_the_command_makes_the_folder_of_a_single_recording(ppr: Any) -> None:
    assert ppr('plain.tif', '--callback', 'own_tracking:centre', '--out', 'made', '-q') == (0, '', '')
    assert set(os.listdir('made')) == {'plain_processed.tif', 'plain_processed.results.jsonl'}


def test_the_command_tells_an_option_of_its_own_for_a_full_disk(ppr: Any) -> None:
    code, _, err = ppr('plain.tif', '--callback', 'own_tracking:centre', '--out', 'a.tif', '--disk-reserve-mb', '1e9')
    assert code == 3 and 'to stay free' in err and '(here: --disk-reserve-mb)' in err
    assert ppr('plain.tif', '--callback', 'own_tracking:centre', '--out', 'a.tif', '--disk-reserve-mb', '0')[0] == 0


def test_the_command_lists_the_frames_that_failed(ppr: Any) -> None:
    code, out, err = ppr('plain.tif', '--callback', f'{os.getcwd()}/own_tracking.py:fussy')
    assert code == 1 and '12 of 24 frames' in out and 'ValueError: no mouse in frame 7' in out
    assert 'plain_processed.failures.jsonl' in out and err == ''
    code, out, _ = ppr('plain.tif', '--callback', 'own_tracking:fussy', '--json', '--overwrite')
    told, = json.loads(out)
    assert (code, told['processed'], len(told['failures'])) == (1, 12, 12)
    code, out, err = ppr('plain.tif', '--callback', 'own_tracking:fussy', '--json')
    told, = json.loads(out)
    assert code == 2 and 'pass --overwrite' in told['error'] and told['error'] in err


@pytest.mark.parametrize(('arguments', 'says'), [
    (['--callback', 'own_tracking'], 'not module:function'), (['--callback', 'nowhere.py:f'], 'there is no file'),
    (['--callback', 'own_tracking:centre', '--buffer-length', '0'], '--buffer-length'),
    (['--callback', 'own_tracking:centre', '--out', 'plain.tif'], 'is not touched'),
    (['--callback', 'own_tracking:centre', '--fps', '30'], '(here: --fps)'),
    (['--callback', 'own_tracking:centre', '--block-frames', '5'], 'pass --workers N')])
def test_what_cannot_work_is_bad_usage(ppr: Any, arguments: List[str], says: str) -> None:
    code, _, err = ppr('plain.tif', *arguments)
    assert code == 2 and says in err


def test_ctrl_c_says_how_far_it_came(own_folder: None, plain: Path, tmp_path: Path) -> None:
    os.link(plain, 'plain.tif')
    script = run_script('''
import sys
from ProcessedPiRecorder.cli import main
open('own_slow.py', 'w').write("""
import time
def slow(buffer, cb_queue):
    cb_queue.put(1)
    time.sleep(0.1)
""")
main(['process', 'plain.tif', '--callback', 'own_slow:slow'])
''', tmp_path, wait=False)
    stored = tmp_path / '.plain_processed.part' / 'plain_processed.results.jsonl'
    wait_until(lambda: stored.exists() and stored.stat().st_size)
    script.send_signal(signal.SIGINT)
    _, err = script.communicate(timeout=30)
    assert script.returncode == 130 and 'interrupted; after ' in err and 'of 24 frames of plain.tif' in err
    assert (tmp_path / 'plain_processed.partial.results.jsonl').exists()
    assert not stored.parent.exists() and not (tmp_path / 'plain_processed.results.jsonl').exists()


@pytest.mark.parametrize(('number', 'ignored'), [(signal.SIGTERM, False), (signal.SIGHUP, False),
                                                 (signal.SIGHUP, True)])
def test_a_script_that_is_ended_keeps_the_results_so_far(plain: Path, tmp_path: Path, number: int, ignored: bool
                                                         ) -> None:
    """Also by its terminal's end; but what nohup ignores stays ignored."""
    script = run_script(f'''
import signal, time
signal.signal(signal.SIGHUP, signal.{'SIG_IGN' if ignored else 'SIG_DFL'})
from ProcessedPiRecorder.processing import process
def slow(buffer, cb_queue):
    cb_queue.put(buffer[-1].index)
    time.sleep(0.1)
process({str(plain)!r}, slow, results='a.results.jsonl')
''', tmp_path, wait=False)
    stored = tmp_path / '.a.part' / 'a.results.jsonl'
    wait_until(lambda: stored.exists() and stored.stat().st_size)
    script.send_signal(number)
    script.communicate(timeout=30)
    assert script.returncode == (0 if ignored else -number)           # as it would have ended without us
    assert left_over(tmp_path) == ['a.results.jsonl' if ignored else 'a.partial.results.jsonl', 'script.py']


def test_ctrl_c_while_all_gets_its_name_comes_when_it_has(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                                          ) -> None:
    move, release = outputs._move, outputs.release_folder

    def interrupted(*arguments: Any, **more: Any) -> None:
        move(*arguments, **more)
        signal.raise_signal(signal.SIGINT)
    monkeypatch.setattr(outputs, '_move', interrupted)
    with pytest.raises(KeyboardInterrupt):
        process(plain, number, out=tmp_path / 'a.tif')
    assert left_over(tmp_path) == ['a.results.jsonl', 'a.tif'] and verify(tmp_path / 'a.tif').findings == []
    assert len(results(tmp_path / 'a.tif')) == FRAMES

    def interrupted_before(*arguments: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        release(*arguments)
    monkeypatch.setattr(outputs, '_move', move)
    monkeypatch.setattr(outputs, 'release_folder', interrupted_before)
    with pytest.raises(KeyboardInterrupt):
        process(plain, number, out=tmp_path / 'b.tif')
    assert left_over(tmp_path) == ['a.results.jsonl', 'a.tif', 'b.results.jsonl', 'b.tif']


def test_what_comes_to_be_at_the_last_moment_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = tmp_path / 'made', tmp_path / 'target'
    source.write_text('made')
    link = os.link

    def late(one: Any, other: Any) -> None:
        target.write_text("somebody else's")
        link(one, other)
    monkeypatch.setattr(os, 'link', late)
    with pytest.raises(errors.ProcessingError, match='target came to be meanwhile'):
        outputs._move(source, target, overwrite=False)
    assert target.read_text() == "somebody else's" and source.read_text() == 'made'
