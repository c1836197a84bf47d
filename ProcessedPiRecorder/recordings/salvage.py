"""After a failure: what of a recording can be read, by looking, not by remembering."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import List, Optional, Tuple

from ..errors import RecordingFileError
from ..report import Report
from .part import part_path, parts_on_disk
from .reader import RecordingFile

__all__ = ['finished_report', 'readable']


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
