"""What grows with the number of frames, counted in bytes a frame: what a soak of half an hour would be too short for.

Piece by piece in this process, where tracemalloc sees every object; and the recorder as a whole, from outside.
"""

from __future__ import annotations

import errno
import gc
import os
import tempfile
import threading
import time
import tracemalloc
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import numpy as np
import pytest
from recording_tools import recorder, wait_until
from soak_sampling import ROLES, Sampler

from ProcessedPiRecorder.cameras import Granted, Stamp, SyntheticCamera
from ProcessedPiRecorder.errors import RecordingFileError
from ProcessedPiRecorder.pipeline import reader as reader_module
from ProcessedPiRecorder.pipeline.cb_queue import CallbackPort, CallbackQueue
from ProcessedPiRecorder.pipeline.links import Kind, Record
from ProcessedPiRecorder.pipeline.plan import Plan
from ProcessedPiRecorder.pipeline.reader import RingSink
from ProcessedPiRecorder.pipeline.ring import Ring, RingLayout
from ProcessedPiRecorder.pipeline.spill import SpillQueue
from ProcessedPiRecorder.recordings import index as index_module
from ProcessedPiRecorder.recordings import part as part_module
from ProcessedPiRecorder.recordings.framelog import FrameLog
from ProcessedPiRecorder.recordings.page import PageRecord
from ProcessedPiRecorder.recordings.results import ResultsFile
from ProcessedPiRecorder.recordings.sink import PageJob, PageSink
from ProcessedPiRecorder.recordings.stages import MOST_FULL
from ProcessedPiRecorder.settings import Settings

FRAMES = 2500
PERIOD_NS = 10_000_000
#: An object of Python's takes 16 bytes at least, so one that stays behind with every second frame is seen.
NOTHING = 8.0


def bytes_a_frame(run: Callable[[range], None], frames: int = FRAMES) -> float:
    """How much memory of Python's stays behind with each frame; ``run`` is given the numbers of the frames to do."""
    run(range(frames))
    tracemalloc.start()
    try:
        run(range(frames, 2 * frames))        # what is bounded is now full of objects that tracemalloc knows
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        run(range(2 * frames, 3 * frames))
        gc.collect()
        return (tracemalloc.get_traced_memory()[0] - before) / frames
    finally:
        tracemalloc.stop()


def test_the_measure_sees_what_stays_behind() -> None:
    kept: List[bytes] = []
    assert 100 < bytes_a_frame(lambda frames: kept.extend(b'x' * 100 + bytes([n % 7]) for n in frames)) < 200
    assert abs(bytes_a_frame(lambda frames: [b'x' * 100 for _ in frames] and None)) < 1


# ------------------------------------------------------------------ the reader

class Nowhere:
    """A link's sending end that takes everything."""

    def __init__(self) -> None:
        self.sent = 0

    def send(self, kind: int, *fields: int) -> None:
        self.sent += 1


class AtOnce:
    """The link by which slots come back: every slot as soon as it is asked for."""

    ended = False

    def __init__(self, slots: int) -> None:
        self._slots = slots

    def receive(self) -> List[Record]:
        return [Record(Kind.FREE, 0, slot, 0, 0, 0, 0, 0) for slot in range(self._slots)]


@pytest.fixture
def ring_sink() -> Iterator[RingSink]:
    layout = RingLayout((8, 8), 1, 0, 0)
    granted = Granted(8, 8, 8, 8, 100.0, 'gray', 'a clock', 'frame_duration', clock_base='monotonic')
    plan = Plan(Settings(tif_path=Path('a.tif'), report_Hz=False), SyntheticCamera(), 'fork', None)
    ring, frames, free = Ring.create(layout), Nowhere(), AtOnce(1)
    sink = RingSink(plan, granted, ring, frames, free)      # type: ignore[arg-type]
    yield sink
    ring.close()
    os.close(sink._wake_read)
    os.close(sink._wake_write)


def commit(sink: RingSink, number: int) -> None:
    sink._free.clear()                       # each slot comes back before the next frame
    sink.slot()
    sink.commit(Stamp(10**9 + number * PERIOD_NS, PERIOD_NS))


def test_the_reader_keeps_nothing_of_a_frame(ring_sink: RingSink) -> None:
    def run(frames: range) -> None:
        for number in frames:
            commit(ring_sink, number)
    assert bytes_a_frame(run) < NOTHING


def test_the_reader_keeps_nothing_of_a_lost_frame(ring_sink: RingSink) -> None:
    def run(frames: range) -> None:
        for number in frames:
            commit(ring_sink, 3 * number)
    assert bytes_a_frame(run) < NOTHING
    assert ring_sink._lost > 4 * FRAMES


def test_the_reader_keeps_the_first_of_many_complaints(ring_sink: RingSink, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken cable: every frame is damaged, each in a way of its own."""
    monkeypatch.setattr(reader_module, 'MOST_DETAILS', 1000)

    def run(frames: range) -> None:
        for number in frames:
            commit(ring_sink, 2 * number)
            ring_sink.lost(1, 'camera error', None, f'a damaged frame of {number} bytes')
    assert bytes_a_frame(run) < NOTHING
    assert ring_sink._lost == 3 * FRAMES and len(ring_sink.details) == 1000
    assert ring_sink.defects[99:] == ['camera error: a damaged frame of 99 bytes', 'and more of the like']


# ------------------------------------------------------------------ the file

class Pages:
    """A sink of tiny pages that is written to page by page. A context manager: no thread of it outlives a failure."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.written = 0
        self.problems: List[BaseException] = []
        self.sink = PageSink(path, height=8, width=8, pixel_format='gray', level=6, waits=True, threads=2,
                             on_written=self._count, on_error=self.problems.append, **options)
        self.sink.publish()
        self._image = np.zeros((8, 8), np.uint8)

    def __enter__(self) -> Pages:
        return self

    def __exit__(self, *exc: Any) -> None:
        self.files = self.sink.finish(lambda info: {})

    def _count(self, jobs: List[PageJob]) -> None:
        self.written += len(jobs)

    def run(self, frames: range) -> None:
        for number in frames:
            self.sink.submit(PageJob(self._image, PageRecord(number, 10**18 + number, number, number)))
        while self.written <= frames[-1] and not self.problems:
            os.sched_yield()
        assert not self.problems


def test_the_file_keeps_a_few_bytes_of_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The times of the first MAX_PLANES pages are kept, eight bytes each; of later ones, nothing."""
    monkeypatch.setattr(part_module, 'MAX_PLANES', FRAMES)
    with Pages(tmp_path / 'a.tif') as pages:
        assert bytes_a_frame(pages.run) < NOTHING


def test_a_split_recording_keeps_little_of_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A part has a page index of 256 kB while it grows. Whether the last one is just being given up must not count.
    monkeypatch.setattr(index_module, 'PAGES_A_BLOCK', 32)

    def run(frames: range) -> None:
        pages.run(frames)
        while pages.sink._syncer.full_parts:
            os.sched_yield()
    with Pages(tmp_path / 'a.tif', split_frames=20) as pages:
        assert bytes_a_frame(run, 1000) * 20 < 1500            # mostly its name
    assert len(pages.files) == 150


def test_parts_that_cannot_be_finished_so_fast_hold_up_the_next_ones(tmp_path: Path,
                                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that syncs slowly: without a limit, open files would pile up until there may be no more."""
    go_on = threading.Event()
    finish = part_module.RecordingPart.finish
    monkeypatch.setattr(part_module.RecordingPart, 'finish', lambda *arguments: go_on.wait() and finish(*arguments))
    pages = Pages(tmp_path / 'a.tif', split_frames=1)
    for number in range(80):
        pages.sink.submit(PageJob(np.zeros((8, 8), np.uint8), PageRecord(number, number + 1)))
    wait_until(lambda: pages.sink._syncer.full_parts == MOST_FULL)
    most = len(list(tmp_path.iterdir()))
    time.sleep(0.1)
    assert len(list(tmp_path.iterdir())) == most == MOST_FULL + 1
    go_on.set()
    assert len(pages.sink.finish(lambda info: {})) == 80 and not pages.problems
    assert pages.written == 80


def test_a_sync_that_fails_lets_go_of_whoever_waits_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()

    def broken(*arguments: Any) -> None:
        go_on.wait()
        raise OSError(errno.EIO, 'the disk is gone')
    monkeypatch.setattr(part_module.RecordingPart, 'finish', broken)
    pages = Pages(tmp_path / 'a.tif', split_frames=1)
    for number in range(80):
        pages.sink.submit(PageJob(np.zeros((8, 8), np.uint8), PageRecord(number, number + 1)))
    wait_until(lambda: pages.sink._syncer.full_parts == MOST_FULL)
    go_on.set()
    with pytest.raises(RecordingFileError, match='the disk is gone'):
        pages.sink.finish(lambda info: {})


def test_the_frame_log_keeps_nothing_of_a_row(tmp_path: Path) -> None:
    log = FrameLog(tmp_path / 'a.csv')
    job = PageJob(np.zeros((8, 8), np.uint8), PageRecord(1, 2, 3, 4))
    job.effort = 'huffman'

    def run(frames: range) -> None:
        for number in frames:
            job.page = number
            log.add(job)
    assert bytes_a_frame(run) < NOTHING
    log.close()


# ------------------------------------------------------------------ the results

@pytest.fixture
def queue_ends() -> Iterator[Tuple[CallbackQueue, CallbackPort]]:
    """The script's end and the callback's, joined by pipes in one process."""
    down_read, down_write = os.pipe()
    up_read, up_write = os.pipe()
    script = CallbackQueue(limit_bytes=1_000_000)
    script.attach(up_read, down_write)
    script.begin()
    port = CallbackPort(down_read, up_write)
    yield script, port
    port.finish()
    script.end()
    assert script.wait_drained(10)


def test_a_result_that_was_read_leaves_nothing(tmp_path: Path, queue_ends: Tuple[CallbackQueue, CallbackPort]) -> None:
    script, port = queue_ends
    results = ResultsFile(tmp_path / 'a.results.jsonl')

    def run(frames: range) -> None:
        for number in frames:
            port.put({'index': number, 'faces': [1, 2, 3]})
            results.add(number, 10**18 + number, {'index': number, 'faces': [1, 2, 3]})
        for _ in frames:
            script.get(timeout=10)
        results.flush()
    assert bytes_a_frame(run) < NOTHING
    results.close()


def test_results_that_nobody_reads_stay_within_their_limit(queue_ends: Tuple[CallbackQueue, CallbackPort]) -> None:
    script, port = queue_ends

    def put(frames: range) -> None:
        for number in frames:
            port.put((number, b'x' * 1000))
        while script.count_received <= frames[-1]:
            os.sched_yield()
    # Five megabytes before the measurement, so that all of these go to a file.
    assert bytes_a_frame(put, 5000) < 100
    assert [script.get(timeout=10)[0] for _ in range(15_000)] == list(range(15_000))


@pytest.mark.skipif(not Path('/dev/shm').is_dir(), reason='nothing here is in memory')
@pytest.mark.parametrize('own_choice', [False, True])
def test_what_is_spilled_to_spare_memory_goes_to_a_disk(own_choice: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian 13 has /tmp in memory."""
    monkeypatch.setattr(tempfile, 'tempdir', '/dev/shm')
    for name in ('TMPDIR', 'TEMP', 'TMP'):
        monkeypatch.delenv(name, raising=False)
    if own_choice:
        monkeypatch.setenv('TMPDIR', '/dev/shm')
    spill = SpillQueue(limit_bytes=1000)
    spill.put_many([b'x' * 1000] * 2000)
    assert spill.spilled and spill._writing is not None
    place = os.readlink(f'/proc/self/fd/{spill._writing._file.fileno()}')
    assert place.startswith('/dev/shm' if own_choice else '/var/tmp')
    spill.clear()


# ------------------------------------------------------------------ the whole recorder

def small_results(buffer: Any, cb_queue: Any) -> np.ndarray:
    frame = buffer[-1]
    cb_queue.put({'index': frame.index, 'centre': [1, 2]})
    return np.asarray(frame)


def recorder_growth(folder: Path, frames: int, settle: int) -> Dict[str, float]:
    """Bytes of its own that each process gains with a frame, as fast as frames can be had."""
    rec = recorder(folder / 'a.tif', callback=small_results, blocking=False, pixel_format='gray',
                   log_file=folder / 'a.csv', controls={'frames': frames})
    before: Dict[str, int] = {}
    after: Dict[str, int] = {}
    last = frames - 2000                     # the ring is smaller: everyone is still at work
    sampler = Sampler(os.getpid(), folder)
    with rec:
        rec.recordVid()
        for count, _ in enumerate(rec.cb_queue):
            if count in (settle, last):
                own = {role: sample.own for role, sample in sampler.sample().items()}
                before, after = (own, after) if count == settle else (before, own)
        report = rec.wait()
    assert report is not None and report.complete == 'yes' and report.results == frames
    assert set(before) == set(after) == set(ROLES)
    return {role: (after[role] - before[role]) / (last - settle) for role in ROLES if role != 'script'}


def test_no_process_keeps_a_frame(tmp_path: Path) -> None:
    growth = recorder_growth(tmp_path, 7000, 2500)
    # Half a megabyte in so few frames is an allocator that settles; a frame is 6 kB, its page half of that.
    assert max(growth.values()) < 1000, growth


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_process_grows_over_a_hundred_thousand_frames(tmp_path: Path) -> None:
    growth = recorder_growth(tmp_path, 160_000, 60_000)      # the times of 50,000 pages are kept
    assert max(growth.values()) < 8, growth
