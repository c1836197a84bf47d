"""What a camera does is what the report says: losses, stalls, failures, and what cannot be known."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from recording_tools import paced, pages, recorder, truth, wait_until

from ProcessedPiRecorder import errors
from ProcessedPiRecorder.recordings.reader import RecordingFile


@pytest.mark.parametrize('detection', ['frame_duration', 'fixed_rate'])
@pytest.mark.parametrize('actual_hz', [60, 12])
def test_exactly_the_frames_that_a_camera_lost_are_reported(tmp_path: Path, actual_hz: int, detection: str) -> None:
    """Asked for 25 Hz, it runs at another rate and loses every tenth frame."""
    path = tmp_path / 'a.tif'
    seconds = 2 if actual_hz == 60 else 3
    rec = recorder(path, framerate=25, rec_length=seconds,
                   controls=paced(actual_hz=actual_hz, lose_every=10, loss_detection=detection))
    report = rec.recordVid()
    made = actual_hz * seconds
    lost = {loss.index + offset for loss in report.losses for offset in range(loss.count)}
    kept = [page.index for page, _ in pages(path)]
    frame = truth(rec.settings)
    for page, image in pages(path):
        assert (image == frame(page.index)).all()      # the numbers are the sensor's own
    assert sorted(lost | set(kept)) == list(range(made)) and not lost & set(kept)
    assert report.lost == made // 10 == len(lost) and report.sensor == made and report.captured == made - len(lost)
    assert {loss.reason for loss in report.losses} == {'camera gap'}
    assert report.complete == 'no' and report.reasons == [f'{len(lost)} frames lost']
    assert report.rate_hz == pytest.approx(actual_hz * 0.9, rel=0.02)


def test_without_a_clock_completeness_is_unknown(tmp_path: Path) -> None:
    report = recorder(tmp_path / 'a.tif', controls={'loss_detection': 'none', 'lose_every': 5}).recordVid()
    assert report.complete == 'unknown' and report.lost == 0
    assert report.reasons == ['this camera gives no means to see losses']


def test_a_ring_that_is_too_small_loses_frames_and_says_which(tmp_path: Path) -> None:
    """The writer is made slow by a hand on its disk: frames are lost at the ring, newest first."""
    def stop_and_go(buffer: Any, cb_queue: Any) -> None:
        if buffer[-1].index == 10:
            end = time.perf_counter() + 1.0
            while time.perf_counter() < end:           # holds the writer's interpreter lock
                sum(range(1000))

    path = tmp_path / 'a.tif'
    rec = recorder(path, framerate=200, rec_length=2, ring_frames=4, tif_compression=9, x_resolution=1280,
                   y_resolution=960, callback=stop_and_go, cb_type='2Proc', cb_delivery='latest', controls=paced())
    report = rec.recordVid()
    lost = {loss.index + offset for loss in report.losses for offset in range(loss.count)}
    kept = {page.index for page, _ in pages(path)}
    assert report.lost == len(lost) > 0 and not lost & kept and lost | kept == set(range(report.sensor))
    assert 'ring full' in {loss.reason for loss in report.losses}
    assert report.complete == 'no' and report.ring_high_water == 4


def test_a_short_stall_is_reported_as_one(tmp_path: Path) -> None:
    report = recorder(tmp_path / 'a.tif', framerate=50, rec_length=2,
                      controls=paced(stall_at=20, stall_s=1.2)).recordVid()
    stall, = [loss for loss in report.losses if loss.reason == 'stall']
    assert stall.index == 20 and 55 <= stall.count <= 65
    assert report.complete == 'no' and report.sensor == 100


def test_a_silent_camera_ends_the_recording_and_what_came_is_safe(tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    rec = recorder(path, camera_timeout=0.5, controls=paced(stall_at=20, stall_s=60))
    with pytest.raises(errors.CameraStalledError, match='no frame for 0.5 s'):
        rec.recordVid()
    assert rec.report.stopped == 'stall' and rec.report.complete == 'no' and rec.report.written == 20
    assert finished_pages(path) == 20


def test_a_slow_camera_is_not_taken_for_a_silent_one(tmp_path: Path) -> None:
    report = recorder(tmp_path / 'a.tif', framerate=1, rec_length=3, camera_timeout=0.3, controls=paced()).recordVid()
    assert report.complete == 'yes' and report.written == 3


def test_a_camera_that_hangs_after_its_last_frame_takes_nothing_from_the_recording(tmp_path: Path) -> None:
    from ProcessedPiRecorder.cameras import SyntheticCamera

    class Clinging(SyntheticCamera):
        name = 'clinging'

        def stream(self, sink: Any) -> None:
            super().stream(sink)
            time.sleep(20)

    report = recorder(tmp_path / 'a.tif', camera=Clinging(), rec_length=0.5, camera_timeout=0.5,
                      controls=paced()).recordVid()
    assert report.complete == 'yes' and report.stopped == 'rec_length' and report.written == 50


def test_a_camera_that_breaks_surfaces_with_its_own_traceback(tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    rec = recorder(path, controls={'raise_at': 20})
    with pytest.raises(errors.CameraError, match='frame 20') as caught:
        rec.recordVid()
    assert 'synthetic.py' in str(caught.value.__cause__)
    assert rec.report.complete == 'no' and finished_pages(path) == 20


def test_a_foreign_camera_error_becomes_a_camera_error(tmp_path: Path) -> None:
    from ProcessedPiRecorder.cameras import SyntheticCamera

    class Broken(SyntheticCamera):
        name = 'broken'

        def read(self, out: Any) -> Any:
            raise ValueError('lens cap')

    rec = recorder(tmp_path / 'a.tif', camera=Broken())
    with pytest.raises(errors.CameraError, match="'broken' broke off: ValueError: lens cap"):
        rec.recordVid()
    assert rec.report.captured == 0 and rec.report.complete == 'no'
    assert list(tmp_path.iterdir()) == []              # an empty recording leaves no file


def test_a_cameras_own_broken_pipe_is_a_camera_error(tmp_path: Path) -> None:
    from ProcessedPiRecorder.cameras import SyntheticCamera

    class Piped(SyntheticCamera):
        name = 'piped'
        seen = 0

        def read(self, out: Any) -> Any:
            self.seen += 1
            if self.seen > 20:
                raise BrokenPipeError('the program behind it has ended')
            return super().read(out)

    path = tmp_path / 'a.tif'
    rec = recorder(path, camera=Piped(), controls=paced())
    with pytest.raises(errors.CameraError, match="'piped' broke off: BrokenPipeError: the program behind it"):
        rec.recordVid()
    assert rec.report.stopped == 'camera error' and finished_pages(path) == 20


@pytest.mark.parametrize('how', [{'exit_at': 20}, {'kill_at': 20}])
def test_a_reader_that_dies_is_named(tmp_path: Path, how: Any) -> None:
    path = tmp_path / 'a.tif'
    rec = recorder(path, controls=how)
    with pytest.raises(errors.ProcessDiedError) as caught:
        rec.recordVid()
    assert caught.value.role == 'reader' and caught.value.frames_captured == 20
    assert ('SIGKILL' if 'kill_at' in how else 'exit code 1') in str(caught.value)
    assert rec.report.complete == 'no' and finished_pages(path) == 20


def test_rec_length_records_exactly_its_frames(tmp_path: Path) -> None:
    for hz, seconds in ((30, 1.0), (7, 1.0), (100, 0.333)):
        report = recorder(tmp_path / f'{hz}.tif', framerate=hz, rec_length=seconds, controls=paced()).recordVid()
        assert report.written == report.sensor == round(hz * seconds) and report.stopped == 'rec_length'


def test_times_increase_and_stay_on_utc(tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    before = time.time_ns()
    report = recorder(path, rec_length=0.5, controls=paced()).recordVid()
    after = time.time_ns()
    records = [page for page, _ in pages(path)]
    times = [record.time_ns for record in records]
    assert before - 1_000_000 <= times[0] and times[-1] <= after
    assert all(later - earlier == 10_000_000 for earlier, later in zip(times, times[1:]))
    assert all(0 <= record.host_ns - record.sensor_ns < 2e9 for record in records)
    assert report.clock['steps'] == [] and len(report.clock['anchors']) >= 2


def finished_pages(path: Path) -> int:
    with RecordingFile(path) as recording:
        assert recording.finished and recording.annotations['report']['complete'] == 'no'
        assert all(recording.verify_page(number) for number in range(recording.pages))
        return recording.pages


@pytest.mark.parametrize('nameless', [0, 10])
def test_a_frame_without_a_time_does_not_end_the_recording(tmp_path: Path, nameless: int) -> None:
    from ProcessedPiRecorder.cameras import SyntheticCamera

    class Forgetful(SyntheticCamera):
        name = 'forgetful'
        seen = 0

        def read(self, out: Any) -> Any:
            stamp = super().read(out)
            self.seen += 1
            start = stamp.sensor_ns % 10**12               # a clock of its own
            return stamp._replace(sensor_ns=None if self.seen == nameless + 1 else start)

    rec = recorder(tmp_path / 'a.tif', camera=Forgetful(), rec_length=0.5, controls=paced())
    report = rec.recordVid()
    assert 48 <= report.written <= 52 and report.stopped == 'rec_length' and report.complete == 'unknown'


def set_back(frame: int, by_ns: int) -> Any:
    """A synthetic camera whose clock is set back before the frame of that number, counted from 1."""
    from ProcessedPiRecorder.cameras import SyntheticCamera

    class Reset(SyntheticCamera):
        name = 'reset'
        seen = 0

        def read(self, out: Any) -> Any:
            stamp = super().read(out)
            self.seen += 1
            return stamp if stamp is None or self.seen < frame else stamp._replace(sensor_ns=stamp.sensor_ns - by_ns)

    return Reset()


def test_a_clock_that_was_reset_leaves_completeness_unknown(tmp_path: Path) -> None:
    report = recorder(tmp_path / 'a.tif', camera=set_back(10, 10**9)).recordVid()
    assert report.complete == 'unknown' and report.clock['not_increasing'] == 1


def test_a_clock_that_was_set_back_far_moves_neither_the_end_nor_the_times(tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    report = recorder(path, camera=set_back(20, 10**12), rec_length=1, controls=paced()).recordVid()
    assert report.stopped == 'rec_length' and 95 <= report.written <= 101 and report.complete == 'unknown'
    times = [record.time_ns for record, _ in pages(path)]
    assert min(later - earlier for earlier, later in zip(times[20:], times[21:])) == 10_000_000
    assert report.clock['moved_times'] == 1


@pytest.mark.parametrize('place', [99, 100])
def test_what_a_camera_lost_beyond_the_end_is_not_lost(tmp_path: Path, place: int) -> None:
    from ProcessedPiRecorder.cameras import SyntheticCamera

    class Damaged(SyntheticCamera):
        name = 'damaged'

        def stream(self, sink: Any) -> None:
            for number in range(200):
                stamp = self.read(sink.slot())
                if sink.stopping:
                    return
                if number == place:
                    sink.lost(1, 'camera error', stamp.sensor_ns, 'it came damaged')
                else:
                    sink.commit(stamp)

    report = recorder(tmp_path / 'a.tif', camera=Damaged(), rec_length=1, controls=paced()).recordVid()
    assert report.sensor == 100 and report.lost == (place == 99)
    assert report.complete == ('no' if report.lost else 'yes')


def test_a_frame_in_work_is_not_forgotten_when_the_camera_is_given_up(tmp_path: Path,
                                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    from ProcessedPiRecorder.pipeline.reader import RingSink
    from ProcessedPiRecorder.pipeline.ring import Stat

    whole, working = RingSink._pass_on, tmp_path / 'working'

    def slow(self: Any, *arguments: Any) -> None:
        if self._ring.stats[Stat.CAPTURED] == 20:
            working.touch()
            time.sleep(3)                              # longer than a camera is waited for
        whole(self, *arguments)

    monkeypatch.setattr(RingSink, '_pass_on', slow)
    with recorder(tmp_path / 'a.tif', blocking=False, controls=paced()) as rec:
        rec.recordVid()
        wait_until(working.exists)
    assert rec.report.captured == rec.report.written == 21


def test_a_camera_that_was_silent_when_it_was_stopped_is_not_complete(tmp_path: Path) -> None:
    with recorder(tmp_path / 'a.tif', blocking=False, controls=paced(stall_at=5, stall_s=60)) as rec:
        rec.recordVid()
        time.sleep(1.6)
    assert rec.report.complete == 'no' and 'no frame for' in rec.report.reasons[0] and rec.report.written == 5
