"""Links: bounded queues of small records between exactly one writing and one reading process.

A link is a pipe. Each record is 48 bytes, written in one call and far below PIPE_BUF, so a reader sees whole
records or none, and a process that is killed at any moment leaves no lock behind and no half record in front of
its successor's. The pipe is made large enough for one record a slot, so that a sender never waits (where the system
allows no such pipe, it may wait for its reader for a moment, and the log says so).
"""

from __future__ import annotations

import fcntl
import logging
import os
import select
import struct
from typing import List, NamedTuple, Optional, Tuple

__all__ = ['Kind', 'LinkReader', 'LinkWriter', 'Record', 'make_link']

log = logging.getLogger(__name__)

_RECORD = struct.Struct('<HHIqqqqq')
_F_SETPIPE_SZ, _F_GETPIPE_SZ = 1031, 1032     # fcntl has the names only from Python 3.10 on
_SPARE_RECORDS = 256     # losses, the end mark
#: "no value" in a field that may also be any number.
NOTHING = -(2 ** 63)


class Kind:
    """What a record says."""

    FRAME = 1      # reader -> writer: slot holds frame a=index b=time_ns c=sensor_ns d=host_ns e=skew_ns
    LOST = 2       # reader -> writer: a=index of the first, b=count, c=time_ns before, d=reason number
    END = 3        # reader -> writer, writer -> callback, callback -> writer: nothing follows
    FREE = 4       # writer -> reader: slot may be filled again
    OFFER = 5      # writer -> callback: slot holds frame a=index b=time_ns c=host_ns d=output slot (or NOTHING)
    DONE = 6       # callback -> writer: a=index b=outcome c=begun_ns d=ended_ns (CLOCK_MONOTONIC)


class Record(NamedTuple):
    """One record; the meaning of a to e depends on its kind."""

    kind: int
    generation: int
    slot: int
    a: int
    b: int
    c: int
    d: int
    e: int


class LinkWriter:
    """The sending end. ``send`` raises BrokenPipeError once the reading process is gone."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def send(self, kind: int, slot: int = 0, a: int = 0, b: int = 0, c: int = 0, d: int = 0, e: int = 0,
             generation: int = 0) -> None:
        """Send one record."""
        os.write(self.fd, _RECORD.pack(kind, generation, slot, a, b, c, d, e))

    def close(self) -> None:
        """Close this end; the reader sees the end of the link. Harmless twice."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class LinkReader:
    """The receiving end. ``fileno`` makes it selectable."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.ended = False
        os.set_blocking(fd, False)

    def fileno(self) -> int:
        return self.fd

    def receive(self) -> List[Record]:
        """All records that are there now, possibly none. ``ended`` is set at the end of the link."""
        try:
            data = os.read(self.fd, _RECORD.size * 1024)
        except BlockingIOError:
            return []
        if not data:
            self.ended = True
            return []
        return [Record(*fields) for fields in _RECORD.iter_unpack(data)]

    def wait(self, timeout: Optional[float] = None, wake_fd: Optional[int] = None) -> bool:
        """Sleep until something can be received (True), ``wake_fd`` is readable, or the timeout is over."""
        poll = select.poll()               # select() refuses descriptors above 1023
        for fd in (self.fd,) if wake_fd is None else (self.fd, wake_fd):
            poll.register(fd, select.POLLIN)
        ready = poll.poll(None if timeout is None else max(0, timeout * 1000))
        return any(fd == self.fd for fd, _ in ready)

    def close(self) -> None:
        """Close this end. Harmless twice."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def make_link() -> Tuple[int, int]:
    """A new pipe as (reading descriptor, writing descriptor), both closed on exec."""
    return os.pipe()


def fit_link(fd: int, slots: int) -> None:
    """Make the pipe behind ``fd`` hold a record for each of ``slots``, so that its sender never waits."""
    # The kernel never splits a record over two of the pipe's pages.
    wanted = -(-(slots + _SPARE_RECORDS) // (4096 // _RECORD.size)) * 4096
    # Mostly 64 KiB; a user with many pipes gets less.
    if wanted <= fcntl.fcntl(fd, _F_GETPIPE_SZ):
        return
    try:
        fcntl.fcntl(fd, _F_SETPIPE_SZ, wanted)
    except OSError as error:
        # The user's quota of pipe memory is used up. A sender may then wait for its reader for a moment.
        log.warning('a link could not be enlarged to %d bytes: %s', wanted, error)
