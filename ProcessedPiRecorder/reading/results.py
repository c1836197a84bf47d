"""The callback's results, bound to the pages of their recording; read from the file when they are asked for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union, overload

import numpy as np

from ..errors import RecordingFileError, RecordingFormatError
from ..recordings.results import parse_line

__all__ = ['Result', 'Results', 'check_readable']

NONE = -1                      # of a page, an index, a time
_ROW = np.dtype([('offset', '<i8'), ('index', '<i8'), ('time_ns', '<i8')])

PIECE_BYTES = 1 << 20          # read at once
LINES_AT_ONCE = 1024
MOST_LINE = 1 << 28
ROWS_AT_ONCE = 1 << 16         # bounds what finding their pages takes
DIGITS = 19                    # of 64 bits
PADDING = bytes(80)            # so that a head can be looked for where the last line is


Numbers = Union[Sequence[int], np.ndarray]


class Result(NamedTuple):
    """One result.

    index, time_ns: of the frame that it belongs to; None: put outside of any. result: what was put, as JSON gives it
    back. page: of that frame in the recording; None where it is not there.
    """

    index: Optional[int]         # type: ignore[assignment]   # hides tuple.index, which nobody misses here
    time_ns: Optional[int]
    result: Any
    page: Optional[int] = None


class Results(Sequence[Result]):
    """All results of a recording, in the order in which they were put; one is parsed when it is asked for.

    Memory: 32 bytes a result, 8 more where they were not put in the order of the frames. Any number of threads. A last
    line that broke off in a crash is left out. Raises RecordingFileError where there is no such file,
    RecordingFormatError for a line that is not a result.

    Args:
        path: of the file; None: there are none.
        indices, times_ns: of the recording's pages, int64, increasing; without them, no result has a page.
    """

    def __init__(self, path: Optional[Union[str, 'os.PathLike[str]']], indices: Optional[np.ndarray] = None,
                 times_ns: Optional[np.ndarray] = None) -> None:
        self.path = None if path is None else Path(path)
        self._rows, self._end = _scan(self.path)
        self.pages = _pages(self._rows, indices, times_ns)
        self.pages.flags.writeable = False
        self._in_order = bool((self.pages[1:] >= self.pages[:-1]).all())
        self._by_page: Optional[np.ndarray] = None

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, number: int) -> Result: ...
    @overload
    def __getitem__(self, number: slice) -> List[Result]: ...

    def __getitem__(self, number: Union[int, slice]) -> Union[Result, List[Result]]:
        if isinstance(number, slice):
            return list(self._parsed(range(len(self))[number]))
        return next(self._parsed([range(len(self))[number]]))

    def __iter__(self) -> Iterator[Result]:
        return self._parsed(range(len(self)))

    def of_page(self, page: int) -> List[Result]:
        """The results that belong to a page, in the order in which they were put."""
        if not self._in_order and self._by_page is None:
            self._by_page = np.argsort(self.pages, kind='stable')
        begin, end = np.searchsorted(self.pages, (page, page + 1), sorter=self._by_page)
        numbers = range(int(begin), int(end)) if self._by_page is None else self._by_page[begin:end].tolist()
        return list(self._parsed(numbers))

    def at(self, numbers: Numbers) -> Iterator[Result]:
        """Those with these numbers, from 0, in their order; neighbours are read at once."""
        return self._parsed(numbers)

    def lines(self, numbers: Numbers) -> Iterator[bytes]:
        """Their lines, as they are stored; :meth:`parsed` tells what is in one."""
        return (line for _, lines in self._runs(numbers) for line in lines)

    @property
    def indices(self) -> np.ndarray:
        """Each result's frame number, int64; -1: put outside of any frame."""
        return self._rows['index']

    @property
    def times_ns(self) -> np.ndarray:
        """Each result's originating time, int64 ns since 1970 UTC; -1: put outside of any frame."""
        return self._rows['time_ns']

    def __repr__(self) -> str:
        return f'<Results: {len(self):,} from {self.path.name}>' if self.path is not None else '<Results: none>'

    def parsed(self, number: int, line: bytes) -> Result:
        """A result, of its line. Raises RecordingFormatError where it is damaged."""
        assert self.path is not None
        page = int(self.pages[number])
        return Result(*parse_line(line, self.path, number + 1), None if page == NONE else page)

    def _parsed(self, numbers: Numbers) -> Iterator[Result]:
        path = self.path
        assert path is not None or not len(numbers)
        for run, lines in self._runs(numbers):
            for number, page, line in zip(run.tolist(), self.pages[run].tolist(), lines):
                index, time_ns, result = parse_line(line, path, number + 1)      # type: ignore[arg-type]
                yield Result(index, time_ns, result, None if page == NONE else page)

    def _runs(self, numbers: Numbers) -> Iterator[Tuple[np.ndarray, List[bytes]]]:
        """Neighbours in the file, and their lines: they are read at once."""
        if not len(numbers):
            return
        assert self.path is not None
        with _opened(self.path) as file:
            for start in range(0, len(numbers), LINES_AT_ONCE):
                some = np.asarray(numbers[start:start + LINES_AT_ONCE], np.int64)
                pieces = self._rows['offset'][some] // PIECE_BYTES
                apart = np.flatnonzero((some[1:] != some[:-1] + 1) | (pieces[1:] != pieces[:-1])) + 1
                for begin, end in zip([0, *apart.tolist()], [*apart.tolist(), len(some)]):
                    yield some[begin:end], self._read(file, some[begin:end])

    def _read(self, file: Any, run: np.ndarray) -> List[bytes]:
        assert self.path is not None
        places = self._rows['offset'][run[0]:run[-1] + 2].tolist()
        if len(places) == len(run):
            places.append(self._end)
        file.seek(places[0])
        text = _read_some(file, self.path, places[-1] - places[0])
        return [text[begin - places[0]:end - places[0]] for begin, end in zip(places, places[1:])]


def check_readable(path: Path) -> None:
    """Raises RecordingFileError where no results can be read from a file: it is not there, say. Reads nothing of it."""
    _opened(path).close()


def _opened(path: Path) -> Any:
    if os.path.exists(path) and not os.path.isfile(path):        # a pipe would wait for a writer
        raise RecordingFileError(f'cannot read results from {path}: it is not an ordinary file; pass the file of '
                                 'results that belongs to the recording')
    try:
        return open(path, 'rb')
    except OSError as error:
        raise RecordingFileError(f'cannot read results from {path}: {error.strerror}; a recording has such a file '
                                 'only if its callback put something') from error


def _scan(path: Optional[Path]) -> Tuple[np.ndarray, int]:
    """One _ROW a line, and where the last line ends."""
    rows, end = np.empty(0, _ROW), 0
    if path is None:
        return rows, end
    with _opened(path) as file:
        for offset, lines_before, text in _whole_lines(file, path):
            (more, end), before = _rows_of(text, offset, lines_before, path), len(rows)
            rows.resize(before + len(more), refcheck=False)       # in place: pieces put together would take it twice
            rows[before:] = more
    return rows, end


def _whole_lines(file: Any, path: Path) -> Iterator[Tuple[int, int, bytes]]:
    """The file in pieces of whole lines: offset, number of lines before it, text. The last may lack its end."""
    offset = lines = 0
    rest = b''
    while True:
        read = _read_some(file, path, PIECE_BYTES)
        text = rest + read
        end = text.rfind(b'\n') + 1 if read else len(text)
        if not read and not text:
            return
        if end:
            yield offset, lines, text[:end]
            offset, lines, rest = offset + end, lines + text.count(b'\n', 0, end), text[end:]
        elif len(text) > MOST_LINE:
            raise RecordingFormatError(f'{path}, line {lines + 1}: not a result (it has over {MOST_LINE:,} bytes); '
                                       'pass the file of results that belongs to the recording')
        else:
            rest = text


def _read_some(file: Any, path: Path, nbytes: int) -> bytes:
    try:
        read: bytes = file.read(nbytes)
        return read
    except OSError as error:
        raise RecordingFileError(f'cannot read results from {path}: {error.strerror}') from error


def _rows_of(text: bytes, offset: int, lines_before: int, path: Path) -> Tuple[np.ndarray, int]:
    bytes_ = np.frombuffer(text + PADDING, np.uint8)
    ends = np.flatnonzero(bytes_[:len(text)] == ord('\n')) + 1
    if not text.endswith(b'\n'):
        ends = np.append(ends, len(text))
    starts = np.concatenate([[0], ends[:-1]])
    rows = np.empty(len(starts), _ROW)
    rows['offset'] = offset + starts
    rows['index'], rows['time_ns'], fits = _heads(bytes_, starts)
    fits &= (bytes_[ends - 1] == ord('\n')) & (bytes_[ends - 2] == ord('}'))
    for number in np.flatnonzero(~fits):           # another writer's, or damaged
        line = text[starts[number]:ends[number]]
        try:
            index, time_ns, _ = parse_line(line, path, lines_before + int(number) + 1)
        except RecordingFormatError:
            if not line.endswith(b'\n'):
                return rows[:number], int(offset + starts[number])       # broken off in a crash
            raise
        rows['index'][number] = NONE if index is None else index
        rows['time_ns'][number] = NONE if time_ns is None else time_ns
    return rows, offset + len(text)


def _heads(text: np.ndarray, starts: np.ndarray) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Index and time_ns of lines that begin as ours do, and which ones do. All at once: there can be millions."""
    fits = np.ones(len(starts), bool)
    at = _after(b'{"index": ', text, starts, fits)
    indices, at = _number(text, at, fits)
    at = _after(b', "time_ns": ', text, at, fits)
    times, at = _number(text, at, fits)
    _after(b', "result": ', text, at, fits)
    return indices, times, fits


def _after(literal: bytes, text: np.ndarray, at: np.ndarray, fits: np.ndarray) -> np.ndarray:
    for place, byte in enumerate(literal):
        fits &= text[at + place] == byte
    return at + len(literal)


def _number(text: np.ndarray, at: np.ndarray, fits: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """The whole number that stands at each place, or NONE for null; and the places behind it."""
    values, begin = np.zeros(len(at), np.int64), at
    going = np.ones(len(at), bool)
    for _ in range(DIGITS):
        digits = text[at] - ord('0')               # uint8: other characters come out above 9
        going &= digits < 10
        values = np.where(going, values * 10 + digits, values)
        at = at + going
    length = at - begin
    nulls = length == 0
    if nulls.any():
        is_null = nulls.copy()
        at = np.where(nulls, _after(b'null', text, begin, is_null), at)
        fits &= is_null | ~nulls
        values[nulls] = NONE
    fits &= (length < DIGITS) | (text[begin] < ord('9'))      # else it may be beyond 64 bits
    return values, at


def _pages(rows: np.ndarray, indices: Optional[np.ndarray], times_ns: Optional[np.ndarray]) -> np.ndarray:
    """The page of each result; -1 where the recording has no page with that number and time."""
    if indices is None or times_ns is None or not len(indices) or not len(rows):
        return np.full(len(rows), NONE, np.int64)
    pages = np.empty(len(rows), np.int64)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        some = rows[start:start + ROWS_AT_ONCE]
        near = np.minimum(np.searchsorted(indices, some['index']), len(indices) - 1)
        fits = (indices[near] == some['index']) & (times_ns[near] == some['time_ns'])
        pages[start:start + ROWS_AT_ONCE] = np.where(fits, near, NONE)
    return pages
