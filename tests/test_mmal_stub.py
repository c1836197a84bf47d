"""The simulated camera keeps the rules of the real one: seen through the unmodified picamera, no code of ours.

These tests are what makes the others trustworthy that record through it.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import multiprocessing
import os
import signal
import threading
import time
import warnings
from fractions import Fraction
from pathlib import Path
from typing import Any, Callable, Iterator, List, NamedTuple, Optional, Tuple

import mmal_kit
import numpy as np
import pytest
from mmal_kit import Simulation, eye_of, field_of, number_of

pytestmark = mmal_kit.needs_the_stub

PATIENCE_S = 30.0
Sim = Callable[..., Simulation]


@pytest.fixture
def sim(tmp_path: Path) -> Iterator[Sim]:
    """A function that starts the simulation with the given settings."""
    with contextlib.ExitStack() as stack:
        yield lambda **settings: stack.enter_context(mmal_kit.simulation(tmp_path, **settings))


class Frame(NamedTuple):
    timestamp: Optional[int]
    data: bytes
    complete: bool


class Output:
    """Keeps what a raw recording brings."""

    def __init__(self, camera: Any, slowness_s: float = 0.0) -> None:
        self.camera, self.slowness_s = camera, slowness_s
        self.frames: List[Frame] = []
        self.grew = threading.Condition()

    def write(self, data: bytes) -> int:
        time.sleep(self.slowness_s)
        with self.grew:
            self.frames.append(Frame(self.camera.frame.timestamp, data, self.camera.frame.complete))
            self.grew.notify_all()
        return len(data)

    def wait_for(self, count: int) -> None:
        with self.grew:
            assert self.grew.wait_for(lambda: len(self.frames) >= count, PATIENCE_S), f'{len(self.frames)} of {count}'


def open_camera(resolution: Tuple[int, int] = (320, 240), framerate: float = 60, **options: Any) -> Any:
    import picamera
    return picamera.PiCamera(resolution=resolution, framerate=framerate, **{'clock_mode': 'raw', **options})


def record(camera: Any, count: int, format: str = 'bgr', resize: Any = None, slowness_s: float = 0.0) -> List[Frame]:
    output = Output(camera, slowness_s)
    with warnings.catch_warnings():
        # picamera says so whenever it pads or strips; what comes of it is what these tests look at.
        warnings.simplefilter('ignore', category=RuntimeWarning)
        camera.start_recording(output, format=format, resize=resize)
    output.wait_for(count)
    camera.stop_recording()
    return output.frames


def as_image(data: bytes, width: int, height: int, stride: int, rows: int, channels: int) -> np.ndarray:
    shape = (rows, stride) if channels == 1 else (rows, stride, channels)
    assert len(data) >= np.prod(shape)
    return np.frombuffer(data, np.uint8, int(np.prod(shape))).reshape(shape)[:height, :width]


def one_image(camera: Any, format: str = 'bgr') -> np.ndarray:
    """The next frame that the camera begins from now on, whose size is a multiple of 32x16."""
    width, height = camera.resolution
    stale = 3                       # a change of a setting shows in frames that are not under way yet
    return as_image(record(camera, stale, format)[-1].data, width, height, width, height, 3)


# ---- pictures ----

@pytest.mark.parametrize(('format', 'resize', 'stride', 'rows', 'channels'), [
    ('bgr', None, 336, 256, 3), ('rgb', None, 336, 256, 3), ('bgra', None, 336, 256, 4), ('yuv', None, 352, 256, 1),
    ('bgra', (160, 120), 160, 128, 4), ('bgr', (160, 120), 160, 128, 3), ('yuv', (100, 80), 128, 80, 1)])
def test_raw_frames_are_padded_as_on_the_real_thing(sim: Sim, format: str, resize: Any, stride: int, rows: int,
                                                    channels: int) -> None:
    """To 32x16; RGB straight from the splitter to 16x16; and the resizer scales to the padded size."""
    sim()
    with open_camera((330, 250)) as camera:
        frames = record(camera, 4, format, resize)
    pixels = stride * rows
    assert {len(frame.data) for frame in frames} == {pixels * 3 // 2 if channels == 1 else pixels * channels}
    width, height = (stride, rows) if resize else (330, 250)
    numbers = [number_of(as_image(frame.data, width, height, stride, rows, channels)) for frame in frames]
    assert numbers == list(range(numbers[0], numbers[0] + len(frames)))


def test_all_formats_show_the_same_scene_in_their_own_order_of_colours(sim: Sim) -> None:
    import picamera.array
    sim()
    with open_camera((320, 240)) as camera:
        with picamera.array.PiRGBArray(camera) as rgb:
            camera.capture(rgb, 'rgb', use_video_port=True)
            by_rgb = rgb.array.copy()
        with picamera.array.PiYUVArray(camera) as yuv:
            camera.capture(yuv, 'yuv', use_video_port=True)
            by_yuv = yuv.rgb_array.copy()
        by_bgr = one_image(camera)
        by_bgra = as_image(record(camera, 1, 'bgra')[0].data, 320, 240, 320, 240, 4)
    below_the_square = slice(150, 210)
    assert (by_rgb[below_the_square] == by_bgr[below_the_square, :, ::-1]).all()
    assert (by_bgra[below_the_square, :, :3] == by_bgr[below_the_square]).all()
    assert (by_bgra[..., 3] == 255).all()
    assert np.abs(by_rgb[below_the_square].astype(int) - by_yuv[below_the_square]).max() <= 6


def test_torn_frames_and_other_pictures_are_told(sim: Sim) -> None:
    sim()
    with open_camera() as camera:
        first, *_, last = [as_image(frame.data, 320, 240, 320, 240, 3) for frame in record(camera, 4)]
    torn = np.concatenate((first[:120], last[120:]))
    with pytest.raises(ValueError, match='torn'):
        number_of(torn)
    with pytest.raises(ValueError, match='not a strip|differ'):
        number_of(np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8))


def test_numbers_survive_the_resizing_of_the_stereo_recipe(sim: Sim) -> None:
    sim(cameras=2)
    with open_camera((1280, 480), 25, stereo_mode='side-by-side') as camera:
        frames = record(camera, 2, 'yuv', (384, 144))
    image = as_image(frames[0].data, 384, 144, 384, 144, 1)
    assert number_of(image[:, :192]) == number_of(image[:, 192:])
    assert (eye_of(image[:, :192]), eye_of(image[:, 192:])) == ('left', 'right')


def test_flips_rotation_and_zoom_act_on_the_scene(sim: Sim) -> None:
    sim()
    with open_camera() as camera:
        plain = field_of(one_image(camera))
        camera.hflip = True
        mirrored = field_of(one_image(camera))
        camera.hflip, camera.vflip = False, True
        upside_down = field_of(one_image(camera))
        camera.vflip, camera.rotation = False, 180
        turned = field_of(one_image(camera))
        camera.rotation, camera.zoom = 0, (0.25, 0.5, 0.5, 0.25)
        zoomed = field_of(one_image(camera))
    assert np.allclose(plain, (0, 0, 1, 1), atol=0.02)
    assert np.allclose(mirrored, (1, 0, 0, 1), atol=0.02)
    assert np.allclose(upside_down, (0, 1, 1, 0), atol=0.02)
    assert np.allclose(turned, (1, 1, 0, 0), atol=0.02)
    assert np.allclose(zoomed, (0.25, 0.5, 0.75, 0.75), atol=0.02)


def test_rotation_by_a_quarter_is_clockwise_and_keeps_the_size_of_the_frame(sim: Sim) -> None:
    """What was at the bottom left is then at the top left: green falls from left to right, red grows downwards."""
    sim()
    with open_camera() as camera:
        camera.rotation = 90
        image = one_image(camera).astype(int)
        camera.rotation = 270
        back = one_image(camera).astype(int)
    assert image.shape == (240, 320, 3)
    assert image[200, 20, 1] > image[200, 300, 1] + 100 and image[210, 310, 2] > image[30, 310, 2] + 50
    assert back[200, 20, 1] < back[200, 300, 1] - 100 and back[210, 310, 2] < back[30, 310, 2] - 50


def test_brightness_and_contrast_change_the_scene_but_not_the_strips(sim: Sim) -> None:
    sim()
    with open_camera() as camera:
        plain = one_image(camera)
        camera.brightness = 75
        brighter = one_image(camera)
        camera.brightness, camera.contrast = 50, -50
        duller = one_image(camera)
    scene = np.s_[150:210, 100:200]
    assert (brighter[scene] == np.minimum(plain[scene].astype(int) + 64, 255)).all()
    assert np.abs((duller[scene].astype(int) - 128) * 2 - (plain[scene].astype(int) - 128)).max() <= 1
    assert number_of(plain) < number_of(brighter) < number_of(duller)
    assert (brighter[:10].max(), brighter[:10].min()) == (plain[:10].max(), plain[:10].min())


def test_wide_pictures_show_less_above_and_below(sim: Sim) -> None:
    sim()
    with open_camera((1280, 720), 30) as camera:
        field = field_of(one_image(camera))
    assert np.allclose(field, (0, 0.125, 1, 0.875), atol=0.02)


# ---- capturing ----

def test_capture_continuous_and_still_captures(sim: Sim) -> None:
    import picamera.array
    sim()
    numbers = []
    with open_camera() as camera, picamera.array.PiRGBArray(camera) as output:
        for _ in camera.capture_continuous(output, format='bgr', use_video_port=True):
            numbers.append(number_of(output.array))
            output.seek(0)
            output.truncate()
            if len(numbers) == 5:
                break
        camera.capture(output, 'bgr')
        still = number_of(output.array)
        output.seek(0)
        camera.resolution = (330, 250)
        with pytest.warns(picamera.exc.PiCameraResolutionRounded):
            camera.capture(output, 'rgb')
        assert output.getbuffer().nbytes == 352 * 256 * 3       # the still port pads RGB to 32, too
    assert numbers == sorted(set(numbers)) and still > numbers[-1]


def test_encoders_are_refused(sim: Sim) -> None:
    import picamera
    from picamera import mmal
    sim()
    with open_camera() as camera:
        for attempt in (lambda: camera.capture(io.BytesIO(), 'jpeg'),
                        lambda: camera.start_recording(io.BytesIO(), format='h264')):
            with pytest.raises(picamera.PiCameraMMALError) as caught:
                attempt()
            assert caught.value.status == mmal.MMAL_ENOSYS


def test_a_frame_in_several_buffers(sim: Sim) -> None:
    sim(buffer_bytes=100_000)
    with open_camera() as camera:
        pieces = record(camera, 12)
    lengths = [len(piece.data) for piece in pieces]
    assert lengths[:3] == [100_000, 100_000, 230_400 - 200_000] and lengths[3:6] == lengths[:3]
    assert [piece.complete for piece in pieces[:6]] == [False, False, True] * 2
    assert len({piece.timestamp for piece in pieces[:3]}) == 1 < len({piece.timestamp for piece in pieces[:6]})
    whole = as_image(b''.join(piece.data for piece in pieces[3:6]), 320, 240, 320, 240, 3)
    assert number_of(whole)


def test_old_firmware_needs_the_resizer_for_rgb(sim: Sim) -> None:
    import picamera
    sim(old_firmware=1)
    with open_camera() as camera:
        output = Output(camera)
        with pytest.warns() as caught:
            camera.start_recording(output, format='bgr')
        output.wait_for(3)
        camera.stop_recording()
    assert {warning.category for warning in caught} == {picamera.exc.PiCameraResizerEncoding,
                                                        picamera.exc.PiCameraAlphaStripping}
    assert len(output.frames[0].data) == 320 * 240 * 3
    assert np.allclose(field_of(as_image(output.frames[0].data, 320, 240, 320, 240, 3)), (0, 0, 1, 1), atol=0.02)


# ---- stereo ----

@pytest.mark.parametrize('mode', ['side-by-side', 'top-bottom'])
@pytest.mark.parametrize('camera_num', [0, 1])
def test_stereo_pairs(sim: Sim, mode: str, camera_num: int) -> None:
    """Each eye is mirrored on its own and keeps its place; camera number 1 swaps them."""
    sim(cameras=2)
    size = (640, 240) if mode == 'side-by-side' else (320, 480)
    with open_camera(size, 30, stereo_mode=mode, camera_num=camera_num) as camera:
        camera.hflip = True
        image = one_image(camera)
    first, second = (image[:, :320], image[:, 320:]) if mode == 'side-by-side' else (image[:240], image[240:])
    assert [eye_of(first), eye_of(second)] == (['left', 'right'] if camera_num == 0 else ['right', 'left'])
    assert number_of(first) == number_of(second)
    assert np.allclose(field_of(first), (1, 0, 0, 1), atol=0.02)
    assert np.allclose(field_of(second), (1, 0, 0, 1), atol=0.02)


def test_decimated_eyes_show_the_field_of_a_whole_frame_squeezed(sim: Sim) -> None:
    sim(cameras=2)
    fields = {}
    for decimate in (False, True):
        with open_camera((640, 480), 30, stereo_mode='side-by-side', stereo_decimate=decimate) as camera:
            image = one_image(camera)
        assert image.shape == (480, 640, 3)
        fields[decimate] = field_of(image[:, :320])
    assert np.allclose(fields[True], (0, 0, 1, 1), atol=0.02)
    assert np.allclose(fields[False], (0.25, 0, 0.75, 1), atol=0.02)


def test_stereo_needs_two_cameras_and_pairs_no_larger_than_a_sensor(sim: Sim) -> None:
    import picamera
    sim(cameras=1)
    with pytest.raises(picamera.PiCameraMMALError, match='Argument is invalid'):
        open_camera((640, 240), stereo_mode='side-by-side')
    sim(cameras=2)
    with pytest.raises(picamera.PiCameraMMALError, match='Failed to enable component: Out of resources'):
        open_camera((5184, 1944), 10, stereo_mode='side-by-side')


# ---- times and losses ----

def test_timestamps_lie_on_the_exact_grid_of_the_rate(sim: Sim) -> None:
    simulation = sim(frames=200)
    with open_camera(framerate=Fraction(30000, 1001)) as camera:
        frames = record(camera, 12)
    stamps = [frame.timestamp for frame in frames]
    period = Fraction(1001 * 1_000_000, 30000)
    grid = [stamps[0] + period * n for n in range(len(stamps))]
    assert all(abs(stamp - point) <= 1 for stamp, point in zip(stamps, grid))
    delivered = [frame for frame in simulation.frames() if frame.fate == 'delivered']
    assert stamps == [frame.stc_us for frame in delivered[:len(stamps)]]
    assert simulation.camera().rate_mhz == 29970


def test_the_sensor_runs_slower_than_asked_where_it_must_and_nobody_is_told(sim: Sim) -> None:
    simulation = sim(frames=200)
    with open_camera((1920, 1080), 90) as camera:
        frames = record(camera, 4, 'yuv')
        assert camera.framerate == 90
    assert {b.timestamp - a.timestamp for a, b in zip(frames, frames[1:])} <= {33333, 33334}
    assert simulation.camera().rate_mhz == 30000


@pytest.mark.parametrize(('sensor', 'resolution', 'asked', 'granted'), [
    ('ov5647', (640, 480), 90, 90), ('ov5647', (1280, 720), 60, 49), ('ov5647', (2592, 1944), 30, 15),
    ('ov5647', (800, 600), 60, 60), ('imx219', (1280, 720), 90, 90), ('imx219', (1640, 1232), 60, 40),
    ('imx477', (1332, 990), 120, 120), ('imx477', (4056, 3040), 30, 10)])
def test_rates_of_the_sensors(sim: Sim, sensor: str, resolution: Tuple[int, int], asked: int, granted: int) -> None:
    import picamera
    simulation = sim(sensor=sensor)
    with open_camera(resolution, asked) as camera:
        assert camera.revision == sensor
        assert simulation.camera().rate_mhz == granted * 1000
        assert picamera.PiCamera.MAX_RESOLUTION == {'ov5647': (2592, 1944), 'imx219': (3280, 2464),
                                                    'imx477': (4056, 3040)}[sensor]


def test_a_slow_client_loses_frames_and_each_is_accounted_for(sim: Sim) -> None:
    simulation = sim()
    with open_camera(framerate=60) as camera:
        frames = record(camera, 25, slowness_s=0.04)
    state, log = simulation.camera(), simulation.frames()
    stamps = [frame.timestamp for frame in frames]
    fates = {frame.stc_us: frame.fate for frame in log}
    assert [stamp for stamp, fate in fates.items() if fate == 'delivered'][:len(stamps)] == stamps
    missing = [stamp for stamp in fates if stamps[0] < stamp < stamps[-1] and stamp not in stamps]
    assert missing and all(fates[stamp] == 'no_buffer' for stamp in missing)
    gaps = sum(round((b - a) / (1e6 / 60)) - 1 for a, b in zip(stamps, stamps[1:]))
    assert gaps == len(missing)
    numbers = [number_of(as_image(frame.data, 320, 240, 320, 240, 3)) for frame in frames]
    assert numbers == [frame.number for frame in log if frame.fate == 'delivered'][:len(numbers)]
    assert state.offered == state.delivered + state.no_buffer + state.flushed
    assert state.no_buffer == sum(frame.fate == 'no_buffer' for frame in log)


def test_a_pause_no_longer_than_the_firmware_can_hold_loses_nothing(sim: Sim) -> None:
    simulation = sim(frames=100)
    with open_camera(framerate=60) as camera:
        output = Output(camera, slowness_s=0.5)
        camera.start_recording(output, format='bgr')
        output.wait_for(1)
        output.slowness_s = 0
        output.wait_for(40)
        camera.stop_recording()
    assert simulation.camera().no_buffer == 0
    stamps = [frame.timestamp for frame in output.frames]
    assert max(b - a for a, b in zip(stamps, stamps[1:])) <= 16667


def test_swallowed_frames_leave_a_gap_in_the_timestamps(sim: Sim) -> None:
    simulation = sim(frames=200)
    simulation.swallow_every(5)
    with open_camera(framerate=60) as camera:
        frames = record(camera, 20)
    stamps = [frame.timestamp for frame in frames]
    gaps = [round((b - a) * 60 / 1e6) for a, b in zip(stamps, stamps[1:])]
    assert gaps.count(2) >= 4 and set(gaps) == {1, 2}
    swallowed = [frame.number for frame in simulation.frames() if frame.fate == 'swallowed']
    assert len(swallowed) == simulation.camera().swallowed and all(number % 5 == 0 for number in swallowed)


def test_clock_modes(sim: Sim) -> None:
    offset_us = 5_000_000_123
    sim(stc_offset_us=offset_us, frames=200)
    with open_camera() as camera:
        before = time.monotonic_ns() // 1000
        now = camera.timestamp
        assert before + offset_us <= now + 1 and now <= time.monotonic_ns() // 1000 + offset_us
        raw = record(camera, 2)
        assert now - 1_000_000 < raw[0].timestamp < camera.timestamp
    with open_camera(clock_mode='reset') as camera:
        for _ in range(2):
            reset = record(camera, 3)
            # picamera shows the timestamp 0 of the first frame as None.
            assert reset[0].timestamp is None and reset[1].timestamp in (16666, 16667)


def test_the_clock_can_drift(sim: Sim) -> None:
    sim(stc_drift_ppm=100_000)
    with open_camera() as camera:
        first, begun = camera.timestamp, time.monotonic_ns()
        time.sleep(0.2)
        second, ended = camera.timestamp, time.monotonic_ns()
    assert (second - first) / ((ended - begun) / 1e3) == pytest.approx(1.1, rel=0.03)


def test_a_change_of_rate_within_a_recording(sim: Sim) -> None:
    sim(frames=200)
    with open_camera(framerate=30) as camera:
        output = Output(camera)
        camera.start_recording(output, format='bgr')
        output.wait_for(3)
        camera.framerate_delta = 10
        output.wait_for(10)
        camera.stop_recording()
    stamps = [frame.timestamp for frame in output.frames]
    assert stamps[1] - stamps[0] in (33333, 33334) and stamps[-1] - stamps[-2] == 25000


# ---- settings ----

def test_exposure_and_gains_read_back_as_set(sim: Sim) -> None:
    from picamera import mmal
    sim()
    with open_camera(framerate=30) as camera:
        automatic = (camera.exposure_speed, camera.analog_gain, camera.awb_gains)
        assert all(automatic)
        camera.shutter_speed, camera.awb_mode, camera.awb_gains = 5000, 'off', (1.5, 1.25)
        camera.iso = 400
        assert (camera.exposure_speed, camera.awb_gains, camera.analog_gain) == (5000, (1.5, 1.25), 4)
        port = camera._camera.control._port
        for parameter, value in ((0x59, Fraction(7, 2)), (0x5A, Fraction(5, 4))):
            assert mmal.mmal_port_parameter_set_rational(
                port, mmal.MMAL_PARAMETER_GROUP_CAMERA + parameter,
                mmal.MMAL_RATIONAL_T(value.numerator, value.denominator)) == mmal.MMAL_SUCCESS
        assert (camera.analog_gain, camera.digital_gain) == (Fraction(7, 2), Fraction(5, 4))
        camera.shutter_speed = 50_000               # no longer than a frame
        assert camera.exposure_speed == 33_333


def test_firmware_without_direct_gains_refuses_them(sim: Sim) -> None:
    from picamera import mmal
    sim(no_gain=1)
    with open_camera() as camera:
        status = mmal.mmal_port_parameter_set_rational(
            camera._camera.control._port, mmal.MMAL_PARAMETER_GROUP_CAMERA + 0x59, mmal.MMAL_RATIONAL_T(2, 1))
    assert status == mmal.MMAL_ENOSYS


# ---- who may have the camera ----

def test_no_camera(sim: Sim) -> None:
    import picamera
    sim(cameras=0)
    with pytest.raises(picamera.PiCameraError, match='Camera is not enabled'):
        open_camera()


def test_two_cameras_at_once_and_no_third(sim: Sim) -> None:
    import picamera
    simulation = sim(cameras=2)
    with open_camera(camera_num=0, framerate=30) as first, open_camera(camera_num=1, framerate=40) as second:
        assert len(record(first, 2)) >= 2 and len(record(second, 2)) >= 2
        assert [simulation.camera(n).rate_mhz for n in (0, 1)] == [30000, 40000]
        assert [simulation.camera(n).holder_pid for n in (0, 1)] == [os.getpid()] * 2
    with pytest.raises(picamera.PiCameraMMALError, match='Argument is invalid'):
        open_camera(camera_num=2)


def test_a_frame_larger_than_the_sensor_is_refused(sim: Sim) -> None:
    import picamera
    sim()
    with pytest.raises(picamera.PiCameraMMALError, match='Argument is invalid'):
        open_camera((3280, 2464))


@pytest.mark.parametrize(('step', 'message'), [
    ('camera:ENOMEM', 'Camera is not enabled'), ('enable:ENOSPC', 'Failed to enable component: Out of resources'),
    ('connection:ENOMEM', 'Failed to enable connection: Out of memory')])
def test_refusals_on_request(sim: Sim, step: str, message: str) -> None:
    import picamera
    sim(refuse=step)
    with pytest.raises(picamera.PiCameraError, match=message):
        open_camera()


@pytest.mark.parametrize('step', ['port:ENOMEM', 'pool:ENOSPC', 'resizer:ENOMEM'])
def test_refusals_of_recordings(sim: Sim, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import picamera
    sim(refuse=step)
    with open_camera() as camera:
        with pytest.raises(picamera.PiCameraMMALError, match='Out of memory|Out of resources'):
            record(camera, 1, 'bgra', resize=(160, 128))
        monkeypatch.delenv('MMALSIM_REFUSE')
        assert record(camera, 2, 'bgra', resize=(160, 128))


def hold_the_camera(ready: Any) -> None:
    camera = open_camera()
    ready.send(len(record(camera, 2)))
    signal.pause()


@pytest.mark.parametrize('method', ['fork', 'spawn'])
def test_one_client_at_a_time_and_a_killed_one_lets_go(sim: Sim, method: str) -> None:
    """Also: children find the libraries, forked or spawned."""
    import picamera
    simulation = sim()
    context = multiprocessing.get_context(method)
    here, there = context.Pipe()
    child = context.Process(target=hold_the_camera, args=(there,), daemon=True)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', DeprecationWarning)     # about forking beside threads, on Python 3.12+
        child.start()
    try:
        assert here.poll(PATIENCE_S) and here.recv() >= 2
        assert simulation.camera().holder_pid == child.pid
        with pytest.raises(picamera.PiCameraMMALError, match='Failed to enable connection: Out of resources'):
            open_camera()
    finally:
        child.kill()
        child.join()
        child.close()
        here.close()
        there.close()
    with open_camera() as camera:
        assert record(camera, 2)


# ---- faults ----

def test_a_stalled_sensor_says_nothing_and_comes_back_with_a_gap(sim: Sim) -> None:
    simulation = sim(frames=200)
    with open_camera() as camera:
        output = Output(camera)
        camera.start_recording(output, format='bgr')
        output.wait_for(3)
        simulation.stall()
        time.sleep(0.3)
        before = len(output.frames)
        time.sleep(0.2)
        assert len(output.frames) == before
        simulation.stall(False)
        output.wait_for(before + 3)
        camera.stop_recording()
    stamps = [frame.timestamp for frame in output.frames]
    assert max(b - a for a, b in zip(stamps, stamps[1:])) > 200_000
    assert simulation.camera().no_buffer == 0


def test_an_unplugged_sensor_is_reported_after_a_second_and_closing_works(sim: Sim) -> None:
    import picamera
    simulation = sim()
    camera = open_camera()
    output = Output(camera)
    camera.start_recording(output, format='bgr')
    output.wait_for(3)
    simulation.unplug()
    deadline = time.monotonic() + PATIENCE_S
    with pytest.raises(picamera.PiCameraRuntimeError, match='No data recevied from sensor'):
        while time.monotonic() < deadline:
            assert camera.frame
            time.sleep(0.05)
    camera.close()
    assert simulation.camera().holder_pid == 0


def test_nothing_is_left_of_a_closed_camera(sim: Sim) -> None:
    sim()
    with open_camera() as camera:
        record(camera, 2)
    threads = len(os.listdir('/proc/self/task'))
    descriptors = len(os.listdir('/proc/self/fd'))
    for _ in range(5):
        with open_camera() as camera:
            record(camera, 2)
            assert len(os.listdir('/proc/self/task')) == threads + 2
    assert len(os.listdir('/proc/self/task')) == threads
    assert len(os.listdir('/proc/self/fd')) == descriptors


def test_the_structures_have_the_sizes_that_picamera_believes(sim: Sim) -> None:
    """The state file too: its layout is told twice, in C and in mmal_kit."""
    simulation = sim()
    from picamera import mmal
    with open_camera():
        assert simulation.state_file.stat().st_size == len(mmal_kit.MAGIC) + mmal_kit.CAMERAS * mmal_kit.CAMERA.size
    assert ctypes.sizeof(mmal.MMAL_PARAMETER_CAMERA_INFO_V2_T) == 152
