"""``results.md`` from the stored figures; nothing is measured here."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional

from . import figures
from .figures import BARE, DISK, ORIGINAL, THREE_PROC, Spread

__all__ = ['PARTS', 'machine_line', 'tables', 'targets', 'write']

#: The module behind each stored file; ``targets(found)`` and ``tables(found)`` tell of it.
PARTS = {'throughput': 'benchmarks.report', 'live': 'benchmarks.live', 'length': 'benchmarks.length',
         'reading': 'benchmarks.reading', 'cluster': 'benchmarks.cluster'}
PLAIN = f'{THREE_PROC}, uncompressed'
AIM = (1280, 480)            # the size that the aims are told for
FORMATS = {'gray': 'gray', 'bgr': 'BGR'}
Row = Dict[str, Any]


def write(folder: Path) -> Path:
    """Read throughput.json, live.json, … (one for each of PARTS that is there), draw the plots, write results.md.

    Raises FileNotFoundError when there is none of them.
    """
    found = {name: json.loads((folder / f'{name}.json').read_text())
             for name in PARTS if (folder / f'{name}.json').exists()}
    if not found:
        raise FileNotFoundError(f'nothing was measured yet: {folder} has none of '
                                f'{", ".join(f"{name}.json" for name in PARTS)}; run  python -m benchmarks all')
    pictures = _plots(found, folder)
    lines = ['# What was measured', '', 'Made by `python -m benchmarks report`; see `benchmarks/README.md`.', '']
    machines: Dict[str, List[str]] = {}
    for name, stored in found.items():
        machines.setdefault(machine_line(stored), []).append(name)
    for line, names in machines.items():
        lines += [f'{", ".join(f"`{name}`" for name in names)}: {line}', '']
    lines += ['## Aims', '', *_aims_table(found), '']
    for name, stored in found.items():
        lines += [f'## {name.capitalize()}', '', importlib.import_module(PARTS[name]).tables(stored).strip(), '']
        for path in pictures.get(name, ()):
            lines += [f'![{path.stem.replace("_", " ")}]({path.name})', '']
    target = folder / 'results.md'
    target.write_text('\n'.join(lines), encoding='utf-8')
    return target


def _plots(found: Mapping[str, Any], folder: Path) -> Dict[str, List[Path]]:
    """Each part's pictures; none where matplotlib is missing."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return {}
    from . import live_plots, plots
    draw = {'throughput': plots.plots_of_throughput, 'live': live_plots.plots_of_live,
            'length': live_plots.plots_of_length}
    return {name: draw[name](stored, folder) for name, stored in found.items() if name in draw}


def machine_line(stored: Mapping[str, Any]) -> str:
    """What it was measured on, in one paragraph."""
    machine = stored['machine']
    packages = ', '.join(f'{name} {version}' for name, version in machine['packages'].items() if version)
    disk = machine.get('disk', {})
    where = f', {disk["filesystem"]} on a disk ({disk.get("device", "unknown")})' if disk else ''
    return (f'{machine["cpu"]}, {machine["cores"]} cores, {machine["memory_gb"]:g} GB, Linux {machine["kernel"]}'
            f'{where}; Python {machine["python"]}, {packages}, ffmpeg {machine["ffmpeg"] or "missing"}.')


def _aims_table(found: Mapping[str, Any]) -> Iterator[str]:
    yield '| what | to reach | measured | reached |'
    yield '|---|---|---|---|'
    for name, stored in found.items():
        for row in importlib.import_module(PARTS[name]).targets(stored):
            verdict = {True: 'yes', False: '**no**', None: '–'}[row['reached']]
            yield f'| {row["measure"]} | {row["target"]} | {row["measured"]} | {verdict} |'


def targets(found: Mapping[str, Any]) -> List[Row]:
    """The aims that ``throughput`` can tell of: measure, target, measured (texts) and reached (None: not measured)."""
    rows: List[Row] = []
    for pixel_format, name in FORMATS.items():
        case = figures.find_case(found, 'camera-like', *AIM, pixel_format)
        rows += _aims_of(case, f'{AIM[0]}×{AIM[1]} {name}')
    case = figures.find_case(found, 'camera-like', *AIM, 'bgr')
    rows += [
        _row("CPU per frame beyond the codec's own, 1280×480 BGR '3Proc'", '≤ 0.8 ms',
             figures.beyond_codec_ms(case, THREE_PROC), 0.8, at_least=False, unit=' ms', more=_source_copy(case)),
        _row("frames/s, '3Proc' compressed, of the highest rate of the original's architecture, 1280×480 BGR", '≥ 1.8×',
             figures.ratio(case, THREE_PROC, ORIGINAL), 1.8, unit='×')]
    return rows


def _aims_of(case: Optional[figures.Case], name: str) -> List[Row]:
    rows = [
        _row(f"sustained frames/s, '3Proc' pass-through, {name}, compressed, of the bare codec (or of the disk, where "
             'that allows less)', '≥ 0.85', figures.share_of_limit(case, THREE_PROC), 0.85,
             more=_rates(case, THREE_PROC, BARE)),
        _row(f"the same, no compression, {name}, of plain sequential writing of the same frames", '≥ 0.7',
             figures.ratio(case, PLAIN, DISK), 0.7, more=_rates(case, PLAIN, DISK))]
    for other, aim in (('FFV1 (ffmpeg)', 3.8), ('x264 lossless (ffmpeg)', 2.0)):
        rows.append(_row(f"frames/s, '3Proc' compressed, of {other}, {name}", f'≥ {aim:g}×',
                         figures.ratio(case, THREE_PROC, other), aim, unit='×'))
    rows.append(_size_aim(case, name))
    return rows


def _size_aim(case: Optional[figures.Case], name: str) -> Row:
    row: Row = {'measure': f'compression ratio, of FFV1\'s, {name}', 'target': '≥ 0.92', 'measured': 'not measured',
                'reached': None}
    own, other = figures.entry(case, THREE_PROC), figures.entry(case, 'FFV1 (ffmpeg)')
    if case is not None and own is not None and other is not None:
        ours, theirs = figures.compression_ratio(case, own), figures.compression_ratio(case, other)
        if ours and theirs:
            row.update(measured=f'{ours / theirs:.2f} ({ours:.2f} of {theirs:.2f})', reached=ours / theirs >= 0.92)
    return row


def _row(measure: str, target: str, value: Optional[Spread], limit: float, at_least: bool = True, unit: str = '',
         more: str = '') -> Row:
    if value is None:
        return {'measure': measure, 'target': target, 'measured': 'not measured', 'reached': None}
    good = value.median >= limit if at_least else value.median <= limit
    return {'measure': measure, 'target': target, 'measured': f'{value.text(2)}{unit}{more}', 'reached': good}


def _rates(case: Optional[figures.Case], *names: str) -> str:
    stored = [figures.entry(case, name) for name in names]
    return f' ({" of ".join(f"{figures.rate(one).median:,.0f}" for one in stored if one)} frames/s)'


def _source_copy(case: Optional[figures.Case]) -> str:
    stored = figures.entry(case, 'memory copy')
    return f" (the camera's own copy is {figures.cpu_ms(stored).median:.2f} of it)" if stored else ''


def tables(found: Mapping[str, Any]) -> str:
    """Every case as a Markdown table, and what was left out."""
    settings = found['settings']
    lines = [f'Medians of {settings["rounds"]} rounds (least–most), contenders in turn. Ratios are between runs of the '
             'same round. *Beyond the codec*: processor time of all processes less the bare codec\'s. *Of the disk*: '
             'bytes/s into the file, of plain writing of the uncompressed frames. *Frames*: fewer for slow contenders.',
             '']
    for case in found['cases']:
        lines += [f'### {figures.case_name(case)}', '', *_case_table(case), '']
    return '\n'.join([*lines, *_left_out(found)])


def _case_table(case: figures.Case) -> Iterator[str]:
    yield ('| contender | frames/s | of the bare codec | CPU ms a frame | beyond the codec | of the disk | ratio | '
           'lossless | frames |')
    yield '|---|---|---|---|---|---|---|---|---|'
    for stored in case['contenders']:
        if stored['runs']:
            yield _line(case, stored)
    efforts = ', '.join(f'{name} {count}' for name, count in case['efforts'].items())
    yield f"\nEfforts that the recorder chose (pages): {efforts}."


def _line(case: figures.Case, stored: figures.Entry) -> str:
    name = stored['name']
    compressing = stored['group'] == 'recorder' and 'uncompressed' not in name
    beyond = figures.beyond_codec_ms(case, name) if compressing else None
    size = figures.compression_ratio(case, stored)
    cells = [name + (f' ({stored["note"]})' if stored['note'] else ''), figures.rate(stored).text(0),
             _text(figures.ratio(case, name, BARE)), figures.cpu_ms(stored).text(2), _text(beyond),
             _text(figures.share_of_disk(case, name)) if size else '–', f'{size:.2f}' if size else '–',
             _lossless(stored), f'{stored["runs"][0]["frames"]:,}']
    return f'| {" | ".join(cells)} |'


def _lossless(stored: figures.Entry) -> str:
    if stored['lossless'] is None:
        return '–'
    return f'yes, {stored["checked"]} read back' if stored['lossless'] else f'**no**: {stored["verdict"]}'


def _text(value: Optional[Spread]) -> str:
    return '–' if value is None else f'{value.median:.2f}'


def _left_out(found: Mapping[str, Any]) -> List[str]:
    """Contenders whose package is missing, with how to get it; and those that failed."""
    lines = []
    for case in found['cases']:
        for stored in case['contenders']:
            if stored['missing']:
                lines.append(f'- {stored["name"]} was left out; it needs  `{stored["missing"]}`')
            if stored['failed']:
                lines.append(f'- {stored["name"]} failed with {figures.case_name(case)}: {stored["failed"]}')
    return ['### Left out', '', *dict.fromkeys(lines), ''] if lines else []
