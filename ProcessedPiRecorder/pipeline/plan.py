"""What every process of one recording is told at its birth, and the time that each may take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from ..cameras.base import Camera, CameraRequest, Granted
from ..cameras.pace import PacedFile
from ..errors import SettingsError
from ..settings import DEFAULT_CB_TIMEOUT_S, Settings

__all__ = ['LOSS_REASONS', 'Plan', 'check_timeout', 'slowest_call_s']

#: How long a camera may take to hand over the frame it is at when the recording is to stop.
STOP_GRACE_S = 2.0
#: A reader may take so long to end: a camera must be closed, or its firmware may keep it locked. A callback likewise.
LEAVE_S = 3 * STOP_GRACE_S
#: How long the file may take to be finished without any sign of progress. A slow SD card with much unwritten data
#: is slow, not dead.
FINISH_TIMEOUT_S = 300.0
#: How long the callback's process may take to hand over the results that it still holds.
FLUSH_TIMEOUT_S = 60.0
#: How often a callback's process is started again, with a pause that doubles each time.
CALLBACK_RESTARTS = 5
RESTART_PAUSE_S = 0.1

#: A loss travels on a link by its place in this list.
LOSS_REASONS = ('camera gap', 'ring full', 'camera error', 'stall', 'source broke off', 'unpaired', 'process died',
                'other')


@dataclass(frozen=True)
class Plan:
    """One recording, as its processes know it."""

    settings: Settings
    camera: Camera
    start_method: str
    tif_path: Optional[Path]

    @property
    def request(self) -> CameraRequest:
        """What is asked of the camera."""
        settings = self.settings
        return CameraRequest(settings.x_resolution, settings.y_resolution, settings.scale_factor, settings.framerate,
                             settings.pixel_format, settings.stereo, settings.camera_controls)

    @property
    def unhurried(self) -> bool:
        """Whether the camera is a file that is played as fast as it is taken, so that it waits for everyone."""
        return isinstance(self.camera, PacedFile) and self.camera.pace == 'fastest'


def slowest_call_s(settings: Settings) -> float:
    """How long a call of the callback may last before it counts as hung, seconds."""
    return max(settings.cb_timeout or DEFAULT_CB_TIMEOUT_S, settings.cb_start_timeout)


def check_timeout(settings: Settings, granted: Granted, slots: int) -> None:
    """A frame that the callback holds for cb_timeout must not make the ring overflow. Raises SettingsError."""
    if settings.cb_timeout is None or granted.waits or not granted.framerate or settings.callback is None:
        return
    needed = settings.cb_timeout * granted.framerate
    if needed > slots * 0.85:
        raise SettingsError(
            f'cb_timeout={settings.cb_timeout:g} s holds {needed:.0f} frames at {granted.framerate:g} Hz, and the '
            f'ring of {slots} frames can bridge {slots * 0.85 / granted.framerate:.2g} s; '
            f'pass ring_frames={int(needed / 0.85) + 1} or more, or a shorter cb_timeout')
