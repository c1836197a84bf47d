"""A video file as a camera: every frame, none twice, with the file's own timestamps."""

from __future__ import annotations

import math
import os
from typing import Any, List, NamedTuple, Optional

import numpy as np

from ..errors import CameraError, CameraNotFoundError, SettingsError
from .base import Camera, CameraListing, CameraRequest, FrameSink, Granted, Stamp
from .capture import Capture, import_cv2, quiet, require_format
from .containers import Container, inspect
from .pace import PACES, Pace, chosen_pace

__all__ = ['Broken', 'VideoFileCamera']

DEFAULT_PERIOD_NS = 40_000_000      # only where a file tells neither a rate nor times
MAX_PLAUSIBLE_HZ = 10_000
FILE_CLOCK = "the video file's own timestamps, from its first frame on"


class Broken(NamedTuple):
    """How a source broke off: frames known to be missing, and more for people."""

    missing: int
    detail: str


class VideoFileCamera(Camera):
    """A video file, played at its own rate (``pace='own'``) or as fast as it is taken (``'fastest'``).

    Args:
        path: the file; anything OpenCV's FFmpeg decodes.
        pace: also as ``camera_controls={'pace': ...}``.

    It waits for the recorder, so no frame is lost however slow that is. Size and rate are the file's (CameraFormatError
    for any other, at either pace: to play it faster would give the frames times at which they were not taken).
    Timestamps count from the file's first frame. A file whose container declares more than can be read breaks off:
    what is readable is delivered, and ``stream`` then reports 'source broke off' (``broken``).
    """

    name = 'file'

    def __init__(self, path: Any, pace: str = 'own') -> None:
        if pace not in PACES:
            raise SettingsError(f'pace={pace!r} is not known; use {" or ".join(map(repr, PACES))}')
        self.path = os.path.abspath(os.path.expanduser(os.fspath(path)))
        self.pace = pace
        self.broken: Optional[Broken] = None
        self._capture: Optional[Capture] = None
        self._pace: Optional[Pace] = None

    def __repr__(self) -> str:
        return f'VideoFileCamera({self.path!r}, pace={self.pace!r})'

    def open(self, request: CameraRequest) -> Granted:
        pace = chosen_pace(self.pace, request.controls, 'a video file')
        self._pace = Pace(pace)
        self.broken, self._count, self._last_ns, self._first_ms = None, 0, -1, 0.0
        self._jump_ns, self._jump_after = 0, 0
        capture = self._open_capture(request.pixel_format)
        size, rate = capture.size, _plausible(capture.get('FPS'))
        require_format(request, size, rate, f'the video {self.path}')
        self._period_ns = 1e9 / rate if rate else DEFAULT_PERIOD_NS
        declared = capture.get('FRAME_COUNT')
        self._declared = int(declared) if 0 < declared < 2**62 else 0
        return Granted(*size, *size, rate, request.pixel_format, FILE_CLOCK, 'count', waits=True,
                       model=os.path.basename(self.path), details={
                           'path': self.path, 'pace': pace, 'declared_frames': self._declared,
                           'container': self._container.kind, 'orientation': capture.get('ORIENTATION_META')})

    def read(self, out: np.ndarray) -> Optional[Stamp]:
        if self._capture is None or self._pace is None:
            raise CameraError('read() before open(): open the camera first')
        if not self._capture.read(out):
            if not self._capture.closed:
                self.broken = self._judge_end()
            return None
        stamp = Stamp(self._timestamp(self._capture.get('POS_MSEC')), None, self._count)
        self._count += 1
        assert stamp.sensor_ns is not None
        return stamp if self._pace.wait(stamp.sensor_ns, self._period_ns) else None

    def stream(self, sink: FrameSink) -> None:
        super().stream(sink)
        if self.broken is not None:
            sink.lost(self.broken.missing, 'source broke off', detail=self.broken.detail)

    def close(self) -> None:
        if self._pace is not None:
            self._pace.close()
        if self._capture is not None:
            self._capture.close()

    def _open_capture(self, pixel_format: str) -> Capture:
        self._container = self._inspect()
        cv2 = import_cv2()
        with quiet(cv2):
            raw = cv2.VideoCapture(self.path, _backend(cv2))
        # A text file named .mp4 can pass for a video of no size.
        if not raw.isOpened() or raw.get(cv2.CAP_PROP_FRAME_WIDTH) < 1:
            raw.release()
            raise CameraError(self._refusal())
        self._capture = Capture(cv2, raw, pixel_format)
        return self._capture

    def _inspect(self) -> Container:
        try:
            return inspect(self.path)
        except OSError as error:
            raise CameraNotFoundError(f'the video {self.path} cannot be opened: {error.strerror}; check the path'
                                      ) from error

    def _refusal(self) -> str:
        if os.path.getsize(self.path) == 0:
            why = 'it is empty (0 bytes)'
        elif self._container.missing_bytes:
            why = (f'it is cut off: its structure reaches {self._container.missing_bytes} bytes beyond its end, and '
                   'what describes the frames is missing')
        elif self._container.kind:
            why = f'it is an incomplete or damaged {self._container.kind} file'
        else:
            why = 'its content is no video that OpenCV knows, whatever its name says'
        return f'{self.path} cannot be played: {why}; pass a video file (`ffprobe` tells more), or copy it again'

    def _timestamp(self, position_ms: float) -> int:
        """ns from the first frame on, always increasing.

        OpenCV 4.6 gives position 0 for the frames that the decoder holds back until the end of the file; they, and
        whatever else does not increase, follow the frame before by one period.
        """
        if self._count == 0:
            self._first_ms = position_ms if math.isfinite(position_ms) else 0.0
        time_ns = int(round((position_ms - self._first_ms) * 1e6)) if math.isfinite(position_ms) else -1
        if time_ns <= self._last_ns:
            time_ns = self._last_ns + max(1, int(round(self._period_ns)))
        if self._count and time_ns - self._last_ns > self._jump_ns:
            self._jump_ns, self._jump_after = time_ns - self._last_ns, self._count - 1
        self._last_ns = time_ns
        return time_ns

    def _judge_end(self) -> Optional[Broken]:
        """Whether the file ended where it says that it ends."""
        container, short = self._container, self._declared - self._count
        where = (f'after frame {self._count - 1} at {self._last_ns / 1e9:.3f} s' if self._count
                 else 'before its first frame')
        if container.missing_bytes:
            counted = short if container.exact_count else 0
            about = '' if container.exact_count else f'; by duration and rate about {max(short, 0)} frames are missing'
            return Broken(max(0, counted), f'{where}: the file is cut off, {container.missing_bytes} bytes are '
                                           f'missing{about}')
        hidden = math.ceil(container.hidden_s * 1e9 / self._period_ns)
        if not container.exact_count or short <= hidden:
            return None
        # Damage in the middle shows as a jump in time; a steady file tells nothing more by its longest step.
        jump = (f', and its times jump by {self._jump_ns / 1e9:.3f} s after frame {self._jump_after}'
                if self._jump_ns > 1.5 * self._period_ns else '')
        return Broken(short, f'{where}: the file declares {self._declared} frames, {self._count} could be read{jump}; '
                             'it is damaged')

    @classmethod
    def listings(cls) -> List[CameraListing]:
        cv2 = import_cv2()
        if cv2.CAP_FFMPEG in cv2.videoio_registry.getBackends():
            return [CameraListing('FILE', f'a video file (OpenCV {cv2.__version__} with FFmpeg)', True)]
        return [CameraListing('FILE', f'a video file; this OpenCV {cv2.__version__} has no FFmpeg and reads few kinds',
                              True)]


def _backend(cv2: Any) -> int:
    return int(cv2.CAP_FFMPEG if cv2.CAP_FFMPEG in cv2.videoio_registry.getBackends() else cv2.CAP_ANY)


def _plausible(rate: float) -> Optional[float]:
    return rate if math.isfinite(rate) and 0 < rate <= MAX_PLAUSIBLE_HZ else None
