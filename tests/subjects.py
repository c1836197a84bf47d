"""Every kind of camera behind one face: how to make it, what its pictures say, how it fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, Optional, Tuple

import numpy as np
from camera_kit import SIZE, make_video, number_of
from test_cameras_files import make_recording
from test_cameras_live import FileWebcam, MjpegServer

from ProcessedPiRecorder.cameras import (
    Camera,
    CameraRequest,
    ReplayCamera,
    StereoPair,
    StreamCamera,
    SyntheticCamera,
    VideoFileCamera,
)

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
}
