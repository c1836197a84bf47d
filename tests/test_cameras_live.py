"""Webcams (over video files in their place), streams (over loopback HTTP) and pairs of cameras."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Dict, Optional

import numpy as np
import pytest
from camera_kit import ListSink, make_video, number_of, picture, run

from ProcessedPiRecorder.cameras import (
    CameraRequest,
    OpenCVCamera,
    StereoPair,
    StreamCamera,
    SyntheticCamera,
    VideoFileCamera,
    opencv,
)
from ProcessedPiRecorder.errors import CameraError, CameraFormatError, CameraNotFoundError, CameraStalledError
from ProcessedPiRecorder.pipeline.losses import LossDetector

# ---------------------------------------------------------------- webcams


class Device:
    """A video file behind the face of a V4L2 capture: it takes settings, and may have a driver's clock."""

    def __init__(self, cv2: Any, path: Path, clock: str, refuses: Dict[str, float]) -> None:
        self._file = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
        self._clock, self._position = clock, cv2.CAP_PROP_POS_MSEC
        self._set: Dict[int, float] = {getattr(cv2, f'CAP_PROP_{name}'): value for name, value in refuses.items()}
        self._fixed = set(self._set)
        self.grabbed = 0

    def isOpened(self) -> bool:
        return bool(self._file.isOpened())

    def read(self, out: np.ndarray) -> Any:
        time.sleep(0.005)      # a fresh frame takes its time
        return self._file.read(out)

    def grab(self) -> bool:
        self.grabbed += 1
        return True

    def get(self, prop: int) -> float:
        if prop == self._position and self._clock != 'file':
            return 0.0 if self._clock == 'zero' else time.monotonic() * 1e3
        return self._set.get(prop, self._file.get(prop))

    def set(self, prop: int, value: float) -> bool:
        if prop in self._fixed:
            return False
        self._set[prop] = value
        return True

    def release(self) -> None:
        self._file.release()


class FileWebcam(OpenCVCamera):
    """The webcam class itself, its device taken by a file."""

    def __init__(self, path: Path, clock: str = 'zero', refuses: Optional[Dict[str, float]] = None) -> None:
        super().__init__(0)
        self.path, self.clock, self.refuses = path, clock, refuses or {}

    def _device(self, cv2: Any) -> Any:
        self.device = Device(cv2, self.path, self.clock, self.refuses)
        return self.device

    def __getstate__(self) -> Dict[str, Any]:
        return {'number': 0, 'path': self.path, 'clock': self.clock, 'refuses': self.refuses, '_capture': None,
                '_stamped': False}


@pytest.fixture(scope='module')
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp('video') / 'clip.avi', frames=20)


def test_a_missing_webcam_says_so_and_nothing_else(capfd: pytest.CaptureFixture) -> None:
    for number in (9, 9999):
        with pytest.raises(CameraNotFoundError, match=f'/dev/video{number}'):
            OpenCVCamera(number).open(CameraRequest())
    assert capfd.readouterr().err == ''


def test_a_node_that_is_no_camera(monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                                  capfd: pytest.CaptureFixture) -> None:
    (tmp_path / 'video9').write_bytes(b'')
    monkeypatch.setattr(opencv, 'DEV', tmp_path)
    with pytest.raises(CameraNotFoundError, match='cannot be opened as a camera'):
        OpenCVCamera(9).open(CameraRequest())
    assert capfd.readouterr().err == ''


def test_a_webcam_without_a_clock(video: Path) -> None:
    camera = FileWebcam(video)
    granted = camera.open(CameraRequest(320, 96, framerate=25))
    assert (granted.framerate, granted.clock_base, granted.loss_detection) == (25, 'own', 'none')
    assert granted.details['fourcc'] == 'MJPG'
    sink = ListSink(granted)
    with pytest.raises(CameraError, match='failed|gone'):      # a webcam does not end, it breaks
        camera.start()
        camera.stream(sink)
    assert [number_of(image) for image in sink.frames] == list(range(2, 20))      # two went into the probe
    assert {stamp.sensor_ns for stamp in sink.stamps} == {None}
    camera.close()
    out = np.empty(granted.frame_shape, np.uint8)
    assert camera.read(out) is None


def test_a_drivers_clock_is_taken_where_it_is_plausible(video: Path) -> None:
    camera = FileWebcam(video, clock='driver')
    granted = camera.open(CameraRequest())
    assert granted.clock_base == 'monotonic'
    stamp = camera.read(np.empty(granted.frame_shape, np.uint8))
    assert stamp is not None and stamp.sensor_ns is not None
    assert abs(stamp.sensor_ns - time.monotonic_ns()) < 10**9
    camera.close()
    old = FileWebcam(video, clock='file')      # times that count from elsewhere
    assert old.open(CameraRequest()).clock_base == 'own'
    old.close()


def test_frames_from_before_the_recording_are_dropped(video: Path) -> None:
    camera = FileWebcam(video)
    camera.open(CameraRequest())
    camera.start()
    camera.close()
    assert camera.device.grabbed == opencv.STALE_FRAMES      # this device never makes one wait


@pytest.mark.parametrize(('refuses', 'asked', 'says'), [
    ({'FRAME_WIDTH': 320}, {'width': 640, 'height': 96}, '320x96.*640x96'),
    ({'FPS': 30}, {'framerate': 60}, '30 Hz.*60 Hz'),
    ({'FPS': 0}, {'framerate': 60}, 'does not tell'),
    ({'EXPOSURE': 1}, {'controls': {'exposure': 5}}, 'refuses exposure'),
    ({}, {'controls': {'exposure': 'long'}}, 'must be a number'),
    ({}, {'controls': {'EXPOSURE': 5}}, 'no camera control'),
    ({}, {'controls': {'fourcc': 'MJPEG'}}, 'four letters'),
    ({'FOURCC': 0x47504A4D}, {'controls': {'fourcc': 'YUYV'}}, "'MJPG', not 'YUYV'"),
])
def test_a_webcam_grants_exactly_or_raises(video: Path, refuses: Dict[str, float], asked: Any, says: str) -> None:
    camera = FileWebcam(video, refuses=refuses)
    with pytest.raises(CameraFormatError, match=says):
        camera.open(CameraRequest(**asked))
    camera.close()


def test_controls_reach_the_webcam(video: Path) -> None:
    import cv2
    camera = FileWebcam(video)
    camera.open(CameraRequest(controls={'exposure': 5, 'fourcc': 'MJPG'}))
    assert camera.device.get(cv2.CAP_PROP_EXPOSURE) == 5
    camera.close()


def test_a_source_that_changes_its_size_breaks_off(video: Path) -> None:
    camera = FileWebcam(video)
    camera.open(CameraRequest())
    with pytest.raises(CameraError, match='changed'):
        camera.read(np.empty((48, 160, 3), np.uint8))
    camera.close()


def test_listing_of_nodes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / 'video0').write_bytes(b'')
    (tmp_path / 'video10').symlink_to('/dev/null')
    (tmp_path / 'videography').write_bytes(b'')
    (tmp_path / 'sys' / 'video10').mkdir(parents=True)
    (tmp_path / 'sys' / 'video10' / 'name').write_text('Fine Camera: 2\n')
    monkeypatch.setattr(opencv, 'DEV', tmp_path)
    monkeypatch.setattr(opencv, 'SYS', tmp_path / 'sys')
    lines = OpenCVCamera.listings()
    assert [(line.name, line.available) for line in lines] == [('opencv:0', False), ('opencv:10', False)]
    assert lines[1].description == 'Fine Camera: 2' and 'no V4L2 device' in lines[1].why_not


def test_capabilities_as_the_kernel_lays_them_out() -> None:
    def answer(capabilities: int, device_caps: int) -> bytes:
        return opencv.CAPABILITY.pack(b'uvcvideo', b'Camera', b'usb-1', 0x60100, capabilities, device_caps, 0, 0, 0)
    assert len(answer(0, 0)) == 104
    assert opencv._can_capture(answer(0x84A00001, 0x04200001))
    assert not opencv._can_capture(answer(0x84A00001, 0x04A00000))     # a webcam's metadata node
    assert opencv._can_capture(answer(0x00000001, 0))                  # a driver from before device_caps

# ---------------------------------------------------------------- streams


class MjpegServer:
    """Numbered pictures as MJPEG over HTTP, on loopback; after the last one it hangs up, or falls silent."""

    def __init__(self, frames: int = 12, silent: bool = False) -> None:
        import cv2
        jpegs = [cv2.imencode('.jpg', picture(number))[1].tobytes() for number in range(frames)]
        self.done = done = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header('Content-Type', 'multipart/x-mixed-replace; boundary=cut')
                self.end_headers()
                try:
                    for jpeg in jpegs:
                        self.wfile.write(b'--cut\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n'
                                         % (len(jpeg), jpeg))
                        time.sleep(0.005)
                    if silent:
                        done.wait(20)
                except OSError:
                    pass       # the reader has gone

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.url = f'http://127.0.0.1:{self._server.server_port}/live.mjpg'

    def __enter__(self) -> 'MjpegServer':
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={'poll_interval': 0.05})
        self._thread.start()
        return self

    def __exit__(self, *exc: Any) -> None:
        self.done.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.mark.parametrize('pixel_format', ['bgr', 'gray'])
def test_a_stream_is_received_whole_and_ends(pixel_format: str) -> None:
    with MjpegServer(frames=30) as server:
        sink = run(StreamCamera(server.url), pixel_format=pixel_format)
    numbers = [number_of(image) for image in sink.frames]
    # FFmpeg's MJPEG demuxer may keep the last picture back, as nothing follows that would end it.
    assert numbers in (list(range(30)), list(range(29)))
    assert sink.granted.framerate is None and sink.granted.loss_detection == 'none' and not sink.granted.waits
    assert {stamp.sensor_ns for stamp in sink.stamps} == {None}


def test_a_stream_that_falls_silent_has_stalled() -> None:
    with MjpegServer(frames=10, silent=True) as server:
        camera = StreamCamera(server.url, read_timeout_s=0.5)
        sink = ListSink(camera.open(CameraRequest()))
        with pytest.raises(CameraStalledError, match='nothing for'):
            camera.stream(sink)
        camera.close()
    assert len(sink.frames) >= 8


def test_a_stream_that_is_not_there(capfd: pytest.CaptureFixture) -> None:
    with pytest.raises(CameraNotFoundError, match=r'http://me:\*\*\*@127.0.0.1:9/x'):
        StreamCamera('http://me:secret@127.0.0.1:9/x', open_timeout_s=1).open(CameraRequest())
    assert 'WARN' not in capfd.readouterr().err


def test_passwords_are_told_to_nobody() -> None:
    camera = StreamCamera('rtsp://admin:hunter2@10.0.0.5:554/live?x=1')
    assert 'hunter2' not in repr(camera)
    assert 'rtsp://admin:***@10.0.0.5:554/live?x=1' in repr(camera)


@pytest.mark.parametrize(('asked', 'says'), [({'width': 640, 'height': 480}, '320x96'), ({'framerate': 400}, 'Hz'),
                                             ({'controls': {'read_timeout_s': 'long'}}, 'read_timeout_s'),
                                             ({'controls': {'open_timeout_s': 0}}, 'open_timeout_s')])
def test_what_a_stream_cannot_give(asked: Any, says: str) -> None:
    with MjpegServer() as server:
        camera = StreamCamera(server.url)
        with pytest.raises(CameraFormatError, match=says):
            camera.open(CameraRequest(**asked))
        camera.close()

# ---------------------------------------------------------------- pairs


def eye(**options: Any) -> SyntheticCamera:
    return SyntheticCamera(width=160, height=48, **options)


def test_two_cameras_side_by_side() -> None:
    pair = StereoPair(eye(frames=20), eye(seed=9, frames=20))
    sink = run(pair, framerate=50, stereo=True)
    truth = eye(), eye(seed=9)
    for one in truth:
        one.configure(CameraRequest())
    assert (sink.granted.width, sink.granted.frame_width, sink.granted.framerate) == (320, 320, 50)
    assert sink.granted.details['right']['model'] == 'synthetic camera'
    for image in sink.frames:
        index = SyntheticCamera.index_of(image, stereo=True)
        assert np.array_equal(image[:, :160], truth[0].frame(index))
        assert np.array_equal(image[:, 160:], truth[1].frame(index))
    facts = pair.statistics()
    assert facts['pairs'] == len(sink.frames) >= 15 and facts['paired_by'] == 'sensor'
    assert 0 <= facts['skew_mean_ms'] <= facts['skew_max_ms'] < 10
    assert max(abs(stamp.skew_ns) for stamp in sink.stamps) / 1e6 == facts['skew_max_ms']


class OrderedSink(ListSink):
    """Counts as the recorder does: what is reported before a frame is not counted again at it."""

    total = 0

    def commit(self, stamp: Any) -> None:
        super().commit(stamp)
        self.detector = getattr(self, 'detector', None) or LossDetector(self.granted.loss_detection)
        self.total += self.detector.see(stamp, 0)

    def lost(self, count: int, reason: str, sensor_ns: Optional[int] = None, detail: str = '') -> None:
        super().lost(count, reason, sensor_ns, detail)
        self.total += count
        self.detector.reported(count)


def test_frames_without_a_partner_are_lost_once() -> None:
    left, right = eye(frames=42, skip=(5, 6, 20, 30)), eye(frames=42, skip=(6, 21, 30))
    pair = StereoPair(left, right)
    sink = OrderedSink(pair.open(CameraRequest(framerate=50, stereo=True)))
    pair.start()
    pair.stream(sink)
    pair.close()
    indexes = [SyntheticCamera.index_of(image, stereo=True) for image in sink.frames]
    assert not {5, 6, 20, 21, 30} & set(indexes)
    assert pair.statistics()['unpaired'] >= 3
    # Whatever a busy machine lost on top: what is counted is what is missing between the first and the last.
    assert sink.total == indexes[-1] - indexes[0] + 1 - len(indexes)


def test_the_recording_begins_with_the_first_pair_however_late_one_eye_is() -> None:
    pair = StereoPair(eye(frames=30), eye(frames=30, skip=(0, 1, 2, 3)))
    sink = OrderedSink(pair.open(CameraRequest(framerate=50, stereo=True)))
    pair.start()
    pair.stream(sink)
    pair.close()
    indexes = [SyntheticCamera.index_of(image, stereo=True) for image in sink.frames]
    facts = pair.statistics()
    assert facts['before_first_pair'] >= 4 and indexes[0] >= 4
    assert sink.total == indexes[-1] - indexes[0] + 1 - len(indexes)


def test_two_files_are_paired_by_their_own_times(tmp_path: Path) -> None:
    paths = [make_video(tmp_path / name, frames=frames) for name, frames in (('l.avi', 15), ('r.avi', 12))]
    pair = StereoPair(*(VideoFileCamera(path, 'fastest') for path in paths))
    sink = run(pair, stereo=True)
    assert [(number_of(image[:, :320]), number_of(image[:, 320:])) for image in sink.frames] == \
        [(number, number) for number in range(12)]
    assert sink.granted.waits and sink.losses == [] and pair.statistics()['skew_max_ms'] == 0


def test_cameras_without_clocks_are_paired_by_arrival() -> None:
    pair = StereoPair(eye(frames=10, loss_detection='none'), eye(frames=10, loss_detection='none'))
    sink = run(pair, framerate=50, stereo=True)
    assert len(sink.frames) >= 5 and sink.granted.loss_detection == 'none'
    assert pair.statistics()['paired_by'] == 'arrival'


def test_the_eye_that_sees_losses_better_gives_the_times() -> None:
    pair = StereoPair(eye(frames=10, loss_detection='none'), eye(frames=10, loss_detection='fixed_rate'))
    sink = run(pair, framerate=50, stereo=True)
    assert sink.granted.loss_detection == 'fixed_rate'
    assert all(stamp.sensor_ns is not None for stamp in sink.stamps)


def test_controls_for_one_eye_or_both() -> None:
    for controls, seeds in (({'seed': 4}, (4, 4)), ({'left': {'seed': 4}}, (4, 0)),
                            ({'left': {'seed': 4}, 'right': {'seed': 5}}, (4, 5))):
        pair = StereoPair(eye(), eye())
        granted = pair.open(CameraRequest(stereo=True, controls=controls))
        assert tuple(granted.details[side]['details']['seed'] for side in ('left', 'right')) == seeds
        pair.close()


@pytest.mark.parametrize('side', ['left', 'right'])
def test_an_error_in_one_eye_surfaces_with_its_side(side: str) -> None:
    cameras = {'left': eye(), 'right': eye(), side: eye(raise_at=3)}
    pair = StereoPair(cameras['left'], cameras['right'])
    with pytest.raises(CameraError, match=f'the {side} camera.*frame 3') as caught:
        run(pair, framerate=100, stereo=True)
    assert isinstance(caught.value.__cause__, CameraError)


def test_a_pair_of_unlike_cameras_is_refused() -> None:
    for left, right, says in ((eye(), SyntheticCamera(width=320, height=48), '160x48.*320x48'),
                              (eye(actual_hz=30), eye(actual_hz=60), '30.*60')):
        pair = StereoPair(left, right)
        with pytest.raises(CameraFormatError, match=says):
            pair.open(CameraRequest(stereo=True))
        pair.close()
    with pytest.raises(CameraFormatError, match='halved'):
        StereoPair(eye(), eye()).open(CameraRequest(321, 48, stereo=True))
    with pytest.raises(CameraError, match='same camera object'):
        one = eye()
        StereoPair(one, one)
    with pytest.raises(CameraError, match='not a Camera'):
        StereoPair('synthetic', eye())      # type: ignore[arg-type]


def test_a_stalled_eye_ends_with_close() -> None:
    pair = StereoPair(eye(), eye(stall_at=2, stall_s=float('inf')))
    sink = ListSink(pair.open(CameraRequest(framerate=100, stereo=True)))
    pair.start()
    thread = threading.Thread(target=pair.stream, args=(sink,))
    thread.start()
    thread.join(0.2)
    assert thread.is_alive()
    pair.close()
    thread.join(10)
    assert not thread.is_alive()


def test_a_break_in_one_eye_is_told_by_the_pair(tmp_path: Path) -> None:
    whole, cut = (make_video(tmp_path / name, frames=40) for name in ('whole.avi', 'cut.avi'))
    with open(cut, 'r+b') as file:
        file.truncate(cut.stat().st_size // 2)
    sink = run(StereoPair(VideoFileCamera(cut, 'fastest'), VideoFileCamera(whole, 'fastest')), stereo=True)
    assert any(reason == 'source broke off' and 'left camera' in detail for _, reason, detail in sink.losses)
