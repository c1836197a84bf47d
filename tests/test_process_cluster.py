"""Recordings processed on a Dask cluster: the same results, whatever dies, and nothing half-written."""

from __future__ import annotations

import contextlib
import gc
import http.server
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np
import psutil
import pytest
from recording_tools import ROOT, recorder, statuses, wait_until

from ProcessedPiRecorder import __version__, errors, open_recording
from ProcessedPiRecorder.cli import main
from ProcessedPiRecorder.processing import process
from ProcessedPiRecorder.processing.cluster import process_many
from ProcessedPiRecorder.processing.collecting import Collector
from ProcessedPiRecorder.processing.connecting import _carried, _look_around, cluster_of
from ProcessedPiRecorder.processing.task import task_for
from ProcessedPiRecorder.processing.worker import BlockResult
from ProcessedPiRecorder.recordings.verification import verify

pytest.importorskip('distributed')

FRAMES = 60
ASK = 'import json, pickle, sys; print(json.dumps(pickle.load(sys.stdin.buffer)[:2]))'
ENVIRONMENT = {**os.environ, 'DASK_LOGGING__DISTRIBUTED': 'critical',
               'PYTHONPATH': os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))}


class DaskCluster:
    """A scheduler and workers as people start them, each a process of its own."""

    def __init__(self, folder: Path, workers: int) -> None:
        self._folder, about = folder, folder / 'scheduler.json'
        self.workers: Optional['subprocess.Popen[bytes]'] = None
        self.scheduler = self._start('dask_scheduler', '--host', '127.0.0.1', '--port', '0')
        try:
            wait_until(about.exists, 40)
            self.address: str = wait_until(lambda: self._address(about), 10)
            if workers:
                self.start_workers(workers)
        except BaseException:
            self.close()
            raise

    def start_workers(self, count: int) -> None:
        workers = self.workers = self._start('dask_worker', '--nworkers', str(count), '--nthreads', '1',
                                             '--death-timeout', '40')
        wait_until(lambda: len(worker_processes(workers.pid)) == count, 40)

    def _start(self, what: str, *arguments: str) -> 'subprocess.Popen[bytes]':
        return subprocess.Popen([sys.executable, '-m', f'distributed.cli.{what}', *arguments, '--no-dashboard',
                                 '--scheduler-file', 'scheduler.json'], cwd=self._folder, env=ENVIRONMENT,
                                stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    @staticmethod
    def _address(about: Path) -> Any:
        try:
            return json.loads(about.read_text())['address']
        except ValueError:
            return None                    # half written

    def close(self) -> None:
        for child in (self.workers, self.scheduler):
            if child is not None:
                child.terminate()
                child.wait(20)


@pytest.fixture(scope='module')
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    started = DaskCluster(tmp_path_factory.mktemp('cluster'), 2)
    yield started
    started.close()


@pytest.fixture(scope='module')
def trial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('trial') / 'trial.tif'
    with recorder(path, controls={'frames': FRAMES}, metadata={'animal': 'M12'}) as rec:
        rec.recordVid()
    return path


@pytest.fixture
def own_trial(trial: Path, tmp_path: Path) -> Path:
    """A copy to be processed beside."""
    path = tmp_path / 'trial.tif'
    path.write_bytes(trial.read_bytes())
    return path


def means(buffer: Any, cb_queue: Any) -> Any:
    """Without state: looks at all of its deque."""
    cb_queue.put({'numbers': [frame.index for frame in buffer], 'means': [float(frame.mean()) for frame in buffer]})
    return 255 - buffer[-1] if buffer[-1].index % 2 else None


def slow(buffer: Any, cb_queue: Any) -> None:
    time.sleep(0.03)
    cb_queue.put(float(buffer[-1].mean()))


def results_of(path: Path) -> bytes:
    return path.with_name(f'{path.stem}_processed.results.jsonl').read_bytes()


def left_in(folder: Path) -> List[str]:
    return sorted(path.name for path in folder.iterdir())


# ---------------------------------------------------------------------- the same results

@pytest.mark.parametrize('buffer_length', [1, 4])
def test_results_are_those_of_one_run_line_by_line(own_trial: Path, tmp_path: Path, cluster: DaskCluster,
                                                   buffer_length: int) -> None:
    process(own_trial, means, buffer_length=buffer_length)
    one_run = results_of(own_trial)
    told: List[Tuple[int, int]] = []
    report, = process_many([own_trial], means, buffer_length=buffer_length, scheduler=cluster.address, overwrite=True,
                           block_frames=7, progress=lambda *done: told.append(done))
    assert results_of(own_trial) == one_run and one_run.count(b'\n') == FRAMES
    assert report.complete and (report.frames, report.processed, report.results) == (FRAMES, FRAMES, FRAMES)
    assert report.notes == [] and report.failures == []
    assert told[0] == (0, FRAMES) and told[-1] == (FRAMES, FRAMES)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert left_in(tmp_path) == ['trial.tif', 'trial_processed.results.jsonl']


def test_a_processed_recording_is_that_of_one_run_and_verifies(own_trial: Path, tmp_path: Path,
                                                               cluster: DaskCluster) -> None:
    process(own_trial, means, out=tmp_path / 'one.tif')
    (tmp_path / 'made').mkdir()
    report, = process_many([own_trial], means, out=tmp_path / 'made', scheduler=cluster.address, block_frames=7)
    made = tmp_path / 'made' / 'trial_processed.tif'
    assert report.out == made and report.complete
    assert verify(made, threads=1).findings == []
    with open_recording(tmp_path / 'one.tif') as one, open_recording(made) as two:
        np.testing.assert_array_equal(one[:], two[:])
        np.testing.assert_array_equal(one.times_ns, two.times_ns)
        np.testing.assert_array_equal(one.indices, two.indices)
        assert statuses(one.path) == statuses(two.path) == ['raw', 'returned'] * (FRAMES // 2)
        assert one.report is not None and two.report is not None
        assert one.report.complete == two.report.complete == 'yes'
        assert two.report.results == FRAMES and two.report.returned == FRAMES // 2
        assert two.metadata['animal'] == 'M12' and two.metadata['processed']['recording'] == 'trial.tif'
    assert report.results_path.read_bytes() == (tmp_path / 'one.results.jsonl').read_bytes()
    assert left_in(tmp_path / 'made') == ['trial_processed.results.jsonl', 'trial_processed.tif']


@pytest.mark.parametrize('compression', [0, 6])
def test_a_recording_of_another_compression_is_made_too(own_trial: Path, tmp_path: Path, cluster: DaskCluster,
                                                        compression: int) -> None:
    with recorder(own_trial, controls={'frames': 10}, tif_compression=6 - compression, overwrite=True) as rec:
        rec.recordVid()
    process_many([own_trial], means, out=tmp_path, scheduler=cluster.address, block_frames=4,
                 tif_compression=compression)
    made = tmp_path / 'trial_processed.tif'
    assert verify(made, threads=1).findings == []
    with open_recording(made) as two, open_recording(own_trial) as one:
        np.testing.assert_array_equal(two[::2], one[::2])
        np.testing.assert_array_equal(two[1::2], 255 - one[1::2])
        assert set(two.effort) == {'none'} if compression == 0 else 'none' not in set(two.effort)


def test_several_recordings_share_the_workers(trial: Path, tmp_path: Path, cluster: DaskCluster) -> None:
    paths = [tmp_path / f'trial_{letter}.tif' for letter in 'abc']
    for path in paths:
        path.write_bytes(trial.read_bytes())
    told: List[Tuple[int, int]] = []
    reports = process_many(paths, means, scheduler=cluster.address, progress=lambda *done: told.append(done),
                           block_frames=16)
    assert [report.recording for report in reports] == paths and all(report.complete for report in reports)
    assert len({results_of(path) for path in paths}) == 1 and told[-1] == (3 * FRAMES, 3 * FRAMES)


def test_a_block_s_length_is_found_by_itself(own_trial: Path, cluster: DaskCluster) -> None:
    report, = process_many([own_trial], slow, scheduler=cluster.address)
    assert report.complete and results_of(own_trial).count(b'\n') == FRAMES


def test_another_program_s_tiff_gets_numbers_and_times(tmp_path: Path, cluster: DaskCluster) -> None:
    import tifffile
    path = tmp_path / 'foreign.tif'
    tifffile.imwrite(path, np.arange(5 * 8 * 8, dtype=np.uint8).reshape(5, 8, 8), photometric='minisblack')
    process(path, means, rate_hz=10, out=tmp_path / 'one.tif')
    report, = process_many([path], means, rate_hz=10, scheduler=cluster.address, block_frames=2, out=tmp_path)
    assert report.results_path.read_bytes() == (tmp_path / 'one.results.jsonl').read_bytes()
    with open_recording(tmp_path / 'one.tif') as one, open_recording(report.out) as two:
        np.testing.assert_array_equal(one[:], two[:])
        assert (two.indices.tolist(), two.times_ns.tolist()) == (one.indices.tolist(), one.times_ns.tolist())
    assert verify(report.out, threads=1).findings == []


class Tracker:
    """Counts its own calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, buffer: Any, cb_queue: Any) -> None:
        self.calls += 1
        cb_queue.put(self.calls)


def test_state_begins_anew_with_each_block_and_the_notes_say_so(own_trial: Path, cluster: DaskCluster) -> None:
    report, = process_many([own_trial], Tracker(), scheduler=cluster.address, block_frames=20)
    counts = [json.loads(line)['result'] for line in results_of(own_trial).splitlines()]
    assert counts == 3 * list(range(1, 21))
    note, = report.notes
    assert 'an object (Tracker)' in note and 'each of the 3 blocks' in note


def test_a_recording_of_one_block_has_nothing_to_tell_of_blocks(tmp_path: Path, cluster: DaskCluster) -> None:
    paths = [tmp_path / 'a.tif', tmp_path / 'b.tif']
    for path in paths:
        with recorder(path, controls={'frames': 3}) as rec:
            rec.recordVid()
    reports = process_many(paths, Tracker(), scheduler=cluster.address)
    assert [report.processed for report in reports] == [3, 3] and reports[0].notes == []


class Summary:
    """Puts a result as it is left, and then fails."""

    def __enter__(self) -> Summary:
        return self

    def __exit__(self, *exc: Any) -> None:
        self.cb_queue.put('summary')
        raise ValueError('after the summary')

    def __call__(self, buffer: Any, cb_queue: Any) -> None:
        self.cb_queue = cb_queue


def test_what_was_put_as_the_callback_was_left_is_stored_though_it_failed_then(own_trial: Path, cluster: DaskCluster
                                                                              ) -> None:
    report, = process_many([own_trial], Summary(), scheduler=cluster.address, block_frames=FRAMES)
    assert [json.loads(line)['result'] for line in results_of(own_trial).splitlines()] == ['summary']
    assert any('after the summary' in note for note in report.notes)


# ---------------------------------------------------------------------- frames that fail

def troubles(buffer: Any, cb_queue: Any) -> None:
    index = buffer[-1].index
    cb_queue.put([index, len(buffer)])
    if index == 11:
        raise ValueError('eleven')
    if index == 30:
        os.kill(os.getpid(), signal.SIGSEGV)
    if index == 44:
        time.sleep(600)


def test_frames_that_raise_die_or_hang_are_listed_and_all_others_processed(own_trial: Path, tmp_path: Path,
                                                                           cluster: DaskCluster) -> None:
    report, = process_many([own_trial], troubles, scheduler=cluster.address, block_frames=20, cb_timeout=2,
                           out=tmp_path)
    assert [(failure.page, failure.why) for failure in report.failures] == [(11, 'raised'), (30, 'died'), (44, 'hung')]
    assert not report.complete and (report.processed, report.results) == (FRAMES - 3, FRAMES - 2)
    assert [note for note in report.notes if 'started again' in note and 'began anew' in note]
    told = [json.loads(line) for line in (tmp_path / 'trial_processed.failures.jsonl').read_text().splitlines()]
    assert [line['why'] for line in told] == ['raised', 'died', 'hung'] and 'ValueError: eleven' in told[0]['text']
    assert [page for page, status in enumerate(statuses(report.out)) if status == 'failed'] == [11, 30, 44]
    assert verify(report.out, threads=1).findings == []


def test_unreadable_pages_are_listed_and_told_as_lost(own_trial: Path, tmp_path: Path, cluster: DaskCluster) -> None:
    from ProcessedPiRecorder.recordings.reader import RecordingFile
    with RecordingFile(own_trial) as file:
        places = [int(file.index()[page]['strip_offset']) for page in (6, FRAMES - 1)]
    with open(own_trial, 'r+b') as target:
        for place in places:
            target.seek(place + 20)
            target.write(b'\xff' * 40)
    report, = process_many([own_trial], means, scheduler=cluster.address, block_frames=7, out=tmp_path)
    assert [(failure.page, failure.why) for failure in report.failures] == [(6, 'unreadable'),
                                                                           (FRAMES - 1, 'unreadable')]
    with open_recording(report.out) as made:
        assert made.report.complete == 'no' and len(made) == FRAMES - 2
        assert [(loss.index, loss.count, loss.reason) for loss in made.losses] == [
            (6, 1, 'damaged'), (FRAMES - 1, 1, 'damaged')]
    assert verify(report.out, threads=1).findings == []


def flip_in_text(path: Path, page: int, old: bytes, new: bytes) -> None:
    """Change some of what the page's text tells; its length stays."""
    from ProcessedPiRecorder.recordings.reader import RecordingFile
    with RecordingFile(path) as file:
        text = file.page_text(page)
    content = path.read_bytes()
    assert text.count(old) == 1 and content.count(text) == 1 and len(old) == len(new)
    path.write_bytes(content.replace(text, text.replace(old, new)))


@pytest.mark.parametrize('kind', ['time', 'nonsense'])
def test_a_page_s_text_is_believed_only_where_it_is_proven(own_trial: Path, tmp_path: Path, cluster: DaskCluster,
                                                           kind: str) -> None:
    with open_recording(own_trial) as trial:
        times = trial.times_ns.tolist()
        digits = str(times[5]).encode()
    damaged = bytes([digits[0], *b'0000', *digits[5:]]) if kind == 'time' else b'x' * len(digits)
    flip_in_text(own_trial, 5, digits, damaged)
    report, = process_many([own_trial], means, scheduler=cluster.address, block_frames=20, out=tmp_path)
    assert report.processed == FRAMES and report.failures == []
    with open_recording(own_trial) as trial, open_recording(report.out) as made:
        assert made.times_ns.tolist() == times and made.indices.tolist() == list(range(FRAMES))
        assert [made.record(page).time_ns for page in (4, 5, 6)] == times[4:7]
        np.testing.assert_array_equal(made[4], trial[4])
        np.testing.assert_array_equal(made[5], 255 - trial[5])
    assert verify(report.out, threads=1).findings == []


def test_marks_and_settings_are_those_of_this_processing(tmp_path: Path, cluster: DaskCluster) -> None:
    path = tmp_path / 'trial.tif'
    with recorder(path, controls={'frames': 30, 'pace': True}, framerate=60, callback=slow, buffer_length=2,
                  blocking=False) as rec:
        rec.recordVid()
        wait_until(lambda: rec.status().captured > 3)
        rec.mark('lick')
        rec.wait()
    with open_recording(path) as trial:
        marks = trial.marks
        assert [mark['label'] for mark in marks] == ['lick']
    report, = process_many([path], means, scheduler=cluster.address, out=tmp_path / 'made', buffer_length=3)
    alone = process(path, means, out=tmp_path / 'alone.tif', buffer_length=3)
    with open_recording(report.out) as made, open_recording(alone.out) as one:
        for name in ('callback', 'buffer_length', 'record'):
            assert made.settings[name] == one.settings[name]
        assert made.settings['callback'].endswith('means') and made.metadata['processed']['marks'] == marks
        assert [mark['label'] for mark in made.marks] == ['lick']


def test_a_split_recording_with_a_file_missing_is_not_complete(tmp_path: Path, cluster: DaskCluster) -> None:
    with recorder(tmp_path / 'split.tif', controls={'frames': 20}, split_frames=8) as rec:
        rec.recordVid()
    os.unlink(tmp_path / 'split_001.tif')
    report, = process_many([tmp_path / 'split.tif'], means, scheduler=cluster.address, out=tmp_path / 'again')
    with open_recording(report.out) as made:
        assert made.report.complete == 'no' and 'split_001.tif' in ' '.join(made.report.reasons)
        assert [(loss.index, loss.count, loss.reason) for loss in made.losses] == [(8, 8, 'source broke off')]
    assert verify(report.out, threads=1).findings == []


def test_a_split_recording_is_taken_once_and_the_folder_is_made(tmp_path: Path, cluster: DaskCluster) -> None:
    with recorder(tmp_path / 'split.tif', controls={'frames': 20}, split_frames=8) as rec:
        rec.recordVid()
    files = sorted(tmp_path.glob('split*.tif'))
    assert len(files) == 3
    report, = process_many(files, means, scheduler=cluster.address, out=tmp_path / 'again', block_frames=10)
    assert report.complete and report.frames == 20
    assert left_in(tmp_path / 'again') == ['split_processed.results.jsonl', 'split_processed.tif']


def test_two_recordings_of_one_name_are_refused_before_anything_begins(own_trial: Path, tmp_path: Path) -> None:
    other = tmp_path / 'other' / 'trial.tif'
    other.parent.mkdir()
    other.write_bytes(own_trial.read_bytes())
    with pytest.raises(errors.SettingsError, match='trial_processed.tif would be made of two recordings'):
        process_many([own_trial, other], means, workers=1, out=tmp_path / 'again')
    for out, message in ((tmp_path / 'again.tif', 'name of one file'), (own_trial / 'again', 'Not a directory')):
        with pytest.raises(errors.SettingsError, match=message):
            process_many([own_trial], means, workers=1, out=out)


# ---------------------------------------------------------------------- what goes away

def worker_processes(pid: int) -> List[psutil.Process]:
    """Dask's workers below a process: not the one that watches over them, nor what they have started."""
    return [child for child in psutil.Process(pid).children(recursive=True)
            if 'spawn_main' in ' '.join(child.cmdline())]


def test_a_worker_killed_in_mid_run_changes_no_result(own_trial: Path, tmp_path: Path) -> None:
    process(own_trial, slow)
    expected = results_of(own_trial)
    killed: List[int] = []

    def kill_one(done: int, total: int) -> None:
        if done and not killed:
            victim = worker_processes(os.getpid())[0]
            killed.append(victim.pid)
            victim.kill()

    report, = process_many([own_trial], slow, workers=2, overwrite=True, block_frames=5, progress=kill_one)
    assert killed and report.complete and results_of(own_trial) == expected
    assert left_in(tmp_path) == ['trial.tif', 'trial_processed.results.jsonl']


def test_a_scheduler_that_dies_in_mid_run_is_told_and_nothing_is_half_written(own_trial: Path, tmp_path: Path) -> None:
    (tmp_path / 'dask').mkdir()
    cluster = DaskCluster(tmp_path / 'dask', 1)
    made = tmp_path / 'made'
    made.mkdir()
    try:
        with pytest.raises(errors.ClusterError, match=r'went away.* of 60 frames were done; the results so far are in'):
            process_many([own_trial], slow, scheduler=cluster.address, block_frames=5, out=made,
                         progress=lambda done, total: cluster.scheduler.kill() if done >= FRAMES // 2 else None)
    finally:
        cluster.close()
    assert left_in(made) == ['trial_processed.partial.results.jsonl']
    kept = (made / 'trial_processed.partial.results.jsonl').read_bytes()
    assert 0 < kept.count(b'\n') < FRAMES and kept.endswith(b'\n')


def test_workers_of_our_own_end_with_this_process_whatever_ends_it(tmp_path: Path) -> None:
    script = f"""
import os, time
from ProcessedPiRecorder.processing.connecting import _own_scheduler, _start_workers
import distributed
if __name__ == '__main__':
    scheduler = _own_scheduler(distributed)
    workers = _start_workers(scheduler.scheduler_address, 1, {str(tmp_path / 'ppr-cluster')!r})
    distributed.Client(scheduler).wait_for_workers(1)
    print(workers.pid, flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, '-c', script], env=ENVIRONMENT, stdout=subprocess.PIPE) as ours:
        assert ours.stdout is not None
        above = psutil.Process(int(ours.stdout.readline()))
        family = [above, *above.children(recursive=True)]
        assert worker_processes(above.pid)
        ours.kill()
    _, left = psutil.wait_procs(family, 30)          # Dask's own patience is 60 s
    assert not left and left_in(tmp_path) == []


def test_without_anybody_who_starts_workers_the_run_ends(own_trial: Path, tmp_path: Path, cluster: DaskCluster,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    begun: List[int] = []
    asked: List[bool] = []

    def alive() -> bool:                   # once they are not; then they are, to be told that this run has ended
        asked.extend([True] * bool(begun))
        return len(asked) != 1

    @contextlib.contextmanager
    def left_alone(*arguments: Any) -> Iterator[Any]:
        with cluster_of(*arguments) as connected:
            yield connected._replace(alive=alive)

    monkeypatch.setattr('ProcessedPiRecorder.processing.cluster.cluster_of', left_alone)
    monkeypatch.setattr('ProcessedPiRecorder.processing.cluster.LOOK_S', 0.05)
    with pytest.raises(errors.ClusterError, match='ended, with the process that starts them.*frames were done'):
        process(own_trial, slow, scheduler=cluster.address, block_frames=20,
                progress=lambda done, total: begun.append(done) if done else None)
    assert asked and left_in(tmp_path) in (['trial.tif'], ['trial.tif', 'trial_processed.partial.results.jsonl'])


def test_what_progress_raises_ends_it_and_leaves_nothing(own_trial: Path, tmp_path: Path, cluster: DaskCluster) -> None:
    def enough(done: int, total: int) -> None:
        if done >= 40:                     # more than is under way at once, so some are written
            raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt, match=r'^after \d+ of 60 frames; the results so far are in .*partial'):
        process_many([own_trial], means, scheduler=cluster.address, block_frames=5, progress=enough, out=tmp_path)
    assert left_in(tmp_path) == ['trial.tif', 'trial_processed.partial.results.jsonl']


# ---------------------------------------------------------------------- what cannot be

def test_a_scheduler_that_is_not_there(own_trial: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('ProcessedPiRecorder.processing.connecting.CONNECT_S', 1.0)
    with pytest.raises(errors.ClusterError, match=r'no Dask scheduler answers at tcp://127.0.0.1:9 .*dask scheduler'):
        process(own_trial, means, scheduler='tcp://127.0.0.1:9')


@pytest.mark.parametrize('address', ['tcp://127.0.0.1:{port}', 'foo://127.0.0.1', 'http://127.0.0.1:{port}', 'tcp://'])
def test_an_address_where_something_else_answers(own_trial: Path, monkeypatch: pytest.MonkeyPatch, address: str,
                                                 capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr('ProcessedPiRecorder.processing.connecting.CONNECT_S', 1.0)
    with http.server.HTTPServer(('127.0.0.1', 0), http.server.BaseHTTPRequestHandler) as other:      # a dashboard
        serving = threading.Thread(target=other.serve_forever, args=(0.1,))
        serving.start()
        try:
            with pytest.raises(errors.ClusterError, match='no Dask scheduler answers at .*dashboard'):
                process(own_trial, means, scheduler=address.format(port=other.server_port))
        finally:
            other.shutdown()
            serving.join()
    gc.collect()
    assert 'Traceback' not in capfd.readouterr().err


def test_the_address_of_a_worker_is_told_from_a_schedulers(own_trial: Path, cluster: DaskCluster) -> None:
    from distributed import Client
    with Client(cluster.address, set_as_default=False) as client:
        client.wait_for_workers(1, timeout=40)
        worker = next(iter(client.nthreads()))
    with pytest.raises(errors.ClusterError, match='a Dask .* answers at tcp://.* address of its scheduler'):
        process(own_trial, means, scheduler=worker)


def test_a_scheduler_without_workers_and_one_whose_workers_lack_this_package(
        own_trial: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('ProcessedPiRecorder.processing.connecting.WORKERS_S', 1.0)
    cluster = DaskCluster(tmp_path, 0)
    try:
        with pytest.raises(errors.ClusterError, match='has fewer than 1 worker.*dask worker'):
            process(own_trial, means, scheduler=cluster.address)
        broken = tmp_path / 'broken' / 'ProcessedPiRecorder'
        broken.mkdir(parents=True)
        (broken / '__init__.py').write_text('raise ModuleNotFoundError')
        monkeypatch.setitem(ENVIRONMENT, 'PYTHONPATH', f'{broken.parent}{os.pathsep}{ENVIRONMENT["PYTHONPATH"]}')
        cluster.start_workers(1)
        monkeypatch.setattr('ProcessedPiRecorder.processing.connecting.WORKERS_S', 30.0)
        with pytest.raises(errors.ClusterError, match=r'tcp://.* does not have ProcessedPiRecorder.*pip install'):
            process(own_trial, means, scheduler=cluster.address)
    finally:
        cluster.close()


def test_workers_whose_package_is_broken(own_trial: Path, tmp_path: Path) -> None:
    broken = tmp_path / 'broken' / 'ProcessedPiRecorder'
    (broken / 'processing').mkdir(parents=True)
    (broken / '__init__.py').write_text(f'__version__ = {__version__!r}')
    (broken / 'processing' / '__init__.py').write_text('raise ImportError("half installed")')
    found = subprocess.run([sys.executable, '-c', ASK], input=_carried(_look_around, []), stdout=subprocess.PIPE,
                           check=True, cwd=tmp_path,
                           env={**ENVIRONMENT, 'PYTHONPATH': f'{broken.parent}{os.pathsep}{ENVIRONMENT["PYTHONPATH"]}'})
    version, problem = json.loads(found.stdout)
    assert version == __version__ and problem == 'ImportError: half installed'


def test_workers_of_another_version(own_trial: Path, cluster: DaskCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('ProcessedPiRecorder.processing.connecting.__version__', '99.0')
    with pytest.raises(errors.ClusterError, match=r'has ProcessedPiRecorder \d.*, and 99.0 is needed there'):
        process(own_trial, means, scheduler=cluster.address)


def test_workers_that_do_not_see_the_recording(own_trial: Path, cluster: DaskCluster,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    from ProcessedPiRecorder.processing import cluster as module
    from ProcessedPiRecorder.processing.connecting import Seen
    for told, message in ((Seen('/nowhere/trial.tif', 1, 1), r'tcp://.* cannot read /nowhere/trial.tif \(No such file'),
                          (Seen(str(own_trial), 1, 1), 'sees another file at')):
        monkeypatch.setattr(module, 'seen', lambda path, told=told: told)
        with pytest.raises(errors.ClusterError, match=message):
            process(own_trial, means, scheduler=cluster.address)


def test_a_callback_that_cannot_be_sent(own_trial: Path, cluster: DaskCluster) -> None:
    lock = threading.Lock()
    with pytest.raises(errors.ProcessingError, match='cannot be sent to the workers.*__enter__'):
        process(own_trial, lambda buffer, cb_queue: lock.locked(), scheduler=cluster.address)


class NoModel:
    """Cannot be entered."""

    def __enter__(self) -> None:
        raise FileNotFoundError('no model here')

    def __exit__(self, *exc_info: object) -> None:
        pass

    def __call__(self, buffer: Any, cb_queue: Any) -> None:
        pass


def test_a_callback_that_cannot_be_entered_ends_it_at_once(own_trial: Path, tmp_path: Path,
                                                           cluster: DaskCluster) -> None:
    with pytest.raises(errors.CallbackError, match='__enter__ failed: FileNotFoundError: no model here'):
        process(own_trial, NoModel(), scheduler=cluster.address)
    assert left_in(tmp_path) == ['trial.tif']


@pytest.mark.parametrize('wrong', [{'workers': 0}, {'workers': 1.5}, {'workers': True}, {'scheduler': 'localhost'},
                                   {'scheduler': 8786}])
def test_arguments_that_make_no_sense(own_trial: Path, wrong: Dict[str, Any]) -> None:
    with pytest.raises(errors.SettingsError, match='workers=|scheduler='):
        process(own_trial, means, **wrong)


@contextlib.contextmanager
def collecting(path: Path, **options: Any) -> Iterator[Collector]:
    @contextlib.contextmanager
    def make() -> Iterator[Any]:
        with open_recording(path) as recording:
            yield task_for(recording, means, results=None, overwrite=False, record='raw', rate_hz=None, progress=None,
                           **options)
    with Collector(make) as collector:
        yield collector


def test_results_on_a_full_disk_end_it_with_whole_lines(own_trial: Path, tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    line = b'x' * 999 + b'\n'
    with pytest.raises(errors.ProcessingError, match='cannot be written to: .*make room'), \
            collecting(own_trial, out=None, told={}) as collector:
        collector.add(BlockResult(0, 2, 2 * line, 2, 2, []))
        resource.setrlimit(resource.RLIMIT_FSIZE, (2500, limits[1]))
        try:
            collector.add(BlockResult(2, 4, 2 * line, 2, 2, []))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / 'trial_processed.partial.results.jsonl').read_bytes() == 2 * line
    assert left_in(tmp_path) == ['trial.tif', 'trial_processed.partial.results.jsonl']


def test_the_disk_reserve_holds_for_blocks_too(own_trial: Path, tmp_path: Path,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    block = tmp_path / 'block.tif'
    out = tmp_path / 'made.tif'
    with pytest.raises(errors.RecordingFileError, match='to stay free'):
        with collecting(own_trial, out=out, told={'disk_reserve_mb': 1e9}):
            pass
    assert left_in(tmp_path) == ['trial.tif']
    block.write_bytes(own_trial.read_bytes())
    with pytest.raises(errors.ProcessingError, match='ended early: .*to stay free.*; the results so far are in'), \
            collecting(own_trial, out=out, told={}) as collector:
        monkeypatch.setattr('ProcessedPiRecorder.recordings.space.LEAST_RESERVE_MB', 1e12)      # others fill it
        collector.add(BlockResult(0, FRAMES, b'{}\n', 1, FRAMES, [], str(block)))
    assert left_in(tmp_path) == ['made.partial.results.jsonl', 'trial.tif']


# ---------------------------------------------------------------------- the command, and scripts

CALLBACK = """
FACTOR = 2
def count(buffer, cb_queue):
    if buffer[-1].index == 7:
        raise ValueError('seven')
    cb_queue.put(FACTOR * buffer[-1].index)
"""


def test_the_command_processes_many_on_a_cluster(trial: Path, tmp_path: Path, cluster: DaskCluster, own_folder: None,
                                                 capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / 'own_counting.py').write_text(CALLBACK)
    for name in ('a.tif', 'b.tif'):
        (tmp_path / name).write_bytes(trial.read_bytes())
    with pytest.raises(SystemExit) as left:
        main(('process', 'a.tif', 'b.tif', 'own_counting.py', '--callback', 'own_counting:count', '--scheduler',
              cluster.address, '--block-frames', '16', '--out', 'made', '--json'))
    out, err = capfd.readouterr()
    assert left.value.code == 3 and 'own_counting.py was not processed' in err
    bad, *reports = json.loads(out)
    assert 'error' in bad and not [report['error'] for report in reports if 'error' in report]
    assert [report['processed'] for report in reports] == [FRAMES - 1, FRAMES - 1]
    assert left_in(tmp_path / 'made') == [f'{name}_processed.{end}' for name in 'ab'
                                          for end in ('failures.jsonl', 'results.jsonl', 'tif')]


def test_one_that_fails_on_the_cluster_does_not_stop_the_others(trial: Path, tmp_path: Path, cluster: DaskCluster,
                                                                own_folder: None, capfd: pytest.CaptureFixture[str]
                                                                ) -> None:
    from ProcessedPiRecorder.recordings.reader import RecordingFile
    (tmp_path / 'own_counting.py').write_text(CALLBACK)
    for name in ('a.tif', 'b.tif', 'c.tif'):
        (tmp_path / name).write_bytes(trial.read_bytes())
    with RecordingFile(tmp_path / 'b.tif') as file:
        places = file.index()['strip_offset'].tolist()
    with open('b.tif', 'r+b') as target:
        for place in places:
            target.seek(place + 4)
            target.write(b'\xff' * 40)
    with pytest.raises(SystemExit) as left:
        main(('process', 'a.tif', 'b.tif', 'c.tif', '--callback', 'own_counting:count', '--scheduler', cluster.address,
              '--out', 'made', '--json'))
    told = json.loads(capfd.readouterr().out)
    assert left.value.code == 3 and [Path(one['recording']).name for one in told] == ['a.tif', 'b.tif', 'c.tif']
    assert [one.get('processed') for one in told] == [FRAMES - 1, None, FRAMES - 1]
    assert 'no frame of' in told[1]['error']


def test_without_a_cluster_each_is_told_once(trial: Path, tmp_path: Path, own_folder: None,
                                             capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
                                             ) -> None:
    monkeypatch.setattr('ProcessedPiRecorder.processing.connecting.CONNECT_S', 1.0)
    (tmp_path / 'own_counting.py').write_text(CALLBACK)
    for name in ('a.tif', 'b.tif'):
        (tmp_path / name).write_bytes(trial.read_bytes())
    with pytest.raises(SystemExit) as left:
        main(('process', 'a.tif', 'b.tif', '--callback', 'own_counting:count', '--scheduler', 'tcp://127.0.0.1:9',
              '--json'))
    told = json.loads(capfd.readouterr().out)
    assert left.value.code == 3 and [one['recording'] for one in told] == ['a.tif', 'b.tif']
    assert all('no Dask scheduler answers' in one['error'] for one in told)


SCRIPT = """
from ProcessedPiRecorder.processing import process
FACTOR = 3
def call(buffer, cb_queue):
    cb_queue.put(FACTOR * buffer[-1].index)
print(process('trial.tif', call, workers=1).results)          # no guard: nothing imports this script again
"""


def test_a_script_without_a_guard_can_use_workers_of_its_own(own_trial: Path, tmp_path: Path) -> None:
    from recording_tools import run_script
    script: Any = run_script(SCRIPT, tmp_path)
    assert (script.out, script.err) == (f'{FRAMES}\n', '')
    assert [json.loads(line)['result'] for line in results_of(own_trial).splitlines()] == list(range(0, 180, 3))
