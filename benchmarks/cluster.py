"""Processing again, by one process and by workers: how much sooner a CPU-bound callback is through with a recording.

Contenders take turns, each run in a process of its own; the callback does a fixed piece of work on one thread. Beside
them the same work in bare processes, without any recording: more than these gain by a second core nobody can.
"""

from __future__ import annotations

import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

import numpy as np

from ProcessedPiRecorder import ProcessedPiRecorder
from ProcessedPiRecorder.processing import process

from .live_trials import REPO, answer_of
from .machine import facts

__all__ = ['ALONE', 'run', 'tables', 'targets']

WIDTH, HEIGHT = 640, 480
ALONE, BARE = 'process()', 'bare'
AIM = 1.6


def run(folder: Path = Path('.'), rounds: int = 3, seconds: float = 20.0, call_ms: Sequence[float] = (20.0, 60.0),
        workers: int = 2) -> Dict[str, Any]:
    """Measure; JSON types. Blocks for about 5 × rounds × seconds, for each length of call.

    seconds: that one worker is to have work for. call_ms: that the callback is to take for a frame. workers: against
    one of them.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix='bench-cluster-') as scratch:
        path = Path(scratch).resolve() / 'trial.tif'
        series = []
        for length in call_ms:
            frames = round(1000 * seconds / length)
            _record(path, frames)
            loops = _loops_of(length)
            asked = {'path': str(path), 'loops': loops, 'frames': frames}
            series.append({'call_ms': length, 'loops': loops, 'frames': frames,
                           'runs': _rounds(asked, rounds, workers)})
        return {'machine': facts(folder), 'series': series, 'settings': {
            'rounds': rounds, 'seconds': seconds, 'workers': workers, 'width': WIDTH, 'height': HEIGHT}}


def _record(path: Path, frames: int) -> None:
    controls = {'pace': False, 'frames': frames}
    with ProcessedPiRecorder(path, camera='synthetic', display=False, x_resolution=WIDTH, y_resolution=HEIGHT,
                             framerate=60, camera_controls=controls, overwrite=True) as recorder:
        recorder.recordVid()


def _rounds(asked: Mapping[str, Any], rounds: int, workers: int) -> List[Dict[str, Any]]:
    contenders = [(ALONE, None), ('workers', 1), ('workers', workers), (BARE, 1), (BARE, workers)]
    runs = []
    for number in range(rounds):
        first = number % len(contenders)
        for kind, count in contenders[first:] + contenders[:first]:
            found = _bare(asked, int(count or 1)) if kind == BARE else answer_of(
                'benchmarks.cluster', 'trial', json.dumps({**asked, 'workers': count}))
            runs.append({'round': number, 'kind': kind, 'workers': count, **found})
    return runs


def work(loops: int, buffer: Any, cb_queue: Any) -> None:
    """The callback: the same piece of work for each frame, on one thread."""
    import cv2
    if cv2.getNumThreads() != 1:
        cv2.setNumThreads(1)
    image = buffer[-1]
    for _ in range(loops):
        image = cv2.GaussianBlur(image, (21, 21), 4)
    cb_queue.put(float(image.mean()))


class _Nothing:
    """Takes results."""

    def put(self, result: Any) -> None:
        """And does nothing with them."""


def _noise() -> List[np.ndarray]:
    return [np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)]


def _loops_of(call_ms: float) -> int:
    """How much work takes so long here, on one thread, by its own processor time."""
    work(3, _noise(), _Nothing())
    began = time.thread_time()
    work(20, _noise(), _Nothing())
    return max(1, round(call_ms / (1000 * (time.thread_time() - began) / 20)))


def trial(path: str, workers: Optional[int], loops: int, frames: int) -> Dict[str, Any]:
    """One run, in this process: seconds of all, and of the processing once the workers were there."""
    began = time.monotonic()
    report = process(path, functools.partial(work, loops), workers=workers, overwrite=True)
    assert report.processed == frames
    return {'frames': report.processed, 'seconds': report.seconds, 'with_start_s': time.monotonic() - began,
            'results': report.results, 'cpu_s': sum(os.times()[2:4])}


def burn(path: str, loops: int, frames: int) -> Dict[str, Any]:
    """The work for so many frames in this process, nothing else. It begins when a line comes on stdin."""
    noise = _noise()
    work(1, noise, _Nothing())
    print('ready', flush=True)
    sys.stdin.readline()
    began = time.monotonic()
    for _ in range(frames):
        work(loops, noise, _Nothing())
    return {'frames': frames, 'seconds': time.monotonic() - began}


def _bare(asked: Mapping[str, Any], processes: int) -> Dict[str, Any]:
    """So many bare processes share the frames; all begin at once."""
    share = {**asked, 'frames': asked['frames'] // processes}
    running = [subprocess.Popen([sys.executable, '-m', 'benchmarks.cluster', 'burn', json.dumps(share)], cwd=REPO,
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    for one in running:
        assert one.stdout is not None and one.stdout.readline() == 'ready\n'
    told = []
    for one in running:
        assert one.stdin is not None
        one.stdin.write('\n')
        one.stdin.flush()
    for one in running:
        told.append(json.loads(one.communicate()[0].splitlines()[-1]))
    return {'frames': sum(found['frames'] for found in told), 'seconds': max(found['seconds'] for found in told)}


# ---------------------------------------------------------------------- what it comes to

def rate(series: Mapping[str, Any], kind: str, workers: Optional[int]) -> float:
    """Frames a second, median of the rounds."""
    return statistics.median(run['frames'] / run['seconds'] for run in _of(series, kind, workers))


def ratio(series: Mapping[str, Any], kind: str, workers: Optional[int], other_kind: str) -> List[float]:
    """How many times as fast as one of the other kind, least, median and most of the rounds."""
    ones = {run['round']: run['frames'] / run['seconds'] for run in _of(series, other_kind, 1)}
    ratios = [run['frames'] / run['seconds'] / ones[run['round']] for run in _of(series, kind, workers)]
    return [min(ratios), statistics.median(ratios), max(ratios)]


def _of(series: Mapping[str, Any], kind: str, workers: Optional[int]) -> List[Dict[str, Any]]:
    return [run for run in series['runs'] if run['kind'] == kind and run['workers'] == workers]


def targets(found: Mapping[str, Any]) -> List[Dict[str, Any]]:
    """The target: measure, target, measured (texts) and reached (bool)."""
    workers = found['settings']['workers']
    rows = []
    for series in found['series']:
        least, median, most = ratio(series, 'workers', workers, 'workers')
        ceiling = ratio(series, BARE, workers, BARE)[1]
        rows.append({'measure': f'process again on {workers} workers of this machine, against one, callback of '
                                f'{series["call_ms"]:g} ms', 'target': f'≥ {AIM}×', 'reached': median >= AIM,
                     'measured': f'{median:.2f}× ({least:.2f}–{most:.2f}); bare processes {ceiling:.2f}×'})
    return rows


def tables(found: Mapping[str, Any]) -> str:
    """Everything as Markdown."""
    settings = found['settings']
    workers = settings['workers']
    lines = ['### A recording processed again', '',
             f'{settings["width"]}×{settings["height"]} BGR, a callback that does a fixed piece of work on one thread '
             f'(Gaussian blurs). Medians of {settings["rounds"]} rounds; ratios within a round. Bare: the same work '
             'without a recording, without results. Seconds count from the first frame.', '',
             '| callback | who | frames/s | against one of its kind |', '|---|---|---|---|']
    names = [(ALONE, None, ALONE), ('workers', 1, '1 worker'), ('workers', workers, f'{workers} workers'),
             (BARE, 1, '1 bare process'), (BARE, workers, f'{workers} bare processes')]
    for series in found['series']:
        for kind, count, name in names:
            least, median, most = ratio(series, kind, count, BARE if kind == BARE else 'workers')
            lines.append(f'| {series["call_ms"]:g} ms, {series["frames"]:,} frames | {name} | '
                         f'{rate(series, kind, count):,.1f} | {median:.2f} ({least:.2f}–{most:.2f}) |')
    return '\n'.join([*lines, ''])


if __name__ == '__main__':
    print(json.dumps({'trial': trial, 'burn': burn}[sys.argv[1]](**json.loads(sys.argv[2]))))
