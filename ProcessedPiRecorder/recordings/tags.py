"""Reading IFDs of a BigTIFF with every offset and length checked against the file's size."""

from __future__ import annotations

import errno
import os
import shlex
import stat
import struct
from pathlib import Path
from typing import Dict, NamedTuple, Tuple

from ..errors import RecordingFileError, RecordingFormatError
from .bigtiff import HEADER_SIZE, file_error
from .decoder import MAX_DEFLATE_RATIO

__all__ = ['FileBytes', 'Ifd', 'PageShape', 'open_to_read', 'read_header', 'read_ifd', 'shape_of', 'TIFF_MAGIC']

#: Byte order and version that a TIFF begins with; the other two are BigTIFF.
TIFF_MAGIC = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')
PICTURES = (b'heic', b'heix', b'mif1', b'msf1', b'avif', b'avis')       # kinds of HEIF, which is laid out as MP4 is

MAX_TAGS = 64             # ours have 16
MAX_TEXT = 1 << 30
MAX_SIDE = 1 << 16
MAX_PAGE_BYTES = 1 << 31

_TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 16: 8}
_WIDTH, _LENGTH, _BITS, _COMPRESSION, _PHOTOMETRIC, _TEXT = 256, 257, 258, 259, 262, 270
_STRIP_OFFSET, _SAMPLES, _ROWS, _STRIP_LENGTH, _PLANAR, _PREDICTOR = 273, 277, 278, 279, 284, 317


def open_to_read(path: Path) -> int:
    """A descriptor of an ordinary file. Raises RecordingFileError, also for pipes, which would wait for a writer."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        kind = os.fstat(fd).st_mode
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            raise RecordingFileError(f'{path} cannot be opened: there is no such file; check the path') from error
        if error.errno in (errno.EACCES, errno.EPERM):
            raise RecordingFileError(f'{path} cannot be opened: {error.strerror}; ask its owner for the right to read '
                                     'it') from error
        raise file_error(path, 'cannot be opened', error) from error
    if not stat.S_ISREG(kind):
        os.close(fd)
        what = 'a folder' if stat.S_ISDIR(kind) else 'a pipe, device or socket'
        raise RecordingFileError(f'{path} is {what}, not an ordinary file; pass the file of a recording')
    return fd


class FileBytes:
    """Bounded reads from an open file; they never go beyond its end. Raises RecordingFormatError."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self.fd = fd
        self.size = os.fstat(fd).st_size

    def read(self, offset: int, length: int, what: str) -> bytes:
        """Exactly ``length`` bytes."""
        if offset < 0 or length < 0 or offset + length > self.size:
            raise self.damaged(f'its {what} would lie at {offset}+{length}, beyond its {self.size} bytes')
        pieces = []
        while length > 0:
            piece = os.pread(self.fd, min(length, 1 << 30), offset)
            if not piece:
                raise self.damaged(f'it became shorter while its {what} was read')
            pieces.append(piece)
            offset += len(piece)
            length -= len(piece)
        return pieces[0] if len(pieces) == 1 else b''.join(pieces)

    def reopening(self) -> FileBytes:
        """The same bytes without a descriptor: for recordings in more files than a process may have open."""
        return _ReopenedBytes(self)

    def damaged(self, why: str) -> RecordingFormatError:
        return RecordingFormatError(f'{self.path} is not a readable recording: {why};  ppr repair  makes a sound '
                                    'recording of the pages that are whole')


class _ReopenedBytes(FileBytes):
    """Opens the file for each read, and makes sure that it is still the same one."""

    def __init__(self, file: FileBytes) -> None:
        self.path, self.size, self.fd = file.path, file.size, -1
        self._identity = _identity(file.fd)
        self._absolute = Path(os.path.abspath(file.path))

    def read(self, offset: int, length: int, what: str) -> bytes:
        fd = open_to_read(self._absolute)
        try:
            if _identity(fd) != self._identity:
                raise RecordingFileError(f'{self.path} was replaced by another file since it was opened; open the '
                                         'recording anew')
            opened = FileBytes(self.path, fd)
            opened.size = min(opened.size, self.size)
            return opened.read(offset, length, what)
        finally:
            os.close(fd)

    def reopening(self) -> FileBytes:
        return self


def _identity(fd: int) -> Tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


class PageShape(NamedTuple):
    """What all pages of a recording share."""

    height: int
    width: int
    channels: int
    compressed: bool

    @property
    def nbytes(self) -> int:
        """Bytes of one page's pixels."""
        return self.height * self.width * self.channels


class Ifd(NamedTuple):
    """One page's IFD: where its pieces are, and the values of its short tags."""

    offset: int
    next: int
    strip_offset: int
    strip_length: int
    text_offset: int
    text_length: int      # without the final NUL
    values: Dict[int, Tuple[int, ...]]


def read_header(file: FileBytes) -> int:
    """The offset of the first IFD. Raises RecordingFormatError when this is no little-endian BigTIFF."""
    if file.size < HEADER_SIZE:
        raise RecordingFormatError(f'{file.path} is not a readable recording: it has only {file.size} bytes, and no '
                                   'page fits into them; check the path')
    order, version, size, zero, first = struct.unpack('<2sHHHQ', file.read(0, HEADER_SIZE, 'header'))
    if (order, version, size, zero) != (b'II', 43, 8, 0):
        raise RecordingFormatError(f'{file.path} {_what_else(file)}')
    return int(first)


def _what_else(file: FileBytes) -> str:
    """What a file is that does not begin as a recording, and what can be done with it."""
    head = file.read(0, HEADER_SIZE, 'header')
    if head[:4] in TIFF_MAGIC:
        return ('is a TIFF, but not a little-endian BigTIFF as recordings of ProcessedPiRecorder are; open_recording, '
                'ppr view and ppr export take it as frames without times')
    if _begins_as_film(head):
        made = shlex.quote(f'{file.path.stem}.tif')
        return ('is a film, and no TIFF, so it is no recording of ProcessedPiRecorder; make one of its frames:  '
                f'ppr record {made} --camera {shlex.quote(str(file.path))}')
    return 'is no TIFF, so it is no recording of ProcessedPiRecorder; pass the .tif file of a recording'


def _begins_as_film(head: bytes) -> bool:
    """MP4 and QuickTime (but for pictures in such a file), AVI, Matroska and WebM."""
    if head[4:8] == b'ftyp':
        return head[8:12] not in PICTURES
    return (head[4:8] in (b'moov', b'mdat', b'wide') or head[:4] == b'RIFF' and head[8:12] == b'AVI '
            or head[:4] == b'\x1a\x45\xdf\xa3')


def read_ifd(file: FileBytes, offset: int) -> Ifd:
    """The IFD at ``offset``. Raises RecordingFormatError."""
    count, = struct.unpack('<Q', file.read(offset, 8, 'IFD'))
    if not 0 < count <= MAX_TAGS:
        raise file.damaged(f'the IFD at {offset} claims {count} tags')
    data = file.read(offset + 8, 20 * count + 8, 'IFD')
    values: Dict[int, Tuple[int, ...]] = {}
    text = (0, 0)
    for number in range(count):
        tag, kind, length, raw = struct.unpack_from('<HHQ8s', data, 20 * number)
        if tag == _TEXT:
            text = _text_place(file, kind, length, raw, offset + 8 + 20 * number + 12)
        elif kind in _TYPE_SIZES and 0 < length * _TYPE_SIZES[kind] <= 8:
            values[tag] = _numbers(kind, length, raw)
    next_ifd, = struct.unpack_from('<Q', data, 20 * count)
    return Ifd(offset, next_ifd, _one(file, values, _STRIP_OFFSET), _one(file, values, _STRIP_LENGTH), *text, values)


def shape_of(file: FileBytes, ifd: Ifd) -> PageShape:
    """Size and encoding of a page. Raises RecordingFormatError when it is not as recordings are."""
    values = ifd.values
    height, width = _one(file, values, _LENGTH), _one(file, values, _WIDTH)
    channels = _one(file, values, _SAMPLES)
    compression = _one(file, values, _COMPRESSION)
    as_ours = (channels in (1, 3) and values.get(_BITS) == (8,) * channels and compression in (1, 8)
               and values.get(_PHOTOMETRIC) == ((2,) if channels == 3 else (1,))
               and values.get(_ROWS) == (height,) and values.get(_PLANAR, (1,)) == (1,)
               and values.get(_PREDICTOR, (1,)) == ((2,) if compression == 8 else (1,)))
    if not as_ours:
        raise RecordingFormatError(f'{file.path} is a TIFF, but its pages are not laid out as those of a recording; '
                                   'open it with a general TIFF reader')
    shape = PageShape(height, width, channels, compression == 8)
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE and shape.nbytes <= MAX_PAGE_BYTES):
        raise file.damaged(f'its pages would have {width} x {height} pixels')
    check_strip(file, shape, ifd.strip_offset, ifd.strip_length)
    return shape


def check_strip(file: FileBytes, shape: PageShape, offset: int, length: int) -> None:
    """Raises RecordingFormatError when a strip does not lie in the file or cannot hold a page."""
    if offset < HEADER_SIZE or offset + length > file.size:
        raise file.damaged(f'a strip would lie at {offset}+{length}, beyond its {file.size} bytes')
    can_hold = length * MAX_DEFLATE_RATIO + MAX_DEFLATE_RATIO >= shape.nbytes if shape.compressed \
        else length == shape.nbytes
    if not can_hold:
        raise file.damaged(f'a strip of {length} bytes cannot hold a page of {shape.nbytes}')


def _text_place(file: FileBytes, kind: int, length: int, raw: bytes, inline_at: int) -> Tuple[int, int]:
    if kind != 2 or not 0 < length <= MAX_TEXT:
        raise file.damaged(f'a page description claims {length} bytes')
    offset = inline_at if length <= 8 else struct.unpack('<Q', raw)[0]
    if offset + length > file.size:
        raise file.damaged(f'a page description would lie at {offset}+{length}, beyond its {file.size} bytes')
    return offset, length - 1


def _numbers(kind: int, length: int, raw: bytes) -> Tuple[int, ...]:
    if kind == 5:
        return struct.unpack('<2I', raw)
    code = {1: 'B', 2: 'B', 3: 'H', 4: 'I', 16: 'Q'}[kind]
    return struct.unpack_from(f'<{length}{code}', raw)


def _one(file: FileBytes, values: Dict[int, Tuple[int, ...]], tag: int) -> int:
    numbers = values.get(tag, ())
    if len(numbers) != 1:
        raise file.damaged(f'a page lacks TIFF tag {tag}')
    return numbers[0]
