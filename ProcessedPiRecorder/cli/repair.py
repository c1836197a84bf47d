"""``ppr repair``: what was found again of a recording that was cut off or damaged, in words."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Callable, List, Optional

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from ..recordings.repair import RepairResult, repair, repaired_path
from ..settings import SUFFIXES
from .interrupts import OneInterrupt
from .outcome import COMPLETE, DOUBTFUL, BadUsage
from .verdict import count, loss_table, size

__all__ = ['run_repair']

INTERRUPTED_BESIDE = 'the recording was not changed, and what had been written of a new one is removed'
INTERRUPTED_IN_PLACE = 'the recording is no worse than it was; run it again'


def run_repair(path: Path, *, output: Optional[Path], in_place: bool, as_json: bool) -> int:
    """Repair a recording and print what became of it; returns the exit code. Raises RecordingFileError."""
    if in_place and output is not None:
        raise BadUsage('--output names a new file, and --in-place changes the old one; pass only one of them')
    if output is not None and output.suffix.lower() not in SUFFIXES:
        what = 'is a folder' if output.is_dir() else f'does not end in {", ".join(SUFFIXES[:-1])} or {SUFFIXES[-1]}'
        raise BadUsage(f'--output {str(output)!r} {what}; name a file, such as {repaired_path(path).name}')
    try:
        with OneInterrupt():
            result = _repair_with_progress(path, output, in_place, show=not as_json)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(INTERRUPTED_IN_PLACE if in_place else INTERRUPTED_BESIDE) from None
    if as_json:
        print(json.dumps(result.as_dict(), indent=2))
    else:
        _print_result(Console(highlight=False), result)
    return COMPLETE if result.healthy or result.all_recovered else DOUBTFUL


def _repair_with_progress(path: Path, output: Optional[Path], in_place: bool, show: bool) -> RepairResult:
    console = Console(stderr=True)
    if not (show and console.is_terminal and sys.stdout.isatty()):
        return repair(path, out=output, in_place=in_place)
    columns = (TextColumn('repairing'), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        return repair(path, out=output, in_place=in_place, progress=_updates(bar))


def _updates(bar: Progress) -> Callable[[int, int], None]:
    task = bar.add_task('bytes', total=None)
    return lambda done, total: bar.update(task, completed=done, total=total)


def _print_result(console: Console, result: RepairResult) -> None:
    if result.healthy:
        console.print(f'[bold green]NOTHING TO DO[/]  {escape(str(result.path))} is finished and whole: '
                      f'{count(result.pages_found, "page")}', soft_wrap=True)
        return
    words = '[bold green]REPAIRED[/]' if result.all_recovered else '[bold yellow]REPAIRED, NOT ALL OF IT[/]'
    where = 'where it stands' if result.in_place else 'into new files; the original was not changed'
    console.print(f'{words}  {count(result.pages_found, "page")} are in a finished recording now ({where})')
    for path in result.files:
        console.print(f'  {escape(str(path))}', soft_wrap=True)
    if result.results is not None:
        console.print(f'  {escape(str(result.results))}', soft_wrap=True)
    _print_texts(console, 'Recovered', 'green', _recovered(result))
    _print_texts(console, 'Not recovered', 'yellow', _not_recovered(result))
    report = result.report
    if report is not None and report.losses:
        console.print(loss_table(report.losses, report.lost))
    if report is not None:
        reasons = f' ({"; ".join(report.reasons)})' if report.reasons else ''
        console.print(f'complete: {report.complete}{escape(reasons)}')
    console.print(f'Check it:  ppr verify {escape(str(result.files[0]))}', soft_wrap=True)


def _print_texts(console: Console, title: str, style: str, texts: List[str]) -> None:
    if texts:
        console.print(f'[bold {style}]{title}[/]')
    for text in texts:
        console.print(f'  • {escape(text)}')


def _recovered(result: RepairResult) -> List[str]:
    texts = [f'{count(result.pages_linked_before, "page")} that every reader got to before']
    if result.pages_recovered_behind:
        texts.append(f'{count(result.pages_recovered_behind, "page")} that no reader got to any more')
    if result.preface:
        texts.append('settings, metadata and camera')
    if result.results is not None:
        texts.append('the results of the callback')
    return texts


def _not_recovered(result: RepairResult) -> List[str]:
    texts = list(result.file_notes)
    if result.pages_damaged:
        texts.append(f'{count(result.pages_damaged, "page")} of which only parts are left'
                     + (f': {", ".join(result.gaps)}' if result.gaps else ''))
    elif result.gaps:
        texts.append(f'frames between whole pages: {", ".join(result.gaps)}')
    if result.pages_left_out:
        texts.append(f'{count(result.pages_left_out, "whole page")} that belong to another recording, or are there '
                     'twice')
    if result.torn_bytes:
        texts.append(f'{size(result.torn_bytes)} that belong to no whole page')
    if not result.preface:
        texts.append('settings, metadata and camera: neither the beginning of the file nor its end tells them any '
                     'more')
    return texts
