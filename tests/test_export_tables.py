"""Tables of frames and results: what pandas and pyarrow read is what the recording holds, to the last digit."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recording_tools import paced, recorder, wait_until

from ProcessedPiRecorder import open_recording
from ProcessedPiRecorder.errors import ExportCancelled, ExportError
from ProcessedPiRecorder.exports import export, whole
from ProcessedPiRecorder.exports.flat import Flattening, survey
from ProcessedPiRecorder.exports.tables import export_csv, export_parquet
from ProcessedPiRecorder.recordings.results import ResultsFile
from ProcessedPiRecorder.recordings.space import Room
from tests.faults.tiny import make_tiny

HEAD = ['page', 'index', 'time_ns', 'time_s', 'utc']


def put_much(buffer: Any, cb_queue: Any) -> Any:
    frame = buffer[-1]
    index = int(frame.index)
    boxes = [{'x': index, 'y': n, 'w': 5, 'h': 6.5, 'label': 'ä;"\n'} for n in range(index % 3)]
    cb_queue.put({'faces': boxes, 'light': {'mean': index / 3, 'over': index > 4}, 'index': -index, 'track': [1, [2]],
                  'big': 2**62 + index, 'note': None if index % 2 else f'n{index}'})
    return frame if index % 2 else None


@pytest.fixture(scope='module')
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten frames with results of all kinds."""
    path = tmp_path_factory.mktemp('tables') / 'trial.tif'
    recorder(path, callback=put_much, controls={'frames': 10}).recordVid()
    return path


def rows_of(path: Path) -> List[Dict[str, str]]:
    with open(path, newline='', encoding='utf-8') as file:
        return list(csv.DictReader(file))


def test_some_results_need_room_in_proportion(recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_recording(recording) as opened:
        assert opened.results_path is not None
        room = Room(whole.MARGIN_BYTES + opened.results_path.stat().st_size // 2, 10**9)
        monkeypatch.setattr(whole, 'room_at', lambda folder: room)
        export_csv(opened, tmp_path / 'some.csv', what='results', stop=3)
        with pytest.raises(ExportError, match=r'all\.csv needs about .* free; make room'):
            export_csv(opened, tmp_path / 'all.csv', what='results')


def test_rows_are_counted(recording: Path, tmp_path: Path) -> None:
    for format in ('csv', 'parquet'):
        made = export(recording, tmp_path / f'a.{format}', what='results')
        assert made.rows == 13 and made.frames == 10       # 4 frames without boxes, 3 with one, 3 with two
    assert len(rows_of(tmp_path / 'a.csv')) == 13 and export(recording, tmp_path / 'b.csv').rows == 10


def test_a_csv_of_frames_tells_all_that_the_pages_do(recording: Path, tmp_path: Path) -> None:
    with open_recording(recording) as opened:
        made = export_csv(opened, tmp_path / 'frames.csv')
        rows = rows_of(made.path)
        assert made.frames == len(rows) == len(opened) == 10 and made.bytes == made.path.stat().st_size
        for page, row in enumerate(rows):
            record = opened.record(page)
            assert list(row) == [*HEAD, 'status', 'effort', 'sensor_ns', 'host_ns', 'cb_ms', 'skew_ns', 'marks',
                                 'lost_before']
            told = (int(row['page']), int(row['index']), int(row['time_ns']), int(row['host_ns']), row['status'])
            assert told == (page, record.index, record.time_ns, record.host_ns, record.status)
            assert round(float(row['time_s']) * 1e9) == record.time_ns - opened.times_ns[0]   # type: ignore[index]
            assert (np.datetime64(row['utc'][:-1]) - np.datetime64(0, 'ns')).astype(int) == record.time_ns
            assert float(row['cb_ms']) == record.cb_ms and row['effort'] == opened.effort[page]   # type: ignore[index]
            assert row['skew_ns'] == '' and row['lost_before'] == '0'


def test_pandas_reads_both_as_the_same(recording: Path, tmp_path: Path) -> None:
    pandas = pytest.importorskip('pandas')
    pytest.importorskip('pyarrow')
    for what in ('frames', 'results'):
        with open_recording(recording) as opened:
            export(opened, tmp_path / f'{what}.csv', what=what)
            export(opened, tmp_path / f'{what}.parquet', what=what)
        parquet = pandas.read_parquet(tmp_path / f'{what}.parquet')
        kinds = {name: 'Int64' for name, dtype in parquet.dtypes.items() if str(dtype) == 'Int64'}
        text = pandas.read_csv(tmp_path / f'{what}.csv', dtype={**kinds, 'light.over': 'boolean'})
        text['utc'] = pandas.to_datetime(text['utc'])
        assert list(text.columns) == list(parquet.columns) and len(text) == len(parquet) > 0
        for name in text.columns:
            same = (text[name] == parquet[name]) | (text[name].isna() & parquet[name].isna())
            if parquet[name].dtype == 'float64':              # pandas reads some a last bit off
                same |= np.isclose(text[name], parquet[name], rtol=3e-16, atol=0)
            assert same.all(), name
        assert parquet['time_ns'].astype('int64').tolist() == text['time_ns'].astype('int64').tolist()
    assert str(parquet['time_ns'].dtype) == str(parquet['box_number'].dtype) == str(parquet['big'].dtype) == 'Int64'
    assert str(parquet['utc'].dtype) == 'datetime64[ns, UTC]'


def test_times_in_parquet_are_those_of_the_recording(recording: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip('pyarrow.parquet')
    with open_recording(recording) as opened:
        export(opened, tmp_path / 'frames.parquet')
        table = parquet.read_table(tmp_path / 'frames.parquet')
        assert table['time_ns'].to_pylist() == opened.times_ns.tolist()                       # type: ignore[union-attr]
        assert table['utc'].cast('int64').to_pylist() == opened.times_ns.tolist()             # type: ignore[union-attr]
        assert table['time_s'].to_pylist() == opened.times_s.tolist()                         # type: ignore[union-attr]
        assert [str(table.schema.field(name).type) for name in ('time_ns', 'sensor_ns', 'utc')] == [
            'int64', 'int64', 'timestamp[ns, tz=UTC]']


def test_a_csv_of_results_has_a_row_for_each_box(recording: Path, tmp_path: Path) -> None:
    with open_recording(recording) as opened:
        made = export(opened, tmp_path / 'results.csv', what='results')
        rows = rows_of(made.path)
        assert list(rows[0]) == [*HEAD, 'result_number', 'box_number', 'light.mean', 'light.over', 'result.index',
                                 'track', 'big', 'note', 'faces.x', 'faces.y', 'faces.w', 'faces.h', 'faces.label']
        expected = [(index, number) for index in range(10) for number in (range(index % 3) if index % 3 else [''])]
        assert [(int(row['index']), int(row['box_number']) if row['box_number'] else '') for row in rows] == expected
        for row in rows:
            index = int(row['index'])
            assert (int(row['big']), int(row['result.index'])) == (2**62 + index, -index) and row['track'] == '[1, [2]]'
            assert float(row['light.mean']) == index / 3 and row['light.over'] == str(index > 4)
            assert row['note'] == ('' if index % 2 else f'n{index}') and row['result_number'] == str(index)
            assert (row['faces.h'], row['faces.label']) == (('6.5', 'ä;"\n') if row['box_number'] else ('', ''))
        assert made.frames == 10 and made.notes == ()


def test_a_range_has_the_results_of_its_frames(recording: Path, tmp_path: Path) -> None:
    calls: List[Any] = []
    with open_recording(recording) as opened:
        made = export(opened, tmp_path / 'some.csv', what='results', start=1, stop=8, every=3,
                      progress=lambda done, total: calls.append((done, total)))
        assert [row['page'] for row in rows_of(made.path)] == ['1', '4', '7'] and made.frames == 3
        assert made.notes == ('3 of 10 results belong to the chosen frames',) and calls == [(0, 3), (3, 3)]
        frames = export(opened, tmp_path / 'some_frames.csv', start=1, stop=8, every=3)
        assert [row['page'] for row in rows_of(frames.path)] == ['1', '4', '7'] and frames.frames == 3


def test_marks_and_losses_have_columns(tmp_path: Path) -> None:
    path = tmp_path / 'marked.tif'
    rec = recorder(path, blocking=False, controls=paced(skip=(3, 4, 9)))
    rec.recordVid()
    rec.mark('stim ä')
    wait_until(lambda: rec.status().written > 12)
    rec.stopVid()
    rec.wait()
    with open_recording(path) as opened:
        rows = rows_of(export(opened, tmp_path / 'f.csv').path)
        marks = [(row['index'], json.loads(row['marks'])) for row in rows if row['marks']]
        (mark,) = opened.marks
        assert marks == [(str(mark['index']), [{'label': 'stim ä', 'time_ns': mark['time_ns']}])]
        assert [int(row['lost_before']) for row in rows if row['lost_before'] != '0'] == [2, 1]
        assert [row['index'] for row in rows if row['lost_before'] != '0'] == ['5', '10']


def test_a_tiff_of_another_program_has_places_only(tmp_path: Path) -> None:
    tifffile = pytest.importorskip('tifffile')
    tifffile.imwrite(tmp_path / 'other.tif', np.zeros((3, 8, 9), np.uint8), photometric='minisblack')
    made = export(tmp_path / 'other.tif', tmp_path / 'other.csv')
    assert rows_of(made.path) == [{'page': '0'}, {'page': '1'}, {'page': '2'}]
    assert made.notes == ('other.tif was not made by ProcessedPiRecorder: nothing is known of its frames but their '
                          'place',)


def test_results_that_are_missing_are_told_from_none(tmp_path: Path) -> None:
    path = tmp_path / 'trial.tif'
    recorder(path).recordVid()
    made = export(path, tmp_path / 'none.csv', what='results')
    assert rows_of(made.path) == [] and made.notes == ('trial.tif has no results: the table has no rows',)
    assert made.path.read_text().startswith('page,index,') and made.frames == 0
    pytest.importorskip('pyarrow')
    assert export(path, tmp_path / 'none.parquet', what='results').frames == 0
    recorder(path, callback=put_much, overwrite=True).recordVid()
    path.with_suffix('.results.jsonl').rename(tmp_path / 'elsewhere')
    with pytest.raises(ExportError, match='its callback put 30, which were stored in trial.results.jsonl; bring that'):
        export(path, tmp_path / 'lost.csv', what='results')
    with pytest.raises(ExportError, match="what='boxes' is not known; pass what='frames'"):
        export(path, tmp_path / 'lost.csv', what='boxes')
    assert not (tmp_path / 'lost.csv').exists()


def test_results_that_are_missing_have_the_name_that_they_had_where_the_first_file_is_missing_too(tmp_path: Path
                                                                                                  ) -> None:
    tiny = make_tiny(tmp_path / 'trial.tif', pages=6, split=2, results=3)
    tiny.path.unlink()
    tiny.results.unlink()
    with pytest.raises(ExportError, match=r'put 3, which were stored in trial\.results\.jsonl; bring'):
        export(tiny.files[1], tmp_path / 'lost.csv', what='results')


def test_a_line_feed_of_any_kind_stays_in_its_cell(tmp_path: Path) -> None:
    texts = ['LICK 0\r', '\r', 'a\rb,"c"', 'a\r\nb', 'a\nb', 'plain', '']
    tiny = make_tiny(tmp_path / 'trial.tif', pages=len(texts))
    with ResultsFile(tiny.results) as file, open_recording(tiny.path) as opened:
        assert opened.indices is not None and opened.times_ns is not None
        for page, text in enumerate(texts):
            file.add(int(opened.indices[page]), int(opened.times_ns[page]), {'ser\rial': text, 'n': page})
    export(tiny.path, tmp_path / 'a.csv', what='results')
    assert [(row['ser\rial'], row['n']) for row in rows_of(tmp_path / 'a.csv')] == [
        (text, str(page)) for page, text in enumerate(texts)]
    pandas = pytest.importorskip('pandas')
    table = pandas.read_csv(tmp_path / 'a.csv', keep_default_na=False)
    assert table['ser\rial'].tolist() == texts and table['n'].tolist() == list(range(len(texts)))


def test_results_of_no_frame_are_in_the_whole_table(recording: Path, tmp_path: Path) -> None:
    with ResultsFile(tmp_path / 'own.results.jsonl') as file, open_recording(recording) as opened:
        times = opened.times_ns
        assert times is not None
        file.add(None, None, 'ready')
        file.add(3, int(times[3]), 'known')
        file.add(3, int(times[3]) + 1, {'other': 'recording'})
    with open_recording(recording, results=tmp_path / 'own.results.jsonl') as opened:
        made = export(opened, tmp_path / 'own.csv', what='results')
    rows = rows_of(made.path)
    assert [(row['page'], row['index'], row['result'], row['other']) for row in rows] == [
        ('', '', 'ready', ''), ('3', '3', 'known', ''), ('', '3', '', 'recording')]
    assert made.frames == 1 and '2 of 3 results have no page' in made.notes[0]


@pytest.mark.parametrize('exporter', [export_csv, export_parquet])
def test_a_cancelled_table_leaves_nothing(recording: Path, tmp_path: Path, exporter: Any) -> None:
    if exporter is export_parquet:
        pytest.importorskip('pyarrow')

    def cancel(done: int, total: int) -> None:
        if done:
            raise ExportCancelled('enough')
    for what in ('frames', 'results'):
        with open_recording(recording) as opened, pytest.raises(ExportCancelled):
            exporter(opened, tmp_path / 'table', what=what, progress=cancel)
        assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------------- results of every kind

def flat(results: List[Any], reserved: List[str]) -> Any:
    flattening = survey(results, reserved)
    return [column.name for column in flattening.columns], [list(flattening.rows(result)) for result in results]


def test_what_a_cell_holds() -> None:
    box = {'x': 1, 'y': 2, 'w': 3, 'h': 4}
    assert flat([box, [box, box]], []) == (['x', 'y', 'w', 'h'], [
        [[None, 1, 2, 3, 4]], [[0, 1, 2, 3, 4], [1, 1, 2, 3, 4]]])
    assert flat([{'a': [box]}, {'a': []}, {'a': None}], [])[1] == [[[0, 1, 2, 3, 4]], [[None] * 5], [[None] * 5]]
    assert flat([{'a': []}, {'a': {}}], []) == (['a'], [[[None, '[]']], [[None, '{}']]])
    assert flat([1, 'x', None, [1]], []) == (['result'], [
        [[None, '1']], [[None, '"x"']], [[None, None]], [[None, '[1]']]])
    assert flat([1, 2.5], []) == (['result'], [[[None, 1.0]], [[None, 2.5]]])
    assert flat([2**53 + 1, 2.5], [])[1] == [[[None, '9007199254740993']], [[None, '2.5']]]
    assert flat([2**63, -2**63], [])[1][0] == [[None, '9223372036854775808']]
    assert flat([-2**63], [])[1] == [[[None, -2**63]]] and flat([True, 1], [])[1] == [[[None, 'true']], [[None, '1']]]
    assert flat([{'a.b': 1, 'a': {'b': 2}, 'a\\': {'b': 3}}], [])[0] == ['a\\.b', 'a.b', 'a\\\\.b']
    assert flat([{'page': 1, 'result': {'page': 2}, '': 3}], ['page'])[0] == ['result.page', 'result.result.page',
                                                                              'result.']
    two = {'a': [box], 'b': [box, box], 'n': 7}
    assert [row[:2] for row in flat([two], [])[1][0]] == [[0, 7], [0, 7], [1, 7]]


def test_too_many_keys_are_one_cell() -> None:
    results = [{str(n): n} for n in range(1500)]
    names, rows = flat(results, [])
    assert names == ['result'] and json.loads(rows[7][0][1]) == {'7': 7}


plain = st.one_of(st.none(), st.booleans(), st.integers(-2**70, 2**70), st.floats(), st.text(max_size=3))
boxes = st.lists(st.fixed_dictionaries({key: st.integers(0, 9) for key in 'xywh'}, optional={'p': plain}), max_size=3)
anything = st.recursive(plain | boxes, lambda inside: st.lists(inside, max_size=3) | st.dictionaries(
    st.sampled_from(['a', 'b', 'a.b', 'page', 'result', '']), inside, max_size=3), max_leaves=8)


def unflattened(flattening: Flattening, rows: List[List[Any]]) -> List[Dict[Any, Any]]:
    """What the cells hold, by path, JSON read back; gaps left out."""
    return [{column.path: json.loads(value) if column.kind == 'json' else value
             for column, value in zip(flattening.columns, row[1:]) if value is not None} for row in rows]


def leaves(value: Any, path: Any = ()) -> Dict[Any, Any]:
    """By path, what is in dicts; lists whole."""
    if isinstance(value, dict) and value:
        return {key: leaf for name, item in value.items() for key, leaf in leaves(item, (*path, name)).items()}
    return {path: value}


def equal(one: Any, other: Any) -> bool:
    return one == other or isinstance(one, float) and math.isnan(one) and other != other or repr(one) == repr(other)


@given(st.lists(anything, max_size=5))
def test_nothing_of_a_result_is_lost(results: List[Any]) -> None:
    flattening = survey(results, ['page'])
    names = [column.name for column in flattening.columns]
    assert len(set(names)) == len(names) and 'page' not in names
    for result in results:
        rows = list(flattening.rows(result))
        assert rows and all(len(row) == len(names) + 1 for row in rows)
        cells = unflattened(flattening, rows)
        numbers = [row[0] for row in rows]
        assert numbers == [None] or None not in numbers
        for path, value in leaves(result).items():
            if value is None or value == []:
                continue
            if all(path in row for row in cells):
                assert all(equal(row[path], value) for row in cells)
            else:                                     # a list of boxes: each in a row of its own
                found = [{key[len(path):]: item for key, item in row.items() if key[:len(path)] == path}
                         for row in cells]
                expected = [{key: item for key, item in leaves(box).items() if item is not None and item != []}
                            for box in value]
                assert all(any(len(box) <= len(row) and all(equal(row.get(key), item) for key, item in box.items())
                               for row in found) for box in expected)
