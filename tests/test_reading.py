"""open_recording: an array of frames that are the ones recorded, and everything that is known of them."""

from __future__ import annotations

import gc
import os
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Tuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recording_tools import HEIGHT, WIDTH, paced, recorder, truth, wait_until
from repair_kit import LOST, PAGES, TIME, cut_off, hurt, indices, picture, spans, write

import ProcessedPiRecorder
from ProcessedPiRecorder import Frame, Recording, left, open_recording, right
from ProcessedPiRecorder.errors import RecorderStateError, RecordingFileError, RecordingFormatError, TooLargeError
from ProcessedPiRecorder.reading import readahead, sources
from ProcessedPiRecorder.recordings.decoder import decode_strip
from ProcessedPiRecorder.recordings.encoder import PageEncoder
from ProcessedPiRecorder.recordings.part import part_path
from ProcessedPiRecorder.recordings.results import encode_line, results_path
from ProcessedPiRecorder.report import Loss, Report

MS = 10**6


def whole(channels: int = 3, pages: int = PAGES) -> np.ndarray:
    """What write() records, as an array."""
    return np.stack([picture(index, channels) for index in indices(pages)])


def reading_threads() -> List[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith('ppr-read')]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write(tmp_path / 'a.tif')
    return tmp_path / 'a.tif'


# ---------------------------------------------------------------- from the recorder

class Recorded(NamedTuple):
    path: Path
    report: Report
    truth: np.ndarray


def put_and_return(buffer: Any, cb_queue: Any) -> Any:
    frame = buffer[-1]
    if frame.index % 2 == 0:
        cb_queue.put({'at': frame.index})
    if frame.index % 5 == 0:
        cb_queue.put('five')
    return 255 - frame if frame.index % 3 == 0 else None


@pytest.fixture(scope='module')
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    path = tmp_path_factory.mktemp('recorded') / 'trial.tif'
    rec = recorder(path, callback=put_and_return, cb_type='2Proc', stereo=True, metadata={'animal': 'M12'})
    rec.recordVid()
    frame = truth(rec.settings)
    images = np.stack([255 - frame(index) if index % 3 == 0 else frame(index) for index in range(30)])
    assert rec.report is not None
    return Recorded(path, rec.report, images)


def test_a_recording_of_the_recorder_is_what_the_camera_made(recorded: Recorded) -> None:
    with open_recording(recorded.path) as rec:
        assert (rec.shape, rec.dtype, rec.ndim, rec.nbytes) == ((30, HEIGHT, WIDTH, 3), np.uint8, 4,
                                                                recorded.truth.nbytes)
        assert (rec.pixel_format, rec.is_ours, rec.finished, rec.missing_files) == ('bgr', True, True, ())
        assert (rec.path, rec.files, rec.notes) == (recorded.path, (recorded.path,), ())
        np.testing.assert_array_equal(rec[:], recorded.truth)
        np.testing.assert_array_equal(list(rec), recorded.truth)
        assert rec.report is not None and rec.report.complete == 'yes'
        assert (rec.report.written, rec.report.effort, rec.report.started) == (
            30, recorded.report.effort, recorded.report.started)
        assert rec.metadata == {'animal': 'M12'} and rec.settings['stereo'] is True
        assert rec.camera['width'] == WIDTH


def test_each_frame_knows_itself(recorded: Recorded) -> None:
    with open_recording(recorded.path) as rec:
        assert rec.times_ns is not None and rec.indices is not None
        for page, frame in enumerate(rec):
            assert isinstance(frame, Frame)
            assert (frame.index, frame.time_ns) == (rec.indices[page], rec.times_ns[page])
        assert rec[-1].index == 29 and rec[np.int32(4)].time_ns == rec.times_ns[4]


def test_statuses_and_efforts_are_those_of_the_pages(recorded: Recorded) -> None:
    with open_recording(recorded.path) as rec:
        assert rec.status is not None and rec.effort is not None
        assert list(rec.status) == ['raw' if index % 3 else 'returned' for index in range(30)]
        assert [rec.record(page).status for page in range(30)] == list(rec.status)
        assert {str(effort): int(count) for effort, count in zip(*np.unique(rec.effort, return_counts=True))} == {
            effort: count for effort, count in recorded.report.effort.items() if count}


def test_results_belong_to_their_frames(recorded: Recorded) -> None:
    with open_recording(recorded.path) as rec:
        expected = [(index, value) for index in range(30) for value in (
            [{'at': index}] * (index % 2 == 0) + ['five'] * (index % 5 == 0))]
        assert [(result.index, result.result) for result in rec.results] == expected
        assert len(rec.results) == recorded.report.results == len(expected)
        assert all(result.page == result.index and result.time_ns == rec.record(result.page).time_ns
                   for result in rec.results if result.page is not None)
        assert [result.result for result in rec.results_of(10)] == [{'at': 10}, 'five']
        assert rec.results_of(1) == [] and rec.results_of(-2)[0].result == {'at': 28}
        with pytest.raises(IndexError, match='frame 1000 of a recording of 30'):
            rec.results_of(1000)
        assert rec.results[3] == list(rec.results)[3] and rec.results[-2:] == list(rec.results)[-2:]
        assert rec.results is rec.results and rec.results_path == recorded.path.with_suffix('.results.jsonl')


def test_each_eye_is_its_half(recorded: Recorded) -> None:
    with open_recording(recorded.path) as rec:
        np.testing.assert_array_equal(rec.left(10), left(recorded.truth[10]))
        np.testing.assert_array_equal(rec.right(10), right(recorded.truth[10]))
        np.testing.assert_array_equal(rec.left(slice(3, 9, 2)), recorded.truth[3:9:2, :, :WIDTH // 2])
        np.testing.assert_array_equal(rec.right([4, 1]), recorded.truth[[4, 1], :, WIDTH // 2:])
        assert rec.left(10).index == 10


def test_its_repr_says_what_it_is_and_whether_it_is_complete(recorded: Recorded, path: Path) -> None:
    with open_recording(recorded.path) as rec:
        assert repr(rec) == (f'<Recording trial.tif: 30 frames of {WIDTH}×{HEIGHT} bgr, 0.290 s at 100.00 Hz; '
                             'complete: yes>')
    with open_recording(path) as rec:
        assert 'complete: no (3 lost)' in repr(rec)


@pytest.mark.parametrize('channels', [1, 3])
def test_rows_of_any_length_come_back(channels: int) -> None:
    """The decoder adds up rows by doubling, so each length is a case of its own."""
    for width in range(1, 70):
        shape = (3, width) if channels == 1 else (3, width, 3)
        image = np.random.default_rng(width).integers(0, 256, shape, np.uint8)
        strip = b''.join(bytes(piece) for piece in PageEncoder(3, width, channels).encode(image, 'huffman'))
        np.testing.assert_array_equal(decode_strip(strip, 3, width, channels, True, 'bgr'), image)
        np.testing.assert_array_equal(decode_strip(strip, 3, width, channels, True, 'rgb'),
                                      image[..., ::-1] if channels == 3 else image)


# ---------------------------------------------------------------- as numpy would

ONE = st.integers(-PAGES - 3, PAGES + 3)
SLICES = st.slices(PAGES) | st.builds(slice, st.none() | ONE, st.none() | ONE,
                                      st.none() | st.integers(-7, 7).filter(bool))
MANY = st.lists(st.integers(-PAGES, PAGES - 1), max_size=6)
MASKS = st.lists(st.booleans(), min_size=PAGES, max_size=PAGES)
INSIDE = st.slices(12) | st.integers(-12, 11)


@pytest.fixture(scope='module', params=[1, 3], ids=['gray', 'bgr'])
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
           ) -> Iterator[Tuple[Recording, np.ndarray]]:
    path = tmp_path_factory.mktemp('opened') / 'a.tif'
    write(path, channels=request.param, split_frames=13)
    with open_recording(path) as rec:
        yield rec, whole(request.param)


@given(key=ONE | SLICES | MANY | MANY.map(np.array) | MASKS | MASKS.map(np.array) | st.just(Ellipsis))
def test_frames_are_selected_as_numpy_would(key: Any, opened: Tuple[Recording, np.ndarray]) -> None:
    rec, array = opened
    if isinstance(key, np.ndarray) and not key.size:
        key = key.astype(int)
    try:
        expected = array[key]
    except IndexError:
        with pytest.raises(IndexError):
            rec[key]
        return
    found = rec[key]
    assert found.shape == expected.shape and found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@given(first=ONE.filter(lambda page: -PAGES <= page < PAGES) | SLICES | MANY, inside=st.lists(INSIDE, max_size=2),
       ellipsis_at=st.none() | st.integers(0, 3))
def test_so_are_rows_and_columns(first: Any, inside: List[Any], ellipsis_at: Any,
                                 opened: Tuple[Recording, np.ndarray]) -> None:
    rec, array = opened
    key = [first, *inside]
    if ellipsis_at is not None:
        key.insert(min(ellipsis_at + 1, len(key)), Ellipsis)
    as_numpy = (np.array(first, int) if isinstance(first, list) else first, *key[1:])
    try:
        expected = array[as_numpy]
    except IndexError:
        with pytest.raises(IndexError):
            rec[tuple(key)]
        return
    np.testing.assert_array_equal(rec[tuple(key)], expected)
    assert np.shape(rec[tuple(key)]) == expected.shape


@pytest.mark.parametrize('key, why', [
    (PAGES, 'of a recording of 30'), (-PAGES - 1, 'of a recording of 30'), ([0, PAGES], 'of a recording of 30'),
    ([True, False], 'a mask of 2'), (None, 'no new axes'), (True, 'no new axes'), ('first', 'whole number'),
    (1.5, 'whole number'), ([[1]], 'whole number'), ([0.5], 'whole number'), ((0, 0, 0, 0, 0), '5 selections'),
    ((0, [1, 2]), 'slices and whole numbers'), ((0, True), 'no new axes'), ((Ellipsis, Ellipsis), r"'\.\.\.'"),
    ((0, 12), 'out of bounds'), ((slice(2), 12), 'out of bounds')])
def test_what_cannot_be_selected_is_refused(key: Any, why: str, path: Path) -> None:
    with open_recording(path) as rec, pytest.raises(IndexError, match=why):
        rec[key]


def test_it_becomes_an_array(path: Path) -> None:
    with open_recording(path) as rec:
        np.testing.assert_array_equal(np.asarray(rec), whole())
        assert np.asarray(rec[2:4]).shape == (2, 12, 20, 3)
        assert np.asarray(rec, dtype=np.float32).dtype == np.float32
        np.testing.assert_array_equal(np.mean(rec, axis=0), np.mean(whole(), axis=0))
        with pytest.raises(ValueError, match='ask for a copy'):
            rec.__array__(copy=False)


def test_it_is_a_sequence(path: Path) -> None:
    with open_recording(path) as rec:
        np.testing.assert_array_equal(list(reversed(rec)), whole()[::-1])
        with pytest.raises(TypeError, match='page_of'):
            picture(0) in rec        # noqa: B015


def test_more_than_the_memory_is_refused_before_it_is_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('ProcessedPiRecorder.reading.recording.available_memory', lambda: 3 * 720)
    with open_recording(path) as rec:
        np.testing.assert_array_equal(rec[:3], whole()[:3])
        np.testing.assert_array_equal(rec[:, :, 0, 0], whole()[:, :, 0, 0])     # 360 bytes
        with pytest.raises(TooLargeError, match='30 frames take .* one by one .*to_dask') as raised:
            rec[:]
        assert isinstance(raised.value, MemoryError) and isinstance(raised.value, ProcessedPiRecorder.RecorderError)


def test_a_frame_is_read_into_an_array_that_is_given(path: Path) -> None:
    out = np.zeros((12, 20, 3), np.uint8)
    with open_recording(path) as rec:
        assert np.shares_memory(rec.read(3, out), out)
        np.testing.assert_array_equal(out, picture(indices(PAGES)[3]))
        with pytest.raises(ValueError, match='C-contiguous uint8 array'):
            rec.read(3, np.zeros((12, 20), np.uint8))
        for page in (-1, PAGES):
            with pytest.raises(IndexError):
                rec.read(page)


# ---------------------------------------------------------------- what is known

def test_numbers_times_and_losses(path: Path) -> None:
    with open_recording(path) as rec:
        assert rec.indices is not None and rec.times_ns is not None and rec.times_s is not None
        assert rec.indices.tolist() == indices(PAGES)
        assert rec.times_ns.tolist() == [TIME + index * 10 * MS for index in indices(PAGES)]
        assert rec.times_ns.dtype == rec.indices.dtype == np.int64
        np.testing.assert_allclose(rec.times_s, np.array(indices(PAGES)) / 100, atol=1e-9)
        for array in (rec.times_ns, rec.indices):
            assert not array.flags.writeable and array.flags.c_contiguous
        assert rec.duration_s == 0.32 and rec.rate_hz == pytest.approx(29 / 0.32)
        assert [(loss.index, loss.count, loss.reason) for loss in rec.losses] == [
            (5, 2, 'camera gap'), (17, 1, 'camera gap')]


def test_a_frame_is_found_by_number_and_by_time(path: Path) -> None:
    with open_recording(path) as rec:
        assert [rec.page_of(index) for index in indices(PAGES)] == list(range(PAGES))
        for missing in (*LOST, -1, 10**6):
            with pytest.raises(KeyError, match=f'number {missing}'):
                rec.page_of(missing)
        assert rec.page_at(TIME) == rec.page_at(0) == rec.page_at(TIME + 4 * MS) == 0
        assert rec.page_at(TIME + 6 * MS) == 1 and rec.page_at(2 * TIME) == PAGES - 1
        assert rec.page_at(TIME + 54 * MS) == 4 and rec.page_at(TIME + 56 * MS) == 5     # frames 5 and 6 are lost


def test_marks_stand_at_their_frames(path: Path, tmp_path: Path) -> None:
    expected = [{'label': 'light', 'time_ns': TIME + indices(PAGES)[page] * 10 * MS, 'index': indices(PAGES)[page],
                 'page': page} for page in (3, 13, 23)]
    with open_recording(path) as rec:
        assert rec.marks == expected
    write(tmp_path / 'b.tif', split_frames=10)
    part_path(tmp_path / 'b.tif', 1).unlink()
    with open_recording(tmp_path / 'b.tif') as rec:
        told = rec.marks
    assert told[0] == expected[0] and told[1] == {**expected[2], 'page': 13}
    assert told[2:] == [{**expected[1], 'index': None, 'page': None}]


def test_everything_that_a_page_tells(path: Path) -> None:
    with open_recording(path) as rec:
        record = rec.record(5)
        assert (record.index, record.time_ns, record.host_ns) == (7, TIME + 70 * MS, 7)
        assert [loss['count'] for loss in record.lost] == [2]


def test_one_frame_has_no_rate(tmp_path: Path) -> None:
    write(tmp_path / 'a.tif', 1, lost=())
    with open_recording(tmp_path / 'a.tif') as rec:
        assert len(rec) == 1 and rec.rate_hz is None and rec.duration_s == 0 and '1 frame of' in repr(rec)
        assert rec[::-1].shape == (1, 12, 20, 3) and rec.page_at(5) == 0


def test_a_long_list_of_columns_is_searched_in_one_piece(path: Path) -> None:
    """A column of the index that is 64 bytes a step would be copied for each search."""
    with open_recording(path) as rec:
        assert rec.times_ns is not None and rec.times_ns.strides == (8,)


# ---------------------------------------------------------------- split recordings

@pytest.mark.parametrize('number', range(5))
def test_a_split_recording_is_one_whichever_file_is_opened(number: int, tmp_path: Path) -> None:
    files = write(tmp_path / 'a.tif', split_frames=7)
    with open_recording(files[number]) as rec:
        assert rec.files == tuple(files) and rec.path == files[0] and rec.finished and not rec.notes
        np.testing.assert_array_equal(rec[:], whole())
        assert rec.indices is not None and rec.indices.tolist() == indices(PAGES)
        assert [rec.record(page).index for page in range(PAGES)] == indices(PAGES)
        assert rec.report is not None and rec.report.written == PAGES and '5 files' in repr(rec)


def test_through_a_link_it_is_the_same(tmp_path: Path) -> None:
    (tmp_path / 'data').mkdir()
    files = write(tmp_path / 'data' / 'a.tif', split_frames=7)
    (tmp_path / 'shortcut.tif').symlink_to(files[2])
    with open_recording(tmp_path / 'shortcut.tif') as rec:
        assert rec.files == tuple(files)


@pytest.mark.parametrize('gone', range(5))
def test_missing_files_are_named_and_the_others_are_read(gone: int, tmp_path: Path) -> None:
    files = write(tmp_path / 'a.tif', split_frames=7)
    files[gone].unlink()
    with open_recording(files[0] if gone else files[1]) as rec:
        assert rec.missing_files == (files[gone].name,) and not rec.finished
        assert '1 of its files missing' in repr(rec) and files[gone].name in rec.notes[0]
        pages = [page for page in range(PAGES) if page // 7 != gone]
        np.testing.assert_array_equal(rec[:], whole()[pages])
        assert (rec.report is None) == (gone == 4)
        assert rec.indices is not None and rec.page_of(rec.indices[-1]) == len(pages) - 1


def test_a_part_that_was_renamed_opens_alone(tmp_path: Path) -> None:
    files = write(tmp_path / 'a.tif', split_frames=7)
    files[2].rename(tmp_path / 'best.tif')
    with open_recording(tmp_path / 'best.tif') as rec:
        np.testing.assert_array_equal(rec[:], whole()[14:21])
        assert rec.missing_files == ('part 0', 'part 1') and 'does not end in _002' in rec.notes[0]


def test_another_recording_that_has_a_parts_name_is_left_out(tmp_path: Path) -> None:
    write(tmp_path / 'a.tif', 5, lost=())
    write(tmp_path / 'a_001.tif', 6, lost=())
    for name, pages in (('a.tif', 5), ('a_001.tif', 6)):
        with open_recording(tmp_path / name) as rec:
            assert len(rec) == pages and rec.files == (tmp_path / name,) and rec.finished


def test_an_older_recordings_part_is_left_out_and_told(tmp_path: Path) -> None:
    write(tmp_path / 'a.tif', 20, split_frames=5)
    write(tmp_path / 'b.tif', 10, split_frames=5)
    (tmp_path / 'b_001.tif').unlink()
    (tmp_path / 'b.tif').replace(tmp_path / 'a.tif')
    with open_recording(tmp_path / 'a.tif') as rec:
        assert len(rec) == 5 and rec.missing_files == ('a_001.tif',)


def test_a_part_that_is_damaged_is_left_out_and_told(tmp_path: Path) -> None:
    files = write(tmp_path / 'a.tif', split_frames=7)
    hurt(files[3], 0, 16)
    with open_recording(files[4]) as rec:
        assert len(rec) == PAGES - 7 and rec.missing_files == (files[3].name,)
        assert any(files[3].name in note and 'left out' in note for note in rec.notes)


@pytest.mark.parametrize('harm, why', [('head', 'is no TIFF'), ('cut', 'ppr repair'), ('other', 'another recording'),
                                       ('size', 'its frames are 96×64'), ('number', 'it is file 0')])
@pytest.mark.parametrize('number', [0, 1, 2])
def test_a_part_that_is_there_and_of_no_use_is_not_called_missing(number: int, harm: str, why: str, tmp_path: Path
                                                                  ) -> None:
    """Whichever of the others is opened; and of the ones that are really not there it is said."""
    files, others = write(tmp_path / 'a.tif', 28, split_frames=7), write(tmp_path / 'b.tif', 28, split_frames=7)
    if harm == 'head':
        hurt(files[number], 0, 16)
    elif harm == 'cut':
        os.truncate(files[number], 100)
    elif harm == 'size':
        recorder(tmp_path / 'c.tif', split_frames=7, controls={'frames': 28}).recordVid()
        without_id(part_path(tmp_path / 'c.tif', number)).replace(files[number])
    elif harm == 'other' or number == 0:
        others[number].replace(files[number])
        why = 'another recording'
    else:
        others[0].replace(files[number])
    for opened in {0, 1, 2} - {number}:
        with open_recording(files[opened]) as rec:
            assert rec.missing_files == (files[number].name,) and len(rec) == 21 and not rec.finished
            assert len(rec.notes) == 1 and rec.notes[0].startswith(f'{files[number].name} is there, but was left out: ')
            assert why in rec.notes[0] and f'ppr verify {files[number]}' in rec.notes[0]
    files[3].unlink()
    with open_recording(files[0 if number else 1]) as rec:
        gone = [note for note in rec.notes if note.startswith('not all files')]
        if number == 2:                                          # no file that can be read tells of one behind it
            assert rec.missing_files == (files[2].name,) and not gone
        else:
            assert rec.missing_files == (files[number].name, files[3].name)
            assert len(gone) == 1 and f': {files[3].name} missing; bring' in gone[0]


def without_id(path: Path) -> Path:
    """The preface, which tells of which recording a file is, damaged by one byte; the pages are whole."""
    hurt(path, 60, 61)
    return path


@pytest.mark.parametrize('number', range(3))
def test_a_part_that_does_not_tell_its_recording_is_taken_by_its_frames(number: int, tmp_path: Path) -> None:
    files = write(tmp_path / 'a.tif', 21, split_frames=7)
    without_id(files[number])
    for path in files:
        with open_recording(path) as rec, rec.own_pages() as own:
            assert rec.files == tuple(files) and rec.finished and rec.report is not None
            np.testing.assert_array_equal(rec[:], whole(pages=21))
            assert own.recording_id
            assert len(rec.notes) == 1 and f'preface of {files[number].name}' in rec.notes[0]


@pytest.mark.parametrize('given', range(3))
def test_frames_of_another_time_are_not_taken_though_nothing_tells_their_recording(given: int, tmp_path: Path) -> None:
    files, others = write(tmp_path / 'a.tif', 21, split_frames=7), write(tmp_path / 'b.tif', 21, split_frames=5)
    without_id(others[1]).replace(files[1])                     # begins with a frame that is in a.tif, too
    with open_recording(files[given]) as rec:
        assert 'of another time' in rec.notes[0]
        assert rec.files == ((files[0], files[2]) if given != 1 else (files[1], files[2]))
        assert rec.missing_files == (files[0 if given == 1 else 1].name,) and not rec.finished


def test_nothing_comes_behind_the_last_file(tmp_path: Path) -> None:
    files = write(tmp_path / 'a.tif', 14, split_frames=7)
    longer = write(tmp_path / 'b.tif', 28, split_frames=7)
    for number in (2, 3):
        longer[number].replace(part_path(tmp_path / 'a.tif', number))
    without_id(files[0])
    without_id(part_path(tmp_path / 'a.tif', 2))
    for path in files:
        with open_recording(path) as rec:
            assert rec.files == tuple(files) and rec.finished and not rec.missing_files


def test_more_files_than_may_be_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, 'MOST_OPEN', 3)
    files = write(tmp_path / 'a.tif', split_frames=2)
    before = len(os.listdir('/proc/self/fd'))
    for path in (files[0], files[-1]):
        with open_recording(path) as rec:
            assert len(os.listdir('/proc/self/fd')) <= before + 3 + (path is files[-1])
            np.testing.assert_array_equal(rec[:], whole())
            np.testing.assert_array_equal(list(rec), whole())
    assert len(os.listdir('/proc/self/fd')) == before


def test_a_released_file_that_was_replaced_is_not_taken_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, 'MOST_OPEN', 1)
    files = write(tmp_path / 'a.tif', split_frames=15)
    with open_recording(files[0]) as rec:
        copy = tmp_path / 'copy'
        copy.write_bytes(files[1].read_bytes())
        copy.replace(files[1])
        with pytest.raises(RecordingFileError, match=r'page 20 .*a_001\.tif.*replaced by another file'):
            rec[20]
        rec[3]


# ---------------------------------------------------------------- without an end

@pytest.mark.parametrize('split', [0, 7])
def test_a_recording_that_was_cut_off(split: int, tmp_path: Path) -> None:
    files = write(tmp_path / 'a.tif', **({'split_frames': split} if split else {}))
    cut_off(files[-1], keep=2)
    with open_recording(tmp_path / 'a.tif') as rec:
        pages = (len(files) - 1) * split + 2
        np.testing.assert_array_equal(rec[:], whole()[:pages])
        assert not rec.finished and rec.report is None and 'unfinished, no verdict' in repr(rec)
        assert any('ppr repair' in note for note in rec.notes) and rec.metadata == {'animal': 'M12'}
        assert rec.status is not None and list(rec.status) == ['raw'] * pages


def test_losses_of_a_recording_without_report_are_told_by_its_pages(path: Path) -> None:
    cut_off(path, keep=20)
    with open_recording(path) as rec:
        assert rec.losses == [Loss(5, 2, TIME + 40 * MS, 'camera gap'), Loss(17, 1, TIME + 160 * MS, 'camera gap')]
        assert [mark['page'] for mark in rec.marks] == [3, 13]


def test_a_recording_in_progress_is_read_as_far_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / 'now.tif'
    running = recorder(path, blocking=False, controls=paced())
    with running:
        running.recordVid()
        wait_until(lambda: path.exists() and path.stat().st_size > 16 and int.from_bytes(
            path.read_bytes()[8:16], 'little'))
        with open_recording(path) as rec:
            frame, seen = truth(running.settings), len(rec)
            assert seen >= 1 and not rec.finished and rec.report is None
            for image in rec:
                np.testing.assert_array_equal(image, frame(image.index))
            wait_until(lambda: running.status().written > seen + 20)
            assert len(rec) == seen                  # as it was when it was opened
        running.stopVid()
        running.wait()
    with open_recording(path) as rec:
        assert rec.finished and len(rec) > seen


# ---------------------------------------------------------------- damaged pages

@pytest.mark.parametrize('level', [0, 6], ids=['uncompressed', 'compressed'])
def test_a_damaged_page_is_told_in_its_turn_and_the_others_are_read(level: int, tmp_path: Path) -> None:
    files = write(tmp_path / 'a.tif', split_frames=15, level=level)
    span = spans(files[1])[2]
    hurt(files[1], span.strip + 50, span.strip + 54, b'\xaa\x55\xaa\x55')
    with open_recording(files[0]) as rec:
        frames = rec.frames(threads=2)
        for page in range(17):
            np.testing.assert_array_equal(next(frames), whole()[page])
        with pytest.raises(RecordingFormatError, match=r'page 17 of .*a\.tif \(in a_001\.tif\) cannot be read'):
            next(frames)
        assert list(frames) == [] and not reading_threads()
        np.testing.assert_array_equal(rec[18:], whole()[18:])
        for key in (17, slice(None), [17], (slice(10, 20), 0)):
            with pytest.raises(RecordingFormatError, match='page 17'):
                rec[key]


def test_an_error_of_the_disk_is_told_with_the_page(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_recording(path) as rec:
        def fail(*arguments: Any) -> bytes:
            raise OSError(5, 'Input/output error')
        monkeypatch.setattr(os, 'pread', fail)
        with pytest.raises(RecordingFileError, match=r'page 4 of .*a\.tif cannot be read.*Input/output error'):
            rec[4]
        monkeypatch.undo()
        rec[4]


# ---------------------------------------------------------------- iteration

@pytest.mark.parametrize('threads', [None, 0, 1, 3])
@pytest.mark.parametrize('chosen', [(0, None, 1), (4, 25, 3), (-5, None, 1), (25, 3, -4), (9, 9, 1), (0, 10**6, 1)])
def test_frames_come_in_order(chosen: Tuple[int, Any, int], threads: Any, path: Path,
                              monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readahead, 'TASK_BYTES', 1500)        # two frames a task
    with open_recording(path) as rec:
        frames = list(rec.frames(*chosen, threads=threads))
        assert [frame.index for frame in frames] == indices(PAGES)[slice(*chosen)]
        np.testing.assert_array_equal(np.array(frames).reshape(-1, 12, 20, 3), whole()[slice(*chosen)])
        assert len({frame.__array_interface__['data'][0] for frame in frames}) == len(frames)


@pytest.mark.parametrize('end', ['break', 'close', 'throw away', 'raise'])
def test_an_iteration_that_ends_early_leaves_no_threads(end: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readahead, 'TASK_BYTES', 1)
    with open_recording(path) as rec:
        frames = rec.frames(threads=2)
        next(frames)
        assert reading_threads()
        if end == 'close':
            frames.close()                   # type: ignore[attr-defined]
        elif end == 'raise':
            with pytest.raises(KeyboardInterrupt):
                frames.throw(KeyboardInterrupt)      # type: ignore[attr-defined]
        else:
            if end == 'break':
                for _ in frames:
                    break
            del frames
            gc.collect()
        assert not reading_threads()


def test_never_too_many_pages_are_decoded_ahead(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readahead, 'TASK_BYTES', 1)
    read: List[int] = []
    with open_recording(path) as rec:
        plain = rec._source.read

        def counted(page: int, out: Any = None) -> np.ndarray:
            read.append(page)
            return plain(page, out)

        monkeypatch.setattr(rec._source, 'read', counted)
        frames = rec.frames(threads=2)
        assert not read                              # nothing before the first is asked for
        for taken in range(1, 6):
            next(frames)
            wait_until(lambda taken=taken: len(read) >= taken)     # type: ignore[misc]
            time.sleep(0.01)
            assert len(read) <= taken + 2 * 2
        frames.close()                               # type: ignore[attr-defined]


# ---------------------------------------------------------------- closed, shared, passed on

def test_closed_is_closed(path: Path) -> None:
    with open_recording(path) as rec:
        pass
    rec.close()
    for use in (lambda: rec[0], lambda: rec[:], lambda: list(rec), lambda: rec.record(0)):
        with pytest.raises(RecorderStateError, match=r'a\.tif is closed; open it again'):
            use()
    assert len(rec) == PAGES and rec.report is not None and 'complete' in repr(rec)


def test_descriptors_are_given_back(path: Path) -> None:
    before = len(os.listdir('/proc/self/fd'))
    rec = open_recording(path)
    assert len(os.listdir('/proc/self/fd')) == before + 1
    rec.close()
    forgotten = open_recording(path)
    forgotten[0]
    del forgotten
    gc.collect()
    assert len(os.listdir('/proc/self/fd')) == before


def test_many_threads_read_what_was_recorded(tmp_path: Path) -> None:
    write(tmp_path / 'a.tif', split_frames=7)
    array = whole()
    with open_recording(tmp_path / 'a.tif') as rec, ThreadPoolExecutor(8) as pool:
        def read(seed: int) -> bool:
            chosen = np.random.default_rng(seed).integers(0, PAGES, 10)
            return bool((rec[chosen] == array[chosen]).all()) and bool((rec[int(chosen[0])] == array[chosen[0]]).all()
                                                                        ) and rec.record(3).index == 3
        assert all(pool.map(read, range(60)))


def test_closing_waits_for_those_who_read_and_stops_the_others(path: Path) -> None:
    for _ in range(20):
        rec = open_recording(path)
        wrong: List[Any] = []
        begun = threading.Barrier(4)

        def read(rec: Recording = rec, begun: threading.Barrier = begun, wrong: List[Any] = wrong) -> None:
            begun.wait()
            try:
                while True:
                    if not (rec[7] == whole()[7]).all():
                        wrong.append('other pixels')
            except RecorderStateError:
                pass
            except BaseException as error:
                wrong.append(error)

        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        begun.wait()
        rec.close()
        rec.close()
        for thread in threads:
            thread.join(10)
        assert not wrong


def test_it_is_pickled_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path('a.tif'), split_frames=7)
    Path('other.jsonl').write_bytes(encode_line(3, TIME + 30 * MS, 7))
    with open_recording('a_002.tif', results='other.jsonl') as rec:
        pickled = pickle.dumps(rec)
        assert len(pickled) < 1000
        monkeypatch.chdir('/')
        with pickle.loads(pickled) as copy:
            np.testing.assert_array_equal(copy[:], rec[:])
            assert copy.results_of(3)[0].result == 7
            assert pickle.loads(pickle.dumps(copy[5])).index == 7


def test_results_that_stayed_behind_are_told(recorded: Recorded, tmp_path: Path) -> None:
    renamed = tmp_path / 'renamed.tif'
    renamed.write_bytes(recorded.path.read_bytes())
    with open_recording(renamed) as rec:
        assert len(rec.results) == 0
        note, = rec.notes
        assert f'put {recorded.report.results} results' in note and 'renamed.results.jsonl, is not here' in note
    with open_recording(renamed, results=results_path(recorded.path)) as rec:
        assert len(rec.results) == recorded.report.results and rec.notes == ()


def test_it_stays_what_was_opened_when_the_working_folder_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                                                   ) -> None:
    there, here = tmp_path / 'there', tmp_path / 'here'
    monkeypatch.setattr(sources, 'MOST_OPEN', 2)             # the others are opened for each read
    for folder, result in ((there, 'right'), (here, 'another one')):
        folder.mkdir()
        write(folder / 'a.tif', split_frames=7)
        (folder / 'a.results.jsonl').write_bytes(encode_line(3, TIME + 30 * MS, result))
    (here / 'a.tif').unlink()
    (here / 'a_003.tif').unlink()
    monkeypatch.chdir(there)
    with open_recording('a.tif') as rec:
        monkeypatch.chdir(here)
        assert rec.path == Path('a.tif') and rec.absolute_files[0] == there / 'a.tif'
        assert rec.results_path == there / 'a.results.jsonl' and rec.results_of(3)[0].result == 'right'
        np.testing.assert_array_equal(rec[:], whole())
        with pickle.loads(pickle.dumps(rec)) as copy:
            assert len(copy) == PAGES and copy.results_of(3)[0].result == 'right'


def in_a_fork(work: Any) -> int:
    """The exit code of a child that does some work: 0 when it returned true."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if work() else 2
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.filterwarnings('ignore:.*multi-threaded.*fork:DeprecationWarning')
def test_it_lives_on_in_a_fork(path: Path) -> None:
    array = whole()
    with open_recording(path) as rec:
        def work() -> bool:
            good = bool((rec[:] == array).all()) and len(list(rec)) == PAGES
            rec.close()
            return good
        assert in_a_fork(work) == 0
        np.testing.assert_array_equal(rec[:], array)


@pytest.mark.filterwarnings('ignore:.*multi-threaded.*fork:DeprecationWarning')
def test_a_fork_is_not_held_up_by_threads_that_only_its_parent_has(path: Path) -> None:
    """They read when it forked; there, they never end reading."""
    with open_recording(path) as rec:
        readers = rec._source._readers          # type: ignore[attr-defined]
        with readers.reading(), readers._changed, readers.alone():
            def work() -> bool:
                good = rec[3].index == 3
                rec.close()
                return good
            assert in_a_fork(work) == 0
        assert rec[3].index == 3


@pytest.mark.filterwarnings('ignore:.*multi-threaded.*fork:DeprecationWarning')
def test_an_iteration_does_not_go_on_in_a_fork(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readahead, 'TASK_BYTES', 1)
    with open_recording(path) as rec:
        frames = rec.frames(threads=2)
        next(frames)

        def work() -> bool:
            with pytest.raises(RecorderStateError, match='another process'):
                next(frames)
            return True
        assert in_a_fork(work) == 0
        assert len(list(frames)) == PAGES - 1


def test_a_recording_that_is_renamed_or_removed_while_open_is_still_read(path: Path) -> None:
    with open_recording(path) as rec:
        path.rename(path.with_name('b.tif'))
        np.testing.assert_array_equal(rec[:], whole())
        path.with_name('b.tif').unlink()
        np.testing.assert_array_equal(rec[:], whole())


def test_settings_and_metadata_of_a_file_that_lost_its_annotations(path: Path) -> None:
    """Changed behind the recorder's back: what cannot be trusted is not told."""
    data = path.read_bytes()
    assert data.count(b'"animal": "M12"') >= 2 or data.count(b'"animal":"M12"') >= 2
    at = data.rindex(b'M12')
    hurt(path, at, at + 3, b'M13')
    with open_recording(path) as rec:
        assert rec.report is None and any('ppr verify' in note for note in rec.notes)
        assert 'no verdict that can be trusted' in repr(rec)
        np.testing.assert_array_equal(rec[:], whole())


def test_what_one_does_not_know_of_other_recordings(path: Path) -> None:
    """The documented attributes are there."""
    with open_recording(path) as rec:
        told: Dict[str, Any] = {name: getattr(rec, name) for name in (
            'path', 'files', 'missing_files', 'shape', 'dtype', 'ndim', 'nbytes', 'pixel_format', 'is_ours', 'times_ns',
            'indices', 'finished', 'notes', 'settings', 'metadata', 'camera')}
        assert told['camera']['model'] == 'test'
