"""Recordings that a process keeps open for blocks of work: opened once for many of them, and known for what they are.

A block is told in plain values which recording it is cut from (:class:`Opening`); wherever it is done, ``kept_open``
has that recording, opens it, or says that it is not there any more.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Iterator, NamedTuple, Optional, Tuple

from ..errors import RecorderStateError, RecordingFileError

if TYPE_CHECKING:
    from .recording import Recording

__all__ = ['Opening', 'kept_open', 'opening_of']

MOST_OPEN = 4                 # each may have many files
TIME_STEP_NS = 100            # of changes, as SMB tells them to one machine, and the disk of another tells more


class Opening(NamedTuple):
    """How a block finds its recording, and knows that it is the one that was meant. Plain values: it pickles.

    path: absolute. states: of each file when it was opened: name, size, time of change (100 ns).
    pages: how many there were. first, last: number and time of the first and the last; None where they are not known.
    recording: what no other recording bears, not even one with the same numbers and times; '' where it is not known.
    """

    path: str
    states: Tuple[Tuple[str, int, int], ...]
    pages: int
    first: Optional[Tuple[int, int]]
    last: Optional[Tuple[int, int]]
    recording: str = ''


def opening_of(recording: Recording) -> Opening:
    """What another process needs to open the same recording."""
    first = last = None
    if recording.indices is not None and recording.times_ns is not None:
        first, last = ((int(recording.indices[page]), int(recording.times_ns[page])) for page in (0, -1))
    return Opening(str(recording.absolute_files[0]), _states(recording.absolute_files), len(recording), first, last,
                   _id_of(recording))


def _id_of(recording: Recording) -> str:
    if not recording.is_ours:
        return ''
    try:
        with recording.own_pages() as own:
            return own.recording_id
    except RecorderStateError:             # it is closed; blocks open their own
        return ''


def _states(files: Tuple[Path, ...]) -> Tuple[Tuple[str, int, int], ...]:
    try:
        found = [(path.name, os.stat(path)) for path in files]
    except OSError as error:
        raise RecordingFileError(f'{error.filename} is no longer there ({error.strerror}); it is a file of a recording '
                                 'that is open; bring it back') from error
    return tuple((name, status.st_size, status.st_mtime_ns // TIME_STEP_NS) for name, status in found)


class _Kept:
    """An open recording, and how many blocks are being read from it."""

    def __init__(self, recording: Recording, states: Tuple[Tuple[str, int, int], ...]) -> None:
        self.recording = recording
        self.states = states
        self.users = 0


class _OpenRecordings:
    """Opened once for many blocks; closed when others take their places, or when the files are replaced."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    def take(self, opening: Opening) -> _Kept:
        with self.lock:
            kept = self._kept.get(opening.path)
            if kept is not None and not (_are_still(kept) and _is_the_same(kept.recording, opening)):
                self._drop(self._kept.pop(opening.path))
                kept = None
            if kept is None:
                kept = _opened_anew(opening)
            self._kept[opening.path] = kept
            self._kept.move_to_end(opening.path)
            kept.users += 1
            while len(self._kept) > MOST_OPEN:
                self._drop(self._kept.popitem(last=False)[1])
            return kept

    def give_back(self, kept: _Kept) -> None:
        with self.lock:
            kept.users -= 1
            if kept.users == 0 and kept not in self._kept.values():
                kept.recording.close()

    def _drop(self, kept: _Kept) -> None:
        if kept.users == 0:                # else who gives it back last closes it
            kept.recording.close()


_open = _OpenRecordings()


def _forget_parents_threads() -> None:
    """In a fork's child: the threads that read there, and may have held the lock, are not here."""
    global _open
    _open = _OpenRecordings()


os.register_at_fork(after_in_child=_forget_parents_threads)


@contextmanager
def kept_open(opening: Opening) -> Iterator[Recording]:
    """The recording, from the few that this process keeps open. Any thread. Raises RecordingFileError."""
    mine = _open
    kept = mine.take(opening)
    try:
        yield kept.recording
    finally:
        mine.give_back(kept)


def _opened_anew(opening: Opening) -> _Kept:
    from .recording import open_recording
    recording = open_recording(opening.path)
    try:
        if not _is_the_same(recording, opening):
            raise RecordingFileError(f'{opening.path} is not what it was: it had {opening.pages:,} frames, and other '
                                     f'ones than the {len(recording):,} here; open the recording anew, and begin anew '
                                     'what is done with it (its Dask array, its processing)')
        return _Kept(recording, _states(recording.absolute_files))
    except BaseException:
        recording.close()
        raise


def _are_still(kept: _Kept) -> bool:
    try:
        return _states(kept.recording.absolute_files) == kept.states
    except RecordingFileError:
        return False


def _is_the_same(recording: Recording, opening: Opening) -> bool:
    """It may have become longer: then it was still being recorded."""
    if len(recording) < opening.pages:
        return False
    here_id = _id_of(recording)
    if here_id and opening.recording and here_id != opening.recording:
        return False               # processed again, it has the same numbers and times, and other pixels
    if recording.indices is None or recording.times_ns is None or opening.first is None:
        known = opening.first is not None or recording.indices is not None
        return not known and _states(recording.absolute_files) == opening.states
    here = [(int(recording.indices[page]), int(recording.times_ns[page])) for page in (0, opening.pages - 1)]
    return here == [opening.first, opening.last]
