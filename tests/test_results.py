"""Results beside the recording: what is stored of which object, kills, full disks, reading back."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import json
import math
import os
import resource
import signal
import time
from pathlib import Path
from typing import Any, List, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ProcessedPiRecorder.errors import RecordingFileError, RecordingFormatError
from ProcessedPiRecorder.frame import Frame
from ProcessedPiRecorder.recordings.results import ResultsFile, encode_line, read_results, results_path


def stored(result: Any) -> Any:
    """What a plain JSON reader finds for a result."""
    return json.loads(encode_line(0, 0, result))['result']


def write(path: Path, results: List[Any]) -> None:
    with ResultsFile(path) as file:
        for number, result in enumerate(results):
            file.add(number, 10**18 + number, result)


@dataclasses.dataclass
class Face:
    x: int
    score: float


class Point(NamedTuple):
    x: int
    y: int


class Color(enum.IntEnum):
    RED = 1


class Hostile:
    """Everything that can be asked of it raises."""

    def __repr__(self) -> str:
        raise RuntimeError('no')

    __str__ = __repr__

    @property
    def _fields(self) -> Any:
        raise RuntimeError('no')


class HostileDict(dict):     # type: ignore[type-arg]
    def items(self) -> Any:
        raise RuntimeError('no')


def test_the_path() -> None:
    assert results_path('data/trial.tif') == Path('data/trial.results.jsonl')
    assert results_path(Path('a.b.tif')) == Path('a.b.results.jsonl')


def test_results_are_bound_to_their_frames(tmp_path: Path) -> None:
    path = tmp_path / 'trial.results.jsonl'
    result = {'index': 7, 'time_ns': 8, 'faces': [{'x': 1, 'y': 2, 'w': 3, 'h': 4}]}
    with ResultsFile(path) as file:
        assert not path.exists()     # nothing put, nothing made
        file.add(np.int64(3), 10**18, result)     # type: ignore[arg-type]
        file.add(None, None, 'HiMom')
        file.flush()
        assert path.read_bytes().count(b'\n') == 2
    assert list(read_results(path)) == [(3, 10**18, result), (None, None, 'HiMom')]
    assert file.count == 2 and file.dropped == 0
    first = json.loads(path.read_text().splitlines()[0])
    assert first == {'index': 3, 'time_ns': 10**18, 'result': result}


@pytest.mark.parametrize('result, expected', [
    ((1, 2.5, None, True), [1, 2.5, None, True]),
    (np.float32(0.5), 0.5),
    (np.uint8(7), 7),
    (np.bool_(True), True),
    (np.array([[1, 2], [3, 4]], np.uint8), [[1, 2], [3, 4]]),
    (np.array(5), 5),
    (np.array([0.25, np.nan]), [0.25, {'__type__': 'float', 'text': 'nan'}]),
    (float('-inf'), {'__type__': 'float', 'text': '-inf'}),
    ({3}, {'__type__': 'set', 'items': [3]}),
    ({1: 'a', '1': 'b'}, {'__type__': 'dict', 'items': [[1, 'a'], ['1', 'b']]}),
    (collections.OrderedDict(a=1), {'a': 1}),
    (collections.deque([1, 2]), [1, 2]),
    (b'\x00\xff', {'__type__': 'bytes', 'base64': 'AP8='}),
    (Face(3, 0.5), {'__type__': f'{__name__}.Face', 'x': 3, 'score': 0.5}),
    (Point(3, 4), {'__type__': f'{__name__}.Point', 'x': 3, 'y': 4}),
    (Color.RED, 1),
    (datetime.datetime(2024, 5, 1, 12, tzinfo=datetime.timezone.utc),
     {'__type__': 'datetime.datetime', 'text': '2024-05-01T12:00:00+00:00'}),
    (np.datetime64('2024-05-01T12:00:00.5', 'ns'),
     {'__type__': 'numpy.datetime64', 'text': '2024-05-01T12:00:00.500000000'}),
    (decimal.Decimal('1.10'), {'__type__': 'decimal.Decimal', 'text': '1.10'}),
    (1 + 2j, {'__type__': 'complex', 'text': '(1+2j)'}),
    ('M\u00fcller \ud800', 'M\u00fcller \ud800'),
    (10**30, 10**30),
])
def test_what_is_stored(result: Any, expected: Any) -> None:
    assert stored(result) == expected
    assert type(stored(result)) is type(expected)


def test_large_things_become_typed_text() -> None:
    frame = stored(Frame(np.zeros((480, 640, 3), np.uint8), 1, 2))
    assert frame.pop('text').startswith('[0, 0')
    assert frame == {'__type__': 'ProcessedPiRecorder.frame.Frame', 'shape': [480, 640, 3], 'dtype': 'uint8'}
    assert len(stored(np.zeros(10_000))) == 10_000
    assert stored(bytes(2_000_000)) == {'__type__': 'bytes', 'text': '2000000 bytes'}
    assert stored(list(range(200_000)))['__type__'] == 'list'
    assert stored(10**5000)['__type__'] == 'int'


def test_nothing_hostile_raises() -> None:
    cyclic: List[Any] = [1]
    cyclic.append(cyclic)
    shared: List[Any] = []
    for _ in range(60):
        shared = [shared, shared]     # 2**60 elements to whoever walks through them
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    assert stored(cyclic) == [1, {'__type__': 'list', 'text': 'contains itself'}]
    for hostile in (shared, deep, Hostile(), [Hostile()], {'a': Hostile()}, HostileDict(a=1),
                    {Hostile(): 1}, lambda: None, Hostile, Face, np.array([Hostile()], object)):
        assert len(json.dumps(stored(hostile))) < 20_000
    assert stored(Hostile())['text'].startswith('<')


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
                    lambda children: st.lists(children) | st.dictionaries(st.text(), children), max_leaves=30)


@hypothesis_settings(max_examples=150, deadline=None)
@given(JSON)
def test_json_comes_back_as_it_was(result: Any) -> None:
    line = encode_line(1, 2, result)
    assert line.count(b'\n') == 1 and line.isascii()
    read_back = json.loads(line, parse_constant=pytest.fail)
    assert repr(_restored(read_back['result'])) == repr(result)


def _restored(value: Any) -> Any:
    if isinstance(value, list):
        return [_restored(item) for item in value]
    if isinstance(value, dict):
        if set(value) == {'__type__', 'text'} and value['__type__'] == 'float':
            return float(value['text'])
        return {key: _restored(item) for key, item in value.items()}
    return value


def test_nan_is_read_back_as_a_number(tmp_path: Path) -> None:
    path = tmp_path / 'r.jsonl'
    write(path, [[1.0, math.nan, math.inf]])
    (_, _, result), = read_results(path)
    assert result[0] == 1.0 and math.isnan(result[1]) and result[2] == math.inf


def test_an_existing_file_is_kept_unless_it_may_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / 'r.jsonl'
    write(path, ['old'])
    with pytest.raises(RecordingFileError, match='overwrite=True'):
        ResultsFile(path).prepare()
    file = ResultsFile(path)
    file.add(0, 0, 'new')
    with pytest.raises(RecordingFileError, match='overwrite=True'):
        file.close()
    assert [result for *_, result in read_results(path)] == ['old']
    ResultsFile(path, overwrite=True).prepare()
    assert not path.exists()     # a recording without results leaves no stale ones behind
    write(path, ['old'])
    with ResultsFile(path, overwrite=True) as file:
        file.add(0, 0, 'new')
    assert [result for *_, result in read_results(path)] == ['new']


def test_a_restarted_callback_goes_on_behind_the_last_whole_line(tmp_path: Path) -> None:
    path = tmp_path / 'r.jsonl'
    write(path, ['first'])
    with open(path, 'ab') as torn:
        torn.write(b'{"index": 1, "time_ns": 5, "resu')
    assert len(list(read_results(path))) == 1
    with ResultsFile(path, append=True) as file:
        file.prepare()
        file.add(2, 6, 'third')
    assert [(index, result) for index, _, result in read_results(path)] == [(0, 'first'), (2, 'third')]
    for content in (b'', b'x' * 200_000, b'{}\n' + b'x' * 200_000):
        path.write_bytes(content)
        with ResultsFile(path, append=True) as file:
            file.add(2, 6, 'third')
        assert path.read_bytes().startswith(content[:3] if b'\n' in content else b'{"index": 2')


def test_a_killed_process_leaves_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / 'r.jsonl'
    for delay in (0.01, 0.02, 0.03, 0.05):
        path.unlink() if path.exists() else None
        pid = os.fork()
        if pid == 0:
            try:
                file = ResultsFile(path)
                for number in range(10**7):
                    file.add(number, number, 'x' * 100)
            finally:
                os._exit(1)
        while not path.exists():
            time.sleep(0.001)
        time.sleep(delay)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        indices = [index for index, *_ in read_results(path)]
        assert indices and indices == list(range(len(indices)))


def test_a_full_disk_is_reported_once_and_leaves_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / 'r.jsonl'
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        file = ResultsFile(path)
        with pytest.raises(RecordingFileError, match='cannot write results'):
            for number in range(10_000):
                file.add(number, number, 'x' * 100)
        file.add(1, 1, 'after')     # said once is enough
        file.flush()
        file.close()
        file.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    read = list(read_results(path))
    assert len(read) == file.count > 100 and file.dropped > 100
    assert path.read_bytes().endswith(b'\n')


def test_a_missing_folder(tmp_path: Path) -> None:
    file = ResultsFile(tmp_path / 'missing' / 'r.jsonl')
    file.add(0, 0, 1)
    with pytest.raises(RecordingFileError, match='No such file'):
        file.flush()


def test_what_is_old_is_written_by_the_next_add(tmp_path: Path) -> None:
    path = tmp_path / 'r.jsonl'
    file = ResultsFile(path)
    file.add(0, 0, 1)
    assert not path.exists()
    file._oldest -= 1.0
    file.add(1, 1, 2)
    assert len(list(read_results(path))) == 2
    file.close()


def test_reading_says_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / 'r.jsonl'
    with pytest.raises(RecordingFileError, match='No such file'):
        next(read_results(path))
    for bad in (b'not json\n', b'[1]\n', b'{"index": 1}\n', b'\xff\n'):
        path.write_bytes(encode_line(0, 0, 0) + bad + encode_line(1, 1, 1))
        with pytest.raises(RecordingFormatError, match='line 2'):
            list(read_results(path))
    path.write_bytes(encode_line(0, 0, 0) + b'\0' * 4096)     # what a power cut may leave
    assert len(list(read_results(path))) == 1


@hypothesis_settings(max_examples=40, deadline=None)
@given(st.integers(0, 200))
def test_any_cut_of_the_file_is_readable(tmp_path_factory: pytest.TempPathFactory, size: int) -> None:
    path = tmp_path_factory.mktemp('cut') / 'r.jsonl'
    lines = [encode_line(number, number, {'a': [number, 'b']}) for number in range(4)]
    path.write_bytes(b''.join(lines)[:size])
    indices = [index for index, *_ in read_results(path)]
    assert indices == list(range(len(indices)))
    assert len(indices) >= size // len(lines[0])
