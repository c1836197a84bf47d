"""What each stage can do alone, in frames a second, and which one of them sets the limit."""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional

from .run import SAME_RATE, Measurements
from .trial import Trial

__all__ = ['CAMERA', 'CALLBACK', 'COMPRESSION', 'DISK', 'FOLDER', 'PROCESSOR', 'Rates', 'camera_is_slow',
           'limiting_stage', 'lost_on_the_way', 'rates', 'stage_rates']

CAMERA, CALLBACK, COMPRESSION, DISK = 'camera', 'callback', 'compression', 'disk'
#: No stage alone, but all of them together on these cores; and a folder that takes no recording.
PROCESSOR, FOLDER = 'processor', 'folder'

#: A stage that alone could do so many times what failed is not what made it fail.
NOT_TO_BLAME = 1.5


class Rates(NamedTuple):
    """The highest rates, Hz; None: not found.

    held: in trials, with nothing lost, by-passed or spared. lossless: with nothing lost. disk: what the disk takes for
    good at these efforts (beyond it the system's memory only hides that it does not). sustained: the least of held and
    disk. at_least: held at the highest rate that was tried.
    """

    held: Optional[float]
    lossless: Optional[float]
    disk: Optional[float]
    sustained: Optional[float]
    at_least: bool


def rates(measured: Measurements) -> Rates:
    """The highest rates as measured."""
    held = measured.as_asked.held_hz if measured.as_asked is not None else None
    disk = disk_rate(measured, 'as_asked', held)
    sustained = held if disk is None or held is None else min(held, disk)
    at_least = held is not None and held >= measured.ceiling_hz and sustained == held
    return Rates(held, _lossless(measured, held), disk, sustained, at_least)


def _lossless(measured: Measurements, held: Optional[float]) -> Optional[float]:
    """Pages are larger where effort has fallen, and the disk's share of the matter grows."""
    found = measured.without_loss.held_hz if measured.without_loss is not None else None
    best = None
    for purpose, rate in (('as_asked', held), ('without_loss', found)):
        if rate is not None:
            disk = disk_rate(measured, purpose, rate)
            best = max(best or 0.0, rate if disk is None else min(rate, disk))
    return best


def disk_rate(measured: Measurements, purpose: str, rate_hz: Optional[float]) -> Optional[float]:
    """Frames a second that the disk takes for good, as large as that trial's (else as the camera's run's)."""
    trial = measured.trial_at(purpose, rate_hz) or measured.camera_run
    if measured.disk is None or trial is None or not trial.bytes_a_frame:
        return None
    return measured.disk.bytes_a_second / trial.bytes_a_frame


def stage_rates(measured: Measurements) -> Dict[str, float]:
    """Hz of each stage alone, without the camera, as far as it was measured and can set a limit."""
    found: Dict[str, float] = {}
    if measured.every and measured.callback_mean_ms:
        found[CALLBACK] = 1000 / measured.callback_mean_ms
    if measured.codec:
        found[COMPRESSION] = measured.codec[0].rate_hz
    disk = disk_rate(measured, 'camera', None)
    if disk is not None:
        found[DISK] = disk
    return found


def limiting_stage(measured: Measurements) -> Optional[str]:
    """What sets the limit; None: nothing did, at any rate that was tried."""
    if not measured.place.takes_recordings:
        return FOLDER
    if camera_is_slow(measured) or lost_on_the_way(measured):
        return CAMERA
    found = rates(measured)
    stages = stage_rates(measured)
    if found.disk is not None and found.held is not None and found.disk < found.held:
        return DISK
    failed = _first_failure(measured)
    if failed is None:
        return None
    return _to_blame(failed, stages, measured.every)


def camera_is_slow(measured: Measurements) -> bool:
    """Whether the camera gave less than the rate that was asked for."""
    camera_run = measured.camera_run
    return camera_run is not None and not camera_run.granted.waits \
        and camera_run.camera_hz < SAME_RATE * measured.asked_hz


def lost_on_the_way(measured: Measurements) -> bool:
    """Whether frames were lost before they reached the ring."""
    camera_run = measured.camera_run
    return camera_run is not None and any(loss.reason != 'ring full' for loss in camera_run.report.losses)


def _first_failure(measured: Measurements) -> Optional[Trial]:
    """The trial at the lowest rate that did not hold; else the camera's own run, where that did not."""
    if measured.as_asked is not None and measured.as_asked.failed_hz is not None:
        return measured.trial_at('as_asked', measured.as_asked.failed_hz)
    camera_run = measured.camera_run
    if camera_run is None or measured.starts_slowly or not camera_run.shortfalls(measured.every):
        return None
    return camera_run


def _to_blame(failed: Trial, stages: Dict[str, float], every: bool) -> str:
    suspects: List[str] = [CALLBACK] if 'by-passed' in failed.shortfalls(every) and CALLBACK in stages \
        else list(stages)
    if not suspects:
        return PROCESSOR
    slowest = min(suspects, key=stages.__getitem__)
    return slowest if stages[slowest] < NOT_TO_BLAME * failed.rate_hz else PROCESSOR
