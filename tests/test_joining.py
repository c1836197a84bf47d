"""Rows of other tables on frames: every row on its frame or told to have none, whatever wrote the table."""

from __future__ import annotations

import datetime
import sys
import tracemalloc
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, List, Optional

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recording_tools import recorder

from ProcessedPiRecorder import open_recording
from ProcessedPiRecorder.errors import RecordingFileError, SettingsError
from ProcessedPiRecorder.reading.joining import Joined, join, match_times
from ProcessedPiRecorder.reading.timestamps import MISSING, convert, span_ns

START_NS = 1_714_564_800_000_000_000        # 2024-05-01T12:00:00Z
STEP_NS = 10_000_000


def frames(times_ns: Optional[List[int]] = None, indices: Optional[List[int]] = None) -> Any:
    """What join needs of a recording: ten frames at 100 Hz, unless told otherwise."""
    times = [START_NS + STEP_NS * page for page in range(10)] if times_ns is None else times_ns
    return SimpleNamespace(path=Path('trial.tif'), times_ns=np.array(times, np.int64),
                           indices=np.array(range(len(times)) if indices is None else indices, np.int64),
                           __len__=lambda: len(times))


class Frames:
    """A stand-in with a length, which SimpleNamespace cannot have."""

    def __init__(self, **known: Any) -> None:
        vars(self).update(vars(frames(**known)))

    def __len__(self) -> int:
        return len(self.times_ns)               # type: ignore[attr-defined]


def joined(table: Any, tolerance: Any = None, *, times_ns: Optional[List[int]] = None,
           indices: Optional[List[int]] = None, **options: Any) -> Joined:
    return join(Frames(times_ns=times_ns, indices=indices), table, tolerance, **options)    # type: ignore[arg-type]


def csv_file(folder: Path, text: str, encoding: str = 'utf-8') -> Path:
    path = folder / 'ttl.csv'
    path.write_bytes(text.encode(encoding))
    return path


# ---------------------------------------------------------------------- which frame

def brute_force(frames_ns: List[int], time_ns: int, tolerance: int, direction: str) -> int:
    near = [(abs(time_ns - frame), frame, page) for page, frame in enumerate(frames_ns)
            if abs(time_ns - frame) <= tolerance
            and not (direction == 'backward' and frame > time_ns) and not (direction == 'forward' and frame < time_ns)]
    return min(near)[2] if near else -1


@given(frames_ns=st.lists(st.integers(-50, 50), min_size=1, unique=True).map(sorted),
       times_ns=st.lists(st.integers(-60, 60)), tolerance=st.integers(0, 30),
       direction=st.sampled_from(['nearest', 'backward', 'forward']))
def test_each_time_gets_the_frame_that_a_search_of_all_finds(frames_ns: List[int], times_ns: List[int], tolerance: int,
                                                             direction: str) -> None:
    pages = match_times(np.array(frames_ns, np.int64), np.array(times_ns, np.int64), tolerance, direction)
    assert pages.tolist() == [brute_force(frames_ns, time_ns, tolerance, direction) for time_ns in times_ns]


@given(frames_ns=st.lists(st.integers(0, 1000), min_size=1, unique=True).map(sorted),
       times_ns=st.lists(st.one_of(st.none(), st.integers(-100, 1100))), tolerance=st.integers(0, 50))
def test_every_row_is_on_one_frame_or_told_to_be_on_none(frames_ns: List[int], times_ns: List[Optional[int]],
                                                         tolerance: int) -> None:
    rows = [{'time_ns': time_ns, 'row': number} for number, time_ns in enumerate(times_ns)]
    bound = joined(rows, Decimal(tolerance) / 10**9, times_ns=frames_ns, zero='1970')
    told = sorted([entry.row['row'] for entry in bound] + [entry.row['row'] for entry in bound.unmatched])
    assert told == list(range(len(rows))) and sum(bound.unmatched_why.values()) == len(bound.unmatched)
    assert [entry.page for entry in bound] == sorted(entry.page for entry in bound)
    for entry in bound:
        assert entry.difference_ns == entry.row['time_ns'] - frames_ns[entry.page]
        assert entry.page == brute_force(frames_ns, entry.row['time_ns'], tolerance, 'nearest')
    assert set(bound.frames_without.tolist()) == set(range(len(frames_ns))) - {entry.page for entry in bound}
    pages = [entry.page for entry in bound]
    assert all([entry.number for entry in bound.of_page(page)] == [
        entry.number for entry in bound if entry.page == page] for page in set(pages))


@given(frames_ns=st.lists(st.integers(0, 1000), min_size=1, unique=True).map(sorted),
       times_ns=st.lists(st.integers(-100, 1100), min_size=1), tolerance=st.integers(1, 50),
       direction=st.sampled_from(['nearest', 'backward', 'forward']))
def test_pandas_finds_the_same_frames(frames_ns: List[int], times_ns: List[int], tolerance: int, direction: str
                                      ) -> None:
    pandas = pytest.importorskip('pandas')
    left = pandas.DataFrame({'time': sorted(times_ns)})
    right = pandas.DataFrame({'time': frames_ns, 'page': range(len(frames_ns))})
    theirs = pandas.merge_asof(left, right, on='time', direction=direction, tolerance=tolerance)
    ours = match_times(np.array(frames_ns, np.int64), np.array(sorted(times_ns), np.int64), tolerance, direction)
    assert ours.tolist() == theirs['page'].fillna(-1).astype(int).tolist()


def test_of_two_frames_as_near_the_earlier_one_is_taken_and_a_row_at_the_edge_counts() -> None:
    middle = START_NS + STEP_NS // 2
    assert joined([(middle, 'a')], '5ms').page.tolist() == [0]
    assert joined([(middle, 'a')], '4.999999ms').unmatched_why == {'with no frame near enough': 1}
    assert joined([(middle, 'a')], '5ms', direction='forward').page.tolist() == [1]
    assert joined([(middle + 1, 'a')], '5ms').page.tolist() == [1]


def test_several_rows_on_one_frame_keep_the_order_of_the_table() -> None:
    rows = [(START_NS + 3 * STEP_NS, 'late'), (START_NS, 'b'), (START_NS, 'a'), (START_NS, 'b')]
    bound = joined(rows)
    assert [(entry.page, entry.row[1]) for entry in bound] == [(0, 'b'), (0, 'a'), (0, 'b'), (3, 'late')]
    assert bound.rows.tolist() == [1, 2, 3, 0] and bound[-1].number == 0 and bound[1:3] == list(bound)[1:3]


def test_rows_without_a_frame_say_why() -> None:
    rows = [(START_NS - STEP_NS, 'early'), (None, 'no time'), (START_NS + STEP_NS // 2, 'between'),
            (START_NS + 99 * STEP_NS, 'late')]
    bound = joined([(START_NS, 'fits'), *rows], '1ms')
    assert [(entry.number, entry.row[1], entry.why) for entry in bound.unmatched] == [
        (1, 'early', 'before the first frame'), (2, 'no time', 'without a time or number'),
        (3, 'between', 'with no frame near enough'), (4, 'late', 'after the last frame')]
    assert repr(bound) == ('<Joined: 1 row on 1 frame by time, at most 0 ns from it; 9 frames without a row; '
                           '4 unmatched: 1 without a time or number, 1 before the first frame, 1 after the last frame, '
                           '1 with no frame near enough>')


def test_an_empty_table_is_joined_to_nothing(tmp_path: Path) -> None:
    empty = [[], np.array([], np.int64), np.array([]), {'time_ns': []}, csv_file(tmp_path, ''),
             csv_file(tmp_path, 'time_s;value\n')]
    for table in empty:
        bound = joined(table)
        assert len(bound) == 0 and not bound.unmatched and len(bound.frames_without) == 10
        assert bound.worst_difference_ns is None and list(bound) == []
    assert repr(joined([])) == '<Joined: 0 rows on 0 frames by time; 10 frames without a row; 0 unmatched>'


# ---------------------------------------------------------------------- which clock

@pytest.mark.parametrize(('column', 'told'), [
    (['1714564800.010000001', '1714564800.02'], 's since 1970'),
    (['1714564800010.000001', '1714564800020'], 'ms since 1970'),
    (['1714564800010000001', '1714564800020000000'], 'ns since 1970'),
    (['2024-05-01T12:00:00.010000001Z', '20240501T120000.02Z'], 'dates'),
    (['2024-05-01 14:00:00.010000001+02:00', '2024-05-01T10:00:00,02-0200'], 'dates')])
def test_text_keeps_its_last_digit(tmp_path: Path, column: List[str], told: str) -> None:
    bound = joined(csv_file(tmp_path, 'time;level\n' + ''.join(f'{text};1\n' for text in column)), '1us')
    assert bound.page.tolist() == [1, 2] and bound.difference_ns.tolist() == [1, 0]     # type: ignore[union-attr]
    assert told in bound.notes[-1]


@given(st.integers(-2**61, 2**61), st.sampled_from([('ns', 0), ('us', 3), ('ms', 6), ('s', 9)]))
def test_decimal_text_is_exact(time_ns: int, unit: Any) -> None:
    text = str(Decimal(time_ns).scaleb(-unit[1]))
    for given_text, comma in ((text, False), (text.replace('.', ','), True)):
        assert convert([given_text, ''], 10**unit[1], 'it', comma=comma).values.tolist() == [time_ns, MISSING]


@given(st.integers(-2**61, 2**61), st.integers(-14 * 60, 14 * 60))
def test_dates_are_exact(time_ns: int, minutes: int) -> None:
    zone = datetime.timezone(datetime.timedelta(minutes=minutes))
    moment = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc) + datetime.timedelta(
        microseconds=time_ns // 1000)
    text = moment.astimezone(zone).strftime('%Y-%m-%dT%H:%M:%S.%f') + f'{time_ns % 1000:03d}' + moment.astimezone(
        zone).strftime('%z')
    assert convert([text], 1, 'it', dates=True).values.tolist() == [time_ns]
    assert convert([moment.astimezone(zone)], 1, 'it', dates=True).values.tolist() == [time_ns // 1000 * 1000]


@given(st.lists(st.floats(-1e9, 4e9), min_size=1), st.sampled_from([1, 10**3, 10**6, 10**9]))
def test_floats_are_converted_to_the_nearest(values: List[float], scale: int) -> None:
    for converted in (convert(np.array(values), scale, 'it').values, convert([*values, None], scale, 'it').values[:-1]):
        for value, number in zip(values, converted.tolist()):
            assert abs(Decimal(value) * scale - number) <= Decimal('0.500001')


def test_floats_since_1970_need_a_tolerance() -> None:
    rows = [((START_NS + STEP_NS) / 1e9, 'a')]
    with pytest.raises(SettingsError, match=r"floats, which since 1970 hold steps of 238 ns.*tolerance='1us'"):
        joined(rows)
    bound = joined(rows, '1us')
    assert bound.page.tolist() == [1] and abs(bound.worst_difference_ns or 0) <= 238
    assert joined([0.01, 0.05], clock='s', zero='first frame').page.tolist() == [1, 5]    # exact: they are small


def test_times_may_count_from_another_moment() -> None:
    assert joined([('0.01', 1)], clock='s', zero='first frame').page.tolist() == [1]
    assert joined({'time_s': [-0.01, 0.02]}, zero='first frame').unmatched_why == {'before the first frame': 1}
    assert joined({'time_ms': [1010]}, zero='2024-05-01T11:59:59Z').page.tolist() == [1]
    assert joined({'time (us)': [10_000]}, zero=START_NS).page.tolist() == [1]


@pytest.mark.parametrize(('table', 'options', 'message'), [
    ({'time': [0.0, 1.0]}, {}, "neither its name nor its size tells a unit; pass clock='ns'"),
    ({'time_s': [0.5]}, {}, "'time_s' holds 0.5, which as s since 1970 is long before the recording; pass zero='first"),
    ({'when': [START_NS]}, {}, "no column called 'index', 'page', 'time_ns'.*it has the columns 'when'. Pass column="),
    ({'when': [START_NS]}, {'column': 'time'}, "column='time' is none of the columns; it has the columns 'when'"),
    ({'time': ['12:00:03']}, {}, "'time' holds '12:00:03', which is no time"),
    ({'time': ['1,5']}, {}, "decimal=','"),
    ({'time': ['2024-05-01 12:00:00']}, {}, "without a zone, such as '2024-05-01 12:00:00'.*pass zone='UTC'"),
    ({'time': [np.datetime64('2024-05-01T12:00:00')]}, {}, "pass zone='UTC'"),
    ({'time': [datetime.datetime(2024, 5, 1, 12)]}, {}, "without a zone"),
    ({'time': ['2024-05-01T12:00:00Z']}, {'clock': 's'}, 'holds dates.*leave out clock='),
    ({'time': ['2024-05-01T12:00:00Z', '2024-05-41T12:00:00Z']}, {}, 'in row 1, which is no date and time'),
    ({'time_ns': [START_NS, 'x']}, {}, "holds 'x' in row 1, which is no number"),
    ({'time_s': [1e300]}, {}, 'beyond the year 2116'), ({'time_s': [START_NS]}, {}, 'beyond the year 2116'),
    ({'time_s': [10**400]}, {}, 'beyond the year 2116'), ({'time_s': ['1e999999']}, {}, 'beyond the year 2116'),
    ({'time_s': [1.0], 'time': [2]}, {}, "several columns that may be the times: 'time_s', 'time'"),
    ({'index': [1], 'time_ns': [2]}, {}, "has times and 'index'; pass by='index', or by='time'"),
    ({'index': [1.5]}, {}, 'holds 1.5; frames are numbered by whole numbers'),
    ({'index': [1]}, {'tolerance': 1}, "no column called"),
    ({'index': [1]}, {'by': 'index', 'tolerance': 1}, "tolerance goes with times"),
    ({'a': [1], 'b': [1, 2]}, {}, 'the columns have 1, 2 rows'),
    ([1, 'x'], {}, 'list is no table that can be joined; pass the path of a CSV'), (7, {}, 'int is no table'),
    ([[], []], {}, 'list is no table'), (np.zeros((2, 2)), {}, 'ndarray is no table'),
    ([START_NS], {'tolerance': '2 parsecs'}, "tolerance='2 parsecs' is no span of time; pass seconds"),
    ([START_NS], {'tolerance': -1}, 'is no span of time'), ([START_NS], {'tolerance': float('nan')}, 'is no span'),
    ([START_NS], {'direction': 'backward'}, 'without a tolerance'),
    ([START_NS], {'direction': 'up', 'tolerance': 1}, "direction='up' is not known; use 'nearest', 'backward'"),
    ([START_NS], {'by': 'frame'}, "by='frame' is not known"),
    ([START_NS], {'zero': 'noon'}, "zero='noon' is no moment"),
    (['2024-05-01T12:00:00'], {'zone': 'Atlantis'}, "zone='Atlantis' is not known here")])
def test_what_cannot_be_told_is_asked_for(table: Any, options: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        joined(table, **options)


def test_a_zone_may_be_given() -> None:
    for zone in ('+02:00', datetime.timezone(datetime.timedelta(hours=2)), 'Europe/Berlin'):
        if zone == 'Europe/Berlin':
            zoneinfo = pytest.importorskip('zoneinfo')
            if zone not in zoneinfo.available_timezones():
                continue                                     # a machine without a list of zones
            with pytest.raises(SettingsError, match='which the clocks of Europe/Berlin show twice or never'):
                joined(['2024-10-27 02:30:00'], zone=zone)
        assert joined(['2024-05-01 14:00:00.01'], zone=zone).page.tolist() == [1]
        naive = np.array(['2024-05-01T14:00:00.02', 'NaT'], 'datetime64[ms]')
        bound = joined(naive, zone=zone)
        assert bound.page.tolist() == [2] and bound.unmatched_why == {'without a time or number': 1}


def test_tolerances_are_spans() -> None:
    spans = ['2ms', '2000 us', '2000µs', '0.002', 0.002, '2e-3s', datetime.timedelta(milliseconds=2), Decimal('0.002')]
    assert [span_ns(span, 'tolerance') for span in spans] == [2_000_000] * len(spans)
    assert span_ns(float('inf'), 'tolerance') == 2**62 and span_ns('100ns', 'x') == 100 and span_ns(0, 'x') == 0


# ---------------------------------------------------------------------- which numbers

def test_rows_go_by_index_or_by_page() -> None:
    table = {'index': [12, 10, 11, None], 'value': [1, 2, 3, 4]}
    bound = joined(table, indices=[10, 12, 20], times_ns=[1, 2, 3])
    assert [(entry.page, entry.index, entry.row['value']) for entry in bound] == [(0, 10, 2), (1, 12, 1)]
    assert bound.unmatched_why == {'without a time or number': 1, 'of frames that are not in it': 1}
    assert bound.difference_ns is None and bound[0].difference_ns is None
    paged = joined({'Frame': ['2', '0.0'], 'x': [1, 2]}, column='Frame', by='page', indices=[5, 6, 7],
                   times_ns=[1, 2, 3])
    assert [(entry.page, entry.index) for entry in paged] == [(0, 5), (2, 7)] and paged.by == 'page'


def test_a_recording_without_times_is_joined_by_page() -> None:
    foreign = Frames()
    foreign.times_ns = foreign.indices = None                      # type: ignore[attr-defined]
    type(foreign).__len__ = lambda self: 3                         # type: ignore[method-assign]
    try:
        bound = join(foreign, {'page': [2]})                       # type: ignore[arg-type]
        assert [(entry.page, entry.index, entry.time_ns) for entry in bound] == [(2, None, None)]
        with pytest.raises(SettingsError, match="knows no time of its frames; join by .*: by='page'"):
            join(foreign, [START_NS])                              # type: ignore[arg-type]
    finally:
        type(foreign).__len__ = lambda self: len(self.times_ns)    # type: ignore[method-assign, attr-defined]


# ---------------------------------------------------------------------- CSV

@pytest.mark.parametrize(('text', 'encoding'), [
    ('time_s,level\n1714564800.01,0.5\n1714564800.02,1\n', 'utf-8'),
    ('time_s;level\r\n1714564800,01;0,5\r\n1714564800,02;1\r\n', 'utf-8-sig'),
    ('# a logger\n"time_s"\t"level"\n1714564800.01\t0.5\n\n1714564800.02\t1', 'utf-8'),
    ('time_s;level;Temp. °C\n1714564800,01;0,5;21\n1714564800,02;1;\n', 'latin-1'),
    ('time_s|level\n1714564800.01|0.5\n1714564800.02|1\n17145', 'utf-16')])
def test_csv_as_loggers_write_it(tmp_path: Path, text: str, encoding: str) -> None:
    bound = joined(csv_file(tmp_path, text, encoding))
    assert bound.page.tolist() == [1, 2] and [entry.row['level'] for entry in bound] == [0.5, 1]
    assert not bound.unmatched
    notes = '; '.join(bound.notes)
    assert ('decimal commas' in notes) == (';' in text) and ('Latin-1' in notes) == (encoding == 'latin-1')
    assert ('broke off' in notes) == (encoding == 'utf-16')


def test_a_csv_may_be_a_single_column_or_have_no_names(tmp_path: Path) -> None:
    assert joined(csv_file(tmp_path, 'time_s\n0,01\n0,02\n'), zero='first frame').page.tolist() == [1, 2]
    nameless = csv_file(tmp_path, '3;0,01\n4;0,02\n')
    with pytest.raises(SettingsError, match="it has the columns 'column 0', 'column 1'. Pass column="):
        joined(nameless)
    bound = joined(nameless, column=1, clock='s', zero='first frame')
    assert bound.page.tolist() == [1, 2] and bound[0].row == {'column 0': 3, 'column 1': 0.01}


def test_numbers_in_a_csv_become_numbers_and_names_stay_text(tmp_path: Path) -> None:
    row = joined(csv_file(tmp_path, 'index,animal,big,empty,e\n3,007,1714564800010000001,,1e3\n'))[0].row
    assert row == {'index': 3, 'animal': '007', 'big': 1714564800010000001, 'empty': None, 'e': 1000.0}


def test_a_long_csv_takes_little_more_memory_than_its_text(tmp_path: Path) -> None:
    """Cells that are texts of their own take ten times as much."""
    path = csv_file(tmp_path, 'time_ns,level,ö\n' + ''.join(f'{START_NS + row * STEP_NS},{row % 4},é{row}\n'
                                                           for row in range(10_000)))
    times = [START_NS + row * STEP_NS for row in range(10_000)]
    tracemalloc.start()
    try:
        bound = joined(path, times_ns=times)
        held, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(bound) == 10_000 and bound[9999].row == {'time_ns': times[-1], 'level': 3, 'ö': 'é9999'}
    assert most < 6 * path.stat().st_size + (1 << 20) and held < 4 * path.stat().st_size + (1 << 18)


def test_a_csv_that_is_none_says_so(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="has 2 columns, separated by ',', but another number of them in line 3"):
        joined(csv_file(tmp_path, 'index,a\n1,2\n1,2,3\n4,5\n'))
    with pytest.raises(RecordingFileError, match='cannot be read: No such file'):
        joined(tmp_path / 'none.csv')
    with pytest.raises(SettingsError, match='it holds binary data'):
        joined(csv_file(tmp_path, 'ab\0cd\n'))


# ---------------------------------------------------------------------- pandas, and real recordings

def test_pandas_frames_are_tables_and_come_out_again() -> None:
    pandas = pytest.importorskip('pandas')
    moments = np.array([START_NS + STEP_NS, START_NS + 5, MISSING]).view('datetime64[ns]')
    times = pandas.DatetimeIndex(moments).tz_localize('UTC')
    named = pandas.DataFrame({'time': times.tz_convert('Europe/Berlin'), 'page': ['x', 'y', 'z']})
    indexed = pandas.DataFrame({'page': ['x', 'y', 'z']}, index=times)
    whole = pandas.DataFrame({'time_ns': pandas.array([START_NS + STEP_NS, START_NS + 5, None], 'Int64'),
                              'page': ['x', 'y', 'z']})
    for table in (named, indexed, whole):
        bound = joined(table, '5ns', by='time')
        assert bound.page.tolist() == [0, 1] and bound.difference_ns.tolist() == [5, 0]     # type: ignore[union-attr]
        assert [entry.row['page'] for entry in bound] == ['y', 'x'] and len(bound.unmatched) == 1
        out = bound.to_pandas()
        assert out['time_ns'].tolist() == [START_NS, START_NS + STEP_NS] and out['row_page'].tolist() == ['y', 'x']
        assert out['difference_ns'].tolist() == [5, 0] and out['index'].tolist() == [0, 1]


def test_csv_comes_out_as_a_frame_of_numbers(tmp_path: Path) -> None:
    pytest.importorskip('pandas')
    path = csv_file(tmp_path, f'time_ns;level;id;gap\n{START_NS};0,5;a;\n{START_NS + STEP_NS};1;b;7\n')
    out = joined(path).to_pandas()
    assert out['row_time_ns'].tolist() == [START_NS, START_NS + STEP_NS] and out['row_time_ns'].dtype == 'int64'
    assert out['level'].tolist() == [0.5, 1.0] and out['id'].tolist() == ['a', 'b'] and out['gap'][1] == 7


def put_every_third(buffer: Any, cb_queue: Any) -> None:
    if buffer[-1].index % 3 == 0:
        cb_queue.put({'n': int(buffer[-1].index)})


def test_results_go_to_the_frames_that_they_were_put_for(tmp_path: Path) -> None:
    for name in ('one.tif', 'other.tif'):
        recorder(tmp_path / name, callback=put_every_third).recordVid()
    with open_recording(tmp_path / 'one.tif') as one, open_recording(tmp_path / 'other.tif') as other:
        bound = one.join(one.results)
        assert bound.page.tolist() == list(range(0, 30, 3)) and bound.worst_difference_ns == 0
        assert [entry.row.result for entry in bound] == [{'n': page} for page in range(0, 30, 3)]
        assert one.join(tmp_path / 'one.results.jsonl', by='time').page.tolist() == bound.page.tolist()
        assert one.join(tmp_path / 'other.results.jsonl').unmatched_why == {
            "of another time than their frame's: of another recording?": 10}
        by_index = one.join(tmp_path / 'other.results.jsonl', by='index')
        apart = int(other.times_ns[0] - one.times_ns[0])           # type: ignore[index]
        assert len(by_index) == 10 and by_index.difference_ns[0] == apart          # type: ignore[index]
        with pytest.raises(SettingsError, match="results know their frame's index and time"):
            one.join(one.results, by='page')
        if 'pandas' in sys.modules:
            assert bound.to_pandas()['result'].tolist() == [{'n': page} for page in range(0, 30, 3)]


def test_a_million_rows_are_joined_exactly() -> None:
    count = 1_000_000
    times = START_NS + np.arange(count) * 1_000_000
    bound = joined(times[::-1] + 7, '10ns', times_ns=times.tolist())
    assert np.array_equal(bound.page, np.arange(count)) and np.array_equal(bound.rows, np.arange(count)[::-1])
    assert bound.worst_difference_ns == 7 and not len(bound.frames_without)
