"""Bad input gets a clear error that says what was got and what to do, and leaves nothing half-made behind."""

from __future__ import annotations

import os
import threading
from fractions import Fraction
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recording_tools import WIDTH, paced, recorder, run_script

from ProcessedPiRecorder import ProcessedPiRecorder, Settings, errors
from ProcessedPiRecorder.cameras.registry import resolve


def do_nothing(buffer: Any, cb_queue: Any) -> None:
    pass


def deep_list() -> Dict[str, Any]:
    inner: List[Any] = []
    for _ in range(100_000):
        inner = [inner]
    return {'x': inner}


WRONG: List[Any] = [
    ({'x_resolution': -16, 'y_resolution': 480}, 'x_resolution=-16'),
    ({'x_resolution': 640}, 'give both'),
    ({'x_resolution': 10**9, 'y_resolution': 480}, '16384'),
    ({'x_resolution': '640', 'y_resolution': 480}, "'640'"),
    ({'x_resolution': 640.5, 'y_resolution': 480}, '640.5'),
    ({'x_resolution': True, 'y_resolution': 480}, 'True'),
    ({'scale_factor': 0}, 'scale_factor=0'),
    ({'scale_factor': 1.01}, '1.01'),
    ({'scale_factor': -0.3}, '-0.3'),
    ({'scale_factor': float('nan')}, 'nan'),
    ({'framerate': -1}, 'framerate=-1'),
    ({'framerate': float('inf')}, 'inf'),
    ({'framerate': 'fast'}, "'fast'"),
    ({'rec_length': -5}, 'rec_length=-5'),
    ({'display': 'yes'}, "'yes'"),
    ({'display_proc': 'reader'}, "'camera_reader' or 'file_writer'"),
    ({'cb_type': '3Proc'}, 'without a callback'),
    ({'callback': do_nothing, 'cb_type': '4Proc'}, "'2Proc' or '3Proc'"),
    ({'callback': 'faces'}, 'callback must be a function'),
    ({'callback': 3}, 'callback must be a function'),
    ({'buffer_length': 0}, 'buffer_length=0'),
    ({'buffer_length': -1}, 'buffer_length=-1'),
    ({'Hz_buffer': 0}, 'Hz_buffer=0'),
    ({'tif_compression': 10}, 'tif_compression=10'),
    ({'tif_compression': -1}, 'from 0 to 9'),
    ({'tif_compression': 'lzw'}, "'lzw'"),
    ({'pixel_format': 'rgb'}, "'bgr' or 'gray'"),
    ({'cb_delivery': 'some'}, "'every' or 'latest'"),
    ({'record': 'both'}, "'returned' or 'raw'"),
    ({'start_method': 'forkserver'}, "'fork' or 'spawn'"),
    ({'ring_frames': 1}, 'ring_frames=1'),
    ({'ring_frames': 8, 'ring_mb': 8}, 'give one of them'),
    ({'ring_mb': 0}, 'ring_mb=0'),
    ({'cb_timeout': 0}, 'cb_timeout=0'),
    ({'split_frames': -1}, 'split_frames=-1'),
    ({'metadata': {'when': object()}}, 'stored as JSON'),
    ({'metadata': {1: 2}}, 'metadata must be a dict'),
    ({'metadata': {'x': float('nan')}}, 'stored as JSON'),
    ({'camera_controls': ['gain']}, 'camera_controls must be a dict'),
    ({'progress': 'bar'}, 'progress must be a function'),
    ({'x_resolution': 10**400, 'y_resolution': 480}, '(401 characters) is out of range'),
    ({'x_resolution': -10**5000, 'y_resolution': 480}, 'x_resolution='),
    ({'framerate': 10**400}, 'framerate=1000'),
    ({'framerate': Fraction(10**400)}, 'framerate=Fraction(1000'),
    ({'callback': do_nothing, 'cb_type': np.array(['2Proc', '3Proc'])}, "array(['2Proc', '3Proc']"),
    ({'callback': do_nothing, 'cb_type': ''}, "cb_type=''"),
    ({'display': np.array([True, False])}, 'display must be True or False'),
    ({'pixel_format': ['bgr']}, "pixel_format=['bgr']"),
    ({'metadata': deep_list()}, 'stored as JSON'),
    ({'rec_length': 0.01, 'framerate': 30}, 'rec_length=0.01 s is no more than half a frame at framerate=30 Hz'),
    ({'rec_length': 0.05, 'framerate': 10}, 'half a frame'),
    ({'rec_length': 1e-10}, 'half a frame of any camera'),
]


@pytest.mark.parametrize('settings, message', WRONG, ids=[item[1][:40] for item in WRONG])
def test_impossible_settings_raise_at_construction(tmp_path: Path, settings: Dict[str, Any], message: str) -> None:
    with pytest.raises(errors.SettingsError) as caught:
        ProcessedPiRecorder(tmp_path / 'a.tif', camera='synthetic', **settings)
    assert message in str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert list(tmp_path.iterdir()) == [] and threading.active_count() == 1


HUGE = st.sampled_from([19, 300, 400, 5000]).flatmap(
    lambda digits: st.sampled_from([1, -1, Fraction(1, 3)]).map(lambda factor: factor * 10**digits))
ARRAYS = st.sampled_from([['2Proc', '3Proc'], ['bgr'], [1, 0], [], [10**30]]).map(np.array)


@given(st.dictionaries(st.sampled_from(sorted(Settings.__dataclass_fields__)),
                       st.one_of(st.none(), st.booleans(), st.integers(), HUGE, st.floats(), ARRAYS,
                                 st.text(max_size=5), st.lists(st.integers(), max_size=2),
                                 st.binary(max_size=3)), max_size=3))
def test_settings_are_valid_or_refused_and_nothing_else(values: Dict[str, Any]) -> None:
    try:
        settings = Settings(**{'tif_path': 'a.tif', **values})
    except errors.SettingsError as error:
        assert len(str(error)) > 10
    else:
        assert settings.buffer_length >= 1 and 0 < settings.scale_factor <= 1 and 0 <= settings.tif_compression <= 9
        if isinstance(settings.camera, np.ndarray):       # what names no camera is refused where cameras are known
            with pytest.raises(errors.SettingsError):
                resolve(settings.camera)
            return
        assert Settings(**{name: getattr(settings, name) for name in settings.__dataclass_fields__}) == settings


def test_unknown_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match='frame_rate'):
        ProcessedPiRecorder('a.tif', frame_rate=3)     # type: ignore[call-arg]


def test_the_order_of_positional_arguments_is_that_of_the_first_readme(tmp_path: Path) -> None:
    rec = ProcessedPiRecorder(str(tmp_path / 'a.tif'), 64, 48, 0.5, 25, 10, False, 'file_writer', True, True, True,
                              True, do_nothing, '2Proc', False, True, 3, 4, 5, str(tmp_path / 'log.csv'),
                              camera='synthetic')
    settings = rec.settings
    assert (settings.x_resolution, settings.y_resolution, settings.scale_factor, settings.framerate,
            settings.rec_length, settings.display, settings.display_proc, settings.stereo, settings.timestamp,
            settings.report_Hz, settings.monitor_qs, settings.callback, settings.cb_type, settings.blocking,
            settings.write_vid, settings.tif_compression, settings.buffer_length, settings.Hz_buffer) == (
        64, 48, 0.5, 25, 10, False, 'file_writer', True, True, True, True, do_nothing, '2Proc', False, True, 3, 4, 5)
    assert settings.log_file == tmp_path / 'log.csv'


def test_a_path_is_needed_unless_nothing_is_written() -> None:
    with pytest.raises(errors.SettingsError, match='tif_path is missing'):
        ProcessedPiRecorder(camera='synthetic')
    with pytest.raises(errors.SettingsError, match='leaves nothing to do'):
        ProcessedPiRecorder(camera='synthetic', write_vid=False, display=False)
    with pytest.raises(errors.SettingsError, match='does not end in .tif'):
        ProcessedPiRecorder('a.mp4', camera='synthetic')


def test_folders_are_checked_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(errors.RecordingFileError, match='does not exist'):
        recorder(tmp_path / 'no' / 'a.tif')
    (tmp_path / 'a.tif').mkdir()
    with pytest.raises(errors.RecordingFileError, match='is a folder'):
        recorder(tmp_path / 'a.tif')
    if os.geteuid() != 0:                              # root may write anywhere
        (tmp_path / 'locked').mkdir(mode=0o500)
        with pytest.raises(errors.RecordingFileError, match='not writable'):
            recorder(tmp_path / 'locked' / 'a.tif')


@pytest.mark.parametrize('name', ['a.tif', 'a.results.jsonl', 'log.csv'])
def test_an_existing_file_is_not_touched(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('precious')
    with pytest.raises(errors.RecordingFileError, match='exists already'):
        recorder(tmp_path / 'a.tif', callback=do_nothing, log_file=tmp_path / 'log.csv')
    assert [item.read_text() for item in tmp_path.iterdir()] == ['precious']


def test_overwrite_replaces_only_once_everything_has_started_well(tmp_path: Path) -> None:
    for name in ('a.tif', 'a.results.jsonl', 'log.csv'):
        (tmp_path / name).write_text('precious')

    class BadModel:
        def __enter__(self) -> None:
            raise RuntimeError('no model')

        def __exit__(self, *error: Any) -> None:
            pass

        def __call__(self, buffer: Any, cb_queue: Any) -> None:
            pass

    for settings in ({'callback': BadModel()}, {'callback': do_nothing, 'controls': {'raise_at': 0}},
                     {'callback': do_nothing, 'ring_frames': 8192, 'x_resolution': 2048, 'y_resolution': 2048}):
        with pytest.raises(errors.RecorderError):
            recorder(tmp_path / 'a.tif', overwrite=True, log_file=tmp_path / 'log.csv', **settings).recordVid()
        assert sorted(item.name for item in tmp_path.iterdir()) == ['a.results.jsonl', 'a.tif', 'log.csv']
        assert {item.read_text() for item in tmp_path.iterdir()} == {'precious'}
    recorder(tmp_path / 'a.tif', overwrite=True, log_file=tmp_path / 'log.csv', callback=do_nothing).recordVid()
    assert sorted(item.name for item in tmp_path.iterdir()) == ['a.tif', 'log.csv']
    assert (tmp_path / 'a.tif').stat().st_size > 10_000


def test_a_ring_larger_than_memory_is_refused_before_anything_is_recorded(tmp_path: Path) -> None:
    rec = recorder(tmp_path / 'a.tif', ring_frames=8192, x_resolution=2048, y_resolution=2048)
    with pytest.raises(errors.RingError, match='smaller ring_frames or ring_mb') as caught:
        rec.recordVid()
    assert isinstance(caught.value, MemoryError) and list(tmp_path.iterdir()) == []


def test_a_ring_that_holds_too_few_frames_is_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.SettingsError, match='ring_mb=0.05 holds 2 frames'):
        recorder(tmp_path / 'a.tif', ring_mb=0.05).recordVid()
    assert list(tmp_path.iterdir()) == []


def test_a_timeout_that_the_ring_cannot_bridge_is_refused(tmp_path: Path) -> None:
    rec = recorder(tmp_path / 'a.tif', callback=do_nothing, cb_timeout=5, ring_frames=16, controls=paced())
    with pytest.raises(errors.SettingsError, match='ring_frames=5') as caught:
        rec.recordVid()
    assert 'cb_timeout=5 s holds 500 frames at 100 Hz' in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('camera, error', [
    ('nikon', errors.CameraNotFoundError), ('opencv:x', errors.CameraNotFoundError),
    ('opencv:77', errors.CameraNotFoundError), ('no-such-clip.mp4', errors.CameraNotFoundError),
    (3, errors.SettingsError), (object(), errors.SettingsError),
    (('synthetic', 'synthetic'), errors.SettingsError), ('auto', errors.CameraNotFoundError)])
def test_cameras_that_are_not_there(tmp_path: Path, camera: Any, error: Any) -> None:
    with pytest.raises((error, errors.SettingsError)) as caught:
        ProcessedPiRecorder(tmp_path / 'a.tif', camera=camera, display=False).recordVid()
    assert len(str(caught.value)) > 20 and list(tmp_path.iterdir()) == []


def test_auto_never_records_a_synthetic_camera_and_says_what_to_pass(tmp_path: Path) -> None:
    with pytest.raises(errors.CameraNotFoundError, match="'opencv:0'"):
        ProcessedPiRecorder(tmp_path / 'a.tif', display=False).recordVid()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_video(tmp_path: Path) -> None:
    (tmp_path / 'clip.mp4').write_text('not a video')
    rec = ProcessedPiRecorder(tmp_path / 'a.tif', camera=str(tmp_path / 'clip.mp4'), display=False)
    with pytest.raises(errors.CameraError, match=r'clip\.mp4'):
        rec.recordVid()
    assert not (tmp_path / 'a.tif').exists()


def test_unknown_camera_controls_are_named(tmp_path: Path) -> None:
    with pytest.raises(errors.CameraError, match='lose_evry'):
        recorder(tmp_path / 'a.tif', controls={'lose_evry': 3}).recordVid()
    assert list(tmp_path.iterdir()) == []


def test_a_callback_that_cannot_be_carried_is_refused_at_construction(tmp_path: Path) -> None:
    lock = threading.Lock()
    with pytest.raises(errors.SettingsError, match='cannot be carried'):
        recorder(tmp_path / 'a.tif', callback=lambda buffer, cb_queue: lock.locked(), start_method='spawn')
    report = recorder(tmp_path / 'a.tif', callback=lambda buffer, cb_queue: None if lock.locked() else None,
                      start_method='fork').recordVid()
    assert report is not None and report.complete == 'yes'


def test_a_disk_that_fills_up_keeps_what_was_written(tmp_path: Path) -> None:
    """RLIMIT_FSIZE stands for a full disk: writing fails with an errno in mid-recording."""
    text = '''
import resource
from ProcessedPiRecorder import ProcessedPiRecorder as ppr, errors
rec = ppr('trial.tif', 320, 240, 1, 100, 0, False, camera='synthetic', tif_compression=0, ring_frames=16,
          callback=lambda buffer, cb_queue: None)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000_000, 50_000_000))
try:
    rec.recordVid()
except errors.RecordingFileError as error:
    print('RecordingFileError', error)
print(rec.report.complete, rec.report.stopped, rec.report.written < rec.report.captured)
'''
    process = run_script(text, tmp_path)
    assert 'RecordingFileError' in process.out and 'no file error True' in process.out, process.err  # type: ignore
    import tifffile
    with tifffile.TiffFile(tmp_path / 'trial.tif') as tif:
        assert len(tif.pages) > 50 and tif.pages[-1].asarray().shape == (240, 320, 3)


def test_the_folder_is_not_changed_by_a_script_that_moves_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rec = recorder(Path('a.tif'), controls={'frames': 3})
    (tmp_path / 'elsewhere').mkdir()
    monkeypatch.chdir(tmp_path / 'elsewhere')
    rec.recordVid()
    assert (tmp_path / 'a.tif').exists() and WIDTH == 96
