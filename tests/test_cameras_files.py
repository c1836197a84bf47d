"""Video files and recordings as cameras: every frame, none twice, with their own times, and the truth at the end."""

from __future__ import annotations

import os
import shutil
import struct
import tempfile
import time
from pathlib import Path
from typing import Iterable, List, Optional

import numpy as np
import pytest
from camera_kit import ListSink, make_video, number_of, picture, run
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ProcessedPiRecorder.cameras import CameraRequest, ReplayCamera, VideoFileCamera, replay
from ProcessedPiRecorder.cameras.containers import Container, avi_index, inspect
from ProcessedPiRecorder.errors import (
    CameraError,
    CameraFormatError,
    CameraNotFoundError,
    RecorderStateError,
    SettingsError,
)
from ProcessedPiRecorder.pipeline.losses import LossDetector
from ProcessedPiRecorder.recordings.page import PageRecord
from ProcessedPiRecorder.recordings.reader import RecordingFile
from ProcessedPiRecorder.recordings.sink import PageJob, PageSink

FAST = {'pace': 'fastest'}
KINDS = [('mp4v', 'clip.mp4'), ('MJPG', 'clip.avi'), ('XVID', 'clip.avi'), ('mp4v', 'clip.mkv')]

# ---------------------------------------------------------------- video files


@pytest.mark.parametrize(('fourcc', 'name'), KINDS)
def test_every_frame_once_with_the_files_times(tmp_path: Path, fourcc: str, name: str) -> None:
    path = make_video(tmp_path / name, frames=40, fps=25, fourcc=fourcc)
    sink = run(VideoFileCamera(path), controls=FAST)
    assert [number_of(image) for image in sink.frames] == list(range(40))
    assert [stamp.sensor_ns for stamp in sink.stamps] == [index * 40_000_000 for index in range(40)]
    assert [stamp.count for stamp in sink.stamps] == list(range(40))
    assert sink.losses == []
    granted = sink.granted
    assert (granted.framerate, granted.waits, granted.loss_detection) == (25, True, 'count')
    assert granted.details['declared_frames'] == 40 and granted.model == name


def test_frames_go_straight_into_the_slot_and_gray_is_the_same_picture(tmp_path: Path) -> None:
    path = make_video(tmp_path / 'clip.avi', frames=5)
    colour, gray = run(VideoFileCamera(path, 'fastest')), run(VideoFileCamera(path, 'fastest'), pixel_format='gray')
    for number in range(5):
        assert number_of(gray.frames[number]) == number
        assert abs(colour.frames[number].astype(int) - picture(number)).mean() < 20
        assert abs(gray.frames[number].astype(int) - colour.frames[number].mean(axis=2)).mean() < 8


def test_odd_rates_keep_their_times(tmp_path: Path) -> None:
    path = make_video(tmp_path / 'clip.mp4', frames=30, fps=30000 / 1001, fourcc='mp4v')
    sink = run(VideoFileCamera(path, 'fastest'))
    times = [stamp.sensor_ns for stamp in sink.stamps]
    assert times == sorted(set(times))
    assert times[29] == pytest.approx(29 * 1001 / 30 * 1e6, rel=1e-3)


def test_its_own_pace_is_its_own_and_never_faster(tmp_path: Path) -> None:
    path = make_video(tmp_path / 'clip.avi', frames=26, fps=50)
    started = time.monotonic()
    assert len(run(VideoFileCamera(path)).frames) == 26
    assert 0.5 <= time.monotonic() - started < 3


def test_a_slow_reader_moves_the_schedule_and_loses_nothing(tmp_path: Path) -> None:
    camera = VideoFileCamera(make_video(tmp_path / 'clip.avi', frames=16, fps=50))
    granted = camera.open(CameraRequest())
    out = np.empty(granted.frame_shape, np.uint8)
    camera.start()
    arrivals = []
    for number in range(16):
        assert camera.read(out) is not None and number_of(out) == number
        arrivals.append(time.monotonic())
        if number == 5:
            time.sleep(0.2)
    camera.close()
    assert arrivals[-1] - arrivals[6] >= 0.02 * 8


def test_positions_that_do_not_increase_are_bridged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    camera = VideoFileCamera(make_video(tmp_path / 'clip.avi', frames=8), 'fastest')
    granted = camera.open(CameraRequest())
    positions = iter([100.0, 140.0, 180.0, 0.0, 0.0, float('nan'), 340.0, 340.0])
    capture = camera._capture
    assert capture is not None
    monkeypatch.setattr(capture, 'get', lambda name: next(positions))
    out = np.empty(granted.frame_shape, np.uint8)
    times = [stamp.sensor_ns for stamp in iter(lambda: camera.read(out), None)]
    camera.close()
    assert times == [number * 40_000_000 for number in (0, 1, 2, 3, 4, 5, 6, 7)]


def cut(path: Path, keep: float) -> Path:
    size = path.stat().st_size
    os.truncate(path, int(size * keep))
    return path


def test_a_cut_avi_delivers_what_is_there_and_says_where_it_broke(tmp_path: Path) -> None:
    sink = run(VideoFileCamera(cut(make_video(tmp_path / 'clip.avi', frames=60), 0.5), 'fastest'))
    got = [number_of(image) for image in sink.frames]
    assert got == list(range(len(got))) and 20 < len(got) < 40
    (count, reason, detail), = sink.losses
    assert count == 60 - len(got) and reason == 'source broke off'
    assert f'after frame {got[-1]} at ' in detail and 'bytes are missing' in detail


def test_a_cut_matroska_has_no_counted_frames_to_miss(tmp_path: Path) -> None:
    sink = run(VideoFileCamera(cut(make_video(tmp_path / 'clip.mkv', 60, fourcc='mp4v'), 0.5), 'fastest'))
    (count, reason, detail), = sink.losses
    assert 10 < len(sink.frames) < 50
    assert (count, reason) == (0, 'source broke off') and 'about' in detail


def damage(path: Path, begin: float = 1 / 3, part: float = 0.1, fill: bytes = b'\x55') -> Path:
    raw = bytearray(path.read_bytes())
    at, size = int(len(raw) * begin), int(len(raw) * part)
    raw[at:at + size] = fill * size
    path.write_bytes(raw)
    return path


def assert_in_place(sink: ListSink) -> None:
    """Every frame has its own number and time; the decoder may have patched up the one into which damage reaches."""
    wrong = [stamp.count for stamp, image in zip(sink.stamps, sink.frames) if number_of(image) != stamp.count]
    assert len(wrong) <= 1
    assert all(stamp.sensor_ns == pytest.approx(stamp.count * 40_000_000, abs=2) for stamp in sink.stamps)


@pytest.mark.parametrize('fill', [b'\0', b'\x55'])
@pytest.mark.parametrize(('fourcc', 'name'), [('mp4v', 'clip.mp4'), ('MJPG', 'clip.mp4'), ('MJPG', 'clip.avi'),
                                              ('XVID', 'clip.avi')])
def test_damage_in_the_middle_is_a_gap_at_its_place(tmp_path: Path, fourcc: str, name: str, fill: bytes) -> None:
    path = damage(make_video(tmp_path / name, 100, fourcc=fourcc), fill=fill)
    sink = run(VideoFileCamera(path, 'fastest'))
    assert_in_place(sink)
    counts = [stamp.count for stamp in sink.stamps]
    assert counts[0] == 0 and counts[-1] == 99
    (count, reason, detail), = sink.losses
    before = next(place for place in range(100) if place + 1 not in counts)
    assert (count, reason) == (100 - len(counts), 'source broke off') and 5 < count < 20
    assert detail.startswith(f'after frame {before} at ')
    assert f'read is frame {before + count + 1} at ' in detail and 'damaged' in detail
    assert sum(gaps(sink)) == count


def test_damage_in_two_places_is_two_gaps(tmp_path: Path) -> None:
    for name, fourcc in (('clip.avi', 'MJPG'), ('clip.mp4', 'mp4v')):
        path = make_video(tmp_path / name, 100, fourcc=fourcc)
        sink = run(VideoFileCamera(damage(damage(path, 0.2, 0.06), 0.6, 0.06), 'fastest'))
        assert len(sink.losses) == 2 and sum(loss[0] for loss in sink.losses) == 100 - len(sink.frames)
        assert sink.stamps[-1].count == 99
        if fourcc == 'MJPG':
            assert_in_place(sink)


def test_where_nothing_tells_the_place_of_damage_no_place_is_claimed(tmp_path: Path) -> None:
    path = damage(make_video(tmp_path / 'clip.avi', frames=100))
    raw = path.read_bytes()
    at = raw.rindex(b'idx1')
    path.write_bytes(raw[:at] + b'JUNK' + raw[at + 4:])
    sink = run(VideoFileCamera(path, 'fastest'))
    (count, reason, detail), = sink.losses
    assert count == 100 - len(sink.frames) > 5 and reason == 'source broke off'
    assert 'unknown: somewhere between the beginning and the end' in detail


def test_a_gap_in_a_container_without_a_count_is_told_with_its_place(tmp_path: Path) -> None:
    sink = run(VideoFileCamera(damage(make_video(tmp_path / 'clip.mkv', 100, fourcc='mp4v')), 'fastest'))
    assert sink.stamps[-1].sensor_ns == 99 * 40_000_000
    (count, reason, detail), = sink.losses
    assert (count, reason) == (0, 'source broke off')
    assert 'jump by' in detail and f'about {100 - len(sink.frames)} frames are missing' in detail


def test_destroyed_first_frames_are_missed_before_the_first_that_is_read(tmp_path: Path) -> None:
    path = make_video(tmp_path / 'clip.avi', frames=40)
    at = path.read_bytes().index(b'movi') + 4
    size = path.stat().st_size
    sink = run(VideoFileCamera(damage(path, at / size, 0.1), 'fastest'))
    assert_in_place(sink)
    (count, _, detail), = sink.losses
    assert count == sink.stamps[0].count == 40 - len(sink.frames) > 0 and detail.startswith('before its first frame')


class Failing:
    """A capture whose reads fail where told, and that shows the position given for each read that succeeds."""

    closed = False

    def __init__(self, reads: List[Optional[float]]) -> None:
        self.reads, self.asked = iter(reads), 0

    def read(self, out: np.ndarray) -> bool:
        self.asked += 1
        self.position = next(self.reads, None)
        return self.position is not None

    def get(self, name: str) -> float:
        assert self.position is not None
        return self.position

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(('reads', 'counts', 'lost', 'says'), [
    ([0, 40, None, None, 160, 200], [0, 1, 4, 5], [2, 2], 'failed 2 times'),
    ([0, 40, None, 80, 120], [0, 1, 2, 3], [0, 4], 'go on without a gap'),
    ([None, None, 80, 120], [2, 3], [2, 4], 'before its first frame'),
    ([0, 40, None, 0, 0], [0, 1, 2, 3], [0, 4], 'failed once'),          # no times: nothing is claimed of the gap
    ([0, None, 10**7], [0, 7], [6], 'failed once'),                      # never more than the file has
    ([], [], [8], 'before its first frame')])
def test_reads_that_fail_are_gaps_and_their_number_is_bounded(
        tmp_path: Path, reads: List[Optional[float]], counts: List[int], lost: List[int], says: str) -> None:
    camera = VideoFileCamera(make_video(tmp_path / 'clip.mp4', frames=8, fourcc='mp4v'), 'fastest')
    sink = ListSink(camera.open(CameraRequest()))
    assert camera._capture is not None
    camera._capture.close()
    failing = Failing(reads)
    camera._capture = failing      # type: ignore[assignment]
    camera.stream(sink)
    camera.close()
    assert [stamp.count for stamp in sink.stamps] == counts
    assert [loss[0] for loss in sink.losses] == lost and says in sink.losses[0][2]
    assert failing.asked <= len(reads) + 101


def test_stopping_early_is_no_breaking_off(tmp_path: Path) -> None:
    sink = run(VideoFileCamera(cut(make_video(tmp_path / 'clip.avi', frames=60), 0.5), 'fastest'), limit=5)
    assert len(sink.frames) == 5 and sink.losses == []


def make_trimmed(path: Path, tmp_path: Path) -> Path:
    """An MP4 with an edit list that hides its first frames, as every trimming without re-encoding leaves it."""
    data = bytearray(make_video(tmp_path / 'whole.mp4', frames=50, fourcc='mp4v').read_bytes())
    at = data.index(b'elst')
    assert data[at + 4] == 0 and struct.unpack('>I', data[at + 8:at + 12]) == (1,)
    scale = struct.unpack('>I', data[data.index(b'mdhd') + 16:][:4])[0]
    data[at + 16:at + 20] = struct.pack('>i', scale // 2)
    path.write_bytes(data)
    return path


def test_frames_that_an_edit_list_hides_are_not_lost(tmp_path: Path) -> None:
    path = make_trimmed(tmp_path / 'trimmed.mp4', tmp_path)
    sink = run(VideoFileCamera(path, 'fastest'))
    assert sink.granted.details['declared_frames'] == 50
    assert 30 < len(sink.frames) < 50
    assert sink.losses == []
    assert inspect(str(path)).hidden_s == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(('name', 'content', 'says'), [
    ('text.mp4', b'to be or not to be\n' * 50, 'no video'), ('empty.mp4', b'', '0 bytes'),
    ('noise.avi', bytes(range(256)) * 40, 'no video'), ('head.mp4', b'\0\0\0\x20ftypisom' + bytes(20), 'mp4'),
    ('riff.avi', b'RIFF\xff\xff\0\0AVI LIST', 'bytes beyond its end')])
def test_what_is_no_video_is_refused(tmp_path: Path, name: str, content: bytes, says: str,
                                     capfd: pytest.CaptureFixture) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    camera = VideoFileCamera(path)
    with pytest.raises(CameraError, match=says):
        camera.open(CameraRequest())
    camera.close()
    assert 'WARN' not in capfd.readouterr().err


def test_an_mp4_cut_before_its_index_is_refused_with_the_reason(tmp_path: Path) -> None:
    path = cut(make_video(tmp_path / 'clip.mp4', frames=30, fourcc='mp4v'), 0.6)
    with pytest.raises(CameraError, match='cut off'):
        VideoFileCamera(path).open(CameraRequest())


def test_other_sizes_and_rates_than_the_files_are_refused(tmp_path: Path) -> None:
    path = make_video(tmp_path / 'clip.avi', frames=3)
    for asked, says in (({'width': 640, 'height': 480}, '320x96'), ({'framerate': 30}, '25 Hz'),
                        ({'framerate': 30, 'controls': FAST}, '25 Hz')):
        camera = VideoFileCamera(path)
        with pytest.raises(CameraFormatError, match=says):
            camera.open(CameraRequest(**asked))
        camera.close()
    camera = VideoFileCamera(path)
    assert camera.open(CameraRequest(320, 96, 0.5, 25.1)).framerate == 25
    camera.close()


def test_bad_paces_and_missing_files(tmp_path: Path) -> None:
    for cls in (VideoFileCamera, ReplayCamera):
        with pytest.raises(SettingsError, match='pace'):
            cls(tmp_path / 'x', pace='slow')
    with pytest.raises(CameraFormatError, match='pace'):
        VideoFileCamera(make_video(tmp_path / 'clip.avi', 2)).open(CameraRequest(controls={'pace': 'slow'}))
    with pytest.raises(CameraNotFoundError, match='No such file'):
        VideoFileCamera(tmp_path / 'gone.mp4').open(CameraRequest())


@pytest.mark.parametrize(('fourcc', 'name'), KINDS)
def test_containers_whole_and_cut(tmp_path: Path, fourcc: str, name: str) -> None:
    path = make_video(tmp_path / name, frames=20, fourcc=fourcc)
    whole = inspect(str(path))
    assert whole.missing_bytes == 0 and whole.kind == {'mp4': 'mp4', 'avi': 'avi', 'mkv': 'matroska'}[name[-3:]]
    size = path.stat().st_size
    for keep in (0.9, 0.5):
        assert inspect(str(cut(path, keep))).missing_bytes > 0
        size = path.stat().st_size
    assert size < 10**7


@settings(deadline=None, max_examples=150)
@example(b'\x1a\x45\xdf\xa3\x01\x7f', b'\xff' * 20)      # an element longer than a file offset can tell
@example(b'\0\0\0\x01moov' + b'\xff' * 8, b'\0\0\0\x20elst' + b'\xff' * 40)
@given(st.sampled_from([b'\0\0\0\x18ftypisom\0\0\0\0', b'RIFF\x10\0\0\0AVI ', b'\x1a\x45\xdf\xa3\x81\x42',
                        b'\0\0\0\x01mdat\0\0\0\0\0\0\0\x10', b'\0\0\0\x08moov', b'']), st.binary(max_size=200))
def test_hostile_containers_never_raise(head: bytes, rest: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(head + rest)
        file.flush()
        assert isinstance(inspect(file.name), Container)
        assert avi_index(file.name, 1) is None


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=64), st.integers(0, 2**32 - 1))
def test_hostile_avi_indexes_never_raise(entries: bytes, length: int) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(b'RIFF\0\0\0\0AVI LIST\x0c\0\0\0movi00dc\0\0\0\0idx1' + struct.pack('<I', length) + entries)
        file.flush()
        for frames in (0, 1, 4):
            index = avi_index(file.name, frames)
            if index is not None:
                assert index.number_of_chunk(frames + 1) is None and not index.agrees
                index.close()

# ---------------------------------------------------------------- recordings


def make_recording(path: Path, indexes: Iterable[int], gray: bool = False, finish: bool = True,
                   period_ns: int = 40_000_000) -> Path:
    """A recording of the numbered pictures, with these frame indexes."""
    errors: List[BaseException] = []
    sink = PageSink(path, height=96, width=320, pixel_format='gray' if gray else 'bgr', level=1,
                    on_written=lambda jobs: None, on_error=errors.append, sync_interval_s=0.02)
    sink.publish()
    pages = 0
    for index in indexes:
        image = np.ascontiguousarray(picture(index)[:, :, 0]) if gray else picture(index)
        sink.submit(PageJob(image, PageRecord(index, 1_700_000_000_000_000_000 + index * period_ns)))
        pages += 1
    if not finish:
        copy_when_durable(path, pages)
    sink.finish(lambda info: {'report': {}, 'settings': {}, 'metadata': {}, 'camera': {}})
    if not finish:
        os.replace(path.with_suffix('.copy'), path)
    assert not errors
    return path


def copy_when_durable(path: Path, pages: int) -> None:
    """What a crash would have left once everything had been synced."""
    copy, deadline = path.with_suffix('.copy'), time.monotonic() + 10
    while time.monotonic() < deadline:
        shutil.copyfile(path, copy)
        try:
            with RecordingFile(copy) as file:
                if file.pages == pages:
                    return
        except OSError:
            pass
        time.sleep(0.02)
    raise AssertionError('the pages never became durable')


@pytest.mark.parametrize('gray', [False, True])
def test_replay_is_the_recording_again(tmp_path: Path, gray: bool) -> None:
    path = make_recording(tmp_path / 'trial.tif', range(12), gray)
    sink = run(ReplayCamera(path, 'fastest'), pixel_format='gray' if gray else 'bgr')
    for number, image in enumerate(sink.frames):
        assert np.array_equal(image, picture(number)[:, :, 0] if gray else picture(number))
    assert [stamp.sensor_ns for stamp in sink.stamps] == [index * 40_000_000 for index in range(12)]
    assert sink.granted.framerate == pytest.approx(25) and sink.losses == []
    assert sink.granted.waits and sink.granted.details['finished']


def gaps(sink: ListSink) -> List[int]:
    detector = LossDetector(sink.granted.loss_detection)
    return [detector.see(stamp, 0) for stamp in sink.stamps]


def test_gaps_of_the_original_are_lost_again(tmp_path: Path) -> None:
    indexes = [2, 3, 4, 7, 8, 20]
    sink = run(ReplayCamera(make_recording(tmp_path / 'trial.tif', indexes), 'fastest'))
    assert [number_of(image) for image in sink.frames] == indexes
    assert gaps(sink) == [0, 0, 0, 2, 0, 11]
    assert sink.granted.framerate == pytest.approx(25)


def test_replay_at_its_own_pace(tmp_path: Path) -> None:
    path = make_recording(tmp_path / 'trial.tif', [0, 1, 15], period_ns=20_000_000)
    started = time.monotonic()
    run(ReplayCamera(path), framerate=50)
    assert 0.3 <= time.monotonic() - started < 3


def test_a_damaged_page_is_passed_over_and_told(tmp_path: Path) -> None:
    path = make_recording(tmp_path / 'trial.tif', range(8))
    with RecordingFile(path) as file:
        row = file.index()[3]
        at: Optional[int] = int(row['strip_offset']) + int(row['strip_length']) // 2
    with open(path, 'r+b') as raw:
        raw.seek(at)
        raw.write(bytes(200))
    sink = run(ReplayCamera(path, 'fastest'))
    assert [number_of(image) for image in sink.frames] == [0, 1, 2, 4, 5, 6, 7]
    (count, reason, detail), = sink.losses
    assert (count, reason) == (1, 'source broke off') and 'page 3' in detail


@pytest.mark.parametrize('threads', [1, 2])
def test_closed_between_two_pages_it_ends_without_an_error(tmp_path: Path, threads: int,
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, 'WORTH_A_THREAD', 0)
    monkeypatch.setattr(replay, 'usable_cores', lambda: threads)
    camera = ReplayCamera(make_recording(tmp_path / 'trial.tif', range(8)), 'fastest')
    sink = ListSink(camera.open(CameraRequest()))
    source = camera._source
    assert source is not None
    read = source.read

    def closed_just_before(page: int, out: Optional[np.ndarray] = None) -> np.ndarray:
        if page == 3:
            camera.close()
        return read(page, out)

    monkeypatch.setattr(source, 'read', closed_just_before)
    camera.start()
    camera.stream(sink)
    assert camera.read(np.empty(sink.granted.frame_shape, np.uint8)) is None
    assert [number_of(image) for image in sink.frames] == [0, 1, 2][:len(sink.frames)] and sink.losses == []


def test_a_source_that_closed_by_itself_is_an_error(tmp_path: Path) -> None:
    camera = ReplayCamera(make_recording(tmp_path / 'trial.tif', range(3)), 'fastest')
    sink = ListSink(camera.open(CameraRequest()))
    assert camera._source is not None
    camera._source.close()
    with pytest.raises(RecorderStateError, match='is closed'):
        camera.stream(sink)
    with pytest.raises(RecorderStateError, match='is closed'):
        camera.read(sink.slot())


def test_an_unfinished_recording_is_replayed_and_told(tmp_path: Path) -> None:
    path = make_recording(tmp_path / 'trial.tif', range(6), finish=False)
    sink = run(ReplayCamera(path, 'fastest'))
    assert len(sink.frames) == 6
    (count, reason, detail), = sink.losses
    assert (count, reason) == (0, 'source broke off') and 'never finished' in detail


def reading_one_by_one(camera: ReplayCamera) -> List[int]:
    out = np.empty(camera.open(CameraRequest()).frame_shape, np.uint8)
    camera.start()
    found = []
    while camera.read(out) is not None:
        found.append(number_of(out))
    camera.close()
    return found


@pytest.mark.parametrize('threads', [1, 2])
@pytest.mark.parametrize('finish', [True, False])
def test_of_a_recording_that_went_on_only_what_was_asked_for_is_played(
        tmp_path: Path, finish: bool, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, 'WORTH_A_THREAD', 0)
    monkeypatch.setattr(replay, 'usable_cores', lambda: threads)
    path = make_recording(tmp_path / 'trial.tif', [0, 1, 2, 5, 9, 10], finish=finish)
    for original_times in (True, False):
        # Neither the frames that are missing before page 4, nor those behind the last one, are lost to page 3's reader.
        sink = run(ReplayCamera(path, 'fastest', original_times=original_times, pages=4))
        assert [number_of(image) for image in sink.frames] == [0, 1, 2, 5] and sink.granted.details['pages'] == 4
        *lost, (count, reason, detail) = sink.losses
        assert lost == ([(2, 'camera gap', '')] if original_times else [])
        assert (count, reason) == (0, 'source broke off') and 'the first 4 of its 6 pages were read' in detail
        assert ('never finished' in detail) == (not finish) and ('went on' in detail) == finish
    assert reading_one_by_one(ReplayCamera(path, 'fastest', pages=4)) == [0, 1, 2, 5]
    sink = run(ReplayCamera(path, 'fastest', pages=6))
    assert len(sink.frames) == 6 and len(sink.losses) == (not finish)


def test_recordings_that_cannot_be_replayed_as_asked(tmp_path: Path) -> None:
    path = make_recording(tmp_path / 'trial.tif', range(3), gray=True)
    for asked, says in (({}, "pixel_format='gray'"), ({'pixel_format': 'gray', 'framerate': 60}, '25 Hz'),
                        ({'pixel_format': 'gray', 'width': 640, 'height': 480}, '320x96')):
        camera = ReplayCamera(path)
        with pytest.raises(CameraFormatError, match=says):
            camera.open(CameraRequest(**asked))
        camera.close()
    other = tmp_path / 'other.tif'
    other.write_bytes(b'II+\0' + bytes(60))
    with pytest.raises(CameraError, match='replayed'):
        ReplayCamera(other).open(CameraRequest())
    with pytest.raises(CameraFormatError, match='pages=0 is nothing to play; pass 1 or more'):
        ReplayCamera(path, pages=0).open(CameraRequest(pixel_format='gray'))
    with pytest.raises(CameraError, match='^[^:]*gone.tif cannot be opened: there is no such file'):
        ReplayCamera(tmp_path / 'gone.tif').open(CameraRequest())
