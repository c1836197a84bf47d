"""``camera='auto'``: the Raspberry Pi camera that is attached, through whichever stack has it."""

from __future__ import annotations

import importlib
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

import numpy as np

from ..errors import CameraNotFoundError, MissingExtraError
from .base import Camera, CameraRequest, FrameSink, Granted, Stamp
from .stacks import INSTEAD, STACKS, is_installed, pi_model

__all__ = ['AutoCamera']


class AutoCamera(Camera):
    """The attached Raspberry Pi camera; never a webcam, never the synthetic one.

    ``open`` tries the stacks that are installed, in the reader process: libcamera first, then the legacy one; for
    stereo the legacy one first (only that knows a StereoPi), then two cameras through libcamera. A stack without a
    camera is passed over; one whose camera is busy, or cannot do what was asked, raises.
    """

    name = 'auto'

    def __init__(self) -> None:
        self.chosen: Optional[Camera] = None

    def __repr__(self) -> str:
        return f'AutoCamera({self.chosen!r})' if self.chosen is not None else 'AutoCamera()'

    def open(self, request: CameraRequest) -> Granted:
        reasons: List[str] = []
        for name, make in _candidates(request.stereo):
            if not is_installed(name.split(' ')[0]):
                reasons.append(f'{name}: not installed')
                continue
            try:
                camera = make()
                granted = camera.open(request)
            except (CameraNotFoundError, MissingExtraError) as error:
                reasons.append(f'{name}: {error}')
            else:
                self.chosen = camera
                return granted
        raise none_here(reasons)

    def start(self) -> None:
        self._camera().start()

    def read(self, out: np.ndarray) -> Optional[Stamp]:
        return self._camera().read(out)

    def stream(self, sink: FrameSink) -> None:
        self._camera().stream(sink)

    def close(self) -> None:
        if self.chosen is not None:
            self.chosen.close()

    def statistics(self) -> Mapping[str, Any]:
        """Those of the camera that was found."""
        statistics = getattr(self.chosen, 'statistics', None)
        told: Dict[str, Any] = {} if statistics is None else dict(statistics())
        return told

    def _camera(self) -> Camera:
        if self.chosen is None:
            raise CameraNotFoundError('read() before open(): open the camera first')
        return self.chosen


def none_here(reasons: List[str]) -> CameraNotFoundError:
    """The error for a machine without a Pi camera; it says what was tried."""
    where = pi_model()
    if where:
        advice = ('check the ribbon cable at both ends (with the power off), and whether the system sees the camera: '
                  '`rpicam-hello --list-cameras`, or `vcgencmd get_camera` on a legacy system')
    else:
        where, advice = 'this machine, which is no Raspberry Pi', INSTEAD
    return CameraNotFoundError(f"camera='auto' looks for a Raspberry Pi camera, and there is none to be had on {where} "
                               f'({"; ".join(reasons)}); {advice}')


def _candidates(stereo: bool) -> Tuple[Tuple[str, Callable[[], Camera]], ...]:
    if stereo:
        return ('picamera', _legacy), ('picamera2 (two cameras)', _libcamera_pair)
    return ('picamera2', _libcamera), ('picamera', _legacy)


def _legacy() -> Camera:
    return _load('picamera', 'PicameraCamera')()


def _libcamera() -> Camera:
    return _load('picamera2', 'Picamera2Camera')(0, webcams=False)


def _libcamera_pair() -> Camera:
    from .pair import StereoPair
    camera = _load('picamera2', 'Picamera2Camera')
    return StereoPair(camera(0, webcams=False), camera(1, webcams=False))


def _load(name: str, cls: str) -> Any:
    assert name in STACKS
    return getattr(importlib.import_module(f'.{name}', __package__), cls)
