"""Letting a file's frames out at the times at which they were taken."""

from __future__ import annotations

import threading
import time
from typing import Any, Mapping, Optional

from ..errors import CameraFormatError

__all__ = ['PACES', 'Pace', 'chosen_pace']

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
