"""The package picamera, unmodified, and the hooks that bring each raw frame to us without a detour.

Importing this loads the firmware's libraries: only in the reader process, and only through ``picamera.load_stack``.
"""

from __future__ import annotations

import os
from typing import Any, Callable, List, NamedTuple

import picamera
from picamera import bcm_host, mmal, mmalobj
from picamera.encoders import PiRawVideoEncoder

from ...errors import CameraError, CameraNotFoundError
from .frames import Frames, Layout

__all__ = ['DirectCamera', 'Module', 'camera_modules', 'mmal', 'picamera']

VCHIQ = '/dev/vchiq'

#: Buffers between the firmware and us: so many frames may be under way while this process does not get the processor.
#: picamera takes the least that the port allows (1 to 3).
BUFFERS = 8

CHANNELS = {mmal.MMAL_ENCODING_I420: 1, mmal.MMAL_ENCODING_BGR24: 3, mmal.MMAL_ENCODING_BGRA: 4}


class Module(NamedTuple):
    """A camera module that the firmware has found."""

    model: str               # 'ov5647', 'imx219', ...
    width: int               # of the whole sensor, pixels
    height: int


class DirectEncoder(PiRawVideoEncoder):
    """Hands each raw buffer to a Frames, instead of copying it into bytes and writing these to a file."""

    def _create_encoder(self, format: str) -> None:
        super()._create_encoder(format)
        self.output_port.buffer_count = max(BUFFERS, self.output_port.buffer_count)

    def _open_output(self, output: Frames, key: Any = None) -> None:
        # What is asked for is not always what comes: old firmware refuses BGR, and picamera then takes BGRA from a
        # resizer, which also rounds the size.
        width, height = self.output_port.framesize
        output.begin(Layout(width, height, CHANNELS[self.output_port.format]))
        self.frames = output

    def _close_output(self, key: Any = None) -> None:
        pass                             # there is no file

    def _callback_write(self, buf: Any, key: Any = None) -> bool:
        return self.frames.take(buf)


class DirectCamera(picamera.PiCamera):
    """A PiCamera that records through DirectEncoder, and tells of the firmware's errors at once.

    picamera keeps such an error until somebody calls one of the camera's methods; nobody does while it records.
    """

    __slots__ = ('_failed',)

    def __init__(self, failed: Callable[[BaseException], None], **options: Any) -> None:
        self._failed = failed
        # With any LED pin given picamera leaves GPIO alone; without, it raises on boards newer than itself.
        super().__init__(led_pin=2, **options)

    def _get_video_encoder(self, camera_port: Any, output_port: Any, format: str, resize: Any,
                           **options: Any) -> DirectEncoder:
        return DirectEncoder(self, camera_port, output_port, format, resize, **options)

    def _control_callback(self, port: Any, buf: Any) -> None:
        super()._control_callback(port, buf)
        if self._camera_exception is not None:
            self._failed(self._camera_exception)


def camera_modules() -> List[Module]:
    """The modules that the firmware has found, without opening any; also while one is in use. May raise
    CameraError, CameraNotFoundError."""
    if os.path.exists(VCHIQ) and not os.access(VCHIQ, os.R_OK | os.W_OK):
        # The firmware's library would end the whole process.
        raise CameraError(f'this user may not use the camera ({VCHIQ}); add them to its group and log in again:  '
                          'sudo usermod -aG video $USER')
    bcm_host.bcm_host_init()
    try:
        with mmalobj.MMALCameraInfo() as component:
            info = component.control.params[mmal.MMAL_PARAMETER_CAMERA_INFO]
            named = component.info_rev > 1       # older firmware knew one model only
            return [Module(one.camera_name.decode('ascii', 'replace') if named else 'ov5647', one.max_width,
                           one.max_height) for one in info.cameras[:info.num_cameras]]
    except picamera.PiCameraError as error:
        raise CameraNotFoundError(f'the camera firmware does not answer ({error}); enable the camera with '
                                  'sudo raspi-config, and set gpu_mem=128 or more in config.txt') from error
