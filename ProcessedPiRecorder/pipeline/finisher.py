"""The finisher: a short-lived process that finishes the file of a writer that died.

The kernel still has every page that a killed process wrote. So the finisher links the pages behind the last sync,
adds index, metadata and a report, as the writer would have, and counts what never got into the file: the frames that
lay in the ring.
"""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional

import numpy as np

from ..cameras.base import Granted
from ..errors import RecordingFileError, RecordingFormatError
from ..recordings.salvage import finished_report, remove_older_parts
from ..recordings.tally import Tally
from ..report import Loss, Report, summed_up
from ..settings import Settings
from .channel import Channel, RemoteError
from .plan import Plan
from .ring import Ring, RingLayout, Stat, frames_captured
from .stamps import utc_text

__all__ = ['Account', 'FinisherOrders', 'OwnFile', 'finisher_main']


def finish_cut_off(path: Path, **options: Any) -> None:
    """See recordings.repair. It is imported here, since hardly any recording needs it."""
    from ..recordings import repair
    repair.finish_cut_off(path, **options)


class OwnFile(NamedTuple):
    """The file that the writer has created, by its inode: its name may by now be somebody else's."""

    created: Path
    device: int
    inode: int

    @classmethod
    def at(cls, path: Path) -> 'OwnFile':
        """What stands there now, and is ours."""
        status = os.stat(path)
        return cls(path, status.st_dev, status.st_ino)

    def is_at(self, path: Path) -> bool:
        """Whether our file stands there."""
        try:
            status = os.stat(path)
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == (self.device, self.inode)

    def remove(self, published: Optional[Path]) -> None:
        """Take it back: there is nothing in it."""
        for path in (self.created, published):
            if path is not None and self.is_at(path):
                os.unlink(path)


class FinisherOrders(NamedTuple):
    """What the keeper knows, for the report.

    Attributes:
        layout: of the ring. granted: what the camera gave. file: what the writer had created.
        end: the reader's last words. errors: texts, the writer's death first. warnings: texts.
        callback_restarts: how often the callback was started again.
    """

    layout: RingLayout
    granted: Granted
    file: OwnFile
    end: Mapping[str, Any]
    errors: List[str]
    warnings: List[str]
    callback_restarts: int


class Account:
    """The report on a recording whose writer died: from its pages, the live counters and the reader's last words."""

    def __init__(self, plan: Plan, orders: FinisherOrders, stats: np.ndarray) -> None:
        self._settings: Settings = plan.settings
        self._orders, self._stats = orders, stats
        self.report: Optional[Report] = None

    def describe(self, tally: Tally, files: List[str]) -> Dict[str, Any]:
        """The annotations of the last file."""
        self.report = self.of_pages(tally, files)
        return {'report': self.report.as_dict(), 'settings': self._settings.as_dict(),
                'metadata': dict(self._settings.metadata), 'camera': asdict(self._orders.granted)}

    def empty(self) -> Report:
        """Nothing was written at all."""
        return self.of_pages(Tally(0), [])

    def of_pages(self, tally: Tally, files: List[str]) -> Report:
        """These pages are what there is; the files by their names alone."""
        orders, end, stats = self._orders, self._orders.end, self._stats
        pages = tally.captured
        captured = max(frames_captured(stats), pages)
        losses = [*self._explained(tally.losses), *self._behind_last_page(tally)]
        lost = sum(loss.count for loss in losses)
        granted = orders.granted
        frame_s = 1 / granted.framerate if granted.framerate else 0.0
        span_ns = (tally.last_ns or 0) - (tally.first_ns or 0)
        return Report(
            complete='no', reasons=self._reasons(captured, pages, lost), sensor=captured + lost, captured=captured,
            written=pages, processed=tally.processed, returned=tally.by_status['returned'],
            bypassed=tally.by_status['by-passed'], failed=tally.by_status['failed'],
            lost=lost, losses=summed_up(losses), loss_detection=granted.loss_detection,
            callback_errors=tally.by_status['failed'], callback_restarts=orders.callback_restarts,
            rate_hz=round((pages - 1) / (span_ns / 1e9), 4) if span_ns > 0 else None,
            slowest_interval_ms=round(tally.slowest_ns / 1e6, 3) if tally.slowest_ns else None,
            ring_frames=orders.layout.slots, ring_high_water=int(stats[Stat.HIGH_WATER]), effort=dict(tally.effort),
            effort_under_pressure=tally.pressure.pages, pressure_changes=list(tally.pressure.changes),
            raw_bytes=tally.raw_bytes, file_bytes=tally.file_bytes,
            compression_ratio=round(tally.raw_bytes / tally.strip_bytes, 3) if tally.strip_bytes else None,
            marks=list(tally.marks), results=int(stats[Stat.RESULTS]), stopped=str(end.get('stopped', '')),
            started=utc_text(tally.first_ns) if tally.first_ns is not None else '',
            duration_s=round(span_ns / 1e9 + frame_s, 6) if pages else 0.0,
            camera={'model': granted.model, 'width': granted.width, 'height': granted.height,
                    'framerate': granted.framerate, 'pixel_format': granted.pixel_format,
                    'details': dict(granted.details), 'statistics': end.get('camera', {})},
            clock=dict(end.get('clock', {})), files=[Path(path).name for path in files],
            warnings=list(orders.warnings), errors=list(orders.errors))

    def _explained(self, losses: List[Loss]) -> List[Loss]:
        details = self._orders.end.get('loss_details', {})
        return [replace(loss, detail=details.get(loss.index, loss.detail)) for loss in losses]

    def _behind_last_page(self, tally: Tally) -> List[Loss]:
        """What the reader lost after the last page: it told the writer where, and that died with the writer."""
        count = int(self._stats[Stat.LOST]) - tally.lost
        if count <= 0:
            return []
        return [Loss(tally.captured + tally.lost, count, tally.last_ns, 'process died',
                     'somewhere after the last page; where and why, the writer knew')]

    def _reasons(self, captured: int, pages: int, lost: int) -> List[str]:
        reasons = [self._orders.errors[0]]
        if lost:
            reasons.append(f'{lost} frame{"s" if lost != 1 else ""} lost')
        if captured > pages:
            reasons.append(f'{captured - pages} captured frames are not in the file')
        error = self._orders.end.get('error')
        if error is not None and error.message not in reasons:
            reasons.append(error.message)
        reasons.extend(self._orders.end.get('defects', ()))
        return reasons


def _finish(plan: Plan, orders: FinisherOrders, stats: np.ndarray) -> Report:
    """Finish the file, or take it back where nothing is in it; the report. Raises RecordingFileError."""
    path = plan.tif_path
    assert path is not None
    account = Account(plan, orders, stats)
    if not stats[Stat.RECEIVED]:
        orders.file.remove(path)
        return account.empty()
    if not orders.file.is_at(path):
        raise RecordingFileError(f'{path} was removed or replaced by another program')
    told = finished_report(path)
    if told is not None:
        return told                        # it died when it had done everything
    try:
        finish_cut_off(path, describe=account.describe, progress=partial(_show, stats))
    except RecordingFormatError:           # there is not one whole page in it
        orders.file.remove(path)
        return account.empty()
    assert account.report is not None
    if plan.settings.overwrite:
        remove_older_parts(path, len(account.report.files))
    return replace(account.report, files=[str(path.parent / name) for name in account.report.files])


def _show(stats: np.ndarray, done: int, total: int) -> None:
    stats[Stat.FINISHED_BYTES] = done


def finisher_main(channel: Channel, plan: Plan, arguments: Any) -> int:
    """Entry of the finisher process."""
    message = channel.receive()
    if message is None or message[0] != 'finish':
        return 0
    orders = message[1]
    try:
        report = _finish(plan, orders, Ring(message[2][0], orders.layout).stats)
    except Exception as error:
        channel.send('unfinished', RemoteError.of(error, 'RecordingFileError'))
        return 0
    channel.send('finished', report.as_dict())
    return 0
