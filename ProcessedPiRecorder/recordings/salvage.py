"""After a failure: what of a recording can be read, by looking, not by remembering."""

from __future__ import annotations

import itertools
import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import List, Optional, Sequence, Tuple

import numpy as np

from ..errors import RecordingFileError
from ..report import Report
from .bigtiff import refuse_if_recording, remove
from .part import part_path, parts_on_disk
from .reader import RecordingFile, is_part
from .tally import Tally

__all__ = ['finished_report', 'readable', 'refuse_if_going_on', 'remove_older_parts', 'tally_of']

log = logging.getLogger(__name__)


def readable(path: Path) -> Tuple[int, List[str]]:
    """How many pages can be read back of the recording at ``path`` and its parts, and from which files.

    Blocks: an unfinished file is walked through page by page.
    """
    pages = 0
    files: List[str] = []
    candidates = [(0, path)]
    try:
        candidates += parts_on_disk(path)
    except OSError:
        pass
    last: Optional[np.void] = None
    names = set()
    for number, candidate in candidates:
        try:
            with RecordingFile(candidate) as recording:
                if number != len(files) or recording.stored_page(0).part != number:
                    break                  # another recording, which merely has such a name
                rows = recording.index()
                names |= {recording.recording} - {''}
        except OSError:                    # RecordingFileError is one, too
            break                          # no page has been linked yet; nor has any in the parts behind it
        if last is not None and (len(names) > 1 or rows[0]['index'] <= last['index']
                                 or rows[0]['time_ns'] <= last['time_ns']):
            break                          # a part of an older recording, which was overwritten
        last, pages = rows[-1], pages + len(rows)
        files.append(str(candidate))
    return pages, files


def tally_of(files: Sequence[str]) -> Tally:
    """What the pages of these files tell, up to the first that cannot be read. Blocks: reads every page's text."""
    tally = Tally(0)
    try:
        for number, path in enumerate(files):
            with RecordingFile(path) as recording:
                if number == 0:
                    tally = Tally(recording.height * recording.width * (3 if recording.pixel_format == 'bgr' else 1))
                for page, row in enumerate(recording.index()):
                    tally.page(recording.stored_page(page), int(row['strip_length']))
                tally.file_bytes += os.stat(path).st_size
    except (RecordingFileError, OSError) as error:
        log.warning('not every page can be counted: %s', error)
    return tally


def finished_report(path: Path) -> Optional[Report]:
    """The report that a finished recording holds in its last file, with whole paths; None where it is not finished."""
    for number in itertools.count():
        try:
            with RecordingFile(part_path(path, number)) as recording:
                stored, facts = recording.annotations.get('report'), recording.annotations.get('file', {})
        except RecordingFileError:
            return None
        if facts.get('last') and isinstance(stored, dict):
            report = Report.from_dict(stored)
            return replace(report, files=[str(path.parent / name) for name in report.files])
        if facts.get('last') is not False:
            return None
    return None


def remove_older_parts(path: Path, files: int) -> None:
    """Files of the recording that was overwritten, where it had more than the new one.

    files: how many the new one has. What cannot be removed is logged: the new recording is none the worse for it.
    """
    try:
        for number, part in parts_on_disk(path):
            if number >= files and is_part(part, number):
                log.info('removing %s, a part of the overwritten recording', part)
                remove(part)
    except OSError as error:
        log.warning('a part of the recording that was overwritten stays beside the new one: %s', error)


def refuse_if_going_on(path: Path) -> None:
    """Raise RecordingFileError when another recorder is making this recording: of a split one, any file of it.

    Only the newest file of a split recording is locked; those before it are finished.
    """
    refuse_if_recording(path)
    try:
        parts = parts_on_disk(path)
    except OSError:
        return                             # the folder cannot be listed
    for number, part in parts:
        try:
            refuse_if_recording(part)
        except RecordingFileError:
            if not _is_another(part, number):
                raise RecordingFileError(f'{path} is being recorded at this moment by another recorder, which has come '
                                         f'to {part.name}; stop that one, or choose another name') from None


def _is_another(path: Path, number: int) -> bool:
    """Whether a file says that it is not that part of a recording. Without a page yet it says nothing: in doubt it is.
    """
    try:
        with RecordingFile(path) as recording:
            return recording.part != number
    except RecordingFileError:
        return False
