"""After a failure: what is said to be in the files, and what is left beside them."""

from __future__ import annotations

import errno
import struct
import time
from array import array
from pathlib import Path
from typing import Any, List

import pytest
import repair_kit
from repair_kit import ABOUT, HEIGHT, PAGES, TIME, WIDTH, assert_sound, cut_off, indices, picture, repair, write

from ProcessedPiRecorder.errors import RecordingFileError
from ProcessedPiRecorder.recordings.bigtiff import BigTiffAppender, PageLayout, file_error
from ProcessedPiRecorder.recordings.page import PageRecord
from ProcessedPiRecorder.recordings.part import RecordingPart, part_path
from ProcessedPiRecorder.recordings.preface import HEAD_SIZE, head_length
from ProcessedPiRecorder.recordings.repair import haystack, remains, session
from ProcessedPiRecorder.recordings.repair.remains import XML_BEGINS
from ProcessedPiRecorder.recordings.repair.state import examine
from ProcessedPiRecorder.recordings.salvage import finished_report, readable, remove_older_parts
from ProcessedPiRecorder.recordings.sink import PageJob, PageSink
from ProcessedPiRecorder.recordings.verification import stored_results, verify
from ProcessedPiRecorder.report import Loss, Report, summed_up

SPLIT = 7


def break_third_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not one page can be written into part 2."""
    append = RecordingPart.append

    def fail(self: RecordingPart, pages: Any) -> None:
        if self.number == 2:
            raise file_error(self.path, 'cannot be written', OSError(errno.EIO, 'on purpose'))
        append(self, pages)

    monkeypatch.setattr(RecordingPart, 'append', fail)


def names(folder: Path) -> List[str]:
    return sorted(path.name for path in folder.iterdir())


def test_another_recording_that_merely_has_such_a_name_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    write(path, 5)
    write(tmp_path / 'a_001.tif', 6)
    assert readable(path) == (5, [str(path)])
    write(path, 12, split_frames=6, overwrite=True)
    assert readable(path) == (12, [str(path), str(tmp_path / 'a_001.tif')])


def test_parts_of_an_older_recording_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    write(path, 20, split_frames=5)
    write(tmp_path / 'b.tif', 12)
    (tmp_path / 'b.tif').replace(path)                 # reaches further than the older part 1
    assert readable(path) == (12, [str(path)])
    part_path(path, 1).unlink()
    assert readable(path) == (12, [str(path)])         # parts 2 and 3 cannot follow


def test_a_part_whose_first_page_fails_leaves_the_one_before_as_the_end(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / 'a.tif'
    break_third_part(monkeypatch)
    with pytest.raises(RecordingFileError, match='on purpose'):
        write(path, 20, split_frames=SPLIT)
    assert names(tmp_path) == ['a.tif', 'a_001.tif'] and readable(path)[0] == 2 * SPLIT
    stored = finished_report(path)
    assert stored is not None and stored.files == [str(path), str(tmp_path / 'a_001.tif')]
    sizes = [file.stat().st_size for file in (path, tmp_path / 'a_001.tif')]
    assert sizes[0] < stored.file_bytes < sum(sizes)
    assert verify(path, threads=1).finished and repair(path).healthy


def test_an_overwritten_longer_recording_is_gone_also_when_the_new_one_fails(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / 'a.tif'
    write(path, 30, split_frames=5)
    assert len(names(tmp_path)) == 6
    break_third_part(monkeypatch)
    with pytest.raises(RecordingFileError):
        write(path, 20, split_frames=SPLIT, overwrite=True)
    assert names(tmp_path) == ['a.tif', 'a_001.tif'] and readable(path)[0] == 2 * SPLIT


def test_an_older_part_that_cannot_be_removed_is_told_and_costs_nothing(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / 'a.tif'
    write(path, 10, split_frames=5)

    def refuse(path: Path) -> None:
        raise RecordingFileError(f'{path} cannot be removed: on purpose')

    monkeypatch.setattr('ProcessedPiRecorder.recordings.salvage.remove', refuse)
    remove_older_parts(path, 1)
    assert 'a_001.tif cannot be removed' in caplog.text and names(tmp_path) == ['a.tif', 'a_001.tif']


def test_a_file_that_is_being_recorded_is_not_overwritten_by_a_part(tmp_path: Path) -> None:
    path, other = tmp_path / 'a.tif', tmp_path / 'a_001.tif'
    growing = BigTiffAppender(other, PageLayout(HEIGHT, WIDTH, 3, compressed=True))
    try:
        with pytest.raises(RecordingFileError, match='is being recorded at this moment'):
            write(path, 20, split_frames=SPLIT, overwrite=True)
        assert other.exists() and readable(path)[0] == SPLIT
    finally:
        growing.close()


def test_a_part_with_nothing_but_its_preface_is_removed(tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    write(path, 14, split_frames=SPLIT)
    last = part_path(path, 1)
    data = last.read_bytes()
    length = head_length(data[16:16 + HEAD_SIZE])
    last.write_bytes(data[:8] + bytes(8) + data[16:16 + length + -length % 8])
    repair(path, in_place=True)
    assert names(tmp_path) == ['a.tif']
    assert_sound(path, indices(14)[:SPLIT])


def test_progress_is_told_where_page_follows_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has to be searched for there; but whoever waits takes silence for a standstill."""
    path = tmp_path / 'a.tif'
    write(path)
    cut_off(path, PAGES, extra=0)
    monkeypatch.setattr(haystack, 'WINDOW', 4096)
    told: List[int] = []
    size = examine(path, lambda done, total: told.append(done)).size
    assert told == sorted(told) and len(told) > size // 4096 // 3


@pytest.mark.parametrize('piece', [
    XML_BEGINS, struct.pack('<8sIIQQQII', b'PPRINDEX', 1, 64, 0, 4096, 0, 1, 0)], ids=['xml', 'index'])
def test_what_begins_again_and_again_is_not_searched_to_the_end_each_time(
        tmp_path: Path, piece: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The work is in proportion to the file: counted in bytes that are searched or summed up."""
    path = tmp_path / 'a.tif'
    write(path, 3)
    path.write_bytes(path.read_bytes() + piece * ((1 << 20) // len(piece)))
    work = [0]
    find, parse = haystack.Haystack.find, remains.parse_block

    def count_find(self: Any, needle: bytes, start: int, end: int) -> int:
        at = find(self, needle, start, end)
        work[0] += (at if at >= 0 else min(end, self.size)) - start
        return at

    def count_parse(data: bytes, header: Any) -> Any:
        work[0] += len(data)
        return parse(data, header)

    monkeypatch.setattr(haystack.Haystack, 'find', count_find)
    monkeypatch.setattr(remains, 'parse_block', count_parse)
    monkeypatch.setattr(remains, 'LEAST_BUDGET', 1 << 20)
    assert examine(path).found == 3
    assert work[0] < 20 * path.stat().st_size


def write_with_many_losses(path: Path, pages: int, places: int) -> None:
    """Before each page but the first, single frames were lost for reasons that change each time."""
    sink = PageSink(path, height=HEIGHT, width=WIDTH, pixel_format='bgr', level=1, waits=True, about=ABOUT,
                    on_written=lambda jobs: None, on_error=lambda error: None)
    index = 0
    for number in range(pages):
        lost = [{'index': index + place, 'count': 1, 'time_ns': TIME + index - 1,
                 'reason': ('camera gap', 'stall')[place % 2]} for place in range(places if number else 0)]
        index += len(lost)
        sink.submit(PageJob(picture(number), PageRecord(index, TIME + index, host_ns=index, lost=tuple(lost))))
        index += 1
    sink.finish(lambda info: {})


@pytest.mark.parametrize('pages, kept', [(11, 10_000), (13, 10_000), (3, 2_000)])
def test_a_repaired_recordings_report_sums_up_losses_at_countless_places(tmp_path: Path, pages: int, kept: int) -> None:
    path = tmp_path / 'a.tif'
    write_with_many_losses(path, pages, 1000)
    cut_off(path, 2)
    report = repair(path, in_place=True).report
    assert report is not None and len(report.losses) == kept
    assert report.lost == sum(loss.count for loss in report.losses) == (pages - 1) * 1000
    found = verify(path, threads=1)
    assert found.ok, found.findings[:3]


def test_frames_that_were_destroyed_at_many_places_are_looked_up_quickly() -> None:
    losses = [Loss(10 * number, 5, None, 'damaged') for number in range(9_000)]
    frames = stored_results._Frames(array('q', [3]), array('q', [7]), Report('no', losses=losses), False)
    begun = time.thread_time()
    assert [index for index in range(10_000) if frames.may_have_been(index) != (index % 10 < 5)] == []
    assert time.thread_time() - begun < 1          # one after the other took seconds
    assert not frames.may_have_been(90_000) and not frames.may_have_been(-1)
    frames = stored_results._Frames(array('q', [3]), array('q', [7]), Report(
        'no', losses=summed_up([*losses, *losses])), False)
    assert frames.may_have_been(90_000)            # nobody knows any more


def leave_unfinished(self: PageSink, describe: Any) -> List[Path]:
    """As a process that dies."""
    self._end_threads()
    self._part.close()
    return []


@pytest.mark.parametrize('in_place', [False, True], ids=['beside', 'in place'])
def test_older_parts_of_a_clock_that_was_ahead_are_not_mixed_in(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_place: bool) -> None:
    """A Pi without a battery: after a power cut its clock is behind that of the recording before."""
    path = tmp_path / 'a.tif'
    monkeypatch.setattr(repair_kit, 'TIME', TIME + 3600 * 10**9)
    write(path, 30, split_frames=5, lost=())
    monkeypatch.undo()
    monkeypatch.setattr(PageSink, 'finish', leave_unfinished)
    write(path, 12, split_frames=5, lost=(), overwrite=True)
    monkeypatch.undo()
    assert 10 <= readable(path)[0] <= 12               # the last ones may not have been linked yet
    result = repair(path, in_place=in_place)
    assert len(result.files) == 3 and result.pages_found == 12
    assert sum('belongs to another recording' in note for note in result.notes) == 3
    if not in_place:
        assert_sound(result.files[0], range(12))
        part_path(result.files[0], 2).replace(part_path(path, 2))
        part_path(path, 3).replace(part_path(result.files[0], 2))
        texts = [finding.text for finding in verify(result.files[0], threads=1).findings if finding.kind == 'parts']
        assert 'it belongs to another recording than the files before it' in texts


def test_progress_goes_on_while_the_pages_of_a_file_are_counted(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / 'a.tif'
    write(path)
    cut_off(path, PAGES)
    size = path.stat().st_size
    monkeypatch.setattr(session, 'PAGES_A_WORD', 4)
    told: List[int] = []
    repair(path, in_place=True, progress=lambda done, total: told.append(done))
    assert len([done for done in told if done > size]) == PAGES // 4 and told == sorted(told)
