"""When a libcamera camera is not there, is taken, falls silent or goes; and that it leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Iterator

import pytest
from picamera2_kit import Bench, bench, needs_the_sensors
from picamera2_recordings import child, last_run, numbers, record, recorder, two_sensors
from recording_tools import wait_until

from ProcessedPiRecorder.cameras.picamera2 import Picamera2Camera
from ProcessedPiRecorder.errors import CameraError, CameraNotFoundError, CameraStalledError

pytestmark = needs_the_sensors


@pytest.fixture()
def sensors(tmp_path: Path) -> Iterator[Bench]:
    """Two simulated sensors, well."""
    yield from two_sensors(tmp_path)

# ---------------------------------------------------------------- failures


def test_no_camera(tmp_path: Path) -> None:
    with bench(tmp_path, cameras=0), pytest.raises(CameraNotFoundError, match='ribbon cable.*rpicam-hello'):
        record(tmp_path)


def test_a_number_that_is_not_there(tmp_path: Path, sensors: Bench) -> None:
    with pytest.raises(CameraNotFoundError, match=r'no picamera2:7.*picamera2:0 \(simulated0\), picamera2:1'):
        record(tmp_path, camera='picamera2:7')


def test_a_camera_in_use(tmp_path: Path, sensors: Bench) -> None:
    script = ('from picamera2 import Picamera2\npicam2 = Picamera2(0)\nprint("have it", flush=True)\ninput()\n'
              'picam2.close()')
    with subprocess.Popen([sys.executable, '-c', script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin is not None and holder.stdout is not None
        assert holder.stdout.readline() == b'have it\n'
        with pytest.raises(CameraError, match='picamera2:0 .*is in use by.*fuser'):
            record(tmp_path)
        holder.stdin.close()
    assert record(tmp_path, rec_length=0.3).complete == 'yes'


def test_the_same_camera_for_both_eyes(tmp_path: Path, sensors: Bench) -> None:
    with pytest.raises(CameraError, match='picamera2:0 .*is in use by this very recorder'):
        record(tmp_path, camera=(Picamera2Camera(0), Picamera2Camera(0)), stereo=True, x_resolution=1280)


def test_a_stall_keeps_what_was_captured(tmp_path: Path, sensors: Bench) -> None:
    sensors.set_faults(0, stall_from=100)
    rec = recorder(tmp_path, rec_length=0, camera_timeout=1.5)
    with pytest.raises(CameraStalledError, match='no frame for 1.5 s'):
        rec.recordVid()
    assert rec.report is not None and rec.report.complete == 'no'
    assert numbers(tmp_path)[-1][1] == 99 and last_run(sensors).ending == 'stop'


def test_unplugging_keeps_what_was_captured(tmp_path: Path, sensors: Bench) -> None:
    sensors.set_faults(0, disconnect_at=100)
    rec = recorder(tmp_path, rec_length=0)
    with pytest.raises(CameraError, match='simulated0.* has gone: it was unplugged'):
        rec.recordVid()
    assert rec.report is not None and rec.report.complete == 'no'
    assert numbers(tmp_path)[-1][1] == 99 and last_run(sensors).ending == 'unplugged'


def test_a_silent_camera_can_be_stopped_and_is_released(tmp_path: Path, sensors: Bench) -> None:
    sensors.set_faults(0, stall_from=60)
    rec = recorder(tmp_path, rec_length=0, blocking=False, camera_timeout=40)
    with rec:
        rec.recordVid()
        wait_until(lambda: len(last_run(sensors).fates('stalled')) > 80)
        asked = time.monotonic()
        rec.stopVid()
        rec.wait(30)
        assert time.monotonic() - asked < 20
    assert last_run(sensors).ending == 'stop'        # in order, not by the end of the process
    assert rec.report is not None and rec.report.complete != 'yes'


def test_a_camera_that_never_sends_a_frame(tmp_path: Path, sensors: Bench) -> None:
    sensors.set_faults(0, stall_from=0)
    with pytest.raises(CameraStalledError, match='sent 0 frames in .*ribbon cable'):
        record(tmp_path)


def test_an_error_in_picamera2s_own_thread_surfaces(sensors: Bench) -> None:
    code = '''
        from picamera2.picamera2 import CameraManager
        handle, calls = CameraManager.handle_request, []
        def fail_at_last(self, *arguments):
            calls.append(1)
            if len(calls) > 60 and not arguments:
                raise RuntimeError('out of order')
            return handle(self, *arguments)
        CameraManager.handle_request = fail_at_last
        camera = Picamera2Camera()
        granted = camera.open(CameraRequest(640, 480, framerate=40, controls={'warm_up_s': 0.3}))
        camera.start()
        out, count = np.empty(granted.frame_shape, np.uint8), 0
        try:
            while True:
                camera.read(out)
                count += 1
        except Exception as error:
            told = [type(error).__name__, str(error), count]
        camera.close()
        print(json.dumps(told))
    '''
    kind, words, count = child(code)
    assert kind == 'CameraError' and "picamera2's own thread has died" in words and count > 5

# ---------------------------------------------------------------- older versions of picamera2


def test_a_picamera2_that_knows_no_sensor_configuration(sensors: Bench) -> None:
    """As Bullseye's: the sensor mode by the raw stream, and buffers mapped for writing too."""
    code = '''
        import picamera2
        new_create, new_array = picamera2.Picamera2.create_video_configuration, picamera2.MappedArray
        def create(self, main={}, lores=None, raw={}, transform=None, colour_space=None, buffer_count=6, controls={},
                   display='main', encode='main', queue=True):
            return new_create(self, main, lores, raw, transform, colour_space, buffer_count, controls, display, encode,
                              queue)
        class OldArray(new_array):
            def __init__(self, request, stream, reshape=True):
                super().__init__(request, stream, reshape)
        picamera2.Picamera2.create_video_configuration, picamera2.MappedArray = create, OldArray
        camera = Picamera2Camera()
        granted = camera.open(CameraRequest(640, 480, framerate=40, controls={'warm_up_s': 0.3}))
        camera.start()
        out = np.zeros(granted.frame_shape, np.uint8)
        stamps = [camera.read(out).sensor_ns for _ in range(10)]
        camera.close()
        print(json.dumps([granted.details['sensor_mode'], granted.details['raw_format'], int(out.max()), stamps]))
    '''
    mode, raw_format, brightest, stamps = child(code)
    assert mode.startswith('1640x1232') and raw_format.startswith('SRGGB') and brightest == 255
    assert last_run(sensors).mode == '1640x1232' and stamps == sorted(set(stamps))

def test_sensor_modes_that_cannot_be_told(sensors: Bench) -> None:
    code = '''
        import picamera2
        def fail(self):
            raise RuntimeError('failed to allocate capture buffers for stream 1')
        picamera2.Picamera2.sensor_modes = property(fail)
        camera = Picamera2Camera()
        granted = camera.open(CameraRequest(640, 480, framerate=30, controls={'warm_up_s': 0.3}))
        camera.close()
        print(json.dumps(granted.warnings))
    '''
    (kind, words), = child(code)
    assert kind == 'AutomaticChoiceWarning' and 'failed to allocate' in words and 'libcamera chose one' in words


# ---------------------------------------------------------------- again, and leaving nothing


def test_it_opens_again_and_again_and_leaves_nothing(sensors: Bench) -> None:
    code = '''
        camera = Picamera2Camera(1)
        left = []
        for turn in range(4):
            granted = camera.open(CameraRequest(640, 480, framerate=40, controls={'warm_up_s': 0.2}))
            camera.start()
            out = np.empty(granted.frame_shape, np.uint8)
            stamps = [camera.read(out).sensor_ns for _ in range(5)]
            assert stamps == sorted(set(stamps)) and camera.statistics()['delivered'] == 5
            camera.close()
            camera.close()
            assert camera.read(out) is None
            left.append([len(os.listdir('/proc/self/fd')), threading.active_count()])
        print(json.dumps(left))
    '''
    left = child(code)
    assert left[1] == left[2] == left[3]
    assert [run.ending for run in sensors.runs(1)] == ['stop'] * 4


def test_close_from_another_thread_ends_a_read(sensors: Bench) -> None:
    sensors.set_faults(0, stall_from=40)
    code = '''
        camera = Picamera2Camera()
        granted = camera.open(CameraRequest(640, 480, framerate=40, controls={'warm_up_s': 0.3, 'buffer_count': 64}))
        camera.start()
        out, ends = np.empty(granted.frame_shape, np.uint8), []
        def read():
            while camera.read(out) is not None:
                pass
            ends.append(time.monotonic())
        thread = threading.Thread(target=read)
        thread.start()
        time.sleep(1.5)
        began = time.monotonic()
        camera.close()
        thread.join(20)
        print(json.dumps([len(ends), ends[0] - began]))
    '''
    ended, took_s = child(code)
    assert ended == 1 and took_s < 10
    assert last_run(sensors).ending == 'stop'


def test_nothing_is_printed(tmp_path: Path, sensors: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv('LIBCAMERA_LOG_LEVELS', raising=False)
    script = f'''if True:
        from ProcessedPiRecorder import ProcessedPiRecorder
        ProcessedPiRecorder({str(tmp_path / 'trial.tif')!r}, camera='picamera2', display=False, rec_length=0.3,
                            camera_controls={{'warm_up_s': 0.3}}).recordVid()
        try:
            ProcessedPiRecorder({str(tmp_path / 'other.tif')!r}, camera='picamera2:9', display=False).recordVid()
        except Exception as error:
            assert 'no picamera2:9' in str(error), error
    '''
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')


def test_the_listing_tells_models_and_modes(sensors: Bench) -> None:
    code = '''
        from ProcessedPiRecorder.cameras import base
        told = [vars(line) for line in Picamera2Camera.listings()]
        holder = Picamera2Camera(1)
        holder.open(CameraRequest(640, 480, controls={'warm_up_s': 0.2}))
        told += [vars(line) for line in Picamera2Camera.listings()]
        holder.close()
        print(json.dumps(told))
    '''
    first, second, still, busy = child(code)
    assert first['name'] == 'picamera2:0' and first['available'] and 'simulated0, external' in first['description']
    assert '1640x1232 up to 41.85 Hz, 8 or 10 bit' in first['modes'] and first == still
    assert second['name'] == 'picamera2:1' and not busy['available'] and 'in use' in busy['why_not']
