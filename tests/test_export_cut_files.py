"""Cuts and files beside them: what one replaces, what it leaves alone, and files of its original that are missing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, List

import pytest
from test_export_cut import STEP, TIME, fates_of, make, sound, time_of

from ProcessedPiRecorder.errors import ExportError, RecordingFileError
from ProcessedPiRecorder.exports import export
from ProcessedPiRecorder.exports.cut import export_cut
from ProcessedPiRecorder.reading import open_recording
from ProcessedPiRecorder.recordings.bigtiff import lock_file
from ProcessedPiRecorder.report import Loss
from tests.faults.tiny import make_tiny

# ---------------------------------------------------------------------- what it replaces

def test_it_never_replaces_its_own_recording(tmp_path: Path) -> None:
    files = make_tiny(tmp_path / 'a.tif', pages=6, split=2, results=2).files
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with open_recording(files[0]) as original:
        for target in [*files, tmp_path / 'link.tif']:
            if target.name == 'link.tif':
                target.symlink_to(files[1])
            with pytest.raises(ExportError, match='of the recording itself'):
                export_cut(original, target, overwrite=True)
            with pytest.raises(ExportError):
                export_cut(original, target)
    (tmp_path / 'link.tif').unlink()
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_older_recording_goes_whole_and_only_when_told(tmp_path: Path) -> None:
    made = make(tmp_path / 'a.tif', fates_of(6, {}))
    make_tiny(tmp_path / 'c.tif', pages=6, split=2, results=2)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with open_recording(made.path) as original:
        with pytest.raises(ExportError, match='exists already'):
            export_cut(original, tmp_path / 'c.tif')
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
        export_cut(original, tmp_path / 'c.tif', overwrite=True)
    assert sorted(os.listdir(tmp_path)) == ['a.results.jsonl', 'a.tif', 'c.results.jsonl', 'c.tif']
    sound(tmp_path / 'c.tif')


def test_what_is_left_of_another_recording_stays(tmp_path: Path) -> None:
    for name in ('trial.tif', 'b.tif'):
        files = make_tiny(tmp_path / name, pages=6, split=2).files
        files[0].unlink()
        make_tiny(tmp_path / name, pages=2, seed=1, begin_ns=TIME + 10**12)
    kept = {path: path.read_bytes() for path in tmp_path.glob('*_00?.tif')}
    assert len(kept) == 4
    export(tmp_path / 'trial_001.tif', tmp_path / 'trial.tif', overwrite=True)      # its own files, by their names
    export(tmp_path / 'trial.tif', tmp_path / 'b.tif', overwrite=True)
    export(tmp_path / 'b.tif', tmp_path / 'trial_001.tif', overwrite=True)          # not the whole of another one
    del kept[tmp_path / 'trial_001.tif']
    assert {path: path.read_bytes() for path in kept} == kept
    for name in ('trial.tif', 'b.tif', 'trial_001.tif'):
        with open_recording(tmp_path / name) as cut:
            assert len(cut) == 4 and not cut.missing_files and cut.finished


def test_what_bears_the_name_of_an_older_file_by_now_stays(tmp_path: Path) -> None:
    made = make(tmp_path / 'a.tif', fates_of(6, {}))
    files = make_tiny(tmp_path / 'c.tif', pages=6, split=2).files

    def progress(done: int, total: int) -> None:
        if done == total:
            files[1].rename(tmp_path / 'kept.tif')
            files[1].write_text('of somebody else')
    export(made.path, files[0], overwrite=True, progress=progress)
    assert files[1].read_text() == 'of somebody else' and not files[2].exists()


def test_results_of_a_recording_with_the_other_suffix_stay(tmp_path: Path) -> None:
    made = make(tmp_path / 'a.tif', fates_of(6, {}))
    theirs = make_tiny(tmp_path / 'trial.tif', results=2).results
    before = theirs.read_bytes()
    for there in (False, True):
        if there:
            make_tiny(tmp_path / 'trial.tiff')
        with pytest.raises(ExportError, match=r'trial\.results\.jsonl exists already.* move .*: trial\.tif is there'):
            export(made.path, tmp_path / 'trial.tiff', overwrite=True)
        assert theirs.read_bytes() == before and (tmp_path / 'trial.tiff').exists() == there


@pytest.mark.parametrize('begins', ['before', 'meanwhile'])
@pytest.mark.parametrize('file', [0, 2])
def test_a_recording_that_goes_on_is_not_replaced(tmp_path: Path, begins: str, file: int) -> None:
    made = make(tmp_path / 'a.tif', fates_of(9, {}))
    files = make_tiny(tmp_path / 'c.tif', pages=6, split=2).files
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with open(files[file], 'rb') as recorded:
        def begin(done: int, total: int) -> None:
            seen.append(done)
            if done == (0 if begins == 'before' else total):
                assert lock_file(recorded.fileno())
        seen: List[int] = []
        if begins == 'before':
            begin(0, 9)
        with pytest.raises(RecordingFileError, match=r'c\.tif is being recorded at this moment'):
            export(made.path, files[0], overwrite=True, progress=begin)
        assert len(seen) == (1 if begins == 'before' else 10)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


# ---------------------------------------------------------------------- files that are missing

def test_a_split_recording_of_which_a_file_is_missing(tmp_path: Path) -> None:
    files = make_tiny(tmp_path / 'a.tif', pages=12, lost_before=(), split=4).files
    files[1].unlink()
    with open_recording(files[0]) as original:
        export_cut(original, tmp_path / 'c.tif', every=2)
    report = sound(tmp_path / 'c.tif')
    assert report.complete == 'no' and report.losses == [
        Loss(2, 2, TIME + 3 * STEP, 'source broke off', 'in a file of the original that was missing when it was cut')]
    why = 'lacked 1 of its files when it was cut (a_001.tif)'
    assert f'this is a cut of a.tif, which {why}' in report.reasons
    assert f'the original recording: {why}' in report.warnings
    files[2].unlink()
    export(files[0], tmp_path / 'd.tif')
    assert sound(tmp_path / 'd.tif').complete == 'unknown'
    assert 'a.tif, which lacked 1 of its files' in sound(tmp_path / 'd.tif').reasons[0]


MARKED = ((1, 'a'), (4, 'b'), (5, 'c'), (7, 'd'), (10, 'e'), (13, 'behind'))


@pytest.mark.parametrize('missing, start, stop, every, expected', [
    (1, None, None, 1, ['a', 'b', 'c', 'd', 'e', 'behind']), (1, None, None, 3, ['a', 'b', 'c', 'd', 'e', 'behind']),
    (1, '0', '8', 1, ['a', 'b', 'c', 'd']), (1, '8', None, 1, ['e', 'behind']), (1, '0', '4', 1, ['a']),
    (1, '7', '12', 1, ['d', 'e']), (1, '0', '6', 1, ['a', 'b', 'c']), (0, None, None, 1, ['a', 'b', 'c', 'd', 'e',
                                                                                          'behind'])])
def test_marks_of_a_missing_file_keep_their_times_and_fall_behind_it(
        tmp_path: Path, missing: int, start: Any, stop: Any, every: int, expected: List[str]) -> None:
    made = make(tmp_path / 'a.tif', fates_of(13, {5: 'stall'}), MARKED, split=4)         # 0-3, 4-8, 9-12
    files = [made.path, tmp_path / 'a_001.tif', tmp_path / 'a_002.tif']
    files[missing].unlink()
    with open_recording(files[2]) as original:
        export_cut(original, tmp_path / 'c.tif', start=start, stop=stop, every=every)
    report = sound(tmp_path / 'c.tif')
    times = {label: time_of(at) for at, label in MARKED}
    with open_recording(tmp_path / 'c.tif') as cut:
        assert [mark['label'] for mark in cut.marks] == expected
        assert [mark['time_ns'] for mark in cut.marks] == [times[label] for label in expected]
        if (missing, start, stop, every) == (1, None, None, 1):
            assert [mark['index'] for mark in cut.marks] == [1, 9, 9, 9, 10, None]
            assert [(loss.index, loss.count, loss.reason) for loss in report.losses] == [
                (4, 1, 'source broke off'), (5, 1, 'stall'), (6, 3, 'source broke off')]
            assert report.losses[1].detail == 'detail of 5' and 'missing when it was cut' in report.losses[2].detail


def test_a_damaged_mark_before_a_cut_is_not_taken_for_one_behind_it(tmp_path: Path) -> None:
    made = make(tmp_path / 'a.tif', fates_of(9, {}), ((1, 'a'), (6, 'b'), (9, 'behind')))
    data = bytearray(made.path.read_bytes())
    data[data.index(b'"label"')] ^= 255                  # the first one is page 1's
    made.path.write_bytes(data)
    with open_recording(made.path) as original:
        assert [mark['label'] for mark in original.marks] == ['b', 'a', 'behind']
        export_cut(original, tmp_path / 'c.tif', start='4')
    sound(tmp_path / 'c.tif')
    with open_recording(tmp_path / 'c.tif') as cut:
        assert [mark['label'] for mark in cut.marks] == ['b', 'behind']
