"""A recording on one page: intervals, losses, what became of the frames, callback, compression, ring, latency."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any, Optional, Union

from ..extras import require
from ..reading import Recording, opened
from ..recordings.whole import write_whole
from . import plot_panels as panels
from .plot_heading import draw_footer, draw_heading
from .plot_numbers import PlotData, plot_data
from .plot_strokes import write_words

__all__ = ['DPI', 'PAGE_INCHES', 'make_figure', 'plot_path', 'write_plot']

DPI = 150
PAGE_INCHES = 1240 / DPI, 1754 / DPI          # A4
LEFT, RIGHT, TOP, LEAST_BOTTOM = 0.085, 0.965, 0.864, 0.178         # of the panels over time, in page heights
BELOW, BELOW_HEIGHT = 0.056, 0.064                                   # how far under them the others begin
NOTHING, TITLE_ROOM, LARGEST = 0.35, 0.46, 0.085       # heights beside those of the panels, and what 1 is at most


def write_plot(recording: Union[str, 'os.PathLike[str]', Recording],
               output: Optional[Union[str, 'os.PathLike[str]']] = None) -> Path:
    """Draw the page of a recording into a PNG of 1240×1754 pixels (an older one is replaced); returns its path.

    recording: its path (of a split one, any file), or opened. output: default: ``trial.plot.png`` beside it. Any
    thread, without a display. Reads no pixels: a million pages take seconds. Raises MissingExtraError without
    matplotlib, RecordingFormatError for other programs' TIFFs, RecordingFileError where it cannot be read or written;
    nothing half is left then.
    """
    with opened(recording) as rec:
        figure = make_figure(rec, plot_data(rec))
        page = io.BytesIO()
        figure.savefig(page, format='png', dpi=DPI)
        beside = () if rec.results_path is None else (rec.results_path,)
        return write_whole(plot_path(rec) if output is None else output, page.getvalue(), 'the plot', suffix='.png',
                           besides=[*rec.files, *beside])


def plot_path(recording: Recording) -> Path:
    """Where a recording's plot goes unless told otherwise."""
    return recording.path.with_suffix('.plot.png')


def make_figure(recording: Recording, data: PlotData) -> Any:
    """The page as a matplotlib Figure; each of its axes has the panel's name as its label (``axes.get_label()``)."""
    figure = require('matplotlib.figure', 'plot', 'a plot of a recording').Figure(PAGE_INCHES, DPI, facecolor='white')
    require('matplotlib.backends.backend_agg', 'plot', 'a plot of a recording').FigureCanvasAgg(figure)
    draw_heading(figure, recording, data)
    rows = [panel for panel in panels.OVER_TIME if panel.wanted(data)]
    heights = [NOTHING if panel.empty(data) else panel.height for panel in rows]
    bottom = max(LEAST_BOTTOM, TOP - LARGEST * (sum(heights) + TITLE_ROOM * (len(rows) - 1)))
    grid = figure.add_gridspec(len(rows), 1, height_ratios=heights, left=LEFT, right=RIGHT, top=TOP, bottom=bottom,
                               hspace=TITLE_ROOM * len(rows) / sum(heights))
    below = figure.add_gridspec(1, 2, width_ratios=[3, 2], left=LEFT + 0.05, right=RIGHT, top=bottom - BELOW,
                                bottom=bottom - BELOW - BELOW_HEIGHT, wspace=0.16)
    first = None
    for row, panel in enumerate(rows):
        axes = figure.add_subplot(grid[row], sharex=first, label=panel.name)
        first = first or axes
        panels.prepare(axes, data, panel, last=row == len(rows) - 1)
        if panel.empty(data):
            write_words(axes, panel.empty(data))
        else:
            panel.draw(axes, data)
        panels.draw_marks(axes, data, panel)
    panels.draw_latency(figure.add_subplot(below[0], label='latency'), data)
    panels.draw_ring(figure.add_subplot(below[1], label='ring'), data)
    draw_footer(figure, data)
    return figure
