"""Running the user's callback: in a process of its own ('3Proc') or in a thread of the writer ('2Proc').

The same runner does both. It takes offers from one link, gives the callback private copies of the frames, puts what
it returns into the output slot that came with the offer, and answers on the other link. A callback that raises is
answered for; a process that hangs or dies is the lane's and the keeper's affair.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import logging
import os
import select
import signal
import threading
import time
from typing import Any, Callable, Deque, NamedTuple, Optional

import numpy as np

from ..errors import CallbackError, RecordingFileError
from ..frame import Frame, why_not_recordable
from ..recordings.results import ResultsFile, results_path
from ..settings import Settings
from .cb_queue import CallbackPort
from .channel import Channel, RemoteError
from .lane import Outcome
from .links import NOTHING, Kind, LinkReader, LinkWriter, Record, fit_link
from .plan import FLUSH_TIMEOUT_S, STOP_GRACE_S, Plan
from .ring import Ring, Stat

__all__ = ['CallbackArguments', 'CallbackRunner', 'callback_main']

log = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1


class CallbackArguments(NamedTuple):
    """The callback's ends of its links and of the user's queue."""

    offers_fd: int         # from the writer
    answers_fd: int        # to the writer
    receive_fd: int        # from the user's script
    send_fd: int           # to the user's script
    generation: int


class CallbackRunner:
    """One generation of the callback.

    Args:
        tell: ``tell(kind, payload)`` reaches the keeper ('cb_error' with a RemoteError).
    """

    def __init__(self, plan: Plan, ring: Ring, arguments: CallbackArguments,
                 tell: Callable[[str, Any], Any]) -> None:
        settings = plan.settings
        assert settings.callback is not None
        self._settings: Settings = settings
        self._callback = settings.callback
        self._ring, self._tell = ring, tell
        self._generation = arguments.generation
        self._pid = os.getpid()
        self._offers, self._answers = LinkReader(arguments.offers_fd), LinkWriter(arguments.answers_fd)
        fit_link(arguments.answers_fd, ring.layout.slots)
        self._buffer: Deque[Frame] = collections.deque(maxlen=settings.buffer_length)
        self._results = self._open_results(plan)
        self._port = CallbackPort(arguments.receive_fd, arguments.send_fd, self._store)
        self._index: Optional[int] = None          # of the frame that results are bound to
        self._time_ns: Optional[int] = None
        self._told = 0
        self._stack = contextlib.ExitStack()
        self._left = False
        self.left = threading.Event()      # and its results are stored; what follows is bounded in time
        self.regular = False               # it was told to end, and has

    def _open_results(self, plan: Plan) -> Optional[ResultsFile]:
        if plan.tif_path is None:
            return None
        # A restarted callback goes on where its predecessor ended.
        return ResultsFile(results_path(plan.tif_path), plan.settings.overwrite, append=self._generation > 1)

    def enter(self) -> None:
        """Enter a context-managed callback. Raises what it raises."""
        if hasattr(self._callback, '__enter__') and hasattr(self._callback, '__exit__'):
            entered = self._stack.enter_context(self._callback)
            if callable(entered):
                self._callback = entered
        self._port.start()                 # not before: what __enter__ forks should come of one thread

    def run(self) -> None:
        """Answer offers until there are no more, then leave the callback and hand over all results."""
        try:
            while self._answer_batch():
                pass
            failures = self._leave()
            self._answers.send(Kind.END, a=failures, generation=self._generation)
        except BrokenPipeError:
            pass                           # the writer is gone: nobody waits for an answer
        finally:
            self._leave()                  # a lamp or a laser is switched off whatever has happened
            self._answers.close()
            self._offers.close()
            self._close_results()
            self.left.set()
            self._tell('left', None)
            self._port.finish(FLUSH_TIMEOUT_S)

    def _answer_batch(self) -> bool:
        self._offers.wait()
        records = self._offers.receive()
        for record in records:
            if record.kind == Kind.END:
                self.regular = True
                return False
            self._answer(record)
        return not self._offers.ended

    def _answer(self, record: Record) -> None:
        self._index, self._time_ns = record.a, record.b
        begun_ns = time.monotonic_ns()
        outcome = Outcome.FAILED
        try:
            self._buffer.append(Frame(self._ring.slots[record.slot].copy(), record.a, record.b))
            returned = self._callback(self._buffer, self._port)
            self._end_if_forked()
            outcome = self._record(returned, record)
        except BaseException as error:     # SystemExit too: a callback does not end the recording
            self._end_if_forked()
            self._report(error, record.a)
        self._flush_results()
        self._answers.send(Kind.DONE, record.slot, record.a, int(outcome), begun_ns, time.monotonic_ns(),
                           generation=self._generation)

    def _end_if_forked(self) -> None:
        """A fork that comes back from the call would answer in our place, and take our next frames."""
        if os.getpid() != self._pid:
            os._exit(0)

    def _record(self, returned: Any, record: Record) -> Outcome:
        """Put what the callback returned into the output slot, if it is to be recorded and can be."""
        if returned is None:
            return Outcome.NONE
        problem = why_not_recordable(returned, self._ring.layout.shape)
        if problem:
            raise CallbackError(f'the callback failed on frame {record.a}: {problem}')
        if record.d != NOTHING:
            np.copyto(self._ring.outputs[record.d], returned)
        return Outcome.RETURNED

    def _report(self, error: BaseException, index: int) -> None:
        if self._told < 3:                 # the first few say it all; every one is counted by the lane
            self._told += 1
            self._tell('cb_error', RemoteError.of(error, 'CallbackError', f'the callback failed on frame {index}: '))

    def _leave(self) -> int:
        """Leave a context-managed callback, once; returns how many failures that was."""
        if self._left:
            return 0
        self._left = True
        try:
            self._stack.close()
            return 0
        except BaseException as error:
            self._tell('cb_error', RemoteError.of(error, 'CallbackError', "the callback's __exit__ failed: "))
            return 1

    # -- results

    def _store(self, result: Any) -> None:
        self._ring.stats[Stat.RESULTS] += 1
        if self._results is None:
            return
        try:
            self._results.add(self._index, self._time_ns, result)
        except RecordingFileError as error:
            self._lose_results(error)

    def _flush_results(self) -> None:
        if self._results is not None:
            try:
                self._results.flush()
            except RecordingFileError as error:
                self._lose_results(error)

    def _lose_results(self, error: RecordingFileError) -> None:
        """Results that cannot be stored are still delivered by the queue."""
        self._results = None
        self._tell('cb_error', RemoteError.of(error, 'CallbackError'))

    def _close_results(self) -> None:
        if self._results is not None:
            try:
                self._results.close()
            except RecordingFileError as error:
                self._lose_results(error)


def _end_with_parent(wanted: bool) -> None:
    """Should the keeper die: end, whatever we are at. Nobody would use a callback any more that is still entered."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL if wanted else 0, 0, 0, 0)


def _end_as_orphan(keeper_fd: int, writer_fd: int, runner: CallbackRunner) -> None:
    """In a thread: end a callback that hangs when neither the keeper is left to end it, nor the writer to wait."""
    for fd in (keeper_fd, writer_fd):
        poll = select.poll()
        poll.register(fd, 0)               # only for the other end's being closed, which is always told
        poll.poll()
    if not runner.left.wait(STOP_GRACE_S):
        os.killpg(0, signal.SIGKILL)       # with all that it has started


def callback_main(channel: Channel, plan: Plan, arguments: CallbackArguments) -> int:
    """Entry of the callback process ('3Proc')."""
    # A group of its own: what it starts can then be found and ended with it.
    os.setpgid(0, 0)
    message = channel.receive()
    if message is None or message[0] != 'ring':
        return 0
    ring = Ring(message[2][0], message[1], at_once=True)
    runner = CallbackRunner(plan, ring, arguments, channel.send)
    try:
        _end_with_parent(True)             # a thread would do, but what __enter__ forks should come of one thread
        runner.enter()
    except BaseException as error:
        channel.send('error', RemoteError.of(error, 'CallbackError', "the callback's __enter__ failed: "))
        return 1
    _end_with_parent(False)
    channel.send('ready', None)
    threading.Thread(target=_end_as_orphan, args=(channel.fileno(), arguments.offers_fd, runner),
                     name='ppr-callback-orphan', daemon=True).start()
    runner.run()
    if runner.regular:                     # else it is a death to the keeper, and there may be a successor
        channel.send('ended', None)
    return 0
