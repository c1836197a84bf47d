"""CSV and Parquet: a row for each frame, or for each result. Both hold the same, to the last digit."""

from __future__ import annotations

import csv
import datetime
import functools
import json
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, ContextManager, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from .._version import __version__
from ..errors import ExportError
from ..extras import require
from ..reading import Recording, Result
from .base import Exported, PathLike, Place, Progress, chosen_pages, whole_file
from .flat import Flattening, as_json, survey

__all__ = ['export_csv', 'export_parquet']

WHATS = ('frames', 'results')
ROWS_A_BLOCK = 1024
ROWS_A_GROUP = 65_536            # of Parquet's row groups
BYTES_A_ROW = 160                # of a CSV, about; Parquet takes less


class Column(NamedTuple):
    """name; kind: 'int', 'float', 'bool', 'text', 'json', 'seconds' or 'utc' (both int ns); gaps: some may be None."""

    name: str
    kind: str
    gaps: bool = False


Write = Callable[[List[Sequence[Any]]], None]
Writer = Callable[[Any, Sequence[Column]], ContextManager[Write]]

PAGE = Column('page', 'int')
TIMES = (Column('index', 'int'), Column('time_ns', 'int'), Column('time_s', 'seconds'), Column('utc', 'utc'))
ABOUT = (Column('status', 'text'), Column('effort', 'text'), Column('sensor_ns', 'int', True), Column('host_ns', 'int'),
         Column('cb_ms', 'float', True), Column('skew_ns', 'int', True), Column('marks', 'json', True),
         Column('lost_before', 'int'))
RESULT_HEAD = tuple(column._replace(gaps=True) for column in (PAGE, *TIMES)) + (
    Column('result_number', 'int'), Column('box_number', 'int', True))


def export_csv(recording: Recording, target: PathLike, *, what: str = 'frames', start: Optional[Place] = 0,
               stop: Optional[Place] = None, every: int = 1, overwrite: bool = False,
               progress: Optional[Progress] = None) -> Exported:
    """Write a table as CSV: UTF-8, commas, decimal points, one line of names. Blocks; memory does not grow.

    Args:
        what: 'frames': a row for each: page (in the recording, from 0), index (among the frames that the sensor made),
            time_ns (since 1970 UTC), time_s (from the recording's first frame, exact), utc (ISO 8601), status, effort,
            sensor_ns, host_ns, cb_ms, skew_ns, marks (JSON: label and time_ns of each), lost_before (frames that are
            missing right before it). 'results': a row for each that the callback put, with page to utc of its frame,
            result_number (in the order in which they were put, from 0), and its content: a dict's keys are columns,
            nested ones joined by dots; a list of boxes (dicts with x, y, w, h) gives a row for each, with box_number;
            any other list is JSON. Where its content has a name of the table's own, it is called ``result.name``.
        start, stop, every, overwrite, progress: as for all exports.

    Empty cells are what is not there. pandas.read_csv makes floats of whole numbers with such gaps, unless it is told
    ``dtype={'sensor_ns': 'Int64'}``; Parquet keeps them. Raises ExportError, RecordingFileError.
    """
    return _export(recording, target, what, (start, stop, every), overwrite, progress, _csv_file)


def export_parquet(recording: Recording, target: PathLike, *, what: str = 'frames', start: Optional[Place] = 0,
                   stop: Optional[Place] = None, every: int = 1, overwrite: bool = False,
                   progress: Optional[Progress] = None) -> Exported:
    """Write the table that :func:`export_csv` writes as Parquet: whole numbers stay such, utc is a timestamp with ns.

    Needs pyarrow. Raises MissingExtraError without it, ExportError, RecordingFileError.
    """
    require('pyarrow.parquet', 'tables', 'Export to Parquet')
    return _export(recording, target, what, (start, stop, every), overwrite, progress, _parquet_file)


def _export(recording: Recording, target: PathLike, what: str, places: Tuple[Any, Any, int], overwrite: bool,
            progress: Optional[Progress], open_file: Writer) -> Exported:
    if what not in WHATS:
        raise ExportError(f"what={what!r} is not known; pass what='frames' for a row for each frame, or what='results' "
                          'for one for each result')
    pages = chosen_pages(recording, *places)
    tell = progress or (lambda done, total: None)
    make = _frames if what == 'frames' else _results
    columns, rows, frames, notes, needs_bytes = make(recording, pages, tell)
    with whole_file(target, overwrite=overwrite, needs_bytes=needs_bytes, recording=recording) as part:
        with open_file(part, columns) as write:
            written = 0
            for block in rows:
                write(block)
                written += len(block)
        size = part.stat().st_size
    return Exported(Path(target), frames, size, tuple(notes), rows=written)


_Made = Tuple[Sequence[Column], Iterator[List[Sequence[Any]]], int, List[str], int]        # the last: bytes, about


# ---------------------------------------------------------------------- frames

def _frames(recording: Recording, pages: range, tell: Progress) -> _Made:
    needs_bytes = len(pages) * BYTES_A_ROW
    if not recording.is_ours:
        note = (f'{recording.path.name} was not made by ProcessedPiRecorder: nothing is known of its frames but their '
                'place')
        return [PAGE], _blocks(pages, tell, lambda page: [page]), len(pages), [note], needs_bytes
    indices, times_ns, efforts = recording.indices, recording.times_ns, recording.effort
    assert indices is not None and times_ns is not None and efforts is not None

    def row(page: int) -> List[Any]:
        record = recording.record(page)
        before = int(indices[page - 1]) if page else -1
        marks = as_json([dict(mark) for mark in record.marks]) if record.marks else None
        return [page, *_moment(record.index, record.time_ns, times_ns), record.status, str(efforts[page]),
                record.sensor_ns, record.host_ns, record.cb_ms, record.skew_ns, marks, record.index - before - 1]
    return [PAGE, *TIMES, *ABOUT], _blocks(pages, tell, row), len(pages), [], needs_bytes


def _moment(index: Optional[int], time_ns: Optional[int], times_ns: Optional[np.ndarray]) -> List[Any]:
    since = None if time_ns is None or times_ns is None else time_ns - int(times_ns[0])
    return [index, time_ns, since, time_ns]


def _blocks(pages: range, tell: Progress, row: Callable[[int], List[Any]]) -> Iterator[List[Sequence[Any]]]:
    tell(0, len(pages))
    for begin in range(0, len(pages), ROWS_A_BLOCK):
        block: List[Sequence[Any]] = [row(page) for page in pages[begin:begin + ROWS_A_BLOCK]]
        yield block
        tell(begin + len(block), len(pages))


# ---------------------------------------------------------------------- results

def _results(recording: Recording, pages: range, tell: Progress) -> _Made:
    notes = list(_missing_results(recording))
    numbers = _chosen_results(recording, pages)
    tell(0, len(numbers))
    flattening = survey((entry.result for block in _read(recording, numbers) for _, entry in block),
                        [column.name for column in RESULT_HEAD])
    columns = [*RESULT_HEAD, *(Column(column.name, column.kind, True) for column in flattening.columns)]
    if flattening.whole:
        notes.append('the results have too many different keys for columns of their own, so each is one cell of JSON')
    stored = recording.results
    outside = int((stored.pages[numbers] < 0).sum())
    if outside:
        notes.append(f'{outside:,} of {len(numbers):,} results have no page: they were put outside of a frame, or '
                     'theirs is not in the recording')
    if len(numbers) < len(stored):
        notes.append(f'{len(numbers):,} of {len(stored):,} results belong to the chosen frames')
    frames = len(np.unique(stored.pages[numbers])) - (1 if outside else 0)
    stored_bytes = 0 if stored.path is None else stored.path.stat().st_size
    return (columns, _result_rows(recording, numbers, flattening, tell), frames, notes,
            stored_bytes * len(numbers) // max(len(stored), 1))


def _missing_results(recording: Recording) -> Iterator[str]:
    if recording.results_path is not None:
        return
    report = recording.report
    if report is not None and report.results:
        with recording.own_pages() as own:
            name = own.results_path.name                   # also where the first file is missing
        raise ExportError(f'the results of {recording.path.name} are not here: its callback put {report.results:,}, '
                          f'which were stored in {name}; bring that file back beside it')
    yield f'{recording.path.name} has no results: the table has no rows'


def _chosen_results(recording: Recording, pages: range) -> np.ndarray:
    """Their numbers; with all frames also those that belong to none."""
    if len(pages) == len(recording):
        return np.arange(len(recording.results))
    of_pages = recording.results.pages
    return np.flatnonzero((of_pages >= pages.start) & (of_pages < pages.stop)
                          & ((of_pages - pages.start) % pages.step == 0))


def _read(recording: Recording, numbers: np.ndarray) -> Iterator[List[Tuple[int, Result]]]:
    """These results and their numbers, in blocks; neighbours in the file are read at once."""
    stored = recording.results
    blocks, begins = np.unique(numbers // ROWS_A_BLOCK, return_index=True)
    for block, chosen in zip(blocks.tolist(), np.split(numbers, begins[1:]) if len(numbers) else []):
        first = block * ROWS_A_BLOCK
        entries = stored[first:first + ROWS_A_BLOCK]
        yield [(number, entries[number - first]) for number in chosen.tolist()]


def _result_rows(recording: Recording, numbers: np.ndarray, flattening: Flattening, tell: Progress
                 ) -> Iterator[List[Sequence[Any]]]:
    done = 0
    for block in _read(recording, numbers):
        rows: List[Sequence[Any]] = []
        for number, entry in block:
            head = [entry.page, *_moment(entry.index, entry.time_ns, recording.times_ns), number]
            rows.extend([*head, *row] for row in flattening.rows(entry.result))
        yield rows
        done += len(block)
        tell(done, len(numbers))


# ---------------------------------------------------------------------- CSV

@contextmanager
def _csv_file(path: Any, columns: Sequence[Column]) -> Iterator[Write]:
    # Half a surrogate pair, which JSON can hold and UTF-8 cannot, comes as \udc00 in text.
    with open(path, 'w', newline='', encoding='utf-8', errors='backslashreplace') as file:
        writer = csv.writer(file, lineterminator='\n')
        quoting = csv.writer(file, lineterminator='\n', quoting=csv.QUOTE_ALL)

        def write_row(row: Sequence[Any]) -> None:
            # Before Python 3.13 a lone \r is not quoted by itself, and readers would begin a row with it.
            broken = any(isinstance(value, str) and '\r' in value for value in row)
            (quoting if broken else writer).writerow(row)
        write_row([column.name for column in columns])
        texts = [_CSV_TEXT.get(column.kind, _itself) for column in columns]

        def write(rows: List[Sequence[Any]]) -> None:
            for row in rows:
                write_row([None if value is None else text(value) for text, value in zip(texts, row)])
        yield write


def _itself(value: Any) -> Any:
    return value


def _seconds(time_ns: int) -> str:
    whole, part = divmod(abs(time_ns), 10**9)
    return f'{"-" if time_ns < 0 else ""}{whole}.{part:09d}'


def _utc(time_ns: int) -> str:
    second, part = divmod(time_ns, 10**9)
    return f'{_utc_second(second)}.{part:09d}Z'


@functools.lru_cache(maxsize=64)
def _utc_second(second: int) -> str:
    return (datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=second)).isoformat()


_CSV_TEXT = {'seconds': _seconds, 'utc': _utc, 'float': repr}


# ---------------------------------------------------------------------- Parquet

@contextmanager
def _parquet_file(path: Any, columns: Sequence[Column]) -> Iterator[Write]:
    import pyarrow
    import pyarrow.parquet
    kinds = {'int': pyarrow.int64(), 'float': pyarrow.float64(), 'bool': pyarrow.bool_(), 'text': pyarrow.string(),
             'json': pyarrow.string(), 'seconds': pyarrow.float64(), 'utc': pyarrow.timestamp('ns', 'UTC')}
    schema = pyarrow.schema([pyarrow.field(column.name, kinds[column.kind], column.gaps) for column in columns],
                            {'pandas': json.dumps(_for_pandas(columns))})
    waiting: List[Sequence[Any]] = []
    with pyarrow.parquet.ParquetWriter(path, schema) as file:
        def write_group() -> None:
            arrays = [pyarrow.array([_for_arrow(row[place], column.kind) for row in waiting], kinds[column.kind])
                      for place, column in enumerate(columns)]
            file.write_table(pyarrow.table(arrays, schema=schema))
            waiting.clear()

        def write(rows: List[Sequence[Any]]) -> None:
            waiting.extend(rows)
            if len(waiting) >= ROWS_A_GROUP:
                write_group()
        yield write
        write_group()


def _for_arrow(value: Any, kind: str) -> Any:
    if isinstance(value, str):
        return value.encode('utf-8', 'backslashreplace').decode()
    return value / 1e9 if kind == 'seconds' and value is not None else value


#: For pandas: its name of a column's type in general, and of the type it is to have with gaps and without.
_PANDAS = {'int': ('int64', 'Int64', 'int64'), 'bool': ('bool', 'boolean', 'bool'),
           'float': ('float64', 'float64', 'float64'), 'seconds': ('float64', 'float64', 'float64'),
           'utc': ('datetimetz', 'datetime64[ns]', 'datetime64[ns]'), 'text': ('unicode', 'object', 'object'),
           'json': ('unicode', 'object', 'object')}


def _for_pandas(columns: Sequence[Column]) -> Any:
    """What pandas is to make of the columns: whole numbers with gaps stay whole numbers."""
    told = [{'name': column.name, 'field_name': column.name, 'pandas_type': _PANDAS[column.kind][0],
             'numpy_type': _PANDAS[column.kind][1 if column.gaps else 2],
             'metadata': {'timezone': 'UTC'} if column.kind == 'utc' else None} for column in columns]
    return {'index_columns': [], 'column_indexes': [], 'columns': told, 'pandas_version': '2.0.0',
            'creator': {'library': 'ProcessedPiRecorder', 'version': __version__}}
