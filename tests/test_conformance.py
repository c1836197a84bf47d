"""What every camera promises, asked of every kind of camera alike (``subjects.py`` tells of the kinds).

Alone, in this process; and through the whole recorder.
"""

from __future__ import annotations

import dataclasses
import os
import re
import threading
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List

import cloudpickle
import numpy as np
import pytest
from camera_kit import ListSink
from recording_tools import pages, wait_until
from subjects import SUBJECTS, Subject

from ProcessedPiRecorder import ProcessedPiRecorder, left, right
from ProcessedPiRecorder.cameras import Camera, Stamp
from ProcessedPiRecorder.cameras.base import LOSS_DETECTION
from ProcessedPiRecorder.errors import CameraError, CameraFormatError, CameraStalledError
from ProcessedPiRecorder.pipeline.losses import LossDetector

COUNT = 25                # frames that a test takes


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp('subjects')


@pytest.fixture(scope='module')
def made(folder: Path) -> Iterator[Dict[str, Subject]]:
    subjects: Dict[str, Subject] = {}
    yield subjects
    for subject in subjects.values():
        subject.close()


@pytest.fixture(params=SUBJECTS)
def subject(request: pytest.FixtureRequest, folder: Path, made: Dict[str, Subject],
            tmp_path: Path) -> Iterator[Subject]:
    name = request.param
    if name not in made:
        made[name] = SUBJECTS[name](folder)
    if made[name].why_not:
        pytest.skip(made[name].why_not)
    with made[name].at_hand(tmp_path):
        yield made[name]


@pytest.fixture
def camera(subject: Subject) -> Iterator[Camera]:
    camera = cloudpickle.loads(cloudpickle.dumps(subject.make()))      # as it travels to its process
    camera.close()                                                     # harmless before open
    yield camera
    camera.close()
    camera.close()                                                     # and twice


def taken(camera: Camera, sink: ListSink) -> ListSink:
    """Start, stream until the sink has enough or the source ends, close."""
    camera.start()
    try:
        camera.stream(sink)
    finally:
        camera.close()
    return sink


# ---------------------------------------------------------------- alone

def test_it_grants_what_was_asked(subject: Subject, camera: Camera) -> None:
    granted = camera.open(subject.request())
    assert (granted.width, granted.height) == (granted.frame_width, granted.frame_height) == subject.size
    assert granted.pixel_format == 'bgr' and granted.frame_shape == (*subject.size[::-1], 3)
    if subject.framerate and granted.framerate:
        assert granted.framerate == pytest.approx(subject.framerate, rel=0.02)
    assert granted.loss_detection in LOSS_DETECTION
    assert (granted.loss_detection != 'none') == subject.shows_losses
    assert granted.clock_base in ('monotonic', 'boottime', 'utc', 'own')
    assert granted.waits == subject.waits
    assert granted.clock and granted.model and granted.warnings == ()
    assert cloudpickle.loads(cloudpickle.dumps(granted)) == granted


def test_every_frame_comes_once_in_order_and_whole(subject: Subject, camera: Camera) -> None:
    sink = taken(camera, ListSink(camera.open(subject.request()), limit=COUNT))
    assert len(sink.frames) == COUNT
    assert all(image.shape == sink.granted.frame_shape and image.dtype == np.uint8 for image in sink.frames)
    numbers = [subject.number(image) for image in sink.frames]
    assert numbers == sorted(set(numbers))
    assert unseen(sink, numbers) == 0


def unseen(sink: ListSink, numbers: List[int]) -> int:
    """Frames that are missing between the first and the last, and that neither clock nor camera told of."""
    rate = sink.granted.framerate
    detector = LossDetector(sink.granted.loss_detection, 1e9 / rate if rate else None)
    seen = sum(detector.see(stamp, 0) for stamp in sink.stamps)
    return numbers[-1] - numbers[0] + 1 - len(numbers) - max(seen, sum(loss[0] for loss in sink.losses))


def test_times_increase_strictly(subject: Subject, camera: Camera) -> None:
    sink = taken(camera, ListSink(camera.open(subject.request()), limit=COUNT))
    times = [stamp.sensor_ns for stamp in sink.stamps]
    if set(times) == {None}:
        assert sink.granted.loss_detection == 'none'
        return
    assert times == sorted(set(times))              # type: ignore[type-var]
    if sink.granted.framerate:
        numbers = [subject.number(image) for image in sink.frames]
        period_ns = 1e9 / sink.granted.framerate
        mean_ns = (times[-1] - times[0]) / (numbers[-1] - numbers[0])      # type: ignore[operator]
        assert mean_ns == pytest.approx(period_ns, rel=0.02)


def test_it_can_be_opened_again_and_leaves_nothing(subject: Subject, camera: Camera) -> None:
    taken(camera, ListSink(camera.open(subject.request()), limit=2))       # whatever is loaded once and for all
    threads, handles = set(threading.enumerate()), len(os.listdir('/proc/self/fd'))
    for _ in range(3):
        sink = taken(camera, ListSink(camera.open(subject.request()), limit=3))
        assert len(sink.frames) == 3
    wait_until(lambda: len(os.listdir('/proc/self/fd')) <= handles)
    wait_until(lambda: set(threading.enumerate()) <= threads)


def test_it_stops_when_told(subject: Subject, camera: Camera) -> None:
    sink = taken(camera, ListSink(camera.open(subject.request()), limit=3))
    assert len(sink.frames) == 3
    assert [loss for loss in sink.losses if loss[1] != 'unpaired'] == []


def test_closing_it_from_another_thread_ends_the_stream(subject: Subject, camera: Camera) -> None:
    sink = ListSink(camera.open(subject.request()))
    camera.start()
    thread = threading.Thread(target=camera.stream, args=(sink,))
    thread.start()
    camera.close()
    thread.join(20)
    assert not thread.is_alive()


def test_it_refuses_controls_that_it_does_not_have(subject: Subject, camera: Camera) -> None:
    with pytest.raises(CameraFormatError, match='warp_drive'):
        camera.open(subject.request(controls={'warp_drive': 9}))


def test_it_refuses_sizes_that_cannot_be(subject: Subject, camera: Camera) -> None:
    if subject.any_size:
        pytest.skip('this kind of camera makes pictures of any size')
    request = dataclasses.replace(subject.request(), width=60000, height=60000)
    try:
        granted = camera.open(request)
    except CameraFormatError as error:
        assert re.search(r'[0-9]+x[0-9]+', str(error))
    else:
        assert granted.warnings[0][0] == 'ResolutionRoundedWarning' and '60000' in granted.warnings[0][1]


def test_it_tells_what_it_is(subject: Subject, camera: Camera) -> None:
    assert type(camera).__name__ in repr(camera) and camera.name
    assert all(line.available or line.why_not for line in type(camera).listings())


def test_gray_is_gray(subject: Subject, camera: Camera) -> None:
    if not subject.gray:
        pytest.skip('this kind of camera has colour only, and says so elsewhere')
    sink = taken(camera, ListSink(camera.open(subject.request(pixel_format='gray')), limit=5))
    assert sink.granted.pixel_format == 'gray'
    numbers = [subject.number(image) for image in sink.frames]
    assert all(image.shape == subject.size[::-1] for image in sink.frames) and numbers == sorted(set(numbers))


class SlowSink(ListSink):
    """Needs a second for its fifth frame."""

    def commit(self, stamp: Stamp) -> None:
        if len(self.frames) == 4:
            time.sleep(1.0)
        super().commit(stamp)


def test_what_a_slow_consumer_loses_is_seen(subject: Subject, camera: Camera) -> None:
    if not subject.shows_losses:
        pytest.skip('this kind of camera cannot show what it lost, and grants loss_detection "none"')
    sink = taken(camera, SlowSink(camera.open(subject.request()), limit=2 * COUNT))
    numbers = [subject.number(image) for image in sink.frames]
    missing = numbers[-1] - numbers[0] + 1 - len(numbers)
    assert (missing == 0) == subject.waits, numbers
    if sink.losses:                                  # a pair tells of single eyes; the rest shows in the times
        return
    assert unseen(sink, numbers) == 0
    if subject.discarded() is not None:
        assert missing == subject.discarded()


# ---------------------------------------------------------------- through the recorder

def record(subject: Subject, path: Path, camera: Camera, **settings: Any) -> ProcessedPiRecorder:
    return ProcessedPiRecorder(path, *subject.size, framerate=subject.framerate, display=False, stereo=subject.stereo,
                               camera=camera, camera_controls=subject.controls, start_method=subject.start_method,
                               **settings)


def test_a_recording_holds_every_frame(subject: Subject, tmp_path: Path) -> None:
    path = tmp_path / 'trial.tif'
    rec = record(subject, path, subject.make(), rec_length=0 if subject.frames else 1)
    try:
        report = rec.recordVid()
    except CameraError:
        assert subject.breaking() is not None and subject.frames       # the film in a webcam's place
        report = rec.report
    assert report is not None
    found = list(pages(path))
    numbers = [subject.number(image) for _, image in found]
    offsets = {number - record.index for number, (record, _) in zip(numbers, found)}
    times = [record.time_ns for record, _ in found]
    assert len(offsets) == 1 and times == sorted(set(times))
    assert report.written == report.captured == len(found) and report.sensor == report.captured + report.lost
    assert numbers[-1] - numbers[0] + 1 == len(numbers) + report.lost - lost_at_the_ends(report, found)
    if subject.frames:
        assert len(found) == subject.frames and report.lost == 0
    else:
        assert report.sensor == pytest.approx(subject.framerate, abs=1)
    if not subject.shows_losses:
        assert report.complete in ('unknown', 'no')
    elif not report.lost:
        assert report.complete == 'yes', report.reasons
    if subject.stereo:
        assert not np.array_equal(left(found[0][1]), right(found[0][1])) or subject.frames


def lost_at_the_ends(report: Any, found: List[Any]) -> int:
    """Losses before the first page or behind the last, which no picture shows."""
    first, last = found[0][0].index, found[-1][0].index
    return sum(loss.count for loss in report.losses if loss.index < first or loss.index > last)


def test_a_camera_that_falls_silent_is_told_and_the_file_is_whole(subject: Subject, tmp_path: Path) -> None:
    camera = subject.stalling()
    if camera is None:
        pytest.skip('this kind of camera cannot be made to fall silent here')
    path = tmp_path / 'trial.tif'
    rec = record(subject, path, camera, camera_timeout=1.0, rec_length=30)
    with pytest.raises(CameraStalledError, match='no frame for 1 s'):
        rec.recordVid()
    assert_safe(rec, path, subject)
    assert rec.report is not None and rec.report.stopped == 'stall'


def test_a_camera_that_breaks_off_is_told_and_the_file_is_whole(subject: Subject, tmp_path: Path) -> None:
    camera = subject.breaking()
    if camera is None:
        pytest.skip('this kind of camera cannot be made to break off here')
    path = tmp_path / 'trial.tif'
    rec = record(subject, path, camera, rec_length=30)
    with pytest.raises(CameraError):
        rec.recordVid()
    assert_safe(rec, path, subject)
    assert rec.report is not None and rec.report.stopped == 'camera error'


def assert_safe(rec: ProcessedPiRecorder, path: Path, subject: Subject) -> None:
    found = [(record.index, subject.number(image)) for record, image in pages(path)]
    assert rec.report is not None and rec.report.complete == 'no'
    assert len(found) == rec.report.written == rec.report.captured > 0
    assert len({number - index for index, number in found}) == 1
