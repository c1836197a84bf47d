"""The pages in their order, over all files of a recording: numbers, times, losses, and the ledger that they make."""

from __future__ import annotations

from array import array
from typing import Any, Dict, List, Optional

from ..ome import MAX_PLANES
from ..page import PageRecord, StoredPage
from ..tally import Tally
from .pages import CheckedPage
from .recorded_file import RecordedFile

__all__ = ['FileSequence', 'Sequence']


class FileSequence:
    """What the pages of one file tell that its description has to tell, too.

    Attributes:
        pages: how many there were; damaged: how many of them could not be read.
        times_ns: of the first MAX_PLANES pages; last_ns: of the last one. marks: with page and index.
    """

    def __init__(self) -> None:
        self.pages = 0
        self.damaged = 0
        self.times_ns = array('q')
        self.last_ns = 0
        self.marks: List[Dict[str, Any]] = []

    def page(self, stored: Optional[StoredPage]) -> None:
        """The next page; None: it cannot be read."""
        self.pages += 1
        if stored is None:
            self.damaged += 1
            return
        record = stored.record
        if len(self.times_ns) < MAX_PLANES:
            self.times_ns.append(record.time_ns)
        self.last_ns = record.time_ns
        for mark in record.marks:
            self.marks.append({'label': mark['label'], 'time_ns': mark['time_ns'], 'page': self.pages - 1,
                               'index': record.index})


class Sequence:
    """Takes the checked pages one after the other.

    Attributes:
        tally: the ledger. whole: whether every page could be read, so that the ledger is all of it.
        set_back: frames whose sensor time did not increase.
        indices, times_ns: of all pages, for those who look frames up.
    """

    def __init__(self) -> None:
        self.tally = Tally(0)
        self.whole = True
        self.set_back = 0
        self.indices, self.times_ns = array('q'), array('q')
        self._last: Optional[PageRecord] = None
        self._known_before = True           # whether the page before the next one could be read

    @property
    def next_index(self) -> int:
        """The number that a frame behind the last page would have."""
        return 0 if self._last is None else self._last.index + 1

    def begin_file(self, recorded: RecordedFile, follows: bool) -> FileSequence:
        """The next file; ``follows``: nothing is missing before it."""
        if recorded.shape is not None and not self.tally.captured:
            self.tally = Tally(recorded.shape.nbytes)
        self._known_before = self._known_before and follows
        return FileSequence()

    def page(self, recorded: RecordedFile, number: int, checked: CheckedPage) -> None:
        """The next page of the file."""
        for kind, text in checked.problems:
            recorded.found(kind, text, number)
        stored = checked.stored
        if stored is None:
            self.whole = self._known_before = False
            return
        if stored.page != number:
            recorded.found('order', f'its text says that it is page {stored.page}', number)
        if recorded.part is not None and stored.part != recorded.part:
            recorded.found('parts', f'its text says that it belongs to part {stored.part}, the file is part '
                                    f'{recorded.part}', number)
        in_order = self._check_order(recorded, number, stored.record)
        unexplained = len(self.tally.unexplained)
        self.tally.page(stored, checked.row.strip_length)
        if in_order and self._known_before:
            self._check_losses(recorded, number, stored.record, unexplained)
        self.indices.append(stored.record.index)
        self.times_ns.append(stored.record.time_ns)
        self._last, self._known_before = stored.record, True

    def _check_order(self, recorded: RecordedFile, number: int, record: PageRecord) -> bool:
        last = self._last
        if last is None:
            return True
        if record.time_ns <= last.time_ns:
            recorded.found('order', f'its time, {record.time_ns} ns, is not after that of the page before, '
                                    f'{last.time_ns} ns', number)
        if record.host_ns < last.host_ns:
            recorded.found('order', f'it arrived at {record.host_ns} ns, before the page before it '
                                    f'({last.host_ns} ns)', number)
        if record.sensor_ns is not None and last.sensor_ns is not None and record.sensor_ns <= last.sensor_ns:
            self.set_back += 1
        if record.index > last.index:
            return True
        recorded.found('order', f'it holds frame {record.index}, the page before it frame {last.index}', number)
        return False

    def _check_losses(self, recorded: RecordedFile, number: int, record: PageRecord, unexplained_before: int) -> None:
        for loss in self.tally.unexplained[unexplained_before:]:
            told = sum(int(item['count']) for item in record.lost)
            recorded.found('loss', f'before it {told + loss.count} frame numbers are missing, and it tells of {told}',
                           number)
        following = self.next_index
        for lost in record.lost:
            if lost['index'] != following or lost['count'] < 1:
                recorded.found('loss', f'it tells of {lost["count"]} lost from frame {lost["index"]} on, where frame '
                                       f'{following} would follow', number)
                return
            following += lost['count']
