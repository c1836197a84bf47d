"""Gross regressions in what a frame costs: counts, and ratios within one run. No time is tested as such."""

from __future__ import annotations

import os
import pickle
import time
from pathlib import Path
from typing import Any, List

import numpy as np
import pytest

from benchmarks import smoke
from benchmarks.frames import camera_like

pytestmark = [
    pytest.mark.skipif(not Path('/proc/self/io').exists(), reason='this kernel does not count what processes read'),
    pytest.mark.timeout(180)]


@pytest.fixture(scope='module')
def frames() -> List[np.ndarray]:
    return camera_like(smoke.WIDTH, smoke.HEIGHT, 'bgr', 4)


def test_a_frame_costs_about_what_it_should(tmp_path: Path) -> None:
    found = list(smoke.findings(tmp_path))
    assert len(found) == 8
    assert not [str(finding) for finding in found if not finding.good]


def pickled_through_a_pipe(buffer: Any, cb_queue: Any) -> np.ndarray:
    """What a multiprocessing.Queue does to a frame."""
    reading, writing = os.pipe()
    data, back = pickle.dumps(np.asarray(buffer[-1]), protocol=5), []
    for begin in range(0, len(data), 32768):
        os.write(writing, data[begin:begin + 32768])
        back.append(os.read(reading, 32768))
    os.close(reading)
    os.close(writing)
    return np.array(pickle.loads(b''.join(back)))


def test_it_sees_when_frames_are_pickled_on_their_way(tmp_path: Path, frames: List[np.ndarray]) -> None:
    cost = smoke.at_full_speed(tmp_path, frames, pickled_through_a_pipe, window=32)
    found = {finding.name: finding.good for finding in smoke.counted([cost], frames[0].nbytes)}
    assert found == {'bytes read, a frame': False, 'bytes written beside the file, of a frame': False,
                     'reads and writes, a frame': False}


def polling(buffer: Any, cb_queue: Any) -> None:
    """As often as every half millisecond at 20 Hz."""
    for _ in range(100):
        time.sleep(1e-6)


def spinning(buffer: Any, cb_queue: Any) -> None:
    """Almost half of the time at 20 Hz."""
    begun = time.thread_time()
    while time.thread_time() < begun + 0.02:
        pass


@pytest.mark.parametrize('callback, name', [(polling, 'wake-ups a frame at 20 Hz'),
                                            (spinning, 'processor time a frame at 20 Hz, ms')])
def test_it_sees_when_somebody_never_sleeps_for_long(callback: Any, name: str, tmp_path: Path) -> None:
    found = smoke.at_rest(smoke.at_leisure(tmp_path, callback))
    assert name in [finding.name for finding in found if not finding.good]


def test_a_finding_says_what_it_means() -> None:
    assert str(smoke.Finding('frames/s, of the bare codec', 0.812, 0.35, at_least=True)) == (
        'frames/s, of the bare codec: 0.812 (at least 0.35)')
    assert str(smoke.Finding('reads and writes, a frame', 1800.0, 25)) == (
        'reads and writes, a frame: 1.8e+03 (at most 25: NOT GOOD)')
