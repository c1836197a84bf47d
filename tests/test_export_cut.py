"""Cuts: some frames of a recording as a recording of its own, whose ledger is true and which verify finds sound."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple
from unittest import mock

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from recording_tools import run_script

from ProcessedPiRecorder.cli.info import show_recording
from ProcessedPiRecorder.errors import ExportCancelled, ExportError, RecordingFormatError
from ProcessedPiRecorder.exports import export
from ProcessedPiRecorder.exports.cut import export_cut
from ProcessedPiRecorder.reading import Recording, open_recording
from ProcessedPiRecorder.recordings import reader
from ProcessedPiRecorder.recordings.page import STATUSES, PageRecord, StoredPage
from ProcessedPiRecorder.recordings.reader import RecordingFile
from ProcessedPiRecorder.recordings.repair import repair
from ProcessedPiRecorder.recordings.results import ResultsFile, read_results, results_path
from ProcessedPiRecorder.recordings.sink import PageJob, PageSink
from ProcessedPiRecorder.recordings.tally import Tally
from ProcessedPiRecorder.recordings.verification import verify
from ProcessedPiRecorder.report import Loss, Report
from tests.faults.tiny import make_tiny

TIME = 1_700_000_000_000_000_000
STEP = 10_000_000
REASONS = ('ring full', 'camera gap', 'stall')
ABOUT: Dict[str, Any] = {'settings': {'tif_path': 'a.tif'}, 'metadata': {'animal': 'M12'},
                         'camera': {'framerate': 100.0, 'loss_detection': 'count', 'model': 'test'}}
Marks = Tuple[Tuple[int, str], ...]


class Made(NamedTuple):
    """A recording and all that is true of it: what became of each number ('' = in the file, else why it was lost)."""

    path: Path
    fates: List[str]
    marks: Marks

    @property
    def present(self) -> List[int]:
        return [index for index, fate in enumerate(self.fates) if not fate]


def picture(index: int) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 40, (4, 6, 3), np.uint8)


def time_of(index: int) -> int:
    return TIME + index * STEP


def make(path: Path, fates: Sequence[str], marks: Marks = (), *, split: int = 0, results: bool = True,
         **report: Any) -> Made:
    """Record the frames whose fate is ''. marks: (index, label); on a lost frame, they fall on the next page."""
    sink = PageSink(path, height=4, width=6, pixel_format='bgr', level=6, waits=True, threads=1, split_frames=split,
                    about=ABOUT, on_written=lambda jobs: None, on_error=lambda error: None)
    sink.publish()
    tally, losses, waiting, pending = Tally(72), [], list(marks), []
    with ResultsFile(results_path(path)) as file:
        for index, fate in enumerate(fates):
            if fate:
                if losses and losses[-1].index + losses[-1].count == index and losses[-1].reason == fate:
                    losses[-1] = losses[-1]._replace(count=losses[-1].count + 1)
                else:
                    before = [page for page in range(index) if not fates[page]]
                    losses.append(_Loss(index, 1, time_of(before[-1]) if before else None, fate))
                continue
            here = [(at, label) for at, label in waiting if at <= index]
            waiting = [mark for mark in waiting if mark not in here]
            status = STATUSES[index % 4]
            record = PageRecord(index, time_of(index), index * STEP + 3, index * STEP + 5, status,
                                tuple({'label': label, 'time_ns': time_of(at)} for at, label in here),
                                1.5 if status != 'by-passed' else None, 7 if index % 5 == 0 else None,
                                tuple(loss._asdict() for loss in losses if loss not in pending))
            pending = list(losses)
            tally.page(StoredPage(0, 0, record, '', 0), 0)
            sink.submit(PageJob(picture(index), record))
            if results:
                file.add(index, time_of(index), {'n': index})
        if results:
            file.add(None, None, 'at the end')

    def describe(info: Any) -> Dict[str, Any]:
        lost = sum(loss.count for loss in losses)
        told = {'complete': 'no' if lost else 'yes', 'reasons': [f'{lost} frames lost'] if lost else [],
                'loss_detection': 'count', **report}
        totals = sink.totals
        figures = {**tally.figures(100.0), 'effort': dict(totals.effort), 'raw_bytes': totals.raw_bytes,
                   'file_bytes': totals.file_bytes, 'compression_ratio': round(totals.ratio, 3), 'lost': lost,
                   'sensor': tally.captured + lost,
                   'losses': [Loss(*loss, detail=f'detail of {loss.index}') for loss in losses],
                   'marks': [*tally.marks, *({'label': label, 'time_ns': time_of(at)} for at, label in waiting)]}
        return {'report': Report(**{**told, **figures}, camera={'framerate': 100.0}, stopped='rec_length',
                                 results=tally.captured + 1 if results else 0,
                                 files=[part.name for part in info.files]).as_dict(), **ABOUT, 'more': {'a': 1}}

    sink.finish(lambda info: describe(info) if info.last else ABOUT)
    return Made(path, list(fates), marks)


#: A disk's syncs are not what these try hundreds of times.
unsynced = mock.patch.multiple(os, fsync=lambda fd: None, fdatasync=lambda fd: None)


class _Loss(NamedTuple):
    index: int          # type: ignore[assignment]
    count: int          # type: ignore[assignment]
    time_ns: Optional[int]
    reason: str


def fates_of(length: int, lost: Dict[int, str]) -> List[str]:
    return [lost.get(index, '') for index in range(length)]


def sound(path: Path) -> Report:
    verification = verify(path, threads=1)
    assert verification.ok, verification.findings[:5]
    assert verification.report is not None and verification.finished
    return verification.report


def assert_true(made: Made, cut: Recording, start: int, behind: int, every: int) -> None:
    """The cut is what the original's truth makes it."""
    grid = range(start, behind, every)
    present = [index for index in grid if not made.fates[index]]
    assert cut.indices is not None and cut.times_ns is not None
    assert cut.indices.tolist() == [(index - start) // every for index in present]
    assert cut.times_ns.tolist() == [time_of(index) for index in present]
    with open_recording(made.path) as original:
        for page, index in enumerate(present):
            np.testing.assert_array_equal(cut[page], picture(index))
            own, old = cut.record(page), original.record(original.page_of(index))
            assert own._replace(index=0, lost=(), marks=()) == old._replace(index=0, lost=(), marks=())
    report = cut.report
    assert report is not None
    lost = {number: loss.reason for loss in report.losses for number in range(loss.index, loss.index + loss.count)}
    assert lost == {(index - start) // every: made.fates[index] for index in grid if made.fates[index]}
    assert report.sensor == len(grid) and report.lost == len(grid) - len(present)
    expected = [(None if index is None else (index - start) // every, result) for index, result in
                [*((index, {'n': index}) for index in present), (None, 'at the end')]]
    assert [(result.index, result.result) for result in cut.results] == expected
    assert all(result.page is not None for result in cut.results if result.index is not None)


def expected_marks(made: Made, start: int, behind: int, every: int, whole_end: bool) -> List[Tuple[int, str, Any]]:
    """(time, label, number of the frame that it is on or None behind the last) of all marks within."""
    kept = [index for index in range(start, behind, every) if not made.fates[index]]
    found = []
    for at, label in made.marks:
        page = next((index for index in made.present if index >= at), None)      # where the original has it
        if page is None and not whole_end or page is not None and not start <= page < behind:
            continue
        on = next((index for index in kept if page is not None and index >= page), None)
        found.append((time_of(at), label, None if on is None else (on - start) // every))
    return sorted(found, key=lambda mark: mark[0])


# ---------------------------------------------------------------------- the ledger

@st.composite
def cases(draw: Any) -> Tuple[List[str], Marks, int, Tuple[Any, Any, int]]:
    length = draw(st.integers(1, 40))
    lost = draw(st.dictionaries(st.integers(0, length - 1), st.sampled_from(REASONS), max_size=length - 1))
    marks = tuple(sorted(draw(st.sets(st.tuples(st.integers(0, length), st.sampled_from('ab')), max_size=8))))
    place = st.one_of(st.none(), st.integers(0, length))
    return (fates_of(length, lost), marks, draw(st.sampled_from([0, 0, 3, 7])),
            (draw(place), draw(place), draw(st.integers(1, 9))))


@settings(max_examples=40)
@given(cases())
def test_a_cut_by_numbers_is_true_and_sound(tmp_path_factory: pytest.TempPathFactory, case: Any) -> None:
    cut_by_numbers(tmp_path_factory.mktemp('cut'), *case)


@unsynced
def cut_by_numbers(folder: Path, fates: List[str], marks: Marks, split: int, wanted: Tuple[Any, Any, int]) -> None:
    start, stop, every = wanted
    made = make(folder / 'a.tif', fates, marks, split=split)
    sound(made.path)
    first, behind = start or 0, len(fates) if stop is None else stop
    kept = [index for index in range(first, behind, every) if not (index < len(fates) and fates[index])]
    with open_recording(made.path) as original:
        arguments = {'start': None if start is None else str(start), 'stop': None if stop is None else str(stop)}
        if not kept or first >= len(fates):
            with pytest.raises(ExportError, match='leaves? no frame|is no'):
                export_cut(original, folder / 'c.tif', every=every, **arguments)
            assert not (folder / 'c.tif').exists() and not results_path(folder / 'c.tif').exists()
            return
        exported = export_cut(original, folder / 'c.tif', every=every, **arguments)
    report = sound(folder / 'c.tif')
    with open_recording(folder / 'c.tif') as cut:
        assert_true(made, cut, first, min(behind, len(fates)), every)
        assert exported.frames == len(cut) and exported.bytes == (folder / 'c.tif').stat().st_size
        assert (report.complete == 'yes') == (report.lost == 0) and bool(report.reasons) == bool(report.lost)
        last_page = made.present[-1]
        marks_found = sorted(((mark['time_ns'], mark['label'], mark['index']) for mark in cut.marks),
                             key=lambda mark: mark[0])
        expected = expected_marks(made, first, min(behind, len(fates)), every, stop is None or stop > last_page + 1)
        assert sorted(marks_found, key=str) == sorted(expected, key=str)


@settings(max_examples=30)
@given(cases(), st.integers(1, 4), st.integers(0, 5))
def test_a_cut_of_a_cut_is_a_cut(tmp_path_factory: pytest.TempPathFactory, case: Any, again: int, start: int) -> None:
    fates, marks, split, (_, _, every) = case
    cut_twice(tmp_path_factory.mktemp('cut'), fates, marks, split, every, again, start)


@unsynced
def cut_twice(folder: Path, fates: List[str], marks: Marks, split: int, every: int, again: int, start: int) -> None:
    made = make(folder / 'a.tif', fates, marks, split=split)
    grid = range(0, len(fates), every)[start::again]
    if fates[0] or not any(not fates[index] for index in grid):
        return
    with open_recording(made.path) as original:
        export_cut(original, folder / 'b.tif', every=every)
    with open_recording(folder / 'b.tif') as once:
        export_cut(once, folder / 'c.tif', start=str(start), every=again)
        assert once.metadata['animal'] == 'M12'
    sound(folder / 'c.tif')
    with open_recording(folder / 'c.tif') as cut:
        assert_true(made, cut, grid.start, len(fates), every * again)
        assert cut.metadata['cut']['of']['file'] == 'a.tif' and cut.metadata['cut']['file'] == 'b.tif'


def test_whole_numbers_are_pages(tmp_path: Path) -> None:
    made = make(tmp_path / 'a.tif', fates_of(30, {**dict.fromkeys((0, 12, 29), 'stall'), 4: 'ring full',
                                                 5: 'ring full'}))
    with open_recording(made.path) as original:
        for start, stop, every, first, behind in (
                (0, None, 1, 0, 30), (None, None, 3, 0, 30), (3, 9, 1, 6, 13), (3, 9, 2, 6, 13), (-5, None, 1, 24, 30),
                (0, 3, 1, 0, 6), (0, 10**6, 4, 0, 30), (2, -1, 1, 3, 28)):
            export_cut(original, tmp_path / 'c.tif', start=start, stop=stop, every=every, overwrite=True)
            sound(tmp_path / 'c.tif')
            with open_recording(tmp_path / 'c.tif') as cut:
                assert_true(made, cut, first, behind, every)
                assert (cut.metadata['cut']['start'], cut.metadata['cut']['stop']) == (first, behind)


def test_seconds_and_times_of_day(tmp_path: Path) -> None:
    made = make(tmp_path / 'a.tif', fates_of(100, {50: 'stall'}))
    with open_recording(made.path) as original:
        export_cut(original, tmp_path / 'c.tif', start='0.2s', stop='2023-11-14T22:13:20.600Z')
    with open_recording(tmp_path / 'c.tif') as cut:
        assert_true(made, cut, 20, 60, 1)


def test_partial_cuts_add_up_to_the_whole_ledger(tmp_path: Path) -> None:
    made = make(tmp_path / 'a.tif', fates_of(30, {0: 'stall', 4: 'ring full', 12: 'stall', 13: 'stall', 29: 'stall'}))
    with open_recording(made.path) as original:
        for page in range(1, len(original), 3):
            lost = 0
            for name, start, stop in (('b.tif', 0, page), ('c.tif', page, None)):
                export_cut(original, tmp_path / name, start=start, stop=stop, overwrite=True)
                lost += sound(tmp_path / name).lost
            assert lost == 5


def test_details_and_other_annotations_come_along(tmp_path: Path) -> None:
    made = make(tmp_path / 'a.tif', fates_of(20, {4: 'stall', 5: 'stall', 12: 'ring full', 19: 'stall'}))
    with open_recording(made.path) as original:
        export_cut(original, tmp_path / 'c.tif', start='2', every=2)
        report = sound(tmp_path / 'c.tif')
        assert [(loss.index, loss.detail) for loss in report.losses] == [(1, 'detail of 4'), (5, 'detail of 12')]
        with RecordingFile(made.path) as old:
            recording_id = old.recording
        with open_recording(tmp_path / 'c.tif') as cut, RecordingFile(tmp_path / 'c.tif') as file:
            assert cut.settings == original.settings and cut.camera == original.camera
            assert cut.metadata['animal'] == 'M12' and file.annotations['more'] == {'a': 1}
            assert cut.metadata['cut'] == {
                'file': 'a.tif', 'recording': recording_id, 'start': 2,
                'stop': 20, 'every': 2, 'frames': 7, 'first_time_ns': time_of(2), 'last_time_ns': time_of(18),
                'complete': 'no'}
            assert file.recording not in ('', cut.metadata['cut']['recording'])


def test_more_losses_than_a_page_tells_are_summed_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('ProcessedPiRecorder.exports.grid.MOST_LOSSES', 4)
    lost = {index: REASONS[index // 3 % 3] for index in range(40) if index % 3 == 0 and 0 < index < 37}
    made = make(tmp_path / 'a.tif', fates_of(40, lost))
    with open_recording(made.path) as original:
        export_cut(original, tmp_path / 'c.tif', start='0', every=3)
    report = sound(tmp_path / 'c.tif')
    assert report.lost == 12 and [loss.count for loss in report.losses] == [1, 1, 1, 9]
    assert report.losses[-1].reason == 'other'


# ---------------------------------------------------------------------- the verdict

CUTS: List[Tuple[Dict[int, str], Dict[str, Any], Any, Any, int, str, str]] = [
    ({}, {}, 3, 9, 1, 'yes', ''),
    ({3: 'stall'}, {}, 5, None, 1, 'yes', ''),
    ({3: 'stall'}, {}, 0, None, 2, 'yes', ''),
    ({4: 'stall'}, {}, 0, None, 2, 'no', '1 frame lost'),
    ({}, {'complete': 'unknown', 'reasons': ['clock unsure']}, 3, 9, 1, 'unknown', 'a.tif.*clock unsure'),
    ({3: 'stall'}, {'complete': 'no', 'reasons': ['1 frames lost', 'the disk broke']}, 5, 9, 1, 'unknown', 'the disk'),
    ({3: 'stall'}, {'complete': 'no', 'reasons': ['1 frames lost', 'the disk broke']}, 5, None, 1, 'no', 'the disk'),
    ({3: 'stall'}, {'complete': 'no', 'reasons': ['1 frames lost'], 'loss_detection': 'none'}, 5, None, 1, 'unknown',
     'no means'),
    ({3: 'stall'}, {'complete': 'no', 'reasons': []}, 5, 9, 1, 'unknown', 'complete: no'),
]


@pytest.mark.parametrize('lost, told, start, stop, every, verdict, reason', CUTS)
def test_the_verdict_is_that_of_the_range(tmp_path: Path, lost: Dict[int, str], told: Dict[str, Any], start: Any,
                                          stop: Any, every: int, verdict: str, reason: str) -> None:
    made = make(tmp_path / 'a.tif', fates_of(20, lost), **told)
    with open_recording(made.path) as original:
        export_cut(original, tmp_path / 'c.tif', start=start, stop=stop, every=every)
    report = sound(tmp_path / 'c.tif')
    assert report.complete == verdict
    assert any(re.search(reason, text) for text in report.reasons) if reason else not report.reasons


def test_losses_that_are_summed_up_may_lie_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(tmp_path / 'a.tif', fates_of(20, {3: 'stall', 5: 'stall'}))
    monkeypatch.setattr('ProcessedPiRecorder.exports.cut.MOST_PLACES', 2)
    with open_recording(made.path) as original:
        export_cut(original, tmp_path / 'c.tif', start=8)
    assert sound(tmp_path / 'c.tif').complete == 'no'


def test_frames_that_were_captured_and_never_written_are_missing_at_the_end(tmp_path: Path) -> None:
    path = make_tiny(tmp_path / 'a.tif', pages=6, lost_before=()).path
    rewrite_report(path, complete='no', captured=9, sensor=9, reasons=['3 captured frames are not in the file'],
                   errors=['the disk broke'])
    with open_recording(path) as original:
        export_cut(original, tmp_path / 'c.tif', every=2)
        export_cut(original, tmp_path / 'd.tif', stop=5)
    report = sound(tmp_path / 'c.tif')
    assert (report.complete, report.lost, report.losses[0].index) == ('no', 2, 3)          # 6 and 8
    assert any('the disk broke' in text for text in report.warnings) and not report.errors
    assert sound(tmp_path / 'd.tif').complete == 'yes'


def rewrite_report(path: Path, **changes: Any) -> None:
    """Give a finished recording another report, by making it anew."""
    from dataclasses import replace

    from ProcessedPiRecorder.recordings.stored_report import report_of
    with RecordingFile(path) as recording:
        stored = recording.annotations
        report = replace(report_of(stored['report']), **changes)
        new = _copied(recording, path.with_name('new.tif'))
        new._part.finish(_info(path, recording.pages), {'report': report.as_dict(), **recording.about})
    os.replace(path.with_name('new.tif'), path)


def _copied(recording: RecordingFile, path: Path) -> Any:
    from ProcessedPiRecorder.reading.copying import NewRecording
    new = NewRecording(path, recording, recording.about, name='a.tif')
    for page in range(recording.pages):
        new.add(recording, page, recording.stored_page(page))
    return new


def _info(path: Path, pages: int) -> Any:
    from ProcessedPiRecorder.recordings.part import PartInfo
    return PartInfo(0, path, path.name, 0, pages, True, (path,))


# ---------------------------------------------------------------------- what it is cut from

@pytest.mark.parametrize('split', [0, 5])
def test_an_unfinished_recording(tmp_path: Path, split: int) -> None:
    path = make_tiny(tmp_path / 'a.tif', pages=12, lost_before=(3,), split=split, results=5, finish=False).path
    with open_recording(path) as original:
        exported = export_cut(original, tmp_path / 'c.tif', start=5, every=2)
    report = sound(tmp_path / 'c.tif')
    assert report.complete == 'unknown' and 'a.tif, which was not finished' in report.reasons[0]
    assert any('unfinished' in note for note in exported.notes) and report.loss_detection == 'none'
    with open_recording(path) as original:
        export_cut(original, tmp_path / 'd.tif')
    assert sound(tmp_path / 'd.tif').complete == 'no'


def test_a_repaired_recording(tmp_path: Path) -> None:
    path = make_tiny(tmp_path / 'a.tif', pages=12, lost_before=(3,), results=12).path
    with RecordingFile(path) as recording:
        row = recording.index()[6]
    data = bytearray(path.read_bytes())
    data[int(row['strip_offset'])] ^= 255
    path.write_bytes(data)
    mended = repair(path).files[0]
    with open_recording(mended) as original:
        export_cut(original, tmp_path / 'c.tif', start=4)
        export_cut(original, tmp_path / 'd.tif', start=7, stop=9)
    report = sound(tmp_path / 'c.tif')
    assert report.complete == 'no' and [loss.reason for loss in report.losses] == ['damaged']
    assert sound(tmp_path / 'd.tif').complete == 'unknown'           # what else the damage took, nobody knows


def test_a_damaged_page_ends_it_and_leaves_nothing(tmp_path: Path) -> None:
    path = make_tiny(tmp_path / 'a.tif', pages=12, results=3, lost_before=(3,)).path
    with RecordingFile(path) as recording:
        rows = recording.index()
    for page, every in ((4, 1), (3, 7)):                 # in the cut; and beside it, where it tells of a loss
        good = path.read_bytes()
        data = bytearray(good)
        data[int(rows['strip_offset'][page])] ^= 255
        path.write_bytes(data)
        with open_recording(path) as original:
            with pytest.raises(RecordingFormatError, match=f'page {page} .*damaged.*repair'):
                export_cut(original, tmp_path / 'c.tif', every=every)
        assert sorted(os.listdir(tmp_path)) == ['a.results.jsonl', 'a.tif']
        path.write_bytes(good)


def test_another_programs_tiff_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / 'x.tif', np.zeros((3, 8, 8), np.uint8), photometric='minisblack')
    with open_recording(tmp_path / 'x.tif') as foreign:
        with pytest.raises(ExportError, match='PNG images'):
            export_cut(foreign, tmp_path / 'c.tif')


def test_metadata_of_that_name_is_kept(tmp_path: Path) -> None:
    path = make_tiny(tmp_path / 'a.tif', annotations={'metadata': {'cut': 'coronal'}}).path
    export(path, tmp_path / 'c.tif', every=2)
    with open_recording(tmp_path / 'c.tif') as cut:
        assert cut.metadata['cut']['of'] == 'coronal'


# ---------------------------------------------------------------------- results

def test_results_of_other_writers_and_broken_ends(tmp_path: Path) -> None:
    made = make(tmp_path / 'a.tif', fates_of(6, {}), results=False)
    lines = [json.dumps({'index': 2, 'time_ns': time_of(2), 'result': {'Ä': [1.5, None]}}),
             json.dumps({'time_ns': time_of(4), 'result': 'x', 'index': 4}),
             json.dumps({'index': 4, 'time_ns': 5, 'result': 'of another time'}),
             json.dumps({'index': 77, 'time_ns': 5, 'result': 'of no frame'}), '{"index": 2, "ti']
    results_path(made.path).write_text('\n'.join(lines))
    with open_recording(made.path) as original:
        exported = export_cut(original, tmp_path / 'c.tif', every=2)
    assert list(read_results(results_path(tmp_path / 'c.tif'))) == [
        (1, time_of(2), {'Ä': [1.5, None]}), (2, time_of(4), 'x')]
    assert exported.beside == (results_path(tmp_path / 'c.tif'),) and '2 results' in exported.notes[-1]
    assert sound(tmp_path / 'c.tif').results == 2


def test_none_of_them_leaves_no_file_and_no_older_one(tmp_path: Path) -> None:
    made = make(tmp_path / 'a.tif', fates_of(6, {}), results=False)
    stale = results_path(tmp_path / 'c.tif')
    with open_recording(made.path) as original:
        stale.write_text('{}')
        for overwrite, what in ((False, 'or pass overwrite=True'), (True, r'there is no c\.tif whose results')):
            with pytest.raises(ExportError, match=f'c.results.jsonl exists already.*{what}'):
                export_cut(original, tmp_path / 'c.tif', overwrite=overwrite)
            assert not (tmp_path / 'c.tif').exists() and stale.read_text() == '{}'
        make_tiny(tmp_path / 'c.tif')
        export_cut(original, tmp_path / 'c.tif', overwrite=True)
    assert not stale.exists() and sound(tmp_path / 'c.tif').results == 0


# ---------------------------------------------------------------------- whole or nothing

def test_it_can_be_cancelled(tmp_path: Path) -> None:
    made = make(tmp_path / 'a.tif', fates_of(9, {}))
    seen: List[Tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        seen.append((done, total))
        if done == 3:
            raise ExportCancelled('enough')

    with open_recording(made.path) as original:
        with pytest.raises(ExportCancelled):
            export_cut(original, tmp_path / 'c.tif', every=2, progress=progress)
        assert seen == [(0, 5), (1, 5), (2, 5), (3, 5)]
        assert sorted(os.listdir(tmp_path)) == ['a.results.jsonl', 'a.tif']
        export_cut(original, tmp_path / 'c.tif', every=2)


def test_a_killed_one_leaves_no_name_and_the_next_one_works(tmp_path: Path) -> None:
    make(tmp_path / 'a.tif', fates_of(9, {}))
    script = run_script('''if True:
        import sys, time
        from ProcessedPiRecorder import open_recording
        from ProcessedPiRecorder.exports import export
        def progress(done, total):
            if done == 4:
                print('half', flush=True)
                time.sleep(60)
        export('a.tif', 'c.tif', progress=progress)
    ''', tmp_path, wait=False)
    assert script.stdout is not None and script.stdout.readline() == 'half\n'
    script.send_signal(signal.SIGKILL)
    script.communicate()
    assert not (tmp_path / 'c.tif').exists() and not results_path(tmp_path / 'c.tif').exists()
    export(tmp_path / 'a.tif', tmp_path / 'c.tif')
    assert sound(tmp_path / 'c.tif').complete == 'yes'


# ---------------------------------------------------------------------- cost

def test_nothing_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(tmp_path / 'a.tif', fates_of(20, {3: 'stall'}), ((2, 'a'), (5, 'b')))

    def forbidden(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError('a page was decoded')
    monkeypatch.setattr(reader, 'decode_strip', forbidden)
    monkeypatch.setattr('ProcessedPiRecorder.recordings.decoder.decode_strip', forbidden)
    monkeypatch.setattr('ProcessedPiRecorder.recordings.encoder.encode_rows', forbidden, raising=False)
    with open_recording(made.path) as original:
        export_cut(original, tmp_path / 'c.tif', every=2)


def test_pages_keep_their_strips_and_where_nothing_changes_every_byte(tmp_path: Path) -> None:
    made = make(tmp_path / 'a.tif', fates_of(12, {3: 'stall'}), ((5, 'b'),))
    with open_recording(made.path) as original:
        export_cut(original, tmp_path / 'b.tif')
        export_cut(original, tmp_path / 'c.tif', every=2)
    with RecordingFile(made.path) as old, RecordingFile(tmp_path / 'b.tif') as same, \
            RecordingFile(tmp_path / 'c.tif') as cut:
        assert [same.encoded_page(page) for page in range(11)] == [old.encoded_page(page) for page in range(11)]
        indices: Set[int] = {old.page_record(page).index for page in range(11)}
        pages = [sorted(indices).index(index) for index in range(0, 12, 2)]
        assert [cut.encoded_page(page)[0] for page in range(6)] == [old.encoded_page(page)[0] for page in pages]


# ---------------------------------------------------------------------- as people see it

def test_info_says_that_it_is_a_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = make(tmp_path / 'a.tif', fates_of(2000, dict.fromkeys(range(20, 1990), 'stall')))
    export(made.path, tmp_path / 'c.tif', start='4', stop='1995', every=5)
    show_recording(tmp_path / 'c.tif', as_json=False)
    told = ' '.join(capsys.readouterr().out.split())
    assert 'A cut of a.tif: one in 5 of its frames 4 to 1,994, numbered anew from 0.' in told
    assert '399 to be in this cut' in told and 'by the camera' not in told
    export(made.path, tmp_path / 'd.tif', start='1992')
    show_recording(tmp_path / 'd.tif', as_json=False)
    assert 'COMPLETE all 8 frames of this cut are in the file' in ' '.join(capsys.readouterr().out.split())
    show_recording(made.path, as_json=False)
    assert 'cut' not in capsys.readouterr().out
