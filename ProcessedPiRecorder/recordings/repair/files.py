"""Which files are one recording, and what each of them still holds."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Dict, List, Optional

from ...errors import RecordingFileError, RecordingFormatError
from ..bigtiff import file_error, lock_file
from ..part import first_of_parts, part_path, parts_on_disk
from ..preface import recording_of
from ..tags import open_to_read
from .account import Known, count_results, stored_report
from .haystack import Progress
from .remains import PRECIOUS
from .scan import PAGE_BEGINS
from .state import FileState, examine

__all__ = ['Recording']

MAX_FILES = 100_000


class Recording:
    """The files of one recording as they were found, locked against recorders; a context manager.

    Raises RecordingFileError when one is being recorded or cannot be read, RecordingFormatError when no whole page
    is in any of them.

    Attributes:
        first: where file 0 is or was. parts: the files with pages, in order. empty: files without any whole page.
        notes: what is odd about the files.
    """

    def __init__(self, path: Path, progress: Optional[Progress] = None) -> None:
        self.notes: List[str] = []
        self.parts: List[FileState] = []
        self.empty: List[FileState] = []
        self._progress = progress
        self._done = self._total = 0
        self._locks = ExitStack()
        try:
            self._find(path)
        except BaseException:
            self._locks.close()
            raise

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *exc: Any) -> None:
        self._locks.close()

    # ------------------------------------------------------------------ finding the files

    def _find(self, path: Path) -> None:
        self._total = _size(path)
        given = self._examine(path)
        self.first = _first_of(path, given.part)
        others = [] if self.first is None else self._others(path, self.first)
        if self.first is None:
            self.first = path
        self._total += sum(map(_size, others))
        states = [given, *map(self._examine, others)]
        by_path = {state.path: state for state in states}
        names = [self.first, *(other for _, other in _parts(self.first))]
        for state in _by_number([by_path[name] for name in names if name in by_path] or [given]):
            self._take(state)
        self._note_missing()
        if not self.parts:
            raise RecordingFormatError(
                f'{path} holds no whole page of a recording: in its {given.size:,} bytes no page description '
                f'({PAGE_BEGINS.decode()} …) was found whose checksum fits'
                + (f'; {given.damaged} damaged ones were' if given.damaged else '')
                + '. If it is another kind of TIFF, a general TIFF reader may open it')

    def _others(self, path: Path, first: Path) -> List[Path]:
        candidates = [first, *(part for _, part in _parts(first))]
        return [other for other in candidates if other != path and other.is_file()][:MAX_FILES]

    def _examine(self, path: Path) -> FileState:
        try:
            fd = open_to_read(path)
            self._locks.callback(os.close, fd)
            if not lock_file(fd):
                raise RecordingFileError(f'{path} is being recorded, or repaired, at this moment; wait until that has '
                                         'ended')
            state = examine(path, self._tell)
        except OSError as error:
            raise file_error(path, 'cannot be read', error) from error
        self._done += state.size
        return state

    def _tell(self, done: int, total: int) -> None:
        if self._progress is not None:
            self._progress(self._done + done, self._total)

    def _take(self, state: FileState) -> None:
        if not len(state.rows):
            self.empty.append(state)
            return
        row = state.rows[0]
        if self.parts:
            last = self.parts[-1].rows[-1]
            names = {name for name in map(recording_of, (self.parts[-1].about, state.about)) if name}
            if len(names) > 1 or row['index'] <= last['index'] or row['time_ns'] <= last['time_ns'] \
                    or state.shape != self.parts[-1].shape:
                self.notes.append(f'{state.path.name} belongs to another recording (it says so, or its frames are of '
                                  'another time or size) and was left as it is')
                return
        self.parts.append(state)

    def _note_missing(self) -> None:
        here = {state.part for state in self.parts + self.empty if state.part is not None}
        missing = [number for number in range(max(here, default=0)) if number not in here]
        if missing:
            names = ', '.join(part_path(self._first(), number).name for number in missing[:3])
            self.notes.append(f'missing of this recording: {names}{", …" if len(missing) > 3 else ""}; bring back what '
                              'is missing, and repair it once more')

    # ------------------------------------------------------------------ what they tell together

    @property
    def pages(self) -> int:
        return sum(len(state.rows) for state in self.parts)

    @property
    def about(self) -> Dict[str, Any]:
        """Settings, metadata, camera, from whichever file still tells them."""
        for state in self.parts + self.empty:
            found = {name: state.about[name] for name in PRECIOUS if isinstance(state.about.get(name), dict)}
            if found:
                return found
        return {}

    def recorded_name(self) -> Optional[str]:
        """The name of file 0 when it was recorded, if every file tells the same one."""
        places = [state.about.get('file') for state in self.parts]
        names = {place.get('first_name') if isinstance(place, dict) else None for place in places}
        name = names.pop()
        if names or not isinstance(name, str) or not name or Path(name).name != name or '\0' in name:
            return None
        return name

    def known(self, results: Path) -> Known:
        """What is known of the recording beside its pages."""
        last = self.parts[-1]
        facts = last.annotations.get('file')
        report = stored_report(last.annotations) if isinstance(facts, dict) and facts.get('last') else None
        # A finished file's first IFD stands behind all pages, and its last page has no link.
        ended = last.first_ifd > last.end and bool(last.rows['has_ifd'][-1]) and last.rows['next'][-1] == 0
        told_last = not isinstance(facts, dict) or bool(facts.get('last'))
        lines, behind = count_results(results, int(last.rows['index'][-1]))
        return Known(self.about, report, report is not None or (ended and told_last),
                     last.known - int(last.rows['page'][-1]) - 1, lines, behind)

    def in_order(self) -> bool:
        """Whether the files have the names and numbers that they should have."""
        return all(state.part == number and state.path == part_path(self._first(), number)
                   for number, state in enumerate(self.parts))

    def _first(self) -> Path:
        assert self.first is not None
        return self.first

    def healthy(self) -> bool:
        """Every file is finished and as it should be, and none is missing."""
        page = 0
        for number, state in enumerate(self.parts):
            facts = state.annotations.get('file', {})
            last = number + 1 == len(self.parts)
            if not state.finished or facts.get('part') != number or facts.get('first_page') != page \
                    or facts.get('last') is not last:
                return False
            page += len(state.rows)
        return self.in_order() and not self.empty and not self.notes


def _first_of(path: Path, part: Optional[int]) -> Optional[Path]:
    """Where file 0 of the recording is, by the name and number of one of its files; None if they do not fit."""
    return first_of_parts(path, part or 0)


def _by_number(states: List[FileState]) -> List[FileState]:
    """In the order of what the files themselves tell, where they do: their names may have been exchanged."""
    numbers = [state.part for state in states]
    if None in numbers or len(set(numbers)) < len(numbers):
        return states
    return sorted(states, key=lambda state: state.part or 0)


def _parts(first: Path) -> Any:
    try:
        return parts_on_disk(first)
    except OSError:
        return []


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
