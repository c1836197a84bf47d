"""The simulated VideoCore camera of ``tests/mmal`` under the real, unmodified ``picamera`` 1.13.

::

    pytestmark = mmal_kit.needs_the_stub          # skips, with the reason, where it cannot be had

    def test_something(tmp_path):
        with mmal_kit.simulation(tmp_path, cameras=2, sensor='imx219') as sim:
            ...                                   # picamera, in this process or in children, forked or spawned
            assert sim.camera().no_buffer == 0
            lost = [frame.stc_us for frame in sim.frames() if frame.fate == 'no_buffer']

Both libraries are built once per machine and version of their source, and loaded into this process, so that
``import picamera`` finds them: dlopen takes a library whose SONAME is already there. Forked children inherit them;
spawned ones find them through LD_LIBRARY_PATH, which is set for as long as the simulation lasts.
All settings and the state file are described in ``tests/mmal/README.md``.

picamera 1.13 can be imported and used with warnings as errors on Python 3.9 to 3.13. Its own warnings remain:
PiCameraResolutionRounded, PiCameraAlphaStripping, PiCameraResizerEncoding, PiCameraDeprecated.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import functools
import hashlib
import importlib.util
import mmap
import os
import platform
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional, Union

import numpy as np
import pytest

SOURCES = Path(__file__).parent / 'mmal'
COMPILE = ('-std=c11', '-O2', '-Wall', '-Wextra', '-fPIC', '-shared', '-pthread')

#: What a state file starts with, then for each camera the fields of CameraState.
MAGIC = b'MMALSIM1'
CAMERA = struct.Struct('=6I6Qq')
CAMERAS = 2

#: Cells of the strip that spells a frame's number: light, dark, 2 for the eye, 16 for the number, parity, light.
CELLS = 22
EYES = {0: 'only', 1: 'left', 2: 'right'}


# ---- building ----

def compiler() -> Optional[str]:
    for name in (os.environ.get('CC', ''), 'cc', 'gcc', 'clang'):
        path = shutil.which(name) if name else None
        if path:
            return path
    return None


def why_not() -> str:
    """Why the stub cannot be had on this machine, and what to do; '' when it can."""
    if platform.system() != 'Linux':
        return 'the MMAL stub is for Linux'
    if compiler() is None:
        return 'no C compiler (cc, gcc or clang) to build the MMAL stub with; on Debian: apt install gcc libc6-dev'
    if importlib.util.find_spec('picamera') is None:
        return 'no picamera package; on a PC: READTHEDOCS=True pip install --no-deps picamera==1.13'
    return ''


needs_the_stub = pytest.mark.skipif(bool(why_not()), reason=why_not() or 'can be had')


@functools.cache
def libraries() -> Path:
    """The folder with libmmal.so and libbcm_host.so, built if need be."""
    sources = sorted(SOURCES.glob('*.[ch]'))
    recipe = hashlib.sha256(repr((platform.machine(), platform.libc_ver(), COMPILE)).encode())
    for source in sources:
        recipe.update(source.name.encode() + source.read_bytes())
    folder = Path(tempfile.gettempdir()) / f'ppr-mmal-stub-{os.getuid()}-{recipe.hexdigest()[:16]}'
    if not folder.is_dir():
        with tempfile.TemporaryDirectory() as workshop:
            build(Path(workshop))
            put_in_place(Path(workshop), folder)
    return folder


def build(folder: Path) -> None:
    bcm_host = SOURCES / 'bcm_host.c'
    mmal = sorted(set(SOURCES.glob('*.c')) - {bcm_host})
    for name, sources in (('libbcm_host.so', [bcm_host]), ('libmmal.so', mmal)):
        command = [compiler(), *COMPILE, f'-Wl,-soname,{name}', '-o', str(folder / name), *map(str, sources)]
        subprocess.run(command, check=True)


def put_in_place(workshop: Path, folder: Path) -> None:
    """In one step: another test process may be building the same at this moment."""
    finished = Path(tempfile.mkdtemp(dir=folder.parent, prefix=folder.name))
    for library in workshop.iterdir():
        shutil.copy2(library, finished)
    try:
        finished.rename(folder)
    except OSError:
        shutil.rmtree(finished)
        if not folder.is_dir():
            raise


@functools.cache
def load() -> None:
    """Load both libraries into this process, ahead of ``import picamera``."""
    for name in ('libbcm_host.so', 'libmmal.so'):
        ctypes.CDLL(str(libraries() / name))


def environment() -> Dict[str, str]:
    """What a new process needs to find the libraries."""
    paths = [str(libraries()), *filter(None, [os.environ.get('LD_LIBRARY_PATH')])]
    return {'LD_LIBRARY_PATH': os.pathsep.join(paths)}


# ---- a running simulation ----

class CameraState(NamedTuple):
    """One camera's part of the state file. The first three are the test's to write, the others the camera's."""

    stall: int                 # the sensor sends nothing
    unplug: int                # the sensor is gone for good; the firmware reports an error after a second
    swallow_every: int         # every n-th frame is lost between sensor and firmware
    reserved: int
    holder_pid: int            # who has the camera; 0: nobody
    rate_mhz: int              # the sensor's rate in fact, in mHz
    made: int                  # frames that the sensor made, since the state file exists
    offered: int               # to the client's port, once recording; each ends up in one of the next four
    delivered: int             # handed to the client's callback
    no_buffer: int             # discarded because the client had not brought back a buffer
    swallowed: int             # by swallow_every; they are not among those offered
    flushed: int               # on their way when the client closed its port
    last_stc_us: int           # start of the last frame made, on the camera's own clock


class LoggedFrame(NamedTuple):
    camera: int
    number: int                # as in the picture (there modulo 65536)
    stc_us: int                # start of the frame; with clock_mode='raw' exactly its timestamp
    port: str
    fate: str                  # 'delivered', 'no_buffer', 'swallowed', 'flushed'


class Simulation:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state_file = folder / 'state'
        self.log_file = folder / 'frames.csv'
        self.state_file.write_bytes(MAGIC + bytes(CAMERA.size * CAMERAS))

    def camera(self, number: int = 0) -> CameraState:
        data = self.state_file.read_bytes()
        assert data[:len(MAGIC)] == MAGIC
        return CameraState(*CAMERA.unpack_from(data, len(MAGIC) + CAMERA.size * number))

    def frames(self, number: int = 0) -> List[LoggedFrame]:
        """The frames whose fate is decided, in the order of their making."""
        rows = (line.split(',') for line in self.log_file.read_text().splitlines()) if self.log_file.exists() else ()
        frames = [LoggedFrame(int(row[0]), int(row[1]), int(row[2]), row[3], row[4]) for row in rows]
        return sorted(frame for frame in frames if frame.camera == number)

    def stall(self, on: bool = True, number: int = 0) -> None:
        self._write('stall', on, number)

    def unplug(self, number: int = 0) -> None:
        self._write('unplug', 1, number)

    def swallow_every(self, n: int, number: int = 0) -> None:
        self._write('swallow_every', n, number)

    @contextlib.contextmanager
    def held_by_another(self, number: int = 0) -> Iterator[None]:
        """As though another process had the camera, until the end of the block."""
        with open(self.folder / f'camera{number}.lock', 'w') as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _write(self, field: str, value: int, number: int) -> None:
        place = len(MAGIC) + CAMERA.size * number + 4 * CameraState._fields.index(field)
        with open(self.state_file, 'r+b') as file, mmap.mmap(file.fileno(), 0) as state:
            struct.pack_into('=I', state, place, value)


@contextlib.contextmanager
def simulation(folder: Path, **settings: Union[int, str, None]) -> Iterator[Simulation]:
    """Let picamera see simulated cameras, in this process and its children, until the end of the block.

    settings: ``cameras=2`` becomes MMALSIM_CAMERAS=2, and so on; see the README. None is left out.
    """
    load()
    here = Path(tempfile.mkdtemp(prefix='mmal-', dir=folder))
    wanted = {f'MMALSIM_{name.upper()}': str(value) for name, value in settings.items() if value is not None}
    before = {name: value for name, value in os.environ.items() if name.startswith('MMALSIM_')}
    library_path = os.environ.get('LD_LIBRARY_PATH')
    for name in before:
        del os.environ[name]
    os.environ.update({**wanted, **environment(), 'MMALSIM_DIR': str(here)})
    forget_sensor()
    try:
        yield Simulation(here)
    finally:
        for name in [name for name in os.environ if name.startswith('MMALSIM_')]:
            del os.environ[name]
        os.environ.update(before)
        if library_path is None:
            del os.environ['LD_LIBRARY_PATH']
        else:
            os.environ['LD_LIBRARY_PATH'] = library_path
        forget_sensor()


def forget_sensor() -> None:
    """picamera keeps the first sensor's limits for as long as the process lives; the next may be another."""
    package = sys.modules.get('picamera.camera')
    if package is not None:
        package.PiCamera.MAX_RESOLUTION = package.PiCameraMaxResolution
        package.PiCamera.MAX_FRAMERATE = package.PiCameraMaxFramerate


# ---- reading pictures ----

def luma(image: np.ndarray) -> np.ndarray:
    return image[..., :3].astype(float).mean(axis=-1) if image.ndim == 3 else image.astype(float)


def read_strip(rows: np.ndarray) -> int:
    """The 18 bits (eye, number) that these rows spell. Raises ValueError where they spell nothing."""
    centres = ((np.arange(CELLS) + 0.5) * rows.shape[1] / CELLS).astype(int)
    light = rows[:, centres] > (float(rows.max()) + float(rows.min())) / 2
    if (light != light[0]).any():
        raise ValueError('the rows of a strip differ: the frame is torn, or this is not one eye of a frame')
    bits = light[0].astype(int)
    payload = int(''.join(map(str, bits[2:20])), 2)
    if not (bits[0] == 1 and bits[1] == 0 and bits[21] == 1 and bits[20] == bin(payload).count('1') % 2):
        raise ValueError(f'not a strip: {"".join(map(str, bits))}')
    return payload


def strip_of(image: np.ndarray) -> int:
    """The strip of one eye's image, the same along its first and its last rows, or the frame is torn."""
    gray = luma(image)
    edge = max(1, gray.shape[0] // 24)
    top, bottom = read_strip(gray[:edge]), read_strip(gray[-edge:])
    if top != bottom:
        raise ValueError(f'torn frame: number {top & 0xffff} above, {bottom & 0xffff} below')
    return top


def number_of(image: np.ndarray) -> int:
    """The number (modulo 65536) of the frame that this image of one eye shows; BGR, RGB, with alpha, or gray.

    Raises ValueError when the image is torn. With stereo, pass one half.
    """
    return strip_of(image) & 0xffff


def eye_of(image: np.ndarray) -> str:
    """'only', 'left' or 'right': whose image this is."""
    return EYES[strip_of(image) >> 16]


class Field(NamedTuple):
    """Which part of the sensor's field of view an image shows at its four edges, as fractions (0 left, 0 top).

    left > right: it is mirrored.
    """

    left: float
    top: float
    right: float
    bottom: float


def field_of(image: np.ndarray, order: str = 'bgr') -> Field:
    """From the colours of one eye's image, taken with neutral brightness and contrast and rotation 0 or 180."""
    height, width = image.shape[:2]
    row, column = int(height * 0.8), int(width * 0.95)
    red = (image[row, :, order.index('r')].astype(float) - 32) / 192
    green = (image[:, column, order.index('g')].astype(float) - 32) / 192
    x = np.polyval(np.polyfit((np.arange(width) + 0.5) / width, red, 1), (0, 1))
    inner = slice(height // 8, -(height // 8))
    y = np.polyval(np.polyfit(((np.arange(height) + 0.5) / height)[inner], green[inner], 1), (0, 1))
    return Field(x[0], y[0], x[1], y[1])
