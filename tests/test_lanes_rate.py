"""The recording's own rate hangs on no callback: not on a slow one, a hung one, nor on one that eats all there is.

Nothing here measures time. The camera runs at its real pace, and its own times are what is looked at.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import warnings
from pathlib import Path
from typing import Any, Dict, Tuple

import numpy as np
import psutil
import pytest
from recording_tools import paced, pages, recorder, run_script, wait_until

from ProcessedPiRecorder import errors
from ProcessedPiRecorder.pipeline.plan import CALLBACK_RESTARTS
from ProcessedPiRecorder.pipeline.processes import start_child
from ProcessedPiRecorder.pipeline.rank import NICENESS, OOM_SCORE

DELIVERIES = pytest.mark.parametrize('delivery', ['every', 'latest'])


def check_rate(rec: Any) -> None:
    """Each frame bears the camera's own time: not one is missing, and none was put off."""
    period_ns = round(1e9 / rec.settings.framerate)
    times = [page.sensor_ns for page, _ in pages(rec.settings.tif_path)]
    assert set(np.diff(times)) == {period_ns} and len(times) == round(rec.settings.rec_length * rec.settings.framerate)
    report = rec.report
    assert report.lost == 0 and report.complete == 'yes' and report.written == len(times)
    assert report.rate_hz == pytest.approx(rec.settings.framerate, rel=1e-4)


class HangsAtItsSecondCall:
    calls = 0

    def __call__(self, buffer: Any, cb_queue: Any) -> None:
        self.calls += 1
        if self.calls > 1:
            threading.Event().wait()


def half_a_second(buffer: Any, cb_queue: Any) -> None:
    cb_queue.put(buffer[-1].index)
    time.sleep(0.5)


def at_60_hz(path: Path, callback: Any, delivery: str, seconds: float, **settings: Any) -> Any:
    options: Dict[str, Any] = {'x_resolution': 1280, 'y_resolution': 480, 'framerate': 60, 'rec_length': seconds,
                               'controls': paced(), 'record': 'raw', **settings}
    return recorder(path, callback=callback, cb_delivery=delivery, **options)


#: The short form is gray, and its ring is as long as it is: it asks nothing of the machine's speed.
SHORT = {'seconds': 1.5, 'pixel_format': 'gray', 'ring_frames': 120}
FULL = {'seconds': 20.0}
LENGTHS = pytest.mark.parametrize('length', [SHORT, pytest.param(FULL, marks=[pytest.mark.slow,
                                                                             pytest.mark.timeout(240)])])


@LENGTHS
def test_a_callback_of_500_ms_does_not_change_the_rate(tmp_path: Path, length: Dict[str, Any]) -> None:
    rec = at_60_hz(tmp_path / 'a.tif', half_a_second, 'latest', **length)
    rec.recordVid()
    check_rate(rec)
    seen = list(rec.cb_queue)
    assert 2 <= len(seen) <= length['seconds'] / 0.5 + 1 and rec.report.processed == len(seen)
    assert rec.report.bypassed == rec.report.written - len(seen)


@LENGTHS
@DELIVERIES
def test_a_callback_that_hangs_for_ever_does_not_change_the_rate(tmp_path: Path, delivery: str,
                                                                 length: Dict[str, Any]) -> None:
    rec = at_60_hz(tmp_path / 'a.tif', HangsAtItsSecondCall(), delivery, cb_timeout=0.3, **length)
    with pytest.raises(errors.CallbackError, match='did not return from frame'), warnings.catch_warnings():
        warnings.simplefilter('ignore', errors.CallbackBypassedWarning)
        rec.recordVid()
    check_rate(rec)
    assert 1 <= rec.report.failed <= rec.report.processed <= CALLBACK_RESTARTS + 1


@LENGTHS
@DELIVERIES
def test_a_callback_that_is_stopped_and_continued_does_not_change_the_rate(tmp_path: Path, delivery: str,
                                                                           length: Dict[str, Any]) -> None:
    rec = at_60_hz(tmp_path / 'a.tif', lambda buffer, cb_queue: cb_queue.put(os.getpid()), delivery, blocking=False,
                   **length)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', errors.CallbackBypassedWarning)
        rec.recordVid()
        pid = rec.cb_queue.get(timeout=20)
        os.kill(pid, signal.SIGSTOP)
        time.sleep(length['seconds'] / 3)
        os.kill(pid, signal.SIGCONT)
        rec.wait()
    check_rate(rec)
    assert set(rec.cb_queue) == {pid} and rec.report.callback_restarts == rec.report.callback_errors == 0


# ---------------------------------------------------------------------- when memory or the processor runs short

def ranks(pid: int) -> Tuple[int, int]:
    return int(Path(f'/proc/{pid}/oom_score_adj').read_text()), os.getpriority(os.PRIO_PROCESS, pid)


def test_the_callback_steps_back_and_nobody_else_does(tmp_path: Path) -> None:
    rec = recorder(tmp_path / 'a.tif', callback=lambda buffer, cb_queue: cb_queue.put(os.getpid()), blocking=False,
                   controls=paced())
    with rec:
        rec.recordVid()
        callback = rec.cb_queue.get(timeout=20)
        others = {child.pid for child in psutil.Process().children(recursive=True)} - {callback}
        found = {pid: ranks(pid) for pid in (callback, *others) if psutil.pid_exists(pid)}
    score, niceness = ranks(os.getpid())
    assert found.pop(callback) == (min(max(score, 0) + OOM_SCORE, 1000), min(niceness + NICENESS, 19))
    assert len(found) >= 3 and set(found.values()) == {(score, niceness)}       # keeper, reader, writer


@pytest.mark.parametrize('role', ['callback', 'display', 'writer', 'reader'])
def test_who_steps_back_from_what_the_user_has_set(role: str) -> None:
    def tell(channel: Any, plan: Any, arguments: Any) -> None:
        channel.send('ranks', ranks(os.getpid()))

    def start_from_300(queue: Any) -> None:
        Path('/proc/self/oom_score_adj').write_text('300')
        os.nice(3)
        child = start_child(role, tell, None, 'fork')
        queue.put((os.getpriority(os.PRIO_PROCESS, 0), child.channel.receive()[1]))    # type: ignore[index]
        child.bury(10)

    context = multiprocessing.get_context('fork')
    queue = context.Queue()
    process = context.Process(target=start_from_300, args=(queue,))
    process.start()
    niceness, found = queue.get(timeout=20)
    process.join()
    steps_back = role in ('callback', 'display')
    assert found == (300 + OOM_SCORE, min(niceness + NICENESS, 19)) if steps_back else found == (300, niceness)


LEAKING_SCRIPT = '''
import sys
from pathlib import Path
from ProcessedPiRecorder import ProcessedPiRecorder, errors

kept = []

def leak(buffer, cb_queue):
    kept.append(b'x' * (16 << 20))

rec = ProcessedPiRecorder('a.tif', camera='synthetic', x_resolution=640, y_resolution=480, framerate=10, rec_length=3,
                          display=False, callback=leak, ring_frames=100, overwrite=True,
                          camera_controls={'pace': True, 'buffers': 1000})
try:
    rec.recordVid()
except errors.CallbackError as error:
    print('CallbackError', error.restarts, error)
except errors.ProcessDiedError as error:
    print('ProcessDiedError', error.role, error)
print(rec.report.complete, rec.report.written, rec.report.lost)
'''


@pytest.fixture
def little_memory() -> Any:
    """The file by which a process joins a control group with 500 MB; skips where none can be made."""
    root = Path('/sys/fs/cgroup/memory' if Path('/sys/fs/cgroup/memory').is_dir() else '/sys/fs/cgroup')
    limit = 'memory.limit_in_bytes' if root.name == 'memory' else 'memory.max'
    group = root / f'ppr-test-{os.getpid()}'
    try:
        group.mkdir()
        (group / limit).write_text(str(500 << 20))
        if (group / 'memory.swap.max').exists():
            (group / 'memory.swap.max').write_text('0')
    except OSError as error:
        if group.is_dir():
            group.rmdir()
        pytest.skip(f'no control group with a limit can be made here: {error}')
    yield group / 'cgroup.procs'
    wait_until(lambda: not (group / 'cgroup.procs').read_text().split())
    group.rmdir()


def test_out_of_memory_the_kernel_ends_the_callback(tmp_path: Path, little_memory: Path) -> None:
    """A real end for want of memory: of the callback that leaks, and not of the writer, which holds as much.

    A process of several threads that is being killed gives its memory back when its last thread ends, and the kernel no
    longer knows by then that it comes: who asks for memory in these milliseconds makes it choose once more. So the
    frames come slowly, and such a run is done again.
    """
    for _ in range(4):
        done: Any = run_script(LEAKING_SCRIPT, tmp_path, preexec_fn=lambda: little_memory.write_text(str(os.getpid())))
        if not done.out.startswith('ProcessDiedError'):
            break
        assert 'SIGKILL' in done.out and 'Traceback' not in done.err, (done.out, done.err)
    first, last = done.out.splitlines()
    assert done.returncode == 0 and first.startswith('CallbackError') and 'SIGKILL' in first, (done.out, done.err)
    assert int(first.split()[1]) >= 1                  # started again, and again out of memory
    assert last == 'yes 30 0'
    assert [page.index for page, _ in pages(tmp_path / 'a.tif')] == list(range(30))
