"""A cut: some of a recording's frames as a recording of its own, with times, ledger, marks, results and verdict."""

from __future__ import annotations

import json
import re
import uuid
from functools import partial
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from ..errors import ExportError, RecordingFormatError
from ..reading import Recording
from ..reading.copying import NewRecording
from ..reading.sources import OwnPages
from ..recordings.bigtiff import refuse_fat
from ..recordings.ome import MAX_PLANES
from ..recordings.page import PageRecord, StoredPage
from ..recordings.part import PLANE_BYTES, behind_link
from ..recordings.results import results_path
from ..report import MOST_PLACES, Loss, Report
from .astray import Astray
from .base import Exported, PathLike, Place, Progress, whole_files
from .grid import Gathered, Grid, end_of, grid_of, lost_behind, lost_between
from .older import OlderFiles, of_other_suffix

__all__ = ['export_cut']

PAGE_OVERHEAD = 500            # bytes of a page beside strip and text, and of its texts that get longer
MOST_FAT_BYTES = 1 << 32
STOPPED = 'end of cut'

#: Why frames are missing that no page tells of: their pages were destroyed, or are in a file that is not here.
DAMAGED, BROKE_OFF = 'damaged', 'source broke off'
IN_MISSING_FILE = 'in a file of the original that was missing when it was cut'

_HEAD = re.compile(rb'\{"index": (?:null|-?\d{1,19}), ')
_LOST = re.compile(r'\d+ frames? lost')
_UNSEEN = re.compile('means to see losses|without the times that show losses')
_UNWRITTEN = re.compile(r'\d+ captured frames are not in the file')


def export_cut(recording: Recording, target: PathLike, *, start: Optional[Place] = 0, stop: Optional[Place] = None,
               every: int = 1, overwrite: bool = False, progress: Optional[Progress] = None) -> Exported:
    """Write some of the frames as a recording of their own; pages are copied as they are, nothing is decoded.

    Taken are the frames with the numbers start, start + every, …, and numbered anew from 0; one of these that was
    lost stays lost. Times, status, marks and losses stay what they were, marks of frames that are left out go to the
    next one that is not. Results come along in ``<target>.results.jsonl``, for the frames that do. ``ppr verify``
    finds nothing wrong with it, and metadata['cut'] tells what it was cut from.

    Args:
        start, stop: pages, or as text what ``page_range`` understands ('120', '12.5s', a time); every: step in frame
            numbers.

    Raises ExportError where the recording is none of ours, and RecordingFileError for a damaged page.
    """
    if not recording.is_ours:
        raise ExportError(f'{recording.path.name} was not made by ProcessedPiRecorder: it has no times and no ledger '
                          'that a cut could keep; export it as PNG images or as MP4 instead, or cut it with a general '
                          'TIFF tool (tiffcp)')
    final = behind_link(Path(target))
    with recording.own_pages() as own:
        report = _report_of(recording)
        grid = grid_of(recording, start, stop, every, end_of(recording, report))
        cut = _Cut(recording, own, grid, report)
        needs = cut.bytes_needed()
        if needs >= MOST_FAT_BYTES:
            refuse_fat(final)
        results = results_path(final)
        _refuse_stale_results(final, results, overwrite)
        targets = [final, results] if cut.results.lines or results.exists() else [final]
        older = OlderFiles(final, recording) if overwrite else None
        with whole_files(targets, overwrite=overwrite, needs_bytes=needs, recording=recording) as parts:
            size = cut.write(parts[0], final.name, progress or (lambda done, total: None))
            if len(parts) > 1:
                cut.results.write(parts[1])
            if older is not None:
                older.refuse_running()           # once more: it took its time
    if targets[1:] and not cut.results.lines:
        results.unlink()                              # of the older recording, which has gone as well
    if older is not None:
        older.remove()
    return Exported(final, len(cut.pages), size, cut.notes, tuple(targets[1:] if cut.results.lines else ()))


def _refuse_stale_results(final: Path, results: Path, overwrite: bool) -> None:
    """Older results go only with the recording that they belong to: the one that is overwritten."""
    if not results.exists():
        return
    told = f'{results} exists already, and would be taken for the results of the cut; choose another name'
    if not overwrite:
        raise ExportError(f'{told}, or pass overwrite=True')
    others = of_other_suffix(final)
    if others or not final.is_file():
        whose = f'{", ".join(others)} is there, whose results they may be' if others else \
            f'there is no {final.name} whose results they could be'
        raise ExportError(f'{told}, or move the results away: {whose}, so that overwrite=True does not replace them')


class _Cut:
    """One cut in the making. pages: those that are in it; notes: what its user has to know."""

    def __init__(self, recording: Recording, own: OwnPages, grid: Grid, report: Optional[Report]) -> None:
        assert recording.indices is not None
        self._recording, self._own, self._grid, self._report = recording, own, grid, report
        self._indices = recording.indices
        self._on_grid = grid.of(self._indices)
        self.pages = np.flatnonzero(self._on_grid)
        self.results = _Results(recording, grid, self._on_grid)
        self._details: Dict[int, str] = {} if self._report is None else {
            loss.index: loss.detail for loss in self._report.losses if loss.detail}
        self._lost: List[Loss] = []
        self._gathered = Gathered(grid)
        self._astray = Astray(recording, own, self._report)

    def bytes_needed(self) -> int:
        """About, and rather more: the index, the description, and texts that grow are in it."""
        strips, texts = (int(self._own.column(name)[self.pages].sum(dtype=np.int64))
                         for name in ('strip_length', 'text_length'))
        pages = len(self.pages)
        about = len(json.dumps([self._recording.settings, self._recording.metadata, self._recording.camera],
                               default=str))
        report = 0 if self._report is None else len(self._report.to_json(default=str))
        return strips + texts + pages * PAGE_OVERHEAD + min(pages, MAX_PLANES) * PLANE_BYTES + 2 * about + report \
            + self.results.nbytes

    def write(self, path: Path, name: str, progress: Progress) -> int:
        """Write the file; returns its size. Blocks until the disk has it."""
        source, _ = self._own.place(int(self.pages[0]))
        new = NewRecording(path, source, self._about(), uuid.uuid4().hex, name)
        try:
            self._copy(new, progress)
            lost_after, marks_after = self._behind_the_last()
            new.finish(self._new_report(new, lost_after), self._further(), lost_after=lost_after,
                       marks_after=marks_after)
        except BaseException:
            new.abandon()
            raise
        return path.stat().st_size

    # ------------------------------------------------------------------ the pages

    def _copy(self, new: NewRecording, progress: Progress) -> None:
        total = len(self.pages)
        progress(0, total)
        for page in map(int, self._pages_to_read()):
            source, place = self._own.place(page)
            if not self._on_grid[page]:
                self._pass_by(page)
                continue
            new.add(source, place, partial(self._told_anew, page))
            progress(len(new), total)

    def _told_anew(self, page: int, stored: StoredPage) -> StoredPage:
        """A page that is in the cut, as it is told there; with what those tell that were passed by before it."""
        record = stored.record
        self._note_losses(page, record)
        lost, marks = self._gathered.take()
        return stored._replace(record=record._replace(index=self._grid.number(record.index), lost=lost,
                                                      marks=(*marks, *record.marks)))

    def _pages_to_read(self) -> np.ndarray:
        """Those that are in the cut, and the others in its range that tell of marks or losses; in order."""
        inside = (self._indices >= self._grid.start) & (self._indices < self._grid.behind)
        telling = (np.diff(self._indices, prepend=-1) != 1) | (self._own.column('marks') > 0)
        following = int(np.searchsorted(self._indices, self._grid.behind))
        # What was lost just before the first page behind the range is told by that page.
        inside[following:following + 1] = True
        return np.flatnonzero(self._on_grid | inside & telling)

    def _pass_by(self, page: int) -> None:
        """A page that is not in the cut: what it tells goes to the next one that is."""
        if not self._own.is_intact(page):
            raise RecordingFormatError(f'page {page} of {self._recording.path} is damaged (its checksum does not fit), '
                                       'and it tells of losses or marks;  ppr repair  makes a recording of the pages '
                                       'that are whole')
        record = self._own.stored_page(page).record
        self._note_losses(page, record)
        if record.index < self._grid.behind:
            self._gathered.marks.extend(record.marks)

    def _note_losses(self, page: int, record: PageRecord) -> None:
        before = int(self._indices[page - 1]) if page else -1
        if int(self._indices[page]) == before + 1:
            return
        time_ns = int(self._recording.times_ns[page - 1]) if page else None     # type: ignore[index]
        if page not in self._astray.holes:
            self._gather(lost_between(before, time_ns, record.lost, record.index, DAMAGED))
            return
        losses = lost_between(before, time_ns, self._told_of_hole(before, record), record.index, IN_MISSING_FILE)
        self._gather([{**loss, 'reason': BROKE_OFF} if loss['reason'] == IN_MISSING_FILE else loss for loss in losses],
                     {loss['index']: IN_MISSING_FILE for loss in losses if loss['reason'] == IN_MISSING_FILE})
        self._gathered.marks.extend(self._astray.marks_before(page, self._grid))

    def _told_of_hole(self, before: int, record: PageRecord) -> Sequence[Mapping[str, Any]]:
        """What was lost where a file is missing: its own pages told it, and so does the report."""
        told = {int(loss['index']): loss for loss in record.lost}
        for loss in [] if self._report is None else self._report.losses[:MOST_PLACES - 1]:      # the last may sum up
            if before < loss.index < record.index:
                told.setdefault(loss.index, {'index': loss.index, 'count': loss.count, 'time_ns': loss.time_ns,
                                             'reason': loss.reason})
        return [told[index] for index in sorted(told)]

    def _gather(self, losses: List[Dict[str, Any]], further: Optional[Mapping[int, str]] = None) -> None:
        """further: details, by the losses' numbers in the original, before those that its report tells."""
        self._gathered.losses(losses)
        for loss in losses:
            number, count = self._grid.within(loss['index'], loss['count'])
            detail = (further or {}).get(loss['index']) or self._details.get(loss['index'])
            if count and detail and len(self._lost) < MOST_PLACES:
                self._lost.append(Loss(number, count, loss['time_ns'], loss['reason'], detail))

    def _behind_the_last(self) -> Tuple[List[Loss], List[Mapping[str, Any]]]:
        """Losses and marks behind the last page, which only the report can tell."""
        if self._grid.open:
            self._gather(lost_behind(self._recording, self._report))
            self._gathered.marks.extend(self._astray.behind)
        lost = [Loss(loss['index'], loss['count'], loss['time_ns'], loss['reason']) for loss in self._gathered.lost]
        return lost, self._gathered.marks

    # ------------------------------------------------------------------ what is told beside them

    def _about(self) -> Dict[str, Any]:
        recording, grid, times_ns = self._recording, self._grid, self._recording.times_ns
        assert times_ns is not None
        told = {'file': recording.path.name, 'recording': self._own.recording_id, 'start': grid.start,
                'stop': grid.behind, 'every': grid.every, 'frames': len(self.pages),
                'first_time_ns': int(times_ns[self.pages[0]]), 'last_time_ns': int(times_ns[self.pages[-1]]),
                'complete': None if self._report is None else self._report.complete}
        if 'cut' in recording.metadata:
            told['of'] = recording.metadata['cut']        # the original was a cut, or had such an entry of its own
        sections = {'settings': recording.settings, 'metadata': recording.metadata, 'camera': recording.camera}
        return {**{name: value for name, value in sections.items() if value},
                'metadata': {**recording.metadata, 'cut': told}}

    def _further(self) -> Dict[str, Any]:
        """What else the original's program had stored with it."""
        return {name: value for name, value in self._own.annotations.items()
                if name not in ('settings', 'metadata', 'camera')}

    def _new_report(self, new: NewRecording, lost_after: List[Loss]) -> Report:
        lost = new.tally.lost + sum(loss.count for loss in lost_after)
        verdict, reasons = _verdict(self._recording, self._report, self._grid, lost)
        base = self._report or Report('unknown', camera=_as_in_reports(self._recording.camera),
                                      loss_detection=str(self._recording.camera.get('loss_detection', 'none')))
        of_original = [f'the original recording: {error}' for error in base.errors]
        if self._recording.missing_files:
            of_original.append(f'the original recording: {_lacked(self._recording)}')
        return Report(verdict, reasons, losses=self._lost, loss_detection=base.loss_detection,
                      callback_errors=new.tally.by_status['failed'], results=self.results.lines, camera=base.camera,
                      clock=base.clock, stopped=base.stopped if self._grid.open and base.stopped else STOPPED,
                      warnings=[*base.warnings, *of_original])

    @property
    def notes(self) -> Tuple[str, ...]:
        notes = list(self._recording.notes)
        if self.results.left_out:
            notes.append(f'{self.results.left_out:,} results of frames that are not in the cut were left out')
        return tuple(notes)


def _report_of(recording: Recording) -> Optional[Report]:
    try:
        return recording.report
    except RecordingFormatError:
        return None                     # one that cannot be right is none


def _as_in_reports(camera: Mapping[str, Any]) -> Dict[str, Any]:
    """What a report tells of the camera, from what stands before the first page."""
    names = ('model', 'width', 'height', 'framerate', 'pixel_format', 'details')
    return {**{name: camera.get(name) for name in names}, 'statistics': {}} if camera else {}


def _verdict(recording: Recording, report: Optional[Report], grid: Grid, lost: int) -> Tuple[str, List[str]]:
    """Whether the cut is complete. 'yes' only on the original's word, or where all that it lacks lies elsewhere."""
    lacks = [f'{lost} frame{"s" if lost != 1 else ""} lost'] if lost else []
    name = recording.path.name
    if report is None:
        why = _lacked(recording) if recording.missing_files else \
            'has no report that can be trusted' if recording.finished else 'was not finished'
        doubts = [f'this is a cut of {name}, which {why}, so that nobody says whether frames are missing']
        return 'no' if lost else 'unknown', lacks + doubts
    doubts = _doubts(report, grid)
    if lost and recording.missing_files:
        lacks.append(f'this is a cut of {name}, which {_lacked(recording)}')
    reasons = lacks + [f'this is a cut of {name}, of which its report says: {reason}' for reason in doubts]
    if lost or grid.open and report.complete == 'no' and not all(map(_UNSEEN.search, doubts)):
        return 'no', reasons                            # a range with an open end has to do with how that came
    return 'unknown' if doubts else 'yes', reasons


def _lacked(recording: Recording) -> str:
    names = recording.missing_files
    return f'lacked {len(names)} of its files when it was cut ({", ".join(names[:3])}{", …" if len(names) > 3 else ""})'


def _doubts(report: Report, grid: Grid) -> List[str]:
    """Of the reasons why the original is not known to be complete, those that may concern the cut, too."""
    if report.complete == 'yes':
        return []
    losses = report.losses
    places_known = len(losses) < MOST_PLACES and sum(loss.count for loss in losses) == report.lost
    doubts = [reason for reason in report.reasons
              if not (places_known and _LOST.fullmatch(reason))
              and not (_UNWRITTEN.fullmatch(reason) and not grid.open)]
    if report.loss_detection == 'none' and not any(map(_UNSEEN.search, doubts)):
        doubts.append('there are no means to see losses')
    if report.complete == 'unknown' and not doubts or not report.reasons:
        doubts.append(f'complete: {report.complete}')
    return doubts


class _Results:
    """The results of the frames that are in the cut, with their new numbers; and those outside of any frame.

    lines: how many; left_out: how many others there are. nbytes: of the original's file.
    """

    def __init__(self, recording: Recording, grid: Grid, on_grid: np.ndarray) -> None:
        self._grid = grid
        self._results = recording.results
        self._path = self._results.path
        pages = self._results.pages
        kept = self._results.indices == -1
        if len(pages):
            kept = kept | (pages >= 0) & on_grid[np.maximum(pages, 0)]
        self._kept = kept
        self.lines = int(kept.sum())
        self.left_out = len(kept) - self.lines
        self.nbytes = 0 if self._path is None or not self.lines else self._path.stat().st_size

    def write(self, path: Path) -> None:
        """Write them; as many as ``lines``."""
        with open(path, 'wb') as new:
            if self._path is None:
                return
            with open(self._path, 'rb') as file:
                for kept, index, line in zip(self._kept, self._results.indices, file):
                    if kept:
                        new.write(line if index < 0 else _renumbered(line, self._grid.number(int(index))))


def _renumbered(line: bytes, number: int) -> bytes:
    """The line for another frame's number, else as it was."""
    head = _HEAD.match(line)
    if head is not None:
        whole = line if line.endswith(b'\n') else line + b'\n'
        return b'{"index": %d, ' % number + whole[head.end():]
    return json.dumps({**json.loads(line), 'index': number}).encode('ascii') + b'\n'
