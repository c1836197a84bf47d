"""The ring, the links and the channels: what joins the processes."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import textwrap
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ProcessedPiRecorder import Frame, Settings, errors, left, memory, right
from ProcessedPiRecorder.pipeline import ring as ring_module
from ProcessedPiRecorder.pipeline.channel import Channel, RemoteError
from ProcessedPiRecorder.pipeline.clocks import TICK_NS, Anchors, OriginatingTime
from ProcessedPiRecorder.pipeline.histogram import DurationHistogram
from ProcessedPiRecorder.pipeline.links import Kind, LinkReader, LinkWriter, fit_link, make_link
from ProcessedPiRecorder.pipeline.ring import Ring, RingLayout, Stat, plan_ring
from ProcessedPiRecorder.status import read_status


def test_a_ring_is_shared_between_processes_and_leaves_nothing() -> None:
    before = os.listdir('/dev/shm')
    ring = Ring.create(RingLayout((5, 7, 3), 3, 2, 1))
    assert os.listdir('/dev/shm') == before
    pid = os.fork()
    if pid == 0:
        mine = Ring(ring.fd, ring.layout)
        mine.slots[2][:] = 7
        mine.outputs[1][:] = 8
        mine.stats[Stat.CAPTURED] = 2**40
        os._exit(0)
    os.waitpid(pid, 0)
    assert (ring.slots[2] == 7).all() and (ring.outputs[1] == 8).all() and ring.stats[Stat.CAPTURED] == 2**40
    assert not ring.slots[0].any() and not ring.outputs[0].any() and not ring.displays[0].any()
    assert len({view.ctypes.data for view in (*ring.slots, *ring.outputs, *ring.displays)}) == 6
    ring.close()
    ring.close()


def test_every_page_has_been_used_before_the_first_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    write = os.pwrite
    monkeypatch.setattr(os, 'pwrite', lambda fd, data, offset: used.append((offset, write(fd, data, offset))))
    ring = Ring.create(RingLayout((480, 640, 3), 9, 2, 0))
    ends = [offset + length for offset, length in used]
    assert [offset for offset, _ in used] == [0, *ends[:-1]] and ends[-1] == ring.layout.size
    assert os.fstat(ring.fd).st_size == ring.layout.size
    ring.close()


@given(st.integers(1, 50), st.integers(1, 50), st.booleans(), st.integers(1, 9), st.integers(0, 3))
def test_slots_never_overlap(height: int, width: int, gray: bool, slots: int, outputs: int) -> None:
    layout = RingLayout((height, width) if gray else (height, width, 3), slots, outputs, 0)
    ring = Ring.create(layout)
    for number, view in enumerate((*ring.slots, *ring.outputs)):
        view[:] = number + 1
    for number, view in enumerate((*ring.slots, *ring.outputs)):
        assert (view == number + 1).all()
    ring.close()


def test_a_32_bit_process_refuses_a_ring_beyond_its_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, '_meminfo_available', lambda: 8 * 10**9)
    monkeypatch.setattr(memory.sys, 'maxsize', 2**31 - 1)
    with pytest.raises(errors.RingError, match='needs 2489 MB, free memory is [0-9]+ MB; pass a smaller'):
        Ring.create(RingLayout((1080, 1920, 3), 400, 0, 0))


def test_the_default_ring_is_two_seconds_within_a_quarter_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(tif_path=Path('a.tif'), display=False)
    monkeypatch.setattr(ring_module, 'available_memory', lambda: 10**9)
    assert plan_ring(settings, (48, 64, 3), 90.0).slots == 180
    assert plan_ring(settings, (48, 64, 3), None).slots == 60
    monkeypatch.setattr(ring_module, 'available_memory', lambda: 100 * 4 * 4096)
    assert plan_ring(settings, (64, 64), 90.0).slots == 100


def test_processed_frames_get_places_of_their_own_only_where_they_are_recorded() -> None:
    def outputs(**values: Any) -> int:
        return plan_ring(Settings(tif_path=Path('a.tif'), ring_frames=40, **values), (48, 64), 30.0).outputs

    assert outputs() == 0 and outputs(callback=print) == 10
    assert outputs(callback=print, record='raw') == 0 and outputs(callback=print, write_vid=False) == 0


def test_memory_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ring_module, 'available_memory', lambda: 1_000_000)
    with pytest.raises(errors.RingError, match='needs 41 MB, free memory is 1 MB'):
        Ring.create(RingLayout((64, 64), 10_000, 0, 0))


def test_control_group_limits_count(tmp_path: Path) -> None:
    cache = ('inactive_file', 'active_file')
    (tmp_path / 'lab' / 'job').mkdir(parents=True)
    for folder, limit, usage in (('lab', '1000', '400'), ('lab/job', 'max', '10')):
        (tmp_path / folder / 'memory.max').write_text(limit)
        (tmp_path / folder / 'memory.current').write_text(usage)
    assert memory._limit_free(str(tmp_path), '/lab/job', 'memory.max', 'memory.current', cache) == 600
    assert memory._limit_free(str(tmp_path), None, 'memory.max', 'memory.current', cache) is None


def test_a_link_keeps_order_and_ends() -> None:
    read, write = make_link()
    receiver, sender = LinkReader(read), LinkWriter(write)
    assert receiver.receive() == [] and not receiver.ended and not receiver.wait(0)
    for number in range(1000):
        sender.send(Kind.FRAME, number, -number, 2**62, -2**63, 5, generation=3)
    seen = receiver.receive()
    while len(seen) < 1000:
        seen += receiver.receive()
    assert [record.slot for record in seen] == list(range(1000))
    assert seen[7] == (Kind.FRAME, 3, 7, -7, 2**62, -2**63, 5, 0)
    sender.close()
    assert receiver.wait(1) and receiver.receive() == [] and receiver.ended
    receiver.close()


def test_a_link_to_the_dead_raises_broken_pipe() -> None:
    read, write = make_link()
    os.close(read)
    sender = LinkWriter(write)
    with pytest.raises(BrokenPipeError):
        sender.send(Kind.FREE, 1)
    sender.close()


@pytest.mark.parametrize('slots', [100, 1000, 8192])
def test_a_fitted_link_holds_a_record_for_every_slot(slots: int) -> None:
    read, write = make_link()
    fit_link(write, slots)
    os.set_blocking(write, False)
    sender = LinkWriter(write)
    for _ in range(slots + 200):
        sender.send(Kind.FREE, 1)
    os.close(read)
    sender.close()


def test_channels_carry_messages_of_any_size_and_descriptors() -> None:
    one, other = Channel.pair()
    payload = {'big': b'x' * 3_000_000, 'none': None}
    read, write = os.pipe()
    sender = threading.Thread(target=lambda: (one.send('first', payload, [write]), one.send('second')))
    sender.start()
    kind, received, fds = other.receive()          # type: ignore[misc]
    assert (kind, received) == ('first', payload) and len(fds) == 1
    os.write(fds[0], b'hi')
    assert os.read(read, 2) == b'hi'
    assert other.receive() == ('second', None, [])
    sender.join()
    one.close()
    assert other.receive() is None and other.send('late') is False
    other.close()
    for fd in (read, write, *fds):
        os.close(fd)


def test_dropping_rather_than_waiting() -> None:
    one, other = Channel.pair()
    sent = 0
    while one.send_if_room('log', 'x' * 1000) and sent < 100_000:
        sent += 1
    assert 10 < sent < 100_000
    one.close()
    other.close()


def test_remote_errors_keep_their_kind_and_traceback() -> None:
    def fail() -> None:
        raise ValueError('lens')

    try:
        fail()
    except ValueError as error:
        remote = pickle.loads(pickle.dumps(RemoteError.of(error, 'CameraError', 'the camera broke: ')))
    raised = remote.to_exception()
    assert type(raised) is errors.CameraError and str(raised) == 'the camera broke: ValueError: lens'
    assert isinstance(raised.__cause__, errors.RemoteTraceback) and 'in fail' in str(raised.__cause__)
    kept = RemoteError.of(errors.CameraStalledError('silent'), 'CameraError', 'unused: ').to_exception()
    assert type(kept) is errors.CameraStalledError and str(kept) == 'silent'


@given(st.lists(st.integers(-10**9, 10**9), min_size=1, max_size=50), st.sampled_from(['own', 'monotonic', 'utc']))
def test_originating_times_always_increase(sensor: 'list[int]', base: str) -> None:
    times = OriginatingTime(base)
    host = time.monotonic_ns()
    given_times = [times.of(value, host + number) for number, value in enumerate(sensor)]
    assert all(later - earlier >= TICK_NS for earlier, later in zip(given_times, given_times[1:]))


def test_a_step_of_the_system_clock_is_seen_in_the_anchors(monkeypatch: pytest.MonkeyPatch) -> None:
    anchors = Anchors()
    anchors.take()
    real = time.time_ns
    monkeypatch.setattr(time, 'time_ns', lambda: real() + 3_600_000_000_000)
    anchors.take()
    step, = anchors.as_dict()['steps']
    assert abs(step['step_ns'] - 3_600_000_000_000) < 10_000_000


@given(st.lists(st.integers(0, 10**11), min_size=1, max_size=300))
def test_quantiles_are_right_to_a_bucket(durations: 'list[int]') -> None:
    histogram = DurationHistogram()
    for duration in durations:
        histogram.add(duration)
    for share in (0.5, 0.99):
        true_ms = float(np.quantile(durations, share, method='inverted_cdf')) / 1e6
        assert true_ms * 0.999 <= histogram.quantile_ms(share) + 1e-9
        assert histogram.quantile_ms(share) <= max(true_ms * 1.06, 0.0011)
    assert histogram.summary()['max'] == round(max(durations) / 1e6, 3)


def test_frames_keep_what_they_know_through_views_copies_and_pickles() -> None:
    frame = Frame(np.arange(24, dtype=np.uint8).reshape(4, 6), 5, 123)
    for other in (frame.copy(), frame[1:], pickle.loads(pickle.dumps(frame)), frame + 1):
        assert isinstance(other, Frame) and (other.index, other.time_ns) == (5, 123)
    assert np.array_equal(pickle.loads(pickle.dumps(frame)), frame)
    assert left(frame).tolist() == frame[:, :3].tolist() and right(frame).base is not None
    assert np.array_equal(np.hstack([left(frame), right(frame)]), frame)
    import cv2
    assert cv2.resize(frame, (3, 2)).shape == (2, 3)


def test_errors_form_one_tree_and_survive_pickling() -> None:
    for name in errors.__all__:
        kind = getattr(errors, name)
        if name.endswith('Warning'):
            assert issubclass(kind, errors.RecorderWarning)
        elif name != 'RemoteTraceback':
            assert issubclass(kind, errors.RecorderError)
            made = kind('a', 'b', 'c') if name == 'MissingExtraError' else kind('what happened')
            copy = pickle.loads(pickle.dumps(made))
            assert type(copy) is kind and str(copy) == str(made)
    assert "pip install 'ProcessedPiRecorder[c]'" in str(errors.MissingExtraError('a', 'b', 'c'))


def test_errors_survive_the_pickling_of_dask() -> None:
    """tblib, which Dask brings, pickles every exception in its own way once it is imported."""
    pytest.importorskip('tblib')
    script = textwrap.dedent("""
        import pickle
        from ProcessedPiRecorder import errors
        import tblib.pickling_support
        tblib.pickling_support.install()
        for name in errors.__all__:
            if name not in ('RemoteTraceback', 'MissingExtraError'):
                made = getattr(errors, name)('what happened')
                assert str(pickle.loads(pickle.dumps(made))) == str(made), name
        print('all')
    """)
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ('all\n', 0), done.stderr


def test_a_status_never_tells_of_more_frames_written_than_captured() -> None:
    """The reader counts a frame after it has passed it on, so that the writer may be ahead of it."""
    ring = Ring.create(RingLayout((4, 4), 4, 0, 0))
    ring.stats[Stat.CAPTURED], ring.stats[Stat.RECEIVED], ring.stats[Stat.WRITTEN] = 6, 7, 7
    status = read_status(ring, deque(), recording=True)
    ring.close()
    assert (status.captured, status.written) == (7, 7)
