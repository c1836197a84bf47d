"""What can be known to be wrong before any process starts, beyond the settings themselves."""

from __future__ import annotations

import os
from pathlib import Path
from typing import List

from .errors import RecordingFileError, SettingsError
from .recordings.results import results_path
from .settings import Settings

__all__ = ['check_carriage', 'check_files']


def check_files(settings: Settings) -> None:
    """What the file system says now, before anything starts. The writer's own exclusive open has the last word."""
    wanted: List[Path] = []
    if settings.write_vid and settings.tif_path is not None:
        wanted.append(settings.tif_path)
        if settings.callback is not None:
            wanted.append(results_path(settings.tif_path))
    if settings.log_file is not None:
        wanted.append(settings.log_file)
    for path in wanted:
        folder = path.parent
        if not folder.is_dir():
            raise RecordingFileError(f'the folder {folder} for {path.name} does not exist; make it first '
                                     f'(mkdir -p {folder})')
        if not os.access(folder, os.W_OK | os.X_OK):
            raise RecordingFileError(f'the folder {folder} for {path.name} is not writable for this user; '
                                     'choose another one, or change its owner')
        if path.is_dir():
            raise RecordingFileError(f'{path} is a folder; give the name of a file in it')
        if path.exists() and not settings.overwrite:
            raise RecordingFileError(f'{path} exists already and is not touched; choose another name, or pass '
                                     'overwrite=True')


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
