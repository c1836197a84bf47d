"""Every kind of camera behind one face: how to make it, what its pictures say, how it fails."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Optional, Tuple

import mmal_kit
import numpy as np
import picamera2_kit
from camera_kit import SIZE, make_video, number_of
from test_cameras_files import make_recording
from test_cameras_live import FileWebcam, MjpegServer

from ProcessedPiRecorder import left, right
from ProcessedPiRecorder.cameras import (
    Camera,
    CameraRequest,
    FrameSink,
    Picamera2Camera,
    PicameraCamera,
    ReplayCamera,
    StereoPair,
    StreamCamera,
    SyntheticCamera,
    VideoFileCamera,
)
from ProcessedPiRecorder.cameras.base import Stamp

FRAMES = 40               # what each film, replay and stream holds
FPS = 25.0


class Subject:
    """One kind of camera under test."""

    size: Tuple[int, int] = SIZE
    framerate: float = FPS
    stereo = False
    #: After so many frames the source ends; None: never.
    frames: Optional[int] = None
    #: Whether it waits for a slow consumer; whether it shows what it lost (loss_detection other than 'none').
    waits, shows_losses = False, True
    #: Whether it has gray frames too; whether it makes pictures of any size.
    gray, any_size = True, False
    #: How the recorder's processes are started; None: as by default.
    start_method: Optional[str] = None
    controls: Dict[str, Any] = {}

    #: Why it cannot be had on this machine; '' when it can.
    why_not = ''

    @contextlib.contextmanager
    def at_hand(self, folder: Path) -> Iterator[None]:
        """The hardware is there for as long as one test lasts; it may keep files in the folder."""
        yield

    def make(self) -> Camera:
        """A camera, not yet opened."""
        raise NotImplementedError

    def number(self, image: np.ndarray) -> int:
        """Which of the sensor's frames this picture is. ValueError: a torn one."""
        return number_of(image)

    def request(self, **asked: Any) -> CameraRequest:
        """What the tests ask of it."""
        return CameraRequest(*self.size, framerate=self.framerate, stereo=self.stereo,
                             **{'controls': self.controls, **asked})

    def stalling(self) -> Optional[Camera]:
        """A camera that falls silent after a while; None: this kind cannot be made to."""
        return None

    def breaking(self) -> Optional[Camera]:
        """A camera that breaks off after a while with an error; None: this kind cannot be made to."""
        return None

    def discarded(self) -> Optional[int]:
        """How many frames the hardware says it threw away since ``make``; None: it does not say."""
        return None

    def close(self) -> None:
        """After the last test with it."""


class Synthetic(Subject):
    size, framerate, any_size = (160, 96), 50.0, True
    options: Dict[str, Any] = {}

    def make(self, **more: Any) -> Camera:
        return SyntheticCamera(**{**self.options, **more})

    def number(self, image: np.ndarray) -> int:
        return SyntheticCamera.index_of(image, self.stereo)

    def stalling(self) -> Optional[Camera]:
        return self.make(stall_at=20, stall_s=60.0)

    def breaking(self) -> Camera:
        return self.make(raise_at=20)


class SyntheticFast(Synthetic):
    waits, frames, options = True, FRAMES, {'pace': False, 'frames': FRAMES}

    def stalling(self) -> None:         # a source that waits may take its time
        return None


class SyntheticStereo(Synthetic):
    stereo, size = True, (320, 96)


class Pair(Synthetic):
    stereo, size = True, (320, 96)

    def make(self, **more: Any) -> Camera:
        return StereoPair(SyntheticCamera(**more), SyntheticCamera(seed=1, **more))


class Webcam(Subject):
    """The webcam class; a film in the place of its device."""

    shows_losses, gray, frames = False, False, FRAMES - 2      # two go into the probe

    def __init__(self, film: Path) -> None:
        self.film = film

    def make(self) -> Camera:
        return FileWebcam(self.film, refuses={'FRAME_WIDTH': SIZE[0], 'FRAME_HEIGHT': SIZE[1]})

    def breaking(self) -> Camera:
        return self.make()              # at its film's end: a webcam does not end, it breaks


class Stream(Subject):
    shows_losses, gray, frames, framerate = False, False, FRAMES, 0.0

    def __init__(self) -> None:
        self.server = MjpegServer(frames=FRAMES)
        self.server.__enter__()

    def make(self) -> Camera:
        return StreamCamera(self.server.url)

    def close(self) -> None:
        self.server.__exit__(None, None, None)


class Film(Subject):
    waits, frames = True, FRAMES
    pace = 'own'

    def __init__(self, film: Path) -> None:
        self.film = film

    def make(self) -> Camera:
        return VideoFileCamera(self.film, self.pace)


class FilmFast(Film):
    pace = 'fastest'


class PairOfFilms(Film):
    stereo, size = True, (2 * SIZE[0], SIZE[1])

    def make(self) -> Camera:
        return StereoPair(VideoFileCamera(self.film, 'fastest'), VideoFileCamera(self.film, 'fastest'))

    def number(self, image: np.ndarray) -> int:
        eyes = number_of(image[:, :SIZE[0]]), number_of(image[:, SIZE[0]:])
        if eyes[0] != eyes[1]:
            raise ValueError(f'eyes of different frames: {eyes}')
        return eyes[0]


class Replay(Subject):
    waits, frames, gray, framerate = True, FRAMES, False, 0.0

    def __init__(self, recording: Path) -> None:
        self.recording = recording

    def make(self) -> Camera:
        return ReplayCamera(self.recording)


class At(FrameSink):
    """Passes everything on, and does something when the n-th frame has come."""

    def __init__(self, sink: FrameSink, frame: int, action: Callable[[], None]) -> None:
        self.sink, self.left, self.action = sink, frame, action
        self.slot, self.lost, self.when_stopping = sink.slot, sink.lost, sink.when_stopping    # type: ignore

    @property
    def stopping(self) -> bool:         # type: ignore[override]
        return self.sink.stopping

    def commit(self, stamp: Stamp) -> None:
        self.sink.commit(stamp)
        self.left -= 1
        if self.left == 0:
            self.action()


class Failing(PicameraCamera):
    """Does something to the simulated hardware in mid-recording."""

    def __init__(self, action: Callable[[], None]) -> None:
        super().__init__(0)
        self.action = action

    def stream(self, sink: FrameSink) -> None:
        super().stream(At(sink, 20, self.action))


class Picamera(Subject):
    """The real package picamera over the simulated firmware."""

    size, framerate, controls = (320, 96), 50.0, {'warm_up_s': 0.2}
    why_not = mmal_kit.why_not()
    modules = 1

    @contextlib.contextmanager
    def at_hand(self, folder: Path) -> Iterator[None]:
        with mmal_kit.simulation(folder, cameras=self.modules, sensor='imx219') as self.hardware:
            yield

    def make(self) -> Camera:
        return PicameraCamera(0)

    def number(self, image: np.ndarray) -> int:
        assert mmal_kit.eye_of(image) == 'only'
        return mmal_kit.number_of(image)

    def stalling(self) -> Optional[Camera]:
        return Failing(self.hardware.stall)

    def breaking(self) -> Optional[Camera]:
        return Failing(self.hardware.unplug)

    def discarded(self) -> Optional[int]:
        return self.hardware.camera().no_buffer


class PicameraStereo(Picamera):
    """A StereoPi."""

    stereo, size, modules = True, (640, 96), 2

    def number(self, image: np.ndarray) -> int:
        eyes = left(image), right(image)
        numbers = [mmal_kit.number_of(eye) for eye in eyes]
        assert [mmal_kit.eye_of(eye) for eye in eyes] == ['left', 'right']
        if numbers[0] != numbers[1]:
            raise ValueError(f'eyes of different frames: {numbers}')
        return numbers[0]


class PicameraPair(Picamera):
    """Two modules on a Compute Module, each a camera of its own."""

    stereo, size, modules = True, (640, 96), 2

    def make(self) -> Camera:
        return StereoPair(PicameraCamera(0), PicameraCamera(1))

    def number(self, image: np.ndarray) -> int:
        numbers = [mmal_kit.number_of(eye) for eye in (left(image), right(image))]
        return numbers[0]               # free-running: the numbers of the other are its own

    def stalling(self) -> Optional[Camera]:
        return StereoPair(Failing(self.hardware.stall), PicameraCamera(1))       # one eye is enough

    def breaking(self) -> Optional[Camera]:
        return StereoPair(Failing(self.hardware.unplug), PicameraCamera(1))

    def discarded(self) -> Optional[int]:
        return None


class Picamera2(Subject):
    """The real package picamera2 over real libcamera and simulated sensors."""

    size, framerate, controls = (320, 240), 30.0, {'warm_up_s': 0.2}
    why_not = picamera2_kit.why_not()

    @contextlib.contextmanager
    def at_hand(self, folder: Path) -> Iterator[None]:
        with picamera2_kit.bench(folder) as self.bench:
            yield

    def make(self) -> Camera:
        return Picamera2Camera(0)

    def number(self, image: np.ndarray) -> int:
        camera, number = picamera2_kit.seen(image)
        assert camera == 0
        return number

    def stalling(self) -> Optional[Camera]:
        self.bench.set_faults(0, stall_from=40)
        return self.make()

    def breaking(self) -> Optional[Camera]:
        self.bench.set_faults(0, disconnect_at=40)
        return self.make()

    def discarded(self) -> Optional[int]:
        return len(self.bench.runs(0)[-1].fates('starved'))


class Picamera2Pair(Picamera2):
    stereo, size = True, (640, 240)

    def make(self) -> Camera:
        return StereoPair(Picamera2Camera(0), Picamera2Camera(1))

    def number(self, image: np.ndarray) -> int:
        eyes = picamera2_kit.seen(left(image)), picamera2_kit.seen(right(image))
        assert [eye.camera for eye in eyes] == [0, 1]
        return eyes[0].number           # free-running: the numbers of the other are its own

    def discarded(self) -> Optional[int]:
        return None                     # what one eye lost the other one has, unpaired


def film(folder: Path) -> Path:
    """A film of numbered pictures; made once a folder."""
    path = folder / 'film.avi'
    return path if path.exists() else make_video(path, frames=FRAMES, fps=FPS)


def recording(folder: Path) -> Path:
    """A recording of the same; made once a folder."""
    path = folder / 'trial.tif'
    return path if path.exists() else make_recording(path, range(FRAMES))


#: Every kind that needs nothing special of the machine; each is made in a folder where it may keep files.
SUBJECTS: Dict[str, Callable[[Path], Subject]] = {
    'synthetic': lambda folder: Synthetic(),
    'synthetic-fast': lambda folder: SyntheticFast(),
    'synthetic-stereo': lambda folder: SyntheticStereo(),
    'pair': lambda folder: Pair(),
    'webcam': lambda folder: Webcam(film(folder)),
    'stream': lambda folder: Stream(),
    'file': lambda folder: Film(film(folder)),
    'file-fastest': lambda folder: FilmFast(film(folder)),
    'pair-of-files': lambda folder: PairOfFilms(film(folder)),
    'replay': lambda folder: Replay(recording(folder)),
    'picamera': lambda folder: Picamera(),
    'picamera-stereo': lambda folder: PicameraStereo(),
    'picamera-pair': lambda folder: PicameraPair(),
    'picamera2': lambda folder: Picamera2(),
    'picamera2-pair': lambda folder: Picamera2Pair(),
}
