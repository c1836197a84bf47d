"""Pages copied into a new recording while they stay compressed: the bytes, the ledger, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest

from ProcessedPiRecorder.errors import RecordingFileError, RecordingFormatError
from ProcessedPiRecorder.reading import copying
from ProcessedPiRecorder.reading.copying import NewRecording
from ProcessedPiRecorder.recordings import decoder, encoder
from ProcessedPiRecorder.recordings.page import StoredPage, open_text, parse_text, rewritten, seal_text, text_is_intact
from ProcessedPiRecorder.recordings.reader import RecordingFile
from ProcessedPiRecorder.recordings.verification import verify
from ProcessedPiRecorder.report import Loss, Report
from tests.faults.tiny import Tiny, make_tiny

ROOT = Path(__file__).resolve().parent.parent
ABOUT: Dict[str, Any] = {'metadata': {'animal': 'M12'}, 'camera': {'model': 'none'}}


@pytest.fixture
def tiny(tmp_path: Path) -> Tiny:
    return make_tiny(tmp_path / 'a.tif', pages=8)


def told_alone(stored: StoredPage, **changes: Any) -> StoredPage:
    return stored._replace(record=stored.record._replace(**{'lost': (), **changes}))


def numbered(new: NewRecording, source: RecordingFile, pages: List[int]) -> None:
    """These pages, as if they were all that there ever was."""
    for page in pages:
        new.add(source, page, told_alone(source.stored_page(page), index=len(new)))


@pytest.mark.parametrize('options', [{}, {'level': 0, 'pixel_format': 'gray'}, {'level': 0}, {'pixel_format': 'gray'}])
def test_a_whole_file_copied_keeps_every_byte_of_its_pages(tmp_path: Path, options: Dict[str, Any]) -> None:
    path = make_tiny(tmp_path / 'a.tif', pages=8, **options).path
    with RecordingFile(path) as source:
        new = NewRecording(tmp_path / 'b.tif', source, source.about, 'b')
        for page in range(source.pages):
            new.add(source, page, source.stored_page(page))
        report = new.finish(Report('no', ['2 frames lost'], camera={}), {'more': [1]})
        assert verify(tmp_path / 'b.tif').ok and report.lost == 2
        with RecordingFile(tmp_path / 'b.tif') as copied:
            assert copied.recording == 'b' and copied.about == source.about and copied.annotations['more'] == [1]
            assert copied.annotations['report'] == report.as_dict()
            for page in range(source.pages):
                assert copied.encoded_page(page) == source.encoded_page(page)
                np.testing.assert_array_equal(copied.read_page(page), source.read_page(page))


def test_pages_of_several_recordings_become_one(tmp_path: Path) -> None:
    one = make_tiny(tmp_path / 'a.tif', pages=5, lost_before=())
    two = make_tiny(tmp_path / 'b.tif', pages=4, lost_before=(), begin_ns=1_700_000_001_000_000_000, split=2)
    with RecordingFile(one.path) as first, RecordingFile(two.files[0]) as second, RecordingFile(two.files[1]) as third:
        new = NewRecording(tmp_path / 'c.tif', first, ABOUT, name='c.tif')
        last_host = 0
        for source in (first, second, third):
            for page in range(source.pages):
                stored = source.stored_page(page)
                last_host = max(last_host, stored.record.host_ns)
                new.add(source, page, told_alone(stored, index=len(new), host_ns=last_host, sensor_ns=None))
        after = Loss(9, 3, None, 'stall')
        report = new.finish(Report('no', ['3 frames lost']), lost_after=[after],
                            marks_after=[{'label': 'late', 'time_ns': 5}])
    verification = verify(tmp_path / 'c.tif')
    assert verification.ok, verification.findings
    assert report.losses == [after] and (report.sensor, report.written) == (12, 9)
    assert report.marks[-1] == {'label': 'late', 'time_ns': 5}
    with RecordingFile(tmp_path / 'c.tif') as made:
        truth = {**one.truth, **two.truth}
        for page, time_ns in enumerate(made.times):
            np.testing.assert_array_equal(made.read_page(page), truth[int(time_ns)])


def test_nothing_is_decoded_or_encoded(tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError('a page was decoded or encoded')
    for module, names in ((decoder, ('decode_strip',)), (encoder, ('Encoder', 'encode_page'))):
        for name in names:
            if hasattr(module, name):
                monkeypatch.setattr(module, name, forbidden)
    monkeypatch.setattr('ProcessedPiRecorder.recordings.reader.decode_strip', forbidden)
    with RecordingFile(tiny.path) as source:
        new = NewRecording(tmp_path / 'b.tif', source, {})
        numbered(new, source, [1, 2, 5])
        new.finish(Report('yes'))


def test_a_page_that_is_damaged_is_not_sealed_anew(tmp_path: Path, tiny: Tiny) -> None:
    with RecordingFile(tiny.path) as source:
        row = source.index()[3]
    data = bytearray(tiny.path.read_bytes())
    data[int(row['strip_offset']) + 3] ^= 4
    tiny.path.write_bytes(data)
    with RecordingFile(tiny.path) as source:
        new = NewRecording(tmp_path / 'b.tif', source, {})
        with pytest.raises(RecordingFormatError, match=r'page 3 of .*a\.tif is damaged .*ppr repair'):
            numbered(new, source, [1, 2, 3, 4])
        assert len(new) == 2
        numbered(new, source, [5])                       # what is whole can still follow
        new.finish(Report('yes'))
    assert verify(tmp_path / 'b.tif').ok


@pytest.mark.parametrize('options', [{'level': 0}, {'pixel_format': 'gray'}, {'height': 6}])
def test_pages_of_another_kind_are_refused(tmp_path: Path, tiny: Tiny, options: Dict[str, Any]) -> None:
    other = make_tiny(tmp_path / 'o.tif', **options)
    with RecordingFile(tiny.path) as source, RecordingFile(other.path) as stranger:
        new = NewRecording(tmp_path / 'b.tif', source, {})
        with pytest.raises(RecordingFormatError, match='have to be alike'):
            new.add(stranger, 0, stranger.stored_page(0))
        new.abandon()
    assert not (tmp_path / 'b.tif').exists()


def test_what_belongs_to_the_pixels_cannot_be_told_otherwise(tmp_path: Path, tiny: Tiny) -> None:
    with RecordingFile(tiny.path) as source:
        new = NewRecording(tmp_path / 'b.tif', source, {})
        stored = source.stored_page(1)
        for wrong in (stored._replace(effort='none'), stored._replace(record=stored.record._replace(time_ns=3)),
                      stored._replace(record=stored.record._replace(status='returned'))):
            with pytest.raises(ValueError, match='can be told anew'):
                new.add(source, 1, wrong)
        with pytest.raises(ValueError, match='at least one page'):
            new.finish(Report('yes'))
        new.abandon()
        new.abandon()


def test_an_abandoned_one_leaves_nothing_and_a_finished_one_stays(tmp_path: Path, tiny: Tiny) -> None:
    with RecordingFile(tiny.path) as source:
        with pytest.raises(RecordingFileError, match='exists already'):
            NewRecording(tiny.path, source, {})
        new = NewRecording(tmp_path / '.part', source, ABOUT, name='b.tif')
        numbered(new, source, [0, 1])
        new.finish(Report('yes'))
        new.abandon()
    (tmp_path / '.part').rename(tmp_path / 'b.tif')
    verification = verify(tmp_path / 'b.tif')
    assert verification.ok and verification.report is not None and verification.report.files == ['b.tif']


def test_pages_that_were_encoded_elsewhere_come_in_as_well(tmp_path: Path, tiny: Tiny) -> None:
    with RecordingFile(tiny.path) as source:
        shape, stored = source.shape, told_alone(source.stored_page(1), index=0, status='returned')
        strip, pixels = source.encoded_page(1)[0], source.read_page(1)
    for name in ('judged.tif', 'unjudged.tif'):
        new = NewRecording(tmp_path / name, shape, ABOUT)
        new.add_encoded(strip, stored.record, stored.effort, 2)
        assert new.tally.by_status['returned'] == len(new) == 1
        if name == 'judged.tif':
            assert new.finish(Report('yes')).returned == 1 and verify(tmp_path / name).ok
        else:
            new.finish_unjudged()
        with RecordingFile(tmp_path / name) as made:
            assert made.finished and made.verify_page(0) and ('report' in made.annotations) == (name == 'judged.tif')
            assert made.stored_page(0)._replace(crc32=0) == stored._replace(page=0, crc32=0, pressure=2)
            np.testing.assert_array_equal(made.read_page(0), pixels)


def test_it_is_synced_as_it_grows(tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, 'SYNC_BYTES', 1000)
    synced: List[int] = []
    sync = os.fdatasync
    monkeypatch.setattr(os, 'fdatasync', lambda fd: (synced.append(os.fstat(fd).st_size), sync(fd))[1])
    with RecordingFile(tiny.path) as source:
        new = NewRecording(tmp_path / 'b.tif', source, {})
        numbered(new, source, list(range(8)))
        assert len(synced) >= 3 and all(after - before < 3000 for before, after in zip(synced, synced[1:]))
        new.abandon()


def test_more_pages_than_a_block_of_the_index_or_the_description_hold(tmp_path: Path,
                                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ('ome', 'part', 'verification.description', 'verification.sequence'):
        monkeypatch.setattr(f'ProcessedPiRecorder.recordings.{module}.MAX_PLANES', 3000)
    path = make_tiny(tmp_path / 'a.tif', pages=4200, height=2, width=2, level=0, pixel_format='gray').path
    with RecordingFile(path) as source:
        new = NewRecording(tmp_path / 'b.tif', source, {})
        numbered(new, source, list(range(10, 4190)))
        new.finish(Report('yes'))
    verification = verify(tmp_path / 'b.tif', threads=1)
    assert verification.ok and verification.pages == 4180
    with RecordingFile(tmp_path / 'b.tif') as copied:
        assert len(copied.annotations['file']['index']) == 2


def test_texts_of_a_newer_version_keep_what_they_tell(tiny: Tiny) -> None:
    with RecordingFile(tiny.path) as source:
        stored, text = source.stored_page(1), source.page_text(1)
    newer, _ = seal_text(text[:-20] + b',"focus":{"mm":3}', 17)
    changed = stored._replace(page=5, record=stored.record._replace(
        index=77, lost=({'index': 70, 'count': 7, 'time_ns': None, 'reason': 'stall'},), marks=()))
    again, crc = rewritten(newer, stored, changed, 17)
    assert text_is_intact(again, 17) and json.loads(again)['focus'] == {'mm': 3}
    assert parse_text(again) == changed._replace(crc32=crc)
    same, _ = rewritten(text, stored, changed, 17)
    assert same[:-20] == open_text(5, 0, changed.record, changed.effort)


def test_memory_does_not_grow_with_the_pages(tmp_path: Path) -> None:
    """What is kept of each is its time, and its record in the index."""
    make_tiny(tmp_path / 'a.tif', pages=64, height=200, width=200, level=0, lost_before=())
    script = '''if True:
        import resource, sys, gc
        from ProcessedPiRecorder.reading.copying import NewRecording
        from ProcessedPiRecorder.recordings.reader import RecordingFile
        from ProcessedPiRecorder.report import Report
        with RecordingFile('a.tif') as source:
            new = NewRecording('b.tif', source, {})
            peaks = []
            for page in range(600):
                stored = source.stored_page(page % 64)
                new.add(source, page % 64, stored._replace(record=stored.record._replace(index=page)))
                peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
            print(peaks[-1] - peaks[50])
            new.abandon()
    '''
    done = subprocess.run([sys.executable, '-c', script], cwd=tmp_path, env={**os.environ, 'PYTHONPATH': str(ROOT)},
                          check=True, capture_output=True, text=True)
    assert int(done.stdout) < 20_000                      # KiB; 600 pages are 72,000
