"""How fast frames can be compressed here, on every core, by the codec alone.

Measured in a process of its own: the codec wakes OpenCV's threads, and a process that has them should not be forked
any more; the trials fork from ours.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Callable, List, NamedTuple, Tuple

import numpy as np

from ..errors import RecorderError
from ..recordings.effort import EffortChooser
from ..recordings.encoder import PageEncoder, ladder
from ..recordings.reader import RecordingFile

__all__ = ['CodecSpeed', 'main', 'measure_codec']

MOST_BYTES = 32_000_000
SECONDS = 0.7                 # for each effort
PATIENCE_S = 120.0
_CHILD = 'from ProcessedPiRecorder.preflight.codec import main; main()'


class CodecSpeed(NamedTuple):
    """One effort on all cores: pages a second, and raw bytes / compressed bytes."""

    effort: str
    rate_hz: float
    ratio: float
    threads: int


def measure_codec(recording: Path, level: int) -> List[CodecSpeed]:
    """The most effort that suits this recording's pages of all that ``tif_compression=level`` allows, and the least.

    Its pages, and not the camera's frames: the callback may have returned something quite different. One entry where
    the two efforts are the same. Blocks for some seconds. Raises RecorderError when it cannot be measured.
    """
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(path or os.getcwd() for path in sys.path)}
    try:
        # In a session of its own: Ctrl-C is for us to answer, and ends it by way of our leaving run().
        done = subprocess.run([sys.executable, '-c', _CHILD, str(recording), str(level)], env=environment, text=True,
                              capture_output=True, stdin=subprocess.DEVNULL, timeout=PATIENCE_S,
                              start_new_session=True)
        return [CodecSpeed(*row) for row in json.loads(done.stdout)]
    except (OSError, subprocess.SubprocessError) as error:
        raise RecorderError(f'the compression could not be measured: {error}; try again, or look into what else '
                            'the machine is doing') from error
    except (ValueError, TypeError) as error:
        raise RecorderError('the compression could not be measured: its process said '
                            f'{done.stderr.strip()[-500:] or "nothing"!r} (exit code {done.returncode}); '
                            'ppr selftest  checks the installation') from error


def main() -> None:
    """In the process of its own: recording and level in ``sys.argv``, the result as JSON on stdout."""
    import cv2
    cv2.setNumThreads(0)                     # as in the writer: pages are spread over the cores already
    images = _pages(Path(sys.argv[1]))
    print(json.dumps([_measure(effort, images) for effort in _efforts(images, int(sys.argv[2]))]))


def _pages(path: Path) -> np.ndarray:
    """Pages spread over the recording, (count, height, width[, 3])."""
    with RecordingFile(path) as recording:
        size = recording.height * recording.width * (3 if recording.pixel_format == 'bgr' else 1)
        count = min(recording.pages, max(2, MOST_BYTES // size))
        return np.stack([recording.read_page(number * recording.pages // count) for number in range(count)])


def _efforts(images: np.ndarray, level: int) -> List[str]:
    height, width, channels = _size(images)
    chooser = EffortChooser(level, height, width, channels, 1, waits=True)
    return list(dict.fromkeys([chooser.choose(images[len(images) // 2]).effort, ladder(level)[0]]))


def _size(images: np.ndarray) -> Tuple[int, int, int]:
    return images.shape[1], images.shape[2], images.shape[3] if images.ndim == 4 else 1


def _measure(effort: str, images: np.ndarray) -> CodecSpeed:
    rates: List[float] = []
    sizes: List[int] = []

    def work() -> None:
        encoder = PageEncoder(*_size(images))
        encode: Callable[[int], int] = lambda number: sum(       # noqa: E731
            memoryview(part).nbytes for part in encoder.encode(images[number % len(images)], effort))
        encode(0)                            # its memory is touched for the first time
        pages, began = 0, time.perf_counter()
        while time.perf_counter() - began < SECONDS:
            sizes.append(encode(pages))
            pages += 1
        rates.append(pages / (time.perf_counter() - began))

    threads = [threading.Thread(target=work) for _ in os.sched_getaffinity(0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ratio = images[0].nbytes * len(sizes) / sum(sizes)
    return CodecSpeed(effort, round(sum(rates), 2), round(ratio, 3), len(threads))
