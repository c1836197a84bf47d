"""Losses are found exactly where the truth has them, and nowhere else."""

from __future__ import annotations

from itertools import accumulate
from typing import Any, Dict, List, Optional, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ProcessedPiRecorder.cameras import CameraRequest, Stamp, SyntheticCamera
from ProcessedPiRecorder.pipeline.losses import LossDetector

MS = 1_000_000


def found(detector: LossDetector, stamps: Dict[int, Stamp]) -> List[int]:
    """What the detector says before each delivered frame."""
    return [detector.see(stamp, 0) for stamp in stamps.values()]


def truth(delivered: Sequence[int]) -> List[int]:
    return [0] + [now - before - 1 for before, now in zip(delivered, delivered[1:])]


def durations_to_stamps(durations: Sequence[int], delivered: Sequence[int], start: int = 10**12) -> Dict[int, Stamp]:
    starts = list(accumulate(durations, initial=start))
    return {index: Stamp(starts[index], durations[index]) for index in delivered}


kept = st.lists(st.integers(1, 6), min_size=2, max_size=60).map(lambda steps: list(accumulate(steps, initial=0)))


@pytest.mark.parametrize('actual_hz', [60, 12])
@pytest.mark.parametrize('mode', ['frame_duration', 'fixed_rate', 'count'])
def test_every_tenth_frame_of_a_camera_at_another_rate_than_asked(actual_hz: float, mode: str) -> None:
    camera = SyntheticCamera(pace=False, actual_hz=actual_hz, lose_every=10, frames=1000, loss_detection=mode,
                             width=16, height=16)
    granted = camera.open(CameraRequest(framerate=25))
    assert granted.framerate == actual_hz
    camera.start()
    detector = LossDetector(mode, 1e9 / granted.framerate)
    out, place = np.empty(granted.frame_shape, np.uint8), 0
    for stamp in iter(lambda: camera.read(out), None):
        lost = detector.see(stamp, 0)
        assert lost == sum(camera.is_lost(index) for index in range(place, place + lost))
        assert camera.index_of(out) == (place + lost) % 2**16
        place += lost + 1
    assert place == 999      # the last one, number 999, is lost, and nothing comes after it to show it


@given(kept, st.integers(MS, 200 * MS), st.integers(0, 10**15))
def test_constant_durations(delivered: List[int], period: int, start: int) -> None:
    stamps = durations_to_stamps([period] * (delivered[-1] + 1), delivered, start)
    for mode in ('frame_duration', 'fixed_rate'):
        detector = LossDetector(mode, period)
        assert found(detector, stamps) == truth(delivered)
        assert (detector.defects, detector.unseen) == (0, 0)


@given(st.lists(st.sampled_from([20 * MS, 40 * MS, 55 * MS]), min_size=3, max_size=80), st.data())
def test_auto_exposure_with_single_losses_is_exact(durations: List[int], data: Any) -> None:
    lost = data.draw(st.sets(st.integers(1, len(durations) - 2)))
    delivered = [index for index in range(len(durations)) if index not in lost or index - 1 in lost]
    # Where the lost frame's own duration is that of a neighbour, as it is when exposure changes in steps.
    for index in set(range(len(durations))) - set(delivered):
        durations[index] = data.draw(st.sampled_from([durations[index - 1], durations[index + 1]]))
    stamps = durations_to_stamps(durations, delivered)
    assert found(LossDetector('frame_duration'), stamps) == truth(delivered)


def test_rate_halved_by_auto_exposure_loses_nothing() -> None:
    durations = [40 * MS] * 50 + [80 * MS] * 50 + [40 * MS] * 50
    stamps = durations_to_stamps(durations, range(150))
    assert sum(found(LossDetector('frame_duration'), stamps)) == 0


@given(kept, st.data())
def test_jitter_of_gaps_up_to_40_percent(delivered: List[int], data: Any) -> None:
    period = 20 * MS
    jitter = data.draw(st.lists(st.floats(-0.19, 0.19), min_size=len(delivered), max_size=len(delivered)))
    if delivered[-1] > 20 or len(delivered) > 20:       # adversarial jitter is bounded; a random walk is below
        jitter = list(np.random.default_rng(len(delivered)).uniform(-0.2, 0.2, len(delivered)))
    stamps = {index: Stamp(10**12 + index * period + int(off * period)) for index, off in zip(delivered, jitter)}
    assert found(LossDetector('fixed_rate', period), stamps) == truth(delivered)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.sampled_from([-0.02, -0.01, 0.0, 0.01, 0.02, None]))
def test_jitter_and_a_clock_that_is_off_or_drifts(seed: int, off: Optional[float]) -> None:
    random, period, frames = np.random.default_rng(seed), 1e9 / 60, 800
    slow = 0.02 * np.sin(np.arange(frames) / 300)
    times = np.cumsum(period * (1 + (slow if off is None else off)) * np.ones(frames))
    delivered = [0] + [index for index in range(1, frames) if random.random() > 0.1]
    stamps = {index: Stamp(int(times[index] + random.uniform(-0.19, 0.19) * period)) for index in delivered}
    assert found(LossDetector('fixed_rate', period), stamps) == truth(delivered)


def test_the_asked_rate_is_no_yardstick_but_the_granted_one_is() -> None:
    stamps = {index: Stamp(index * 80 * MS) for index in range(100)}
    assert sum(found(LossDetector('fixed_rate', 80 * MS), stamps)) == 0


def test_a_long_gap_at_a_rate_that_is_off_is_counted_with_the_followed_rate() -> None:
    true_period = int(1e9 / 60 * 1.01)
    delivered = [*range(300), *range(500, 600)]
    stamps = {index: Stamp(index * true_period) for index in delivered}
    assert found(LossDetector('fixed_rate', 1e9 / 60), stamps) == truth(delivered)


def test_counters_that_are_reset_lose_nothing() -> None:
    counts = [7, 8, 10, 0, 1, 4, 4, 5]
    detector = LossDetector('count')
    assert [detector.see(Stamp(count=count), 0) for count in counts] == [0, 0, 1, 0, 0, 2, 0, 0]


def test_without_means_nothing_is_found() -> None:
    detector = LossDetector('none')
    assert [detector.see(Stamp(time), time) for time in (0, 10**9, 10**10)] == [0, 0, 0]


@pytest.mark.parametrize('mode', ['frame_duration', 'fixed_rate'])
def test_a_clock_that_does_not_increase_is_a_defect_and_no_loss(mode: str) -> None:
    detector = LossDetector(mode, 10 * MS)
    times = [100, 110, 110, 90, 100, 120]
    lost = [detector.see(Stamp(time * MS, 10 * MS), 0) for time in times]
    assert lost == [0, 0, 0, 0, 0, 1]
    assert detector.defects == 2


def test_a_clock_that_is_set_back_by_a_part_of_a_frame_is_seen() -> None:
    detector = LossDetector('frame_duration')
    assert [detector.see(Stamp(time * MS, 10 * MS), 0) for time in (0, 10, 13, 23)] == [0, 0, 0, 0]
    assert (detector.unseen, detector.defects) == (1, 0)


def test_a_duration_that_is_halved_and_told_late_is_none() -> None:
    detector = LossDetector('frame_duration')
    for time, lasts in ((0, 20), (20, 20), (30, 20), (40, 10), (50, 10)):
        assert detector.see(Stamp(time * MS, lasts * MS), 0) == 0
    assert detector.unseen == 0


def test_frames_without_timestamps_are_counted_as_blind_spots() -> None:
    detector = LossDetector('frame_duration')
    for stamp in (Stamp(0, 10 * MS), Stamp(), Stamp(30 * MS, 10 * MS), Stamp(40 * MS, 10 * MS)):
        assert detector.see(stamp, 0) == 0
    assert detector.unseen == 2


def test_what_the_camera_reports_is_not_counted_twice() -> None:
    detector = LossDetector('fixed_rate', 10 * MS)
    detector.see(Stamp(0), 0)
    detector.reported(1)
    assert detector.see(Stamp(40 * MS), 0) == 2
    assert detector.see(Stamp(60 * MS), 0) == 1


def test_stalls() -> None:
    detector = LossDetector('fixed_rate', 200 * MS)
    detector.see(Stamp(0), 0)
    detector.see(Stamp(2100 * MS), 0)
    assert detector.is_stall(detector.last_gap_ns)
    assert not detector.is_stall(1900 * MS)      # not ten periods
    fast = LossDetector('fixed_rate', 10 * MS)
    assert fast.is_stall(1000 * MS) and not fast.is_stall(999 * MS)
    assert LossDetector('none').is_stall(1000 * MS)


def test_gaps_are_told_by_the_host_where_the_camera_has_no_clock() -> None:
    detector = LossDetector('none')
    detector.see(Stamp(), 5)
    assert detector.last_gap_ns == 0
    detector.see(Stamp(), 25)
    assert detector.last_gap_ns == 20


@pytest.mark.parametrize(('mode', 'period'), [('asked_rate', None), ('fixed_rate', None), ('count', 0), ('count', -1)])
def test_impossible_detectors(mode: str, period: Optional[float]) -> None:
    with pytest.raises(ValueError, match='loss_detection|period_ns'):
        LossDetector(mode, period)
