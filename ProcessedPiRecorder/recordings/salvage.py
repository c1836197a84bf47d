"""After a failure: what of a recording can be read, by looking, not by remembering."""

from __future__ import annotations

from pathlib import Path
from typing import List, Tuple

from ..errors import RecordingFileError
from .part import parts_on_disk
from .reader import RecordingFile

__all__ = ['readable']


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
