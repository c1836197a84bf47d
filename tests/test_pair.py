"""Pairs of cameras, event by event: who belongs to whom, and cameras that share a thread or do not close."""

from __future__ import annotations

import threading
from typing import Any, Collection, Dict, List, Optional

import numpy as np
import pytest
from camera_kit import ListSink
from recording_tools import wait_until

from ProcessedPiRecorder.cameras import Camera, CameraRequest, FrameSink, Granted, Stamp, StereoPair
from ProcessedPiRecorder.pipeline.losses import LossDetector

PERIOD_NS = 20_000_000
NOTHING: Collection[int] = ()


class Pushing(Camera):
    """Its frames come by ``push``, from whichever thread calls that."""

    name = 'pushing'
    sink: Optional[FrameSink] = None

    def open(self, request: CameraRequest) -> Granted:
        self._done = threading.Event()
        return Granted(8, 8, 8, 8, 1e9 / PERIOD_NS, 'gray', 'test', 'frame_duration', clock_base='monotonic')

    def stream(self, sink: FrameSink) -> None:
        sink.when_stopping(self._done.set)
        self.sink = sink
        self._done.wait()

    def push(self, number: int, sensor_ns: float) -> None:
        assert self.sink is not None
        self.sink.slot()[...] = number % 256
        self.sink.commit(Stamp(int(sensor_ns), PERIOD_NS))


class CountingSink(ListSink):
    """Counts losses as the recorder does."""

    total = 0

    def __init__(self, granted: Granted) -> None:
        super().__init__(granted)
        self._detector = LossDetector(granted.loss_detection)

    def commit(self, stamp: Stamp) -> None:
        self.total += self._detector.see(stamp, 0)
        super().commit(stamp)

    def lost(self, count: int, reason: str, sensor_ns: Optional[int] = None, detail: str = '') -> None:
        super().lost(count, reason, sensor_ns, detail)
        self.total += count
        self._detector.reported(count)


class Rig:
    """A pair in a thread, fed with frames of two regular cameras from this one: frames left out are lost ones."""

    def __init__(self) -> None:
        self.left, self.right = Pushing(), Pushing()
        self.pair = StereoPair(self.left, self.right)
        self.sink = CountingSink(self.pair.open(CameraRequest(pixel_format='gray')))
        self.pair.start()
        self._thread = threading.Thread(target=self.pair.stream, args=(self.sink,))
        self._thread.start()
        wait_until(lambda: self.left.sink and self.right.sink)

    def feed(self, count: int, phase: float = 0.0, drift: float = 0.0, jitter: float = 0.0,
             left_lost: Collection[int] = NOTHING, right_lost: Collection[int] = NOTHING) -> None:
        """All but the counts are in frame periods; ``drift`` is a frame's."""
        shake = np.random.default_rng(1).normal(0, jitter, (2, count)) if jitter else np.zeros((2, count))
        events = [(number + shake[0, number], self.left, number) for number in range(count)
                  if number not in left_lost]
        events += [(number * (1 + drift) + phase + shake[1, number], self.right, number) for number in range(count)
                   if number not in right_lost]
        for when, camera, number in sorted(events, key=lambda event: event[0]):
            camera.push(number, 1e12 + when * PERIOD_NS)

    def end(self) -> Dict[str, Any]:
        """What the pair tells, when all frames have been paired."""
        wait_until(lambda: not self.pair._eyes or not all(eye.waiting for eye in self.pair._eyes))
        self.pair.close()
        self._thread.join()
        return self.pair.statistics()


@pytest.fixture
def rig() -> Any:
    rig = Rig()
    yield rig
    rig.end()


@pytest.mark.parametrize('jitter', [0, 0.001, 0.01])
@pytest.mark.parametrize('drift', [1e-4, -1e-4])
def test_cameras_that_drift_past_each_other_lose_one_frame(rig: Rig, drift: float, jitter: float) -> None:
    rig.feed(3000, phase=0.4 if drift > 0 else -0.4, drift=drift, jitter=jitter)
    facts = rig.end()
    assert facts['unpaired'] == rig.sink.total == 1 and facts['pairs'] >= 2998
    assert facts['skew_max_ms'] <= 0.65 * PERIOD_NS / 1e6


@pytest.mark.parametrize('phase', [-0.45, 0.0, 0.3, 0.45, 0.49])
@pytest.mark.parametrize('eye', ['left', 'right'])
def test_a_lost_frame_does_not_change_partners(rig: Rig, eye: str, phase: float) -> None:
    lost = {30, 60, 61, 62}
    rig.feed(100, phase, jitter=0.005, **{f'{eye}_lost': lost})       # type: ignore[arg-type]
    facts = rig.end()
    other = 'right' if eye == 'left' else 'left'
    assert facts['unpaired_by_eye'] == {eye: 0, other: 4} and rig.sink.total == 4 and facts['pairs'] == 96
    pairs: List[Any] = [(image[0, 0], image[0, 8]) for image in rig.sink.frames]
    assert all(left == right for left, right in pairs)


def test_an_eye_that_is_silent_for_long_does_not_block_the_thread_of_both(rig: Rig) -> None:
    feeding = threading.Thread(target=rig.feed, args=(60,), kwargs={'right_lost': range(20, 31)}, daemon=True)
    feeding.start()
    feeding.join(30)
    assert not feeding.is_alive()
    assert rig.end()['pairs'] == 49 and rig.sink.total == 11


def test_both_eyes_are_closed_though_one_cannot() -> None:
    closed = []

    class Stuck(Pushing):
        def close(self) -> None:
            closed.append(self)
            raise OSError('the bus hangs')

    left, right = Stuck(), Stuck()
    pair = StereoPair(left, right)
    pair.open(CameraRequest(pixel_format='gray'))
    with pytest.raises(OSError, match='the bus hangs'):
        pair.close()
    assert closed == [left, right]
