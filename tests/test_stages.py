"""Putting pages in order, whose turn it is to write, who is woken when; and the ring that is made ahead."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path
from typing import List

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recording_tools import assert_matches_truth, paced, recorder, wait_until

from ProcessedPiRecorder import Settings
from ProcessedPiRecorder.cameras import Granted, SyntheticCamera
from ProcessedPiRecorder.errors import RecordingFileError, RingError, SettingsError
from ProcessedPiRecorder.pipeline import ring as ring_module
from ProcessedPiRecorder.pipeline.plan import Plan
from ProcessedPiRecorder.pipeline.ring_ahead import RingMaker
from ProcessedPiRecorder.recordings import part as part_module
from ProcessedPiRecorder.recordings.encoder import PageEncoder
from ProcessedPiRecorder.recordings.page import PageRecord
from ProcessedPiRecorder.recordings.sink import PageJob, PageSink
from ProcessedPiRecorder.recordings.stages import InOrder


@given(st.permutations(list(range(12))), st.integers(1, 5))
def test_items_are_taken_in_order_whatever_the_order_they_come_in(numbers: List[int], limit: int) -> None:
    order: InOrder[int] = InOrder()
    taken: List[int] = []
    for came, number in enumerate(numbers, 1):
        has_turn = order.put(number, number)
        assert has_turn == (number == len(taken)) and order.received == came
        while has_turn:
            items = order.take(limit)
            assert len(items) <= limit
            taken += items
            has_turn = bool(items)
    assert taken == list(range(12))


def test_one_thread_at_a_time_has_the_turn_and_nothing_is_left_behind() -> None:
    order: InOrder[int] = InOrder()
    taken: List[int] = []
    writing, pick = threading.Lock(), threading.Lock()
    work = list(range(2000))
    random.Random(1).shuffle(work)

    def next_number() -> int:
        with pick:
            return work.pop() if work else -1

    def run() -> None:
        number = next_number()
        while number >= 0:
            items = order.take(7) if order.put(number, number) else []
            while items:
                assert writing.acquire(blocking=False)      # from one take to the next the turn is ours alone
                taken.extend(items)
                time.sleep(0)
                writing.release()
                items = order.take(7)
            number = next_number()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert taken == list(range(2000))


def test_whoever_breaks_off_learns_whether_somebody_is_still_writing() -> None:
    idle: InOrder[str] = InOrder()
    idle.put(1, 'not its turn')
    assert idle.break_off()
    assert not idle.put(0, 'too late') and idle.take(5) == []
    busy: InOrder[str] = InOrder()
    assert busy.put(0, 'its turn')
    assert not busy.break_off()
    assert busy.take(5) == [] and busy.break_off()


class Sink:
    """A sink whose disk breaks when the test says so."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch, sync_interval_s: float = 60.0,
                 level: int = 6) -> None:
        self.news: List[str] = []
        self.breaks = threading.Event()
        append = part_module.RecordingPart.append

        def append_or_break(part: part_module.RecordingPart, pages: object) -> None:
            if self.breaks.is_set():
                raise RecordingFileError('the disk is gone')
            append(part, pages)                        # type: ignore[arg-type]

        monkeypatch.setattr(part_module.RecordingPart, 'append', append_or_break)
        self.sink = PageSink(path, height=8, width=8, pixel_format='gray', level=level, waits=True,
                             sync_interval_s=sync_interval_s, on_written=self._on_written, on_error=self._on_error)
        self.sink.publish()
        self._count = 0

    def _on_written(self, jobs: List[PageJob]) -> None:
        self.news += ['written'] * len(jobs)

    def _on_error(self, error: BaseException) -> None:
        self.news.append(str(error))

    def submit(self) -> None:
        self._count += 1
        self.sink.submit(PageJob(np.zeros((8, 8), np.uint8), PageRecord(self._count - 1, self._count)))


def test_an_error_is_told_once_and_nothing_is_reported_written_after_it(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Sink(tmp_path / 'a.tif', monkeypatch)
    for _ in range(20):
        made.submit()
    wait_until(lambda: len(made.news) == 20)
    made.breaks.set()
    for _ in range(20):
        made.submit()
    wait_until(lambda: len(made.news) == 21)
    with pytest.raises(RecordingFileError, match='the disk is gone'):
        made.sink.finish(lambda info: {})
    assert made.news == ['written'] * 20 + ['the disk is gone']


def test_an_error_that_nobody_writes_in_is_told_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sync fails while no page is under way: no worker would come by and notice."""
    made = Sink(tmp_path / 'a.tif', monkeypatch, sync_interval_s=0.05)
    made.submit()
    wait_until(lambda: made.sink._part.unlinked_pages == 0 and made.news == ['written'])

    def fail(part: part_module.RecordingPart) -> None:
        raise RecordingFileError('the sync failed')

    with monkeypatch.context() as broken:
        broken.setattr(part_module.RecordingPart, 'sync', fail)
        made.submit()
        wait_until(lambda: made.news == ['written', 'written', 'the sync failed'])
    with pytest.raises(RecordingFileError, match='the sync failed'):
        made.sink.finish(lambda info: {})
    assert made.news == ['written', 'written', 'the sync failed']


@pytest.mark.parametrize('level', [0, 6])
def test_a_page_that_cannot_be_encoded_is_told_at_once_and_what_came_before_is_written(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: int) -> None:
    """Also where a thread already holds the pages before it, to write them all together."""
    made = Sink(tmp_path / 'a.tif', monkeypatch, level=level)
    encode, calls, gate = PageEncoder.encode, iter(range(100)), threading.Event()

    def fail_at_the_sixth(self: PageEncoder, *arguments: object) -> object:
        gate.wait(10)
        if next(calls) >= 5:
            raise MemoryError('on purpose')
        return encode(self, *arguments)                # type: ignore[arg-type]

    monkeypatch.setattr(PageEncoder, 'encode', fail_at_the_sixth)
    for _ in range(20):
        made.submit()
    gate.set()                                         # all of them wait now
    wait_until(lambda: made.news and 'MemoryError' in made.news[-1], 10)
    with pytest.raises(RecordingFileError, match='MemoryError'):
        made.sink.finish(lambda info: {})
    assert made.news[:-1] == ['written'] * (len(made.news) - 1)
    if level == 0:                                     # one thread, so the five before it were ready
        assert len(made.news) == 6


def test_pages_after_a_pause_are_synced_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The syncer sleeps without an end while there is nothing to sync; the next page must wake it."""
    made = Sink(tmp_path / 'a.tif', monkeypatch, sync_interval_s=0.05)
    for number in range(5):
        made.submit()
        wait_until(lambda wanted=number + 1: len(made.news) == wanted and made.sink._part.unlinked_pages == 0, 5)
        time.sleep(0.12)
    made.sink.finish(lambda info: {})


@pytest.mark.parametrize('ring_frames', [4, 500])
def test_the_last_pages_before_a_pause_are_counted_though_nothing_else_happens(
        tmp_path: Path, ring_frames: int) -> None:
    """The hub is woken for many written pages at once; but not only then."""
    with recorder(tmp_path / 'a.tif', blocking=False, ring_frames=ring_frames,
                  controls=paced(stall_at=7, stall_s=60)) as rec:
        rec.recordVid()
        wait_until(lambda: rec.status().written == 7, 10)
        assert rec.status().captured == 7


@pytest.mark.parametrize('cb_type', [None, '2Proc', '3Proc'])
@pytest.mark.parametrize('ring_frames', [4, 5, 32])
def test_a_source_that_waits_gets_its_slots_back_whatever_the_ring(
        tmp_path: Path, ring_frames: int, cb_type: str) -> None:
    """It is woken for many free slots at once; the last ones must not be kept back for ever."""
    rec = recorder(tmp_path / 'a.tif', ring_frames=ring_frames, controls={'frames': 203}, cb_type=cb_type,
                   callback=newest if cb_type else None)
    report = rec.recordVid()
    assert report is not None and report.complete == 'yes' and report.written == 203
    assert_matches_truth(tmp_path / 'a.tif', rec.settings, 203)


def newest(buffer: object, cb_queue: object) -> np.ndarray:
    """Returns each frame as it came."""
    return buffer[-1]                                  # type: ignore[index]


def maker(**settings: object) -> RingMaker:
    """For a camera that is asked for 96 x 64 at 50 Hz unless told otherwise."""
    asked = {'x_resolution': 96, 'y_resolution': 64, 'framerate': 50, 'display': False, **settings}
    return RingMaker(Plan(Settings(tif_path=Path('a.tif'), **asked), SyntheticCamera(), 'fork', None))


def granted(width: int = 96, height: int = 64, framerate: float = 50.0, pixel_format: str = 'bgr') -> Granted:
    return Granted(width, height, width, height, framerate, pixel_format, 'none', 'none')


def test_a_camera_that_grants_what_is_asked_gets_the_ring_made_ahead() -> None:
    made = maker()
    made.make_ahead()
    ahead = made._ahead
    assert ahead is not None
    ring = made.ring_for(granted())
    assert ring is ahead and ring.layout.shape == (64, 96, 3) and ring.layout.slots == 100
    ring.close()


@pytest.mark.parametrize('other', [granted(128, 64), granted(framerate=20.0), granted(pixel_format='gray')],
                         ids=['size', 'rate', 'format'])
def test_a_camera_that_grants_something_else_gets_a_ring_of_its_own(other: Granted) -> None:
    made = maker()
    made.make_ahead()
    ahead = made._ahead
    assert ahead is not None
    ring = made.ring_for(other)
    assert ring.layout.shape[:2] == (other.height, other.width) and ring.layout.slots == round(2 * other.framerate)
    assert ahead.fd == -1                              # given back
    ring.close()


def test_a_ring_made_ahead_is_not_planned_again_in_the_memory_that_it_left(monkeypatch: pytest.MonkeyPatch) -> None:
    free = [100 * 96 * 64 * 3]
    monkeypatch.setattr(ring_module, 'available_memory', lambda: free[0])
    made = maker()
    made.make_ahead()
    free[0] = 1000
    ring = made.ring_for(granted())
    assert ring.layout.slots == 22                     # a quarter of what was free then, in whole memory pages
    ring.close()


def test_what_is_wrong_with_a_ring_is_told_when_the_camera_has_said_what_it_grants() -> None:
    made = maker(ring_mb=0.001)
    made.make_ahead()
    with pytest.raises(SettingsError, match='ring_mb'):
        made.ring_for(granted())
    made = maker(ring_frames=20, cb_timeout=60, callback=newest)
    made.make_ahead()
    with pytest.raises(SettingsError, match='cb_timeout=60 s holds'):
        made.ring_for(granted())
    too_large = maker(x_resolution=16_000, y_resolution=16_000, ring_frames=8_000)
    too_large.make_ahead()
    with pytest.raises(RingError, match='free memory'):
        too_large.ring_for(granted(16_000, 16_000))


def test_the_cameras_own_defaults_are_waited_for() -> None:
    made = maker(framerate=0)
    made.make_ahead()
    assert made._ahead is None
    made.ring_for(granted()).close()
