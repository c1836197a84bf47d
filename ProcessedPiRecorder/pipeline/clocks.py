"""Clocks: the originating time of each frame, and evidence of how far the clocks can be trusted.

Per frame there are up to three times. ``sensor_ns`` is the camera's own; ``host_ns`` is CLOCK_MONOTONIC when the
frame arrived; ``time_ns``, its *originating time*, is UTC: the sensor's time (or else the host's) plus one offset
that is fixed at the start. So a step of the system's clock (NTP finding the network in mid-trial) never moves,
stretches or reverses the times of a recording; it is noted in the anchors and reported.
"""

from __future__ import annotations

import time
from typing import Any, Dict, List, Optional

__all__ = ['TICK_NS', 'Anchors', 'OriginatingTime', 'clock_offset_ns', 'clock_steps', 'take_anchor']

#: The least step between two originating times: one .NET tick, so that other systems can tell them apart too.
TICK_NS = 100
#: A change of (UTC - monotonic) between two anchors beyond this is a step, not drift.
STEP_NS = 5_000_000
ANCHOR_PERIOD_S = 10.0
MAX_ANCHORS = 2000
#: A sensor clock that goes back by more was set back: it is another clock from then on. By less, it is jitter.
SET_BACK_NS = 1_000_000_000


def take_anchor() -> Dict[str, int]:
    """All clocks at one moment: monotonic_ns, boottime_ns, utc_ns, and uncertainty_ns (how long it took)."""
    best: Optional[Dict[str, int]] = None
    for _ in range(3):                    # the quickest of three was not interrupted
        before = time.monotonic_ns()
        utc, boot = time.time_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        after = time.monotonic_ns()
        if best is None or after - before < best['uncertainty_ns']:
            best = {'monotonic_ns': (before + after) // 2, 'boottime_ns': boot, 'utc_ns': utc,
                    'uncertainty_ns': after - before}
    assert best is not None
    return best


def clock_offset_ns(anchor: Dict[str, int], base: str) -> int:
    """UTC minus the named clock ('monotonic', 'boottime' or 'utc'), in ns."""
    return 0 if base == 'utc' else anchor['utc_ns'] - anchor[f'{base}_ns']


class OriginatingTime:
    """Turns sensor and host times into originating times that always increase.

    A camera with a clock of its own (``clock_base='own'``) is tied to UTC by ``to_monotonic_ns`` (its clock to
    CLOCK_MONOTONIC) where the camera could measure that, else by the arrival of its first frame. So is any clock from
    the moment on at which it was set back.

    Args:
        least_step_ns: between two of them; 1 for times that were originating times once and are to stay as they are.
    """

    def __init__(self, base: str, to_monotonic_ns: Optional[int] = None, least_step_ns: int = TICK_NS) -> None:
        self._base, self._least_step_ns = base, least_step_ns
        self.anchor = take_anchor()
        self.host_offset_ns = clock_offset_ns(self.anchor, 'monotonic')
        self._sensor_offset_ns: Optional[int] = None if base == 'own' else clock_offset_ns(self.anchor, base)
        if base == 'own' and to_monotonic_ns is not None:
            self._sensor_offset_ns = self.host_offset_ns + to_monotonic_ns
        self._last_ns: Optional[int] = None
        self.moved = 0                    # frames whose time had to be moved on

    def of(self, sensor_ns: Optional[int], host_ns: int) -> int:
        """The originating time of a frame, ns since 1970 UTC."""
        if sensor_ns is None:
            time_ns = host_ns + self.host_offset_ns
        else:
            if self._sensor_offset_ns is None:
                self._sensor_offset_ns = host_ns + self.host_offset_ns - sensor_ns
            time_ns = sensor_ns + self._sensor_offset_ns
            if self._last_ns is not None and time_ns < self._last_ns - SET_BACK_NS:
                self._sensor_offset_ns = host_ns + self.host_offset_ns - sensor_ns
                time_ns = sensor_ns + self._sensor_offset_ns
                self.moved += 1
        if self._last_ns is not None and time_ns < self._last_ns + self._least_step_ns:
            time_ns = self._last_ns + self._least_step_ns
            self.moved += 1
        self._last_ns = time_ns
        return time_ns


class Anchors:
    """Anchors taken during a recording, and the clock steps that they show."""

    def __init__(self) -> None:
        self.taken: List[Dict[str, int]] = []
        self.steps: List[Dict[str, int]] = []
        self._last: Optional[Dict[str, int]] = None

    def take(self) -> None:
        """Take one more; they thin out on very long recordings, steps are always kept."""
        anchor = take_anchor()
        if self._last is not None:
            moved = clock_offset_ns(anchor, 'monotonic') - clock_offset_ns(self._last, 'monotonic')
            if abs(moved) > STEP_NS + anchor['uncertainty_ns']:
                self.steps.append({'monotonic_ns': anchor['monotonic_ns'], 'step_ns': moved})
        self._last = anchor
        self.taken.append(anchor)
        if len(self.taken) > MAX_ANCHORS:
            del self.taken[1:-1:2]

    def as_dict(self) -> Dict[str, Any]:
        """For the report."""
        return {'anchors': self.taken, 'steps': self.steps}


def clock_steps(steps: List[Dict[str, int]]) -> str:
    """A warning about the steps of an :class:`Anchors`."""
    shown = ', '.join(f'{step["step_ns"] / 1e9:+,.3f} s' for step in steps[:5]) + (', …' if len(steps) > 5 else '')
    return (f"the system's clock was set while this was recorded ({shown}). The frames' times run on by the clock as "
            'it stood at the start; compare them with other recordings of this machine by report.clock')
