"""The legacy stack's controls: the common names onto picamera's attributes, and picamera's own ones checked."""

from __future__ import annotations

import numbers
from fractions import Fraction
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Tuple

from ...errors import CameraFormatError
from ..controls import COMMON, CommonControls, split_controls, unsupported
from ..stacks import WARM_UP_LIMITS_S, WARM_UP_S

__all__ = ['Wishes', 'apply', 'freeze', 'in_force', 'wishes']

#: Beyond picamera 1.13's list; firmware from 2018 on (interface/mmal/mmal_parameters_camera.h).
ANALOG_GAIN, DIGITAL_GAIN = 0x59, 0x5A


class _Control(NamedTuple):
    """One of picamera's attributes: what may be given (for messages), and whether a value is that."""

    allowed: str
    suits: Callable[[Any], bool]


def _whole(low: int, high: int, allowed: str = '') -> _Control:
    return _Control(allowed or f'a whole number from {low} to {high}',
                    lambda value: _is_whole(value) and low <= value <= high)


def _is_whole(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


FLAG = _Control('True or False', lambda value: isinstance(value, bool))


def _plain(value: Any) -> Any:
    """Without numpy's numbers, which neither ctypes nor JSON knows."""
    if isinstance(value, (tuple, list)):
        return tuple(map(_plain, value))
    if isinstance(value, (bool, str)):
        return value
    return int(value) if _is_whole(value) else float(value)


def _one_of(*names: str) -> _Control:
    return _Control('one of ' + ', '.join(map(repr, names)), lambda value: isinstance(value, str) and value in names)


def _colors(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == 2 and all(map(_whole(0, 255).suits, value))


#: In the order in which they are set: an effect's parameters belong to the effect of the moment.
NATIVE: Dict[str, _Control] = {
    'sensor_mode': _whole(0, 7, '0 (chosen by size and rate) or one of the sensor\'s own, 1 to 7'),
    'iso': _whole(0, 1600, '0 (automatic) or 100, 200, 320, 400, 500, 640, 800, 1600'),
    'exposure_mode': _one_of('off', 'auto', 'night', 'nightpreview', 'backlight', 'spotlight', 'sports', 'snow',
                             'beach', 'verylong', 'fixedfps', 'antishake', 'fireworks'),
    'exposure_compensation': _whole(-25, 25, 'a whole number of sixths of a stop, -25 to 25'),
    'meter_mode': _one_of('average', 'spot', 'backlit', 'matrix'),
    'awb_mode': _one_of('off', 'auto', 'sunlight', 'cloudy', 'shade', 'tungsten', 'fluorescent', 'incandescent',
                        'flash', 'horizon'),
    'drc_strength': _one_of('off', 'low', 'medium', 'high'),
    'saturation': _whole(-100, 100),
    'sharpness': _whole(-100, 100),
    'image_denoise': FLAG,
    'video_denoise': FLAG,
    'video_stabilization': FLAG,
    'image_effect': _Control('the name of one of PiCamera.IMAGE_EFFECTS, such as \'negative\'',
                             lambda value: isinstance(value, str)),
    'image_effect_params': _Control('a number, or several, as that image_effect needs them', lambda value: all(
        isinstance(one, numbers.Real) for one in (value if isinstance(value, (tuple, list)) else [value]))),
    'color_effects': _Control('(u, v), whole numbers from 0 to 255; (128, 128) is black and white', _colors),
}

OWN = ('warm_up_s', 'freeze')
SUPPORTED = (*COMMON, *NATIVE, *OWN)

#: What cannot be had together, and why.
CONFLICTS = (
    ('gain', 'iso', 'both set the gain'),
    ('exposure_us', 'freeze', 'both fix the exposure'),
    ('gain', 'freeze', 'both fix the gain'),
    ('white_balance', 'freeze', 'both fix the white balance'),
    ('white_balance', 'awb_mode', 'fixed gains need awb_mode \'off\', which they switch on themselves'),
)


class Wishes(NamedTuple):
    """The user's ``camera_controls``, checked."""

    common: CommonControls
    native: Mapping[str, Any]
    warm_up_s: float
    freeze: bool


def wishes(controls: Mapping[str, Any], rate: float, stereo: bool, camera: str) -> Wishes:
    """Check everything that can be checked without the hardware. Raises CameraFormatError."""
    common, native = split_controls(controls, [*NATIVE, *OWN], camera)
    warm_up_s, frozen = native.pop('warm_up_s', WARM_UP_S), native.pop('freeze', False)
    least, most = WARM_UP_LIMITS_S
    if isinstance(warm_up_s, bool) or not isinstance(warm_up_s, (int, float)) or not least <= warm_up_s <= most:
        raise _refused('warm_up_s', warm_up_s, camera, f'seconds, from {least:g} to {most:g}')
    if not isinstance(frozen, bool):
        raise _refused('freeze', frozen, camera, FLAG.allowed)
    for name, value in native.items():
        if not NATIVE[name].suits(value):
            raise _refused(name, value, camera, NATIVE[name].allowed)
        native[name] = _plain(value)
    asked = {**common.given(), **native, **({'freeze': True} if frozen else {})}
    _check_together(asked, camera)
    if common.exposure_us and common.exposure_us > 1e6 / rate:
        raise CameraFormatError(f'exposure_us={common.exposure_us} is longer than a frame at {rate:g} Hz '
                                f'({int(1e6 / rate)} µs); ask for framerate={int(1e7 / common.exposure_us) / 10:g} or '
                                'less, or for a shorter exposure')
    if stereo and common.rotation in (90, 270):
        raise unsupported(f'rotation={common.rotation}', camera, 'two eyes side by side would end up one above the '
                          'other; with stereo use 0 or 180', SUPPORTED)
    return Wishes(common, {name: native[name] for name in NATIVE if name in native}, float(warm_up_s), frozen)


def _check_together(asked: Mapping[str, Any], camera: str) -> None:
    for one, other, why in CONFLICTS:
        if one in asked and other in asked:
            raise CameraFormatError(f'{camera}: {one} and {other} do not go together: {why}; leave one of them out')
    if 'gain' in asked and asked.get('exposure_mode') == 'off':
        # The firmware applies a fixed gain within its automatic exposure, not without (userland, issue 414).
        raise CameraFormatError(f"{camera}: gain and exposure_mode='off' do not go together: 'off' keeps the gain that "
                                'there is; leave exposure_mode out, and give exposure_us for a fixed exposure')


def apply(camera: Any, mmal: Any, asked: Wishes, stereo: bool, name: str) -> None:
    """Set all that was asked on an open PiCamera. Raises CameraFormatError for what it refuses."""
    for attribute, value, told in _attributes(asked.common, stereo):
        _set(camera, attribute, value, told, name)
    if asked.common.gain is not None:
        _fix_gain(camera, mmal, asked.common.gain, name)
    for attribute, value in asked.native.items():
        if attribute != 'sensor_mode':   # PiCamera was made with it: setting it restarts the camera
            _set(camera, attribute, value, (attribute, value, NATIVE[attribute].allowed), name)


def freeze(camera: Any, name: str) -> None:
    """Keep exposure time, gains and white balance as they are now."""
    gains = camera.awb_gains
    for attribute, value in (('shutter_speed', camera.exposure_speed), ('exposure_mode', 'off'), ('awb_mode', 'off'),
                             ('awb_gains', gains)):
        _set(camera, attribute, value, ('freeze', True, 'freeze=False with this firmware'), name)


def in_force(camera: Any) -> Dict[str, Any]:
    """What the camera says of its exposure, as JSON types; what old firmware cannot tell is left out."""
    questions: Dict[str, Callable[[], Any]] = {
        'exposure_us': lambda: int(camera.exposure_speed),
        'analog_gain': lambda: round(float(camera.analog_gain), 4),
        'digital_gain': lambda: round(float(camera.digital_gain), 4),
        'white_balance': lambda: [round(float(gain), 4) for gain in camera.awb_gains],
        'iso': lambda: int(camera.iso),
        'exposure_mode': lambda: camera.exposure_mode,
        'awb_mode': lambda: camera.awb_mode,
    }
    answers = {}
    for name, ask in questions.items():
        try:
            answers[name] = ask()
        except Exception:                # PiCameraError, and KeyError for a mode that picamera has no name for
            pass
    return answers


_Told = Tuple[str, Any, str]     # the control's name and value as the user gave them, and what is allowed


def _attributes(common: CommonControls, stereo: bool) -> List[Tuple[str, Any, _Told]]:
    """picamera's attributes for the common controls."""
    found: List[Tuple[str, Any, _Told]] = []

    def put(control: str, attribute: str, value: Any, allowed: str) -> None:
        found.append((attribute, value, (control, getattr(common, control), allowed)))

    if common.exposure_us is not None:
        put('exposure_us', 'shutter_speed', common.exposure_us, 'what this sensor can do')
    if common.white_balance is not None:
        put('white_balance', 'awb_mode', 'off', 'gains from 0 to 8')
        put('white_balance', 'awb_gains', common.white_balance, 'gains from 0 to 8')
    if common.brightness is not None:
        put('brightness', 'brightness', round(50 + 50 * common.brightness), '-1 to 1')
    if common.contrast is not None:
        put('contrast', 'contrast', round(100 * (common.contrast - 1)), '0 to 2')
    # A StereoPi's boards are mounted such that their pictures come mirrored.
    hflip = stereo if common.hflip is None else common.hflip
    put('hflip', 'hflip', hflip, 'True or False')
    if common.vflip is not None:
        put('vflip', 'vflip', common.vflip, 'True or False')
    if common.rotation is not None:
        put('rotation', 'rotation', common.rotation, '0, 90, 180 or 270')
    if common.roi is not None:
        put('roi', 'zoom', common.roi, '(x, y, width, height) inside (0, 0, 1, 1)')
    return found


def _set(camera: Any, attribute: str, value: Any, told: _Told, name: str) -> None:
    try:
        setattr(camera, attribute, value)
    except Exception as error:           # PiCameraValueError, PiCameraMMALError, and what odd values make of picamera
        raise _refused(told[0], told[1], name, told[2], str(error)) from error


def _fix_gain(camera: Any, mmal: Any, gain: float, name: str) -> None:
    """picamera has no name for it yet; with both gains given, the firmware's automatic changes neither."""
    port = camera._camera.control._port
    for parameter, factor in ((ANALOG_GAIN, gain), (DIGITAL_GAIN, 1)):
        ratio = Fraction(factor).limit_denominator(65536)
        status = mmal.mmal_port_parameter_set_rational(port, mmal.MMAL_PARAMETER_GROUP_CAMERA + parameter,
                                                       mmal.MMAL_RATIONAL_T(ratio.numerator, ratio.denominator))
        if status != mmal.MMAL_SUCCESS:
            raise unsupported('gain', name, 'its firmware is too old to fix the gain; update the system, or use iso '
                              '(100 to 800) in its place', [item for item in SUPPORTED if item != 'gain'])


def _refused(control: str, value: Any, camera: str, allowed: str, said: str = '') -> CameraFormatError:
    return CameraFormatError(f'control {control}={value!r} does not suit {camera}; use {allowed}'
                             + (f' (it says: {said})' if said else ''))
