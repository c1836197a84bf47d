"""How fast a folder takes what is written, down to the disk itself."""

from __future__ import annotations

import os
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional

from ..errors import RecordingFileError
from ..recordings.bigtiff import file_error, write_all

__all__ = ['DiskSpeed', 'measure_disk']

BLOCK = 1 << 20
#: What is written between two syncs: as much as one interval of the recording brings, within these limits.
LEAST_CHUNK, MOST_CHUNK = 1 << 20, 16 << 20
ENOUGH_BYTES, ENOUGH_S = 200_000_000, 2.0
FEWEST_SYNCS = 3


@dataclass(frozen=True)
class DiskSpeed:
    """bytes_written in ``seconds``, fdatasync included, which was called after every ``chunk_bytes``."""

    bytes_written: int
    seconds: float
    chunk_bytes: int
    sync_s: List[float]

    @property
    def bytes_a_second(self) -> float:
        """Sustained: nothing of it was left to the system's memory."""
        return self.bytes_written / self.seconds

    def sync_ms(self) -> Dict[str, float]:
        """{'p50', 'max'} of fdatasync, milliseconds."""
        return {'p50': round(statistics.median(self.sync_s) * 1e3, 3), 'max': round(max(self.sync_s) * 1e3, 3)}


def measure_disk(folder: Path, room: int, bytes_a_sync: float) -> Optional[DiskSpeed]:
    """Write a file from start to end and sync it chunk by chunk; it is removed again.

    At least ENOUGH_BYTES or ENOUGH_S, but never more than ``room`` bytes; None where that is too little to tell
    anything. The content cannot be compressed, which would flatter some disks. Raises RecordingFileError.
    """
    chunk = int(min(max(bytes_a_sync, LEAST_CHUNK), MOST_CHUNK, room // FEWEST_SYNCS))
    if chunk < LEAST_CHUNK:
        return None
    path = folder / 'disk-speed.bin'
    block = memoryview(os.urandom(BLOCK))
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            return _write(fd, block, chunk, room)
        finally:
            os.close(fd)
            path.unlink()
    except RecordingFileError:
        raise
    except OSError as error:
        raise file_error(path, 'cannot be written', error) from error


def _write(fd: int, block: memoryview, chunk: int, room: int) -> DiskSpeed:
    syncs: List[float] = []
    written = 0
    began = now = time.monotonic()
    while written + chunk <= room:
        for offset in range(0, chunk, BLOCK):
            write_all(fd, [block[:min(BLOCK, chunk - offset)]], written + offset)
        written += chunk
        before = time.monotonic()
        os.fdatasync(fd)
        now = time.monotonic()
        syncs.append(now - before)
        if len(syncs) >= FEWEST_SYNCS and (written >= ENOUGH_BYTES or now - began >= ENOUGH_S):
            break
    return DiskSpeed(written, max(now - began, 1e-9), chunk, syncs)
