"""The panels of a plotted recording. Each shows what is stored, or says in words why there is nothing to show."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, NamedTuple, Tuple

import numpy as np

from ..recordings.page import STATUSES
from .plot_heading import INK, plain
from .plot_numbers import NOT_TOLD, PlotData, effort_name, shares
from .plot_strokes import (
    GRID,
    add_legend,
    byte_unit,
    draw_bars,
    draw_values,
    frame_axes,
    log_ticks,
    ms,
    rounded,
    scale_y,
    signed_ms,
    span,
    summarise,
    time_unit,
    whole_numbers,
    write_words,
)

__all__ = ['OVER_TIME', 'Panel', 'draw_latency', 'draw_marks', 'draw_ring', 'prepare']

# Okabe and Ito's colours, which colour-blind people can tell apart; effort gets darker as it gets dearer.
BLUE, ORANGE, RED, SKY, GREEN, PINK = '#0072B2', '#E69F00', '#B2182B', '#56B4E9', '#009E73', '#CC79A7'
STATUS_COLORS = dict(zip(STATUSES, ('#B8B8B8', BLUE, ORANGE, RED)))
EFFORT_COLORS = {'none': '#8a8a8a', 'stored': ORANGE, 'huffman': SKY, 'rle': GREEN, 'other': '#000000', **{
    f'deflate-{level}': color for level, color in zip(range(2, 10), (
        '#E0A9CB', PINK, '#B45C91', '#9C4A86', '#7D3C78', '#5E2F6B', '#45255C', '#2E1A47'))}}
REASON_COLORS = (RED, ORANGE, BLUE, PINK, GREEN)
MARK, WINE, PALE_RED = '#333333', '#882255', '#ECC8CC'       # pale, not translucent: bars may lie over each other

BARS, MOST_LINES = 240, 60
MOST_REASONS, OTHERS, MOST_EFFORTS = 3, 'other reasons', 4
NO_REPORT = 'Without a report this is not known.'


class Panel(NamedTuple):
    """One over time.

    height: beside the others. draw: into its axes. wanted: whether it is there at all. empty: why there is nothing to
    draw, in words; '' where there is.
    """

    name: str
    title: str
    unit: str
    height: float
    draw: Callable[[Any, PlotData], None]
    wanted: Callable[[PlotData], bool] = lambda data: True
    empty: Callable[[PlotData], str] = lambda data: ''


def prepare(axes: Any, data: PlotData, panel: Panel, last: bool) -> None:
    """Frame, grid, ticks and title; the time axis is labelled below the last panel only."""
    _, unit = time_unit(data)
    start, end = span(data)
    margin = (end - start) * 0.008
    axes.set_xlim(start - margin, end + margin)
    frame_axes(axes, panel.title)
    axes.set_ylabel(panel.unit, fontsize=7.5, color=INK)
    axes.tick_params(labelbottom=last)
    if last:
        axes.set_xlabel(f'time from the first frame, {unit}', fontsize=7.5, color=INK, labelpad=2)


# ------------------------------------------------------------------ marks

def draw_marks(axes: Any, data: PlotData, panel: Panel) -> None:
    """A dotted line through the panel for each event; where they are many, a short one at its upper edge."""
    if not data.marks or panel.empty(data):
        return
    scale, _ = time_unit(data)
    places = np.unique(rounded(np.array([mark.time_s for mark in data.marks]) / scale, data))
    few = len(places) <= MOST_LINES
    axes.vlines(places, 0 if few else 0.92, 1, transform=axes.get_xaxis_transform(), color=MARK, lw=0.8,
                ls=(0, (1, 1.5)) if few else 'solid', label='marks', zorder=1.5)


def _draw_mark_labels(axes: Any, data: PlotData) -> None:
    """Each where it is, in the first of three rows that has room for it; where none has, without its label."""
    axes.set_ylim(0, 3)
    axes.set_yticks([])
    axes.grid(False)
    scale, _ = time_unit(data)
    frame = axes.get_window_extent()
    taken = [frame.x0] * 3
    shown = 0
    for mark in data.marks:
        at = axes.transData.transform((mark.time_s / scale, 0))[0] + 4
        if at < min(taken):
            continue
        text = axes.text(mark.time_s / scale, 0, plain(mark.label, 28), fontsize=7, color=INK, parse_math=False,
                         va='center', ha='left', label='mark',
                         zorder=3, bbox={'boxstyle': 'square,pad=0.12', 'facecolor': 'white', 'edgecolor': 'none'})
        width = text.get_window_extent().width
        begin = at if at + width + 4 < frame.x1 else at - width - 12      # at the right end, to the left of its line
        row = next((row for row in range(3) if taken[row] <= begin), None)
        if row is None:
            text.remove()
            continue
        taken[row] = begin + width + 8
        text.set_position((axes.transData.inverted().transform((begin, 0))[0], 2.5 - row))
        shown += 1
    count = f'{len(data.marks):,}'
    summarise(axes, count if shown == len(data.marks) else f'{count}, {shown} of them with room for a label')


# ------------------------------------------------------------------ intervals and losses

def _draw_intervals(axes: Any, data: PlotData) -> None:
    _draw_gaps(axes, data)
    draw_values(axes, data, data.times_s[1:], data.intervals_ms, BLUE, 'intervals')
    low, middle, high = np.quantile(data.intervals_ms, (0.01, 0.5, 0.99))
    summarise(axes, f'median {ms(middle)} ms, 98 % from {ms(low)} to {ms(high)}, '
                   f'longest {ms(data.intervals_ms.max())}')
    scale_y(axes, data.intervals_ms, data.expected_ms)
    handles = []
    if data.expected_ms is not None:
        handles.append(axes.axhline(data.expected_ms, color=INK, lw=0.9, ls='--', zorder=1.4,
                                    label=f'expected {ms(data.expected_ms)} ms'))
    if data.gaps:
        from matplotlib.patches import Patch
        handles.append(Patch(color=PALE_RED, label='frames missing'))
    add_legend(axes, handles)


def _draw_gaps(axes: Any, data: PlotData) -> None:
    """Red bars from the frame before to the one behind; never so narrow that one could be overlooked."""
    if not data.gaps:
        return
    scale, _ = time_unit(data)
    start, end = span(data)
    least = (end - start) * 0.003
    starts = np.array([gap.start_s for gap in data.gaps]) / scale
    widths = np.array([gap.end_s for gap in data.gaps]) / scale - starts
    narrow = widths < least
    starts, widths = np.where(narrow, starts + widths / 2 - least / 2, starts), np.maximum(widths, least)
    bars = np.unique(np.stack([rounded(starts, data), rounded(widths, data)], axis=1), axis=0)
    axes.broken_barh([(begin, width) for begin, width in bars], (0, 1), transform=axes.get_xaxis_transform(),
                     facecolor=PALE_RED, label='gaps', zorder=1)


def _draw_losses(axes: Any, data: PlotData) -> None:
    from matplotlib.patches import Patch
    scale, _ = time_unit(data)
    start, end = span(data)
    edges = np.linspace(start, end, BARS + 1)
    bottom = np.zeros(BARS)
    handles = []
    reasons = _reasons(data)
    named = {reason for reason, _ in reasons}
    for (reason, count), color in zip(reasons, REASON_COLORS):
        gaps = [gap for gap in data.gaps if (gap.reason if gap.reason in named else OTHERS) == reason]
        middles = np.array([(gap.start_s + gap.end_s) / 2 for gap in gaps]) / scale
        lost, _ = np.histogram(np.clip(middles, start, end), edges, weights=[gap.count for gap in gaps])
        draw_bars(axes, edges[:-1], np.diff(edges), bottom, lost, color, reason)
        bottom += lost
        handles.append(Patch(color=color, label=f'{plain(reason, 24)} {count:,}'))
    axes.set_ylim(0, bottom.max() * 1.15)
    whole_numbers(axes)
    summarise(axes, f'{data.lost:,} at {data.places:,} place{"s" * (data.places != 1)}')
    add_legend(axes, handles)


def _reasons(data: PlotData) -> List[Tuple[str, int]]:
    """Reasons with counts, those with most first; the rare ones as one."""
    counts: Dict[str, int] = {}
    for gap in data.gaps:
        counts[gap.reason] = counts.get(gap.reason, 0) + gap.count
    ordered = sorted(counts.items(), key=lambda item: (item[0] == NOT_TOLD, -item[1]))
    if len(ordered) <= MOST_REASONS + 1:
        return ordered
    return [*ordered[:MOST_REASONS], (OTHERS, sum(count for _, count in ordered[MOST_REASONS:]))]


def _no_intervals(data: PlotData) -> str:
    return '' if len(data.intervals_ms) else 'One frame only: there is no interval.'


def _no_losses(data: PlotData) -> str:
    if data.gaps:
        return ''
    if data.report is None:
        return 'No number is missing between the frames that are here.'
    if data.report.loss_detection == 'none':
        return 'None is known; this camera gives no means to see losses.'
    return 'No frame is missing.'


# ------------------------------------------------------------------ what became of the frames

def _draw_status(axes: Any, data: PlotData) -> None:
    from matplotlib.patches import Patch
    begins, widths, shared = _status_bars(data)
    bottom = np.zeros(len(begins))
    for name, share in zip(STATUSES, shared):
        draw_bars(axes, begins, widths, 100 * bottom, 100 * share, STATUS_COLORS[name], name)
        bottom += share
    axes.set_ylim(0, 100)
    axes.set_yticks([0, 50, 100])
    add_legend(axes, [Patch(color=STATUS_COLORS[name], label=f'{name} {count:,}')
                   for name, count in data.by_status.items() if count])


def _status_bars(data: PlotData) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Begins and widths of the bars, and the share of each status in each: a bar a frame, or a stretch of many."""
    scale, _ = time_unit(data)
    start, end = span(data)
    if data.pages > 4 * BARS:
        edges = np.linspace(start, end, BARS + 1)
        return edges[:-1], np.diff(edges), shares(data.times_s / scale, data.status, len(STATUSES), start, end, BARS)
    usual = data.expected_ms or (float(np.median(data.intervals_ms)) if len(data.intervals_ms) else 1.0)
    widths = np.minimum(np.append(data.intervals_ms, usual), 1.5 * usual) / 1e3 / scale     # no wider over a gap
    return data.times_s / scale, widths, np.eye(len(STATUSES))[data.status].T


def _draw_callback(axes: Any, data: PlotData) -> None:
    seen = ~np.isnan(data.texts.cb_ms)
    told = data.report.callback_ms if data.report else {}
    if told:
        summarise(axes, f'of all calls: median {ms(told.get("p50"), 3)} ms, 99 % within {ms(told.get("p99"), 3)}, '
                       f'longest {ms(told.get("max"), 3)}')
    values = data.texts.cb_ms[seen]
    if not told:
        summarise(axes, f'of {len(values):,} pages: median {ms(float(np.median(values)), 3)} ms, '
                       f'longest {ms(float(values.max()), 3)}')
    draw_values(axes, data, data.times_s[data.texts.pages[seen]], values, WINE, 'callback')
    scale_y(axes, values, None)
    low, high = axes.get_ylim()
    if data.expected_ms is not None and low < data.expected_ms < 4 * high:
        axes.set_ylim(low, max(high, data.expected_ms * 1.15))
        add_legend(axes, [axes.axhline(data.expected_ms, color=INK, lw=0.9, ls='--', zorder=1.4,
                                    label=f'time of a frame {ms(data.expected_ms)} ms')])


def _no_callback(data: PlotData) -> str:
    if not np.isnan(data.texts.cb_ms).all():
        return ''
    counts = data.by_status
    if counts['by-passed'] == data.pages:
        return 'The callback saw no frame: all were by-passed.'
    if counts['by-passed'] + counts['failed']:
        return 'No page tells how long a call took.'
    if data.sampled:
        return f'None of the {len(data.texts.pages):,} pages that were read tells of a callback.'
    return 'No callback took part.'


# ------------------------------------------------------------------ compression and ring

def _draw_compression(axes: Any, data: PlotData) -> None:
    divisor, unit = byte_unit(int(data.page_bytes.max()))
    axes.set_ylabel(f'{unit} a page', fontsize=7.5, color=INK)
    for code in np.unique(data.effort).tolist():
        chosen = data.effort == code
        name = effort_name(code)
        draw_values(axes, data, data.times_s[chosen], data.page_bytes[chosen] / divisor, EFFORT_COLORS[name],
                     f'effort {name}')
    axes.set_ylim(0, float(data.page_bytes.max()) / divisor * 1.12)
    mean = float(data.page_bytes.mean())
    divisor, unit = byte_unit(data.frame_bytes)
    summarise(axes, f'{data.frame_bytes / mean:.2f} : 1 (raw {data.frame_bytes / divisor:,.4g} {unit})')
    add_legend(axes, _efforts(data))


def _efforts(data: PlotData) -> List[Any]:
    """For the legend: the most frequent, from the least effort to the most; the rest has its place in the plot only."""
    from matplotlib.patches import Patch
    counts = data.by_effort
    shown = sorted(counts, key=lambda name: -counts[name])[:MOST_EFFORTS]
    handles = [Patch(color=EFFORT_COLORS[name], label=f'{name} {counts[name]:,}') for name in counts if name in shown]
    rest = sum(count for name, count in counts.items() if name not in shown)
    return handles + ([Patch(color='white', label=f'others {rest:,}')] if rest else [])


def _draw_pressure(axes: Any, data: PlotData) -> None:
    steps = data.pressure_steps
    scale, _ = time_unit(data)
    times = np.array([time_s for time_s, _ in steps] + [float(data.times_s[-1])]) / scale
    levels = np.array([level for _, level in steps] + [steps[-1][1]])
    axes.fill_between(times, levels, step='post', color=ORANGE, lw=0.8, label='pressure')
    axes.set_ylim(0, 2.2)
    axes.set_yticks([0, 1, 2], ['full', 'fastest', 'stored'])
    if data.report is not None:
        cut = '; the first 1,000 changes are shown' if data.pressure_is == 'report, cut off' else ''
        summarise(axes, f'{data.report.effort_under_pressure:,} of {data.pages:,} pages{cut}')
    else:
        summarise(axes, f'from {"all" if data.pressure_is == "pages" else f"{len(data.texts.pages):,} of the"} pages')


def _no_pressure(data: PlotData) -> str:
    if len(data.pressure_steps) > 1:
        return ''
    if data.pressure_is == 'sampled pages':
        return f'None of the {len(data.texts.pages):,} pages that were read was hurried by a filling ring.'
    return 'No page was compressed less because the ring was filling.'


def _draw_skew(axes: Any, data: PlotData) -> None:
    there = ~np.isnan(data.texts.skew_ms)
    values = data.texts.skew_ms[there]
    draw_values(axes, data, data.times_s[data.texts.pages[there]], values, GREEN, 'skew')
    axes.axhline(0, color=INK, lw=0.7, zorder=1.4)
    most = max(float(np.abs(values).max()) * 1.2, 1e-3)
    axes.set_ylim(-most, most)
    summarise(axes, f'left time minus right time; median {signed_ms(np.median(values))} ms, '
                   f'farthest {signed_ms(values[np.argmax(np.abs(values))])} ms')


#: From the top down.
OVER_TIME = (
    Panel('marks', 'Marks', '', 0.55, _draw_mark_labels, lambda data: bool(data.marks)),
    Panel('intervals', 'Frame intervals', 'ms', 2.0, _draw_intervals, empty=_no_intervals),
    Panel('losses', 'Lost frames', 'frames', 0.9, _draw_losses, empty=_no_losses),
    Panel('status', 'What became of the frames', '%', 0.6, _draw_status),
    Panel('callback', 'Callback time', 'ms', 1.4, _draw_callback, empty=_no_callback),
    Panel('compression', 'Compression', 'bytes a page', 1.4, _draw_compression),
    Panel('pressure', 'Effort lowered by a filling ring', '', 0.6, _draw_pressure, empty=_no_pressure),
    Panel('skew', 'Stereo skew', 'ms', 0.9, _draw_skew, lambda data: bool((~np.isnan(data.texts.skew_ms)).any())),
)


# ------------------------------------------------------------------ of the whole recording

def draw_latency(axes: Any, data: PlotData) -> None:
    """From a frame's arrival to the callback's call, and to the written page."""
    frame_axes(axes, 'Latency')
    rows = [(name, data.report.latency_ms[key]) for key, name in (('callback', 'callback called'),
                                                                   ('disk', 'page written'))
            if data.report.latency_ms.get(key)] if data.report else []
    if not rows:
        return write_words(axes, NO_REPORT if data.report is None else 'The report tells none.')
    axes.set_xscale('log')
    axes.set_ylim(len(rows) - 0.2, -0.6)
    axes.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=7.5)
    axes.grid(axis='x', color=GRID, lw=0.6)
    axes.grid(False, axis='y')
    for row, (_, told) in enumerate(rows):
        p50, p99, most = (max(float(told.get(key, 0)), 1e-3) for key in ('p50', 'p99', 'max'))
        axes.plot([p50, most], [row, row], color=SKY, lw=2, solid_capstyle='butt')
        axes.plot([p50], [row], 'o', color=BLUE, ms=5, label='median' if not row else None)
        axes.plot([p99], [row], 'D', color=ORANGE, ms=4.5, label='99 % within' if not row else None)
        axes.plot([most], [row], '|', color=RED, ms=9, mew=2, label='longest' if not row else None)
        axes.annotate(' · '.join(ms(value, 3) for value in (p50, p99, most)) + ' ms', (p50, row), (0, -7),
                      textcoords='offset points', fontsize=7, color=INK, ha='left', va='top', annotation_clip=False)
    lows, highs = [float(told.get('p50', 1)) for _, told in rows], [float(told.get('max', 1)) for _, told in rows]
    log_ticks(axes.xaxis, max(min(lows), 1e-3) / 2, max(highs) * 6, axes.set_xlim)
    axes.set_xlabel('ms from the arrival of a frame', fontsize=7.5, color=INK, labelpad=1)
    add_legend(axes, axes.lines[1:4])


def draw_ring(axes: Any, data: PlotData) -> None:
    """How full the ring was at most."""
    frame_axes(axes, 'Ring')
    report = data.report
    if report is None or not report.ring_frames:
        return write_words(axes, NO_REPORT if report is None else 'The report does not tell the ring\'s size.')
    share = report.ring_high_water / report.ring_frames
    axes.barh([0], [report.ring_frames], 0.5, color='#ececec', lw=0)
    # A source that waits (files) keeps it full, and that does no harm.
    harmful = any(gap.reason == 'ring full' for gap in data.gaps)
    axes.barh([0], [report.ring_high_water], 0.5, color=RED if harmful else BLUE, lw=0, label='high water')
    axes.set_ylim(-0.8, 0.8)
    axes.set_yticks([])
    axes.grid(False)
    axes.set_xlim(0, report.ring_frames)
    axes.set_xlabel('slots in use', fontsize=7.5, color=INK, labelpad=1)
    whole_numbers(axes, 'x')
    summarise(axes, f'at most {report.ring_high_water:,} of {report.ring_frames:,} slots ({100 * share:.3g} %)')
