"""One file from its first byte to its last: every byte belongs to exactly one thing, and that thing is as it should be.

What each byte should be is made anew, from the pages' places and texts, by the code that writes recordings.
"""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Callable, Iterator, List, Optional, Tuple

from ...errors import RecordingFormatError
from ..index import PAGES_A_BLOCK, index_block
from .pages import CheckedPage, check_page, in_order
from .recorded_file import PageRow, RecordedFile
from .sequence import FileSequence, Sequence

__all__ = ['Accounts', 'check_file']

PAGES_A_THREAD = 2


def check_file(recorded: RecordedFile, sequence: Sequence, facts: FileSequence, executor: Optional[Executor],
               threads: int, progress: Callable[[], None]) -> Accounts:
    """Check all pages and all bytes of a file that is not broken.

    sequence, facts: get the pages. progress: called after each page.
    """
    assert recorded.shape is not None and recorded.layout is not None
    accounts = Accounts(recorded)
    file, shape, layout = recorded.file, recorded.shape, recorded.layout

    def check(item: Tuple[PageRow, int]) -> CheckedPage:
        return check_page(file, shape, layout, *item)

    for page, checked in enumerate(in_order(executor, PAGES_A_THREAD * threads, check, _with_next(recorded))):
        if page + 1 == recorded.pages and recorded.may_go_on:
            checked = checked._replace(problems=[item for item in checked.problems if item[0] != 'link'])
        accounts.page(page, checked)
        sequence.page(recorded, page, checked)
        facts.page(checked.stored)
        progress()
    accounts.end()
    return accounts


def _with_next(recorded: RecordedFile) -> Iterator[Tuple[PageRow, int]]:
    """Each page's row, and where the next page's IFD lies (0 after the last)."""
    row = recorded.row(0)
    for page in range(1, recorded.pages):
        following = recorded.row(page)
        yield row, following.ifd_offset
        row = following
    yield row, 0


class Accounts:
    """Which bytes of the file are accounted for.

    Attributes:
        at: where the next thing has to begin. pages_end: where all that was written with the pages ends.
        blocks: where the index blocks are.
    """

    def __init__(self, recorded: RecordedFile) -> None:
        self._recorded = recorded
        self.blocks: List[int] = []
        self.at = self.pages_end = recorded.preface_end
        self._records: Optional[bytearray] = bytearray()      # of the block to come; None: not all could be made

    def page(self, page: int, checked: CheckedPage) -> None:
        """The next page, and the index block behind it where there is one."""
        recorded, row = self._recorded, checked.row
        self._begin(f'page {page}', row.strip_offset, page)
        assert recorded.layout is not None
        end = recorded.layout.place(row.strip_offset, row.strip_length, bytes(min(row.text_length, 1 << 24))).end
        if self.at <= row.strip_offset and end <= recorded.file.size:
            self.at = end
        record = row.record or checked.record
        if self._records is not None and record:
            self._records += record
        else:
            self._records = None
        self.pages_end = self.at
        is_last, is_full = page + 1 == recorded.pages, (page + 1) % PAGES_A_BLOCK == 0
        # Behind the last page that is linked, an unfinished file may hold anything.
        if recorded.finished and is_last or is_full and not is_last:
            self._block(page)
        if is_full:
            self.pages_end = self.at

    def _block(self, last_page: int) -> None:
        recorded = self._recorded
        first = last_page - last_page % PAGES_A_BLOCK
        records, self._records = self._records, bytearray()
        previous = self.blocks[-1] if self.blocks else 0
        known = bytes(records) if records is not None else bytes(64 * (last_page + 1 - first))
        block = index_block(known, first, previous)
        try:
            stored = recorded.file.read(self.at, len(block) + -len(block) % 8, 'page index')
        except RecordingFormatError as error:
            recorded.found('index', str(error))
            return
        if records is not None and stored[:len(block)] != block:
            recorded.found('index', f'the page index block at {self.at} is not the one of pages {first} to {last_page}')
        if any(stored[len(block):]):
            recorded.found('layout', f'the bytes that pad the page index block at {self.at} are not zero')
        self.blocks.append(self.at)
        self.at += len(stored)

    def end(self) -> None:
        """What comes behind the pages."""
        recorded = self._recorded
        if not recorded.finished:
            return
        first, layout = recorded.first, recorded.layout
        assert first is not None and layout is not None
        self._begin('the OME-XML', first.text_offset)
        end = first.text_offset + first.text_length
        ifd_at = end + 1 + -(end + 1) % 8
        page0 = recorded.row(0)
        following = recorded.row(1).ifd_offset if recorded.pages > 1 else 0
        expected = bytes(ifd_at - end) + layout.ifd(page0.strip_offset, page0.strip_length, first.text_offset,
                                                   first.text_length + 1, following)
        try:
            stored = recorded.file.read(end, len(expected), 'last IFD')
        except RecordingFormatError as error:
            recorded.found('layout', str(error))
            return
        if first.offset != ifd_at:
            recorded.found('header', f'it leads to {first.offset} instead of the IFD at {ifd_at} behind the OME-XML')
        if stored != expected:
            recorded.found('link' if stored[:-8] == expected[:-8] else 'tags',
                           'what follows the OME-XML (padding, and the IFD of page 0) is not as it was written')
        behind = recorded.file.size - end - len(expected)
        if behind:
            recorded.found('layout', f'{behind} bytes follow its end that do not belong to it')

    def unaccounted(self) -> int:
        """Bytes behind the last thing that was accounted for."""
        return self._recorded.file.size - self.at

    def _begin(self, what: str, offset: int, page: Optional[int] = None) -> None:
        if offset > self.at:
            self._recorded.found('layout', f'{what} begins at {offset}; the {offset - self.at} bytes before it, from '
                                           f'{self.at} on, belong to nothing', page)
        elif offset < self.at:
            self._recorded.found('layout', f'{what} begins at {offset}, within what stands before it, which ends at '
                                           f'{self.at}', page)
