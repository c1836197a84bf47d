"""Single measurements of ``live``, each made in a fresh process: ``python -m benchmarks.live_trials NAME '{JSON}'``.

What a trial found is the last line that it prints, as JSON. A fresh process, so that nothing leaks from one trial into
the next, and so that it has one thread when it forks.
"""

from __future__ import annotations

import gc
import json
import mmap
import multiprocessing
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Dict, List

import numpy as np

from ProcessedPiRecorder import ProcessedPiRecorder
from ProcessedPiRecorder.recordings.reader import RecordingFile

from .machine import tree_cpu_s, tree_memory

__all__ = ['PACED', 'answer_of', 'in_fresh_process', 'memory', 'paced', 'starts']

REPO = Path(__file__).resolve().parent.parent

#: What takes part at a camera's pace, and what it is.
PACED = {
    'recorder': "this recorder, '3Proc', pass-through, compressed to disk",
    'recorder, uncompressed': "this recorder, '3Proc', pass-through, tif_compression=0, to disk",
    'pickled queue': 'camera process → multiprocessing.Queue → consumer asleep in get(); nothing compressed or written',
    'original': 'the same queue to a consumer that spins, and on to a writer that spins: uncompressed by tifffile',
}


def in_fresh_process(name: str, **options: Any) -> Dict[str, Any]:
    """Run the trial of that name there; what it found. Raises RuntimeError with what it said when it fails."""
    return answer_of('benchmarks.live_trials', name, json.dumps(options))


def answer_of(module: str, *arguments: str) -> Dict[str, Any]:
    """What the module prints last, as JSON, when it is run with these arguments. Blocks. Raises RuntimeError."""
    done = subprocess.run([sys.executable, '-m', module, *arguments], cwd=REPO, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f'{module} {" ".join(arguments)} failed with exit code {done.returncode}:\n{done.stderr}')
    found: Dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


class TimedPassThrough:
    """A callback that notes when it was called with each frame, in memory shared with its maker, and returns the frame.
    """

    def __init__(self, count: int) -> None:
        self.called_ns = np.frombuffer(mmap.mmap(-1, 8 * count), np.int64)

    def __call__(self, buffer: Any, cb_queue: Any) -> np.ndarray:
        now_ns = time.monotonic_ns()
        frame = buffer[-1]
        self.called_ns[frame.index] = now_ns
        return frame


def pass_through(buffer: Any, cb_queue: Any) -> np.ndarray:
    """The cheapest callback that returns a frame."""
    return buffer[-1]


def _cpu_s() -> float:
    """Processor time of this process and all that it has buried, s."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


# ---------------------------------------------------------------- at a camera's pace

class SteadyCpu:
    """A process that looks at this one and all that it starts, at frame ``first`` and at the last; else it sleeps.

    seconds: CPU of all processes between the two, its own left out; 0 where the last frame never came.
    """

    def __init__(self, ready_ns: np.ndarray, first: int) -> None:
        self._found = np.frombuffer(mmap.mmap(-1, 8), np.float64)
        self._process = multiprocessing.get_context('fork').Process(target=self._watch, args=(ready_ns, first))

    def __enter__(self) -> SteadyCpu:
        self._process.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.join(1)
        if self._process.exitcode is None:
            self._process.terminate()
            self._process.join()

    @property
    def seconds(self) -> float:
        return float(self._found[0])

    def _watch(self, ready_ns: np.ndarray, first: int) -> None:
        seen = []
        for index in (first, len(ready_ns) - 1):
            while not ready_ns[index]:
                time.sleep(0.02)
            seen.append(tree_cpu_s(os.getppid()) - time.process_time())
        self._found[0] = seen[1] - seen[0]


def paced(contender: str, frames: str, folder: str, count: int, framerate: float, warm_up: int) -> Dict[str, Any]:
    """One of PACED with the frames of an .npy file: each frame's latency from ready to callback, µs (None: the callback
    did not get it), and the CPU of all processes a frame: after the warm-up, and of the whole run with start and end.
    """
    images = list(np.load(frames))
    path = Path(folder) / 'paced.tif'
    path.unlink(missing_ok=True)
    gc.collect()
    os.sync()
    cpu_s = _cpu_s()
    if contender.startswith('recorder'):
        found = _paced_recorder(images, path, count, framerate, warm_up, 0 if 'uncompressed' in contender else 6)
    else:
        found = _paced_queue(images, path, count, framerate, warm_up, contender == 'original')
    found['cpu_ms_a_frame'] = 1000 * found.pop('steady_cpu_s') / (count - 1 - warm_up)
    found['cpu_ms_a_frame_whole'] = 1000 * (_cpu_s() - cpu_s) / count
    path.unlink(missing_ok=True)
    return found


def _paced_recorder(images: List[np.ndarray], path: Path, count: int, framerate: float, warm_up: int,
                    level: int) -> Dict[str, Any]:
    from .frames import PreloadedCamera
    camera, callback = PreloadedCamera(images, count, framerate), TimedPassThrough(count)
    height, width = images[0].shape[:2]
    recorder = ProcessedPiRecorder(path, width, height, 1, framerate, display=False, camera=camera, callback=callback,
                                   cb_type='3Proc', tif_compression=level,
                                   pixel_format='gray' if images[0].ndim == 2 else 'bgr')
    with SteadyCpu(camera.ready_ns, warm_up) as cpu:
        report = recorder.recordVid()
    assert report is not None
    return {**_latencies(camera.ready_ns, callback.called_ns), 'steady_cpu_s': cpu.seconds, 'lost': report.lost,
            'bypassed': report.bypassed, 'complete': report.complete, 'effort': report.effort,
            'told_ms': report.latency_ms, 'file_bytes': report.file_bytes}


def _paced_queue(images: List[np.ndarray], path: Path, count: int, framerate: float, warm_up: int,
                 spin: bool) -> Dict[str, Any]:
    from .pickled import PacedRun, run_paced
    times = PacedRun.shared(count)
    with SteadyCpu(times.ready_ns, warm_up) as cpu:
        run_paced(images, times, framerate, path if spin else None, spin)
    return {**_latencies(times.ready_ns, times.called_ns), 'steady_cpu_s': cpu.seconds,
            'lost': int((times.called_ns == 0).sum()), 'file_bytes': path.stat().st_size if spin else 0}


def _latencies(ready_ns: np.ndarray, called_ns: np.ndarray) -> Dict[str, Any]:
    return {'latency_us': [round((called - ready) / 1000, 1) if called else None
                           for ready, called in zip(ready_ns.tolist(), called_ns.tolist())]}


# ---------------------------------------------------------------- memory

def memory(folder: str, width: int, height: int, framerate: float, seconds: float) -> Dict[str, Any]:
    """PSS of all processes in mid-recording, this script's included; bytes. ``shmem``: the ring's part of it, as far as
    it has been touched.
    """
    path = Path(folder) / 'memory.tif'
    path.unlink(missing_ok=True)
    recorder = ProcessedPiRecorder(path, width, height, 1, framerate, seconds, display=False, camera='synthetic',
                                   callback=pass_through, cb_type='3Proc', blocking=False)
    recorder.recordVid()
    halfway = threading.Event()
    halfway.wait(seconds / 2)
    taken, status = tree_memory(os.getpid()), recorder.status()
    report = recorder.wait()
    assert report is not None
    path.unlink()
    return {'pss': taken.pss, 'shmem': taken.shmem, 'beyond_ring': taken.pss - taken.shmem, 'written': status.written,
            'ring_frames': status.ring_frames, 'complete': report.complete}


# ---------------------------------------------------------------- start

def starts(folder: str, width: int, height: int, framerate: float, count: int) -> Dict[str, Any]:
    """Seconds from the call of recordVid() to the arrival of the first frame; the first start of the process and then
    ``count`` more. The synthetic camera's first frame takes one period, like a real one's."""
    path = Path(folder) / 'start.tif'
    found = []
    for _ in range(1 + count):
        path.unlink(missing_ok=True)
        recorder = ProcessedPiRecorder(path, width, height, 1, framerate, 12 / framerate, display=False,
                                       camera='synthetic', callback=pass_through, cb_type='3Proc')
        begun_ns = time.monotonic_ns()
        recorder.recordVid()
        with RecordingFile(path) as recording:
            found.append((recording.page_record(0).host_ns - begun_ns) / 1e9)
    path.unlink()
    return {'cold_s': found[0], 'warm_s': found[1:]}


def main() -> int:
    """Run the trial that is named, and print what it found."""
    trials = {'paced': paced, 'memory': memory, 'starts': starts}
    print(json.dumps(trials[sys.argv[1]](**json.loads(sys.argv[2]))))
    return 0


if __name__ == '__main__':
    sys.exit(main())
