"""The parts of the libcamera back end that need no camera: formats, modes, controls, clocks, errors."""

from __future__ import annotations

import os
import re
from collections import deque
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Dict, List, Optional

import cv2
import numpy as np
import pytest

from ProcessedPiRecorder.cameras import CameraRequest, stacks
from ProcessedPiRecorder.cameras.controls import CommonControls
from ProcessedPiRecorder.cameras.libcamera import system
from ProcessedPiRecorder.cameras.libcamera.controls import (
    OWN,
    crop,
    frame_duration_us,
    frozen,
    plan,
    read_own,
    unmet,
)
from ProcessedPiRecorder.cameras.libcamera.formats import (
    CHOICES,
    PixelCopy,
    SensorMode,
    choose_format,
    choose_mode,
    even,
    nearest_sizes,
    sensor_modes,
    substitution,
)
from ProcessedPiRecorder.cameras.libcamera.probe import Sample, judge, require_rate
from ProcessedPiRecorder.cameras.libcamera.session import Session
from ProcessedPiRecorder.cameras.libcamera.system import (
    Found,
    Stack,
    explain,
    find,
    found,
    load,
    plain,
    reasons,
)
from ProcessedPiRecorder.cameras.picamera2 import Picamera2Camera
from ProcessedPiRecorder.errors import CameraError, CameraFormatError, CameraNotFoundError, RecorderError

# ---------------------------------------------------------------- pixels

WIDTH, HEIGHT, PADDING = 32, 16, 24


@pytest.fixture()
def scene() -> np.ndarray:
    """BGR, of smooth colours, so that formats with less colour than brightness come near."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.stack([60 + 4 * x, 200 - 6 * y, 40 + 2 * x + 4 * y], axis=-1).astype(np.uint8)


def padded(rows: np.ndarray, stride: int) -> np.ndarray:
    """Rows of bytes as a buffer with padding that nobody may see, and something behind the picture."""
    buffer = np.full((rows.shape[0] + 3, stride), 255, np.uint8)
    buffer[:rows.shape[0], :rows.shape[1]] = rows
    return buffer.reshape(-1)


def encode(scene: np.ndarray, form: str, stride: int) -> np.ndarray:
    """The scene as libcamera would lay it out."""
    packed = {'RGB888': None, 'BGR888': cv2.COLOR_BGR2RGB, 'XRGB8888': cv2.COLOR_BGR2BGRA,
              'XBGR8888': cv2.COLOR_BGR2RGBA}
    if form in packed:
        code = packed[form]
        image = scene if code is None else cv2.cvtColor(scene, code)
        return padded(image.reshape(HEIGHT, -1), stride)
    planes = cv2.cvtColor(scene, cv2.COLOR_BGR2YUV_I420).reshape(-1)
    area = WIDTH * HEIGHT
    luma = planes[:area].reshape(HEIGHT, WIDTH)
    u, v = (plane.reshape(HEIGHT // 2, WIDTH // 2) for plane in (planes[area:area * 5 // 4], planes[area * 5 // 4:]))
    if form == 'R8':
        return padded(luma, stride)
    if form in ('YUYV', 'UYVY'):
        full_u, full_v = (np.repeat(plane, 2, axis=0) for plane in (u, v))
        colours = np.stack([full_u, full_v], axis=-1).reshape(HEIGHT, WIDTH)
        pair = (luma, colours) if form == 'YUYV' else (colours, luma)
        return padded(np.stack(pair, axis=-1).reshape(HEIGHT, -1), stride)
    first, second = (u, v) if form in ('YUV420', 'NV12') else (v, u)
    if form in ('NV12', 'NV21'):
        return np.concatenate([padded(luma, stride)[:HEIGHT * stride],
                               padded(np.stack([first, second], axis=-1).reshape(HEIGHT // 2, WIDTH), stride)])
    return np.concatenate([padded(luma, stride)[:HEIGHT * stride],
                           padded(first, stride // 2)[:HEIGHT // 2 * stride // 2], padded(second, stride // 2)])


def stride_of(form: str, padding: int) -> int:
    return WIDTH * {'RGB888': 3, 'BGR888': 3, 'XRGB8888': 4, 'XBGR8888': 4, 'YUYV': 2, 'UYVY': 2}.get(form, 1) + padding


@pytest.mark.parametrize('padding', [0, PADDING])
@pytest.mark.parametrize('form', CHOICES['bgr'])
def test_every_format_becomes_bgr_without_its_padding(scene: np.ndarray, form: str, padding: int) -> None:
    out = np.full(scene.shape, 77, np.uint8)
    stride = stride_of(form, padding)
    PixelCopy(form, (WIDTH, HEIGHT), stride, 'bgr')(encode(scene, form, stride), out)
    if form == 'R8':
        wanted = cv2.cvtColor(cv2.cvtColor(scene, cv2.COLOR_BGR2YUV_I420)[:HEIGHT], cv2.COLOR_GRAY2BGR)
    else:
        wanted = scene
    worst = int(np.abs(out.astype(int) - wanted).max())
    assert worst == 0 if form in (*CHOICES['bgr'][:4], 'R8') else worst < 12
    assert bool(substitution(form, 'bgr')) == (form not in (*CHOICES['bgr'][:4], 'R8'))


@pytest.mark.parametrize('padding', [0, PADDING])
@pytest.mark.parametrize('form', CHOICES['gray'])
def test_every_format_becomes_gray_without_its_padding(scene: np.ndarray, form: str, padding: int) -> None:
    out = np.full(scene.shape[:2], 77, np.uint8)
    stride = stride_of(form, padding)
    PixelCopy(form, (WIDTH, HEIGHT), stride, 'gray')(encode(scene, form, stride), out)
    from_colour = form in CHOICES['bgr'][:4]
    wanted = cv2.cvtColor(scene, cv2.COLOR_BGR2GRAY) if from_colour else \
        cv2.cvtColor(scene, cv2.COLOR_BGR2YUV_I420)[:HEIGHT]
    np.testing.assert_array_equal(out, wanted)
    assert substitution(form, 'gray') == ''


def test_the_best_format_offered_is_taken() -> None:
    assert choose_format(['YUYV', 'XRGB8888', 'RGB888'], 'bgr', 'cam') == 'RGB888'
    assert choose_format(['RGB888', 'NV12'], 'gray', 'cam') == 'NV12'
    with pytest.raises(CameraFormatError, match='cam offers the pixel formats MJPEG.*lossy.*opencv:N'):
        choose_format(['MJPEG'], 'bgr', 'cam')
    with pytest.raises(CameraFormatError, match=r'\(none\)') as caught:
        choose_format([], 'gray', 'cam')
    assert 'lossy' not in str(caught.value)

# ---------------------------------------------------------------- sensor modes

# Those of an IMX219, as picamera2 tells them.
IMX219 = [{'format': 'SRGGB10', 'bit_depth': depth, 'size': size, 'fps': fps, 'crop_limits': box}
          for depth in (8, 10) for size, fps, box in (
              ((640, 480), 206.65, (1000, 752, 1280, 960)), ((1640, 1232), 41.85, (0, 0, 3280, 2464)),
              ((1920, 1080), 47.57, (680, 692, 1920, 1080)), ((3280, 2464), 21.19, (0, 0, 3280, 2464)))]


@pytest.mark.parametrize(('size', 'rate', 'mode', 'says'), [
    ((640, 480), 30, (1640, 1232), ''),                       # not the 640x480 mode, which shows the middle only
    ((640, 480), 90, (640, 480), 'only 15 %.*up to 41.85 Hz'),
    ((1280, 720), 40, (1640, 1232), ''),
    ((1920, 1080), 30, (1920, 1080), r'only 26 %.*\(1640, 1232\)}'),
    ((1920, 1080), 20, (3280, 2464), ''),
    ((1280, 720), 60, (640, 480), 'only 15 %.*up to 41.85 Hz.*enlarged'),
    ((640, 480), 42.5, (1640, 1232), ''),                     # within 2 % of what it can do
])
def test_the_sensor_mode_with_the_widest_view_is_taken(size: Any, rate: float, mode: Any, says: str) -> None:
    chosen, warning = choose_mode(sensor_modes(IMX219), size, rate, 'cam')
    assert chosen.size == mode and chosen.bit_depth == 10
    assert re.search(says, warning) if says else warning == ''


def test_a_crop_that_need_not_be_is_told_with_its_remedy() -> None:
    modes = [SensorMode(640, 480, 10, 60.0, (100, 100, 640, 480)), SensorMode(600, 400, 10, 60.0, (0, 0, 2000, 1500))]
    assert "'sensor_mode': (600, 400)" in choose_mode(modes, (640, 480), 30, 'cam')[1]


def test_no_mode_is_fast_enough() -> None:
    with pytest.raises(CameraFormatError, match='cam cannot make 300 Hz.*640x480 up to 206.7 Hz'):
        choose_mode(sensor_modes(IMX219), (640, 480), 300, 'cam')


def test_webcams_have_no_modes_to_speak_of() -> None:
    assert sensor_modes([{'format': 'YUYV'}, {'format': 'MJPEG'}]) == []


def test_sizes() -> None:
    assert even((641, 480)) == (642, 480) and even((640, 481)) == (640, 482)
    assert nearest_sizes([(1920, 1080), (640, 480), (320, 240), (640, 480)], (700, 500), 2) == [(640, 480), (320, 240)]

# ---------------------------------------------------------------- controls

OFFERED: Dict[str, Any] = {
    'ExposureTime': (75, 11_766_829, 20_000), 'AnalogueGain': (1.0, 10.666, 1.0), 'ColourGains': (0.0, 32.0, None),
    'Brightness': (-1.0, 1.0, 0.0), 'Contrast': (0.0, 32.0, 1.0), 'AeEnable': (False, True, True),
    'AwbEnable': (False, True, True), 'ScalerCrop': ((0, 0, 64, 64), (0, 0, 3280, 2464), (0, 0, 3280, 2464)),
    'Sharpness': (0.0, 16.0, 1.0), 'AeMeteringMode': (0, 3, 0), 'FrameDurationLimits': (47_183, 11_767_556, None)}


class Metering:
    __members__ = {'CentreWeighted': 0, 'Spot': 1}


ENUMS = SimpleNamespace(AeMeteringModeEnum=Metering, draft=SimpleNamespace())


def test_common_names_become_libcameras() -> None:
    made = plan({'exposure_us': 5000, 'gain': 2, 'white_balance': (1.5, 1.25), 'brightness': 0.1, 'contrast': 1.5,
                 'hflip': True, 'rotation': 180, 'roi': (0, 0, 0.5, 0.5), 'warm_up_s': 2}, OFFERED, 'cam')
    assert made.native == {'ExposureTime': 5000, 'AnalogueGain': 2.0, 'ColourGains': (1.5, 1.25), 'Brightness': 0.1,
                           'Contrast': 1.5, 'AeEnable': False, 'AwbEnable': False}
    assert (made.hflip, made.vflip) == (False, True)         # turned by 180° and mirrored
    assert made.common.roi == (0, 0, 0.5, 0.5)
    assert plan({}, OFFERED, 'cam') == (CommonControls(), {}, False, False)


def test_one_of_exposure_and_gain_leaves_the_other_automatic() -> None:
    assert plan({'exposure_us': 5000}, OFFERED, 'cam').native == {'ExposureTime': 5000}
    without_switch = {name: limits for name, limits in OFFERED.items() if name != 'AeEnable'}
    assert plan({'exposure_us': 5000, 'gain': 1}, without_switch, 'cam').native == \
        {'ExposureTime': 5000, 'AnalogueGain': 1.0}


def test_libcameras_own_names_pass_through() -> None:
    made = plan({'Sharpness': np.float32(2), 'AeMeteringMode': 'Spot', 'AeEnable': False}, OFFERED, 'cam', ENUMS)
    assert made.native == {'Sharpness': 2.0, 'AeMeteringMode': 1, 'AeEnable': False}
    assert type(made.native['Sharpness']) is float
    made = plan({'ColourGains': np.array([1.5, 2]), 'ExposureTime': 5000.0, 'AeEnable': 1,
                 'ScalerCrop': [8, 8, 640, 480]}, OFFERED, 'cam')
    assert made.native == {'ColourGains': [1.5, 2.0], 'ExposureTime': 5000, 'AeEnable': True, 'AwbEnable': False,
                           'ScalerCrop': (8, 8, 640, 480)}
    assert type(made.native['AeEnable']) is bool and type(made.native['ExposureTime']) is int


@pytest.mark.parametrize(('controls', 'says'), [
    ({'gain': 12}, 'gain=12.*1 to 10.666'),
    ({'exposure_us': 50}, 'exposure_us=50.*75 to'),
    ({'Sharpness': 20}, 'Sharpness=20.*0 to 16'),
    ({'Sharpness': 'much'}, "Sharpness='much'.*a number"),
    ({'Brightness': [0, 0.5]}, r'Brightness=\[0, 0.5\].*use a number'),
    ({'ColourGains': [1.5]}, r'ColourGains=\[1.5\].*use 2 numbers'),
    ({'ColourGains': 2}, 'ColourGains=2 .*use 2 numbers'),
    ({'ExposureTime': 5000.5}, 'ExposureTime=5000.5.*use a whole number'),
    ({'ExposureTime': float('nan')}, 'ExposureTime=nan.*use a whole number'),
    ({'AeEnable': 2}, 'AeEnable=2 .*use True or False'),
    ({'AeEnable': 'maybe'}, "AeEnable='maybe' .*use True or False"),
    ({'ScalerCrop': [0, 0, 640]}, r'ScalerCrop=\[0, 0, 640\].*use \(x, y, width, height\)'),
    ({'ScalerCrop': 'full'}, r"ScalerCrop='full'.*use \(x, y, width, height\)"),
    ({'ScalerCrop': (0, 0, 9999, 9999)}, r'not within .*inside \(0, 0, 3280, 2464\)'),
    ({'AeMeteringMode': 'Dot'}, "AeMeteringMode='Dot'.*'CentreWeighted', 'Spot'"),
    ({'rotation': 90}, 'rotation.*only by 180.*supports: exposure_us'),
    ({'shutter': 5}, "'shutter'.*supports: exposure_us.*warm_up_s.*AeEnable"),
    ({'gain': 2, 'AnalogueGain': 3}, 'gain and AnalogueGain are the same'),
    ({'white_balance': (1, 9)}, 'white_balance')])
def test_controls_that_cannot_be_had(controls: Any, says: str) -> None:
    with pytest.raises(CameraFormatError, match=says):
        plan(controls, OFFERED, 'cam', ENUMS)


@pytest.mark.parametrize('name', ['exposure_us', 'gain', 'brightness', 'contrast', 'white_balance', 'roi'])
def test_a_camera_without_controls_says_what_it_has(name: str) -> None:
    value = {'white_balance': (1, 1), 'roi': (0, 0, 0.5, 1)}.get(name, 1)
    with pytest.raises(CameraFormatError, match=f"'{name}': it offers no .* supports: hflip, vflip, rot"):
        plan({name: value}, {}, 'cam')


@pytest.mark.parametrize(('controls', 'says'), [
    ({'warm_up_s': 0}, '0.2 to 30'), ({'warm_up_s': 'long'}, 'seconds'), ({'warm_up_s': True}, 'seconds'),
    ({'buffer_count': 1}, '2 to 64'), ({'buffer_count': 4.5}, 'whole number'), ({'sensor_mode': 3}, 'width, height'),
    ({'sensor_mode': (640,)}, 'width, height'), ({'freeze': 'yes'}, 'True or False')])
def test_controls_of_our_own(controls: Any, says: str) -> None:
    with pytest.raises(CameraFormatError, match=says):
        read_own(controls, 'cam')


def test_defaults_of_our_own() -> None:
    assert read_own({}, 'cam') == (OWN['buffer_count'][0], OWN['warm_up_s'][0], None, False)
    given = {'sensor_mode': [640, 480], 'freeze': False, 'buffer_count': None}
    assert read_own(given, 'cam') == (8, 1.0, (640, 480), False)


def test_the_region_of_interest_keeps_the_shape_of_the_picture() -> None:
    most = (8, 16, 3280, 2460)
    assert crop((0, 0, 1, 1), most, (640, 480)) == most
    assert crop((0, 0, 1, 1), most, (1280, 720)) == (8, 16 + (2460 - 1845) // 2 + 1, 3280, 1845)
    assert crop((0.5, 0.5, 0.5, 0.5), most, (640, 480)) == (8 + 1640, 16 + 1230, 1640, 1230)
    x, y, width, height = crop((0.25, 0, 0.25, 1), most, (480, 480))
    assert width == height == 820 and x == 8 + 820 and y == 16 + (2460 - 820) // 2


def test_frame_durations_within_the_cameras_limits() -> None:
    assert frame_duration_us(40, (24_000, 1_000_000, None), 'cam') == 25_000
    assert frame_duration_us(42, (24_000, 1_000_000, None), 'cam') == 24_000       # 0.8 % slower
    assert frame_duration_us(60, (24_000, 1_000_000, None), 'cam', exact=False) == 24_000
    assert frame_duration_us(25, ((24_000, 24_000), (1_000_000, 1_000_000)), 'cam') == 40_000
    with pytest.raises(CameraFormatError, match='60 Hz.*1 to 41.67 Hz'):
        frame_duration_us(60, (24_000, 1_000_000, None), 'cam')
    with pytest.raises(CameraFormatError, match='0.1 Hz.*1 to 41.67 Hz'):
        frame_duration_us(0.1, (24_000, 1_000_000, None), 'cam')


def test_what_the_frames_say_was_not_done() -> None:
    native = {'ExposureTime': 20_000, 'AnalogueGain': 12.0, 'ColourGains': (1.5, 2.0)}
    assert unmet(native, {'ExposureTime': 19_990, 'AnalogueGain': 11.9, 'ColourGains': (1.5, 2.0)}, 'cam') == []
    assert unmet(native, {}, 'cam') == []
    told = unmet(native, {'ExposureTime': 10_000, 'AnalogueGain': 10.7, 'ColourGains': (1.5, 1.0)}, 'cam')
    assert [text.split()[2] for text in told] == ['ExposureTime', 'AnalogueGain', 'ColourGains']


def test_automatics_are_frozen_where_they_are() -> None:
    frame = {'ExposureTime': 9000, 'AnalogueGain': 2.5, 'ColourGains': (1.2, 1.3)}
    assert frozen({}, frame, OFFERED) == {**frame, 'AeEnable': False, 'AwbEnable': False}
    assert frozen({'ExposureTime': 500}, frame, OFFERED) == \
        {'AnalogueGain': 2.5, 'ColourGains': (1.2, 1.3), 'AeEnable': False, 'AwbEnable': False}
    assert frozen({'AeEnable': True, 'AwbEnable': True}, frame, OFFERED) == {}
    assert frozen({}, frame, {}) == {} and frozen({}, {}, OFFERED) == {}

# ---------------------------------------------------------------- clocks, rates, losses


def frames(gap_us: float, duration_us: Optional[float], *, age_ns: int = 30_000_000, slept_ns: int = 0,
           clock: str = 'boottime', count: int = 20, skip: int = 0) -> List[Sample]:
    """Frames as they arrive; every third gap is ``skip`` frames longer."""
    samples, sensor_ns = [], 5_000_000_000_000
    for number in range(count):
        sensor_ns += round(1000 * gap_us * (1 + (skip if number % 3 == 0 else 0)))
        boot = sensor_ns + age_ns + (0 if clock == 'boottime' else slept_ns)
        samples.append(Sample(sensor_ns, duration_us, boot - slept_ns, boot))
    return samples


def test_the_frames_own_duration_is_the_best_evidence() -> None:
    found_out = judge(frames(25_000, 25_000), 25_000)
    assert (found_out.rate, found_out.loss_detection) == (40, 'frame_duration')
    assert judge(frames(25_010, 25_000, skip=2), None).loss_detection == 'frame_duration'
    # A reader so slow that it gets every second frame only does not change what the sensor does.
    assert judge(frames(50_000, 25_000), 25_000)[:2] == (40, 'frame_duration')


def test_a_duration_that_the_timestamps_belie_is_not_believed() -> None:
    assert judge(frames(40_000, 25_000), None)[:2] == (25, 'none')
    assert judge(frames(10_000, 25_000), None)[:2] == (100, 'none')
    assert judge(frames(40_000, 25_000), 40_000)[:2] == (25, 'fixed_rate')


def test_without_durations_a_fixed_rate_that_is_kept_will_do() -> None:
    assert judge(frames(25_000, None), 25_000)[:2] == (40, 'fixed_rate')
    assert judge(frames(25_300, None), 25_000).loss_detection == 'fixed_rate'
    assert judge(frames(33_000, None), 25_000).loss_detection == 'none'
    assert judge(frames(25_000, None), None)[:2] == (40, 'none')


def test_timestamps_that_shiver_do_not_mislead_the_rate() -> None:
    shiver = np.random.default_rng(7).normal(0, 4e6, 40)
    steady = frames(25_000, None, age_ns=200_000_000, count=40, skip=1)
    shaken = [one._replace(sensor_ns=(one.sensor_ns or 0) + int(by)) for one, by in zip(steady, shiver)]
    evidence = judge(shaken, 25_000)
    assert evidence.rate == pytest.approx(40, rel=0.02) and evidence.loss_detection == 'fixed_rate'
    durations = [one._replace(duration_us=25_000) for one in shaken]
    assert judge(durations, 25_000)[:2] == (40, 'frame_duration')


@pytest.mark.parametrize('clock', ['boottime', 'monotonic'])
@pytest.mark.parametrize('slept_s', [0.2, 3, 1000, 1e6])
def test_after_a_sleep_the_clocks_are_told_apart(clock: str, slept_s: float) -> None:
    evidence = judge(frames(25_000, 25_000, slept_ns=int(slept_s * 1e9), clock=clock), None)
    assert evidence.clock_base == clock and f'CLOCK_{clock.upper()}' in evidence.clock and 'slept' in evidence.clock


def test_a_pause_between_two_clocks_is_not_taken_for_a_sleep() -> None:
    samples = frames(25_000, 25_000)
    samples[-1] = samples[-1]._replace(boottime_ns=samples[-1].boottime_ns + 5_000_000)
    evidence = judge(samples, None)
    assert evidence.clock_base == 'boottime' and 'has not slept' in evidence.clock


def test_without_a_sleep_the_documented_clock_is_named() -> None:
    evidence = judge(frames(25_000, 25_000), None)
    assert evidence.clock_base == 'boottime' and 'has not slept' in evidence.clock


def test_frames_so_long_that_they_come_old_are_still_on_the_systems_clock() -> None:
    evidence = judge(frames(5_000_000, 5_000_000, age_ns=5_010_000_000, count=3), 5_000_000)
    assert evidence[:3] == (0.2, 'frame_duration', 'boottime')


def test_a_clock_that_is_neither_is_its_own() -> None:
    evidence = judge(frames(25_000, 25_000, age_ns=10**15), None)
    assert evidence[1:3] == ('none', 'own') and 'neither' in evidence.clock
    silent = [one._replace(sensor_ns=None) for one in frames(25_000, 25_000)]
    assert judge(silent, 25_000)[:3] == (40, 'none', 'own')


def test_the_rate_has_to_be_the_one_asked() -> None:
    require_rate(0, 17.3, 'cam')
    require_rate(40, 40.7, 'cam')
    with pytest.raises(CameraFormatError, match='cam runs at 26.67 Hz, not at the 40 Hz'):
        require_rate(40, 26.667, 'cam')

# ---------------------------------------------------------------- the system

CAMERA = Found(0, 'imx219', '/base/soc/i2c0mux/i2c@1/imx219@10', 'external')


def raised(*texts: str) -> BaseException:
    """An exception as picamera2 wraps them, the outermost first."""
    inner: Optional[BaseException] = None
    for text in reversed(texts):
        error = RuntimeError(text)
        error.__cause__, inner = inner, error
    assert inner is not None
    return inner


@pytest.mark.parametrize(('texts', 'says'), [
    (('Camera __init__ sequence did not complete.', 'Failed to acquire camera: Device or resource busy'),
     'in use by .*fuser'),
    (('Unable to request 8 buffers: Cannot allocate memory',), 'CMA.*buffer_count.*config.txt'),
    (('failed to allocate capture buffers for stream 0',), 'CMA'),
    (('Camera __init__ sequence did not complete.', 'Failed to open: Permission denied'), 'usermod -aG video'),
    (('Something else.', 'quite new'), 'imx219.* cannot be opened: Something else; quite new$')])
def test_what_picamera2_raises_is_explained(texts: Any, says: str) -> None:
    error = explain(raised(*texts), CAMERA, 'opened')
    assert type(error) is CameraError
    with pytest.raises(CameraError, match=says):
        raise error


def test_reasons_are_told_once() -> None:
    assert reasons(raised('Outer.', 'inner', 'inner')) == 'Outer; inner'
    assert reasons(KeyError()) == 'KeyError'


def test_who_holds_the_camera(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacks, 'PROC', tmp_path)
    for number, comm, target in (('4711', 'motion', '/dev/media3'), ('4712', 'bash', '/dev/null'),
                                 (str(os.getpid()), 'python', '/dev/video0')):
        (tmp_path / number / 'fd').mkdir(parents=True)
        (tmp_path / number / 'comm').write_text(comm + '\n')
        (tmp_path / number / 'fd' / '3').symlink_to(target)
    assert stacks.holders('/dev/media', '/dev/video') == [('motion', 4711)]
    assert 'in use by motion (process 4711)' in str(explain(raised('busy'), CAMERA, 'opened'))


def stack_with(*infos: Dict[str, Any]) -> Stack:
    """What stands for the packages where only their list of cameras is asked."""
    camera_class = SimpleNamespace(global_camera_info=lambda: list(infos))
    manager = SimpleNamespace(version='v0.5')
    return Stack(SimpleNamespace(Picamera2=camera_class), SimpleNamespace(CameraManager=manager))


def test_cameras_are_found_by_number() -> None:
    stack = stack_with({'Model': 'imx219', 'Location': 2, 'Rotation': 180, 'Id': '/base/i2c', 'Num': 0},
                       {'Id': '/base/usb@1', 'Num': 1})
    assert [str(one) for one in found(stack)] == ['picamera2:0 (imx219)', 'picamera2:1 (camera)']
    assert find(stack, 0).location == 'external' and find(stack, 1).is_usb and not find(stack, 0).is_usb
    with pytest.raises(CameraNotFoundError, match=r'no picamera2:2.*picamera2:0 \(imx219\), picamera2:1'):
        find(stack, 2)
    with pytest.raises(CameraNotFoundError, match='no camera.*ribbon cable.*rpicam-hello.*auto_detect.*dtoverlay'):
        find(stack_with(), 0)
    assert stack.versions['libcamera'] == 'v0.5'


def test_webcams_can_be_left_out() -> None:
    webcam = {'Model': 'C270', 'Id': '/base/soc/usb@1', 'Num': 1}
    stack = stack_with({'Model': 'imx219', 'Id': '/base/i2c', 'Num': 0}, webcam)
    assert find(stack, 0, webcams=False).model == 'imx219'
    with pytest.raises(CameraNotFoundError, match='no picamera2:1'):
        find(stack, 1, webcams=False)
    with pytest.raises(CameraNotFoundError, match='on a ribbon cable'):
        find(stack_with(webcam), 0, webcams=False)


def test_values_become_json_types() -> None:
    assert plain({'a': (1, 2.5), 'b': [True, None], 'c': Path('x')}) == {'a': [1, 2.5], 'b': [True, None], 'c': 'x'}


def failing_import(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(name: str) -> ModuleType:
        raise error
    monkeypatch.setattr(system, 'import_module', fail)


@pytest.mark.parametrize(('error', 'says'), [
    (ImportError("No module named 'libcamera'", name='libcamera'),
     'libcamera cannot be imported.*python3-picamera2.*--system'),
    (ValueError('numpy.dtype size changed'), "numpy from pip.*'numpy<2'")])
def test_an_installation_that_is_broken(monkeypatch: pytest.MonkeyPatch, error: BaseException, says: str) -> None:
    monkeypatch.setattr(system, 'missing', lambda name: None)
    failing_import(monkeypatch, error)
    with pytest.raises(CameraError, match=says):
        load()


def test_a_package_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    sentinel = CameraNotFoundError('it is not here')
    monkeypatch.setattr(system, 'missing', lambda name: sentinel)
    failing_import(monkeypatch, ImportError("No module named 'picamera2'", name='picamera2'))
    with pytest.raises(RecorderError, match='it is not here'):
        load()
    line, = Picamera2Camera.listings()
    assert not line.available and line.name == 'picamera2:N' and line.why_not == 'it is not here'

def test_damaged_frames_are_left_to_be_seen_as_losses() -> None:
    """Older versions of picamera2 pass them on."""
    session = Session.__new__(Session)
    status = SimpleNamespace(FrameMetadata=SimpleNamespace(Status=SimpleNamespace(Success='whole')))
    session.stack, session._ready = Stack(None, status), deque()
    acquired = []
    for number, state in enumerate(('whole', 'damaged', 'whole')):
        buffer = SimpleNamespace(metadata=SimpleNamespace(status=state))
        session._keep(SimpleNamespace(request=SimpleNamespace(buffers={'main': buffer}), number=number,
                                      acquire=lambda number=number: acquired.append(number)))
    assert [request.number for request in session._ready] == acquired == [0, 2]

# ---------------------------------------------------------------- the camera before it is opened


@pytest.mark.parametrize('number', ['x', '-1', '', True, 1.5, '12345', None])
def test_numbers_that_are_none(number: Any) -> None:
    with pytest.raises(CameraNotFoundError, match='is not the number of a camera'):
        Picamera2Camera(number)


def test_a_camera_that_was_never_opened() -> None:
    camera = Picamera2Camera('1')
    assert repr(camera) == 'Picamera2Camera(1)' and camera.statistics() == {'delivered': 0}
    camera.close()
    with pytest.raises(CameraError, match='open the camera first'):
        camera.read(np.empty((2, 2), np.uint8))
    with pytest.raises(CameraFormatError, match=r"\('picamera2:0', 'picamera2:1'\).*'picamera'"):
        camera.open(CameraRequest(stereo=True))
