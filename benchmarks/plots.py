"""Pictures of ``throughput``: frames a second, and where a frame's processor time goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Mapping

import matplotlib

matplotlib.use('Agg')

import matplotlib.pyplot as pyplot  # noqa: E402
from matplotlib.patches import Patch  # noqa: E402

from . import figures  # noqa: E402

__all__ = ['plots_of_throughput']

COLOURS = {'recorder': '#1f77b4', 'limit': '#8c8c8c', 'original': '#d62728', 'other': '#ff9f40'}
MEANINGS = {'recorder': 'this recorder', 'limit': 'a limit: codec, memory or disk alone',
            'original': "the original's architecture", 'other': 'other software'}
CODEC, REST = '#9ecae1', '#08519c'


def plots_of_throughput(found: Mapping[str, Any], folder: Path) -> List[Path]:
    """Write the PNGs into ``folder``; their paths."""
    cases = [case for case in found['cases'] if any(stored['runs'] for stored in case['contenders'])]
    if not cases:
        return []
    return [_rates(cases, folder / 'frames_per_second.png'), _cpu(cases, folder / 'cpu_per_frame.png')]


def _rates(cases: List[Mapping[str, Any]], path: Path) -> Path:
    names = _names(cases)
    columns = min(len(cases), 3)
    figure, axes = _grid(len(cases), columns, len(names))
    for place, case in zip(axes, cases):
        stored = _by_name(case)
        for height, name in enumerate(names):
            if name not in stored:
                continue
            rate = figures.rate(stored[name])
            lossy = stored[name]['lossless'] is False
            place.barh(height, rate.median, color=COLOURS[stored[name]['group']], alpha=0.45 if lossy else 1,
                       hatch='///' if lossy else None, xerr=[[rate.median - rate.least], [rate.most - rate.median]],
                       error_kw={'elinewidth': 1, 'ecolor': 'black'})
            place.annotate(f'{rate.median:,.0f}', (rate.most, height), xytext=(4, 0), textcoords='offset points',
                           va='center', fontsize=7.5)
        if figures.BARE in stored:
            place.axvline(figures.rate(stored[figures.BARE]).median, color='black', linewidth=0.8, linestyle=':')
        place.set_xscale('log')
        place.margins(x=0.18)
        place.set_title(figures.case_name(case), fontsize=10)
        place.set_xlabel('frames/s (log), median and range')
        _label(place, names)
    handles = [Patch(color=COLOURS[group], label=meaning) for group, meaning in MEANINGS.items()]
    handles.append(Patch(facecolor=COLOURS['other'], alpha=0.45, hatch='///', label='not lossless'))
    return _finish(figure, path, 'Frames a second, first frame to synced file (dotted: the bare codec)', handles)


def _cpu(cases: List[Mapping[str, Any]], path: Path) -> Path:
    """What a frame costs; of the compressing recorders, the codec's own part apart."""
    names = [name for name in _names(cases) if not name.startswith('memory copy') and not name.startswith('raw disk')]
    figure, axes = _grid(len(cases), min(len(cases), 3), len(names))
    for place, case in zip(axes, cases):
        stored = _by_name(case)
        codec = figures.cpu_ms(stored[figures.BARE]).median if figures.BARE in stored else 0.0
        for height, name in enumerate(names):
            if name not in stored:
                continue
            cost = figures.cpu_ms(stored[name]).median
            ours = stored[name]['group'] == 'recorder'
            of_codec = min(codec, cost) if name == figures.BARE or ours and 'uncompressed' not in name else 0.0
            place.barh(height, of_codec, color=CODEC)
            place.barh(height, cost - of_codec, left=of_codec, color=REST if ours else COLOURS[stored[name]['group']])
            place.annotate(f'{cost:.2f}' + (f' (+{cost - of_codec:.2f})' if ours and of_codec else ''), (cost, height),
                           xytext=(4, 0), textcoords='offset points', va='center', fontsize=7.5)
        place.margins(x=0.22)
        place.set_title(figures.case_name(case), fontsize=10)
        place.set_xlabel('CPU of all processes, ms a frame')
        _label(place, names)
    handles = [Patch(color=CODEC, label="the codec's own (bare codec)"),
               Patch(color=REST, label='this recorder: beyond the codec'),
               *(Patch(color=COLOURS[group], label=f'{MEANINGS[group]}, all of it') for group in ('original', 'other'))]
    return _finish(figure, path, 'Processor time a frame, medians', handles)


def _names(cases: List[Mapping[str, Any]]) -> List[str]:
    """Everybody who ran anywhere, in the order of the results."""
    names: Dict[str, None] = {}
    for case in cases:
        names.update(dict.fromkeys(_by_name(case)))
    return list(names)


def _by_name(case: Mapping[str, Any]) -> Dict[str, Mapping[str, Any]]:
    return {stored['name']: stored for stored in case['contenders'] if stored['runs']}


def _grid(count: int, columns: int, bars: int) -> Any:
    rows = -(-count // columns)
    figure, axes = pyplot.subplots(rows, columns, figsize=(2.2 + 4.6 * columns, 1.6 + rows * (0.9 + 0.21 * bars)),
                                   squeeze=False, sharey=True, layout='constrained')
    flat = list(axes.flat)
    for unused in flat[count:]:
        unused.set_visible(False)
    return figure, flat[:count]


def _label(place: Any, names: List[str]) -> None:
    place.set_yticks(range(len(names)), names, fontsize=8)
    place.set_ylim(len(names) - 0.4, -0.6)
    place.grid(axis='x', alpha=0.3)
    place.set_axisbelow(True)


def _finish(figure: Any, path: Path, title: str, handles: List[Any]) -> Path:
    figure.suptitle(title, fontsize=12)
    figure.legend(handles=handles, loc='outside lower center', ncols=len(handles), fontsize=9, frameon=False)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return path
