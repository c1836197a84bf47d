"""Webcams and network streams through OpenCV."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import struct
import time
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

import numpy as np

from ..errors import CameraError, CameraFormatError, CameraNotFoundError, CameraStalledError
from .base import Camera, CameraListing, CameraRequest, Granted, Stamp
from .capture import Capture, import_cv2, quiet, require_format

__all__ = ['OpenCVCamera', 'StreamCamera']

log = logging.getLogger(__name__)

DEV = Path('/dev')
SYS = Path('/sys/class/video4linux')
HOST_CLOCK = ('none of its own: CLOCK_MONOTONIC when the frame reached this process, later than it was taken by '
              'exposure, transfer and scheduling')

# linux/videodev2.h: VIDIOC_QUERYCAP = _IOR('V', 0, struct v4l2_capability), and what device_caps means.
VIDIOC_QUERYCAP = 0x80685600
CAPABILITY = struct.Struct('16s32s32sIII3I')
CAN_CAPTURE = 0x00000001 | 0x00001000     # V4L2_CAP_VIDEO_CAPTURE, ..._MPLANE
HAS_DEVICE_CAPS = 0x80000000

# V4L2 keeps up to four frames from before the recording began; those come at once, a fresh one takes a while.
STALE_FRAMES = 5
FRESH_S = 0.002
PLAUSIBLE_NS = 1_000_000_000


class OpenCVCamera(Camera):
    """A webcam, /dev/videoN, through OpenCV's V4L2.

    Args:
        number: N of /dev/videoN.

    Size and rate are granted exactly (the rate within 1 %) or CameraFormatError tells what the driver gives. It has
    no resizer. Webcams say nothing reliable about lost frames (loss_detection 'none'): ``complete`` is unknown.
    ``camera_controls``: 'fourcc' ('MJPG' makes many webcams faster), and any of OpenCV's CAP_PROP_... by its name in
    lower case ('exposure', 'gain', 'auto_exposure', 'buffersize', ...). Two frames are read, and dropped, by
    ``open`` to see what really comes.
    """

    name = 'opencv'

    def __init__(self, number: Any = 0) -> None:
        self.number = int(number)
        self._capture: Optional[Capture] = None
        self._stamped = False

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.number})'

    def open(self, request: CameraRequest) -> Granted:
        cv2 = import_cv2()
        with quiet(cv2):
            capture = self._capture = Capture(cv2, self._device(cv2), request.pixel_format)
            _apply(cv2, capture, request)
        size, rate = capture.size, capture.get('FPS')
        granted_rate = rate if rate > 0 else None
        what = f'the webcam /dev/video{self.number}'
        require_format(request, size, granted_rate, what)
        self._probe(size, request.pixel_format)
        clock = ('the driver\'s buffer timestamp, CLOCK_MONOTONIC at the frame\'s start or end, as the driver likes'
                 if self._stamped else HOST_CLOCK)
        return Granted(*size, *size, granted_rate, request.pixel_format, clock, 'none',
                       clock_base='monotonic' if self._stamped else 'own', model=_card(self.number) or what,
                       details={'device': f'/dev/video{self.number}', 'fourcc': _fourcc(capture.get('FOURCC'))})

    def start(self) -> None:
        assert self._capture is not None
        for _ in range(STALE_FRAMES):
            before = time.monotonic()
            if not self._capture.grab() or time.monotonic() - before > FRESH_S:
                return

    def read(self, out: np.ndarray) -> Optional[Stamp]:
        if self._capture is None:
            raise CameraError('read() before open(): open the camera first')
        before = time.monotonic()
        if not self._capture.read(out):
            if self._capture.closed:
                return None
            self._explain(time.monotonic() - before)
        return Stamp(self._driver_ns() if self._stamped else None)

    def close(self) -> None:
        if self._capture is not None:
            self._capture.close()

    def _device(self, cv2: Any) -> Any:
        node = DEV / f'video{self.number}'
        if not node.exists():
            here = ', '.join(f'opencv:{number}' for number in _numbers()) or 'none'
            raise CameraNotFoundError(f'there is no webcam {node} (webcams here: {here}); plug it in, or name another')
        capture = cv2.VideoCapture(self.number, cv2.CAP_V4L2)
        if not capture.isOpened():
            raise CameraNotFoundError(f'{node} cannot be opened as a camera: another program may hold it, this user '
                                      'may not (group video), or it is no capture device; see `ppr cameras`')
        return capture

    def _probe(self, size: Tuple[int, int], pixel_format: str) -> None:
        assert self._capture is not None
        shape = (size[1], size[0]) if pixel_format == 'gray' else (size[1], size[0], 3)
        scratch = np.empty(shape, np.uint8)
        stamps = []
        for _ in range(2):
            if not self._capture.read(scratch):
                raise CameraError(f'/dev/video{self.number} opens but sends no picture; another size, or '
                                  "camera_controls={'fourcc': 'MJPG'}, may be what it needs")
            stamps.append((self._driver_ns(), time.monotonic_ns()))
        # Drivers may leave the timestamp 0 or take it from another clock; then it is worth nothing to us.
        self._stamped = stamps[0][0] < stamps[1][0] and all(0 <= now - ns < PLAUSIBLE_NS for ns, now in stamps)

    def _driver_ns(self) -> int:
        assert self._capture is not None
        return int(round(self._capture.get('POS_MSEC') * 1e6))

    def _explain(self, waited_s: float) -> None:
        node = DEV / f'video{self.number}'
        if not node.exists():
            raise CameraError(f'{node} has gone: the webcam was unplugged')
        if waited_s > 1:
            raise CameraStalledError(f'{node} sent no frame for {waited_s:.1f} s; unplug it and plug it in again')
        raise CameraError(f'{node} failed to give a frame; unplug it and plug it in again')

    @classmethod
    def listings(cls) -> List[CameraListing]:
        return [_listing(number) for number in _numbers()] or [
            CameraListing('opencv:N', 'a webcam', False, 'there is no /dev/video node: no webcam is plugged in')]


class StreamCamera(Camera):
    """A network stream (rtsp, rtmp, http, udp, tcp, ...) through OpenCV's FFmpeg.

    Args:
        url: where it is sent from.
        open_timeout_s, read_timeout_s: how long to wait for the sender, seconds; also as ``camera_controls``.

    It has no rate of its own to speak of (framerate None) and no means to see losses (loss_detection 'none').
    When the sender ends it, the source has ended; silence longer than read_timeout_s raises CameraStalledError.
    """

    name = 'stream'

    def __init__(self, url: str, open_timeout_s: float = 10.0, read_timeout_s: float = 10.0) -> None:
        self.url = url
        self.timeouts = {'open_timeout_s': open_timeout_s, 'read_timeout_s': read_timeout_s}
        self._capture: Optional[Capture] = None

    def __repr__(self) -> str:
        return f'StreamCamera({_without_password(self.url)!r})'

    def open(self, request: CameraRequest) -> Granted:
        cv2 = import_cv2()
        timeouts = _timeouts(self.timeouts, request.controls)
        self._read_timeout_s = timeouts['read_timeout_s']
        with quiet(cv2):
            raw = _open_url(cv2, self.url, timeouts)
        where = _without_password(self.url)
        if not raw.isOpened():
            raise CameraNotFoundError(f'no video stream can be opened at {where} (waited at most '
                                      f'{timeouts["open_timeout_s"]:g} s); check the address and that it is being sent')
        capture = self._capture = Capture(cv2, raw, request.pixel_format)
        size, rate = capture.size, capture.get('FPS')
        require_format(request, size, rate if rate > 0 else None, f'the stream {where}')
        return Granted(*size, *size, None, request.pixel_format, HOST_CLOCK, 'none', model=where,
                       details={'url': where, 'advertised_hz': rate, 'fourcc': _fourcc(capture.get('FOURCC'))})

    def read(self, out: np.ndarray) -> Optional[Stamp]:
        if self._capture is None:
            raise CameraError('read() before open(): open the camera first')
        before = time.monotonic()
        if self._capture.read(out):
            return Stamp()
        waited = time.monotonic() - before
        if not self._capture.closed and waited >= 0.9 * self._read_timeout_s:
            raise CameraStalledError(f'{_without_password(self.url)} sent nothing for {waited:.1f} s; check the sender '
                                     'and the network')
        return None

    def close(self) -> None:
        if self._capture is not None:
            self._capture.close()

    @classmethod
    def listings(cls) -> List[CameraListing]:
        about = 'a network stream: rtsp://, rtmp://, http://, udp://, tcp://'
        cv2 = import_cv2()
        if cv2.CAP_FFMPEG in cv2.videoio_registry.getStreamBackends():
            return [CameraListing('URL', about, True)]
        return [CameraListing('URL', about, False, f'this OpenCV {cv2.__version__} was built without FFmpeg; '
                              'pip install opencv-contrib-python brings one with it')]


def _apply(cv2: Any, capture: Capture, request: CameraRequest) -> None:
    controls = dict(request.controls)
    # The pixel coding decides which sizes and rates a webcam offers, so it goes first.
    fourcc = controls.pop('fourcc', None)
    if fourcc is not None:
        if not isinstance(fourcc, str) or len(fourcc) != 4:
            raise CameraFormatError(f"fourcc={fourcc!r} is not a coding's four letters, such as 'MJPG' or 'YUYV'")
        capture.set('FOURCC', cv2.VideoWriter_fourcc(*fourcc))
        given = _fourcc(capture.get('FOURCC'))
        if given != fourcc:
            raise CameraFormatError(f'the webcam gives fourcc {given!r}, not {fourcc!r}')
    if request.width:
        capture.set('FRAME_WIDTH', request.width)
        capture.set('FRAME_HEIGHT', request.height)
    if request.framerate:
        capture.set('FPS', request.framerate)
    for name, value in controls.items():
        _set_control(cv2, capture, name, value)


def _set_control(cv2: Any, capture: Capture, name: str, value: Any) -> None:
    if not hasattr(cv2, f'CAP_PROP_{name.upper()}') or name != name.lower():
        raise CameraFormatError(f'OpenCV has no camera control {name!r}; use fourcc, exposure, auto_exposure, gain, '
                                'brightness, contrast, saturation, focus, autofocus, buffersize or another of its '
                                'CAP_PROP_... names in lower case')
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise CameraFormatError(f'the camera control {name}={value!r} must be a number') from None
    if not capture.set(name.upper(), number):
        raise CameraFormatError(f'the webcam refuses {name}={value!r}; it may lack this control or this value')


def _timeouts(defaults: Mapping[str, float], controls: Mapping[str, Any]) -> Dict[str, float]:
    unknown = [name for name in controls if name not in defaults]
    if unknown:
        raise CameraFormatError(f'a stream has no control {unknown[0]!r}; it has {" and ".join(defaults)}')
    timeouts = {**defaults, **controls}
    for name, value in timeouts.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.01 <= value <= 86_400:
            raise CameraFormatError(f'{name}={value!r} is not a time; use seconds from 0.01 to 86400')
    return timeouts


def _open_url(cv2: Any, url: str, timeouts: Mapping[str, float]) -> Any:
    parameters = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, int(timeouts['open_timeout_s'] * 1000),
                  cv2.CAP_PROP_READ_TIMEOUT_MSEC, int(timeouts['read_timeout_s'] * 1000)]
    return cv2.VideoCapture(url, cv2.CAP_FFMPEG, parameters)


def _without_password(url: str) -> str:
    """For messages and files: recordings are shared, passwords are not."""
    return re.sub(r'(://[^/@:]*):[^/@]*@', r'\1:***@', url)


def _fourcc(code: float) -> str:
    raw = struct.pack('<I', int(code) & 0xFFFFFFFF)
    return raw.decode('latin-1').rstrip('\0') if raw.strip(b'\0').isalnum() else ''


def _numbers() -> List[int]:
    nodes = (re.match(r'^video([0-9]+)$', path.name) for path in DEV.glob('video*'))
    return sorted(int(node.group(1)) for node in nodes if node)


def _card(number: int) -> str:
    try:
        return (SYS / f'video{number}' / 'name').read_text().strip()
    except OSError:
        return ''


def _listing(number: int) -> CameraListing:
    node = DEV / f'video{number}'
    about = _card(number) or 'a video device'
    try:
        handle = os.open(node, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        return CameraListing(f'opencv:{number}', about, False,
                             f'{node} cannot be opened ({error.strerror}); this user may need the group video')
    try:
        answer = bytearray(CAPABILITY.size)
        fcntl.ioctl(handle, VIDIOC_QUERYCAP, answer)
        captures = _can_capture(bytes(answer))
    except OSError as error:
        return CameraListing(f'opencv:{number}', about, False, f'{node} is no V4L2 device ({error.strerror})')
    finally:
        os.close(handle)
    if captures:
        return CameraListing(f'opencv:{number}', about, True)
    # A Raspberry Pi has a dozen of these: codecs, image processors, metadata of webcams.
    return CameraListing(f'opencv:{number}', about, False, f'{node} is not a camera (it captures no video)')


def _can_capture(answer: bytes) -> bool:
    capabilities, device_caps = CAPABILITY.unpack(answer)[4:6]
    return bool((device_caps if capabilities & HAS_DEVICE_CAPS else capabilities) & CAN_CAPTURE)
