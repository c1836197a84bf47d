"""What can be known to be wrong before any process starts, beyond the settings themselves."""

from __future__ import annotations

import logging
import os
import re
import stat
from pathlib import Path
from typing import Any, Iterator, List, NamedTuple

from .cameras import stacks
from .cameras.base import Camera
from .errors import RecordingFileError, SettingsError
from .recordings.part import behind_link
from .recordings.results import results_path
from .recordings.space import largest_page, refuse_full_disk
from .settings import Settings

__all__ = ['check_carriage', 'check_files', 'start_method']

log = logging.getLogger(__name__)


class _Output(NamedTuple):
    """A file that the recording writes, and what it is called in messages."""

    name: str
    path: Path


def check_files(settings: Settings) -> None:
    """What the file system says now, before anything starts. The writer's own exclusive open has the last word.

    Raises SettingsError when two outputs, or an output and the camera, are one file (by any name or link), and
    RecordingFileError when a file cannot be made.
    """
    outputs = _outputs(settings)
    _refuse_shared_outputs(settings, outputs)
    _refuse_played_outputs(settings, outputs)
    for output in outputs:
        # The results file even where there is no callback: an older recording's results would pass for this one's.
        _check_place(output.path, settings.overwrite)
    _check_room(settings)


def _outputs(settings: Settings) -> List[_Output]:
    outputs = []
    if settings.write_vid and settings.tif_path is not None:
        outputs.append(_Output('tif_path', settings.tif_path))
        outputs.append(_Output('the results file', results_path(behind_link(settings.tif_path))))
    if settings.log_file is not None:
        outputs.append(_Output('log_file', settings.log_file))
    return outputs


# ---------------------------------------------------------------- one file in two roles

def _refuse_shared_outputs(settings: Settings, outputs: List[_Output]) -> None:
    if settings.log_file is None:
        return
    for output in outputs[:-1]:
        if _is_same(settings.log_file, output.path):
            raise SettingsError(f'log_file={str(settings.log_file)!r} is the same file as {output.name} '
                                f'({output.path}), and each would garble the other; choose another log_file')
    if settings.split_frames and _is_part_name(settings, settings.log_file):
        raise SettingsError(f'log_file={str(settings.log_file)!r} has the name of a part of '
                            f'tif_path={str(settings.tif_path)!r}, which split_frames={settings.split_frames} splits; '
                            'choose another log_file')


def _refuse_played_outputs(settings: Settings, outputs: List[_Output]) -> None:
    for played in _played_files(settings.camera):
        for output in outputs:
            if _is_same(played, output.path):
                raise SettingsError(f'the camera plays {played}, and {output.name} ({output.path}) is that very file, '
                                    f'which would be lost; choose another {_to_change(output)}')
        # Older parts go away with the recording that is overwritten, so it need not be split for this.
        if (settings.split_frames or settings.overwrite) and _is_part_name(settings, played):
            raise SettingsError(f'the camera plays {played}, which has the name of a part of '
                                f'tif_path={str(settings.tif_path)!r} and would be lost; choose another tif_path')
        for output in outputs:
            if _is_another_part(played, output.path):
                raise SettingsError(f'the camera plays {played} with all files of its recording, and {output.name} '
                                    f'({output.path}) is one of them, which would be lost; choose another '
                                    f'{_to_change(output)}')


def _is_another_part(played: Path, path: Path) -> bool:
    """Whether a file that is there belongs to the split recording that is played, all of it."""
    stem = re.sub(r'_\d{3,}$', '', played.stem)
    if not os.path.basename(os.path.realpath(path)).startswith(stem) or not path.is_file() or not played.is_file():
        return False
    from .cameras.replay import files_played
    return any(_is_same(path, file) for file in files_played(played) if not _is_same(file, played))


def _to_change(output: _Output) -> str:
    return 'log_file' if output.name == 'log_file' else 'tif_path'


def _is_part_name(settings: Settings, path: Path) -> bool:
    """Whether a split recording would give this name to one of its files after the first."""
    first = settings.tif_path
    if not settings.write_vid or first is None:
        return False
    # Where tif_path is a link, what it points to is overwritten, and the parts lie beside that.
    folder, name = os.path.split(os.path.realpath(first))
    stem, suffix = os.path.splitext(name)
    pattern = re.escape(stem) + r'_(?!000)(\d{3}|[1-9]\d{3,})' + re.escape(suffix)
    return any(os.path.dirname(name) == folder and re.fullmatch(pattern, os.path.basename(name))
               for name in (os.path.realpath(path), os.path.join(os.path.realpath(path.parent), path.name)))


def _is_same(one: Path, other: Path) -> bool:
    if os.path.realpath(one) == os.path.realpath(other):
        return True
    try:
        return os.path.samefile(one, other)      # hard links
    except (OSError, ValueError):
        return False


def _played_files(camera: Any) -> Iterator[Path]:
    """The files that a camera plays, whichever way it is given; ``camera`` has passed ``registry.check``."""
    from .cameras.pair import StereoPair
    if isinstance(camera, StereoPair):
        camera = (camera.left, camera.right)
    if isinstance(camera, (tuple, list)):
        for one in camera:
            yield from _played_files(one)
    elif isinstance(camera, str):
        yield from _named_file(camera)
    else:
        path = camera if isinstance(camera, os.PathLike) else getattr(camera, 'path', None)
        if isinstance(path, (str, bytes, os.PathLike)):
            yield _absolute(os.fsdecode(path))


def _named_file(spec: str) -> Iterator[Path]:
    from .cameras import registry
    head, colon, argument = spec.partition(':')
    if colon and head in ('file', 'replay'):
        yield _absolute(argument)
    elif head not in registry.BUILT_IN and not registry.URL.match(spec):
        yield _absolute(spec)


def _absolute(path: str) -> Path:
    return Path(os.path.abspath(os.path.expanduser(path)))


# ---------------------------------------------------------------- a place for each file

def _check_place(path: Path, overwrite: bool) -> None:
    folder = path.parent
    if not os.path.isdir(folder):
        raise RecordingFileError(f'the folder {folder} for {path.name} does not exist; make it first '
                                 f'(mkdir -p {folder})')
    if not os.access(folder, os.W_OK | os.X_OK):
        raise RecordingFileError(f'the folder {folder} for {path.name} is not writable for this user; '
                                 'choose another one, or change its owner')
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise RecordingFileError(f'{path} cannot be written: {getattr(error, "strerror", None) or error}; choose '
                                 'another name') from None
    if stat.S_ISDIR(mode):
        raise RecordingFileError(f'{path} is a folder; give the name of a file in it')
    if not stat.S_ISREG(mode):
        # Opening a named pipe would wait for its reader, and the recording with it.
        raise RecordingFileError(f'{path} is a pipe, device or socket, not an ordinary file; choose another name')
    if not overwrite:
        raise RecordingFileError(f'{path} exists already and is not touched; choose another name, or pass '
                                 'overwrite=True')


def _check_room(settings: Settings) -> None:
    """Whether the recording's disk has room for the reserve and a second of frames, as far as their size is known."""
    if not settings.write_vid or settings.tif_path is None:
        return
    pixels = settings.x_resolution * settings.y_resolution * settings.scale_factor**2
    frame_bytes = round(pixels * (1 if settings.pixel_format == 'gray' else 3))
    second_bytes = int(largest_page(frame_bytes) * settings.framerate) if frame_bytes else 0
    refuse_full_disk(settings.tif_path, settings.disk_reserve_mb, second_bytes, settings.overwrite)


def start_method(settings: Settings, camera: Camera) -> str:
    """How the processes are started: as the user wants it, else by fork.

    Except where the script itself has imported the library of a Pi's camera: a child that is forked then inherits its
    connections and locks but not its threads, and hangs. Those are started afresh.
    """
    if settings.start_method is not None:
        return settings.start_method
    libraries = stacks.loaded() if stacks.drives(camera) else ()
    if libraries:
        log.info('the processes are spawned, not forked, because this script has imported %s', ', '.join(libraries))
        return 'spawn'
    return 'fork'


def check_carriage(settings: Settings) -> None:
    """Under spawn the callback and the camera must be carried to their processes; find out now."""
    if settings.start_method != 'spawn':
        return
    import cloudpickle
    for name, thing in (('callback', settings.callback), ('camera', settings.camera)):
        try:
            cloudpickle.dumps(thing)
        except Exception as error:
            raise SettingsError(f'{name}={thing!r} cannot be carried to its process: {type(error).__name__}: {error}; '
                                "open files, sockets and models in the callback's __enter__, or use "
                                "start_method='fork'") from error
