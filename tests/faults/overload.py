"""More frames than can be written: what is lost is exactly what is reported, and effort falls before that."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path
from typing import Any, Callable, Dict

from ProcessedPiRecorder.recordings.encoder import PageEncoder
from tests.faults.cameras import process_of
from tests.faults.outcome import CannotBeMade, Outcome
from tests.faults.registry import Expect, fault
from tests.faults.trial import PACED, SHORT, Trial, seconds

NO_LIMIT: Dict[str, Any] = {'start_method': None}       # what is patched here is inherited by forks only


def slow_encoder(pause_s: Callable[[str], float]) -> None:
    """Encoding a page with an effort takes so much longer, whatever this machine's speed is."""
    encode = PageEncoder.encode

    def slowly(self: PageEncoder, image: Any, effort: str, *more: Any, **options: Any) -> Any:
        time.sleep(pause_s(effort))
        return encode(self, image, effort, *more, **options)

    PageEncoder.encode = slowly          # type: ignore[method-assign]


def overloaded(folder: Path, rng: random.Random, **settings: Any) -> Trial:
    chosen = {'framerate': 200, 'rec_length': 0.8 if SHORT else 2.0, 'ring_frames': rng.choice((4, 8, 32)),
              **NO_LIMIT, **settings}
    return Trial(folder, rng, camera=PACED, **chosen)


@fault('ring full', group='overload', expects=Expect('', 'no'))
def ring_full(folder: Path, rng: random.Random) -> Outcome:
    """Even storing raw is too slow: the newest incoming frames are lost, and told."""
    pause = rng.uniform(0.02, 0.06)
    slow_encoder(lambda effort: pause)
    outcome = overloaded(folder, rng).run().judged()
    if outcome.complete == 'no' and 'ring full' not in outcome.notes and outcome.recorded == 0:
        outcome.ledger_disagrees.append('nothing was recorded')
    return outcome


@fault('overload', group='overload', expects=Expect('', None))
def overload(folder: Path, rng: random.Random) -> Outcome:
    """Every effort is too slow but storing: effort falls, and as long as storing keeps up nothing is lost."""
    pause = rng.uniform(0.05, 0.1)
    slow_encoder(lambda effort: 0.0 if effort in ('none', 'stored') else pause)
    trial = overloaded(folder, rng, tif_compression=rng.choice((1, 6, 9)), ring_frames=32)
    outcome = trial.run().judged()
    if trial.report is not None and not trial.report.effort.get('stored'):
        outcome.ledger_disagrees.append(f'effort never fell to stored: {trial.report.effort}')
    return outcome


@fault('overload, and the callback is slow too', group='overload', expects=Expect('', None))
def overload_with_callback(folder: Path, rng: random.Random) -> Outcome:
    pause = rng.uniform(0.005, 0.04)
    slow_encoder(lambda effort: pause)
    return overloaded(folder, rng, callback=Slow(pause), cb_type=rng.choice(('2Proc', '3Proc'))).run().judged()


class Slow:
    def __init__(self, pause_s: float) -> None:
        self.pause_s = pause_s

    def __call__(self, buffer: Any, cb_queue: Any) -> None:
        time.sleep(self.pause_s)


@fault('writer stopped until the ring is full', group='overload', expects=Expect('', None))
def writer_stopped(folder: Path, rng: random.Random) -> Outcome:
    def stop_writer(recorder: Any) -> None:
        writer = process_of('writer', recorder)
        if writer is None:
            raise CannotBeMade('the writer process was gone before it could be stopped')
        time.sleep(rng.uniform(0.05, 0.2))
        writer.send_signal(signal.SIGSTOP)
        time.sleep(seconds(rng, 0.3, 1.0))
        writer.send_signal(signal.SIGCONT)

    return overloaded(folder, rng).run(stop_writer).judged()


@fault('a burst at the start', group='overload', expects=Expect('', None))
def burst(folder: Path, rng: random.Random) -> Outcome:
    """The camera's buffers are full when the first page is still being made."""
    pauses = [0.3]
    slow_encoder(lambda effort: pauses.pop() if pauses else 0.0)
    return overloaded(folder, rng, framerate=rng.choice((200, 400))).run().judged()
