"""A batch system ends a script with SIGTERM: what it had started ends with it, and nothing half is left."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest
from recording_tools import recorder, run_script, wait_until


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGHUP])
def test_workers_end_with_the_script_that_is_ended(tmp_path: Path, number: int) -> None:
    pytest.importorskip('distributed')
    path = tmp_path / 'trial.tif'
    with recorder(path) as rec:
        rec.recordVid()
    (tmp_path / 'temporary').mkdir()
    process = run_script(f'''
import os, signal, tempfile, time
signal.signal(signal.SIGHUP, signal.SIG_DFL)
from ProcessedPiRecorder.processing import process
tempfile.tempdir = 'temporary'
def call(buffer, cb_queue):
    open({str(tmp_path / 'begun')!r}, 'w').close()
    time.sleep(30)
process({str(path)!r}, call, workers=1)
''', tmp_path, wait=False)
    wait_until((tmp_path / 'begun').exists, 40)
    started = psutil.Process(process.pid).children(recursive=True)
    assert started
    os.kill(process.pid, number)
    process.communicate(timeout=30)
    assert process.returncode == -number                # as it would have ended without us
    _, alive = psutil.wait_procs(started, timeout=10)
    assert not alive
    assert sorted(os.listdir(tmp_path)) == ['begun', 'script.py', 'temporary', 'trial.tif']
    assert not [name for name in os.listdir(tmp_path / 'temporary') if name.startswith('ppr')]
