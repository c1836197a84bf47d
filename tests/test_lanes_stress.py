"""Whatever a callback does, in either delivery, costs no frame: held against the camera's own truth, page by page.

The callback returns negatives, and does harm at one frame: under '3Proc' all that a process can do to itself.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import resource
import signal
import sys
import threading
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy as np
import pytest
from recording_tools import paced, pages, recorder, results, truth, wait_until

from ProcessedPiRecorder import errors
from ProcessedPiRecorder.pipeline.plan import CALLBACK_RESTARTS, RESTART_PAUSE_S

Harm = Callable[[Any, Any], Any]
DELIVERIES = pytest.mark.parametrize('delivery', ['every', 'latest'])
AT = 7                 # the frame at which the harm is done, or the first one after it that is delivered
FRAMES = 24            # delivered one by one
LASTING = 60           # of a camera that does not wait
HUNG_S = 1.0           # cb_timeout; a loaded machine may well take half of it for a short call


# ---------------------------------------------------------------------- what a callback can do

class Odd(Exception):
    def __str__(self) -> str:
        raise KeyboardInterrupt('not even this')


class Huge(Exception):
    def __str__(self) -> str:
        return 'x' * 1_000_000


def raising(error: BaseException) -> Harm:
    def harm(buffer: Any, cb_queue: Any) -> Any:
        buffer[-1][:] = 7                  # on its own copy
        raise error
    return harm


def sleep_for_ever(buffer: Any, cb_queue: Any) -> Any:
    time.sleep(1000)


def wait_for_a_lock(buffer: Any, cb_queue: Any) -> Any:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def hold_the_interpreter(buffer: Any, cb_queue: Any) -> Any:
    """One call into C that takes minutes and never lets go of the interpreter."""
    return pow(7, 10 ** 9)


def block_all_signals(buffer: Any, cb_queue: Any) -> Any:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    time.sleep(1000)


def stop_itself(buffer: Any, cb_queue: Any) -> Any:
    os.kill(os.getpid(), signal.SIGSTOP)


def close_descriptors_and_hang(buffer: Any, cb_queue: Any) -> Any:
    os.closerange(3, 101)
    time.sleep(1000)


def close_descriptors(buffer: Any, cb_queue: Any) -> Any:
    os.closerange(3, 101)


def dying(how: Callable[[], Any]) -> Harm:
    def harm(buffer: Any, cb_queue: Any) -> Any:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        faulthandler.disable()             # pytest's would print a stack that looks like a crash of the tests
        return how()
    return harm


def flood_for_ever(buffer: Any, cb_queue: Any) -> Any:
    while True:
        cb_queue.put(bytes(10_000))


#: Ends the call without an answer; the process is ended, or ends itself.
FATAL: Dict[str, Harm] = {
    'sleeps for ever': sleep_for_ever, 'waits for a lock': wait_for_a_lock,
    'holds the interpreter': hold_the_interpreter, 'blocks all signals': block_all_signals, 'stops itself': stop_itself,
    'closes descriptors and hangs': close_descriptors_and_hang, 'closes descriptors': close_descriptors,
    'floods for ever': flood_for_ever, 'exits with 0': dying(lambda: os._exit(0)),
    'exits with 1': dying(lambda: os._exit(1)), 'segfaults': dying(lambda: ctypes.string_at(0)),
    'aborts': dying(os.abort), 'is killed': dying(lambda: os.kill(os.getpid(), signal.SIGKILL)),
    'kills its group': dying(lambda: os.killpg(0, signal.SIGKILL)),
}
#: The frame fails, the process lives on.
FAILING: Dict[str, Harm] = {
    **{f'raises {type(error).__name__}': raising(error) for error in (
        ValueError('on purpose'), SystemExit(3), KeyboardInterrupt(), GeneratorExit(), BaseException('all of it'),
        BrokenPipeError(), MemoryError(), Odd(), Huge())},
    'calls sys.exit': lambda buffer, cb_queue: sys.exit(3),
    'returns nonsense': lambda buffer, cb_queue: np.zeros((3, 3)),
    'returns its buffer': lambda buffer, cb_queue: buffer,
}
HANGING = {name for name in FATAL if name in ('sleeps for ever', 'waits for a lock', 'holds the interpreter',
                                              'blocks all signals', 'stops itself', 'closes descriptors and hangs',
                                              'floods for ever')}
#: What always runs; the rest of the table does in the full suite.
QUICK = {'holds the interpreter', 'closes descriptors', 'segfaults', 'raises KeyboardInterrupt', 'raises Odd',
         'returns its buffer'}


def table(*tables: Dict[str, Harm]) -> Any:
    return pytest.mark.parametrize(('name', 'harm'), [
        pytest.param(name, harm, id=name, marks=() if name in QUICK else pytest.mark.slow)
        for harms in tables for name, harm in harms.items()])


class Once:
    """A callback that does harm at one frame only, whichever process it is in by then."""

    def __init__(self, harm: Harm, done: Path) -> None:
        self.harm, self.done = harm, done

    def __call__(self, buffer: Any, cb_queue: Any) -> Any:
        frame = buffer[-1]
        cb_queue.put(frame.index)
        if frame.index >= AT and not self.done.exists():
            self.done.touch()
            return self.harm(buffer, cb_queue)
        return 255 - frame


# ---------------------------------------------------------------------- the judge

def record(folder: Path, callback: Any, delivery: str = 'every', cb_type: str = '3Proc',
           **settings: Any) -> Tuple[Any, Optional[errors.CallbackError]]:
    """A recording with a source that waits for 'every', and with a camera that does not for 'latest'."""
    lasting: Dict[str, Any] = {'controls': paced(frames=LASTING), 'framerate': 60, 'ring_frames': 100}
    options = {**(lasting if delivery == 'latest' else {'controls': {'frames': FRAMES}, 'ring_frames': 16}),
               **settings}
    rec = recorder(folder / 'a.tif', callback=callback, cb_type=cb_type, cb_delivery=delivery, **options)
    error = None
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', errors.CallbackBypassedWarning)
        warnings.simplefilter('ignore', DeprecationWarning)      # Python >= 3.12: fork beside threads
        try:
            rec.recordVid()
        except errors.CallbackError as raised:
            error = raised
    return rec, error


def judge(rec: Any, count: int) -> List[str]:
    """Every frame of the camera is in the file, in order, with the pixels that its status says. All statuses."""
    report, frame, statuses = rec.report, truth(rec.settings), []
    for number, (page, image) in enumerate(pages(rec.settings.tif_path)):
        assert page.index == number
        expected = 255 - frame(number) if page.status == 'returned' else frame(number)
        np.testing.assert_array_equal(image, expected, f'frame {number}, {page.status}')
        statuses.append(page.status)
    assert len(statuses) == count == report.sensor == report.captured == report.written
    found = Counter(statuses)
    assert (found['returned'], found['by-passed'], found['failed']) == (report.returned, report.bypassed, report.failed)
    assert report.processed == count - report.bypassed - report.failed
    assert report.lost == 0 and report.losses == [] and report.complete == 'yes'
    return statuses


# ---------------------------------------------------------------------- '3Proc'

@DELIVERIES
@table(FATAL)
def test_a_callback_that_does_not_answer_any_more(tmp_path: Path, name: str, harm: Harm, delivery: str) -> None:
    rec, error = record(tmp_path, Once(harm, tmp_path / 'done'), delivery,
                        cb_timeout=HUNG_S if name in HANGING else None)
    statuses = judge(rec, LASTING if delivery == 'latest' else FRAMES)
    if delivery == 'every':
        assert statuses == ['returned'] * AT + ['failed'] + ['returned'] * (FRAMES - AT - 1)
    else:
        # When the camera ends before a hung call does, nobody is needed any more.
        assert statuses.count('failed') == 1 and statuses.index('failed') >= AT
    assert error is not None and error.count == rec.report.callback_errors == 1
    assert error.restarts == rec.report.callback_restarts <= 1
    at = statuses.index('failed')
    assert ('did not return from frame' if name in HANGING else 'ended unexpectedly') in str(error)
    assert (f'frame {at}' in str(error)) == (name in HANGING)
    # What the dead process had not yet handed over is lost with it; what its successor put is all there.
    put = [index for index, status in enumerate(statuses) if status == 'returned']
    assert list(rec.cb_queue)[-1:] == put[-1:]
    assert {index for index, _, _ in results(tmp_path / 'a.tif')} >= set(put)


@DELIVERIES
@table(FAILING)
@pytest.mark.parametrize('cb_type', ['2Proc', '3Proc'])
def test_a_callback_that_fails(tmp_path: Path, cb_type: str, name: str, harm: Harm, delivery: str) -> None:
    rec, error = record(tmp_path, Once(harm, tmp_path / 'done'), delivery, cb_type)
    statuses = judge(rec, LASTING if delivery == 'latest' else FRAMES)
    at = statuses.index('failed')
    if delivery == 'every':
        assert statuses == ['returned'] * AT + ['failed'] + ['returned'] * (FRAMES - AT - 1)
    assert error is not None and (error.count, error.restarts) == (1, 0)
    assert f'frame {at}' in str(error) and len(str(error)) < 10_000
    assert rec.report.callback_errors == 1 and rec.report.callback_restarts == 0
    assert isinstance(error.__cause__, errors.RemoteTraceback) or name == 'raises Odd'


def test_every_call_fails(tmp_path: Path) -> None:
    rec, error = record(tmp_path, lambda buffer, cb_queue: 1 / 0)
    assert judge(rec, FRAMES) == ['failed'] * FRAMES
    assert error is not None and error.count == FRAMES and 'ZeroDivisionError' in str(error.__cause__)


def test_restarts_are_limited_and_ever_later(tmp_path: Path) -> None:
    class Mortal:
        def __enter__(self) -> Mortal:
            with open(tmp_path / 'births', 'a') as births:
                print(time.monotonic(), file=births)
            return self

        def __exit__(self, *error: Any) -> None:
            pass

        def __call__(self, buffer: Any, cb_queue: Any) -> Any:
            (tmp_path / 'death').write_text(str(time.monotonic()))
            os._exit(1)

    rec, error = record(tmp_path, Mortal())
    statuses = judge(rec, FRAMES)
    assert statuses == ['failed'] * (CALLBACK_RESTARTS + 1) + ['by-passed'] * (FRAMES - CALLBACK_RESTARTS - 1)
    assert error is not None and (error.count, error.restarts) == (CALLBACK_RESTARTS + 1, CALLBACK_RESTARTS)
    births = [float(line) for line in (tmp_path / 'births').read_text().split()]
    pauses = np.diff(births)
    assert len(births) == CALLBACK_RESTARTS + 1
    assert all(pause >= RESTART_PAUSE_S * 2 ** number for number, pause in enumerate(pauses))


@pytest.mark.parametrize('cb_type', ['2Proc', '3Proc'])
@pytest.mark.parametrize('comes_back', [False, True])
def test_forks_end_with_the_recording_and_never_answer_for_it(tmp_path: Path, cb_type: str, comes_back: bool) -> None:
    """That no fork is left behind is what the suite asks of every test."""
    def fork(buffer: Any, cb_queue: Any) -> Any:
        frame = buffer[-1]
        if frame.index in (3, 9) and os.fork() == 0:
            if not comes_back:
                time.sleep(60)
                os._exit(0)
            return np.zeros_like(frame)
        return 255 - frame

    rec, error = record(tmp_path, fork, cb_type=cb_type)
    assert judge(rec, FRAMES) == ['returned'] * FRAMES and error is None


def test_a_callback_without_memory_fails_and_goes_on(tmp_path: Path) -> None:
    kept: List[bytearray] = []

    def leak(buffer: Any, cb_queue: Any) -> Any:
        if not kept:
            now = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (now + (200 << 20),) * 2)
        kept.append(bytearray(50 << 20))
        return 255 - buffer[-1]

    rec, error = record(tmp_path, leak)
    statuses = judge(rec, FRAMES)
    assert error is not None and 'MemoryError' in str(error)
    assert 1 <= statuses.count('returned') <= 8 and statuses.count('failed') == FRAMES - statuses.count('returned')


# ---------------------------------------------------------------------- '2Proc': what a thread of the writer can do

def test_a_thread_that_hangs_is_gone_past_until_it_comes_back(tmp_path: Path) -> None:
    def hang(buffer: Any, cb_queue: Any) -> Any:
        if buffer[-1].index == AT:
            wait_until((tmp_path / 'a.tif.later').exists)
        return 255 - buffer[-1]

    rec = recorder(tmp_path / 'a.tif', callback=hang, cb_type='2Proc', cb_timeout=HUNG_S, ring_frames=100,
                   framerate=60, blocking=False, controls=paced())
    rec.recordVid()
    wait_until(lambda: rec.status().bypassed > 5)
    (tmp_path / 'a.tif.later').touch()
    wait_until(lambda: rec.status().returned > AT + 5)
    with pytest.raises(errors.CallbackError, match='it cannot be ended in 2Proc'), warnings.catch_warnings():
        warnings.simplefilter('ignore', errors.CallbackBypassedWarning)
        rec.stopVid()
    statuses = judge(rec, rec.report.captured)
    assert statuses[:AT + 1] == ['returned'] * AT + ['failed'] and statuses.count('failed') == 1
    assert statuses[AT + 1] == 'by-passed' and 'returned' in statuses[AT + 1:]


def test_a_thread_that_holds_the_interpreter_costs_nothing_that_the_ring_can_bridge(tmp_path: Path) -> None:
    def hold(buffer: Any, cb_queue: Any) -> Any:
        if buffer[-1].index == AT:
            ctypes.PyDLL(None).usleep(300_000)
        return 255 - buffer[-1]

    rec, error = record(tmp_path, hold, 'latest', '2Proc')
    judge(rec, LASTING)
    assert error is None
