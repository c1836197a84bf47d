"""The user's callback, watched: which frames' calls came to their end, and what became of the others.

The callback runs in a process that may raise, hang, be killed and be started again. So what is known of each frame
stands in files that outlive it, whoever writes them: one byte a page in a map that every generation of the process
writes into and the script reads at the end, and a line of JSON for each call that did not end well. Both work under
every start method, since they are found by their paths.
"""

from __future__ import annotations

import enum
import faulthandler
import json
import logging
import mmap
import os
import sys
import threading
import time
import traceback
from pathlib import Path
from types import FrameType
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence

import numpy as np

from ..frame import why_not_recordable

__all__ = ['CallState', 'Trail', 'Watched', 'watched']

log = logging.getLogger(__name__)

#: A call that has taken this share of what it may has a look taken at where it is.
LOOK_SHARE = 0.5
MOST_TEXT = 20_000            # characters of one error
MOST_TEXTS = 1000             # errors that are kept with their tracebacks, of each process; of others, their last line
#: Where the pages begin in the map. Before them is the byte that calls off: behind them, a page too many would set it.
FIRST_PAGE = 1


class CallState(enum.IntEnum):
    """What became of a page's call."""

    NOT_BEGUN = 0
    BEGUN = 1                 # and not ended: its process hung, or died
    DONE = 2
    RAISED = 3
    RETURNED = 4              # what cannot be recorded


class Trail:
    """What the calls leave behind, as the script that started them sees it.

    Args:
        folder: where its files are; made by ``prepare``, removed by whoever owns the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.map_path, self.texts_path, self._folder = folder / 'calls', folder / 'texts', folder

    def prepare(self, pages: int) -> None:
        """Make the files, before the first process starts. Really allocated: a full disk would be a fatal signal."""
        self.map_path.write_bytes(bytes(FIRST_PAGE + pages))
        self.texts_path.touch()

    def call_off(self) -> None:
        """From now on the callback is not called any more; frames that are under way go past it."""
        with open(self.map_path, 'r+b') as file:
            file.write(b'\1')

    def states(self) -> np.ndarray:
        """Of each page a CallState, uint8."""
        return np.fromfile(self.map_path, np.uint8)[FIRST_PAGE:]

    def texts(self) -> Dict[int, str]:
        """Of pages whose call raised or returned what cannot be recorded: the error."""
        return {int(line['page']): str(line['text']) for line in self._lines() if 'text' in line}

    def looks(self) -> Dict[int, str]:
        """Of pages whose call took long: where it was then."""
        return {int(line['page']): str(line['at']) for line in self._lines() if 'at' in line}

    def first_pages(self) -> List[int]:
        """The first page of each generation of the process, in their order."""
        return [int(line['first']) for line in self._lines() if 'first' in line]

    def crash_path(self, first: int) -> Path:
        """Where the generation of the process whose first page this is tells of a fatal signal."""
        return self._folder / f'crash-{first}'

    def crash_at(self, page: int, first_pages: Sequence[int]) -> str:
        """What Python had still said when the process died that had this page in work; '' for nothing."""
        first = max((first for first in first_pages if first <= page), default=-1)
        path = self.crash_path(first)
        return path.read_text('utf-8', 'replace') if path.exists() else ''

    def _lines(self) -> List[Dict[str, Any]]:
        found = []
        for line in self.texts_path.read_bytes().splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                pass                  # a process that was killed while it wrote; the map tells of its page
        return found


class Watched:
    """A callback that calls another one, and notes what becomes of each call.

    In any process; cheap (some microseconds a call). What the callback returns and raises goes through unchanged.

    Args:
        callback: the user's.
        trail: prepared by the script. indices: the frames' numbers by page, int64, increasing.
        timeout_s: that a call may take.
    """

    def __init__(self, callback: Callable[..., Any], trail: Trail, indices: np.ndarray, timeout_s: float) -> None:
        self._callback, self._trail, self._timeout_s = callback, trail, timeout_s
        self._contiguous = int(indices[-1]) - int(indices[0]) == len(indices) - 1
        self._offset = int(indices[0])
        self._indices = None if self._contiguous else indices
        # What is stored of a recording's settings names its callback by these.
        named = callback if hasattr(callback, '__qualname__') else type(callback)
        self.__module__, self.__qualname__ = named.__module__, named.__qualname__
        self._notes: Optional[_Notes] = None

    def __call__(self, buffer: Any, cb_queue: Any) -> Any:
        notes = self._notes
        if notes is None or notes.pid != os.getpid():
            notes = self._notes = _Notes(self._trail, self._timeout_s)
        frame = buffer[-1]
        page = self._page_of(frame.index)
        shape = frame.shape
        del frame                     # the callback may look at how many hold it
        if notes.called_off:
            return None
        notes.begin(page)
        try:
            returned = self._callback(buffer, cb_queue)
        except BaseException as error:
            raised = error
            notes.end(page, CallState.RAISED, lambda: _text_of(raised))
            raise
        problem = why_not_recordable(returned, shape)
        notes.end(page, CallState.RETURNED if problem else CallState.DONE, lambda: problem)
        return returned

    def _page_of(self, index: int) -> int:
        return index - self._offset if self._indices is None else int(np.searchsorted(self._indices, index))

    def __getstate__(self) -> Dict[str, Any]:
        return {**self.__dict__, '_notes': None}


class _WatchedContext(Watched):
    """One whose callback is entered in its process before the first frame, and left after the last."""

    def __enter__(self) -> Watched:
        entered = self._callback.__enter__()               # type: ignore[attr-defined]
        self._left = self._callback
        if callable(entered):
            self._callback = entered
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> Any:
        return self._left.__exit__(kind, error, trace)     # type: ignore[attr-defined]


def watched(callback: Callable[..., Any], trail: Trail, indices: np.ndarray, timeout_s: float) -> Watched:
    """The callback, watched; a context manager if it is one."""
    has_context = hasattr(callback, '__enter__') and hasattr(callback, '__exit__')
    return (_WatchedContext if has_context else Watched)(callback, trail, indices, timeout_s)


class _Call(NamedTuple):
    page: int
    begun: float                      # monotonic seconds
    thread: int


class _Notes:
    """The notes of one process."""

    def __init__(self, trail: Trail, timeout_s: float) -> None:
        self.pid = os.getpid()
        with open(trail.map_path, 'r+b') as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self._texts = os.open(trail.texts_path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self._trail = trail
        self._crashes = -1            # open for as long as the process lives
        self._told = 0
        self._call: Optional[_Call] = None
        self._look_after = LOOK_SHARE * timeout_s
        threading.Thread(target=self._look, name='ppr-watched', daemon=True).start()

    @property
    def called_off(self) -> bool:
        return bool(self._map[0])

    def begin(self, page: int) -> None:
        if self._crashes < 0:
            self._write({'first': page})
            self._crashes = os.open(self._trail.crash_path(page), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
            faulthandler.enable(self._crashes)             # a segmentation fault tells where it was
        self._map[FIRST_PAGE + page] = CallState.BEGUN
        self._call = _Call(page, time.monotonic(), threading.get_ident())

    def end(self, page: int, state: CallState, text: Callable[[], str]) -> None:
        if os.getpid() != self.pid:
            return                    # a fork that came back from the call: it is ended, and its parent's call goes on
        self._call = None
        if state != CallState.DONE:
            self._told += 1
            told = text()
            self._write({'page': page, 'text': told[-MOST_TEXT:] if self._told <= MOST_TEXTS
                         else told.rstrip().rpartition('\n')[2][:200]})
        self._map[FIRST_PAGE + page] = state

    def _write(self, line: Dict[str, Any]) -> None:
        try:
            os.write(self._texts, json.dumps(line).encode('ascii') + b'\n')
        except OSError as error:
            # A full disk, most likely: the map still tells of the page, and its call is not to fail for that.
            log.warning('what is known of page %s could not be noted: %s', line.get('page'), error)

    def _look(self) -> None:
        """In a thread: where a call is that has taken long. It sleeps for half of what a call may take."""
        last: Optional[_Call] = None
        while True:
            call = self._call
            now = time.monotonic()
            due = call.begun + self._look_after if call is not None and call is not last else now + self._look_after
            if due > now:
                time.sleep(due - now)
            elif call is not None:
                last = call
                frame = sys._current_frames().get(call.thread)
                if frame is not None and self._call is call:
                    self._write({'page': call.page, 'at': _where(frame)[-MOST_TEXT:]})


def _text_of(error: BaseException) -> str:
    """The error with its traceback, from the user's callback on."""
    trace = error.__traceback__.tb_next if error.__traceback__ is not None else None
    return ''.join(traceback.format_exception(type(error), error, trace))


def _where(frame: FrameType) -> str:
    """The stack of a call, from the user's callback on."""
    stack = traceback.extract_stack(frame)
    ours = [place for place, summary in enumerate(stack) if summary.filename == __file__]
    return ''.join(traceback.format_list(stack[ours[-1] + 1 if ours else 0:]))
