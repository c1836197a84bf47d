"""Raspberry Pi cameras through libcamera (the package picamera2)."""

from __future__ import annotations

import re
import time
from typing import Any, Dict, List, Optional, Set, Tuple

import numpy as np

from ..errors import CameraError, CameraFormatError, CameraNotFoundError, RecorderError
from .base import Camera, CameraListing, CameraRequest, FrameSink, Granted, Stamp
from .libcamera.formats import PixelCopy, SensorMode, sensor_modes
from .libcamera.session import Metadata, Session
from .libcamera.setup import SetUp
from .libcamera.system import Found, Stack, find, found, load, open_camera, plain

__all__ = ['Picamera2Camera']

CLOCKS = {'monotonic': time.CLOCK_MONOTONIC, 'boottime': time.CLOCK_BOOTTIME}
#: What ``statistics`` tells of the last frame: metadata's name -> ours.
FINALLY = {'ExposureTime': 'exposure_us', 'AnalogueGain': 'gain', 'DigitalGain': 'digital_gain',
           'ColourGains': 'white_balance', 'FrameDuration': 'frame_duration_us', 'Lux': 'lux',
           'SensorTemperature': 'sensor_temperature_c'}


class Picamera2Camera(Camera):
    """A camera that libcamera finds: a Pi camera module, or a webcam (for those, camera='opencv:N' may do better).

    Args:
        number: which, in the order of `rpicam-hello --list-cameras` and of `ppr cameras`.
        webcams: whether it may be one.

    *Every* frame that libcamera completes is copied into the ring and its buffer given back at once. 0x0 is 1280x720,
    framerate 0 is 30 Hz or the most that the sensor does at that size. Sizes are granted exactly (odd ones rounded up
    to even, with a ResolutionRoundedWarning); ``scale_factor`` is done by the camera's own processor. The sensor mode
    is the one that shows the widest field of view with enough pixels at that rate; an AutomaticChoiceWarning tells
    where that is not all of it. A picture of another shape than the sensor's shows its middle; ``details`` says how
    much. 'bgr' comes as it lies in memory, 'gray' is the brightness plane; where a webcam has neither it is converted.

    ``open`` takes ``warm_up_s``, in which exposure and white balance settle, and from whose frames it is decided how
    losses can be seen (by FrameDuration, the time from a frame's start to the next one's, in each frame's metadata;
    else by the fixed rate, where the camera keeps one; else not at all) and on which clock SensorTimestamp counts.

    ``camera_controls``: the common ones (``controls.py``), of which rotation is 0 or 180, and ``roi``, a part of the
    sensor mode's field of view, is narrowed to the shape of the picture; libcamera's own by their names
    ('Sharpness', 'AfMode', 'SyncMode', ...; enumerations by number or name); ``warm_up_s`` (1);
    ``freeze`` (True: after the warm-up exposure, gain and white balance stay as they are; False); ``buffer_count`` (8);
    ``sensor_mode`` ((width, height), instead of the one chosen).

    Two of them as ``('picamera2:0', 'picamera2:1')`` with stereo=True are paired by SensorTimestamp.
    """

    name = 'picamera2'

    def __init__(self, number: Any = 0, webcams: bool = True) -> None:
        if isinstance(number, bool) or not re.match(r'^[0-9]{1,4}$', str(number)):
            raise CameraNotFoundError(f'{number!r} is not the number of a camera; use 0, 1, ... (`ppr cameras` lists '
                                      'them)')
        self.number = int(number)
        self.webcams = webcams
        self._session: Optional[Session] = None
        self._copy: Optional[PixelCopy] = None
        self._clock: Optional[int] = None
        self._fresh_ns: Optional[int] = None
        self._delivered = 0
        self._last: Metadata = {}

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.number})'

    def open(self, request: CameraRequest) -> Granted:
        if request.stereo:
            raise CameraFormatError('libcamera cannot join two cameras in one picture; pass both: '
                                    "camera=('picamera2:0', 'picamera2:1'), or, on a StereoPi with a legacy system, "
                                    "camera='picamera'")
        self.close()
        self._delivered, self._last = 0, {}
        stack = load()
        self._session = Session(stack, find(stack, self.number, self.webcams))
        try:
            set_up = SetUp(self._session, request)
            granted = set_up.run()
        except BaseException:
            self.close()
            raise
        self._copy, self._clock = set_up.copy, CLOCKS.get(granted.clock_base)
        return granted

    def start(self) -> None:
        """The camera has been running since ``open``; what it took meanwhile is not part of the recording."""
        session, _ = self._opened()
        session.drain()
        # The sensor's own buffers may still hold older frames, which come once the others have been given back.
        self._fresh_ns = None if self._clock is None else time.clock_gettime_ns(self._clock)

    def read(self, out: np.ndarray) -> Optional[Stamp]:
        session, copy = self._opened()
        while not session.closed:
            if self._wait(session):
                return self._take(session, copy, out)
        return None

    def stream(self, sink: FrameSink) -> None:
        session, copy = self._opened()
        sink.when_stopping(session.wake)
        while not (sink.stopping or session.closed):
            if self._wait(session):
                stamp = self._take(session, copy, sink.slot())
                if stamp is not None:
                    sink.commit(stamp)

    def close(self) -> None:
        session = self._session
        if session is not None:
            session.close()

    def statistics(self) -> Dict[str, Any]:
        """{'delivered': frames handed over} and the last one's exposure, gains and temperature, as far as told."""
        last = {ours: plain(self._last[name]) for name, ours in FINALLY.items() if name in self._last}
        return {'delivered': self._delivered, **last}

    def _opened(self) -> Tuple[Session, PixelCopy]:
        if self._session is None or self._copy is None:
            raise CameraError('read() before open(): open the camera first')
        return self._session, self._copy

    def _wait(self, session: Session) -> bool:
        """Wait for a frame of this recording, for a while."""
        if not session.wait():
            return False
        if self._fresh_ns is not None:
            if session.peek().get('SensorTimestamp', self._fresh_ns) < self._fresh_ns:
                session.take()
                return False
            self._fresh_ns = None
        return True

    def _take(self, session: Session, copy: PixelCopy, out: np.ndarray) -> Optional[Stamp]:
        metadata = session.take(copy, out)
        if metadata is None:
            return None
        self._last = metadata
        self._delivered += 1
        duration_us = metadata.get('FrameDuration')
        return Stamp(metadata.get('SensorTimestamp'), round(1000 * duration_us) if duration_us else None)

    @classmethod
    def listings(cls) -> List[CameraListing]:
        try:
            stack = load()
            here = found(stack)
            if not here:
                find(stack, 0)
        except RecorderError as error:
            return [CameraListing('picamera2:N', 'a Raspberry Pi camera', False, str(error))]
        return [_listing(stack, camera) for camera in here]


def _listing(stack: Stack, camera: Found) -> CameraListing:
    name, place = f'picamera2:{camera.number}', f', {camera.location}' if camera.location else ''
    about = f'{camera.model}{place} ({camera.id})' + (', a webcam: opencv:N may do better' if camera.is_usb else '')
    try:
        picam2 = open_camera(stack, camera)
    except RecorderError as error:
        return CameraListing(name, about, False, str(error))
    try:
        modes = _mode_texts(sensor_modes(picam2.sensor_modes))
    except Exception:          # webcams, and cameras for whose largest mode there is not memory enough
        modes = ()
    finally:
        picam2.close()
    return CameraListing(name, about, True, modes=modes)


def _mode_texts(modes: List[SensorMode]) -> Tuple[str, ...]:
    depths: Dict[str, Set[int]] = {}
    for mode in modes:
        depths.setdefault(str(mode), set()).add(mode.bit_depth)
    return tuple(f'{text}, {" or ".join(map(str, sorted(bits)))} bit' for text, bits in depths.items())
