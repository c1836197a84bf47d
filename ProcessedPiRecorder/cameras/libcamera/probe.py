"""What the first frames of a libcamera camera tell about it: its rate, its clock, how its losses can be seen."""

from __future__ import annotations

from statistics import median
from typing import List, NamedTuple, Optional, Sequence

from ...errors import CameraFormatError
from ..opencv import HOST_CLOCK
from ..stacks import RATE_TOLERANCE

__all__ = ['Evidence', 'Sample', 'judge', 'require_rate']

NEAR_WHOLE = 0.1           # of a period: jitter of a timestamp
SAME_CLOCKS_NS = 1_000_000
PLAUSIBLE_AGE_NS = 5_000_000_000

MISLEADS = ('some drivers stamp the start of the exposure, others the start of the readout, later by the exposure time')


class Sample(NamedTuple):
    """One frame's own times, and both clocks when it arrived."""

    sensor_ns: Optional[int]
    duration_us: Optional[float]
    monotonic_ns: int
    boottime_ns: int


class Evidence(NamedTuple):
    """What was found. ``clock`` is for people; the others as in ``Granted``."""

    rate: float                  # Hz
    loss_detection: str
    clock_base: str
    clock: str


def judge(samples: Sequence[Sample], fixed_us: Optional[int]) -> Evidence:
    """From at least two frames in a row.

    ``fixed_us``: the frame duration to which the camera was told to keep, where it takes such orders.

    FrameDuration is the yardstick where the frames bear it and their timestamps agree with it: libcamera defines it
    as the time from the start of this frame to the start of the next. Failing that, a fixed duration that the
    timestamps keep. libcamera's ``sequence`` is not used: it misses drops, and is reset.
    """
    settled = samples[-max(2, len(samples) * 2 // 3):]         # the first frames may still be finding their rate
    base, clock = _clock(settled)
    if base == 'own':
        return Evidence(1e9 / _period([one.monotonic_ns for one in settled]), 'none', base, clock)
    gap_ns = _period([one.sensor_ns for one in settled if one.sensor_ns is not None])
    durations = [one.duration_us for one in settled if one.duration_us]
    if len(durations) == len(settled):
        duration_ns = 1000 * median(durations)
        if abs(gap_ns / duration_ns - max(1, round(gap_ns / duration_ns))) <= NEAR_WHOLE:
            return Evidence(1e9 / duration_ns, 'frame_duration', base, clock)
    keeps = fixed_us is not None and abs(gap_ns - 1000 * fixed_us) <= RATE_TOLERANCE * gap_ns
    return Evidence(1e9 / gap_ns, 'fixed_rate' if keeps else 'none', base, clock)


def require_rate(asked: float, given: float, camera: str) -> None:
    """Raise CameraFormatError unless the rate found is the one asked, within 2 %; 0 asks for nothing."""
    if asked and abs(given - asked) > RATE_TOLERANCE * asked:
        raise CameraFormatError(f'{camera} runs at {given:.4g} Hz, not at the {asked:g} Hz that were asked: ask for '
                                'that, or for 0, its own; a shorter exposure, or a smaller resolution, may make it '
                                'faster')


def _period(times: List[int]) -> float:
    """From frame to frame, ns: over the whole time, so that timestamps that shiver do not mislead it."""
    gaps = [later - earlier for earlier, later in zip(times, times[1:]) if later > earlier]
    if not gaps:
        return 1e9
    usual = median(gaps)
    return sum(gaps) / sum(max(1, round(gap / usual)) for gap in gaps)      # a gap may hold lost frames


def _clock(samples: Sequence[Sample]) -> 'tuple[str, str]':
    """(clock_base, clock) from how old the frames were by both of the system's clocks when they came.

    The two differ by the time that the machine has slept. A frame is never from the future.
    """
    stamps = [one.sensor_ns for one in samples]
    if None in stamps:
        return 'own', HOST_CLOCK
    ages = [(one.monotonic_ns - one.sensor_ns, one.boottime_ns - one.sensor_ns)      # type: ignore[operator]
            for one in samples]
    youngest = min(age[0] for age in ages), min(age[1] for age in ages)
    # Long frames are old already when they come.
    oldest_ns = PLAUSIBLE_AGE_NS + 2 * _period([one.monotonic_ns for one in samples])
    # Whoever loses the processor between the two readings finds them further apart than they are.
    slept_ns = min(one.boottime_ns - one.monotonic_ns for one in samples)
    if not any(0 <= age <= oldest_ns for age in youngest):
        return 'own', (f'libcamera\'s SensorTimestamp, on a clock that is neither CLOCK_BOOTTIME nor CLOCK_MONOTONIC; '
                       f'{MISLEADS}')
    if slept_ns < SAME_CLOCKS_NS:
        return 'boottime', ('libcamera\'s SensorTimestamp on CLOCK_BOOTTIME, as it documents; CLOCK_MONOTONIC reads '
                            f'the same, as this machine has not slept since it was started; {MISLEADS}')
    # By CLOCK_MONOTONIC, a frame stamped on CLOCK_BOOTTIME comes from the future, by the time slept.
    base = 'monotonic' if 0 <= youngest[0] <= oldest_ns else 'boottime'
    return base, (f'libcamera\'s SensorTimestamp on CLOCK_{base.upper()}, as found by comparing it with both clocks '
                  f'(this machine has slept for {slept_ns / 1e9:.3f} s); {MISLEADS}')
