"""What joins the sink's threads: pages put back in order, whose turn it is to write, and the thread that syncs."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Callable, Deque, Dict, Generic, List, Optional, TypeVar

from .part import RecordingPart

__all__ = ['InOrder', 'Syncer']

T = TypeVar('T')

#: Parts that may wait to be finished. Each holds a descriptor and a quarter of a megabyte, and a disk that syncs slowly
#: finishes tiny parts more slowly than they fill.
MOST_FULL = 32


class InOrder(Generic[T]):
    """Items that come from several threads in any order, with their numbers, and are taken in the order of these.

    There is one *turn*. Who puts the item that everybody waited for gets it, and with it takes what is ready until
    there is nothing more; so no thread need wait for another, nor be woken.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.received = 0        # items put so far
        self._items: Dict[int, T] = {}
        self._next = 0
        self._turn_taken = False
        self._broken = False

    def put(self, number: int, item: T) -> bool:
        """Whether the caller has the turn now, and is to ``take``."""
        with self._lock:
            self.received += 1
            if self._broken:
                return False
            self._items[number] = item
            if self._turn_taken or number != self._next:
                return False
            self._turn_taken = True
            return True

    def take(self, limit: int) -> List[T]:
        """Up to ``limit`` items that follow one another, for who has the turn. []: it has not got it any more."""
        with self._lock:
            taken: List[T] = []
            while self._next in self._items and len(taken) < limit:
                taken.append(self._items.pop(self._next))
                self._next += 1
            self._turn_taken = bool(taken)
            return taken

    def break_off(self) -> bool:
        """Let go of everything. Whether nobody has the turn: else the one who has it will soon find nothing to take."""
        with self._lock:
            self._broken = True
            self._items.clear()
            return not self._turn_taken


class Syncer:
    """The thread that makes the current part durable every ``interval_s``, and finishes the parts before it.

    finish_part: called in this thread with a part that is full. fail: called with what went wrong; the thread
    then ends.
    """

    def __init__(self, part: RecordingPart, interval_s: float, finish_part: Callable[[RecordingPart], None],
                 fail: Callable[[BaseException], None]) -> None:
        self._cond = threading.Condition()
        self._part = part
        self._full: Deque[RecordingPart] = deque()
        self._interval_s = interval_s
        self._finish_part = finish_part
        self._fail = fail
        self._due = 0.0          # the first pages are synced at once: from then on the file can be opened
        self._closing = self._failed = False
        self._nothing_to_do = False       # and so it sleeps until it is woken
        self.thread = threading.Thread(target=self._run, name='ppr-sync', daemon=True)

    def touched(self, part: RecordingPart) -> None:
        """This part has pages to sync. If it is not the current one it takes its place, and that one is full.

        Blocks while MOST_FULL wait to be finished.
        """
        with self._cond:
            if part is not self._part:
                self._full.append(self._part)
                self._part = part
                self._cond.notify_all()
            elif self._nothing_to_do:      # else it wakes when the next sync is due
                self._cond.notify_all()
            self._cond.wait_for(lambda: len(self._full) < MOST_FULL or self._failed)

    @property
    def full_parts(self) -> int:
        """Parts that are full and not yet finished."""
        return len(self._full)

    def close(self) -> None:
        """Finish the full parts, then end. Blocks."""
        with self._cond:
            self._closing = True
            self._cond.notify_all()
        if self.thread.ident is not None:
            self.thread.join()

    def take_open(self) -> List[RecordingPart]:
        """After ``close``: full parts that were not finished because something failed before, and the current one."""
        with self._cond:
            left = [*self._full, self._part]
            self._full.clear()
            return left

    def _run(self) -> None:
        try:
            while True:
                part, full = self._next_task()
                if part is None:
                    return
                if full:
                    self._finish_part(part)
                    with self._cond:
                        self._full.popleft()
                        self._cond.notify_all()
                else:
                    self._due = time.monotonic() + self._interval_s
                    part.sync()
        except BaseException as error:   # noqa: B036 (whatever it is, the recording must hear of it)
            self._fail(error)
            with self._cond:
                self._failed = True
                self._cond.notify_all()

    def _next_task(self) -> tuple[Optional[RecordingPart], bool]:
        """The part to work on, and whether it is full; None to end. Blocks until there is something to do."""
        with self._cond:
            while True:
                if self._full:
                    return self._full[0], True
                if self._closing:
                    return None, False
                wait_s = None
                if self._part.unlinked_pages:
                    wait_s = self._due - time.monotonic()
                    if wait_s <= 0:
                        return self._part, False
                self._nothing_to_do = wait_s is None
                self._cond.wait(wait_s)
                self._nothing_to_do = False
