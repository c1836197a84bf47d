"""The soak, shortened: that it runs and finds a sound recorder flat, and that each of its judges can say no."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Tuple

import psutil
import pytest
import soak
from recording_tools import ROOT, recorder, wait_until
from soak_judgement import Finding, growth_of, judge_counts, judge_handles, judge_latency, judge_memory, judge_processes
from soak_parts import PartKeeper
from soak_run import Asked, run
from soak_sampling import ROLES, Sample

from ProcessedPiRecorder.errors import RecordingFileError, SettingsError
from ProcessedPiRecorder.recordings.reader import RecordingFile

#: Three parts in five seconds. The camera keeps all frames for a reader that comes late on a busy machine.
SHORT = Asked(Path(), seconds=5, warm_up_s=1.5, every_s=0.2, fps=30, width=320, height=240, pixel_format='gray',
              buffers=1000, part_s=2)
MB = 1e6


def failed(findings: List[Finding]) -> Dict[str, str]:
    return {finding.name: finding.text for finding in findings if not finding.good}


# ------------------------------------------------------------------ whole runs

def test_a_sound_recorder_is_complete_and_flat(tmp_path: Path) -> None:
    asked = SHORT._replace(output=tmp_path)
    asked.prepare_folder()
    found, findings = run(asked)
    # Five seconds on a shared machine say nothing about its latency.
    wrong = {name: text for name, text in failed(findings).items() if 'latency' not in name}
    assert not wrong and {finding.name for finding in findings} >= {
        'complete', 'a result for each frame', 'pages', 'descriptors', 'threads', 'nobody left behind',
        *(f'memory of the {role}' for role in ROLES)}
    assert found.results == len(found.late_ns) == len(found.disk_ms) == 150
    assert found.report is not None and found.report['returned'] == 150 and len(found.report['files']) == 3
    # The last samples may come when some have ended, the first ones before all have begun.
    assert set(ROLES) in [set(roles) for _, roles in found.samples]
    assert all(late_ns > 0 for late_ns in found.late_ns) and all(late > 0 for late in found.disk_ms)
    assert not asked.recording.parent.exists()
    soak.show(soak.Console(width=80), asked, found, findings)
    stored = json.loads(json.dumps(soak.as_json(asked, found, findings)))
    assert len(stored['samples']['writer']['own']) == len(stored['seconds'])


def test_a_leak_of_the_callback_is_found(tmp_path: Path) -> None:
    asked = SHORT._replace(output=tmp_path, seconds=3, warm_up_s=1, leak_bytes=400_000, keep=True)
    asked.prepare_folder()
    _, findings = run(asked)
    assert 'memory of the callback' in failed(findings)
    assert {'memory of the writer', 'memory of the reader', 'memory of the script', 'complete', 'pages'} \
        <= {finding.name for finding in findings if finding.good}
    assert sorted(path.name for path in asked.recording.parent.iterdir()) == [
        'soak.csv', 'soak.results.jsonl', 'soak.tif', 'soak_001.tif']


def test_an_interrupted_soak_leaves_nothing_running(tmp_path: Path) -> None:
    command = [sys.executable, str(Path(soak.__file__)), '--output', str(tmp_path), '--size', '320x240',
               '--minutes', '2']
    process = subprocess.Popen(command, env={**os.environ, 'PYTHONPATH': str(ROOT)}, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: len(psutil.Process(process.pid).children(recursive=True)) == 5, 30)
    wait_until(lambda: (tmp_path / 'recording' / 'soak.results.jsonl').exists())
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130 and 'interrupted; nothing is left running' in errors
    assert not (tmp_path / 'recording').exists()


# ------------------------------------------------------------------ the command line

@pytest.mark.parametrize('arguments, problem', [
    (['--size', '1280'], '--size 1280 is no size'), (['--minutes', '0.1'], 'behind a warm-up of 10 s')])
def test_what_cannot_be_run_so_is_said(arguments: List[str], problem: str, capsys: Any) -> None:
    assert soak.main(arguments) == 2
    assert problem in capsys.readouterr().err


def test_half_an_hour_by_default() -> None:
    asked = soak.parse([])
    assert (asked.seconds, asked.fps, asked.width, asked.height, asked.pixel_format, asked.warm_up_s) == (
        1800, 60, 1280, 480, 'bgr', 180)
    assert asked.settings()['split_frames'] == 3600


def test_a_disk_that_is_too_small_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, 'disk_usage', lambda folder: usage._replace(free=30 * 10**9))
    asked = soak.parse(['--output', str(tmp_path / 'soak')])
    with pytest.raises(RecordingFileError, match='30.0 GB free, and this soak may need 34.2 GB at once; make room'):
        soak.require_room(asked)
    soak.require_room(asked._replace(scene='flat'))
    soak.require_room(asked._replace(part_s=20))
    with pytest.raises(RecordingFileError, match='may need 200.1 GB'):
        soak.require_room(asked._replace(part_s=20, keep=True))


def test_bad_arguments_are_settings_errors() -> None:
    with pytest.raises(SettingsError):
        soak.parse(['--minutes', '0'])


# ------------------------------------------------------------------ the judges

def samples(**series: List[float]) -> List[Tuple[float, Dict[str, Sample]]]:
    """A sample a second of all roles, steady but for what is given: own in MB, fds, threads, pid of the writer."""
    steady = Sample(pid=1, rss=0, pss=0, uss=0, own=round(50 * MB), fds=9, threads=2, cpu_s=0.0)
    length = len(next(iter(series.values())))
    found = []
    for second in range(length):
        changes = {name: round(values[second] * (MB if name == 'own' else 1)) for name, values in series.items()}
        found.append((float(second), {role: steady._replace(**changes) if role == 'writer' else steady
                                      for role in ROLES}))
    return found


def test_memory_may_wander_but_not_climb() -> None:
    wander = [50 + (second * 7 % 11) / 3 + (60 if second % 50 < 5 else 0) for second in range(600)]
    assert not failed(judge_memory(samples(own=wander)))
    climb = [value + 8 * second / 600 for second, value in enumerate(wander)]
    assert list(failed(judge_memory(samples(own=climb)))) == ['memory of the writer']
    assert 'it was not seen' in failed(judge_memory([(0.0, {}), (1.0, {})]))['memory of the reader']


def test_the_line_is_the_climb() -> None:
    assert growth_of([(second, 10 + second / 4) for second in range(401)]).rise == pytest.approx(100)
    assert growth_of([(0, 5), (1, 5)]) == (5, 0)
    with pytest.raises(ValueError, match='two samples'):
        growth_of([(0, 5)])


def test_descriptors_and_threads_may_come_and_go_but_not_stay() -> None:
    passing = [9 + (second % 20 == 0) for second in range(200)]
    assert not failed(judge_handles(samples(fds=passing, threads=[2] * 200)))
    growing = [9 + second // 50 for second in range(200)]
    assert 'writer 9 → 12' in failed(judge_handles(samples(fds=growing)))['descriptors']
    assert list(failed(judge_handles(samples(threads=growing)))) == ['threads']
    assert 'up to 20' in failed(judge_handles(samples(fds=[9] * 50 + [20] + [9] * 50)))['descriptors']


def test_a_process_that_was_started_again_is_seen() -> None:
    assert not failed(judge_processes(samples(pid=[5] * 10)))
    assert 'writer: 2' in failed(judge_processes(samples(pid=[5] * 5 + [6] * 5)))['the same processes']


def latency(ms: Any, seconds: int = 100) -> List[Tuple[float, float]]:
    """Sixty frames a second, of which one in thirty takes five times as long."""
    return [(number / 60, ms(number / 60) * (5 if number % 30 == 0 else 1)) for number in range(60 * seconds)]


@pytest.mark.parametrize('others', [[], [(float(second), 1.5) for second in range(102)]], ids=['quiet', 'busy'])
def test_latency_that_grows_is_found_on_a_quiet_machine_and_on_a_busy_one(others: List[Tuple[float, float]]) -> None:
    assert not failed(judge_latency('x', latency(lambda when: 4), others))
    assert set(failed(judge_latency('x', latency(lambda when: 4 + when / 6), others))) == {
        'x latency p50', 'x latency p99'}


def test_what_other_programs_do_is_no_growth() -> None:
    slow = latency(lambda when: 100 if when >= 70 and int(when) % 3 else 4)
    assert set(failed(judge_latency('x', slow, []))) == {'x latency p50', 'x latency p99'}
    others = [(second + 0.9, 1.0 if second >= 70 and second % 3 else 0.05) for second in range(100)]
    findings = judge_latency('x', slow, others)
    assert not failed(findings) and 'without' in findings[0].text
    assert 'too few' in failed(judge_latency('x', latency(lambda when: 4, 3), []))['x latency']


@pytest.mark.parametrize('changes, results, name', [
    ({'complete': 'no', 'reasons': ['1 frame lost']}, 9, 'complete'), ({'complete': 'unknown'}, 9, 'complete'),
    ({'written': 8}, 9, 'a result for each frame'), ({'results': 8}, 9, 'a result for each frame'),
    ({}, 8, 'a result for each frame')])
def test_every_frame_and_every_result_is_counted(changes: Dict[str, Any], results: int, name: str) -> None:
    report = {'complete': 'yes', 'reasons': [], 'captured': 9, 'written': 9, 'results': 9}
    assert not failed(judge_counts(report, 9, 0))
    assert list(failed(judge_counts({**report, **changes}, results, 0))) == [name]
    assert list(failed(judge_counts(report, 9, 1))) == ['a result for each frame']


# ------------------------------------------------------------------ the files

def recorded(folder: Path) -> Path:
    recorder(folder / 'a.tif', split_frames=10).recordVid()
    return folder / 'a.tif'


def checked(path: Path, keep: bool = True) -> PartKeeper:
    parts = PartKeeper(path, keep)
    parts.finish()
    return parts


def test_parts_that_are_sound_are_counted_and_removed(tmp_path: Path) -> None:
    path = recorded(tmp_path)
    parts = checked(path, keep=False)
    assert (parts.pages, parts.parts, parts.problems) == (30, 3, [])
    assert parts.verified == 6 and parts.decoded == 3 and not list(tmp_path.glob('*.tif'))


def test_a_part_that_is_missing_damaged_or_mixed_up_is_told(tmp_path: Path) -> None:
    path = recorded(tmp_path)
    with RecordingFile(path) as recording:
        place = int(recording.index()[9]['strip_offset']) + 20
    whole = path.read_bytes()
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1:])
    second, third = tmp_path / 'a_001.tif', tmp_path / 'a_002.tif'
    os.replace(third, second)
    problems = checked(path).problems
    assert 'a.tif, page 9: its checksum does not fit' in problems and 'a_001.tif: frame 20 follows frame 9' in problems


def test_parts_are_checked_and_removed_while_the_next_ones_are_recorded(tmp_path: Path) -> None:
    parts = PartKeeper(tmp_path / 'a.tif', keep=False)
    rec = recorder(tmp_path / 'a.tif', split_frames=10, controls={'pace': True, 'frames': 60, 'buffers': 100},
                   framerate=30, blocking=False)
    with rec:
        rec.recordVid()
        # Only the recording's name stays, which the recorder looks for at its end.
        wait_until(lambda: parts.look() or parts.removed_bytes)
        assert rec.recording and (tmp_path / 'a.tif').exists() and not (tmp_path / 'a_001.tif').exists()
        report = rec.wait()
    parts.finish()
    assert report is not None and report.complete == 'yes' and parts.pages == 60 and not parts.problems
