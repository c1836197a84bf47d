"""picamera2 and libcamera as this machine has them: loading them, finding the cameras, saying what went wrong.

Only to be used where no process will be forked afterwards: libcamera starts threads.
"""

from __future__ import annotations

import inspect
import logging
import os
from contextlib import contextmanager
from importlib import import_module, metadata
from typing import Any, Dict, Iterator, List, NamedTuple, Optional

from ...errors import CameraError, CameraNotFoundError
from ..stacks import holders, missing

__all__ = ['Found', 'Stack', 'explain', 'find', 'found', 'load', 'open_camera', 'plain', 'reasons', 'takes']

LOCATIONS = {0: 'front', 1: 'back', 2: 'external'}
SYSTEM_PACKAGES = ('libcamera comes with the system, built for its own Python:  sudo apt install python3-picamera2 ; a '
                   'virtual environment sees it when made with that Python and  --system-site-packages')
LOOK = ('check the ribbon cable at both ends (with the power off), that `rpicam-hello --list-cameras` shows the '
        'camera, and that /boot/firmware/config.txt says camera_auto_detect=1 (or names the dtoverlay of a camera that '
        "is not Raspberry Pi's own) and not start_x=1, the legacy stack (camera='picamera')")


class Stack(NamedTuple):
    """The imported packages."""

    picamera2: Any
    libcamera: Any

    @property
    def versions(self) -> Dict[str, str]:
        """Those of both, to be stored."""
        return {'picamera2': _version('picamera2'),
                'libcamera': str(getattr(self.libcamera.CameraManager, 'version', 'unknown'))}


class Found(NamedTuple):
    """A camera that libcamera lists; ``number`` is what follows 'picamera2:'."""

    number: int
    model: str
    id: str
    location: str

    @property
    def is_usb(self) -> bool:
        return '/usb' in self.id

    def __str__(self) -> str:
        return f'picamera2:{self.number} ({self.model})'


def load() -> Stack:
    """Import picamera2, which takes a second or two on a Pi. Raises MissingExtraError, CameraError."""
    # What is wrong is told by exceptions; the rest of libcamera's talk is not for the user's terminal.
    os.environ.setdefault('LIBCAMERA_LOG_LEVELS', '*:ERROR')
    try:
        return Stack(import_module('picamera2'), import_module('libcamera'))
    except ImportError as error:
        problem = missing('picamera2')
        if problem is not None:
            raise problem from error
        raise CameraError(f"camera='picamera2': picamera2 is installed, but {error.name or 'a part of it'} cannot be "
                          f'imported ({error}); {SYSTEM_PACKAGES}') from error
    except Exception as error:
        raise CameraError(f"camera='picamera2': picamera2 cannot be imported ({type(error).__name__}: {error}); if "
                          "this speaks of numpy, a numpy from pip does not fit the system's packages: "
                          "pip install 'numpy<2', or remove it from the virtual environment") from error


def found(stack: Stack) -> List[Found]:
    """The cameras in picamera2's order: those on ribbon cables first, webcams last."""
    return [Found(number, str(info.get('Model', 'camera')), str(info['Id']),
                  LOCATIONS.get(info.get('Location', -1), ''))
            for number, info in enumerate(stack.picamera2.Picamera2.global_camera_info())]


def find(stack: Stack, number: int, webcams: bool = True) -> Found:
    """The camera of that number. Raises CameraNotFoundError that names those that are here."""
    here = [camera for camera in found(stack) if webcams or not camera.is_usb]
    if not here:
        raise CameraNotFoundError(f'libcamera finds no camera{"" if webcams else " on a ribbon cable"}; {LOOK}')
    if not 0 <= number < len(here):
        raise CameraNotFoundError(f'there is no picamera2:{number}; libcamera finds {", ".join(map(str, here))}. Name '
                                  f'one of these; if another is attached, {LOOK}')
    return here[number]


def open_camera(stack: Stack, camera: Found) -> Any:
    """A ``Picamera2``, acquired. Raises CameraError."""
    try:
        with _quiet():
            return stack.picamera2.Picamera2(camera.number)
    except Exception as error:
        raise explain(error, camera, 'opened') from error


def takes(function: Any, name: str) -> bool:
    """Whether a function of picamera2's has this parameter: not every system has the newest."""
    return name in inspect.signature(function).parameters


def explain(error: BaseException, camera: Found, doing: str) -> CameraError:
    """The error of ours for what picamera2 raised while the camera was to be ``doing`` ('opened', 'started')."""
    words = reasons(error)
    low = words.lower()
    told = f'{camera} cannot be {doing}: {words}'
    if 'busy' in low or 'in use' in low or 'failed to acquire' in low:
        by = ', '.join(f'{name} (process {number})' for name, number in holders('/dev/media', '/dev/video'))
        return CameraError(f'{camera} is in use by {by or "another program"}; only one program at a time can '
                           'have it: end that one, or look for it with `fuser -v /dev/media* /dev/video*`')
    if any(word in low for word in ('allocat', 'memory', 'dma', 'mmap')):
        return CameraError(f'{told}. Memory for frame buffers (CMA) is short: ask for a smaller resolution, for fewer '
                           "buffers (camera_controls={'buffer_count': 4}), or give it more: in "
                           '/boot/firmware/config.txt dtoverlay=vc4-kms-v3d,cma-512; `grep Cma /proc/meminfo` tells '
                           'how much there is')
    if 'permission' in low:
        return CameraError(f'{told}. This user may not use the camera: sudo usermod -aG video $USER, and log in anew')
    return CameraError(told)


def reasons(error: BaseException) -> str:
    """What an exception and those that caused it say, the outermost first."""
    texts: List[str] = []
    next_error: Optional[BaseException] = error
    while next_error is not None:
        text = str(next_error).rstrip('.') or type(next_error).__name__
        if text not in texts:
            texts.append(text)
        next_error = next_error.__cause__ or next_error.__context__
    return '; '.join(texts)


def plain(value: Any) -> Any:
    """A value of picamera2's as JSON types."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return str(value)


@contextmanager
def _quiet() -> Iterator[None]:
    """picamera2 logs as errors what it then raises; it is told once."""
    logger = logging.getLogger('picamera2')
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return 'unknown'
