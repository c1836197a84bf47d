"""Blocks: parts of a recording that can be processed anywhere, and what one of them does frame by frame.

::

    pages   0 1 2 3 4 5 6 7 8 9 …            buffer_length=3: the two frames before a block
    block 0 ████████                         fill its deque and are not called for, so that
    block 1       ░░████████                 every call sees what it would see in one run
    block 2               ░░████████

Each block begins with a copy of the callback that is fresh from its pickle, so what comes of it does not depend on
which blocks were computed before it, or where.
"""

from __future__ import annotations

import collections
import contextlib
import os
import pickle
import queue
import time
from typing import Any, Callable, Deque, Iterator, List, NamedTuple, NoReturn, Optional, Tuple

import numpy as np

from ..errors import RecordingFileError
from ..frame import Frame, why_not_recordable
from ..pipeline.channel import RemoteError
from ..reading import Recording
from ..recordings.results import encode_line
from .report import Failure

__all__ = ['Called', 'CallsInOrder', 'ResultPort', 'block_frames_for', 'ranges']

#: So long a block is to take: little is lost with a worker, and the way to it costs a hundredth of that.
BLOCK_SECONDS = 3.0
#: Entering the callback (a model is loaded) may take this share of a block.
ENTER_SHARE = 0.1
#: For each that is read to fill the deque, so many frames are processed.
FRAMES_PER_OVERLAP = 4
#: At least so many blocks for each worker, so that all of them end at about the same time.
BLOCKS_A_WORKER = 8


def block_frames_for(frames: int, workers: int, seconds_a_frame: float, enter_seconds: float, buffer_length: int
                     ) -> int:
    """How many frames a block should have, from what the first few took."""
    frame_s = max(seconds_a_frame, 1e-6)
    wanted = max(BLOCK_SECONDS, enter_seconds / ENTER_SHARE) / frame_s
    wanted = max(wanted, FRAMES_PER_OVERLAP * (buffer_length - 1), 1)
    # A callback that takes long to enter is entered as seldom as keeps everybody at work.
    shares = workers * (BLOCKS_A_WORKER if enter_seconds < BLOCK_SECONDS * ENTER_SHARE else 1)
    return max(1, min(round(wanted), -(-frames // shares)))


def ranges(start: int, stop: int, size: int) -> Iterator[Tuple[int, int]]:
    """start … stop in pieces of ``size``, or a little less, all about equally long."""
    count = -(-(stop - start) // size)
    edges = [start + (stop - start) * number // count for number in range(count)] if count else []
    return zip(edges, [*edges[1:], stop])


class ResultPort:
    """What the callback is given as ``cb_queue``: takes results; there is no script at its other end to send any.

    ``get`` raises queue.Empty at once, as in a recording whose script puts nothing and has ended.
    """

    def __init__(self, store: Callable[[Any], None]) -> None:
        self._store = store
        self._closed = False

    def put(self, obj: Any, block: bool = True, timeout: Optional[float] = None) -> None:
        """Store a result with the frame of this call. Raises what pickle raises, as in a recording."""
        if self._closed:
            raise ValueError('this cb_queue has been closed: put() is no longer possible')
        pickle.dumps(obj, pickle.HIGHEST_PROTOCOL)
        self._store(obj)

    def put_nowait(self, obj: Any) -> None:
        """The same as ``put``."""
        self.put(obj)

    def get(self, block: bool = True, timeout: Optional[float] = None) -> NoReturn:
        """Raises queue.Empty."""
        raise queue.Empty

    def get_nowait(self) -> NoReturn:
        """Raises queue.Empty."""
        raise queue.Empty

    def empty(self) -> bool:
        """Always True."""
        return True

    def full(self) -> bool:
        """Always False."""
        return False

    def qsize(self) -> int:
        """Always 0."""
        return 0

    def close(self) -> None:
        """Nothing more will be put."""
        self._closed = True

    def join_thread(self) -> None:
        """Does nothing; there for compatibility."""

    def cancel_join_thread(self) -> None:
        """Does nothing; there for compatibility."""

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __reduce__(self) -> NoReturn:
        raise TypeError('a cb_queue cannot be sent to another process; return results to the callback, and let it put '
                        'them')


class Called(NamedTuple):
    """What came of one frame: its results as lines of the results file, in their order, and what was returned.

    failure: why its call did not come to its end; None where it did. returned: what is to be recorded; None: the frame
    as it was. seconds: that the call took.
    """

    page: int
    lines: List[bytes]
    failure: Optional[Failure]
    returned: Optional[np.ndarray]
    seconds: float


class CallsInOrder:
    """One copy of the callback, called for pages in their order as in a recording; in one thread.

    indices, times_ns: of each page. calling: called with page, index and time right before each call.
    """

    def __init__(self, recording: Recording, indices: np.ndarray, times_ns: np.ndarray, callback: Callable[..., Any],
                 buffer_length: int, calling: Callable[[int, int, int], Any] = lambda page, index, time_ns: None
                 ) -> None:
        self._recording, self._indices, self._times_ns = recording, indices, times_ns
        self._callback, self._calling = callback, calling
        self._buffer: Deque[Frame] = collections.deque(maxlen=buffer_length)
        self._port = ResultPort(self._store)
        self._stack = contextlib.ExitStack()
        self._present: Tuple[Optional[int], Optional[int]] = (None, None)   # index and time that results are bound to
        self._lines: List[bytes] = []
        self._pid = os.getpid()

    def enter(self) -> None:
        """Enter a context-managed callback. Raises what it raises."""
        if hasattr(self._callback, '__enter__') and hasattr(self._callback, '__exit__'):
            entered = self._stack.enter_context(self._callback)
            if callable(entered):
                self._callback = entered

    def leave(self) -> None:
        """Leave it. Raises what it raises; ``take_lines`` has what was put meanwhile."""
        self._stack.close()

    def calls(self, start: int, stop: int, overlap_from: int = 0) -> Iterator[Called]:
        """Call for the pages ``start`` … ``stop``, after filling the deque with those before (from ``overlap_from``).

        A page that cannot be read is a failure of its own, and does not stand in the deque.
        """
        self._fill(start, overlap_from)
        for page in range(start, stop):
            yield self._call(page)

    def _fill(self, start: int, first: int) -> None:
        before: List[Frame] = []
        page = start - 1
        while page >= first and len(before) < (self._buffer.maxlen or 1) - 1:
            with contextlib.suppress(RecordingFileError):     # the block that it belongs to tells of it
                before.append(self._frame(page))
            page -= 1
        self._buffer.extend(reversed(before))

    def _frame(self, page: int) -> Frame:
        return Frame(self._recording.read(page), int(self._indices[page]), int(self._times_ns[page]))

    def _call(self, page: int) -> Called:
        try:
            frame = self._frame(page)
        except RecordingFileError as error:
            return Called(page, [], self._failure(page, 'unreadable', str(error)), None, 0.0)
        index, time_ns = self._present = (int(self._indices[page]), int(self._times_ns[page]))
        self._buffer.append(frame)
        del frame                           # the callback may look at how many hold it
        self._calling(page, index, time_ns)
        began = time.perf_counter()
        returned, failure = None, None
        try:
            returned = self._callback(self._buffer, self._port)
            self._end_if_forked()
            problem = why_not_recordable(returned, self._recording.shape[1:])
            failure = self._failure(page, 'returned', problem) if problem else None
        except BaseException as error:      # SystemExit too: a callback does not end the run
            self._end_if_forked()
            failure = self._failure(page, 'raised', RemoteError.of(error, 'CallbackError').traceback)
        seconds = time.perf_counter() - began
        return Called(page, self.take_lines(), failure, None if failure else returned, seconds)

    def _end_if_forked(self) -> None:
        """A fork that comes back from the call would go on in our place."""
        if os.getpid() != self._pid:
            os._exit(0)

    def _failure(self, page: int, why: str, text: str) -> Failure:
        return Failure(page, int(self._indices[page]), int(self._times_ns[page]), why, text)

    def _store(self, result: Any) -> None:
        self._lines.append(encode_line(*self._present, result))

    def take_lines(self) -> List[bytes]:
        """What was put since it was last asked for, as lines of the results file."""
        lines, self._lines = self._lines, []
        return lines
