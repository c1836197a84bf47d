"""Random mutations of recordings and of their results, fed to everything that reads them.

    python -m tests.faults.mutations --count 10000 --seed 1        # a bad mutant is told with what replays it

`info`, `verify`, `repair` and the reader either give the right answer or raise an error of the package's own; none
hangs, takes memory out of proportion, or leaves a file open. The judges run in processes that live for many mutants,
with a hard limit of time for each, since code in C that hangs can be ended in no other way.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence

from tests.faults.mutants import make_bases, mutate

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 30.0               # for all readers of one mutant; a healthy machine takes some 30 ms
MEMORY = 96 << 20            # bytes on top of what a worker has anyway ...
MEMORY_A_BYTE = 40           # ... and for each byte of the mutant: Deflate can make 1,032 of one
ADDRESSES = 3 << 30
MOST_FAILURES = 200


# ---------------------------------------------------------------------- one mutant

def judge(folder: Path, base: Any, seed: int, number: int, readers: Sequence[str]) -> Dict[str, Any]:
    """Make one mutant and have everything read it; returns what happened, and under 'failures' what must not."""
    from tests.faults import mutant_readers
    rng = random.Random(f'{seed}:{number}')
    mutant = mutate(rng, base)
    place = folder / str(number)
    mutant.write(place)
    before = _resources()
    begin = time.monotonic()
    outcome = mutant_readers.read_all(place, mutant, rng, readers)
    after = _resources()
    allowed = MEMORY + MEMORY_A_BYTE * mutant.nbytes
    if after['peak'] - before['now'] > allowed:
        outcome['failures'].append(f'{(after["peak"] - before["now"]) >> 20} MB of memory for {mutant.nbytes} bytes')
    if after['files'] > before['files']:
        outcome['failures'].append(f'{after["files"] - before["files"]} files left open')
    outcome.update(number=number, base=mutant.base.name, done=mutant.done, seconds=time.monotonic() - begin,
                   memory=after['peak'] - before['now'])
    shutil.rmtree(place)
    return outcome


def _resources() -> Dict[str, int]:
    """Bytes of memory now, their peak since the last call, and open files."""
    status = dict(line.split(':', 1) for line in Path('/proc/self/status').read_text().splitlines())
    Path('/proc/self/clear_refs').write_text('5')             # the peak begins anew
    return {'now': int(status['VmRSS'].split()[0]) << 10, 'peak': int(status['VmHWM'].split()[0]) << 10,
            'files': len(os.listdir('/proc/self/fd'))}


def work(folder: Path, seed: int, readers: Sequence[str]) -> None:
    """A worker: numbers of mutants come in line by line, what happened goes out as JSON."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)                                             # what libraries print must not look like an answer
    bases = make_bases(folder / 'bases')
    for line in sys.stdin:
        number = int(line)
        answers.write(json.dumps(judge(folder, bases[number % len(bases)], seed, number, readers)) + '\n')
        answers.flush()


# ---------------------------------------------------------------------- many

class _Worker:
    """A worker process, and the mutant that it is at."""

    def __init__(self, folder: Path, seed: int, readers: Sequence[str]) -> None:
        self.folder = Path(tempfile.mkdtemp(dir=folder, prefix='mutants-'))
        self.log = open(self.folder / 'stderr', 'wb')
        command = [sys.executable, '-W', 'error', '-m', 'tests.faults.mutations', '--work', str(self.folder),
                   '--seed', str(seed), '--readers', *readers]
        environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'OPENBLAS_NUM_THREADS': '1'}
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=self.log)
        self.number: Optional[int] = None
        self.begun = 0.0

    def give(self, number: int) -> None:
        assert self.process.stdin is not None
        self.number, self.begun = number, time.monotonic()
        try:
            self.process.stdin.write(b'%d\n' % number)
            self.process.stdin.flush()
        except BrokenPipeError:
            pass                                              # its end of file is told next

    def answer(self) -> Optional[Dict[str, Any]]:
        """None: it has died."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def told(self) -> str:
        return (self.folder / 'stderr').read_text(errors='replace').strip()[-600:]

    def end(self, kill: bool = False) -> int:
        if kill:
            self.process.kill()
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        code = self.process.wait()
        self.process.stdout.close()
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        return code


class _Campaign:
    """Gives mutants to workers and sums up what they say."""

    def __init__(self, seed: int, folder: Path, readers: Sequence[str], limit_s: float) -> None:
        self._seed, self._folder, self._readers, self._limit_s = seed, folder, list(readers), limit_s
        self.failures: List[str] = []
        self.stats: Dict[str, Any] = {'mutants': 0, 'hangs': 0, 'crashes': 0, 'outcomes': {}, 'slowest_s': 0.0,
                                      'most_memory': 0}
        self._selector = selectors.DefaultSelector()

    def run(self, numbers: Iterator[int], jobs: int) -> None:
        """Until all are done."""
        try:
            for _ in range(jobs):
                self._begin(self._start(), numbers)
            while self._selector.get_map():
                self._turn(numbers)
        finally:
            for key in list(self._selector.get_map().values()):
                key.data.end(kill=True)
            self._selector.close()

    def _start(self) -> _Worker:
        worker = _Worker(self._folder, self._seed, self._readers)
        self._selector.register(worker.process.stdout, selectors.EVENT_READ, worker)      # type: ignore[arg-type]
        return worker

    def _begin(self, worker: _Worker, numbers: Iterator[int]) -> None:
        number = next(numbers, None)
        if number is None:
            self._drop(worker)
            code = worker.end()
            if code:
                self.failures.append(f'a worker ended with exit code {code}')
        else:
            worker.give(number)

    def _drop(self, worker: _Worker) -> None:
        self._selector.unregister(worker.process.stdout)       # type: ignore[arg-type]

    def _turn(self, numbers: Iterator[int]) -> None:
        workers = [key.data for key in self._selector.get_map().values()]
        left = min(worker.begun for worker in workers) + self._limit_s - time.monotonic()
        ready = [key.data for key, _ in self._selector.select(max(left, 0))]
        for worker in ready:
            answer = worker.answer()
            if answer is None:
                self._bury(worker, 'crashes', numbers)
            else:
                self._count(answer)
                self._begin(worker, numbers)
        for worker in workers:
            if worker not in ready and time.monotonic() - worker.begun > self._limit_s:
                self._bury(worker, 'hangs', numbers)

    def _bury(self, worker: _Worker, how: str, numbers: Iterator[int]) -> None:
        self._drop(worker)
        told, number = worker.told(), worker.number
        code = worker.end(kill=True)
        self.stats[how] += 1
        self.stats['mutants'] += 1
        self._fail(number, f'hung for {self._limit_s:.0f} s' if how == 'hangs' else f'died with {code}: {told}')
        if len(self.failures) < MOST_FAILURES:
            self._begin(self._start(), numbers)

    def _count(self, answer: Dict[str, Any]) -> None:
        stats = self.stats
        stats['mutants'] += 1
        stats['slowest_s'] = max(stats['slowest_s'], round(answer['seconds'], 3))
        stats['most_memory'] = max(stats['most_memory'], answer['memory'])
        for reader, what in answer['outcomes'].items():
            counts = stats['outcomes'].setdefault(reader, {})
            counts[what] = counts.get(what, 0) + 1
        for failure in answer['failures']:
            self._fail(answer['number'], f'{answer["base"]}, {", ".join(answer["done"])}: {failure}')

    def _fail(self, number: Optional[int], text: str) -> None:
        if len(self.failures) < MOST_FAILURES:
            self.failures.append(f'--seed {self._seed} --only {number}: {text}')


def run(seed: int, count: int, folder: Path, *, jobs: int = 2, only: Optional[int] = None,
        readers: Sequence[str] = ('info', 'reader', 'verify', 'repair'), limit_s: float = LIMIT_S) -> Dict[str, Any]:
    """Read ``count`` mutants of seed ``seed``; work in ``folder``. 'failures' of the result must be empty.

    Blocks; in ``jobs`` processes. Result: mutants, hangs, crashes, failures (texts), outcomes (reader: what: how
    often), slowest_s, most_memory (bytes).
    """
    campaign = _Campaign(seed, folder, readers, limit_s)
    numbers = range(count) if only is None else [only]
    campaign.run(iter(numbers), max(1, min(jobs, len(numbers))))
    return {**campaign.stats, 'failures': campaign.failures}


def main(arguments: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--count', type=int, default=10_000)
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--jobs', type=int, default=2)
    parser.add_argument('--only', type=int, help='replay this one mutant')
    parser.add_argument('--readers', nargs='+', default=['info', 'reader', 'verify', 'repair'])
    parser.add_argument('--work', type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.work is not None:
        work(options.work, options.seed, options.readers)
        return 0
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix='ppr-mutations-') as folder:
        stats = run(options.seed, options.count, Path(folder), jobs=options.jobs, only=options.only,
                    readers=options.readers)
    failures = stats.pop('failures')
    print(json.dumps(stats, indent=2))
    for failure in failures:
        print(f'  {failure}')
    print(f'{stats["mutants"]} mutants in {time.monotonic() - begin:.0f} s, {len(failures)} failures')
    return 1 if failures else 0


if __name__ == '__main__':
    sys.exit(main())
