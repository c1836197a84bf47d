"""The head and the foot of a plotted page: what was recorded, and the verdict on it."""

from __future__ import annotations

import textwrap
from functools import lru_cache
from typing import Any, List, Tuple

from .._version import __version__
from ..extras import require
from ..reading import Recording
from ..report import DISK_NEARLY_FULL, Report, is_cut
from .plot_numbers import PlotData

__all__ = ['FAINT', 'INK', 'draw_footer', 'draw_heading', 'plain']

INK, FAINT = '#222222', '#5f5f5f'
GREEN, RED, AMBER = '#117733', '#B2182B', '#8A5A00'        # dark enough for white letters; words tell them apart, too
LEFT, RIGHT = 0.035, 0.965
LINE_LETTERS, MOST_LINES = 118, 3


def draw_heading(figure: Any, recording: Recording, data: PlotData) -> None:
    """Name, facts, verdict and reasons, in the top eighth of the page."""
    others = len(recording.files) - 1
    name = plain(recording.path.name, 60) + (f'  and {others:,} more file{"s" * (others > 1)}' if others else '')
    _write(figure, 0.978, name, size=15, weight='bold')
    _write(figure, 0.954, ' · '.join(_facts(recording, data)), color=FAINT)
    words, color, reasons = verdict(recording, data)
    badge = figure.text(LEFT + 0.006, 0.931, words, va='top', fontsize=9, color='white', weight='bold', label='verdict',
                        bbox={'boxstyle': 'round,pad=0.35', 'facecolor': color, 'edgecolor': 'none'})
    ends = badge.get_window_extent().x1 / figure.bbox.width
    room = LINE_LETTERS - int(ends * LINE_LETTERS)
    lines = textwrap.wrap(plain('; '.join(reasons), 1000), room, max_lines=MOST_LINES, placeholder=' …')
    figure.text(ends + 0.02, 0.931, '\n'.join(lines), va='top', fontsize=8.5, color=INK, parse_math=False,
                linespacing=1.35, label='reasons')


def draw_footer(figure: Any, data: PlotData) -> None:
    """Where the numbers are from."""
    read = len(data.texts.pages)
    source = ('callback time, pressure and skew from the texts of '
              + (f'{read:,} of {data.pages:,} pages, spread evenly' if data.sampled else 'all pages'))
    damaged = f'; the text of {data.texts.unreadable:,} could not be read' if data.texts.unreadable else ''
    figure.text(LEFT, 0.013, f'From the page index and the report; {source}{damaged}.', fontsize=6.5, color=FAINT,
                va='bottom')
    figure.text(RIGHT, 0.013, f'ProcessedPiRecorder {__version__}', fontsize=6.5, color=FAINT, va='bottom', ha='right')


def verdict(recording: Recording, data: PlotData) -> Tuple[str, str, List[str]]:
    """The words, their colour, and why."""
    report = data.report
    if recording.missing_files:                # the report tells of all that was recorded, and not all of that is here
        faults = [] if report is None or report.complete == 'yes' else _reasons(report, is_cut(recording.metadata))
        return 'FILES MISSING', AMBER, [*recording.notes, *faults]
    if report is None:
        words = 'NO VERDICT' if recording.finished else 'UNFINISHED'
        return words, AMBER, list(recording.notes) or ['its report cannot be right; see what  ppr verify  says']
    early = [f'ended early after {report.duration_s:,.1f} s, because the disk was nearly full'
             ] if report.stopped == DISK_NEARLY_FULL else []
    return (*_headline(report), [*early, *_reasons(report, is_cut(recording.metadata)), *recording.notes])


def plain(text: str, most: int) -> str:
    """Text from outside on one line, cut where it is too long; what the font cannot draw becomes '?'."""
    known = _letters()
    line = ''.join(letter if ord(letter) in known else '?' for letter in ' '.join(text.split()))
    return line if len(line) <= most else line[:most - 1] + '…'


def _headline(report: Report) -> Tuple[str, str]:
    return {'yes': ('COMPLETE', GREEN), 'no': ('NOT COMPLETE', RED)}.get(report.complete, ('UNKNOWN', AMBER))


def _reasons(report: Report, of_cut: bool) -> List[str]:
    if report.complete == 'yes':
        made = 'of this cut' if of_cut else 'that the camera made'
        return [f'the only frame {made} is in the file' if report.captured == 1 else
                f'all {report.captured:,} frames {made} are in the file']
    if report.lost:
        share = 100 * report.lost / max(report.sensor, 1)
        others = [reason for reason in report.reasons if not reason.endswith((' frames lost', ' frame lost'))]
        return [f'{report.lost:,} of {report.sensor:,} frames lost ({share:.2g} %)', *others]
    return list(report.reasons)


def _facts(recording: Recording, data: PlotData) -> List[str]:
    height, width = recording.shape[1:3]
    facts = [f'{width}×{height} {"gray" if recording.pixel_format == "gray" else "colour"}',
             f'{data.pages:,} frame{"s" * (data.pages != 1)}']
    if recording.rate_hz:
        granted = f' ({1e3 / data.expected_ms:.4g} Hz granted)' if data.expected_ms else ''
        facts.append(f'{recording.rate_hz:,.2f} Hz{granted}')
    facts.append(_duration(data.times_s[-1]))
    facts.append(_size(recording))
    if data.report is not None and data.report.started:
        facts.append(plain(data.report.started[:19].replace('T', ' '), 40) + ' UTC')
    return facts


def _size(recording: Recording) -> str:
    try:
        written = sum(path.stat().st_size for path in recording.files)
    except OSError:
        return 'renamed since it was opened'           # it is read all the same
    unit, name = (1e9, 'GB') if written >= 1e9 else (1e6, 'MB') if written >= 1e6 else (1e3, 'kB')
    return f'{written / unit:,.1f} {name}'


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f'{seconds:,.2f} s'
    minutes, rest = divmod(round(seconds), 60)
    return f'{minutes // 60} h {minutes % 60} min {rest} s' if minutes >= 60 else f'{minutes} min {rest} s'


def _write(figure: Any, y: float, text: str, size: float = 8.5, color: str = INK, weight: str = 'normal') -> None:
    figure.text(LEFT, y, text, va='top', fontsize=size, color=color, weight=weight, parse_math=False)


@lru_cache(maxsize=1)
def _letters() -> Any:
    fonts = require('matplotlib.font_manager', 'plot', 'a plot of a recording')
    return frozenset(fonts.get_font(fonts.findfont('DejaVu Sans')).get_charmap())
