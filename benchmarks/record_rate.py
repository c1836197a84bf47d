"""Frames a second through the recorder, against the bare codec on the same frames and cores.

Contenders take turns for several rounds; the table shows medians and their ratio to the bare codec of the same run.
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
from typing import Any, Callable, Dict, List

import numpy as np

from ProcessedPiRecorder import ProcessedPiRecorder
from ProcessedPiRecorder.cameras import CameraRequest, SyntheticCamera
from ProcessedPiRecorder.recordings.encoder import PageEncoder

DISTINCT_FRAMES = 32


def pass_through(buffer: Any, cb_queue: Any) -> np.ndarray:
    """The cheapest callback that returns a frame."""
    return buffer[-1]


def frames_of(width: int, height: int, pixel_format: str) -> List[np.ndarray]:
    """Camera-like frames: gradient, shapes, noise."""
    camera = SyntheticCamera()
    camera.configure(CameraRequest(width, height, pixel_format=pixel_format, framerate=1000))
    return [camera.frame(index) for index in range(DISTINCT_FRAMES)]


def bare_codec(frames: List[np.ndarray], count: int, effort: str) -> float:
    """Frames/s of predictor and Deflate alone, on all cores, nothing written."""
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
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return count / (time.perf_counter() - begun)


def recorder(folder: Path, width: int, height: int, pixel_format: str, count: int, level: int,
             cb_type: Any) -> float:
    """Frames/s of a whole recording, from the first frame to the last on disk; verified complete."""
    path = folder / 'bench.tif'
    rec = ProcessedPiRecorder(path, width, height, 1, 1000, display=False, camera='synthetic', tif_compression=level,
                              pixel_format=pixel_format, callback=pass_through if cb_type else None, cb_type=cb_type,
                              ring_frames=64, camera_controls={'pace': False, 'frames': count})
    begun = time.perf_counter()
    report = rec.recordVid()
    seconds = time.perf_counter() - begun
    assert report is not None and report.complete == 'yes' and report.written == count
    path.unlink()
    return count / seconds


def measure(args: argparse.Namespace, pixel_format: str, folder: Path) -> Dict[str, List[float]]:
    """All contenders in turn, several rounds."""
    width, height = args.width, args.height
    frames = frames_of(width, height, pixel_format)
    contenders: Dict[str, Callable[[], float]] = {
        'bare codec (Huffman)': lambda: bare_codec(frames, args.frames, 'huffman'),
        'recorder, no callback': lambda: recorder(folder, width, height, pixel_format, args.frames, 6, None),
        "recorder, '2Proc'": lambda: recorder(folder, width, height, pixel_format, args.frames, 6, '2Proc'),
        "recorder, '3Proc'": lambda: recorder(folder, width, height, pixel_format, args.frames, 6, '3Proc'),
        "recorder, '3Proc', uncompressed": lambda: recorder(folder, width, height, pixel_format, args.frames, 0,
                                                             '3Proc'),
    }
    found: Dict[str, List[float]] = {name: [] for name in contenders}
    for _ in range(args.rounds):
        for name, run in contenders.items():
            found[name].append(run())
    return found


def main() -> int:
    """Print a table; with --json also store the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--width', type=int, default=1280)
    parser.add_argument('--height', type=int, default=480)
    parser.add_argument('--frames', type=int, default=600)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--json', type=Path)
    args = parser.parse_args()
    print(f'{platform.machine()}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}, '
          f'{args.width}x{args.height}, {args.frames} frames, median of {args.rounds} rounds\n')
    print('| frames | contender | frames/s | of the bare codec |\n|---|---|---|---|')
    stored: Dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir='.') as folder:
        for pixel_format in ('gray', 'bgr'):
            found = measure(args, pixel_format, Path(folder))
            stored[pixel_format] = found
            limit = statistics.median(found['bare codec (Huffman)'])
            for name, rates in found.items():
                rate = statistics.median(rates)
                print(f'| {pixel_format} | {name} | {rate:.0f} | {rate / limit:.2f} |')
    if args.json:
        args.json.write_text(json.dumps(stored, indent=1))
    return 0


if __name__ == '__main__':
    sys.exit(main())
