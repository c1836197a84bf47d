"""From the firmware's buffers to ring slots: which bytes are the picture, and the hand-over between the threads.

Nothing here imports the package picamera.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any, Deque, NamedTuple, Optional, Sequence

import numpy as np

from ..base import FrameSink, Stamp
from ..capture import import_cv2

__all__ = ['Frames', 'Layout', 'align', 'period_us']

#: What the firmware sends of a pixel, by the number of channels that we look at: all of I420's planes for its Y.
BYTES_PER_PIXEL = {1: 1.5, 3: 3, 4: 4}

# interface/mmal/mmal_buffer.h
FRAME_START, FRAME_END = 1 << 1, 1 << 2
DAMAGED = 1 << 9 | 1 << 10                # CORRUPTED, TRANSMISSION_FAILED
TIME_UNKNOWN = -1 << 63

WARM_UP_STAMPS = 4096


def align(size: int, block: int) -> int:
    """The size rounded up to whole blocks."""
    return -(-size // block) * block


class Layout(NamedTuple):
    """The picture inside a raw buffer."""

    width: int
    height: int
    channels: int            # 1: the Y plane of I420; 3: BGR; 4: BGRA

    def columns(self, size: int) -> Optional[int]:
        """Pixels from row to row in a buffer of so many bytes; None when no such frame has that size.

        Rows are padded to multiples of 16 or 32 pixels, by format and by the component that the buffer comes from.
        """
        rows = align(self.height, 16)
        for block in (16, 32):
            columns = align(self.width, block)
            if size == int(columns * rows * BYTES_PER_PIXEL[self.channels]):
                return columns
        return None

    def picture(self, raw: np.ndarray) -> np.ndarray:
        """The view of the picture in a whole buffer, without the padding."""
        columns = self.columns(raw.size)
        assert columns is not None
        picture = raw[:columns * self.height * self.channels].reshape(self.height, columns, self.channels)
        return picture[:, :self.width, 0] if self.channels == 1 else picture[:, :self.width]


class Frames:
    """Takes each buffer in the firmware's thread and puts the frame into the sink, if there is one by then.

    Until ``flow`` and after ``stem`` it only notes the times of the frames. What goes wrong in the firmware's thread
    is kept and raised by ``wait``.
    """

    def __init__(self) -> None:
        self.layout = Layout(0, 0, 0)
        self.arrivals: Deque[int] = deque(maxlen=WARM_UP_STAMPS)     # PTS in µs
        self.untimed = 0                 # frames of the warm-up without a PTS
        self.delivered = self.broken = 0
        self.period_us = 0.0             # once it is known
        self._first_ns = self._last_ns = self._periods = 0
        self._last_host_s = 0.0
        self.error: Optional[BaseException] = None
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._sink: Optional[FrameSink] = None
        self._gathered = bytearray()
        self._gathered_flags = 0
        self._cv2: Any = None

    def begin(self, layout: Layout) -> None:
        """What the buffers will hold; called before the first one comes."""
        self.layout = layout
        if layout.channels == 4:
            self._cv2 = import_cv2()

    def flow(self, sink: FrameSink) -> None:
        """From the next whole frame on, frames go there."""
        with self._lock:
            self._done.clear()
            if self.error is not None:
                self._done.set()
            self._gathered = bytearray()
            self._sink = sink

    def stem(self) -> None:
        """No frame goes anywhere any more; waits for the one in work."""
        with self._lock:
            self._sink = None

    def end(self) -> None:
        """Let ``wait`` return. From any thread."""
        self._done.set()

    def fail(self, error: BaseException) -> None:
        """Let ``wait`` raise this. From any thread; the first error counts."""
        self.error = self.error or error
        self._done.set()

    def wait(self, seconds: float) -> bool:
        """Sleep until the end or an error, at most so long; True: it is the end. Raises the error."""
        done = self._done.wait(seconds)
        if self.error is not None:
            raise self.error
        return done

    def wait_for(self, sink: FrameSink) -> None:
        """Sleep until the sink stops, the end, or an error, which is raised."""
        sink.when_stopping(self.end)
        if not sink.stopping:
            self._done.wait()
        if self.error is not None:
            raise self.error

    @property
    def rate(self) -> Optional[float]:
        """The sensor's mean rate over all frames that were delivered, Hz; lost ones between them do not matter."""
        return self._periods * 1e9 / (self._last_ns - self._first_ns) if self._periods else None

    @property
    def is_alive(self) -> bool:
        """Whether the last frame is not long ago."""
        return time.monotonic() - self._last_host_s < max(1.0, 3e-6 * self.period_us)

    # -- in the firmware's thread

    def take(self, buf: Any) -> bool:
        """One buffer (picamera's MMALBuffer); True: no more, please."""
        try:
            self._take(buf)
        except BaseException as error:
            self.fail(error)
        return self.error is not None

    def _take(self, buf: Any) -> None:
        if not buf.length:
            return                       # they come back empty when the port is switched off
        with self._lock:
            if self._sink is None:
                if buf.flags & FRAME_END or self.layout.columns(buf.length) is not None:
                    self.untimed += not _is_timed(buf)
                    if _is_timed(buf):
                        self.arrivals.append(buf.pts)
                return
            with buf as memory:
                raw = np.frombuffer(memory, np.uint8, buf.length, buf.offset)
                self._deliver(self._sink, raw, buf.flags, buf.pts * 1000 if _is_timed(buf) else None)
            if self._sink.stopping:
                self._done.set()

    def _deliver(self, sink: FrameSink, raw: np.ndarray, flags: int, sensor_ns: Optional[int]) -> None:
        whole = self._whole(sink, raw, flags)
        if whole is None:
            return
        flags, self._gathered_flags = flags | self._gathered_flags, 0
        if flags & DAMAGED or self.layout.columns(whole.size) is None:
            self._lose(sink, whole.size, sensor_ns)
            return
        self._fill(sink.slot(), self.layout.picture(whole))
        sink.commit(Stamp(sensor_ns))
        self.delivered += 1
        self._note(sensor_ns)

    def _whole(self, sink: FrameSink, raw: np.ndarray, flags: int) -> Optional[np.ndarray]:
        """The buffer itself, as nearly always; or what was gathered from several; None: more is to come."""
        if self._gathered and flags & FRAME_START:
            self._lose(sink, len(self._gathered), None)
            self._gathered, self._gathered_flags = bytearray(), 0
        if not self._gathered and (flags & FRAME_END or self.layout.columns(raw.size) is not None):
            return raw
        self._gathered += raw.data
        self._gathered_flags |= flags
        if not flags & FRAME_END:
            return None
        whole, self._gathered = np.frombuffer(self._gathered, np.uint8), bytearray()
        return whole

    def _lose(self, sink: FrameSink, size: int, sensor_ns: Optional[int]) -> None:
        self.broken += 1
        width, height, _ = self.layout
        sink.lost(1, 'camera error', sensor_ns, f'the firmware sent a damaged frame ({size} bytes of one of '
                                                f'{width}x{height} pixels)')

    def _note(self, sensor_ns: Optional[int]) -> None:
        self._last_host_s = time.monotonic()
        if sensor_ns is None:
            return
        if not self._first_ns:
            self._first_ns = sensor_ns
        elif sensor_ns > self._last_ns:
            self._periods += max(1, round((sensor_ns - self._last_ns) / (1e3 * self.period_us)))
        self._last_ns = sensor_ns

    def _fill(self, out: np.ndarray, picture: np.ndarray) -> None:
        if self.layout.channels == 4:
            self._cv2.cvtColor(picture, self._cv2.COLOR_BGRA2BGR, dst=out)
        else:
            np.copyto(out, picture)


def _is_timed(buf: Any) -> bool:
    return buf.pts not in (0, TIME_UNKNOWN)


def period_us(stamps: Sequence[int]) -> Optional[float]:
    """The frame period that these timestamps (µs) show, whether or not frames between them are missing.

    A lost frame makes a gap of several periods, so the period is taken from the short quarter of the gaps and then
    refined over all of them. None: fewer than two gaps.
    """
    times = np.asarray(stamps, np.float64)
    gaps = np.diff(times)
    times, gaps = times[1:][gaps > 0], gaps[gaps > 0]
    if len(gaps) < 2:
        return None
    steps = np.rint(gaps / np.sort(gaps)[len(gaps) // 4])
    place = np.cumsum(np.maximum(steps, 1))
    place, times = place - place.mean(), times - times.mean()
    return float((place @ times) / (place @ place))
