"""What the keeper sleeps in: until a message, the death of a child (SIGCHLD), or a moment that was set."""

from __future__ import annotations

import os
import selectors
import signal
import time
from typing import Any, Callable, Dict, Tuple

__all__ = ['Loop']


class Loop:
    """One thread's events.

    Args:
        look_after: called in each turn, after the messages and before the moments that are due.
    """

    def __init__(self, look_after: Callable[[], None]) -> None:
        self._look_after = look_after
        self._selector = selectors.DefaultSelector()
        self._timers: Dict[str, Tuple[float, Callable[[], None]]] = {}

    def watch_deaths(self) -> None:
        """From now on the death of a child ends the sleep. Only in a main thread."""
        read, write = os.pipe()
        os.set_blocking(read, False)
        os.set_blocking(write, False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        # The handler does nothing; the byte that Python writes for it wakes the selector.
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        self._selector.register(read, selectors.EVENT_READ, lambda: _drain(read))

    def watch(self, source: Any, action: Callable[[], None]) -> None:
        """Call ``action`` whenever ``source`` (something with a descriptor) can be read."""
        self._selector.register(source, selectors.EVENT_READ, action)

    def forget(self, source: Any) -> None:
        """Do not watch it any more."""
        self._selector.unregister(source)

    def watches(self, source: Any) -> bool:
        return source.fileno() in self._selector.get_map()

    def after(self, name: str, seconds: float, action: Callable[[], None]) -> None:
        """Call ``action`` in so many seconds; takes the place of what was set under this name."""
        self._timers[name] = (time.monotonic() + seconds, action)

    def cancel(self, name: str) -> None:
        """Forget the moment of this name, if there is one."""
        self._timers.pop(name, None)

    def is_set(self, name: str) -> bool:
        return name in self._timers

    def turn(self) -> None:
        """Wait for one event and answer it."""
        due = min((when for when, _ in self._timers.values()), default=None)
        for key, _ in self._selector.select(None if due is None else max(0.0, due - time.monotonic())):
            key.data()
        self._look_after()
        now = time.monotonic()
        for name, (when, action) in list(self._timers.items()):
            if when <= now and self._timers.get(name, (0.0, None))[1] is action:
                del self._timers[name]
                action()


def _drain(fd: int) -> None:
    try:
        os.read(fd, 4096)
    except BlockingIOError:
        pass
