"""Rows of another table bound to the frames that they belong to: by number, by time, or by the nearest time."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union, overload

import numpy as np

from ..errors import SettingsError
from ..extras import require
from .results import Results
from .timestamps import MISSING, UNITS, Zone, convert, first_present, iso_ns, looks_like, span_ns
from .timetable import Moments, Table, table_of

if TYPE_CHECKING:
    from .recording import Recording

__all__ = ['Joined', 'JoinedRow', 'Unmatched', 'join', 'match_times']

DIRECTIONS = ('nearest', 'backward', 'forward')
KEYS = ('time', 'index', 'page')
RESULTS_SUFFIX = '.results.jsonl'
#: 2001: numbers of seconds since 1970 have ten digits since then, and such as count from a start have fewer.
EARLIEST_NS = 10**18
NONE = -1
ROWS_AT_ONCE = 1024               # that an iteration takes from its arrays
WORST_FLOAT_NS = 238              # the distance of two float64 near 1.7e9 seconds

_TIME_NAME = re.compile(r'(?:utc|time|times|timestamp|time_?stamp|date_?time|date time)(?:[ _]*[\[(]?'
                        r'(ns|us|µs|μs|ms|s|sec|seconds|utc|iso)[\])]?)?')
_UNIT_NAMES = {'µs': 'us', 'μs': 'us', 'sec': 's', 'seconds': 's', 'utc': None, 'iso': None}


class JoinedRow(NamedTuple):
    """A row and its frame.

    page, index, time_ns: of the frame; index and time_ns None where the recording knows none. difference_ns: time of
    the row minus time of the frame; None where the table tells no times. row: as it was given (of a CSV: a dict).
    number: of the row in its table, from 0.
    """

    page: int
    index: Optional[int]          # type: ignore[assignment]   # hides tuple.index, which nobody misses here
    time_ns: Optional[int]
    difference_ns: Optional[int]
    row: Any
    number: int


class Unmatched(NamedTuple):
    """A row that belongs to no frame: its number in its table, the row, and why."""

    number: int
    row: Any
    why: str


class _Key(NamedTuple):
    """What the rows are joined by: values as int64, MISSING where a row tells none; and how that came to be."""

    by: str
    values: np.ndarray
    rounded: bool
    told: str


class Joined:
    """Rows of a table bound to frames, in the order of the frames; rows of one frame in the order of the table.

    A sequence of :class:`JoinedRow`, made when they are asked for. Lives on without the recording.

    Attributes:
        page: of each row's frame, int64. rows: the rows' numbers in their table, int64.
        index: of each row's frame, int64; None where the recording knows none.
        difference_ns: time of the row minus time of its frame, int64; None where the table tells no times.
        unmatched_rows: numbers of the rows that belong to no frame, int64, in the table's order.
        frames_without: pages of the frames to which no row belongs, int64.
        by: 'time', 'index' or 'page'. notes: how the table was understood, one sentence each.
    """

    def __init__(self, table: Table, by: str, pages: np.ndarray, whys: np.ndarray, reasons: Sequence[str],
                 difference_ns: Optional[np.ndarray], recording: Recording, notes: Sequence[str]) -> None:
        matched = np.flatnonzero(pages != NONE)
        self.rows = matched[np.argsort(pages[matched], kind='stable')]
        self.page = pages[self.rows]
        self._indices, self._times_ns = recording.indices, recording.times_ns
        self.index = None if self._indices is None else self._indices[self.page]
        self.difference_ns = None if difference_ns is None else difference_ns[self.rows]
        self.unmatched_rows = np.flatnonzero(pages == NONE)
        has_row = np.zeros(len(recording), bool)
        has_row[self.page] = True
        self.frames_without = np.flatnonzero(~has_row)
        self.by, self.notes = by, tuple(notes)
        self._table, self._whys, self._reasons = table, whys, tuple(reasons)

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, place: int) -> JoinedRow: ...
    @overload
    def __getitem__(self, place: slice) -> List[JoinedRow]: ...

    def __getitem__(self, place: Union[int, slice]) -> Union[JoinedRow, List[JoinedRow]]:
        if isinstance(place, slice):
            return list(self._at(np.arange(len(self))[place]))
        return next(self._at(np.array([range(len(self))[place]])))

    def __iter__(self) -> Iterator[JoinedRow]:
        return self._at(np.arange(len(self)))

    def of_page(self, page: int) -> List[JoinedRow]:
        """The rows that belong to a page, in the table's order."""
        begin, end = np.searchsorted(self.page, (page, page + 1))
        return self[int(begin):int(end)]

    @property
    def unmatched(self) -> List[Unmatched]:
        """The rows that belong to no frame, in the table's order, each with the reason."""
        numbers = self.unmatched_rows.tolist()
        return [Unmatched(number, row, self._reasons[self._whys[number]])
                for number, row in zip(numbers, self._table.rows(numbers))]

    @property
    def unmatched_why(self) -> Dict[str, int]:
        """How many rows belong to no frame, by reason."""
        counts = np.bincount(self._whys[self.unmatched_rows], minlength=len(self._reasons))
        return {reason: int(count) for reason, count in zip(self._reasons, counts) if count}

    @property
    def worst_difference_ns(self) -> Optional[int]:
        """The largest distance of a row from its frame, ns; None without rows, or without times."""
        differences = self.difference_ns
        if differences is None:
            return None
        known = differences[differences != MISSING]
        return int(np.abs(known).max()) if len(known) else None

    def to_pandas(self) -> Any:
        """A DataFrame: page, index, time_ns of the frame, difference_ns, and the table's own columns.

        These have ``row_`` before their name where it is one of the former. Raises MissingExtraError without pandas.
        """
        pandas = require('pandas', 'tables', 'Joined.to_pandas()')
        ours: Dict[str, Any] = {'page': self.page}
        if self.index is not None:
            ours['index'] = self.index
        if self._times_ns is not None:
            ours['time_ns'] = self._times_ns[self.page]
        if self.difference_ns is not None:
            ours['difference_ns'] = pandas.array(self.difference_ns, dtype='Int64')
            ours['difference_ns'][self.difference_ns == MISSING] = None
        theirs = self._table.data_frame(self.rows)
        theirs.columns = [f'row_{name}' if name in ours else name for name in theirs.columns]
        return pandas.concat([pandas.DataFrame(ours), theirs], axis=1)

    def __repr__(self) -> str:
        frames = len(np.unique(self.page))
        text = f'{len(self):,} row{"s" * (len(self) != 1)} on {frames:,} frame{"s" * (frames != 1)} by {self.by}'
        if self.worst_difference_ns is not None:
            text += f', at most {_span(self.worst_difference_ns)} from it'
        text += f'; {len(self.frames_without):,} frame{"s" * (len(self.frames_without) != 1)} without a row'
        why = ', '.join(f'{count:,} {reason}' for reason, count in self.unmatched_why.items())
        return f'<Joined: {text}; {len(self.unmatched_rows):,} unmatched{f": {why}" if why else ""}>'

    def _at(self, places: np.ndarray) -> Iterator[JoinedRow]:
        for begin in range(0, len(places), ROWS_AT_ONCE):
            some = places[begin:begin + ROWS_AT_ONCE]
            pages, numbers = self.page[some], self.rows[some].tolist()
            differences = _listed(self.difference_ns, some)
            for page, index, time_ns, difference, row, number in zip(
                    pages.tolist(), _listed(self._indices, pages), _listed(self._times_ns, pages), differences,
                    self._table.rows(numbers), numbers):
                yield JoinedRow(page, index, time_ns, None if difference == MISSING else difference, row, number)


def _listed(column: Optional[np.ndarray], places: np.ndarray) -> List[Optional[int]]:
    return [None] * len(places) if column is None else column[places].tolist()


def join(recording: Recording, table: Any, tolerance: Any = None, by: Optional[str] = None, direction: str = 'nearest',
         *, column: Union[None, str, int] = None, clock: Optional[str] = None, zero: Any = None, zone: Zone = None,
         delimiter: Optional[str] = None, decimal: Optional[str] = None) -> Joined:
    """Bind each row of a table to one of the frames; rows that belong to none are told, not dropped.

    ::

        joined = rec.join('ttl.csv', '2ms')           # the nearest frame, if it is no more than 2 ms away
        for row in joined:
            print(row.page, row.difference_ns, row.row['channel'])
        joined.unmatched, joined.frames_without

    Args:
        table: the path of a CSV or of a ``*.results.jsonl``; :class:`Results`; a pandas DataFrame; a list of
            (time_ns, value) or of dicts; an array of times; a dict of columns. In any order; may be empty.
        tolerance: how far the frame may be away in time: seconds, or text such as '2ms' ('ns', 'us', 'ms', 's').
            None: times have to be those of the frames, exactly. A row as far away as that still counts.
        by: 'time', 'index' (the frame's number) or 'page' (its place in the recording, from 0: what DeepLabCut and
            others count). None: by what there is; where there is more than one, that has to be said. The recorder's
            results go by index, and only where the time is that of the frame as well.
        direction: 'nearest' (of two frames that are as near, the earlier one); 'backward': the last frame at or
            before the row; 'forward': the first one at or after it.
        column: with the times or numbers: its name, or its place from 0. None: the one called time_ns, time_s, time,
            timestamp, index, page, or much like that.
        clock: what its numbers are: 'ns', 'us', 'ms' or 's'; 'iso': dates. None: by its name or its size.
        zero: where they count from: 1970 UTC (None, or '1970'); 'first frame'; a date, or ns since 1970.
        zone: of dates that tell none: 'UTC', '+02:00', 'Europe/Berlin', or a tzinfo.
        delimiter, decimal: of a CSV, ``;`` or ``,`` say; None: as it looks. ``Joined.notes`` tells what was taken.

    Text is converted exactly. Floats since 1970 are not exact to begin with: a float64 of seconds holds steps of
    238 ns, one of nanoseconds steps of 256 ns, so a tolerance has to be given with them.

    Raises SettingsError where it cannot be told what the table means, RecordingFileError where it cannot be read.
    """
    _check(by, direction, clock, decimal, tolerance)
    limit = None if tolerance is None else span_ns(tolerance, 'tolerance')
    if isinstance(table, (str, os.PathLike)) and str(table).endswith(RESULTS_SUFFIX):
        table = Results(table, recording.indices, recording.times_ns)
    if isinstance(table, Results):
        return _join_results(recording, table, limit, by, direction)
    rows = table_of(table, delimiter=delimiter, decimal=decimal)
    place, by, unit = _choose(rows, by, column, limit is not None)
    if by == 'time':
        key = _times(recording, rows, place, clock or unit, zero, zone, given=clock is not None)
    else:
        _refuse_tolerance(limit, by)
        key = _numbers(rows, place, by)
    return _bind(recording, rows, key, limit, direction)


def match_times(frames_ns: np.ndarray, times_ns: np.ndarray, tolerance_ns: int = 0, direction: str = 'nearest'
                ) -> np.ndarray:
    """For each time the number of its frame, -1 where none is near enough; int64. Times in any order.

    frames_ns: increasing. Of two frames that are equally near, the earlier one is taken. direction: 'nearest';
    'backward': the last frame at or before the time; 'forward': the first one at or after it.
    """
    if not len(frames_ns) or not len(times_ns):
        return np.full(len(times_ns), NONE, np.int64)
    before = np.searchsorted(frames_ns, times_ns, side='right') - 1
    after = np.searchsorted(frames_ns, times_ns, side='left')
    last = len(frames_ns) - 1
    to_before = np.where(before < 0, MISSING, times_ns - frames_ns[np.maximum(before, 0)])
    to_after = np.where(after > last, MISSING, frames_ns[np.minimum(after, last)] - times_ns)
    fits_before = (to_before != MISSING) & (to_before <= tolerance_ns) & (direction != 'forward')
    fits_after = (to_after != MISSING) & (to_after <= tolerance_ns) & (direction != 'backward')
    takes_after = fits_after & (~fits_before | (to_after < to_before))
    return np.where(takes_after, after, np.where(fits_before, before, NONE)).astype(np.int64)


def _check(by: Optional[str], direction: str, clock: Optional[str], decimal: Optional[str], tolerance: Any) -> None:
    for name, value, allowed in (('by', by, (None, *KEYS)), ('direction', direction, DIRECTIONS),
                                 ('clock', clock, (None, *UNITS, 'iso')), ('decimal', decimal, (None, '.', ','))):
        if not (value is None or isinstance(value, str)) or value not in allowed:
            raise SettingsError(f'{name}={value!r} is not known; use {", ".join(repr(item) for item in allowed)}')
    if tolerance is None and direction != 'nearest':
        raise SettingsError(f"direction={direction!r} without a tolerance; pass one, such as tolerance='20ms': how far "
                            'the frame may be away')


def _refuse_tolerance(limit: Optional[int], by: str) -> None:
    if limit is not None:
        raise SettingsError(f"tolerance goes with times, and the rows are to be joined by {by}; leave it out, or pass "
                            "by='time'")


def _span(span: int) -> str:
    for unit, scale in (('s', 10**9), ('ms', 10**6), ('µs', 10**3)):
        if span >= scale:
            return f'{span / scale:.4g} {unit}'
    return f'{span} ns'


# ---------------------------------------------------------------------- which column, and what it means

def _choose(rows: Table, by: Optional[str], column: Union[None, str, int], near: bool
            ) -> Tuple[int, str, Optional[str]]:
    """The place of the column to join by, what it is, and its unit where its name tells that."""
    if column is not None:
        place = _place_of(rows, column)
        name = rows.names[place].strip().lower()
        return place, by or (name if name in ('index', 'page') else 'time'), _unit(rows.names[place])
    numbers = {name: place for place, name in enumerate(item.strip().lower() for item in rows.names)
               if name in ('index', 'page')}
    times = [place for place, name in enumerate(rows.names) if _TIME_NAME.fullmatch(name.strip().lower())]
    if by in ('index', 'page'):
        if by in numbers:
            return numbers[by], by, None
    elif times and (by == 'time' or near or not numbers):
        place = _best_time(rows, times)
        return place, 'time', _unit(rows.names[place])
    elif by is None and len(numbers) == 1 and not times and not near:
        return next(iter(numbers.values())), next(iter(numbers)), None
    raise _undecided(rows, by, bool(times), sorted(numbers))


def _place_of(rows: Table, column: Union[str, int]) -> int:
    if isinstance(column, int) and not isinstance(column, bool) and 0 <= column < len(rows.names):
        return column
    if isinstance(column, str) and column in rows.names:
        return rows.names.index(column)
    raise SettingsError(f'column={column!r} is none of {rows.what}; it has {_names(rows)}')


def _best_time(rows: Table, times: Sequence[int]) -> int:
    exact = [place for place in times if _unit(rows.names[place]) == 'ns']
    if len(times) == 1 or len(exact) == 1:
        return (exact or times)[0]
    raise SettingsError(f'{rows.what} has several columns that may be the times: '
                        f'{", ".join(repr(rows.names[place]) for place in times)}; pass column= with the right one')


def _unit(name: str) -> Optional[str]:
    known = _TIME_NAME.fullmatch(name.strip().lower())
    unit = known.group(1) if known else None
    return _UNIT_NAMES.get(unit, unit) if unit else None


def _undecided(rows: Table, by: Optional[str], times: bool, numbers: Sequence[str]) -> SettingsError:
    if by is None and times and numbers:
        return SettingsError(f'{rows.what} has times and {" and ".join(repr(name) for name in numbers)}; pass '
                             f'by={numbers[0]!r}, or by=\'time\' (with tolerance=\'2ms\', say, for the nearest frame)')
    wanted = {'index': "'index'", 'page': "'page'", 'time': "'time_ns', 'time_s', 'time' or 'timestamp'"}.get(
        by or '', "'index', 'page', 'time_ns', 'time_s', 'time' or 'timestamp'")
    return SettingsError(f'{rows.what} has no column called {wanted} to join by; it has {_names(rows)}. Pass column= '
                         "with a name or number, and by='time', 'index' or 'page'")


def _names(rows: Table) -> str:
    return 'the columns ' + ', '.join(repr(name) for name in rows.names[:20]) + (', …' if len(rows.names) > 20 else '')


def _numbers(rows: Table, place: int, by: str) -> _Key:
    where = f'column {rows.names[place]!r}'
    thousandths = convert(rows.column(place), 1000, where, comma=rows.comma).values
    present = thousandths != MISSING
    if (thousandths[present] % 1000).any():
        wrong = thousandths[present][thousandths[present] % 1000 != 0][0] / 1000
        raise SettingsError(f'{where} holds {wrong:g}; frames are numbered by whole numbers. Should it hold times, '
                            "pass by='time'")
    return _Key(by, np.where(present, thousandths // 1000, MISSING), False, f'{where} as the frames\' {by}')


def _times(recording: Recording, rows: Table, place: int, clock: Optional[str], zero: Any, zone: Zone, given: bool
           ) -> _Key:
    values, where = rows.column(place), f'column {rows.names[place]!r}'
    if isinstance(values, Moments):
        return _Key('time', values.moments, False, f'{where} as UTC')
    sample = first_present(values)
    if clock == 'iso' or getattr(values, 'dtype', np.dtype(int)).kind == 'M' or looks_like(sample) == 'date':
        if zero is not None or given and clock != 'iso':
            raise SettingsError(f'{where} holds dates, such as {str(sample)!r}; leave out clock= and zero=')
        return _Key('time', convert(values, 1, where, zone=zone, dates=True).values, False, f'{where} as dates')
    zero_ns, since = _zero(recording, zero, zone)
    if sample is None:
        return _Key('time', np.full(len(values), MISSING, np.int64), False, f'{where} is empty')
    unit = clock or _unit_by_size(sample, where, rows.comma)
    column = convert(values, UNITS[unit], where, comma=rows.comma)
    present = column.values != MISSING
    _refuse_early(recording, column.values[present], zero, unit, where, sample)
    times = np.where(present, np.where(present, column.values, 0) + zero_ns, MISSING)
    return _Key('time', times, column.rounded and zero_ns == 0, f'{where} as {unit} since {since}')


def _unit_by_size(sample: Any, where: str, comma: bool) -> str:
    if looks_like(sample) != 'number' or isinstance(sample, str) and ',' in sample and not comma:
        raise SettingsError(f"{where} holds {sample!r}, which is no time; pass column= with the one that holds them"
                            + (", or decimal=','" if looks_like(sample) == 'number' else ''))
    number = abs(float(str(sample).replace(',', '.', 1) if comma else sample))
    for unit, scale in UNITS.items():
        if EARLIEST_NS <= number * scale < 4 * EARLIEST_NS:
            return unit
    raise SettingsError(f"{where} holds {sample!r}, and neither its name nor its size tells a unit; pass clock='ns', "
                        "'us', 'ms', 's' or 'iso', and zero='first frame' where it counts from the first frame, or "
                        "zero='2024-05-01T10:00:00Z' where from another moment")


def _zero(recording: Recording, zero: Any, zone: Zone) -> Tuple[int, str]:
    if zero is None or zero in ('1970', 'unix'):
        return 0, '1970 UTC'
    if zero == 'first frame':
        return (0 if recording.times_ns is None else int(recording.times_ns[0])), 'the first frame'
    if isinstance(zero, (int, np.integer)) and not isinstance(zero, bool):
        return int(zero), f'{int(zero)} ns'
    if looks_like(zero) == 'date':
        return iso_ns(zero, 'zero', zone), str(zero)
    raise SettingsError(f"zero={zero!r} is no moment; pass 'first frame', '1970', a date such as "
                        "'2024-05-01T10:00:00Z', or whole ns since 1970")


def _refuse_early(recording: Recording, times: np.ndarray, zero: Any, unit: str, where: str, sample: Any) -> None:
    """Small numbers count from some start; taken as times since 1970, all rows would silently be unmatched."""
    frames = recording.times_ns
    if zero is None and frames is not None and frames[0] >= EARLIEST_NS and len(times) and times.max() < EARLIEST_NS:
        raise SettingsError(f'{where} holds {sample!r}, which as {unit} since 1970 is long before the recording; '
                            "pass zero='first frame' where it counts from the first frame, "
                            "zero='2024-05-01T10:00:00Z' where from another moment, or the right clock='ns', 'us', "
                            "'ms' or 's'")


# ---------------------------------------------------------------------- rows to frames

WHYS = ('without a time or number', 'before the first frame', 'after the last frame', 'with no frame near enough',
        'of frames that are not in it', "of another time than their frame's: of another recording?")


def _bind(recording: Recording, rows: Table, key: _Key, limit: Optional[int], direction: str) -> Joined:
    frames = _frames(recording, key.by)
    if limit is None and key.rounded:
        raise SettingsError(f'{key.told}: these are floats, which since 1970 hold steps of {WORST_FLOAT_NS} ns, so '
                            "that exact times would fit by chance only; pass tolerance='1us' or more, or the times as "
                            'whole ns or as text')
    pages, whys = _matched(frames, key, limit, direction)
    differences = _differences(key.values, frames, pages) if key.by == 'time' else None
    return Joined(rows, key.by, pages, whys, WHYS, differences, recording, [*rows.told, key.told])


def _frames(recording: Recording, by: str) -> np.ndarray:
    frames = {'time': recording.times_ns, 'index': recording.indices, 'page': np.arange(len(recording))}[by]
    if frames is None:
        raise SettingsError(f'{recording.path.name} was not made by ProcessedPiRecorder, and knows no {by} of its '
                            "frames; join by their place in the file: by='page'")
    return frames


def _matched(frames: np.ndarray, key: _Key, limit: Optional[int], direction: str) -> Tuple[np.ndarray, np.ndarray]:
    """Each row's page, or -1 and, as a place in WHYS, the reason."""
    present = key.values != MISSING
    values = np.where(present, key.values, frames[0])
    pages = np.where(present, match_times(frames, values, limit or 0, direction), NONE)
    whys = np.full(len(values), 3 if key.by == 'time' else 4)
    whys[values < frames[0]] = 1
    whys[values > frames[-1]] = 2
    whys[~present] = 0
    return pages, whys


def _differences(times_ns: np.ndarray, frames_ns: np.ndarray, pages: np.ndarray) -> np.ndarray:
    known = (pages != NONE) & (times_ns != MISSING)
    return np.where(known, np.where(known, times_ns, 0) - frames_ns[pages], MISSING)


class _ResultsTable(Table):
    def __init__(self, results: Results) -> None:
        name = results.path.name if results.path is not None else 'no results'
        columns = [_with_gaps(results.indices), _with_gaps(results.times_ns), results]
        super().__init__(name, ['index', 'time_ns', 'result'], columns, originals=results)
        self._results = results

    def rows(self, numbers: Sequence[int]) -> Iterator[Any]:
        return self._results.at(numbers)

    def data_frame(self, numbers: np.ndarray) -> Any:
        import pandas
        stored = [entry.result for entry in self._results.at(numbers.tolist())]
        return pandas.DataFrame({name: pandas.Series(column) for name, column in (
            ('index', self._results.indices[numbers]), ('time_ns', self._results.times_ns[numbers]),
            ('result', np.fromiter(stored, object, len(stored))))})


def _with_gaps(values: np.ndarray) -> np.ndarray:
    return np.where(values == NONE, MISSING, values)


def _join_results(recording: Recording, results: Results, limit: Optional[int], by: Optional[str], direction: str
                  ) -> Joined:
    """By index, and, unless that was asked for, only where the time is that frame's too; or by time."""
    rows = _ResultsTable(results)
    indices, times_ns = _with_gaps(results.indices), _with_gaps(results.times_ns)
    if by == 'time' or by is None and limit is not None:
        key = _Key('time', times_ns, False, f'{rows.what}: each result by its time')
        return _bind(recording, rows, key, limit, direction)
    if by == 'page':
        raise SettingsError("results know their frame's index and time, not its page; pass by='index' or by='time'")
    _refuse_tolerance(limit, 'index')
    key = _Key('index', indices, False, f"{rows.what}: each result by its frame's index" + (
        '' if by else ', where its time is that of the frame, too'))
    frames, frames_ns = _frames(recording, 'index'), _frames(recording, 'time')
    pages, whys = _matched(frames, key, None, direction)
    differences = _differences(times_ns, frames_ns, pages)
    if by is None:
        foreign = (pages != NONE) & (differences != 0)
        pages[foreign], whys[foreign] = NONE, len(WHYS) - 1
    return Joined(rows, 'index', pages, whys, WHYS, differences, recording, [key.told])
