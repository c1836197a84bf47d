"""Plots of ``live`` and ``length``: PNG files by matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import Any, List, Mapping, Tuple

import numpy as np

from .length import windows
from .live import latencies_of
from .live_trials import PACED

__all__ = ['plots_of_length', 'plots_of_live']

#: Told apart by line as well as by colour (Okabe and Ito's, which colour-blind people can tell apart).
LINES = {'recorder': ('#0072B2', '-'), 'recorder, uncompressed': ('#56B4E9', '--'),
         'pickled queue': ('#E69F00', '-'), 'original': ('#D55E00', '--')}
LABELS = {'recorder': 'this recorder, compressing', 'recorder, uncompressed': 'this recorder, uncompressed',
          'pickled queue': 'pickled queue, nothing else to do', 'original': "the original's architecture"}
DPI = 110


def plots_of_live(found: Mapping[str, Any], folder: Path) -> List[Path]:
    """The distribution of latencies: for each size, which share of the frames waited longer than so long."""
    figure, axes = _figure(len(found['settings']['sizes']), 1)
    for axis, size in zip(axes, found['settings']['sizes']):
        for name in PACED:
            values = latencies_of(found, size, name) / 1000
            if len(values):
                colour, line = LINES[name]
                share = 100 * (1 - np.arange(len(values)) / len(values))
                axis.step(values, share, where='post', color=colour, linestyle=line, label=LABELS[name], linewidth=1.8)
        for limit_ms, percent, text in ((1.0, 50, 'p50 ≤ 1 ms'), (5.0, 1, 'p99 ≤ 5 ms')):
            axis.plot([limit_ms], [percent], marker='v', color='black', markersize=8, zorder=5)
            axis.annotate(text, (limit_ms, percent), textcoords='offset points', xytext=(8, 4), fontsize=9)
        axis.set(xscale='log', yscale='log', ylim=(0.05, 120), title=f'{size.replace("x", "×")} '
                 f'{found["settings"]["pixel_format"].upper()}, {found["settings"]["framerate"]:g} frames/s',
                 xlabel='latency from the camera to the callback, ms')
        axis.set_yticks([100, 50, 10, 1, 0.1], ['100', '50', '10', '1', '0.1'])
        axis.xaxis.set_major_formatter(lambda value, _: f'{value:g}')
        axis.grid(True, which='major', alpha=0.35)
    axes[0].set_ylabel('share of frames that take longer, %')
    axes[-1].legend(loc='lower left', fontsize=9)
    return [_save(figure, folder / 'latency.png')]


def plots_of_length(found: Mapping[str, Any], folder: Path) -> List[Path]:
    """Cost of a frame and memory over a long recording."""
    figure, (cost, memory) = _figure(1, 2)
    long = found['long']
    frame, cpu_ms = _cpu(long['samples'])
    cost.plot(long['frame_ms']['frame'], long['frame_ms']['ms'], color='#E69F00', label='time', linewidth=1.4)
    cost.plot(frame, cpu_ms, color='#0072B2', label='CPU, all processes', linewidth=1.4)
    early = windows(found)['early']
    cost.plot([sample[0] for sample in long['samples']],
              [sample[5] * 1000 * early['cpu_ms'] / early['fixed_ms'] for sample in long['samples']], color='0.6',
              linewidth=0.7, zorder=1, label='a fixed piece of work (scaled): the machine')
    cost.axhline(1.1 * early['cpu_ms'], color='black', linestyle=':', linewidth=1.2,
                 label=f'1.1 × CPU around frame {found["settings"]["early_frame"]:,}')
    # Room for the legend; a pause of the disk or of the machine must not flatten all the rest.
    usual = float(np.percentile([*long['frame_ms']['ms'], *cpu_ms], 90))
    cost.set(ylabel='ms per frame', ylim=(0, 1.9 * usual))
    cost.legend(loc='upper left', ncols=2, fontsize=9)
    with_memory = [sample for sample in long['samples'] if sample[3] is not None]
    megabytes = [(sample[3] - sample[4]) / 1e6 for sample in with_memory]
    memory.plot([sample[0] for sample in with_memory], megabytes, color='#009E73', linewidth=1.4)
    memory.set(ylabel='memory beyond the ring\n(PSS of all processes), MB', xlabel='frame',
               ylim=(0, 1.15 * max(megabytes)))
    for axis in (cost, memory):
        axis.grid(True, alpha=0.35)
        axis.xaxis.set_major_formatter(lambda value, _: f'{value:,.0f}')
        axis.set_xlim(0, long['count'])
    settings = found['settings']
    cost.set_title(f'{settings["count"]:,} frames of {settings["width"]}×{settings["height"]} '
                   f'{settings["pixel_format"]} in one recording')
    return [_save(figure, folder / 'length.png')]


def _cpu(samples: List[List[Any]], most: int = 100) -> Tuple[List[float], List[float]]:
    """CPU ms a frame between samples that are far enough apart to mean something: (frame, ms)."""
    chosen = samples[:1]
    for sample in samples:
        if sample[0] - chosen[-1][0] >= max(1, samples[-1][0] // most):
            chosen.append(sample)
    pairs = list(zip(chosen, chosen[1:]))
    return ([end[0] for _, end in pairs],
            [1000 * (end[2] - begin[2]) / (end[0] - begin[0]) for begin, end in pairs])


def _figure(columns: int, rows: int) -> Tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    figure = Figure(figsize=(5.6 * columns if columns > 1 else 8, 4.6 if rows == 1 else 6.4), dpi=DPI,
                    layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=rows > 1, sharey=columns > 1)
    return figure, axes.reshape(-1)


def _save(figure: Any, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path
