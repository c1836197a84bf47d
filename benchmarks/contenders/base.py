"""What a contender is: it records frames into one file, and its file can be read back by somebody else."""

from __future__ import annotations

import importlib.util
import os
import resource
import time
from pathlib import Path
from typing import Any, ClassVar, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

__all__ = ['Contender', 'Meter', 'Run', 'Verdict']


class Run(NamedTuple):
    """One measured run.

    seconds: from the first frame given until the file is closed and its bytes are on the disk (fdatasync).
    cpu_s: user and system time of all processes from just before the first one is started.
    bytes: size of the file; of what was produced, where nothing is written.
    details: whatever else the contender tells; JSON types.
    """

    frames: int
    seconds: float
    cpu_s: float
    bytes: int
    details: Dict[str, Any]

    @property
    def rate(self) -> float:
        """Frames a second."""
        return self.frames / self.seconds

    @property
    def cpu_ms(self) -> float:
        """Of processor time, a frame."""
        return 1000 * self.cpu_s / self.frames


class Verdict(NamedTuple):
    """What reading the file back said. lossless None: nothing was written, so there is nothing to read."""

    lossless: Optional[bool]
    decoded: int
    note: str = ''


class Meter:
    """Clock and processor time of a run; ``begin`` is called when everything that is not to be measured is done."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Now, before any process of the contender's own is started."""
        self._cpu_s = _cpu_s()
        self.first_frame()

    def first_frame(self, when_ns: Optional[int] = None) -> None:
        """The first frame is given now, or was then (CLOCK_MONOTONIC): after ``begin`` where something starts first."""
        self._begun_ns = time.monotonic_ns() if when_ns is None else when_ns

    def end(self) -> Tuple[float, float]:
        """Seconds and CPU seconds until now; children count once they have been waited for."""
        return (time.monotonic_ns() - self._begun_ns) / 1e9, _cpu_s() - self._cpu_s


class Contender:
    """Base class. One instance makes one run, in a process of its own."""

    #: Short; the key in the stored results.
    name: ClassVar[str] = ''
    #: One line for people.
    what: ClassVar[str] = ''
    #: 'recorder', 'limit' (what bounds it physically), 'original', or 'other'.
    group: ClassVar[str] = 'other'
    suffix: ClassVar[str] = '.tif'
    formats: ClassVar[Tuple[str, ...]] = ('gray', 'bgr')
    #: Module -> what to install.
    needs: ClassVar[Dict[str, str]] = {}
    #: Does it put its frames into a file?
    writes: ClassVar[bool] = True
    #: What a reader of the table has to know.
    note: ClassVar[str] = ''

    def __init__(self, **options: Any) -> None:
        self.options = options

    @classmethod
    def missing(cls) -> Optional[str]:
        """How to get what it needs, or None when all is there."""
        wanted = sorted({package for module, package in cls.needs.items() if importlib.util.find_spec(module) is None})
        return f"pip install {' '.join(wanted)}" if wanted else None

    def run(self, frames: Sequence[np.ndarray], count: int, folder: Path) -> Run:
        """Record ``count`` frames (``frames`` again and again) into ``path(folder)``, until they are on the disk."""
        meter = Meter()
        details = self.record(frames, count, folder, meter) or {}
        size = int(details.pop('bytes', 0))
        if self.writes:
            path = self.path(folder)
            sync(path)
            size = path.stat().st_size
        seconds, cpu_s = meter.end()
        return Run(count, seconds, cpu_s, size, details)

    def record(self, frames: Sequence[np.ndarray], count: int, folder: Path, meter: Meter) -> Optional[Dict[str, Any]]:
        """The work itself; returns details. Anything that goes wrong raises."""
        raise NotImplementedError

    def decode(self, path: Path) -> Iterator[np.ndarray]:
        """All images of the file, as they were given, by a reader that is not the contender."""
        raise NotImplementedError

    def path(self, folder: Path) -> Path:
        """Where it writes."""
        return folder / f'run{self.suffix}'

    def verify(self, frames: Sequence[np.ndarray], count: int, folder: Path) -> Verdict:
        """Read every image of the file back and compare it with what was given."""
        if not self.writes:
            return Verdict(None, 0)
        decoded = worst = wrong = 0
        for image in self.decode(self.path(folder)):
            given = frames[decoded % len(frames)]
            decoded += 1
            if image.shape != given.shape:
                return Verdict(False, decoded, f'gives {image.shape} for {given.shape}')
            if not np.array_equal(image, given):
                wrong += 1
                worst = max(worst, int(np.abs(image.astype(np.int16) - given).max()))
        notes: List[str] = []
        if decoded != count:
            notes.append(f'{decoded} of {count} frames are in the file')
        if wrong:
            notes.append(f'{wrong} of {decoded} images differ, by up to {worst}')
        return Verdict(not notes, decoded, '; '.join(notes))


def sync(path: Path) -> None:
    """Wait until the file's bytes are on the disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fdatasync(fd)
    finally:
        os.close(fd)


def _cpu_s() -> float:
    total = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        total += usage.ru_utime + usage.ru_stime
    return total
