"""When the synthetic sensor makes its frames: exact integers, at any index, in constant time."""

from __future__ import annotations

from bisect import bisect_right
from typing import List, Sequence, Tuple

__all__ = ['Timeline']


class Timeline:
    """Start and duration of every frame of a sensor, in ns from its start.

    ``pattern`` is ((frames, factor), ...), repeated for ever: so many frames of ``factor`` times ``period_ns``.
    """

    def __init__(self, period_ns: int, pattern: Sequence[Tuple[int, float]] = ()) -> None:
        self._firsts: List[int] = []      # each block's first frame within the cycle
        self._starts: List[int] = []      # and when it starts
        self._durations: List[int] = []
        frames = elapsed = 0
        for count, factor in pattern or ((1, 1.0),):
            duration = max(1, round(period_ns * factor))
            self._firsts.append(frames)
            self._starts.append(elapsed)
            self._durations.append(duration)
            frames += count
            elapsed += count * duration
        self._cycle_frames, self._cycle_ns = frames, elapsed

    def offset(self, index: int) -> int:
        """When frame ``index`` starts."""
        cycles, place = divmod(index, self._cycle_frames)
        block = bisect_right(self._firsts, place) - 1
        return cycles * self._cycle_ns + self._starts[block] + (place - self._firsts[block]) * self._durations[block]

    def duration(self, index: int) -> int:
        """How long frame ``index`` lasts."""
        return self._durations[bisect_right(self._firsts, index % self._cycle_frames) - 1]

    def finished(self, now_ns: int) -> int:
        """How many frames have ended by ``now_ns``, which is also the number of the frame then being made."""
        if now_ns < 0:
            return 0
        cycles, left = divmod(now_ns, self._cycle_ns)
        block = bisect_right(self._starts, left) - 1
        inside = (left - self._starts[block]) // self._durations[block]
        return int(cycles * self._cycle_frames + self._firsts[block] + inside)
