"""What a callback can do to a recording, in both lanes: it may cost its own results, never a frame."""

from __future__ import annotations

import ctypes
import os
import random
import resource
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple, Type

import numpy as np

from ProcessedPiRecorder.errors import RecorderError
from ProcessedPiRecorder.recordings.results import read_results
from tests.faults.outcome import Outcome
from tests.faults.registry import Expect, fault
from tests.faults.trial import PACED, SHORT, Trial, frames

MB = 1 << 20
CALLS = 6                 # until a leak has used up what there is
SAFE = Expect('CallbackError', 'yes')
#: Under '2Proc' a callback that ends its process ends the writer: the price of that lane, and documented.
WRITER_DIES = Expect('ProcessDiedError', 'no')


def negative(image: np.ndarray) -> np.ndarray:
    """What the callbacks here return; its own inverse."""
    return 255 - image


class Misbehaving:
    """Returns negatives, puts a result a frame, and does ``harm`` at these frames. Travels to spawned processes.

    onwards: at each frame from the first of them on, for deliveries that leave frames out.
    """

    onwards = False

    def __init__(self, at: Tuple[int, ...] = ()) -> None:
        self.at = at

    def __call__(self, buffer: Any, cb_queue: Any) -> Any:
        frame = buffer[-1]
        cb_queue.put({'index': frame.index})
        if frame.index in self.at or (self.onwards and frame.index >= self.at[0]):
            return self.harm(buffer, cb_queue)
        return negative(frame)

    def harm(self, buffer: Any, cb_queue: Any) -> Any:
        raise NotImplementedError


class Raising(Misbehaving):
    def __init__(self, at: Tuple[int, ...], kind: Type[BaseException]) -> None:
        super().__init__(at)
        self.kind = kind

    def harm(self, buffer: Any, cb_queue: Any) -> Any:
        buffer[-1][:] = 7
        raise self.kind('on purpose')


class Hanging(Misbehaving):
    def harm(self, buffer: Any, cb_queue: Any) -> Any:
        threading.Event().wait(1000)


class HoldingTheInterpreter(Misbehaving):
    """A second of C code that does not let go of the interpreter."""

    def harm(self, buffer: Any, cb_queue: Any) -> Any:
        end = time.monotonic() + 0.7
        while time.monotonic() < end:
            sum(range(1_000_000))
        ctypes.PyDLL(None).usleep(300_000)
        return negative(buffer[-1])


class Exiting(Misbehaving):
    def __init__(self, at: Tuple[int, ...], code: int) -> None:
        super().__init__(at)
        self.code = code

    def harm(self, buffer: Any, cb_queue: Any) -> Any:
        os._exit(self.code)


class Segfaulting(Misbehaving):
    def harm(self, buffer: Any, cb_queue: Any) -> Any:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        ctypes.string_at(0)


class Aborting(Misbehaving):
    def harm(self, buffer: Any, cb_queue: Any) -> Any:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.kill(os.getpid(), signal.SIGABRT)


class Leaking(Misbehaving):
    """Keeps ever more memory: until its limit is reached, or until it is killed as the kernel would do it."""

    def __init__(self, limit_mb: int, killed: bool) -> None:
        super().__init__()
        self.limit_mb, self.killed = limit_mb, killed
        self.kept: List[np.ndarray] = []

    def __call__(self, buffer: Any, cb_queue: Any) -> Any:
        if not self.killed and not self.kept:
            with open('/proc/self/statm') as memory:
                now = int(memory.read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (now + self.limit_mb * MB,) * 2)
        self.kept.append(np.ones(self.limit_mb * MB // CALLS, np.uint8))
        if self.killed and len(self.kept) > CALLS:
            os.kill(os.getpid(), signal.SIGKILL)
        return None


class Talking(Misbehaving):
    """Returns what cannot be recorded."""

    NONSENSE: Tuple[Any, ...] = ('a word', 3, (), {}, np.zeros((2, 2), np.uint8), np.zeros((64, 96), np.float64))

    def harm(self, buffer: Any, cb_queue: Any) -> Any:
        return self.NONSENSE[buffer[-1].index % len(self.NONSENSE)]


class Chatting:
    """Puts ``count`` results of ``size`` bytes at one frame."""

    def __init__(self, count: int, size: int = 0) -> None:
        self.count, self.size = count, size

    def __call__(self, buffer: Any, cb_queue: Any) -> None:
        if buffer[-1].index == 5:
            for number in range(self.count):
                cb_queue.put(bytes(self.size) if self.size else number)


def some_frames(rng: random.Random, count: int) -> Tuple[int, ...]:
    """One to a few frames, never only the first."""
    return tuple(sorted(rng.sample(range(3, count - 5), rng.randint(1, 4))))


def once(rng: random.Random, count: int) -> Tuple[int, ...]:
    return (rng.randrange(3, count - 20),)


def record(folder: Path, rng: random.Random, lane: str, callback: Any, count: int, **settings: Any) -> Outcome:
    """A recording of ``count`` frames that are all delivered to the callback, or of a second of the newest ones."""
    camera: Dict[str, Any] = {'frames': count}
    if settings.setdefault('cb_delivery', 'every' if SHORT else rng.choice(('every', 'latest'))) == 'latest':
        camera = PACED
        settings.update(framerate=200, rec_length=1)
        if isinstance(callback, Misbehaving) and callback.at:
            callback.onwards, callback.at = True, (min(callback.at[0], 60),)
    trial = Trial(folder, rng, camera=camera, callback=callback, cb_type=lane, **settings)
    outcome = trial.run().judged(returned=negative)
    _check_results(trial, outcome)
    return outcome


def _check_results(trial: Trial, outcome: Outcome) -> None:
    """The results file holds whole lines, of frames that exist, as many as the report says.

    But for those of calls that never returned: they are stored when a call does.
    """
    path = trial.path.with_suffix('.results.jsonl')
    try:
        stored = list(read_results(path)) if path.exists() else []
    except RecorderError as error:
        outcome.ledger_disagrees.append(f'results: {error}')
        return
    report = trial.report
    if report is not None and outcome.complete == 'yes' \
            and not 0 <= report.results - len(stored) <= report.callback_errors:
        outcome.ledger_disagrees.append(f'report.results is {report.results}, the file holds {len(stored)}')
    if any(index is None or index >= 10**6 for index, _, _ in stored[:1000]):
        outcome.ledger_disagrees.append('a result is bound to no frame')


Make = Callable[[random.Random, int], Any]
KINDS: Tuple[Type[BaseException], ...] = (ValueError, MemoryError, SystemExit, KeyboardInterrupt, GeneratorExit,
                                          BrokenPipeError, StopIteration)
HARMS: Dict[str, Tuple[Make, Expect, Expect]] = {
    # name: how it is made, what follows in '3Proc', what in '2Proc'
    'raises': (lambda rng, count: Raising(some_frames(rng, count), rng.choice(KINDS)), SAFE, SAFE),
    'raises at every frame': (lambda rng, count: Raising(tuple(range(count)), rng.choice(KINDS)), SAFE, SAFE),
    'exits': (lambda rng, count: Exiting(once(rng, count), rng.choice((0, 1, 3))), SAFE, WRITER_DIES),
    'segfaults': (lambda rng, count: Segfaulting(once(rng, count)), SAFE, WRITER_DIES),
    'aborts': (lambda rng, count: Aborting(once(rng, count)), SAFE, WRITER_DIES),
    'returns nonsense': (lambda rng, count: Talking(some_frames(rng, count)), SAFE, SAFE),
    'leaks until it is killed': (lambda rng, count: Leaking(rng.randint(30, 100), True), SAFE, WRITER_DIES),
}


def _register(name: str, lane: str, make: Make, expects: Expect) -> None:
    @fault(f'callback {name} ({lane})', group='callback', expects=expects)
    def misbehave(folder: Path, rng: random.Random) -> Outcome:
        count = frames(rng)
        callback = make(rng, count)
        # A leak takes several calls; how many there are of the newest frames depends on the machine.
        every = {'cb_delivery': 'every'} if isinstance(callback, Leaking) else {}
        return record(folder, rng, lane, callback, count, **every)


for _name, (_make, _in_own, _in_writer) in HARMS.items():
    _register(_name, '3Proc', _make, _in_own)
    _register(_name, '2Proc', _make, _in_writer)


@fault('callback hangs (3Proc)', group='callback', expects=SAFE)
def hangs_alone(folder: Path, rng: random.Random) -> Outcome:
    count = frames(rng)
    return record(folder, rng, '3Proc', Hanging(once(rng, count)), count, cb_timeout=rng.uniform(0.2, 0.5),
                  cb_start_timeout=rng.uniform(1, 2))         # of the first call after each restart


@fault('callback hangs (2Proc)', group='callback', expects=SAFE)
def hangs_in_the_writer(folder: Path, rng: random.Random) -> Outcome:
    count = frames(rng)
    return record(folder, rng, '2Proc', Hanging(once(rng, count)), count, cb_timeout=rng.uniform(0.2, 0.5))


@fault('callback holds the interpreter (2Proc)', group='callback', expects=Expect('', None))
def holds_the_interpreter(folder: Path, rng: random.Random) -> Outcome:
    """The writer is held up with it: what the ring cannot bridge is lost, and must be told."""
    trial = Trial(folder, rng, camera=PACED, rec_length=2, framerate=200,
                  callback=HoldingTheInterpreter((30,)), cb_type='2Proc', ring_frames=rng.choice((4, 16, 400)))
    return trial.run().judged(returned=negative)


@fault('callback leaks until its memory is used up (3Proc)', group='callback', expects=SAFE)
def leaks_alone(folder: Path, rng: random.Random) -> Outcome:
    return record(folder, rng, '3Proc', Leaking(rng.randint(60, 200), False), frames(rng), cb_delivery='every')


@fault('callback leaks until its memory is used up (2Proc)', group='callback',
       expects=Expect(('CallbackError', 'RecordingFileError', 'ProcessDiedError', 'RecorderError'), None))
def leaks_in_the_writer(folder: Path, rng: random.Random) -> Outcome:
    """The limit is the writer's too: whatever breaks for want of memory, what is told must be true."""
    return record(folder, rng, '2Proc', Leaking(rng.randint(60, 200), False), frames(rng), cb_delivery='every')


@fault('1,000,000 results (3Proc)', group='results', limit_s=300)
def a_million_results(folder: Path, rng: random.Random) -> Outcome:
    return _many(folder, rng, '3Proc')


@fault('1,000,000 results (2Proc)', group='results', limit_s=300)
def a_million_results_from_the_writer(folder: Path, rng: random.Random) -> Outcome:
    return _many(folder, rng, '2Proc')


def _many(folder: Path, rng: random.Random, lane: str) -> Outcome:
    """The script reads none until the end, then all."""
    count = 20_000 if SHORT else 1_000_000
    trial = Trial(folder, rng, callback=Chatting(count), cb_type=lane, cb_timeout=120, cb_delivery='every')
    trial.run(limit_s=200)
    read = list(trial.recorder.cb_queue) if trial.recorder is not None else []
    outcome = trial.judged()
    if read != list(range(count)):
        outcome.ledger_disagrees.append(f'the script could read {len(read)} of {count} results')
    with open(trial.path.with_suffix('.results.jsonl'), 'rb') as stored:
        lines = sum(1 for _ in stored)
    if lines != count or trial.report is None or trial.report.results != count:
        outcome.ledger_disagrees.append(f'{lines} results are stored, the report tells of '
                                        f'{trial.report.results if trial.report else None}')
    return outcome


@fault('cb_queue flooded, nobody reads (3Proc)', group='results')
def flooded(folder: Path, rng: random.Random) -> Outcome:
    return record(folder, rng, '3Proc', Chatting(rng.randint(70, 150), MB), frames(rng), cb_timeout=30,
                  cb_delivery='every')


@fault('cb_queue flooded, nobody reads (2Proc)', group='results')
def flooded_from_the_writer(folder: Path, rng: random.Random) -> Outcome:
    return record(folder, rng, '2Proc', Chatting(rng.randint(70, 150), MB), frames(rng), cb_timeout=30,
                  cb_delivery='every')


class Spoiling:
    """Puts results, and spoils their file at some frame, from where it is written."""

    def __init__(self, path: Path, how: str, at: int) -> None:
        self.path, self.how, self.at = path, how, at

    def __call__(self, buffer: Any, cb_queue: Any) -> None:
        cb_queue.put('x' * 5000)
        if buffer[-1].index == self.at:
            if self.how == 'limited':
                resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
            elif self.how == 'deleted' and self.path.exists():
                self.path.unlink()
            elif self.how == 'unreadable' and self.path.exists():
                self.path.chmod(0)


@fault('results file cannot be made', group='results', expects=Expect(('RecordingFileError', 'CallbackError', ''),
                                                                      ('yes', 'no', '-')))
def no_results_file(folder: Path, rng: random.Random) -> Outcome:
    """A folder appears in its place, after the start has looked and before the first result."""
    path = folder / 'trial.results.jsonl'
    trial = Trial(folder, rng, callback=Awaiting(path), cb_type=rng.choice(('2Proc', '3Proc')))
    trial.run(lambda recorder: path.mkdir())
    path.rmdir()
    return trial.judged()


class Awaiting:
    """Puts its first result when something has appeared at ``path``; without it, before its call counts as hung."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.wait_s = 8.0

    def __call__(self, buffer: Any, cb_queue: Any) -> None:
        deadline, self.wait_s = time.monotonic() + self.wait_s, 0
        while not self.path.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        cb_queue.put(buffer[-1].index)


SPOILT = Expect(('', 'RecordingFileError', 'CallbackError'), 'yes')


def _spoil(folder: Path, rng: random.Random, how: str, lane: Optional[str] = None) -> Outcome:
    count = frames(rng)
    spoiling = Spoiling(folder / 'trial.results.jsonl', how, rng.randrange(5, count - 5))
    trial = Trial(folder, rng, camera={'frames': count}, callback=spoiling, cb_delivery='every',
                  cb_type=lane or rng.choice(('2Proc', '3Proc')))
    return trial.run().judged(verify=how == 'unreadable')


@fault('results file deleted while recording', group='results', expects=SPOILT)
def results_deleted(folder: Path, rng: random.Random) -> Outcome:
    return _spoil(folder, rng, 'deleted')


@fault('results file made unreadable while recording', group='results', expects=SPOILT)
def results_unreadable(folder: Path, rng: random.Random) -> Outcome:
    return _spoil(folder, rng, 'unreadable')


@fault('no room for results (RLIMIT_FSIZE)', group='results', expects=Expect(('RecordingFileError', 'CallbackError'),
                                                                            'yes'))
def results_limited(folder: Path, rng: random.Random) -> Outcome:
    return _spoil(folder, rng, 'limited', '3Proc')


@fault('corrupt results file', group='results')
def results_corrupt(folder: Path, rng: random.Random) -> Outcome:
    """A good recording, whose results file is damaged in many ways: what reads it says so, or reads it right."""
    count = frames(rng)
    outcome = record(folder, rng, '3Proc', Misbehaving(), count, cb_delivery='every')
    path = folder / 'trial.results.jsonl'
    whole = path.read_bytes()
    good = {repr(item) for item in read_results(path)}
    for _ in range(10 if SHORT else 50):
        path.write_bytes(damaged(whole, rng))
        outcome.ledger_disagrees += _read_damaged(path, good)
    _unreadable(path, outcome)
    return outcome


def _read_damaged(path: Path, good: Any) -> List[str]:
    from ProcessedPiRecorder.recordings.verification import verify
    try:
        for item in read_results(path):
            index = item[0]
            if index is not None and not isinstance(index, int):
                return [f'a damaged results file was read as {item!r:.100}']
    except RecorderError:
        pass
    try:
        verify(path.with_name('trial.tif'))
    except RecorderError:
        pass
    return []


def damaged(text: bytes, rng: random.Random) -> bytes:
    """Bits flipped, pieces cut out, doubled, blanked, or filled with anything."""
    data = bytearray(text)
    at = rng.randrange(len(data))
    end = min(len(data), at + rng.randint(1, 200))
    how = rng.randrange(5)
    if how == 0:
        data[at] ^= 1 << rng.randrange(8)
    elif how == 1:
        del data[at:end]
    elif how == 2:
        data[at:at] = data[at:end]
    else:
        data[at:end] = bytes(end - at) if how == 3 else rng.randbytes(end - at)
    return bytes(data)


def _unreadable(path: Path, outcome: Outcome) -> None:
    """A folder in its place."""
    path.unlink()
    path.mkdir()
    try:
        list(read_results(path))
        outcome.ledger_disagrees.append('a folder was read as a results file')
    except RecorderError:
        pass
    shutil.rmtree(path)
