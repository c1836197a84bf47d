"""The simulated sensors of ``tests/libcamera`` under the real, unmodified picamera2 and libcamera.

::

    pytestmark = picamera2_kit.needs_the_sensors          # skips, with the reason, where they cannot be had

    def test_something(tmp_path):
        with picamera2_kit.bench(tmp_path) as bench:
            bench.set_faults(0, drop=[30, 31])
            ...                                           # picamera2, in a child process
            lost = [frame.number for frame in bench.runs(0)[-1].frames if frame.fate != 'delivered']

libcamera has to be found by the loader before a process starts, so all this works under ``make test-picamera2`` only,
which builds it, sets the environment and runs the tests. ``tests/libcamera/README.md`` says what is simulated.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
from pathlib import Path
from typing import Iterable, Iterator, List, NamedTuple, Union

import numpy as np
import pytest

from ProcessedPiRecorder.cameras.scene import read_index

SHIM = 'dmabuf_shim.so'
CAMERA_SHIFT = 28         # the number in a picture: the camera's in the upper 4 bits, the frame's in the lower 28
LISTS = ('drop',)
NUMBERS = ('drop_every', 'error_every', 'stall_from', 'stall_until', 'disconnect_at', 'duration_factor')
SWITCHES = ('hide_duration',)

Fault = Union[int, float, bool, Iterable[int]]


def why_not() -> str:
    """Why there are no simulated sensors in this process, and what to do; '' when they are there."""
    if SHIM not in os.environ.get('LD_PRELOAD', ''):
        return 'no simulated sensors for libcamera in this process: run `make test-picamera2`'
    for package in ('libcamera', 'picamera2'):
        if importlib.util.find_spec(package) is None:
            return f'no Python package {package} beside the simulated sensors: run `make test-picamera2`'
    return ''


needs_the_sensors = pytest.mark.skipif(bool(why_not()), reason=why_not() or 'can be had')


class Frame(NamedTuple):
    """One frame of a simulated sensor, as the sensor itself noted it."""

    number: int           # from 0 at each start
    start_ns: int         # what is SensorTimestamp in the metadata
    duration_us: int      # until the next frame's start; what is FrameDuration in the metadata
    #: 'delivered', or why not: 'dropped' and 'stalled' by a fault, 'starved' for want of a queued request, 'corrupt':
    #: handed up with libcamera's status FrameError, which picamera2 throws away.
    fate: str


class Run(NamedTuple):
    """From one start of the camera to its stop."""

    mode: str             # the sensor's, such as '1640x1232'
    frames: List[Frame]
    ending: str           # 'stop', 'unplugged', or '' while it runs (or after its process was killed)

    def fates(self, *fates: str) -> List[int]:
        """The numbers of the frames that came to this."""
        return [frame.number for frame in self.frames if frame.fate in fates]


class Bench:
    """A folder that the simulated sensors read their faults from and write their ledgers to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def set_faults(self, camera: int, **faults: Fault) -> None:
        """Replace the faults of a camera; none given: it is well again. Frame numbers count from the start.

        drop=[5, 6]: these frames are lost. drop_every=10: every tenth. error_every=7: every seventh is
        corrupt. stall_from=60, stall_until=90: none of these comes. disconnect_at=50: it is unplugged then.
        duration_factor=1.5: frames last longer than asked, and say so. hide_duration=True: no FrameDuration.
        """
        unknown = set(faults) - {*LISTS, *NUMBERS, *SWITCHES}
        if unknown:
            raise ValueError(f'unknown faults {sorted(unknown)}; there are {[*LISTS, *NUMBERS, *SWITCHES]}')
        lines = [f'{name} {_words(value)}\n' for name, value in faults.items()]
        path = self.folder / f'camera{camera}.faults'
        draft = path.with_suffix('.draft')
        draft.write_text(''.join(lines))
        os.replace(draft, path)

    def runs(self, camera: int) -> List[Run]:
        """What the camera did in each of its runs so far, the oldest first."""
        path = self.folder / f'camera{camera}.ledger'
        runs: List[Run] = []
        for line in path.read_text().splitlines() if path.exists() else []:
            kind, *words = line.split()
            if kind == 'start':
                runs.append(Run(words[0], [], ''))
            elif kind == 'frame':
                runs[-1].frames.append(Frame(int(words[0]), int(words[1]), int(words[2]), words[3]))
            elif not runs[-1].ending:
                runs[-1] = runs[-1]._replace(ending=kind)
        return runs


@contextlib.contextmanager
def bench(folder: Path, *, cameras: int = 2, clock: str = 'boottime') -> Iterator[Bench]:
    """Simulated sensors for the processes that start meanwhile: how many, and by which clock they tell the time.

    The clock is 'boottime' or 'monotonic'. libcamera counts its cameras once per process, when it is first asked.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('PPR_SENSOR_DIR', str(folder))
        patch.setenv('PPR_SENSOR_CAMERAS', str(cameras))
        patch.setenv('PPR_SENSOR_CLOCK', clock)
        yield Bench(folder)


class Seen(NamedTuple):
    """What a picture says of itself."""

    camera: int
    number: int


def seen(image: np.ndarray, *, mirrored: bool = False) -> Seen:
    """Which camera's and which frame a picture is. ``mirrored``: it was taken with hflip or turned by 180°.

    The image is BGR, RGB or gray, shape (height, width[, 3]). ValueError: its top and its bottom are of two frames.
    """
    number = read_index(image[:, ::-1] if mirrored else image)
    return Seen(number >> CAMERA_SHIFT, number & ((1 << CAMERA_SHIFT) - 1))


def _words(value: Fault) -> str:
    if isinstance(value, bool):
        return str(int(value))
    return str(value) if isinstance(value, (int, float)) else ' '.join(map(str, value))
