"""From what the user passes as ``camera=`` to a camera object; nothing is imported before it is asked for.

What may be passed::

    'auto'                      an attached Raspberry Pi camera; never a webcam, never synthetic
    'picamera2', 'picamera2:1'  a Raspberry Pi camera through libcamera
    'picamera'                  the same, or a StereoPi, through the legacy stack
    'synthetic'                 the seeded camera with known frames
    'opencv:0', '/dev/video0'   a webcam
    'rtsp://...', 'http://...'  a stream
    'clip.mp4', 'file:clip.mp4' a video file: every frame, none twice
    'trial.tif', 'replay:...'   a recording of ours, played again
    'name' or 'name:argument'   a third party's, by entry point (group 'ProcessedPiRecorder.cameras')
    a Camera instance           the user's own subclass of ``ProcessedPiRecorder.cameras.Camera``
    (left, right)               two of these with stereo=True: paired by time, side by side

A third party's entry point names a Camera subclass, or a function that returns a Camera; it is called without
arguments for 'name' and with one text for 'name:argument'.
"""

from __future__ import annotations

import importlib
import logging
import os
import re
import stat
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from ..errors import CameraError, CameraNotFoundError, MissingExtraError, SettingsError
from .auto import none_here
from .base import Camera, CameraListing
from .stacks import INSTEAD, STACKS, is_installed, missing

__all__ = ['BUILT_IN', 'ENTRY_POINT_GROUP', 'Entry', 'check', 'listings', 'resolve']

log = logging.getLogger(__name__)

ENTRY_POINT_GROUP = 'ProcessedPiRecorder.cameras'


class Entry(NamedTuple):
    """A built-in camera: where its class lives, and the extra that brings what it needs ('' when none)."""

    module: str
    cls: str
    extra: str
    description: str
    argument: str = ''       # what may follow 'name:', for messages; '' when nothing may


BUILT_IN: Dict[str, Entry] = {
    'auto': Entry('.auto', 'AutoCamera', '', 'an attached Raspberry Pi camera'),
    'picamera2': Entry('.picamera2', 'Picamera2Camera', 'picamera2', 'a Raspberry Pi camera', 'its number'),
    'picamera': Entry('.picamera', 'PicameraCamera', 'picamera', 'a Raspberry Pi camera (legacy stack), or a StereoPi',
                      'its number'),
    'synthetic': Entry('.synthetic', 'SyntheticCamera', '', 'a seeded camera with known frames'),
    'opencv': Entry('.opencv', 'OpenCVCamera', '', 'a webcam', 'its number'),
    'stream': Entry('.opencv', 'StreamCamera', '', 'a network stream', 'its URL'),
    'file': Entry('.videofile', 'VideoFileCamera', '', 'a video file', 'its path'),
    'replay': Entry('.replay', 'ReplayCamera', '', 'a recording of ours', 'its path'),
}

#: Cameras that are numbered; number 0 when none is given.
NUMBERED = ('opencv', *STACKS)
URL = re.compile(r'^(rtsp|rtsps|rtmp|http|https|udp|tcp|srt|rtp)://.', re.IGNORECASE)
TIFF_MAGIC = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')


def resolve(spec: Any) -> Camera:
    """The camera that ``spec`` names; it touches no hardware yet. Runs in the user's process or in the reader.

    Raises CameraNotFoundError (no such name, file or entry point), MissingExtraError (its package is not
    installed), SettingsError (not something that names a camera).
    """
    if isinstance(spec, Camera):
        return spec
    if isinstance(spec, (tuple, list)):
        from .pair import StereoPair
        left, right = _two(spec)
        return StereoPair(resolve(left), resolve(right))
    name, argument = _parse(spec)
    if name in BUILT_IN:
        cls = _load(name)
        return cls(argument) if argument else cls()
    return _from_entry_point(name, argument)


def check(spec: Any, stereo: bool = False) -> None:
    """Raise what can be known to be wrong with ``spec``, in the user's process, without touching hardware or cv2.

    Whether a file really is a video, or a webcam really answers, shows when it is opened.
    """
    if isinstance(spec, Camera):
        return
    if isinstance(spec, (tuple, list)):
        if not stereo:
            raise SettingsError(f'two cameras {tuple(spec)!r} without stereo=True; pass stereo=True, or one camera')
        for one in _two(spec):
            if isinstance(one, (tuple, list)):
                raise SettingsError(f'a pair inside a pair: {spec!r}; pass (left, right)')
            if one == 'auto':
                raise SettingsError("'auto' cannot be one of two cameras; name both, such as ('picamera2:0', "
                                    "'picamera2:1'), or pass camera='auto' alone")
            check(one, stereo=False)
        _refuse_one_camera_twice(spec)
        return
    name, _ = _parse(spec)
    if name == 'auto' and not any(map(is_installed, STACKS)):
        raise none_here([f'{stack}: not installed' for stack in STACKS])
    problem = missing(name) if name in STACKS else None
    if problem is not None:
        raise problem


def listings() -> List[CameraListing]:
    """Everything for ``ppr cameras``: what there is on this machine, and why the rest is missing. Never raises."""
    lines: List[CameraListing] = []
    for name, entry in BUILT_IN.items():
        try:
            lines += _load(name).listings()
        except Exception as problem:   # a broken camera stack must not hide the others
            lines.append(CameraListing(name, entry.description, False, f'{type(problem).__name__}: {problem}'))
    for point in _entry_points().values():
        try:
            loaded = point.load()
            own = loaded.listings() if isinstance(loaded, type) and issubclass(loaded, Camera) else []
            lines += own or [CameraListing(point.name, f'from {point.value}', True)]
        except Exception as problem:
            lines.append(CameraListing(point.name, f'from {point.value}', False, f'it cannot be loaded: {problem}'))
    # Errors refer to this list, which need not refer to itself.
    return [replace(line, why_not=line.why_not.replace(f'; {INSTEAD}', '')) for line in lines]


def _two(spec: Any) -> Tuple[Any, Any]:
    if len(spec) != 2:
        raise SettingsError(f'a stereo pair is two cameras, (left, right); got {len(spec)}: {spec!r}')
    return spec[0], spec[1]


def _refuse_one_camera_twice(spec: Any) -> None:
    named = [_parse(one) for one in spec if isinstance(one, str)]
    if len(named) == 2 and named[0] == named[1] and named[0][0] in NUMBERED:
        name = named[0][0]
        raise SettingsError(f'the pair {tuple(spec)!r} is one camera twice; name two, such as ({f"{name}:0"!r}, '
                            f'{f"{name}:1"!r})')


def _parse(spec: Any) -> Tuple[str, str]:
    """(name, argument) of a camera given as text or path."""
    if isinstance(spec, type) and issubclass(spec, Camera):
        raise SettingsError(f'camera={spec.__name__} is a class; pass an instance: {spec.__name__}(...)')
    if isinstance(spec, os.PathLike):
        return _parse_path(os.fspath(spec), explicit=True)
    if not isinstance(spec, str):
        raise SettingsError(f'camera={spec!r} ({type(spec).__name__}) is not a camera; pass a name, a path, a URL, or '
                            'an instance of a subclass of ProcessedPiRecorder.cameras.Camera')
    if URL.match(spec):
        return 'stream', spec
    head, colon, argument = spec.partition(':')
    if head in BUILT_IN:
        return _parse_built_in(head, colon, argument)
    if head in _entry_points():
        return head, argument
    return _parse_path(spec, explicit=False)


def _parse_built_in(name: str, colon: str, argument: str) -> Tuple[str, str]:
    spec = name + colon + argument
    entry = BUILT_IN[name]
    if not entry.argument and colon:
        raise CameraNotFoundError(f'camera={spec!r}: nothing may follow {name!r}; use camera={name!r}')
    if name in NUMBERED:
        return name, _number(name, spec, argument if colon else '0')
    if entry.argument and not argument:
        raise CameraNotFoundError(f'camera={spec!r} lacks {entry.argument}; use {name}:{entry.argument.upper()}')
    if name in ('file', 'replay'):
        return name, _existing_file(spec, argument)
    if name == 'stream' and not URL.match(argument):
        raise CameraNotFoundError(f'camera={spec!r}: {argument!r} is not a URL; use rtsp://... or http://...')
    return name, argument


def _number(name: str, spec: str, number: str) -> str:
    if not re.match(r'^[0-9]{1,4}$', number):
        what = '... (N as in /dev/videoN)' if name == 'opencv' else '... (`ppr cameras` lists them)'
        raise CameraNotFoundError(f'camera={spec!r}: {number!r} is not the number of a camera; use {name}:0, {name}:1, '
                                  + what)
    return number


def _parse_path(text: Any, explicit: bool) -> Tuple[str, str]:
    path = os.fsdecode(text)
    node = re.match(r'^/dev/video([0-9]+)$', path)
    if node:
        return 'opencv', node.group(1)
    if not explicit and not os.path.lexists(os.path.expanduser(path)) and not re.search(r'[/.]', path):
        raise CameraNotFoundError(
            f"camera={path!r} is neither a known camera nor a file; known are "
            + ', '.join(_names()) + ', a URL (rtsp, http, udp, tcp), the path of a video file or of a recording, '
            'or a Camera instance')
    path = _existing_file(path, path)
    return ('replay' if _is_tiff(path) else 'file'), path


def _names() -> List[str]:
    built_in = [f"'{name}:{entry.argument.split()[-1].upper()}'" if entry.argument else repr(name)
                for name, entry in BUILT_IN.items()]
    return built_in + [repr(name) for name in _entry_points()]


def _existing_file(spec: str, argument: str) -> str:
    path = Path(os.path.abspath(os.path.expanduser(argument)))
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        reason = getattr(error, 'strerror', None) or str(error)
        raise CameraNotFoundError(f'camera={spec!r}: no such file can be opened ({reason}: {path}); '
                                  'check the path') from None
    if stat.S_ISDIR(mode):
        raise CameraNotFoundError(f'camera={spec!r} is a folder; pass the path of one video file or recording')
    if not os.access(path, os.R_OK):
        raise CameraNotFoundError(f'camera={spec!r} may not be read by this user; check its permissions: {path}')
    return str(path)


def _is_tiff(path: str) -> bool:
    if not stat.S_ISREG(os.stat(path).st_mode):
        return False       # opening a named pipe would wait for its writer
    with open(path, 'rb') as file:
        return file.read(4) in TIFF_MAGIC


def _load(name: str) -> Any:
    entry = BUILT_IN[name]
    try:
        module = importlib.import_module(entry.module, __package__)
    except ImportError as error:
        if not entry.extra:
            raise
        raise MissingExtraError(f'camera={name!r}', error.name or name, entry.extra) from error
    return getattr(module, entry.cls)


def _entry_points() -> Dict[str, Any]:
    from importlib import metadata  # here: it brings all of the email package along

    if sys.version_info >= (3, 10):
        found: Any = metadata.entry_points(group=ENTRY_POINT_GROUP)
    else:
        found = metadata.entry_points().get(ENTRY_POINT_GROUP, ())
    points: Dict[str, Any] = {}
    for point in found:
        if point.name in BUILT_IN:
            log.warning('entry point %s=%s is passed over: the name belongs to a built-in camera', point.name,
                        point.value)
        else:
            points[point.name] = point
    return points


def _from_entry_point(name: str, argument: str) -> Camera:
    point = _entry_points()[name]
    try:
        factory = point.load()
    except Exception as error:
        raise CameraError(f'camera={name!r}: its entry point {point.value!r} cannot be loaded: {error}; '
                          'reinstall the package that brings it') from error
    camera: Optional[Any] = factory(argument) if argument else factory()
    if not isinstance(camera, Camera):
        raise CameraError(f'camera={name!r}: its entry point {point.value!r} made a {type(camera).__name__}, '
                          'not a subclass of ProcessedPiRecorder.cameras.Camera')
    return camera
