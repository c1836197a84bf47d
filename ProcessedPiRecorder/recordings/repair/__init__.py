"""Repairing recordings: every whole page is found again, and becomes part of a finished file.

::

    haystack, scan   whole pages, wherever they are          account   what the pages tell, and the report
    remains          index blocks, OME-XML                   in_place  finishing a file where it stands
    state            what is the matter with one file        beside    whole pages into a new file
    files            which files are one recording           session   one repair from beginning to end
"""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Optional, Union

from ...errors import SettingsError
from ..part import behind_link
from .files import Recording
from .result import RepairResult
from .session import Describe, Session

__all__ = ['RepairResult', 'finish_cut_off', 'repair', 'repaired_path']

Progress = Callable[[int, int], None]


def repair(path: Union[str, Path], *, out: Union[None, str, Path] = None, in_place: bool = False,
           progress: Optional[Progress] = None) -> RepairResult:
    """Find every whole page of a recording and make a finished recording of them. Blocks; reads every byte.

    path: any file of the recording. out: the new (first) file; by default ``trial_repaired.tif`` beside it; the
    original is only read then. in_place: finish the recording's own files instead: where no page among others was
    destroyed only their ends are written, safe against a power cut; else a new file takes the old one's place.
    progress: called with bytes done and bytes in all.

    Raises RecordingFileError: it is being recorded, there is no room, it cannot be read or written.
    RecordingFormatError: not a single whole page is in it.
    """
    path = behind_link(Path(path))
    if in_place and out is not None:
        raise SettingsError(f'out={str(out)!r} together with in_place=True; pass only one of them')
    with Recording(path, progress) as recording:
        assert recording.first is not None
        target = None if in_place else Path(out) if out is not None else repaired_path(recording.first)
        return Session(recording, path, target, None, progress).run()


def finish_cut_off(path: Union[str, Path], *, describe: Describe, progress: Optional[Progress] = None) -> RepairResult:
    """Finish the files of a recording whose writer has died, where they stand. Blocks.

    describe: gets the Tally of all pages (file_bytes: of the files, without the last one's end) and the files' names;
    returns the last file's annotations ('report', 'settings', 'metadata', 'camera', …). When it raises, the recording
    is finished with a report that says 'cut off', and the exception is raised then. Otherwise as ``repair``.
    """
    path = behind_link(Path(path))
    with Recording(path, progress) as recording:
        return Session(recording, path, None, describe, progress).run()


def repaired_path(path: Path) -> Path:
    """Where a repaired recording goes by default: trial.tif → trial_repaired.tif."""
    return path.with_name(f'{path.stem}_repaired{path.suffix}')
