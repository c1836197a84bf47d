"""The callback's results, stored beside the recording as JSON lines: ``trial.tif`` → ``trial.results.jsonl``.

Each line is one result, bound to the frame that it belongs to::

    {"index": 41, "time_ns": 1714564800123456789, "result": {"faces": [{"x": 3, "y": 5, "w": 60, "h": 60}]}}

``result`` is what the callback put, as JSON where JSON can say it:

=============================================  =============================================================
put                                            stored
=============================================  =============================================================
None, True, text, finite numbers               themselves; numpy's scalars as numbers
list, tuple, deque                             list
dict with str keys only                        object
other dict                                     ``{"__type__": "dict", "items": [[key, value], …]}``
set, frozenset                                 ``{"__type__": "set", "items": […]}``
dataclass, named tuple                         object with its fields, and ``"__type__": "module.Class"``
numpy array up to 10,000 elements              (nested) list
larger numpy array                             ``{"__type__": …, "shape": […], "dtype": …, "text": …}``
nan, inf, -inf                                 ``{"__type__": "float", "text": "nan"}``; read back as numbers
bytes, bytearray, memoryview up to 1 MB        ``{"__type__": "bytes", "base64": …}``
date, time, timedelta, Path, Decimal, UUID     ``{"__type__": …, "text": str(value)}``; dates in ISO 8601
anything else                                  ``{"__type__": "module.Class", "text": repr(value), truncated}``
=============================================  =============================================================

A result that is too large (100,000 elements), too deep (64) or contains itself becomes typed text, whole or
in that part. Nothing here is ever unpickled. The text is ASCII; other characters are escaped.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import decimal
import json
import math
import os
import reprlib
import time
import uuid
from collections import deque
from pathlib import Path, PurePath
from typing import Any, Callable, Dict, Iterator, List, Optional, Set, Tuple, Union

import numpy as np

from ..errors import RecordingFileError, RecordingFormatError

__all__ = ['ResultsFile', 'parse_line', 'read_results', 'results_path', 'whole_lines']

BUFFER_BYTES = 64_000
BUFFER_SECONDS = 0.5          # how old a buffered result may become before the next one takes it to the file
MOST_ELEMENTS = 100_000       # of one result
MOST_DEPTH = 64
MOST_ARRAY_ELEMENTS = 10_000
MOST_BYTES = 1_000_000        # of one bytes object
MOST_TEXT = 2_000             # characters of a repr

_BY_STR = (PurePath, decimal.Decimal, uuid.UUID, datetime.timedelta, np.datetime64, np.timedelta64)


def results_path(tif_path: Union[str, 'os.PathLike[str]']) -> Path:
    """Where the results of a recording are stored: ``trial.tif`` → ``trial.results.jsonl``."""
    return Path(tif_path).with_suffix('.results.jsonl')


class ResultsFile:
    """Stores results in the process where the callback runs. The file is made at the first one.

    ``add`` only buffers, until 64 KB or half a second have come together; call ``flush`` when the callback has
    returned. A failed write raises RecordingFileError once; results after it are counted in ``dropped``.

    Args:
        path: see ``results_path``.
        overwrite: an existing file may be replaced. Without, it raises RecordingFileError.
        append: go on in the file of this same recording, whose callback's process had to be started again; a
            last line that broke off with that process is removed.
    """

    def __init__(self, path: Union[str, 'os.PathLike[str]'], overwrite: bool = False, append: bool = False) -> None:
        self.path = Path(path)
        self.count = 0
        self.dropped = 0
        self._overwrite = overwrite
        self._append = append
        self._fd: Optional[int] = None
        self._lines: List[bytes] = []
        self._buffered = 0
        self._oldest = 0.0
        self._size = 0
        self._failed = False

    def prepare(self) -> None:
        """Before the recording starts, in any process: remove a stale file, or raise if it must be kept.

        A recording that puts no results leaves no file, so a stale one would be taken for its own.
        """
        if self._append:
            return
        if not self._overwrite and self.path.exists():
            raise RecordingFileError(f'{self.path} exists already: choose another tif_path, remove the file, or pass '
                                     'overwrite=True')
        if self._overwrite:
            try:
                self.path.unlink()
            except FileNotFoundError:
                pass
            except OSError as error:
                raise RecordingFileError(f'cannot replace {self.path}: {error.strerror}; remove it by hand or choose '
                                         'another tif_path') from error

    def add(self, index: Optional[int], time_ns: Optional[int], result: Any) -> None:
        """Store a result with its frame's number and time (None, None: put outside of any frame).

        Whatever the object is like, it does not raise for it; only RecordingFileError when writing fails.
        """
        if self._failed:
            self.dropped += 1
            return
        line = encode_line(index, time_ns, result)
        now = time.monotonic()
        if not self._lines:
            self._oldest = now
        self._lines.append(line)
        self._buffered += len(line)
        if self._buffered >= BUFFER_BYTES or now - self._oldest >= BUFFER_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what is buffered, at once. Raises RecordingFileError."""
        if not self._lines or self._failed:
            return
        lines, self._lines, self._buffered = self._lines, [], 0
        try:
            if self._fd is None:
                self._fd = self._open()
            self._write(b''.join(lines))
        except OSError as error:
            self._fail(len(lines), error)
        self.count += len(lines)

    def close(self) -> None:
        """Write what is buffered, down to the disk. Harmless when called twice. Raises RecordingFileError."""
        try:
            self.flush()
            if self._fd is not None and not self._failed:
                os.fsync(self._fd)
        except RecordingFileError:
            raise
        except OSError as error:
            self._fail(0, error)
        finally:
            fd, self._fd = self._fd, None
            if fd is not None:
                os.close(fd)

    def __enter__(self) -> 'ResultsFile':
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _open(self) -> int:
        if self._append:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            self._size = whole_lines(fd)
            os.ftruncate(fd, self._size)
            return fd
        new = os.O_TRUNC if self._overwrite else os.O_EXCL
        return os.open(self.path, os.O_RDWR | os.O_CREAT | new, 0o666)

    def _write(self, data: bytes) -> None:
        assert self._fd is not None
        position = self._size
        view = memoryview(data)
        while view:
            written = os.pwrite(self._fd, view, position)
            view = view[written:]
            position += written
        self._size = position

    def _fail(self, dropped: int, error: OSError) -> None:
        """Leave whole lines behind, and say it once."""
        self._failed = True
        self.dropped += dropped
        if self._fd is not None:
            try:
                os.ftruncate(self._fd, self._size)
            except OSError:
                pass     # the reader of the file skips a torn last line
        advice = ('remove it or pass overwrite=True' if isinstance(error, FileExistsError)
                  else 'check the disk; the video does not depend on this file')
        raise RecordingFileError(f'cannot write results to {self.path}: {error.strerror or error}; {advice}') from error


def whole_lines(fd: int) -> int:
    """The length of a file up to its last line's end."""
    end = os.fstat(fd).st_size
    while end:
        start = max(0, end - BUFFER_BYTES)
        newline = os.pread(fd, end - start, start).rfind(b'\n')
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


def read_results(path: Union[str, 'os.PathLike[str]']) -> Iterator[Tuple[Optional[int], Optional[int], Any]]:
    """The stored results as (index, time_ns, result), in the order in which they were put.

    A last line that broke off in a crash is left out. Raises RecordingFileError if there is no such file,
    RecordingFormatError, with its number, for any other line that is not a result.
    """
    try:
        file = open(path, 'rb')
    except OSError as error:
        raise RecordingFileError(f'cannot read results from {path}: {error.strerror}; a recording has such a file '
                                 'only if its callback put something') from error
    with file:
        for number, line in enumerate(file, 1):
            try:
                entry = parse_line(line, path, number)
            except RecordingFormatError:
                if not line.endswith(b'\n'):
                    return
                raise
            yield entry


def parse_line(line: bytes, path: Union[str, 'os.PathLike[str]'], number: int
               ) -> Tuple[Optional[int], Optional[int], Any]:
    """(index, time_ns, result) of a line; path and number are for the message of RecordingFormatError."""
    try:
        stored = _decoded(line)
        index, time_ns, result = stored['index'], stored['time_ns'], stored['result']
        if not (_may_stand(index) and _may_stand(time_ns)):
            raise ValueError('index and time_ns have to be whole numbers or null')
        return index, time_ns, result
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RecordingFormatError(f'{path}, line {number}: not a result ({error}); expected '
                                   '{"index": …, "time_ns": …, "result": …}') from error


def _decoded(line: bytes) -> Any:
    # As json.loads does it; only that that makes a decoder for each line.
    text = line.decode('utf-8' if line.startswith(b'{"') else json.detect_encoding(line), 'surrogatepass')
    # A key can be written with escapes, too. Few lines need the hook, which takes longer than all else.
    return _DECODE_RESTORED(text) if '__type__' in text or '\\u' in text else _DECODE(text)


def _may_stand(value: Any) -> bool:
    return value is None or type(value) is int and -2**63 <= value < 2**63


def _restore(stored: Dict[str, Any]) -> Any:
    if len(stored) == 2 and stored.get('__type__') == 'float' and stored.get('text') in ('nan', 'inf', '-inf'):
        return float(stored['text'])
    return stored


_DECODE = json.JSONDecoder().decode
_DECODE_RESTORED = json.JSONDecoder(object_hook=_restore).decode


def encode_line(index: Optional[int], time_ns: Optional[int], result: Any) -> bytes:
    """One line of the file. Never raises for what the result is like."""
    head = {'index': None if index is None else int(index), 'time_ns': None if time_ns is None else int(time_ns)}
    try:
        text = json.dumps({**head, 'result': _Converter().convert(result, 0)}, allow_nan=False)
    except Exception as error:     # a property, a __str__ or a size of the user's own class: any exception at all
        text = json.dumps({**head, 'result': _typed_text(result, f'{_safe_repr(result)} ({type(error).__name__})')})
    return text.encode('ascii') + b'\n'


class _TooLarge(Exception):
    """A result has more elements than MOST_ELEMENTS."""


class _Converter:
    """Turns one result into what json.dumps takes."""

    def __init__(self) -> None:
        self._left = MOST_ELEMENTS
        self._open: Set[int] = set()      # containers that the present one lies in, to see a cycle

    def convert(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if value is None or kind in (str, bool):
            return value
        self._left -= 1
        if self._left < 0:
            raise _TooLarge
        by_kind = _BY_KIND.get(kind)
        if by_kind is not None:
            return by_kind(self, value, depth)
        for base, convert in _BY_BASE:
            if isinstance(value, base):
                return convert(self, value, depth)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return self._fields(value, [item.name for item in dataclasses.fields(value)], depth)
        return _typed_text(value)

    def integer(self, value: int, depth: int) -> Any:
        plain = int.__index__(value)
        # Python refuses to write integers of more than 4,300 digits in decimal.
        return plain if plain.bit_length() < 4096 else _typed_text(value, hex(plain)[:MOST_TEXT])

    def number(self, value: float, depth: int) -> Any:
        plain = float.__float__(value)
        return plain if math.isfinite(plain) else {'__type__': 'float', 'text': repr(plain)}

    def text(self, value: str, depth: int) -> str:
        return str.__str__(value)

    def sequence(self, value: Any, depth: int) -> Any:
        names = getattr(value, '_fields', None)
        if isinstance(value, tuple) and isinstance(names, tuple):
            return self._fields(value, list(names), depth)
        return self._inside(value, depth, lambda: [self.convert(item, depth + 1) for item in value])

    def unordered(self, value: Any, depth: int) -> Any:
        return {'__type__': 'set', 'items': self._inside(
            value, depth, lambda: [self.convert(item, depth + 1) for item in value])}

    def mapping(self, value: Dict[Any, Any], depth: int) -> Any:
        if all(type(key) is str for key in value):
            return self._inside(value, depth, lambda: {
                key: self.convert(item, depth + 1) for key, item in value.items()})
        return {'__type__': 'dict', 'items': self._inside(value, depth, lambda: [
            [self.convert(key, depth + 1), self.convert(item, depth + 1)] for key, item in value.items()])}

    def binary(self, value: Any, depth: int) -> Any:
        size = memoryview(value).nbytes
        if size > MOST_BYTES:
            return _typed_text(value, f'{size} bytes')
        return {'__type__': 'bytes', 'base64': base64.b64encode(bytes(value)).decode('ascii')}

    def array(self, value: Any, depth: int) -> Any:
        if value.size > MOST_ARRAY_ELEMENTS:
            return {**_typed_text(value, reprlib.repr(value.ravel()[:8].tolist())),
                    'shape': list(value.shape), 'dtype': str(value.dtype)}
        if value.dtype.kind in 'biu':
            return value.tolist()
        if value.dtype.kind in 'mM':      # tolist() would make bare integers of nanoseconds
            return value.astype(str).tolist()
        return self.convert(value.tolist(), depth)

    def scalar(self, value: Any, depth: int) -> Any:
        plain = value.item()
        return _typed_text(value, str(value)) if isinstance(plain, np.generic) else self.convert(plain, depth)

    def moment(self, value: Any, depth: int) -> Any:
        return _typed_text(value, value.isoformat())

    def by_str(self, value: Any, depth: int) -> Any:
        return _typed_text(value, str(value)[:MOST_TEXT])

    def _fields(self, value: Any, names: List[str], depth: int) -> Any:
        return self._inside(value, depth, lambda: {'__type__': _type_name(value), **{
            name: self.convert(getattr(value, name), depth + 1) for name in names}})

    def _inside(self, value: Any, depth: int, build: Callable[[], Any]) -> Any:
        if id(value) in self._open:
            return _typed_text(value, 'contains itself')
        if depth >= MOST_DEPTH:
            return _typed_text(value, f'nested deeper than {MOST_DEPTH}')
        self._open.add(id(value))
        try:
            return build()
        finally:
            self._open.discard(id(value))


_Convert = Callable[[_Converter, Any, int], Any]

_BY_KIND: Dict[type, _Convert] = {
    int: _Converter.integer, float: _Converter.number, dict: _Converter.mapping, list: _Converter.sequence,
    tuple: _Converter.sequence, set: _Converter.unordered, frozenset: _Converter.unordered}

_BY_BASE: Tuple[Tuple[Any, _Convert], ...] = (
    (bool, lambda _, value, __: bool(value)), (_BY_STR, _Converter.by_str),
    (np.ndarray, _Converter.array), (np.generic, _Converter.scalar),
    (int, _Converter.integer), (float, _Converter.number), (str, _Converter.text), (dict, _Converter.mapping),
    ((list, tuple, deque), _Converter.sequence), ((set, frozenset), _Converter.unordered),
    ((bytes, bytearray, memoryview), _Converter.binary), ((datetime.date, datetime.time), _Converter.moment))


def _typed_text(value: Any, text: Optional[str] = None) -> Dict[str, Any]:
    return {'__type__': _type_name(value), 'text': (_safe_repr(value) if text is None else text)[:MOST_TEXT]}


def _type_name(value: Any) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == 'builtins' else f'{kind.__module__}.{kind.__qualname__}'


def _safe_repr(value: Any) -> str:
    """repr, shortened where it is a container (a repr of shared lists can be astronomically long)."""
    try:
        return _REPR.repr(value)
    except Exception as error:     # a repr of the user's own class
        return f'<no repr: {type(error).__name__}>'


_REPR = reprlib.Repr()
_REPR.maxlevel, _REPR.maxstring, _REPR.maxother = 4, MOST_TEXT, MOST_TEXT
for _name in ('maxlist', 'maxtuple', 'maxset', 'maxfrozenset', 'maxdict', 'maxdeque', 'maxarray'):
    setattr(_REPR, _name, 20)
