"""The fault campaign: every fault, many times, each in a process of its own, and a table of what became of it.

    python -m tests.faults.campaign --runs 20 --seed 1 --jobs 2
    python -m tests.faults.campaign --only overload --only 'camera gap'
    python -m tests.faults.campaign --only 'ring full' --seed 1 --run 7       one run again, as it was

Exits with 1 when anything was wrong. A run that was keeps its folder.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import select
import shutil
import signal
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Dict, List, Optional, Sequence, Tuple

import psutil
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from tests.faults.one_run import adopt_orphans
from tests.faults.outcome import Outcome
from tests.faults.registry import Fault, load

ROOT = Path(__file__).resolve().parents[2]
OUTPUT = ROOT / 'faults-output'
USUAL_RUN_S = 3.0             # where no campaign before has measured it
HEADINGS = ('fault', 'runs', 'as expected', 'synced frames missing', 'wrong pixels', 'false verdicts', 'orphans',
            'leaks', 'hangs')


@dataclass
class Result:
    """What became of one run. wrong: everything that must not be, one text each; skipped: why it could not be made."""

    fault: str
    run: int
    seconds: float
    outcome: Outcome
    wrong: List[str] = field(default_factory=list)
    skipped: str = ''

    def as_dict(self) -> Dict[str, Any]:
        return {'fault': self.fault, 'run': self.run, 'seconds': round(self.seconds, 2), 'wrong': self.wrong,
                'skipped': self.skipped, **self.outcome.as_dict()}


class Nursery:
    """A process that forks one process for each run. Used by one thread at a time."""

    def __init__(self, short: bool = False) -> None:
        environment = {**os.environ, 'PYTHONPATH': str(ROOT), **({'PPR_FAULTS_SHORT': '1'} if short else {})}
        self._process = subprocess.Popen([sys.executable, '-m', 'tests.faults.one_run'], cwd=ROOT, env=environment,
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)

    def run(self, fault: Fault, seed: int, run: int, folder: Path) -> Tuple[int, bool]:
        """The run's process and session, and whether it hung and was ended. Blocks until it has ended."""
        order = json.dumps([fault.name, seed, run, str(folder)]) + '\n'
        self._process.stdin.write(order.encode())          # type: ignore[union-attr]
        pid = int(self._line(None))
        try:
            self._line(fault.limit_s)
        except TimeoutError:
            end_with_children(pid)
            self._line(None)
            return pid, True
        return pid, False

    def _line(self, timeout: Optional[float]) -> bytes:
        pipe = self._process.stdout
        assert pipe is not None
        if not select.select([pipe], [], [], timeout)[0]:
            raise TimeoutError
        line = pipe.readline()
        if not line:
            raise RuntimeError('the process that starts the runs has ended; its reason is above')
        return line

    def close(self) -> None:
        """End it. Harmless twice."""
        self._process.stdin.close()                        # type: ignore[union-attr]
        self._process.wait()
        self._process.stdout.close()                       # type: ignore[union-attr]


def run_one(nursery: Nursery, fault: Fault, seed: int, run: int, output: Path) -> Result:
    """One fault, once, in a process of its own that is ended when it takes too long. Blocks."""
    folder = output / slug(fault.name) / f'seed-{seed}-run-{run}'
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    begun = time.monotonic()
    pid, hung = nursery.run(fault, seed, run, folder)
    result = _result(fault, run, time.monotonic() - begun, folder, hung)
    strays = end_session(pid)
    if strays and not hung:
        result.outcome.orphans += strays
        result.wrong.append(f'{strays} processes were left behind by the run as a whole')
    if not result.wrong:
        shutil.rmtree(folder, ignore_errors=True)
    return result


def _result(fault: Fault, run: int, seconds: float, folder: Path, hung: bool) -> Result:
    result = Result(fault.name, run, seconds, Outcome(hung=hung))
    written = folder / 'outcome.json'
    if hung:
        result.wrong.append(f'hung: it was ended after {fault.limit_s:.0f} s')
    elif not written.exists():
        result.wrong.append('its process ended without an outcome')
    else:
        told = json.loads(written.read_text())
        result.skipped = told.get('skipped', '')
        result.wrong = told.get('wrong', [])
        if 'outcome' in told:
            result.outcome = Outcome.from_dict(told['outcome'])
        if 'broken' in told:
            result.wrong = ['the fault itself broke: ' + told['broken'].strip().splitlines()[-1]]
    return result


def end_with_children(pid: int) -> None:
    """SIGKILL to a run and all below it."""
    for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            pass


def end_session(session: int) -> int:
    """End what is left of a run's session, wherever it hangs in the tree now; how many there were."""
    found = 0
    for child in psutil.Process().children(recursive=True):
        try:
            if os.getsid(child.pid) == session and child.status() != psutil.STATUS_ZOMBIE:
                child.send_signal(signal.SIGKILL)
                found += 1
        except (ProcessLookupError, psutil.NoSuchProcess):
            pass
    return found


def run_all(faults: Sequence[Fault], runs: Sequence[int], seed: int, output: Path, jobs: int, *,
            short: bool = False, tell: Any = lambda result: None) -> List[Result]:
    """Every fault × runs, ``jobs`` at once; ``tell(result)`` as they come."""
    adopt_orphans()
    nurseries: SimpleQueue[Nursery] = SimpleQueue()

    def task(fault: Fault, run: int) -> Result:
        nursery = nurseries.get()
        try:
            return run_one(nursery, fault, seed, run, output)
        finally:
            nurseries.put(nursery)

    results = []
    with contextlib.ExitStack() as stack:
        for _ in range(jobs):
            nurseries.put(stack.enter_context(contextlib.closing(Nursery(short))))
        pool = stack.enter_context(ThreadPoolExecutor(jobs))
        waiting = [pool.submit(task, fault, run) for fault, run in plan(faults, runs)]
        try:
            for done in as_completed(waiting):
                results.append(done.result())
                tell(results[-1])
        finally:
            for left in waiting:
                left.cancel()
    return results


def plan(faults: Sequence[Fault], runs: Sequence[int]) -> List[Tuple[Fault, int]]:
    """Which runs are made of which faults, in order: the longest first, so that none is left over at the end."""
    some = sorted(faults, key=lambda fault: -fault.limit_s)
    return [(fault, run) for run in runs for fault in some
            if fault.runs is None or run < fault.runs or len(runs) == 1]


def slug(name: str) -> str:
    """A fault's name as a name of a folder."""
    return ''.join(letter if letter.isalnum() else '-' for letter in name.lower()).strip('-')


# ---------------------------------------------------------------------- the table

def row_of(name: str, results: Sequence[Result]) -> Tuple[str, ...]:
    """A fault's line of the table."""
    made = [result for result in results if not result.skipped]
    outcomes = [result.outcome for result in made]
    false = sum(any('complete' in text for text in result.wrong) or bool(result.outcome.ledger_disagrees)
                for result in made)
    skipped = len(results) - len(made)
    return (name, f'{len(made)}' + (f' ({skipped} skipped)' if skipped else ''),
            str(sum(not result.wrong for result in made)), str(sum(item.missing_synced for item in outcomes)),
            str(sum(item.wrong_pixels for item in outcomes)), str(false), str(sum(item.orphans for item in outcomes)),
            str(sum(item.leaked for item in outcomes)), str(sum(item.hung for item in outcomes)))


def rows(faults: Sequence[Fault], results: Sequence[Result]) -> List[Tuple[str, ...]]:
    """All lines, and the totals."""
    lines = [row_of(fault.name, [result for result in results if result.fault == fault.name]) for fault in faults]
    return [*lines, row_of('all', results)]


def markdown(faults: Sequence[Fault], results: Sequence[Result]) -> str:
    """The table, and what could not be made here."""
    lines = ['| ' + ' | '.join(HEADINGS) + ' |', '|---|' + '---:|' * (len(HEADINGS) - 1)]
    lines += ['| ' + ' | '.join(row) + ' |' for row in rows(faults, results)]
    skipped = sorted({f'- {result.fault}: {result.skipped}' for result in results if result.skipped})
    return '\n'.join([*lines, *(['', 'Not to be had on this machine:', *skipped] if skipped else [])]) + '\n'


def show(console: Console, faults: Sequence[Fault], results: Sequence[Result]) -> None:
    table = Table(title='What became of it')
    for place, heading in enumerate(HEADINGS):
        table.add_column(heading, justify='right' if place else 'left', no_wrap=not place, overflow='fold')
    for row in rows(faults, results):
        table.add_row(*row, style='red' if row[1].split()[0] != row[2] else '')
    console.print(table)


# ---------------------------------------------------------------------- the command

@dataclass
class Campaign:
    """One call of the command."""

    arguments: argparse.Namespace
    faults: List[Fault]
    console: Console

    def run(self) -> int:
        arguments, output = self.arguments, self.arguments.output
        output.mkdir(parents=True, exist_ok=True)
        runs = range(arguments.runs) if arguments.run is None else [arguments.run]
        known = measured(output)
        planned = plan(self.faults, runs)
        estimate = sum(known.get(fault.name, USUAL_RUN_S) for fault, _ in planned) / arguments.jobs
        self.console.print(f'{len(self.faults)} faults, {len(planned)} runs, seed {arguments.seed}, {arguments.jobs} '
                           f'at once; about {max(1, round(estimate / 60))} min')
        begun = time.monotonic()
        results = self._with_progress(runs)
        self._store(results, time.monotonic() - begun)
        show(self.console, self.faults, results)
        wrong = [result for result in results if result.wrong]
        self.console.print(f'{len(results)} runs in {(time.monotonic() - begun) / 60:.1f} min; '
                           + (f'[red]{len(wrong)} not as expected[/red]' if wrong else 'all as expected'))
        return 1 if wrong else 0

    def _with_progress(self, runs: Sequence[int]) -> List[Result]:
        columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
                   TimeRemainingColumn())
        with Progress(*columns, console=self.console) as progress:
            task = progress.add_task('faults', total=len(plan(self.faults, runs)))

            def tell(result: Result) -> None:
                progress.advance(task)
                if result.wrong:
                    self._complain(result)

            return run_all(self.faults, runs, self.arguments.seed, self.arguments.output, self.arguments.jobs,
                           tell=tell)

    def _complain(self, result: Result) -> None:
        seed = self.arguments.seed
        self.console.print(f'[red]{result.fault}[/red], run {result.run}: ' + '; '.join(result.wrong)[:600],
                           markup=True, highlight=False)
        again = f"--only '{result.fault}' --seed {seed} --run {result.run}"
        kept = self.arguments.output / slug(result.fault) / f'seed-{seed}-run-{result.run}'
        self.console.print(f'  again: make faults FAULTS_ARGS="{again}"\n  kept:  {kept}', markup=False)

    def _store(self, results: Sequence[Result], seconds: float) -> None:
        table = markdown(self.faults, results)
        facts = {'seed': self.arguments.seed, 'seconds': round(seconds), 'python': platform.python_version(),
                 'kernel': platform.release(), 'cores': len(os.sched_getaffinity(0)),
                 'results': [result.as_dict() for result in results]}
        (self.arguments.json or self.arguments.output / 'faults.json').write_text(json.dumps(facts, indent=1))
        (self.arguments.markdown or self.arguments.output / 'faults.md').write_text(table)


def measured(output: Path) -> Dict[str, float]:
    """How long a run of each fault took the last time."""
    try:
        stored = json.loads((output / 'faults.json').read_text())['results']
    except (OSError, ValueError, KeyError):
        return {}
    times: Dict[str, List[float]] = {}
    for result in stored:
        times.setdefault(result['fault'], []).append(result['seconds'])
    return {name: statistics.mean(seconds) for name, seconds in times.items()}


def chosen(faults: Dict[str, Fault], only: Sequence[str]) -> List[Fault]:
    """The faults of these names or groups; all without any. ValueError for a name that is neither."""
    unknown = [name for name in only if name not in faults and all(name != fault.group for fault in faults.values())]
    if unknown:
        raise ValueError(f'no fault and no group is called {unknown[0]!r}; --list shows them')
    return [fault for fault in faults.values() if not only or fault.name in only or fault.group in only]


def parse(words: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog='make faults', description='Every fault, many times, and what became of it.')
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--runs', type=int, default=20, help='of each fault (20)')
    parser.add_argument('--run', type=int, help='only the run of this number: to replay one')
    parser.add_argument('--only', action='append', default=[], metavar='NAME', help='a fault or a group; repeatable')
    parser.add_argument('--jobs', type=int, default=2, help='at once (2)')
    parser.add_argument('--output', type=Path, default=OUTPUT, help='folder for what is kept (faults-output)')
    parser.add_argument('--json', type=Path, help='every run (faults-output/faults.json)')
    parser.add_argument('--markdown', type=Path, help='the table (faults-output/faults.md)')
    parser.add_argument('--list', action='store_true', help='the faults by group, and nothing else')
    return parser.parse_args(words)


def main(words: Optional[Sequence[str]] = None) -> int:
    arguments, console = parse(words), Console(width=None if sys.stdout.isatty() else 140)
    try:
        faults = chosen(load(), arguments.only)
    except ValueError as error:
        console.print(str(error), markup=False)
        return 2
    if arguments.list:
        for fault in sorted(faults, key=lambda item: item.group):
            console.print(f'{fault.group:12} {fault.name}', markup=False, highlight=False)
        return 0
    return Campaign(arguments, faults, console).run()


if __name__ == '__main__':
    sys.exit(main())
