"""However a recording ends, its file is whole, and nobody is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import tifffile
from recording_tools import paced, recorder, run_script, statuses, wait_until

from ProcessedPiRecorder import errors
from ProcessedPiRecorder.cameras import SyntheticCamera
from ProcessedPiRecorder.listener import PROGRESS_PERIOD_S
from ProcessedPiRecorder.recordings.reader import RecordingFile

SCRIPT = '''
import sys, time
from ProcessedPiRecorder import ProcessedPiRecorder as ppr
{extra}
rec = ppr('trial.tif', 96, 64, 1, 100, {length}, False, camera='synthetic', camera_controls={{'buffers': 1000}},
          blocking={blocking}, {options})
print('made', flush=True)
{body}
'''

LARGEST_PAGE = 10_000      # bytes of a page of this script's recordings, its text included


def script(body: str, *, blocking: bool = True, length: float = 0, options: str = '', extra: str = '') -> str:
    return SCRIPT.format(body=body, blocking=blocking, length=length, options=options, extra=extra)


def written(folder: Path, pages: int = 20) -> bool:
    """Whether the file in the folder has grown to at least so many pages."""
    path = folder / 'trial.tif'
    return path.exists() and path.stat().st_size > pages * LARGEST_PAGE


def assert_finished(path: Path, complete: str = 'yes') -> int:
    """A finished file of consecutive frames, also to tifffile; returns the number of pages."""
    with RecordingFile(path) as recording:
        assert recording.finished
        assert recording.annotations['report']['complete'] == complete
        indices = [recording.page_record(number).index for number in range(recording.pages)]
        assert all(recording.verify_page(number) for number in range(recording.pages))
    assert indices == list(range(len(indices)))
    with tifffile.TiffFile(path) as tif:
        assert len(tif.pages) == len(indices)
    return len(indices)


def processes_of(folder: Path) -> 'list[psutil.Process]':
    """All processes that stand in this folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
            pass
    return found


def start(text: str, folder: Path, **options: Any) -> 'subprocess.Popen[str]':
    process = run_script(text, folder, wait=False, **options)
    wait_until(lambda: written(folder) or process.poll() is not None)
    return process


def test_ctrl_c_ends_a_blocking_recording_without_an_end(tmp_path: Path) -> None:
    process = start(script("rec.recordVid(); print('goes on', rec.report.stopped)"), tmp_path, start_new_session=True)
    os.killpg(process.pid, signal.SIGINT)             # the whole group, as a terminal does
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert 'goes on interrupted' in out and err == ''
    assert assert_finished(tmp_path / 'trial.tif') >= 20


def test_ctrl_c_aborts_a_script_whose_recording_had_an_end(tmp_path: Path) -> None:
    process = start(script("rec.recordVid(); print('goes on')", length=60), tmp_path, start_new_session=True)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGINT and 'goes on' not in out and 'KeyboardInterrupt' in err
    assert_finished(tmp_path / 'trial.tif')


@pytest.mark.parametrize('blocking', [True, False])
def test_sigterm_finishes_the_file_and_ends_the_script(tmp_path: Path, blocking: bool) -> None:
    body = 'with rec:\n    rec.recordVid()\n    time.sleep(60)\n    print("not reached")'
    process = start(script(body, blocking=blocking), tmp_path, start_new_session=True)
    os.killpg(process.pid, signal.SIGTERM)            # to all of them, as systemd does
    out, err = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM and 'not reached' not in out, err
    assert_finished(tmp_path / 'trial.tif')


def test_a_closed_terminal_finishes_the_file(tmp_path: Path) -> None:
    process = start(script('rec.recordVid()'), tmp_path, start_new_session=True)
    os.killpg(process.pid, signal.SIGHUP)
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGHUP
    wait_until(lambda: not processes_of(tmp_path))
    assert_finished(tmp_path / 'trial.tif')


@pytest.mark.parametrize('end', ['', 'raise RuntimeError("boom")', 'sys.exit(5)'])
def test_the_end_of_the_script_finishes_the_file(tmp_path: Path, end: str) -> None:
    process = run_script(script(f'rec.recordVid()\ntime.sleep(0.5)\n{end}', blocking=False), tmp_path)
    assert process.returncode == {'': 0, 'sys.exit(5)': 5}.get(end, 1)
    assert ('boom' in process.err) == ('boom' in end)   # type: ignore[attr-defined]
    assert assert_finished(tmp_path / 'trial.tif') >= 20


def test_an_error_of_the_user_in_with_is_not_masked(tmp_path: Path) -> None:
    rec = recorder(tmp_path / 'a.tif', blocking=False, controls=paced(raise_at=20))
    with pytest.raises(KeyError, match='mine'), rec:
        rec.recordVid()
        wait_until(lambda: not rec.recording)
        raise KeyError('mine')
    assert len(statuses(tmp_path / 'a.tif')) == 20


@pytest.mark.parametrize('cb', ['', 'callback=lambda buffer, cb_queue: None'])
def test_the_script_killed_costs_nothing_that_was_captured(tmp_path: Path, cb: str) -> None:
    process = start(script('rec.recordVid()', options=cb), tmp_path)
    process.kill()
    process.communicate()
    wait_until(lambda: not processes_of(tmp_path), 10)
    assert assert_finished(tmp_path / 'trial.tif') >= 20


def child_of(process: 'subprocess.Popen[str]', role: str) -> psutil.Process:
    """A process of the pipeline, known by what it has open or by its place."""
    keeper, = psutil.Process(process.pid).children()
    if role == 'keeper':
        return keeper
    reader, writer = sorted(keeper.children(), key=lambda child: child.pid)[:2]
    return {'reader': reader, 'writer': writer}[role]


REPORT_ERROR = '''
try:
    rec.recordVid()
except Exception as error:
    print(type(error).__name__, getattr(error, 'role', ''), error, flush=True)
'''


@pytest.mark.parametrize('role', ['reader', 'writer', 'keeper'])
def test_the_death_of_anyone_is_named_and_nobody_stays(tmp_path: Path, role: str) -> None:
    process = start(script(REPORT_ERROR, options='callback=lambda buffer, cb_queue: None'), tmp_path)
    time.sleep(2.2)                        # so that some pages are synced and linked
    child_of(process, role).kill()
    out, err = process.communicate(timeout=30)
    assert f'ProcessDiedError {role}' in out and 'SIGKILL' in out, out + err
    wait_until(lambda: not processes_of(tmp_path), 10)
    # Without the keeper nothing is known to be missing, but the reader's last words are.
    assert assert_finished(tmp_path / 'trial.tif', 'unknown' if role == 'keeper' else 'no') >= 50


def test_stopVid_returns_the_report_and_may_be_called_twice(tmp_path: Path) -> None:
    rec = recorder(tmp_path / 'a.tif', blocking=False, controls=paced())
    assert rec.stopVid() is None           # nothing runs yet
    rec.recordVid()
    assert rec.recording
    wait_until(lambda: rec.status().written >= 10)
    report = rec.stopVid()
    assert report.stopped == 'stopVid' and report.complete == 'yes' and not rec.recording
    assert rec.stopVid() is report
    assert assert_finished(tmp_path / 'a.tif') == report.written


def test_wait_with_a_timeout_gives_up_waiting_only(tmp_path: Path) -> None:
    with recorder(tmp_path / 'a.tif', blocking=False, controls=paced()) as rec:
        rec.recordVid()
        assert rec.wait(0.2) is None and rec.recording
    assert rec.report.complete == 'yes'


def test_it_can_record_again(tmp_path: Path) -> None:
    rec = recorder(tmp_path / 'a.tif', overwrite=True, callback=lambda buffer, cb_queue: cb_queue.put(1))
    for _ in range(3):
        assert rec.recordVid().written == 30
        assert len(list(rec.cb_queue)) == 30
    assert assert_finished(tmp_path / 'a.tif') == 30


def test_recording_twice_at_once_is_an_error(tmp_path: Path) -> None:
    with recorder(tmp_path / 'a.tif', blocking=False, controls=paced()) as rec:
        rec.recordVid()
        with pytest.raises(errors.RecorderStateError, match='running already'):
            rec.recordVid()


def test_fork_children_of_the_script_do_not_keep_a_dead_script_alive(tmp_path: Path) -> None:
    body = '''
import os
rec.recordVid()
pid = os.fork()
if pid == 0:
    time.sleep(20)                         # holds copies of all that the script has open
    os._exit(0)
time.sleep(60)
'''
    process = start(script(body, blocking=False), tmp_path)
    process.kill()
    wait_until(lambda: (tmp_path / 'trial.tif').exists() and is_finished(tmp_path / 'trial.tif'), 10)
    for left in processes_of(tmp_path):
        left.kill()
    process.communicate()
    assert_finished(tmp_path / 'trial.tif')


def is_finished(path: Path) -> bool:
    try:
        with RecordingFile(path) as recording:
            return recording.finished
    except errors.RecordingFileError:
        return False


@pytest.mark.parametrize('method', ['fork', 'spawn'])
def test_an_unguarded_script_with_lambdas_runs(tmp_path: Path, method: str) -> None:
    text = f'''
from ProcessedPiRecorder import ProcessedPiRecorder as ppr
print('once')
offset = 3
class Model:
    def __call__(self, buffer, cb_queue): cb_queue.put(buffer[-1].index + offset)
rec = ppr('trial.tif', 96, 64, 1, 100, 0, False, camera='synthetic', camera_controls={{'pace': False, 'frames': 10}},
          callback=Model(), start_method={method!r})
rec.recordVid()
print(list(rec.cb_queue))
'''
    process = run_script(text, tmp_path)
    assert process.out.split('\n')[:2] == ['once', str(list(range(3, 13)))], process.err   # type: ignore[attr-defined]


def test_log_records_and_warnings_of_children_reach_the_script(tmp_path: Path,
                                                               caplog: pytest.LogCaptureFixture) -> None:
    import logging

    def talk(buffer: Any, cb_queue: Any) -> None:
        logging.getLogger('lab.tracker').warning('seen %d', buffer[-1].index)

    with caplog.at_level(logging.INFO):
        recorder(tmp_path / 'a.tif', callback=talk, controls={'frames': 3}).recordVid()
    texts = [record.getMessage() for record in caplog.records if record.name == 'lab.tracker']
    assert texts == ['seen 0', 'seen 1', 'seen 2']


def test_the_marks_of_the_script_are_stored_on_the_frames_clock(tmp_path: Path) -> None:
    with recorder(tmp_path / 'a.tif', blocking=False, controls=paced()) as rec:
        with pytest.raises(errors.RecorderStateError, match='nothing is being recorded'):
            rec.mark('too early')
        rec.recordVid()
        wait_until(lambda: rec.status().written > 10)
        time_ns = rec.mark('stim')
        wait_until(lambda: rec.status().written > 30)
    assert abs(time_ns - time.time_ns()) < 5e9
    assert rec.report.marks == [{'label': 'stim', 'time_ns': time_ns}]
    with RecordingFile(tmp_path / 'a.tif') as recording:
        marked = [record for record in map(recording.page_record, range(recording.pages)) if record.marks]
        assert recording.annotations['marks'] == [
            {'label': 'stim', 'time_ns': time_ns, 'page': marked[0].index, 'index': marked[0].index}]
    assert len(marked) == 1 and marked[0].marks[0]['label'] == 'stim'
    assert abs(marked[0].time_ns - time_ns) < 1e9


def test_status_and_progress_tell_how_far_it_is(tmp_path: Path) -> None:
    told: 'list[Any]' = []
    with recorder(tmp_path / 'a.tif', blocking=False, controls=paced(), progress=told.append) as rec:
        assert rec.status().captured == 0 and not rec.status().recording
        rec.recordVid()
        wait_until(lambda: len(told) >= 2)
        status = rec.status()
    assert status.recording and status.captured >= status.written > 0 and status.ring_frames == 200
    assert status.rate_hz is not None and 20 < status.rate_hz < 200
    assert status.disk_free_bytes and status.bytes_written > 0
    assert told[-1].captured > told[0].captured


def test_the_progress_function_may_stop_the_recording(tmp_path: Path) -> None:
    rec = recorder(tmp_path / 'a.tif', controls=paced(), progress=lambda status: rec.stopVid())
    report = rec.recordVid()
    assert report.stopped == 'stopVid' and report.complete == 'yes'


class SlowStart(SyntheticCamera):
    """Takes its time to start, as real sensors do."""

    def start(self) -> None:
        time.sleep(3 * PROGRESS_PERIOD_S)
        super().start()


def test_progress_is_told_of_what_runs_not_of_a_camera_that_starts(tmp_path: Path) -> None:
    rec = recorder(tmp_path / 'a.tif', camera=SlowStart(), controls=paced(), progress=lambda status: rec.stopVid())
    report = rec.recordVid()
    assert report.stopped == 'stopVid' and report.complete == 'yes'


def test_no_descriptor_and_no_thread_stays_in_the_script(tmp_path: Path) -> None:
    def count() -> int:
        return len(os.listdir('/proc/self/fd'))

    rec = recorder(tmp_path / 'a.tif', overwrite=True, callback=lambda buffer, cb_queue: cb_queue.put(1))
    rec.recordVid()
    before = count()
    for _ in range(3):
        rec.recordVid()
        list(rec.cb_queue)
    assert count() <= before


def test_the_example_of_the_design_runs(tmp_path: Path) -> None:
    text = '''
from ProcessedPiRecorder import ProcessedPiRecorder as ppr

def find_faces(buffer, cb_queue):
    cb_queue.put({'index': buffer[-1].index, 'faces': []})

def handle(result):
    print(result['index'])

rec = ppr('trial.tif', x_resolution=1280, y_resolution=480, scale_factor=0.3, framerate=25, rec_length=1,
          stereo=True, callback=find_faces, cb_type='3Proc', buffer_length=2, blocking=False, display=False,
          camera='synthetic')
with rec:
    rec.recordVid()
    for result in rec.cb_queue:          # ends when the recording has ended and everything is read
        handle(result)
report = rec.report
assert report.complete == 'yes', report
'''
    process = run_script(text, tmp_path)
    assert process.returncode == 0, process.err          # type: ignore[attr-defined]
    assert process.out.split() == [str(number) for number in range(25)]   # type: ignore[attr-defined]
    with tifffile.TiffFile(tmp_path / 'trial.tif') as tif:
        assert tif.asarray().shape == (25, 144, 384, 3)




@pytest.mark.parametrize('habit', [
    'signal.signal(signal.SIGPIPE, signal.SIG_DFL)', 'signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])',
    'os.close(0); os.close(1); os.close(2)'])
def test_habits_of_a_script_do_no_harm(tmp_path: Path, habit: str) -> None:
    text = f'''
import os, signal
from ProcessedPiRecorder import ProcessedPiRecorder as ppr
{habit}
def talk(buffer, cb_queue):
    try:
        os.write(2, b'into whatever descriptor 2 is')
    except OSError:
        pass
rec = ppr('trial.tif', 96, 64, 1, 100, 0.5, False, camera='synthetic', callback=talk)
report = rec.recordVid()
open('verdict', 'w').write(report.complete)
'''
    run_script(text, tmp_path)
    assert (tmp_path / 'verdict').read_text() == 'yes'
    assert assert_finished(tmp_path / 'trial.tif') == 50


def test_a_file_that_is_taken_away_or_written_twice_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    with recorder(path, blocking=False, controls=paced()) as rec:
        rec.recordVid()
        wait_until(lambda: rec.status().written > 5)
        with pytest.raises(errors.RecordingFileError, match='recorded at this moment'):
            recorder(path, overwrite=True).recordVid()
        path.unlink()
        with pytest.raises(errors.RecordingFileError, match='removed or replaced'):
            rec.stopVid()
    assert rec.report.complete == 'no' and rec.report.written == 0 and rec.report.files == []


def test_a_progress_function_that_leaves_does_not_hang_the_script(tmp_path: Path) -> None:
    import sys
    rec = recorder(tmp_path / 'a.tif', controls=paced(), rec_length=0.8, progress=lambda status: sys.exit(3))
    assert rec.recordVid().complete == 'yes'
