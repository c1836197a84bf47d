"""Where a recording's pages come from: our own files, one or several, or any other TIFF."""

from __future__ import annotations

import os
import threading
import weakref
from bisect import bisect
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ContextManager, Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

import numpy as np

from ..errors import RecorderStateError, RecordingFileError, RecordingFormatError
from ..recordings.page import StoredPage
from ..recordings.part import behind_link, first_of_parts, part_path, parts_on_disk
from ..recordings.reader import RecordingFile
from ..recordings.results import results_path

__all__ = ['OwnPages', 'PageSource', 'Readers']

MOST_OPEN = 64            # descriptors; a recording in more files opens the others for each read
MOST_NAMED = 3            # files in a note
ANOTHER = 'it belongs to another recording'


class PageSource:
    """Pages by number, over all files of a recording. Every method may be called from several threads at once.

    Attributes:
        path: the first file; files: all; missing_files: names of files of the recording that are not here, or are
            left out because they cannot be used.
        pages: how many; frame_shape: of one, (height, width) gray or (height, width, 3); dtype: of its samples.
        pixel_format: 'bgr' or 'gray'. is_ours; finished: whether it came to a clean end.
        times_ns, indices: int64, one a page, read-only; None where there are none.
        notes: what someone who relies on the recording has to know, one sentence each.
    """

    path: Path
    files: Tuple[Path, ...] = ()
    missing_files: Tuple[str, ...] = ()
    pages: int = 0
    frame_shape: Tuple[int, ...] = ()
    dtype: np.dtype = np.dtype(np.uint8)
    pixel_format = 'gray'
    is_ours = False
    finished = False
    times_ns: Optional[np.ndarray] = None
    indices: Optional[np.ndarray] = None
    notes: Tuple[str, ...] = ()

    def read(self, page: int, out: Optional[np.ndarray] = None) -> np.ndarray:
        """The pixels of a page, from 0, BGR or gray; into ``out`` (C-contiguous, of frame_shape and dtype) if given.

        Blocks for the disk and the decoder. Raises RecordingFileError when the page cannot be read.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Close the files, once no other thread reads from them any more. Harmless twice."""


class Readers:
    """Keeps files open while someone reads: a descriptor closed too early may come to mean another file.

    Of a fork's child only the thread that forked lives on: what other threads held there is let go.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._closed = False
        self._begin_anew()
        _ALL_READERS.add(self)

    def _begin_anew(self) -> None:
        self._changed = threading.Condition()
        self._alone = threading.Lock()
        self._count = 0

    @contextmanager
    def reading(self) -> Iterator[None]:
        with self._changed:
            if self._closed:
                raise RecorderStateError(f'{self._what} is closed; open it again to read from it')
            self._count += 1
        try:
            yield
        finally:
            with self._changed:
                self._count -= 1
                if self._closed:
                    self._changed.notify_all()

    def alone(self) -> threading.Lock:
        """Held by who must be the only one to read."""
        return self._alone

    def end(self) -> None:
        """Let nobody in any more, and wait for those who are."""
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: self._count == 0)


_ALL_READERS: 'weakref.WeakSet[Readers]' = weakref.WeakSet()


def _begin_anew_after_fork() -> None:
    for readers in list(_ALL_READERS):
        readers._begin_anew()


os.register_at_fork(after_in_child=_begin_anew_after_fork)


class _Column(NamedTuple):
    """What the page index tells of all pages; one array a file, kept by the files."""

    parts: List[np.ndarray]

    def of(self, name: str) -> np.ndarray:
        column = np.concatenate([part[name] for part in self.parts])     # a copy: in one piece it is searched faster
        column.flags.writeable = False
        return column


class OwnPages(PageSource):
    """The pages of a recording of ours: all files of it that are here, whichever of them is given.

    Raises RecordingFileError when the given file cannot be opened, RecordingFormatError when it is none of ours or
    damaged. Other files that cannot be read are left out, and ``notes`` and ``missing_files`` say so.
    """

    is_ours = True
    results_path: Path               # absolute: where the callback's results are, if it put any

    def __init__(self, path: Path) -> None:
        self._readers = Readers(str(path))
        self._parts: List[RecordingFile] = []
        self._left_out: Dict[str, str] = {}       # names of files that bear a part's name, and why they are not taken
        self._likely_ours: Set[str] = set()       # those of them that have more in common with this recording
        notes: List[str] = []
        try:
            self._take_all(behind_link(path), notes)
        except BaseException:
            self.close()
            raise
        first = self._parts[0]
        self.path = self.files[0]
        self.pixel_format = first.pixel_format
        if first.pixel_format == 'bgr':
            import cv2  # noqa: F401       # the decoder's: it takes a tenth of a second, which the first page would wait
        size = (first.height, first.width)
        self.frame_shape = size if first.pixel_format == 'gray' else (*size, 3)
        self._ends = np.cumsum([part.pages for part in self._parts])
        self.pages = int(self._ends[-1])
        self._columns = _Column([part.index() for part in self._parts])
        self.times_ns = self._columns.of('time_ns')
        self.indices = self._columns.of('index')
        self.finished = self._parts[-1].finished and _is_last(self._parts[-1]) and not self.missing_files
        self.notes = tuple([*notes, *self._own_notes()])

    # ------------------------------------------------------------------ pages

    def read(self, page: int, out: Optional[np.ndarray] = None) -> np.ndarray:
        part, number = self.place(page)
        with self._readers.reading():
            try:
                return part.read_page(number, out, proven=True)
            except OSError as error:
                raise _at_page(page, self.path, part.path, error) from error

    def stored_page(self, page: int) -> StoredPage:
        """Everything that the page's own text tells; ``page`` and ``part`` are its place in its file."""
        part, number = self.place(page)
        with self._readers.reading():
            try:
                return part.stored_page(number)
            except OSError as error:
                raise _at_page(page, self.path, part.path, error) from error

    def is_intact(self, page: int) -> bool:
        """Whether the page's checksum fits its pixels and its text."""
        part, number = self.place(page)
        with self._readers.reading():
            return part.verify_page(number)

    def column(self, name: str) -> np.ndarray:
        """A field of the page index (:data:`~..recordings.index.INDEX_DTYPE`) of all pages, read-only."""
        return self._columns.of(name)

    def close(self) -> None:
        self._readers.end()
        for part in self._parts:
            part.close()

    def reading(self) -> ContextManager[None]:
        """The files stay open meanwhile, for those who read from them themselves (``place``)."""
        return self._readers.reading()

    def place(self, page: int) -> Tuple[RecordingFile, int]:
        """The file that holds a page, and the page's number in it. Raises IndexError."""
        if not 0 <= page < self.pages:
            raise IndexError(f'page {page} of {self.path}, which has {self.pages}')
        number = int(np.searchsorted(self._ends, page, side='right'))
        return self._parts[number], page - (int(self._ends[number - 1]) if number else 0)

    # ------------------------------------------------------------------ what is known beside them

    @property
    def recording_id(self) -> str:
        """The same in all files of a recording and in no other; '' where it is not to be had."""
        return self._id

    @property
    def annotations(self) -> Dict[str, Any]:
        """'report', 'marks', … of the last file, as stored; {} without a clean end, or where they were changed since.

        They are not to be had either while the last file is missing.
        """
        last = self._parts[-1]
        return last.annotations if last.finished and last.sealed and _is_last(last) else {}

    @property
    def about(self) -> Dict[str, Any]:
        """'settings', 'metadata', 'camera' of the first file that tells them."""
        return next((part.about for part in self._parts if part.about), {})

    def _own_notes(self) -> Iterator[str]:
        last = self._parts[-1]
        yield from self._notes_on_files()
        if not last.finished:
            yield (f'{last.path.name} is unfinished: it was cut off, or is still being recorded; it has no verdict. '
                   f'Once it has been cut off, run:  ppr repair {self.path}')
        if not all(part.sealed for part in self._parts):
            yield (f'report, settings and metadata are not what was written into the file; what is still right tells:  '
                   f'ppr verify {self.path}')

    def _notes_on_files(self) -> Iterator[str]:
        gone = [name for name in self.missing_files if name not in self._left_out]
        if gone:
            yield f'not all files of this recording are here: {_few(gone)} missing; bring them back beside the others'
        useless = [name for name in self.missing_files if name in self._left_out]
        for name in useless[:MOST_NAMED]:
            yield (f'{name} is there, but was left out: {self._left_out[name]}; see  '
                   f'ppr verify {self.path.with_name(name)}')
        if len(useless) > MOST_NAMED:
            yield f'so were {len(useless) - MOST_NAMED:,} more: {_few(useless[MOST_NAMED:])}'
        unknown = [part.path.name for part in self._parts if self._id and not self._ids[part.part]]
        if unknown:
            yield (f'the preface of {_few(unknown)}, which tells of which recording a file is, is damaged; numbers and '
                   'times of its frames fit, so it was taken for one of this recording; see  '
                   f'ppr verify {self.path.with_name(unknown[0])}')

    # ------------------------------------------------------------------ files

    def _take_all(self, path: Path, notes: List[str]) -> None:
        given = RecordingFile(path)
        self._parts.append(given)
        given.index()
        self._id = given.recording
        self._ids = {given.part: self._id}              # of each file: '' where its preface is damaged, or has none
        first = first_of_parts(path, given.part)
        self.results_path = Path(os.path.abspath(results_path(path if first is None else first)))
        if first is None:
            self.files = (path,)
            self.missing_files = tuple(f'part {number}' for number in range(given.part))
            notes.append(f'{path.name} is part {given.part} of a recording, and its name does not end in '
                         f'_{given.part:03d}, so the other files cannot be found by it')
            return
        self._take_others(first, given, notes)

    def _take_others(self, first: Path, given: RecordingFile, notes: List[str]) -> None:
        found = {given.part: given}
        self._parts.clear()
        last = _last_number(given)
        for number, path in [(0, first), *_parts_beside(first)]:
            if number != given.part and (last is None or number <= last):
                other = self._take(number, path, given)
                if other is not None:
                    found[number] = other
                    if last is None and self._ids[number] == self._ids[given.part]:
                        last = _last_number(other)
            self._parts = [found[key] for key in sorted(found)]
        self._drop_strangers(given)
        here = [part.part for part in self._parts]
        self.files = tuple(part.path for part in self._parts)
        last_part = self._parts[-1]
        to_be_here = max(here) + (2 if last_part.finished and not _is_last(last_part) else 1)
        self.missing_files = tuple(part_path(first, number).name for number in range(to_be_here) if number not in here)
        notes.extend(f'{name} was left out: {why}' for name, why in self._left_out.items()
                     if name in self._likely_ours and name not in self.missing_files)
        for part in self._parts[MOST_OPEN:]:
            part.release()

    def _take(self, number: int, path: Path, given: RecordingFile) -> Optional[RecordingFile]:
        if not os.path.lexists(path):
            return None
        try:
            other = RecordingFile(path)
        except RecordingFileError as error:
            self._left_out[path.name] = str(error)
            return None
        self._ids[number] = other.recording
        why = self._why_another(number, other, given)
        if not why:
            try:
                other.index()
            except RecordingFileError as error:
                why = str(error)
                self._likely_ours.add(path.name)
        if why:
            self._left_out[path.name] = why
            other.close()
            return None
        if len(self._parts) >= MOST_OPEN:
            other.release()
        return other

    def _why_another(self, number: int, other: RecordingFile, given: RecordingFile) -> str:
        """Why a file is of another recording, which merely has such a name; '' where nothing speaks for it."""
        if other.part != number:
            return f'it says that it is file {other.part} of a recording, and not file {number}'
        if self._id and self._ids[number] and self._id != self._ids[number]:
            return ANOTHER
        if (other.height, other.width, other.pixel_format) != (given.height, given.width, given.pixel_format):
            return f'it belongs to another recording: its frames are {other.width}×{other.height} {other.pixel_format}'
        return ''

    def _drop_strangers(self, given: RecordingFile) -> None:
        """Keep the files whose frames follow one another, around the one that was given."""
        at = self._parts.index(given)
        kept, numbers = [given], [given.part]
        outwards = [*reversed(self._parts[:at]), *self._parts[at + 1:]]
        # Those that cannot tell their recording come last: they must not take the place of one that can.
        for part in sorted(outwards, key=lambda part: not self._ids[part.part]):
            place = bisect(numbers, part.part)
            why = self._why_stranger(part, kept[place - 1:place], kept[place:place + 1])
            if why:
                self._left_out[part.path.name] = why
                self._likely_ours.add(part.path.name)
                part.close()
            else:
                self._id = self._id or self._ids[part.part]
                kept.insert(place, part)
                numbers.insert(place, part.part)
        self._parts = kept

    def _why_stranger(self, part: RecordingFile, before: List[RecordingFile], after: List[RecordingFile]) -> str:
        """Why a file does not go between its neighbours, if it has such; '' if it does."""
        own_id = self._ids[part.part]
        if self._id and own_id and self._id != own_id:
            return ANOTHER
        if all(_follows(one, part) for one in before) and all(_follows(part, one) for one in after):
            return ''
        return 'its frames are of another time, so it belongs to another recording'


def _at_page(page: int, path: Path, file: Path, error: OSError) -> RecordingFileError:
    """The same error, which tells where; what lies deeper does not know it."""
    kind = RecordingFormatError if isinstance(error, RecordingFormatError) else RecordingFileError
    where = f'page {page} of {path}' + (f' (in {file.name})' if file != path else '')
    return kind(f'{where} cannot be read: {error}')


def _few(names: List[str]) -> str:
    return ', '.join(names[:MOST_NAMED]) + (', …' if len(names) > MOST_NAMED else '')


def _follows(one: RecordingFile, other: RecordingFile) -> bool:
    before, after = one.index()[-1], other.index()[0]
    return _last_number(one) is None and bool(before['index'] < after['index'] and before['time_ns'] < after['time_ns'])


def _is_last(part: RecordingFile) -> bool:
    facts = part.annotations.get('file', {})
    return facts.get('last', True) is not False


def _last_number(part: RecordingFile) -> Optional[int]:
    """The number of the recording's last file, where this one tells that it is it."""
    return part.part if part.finished and _is_last(part) else None


def _parts_beside(first: Path) -> List[Tuple[int, Path]]:
    try:
        return parts_on_disk(first)
    except OSError:
        return []                            # the folder cannot be listed
