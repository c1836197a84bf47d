"""The legacy stack's camera on its own: the real package picamera over the simulated firmware of tests/mmal."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import mmal_kit
import numpy as np
import pytest
from camera_kit import ListSink, run
from mmal_kit import Simulation, field_of, simulation
from recording_tools import wait_until

from ProcessedPiRecorder.cameras import CameraRequest, PicameraCamera
from ProcessedPiRecorder.errors import CameraError, CameraFormatError, CameraNotFoundError
from ProcessedPiRecorder.pipeline.losses import LossDetector

pytestmark = mmal_kit.needs_the_stub

QUICK: Dict[str, Any] = {'warm_up_s': 0.2}      # the simulated exposure has nothing to settle
SMALL: Dict[str, Any] = {'width': 640, 'height': 480, 'framerate': 60}


@pytest.fixture
def sim(tmp_path: Path) -> Iterator[Simulation]:
    """One ov5647."""
    with simulation(tmp_path) as running:
        yield running


@pytest.fixture
def stereo_sim(tmp_path: Path) -> Iterator[Simulation]:
    with simulation(tmp_path, cameras=2) as running:
        yield running


def take(limit: int = 10, number: Any = 0, **asked: Any) -> ListSink:
    """So many frames, the camera opened and closed around them."""
    asked['controls'] = {**QUICK, **asked.get('controls', {})}
    return run(PicameraCamera(number), limit, **asked)


def open_camera(number: int = 0, **asked: Any) -> 'Tuple[PicameraCamera, Any]':
    camera = PicameraCamera(number)
    return camera, camera.open(CameraRequest(controls={**QUICK, **asked.pop('controls', {})}, **asked))


def eyes(image: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    half = image.shape[1] // 2
    return image[:, :half], image[:, half:]


def first_eye(image: np.ndarray, stereo: bool) -> np.ndarray:
    return eyes(image)[0] if stereo else image


def assert_is_what_the_sensor_made(sink: ListSink, sim: Simulation, stereo: bool = False) -> None:
    """Whole frames, in order, each with the time at which the sensor began it, to the µs; lost ones where both say."""
    times = {frame.number & 0xffff: frame.stc_us * 1000 for frame in sim.frames() if frame.fate == 'delivered'}
    numbers = [mmal_kit.number_of(first_eye(image, stereo)) for image in sink.frames]
    assert numbers == sorted(set(numbers))
    assert [stamp.sensor_ns for stamp in sink.stamps] == [times[number] for number in numbers]
    detector = LossDetector('fixed_rate', 1e9 / sink.granted.framerate)      # type: ignore[operator]
    assert sum(detector.see(stamp, 0) for stamp in sink.stamps) == numbers[-1] - numbers[0] + 1 - len(numbers)


# ---------------------------------------------------------------- frames

@pytest.mark.parametrize(('asked', 'shape'), [
    ({'width': 640, 'height': 480, 'framerate': 60}, (480, 640, 3)),
    ({'width': 640, 'height': 480, 'framerate': 60, 'pixel_format': 'gray'}, (480, 640)),
    ({'width': 656, 'height': 496}, (496, 656, 3)),                            # rows of 656, of a multiple of 16
    ({'width': 656, 'height': 496, 'pixel_format': 'gray'}, (496, 656)),       # rows of 672, of a multiple of 32
    ({'width': 640, 'height': 480, 'scale_factor': 0.5}, (240, 320, 3)),
    ({'width': 640, 'height': 480, 'scale_factor': 0.5, 'pixel_format': 'gray'}, (240, 320)),
    ({'width': 640, 'height': 480, 'scale_factor': 0.33}, (160, 224, 3)),      # the pipeline takes it to 211x158
    ({}, (720, 1280, 3)),
])
def test_every_frame_whole_and_with_the_sensors_time(sim: Simulation, asked: Any, shape: Any) -> None:
    sink = take(**asked)
    granted = sink.granted
    assert granted.frame_shape == shape and {image.shape for image in sink.frames} == {shape}
    assert (granted.width, granted.height) == (asked.get('width', 1280), asked.get('height', 720))
    assert granted.framerate == pytest.approx(asked.get('framerate', 30), abs=0.002)
    assert (granted.loss_detection, granted.clock_base, granted.model) == ('fixed_rate', 'own', 'ov5647')
    assert granted.warnings == () and not granted.waits
    assert_is_what_the_sensor_made(sink, sim)
    assert {mmal_kit.eye_of(image) for image in sink.frames} == {'only'}
    assert sink.losses == []


def test_gray_is_the_luma_of_the_same_scene(sim: Simulation) -> None:
    gray, color = (take(1, pixel_format=form, **SMALL).frames[0].astype(int) for form in ('gray', 'bgr'))
    blue, green, red = (color[..., channel] for channel in range(3))
    # BT.601, 16 to 235; the square wanders, and the strips count.
    luma = 16 + (66 * red + 129 * green + 25 * blue) / 256
    assert np.median(abs(gray - luma)) <= 1 and (abs(gray - luma) <= 2).mean() > 0.8


def test_two_eyes_side_by_side_and_the_right_way_round(stereo_sim: Simulation) -> None:
    sink = take(10, width=1280, height=480, scale_factor=0.3, framerate=25, stereo=True)
    assert (sink.granted.width, sink.granted.height, sink.granted.frame_shape) == (1280, 480, (144, 384, 3))
    assert sink.granted.details['stereo_mode'] == 'side-by-side'
    for image in sink.frames:
        left, right = eyes(image)
        assert (mmal_kit.eye_of(left), mmal_kit.eye_of(right)) == ('left', 'right')
        assert mmal_kit.number_of(left) == mmal_kit.number_of(right)
    assert_is_what_the_sensor_made(sink, stereo_sim, stereo=True)


@pytest.mark.parametrize(('controls', 'mirrored'), [({}, True), ({'hflip': True}, True), ({'hflip': False}, False)])
def test_a_stereopis_eyes_are_mirrored_unless_told_otherwise(stereo_sim: Simulation, controls: Any,
                                                            mirrored: bool) -> None:
    sink = take(1, stereo=True, controls=controls)
    assert sink.granted.frame_shape == (480, 1280, 3) and sink.granted.details['flips']['hflip'] is mirrored
    for eye in eyes(sink.frames[0]):
        field = field_of(eye)
        assert bool(field.left > field.right) is mirrored and field.top < field.bottom


def test_old_firmware_sends_bgr_by_way_of_its_resizer(tmp_path: Path) -> None:
    with simulation(tmp_path, old_firmware=1) as sim:
        sink = take(width=656, height=480)
    # Which rounds the width up to 672, for the pipeline to take back.
    assert sink.granted.frame_shape == (480, 672, 3) and sink.granted.width == 656
    assert_is_what_the_sensor_made(sink, sim)


def test_frames_that_come_in_pieces(tmp_path: Path) -> None:
    with simulation(tmp_path, buffer_bytes=200_000) as sim:
        sink = take(width=640, height=480)
    assert_is_what_the_sensor_made(sink, sim)
    assert sink.losses == []


def test_a_slow_consumer_loses_what_the_firmware_discards(sim: Simulation) -> None:
    class SlowSink(ListSink):
        def commit(self, stamp: Any) -> None:
            super().commit(stamp)
            if len(self.frames) in (10, 30):
                time.sleep(0.6)

    camera, granted = open_camera(width=640, height=480, framerate=90, pixel_format='gray')
    sink = SlowSink(granted, limit=60)
    camera.start()
    camera.stream(sink)
    camera.close()
    first, last = (sink.stamps[place].sensor_ns // 1000 for place in (0, -1))      # type: ignore[operator]
    discarded = sum(frame.fate == 'no_buffer' and first < frame.stc_us < last for frame in sim.frames())
    detector = LossDetector('fixed_rate', 1e9 / granted.framerate)
    assert sum(detector.see(stamp, 0) for stamp in sink.stamps) == discarded >= 2 * 20
    assert_is_what_the_sensor_made(sink, sim)


def test_a_short_pause_loses_nothing(tmp_path: Path) -> None:
    """picamera alone would have one buffer, and the next frame nowhere to go."""
    with simulation(tmp_path, frames=1) as sim:
        class BriefSink(ListSink):
            def commit(self, stamp: Any) -> None:
                super().commit(stamp)
                if len(self.frames) == 10:
                    offered = sim.camera().offered
                    wait_until(lambda: sim.camera().offered >= offered + 5)

        camera, granted = open_camera(width=640, height=480)
        sink = BriefSink(granted, limit=20)
        camera.stream(sink)
        camera.close()
    numbers = [mmal_kit.number_of(image) for image in sink.frames]
    assert numbers[9:15] == list(range(numbers[9], numbers[9] + 6))


# ---------------------------------------------------------------- size and rate

def test_odd_sizes_are_rounded_with_a_warning(sim: Simulation) -> None:
    sink = take(2, width=647, height=488)
    assert sink.granted.frame_shape == (496, 640, 3)
    ((name, text),) = sink.granted.warnings
    assert name == 'ResolutionRoundedWarning' and '647x488' in text and '640x496' in text


def test_a_sensor_that_is_too_slow_says_so(sim: Simulation) -> None:
    with pytest.raises(CameraFormatError, match=r'runs at 30\.0 Hz at 1920x1088, not at the 90 asked for; ask for '
                                                r'framerate=30, or for another size .*640x480 up to 90 Hz'):
        take(width=1920, height=1080, framerate=90)
    assert sim.camera().holder_pid == 0                # and it was closed
    assert take(2, width=1920, height=1080, framerate=30).granted.framerate == pytest.approx(30, abs=0.002)


def test_without_a_rate_the_sensors_own_is_granted(sim: Simulation) -> None:
    assert take(2, width=2592, height=1944).granted.framerate == pytest.approx(15, abs=0.002)


def test_a_camera_that_loses_every_second_frame_has_no_rate_of_its_own(sim: Simulation) -> None:
    sim.swallow_every(2)
    with pytest.raises(CameraError, match=r'sends 15 frames a second when it is set to 30 Hz, and 7\.5 when it '
                                                r'is set to 15: it loses frames all the time\. Ask for a lower'):
        take(width=640, height=480)
    assert sim.camera().holder_pid == 0


def test_a_slow_rate_takes_its_time(sim: Simulation) -> None:
    assert take(2, width=640, height=480, framerate=1.5).granted.framerate == pytest.approx(1.5, abs=0.001)
    with pytest.raises(CameraFormatError, match='0.1 Hz; use 0.2 Hz or more'):
        take(framerate=0.1)


def test_the_rate_is_measured_through_lost_frames(sim: Simulation) -> None:
    sim.swallow_every(3)
    sink = take(20, width=640, height=480, framerate=60)
    assert sink.granted.framerate == pytest.approx(60, abs=0.005)
    assert_is_what_the_sensor_made(sink, sim)
    numbers = [mmal_kit.number_of(image) for image in sink.frames]
    assert all(number % 3 for number in numbers)


def test_a_sensor_a_little_off_its_rate_invents_no_losses(tmp_path: Path) -> None:
    """The true rate is granted, and timestamps that shiver are not taken for lost frames."""
    with simulation(tmp_path, slower_ppm=8000, jitter_us=900) as sim:
        sink = take(60, width=640, height=480, framerate=90, controls={'warm_up_s': 1})
        assert sink.granted.framerate == pytest.approx(90 / 1.008, rel=2e-3)
        assert_is_what_the_sensor_made(sink, sim)


def test_a_sensor_too_far_off_its_rate_is_refused(tmp_path: Path) -> None:
    with simulation(tmp_path, slower_ppm=30_000):
        with pytest.raises(CameraFormatError, match=r'runs at 87\.4 Hz.*not at the 90 asked.*framerate=87.38'):
            take(width=640, height=480, framerate=90)


def test_the_drift_of_the_firmwares_clock_is_told(tmp_path: Path) -> None:
    with simulation(tmp_path, stc_drift_ppm=2000):
        camera, granted = open_camera(**SMALL)
        camera.stream(ListSink(granted, limit=60))
        statistics = camera.statistics()
        camera.close()
    # A second, and what the machine adds, at 2 ms a second: the firmware's clock gains, so there is less to add.
    drift_ns = statistics['clock_offset_at_end_ns'] - statistics['clock_offset_at_start_ns']
    assert -60_000_000 < drift_ns < -1_500_000


def test_the_firmwares_clock_is_tied_to_the_systems(tmp_path: Path) -> None:
    with simulation(tmp_path, stc_offset_us=987_654_321):
        camera, granted = open_camera(**SMALL)
        camera.stream(ListSink(granted, limit=5))
        statistics = camera.statistics()
        camera.close()
    uncertainty = statistics['clock_offset_uncertainty_ns'] + 2000       # the firmware tells whole µs
    assert abs(granted.clock_offset_ns + 987_654_321_000) <= uncertainty
    assert statistics['delivered'] == 5 and statistics['damaged'] == 0
    assert statistics['sensor_hz'] == pytest.approx(60, abs=0.05)
    assert statistics['in_force_at_end'] == granted.details['in_force']


# ---------------------------------------------------------------- controls

def test_flips_rotation_and_region_act_on_the_pixels(sim: Simulation) -> None:
    plain = field_of(take(1, **SMALL).frames[0])
    assert np.allclose(plain, (0, 0, 1, 1), atol=0.02)
    for controls, field in (({'hflip': True}, (1, 0, 0, 1)), ({'vflip': True}, (0, 1, 1, 0)),
                            ({'rotation': 180}, (1, 1, 0, 0)), ({'rotation': 180, 'hflip': True}, (0, 1, 1, 0)),
                            ({'roi': (0.25, 0.5, 0.5, 0.25)}, (0.25, 0.5, 0.75, 0.75))):
        image = take(1, **SMALL, controls=controls).frames[0]
        assert np.allclose(field_of(image), field, atol=0.02), controls


def test_brightness_and_contrast_act_on_the_pixels(sim: Simulation) -> None:
    def scene(**controls: Any) -> np.ndarray:
        return take(1, **SMALL, controls=controls).frames[0][60:-60].astype(float)
    plain = scene()
    assert scene(brightness=0.2).mean() == pytest.approx(plain.mean() + 0.1 * 256, abs=3)
    assert scene(contrast=0.5).std() == pytest.approx(plain.std() / 2, rel=0.1)
    assert np.median(abs(scene(brightness=0, contrast=1) - plain)) == 0


def test_exposure_gain_and_white_balance_are_set_and_read_back(sim: Simulation) -> None:
    sink = take(1, **SMALL, controls={'exposure_us': 5000, 'gain': 2.5, 'white_balance': (1.5, 1.25)})
    granted = sink.granted.details['in_force']
    assert (granted['exposure_us'], granted['analog_gain'], granted['digital_gain']) == (5000, 2.5, 1.0)
    assert granted['white_balance'] == [1.5, 1.25] and granted['awb_mode'] == 'off'
    assert sink.granted.details['camera_controls']['gain'] == 2.5


def test_freeze_keeps_what_the_warm_up_found(sim: Simulation) -> None:
    free, frozen = (take(1, **SMALL, controls={'freeze': freeze}).granted.details['in_force']
                    for freeze in (False, True))
    assert (free['exposure_mode'], free['awb_mode']) == ('auto', 'auto')
    assert (frozen['exposure_mode'], frozen['awb_mode']) == ('off', 'off')
    for name in ('exposure_us', 'analog_gain', 'white_balance'):
        assert frozen[name] == free[name]


def test_picameras_own_controls_are_passed_on(sim: Simulation) -> None:
    controls = {'iso': 400, 'exposure_mode': 'sports', 'awb_mode': 'tungsten', 'meter_mode': 'spot', 'sharpness': 10,
                'saturation': -20, 'drc_strength': 'low', 'image_effect': 'colorbalance', 'video_denoise': False,
                'image_effect_params': (1.0, 1.0, 1.0), 'color_effects': (128, 128), 'exposure_compensation': 6,
                'video_stabilization': True, 'image_denoise': False, 'sensor_mode': 7}
    camera, granted = open_camera(width=640, height=480, framerate=70, controls=controls)
    try:
        assert {name: getattr(camera._camera, name) for name in controls} == controls
        assert granted.details['sensor_mode'] == 7
    finally:
        camera.close()


def test_a_firmware_too_old_for_gains_says_so(tmp_path: Path) -> None:
    with simulation(tmp_path, no_gain=1) as sim:
        with pytest.raises(CameraFormatError, match="'gain'.*too old.*use iso") as caught:
            take(controls={'gain': 2})
        assert 'exposure_us, white_balance' in str(caught.value)        # what it does support, and no gain
        assert sim.camera().holder_pid == 0


@pytest.mark.parametrize(('controls', 'says'), [
    ({'image_effect': 'sepia'}, "image_effect='sepia'.*Invalid image effect"),
    ({'image_effect': 'blur', 'image_effect_params': (1, 2, 3)}, 'image_effect_params'),
    ({'shutter_speed': 1000}, "'shutter_speed'.*exposure_us"),
    ({'exposure_us': 40_000}, 'ask for framerate=25 or less')])
def test_what_picamera_refuses_is_told_by_name(sim: Simulation, controls: Any, says: str) -> None:
    with pytest.raises(CameraFormatError, match=says):
        take(controls=controls)
    assert sim.camera().holder_pid == 0


# ---------------------------------------------------------------- what goes wrong

def test_no_camera_module(tmp_path: Path) -> None:
    with simulation(tmp_path, cameras=0):
        with pytest.raises(CameraNotFoundError, match='sees no camera module; check the ribbon cable.*raspi-config'):
            take()
        (line,) = PicameraCamera.listings()
        assert not line.available and 'ribbon cable' in line.why_not


def test_a_number_that_is_not_there(sim: Simulation) -> None:
    for number in (1, '7'):
        with pytest.raises(CameraNotFoundError, match=f"no camera='picamera:{number}'.*picamera:0 .ov5647"):
            take(number=number)


def test_stereo_needs_two(sim: Simulation) -> None:
    with pytest.raises(CameraNotFoundError, match='stereo=True needs two camera modules.*sees one'):
        take(stereo=True)


def test_a_camera_in_use_is_still_listed(stereo_sim: Simulation) -> None:
    camera, _ = open_camera()
    try:
        lines = PicameraCamera.listings()
    finally:
        camera.close()
    assert [(line.name, line.available) for line in lines] == [('picamera:0', True), ('picamera:1', True)]
    assert 'ov5647, 2592x1944' in lines[0].description and 'stereo=True' in lines[0].description
    assert '640x480 up to 90 Hz' in lines[0].modes


HOLDER = '''
import sys, time, picamera
held = open(sys.argv[1])
with picamera.PiCamera(resolution=(640, 480)):
    print('held', flush=True)
    sys.stdin.readline()
'''


def test_a_camera_taken_by_another_program(sim: Simulation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ProcessedPiRecorder.cameras.mmal import stack
    device = tmp_path / 'vchiq'
    device.write_bytes(b'')
    monkeypatch.setattr(stack, 'VCHIQ', str(device))
    with subprocess.Popen([sys.executable, '-W', 'ignore', '-c', HOLDER, str(device)], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdin is not None
        assert holder.stdout.readline() == 'held\n'
        with pytest.raises(CameraError, match=rf'another program has the camera \(using the firmware now: .*, pid '
                                              rf'{holder.pid}\).*gpu_mem=128'):
            take()
        assert sim.camera().holder_pid == holder.pid
        holder.stdin.write('\n')
    assert len(take(3).frames) == 3


def test_a_device_that_this_user_may_not_open(sim: Simulation, tmp_path: Path,
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    from ProcessedPiRecorder.cameras.mmal import stack
    device = tmp_path / 'vchiq'
    device.write_bytes(b'')
    monkeypatch.setattr(stack, 'VCHIQ', str(device))
    monkeypatch.setattr(os, 'access', lambda path, mode: path != str(device))
    with pytest.raises(CameraError, match='usermod -aG video'):
        take()
    (line,) = PicameraCamera.listings()
    assert not line.available and 'usermod' in line.why_not


@pytest.mark.parametrize('status', ['ENOMEM', 'ENOSPC'])
@pytest.mark.parametrize('step', ['camera', 'connection', 'enable', 'resizer', 'port', 'pool'])
def test_out_of_gpu_memory_or_taken(tmp_path: Path, step: str, status: str) -> None:
    with simulation(tmp_path, refuse=f'{step}:{status}') as sim:
        with pytest.raises(CameraError, match='another program has the camera.*gpu_mem=128'):
            take(width=640, height=480, scale_factor=0.5)
        del os.environ['MMALSIM_REFUSE']
        assert sim.camera().holder_pid == 0
        assert len(take(3).frames) == 3      # nothing was left half open


def test_a_size_that_the_firmware_refuses(sim: Simulation, monkeypatch: pytest.MonkeyPatch) -> None:
    from ProcessedPiRecorder.cameras.mmal import stack
    monkeypatch.setattr(stack, 'camera_modules', lambda: [stack.Module('imx999', 9999, 9999)])
    with pytest.raises(CameraFormatError, match='at 4000x4000, 30 Hz: the firmware refuses this.*another size'):
        take(width=4000, height=4000)


def streaming(camera: PicameraCamera, sink: Any) -> 'Tuple[threading.Thread, List[BaseException]]':
    """camera.stream(sink) in a thread; what it raised."""
    raised: List[BaseException] = []

    def stream() -> None:
        try:
            camera.stream(sink)
        except BaseException as error:
            raised.append(error)
    thread = threading.Thread(target=stream)
    thread.start()
    return thread, raised


class WokenSink(ListSink):
    """Stops when it is told to, and then wakes the camera."""

    wakes: 'List[Callable[[], None]]'

    def when_stopping(self, wake: Callable[[], None]) -> None:
        self.wakes = [wake]

    def stop(self) -> None:
        self.stopping = True
        for wake in self.wakes:
            wake()


def test_unplugged_in_the_middle(sim: Simulation) -> None:
    camera, granted = open_camera(**SMALL)
    sink = WokenSink(granted)
    thread, raised = streaming(camera, sink)
    wait_until(lambda: len(sink.frames) > 5)
    sim.unplug()
    thread.join(20)
    (error,) = raised
    assert isinstance(error, CameraError) and 'broke off' in str(error) and 'ribbon cable' in str(error)
    camera.close()
    assert sim.camera().holder_pid == 0
    assert_is_what_the_sensor_made(sink, sim)


def test_unplugged_before_the_first_frame(sim: Simulation) -> None:
    sim.unplug()
    with pytest.raises(CameraError, match='No data .*ribbon cable'):
        take(controls={'warm_up_s': 3})
    assert sim.camera().holder_pid == 0


def test_no_frame_at_all(sim: Simulation, monkeypatch: pytest.MonkeyPatch) -> None:
    from ProcessedPiRecorder.cameras import picamera
    monkeypatch.setattr(picamera, 'SILENCE_S', 0.5)
    sim.stall()
    with pytest.raises(CameraError, match='sends no picture; check its ribbon cable'):
        take()
    assert sim.camera().holder_pid == 0


@pytest.mark.parametrize('how', ['stop', 'close'])
def test_a_silent_camera_can_be_stopped_and_closed(sim: Simulation, how: str) -> None:
    camera, granted = open_camera(**SMALL)
    sink = WokenSink(granted)
    thread, raised = streaming(camera, sink)
    wait_until(lambda: len(sink.frames) > 2)
    sim.stall()
    time.sleep(0.1)
    assert thread.is_alive()
    sink.stop() if how == 'stop' else camera.close()
    thread.join(10)
    assert not thread.is_alive() and raised == []
    camera.close()
    assert sim.camera().holder_pid == 0
    assert camera.statistics()['delivered'] == len(sink.frames)


def test_an_error_in_the_sink_surfaces_as_it_is(sim: Simulation) -> None:
    class BrokenSink(ListSink):
        def commit(self, stamp: Any) -> None:
            raise BrokenPipeError('the writer process is gone')

    camera, granted = open_camera(**SMALL)
    with pytest.raises(BrokenPipeError, match='the writer process is gone'):
        camera.stream(BrokenSink(granted))
    camera.close()
    assert sim.camera().holder_pid == 0


def test_streaming_a_camera_that_is_not_open() -> None:
    with pytest.raises(CameraError, match='open the camera first'):
        PicameraCamera().stream(ListSink(None))      # type: ignore[arg-type]


def test_reopening_leaks_nothing(sim: Simulation) -> None:
    camera = PicameraCamera()

    def once() -> Tuple[int, int]:
        sink = ListSink(camera.open(CameraRequest(controls=QUICK, **SMALL)), limit=3)
        camera.start()
        camera.stream(sink)
        camera.close()
        camera.close()
        assert len(sink.frames) == 3 and sim.camera().holder_pid == 0
        gc.collect()
        return len(os.listdir('/proc/self/fd')), len(os.listdir('/proc/self/task'))

    first = once()
    assert [once() for _ in range(3)] == [first] * 3


def test_opening_it_again_closes_it_first(sim: Simulation) -> None:
    camera, _ = open_camera(**SMALL)
    sink = ListSink(camera.open(CameraRequest(800, 608, controls=QUICK)), limit=3)
    camera.stream(sink)
    camera.close()
    assert {image.shape for image in sink.frames} == {(608, 800, 3)}


def test_the_second_camera(stereo_sim: Simulation) -> None:
    sink = take(3, number='1', width=640, height=480)
    assert stereo_sim.frames(1) and not stereo_sim.frames(0)
    assert sink.granted.details['camera_number'] == 1
