"""Exit codes, and how an error is told: one clear paragraph on stderr, no traceback."""

from __future__ import annotations

import functools
import re
import sys
import traceback
import warnings
from typing import Any, Callable, TextIO, Type, TypeVar, Union

import typer
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel

from ..errors import RecorderError

__all__ = ['COMPLETE', 'DOUBTFUL', 'FAILED', 'INTERRUPTED', 'USAGE', 'BadUsage', 'errors_told', 'stderr_console',
           'tell_error', 'tell_warnings']

COMPLETE = 0     # every frame that the sensor made is in the file
DOUBTFUL = 1     # the file is good, but frames were lost, or the callback failed, or completeness cannot be proven,
                 # or the recording was ended early because its disk was nearly full
USAGE = 2        # nothing was started
FAILED = 3       # the recording, or the reading, failed
INTERRUPTED = 130

#: Arguments as a message tells to pass them, and settings that it names; and the options for them.
OPTIONS_TO_PASS = {'overwrite=True': '--overwrite', 'display=False': '--no-display', 'write_vid=False': '--no-write',
                   "cb_delivery='latest'": '--delivery latest', 'stereo=True': '--stereo',
                   "pixel_format='gray'": '--gray', 'workers=...': '--workers N',
                   'lossless=True': '--lossless', '(start, stop, every)': '(--start, --stop, --every)',
                   '(start, stop)': '(--start, --stop)',
                   '(out=..., or results=...)': '(--out, or --results)'}
OPTIONS = {'x_resolution': '--size', 'y_resolution': '--size', 'scale_factor': '--scale', 'framerate': '--fps',
           'rec_length': '--seconds', 'tif_compression': '--compression', 'pixel_format': '--gray',
           'log_file': '--log', 'metadata': '--meta', 'camera_controls': '--control', 'ring_frames': '--ring-frames',
           'ring_mb': '--ring-mb', 'buffer_length': '--buffer-length', 'Hz_buffer': '--hz-buffer',
           'cb_timeout': '--cb-timeout', 'cb_start_timeout': '--cb-start-timeout', 'cb_type': '--cb-type',
           'split_frames': '--split-frames', 'sync_interval': '--sync-interval',
           'disk_reserve_mb': '--disk-reserve-mb', 'display_proc': '--display-proc', 'cb_delivery': '--delivery',
           'camera_timeout': '--camera-timeout', 'camera_start_timeout': '--camera-start-timeout',
           'start_method': '--start-method', 'rate_hz': '--fps', 'time_tolerance': '--time-tolerance',
           'block_frames': '--block-frames'}

#: What the exporters take, as their messages write it (speed=0.1); the second kind has no option of its own.
EXPORT_OPTIONS = re.compile(r'(?<![\w.=-])(start|stop|every|speed|preset|crf|colors|what|max_width)=(?=\S)')
EXPORT_SETTINGS = re.compile(r'(?<![\w.=-])(?<!--set )(video|subject_id|species|age|sex)=(?=\S)')

Command = TypeVar('Command', bound=Callable[..., Any])


class BadUsage(RecorderError):
    """What was typed cannot work; nothing was started."""


def stderr_console() -> Console:
    """A console on stderr as it is now (tests and shells replace it)."""
    return Console(stderr=True, soft_wrap=not sys.stderr.isatty(), highlight=False)


def tell_error(error: BaseException, title: str = '') -> None:
    """Tell an error: in a panel on a terminal, else as ``ppr: ...`` on stderr."""
    text = in_options(str(error) or type(error).__name__)
    console = stderr_console()
    if console.is_terminal:
        console.print(Panel(escape(text), title=title or 'this cannot work', title_align='left', border_style='red'))
    else:
        print(f'ppr: {title + ": " if title else ""}{text}', file=sys.stderr, flush=True)


def in_options(message: str) -> str:
    """A message of the library's, which speaks of arguments, for someone who types options."""
    for argument, option in OPTIONS_TO_PASS.items():
        message = message.replace(argument, option)
    message = EXPORT_OPTIONS.sub(lambda found: f'--{found[1].replace("_", "-")} ', message)
    message = EXPORT_SETTINGS.sub(r'--set \1=', message)
    meant = list(dict.fromkeys(option for name, option in OPTIONS.items() if re.search(rf'\b{name}\b', message)))
    return f'{message} (here: {", ".join(meant)})' if meant else message


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
            except KeyboardInterrupt as interrupt:
                # Some commands have words of their own for it; a bare one has changed nothing.
                print(f'ppr: interrupted{f"; {interrupt}" if str(interrupt) else ""}', file=sys.stderr, flush=True)
                raise typer.Exit(INTERRUPTED) from None
        return guarded   # type: ignore[return-value]
    return decorate


def tell_warnings(console: Console) -> None:
    """From here on, warnings come as one line on the console, without the source line that Python adds."""
    from ..errors import RecorderWarning

    def show(message: Union[Warning, str], category: Type[Warning], filename: str, lineno: int,
             file: 'TextIO | None' = None, line: 'str | None' = None) -> None:
        console.print(f'[yellow]warning:[/] {escape(in_options(str(message)))}')

    warnings.simplefilter('default', RecorderWarning)
    warnings.showwarning = show
