"""What the tests of the simulated camera do with picamera itself."""

from __future__ import annotations

import contextlib
import threading
import time
import warnings
from pathlib import Path
from typing import Any, Callable, Iterator, List, NamedTuple, Optional, Tuple

import mmal_kit
import numpy as np
from mmal_kit import Simulation

PATIENCE_S = 30.0
Sim = Callable[..., Simulation]


@contextlib.contextmanager
def simulations(folder: Path) -> Iterator[Sim]:
    """A function that starts a simulation with the given settings, until the end of the block."""
    with contextlib.ExitStack() as stack:
        yield lambda **settings: stack.enter_context(mmal_kit.simulation(folder, **settings))


class Frame(NamedTuple):
    timestamp: Optional[int]
    data: bytes
    complete: bool


class Output:
    """Keeps what a raw recording brings."""

    def __init__(self, camera: Any, slowness_s: float = 0.0) -> None:
        self.camera, self.slowness_s = camera, slowness_s
        self.frames: List[Frame] = []
        self.grew = threading.Condition()

    def write(self, data: bytes) -> int:
        time.sleep(self.slowness_s)
        with self.grew:
            self.frames.append(Frame(self.camera.frame.timestamp, data, self.camera.frame.complete))
            self.grew.notify_all()
        return len(data)

    def wait_for(self, count: int) -> None:
        with self.grew:
            assert self.grew.wait_for(lambda: len(self.frames) >= count, PATIENCE_S), f'{len(self.frames)} of {count}'


def open_camera(resolution: Tuple[int, int] = (320, 240), framerate: Optional[float] = 60, **options: Any) -> Any:
    import picamera
    return picamera.PiCamera(resolution=resolution, framerate=framerate, **{'clock_mode': 'raw', **options})


def record(camera: Any, count: int, format: str = 'bgr', resize: Any = None, slowness_s: float = 0.0) -> List[Frame]:
    output = Output(camera, slowness_s)
    with warnings.catch_warnings():
        # picamera says so whenever it pads or strips; what comes of it is what these tests look at.
        warnings.simplefilter('ignore', category=RuntimeWarning)
        camera.start_recording(output, format=format, resize=resize)
    output.wait_for(count)
    camera.stop_recording()
    return output.frames


def as_image(data: bytes, width: int, height: int, stride: int, rows: int, channels: int) -> np.ndarray:
    shape = (rows, stride) if channels == 1 else (rows, stride, channels)
    assert len(data) >= np.prod(shape)
    return np.frombuffer(data, np.uint8, int(np.prod(shape))).reshape(shape)[:height, :width]


def one_image(camera: Any, format: str = 'bgr') -> np.ndarray:
    """The next frame that the camera begins from now on, whose size is a multiple of 32x16."""
    width, height = camera.resolution
    stale = 3                       # a change of a setting shows in frames that are not under way yet
    return as_image(record(camera, stale, format)[-1].data, width, height, width, height, 3)
