"""After a write has failed: what was written before is made reachable, and finished where the disk still allows it."""

from __future__ import annotations

import logging
from typing import Callable, Sequence

from .part import RecordingPart

__all__ = ['rescue']

log = logging.getLogger(__name__)


def rescue(parts: Sequence[RecordingPart], finish: Callable[[RecordingPart, bool], None]) -> None:
    """Cut the parts to their whole pages, link these, finish and close the files.

    parts: in their order, each with pages in it. finish: describes and finishes one; the flag says that it is the last.
    """
    # All torn ends go first: what they took is room for the ends of the files.
    whole = [part for part in parts if _linked(part)]
    for part in whole:
        last = part is parts[-1]
        # The last one tells of all of them, which nobody can while one of them is not known to be safe.
        if not last or len(whole) == len(parts):
            _finish(part, finish, last)
    for part in parts:
        part.close()


def _linked(part: RecordingPart) -> bool:
    try:
        part.rescue()
    except OSError as error:
        log.warning('%s: its last pages could not be linked (%s); the pages before them can be read', part.path, error)
        return False
    return True


def _finish(part: RecordingPart, finish: Callable[[RecordingPart, bool], None], last: bool) -> None:
    try:
        finish(part, last)
    except Exception as error:
        log.info('%s: it could not be finished (%s); its pages can be read', part.path, error)
        _linked(part)            # once more: the end is torn again
