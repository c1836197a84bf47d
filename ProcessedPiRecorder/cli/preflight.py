"""``ppr preflight``: the measurements as they are made, the answer as a table or as JSON, the exit code."""

from __future__ import annotations

import json
import sys
import traceback
import warnings
from typing import Any, Callable, Mapping, Optional, TextIO

from rich.console import Console
from rich.live import Live
from rich.markup import escape

from ..errors import RecorderError
from ..preflight.answer import as_dict
from ..preflight.judgement import OK, Finding, judge
from ..preflight.place import Place, find_place
from ..preflight.run import Measurements, measure
from .interrupts import OneInterrupt
from .outcome import (
    COMPLETE,
    DOUBTFUL,
    FAILED,
    INTERRUPTED,
    USAGE,
    in_options,
    stderr_console,
    tell_error,
    tell_warnings,
)
from .preflight_table import print_answer
from .record import was_impossible
from .streams import stdout_of_our_own

__all__ = ['run_preflight']


def run_preflight(arguments: Mapping[str, Any], *, run_seconds: float, as_json: bool, quiet: bool,
                  debug: Callable[[], bool]) -> int:
    """Measure with these arguments of the recorder's, print the answer; returns the exit code. Blocks meanwhile."""
    with stdout_of_our_own(as_json) as out, warnings.catch_warnings():
        tell_warnings(stderr_console())
        try:
            place = find_place(arguments)
        except RecorderError as error:
            return _tell(error, debug, 'nothing was started', USAGE)
        try:
            measured = _measure(arguments, place, run_seconds, _Progress(quiet))
        except KeyboardInterrupt:
            print('ppr: interrupted; all trial recordings are removed, nothing is left behind', file=sys.stderr,
                  flush=True)
            return INTERRUPTED
        except RecorderError as error:
            if was_impossible(error, None):
                return _tell(error, debug, 'nothing was started', USAGE)
            return _tell(error, debug, 'the preflight could not be made', FAILED)
        return _answer(measured, out, as_json, quiet)


def _measure(arguments: Mapping[str, Any], place: Place, run_seconds: float, progress: '_Progress') -> Measurements:
    with OneInterrupt(), progress:
        return measure(arguments, place, run_seconds, progress.say, progress.show)


def _answer(measured: Measurements, out: TextIO, as_json: bool, quiet: bool) -> int:
    judgement = judge(measured)
    judgement.findings = [Finding(level, in_options(text)) for level, text in judgement.findings]
    exit_code = COMPLETE if judgement.verdict == OK else DOUBTFUL
    if as_json:
        print(json.dumps(as_dict(measured, judgement, exit_code), indent=2), file=out, flush=True)
    elif not quiet:
        print_answer(Console(highlight=False), measured, judgement)
    return exit_code


def _tell(error: BaseException, debug: Callable[[], bool], title: str, code: int) -> int:
    if debug():
        traceback.print_exception(type(error), error, error.__traceback__, file=sys.stderr)
    tell_error(error, title)
    return code


class _Progress:
    """What is being done, on stderr: one living line on a terminal, else a plain line for each step."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._console = stderr_console()
        self._moving = not quiet and self._console.is_terminal and not self._console.is_dumb_terminal
        self._live: Optional[Live] = None
        self._text = ''

    def __enter__(self) -> '_Progress':
        if self._moving:
            # Without its thread, and without its hands on our streams: processes are forked meanwhile.
            self._live = Live('', console=self._console, transient=True, auto_refresh=False, redirect_stdout=False,
                              redirect_stderr=False)
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, text: str) -> None:
        """This is done now."""
        self._text = text
        if self._live is not None:
            self._live.update(f'[dim]{escape(text)} …[/]', refresh=True)
        elif not self._quiet:
            print(f'ppr: {text}', file=sys.stderr, flush=True)

    def show(self, status: Any) -> None:
        """How the recording that it takes is going."""
        if self._live is not None:
            lost = f' · [red]{status.lost:,} lost[/]' if status.lost else ''
            self._live.update(f'[dim]{escape(self._text)} …[/]  {status.captured:,} frames{lost}', refresh=True)
