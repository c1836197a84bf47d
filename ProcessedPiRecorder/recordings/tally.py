"""The ledger as the pages alone tell it: what ``ppr verify`` holds against the report, and ``ppr repair`` rebuilds.

Deliberately independent of the ledger that the writer keeps while it records (``pipeline/ledger.py``): two
accounts of the same frames, made in different ways, have to agree.
"""

from __future__ import annotations

import datetime
from typing import Any, Dict, List, Optional

from ..report import Loss, summed_up
from .page import STATUSES, StoredPage
from .pressure import PressureLog

__all__ = ['Tally', 'utc_text']


class Tally:
    """Counts pages in the order of the file; over all files of a split recording.

    Attributes:
        captured: pages. lost, losses: what the pages tell is missing between them.
        unexplained: frames that are missing in the numbering and of which no page tells.
        by_status: pages by status; processed: of the raw and returned ones, those that the callback saw.
        effort: pages by effort; pressure: see PressureLog.
        raw_bytes, strip_bytes: before and after compression. file_bytes: of the files up to the end of the last page,
        where whoever counts the pages knows it; else 0.
        marks: {label, time_ns} in their order. first_ns, last_ns: originating times. slowest_ns: longest interval.
    """

    def __init__(self, frame_bytes: int) -> None:
        self._frame_bytes = frame_bytes
        self.captured = 0
        self.lost = 0
        self.losses: List[Loss] = []
        self.unexplained: List[Loss] = []
        self.by_status: Dict[str, int] = dict.fromkeys(STATUSES, 0)
        self.processed = 0
        self.effort: Dict[str, int] = {}
        self.pressure = PressureLog()
        self.raw_bytes = 0
        self.strip_bytes = 0
        self.file_bytes = 0
        self.marks: List[Dict[str, Any]] = []
        self.first_ns: Optional[int] = None
        self.last_ns: Optional[int] = None
        self.slowest_ns = 0
        self._next_index = 0

    def page(self, stored: StoredPage, strip_length: int) -> None:
        """The next page."""
        record = stored.record
        self._count_losses(stored)
        self.captured += 1
        self.by_status[record.status] += 1
        if record.cb_ms is not None and record.status in ('raw', 'returned'):
            self.processed += 1
        self.effort[stored.effort] = self.effort.get(stored.effort, 0) + 1
        self.pressure.page(record.index, record.time_ns, stored.pressure, stored.effort)
        self.raw_bytes += self._frame_bytes
        self.strip_bytes += strip_length
        self.marks.extend({'label': mark['label'], 'time_ns': mark['time_ns']} for mark in record.marks)
        if self.last_ns is None:
            self.first_ns = record.time_ns
        else:
            self.slowest_ns = max(self.slowest_ns, record.time_ns - self.last_ns)
        self.last_ns = record.time_ns

    def figures(self, framerate: Any = None) -> Dict[str, Any]:
        """The fields of a :class:`~..report.Report` that the pages tell. framerate: the camera's, Hz; None: unknown."""
        seconds = ((self.last_ns or 0) - (self.first_ns or 0)) / 1e9
        frame_s = 1 / framerate if isinstance(framerate, (int, float)) and framerate > 0 else 0.0
        return {
            'sensor': self.captured + self.lost, 'captured': self.captured, 'written': self.captured,
            'processed': self.processed, 'returned': self.by_status['returned'],
            'bypassed': self.by_status['by-passed'], 'failed': self.by_status['failed'], 'lost': self.lost,
            'losses': summed_up(list(self.losses)), 'effort': dict(self.effort),
            'effort_under_pressure': self.pressure.pages, 'pressure_changes': list(self.pressure.changes),
            'raw_bytes': self.raw_bytes,
            'compression_ratio': round(self.raw_bytes / self.strip_bytes, 3) if self.strip_bytes else None,
            'marks': list(self.marks), 'rate_hz': round((self.captured - 1) / seconds, 4) if seconds > 0 else None,
            'slowest_interval_ms': round(self.slowest_ns / 1e6, 3) if self.slowest_ns else None,
            'started': utc_text(self.first_ns) if self.first_ns is not None else '',
            'duration_s': round(seconds + frame_s, 6) if self.captured else 0.0}

    def _count_losses(self, stored: StoredPage) -> None:
        record = stored.record
        told = 0
        for loss in record.lost:
            told += int(loss['count'])
            self.losses.append(Loss(int(loss['index']), int(loss['count']), loss['time_ns'], str(loss['reason'])))
        self.lost += told
        missing = record.index - self._next_index
        if missing != told:
            self.unexplained.append(Loss(self._next_index, missing - told, self.last_ns, 'unknown'))
        self._next_index = record.index + 1


def utc_text(time_ns: int) -> str:
    """UTC in ISO 8601 with milliseconds; of what no calendar holds, the number."""
    seconds, rest = divmod(time_ns, 10**9)
    try:
        moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=seconds)
    except OverflowError:
        return f'{time_ns} ns'
    return f'{moment:%Y-%m-%dT%H:%M:%S}.{rest // 10**6:03d}Z'
