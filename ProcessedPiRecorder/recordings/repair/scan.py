"""Finding every whole page of a file, whatever happened to the file's header, chain and index.

A page is whole when its text's checksum fits its strip and the text itself. The texts are searched for; where the
strip begins is told by the IFD behind the text, or else by what stands before. The work is bounded by the size of
the file, whatever is in it.
"""

from __future__ import annotations

import re
import struct
from typing import Dict, List, NamedTuple, Optional, Set, Tuple

import numpy as np

from ...errors import RecordingFormatError
from ..bigtiff import HEADER_SIZE, PageLayout
from ..deflate import crc32
from ..index import (
    BLOCK_HEADER_SIZE,
    INDEX_DTYPE,
    PAGES_A_BLOCK,
    index_record,
    parse_block,
    parse_block_header,
)
from ..page import StoredPage, parse_text
from ..tags import MAX_PAGE_BYTES, MAX_SIDE, PageShape
from .haystack import Haystack

__all__ = ['FULL_BLOCK', 'ROW_DTYPE', 'OwnIfd', 'Scan', 'Whole', 'aligned', 'find_pages', 'layout_of', 'prove',
           'read_own_ifd', 'rows_of']

PAGE_BEGINS = b'{"ppr":1,"page":'
SEAL = b',"crc32":"'
SEAL_SIZE = len(SEAL) + 10          # and the digits, the quote and the brace
MAX_TEXT = 1 << 24
FULL_BLOCK = BLOCK_HEADER_SIZE + PAGES_A_BLOCK * INDEX_DTYPE.itemsize
MOST_DAMAGED = 1_000_000            # page numbers that are remembered

#: The file's bytes may be summed up so often on the word of an IFD, and so often where only the neighbours tell.
IFD_BUDGET, GUESS_BUDGET = 4, 2
LEAST_BUDGET = 1 << 26

_NUMBER = re.compile(rb'\{"ppr":1,"page":(\d{1,12}),')

#: A whole page: its record in the page index (ifd_offset: where its IFD stands or should stand), and more.
#: tail_ok: NUL, padding and IFD are as they were written; has_ifd: the IFD is, and so tells the shape;
#: shift: how far the page stands from where its IFD says. next: its link.
ROW_DTYPE = np.dtype(INDEX_DTYPE.descr + [
    ('page', '<i8'), ('next', '<u8'), ('shift', '<i8'), ('part', '<i8'), ('shape', '<i2'), ('has_ifd', '?'),
    ('tail_ok', '?')])


class OwnIfd(NamedTuple):
    """An IFD, byte for byte as this package writes them."""

    shape: PageShape
    size: int
    strip_offset: int
    strip_length: int
    text_offset: int
    text_count: int
    next: int


class Whole(NamedTuple):
    """A page whose checksum fits."""

    strip_offset: int
    strip_length: int
    text: bytes
    stored: StoredPage
    ifd: Optional[OwnIfd]
    tail_ok: bool

    @property
    def text_offset(self) -> int:
        return self.strip_offset + self.strip_length

    @property
    def ifd_offset(self) -> int:
        return aligned(self.text_offset + len(self.text) + 1)

    @property
    def end(self) -> int:
        """Where its IFD ends, or where it would begin if it is not whole."""
        return self.ifd_offset + (self.ifd.size if self.ifd else 0)


class Scan:
    """What was found in one file.

    Attributes:
        rows: ROW_DTYPE, in the order of the file. shapes: what the rows' ``shape`` counts; -1: no IFD told it.
        damaged: numbers of pages whose text was found without its checksum being right.
    """

    def __init__(self) -> None:
        self.packed = bytearray()
        self.shapes: List[PageShape] = []
        self.damaged: Set[int] = set()

    @property
    def rows(self) -> np.ndarray:
        return np.frombuffer(bytes(self.packed), ROW_DTYPE)

    def add(self, whole: Whole) -> None:
        """The next page of the file; pages inside its own strip were only pictures of pages."""
        size = ROW_DTYPE.itemsize
        while self.packed and whole.ifd is not None:
            last = np.frombuffer(self.packed[-size:], ROW_DTYPE)[0]
            if last['ifd_offset'] <= whole.strip_offset:
                break
            del self.packed[-size:]
        self.packed += rows_of([whole], self.shapes).tobytes()


def rows_of(pages: List[Whole], shapes: List[PageShape]) -> np.ndarray:
    """Pages as rows; ``shapes`` grows by what is not in it yet."""
    rows = np.zeros(len(pages), ROW_DTYPE)
    for number, whole in enumerate(pages):
        stored, ifd = whole.stored, whole.ifd
        if ifd is not None and ifd.shape not in shapes:
            shapes.append(ifd.shape)
        record = index_record(whole.ifd_offset, whole.strip_offset, whole.strip_length, len(whole.text), stored.record,
                              stored.effort, stored.crc32)
        shift = whole.text_offset - ifd.text_offset if ifd else 0
        rows[number] = (*record, stored.page, ifd.next if ifd else 0, shift, stored.part,
                        shapes.index(ifd.shape) if ifd else -1, ifd is not None, whole.tail_ok)
    return rows


def aligned(offset: int) -> int:
    """The next multiple of 8."""
    return (offset + 7) & ~7


def find_pages(file: Haystack, begin: int) -> Scan:
    """Every whole page. begin: where the first page would stand."""
    return _Finder(file, begin).run()


def prove(file: Haystack, strip_offset: int, strip_length: int, text: bytes) -> Optional[Whole]:
    """The page with this strip and text, if its checksum fits."""
    try:
        crc = int(text[-10:-2], 16)
    except ValueError:
        return None
    if strip_offset < HEADER_SIZE or strip_offset % 8 or not 0 < strip_length <= MAX_PAGE_BYTES \
            or text[-2:] != b'"}' or text[-SEAL_SIZE:-10] != SEAL:
        return None
    text_offset = strip_offset + strip_length
    if text_offset > file.size or crc32(text[:-SEAL_SIZE], file.crc(strip_offset, text_offset)) != crc:
        return None
    try:
        stored = parse_text(text)
    except RecordingFormatError:
        return None
    ifd, tail_ok = _tail(file, text_offset, text)
    if ifd is not None and (ifd.strip_length != strip_length or ifd.text_offset != ifd.strip_offset + strip_length):
        ifd, tail_ok = None, False
    return Whole(strip_offset, strip_length, text, stored, ifd, tail_ok)


def _tail(file: Haystack, text_offset: int, text: bytes) -> Tuple[Optional[OwnIfd], bool]:
    """The IFD behind a text, and whether all that follows the text is as it was written."""
    end = text_offset + len(text)
    ifd_offset = aligned(end + 1)
    ifd = read_own_ifd(file, ifd_offset)
    if ifd is None or ifd.text_count != len(text) + 1:
        return None, False
    whole = ifd_offset + ifd.size <= file.size and not any(file.part(end, ifd_offset - end))
    return ifd, whole and ifd.text_offset == text_offset


_LAYOUTS: Dict[PageShape, PageLayout] = {}


def layout_of(shape: PageShape) -> PageLayout:
    """The layout of pages of this shape."""
    if shape not in _LAYOUTS:
        if len(_LAYOUTS) > 16:
            _LAYOUTS.clear()           # garbage can claim any size
        _LAYOUTS[shape] = PageLayout(*shape)
    return _LAYOUTS[shape]


def read_own_ifd(file: Haystack, offset: int) -> Optional[OwnIfd]:
    """The IFD at ``offset``, if it is one that this package would write, apart from its link, which may be cut off."""
    data = file.part(offset, 8 + 20 * 16 + 8)
    count = struct.unpack_from('<Q', data)[0] if len(data) >= 8 else 0
    size = 8 + 20 * count + 8
    if count not in (14, 16) or len(data) < size - 8:
        return None
    data = data[:size].ljust(size, b'\0')
    tags = {tag: (length, value) for tag, _, length, value in struct.iter_unpack('<HHQQ', data[8:-8])}
    width, height, channels = (tags.get(tag, (0, 0))[1] for tag in (256, 257, 277))
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE and channels in (1, 3)
            and height * width * channels <= MAX_PAGE_BYTES and {270, 273, 279} <= tags.keys()):
        return None
    shape = PageShape(height, width, channels, count == 16)
    text_count, text_offset = tags[270]
    ifd = OwnIfd(shape, size, tags[273][1], tags[279][1], text_offset, text_count, struct.unpack('<Q', data[-8:])[0])
    again = layout_of(shape).ifd(ifd.strip_offset, ifd.strip_length, text_offset, text_count, ifd.next)
    return ifd if again == data else None


class _Finder:
    """One walk through a file."""

    def __init__(self, file: Haystack, begin: int) -> None:
        self._file = file
        self._scan = Scan()
        self._begins = [HEADER_SIZE, begin]      # where the next strip may begin
        self._seal_at = -1                       # the first seal behind what has been searched …
        self._sealless = 0                       # … and up to where there is certainly none
        self._left = {True: max(IFD_BUDGET * file.size, LEAST_BUDGET),
                      False: max(GUESS_BUDGET * file.size, LEAST_BUDGET)}
        self._ifd_size = 0

    def run(self) -> Scan:
        position, link = 0, 0
        while True:
            whole = self._linked(position, link) if link else None
            if whole is None:
                at = self._file.find(PAGE_BEGINS, position, self._file.size)
                if at < 0:
                    return self._scan
                position = at + len(PAGE_BEGINS)
                whole = self._page_at(at)
            link = 0
            if whole is not None:
                self._scan.add(whole)
                position = whole.end
                self._note_end(whole)
                link = whole.ifd.next if whole.ifd else 0

    def _note_end(self, whole: Whole) -> None:
        if whole.ifd is not None:
            self._ifd_size = whole.ifd.size
            self._begins = [whole.end]
        else:
            self._begins = [whole.end + size for size in self._ifd_sizes()]
        self._begins += [begin + FULL_BLOCK for begin in self._begins if self._is_block(begin)]

    def _ifd_sizes(self) -> Tuple[int, ...]:
        return (self._ifd_size,) if self._ifd_size else (8 + 20 * 16 + 8, 8 + 20 * 14 + 8)

    def _is_block(self, offset: int) -> bool:
        try:
            header = parse_block_header(self._file.part(offset, BLOCK_HEADER_SIZE))
            parse_block(self._file.part(offset, header.size), header)
        except RecordingFormatError:
            return False
        return True

    def _linked(self, position: int, link: int) -> Optional[Whole]:
        """The page that a link leads to, if it stands right behind: no need to search then."""
        ifd = read_own_ifd(self._file, link) if position < link < self._file.size else None
        if ifd is None or ifd.strip_offset not in self._begins or not 0 < ifd.text_count <= MAX_TEXT \
                or aligned(ifd.text_offset + ifd.text_count) != link \
                or ifd.text_offset != ifd.strip_offset + ifd.strip_length:
            return None
        text = self._file.part(ifd.text_offset, ifd.text_count - 1)
        return self._proven(ifd.strip_offset, ifd.strip_length, text, True)

    def _page_at(self, at: int) -> Optional[Whole]:
        """The page whose text begins here."""
        text = self._text(at)
        if text is None:
            self._note_damaged(self._file.part(at, 32))
            return None
        ifd, _ = _tail(self._file, at, text)
        places = [(at - ifd.strip_length, True)] if ifd is not None else []
        places += [(begin, False) for begin in dict.fromkeys(self._begins) if begin < at]
        for begin, told in places:
            whole = self._proven(begin, at - begin, text, told)
            if whole is not None:
                return whole
        self._note_damaged(text)
        end = aligned(at + len(text) + 1)
        self._begins = (self._begins + [end + size for size in self._ifd_sizes()])[-6:]
        return None

    def _proven(self, begin: int, length: int, text: bytes, told: bool) -> Optional[Whole]:
        if not 0 < length <= min(self._left[told], MAX_PAGE_BYTES):
            return None
        whole = prove(self._file, begin, length, text)
        self._left[told] -= length
        return whole

    def _text(self, at: int) -> Optional[bytes]:
        """The text that begins here, up to its brace; None when it does not end as texts do."""
        limit = min(at + MAX_TEXT, self._file.size)
        if self._seal_at < at:
            start = max(at, self._sealless)
            self._seal_at = self._file.find(SEAL, start, limit) if start < limit else -1
            self._sealless = max(start, limit - len(SEAL)) if self._seal_at < 0 else self._seal_at
        seal = self._seal_at
        if not at < seal < limit:
            return None
        # The seal of a later text; inside a text quotes are escaped.
        if self._file.find(PAGE_BEGINS, at + len(PAGE_BEGINS), seal) >= 0:
            return None
        text = self._file.part(at, seal - at + SEAL_SIZE)
        return text if text.endswith(b'"}') else None

    def _note_damaged(self, text: bytes) -> None:
        match = _NUMBER.match(text)
        if match and len(self._scan.damaged) < MOST_DAMAGED:
            self._scan.damaged.add(int(match.group(1)))
