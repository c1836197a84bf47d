"""Exit codes, and how an error is told: one clear paragraph on stderr, no traceback."""

from __future__ import annotations

import functools
import sys
import traceback
import warnings
from typing import Any, Callable, TextIO, Type, TypeVar, Union

import typer
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel

from ..errors import RecorderError

__all__ = ['COMPLETE', 'DOUBTFUL', 'FAILED', 'USAGE', 'BadUsage', 'errors_told', 'stderr_console', 'tell_error',
           'tell_warnings']

COMPLETE = 0     # every frame that the sensor made is in the file
DOUBTFUL = 1     # the file is good, but frames were lost, or the callback failed, or completeness cannot be proven
USAGE = 2        # nothing was started
FAILED = 3       # the recording, or the reading, failed

Command = TypeVar('Command', bound=Callable[..., Any])


class BadUsage(RecorderError):
    """What was typed cannot work; nothing was started."""


def stderr_console() -> Console:
    """A console on stderr as it is now (tests and shells replace it)."""
    return Console(stderr=True, soft_wrap=not sys.stderr.isatty(), highlight=False)


def tell_error(error: BaseException, title: str = '') -> None:
    """Tell an error: in a panel on a terminal, else as ``ppr: ...`` on stderr."""
    text = str(error) or type(error).__name__
    console = stderr_console()
    if console.is_terminal:
        console.print(Panel(escape(text), title=title or type(error).__name__, title_align='left', border_style='red'))
    else:
        print(f'ppr: {title + ": " if title else ""}{text}', file=sys.stderr, flush=True)


def errors_told(debug: Callable[[], bool]) -> Callable[[Command], Command]:
    """A decorator for commands: this package's errors become one paragraph and an exit code."""
    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def guarded(*arguments: Any, **options: Any) -> Any:
            try:
                return command(*arguments, **options)
            except RecorderError as error:
                if debug():
                    traceback.print_exc()
                tell_error(error)
                raise typer.Exit(USAGE if isinstance(error, BadUsage) else FAILED) from None
        return guarded   # type: ignore[return-value]
    return decorate


def tell_warnings(console: Console) -> None:
    """From here on, warnings come as one line on the console, without the source line that Python adds."""
    from ..errors import RecorderWarning

    def show(message: Union[Warning, str], category: Type[Warning], filename: str, lineno: int,
             file: 'TextIO | None' = None, line: 'str | None' = None) -> None:
        console.print(f'[yellow]warning:[/] {escape(str(message))}')

    warnings.simplefilter('default', RecorderWarning)
    warnings.showwarning = show
