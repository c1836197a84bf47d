"""The two threads at the ends of a pipe that carries messages: one that feeds it, one that drains it.

A message is its length (8 bytes, little-endian) and its bytes. Both threads block in ``poll``, on their pipe and
on a wake-up pipe of their own, by which they can be told to give up; both close their descriptors themselves,
so that no other thread can close one that is in use.
"""

from __future__ import annotations

import os
import queue
import select
import signal
import struct
import threading
from typing import Callable, List, Optional, Tuple

from .spill import InputClosed, SpillQueue

__all__ = ['Drain', 'Feeder']

BATCH_BYTES = 1 << 16      # a pipe's usual capacity: more at once would only be written in pieces
READ_BYTES = 1 << 18
LENGTH = struct.Struct('<Q')
END = (1 << 64) - 1        # in place of a length: the sender has sent everything

# The handler of a fault must run in the thread where it happens.
_FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT}


class PipeThread:
    """A daemon thread that owns one end of a pipe, and can be told to give up while it waits for it."""

    def __init__(self, name: str, fd: int, events: int) -> None:
        self._fd = fd
        self._events = events
        self._wake_r, self._wake_w = os.pipe()
        self._lock = threading.Lock()
        self._cancelled = False
        self._open = True
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def cancel(self) -> None:
        """Give up as soon as the pipe would have to be waited for."""
        with self._lock:
            self._cancelled = True
            if self._open:
                os.write(self._wake_w, b'!')
        if self._thread.ident is None:     # never started: nobody else closes
            self.close_fds()

    def join(self, timeout: Optional[float] = None) -> bool:
        """Wait for the thread's end; True when it has ended, or was never started."""
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def running(self) -> bool:
        """False once it has closed its pipe."""
        return self._open

    @property
    def cancelled(self) -> bool:
        return self._cancelled

    def close_fds(self) -> None:
        with self._lock:
            if self._open:
                self._open = False
                for fd in (self._fd, self._wake_r, self._wake_w):
                    os.close(fd)

    def close_fds_in_child(self) -> None:
        """After fork, in the child: as ``close_fds``, without a lock that no thread there would ever release."""
        if self._open:
            self._open = False
            for fd in (self._fd, self._wake_r, self._wake_w):
                os.close(fd)

    def _main(self) -> None:
        # A signal must reach the main thread, or its blocking get() would not notice Ctrl-C; and SIGPIPE, where
        # a script has set it back to its default, would end the process when the callback's process dies.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - _FAULTS)
        try:
            self._run()
        finally:
            self.close_fds()
            self._ended()

    def _run(self) -> None:
        raise NotImplementedError

    def _ended(self) -> None:
        """Called in the thread, last, with everything closed."""

    def _poller(self) -> Callable[[], bool]:
        """A function that blocks until the pipe is ready, or broken; False: give up."""
        poll = select.poll()
        poll.register(self._fd, self._events)
        poll.register(self._wake_r, select.POLLIN)

        def wait() -> bool:
            return any(fd == self._fd for fd, _ in poll.poll())
        return wait


class Drain(PipeThread):
    """Reads messages from a pipe into a SpillQueue until its end, in whole chunks."""

    def __init__(self, name: str, fd: int, into: SpillQueue, ended: Callable[['Drain'], None]) -> None:
        super().__init__(name, fd, select.POLLIN)
        self._into = into
        self._on_end = ended
        self._pending = bytearray()
        self._needed = LENGTH.size
        self.received = 0
        self.torn = 0

    def _run(self) -> None:
        wait = self._poller()
        finished = False
        while not finished and wait():
            chunk = os.read(self._fd, READ_BYTES)
            finished = not chunk or self._take(chunk)
        self.torn = int(bool(self._pending))

    def _take(self, chunk: bytes) -> bool:
        """Hand on the whole messages; True when the sender's end mark has come."""
        self._pending += chunk
        if len(self._pending) < self._needed:
            return False
        messages: List[bytes] = []
        with memoryview(self._pending) as view:
            position, ended = self._split(view, messages)
        del self._pending[:position]
        self._into.put_many(messages)
        self.received += len(messages)
        return ended

    def _split(self, view: memoryview, messages: List[bytes]) -> Tuple[int, bool]:
        """Copy the whole messages out; returns where the rest begins, and whether the end mark was there."""
        position, size = 0, len(view)
        self._needed = LENGTH.size
        while size - position >= LENGTH.size:
            length = LENGTH.unpack_from(view, position)[0]
            if length == END:
                return size, True
            start = position + LENGTH.size
            if size - start < length:
                self._needed = LENGTH.size + length
                break
            position = start + length
            messages.append(bytes(view[start:position]))
        return position, False

    def _ended(self) -> None:
        self._on_end(self)


class Feeder(PipeThread):
    """Writes messages from a SpillQueue into a pipe: many small ones in one write."""

    def __init__(self, name: str, fd: int, source: SpillQueue) -> None:
        super().__init__(name, fd, select.POLLOUT)
        self._source = source
        self._idle = True
        os.set_blocking(fd, False)

    def cancel(self) -> None:
        super().cancel()
        self._source.wake()

    def _run(self) -> None:
        wait = self._poller()
        while True:
            try:
                batch = self._source.get_batch(BATCH_BYTES, cancelled=lambda: self._cancelled)
            except InputClosed:
                self._write(LENGTH.pack(END), wait)
                return
            except queue.Empty:
                return
            data = b''.join([part for message in batch for part in (LENGTH.pack(len(message)), message)])
            sent = self._write(data, wait)
            if sent < len(data):
                self._source.put_back(_unsent(batch, sent))
                return

    def _write(self, data: bytes, wait: Callable[[], bool]) -> int:
        """Write it all; returns how many bytes the pipe took before it broke or this was cancelled."""
        view = memoryview(data)
        while view and wait():
            try:
                view = view[os.write(self._fd, view):]
            except BlockingIOError:     # less room than one page: poll says ready, the write does not fit
                continue
            except BrokenPipeError:
                break
        return len(data) - len(view)

    def _ended(self) -> None:
        self._source.wake()     # for whoever waits until everything has been sent


def _unsent(batch: List[bytes], sent: int) -> List[bytes]:
    """The messages of a batch that did not go into the pipe whole."""
    for number, message in enumerate(batch):
        sent -= LENGTH.size + len(message)
        if sent < 0:
            return batch[number:]
    return []
