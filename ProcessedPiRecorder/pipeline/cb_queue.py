"""The two-way queue between the callback and the user's script: ``rec.cb_queue`` and the callback's ``cb_queue``.

::

    the script's process                                  the callback's process
    CallbackQueue.put ──► spill ──► feeder ══pipe══► drain ──► spill ──► CallbackPort.get
    CallbackQueue.get ◄── spill ◄── drain  ◄══pipe══ feeder ◄── spill ◄── CallbackPort.put

Each pipe has one writing and one reading process, and carries pickles with their length in front. No lock is
shared between processes: one that is killed while it writes leaves a torn last message, which the other side
drops and counts. What either side has not read waits in its own process, in memory and beyond a limit in an
unlinked file, so neither can ever hold up the other, or the recording.
"""

from __future__ import annotations

import os
import pickle
import queue
import threading
import time
from pathlib import Path
from typing import Any, Callable, Iterator, List, NoReturn, Optional

from ..errors import RecorderStateError
from .pipe_threads import Drain, Feeder
from .spill import DEFAULT_LIMIT, SpillQueue

__all__ = ['CallbackPort', 'CallbackQueue']

class _Side:
    """What both sides of the queue have in common: they look like a ``multiprocessing.Queue``."""

    _inbound: SpillQueue
    _outbound: SpillQueue
    _put_closed = False

    def put(self, obj: Any, block: bool = True, timeout: Optional[float] = None) -> None:
        """Send an object to the other side.

        It is pickled before ``put`` returns, so it may be changed at once. Never blocks: there is no limit
        that it would have to wait for; ``block`` and ``timeout`` are there for compatibility.
        Raises what pickle raises for an object that cannot be pickled, ValueError after ``close``.
        """
        if self._put_closed:
            raise ValueError('this cb_queue has been closed: put() is no longer possible')
        self._send(pickle.dumps(obj, pickle.HIGHEST_PROTOCOL))

    def put_nowait(self, obj: Any) -> None:
        """The same as ``put``."""
        self.put(obj)

    def get(self, block: bool = True, timeout: Optional[float] = None) -> Any:
        """The oldest object that the other side has put.

        Blocks until there is one, at most ``timeout`` seconds if given. Raises queue.Empty when there is none
        by then, and at once when nothing can come any more and everything has been read.
        """
        return pickle.loads(self._receive(timeout if block else 0.0))

    def get_nowait(self) -> Any:
        """``get`` without blocking."""
        return self.get(block=False)

    def empty(self) -> bool:
        """True when nothing that arrived is unread. More may be on its way."""
        return not self.qsize()

    def qsize(self) -> int:
        """How many objects have arrived here and are unread."""
        return len(self._inbound)

    def full(self) -> bool:
        """Always False: what is not read goes to a file."""
        return False

    def close(self) -> None:
        """Nothing more will be put from here. What has arrived, and what still arrives, can be read."""
        self._put_closed = True

    def cancel_join_thread(self) -> None:
        """Does nothing; there for compatibility. A process never waits for this queue when it exits."""

    def __iter__(self) -> Iterator[Any]:
        """What the other side puts, object by object, until nothing can come any more."""
        while True:
            try:
                message = self._receive(None)
            except queue.Empty:
                return
            yield pickle.loads(message)

    def __reduce__(self) -> NoReturn:
        raise TypeError('a cb_queue cannot be sent to another process: it joins the script that records with its '
                        'callback; pass results on with a multiprocessing.Queue of your own')

    def _send(self, message: bytes) -> None:
        self._outbound.put(message)

    def _receive(self, timeout: Optional[float]) -> bytes:
        return self._inbound.get(timeout)


class CallbackQueue(_Side):
    """The script's side, ``rec.cb_queue``: lives as long as the recorder, over recordings and callback restarts.

    ``get`` blocks before the first recording as any queue does, and raises queue.Empty once a recording has
    ended and everything is read; results of an earlier recording that were not read come first. Objects put
    while no callback runs reach the next one. What a callback that died had not read is lost with it.

    Everything here runs in the script's process. ``attach``, ``begin``, ``end``, ``wait_drained``,
    ``abandon`` and ``close_fds_in_child`` are the pipeline's.

    Args:
        limit_bytes: memory for unread objects in each direction; more goes to an unlinked file.
        spill_folder: where that file is made; None for a temporary folder on a disk.
    """

    def __init__(self, limit_bytes: int = DEFAULT_LIMIT, spill_folder: Optional[Path] = None) -> None:
        self._inbound = SpillQueue(limit_bytes, spill_folder)
        self._outbound = SpillQueue(limit_bytes, spill_folder)
        self._changed = threading.Condition()
        self._drains: List[Drain] = []
        self._feeder: Optional[Feeder] = None
        self._recording = True      # before the first recording, get() blocks as if in one
        self._received = 0
        self._torn = 0
        self._generation = 0
        self._owner_pid = os.getpid()

    @property
    def count_received(self) -> int:
        """Objects received from callbacks so far, read or not."""
        with self._changed:
            return self._received + sum(drain.received for drain in self._drains)

    @property
    def torn(self) -> int:
        """Messages that broke off because their callback's process was killed while it sent them."""
        return self._torn

    def attach(self, receive_fd: int, send_fd: int) -> None:
        """Join a new callback process; takes over both descriptors.

        The earlier process's drain goes on to its end; its feeder is stopped first, so that nothing that it
        could no longer send is lost. Blocks at most a second for that.
        """
        self._stop_feeder()
        with self._changed:
            self._generation += 1
            number = self._generation
            drain = Drain(f'cb_queue-drain-{number}', receive_fd, self._inbound, self._drained)
            self._feeder = Feeder(f'cb_queue-feeder-{number}', send_fd, self._outbound)
            self._drains.append(drain)
            drain.start()
            self._feeder.start()

    def begin(self) -> None:
        """A recording starts: ``get`` blocks again."""
        with self._changed:
            self._recording = True
            self._inbound.open_input()

    def end(self) -> None:
        """The recording has ended: when the last drain is through, ``get`` raises Empty on an empty queue."""
        self._stop_feeder()
        with self._changed:
            self._recording = False
            self._close_when_drained()

    def wait_drained(self, timeout: Optional[float] = None) -> bool:
        """Block until everything that any callback sent has arrived; False when ``timeout`` seconds pass first."""
        with self._changed:
            drains = list(self._drains)
            done = self._changed.wait_for(lambda: not self._drains, timeout)
        if done:
            for drain in drains:
                drain.join()
        return done

    def abandon(self, timeout: float = 1.0) -> bool:
        """Wait no longer for pipes that stay open though their callback is dead (a child of its own holds them).

        What lies in them is still read. Returns False if a drain did not end within ``timeout`` seconds.
        """
        with self._changed:
            drains = list(self._drains)
        for drain in drains:
            drain.cancel()
        deadline = time.monotonic() + timeout
        return all([drain.join(max(0.0, deadline - time.monotonic())) for drain in drains])

    def join_thread(self) -> None:
        """Block until what was put has been handed to the callback, or there is no callback to hand it to."""
        feeder = self._feeder
        if feeder is not None:
            self._outbound.wait_empty(cancelled=lambda: feeder is not self._feeder or not feeder.running)

    def close_fds_in_child(self) -> None:
        """After fork, in a child that is not the pipeline's: let go of the pipes. The queue is unusable there."""
        for thread in [*self._drains, self._feeder]:
            if thread is not None:
                thread.close_fds_in_child()
        self._drains = []
        self._feeder = None

    def _send(self, message: bytes) -> None:
        self._check_owner()
        super()._send(message)

    def _receive(self, timeout: Optional[float]) -> bytes:
        self._check_owner()
        return super()._receive(timeout)

    def _check_owner(self) -> None:
        if os.getpid() != self._owner_pid:
            raise RecorderStateError(
                f'this cb_queue belongs to process {self._owner_pid}, and this is its child {os.getpid()}: only the '
                'script that records can use it; pass results on with a multiprocessing.Queue of your own')

    def _stop_feeder(self) -> None:
        feeder, self._feeder = self._feeder, None
        if feeder is not None:
            feeder.cancel()
            feeder.join(1.0)

    def _drained(self, drain: Drain) -> None:
        with self._changed:
            self._drains.remove(drain)
            self._received += drain.received
            self._torn += drain.torn
            self._close_when_drained()
            self._changed.notify_all()

    def _close_when_drained(self) -> None:
        if not self._recording and not self._drains:
            self._inbound.close_input()


class CallbackPort(_Side):
    """The callback's side of the queue: what the callback is given as ``cb_queue``.

    Lives in the callback's process; its threads start there, at ``start`` or when they are first needed. ``get`` raises
    queue.Empty at once when the script's process has gone and everything is read.

    Args:
        receive_fd, send_fd: the pipes from and to the script's process; owned from here on.
        on_put: called in the putting thread with each object that was pickled and queued; must not raise.
        limit_bytes, spill_folder: as in CallbackQueue.
    """

    def __init__(self, receive_fd: int, send_fd: int, on_put: Optional[Callable[[Any], None]] = None,
                 limit_bytes: int = DEFAULT_LIMIT, spill_folder: Optional[Path] = None) -> None:
        self._inbound = SpillQueue(limit_bytes, spill_folder)
        self._outbound = SpillQueue(limit_bytes, spill_folder)
        self._drain = Drain('cb_queue-drain', receive_fd, self._inbound, lambda drain: self._inbound.close_input())
        self._feeder = Feeder('cb_queue-feeder', send_fd, self._outbound)
        self._on_put = on_put
        self._start_lock = threading.Lock()
        self._owner_pid: Optional[int] = None
        self._draining = False
        self._feeding = False
        self._dropped = 0
        self._finished = False
        self._everything_sent = False

    def start(self) -> None:
        """Start the sending thread, which ``finish`` needs: once memory is used up, a start would wait for ever."""
        self._start_feeding()

    def put(self, obj: Any, block: bool = True, timeout: Optional[float] = None) -> None:
        super().put(obj)
        if self._on_put is not None:
            self._on_put(obj)

    put.__doc__ = _Side.put.__doc__

    def qsize(self) -> int:
        self._start_draining()
        return super().qsize()

    qsize.__doc__ = _Side.qsize.__doc__

    def join_thread(self) -> None:
        """Block until what was put has left for the script's process, or that process has gone."""
        if self._feeding:
            self._outbound.wait_empty(cancelled=lambda: not self._feeder.running)

    def finish(self, timeout: float = 5.0) -> bool:
        """Send what is left, say that this was all, and close. Harmless when called twice; both answer the same.

        Blocks up to ``timeout`` seconds; less when the script's process has gone. True: everything was sent.
        """
        if not self._finished:
            self._finished = True
            self._everything_sent = self._finish(timeout)
        return self._everything_sent

    def _finish(self, timeout: float) -> bool:
        self.close()
        self._start_feeding()
        self._outbound.close_input()
        in_time = self._feeder.join(timeout)
        if not in_time:
            self._feeder.cancel()
            self._feeder.join(1.0)
        self._drain.cancel()
        self._drain.join(1.0)
        self._inbound.close_input()
        unsent = len(self._outbound) + self._dropped
        self._outbound.clear()
        return in_time and not unsent

    def _send(self, message: bytes) -> None:
        self._start_feeding()
        if self._feeder.running:
            super()._send(message)
        else:     # the script's process has gone: nobody will ever read it
            self._dropped += 1

    def _receive(self, timeout: Optional[float]) -> bytes:
        self._start_draining()
        return super()._receive(timeout)

    def _start_feeding(self) -> None:
        self._check_owner()
        if not self._feeding:
            with self._start_lock:
                if not self._feeding:
                    self._feeder.start()
                    self._feeding = True

    def _start_draining(self) -> None:
        self._check_owner()
        if not self._draining:
            with self._start_lock:
                if not self._draining and not self._drain.cancelled:
                    self._drain.start()
                    self._draining = True

    def _check_owner(self) -> None:
        if self._owner_pid is None:
            self._owner_pid = os.getpid()
        elif self._owner_pid != os.getpid():
            raise RecorderStateError(
                f'this cb_queue belongs to process {self._owner_pid}, and this is its child {os.getpid()}: return '
                'results to the callback (from a pool, say), and let the callback put them')
