"""The libcamera back end over the real, unmodified picamera2 and libcamera; only the sensors are simulated.

libcamera starts threads, so nothing here may import it: the recorder's reader process does, or a child script.
Machines that run tests are slow at times. So the cameras get many buffers where every frame is wanted, and whatever
was lost is compared with what the sensor's own ledger says.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any, Iterator, Optional

import cv2
import numpy as np
import pytest
from picamera2_kit import Bench, bench, needs_the_sensors
from picamera2_recordings import assert_accounted_for, child, last_run, record, record_again, two_sensors
from recording_tools import pages

from ProcessedPiRecorder.cameras.base import Stamp
from ProcessedPiRecorder.cameras.picamera2 import Picamera2Camera
from ProcessedPiRecorder.errors import AutomaticChoiceWarning, CameraFormatError, ResolutionRoundedWarning

pytestmark = needs_the_sensors


@pytest.fixture()
def sensors(tmp_path: Path) -> Iterator[Bench]:
    """Two simulated sensors, well."""
    yield from two_sensors(tmp_path)

# ---------------------------------------------------------------- every frame


@pytest.mark.parametrize(('pixel_format', 'start_method'), [('bgr', 'fork'), ('gray', 'spawn')])
def test_every_frame_is_recorded_in_order(tmp_path: Path, sensors: Bench, pixel_format: str, start_method: str) -> None:
    report = record(tmp_path, pixel_format=pixel_format, start_method=start_method)
    assert assert_accounted_for(tmp_path, sensors, report) == {}
    assert (report.complete, report.captured, report.loss_detection) == ('yes', 80, 'frame_duration')
    times = [stored.time_ns for stored, _ in pages(tmp_path / 'trial.tif')]
    assert set(np.diff(times)) == {25_000_000}
    assert last_run(sensors).ending == 'stop'


def test_ninety_frames_a_second(tmp_path: Path, sensors: Bench) -> None:
    with pytest.warns(AutomaticChoiceWarning, match='only 15 %'):
        report = record(tmp_path, framerate=90, pixel_format='gray')
    assert assert_accounted_for(tmp_path, sensors, report) == {}
    assert (report.complete, report.captured) == ('yes', 180)
    assert report.camera['details']['sensor_mode'].startswith('640x480')


def test_what_nobody_asked_is_chosen_well(tmp_path: Path, sensors: Bench) -> None:
    report = record(tmp_path, x_resolution=0, y_resolution=0, framerate=0, rec_length=1)
    camera = report.camera
    assert (camera['width'], camera['height']) == (1280, 720) and camera['framerate'] == pytest.approx(30, rel=1e-4)
    assert assert_accounted_for(tmp_path, sensors, report) == {} and report.complete == 'yes'
    details = camera['details']
    assert last_run(sensors).mode == '1640x1232' and details['sensor']['output_size'] == [1640, 1232]
    # Of 4:3 a 16:9 picture shows the full width and three quarters of the height, around the middle.
    assert details['field_of_view'] == pytest.approx([0, 0.126, 1, 0.749], abs=2e-3)
    assert details['format'] == 'RGB888' and details['raw_format'] is None and details['id'].startswith('/base')
    assert details['picamera2'] and details['libcamera'] and details['stride'] >= 1280 * 3
    assert camera['statistics']['delivered'] >= report.captured == 30
    assert camera['statistics']['sensor_temperature_c'] == 43


@pytest.mark.parametrize('pixel_format', ['bgr', 'gray'])
def test_the_cameras_own_processor_scales(tmp_path: Path, sensors: Bench, pixel_format: str) -> None:
    """0.3 × 1280 × 480: rows of 1152 bytes in buffers whose stride is a multiple of 64, so 1152; gray has padding."""
    report = record(tmp_path, x_resolution=1280, y_resolution=480, scale_factor=0.3, pixel_format=pixel_format,
                    rec_length=1)
    details = report.camera['details']
    assert details['frame_size'] == [384, 144] and assert_accounted_for(tmp_path, sensors, report) == {}
    odd = record_again(tmp_path, x_resolution=1000, y_resolution=600, scale_factor=0.333, pixel_format=pixel_format)
    assert odd.camera['details']['frame_size'] == [1000, 600]         # 333x200 is done by the pipeline
    _, image = next(pages(tmp_path / 'trial.tif'))
    assert image.shape[:2] == (200, 333)


def test_padding_is_left_behind(tmp_path: Path, sensors: Bench) -> None:
    report = record(tmp_path, x_resolution=650, y_resolution=482, rec_length=0.5)
    assert report.camera['details']['stride'] > 650 * 3
    assert assert_accounted_for(tmp_path, sensors, report) == {}


def test_odd_sizes_are_rounded_with_a_warning(tmp_path: Path, sensors: Bench) -> None:
    with pytest.warns(ResolutionRoundedWarning, match='641x481 became 642x482'):
        report = record(tmp_path, x_resolution=641, y_resolution=481, rec_length=0.5)
    assert (report.camera['width'], report.camera['height']) == (642, 482)

# ---------------------------------------------------------------- losses


@pytest.mark.parametrize('evidence', ['frame_duration', 'fixed_rate'])
def test_frames_that_the_sensor_drops_are_counted(tmp_path: Path, sensors: Bench, evidence: str) -> None:
    drops = [number for first in range(80, 400, 23) for number in range(first, first + 1 + first % 3)]
    sensors.set_faults(0, drop=drops, **({'hide_duration': True} if evidence == 'fixed_rate' else {}))
    report = record(tmp_path)
    lost = assert_accounted_for(tmp_path, sensors, report)
    assert report.loss_detection == evidence and report.complete == 'no'
    assert lost and set(lost.values()) == {'dropped'} and {loss.reason for loss in report.losses} == {'camera gap'}


def test_frames_with_errors_are_losses(tmp_path: Path, sensors: Bench) -> None:
    sensors.set_faults(0, error_every=9)
    report = record(tmp_path)
    lost = assert_accounted_for(tmp_path, sensors, report)
    assert set(lost.values()) == {'corrupt'} and report.lost == len(lost) >= 8


class SlowCamera(Picamera2Camera):
    """Takes twice as long over each frame as there is, which no number of buffers survives."""

    def _take(self, *arguments: Any) -> Optional[Stamp]:
        time.sleep(0.05)
        return super()._take(*arguments)


def test_what_a_slow_consumer_loses_is_what_the_sensor_could_not_deliver(tmp_path: Path, sensors: Bench) -> None:
    report = record(tmp_path, camera=SlowCamera(0), controls={'buffer_count': 8})
    lost = assert_accounted_for(tmp_path, sensors, report)
    assert set(lost.values()) == {'starved'} and report.lost == len(lost) > 20
    assert report.complete == 'no'


def test_a_pause_of_the_sensor_is_counted_whole(tmp_path: Path, sensors: Bench) -> None:
    sensors.set_faults(0, stall_from=100, stall_until=120)
    report = record(tmp_path, rec_length=4)
    lost = assert_accounted_for(tmp_path, sensors, report)
    assert sorted(lost) == list(range(100, 120)) and set(lost.values()) == {'stalled'}


def test_the_usual_loop_loses_frames_and_ours_does_not(tmp_path: Path, sensors: Bench) -> None:
    """Why ``capture_request`` is not used: a consumer that is now and then busy for a few frames."""
    code = '''
        from picamera2 import Picamera2
        picam2 = Picamera2(0)
        limits = {'FrameDurationLimits': (25000, 25000)}
        picam2.configure(picam2.create_video_configuration({'size': (640, 480)}, buffer_count=32, controls=limits))
        picam2.start()
        stamps = []
        for number in range(40):
            request = picam2.capture_request()
            stamps.append(request.get_metadata()['SensorTimestamp'])
            request.release()
            time.sleep(0.2 if number % 10 == 9 else 0)
        picam2.close()
        gaps = np.diff(stamps)
        print(json.dumps([int(np.round(gaps / 25e6).sum()) - len(gaps)]))
    '''
    assert child(code)[0] >= 8
    assert {frame.fate for frame in last_run(sensors).frames[:60]} == {'delivered'}
    ours = '''
        camera = Picamera2Camera()
        granted = camera.open(CameraRequest(640, 480, framerate=40, controls={'warm_up_s': 0.3, 'buffer_count': 32}))
        camera.start()
        out, stamps = np.empty(granted.frame_shape, np.uint8), []
        for number in range(40):
            stamps.append(camera.read(out).sensor_ns)
            time.sleep(0.2 if number % 10 == 9 else 0)
        camera.close()
        print(json.dumps(sorted(set(np.diff(stamps).tolist()))))
    '''
    assert child(ours) == [25_000_000]

# ---------------------------------------------------------------- clocks


@pytest.mark.parametrize('clock', ['boottime', 'monotonic'])
def test_the_clock_of_a_machine_that_has_slept_is_found(tmp_path: Path, clock: str) -> None:
    slept = ['unshare', '-T', '--boottime', '1000']
    if subprocess.run([*slept, 'true'], capture_output=True).returncode:
        pytest.skip('no time namespace can be made here (that takes root), so no machine that has slept')
    code = '''
        camera = Picamera2Camera()
        granted = camera.open(CameraRequest(640, 480, framerate=40, controls={'warm_up_s': 0.3}))
        camera.start()
        stamp = camera.read(np.empty(granted.frame_shape, np.uint8))
        now = {'monotonic': time.CLOCK_MONOTONIC, 'boottime': time.CLOCK_BOOTTIME}[granted.clock_base]
        age_s = (time.clock_gettime_ns(now) - stamp.sensor_ns) / 1e9
        camera.close()
        print(json.dumps([granted.clock_base, granted.clock, age_s]))
    '''
    with bench(tmp_path, clock=clock):
        base, told, age_s = child(code, *slept)
    assert base == clock and 'has slept for 1000' in told and 0 < age_s < 1

# ---------------------------------------------------------------- controls


def test_controls_reach_the_sensor(tmp_path: Path, sensors: Bench) -> None:
    asked = {'exposure_us': 8000, 'gain': 2, 'white_balance': (1.5, 1.25), 'roi': (0.5, 0.5, 0.5, 0.5)}
    report = record(tmp_path, rec_length=0.5, controls=asked)
    final = report.camera['statistics']
    assert final['exposure_us'] == pytest.approx(8000, rel=0.01) and final['gain'] == pytest.approx(2, rel=0.05)
    assert final['white_balance'] == pytest.approx([1.5, 1.25], rel=0.01)
    assert report.camera['details']['field_of_view'] == pytest.approx([0.5, 0.5, 0.5, 0.5], abs=2e-3)


def brightness_of(tmp_path: Path, **settings: Any) -> float:
    record_again(tmp_path, **settings)
    *_, (_, image) = pages(tmp_path / 'trial.tif')
    height = image.shape[0]
    return float(image[height // 4:height * 3 // 4].mean())


def test_brightness_and_exposure_act(tmp_path: Path, sensors: Bench) -> None:
    fixed = {'exposure_us': 8000, 'gain': 1}
    plain = brightness_of(tmp_path, controls=fixed)
    assert brightness_of(tmp_path, controls={**fixed, 'brightness': 0.3}) > plain + 10
    assert brightness_of(tmp_path, controls={**fixed, 'exposure_us': 3000}) < plain - 10


@pytest.mark.parametrize('freeze', [True, False])
def test_the_automatics_are_frozen_after_the_warm_up_when_told(sensors: Bench, freeze: bool) -> None:
    """A warm-up far too short for automatic exposure, which is then either stopped on its way, or goes on."""
    code = f'''
        controls = {{'warm_up_s': 0.2, 'freeze': {freeze}, 'buffer_count': 2}}
        camera = Picamera2Camera()
        granted = camera.open(CameraRequest(640, 480, framerate=10, controls=controls))
        camera.start()
        out, told = np.empty(granted.frame_shape, np.uint8), []
        for number in range(15):
            camera.read(out)
            told.append(camera.statistics()['exposure_us'])
        camera.close()
        print(json.dumps([granted.details['frozen'], granted.details['at_start']['ExposureTime'], told]))
    '''
    frozen, at_start, told = child(code)
    assert frozen is freeze and len(set(told[-5:])) == 1
    assert (abs(told[-1] - at_start) <= 0.01 * at_start) is freeze


@pytest.mark.parametrize(('controls', 'turn'), [
    ({'hflip': True}, np.fliplr), ({'vflip': True}, np.flipud), ({'rotation': 180}, lambda image: np.rot90(image, 2)),
    ({'rotation': 180, 'hflip': True}, np.flipud), ({}, np.asarray)])
def test_flips_and_turns(tmp_path: Path, sensors: Bench, controls: Any, turn: Any) -> None:
    record_again(tmp_path)
    straight = next(pages(tmp_path / 'trial.tif'))[1]
    record_again(tmp_path, controls=controls)
    turned = next(pages(tmp_path / 'trial.tif'))[1]
    kinds = [np.asarray, np.fliplr, np.flipud, lambda image: np.rot90(image, 2)]
    inside = (slice(120, 360), slice(None))          # the numbers above and below change with each frame
    distances = [float(cv2.absdiff(straight[inside], np.ascontiguousarray(kind(turned)[inside])).mean())
                 for kind in kinds]
    asked = float(cv2.absdiff(straight[inside], np.ascontiguousarray(turn(turned)[inside])).mean())
    assert asked == min(distances) and sorted(distances)[1] > 2 * asked + 1


@pytest.mark.parametrize(('settings', 'says'), [
    ({'controls': {'rotation': 90}}, 'rotation.*only by 180.*cv2.rotate'),
    ({'controls': {'gain': 60}}, 'gain=60.0 is outside of what picamera2:0'),
    ({'controls': {'iso': 100}}, "'iso'.*It supports: exposure_us, gain.*ScalerCrop"),
    ({'controls': {'exposure_us': 30_000}}, 'longer than a frame at 40 Hz'),
    ({'controls': {'FrameDurationLimits': (25_000, 25_000)}}, 'framerate and FrameDurationLimits'),
    ({'controls': {'sensor_mode': (100, 100)}}, 'no sensor mode.*1640x1232 up to'),
    ({'controls': {'sensor_mode': (3280, 2464)}}, 'cannot make 40 Hz here.*to 21.19 Hz'),
    ({'framerate': 300}, 'cannot make 300 Hz.*640x480 up to 206'),
    ({'x_resolution': 4000, 'y_resolution': 3000}, '4000x3000 is more than the sensor.*3280x2464'),
    ({'stereo': True}, r"\('picamera2:0', 'picamera2:1'\)")])
def test_what_the_camera_cannot_do(tmp_path: Path, sensors: Bench, settings: Any, says: str) -> None:
    with pytest.raises(CameraFormatError, match=says):
        record(tmp_path, **settings)
    assert not (tmp_path / 'trial.tif').exists()


def test_a_rate_that_the_sensor_does_not_keep(tmp_path: Path, sensors: Bench) -> None:
    sensors.set_faults(0, duration_factor=1.5)
    with pytest.raises(CameraFormatError, match='runs at 26.67 Hz, not at the 40 Hz'):
        record(tmp_path)


def test_a_variable_rate_of_the_users_own(tmp_path: Path, sensors: Bench) -> None:
    report = record(tmp_path, framerate=0, rec_length=1, controls={'FrameDurationLimits': (40_000, 50_000)})
    assert assert_accounted_for(tmp_path, sensors, report) == {} and report.complete == 'yes'
