"""Live figures of a recording, read from the counters in shared memory."""

from __future__ import annotations

import dataclasses
import time
from typing import Deque, Optional, Tuple

from .pipeline.ring import Ring, Stat, frames_captured

__all__ = ['Status', 'read_status']


@dataclasses.dataclass(frozen=True)
class Status:
    """Live figures of a recording, as they stand in shared memory at this moment.

    Attributes:
        recording: False once everything is on disk. elapsed_s: since the first frame, by the frames' own times.
        rate_hz: of captured frames, over about the last two seconds; None before there are two.
        captured, lost, written, processed, returned, bypassed, failed, results: counts, as in the report.
        ring_frames, ring_in_use: size of the ring, and slots in use. callback_queue, write_queue: frames waiting.
        bytes_written: on disk. raw_bytes: the same frames before compression.
        disk_free_bytes: as the writer saw it last, about a second ago; None without a file, or where the file system
            does not tell. disk_left_s: seconds until the reserve (``disk_reserve_mb``) is touched, at the rate of the
            last five seconds; None while that is unknown.
    """

    recording: bool
    elapsed_s: float = 0.0
    rate_hz: Optional[float] = None
    captured: int = 0
    lost: int = 0
    written: int = 0
    processed: int = 0
    returned: int = 0
    bypassed: int = 0
    failed: int = 0
    results: int = 0
    ring_frames: int = 0
    ring_in_use: int = 0
    callback_queue: int = 0
    write_queue: int = 0
    bytes_written: int = 0
    raw_bytes: int = 0
    disk_free_bytes: Optional[int] = None
    disk_left_s: Optional[float] = None


def read_status(ring: Ring, recent: Deque[Tuple[float, int]], recording: bool) -> Status:
    """The ring's counters as a Status. Asks nobody, so that a disk or network that hangs cannot hold it up.

    Args:
        recent: (monotonic seconds, frames captured) of earlier calls, kept between them for the live rate.
    """
    stats = [int(value) for value in ring.stats[:64]]
    captured = frames_captured(ring.stats)       # read last: no other counter is ahead of it then
    now = time.monotonic()
    recent.append((now, captured))
    while len(recent) > 2 and now - recent[1][0] >= 2.0:
        recent.popleft()
    elapsed_s = (stats[Stat.LAST_NS] - stats[Stat.FIRST_NS]) / 1e9 if stats[Stat.CAPTURED] else 0.0
    then, count = recent[0]
    if now - then >= 0.5:
        rate: Optional[float] = (captured - count) / (now - then)
    else:
        rate = (stats[Stat.CAPTURED] - 1) / elapsed_s if elapsed_s > 0 else None
    return Status(
        recording=recording, elapsed_s=elapsed_s, rate_hz=rate, captured=captured, lost=stats[Stat.LOST],
        written=stats[Stat.WRITTEN], processed=stats[Stat.PROCESSED], returned=stats[Stat.RETURNED],
        bypassed=stats[Stat.BYPASSED], failed=stats[Stat.FAILED], results=stats[Stat.RESULTS],
        ring_frames=ring.layout.slots, ring_in_use=stats[Stat.IN_USE], callback_queue=stats[Stat.CALLBACK_QUEUE],
        write_queue=stats[Stat.WRITE_QUEUE], bytes_written=stats[Stat.FILE_BYTES], raw_bytes=stats[Stat.RAW_BYTES],
        disk_free_bytes=stats[Stat.DISK_FREE] - 1 if stats[Stat.DISK_FREE] else None,
        disk_left_s=(stats[Stat.DISK_LEFT_MS] - 1) / 1000 if stats[Stat.DISK_LEFT_MS] else None)
