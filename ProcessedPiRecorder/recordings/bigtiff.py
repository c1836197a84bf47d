"""The BigTIFF appender: pages go on at the end, and nothing that a reader can reach is ever half written.

Pages are written as strip, text, IFD, linked among themselves into a *group*. ``sync`` makes the group durable with
``fdatasync``, and only then links it from the last durable page (the first group: from the file's header). A power
cut at any moment therefore leaves a chain of whole pages. Next-IFD fields lie on multiples of 8 bytes: one that
straddles two blocks of the disk could be torn.

``append`` and ``append_block`` belong to one thread, ``sync`` to another; ``finish`` comes after both have ended.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import struct
import threading
import weakref
from pathlib import Path
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

from ..errors import RecordingFileError
from .space import Room, room_at
from .volume import volume_of

__all__ = ['HEADER_SIZE', 'BigTiffAppender', 'EncodedPage', 'PageLayout', 'PagePlace', 'file_error', 'is_full',
           'refuse_fat', 'remove', 'sync_folder', 'write_all']

log = logging.getLogger(__name__)

HEADER_SIZE = 16
FIRST_IFD_AT = 8          # the header's field that tells where the first IFD is
MAX_BUFFERS = 1024        # Linux's IOV_MAX

_LINK = struct.Struct('<Q')
_SHORT, _LONG, _RATIONAL, _ASCII, _LONG8 = 3, 4, 5, 2, 16


class EncodedPage(NamedTuple):
    """A page ready to be written: the strip's buffers, its length, and the sealed text (without the final NUL)."""

    buffers: Sequence[Any]
    strip_length: int
    text: bytes


class PagePlace(NamedTuple):
    """Where a page landed in the file, in bytes."""

    strip_offset: int
    strip_length: int
    text_offset: int
    ifd_offset: int
    next_at: int          # where its next-IFD field stands
    end: int


class PageLayout:
    """The tags that all pages of a file share, as a ready-made IFD.

    The number of tags is even: an entry has 20 bytes, so the next-IFD field then is aligned to 8 like the IFD.
    """

    def __init__(self, height: int, width: int, channels: int, compressed: bool) -> None:
        tags = [
            (256, _LONG, 1, struct.pack('<Q', width)),                                  # ImageWidth
            (257, _LONG, 1, struct.pack('<Q', height)),                                 # ImageLength
            (258, _SHORT, channels, struct.pack('<4H', *([8] * channels + [0] * (4 - channels)))),
            (259, _SHORT, 1, struct.pack('<Q', 8 if compressed else 1)),                # Compression
            (262, _SHORT, 1, struct.pack('<Q', 2 if channels == 3 else 1)),             # RGB, BlackIsZero
            (270, _ASCII, 0, bytes(8)),                                                 # ImageDescription
            (273, _LONG8, 1, bytes(8)),                                                 # StripOffsets
            (277, _SHORT, 1, struct.pack('<Q', channels)),                              # SamplesPerPixel
            (278, _LONG, 1, struct.pack('<Q', height)),                                 # RowsPerStrip
            (279, _LONG8, 1, bytes(8)),                                                 # StripByteCounts
            (282, _RATIONAL, 1, struct.pack('<II', 1, 1)),                              # XResolution
            (283, _RATIONAL, 1, struct.pack('<II', 1, 1)),                              # YResolution
            (284, _SHORT, 1, struct.pack('<Q', 1)),                                     # PlanarConfiguration
            (296, _SHORT, 1, struct.pack('<Q', 1)),                                     # ResolutionUnit: none
        ]
        if compressed:
            tags.insert(0, (254, _LONG, 1, bytes(8)))                                   # NewSubfileType
            tags.append((317, _SHORT, 1, struct.pack('<Q', 2)))                         # Predictor: horizontal
        entries = b''.join(struct.pack('<HHQ', *tag[:3]) + tag[3] for tag in tags)
        self._template = struct.pack('<Q', len(tags)) + entries + bytes(8)
        self.size = len(self._template)
        numbers = [tag[0] for tag in tags]
        self._text_at, self._strip_at, self._length_at = (8 + 20 * numbers.index(number) for number in (270, 273, 279))

    def ifd(self, strip_offset: int, strip_length: int, text_offset: int, text_count: int, next_ifd: int) -> bytes:
        """One page's IFD; ``text_count`` includes the final NUL."""
        ifd = bytearray(self._template)
        struct.pack_into('<QQ', ifd, self._text_at + 4, text_count, text_offset)
        struct.pack_into('<Q', ifd, self._strip_at + 12, strip_offset)
        struct.pack_into('<Q', ifd, self._length_at + 12, strip_length)
        struct.pack_into('<Q', ifd, self.size - 8, next_ifd)
        return bytes(ifd)

    def place(self, offset: int, strip_length: int, text: bytes) -> PagePlace:
        """Where a page that starts at ``offset`` (a multiple of 8) has its pieces."""
        text_offset = offset + strip_length
        ifd_offset = _aligned(text_offset + len(text) + 1)
        end = ifd_offset + self.size
        return PagePlace(offset, strip_length, text_offset, ifd_offset, end - 8, end)

    def tail(self, place: PagePlace, text: bytes, next_ifd: int) -> bytes:
        """What follows the strip: the text, its NUL and padding, the IFD."""
        padding = bytes(place.ifd_offset - place.text_offset - len(text))
        return text + padding + self.ifd(place.strip_offset, place.strip_length, place.text_offset, len(text) + 1,
                                         next_ifd)


class _Group:
    """Pages that are written and linked among themselves, but not yet reachable."""

    def __init__(self, first_ifd: int) -> None:
        self.first_ifd = first_ifd
        self.last_next_at = 0
        self.pages = 0


class BigTiffAppender:
    """One growing BigTIFF file, created exclusively. Raises RecordingFileError when it cannot be made or written.

    Attributes:
        path: where it is (``rename`` follows).
        end: bytes of whole pages and blocks so far.
        pages: pages written; linked_pages: of these, reachable from the header.
    """

    def __init__(self, path: Path, layout: PageLayout) -> None:
        self.path = path
        self.layout = layout
        self.pages = 0
        self.linked_pages = 0
        self.end = HEADER_SIZE
        self._lock = threading.Lock()    # guards _group and the links inside it
        self._group: Optional[_Group] = None
        self._closed_groups: List[_Group] = []      # not yet linked, in their order; guarded too
        self._link_at = FIRST_IFD_AT     # the field that will lead to the next group
        self._first_places: List[PagePlace] = []
        self._sync_failed = False
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except FileExistsError:
            raise RecordingFileError(f'{path} exists already; choose another name, or pass overwrite=True') from None
        except OSError as error:
            raise file_error(path, 'cannot be created', error) from error
        lock_file(self._fd)
        _growing.add(self)
        try:
            write_all(self._fd, [struct.pack('<2sHHHQ', b'II', 43, 8, 0, 0)], 0)
        except OSError as error:
            self.close()
            os.unlink(path)
            raise file_error(path, 'cannot be written', error) from error

    @property
    def unlinked_pages(self) -> int:
        """Pages that wait for the next ``sync``."""
        return self.pages - self.linked_pages

    def append(self, pages: Sequence[EncodedPage]) -> List[PagePlace]:
        """Write pages behind one another and link them into the open group. Blocks for the kernel's copy only."""
        places: List[PagePlace] = []
        offset = self.end
        for page in pages:
            places.append(self.layout.place(offset, page.strip_length, page.text))
            offset = places[-1].end
        buffers: List[Any] = []
        for number, (page, place) in enumerate(zip(pages, places)):
            next_ifd = places[number + 1].ifd_offset if number + 1 < len(places) else 0
            buffers += [*page.buffers, self.layout.tail(place, page.text, next_ifd)]
        self._write(buffers, self.end)
        self._join_group(places)
        # Nothing can fail from here on: a page counts with all that is kept of it, or not at all.
        self.end = offset
        if len(self._first_places) < 2:
            self._first_places = (self._first_places + places)[:2]
        return places

    def append_block(self, data: bytes) -> int:
        """Write a block that is no page (the index) and return its offset, a multiple of 8."""
        offset = self.end
        self._write([data, bytes(-len(data) % 8)], offset)
        self.end = _aligned(offset + len(data))
        return offset

    def sync(self) -> None:
        """Make everything written so far durable, then link it. Blocks until the disk has it."""
        if self._sync_failed:
            raise RecordingFileError(f'{self.path} could not be synced to the disk before; what came after the last '
                                     'sync is not safe')
        with self._lock:
            self._close_group()
            ready = len(self._closed_groups)
        self._sync_failed = True         # until the opposite is proven
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            # The kernel may have dropped the pages it could not write and report success next time.
            raise file_error(self.path, 'cannot be synced to the disk', error) from error
        self._sync_failed = False
        for _ in range(ready):           # a link that could not be written may still be, later
            group = self._closed_groups[0]
            self._write_link(self._link_at, group.first_ifd)
            self._link_at = group.last_next_at
            self.linked_pages += group.pages
            with self._lock:
                del self._closed_groups[0]

    def finish(self, first_text: bytes) -> None:
        """Give page 0 a new IFD with ``first_text`` as its description, make it the file's first, and close.

        Blocks until everything is durable. At least one page must have been written.
        """
        self.sync()
        first = self._first_places[0]
        following = self._first_places[1].ifd_offset if len(self._first_places) > 1 else 0
        text_offset = self.end
        ifd_offset = _aligned(text_offset + len(first_text) + 1)
        ifd = self.layout.ifd(first.strip_offset, first.strip_length, text_offset, len(first_text) + 1, following)
        self._write([first_text, bytes(ifd_offset - text_offset - len(first_text)), ifd], text_offset)
        self.end = ifd_offset + len(ifd)
        self.sync()
        self._write_link(FIRST_IFD_AT, ifd_offset)
        try:
            self.sync()
        except RecordingFileError:
            # Both chains are whole. But what nobody could make sure of must not be found as a clean end.
            self._write_link(FIRST_IFD_AT, first.ifd_offset)
            raise
        self.close()

    def rescue(self) -> None:
        """After a failed write: cut off the torn end and link what is whole.

        Raises RecordingFileError when it cannot be linked, or when it was a sync that failed.
        """
        if not self._sync_failed:
            try:
                os.ftruncate(self._fd, self.end)
            except OSError as error:
                log.warning('%s: its torn end cannot be cut off (%s); no reader gets there', self.path, error)
        self.sync()
        self.sync()      # the link itself

    def disk_room(self) -> Optional[Room]:
        """What is free where the file is; None: the file system does not tell."""
        return room_at(self._fd)

    def rename(self, path: Path) -> None:
        """Put the file under another name, replacing what is there."""
        try:
            os.replace(self.path, path)
        except OSError as error:
            raise file_error(path, 'cannot be replaced', error) from error
        self.path = path

    def close(self) -> None:
        """Close the file as it is. Harmless twice."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            try:
                os.close(fd)
            except OSError as error:
                # The descriptor is gone all the same, and whatever is to be relied on was synced before.
                log.warning('%s: closing it failed: %s', self.path, error)

    def _join_group(self, places: Sequence[PagePlace]) -> None:
        with self._lock:
            if self._group is not None:
                try:
                    self._write_link(self._group.last_next_at, places[0].ifd_offset)
                except RecordingFileError as error:
                    # The pages are there. A group of their own is linked by the next sync, or that one ends it all.
                    log.warning('%s; it is tried again with the next sync', error)
                    self._close_group()
            if self._group is None:
                self._group = _Group(places[0].ifd_offset)
            self._group.last_next_at = places[-1].next_at
            self._group.pages += len(places)
            self.pages += len(places)

    def _close_group(self) -> None:
        """Nothing joins the open group any more; the next sync links it. Under the lock."""
        if self._group is not None:
            self._closed_groups.append(self._group)
            self._group = None

    def _write_link(self, at: int, ifd_offset: int) -> None:
        self._write([_LINK.pack(ifd_offset)], at)

    def _write(self, buffers: Sequence[Any], offset: int) -> None:
        try:
            write_all(self._fd, buffers, offset)
        except OSError as error:
            raise file_error(self.path, 'cannot be written', error) from error


_growing: 'weakref.WeakSet[BigTiffAppender]' = weakref.WeakSet()


def _close_in_child() -> None:
    """In a fork that a callback makes ('2Proc'): the lock would outlive us, and keep our heirs from the file."""
    for file in list(_growing):
        file.close()


os.register_at_fork(after_in_child=_close_in_child)


def write_all(fd: int, buffers: Sequence[Any], offset: int) -> None:
    """Write all buffers at ``offset``, however many system calls that takes."""
    left = [view for view in (memoryview(buffer).cast('B') for buffer in buffers) if len(view)]
    first = 0
    while first < len(left):
        written = os.pwritev(fd, left[first:first + MAX_BUFFERS], offset)
        if written <= 0:
            raise OSError(f'the system wrote nothing at offset {offset}')
        offset += written
        while first < len(left) and written >= len(left[first]):
            written -= len(left[first])
            first += 1
        if written:
            left[first] = left[first][written:]


def sync_folder(path: Path) -> None:
    """Make the name of a new file durable, where the system allows it."""
    try:
        fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        # A folder may be writable but not readable, and some network and FUSE file systems know no fsync of a
        # folder; the file itself is synced all the same.
        log.debug('the folder %s cannot be synced: %s', path.parent, error)


def refuse_fat(path: Path) -> None:
    """Raises RecordingFileError when the folder lies on FAT, which ends every file at 4 GB."""
    volume = volume_of(path.parent)
    if volume.is_fat:
        raise RecordingFileError(f'{path.parent} lies on a FAT file system ({volume.kind}), where no file can be '
                                 'larger than 4 GB and a recording would break off; record to another disk, or format '
                                 'this one as ext4 or exFAT')


def lock_file(fd: int) -> bool:
    """Mark a file as being recorded, for other recorders; False: another one does it. Gone with its process."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:                        # some network file systems have no locks
        pass
    return True


def refuse_if_recording(path: Path) -> None:
    """Raise RecordingFileError when another recorder is writing this file at the moment."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not lock_file(fd):
            raise RecordingFileError(f'{path} is being recorded at this moment by another recorder; stop that one, or '
                                     'choose another name')
    finally:
        os.close(fd)


def file_error(path: Path, what: str, error: OSError) -> RecordingFileError:
    """An error of the system as one of ours, with what to do."""
    if isinstance(error, RecordingFileError):
        return error
    return RecordingFileError(f'{path} {what}: {error.strerror or error}; {_advice(error)}')


def remove(path: Path) -> None:
    """Remove a file, if it is there. Raises RecordingFileError."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise file_error(path, 'cannot be removed', error) from error


def is_full(error: RecordingFileError) -> bool:
    """Whether what was too much is all that was wrong: a smaller write may still fit."""
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _advice(error: OSError) -> str:
    known: Tuple[Tuple[Tuple[int, ...], str], ...] = (
        ((errno.ENOSPC,), 'make room on the disk or record to another one'),
        ((errno.EDQUOT,), 'your quota there is used up: remove files of yours, have it raised, or record to another '
                          'disk'),
        ((errno.ENOENT, errno.ENOTDIR), 'make the folder first, or correct the path'),
        ((errno.EACCES, errno.EPERM, errno.EROFS), 'choose a folder that you may write to'),
        ((errno.EISDIR,), 'that is a folder: add a file name'),
        ((errno.EFBIG,), 'the file system or a limit (ulimit -f) allows no larger file; use split_frames'),
        ((errno.ENAMETOOLONG,), 'use a shorter name'))
    for numbers, advice in known:
        if error.errno in numbers:
            return advice
    return 'check the disk (dmesg tells more)'


def _aligned(offset: int) -> int:
    return (offset + 7) & ~7
