"""Where frames come from: one small base class, a file a camera, and a registry that finds them by name.

Nothing of a camera stack is imported before it is used; every name below is fetched on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, List

if TYPE_CHECKING:
    from .auto import AutoCamera
    from .base import Camera, CameraListing, CameraRequest, FrameSink, Granted, Stamp
    from .opencv import OpenCVCamera, StreamCamera
    from .pair import StereoPair
    from .picamera import PicameraCamera
    from .picamera2 import Picamera2Camera
    from .replay import ReplayCamera
    from .synthetic import SyntheticCamera
    from .videofile import VideoFileCamera

_ROOMS = {
    'AutoCamera': 'auto',
    'Camera': 'base', 'CameraListing': 'base', 'CameraRequest': 'base', 'FrameSink': 'base', 'Granted': 'base',
    'Stamp': 'base',
    'OpenCVCamera': 'opencv', 'StreamCamera': 'opencv',
    'Picamera2Camera': 'picamera2',
    'PicameraCamera': 'picamera',
    'ReplayCamera': 'replay',
    'StereoPair': 'pair',
    'SyntheticCamera': 'synthetic',
    'VideoFileCamera': 'videofile',
}

__all__ = ['AutoCamera', 'Camera', 'CameraListing', 'CameraRequest', 'FrameSink', 'Granted', 'OpenCVCamera',
           'Picamera2Camera', 'PicameraCamera', 'ReplayCamera', 'Stamp', 'StereoPair', 'StreamCamera',
           'SyntheticCamera', 'VideoFileCamera']


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(f'.{_ROOMS[name]}', __name__), name)


def __dir__() -> List[str]:
    return sorted(list(globals()) + __all__)
