"""After a failure: what of a recording can be read, by looking, not by remembering."""

from __future__ import annotations

import itertools
import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import List, Optional, Tuple

from ..errors import RecordingFileError
from ..report import Report
from .bigtiff import file_error
from .part import part_path, parts_on_disk
from .reader import RecordingFile, is_part

__all__ = ['finished_report', 'readable', 'remove_older_parts']

log = logging.getLogger(__name__)


def readable(path: Path) -> Tuple[int, List[str]]:
    """How many pages can be read back of the recording at ``path`` and its parts, and from which files.

    Blocks: an unfinished file is walked through page by page.
    """
    pages, files = 0, []
    try:
        candidates = [path, *(part for _, part in parts_on_disk(path))]
    except OSError:
        candidates = [path]
    for candidate in candidates:
        try:
            with RecordingFile(candidate) as recording:
                pages += recording.pages
            files.append(str(candidate))
        except RecordingFileError:
            break                          # no page has been linked yet; nor has any in the parts behind it
    return pages, files


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

    files: how many the new one has. Raises RecordingFileError.
    """
    for number, part in parts_on_disk(path):
        if number >= files and is_part(part, number):
            log.info('removing %s, a part of the overwritten recording', part)
            try:
                os.unlink(part)
            except OSError as error:
                raise file_error(part, 'cannot be removed', error) from error
