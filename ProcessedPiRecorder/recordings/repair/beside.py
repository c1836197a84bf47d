"""Writing the whole pages of a file into a new one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Callable, List, Mapping

from ...errors import RecordingFileError
from ..bigtiff import remove, sync_folder
from ..deflate import crc32
from ..page import StoredPage, parse_text, text_is_intact
from ..part import SYNC_BYTES, PartInfo, RecordingPart, copied_page
from ..preface import recording_of
from ..reader import RecordingFile
from ..tags import FileBytes
from .account import Account
from .state import FileState

__all__ = ['Copy', 'moved', 'check_copy']


def moved(stored: StoredPage, page: int, part: int, account: Account, hole: bool) -> StoredPage:
    """The page as it will be: its number, its file's number, and what is missing before it."""
    record = stored.record._replace(lost=account.lost_before(stored, hole))
    return stored._replace(page=page, part=part, record=record)


class Copy:
    """A new file with a damaged file's whole pages. Created exclusively; raises RecordingFileError.

    about: settings, metadata and camera for its preface.
    """

    def __init__(self, state: FileState, info: PartInfo, path: Path, about: Mapping[str, Any]) -> None:
        assert state.shape is not None
        self._state, self._info = state, info
        shape = state.shape
        self._part = RecordingPart(path, info.number, info.first_page, info.first_name, state.layout,
                                   (shape.height, shape.width, shape.channels), about, recording_of(state.about))

    @property
    def nbytes(self) -> int:
        """Bytes of the new file so far."""
        return self._part.nbytes

    def copy(self, account: Account, progress: Callable[[int], None]) -> None:
        """Write all pages. progress: gets the bytes copied since the last call."""
        fd = os.open(self._state.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            file = FileBytes(self._state.path, fd)
            synced, before = self._part.nbytes, -1
            for number, row in enumerate(self._state.rows):
                page = int(row['page'])
                hole = page != before + 1 or number == 0
                self._copy_page(file, row, number, hole, account)
                before = page
                if self._part.nbytes - synced >= SYNC_BYTES:
                    self._part.sync()
                    progress(self._part.nbytes - synced)
                    synced = self._part.nbytes
            self._part.sync()
            progress(self._part.nbytes - synced)
        finally:
            os.close(fd)

    def _copy_page(self, file: FileBytes, row: Any, number: int, hole: bool, account: Account) -> None:
        begin, length = int(row['strip_offset']), int(row['strip_length'])
        strip = file.read(begin, length, 'strip')
        text = file.read(begin + length, int(row['text_length']), 'page description')
        crc_of_strip = crc32(strip)
        if not text_is_intact(text, crc_of_strip):
            raise RecordingFileError(f'{self._state.path} changes while it is being repaired, or its disk reads '
                                     'differently each time; copy it to another disk first')
        stored = parse_text(text)
        new = moved(stored, number, self._info.number, account, hole)
        account.page(new, length)
        self._part.append([copied_page(strip, text, stored, new, crc_of_strip)])

    def finish(self, annotations: Mapping[str, Any]) -> None:
        """Index, description, and the end. Blocks until the disk has it."""
        self._part.finish(self._info, annotations)
        sync_folder(self._part.path)

    def discard(self) -> None:
        """Remove the new file."""
        self._part.close()
        remove(self._part.path)


def check_copy(path: Path, pages: int) -> None:
    """Raises RecordingFileError unless the new file opens, is finished and every page of it is whole."""
    with RecordingFile(path) as recording:
        wrong: List[int] = [page for page in range(recording.pages) if not recording.verify_page(page)]
        if not recording.finished or recording.pages != pages or wrong:
            raise RecordingFileError(f'{path} was written and reads back differently; the disk is failing. The '
                                     'original was not changed: repair it onto another disk')
