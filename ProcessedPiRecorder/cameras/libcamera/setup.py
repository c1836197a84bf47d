"""Settling size, format, sensor mode, rate and controls with a libcamera camera, and what it granted of them."""

from __future__ import annotations

import time
from typing import Any, Dict, List, Optional, Tuple

from ...errors import CameraError, CameraFormatError, CameraStalledError
from ..base import CameraRequest, Granted, recorded_size
from ..stacks import DEFAULT_RATE, DEFAULT_SIZE
from .controls import Asked, Plan, crop, frame_duration_us, frozen, plan, read_own, unmet
from .formats import (
    PixelCopy,
    SensorMode,
    choose_format,
    choose_mode,
    even,
    nearest_sizes,
    sensor_modes,
    substitution,
)
from .probe import Evidence, Sample, judge, require_rate
from .session import Session
from .system import explain, plain, reasons, takes

__all__ = ['SetUp']

Size = Tuple[int, int]

FIRST_FRAME_S = 5.0        # a camera may take so long to start, beyond its own frame periods
#: What is worth storing of the last frame before the recording.
FACTS = ('ExposureTime', 'AnalogueGain', 'DigitalGain', 'ColourGains', 'ColourTemperature', 'FrameDuration', 'Lux',
         'ScalerCrop', 'SensorTemperature', 'LensPosition')


class SetUp:
    """One negotiation. ``run`` leaves the camera running, warmed up, and returns what was granted.

    Attributes:
        copy: brings a buffer's pixels into an array of ``Granted.frame_shape``.
        metadata: that of the last frame of the warm-up.
    """

    copy: PixelCopy

    def __init__(self, session: Session, request: CameraRequest) -> None:
        self.metadata: Dict[str, Any] = {}
        self._session, self._request = session, request
        self._picam2, self._libcamera = session.picam2, session.stack.libcamera
        self._name = str(session.camera)
        self._warnings: List[Tuple[str, str]] = []
        self._modes: List[SensorMode] = []

    def run(self) -> Granted:
        """Takes about warm_up_s, and a second or two more on a Pi. Raises CameraError and its kinds."""
        asked = read_own(self._request.controls, self._name)
        size = self._asked_size()
        controls = self._plan(ranges=False)
        own_durations = controls.native.get('FrameDurationLimits')
        if own_durations is not None:
            _require_durations(own_durations, self._request.framerate, self._name)
        mode = self._sensor_mode(asked, size, controls)
        frame_size, size = self._configure(asked, controls, mode, size)
        controls = self._plan()                  # some have ranges that depend on the sensor mode
        duration_us = self._frame_duration(controls)
        self._tell_controls(controls, duration_us, frame_size)
        self._session.start()
        evidence = self._warm_up(asked, duration_us)
        self._require_as_asked(controls)
        if asked.freeze:
            self._picam2.set_controls(frozen(controls.native, self.metadata, self._picam2.camera_controls))
        return self._granted(asked, size, frame_size, mode, evidence)

    # -- size and format

    def _asked_size(self) -> Size:
        request = self._request
        if not request.width:
            return DEFAULT_SIZE
        size = even((request.width, request.height))
        if size != (request.width, request.height):
            self._warnings.append(('ResolutionRoundedWarning',
                                   f'{self._name} has even sizes only: {request.width}x{request.height} became '
                                   f'{size[0]}x{size[1]}'))
        return size

    def _sensor_mode(self, asked: Asked, size: Size, controls: Plan) -> Optional[SensorMode]:
        """None where the camera has no modes to choose from (webcams)."""
        modes = self._modes = self._sensor_modes()
        if not modes:
            if asked.sensor_mode:
                raise CameraFormatError(f'{self._name} has no sensor modes to choose from; leave sensor_mode out')
            return None
        largest = max(mode.width for mode in modes), max(mode.height for mode in modes)
        if size[0] > largest[0] or size[1] > largest[1]:
            raise CameraFormatError(f'{size[0]}x{size[1]} is more than the sensor of {self._name} has: '
                                    f'{largest[0]}x{largest[1]}')
        if asked.sensor_mode:
            named = [mode for mode in modes if mode.size == asked.sensor_mode]
            if not named:
                raise CameraFormatError(f'{self._name} has no sensor mode {asked.sensor_mode}; it has '
                                        f'{", ".join(dict.fromkeys(map(str, modes)))}')
            return max(named, key=lambda mode: mode.bit_depth)
        own = controls.native.get('FrameDurationLimits')
        # When no rate was asked, ours is only a wish.
        rate = self._request.framerate or (1e6 / max(1, own[0]) if own else
                                           min(DEFAULT_RATE, max(mode.rate for mode in modes)))
        mode, warning = choose_mode(modes, size, rate, self._name)
        if warning:
            self._warnings.append(('AutomaticChoiceWarning', warning))
        return mode

    def _sensor_modes(self) -> List[SensorMode]:
        try:
            return sensor_modes(self._picam2.sensor_modes)
        except Exception as error:     # it configures each mode, with buffers, for which there may not be memory enough
            self._warnings.append(('AutomaticChoiceWarning',
                                   f'{self._name} does not tell its sensor modes ({reasons(error)}), so libcamera '
                                   'chose one, which may show only a part of the field of view'))
            return []

    def _configure(self, asked: Asked, controls: Plan, mode: Optional[SensorMode], size: Size) -> Tuple[Size, Size]:
        """(size of the frames, sensor pixels that they stand for), both as granted.

        The camera's own resizer is asked first, and then the whole size, which the pipeline makes smaller.
        """
        offered = self._offered()
        pixel_format = self._request.pixel_format
        taken = choose_format(map(str, offered.pixel_formats), pixel_format, self._name)
        given = size
        for wanted in dict.fromkeys((recorded_size(*size, self._request.scale_factor, False), size)):
            if wanted == even(wanted):
                given = self._try(asked, controls, mode, taken, wanted)
                if given == wanted:
                    return given, size
        if self._request.width:
            sizes = [(one.width, one.height) for one in offered.sizes(self._libcamera.PixelFormat(taken))]
            near = ', '.join(f'{width}x{height}' for width, height in nearest_sizes([given, *sizes], size))
            raise CameraFormatError(f'{self._name} does not give {size[0]}x{size[1]} pixels; the nearest that it '
                                    f'gives: {near} (scale_factor makes them smaller)')
        return given, given

    def _offered(self) -> Any:
        return self._picam2.camera.generate_configuration([self._libcamera.StreamRole.Viewfinder]).at(0).formats

    def _try(self, asked: Asked, controls: Plan, mode: Optional[SensorMode], taken: str, size: Size) -> Size:
        """Configure the camera for frames of this size; returns the size that it made of it."""
        picam2, library = self._picam2, self._libcamera
        # Gray is the brightness plane as it comes: full range. OpenCV converts colour as broadcast has it.
        colours = library.ColorSpace.Sycc() if self._request.pixel_format == 'gray' else library.ColorSpace.Smpte170m()
        options: Dict[str, Any] = {} if taken.startswith(('RGB', 'BGR', 'X')) else {'colour_space': colours}
        # No raw stream: it would take the larger part of the memory for buffers. But an older picamera2 knows the
        # sensor mode by nothing else.
        options['raw'] = None
        if mode is not None and takes(picam2.create_video_configuration, 'sensor'):
            options['sensor'] = {'output_size': mode.size, 'bit_depth': mode.bit_depth}
        elif mode is not None:
            options['raw'] = {'size': mode.size}
        try:
            # No queue: picamera2 would keep a buffer back for whoever asks for the newest frame.
            configuration = picam2.create_video_configuration(
                main={'format': taken, 'size': size}, display=None, encode=None, queue=False,
                buffer_count=asked.buffer_count, **options,
                transform=library.Transform(hflip=int(controls.hflip), vflip=int(controls.vflip)))
            picam2.configure(configuration)
        except Exception as error:
            raise explain(error, self._session.camera, f'set to {size[0]}x{size[1]} {taken}') from error
        return self._check_configuration(controls, taken)

    def _check_configuration(self, controls: Plan, taken: str) -> Size:
        granted = self._picam2.camera_configuration()
        main, transform = granted['main'], granted['transform']
        if main['format'] != taken:
            raise CameraFormatError(f'{self._name} offers {taken} and then gives {main["format"]}; that is a defect of '
                                    'its driver: update the system')
        if (bool(transform.hflip), bool(transform.vflip)) != (controls.hflip, controls.vflip):
            raise CameraFormatError(f'{self._name} cannot mirror or turn its pictures (hflip, vflip, rotation=180); do '
                                    'it in your callback: cv2.flip')
        self.copy = PixelCopy(taken, main['size'], main['stride'], self._request.pixel_format)
        return int(main['size'][0]), int(main['size'][1])

    # -- controls and rate

    def _plan(self, ranges: bool = True) -> Plan:
        return plan(self._request.controls, self._picam2.camera_controls, self._name, self._libcamera.controls, ranges)

    def _frame_duration(self, controls: Plan) -> Optional[int]:
        """The fixed frame duration to ask for, µs; None where it is not ours to set."""
        limits = self._picam2.camera_controls.get('FrameDurationLimits')
        if 'FrameDurationLimits' in controls.native or limits is None:
            return None
        rate = self._request.framerate or DEFAULT_RATE
        duration = frame_duration_us(rate, limits, self._name, exact=bool(self._request.framerate))
        exposure = controls.common.exposure_us
        if exposure is not None and exposure > duration:
            raise CameraFormatError(f'exposure_us={exposure} is longer than a frame at {1e6 / duration:.4g} Hz '
                                    f'({duration} µs); expose for a shorter time, or lower the framerate')
        return duration

    def _tell_controls(self, controls: Plan, duration_us: Optional[int], size: Size) -> None:
        picam2 = self._picam2
        told = dict(controls.native)
        if duration_us is not None:
            told['FrameDurationLimits'] = (duration_us, duration_us)
        if controls.common.roi is not None:
            told['ScalerCrop'] = crop(controls.common.roi, picam2.camera_controls['ScalerCrop'][1], size)
        # A Pi 5 has one region for each stream; picamera2 sets that, and it would go before ours.
        if 'ScalerCrop' in told and 'ScalerCrops' in picam2.camera_controls:
            told['ScalerCrops'] = [told.pop('ScalerCrop')]
        picam2.set_controls(told)

    def _warm_up(self, asked: Asked, duration_us: Optional[int]) -> Evidence:
        began = time.monotonic()
        period_s = (duration_us or 0) / 1e6
        patience_s = asked.warm_up_s + FIRST_FRAME_S + 5 * period_s
        enough = 3 if period_s < 1 else 2
        samples: List[Sample] = []
        while time.monotonic() - began < asked.warm_up_s or len(samples) < enough:
            if time.monotonic() - began > patience_s:
                raise CameraStalledError(f'{self._name} opens, but sent {len(samples)} frames in {patience_s:.1f} s; '
                                         'check its ribbon cable and its power supply, and look at `dmesg`')
            if not self._session.wait():
                continue
            arrived = time.monotonic_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            metadata = self._session.take()
            if metadata is None:
                raise CameraError(f'{self._name} was closed while it warmed up')
            self.metadata = metadata
            samples.append(Sample(metadata.get('SensorTimestamp'), metadata.get('FrameDuration'), *arrived))
        return judge(samples, duration_us)

    def _require_as_asked(self, controls: Plan) -> None:
        problems = unmet(controls.native, self.metadata, self._name)
        if problems:
            raise CameraFormatError(f'{"; ".join(problems)}; ask for what it can give, or leave it out')

    # -- the outcome

    def _granted(self, asked: Asked, size: Size, frame_size: Size, mode: Optional[SensorMode],
                 evidence: Evidence) -> Granted:
        require_rate(self._request.framerate, evidence.rate, self._name)
        taken = self._picam2.camera_configuration()['main']['format']
        loss = substitution(taken, self._request.pixel_format)
        if loss:
            self._warnings.append(('FormatSubstitutedWarning', f'{self._name} gives no BGR; it is made from {taken}, '
                                   f'which has {loss}'))
        return Granted(*size, *frame_size, evidence.rate, self._request.pixel_format, evidence.clock,
                       evidence.loss_detection, clock_base=evidence.clock_base, model=self._session.camera.model,
                       details=self._details(asked, mode), warnings=tuple(self._warnings))

    def _details(self, asked: Asked, mode: Optional[SensorMode]) -> Dict[str, Any]:
        camera, configuration = self._session.camera, self._picam2.camera_configuration()
        main = configuration['main']
        return {
            'stack': 'libcamera', **self._session.stack.versions, 'number': camera.number, 'id': camera.id,
            'location': camera.location, 'format': main['format'], 'frame_size': plain(main['size']),
            'stride': main['stride'], 'colour_space': str(configuration['colour_space']),
            'raw_format': plain((configuration.get('raw') or {}).get('format')),
            'sensor': plain(configuration.get('sensor')), 'sensor_mode': None if mode is None else str(mode),
            'field_of_view': self._field_of_view(), 'buffer_count': asked.buffer_count, 'frozen': asked.freeze,
            'at_start': {name: plain(self.metadata[name]) for name in FACTS if name in self.metadata}}

    def _field_of_view(self) -> Optional[List[float]]:
        """(x, y, width, height) of what the frames show, as fractions of the widest that the sensor can show."""
        shown = self.metadata.get('ScalerCrop')
        if not shown or not self._modes:
            return None
        left, top, width, height = max(self._modes, key=lambda mode: mode.view).box
        return [round(value, 4) for value in ((shown[0] - left) / width, (shown[1] - top) / height,
                                              shown[2] / width, shown[3] / height)]


def _require_durations(durations: Any, framerate: float, camera: str) -> None:
    if framerate:
        raise CameraFormatError('framerate and FrameDurationLimits are the same; give one of them')
    good = isinstance(durations, (tuple, list)) and len(durations) == 2 \
        and all(isinstance(one, int) for one in durations) and 0 < durations[0] <= durations[1]
    if not good:
        raise CameraFormatError(f'control FrameDurationLimits={durations!r} does not suit {camera}; use (shortest, '
                                'longest) in µs, such as (25000, 40000)')
