"""Which page is due when: a recording's own times, against a clock. Nothing is read, drawn or waited for here."""

from __future__ import annotations

from collections import deque
from typing import Deque, NamedTuple, Optional, Tuple

import numpy as np

__all__ = ['FOREIGN_RATE', 'MOST_SHOWN_RATE', 'SPEEDS', 'Pace', 'Player']

FOREIGN_RATE = 30.0           # Hz, for frames without times
MOST_SHOWN_RATE = 60.0        # Hz: what screens show; of a faster playback, the pages between are not decoded
SPEEDS = tuple(2.0 ** power for power in range(-6, 7))
PACE_S = 1.0                  # over which it is told how many pages were skipped
NS = 1_000_000_000


class Pace(NamedTuple):
    """Of the last second of playing: how many pages were due, and how many of them were shown."""

    due: int
    shown: int


class Player:
    """A place in a recording, which moves while it plays.

    All ``now`` are seconds of one monotonic clock.

    Attributes:
        page: that is shown, from 0; playing; speed: recorded seconds in a second.

    Args:
        pages: how many there are, at least one.
        times_ns: of each, int64 ns, increasing; None: they come at 30 Hz.
    """

    def __init__(self, pages: int, times_ns: Optional[np.ndarray] = None) -> None:
        self._pages, self._times_ns = pages, times_ns
        self.page, self.playing, self.speed = 0, False, 1.0
        self._origin: Tuple[float, int] = (0.0, 0)            # at this moment of the clock, that time was due
        self._shown: Deque[Tuple[float, int]] = deque()

    @property
    def last(self) -> int:
        """The last page."""
        return self._pages - 1

    def time_of(self, page: int) -> int:
        """Nanoseconds from the first page to this one."""
        if self._times_ns is None:
            return int(page * NS / FOREIGN_RATE)
        return int(self._times_ns[page]) - int(self._times_ns[0])

    def page_at(self, time_ns: int) -> int:
        """The page that is the latest one at a time (ns from the first page)."""
        if self._times_ns is None:
            page = int((time_ns + 1) * FOREIGN_RATE / NS)     # + 1: time_of rounds down
        else:
            page = int(np.searchsorted(self._times_ns, int(self._times_ns[0]) + time_ns, 'right')) - 1
        return min(max(page, 0), self.last)

    # ------------------------------------------------------------------ what the user wants

    def play(self, now: float) -> None:
        """Play on from the page that is shown; from the first one where that was the last."""
        if self.page == self.last:
            self.page = 0
        self.playing = True
        self._start_from(self.page, now)

    def pause(self) -> None:
        """Stay at the page that is shown."""
        self.playing = False

    def seek(self, page: int, now: float) -> None:
        """Go to a page (the nearest one that there is), and play on from there if it plays."""
        self.page = min(max(page, 0), self.last)
        self._start_from(self.page, now)

    def seek_seconds(self, seconds: float, now: float) -> None:
        """Go that many recorded seconds on, or back; at least to the next page."""
        page = self.page_at(self.time_of(self.page) + round(seconds * NS))
        self.seek(max(page, self.page + 1) if seconds > 0 else min(page, self.page - 1), now)

    def change_speed(self, steps: int, now: float) -> None:
        """Twice as fast for each step; half as fast for each step below 0."""
        at = self._position(now) if self.playing else self.time_of(self.page)
        self.speed = SPEEDS[min(max(SPEEDS.index(self.speed) + steps, 0), len(SPEEDS) - 1)]
        self._origin = now, at
        self._shown.clear()

    # ------------------------------------------------------------------ what is due

    def due(self, now: float) -> int:
        """The page that should be seen now; never one before that which is shown."""
        return max(self.page_at(self._position(now)), self.page) if self.playing else self.page

    def wait(self, now: float) -> Optional[float]:
        """Seconds until another page is due; None: never, as it is."""
        due = self.due(now)
        if not self.playing or due == self.last:
            return None
        return max((self.time_of(due + 1) - self._position(now)) / NS / self.speed, 0.0)

    def next_wanted(self, planned: int, now: float, latency: float) -> Optional[int]:
        """The page to decode after ``planned`` was; None: there is none left.

        The one behind it, or, where decoding is behind, the one that will be due when it is decoded: ``latency``
        seconds from now. Of more pages than a screen can show, one for each time that it shows one.
        """
        if planned >= self.last:
            return None
        spaced = self.page_at(self.time_of(planned) + int(NS * self.speed / MOST_SHOWN_RATE))
        late = self.page_at(self._position(now + latency)) if self.playing else planned
        return max(planned + 1, spaced, late)

    def was_shown(self, page: int, now: float) -> None:
        """A page has come to be seen. Playing ends with the last one."""
        self.page = page
        if not self.playing:
            return
        self._shown.append((now, page))
        while now - self._shown[0][0] > PACE_S and len(self._shown) > 2:
            self._shown.popleft()
        self.playing = page < self.last

    @property
    def pace(self) -> Pace:
        """How many of the pages that were due of late were shown."""
        if len(self._shown) < 2:
            return Pace(0, 0)
        return Pace(self._shown[-1][1] - self._shown[0][1], len(self._shown) - 1)

    def _start_from(self, page: int, now: float) -> None:
        self._origin = now, self.time_of(page)
        self._shown.clear()

    def _position(self, now: float) -> int:
        moment, time_ns = self._origin
        return time_ns + int((now - moment) * self.speed * NS)
