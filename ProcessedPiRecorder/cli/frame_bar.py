"""How far a command is that goes through frames: a bar on a terminal, else a line on stderr now and then."""

from __future__ import annotations

import sys
import time
from typing import Callable

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .outcome import stderr_console
from .progress import PLAIN_INTERVAL_S, roughly

__all__ = ['FrameBar', 'FrameLines', 'Unseen', 'frame_bar']


class Unseen:
    """Shows nothing; the base of those that do. Context managers."""

    def __enter__(self) -> Unseen:
        return self

    def __exit__(self, *exc_info: object) -> None:
        pass

    def show(self, done: int, total: int) -> None:
        """So many frames are done."""


class FrameLines(Unseen):
    """A line every ten seconds: for pipes, logs and cron."""

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._name, self._clock = name, clock
        self._began = clock()
        self._next = self._began + PLAIN_INTERVAL_S

    def show(self, done: int, total: int) -> None:
        now = self._clock()
        if now < self._next or not 0 < done < total:
            return
        self._next = now + PLAIN_INTERVAL_S
        rate = done / (now - self._began)
        print(f'ppr: {self._name}: {done:,} of {total:,} frames, {rate:,.1f} frames/s, about '
              f'{roughly((total - done) / rate)} left', file=sys.stderr, flush=True)


class FrameBar(Unseen):
    """A bar on the terminal's last line, gone at the end."""

    def __init__(self, name: str) -> None:
        columns = (TextColumn('{task.description}', markup=False), BarColumn(), MofNCompleteColumn(),
                   TextColumn('frames'), TextColumn('{task.fields[rate]}'), TimeRemainingColumn())
        self._bar = Progress(*columns, console=stderr_console(), transient=True)
        self._task = self._bar.add_task(name, total=None, rate='')

    def __enter__(self) -> FrameBar:
        self._began = time.monotonic()
        self._bar.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._bar.stop()

    def show(self, done: int, total: int) -> None:
        rate = done / max(time.monotonic() - self._began, 1e-3)
        self._bar.update(self._task, completed=done, total=total, rate=f'{rate:,.1f} frames/s')


def frame_bar(name: str, show: bool = True) -> Unseen:
    """The bar where both outputs are terminals; lines otherwise, so that no pipe gets control codes."""
    if not show:
        return Unseen()
    console = stderr_console()
    if console.is_terminal and sys.stdout.isatty() and not console.is_dumb_terminal:
        return FrameBar(name)
    return FrameLines(name)
