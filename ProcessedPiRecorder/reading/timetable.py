"""Time-stamped tables of other programs: CSV files as labs' loggers write them, lists, columns, pandas' frames."""

from __future__ import annotations

import csv
import io
import os
import re
from array import array
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, Iterator, List, Mapping, Optional, Sequence, Tuple, Union, overload

import numpy as np

from ..errors import RecordingFileError, SettingsError
from .timestamps import MISSING, looks_like

__all__ = ['DataFrameTable', 'Moments', 'Table', 'read_csv', 'table_of']

SAMPLE_LINES = 30
ROWS_AT_ONCE = 1024
DELIMITERS = {';': "';'", '\t': 'tabs', '|': "'|'", ',': "','"}     # in this order: decimal commas look like the last

_INTEGER = re.compile(r'[+-]?(0|[1-9]\d{0,18})')
_DECIMAL = re.compile(r'[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?')


class Table:
    """Columns of equal length, with names.

    Attributes:
        what: for people. names; columns: one sequence each. told: how it was understood, one sentence each.
        originals: the rows as they were given; None where the columns are all there is.
        text: whether the cells are text, with decimal commas where ``comma``.
    """

    def __init__(self, what: str, names: Sequence[str], columns: Sequence[Any], told: Sequence[str] = (), *,
                 originals: Any = None, text: bool = False, comma: bool = False) -> None:
        self.what, self.names, self.columns, self.told = what, list(names), list(columns), list(told)
        self.originals, self.text, self.comma = originals, text, comma

    def __len__(self) -> int:
        return len(self.columns[0]) if self.columns else 0

    def column(self, place: int) -> Sequence[Any]:
        """A column's values: a list, tuple or array; Moments where they are known to be ns since 1970 UTC."""
        return self.columns[place]

    def row(self, number: int) -> Any:
        """A row as it was given; of columns, a dict by their names, text that is a number as a number."""
        if self.originals is not None:
            return self.originals[number]
        cells = (column[number] for column in self.columns)
        return {name: _cell(value, self.comma) if self.text else value for name, value in zip(self.names, cells)}

    def rows(self, numbers: Sequence[int]) -> Iterator[Any]:
        """These rows, as :meth:`row` gives each."""
        return map(self.row, numbers)

    def data_frame(self, numbers: np.ndarray) -> Any:
        """These rows as a pandas DataFrame."""
        import pandas
        taken = numbers.tolist()
        columns = ([column[number] for number in taken] for column in self.columns)
        return pandas.DataFrame({name: pandas.Series(_typed(values, self.comma) if self.text else values)
                                 for name, values in zip(self.names, columns)}, index=range(len(taken)))


class DataFrameTable(Table):
    """A pandas DataFrame; its index counts as the first column where it has a name, or holds times."""

    def __init__(self, frame: Any) -> None:
        self._frame = frame
        names, series = [str(name) for name in frame.columns], [frame.iloc[:, at] for at in range(frame.shape[1])]
        if frame.index.name is not None or frame.index.dtype.kind == 'M':
            names.insert(0, str(frame.index.name or 'time'))
            series.insert(0, frame.index.to_series())
        super().__init__('the DataFrame', names, series)

    def __len__(self) -> int:
        return len(self._frame)

    def column(self, place: int) -> Sequence[Any]:
        series = self.columns[place]
        zone = getattr(series.dtype, 'tz', None)
        if zone is not None:
            moments = series.dt.tz_convert('UTC').dt.tz_localize(None).to_numpy()
            return Moments(moments.astype('datetime64[ns]').astype(np.int64))
        if isinstance(series.dtype, np.dtype):
            return series.to_numpy()
        if series.dtype.kind == 'i':                      # with gaps, to_numpy() would make floats of them
            return series.fillna(MISSING).to_numpy(np.int64)
        return series.to_numpy(object)

    def row(self, number: int) -> Any:
        return {name: column.iloc[number] for name, column in zip(self.names, self.columns)}

    def data_frame(self, numbers: np.ndarray) -> Any:
        import pandas
        return pandas.DataFrame({name: column.iloc[numbers].to_numpy() if getattr(column.dtype, 'tz', None) is None
                                 else column.iloc[numbers].reset_index(drop=True)
                                 for name, column in zip(self.names, self.columns)})


class Moments(Sequence[int]):
    """int64 ns since 1970 UTC, known to be that."""

    def __init__(self, moments: np.ndarray) -> None:
        self.moments = moments

    def __len__(self) -> int:
        return len(self.moments)

    def __getitem__(self, place: Any) -> Any:
        return self.moments[place]


def table_of(given: Any, *, delimiter: Optional[str] = None, decimal: Optional[str] = None) -> Table:
    """A table from a CSV's path, a DataFrame, columns by name, or rows. Raises SettingsError, RecordingFileError."""
    if isinstance(given, (str, os.PathLike)):
        return read_csv(given, delimiter, decimal)
    if type(given).__module__.partition('.')[0] == 'pandas' and hasattr(given, 'columns'):
        return DataFrameTable(given)
    if isinstance(given, Mapping):
        return _of_columns(given)
    try:
        rows = given if isinstance(given, (list, tuple, np.ndarray)) else list(given)
    except TypeError:
        raise _no_table(given) from None
    return _of_rows(rows)


def _of_columns(given: Mapping[str, Any]) -> Table:
    columns = [column if isinstance(column, np.ndarray) else list(column) for column in given.values()]
    lengths = {len(column) for column in columns}
    if len(lengths) > 1:
        raise SettingsError(f'the columns have {", ".join(map(str, sorted(lengths)))} rows; they have to be of one '
                            'length')
    return Table('the columns', [str(name) for name in given], columns)


def _of_rows(rows: Any) -> Table:
    names: Sequence[str]
    if isinstance(rows, np.ndarray):
        if rows.ndim == 1 and rows.dtype.names is None:
            return Table('the array', ['time_ns' if rows.dtype.kind in 'iu' else 'time'], [rows], originals=rows)
        if rows.ndim == 1:
            return Table('the array', list(rows.dtype.names or ()), [rows[name] for name in rows.dtype.names or ()])
        raise _no_table(rows)
    first = rows[0] if len(rows) else None
    if first is None:
        return Table('the list', ['time'], [[]], originals=[])
    if all(isinstance(row, Mapping) for row in rows):
        names = list(dict.fromkeys(name for row in rows for name in row))
        return Table('the list', [str(name) for name in names], [[row.get(name) for row in rows] for name in names],
                     originals=rows)
    if all(isinstance(row, (tuple, list)) and len(row) == len(first) and row for row in rows):
        names = getattr(first, '_fields', None) or (
            'time_ns' if _is_whole(first[0]) else 'time', 'value', *(f'value {n}' for n in range(2, len(first))))
        return Table('the list', names[:len(first)], [list(column) for column in zip(*rows)], originals=rows)
    if all(looks_like(row) != 'other' for row in rows):
        return Table('the list', ['time_ns' if _is_whole(first) else 'time'], [rows], originals=rows)
    raise _no_table(rows)


def _is_whole(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _no_table(given: Any) -> SettingsError:
    return SettingsError(f'{type(given).__name__} is no table that can be joined; pass the path of a CSV or of a '
                         '*.results.jsonl, recording.results, a pandas DataFrame, a list of (time_ns, value) or of '
                         'dicts, an array of times, or a dict of columns')


# ---------------------------------------------------------------------- CSV

def read_csv(path: Union[str, 'os.PathLike[str]'], delimiter: Optional[str] = None, decimal: Optional[str] = None
             ) -> Table:
    """A CSV as loggers write it: separated by , ; tabs or |, with decimal points or commas, in UTF-8, 16 or Latin-1.

    Lines that begin with # are left out. A first line without any number or time in it holds the columns' names. A
    last line that broke off is left out. Raises RecordingFileError where it cannot be read, SettingsError where it is
    no table.
    """
    path = Path(path)
    data, encoding, told = _text_of(path)
    sample = _decoding(data, encoding).read(1 << 16).splitlines()[:SAMPLE_LINES]
    separator = delimiter or _delimiter([line for line in sample if line.strip() and line[0] != '#'])
    first, columns = _columns_of(path, _Lines(_decoding(data, encoding)), separator, told)
    if not first:
        return Table(path.name, ['time'], [[]], [f'{path.name} is empty'], text=True)
    names = _header(first)
    comma = decimal == ',' or decimal is None and separator != ',' and _has_decimal_commas(columns)
    rows = len(columns[0])
    told.append(f'{path.name}: {rows:,} row{"s" * (rows != 1)}'
                + (f', separated by {_called(separator)}' if separator else '') + (', decimal commas' if comma else ''))
    return Table(path.name, names, columns, told, text=True, comma=comma)


def _text_of(path: Path) -> Tuple[bytes, str, List[str]]:
    """A file's bytes, the encoding of the text that they are, and what is to be told of that."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RecordingFileError(f'{path} cannot be read: {error.strerror or error}') from error
    if data[:2] in (b'\xff\xfe', b'\xfe\xff'):
        return data, 'utf-16', ['read as UTF-16']
    try:
        text = data.decode('utf-8-sig')
    except UnicodeDecodeError:
        return data, 'latin-1', ['read as Latin-1']
    if '\0' in text[:1 << 16]:
        raise SettingsError(f'{path} is no CSV: it holds binary data; pass the text that the logger exports')
    return data, 'utf-8-sig', []


def _decoding(data: bytes, encoding: str) -> Any:
    # Piece by piece: as one text, and read by lines, it would take four bytes a character and more.
    return io.TextIOWrapper(io.BytesIO(data), encoding, 'replace', newline='')


class _Lines:
    """A text's lines, but for those that begin with #. whole: whether the last one so far has its end."""

    def __init__(self, text: Any) -> None:
        self._text, self.whole = text, True

    def __iter__(self) -> Iterator[str]:
        for line in self._text:
            self.whole = line.endswith(('\n', '\r'))
            if line[:1] != '#':
                yield line


class _Texts(Sequence[str]):
    """Texts by the million: one behind the other, since each on its own would take 60 bytes more."""

    def __init__(self) -> None:
        self._bytes, self._ends = bytearray(), array('q', [0])

    def extend(self, texts: Sequence[str]) -> None:
        coded = [text.encode('utf-8', 'surrogatepass') for text in texts]
        self._ends.extend(accumulate(map(len, coded[1:]), initial=self._ends[-1] + len(coded[0])))
        self._bytes += b''.join(coded)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> List[str]: ...

    def __getitem__(self, place: Union[int, slice]) -> Union[str, List[str]]:
        if isinstance(place, slice):
            return [self[at] for at in range(len(self))[place]]
        at = range(len(self))[place]
        return self._bytes[self._ends[at]:self._ends[at + 1]].decode('utf-8', 'surrogatepass')

    def __iter__(self) -> Iterator[str]:
        return (self._bytes[begin:end].decode('utf-8', 'surrogatepass')
                for begin, end in zip(self._ends, islice(self._ends, 1, None)))


def _delimiter(lines: Sequence[str]) -> Optional[str]:
    """What separates the columns; None for a single column."""
    for candidate in DELIMITERS:
        widths = {len(row) for row in csv.reader(lines, delimiter=candidate)}
        if len(widths) == 1 and widths != {1}:
            return candidate
    widest = max(DELIMITERS, key=lambda candidate: sum(candidate in line for line in lines))
    rows_with = sum(widest in line for line in lines)
    # Decimal commas in a single column have none in their header; uneven lines will be told by their number.
    return widest if widest in ';\t|' and rows_with or lines and widest in lines[0] else None


def _columns_of(path: Path, lines: _Lines, separator: Optional[str], told: List[str]
                ) -> Tuple[List[str], List[_Texts]]:
    """The first row, and all columns: without that row where it holds names. A last line that broke off is told."""
    reader = csv.reader(lines, delimiter=separator or '\t')
    rows = _rows_of(reader)
    first = next(rows, [])
    columns = [_Texts() for _ in first]
    waiting = [] if not first or _is_header(first) else [first]
    uneven: Optional[int] = None
    for row in rows:
        if uneven is not None:
            break
        if len(row) != len(first):
            uneven, short = reader.line_num, len(row) < len(first)
            continue
        waiting.append(row)
        if len(waiting) == ROWS_AT_ONCE:
            _move(waiting, columns)
    else:
        if uneven is not None and short and not lines.whole:
            uneven = None
            told.append('its last line broke off, and was left out')
    if uneven is not None:
        raise SettingsError(f'{path.name} has {len(first)} columns, separated by {_called(separator)}, but another '
                            f"number of them in line {uneven}; correct that line, or pass the right delimiter=';'")
    _move(waiting, columns)
    return first, columns


def _rows_of(reader: Any) -> Iterator[List[str]]:
    try:
        yield from filter(None, reader)
    except csv.Error as error:
        raise SettingsError(f'line {reader.line_num} is not what a CSV holds ({error}); correct it') from error


def _move(rows: List[List[str]], columns: Sequence[_Texts]) -> None:
    for column, cells in zip(columns, zip(*rows)):
        column.extend(cells)
    rows.clear()


def _is_header(first: Sequence[str]) -> bool:
    return all(looks_like(cell) == 'other' for cell in first)


def _header(first: Sequence[str]) -> List[str]:
    """The columns' names; made up where the first row holds numbers."""
    if not _is_header(first):
        return [f'column {number}' for number in range(len(first))]
    names: List[str] = []
    for name in (cell.strip() for cell in first):
        while name in names:
            name += ' (again)'
        names.append(name)
    return names


def _has_decimal_commas(columns: Sequence[Sequence[str]]) -> bool:
    return any(re.fullmatch(r' *[+-]?\d+,\d+ *', cell) for column in columns for cell in column[:100])


def _called(separator: Optional[str]) -> str:
    return DELIMITERS.get(separator or '', repr(separator))


def _cell(text: str, comma: bool) -> Any:
    plain = text.strip()
    number = plain.replace(',', '.', 1) if comma else plain
    if not number:
        return None
    if _INTEGER.fullmatch(number):
        return int(number)
    # Leading zeros are those of a name, not of a number.
    if _DECIMAL.fullmatch(number) and not re.match(r'[+-]?0\d', number):
        return float(number)
    return plain


def _typed(texts: Sequence[str], comma: bool) -> Any:
    """A column for pandas: whole numbers, also with gaps, as such; numbers; else text."""
    import pandas
    cells = [_cell(text, comma) for text in texts]
    kinds = {type(cell) for cell in cells} - {type(None)}
    if kinds == {int} and all(cell is None or -2**63 <= cell < 2**63 for cell in cells):
        return pandas.array(cells, dtype='Int64' if None in cells else 'int64')
    if kinds and kinds <= {int, float}:
        return pandas.array([float('nan') if cell is None else float(cell) for cell in cells], dtype='float64')
    return pandas.array([None if cell is None else text.strip() for text, cell in zip(texts, cells)], dtype=object)
