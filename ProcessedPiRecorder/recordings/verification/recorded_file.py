"""One file of a recording, opened as far as it can be: what is damaged becomes a finding, the rest is still read."""

from __future__ import annotations

import os
from array import array
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from ...errors import RecordingFileError, RecordingFormatError
from ..bigtiff import HEADER_SIZE, PageLayout, file_error, refuse_if_recording
from ..index import BLOCK_HEADER_SIZE, INDEX_DTYPE, parse_block, parse_block_header
from ..ome import parse_annotations
from ..page import parse_text
from ..preface import HEAD_SIZE, MAGIC, head_length, parse_preface
from ..tags import FileBytes, Ifd, PageShape, open_to_read, read_header, read_ifd, shape_of
from .findings import Findings

__all__ = ['MAX_PAGE_TEXT', 'PageRow', 'RecordedFile']

MAX_PAGE_TEXT = 1 << 24     # bytes; a page's own JSON has some 200
PAGE_BEGINNING = b'{"ppr":'
CHUNK = 1 << 16


class PageRow(NamedTuple):
    """Where a page is said to be, bytes; text_length without the NUL. record: its index record, None without one."""

    ifd_offset: int
    strip_offset: int
    strip_length: int
    text_length: int
    record: Optional[bytes]


class RecordedFile:
    """A file of a recording, open for reading; a context manager. Several threads may call ``file.read``.

    Raises RecordingFileError when it cannot be opened, RecordingFormatError when nothing in it is a recording of ours.

    Attributes:
        path; file: its bytes. finished: whether it came to a clean end; is_unfinished: whether it certainly did not.
        broken: nothing of its pages can be found. shape, layout: of its pages; None when broken.
        first: the IFD that the header leads to; xml, annotations: the description of a finished file.
        about: what the preface tells; preface_end: where the pages begin. part: its number in the recording.
        pages: how many the index, or else the chain, tells of.
    """

    def __init__(self, path: Path, findings: Findings) -> None:
        self.path = path
        self._findings = findings
        self.finished = self.is_unfinished = self.broken = False
        self.shape: Optional[PageShape] = None
        self.layout: Optional[PageLayout] = None
        self.first: Optional[Ifd] = None
        self.xml = b''
        self.annotations: Dict[str, Any] = {}
        self.about: Dict[str, Any] = {}
        self.part: Optional[int] = None
        self.blocks: List[int] = []
        self._index: Optional[np.ndarray] = None
        self._chain: Tuple[array[int], ...] = ()
        self._chain_ended = False
        self._fd = -1
        try:
            self._fd = open_to_read(path)
            self.file = FileBytes(path, self._fd)
            self._open()
        except RecordingFileError:
            self.close()
            raise
        except OSError as error:
            self.close()
            raise file_error(path, 'cannot be read', error) from error

    def close(self) -> None:
        """Close the file. Harmless twice."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> RecordedFile:
        return self

    def __exit__(self, *exc: Any) -> None:
        self.close()

    def found(self, kind: str, text: str, page: Optional[int] = None) -> None:
        """Note a disagreement in this file."""
        self._findings.add(kind, self.path, text, page)

    # ------------------------------------------------------------------ its beginning

    def _open(self) -> None:
        has_preface = self.file.size >= HEADER_SIZE + HEAD_SIZE and self.file.read(
            HEADER_SIZE, len(MAGIC), 'preface') == MAGIC
        if has_preface:
            self._read_preface()
        else:
            self.preface_end = HEADER_SIZE
        try:
            self._read_first_page()
        except RecordingFormatError as error:
            if not has_preface:
                raise _with_path(self.path, error) from error
            self.broken = True
            if not self.is_unfinished:
                self.found('unreadable', f'no page can be found: {error}')
        if self.part is None and isinstance(self.about.get('file'), dict):
            part = self.about['file'].get('part')
            self.part = part if type(part) is int else None

    def _read_preface(self) -> None:
        head = self.file.read(HEADER_SIZE, HEAD_SIZE, 'preface')
        length = head_length(head)
        self.preface_end = HEADER_SIZE
        try:
            block = self.file.read(HEADER_SIZE, length + -length % 8, 'preface')
            self.about = parse_preface(block[:length])
        except RecordingFormatError as error:
            self.found('preface', str(error))
            return
        self.preface_end = HEADER_SIZE + len(block)
        if any(block[length:]):
            self.found('preface', 'the bytes that pad the preface are not zero')

    def _read_first_page(self) -> None:
        first = read_header(self.file)
        if first == 0:
            self.is_unfinished = True
            raise RecordingFormatError('it holds no linked page yet')
        self.first = read_ifd(self.file, first)
        self.shape = shape_of(self.file, self.first)
        text = self.file.read(self.first.text_offset, self.first.text_length, 'page description')
        if text.startswith(b'<'):
            self._read_description(text)
        else:
            self.part = parse_text(text).part
            self.is_unfinished = True
        self.layout = PageLayout(*self.shape)
        self._find_pages()
        if not self.pages:
            raise RecordingFormatError('its first page is damaged, or another program has written the file anew; '
                                       'use the original')

    def _read_description(self, text: bytes) -> None:
        self.finished, self.xml = True, text
        assert self.first is not None
        own_text = self._text_behind(self.first)
        try:
            annotations = parse_annotations(text)
        except RecordingFormatError as error:
            if own_text is None:
                raise
            self.found('description', str(error))
            annotations = {}
        if annotations is None or (annotations and not isinstance(annotations.get('file'), dict)):
            if own_text is None:
                raise RecordingFormatError('it is an OME-TIFF, but no recording of ProcessedPiRecorder; open it with '
                                           'a general TIFF reader')
            self.found('description', 'it lacks the annotations that a recording has')
            annotations = {}
        self.annotations = annotations
        facts = annotations.get('file', {})
        if type(facts.get('part')) is int:
            self.part = facts['part']
        elif own_text is not None:
            try:
                self.part = parse_text(own_text).part
            except RecordingFormatError as error:
                self.found('text', str(error), 0)
        elif not isinstance(annotations.get('page0'), str):
            raise RecordingFormatError('its pages are not those of a recording')

    def _text_behind(self, ifd: Ifd) -> Optional[bytes]:
        """Page 0's own text, which follows its strip; None when there is none of ours."""
        offset = ifd.strip_offset + ifd.strip_length
        pieces: List[bytes] = []
        while offset < self.file.size and len(pieces) * CHUNK < MAX_PAGE_TEXT:
            piece = self.file.read(offset, min(CHUNK, self.file.size - offset), 'page description')
            if not pieces and not piece.startswith(PAGE_BEGINNING):
                return None
            end = piece.find(b'\0')
            pieces.append(piece if end < 0 else piece[:end])
            if end >= 0:
                return b''.join(pieces)
            offset += len(piece)
        return None

    # ------------------------------------------------------------------ where its pages are

    @property
    def pages(self) -> int:
        if self._index is not None:
            return len(self._index)
        return len(self._chain[0]) if self._chain else 0

    def row(self, page: int) -> PageRow:
        """Where a page is said to be."""
        if self._index is not None:
            row = self._index[page]
            return PageRow(int(row['ifd_offset']), int(row['strip_offset']), int(row['strip_length']),
                           int(row['text_length']), row.tobytes())
        ifd_offset, strip_offset, strip_length, text_length = (column[page] for column in self._chain)
        return PageRow(ifd_offset, strip_offset, strip_length, text_length, None)

    def records(self, first: int, count: int) -> Optional[bytes]:
        """The index records of some pages; None when there are none to be had."""
        return None if self._index is None else self._index[first:first + count].tobytes()

    def _find_pages(self) -> None:
        if self.finished and self.annotations:
            try:
                self._index = self._read_index()
                return
            except RecordingFormatError as error:
                self.found('index', f'{error}; the pages were sought along their chain instead')
        self._walk()

    def _read_index(self) -> np.ndarray:
        facts = self.annotations['file']
        pages, offsets = facts.get('pages'), facts.get('index')
        # Each page takes far more room than its record, so this bounds what the blocks can claim.
        if type(pages) is not int or not isinstance(offsets, list) or not all(type(item) is int for item in offsets) \
                or not 0 < pages * INDEX_DTYPE.itemsize <= self.file.size:
            raise RecordingFormatError("the description's account of the page index makes no sense")
        blocks: List[np.ndarray] = []
        found = 0
        for offset in offsets:
            header = parse_block_header(self.file.read(offset, BLOCK_HEADER_SIZE, 'page index'))
            block = parse_block(self.file.read(offset, header.size, 'page index'), header)
            if header.first_page != found or found + len(block) > pages:
                raise RecordingFormatError(f'a block of the page index begins with page {header.first_page} and '
                                           f'holds {len(block)}, where page {found} of {pages} should follow')
            found += len(block)
            blocks.append(block)
        if found != pages:
            raise RecordingFormatError(f'the page index holds {found} of {pages} pages')
        self.blocks = offsets
        return np.concatenate(blocks)

    def _walk(self) -> None:
        """Find the pages along their chain, as far as it leads."""
        assert self.first is not None
        # 'Q' is 64 bits everywhere; a million pages take 32 MB.
        columns = tuple(array('Q') for _ in range(4))
        ifd, page = self.first, 0
        try:
            while True:
                for column, value in zip(columns, self._place(ifd, page)):
                    column.append(value)
                if ifd.next == 0:
                    self._chain_ended = True
                    break
                # Pages are only ever appended, so a chain that does not go forward could loop.
                if ifd.next <= columns[0][-1]:
                    raise RecordingFormatError('its link leads backwards')
                page, ifd = page + 1, read_ifd(self.file, ifd.next)
        except RecordingFormatError as error:
            self.found('link', f'the chain of pages breaks off here: {error}', page)
        self._chain = columns

    def _place(self, ifd: Ifd, page: int) -> Tuple[int, int, int, int]:
        if shape_of(self.file, ifd) != self.shape:
            raise RecordingFormatError(f'page {page} has another size or encoding than page 0')
        if page == 0 and self.finished:
            text = self._text_behind(ifd)
            if text is None:
                raise RecordingFormatError('the text of page 0 does not follow its strip')
            length, at = len(text), _aligned(ifd.strip_offset + ifd.strip_length + len(text) + 1)
            return at, ifd.strip_offset, ifd.strip_length, length
        if ifd.text_offset != ifd.strip_offset + ifd.strip_length or ifd.text_length > MAX_PAGE_TEXT:
            raise RecordingFormatError(f'the text of page {page} is not where it should be')
        return ifd.offset, ifd.strip_offset, ifd.strip_length, ifd.text_length

    @property
    def may_go_on(self) -> bool:
        """Whether a link behind the last page is a recorder's, which has gone on since the chain was followed."""
        return self.is_unfinished and self._chain_ended

    def has_ended_meanwhile(self) -> bool:
        """Whether an unfinished file was finished since it was opened."""
        return self.first is not None and read_header(self.file) != self.first.offset

    def is_being_recorded(self) -> bool:
        """Whether a recorder is at it now."""
        try:
            refuse_if_recording(self.path)
        except RecordingFileError:
            return True
        return False


def _aligned(offset: int) -> int:
    return (offset + 7) & ~7


def _with_path(path: Path, error: RecordingFormatError) -> RecordingFormatError:
    text = str(error)
    return error if str(path) in text else RecordingFormatError(f'{path}: {text}')
