"""Repair finds every whole page, whatever happened to the rest, and what it makes agrees with itself."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import random
import re
import signal
import struct
import subprocess
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
import pytest
import tifffile
from repair_kit import (
    ABOUT,
    HEIGHT,
    LOST,
    PAGES,
    TIME,
    WIDTH,
    Span,
    assert_sound,
    cut_off,
    hurt,
    indices,
    repaired,
    spans,
    write,
)
from typer.testing import CliRunner

from ProcessedPiRecorder.cli.app import app
from ProcessedPiRecorder.errors import RecordingFileError, RecordingFormatError, SettingsError
from ProcessedPiRecorder.recordings.page import PageRecord
from ProcessedPiRecorder.recordings.part import part_path
from ProcessedPiRecorder.recordings.reader import RecordingFile
from ProcessedPiRecorder.recordings.repair import finish_cut_off, repair, session
from ProcessedPiRecorder.recordings.repair.beside import Copy
from ProcessedPiRecorder.recordings.results import ResultsFile, read_results, results_path
from ProcessedPiRecorder.recordings.sink import PageJob, PageSink
from ProcessedPiRecorder.recordings.space import Room
from ProcessedPiRecorder.recordings.tally import Tally
from ProcessedPiRecorder.recordings.verification import verify
from ProcessedPiRecorder.report import Loss, Report
from tests.faults.mutants import Mutant, make_bases

both = pytest.mark.parametrize('in_place', [False, True], ids=['beside', 'in place'])


# ---------------------------------------------------------------------- cut off


@both
@pytest.mark.parametrize('keep', [None, 11, 1, 0])
def test_a_recording_that_was_cut_off_is_finished(tmp_path: Path, in_place: bool, keep: Optional[int]) -> None:
    path = tmp_path / 'a.tif'
    write(path)
    cut_off(path, keep)
    result = repaired(path, in_place)
    linked = PAGES if keep is None else keep
    assert (result.pages_found, result.pages_linked_before, result.pages_recovered_behind) == \
        (PAGES, linked, PAGES - linked)
    assert result.torn_bytes == 100 and result.all_recovered and result.preface
    report = assert_sound(result.files[0], indices(PAGES))
    assert report.complete == 'no' and report.stopped == 'cut off'
    assert report.losses == [Loss(5, 2, TIME + 4 * 10**7, 'camera gap'), Loss(17, 1, TIME + 16 * 10**7, 'camera gap')]
    assert any('cut off after frame 32 at 2001-09-09T01:46:40.320Z' in reason for reason in report.reasons)
    assert [mark['label'] for mark in report.marks] == ['light'] * 3
    with RecordingFile(result.files[0]) as recording:
        assert recording.about == ABOUT
    assert repair(result.files[0]).healthy


@both
def test_a_recording_that_was_renamed_meanwhile(tmp_path: Path, in_place: bool) -> None:
    path = tmp_path / 'a.tif'
    write(path, split_frames=11)
    cut_off(part_path(path, 2), 2)
    other = tmp_path / 'crashed.tif'
    for number in range(3):
        part_path(path, number).rename(part_path(other, number))
    result = repaired(other, in_place)
    assert_sound(result.files[0], indices(PAGES))
    if in_place:
        assert result.report is not None and result.report.files == ['a.tif', 'a_001.tif', 'a_002.tif']
    assert repair(result.files[0]).healthy


@both
@pytest.mark.parametrize('base', ['alike', 'gray', 'one page'])
def test_a_first_page_whose_link_is_cut(tmp_path: Path, in_place: bool, base: str) -> None:
    """No preface tells the shape of these: it is in the IFD, of which only the link is not whole."""
    whole = next(found for found in make_bases(tmp_path / 'bases') if found.name == base)
    first = next(iter(whole.pages.values()))
    end = first.start + len(first.strip_and_text) + len(first.ifd) + 8
    for cut in range(1, 9):
        place = tmp_path / str(cut)
        mutant = Mutant(whole)
        del mutant.files[whole.first][end - cut:]
        mutant.write(place)
        found = repair(place / whole.first, out=None if in_place else place / 'out.tif', in_place=in_place)
        assert found.pages_found == 1 and verify(found.files[0], threads=1).ok


@both
@pytest.mark.parametrize('level', [0, 6])
def test_a_gray_recording_in_several_files(tmp_path: Path, in_place: bool, level: int) -> None:
    path = tmp_path / 'a.tif'
    files = write(path, channels=1, split_frames=11, level=level)
    cut_off(files[-1], 3)
    result = repaired(files[1], in_place)
    assert len(result.files) == 3
    assert_sound(result.files[0], indices(PAGES), 1)
    if in_place:
        assert result.files == files
    else:
        assert [file.name for file in result.files] == ['a_repaired.tif', 'a_repaired_001.tif', 'a_repaired_002.tif']


def test_a_recording_that_only_lacked_the_switch_is_complete(tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    write(path, lost=())
    whole = path.read_bytes()
    hurt(path, 8, 16, struct.pack('<Q', spans(path)[0].ifd))
    result = repaired(path, in_place=True)
    report = assert_sound(path, range(PAGES))
    assert report.complete == 'yes' and report.stopped == 'rec_length' and result.all_recovered
    assert path.read_bytes()[:spans(path)[-1].end][16:] == whole[:spans(path)[-1].end][16:]


def test_what_is_whole_keeps_its_bytes_where_it_stands(tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    write(path)
    whole = path.read_bytes()
    pages = cut_off(path, 4)
    repair(path, in_place=True)
    assert path.read_bytes()[16:pages[-1].end] == whole[16:pages[-1].end]


def test_many_pages_with_index_blocks_between(tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    write(path, 4200, channels=1, lost=())
    pages = cut_off(path, 4000)
    hurt(path, pages[4095].end + 500, pages[4095].end + 900)         # in the index block, too
    for in_place in (False, True):
        result = repaired(path, in_place)
        assert result.pages_found == 4200 and result.all_recovered
        assert verify(result.files[0], threads=1).ok


# ---------------------------------------------------------------------- holes


def holes(pages: List[Span]) -> Dict[str, Tuple[int, int, List[int]]]:
    """start, end, and the places of the pages that it costs."""
    page, last = pages[9], pages[-1]
    return {
        'header': (0, 16, []), 'header magic': (0, 4, []), 'preface': (16, 60, []),
        'beginning': (0, pages[0].strip, []),
        'strip': (page.strip + 3, page.strip + 9, [9]), 'text': (page.text + 20, page.text + 22, [9]),
        'text begins': (page.text, page.text + 8, [9]), 'seal': (page.ifd - 12, page.ifd - 8, [9]),
        'ifd': (page.ifd, page.end, []), 'tags': (page.ifd, page.ifd + 8, []), 'link': (page.end - 8, page.end, []),
        'first page': (pages[0].strip, pages[0].end, [0]), 'last page': (last.strip, last.end, [len(pages) - 1]),
        'three pages': (pages[7].text, pages[9].text + 9, [7, 8, 9]),
        'two ifds': (page.ifd, pages[10].strip, []), 'behind a loss': (pages[5].strip, pages[5].end, [5])}


@both
@pytest.mark.parametrize('finished', [False, True], ids=['cut off', 'finished'])
@pytest.mark.parametrize('hole', list(holes([Span(0, 0, 0, 0, 0)] * 11)))
def test_holes_cost_only_the_pages_that_they_hit(tmp_path: Path, in_place: bool, finished: bool, hole: str) -> None:
    path = tmp_path / 'a.tif'
    write(path)
    pages = spans(path) if finished else cut_off(path, 25)
    start, end, lost = holes(pages)[hole]
    hurt(path, start, end, random.Random(hole).randbytes(end - start) if len(hole) % 2 else None)
    result = repaired(path, in_place)
    kept = [index for number, index in enumerate(indices(PAGES)) if number not in lost]
    report = assert_sound(result.files[0], kept)
    assert result.pages_found == len(kept)
    if finished:
        destroyed = sum(loss.count for loss in report.losses if loss.reason == 'damaged')
        assert destroyed == len(lost) and result.pages_damaged == len(lost)
        assert [loss for loss in report.losses if loss.reason == 'camera gap'][0].count == 2
        assert report.complete == 'no'
        assert report.captured + report.lost == PAGES + len(LOST)
    assert result.all_recovered == (not result.pages_damaged and result.preface and not result.gaps)


@both
def test_the_end_of_a_finished_file_is_made_anew(tmp_path: Path, in_place: bool) -> None:
    path = tmp_path / 'a.tif'
    write(path)
    end, size = spans(path)[-1].end, path.stat().st_size
    whole = path.read_bytes()
    places = {'index': end + 100, 'xml': whole.index(b'<OME') + 50, 'report': whole.index(b'"complete"') + 3,
              'new ifd': size - 100, 'padding': size - 338}
    for place, at in places.items():
        folder = tmp_path / place
        folder.mkdir()
        path = folder / 'a.tif'
        path.write_bytes(whole)
        hurt(path, at, at + 1, bytes([whole[at] ^ 255]))
        result = repaired(path, in_place)
        assert not result.healthy, place
        report = assert_sound(result.files[0], indices(PAGES))
        assert report.complete == 'no' and result.all_recovered, place


def test_truncation_anywhere(tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    write(path)
    whole, pages = path.read_bytes(), spans(path)
    for length in random.Random(1).sample(range(len(whole)), 40) + [0, 1, 15, 16, 17, len(whole) - 1]:
        folder = tmp_path / str(length)
        folder.mkdir()
        cut = folder / 'a.tif'
        cut.write_bytes(whole[:length])
        expected = [page.index for page in pages if page.end <= length]
        if not expected:
            with pytest.raises(RecordingFormatError, match='holds no whole page|checksum fits'):
                repair(cut)
            continue
        result = repair(cut)
        with RecordingFile(result.files[0]) as recording:
            found = [recording.page_record(page).index for page in range(recording.pages)]
        assert found[:len(expected)] == expected and len(found) <= len(expected) + 1
        assert_sound(result.files[0], found)


def test_no_ifd_and_no_header_is_left(tmp_path: Path) -> None:
    """The strips begin where the page before ends; the preface tells their size."""
    for level in (0, 6):
        path = tmp_path / f'a{level}.tif'
        write(path, level=level)
        pages = cut_off(path)
        hurt(path, 0, 16)
        for page in pages:
            hurt(path, page.ifd, page.end)
        result = repair(path)
        assert_sound(result.files[0], indices(PAGES))
        assert result.pages_linked_before == 0


def test_a_strip_is_found_by_the_index_alone(tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    write(path)
    pages = spans(path)
    hurt(path, pages[8].text, pages[9].strip)              # page 8 is gone, and where page 9 begins
    hurt(path, pages[9].ifd, pages[9].end)                 # and so is its IFD
    assert_sound(repair(path).files[0], [index for number, index in enumerate(indices(PAGES)) if number != 8])


# ---------------------------------------------------------------------- files, moved pages, foreign pages


def test_a_part_that_is_gone(tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    files = write(path, split_frames=10)
    files[1].unlink()
    with pytest.raises(RecordingFileError, match='files of this recording are missing'):
        repair(path, in_place=True)
    result = repair(path)
    assert [file.name for file in result.files] == ['a_repaired.tif', 'a_repaired_001.tif']
    report = assert_sound(result.files[0], indices(PAGES)[:10] + indices(PAGES)[20:])
    assert report.complete == 'no' and 'damaged' in {loss.reason for loss in report.losses}


def test_files_whose_names_were_exchanged(tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    files = write(path, split_frames=8)
    os.rename(files[1], tmp_path / 'c.tif')
    os.rename(files[2], files[1])
    os.rename(tmp_path / 'c.tif', files[2])
    with pytest.raises(RecordingFileError, match='cannot be repaired where it stands'):
        repair(path, in_place=True)
    result = repair(path, out=tmp_path / 'b.tif')
    assert result.pages_found == PAGES and result.all_recovered and not result.file_notes
    assert_sound(tmp_path / 'b.tif', indices(PAGES))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    files = write(path, split_frames=8)
    files[1].unlink()
    code, out = ppr('repair', path)
    assert code == 1 and 'missing of this recording: a_001.tif; bring back what is missing' in out, out


@pytest.mark.parametrize('command', ['info', 'verify', 'repair'])
def test_a_file_that_may_not_be_read_is_no_bad_usage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                     command: str) -> None:
    path, really = tmp_path / 'a.tif', os.open
    write(path)

    def refuse(name: Any, *arguments: Any, **options: Any) -> int:
        if name == path:
            raise PermissionError(errno.EACCES, 'Permission denied', str(name))
        return really(name, *arguments, **options)

    monkeypatch.setattr(os, 'access', lambda *arguments, **options: False)
    monkeypatch.setattr(os, 'open', refuse)
    code, out = ppr(command, path)
    assert code == 3 and 'ask its owner for the right to read it' in out, out


def test_info_of_a_file_of_several(tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    files = write(path, split_frames=8)
    for number, words in ((0, 'This is file 1 of'), (2, 'This is file 3 of')):
        code, out = ppr('info', files[number])
        assert code == 0 and words in out and f'ppr info {files[-1]}' in out, out
    assert 'file 4 of a recording in several files, the last one' in ppr('info', files[3])[1]
    write(tmp_path / 'whole.tif')
    assert 'several files' not in ppr('info', tmp_path / 'whole.tif')[1]


@both
def test_a_part_without_pages(tmp_path: Path, in_place: bool) -> None:
    path = tmp_path / 'a.tif'
    files = write(path, split_frames=10)
    files[2].write_bytes(files[2].read_bytes()[:200])
    result = repair(path, in_place=in_place)
    report = assert_sound(result.files[0], indices(PAGES)[:20])
    assert report.stopped == 'cut off' and len(result.files) == 2
    assert any('holds no whole page' in note for note in result.notes)


def test_a_part_of_an_older_recording_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    write(path, split_frames=10)
    older = (tmp_path / 'a_002.tif').read_bytes()
    for file in tmp_path.iterdir():
        file.unlink()
    write(path, 40, split_frames=20, lost=())
    (tmp_path / 'a_002.tif').write_bytes(older)
    cut_off(tmp_path / 'a_001.tif')
    result = repair(path)
    assert any('another recording' in note for note in result.notes)
    assert_sound(result.files[0], range(40))


def test_pages_of_another_recording_are_not_mixed_in(tmp_path: Path) -> None:
    path, other = tmp_path / 'a.tif', tmp_path / 'other.tif'
    write(path, lost=())
    write(other, 50, lost=(0,))
    pages = cut_off(path, extra=0)
    path.write_bytes(path.read_bytes() + bytes(-pages[-1].end % 8) + other.read_bytes()[16:])
    result = repair(path)
    assert_sound(result.files[0], range(PAGES))
    assert result.pages_left_out >= 49


def test_pages_behind_a_range_that_was_cut_out(tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    write(path)
    pages = spans(path)
    data = path.read_bytes()
    path.write_bytes(data[:pages[4].strip + 8] + data[pages[7].strip + 16:])
    assert_sound(repair(path).files[0], [page.index for number, page in enumerate(pages) if not 4 <= number <= 7])


def test_pictures_of_pages_are_pixels(tmp_path: Path) -> None:
    """An uncompressed frame may hold anything, a whole page of a recording included."""
    path = tmp_path / 'a.tif'
    text = b'{"ppr":1,"page":5,"index":5,"time_ns":5,"sensor_ns":null,"host_ns":1,"status":"raw","effort":"none"'
    image = np.zeros((HEIGHT, WIDTH), np.uint8)
    image.reshape(-1)[8:8 + len(text) + 20] = list(text + b',"crc32":"00000000"}')
    sink = PageSink(path, height=HEIGHT, width=WIDTH, pixel_format='gray', level=0, waits=True,
                    on_written=lambda jobs: None, on_error=lambda error: None, about=ABOUT)
    for index in range(5):
        sink.submit(PageJob(image, PageRecord(index, TIME + index)))
    sink.finish(lambda info: {})
    cut_off(path, 2)
    result = repair(path)
    assert result.pages_found == 5 and verify(result.files[0], threads=1).ok


def test_hostile_texts_do_not_take_for_ever(tmp_path: Path) -> None:
    """Thousands of texts that might each belong to megabytes of pixels: the work is bounded."""
    path = tmp_path / 'a.tif'
    write(path, 3)
    cut_off(path)
    with open(path, 'ab') as file:
        file.write(bytes(20_000_000))
        for _ in range(20_000):
            file.write(b'{"ppr":1,"page":1,"index":1,"crc32":"00000000"}\0')
        file.write(b'{"ppr":1,"page":' * 200_000)
    assert repair(path).pages_found == 3


# ---------------------------------------------------------------------- what is refused, and room


def test_what_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, foreign = tmp_path / 'a.tif', tmp_path / 'foreign.tif'
    tifffile.imwrite(foreign, np.zeros((3, 4, 5), np.uint8), photometric='minisblack', bigtiff=True)
    for what in (foreign, tmp_path):
        with pytest.raises(RecordingFileError):
            repair(what)
    with pytest.raises(RecordingFileError, match='check the path'):
        repair(tmp_path / 'none.tif')
    write(path)
    with pytest.raises(SettingsError):
        repair(path, out=tmp_path / 'b.tif', in_place=True)
    cut_off(path, 3)
    before = path.read_bytes()
    with open(path, 'rb') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(RecordingFileError, match='at this moment'):
            repair(path, in_place=True)
    with pytest.raises(RecordingFileError, match='exists already; choose another name, or remove it$'):
        repair(path, out=foreign)
    with pytest.raises(RecordingFileError, match='exists already.*perhaps a repair was killed'):
        repair(path, out=path)
    monkeypatch.setattr(session, 'room_at', lambda place: Room(1000, 10**9))
    for in_place in (False, True):
        with pytest.raises(RecordingFileError, match='make room.*Nothing was changed'):
            repair(path, in_place=in_place)
    assert path.read_bytes() == before and sorted(os.listdir(tmp_path)) == ['a.tif', 'foreign.tif']


def test_a_disk_that_fills_while_repairing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / 'a.tif'
    write(path)
    pages = cut_off(path, 3)
    real = os.pwritev

    def full(fd: int, buffers: Any, offset: int) -> int:
        if offset >= pages[-1].end:
            raise OSError(28, 'No space left on device')
        return real(fd, buffers, offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, 'pwritev', full)
        for in_place in (False, True):
            with pytest.raises(RecordingFileError, match='make room'):
                repair(path, in_place=in_place)
            assert os.listdir(tmp_path) == ['a.tif']
    with RecordingFile(path) as recording:
        assert recording.pages == PAGES and not recording.finished       # better than before
    assert repair(path, in_place=True).pages_found == PAGES


# ---------------------------------------------------------------------- results, and the finisher's way in


@both
def test_results_keep_their_whole_lines(tmp_path: Path, in_place: bool) -> None:
    path = tmp_path / 'a.tif'
    write(path, lost=())
    with ResultsFile(results_path(path)) as results:
        for index in (0, 8, 9, 29, 30, 31):
            results.add(index, TIME + index * 10**7, {'x': index})
    with open(results_path(path), 'ab') as file:
        file.write(b'{"index": 32, "time')
    pages = cut_off(path)
    hurt(path, pages[9].strip, pages[9].text)
    result = repair(path, in_place=in_place)
    report = assert_sound(result.files[0], [index for index in range(PAGES) if index != 9])
    stored = results_path(result.files[0])
    assert [index for index, _, _ in read_results(stored)] == [0, 8, 9, 29, 30, 31]
    assert stored.read_bytes().endswith(b'\n') and report.results == 6
    assert report.captured - report.written == 2          # the callback had seen 30 and 31


def test_finish_cut_off_takes_the_description_of_its_caller(tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    files = write(path, split_frames=12)
    cut_off(files[-1], 2)
    told: List[Any] = []

    def describe(tally: Tally, names: List[str]) -> Dict[str, Any]:
        told.append((tally.captured, tally.lost, names))
        return {'report': Report('no', ['the writer died'], captured=tally.captured).as_dict(), **ABOUT}

    result = finish_cut_off(path, describe=describe)
    assert told == [(PAGES, len(LOST), ['a.tif', 'a_001.tif', 'a_002.tif'])] and result.files == files
    with RecordingFile(files[-1]) as recording:
        assert recording.finished and recording.annotations['report']['reasons'] == ['the writer died']


def test_a_description_that_fails_does_not_cost_the_recording(tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    write(path)
    cut_off(path, 2)

    def describe(tally: Tally, names: List[str]) -> Dict[str, Any]:
        raise ValueError('on purpose')

    with pytest.raises(ValueError, match='on purpose'):
        finish_cut_off(path, describe=describe)
    assert_sound(path, indices(PAGES))


# ---------------------------------------------------------------------- the command


def ppr(*arguments: Any) -> Tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, re.sub(r'\s+', ' ', result.output)


def test_the_command(tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    write(path)
    code, out = ppr('repair', path)
    assert code == 0 and 'NOTHING TO DO' in out
    pages = cut_off(path, 20)
    code, out = ppr('info', path)
    assert code == 0 and 'UNFINISHED' in out and 'ppr repair' in out and 'M12' in out
    facts = json.loads(CliRunner().invoke(app, ['info', '--json', str(path)]).output)
    assert facts['metadata'] == {'animal': 'M12'} and facts['settings'] and not facts['finished']
    with tifffile.TiffFile(path) as tif:
        assert len(tif.pages) == 20
    code, out = ppr('repair', path)
    assert code == 0 and 'REPAIRED 30 pages' in out and '10 pages that no reader got to' in out, out
    assert 'settings, metadata and camera' in out and 'cut off after frame 32' in out
    hurt(path, pages[4].strip, pages[4].end)
    code, out = ppr('repair', path, '--output', tmp_path / 'b.tif')
    assert code == 1 and 'NOT ALL OF IT' in out and 'damaged' in out
    assert ppr('repair', path, '--output', tmp_path / 'c.tif', '--in-place')[0] == 2
    assert ppr('repair', path)[0] == 3                                   # a_repaired.tif is there
    for output in ('.', '..', tmp_path, tmp_path / 'b.txt', 'a.png'):
        code, out = ppr('repair', path, '--output', output)
        assert code == 2 and 'name a file, such as a_repaired.tif' in out, out
    code, out = ppr('repair', path, '--in-place', '--json')
    assert code == 1 and json.loads(out)['pages_found'] == 29
    assert_sound(path, [index for number, index in enumerate(indices(PAGES)) if number != 4])


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize('in_place', [False, True])
def test_an_interrupted_repair_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_place: bool,
                                                     number: signal.Signals) -> None:
    path = tmp_path / 'a.tif'
    write(path)
    pages = cut_off(path, 20)
    hurt(path, pages[4].strip, pages[4].end)          # so that it is written anew in place, too
    before = path.read_bytes()
    copy_page, copied = Copy._copy_page, []

    def copy_and_interrupt(copy: Copy, *arguments: Any) -> None:
        copy_page(copy, *arguments)
        copied.append(1)
        if len(copied) == 7:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(Copy, '_copy_page', copy_and_interrupt)
    code, out = ppr('repair', path, *(['--in-place'] if in_place else []))
    assert code == 130 and 'interrupted; the recording' in out and len(copied) == 7, out
    assert path.read_bytes() == before and os.listdir(tmp_path) == ['a.tif']


def test_what_a_killed_repair_left_beside_is_removed_unless_it_is_being_written(tmp_path: Path) -> None:
    with subprocess.Popen(['true']) as dead:
        pass
    names = (f'.ppr-repair-{dead.pid}-1.tif', f'.ppr-repair-{dead.pid}-2.tif', f'.ppr-repair-{os.getpid()}-3.tif')
    path, (left, busy, living) = tmp_path / 'a.tif', [tmp_path / name for name in names]
    write(path)
    pages = cut_off(path, 20)
    hurt(path, pages[4].strip, pages[4].end)
    left.write_bytes(b'II')
    busy.write_bytes(b'II')
    living.write_bytes(b'II')
    with open(busy, 'rb') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        repair(path, in_place=True)
    assert sorted(os.listdir(tmp_path)) == sorted([busy.name, living.name, 'a.tif'])


def test_progress_is_told(tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    write(path)
    cut_off(path, 20)
    told: List[Tuple[int, int]] = []
    repair(path, progress=lambda done, total: told.append((done, total)))
    assert told and all(0 <= done <= total for done, total in told)
