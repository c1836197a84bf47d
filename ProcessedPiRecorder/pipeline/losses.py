"""Seeing lost frames in the camera's own timestamps.

What arrived says nothing about what did not; counters are reset by cameras; the *asked* rate is a wish. So the
yardstick is, from best to worst, the frame's own duration, the *granted* fixed rate, a counter that the camera
vouches for, or none.
"""

from __future__ import annotations

from typing import Optional, Tuple

from ..cameras.base import LOSS_DETECTION, Stamp

__all__ = ['LossDetector']

STALL_NS = 1_000_000_000
STALL_PERIODS = 10
#: In frames. Where the duration is halved, and told one frame late, gaps of half a frame are sound.
SHORTEST_GAP = 0.4

# What a camera of fixed rate is assumed to do, in frame periods. Found by trial over jitter up to 40 % and rates up to
# 3 % off: a stiffer filter follows drift too late, a looser or less forgetful one can lock to a wrong rate for good.
JITTER = 0.15             # standard deviation of a timestamp
RATE_ERROR = 0.01         # of the true rate against the granted one, at the start
RATE_WANDER = 1e-3        # of the rate, a frame
RATE_MEMORY = 0.99        # a frame; what is forgotten falls back to the granted rate
RATE_LIMIT = 0.025


class LossDetector:
    """Counts the frames that are missing before each frame. Runs in the reader process; blocks never.

    Modes (``Granted.loss_detection``):

    ``'frame_duration'``
        ``stamp.sensor_ns`` and ``stamp.duration_ns``: a frame that starts at t and lasts d is followed at t + d;
        what is missing beyond that is divided by the mean of the durations on both sides of the gap. One lost
        frame is counted exactly even where the duration changes up to threefold across it. A gap that is far
        shorter than a frame tells of a clock that was set back.
    ``'fixed_rate'``
        ``stamp.sensor_ns`` against a grid of ``period_ns``. The grid is followed, phase and period, so that gaps may
        be off by 40 % of a period (each timestamp by 20 %) from the first frame on and by 50 % once it has settled,
        and the true rate may lie, or drift slowly, within 2 % of the granted one.
    ``'count'``
        ``stamp.count``. A counter that goes back was reset; that is no loss.
    ``'none'``
        always 0.

    Attributes:
        defects: frames whose sensor time did not increase. A clock defect, not a loss.
        unseen: frames before which losses could not be seen: they lacked what the mode needs, or the clock or
            counter had been reset or set back.
        last_gap_ns: from the frame before to this one: sensor time if both have it, else host time; 0 at the first.
    """

    def __init__(self, mode: str, period_ns: Optional[float] = None) -> None:
        if mode not in LOSS_DETECTION:
            raise ValueError(f'loss_detection={mode!r} is not known; use one of {", ".join(LOSS_DETECTION)}')
        if period_ns is not None and not period_ns > 0:
            raise ValueError(f'period_ns={period_ns!r} must be above 0, or None when no rate is granted')
        if mode == 'fixed_rate' and period_ns is None:
            raise ValueError("loss_detection='fixed_rate' needs the granted rate's period_ns")
        self.mode = mode
        self.defects = 0
        self.unseen = 0
        self.last_gap_ns = 0
        self._reported = 0
        self._last: Optional[Stamp] = None
        self._last_host_ns = 0
        self._period = period_ns
        self._grid: Optional[_Grid] = None

    def see(self, stamp: Stamp, host_ns: int) -> int:
        """How many frames are missing between the frame before and this one. 0 for the first.

        host_ns: CLOCK_MONOTONIC at its arrival; used for ``last_gap_ns`` only, never to find losses.
        Frames that the camera reported itself (:meth:`reported`) are not counted a second time.
        """
        last, self._last = self._last, stamp
        last_host_ns, self._last_host_ns = self._last_host_ns, host_ns
        reported, self._reported = self._reported, 0
        if last is None:
            self._restart(stamp)
            return 0
        both = stamp.sensor_ns is not None and last.sensor_ns is not None
        self.last_gap_ns = (stamp.sensor_ns - last.sensor_ns if both    # type: ignore[operator]
                            else host_ns - last_host_ns)
        return max(0, self._missing(last, stamp) - reported)

    def reported(self, count: int) -> None:
        """The camera itself has reported ``count`` frames missing since the last frame seen."""
        self._reported += count

    def is_stall(self, gap_ns: int) -> bool:
        """Whether a gap is a stall of the camera (at least 1 s and 10 frame periods) rather than dropped frames."""
        period = self.period_ns
        return gap_ns >= STALL_NS and (period is None or gap_ns >= STALL_PERIODS * period)

    @property
    def period_ns(self) -> Optional[float]:
        """The present frame period as far as known: followed grid, own duration, or the granted one."""
        if self._grid is not None:
            return self._grid.period
        if self._last is not None and self._last.duration_ns:
            return float(self._last.duration_ns)
        return self._period

    def _missing(self, last: Stamp, stamp: Stamp) -> int:
        if self.mode == 'none':
            return 0
        if self.mode == 'count':
            return self._by_count(last, stamp)
        if stamp.sensor_ns is None or last.sensor_ns is None:
            self.unseen += 1
            self._restart(stamp)
            return 0
        if stamp.sensor_ns <= last.sensor_ns:
            self.defects += 1
            self.unseen += 1               # what was lost around a reset cannot be known
            self._restart(stamp)
            return 0
        if self.mode == 'fixed_rate':
            assert self._grid is not None
            return self._grid.advance(stamp.sensor_ns)
        return self._by_duration(last, stamp, stamp.sensor_ns - last.sensor_ns)

    def _restart(self, stamp: Stamp) -> None:
        if self.mode == 'fixed_rate':
            assert self._period is not None
            self._grid = None if stamp.sensor_ns is None else _Grid(stamp.sensor_ns, self._period)

    def _by_count(self, last: Stamp, stamp: Stamp) -> int:
        if stamp.count is None or last.count is None:
            self.unseen += 1
            return 0
        if stamp.count <= last.count:      # reset: what was lost around it cannot be known
            self.unseen += 1
        return max(0, stamp.count - last.count - 1)

    def _by_duration(self, last: Stamp, stamp: Stamp, gap: int) -> int:
        before = last.duration_ns or stamp.duration_ns or self._period
        after = stamp.duration_ns or before
        if before is None or after is None:
            self.unseen += 1
            return 0
        if gap < SHORTEST_GAP * min(before, after):
            self.unseen += 1               # no frame ends so early: the clock was set back, perhaps over a lost frame
        missing_ns = gap - before
        if missing_ns < 0.5 * min(before, after):
            return 0
        # At least one: with durations further apart than threefold the mean alone would round a short one away.
        return max(1, int(missing_ns / (0.5 * (before + after)) + 0.5))


class _Grid:
    """The instants at which a camera of fixed rate makes its frames, followed through jitter and drift.

    A Kalman filter of two states, phase and period, in units of the granted period: it trusts the first frames'
    times much and later ones' little, so that jitter averages out while slow changes of the rate are followed.
    """

    def __init__(self, start_ns: int, period: float) -> None:
        self._granted = float(period)
        self._at = start_ns       # whole ns: a float loses them beyond 2**53
        self._fraction = 0.0
        self._stretch = 1.0       # true period / granted period
        self._phase_var, self._cross_var, self._rate_var = JITTER ** 2, 0.0, RATE_ERROR ** 2

    @property
    def period(self) -> float:
        """The true period as estimated, ns."""
        return self._granted * self._stretch

    def advance(self, sensor_ns: int) -> int:
        """Move on to the frame stamped sensor_ns; returns the grid points passed over without a frame."""
        elapsed = sensor_ns - self._at - self._fraction
        steps = max(1, int(elapsed / self.period + 0.5))
        residual = elapsed - steps * self.period
        phase_gain, rate_gain = self._gains(steps)
        self._move(steps * self.period + phase_gain * residual)
        stretch = 1 + (self._stretch - 1) * RATE_MEMORY ** steps + rate_gain * residual / self._granted
        self._stretch = min(max(stretch, 1 - RATE_LIMIT), 1 + RATE_LIMIT)
        return steps - 1

    def _gains(self, steps: int) -> Tuple[float, float]:
        """Predict the errors over so many periods, take in one timestamp, and return the filter's two gains."""
        phase = self._phase_var + steps * (2 * self._cross_var + steps * self._rate_var)
        cross = self._cross_var + steps * self._rate_var
        rate = self._rate_var + steps * RATE_WANDER ** 2
        total = phase + JITTER ** 2
        phase_gain, rate_gain = phase / total, cross / total
        self._phase_var, self._cross_var = (1 - phase_gain) * phase, (1 - phase_gain) * cross
        self._rate_var = rate - rate_gain * cross
        return phase_gain, rate_gain

    def _move(self, by_ns: float) -> None:
        whole = int(by_ns + self._fraction)
        self._fraction = by_ns + self._fraction - whole
        self._at += whole
