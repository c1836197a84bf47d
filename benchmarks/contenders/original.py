"""The original recorder's architecture, written anew from its description.

Camera, callback and file writer are processes. Whole arrays travel on unbounded multiprocessing.Queues, pickled on one
side and unpickled on the other; whoever waits for a frame asks ``queue.empty()`` again and again. The writer appends
uncompressed pages to a BigTIFF with imageio. Only in the unpaced runs the camera waits while many frames are on their
way: the highest rate that can be sustained is wanted, and the queues know no limit but the memory.
"""

from __future__ import annotations

import collections
import mmap
import multiprocessing
import queue
import time
from pathlib import Path
from typing import Any, Callable, Deque, Dict, Iterator, List, Optional, Sequence

import numpy as np

from .base import Contender, Meter

__all__ = ['ORIGINALS', 'Original', 'OriginalPipeline']

IN_FLIGHT = 64
END = None

_fork = multiprocessing.get_context('fork')


class OriginalPipeline:
    """Three processes and two queues. ``start``, then ``wait``; both in the script.

    Args:
        frames: handed out again and again, a fresh array each time.
        count: how many.
        path: the BigTIFF; None: the last process throws them away.
        callback: called with a deque of frames, as in the recorder; it returns a frame.
        framerate: Hz, kept by sleeping until each is due; None: as many as can be written.

    ready_ns, called_ns: for each frame CLOCK_MONOTONIC when the camera had it and when its callback began; 0: not yet.
    """

    def __init__(self, frames: Sequence[np.ndarray], count: int, path: Optional[Path],
                 callback: Callable[[Deque[np.ndarray]], np.ndarray] = lambda buffer: buffer[-1],
                 framerate: Optional[float] = None) -> None:
        self._frames, self._count, self._path, self._callback = frames, count, path, callback
        self._framerate = framerate
        self._captured: Any = _fork.Queue()
        self._processed: Any = _fork.Queue()
        self._free = _fork.Semaphore(IN_FLIGHT) if framerate is None else None
        times = np.frombuffer(mmap.mmap(-1, 16 * count), np.int64).reshape(2, count)
        self.ready_ns, self.called_ns = times
        self._processes: List[Any] = []

    def start(self) -> None:
        """Start the processes, the consumers first."""
        for work in (self._write, self._process, self._capture):
            self._processes.append(_fork.Process(target=work))
            self._processes[-1].start()

    @property
    def pids(self) -> List[int]:
        """Of the processes that were started."""
        return [process.pid for process in self._processes]

    def wait(self) -> None:
        """Block until everything is in the file. Raises RuntimeError when a process failed."""
        for process in self._processes:
            process.join()
        failed = [process.exitcode for process in self._processes if process.exitcode]
        if failed:
            raise RuntimeError(f'processes ended with {failed}')
        for channel in (self._captured, self._processed):
            channel.close()

    def _capture(self) -> None:
        begun_ns = time.monotonic_ns()
        for number in range(self._count):
            if self._framerate is not None:
                left_ns = begun_ns + round((number + 1) * 1e9 / self._framerate) - time.monotonic_ns()
                if left_ns > 0:
                    time.sleep(left_ns / 1e9)
            elif self._free is not None:
                self._free.acquire()
            frame = self._frames[number % len(self._frames)].copy()
            self.ready_ns[number] = time.monotonic_ns()
            self._captured.put(frame)
        self._captured.put(END)

    def _process(self) -> None:
        buffer: Deque[np.ndarray] = collections.deque(maxlen=1)
        for number, frame in enumerate(_spinning(self._captured)):
            self.called_ns[number] = time.monotonic_ns()
            buffer.append(frame)
            self._processed.put(self._callback(buffer))
        self._processed.put(END)

    def _write(self) -> None:
        append, close = _appender(self._path)
        for frame in _spinning(self._processed):
            append(frame)
            if self._free is not None:
                self._free.release()
        close()


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


def _appender(path: Optional[Path]) -> Any:
    if path is None:
        return (lambda frame: None), (lambda: None)
    import imageio.v2
    writer = imageio.v2.get_writer(path, format='TIFF', mode='V', bigtiff=True)
    return writer.append_data, writer.close


class Original(Contender):
    name, group = "original's architecture", 'original'
    what = 'pickled arrays on unbounded multiprocessing queues, consumers that spin, uncompressed pages by imageio'
    needs = {'imageio': 'imageio', 'tifffile': 'tifffile'}
    note = 'not compressed'

    def record(self, frames: Sequence[np.ndarray], count: int, folder: Path, meter: Meter) -> Dict[str, Any]:
        self.path(folder).unlink(missing_ok=True)
        meter.begin()
        pipeline = OriginalPipeline(frames, count, self.path(folder))
        pipeline.start()
        pipeline.wait()
        meter.first_frame(int(pipeline.ready_ns[0]))
        return {}

    def decode(self, path: Path) -> Iterator[np.ndarray]:
        """By tifffile; the channels stand as they were given."""
        import tifffile
        with tifffile.TiffFile(path) as tif:
            for page in tif.pages:
                yield page.asarray()


ORIGINALS = (Original,)
