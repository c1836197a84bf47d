"""Searching an open file of any size, through a window of bounded size, also where the disk cannot read it."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Callable, Optional

from ..deflate import crc32
from ..tags import FileBytes

__all__ = ['Haystack']

WINDOW = 1 << 22
BLOCK = 4096

Progress = Callable[[int, int], None]


class Haystack(FileBytes):
    """A file that is searched from its beginning to its end. Blocks that the disk cannot read count as zeros.

    Attributes:
        unreadable: bytes that the disk could not read.
    """

    def __init__(self, path: Path, fd: int, progress: Optional[Progress] = None) -> None:
        super().__init__(path, fd)
        self.unreadable = 0
        self._progress = progress
        self._told = -WINDOW
        self._window = b''
        self._window_at = 0

    def read(self, offset: int, length: int, what: str) -> bytes:
        """Exactly ``length`` bytes. Raises RecordingFormatError beyond the end."""
        try:
            return super().read(offset, length, what)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return self._read_around(offset, length)

    def part(self, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes: fewer at the end of the file."""
        return self.read(offset, max(0, min(length, self.size - offset)), 'bytes') if offset < self.size else b''

    def find(self, needle: bytes, start: int, end: int) -> int:
        """The first place of ``needle`` that lies wholly within start … end; -1 without one."""
        end = min(end, self.size)
        while start + len(needle) <= end:
            if not (self._window_at <= start and start + len(needle) <= self._window_at + len(self._window)):
                self._window, self._window_at = self.part(start, WINDOW), start
                self._tell(start)
            at = self._window.find(needle, start - self._window_at, end - self._window_at)
            if at >= 0:
                return self._window_at + at
            start = self._window_at + len(self._window) - len(needle) + 1
        return -1

    def crc(self, start: int, end: int) -> int:
        """CRC-32 of the bytes start … end."""
        crc = 0
        while start < end:
            piece = self.part(start, min(end - start, WINDOW))
            crc = crc32(piece, crc)
            start += len(piece)
        self._tell(end)                    # where page follows page nothing is searched for
        return crc

    def _tell(self, position: int) -> None:
        if self._progress is not None and position >= self._told + WINDOW:
            self._told = position
            self._progress(position, self.size)

    def _read_around(self, offset: int, length: int) -> bytes:
        data = bytearray(length)
        position = offset
        while position < offset + length:
            size = min(BLOCK - position % BLOCK, offset + length - position)
            try:
                data[position - offset:position - offset + size] = os.pread(self.fd, size, position).ljust(size, b'\0')
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                self.unreadable += size
            position += size
        return bytes(data)
