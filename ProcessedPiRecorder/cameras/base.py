"""What every camera is: ``open``, ``start``, ``read`` (or ``stream``), ``close``, and what it granted.

All of it runs in the reader process. A camera writes pixels straight into the ring slot that it is given::

    granted = camera.open(request)      # the hardware is touched here for the first time
    camera.start()                      # the ring exists; frames may flow
    camera.stream(sink)                 # until the source ends or sink.stopping
    camera.close()                      # always; harmless twice

Cameras that are asked for each frame (webcams, files, the synthetic one) only write ``read``. Cameras that
push frames from a thread of their own (picamera's encoder) write ``stream`` and use the sink from there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, ClassVar, List, Mapping, NamedTuple, Optional, Tuple

import numpy as np

__all__ = ['LOSS_DETECTION', 'Camera', 'CameraListing', 'CameraRequest', 'FrameSink', 'Granted', 'Stamp',
           'recorded_size']

#: How losses can be seen, from the best evidence to none.
LOSS_DETECTION = ('frame_duration', 'fixed_rate', 'count', 'none')


@dataclass(frozen=True)
class CameraRequest:
    """What the user asked of the camera; 0 is "the camera's default"."""

    width: int = 0                   # sensor pixels; with stereo, both eyes together
    height: int = 0
    scale_factor: float = 1.0
    framerate: float = 0.0           # Hz
    pixel_format: str = 'bgr'        # 'bgr' (height, width, 3) or 'gray' (height, width), uint8
    stereo: bool = False
    controls: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Granted:
    """What the camera gives in fact.

    Attributes:
        width, height: sensor pixels (both eyes together with stereo).
        frame_width, frame_height: size of the images that ``read`` fills in: the recorded size where the
            camera has a resizer of its own, else the sensor size (the pipeline then resizes).
        framerate: Hz, as granted; None when the camera does not know.
        pixel_format: 'bgr' or 'gray'.
        clock: one sentence for people: which clock stamps the frames, and how it can mislead.
        clock_base: which of the system's clocks the sensor timestamps count on: 'monotonic', 'boottime' or 'utc';
            'own' when the camera's zero means nothing outside it.
        clock_offset_ns: for a clock of its own that the camera could compare with the system's: what to add to a
            sensor timestamp to get CLOCK_MONOTONIC, ns. None: the arrival of the first frame ties them together.
        exact_times: with clock_base 'utc': the sensor timestamps are originating times of an earlier recording, which
            are taken over as they are, however close to one another.
        loss_detection: one of LOSS_DETECTION.
        waits: True when the source waits for the recorder (files): a full ring then slows it, and loses nothing.
        model: what it is, for people ('OV5647', 'carphone_pristine.mp4').
        details: more facts to store with the recording; JSON types only.
        warnings: (warning class name in errors.py, message) pairs to give to the user.
    """

    width: int
    height: int
    frame_width: int
    frame_height: int
    framerate: Optional[float]
    pixel_format: str
    clock: str
    loss_detection: str
    waits: bool = False
    clock_base: str = 'own'
    clock_offset_ns: Optional[int] = None
    exact_times: bool = False
    model: str = ''
    details: Mapping[str, Any] = field(default_factory=dict)
    warnings: Tuple[Tuple[str, str], ...] = ()

    @property
    def frame_shape(self) -> Tuple[int, ...]:
        """Shape of the arrays that ``read`` fills in."""
        size = (self.frame_height, self.frame_width)
        return size if self.pixel_format == 'gray' else (*size, 3)


class Stamp(NamedTuple):
    """What the camera knows about one frame.

    sensor_ns: start of the frame on the camera's own clock, in ns; None where it has none.
    duration_ns: from the start of this frame to the start of the next, for loss_detection 'frame_duration'.
    count: the camera's frame counter, for loss_detection 'count'.
    skew_ns: for a pair of cameras, time of the left image minus time of the right one.
    """

    sensor_ns: Optional[int] = None
    duration_ns: Optional[int] = None
    count: Optional[int] = None      # type: ignore[assignment]   # hides tuple.count, which nobody misses here
    skew_ns: Optional[int] = None


class FrameSink:
    """Where a camera puts its frames; the pipeline hands one to ``Camera.stream``. One thread at a time."""

    #: True once the recording is to stop.
    stopping: bool = False

    def slot(self) -> np.ndarray:
        """The array to fill with the next frame (``Granted.frame_shape``, uint8).

        When the ring is full: for a source that waits it blocks; for a real camera it is a scratch array, and
        the frame committed from it is counted as lost. Valid until ``commit``.
        """
        raise NotImplementedError

    def when_stopping(self, wake: Callable[[], None]) -> None:
        """Have ``wake`` called once the recording is to stop, from whichever thread decides that (at once, if so).

        For cameras that push frames and would not notice ``stopping`` while they are silent. ``wake`` must neither
        block nor raise.
        """

    def commit(self, stamp: Stamp) -> None:
        """The array from the last ``slot()`` now holds a whole frame."""
        raise NotImplementedError

    def lost(self, count: int, reason: str, sensor_ns: Optional[int] = None, detail: str = '') -> None:
        """The camera itself knows that frames were lost here (an unpaired eye, a file that breaks off).

        They lie between the frame committed last and the one committed next; what the timestamps show there is
        not counted on top (``LossDetector.reported``). ``count`` 0 reports a defect that lost no known frame.
        ``detail``: more, for people.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class CameraListing:
    """One line of ``ppr cameras``."""

    name: str                        # what to pass as camera=
    description: str
    available: bool
    why_not: str = ''                # when not available: the reason and what to do
    modes: Tuple[str, ...] = ()      # sensor modes where known, such as '1640x1232 up to 40 Hz'


class Camera:
    """Base class of all cameras. Subclass it, or name one of the built-in ones.

    An instance travels to the reader process (under spawn by cloudpickle), so ``__init__`` must not touch the
    hardware; ``open`` does.
    """

    #: The registry's name for it.
    name: ClassVar[str] = ''

    def open(self, request: CameraRequest) -> Granted:
        """Take the hardware and settle size, rate and format. Raises CameraError and its kinds."""
        raise NotImplementedError

    def start(self) -> None:
        """Begin to take frames; called once everything else is ready."""

    def read(self, out: np.ndarray) -> Optional[Stamp]:
        """Wait for the next frame, write it into ``out`` (``Granted.frame_shape``), and return its stamp.

        None: the source has ended. Raises CameraError when it broke.
        """
        raise NotImplementedError

    def stream(self, sink: FrameSink) -> None:
        """Bring frames to the sink until the source ends or the sink is stopping."""
        while not sink.stopping:
            stamp = self.read(sink.slot())
            if stamp is None:
                return
            sink.commit(stamp)

    def close(self) -> None:
        """Give the hardware back. Harmless when called twice, or before ``open``."""

    @classmethod
    def listings(cls) -> List[CameraListing]:
        """What of this kind the machine has, for ``ppr cameras``; never raises for missing hardware."""
        return []


def recorded_size(width: int, height: int, scale_factor: float, stereo: bool) -> Tuple[int, int]:
    """Size of the recorded frames: round(resolution × scale_factor), half up; even width with stereo."""
    scaled_width = int(width * scale_factor + 0.5)
    scaled_height = int(height * scale_factor + 0.5)
    if stereo:
        scaled_width -= scaled_width % 2
    return max(scaled_width, 2 if stereo else 1), max(scaled_height, 1)
