"""Recordings in other forms, for other programs: whole or not at all, and what is lost by it is told.

``export(recording, 'trial.mp4')`` chooses by the name's end.

::

    video, gif, pictures, tables, nwb, cut    the formats, as in FORMATS
    base     what they share: which frames, read ahead, with progress; range: how people tell which
    whole    files made beside their target, and given its name when they are whole; older: what goes with one replaced
    astray   what is told of files that are missing
    times    when each frame is shown; flat: results as rows of a table; grid: frames and losses of a cut
"""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path
from typing import Any, Callable, Dict, NamedTuple, Optional, Union

from ..errors import ExportError
from ..reading import Recording, opened
from .base import Exported, PathLike, Progress, refuse_own_files

__all__ = ['FORMATS', 'Exported', 'Format', 'Progress', 'export']


class Format(NamedTuple):
    """suffixes: that choose it; what: for people; module, function: where the exporter is, imported when used."""

    suffixes: tuple[str, ...]
    what: str
    module: str
    function: str

    def exporter(self) -> Callable[..., Exported]:
        """``exporter(recording, target, *, start, stop, every, overwrite, progress, **own)``."""
        return getattr(import_module(f'.{self.module}', __name__), self.function)


FORMATS: Dict[str, Format] = {
    'mp4': Format(('.mp4', '.m4v', '.mov'), 'H.264 video with the true times; lossless=True keeps every pixel', 'video',
                  'export_mp4'),
    'avi': Format(('.avi',), 'lossless FFV1 video of constant rate, with the times in a CSV beside it', 'video',
                  'export_avi'),
    'gif': Format(('.gif',), 'animated GIF, for slides', 'gif', 'export_gif'),
    'png': Format(('.png', ''), 'a folder of PNG images, one a frame, and a CSV of times', 'pictures', 'export_png'),
    'nwb': Format(('.nwb',), 'Neurodata Without Borders: the video, its times, the results', 'nwb', 'export_nwb'),
    'csv': Format(('.csv',), 'table of times and results, one row a frame or result', 'tables', 'export_csv'),
    'parquet': Format(('.parquet', '.pq'), 'the same table for pandas, R, DuckDB', 'tables', 'export_parquet'),
    'tif': Format(('.tif', '.tiff'), 'a cut: some of the frames as a recording of its own', 'cut', 'export_cut'),
}


def export(recording: Union[Recording, PathLike], target: PathLike, format: Optional[str] = None, **options: Any
           ) -> Exported:
    """Write a recording in another form; blocks until it is whole, synced, and bears its name.

    Args:
        recording: opened, or the path of one. target: the new file (or folder, for PNGs).
        format: 'mp4', 'avi', 'gif', 'png', 'nwb', 'csv', 'parquet' or 'tif'; None = by the target's suffix.
        options: ``start``, ``stop``, ``every``, ``overwrite``, ``progress``, and what the format takes. Whole numbers
            as start and stop are pages, texts are places ('120': a frame's number, '12.5s', a time of day in UTC).

    Raises ExportError and RecordingFileError; MissingExtraError where a package is needed that is not installed.
    """
    if format is None:
        suffix = Path(target).suffix.lower()
        format = next((name for name, known in FORMATS.items() if suffix in known.suffixes), None)
    if format not in FORMATS:
        known = ', '.join(f'{name} ({what.suffixes[0]})' for name, what in FORMATS.items())
        raise ExportError(f'{str(target)!r} does not tell a format that is known; end it in one of {known}, or pass '
                          'format=')
    exporter = FORMATS[format].exporter()
    taken = list(inspect.signature(exporter).parameters)[2:]
    for name in options:
        if name not in taken:
            raise ExportError(f'{format} takes no {name}; it takes {", ".join(taken)}')
    with opened(recording) as rec:
        refuse_own_files(rec, target)
        return exporter(rec, target, **options)
