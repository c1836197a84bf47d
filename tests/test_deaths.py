"""The death of anyone: what its heirs make of the recording, what is said, and who is left.

The campaign kills everybody in every phase (tests/faults/deaths.py); here is what one death comes to in detail.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from argparse import Namespace
from pathlib import Path
from typing import Any, List, Tuple

import numpy as np
import psutil
import pytest
from recording_tools import assert_matches_truth, paced, recorder, results, wait_until

from ProcessedPiRecorder import errors, heir
from ProcessedPiRecorder import recorder as recorder_module
from ProcessedPiRecorder.cameras import Granted, SyntheticCamera
from ProcessedPiRecorder.errors import ProcessDiedError
from ProcessedPiRecorder.pipeline import finisher, hub, keeper
from ProcessedPiRecorder.pipeline.clocks import clock_steps
from ProcessedPiRecorder.pipeline.deaths import death_of, recounted
from ProcessedPiRecorder.pipeline.lifelines import Lifelines
from ProcessedPiRecorder.pipeline.loop import Loop
from ProcessedPiRecorder.pipeline.ring import RingLayout, Stat
from ProcessedPiRecorder.recordings.reader import RecordingFile
from ProcessedPiRecorder.recordings.repair import repair
from ProcessedPiRecorder.recordings.salvage import finished_report
from ProcessedPiRecorder.recordings.tally import Tally
from ProcessedPiRecorder.recordings.verification import verify


def pid_of(role: str, rec: Any) -> int:
    return int(rec._run.keeper.pid if role == 'keeper' else rec._run.lifelines._ends[role][0])


def kill(rec: Any, *roles: str, number: int = signal.SIGKILL, after: int = 40) -> Tuple[ProcessDiedError, Any]:
    """Record a while, kill these; the error that surfaces, and the report."""
    rec.recordVid()
    wait_until(lambda: rec.status().written >= after)
    for pid in [pid_of(role, rec) for role in roles]:
        os.kill(pid, number)
    with pytest.raises(ProcessDiedError) as raised:
        rec.wait(40)
    return raised.value, rec.report


def put_index(buffer: Any, cb_queue: Any) -> None:
    cb_queue.put(buffer[-1].index)


def live(path: Path, **settings: Any) -> Any:
    return recorder(path, blocking=False, controls=paced(), **settings)


def assert_whole(path: Path, report: Any) -> None:
    """A finished file that agrees with its report and with the camera's truth."""
    assert [finding.text for finding in verify(path).findings] == []
    stored = finished_report(path)
    assert stored is not None and stored.written == report.written
    assert {**stored.as_dict(), 'files': 0} == {**report.as_dict(), 'files': 0}


# ------------------------------------------------------------------ the writer

def test_a_dead_writers_file_is_finished_by_its_heir(tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    rec = live(path, callback=put_index, metadata={'animal': 'A7'})
    rec.recordVid()
    wait_until(lambda: rec.status().written >= 20)
    rec.mark('stim')
    time.sleep(0.3)
    os.kill(pid_of('writer', rec), signal.SIGKILL)
    with pytest.raises(ProcessDiedError, match='its file has been finished') as raised:
        rec.wait()
    error, report = raised.value, rec.report
    assert (error.role, error.exitcode, error.signal_name) == ('writer', -9, 'SIGKILL')
    assert error.frames_captured == report.captured >= error.frames_written == report.written >= 20
    assert report.complete == 'no' and 'writer process ended unexpectedly' in report.reasons[0]
    assert report.files == [str(path)] and report.sensor == report.captured + report.lost
    assert [mark['label'] for mark in report.marks] == ['stim']
    assert report.clock['clock'] and report.camera['width'] == 96
    assert_whole(path, report)
    assert_matches_truth(path, rec.settings, report.written)
    with RecordingFile(path) as recording:
        assert recording.about['metadata'] == {'animal': 'A7'} and recording.about['settings']['framerate'] == 100
    assert [value for _, _, value in results(path)] == list(range(report.results))


def test_pages_that_were_not_yet_synced_are_finished_too(tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    error, report = kill(live(path, sync_interval=60.0), 'writer')
    assert report.written >= 40 and error.frames_written == report.written
    assert_whole(path, report)


def test_an_overwritten_longer_recording_does_not_mix_with_what_a_dead_writer_left(tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    recorder(path, split_frames=3).recordVid()
    assert len(list(tmp_path.glob('*.tif'))) == 10
    _, report = kill(live(path, split_frames=25, overwrite=True), 'writer')
    assert len(report.files) == -(-report.written // 25) < 10
    assert sorted(map(str, tmp_path.glob('*.tif'))) == report.files
    assert_whole(path, report)


def test_an_heir_finds_the_parts_of_a_recording_that_was_made_through_a_link(tmp_path: Path) -> None:
    path, link = tmp_path / 'disk' / 'a.tif', tmp_path / 'link.tif'
    path.parent.mkdir()
    recorder(path).recordVid()
    link.symlink_to(path)
    _, report = kill(live(link, split_frames=15, overwrite=True, callback=put_index), 'writer')
    assert len(report.files) >= 3 and all(Path(file).parent == path.parent for file in report.files)
    assert sorted(os.listdir(tmp_path)) == ['disk', 'link.tif'] and results(path)
    assert_whole(path, report)
    assert verify(link).ok and repair(link).healthy


def starting(rec: Any) -> Tuple[threading.Thread, List[BaseException]]:
    """Start it in a thread, up to where its file has been made; the thread, and what it raises."""
    caught: List[BaseException] = []

    def start() -> None:
        try:
            rec.recordVid()
        except errors.RecorderError as error:
            caught.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    wait_until(lambda: rec._run is not None and rec._run.file is not None)
    return thread, caught


class NeverStarts(SyntheticCamera):
    """Has opened, and does not get to its first frame."""

    def start(self) -> None:
        time.sleep(5)


@pytest.mark.parametrize('role', ['writer', 'reader', 'keeper'])
def test_a_death_before_the_first_frame_leaves_the_older_recording_alone(tmp_path: Path, role: str) -> None:
    path = tmp_path / 'a.tif'
    recorder(path).recordVid()
    before = path.read_bytes()
    rec = live(path, overwrite=True, camera=NeverStarts())
    thread, caught = starting(rec)
    os.kill(pid_of(role, rec), signal.SIGKILL)
    thread.join(20)
    assert not thread.is_alive() and isinstance(caught[0], ProcessDiedError) and caught[0].role == role
    assert 'nothing was recorded' in str(caught[0]) and rec.report is None
    assert os.listdir(tmp_path) == ['a.tif'] and path.read_bytes() == before


def test_a_file_that_cannot_be_finished_is_left_as_it_is_and_repair_is_named(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise errors.RecordingFileError('no room on purpose')

    monkeypatch.setattr(finisher, 'finish_cut_off', fail)
    error, report = kill(live(tmp_path / 'a.tif', callback=put_index), 'writer')
    assert 'no room on purpose' in str(error) and f'ppr repair {tmp_path / "a.tif"}' in str(error)
    assert 'what was written is safe' not in str(error)
    assert report.complete == 'no' and report.captured >= report.written > 0
    assert report.processed == report.written        # counted from the pages
    with RecordingFile(tmp_path / 'a.tif') as recording:
        assert not recording.finished and recording.pages == report.written


def test_a_finisher_that_does_not_get_on_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finisher, 'finish_cut_off', lambda *arguments, **options: time.sleep(100))
    monkeypatch.setattr(keeper, 'FINISH_TIMEOUT_S', 0.5)
    monkeypatch.setattr(keeper, 'slowest_call_s', lambda settings: 0.0)
    error, _ = kill(live(tmp_path / 'a.tif'), 'writer')
    assert 'so it was killed; check the disk' in str(error) and 'ppr repair' in str(error)


def test_the_file_of_a_writer_that_did_not_get_on_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, 'FINISH_TIMEOUT_S', 2.0)
    monkeypatch.setattr(keeper, 'slowest_call_s', lambda settings: 0.0)
    path = tmp_path / 'a.tif'
    rec = live(path)
    rec.recordVid()
    wait_until(lambda: rec.status().written >= 10)
    os.kill(pid_of('writer', rec), signal.SIGSTOP)
    with pytest.raises(ProcessDiedError, match='so it was killed.*its file has been finished'):
        rec.stopVid()
    assert_whole(path, rec.report)


def leave_a_fork(buffer: Any, cb_queue: Any) -> None:
    if buffer[-1].index == 5 and os.fork() == 0:
        time.sleep(50)
        os._exit(0)


def test_what_a_callback_of_a_dead_writer_has_forked_does_not_keep_the_heir_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    error, report = kill(live(path, callback=leave_a_fork, cb_type='2Proc'), 'writer')
    assert 'its file has been finished' in str(error)
    assert_whole(path, report)


def test_a_writer_whose_hub_fails_tells_of_all_pages_that_it_had_handed_to_the_file(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = hub.Hub._count

    def fail(self: Any, held: Any) -> None:
        count(self, held)
        if held.index == 200:
            raise RuntimeError('on purpose')

    monkeypatch.setattr(hub.Hub, '_count', fail)
    path = tmp_path / 'a.tif'
    rec = recorder(path, controls={'frames': 300})
    with pytest.raises(ProcessDiedError, match='the writer process failed: RuntimeError: on purpose'):
        rec.recordVid()
    assert rec.report.complete == 'no' and rec.report.written == 200
    found = verify(path)
    assert found.ok and found.report is not None and found.report.written == found.pages == 200


def test_without_a_file_a_dead_writers_report_has_the_counters(tmp_path: Path) -> None:
    rec = recorder(None, blocking=False, controls=paced(), write_vid=False, callback=put_index)
    rec.recordVid()
    wait_until(lambda: rec.status().processed >= 20)
    os.kill(pid_of('writer', rec), signal.SIGKILL)
    with pytest.raises(ProcessDiedError):
        rec.wait()
    assert rec.report.captured == rec.report.sensor >= rec.report.processed >= 20 and rec.report.results >= 20
    assert (rec.report.written, rec.report.files) == (0, [])


def test_a_frame_that_only_the_writer_has_counted_counts(tmp_path: Path) -> None:
    """The reader counts a frame after it has passed it on, and both can die before it is in the file."""
    rec = live(tmp_path / 'a.tif')
    plan, _ = rec._plan()
    stats = np.zeros(64, np.int64)
    stats[Stat.CAPTURED], stats[Stat.RECEIVED] = 60, 61
    granted = Granted(96, 64, 96, 64, 100.0, 'bgr', 'none', 'count')
    orders = finisher.FinisherOrders(RingLayout((64, 96, 3), 8, 0, 0), granted, finisher.OwnFile(tmp_path, 0, 0), {},
                                     ['gone'], [], 0)
    report = finisher.Account(plan, orders, stats).of_pages(Tally(96 * 64 * 3), [])
    assert report.captured == report.sensor == 61 and '61 captured frames are not in the file' in report.reasons


# ------------------------------------------------------------------ the keeper, and others with it

def test_the_script_waits_for_the_file_of_a_dead_keeper_and_has_its_report(tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    error, report = kill(live(path, callback=put_index), 'keeper')
    assert (error.role, error.signal_name) == ('keeper', 'SIGKILL') and error.frames_captured == report.captured
    assert report.complete == 'unknown' and report.written == report.captured >= 40
    assert_whole(path, report)
    assert_matches_truth(path, rec_settings(path), report.written)


def rec_settings(path: Path) -> Any:
    return live(path.with_name('never.tif')).settings


def test_the_script_finishes_the_file_when_keeper_and_writer_die_at_once(tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    error, report = kill(live(path), 'keeper', 'writer')
    assert error.role == 'keeper' and report.complete == 'no' and report.written >= 39
    assert_whole(path, report)


def test_a_finisher_whose_keeper_dies_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                   caplog: pytest.LogCaptureFixture) -> None:
    finish, begun = finisher.finish_cut_off, tmp_path / 'begun'

    def finish_slowly(path: Path, *, describe: Any, progress: Any) -> Any:
        def describe_slowly(*arguments: Any) -> Any:
            begun.touch()
            time.sleep(1.5)
            return describe(*arguments)
        return finish(path, describe=describe_slowly, progress=progress)

    monkeypatch.setattr(finisher, 'finish_cut_off', finish_slowly)
    path = tmp_path / 'a.tif'
    rec = live(path)
    rec.recordVid()
    wait_until(lambda: rec.status().written >= 10)
    os.kill(pid_of('writer', rec), signal.SIGKILL)
    wait_until(begun.exists)
    os.kill(pid_of('keeper', rec), signal.SIGKILL)
    with pytest.raises(ProcessDiedError, match='finished all the same'):
        rec.wait()
    assert 'could not be finished' not in caplog.text
    assert_whole(path, rec.report)


def start_in_background(buffer: Any, cb_queue: Any) -> None:
    subprocess.run(['sh', '-c', 'true &'], check=True)


@pytest.mark.filterwarnings('ignore::ProcessedPiRecorder.errors.CallbackBypassedWarning')     # a busy machine
def test_what_a_callback_leaves_to_end_by_itself_is_buried_at_once(tmp_path: Path) -> None:
    rec = live(tmp_path / 'a.tif', callback=start_in_background, framerate=50)
    rec.recordVid()
    wait_until(lambda: rec.status().processed >= 20)
    keeper_process = psutil.Process(pid_of('keeper', rec))
    wait_until(lambda: [child.status() for child in keeper_process.children()].count(psutil.STATUS_ZOMBIE) < 5, 5.0)
    rec.stopVid()


class NeverEntered:
    """A callback whose __enter__ hangs."""

    def __enter__(self) -> Any:
        time.sleep(50)

    def __exit__(self, *exc: Any) -> None:
        pass

    def __call__(self, buffer: Any, cb_queue: Any) -> None:
        pass


def test_a_callback_that_hangs_while_it_is_entered_does_not_outlive_its_keeper(tmp_path: Path) -> None:
    rec = live(tmp_path / 'a.tif', callback=NeverEntered())
    thread, caught = starting(rec)
    time.sleep(0.5)                                # the ring has come to the callback, and it is entered
    begun = time.monotonic()
    os.kill(pid_of('keeper', rec), signal.SIGKILL)
    thread.join(40)
    assert time.monotonic() - begun < 30 and isinstance(caught[0], ProcessDiedError)
    assert os.listdir(tmp_path) == []


def test_what_a_callback_has_forked_does_not_pass_for_the_dead_writer(tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    begun = time.monotonic()
    _, report = kill(live(path, callback=leave_a_fork, cb_type='2Proc'), 'keeper', 'writer')
    assert time.monotonic() - begun < 30           # the fork lives for 50 s
    assert_whole(path, report)
    for child in psutil.Process().children():      # nobody else is left to end it
        child.kill()


def hang(buffer: Any, cb_queue: Any) -> None:
    if buffer[-1].index >= 5:
        threading.Event().wait()


def test_a_callback_that_hangs_does_not_outlive_a_dead_keeper(tmp_path: Path) -> None:
    rec = live(tmp_path / 'a.tif', callback=hang, cb_delivery='latest', ring_frames=400)
    begun = time.monotonic()
    _, report = kill(rec, 'keeper', after=4)
    assert time.monotonic() - begun < 20 and report.written == report.captured


def test_a_keeper_that_does_not_answer_is_ended_and_nothing_is_lost(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, 'KEEPER_PATIENCE_S', 0.5)
    rec = live(tmp_path / 'a.tif')
    rec.recordVid()
    wait_until(lambda: rec.status().written >= 10)
    os.kill(pid_of('keeper', rec), signal.SIGSTOP)
    with pytest.raises(ProcessDiedError, match='did not answer for 0.5 s'):
        rec.stopVid()
    assert rec.report.written == rec.report.captured >= 10
    assert_whole(tmp_path / 'a.tif', rec.report)


def test_a_writer_that_is_stopped_for_ever_is_ended_by_the_script_too(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heir, 'FINISH_TIMEOUT_S', 0.5)
    monkeypatch.setattr(heir, 'slowest_call_s', lambda settings: 0.0)
    rec = live(tmp_path / 'a.tif')
    rec.recordVid()
    wait_until(lambda: rec.status().written >= 10)
    os.kill(pid_of('writer', rec), signal.SIGSTOP)
    os.kill(pid_of('keeper', rec), signal.SIGKILL)
    with pytest.raises(ProcessDiedError):
        rec.wait()
    assert rec.report.complete == 'no' and rec.report.written >= 10
    assert_whole(tmp_path / 'a.tif', rec.report)


def test_a_reader_that_a_signal_ended_is_named_with_it(tmp_path: Path) -> None:
    rec = recorder(tmp_path / 'a.tif', controls=paced(kill_at=30, kill_signal=int(signal.SIGUSR1)))
    with pytest.raises(ProcessDiedError, match='killed by SIGUSR1') as raised:
        rec.recordVid()
    assert raised.value.role == 'reader' and raised.value.signal_name == 'SIGUSR1'
    assert rec.report.written == 30 and rec.report.complete == 'no'
    assert any('is not known' in reason for reason in rec.report.reasons)


def test_a_frame_that_a_killed_reader_had_not_counted_yet_is_told() -> None:
    child = Namespace(role='reader', exitcode=-9, crash=None, verdict='')
    stats = np.zeros(64, np.int64)
    stats[Stat.CAPTURED], stats[Stat.RECEIVED], stats[Stat.WRITTEN] = 146, 147, 120
    assert 'after 147 frames were captured and 120 written' in death_of(child, stats).message    # type: ignore[arg-type]
    death = recounted(death_of(child, stats), {'captured': 148})           # type: ignore[arg-type]
    assert death.values['frames_captured'] == 148 and 'after 148 frames were captured and 120 written' in death.message
    assert recounted(death, {'captured': 148}) == death


def test_an_exit_code_is_no_signal(tmp_path: Path) -> None:
    rec = recorder(tmp_path / 'a.tif', controls={'frames': None, 'exit_at': 12})
    with pytest.raises(ProcessDiedError, match='exit code') as raised:
        rec.recordVid()
    assert raised.value.signal_name is None and raised.value.exitcode is not None and raised.value.exitcode > 0


def test_the_error_travels() -> None:
    error = pickle.loads(pickle.dumps(ProcessDiedError('gone', 'writer', -11, 5, 4)))
    assert (error.signal_name, error.role, error.frames_captured, error.frames_written) == ('SIGSEGV', 'writer', 5, 4)
    assert ProcessDiedError('gone', exitcode=-250).signal_name is None


# ------------------------------------------------------------------ '2Proc'

def exit_at_30(buffer: Any, cb_queue: Any) -> None:
    cb_queue.put(buffer[-1].index)
    if buffer[-1].index == 30:
        os._exit(7)


def test_a_callback_that_exits_in_2Proc_takes_the_writer_along_but_not_the_file(tmp_path: Path) -> None:
    rec = recorder(tmp_path / 'a.tif', callback=exit_at_30, cb_type='2Proc', controls=paced())
    with pytest.raises(ProcessDiedError, match='exit code 7') as raised:
        rec.recordVid()
    assert raised.value.role == 'writer' and 1 <= rec.report.written <= 31
    assert_whole(tmp_path / 'a.tif', rec.report)


# ------------------------------------------------------------------ parts

def sleeper(fd: int) -> 'subprocess.Popen[bytes]':
    return subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], pass_fds=[fd],
                            start_new_session=True)


def test_lifelines_tell_who_is_gone_and_end_who_stays() -> None:
    lines = Lifelines()
    processes = []
    for role in ('writer', 'callback'):
        read, write = os.pipe()
        processes.append(sleeper(write))
        os.close(write)
        lines.add(role, processes[-1].pid, read)
    assert lines.wait(['reader'], 0) and not lines.wait(['writer'], 0.05)
    lines.kill('writer')
    assert lines.wait(['writer'], 0) and not lines.wait(['writer', 'callback'], 0.05)
    lines.kill('callback')
    assert lines.wait(['writer', 'callback'], 0)
    assert [process.wait() for process in processes] == [-9, -9]
    lines.kill('callback')                 # its number may be another's by now
    lines.close()
    lines.close()


def test_the_loop_answers_messages_and_moments_and_forgets_what_was_cancelled() -> None:
    heard: List[str] = []
    loop = Loop(lambda: heard.append('deaths'))
    read, write = os.pipe()
    os.write(write, b'x')
    with os.fdopen(read, 'rb', 0) as source:
        loop.watch(source, lambda: heard.append('message'))
        loop.after('late', 0.0, lambda: heard.append('late'))
        loop.after('never', 0.0, lambda: heard.append('never'))
        loop.cancel('never')
        loop.turn()
        assert heard == ['message', 'deaths', 'late'] and not loop.is_set('late')
        loop.forget(source)
        assert not loop.watches(source)
    os.close(write)


def test_clock_steps_are_told_with_their_sizes() -> None:
    text = clock_steps([{'monotonic_ns': 1, 'step_ns': 3_600_000_000_000}] * 6)
    assert '+3,600.000 s' in text and '…' in text
