"""The synthetic camera: its truth is exact, the same everywhere, and its faults are what they say."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import zlib
from types import SimpleNamespace
from typing import Any

import cloudpickle
import numpy as np
import pytest
from camera_kit import ListSink, run
from hypothesis import given
from hypothesis import strategies as st
from recording_tools import wait_until

from ProcessedPiRecorder.cameras import CameraRequest, SyntheticCamera, synthetic
from ProcessedPiRecorder.cameras.timeline import Timeline
from ProcessedPiRecorder.errors import CameraError, CameraFormatError, SettingsError

SMALL = {'width': 160, 'height': 48}


@pytest.mark.parametrize('pixel_format', ['bgr', 'gray'])
@pytest.mark.parametrize('stereo', [False, True])
@pytest.mark.parametrize('scene', ['shapes', 'noise', 'flat', 'chessboard'])
def test_what_is_delivered_is_the_truth(pixel_format: str, stereo: bool, scene: str) -> None:
    camera = SyntheticCamera(pace=False, frames=25, scene=scene)
    sink = run(camera, pixel_format=pixel_format, stereo=stereo, scale_factor=0.4, width=320, height=96)
    truth = SyntheticCamera(scene=scene)
    granted = truth.configure(CameraRequest(320, 96, 0.4, 0, pixel_format, stereo))
    assert granted.frame_shape == ((38, 128) if pixel_format == 'gray' else (38, 128, 3))
    assert len(sink.frames) == 25
    for index, image in enumerate(sink.frames):
        assert np.array_equal(image, truth.frame(index))
        assert truth.index_of(image, stereo) == index
    assert len({zlib.crc32(image.tobytes()) for image in sink.frames}) == 25


def test_pixels_never_change_between_machines_and_versions() -> None:
    camera = SyntheticCamera(seed=3)
    camera.configure(CameraRequest(320, 96, 1, 30, 'bgr', True))
    assert zlib.crc32(b''.join(camera.frame(index).tobytes() for index in (0, 1, 1000, 10**9))) == 2234705990


def test_seeds_differ_and_noise_has_its_sigma() -> None:
    frames = {}
    for seed in (0, 1):
        camera = SyntheticCamera(seed=seed, scene='noise', noise=2.5)
        camera.configure(CameraRequest(320, 240))
        frames[seed] = camera.frame(5)[16:-16]
    assert not np.array_equal(frames[0], frames[1])
    assert abs(frames[0].std() - 2.5) < 0.1
    assert abs(np.corrcoef(frames[0][:-1].ravel(), frames[0][1:].ravel())[0, 1]) < 0.02


@pytest.mark.parametrize('noise', [0, 10])
@pytest.mark.parametrize('scene', ['shapes', 'noise', 'flat', 'chessboard'])
def test_values_never_wrap_around(scene: str, noise: float) -> None:
    camera = SyntheticCamera(scene=scene, noise=noise)
    camera.configure(CameraRequest(320, 240))
    for index in range(0, 400, 23):
        inside = camera.frame(index)[8:-8]
        assert inside.max() < 240      # a wrapped sum would also leave 0..10 next to it
        assert inside.min() >= (0 if noise else 40)


def test_the_right_eye_sees_the_scene_shifted_by_the_disparity() -> None:
    camera = SyntheticCamera(noise=0, disparity=12)
    camera.configure(CameraRequest(640, 240, stereo=True))
    for index in (0, 7, 300):
        image = camera.frame(index)[8:-8]
        left, right = image[:, :320], image[:, 320:]
        assert np.array_equal(left[:, 12:], right[:, :-12])
        assert not np.array_equal(left, right)
    noisy = SyntheticCamera()
    noisy.configure(CameraRequest(640, 240, stereo=True))
    image = noisy.frame(0)[8:-8].astype(int)
    assert np.std(image[:, 8:320] - image[:, 320:-8]) > 3      # noise of its own: sigma * sqrt(2)


def test_a_torn_image_is_told() -> None:
    camera = SyntheticCamera()
    camera.configure(CameraRequest(**SMALL))
    torn = camera.frame(4)
    torn[24:] = camera.frame(5)[24:]
    with pytest.raises(ValueError, match='frame 4.*frame 5'):
        camera.index_of(torn)
    camera.configure(CameraRequest(320, 48, stereo=True))
    slipped = camera.frame(4)
    slipped[:, 160:] = camera.frame(5)[:, 160:]
    with pytest.raises(ValueError, match='left eye'):
        camera.index_of(slipped, stereo=True)


@given(st.integers(1, 90), st.integers(1, 90), st.booleans(), st.sampled_from(['bgr', 'gray']),
       st.sampled_from(['shapes', 'noise', 'flat', 'chessboard']), st.integers(0, 2**40))
def test_any_size(width: int, height: int, stereo: bool, pixel_format: str, scene: str, index: int) -> None:
    camera = SyntheticCamera(scene=scene)
    granted = camera.configure(CameraRequest(width * (1 + stereo), height, pixel_format=pixel_format, stereo=stereo))
    image = camera.frame(index)
    assert image.shape == granted.frame_shape
    camera.index_of(image, stereo)


def test_losses_and_their_gaps() -> None:
    sink = run(SyntheticCamera(pace=False, lose_every=10, skip=(3, 4), frames=40, **SMALL), framerate=100)
    delivered = [index for index in range(40) if index % 10 != 9 and index not in (3, 4)]
    assert [SyntheticCamera.index_of(image) for image in sink.frames] == delivered
    start = sink.stamps[0].sensor_ns
    assert start is not None
    assert [stamp.sensor_ns for stamp in sink.stamps] == [start + index * 10_000_000 for index in delivered]


def test_paced_frames_come_at_their_rate() -> None:
    started = time.monotonic()
    sink = run(SyntheticCamera(frames=20, **SMALL), framerate=50)
    assert len(sink.frames) == 20
    assert 0.4 <= time.monotonic() - started < 2.0


class HandClock:
    """In the place of the camera's clock and of its waiting: time passes only where the test, or a wait, lets it."""

    def __init__(self, camera: SyntheticCamera, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_ns = 10**12
        monkeypatch.setattr(synthetic, 'time', SimpleNamespace(monotonic_ns=lambda: self.now_ns))
        monkeypatch.setattr(camera._closed, 'wait', self.sleep)

    def sleep(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)


def test_a_slow_reader_loses_what_four_buffers_cannot_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = SyntheticCamera(frames=45, **SMALL)
    granted = camera.open(CameraRequest(framerate=50))
    clock = HandClock(camera, monkeypatch)
    camera.start()
    out = np.empty(granted.frame_shape, np.uint8)
    indexes = []
    for _ in range(3):
        assert camera.read(out) is not None
        indexes.append(camera.index_of(out))
    clock.sleep(0.5)                                   # of 25 frames
    while camera.read(out) is not None:
        indexes.append(camera.index_of(out))
    # What was finished while the reader slept: the four oldest are kept, the newer are gone.
    assert indexes == [0, 1, 2, 3, 4, 5, 6, *range(28, 45)]


def test_another_rate_and_other_durations_are_granted_truly() -> None:
    camera = SyntheticCamera(pace=False, actual_hz=50, duration_pattern=[[2, 1], [1, 2.5]], frames=7, **SMALL)
    sink = run(camera, framerate=25)
    assert sink.granted.framerate == 50
    assert [stamp.duration_ns for stamp in sink.stamps] == [20_000_000, 20_000_000, 50_000_000] * 2 + [20_000_000]
    times = [stamp.sensor_ns - sink.stamps[0].sensor_ns for stamp in sink.stamps]     # type: ignore[operator]
    assert times == [0, 20_000_000, 40_000_000, 90_000_000, 110_000_000, 130_000_000, 180_000_000]


@given(st.lists(st.tuples(st.integers(1, 5), st.sampled_from([0.5, 1, 2.5])), max_size=4), st.integers(0, 10**6))
def test_timelines_agree_with_themselves(pattern: Any, index: int) -> None:
    line = Timeline(1_000_003, pattern)
    start, end = line.offset(index), line.offset(index + 1)
    assert end - start == line.duration(index)
    assert line.finished(start) == index and line.finished(end - 1) == index and line.finished(end) == index + 1


@pytest.mark.parametrize('pace', [True, False])
def test_a_stall_hangs_and_loses_what_falls_into_it(pace: bool) -> None:
    started = time.monotonic()
    camera = SyntheticCamera(pace=pace, stall_at=5, stall_s=0.3, frames=30, **SMALL)
    sink = run(camera, framerate=50)
    assert time.monotonic() - started >= 0.3
    assert [camera.index_of(image) for image in sink.frames] == [*range(5), *range(20, 30)]
    assert [index for index in range(30) if camera.is_lost(index)] == list(range(5, 20))


@pytest.mark.parametrize('pace', [True, False])
def test_close_wakes_a_stalled_camera(pace: bool) -> None:
    camera = SyntheticCamera(pace=pace, stall_at=2, stall_s=float('inf'), **SMALL)
    sink = ListSink(camera.open(CameraRequest(framerate=200)))
    camera.start()
    thread = threading.Thread(target=camera.stream, args=(sink,))
    thread.start()
    thread.join(0.2)
    assert thread.is_alive() and len(sink.frames) == 2
    camera.close()
    thread.join(5)
    assert not thread.is_alive() and len(sink.frames) == 2


def test_raising() -> None:
    camera = SyntheticCamera(pace=False, raise_at=3, **SMALL)
    with pytest.raises(CameraError, match='frame 3'):
        run(camera)


@pytest.mark.parametrize(('option', 'code'), [('exit_at=3, exit_code=7', 7), ('kill_at=3', -signal.SIGKILL),
                                              (f'kill_at=3, kill_signal={int(signal.SIGSEGV)}', -signal.SIGSEGV)])
def test_dying(option: str, code: int) -> None:
    script = ('import numpy as np\nfrom ProcessedPiRecorder.cameras import *\n'
              f'camera = SyntheticCamera(pace=False, width=16, height=16, {option})\n'
              'out = np.empty(camera.open(CameraRequest()).frame_shape, np.uint8)\n'
              'for index in range(9):\n    camera.read(out); print(camera.index_of(out) % 4, flush=True)\n')
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, timeout=50,
                          env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)}, check=False)
    assert done.returncode == code, done.stderr
    assert done.stdout.split() == ['0', '1', '2']


@pytest.mark.parametrize(('mode', 'fields'), [('frame_duration', (True, True, False)), ('count', (True, False, True)),
                                              ('fixed_rate', (True, False, False)), ('none', (False, False, False))])
def test_stamps_hold_what_the_loss_detection_needs(mode: str, fields: Any) -> None:
    sink = run(SyntheticCamera(pace=False, frames=2, loss_detection=mode, **SMALL))
    assert sink.granted.loss_detection == mode
    stamp = sink.stamps[1]
    assert tuple(value is not None for value in (stamp.sensor_ns, stamp.duration_ns, stamp.count)) == fields


def test_a_camera_that_is_silent_for_good_can_be_closed_whenever_it_is_read_first() -> None:
    camera = SyntheticCamera(stall_at=1, stall_s=float('inf'), **SMALL)
    sink = ListSink(camera.open(CameraRequest(framerate=200)))
    camera.start()
    time.sleep(0.1)                      # by now it has fallen silent
    thread = threading.Thread(target=camera.stream, args=(sink,))
    thread.start()
    wait_until(lambda: sink.frames)
    camera.close()
    thread.join(10)
    assert not thread.is_alive() and len(sink.frames) == 1


def test_controls_override_the_constructor() -> None:
    sink = run(SyntheticCamera(frames=4, lose_every=2, **SMALL), controls={'pace': False, 'lose_every': 3, 'frames': 6})
    assert len(sink.frames) == 4


@pytest.mark.parametrize('bad', [{'lose': 1}, {'lose_every': 1}, {'lose_every': -1}, {'noise': 11}, {'noise': 'much'},
                                 {'scene': 'zoo'}, {'skip': 5}, {'skip': [-1]}, {'actual_hz': 0}, {'stall_s': -1},
                                 {'loss_detection': 'asked'}, {'duration_pattern': [1, 2]}, {'pace': 1}, {'frames': 0},
                                 {'duration_pattern': [[0, 1]]}, {'raise_at': -1}, {'width': 0}])
def test_impossible_options(bad: Any) -> None:
    name = next(iter(bad))
    with pytest.raises(SettingsError, match=name):
        SyntheticCamera(**bad)
    with pytest.raises(CameraFormatError, match=name):
        SyntheticCamera().open(CameraRequest(controls=bad))


def test_questions_too_early_are_refused() -> None:
    for question in (lambda: SyntheticCamera().frame(0), lambda: SyntheticCamera().is_lost(0),
                     lambda: SyntheticCamera().start()):
        with pytest.raises(CameraError, match='configure|open'):
            question()
    with pytest.raises(CameraFormatError, match='even'):
        SyntheticCamera().configure(CameraRequest(161, 48, stereo=True))


def test_it_travels_and_can_be_opened_again() -> None:
    camera = SyntheticCamera(seed=5, pace=False, frames=3, **SMALL)
    first = run(camera)
    copy = cloudpickle.loads(cloudpickle.dumps(camera))
    assert repr(copy) == repr(camera) == 'SyntheticCamera(seed=5, width=160, height=48, pace=False, frames=3)'
    for again in (run(copy), run(camera)):
        assert all(np.array_equal(one, two) for one, two in zip(again.frames, first.frames))
