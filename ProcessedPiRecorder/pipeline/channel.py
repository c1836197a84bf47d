"""Channels: whole messages and file descriptors, both ways, between the keeper and each other process.

A channel carries what is rare and of any size (settings, what the camera granted, errors, the report); frames go
by link. Messages are pickles of plain types between our own processes of one recording, over an anonymous socket
pair; nothing from disk or from outside ever comes this way.
"""

from __future__ import annotations

import array
import logging
import os
import pickle
import select
import socket
import struct
import threading
import traceback
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Sequence, Tuple

from .. import errors

__all__ = ['Channel', 'ChannelLogHandler', 'RemoteError']

_HEADER = struct.Struct('<QI')
_MAX_FDS = 8
MOST_LOG_TEXT = 30_000    # characters; far below a socket's buffer
MOST_WORDS = 5_000        # of an exception's own


class Channel:
    """One end of a socket pair. ``send`` may be called from any thread, ``receive`` from one."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._lock = threading.Lock()
        self.closed = False

    @classmethod
    def pair(cls) -> Tuple['Channel', 'Channel']:
        """Two joined ends."""
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        return cls(one), cls(other)

    @classmethod
    def from_fd(cls, fd: int) -> 'Channel':
        """The end that was inherited as ``fd``."""
        return cls(socket.socket(fileno=fd))

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, kind: str, payload: Any = None, fds: Sequence[int] = (), dumps: Any = pickle.dumps) -> bool:
        """Send a message, and descriptors with it. False: nobody is there any more."""
        data = dumps((kind, payload))
        try:
            with self._lock:
                # In one call, if it fits: a signal handler that raises must not leave half a message behind. The
                # descriptors ride on its beginning.
                message = _HEADER.pack(len(data), len(fds)) + data
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', fds))] if fds else []
                sent = self._socket.sendmsg([message], rights, socket.MSG_NOSIGNAL)
                if sent < len(message):
                    self._socket.sendall(memoryview(message)[sent:], socket.MSG_NOSIGNAL)
            return True
        except (BrokenPipeError, ConnectionResetError, OSError):
            return False

    def send_if_room(self, kind: str, payload: Any) -> bool:
        """Send, unless that would have to wait: for what may be dropped (log records)."""
        poll = select.poll()
        poll.register(self._socket, select.POLLOUT)
        return bool(poll.poll(0)) and self.send(kind, payload)

    def receive(self) -> Optional[Tuple[str, Any, List[int]]]:
        """Wait for the next message: (kind, payload, descriptors), or None when the other end is closed."""
        try:
            header, fds = self._receive_header()
            if header is None:
                return None
            data = self._receive_exactly(header[0])
        except (ConnectionResetError, OSError):
            return None
        if data is None:
            return None
        kind, payload = pickle.loads(data)
        return kind, payload, fds

    def _receive_header(self) -> Tuple[Optional[Tuple[int, int]], List[int]]:
        data, fds, _, _ = socket.recv_fds(self._socket, _HEADER.size, _MAX_FDS)
        if data and len(data) < _HEADER.size:
            rest = self._receive_exactly(_HEADER.size - len(data))
            data = data + rest if rest is not None else b''
        return (_HEADER.unpack(data) if data else None), list(fds)

    def _receive_exactly(self, size: int) -> Optional[bytes]:
        parts = bytearray()
        while len(parts) < size:
            part = self._socket.recv(min(size - len(parts), 1 << 20))
            if not part:
                return None
            parts += part
        return bytes(parts)

    def wait(self, timeout: Optional[float]) -> bool:
        """Sleep until a message (or the end) is there, or the timeout is over."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(None if timeout is None else max(0.0, timeout * 1000)))

    def close(self) -> None:
        """Close this end. Harmless twice."""
        self.closed = True
        self._socket.close()

    def detach(self) -> int:
        """Give up the descriptor without closing it (it goes on to a child)."""
        self.closed = True
        return self._socket.detach()


@dataclass(frozen=True)
class RemoteError:
    """An exception on its way from the process where it was raised to the user's script, as plain types.

    The exception itself may be of a class that only that process knows, or may not be picklable.
    """

    kind: str                        # a class name of errors.py
    message: str
    traceback: str
    values: Dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, error: BaseException, otherwise: str, context: str = '') -> 'RemoteError':
        """From a caught exception; one that is not of our tree becomes ``otherwise`` with ``context`` before it."""
        try:
            words = _cut(str(error), MOST_WORDS)
            text = _cut(''.join(traceback.format_exception(type(error), error, error.__traceback__)), MOST_LOG_TEXT)
        except BaseException:              # anything can be raised, also by being printed; the news of it must not fail
            words, text = '(it cannot be printed)', ''
        name = type(error).__name__
        if isinstance(error, errors.RecorderError) and getattr(errors, name, None) is type(error):
            return cls(name, words, text)
        message = f'{name}: {words}' if words else name
        return cls(otherwise, f'{context}{message}', text)

    def to_exception(self) -> errors.RecorderError:
        """The exception to raise in the user's script, with the remote traceback as its cause."""
        error = getattr(errors, self.kind)(self.message, **self.values)
        if self.traceback:
            error.__cause__ = errors.RemoteTraceback(self.traceback)
        assert isinstance(error, errors.RecorderError)
        return error


def _cut(text: str, most: int) -> str:
    """The beginning and the end of a text that is too long."""
    return text if len(text) <= most else f'{text[:most // 2]} […] {text[-most // 2:]}'


class ChannelLogHandler(logging.Handler):
    """Sends a child's log records towards the user's script, where its own logging set-up decides about them."""

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self._channel = channel
        self._pid = os.getpid()

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record as plain values; dropped rather than waited for, and cut rather than large."""
        if os.getpid() != self._pid:
            return                         # a fork of the callback's own: two on one channel would talk into each other
        try:
            text = record.getMessage()
            if record.exc_info:
                text += '\n' + logging.Formatter().formatException(record.exc_info)
            self._channel.send_if_room('log', (record.name, record.levelno, text[:MOST_LOG_TEXT]))
        except Exception:
            self.handleError(record)
