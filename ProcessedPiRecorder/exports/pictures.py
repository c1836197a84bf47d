"""PNG images, one a frame, in a folder with a table of times."""

from __future__ import annotations

import re
from pathlib import Path
from typing import List, Optional, Tuple

import numpy as np

from ..errors import ExportError
from ..frame import Frame
from ..reading import Recording
from .base import Exported, PathLike, Place, Progress, chosen_pages, each_made, stored_bytes, whole_folder
from .times import missing_frames, shown_ns, write_times

__all__ = ['export_png', 'frame_name']

TIMES = 'times.csv'
SAMPLES = (np.uint8, np.uint16)
MANY_FILES = 100_000

_OURS = re.compile(r'frame_\d{8,}\.png|times\.csv')


def export_png(recording: Recording, target: PathLike, *, start: Optional[Place] = 0, stop: Optional[Place] = None,
               every: int = 1, overwrite: bool = False, progress: Optional[Progress] = None,
               rate_hz: Optional[float] = None) -> Exported:
    """Write a folder of images, ``frame_00000012.png`` by the frame's number, and ``times.csv``, a row for each.

    Lossless; 16 bits stay 16 bits. Of a TIFF without numbers of its own, the number is the page, and the table has
    times only if ``rate_hz`` is given. With ``overwrite``, an older folder goes only if it holds nothing but such
    files. Blocks; compresses on all cores. Raises ExportError, RecordingFileError.
    """
    pages = chosen_pages(recording, start, stop, every)
    if recording.dtype.newbyteorder('=') not in SAMPLES:
        raise ExportError(f'{recording.path.name} has {recording.dtype} samples, and PNG holds uint8 and uint16; bring '
                          'the frames to one of these first')
    times = None if recording.times_ns is None and rate_hz is None else shown_ns(recording, pages, rate_hz)
    with whole_folder(target, may_replace=_is_ours, overwrite=overwrite, recording=recording,
                      needs_bytes=stored_bytes(recording, pages) // 2) as part:
        def write(page: int, frame: Frame) -> int:
            return _write_png(part / frame_name(recording, page), frame)
        nbytes = sum(each_made(recording, pages, write, progress))
        write_times(part / TIMES, recording, pages, times, (frame_name(recording, page) for page in pages))
        nbytes += (part / TIMES).stat().st_size
    return Exported(Path(target), len(pages), nbytes, _notes(recording, pages))


def frame_name(recording: Recording, page: int) -> str:
    """The image's name: by the frame's number, where it has one."""
    return f'frame_{page if recording.indices is None else int(recording.indices[page]):08d}.png'


def _write_png(path: Path, frame: Frame) -> int:
    import cv2
    pixels = np.asarray(frame)
    coded, data = cv2.imencode('.png', pixels.astype(pixels.dtype.newbyteorder('='), copy=False))
    if not coded:
        raise ExportError(f'OpenCV could not encode {path.name}, of shape {pixels.shape}; try another format')
    with open(path, 'xb') as file:
        return file.write(data.tobytes())


def _is_ours(name: str) -> bool:
    return _OURS.fullmatch(name) is not None


def _notes(recording: Recording, pages: range) -> Tuple[str, ...]:
    notes: List[str] = []
    missing = missing_frames(recording, pages)
    if missing:
        notes.append(f'{missing:,} {"frame is" if missing == 1 else "frames are"} missing between its first and its '
                     'last, and their numbers with them')
    if len(pages) > MANY_FILES:
        notes.append(f'{len(pages):,} files in a folder are much: file managers and backups become slow')
    return (*notes, *recording.notes)
