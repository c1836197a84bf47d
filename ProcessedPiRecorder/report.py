"""The verdict on a recording: what the sensor made, what became of it, and whether anything is missing."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Dict, List, Mapping, Optional

__all__ = ['DISK_NEARLY_FULL', 'MAX_ERRORS', 'MOST_PLACES', 'Loss', 'Report', 'is_cut', 'summed_up']

#: How a recording was ended whose disk would have run full: ``Report.stopped``.
DISK_NEARLY_FULL = 'disk nearly full'
#: Beyond this many places, further losses are summed up in one entry: a report must stay readable and storable.
MOST_PLACES = 10_000
#: Errors that a report names; of further ones, it has the count.
MAX_ERRORS = 100


@dataclass(frozen=True)
class Loss:
    """Frames that are missing from the recording.

    Attributes:
        index: the number that the first missing frame would have had.
        count: how many are missing.
        time_ns: the originating time of the last frame before them (ns since 1970 UTC); None if there was none.
        reason: 'camera gap', 'ring full', 'camera error', 'stall', 'source broke off', 'unpaired', 'process died',
            'other' (what a camera alone knows, or several kinds in one);
            'damaged': their pages were in the file and were destroyed (``ppr repair`` tells so).
        detail: more, for people.
    """

    index: int
    count: int
    time_ns: Optional[int]
    reason: str
    detail: str = ''


def summed_up(losses: List[Loss]) -> List[Loss]:
    """Losses at MOST_PLACES places at most, the last of which sums up what is beyond."""
    if len(losses) <= MOST_PLACES:
        return losses
    kept, rest = losses[:MOST_PLACES - 1], losses[MOST_PLACES - 1:]
    count = sum(loss.count for loss in rest)
    return [*kept, Loss(rest[0].index, count, rest[0].time_ns, 'other', 'all further losses, summed up')]


def is_cut(metadata: Any) -> bool:
    """Whether a recording with this metadata was cut out of another one, so that no camera made it as it is."""
    cut = metadata.get('cut') if isinstance(metadata, dict) else None
    return isinstance(cut, dict) and all(type(cut.get(name)) is int for name in ('start', 'stop', 'every'))


@dataclass(frozen=True)
class Report:
    """What happened. Every number in it was counted, none estimated.

    Attributes:
        complete: 'yes': every frame that the sensor made is in the file. 'no': some are known to be missing, or
            the recording failed. 'unknown': nothing is known to be missing, but this camera gives no means to
            see losses. 'reasons' says why it is not 'yes'.
        sensor: frames that the sensor made, as far as can be seen: captured + lost.
        captured: frames that reached the ring.
        written: frames that are in the file (0 with write_vid=False).
        processed: frames that the callback saw; returned: of these, recorded as the callback returned them.
        bypassed: frames recorded raw because the callback had no time for them.
        failed: frames recorded raw because their call raised, hung, died or returned nonsense.
        lost: frames known to be missing; losses: each place, with time and reason.
        loss_detection: how losses could be seen: 'frame_duration', 'fixed_rate', 'count' or 'none'.
        callback_errors, callback_restarts: failed calls; how often its process was started again.
        rate_hz: mean rate of captured frames by their own times; slowest_interval_ms: the longest time between two.
        latency_ms: {'callback': {p50, p99, max}, 'disk': {...}}: from arrival in the reader to the start of the
            callback's call, and to the page being written; milliseconds.
        callback_ms: the callback's own time {p50, p99, max}.
        ring_frames, ring_high_water: size of the ring and the most slots that were in use at once.
        effort: pages by the compression effort spent on them.
        effort_under_pressure: pages whose effort was lowered because the ring was filling; pressure_changes: where that
            began, rose and ended: {index, time_ns, pressure (0, 1 or 2), effort}, the first thousand of them.
        raw_bytes, file_bytes, compression_ratio: pixels in, bytes on disk, and raw_bytes over the strips' bytes.
        marks: [{label, time_ns}]; results: how many results the callback put.
        stopped: why it ended: 'rec_length', 'stopVid', 'end of source', 'interrupted', 'disk nearly full',
            'camera error', ...
        started: ISO 8601 UTC; duration_s: from the first frame to the last, plus one frame.
        camera: what was granted (model, size, rate, clock, ...); clock: anchors and steps.
        files: what lies on disk. warnings, errors: texts.
    """

    complete: str
    reasons: List[str] = field(default_factory=list)
    sensor: int = 0
    captured: int = 0
    written: int = 0
    processed: int = 0
    returned: int = 0
    bypassed: int = 0
    failed: int = 0
    lost: int = 0
    losses: List[Loss] = field(default_factory=list)
    loss_detection: str = 'none'
    callback_errors: int = 0
    callback_restarts: int = 0
    rate_hz: Optional[float] = None
    slowest_interval_ms: Optional[float] = None
    latency_ms: Dict[str, Dict[str, float]] = field(default_factory=dict)
    callback_ms: Dict[str, float] = field(default_factory=dict)
    ring_frames: int = 0
    ring_high_water: int = 0
    effort: Dict[str, int] = field(default_factory=dict)
    effort_under_pressure: int = 0
    pressure_changes: List[Dict[str, Any]] = field(default_factory=list)
    raw_bytes: int = 0
    file_bytes: int = 0
    compression_ratio: Optional[float] = None
    marks: List[Dict[str, Any]] = field(default_factory=list)
    results: int = 0
    stopped: str = ''
    started: str = ''
    duration_s: float = 0.0
    camera: Dict[str, Any] = field(default_factory=dict)
    clock: Dict[str, Any] = field(default_factory=dict)
    files: List[str] = field(default_factory=list)
    warnings: List[str] = field(default_factory=list)
    errors: List[str] = field(default_factory=list)

    def as_dict(self) -> Dict[str, Any]:
        """The report as JSON types."""
        return asdict(self)

    def to_json(self, **options: Any) -> str:
        """The report as JSON text."""
        return json.dumps(self.as_dict(), **options)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> 'Report':
        """A report from :meth:`as_dict`; what a newer version may have added is left out."""
        known = {item.name for item in fields(cls)}
        values = {name: value for name, value in stored.items() if name in known}
        values['losses'] = [loss if isinstance(loss, Loss) else Loss(**loss) for loss in values.get('losses', ())]
        return cls(**values)
