"""What every camera behind ``cv2.VideoCapture`` shares: loading OpenCV, keeping it quiet, filling ring slots."""

from __future__ import annotations

import logging
import os
import threading
from contextlib import contextmanager
from typing import Any, Iterator, Optional, Tuple

import numpy as np

from ..errors import CameraError, CameraFormatError
from .base import CameraRequest

__all__ = ['Capture', 'import_cv2', 'quiet', 'require_format']

log = logging.getLogger(__name__)

RATE_TOLERANCE = 0.01
CLOSE_TIMEOUT_S = 2.0


def import_cv2() -> Any:
    """The module cv2. Raises CameraError that names the system packages where it cannot be loaded."""
    try:
        import cv2
    except ImportError as error:
        raise CameraError(f'OpenCV cannot be loaded: {error}; pip install opencv-contrib-python, and on a bare Debian '
                          'apt install libgl1 libglib2.0-0') from error
    return cv2


@contextmanager
def quiet(cv2: Any) -> Iterator[None]:
    """Keep OpenCV and its FFmpeg from printing on stderr what is raised as an exception anyway."""
    levels = getattr(getattr(cv2, 'utils', None), 'logging', None) or cv2
    before = levels.getLogLevel() if hasattr(levels, 'getLogLevel') else None
    # FFmpeg's level is read from the environment, once, when the first file is opened in a process.
    added = 'OPENCV_FFMPEG_LOGLEVEL' not in os.environ
    os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')
    if before is not None:
        levels.setLogLevel(0)
    try:
        yield
    finally:
        if before is not None:
            levels.setLogLevel(before)
        if added:
            os.environ.pop('OPENCV_FFMPEG_LOGLEVEL', None)


def require_format(request: CameraRequest, size: Tuple[int, int], rate: Optional[float], what: str) -> None:
    """Raise CameraFormatError where ``what`` cannot give what was asked. ``rate`` None: not known, so not promised."""
    if request.width and (request.width, request.height) != size:
        raise CameraFormatError(f'{what} gives {size[0]}x{size[1]} pixels, not the {request.width}x{request.height} '
                                'that were asked; ask for that, or for 0x0, its own (scale_factor makes it smaller)')
    asked = request.framerate
    if asked and (rate is None or abs(asked - rate) > RATE_TOLERANCE * rate):
        given = 'a rate that it does not tell' if rate is None else f'{rate:g} Hz'
        raise CameraFormatError(f'{what} runs at {given}, not at the {asked:g} Hz that were asked; '
                                'leave framerate at 0 for its own')


class Capture:
    """A cv2.VideoCapture that writes into the arrays it is given. Made and used in the reader process."""

    def __init__(self, cv2: Any, capture: Any, pixel_format: str) -> None:
        self._cv2 = cv2
        self._capture = capture
        self._gray = pixel_format == 'gray'
        self._bgr: Optional[np.ndarray] = None
        # Releasing a capture while another thread reads from it crashes the process.
        self._busy = threading.Lock()
        self.closed = False

    def get(self, name: str) -> float:
        """A property by its name without CAP_PROP_; 0.0 where this OpenCV does not have it."""
        number = getattr(self._cv2, f'CAP_PROP_{name}', None)
        return 0.0 if number is None else float(self._capture.get(number))

    def set(self, name: str, value: float) -> bool:
        return bool(self._capture.set(getattr(self._cv2, f'CAP_PROP_{name}'), value))

    @property
    def size(self) -> Tuple[int, int]:
        return int(self.get('FRAME_WIDTH')), int(self.get('FRAME_HEIGHT'))

    def grab(self) -> bool:
        """Take one frame and drop it."""
        with self._busy:
            return not self.closed and bool(self._capture.grab())

    def read(self, out: np.ndarray) -> bool:
        """Wait for the next frame and write it into ``out``. False: there is none. Raises CameraError."""
        with self._busy:
            if self.closed:
                return False
            target = self._target(out)
            try:
                good, image = self._capture.read(target)
            except self._cv2.error as error:
                raise CameraError(f'OpenCV failed to read a frame: {error}') from error
            if good:
                self._deliver(image, out)
            return bool(good)

    def close(self) -> None:
        """Release it, once a read in another thread has ended; gives up on that after 2 s."""
        if self._busy.acquire(timeout=CLOSE_TIMEOUT_S):
            try:
                self.closed = True
                self._capture.release()
            finally:
                self._busy.release()
        else:
            log.warning('the camera hangs in a read and cannot be closed; it is left to the end of the process')

    def _target(self, out: np.ndarray) -> np.ndarray:
        if not self._gray:
            return out
        if self._bgr is None or self._bgr.shape[:2] != out.shape[:2]:
            self._bgr = np.empty((*out.shape[:2], 3), np.uint8)
        return self._bgr

    def _deliver(self, image: np.ndarray, out: np.ndarray) -> None:
        if image.shape[:2] != out.shape[:2] or image.dtype != np.uint8:
            raise CameraError(f'the source changed in mid-recording: {image.shape[1]}x{image.shape[0]} {image.dtype} '
                              f'came where {out.shape[1]}x{out.shape[0]} uint8 was granted; record it in two parts')
        if self._gray != (image.ndim == 2):
            code = self._cv2.COLOR_BGR2GRAY if self._gray else self._cv2.COLOR_GRAY2BGR
            image = self._cv2.cvtColor(image, code, dst=out)
        # OpenCV fills the array it was given when that suits it, and else returns one of its own.
        if not np.may_share_memory(image, out):
            out[...] = image
