"""No file in two roles, by whatever name or link; and nothing but ordinary files to write to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Callable

import pytest
from recording_tools import recorder

from ProcessedPiRecorder import ProcessedPiRecorder, errors
from ProcessedPiRecorder.cameras import SyntheticCamera
from ProcessedPiRecorder.cameras.pair import StereoPair
from ProcessedPiRecorder.cameras.replay import ReplayCamera


def do_nothing(buffer: Any, cb_queue: Any) -> None:
    pass


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty, with a second name for it: ``link`` beside it."""
    path = tmp_path / 'folder'
    path.mkdir()
    (tmp_path / 'link').symlink_to(path)
    monkeypatch.chdir(path)
    return path


def refused(message: str, *arguments: Any, **settings: Any) -> None:
    before = {path: path.read_bytes() for path in Path().iterdir() if path.is_file()}
    for overwrite in (True, False):
        with pytest.raises(errors.SettingsError) as caught:
            recorder(*arguments, overwrite=overwrite, **settings)
        assert message in str(caught.value)
    assert {path: path.read_bytes() for path in Path().iterdir() if path.is_file()} == before


# --- two outputs

@pytest.mark.parametrize('log', ['a.results.jsonl', './../folder/a.results.jsonl', '../link/a.results.jsonl'])
def test_a_log_is_not_the_results_file(folder: Path, log: str) -> None:
    refused(str(folder / 'a.results.jsonl'), Path('a.tif'), callback=do_nothing, log_file=log)
    refused('the results file', Path('a.tif'), log_file=log)


def test_a_log_is_not_the_recording(folder: Path) -> None:
    refused('the same file', Path('a.tif'), log_file='a.tif')
    refused('the same file', Path('a.tif'), log_file='../link/a.tif')
    (folder / 'a.tif').write_text('precious')
    os.link('a.tif', 'log.csv')
    refused('log.csv', Path('a.tif'), log_file='log.csv')
    os.unlink('log.csv')
    os.symlink('a.tif', 'log.csv')
    refused(str(folder / 'a.tif'), Path('a.tif'), log_file='log.csv')


@pytest.mark.parametrize('log', ['a_001.tif', '../link/a_002.tif', 'a_12345.tif'])
def test_a_log_has_not_the_name_of_a_part(folder: Path, log: str) -> None:
    refused('split_frames=10', Path('a.tif'), log_file=log, split_frames=10)


def test_a_link_to_a_part_is_no_log_either(folder: Path) -> None:
    os.symlink('a_001.tif', 'log.csv')
    refused('log.csv', Path('a.tif'), log_file='log.csv', split_frames=10)


@pytest.mark.parametrize('log', ['a_01.tif', 'a_000.tif', 'a_0001.tif', 'b_001.tif', 'a_001.csv', '../a_001.tif'])
def test_other_names_are_allowed(folder: Path, log: str) -> None:
    report = recorder(Path('a.tif'), log_file=log, split_frames=20).recordVid()
    assert report is not None and report.complete == 'yes'
    assert len(report.files) == 2 and len(Path(log).read_text().splitlines()) == 31


# --- the camera and an output

SPECS = [str, Path, lambda path: f'replay:{path}', ReplayCamera, lambda path: ReplayCamera(os.fsencode(path)),
         lambda path: f'../link/{path}', lambda path: Path(f'../link/{path}')]


@pytest.mark.parametrize('spec', SPECS)
def test_a_recording_is_not_replayed_onto_itself(folder: Path, spec: Callable[[str], Any]) -> None:
    recorder(Path('a.tif'), controls={'frames': 3}).recordVid()
    settings = {'x_resolution': 0, 'y_resolution': 0, 'framerate': 0, 'controls': {}}
    refused('that very file', Path('a.tif'), camera=spec('a.tif'), **settings)
    refused('another log_file', Path('b.tif'), camera=spec('a.tif'), log_file='a.tif', **settings)


def test_nor_through_links_or_in_a_pair(folder: Path) -> None:
    for name in ('a.tif', 'other.tif'):
        recorder(Path(name), controls={'frames': 3}).recordVid()
    os.symlink('a.tif', 'symbolic.tif')
    os.link('a.tif', 'hard.tif')
    for name in ('symbolic.tif', 'hard.tif'):
        refused(name, Path('a.tif'), camera=name)
        refused(name, Path(name), camera='a.tif')
    refused('that very file', Path('a.tif'), camera=('other.tif', 'a.tif'), stereo=True)
    refused('that very file', Path('a.tif'), camera=StereoPair(ReplayCamera('other.tif'), ReplayCamera('a.tif')),
            stereo=True)


def test_nor_onto_a_part_that_would_be_replaced(folder: Path) -> None:
    recorder(Path('a.tif'), split_frames=20).recordVid()
    with pytest.raises(errors.SettingsError, match='name of a part'):
        recorder(Path('a.tif'), camera='a_001.tif', overwrite=True)
    os.unlink('a.tif')
    refused('name of a part', Path('a.tif'), camera='a_001.tif', split_frames=20)


def test_nor_onto_another_file_of_the_recording_that_is_played(folder: Path) -> None:
    recorder(Path('a.tif'), split_frames=20).recordVid()
    for camera in ('a.tif', ReplayCamera('a.tif')):
        with pytest.raises(errors.SettingsError, match='one of them'):
            recorder(Path('a_001.tif'), camera=camera, overwrite=True)
    recorder(Path('a_003.tif'), camera='a.tif', x_resolution=0, y_resolution=0, framerate=0, controls={})


def test_a_film_is_not_its_own_log(folder: Path) -> None:
    Path('film.mp4').write_text('precious')
    refused('another log_file', Path('a.tif'), camera='file:film.mp4', log_file='film.mp4')


def test_names_of_cameras_are_no_files(folder: Path) -> None:
    for camera in ('synthetic', SyntheticCamera()):
        report = recorder(Path('a.tif'), camera=camera, log_file='synthetic', overwrite=True).recordVid()
        assert report is not None and report.complete == 'yes'


def test_another_recording_is_replayed(folder: Path) -> None:
    recorder(Path('a.tif'), controls={'frames': 3}).recordVid()
    report = ProcessedPiRecorder('b.tif', camera='a.tif', display=False, overwrite=True).recordVid()
    assert report is not None and report.written == 3


# --- what is no ordinary file

@pytest.mark.parametrize('name', ['a.tif', 'a.results.jsonl', 'log.csv'])
@pytest.mark.parametrize('overwrite', [True, False])
def test_pipes_are_refused_and_not_waited_for(folder: Path, name: str, overwrite: bool) -> None:
    os.mkfifo(name)
    with pytest.raises(errors.RecordingFileError, match=f'{name} is a pipe, device or socket'):
        recorder(Path('a.tif'), callback=do_nothing, log_file='log.csv', overwrite=overwrite)


def test_devices_are_refused(folder: Path) -> None:
    with pytest.raises(errors.RecordingFileError, match='/dev/zero is a pipe, device'):
        recorder(Path('a.tif'), log_file='/dev/zero', overwrite=True)


def test_a_name_that_the_disk_cannot_hold_is_refused(folder: Path) -> None:
    with pytest.raises(errors.RecordingFileError, match='too long'):
        recorder(Path('a' * 300 + '.tif'))


@pytest.mark.parametrize('callback', [do_nothing, None])
def test_results_of_an_older_recording_are_not_left_beside_a_new_one(folder: Path, callback: Any) -> None:
    Path('a.results.jsonl').write_text('')
    with pytest.raises(errors.RecordingFileError, match='a.results.jsonl exists already'):
        recorder(Path('a.tif'), callback=callback)
    report = recorder(Path('a.tif'), callback=callback, overwrite=True).recordVid()
    assert report is not None and report.complete == 'yes'
