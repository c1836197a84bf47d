"""The recording as a whole: what goes in comes out, whatever the metadata, the splitting, or the failure."""

from __future__ import annotations

import csv
import errno
import json
import os
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Sequence, Tuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ProcessedPiRecorder.errors import RecordingFileError, RecordingFormatError
from ProcessedPiRecorder.recordings import bigtiff, index, ome, part
from ProcessedPiRecorder.recordings.framelog import COLUMNS, FrameLog
from ProcessedPiRecorder.recordings.index import IndexBuilder, index_record, parse_block
from ProcessedPiRecorder.recordings.ome import FileFacts, ome_xml, parse_annotations
from ProcessedPiRecorder.recordings.page import (
    STATUSES,
    PageRecord,
    open_text,
    parse_text,
    seal_text,
    text_is_intact,
)
from ProcessedPiRecorder.recordings.reader import RecordingFile, is_part, is_recording
from ProcessedPiRecorder.recordings.sink import PageJob, PageSink

HEIGHT, WIDTH = 12, 20
INT64 = st.integers(-2**63, 2**63 - 1)


def picture(number: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 40, (height, width, 3), np.uint8)


class Recording:
    """A sink, and everything that it reported."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.written: List[PageJob] = []
        self.errors: List[BaseException] = []
        settings: Dict[str, Any] = {'height': HEIGHT, 'width': WIDTH, 'pixel_format': 'bgr', 'level': 6, 'waits': True}
        self.sink = PageSink(path, on_written=self.written.extend, on_error=self.errors.append,
                             **{**settings, **options})

    def submit(self, numbers: Sequence[int], **fields: Any) -> None:
        for number in numbers:
            record = PageRecord(number, 10**18 + number * 1000, **fields)
            self.sink.submit(PageJob(picture(number), record, token=number))

    def finish(self, annotations: Mapping[str, Any] = {'report': {}}) -> List[Path]:   # noqa: B006
        return self.sink.finish(lambda info: annotations)


def record(path: Path, pages: int, annotations: Mapping[str, Any] = {'report': {}}, **options: Any) -> List[Path]:  # noqa: B006
    recording = Recording(path, **options)
    recording.sink.publish()
    recording.submit(range(pages))
    return recording.finish(annotations)


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Threads and descriptors are all given back."""
    before = len(os.listdir('/proc/self/fd'))
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith('ppr-')] == []
    assert len(os.listdir('/proc/self/fd')) <= before


# ---------------------------------------------------------------------- in and out

def test_what_is_submitted_is_read_back(tmp_path: Path) -> None:
    recording = Recording(tmp_path / 'a.tif')
    marks = ({'label': 'licht <an> \0 \ud800 ☼', 'time_ns': 5}, {'label': '', 'time_ns': 6})
    recording.submit(range(3), sensor_ns=77, host_ns=88, status='returned', marks=marks, cb_ms=1.25,
                     skew_ns=-4321)
    recording.submit(range(5, 40), status='by-passed')
    assert recording.finish({'report': {'complete': 'no'}, 'metadata': {'animal': 'Ärger'}}) == [tmp_path / 'a.tif']
    with RecordingFile(tmp_path / 'a.tif') as file:
        assert file.finished and file.is_ours and len(file) == 38
        assert (file.width, file.height, file.pixel_format) == (WIDTH, HEIGHT, 'bgr')
        assert file.page_record(1) == PageRecord(1, 10**18 + 1000, 77, 88, 'returned', marks, 1.25, -4321)
        assert file.page_record(3) == PageRecord(5, 10**18 + 5000, status='by-passed')
        assert file.times.tolist() == [10**18 + number * 1000 for number in (*range(3), *range(5, 40))]
        assert file.annotations['report'] == {'complete': 'no'}
        assert file.annotations['metadata'] == {'animal': 'Ärger'}
        assert [(mark['page'], mark['label']) for mark in file.annotations['marks']] == [
            (page, mark['label']) for page in range(3) for mark in marks]
        for page, number in enumerate((*range(3), *range(5, 40))):
            np.testing.assert_array_equal(file.read_page(page), picture(number))
            np.testing.assert_array_equal(file.read_page(page, order='rgb'), picture(number)[..., ::-1])
            assert file.verify_page(page) and file.stored_page(page).page == page
        with pytest.raises(IndexError):
            file.read_page(38)
        with pytest.raises(IndexError):
            file.page_record(-1)


def test_jobs_are_reported_in_order_with_what_became_of_them(tmp_path: Path) -> None:
    recording = Recording(tmp_path / 'a.tif', threads=4)
    recording.submit(range(200))
    recording.finish()
    assert [job.token for job in recording.written] == [job.page for job in recording.written] == list(range(200))
    totals = recording.sink.totals
    assert totals.pages == 200 and totals.raw_bytes == 200 * HEIGHT * WIDTH * 3
    assert totals.strip_bytes == sum(job.nbytes for job in recording.written)
    assert totals.file_bytes == (tmp_path / 'a.tif').stat().st_size
    assert sum(totals.effort.values()) == 200 and all(job.effort in totals.effort for job in recording.written)
    assert all(first.written_ns <= second.written_ns
               for first, second in zip(recording.written, recording.written[1:]))


def test_totals_are_complete_before_the_description(tmp_path: Path) -> None:
    recording = Recording(tmp_path / 'a.tif')
    recording.submit(range(10))
    seen: List[Tuple[int, int]] = []

    def describe(info: part.PartInfo) -> Mapping[str, Any]:
        assert (info.number, info.pages, info.last, info.files) == (0, 10, True, (tmp_path / 'a.tif',))
        seen.append((recording.sink.totals.pages, recording.sink.totals.file_bytes))
        return {}
    recording.sink.finish(describe)
    assert seen[0][0] == 10 and 0 < seen[0][1] < recording.sink.totals.file_bytes
    assert recording.sink.finish(describe) == [tmp_path / 'a.tif'] and len(seen) == 1


def test_a_description_that_fails_costs_no_page(tmp_path: Path) -> None:
    recording = Recording(tmp_path / 'a.tif')
    recording.submit(range(10))
    with pytest.raises(ZeroDivisionError):
        recording.sink.finish(lambda info: {'report': 1 // 0})
    with RecordingFile(tmp_path / 'a.tif') as file:
        assert file.finished and file.pages == 10


def test_a_wrong_image_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    recording = Recording(tmp_path / 'a.tif')
    with pytest.raises(ValueError, match=r'images of shape \(12, 20, 3\), got uint8 \(12, 20\)'):
        recording.sink.submit(PageJob(np.zeros((12, 20), np.uint8), PageRecord(0, 0)))
    recording.submit(range(3))
    recording.finish()
    assert RecordingFile(tmp_path / 'a.tif').pages == 3


def test_no_page_no_file(tmp_path: Path) -> None:
    assert record(tmp_path / 'a.tif', 0) == []
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------- making the file

def test_an_existing_file_stays(tmp_path: Path) -> None:
    (tmp_path / 'a.tif').write_text('precious')
    with pytest.raises(RecordingFileError, match='exists already.*overwrite=True'):
        Recording(tmp_path / 'a.tif')
    assert (tmp_path / 'a.tif').read_text() == 'precious'


def test_overwriting_waits_for_publish(tmp_path: Path) -> None:
    (tmp_path / 'a.tif').write_text('precious')
    recording = Recording(tmp_path / 'a.tif', overwrite=True)
    recording.submit(range(2))
    assert (tmp_path / 'a.tif').read_text() == 'precious'
    recording.sink.publish()
    recording.submit(range(2, 4))
    assert recording.finish() == [tmp_path / 'a.tif']
    assert RecordingFile(tmp_path / 'a.tif').pages == 4 and os.listdir(tmp_path) == ['a.tif']


@pytest.mark.parametrize('overwrite', [False, True])
def test_a_start_that_fails_leaves_things_as_they_were(tmp_path: Path, overwrite: bool) -> None:
    if overwrite:
        (tmp_path / 'a.tif').write_text('precious')
    recording = Recording(tmp_path / 'a.tif', overwrite=overwrite)
    recording.sink.discard()
    recording.sink.discard()
    assert [path.read_text() for path in tmp_path.iterdir()] == (['precious'] if overwrite else [])
    assert recording.errors == []


def test_overwriting_through_a_link_replaces_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / 'disk').mkdir()
    (tmp_path / 'disk' / 'b.tif').write_text('old')
    (tmp_path / 'a.tif').symlink_to(tmp_path / 'disk' / 'b.tif')
    record(tmp_path / 'a.tif', 2, overwrite=True)
    assert (tmp_path / 'a.tif').is_symlink() and RecordingFile(tmp_path / 'disk' / 'b.tif').pages == 2


def test_a_folder_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / 'a.tif').mkdir()
    with pytest.raises(RecordingFileError, match='not an ordinary file'):
        Recording(tmp_path / 'a.tif', overwrite=True)


# ---------------------------------------------------------------------- split

@pytest.mark.parametrize(('pages', 'sizes'), [(1, [1]), (10, [10]), (11, [10, 1]), (30, [10, 10, 10]),
                                              (45, [10, 10, 10, 10, 5])])
def test_a_split_recording_is_whole_in_every_part(tmp_path: Path, pages: int, sizes: List[int]) -> None:
    import tifffile
    files = record(tmp_path / 'trial.tif', pages, split_frames=10)
    assert [file.name for file in files] == [
        'trial.tif', *(f'trial_{number:03d}.tif' for number in range(1, len(sizes)))]
    frame = 0
    for number, (path, size) in enumerate(zip(files, sizes)):
        with RecordingFile(path) as file, tifffile.TiffFile(path) as tif:
            assert file.finished and file.pages == size == len(tif.pages) and tif.is_ome
            facts = file.annotations['file']
            assert (facts['part'], facts['first_page'], facts['first_name']) == (number, frame, 'trial.tif')
            assert facts['last'] == (number == len(sizes) - 1)
            assert facts['parts'] == [other.name for other in files[:number + 1]]
            for page in range(size):
                assert file.stored_page(page)[:2] == (page, number) and file.verify_page(page)
                np.testing.assert_array_equal(file.read_page(page), picture(frame))
                frame += 1
    assert frame == pages


def test_parts_are_described_while_the_recording_goes_on(tmp_path: Path) -> None:
    recording = Recording(tmp_path / 'a.tif', split_frames=3, about={'metadata': {'n': 7}})
    recording.submit(range(8))
    recording.finish({'metadata': {'n': 'last'}})
    found = [RecordingFile(path).annotations['metadata']['n'] for path in sorted(tmp_path.iterdir())]
    assert found == [7, 7, 'last']
    total = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert recording.sink.totals.file_bytes == total


def test_a_part_that_exists_is_an_error_at_the_start(tmp_path: Path) -> None:
    (tmp_path / 'a_002.tif').write_text('precious')
    with pytest.raises(RecordingFileError, match='a_002.tif exists already'):
        Recording(tmp_path / 'a.tif', split_frames=3)
    assert os.listdir(tmp_path) == ['a_002.tif']
    record(tmp_path / 'a.tif', 3)            # without splitting the name is free


def test_a_part_that_appears_later_ends_the_recording_with_an_error(tmp_path: Path) -> None:
    recording = Recording(tmp_path / 'a.tif', split_frames=3)
    (tmp_path / 'a_001.tif').write_text('precious')
    recording.submit(range(8))
    with pytest.raises(RecordingFileError, match='a_001.tif exists already'):
        recording.finish()
    assert len(recording.errors) == 1 and len(recording.written) == 3
    assert (tmp_path / 'a_001.tif').read_text() == 'precious'
    assert RecordingFile(tmp_path / 'a.tif').pages == 3


def test_overwriting_removes_the_older_parts_and_nothing_else(tmp_path: Path) -> None:
    record(tmp_path / 'a.tif', 15, split_frames=3)
    record(tmp_path / 'a_006.tif', 2)                     # someone's own recording
    (tmp_path / 'a_007.tif').write_text('precious')
    (tmp_path / 'ab_001.tif').write_text('precious')
    record(tmp_path / 'a.tif', 5, split_frames=3, overwrite=True)
    assert sorted(os.listdir(tmp_path)) == ['a.tif', 'a_001.tif', 'a_006.tif', 'a_007.tif', 'ab_001.tif']
    assert RecordingFile(tmp_path / 'a_001.tif').pages == 2
    assert is_part(tmp_path / 'a_001.tif', 1) and not is_part(tmp_path / 'a_006.tif', 6)


# ---------------------------------------------------------------------- failures

def test_a_failed_sync_ends_the_recording_and_is_not_retried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def broken(fd: int) -> None:
        calls.append(fd)
        if len(calls) == 2:
            raise OSError(errno.EIO, 'Input/output error')
    monkeypatch.setattr(bigtiff.os, 'fdatasync', broken)
    recording = Recording(tmp_path / 'a.tif', sync_interval_s=0.01)
    failed = threading.Event()
    recording.sink._on_error = lambda error: (recording.errors.append(error), failed.set())   # type: ignore[assignment]
    for number in range(100_000):
        recording.submit([number])
        if failed.wait(0.001):
            break
    recording.submit([0])
    with pytest.raises(RecordingFileError, match='cannot be synced.*check the disk'):
        recording.finish()
    assert len(calls) == 2 and len(recording.errors) == 1
    with RecordingFile(tmp_path / 'a.tif') as file:
        assert not file.finished and all(file.verify_page(page) for page in range(file.pages))


def test_a_full_disk_is_said_and_what_was_written_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwritev
    room = 40_000

    def filling(fd: int, buffers: Sequence[Any], offset: int) -> int:
        if offset >= room:
            raise OSError(errno.ENOSPC, 'No space left on device')
        return real(fd, [b''.join(buffers)[:room - offset]], offset)
    monkeypatch.setattr(bigtiff.os, 'pwritev', filling)
    recording = Recording(tmp_path / 'a.tif')
    recording.submit(range(500))
    with pytest.raises(RecordingFileError, match='No space left.*make room'):
        recording.finish()
    assert len(recording.errors) == 1 and str(recording.errors[0])
    with RecordingFile(tmp_path / 'a.tif') as file:
        assert file.pages == len(recording.written) >= 25      # of some 1,250 bytes each
        assert all(file.verify_page(page) for page in range(file.pages))
        assert file.annotations == {}


def test_a_disk_that_fills_only_at_the_end_keeps_the_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recording = Recording(tmp_path / 'a.tif')
    recording.submit(range(20))
    real = os.pwritev

    def full(fd: int, buffers: Sequence[Any], offset: int) -> int:
        if any(b'<OME' in bytes(buffer) for buffer in buffers):
            raise OSError(errno.ENOSPC, 'No space left on device')
        return real(fd, buffers, offset)
    monkeypatch.setattr(bigtiff.os, 'pwritev', full)
    with pytest.raises(RecordingFileError, match='No space left'):
        recording.finish()
    with RecordingFile(tmp_path / 'a.tif') as file:
        assert file.pages == 20 and not file.finished


def test_a_real_limit_on_the_file_size(tmp_path: Path) -> None:
    script = '''
import resource, signal, sys
from pathlib import Path
import numpy as np
from ProcessedPiRecorder.recordings.page import PageRecord
from ProcessedPiRecorder.recordings.sink import PageJob, PageSink
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
errors = []
sink = PageSink(Path(sys.argv[1]), height=40, width=50, pixel_format='gray', level=0, on_written=lambda jobs: None,
                on_error=errors.append)
for number in range(1000):
    sink.submit(PageJob(np.full((40, 50), number % 256, np.uint8), PageRecord(number, number)))
try:
    sink.finish(lambda info: {})
except OSError as error:
    print(error, len(errors))
'''
    done = subprocess.run([sys.executable, '-c', script, str(tmp_path / 'a.tif')], capture_output=True, text=True,
                          timeout=50, cwd=Path(__file__).parent.parent)
    assert 'File too large' in done.stdout and done.stdout.endswith(' 1\n') and done.stderr == ''
    with RecordingFile(tmp_path / 'a.tif') as file:
        assert file.pages > 50
        assert all(file.verify_page(page) for page in range(file.pages))


def test_a_caller_that_fails_is_heard_of(tmp_path: Path) -> None:
    def bad(jobs: List[PageJob]) -> None:
        raise KeyError('token')
    errors: List[BaseException] = []
    sink = PageSink(tmp_path / 'a.tif', height=4, width=4, pixel_format='gray', level=6, on_written=bad,
                    on_error=errors.append)
    sink.submit(PageJob(np.zeros((4, 4), np.uint8), PageRecord(0, 0)))
    with pytest.raises(RecordingFileError, match='KeyError'):
        sink.finish(lambda info: {})
    assert len(errors) == 1


# ---------------------------------------------------------------------- formats

marks_of_pages = st.lists(st.fixed_dictionaries({'label': st.text(), 'time_ns': INT64}), max_size=3).map(tuple)
losses_of_pages = st.lists(st.fixed_dictionaries({'index': INT64, 'count': INT64, 'time_ns': st.none() | INT64,
                                                  'reason': st.text()}), max_size=2).map(tuple)
records = st.builds(PageRecord, INT64, INT64, st.none() | INT64, INT64, st.sampled_from(STATUSES), marks_of_pages,
                    st.none() | st.integers(0, 10**9).map(lambda micros: micros / 1000), st.none() | INT64,
                    losses_of_pages)


@given(st.integers(0, 2**40), st.integers(0, 2000), records, st.integers(0, 2), st.integers(0, 2**32 - 1))
def test_a_pages_text_holds_everything_and_guards_it(page: int, number: int, record: PageRecord, pressure: int,
                                                     crc: int) -> None:
    text, sealed = seal_text(open_text(page, number, record, 'huffman', pressure), crc)
    assert text.isascii() and 0 not in text
    stored = parse_text(text)
    assert stored == (page, number, record, 'huffman', sealed, pressure)
    assert text_is_intact(text, crc) and not text_is_intact(text, crc ^ 1)
    assert not text_is_intact(text.replace(b'"page":', b'"pagE":'), crc)


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode('utf-8', 'replace')))
def test_other_texts_are_refused(text: bytes) -> None:
    with pytest.raises(RecordingFormatError):
        parse_text(text)


@pytest.mark.parametrize('change', [{'ppr': 2}, {'index': 1.5}, {'index': 2**63}, {'index': True}, {'status': 'lost'},
                                    {'marks': 3}, {'marks': [{'label': 1}]}, {'crc32': 'xyz'}, {'cb_ms': 'long'},
                                    {'skew_ns': 0.5}, {'page': None}, {'pressure': 'high'}, {'lost': {}},
                                    {'lost': [{'index': 1, 'count': 1, 'time_ns': 0.5, 'reason': 'stall'}]}])
def test_texts_that_lie_are_refused(change: Dict[str, Any]) -> None:
    text, _ = seal_text(open_text(0, 0, PageRecord(0, 0), 'rle'), 0)
    with pytest.raises(RecordingFormatError):
        parse_text(json.dumps({**json.loads(text), **change}).encode())


everything = st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
                          | st.text(st.characters()),
                          lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
                          max_leaves=8)


@settings(deadline=None)
@given(st.dictionaries(st.from_regex('[a-z]{1,9}', fullmatch=True), everything, max_size=3), st.text(max_size=12))
def test_annotations_survive_any_text(annotations: Dict[str, Any], name: str) -> None:
    xml = ome_xml(FileFacts(name, 2, 4, 5, 3, [10**18, 10**18 + 7], 10**18 + 7), {**annotations, 'file': 1})
    assert xml.isascii()
    assert parse_annotations(xml) == {**annotations, 'file': 1}


def test_what_json_does_not_know_is_still_stored() -> None:
    xml = ome_xml(FileFacts('a', 1, 4, 5, 1, [0], 0), {'a': {'path': Path('/x'), 'nan': float('nan'), 'all': (1, 2)}})
    assert parse_annotations(xml) == {'a': {'path': '/x', 'nan': None, 'all': [1, 2]}}
    with pytest.raises(ValueError, match='letters, digits'):
        ome_xml(FileFacts('a', 1, 4, 5, 1, [0], 0), {'a b': 1})


@pytest.mark.parametrize('xml', [b'', b'<', b'<OME>', b'<!DOCTYPE a><OME></OME>', b'<\0O\0', '<OME>ä</OME>'.encode()])
def test_xml_that_could_harm_or_is_none_is_refused(xml: bytes) -> None:
    with pytest.raises(RecordingFormatError):
        parse_annotations(xml)


def test_ome_of_others_is_not_ours() -> None:
    assert parse_annotations(b'<?xml version="1.0"?><OME></OME>') is None


def test_times_stand_in_the_ome_xml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tifffile
    record(tmp_path / 'a.tif', 3)
    with tifffile.TiffFile(tmp_path / 'a.tif') as tif:
        xml = tif.ome_metadata
    assert 'TheT="2" DeltaT="0.000002000" DeltaTUnit="s"' in xml and 'TimeIncrement=' not in xml
    for module in (ome, part):
        monkeypatch.setattr(module, 'MAX_PLANES', 3)
    record(tmp_path / 'b.tif', 5)
    with tifffile.TiffFile(tmp_path / 'b.tif') as tif:
        xml = tif.ome_metadata
    assert '<Plane' not in xml and 'TimeIncrement="0.000001000" TimeIncrementUnit="s"' in xml
    assert '<AcquisitionDate>2001-09-09T01:46:40.000000</AcquisitionDate>' in xml


# ---------------------------------------------------------------------- the index

def unfinish(path: Path) -> List[int]:
    """Let the header point to page 0 as it was first written, as before the end; returns where the IFDs are."""
    with RecordingFile(path) as file:
        ifds = [int(offset) for offset in file.index()['ifd_offset']]
    with open(path, 'r+b') as raw:
        raw.seek(8)
        raw.write(struct.pack('<Q', ifds[0]))
    return ifds


def test_the_index_tells_what_the_pages_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, 'PAGES_A_BLOCK', 16)
    record(tmp_path / 'a.tif', 100)
    with RecordingFile(tmp_path / 'a.tif') as file:
        assert len(file.annotations['file']['index']) == 7
        stored = file.index()
        assert not stored.flags.writeable
    unfinish(tmp_path / 'a.tif')
    with RecordingFile(tmp_path / 'a.tif') as file:
        assert not file.finished and file.annotations == {}
        np.testing.assert_array_equal(file.index(), stored)
        np.testing.assert_array_equal(file.read_page(99), picture(99))


def test_every_block_can_be_found_from_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, 'PAGES_A_BLOCK', 16)
    record(tmp_path / 'a.tif', 40)
    data = (tmp_path / 'a.tif').read_bytes()
    with RecordingFile(tmp_path / 'a.tif') as file:
        offset = file.annotations['file']['index'][-1]
    firsts = []
    while offset:
        header = index.parse_block_header(data[offset:])
        firsts.append((header.first_page, len(parse_block(data[offset:offset + header.size]))))
        offset = header.previous
    assert firsts == [(32, 8), (16, 16), (0, 16)]


def test_an_index_block_is_guarded() -> None:
    builder = IndexBuilder()
    builder.add(index_record(16, 32, 10, 200, PageRecord(1, 2), 'huffman', 7))
    block = builder.block(8)
    row = parse_block(block)[0]
    assert (row['ifd_offset'], row['sensor_ns'], row['effort'], row['status']) == (16, -2**63, 2, 0)
    for position in range(len(block)):
        if not 44 <= position < 48:              # the four bytes that are nothing
            broken = bytearray(block)
            broken[position] ^= 4
            with pytest.raises(RecordingFormatError):
                parse_block(bytes(broken))


# ---------------------------------------------------------------------- hostile files

@pytest.fixture(scope='module')
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp('good') / 'a.tif'
    record(path, 6, {'report': {'x': 1}})
    return path.read_bytes()


def use(path: Path) -> None:
    """Everything a reader does."""
    with RecordingFile(path) as file:
        for page in range(file.pages):
            file.page_record(page)
            file.read_page(page)
            file.verify_page(page)


def test_other_files_are_refused(tmp_path: Path) -> None:
    import tifffile
    tifffile.imwrite(tmp_path / 'classic.tif', np.zeros((4, 4), np.uint8))
    tifffile.imwrite(tmp_path / 'big.tif', np.zeros((4, 4), np.uint8), bigtiff=True)
    tifffile.imwrite(tmp_path / 'ome.ome.tif', np.zeros((4, 4), np.uint8), bigtiff=True)
    (tmp_path / 'text.tif').write_text('hello, this is no image at all')
    (tmp_path / 'empty.tif').write_bytes(b'')
    for path in tmp_path.iterdir():
        assert not is_recording(path)
        with pytest.raises(RecordingFormatError, match=path.name):
            RecordingFile(path)
    for path, message in ((tmp_path / 'absent', 'no such file'), (tmp_path, 'folder')):
        with pytest.raises(RecordingFileError, match=message):
            RecordingFile(path)


def test_a_file_without_a_page_yet(tmp_path: Path) -> None:
    (tmp_path / 'a.tif').write_bytes(struct.pack('<2sHHHQ', b'II', 43, 8, 0, 0))
    with pytest.raises(RecordingFormatError, match='no page yet'):
        RecordingFile(tmp_path / 'a.tif')


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damage_is_an_error_never_a_hang(good: bytes, tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    broken = bytearray(good[:data.draw(st.integers(0, len(good)))] if data.draw(st.booleans()) else good)
    for _ in range(data.draw(st.integers(0, 4))):
        if broken:
            position = data.draw(st.integers(0, len(broken) - 1))
            value = data.draw(st.sampled_from([0, 255]) | st.integers(0, 255))
            broken[position:position + data.draw(st.integers(1, 8))] = bytes([value] * 4)
    path = tmp_path_factory.getbasetemp() / 'broken.tif'
    path.write_bytes(broken)
    try:
        use(path)
    except RecordingFormatError:
        pass


def test_a_chain_that_loops_is_an_error(tmp_path: Path) -> None:
    recording = Recording(tmp_path / 'a.tif')
    recording.submit(range(5))
    recording.finish()
    ifds = unfinish(tmp_path / 'a.tif')
    data = bytearray((tmp_path / 'a.tif').read_bytes())
    struct.pack_into('<Q', data, ifds[4] + 8 + 20 * 16, ifds[1])
    (tmp_path / 'a.tif').write_bytes(data)
    with RecordingFile(tmp_path / 'a.tif') as file:
        with pytest.raises(RecordingFormatError, match='lies before it'):
            assert file.pages


def test_a_page_that_claims_to_be_huge_is_refused(tmp_path: Path, good: bytes) -> None:
    data = bytearray(good)
    first, = struct.unpack_from('<Q', data, 8)
    for entry in range(16):
        tag, = struct.unpack_from('<H', data, first + 8 + 20 * entry)
        if tag in (256, 257, 278):
            struct.pack_into('<Q', data, first + 8 + 20 * entry + 12, 40_000)
    (tmp_path / 'a.tif').write_bytes(data)
    with pytest.raises(RecordingFormatError):
        RecordingFile(tmp_path / 'a.tif')


# ---------------------------------------------------------------------- the frame log

def test_the_frame_log_has_a_row_a_frame(tmp_path: Path) -> None:
    recording = Recording(tmp_path / 'a.tif')
    recording.submit(range(3))
    recording.submit([7], sensor_ns=5, host_ns=6, status='failed', cb_ms=1.5)
    recording.finish()
    log = FrameLog(tmp_path / 'a.csv')
    for job in recording.written:
        log.add(job)
    log.flush()
    log.close()
    log.close()
    with open(tmp_path / 'a.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS and [row['index'] for row in rows] == ['0', '1', '2', '7']
    assert rows[0]['sensor_ns'] == rows[0]['callback_ms'] == ''
    assert (rows[3]['sensor_ns'], rows[3]['status'], rows[3]['callback_ms']) == ('5', 'failed', '1.500')
    assert int(rows[3]['bytes']) == recording.written[3].nbytes
    with pytest.raises(RecordingFileError, match='is closed'):
        log.add(recording.written[0])


def test_an_existing_log_stays_unless_overwritten(tmp_path: Path) -> None:
    (tmp_path / 'a.csv').write_text('precious')
    with pytest.raises(RecordingFileError, match='exists already'):
        FrameLog(tmp_path / 'a.csv')
    assert (tmp_path / 'a.csv').read_text() == 'precious'
    FrameLog(tmp_path / 'a.csv', overwrite=True).close()
    assert (tmp_path / 'a.csv').read_text().startswith('page,index,')


def test_a_log_that_cannot_be_written_says_so() -> None:
    with pytest.raises(RecordingFileError, match='No space left.*make room'):
        FrameLog(Path('/dev/full'), overwrite=True)
    with pytest.raises(RecordingFileError, match='make the folder first'):
        FrameLog(Path('/absent/a.csv'))
