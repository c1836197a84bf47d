"""``ppr compare``: what two runs differ in, frame by frame, in words; the exit code says whether they do."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Optional

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..errors import SettingsError
from ..processing.compare import Comparison, Difference, compare
from .frame_bar import frame_bar
from .outcome import COMPLETE, DOUBTFUL, BadUsage
from .verdict import clock_time, count

__all__ = ['run_compare']

SHOWN = 20
SHOWN_TEXTS = 3


def run_compare(a: Path, b: Path, *, by: str, iou: float, tolerance: float, time_tolerance: Optional[str],
                as_json: bool, quiet: bool) -> int:
    """Compare, print what was found; returns the exit code. Raises RecorderError."""
    if time_tolerance is not None and by != 'time':
        raise BadUsage('--time-tolerance goes with --by time; frames are compared by their index otherwise')
    try:
        with frame_bar('comparing', show=not quiet and not as_json) as shown:
            comparison = compare(a, b, by=by, iou=iou, tolerance=tolerance, time_tolerance=time_tolerance or 0,
                                 progress=shown.show)
    except SettingsError as error:
        raise BadUsage(str(error)) from error
    if as_json:
        print(json.dumps(_finite(comparison.as_dict()), indent=2))
    elif not quiet:
        _print_comparison(Console(highlight=False), comparison)
    return COMPLETE if comparison.equal else DOUBTFUL


def _finite(value: Any) -> Any:
    """nan and the infinities as the results file has them: JSON knows none."""
    if isinstance(value, float) and not math.isfinite(value):
        return {'__type__': 'float', 'text': repr(value)}
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value


def _print_comparison(console: Console, found: Comparison) -> None:
    console.print(f'[bold]A[/]  {escape(str(found.a))}  {count(found.results_a, "result")}')
    console.print(f'[bold]B[/]  {escape(str(found.b))}  {count(found.results_b, "result")}')
    console.print(_headline(found))
    if found.boxes.same + found.boxes.changed + found.boxes.added + found.boxes.gone:
        console.print(_boxes(found))
    if found.differences:
        console.print(_table(found))
    if not found.equal:
        console.print('They may differ because' if found.reasons else
                      'Nothing in the recordings tells why they differ: is the callback deterministic, and the same?')
    for reason in found.reasons:
        typed = reason.replace("by='time'", '--by time')
        console.print(f'  • {escape(typed)}')


def _headline(found: Comparison) -> str:
    how = 'index' if found.by == 'index' else f'time, at most {found.time_tolerance_ns / 1e6:g} ms apart'
    if not found.frames:
        return '[bold green]THE SAME[/]  neither has results'
    if found.equal:
        return f'[bold green]THE SAME[/]  {count(found.frames, "frame")} with results, by {how}'
    return (f'[bold red]DIFFERENT[/]  of {count(found.frames, "frame")} with results, by {how}: {found.same:,} the '
            f'same · {found.changed:,} changed · {found.gone:,} only in A · {found.added:,} only in B')


def _boxes(found: Comparison) -> str:
    boxes = found.boxes
    same = 'the same' if found.iou >= 1 else f'overlap by {found.iou:g} or more'
    ious = '' if boxes.mean_iou is None or boxes.min_iou is None else (
        f' · IoU of pairs {_share(boxes.mean_iou)} on average, {_share(boxes.min_iou)} at least')
    return (f'Boxes: {boxes.same:,} {same} · {boxes.changed:,} changed · {boxes.gone:,} only in A · {boxes.added:,} '
            f'only in B{ious}')


def _share(share: float) -> str:
    """Rounded down: what is not 1 never reads as 1."""
    return f'{math.floor(share * 10_000) / 10_000:.4g}'


def _table(found: Comparison) -> Table:
    differing = found.frames - found.same
    shown = found.differences[:SHOWN]
    more = f'; the first {len(shown)} of {differing:,}' if differing > len(shown) else ''
    table = Table(title=f'Frames that differ{more}', title_justify='left', title_style='bold', box=box.SIMPLE_HEAD,
                  pad_edge=False)
    table.add_column('frame', justify='right')
    table.add_column('page', justify='right')
    table.add_column('time (UTC)', no_wrap=True)
    table.add_column('what', no_wrap=True)
    table.add_column('A → B', overflow='fold')
    for one in shown:
        table.add_row('none' if one.index is None else f'{one.index:,}', '' if one.page is None else f'{one.page:,}',
                      clock_time(one.time_ns), {'gone': 'only in A', 'added': 'only in B'}.get(one.kind, one.kind),
                      escape(_texts(one)))
    return table


def _texts(one: Difference) -> str:
    if one.kind != 'changed':
        put = one.a or one.b
        return json.dumps(put[0] if len(put) == 1 else put, ensure_ascii=False)[:200]
    more = len(one.texts) - SHOWN_TEXTS
    return '\n'.join(one.texts[:SHOWN_TEXTS]) + (f'\n… and {more:,} more' if more > 0 else '')
