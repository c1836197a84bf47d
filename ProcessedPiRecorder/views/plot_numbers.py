"""What a recording's plot shows, as numbers: taken from its index, its report and the texts of its pages."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from ..errors import RecordingFileError, RecordingFormatError
from ..reading import Recording
from ..recordings.encoder import EFFORTS
from ..recordings.page import STATUSES
from ..recordings.pressure import MOST_CHANGES
from ..report import MOST_PLACES, Loss, Report

__all__ = ['ELSEWHERE', 'NOT_TOLD', 'Envelope', 'Gap', 'Mark', 'PageTexts', 'PlotData', 'envelope', 'plot_data',
           'shares']

#: The texts of more pages than these are not read, nor for longer: a page's text is a place of its own on the disk.
MOST_TEXTS = 20_000
MOST_SECONDS = 5.0
NOT_TOLD, ELSEWHERE = 'reason not told', 'in a missing file'
STRETCHES = 4000


class Gap(NamedTuple):
    """Frames that are missing: between two pages, at start_s and end_s, both s from the first page.

    index: of the first missing one. end_s equals start_s before the first page and behind the last.
    """

    start_s: float
    end_s: float
    index: int            # type: ignore[assignment]   # hides tuple.index, which nobody misses here
    count: int            # type: ignore[assignment]
    reason: str


class Mark(NamedTuple):
    """An event; s from the first page."""

    time_s: float
    label: str


@dataclass(frozen=True)
class PageTexts:
    """What only the pages' own texts tell, of the pages that were read.

    Attributes:
        pages: their numbers, increasing. cb_ms: the callback's time, NaN where a page tells none.
        pressure: 0, 1 or 2. skew_ms: left image minus right one, NaN where a page tells none.
        unreadable: pages whose text could not be read.
    """

    pages: np.ndarray
    cb_ms: np.ndarray
    pressure: np.ndarray
    skew_ms: np.ndarray
    unreadable: int = 0


@dataclass(frozen=True)
class PlotData:
    """A recording in numbers. Times are s from its first page.

    Attributes:
        pages: how many. times_s: of each. intervals_ms: from each page to the next, at times_s[1:].
        expected_ms: between two frames by the rate that the camera granted; None: not known.
        frame_bytes: of the raw pixels. page_bytes: of each page's, compressed. effort, status: codes, of each page.
        gaps, places: where frames are missing, and at how many places; lost: how many are. marks: in their order.
        texts: see PageTexts. pressure_steps: (time_s, pressure) wherever it changed, from 0 at the beginning; None:
        not known. pressure_is: 'report', 'report, cut off', 'pages' or 'sampled pages'.
        report: None where there is none that can be trusted.
    """

    pages: int
    times_s: np.ndarray
    intervals_ms: np.ndarray
    expected_ms: Optional[float]
    frame_bytes: int
    page_bytes: np.ndarray
    effort: np.ndarray
    status: np.ndarray
    gaps: List[Gap]
    places: int
    marks: List[Mark]
    texts: PageTexts
    pressure_steps: List[Tuple[float, int]]
    pressure_is: str
    report: Optional[Report] = field(default=None)

    @property
    def lost(self) -> int:
        return sum(gap.count for gap in self.gaps)

    @property
    def end_s(self) -> float:
        """Where the time axis ends: the last page, its own duration, and whatever is known behind it."""
        step = (self.expected_ms or 0.0) / 1e3
        return max([float(self.times_s[-1]) + step, *(mark.time_s for mark in self.marks)])

    @property
    def sampled(self) -> bool:
        """Whether the texts of some pages only were read."""
        return len(self.texts.pages) + self.texts.unreadable < self.pages

    @property
    def by_status(self) -> Dict[str, int]:
        """Pages by status."""
        counts = np.bincount(self.status, minlength=len(STATUSES))
        return {name: int(count) for name, count in zip(STATUSES, counts)}

    @property
    def by_effort(self) -> Dict[str, int]:
        """Pages by effort, those that occur."""
        codes, counts = np.unique(self.effort, return_counts=True)
        return {effort_name(int(code)): int(count) for code, count in zip(codes, counts)}


def effort_name(code: int) -> str:
    """What the index means."""
    return EFFORTS[code] if code < len(EFFORTS) else 'other'


def plot_data(recording: Recording, most_texts: int = MOST_TEXTS, most_seconds: float = MOST_SECONDS) -> PlotData:
    """The numbers of a recording of ours. Reads the texts of at most ``most_texts`` pages, for ``most_seconds``.

    Raises RecordingFormatError for another program's TIFF.
    """
    if recording.times_ns is None or recording.indices is None:
        raise RecordingFormatError(f'{recording.path} is no recording of ProcessedPiRecorder: it tells no times or '
                                   'losses to plot; look at its frames with  ppr sheet  or  ppr view')
    report = _report(recording)
    first_ns = int(recording.times_ns[0])
    times_s = (recording.times_ns - first_ns) / 1e9
    texts = _texts(recording, _spread(len(recording), most_texts), most_seconds)
    gaps, places = _gaps(recording, report, times_s, most_seconds)
    steps, told_by = _pressure(report, texts, times_s, first_ns)
    return PlotData(
        pages=len(recording), times_s=times_s, intervals_ms=np.diff(recording.times_ns) / 1e6,
        expected_ms=_expected_ms(recording, report), frame_bytes=recording.nbytes // len(recording),
        page_bytes=recording.index_column('strip_length'), effort=recording.index_column('effort'),
        status=recording.index_column('status'), gaps=gaps, places=places,
        marks=_marks(recording, report, first_ns), texts=texts, pressure_steps=steps, pressure_is=told_by,
        report=report)


# ------------------------------------------------------------------ many values in few

class Envelope(NamedTuple):
    """Values over time, as the lowest, middle and highest of each stretch of time that has any."""

    times_s: np.ndarray
    low: np.ndarray
    middle: np.ndarray
    high: np.ndarray


def envelope(times_s: np.ndarray, values: np.ndarray, start_s: float, end_s: float, bins: int) -> Envelope:
    """Values at increasing times, gathered in equal stretches from start_s to end_s; middle: the median."""
    begins = np.searchsorted(times_s, np.linspace(start_s, end_s, bins + 1)[:-1])
    ends = np.append(begins[1:], len(times_s))
    full = ends > begins
    begins, ends = begins[full], ends[full]
    if not len(begins):
        return Envelope(*[np.empty(0)] * 4)
    middle = np.array([np.median(values[begin:end]) for begin, end in zip(begins, ends)])
    centre = np.array([times_s[begin:end].mean() for begin, end in zip(begins, ends)])
    first = int(begins[0])
    starts = begins - first
    return Envelope(centre, np.minimum.reduceat(values[first:], starts), middle,
                    np.maximum.reduceat(values[first:], starts))


def shares(times_s: np.ndarray, codes: np.ndarray, kinds: int, start_s: float, end_s: float, bins: int) -> np.ndarray:
    """Of each of ``bins`` equal stretches of time, the share of each code, float64 (kinds, bins); zeros without any."""
    place = np.clip(((times_s - start_s) / max(end_s - start_s, 1e-12) * bins).astype(np.int64), 0, bins - 1)
    counts = np.bincount(place * kinds + codes, minlength=bins * kinds).reshape(bins, kinds).T
    shared: np.ndarray = counts / np.maximum(counts.sum(axis=0), 1)
    return shared


# ------------------------------------------------------------------ report

def _report(recording: Recording) -> Optional[Report]:
    try:
        return recording.report
    except RecordingFormatError:
        return None                        # it cannot be right; the verdict says so


def _expected_ms(recording: Recording, report: Optional[Report]) -> Optional[float]:
    granted = recording.camera.get('framerate') or (report.camera.get('framerate') if report else None)
    if isinstance(granted, (int, float)) and not isinstance(granted, bool) and 0 < granted < 1e9:
        return 1e3 / granted
    return None


def _marks(recording: Recording, report: Optional[Report], first_ns: int) -> List[Mark]:
    try:
        found = recording.marks if report is None else report.marks
    except RecordingFileError:
        found = []                         # a damaged page among those with marks
    return sorted(Mark((mark['time_ns'] - first_ns) / 1e9, str(mark['label'])) for mark in found
                  if isinstance(mark.get('time_ns'), int) and 'label' in mark)


# ------------------------------------------------------------------ losses

def _gaps(recording: Recording, report: Optional[Report], times_s: np.ndarray, most_seconds: float
          ) -> Tuple[List[Gap], int]:
    """Where numbers are missing, by the index; why, by the report, or else by the pages behind. And at how many places.

    Beyond MOST_PLACES, places without a reason that lie close together are told as one.
    """
    indices = recording.indices
    assert indices is not None
    before = np.concatenate([[-1], indices[:-1]])
    pages = np.flatnonzero(indices - before > 1)
    starts = times_s[np.maximum(pages - 1, 0)]
    reasons = _reasons(recording, pages, report, most_seconds)
    told = np.isin(pages, list(reasons)) if len(pages) > MOST_PLACES else np.ones(len(pages), bool)
    found: List[Gap] = []
    for page, start_s in zip(pages[told].tolist(), starts[told].tolist()):
        gaps = _explained(start_s, float(times_s[page]), int(before[page]) + 1, int(indices[page]),
                          reasons.get(page, []))
        if gaps[-1].reason == NOT_TOLD and recording.missing_files and _begins_a_file(recording, page):
            gaps[-1] = gaps[-1]._replace(reason=ELSEWHERE)
        found.extend(gaps)
    if not told.all():
        rest = pages[~told]
        found.extend(_merged(starts[~told], times_s[rest], before[rest] + 1, indices[rest] - before[rest] - 1))
        found.sort()
    behind = [loss for loss in (report.losses if report else []) if loss.index > int(indices[-1])]
    end_s = float(times_s[-1])
    return found + [Gap(end_s, end_s, loss.index, loss.count, loss.reason) for loss in behind], len(pages) + len(behind)


def _begins_a_file(recording: Recording, page: int) -> bool:
    try:
        return recording.stored_page(page).page == 0
    except RecordingFileError:
        return False                       # damaged: nobody knows


def _merged(starts: np.ndarray, ends: np.ndarray, first: np.ndarray, counts: np.ndarray) -> List[Gap]:
    """Gaps of no known reason, at most STRETCHES of them, each of those that lie in one stretch of time."""
    stretch = ((ends - ends[0]) / max(float(ends[-1] - ends[0]), 1e-9) * (STRETCHES - 1)).astype(np.int64)
    begins = np.flatnonzero(np.diff(stretch, prepend=-1))
    lasts = np.append(begins[1:], len(stretch)) - 1
    together = np.add.reduceat(counts, begins)
    return [Gap(*values, NOT_TOLD) for values in zip(starts[begins].tolist(), ends[lasts].tolist(),
                                                     first[begins].tolist(), together.tolist())]


def _explained(start_s: float, end_s: float, first: int, after: int, losses: Sequence[Loss]) -> List[Gap]:
    """One gap, divided among the reasons that are told for it; never more frames than the numbers leave out."""
    found, left = [], after - first
    for loss in losses:
        count = min(loss.count, left)
        if count > 0:
            found.append(Gap(start_s, end_s, loss.index, count, loss.reason))
            left -= count
    if left:
        found.append(Gap(start_s, end_s, after - left, left, NOT_TOLD))
    return found


def _reasons(recording: Recording, pages: np.ndarray, report: Optional[Report], most_seconds: float
             ) -> Dict[int, List[Loss]]:
    """The losses told, by the page behind them."""
    told: Dict[int, List[Loss]] = {}
    if report is not None:
        after = np.searchsorted(recording.indices, [loss.index for loss in report.losses])   # type: ignore[arg-type]
        for page, loss in zip(after.tolist(), report.losses):
            told.setdefault(page, []).append(loss)
        return told
    until = time.monotonic() + most_seconds
    for page in pages[:MOST_PLACES].tolist():
        if time.monotonic() > until:
            break
        try:
            told[page] = [Loss(**loss) for loss in recording.record(page).lost]
        except RecordingFileError:
            continue                       # damaged: how many are missing is known all the same
    return told


# ------------------------------------------------------------------ the pages' own texts

def _spread(pages: int, most: int) -> np.ndarray:
    """Up to ``most`` page numbers, evenly over all, in an order in which any beginning is spread evenly, too."""
    chosen = np.unique(np.linspace(0, pages - 1, min(pages, most)).round().astype(np.int64))
    order = np.zeros(1, np.int64)
    while len(order) < len(chosen):        # the digits of 0, 1, 2, … in reverse
        order = np.concatenate([2 * order, 2 * order + 1])
    return chosen[order[order < len(chosen)]]


def _texts(recording: Recording, pages: np.ndarray, most_seconds: float) -> PageTexts:
    rows: List[Tuple[int, float, int, float]] = []
    unreadable = 0
    until = time.monotonic() + most_seconds
    for page in pages.tolist():
        try:
            stored = recording.stored_page(page)
        except RecordingFileError:
            unreadable += 1
        else:
            record = stored.record
            rows.append((page, np.nan if record.cb_ms is None else record.cb_ms, stored.pressure,
                         np.nan if record.skew_ns is None else record.skew_ns / 1e6))
        if time.monotonic() > until:
            break
    rows.sort()
    columns = list(zip(*rows)) if rows else [()] * 4
    return PageTexts(np.array(columns[0], np.int64), np.array(columns[1], np.float64),
                     np.array(columns[2], np.int64), np.array(columns[3], np.float64), unreadable)


def _pressure(report: Optional[Report], texts: PageTexts, times_s: np.ndarray, first_ns: int
              ) -> Tuple[List[Tuple[float, int]], str]:
    if report is not None:
        changes = [((change['time_ns'] - first_ns) / 1e9, change['pressure']) for change in report.pressure_changes
                   if isinstance(change.get('time_ns'), int) and change.get('pressure') in (0, 1, 2)]
        return [(0.0, 0), *changes], 'report, cut off' if len(changes) >= MOST_CHANGES else 'report'
    changed = np.flatnonzero(np.diff(texts.pressure, prepend=0))
    steps = [(float(times_s[texts.pages[place]]), int(texts.pressure[place])) for place in changed]
    return [(0.0, 0), *steps], 'pages' if len(texts.pages) + texts.unreadable == len(times_s) else 'sampled pages'
