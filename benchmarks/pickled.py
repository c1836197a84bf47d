"""Frames at a camera's pace as pickled arrays through an unbounded ``multiprocessing.Queue``: what latency is held to.

With ``spin`` it is the way the first recorder of this name was built: consumers that ask ``queue.empty()`` over and
over, and a writer process that appends uncompressed pages through tifffile. Without it, a consumer that sleeps in
``queue.get()`` and nothing behind it: the best that such a queue can do.
"""

from __future__ import annotations

import mmap
import multiprocessing
import time
from pathlib import Path
from typing import Any, List, NamedTuple, Optional, Sequence

import numpy as np

__all__ = ['PacedRun', 'run_paced']


class PacedRun(NamedTuple):
    """CLOCK_MONOTONIC when each frame was ready, and when the callback had it (0: never); int64, ns."""

    ready_ns: np.ndarray
    called_ns: np.ndarray

    @classmethod
    def shared(cls, count: int) -> 'PacedRun':
        """Zeros, in memory that forks share."""
        both = np.frombuffer(mmap.mmap(-1, 16 * count), np.int64)
        return cls(both[:count], both[count:])


def run_paced(frames: Sequence[np.ndarray], times: PacedRun, framerate: float, path: Optional[Path],
              spin: bool) -> None:
    """Send as many frames as ``times`` has room for, at ``framerate`` Hz, and note their times there; with a ``path`` a
    third process writes them. Blocks until all is done.

    Must run where forking is safe: a process of one thread.
    """
    context = multiprocessing.get_context('fork')
    count = len(times.ready_ns)
    to_callback: Any = context.Queue()
    to_writer: Any = context.Queue() if path is not None else None
    children: List[Any] = [
        context.Process(target=_camera, args=(frames, count, framerate, to_callback, times.ready_ns)),
        context.Process(target=_callback, args=(to_callback, to_writer, times.called_ns, spin))]
    if path is not None:
        children.append(context.Process(target=_writer, args=(to_writer, path, spin)))
    for child in children:
        child.start()
    for child in children:
        child.join()
        if child.exitcode:
            raise RuntimeError(f'a process of the pickled queues ended with exit code {child.exitcode}')


def _camera(frames: Sequence[np.ndarray], count: int, framerate: float, queue: Any, ready_ns: np.ndarray) -> None:
    begun_ns = time.monotonic_ns()
    for index in range(count):
        left_ns = begun_ns + round((index + 1) * 1e9 / framerate) - time.monotonic_ns()
        if left_ns > 0:
            time.sleep(left_ns / 1e9)
        # An array of its own for each frame: the queue pickles it later, in a thread, and must not find the next one.
        image = frames[index % len(frames)].copy()
        ready_ns[index] = time.monotonic_ns()
        queue.put((index, image))
    queue.put(None)


def _next(queue: Any, spin: bool) -> Any:
    while spin and queue.empty():
        pass
    return queue.get()


def _callback(queue: Any, to_writer: Any, called_ns: np.ndarray, spin: bool) -> None:
    while True:
        item = _next(queue, spin)
        if item is not None:
            called_ns[item[0]] = time.monotonic_ns()
        if to_writer is not None:
            to_writer.put(item)
        if item is None:
            return


def _writer(queue: Any, path: Path, spin: bool) -> None:
    import tifffile
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        while True:
            item = _next(queue, spin)
            if item is None:
                return
            image = item[1]
            file.write(image if image.ndim == 2 else image[..., ::-1], metadata=None,
                       photometric='minisblack' if image.ndim == 2 else 'rgb')
