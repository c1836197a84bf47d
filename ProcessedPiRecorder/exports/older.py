"""What goes when a recording is overwritten: all of its files, and nobody else's."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Dict, Iterator, List

from ..errors import RecordingFileError
from ..reading import Recording, open_recording
from ..recordings.bigtiff import remove
from ..recordings.part import parts_on_disk
from ..recordings.salvage import refuse_if_going_on
from ..settings import SUFFIXES

__all__ = ['OlderFiles', 'are_same', 'of_other_suffix']

log = logging.getLogger(__name__)


class OlderFiles:
    """The files of the recording at ``final``, noted before it is overwritten; none where there is none.

    Only those that are its own: others may bear such names (what is left of an older split recording, say), and those
    of ``source``, which the new one is made of, stay whatever they are. Raises RecordingFileError where it is being
    recorded at this moment.
    """

    def __init__(self, final: Path, source: Recording) -> None:
        self._final = final
        self._parts: Dict[Path, os.stat_result] = {
            path: os.stat(path) for path in _further_files(final)
            if not any(are_same(path, own) for own in source.absolute_files)}
        self.refuse_running()

    def refuse_running(self) -> None:
        """Raise RecordingFileError where another recorder is making it."""
        refuse_if_going_on(self._final)

    def __contains__(self, path: Path) -> bool:
        """Whether it is one of those behind the first one, or leads to one."""
        return any(are_same(path, part) for part in self._parts)

    def remove(self) -> None:
        """Remove those behind the first one, whose place the new one has taken; what came to be since stays.

        What cannot be removed is logged: the new recording is none the worse for it.
        """
        for path, noted in self._parts.items():
            try:
                if os.path.samestat(os.stat(path), noted):
                    log.info('removing %s, a part of the overwritten recording', path)
                    remove(path)
            except OSError as error:
                log.warning('a part of the recording that was overwritten stays beside the new one: %s', error)


def are_same(one: Path, other: Path) -> bool:
    """Whether both lead to the same file, which is there."""
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def of_other_suffix(path: Path) -> List[str]:
    """Names of files beside it that differ in the suffix alone: results of theirs would have the same name."""
    return sorted(other.name for other in map(path.with_suffix, SUFFIXES)
                  if other != path and other.is_file() and not are_same(other, path))


def _further_files(final: Path) -> Iterator[Path]:
    """The files of the recording at ``final`` that follow it, by its own account and by their names."""
    try:
        with open_recording(final) as older:
            if not older.is_ours or not are_same(older.absolute_files[0], final):
                return                     # of another program; or one of the later files of a split recording
            named = [path for _, path in parts_on_disk(final)]
            files = older.absolute_files[1:]
    except RecordingFileError:
        return                             # not there, or nothing that tells which files are its own
    except OSError as error:
        log.warning('files of the recording that is overwritten may stay beside the new one: %s', error)
        return
    yield from (path for path in named if any(are_same(path, file) for file in files))
