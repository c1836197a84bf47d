"""One file of a recording while it grows: the appender, its page index, and what its last page of text will tell."""

from __future__ import annotations

import os
import re
from array import array
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from .bigtiff import BigTiffAppender, EncodedPage, PageLayout
from .deflate import NAME as CODEC_NAME
from .index import BLOCK_HEADER_SIZE, INDEX_DTYPE, PAGES_A_BLOCK, IndexBuilder, index_record
from .ome import MAX_PLANES, FileFacts, ome_xml
from .page import FORMAT_VERSION, PageRecord, StoredPage, rewritten
from .preface import make_preface
from .space import Room

__all__ = ['SYNC_BYTES', 'FinishedPage', 'PartInfo', 'RecordingPart', 'behind_link', 'copied_page', 'first_of_parts',
           'part_path', 'parts_on_disk']

#: So much may be unsynced where pages are copied: the system would only pile it up in memory.
SYNC_BYTES = 1 << 26

PLANE_BYTES = 96          # of a page's element in the OME-XML, at most
MARK_BYTES = 1500         # of a mark: 200 characters, as many as six bytes each


class PartInfo(NamedTuple):
    """One file of a recording.

    Attributes:
        number: 0 for the first (or only) file; path: where it is; first_name: the name of file 0.
        first_page: the number in the whole recording of its page 0; pages: how many it holds.
        last: whether the recording ends with it; files: all files so far, this one included.
    """

    number: int
    path: Path
    first_name: str
    first_page: int
    pages: int
    last: bool
    files: Tuple[Path, ...]


class FinishedPage(NamedTuple):
    """A page that is encoded and sealed, with what the index will hold."""

    encoded: EncodedPage
    record: PageRecord
    effort: str
    crc32: int


def copied_page(strip: bytes, text: bytes, before: StoredPage, now: StoredPage, crc_of_strip: int) -> FinishedPage:
    """A page of another file, still encoded, as it is told ``now``; its text was proven, and told it as ``before``.

    Where nothing changes it keeps its bytes. ``now`` may differ in what :func:`~.page.rewritten` names.
    """
    crc = before.crc32
    if now != before:
        text, crc = rewritten(text, before, now, crc_of_strip)
    return FinishedPage(EncodedPage([strip], len(strip), text), now.record, now.effort, crc)


class RecordingPart:
    """A file and its index. ``append`` in one thread, ``sync`` in another, ``finish`` when both are done with it.

    Created exclusively. Raises RecordingFileError.

    Args:
        first_page: the number in the whole recording of its page 0. first_name: the name of file 0.
        shape: height, width, channels. about: what its preface tells; without any there is none.
        recording: the same for all files of one recording, and for no other.
    """

    def __init__(self, path: Path, number: int, first_page: int, first_name: str, layout: PageLayout,
                 shape: Tuple[int, int, int], about: Mapping[str, Any], recording: str = '') -> None:
        self.number = number
        self.first_page = first_page
        self._shape = shape
        self._file = BigTiffAppender(path, layout)
        self._index = IndexBuilder()
        self._blocks: List[int] = []
        self._block = b''                  # of the index, made and not yet written
        self.finished = False
        self._first_text = b''
        self._times = array('q')
        self._last_ns = 0
        self._marks: List[Dict[str, Any]] = []
        if about:
            place = {'part': number, 'first_page': first_page, 'first_name': first_name}
            known = {'recording': recording} if recording else {}
            self._write_preface(make_preface({'file': {**place, **known}, **about}))
        self._preface_bytes = self._file.end

    @property
    def path(self) -> Path:
        return self._file.path

    @property
    def pages(self) -> int:
        return self._file.pages

    @property
    def unlinked_pages(self) -> int:
        """Pages that wait for the next sync."""
        return self._file.unlinked_pages

    @property
    def nbytes(self) -> int:
        """Bytes of the file so far."""
        return self._file.end

    @property
    def room_for(self) -> int:
        """How many pages one ``append`` may bring: never more than fit before the next index block."""
        return self._index.room

    @property
    def bytes_to_finish(self) -> int:
        """What ``finish`` writes at most, without the annotations that it is given."""
        planes = min(self.pages, MAX_PLANES) * PLANE_BYTES
        index = BLOCK_HEADER_SIZE + PAGES_A_BLOCK * INDEX_DTYPE.itemsize
        return planes + index + 24 * len(self._blocks) + 2 * MARK_BYTES * len(self._marks) + self._preface_bytes + 65536

    def disk_room(self) -> Optional[Room]:
        """What is free where the file is; None: the file system does not tell."""
        return self._file.disk_room()

    def append(self, pages: Sequence[FinishedPage]) -> None:
        """Write pages; they become durable and reachable with the next ``sync``.

        All of them or, when it raises, none. At most ``room_for``.
        """
        if self._block or self._index.full:
            self._write_index()
        number = self._file.pages
        places = self._file.append([page.encoded for page in pages])
        if number == 0:
            self._first_text = pages[0].encoded.text
        for page, place in zip(pages, places):
            self._note(number, page.record)
            self._index.add(index_record(place.ifd_offset, place.strip_offset, place.strip_length,
                                         len(page.encoded.text), page.record, page.effort, page.crc32))
            number += 1

    def sync(self) -> None:
        """Blocks until the disk has what was appended before; then links it."""
        self._file.sync()

    def finish(self, info: PartInfo, annotations: Mapping[str, Any]) -> None:
        """Write the index and the OME-XML, switch the file to them, close it. Blocks until the disk has all."""
        self._file.sync()
        if self._block:
            self._write_index()
        if self._index.pending:
            self._write_index()
        height, width, channels = self._shape
        facts = FileFacts(info.path.name, self.pages, height, width, channels, self._times, self._last_ns)
        own = {'ppr': FORMAT_VERSION, 'pages': self.pages, 'index': self._blocks, 'codec': CODEC_NAME,
               'part': info.number, 'first_page': info.first_page, 'first_name': info.first_name, 'last': info.last,
               'parts': [path.name for path in info.files]}
        stored = {'file': own, 'page0': self._first_text.decode('ascii'), 'marks': self._marks, **annotations}
        self._file.finish(ome_xml(facts, stored))
        self.finished = True

    def rescue(self) -> None:
        """After a failure: cut off the torn end, link what is whole. Then it may be finished, if there is room.

        Raises RecordingFileError when even that fails; ``close`` it then.
        """
        self._file.rescue()

    def publish(self, path: Path) -> None:
        """Take the place of what stands at ``path``."""
        self._file.rename(path)

    def close(self) -> None:
        """Close the file as it is."""
        self._file.close()

    def _note(self, page: int, record: PageRecord) -> None:
        if page < MAX_PLANES:
            self._times.append(int(record.time_ns))
        self._last_ns = int(record.time_ns)
        for mark in record.marks:
            self._marks.append({'label': str(mark['label']), 'time_ns': int(mark['time_ns']), 'page': page,
                                'index': int(record.index)})

    def _write_preface(self, block: bytes) -> None:
        try:
            self._file.append_block(block)
        except BaseException:
            self._file.close()
            os.unlink(self._file.path)
            raise

    def _write_index(self) -> None:
        # What could not be written (a full disk) is kept: the file has not grown since, so its place is the same.
        self._block = self._block or self._index.block(self._file.end)
        self._blocks.append(self._file.append_block(self._block))
        self._block = b''


def behind_link(path: Path) -> Path:
    """The file that a link leads to: what belongs to a recording lies beside that. Any other path as it is."""
    return path.resolve() if os.path.islink(path) and os.path.isfile(path) else path


def part_path(path: Path, number: int) -> Path:
    """The file of a part: trial.tif, trial_001.tif, trial_002.tif, …"""
    return path if number == 0 else path.with_name(f'{path.stem}_{number:03d}{path.suffix}')


def first_of_parts(path: Path, number: int) -> Optional[Path]:
    """Where file 0 of the recording is whose part ``number`` is at ``path``; None: the name does not tell."""
    if number <= 0:
        return path
    suffix = f'_{number:03d}'
    if not path.stem.endswith(suffix) or path.stem == suffix:
        return None
    return path.with_name(path.stem[:-len(suffix)] + path.suffix)


def parts_on_disk(path: Path) -> List[Tuple[int, Path]]:
    """Files beside ``path`` that bear the names of its parts 1, 2, …, by number."""
    pattern = re.compile(re.escape(path.stem) + r'_(\d{3,})' + re.escape(path.suffix))
    found = []
    for other in path.parent.iterdir():
        match = pattern.fullmatch(other.name)
        if match and int(match.group(1)) > 0 and part_path(path, int(match.group(1))) == other:
            found.append((int(match.group(1)), other))
    return sorted(found)
