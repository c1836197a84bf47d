"""What is seen while a recording runs: a live bar on a terminal, else a plain line on stderr now and then."""

from __future__ import annotations

import sys
import time
from typing import Any, Callable, List, Optional

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table

from .verdict import duration, size

__all__ = ['LiveBar', 'PlainLines', 'Silence', 'choose_progress']

PLAIN_INTERVAL_S = 10.0
ALARM_S = 300.0          # of room left on the disk


class Silence:
    """Shows nothing (--quiet)."""

    def __enter__(self) -> 'Silence':
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def show(self, status: Any) -> None:
        """The recording's live figures."""

    def say(self, text: str) -> None:
        """What is going on otherwise."""


class PlainLines(Silence):
    """One line on stderr every ten seconds: for pipes, logs and cron."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._next = clock() + PLAIN_INTERVAL_S

    def show(self, status: Any) -> None:
        if self._clock() < self._next:
            return
        self._next = self._clock() + PLAIN_INTERVAL_S
        of = f' of {duration(self._seconds)}' if self._seconds else ''
        self.say(f'recording {duration(status.elapsed_s)}{of}, {plain_figures(status, self._seconds)}')

    def say(self, text: str) -> None:
        print(f'ppr: {text}', file=sys.stderr, flush=True)


class LiveBar(Silence):
    """A bar that lives on the terminal's last lines and is gone at the end; the verdict then takes its place."""

    def __init__(self, console: Console, seconds: float) -> None:
        self._seconds = seconds
        self._live = Live(console=console, transient=True, refresh_per_second=8)

    def __enter__(self) -> 'LiveBar':
        self._live.__enter__()
        self.say('starting')
        return self

    def __exit__(self, *exception: object) -> None:
        self._live.__exit__(None, None, None)

    def show(self, status: Any) -> None:
        self._live.update(Group(self._clock_line(status.elapsed_s), *self._figures(status)))

    def say(self, text: str) -> None:
        self._live.update(Spinner('dots', text))

    def _clock_line(self, elapsed: float) -> Table:
        line = Table.grid(padding=(0, 1))
        cells: List[RenderableType] = ['[bold red]● REC[/]', f'[bold]{duration(elapsed)}[/]']
        if self._seconds:
            cells += [ProgressBar(self._seconds, min(elapsed, self._seconds), width=36),
                      f'{duration(max(0.0, self._seconds - elapsed))} to go']
        else:
            cells.append('[dim]until Ctrl-C, or the end of the source[/]')
        line.add_row(*cells)
        return line

    def _figures(self, status: Any) -> List[str]:
        lost = f'[bold red]{status.lost:,} lost[/]' if status.lost else '[green]0 lost[/]'
        rate = f'{status.rate_hz:.1f} Hz' if status.rate_hz else '- Hz'
        return [f'  {status.captured:,} frames · {rate} · {lost} · {callback_figures(status, markup=True)}'
                f'ring {_ring(status, markup=True)}',
                f'  {size(status.bytes_written)} written · {disk_left(status, self._seconds, markup=True)}']


def choose_progress(quiet: bool, seconds: float) -> Silence:
    """The live bar where both outputs are terminals; plain lines otherwise, so that no pipe gets control codes."""
    if quiet:
        return Silence()
    console = Console(stderr=True, highlight=False)
    if console.is_terminal and sys.stdout.isatty() and not console.is_dumb_terminal:
        return LiveBar(console, seconds)
    return PlainLines(seconds)


def plain_figures(status: Any, seconds: float = 0.0) -> str:
    """The live figures in one line without markup; ``seconds``: how long the recording is to be, 0 = open end."""
    rate = f'{status.rate_hz:.1f} Hz' if status.rate_hz else '- Hz'
    return (f'{status.captured} frames, {rate}, {status.lost} lost, {callback_figures(status).replace(" · ", ", ")}'
            f'ring {_ring(status)}, {size(status.bytes_written)} written, {disk_left(status, seconds)}')


def callback_figures(status: Any, markup: bool = False) -> str:
    """By-passed and failed frames, where there are any."""
    failed = f'{status.failed:,} failed'
    parts = [f'{status.bypassed:,} by-passed' if status.bypassed else '',
             (f'[bold red]{failed}[/]' if markup else failed) if status.failed else '']
    return ''.join(f'{part} · ' for part in parts if part)


def _ring(status: Any, markup: bool = False) -> str:
    if not status.ring_frames:
        return '-'
    share = status.ring_in_use / status.ring_frames
    text = f'{100 * share:.0f} %'
    return f'[{"red" if share > 0.75 else "yellow" if share > 0.5 else "green"}]{text}[/]' if markup else text


def disk_left(status: Any, seconds: float = 0.0, markup: bool = False) -> str:
    """Free space, and for how long it lasts at this rate; with ``seconds`` to record, whether that is enough."""
    free: Optional[int] = status.disk_free_bytes
    if free is None:
        return 'room on the disk unknown' if status.bytes_written else 'no file'
    left: Optional[float] = status.disk_left_s
    if left is None:
        return f'{size(free)} free'
    remaining = max(0.0, seconds - status.elapsed_s)
    short = left < remaining
    text = f'disk: {roughly(left)} left' + (f', not enough for the remaining {duration(remaining)}' if short else '')
    if markup and (short or left < ALARM_S):
        text = f'[bold red]{text}[/]'
    return f'{text} ({size(free)} free)'


def roughly(seconds: float) -> str:
    """'45 s', '41 min', '7.5 h', '12 days'."""
    for unit, length, most in (('s', 1, 120), ('min', 60, 120), ('h', 3600, 48)):
        if seconds < most * length:
            number = seconds / length
            return f'{number:.1f} {unit}' if unit == 'h' and number < 10 else f'{int(number)} {unit}'
    days = seconds / 86_400
    return f'{int(days)} days' if days < 100 else 'over 99 days'
