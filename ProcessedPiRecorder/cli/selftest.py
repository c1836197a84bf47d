"""``ppr selftest``: the checks as they are made, and what they come to."""

from __future__ import annotations

import json
import logging
import sys
import textwrap
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Dict, List, Mapping, Optional, Type

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from .._version import __version__
from ..errors import CameraError, MissingExtraError, RecorderError
from ..selftest.checklist import BY_PERSON, CHECKS, Check
from ..selftest.context import BY_HAND, FAIL, PASS, SKIPPED, WARN, Context
from ..selftest.runner import Result, make_folder, run_checks, tidy
from .outcome import COMPLETE, DOUBTFUL, FAILED, INTERRUPTED, BadUsage, in_options

__all__ = ['print_checklist', 'run_selftest']

WORDS = {PASS: '[green]pass[/]', WARN: '[bold yellow]WARN[/]', FAIL: '[bold red]FAIL[/]', SKIPPED: '[dim]skipped[/]',
         BY_HAND: '[cyan]by hand[/]'}
SUMMARY = {PASS: 'passed', WARN: 'passed with a warning', FAIL: 'failed', SKIPPED: 'skipped', BY_HAND: 'left for you'}
MAX_LOG_LINES = 200


@dataclass(frozen=True)
class Ending:
    """What all checks came to."""

    results: List[Result]
    context: Context
    kept: Optional[Path]
    interrupted: bool
    log: List[str]

    @property
    def exit_code(self) -> int:
        """0: nothing failed; 1: something did; 3: the camera could not be opened; 130: Ctrl-C."""
        if self.interrupted:
            return INTERRUPTED
        tried = any(result.check.name == 'camera' for result in self.results)
        if tried and self.context.granted is None:
            return FAILED
        return DOUBTFUL if any(result.finding.result == FAIL for result in self.results) else COMPLETE


def run_selftest(settings: Mapping[str, Any], *, questions: bool, as_json: bool) -> int:
    """Make all checks; returns the exit code. Blocks for about a minute, or longer as ``seconds`` is.

    Raises BadUsage for settings that no camera could be asked for, and for a folder that cannot be written to.
    """
    try:
        context = Context(**settings, folder=make_folder(Path()))
    except RecorderError as error:
        raise BadUsage(str(error)) from error
    results: List[Result] = []
    log = _Log()
    try:
        _refuse_nonsense(context)
        with log, _Screen(context, questions and not as_json, as_json) as screen:
            for result in run_checks(context, screen.begin):
                results.append(result)
                screen.show(result)
        interrupted = False
    except KeyboardInterrupt:
        interrupted = True
    finally:
        kept = tidy(context.folder, results)
    ending = Ending(results, context, kept, interrupted, log.lines)
    if as_json:
        print(json.dumps(_as_dict(ending, settings), indent=2, default=str))
    else:
        _print_ending(_console(), ending)
    return ending.exit_code


def _refuse_nonsense(context: Context) -> None:
    try:
        context.recorder('settings', context.seconds)
    except (CameraError, MissingExtraError):
        pass                             # that is for the check of the camera to tell, after the facts of the machine
    except RecorderError as error:
        raise BadUsage(str(error)) from error


def print_checklist(as_json: bool) -> None:
    """Print what is checked, and what is left for a person, and make none of it."""
    if as_json:
        print(json.dumps({'checks': [{'name': check.name, 'why': check.why} for check in CHECKS],
                          'by_hand': _by_hand()}, indent=2))
        return
    console = _console()
    console.print('[bold]Checked by[/] ppr selftest')
    table = Table.grid(padding=(0, 2))
    for check in CHECKS:
        table.add_row(f'  {check.name}', escape(check.why))
    console.print(table)
    _print_by_hand(console)


class _Log(logging.Handler):
    """Keeps what is logged, for --json: the results are not to be interspersed with it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: List[str] = []

    def __enter__(self) -> '_Log':
        logging.getLogger().addHandler(self)
        return self

    def __exit__(self, *exception: object) -> None:
        logging.getLogger().removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        if len(self.lines) < MAX_LOG_LINES:
            self.lines.append(self.format(record))


class _Screen:
    """Shows the check that is going on (on a terminal), and each result below the one before."""

    def __init__(self, context: Context, questions: bool, silent: bool) -> None:
        self._console, self._silent = _console(), silent
        self._moving = not silent and self._console.is_terminal and not self._console.is_dumb_terminal
        self._live: Optional[Live] = None
        self._check: Optional[Check] = None
        context.watch = self._watch
        if questions and self._console.is_terminal and sys.stdin.isatty():
            context.ask = self._ask

    def __enter__(self) -> '_Screen':
        if not self._silent:
            self._console.print(f'[bold]ppr selftest[/]  ProcessedPiRecorder {__version__}')
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                 trace: Optional[TracebackType]) -> None:
        self._still()

    def begin(self, check: Check) -> None:
        """This check is made now."""
        self._check = check
        if self._moving:
            # Without its thread, and without its hands on our streams: processes are forked meanwhile.
            self._live = Live(self._line(''), console=self._console, transient=True, auto_refresh=False,
                              redirect_stdout=False, redirect_stderr=False)
            self._live.start(refresh=True)

    def show(self, result: Result) -> None:
        """It has been made."""
        self._still()
        if not self._silent:
            self._console.print(_row(result))

    def _watch(self, status: Any) -> None:
        if self._live is not None:
            lost = f', {status.lost} lost' if status.lost else ''
            self._live.update(self._line(f': {status.captured} frames{lost}'), refresh=True)

    def _ask(self, text: str) -> bool:
        self._still()
        self._console.print(f'[bold cyan]{escape(text)}[/]')
        try:
            answer = self._console.input('Then press Enter (or s and Enter, to skip this): ')
        except EOFError:
            return False
        return not answer.strip().lower().startswith('s')

    def _line(self, more: str) -> str:
        return f'[dim]…       [/][bold]{self._check.name}[/]{more}' if self._check is not None else ''

    def _still(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.stop()


def _console() -> Console:
    return Console(highlight=False)


def _row(result: Result) -> Table:
    row = Table.grid(padding=(0, 1))
    row.add_column(width=7, no_wrap=True)
    row.add_column(width=9, no_wrap=True, style='bold')
    row.add_column(overflow='fold', ratio=1)
    finding = result.finding
    style = 'bold red' if finding.result == FAIL else 'yellow'
    lines = [f'[{style}]{escape(in_options(problem))}[/]' for problem in finding.problems]
    if lines:
        lines.append(f'[dim]why it matters: {escape(result.check.why)}[/]')
    row.add_row(WORDS[finding.result], result.check.name, '\n'.join([*lines, *map(escape, finding.notes)]))
    return row


def _print_ending(console: Console, ending: Ending) -> None:
    counts = Counter(result.finding.result for result in ending.results)
    told = ', '.join(f'{counts[result]} {word}' for result, word in SUMMARY.items() if counts[result])
    style, verdict = {COMPLETE: ('green', 'NOTHING FAILED'), DOUBTFUL: ('red', 'SOMETHING FAILED'),
                      FAILED: ('red', 'THE CAMERA COULD NOT BE USED'),
                      INTERRUPTED: ('yellow', 'INTERRUPTED')}[ending.exit_code]
    console.print(f'\n[bold {style}]{verdict}[/]  {told or "no check was made"}')
    if ending.kept is not None:
        console.print(f'The recordings of failed checks are kept in\n  {escape(str(ending.kept))}', soft_wrap=True)
    if ending.exit_code in (COMPLETE, DOUBTFUL):
        console.print('What only a person can check (pulling the cable, cutting the power, …):\n  ppr selftest --list')
    console.print('To report a problem, send what this prints, with the options of now:\n  ppr selftest --json')


def _print_by_hand(console: Console) -> None:
    console.print('\n[bold]For a person at the camera[/] (--camera and the like as you need them)')
    for item in BY_PERSON:
        console.print(f'\n  [bold]{item.name}[/]: {escape(item.why)}')
        for line in (*item.how, f'Good: {item.good}.'):
            # A command stays in one line, to be copied.
            text = line if line.startswith('$ ') else textwrap.fill(line, max(console.width - 5, 40))
            console.print(textwrap.indent(text, '    '), soft_wrap=True, markup=False)


def _by_hand() -> List[Dict[str, str]]:
    return [dict(item._asdict()) for item in BY_PERSON]


def _as_dict(ending: Ending, settings: Mapping[str, Any]) -> Dict[str, Any]:
    """Everything, as JSON types."""
    counts = Counter(result.finding.result for result in ending.results)
    return {
        'version': __version__, 'exit_code': ending.exit_code, 'interrupted': ending.interrupted,
        'settings': dict(settings),
        'camera': dict(ending.context.granted) if ending.context.granted is not None else None,
        'summary': {result: counts[result] for result in WORDS},
        'checks': [{'name': result.check.name, 'why': result.check.why, **asdict(result.finding)}
                   for result in ending.results],
        'log': ending.log, 'by_hand': _by_hand(), 'kept': None if ending.kept is None else str(ending.kept)}
