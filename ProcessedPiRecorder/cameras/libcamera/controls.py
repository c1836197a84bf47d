"""From the controls that the user names to those of libcamera, checked against what this very camera offers."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Tuple

from ...errors import CameraFormatError
from ..controls import COMMON, CommonControls, split_controls, unsupported
from ..stacks import RATE_TOLERANCE, WARM_UP_LIMITS_S, WARM_UP_S

__all__ = ['OWN', 'Asked', 'Plan', 'crop', 'frame_duration_us', 'frozen', 'plan', 'read_own', 'unmet']

Box = Tuple[int, int, int, int]

#: Controls of this camera class itself: name -> (default, least, most, what it is).
OWN: Dict[str, Tuple[float, float, float, str]] = {
    'buffer_count': (8, 2, 64, 'a whole number of frame buffers'),
    'warm_up_s': (WARM_UP_S, *WARM_UP_LIMITS_S,
                  'seconds for exposure and white balance to settle before the first frame'),
}
SENSOR_MODE, FREEZE = 'sensor_mode', 'freeze'

#: The common names and libcamera's; flips and rotation are no controls there but part of the configuration.
NATIVE = {'exposure_us': 'ExposureTime', 'gain': 'AnalogueGain', 'white_balance': 'ColourGains',
          'brightness': 'Brightness', 'contrast': 'Contrast', 'roi': 'ScalerCrop'}
TRANSFORMS = ('hflip', 'vflip', 'rotation')

#: Controls that are several numbers. libcamera ends the whole process when it is given too few, or too many.
ARRAYS = {'ColourGains': 2, 'ColourCorrectionMatrix': 9}
DURATIONS = 'FrameDurationLimits'

MET = 0.1              # sensors count exposure in rows and gain in steps


class Asked(NamedTuple):
    """What concerns the camera class itself."""

    buffer_count: int
    warm_up_s: float
    sensor_mode: Optional[Tuple[int, int]]
    freeze: bool                 # whether the automatics are switched off after the warm-up


class Plan(NamedTuple):
    """What is to be told to libcamera."""

    common: CommonControls
    native: Dict[str, Any]       # by libcamera's names; without the frame duration and the region of interest
    hflip: bool
    vflip: bool


def read_own(controls: Mapping[str, Any], camera: str) -> Asked:
    """The controls of this class, checked. Raises CameraFormatError."""
    values = {}
    for name, (default, least, most, what) in OWN.items():
        value = controls.get(name)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most \
                or (isinstance(default, int) and value != int(value)):
            raise CameraFormatError(f'control {name}={value!r} does not suit {camera}; use {what}, '
                                    f'{least:g} to {most:g}')
        values[name] = value
    mode = controls.get(SENSOR_MODE)
    if mode is not None:
        mode = tuple(mode) if isinstance(mode, (tuple, list)) else mode
        if not isinstance(mode, tuple) or len(mode) != 2 or not all(isinstance(side, int) for side in mode):
            raise CameraFormatError(f'control {SENSOR_MODE}={mode!r} does not suit {camera}; use the (width, height) '
                                    'of one of its sensor modes (`ppr cameras` lists them)')
    freeze = controls.get(FREEZE)
    if freeze not in (None, True, False):
        raise CameraFormatError(f'control {FREEZE}={freeze!r} does not suit {camera}; use True or False')
    return Asked(int(values['buffer_count']), float(values['warm_up_s']), mode, bool(freeze))


def plan(controls: Mapping[str, Any], offered: Mapping[str, Any], camera: str, enums: Any = None,
         ranges: bool = True) -> Plan:
    """What to tell libcamera, from what the user asked.

    Args:
        controls: ``camera_controls``.
        offered: ``Picamera2.camera_controls``: name -> (least, most, default).
        camera: what to call it in messages.
        enums: the module ``libcamera.controls``, whose enumerations may be given by their values' names.
        ranges: whether ``offered`` is already that of the sensor mode to be used, so that values can be checked.

    Raises CameraFormatError for what is unknown, unsupported, out of range, or asked twice.
    """
    own_names = [*OWN, SENSOR_MODE, FREEZE]
    common, native = split_controls(controls, [*own_names, *offered], camera)
    native = {name: value for name, value in native.items() if name not in own_names}
    supported = _supported(offered, own_names)
    _refuse_what_is_not_there(common, offered, camera, supported)
    for name, value in native.items():
        native[name] = _native_value(name, value, offered[name], camera, enums)
        if ranges:
            _require_range(name, native[name], offered[name], camera)
    for name, value in common.given().items():
        target = NATIVE.get(name)
        if target is None:
            continue
        if target in native:
            raise CameraFormatError(f'{name} and {target} are the same control of {camera}; give one of them')
        if name != 'roi':
            native[target] = value
            if ranges:
                _require_range(name, value, offered[target], camera)
    _fix_automatics(native, offered)
    turned = common.rotation == 180
    return Plan(common, native, bool(common.hflip) != turned, bool(common.vflip) != turned)


def frame_duration_us(rate: float, limits: Any, camera: str, exact: bool = True) -> int:
    """The frame duration for ``rate`` Hz within the camera's ``limits`` (least, most, ... µs).

    ``exact`` False: the rate is only our default, and bends to what the camera can. Raises CameraFormatError.
    """
    least, most = (_scalar(limit) for limit in limits[:2])
    wanted = round(1e6 / rate)
    within = min(max(wanted, least), most)
    if exact and abs(within - wanted) > RATE_TOLERANCE * wanted:
        raise CameraFormatError(f'{camera} cannot make {rate:g} Hz here; it can do {1e6 / most:.4g} to '
                                f'{1e6 / least:.4g} Hz at this size, with this sensor mode')
    return int(within)


def crop(roi: Tuple[float, float, float, float], most: Box, size: Tuple[int, int]) -> Box:
    """The region of interest in sensor pixels: within ``roi``, around its middle, of the shape of ``size``.

    A region of another shape would come out stretched.
    """
    left, top, full_width, full_height = most
    width, height = roi[2] * full_width, roi[3] * full_height
    shape = size[0] / size[1]
    width, height = min(width, height * shape), min(height, width / shape)
    x = left + (roi[0] + roi[2] / 2) * full_width - width / 2
    y = top + (roi[1] + roi[3] / 2) * full_height - height / 2
    return round(x), round(y), max(2, round(width)), max(2, round(height))


def frozen(native: Mapping[str, Any], metadata: Mapping[str, Any], offered: Mapping[str, Any]) -> Dict[str, Any]:
    """What makes exposure, gain and white balance stay as they are in a frame, where they are not fixed yet.

    Automatics that were switched on by name ('AeEnable', 'AwbEnable') stay on.
    """
    told: Dict[str, Any] = {}
    for switch, names in (('AeEnable', ('ExposureTime', 'AnalogueGain')), ('AwbEnable', ('ColourGains',))):
        known = all(name in offered and metadata.get(name) for name in names)
        if switch in offered and switch not in native and known:
            told.update({name: metadata[name] for name in names if name not in native})
            told[switch] = False
    return told


def unmet(native: Mapping[str, Any], metadata: Mapping[str, Any], camera: str) -> List[str]:
    """What the frames themselves say was not done as asked: exposure, gain, white balance."""
    told = []
    for name in ('ExposureTime', 'AnalogueGain', 'ColourGains'):
        asked, given = native.get(name), metadata.get(name)
        if not asked or given is None:
            continue
        if any(abs(one - other) > MET * abs(one) for one, other in zip(_flat(asked), _flat(given))):
            told.append(f'{camera} gives {name} {given}, not the {asked} that was asked')
    return told


def _supported(offered: Mapping[str, Any], own: Iterable[str]) -> List[str]:
    common = [name for name in COMMON if name in TRANSFORMS or NATIVE[name] in offered]
    return [*common, *own, *sorted(offered)]


def _refuse_what_is_not_there(common: CommonControls, offered: Mapping[str, Any], camera: str,
                              supported: List[str]) -> None:
    if common.rotation in (90, 270):
        raise unsupported('rotation', camera, f'it cannot turn pictures by {common.rotation}°, only by 180°; turn the '
                          'camera, or the frames in your callback (cv2.rotate)', supported)
    for name in common.given():
        if name in NATIVE and NATIVE[name] not in offered:
            raise unsupported(name, camera, f'it offers no {NATIVE[name]}', supported)


def _fix_automatics(native: Dict[str, Any], offered: Mapping[str, Any]) -> None:
    """Fixed values hold only while the automatics that would change them are off."""
    if 'ColourGains' in native and 'AwbEnable' in offered:
        native.setdefault('AwbEnable', False)
    # With one of the two fixed, the other goes on to follow the light.
    if native.get('ExposureTime') and native.get('AnalogueGain') and 'AeEnable' in offered:
        native.setdefault('AeEnable', False)


def _native_value(name: str, value: Any, limits: Any, camera: str, enums: Any) -> Any:
    if isinstance(value, str):
        return _named_value(name, value, limits, camera, enums)
    value = value.tolist() if hasattr(value, 'tolist') else value      # numpy's numbers are not libcamera's
    least = limits[0]
    if name == DURATIONS:
        return value                     # checked where the rate is
    if isinstance(least, bool):
        if value not in (True, False):
            raise _unsuitable(name, value, limits, camera)
        return bool(value)
    if not _is_number(least) and name != 'ScalerCrop':
        return value                     # sizes, lists of windows
    count = 4 if name == 'ScalerCrop' else ARRAYS.get(name)
    listed = isinstance(value, (tuple, list))
    if listed != (count is not None) or (listed and len(value) != count) or not all(map(_is_number, _flat(value))):
        raise _unsuitable(name, value, limits, camera)
    if isinstance(least, float):
        return value
    if any(one != int(one) for one in _flat(value)):
        raise _unsuitable(name, value, limits, camera)
    return tuple(map(int, value)) if listed else int(value)


def _named_value(name: str, value: str, limits: Any, camera: str, enums: Any) -> int:
    """The number of an enumeration's value."""
    places = (enums, getattr(enums, 'draft', None), getattr(enums, 'rpi', None))
    kinds = (getattr(place, f'{name}Enum', None) for place in places)
    kind = next((kind for kind in kinds if kind is not None), None)
    values = getattr(kind, '__members__', {})
    if value not in values:
        raise _unsuitable(name, value, limits, camera, f'one of {", ".join(map(repr, values))}' if values else '')
    return int(values[value])


def _unsuitable(name: str, value: Any, limits: Any, camera: str, allowed: str = '') -> CameraFormatError:
    least = limits[0]
    whole = '' if isinstance(least, float) else 'whole '
    if not allowed and isinstance(least, bool):
        allowed = 'True or False'
    elif not allowed and name == 'ScalerCrop':
        allowed = '(x, y, width, height), whole sensor pixels'
    elif not allowed:
        allowed = f'{ARRAYS[name]} {whole}numbers' if name in ARRAYS else f'a {whole}number'
    return CameraFormatError(f'control {name}={value!r} does not suit {camera}; use {allowed}')


def _require_range(name: str, value: Any, limits: Any, camera: str) -> None:
    least, most = limits[0], limits[1]
    if name == 'ScalerCrop' and isinstance(value, tuple):
        ends = [(one, one + length, start, start + room)
                for one, length, start, room in zip(value[:2], value[2:], most[:2], most[2:])]
        if not all(low <= first < last <= high for first, last, low, high in ends):
            raise CameraFormatError(f'control ScalerCrop={value!r} is not within what {camera} can show: '
                                    f'(x, y, width, height) inside {tuple(most)}')
    if not (_is_number(least) and _is_number(most)) or most <= least:
        return             # rectangles, sizes, switches; a most of 0 is libcamera's "no limit"
    for one in _flat(value):
        if not _is_number(one) or not least <= one <= most:
            raise CameraFormatError(f'control {name}={value!r} is outside of what {camera} can do: '
                                    f'{least:g} to {most:g}')


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _flat(value: Any) -> Tuple[Any, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


def _scalar(value: Any) -> float:
    return float(_flat(value)[0])
