"""The writer's eye on the disk: what the live figures show of it, and the word to end in time."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Mapping, Optional, Tuple

import numpy as np

from ..cameras.base import Granted
from ..recordings.ome import to_json
from ..recordings.space import Shortage, SpaceWatch, largest_page, refuse_full_disk, room_at
from .channel import Channel
from .ledger import Ledger
from .plan import Plan
from .ring import Ring, Stat, frames_captured

__all__ = ['FileIdentity', 'make_space_watch']

ASSUMED_HZ = 30.0
LOSS_BYTES, MARK_BYTES, CHANGE_BYTES = 250, 1500, 150      # of one in the report, at most
ANCHORS_BYTES = 400_000


def make_space_watch(channel: Channel, plan: Plan, granted: Granted, ring: Ring, ledger: Ledger,
                     about: Mapping[str, Any]) -> SpaceWatch:
    """For the sink's appender thread. Raises RecordingFileError where the disk is too full to begin."""
    settings = plan.settings
    assert plan.tif_path is not None
    frame_bytes = int(np.prod(ring.layout.shape))
    ours = _Figures(channel, plan.tif_path, ring, ledger, len(to_json(about)))
    second_bytes = int((granted.framerate or ASSUMED_HZ) * largest_page(frame_bytes)) + ours.annotation_bytes()
    refuse_full_disk(plan.tif_path, settings.disk_reserve_mb, second_bytes, settings.overwrite)
    room = room_at(plan.tif_path.parent)
    if room is not None:
        ours.show(room.free, None)
    return SpaceWatch(settings.disk_reserve_mb, frame_bytes=frame_bytes, framerate=granted.framerate,
                      in_flight=ours.in_flight, annotation_bytes=ours.annotation_bytes, on_look=ours.show,
                      on_short=ours.end_recording, on_blind=ours.warn_blind)


class _Figures:
    """What the watch asks and tells; all from the appender thread."""

    def __init__(self, channel: Channel, path: Path, ring: Ring, ledger: Ledger, about_bytes: int) -> None:
        self._channel, self._path, self._ring, self._ledger = channel, path, ring, ledger
        self._about_bytes = about_bytes

    def in_flight(self) -> int:
        stats = self._ring.stats
        return min(frames_captured(stats) - int(stats[Stat.WRITTEN]), self._ring.layout.slots)

    def annotation_bytes(self) -> int:
        ledger = self._ledger
        texts = sum(map(len, ledger.errors)) + sum(map(len, ledger.warnings))
        return (self._about_bytes + ANCHORS_BYTES + 4 * texts + LOSS_BYTES * len(ledger.losses)
                + 2 * MARK_BYTES * len(ledger.marks) + CHANGE_BYTES * 1000)

    def show(self, free: int, left_s: Optional[float]) -> None:
        stats = self._ring.stats
        stats[Stat.DISK_FREE] = free + 1
        stats[Stat.DISK_LEFT_MS] = 0 if left_s is None else int(min(left_s, 1e9) * 1000) + 1

    def end_recording(self, shortage: Shortage) -> None:
        captured = frames_captured(self._ring.stats)
        first_ns, last_ns = self._ring.stats[Stat.FIRST_NS], self._ring.stats[Stat.LAST_NS]
        seconds = (int(last_ns) - int(first_ns)) / 1e9
        length = f'{seconds:.1f} seconds' if seconds < 100 else f'{seconds / 60:,.1f} minutes'
        self._channel.send('disk_nearly_full', (
            f'the disk of {self._path} is nearly full: {shortage}. The recording is ended and finished after '
            f'{length} ({captured:,} frames); make room, or record to another disk'))

    def warn_blind(self) -> None:
        self._channel.send('warn', ('RecorderWarning', (
            f'the file system of {self._path} does not tell how much room is left: this recording is not ended in '
            'time before its disk is full. Look after the room there yourself')))


class FileIdentity:
    """Whether our file still stands under its name; kept from its publication to the recording's end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # Only a handle, not an open file: nothing is read or written by it.
        self._fd = os.open(path, os.O_PATH | os.O_CLOEXEC)

    def problem(self) -> Tuple[str, Optional[Path]]:
        """'' while all is well; else what has happened, and where the file is now, if that can be known."""
        try:
            ours = os.fstat(self._fd)
        except OSError as error:
            return f'{self._path} cannot be reached any more: {error.strerror}; check the disk (dmesg tells more)', None
        if _same(self._path, ours):
            return '', self._path
        if not ours.st_nlink:
            return (f'{self._path} was removed or replaced by another program while it was recorded; what was recorded '
                    'is gone with it'), None
        moved = Path(os.readlink(f'/proc/self/fd/{self._fd}'))
        if _same(moved, ours):
            return (f'{self._path} was moved while it was recorded, or its folder was; what was recorded is in '
                    f'{moved}'), moved
        return (f'{self._path} is no longer there: its disk was unmounted while it was recorded. What was recorded is '
                'on that disk; mount it again, and look with  ppr info'), None

    def close(self) -> None:
        """Let go of it."""
        os.close(self._fd)


def _same(path: Path, ours: os.stat_result) -> bool:
    try:
        status = os.stat(path)
    except OSError:
        return False
    return (status.st_dev, status.st_ino) == (ours.st_dev, ours.st_ino)
