"""What a camera can do to a recording: gaps, silence, failures, and counters and clocks that lie."""

from __future__ import annotations

import random
import signal
import threading
import time
from pathlib import Path
from typing import Any, Dict, Optional

import psutil

from ProcessedPiRecorder.cameras import Stamp
from tests.faults.outcome import Outcome
from tests.faults.registry import Expect, fault
from tests.faults.trial import PACED, SHORT, Trial, seconds

GAP = Expect('', 'no')


def record(folder: Path, rng: random.Random, camera: Dict[str, Any], *, change: Any = None,
           own_numbers: bool = False, **settings: Any) -> Outcome:
    trial = Trial(folder, rng, camera=camera, change=change, **settings)
    return trial.run().judged(own_numbers=own_numbers)


def length(rng: random.Random) -> float:
    return seconds(rng, 0.6, 2.0)


@fault('camera gap', group='camera', expects=GAP)
def gap(folder: Path, rng: random.Random) -> Outcome:
    """Frames that the sensor made and nobody gave: single ones, and runs."""
    skip = set()
    for _ in range(rng.randint(1, 6)):
        start = rng.randrange(2, 35)
        skip |= set(range(start, start + rng.choice((1, 1, 2, 5))))
    detection = rng.choice(('frame_duration', 'fixed_rate', 'count'))
    return record(folder, rng, {'skip': tuple(sorted(skip)), 'loss_detection': detection})


@fault('camera gap while the rate changes', group='camera', expects=GAP)
def gap_at_other_rates(folder: Path, rng: random.Random) -> Outcome:
    """As automatic exposure does it: the frame's own duration is the yardstick."""
    pattern = ((rng.randint(8, 20), 1.0), (rng.randint(8, 20), rng.choice((1.5, 2.0))))
    return record(folder, rng, {'lose_every': rng.randint(7, 20), 'duration_pattern': pattern})


@fault('camera gap, camera gives no times', group='camera', expects=Expect('', 'unknown'))
def gap_unseen(folder: Path, rng: random.Random) -> Outcome:
    """Nobody can see it, and nobody may say that nothing is missing."""
    return record(folder, rng, {'lose_every': 10, 'loss_detection': 'none'}, own_numbers=True)


@fault('camera error', group='camera', expects=Expect('CameraError', 'no'))
def breaks(folder: Path, rng: random.Random) -> Outcome:
    return record(folder, rng, {'raise_at': rng.randrange(2, 40)})


@fault('camera error at the first frame', group='camera', expects=Expect('CameraError', 'no'))
def breaks_at_once(folder: Path, rng: random.Random) -> Outcome:
    return record(folder, rng, {'raise_at': 0})


@fault('camera ends its process', group='camera', expects=Expect('ProcessDiedError', 'no'))
def exits(folder: Path, rng: random.Random) -> Outcome:
    how = rng.choice(({'exit_at': 20, 'exit_code': rng.randrange(4)}, {'kill_at': 20, 'kill_signal': rng.choice(
        (signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT))}))
    return record(folder, rng, {name: int(value) for name, value in how.items()})


@fault('stall, and it goes on', group='camera', expects=GAP)
def stalls(folder: Path, rng: random.Random) -> Outcome:
    """Shorter than camera_timeout: a loss, of the length that the sensor's times show."""
    camera = {**PACED, 'stall_at': rng.randrange(5, 30), 'stall_s': rng.uniform(1.05, 1.5)}
    return record(folder, rng, camera, rec_length=2.2, framerate=60, camera_timeout=10)


@fault('stall for good', group='camera', expects=Expect('CameraStalledError', 'no'))
def stalls_for_good(folder: Path, rng: random.Random) -> Outcome:
    camera = {**PACED, 'stall_at': rng.randrange(5, 30), 'stall_s': 600.0}
    return record(folder, rng, camera, framerate=100, camera_timeout=rng.uniform(0.3, 1.0))


@fault('camera hangs and cannot be stopped', group='camera', expects=Expect('CameraStalledError', 'no'))
def hangs(folder: Path, rng: random.Random) -> Outcome:
    """Firmware that never comes back: nothing wakes it."""
    return record(folder, rng, PACED, change=HangAt(rng.randrange(5, 30)), framerate=100, camera_timeout=0.5)


class HangAt:
    def __init__(self, frame: int) -> None:
        self.frame = frame

    def __call__(self, stamp: Stamp, before: int, number: int) -> Stamp:
        while before >= self.frame:
            time.sleep(60)
        return stamp


@fault('counter set back', group='camera', expects=Expect('', ('unknown', 'no')))
def counter_reset(folder: Path, rng: random.Random) -> Outcome:
    """A counter that begins anew hides what was lost meanwhile: 'yes' would be a lie."""
    return record(folder, rng, {'loss_detection': 'count'}, change=CounterFrom(rng.randrange(5, 30)),
                  own_numbers=True)


class CounterFrom:
    """The counter begins anew at this frame."""

    def __init__(self, frame: int) -> None:
        self.frame = frame

    def __call__(self, stamp: Stamp, before: int, number: int) -> Stamp:
        return stamp if before < self.frame else stamp._replace(count=number - self.frame)


@fault('counter jumps ahead', group='camera', expects=GAP)
def counter_jumps(folder: Path, rng: random.Random) -> Outcome:
    return record(folder, rng, {'loss_detection': 'count'}, change=Ahead(rng.randrange(5, 30), rng.randint(1, 50)),
                  own_numbers=True)


class Ahead:
    def __init__(self, frame: int, by: int) -> None:
        self.frame, self.by = frame, by

    def __call__(self, stamp: Stamp, before: int, number: int) -> Stamp:
        return stamp if before < self.frame else stamp._replace(count=number + self.by)


@fault('counter missing at times', group='camera', expects=Expect('', ('unknown', 'no')))
def counter_dropped(folder: Path, rng: random.Random) -> Outcome:
    return record(folder, rng, {'loss_detection': 'count'}, change=Without('count', rng.randrange(5, 30)),
                  own_numbers=True)


class Without:
    """One frame comes without this."""

    def __init__(self, what: str, frame: int) -> None:
        self.what, self.frame = what, frame

    def __call__(self, stamp: Stamp, before: int, number: int) -> Stamp:
        return stamp._replace(**{self.what: None}) if before == self.frame else stamp


@fault('camera clock missing at times', group='camera', expects=Expect('', ('unknown', 'no')))
def time_dropped(folder: Path, rng: random.Random) -> Outcome:
    return record(folder, rng, {}, change=Without('sensor_ns', rng.randrange(5, 30)), own_numbers=True)


@fault('camera clock set back', group='camera', expects=Expect('', ('unknown', 'no')))
def clock_back(folder: Path, rng: random.Random) -> Outcome:
    # Nobody can see a step of a part of a frame, in which nothing is lost.
    return record(folder, rng, {}, change=ClockStep(rng.randrange(5, 30), -10 ** rng.randint(8, 13)),
                  own_numbers=True)


@fault('camera clock jumps ahead', group='camera', expects=Expect('', ('unknown', 'no')))
def clock_ahead(folder: Path, rng: random.Random) -> Outcome:
    """To the recorder this is a gap, and is told as one: rather a loss too many than one too few."""
    return record(folder, rng, {}, change=ClockStep(rng.randrange(5, 30), 10 ** rng.randint(8, 11)),
                  own_numbers=True)


class ClockStep:
    def __init__(self, frame: int, by_ns: int) -> None:
        self.frame, self.by_ns = frame, by_ns

    def __call__(self, stamp: Stamp, before: int, number: int) -> Stamp:
        if before < self.frame or stamp.sensor_ns is None:
            return stamp
        return stamp._replace(sensor_ns=stamp.sensor_ns + self.by_ns)


@fault('reader stopped and continued (SIGSTOP)', group='camera', expects=Expect('', None))
def reader_stopped(folder: Path, rng: random.Random) -> Outcome:
    """The camera's few buffers run over meanwhile: exactly those frames are lost, and told."""
    def stop_reader(recorder: Any) -> None:
        reader = process_of('reader', recorder)
        if reader is None:
            return
        time.sleep(rng.uniform(0.05, 0.4))
        reader.send_signal(signal.SIGSTOP)
        threading.Event().wait(seconds(rng, 0.3, 1.5))
        reader.send_signal(signal.SIGCONT)

    camera = {**PACED, 'buffers': rng.choice((4, 4, 2000))}
    trial = Trial(folder, rng, camera=camera, rec_length=1.5 if SHORT else 2.5, framerate=100)
    return trial.run(stop_reader).judged()


def process_of(role: str, recorder: Any) -> Optional[psutil.Process]:
    """A process of the running recording, by its place among the keeper's children."""
    keeper = psutil.Process(recorder._run.keeper.pid)
    if role == 'keeper':
        return keeper
    children = sorted(keeper.children(), key=lambda child: child.pid)
    place = {'reader': 0, 'writer': 1, 'callback': 2}[role]
    return children[place] if len(children) > place else None


