"""What a Dask worker does: it has a block's frames called for in a process beside it, and watches that process.

A call that hangs is ended after its time, one that ends its process is known by its last word; the frame is listed as
failed and the rest goes on in a new process. So neither costs the cluster a worker, nor a block its other frames.
"""

from __future__ import annotations

import contextlib
import itertools
import time
import uuid
from pathlib import Path
from typing import Any, Iterator, List, NamedTuple, Optional, Tuple

from ..errors import ClusterError
from ..pipeline.channel import RemoteError
from .block_process import Order
from .block_processes import BlockProcess, BlockProcesses, Ended
from .block_recording import BlockRecording
from .report import Failure

__all__ = ['BlockResult', 'end_processes', 'itself', 'run_block']

#: So many frames in a row whose calls die or hang: then it is not the frames.
MOST_DEATHS_IN_A_ROW = 6
MOST_LOGS = 100
STARTED_AGAIN = ("a process of the callback's ended within a block and was started again; whatever it carries from "
                 'frame to frame began anew then')


class BlockResult(NamedTuple):
    """What came of a block, the pages ``start`` … ``stop``.

    lines: of the results file; results: how many. processed: calls that came to their end. failures: those that did
    not. recording: the block's own, where one was wanted and it has pages. refused: the callback cannot be used at all.
    frame_s, enter_s: seconds a frame, in the middle of all; and to enter the callback. notes, logs: to be passed on.
    """

    start: int
    stop: int
    lines: bytes
    results: int
    processed: int
    failures: List[Failure]
    recording: Optional[str] = None
    refused: Optional[RemoteError] = None
    frame_s: float = 0.0
    enter_s: float = 0.0
    notes: Tuple[str, ...] = ()
    logs: Tuple[Tuple[str, int, str], ...] = ()


def run_block(order: Order, pickled: bytes) -> BlockResult:
    """Process a block, in any thread of a worker. Blocks.

    pickled: the callback, by cloudpickle. Raises ClusterError where the recording cannot be read here, OSError where
    the block's recording cannot be written: another worker may be able to.
    """
    try:
        with contextlib.ExitStack() as stack:
            _processes.refuse_ended(order.job)
            recording = None if order.level is None else stack.enter_context(_block_recording(order))
            return _BlockWatch(order, pickled, recording).run()
    except Ended:                          # an error would have Dask try again
        return BlockResult(order.start, order.start, b'', 0, 0, [])


@contextlib.contextmanager
def _block_recording(order: Order) -> Iterator[BlockRecording]:
    # A name of its own for each try: a worker that was given up as lost may still be at it.
    assert order.level is not None
    recording = BlockRecording(Path(order.folder) / f'{order.start:012d}-{uuid.uuid4().hex}.tif', order.opening,
                               order.level, order.rate_hz)
    try:
        yield recording
    except BaseException:
        recording.abandon()
        raise
    finally:
        recording.close()


_processes = BlockProcesses()


def end_processes(job: str) -> None:
    """On a worker, when a run has ended: end its processes. Returns at once."""
    _processes.end(job)


def itself(value: bytes) -> bytes:
    """What is given; on a worker."""
    return value


class _BlockWatch:
    """Follows one block through as many processes as it takes."""

    def __init__(self, order: Order, pickled: bytes, recording: Optional[BlockRecording]) -> None:
        self._order, self._pickled, self._recording = order, pickled, recording
        self._next = order.start                  # the page to go on with
        self._lines: List[bytes] = []
        self._results = self._processed = 0
        self._failures: List[Failure] = []
        self._refused: Optional[RemoteError] = None
        self._notes: List[str] = []
        self._logs: List[Tuple[str, int, str]] = []
        self._seconds: List[float] = []
        self._enter_s = 0.0
        self._deaths = 0                          # in a row
        self._quiet_deaths = 0                    # in a row, and not in a call
        self._state, self._since = 'loading', 0.0
        self._present: Tuple[int, int, int] = (0, 0, 0)
        self._answered = False

    def run(self) -> BlockResult:
        ended = False
        while not ended and self._refused is None:
            process = _processes.take(self._order.job)
            try:
                ended = self._follow(process)
            except BaseException:
                _processes.drop(process)
                raise
            if self._state in ('left', 'refused') and process.alive:
                _processes.give_back(self._order.job, process)
            else:
                _processes.drop(process)
        recording = self._recording.finish() if self._recording is not None and self._refused is None else None
        # Not the mean: the first call may take much longer (it imports, it warms up).
        middle = sorted(self._seconds)[(len(self._seconds) - 1) // 2] if self._seconds else 0.0
        return BlockResult(self._order.start, self._next, b''.join(self._lines), self._results, self._processed,
                           self._failures, recording, self._refused, middle, self._enter_s, tuple(self._notes),
                           tuple(self._logs))

    def _follow(self, process: BlockProcess) -> bool:
        """Whether the block came to its end in this process; else it has died, and the next one goes on."""
        self._enter('loading')
        self._answered = False
        process.send(self._order._replace(start=self._next), self._pickled)
        while self._state not in ('left', 'refused'):
            try:
                message = process.receive(self._time_left_s())
            except TimeoutError:
                where = process.whereabouts()
                process.kill()
                self._died('hung', f'it took longer than {self._limit_s():g} s, and was ended{where}')
                return self._state == 'left'
            _processes.refuse_ended(self._order.job)
            if message is None:
                self._died('died', f'it ended its process: {process.ending()}')
                return self._state == 'left'
            getattr(self, f'_on_{message[0]}')(message[1])
        return self._state == 'left'

    # ------------------------------------------------------------------ time

    def _enter(self, state: str) -> None:
        self._state, self._since = state, time.monotonic()

    def _limit_s(self) -> float:
        order = self._order
        return order.timeout_s if self._state == 'calling' and self._answered else order.first_timeout_s

    def _time_left_s(self) -> Optional[float]:
        """Reading takes what it takes: a network's disk may be slow."""
        return None if self._state == 'reading' else max(0.0, self._since + self._limit_s() - time.monotonic())

    # ------------------------------------------------------------------ what the process tells

    def _on_entering(self, payload: None) -> None:
        self._enter('entering')

    def _on_reading(self, payload: None) -> None:
        self._enter_s = max(self._enter_s, time.monotonic() - self._since)
        self._enter('reading')

    def _on_calling(self, present: Tuple[int, int, int]) -> None:
        self._present = present
        self._enter('calling')

    def _on_frame(self, told: Any) -> None:
        page, lines, failure, encoded, seconds = told
        began = self._since
        self._enter('reading')
        self._answered = True
        self._deaths = self._quiet_deaths = 0
        if failure is None or failure.why != 'unreadable':
            self._seconds.append(max(seconds, time.monotonic() - began))
        self._take(page, lines, failure, encoded, seconds)

    def _take(self, page: int, lines: List[bytes], failure: Optional[Failure], encoded: Any,
              seconds: Optional[float]) -> None:
        self._lines += lines
        self._results += len(lines)
        if failure is None:
            self._processed += 1
        else:
            self._failures.append(failure)
        if self._recording is not None and (failure is None or failure.why != 'unreadable'):
            status = 'failed' if failure is not None else 'raw' if encoded is None else 'returned'
            self._recording.add(page, status, None if seconds is None else seconds * 1000, encoded)
        self._next = page + 1

    def _on_leaving(self, payload: None) -> None:
        self._enter('leaving')

    def _on_left(self, told: Tuple[List[bytes], str]) -> None:
        lines, problem = told
        self._lines += lines
        self._results += len(lines)
        if problem:
            self._notes.append(problem)
        self._enter('left')

    def _on_refused(self, error: RemoteError) -> None:
        self._refused = error
        self._enter('refused')

    def _on_astray(self, text: str) -> None:
        raise ClusterError(text)

    def _on_log(self, record: Tuple[str, int, str]) -> None:
        if len(self._logs) < MOST_LOGS:
            self._logs.append(record)

    def _on_crashed(self, error: RemoteError) -> None:
        raise ClusterError(f'the process beside the worker failed: {error.message}\n{error.traceback}')

    # ------------------------------------------------------------------ deaths

    def _died(self, why: str, text: str) -> None:
        """The process has ended, by itself or by us; decide what it was, and where to go on."""
        if self._state == 'calling':
            self._lose_frame(why, text)
        elif self._state == 'leaving':
            self._notes.append(f"the callback's __exit__ did not come to its end: {text}")
            self._enter('left')
        else:
            self._quiet_deaths += 1
            if self._quiet_deaths == 1:    # it may have been an accident
                self._notes += [STARTED_AGAIN] if self._next > self._order.start else []
            else:
                where = {'entering': "the callback's __enter__", 'loading': 'loading the callback'}.get(
                    self._state, 'reading the recording')
                self._refused = RemoteError('CallbackError', f'{where} did not come to its end: {_in_short(text)}',
                                            '')

    def _lose_frame(self, why: str, text: str) -> None:
        page, index, time_ns = self._present
        self._take(page, [], Failure(page, index, time_ns, why, text), None, None)
        self._deaths += 1
        if self._deaths >= MOST_DEATHS_IN_A_ROW:
            self._refused = RemoteError(
                'CallbackError', f'the calls for {self._deaths} frames in a row did not come to their end, the last '
                f'one for page {page}: {_in_short(text)}', '')
        elif self._next >= self._order.stop:
            self._enter('left')
        else:
            self._notes.append(STARTED_AGAIN)


def _in_short(text: str) -> str:
    """How a process ended, and of its last words what it was and where; the stack is of no use in a sentence."""
    how, *words = text.splitlines() or ['']
    what = next((line for line in words if line.startswith('Fatal Python error')), '')
    stack = itertools.dropwhile(lambda line: not line.startswith('Current thread'), words)
    where = next((line.strip() for line in stack if line.lstrip().startswith('File ')), '')
    known = ', '.join(filter(None, (what, where)))
    return f'{how} ({known})' if known else how
