"""What a recording is to be: every argument, checked before any process starts.

The names are those of the README that this project grew from; units stand in the field comments.
"""

from __future__ import annotations

import math
import numbers
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Mapping, Optional, Tuple, Union

from .errors import SettingsError

__all__ = ['DEFAULT_CB_TIMEOUT_S', 'Settings']

CameraSpec = Union[str, Tuple[Any, ...], Any]

DISPLAY_PROCS = ('camera_reader', 'file_writer')
CB_TYPES = ('2Proc', '3Proc')
PIXEL_FORMATS = ('bgr', 'gray')
DELIVERIES = ('every', 'latest')
RECORDS = ('returned', 'raw')
START_METHODS = ('fork', 'spawn')
SUFFIXES = ('.tif', '.tiff', '.btf', '.tf8')

#: A call that takes longer than this counts as hung, unless cb_timeout says otherwise.
DEFAULT_CB_TIMEOUT_S = 10.0
MAX_SIDE = 16384          # pixels; no Raspberry Pi sensor comes near, and a page stays far below 4 GB
MAX_FRAMERATE = 100_000.0
MAX_SHOWN = 200           # characters of a value in a message
MAX_RING_FRAMES = 8192    # the links' pipes hold a record for each slot


@dataclass(frozen=True)
class Settings:
    """A recording's settings, frozen and valid. Raises SettingsError on anything that cannot work."""

    tif_path: Optional[Path] = None
    x_resolution: int = 0                 # sensor pixels, 0 = the camera's default
    y_resolution: int = 0
    scale_factor: float = 1.0             # recorded size / sensor size, 0 < scale_factor <= 1
    framerate: float = 0.0                # Hz, 0 = the camera's default
    rec_length: float = 0.0               # seconds, 0 = until stopped
    display: bool = True
    display_proc: str = 'camera_reader'
    stereo: bool = False
    timestamp: bool = False
    report_Hz: bool = False
    monitor_qs: bool = False
    callback: Optional[Callable[..., Any]] = None
    cb_type: Optional[str] = None
    blocking: bool = True
    write_vid: bool = True
    tif_compression: int = 6              # 0 = none, 1-9 = most effort
    buffer_length: int = 1                # frames
    Hz_buffer: int = 10                   # frames
    log_file: Optional[Path] = None
    camera: CameraSpec = 'auto'
    pixel_format: str = 'bgr'
    ring_frames: Optional[int] = None
    ring_mb: Optional[float] = None       # MB (10**6 bytes)
    cb_delivery: str = 'every'
    cb_timeout: Optional[float] = None    # seconds a call may take before it counts as hung; None = 10
    cb_start_timeout: float = 60.0        # seconds for __enter__ and for the first call, each
    camera_start_timeout: float = 60.0    # seconds for the camera to open, settle and start
    camera_timeout: float = 10.0          # seconds without a frame until the camera counts as stalled
    record: str = 'returned'
    overwrite: bool = False
    split_frames: int = 0                 # frames a file, 0 = one file
    sync_interval: float = 1.0            # seconds between syncs to the disk: what a power cut may cost, about twice
    disk_reserve_mb: Optional[float] = None   # MB that stay free; None = the larger of 1 % of the disk and 200 MB
    metadata: Mapping[str, Any] = field(default_factory=dict)
    camera_controls: Mapping[str, Any] = field(default_factory=dict)
    progress: Optional[Callable[[Any], None]] = None
    start_method: Optional[str] = None

    def __post_init__(self) -> None:
        put = lambda name, value: object.__setattr__(self, name, value)   # noqa: E731 (frozen)
        for name in ('display', 'stereo', 'timestamp', 'report_Hz', 'monitor_qs', 'blocking', 'write_vid',
                     'overwrite'):
            put(name, _flag(name, getattr(self, name)))
        for name, high in (('x_resolution', MAX_SIDE), ('y_resolution', MAX_SIDE)):
            put(name, _integer(name, getattr(self, name), 0, high, '0 for the camera\'s default'))
        put('scale_factor', _scale(self.scale_factor))
        put('framerate', _number('framerate', self.framerate, 0, MAX_FRAMERATE, 'Hz; 0 for the camera\'s default'))
        put('rec_length', _number('rec_length', self.rec_length, 0, math.inf, 'seconds; 0 = until stopped'))
        put('tif_compression', _integer('tif_compression', self.tif_compression, 0, 9,
                                        '0 = none, 9 = most effort'))
        put('buffer_length', _integer('buffer_length', self.buffer_length, 1, 10_000, 'frames'))
        put('Hz_buffer', _integer('Hz_buffer', self.Hz_buffer, 1, 100_000, 'frames'))
        put('split_frames', _integer('split_frames', self.split_frames, 0, 2**31, 'frames a file; 0 = one file'))
        for name, allowed in (('display_proc', DISPLAY_PROCS), ('pixel_format', PIXEL_FORMATS),
                              ('cb_delivery', DELIVERIES), ('record', RECORDS)):
            _one_of(name, getattr(self, name), allowed)
        if self.start_method is not None:
            _one_of('start_method', self.start_method, START_METHODS)
        self._check_resolution()
        self._check_length()
        self._check_callback(put)
        self._check_ring(put)
        put('camera_start_timeout', _number('camera_start_timeout', self.camera_start_timeout, 1, 3600, 'seconds'))
        put('camera_timeout', _number('camera_timeout', self.camera_timeout, 0.1, 86_400, 'seconds'))
        put('sync_interval', _number('sync_interval', self.sync_interval, 0.01, 3600, 'seconds'))
        if self.disk_reserve_mb is not None:
            put('disk_reserve_mb', _number('disk_reserve_mb', self.disk_reserve_mb, 0, 1e9, 'MB'))
        put('metadata', _json_mapping('metadata', self.metadata))
        put('camera_controls', _mapping('camera_controls', self.camera_controls))
        if self.progress is not None and not callable(self.progress):
            raise SettingsError(f'progress must be a function that takes a status, got {_shown(self.progress)}; '
                                'pass a callable or None')
        self._check_paths(put)

    def _check_resolution(self) -> None:
        if bool(self.x_resolution) != bool(self.y_resolution):
            raise SettingsError(f'x_resolution={self.x_resolution} with y_resolution={self.y_resolution}: give both, '
                                'or 0 for both to use the camera\'s default')

    def _check_length(self) -> None:
        # Without a rate, the highest there can be decides; the rest is known only once the camera has been opened.
        if self.rec_length and self.rec_length * (self.framerate or MAX_FRAMERATE) <= 0.5:
            rate = f'at framerate={self.framerate:g} Hz' if self.framerate else 'of any camera'
            raise SettingsError(f'rec_length={self.rec_length:g} s is no more than half a frame {rate}, so there would '
                                'be no frame and no file; use a longer rec_length, or 0 to record until stopped')

    def _check_callback(self, put: Callable[[str, Any], None]) -> None:
        if self.callback is None:
            if self.cb_type is not None:
                _one_of('cb_type', self.cb_type, CB_TYPES)
                raise SettingsError(f'cb_type={self.cb_type!r} without a callback; pass callback=..., '
                                    'or leave cb_type out')
        else:
            if not callable(self.callback):
                raise SettingsError(f'callback must be a function callback(buffer, cb_queue), got '
                                    f'{type(self.callback).__name__}: {_shown(self.callback)}; pass the function '
                                    'itself')
            put('cb_type', '3Proc' if self.cb_type is None else self.cb_type)
            _one_of('cb_type', self.cb_type, CB_TYPES)
        if self.cb_timeout is not None:
            put('cb_timeout', _number('cb_timeout', self.cb_timeout, 0.001, 86_400, 'seconds a call'))
        put('cb_start_timeout', _number('cb_start_timeout', self.cb_start_timeout, 0.1, 86_400, 'seconds'))

    def _check_ring(self, put: Callable[[str, Any], None]) -> None:
        if self.ring_frames is not None and self.ring_mb is not None:
            raise SettingsError(f'ring_frames={_shown(self.ring_frames)} and ring_mb={_shown(self.ring_mb)}: '
                                'give one of them')
        if self.ring_frames is not None:
            put('ring_frames', _integer('ring_frames', self.ring_frames, 4, MAX_RING_FRAMES, 'frames'))
        if self.ring_mb is not None:
            put('ring_mb', _number('ring_mb', self.ring_mb, 0.001, 1e9, 'MB'))

    def _check_paths(self, put: Callable[[str, Any], None]) -> None:
        if self.write_vid and self.tif_path is None:
            raise SettingsError('tif_path is missing: give the path of the TIFF to record, '
                                'or write_vid=False for callback and display only')
        if not self.write_vid and self.callback is None and not self.display:
            raise SettingsError('write_vid=False without a callback and without display leaves nothing to do; '
                                'pass callback=..., display=True or write_vid=True')
        for name in ('tif_path', 'log_file'):
            if getattr(self, name) is not None:
                put(name, _path(name, getattr(self, name)))
        if self.log_file is not None and self.log_file == self.tif_path:
            raise SettingsError(f'log_file and tif_path are the same file: {self.log_file}; give two names')
        if self.write_vid:
            assert self.tif_path is not None
            if self.tif_path.suffix.lower() not in SUFFIXES:
                raise SettingsError(f'tif_path={str(self.tif_path)!r} does not end in .tif, .tiff, .btf or .tf8; '
                                    'the recording is a TIFF, and other programs go by its name')

    def as_dict(self) -> 'dict[str, Any]':
        """The settings as JSON types, to be stored with the recording."""
        out = {}
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            out[name] = value if isinstance(value, (bool, int, float, str, type(None))) else _describe(value)
        return out


def _describe(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _describe(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_describe(item) for item in value]
    if isinstance(value, (bool, int, float, str, type(None))):
        return value
    if isinstance(value, Path):
        return str(value)
    name = getattr(value, '__qualname__', None)
    return f'{value.__module__}.{name}' if name else f'{type(value).__module__}.{type(value).__qualname__}'


def _one_of(name: str, value: Any, allowed: Tuple[str, ...]) -> None:
    # Only a str may be compared: an array would answer with an array.
    if not isinstance(value, str) or value not in allowed:
        raise SettingsError(f'{name}={_shown(value)} is not known; use {" or ".join(repr(item) for item in allowed)}')


def _flag(name: str, value: Any) -> bool:
    if isinstance(value, bool) or (isinstance(value, numbers.Integral) and value in (0, 1)):
        return bool(value)
    kind = type(value).__name__
    # numpy.bool_ is a bool to everyone but isinstance.
    if kind in ('bool_', 'bool'):
        return bool(value)
    raise SettingsError(f'{name} must be True or False, got {_shown(value)}')


def _number(name: str, value: Any, low: float, high: float, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise SettingsError(f'{name} must be a number ({what}), got {_shown(value)}')
    number = _float(value)
    if math.isnan(number) or math.isinf(number) or not low <= number <= high:
        limit = f'at least {low:g}' if math.isinf(high) else f'between {low:g} and {high:g}'
        raise SettingsError(f'{name}={_shown(value)} is out of range; use a number {limit} ({what})')
    return number


def _integer(name: str, value: Any, low: int, high: int, what: str) -> int:
    if _is_whole(value):
        whole = int(value)
        if low <= whole <= high:
            return whole
        raise SettingsError(f'{name}={_shown(value)} is out of range; use a whole number from {low} to {high} '
                            f'({what})')
    raise SettingsError(f'{name} must be a whole number from {low} to {high} ({what}), got {_shown(value)}')


def _is_whole(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return False
    return isinstance(value, numbers.Integral) or _float(value).is_integer()


def _float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        # An int or a fraction has no largest value.
        return math.inf if value > 0 else -math.inf


def _shown(value: Any) -> str:
    """``repr`` for a message: it does not fail, and is not endless."""
    try:
        text = repr(value)
    except Exception:
        # An int of thousands of digits, for one.
        return f'a value of type {type(value).__name__} that cannot be shown'
    return text if len(text) <= MAX_SHOWN else f'{text[:MAX_SHOWN]}… ({len(text)} characters)'


def _scale(value: Any) -> float:
    number = _number('scale_factor', value, 0, 1, 'recorded size / sensor size; 0 < scale_factor <= 1')
    if number == 0:
        raise SettingsError('scale_factor=0 would leave no picture; use a number above 0, up to 1')
    return number


def _mapping(name: str, value: Any) -> 'dict[str, Any]':
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise SettingsError(f'{name} must be a dict with names as keys, got {_shown(value)}')
    return dict(value)


def _json_mapping(name: str, value: Any) -> 'dict[str, Any]':
    import json
    mapping = _mapping(name, value)
    try:
        json.dumps(mapping, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise SettingsError(f'{name} is stored as JSON, and this cannot be: {error}; '
                            'use texts, numbers, lists and dicts') from error
    return mapping


def _path(name: str, value: Any) -> Path:
    try:
        text = os.fspath(value)
    except TypeError:
        raise SettingsError(f'{name} must be a path, got {_shown(value)}') from None
    if isinstance(text, bytes):
        text = os.fsdecode(text)
    if not text or '\0' in text:
        raise SettingsError(f'{name}={_shown(value)} is not a path')
    # Absolute from here on: the script may change its folder while a recording runs.
    return Path(os.path.abspath(os.path.expanduser(text)))
