"""The live window, in a process of its own.

OpenCV's window toolkits end the process when there is no screen (abort) or when the X server goes away (exit),
without a Python exception: hence ``show_frames`` runs in a process that nothing else depends on.
"""

from __future__ import annotations

import logging
import os
import select
import time
from typing import Any, Sequence

import numpy as np

from ..screen import prepare_toolkit

__all__ = ['MOST_HEIGHT', 'MOST_RATE', 'MOST_WIDTH', 'show_frames']

logger = logging.getLogger(__name__)

MOST_WIDTH, MOST_HEIGHT = 1280, 720     # pixels; larger frames are shown smaller
MOST_RATE = 30.0                        # Hz
# The toolkits have no descriptor to wait on: their events (redraw, resize, close) wait until they are asked for,
# and 20 times a second is what a hand on the mouse does not notice. Frames wake the process at once.
EVENT_INTERVAL = 0.05                   # seconds
CLOSING_KEYS = (27, ord('q'))           # Escape

READY = b'r'


def show_frames(slots: Sequence[np.ndarray], receive_fd: int, send_fd: int, title: str) -> str:
    """Show frames until the pipe ends ('ended') or the user closes the window ('closed').

    Runs in the display process, in its main thread, and blocks. For each frame it writes ``b'r'`` on ``send_fd``
    when it has time for one, at most 30 times a second; the other side then copies its newest frame into one of
    ``slots`` (uint8, (height, width, 3) BGR or (height, width) gray) and writes the slot's number, one byte, on
    ``receive_fd``. It leaves that slot alone until the next ``b'r'``. Escape or q close the window too.

    Check ``screen_problem`` first: without a screen the toolkit aborts this process.
    """
    prepare_toolkit()
    import cv2
    window = _Window(cv2, title)
    try:
        return _show(slots, receive_fd, send_fd, window)
    except BrokenPipeError:
        return 'ended'
    finally:
        window.close()


def _show(slots: Sequence[np.ndarray], receive_fd: int, send_fd: int, window: '_Window') -> str:
    asked = False
    next_frame = time.monotonic()
    while True:
        wait = EVENT_INTERVAL
        if not asked:
            wait = min(wait, max(0.0, next_frame - time.monotonic()))
        # The pipe is watched in between frames too, so that its end is noticed at once.
        if select.select([receive_fd], [], [], wait)[0]:
            number = os.read(receive_fd, 1)
            if not number:
                return 'ended'
            window.show(slots[number[0]])
            asked = False
        elif not asked and time.monotonic() >= next_frame:
            os.write(send_fd, READY)
            asked = True
            next_frame = time.monotonic() + 1.0 / MOST_RATE
        if not window.alive():
            return 'closed'


class _Window:
    """One OpenCV window, made at the first frame and as large as that frame, within limits."""

    def __init__(self, cv2: Any, title: str) -> None:
        self._cv2 = cv2
        self._title = title
        self._made = False

    def show(self, frame: np.ndarray) -> None:
        image = fitted(np.asarray(frame))
        if not self._made:
            self._make(image)
        self._cv2.imshow(self._title, image)

    def _make(self, image: np.ndarray) -> None:
        cv2 = self._cv2
        # Free to be resized by hand, in proportion; without Qt's tool bar.
        cv2.namedWindow(self._title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
        cv2.resizeWindow(self._title, image.shape[1], image.shape[0])
        self._made = True

    def alive(self) -> bool:
        """Serve the toolkit's events; False once the user has closed the window."""
        if not self._made:
            return True
        cv2 = self._cv2
        if cv2.pollKey() & 0xFF in CLOSING_KEYS:
            return False
        try:
            return bool(cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) >= 1)
        except cv2.error:     # GTK: the window is no longer known
            return False

    def close(self) -> None:
        if self._made:
            try:
                self._cv2.destroyAllWindows()
            except self._cv2.error:
                logger.debug('the window was gone already', exc_info=True)


def fitted(image: np.ndarray) -> np.ndarray:
    """The image, scaled down to MOST_WIDTH × MOST_HEIGHT where it is larger; its proportions are kept."""
    height, width = image.shape[:2]
    scale = min(MOST_WIDTH / width, MOST_HEIGHT / height)
    if scale >= 1:
        return image
    import cv2
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
