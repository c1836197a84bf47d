"""The registry: from what is passed as camera= to a camera; and what a user's own camera must bring."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from camera_kit import ListSink, make_video
from test_cameras_files import make_recording

import ProcessedPiRecorder.cameras as cameras
from ProcessedPiRecorder.cameras import (
    Camera,
    OpenCVCamera,
    ReplayCamera,
    StereoPair,
    StreamCamera,
    SyntheticCamera,
    VideoFileCamera,
    registry,
)
from ProcessedPiRecorder.errors import (
    CameraError,
    CameraNotFoundError,
    MissingExtraError,
    SettingsError,
)

# ---------------------------------------------------------------- names


@pytest.fixture(scope='module')
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp('video') / 'clip.avi', frames=12)


@pytest.fixture(scope='module')
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_recording(tmp_path_factory.mktemp('recording') / 'trial.tif', range(12))


def test_names_find_their_cameras(video: Path, recording: Path) -> None:
    assert isinstance(registry.resolve('synthetic'), SyntheticCamera)
    for name, number in (('opencv', 0), ('opencv:0', 0), ('opencv:12', 12)):
        webcam = registry.resolve(name)
        assert isinstance(webcam, OpenCVCamera) and webcam.number == number
    for url in ('rtsp://10.0.0.5/live', 'http://localhost:1/x', 'udp://@:5000', 'TCP://host:1'):
        for name in (url, 'stream:' + url):
            stream = registry.resolve(name)
            assert isinstance(stream, StreamCamera) and stream.url == url
    for spec in (str(video), video, f'file:{video}', os.path.relpath(video)):
        file = registry.resolve(spec)
        assert isinstance(file, VideoFileCamera) and file.path == str(video)
    for spec in (str(recording), recording, f'replay:{recording}'):
        replay = registry.resolve(spec)
        assert isinstance(replay, ReplayCamera) and replay.path == str(recording)
    own = SyntheticCamera()
    assert registry.resolve(own) is own
    pair = registry.resolve(('synthetic', own))
    assert isinstance(pair, StereoPair) and pair.right is own


def test_files_may_be_called_like_cameras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, video: Path) -> None:
    (tmp_path / 'synthetic').write_bytes(video.read_bytes())
    (tmp_path / 'clip').write_bytes(video.read_bytes())
    monkeypatch.chdir(tmp_path)
    assert isinstance(registry.resolve('synthetic'), SyntheticCamera)
    assert isinstance(registry.resolve('file:synthetic'), VideoFileCamera)
    assert isinstance(registry.resolve('clip'), VideoFileCamera)


@pytest.mark.parametrize(('spec', 'error', 'says'), [
    (('synthetic', 'auto'), SettingsError, "'auto' cannot be one of two"),
    ('auto:1', CameraNotFoundError, 'nothing may follow'),
    ('picamera:left', CameraNotFoundError, 'number of a camera.*picamera:0'),
    ('picamera2:', CameraNotFoundError, 'number of a camera.*picamera2:0'),
    ('sinthetic', CameraNotFoundError, "neither.*'synthetic'.*opencv.*URL"),
    ('', CameraNotFoundError, 'neither'),
    ('opencv:first', CameraNotFoundError, 'number of a camera'),
    ('opencv:', CameraNotFoundError, 'number of a camera'),
    ('synthetic:2', CameraNotFoundError, 'nothing may follow'),
    ('file:', CameraNotFoundError, 'path'),
    ('stream:nowhere', CameraNotFoundError, 'not a URL'),
    ('no/such/clip.mp4', CameraNotFoundError, 'No such file'),
    ('replay:gone.tif', CameraNotFoundError, 'No such file'),
    ('nul\0.mp4', CameraNotFoundError, 'null'),
    ('/', CameraNotFoundError, 'folder'),
    (7, SettingsError, 'int'),
    (None, SettingsError, 'NoneType'),
    (SyntheticCamera, SettingsError, 'class; pass an instance'),
    (('synthetic',), SettingsError, r'\(left, right\)'),
    (('synthetic', 'synthetic', 'synthetic'), SettingsError, 'two cameras'),
    (('synthetic', 'sinthetic'), CameraNotFoundError, 'sinthetic'),
    (('synthetic', ('synthetic', 'synthetic')), SettingsError, 'pair inside a pair'),
    (('opencv', 'opencv:0'), SettingsError, "one camera twice; name two, such as .'opencv:0', 'opencv:1'"),
])
def test_what_cannot_be_a_camera_is_said_at_construction(spec: Any, error: type, says: str) -> None:
    with pytest.raises(error, match=says):
        registry.check(spec, stereo=True)


def test_two_cameras_need_stereo() -> None:
    registry.check(('synthetic', 'opencv:1'), stereo=True)
    with pytest.raises(SettingsError, match='stereo=True'):
        registry.check(('synthetic', 'opencv:1'), stereo=False)


def test_checking_and_importing_need_no_camera_stack(video: Path, recording: Path) -> None:
    script = ('import sys\nimport ProcessedPiRecorder.cameras as cameras\n'
              'from ProcessedPiRecorder.cameras import registry\n'
              f'for spec in ("synthetic", "opencv:0", "rtsp://x/y", {str(video)!r}, {str(recording)!r}):\n'
              '    registry.check(spec); registry.resolve(spec)\n'
              'assert "cv2" not in sys.modules, "cv2 was imported"\n')
    subprocess.run([sys.executable, '-W', 'error', '-c', script], check=True, timeout=50,
                   env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)})


def test_the_package_offers_what_it_lists() -> None:
    for name in cameras.__all__:
        assert getattr(cameras, name).__name__ == name
        assert name in dir(cameras)
    with pytest.raises(AttributeError, match='PiCamera'):
        _ = cameras.PiCamera


class Point:
    """An entry point as importlib.metadata gives it."""

    def __init__(self, name: str, thing: Any) -> None:
        self.name, self.value, self._thing = name, f'other.package:{name}', thing

    def load(self) -> Any:
        if isinstance(self._thing, Exception):
            raise self._thing
        return self._thing


@pytest.fixture
def third_parties(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [Point('laser', lambda seed='0': SyntheticCamera(seed=int(seed))), Point('synthetic', lambda: 1 / 0),
              Point('broken', ImportError('no libfoo')), Point('liar', lambda: 'me'), Point('cls', SyntheticCamera)]
    found: Any = points if sys.version_info >= (3, 10) else {registry.ENTRY_POINT_GROUP: points}
    monkeypatch.setattr(importlib.metadata, 'entry_points', lambda **group: found)


@pytest.mark.usefixtures('third_parties')
def test_third_parties_are_found_by_entry_point(caplog: pytest.LogCaptureFixture) -> None:
    assert registry.resolve('laser').options.seed == 0
    assert registry.resolve('laser:7').options.seed == 7
    registry.check('broken')       # that it cannot be loaded shows when it is
    assert isinstance(registry.resolve('synthetic'), SyntheticCamera)
    assert 'passed over' in caplog.text
    with pytest.raises(CameraError, match='broken.*no libfoo'):
        registry.resolve('broken')
    with pytest.raises(CameraError, match='liar.*str'):
        registry.resolve('liar')
    lines = {line.name: line for line in registry.listings()}
    assert lines['laser'].available and not lines['broken'].available and 'libfoo' in lines['broken'].why_not


def test_a_missing_extra_names_its_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.BUILT_IN, 'opencv',
                        registry.Entry('.no_such_module', 'Nothing', 'webcam', 'a webcam', 'its number'))
    with pytest.raises(MissingExtraError, match=r"pip install 'ProcessedPiRecorder\[webcam\]'"):
        registry.resolve('opencv:0')
    assert not next(line for line in registry.listings() if line.name == 'opencv').available


def test_listings_tell_what_is_here_and_why_the_rest_is_not() -> None:
    lines = registry.listings()
    assert any(line.name == 'synthetic' and line.available for line in lines)
    assert all(line.available or line.why_not for line in lines)
    assert all(line.description for line in lines)

class Untouched(Camera):
    """A subclass as a user writes it, with nothing but read."""

    name = 'untouched'

    def __init__(self) -> None:
        self.left = 3

    def read(self, out: np.ndarray) -> Any:
        self.left -= 1
        out[...] = self.left + 1
        return cameras.Stamp(sensor_ns=-self.left) if self.left >= 0 else None


def test_a_users_own_camera_needs_only_read() -> None:
    camera = registry.resolve(Untouched())
    granted = cameras.Granted(4, 2, 4, 2, None, 'gray', 'none', 'none')
    sink = ListSink(granted)
    camera.start()
    camera.stream(sink)
    camera.close()
    assert [int(image[0, 0]) for image in sink.frames] == [3, 2, 1]
    assert camera.listings() == []
