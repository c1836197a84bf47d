"""``ppr info`` and ``ppr cameras``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..recordings.encoder import EFFORTS
from ..recordings.part import parts_on_disk
from ..recordings.reader import RecordingFile
from ..recordings.stored_report import report_of
from ..report import Loss, Report, is_cut
from ..settings import Settings
from .verdict import clock_time, count, duration, loss_table, print_verdict, size

__all__ = ['describe_recording', 'show_cameras', 'show_recording']


def show_recording(path: Path, as_json: bool) -> None:
    """Print what is known about a recording. Raises RecordingFileError."""
    with RecordingFile(path) as recording:
        facts = describe_recording(recording)
    if as_json:
        print(json.dumps(facts, indent=2))
    else:
        _print_facts(Console(highlight=False), facts)


def describe_recording(recording: RecordingFile) -> Dict[str, Any]:
    """All of it as JSON types."""
    index = recording.index()
    stored = recording.annotations
    return {
        'file': str(recording.path), 'bytes': recording.path.stat().st_size, 'finished': recording.finished,
        'description_intact': recording.sealed, 'pages': len(index),
        'width': recording.width, 'height': recording.height,
        'pixel_format': recording.pixel_format, 'first_time_ns': int(index['time_ns'][0]),
        'last_time_ns': int(index['time_ns'][-1]), 'effort': _efforts(index), 'gaps': find_gaps(index),
        'report': stored.get('report'), 'settings': recording.about.get('settings'),
        'metadata': recording.about.get('metadata'), 'camera': recording.about.get('camera'),
        'marks': stored.get('marks'), 'part': stored.get('file')}


def find_gaps(index: np.ndarray) -> List[Dict[str, Any]]:
    """Where frame numbers are missing in the file, as its pages tell it (it need not be finished for that)."""
    numbers = index['index']
    gaps = []
    for page in np.flatnonzero(np.diff(numbers) != 1):
        gaps.append({'after_page': int(page), 'index': int(numbers[page]) + 1,
                     'count': int(numbers[page + 1] - numbers[page]) - 1, 'time_ns': int(index['time_ns'][page])})
    return gaps


def _efforts(index: np.ndarray) -> Dict[str, int]:
    numbers = np.bincount(index['effort'], minlength=len(EFFORTS))
    return {name: int(number) for name, number in zip(EFFORTS, numbers) if number}


def _print_facts(console: Console, facts: Dict[str, Any]) -> None:
    seconds = (facts['last_time_ns'] - facts['first_time_ns']) / 1e9
    console.print(f'[bold]{escape(facts["file"])}[/]  {count(facts["pages"], "page")} of '
                  f'{facts["width"]}×{facts["height"]} {facts["pixel_format"]}, {size(facts["bytes"])}, '
                  f'{duration(seconds)} from {clock_time(facts["first_time_ns"])} UTC')
    if not facts['finished']:
        console.print(f'[bold yellow]UNFINISHED[/]  the recording was cut off, or is still running. '
                      f'{count(facts["pages"], "page")} can be read; it has no verdict. Once it has been cut off, '
                      f'run:  ppr repair {escape(facts["file"])}', soft_wrap=True)
    console.print(*_on_the_part(facts), *_on_the_cut(facts), soft_wrap=True, end='')
    if not facts['description_intact']:
        console.print('[bold red]DAMAGED[/]  verdict, settings and metadata are not what was written into the file. '
                      f'What is still right tells:  ppr verify {escape(facts["file"])}', soft_wrap=True)
    report = stored_report(facts)
    if report is not None:
        print_verdict(console, report, of_cut=is_cut(facts['metadata']))
    if facts['gaps'] and (report is None or not report.losses):
        losses = [Loss(gap['index'], gap['count'], gap['time_ns'], 'not in the file') for gap in facts['gaps']]
        console.print(loss_table(losses, sum(loss.count for loss in losses)))
    if facts['metadata']:
        console.print('[bold]Metadata[/]', _table(facts['metadata']), sep='\n')
    if facts['settings']:
        console.print('[bold]Settings[/] (all others at their defaults)', _table(chosen(facts['settings'])), sep='\n')


def _on_the_part(facts: Dict[str, Any]) -> List[str]:
    """Of a file of a split recording: which one it is, and where the verdict is."""
    place = facts['part'] if isinstance(facts['part'], dict) else {}
    path, number = Path(facts['file']), place.get('part')
    if type(number) is not int or number == 0 and place.get('last') is not False:
        return []
    text = f'This is file {number + 1:,} of a recording in several files'
    if place.get('last') is True:
        return [f'{text}, the last one; verdict and counts are those of all of them\n']
    suffix = f'_{number:03d}' if number else ''
    first = path.with_name(path.stem[:-len(suffix)] + path.suffix) if suffix and path.stem.endswith(suffix) else path
    others = parts_on_disk(first)
    where = f':  ppr info {others[-1][1]}' if others else ''
    return [escape(f'{text}; the verdict on all of them is in the last one{where}\n')]


def _on_the_cut(facts: Dict[str, Any]) -> List[str]:
    """Of a cut: what it was cut from, and that the verdict is on its frames only."""
    metadata = facts['metadata'] if isinstance(facts['metadata'], dict) else {}
    if not is_cut(metadata):
        return []
    cut = metadata['cut']
    taken = f'one in {cut["every"]:,} of ' if cut['every'] != 1 else ''
    return [escape(f'A cut of {cut.get("file")}: {taken}its frames {cut["start"]:,} to {cut["stop"] - 1:,}, numbered '
                   'anew from 0. Counts and verdict are those of the cut\n')]


def stored_report(facts: Dict[str, Any]) -> Optional[Report]:
    """The report in the file, with what only the finished file can tell; None when there is none."""
    if not isinstance(facts['report'], dict) or not facts['report']:
        return None
    known = dict(facts['report'])
    known['files'] = known.get('files') or [facts['file']]
    known['file_bytes'] = known.get('file_bytes') or facts['bytes']
    known['effort'] = known.get('effort') or facts['effort']
    return report_of(known)


def chosen(settings: Mapping[str, Any]) -> Dict[str, Any]:
    """The settings that are not at their default."""
    default = Settings(tif_path=Path('default.tif')).as_dict()
    return {name: value for name, value in settings.items() if name not in default or value != default[name]}


def _table(values: Dict[str, Any]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow='fold')
    for key, value in values.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        table.add_row(f'  {escape(str(key))}', escape(text))
    return table


def show_cameras(as_json: bool) -> None:
    """Print the cameras of this machine."""
    from ..cameras.registry import listings
    found = listings()
    if as_json:
        print(json.dumps([{'name': item.name, 'description': item.description, 'available': item.available,
                           'why_not': item.why_not, 'modes': list(item.modes)} for item in found], indent=2))
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ('', 'pass as --camera', 'what it is'):
        table.add_column(name)
    for item in sorted(found, key=lambda item: not item.available):
        what = escape(item.description) + ''.join(f'\n  {escape(mode)}' for mode in item.modes)
        if not item.available:
            what += f'\n[yellow]{escape(item.why_not)}[/]'
        table.add_row('[green]yes[/]' if item.available else '[red]no[/]', escape(item.name), what)
    Console(highlight=False).print(table)
