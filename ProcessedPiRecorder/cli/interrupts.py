"""Signals that ask a command to end: while one is in work, the command decides what they mean."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any, Dict, Optional, Type, TypeVar

__all__ = ['Interrupts', 'OneInterrupt']

_Self = TypeVar('_Self', bound='Interrupts')


class Interrupts:
    """SIGINT, SIGTERM and SIGHUP go to :meth:`note`. A context manager, in the main thread only."""

    NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self._before: Dict[int, Any] = {}

    def __enter__(self: _Self) -> _Self:
        for number in self.NUMBERS:
            # nohup ignores SIGHUP on purpose.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: Optional[FrameType]) -> None:
        self.note()

    def note(self) -> None:
        """One of them has come."""
        raise KeyboardInterrupt


class OneInterrupt(Interrupts):
    """The first becomes KeyboardInterrupt; later ones must not disturb the tidying up."""

    def __init__(self) -> None:
        super().__init__()
        self._seen = False

    def note(self) -> None:
        if not self._seen:
            self._seen = True
            raise KeyboardInterrupt
