"""The original recorder's architecture, written anew from its description.

Camera, callback and file writer are processes. Whole arrays travel on unbounded multiprocessing.Queues, pickled on one
side and unpickled on the other; whoever waits for a frame asks ``queue.empty()`` again and again. The writer appends
uncompressed pages to a BigTIFF with imageio. Here the camera waits while many frames are on their way:
the highest rate that can be sustained is wanted, and such queues know no limit but the memory.
"""

from __future__ import annotations

import collections
import mmap
import multiprocessing
import queue
import time
from pathlib import Path
from typing import Any, Deque, Iterator, Sequence

import numpy as np

from .base import Contender, Meter

__all__ = ['ORIGINALS', 'Original', 'OriginalPipeline']

IN_FLIGHT = 64
END = None

_fork = multiprocessing.get_context('fork')


class OriginalPipeline:
    """Three processes and two queues. ``run`` blocks, in the script, until everything is in the file.

    Args:
        frames: handed out again and again, a fresh array each time.
        count: how many.
        path: the BigTIFF.
    """

    def __init__(self, frames: Sequence[np.ndarray], count: int, path: Path) -> None:
        self._frames, self._count, self._path = frames, count, path
        self._captured: Any = _fork.Queue()
        self._processed: Any = _fork.Queue()
        self._free = _fork.Semaphore(IN_FLIGHT)
        self._first = np.frombuffer(mmap.mmap(-1, 8), np.int64)

    def run(self) -> int:
        """CLOCK_MONOTONIC of the first frame. Raises RuntimeError when a process failed."""
        processes = [_fork.Process(target=work) for work in (self._write, self._process, self._capture)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        failed = [process.exitcode for process in processes if process.exitcode]
        if failed:
            raise RuntimeError(f'processes ended with {failed}')
        for channel in (self._captured, self._processed):
            channel.close()
        return int(self._first[0])

    def _capture(self) -> None:
        self._first[0] = time.monotonic_ns()
        for number in range(self._count):
            self._free.acquire()
            self._captured.put(self._frames[number % len(self._frames)].copy())
        self._captured.put(END)

    def _process(self) -> None:
        buffer: Deque[np.ndarray] = collections.deque(maxlen=1)
        for frame in _spinning(self._captured):
            buffer.append(frame)
            self._processed.put(_pass_through(buffer))
        self._processed.put(END)

    def _write(self) -> None:
        import imageio.v2
        writer = imageio.v2.get_writer(self._path, format='TIFF', mode='V', bigtiff=True)
        for frame in _spinning(self._processed):
            writer.append_data(frame)
            self._free.release()
        writer.close()


def _pass_through(buffer: Deque[np.ndarray]) -> np.ndarray:
    return buffer[-1]


def _spinning(channel: Any) -> Iterator[np.ndarray]:
    """What comes until END. Never sleeps: the original's consumers do not."""
    while True:
        if channel.empty():
            continue
        try:
            item = channel.get_nowait()
        except queue.Empty:
            continue
        if item is END:
            return
        yield item


class Original(Contender):
    name, group = "original's architecture", 'original'
    what = 'pickled arrays on unbounded multiprocessing queues, consumers that spin, uncompressed pages by imageio'
    needs = {'imageio': 'imageio', 'tifffile': 'tifffile'}
    note = 'not compressed'

    def record(self, frames: Sequence[np.ndarray], count: int, folder: Path, meter: Meter) -> None:
        self.path(folder).unlink(missing_ok=True)
        meter.begin()
        meter.first_frame(OriginalPipeline(frames, count, self.path(folder)).run())

    def decode(self, path: Path) -> Iterator[np.ndarray]:
        """By tifffile; the channels stand as they were given."""
        import tifffile
        with tifffile.TiffFile(path) as tif:
            for page in tif.pages:
                yield page.asarray()


ORIGINALS = (Original,)
