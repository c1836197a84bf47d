"""Letting a file's frames out at the times at which they were taken."""

from __future__ import annotations

import os
import threading
import time
from typing import Any, Mapping, Optional

from ..errors import CameraFormatError, SettingsError
from .base import Camera

__all__ = ['PACES', 'Pace', 'PacedFile', 'chosen_pace']

PACES = ('own', 'fastest')


class Pace:
    """Waits until each frame is due. ``close`` may be called from another thread and ends a wait at once.

    A reader that is late catches up within one frame period; beyond that the whole schedule moves, so that a source
    never runs faster than it was taken.
    """

    def __init__(self, pace: str) -> None:
        self._own = pace == 'own'
        self._start_ns: Optional[int] = None
        self._closed = threading.Event()

    def wait(self, due_ns: int, period_ns: float) -> bool:
        """Block until ``due_ns`` after the first call. False: closed meanwhile."""
        if self._own:
            now = time.monotonic_ns()
            if self._start_ns is None or now - self._start_ns - due_ns > period_ns:
                self._start_ns = now - due_ns
            if self._start_ns + due_ns > now:
                self._closed.wait((self._start_ns + due_ns - now) / 1e9)
        return not self._closed.is_set()

    @property
    def closed(self) -> bool:
        return self._closed.is_set()

    def close(self) -> None:
        self._closed.set()


def chosen_pace(default: str, controls: Mapping[str, Any], what: str) -> str:
    """The pace from the constructor or from ``camera_controls={'pace': ...}``. Raises CameraFormatError."""
    unknown = [name for name in controls if name != 'pace']
    if unknown:
        raise CameraFormatError(f'{what} has no control {unknown[0]!r}; it has pace: {" or ".join(map(repr, PACES))}')
    pace = controls.get('pace', default)
    if pace not in PACES:
        raise CameraFormatError(f'pace={pace!r} is not known; use {" or ".join(map(repr, PACES))}')
    return str(pace)


class PacedFile(Camera):
    """What the cameras that play a file have in common: its absolute path, and the pace at which it is played."""

    def __init__(self, path: Any, pace: str = 'own') -> None:
        if pace not in PACES:
            raise SettingsError(f'pace={pace!r} is not known; use {" or ".join(map(repr, PACES))}')
        self.path = os.path.abspath(os.path.expanduser(os.fspath(path)))
        self.pace = pace
        self._pace: Optional[Pace] = None

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.path!r}, pace={self.pace!r})'
