"""Burnt-in stamps, the frame log and the live window, through the whole recorder."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Iterator

import numpy as np
import psutil
import pytest
from recording_tools import ROOT, paced, pages, recorder, run_script, truth, wait_until

from ProcessedPiRecorder import errors

SCREEN = '''
import os, sys, time
from ProcessedPiRecorder import ProcessedPiRecorder as ppr
rec = ppr('trial.tif', 320, 240, 1, 60, 0, True, {proc!r}, camera='synthetic', blocking=False,
          callback=lambda buffer, cb_queue: 255 - buffer[-1])
with rec:
    rec.recordVid()
    print('recording', flush=True)
    sys.stdin.read()
print(rec.report.complete, rec.report.lost, rec.report.warnings, flush=True)
'''


@pytest.fixture
def screen(tmp_path_factory: pytest.TempPathFactory) -> Iterator['subprocess.Popen[bytes]']:
    """A virtual X server of the test's own; DISPLAY is in its ``display`` attribute, its picture in ``picture``."""
    if shutil.which('Xvfb') is None:
        pytest.skip('Xvfb is not installed (apt-get install xvfb)')
    folder = tmp_path_factory.mktemp('screen')
    read, write = os.pipe()
    server = subprocess.Popen(['Xvfb', '-displayfd', str(write), '-screen', '0', '800x600x24', '-nolisten', 'tcp',
                               '-fbdir', str(folder)], pass_fds=[write], stderr=subprocess.DEVNULL)
    os.close(write)
    with os.fdopen(read) as pipe:
        number = pipe.readline().strip()
    server.display, server.picture = f':{number}', folder / 'Xvfb_screen0'    # type: ignore[attr-defined]
    yield server
    server.kill()
    server.wait()


def on_screen(folder: Path, display: str, proc: str) -> 'subprocess.Popen[str]':
    script = folder / 'script.py'
    script.write_text(SCREEN.format(proc=proc))
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'DISPLAY': display}
    environment.pop('WAYLAND_DISPLAY', None)
    return subprocess.Popen([sys.executable, str(script)], cwd=folder, env=environment, text=True,
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def until_visible(folder: Path, screen: Any, proc: str) -> 'subprocess.Popen[str]':
    """A recording whose window is seen.

    Under Xvfb without a window manager some of OpenCV's Qt windows stay black for good, ours or a plain imshow's alike.
    """
    for _ in range(8):
        process = on_screen(folder, screen.display, proc)
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            if grab(screen).std() > 5:
                return process
            time.sleep(0.02)
        process.communicate('', timeout=30)
        (folder / 'trial.tif').unlink()
    raise AssertionError('no window was ever seen')


def grab(screen: Any) -> np.ndarray:
    """A picture of the whole screen, BGR: Xvfb keeps it in a file in the format of xwd."""
    raw = screen.picture.read_bytes()
    header = np.frombuffer(raw[:100], '>u4')
    width, height, stride, colors = int(header[4]), int(header[5]), int(header[12]), int(header[19])
    start = int(header[0]) + 12 * colors
    pixels = np.frombuffer(raw[start:start + stride * height], np.uint8).reshape(height, stride)
    return pixels[:, :width * 4].reshape(height, width, 4)[..., :3]


@pytest.mark.parametrize('proc', ['camera_reader', 'file_writer'])
def test_the_window_shows_what_display_proc_says(tmp_path: Path, screen: Any, proc: str) -> None:
    process = until_visible(tmp_path, screen, proc)
    time.sleep(0.3)
    shown = grab(screen)
    out, err = process.communicate('', timeout=30)
    assert "yes 0 []" in out, out + err
    frames = [image for _, image in pages(tmp_path / 'trial.tif')]       # recorded: inverted by the callback
    recorded = float(np.mean([image.mean() for image in frames]))
    visible = shown[shown.any(axis=2)]
    expected = recorded if proc == 'file_writer' else 255 - recorded
    assert abs(float(visible.mean()) - expected) < abs(float(visible.mean()) - (255 - expected))


def test_a_screen_that_goes_away_costs_no_frame(tmp_path: Path, screen: Any) -> None:
    process = until_visible(tmp_path, screen, 'camera_reader')
    screen.kill()
    screen.wait()
    keeper, = psutil.Process(process.pid).children()
    wait_until(lambda: len(keeper.children()) == 3)    # reader, writer and callback go on
    time.sleep(0.3)
    out, err = process.communicate('', timeout=30)
    assert 'yes 0' in out and 'the live window is gone' in out and 'DisplayWarning' in err, out + err
    indices = [page.index for page, _ in pages(tmp_path / 'trial.tif')]
    assert indices == list(range(len(indices))) and len(indices) > 20


def test_without_a_screen_there_is_one_warning_and_the_recording_goes_on(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv('DISPLAY', raising=False)
    monkeypatch.delenv('WAYLAND_DISPLAY', raising=False)
    with pytest.warns(errors.DisplayWarning, match='no live window') as caught:
        report = recorder(tmp_path / 'a.tif', display=True).recordVid()
    assert len(caught) == 1 and caught[0].filename == __file__
    assert report is not None and report.complete == 'yes'


@pytest.mark.parametrize('pixel_format', ['bgr', 'gray'])
def test_stamps_are_burnt_into_a_corner_and_nowhere_else(tmp_path: Path, pixel_format: str) -> None:
    path = tmp_path / 'a.tif'
    rec = recorder(path, x_resolution=640, y_resolution=480, pixel_format=pixel_format, timestamp=True, report_Hz=True,
                   monitor_qs=True, controls=paced(), rec_length=0.2)
    rec.recordVid()
    frame = truth(rec.settings)
    for page, image in pages(path):
        changed = np.argwhere((image != frame(page.index)).reshape(480, 640, -1).any(axis=2))
        assert len(changed) > 500
        rows, columns = changed.max(axis=0)
        assert rows < 120 and columns < 500


def test_the_log_has_one_true_row_a_frame(tmp_path: Path) -> None:
    def fail_once(buffer: Any, cb_queue: Any) -> Any:
        if buffer[-1].index == 3:
            raise ValueError
        return buffer[-1]

    path, log = tmp_path / 'a.tif', tmp_path / 'log.csv'
    rec = recorder(path, callback=fail_once, log_file=log)
    with pytest.raises(errors.CallbackError):
        rec.recordVid()
    with open(log, newline='') as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 30
    for number, (row, (page, _)) in enumerate(zip(rows, pages(path))):
        assert (int(row['page']), int(row['index']), int(row['time_ns']), int(row['host_ns']), row['status']) == (
            number, page.index, page.time_ns, page.host_ns, page.status)
        assert int(row['written_ns']) > page.host_ns and int(row['bytes']) > 0 and float(row['callback_ms']) >= 0


def test_a_script_without_a_screen_stays_quiet_but_for_the_warning(tmp_path: Path) -> None:
    text = '''
import os
os.environ.pop('DISPLAY', None); os.environ.pop('WAYLAND_DISPLAY', None)
from ProcessedPiRecorder import ProcessedPiRecorder as ppr
ppr('trial.tif', 96, 64, 1, 100, 0.2, camera='synthetic').recordVid()
'''
    process = run_script(text, tmp_path)
    assert process.out == '' and process.err.count('Warning') == 1, process.err     # type: ignore[attr-defined]
