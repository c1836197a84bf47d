"""Which frames a cut takes: every so many numbers, whether their frames are there or lost; and what falls between."""

from __future__ import annotations

from typing import Any, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Tuple

import numpy as np

from ..errors import ExportError
from ..reading import Recording
from ..recordings.page import MOST_LOSSES
from ..report import Report
from .range import Place, index_range, leave_nothing, parse_place

__all__ = ['Gathered', 'Grid', 'end_of', 'grid_of', 'lost_behind', 'lost_between']


class Grid(NamedTuple):
    """The frame numbers start, start + every, … below behind; the n-th of them is number n in the cut.

    open: the range reaches to the end of the recording, whatever happened there.
    """

    start: int
    behind: int
    every: int
    open: bool

    def number(self, index: int) -> int:
        """In the cut, of a frame on the grid."""
        return (index - self.start) // self.every

    def of(self, indices: np.ndarray) -> np.ndarray:
        """Which of these numbers are on the grid, a mask."""
        return (indices >= self.start) & (indices < self.behind) & ((indices - self.start) % self.every == 0)

    def within(self, index: int, count: int) -> Tuple[int, int]:
        """Of ``count`` numbers from ``index`` on, those on the grid: the first one's in the cut, and how many."""
        first = max(index, self.start)
        last = min(index + count, self.behind) - 1
        number = -((self.start - first) // self.every)
        return number, max(0, (last - self.start) // self.every - number + 1)


def grid_of(recording: Recording, start: Optional[Place], stop: Optional[Place], every: int, end: int) -> Grid:
    """The grid. Whole numbers are pages, as in every export, texts are places (:mod:`.range`). Raises ExportError.

    A range that begins with page 0 begins with frame 0, also where the first frames were lost; one that ends before a
    page takes what was lost before that one; one without an end goes up to ``end`` (see ``end_of``). A frame's number
    that is told as text is taken as it is.
    """
    if isinstance(every, bool) or not isinstance(every, int) or every < 1:
        raise ExportError(f'every={every!r} is no step; pass 1 for all frames, 2 for every second one, …')
    indices = recording.indices
    assert indices is not None
    pages = range(len(indices))[None if isinstance(start, str) else start:None if isinstance(stop, str) else stop]
    told = index_range(recording, start if isinstance(start, str) else None, stop if isinstance(stop, str) else None)
    first = told[0] if isinstance(start, str) else 0 if not pages.start else \
        int(indices[pages.start]) if pages else told[1]
    last = int(indices[-1])
    if isinstance(stop, str):
        numbered = parse_place(stop).index is not None
        is_open = told[1] > last + numbered
        behind = told[1] if numbered or not is_open else end
    else:
        is_open = pages.stop >= len(indices)
        behind = end if is_open else int(indices[pages.stop])
    grid = Grid(first, behind, every, is_open)
    if not grid.of(indices).any():
        raise ExportError(f'{leave_nothing(start, stop, every)} no frame of the {len(recording):,} of '
                          f'{recording.path.name} (numbers {int(indices[0])} to {last})')
    return grid


class Gathered:
    """What pages tell beside their pixels, gathered for the next one that is in the cut. Also at the very end.

    Attributes:
        lost: places on the grid, as a page's text has them, in the cut's numbers. marks: of all frames between.
    """

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self.lost: List[Dict[str, Any]] = []
        self.marks: List[Mapping[str, Any]] = []

    def losses(self, losses: List[Dict[str, Any]]) -> None:
        """Losses of the original, in its numbers."""
        for loss in losses:
            number, count = self._grid.within(loss['index'], loss['count'])
            if count:
                self.lost.append({**loss, 'index': number, 'count': count})

    def take(self) -> Tuple[Tuple[Mapping[str, Any], ...], Tuple[Mapping[str, Any], ...]]:
        """(lost, marks) so far; the next page begins with none. At most MOST_LOSSES places, the last sums up."""
        lost, marks = self.lost, self.marks
        self.lost, self.marks = [], []
        if len(lost) > MOST_LOSSES:
            rest = lost[MOST_LOSSES - 1:]
            lost = [*lost[:MOST_LOSSES - 1],
                    {**rest[0], 'count': sum(loss['count'] for loss in rest), 'reason': 'other'}]
        return tuple(lost), tuple(marks)


def lost_between(before: int, time_ns: Optional[int], told: Iterable[Mapping[str, Any]], index: int, untold: str
                 ) -> List[Dict[str, Any]]:
    """What is missing between frame ``before`` and number ``index``, all of it, each with its reason.

    told: of it, in order. untold: the reason for the rest.
    """
    return list(_filled(before + 1, index, time_ns, [dict(loss) for loss in told], untold))


def end_of(recording: Recording, report: Optional[Report]) -> int:
    """One more than the last frame's number that is known to have been, as the report tells it, lost or not."""
    assert recording.indices is not None
    following = int(recording.indices[-1]) + 1
    if report is None:
        return following
    written = [following, *(loss.index + loss.count for loss in report.losses)]
    return max([*written, report.sensor] if report.captured > report.written else written)


def lost_behind(recording: Recording, report: Optional[Report]) -> List[Dict[str, Any]]:
    """The same behind the last page, as the report tells it."""
    assert recording.indices is not None and recording.times_ns is not None
    told = [{'index': loss.index, 'count': loss.count, 'time_ns': loss.time_ns, 'reason': loss.reason}
            for loss in (report.losses if report is not None else [])]
    return list(_filled(int(recording.indices[-1]) + 1, end_of(recording, report), int(recording.times_ns[-1]), told,
                        'other'))                    # other: captured, and never written


def _filled(first: int, end: int, time_ns: Optional[int], told: List[Dict[str, Any]], reason: str
            ) -> Iterator[Dict[str, Any]]:
    """The numbers first … end as ``told`` explains them, in order, without gaps; the others with ``reason``."""
    for loss in told:
        begin, behind = max(first, loss['index']), min(end, loss['index'] + loss['count'])
        if behind <= begin:
            continue
        if begin > first:
            yield {'index': first, 'count': begin - first, 'time_ns': time_ns, 'reason': reason}
        yield {**loss, 'index': begin, 'count': behind - begin}
        first = behind
    if first < end:
        yield {'index': first, 'count': end - first, 'time_ns': time_ns, 'reason': reason}
