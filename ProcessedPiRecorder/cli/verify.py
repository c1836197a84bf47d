"""``ppr verify``: whether a file is what its own report says, in words."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from ..recordings.verification import Finding, Verification, verify
from .outcome import COMPLETE, DOUBTFUL
from .verdict import count, size

__all__ = ['run_verify']

SHOWN_FINDINGS = 20

#: Kinds of findings by what was checked, in the order in which it is told, and what to do where it is wrong.
CHECKS: Tuple[Tuple[str, Tuple[str, ...], str], ...] = (
    ('files: all here, finished', ('unfinished', 'unreadable', 'parts'),
     'Of a file that was cut off or damaged `ppr repair` finds every page that is whole. Missing files of a split '
     'recording belong beside the others, under their old names.'),
    ('pages: pixels decode, checksums fit', ('checksum', 'pixels', 'text'),
     'What a damaged page shows cannot be trusted. Copy the file again from where it was recorded, if it is still '
     'there; `ppr repair` keeps the pages that are whole. Check the disk (dmesg tells more).'),
    ('every byte in its place: header, pages, links, index, end',
     ('header', 'preface', 'tags', 'link', 'layout', 'index'),
     'The file was changed after it was finished, or damaged. Copy it again from where it was recorded; `ppr repair` '
     'makes a sound file of the pages that are whole.'),
    ('order: numbers and times of pages and frames', ('order',),
     'Pages were exchanged, removed or edited after the recording.'),
    ('losses: each missing frame is told by a page', ('loss',),
     'Pages were removed after the recording, or it comes from a faulty version: keep the file, and report it.'),
    ('OME-XML and report, against the pages', ('description', 'report'),
     'What the file says of itself was edited or damaged; believe the pages. `ppr repair` counts them anew.'),
    ('results file: each line belongs to a frame', ('results',),
     'Copy the results file again from where it was recorded.'),
)


def run_verify(path: Path, *, as_json: bool, threads: Optional[int], quiet: bool) -> int:
    """Verify a recording and print what was found; returns the exit code. Raises RecordingFileError."""
    verification = _verify_with_progress(path, threads, show=not quiet and not as_json)
    if as_json:
        print(json.dumps(verification.as_dict(), indent=2))
    else:
        _print_verification(Console(highlight=False), verification, quiet)
    return COMPLETE if verification.ok else DOUBTFUL


def _verify_with_progress(path: Path, threads: Optional[int], show: bool) -> Verification:
    console = Console(stderr=True)
    if not (show and console.is_terminal and sys.stdout.isatty()):
        return verify(path, threads=threads)
    columns = (TextColumn('verifying'), BarColumn(), MofNCompleteColumn(), TextColumn('pages'), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        return verify(path, threads=threads, progress=_updates(bar))


def _updates(bar: Progress) -> Callable[[int, int], None]:
    task = bar.add_task('pages', total=None)
    return lambda done, total: bar.update(task, completed=done, total=total)


def _print_verification(console: Console, verification: Verification, quiet: bool) -> None:
    if not quiet:
        files = verification.files[0].name if len(verification.files) == 1 else count(len(verification.files), 'file')
        lines = '' if verification.results is None else f', {count(verification.results, "result")}'
        console.print(f'[bold]{escape(str(verification.path))}[/]  checked: {escape(files)}, '
                      f'{count(verification.pages, "page")}, {size(verification.nbytes)}{lines}')
        console.print(_check_table(verification))
    _print_findings(console, verification)
    _print_conclusion(console, verification, quiet)


def _by_kind(findings: Iterable[Finding]) -> Dict[str, int]:
    numbers: Dict[str, int] = {}
    for finding in findings:
        numbers[finding.kind] = numbers.get(finding.kind, 0) + 1
    return numbers


def _check_table(verification: Verification) -> Table:
    numbers = _by_kind(verification.findings)
    table = Table.grid(padding=(0, 2))
    for what, kinds, _ in CHECKS:
        wrong = sum(numbers.get(kind, 0) for kind in kinds)
        table.add_row(f'  {what}', f'[bold red]{count(wrong, "disagreement")}[/]' if wrong
                      else _mark_without_findings(kinds, verification))
    return table


def _mark_without_findings(kinds: Tuple[str, ...], verification: Verification) -> str:
    if kinds == ('results',) and verification.results is None:
        return '[dim]none[/]'
    if 'parts' not in kinds and not verification.pages or 'report' in kinds and verification.report is None:
        return '[yellow]not to be checked[/]'
    return '[green]agrees[/]'


def _print_findings(console: Console, verification: Verification) -> None:
    findings = verification.findings
    if not findings:
        return
    shown = findings[:SHOWN_FINDINGS]
    number = len(findings) + verification.more
    more = f'; the first {len(shown)} of {number:,}' if number > len(shown) else ''
    table = Table(title=f'Disagreements{more}', title_justify='left', title_style='bold red', box=box.SIMPLE_HEAD,
                  pad_edge=False)
    table.add_column('file', overflow='fold')
    table.add_column('page', justify='right')
    table.add_column('about', no_wrap=True)
    table.add_column('what', overflow='fold')
    for finding in shown:
        page = '' if finding.page is None else f'{finding.page:,}'
        table.add_row(escape(finding.file), page, finding.kind, escape(finding.text))
    console.print(table)
    for advice in _advice(findings):
        console.print(f'  • {escape(advice)}')


def _advice(findings: Iterable[Finding]) -> List[str]:
    kinds = _by_kind(findings)
    return [advice for _, about, advice in CHECKS if advice and any(kind in kinds for kind in about)]


def _print_conclusion(console: Console, verification: Verification, quiet: bool) -> None:
    if verification.ok:
        if not quiet:
            console.print('[bold green]VERIFIED[/]  the file agrees with its report, from the first byte to the last')
    elif _by_kind(verification.findings).keys() == {'unfinished'}:
        console.print('[bold yellow]UNFINISHED[/]  what can be read of it is whole')
    else:
        console.print('[bold red]NOT VERIFIED[/]  the file is not what was recorded, or not what its report says')
    if not quiet:
        console.print(_completeness(verification.report))


def _completeness(report: Any) -> str:
    """Whether frames are missing is another question: the recording itself answered it."""
    if report is None:
        return 'complete: not known, since there is no report'
    reasons = f' ({"; ".join(report.reasons[:3])})' if report.reasons else ''
    return escape(f'complete: {report.complete}, says its report{reasons}')
