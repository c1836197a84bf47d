"""One long recording: what a frame costs late in it against early in it, in time, processor and memory.

Small frames as fast as they go, so that a million of them take minutes. The machine may be faster or slower by then, so
short recordings right before and right after it tell what a frame costs in a fresh recording at those times.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from ProcessedPiRecorder import ProcessedPiRecorder
from ProcessedPiRecorder.recordings.reader import RecordingFile

from .live_trials import answer_of, pass_through
from .machine import facts, tree_cpu_s, tree_memory

__all__ = ['run', 'tables', 'targets', 'windows']

DISTINCT_FRAMES = 64
CHECKED_PAGES = 1000
RING_FRAMES = 256
MEMORY_EVERY = 8           # samples; what it reads costs milliseconds


def run(folder: Path = Path('.'), count: int = 1_000_000, width: int = 64, height: int = 48, pixel_format: str = 'gray',
        early_frame: int = 1000, short_runs: int = 3, sample_s: float = 0.25) -> Dict[str, Any]:
    """Measure; JSON types. A million frames take some minutes, and some 3 GB in ``folder`` for as long.

    early_frame: which the end is compared with. short_runs: fresh recordings before the long one, and as many after it.
    sample_s: how often the processes are looked at. Raises RuntimeError when a recording failed, or is not what was
    recorded.
    """
    short = max(2 * early_frame, count // 50)
    options = {'width': width, 'height': height, 'pixel_format': pixel_format}
    with tempfile.TemporaryDirectory(dir=folder, prefix='bench-length-') as scratch:
        def trial(frames: int) -> Dict[str, Any]:
            asked = {'folder': scratch, 'count': frames, 'sample_s': sample_s, **options}
            return answer_of('benchmarks.length', json.dumps(asked))
        before = [trial(short) for _ in range(short_runs)]
        long = trial(count)
        after = [trial(short) for _ in range(short_runs)]
    settings = {'count': count, 'short': short, 'early_frame': early_frame, 'short_runs': short_runs, **options}
    return {'machine': facts(folder), 'settings': settings, 'long': long, 'before': before, 'after': after}


# ---------------------------------------------------------------- in a process of its own

class Sampler:
    """A thread that sleeps, and now and then notes frames written, wall time, CPU and memory of the whole tree.

    samples: (frames, monotonic s, CPU s, PSS bytes or None, of these shared memory or None, CPU s of a fixed piece of
    work). Its own CPU is left out. The fixed work tells how fast the machine is at that moment: others on it, or heat,
    make everything slower, and that is nothing of the recording's.
    """

    def __init__(self, recorder: ProcessedPiRecorder, count: int, every_s: float) -> None:
        self.samples: List[Tuple[int, float, float, Optional[int], Optional[int], float]] = []
        self._recorder, self._count, self._every_s = recorder, count, every_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name='bench-sampler')

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        while not self._over.wait(self._every_s):
            memory = tree_memory(os.getpid()) if number % MEMORY_EVERY == 0 else None
            cpu_s = tree_cpu_s(os.getpid()) - time.thread_time()
            written, now_s = self._recorder.status().written, time.monotonic()
            fixed_s = _fixed_work()
            if 0 < written < self._count:      # what comes then is the file's end, and no frame's
                self.samples.append((written, now_s, cpu_s, memory and memory.pss, memory and memory.shmem, fixed_s))
                number += 1


def _fixed_work() -> float:
    """CPU s of always the same: Python, and some memory."""
    begun = time.thread_time()
    block = bytes(200_000)
    for number in range(4000):
        block[number:number + 100].count(0)
    return time.thread_time() - begun


def record(folder: str, count: int, width: int, height: int, pixel_format: str, sample_s: float) -> Dict[str, Any]:
    """One recording of ``count`` frames through '3Proc', looked at from outside, then read back."""
    from .frames import PreloadedCamera, camera_like
    path = Path(folder) / 'length.tif'
    path.unlink(missing_ok=True)
    frames = camera_like(width, height, pixel_format, DISTINCT_FRAMES)
    camera = PreloadedCamera(frames, count)
    recorder = ProcessedPiRecorder(path, width, height, 1, 1000, display=False, camera=camera, callback=pass_through,
                                   cb_type='3Proc', ring_frames=RING_FRAMES, blocking=False, pixel_format=pixel_format)
    os.sync()
    recorder.recordVid()
    with Sampler(recorder, count, sample_s) as sampler:
        report = recorder.wait()
    ended = time.monotonic()
    assert report is not None
    if report.complete != 'yes' or report.written != count:
        raise RuntimeError(f'the recording is not whole: complete={report.complete!r} {report.reasons}, '
                           f'{report.written} of {count} frames')
    last_ns = int(camera.ready_ns[-1])
    found = {'count': count, 'samples': sampler.samples, 'seconds': ended - camera.first_ns / 1e9,
             'finish_s': ended - last_ns / 1e9, 'file_bytes': report.file_bytes, 'effort': report.effort,
             'frame_ms': _frame_ms(camera.ready_ns), 'reading': _read_back(path, frames, count)}
    path.unlink()
    return found


def _frame_ms(ready_ns: np.ndarray) -> Dict[str, Any]:
    """Wall time a frame by the camera's own stamps, ms, in up to 100 windows: (last frame, ms a frame)."""
    ends = np.unique(np.linspace(0, len(ready_ns) - 1, min(101, len(ready_ns))).astype(int))
    spans = np.diff(ready_ns[ends]) / 1e6 / np.diff(ends)
    return {'frame': ends[1:].tolist(), 'ms': [round(float(span), 6) for span in spans]}


def _read_back(path: Path, frames: Sequence[np.ndarray], count: int) -> Dict[str, Any]:
    """Open the file, read its last page, and hold pages from all over it against what was recorded."""
    begun = time.perf_counter()
    with RecordingFile(path) as recording:
        opened = time.perf_counter()
        recording.read_page(count - 1)
        read = time.perf_counter()
        recording.read_page(count // 2)
        again = time.perf_counter()
        chosen = np.random.default_rng(1).choice(count, min(count, CHECKED_PAGES), replace=False)
        wrong = [int(page) for page in sorted(chosen.tolist()) + [0, count - 1]
                 if not np.array_equal(recording.read_page(page), frames[page % len(frames)])]
    if wrong:
        raise RuntimeError(f'{len(wrong)} pages are not what was recorded, the first of them page {wrong[0]}')
    return {'open_s': opened - begun, 'last_page_s': read - opened, 'another_page_s': again - read,
            'checked': len(chosen) + 2}


# ---------------------------------------------------------------- what it says

def windows(found: Mapping[str, Any]) -> Dict[str, Dict[str, float]]:
    """'early' and 'late' in the long recording: CPU ms and wall ms a frame, and MB beyond the ring (PSS).

    Each is as wide as a short recording; 'early' begins at half of early_frame, so that it lies around that frame and
    leaves out the start, 'late' ends with the last frame.
    """
    long, width, begin = found['long'], found['settings']['short'], found['settings']['early_frame'] // 2
    count = long['count']
    return {'early': _window(long['samples'], begin, begin + width),
            'late': _window(long['samples'], count - width, count)}


def fresh(found: Mapping[str, Any], when: str) -> Dict[str, float]:
    """The same of the short recordings 'before' or 'after': medians."""
    begin = found['settings']['early_frame'] // 2
    each = [_window(trial['samples'], begin, trial['count']) for trial in found[when]]
    return {key: statistics.median(window[key] for window in each) for key in each[0]}


def _window(samples: Sequence[Sequence[Any]], first: int, last: int) -> Dict[str, float]:
    """Between the samples nearest to two frames; NaN where there are too few."""
    nan = float('nan')
    if not samples:
        return {'cpu_ms': nan, 'wall_ms': nan, 'beyond_ring_mb': nan, 'fixed_ms': nan}
    begin = min(samples, key=lambda sample: abs(sample[0] - first))
    end = min(samples, key=lambda sample: abs(sample[0] - last))
    frames = end[0] - begin[0]
    with_memory = [sample for sample in samples if sample[3] is not None]
    inside = [sample for sample in with_memory if begin[0] <= sample[0] <= end[0]]
    nearest = min(with_memory, key=lambda sample: abs(sample[0] - (first + last) / 2))
    memory = statistics.median(sample[3] - sample[4] for sample in inside or [nearest])
    return {'cpu_ms': 1000 * (end[2] - begin[2]) / frames if frames else nan,
            'wall_ms': 1000 * (end[1] - begin[1]) / frames if frames else nan, 'beyond_ring_mb': memory / 1e6,
            'fixed_ms': 1000 * statistics.median(sample[5] for sample in samples if begin[0] <= sample[0] <= end[0])}


def targets(found: Mapping[str, Any]) -> List[Dict[str, Any]]:
    """The targets that ``length`` can tell of: measure, target, measured (texts) and reached (bool)."""
    early, late = windows(found)['early'], windows(found)['late']
    cpu, wall, memory, fixed = (late[key] / early[key]
                                for key in ('cpu_ms', 'wall_ms', 'beyond_ring_mb', 'fixed_ms'))
    count, first = found['settings']['count'], found['settings']['early_frame']
    return [{'measure': f'cost per frame at frame {count:,} against frame {first:,}', 'target': '≤ 1.1×',
             'measured': f'{cpu:.2f}× CPU, {wall:.2f}× time (a fixed piece of work at these times: {fixed:.2f}×)',
             'reached': bool(cpu <= 1.1 and wall <= 1.1)},
            {'measure': f'memory at frame {count:,} against frame {first:,}', 'target': 'flat (≤ 1.1×)',
             'measured': f'{memory:.2f}× ({early["beyond_ring_mb"]:.0f} → {late["beyond_ring_mb"]:.0f} MB beyond the '
                         'ring)', 'reached': bool(memory <= 1.1)}]


def tables(found: Mapping[str, Any]) -> str:
    """Everything as Markdown."""
    settings, long = found['settings'], found['long']
    name = f'{settings["width"]}×{settings["height"]} {settings["pixel_format"]}'
    rows = [('the long one, around its beginning', windows(found)['early']),
            ('the long one, its end', windows(found)['late']),
            ('fresh recordings right before it', fresh(found, 'before')),
            ('fresh recordings right after it', fresh(found, 'after'))]
    lines = [f'### {settings["count"]:,} frames in one recording', '',
             f"{name}, '3Proc' pass-through, as fast as it goes. Windows of {settings['short']:,} frames: from frame "
             f'{settings["early_frame"] // 2} on, and the last ones; of the fresh recordings medians of '
             f'{settings["short_runs"]}. The fixed piece of work tells how fast the machine was at these times.', '',
             '| window | CPU ms/frame | ms/frame | PSS beyond the ring, MB | a fixed piece of work, CPU ms |',
             '|---|---|---|---|---|']
    lines += [f'| {what} | {row["cpu_ms"]:.3f} | {row["wall_ms"]:.3f} | {row["beyond_ring_mb"]:.0f} | '
              f'{row["fixed_ms"]:.2f} |'
              for what, row in rows]
    reading = long['reading']
    return '\n'.join([*lines, '', f'In all {long["seconds"]:.0f} s, {long["count"] / long["seconds"]:.0f} frames/s, '
                      f'{long["file_bytes"] / 1e9:.2f} GB; {long["finish_s"]:.2f} s from the last frame to the report. '
                      f'Opening the file takes {1000 * reading["open_s"]:.0f} ms, its last page then '
                      f'{1000 * reading["last_page_s"]:.0f} ms, any other {1000 * reading["another_page_s"]:.1f} ms. '
                      f'{reading["checked"]:,} pages were read back and are what was recorded.', ''])


if __name__ == '__main__':
    print(json.dumps(record(**json.loads(sys.argv[1]))))
