"""The ledger: what became of every frame. Kept by the writer, closed into the report."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional

from ..cameras.base import Granted
from ..report import MAX_ERRORS, MOST_PLACES, Loss, Report
from .histogram import DurationHistogram
from .stamps import utc_text

__all__ = ['Ledger']


class Ledger:
    """Counts of one recording; used by the writer's hub thread only."""

    def __init__(self, granted: Granted) -> None:
        self._granted = granted
        self.captured = 0
        self.written = 0
        self.unwritten = 0                  # captured, but the file broke before they were in it
        self.by_status: Dict[str, int] = {'raw': 0, 'returned': 0, 'by-passed': 0, 'failed': 0}
        self.processed = 0
        self.callback_errors = 0
        self.callback_restarts = 0
        self.losses: List[Loss] = []
        self.lost = 0
        self.marks: List[Dict[str, Any]] = []
        self.callback_latency = DurationHistogram()
        self.callback_time = DurationHistogram()
        self.disk_latency = DurationHistogram()
        self.warnings: List[str] = []
        self.errors: List[str] = []
        self.file_error = ''                # why nothing more could be written
        self.first_ns: Optional[int] = None
        self.last_ns: Optional[int] = None
        self.slowest_ns = 0

    def frame(self, time_ns: int) -> None:
        """A frame has arrived."""
        self.captured += 1
        if self.last_ns is None:
            self.first_ns = time_ns
        elif time_ns - self.last_ns > self.slowest_ns:
            self.slowest_ns = time_ns - self.last_ns
        self.last_ns = time_ns

    def lose(self, loss: Loss) -> None:
        """Frames are missing."""
        self.lost += loss.count
        if len(self.losses) < MOST_PLACES:
            self.losses.append(loss)
            return
        last = self.losses[-1]
        self.losses[-1] = Loss(last.index, last.count + loss.count, last.time_ns, 'other',
                               'all further losses, summed up')

    def note_error(self, text: str) -> None:
        """An error, for the report; the first hundred say enough."""
        if len(self.errors) < MAX_ERRORS:
            self.errors.append(text)

    def explain_losses(self, details: Mapping[int, str]) -> None:
        """Add what the reader knows more about the losses at these indices."""
        self.losses = [Loss(loss.index, loss.count, loss.time_ns, loss.reason, details.get(loss.index, loss.detail))
                       for loss in self.losses]

    def report(self, *, write_vid: bool, end: Mapping[str, Any], totals: Any, ring_frames: int, high_water: int,
               results: int, files: List[str]) -> Report:
        """The report; ``end`` is the reader's last message, ``totals`` the page sink's figures or None."""
        reasons = self._reasons(write_vid, end)
        known_bad = bool(reasons)
        if self._granted.loss_detection == 'none':
            reasons.append('this camera gives no means to see losses')
        elif end.get('clock', {}).get('losses_unseen'):
            reasons.append(f"{end['clock']['losses_unseen']} frames came without the times that show losses, or after "
                           "the camera's clock had been set back")
        reasons.extend(end.get('unknowns', ()))
        camera = {'model': self._granted.model, 'width': self._granted.width, 'height': self._granted.height,
                  'framerate': self._granted.framerate, 'pixel_format': self._granted.pixel_format,
                  'details': dict(self._granted.details), 'statistics': end.get('camera', {})}
        return Report(
            complete='no' if known_bad else 'unknown' if reasons else 'yes', reasons=reasons,
            sensor=self.captured + self.lost, captured=self.captured, written=self.written,
            processed=self.processed, returned=self.by_status['returned'], bypassed=self.by_status['by-passed'],
            failed=self.by_status['failed'], lost=self.lost, losses=list(self.losses),
            loss_detection=self._granted.loss_detection, callback_errors=self.callback_errors,
            callback_restarts=self.callback_restarts, rate_hz=self._rate_hz(),
            slowest_interval_ms=round(self.slowest_ns / 1e6, 3) if self.slowest_ns else None,
            latency_ms={name: histogram.summary() for name, histogram in
                        (('callback', self.callback_latency), ('disk', self.disk_latency)) if histogram.count},
            callback_ms=self.callback_time.summary(), ring_frames=ring_frames, ring_high_water=high_water,
            effort=dict(totals.effort) if totals else {},
            effort_under_pressure=totals.pressure.pages if totals else 0,
            pressure_changes=list(totals.pressure.changes) if totals else [],
            raw_bytes=totals.raw_bytes if totals else 0, file_bytes=totals.file_bytes if totals else 0,
            compression_ratio=round(totals.ratio, 3) if totals and totals.ratio else None,
            marks=list(self.marks), results=results, stopped=end.get('stopped', ''), started=self._started(),
            duration_s=self._duration_s(), camera=camera, clock=dict(end.get('clock', {})), files=files,
            warnings=list(self.warnings), errors=list(self.errors))

    def _reasons(self, write_vid: bool, end: Mapping[str, Any]) -> List[str]:
        reasons = []
        if self.lost:
            reasons.append(f'{self.lost} frame{"s" if self.lost != 1 else ""} lost')
        if self.file_error:
            reasons.append(self.file_error)
        if self.unwritten or (write_vid and self.written != self.captured):
            reasons.append(f'{self.captured - self.written} captured frames are not in the file')
        if not self.captured:
            reasons.append('no frame was captured')
        error = end.get('error')
        if error is not None and error.message not in reasons:
            reasons.append(error.message)
        reasons.extend(end.get('defects', ()))
        return reasons

    def _rate_hz(self) -> Optional[float]:
        if self.captured < 2 or self.first_ns is None or self.last_ns is None:
            return None
        return round((self.captured - 1) / ((self.last_ns - self.first_ns) / 1e9), 4)

    def _duration_s(self) -> float:
        if self.first_ns is None or self.last_ns is None:
            return 0.0
        frame_s = 1 / self._granted.framerate if self._granted.framerate else 0.0
        return round((self.last_ns - self.first_ns) / 1e9 + frame_s, 6)

    def _started(self) -> str:
        return '' if self.first_ns is None else utc_text(self.first_ns)
