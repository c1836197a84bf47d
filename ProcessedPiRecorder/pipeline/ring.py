"""The ring: one anonymous piece of shared memory that holds every frame in flight, and the live counters.

::

    | counters, one page | slot 0 | slot 1 | … | output 0 | … | display 0 | display 1 |

Slots are filled by the reader and belong to the writer from then until it frees them. Outputs are filled by the
callback and read by the writer. Displays are filled by the writer and read by the display process. Who owns what
is told by records on the links, never here: the ring itself has no locks that a killed process could hold.

The memory is a ``memfd``, handed on by descriptor: when the last process is gone, so is the memory. (A *named*
segment outlives its users, and Python's resource tracker may unlink a live one.)
"""

from __future__ import annotations

import enum
import mmap
import os
from typing import List, NamedTuple, Optional, Tuple

import numpy as np

from ..errors import RingError, SettingsError
from ..memory import available_memory
from ..settings import MAX_RING_FRAMES, Settings

__all__ = ['Ring', 'RingLayout', 'Stat', 'frames_captured', 'plan_ring']

PAGE = 4096
MIN_FRAMES = 8
DEFAULT_SECONDS = 2.0
ASSUMED_HZ = 30.0        # for the ring's default size only, when the camera does not know its rate
DISPLAY_SLOTS = 2
CLEARING = 1 << 20      # bytes a write
_MAP_POPULATE = 0x8000  # mmap has the name only from Python 3.10 on


class Stat(enum.IntEnum):
    """The live counters' places. Each is written by exactly one process and read by all."""

    # written by the reader
    CAPTURED = 0
    LOST = 1
    FIRST_NS = 2             # originating time of the first frame
    LAST_NS = 3              # … and of the newest
    HOST_OFFSET_NS = 4       # UTC - CLOCK_MONOTONIC, fixed at the start
    # written by the writer
    RECEIVED = 16
    WRITTEN = 17
    RETURNED = 18
    BYPASSED = 19
    FAILED = 20
    PROCESSED = 21
    IN_USE = 22
    HIGH_WATER = 23
    CALLBACK_QUEUE = 24      # frames that wait for, or are in, the callback
    WRITE_QUEUE = 25         # frames that wait to be compressed and written
    FILE_BYTES = 26
    RAW_BYTES = 27
    DISK_FREE = 28           # bytes, plus 1; 0: unknown
    DISK_LEFT_MS = 29        # until the reserve is touched at the present rate, plus 1; 0: unknown
    # written by whoever runs the callback
    RESULTS = 40
    # written by the finisher
    FINISHED_BYTES = 48      # looked through, of the file that it finishes


def frames_captured(stats: np.ndarray) -> int:
    """How many frames reached the ring, by its counters.

    The reader counts a frame after it has passed it on: the writer can have received it, and even written it, before.
    """
    return max(int(stats[Stat.CAPTURED]), int(stats[Stat.RECEIVED]))


class RingLayout(NamedTuple):
    """Sizes of a ring: what every process needs to map it."""

    shape: Tuple[int, ...]   # of one frame, uint8
    slots: int
    outputs: int
    displays: int

    @property
    def stride(self) -> int:
        """Bytes from one slot to the next: whole memory pages, so that no two frames share one."""
        size = int(np.prod(self.shape))
        return -(-size // PAGE) * PAGE

    @property
    def size(self) -> int:
        """Bytes of the whole ring."""
        return PAGE + self.stride * (self.slots + self.outputs + self.displays)


class Ring:
    """The mapped ring. ``slots[i]``, ``outputs[i]``, ``displays[i]`` are uint8 arrays of ``layout.shape``.

    Args:
        at_once: enter every page of it into this process's page table now. Else the first use of each costs a fault
            (0.7 ms for the 450 pages of a 1280×480 BGR frame were measured), in the first seconds of a recording.
            Only for who goes through all of it: it counts as this process's memory from now on.
    """

    def __init__(self, fd: int, layout: RingLayout, at_once: bool = False) -> None:
        self.fd = fd
        self.layout = layout
        self._memory = mmap.mmap(fd, layout.size, mmap.MAP_SHARED | (_MAP_POPULATE if at_once else 0))
        self.stats = np.frombuffer(self._memory, dtype=np.int64, count=PAGE // 8)
        views = [self._view(place) for place in range(layout.slots + layout.outputs + layout.displays)]
        self.slots: List[np.ndarray] = views[:layout.slots]
        self.outputs: List[np.ndarray] = views[layout.slots:layout.slots + layout.outputs]
        self.displays: List[np.ndarray] = views[layout.slots + layout.outputs:]

    @classmethod
    def create(cls, layout: RingLayout) -> 'Ring':
        """A new ring, its memory really allocated. Raises RingError when it cannot be had."""
        free = available_memory()
        if free is not None and layout.size > free:
            raise RingError(_too_large(layout, free))
        fd = os.memfd_create('ProcessedPiRecorder-ring', os.MFD_CLOEXEC)
        try:
            os.ftruncate(fd, layout.size)
            # Without this, memory is only promised, and its lack would kill a process in mid-recording (SIGBUS).
            os.posix_fallocate(fd, 0, layout.size)
            _use_once(fd, layout.size)
            return cls(fd, layout)
        except (OSError, ValueError) as error:
            os.close(fd)
            raise RingError(f'{_too_large(layout, free)} ({error})') from error

    def _view(self, place: int) -> np.ndarray:
        count = int(np.prod(self.layout.shape))
        flat = np.frombuffer(self._memory, dtype=np.uint8, count=count, offset=PAGE + place * self.layout.stride)
        return flat.reshape(self.layout.shape)

    def close(self) -> None:
        """Give up the descriptor. The mapping itself goes with the last array that looks into it."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _use_once(fd: int, size: int) -> None:
    """Write to every page. The kernel clears a page at its first use, and a virtual machine only then gets it from its
    host (20 us a page were measured): the first seconds of a recording would be slow, and lose frames.

    By write and not through a mapping, which would make the keeper the largest process, and so the first one to be
    killed when memory runs out.
    """
    zeros = bytes(CLEARING)
    for offset in range(0, size, CLEARING):
        os.pwrite(fd, zeros[:size - offset], offset)


def _too_large(layout: RingLayout, free: Optional[int]) -> str:
    known = 'unknown' if free is None else f'{free / 1e6:.0f} MB'
    return (f'the ring of {layout.slots} frames (with {layout.outputs} for processed ones) needs '
            f'{layout.size / 1e6:.0f} MB, free memory is {known}; '
            'pass a smaller ring_frames or ring_mb, a smaller picture, or close other programs')


def plan_ring(settings: Settings, shape: Tuple[int, ...], framerate: Optional[float]) -> RingLayout:
    """How large the ring is to be, from the settings and what the camera granted."""
    stride = RingLayout(shape, 1, 0, 0).stride
    wants_outputs = settings.callback is not None and settings.record == 'returned' and settings.write_vid
    displays = DISPLAY_SLOTS if settings.display else 0
    # Processed frames are held only from the callback's answer until they are written: a quarter is ample.
    share = 1.25 if wants_outputs else 1.0
    if settings.ring_frames is not None:
        slots = settings.ring_frames
    elif settings.ring_mb is not None:
        slots = int(settings.ring_mb * 1e6 / (stride * share))
        if slots < 4:
            raise SettingsError(f'ring_mb={settings.ring_mb:g} holds {slots} frames of {stride / 1e6:.2f} MB; '
                                f'use at least {4 * stride * share / 1e6:.2f}')
    else:
        wanted = max(MIN_FRAMES, round(DEFAULT_SECONDS * (framerate or ASSUMED_HZ)))
        free = available_memory()
        affordable = wanted if free is None else int(free / 4 / (stride * share))
        slots = max(MIN_FRAMES, min(wanted, affordable))
    slots = min(slots, MAX_RING_FRAMES)
    outputs = max(4, slots // 4) if wants_outputs else 0
    return RingLayout(tuple(shape), slots, outputs, displays)
