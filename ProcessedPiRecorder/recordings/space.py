"""Room on the disk: whether what is still to come of a recording fits, and for how long more will.

The file system is asked by the thread that makes the file grow, so nothing polls: at most a second after the last
look, and earlier when a quarter of what was left has been written. Other programs on the same disk count, too.
"""

from __future__ import annotations

import collections
import os
import time
from pathlib import Path
from typing import Callable, Deque, NamedTuple, Optional, Tuple, Union

from ..errors import RecordingFileError
from .volume import volume_of

__all__ = ['Room', 'Shortage', 'SpaceWatch', 'largest_page', 'refuse_full_disk', 'reserve_bytes', 'room_at']

LOOK_S = 1.0              # at most so long from one look to the next
AHEAD_S = 1.0             # the next look, and the camera's stopping, may take so long
RATE_S = 5.0              # the rate is measured over so long
MARGIN_BYTES = 1 << 20    # buffers of the results and the log, the file system's own blocks
LEAST_RESERVE_MB = 200
RESERVE_SHARE = 0.01      # of the disk


class Room(NamedTuple):
    """Bytes: free as this user may fill them, total of the file system."""

    free: int
    total: int


class Shortage(NamedTuple):
    """Why a recording must end. Bytes: free; to stay free; needed to record what is captured and to finish the file."""

    free: int
    reserve: int
    needed: int

    def __str__(self) -> str:
        return (f'{_size(self.free)} are free, of which {_size(self.reserve)} are to stay free (disk_reserve_mb) and '
                f'{_size(self.needed)} are needed for the frames on their way and the end of the file')


def room_at(place: Union[int, Path]) -> Optional[Room]:
    """What the file system of an open file or of a path says; None where it says nothing, or what cannot be.

    Some network and FUSE file systems report nothing but zeros.
    """
    try:
        told = os.statvfs(place)
    except OSError:
        return None
    return _sensible(Room(told.f_bavail * told.f_frsize, told.f_blocks * told.f_frsize))


def reserve_bytes(disk_reserve_mb: Optional[float], total: int) -> int:
    """How much of a disk of ``total`` bytes is to stay free; None: the larger of 1 % of it and 200 MB."""
    if disk_reserve_mb is None:
        return max(int(total * RESERVE_SHARE), LEAST_RESERVE_MB * 10**6)
    return int(disk_reserve_mb * 1e6)


def largest_page(frame_bytes: int) -> int:
    """Bytes that a page can take at most: pixels that do not compress, its text and tags, a rewritten link."""
    return frame_bytes + frame_bytes // 1000 + 4096


def refuse_full_disk(path: Path, disk_reserve_mb: Optional[float], bytes_a_second: int, overwrite: bool) -> None:
    """Raises RecordingFileError where there is not even room for the reserve and a second of frames (0: not known yet).

    An old file that is going to be replaced counts as room. A reserve of 0 asks for nothing.
    """
    if disk_reserve_mb == 0:
        return
    volume = volume_of(path.parent)
    room = _sensible(Room(volume.free, volume.total))
    if room is None:
        return                             # the writer says that it cannot know
    free = room.free + (_size_on_disk(path) if overwrite else 0)
    reserve = reserve_bytes(disk_reserve_mb, room.total)
    if free < reserve + bytes_a_second:
        why = 'the larger of 1 % of the disk and 200 MB, unless disk_reserve_mb is given' if disk_reserve_mb is None \
            else f'disk_reserve_mb={disk_reserve_mb:.12g}'
        second = f', and a second of frames takes up to {_size(bytes_a_second)}' if bytes_a_second else ''
        raise RecordingFileError(
            f'{path.parent} has only {_size(free)} free; {_size(reserve)} are to stay free ({why}){second}. Make room, '
            'record to another disk, or pass a smaller disk_reserve_mb (0: record until the disk is full)')


class SpaceWatch:
    """Looks at the room that is left while a file grows. One thread at a time.

    Args:
        disk_reserve_mb: as in the settings; with 0 nothing is ever short.
        frame_bytes: of one frame's pixels. framerate: Hz as granted, None if unknown.
        in_flight: how many frames are captured and not yet written. annotation_bytes: what the report and all else
            that is stored at the end takes.
        on_look: gets the free bytes, and the seconds until the reserve is touched at the present rate (None: unknown).
        on_short: called once, when the recording must end so that it can be finished without touching the reserve.
        on_blind: called once, when the file system does not tell what is free.
    """

    def __init__(self, disk_reserve_mb: Optional[float], *, frame_bytes: int, framerate: Optional[float],
                 in_flight: Callable[[], int], annotation_bytes: Callable[[], int],
                 on_look: Callable[[int, Optional[float]], None],
                 on_short: Callable[[Shortage], None], on_blind: Callable[[], None]) -> None:
        self._reserve_mb = disk_reserve_mb
        self._page_bytes = largest_page(frame_bytes)
        self._first_rate = (framerate or 0.0) * self._page_bytes
        self._in_flight, self._annotation_bytes = in_flight, annotation_bytes
        self._on_look, self._on_short, self._on_blind = on_look, on_short, on_blind
        self._seen: Deque[Tuple[float, int, int]] = collections.deque()   # monotonic s, free bytes, bytes of the files
        self._next_s = 0.0
        self._next_bytes = 0
        self._short = self._blind = False

    def due(self, file_bytes: int) -> bool:
        """Whether it is time for a look; ``file_bytes`` is what the recording takes on the disk so far."""
        return file_bytes >= self._next_bytes or time.monotonic() >= self._next_s

    def look(self, room: Optional[Room], file_bytes: int, to_finish: int) -> None:
        """Judge what :func:`room_at` says. to_finish: what closing the files takes beside frames and annotations."""
        now = time.monotonic()
        self._next_s, self._next_bytes = now + LOOK_S, file_bytes + (1 << 62)
        if room is None:
            if not self._blind:
                self._blind = True
                self._on_blind()
            return
        self._note(now, room.free, file_bytes)
        rate = self._rate()
        reserve = reserve_bytes(self._reserve_mb, room.total)
        needed = (self._in_flight() * self._page_bytes + to_finish + self._annotation_bytes() + MARGIN_BYTES
                  + int((self._first_rate if rate is None else rate) * AHEAD_S))
        left = room.free - reserve - (needed if reserve else 0)
        self._next_bytes = file_bytes + max(left, 0) // 4
        self._on_look(room.free, max(left, 0) / rate if rate else None)
        if reserve and left < 0 and not self._short:
            self._short = True
            self._on_short(Shortage(room.free, reserve, needed))

    def _note(self, now: float, free: int, file_bytes: int) -> None:
        seen = self._seen
        # Looks come thick and fast towards the end; a few a second are enough to measure by.
        if len(seen) > 1 and now - seen[-2][0] < RATE_S / 20:
            seen.pop()
        seen.append((now, free, file_bytes))
        while len(seen) > 2 and now - seen[1][0] >= RATE_S:
            seen.popleft()

    def _rate(self) -> Optional[float]:
        """Bytes a second that the recording takes, or that the disk loses to whomever, whichever is more."""
        (then, free, size), (now, free_now, size_now) = self._seen[0], self._seen[-1]
        if now - then < LOOK_S / 2:
            return None
        return max(size_now - size, free - free_now, 0) / (now - then)


def _sensible(room: Room) -> Optional[Room]:
    return room if room.total > 0 and 0 <= room.free <= room.total else None


def _size_on_disk(path: Path) -> int:
    try:
        status = os.stat(path)
    except OSError:
        return 0
    return status.st_blocks * 512 if status.st_nlink == 1 else 0


def _size(number: int) -> str:
    if number >= 10**11:
        return f'{number / 1e9:,.0f} GB'
    return f'{number / 1e6:,.0f} MB' if number >= 10**7 else f'{number / 1e6:.2g} MB'
