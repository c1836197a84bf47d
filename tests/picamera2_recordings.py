"""Short recordings of simulated libcamera sensors, and their comparison with what the sensors say they made."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

from picamera2_kit import Bench, Frame, Run, bench, seen
from recording_tools import ROOT, pages

from ProcessedPiRecorder import ProcessedPiRecorder
from ProcessedPiRecorder.report import Report

PATIENT = {'warm_up_s': 0.3, 'buffer_count': 64}


def two_sensors(tmp_path: Path) -> Iterator[Bench]:
    """For a fixture: two simulated sensors, well."""
    folder = tmp_path / 'sensors'
    folder.mkdir()
    with bench(folder) as made:
        yield made


def recorder(tmp_path: Path, **settings: Any) -> ProcessedPiRecorder:
    """A small recording of the first camera: 2 s at 640x480, 40 Hz, unless told otherwise."""
    controls = {**PATIENT, **settings.pop('controls', {})}
    options: Dict[str, Any] = {'camera': 'picamera2', 'display': False, 'x_resolution': 640, 'y_resolution': 480,
                               'framerate': 40, 'rec_length': 2, 'ring_frames': 200, 'camera_controls': controls}
    options.update(settings)
    return ProcessedPiRecorder(tmp_path / 'trial.tif', **options)


def record(tmp_path: Path, **settings: Any) -> Report:
    rec = recorder(tmp_path, **settings)
    rec.recordVid()
    assert rec.report is not None
    return rec.report


def record_again(tmp_path: Path, **settings: Any) -> Report:
    return record(tmp_path, overwrite=True, rec_length=0.5, **settings)


def numbers(tmp_path: Path, camera: int = 0) -> List[Tuple[int, int]]:
    """(index, number in the picture) of each page; every picture is of this camera."""
    found = []
    for stored, image in pages(tmp_path / 'trial.tif'):
        told = seen(image)
        assert told.camera == camera
        found.append((stored.index, told.number))
    return found


def truth(sensors: Bench, camera: int = 0) -> Dict[int, Frame]:
    """The frames of the sensor's last run by their numbers."""
    return {frame.number: frame for frame in last_run(sensors, camera).frames}


def last_run(sensors: Bench, camera: int = 0) -> Run:
    return sensors.runs(camera)[-1]


def assert_accounted_for(tmp_path: Path, sensors: Bench, report: Report) -> Dict[int, str]:
    """Each frame that the sensor made is in the file at its place, or among the losses; returns the fates of those."""
    made = truth(sensors)
    for stored, image in pages(tmp_path / 'trial.tif'):
        frame = made[seen(image).number]
        assert frame.fate == 'delivered' and stored.sensor_ns == frame.start_ns
    seen_numbers = numbers(tmp_path)
    first = seen_numbers[0][1]
    # The index counts what the sensor made: so every gap was seen where it was, and with its size.
    assert [number - first for _, number in seen_numbers] == [index for index, _ in seen_numbers]
    last = max(first + report.sensor - 1, seen_numbers[-1][1])
    lost = {number: made[number].fate for number in range(first, last + 1)
            if number not in {number for _, number in seen_numbers}}
    assert report.lost == len(lost)
    return lost


def child(code: str, *wrapper: str) -> Any:
    """What a script in a process of its own prints as JSON. ``wrapper``: the command to start it through."""
    prelude = ('import json, os, sys, threading, time\nimport numpy as np\n'
               'from ProcessedPiRecorder.cameras.base import CameraRequest\n'
               'from ProcessedPiRecorder.cameras.picamera2 import Picamera2Camera\n')
    done = subprocess.run([*wrapper, sys.executable, '-c', prelude + textwrap.dedent(code)], capture_output=True,
                          text=True, timeout=50, cwd=ROOT, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
