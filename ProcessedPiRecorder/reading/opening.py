"""What a path leads to: a recording of ours, another TIFF, or something that has to be told apart from them."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import RecordingFileError, RecordingFormatError
from ..recordings.preface import MAGIC as PREFACE
from ..recordings.reader import RecordingFile
from ..recordings.tags import open_to_read
from ..settings import SUFFIXES
from .foreign import ForeignPages, is_tiff
from .sources import OwnPages, PageSource

__all__ = ['page_source']

RESULTS_SUFFIX = '.results.jsonl'
PAGE_TEXT = b'{"ppr":1,"page":'
ENDS = 1 << 20            # bytes of a file's begin and end in which a recording's traces are looked for


def page_source(path: Path) -> PageSource:
    """Raises RecordingFileError, RecordingFormatError."""
    if path.name.endswith(RESULTS_SUFFIX):
        raise RecordingFormatError(f'{path} holds results, not frames; they belong to {_owner_of_results(path)}')
    try:
        return OwnPages(path)
    except RecordingFormatError as error:
        if not is_tiff(path) or _is_ours(path):
            raise
        return _foreign(path, error)


def _owner_of_results(path: Path) -> str:
    """Which recording they are of, whichever of the suffixes it has, and what to do about it."""
    stem = path.name[:-len(RESULTS_SUFFIX)]
    try:
        beside = sorted(other for other in path.parent.iterdir() if other.stem == stem
                        and other.suffix.lower() in SUFFIXES and other.is_file())
    except OSError:
        beside = []                          # the folder cannot be listed
    if beside:
        return f'{" or ".join(map(str, beside))}, pass that'
    tif = path.with_name(f'{stem}{SUFFIXES[0]}')
    return (f'{tif} (or {", ".join(SUFFIXES[1:])}), which is not here: bring the recording back beside it, and pass '
            'that')


def _foreign(path: Path, as_ours: RecordingFormatError) -> ForeignPages:
    try:
        return ForeignPages(path)
    except RecordingFormatError:
        if _ends(path).startswith(b'II+\0'):
            raise as_ours from None           # it may well be ours: what our own reader found explains it better
        raise


def _is_ours(path: Path) -> bool:
    """Damaged perhaps, and no TIFF of another program all the same."""
    ends = _ends(path)
    if PREFACE in ends or PAGE_TEXT in ends:
        return True
    try:
        RecordingFile(path).close()
        return True
    except RecordingFileError:
        return False


def _ends(path: Path) -> bytes:
    with open(open_to_read(path), 'rb') as file:
        begin = file.read(ENDS)
        file.seek(max(os.fstat(file.fileno()).st_size - ENDS, len(begin)))
        return begin + file.read(ENDS)
