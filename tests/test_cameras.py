"""The registry, and what every camera must do alike."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Callable, Dict, Iterator

import cloudpickle
import numpy as np
import pytest
from camera_kit import BITS, SIZE, ListSink, make_video
from test_cameras_files import make_recording
from test_cameras_live import FileWebcam, MjpegServer

import ProcessedPiRecorder.cameras as cameras
from ProcessedPiRecorder.cameras import (
    Camera,
    CameraRequest,
    OpenCVCamera,
    ReplayCamera,
    StereoPair,
    StreamCamera,
    SyntheticCamera,
    VideoFileCamera,
    registry,
)
from ProcessedPiRecorder.cameras.base import LOSS_DETECTION
from ProcessedPiRecorder.errors import (
    CameraError,
    CameraFormatError,
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
    monkeypatch.setattr(registry.metadata, 'entry_points', lambda **group: found)


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

# ---------------------------------------------------------------- conformance


@pytest.fixture(scope='module')
def sources(video: Path, recording: Path) -> Iterator[Dict[str, Callable[[], Camera]]]:
    with MjpegServer(frames=12) as server:
        small = {'width': SIZE[0], 'height': SIZE[1], 'frames': 12}
        yield {
            'synthetic': lambda: SyntheticCamera(**small),
            'synthetic-fast': lambda: SyntheticCamera(pace=False, **small),
            'file': lambda: VideoFileCamera(video),
            'file-fastest': lambda: VideoFileCamera(video, pace='fastest'),
            'replay': lambda: ReplayCamera(recording),
            'webcam': lambda: FileWebcam(video),
            'stream': lambda: StreamCamera(server.url),
            'pair': lambda: StereoPair(SyntheticCamera(**small), SyntheticCamera(seed=1, **small)),
            'pair-of-files': lambda: StereoPair(VideoFileCamera(video), VideoFileCamera(video)),
        }


EVERY = ['synthetic', 'synthetic-fast', 'file', 'file-fastest', 'replay', 'webcam', 'stream', 'pair', 'pair-of-files']


@pytest.fixture(params=EVERY)
def camera(request: pytest.FixtureRequest, sources: Dict[str, Callable[[], Camera]]) -> Iterator[Camera]:
    made = sources[request.param]()
    yield made
    made.close()
    made.close()       # harmless twice


def ask(camera: Camera, **asked: Any) -> CameraRequest:
    return CameraRequest(stereo=isinstance(camera, StereoPair), **asked)


def test_every_camera_streams_what_it_grants(camera: Camera) -> None:
    camera = cloudpickle.loads(cloudpickle.dumps(camera))      # as it travels to its process
    camera.close()                                             # harmless before open
    granted = camera.open(ask(camera))
    eyes = 2 if isinstance(camera, StereoPair) else 1
    assert (granted.frame_width, granted.frame_height) == (eyes * SIZE[0], SIZE[1])
    assert granted.loss_detection in LOSS_DETECTION and granted.clock and granted.model
    assert granted.clock_base in ('monotonic', 'boottime', 'utc', 'own')
    cloudpickle.loads(cloudpickle.dumps(granted))
    sink = ListSink(granted, limit=10)
    camera.start()
    camera.stream(sink)
    camera.close()
    assert 5 <= len(sink.frames) <= 12
    assert all(image.shape == granted.frame_shape and image.max() > 77 for image in sink.frames)
    times = [stamp.sensor_ns for stamp in sink.stamps]
    assert None not in times or set(times) == {None}
    assert None in times or times == sorted(set(times))        # type: ignore[type-var]
    assert len({image.tobytes() for image in sink.frames}) == len(sink.frames)


def test_every_camera_stops_when_told(camera: Camera) -> None:
    sink = ListSink(camera.open(ask(camera)), limit=3)
    camera.start()
    camera.stream(sink)
    assert len(sink.frames) == 3
    assert [loss for loss in sink.losses if loss[1] != 'unpaired'] == []


def test_every_camera_refuses_controls_that_it_does_not_have(camera: Camera) -> None:
    with pytest.raises(CameraFormatError, match='warp_drive'):
        camera.open(ask(camera, controls={'warp_drive': 9}))


def test_every_camera_can_be_opened_again(camera: Camera) -> None:
    for _ in range(2):
        sink = ListSink(camera.open(ask(camera)), limit=2)
        camera.start()
        camera.stream(sink)
        camera.close()
        assert len(sink.frames) == 2


def test_every_camera_tells_itself_and_its_listing(camera: Camera) -> None:
    assert type(camera).__name__ in repr(camera)
    assert camera.name
    assert all(line.available or line.why_not for line in type(camera).listings())


@pytest.mark.parametrize('name', [name for name in EVERY if name not in ('stream', 'webcam')])
def test_gray_where_it_can_be(name: str, sources: Dict[str, Callable[[], Camera]]) -> None:
    camera = sources[name]()
    if name == 'replay':
        with pytest.raises(CameraFormatError, match="pixel_format='bgr'"):
            camera.open(ask(camera, pixel_format='gray'))
        return
    sink = ListSink(camera.open(ask(camera, pixel_format='gray')), limit=3)
    camera.start()
    camera.stream(sink)
    camera.close()
    assert sink.granted.pixel_format == 'gray'
    assert all(image.ndim == 2 and image.shape[1] % (BITS * 32) == 0 for image in sink.frames)


@pytest.mark.parametrize('name', EVERY)
def test_close_from_another_thread_ends_the_stream(name: str, sources: Dict[str, Callable[[], Camera]]) -> None:
    camera = sources[name]()
    sink = ListSink(camera.open(ask(camera)))
    camera.start()
    thread = threading.Thread(target=camera.stream, args=(sink,))
    thread.start()
    camera.close()
    thread.join(10)
    assert not thread.is_alive()


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
