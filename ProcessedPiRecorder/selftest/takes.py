"""A test recording, and the figures that its pages tell: not the report's word, but what lies in the file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

import numpy as np

from ..errors import RecorderError
from ..recordings.index import NO_SENSOR_TIME
from ..recordings.reader import RecordingFile
from ..report import Report

__all__ = ['Take', 'read_take']


@dataclass(frozen=True)
class Take:
    """A finished recording.

    Attributes:
        granted: what the camera gave, as stored in the file (``Granted`` as a dict).
        index: one record a page (``recordings.index.INDEX_DTYPE``), in memory.
        warnings: what the recorder warned of.
    """

    path: Path
    report: Report
    granted: Mapping[str, Any]
    index: np.ndarray
    warnings: List[str]

    @property
    def sensor_ns(self) -> Optional[np.ndarray]:
        """The camera's own times, ns; None unless every frame has one."""
        times: np.ndarray = self.index['sensor_ns']
        return None if (times == NO_SENSOR_TIME).any() else times

    @property
    def seconds(self) -> float:
        """From the first frame to the last."""
        times = self.index['time_ns']
        return float(times[-1] - times[0]) / 1e9

    @property
    def rate_hz(self) -> Optional[float]:
        """Of the frames that lie in the file, by their times; None for less than two."""
        return (len(self.index) - 1) / self.seconds if self.seconds > 0 else None

    @property
    def missing(self) -> np.ndarray:
        """How many frame numbers are missing before each frame but the first."""
        numbers: np.ndarray = np.diff(self.index['index']) - 1
        return numbers

    def intervals(self) -> Dict[str, float]:
        """Times from frame to frame in ms: median, p1, p99, longest, and jitter (standard deviation)."""
        steps = np.diff(self.index['time_ns']) / 1e6
        if not len(steps):
            return {}
        low, median, high = np.percentile(steps, (1, 50, 99))
        figures = {'median': median, 'p1': low, 'p99': high, 'longest': steps.max(), 'jitter': steps.std()}
        return {name: round(float(value), 4) for name, value in figures.items()}

    def times_increase(self) -> bool:
        """Whether every time, the sensor's too where it has one, is later than the one before."""
        rows = [self.index['time_ns'], *([] if self.sensor_ns is None else [self.sensor_ns])]
        return all(bool((np.diff(row) > 0).all()) for row in rows)

    def delays_ms(self) -> Optional[np.ndarray]:
        """From each frame's time, by the camera's clock, to its arrival in the computer; None without such a clock."""
        anchors = self.report.clock.get('anchors')
        if self.sensor_ns is None or not anchors:
            return None
        arrived = self.index['host_ns'] + (anchors[0]['utc_ns'] - anchors[0]['monotonic_ns'])
        delays: np.ndarray = (arrived - self.index['time_ns']) / 1e6
        return delays

    def damaged_pages(self) -> List[int]:
        """Decode every page and compare its checksum: those that do not pass."""
        with RecordingFile(self.path) as recording:
            return [page for page in range(recording.pages) if not _is_whole(recording, page)]

    def pictures(self, count: int) -> List[np.ndarray]:
        """The last pictures: float32, gray, (height, width)."""
        with RecordingFile(self.path) as recording:
            pages = range(max(0, recording.pages - count), recording.pages)
            return [_gray(recording.read_page(page)) for page in pages]


def read_take(path: Path, report: Optional[Report], warnings: List[str]) -> Take:
    """The recording at ``path``. Raises RecorderError when it holds nothing."""
    if report is None or not report.files:
        raise RecorderError('the recording ended without a single frame from the camera')
    with RecordingFile(path) as recording:
        return Take(path, report, recording.annotations.get('camera') or {}, np.array(recording.index()), warnings)


def _is_whole(recording: RecordingFile, page: int) -> bool:
    try:
        recording.read_page(page)
        return recording.verify_page(page)
    except RecorderError:
        return False


def _gray(image: np.ndarray) -> np.ndarray:
    pixels = image.astype(np.float32)
    return pixels if pixels.ndim == 2 else pixels.mean(axis=2)
