"""What the panels of a plot are drawn with: axes, dots or envelopes, bars, legends, and numbers in words."""

from __future__ import annotations

from typing import Any, Optional, Tuple

import numpy as np

from .plot_heading import FAINT, INK
from .plot_numbers import PlotData, envelope

__all__ = ['GRID', 'STRETCHES', 'add_legend', 'byte_unit', 'draw_bars', 'draw_values', 'frame_axes', 'log_ticks', 'ms',
           'rounded', 'scale_y', 'signed_ms', 'span', 'summarise', 'time_unit', 'whole_numbers', 'write_words']

GRID = '#e4e4e4'
MOST_DOTS, STRETCHES = 2500, 1000       # more are drawn as the lowest, middle and highest of so many stretches of time
TITLE_PAD = 4                           # points


def time_unit(data: PlotData) -> Tuple[float, str]:
    """Seconds in the unit of the time axis, and its name."""
    return (1.0, 's') if data.end_s < 600 else (60.0, 'min') if data.end_s < 3 * 3600 else (3600.0, 'h')


def span(data: PlotData) -> Tuple[float, float]:
    """Where the time axis begins and ends, in its unit."""
    scale, _ = time_unit(data)
    start = min([0.0, *(mark.time_s for mark in data.marks)])
    return start / scale, (data.end_s if data.end_s > start else start + 1e-3) / scale


def frame_axes(axes: Any, title: str) -> None:
    """Two sides, a faint grid, the title; nothing is left to what the user's matplotlib is set to."""
    axes.set_facecolor('white')
    for side, spine in axes.spines.items():
        spine.set_visible(side in ('left', 'bottom'))
        spine.set(color='#9a9a9a', linewidth=0.7)
    axes.tick_params(labelsize=7, colors=INK, color='#9a9a9a', length=3, width=0.7)
    axes.grid(axis='y', color=GRID, lw=0.6)
    axes.set_axisbelow(True)
    axes.annotate(title, (0, 1), (0, TITLE_PAD), xycoords='axes fraction', textcoords='offset points', fontsize=8.5,
                  weight='bold', color=INK, ha='left', va='baseline', annotation_clip=False, label='title')


def summarise(axes: Any, text: str) -> None:
    """Behind the title, on its line."""
    title = next(artist for artist in axes.texts if artist.get_label() == 'title')
    axes.annotate(text, (1, 1), (8, TITLE_PAD), xycoords=(title, 'axes fraction'), textcoords='offset points',
                  fontsize=7.5, color=FAINT, ha='left', va='baseline', annotation_clip=False, parse_math=False,
                  label='summary')


def add_legend(axes: Any, handles: Any) -> None:
    """At the right end of the title's line."""
    if handles:
        axes.legend(handles=handles, loc='lower right', bbox_to_anchor=(1.005, 0.99), ncol=len(handles), frameon=False,
                    fontsize=7, labelcolor=INK, handlelength=1.3, handletextpad=0.4, columnspacing=1.2, borderpad=0.15,
                    borderaxespad=0.1)


def write_words(axes: Any, text: str) -> None:
    """Instead of anything drawn."""
    axes.set_yticks([])
    axes.set_ylabel('')
    axes.grid(False)
    if axes.get_label() in ('latency', 'ring'):
        axes.set_xticks([])
    axes.set_facecolor('#f6f6f6')
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha='center', va='center', fontsize=8, color=FAINT,
              style='italic', label='words')


def draw_values(axes: Any, data: PlotData, times_s: np.ndarray, values: np.ndarray, color: str, label: str) -> None:
    """Each value as a dot; where they are too many, the lowest to the highest of each stretch, and its median."""
    scale, _ = time_unit(data)
    if len(values) <= MOST_DOTS:
        axes.plot(times_s / scale, values, 'o', ms=4 if data.pages < 100 else 2.6 if data.pages < 800 else 1.8,
                  mew=0, color=color, label=label, zorder=2)
        return
    start, end = span(data)
    drawn = envelope(times_s / scale, values, start, end, STRETCHES)
    axes.vlines(drawn.times_s, drawn.low, drawn.high, color=_lightened(color), lw=0.9, label=label, zorder=2)
    axes.plot(drawn.times_s, drawn.middle, 'o', ms=1.3, mew=0, color=color, zorder=2.1, label=f'{label}, median')


def draw_bars(axes: Any, begins: np.ndarray, widths: np.ndarray, bottoms: np.ndarray, heights: np.ndarray, color: str,
              label: str) -> None:
    """Upright bars, all as one artist; none where there is no height."""
    from matplotlib.collections import PolyCollection
    some = heights > 0
    left, low = begins[some], bottoms[some]
    right, high = left + widths[some], low + heights[some]
    if some.any():
        corners = np.array([(left, low), (right, low), (right, high), (left, high)]).transpose(2, 0, 1)
        axes.add_collection(PolyCollection(list(corners), facecolors=color, linewidths=0, antialiased=False,
                                           label=label), autolim=False)


def _lightened(color: str) -> Tuple[float, ...]:
    """Half way to white."""
    from matplotlib.colors import to_rgb
    return tuple(1 - 0.5 * (1 - part) for part in to_rgb(color))


def scale_y(axes: Any, values: np.ndarray, expected: Optional[float]) -> None:
    """From 0 where all values are of one size, else logarithmic."""
    high = max(float(values.max()), expected or 0.0, 1e-3)
    usual = expected or float(np.median(values))
    positive = values[values > 0]
    if usual > 0 and high > 6 * usual and len(positive):
        axes.set_yscale('log')
        log_ticks(axes.yaxis, min(float(positive.min()), usual) / 1.6, high * 1.6, axes.set_ylim)
        return
    axes.set_ylim(0, high * 1.25)
    _plain_numbers(axes.yaxis)


def _plain_numbers(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator
    axis.set_major_locator(MaxNLocator(4))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:,.6g}'))


def whole_numbers(axes: Any, which: str = 'y') -> None:
    """Ticks at whole numbers only: frames and slots come in no others."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator
    axis = axes.yaxis if which == 'y' else axes.xaxis
    axis.set_major_locator(MaxNLocator(3, integer=True))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:,.0f}'))


def log_ticks(axis: Any, low: float, high: float, set_limits: Any) -> None:
    """Limits and ticks of a logarithmic axis, written out as plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator
    set_limits(low, high)
    wide = high / low > 300
    axis.set_major_locator(LogLocator(10, subs=(1,) if wide else (1, 2, 5), numticks=8))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:,.6g}'))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def rounded(positions: np.ndarray, data: PlotData) -> np.ndarray:
    """Positions rounded to what can be told apart on the page: a million lines are not drawn over each other."""
    start, end = span(data)
    step = (end - start) / (4 * STRETCHES)
    return positions if len(positions) <= STRETCHES else np.round(positions / step) * step


def byte_unit(most: int) -> Tuple[float, str]:
    """Bytes in a unit that suits a number of them, and its name."""
    return (1e6, 'MB') if most >= 2e6 else (1e3, 'kB') if most >= 2e3 else (1.0, 'bytes')


def ms(value: Optional[float], digits: int = 4) -> str:
    """A number of milliseconds, for people."""
    if value is None:
        return '?'
    return f'{value:,.0f}' if value >= 999.5 else f'{value:.{digits}g}'


def signed_ms(value: float) -> str:
    """With its sign."""
    return f'{round(value, 3) + 0.0:+.3f}'.replace('-', '\N{MINUS SIGN}')
