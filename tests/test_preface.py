"""What is known before the first page is in the file from the first moment on, and guarded."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any, Dict

import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from recording_tools import recorder

from ProcessedPiRecorder.errors import RecordingFileError, RecordingFormatError
from ProcessedPiRecorder.recordings.bigtiff import HEADER_SIZE
from ProcessedPiRecorder.recordings.ome import FileFacts, ome_xml, seal_is_intact
from ProcessedPiRecorder.recordings.preface import HEAD_SIZE, head_length, make_preface, parse_preface
from ProcessedPiRecorder.recordings.reader import RecordingFile

json_values = st.recursive(st.none() | st.booleans() | st.integers() | st.text(),
                           lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3))


def make_unfinished(path: Path) -> None:
    """As a crash leaves it: the header leads to page 0 as it was written first."""
    with RecordingFile(path) as recording:
        first_ifd = int(recording.index()['ifd_offset'][0])
    with open(path, 'r+b') as file:
        file.seek(8)
        file.write(struct.pack('<Q', first_ifd))


@given(st.dictionaries(st.text(), json_values, max_size=4))
def test_a_preface_holds_any_json(about: Dict[str, Any]) -> None:
    block = make_preface(about)
    assert head_length(block) == head_length(block[:HEAD_SIZE]) == len(block)
    assert parse_preface(block + bytes(3)) == about


def test_every_changed_byte_of_a_preface_is_noticed() -> None:
    block = make_preface({'metadata': {'animal': 'Ärger'}})
    for place in range(len(block)):
        changed = bytearray(block)
        changed[place] ^= 1
        with pytest.raises(RecordingFormatError):
            parse_preface(bytes(changed))
    for length in range(len(block)):
        with pytest.raises(RecordingFormatError):
            parse_preface(block[:length])


def test_a_preface_that_claims_too_much_is_none() -> None:
    assert head_length(struct.pack('<8sIIQ', b'PPRABOUT', 1, 0, 2**40)) == 0


def test_settings_and_metadata_survive_a_crash(tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    recorder(path, metadata={'animal': 'M12'}, split_frames=20).recordVid()
    names = set()
    for number, part in enumerate((path, tmp_path / 'a_001.tif')):
        with RecordingFile(part) as recording:
            finished = recording.about
            names.add(recording.recording)
            assert parse_preface(recording.preface())['file'] == {
                'part': number, 'first_page': 20 * number, 'first_name': 'a.tif', 'recording': recording.recording}
        make_unfinished(part)
        with RecordingFile(part) as recording:
            assert not recording.finished and recording.about == finished
            assert recording.about['metadata'] == {'animal': 'M12'}
            assert recording.about['settings']['split_frames'] == 20 and recording.about['camera']['width'] == 96
        with tifffile.TiffFile(part) as tif:
            assert json.loads(tif.pages[3].tags['ImageDescription'].value)['page'] == 3
    assert len(names) == 1 and len(names.pop()) == 32


def test_pages_can_be_read_behind_a_damaged_preface(tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    recorder(path).recordVid()
    make_unfinished(path)
    data = bytearray(path.read_bytes())
    data[HEADER_SIZE + HEAD_SIZE + 5] ^= 1
    path.write_bytes(data)
    with RecordingFile(path) as recording:
        assert recording.pages == 30 and recording.about == {}


def test_no_room_for_the_preface_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ProcessedPiRecorder.recordings import bigtiff
    real = os.pwritev

    def full(fd: int, buffers: Any, offset: int) -> int:
        if offset >= HEADER_SIZE:
            raise OSError(28, 'No space left on device')
        return real(fd, buffers, offset)

    monkeypatch.setattr(bigtiff.os, 'pwritev', full)
    with pytest.raises(RecordingFileError, match='No space left'):
        recorder(tmp_path / 'a.tif').recordVid()
    assert list(tmp_path.iterdir()) == []


def test_the_description_of_a_finished_file_is_sealed() -> None:
    xml = ome_xml(FileFacts('a', 1, 4, 5, 1, [0], 0), {'metadata': {'animal': 'M12'}})
    assert seal_is_intact(xml)
    for place in range(len(xml)):
        assert not seal_is_intact(xml[:place] + bytes([xml[place] ^ 1]) + xml[place + 1:])
        assert not seal_is_intact(xml[:place])
    assert not seal_is_intact(xml + b' ')
