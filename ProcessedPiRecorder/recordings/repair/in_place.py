"""Finishing a file where it stands, by the commit protocol of a recording.

A power cut at any moment leaves the chain that was there before, or a longer one of whole pages, or the finished
file: everything that the chain did not reach is written and synced before the link that leads to it.
"""

from __future__ import annotations

import os
import struct
from typing import Any, Dict, List, Mapping

import numpy as np

from ..bigtiff import FIRST_IFD_AT, HEADER_SIZE, file_error, write_all
from ..deflate import NAME as CODEC_NAME
from ..ome import MAX_PLANES, FileFacts, ome_xml
from ..page import FORMAT_VERSION
from ..part import PartInfo
from .scan import aligned
from .state import MAGIC_BYTES, FileState

__all__ = ['InPlace', 'bytes_needed']

Mark = Dict[str, Any]


class InPlace:
    """A regular file that is finished where it stands. Raises RecordingFileError.

    Args:
        first_text: page 0's own JSON. marks: of all its pages, with page and index.
    """

    def __init__(self, state: FileState, first_text: bytes, marks: List[Mark]) -> None:
        self._state = state
        self._first_text = first_text
        self._marks = marks
        self._blocks = state.index_blocks()
        self._fd = -1
        self.nbytes = state.size

    def finish(self, info: PartInfo, annotations: Mapping[str, Any]) -> None:
        """Make everything anew that is not as it should be, then write index, description and the new IFD 0."""
        state = self._state
        try:
            self._fd = os.open(state.path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise file_error(state.path, 'cannot be written', error) from error
        try:
            self._mend_unreachable()
            self._sync()
            self._link()
            self._sync()
            self._append(ome_xml(self._facts(info), self._stored(info, annotations)))
        except OSError as error:
            raise file_error(state.path, 'cannot be repaired', error) from error
        finally:
            os.close(self._fd)

    # ------------------------------------------------------------------ what the chain does not reach

    def _mend_unreachable(self) -> None:
        """IFDs and links behind the linked pages, and index blocks: no reader gets there yet."""
        state, rows = self._state, self._state.rows
        if state.first_ifd <= state.end and state.size > state.end:
            os.ftruncate(self._fd, state.end)        # the torn end
        following = state.expected_next()
        for number in np.flatnonzero(~rows['tail_ok'] | (rows['next'] != following)):
            self._mend_tail(int(number), int(following[number]))
        for place, block in self._blocks:
            if place < state.end and self._read(place, len(block)) != block:
                self._write([block], place)

    def _mend_tail(self, number: int, following: int) -> None:
        """What follows the text of a page; of a page that the chain reaches, only the padding."""
        row = self._state.rows[number]
        text_offset = int(row['strip_offset']) + int(row['strip_length'])
        end, ifd_offset = text_offset + int(row['text_length']), int(row['ifd_offset'])
        pieces = bytes(ifd_offset - end)
        if number >= self._state.reached:
            pieces += self._state.layout.ifd(int(row['strip_offset']), int(row['strip_length']), text_offset,
                                             int(row['text_length']) + 1, following)
        if self._read(end, len(pieces)) != pieces:
            self._write([pieces], end)

    # ------------------------------------------------------------------ the links

    def _link(self) -> None:
        """Have the chain go through all pages, from their own first IFD."""
        state, rows = self._state, self._state.rows
        last = state.reached - 1
        following = state.expected_next()
        if last >= 0 and rows['next'][last] != following[last]:
            self._write_link(int(rows['ifd_offset'][last]) + state.layout.size - 8, int(following[last]))
        first = int(rows['ifd_offset'][0])
        if not state.header_ok:
            self._write([MAGIC_BYTES + struct.pack('<Q', first)], 0)
        elif state.first_ifd != first:
            self._write_link(FIRST_IFD_AT, first)

    # ------------------------------------------------------------------ the end

    def _append(self, xml: bytes) -> None:
        """Index blocks, description and the new IFD 0 behind the last page; then the switch."""
        state = self._state
        row = state.rows[0]
        pieces = [(place, block + bytes(-len(block) % 8)) for place, block in self._blocks if place >= state.end]
        xml_at = max([state.end, *(place + len(block) for place, block in pieces)])
        ifd_at = aligned(xml_at + len(xml) + 1)
        ifd = state.layout.ifd(int(row['strip_offset']), int(row['strip_length']), xml_at, len(xml) + 1,
                               int(state.expected_next()[0]))
        pieces.append((xml_at, xml + bytes(ifd_at - xml_at - len(xml)) + ifd))
        self.nbytes = ifd_at + len(ifd)
        try:
            os.ftruncate(self._fd, state.end)
            self._write([data for _, data in pieces], state.end)
            self._sync()
        except OSError:
            os.ftruncate(self._fd, state.end)
            raise
        self._write_link(FIRST_IFD_AT, ifd_at)
        self._sync()

    def _facts(self, info: PartInfo) -> FileFacts:
        rows, shape = self._state.rows, self._state.shape
        assert shape is not None
        return FileFacts(info.path.name, len(rows), shape.height, shape.width, shape.channels,
                         rows['time_ns'][:MAX_PLANES].tolist(), int(rows['time_ns'][-1]))

    def _stored(self, info: PartInfo, annotations: Mapping[str, Any]) -> Dict[str, Any]:
        own = {'ppr': FORMAT_VERSION, 'pages': len(self._state.rows), 'index': [place for place, _ in self._blocks],
               'codec': CODEC_NAME, 'part': info.number, 'first_page': info.first_page,
               'first_name': info.first_name, 'last': info.last, 'parts': [path.name for path in info.files]}
        return {'file': own, 'page0': self._first_text.decode('ascii'), 'marks': self._marks, **annotations}

    # ------------------------------------------------------------------ the file

    def _read(self, offset: int, length: int) -> bytes:
        return os.pread(self._fd, length, offset)

    def _write_link(self, at: int, ifd_offset: int) -> None:
        assert at % 8 == 0
        self._write([struct.pack('<Q', ifd_offset)], at)

    def _write(self, buffers: List[bytes], offset: int) -> None:
        write_all(self._fd, buffers, offset)

    def _sync(self) -> None:
        # Also when nothing was written: what stands there may never have been synced by its writer.
        os.fdatasync(self._fd)


def bytes_needed(state: FileState, annotation_bytes: int) -> int:
    """What finishing a file in place takes on the disk at most, about."""
    planes = min(len(state.rows), MAX_PLANES) * 128
    return len(state.rows) * 64 + 48 * len(state.blocks) + planes + 2 * annotation_bytes + HEADER_SIZE + 65536

