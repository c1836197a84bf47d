"""What no page of a recording tells, since its file is not here: where such files belong, and the marks in them."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Mapping, Optional

import numpy as np

from ..reading import Recording
from ..reading.sources import OwnPages
from ..report import Report
from .grid import Grid

__all__ = ['Astray', 'first_pages', 'holes']


class Astray:
    """Marks that the report tells and no page here: of missing files, and those behind the last page.

    report: None where there is none that can be trusted, and so no such marks.

    Attributes:
        holes: pages right before which a file is missing, with frames in it; behind: marks behind the last page.
    """

    def __init__(self, recording: Recording, own: OwnPages, report: Optional[Report]) -> None:
        assert recording.indices is not None and recording.times_ns is not None
        self._indices, self._times_ns = recording.indices, recording.times_ns
        self.holes = list(holes(own, self._indices))
        self.behind: List[Mapping[str, Any]] = []
        self._before: Dict[int, List[Mapping[str, Any]]] = {}
        found = recording.marks if report is not None else []
        astray = [mark for mark in found if mark['page'] is None]
        # Else some are on pages whose text is damaged. (An index holds at most so many of a page's marks.)
        all_told = len(found) - len(astray) >= int(own.column('marks').sum(dtype=np.int64))
        for mark in astray:
            told = {name: value for name, value in mark.items() if name not in ('index', 'page')}
            page = int(np.searchsorted(self._times_ns, mark['time_ns']))
            hole = next((place for place in self.holes if place >= page), None)
            if hole is not None:
                self._before.setdefault(hole, []).append(told)
            elif all_told or page == len(self._times_ns):
                self.behind.append(told)

    def marks_before(self, page: int, grid: Grid) -> List[Mapping[str, Any]]:
        """Marks of the file that is missing before a page, those that fall into the grid's range by their times."""
        return [mark for mark in self._before.get(page, ())
                if grid.start <= self._number(int(mark['time_ns']), page) < grid.behind]

    def _number(self, time_ns: int, page: int) -> int:
        """Of the frame that was due at a time in the hole before a page, about."""
        last = int(self._indices[page]) - 1
        if page == 0:
            return last
        before, begin = int(self._indices[page - 1]), int(self._times_ns[page - 1])
        part = (time_ns - begin) / (int(self._times_ns[page]) - begin)
        return min(max(before + round(part * (last + 1 - before)), before + 1), last)


def first_pages(own: OwnPages) -> Iterator[int]:
    """The number of each file's first page."""
    page = 0
    while page < own.pages:
        yield page
        part, _ = own.place(page)
        page += part.pages


def holes(own: OwnPages, indices: np.ndarray) -> Iterator[int]:
    """Pages right before which a file is missing, with frames in it."""
    before = -1
    for page in first_pages(own):
        number = own.place(page)[0].part
        if number > before + 1 and int(indices[page]) > (int(indices[page - 1]) + 1 if page else 0):
            yield page
        before = number
