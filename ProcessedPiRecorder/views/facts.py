"""What is known of the page that is shown, in words; and where in a recording its marks and losses are."""

from __future__ import annotations

import json
import re
from datetime import datetime, timezone
from typing import Any, Callable, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np

from ..errors import RecordingFileError
from ..reading import Recording, Result
from ..recordings.page import PageRecord
from .drawing import find_boxes
from .player import FOREIGN_RATE

__all__ = ['Facts', 'FactsOf', 'Notice', 'utc']

LONG_PAUSE_S = 1.0            # until the next frame: said, or a viewer seems to stand still
MOST_RESULT_TEXT = 2000       # characters


class Notice(NamedTuple):
    """A few words: 'plain', or a 'mark', a 'warning', something 'bad'."""

    text: str
    kind: str = 'plain'


class Facts(NamedTuple):
    """Of one page. place: where and when it is; notices: what is special about it; results: as they were put."""

    place: Tuple[str, ...]
    notices: Tuple[Notice, ...]
    results: Tuple[Result, ...]

    @property
    def results_text(self) -> str:
        """The results that have no boxes, which are drawn."""
        texts = [text_of(result.result) for result in self.results if not find_boxes(result)]
        return ' | '.join(texts)[:MOST_RESULT_TEXT]


class FactsOf:
    """The facts of any page of a recording.

    marked, lossy: the pages that marks fall on, and those before which frames are missing; int64, increasing.
    """

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._problems: List[Notice] = []
        marks: List[Any] = self._tried('no marks', lambda: recording.marks) or []
        self.marked = np.unique(np.array([mark['page'] for mark in marks if mark['page'] is not None], np.int64))
        self.lossy = _lossy(recording.indices)
        self._lost_at_end = self._tried('no verdict', lambda: _lost_at_end(recording)) or 0
        # The file is looked through once, here.
        self._has_results = bool(self._tried('no results', lambda: len(recording.results)))

    def _tried(self, what: str, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except RecordingFileError as error:    # the frames can be looked at all the same
            self._problems.append(Notice(f'{what}: {error}', 'warning'))
            return None

    def of(self, page: int) -> Facts:
        """What there is to say; reads the page's text and its results."""
        notices = [*self._frame(page), *self._pauses(page)]
        if page == len(self._recording) - 1 and self._lost_at_end:
            notices.append(Notice(f'{_frames(self._lost_at_end)} lost after this one', 'bad'))
        results: List[Result] = []
        try:
            results = self._recording.results_of(page) if self._has_results else []
        except RecordingFileError as error:
            notices.append(Notice(str(error), 'warning'))
        return Facts(tuple(self._place(page)), (*notices, *self._problems), tuple(results))

    @property
    def widest(self) -> Tuple[str, ...]:
        """As long as the texts of a place come to be, each of them."""
        recording = self._recording
        texts = list(self._place(len(recording) - 1))
        times = recording.times_ns
        if times is not None and len(times) > 1:
            texts[-1] = _interval(int(np.diff(times).max()))
        return tuple(re.sub(r'\d', '8', text) for text in texts)

    def _place(self, page: int) -> Iterator[str]:
        recording = self._recording
        times, indices = recording.times_ns, recording.indices
        if indices is not None:
            yield f'frame {int(indices[page]):,}'
        yield f'page {page:,} of {len(recording):,}'
        if times is None:
            yield f'no times: played at {FOREIGN_RATE:g} Hz'
            return
        yield utc(int(times[page]))
        yield f'{(int(times[page]) - int(times[0])) / 1e9:,.3f} s'
        if page:
            yield _interval(int(times[page]) - int(times[page - 1]))

    def _pauses(self, page: int) -> Iterator[Notice]:
        times = self._recording.times_ns
        if times is not None and page + 1 < len(times):
            pause_s = (int(times[page + 1]) - int(times[page])) / 1e9
            if pause_s >= LONG_PAUSE_S:
                yield Notice(f'the next frame came {pause_s:,.1f} s later', 'warning')

    def _frame(self, page: int) -> Iterator[Notice]:
        if not self._recording.is_ours:
            return
        try:
            record = self._recording.record(page)
        except RecordingFileError as error:
            yield Notice(f'this page tells nothing of its frame: {error}', 'bad')
            return
        yield from _losses(record)
        if record.status == 'failed':
            yield Notice('failed: the callback raised on this frame, or died', 'bad')
        elif record.status == 'by-passed':
            yield Notice('by-passed: the callback had no time for this frame', 'warning')
        for mark in record.marks:
            yield Notice(f'mark: {mark["label"]}', 'mark')
        if record.status == 'returned':
            yield Notice('returned by the callback')
        if record.cb_ms is not None:
            yield Notice(f'callback {record.cb_ms:.1f} ms')
        if record.skew_ns is not None:
            yield Notice(f'left eye {abs(record.skew_ns) / 1e3:,.0f} us {"later" if record.skew_ns > 0 else "earlier"}')


def _interval(nanoseconds: int) -> str:
    return f'+{nanoseconds / 1e6:,.3f} ms'


def utc(time_ns: int) -> str:
    """'2026-07-01 12:34:56.123456 UTC'."""
    moment = datetime.fromtimestamp(time_ns // 1_000_000_000, timezone.utc)
    return f'{moment:%Y-%m-%d %H:%M:%S}.{time_ns // 1000 % 1_000_000:06d} UTC'


def text_of(result: Any) -> str:
    """A result as one line."""
    return result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)


def _losses(record: PageRecord) -> Iterator[Notice]:
    if record.lost:
        reasons = ', '.join(dict.fromkeys(str(loss['reason']) for loss in record.lost))
        count = sum(int(loss['count']) for loss in record.lost)
        yield Notice(f'{_frames(count)} lost before this one ({reasons})', 'bad')


def _frames(count: int) -> str:
    return f'{count:,} frame{"s" * (count != 1)}'


def _lossy(indices: Optional[np.ndarray]) -> np.ndarray:
    if indices is None:
        return np.empty(0, np.int64)
    pages = np.flatnonzero(np.diff(indices) != 1) + 1
    return np.concatenate([[0], pages]) if indices[0] else pages


def _lost_at_end(recording: Recording) -> int:
    report = recording.report
    if report is None or recording.indices is None:
        return 0
    last = int(recording.indices[-1])
    return sum(loss.count for loss in report.losses if loss.index > last)
