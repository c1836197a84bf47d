"""The camera controls that both Raspberry Pi stacks know under one set of names.

===============  ======================================================  ==========
name             value                                                   neutral
===============  ======================================================  ==========
exposure_us      exposure time in µs, fixed                              automatic
gain             analogue gain as a factor, from 1, fixed                automatic
white_balance    (red, blue) gains, fixed                                automatic
brightness       -1 … 1                                                  0
contrast         0 … 2                                                   1
hflip, vflip     True or False                                           False
rotation         degrees clockwise: 0, 90, 180, 270                      0
roi              (x, y, width, height), each a fraction of the sensor's  (0, 0, 1, 1)
                 field of view
===============  ======================================================  ==========

A stack's own names ('iso', 'AeMeteringMode', …) may be given beside them and are passed on as they are.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass, fields
from typing import Any, Callable, Dict, Iterable, Mapping, Optional, Tuple

from ..errors import CameraFormatError

__all__ = ['COMMON', 'CommonControls', 'split_controls', 'unsupported']

MAX_EXPOSURE_US = 1_000_000_000      # the longest any sensor offers is some minutes


@dataclass(frozen=True)
class CommonControls:
    """What was asked under the common names; None: leave it as the camera has it."""

    exposure_us: Optional[int] = None
    gain: Optional[float] = None
    white_balance: Optional[Tuple[float, float]] = None
    brightness: Optional[float] = None
    contrast: Optional[float] = None
    hflip: Optional[bool] = None
    vflip: Optional[bool] = None
    rotation: Optional[int] = None
    roi: Optional[Tuple[float, float, float, float]] = None

    def given(self) -> Dict[str, Any]:
        """Those that were asked for, by name."""
        return {name: getattr(self, name) for name in COMMON if getattr(self, name) is not None}


#: The common names, in the order in which they are told.
COMMON = tuple(item.name for item in fields(CommonControls))


def split_controls(controls: Mapping[str, Any], native: Iterable[str],
                   camera: str) -> Tuple[CommonControls, Dict[str, Any]]:
    """The common controls, checked, and the stack's own, as they came.

    Args:
        controls: what the user gave as ``camera_controls``.
        native: the names of its own that this camera takes.
        camera: what to call it in messages.

    Raises CameraFormatError for a name that is neither, and for a common one of a wrong kind or out of its range.
    None as a value is as good as not given.
    """
    native = list(native)
    common: Dict[str, Any] = {}
    own: Dict[str, Any] = {}
    for name, value in controls.items():
        if name not in COMMON and name not in native:
            raise unsupported(name, camera, 'it has none of that name' + _meant(name, [*COMMON, *native]),
                              [*COMMON, *native])
        if value is None:
            continue
        if name in COMMON:
            common[name] = _CHECKS[name](name, value, camera)
        else:
            own[name] = value
    return CommonControls(**common), own


def unsupported(name: str, camera: str, why: str, supported: Iterable[str]) -> CameraFormatError:
    """The error for a control that this camera does not do; it lists those that it does."""
    return CameraFormatError(f'{camera} does not support the control {name!r}: {why}. '
                             f'It supports: {", ".join(supported)}')


def _meant(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(name).lower(), {one.lower(): one for one in known}, 1, 0.75)
    return f' (did you mean {next(one for one in known if one.lower() == near[0])!r}?)' if near else ''


def _bad(name: str, value: Any, camera: str, allowed: str) -> CameraFormatError:
    return CameraFormatError(f'control {name}={value!r} does not suit {camera}; use {allowed}')


def _is_number(value: Any) -> bool:
    """numpy's numbers count too; booleans and text do not."""
    if isinstance(value, (bool, str, bytes)) or not hasattr(value, '__float__') or getattr(value, 'shape', ()) != ():
        return False
    return math.isfinite(float(value))


def _number(low: float, high: float, allowed: str) -> Callable[[str, Any, str], float]:
    def check(name: str, value: Any, camera: str) -> float:
        if not _is_number(value) or not low <= float(value) <= high:
            raise _bad(name, value, camera, allowed)
        return float(value)
    return check


def _exposure(name: str, value: Any, camera: str) -> int:
    if not _is_number(value) or not 1 <= float(value) <= MAX_EXPOSURE_US:
        raise _bad(name, value, camera, 'the exposure time in µs, from 1; leave it out for automatic exposure')
    return round(float(value))


def _flag(name: str, value: Any, camera: str) -> bool:
    if not isinstance(value, (bool, int)) or value not in (0, 1):
        raise _bad(name, value, camera, 'True or False')
    return bool(value)


def _rotation(name: str, value: Any, camera: str) -> int:
    if not _is_number(value) or float(value) not in (0, 90, 180, 270):
        raise _bad(name, value, camera, '0, 90, 180 or 270 degrees, clockwise')
    return int(value)


def _numbers(value: Any, count: int) -> Optional[Tuple[float, ...]]:
    try:
        numbers = tuple(value)
    except TypeError:
        return None
    good = len(numbers) == count and not isinstance(value, str) and all(map(_is_number, numbers))
    return tuple(map(float, numbers)) if good else None


def _white_balance(name: str, value: Any, camera: str) -> Tuple[float, float]:
    gains = _numbers(value, 2)
    if gains is None or not all(0 < gain <= 8 for gain in gains):
        raise _bad(name, value, camera, 'two gains (red, blue), each above 0 and up to 8, such as (1.6, 1.4); leave it '
                                        'out for automatic white balance')
    return gains[0], gains[1]


def _roi(name: str, value: Any, camera: str) -> Tuple[float, float, float, float]:
    box = _numbers(value, 4)
    tolerance = 1e-9                     # 0.7 + 0.3 is not quite 1
    if box is None or min(box[:2]) < 0 or min(box[2:]) <= 0 \
            or box[0] + box[2] > 1 + tolerance or box[1] + box[3] > 1 + tolerance:
        raise _bad(name, value, camera, '(x, y, width, height) as fractions of the field of view, inside (0, 0, 1, 1), '
                                        'such as (0.25, 0.25, 0.5, 0.5) for its middle')
    return box[0], box[1], box[2], box[3]


_CHECKS: Dict[str, Callable[[str, Any, str], Any]] = {
    'exposure_us': _exposure,
    'gain': _number(1, 64, 'a factor from 1 to 64; leave it out for automatic gain'),
    'white_balance': _white_balance,
    'brightness': _number(-1, 1, '-1 to 1; 0 is neutral'),
    'contrast': _number(0, 2, '0 to 2; 1 is neutral'),
    'hflip': _flag,
    'vflip': _flag,
    'rotation': _rotation,
    'roi': _roi,
}
