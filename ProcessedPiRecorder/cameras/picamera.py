"""The Raspberry Pi's camera, and the StereoPi, through the legacy stack (the package picamera, MMAL)."""

from __future__ import annotations

import logging
import time
import warnings
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

from ..errors import CameraError, CameraFormatError, CameraNotFoundError, MissingExtraError, RecorderError
from .base import Camera, CameraListing, CameraRequest, FrameSink, Granted, recorded_size
from .mmal.controls import Wishes, apply, freeze, in_force, wishes
from .mmal.frames import Frames, align, period_us
from .stacks import DEFAULT_RATE, DEFAULT_SIZE, RATE_TOLERANCE, holders, missing, pi_model

__all__ = ['PicameraCamera']

log = logging.getLogger(__name__)

DEFAULT_STEREO_SIZE = (1280, 480)
MIN_RATE = 0.2            # Hz; below, measuring the true rate takes longer than a start may
#: So long frames must have been seen before the rate counts as measured; and so many periods where they are long.
MEASURE_S = 0.4
MIN_PERIODS = 3
SUSPECT = 1.5             # times the period that was set: a slower sensor, or losses?
SILENCE_S = 5.0           # without a first frame for so long, there is none to come

CLOCK = ("the sensor frame's start as the camera firmware stamps it (PTS, in whole µs) on its own clock (STC), which "
         "was compared with CLOCK_MONOTONIC once, at the start, and drifts against it by some millionths")

NO_LIBRARIES = ("the package picamera is here, but the system's libraries behind it are not ({error}): this system has "
                "no legacy camera stack. On 32-bit Raspberry Pi OS Bullseye enable it with  sudo raspi-config  "
                "(Interface Options, Legacy Camera); on 64-bit systems and from Bookworm on use camera='picamera2'")

#: What is known of sensors: (size, highest rate in Hz); the documentation of picamera and of the sensors' drivers.
KNOWN_MODES: Dict[str, Tuple[Tuple[str, int], ...]] = {
    'ov5647': (('1920x1080', 30), ('2592x1944', 15), ('1296x972', 42), ('1296x730', 49), ('640x480', 90)),
    'imx219': (('1920x1080', 30), ('3280x2464', 15), ('1640x1232', 40), ('1640x922', 40), ('1280x720', 90),
               ('640x480', 90)),
    'imx477': (('2028x1080', 50), ('2028x1520', 50), ('4056x3040', 10), ('1332x990', 120)),
}


class _Size(NamedTuple):
    """Sizes in pixels on the way from the sensor to us."""

    width: int               # what the camera is set to; both eyes together with stereo
    height: int
    resize: Optional[Tuple[int, int]]      # what its resizer is asked for; None: it is not needed


class PicameraCamera(Camera):
    """A Pi camera module, or the two of a StereoPi, through picamera 1.13 and the firmware behind it.

    Args:
        number: which camera module, 0 or 1 (only Compute Modules have two).

    *Every* frame: the camera records raw video, and each of its buffers is copied into the ring in the firmware's own
    thread. 0x0 is 1280x720, with stereo 1280x480, and framerate 0 is 30 Hz or what the sensor does at that size. Other
    sizes are rounded to the nearest multiple of 16 (width with stereo: 32), never beyond the sensor, with a
    ResolutionRoundedWarning. ``scale_factor`` is done by the GPU, in steps of 32x16 pixels; the pipeline does the rest.

    ``open`` takes as long as the warm-up, in which exposure and white balance settle and the sensor's true rate is
    measured; where that is not the rate that was asked (the firmware says nothing of it) it raises CameraFormatError.
    Losses are seen in the sensor's own times (loss_detection 'fixed_rate').

    ``camera_controls``: the common ones (``controls.py``); of picamera's own ``iso``, ``exposure_mode``, ``awb_mode``,
    ``meter_mode``, ``sensor_mode`` and more; ``warm_up_s`` (1); ``freeze`` (True: after the warm-up exposure, gains
    and white balance stay as they are). ``stereo=True`` mirrors each eye, as a StereoPi needs it, unless
    ``hflip=False``.
    """

    name = 'picamera'

    def __init__(self, number: Any = 0) -> None:
        self.number = int(number)
        self._stack: Any = None
        self._camera: Any = None
        self._frames: Optional[Frames] = None
        self._statistics: Dict[str, Any] = {}

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.number})'

    def open(self, request: CameraRequest) -> Granted:
        self.close()
        stack = self._stack = load_stack()
        rate = request.framerate or DEFAULT_RATE
        if rate < MIN_RATE:
            raise CameraFormatError(f'{self._title} cannot do framerate={rate:g} Hz; use {MIN_RATE:g} Hz or more')
        asked = wishes(request.controls, rate, request.stereo, self._title)
        module = self._module(stack.camera_modules(), request.stereo)
        size = _size(request, module.width, module.height)
        try:
            self._start_recording(request, size, rate, asked)
            period = self._warm_up(asked, rate)
            if not request.framerate and period > SUSPECT * 1e6 / rate:
                period = self._at_own_rate(request, size, period)
            granted = self._granted(request, size, asked, module.model, period)
        except BaseException as error:
            self.close()
            explained = _explain(stack, error, f'{self._title} at {size.width}x{size.height}, {rate:g} Hz')
            if explained is None:
                raise
            raise explained from error
        return granted

    def stream(self, sink: FrameSink) -> None:
        """The frames come in the firmware's thread; this one sleeps until the end."""
        frames = self._frames
        if frames is None or self._camera is None:
            raise CameraError('stream() before open(): open the camera first')
        frames.flow(sink)
        try:
            frames.wait_for(sink)
        except self._stack.picamera.PiCameraError as error:
            raise CameraError(f'{self._title} broke off ({error}): its ribbon cable may be loose at either end (touch '
                              'it with the power off only), or the power supply too weak') from error
        finally:
            frames.stem()
        self._note_end(frames)

    def close(self) -> None:
        """Give the camera back to the firmware, which otherwise may keep it until the next reboot."""
        camera, self._camera = self._camera, None
        if self._frames is not None:
            self._frames.end()
        if camera is not None:
            # Each on its own: picamera's close() gives up half-way where an encoder has an error to tell.
            for step in (camera.stop_recording, camera.close):
                try:
                    step()
                except Exception as error:
                    log.debug('%s while closing %s: %s', type(error).__name__, self._title, error)

    def statistics(self) -> Dict[str, Any]:
        """How many frames came from the firmware ('delivered'), how many of them damaged; the sensor's rate and the
        exposure at the end; how far the two clocks drifted apart. Asks nothing of the hardware, which may hang."""
        frames = self._frames
        counts = {} if frames is None else {'delivered': frames.delivered, 'damaged': frames.broken}
        return {**self._statistics, **counts}

    @classmethod
    def listings(cls) -> List[CameraListing]:
        about = 'a Raspberry Pi camera module, legacy stack'
        try:
            modules = load_stack().camera_modules()
        except RecorderError as error:
            return [CameraListing(cls.name, about, False, str(error))]
        if not modules:
            return [CameraListing(cls.name, about, False, NO_MODULE)]
        also = '; both side by side with stereo=True' if len(modules) > 1 else ''
        return [CameraListing(f'{cls.name}:{number}', f'{module.model}, {module.width}x{module.height}, legacy stack'
                              + also, True, modes=_modes(module.model)) for number, module in enumerate(modules)]

    # -- opening

    @property
    def _title(self) -> str:
        return f"camera='{self.name}:{self.number}'"

    def _module(self, modules: List[Any], stereo: bool) -> Any:
        if not modules:
            raise CameraNotFoundError(f'{self._title}: {NO_MODULE}')
        if self.number >= len(modules) or self.number < 0:
            found = ', '.join(f'{self.name}:{number} ({module.model})' for number, module in enumerate(modules))
            raise CameraNotFoundError(f'there is no {self._title}; the firmware sees {found}. A second camera needs a '
                                      'Compute Module or a StereoPi; check its ribbon cable with the power off')
        if stereo and len(modules) < 2:
            raise CameraNotFoundError(f'stereo=True needs two camera modules on one board (a StereoPi), and the '
                                      f'firmware sees one ({modules[0].model}); check the ribbon cable of the other '
                                      'with the power off, or record with stereo=False')
        return modules[self.number]

    def _start_recording(self, request: CameraRequest, size: _Size, rate: float, asked: Wishes) -> None:
        stereo = {'stereo_mode': 'side-by-side', 'stereo_decimate': False} if request.stereo else {}
        with quiet():
            self._camera = self._stack.DirectCamera(
                self._fail, camera_num=self.number, resolution=size[:2], framerate=rate, clock_mode='raw',
                sensor_mode=asked.native.get('sensor_mode', 0), **stereo)
            apply(self._camera, self._stack.mmal, asked, request.stereo, self._title)
        self._let_flow(request, size)

    def _fail(self, error: BaseException) -> None:
        if self._frames is not None:
            self._frames.fail(error)

    def _let_flow(self, request: CameraRequest, size: _Size) -> None:
        frames = self._frames = Frames()
        with quiet():
            # From its resizer BGR would come by way of Python, byte by byte.
            raw = 'yuv' if request.pixel_format == 'gray' else 'bgr' if size.resize is None else 'bgra'
            self._camera.start_recording(frames, format=raw, resize=size.resize)

    def _warm_up(self, asked: Wishes, rate: float) -> float:
        """Wait until exposure has settled and the rate is known; returns the frame period in µs."""
        assert self._frames is not None
        self._frames.wait(asked.warm_up_s)
        if asked.freeze:
            freeze(self._camera, self._title)
        return self._measure(rate)

    def _at_own_rate(self, request: CameraRequest, size: _Size, period: float) -> float:
        """A sensor at its own lower rate, and one that loses every second frame on the way, look the same.

        But told to run at what was found, the first goes on as before. Returns the frame period in µs.
        """
        found = round(1e6 / period, 3)
        self._camera.stop_recording()
        with quiet():
            self._camera.framerate = found
        self._let_flow(request, size)
        again = self._measure(found)
        if again > SUSPECT * period:
            raise CameraError(f'{self._title} at {size.width}x{size.height} sends {found:g} frames a second when it is '
                              f'set to {DEFAULT_RATE:g} Hz, and {1e6 / again:.4g} when it is set to {found:g}: it '
                              'loses frames all the time. Ask for a lower framerate or another size, and check its '
                              'ribbon cable and power')
        return again

    def _measure(self, rate: float) -> float:
        assert self._frames is not None
        periods = max(MIN_PERIODS, round(MEASURE_S * rate))
        deadline = time.monotonic() + SILENCE_S + 2 * periods / rate
        while len(self._frames.arrivals) <= periods and time.monotonic() < deadline and not self._frames.wait(1 / rate):
            pass
        stamps = list(self._frames.arrivals)
        if not stamps and self._frames.untimed:
            raise CameraError(f'{self._title} sends frames without times, so that nobody could see whether any are '
                              'lost; update the system and its firmware')
        if not stamps:
            raise CameraError(f'{self._title} is there but sends no picture; check its ribbon cable, at both ends and '
                              'with the power off')
        # The first frames after a start may come irregularly.
        period = period_us(stamps[len(stamps) // 3:])
        if period is None:
            raise CameraError(f'{self._title} sent {len(stamps)} frames in the time of {periods}, too few to measure '
                              'its rate; ask for a higher framerate, or check cable and power')
        self._frames.period_us = period
        return period

    def _granted(self, request: CameraRequest, size: _Size, asked: Wishes, model: str, period: float) -> Granted:
        assert self._frames is not None
        rate = round(1e6 / period, 3)
        if request.framerate and abs(rate - request.framerate) > RATE_TOLERANCE * request.framerate:
            known = f' (known modes of the {model}: {", ".join(_modes(model))})' if _modes(model) else ''
            raise CameraFormatError(f'the sensor runs at {rate:.1f} Hz at {size.width}x{size.height}, not at the '
                                    f'{request.framerate:g} asked for; ask for framerate={rate:.4g}, or for another '
                                    f'size{known}')
        layout = self._frames.layout
        offset_ns, uncertainty_ns = clock_offset(self._camera)
        self._statistics = {'clock_offset_at_start_ns': offset_ns, 'clock_offset_uncertainty_ns': uncertainty_ns}
        details = {
            'stack': 'picamera', 'camera_number': self.number, 'sensor': model, 'board': pi_model(),
            'stereo_mode': 'side-by-side' if request.stereo else 'none',
            'sensor_mode': int(self._camera.sensor_mode), 'warm_up_s': asked.warm_up_s, 'measured_hz': rate,
            'asked_hz': request.framerate, 'resized_by_gpu': size.resize is not None,
            'camera_controls': {**asked.common.given(), **asked.native, 'freeze': asked.freeze},
            'flips': {'hflip': bool(self._camera.hflip), 'vflip': bool(self._camera.vflip)},
            'in_force': in_force(self._camera)}
        return Granted(size.width, size.height, layout.width, layout.height, rate, request.pixel_format, CLOCK,
                       'fixed_rate', clock_base='own', clock_offset_ns=offset_ns, model=model, details=details,
                       warnings=_rounded(request, size))

    def _note_end(self, frames: Frames) -> None:
        """Keep what statistics() tells. A camera that has gone silent is not asked: it might never answer."""
        self._statistics['sensor_hz'] = frames.rate
        camera = self._camera
        if camera is None or not frames.is_alive:
            return
        try:
            offset_ns, _ = clock_offset(camera)
            self._statistics.update(in_force_at_end=in_force(camera), clock_offset_at_end_ns=offset_ns)
        except Exception as error:       # closed by another thread at this moment, or gone
            log.debug('%s cannot tell its settings at the end: %s', self._title, error)


NO_MODULE = ('the firmware sees no camera module; check the ribbon cable at both ends (with the power off), enable the '
             'camera with  sudo raspi-config,  and look what  vcgencmd get_camera  says')


def load_stack() -> Any:
    """The module mmal.stack, with the package picamera behind it. Only in a process that is not forked later."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')      # a package from 2017 on a Python of today
            from .mmal import stack
    except ImportError as error:
        if error.name != 'picamera':
            raise CameraError(f'the package picamera cannot be loaded: {error}') from error
        raise missing('picamera') or MissingExtraError("camera='picamera'", 'picamera', 'picamera') from error
    except OSError as error:
        raise CameraNotFoundError(NO_LIBRARIES.format(error=error)) from error
    return stack


@contextmanager
def quiet() -> Iterator[None]:
    """Without picamera's own warnings: what they tell of (sizes, formats) is dealt with here."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        yield


def clock_offset(camera: Any) -> Tuple[int, int]:
    """(what to add to the firmware's time to get CLOCK_MONOTONIC, how wrong that may be), in ns."""
    best: Optional[Tuple[int, int]] = None
    for _ in range(9):                   # the quickest was not interrupted
        before = time.monotonic_ns()
        firmware_ns = camera.timestamp * 1000
        after = time.monotonic_ns()
        if best is None or after - before < best[1]:
            best = ((before + after) // 2 - firmware_ns, after - before)
    assert best is not None
    return best


def _size(request: CameraRequest, sensor_width: int, sensor_height: int) -> _Size:
    default = DEFAULT_STEREO_SIZE if request.stereo else DEFAULT_SIZE
    asked = (request.width, request.height) if request.width else default
    # With stereo the limit holds for both eyes together: the firmware hangs or refuses beyond it.
    width = _round(asked[0], 32 if request.stereo else 16, sensor_width)
    height = _round(asked[1], 16, sensor_height)
    wanted = recorded_size(width, height, request.scale_factor, request.stereo)
    gpu = align(wanted[0], 32), align(wanted[1], 16)
    return _Size(width, height, gpu if gpu[0] < width and gpu[1] < height else None)


def _round(asked: int, block: int, limit: int) -> int:
    """The nearest multiple of block, half up; at least one, and none beyond the limit."""
    return max(1, min((asked + block // 2) // block, limit // block)) * block


def _rounded(request: CameraRequest, size: _Size) -> Tuple[Tuple[str, str], ...]:
    if request.width in (0, size.width) and request.height in (0, size.height):
        return ()
    return (('ResolutionRoundedWarning',
             f'{request.width}x{request.height} pixels were asked for, and the camera takes {size.width}x'
             f'{size.height}: multiples of {32 if request.stereo else 16}x16 within its sensor'),)


def _modes(model: str) -> Tuple[str, ...]:
    return tuple(f'{size} up to {rate} Hz' for size, rate in KNOWN_MODES.get(model.lower(), ()))


def _explain(stack: Any, error: BaseException, what: str) -> Optional[CameraError]:
    """One of picamera's errors in words that help; None for any other error, which goes on as it is."""
    if not isinstance(error, stack.picamera.PiCameraError):
        return None
    status = getattr(error, 'status', getattr(error.__context__, 'status', None))
    if status in (stack.mmal.MMAL_ENOMEM, stack.mmal.MMAL_ENOSPC):
        return CameraError(
            f'{what} cannot be started ({error}). Either another program has the camera{_holders(stack.VCHIQ)}: end '
            f'it (sudo fuser -v {stack.VCHIQ} shows who; a camera program that was killed may need a reboot); or the '
            'GPU is short of memory: set gpu_mem=128 (256 for stereo) in config.txt and reboot, or ask for a smaller '
            'size')
    if status == stack.mmal.MMAL_EINVAL or isinstance(error, ValueError):
        return CameraFormatError(f'{what}: the firmware refuses this ({error}); ask for another size or rate')
    return CameraError(f'{what} cannot be started: {error}. Check the ribbon cable, at both ends and with the power '
                       'off, and that  vcgencmd get_camera  sees it')


def _holders(device: str) -> str:
    found = '; '.join(f'{name}, pid {number}' for name, number in holders(device))
    return f' (using the firmware now: {found})' if found else ''
