"""The simulated camera keeps the rules of the real one: times, losses, settings, who may have it, and faults.

Seen through the unmodified picamera; no code of ours takes part.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
import warnings
from fractions import Fraction
from pathlib import Path
from typing import Any, Iterator, Tuple

import mmal_kit
import numpy as np
import pytest
from mmal_kit import number_of
from mmal_recording import PATIENCE_S, Output, Sim, as_image, open_camera, record, simulations

pytestmark = mmal_kit.needs_the_stub


@pytest.fixture
def sim(tmp_path: Path) -> Iterator[Sim]:
    with simulations(tmp_path) as start:
        yield start


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


def test_a_range_of_rates_runs_at_its_upper_end(sim: Sim) -> None:
    simulation = sim()
    with open_camera(framerate=None, framerate_range=(5, 40)) as camera:
        assert camera.framerate == 0
        assert simulation.camera().rate_mhz == 40000


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


def test_sensors_can_be_slower_than_asked_and_stamped_unevenly(sim: Sim) -> None:
    simulation = sim(slower_ppm=20_000, jitter_us=50, frames=200)
    with open_camera(framerate=50) as camera:
        frames = record(camera, 20)
    stamps = [frame.timestamp for frame in frames]
    intervals = np.diff(stamps)
    assert len(set(intervals)) > 3 and np.abs(intervals - 20_400).max() <= 101
    assert stamps == [frame.stc_us for frame in simulation.frames() if frame.fate == 'delivered'][:len(stamps)]


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


def test_a_camera_held_by_another_on_request(sim: Sim) -> None:
    import picamera
    simulation = sim(cameras=2)
    with simulation.held_by_another():
        with pytest.raises(picamera.PiCameraMMALError, match='Failed to enable connection: Out of resources'):
            open_camera()
        with pytest.raises(picamera.PiCameraMMALError, match='Failed to enable connection: Out of resources'):
            open_camera((640, 240), stereo_mode='side-by-side', camera_num=1)
        with open_camera(camera_num=1) as other:
            assert record(other, 2)
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
