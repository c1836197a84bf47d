"""The two-way queue: real forked processes, kills, spills, Ctrl-C."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import queue
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any, Callable, Iterator, List, Tuple

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ProcessedPiRecorder.errors import RecorderStateError
from ProcessedPiRecorder.pipeline import spill
from ProcessedPiRecorder.pipeline.cb_queue import CallbackPort, CallbackQueue
from ProcessedPiRecorder.pipeline.spill import InputClosed, SpillQueue

# Forking while the queue's own threads run is what these tests are about.
pytestmark = pytest.mark.filterwarnings('ignore:.*multi-threaded.*fork.*:DeprecationWarning')

ROOT = Path(__file__).resolve().parent.parent


def open_fds() -> List[str]:
    return sorted(os.listdir('/proc/self/fd'))


def our_threads() -> List[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith('cb_queue')]


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    before = open_fds()
    yield
    assert our_threads() == []
    assert open_fds() == before


def fork_callback(cb_queue: CallbackQueue, body: Callable[[CallbackPort], Any]) -> int:
    """A child that runs ``body(port)`` and finishes its port; exit code 0 when nothing was left unsent."""
    up_r, up_w = os.pipe()
    down_r, down_w = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            cb_queue.close_fds_in_child()
            os.close(up_r)
            os.close(down_w)
            port = CallbackPort(down_r, up_w)
            body(port)
            code = 0 if port.finish(20) else 2
        finally:
            os._exit(code)
    os.close(up_w)
    os.close(down_r)
    cb_queue.attach(up_r, down_w)
    return pid


def exit_code(pid: int) -> int:
    status = os.waitpid(pid, 0)[1]
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def finish(cb_queue: CallbackQueue) -> None:
    cb_queue.end()
    assert cb_queue.wait_drained(20)


def put_numbers(count: int) -> Callable[[CallbackPort], None]:
    def body(port: CallbackPort) -> None:
        for number in range(count):
            port.put({'index': number, 'faces': [1, 2, 3]})
    return body


def record_numbers(count: int) -> None:
    cb_queue = CallbackQueue()
    cb_queue.begin()
    assert exit_code(fork_callback(cb_queue, put_numbers(count))) == 0     # the main thread is blocked here
    finish(cb_queue)
    assert cb_queue.count_received == count and cb_queue.torn == 0
    assert cb_queue.qsize() == count
    assert [result['index'] for result in cb_queue] == list(range(count))


def test_results_arrive_in_order_while_the_script_is_blocked() -> None:
    record_numbers(100_000)


@pytest.mark.slow
def test_a_million_results() -> None:
    record_numbers(1_000_000)


def test_both_directions_and_what_was_put_before_the_recording() -> None:
    cb_queue = CallbackQueue()
    cb_queue.put(('threshold', 40))
    cb_queue.begin()

    def echo(port: CallbackPort) -> None:
        for item in port:
            if item == 'stop':
                return
            port.put((item, os.getpid()))

    pid = fork_callback(cb_queue, echo)
    for number in range(1000):
        cb_queue.put(number)
    assert cb_queue.get(timeout=10) == (('threshold', 40), pid)
    assert [cb_queue.get()[0] for _ in range(1000)] == list(range(1000))
    cb_queue.put('stop')
    assert exit_code(pid) == 0
    finish(cb_queue)
    with pytest.raises(queue.Empty):
        cb_queue.get()


def test_large_messages_both_ways() -> None:
    cb_queue = CallbackQueue()
    cb_queue.begin()
    pid = fork_callback(cb_queue, lambda port: port.put(port.get()[::-1]))
    large = os.urandom(50_000_000)
    cb_queue.put(large)
    assert cb_queue.get(timeout=30) == large[::-1]
    assert exit_code(pid) == 0
    finish(cb_queue)


def test_get_waits_before_the_first_recording_and_ends_after_it() -> None:
    cb_queue = CallbackQueue()
    with pytest.raises(queue.Empty):
        cb_queue.get(timeout=0.05)
    with pytest.raises(queue.Empty):
        cb_queue.get_nowait()
    got: List[Any] = []
    reader = threading.Thread(target=lambda: got.extend(cb_queue))
    reader.start()
    cb_queue.begin()
    assert exit_code(fork_callback(cb_queue, put_numbers(3))) == 0
    assert reader.is_alive()
    finish(cb_queue)
    reader.join(10)
    assert [result['index'] for result in got] == [0, 1, 2]
    assert list(cb_queue) == []


def test_unread_results_of_an_earlier_recording_come_first() -> None:
    cb_queue = CallbackQueue()
    for recording in range(3):
        cb_queue.begin()

        def body(port: CallbackPort, recording: int = recording) -> None:
            port.put(recording)
        assert exit_code(fork_callback(cb_queue, body)) == 0
        finish(cb_queue)
    assert list(cb_queue) == [0, 1, 2]


def test_a_kill_in_mid_put_tears_at_most_the_last_message() -> None:
    """The kill falls anywhere in a stream of messages; the next process is served as if nothing had been."""
    chance = random.Random(7)
    torn = 0
    for run in range(20):
        cb_queue = CallbackQueue()
        cb_queue.begin()

        def flood(port: CallbackPort) -> None:
            for number in range(5000):
                port.put((number, b'x' * (20 if number % 3 else 300_000)))     # some need many writes
                time.sleep(0 if number % 10 else 0.0005)

        pid = fork_callback(cb_queue, flood)
        assert cb_queue.get(timeout=10)[0] == 0
        time.sleep(chance.random() * 0.01)
        os.kill(pid, signal.SIGKILL)
        assert exit_code(pid) == -signal.SIGKILL
        last_words = f'run {run}'

        def answer(port: CallbackPort, words: str = last_words) -> None:
            port.put((words, port.get()))

        pid = fork_callback(cb_queue, answer)
        cb_queue.put('still there?')
        assert exit_code(pid) == 0
        finish(cb_queue)
        *numbers, last = list(cb_queue)
        assert [number for number, _ in numbers] == list(range(1, len(numbers) + 1))
        assert last == (last_words, 'still there?')
        assert cb_queue.torn in (0, 1)
        torn += cb_queue.torn
    assert torn > 0, 'no kill fell into a message: this test tested nothing'


def test_a_torn_message_is_counted_and_dropped() -> None:
    cb_queue = CallbackQueue()
    up_r, up_w = os.pipe()
    down_r, down_w = os.pipe()
    cb_queue.attach(up_r, down_w)
    whole = pickle.dumps('whole')
    os.write(up_w, len(whole).to_bytes(8, 'little') + whole + (1000).to_bytes(8, 'little') + b'half')
    os.close(up_w)
    os.close(down_r)
    finish(cb_queue)
    assert list(cb_queue) == ['whole']
    assert (cb_queue.torn, cb_queue.count_received) == (1, 1)


def test_what_a_dead_callback_did_not_take_reaches_the_next() -> None:
    cb_queue = CallbackQueue()
    cb_queue.begin()
    pid = fork_callback(cb_queue, lambda port: time.sleep(60))
    size, count = 10_000, 100     # a megabyte: far more than the pipe takes
    for number in range(count):
        cb_queue.put((number, b'x' * size))
    time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    exit_code(pid)

    def answer(port: CallbackPort) -> None:
        for number, _ in port:
            port.put(number)
            if number == count - 1:
                return

    assert exit_code(fork_callback(cb_queue, answer)) == 0
    finish(cb_queue)
    numbers = list(cb_queue)
    assert numbers == list(range(numbers[0], count))
    assert numbers[0] <= 7     # what fitted into the first one's pipe


def test_the_end_comes_although_a_grandchild_holds_the_pipe() -> None:
    cb_queue = CallbackQueue()
    cb_queue.begin()
    tell_r, tell_w = os.pipe()

    def leave_a_child(port: CallbackPort) -> None:
        port.put('before')
        child = os.fork()
        if child == 0:
            time.sleep(60)
        os.write(tell_w, child.to_bytes(4, 'little'))

    pid = fork_callback(cb_queue, leave_a_child)
    grandchild = int.from_bytes(os.read(tell_r, 4), 'little')
    os.close(tell_r)
    os.close(tell_w)
    try:
        assert exit_code(pid) == 0     # a clean end: told by the end mark
        finish(cb_queue)
    finally:
        os.kill(grandchild, signal.SIGKILL)
    assert list(cb_queue) == ['before']


def test_abandon_reads_what_is_there_and_waits_no_longer() -> None:
    cb_queue = CallbackQueue()
    cb_queue.begin()
    up_r, up_w = os.pipe()     # up_w stays open: the grandchild of a killed callback
    down_r, down_w = os.pipe()
    cb_queue.attach(up_r, down_w)
    message = pickle.dumps('there')
    os.write(up_w, len(message).to_bytes(8, 'little') + message)
    cb_queue.end()
    assert not cb_queue.wait_drained(0.1)
    assert cb_queue.abandon()
    assert cb_queue.wait_drained(0)
    assert list(cb_queue) == ['there']
    os.close(up_w)
    os.close(down_r)


def test_finish_gives_up_when_nobody_reads() -> None:
    up_r, up_w = os.pipe()
    down_r, down_w = os.pipe()
    port = CallbackPort(down_r, up_w)
    port.put(b'x' * 1_000_000)
    start = time.monotonic()
    assert not port.finish(0.2)
    assert time.monotonic() - start < 2
    os.close(up_r)
    os.close(down_w)


def test_finish_ends_at_once_when_the_script_has_gone() -> None:
    up_r, up_w = os.pipe()
    down_r, down_w = os.pipe()
    port = CallbackPort(down_r, up_w)
    os.close(up_r)
    os.close(down_w)
    port.put(b'x' * 1_000_000)
    with pytest.raises(queue.Empty):
        port.get()
    deadline = time.monotonic() + 20
    while port._feeder.running and time.monotonic() < deadline:
        time.sleep(0.005)       # until the feeder has noticed, in a thread of its own
    start = time.monotonic()
    port.put(b'for nobody')     # is not kept
    assert len(port._outbound) == 1
    assert not port.finish(20)
    assert not port.finish(20)     # the second time too
    assert time.monotonic() - start < 15


def test_an_unused_port_starts_no_thread() -> None:
    up_r, up_w = os.pipe()
    down_r, down_w = os.pipe()
    port = CallbackPort(down_r, up_w)
    assert our_threads() == []
    assert port.finish(5)
    assert os.read(up_r, 100) == b'\xff' * 8
    with pytest.raises(queue.Empty):
        port.get()
    os.close(up_r)
    os.close(down_w)


def test_a_port_that_was_started_ends_without_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A callback that has used up all memory: the start of a thread would never return."""
    up_r, up_w = os.pipe()
    down_r, down_w = os.pipe()
    port = CallbackPort(down_r, up_w)
    port.start()

    def start(self: threading.Thread) -> None:
        raise MemoryError

    monkeypatch.setattr(threading.Thread, 'start', start)
    assert port.finish(5)
    assert os.read(up_r, 100) == b'\xff' * 8
    os.close(up_r)
    os.close(down_w)


def loopback(**options: Any) -> Tuple[CallbackQueue, CallbackPort]:
    """Both sides in this process, as with a callback that runs in a thread."""
    up_r, up_w = os.pipe()
    down_r, down_w = os.pipe()
    cb_queue = CallbackQueue()
    cb_queue.attach(up_r, down_w)
    return cb_queue, CallbackPort(down_r, up_w, **options)


def test_on_put_gets_what_was_pickled() -> None:
    stored: List[Any] = []
    cb_queue, port = loopback(on_put=stored.append)
    result = {'index': 1}
    port.put(result)
    result['index'] = 2     # the one that was put stays as it was
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        port.put(lambda: None)
    assert stored == [result]
    assert port.finish(5)
    finish(cb_queue)
    assert list(cb_queue) == [{'index': 1}]


def test_it_looks_like_a_multiprocessing_queue() -> None:
    cb_queue, port = loopback()
    for side in (cb_queue, port):
        side.put(1, False)
        side.put(2, True, 1.0)
        side.put_nowait(3)
        side.join_thread()
        assert not side.full()
    assert [port.get(), port.get(True, 5), port.get(timeout=5)] == [1, 2, 3]
    assert port.empty() and port.qsize() == 0
    assert [cb_queue.get() for _ in range(3)] == [1, 2, 3]
    with pytest.raises(queue.Empty):
        port.get_nowait()
    for side in (cb_queue, port):
        side.cancel_join_thread()
        side.close()
        with pytest.raises(ValueError, match='closed'):
            side.put(4)
    assert port.finish(5)
    finish(cb_queue)
    with pytest.raises(TypeError, match='cannot be sent'):
        pickle.dumps(cb_queue)


def test_a_child_of_the_script_cannot_use_it_and_holds_no_pipe() -> None:
    cb_queue, port = loopback()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            before = len(open_fds())
            cb_queue.close_fds_in_child()
            closed = before - len(open_fds())
            with contextlib.suppress(RecorderStateError):
                cb_queue.put(1)
                closed = -1
            with contextlib.suppress(RecorderStateError):
                cb_queue.get(timeout=0)
                closed = -1
            code = 0 if closed == 6 else 2
        finally:
            os._exit(code)
    assert exit_code(pid) == 0
    port.put('still works')
    assert port.finish(5)
    finish(cb_queue)
    assert list(cb_queue) == ['still works']


def test_a_child_of_the_callback_is_told_that_it_cannot_put() -> None:
    cb_queue, port = loopback()
    port.put(1)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            port.put(2)
        except RecorderStateError:
            code = 0
        finally:
            os._exit(code)
    assert exit_code(pid) == 0
    assert port.finish(5)
    finish(cb_queue)
    assert list(cb_queue) == [1]


@pytest.mark.parametrize('call', ['cb_queue.get()', 'list(cb_queue)', 'cb_queue.get(timeout=60)'])
def test_ctrl_c_interrupts_a_blocking_get(call: str) -> None:
    script = textwrap.dedent(f'''
        import os, signal
        signal.signal(signal.SIGINT, signal.default_int_handler)
        from ProcessedPiRecorder.pipeline.cb_queue import CallbackQueue
        cb_queue = CallbackQueue()
        up_r, up_w = os.pipe()
        down_r, down_w = os.pipe()
        cb_queue.attach(up_r, down_w)
        print('ready', flush=True)
        try:
            {call}
        except KeyboardInterrupt:
            print('interrupted', flush=True)
    ''')
    process = subprocess.Popen([sys.executable, '-c', script], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    assert process.stdout.readline() == 'ready\n'
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=10)
    assert out == 'interrupted\n'
    assert process.returncode == 0


def test_sigpipe_of_a_dead_callback_does_not_end_the_script() -> None:
    script = textwrap.dedent('''
        import os, signal
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        from ProcessedPiRecorder.pipeline.cb_queue import CallbackQueue
        cb_queue = CallbackQueue()
        up_r, up_w = os.pipe()
        down_r, down_w = os.pipe()
        cb_queue.attach(up_r, down_w)
        os.close(down_r)
        cb_queue.put(1)
        cb_queue.join_thread()
        os.close(up_w)
        cb_queue.end()
        print(cb_queue.wait_drained(5))
    ''')
    done = subprocess.run([sys.executable, '-c', script], stdout=subprocess.PIPE, text=True, cwd=ROOT, timeout=20)
    assert (done.returncode, done.stdout) == (0, 'True\n')


# The spill itself

def test_beyond_the_limit_it_spills_and_keeps_the_order(tmp_path: Path) -> None:
    messages = SpillQueue(limit_bytes=100_000, folder=tmp_path)
    sent = [os.urandom(random.Random(i).randrange(5000)) for i in range(2000)]
    for message in sent:
        messages.put(message)
    assert messages.spilled and len(messages) == 2000
    assert messages.unread_bytes == sum(map(len, sent))
    assert os.listdir(tmp_path) == []     # the file has no name
    assert [messages.get() for _ in sent] == sent
    assert not messages.spilled and messages.unread_bytes == 0
    messages.put(b'in memory again')
    assert not messages.spilled and messages.get() == b'in memory again'


def test_read_files_give_their_space_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spill, 'FILE_BYTES', 2_000_000)
    messages = SpillQueue(limit_bytes=0, folder=tmp_path)
    before = len(open_fds())
    for number in range(100):
        messages.put(bytes([number]) * 100_000)
    assert len(open_fds()) - before == 5
    for number in range(50):
        assert messages.get() == bytes([number]) * 100_000
    assert len(open_fds()) - before <= 3
    messages.clear()
    assert len(messages) == 0


def test_a_disk_that_refuses_keeps_messages_in_memory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    messages = SpillQueue(limit_bytes=1000, folder=tmp_path / 'missing')
    sent = [bytes([number % 256]) * 1000 for number in range(5000)]
    with caplog.at_level(logging.WARNING):
        messages.put_many(sent)
    assert len(caplog.records) == 1 and 'stay in memory' in caplog.text
    assert [messages.get() for _ in sent] == sent


@hypothesis_settings(max_examples=60, deadline=None)
@given(st.integers(0, 3000), st.lists(st.one_of(st.integers(0, 900), st.just('get'), st.just('batch'), st.just('back')),
                                      max_size=200))
def test_it_is_first_in_first_out_whatever_happens(limit: int, actions: List[Any]) -> None:
    messages = SpillQueue(limit)
    expected: List[bytes] = []
    block, spill.BLOCK_BYTES = spill.BLOCK_BYTES, 1500
    try:
        for number, action in enumerate(actions):
            if isinstance(action, int):
                expected.append(number.to_bytes(2, 'big') * action)
                messages.put(expected[-1])
            elif expected and action == 'get':
                assert messages.get(0) == expected.pop(0)
            elif expected:
                batch = messages.get_batch(1000, 0)
                assert batch == expected[:len(batch)]
                if action == 'back':
                    messages.put_back(batch)
                else:
                    del expected[:len(batch)]
            assert len(messages) == len(expected)
            assert messages.unread_bytes == sum(map(len, expected))
        messages.close_input()
        assert [messages.get() for _ in range(len(expected))] == expected
        with pytest.raises(InputClosed):
            messages.get()
    finally:
        spill.BLOCK_BYTES = block
        messages.clear()
