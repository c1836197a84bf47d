"""Verification: nothing that differs from what was recorded may pass, and nothing that was recorded may be refused."""

from __future__ import annotations

import fcntl
import json
import os
import random
import shutil
import struct
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Set, Tuple

import pytest
from recording_tools import recorder

from ProcessedPiRecorder.errors import RecorderError, RecordingFileError, RecordingFormatError
from ProcessedPiRecorder.recordings.bigtiff import lock_file
from ProcessedPiRecorder.recordings.deflate import crc32
from ProcessedPiRecorder.recordings.index import index_block
from ProcessedPiRecorder.recordings.ome import parse_annotations
from ProcessedPiRecorder.recordings.page import seal_text
from ProcessedPiRecorder.recordings.reader import RecordingFile
from ProcessedPiRecorder.recordings.repair import repair
from ProcessedPiRecorder.recordings.results import ResultsFile, results_path
from ProcessedPiRecorder.recordings.verification import Verification, verify
from ProcessedPiRecorder.recordings.verification import findings as findings_module
from ProcessedPiRecorder.recordings.verification.recorded_file import RecordedFile
from ProcessedPiRecorder.report import Loss, Report
from tests.faults.tiny import Tiny, make_tiny, make_unfinished

GRAY: Dict[str, Any] = {'level': 0, 'pixel_format': 'gray'}


def kinds(verification: Verification) -> Set[str]:
    return {finding.kind for finding in verification.findings}


def texts(verification: Verification) -> str:
    return '\n'.join(map(str, verification.findings))


@pytest.fixture
def tiny(tmp_path: Path) -> Tiny:
    """Uncompressed and gray: all pages have the same size, so that they can be exchanged."""
    return make_tiny(tmp_path / 'a.tif', pages=6, **GRAY)


# ---------------------------------------------------------------------- what is whole passes

def shout(buffer: Any, cb_queue: Any) -> Any:
    number = buffer[-1].index
    if number % 7 == 3:
        raise ValueError('on purpose')
    cb_queue.put({'n': number})
    return None if number % 2 else 255 - buffer[-1]


@pytest.mark.parametrize('options', [
    {}, {'split_frames': 11}, {'tif_compression': 0, 'pixel_format': 'gray'},
    {'callback': shout, 'metadata': {'a': 'Ä'}},
    {'controls': {'frames': 40, 'skip': [0, 3, 4, 39]}},
    {'callback': shout, 'split_frames': 10, 'cb_type': '2Proc', 'controls': {'frames': 40, 'skip': [3, 4, 20]}}])
def test_recordings_pass(tmp_path: Path, options: Dict[str, Any]) -> None:
    rec = recorder(tmp_path / 'a.tif', blocking=False, **options)
    rec.recordVid()
    try:
        rec.wait()
    except RecorderError as error:
        assert 'on purpose' in str(error)
    for path in rec.report.files:                        # any file leads to all
        verification = verify(path)
        assert verification.ok, texts(verification)
        assert verification.finished and [str(file) for file in verification.files] == rec.report.files
        assert verification.pages == rec.report.written and verification.report.complete == rec.report.complete
    json.dumps(verification.as_dict())


@pytest.mark.parametrize('options', [{}, GRAY, {'split': 4}, {'pages': 1}, {'results': 9}, {'lost_before': (0, 1, 2)}])
@pytest.mark.parametrize('threads', [1, 3])
def test_tiny_recordings_pass(tmp_path: Path, options: Dict[str, Any], threads: int) -> None:
    seen: List[Tuple[int, int]] = []
    tiny = make_tiny(tmp_path / 'a.tif', **{'pages': 9, **options})
    verification = verify(tiny.path, threads=threads, progress=lambda done, total: seen.append((done, total)))
    assert verification.ok, texts(verification)
    assert [done for done, _ in seen] == list(range(1, len(tiny.truth) + 1)) and seen[-1][0] == seen[-1][1]
    assert verification.results == (9 if options.get('results') else None)


def test_more_pages_than_an_index_block_holds(tmp_path: Path) -> None:
    tiny = make_tiny(tmp_path / 'a.tif', pages=4100, height=2, width=2, **GRAY)
    assert verify(tiny.path).ok
    with RecordingFile(tiny.path) as recording:
        first, last = recording.annotations['file']['index']
    for place in (first + 48 + 70, last + 40):
        with flipped(tiny.path, place, 0):
            verification = verify(tiny.path)
            assert kinds(verification) >= {'index'} and verification.pages == 4100


def test_a_renamed_recording_passes(tmp_path: Path) -> None:
    files = make_tiny(tmp_path / 'a.tif', pages=5, split=2).files
    for old, new in zip(files, ('mouse.tif', 'mouse_001.tif', 'mouse_002.tif')):
        old.rename(tmp_path / new)
    assert verify(tmp_path / 'mouse_001.tif').ok


def test_a_recording_beside_one_of_a_similar_name_passes(tmp_path: Path) -> None:
    make_tiny(tmp_path / 'a.tif')
    make_tiny(tmp_path / 'a_001.tif')
    make_tiny(tmp_path / 'b.tif', split=2)
    make_tiny(tmp_path / 'b_002.tif')
    for name in ('a.tif', 'a_001.tif', 'b.tif', 'b_002.tif'):
        assert verify(tmp_path / name).ok, name


# ---------------------------------------------------------------------- every bit

class flipped:
    """One bit of a file, turned round for a moment."""

    def __init__(self, path: Path, place: int, bit: int) -> None:
        self._path, self._place, self._bit = path, place, bit

    def _flip(self) -> None:
        fd = os.open(self._path, os.O_RDWR)
        byte = os.pread(fd, 1, self._place)[0]
        os.pwrite(fd, bytes([byte ^ 1 << self._bit]), self._place)
        os.close(fd)

    def __enter__(self) -> None:
        self._flip()

    def __exit__(self, *exc: Any) -> None:
        self._flip()


def is_found(path: Path) -> bool:
    try:
        return not verify(path, threads=1).ok
    except RecordingFormatError:
        return True


def bits_of(path: Path, every: bool) -> Iterator[Tuple[int, int]]:
    choose = random.Random(4)
    for place in range(path.stat().st_size):
        yield from ((place, bit) for bit in (range(8) if every else (choose.randrange(8),)))


@pytest.mark.parametrize('options', [GRAY, {}])
def test_a_flipped_bit_in_any_byte_is_found(tmp_path: Path, options: Dict[str, Any]) -> None:
    path = make_tiny(tmp_path / 'a.tif', pages=2, height=3, width=3, **options).path
    missed = []
    for place, bit in bits_of(path, every=False):
        with flipped(path, place, bit):
            if not is_found(path):
                missed.append((place, bit))
    assert not missed and verify(path).ok


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize('options', [GRAY, {'split': 1}])
def test_every_single_flipped_bit_is_found(tmp_path: Path, options: Dict[str, Any]) -> None:
    files = make_tiny(tmp_path / 'a.tif', pages=2, height=2, width=2, annotations={}, **options).files
    for path in files:
        for place, bit in bits_of(path, every=True):
            with flipped(path, place, bit):
                assert is_found(files[0]), (path, place, bit)


def test_a_file_that_ends_early_is_found_wherever_it_ends(tmp_path: Path) -> None:
    path = make_tiny(tmp_path / 'a.tif', pages=2, height=3, width=3).path
    for size in range(path.stat().st_size - 1, -1, -1):
        os.truncate(path, size)
        assert is_found(path), size


# ---------------------------------------------------------------------- what somebody may have done to it

class Surgery:
    """A finished recording of pages of one size, taken to pieces and put together again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data = bytearray(path.read_bytes())
        with RecordingFile(path) as recording:
            self.rows = recording.index().copy()
            self.texts = [recording.page_text(page) for page in range(recording.pages)]
            self.first = recording._first
            self.block, = recording.annotations['file']['index']

    def extent(self, page: int) -> slice:
        """From a page's strip to the end of its IFD."""
        start = int(self.rows['strip_offset'][page])
        ends = [int(start) for start in self.rows['strip_offset'][1:]] + [self.block]
        return slice(start, ends[page])

    def link_at(self, page: int) -> int:
        return self.extent(page).stop - 8

    def set_link(self, at: int, to: int) -> None:
        struct.pack_into('<Q', self.data, at, to)

    def set_text(self, page: int, text: bytes) -> None:
        assert len(text) == len(self.texts[page])
        start = int(self.rows['strip_offset'][page] + self.rows['strip_length'][page])
        self.data[start:start + len(text)] = text

    def edited(self, page: int, old: bytes, new: bytes, reseal: bool) -> bytes:
        text = self.texts[page]
        assert text.count(old) == 1 and len(old) == len(new)
        text = text.replace(old, new)
        if not reseal:
            return text
        row = self.rows[page]
        start = int(row['strip_offset'])
        sealed, crc = seal_text(text[:-20], crc32(bytes(self.data[start:start + int(row['strip_length'])])))
        self.rows['crc32'][page] = crc
        return sealed

    def rewrite_index(self) -> None:
        block = index_block(self.rows.tobytes(), 0, 0)
        self.data[self.block:self.block + len(block)] = block

    def edit_xml(self, old: bytes, new: bytes) -> None:
        """Change the description, and seal it again."""
        assert len(old) == len(new)
        place = slice(self.first.text_offset, self.first.text_offset + self.first.text_length)
        xml = bytes(self.data[place])
        assert old in xml, old
        xml = xml.replace(old, new, 1)
        sealed = xml.rindex(b'"', 0, xml.rindex(b'"'))
        self.data[place] = xml[:sealed] + b'"%08x"' % crc32(xml[:sealed]) + xml[sealed + 10:]

    def verify(self) -> Verification:
        self.path.write_bytes(self.data)
        return verify(self.path)


def test_surgery_without_a_change_passes(tiny: Tiny) -> None:
    surgery = Surgery(tiny.path)
    surgery.set_text(2, surgery.edited(2, b'"ppr":1', b'"ppr":1', reseal=True))
    surgery.rewrite_index()
    surgery.edit_xml(b'M&lt;1', b'M&lt;1')
    assert surgery.verify().ok


def test_a_removed_page(tiny: Tiny) -> None:
    surgery = Surgery(tiny.path)
    del surgery.data[surgery.extent(3)]
    assert not surgery.verify().ok


def test_a_page_taken_out_of_the_chain(tiny: Tiny) -> None:
    surgery = Surgery(tiny.path)
    surgery.set_link(surgery.link_at(2), int(surgery.rows['ifd_offset'][4]))
    verification = surgery.verify()
    assert ('link', 2) in [finding[0:3:2] for finding in verification.findings]


def test_a_page_whose_bytes_are_erased(tiny: Tiny) -> None:
    surgery = Surgery(tiny.path)
    place = surgery.extent(3)
    surgery.data[place] = bytes(place.stop - place.start)
    assert {finding.page for finding in surgery.verify().findings} == {3}


@pytest.fixture
def alike(tmp_path: Path) -> Tiny:
    """Pages 2 and 3 differ in pixels and digits only."""
    return make_tiny(tmp_path / 'a.tif', pages=6, lost_before=(), statuses=('raw',), **GRAY)


def test_two_pages_swapped(alike: Tiny) -> None:
    surgery = Surgery(alike.path)
    one, two = surgery.extent(2), surgery.extent(3)
    assert one.stop - one.start == two.stop - two.start
    surgery.data[one], surgery.data[two] = surgery.data[two], surgery.data[one]
    assert kinds(surgery.verify()) >= {'order', 'index'}


def test_two_pages_swapped_by_their_links(tiny: Tiny) -> None:
    surgery = Surgery(tiny.path)
    ifds = surgery.rows['ifd_offset']
    for page, to in ((1, 3), (3, 2), (2, 4)):
        surgery.set_link(surgery.link_at(page), int(ifds[to]))
    assert {finding[0:3:2] for finding in surgery.verify().findings} == {('link', 1), ('link', 2), ('link', 3)}


def test_the_texts_of_two_pages_swapped(alike: Tiny) -> None:
    surgery = Surgery(alike.path)
    surgery.set_text(2, surgery.texts[3])
    surgery.set_text(3, surgery.texts[2])
    assert kinds(surgery.verify()) >= {'checksum', 'order'}


@pytest.mark.parametrize('page', [0, 1, 5])
@pytest.mark.parametrize('effort', ['edit', 're-seal', 're-seal and index', 're-seal, index and page0'])
def test_an_edited_timestamp(tiny: Tiny, page: int, effort: str) -> None:
    surgery = Surgery(tiny.path)
    time_ns = int(surgery.rows['time_ns'][page])
    old, new = b'"time_ns":%d,"sensor' % time_ns, b'"time_ns":%d,"sensor' % (time_ns + 3_000_000)
    text = surgery.edited(page, old, new, reseal=effort != 'edit')
    surgery.set_text(page, text)
    if 'index' in effort:
        surgery.rows['time_ns'][page] += 3_000_000
        surgery.rewrite_index()
    if 'page0' in effort and page == 0:
        stored = json.dumps(surgery.texts[0].decode())[1:-1].encode()
        surgery.edit_xml(stored, json.dumps(text.decode())[1:-1].encode())
    found = kinds(surgery.verify())
    assert found >= ({'checksum'} if effort == 'edit' else {'index'} if effort == 're-seal' else {'description'})


def test_a_duplicated_page(tiny: Tiny) -> None:
    surgery = Surgery(tiny.path)
    place = surgery.extent(2)
    surgery.data[place.stop:place.stop] = surgery.data[place]
    assert not surgery.verify().ok


def test_a_page_over_another_one(alike: Tiny) -> None:
    surgery = Surgery(alike.path)
    surgery.data[surgery.extent(2)] = surgery.data[surgery.extent(3)]
    assert kinds(surgery.verify()) >= {'order', 'index'}


def test_an_index_that_tells_of_a_page_twice(alike: Tiny) -> None:
    surgery = Surgery(alike.path)
    surgery.rows[2] = surgery.rows[3]
    surgery.rewrite_index()
    assert kinds(surgery.verify()) >= {'layout', 'link', 'order'}


def test_a_page_of_another_recording(tmp_path: Path, tiny: Tiny) -> None:
    surgery = Surgery(tiny.path)
    other = Surgery(make_tiny(tmp_path / 'b.tif', pages=6, seed=5, begin_ns=1_700_000_009_000_000_000, **GRAY).path)
    place = surgery.extent(3)
    assert place == other.extent(3)
    surgery.data[place] = other.data[place]
    found = surgery.verify()
    assert kinds(found) >= {'index', 'description', 'order', 'report'} and 'checksum' not in kinds(found)


@pytest.mark.parametrize('tail', [b'\0', b'behind the end', None])
def test_something_appended(tiny: Tiny, tail: Any) -> None:
    surgery = Surgery(tiny.path)
    surgery.data += bytes(surgery.data) if tail is None else tail
    assert kinds(surgery.verify()) == {'layout'}


@pytest.mark.parametrize(('old', 'new'), [
    (b'"complete": "no"', b'"complete":"yes"'), (b'"lost": 2, "losses"', b'"lost": 1, "losses"'),
    (b'"reason": "ring full"', b'"reason": "no reason"'), (b'"count": 2', b'"count": 3'),
    (b'"captured": 6', b'"captured": 7'),
    (b'"sensor": 8', b'"sensor": 9'), (b'"written": 6', b'"written": 5'), (b'"processed": 4', b'"processed": 3'),
    (b'"returned": 2', b'"returned": 1'), (b'"bypassed": 1', b'"bypassed": 2'), (b'"failed": 1', b'"failed": 0'),
    (b'"effort": {"none": 6}', b'"effort": {"none": 5}'), (b'"raw_bytes": 210', b'"raw_bytes": 211'),
    (b'"effort_under_pressure": 0', b'"effort_under_pressure": 1'),
    (b'"compression_ratio": 1.0', b'"compression_ratio": 1.1'),
    (b'"duration_s": 0.07', b'"duration_s": 0.08'), (b'"started": "2023', b'"started": "2024'),
    (b'"files": ["a.tif"]', b'"files": ["b.tif"]'), (b'"results": 0', b'"results": 1'),
    (b'"label": "light', b'"label": "night'), (b'"rate_hz": 71', b'"rate_hz": 72'),
    (b'"slowest_interval_ms": 30', b'"slowest_interval_ms": 31'), (b'DeltaT="0.010000000"', b'DeltaT="0.011000000"'),
    (b'SizeT="6"', b'SizeT="5"'), (b'SizeX="7"', b'SizeX="8"'), (b'<AcquisitionDate>2023', b'<AcquisitionDate>2024'),
    (b'"pages": 6', b'"pages": 5'), (b'"first_page": 0', b'"first_page": 1'), (b'M&lt;1', b'M&lt;2'),
    (b'"parts": ["a', b'"parts": ["b'), (b'"last": true', b'"last": null'), (b'"file_bytes": ', b'"file_bytes":1'),
    (b'\\"index\\":0', b'\\"index\\":1'), (b'"lost": 2, "losses"', b'"lost":"x","losses"')])
def test_an_edited_description(tiny: Tiny, old: bytes, new: bytes) -> None:
    surgery = Surgery(tiny.path)
    surgery.edit_xml(old, new)
    found = surgery.verify()
    assert kinds(found) and kinds(found) <= {'description', 'report', 'index', 'parts', 'results'}, texts(found)


def test_a_report_that_nobody_can_read(tiny: Tiny) -> None:
    surgery = Surgery(tiny.path)
    surgery.edit_xml(b'"complete": "no"', b'"complete": "??"')
    assert kinds(surgery.verify()) == {'report'}


def test_a_damaged_description_does_not_keep_the_pages_from_being_checked(tiny: Tiny) -> None:
    surgery = Surgery(tiny.path)
    surgery.data[surgery.first.text_offset + 60] ^= 128
    surgery.data[surgery.extent(4).start] ^= 1
    found = surgery.verify()
    assert found.pages == 6 and kinds(found) == {'description', 'checksum'}
    assert [finding.page for finding in found.findings if finding.kind == 'checksum'] == [4]


# ---------------------------------------------------------------------- losses, clocks

def test_losses_that_the_report_sums_up() -> None:
    from ProcessedPiRecorder.recordings.verification import ledger
    pages = [Loss(10 * number, 1, number, 'ring full') for number in range(10_500)]
    told = pages[:9_999] + [Loss(pages[9_999].index, 501, 9_999, 'other', 'all further losses, summed up')]
    assert ledger._matched(told, list(pages)) == []
    told[-1] = Loss(pages[9_999].index, 500, 9_999, 'other')
    assert ledger._matched(told, list(pages)) is None


def test_losses_that_a_page_sums_up() -> None:
    from ProcessedPiRecorder.recordings.verification import ledger
    told = [Loss(5, 1, 7, 'ring full'), Loss(6, 2, 7, 'camera gap'), Loss(8, 1, 8, 'ring full'),
            Loss(20, 1, 9, 'stall')]
    pages = [Loss(5, 1, 7, 'ring full'), Loss(6, 3, 7, 'other')]
    assert ledger._matched(told, pages) == told[3:]
    assert ledger._matched([*told[:2], *told[3:]], [Loss(5, 1, 7, 'ring full'), Loss(6, 3, 7, 'other')]) is None


def test_losses_behind_the_last_page(tmp_path: Path) -> None:
    rec = recorder(tmp_path / 'a.tif', controls={'frames': 20, 'skip': [18, 19]})
    rec.recordVid()
    assert rec.report.lost == 0 or verify(rec.tif_path).ok


@pytest.mark.parametrize(('counted', 'passes'), [(1, True), (0, False)])
def test_a_sensor_clock_that_was_set_back(counted: int, passes: bool) -> None:
    from ProcessedPiRecorder.recordings.tally import Tally
    from ProcessedPiRecorder.recordings.verification.ledger import FileBytesTold, disagreements
    report = Report('yes', clock={'not_increasing': counted, 'moved_times': 0})
    told = list(disagreements(report, Tally(1), [], FileBytesTold(0, 0, 0), 1, 0))
    assert ('sensor time' in ''.join(told)) is not passes


# ---------------------------------------------------------------------- files

def test_unfinished(tmp_path: Path) -> None:
    tiny = make_tiny(tmp_path / 'a.tif', pages=6, finish=False, **GRAY)
    verification = verify(tiny.path)
    assert kinds(verification) == {'unfinished'} and not verification.finished and verification.pages == 6
    assert 'ppr repair a.tif' in texts(verification) and verification.report is None
    with open(tiny.path, 'r+b') as file:
        assert lock_file(file.fileno())
        assert 'is being recorded at this moment' in texts(verify(tiny.path))
    with RecordingFile(tiny.path) as recording:
        place = int(recording.index()['strip_offset'][4])
    with flipped(tiny.path, place, 3):
        assert kinds(verify(tiny.path)) == {'unfinished', 'checksum'}


def test_nothing_linked_yet(tmp_path: Path) -> None:
    tiny = make_tiny(tmp_path / 'a.tif')
    with open(tiny.path, 'r+b') as file:
        file.seek(8)
        file.write(bytes(8))
    verification = verify(tiny.path)
    assert kinds(verification) == {'unfinished'} and verification.pages == 0


@pytest.mark.parametrize('given', [0, 1, 3])
@pytest.mark.parametrize('removed', [0, 1, 2, 3])
def test_a_removed_part(tmp_path: Path, given: int, removed: int) -> None:
    files = make_tiny(tmp_path / 'a.tif', pages=7, split=2).files
    files[removed].unlink()
    if given == removed:
        with pytest.raises(RecordingFileError):
            verify(files[given])
    else:
        verification = verify(files[given])
        assert kinds(verification) == {'parts'} and files[removed].name in texts(verification)
        assert verification.pages == 7 - (1 if removed == 3 else 2)


def test_a_removed_end(tmp_path: Path) -> None:
    files = make_tiny(tmp_path / 'a.tif', pages=7, split=2).files
    for path in files[2:]:
        path.unlink()
    assert kinds(verify(files[0])) == kinds(verify(files[1])) == {'parts'}


def test_swapped_parts(tmp_path: Path) -> None:
    files = make_tiny(tmp_path / 'a.tif', pages=7, split=2).files
    shutil.move(files[1], tmp_path / 'c')
    shutil.move(files[2], files[1])
    shutil.move(tmp_path / 'c', files[2])
    assert kinds(verify(files[0])) >= {'parts', 'order'}


def test_a_part_of_another_recording(tmp_path: Path) -> None:
    files = make_tiny(tmp_path / 'a.tif', pages=7, split=2, **GRAY).files
    (tmp_path / 'other').mkdir()
    others = make_tiny(tmp_path / 'other' / 'a.tif', pages=7, split=2, seed=3,
                       begin_ns=1_700_000_005_000_000_000, **GRAY).files
    shutil.copy(others[1], files[1])
    assert not verify(files[0]).ok


def test_a_part_too_many(tmp_path: Path) -> None:
    files = make_tiny(tmp_path / 'a.tif', pages=7, split=2).files
    for path in files:
        path.unlink()
    older = make_tiny(tmp_path / 'a.tif', pages=7, split=2).files
    older[3].rename(tmp_path / 'kept')
    for path in older[:3]:
        path.unlink()
    files = make_tiny(tmp_path / 'a.tif', pages=6, split=2).files
    assert verify(files[0]).ok
    (tmp_path / 'kept').rename(older[3])
    found = verify(files[0])
    assert kinds(found) == {'parts'} and 'left over' in texts(found)


def test_a_part_that_is_no_recording_any_more(tmp_path: Path) -> None:
    files = make_tiny(tmp_path / 'a.tif', pages=7, split=2).files
    files[3].write_bytes(b'x' * 5000)
    assert 'unreadable' in kinds(verify(files[0]))


def test_a_part_under_a_name_of_its_own(tmp_path: Path) -> None:
    files = make_tiny(tmp_path / 'a.tif', pages=7, split=2).files
    found = verify(files[2].rename(tmp_path / 'alone.tif'))
    assert kinds(found) == {'parts'} and found.pages == 2


@pytest.mark.parametrize('content', [b'', b'text', b'II+\0\x08\0\0\0' + bytes(8), None])
def test_what_is_no_recording_is_refused(tmp_path: Path, content: Any) -> None:
    path = tmp_path / 'a.tif'
    if content is None:
        import numpy as np
        import tifffile
        tifffile.imwrite(path, np.zeros((3, 4, 5), np.uint8), photometric='minisblack', bigtiff=True, ome=True)
    else:
        path.write_bytes(content)
    with pytest.raises(RecordingFormatError):
        verify(path)
    with pytest.raises(RecordingFileError):
        verify(tmp_path / 'missing.tif')
    with pytest.raises(RecordingFileError):
        verify(tmp_path)


def test_no_report(tmp_path: Path) -> None:
    from test_recording_file import record
    record(tmp_path / 'a.tif', 3)
    found = verify(tmp_path / 'a.tif')
    assert kinds(found) == {'report'} and 'holds no report' in texts(found)


# ---------------------------------------------------------------------- results

def test_results_that_are_missing(tmp_path: Path) -> None:
    tiny = make_tiny(tmp_path / 'a.tif', results=5)
    tiny.results.unlink()
    found = verify(tiny.path)
    assert kinds(found) == {'results'} and found.results is None


CHANGES: Dict[str, Callable[[List[bytes]], List[bytes]]] = {
    'removed': lambda lines: lines[1:], 'doubled': lambda lines: [*lines, lines[0]],
    'torn': lambda lines: [*lines[:-1], lines[-1][:-1]], 'cut off': lambda lines: [*lines[:-1], lines[-1][:20]],
    'nonsense': lambda lines: [b'nonsense\n', *lines[1:]],
    'no frame': lambda lines: [lines[0].replace(b'"index": 0', b'"index": 1234567'), *lines[1:]],
    'lost frame': lambda lines: [lines[0].replace(b'"index": 0', b'"index": 2'), *lines[1:]],
    'other time': lambda lines: [lines[0].replace(b'"time_ns": 17', b'"time_ns": 16'), *lines[1:]],
    'no number': lambda lines: [lines[0].replace(b'"index": 0', b'"index": "0"'), *lines[1:]]}


@pytest.mark.parametrize('change', CHANGES)
def test_changed_results(tmp_path: Path, change: str) -> None:
    tiny = make_tiny(tmp_path / 'a.tif', results=5)
    lines = tiny.results.read_bytes().splitlines(keepends=True)
    changed = CHANGES[change](lines)
    assert changed != lines
    tiny.results.write_bytes(b''.join(changed))
    assert kinds(verify(tiny.path)) == {'results'}


def test_results_that_belong_to_no_frame_pass(tmp_path: Path) -> None:
    tiny = make_tiny(tmp_path / 'a.tif', results=5)
    lines = tiny.results.read_bytes().splitlines(keepends=True)
    with ResultsFile(results_path(tiny.path), append=True) as file:
        file.add(None, None, 'outside of any frame')
    tiny.results.write_bytes(b''.join(tiny.results.read_bytes().splitlines(keepends=True)[1:]))
    assert verify(tiny.path).ok and len(lines) == 5


# ---------------------------------------------------------------------- bounds, command line

def test_findings_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = make_tiny(tmp_path / 'a.tif', pages=20, **GRAY)
    surgery = Surgery(tiny.path)
    for page in range(20):
        surgery.data[surgery.extent(page).start] ^= 1
    monkeypatch.setattr(findings_module, 'MOST_FINDINGS', 7)
    found = surgery.verify()
    assert (len(found.findings), found.more) == (7, 13)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture, tiny: Tiny) -> None:
    from ProcessedPiRecorder.cli.verify import run_verify

    def told(**options: Any) -> Tuple[int, str]:
        code = run_verify(tiny.path, **{'as_json': False, 'threads': None, 'quiet': False, **options})
        return code, ' '.join(capsys.readouterr().out.split())

    code, out = told()
    assert code == 0 and 'VERIFIED the file agrees with its report' in out and 'complete: no, says its report' in out
    assert told(quiet=True) == (0, '')
    with flipped(tiny.path, Surgery(tiny.path).extent(3).start, 2):
        code, out = told(quiet=True)
        assert code == 1 and 'NOT VERIFIED' in out and 'checksum' in out and 'ppr repair' in out
        code, out = told(as_json=True)
        facts = json.loads(out)
        assert code == 1 and not facts['ok'] and facts['findings'][0]['page'] == 3 and facts['complete'] == 'no'
    make_tiny(tmp_path / 'b.tif', finish=False)
    assert run_verify(tmp_path / 'b.tif', as_json=False, threads=1, quiet=False) == 1
    assert 'UNFINISHED what can be read of it is whole' in ' '.join(capsys.readouterr().out.split())


def test_the_description_is_what_the_reader_reads(tiny: Tiny) -> None:
    surgery = Surgery(tiny.path)
    place = slice(surgery.first.text_offset, surgery.first.text_offset + surgery.first.text_length)
    assert parse_annotations(bytes(surgery.data[place]))['metadata'] == {'animal': 'M<1>'}


def test_a_recording_that_goes_on_while_it_is_verified_is_unfinished_and_nothing_else(
        tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recorder links its next pages behind those that were found when the file was opened."""
    make_unfinished(tiny.path)
    with RecordingFile(tiny.path) as recording:
        last_link = int(recording.index()['ifd_offset'][-1]) + 8 + 20 * 16
    walk = RecordedFile._walk

    def walk_and_record_on(recorded: RecordedFile) -> None:
        walk(recorded)
        with open(tiny.path, 'r+b') as file:
            file.seek(last_link)
            file.write((1 << 20).to_bytes(8, 'little'))

    monkeypatch.setattr(RecordedFile, '_walk', walk_and_record_on)
    with open(tiny.path, 'rb') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        found = verify(tiny.path)
    assert kinds(found) == {'unfinished'} and 'being recorded at this moment' in texts(found)


def test_a_recording_that_ends_while_it_is_verified(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = tiny.path.read_bytes()
    make_unfinished(tiny.path)
    walk, walked = RecordedFile._walk, []

    def walk_and_end(recorded: RecordedFile) -> None:
        walk(recorded)
        walked.append(1)
        if len(walked) == 2:                # the first one only finds out which recording it is
            tiny.path.write_bytes(ended)

    monkeypatch.setattr(RecordedFile, '_walk', walk_and_end)
    found = verify(tiny.path)
    assert kinds(found) == {'unfinished'} and 'verify it once more' in texts(found)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / 'pipe.tif')
    readers: List[Callable[[Path], Any]] = [verify, RecordingFile, repair]
    for what in readers:
        with pytest.raises(RecordingFileError, match='is a pipe, device or socket'):
            what(tmp_path / 'pipe.tif')
        with pytest.raises(RecordingFileError, match='is a folder'):
            what(tmp_path)
        with pytest.raises(RecordingFileError, match='there is no such file; check the path'):
            what(tmp_path / 'none.tif')


def test_files_behind_a_missing_one_are_not_taken_for_left_over_ones(tmp_path: Path) -> None:
    tiny = make_tiny(tmp_path / 'a.tif', pages=8, split=2)
    tiny.files[1].unlink()
    assert [finding.text for finding in verify(tiny.path).findings] == ['part 1 of the recording: not here']
