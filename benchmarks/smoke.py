"""What the recorder does for a frame, counted, and its rate as a ratio: fails on gross regressions only.

Times say little on a machine that others use at the same moment. So what can be counted is counted (bytes through
pipes, reads and writes, wake-ups), and what has to be timed is a ratio to something else in the same round, of which
the median counts. The limits leave a factor of two and more to what is usual.
"""

from __future__ import annotations

import os
import statistics
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Tuple

import numpy as np

from ProcessedPiRecorder import ProcessedPiRecorder
from ProcessedPiRecorder.recordings.encoder import PageEncoder

from .contenders.original import Original
from .frames import PreloadedCamera, camera_like
from .machine import tree, tree_cpu_s

__all__ = ['Finding', 'Totals', 'at_full_speed', 'at_leisure', 'at_rest', 'counted', 'findings', 'pass_through']

WIDTH, HEIGHT = 640, 480
RING = 32
LEISURE_RING = 256          # a busy machine may hold up a recording at 20 Hz for some seconds
WARM_UP = 2 * RING           # frames until the ring is as full as it gets, and the effort is chosen
WINDOW = 100                 # frames that are looked at
LEISURE_HZ = 20.0
LEISURE_FRAMES = 30
PATIENCE_S = 50.0


class Finding(NamedTuple):
    """One figure and the worst that it may be."""

    name: str
    value: float
    limit: float
    at_least: bool = False

    @property
    def good(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def __str__(self) -> str:
        return (f'{self.name}: {self.value:.3g} ({"at least" if self.at_least else "at most"} {self.limit:g}'
                f'{"" if self.good else ": NOT GOOD"})')


class Totals(NamedTuple):
    """What all of the recorder's processes have done so far. Differences of two of these are divided by the frames."""

    frames: float            # written
    seconds: float           # on the wall
    cpu_s: float
    read_bytes: float        # through pipes and from files; what is mapped does not count
    written_bytes: float     # through pipes and to files ...
    file_bytes: float        # ... and these to the recording
    calls: float             # of the kinds of read and write
    wake_ups: float          # how often a thread slept

    def a_frame_since(self, before: 'Totals') -> 'Totals':
        """Each figure's growth, for each frame."""
        frames = self.frames - before.frames
        return Totals(*(1.0 if name == 'frames' else (now - then) / frames
                        for name, now, then in zip(self._fields, self, before)))


def pass_through(buffer: Any, cb_queue: Any) -> np.ndarray:
    """The cheapest callback that returns a frame."""
    return buffer[-1]


def at_full_speed(folder: Path, frames: List[np.ndarray], callback: Callable[..., Any] = pass_through,
                  window: int = WINDOW) -> Totals:
    """Cost of a frame in a '3Proc' recording that runs as fast as it can."""
    return _recorded(folder, PreloadedCamera(frames), frames[0], callback, RING, WARM_UP, window)


def at_leisure(folder: Path, callback: Callable[..., Any] = pass_through) -> Totals:
    """Cost of a frame in a '3Proc' recording that has nothing to do most of the time."""
    frames = camera_like(64, 48, 'gray', 8)
    return _recorded(folder, PreloadedCamera(frames, framerate=LEISURE_HZ), frames[0], callback, LEISURE_RING, 6,
                     LEISURE_FRAMES)


def bare_codec(frames: List[np.ndarray], count: int, effort: str) -> Tuple[float, float]:
    """Seconds and CPU seconds a frame of predictor and Deflate alone, one thread for each core, nothing written."""
    numbers = iter(range(count))
    lock = threading.Lock()

    def work() -> None:
        encoder = PageEncoder(*frames[0].shape[:2], 1 if frames[0].ndim == 2 else 3)
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            encoder.encode(frames[number % len(frames)], effort)

    threads = [threading.Thread(target=work) for _ in os.sched_getaffinity(0)]
    begun, cpu_s = time.perf_counter(), time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return (time.perf_counter() - begun) / count, (time.process_time() - cpu_s) / count


def findings(folder: Path, rounds: int = 3) -> Iterator[Finding]:
    """Everything that is looked at, in the order in which it is found out. About 15 s on two cores."""
    frames = camera_like(WIDTH, HEIGHT, 'bgr', 8)
    costs: List[Totals] = []
    ratios: List[Tuple[float, float, float]] = []
    for _ in range(rounds):
        cost = at_full_speed(folder, frames)
        bare_s, bare_cpu_s = bare_codec(frames, WINDOW, 'huffman')
        queues = Original().run(frames, WINDOW // 2, folder).rate
        costs.append(cost)
        ratios.append((bare_s / cost.seconds, cost.cpu_s / bare_cpu_s, 1 / cost.seconds / queues))
    rate, cpu, of_queues = (statistics.median(values) for values in zip(*ratios))
    yield Finding('frames/s, of the bare codec', rate, 0.35, at_least=True)
    yield Finding('processor time a frame, of the bare codec', cpu, 2.5)
    yield Finding('frames/s, of pickled queues, which do not compress', of_queues, 0.4, at_least=True)
    yield from counted(costs, frames[0].nbytes)
    yield from at_rest(at_leisure(folder))


def counted(costs: List[Totals], frame_bytes: int) -> Iterator[Finding]:
    """What a frame takes at full speed. A frame that is pickled on its way is read and written once more."""
    least = Totals(*(min(values) for values in zip(*costs)))
    beside = min(cost.written_bytes - cost.file_bytes for cost in costs)
    yield Finding('bytes read, a frame', least.read_bytes, 4096)
    yield Finding('bytes written beside the file, of a frame', beside / frame_bytes, 0.2)
    yield Finding('reads and writes, a frame', least.calls, 25)


def at_rest(cost: Totals) -> Iterator[Finding]:
    """What a frame takes when there is time. Whoever polls wakes up all the time, whoever spins takes a core."""
    yield Finding('wake-ups a frame at 20 Hz', cost.wake_ups, 35)
    yield Finding('processor time a frame at 20 Hz, ms', 1000 * cost.cpu_s, 7.5)


def _recorded(folder: Path, camera: PreloadedCamera, frame: np.ndarray, callback: Callable[..., Any], ring: int,
              warm_up: int, window: int) -> Totals:
    path = folder / 'smoke.tif'
    height, width = frame.shape[:2]
    rec = ProcessedPiRecorder(path, width, height, 1, 0, display=False, camera=camera, callback=callback,
                              cb_type='3Proc', pixel_format='gray' if frame.ndim == 2 else 'bgr', ring_frames=ring,
                              blocking=False, overwrite=True)
    with rec:
        rec.recordVid()
        _wait_until(lambda: rec.status().written >= warm_up)
        before = totals(rec)
        _wait_until(lambda: rec.status().written >= before.frames + window)
        after = totals(rec)
        rec.stopVid()
    report = rec.report
    if report is None or report.complete != 'yes':
        raise AssertionError(f'the recording is not complete: {report}')
    path.unlink()
    return after.a_frame_since(before)


def totals(rec: ProcessedPiRecorder) -> Totals:
    """Of all processes below this one, which are the recorder's."""
    found: Dict[str, int] = {}
    for pid in tree(os.getpid())[1:]:
        for name, value in {**_io(pid), 'wake_ups': _wake_ups(pid)}.items():
            found[name] = found.get(name, 0) + value
    status = rec.status()
    own_cpu_s = sum(os.times()[:4])
    return Totals(status.written, time.perf_counter(), tree_cpu_s(os.getpid()) - own_cpu_s, found['rchar'],
                  found['wchar'], status.bytes_written, found['syscr'] + found['syscw'], found['wake_ups'])


def _io(pid: int) -> Dict[str, int]:
    lines = Path(f'/proc/{pid}/io').read_text().splitlines()
    return {name: int(value) for name, value in (line.split(': ') for line in lines)}


def _wake_ups(pid: int) -> int:
    total = 0
    for status in Path(f'/proc/{pid}/task').glob('*/status'):
        for line in status.read_text().splitlines():
            if line.startswith('voluntary_ctxt_switches'):
                total += int(line.split()[1])
    return total


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f'the recording did not get that far in {PATIENCE_S:g} s')
        time.sleep(0.005)
