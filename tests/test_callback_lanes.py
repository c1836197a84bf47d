"""Whatever a callback does, every frame is recorded; and what it does is recorded too."""

from __future__ import annotations

import faulthandler
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recording_tools import paced, pages, recorder, results, statuses, truth, wait_until

from ProcessedPiRecorder import Frame, errors

BOTH = pytest.mark.parametrize('cb_type', ['2Proc', '3Proc'])


def record(path: Path, callback: Any, cb_type: str, **settings: Any) -> Any:
    rec = recorder(path, callback=callback, cb_type=cb_type, **settings)
    rec.recordVid()
    return rec


def record_with_error(path: Path, callback: Any, cb_type: str, **settings: Any) -> Any:
    rec = recorder(path, callback=callback, cb_type=cb_type, **settings)
    with pytest.raises(errors.CallbackError) as caught:
        rec.recordVid()
    return rec, caught.value


@BOTH
def test_returned_frames_are_what_is_recorded(tmp_path: Path, cb_type: str) -> None:
    path = tmp_path / 'a.tif'
    rec = record(path, lambda buffer, cb_queue: 255 - buffer[-1], cb_type)
    frame = truth(rec.settings)
    for page, image in pages(path):
        assert page.status == 'returned'
        np.testing.assert_array_equal(image, 255 - frame(page.index))
    assert rec.report.returned == rec.report.processed == rec.report.written == 30
    assert rec.report.complete == 'yes'


@BOTH
def test_record_raw_ignores_what_is_returned(tmp_path: Path, cb_type: str) -> None:
    path = tmp_path / 'a.tif'
    rec = record(path, lambda buffer, cb_queue: 255 - buffer[-1], cb_type, record='raw')
    frame = truth(rec.settings)
    for page, image in pages(path):
        assert page.status == 'raw'
        np.testing.assert_array_equal(image, frame(page.index))


@BOTH
def test_none_records_the_frame_as_it_came_even_when_it_was_drawn_on(tmp_path: Path, cb_type: str) -> None:
    def draw(buffer: Any, cb_queue: Any) -> None:
        buffer[-1][:] = 0

    path = tmp_path / 'a.tif'
    rec = record(path, draw, cb_type)
    frame = truth(rec.settings)
    for page, image in pages(path):
        np.testing.assert_array_equal(image, frame(page.index))


@BOTH
def test_the_buffer_fills_up_and_its_frames_know_themselves(tmp_path: Path, cb_type: str) -> None:
    def look(buffer: Any, cb_queue: Any) -> None:
        cb_queue.put((len(buffer), buffer.maxlen, [frame.index for frame in buffer], isinstance(buffer[-1], Frame),
                      buffer[-1].time_ns, buffer[-1].flags.owndata or buffer[-1].base is not None))

    rec = record(tmp_path / 'a.tif', look, cb_type, buffer_length=3)
    seen = list(rec.cb_queue)
    assert [item[0] for item in seen] == [1, 2] + [3] * 28
    assert [item[2] for item in seen[:4]] == [[0], [0, 1], [0, 1, 2], [1, 2, 3]]
    assert all(item[1] == 3 and item[3] for item in seen)
    times = [item[4] for item in seen]
    assert times == sorted(set(times))
    assert times == [page.time_ns for page, _ in pages(tmp_path / 'a.tif')]


@BOTH
def test_one_exception_costs_one_processed_frame(tmp_path: Path, cb_type: str) -> None:
    def draw_and_fail(buffer: Any, cb_queue: Any) -> np.ndarray:
        buffer[-1][:] = 7
        if buffer[-1].index == 5:
            raise ZeroDivisionError('on purpose')
        return buffer[-1]

    path = tmp_path / 'a.tif'
    rec, error = record_with_error(path, draw_and_fail, cb_type)
    assert 'frame 5' in str(error) and 'ZeroDivisionError: on purpose' in str(error)
    assert 'draw_and_fail' in str(error.__cause__)
    assert (error.count, error.restarts) == (1, 0)
    frame = truth(rec.settings)
    for page, image in pages(path):
        expected = frame(5) if page.index == 5 else np.full_like(image, 7)
        assert page.status == ('failed' if page.index == 5 else 'returned')
        np.testing.assert_array_equal(image, expected)
    assert rec.report.complete == 'yes' and rec.report.failed == 1 and rec.report.callback_errors == 1


@BOTH
@pytest.mark.parametrize('nonsense', ['a word', 3, np.zeros((2, 2), np.uint8), np.zeros((64, 96, 3), np.float64), []])
def test_nonsense_is_named_and_the_frame_recorded_as_it_came(tmp_path: Path, cb_type: str, nonsense: Any) -> None:
    rec, error = record_with_error(tmp_path / 'a.tif', lambda buffer, cb_queue: nonsense, cb_type,
                                   controls={'frames': 3})
    assert 'it must return None or a frame' in str(error) and '(64, 96, 3)' in str(error)
    assert statuses(tmp_path / 'a.tif') == ['failed'] * 3
    assert error.count == 3


@BOTH
def test_sys_exit_in_a_callback_does_not_end_the_recording(tmp_path: Path, cb_type: str) -> None:
    rec, error = record_with_error(tmp_path / 'a.tif', lambda buffer, cb_queue: sys.exit(3), cb_type,
                                   controls={'frames': 4})
    assert 'SystemExit' in str(error)
    assert rec.report.written == 4 and rec.report.complete == 'yes'


@pytest.mark.parametrize('how', [3, 0, 'SIGSEGV', 'SIGKILL'])
def test_a_callback_process_that_dies_is_started_again(tmp_path: Path, how: Any) -> None:
    def die_once(buffer: Any, cb_queue: Any) -> None:
        cb_queue.put(buffer[-1].index)
        if buffer[-1].index == 5:
            time.sleep(0.05)               # let the result leave
            faulthandler.disable()         # pytest's would print a stack that looks like a crash of the tests
            os._exit(how) if isinstance(how, int) else os.kill(os.getpid(), getattr(signal, how))

    path = tmp_path / 'a.tif'
    rec, error = record_with_error(path, die_once, '3Proc')
    assert (f'exit code {how}' if isinstance(how, int) else how) in str(error)
    assert rec.report.complete == 'yes' and rec.report.callback_restarts == 1
    assert statuses(path) == ['raw'] * 5 + ['failed'] + ['raw'] * 24
    assert list(rec.cb_queue)[-20:] == list(range(10, 30))
    assert [item[2] for item in results(path)][-24:] == list(range(6, 30))


def test_a_callback_that_always_dies_is_given_up_and_costs_no_frame(tmp_path: Path) -> None:
    with pytest.warns(errors.CallbackBypassedWarning):
        rec, error = record_with_error(tmp_path / 'a.tif', lambda buffer, cb_queue: os._exit(1), '3Proc')
    assert error.restarts == 5 and error.count == 6
    assert rec.report.written == 30 and rec.report.complete == 'yes'
    assert rec.report.failed == 6 and rec.report.bypassed == 24


def test_a_hung_callback_is_ended_and_started_again(tmp_path: Path) -> None:
    def hang_once(buffer: Any, cb_queue: Any) -> None:
        if buffer[-1].index == 5:
            time.sleep(100)

    path = tmp_path / 'a.tif'
    rec, error = record_with_error(path, hang_once, '3Proc', cb_timeout=0.3)
    assert 'did not return from frame 5' in str(error)
    assert statuses(path) == ['raw'] * 5 + ['failed'] + ['raw'] * 24
    assert rec.report.callback_restarts == 1 and rec.report.processed == 29


def test_a_hung_callback_in_the_writer_process_is_passed_by(tmp_path: Path) -> None:
    def hang_once(buffer: Any, cb_queue: Any) -> None:
        if buffer[-1].index == 5:
            time.sleep(100)

    path = tmp_path / 'a.tif'
    with pytest.warns(errors.CallbackBypassedWarning):
        rec, error = record_with_error(path, hang_once, '2Proc', cb_timeout=0.3)
    assert 'cannot be ended in 2Proc' in str(error)
    assert statuses(path) == ['raw'] * 5 + ['failed'] + ['by-passed'] * 24
    assert rec.report.written == 30 and rec.report.complete == 'yes'


@BOTH
def test_a_slow_callback_never_costs_a_frame_of_a_camera_that_does_not_wait(tmp_path: Path, cb_type: str) -> None:
    path = tmp_path / 'a.tif'
    with pytest.warns(errors.CallbackBypassedWarning):
        rec = record(path, lambda buffer, cb_queue: time.sleep(0.1), cb_type, controls=paced(), rec_length=1.5,
                     ring_frames=100)          # half of it is there for a busy machine
    assert rec.report.lost == 0 and rec.report.complete == 'yes'
    assert rec.report.bypassed > 50 and rec.report.processed + rec.report.bypassed == rec.report.written == 150
    assert statuses(path).count('by-passed') == rec.report.bypassed


@BOTH
def test_latest_delivery_offers_the_newest_when_idle(tmp_path: Path, cb_type: str) -> None:
    def slow(buffer: Any, cb_queue: Any) -> None:
        cb_queue.put((buffer[-1].index, time.time_ns() - buffer[-1].time_ns))
        time.sleep(0.05)

    path = tmp_path / 'a.tif'
    rec = record(path, slow, cb_type, controls=paced(), rec_length=1, cb_delivery='latest')
    seen = list(rec.cb_queue)
    assert rec.report.complete == 'yes' and rec.report.written == 100
    assert 5 < len(seen) == rec.report.processed
    ages_ms = sorted(age / 1e6 for _, age in seen)
    assert ages_ms[len(ages_ms) // 2] < 250     # a queue of 100 frames at 50 ms a call would make it seconds


@BOTH
def test_a_source_that_waits_shows_every_frame_to_a_slow_callback(tmp_path: Path, cb_type: str) -> None:
    rec = record(tmp_path / 'a.tif', lambda buffer, cb_queue: time.sleep(0.02), cb_type, ring_frames=4)
    assert rec.report.processed == rec.report.written == 30 and rec.report.bypassed == 0


@BOTH
def test_a_context_managed_callback_is_entered_and_left_where_it_runs(tmp_path: Path, cb_type: str) -> None:
    class Model:
        def __enter__(self) -> 'Model':
            self.pid = os.getpid()
            return self

        def __call__(self, buffer: Any, cb_queue: Any) -> None:
            assert self.pid == os.getpid()
            cb_queue.put(self.pid)

        def __exit__(self, *error: Any) -> None:
            (tmp_path / 'left').write_text(str(os.getpid()))

    rec = record(tmp_path / 'a.tif', Model(), cb_type)
    pids = set(rec.cb_queue)
    assert len(pids) == 1 and os.getpid() not in pids
    assert int((tmp_path / 'left').read_text()) in pids


@BOTH
def test_a_callback_that_cannot_be_entered_fails_the_start_and_leaves_nothing(tmp_path: Path, cb_type: str) -> None:
    class Model:
        def __enter__(self) -> 'Model':
            raise FileNotFoundError('weights.bin')

        def __exit__(self, *error: Any) -> None:
            pass

        def __call__(self, buffer: Any, cb_queue: Any) -> None:
            pass

    rec, error = record_with_error(tmp_path / 'a.tif', Model(), cb_type)
    assert '__enter__ failed' in str(error) and 'weights.bin' in str(error)
    assert rec.report is None and list(tmp_path.iterdir()) == []


@BOTH
def test_an_exit_that_fails_is_reported_and_the_file_is_whole(tmp_path: Path, cb_type: str) -> None:
    class Model:
        def __enter__(self) -> 'Model':
            return self

        def __exit__(self, *error: Any) -> None:
            raise OSError('cannot save')

        def __call__(self, buffer: Any, cb_queue: Any) -> None:
            pass

    rec, error = record_with_error(tmp_path / 'a.tif', Model(), cb_type)
    assert '__exit__ failed' in str(error) and rec.report.callback_errors == 1
    assert rec.report.complete == 'yes' and len(statuses(tmp_path / 'a.tif')) == 30


@BOTH
def test_a_hundred_thousand_results_with_the_script_blocked(tmp_path: Path, cb_type: str) -> None:
    def many(buffer: Any, cb_queue: Any) -> None:
        if buffer[-1].index == 2:
            for number in range(100_000):
                cb_queue.put(number)

    path = tmp_path / 'a.tif'
    rec = record(path, many, cb_type, cb_timeout=50)      # how long it takes is not what this is about
    assert list(rec.cb_queue) == list(range(100_000))
    assert rec.report.results == 100_000 and rec.report.complete == 'yes'
    stored = results(path)
    assert len(stored) == 100_000 and {index for index, _, _ in stored} == {2}


@BOTH
def test_results_are_bound_to_their_frames(tmp_path: Path, cb_type: str) -> None:
    path = tmp_path / 'a.tif'
    record(path, lambda buffer, cb_queue: cb_queue.put({'mean': float(buffer[-1].mean())}), cb_type)
    by_page = {page.index: (page.time_ns, float(image.mean())) for page, image in pages(path)}
    stored = results(path)
    assert [index for index, _, _ in stored] == list(range(30))
    assert all(by_page[index] == (time_ns, result['mean']) for index, time_ns, result in stored)


@BOTH
def test_the_queue_goes_both_ways_and_its_loop_ends(tmp_path: Path, cb_type: str) -> None:
    def echo(buffer: Any, cb_queue: Any) -> None:
        while not cb_queue.empty():
            cb_queue.put(('got', cb_queue.get()))

    rec = recorder(tmp_path / 'a.tif', callback=echo, cb_type=cb_type, blocking=False, controls=paced())
    rec.cb_queue.put('before the start')
    with rec:
        rec.recordVid()
        rec.cb_queue.put('threshold')
        seen = [rec.cb_queue.get(timeout=10), rec.cb_queue.get(timeout=10)]
        threading.Timer(0.2, lambda: rec._ask_to_stop('stopVid')).start()
        seen += list(rec.cb_queue)
    assert seen == [('got', 'before the start'), ('got', 'threshold')]


def test_a_late_first_call_is_waited_for_but_costs_nothing(tmp_path: Path) -> None:
    def warm_up(buffer: Any, cb_queue: Any) -> None:
        if buffer[-1].index == 0:
            time.sleep(1.2)
        cb_queue.put(buffer[-1].index)

    with pytest.warns(errors.CallbackBypassedWarning):
        rec = record(tmp_path / 'a.tif', warm_up, '3Proc', controls=paced(), rec_length=2, ring_frames=100,
                     cb_timeout=0.2)
    seen = list(rec.cb_queue)
    assert rec.report.complete == 'yes' and rec.report.callback_restarts == 0 and rec.report.callback_errors == 0
    assert seen[0] == 0 and seen[-1] == 199 and len(seen) > 50


def test_without_a_file_the_callback_still_sees_every_frame(tmp_path: Path) -> None:
    rec = record(None, lambda buffer, cb_queue: cb_queue.put(buffer[-1].index), '3Proc', write_vid=False,  # type: ignore
                 log_file=tmp_path / 'log.csv')
    assert list(rec.cb_queue) == list(range(30))
    assert rec.report.written == 0 and rec.report.captured == 30 and rec.report.complete == 'yes'
    assert len((tmp_path / 'log.csv').read_text().splitlines()) == 31
    assert [item.name for item in tmp_path.iterdir()] == ['log.csv']


def test_a_callback_may_use_opencv_that_the_script_has_used_before(tmp_path: Path) -> None:
    import cv2
    image = np.random.default_rng(0).integers(0, 255, (720, 1280, 3), np.uint8)
    cv2.setNumThreads(4)
    cv2.GaussianBlur(image, (0, 0), 9)

    def blur(buffer: Any, cb_queue: Any) -> None:
        cb_queue.put(int(cv2.GaussianBlur(cv2.resize(buffer[-1], (1280, 720)), (0, 0), 9).mean()))

    rec = record(tmp_path / 'a.tif', blur, '3Proc', controls={'frames': 3})
    assert len(list(rec.cb_queue)) == 3


def test_two_recorders_at_once_keep_apart(tmp_path: Path) -> None:
    def which(name: str) -> Any:
        return lambda buffer, cb_queue: cb_queue.put(name)

    one = recorder(tmp_path / '1.tif', callback=which('one'), blocking=False, controls=paced())
    two = recorder(tmp_path / '2.tif', callback=which('two'), blocking=False, controls=paced())
    with one, two:
        one.recordVid()
        two.recordVid()
        wait_until(lambda: min(one.status().written, two.status().written) > 10)
        report_one = one.stopVid()
        assert two.recording
        report_two = two.stopVid()
    assert report_one.complete == report_two.complete == 'yes'
    assert set(one.cb_queue) == {'one'} and set(two.cb_queue) == {'two'}


def tell_and_sleep(fd: int) -> None:
    os.write(fd, b'x')
    time.sleep(60)


@BOTH
@pytest.mark.parametrize('kind', ['daemon', 'executor'])
def test_what_a_callback_has_started_ends_with_it(tmp_path: Path, cb_type: str, kind: str) -> None:
    """No assertion of its own: the suite fails any test that leaves a process behind."""
    def start_helpers(buffer: Any, cb_queue: Any) -> None:
        if buffer[-1].index == 3:
            if kind == 'daemon':
                context = multiprocessing.get_context('fork')
                read, write = os.pipe()
                context.Process(target=tell_and_sleep, args=(write,), daemon=True).start()
                os.read(read, 1)           # Python drops a signal that a fork gets before it runs
            else:
                from concurrent.futures import ProcessPoolExecutor
                pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context('fork'))
                cb_queue.put(pool.submit(abs, -4).result())

    with warnings.catch_warnings():
        warnings.simplefilter('ignore', DeprecationWarning)      # Python >= 3.12: fork beside threads
        rec = record(tmp_path / 'a.tif', start_helpers, cb_type)
    assert rec.report.complete == 'yes' and rec.report.callback_errors == 0
    assert list(rec.cb_queue) == ([4] if kind == 'executor' else [])


def test_forks_of_a_callback_that_log_do_not_disturb_the_recording(tmp_path: Path) -> None:
    def talkative(buffer: Any, cb_queue: Any) -> None:
        pid = os.fork()
        logging.getLogger('lab').warning('from %d: %s', os.getpid(), 'x' * 5000)
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)

    with warnings.catch_warnings():
        warnings.simplefilter('ignore', DeprecationWarning)
        rec = record(tmp_path / 'a.tif', talkative, '3Proc')
    assert rec.report.complete == 'yes' and rec.report.processed == 30


def test_an_exit_that_dies_or_hangs_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    class Model:
        def __init__(self, how: str) -> None:
            self.how = how

        def __enter__(self) -> 'Model':
            return self

        def __exit__(self, *error: Any) -> None:
            os._exit(7) if self.how == 'dies' else time.sleep(100)

        def __call__(self, buffer: Any, cb_queue: Any) -> None:
            pass

    for how in ('dies', 'hangs'):
        rec, error = record_with_error(tmp_path / f'{how}.tif', Model(how), '3Proc', cb_start_timeout=1)
        assert rec.report.complete == 'yes' and len(statuses(tmp_path / f'{how}.tif')) == 30
        assert ('exit code 7' if how == 'dies' else '__exit__ did not return') in str(error)


def test_an_exception_that_cannot_be_printed_is_reported_all_the_same(tmp_path: Path) -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError('not even this')

    def fail(buffer: Any, cb_queue: Any) -> None:
        if buffer[-1].index == 3:
            raise Odd

    for cb_type in ('2Proc', '3Proc'):
        rec, error = record_with_error(tmp_path / f'{cb_type}.tif', fail, cb_type)
        assert 'Odd: (it cannot be printed)' in str(error) and rec.report.processed == 29
