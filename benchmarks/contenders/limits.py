"""What nothing can be faster than: the codec alone, the memory, the disk."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any, Callable, ClassVar, Dict, Iterator, List, Sequence

import numpy as np

from .base import Contender, Meter

__all__ = ['LIMITS', 'BareCodec']

RING = 64


class BareCodec(Contender):
    """Predictor and Deflate with the efforts that the recorder chose, one thread for each core; nothing is written.

    options: efforts, {effort: pages} from the recorder's report; pages are spread in that ratio.
    """

    name, group = 'bare codec', 'limit'
    what = "the recorder's codec alone: same frames, efforts and cores; nothing written"
    writes = False

    def record(self, frames: Sequence[np.ndarray], count: int, folder: Path, meter: Meter) -> Dict[str, Any]:
        from ProcessedPiRecorder.recordings.encoder import PageEncoder
        efforts = spread(self.options.get('efforts') or {'huffman': 1}, count)
        height, width = frames[0].shape[:2]
        sizes: List[int] = []

        def worker() -> Callable[[int], None]:
            encoder = PageEncoder(height, width, 1 if frames[0].ndim == 2 else 3)

            def encode(number: int) -> None:
                parts = encoder.encode(frames[number % len(frames)], efforts[number])
                sizes.append(sum(len(part) for part in parts))
            return encode
        in_threads(worker, count, len(os.sched_getaffinity(0)))
        return {'bytes': sum(sizes), 'efforts': self.options.get('efforts')}


class MemoryCopy(Contender):
    """One copy of each frame into a ring."""

    name, what, group = 'memory copy', 'one copy of each frame into a ring, one thread', 'limit'
    writes = False
    threads: ClassVar[int] = 1

    def record(self, frames: Sequence[np.ndarray], count: int, folder: Path, meter: Meter) -> Dict[str, Any]:
        slots = [np.ones_like(frames[0]) for _ in range(RING)]
        meter.begin()

        def worker() -> Callable[[int], None]:
            return lambda number: np.copyto(slots[number % RING], frames[number % len(frames)])
        in_threads(worker, count, self.threads)
        return {'bytes': count * frames[0].nbytes}


class MemoryCopyTwo(MemoryCopy):
    name, what, threads = 'memory copy, two threads', 'the same with two threads', 2


class RawDisk(Contender):
    """Plain sequential writing of the frames' bytes."""

    name, what, group = 'raw disk write', "the frames' bytes, one write() each, one after the other", 'limit'
    suffix = '.raw'

    def record(self, frames: Sequence[np.ndarray], count: int, folder: Path, meter: Meter) -> None:
        blocks = self._blocks(frames)
        meter.begin()
        fd = os.open(self.path(folder), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            for number in range(count):
                left = memoryview(blocks[number % len(blocks)])
                while left:
                    left = left[os.write(fd, left):]
        finally:
            os.close(fd)

    def _blocks(self, frames: Sequence[np.ndarray]) -> List[Any]:
        self._shape = frames[0].shape
        return [frame.reshape(-1) for frame in frames]

    def decode(self, path: Path) -> Iterator[np.ndarray]:
        size = int(np.prod(self._shape))
        with open(path, 'rb') as file:
            while True:
                data = file.read(size)
                if not data:
                    return
                yield np.frombuffer(data, np.uint8).reshape(self._shape)


class CompressedDisk(RawDisk):
    """Plain sequential writing of strips that were compressed beforehand. options: as BareCodec's."""

    name, what = 'raw disk write, compressed', 'the strips that the codec made beforehand, one write() each'

    def _blocks(self, frames: Sequence[np.ndarray]) -> List[Any]:
        from ProcessedPiRecorder.recordings.encoder import PageEncoder
        self._shape = frames[0].shape
        encoder = PageEncoder(*self._shape[:2], 1 if len(self._shape) == 2 else 3)
        efforts = self.options.get('efforts') or {'huffman': 1}
        usual = max(efforts, key=lambda effort: efforts[effort])
        strips = [b''.join(bytes(part) for part in encoder.encode(frame, usual)) for frame in frames]
        self._sizes = [len(strip) for strip in strips]
        return strips

    def decode(self, path: Path) -> Iterator[np.ndarray]:
        """By the standard library's zlib; the predictor undone by numpy."""
        import zlib
        data, begin, number = path.read_bytes(), 0, 0
        while begin < len(data):
            end = begin + self._sizes[number % len(self._sizes)]
            differences = np.frombuffer(zlib.decompress(data[begin:end]), np.uint8).reshape(self._shape)
            image = np.cumsum(differences, axis=1, dtype=np.uint8)
            yield image if image.ndim == 2 else image[..., ::-1]
            begin, number = end, number + 1


def spread(efforts: Dict[str, int], count: int) -> List[str]:
    """An effort for each of ``count`` pages, evenly mixed in the ratio of ``efforts``."""
    total = sum(efforts.values())
    used = dict.fromkeys(efforts, 0)
    mixed = []
    for number in range(count):
        effort = max(efforts, key=lambda name: efforts[name] / total * (number + 1) - used[name])
        used[effort] += 1
        mixed.append(effort)
    return mixed


def in_threads(worker: Callable[[], Callable[[int], None]], count: int, threads: int) -> None:
    """Call what ``worker`` makes (once for each thread) with 0 … count-1. Raises what a thread raised."""
    numbers = iter(range(count))
    lock = threading.Lock()
    errors: List[BaseException] = []

    def work() -> None:
        try:
            do = worker()
            while not errors:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                do(number)
        except BaseException as error:
            errors.append(error)

    running = [threading.Thread(target=work) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    if errors:
        raise errors[0]


LIMITS = (BareCodec, MemoryCopy, MemoryCopyTwo, RawDisk, CompressedDisk)
