"""What is no recording, or is one no more: right frames, or one of our errors that names the file; nothing else."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import time
import tracemalloc
from pathlib import Path
from typing import Any, Callable, List, Tuple

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from repair_kit import PAGES, TIME, cut_off, hurt, indices, picture, write

from ProcessedPiRecorder import open_recording
from ProcessedPiRecorder.errors import RecordingFileError, RecordingFormatError
from ProcessedPiRecorder.reading import Results
from ProcessedPiRecorder.reading import results as results_module
from ProcessedPiRecorder.recordings.reader import RecordingFile
from ProcessedPiRecorder.recordings.results import encode_line

MOST_MEMORY = 30_000_000        # bytes that reading a file of some kilobytes may take at once


def right_or_told(path: Path, right: Callable[[Any], np.ndarray]) -> int:
    """How many frames could be read. right: the pixels that a frame has to have."""
    begun = time.monotonic()
    read = 0
    try:
        with open_recording(path) as rec:
            assert len(repr(rec)) < 1000
            told = []
            for use in (lambda: rec.report, lambda: rec.marks, lambda: rec.losses, lambda: rec.results,
                        lambda: rec.status, lambda: rec.effort, rec._repr_html_):
                try:
                    told.append(use())
                except RecordingFileError as error:
                    assert path.stem in str(error)
            for page in range(len(rec)):
                try:
                    frame = rec[page]
                except RecordingFileError as error:
                    assert path.name in str(error) and f'page {page}' in str(error)
                    continue
                assert frame.index is not None, 'taken for a TIFF of another program'
                np.testing.assert_array_equal(frame, right(frame))
                read += 1
    except RecordingFileError as error:
        assert str(path) in str(error)
    assert time.monotonic() < begun + 20
    return read


# ---------------------------------------------------------------- no recording at all

@pytest.mark.parametrize('content, why', [
    (b'', 'has only 0 bytes'), (b'frames', 'has only 6 bytes'), (b'time,x,y\n1,2,3\n' * 99, 'no recording'),
    (b'II+\0\x08\0\0\0' + bytes(8), 'holds no page yet'), (b'II*\0' + bytes(60), 'neither a recording nor another'),
    (b'MM\0*\0\0\0\x08', 'has only 8 bytes'), (b'II+\0' + bytes(60), 'not a little-endian BigTIFF'),
    (b'\x89PNG', 'bytes')])
def test_what_is_no_recording_is_told(content: bytes, why: str, tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    path.write_bytes(content)
    with pytest.raises(RecordingFormatError, match=why) as raised:
        open_recording(path)
    assert str(path) in str(raised.value)


def test_a_picture_is_no_recording(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / 'a.png'), picture(0))
    with pytest.raises(RecordingFormatError, match=r'a\.png is no TIFF, so it is no recording.*pass the \.tif'):
        open_recording(tmp_path / 'a.png')


@pytest.mark.parametrize('name', ['a film.mp4', 'a.avi', 'a.mkv'])
def test_of_a_film_it_is_told_how_it_becomes_a_recording(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    code = {'.mp4': 'mp4v', '.avi': 'MJPG', '.mkv': 'MJPG'}[path.suffix]
    film = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*code), 25, (64, 48))
    for _ in range(3):
        film.write(np.zeros((48, 64, 3), np.uint8))
    film.release()
    with pytest.raises(RecordingFormatError, match='is a film, and no TIFF') as raised:
        open_recording(path)
    typed = shlex.split(str(raised.value).split(':  ')[1])
    assert typed == ['ppr', 'record', f'{path.stem}.tif', '--camera', str(path)]


def test_another_tiff_that_is_verified_is_told_to_be_one(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / 'a.tif', picture(0))
    with pytest.raises(RecordingFormatError, match=r'a\.tif is a TIFF, but not a little-endian BigTIFF'):
        RecordingFile(tmp_path / 'a.tif')


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / 'pipe.tif')
    for path, why in ((tmp_path, 'is a folder'), (tmp_path / 'none.tif', 'no such file'), (Path('/dev/null'), 'a pipe'),
                      (tmp_path / 'pipe.tif', 'a pipe')):
        with pytest.raises(RecordingFileError, match=why):
            open_recording(path)


@pytest.mark.skipif(os.geteuid() == 0, reason='root may read everything')
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    write(tmp_path / 'a.tif', 3)
    (tmp_path / 'a.tif').chmod(0)
    with pytest.raises(RecordingFileError, match='ask its owner'):
        open_recording(tmp_path / 'a.tif')


def test_results_alone_say_which_recording_they_belong_to(tmp_path: Path) -> None:
    path = tmp_path / 'a.results.jsonl'
    path.write_bytes(encode_line(0, TIME, 1))
    with pytest.raises(RecordingFormatError, match=r'not frames; they belong to .*a\.tif \(or .*\), which is not here'):
        open_recording(path)
    write(tmp_path / 'a.tif', 3)
    with pytest.raises(RecordingFormatError, match=r'they belong to .*a\.tif, pass that'):
        open_recording(path)


@pytest.mark.parametrize('name', ['a.tiff', 'a.btf', 'a.tf8', 'a.TIF'])
def test_results_find_their_recording_whatever_its_suffix(name: str, tmp_path: Path) -> None:
    (tmp_path / 'a.results.jsonl').write_bytes(encode_line(0, TIME, 1))
    (tmp_path / 'a.png').touch()
    write(tmp_path / name, 3)
    with pytest.raises(RecordingFormatError, match=rf'they belong to [^ ]*{name}, pass that'):
        open_recording(tmp_path / 'a.results.jsonl')


# ---------------------------------------------------------------- results

def recording_with_results(folder: Path, lines: bytes) -> Path:
    write(folder / 'a.tif')
    (folder / 'a.results.jsonl').write_bytes(lines)
    return folder / 'a.tif'


def a_line(index: int, result: Any = 1) -> bytes:
    return encode_line(index, TIME + index * 10**7, result)


def test_results_of_frames_that_are_not_there_have_no_page(tmp_path: Path) -> None:
    lines = a_line(0) + a_line(5) + encode_line(None, None, 2) + encode_line(1, 7, 3) + a_line(10**6)
    with open_recording(recording_with_results(tmp_path, lines)) as rec:
        assert [result.page for result in rec.results] == [0, None, None, None, None]
        assert rec.results[2].index is None and rec.results[2].result == 2
        assert rec.results.indices.tolist() == [0, 5, -1, 1, 10**6]
        assert [len(rec.results_of(page)) for page in range(3)] == [1, 0, 0]


def test_a_last_result_that_broke_off_is_left_out(tmp_path: Path) -> None:
    whole = a_line(0, 'first') + a_line(1, 'second')
    path = recording_with_results(tmp_path, whole)
    for end in range(len(a_line(0, 'first')), len(whole)):
        (tmp_path / 'a.results.jsonl').write_bytes(whole[:end])
        with open_recording(path) as rec:
            found = [result.result for result in rec.results]
        assert found == (['first', 'second'] if end == len(whole) - 1 else ['first'])


@pytest.mark.parametrize('line', [
    b'nonsense\n', b'\n', b'{}\n', b'[1, 2]\n', b'{"index": 1.5, "time_ns": 1, "result": 1}\n', b'\xff\xfe\n',
    b'{"index": 99999999999999999999, "time_ns": 1, "result": 1}\n', b'{"index": 1, "time_ns": , "result": 1}\n',
    b'{"index": 9300000000000000000, "time_ns": 1, "result": 1}\n', b'{"index": nul, "time_ns": 1, "result": 1}\n'])
def test_a_damaged_result_is_told_with_its_line(line: bytes, tmp_path: Path) -> None:
    with open_recording(recording_with_results(tmp_path, a_line(0) + a_line(1) + line + a_line(2))) as rec:
        with pytest.raises(RecordingFormatError, match=r'a\.results\.jsonl, line 3: not a result'):
            len(rec.results)
        assert rec[3].index == 3


def test_a_result_that_is_damaged_inside_is_told_when_it_is_read(tmp_path: Path) -> None:
    lines = a_line(0) + b'{"index": 1, "time_ns": 2, "result": [1, }\n' + a_line(2)
    with open_recording(recording_with_results(tmp_path, lines)) as rec:
        assert len(rec.results) == 3 and rec.results[2].result == 1
        with pytest.raises(RecordingFormatError, match='line 2'):
            rec.results[1]


def test_lines_of_other_writers_are_read_too(tmp_path: Path) -> None:
    lines = [{'time_ns': TIME, 'index': 0, 'result': {'a': 1}},
             {'index': -5, 'time_ns': -7, 'result': None, 'by': 'me'}]
    text = '\n'.join(json.dumps(line, separators=(',', ':')) for line in lines) + '\r\n'
    with open_recording(recording_with_results(tmp_path, text.encode() + a_line(1) + a_line(2)[:-1])) as rec:
        assert [(result.index, result.time_ns, result.page) for result in rec.results] == [
            (0, TIME, 0), (-5, -7, None), (1, TIME + 10**7, 1), (2, TIME + 2 * 10**7, 2)]
        assert rec.results[0].result == {'a': 1}


@given(values=st.lists(st.tuples(st.none() | st.integers(0, 2**63 - 1), st.none() | st.integers(0, 2**63 - 1)),
                       max_size=8), piece=st.integers(1, 200))
def test_numbers_come_back_whatever_their_length(values: List[Tuple[Any, Any]], piece: int,
                                                 tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp('results') / 'a.results.jsonl'
    path.write_bytes(b''.join(encode_line(index, time_ns, number)
                              for number, (index, time_ns) in enumerate(values)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results_module, 'PIECE_BYTES', piece)
        found = Results(path)
    assert [(result.index, result.time_ns, result.result) for result in found] == [
        (*value, number) for number, value in enumerate(values)]
    assert found[:2] == list(found)[:2]


def test_a_line_that_never_ends_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results_module, 'MOST_LINE', 10_000)
    monkeypatch.setattr(results_module, 'PIECE_BYTES', 1000)
    with open_recording(recording_with_results(tmp_path, a_line(0) + bytes(20_000))) as rec:
        with pytest.raises(RecordingFormatError, match='line 2: not a result'):
            len(rec.results)


def test_results_that_were_named_and_are_missing(tmp_path: Path) -> None:
    write(tmp_path / 'a.tif', 3)
    with open_recording(tmp_path / 'a.tif') as rec:
        assert len(rec.results) == 0 and rec.results_path is None and rec.results_of(1) == [] and not list(rec.results)
    os.mkfifo(tmp_path / 'pipe.jsonl')
    for name, why in (('none.jsonl', r'none\.jsonl: No such file'), ('', 'not an ordinary file'),
                      ('pipe.jsonl', 'not an ordinary file')):
        with pytest.raises(RecordingFileError, match=why):
            open_recording(tmp_path / 'a.tif', results=tmp_path / name)


def test_results_that_were_named_and_have_gone_since(tmp_path: Path) -> None:
    write(tmp_path / 'a.tif', 3)
    named = tmp_path / 'b.jsonl'
    named.write_bytes(a_line(0))
    with open_recording(tmp_path / 'a.tif', results=named) as rec:
        named.unlink()
        with pytest.raises(RecordingFileError, match=r'b\.jsonl: No such file'):
            len(rec.results)


# ---------------------------------------------------------------- cut and changed recordings

KINDS = {'finished': {}, 'uncompressed': {'level': 0}, 'gray': {'channels': 1}, 'cut off': {},
         'cut off, uncompressed': {'level': 0}}


@pytest.fixture(scope='module', params=KINDS, ids=[kind.replace(', ', ' ') for kind in KINDS])
def victim(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tuple[Path, bytes, int]:
    """A place for the changed file, the sound one's bytes, and its channels."""
    folder = tmp_path_factory.mktemp('victim')
    options = KINDS[request.param]
    write(folder / 'sound.tif', 8, lost=(2,), **options)
    if 'cut off' in request.param:
        cut_off(folder / 'sound.tif', keep=6)
    return folder / 'a.tif', (folder / 'sound.tif').read_bytes(), options.get('channels', 3)


@settings(max_examples=60)
@given(data=st.data())
def test_whatever_byte_is_changed(data: st.DataObject, victim: Tuple[Path, bytes, int]) -> None:
    path, sound, channels = victim
    changed = bytearray(sound)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(sound) - 1))
        changed[at] = data.draw(st.integers(0, 255))
    path.write_bytes(changed)
    right_or_told(path, lambda frame: picture(frame.index, channels))


@settings(max_examples=60)
@given(data=st.data())
def test_wherever_it_is_cut(data: st.DataObject, victim: Tuple[Path, bytes, int]) -> None:
    path, sound, channels = victim
    path.write_bytes(sound[:data.draw(st.integers(0, len(sound) - 1))])
    right_or_told(path, lambda frame: picture(frame.index, channels))


def test_a_stretch_that_was_overwritten(victim: Tuple[Path, bytes, int]) -> None:
    path, sound, channels = victim
    for start in range(0, len(sound), 512):
        path.write_bytes(sound[:start] + bytes(512) + sound[start + 512:])
        right_or_told(path, lambda frame: picture(frame.index, channels))


def test_frames_are_left_in_most_changed_files(victim: Tuple[Path, bytes, int]) -> None:
    """The tests above would pass, too, if nothing could ever be read."""
    path, sound, channels = victim
    path.write_bytes(sound)
    pages = right_or_told(path, lambda frame: picture(frame.index, channels))
    changed = bytearray(sound)
    changed[sound.index(b'{"ppr":1,"page":3') - 10] ^= 64               # in the strip of page 3
    path.write_bytes(changed)
    assert right_or_told(path, lambda frame: picture(frame.index, channels)) == pages - 1 >= 5


def test_a_size_that_is_a_lie_takes_no_memory(tmp_path: Path) -> None:
    write(tmp_path / 'a.tif', 4)
    sound = (tmp_path / 'a.tif').read_bytes()
    tracemalloc.start()
    try:
        for at in range(0, len(sound), 113):
            changed = bytearray(sound)
            changed[at:at + 4] = b'\xff\xff\xff\x7f'
            (tmp_path / 'a.tif').write_bytes(changed)
            right_or_told(tmp_path / 'a.tif', lambda frame: picture(frame.index))
        assert tracemalloc.get_traced_memory()[1] < MOST_MEMORY
    finally:
        tracemalloc.stop()


def test_a_file_that_gets_shorter_while_it_is_open(tmp_path: Path) -> None:
    write(tmp_path / 'a.tif')
    with open_recording(tmp_path / 'a.tif') as rec:
        os.truncate(tmp_path / 'a.tif', (tmp_path / 'a.tif').stat().st_size // 3)
        np.testing.assert_array_equal(rec[2], picture(indices(PAGES)[2]))
        with pytest.raises(RecordingFormatError, match=r'page 29 of .*a\.tif cannot be read.*shorter'):
            rec[29]


def test_a_page_that_an_unfinished_file_skips_is_missed(tmp_path: Path) -> None:
    """A link that leads past pages: each of them is whole, and yet they are not what was recorded."""
    write(tmp_path / 'a.tif', 10)
    spans = cut_off(tmp_path / 'a.tif', keep=8)
    hurt(tmp_path / 'a.tif', spans[2].end - 8, spans[2].end, spans[5].ifd.to_bytes(8, 'little'))
    with pytest.raises(RecordingFormatError, match='page 3 says that it is page 5'):
        open_recording(tmp_path / 'a.tif')


def test_a_changed_part_of_a_split_recording(tmp_path: Path) -> None:
    files = write(tmp_path / 'a.tif', split_frames=7)
    sound = files[1].read_bytes()
    for at in range(0, len(sound), 211):
        files[1].write_bytes(sound[:at] + bytes([sound[at] ^ 0x55]) + sound[at + 1:])
        with open_recording(files[0]) as rec:
            assert len(rec) in (PAGES, PAGES - 7)
            assert len(rec) == PAGES or rec.missing_files == (files[1].name,) and rec.notes
        right_or_told(files[0], lambda frame: picture(frame.index))


def test_a_damaged_recording_is_not_taken_for_another_programs_tiff(tmp_path: Path) -> None:
    """Neither the preface nor the first page says what it is any more; another program's frames have no times."""
    write(tmp_path / 'a.tif', 4, lost=())
    hurt(tmp_path / 'a.tif', 16, 17)
    data = (tmp_path / 'a.tif').read_bytes()
    at = data.rindex(b'urn:processedpirecorder:file')
    hurt(tmp_path / 'a.tif', at, at + 3, b'run')
    with pytest.raises(RecordingFormatError, match=r'a\.tif is an OME-TIFF, but no recording'):
        open_recording(tmp_path / 'a.tif')


def test_an_empty_file_with_a_parts_name(tmp_path: Path) -> None:
    files = write(tmp_path / 'a.tif', split_frames=7)
    shutil.copy(files[1], tmp_path / 'a_006.tif')
    (tmp_path / 'a_005.tif').touch()
    (tmp_path / 'a_007.tif').mkdir()
    with open_recording(files[2]) as rec:
        assert len(rec) == PAGES and rec.files == tuple(files) and rec.finished
