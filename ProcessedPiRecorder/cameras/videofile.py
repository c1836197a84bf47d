"""A video file as a camera: every frame, none twice, with the file's own timestamps."""

from __future__ import annotations

import math
import os
from typing import Any, List, NamedTuple, Optional, Tuple

import numpy as np

from ..errors import CameraError, CameraNotFoundError
from .base import CameraListing, CameraRequest, FrameSink, Granted, Stamp
from .capture import Capture, import_cv2, quiet, require_format
from .containers import AviIndex, Container, avi_index, inspect
from .pace import Pace, PacedFile, chosen_pace

__all__ = ['Broken', 'VideoFileCamera']

DEFAULT_PERIOD_NS = 40_000_000      # only where a file tells neither a rate nor times
MAX_PLAUSIBLE_HZ = 10_000
# A damaged film gives frames again after reads that failed, and its end looks like one more of those.
TRIES, MOST_TRIES = 100, 10_000
JUMPS_TOLD = 3                      # a film with more of them has a variable rate
FILE_CLOCK = "the video file's own timestamps, from its first frame on"


class Broken(NamedTuple):
    """How a source broke off: frames known to be missing, and more for people."""

    missing: int
    detail: str


class VideoFileCamera(PacedFile):
    """A video file, played at its own rate (``pace='own'``) or as fast as it is taken (``'fastest'``).

    Args:
        path: the file; anything OpenCV's FFmpeg decodes.
        pace: also as ``camera_controls={'pace': ...}``.

    It waits for the recorder, so no frame is lost however slow that is. Size and rate are the file's (CameraFormatError
    for any other, at either pace: to play it faster would give the frames times at which they were not taken).
    Timestamps count from the file's first frame. Of a damaged file everything readable is delivered: ``stream``
    reports what is missing as 'source broke off', at its place where the file's own times or its index show that,
    else at the end, with words that the place is unknown. After a failed read it tries 100 more, or as many as the
    container declares further frames (at most 10,000); then the film is over.
    """

    name = 'file'

    def __init__(self, path: Any, pace: str = 'own') -> None:
        super().__init__(path, pace)
        self._broken: List[Broken] = []
        self._capture: Optional[Capture] = None
        self._index: Optional[AviIndex] = None

    def open(self, request: CameraRequest) -> Granted:
        pace = chosen_pace(self.pace, request.controls, 'a video file')
        self._pace = Pace(pace)
        self._broken = []
        capture = self._open_capture(request.pixel_format)
        size, rate = capture.size, _plausible(capture.get('FPS'))
        require_format(request, size, rate, f'the video {self.path}')
        declared = capture.get('FRAME_COUNT')
        frames = int(declared) if 0 < declared < 2**62 else 0
        self._index = avi_index(self.path, frames) if self._container.kind == 'avi' else None
        self._film = _Film(self._container, rate, frames, self._index)
        return Granted(*size, *size, rate, request.pixel_format, FILE_CLOCK, 'count', waits=True,
                       model=os.path.basename(self.path), details={
                           'path': self.path, 'pace': pace, 'declared_frames': frames,
                           'container': self._container.kind, 'orientation': capture.get('ORIENTATION_META')})

    def read(self, out: np.ndarray) -> Optional[Stamp]:
        if self._capture is None or self._pace is None:
            raise CameraError('read() before open(): open the camera first')
        failed = 0
        while not self._capture.read(out):
            if self._capture.closed or self._pace.closed:
                return None
            failed += 1
            if failed > self._film.tries:
                self._broken += self._film.end()
                return None
        stamp, broken = self._film.place(self._capture.get('POS_MSEC'), failed)
        self._broken += broken
        assert stamp.sensor_ns is not None
        return stamp if self._pace.wait(stamp.sensor_ns, self._film.period_ns) else None

    def stream(self, sink: FrameSink) -> None:
        while not sink.stopping:
            stamp = self.read(sink.slot())
            broken, self._broken = self._broken, []
            for count, detail in broken:
                sink.lost(count, 'source broke off', detail=detail)
            if stamp is None:
                return
            sink.commit(stamp)

    def close(self) -> None:
        if self._pace is not None:
            self._pace.close()
        if self._capture is not None:
            self._capture.close()
        if self._index is not None:
            self._index.close()

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

    @classmethod
    def listings(cls) -> List[CameraListing]:
        cv2 = import_cv2()
        if cv2.CAP_FFMPEG in cv2.videoio_registry.getBackends():
            return [CameraListing('FILE', f'a video file (OpenCV {cv2.__version__} with FFmpeg)', True)]
        return [CameraListing('FILE', f'a video file; this OpenCV {cv2.__version__} has no FFmpeg and reads few kinds',
                              True)]


class _Film:
    """Number and time of each frame of one film, and what is missing between them and at its end.

    Attributes:
        period_ns: of the declared rate.
        declared: how many frames the container says that it has; 0: it does not say.
    """

    def __init__(self, container: Container, rate: Optional[float], declared: int,
                 index: Optional[AviIndex] = None) -> None:
        self.period_ns = 1e9 / rate if rate else DEFAULT_PERIOD_NS
        self.declared = declared
        self._index = index
        self._container = container
        self._steady = bool(rate) and container.steady
        self._numbered, self._delivered, self._last_ns, self._first_ms = 0, 0, -1, 0.0
        self._jumps: List[Tuple[int, int]] = []     # the film's numbers before them, and ns
        self._regular = True

    @property
    def tries(self) -> int:
        """Failed reads in a row after which the film is over."""
        short = self.declared - self._numbered
        if self._container.exact_count and short <= 0 and not self._container.missing_bytes:
            return 0
        return min(max(short if self._container.exact_count else 0, TRIES), MOST_TRIES)

    def place(self, position_ms: float, failed: int) -> Tuple[Stamp, List[Broken]]:
        """The next frame's stamp, after so many failed reads, and what lies between it and the frame before."""
        before, last_ns = self._numbered - 1, self._last_ns
        if self._delivered == 0 and not failed:
            self._first_ms = position_ms if math.isfinite(position_ms) else 0.0
        time_ns = self._timestamp(self._by_index(position_ms - self._first_ms))
        # Without a frame before, only failed reads say that the film did not just begin late.
        step_ns = time_ns - last_ns if before >= 0 else time_ns + self.period_ns
        missing = self._missing(step_ns, failed)
        stamp = Stamp(time_ns, None, self._numbered + missing)
        self._numbered += missing + 1
        self._delivered += 1
        if not missing and not failed:
            return stamp, []
        where = _after(before, last_ns)
        reads = f'reading failed {failed} times' if failed > 1 else 'reading failed once'
        if missing:
            return stamp, [Broken(missing, f'{where}: the next that could be read is frame {stamp.count} at '
                                           f'{time_ns / 1e9:.3f} s{"; " + reads if failed else ""}; the file is '
                                           'damaged')]
        return stamp, [Broken(0, f"{where}: {reads}, though the file's times go on without a gap; it is damaged")]

    def end(self) -> List[Broken]:
        """Whether the film ended where its file says that it ends."""
        container, short = self._container, self.declared - self._numbered
        where = _after(self._numbered - 1, self._last_ns)
        if container.missing_bytes:
            counted = short if container.exact_count else 0
            about = '' if container.exact_count else f'; by duration and rate about {max(short, 0)} frames are missing'
            return [Broken(max(0, counted), f'{where}: the file is cut off, {container.missing_bytes} bytes are '
                                            f'missing{about}')]
        if not container.exact_count:
            return self._gaps_of_the_uncounted()
        if short <= math.ceil(container.hidden_s * 1e9 / self.period_ns):
            return []
        count = f'the file declares {self.declared} frames, {self._delivered} could be read'
        if self._knows_places:
            return [Broken(short, f'{where}: {count}; it is damaged')]
        return [Broken(short, f'{count}; where the {short} unaccounted for are missing is unknown: somewhere between '
                              f'the beginning and the end, {where}{self._told_jumps()}. Frame numbers and times may '
                              'be too early from there on; the file is damaged')]

    @property
    def _knows_places(self) -> bool:
        """Whether a gap before the frame read last would have shown."""
        if not self._delivered:
            return True
        if self._container.kind == 'avi':       # its times only count the chunks that were found
            return self._index is not None and self._index.agrees
        return self._steady and self._first_ms * 1e6 < self.period_ns

    def _by_index(self, position_ms: float) -> float:
        if self._index is None or not math.isfinite(position_ms):
            return position_ms
        number = self._index.number_of_chunk(round(position_ms * 1e6 / self.period_ns))
        return position_ms if number is None else number * self.period_ns / 1e6

    def _timestamp(self, position_ms: float) -> int:
        """ns from the first frame on, always increasing.

        OpenCV 4.6 gives position 0 for the frames that the decoder holds back until the end of the file; they, and
        whatever else does not increase, follow the frame before by one period.
        """
        time_ns = int(round(position_ms * 1e6)) if math.isfinite(position_ms) else -1
        if time_ns <= self._last_ns:
            time_ns = self._last_ns + max(1, int(round(self.period_ns))) if self._delivered else 0
        self._last_ns = time_ns
        return time_ns

    def _missing(self, step_ns: float, failed: int) -> int:
        """How many frames a step in time passes over, as far as that is no matter of a variable rate."""
        periods = step_ns / self.period_ns
        missing = max(0, round(periods) - 1)
        self._regular = self._regular and abs(periods - missing - 1) < 0.25
        if self._container.exact_count:
            missing = min(missing, max(0, self.declared - self._numbered - 1))
        if not missing:
            return 0
        if failed or self._steady:
            return missing
        if len(self._jumps) <= JUMPS_TOLD:
            self._jumps.append((self._numbered - 1, int(step_ns)))
        return 0

    def _gaps_of_the_uncounted(self) -> List[Broken]:
        """A container that counts no frames: few jumps in an even rate are damage, or pauses of who made it."""
        if not self._regular or not 0 < len(self._jumps) <= JUMPS_TOLD:
            return []
        about = sum(round(step / self.period_ns) - 1 for _, step in self._jumps)
        return [Broken(0, f'the film is even{self._told_jumps()}: about {about} frames are missing there, or were '
                          'never taken')]

    def _told_jumps(self) -> str:
        jumps = [f'by {step / 1e9:.3f} s after frame {number}' for number, step in self._jumps]
        return f', but its times jump {" and ".join(jumps)}' if 0 < len(jumps) <= JUMPS_TOLD else ''


def _after(number: int, time_ns: int) -> str:
    return f'after frame {number} at {time_ns / 1e9:.3f} s' if number >= 0 else 'before its first frame'


def _backend(cv2: Any) -> int:
    return int(cv2.CAP_FFMPEG if cv2.CAP_FFMPEG in cv2.videoio_registry.getBackends() else cv2.CAP_ANY)


def _plausible(rate: float) -> Optional[float]:
    return rate if math.isfinite(rate) and 0 < rate <= MAX_PLAUSIBLE_HZ else None
