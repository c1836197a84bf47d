"""What the group commit's interval costs: frames a second, processor, time until a frame is safe, syncs.

Frames are written as fast as the file takes them. The intervals take turns for several rounds; the table shows medians,
and the rate as a ratio to the default interval of the same round.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Tuple

import numpy as np

from ProcessedPiRecorder.cameras import CameraRequest, SyntheticCamera
from ProcessedPiRecorder.recordings.page import PageRecord
from ProcessedPiRecorder.recordings.part import RecordingPart
from ProcessedPiRecorder.recordings.sink import PageJob, PageSink

INTERVALS_S = (0.05, 0.2, 1.0, 5.0)
DEFAULT_S = 1.0
SIZES = ('640x480', '1280x480')
FORMATS = ('gray', 'bgr')
DISTINCT_FRAMES = 32
RING = 64                 # frames that may be on their way at once


class Run(NamedTuple):
    """One run's figures. kernel_ms: from a frame's arrival to its page in the kernel; safe_ms: to the end of the sync
    behind which ``ppr repair`` finds it. Milliseconds (p50, p99).
    """

    frames_a_s: float
    cpu_ms: float                        # of this process, a frame
    kernel_ms: Tuple[float, float]
    safe_ms: Tuple[float, float]
    at_risk_s: float                     # the longest time that any frame was not safe
    syncs_a_s: float


class Ring:
    """What bounds the frames on their way, as the recorder's ring does; and notes when each was written."""

    def __init__(self) -> None:
        self.arrived_ns: List[int] = []
        self.written_ns: List[int] = []
        self.errors: List[BaseException] = []
        self._free = threading.Semaphore(RING)

    def take(self) -> None:
        """Wait for a free slot; a frame arrives in it."""
        self._free.acquire()
        self.arrived_ns.append(time.monotonic_ns())

    def on_written(self, jobs: List[PageJob]) -> None:
        """In the appender thread."""
        self.written_ns.extend(job.written_ns for job in jobs)
        self._free.release(len(jobs))

    def on_error(self, error: BaseException) -> None:
        """In the appender thread; whoever waits for a slot must not wait for ever."""
        self.errors.append(error)
        self._free.release(RING)


class SyncLog:
    """Notes after each sync, from outside, how many pages it has made safe, and when."""

    def __init__(self) -> None:
        self.done: List[Tuple[int, int]] = []      # (pages, monotonic ns)

    def __enter__(self) -> 'SyncLog':
        self._sync = sync = RecordingPart.sync

        def noted(part: RecordingPart) -> None:
            sync(part)
            self.done.append((part.pages - part.unlinked_pages, time.monotonic_ns()))
        RecordingPart.sync = noted                 # type: ignore[method-assign]
        return self

    def __exit__(self, *exc_info: object) -> None:
        RecordingPart.sync = self._sync            # type: ignore[method-assign]


def frames_of(width: int, height: int, pixel_format: str) -> List[np.ndarray]:
    """Camera-like frames: gradient, shapes, noise."""
    camera = SyntheticCamera()
    camera.configure(CameraRequest(width, height, pixel_format=pixel_format, framerate=1000))
    return [camera.frame(index) for index in range(DISTINCT_FRAMES)]


def record(path: Path, frames: List[np.ndarray], interval_s: float, level: int, seconds: float) -> Run:
    """Write for so long, as fast as it goes."""
    height, width = frames[0].shape[:2]
    ring = Ring()
    with SyncLog() as syncs:
        sink = PageSink(path, height=height, width=width, pixel_format='gray' if frames[0].ndim == 2 else 'bgr',
                        level=level, waits=True, sync_interval_s=interval_s, on_written=ring.on_written,
                        on_error=ring.on_error)
        begun_ns, cpu_s = time.monotonic_ns(), time.process_time()
        count = 0
        while time.monotonic_ns() < begun_ns + seconds * 1e9:
            ring.take()
            if ring.errors:
                raise ring.errors[0]
            sink.submit(PageJob(frames[count % len(frames)], PageRecord(count, count + 1, None, ring.arrived_ns[-1])))
            count += 1
        ended_ns, cpu_s = time.monotonic_ns(), time.process_time() - cpu_s
        during = [done for done in syncs.done if done[1] <= ended_ns]
        sink.finish(lambda info: {})
        syncs.done.append((count, time.monotonic_ns()))
    path.unlink()
    return _run_of(ring, during, syncs.done, cpu_s, begun_ns, ended_ns)


def _run_of(ring: Ring, during: List[Tuple[int, int]], syncs: List[Tuple[int, int]], cpu_s: float, begun_ns: int,
            ended_ns: int) -> Run:
    arrived, written = np.array(ring.arrived_ns), np.array(ring.written_ns)
    inside = int(np.searchsorted(written, ended_ns))
    pages, when_ns = (np.array(column) for column in zip(*syncs))
    # Frame n is safe with the first sync that has linked more than n pages. The end of the file is no sync of this
    # interval's, so the frames behind the last one are left out.
    safe_frames = min(inside, during[-1][0] if during else 0)
    safe_ns = when_ns[np.searchsorted(pages, np.arange(safe_frames), side='right')] - arrived[:safe_frames]
    seconds = (ended_ns - begun_ns) / 1e9
    return Run(inside / seconds, 1000 * cpu_s / inside, _quantiles(written[:inside] - arrived[:inside]),
               _quantiles(safe_ns), float(safe_ns.max()) / 1e9 if safe_frames else float('nan'), len(during) / seconds)


def _quantiles(durations_ns: np.ndarray) -> Tuple[float, float]:
    if not len(durations_ns):
        return float('nan'), float('nan')
    p50, p99 = np.percentile(durations_ns, (50, 99)) / 1e6
    return float(p50), float(p99)


def measure(args: argparse.Namespace, width: int, height: int, pixel_format: str, path: Path) -> Dict[str, List[Run]]:
    """All intervals in turn, several rounds, each round from another one on."""
    frames = frames_of(width, height, pixel_format)
    found: Dict[str, List[Run]] = {f'{interval_s:g}': [] for interval_s in INTERVALS_S}
    record(path, frames, DEFAULT_S, args.level, 1.0)        # warms up caches and the disk
    for number in range(args.rounds):
        start = number % len(INTERVALS_S)
        for interval_s in (*INTERVALS_S[start:], *INTERVALS_S[:start]):
            found[f'{interval_s:g}'].append(record(path, frames, interval_s, args.level, args.seconds))
    return found


def rows(name: str, found: Dict[str, List[Run]]) -> List[str]:
    """The table's rows of one kind of frames."""
    lines = []
    for interval, runs in found.items():
        ratio = statistics.median(run.frames_a_s / default.frames_a_s
                                  for run, default in zip(runs, found[f'{DEFAULT_S:g}']))

        def median(name: str, place: int = -1, runs: List[Run] = runs) -> float:
            values = [getattr(run, name) for run in runs]
            return statistics.median(value if place < 0 else value[place] for value in values)
        lines.append(f'| {name} | {interval} s | {median("frames_a_s"):.0f} | {ratio:.2f} | {median("cpu_ms"):.2f} | '
                     f'{median("kernel_ms", 0):.0f} / {median("kernel_ms", 1):.0f} | '
                     f'{median("safe_ms", 0):.0f} / {median("safe_ms", 1):.0f} | {median("at_risk_s"):.2f} | '
                     f'{median("syncs_a_s"):.1f} |')
    return lines


def main() -> int:
    """Print a table; with --json also store the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--seconds', type=float, default=11.0, help='of a run; more than twice the longest interval')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--level', type=int, default=6, help='tif_compression; with 0 the disk is the limit')
    parser.add_argument('--sizes', nargs='+', default=list(SIZES))
    parser.add_argument('--formats', nargs='+', default=list(FORMATS), choices=FORMATS)
    parser.add_argument('--folder', type=Path, default=Path('.'), help='on the disk that is to be measured')
    parser.add_argument('--json', type=Path)
    args = parser.parse_args()
    print(f'{platform.machine()}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}, '
          f'tif_compression={args.level}, {args.seconds:g} s a run, medians of {args.rounds} rounds\n')
    print('| frames | interval | frames/s | of 1 s | CPU ms/frame | to the kernel p50 / p99 ms | '
          'until safe p50 / p99 ms | longest s | syncs/s |\n|---|---|---|---|---|---|---|---|---|')
    stored: Dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        for size in args.sizes:
            width, height = (int(side) for side in size.split('x'))
            for pixel_format in args.formats:
                found = measure(args, width, height, pixel_format, Path(folder) / 'bench.tif')
                print('\n'.join(rows(f'{size} {pixel_format}', found)), flush=True)
                stored[f'{size} {pixel_format}'] = {interval: [run._asdict() for run in runs]
                                                    for interval, runs in found.items()}
    if args.json:
        args.json.write_text(json.dumps(stored, indent=1))
    return 0


if __name__ == '__main__':
    sys.exit(main())
