"""The trials' camera: frames of the real one, from memory, at any rate."""

from __future__ import annotations

import mmap
import os
import threading
import time
from dataclasses import dataclass, replace
from typing import Optional, Sequence, Tuple

import numpy as np

from ..cameras.base import Camera, CameraRequest, Granted, Stamp

__all__ = ['Frames', 'LoopCamera', 'SharedFrames']

#: Frames that hardware keeps for a reader that is late, and how long a reader may be late at rates that no camera here
#: has: what the scheduler does to it in a millisecond is not what is asked.
BUFFERS, LATE_S = 4, 0.05


@dataclass(frozen=True)
class Frames:
    """Where any process of this user finds the frames: ``count`` uint8 arrays of ``shape``."""

    path: str
    count: int
    shape: Tuple[int, ...]

    def mapped(self) -> np.ndarray:
        """The frames, read-only, (count, *shape). Raises OSError when their owner is gone."""
        return np.memmap(self.path, np.uint8, 'r', shape=(self.count, *self.shape))


class SharedFrames:
    """Frames in anonymous memory; a context manager, at whose end the memory goes."""

    def __init__(self, frames: Sequence[np.ndarray]) -> None:
        shape = frames[0].shape
        size = len(frames) * frames[0].nbytes
        self._fd = os.memfd_create('ProcessedPiRecorder-preflight', os.MFD_CLOEXEC)
        os.ftruncate(self._fd, size)
        with mmap.mmap(self._fd, size) as memory:
            place = np.frombuffer(memory, np.uint8).reshape(len(frames), *shape)
            for number, frame in enumerate(frames):
                place[number] = frame
            del place                       # the mapping cannot be closed while an array looks into it
        self.frames = Frames(f'/proc/{os.getpid()}/fd/{self._fd}', len(frames), shape)

    def close(self) -> None:
        """Give the memory back. Harmless twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> 'SharedFrames':
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class LoopCamera(Camera):
    """Behaves as hardware does: it keeps its pace whether or not anyone reads, and what nobody takes is lost.

    frames: what it shows, forward and backward in turn, so that no callback sees a jump. granted: what the camera
    granted that they are from. rate_hz: how fast. Its times are exact.
    """

    name = 'preflight'

    def __init__(self, frames: Frames, granted: Granted, rate_hz: float) -> None:
        height, width = frames.shape[:2]
        self._source = frames
        self._period_ns = round(1e9 / rate_hz)
        self._buffers = max(BUFFERS, round(LATE_S * rate_hz))
        #: The pipeline would have scaled them down; here they are scaled already, and the work is still to be done.
        self._unscaled_shape = granted.frame_shape if granted.frame_shape != frames.shape else None
        self._granted = replace(
            granted, frame_width=width, frame_height=height, framerate=1e9 / self._period_ns, waits=False,
            clock='CLOCK_MONOTONIC at the start plus an exact grid of frame durations', clock_base='monotonic',
            clock_offset_ns=None, loss_detection='frame_duration', details={}, warnings=(),
            model=f'frames of {granted.model or "the camera"} from memory')
        self._closed: Optional[threading.Event] = None

    def open(self, request: CameraRequest) -> Granted:
        self._frames = self._source.mapped()
        if self._unscaled_shape is not None:
            self._unscaled = np.zeros(self._unscaled_shape, np.uint8)
            self._scaled = np.empty(self._source.shape, np.uint8)
        self._closed = threading.Event()
        return self._granted

    def start(self) -> None:
        self._next = 0
        self._start_ns = time.monotonic_ns()

    def read(self, out: np.ndarray) -> Optional[Stamp]:
        if not self._await_next():
            return None
        index, self._next = self._next, self._next + 1
        if self._unscaled_shape is not None:
            import cv2
            height, width = self._source.shape[:2]
            cv2.resize(self._unscaled, (width, height), dst=self._scaled, interpolation=cv2.INTER_AREA)
        np.copyto(out, self._frames[self._place(index)])
        return Stamp(self._start_ns + index * self._period_ns, self._period_ns)

    def close(self) -> None:
        if self._closed is not None:
            self._closed.set()

    def _await_next(self) -> bool:
        """Wait until the next frame has been exposed; leave out those that no buffer was free for."""
        assert self._closed is not None
        late_ns = time.monotonic_ns() - (self._start_ns + (self._next + 1) * self._period_ns)
        if late_ns < 0:
            return not self._closed.wait(-late_ns / 1e9)
        self._next += max(0, late_ns // self._period_ns - self._buffers)
        return not self._closed.is_set()

    def _place(self, index: int) -> int:
        last = self._source.count - 1
        turn = index % (2 * last) if last else 0
        return turn if turn <= last else 2 * last - turn
