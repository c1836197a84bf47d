"""The ledger of a repaired recording: what its pages tell, what was destroyed, and a report that says both."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

from ...errors import RecordingFormatError
from ...report import Loss, Report, summed_up
from ..page import MOST_LOSSES, StoredPage
from ..stored_report import report_of
from ..tally import Tally, utc_text

__all__ = ['Account', 'Known', 'count_results', 'stored_report']

DAMAGED = 'damaged'
SHOWN_GAPS = 20
MAX_LINE = 1 << 20

_RESULT = re.compile(rb'\{"index": ?(\d{1,18}),')


class Known(NamedTuple):
    """What is known of a recording beside its pages.

    report: the one that it was finished with, if that survived. finished: whether it had come to its end.
    missing_at_end: pages behind the last whole one that are known by number. results: lines of its results file;
    results_behind: frames behind the last page that a line speaks of.
    """

    about: Mapping[str, Any]
    report: Optional[Report]
    finished: bool
    missing_at_end: int
    results: int
    results_behind: int


class Account:
    """Takes all pages of a recording in their order, and tells what each page's text has to be now.

    Attributes:
        tally: the ledger of the pages as they will be. destroyed: frames that are missing where pages were destroyed.
        gaps: one text for each such place. rewritten: pages that get another text.
    """

    def __init__(self, frame_bytes: int, report: Optional[Report]) -> None:
        self.tally = Tally(frame_bytes)
        self.destroyed = 0
        self.gaps: List[str] = []
        self.more_gaps = 0
        self._known = list(report.losses) if report is not None else []
        self._next_index = 0
        self._at = 0

    def lost_before(self, stored: StoredPage, hole: bool) -> Tuple[Mapping[str, Any], ...]:
        """What the page has to tell of losses before it. hole: pages before it may have been destroyed."""
        record = stored.record
        told = sum(int(loss['count']) for loss in record.lost)
        missing = record.index - self._next_index - told
        if not hole or missing <= 0:
            return record.lost
        first = self._next_index
        entries = self._entries(first, first + missing)
        self.destroyed += sum(entry['count'] for entry in entries if entry['reason'] == DAMAGED)
        self._tell_gap(first, missing)
        lost = (*entries, *record.lost)
        if len(lost) > MOST_LOSSES:
            rest = lost[MOST_LOSSES - 1:]
            lost = (*lost[:MOST_LOSSES - 1], {**rest[0], 'count': sum(int(loss['count']) for loss in rest)})
        return lost

    def page(self, stored: StoredPage, strip_length: int) -> None:
        """The next page, as it will be in the file."""
        self.tally.page(stored, strip_length)
        self._next_index = stored.record.index + 1

    def _entries(self, first: int, end: int) -> List[Dict[str, Any]]:
        """The frames first … end, split into those that were lost before and those that were destroyed."""
        time_ns = self.tally.last_ns
        entries: List[Dict[str, Any]] = []
        while self._at < len(self._known) and self._known[self._at].index < first:
            self._at += 1
        while first < end:
            known = self._known[self._at] if self._at < len(self._known) else None
            if known is None or known.index >= end or known.count <= 0 or known.index + known.count > end:
                entries.append({'index': first, 'count': end - first, 'time_ns': time_ns, 'reason': DAMAGED})
                break
            if known.index > first:
                entries.append({'index': first, 'count': known.index - first, 'time_ns': time_ns, 'reason': DAMAGED})
            entries.append({'index': known.index, 'count': known.count, 'time_ns': known.time_ns,
                            'reason': known.reason})
            first, self._at = known.index + known.count, self._at + 1
        return entries

    def _tell_gap(self, first: int, count: int) -> None:
        if len(self.gaps) == SHOWN_GAPS:
            self.more_gaps += 1
            return
        after = f'after {utc_text(self.tally.last_ns)}' if self.tally.last_ns is not None else 'at the beginning'
        frames = f'frame {first}' if count == 1 else f'frames {first} to {first + count - 1}'
        self.gaps.append(f'{frames} ({after})')

    # ------------------------------------------------------------------ the report

    def report(self, known: Known, *, files: List[str], file_bytes: int, notes: List[str]) -> Report:
        """The verdict on what is there now."""
        tally = self.tally
        after = self._after_the_end(known)
        unexplained = sum(abs(loss.count) for loss in tally.unexplained)
        losses = summed_up(self._with_details(known) + after)
        lost = tally.lost + sum(loss.count for loss in after)
        base = known.report or Report('unknown', stopped='' if known.finished else 'cut off')
        touched = bool(self.destroyed or known.missing_at_end or not known.finished)
        captured = tally.captured + max(0, known.results_behind - known.missing_at_end)
        verdict, reasons = self._verdict(known, base, lost, unexplained)
        if captured > tally.captured:
            reasons.append(f'{captured - tally.captured} captured frames are not in the file: the callback had put '
                           'results for them')
        figures = {**tally.figures(_section(known.about, 'camera').get('framerate')), 'captured': captured,
                   'sensor': captured + lost, 'lost': lost, 'losses': losses}
        report = replace(base, complete=verdict, reasons=reasons, file_bytes=file_bytes, results=known.results,
                         files=files, warnings=[*base.warnings, *notes], **figures)
        if known.report is None:
            report = replace(report, **_camera(known.about))
        elif touched:
            report = replace(report, warnings=[*report.warnings, *self._lost_marks(base)])
        return report

    def _verdict(self, known: Known, base: Report, lost: int, unexplained: int) -> Tuple[str, List[str]]:
        reasons = [reason for reason in base.reasons if not reason.endswith((' frames lost', ' frame lost'))]
        if lost:
            reasons.insert(0, f'{lost} frame{"s" if lost != 1 else ""} lost')
        destroyed = self.destroyed + known.missing_at_end
        if destroyed:
            where = f': {", ".join(self.gaps)}' if self.gaps else ''
            where += f' and {self.more_gaps} more places' if self.more_gaps else ''
            reasons.append(f'{destroyed} recorded frame{"s" if destroyed != 1 else ""} could not be recovered{where}')
        if unexplained:
            reasons.append(f'{unexplained} frames are missing in the numbering, and no page tells why')
        if not known.finished:
            reasons.append(f'cut off after frame {self._next_index - 1} at {utc_text(self.tally.last_ns or 0)}; what '
                           'came later is not in the file')
        bad = bool(destroyed or unexplained or lost) or not known.finished
        if known.report is None and known.finished:
            reasons.append('the report that the recording was finished with was destroyed; what it told of the end '
                           'is not known')
        return 'no' if bad or base.complete == 'no' else base.complete, reasons

    def _after_the_end(self, known: Known) -> List[Loss]:
        """Losses behind the last page: those that the old report told, and pages that were destroyed."""
        first, last_ns = self._next_index, self.tally.last_ns
        told = [loss for loss in known.report.losses if loss.index >= first] if known.report is not None else []
        destroyed = known.missing_at_end
        if not destroyed:
            return told
        entries = self._entries(first, first + destroyed + sum(loss.count for loss in told))
        return [Loss(entry['index'], entry['count'], last_ns if entry['reason'] == DAMAGED else entry['time_ns'],
                     entry['reason']) for entry in entries]

    def _with_details(self, known: Known) -> List[Loss]:
        details = {loss.index: loss.detail for loss in known.report.losses} if known.report is not None else {}
        return [replace(loss, detail=details.get(loss.index, '')) for loss in self.tally.losses]

    def _lost_marks(self, base: Report) -> List[str]:
        kept = [(mark['label'], mark['time_ns']) for mark in self.tally.marks]
        texts = []
        for mark in base.marks:
            place = (mark.get('label'), mark.get('time_ns'))
            if place in kept:
                kept.remove(place)
            elif type(mark.get('time_ns')) is int:
                texts.append(f'the mark {mark.get("label")!r} at {utc_text(mark["time_ns"])} was on a page that could '
                             'not be recovered')
        return texts[:100]


def _camera(about: Mapping[str, Any]) -> Dict[str, Any]:
    """The report's fields that the camera's own words fill."""
    camera = _section(about, 'camera')
    detection = camera.get('loss_detection')
    told = {name: camera.get(name) for name in ('model', 'width', 'height', 'framerate', 'pixel_format', 'details')}
    return {'camera': {**told, 'statistics': {}} if camera else {},
            'loss_detection': detection if isinstance(detection, str) else 'none'}


def _section(about: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = about.get(name)
    return section if isinstance(section, Mapping) else {}


def stored_report(annotations: Mapping[str, Any]) -> Optional[Report]:
    """The report in a file's annotations; None where there is none, or none that makes sense."""
    stored = annotations.get('report')
    if not isinstance(stored, Mapping) or not {item.name for item in fields(Report)} & set(stored):
        return None
    try:
        return report_of(stored)
    except RecordingFormatError:
        return None


def count_results(path: Path, last_index: int) -> Tuple[int, int]:
    """Whole lines of a results file, and how many frames behind ``last_index`` they speak of; zeros without one."""
    lines, behind = 0, set()
    try:
        with open(path, 'rb') as file:
            for line in iter(lambda: file.readline(MAX_LINE), b''):
                whole = line.endswith(b'\n')
                lines += whole
                match = _RESULT.match(line)
                if whole and match and int(match.group(1)) > last_index:
                    behind.add(int(match.group(1)))
    except FileNotFoundError:
        pass
    return lines, len(behind)
