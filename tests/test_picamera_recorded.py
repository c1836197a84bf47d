"""The legacy stack's camera through the whole recorder: what lands on disk is what the simulated sensor made."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import mmal_kit
import pytest
from mmal_kit import LoggedFrame, Simulation, simulation
from recording_tools import ROOT, pages, wait_until

from ProcessedPiRecorder import ProcessedPiRecorder
from ProcessedPiRecorder.errors import (
    CameraError,
    CameraFormatError,
    CameraStalledError,
    ProcessDiedError,
    ResolutionRoundedWarning,
    StartTimeoutError,
)

pytestmark = mmal_kit.needs_the_stub

MONO: Dict[str, Any] = {'x_resolution': 640, 'y_resolution': 480, 'framerate': 90}
STEREO: Dict[str, Any] = {'x_resolution': 1280, 'y_resolution': 480, 'scale_factor': 0.3, 'framerate': 25,
                          'stereo': True}


@pytest.fixture
def sim(tmp_path: Path) -> Iterator[Simulation]:
    with simulation(tmp_path, cameras=2) as running:
        yield running


@pytest.fixture
def patient_sim(tmp_path: Path) -> Iterator[Simulation]:
    """Its firmware keeps many frames, and so forgives the machine that runs the tests."""
    with simulation(tmp_path, cameras=2, frames=250) as running:
        yield running


def recorder(path: Path, **settings: Any) -> ProcessedPiRecorder:
    options: Dict[str, Any] = {'camera': 'picamera', 'display': False, **MONO, **settings}
    options['camera_controls'] = {'warm_up_s': 0.5, **settings.get('camera_controls', {})}
    return ProcessedPiRecorder(path, **options)


def recorded(path: Path, stereo: bool = False) -> 'Tuple[List[Any], List[int]]':
    """Each page's record, and the number that its picture shows; stereo: on both eyes, each in its place."""
    records, numbers = [], []
    for record, image in pages(path):
        left = image[:, :image.shape[1] // 2] if stereo else image
        numbers.append(mmal_kit.number_of(left))
        if stereo:
            right = image[:, image.shape[1] // 2:]
            assert (mmal_kit.eye_of(left), mmal_kit.eye_of(right)) == ('left', 'right')
            assert mmal_kit.number_of(right) == numbers[-1]
        records.append(record)
    return records, numbers


def log_between(sim: Simulation, records: List[Any]) -> List[LoggedFrame]:
    """What became of the sensor's frames from the first one recorded to the last."""
    first, last = records[0].sensor_ns // 1000, records[-1].sensor_ns // 1000
    return [frame for frame in sim.frames() if first <= frame.stc_us <= last]


def assert_file_is_the_log(path: Path, sim: Simulation, stereo: bool = False) -> List[Any]:
    """Frame for frame: numbers, times to the µs, and a gap in the index for each frame that was discarded."""
    records, numbers = recorded(path, stereo)
    frames = log_between(sim, records)
    seen = {frame.number & 0xffff: place for place, frame in enumerate(frames)}
    assert [record.index for record in records] == [seen[number] + records[0].index for number in numbers]
    for record, number in zip(records, numbers):
        assert record.sensor_ns == frames[seen[number]].stc_us * 1000
        assert frames[seen[number]].fate == 'delivered'
    return records


def record_for(path: Path, sim: Simulation, seconds: float, **settings: Any) -> None:
    rec = recorder(path, rec_length=seconds, **settings)
    rec.recordVid()
    report = rec.report
    assert report is not None
    records = assert_file_is_the_log(path, sim, bool(settings.get('stereo')))
    discarded = [frame for frame in log_between(sim, records) if frame.fate != 'delivered']
    assert report.lost == len(discarded)
    assert report.complete == 'yes', (report.reasons, report.losses)
    assert report.captured == report.written == len(records) == round(seconds * rec.settings.framerate)
    assert report.camera['statistics']['sensor_hz'] == pytest.approx(rec.settings.framerate, rel=1e-4)
    assert sim.camera().holder_pid == 0


CASES = [pytest.param(MONO, id='mono 90 Hz'), pytest.param(STEREO, id='stereo 25 Hz'),
         pytest.param({**MONO, 'pixel_format': 'gray'}, id='gray 90 Hz')]


@pytest.mark.parametrize('settings', CASES)
def test_complete_frame_for_frame(patient_sim: Simulation, tmp_path: Path, settings: Any) -> None:
    record_for(tmp_path / 'trial.tif', patient_sim, 2, **settings)


@pytest.mark.slow
@pytest.mark.timeout(240)      # reading thousands of frames back takes longer than recording them
@pytest.mark.parametrize('settings', CASES)
def test_complete_frame_for_frame_for_half_a_minute(patient_sim: Simulation, tmp_path: Path, settings: Any) -> None:
    record_for(tmp_path / 'trial.tif', patient_sim, 30, **settings)


@pytest.mark.parametrize('start_method', ['fork', 'spawn'])
def test_in_a_script_of_its_own(patient_sim: Simulation, tmp_path: Path, start_method: str) -> None:
    """The usual case: the script has not imported picamera, so its children may be forked."""
    script = tmp_path / 'script.py'
    script.write_text(f'''
import sys
from ProcessedPiRecorder import ProcessedPiRecorder
if __name__ == '__main__':
    rec = ProcessedPiRecorder('trial.tif', 1280, 480, 0.3, 25, 1, stereo=True, display=False, camera='picamera',
                              start_method={start_method!r})
    rec.recordVid()
    assert 'picamera' not in sys.modules
    assert rec.report.complete == 'yes', rec.report.reasons
''')
    done = subprocess.run([sys.executable, '-W', 'error', str(script)], cwd=tmp_path, capture_output=True, text=True,
                          env={**os.environ, 'PYTHONPATH': str(ROOT)}, timeout=50)
    assert (done.returncode, done.stderr) == (0, '')
    assert len(assert_file_is_the_log(tmp_path / 'trial.tif', patient_sim, stereo=True)) == 25


def test_times_are_tied_to_utc_by_the_firmwares_clock(tmp_path: Path) -> None:
    ahead_us = 777_000_000
    with simulation(tmp_path, stc_offset_us=ahead_us):
        rec = recorder(tmp_path / 'trial.tif', rec_length=0.5)
        rec.recordVid()
    records, _ = recorded(tmp_path / 'trial.tif')
    utc_offset_ns = time.time_ns() - time.monotonic_ns()
    for record in records:
        began_ns = record.sensor_ns - ahead_us * 1000                # CLOCK_MONOTONIC
        assert abs(record.time_ns - began_ns - utc_offset_ns) < 5_000_000
        assert record.host_ns > began_ns                             # it came later, by its read-out at least
    assert rec.report is not None and rec.report.camera['details']['sensor'] == 'ov5647'


def test_what_the_firmware_discards_is_what_the_report_loses(sim: Simulation, tmp_path: Path) -> None:
    path = tmp_path / 'trial.tif'
    with recorder(path, blocking=False, pixel_format='gray') as rec:
        rec.recordVid()
        reader = hold_up(sim, rec, 1.0)
        assert reader != os.getpid()
        captured = rec.status().captured
        wait_until(lambda: rec.status().captured > captured + 50)
        hold_up(sim, rec, 0.5)
        captured = rec.status().captured
        wait_until(lambda: rec.status().captured > captured + 50)
        rec.stopVid()
        report = rec.wait()
    records = assert_file_is_the_log(path, sim)
    fates = [frame.fate for frame in log_between(sim, records)]
    assert report.lost == fates.count('no_buffer') == len(fates) - fates.count('delivered') > 20
    assert report.complete == 'no' and {loss.reason for loss in report.losses} <= {'camera gap', 'stall'}


def hold_up(sim: Simulation, rec: ProcessedPiRecorder, seconds: float) -> int:
    """Keep the reader process, and the simulated firmware within it, from running for a while."""
    wait_until(lambda: rec.status().captured > 30)
    reader = sim.camera().holder_pid
    os.kill(reader, signal.SIGSTOP)
    time.sleep(seconds)
    os.kill(reader, signal.SIGCONT)
    return reader


# ---------------------------------------------------------------- what goes wrong

def assert_safe(path: Path, sim: Simulation, at_least: int) -> None:
    """What had been captured is on disk, whole; and the camera was given back."""
    assert len(assert_file_is_the_log(path, sim)) >= at_least
    wait_until(lambda: sim.camera().holder_pid == 0)


def test_stalled_in_the_middle(sim: Simulation, tmp_path: Path) -> None:
    path = tmp_path / 'trial.tif'
    with pytest.raises(CameraStalledError, match='sent no frame for 1 s'):
        with recorder(path, blocking=False, camera_timeout=1) as rec:
            rec.recordVid()
            wait_until(lambda: rec.status().captured > 30)
            sim.stall()
            rec.wait()
    report = rec.report
    assert report is not None and report.stopped == 'stall' and report.complete != 'yes'
    assert any('stall' in reason for reason in report.reasons), report.reasons
    assert_safe(path, sim, 30)


def test_stopped_while_silent(sim: Simulation, tmp_path: Path) -> None:
    path = tmp_path / 'trial.tif'
    with recorder(path, blocking=False) as rec:
        rec.recordVid()
        wait_until(lambda: rec.status().captured > 30)
        sim.stall()
        time.sleep(1.2)
        rec.stopVid()
        report = rec.wait()
    assert report.complete != 'yes' and any('no frame for' in reason for reason in report.reasons), report.reasons
    assert_safe(path, sim, 30)


def test_unplugged_in_the_middle(sim: Simulation, tmp_path: Path) -> None:
    path = tmp_path / 'trial.tif'
    with pytest.raises(CameraError, match='broke off.*ribbon cable'):
        with recorder(path, blocking=False) as rec:
            rec.recordVid()
            wait_until(lambda: rec.status().captured > 30)
            sim.unplug()
            rec.wait()
    report = rec.report
    assert report is not None and report.stopped == 'camera error' and report.complete != 'yes'
    assert any('broke off' in reason for reason in report.reasons)
    assert_safe(path, sim, 30)


def test_a_reader_that_is_killed_leaves_the_camera_free(sim: Simulation, tmp_path: Path) -> None:
    path = tmp_path / 'trial.tif'
    with pytest.raises(ProcessDiedError, match='SIGKILL'):
        with recorder(path, blocking=False) as rec:
            rec.recordVid()
            wait_until(lambda: rec.status().captured > 30)
            os.kill(sim.camera().holder_pid, signal.SIGKILL)
            rec.wait()
    assert len(assert_file_is_the_log(path, sim)) >= 30
    again = recorder(tmp_path / 'again.tif', rec_length=0.2)
    again.recordVid()
    assert again.report is not None and again.report.sensor == 18


def test_what_cannot_be_opened_leaves_no_file(sim: Simulation, tmp_path: Path) -> None:
    for settings, kind, says in (({'x_resolution': 1920, 'y_resolution': 1080}, CameraFormatError, 'runs at 30.0 Hz'),
                                 ({'camera': 'picamera:5'}, CameraError, "no camera='picamera:5'"),
                                 ({'camera_controls': {'iso': -1}}, CameraFormatError, 'iso=-1')):
        with pytest.raises(kind, match=says):
            recorder(tmp_path / 'trial.tif', rec_length=1, **settings).recordVid()      # type: ignore[arg-type]
        assert not list(tmp_path.glob('*.tif')) and sim.camera().holder_pid == 0


def test_a_start_that_takes_too_long_says_what_to_raise(sim: Simulation, tmp_path: Path) -> None:
    with pytest.raises(StartTimeoutError, match='camera was not ready within 3 s; .*raise camera_start_timeout'):
        recorder(tmp_path / 'trial.tif', camera_start_timeout=3, camera_controls={'warm_up_s': 30}).recordVid()
    assert not list(tmp_path.glob('*.tif'))
    assert sim.camera().made and sim.camera().holder_pid == 0      # closed, not killed with the camera in its hands


def test_the_warning_of_a_rounded_size_reaches_the_user(patient_sim: Simulation, tmp_path: Path) -> None:
    path = tmp_path / 'trial.tif'
    with pytest.warns(ResolutionRoundedWarning, match='650x470.*656x464'):
        recorder(path, x_resolution=650, y_resolution=470, framerate=30, scale_factor=0.5, rec_length=0.3).recordVid()
    # 328x232: the GPU gives 352x240, the pipeline the rest.
    assert {image.shape for _, image in pages(path)} == {(232, 328, 3)}
    assert len(assert_file_is_the_log(path, patient_sim)) == 9


def test_two_cameras_as_a_pair(patient_sim: Simulation, tmp_path: Path) -> None:
    path = tmp_path / 'trial.tif'
    rec = recorder(path, camera=('picamera:0', 'picamera:1'), stereo=True, x_resolution=1280, framerate=30,
                   rec_length=1)
    rec.recordVid()
    times = [{frame.number & 0xffff: frame.stc_us for frame in patient_sim.frames(number)} for number in (0, 1)]
    count = 0
    for record, image in pages(path):
        left, right = (mmal_kit.number_of(half) for half in (image[:, :640], image[:, 640:]))
        assert record.sensor_ns in (times[0][left] * 1000, times[1][right] * 1000)
        # Both clocks are the same one here; each was compared with the system's to some µs.
        assert record.skew_ns == pytest.approx(1000 * (times[0][left] - times[1][right]), abs=200_000)
        count += 1
    assert count >= 25 and rec.report is not None and rec.report.camera['statistics']['paired_by'] == 'sensor'
    assert [patient_sim.camera(number).holder_pid for number in (0, 1)] == [0, 0]


# ---------------------------------------------------------------- the command line

def ppr(*arguments: str, cwd: Path, wait: bool = True) -> Any:
    process = subprocess.Popen([sys.executable, '-m', 'ProcessedPiRecorder', *arguments], cwd=cwd, text=True,
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               env={**os.environ, 'PYTHONPATH': str(ROOT), 'COLUMNS': '200'})
    return finish(process) if wait else process


def finish(process: Any) -> Tuple[int, str, str]:
    out, err = process.communicate(timeout=50)
    return process.returncode, out, err


def test_the_command_line_unplugged(sim: Simulation, tmp_path: Path) -> None:
    process = ppr('record', 'trial.tif', '--camera', 'picamera', '--size', '640x480', '--fps', '30', '--json',
                  cwd=tmp_path, wait=False)
    wait_until(lambda: sum(frame.fate == 'delivered' for frame in sim.frames()) > 60, 40)
    sim.unplug()
    code, out, err = finish(process)
    assert code == 3, (out, err)
    assert 'broke off' in err
    assert json.loads(out)['stopped'] == 'camera error'
    assert_safe(tmp_path / 'trial.tif', sim, 5)


def test_the_command_line_lists_the_modules(sim: Simulation, tmp_path: Path) -> None:
    code, out, err = ppr('cameras', cwd=tmp_path)
    assert code == 0, err
    assert 'picamera:0' in out and 'picamera:1' in out and 'ov5647' in out
