"""Effort falls before a frame does, comes back when there is room, and what is lost beyond that is told to the frame.

Encoding is made slow on purpose, by sleeping in the forked writer, so that the outcome does not hang on the machine.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Callable, List, Optional

import numpy as np
import pytest
from recording_tools import paced, recorder, truth

from ProcessedPiRecorder.cameras import SyntheticCamera
from ProcessedPiRecorder.recordings.effort import FORGOTTEN_AFTER
from ProcessedPiRecorder.recordings.encoder import PageEncoder
from ProcessedPiRecorder.recordings.reader import RecordingFile
from ProcessedPiRecorder.recordings.sampling import Sampler

THREADS = len(os.sched_getaffinity(0))     # that compress
STEPS = 8                                  # in which a page is encoded

Slowness = Callable[[int, str], float]     # index and effort of a page -> seconds that all threads need for it
SlowDown = Callable[[Slowness], None]


@pytest.fixture
def slow_pages(monkeypatch: pytest.MonkeyPatch) -> SlowDown:
    """Make encoding slow, whatever the number of threads."""
    real = PageEncoder.encode

    def slow_down(slowness: Slowness) -> None:
        def encode(self: PageEncoder, image: np.ndarray, effort: str,
                   give_up: Optional[Callable[[float], bool]] = None) -> List[Any]:
            seconds = slowness(SyntheticCamera.index_of(image), effort) * THREADS
            for step in range(1, STEPS + 1):
                time.sleep(seconds / STEPS)
                if seconds and effort != 'stored' and give_up is not None and step < STEPS and give_up(step / STEPS):
                    return []
            return real(self, image, effort, give_up)

        monkeypatch.setattr(PageEncoder, 'encode', encode)
    return slow_down


@pytest.fixture(autouse=True)
def samples_that_tell_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples see no slowness: they promise what real pages do not keep."""
    real = Sampler._timed

    def timed(self: Sampler, sample: np.ndarray, effort: str, limit_s: float) -> Any:
        found = real(self, sample, effort, float('inf'))
        assert found is not None
        return found[0], 1e-6

    monkeypatch.setattr(Sampler, '_timed', timed)
    monkeypatch.setattr(Sampler, '_rows_of', lambda self, image: image.copy())     # its rows bear the frame's number


def record(path: Path, frames: int, framerate: float, **settings: Any) -> Any:
    rec = recorder(path, controls=paced(frames=frames), framerate=framerate, **settings)
    rec.recordVid()
    return rec


def check_ledger(path: Path, rec: Any, frames: int) -> List[Any]:
    """The pages' records, after pixels, order, losses and counts were held against one another."""
    frame, missing = truth(rec.settings), set(range(frames))
    with RecordingFile(path) as recording:
        stored = [recording.stored_page(number) for number in range(recording.pages)]
        for number, page in enumerate(stored):
            np.testing.assert_array_equal(recording.read_page(number), frame(page.record.index))
    indices = [page.record.index for page in stored]
    assert indices == sorted(set(indices))
    missing -= set(indices)
    told = [index for loss in rec.report.losses for index in range(loss.index, loss.index + loss.count)]
    assert sorted(told) == sorted(missing) and rec.report.lost == len(missing)
    assert all(loss.reason == 'ring full' for loss in rec.report.losses)
    assert rec.report.captured == rec.report.written == len(indices) and rec.report.sensor == frames
    assert rec.report.complete == ('no' if missing else 'yes')
    assert rec.report.effort_under_pressure == sum(page.pressure > 0 for page in stored)
    return stored


def test_effort_falls_when_pages_get_slow_and_comes_back(tmp_path: Path, slow_pages: SlowDown) -> None:
    slow_pages(lambda index, effort: 0.04 if effort != 'stored' and 50 <= index < 150 else 0.0)
    rec = record(tmp_path / 'a.tif', 320, 100, ring_frames=100)
    efforts = [page.effort for page in check_ledger(tmp_path / 'a.tif', rec, 320)]
    assert rec.report.lost == 0
    assert efforts[:40].count('stored') <= FORGOTTEN_AFTER
    assert efforts[80:150].count('stored') > 60
    # A moment without the processor costs FORGOTTEN_AFTER pages their effort; what never comes back, all of them.
    assert efforts[-100:].count('stored') <= 2 * FORGOTTEN_AFTER


@pytest.mark.parametrize(('ring_frames', 'slowness_s'), [(8, 1.6), pytest.param(4, 0.8, marks=pytest.mark.slow)])
def test_a_page_that_gets_slow_suddenly_does_not_fill_a_small_ring(
        tmp_path: Path, slow_pages: SlowDown, ring_frames: int, slowness_s: float) -> None:
    """One such page alone outlasts the ring: it must be given up, and stored."""
    slow_pages(lambda index, effort: slowness_s / THREADS if effort != 'stored' and index >= 8 else 0.0)
    rec = record(tmp_path / 'a.tif', 24, 10, ring_frames=ring_frames)
    stored = check_ledger(tmp_path / 'a.tif', rec, 24)
    assert rec.report.lost == 0
    assert {page.effort for page in stored[8:]} == {'stored'}
    assert any(page.pressure == 2 for page in stored)


def test_samples_that_take_long_do_not_fill_a_small_ring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dozen efforts tried in a row would."""
    real = Sampler._timed

    def slow(*arguments: Any) -> Any:
        time.sleep(0.1)
        return real(*arguments)

    monkeypatch.setattr(Sampler, '_timed', slow)
    rec = record(tmp_path / 'a.tif', 25, 10, ring_frames=8, tif_compression=9)
    efforts = [page.effort for page in check_ledger(tmp_path / 'a.tif', rec, 25)]
    assert rec.report.lost == 0
    assert efforts[0] == 'huffman'


@pytest.mark.parametrize('ring_frames', [4, 32, pytest.param(8, marks=pytest.mark.slow)])
def test_beyond_what_can_be_stored_the_newest_frames_are_lost_and_told(
        tmp_path: Path, slow_pages: SlowDown, ring_frames: int) -> None:
    slow_pages(lambda index, effort: 0.04)
    rec = record(tmp_path / 'a.tif', 120, 100, ring_frames=ring_frames)
    stored = check_ledger(tmp_path / 'a.tif', rec, 120)
    assert rec.report.lost > 40 and rec.report.ring_high_water == ring_frames
    indices = [page.record.index for page in stored]
    # What is in the ring is never given up for what comes: the first frames are all there.
    assert indices[:ring_frames] == list(range(ring_frames))
    in_pages = [index for page in stored for loss in page.record.lost
                for index in range(loss['index'], loss['index'] + loss['count'])]
    assert in_pages == [index for index in range(indices[-1]) if index not in indices]
    assert any((page.effort, page.pressure) == ('stored', 2) for page in stored)
