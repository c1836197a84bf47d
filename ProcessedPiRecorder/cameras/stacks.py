"""The two camera stacks of the Raspberry Pi: which Python package drives each, and what to do where it is missing.

Asked in the user's process, so nothing is imported here: libcamera starts threads, and a process with threads must
not be forked.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Tuple

from ..errors import CameraNotFoundError, MissingExtraError, RecorderError
from .base import Camera

__all__ = ['DEFAULT_RATE', 'DEFAULT_SIZE', 'INSTEAD', 'RATE_TOLERANCE', 'STACKS', 'Stack', 'WARM_UP_LIMITS_S',
           'WARM_UP_S', 'drives', 'holders', 'is_installed', 'loaded', 'missing', 'pi_model']

#: What both back ends do alike.
DEFAULT_SIZE, DEFAULT_RATE = (1280, 720), 30.0
RATE_TOLERANCE = 0.02          # between the rate that was asked for and the one found
WARM_UP_S = 1.0
WARM_UP_LIMITS_S = (0.2, 30.0)     # at most half of the default camera_start_timeout: a pair warms up one by one

#: The device tree's word for the machine; there is none on a PC.
MODEL_FILE = Path('/proc/device-tree/model')
PROC = Path('/proc')

INSTEAD = ("pass camera='opencv:0' (a webcam), a video file, a URL, a recording, or 'synthetic' "
           '(`ppr cameras` lists what this machine has)')


class Stack(NamedTuple):
    """One way from a Pi's camera to Python. The package, and the extra of ours that brings it, bear the same name."""

    package: str
    systems: str             # where it lives
    install: str             # what else to do than pip


STACKS: Dict[str, Stack] = {
    'picamera2': Stack('picamera2', 'Raspberry Pi OS Bullseye and later, on libcamera',
                       'on Raspberry Pi OS rather:  sudo apt install python3-picamera2  (a virtual environment sees '
                       'it when made with  python3 -m venv --system-site-packages)'),
    'picamera': Stack('picamera', 'Raspbian Buster, and 32-bit Raspberry Pi OS Bullseye with the legacy camera enabled',
                      'later systems, and all 64-bit ones, have no legacy camera: use camera=\'picamera2\' there'),
}


def pi_model() -> str:
    """What this machine calls itself ('Raspberry Pi 4 Model B Rev 1.4'); '' when it is no Raspberry Pi."""
    try:
        model = MODEL_FILE.read_text(encoding='ascii', errors='replace').strip('\0\n ')
    except OSError:
        return ''
    return model if 'Raspberry Pi' in model else ''


def is_installed(name: str) -> bool:
    """Whether the stack's package can be found, without importing it."""
    return importlib.util.find_spec(STACKS[name].package) is not None


def loaded() -> Tuple[str, ...]:
    """The camera libraries that this process has imported."""
    return tuple(name for name in ('picamera', 'picamera2', 'libcamera') if name in sys.modules)


def drives(camera: Camera) -> bool:
    """Whether one of the stacks is behind this camera, or behind one of this pair."""
    eyes = (getattr(camera, 'left', None), getattr(camera, 'right', None))
    return camera.name in ('auto', *STACKS) or any(isinstance(eye, Camera) and drives(eye) for eye in eyes)


def holders(*devices: str) -> List[Tuple[str, int]]:
    """(name, process number) of all others that have such a device open (its path begins so), as far as can be seen."""
    found = []
    for process in PROC.glob('[0-9]*'):
        try:
            has_it = any(os.readlink(link).startswith(devices) for link in (process / 'fd').iterdir())
            if has_it and process.name != str(os.getpid()):
                found.append(((process / 'comm').read_text().strip(), int(process.name)))
        except OSError:
            pass                         # it has ended, or belongs to somebody else
    return found


def missing(name: str) -> Optional[RecorderError]:
    """The error to raise where the stack's package is not installed; None where it is."""
    if is_installed(name):
        return None
    if platform.machine() in ('x86_64', 'AMD64', 'i686'):
        return CameraNotFoundError(f'camera={name!r} needs a Raspberry Pi ({STACKS[name].systems}), and this is a '
                                   f'PC ({platform.machine()}); {INSTEAD}')
    return MissingExtraError(f'camera={name!r}', STACKS[name].package, name, STACKS[name].install)
