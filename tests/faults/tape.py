"""A disk on tape: every write and sync of some files, and all that a power cut may leave of them."""

from __future__ import annotations

import itertools
import os
import random
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Sequence, Union
from unittest import mock

BLOCK = 4096
CUT = -1

Images = Dict[str, bytes]        # what is on the disk, by the files' names


class Write(NamedTuple):
    file: str
    offset: int
    data: bytes


class Truncate(NamedTuple):
    file: str
    size: int


class Synced(NamedTuple):
    """A sync of a file has ended; `covers` operations had been logged when it began."""

    file: str
    covers: int


Operation = Union[Write, Truncate, Synced]


class Tape:
    """Every write, cut and sync of the files of a folder, in the order in which they ended.

    before: what was on the disk at the beginning.
    """

    def __init__(self, folder: Path, sync_s: float = 0.002) -> None:
        self.operations: List[Operation] = []
        self.before: Images = read_images(folder)
        self._folder, self._sync_s = folder, sync_s
        self.pages_come = False        # more will be written: a sync lasts until some of it has been
        self._lock = threading.Lock()
        self._pwritev, self._ftruncate = os.pwritev, os.ftruncate

    @contextmanager
    def recording(self) -> Iterator[Tape]:
        with mock.patch.multiple(os, pwritev=self._write, fdatasync=self._sync, ftruncate=self._truncate):
            yield self

    def _write(self, fd: int, buffers: Sequence[Any], offset: int) -> int:
        with self._lock:
            written = self._pwritev(fd, buffers, offset)
            data = b''.join(bytes(buffer) for buffer in buffers)[:written]
            self.operations.append(Write(_name(fd), offset, data))
        return written

    def _truncate(self, fd: int, size: int) -> None:
        with self._lock:
            self._ftruncate(fd, size)
            self.operations.append(Truncate(_name(fd), size))

    def _sync(self, fd: int) -> None:
        covers = len(self.operations)
        time.sleep(self._sync_s)       # a disk of known speed: the real one may be busy
        while self.pages_come and len(self.operations) < covers + 3:
            time.sleep(0.0005)
        self.operations.append(Synced(_name(fd), covers))

    # ------------------------------------------------------------------ what is on the disk

    def files(self, at: int) -> List[str]:
        """Files that exist after `at` operations."""
        return sorted({*self.before, *(operation.file for operation in self.operations[:at])})

    def durable(self, file: str, at: int) -> int:
        """How many operations are certainly on the disk, of this file."""
        return max((operation.covers for operation in self.operations[:at]
                    if isinstance(operation, Synced) and operation.file == file), default=0)

    def image(self, file: str, first: int, pieces: Sequence[Union[Write, Truncate]] = ()) -> bytes:
        """The file after its first operations, all of them, and these pieces of others."""
        image = bytearray(self.before.get(file, b''))
        for operation in itertools.chain(self.operations[:first], pieces):
            if operation.file != file:
                continue
            if isinstance(operation, Write):
                put(image, operation.offset, operation.data)
            elif isinstance(operation, Truncate):
                del image[operation.size:]
        return bytes(image)

    def loose(self, file: str, at: int) -> List[Union[Write, Truncate]]:
        """What the disk may or may not have of a file, in pieces that it has whole or not at all."""
        pieces: List[Union[Write, Truncate]] = []
        for operation in self.operations[self.durable(file, at):at]:
            if operation.file == file and isinstance(operation, Write):
                pieces += blocks_of(operation)
            elif operation.file == file and isinstance(operation, Truncate):
                pieces.append(operation)
        return pieces


class State(NamedTuple):
    """One power cut: after how many operations, what is on the disk, what happened, for people."""

    at: int
    images: Images
    what: str


def _name(fd: int) -> str:
    return os.path.basename(os.readlink(f'/proc/self/fd/{fd}'))


def read_images(folder: Path) -> Images:
    return {path.name: path.read_bytes() for path in sorted(folder.glob('*.tif'))}


def put(image: bytearray, offset: int, data: bytes) -> None:
    if len(image) < offset + len(data):
        image.extend(bytes(offset + len(data) - len(image)))
    image[offset:offset + len(data)] = data


def _block(piece: Union[Write, Truncate]) -> int:
    return piece.offset // BLOCK if isinstance(piece, Write) else CUT


def blocks_of(write: Write) -> List[Write]:
    pieces = []
    position = 0
    while position < len(write.data):
        offset = write.offset + position
        size = min(BLOCK - offset % BLOCK, len(write.data) - position)
        pieces.append(Write(write.file, offset, write.data[position:position + size]))
        position += size
    return pieces


# ---------------------------------------------------------------------- the states


def systematic(tape: Tape) -> Iterator[State]:
    """Before and after every operation, each torn at every block, all kept, all lost, and each block lost alone."""
    for at in range(len(tape.operations) + 1):
        files = tape.files(at)
        kept = {file: tape.image(file, at) for file in files}
        lost = {file: tape.image(file, tape.durable(file, at)) for file in files}
        yield State(at, kept, 'all kept')
        yield State(at, lost, 'all unsynced lost')
        for file in files:
            yield State(at, {**lost, file: kept[file]}, f'only {file} kept')
            pieces = tape.loose(file, at)
            for block in sorted({_block(piece) for piece in pieces} - {CUT}):
                without = [piece for piece in pieces if _block(piece) != block]
                image = tape.image(file, tape.durable(file, at), without)
                yield State(at, {**kept, file: image}, f'block {block} of {file} lost')
                if len(image) < len(kept[file]):
                    longer = image + bytes(len(kept[file]) - len(image))
                    yield State(at, {**kept, file: longer}, f'block {block} of {file} lost, the size kept')
        if at < len(tape.operations) and isinstance(tape.operations[at], Write):
            yield from _torn(tape, at, kept)


def _torn(tape: Tape, at: int, kept: Images) -> Iterator[State]:
    """The operation that comes next, torn at its block boundaries."""
    write = tape.operations[at]
    assert isinstance(write, Write)
    pieces = blocks_of(write)
    for number in range(1, len(pieces)):
        for some, what in ((pieces[:number], 'beginning'), (pieces[number:], 'end'),
                           (pieces[:number] + pieces[number + 1:], 'all but one block')):
            image = bytearray(kept.get(write.file, tape.before.get(write.file, b'')))
            for piece in some:
                put(image, piece.offset, piece.data)
            yield State(at, {**kept, write.file: bytes(image)}, f'{what} of {write.file}+{write.offset}, {number}')


def by_chance(tape: Tape, rng: random.Random) -> State:
    """Any unsynced block in any of its states, lost ones as zeros or garbage."""
    at = rng.randint(0, len(tape.operations))
    images = {}
    share, garbage = rng.choice((0.0, 0.3, 0.7, 1.0)), rng.random() < 0.5
    for file in tape.files(at):
        full = tape.image(file, at)
        by_block: Dict[int, List[Union[Write, Truncate]]] = {}
        for piece in tape.loose(file, at):
            by_block.setdefault(_block(piece), []).append(piece)
        pieces: List[Union[Write, Truncate]] = []
        for found in by_block.values():
            if rng.random() < share:
                pieces += found[:rng.randint(1, len(found))]
        pieces.sort(key=lambda piece: isinstance(piece, Write))      # a cut that came last would undo the writes
        durable = tape.durable(file, at)
        image = bytearray(tape.image(file, durable, pieces))
        if rng.random() < 0.5 and len(image) < len(full):
            image.extend(bytes(len(full) - len(image)))
        if garbage:
            _fill(image, len(tape.image(file, durable)), pieces, rng)
        images[file] = bytes(image)
    return State(at, images, f'by chance, {share:.0%} kept')


def _fill(image: bytearray, first: int, pieces: Sequence[Any], rng: random.Random) -> None:
    """Garbage in whole blocks behind the durable end of which nothing was kept."""
    written = {_block(piece) for piece in pieces}
    for block in range(-(-first // BLOCK), len(image) // BLOCK):
        if block not in written:
            image[block * BLOCK:(block + 1) * BLOCK] = rng.getrandbits(8 * BLOCK).to_bytes(BLOCK, 'little')
