"""Two libcamera cameras, paired by their sensors' times, over the real picamera2."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator, List, Tuple

import numpy as np
import pytest
from picamera2_kit import Bench, Frame, needs_the_sensors, seen
from picamera2_recordings import PATIENT, record, truth, two_sensors
from recording_tools import pages

from ProcessedPiRecorder import ProcessedPiRecorder

pytestmark = needs_the_sensors


@pytest.fixture()
def sensors(tmp_path: Path) -> Iterator[Bench]:
    """Two simulated sensors, well."""
    yield from two_sensors(tmp_path)

# ---------------------------------------------------------------- two cameras


def stereo_pages(tmp_path: Path, sensors: Bench) -> List[Tuple[Any, Frame, Frame]]:
    """(page record, left frame, right frame); each page's halves are of the right cameras and bear their times."""
    made = truth(sensors, 0), truth(sensors, 1)
    found = []
    for stored, image in pages(tmp_path / 'trial.tif'):
        half = image.shape[1] // 2
        left, right = seen(np.ascontiguousarray(image[:, :half])), seen(np.ascontiguousarray(image[:, half:]))
        assert (left.camera, right.camera) == (0, 1)
        pair = made[0][left.number], made[1][right.number]
        assert stored.skew_ns == pair[0].start_ns - pair[1].start_ns and stored.sensor_ns == pair[0].start_ns
        found.append((stored, *pair))
    return found


@pytest.mark.parametrize('pixel_format', ['bgr', 'gray'])
def test_two_cameras_side_by_side(tmp_path: Path, sensors: Bench, pixel_format: str) -> None:
    report = record(tmp_path, camera=('picamera2:0', 'picamera2:1'), stereo=True, x_resolution=1280,
                    pixel_format=pixel_format)
    found = stereo_pages(tmp_path, sensors)
    assert len(found) == report.captured >= 75
    assert all(abs(stored.skew_ns) <= 12_500_000 for stored, _, _ in found)
    for eye in (1, 2):
        steps = np.diff([row[eye].number for row in found])
        assert (steps >= 1).all()
    statistics = report.camera['statistics']
    assert statistics['paired_by'] == 'sensor' and statistics['pairs'] >= report.captured
    inside = sum(loss.count for loss in report.losses if loss.index > 0)
    assert inside == int((np.diff([stored.index for stored, _, _ in found]) - 1).sum())


def test_two_cameras_that_drift(tmp_path: Path, sensors: Bench) -> None:
    """The right one is 0.8 % slower: about every third second a frame of the left one has no partner."""
    controls = {'left': {**PATIENT, 'FrameDurationLimits': (25_000, 25_000)},
                'right': {**PATIENT, 'FrameDurationLimits': (25_200, 25_200)}}
    rec = ProcessedPiRecorder(tmp_path / 'trial.tif', camera=('picamera2:0', 'picamera2:1'), stereo=True, display=False,
                              x_resolution=1280, y_resolution=480, rec_length=8, ring_frames=200,
                              camera_controls=controls)
    rec.recordVid()
    assert rec.report is not None
    found = stereo_pages(tmp_path, sensors)
    skews = np.array([stored.skew_ns for stored, _, _ in found])
    assert np.abs(skews).max() <= 15_120_000 and np.ptp(skews) > 20_000_000       # 0.6 of the longer period
    unpaired = [loss for loss in rec.report.losses if loss.reason == 'unpaired']
    assert sum(loss.count for loss in unpaired) >= 2 and rec.report.complete == 'no'
    indexes = [stored.index for stored, _, _ in found]
    assert [left.number - found[0][1].number for _, left, _ in found] == [index - indexes[0] for index in indexes]
