"""Reading recordings back, finished or not: the pages' pixels, records, index, and the file's annotations.

Made for hostile input: every offset is checked against the file's size, no chain can loop, nothing larger than
what the file could hold is allocated.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple, Union

import numpy as np

from ..errors import RecordingFileError, RecordingFormatError
from .bigtiff import HEADER_SIZE, file_error
from .decoder import decode_strip
from .index import BLOCK_HEADER_SIZE, INDEX_DTYPE, index_record, parse_block, parse_block_header
from .ome import parse_annotations, seal_is_intact
from .page import PageRecord, StoredPage, parse_text, strip_crc, text_is_intact
from .preface import HEAD_SIZE, head_length, parse_preface, recording_of
from .tags import FileBytes, Ifd, PageShape, check_strip, open_to_read, read_header, read_ifd, shape_of

__all__ = ['RecordingFile', 'is_part', 'is_recording']

MAX_PAGE_TEXT = 1 << 24     # bytes; a page's own JSON has some 200


class RecordingFile:
    """A recording's file, open for reading; a context manager. One thread at a time; many, once ``index()`` was called.

    Raises RecordingFileError when it cannot be opened, RecordingFormatError when it is not a recording of ours or
    is damaged. What a recording in progress appends later is not seen.

    Attributes:
        path; height, width: pixels; pixel_format: 'bgr' or 'gray'. part: its number in a split recording, else 0.
        finished: whether it came to a clean end (else it was cut off, or is being written).
        is_ours: True; a file that is not does not open.
        sealed: whether what the annotations tell is what was written; True when unfinished.
        annotations: 'report', 'settings', 'metadata', 'camera', 'marks', 'file', …; {} when unfinished.
        about: 'settings', 'metadata', 'camera', also of an unfinished file; {} where they are not to be had.
    """

    is_ours = True
    _fd = -1

    def __init__(self, path: Union[str, os.PathLike[str]]) -> None:
        self.path = Path(path)
        self._fd = open_to_read(self.path)
        try:
            self._file = FileBytes(self.path, self._fd)
            self._open()
        except OSError as error:
            self.close()
            raise _format_error(self.path, error) from error

    def _open(self) -> None:
        first = read_header(self._file)
        if first == 0:
            raise RecordingFormatError(f'{self.path} is not a readable recording: it holds no page yet; if it is being '
                                       'recorded, look again in a few seconds; if it was cut off,  ppr repair  finds '
                                       'what is in it')
        self._first = read_ifd(self._file, first)
        self._shape = shape_of(self._file, self._first)
        self.height, self.width, channels, _ = self._shape
        self.pixel_format = 'bgr' if channels == 3 else 'gray'
        self._index: Optional[np.ndarray] = None
        self._page0_text = self._read_text(self._first)
        self.annotations: Dict[str, Any] = {}
        self.sealed = True
        if self._page0_text.startswith(b'<'):
            self._read_annotations()
        self.part = parse_text(self._page0_text).part     # raises when the pages are not ours
        self.finished = bool(self.annotations)
        self.about = {name: value for name, value in (self.annotations or self._read_about()).items()
                      if name in ('settings', 'metadata', 'camera') and isinstance(value, dict)}

    def _read_about(self) -> Dict[str, Any]:
        try:
            block = self.preface()
            return parse_preface(block) if block else {}
        except RecordingFormatError:
            return {}                        # the pages are there all the same

    def _read_annotations(self) -> None:
        annotations = parse_annotations(self._page0_text)
        if annotations is None or not isinstance(annotations.get('file'), dict) \
                or not isinstance(annotations.get('page0'), str):
            raise RecordingFormatError(f'{self.path} is an OME-TIFF, but no recording of ProcessedPiRecorder; '
                                       'open it with a general TIFF reader')
        self.annotations = annotations
        self.sealed = seal_is_intact(self._page0_text)
        self._page0_text = annotations.pop('page0').encode('ascii', 'replace')

    # ------------------------------------------------------------------ what is in it

    @property
    def pages(self) -> int:
        """Number of pages. Unfinished files are walked through once for it."""
        return len(self.index())

    def __len__(self) -> int:
        return self.pages

    @property
    def times(self) -> np.ndarray:
        """Originating times of all pages, int64 ns since 1970 UTC."""
        return self.index()['time_ns']

    def index(self) -> np.ndarray:
        """One record a page, read-only, dtype :data:`~.index.INDEX_DTYPE`; without index blocks, from the pages."""
        if self._index is None:
            try:
                self._index = self._stored_index() if self.finished else self._walked_index()
            except OSError as error:
                raise _format_error(self.path, error) from error
            self._index.flags.writeable = False
        return self._index

    def preface(self) -> bytes:
        """The block behind the header that tells of the recording as a whole; b'' where there is none."""
        head = self._file.read(HEADER_SIZE, min(HEAD_SIZE, self._file.size - HEADER_SIZE), 'preface')
        return self._file.read(HEADER_SIZE, head_length(head), 'preface')

    @property
    def recording(self) -> str:
        """The same for all files of one recording, and for no other; '' where it is not to be had."""
        return recording_of(self._read_about())

    def page_text(self, page: int) -> bytes:
        """The page's own JSON as stored, without the final NUL."""
        if self._place(page) == 0:
            return self._page0_text
        row = self.index()[page]
        return self._file.read(int(row['strip_offset']) + int(row['strip_length']),
                               min(int(row['text_length']), MAX_PAGE_TEXT), 'page description')

    @property
    def shape(self) -> PageShape:
        """Size and encoding, the same for all pages."""
        return self._shape

    def encoded_page(self, page: int) -> Tuple[bytes, bytes]:
        """The page as it stands in the file: its strip, and its own JSON without the final NUL. Proves nothing."""
        return self._read_strip(page), self.page_text(page)

    def stored_page(self, page: int) -> StoredPage:
        """Everything that the page's JSON tells."""
        return parse_text(self.page_text(page))

    def page_record(self, page: int) -> PageRecord:
        """Index, times, status and marks of a page, from 0; IndexError beyond the last."""
        return self.stored_page(page).record

    def read_page(self, page: int, out: Optional[np.ndarray] = None, order: str = 'bgr', *,
                  proven: bool = False) -> np.ndarray:
        """The pixels: uint8, (height, width, 3) in ``order`` 'bgr' or 'rgb', or (height, width) gray.

        out: a C-contiguous array of that shape to fill in and return.
        proven: raise RecordingFormatError unless pixels, number and time are what was written. Where Deflate and the
        page index have checksums of their own, that costs nothing; else the page's own one is computed.
        """
        if order not in ('bgr', 'rgb'):
            raise ValueError(f"order must be 'bgr' or 'rgb', got {order!r}")
        strip = self._read_strip(page)
        if proven and not (self.finished and self._shape.compressed) \
                and not text_is_intact(self.page_text(page), strip_crc([strip])):
            raise RecordingFormatError('the checksum of a page does not fit; the file is damaged')
        return decode_strip(strip, *self._shape, order, out)

    def verify_page(self, page: int) -> bool:
        """Whether the page's checksum fits its strip and its JSON."""
        return text_is_intact(self.page_text(page), strip_crc([self._read_strip(page)]))

    def release(self) -> None:
        """Give the descriptor back; each read opens the file anew from then on. Not while another thread reads."""
        if self._fd >= 0:
            self._file = self._file.reopening()
            self.close()

    def close(self) -> None:
        """Close the file. Harmless twice."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> RecordingFile:
        return self

    def __exit__(self, *exc: Any) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    # ------------------------------------------------------------------ how it is found

    def _place(self, page: int) -> int:
        if not 0 <= page < len(self.index()):
            raise IndexError(f'page {page} of {self.path}, which has {len(self.index())}')
        return page

    def _read_strip(self, page: int) -> bytes:
        row = self.index()[self._place(page)]
        offset, length = int(row['strip_offset']), int(row['strip_length'])
        check_strip(self._file, self._shape, offset, length)
        return self._file.read(offset, length, 'strip')

    def _read_text(self, ifd: Ifd) -> bytes:
        return self._file.read(ifd.text_offset, ifd.text_length, 'page description')

    def _stored_index(self) -> np.ndarray:
        facts: Mapping[str, Any] = self.annotations['file']
        pages, offsets = facts.get('pages'), facts.get('index')
        # Each page takes far more room than its record, so this bounds what the blocks can claim.
        if type(pages) is not int or not isinstance(offsets, list) \
                or not 0 < pages * INDEX_DTYPE.itemsize <= self._file.size:
            raise self._file.damaged('its annotation on the page index makes no sense')
        index = np.empty(pages, INDEX_DTYPE)
        found = 0
        for offset in offsets:
            block = self._read_block(offset, found)
            if found + len(block) > pages:
                raise self._file.damaged(f'its page index holds more than {pages} pages')
            index[found:found + len(block)] = block
            found += len(block)
        if found != pages:
            raise self._file.damaged(f'its page index holds {found} of {pages} pages')
        return index

    def _read_block(self, offset: Any, first_page: int) -> np.ndarray:
        if type(offset) is not int:
            raise self._file.damaged('its annotation on the page index makes no sense')
        header = parse_block_header(self._file.read(offset, BLOCK_HEADER_SIZE, 'page index'))
        if header.first_page != first_page:
            raise self._file.damaged(f'a block of its page index begins with page {header.first_page}, '
                                     f'not {first_page}')
        return parse_block(self._file.read(offset, header.size, 'page index'), header)

    def _walked_index(self) -> np.ndarray:
        rows: List[Tuple[int, ...]] = []
        ifd = self._first
        while True:
            if shape_of(self._file, ifd) != self._shape:
                raise self._file.damaged(f'page {len(rows)} has another size or encoding than page 0')
            if ifd.text_offset != ifd.strip_offset + ifd.strip_length or ifd.text_length > MAX_PAGE_TEXT:
                raise self._file.damaged(f'the description of page {len(rows)} is not where it should be')
            stored = parse_text(self._read_text(ifd))
            if stored.page != len(rows):
                raise self._file.damaged(f'page {len(rows)} says that it is page {stored.page}')
            rows.append(index_record(ifd.offset, ifd.strip_offset, ifd.strip_length, ifd.text_length, stored.record,
                                     stored.effort, stored.crc32))
            if ifd.next == 0:
                return np.array(rows, INDEX_DTYPE)
            # Pages are only ever appended, so a chain that does not go forward is damaged, and could loop.
            if ifd.next <= ifd.offset:
                raise self._file.damaged(f'page {len(rows) - 1} is followed by one that lies before it')
            ifd = read_ifd(self._file, ifd.next)


def is_recording(path: Union[str, os.PathLike[str]]) -> bool:
    """Whether a file opens as a recording of ours."""
    try:
        RecordingFile(path).close()
    except RecordingFileError:
        return False
    return True


def is_part(path: Union[str, os.PathLike[str]], number: int) -> bool:
    """Whether a file is part ``number`` of a recording of ours that was split."""
    try:
        with RecordingFile(path) as recording:
            return recording.part == number
    except RecordingFileError:
        return False


def _format_error(path: Path, error: OSError) -> RecordingFileError:
    """Keep the path in every message; errors from deeper down do not know it."""
    if isinstance(error, RecordingFormatError):
        text = str(error)
        return error if str(path) in text else RecordingFormatError(f'{path}: {text}')
    return file_error(path, 'cannot be read', error)
