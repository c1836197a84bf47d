"""What the camera tests share: a sink that keeps everything, and videos whose every frame says which one it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any, List, Optional, Tuple

import numpy as np

from ProcessedPiRecorder.cameras import Camera, CameraRequest, FrameSink, Granted, Stamp

BITS = 10
BLOCK = 32      # pixels: far beyond what lossy codecs blur
SIZE = (BITS * BLOCK, 96)


class ListSink(FrameSink):
    """Keeps frames, stamps and reported losses; stops after ``limit`` frames."""

    def __init__(self, granted: Granted, limit: Optional[int] = None) -> None:
        self.granted, self.limit = granted, limit
        self.frames: List[np.ndarray] = []
        self.stamps: List[Stamp] = []
        self.losses: List[Tuple[int, str, str]] = []

    def slot(self) -> np.ndarray:
        self.filling = np.full(self.granted.frame_shape, 77, np.uint8)
        return self.filling

    def commit(self, stamp: Stamp) -> None:
        self.frames.append(self.filling)
        self.stamps.append(stamp)
        self.stopping = self.limit is not None and len(self.frames) >= self.limit

    def lost(self, count: int, reason: str, sensor_ns: Optional[int] = None, detail: str = '') -> None:
        self.losses.append((count, reason, detail))


def run(camera: Camera, limit: Optional[int] = None, **asked: Any) -> ListSink:
    """Open, stream to the end (or ``limit``), close."""
    sink = ListSink(camera.open(CameraRequest(**asked)), limit)
    try:
        camera.start()
        camera.stream(sink)
    finally:
        camera.close()
    return sink


def picture(number: int) -> np.ndarray:
    """The number in black and white blocks, over a textured half that gives a codec something to do."""
    image = np.full((SIZE[1], SIZE[0], 3), 128, np.uint8)
    for bit in range(BITS):
        image[:48, bit * BLOCK:(bit + 1) * BLOCK] = 255 * (number >> (BITS - 1 - bit) & 1)
    image[48:] = np.random.default_rng(number).integers(90, 160, (48, SIZE[0], 3), np.uint8)
    return image


def number_of(image: np.ndarray) -> int:
    """The number that a decoded picture shows."""
    gray = image if image.ndim == 2 else image.mean(axis=2)
    return int(''.join('1' if gray[8:40, bit * BLOCK + 8:(bit + 1) * BLOCK - 8].mean() > 127 else '0'
                       for bit in range(BITS)), 2)


def make_video(path: Path, frames: int = 30, fps: float = 25.0, fourcc: str = 'MJPG') -> Path:
    """A video of numbered pictures."""
    import cv2
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*fourcc), fps, SIZE)
    assert writer.isOpened()
    for number in range(frames):
        writer.write(picture(number))
    writer.release()
    return path
