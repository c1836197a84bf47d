"""Signals that end a process, and what is to be tidied up before they do."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, NoReturn

__all__ = ['terminated_tidily', 'undisturbed']


@contextmanager
def terminated_tidily() -> Iterator[None]:
    """SIGTERM and SIGHUP tidy up as Ctrl-C does, and then end the process as they would have done at once.

    Only where nobody else handles them, and in the main thread.
    """
    before: Dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, _terminate) for number in (signal.SIGTERM, signal.SIGHUP)
                  if signal.getsignal(number) is signal.SIG_DFL}
    try:
        yield
    except _Terminated as ending:
        for number, handler in before.items():
            signal.signal(number, handler)
        if ending.number in before:
            signal.raise_signal(ending.number)
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Terminated(KeyboardInterrupt):
    """Not an Exception: nothing that means to handle errors may swallow it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def _terminate(number: int, frame: Any) -> NoReturn:
    raise _Terminated(number)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Signals that end a process come behind this, so that neither renaming nor tidying up stops half way."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: List[int] = []
    before: Dict[int, Any] = {number: signal.signal(number, lambda given, frame: came.append(given))
                              for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
                              if callable(signal.getsignal(number))}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])
