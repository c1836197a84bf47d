"""Every page of a file: checksum, pixels, text and IFD, byte for byte; in parallel, with few pages in memory.

The expected bytes are made by the same ``PageLayout`` that wrote them, from the page's place and text, so that not
one bit of a page is left unlooked at.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Executor
from itertools import islice
from typing import Callable, Deque, Iterable, Iterator, List, NamedTuple, Optional, Tuple, TypeVar

from ...errors import RecordingFormatError
from ..bigtiff import PageLayout
from ..decoder import decode_strip
from ..index import index_record, pack_record
from ..page import StoredPage, parse_text, strip_crc, text_is_intact
from ..tags import FileBytes, PageShape, check_strip
from .recorded_file import MAX_PAGE_TEXT, PageRow

__all__ = ['CheckedPage', 'check_page', 'in_order']

Problem = Tuple[str, str]     # kind of finding, text
Item = TypeVar('Item')
Result = TypeVar('Result')


class CheckedPage(NamedTuple):
    """A page's text as parsed (None when it cannot be), its index record by it, and what is wrong with the page."""

    row: PageRow
    stored: Optional[StoredPage]
    record: bytes
    problems: List[Problem]


def check_page(file: FileBytes, shape: PageShape, layout: PageLayout, row: PageRow, next_ifd: int) -> CheckedPage:
    """Check one page; ``next_ifd`` is where its link should lead. Any thread. Raises nothing for a damaged page."""
    problems: List[Problem] = []
    try:
        check_strip(file, shape, row.strip_offset, row.strip_length)
        if row.text_length > MAX_PAGE_TEXT:
            raise RecordingFormatError(f'its text would have {row.text_length} bytes')
        place = layout.place(row.strip_offset, row.strip_length, bytes(row.text_length))
        data = memoryview(file.read(row.strip_offset, place.end - row.strip_offset, 'page'))
    except RecordingFormatError as error:
        return CheckedPage(row, None, b'', [('layout', f'it is not where it should be: {error}')])
    strip, text = data[:row.strip_length], bytes(data[row.strip_length:row.strip_length + row.text_length])
    if not text_is_intact(text, strip_crc([strip])):
        problems.append(('checksum', 'its checksum does not fit: pixels or text are not those that were written'))
    try:
        decode_strip(strip, *shape, 'rgb')
    except RecordingFormatError as error:
        problems.append(('pixels', str(error)))
    stored = _parsed(text, problems)
    problems += _compare_tail(layout, row, text, data[row.strip_length:], next_ifd)
    if stored is None:
        return CheckedPage(row, None, b'', problems)
    record = pack_record(index_record(place.ifd_offset, row.strip_offset, row.strip_length, row.text_length,
                                      stored.record, stored.effort, stored.crc32))
    if row.record not in (None, record):
        problems.append(('index', 'the page index tells something else of it than its text: number, time, status, '
                                  'checksum or place'))
    return CheckedPage(row, stored, record, problems)


def _parsed(text: bytes, problems: List[Problem]) -> Optional[StoredPage]:
    try:
        return parse_text(text)
    except RecordingFormatError as error:
        problems.append(('text', str(error)))
        return None


def _compare_tail(layout: PageLayout, row: PageRow, text: bytes, tail: memoryview, next_ifd: int) -> Iterator[Problem]:
    place = layout.place(row.strip_offset, row.strip_length, text)
    if row.ifd_offset != place.ifd_offset:
        yield 'layout', f'its IFD should lie at {place.ifd_offset}, right behind its text, not at {row.ifd_offset}'
    expected = layout.tail(place, text, next_ifd)
    if tail == expected:
        return
    ifd_at = place.ifd_offset - place.text_offset
    if any(tail[len(text):ifd_at]):
        yield 'layout', 'the bytes that end its text and pad it are not zero'
    if tail[ifd_at:-8] != expected[ifd_at:-8]:
        yield 'tags', 'its IFD is not as it was written'
    if tail[-8:] != expected[-8:]:
        leads_to = int.from_bytes(tail[-8:], 'little')
        yield 'link', (f'its link leads to {leads_to} instead of ' + (f'the next page at {next_ifd}' if next_ifd else
                       'ending the chain')) if leads_to else 'the chain ends with it, though pages follow'


def in_order(executor: Optional[Executor], window: int, function: Callable[[Item], Result],
             items: Iterable[Item]) -> Iterator[Result]:
    """``map`` that never works on more than ``window`` items at once; without an executor, one after the other."""
    if executor is None:
        yield from map(function, items)
        return
    left = iter(items)
    running: Deque = deque(executor.submit(function, item) for item in islice(left, window))
    try:
        while running:
            result = running.popleft().result()
            running.extend(executor.submit(function, item) for item in islice(left, 1))
            yield result
    finally:
        for future in running:
            future.cancel()
