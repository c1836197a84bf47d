"""NWB files: what pynwb reads back is what was recorded, and nwbinspector finds nothing critical in it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
import tifffile

from ProcessedPiRecorder.errors import ExportCancelled, ExportError, MissingExtraError
from ProcessedPiRecorder.exports import export
from ProcessedPiRecorder.exports.nwb import export_nwb
from ProcessedPiRecorder.reading import open_recording
from ProcessedPiRecorder.recordings.results import ResultsFile, results_path
from tests.faults.tiny import INTERVAL_NS, Tiny, make_tiny

pynwb = pytest.importorskip('pynwb', reason='no wheels of pynwb for this machine')
av = pytest.importorskip('av', reason='no wheels of PyAV for this machine')
nwbinspector = pytest.importorskip('nwbinspector', reason='no wheels of nwbinspector for this machine')

ANIMAL = {'subject_id': 'M12', 'species': 'Mus musculus', 'age': 'P90D', 'sex': 'F'}
BEGIN = 1_700_000_000_000_000_123            # not a whole number of microseconds


@pytest.fixture
def tiny(tmp_path: Path) -> Tiny:
    tiny = make_tiny(tmp_path / 'a.tif', pages=12, height=20, width=34, lost_before=(0, 3, 9), begin_ns=BEGIN)
    with ResultsFile(tiny.results) as file, open_recording(tiny.path) as recording:
        for page in range(0, 12, 2):
            faces = [{'x': 3 + box, 'y': 5.5, 'w': 7, 'h': 9, 'label': f'fäce {box}'} for box in range(page % 4)]
            file.add(int(recording.indices[page]), int(recording.times_ns[page]),
                     {'faces': faces, 'n': page, 'ok': page > 3, 'name': None if page == 4 else 'a\0b\ud800',
                      'deep': [{'k': 1}]})
        file.add(None, None, 'at the end')
    return tiny


def opened(path: Path) -> Any:
    return pynwb.NWBHDF5IO(str(path), 'r')


def findings(path: Path) -> Dict[str, List[str]]:
    """What nwbinspector finds, by importance, without its suggestions."""
    found: Dict[str, List[str]] = {}
    for message in nwbinspector.inspect_nwbfile(nwbfile_path=str(path), importance_threshold='BEST_PRACTICE_VIOLATION'):
        found.setdefault(message.importance.name, []).append(f'{message.check_function_name}: {message.message}')
    return found


def assert_valid(path: Path) -> None:
    told = pynwb.validate(path=str(path))
    errors = told[0] if isinstance(told, tuple) else told          # pynwb < 3: with a status
    assert not errors


def decoded(path: Path) -> List[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format='bgr24') for frame in container.decode(video=0)]


def test_pynwb_reads_back_what_was_recorded(tmp_path: Path, tiny: Tiny) -> None:
    seen: List[Any] = []
    exported = export_nwb(open_recording(tiny.path), tmp_path / 'x.nwb', progress=lambda *done: seen.append(done),
                          experimenter='Doe, Jane', lab='Fly lab', institution='A university', session_id='s1',
                          identifier='my own', session_description='A fly walks.', **ANIMAL)
    assert exported.path == tmp_path / 'x.nwb' and exported.beside == (tmp_path / 'x.mp4',) and seen[-1] == (12, 12)
    assert exported.frames == 12 and exported.bytes == (tmp_path / 'x.nwb').stat().st_size
    with open_recording(tiny.path) as recording, opened(tmp_path / 'x.nwb') as io:
        file, video = io.read(), None
        video = file.acquisition['video']
        assert list(video.external_file[:]) == ['x.mp4'] and list(video.starting_frame) == [0]
        assert video.format == 'external' and list(video.dimension[:]) == [34, 20] and video.rate is None
        np.testing.assert_array_equal(video.timestamps[:], recording.times_s)
        assert [video.control_description[code].partition(':')[0] for code in video.control[:]] == \
            recording.status.tolist()
        assert video.device.description == 'camera of unknown model'
        start = file.session_start_time
        assert (start.timestamp(), start.microsecond) == (int(recording.times_ns[0] // 1000) / 1e6,
                                                          int(recording.times_ns[0] // 1000 % 10**6))
        assert start.utcoffset() is not None and not start.utcoffset()
        assert (file.identifier, file.session_description, file.session_id) == ('my own', 'A fly walks.', 's1')
        assert (list(file.experimenter), file.lab, file.institution) == (['Doe, Jane'], 'Fly lab', 'A university')
        assert {name: getattr(file.subject, name) for name in ANIMAL} == ANIMAL
        frames = file.acquisition['frames'].to_dataframe()
        assert frames['time_ns'].tolist() == recording.times_ns.tolist()
        assert frames['frame_index'].tolist() == recording.indices.tolist()
        assert frames['status'].tolist() == recording.status.tolist()
        marks = file.acquisition['marks'].to_dataframe()
        assert marks['label'].tolist() == [mark['label'] for mark in recording.marks]
        assert marks['timestamp'].tolist() == [(mark['time_ns'] - int(recording.times_ns[0])) / 1e9
                                               for mark in recording.marks]
        notes = json.loads(file.notes)
        assert notes['report'] == recording.report.as_dict() and notes['metadata'] == {'animal': 'M<1>'}
        assert notes['first_frame_time_ns'] == int(recording.times_ns[0])
        for page, image in enumerate(decoded(tmp_path / 'x.mp4')):
            np.testing.assert_array_equal(image, recording[page])
    assert_valid(tmp_path / 'x.nwb')


def test_lost_frames_are_invalid_times(tmp_path: Path, tiny: Tiny) -> None:
    exported = export(tiny.path, tmp_path / 'x.nwb', **ANIMAL)
    with opened(tmp_path / 'x.nwb') as io:
        lost = io.read().invalid_times.to_dataframe()
    seconds = INTERVAL_NS / 1e9
    assert lost['start_time'].tolist() == pytest.approx([2 * seconds, 10 * seconds])
    assert lost['stop_time'].tolist() == pytest.approx([5 * seconds, 13 * seconds])
    assert lost['frames_lost'].tolist() == [2, 2] and lost['reason'].tolist() == ['ring full', 'ring full']
    assert any('2 frames are missing before the first' in note for note in exported.notes)


def test_frames_in_missing_files_are_invalid_times_too(tmp_path: Path) -> None:
    files = make_tiny(tmp_path / 'a.tif', pages=12, height=20, width=34, lost_before=(5, 9), split=3).files
    files[1].unlink()
    exported = export(files[0], tmp_path / 'x.nwb', video='tif', **ANIMAL)
    seconds = INTERVAL_NS / 1e9
    with opened(tmp_path / 'x.nwb') as io, open_recording(files[0]) as recording:
        file = io.read()
        lost = file.invalid_times.to_dataframe()
        marks = file.acquisition['marks'].to_dataframe()
        assert marks['timestamp'].tolist() == sorted((mark['time_ns'] - int(recording.times_ns[0])) / 1e9
                                                     for mark in recording.marks)
    assert lost['start_time'].tolist() == pytest.approx([2 * seconds, 2 * seconds, 10 * seconds])
    assert lost['stop_time'].tolist() == pytest.approx([8 * seconds, 8 * seconds, 13 * seconds])
    assert lost['frames_lost'].tolist() == [2, 3, 2]
    assert lost['reason'].tolist() == ['ring full', 'in a missing file', 'ring full']
    export(files[0], tmp_path / 'y.nwb', video='mp4', start=3, **ANIMAL)
    with opened(tmp_path / 'y.nwb') as io:
        file = io.read()
        assert file.invalid_times.to_dataframe()['reason'].tolist() == ['ring full']
        assert file.acquisition['marks'].to_dataframe()['timestamp'].min() >= 0
    files[0].unlink()
    exported = export(files[2], tmp_path / 'z.nwb', video='tif', **ANIMAL)
    assert '6 frames are missing before the first one: in a missing file' in exported.notes
    assert '2 frames are missing before the first or' in ' '.join(exported.notes)


def test_frames_that_nobody_tells_of_are_invalid_times_without_a_reason(tmp_path: Path, tiny: Tiny,
                                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    with open_recording(tiny.path) as recording:
        monkeypatch.setattr(type(recording), 'losses', recording.losses[:2])
        export_nwb(recording, tmp_path / 'x.nwb', video='tif')
    with opened(tmp_path / 'x.nwb') as io:
        lost = io.read().invalid_times.to_dataframe()
    assert lost['frames_lost'].tolist() == [2, 2] and lost['reason'].tolist() == ['ring full', 'not told']


def test_a_results_key_never_takes_the_place_of_a_column(tmp_path: Path) -> None:
    tiny = make_tiny(tmp_path / 'a.tif')
    with ResultsFile(tiny.results) as file, open_recording(tiny.path) as recording:
        for page, (index, time_ns) in enumerate(zip(recording.indices.tolist(), recording.times_ns.tolist())):
            file.add(index, time_ns, {'frame/index': -page, 'frame:index': page * 7, 'add/row': page})
    export(tiny.path, tmp_path / 'x.nwb', video='tif')
    with opened(tmp_path / 'x.nwb') as io, open_recording(tiny.path) as recording:
        table = io.read().processing['behavior']['results'].to_dataframe()
        assert table['frame_index'].tolist() == recording.indices.tolist()
    assert table['frame_index_'].tolist() == [0, -1, -2, -3] and table['frame_index__'].tolist() == [0, 7, 14, 21]
    assert table['add_row_'].tolist() == [0, 1, 2, 3]


def test_results_are_a_table_with_a_row_for_each_box(tmp_path: Path, tiny: Tiny) -> None:
    exported = export(tiny.path, tmp_path / 'x.nwb')
    with opened(tmp_path / 'x.nwb') as io, open_recording(tiny.path) as recording:
        table = io.read().processing['behavior']['results'].to_dataframe()
        expected: List[Dict[str, Any]] = []
        for number, result in enumerate(recording.results):
            for box in (result.result['faces'] or [None]) if result.page is not None else []:
                expected.append({'number': number, 'index': result.index, 'box': box, 'n': result.result['n'],
                                 'time': float(recording.times_s[result.page])})
    assert len(table) == len(expected) == 9
    assert table['frame_index'].tolist() == [row['index'] for row in expected]
    assert table['result_number'].tolist() == [row['number'] for row in expected]
    assert table['timestamp'].tolist() == [row['time'] for row in expected]
    assert table['n'].tolist() == [row['n'] for row in expected] and table['n'].dtype == np.int64
    assert table['ok'].tolist() == [row['n'] > 3 for row in expected]
    assert table['box'].tolist() == [-1, 0, 1, -1, 0, 1, -1, 0, 1]
    assert table['faces.label'].tolist() == [row['box']['label'] if row['box'] else '' for row in expected]
    for side in 'xywh':
        np.testing.assert_array_equal(table[f'faces.{side}'], [row['box'][side] if row['box'] else np.nan
                                                               for row in expected])
    assert table['result.name'].tolist()[:3] == ['a\\0b\\ud800'] * 3 and '' in table['result.name'].tolist()
    assert table['deep'].tolist() == ['[{"k": 1}]'] * 9
    assert any('1 results that belong to no frame' in note for note in exported.notes)
    assert_valid(tmp_path / 'x.nwb')


def test_nwbinspector_finds_nothing_critical(tmp_path: Path, tiny: Tiny) -> None:
    export(tiny.path, tmp_path / 'x.nwb', experimenter='Doe, Jane', institution='A university', **ANIMAL)
    found = findings(tmp_path / 'x.nwb')
    assert set(found) == {'BEST_PRACTICE_VIOLATION'}
    assert all("column 'deep'" in text for text in found['BEST_PRACTICE_VIOLATION'])   # deeper than columns can be


def test_no_subject_is_invented(tmp_path: Path, tiny: Tiny) -> None:
    exported = export(tiny.path, tmp_path / 'x.nwb')
    assert any('no subject was told' in note for note in exported.notes)
    with opened(tmp_path / 'x.nwb') as io:
        file = io.read()
        assert file.subject is None and 'no description' in file.session_description and file.experimenter is None
    assert all(text.startswith('check_subject_exists') for text in findings(tmp_path / 'x.nwb').get('CRITICAL', []))
    export(tiny.path, tmp_path / 'y.nwb', subject={'subject_id': 12, 'genotype': 'wt'}, session_id=7)
    with opened(tmp_path / 'y.nwb') as io:
        file = io.read()
        subject = file.subject
        assert (subject.subject_id, subject.genotype, subject.sex, subject.age) == ('12', 'wt', 'U', None)
        assert file.session_id == '7'


@pytest.mark.parametrize('wrong, told', [
    ({'age': 'P90D'}, 'needs a subject_id'), ({'subject_id': 'a/b'}, 'needs a subject_id'),
    ({'subject_id': 'a', 'sex': 'female'}, "sex='female'"), ({'subject_id': 'a', 'age': '90 days'}, 'P90D'),
    ({'subject_id': 'a', 'age': 'P'}, 'P90D'), ({'subject': {'subject_id': 'a', 'tail': 'long'}}, 'no such subject'),
    ({'lab': 2.5}, 'lab=2.5 is no text'), ({'experimenter': 3}, "experimenter=3 is no name"), ({'video': 3}, 'video=3'),
    ({'session_description': ''}, 'is no text'), ({'every': 0}, 'every=0'),
    ({'start': 40}, 'start=40 leave'), ({'video': 'gone.mp4'}, "'gone.mp4' is neither"),
    ({'video': 'tif', 'every': 2}, "video='tif' leads to all 12 frames")])
def test_what_cannot_be_is_refused_and_leaves_nothing(tmp_path: Path, tiny: Tiny, wrong: Dict[str, Any], told: str
                                                      ) -> None:
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(ExportError) as caught:
        export(tiny.path, tmp_path / 'x.nwb', **wrong)
    assert told in str(caught.value) and sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize('split', [0, 5])
def test_it_can_lead_to_the_recording_itself(tmp_path: Path, split: int) -> None:
    (tmp_path / 'raw').mkdir()
    (tmp_path / 'nwb').mkdir()
    path = make_tiny(tmp_path / 'raw/a.tif', pages=12, split=split).path
    exported = export(path, tmp_path / 'nwb/x.nwb', video='tif', **ANIMAL)
    assert exported.beside == () and os.listdir(tmp_path / 'nwb') == ['x.nwb']
    with opened(tmp_path / 'nwb/x.nwb') as io:
        video = io.read().acquisition['video']
        names = ['a.tif', 'a_001.tif', 'a_002.tif'] if split else ['a.tif']
        assert list(video.external_file[:]) == [f'../raw/{name}' for name in names]
        assert list(video.starting_frame) == ([0, 5, 10] if split else [0])
    if split:
        assert not findings(tmp_path / 'nwb/x.nwb')


def test_a_status_that_a_newer_version_knows_is_told_as_unknown(tmp_path: Path, tiny: Tiny,
                                                               monkeypatch: pytest.MonkeyPatch) -> None:
    with open_recording(tiny.path) as recording:
        told = np.array([*recording.status[:3], 'unknown', *recording.status[4:]])
        monkeypatch.setattr(type(recording), 'status', told)
        export_nwb(recording, tmp_path / 'a.nwb', video='tif')
    with opened(tmp_path / 'a.nwb') as file:
        made = file.read()
        video = made.acquisition['video']
        assert video.control[3] == 4 and video.control_description[4].startswith('unknown: ')
        assert list(made.acquisition['frames']['status'][:]) == told.tolist()


def test_it_can_lead_to_an_avi_or_a_video_that_is_there(tmp_path: Path, tiny: Tiny) -> None:
    exported = export(tiny.path, tmp_path / 'x.nwb', video='avi', start=2, stop=10, every=3)
    assert exported.beside == (tmp_path / 'x.avi', tmp_path / 'x.times.csv')
    with opened(tmp_path / 'x.nwb') as io, open_recording(tiny.path) as recording:
        file = io.read()
        np.testing.assert_array_equal(file.acquisition['video'].timestamps[:],
                                      (recording.times_ns[2:10:3] - recording.times_ns[2]) / 1e9)
        assert [file.acquisition['frames']['frame_index'][row] for row in range(3)] == \
            recording.indices[2:10:3].tolist()
        for image, page in zip(decoded(tmp_path / 'x.avi'), (2, 5, 8)):
            np.testing.assert_array_equal(image, recording[page])
    export(tiny.path, tmp_path / 'y.nwb', video=tmp_path / 'x.avi', start=2, stop=10, every=3)
    with opened(tmp_path / 'y.nwb') as io:
        assert list(io.read().acquisition['video'].external_file[:]) == ['x.avi']
    for video, told in ((tmp_path / 'x.avi', 'has 3 frames, and 12 are asked for'), (tiny.results, 'is not a video')):
        with pytest.raises(ExportError, match=told):
            export(tiny.path, tmp_path / 'z.nwb', video=video)


def test_an_unfinished_recording_without_results_or_marks(tmp_path: Path) -> None:
    path = make_tiny(tmp_path / 'a.tif', pages=2, lost_before=(), pixel_format='gray', finish=False,
                     annotations={}).path
    exported = export(path, tmp_path / 'x.nwb', stop=1)
    assert any('unfinished' in note for note in exported.notes)
    with opened(tmp_path / 'x.nwb') as io:
        file = io.read()
        assert json.loads(file.notes)['report'] is None and file.invalid_times is None and not file.processing
        assert set(file.acquisition) == {'video', 'frames'}
    assert_valid(tmp_path / 'x.nwb')


def test_another_programs_tiff_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / 'x.tif', np.zeros((3, 8, 8), np.uint8), photometric='minisblack')
    with pytest.raises(ExportError, match='tells no times'):
        export(tmp_path / 'x.tif', tmp_path / 'x.nwb')


def test_both_files_or_none(tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sorted(os.listdir(tmp_path))

    def cancel(done: int, total: int) -> None:
        if done == 5:
            raise ExportCancelled('enough')

    def broken(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, 'No space left on device')

    with pytest.raises(ExportCancelled):
        export(tiny.path, tmp_path / 'x.nwb', progress=cancel)
    assert sorted(os.listdir(tmp_path)) == before
    with monkeypatch.context() as patch:
        patch.setattr(pynwb.NWBHDF5IO, 'write', broken)
        with pytest.raises(ExportError, match='ran full'):
            export(tiny.path, tmp_path / 'x.nwb')
    assert sorted(os.listdir(tmp_path)) == before
    (tmp_path / 'x.mp4').write_text('mine')
    with pytest.raises(ExportError, match=r"x.mp4 exists already, .* beside it\. If .*, pass video='.*x.mp4' to"):
        export(tiny.path, tmp_path / 'x.nwb')
    assert not (tmp_path / 'x.nwb').exists() and (tmp_path / 'x.mp4').read_text() == 'mine'
    export(tiny.path, tmp_path / 'x.nwb', overwrite=True)
    assert len(decoded(tmp_path / 'x.mp4')) == 12


def test_without_pynwb_the_install_is_named(tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    monkeypatch.setitem(sys.modules, 'pynwb', None)
    with pytest.raises(MissingExtraError, match=r'ProcessedPiRecorder\[nwb\]'):
        export(tiny.path, tmp_path / 'x.nwb')


def test_results_keyed_by_names_that_hdf5_or_the_table_cannot_have(tmp_path: Path) -> None:
    path = make_tiny(tmp_path / 'a.tif', pages=3, lost_before=()).path
    with ResultsFile(results_path(path)) as file, open_recording(path) as recording:
        for page in range(3):
            file.add(page, int(recording.times_ns[page]), {'id': page, 'a/b': page, 'a:b': 2**70, 'columns': 'x',
                                                           'description': None, 'big': 2**60 if page else None})
    export(path, tmp_path / 'x.nwb')
    with opened(tmp_path / 'x.nwb') as io:
        table = io.read().processing['behavior']['results'].to_dataframe()
    assert table['result.id'].tolist() == [0, 1, 2] and table['result.columns'].tolist() == ['x'] * 3
    assert table['a_b'].tolist() == [0, 1, 2] and table['a_b_'].tolist() == [str(2**70)] * 3
    assert table['big'].tolist() == ['', str(2**60), str(2**60)]
