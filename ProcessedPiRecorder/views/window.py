"""A window to look through a recording."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any, List, Optional, Tuple, Union

import numpy as np

from ..errors import DisplayError
from ..reading import Recording, opened
from ..screen import prepare_toolkit, screen_problem
from .canvas import first_size
from .viewer import Pointer, Viewer

__all__ = ['view']

logger = logging.getLogger(__name__)

PathLike = Union[str, 'os.PathLike[str]']

#: X's names of keys (those beside ASCII), as OpenCV hands them through; the second ones are the number block's.
KEYS = {0xFF51: 'left', 0xFF52: 'up', 0xFF53: 'right', 0xFF54: 'down', 0xFF50: 'home', 0xFF57: 'end',
        0xFF55: 'page up', 0xFF56: 'page down', 0xFF96: 'left', 0xFF97: 'up', 0xFF98: 'right', 0xFF99: 'down',
        0xFF95: 'home', 0xFF9C: 'end', 0xFF9A: 'page up', 0xFF9B: 'page down', 0xFF8D: 'enter', 0xFF08: 'backspace',
        0xFF0D: 'enter', 0xFF1B: 'escape', 13: 'enter', 10: 'enter', 8: 'backspace', 27: 'escape', 32: 'space'}
NO_KEY = -1


def view(recording: Union[Recording, PathLike], *, results: Optional[PathLike] = None,
         save_to: Optional[PathLike] = None) -> None:
    """Show a recording in a window, with its results drawn over it; blocks until the window is closed.

    Call it in the main thread: OpenCV's windows live there. Pages that cannot be read are shown as dark ones that
    say so. When the screen itself goes away, the window toolkit ends this process.

    Args:
        recording: an open one, or the path of one.
        results: other results than those beside it, when a path is passed.
        save_to: the folder for frames that are saved with the key s; default: the recording's.

    Raises DisplayError where no window can be shown, RecordingFileError when the recording cannot be opened.
    """
    problem = screen_problem('draw it with "ppr sheet" or "ppr plot" instead')
    if problem is not None:
        raise DisplayError(problem)
    with opened(recording, results) as rec:
        prepare_toolkit()
        folder = rec.path.parent if save_to is None else Path(save_to)
        window = Window(f'{rec.path.name} - {rec.verdict}', *first_size(*rec.shape[1:3]))
        try:
            Viewer(rec, window, folder).run()
        finally:
            window.close()


class Window:
    """One of OpenCV's windows, free to be resized: it says how large it is, and is shown images of that size."""

    def __init__(self, title: str, height: int, width: int) -> None:
        import cv2
        self._cv2: Any = cv2
        self._title, self._size = title, (height, width)
        self._pointers: List[Pointer] = []
        # Free in its proportions, since what is shown is drawn to fit; without Qt's tool bar.
        cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_FREERATIO | cv2.WINDOW_GUI_NORMAL)
        cv2.resizeWindow(title, width, height)
        cv2.setMouseCallback(title, self._hear)

    def size(self) -> Tuple[int, int]:
        """(height, width) of the image in it, pixels of the screen."""
        try:
            _, _, width, height = self._cv2.getWindowImageRect(self._title)
        except self._cv2.error:                # it was closed just now
            return self._size
        if width > 0 and height > 0:
            self._size = height, width
        return self._size

    def show(self, canvas: np.ndarray) -> None:
        """Show an image, uint8 (height, width, 3) BGR."""
        self._cv2.imshow(self._title, canvas)

    def events(self, seconds: float) -> List[Union[str, Pointer]]:
        """Serve the toolkit's events for that long, or until a key is pressed."""
        code = self._cv2.waitKeyEx(max(round(seconds * 1000), 1))
        heard: List[Union[str, Pointer]] = list(self._pointers)
        self._pointers.clear()
        name = key_name(code)
        return [*heard, name] if name else heard

    def is_open(self) -> bool:
        """Whether the user has not closed it."""
        try:
            return bool(self._cv2.getWindowProperty(self._title, self._cv2.WND_PROP_VISIBLE) >= 1)
        except self._cv2.error:                # GTK: the window is no longer known
            return False

    def close(self) -> None:
        """Remove it."""
        try:
            self._cv2.destroyWindow(self._title)
            self._cv2.waitKeyEx(1)             # the toolkit does so when it is served
        except self._cv2.error:
            logger.debug('the window was gone already', exc_info=True)

    def _hear(self, event: int, x: int, y: int, flags: int, _: Any) -> None:
        cv2 = self._cv2
        actions = {cv2.EVENT_LBUTTONDOWN: 'press', cv2.EVENT_LBUTTONUP: 'release'}
        if event == cv2.EVENT_MOUSEMOVE and flags & cv2.EVENT_FLAG_LBUTTON:
            self._pointers = [pointer for pointer in self._pointers if pointer.action != 'move']
            self._pointers.append(Pointer('move', x, y))
        elif event in actions:
            self._pointers.append(Pointer(actions[event], x, y))


def key_name(code: int) -> str:
    """'left', 'space', 'a', … for what OpenCV tells of a key; '' for none that has a name here."""
    if code == NO_KEY:
        return ''
    code &= 0xFFFF                             # above it, GTK tells of Shift and Num Lock
    if code in KEYS:
        return KEYS[code]
    return chr(code).lower() if 32 < code < 127 else ''
