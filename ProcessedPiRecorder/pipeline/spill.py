"""A first-in first-out queue of byte strings that moves to a file what would not fit into memory.

::

    put ──► [head: in memory] ──► get          up to the limit
    put ──► [tail] ──► blocks in files ──► [head] ──► get          beyond it

Everything beyond the limit goes through the tail and the files until they are empty again, so the order is
kept. The files have no name: whatever happens, nothing of them remains on the disk.
"""

from __future__ import annotations

import logging
import os
import queue
import struct
import tempfile
import threading
from collections import deque
from pathlib import Path
from typing import IO, Callable, Deque, Iterable, List, NamedTuple, Optional

from ..errors import RecordingFileError
from ..recordings.volume import volume_of

__all__ = ['InputClosed', 'SpillQueue', 'spill_folder']

logger = logging.getLogger(__name__)

DEFAULT_LIMIT = 64_000_000     # bytes
BLOCK_BYTES = 1_000_000        # what is written to and read from a file at once
FILE_BYTES = 256_000_000       # then the next file is begun, so that read ones give their space back
DISK_TMP = Path('/var/tmp')     # by the rules of Linux's folders it outlasts a reboot, so it lies on a disk
OBJECT_BYTES = 48              # what Python and the deque need for a message, on top of its bytes

_LENGTH = struct.Struct('<Q')


def spill_folder() -> Optional[Path]:
    """A temporary folder that takes room on a disk; None for the system's own choice.

    Debian 13 keeps /tmp in memory, which is what is to be spared. A TMPDIR of the user's is taken as it is.
    """
    if any(os.environ.get(name) for name in ('TMPDIR', 'TEMP', 'TMP')):
        return None
    try:
        in_memory = volume_of(Path(tempfile.gettempdir())).is_memory
        if in_memory and os.access(DISK_TMP, os.W_OK | os.X_OK) and not volume_of(DISK_TMP).is_memory:
            return DISK_TMP
    except RecordingFileError as error:
        logger.debug('what the temporary folder lies on cannot be told: %s', error)
    return None


class InputClosed(queue.Empty):
    """Nothing is there, and nothing will come: the input has been closed."""


class _SpillFile:
    """An unlinked file of blocks; closes itself when its last block has been read and no more will come."""

    def __init__(self, folder: Optional[Path]) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(buffering=0, dir=folder or spill_folder())
        self.size = 0
        self._unread = 0

    def append(self, data: bytes) -> int:
        """Write a block; returns its offset. Raises OSError; the file then holds what it held before."""
        offset = self.size
        self._file.seek(offset)
        view = memoryview(data)
        while view:
            view = view[self._file.write(view):]
        self.size += len(data)
        self._unread += 1
        return offset

    def read(self, offset: int, size: int) -> bytes:
        self._file.seek(offset)
        pieces: List[bytes] = []
        while size:
            piece = self._file.read(size)
            if not piece:
                raise OSError('the spill file is shorter than what was written to it')
            pieces.append(piece)
            size -= len(piece)
        self._unread -= 1
        return b''.join(pieces)

    @property
    def finished(self) -> bool:
        return not self._unread

    def close(self) -> None:
        self._file.close()


class _Block(NamedTuple):
    """Messages that were moved to a file together."""

    file: _SpillFile
    offset: int
    size: int


class SpillQueue:
    """Byte strings, first in first out, for any number of threads of one process.

    ``put`` never blocks on a reader. When the disk refuses the spill (full, gone), messages stay in memory and
    a warning is logged once.

    Args:
        limit_bytes: memory for unread messages, Python's overhead included; more goes to a file.
        folder: where that file is made; None for a temporary folder on a disk.
    """

    def __init__(self, limit_bytes: int = DEFAULT_LIMIT, folder: Optional[Path] = None) -> None:
        self._limit = limit_bytes
        self._folder = folder
        self._changed = threading.Condition()
        self._head: Deque[bytes] = deque()
        self._blocks: Deque[_Block] = deque()
        self._tail: List[bytes] = []
        self._head_cost = 0
        self._tail_cost = 0
        self._count = 0
        self._bytes = 0
        self._lent = 0
        self._writing: Optional[_SpillFile] = None
        self._spill_failed = False
        self._closed = False

    def put(self, message: bytes) -> None:
        """Append one message."""
        with self._changed:
            self._append(message)
            self._changed.notify_all()

    def put_many(self, messages: Iterable[bytes]) -> None:
        """Append messages, in their order."""
        with self._changed:
            for message in messages:
                self._append(message)
            self._changed.notify_all()

    def put_back(self, messages: List[bytes]) -> None:
        """Give back, to the front, what ``get_batch`` gave last."""
        with self._changed:
            self._lent = 0
            self._head.extendleft(reversed(messages))
            self._account(messages, +1)
            self._head_cost += _cost(messages)
            self._changed.notify_all()

    def get(self, timeout: Optional[float] = None) -> bytes:
        """The oldest message. Blocks up to ``timeout`` seconds (None: for ever).

        Raises queue.Empty after the timeout, InputClosed at once when nothing can come any more.
        """
        with self._changed:
            if not self._head:
                self._wait(timeout, None)
            message = self._head.popleft()
            self._head_cost -= len(message) + OBJECT_BYTES
            self._count -= 1
            self._bytes -= len(message)
            if not self._count:
                self._changed.notify_all()     # for wait_empty
            return message

    def get_batch(self, most_bytes: int, timeout: Optional[float] = None,
                  cancelled: Optional[Callable[[], bool]] = None) -> List[bytes]:
        """The oldest messages, at least one, together at most ``most_bytes`` long unless the first is longer.

        Asking for the next batch says that the last one has been dealt with. Blocks and raises as ``get``; also
        raises queue.Empty once ``cancelled()`` (asked after each ``wake``).
        """
        with self._changed:
            self._lent = 0
            self._account((), 0)
            self._wait(timeout, cancelled)
            batch = [self._head.popleft()]
            size = len(batch[0])
            while self._head and size + len(self._head[0]) <= most_bytes:
                batch.append(self._head.popleft())
                size += len(batch[-1])
            self._lent = len(batch)
            self._head_cost -= _cost(batch)
            self._account(batch, -1)
            return batch

    def wait_empty(self, timeout: Optional[float] = None, cancelled: Optional[Callable[[], bool]] = None) -> bool:
        """Block until all messages are dealt with, or ``cancelled()``; False when ``timeout`` came first."""
        with self._changed:
            return self._changed.wait_for(lambda: not (self._count or self._lent) or _true(cancelled), timeout)

    def wake(self) -> None:
        """Let every waiting call ask its ``cancelled`` again."""
        with self._changed:
            self._changed.notify_all()

    def close_input(self) -> None:
        """Nothing more will come: ``get`` raises InputClosed as soon as the queue is empty."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def open_input(self) -> None:
        """Undo ``close_input``: ``get`` blocks again."""
        with self._changed:
            self._closed = False

    def clear(self) -> None:
        """Forget all messages and close the files."""
        with self._changed:
            self._head.clear()
            self._tail.clear()
            for block in self._blocks:
                block.file.close()
            self._blocks.clear()
            self._leave_file()
            self._head_cost = self._tail_cost = self._count = self._bytes = 0
            self._changed.notify_all()

    def __len__(self) -> int:
        return self._count

    @property
    def unread_bytes(self) -> int:
        """The unread messages' own length, in memory and in files."""
        return self._bytes

    @property
    def spilled(self) -> bool:
        """True while unread messages lie in a file."""
        return bool(self._blocks)

    # Everything below runs with the lock held.

    def _wait(self, timeout: Optional[float], cancelled: Optional[Callable[[], bool]]) -> None:
        self._changed.wait_for(lambda: self._count or self._closed or _true(cancelled), timeout)
        if _true(cancelled):
            raise queue.Empty
        if not self._count:
            raise InputClosed if self._closed else queue.Empty
        if not self._head:
            self._refill()

    def _append(self, message: bytes) -> None:
        cost = len(message) + OBJECT_BYTES
        self._count += 1
        self._bytes += len(message)
        if not self._blocks and not self._tail and self._head_cost + cost <= self._limit:
            self._head.append(message)
            self._head_cost += cost
            return
        self._tail.append(message)
        self._tail_cost += cost
        if self._tail_cost >= BLOCK_BYTES and not self._spill_failed:
            self._spill()

    def _spill(self) -> None:
        data = b''.join(part for message in self._tail for part in (_LENGTH.pack(len(message)), message))
        try:
            file = self._file_for_block()
            offset = file.append(data)
        except OSError as error:
            self._spill_failed = True     # a new try at each put would stall the caller
            logger.warning('cannot move unread queue items to a file (%s); they stay in memory: read them, '
                           'or free some disk space', error)
            return
        self._blocks.append(_Block(file, offset, len(data)))
        self._tail = []
        self._tail_cost = 0

    def _file_for_block(self) -> _SpillFile:
        if self._writing is not None and self._writing.size >= FILE_BYTES:
            self._leave_file()
        if self._writing is None:
            self._writing = _SpillFile(self._folder)
        return self._writing

    def _leave_file(self) -> None:
        file, self._writing = self._writing, None
        if file is not None and file.finished:
            file.close()

    def _refill(self) -> None:
        """Move the next block, or else the tail, to the empty head."""
        if self._blocks:
            block = self._blocks[0]
            messages = _split(block.file.read(block.offset, block.size))
            self._blocks.popleft()
            if block.file.finished:
                if block.file is self._writing:
                    self._writing = None
                block.file.close()
        else:
            messages, self._tail = self._tail, []
            self._tail_cost = 0
            self._spill_failed = False
        self._head.extend(messages)
        self._head_cost = _cost(messages)

    def _account(self, messages: Iterable[bytes], sign: int) -> None:
        for message in messages:
            self._count += sign
            self._bytes += sign * len(message)
        if not self._count and not self._lent:
            self._changed.notify_all()     # for wait_empty


def _true(asked: Optional[Callable[[], bool]]) -> bool:
    return asked is not None and asked()


def _cost(messages: Iterable[bytes]) -> int:
    return sum(len(message) + OBJECT_BYTES for message in messages)


def _split(data: bytes) -> List[bytes]:
    messages: List[bytes] = []
    position = 0
    while position < len(data):
        start = position + _LENGTH.size
        position = start + _LENGTH.unpack_from(data, position)[0]
        messages.append(data[start:position])
    return messages
