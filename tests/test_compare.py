"""Two runs compared: every difference is found and told once, and what is the same is never called different."""

from __future__ import annotations

import copy
import json
import math
import random
import sys
import time
from itertools import permutations
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recording_tools import paced, recorder
from typer.testing import CliRunner

from ProcessedPiRecorder import open_recording
from ProcessedPiRecorder.cli.app import app
from ProcessedPiRecorder.errors import CallbackError, ProcessingError, RecordingFileError, SettingsError
from ProcessedPiRecorder.processing import process
from ProcessedPiRecorder.processing.alike import alike, equal_values, overlap
from ProcessedPiRecorder.processing.compare import BoxComparison, Comparison, compare
from ProcessedPiRecorder.reading import results as results_module
from ProcessedPiRecorder.recordings.results import ResultsFile

START_NS = 1_714_564_800_000_000_000
STEP_NS = 10_000_000


def box(x: float, y: float = 0, w: float = 10, h: float = 10, **more: Any) -> Dict[str, Any]:
    return {'x': x, 'y': y, 'w': w, 'h': h, **more}


def results(path: Path, *put: Tuple[Optional[int], Any], shift_ns: int = 0) -> Path:
    """A file of results: (index, result) each; times at 100 Hz."""
    with ResultsFile(path, overwrite=True) as file:
        for index, result in put:
            file.add(index, None if index is None else START_NS + index * STEP_NS + shift_ns, result)
    if not put:
        path.write_bytes(b'')
    return path


# ---------------------------------------------------------------------- one frame

plain = st.one_of(st.none(), st.booleans(), st.integers(-2**70, 2**70), st.floats(), st.text(max_size=3))
numbers = st.one_of(st.integers(-3, 9), st.floats(0, 9))
boxes = st.fixed_dictionaries({'x': numbers, 'y': numbers, 'w': numbers, 'h': numbers}, optional={'p': plain})
anything = st.recursive(plain | boxes, lambda inside: st.lists(inside, max_size=4) | st.dictionaries(
    st.sampled_from(['a', 'b', 'face']), inside, max_size=3), max_leaves=8)
several = st.lists(anything, max_size=4)


@settings(max_examples=60)
@given(several, st.sampled_from([1.0, 0.5]), st.sampled_from([0.0, 0.1]))
def test_whatever_was_put_is_the_same_as_itself(put: List[Any], iou: float, tolerance: float) -> None:
    found = alike(put, copy.deepcopy(put), iou, tolerance)
    assert found.same and not found.texts and set(found.boxes.ious) <= {1.0}
    assert found.boxes.changed == found.boxes.added == found.boxes.gone == 0


@settings(max_examples=60)
@given(several, several, st.sampled_from([1.0, 0.5, 0.1]), st.sampled_from([0.0, 1.0]))
def test_a_and_b_may_be_exchanged(a: List[Any], b: List[Any], iou: float, tolerance: float) -> None:
    there, back = alike(a, b, iou, tolerance), alike(b, a, iou, tolerance)
    assert there.same == back.same and there.boxes.same == back.boxes.same
    assert there.boxes.same + there.boxes.changed + there.boxes.gone == back.boxes.same + back.boxes.changed \
        + back.boxes.added
    assert there.same == (not there.texts)
    if there.same:
        assert there.boxes.changed == there.boxes.added == there.boxes.gone == 0


@settings(max_examples=60)
@given(st.lists(boxes, max_size=5), st.randoms())
def test_boxes_may_come_in_any_order(put: List[Any], rng: random.Random) -> None:
    shuffled = copy.deepcopy(put)
    rng.shuffle(shuffled)
    for wrap in (lambda some: some, lambda some: [some], lambda some: [{'faces': some, 'n': len(some)}]):
        assert alike(wrap(put), wrap(shuffled)).same


@settings(max_examples=60)
@given(st.lists(boxes, max_size=4), st.lists(boxes, max_size=4), st.sampled_from([0.2, 0.5, 0.9]))
def test_as_many_boxes_as_possible_are_paired(a: List[Any], b: List[Any], iou: float) -> None:
    few, many = (a, b) if len(a) <= len(b) else (b, a)
    fits = [[alike([one], [other], iou).same for other in many] for one in few]
    best = max(sum(fits[place][other] for place, other in enumerate(order))
               for order in permutations(range(len(many)), len(few)))
    assert alike(a, b, iou).boxes.same == best


@settings(max_examples=60)
@given(st.lists(boxes, min_size=1, max_size=4), st.lists(boxes, min_size=1, max_size=4))
def test_overlap_is_that_of_counted_cells(a: List[Any], b: List[Any]) -> None:
    whole_a, whole_b = ([{key: int(value) for key, value in one.items() if key != 'p'} for one in some]
                        for some in (a, b))
    shares = overlap(whole_a, whole_b)
    for place, one in enumerate(whole_a):
        for other_place, other in enumerate(whole_b):
            cells, other_cells = ({(x, y) for x in range(some['x'], some['x'] + some['w'])
                                   for y in range(some['y'], some['y'] + some['h'])} for some in (one, other))
            union = len(cells | other_cells)
            if one != other:
                expected = len(cells & other_cells) / union if union else shares[place, other_place]
                assert math.isclose(shares[place, other_place], expected)
            else:
                assert shares[place, other_place] == 1


def test_what_differs_is_told_in_one_line() -> None:
    told = {
        'light: 1 → 2': ([{'light': 1}], [{'light': 2}]),
        '[1].light: 1 → 2': ([0, {'light': 1}], [0, {'light': 2}]),
        'b: "x" → nothing': ([{'a': 1, 'b': 'x'}], [{'a': 1}]),
        'track[2]: nothing → 4': ([{'track': [1, 2]}], [{'track': [1, 2, 4]}]),
        '1 → true': ([1], [True]), '1 → "1"': ([1], ['1']), 'null → 0': ([None], [0]),
        'box (0, 0, 10, 10) → (5, 0, 10, 10), IoU 0.333': ([box(0)], [box(5)]),
        'faces: box (0, 0, 10, 10), p: 0.5 → 0.6': ([{'faces': [box(0, p=0.5)]}], [{'faces': [box(0, p=0.6)]}]),
        'faces: box (0, 0, 10, 10) only in A': ([{'faces': [box(0)]}], [{'faces': []}]),
        'face: box (0, 0, 10, 10) only in B': ([{}], [{'face': box(0)}])}
    for text, (a, b) in told.items():
        assert alike(a, b).texts == (text,)
    assert alike([box(0)], [box(20)]).texts == ('box (0, 0, 10, 10) only in A', 'box (20, 0, 10, 10) only in B')


def test_near_enough_counts_as_the_same_where_that_is_wanted() -> None:
    assert alike([box(0), box(50)], [box(51), box(1)], 0.5).same and not alike([box(0)], [box(1)]).same
    assert not alike([box(0, label='cat')], [box(1, label='dog')], 0.5).same
    assert alike([{'t': 1.0, 'p': [box(0, s=0.5)]}], [{'t': 1.05, 'p': [box(0.1, s=0.55)]}], 1.0, 0.11).same
    assert not alike([1.0], [1.2], 1.0, 0.1).same and not alike([box(0)], [box(0.2)], 1.0, 0.1).same
    assert equal_values(float('nan'), float('nan')) and equal_values(float('inf'), float('inf'), 1.0)
    assert not equal_values(10**400, 1.5, 0.1) and not equal_values(float('nan'), 1.0, 9.0)
    assert equal_values(1, 1.0) and not equal_values([1, 2], [2, 1])
    assert equal_values({'a': 1, 'b': 2}, {'b': 2, 'a': 1})
    # One of them fits two others: neither may go without.
    assert alike([box(0), box(4)], [box(-3), box(1)], 0.5).boxes.same == 2


def test_sets_have_no_order() -> None:
    def stored(*items: Any) -> Any:
        return {'__type__': 'set', 'items': list(items)}
    assert alike([stored(1, 'x', 2)], [stored(2, 1, 'x')]).same and not alike([stored(1)], [stored(2)]).same
    found = alike([{'face': box(0, parts=stored('nose', 'tail'))}, 1], [{'face': box(0, parts=stored('tail', 'nose'))},
                                                                       1.0])
    assert found.same and found.boxes.same == 1
    assert alike([[box(0, of=[stored(stored(1, 2), 'x')])]], [[box(0, of=[stored('x', stored(2, 1))])]]).same
    assert not alike([box(0, parts=stored('nose'))], [box(0, parts=stored('tail'))]).same


def test_numbers_of_sets_are_weighed_in_the_order_of_their_values() -> None:
    """As texts, 10.0001 comes before 50, and 9.9999 behind it."""
    def stored(*items: Any) -> Any:
        return {'__type__': 'set', 'items': list(items)}
    for a, b in ((stored(9.9999, 50), stored(50, 10.0001)), (stored(-1, [9.9999, 1], 'x'), stored('x', [10, 1], -1)),
                 (stored(math.nan, None, 9.9999, 10**400, True), stored(True, 10**400, 10.0001, math.nan, None))):
        for put_a, put_b in (([a], [b]), ([box(0, at=a)], [box(0, at=b)])):
            assert alike(put_a, put_b, 1.0, 0.01).same and not alike(put_a, put_b).same
    assert not alike([stored(9.9, 50)], [stored(50, 10)], 1.0, 0.01).same


def test_many_boxes_are_compared() -> None:
    rng = np.random.default_rng(1)
    for count in (900, 3000):
        many = [box(*values) for values in rng.uniform(0, 1000, (count, 4)).tolist()]
        others = [*many[1:], box(-99, -99, 1, 1)]
        assert alike(many, others, 0.9999).boxes.same == alike(many, others).boxes.same == count - 1


# ---------------------------------------------------------------------- two runs

def test_frames_come_go_and_change(tmp_path: Path) -> None:
    a = results(tmp_path / 'a.results.jsonl', (None, 'hello'), (0, [box(0)]), (1, 'x'), (1, 'y'), (2, 'gone'), (4, 5))
    b = results(tmp_path / 'b.results.jsonl', (0, [box(1)]), (1, 'x'), (1, 'z'), (3, 'new'), (4, 5), (None, 'hello'))
    found = compare(a, b)
    assert (found.frames, found.same, found.changed, found.gone, found.added) == (6, 2, 2, 1, 1) and not found.equal
    assert [(one.kind, one.index, one.page) for one in found.differences] == [
        ('changed', 0, None), ('changed', 1, None), ('gone', 2, None), ('added', 3, None)]
    assert found.differences[1].texts == ('[1]: "y" → "z"',) and found.differences[3].b == ['new']
    assert found.boxes.changed == 1 and found.boxes.min_iou == pytest.approx(9 / 11) and found.results_a == 6
    assert repr(found) == '<Comparison: 6 frames; 2 same, 1 added, 1 gone, 2 changed>'
    near = compare(a, b, iou=0.5)
    assert near.changed == 1 and near.boxes.same == 1 and near.boxes.mean_iou == found.boxes.mean_iou
    assert compare(a, a).equal and compare(a, a).reasons == [] and repr(compare(a, a)) == (
        '<Comparison: 5 frames, the same>')
    json.dumps(found.as_dict())


put = st.lists(st.tuples(st.one_of(st.none(), st.integers(0, 5)), st.one_of(st.integers(0, 2), boxes)), max_size=8)


@settings(max_examples=40)
@given(put, put)
def test_every_frame_is_counted_once(tmp_path_factory: Any, put_a: List[Any], put_b: List[Any]) -> None:
    folder = tmp_path_factory.getbasetemp()
    a, b = results(folder / 'a.results.jsonl', *put_a), results(folder / 'b.results.jsonl', *put_b)
    there, back, itself = compare(a, b), compare(b, a), compare(a, a)
    assert itself.equal and itself.frames == itself.same == len({index for index, _ in put_a})
    frames_a, frames_b = {index for index, _ in put_a}, {index for index, _ in put_b}
    assert (there.added, there.gone) == (back.gone, back.added) == (len(frames_b - frames_a), len(frames_a - frames_b))
    assert there.frames == back.frames == len(frames_a | frames_b)
    assert there.frames == there.same + there.added + there.gone + there.changed
    assert there.same == back.same == sum(
        alike([put for at, put in put_a if at == index], [put for at, put in put_b if at == index]).same
        for index in frames_a & frames_b)
    assert len(there.differences) == there.frames - there.same
    by_time = compare(a, b, by='time')
    assert (by_time.same, by_time.added, by_time.gone) == (there.same, there.added, there.gone)


def test_lines_that_are_the_same_are_neither_read_twice_nor_weighed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                                                   ) -> None:
    put = [(index, [box(index), {'deeper': [box(1), {'x': 1}], 'not this': {'__type__': 'set', 'items': [box(2)]}}])
           for index in range(3000) for _ in range(1 + index % 2)]
    parsed: List[int] = []
    plain = results_module.parse_line

    def counted(line: bytes, path: Any, number: int) -> Any:
        parsed.append(number)
        return plain(line, path, number)

    a, b = results(tmp_path / 'a.results.jsonl', *put), results(tmp_path / 'b.results.jsonl', *put)
    monkeypatch.setattr(results_module, 'parse_line', counted)
    monkeypatch.setattr(sys.modules[compare.__module__], 'alike', None)
    found = compare(a, b)
    assert found.equal and found.frames == 3000 and parsed == list(range(1, 4501))
    assert found.boxes == BoxComparison(same=9000, mean_iou=1.0, min_iou=1.0)


def test_by_time_the_nearest_frames_belong_together(tmp_path: Path) -> None:
    a = results(tmp_path / 'a.results.jsonl', (None, 'x'), *((n, n) for n in range(0, 20)))
    b = results(tmp_path / 'b.results.jsonl', (None, 'x'), *((n, n) for n in range(5, 20)), shift_ns=900)
    assert compare(a, b, by='time').same == 1 and compare(a, b, by='time', time_tolerance='899ns').same == 1
    found = compare(a, b, by='time', time_tolerance='900ns')
    assert (found.same, found.gone, found.added, found.other_times) == (16, 5, 0, 0)
    assert compare(b, a, by='time', time_tolerance=1).same == 16                 # nobody is paired twice
    by_index = compare(a, b)
    assert by_index.other_times == 15 and '15 frames have another time in B than in A' in by_index.reasons[0]


def test_runs_without_results_are_the_same(tmp_path: Path) -> None:
    empty = results(tmp_path / 'a.results.jsonl')
    assert compare(empty, empty).equal and compare(empty, empty).frames == 0


@pytest.mark.parametrize(('options', 'message'), [
    ({'iou': 0}, 'iou=0 cannot be; pass a share of overlap above 0, up to 1'), ({'iou': 1.1}, 'iou=1.1'),
    ({'tolerance': -0.1}, 'tolerance=-0.1 cannot be; pass a number from 0 on'),
    ({'tolerance': float('nan')}, 'tolerance=nan cannot be'),
    ({'by': 'page'}, "by='page' is not known; use 'index' or 'time'"), ({'time_tolerance': 'x'}, 'no span of time')])
def test_arguments_that_cannot_work(tmp_path: Path, options: Any, message: str) -> None:
    empty = results(tmp_path / 'a.results.jsonl')
    with pytest.raises(SettingsError, match=message):
        compare(empty, empty, **options)


# ---------------------------------------------------------------------- recordings, and why they differ

def find(buffer: Any, cb_queue: Any) -> Any:
    frame = buffer[-1]
    cb_queue.put({'n': int(frame.index), 'sum': int(frame.sum()), 'faces': [box(int(frame.index))]})
    return frame


def find_less(buffer: Any, cb_queue: Any) -> None:
    if buffer[-1].index % 3:
        find(buffer, cb_queue)


def fail_on_seven(buffer: Any, cb_queue: Any) -> None:
    if buffer[-1].index == 7:
        raise ValueError('seven')
    find(buffer, cb_queue)


def darken(buffer: Any, cb_queue: Any) -> Any:
    find(buffer, cb_queue)
    return buffer[-1] // 2


def slow(buffer: Any, cb_queue: Any) -> None:
    time.sleep(0.05)
    find(buffer, cb_queue)


def test_a_live_run_and_its_recording_processed_again_agree(tmp_path: Path) -> None:
    recorder(tmp_path / 'live.tif', callback=find, record='raw').recordVid()
    process(tmp_path / 'live.tif', find)
    found = compare(tmp_path / 'live.tif', tmp_path / 'live_processed.results.jsonl')
    assert found.equal and found.frames == 30 and found.boxes.same == 30
    with open_recording(tmp_path / 'live.tif') as live:
        assert compare(live, live.results).equal and len(live[0]) == 64           # it is still open


def why(found: Comparison) -> str:
    return '\n'.join(found.reasons)


def test_reasons_are_what_the_recordings_tell(tmp_path: Path) -> None:
    recorder(tmp_path / 'live.tif', callback=darken).recordVid()
    process(tmp_path / 'live.tif', darken, out=tmp_path / 'again.tif')
    found = compare(tmp_path / 'live.tif', tmp_path / 'again.tif')
    assert found.changed == 30 and found.differences[0].page == 0
    assert 'A (live.tif): of 30 frames it holds what the callback returned' in why(found)
    assert ' is called ' not in why(found)                                        # it was the same one
    process(tmp_path / 'live.tif', find_less, out=tmp_path / 'less.tif', buffer_length=2)
    other = compare(tmp_path / 'again.tif', tmp_path / 'less.tif')
    assert 'the callback is called test_compare.darken in A, test_compare.find_less in B' in other.reasons
    assert 'buffer_length is 1 in A, 2 in B' in other.reasons and other.gone == 10


def test_failed_and_by_passed_frames_are_reasons(tmp_path: Path) -> None:
    with pytest.raises(CallbackError):
        recorder(tmp_path / 'failed.tif', callback=fail_on_seven, record='raw').recordVid()
    process(tmp_path / 'failed.tif', find)
    found = compare(tmp_path / 'failed.tif', tmp_path / 'failed_processed.results.jsonl')
    assert (found.added, found.same) == (1, 29) and found.reasons == ['A (failed.tif): the call failed on 1 frame']
    process(tmp_path / 'failed.tif', fail_on_seven, results=tmp_path / 'b.results.jsonl')
    back = compare(tmp_path / 'failed_processed.results.jsonl', tmp_path / 'b.results.jsonl')
    assert why(back) == ('B (b.results.jsonl): calls failed when it was processed: 1 raised (b.failures.jsonl has the '
                         'errors)')
    recorder(tmp_path / 'latest.tif', callback=slow, record='raw', cb_delivery='latest', rec_length=0.4,
             controls=paced()).recordVid()
    process(tmp_path / 'latest.tif', find)
    latest = compare(tmp_path / 'latest.tif', tmp_path / 'latest_processed.results.jsonl')
    with open_recording(tmp_path / 'latest.tif') as opened:
        passed = int((opened.status == 'by-passed').sum())
    assert latest.added == passed > 0 and not latest.changed
    told = f"{passed} frames of 40 by-passed the callback, which was not called for them (cb_delivery='latest'"
    assert told in why(latest)


def test_missing_results_and_other_recordings_are_reasons(tmp_path: Path) -> None:
    recorder(tmp_path / 'one.tif', callback=find, record='raw', controls={'skip': (3, 4)}).recordVid()
    recorder(tmp_path / 'other.tif', callback=find, record='raw', x_resolution=64, y_resolution=48).recordVid()
    found = compare(tmp_path / 'one.tif', tmp_path / 'other.tif')
    assert 'not the same frames are in both: 0 in A only, 2 in B only' in found.reasons
    assert 'the frames are of another size or format: 96×64 bgr in A, 64×48 bgr in B' in found.reasons
    assert 'these are not two runs over the same frames' in found.reasons[0]
    assert 'A (one.tif): 2 frames are missing (lost)' in found.reasons
    (tmp_path / 'other.results.jsonl').unlink()
    assert 'its callback put 30 results, and the file with them, other.results.jsonl, is not here' in why(
        compare(tmp_path / 'one.tif', tmp_path / 'other.tif'))
    text = (tmp_path / 'one.results.jsonl').read_text().splitlines(keepends=True)
    (tmp_path / 'one.results.jsonl').write_text(''.join(text[:-3]))
    assert 'its callback put 28 results, and 25 of them are stored' in why(compare(tmp_path / 'one.tif',
                                                                                  tmp_path / 'other.tif'))


def test_what_cannot_be_compared_says_so(tmp_path: Path) -> None:
    tifffile = pytest.importorskip('tifffile')
    tifffile.imwrite(tmp_path / 'other.tif', np.zeros((3, 8, 9), np.uint8), photometric='minisblack')
    empty = results(tmp_path / 'a.results.jsonl')
    with pytest.raises(ProcessingError, match='was not made by ProcessedPiRecorder, and has no results to compare'):
        compare(empty, tmp_path / 'other.tif')
    with pytest.raises(RecordingFileError, match='cannot read results from'):
        compare(empty, tmp_path / 'none.results.jsonl')


# ---------------------------------------------------------------------- the command

def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, ['compare', *map(str, arguments)], env={'COLUMNS': '150'})


def test_the_exit_code_says_whether_they_differ(tmp_path: Path) -> None:
    a = results(tmp_path / 'a.results.jsonl', *((n, {'n': n, 'face': box(n)}) for n in range(30)))
    b = results(tmp_path / 'b.results.jsonl', *((n, {'n': n, 'face': box(n + 1)}) for n in range(30)))
    same, differ, near = run(a, a), run(a, b), run(a, b, '--iou', '0.5')
    assert (same.exit_code, differ.exit_code, near.exit_code) == (0, 1, 0)
    assert 'THE SAME  30 frames with results, by index' in same.output and 'may differ' not in same.output
    assert 'DIFFERENT  of 30 frames with results, by index: 0 the same · 30 changed' in differ.output
    assert 'face: box (0, 0, 10, 10) → (1, 0, 10, 10), IoU 0.818' in differ.output
    assert 'Frames that differ; the first 20 of 30' in differ.output and '2024-05-01 12:00:00.190' in differ.output
    assert 'Nothing in the recordings tells why they differ' in differ.output
    later = results(tmp_path / 'c.results.jsonl', *((n, {'n': -n}) for n in range(30)), shift_ns=900)
    assert '--by time' in run(a, later).output
    assert 'Boxes: 30 overlap by 0.5 or more' in near.output and 'IoU of pairs 0.8181 on average' in near.output
    assert run(a, b, '-q').output == ''
    for arguments in (('--iou', '0'), ('--by', 'page'), ('--time-tolerance', '1'), ('--tolerance', '-1'),
                      ('--by', 'time', '--time-tolerance', 'x')):
        assert run(a, b, *arguments).exit_code == 2
    assert run(a, tmp_path / 'none.results.jsonl').exit_code == run(a, tmp_path / 'none.tif').exit_code == 3


def test_json_tells_everything(tmp_path: Path) -> None:
    a = results(tmp_path / 'a.results.jsonl', (1, float('nan')), (2, 1))
    b = results(tmp_path / 'b.results.jsonl', (1, 2.0), (2, 1))
    told = json.loads(run(a, b, '--json').output, parse_constant=pytest.fail)
    assert (told['equal'], told['frames'], told['same'], told['a']) == (False, 2, 1, str(a))
    assert told['differences'][0]['a'] == [{'__type__': 'float', 'text': 'nan'}] and told['reasons'] == []
