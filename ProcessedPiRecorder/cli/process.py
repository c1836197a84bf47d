"""``ppr process``: recordings through a callback once more, one after the other, and what came of each."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import traceback
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, TextIO, Tuple

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..errors import RecorderError, SettingsError
from ..processing.local import run_task
from ..processing.report import Failure, ProcessReport
from ..processing.task import Task, task_for
from ..reading import Recording, open_recording
from ..settings import SUFFIXES
from .frame_bar import frame_bar
from .interrupts import OneInterrupt
from .options import load_callback
from .outcome import COMPLETE, DOUBTFUL, FAILED, USAGE, BadUsage, in_options, stderr_console, tell_error, tell_warnings
from .streams import stdout_of_our_own
from .verdict import count, duration

__all__ = ['Wishes', 'run_process']

SHOWN_FAILURES = 20


@dataclass(frozen=True)
class Wishes:
    """What was typed, the same for all recordings.

    out, results: a file for one recording, a folder for several. settings: arguments of process().
    """

    callback: str
    out: Optional[Path]
    results: Optional[Path]
    record: str
    rate_hz: Optional[float]
    overwrite: bool
    workers: Optional[int]
    scheduler: Optional[str]
    block_frames: Optional[int]
    settings: Dict[str, Any]


def run_process(paths: Sequence[Path], wishes: Wishes, *, as_json: bool, quiet: bool, debug: Callable[[], bool]) -> int:
    """Process them; returns the exit code. One that fails does not stop the others. Raises KeyboardInterrupt."""
    callback = load_callback(_as_module(wishes.callback))
    for folder in _folders(wishes, len(paths)):
        _make_folder(folder)
    with stdout_of_our_own(as_json) as out, warnings.catch_warnings(), OneInterrupt():
        tell_warnings(stderr_console())
        session = _Session(wishes, callback, out, as_json, quiet, debug, several=len(paths) > 1)
        try:
            if wishes.workers is not None or wishes.scheduler is not None:
                session.process_on_cluster(paths)
            else:
                for path in paths:
                    session.process(path)
        finally:
            session.conclude()
    return session.code


class _Session:
    """One call of the command.

    code: the exit code so far.
    """

    def __init__(self, wishes: Wishes, callback: Any, out: TextIO, as_json: bool, quiet: bool,
                 debug: Callable[[], bool], several: bool) -> None:
        self._wishes, self._callback, self._out, self._several = wishes, callback, out, several
        self._as_json, self._quiet, self._debug = as_json, quiet, debug
        self._told: List[Dict[str, Any]] = []
        self._seen: Dict[str, Path] = {}
        self._begun = 0                              # tasks that were opened, for checking or for processing
        self.code = COMPLETE

    def process(self, path: Path) -> None:
        try:
            with open_recording(path) as recording:
                self._process(path, recording)
        except RecorderError as error:
            self._failed(path, error, USAGE if isinstance(error, SettingsError) else FAILED)

    def _process(self, path: Path, recording: Recording) -> None:
        if self._is_known(path, recording):
            return
        shown = frame_bar(recording.path.name, show=not self._quiet)
        try:
            task = self._task(recording, shown.show)
        except RecorderError as error:
            self._failed(path, error, USAGE)
            return
        with shown:
            report = run_task(task, block_frames=self._wishes.block_frames)
        self._tell(report)

    def process_on_cluster(self, paths: Sequence[Path]) -> None:
        """All together, so that the workers are never without work; what became of each is told at the end."""
        lengths = {path: length for path, length in ((path, self._frames_of(path)) for path in paths) if length}
        if not lengths:
            return
        waiting = list(lengths)
        while waiting:                               # one that fails does not stop the others
            done = self._process_together(waiting)
            waiting = waiting[done:]

    def _process_together(self, paths: Sequence[Path]) -> int:
        """Until one fails; returns how many need not be tried again."""
        from ..processing.cluster import process_tasks
        wishes = self._wishes
        reports: List[ProcessReport] = []
        problem: Optional[RecorderError] = None
        self._begun = 0
        shown = frame_bar(paths[0].name if len(paths) == 1 else f'{len(paths)} recordings', show=not self._quiet)
        try:
            with shown:
                process_tasks([partial(self._opened_task, path) for path in paths], self._callback,
                              workers=wishes.workers, scheduler=wishes.scheduler, block_frames=wishes.block_frames,
                              progress=shown.show, each=reports.append)
        except RecorderError as error:
            problem = error
        finally:
            for report in reports:
                self._tell(report)
        if problem is None:
            return len(paths)
        # Each is looked at once before the cluster is asked for; without one none of them can be processed.
        end = len(paths) if self._begun <= len(paths) else len(reports) + 1
        for path in paths[len(reports):end]:
            self._failed(path, problem, USAGE if isinstance(problem, SettingsError) else FAILED)
        return end

    def _frames_of(self, path: Path) -> int:
        """How many frames are to be processed; 0 where that has been told already, or cannot be done."""
        try:
            with open_recording(path) as recording:
                if self._is_known(path, recording):
                    return 0
                try:
                    self._task(recording, None)
                except RecorderError as error:
                    self._failed(path, error, USAGE)
                    return 0
                return len(recording)
        except RecorderError as error:
            self._failed(path, error, FAILED)
            return 0

    @contextmanager
    def _opened_task(self, path: Path) -> Iterator[Task]:
        self._begun += 1
        with open_recording(path) as recording:
            yield self._task(recording, None)

    def _is_known(self, path: Path, recording: Recording) -> bool:
        first = os.path.realpath(recording.path)
        if first in self._seen:                      # a glob finds all files of a split recording
            self._say(f'{path}: processed already, with {self._seen[first]}')
            return True
        self._seen[first] = path
        return False

    def _task(self, recording: Recording, progress: Optional[Callable[[int, int], None]]) -> Task:
        wishes = self._wishes
        return task_for(recording, self._callback, out=self._place(wishes.out, recording, '.tif'),
                        results=self._place(wishes.results, recording, '.results.jsonl'), record=wishes.record,
                        overwrite=wishes.overwrite, rate_hz=wishes.rate_hz, progress=progress, told=wishes.settings)

    def _tell(self, report: ProcessReport) -> None:
        self.code = max(self.code, COMPLETE if report.complete else DOUBTFUL)
        self._told.append(report.as_dict())
        if not self._as_json and not self._quiet:
            _print_report(Console(file=self._out, highlight=False, soft_wrap=not self._out.isatty()), report)

    def _place(self, typed: Optional[Path], recording: Recording, suffix: str) -> Optional[Path]:
        if typed is None or not (self._several or typed.is_dir()):
            return typed
        return typed / f'{recording.path.stem}_processed{suffix}'

    def _failed(self, path: Path, error: RecorderError, code: int) -> None:
        if self._debug():
            traceback.print_exception(type(error), error, error.__traceback__, file=sys.stderr)
        self.code = max(self.code, code)
        self._told.append({'recording': str(path), 'error': in_options(str(error))})
        tell_error(error, f'{path.name} was not processed')

    def _say(self, text: str) -> None:
        if not self._quiet:
            print(f'ppr: {text}', file=sys.stderr, flush=True)

    def conclude(self) -> None:
        if self._as_json:
            print(json.dumps(self._told, indent=2), file=self._out, flush=True)
        elif self._several and not self._quiet:
            whole = sum(1 for told in self._told if told.get('processed', -1) == told.get('frames'))
            print(f'{whole} of {count(len(self._told), "recording")} processed in full', file=self._out, flush=True)


# ---------------------------------------------------------------- what was typed

def _as_module(name: str) -> str:
    """'folder/tracking.py:find' → 'tracking:find', with that folder to import from; other names as they are."""
    file, colon, function = name.rpartition(':')
    if not (colon and file.endswith('.py')):
        return name
    path = Path(os.path.abspath(os.path.expanduser(file)))
    if not path.is_file():
        raise BadUsage(f'--callback {name!r}: there is no file {path}')
    if not path.stem.isidentifier():
        raise BadUsage(f'--callback {name!r}: a module cannot be named {path.stem!r}; rename the file, with letters, '
                       'digits and underscores only')
    sys.path.insert(0, str(path.parent))
    found = importlib.util.find_spec(path.stem) if path.stem not in sys.modules else sys.modules[path.stem].__spec__
    if found is None or found.origin is None or not os.path.samefile(found.origin, path):
        raise BadUsage(f'--callback {name!r}: another module is named {path.stem!r} already '
                       f'({getattr(found, "origin", None)}); rename the file')
    return f'{path.stem}:{function}'


def _folders(wishes: Wishes, recordings: int) -> List[Path]:
    """What was named as a folder. --out has no ending then: a glob may find one recording today, and two tomorrow."""
    if recordings > 1:
        return [folder for folder in (wishes.out, wishes.results) if folder is not None]
    return [wishes.out] if wishes.out is not None and not wishes.out.suffix else []


def _make_folder(folder: Path) -> None:
    if folder.suffix.lower() in SUFFIXES and not folder.is_dir():
        raise BadUsage(f'{folder} is the name of one file; for several recordings, --out and --results are folders')
    try:
        folder.mkdir(exist_ok=True)
    except FileExistsError:
        raise BadUsage(f'{folder} is a file; for several recordings, --out and --results are folders') from None
    except OSError as error:
        raise BadUsage(f'the folder {folder} cannot be made: {error.strerror}') from error


# ---------------------------------------------------------------- what came of it

def _print_report(console: Console, report: ProcessReport) -> None:
    rate = f', {report.frames / report.seconds:,.1f} frames/s' if report.seconds else ''
    mark = '[bold green]PROCESSED[/]' if report.complete else '[bold yellow]PROCESSED IN PART[/]'
    console.print(f'{mark}  [bold]{escape(str(report.recording))}[/]: {report.processed:,} of '
                  f'{count(report.frames, "frame")} in {duration(report.seconds)}{rate}')
    for what, path in _made(report):
        console.print(f'  {what}: {escape(str(path))}')
    if report.failures:
        _print_failures(console, report.failures)
        console.print(f'  the whole list, with tracebacks: {escape(str(report.failures_path))}')
    for note in report.notes:
        console.print(f'  • {escape(note)}')


def _made(report: ProcessReport) -> Iterator[Tuple[str, Path]]:
    if report.results_path is not None:
        yield count(report.results, 'result'), report.results_path
    if report.out is not None:
        yield 'recording', report.out


def _print_failures(console: Console, failures: Sequence[Failure]) -> None:
    more = f'; the first {SHOWN_FAILURES} of {len(failures):,}' if len(failures) > SHOWN_FAILURES else ''
    table = Table(title=f'Frames that failed{more}', title_justify='left', title_style='bold yellow',
                  box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column('frame', justify='right')
    table.add_column('page', justify='right')
    table.add_column('why', no_wrap=True)
    table.add_column('what', overflow='fold')
    for failure in failures[:SHOWN_FAILURES]:
        table.add_row(f'{failure.index:,}', f'{failure.page:,}', failure.why, escape(_in_short(failure)))
    console.print(table)


def _in_short(failure: Failure) -> str:
    """An error's last line, which names it; of everything else the first."""
    lines = failure.text.strip().splitlines() or ['']
    return lines[-1] if failure.why == 'raised' else lines[0].rstrip(':')
