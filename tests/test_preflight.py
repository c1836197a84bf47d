"""The pieces of ppr preflight: its camera, its search, what it measures alone, and what it concludes."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy as np
import pytest
from camera_kit import run as stream
from recording_tools import pages, recorder
from rich.console import Console

from ProcessedPiRecorder.cameras import CameraRequest, Granted
from ProcessedPiRecorder.cli.preflight_table import print_answer
from ProcessedPiRecorder.errors import CameraNotFoundError, RecorderError, RecordingFileError, SettingsError
from ProcessedPiRecorder.preflight import codec, disk, loop, place
from ProcessedPiRecorder.preflight.answer import as_dict
from ProcessedPiRecorder.preflight.codec import CodecSpeed, measure_codec
from ProcessedPiRecorder.preflight.disk import DiskSpeed, measure_disk
from ProcessedPiRecorder.preflight.judgement import NO, NOTE, OK, TIGHT, Judgement, judge
from ProcessedPiRecorder.preflight.loop import Frames, LoopCamera, SharedFrames
from ProcessedPiRecorder.preflight.place import Place, find_place, working_folder
from ProcessedPiRecorder.preflight.run import Measurements, NamedTrial, _Measuring
from ProcessedPiRecorder.preflight.search import Attempt, Search, highest_rate
from ProcessedPiRecorder.preflight.trial import Sample, Trial, callback_times, ring_grows
from ProcessedPiRecorder.recordings.volume import Volume
from ProcessedPiRecorder.report import Loss, Report

GRANTED = Granted(24, 16, 24, 16, 50.0, 'bgr', 'some clock', 'fixed_rate', model='OV5647')


def pictures(count: int = 3, shape: Tuple[int, ...] = (16, 24, 3)) -> List[np.ndarray]:
    return [np.random.default_rng(number).integers(0, 256, shape, np.uint8) for number in range(count)]


# ---------------------------------------------------------------- the trials' camera

def test_the_loop_shows_its_frames_forward_and_backward_at_exact_times() -> None:
    frames = pictures()
    with SharedFrames(frames) as shared:
        sink = stream(LoopCamera(shared.frames, GRANTED, 400.0), limit=8)
    for image, number in zip(sink.frames, [0, 1, 2, 1, 0, 1, 2, 1]):
        np.testing.assert_array_equal(image, frames[number])
    times = [stamp.sensor_ns for stamp in sink.stamps]
    assert set(np.diff(times)) == {2_500_000} and {stamp.duration_ns for stamp in sink.stamps} == {2_500_000}


def test_a_frame_comes_when_it_has_been_exposed_and_not_before() -> None:
    with SharedFrames(pictures(1)) as shared:
        camera = LoopCamera(shared.frames, GRANTED, 20.0)
        sink = stream(camera, limit=3)
        assert time.monotonic_ns() - sink.stamps[0].sensor_ns >= 3 * 50_000_000   # type: ignore[operator]


def test_a_reader_that_is_late_loses_what_no_buffer_was_free_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, 'LATE_S', 0.0)
    with SharedFrames(pictures()) as shared:
        camera = LoopCamera(shared.frames, GRANTED, 100.0)
        granted = camera.open(CameraRequest())
        camera.start()
        out = np.empty(granted.frame_shape, np.uint8)
        first = camera.read(out)
        time.sleep(0.2)
        late = camera.read(out)
        camera.close()
    assert first is not None and late is not None
    missing = (late.sensor_ns - first.sensor_ns) // 10_000_000 - 1              # type: ignore[operator]
    assert missing >= 20 - loop.BUFFERS - 1


def test_it_claims_to_be_a_camera_that_does_not_wait_and_whose_losses_show() -> None:
    with SharedFrames(pictures()) as shared:
        camera = LoopCamera(shared.frames, dataclasses.replace(GRANTED, waits=True, loss_detection='none'), 60.0)
        granted = camera.open(CameraRequest(framerate=60.0))
        camera.close()
    assert (granted.waits, granted.loss_detection, granted.clock_base) == (False, 'frame_duration', 'monotonic')
    assert granted.framerate == pytest.approx(60.0) and 'OV5647' in granted.model


@pytest.mark.parametrize('method', ['fork', 'spawn'])
def test_the_recorder_takes_it_for_a_camera(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    monkeypatch.setattr(loop, 'LATE_S', 10.0)                  # whatever this machine is busy with
    frames = pictures()
    with SharedFrames(frames) as shared:
        report = recorder(tmp_path / 'a.tif', camera=LoopCamera(shared.frames, GRANTED, 50.0), rec_length=0.4,
                          controls={}, framerate=50, start_method=method).recordVid()
    assert report is not None and (report.complete, report.captured) == ('yes', 20)
    for record, image in pages(tmp_path / 'a.tif'):
        np.testing.assert_array_equal(image, frames[[0, 1, 2, 1][record.index % 4]])


def test_frames_that_the_pipeline_had_scaled_are_recorded_as_they_are(tmp_path: Path,
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, 'LATE_S', 10.0)
    frames = pictures()
    large = dataclasses.replace(GRANTED, width=48, height=32, frame_width=48, frame_height=32)
    with SharedFrames(frames) as shared:
        recorder(tmp_path / 'a.tif', camera=LoopCamera(shared.frames, large, 50.0), rec_length=0.2, scale_factor=0.5,
                 controls={}, framerate=50).recordVid()
    for record, image in pages(tmp_path / 'a.tif'):
        np.testing.assert_array_equal(image, frames[[0, 1, 2, 1][record.index % 4]])


def test_the_shared_frames_are_gone_afterwards() -> None:
    before = os.listdir('/proc/self/fd')
    with SharedFrames(pictures()) as shared:
        assert shared.frames.mapped().shape == (3, 16, 24, 3)
    shared.close()
    assert len(os.listdir('/proc/self/fd')) == len(before)
    with pytest.raises(OSError):
        shared.frames.mapped()


# ---------------------------------------------------------------- the search

def machine(limit_hz: float, tried: List[float]) -> Callable[[float], Attempt]:
    """Holds rates up to its limit; above, it serves what it can."""
    def attempt(rate_hz: float) -> Attempt:
        tried.append(rate_hz)
        return Attempt(rate_hz, rate_hz <= limit_hz, min(rate_hz, limit_hz))
    return attempt


@pytest.mark.parametrize('limit_hz', [3.0, 20.0, 55.0, 61.0, 100.0, 239.0])
@pytest.mark.parametrize('first', [10.0, 54.0, 240.0])
def test_the_search_comes_close_to_the_limit_in_few_trials(limit_hz: float, first: float) -> None:
    tried: List[float] = []
    found = highest_rate(machine(limit_hz, tried), first=first, ceiling=240.0, asked=60.0, go_on=lambda made: made < 6)
    assert found.held_hz is not None and limit_hz / 1.2 <= found.held_hz <= limit_hz
    assert found.failed_hz is not None and found.failed_hz > limit_hz
    assert len(tried) <= 6 and max(tried) <= 240.0


@pytest.mark.parametrize('limit_hz', [61.0, 80.0, 130.0, 200.0])
@pytest.mark.parametrize('guess', [0.7, 1.0, 1.5])
def test_with_a_rough_guess_three_trials_are_enough(limit_hz: float, guess: float) -> None:
    found = highest_rate(machine(limit_hz, []), first=guess * limit_hz, ceiling=240.0, asked=60.0, known=60.0,
                         go_on=lambda made: made < 3)
    assert found.held_hz is not None and limit_hz / 1.45 < found.held_hz <= limit_hz


def test_nothing_above_the_ceiling_is_tried_and_nothing_more_once_that_holds() -> None:
    tried: List[float] = []
    found = highest_rate(machine(1e9, tried), first=500.0, ceiling=240.0, asked=60.0, go_on=lambda made: True)
    assert (found.held_hz, found.failed_hz, tried) == (240.0, None, [240.0])


def test_the_asked_rate_is_not_left_open() -> None:
    tried: List[float] = []
    highest_rate(machine(61.0, tried), first=50.0, ceiling=240.0, asked=60.0, go_on=lambda made: made < 3)
    assert 60.0 in tried


def test_a_machine_that_holds_nothing_is_given_up() -> None:
    found = highest_rate(lambda rate: Attempt(rate, False, None), first=60.0, ceiling=240.0, asked=60.0,
                         go_on=lambda made: made < 4)
    assert found.held_hz is None and len(found.attempts) == 4 and found.failed_hz is not None


def test_no_trial_is_made_when_there_is_no_time_for_it() -> None:
    found = highest_rate(machine(100.0, []), first=60.0, ceiling=240.0, asked=60.0, known=60.0,
                         go_on=lambda made: False)
    assert (found.held_hz, found.attempts) == (60.0, [])


# ---------------------------------------------------------------- whether the ring was filling

def samples(in_use: List[int], rate: int = 3) -> List[Sample]:
    return [Sample(place / 20, place * rate, 0, used) for place, used in enumerate(in_use)]


@pytest.mark.parametrize(('in_use', 'grows'), [
    ([2] * 30, False), (list(range(0, 60, 2)), True), ([2] * 20 + [40] * 3 + [2] * 7, False),
    ([50] * 10 + [2] * 20, False), ([1, 2, 3] * 10, False), ([5, 90, 5], False),
    ([3] * 10 + [9] * 10 + [15] * 10, True)])
def test_a_ring_grows_when_it_does_not_empty_again(in_use: List[int], grows: bool) -> None:
    assert ring_grows(samples(in_use)) is grows


# ---------------------------------------------------------------- the disk, the codec, the callback's times

def test_the_disk_is_measured_down_to_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, 'ENOUGH_BYTES', 4 << 20)
    synced: List[int] = []

    def fdatasync(fd: int) -> None:
        synced.append(os.fstat(fd).st_size)
        time.sleep(0.05)

    monkeypatch.setattr(os, 'fdatasync', fdatasync)
    speed = measure_disk(tmp_path, 10**9, bytes_a_sync=1 << 20)
    assert speed is not None and speed.bytes_written == 4 << 20 == synced[-1]
    assert len(synced) == 4 and speed.seconds >= 0.2 and speed.sync_ms()['p50'] >= 50
    assert speed.bytes_a_second <= (4 << 20) / 0.2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('room', [0, 2_000_000, 3 << 20, 50_000_000])
def test_no_more_of_the_disk_is_filled_than_allowed(tmp_path: Path, room: int) -> None:
    speed = measure_disk(tmp_path, room, bytes_a_sync=1e9)
    assert (speed is None) == (room < 3 << 20)
    assert speed is None or speed.bytes_written <= room


def test_a_disk_that_fails_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(fd: int) -> None:
        raise OSError(5, 'Input/output error')

    monkeypatch.setattr(os, 'fdatasync', fail)
    with pytest.raises(RecordingFileError, match='Input/output error.*check the disk'):
        measure_disk(tmp_path, 10**9, 1e6)
    assert not list(tmp_path.iterdir())


def test_the_codec_is_measured_on_the_pages_of_a_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder(tmp_path / 'a.tif').recordVid()
    allowed, least = measure_codec(tmp_path / 'a.tif', 6)
    assert allowed.rate_hz > 0 and allowed.ratio > 1 and allowed.threads == len(os.sched_getaffinity(0))
    assert least.effort == 'stored' and least.rate_hz > 0 and 0.9 < least.ratio <= 1
    monkeypatch.setattr(codec, '_CHILD', 'import sys; sys.exit("it broke")')
    with pytest.raises(RecorderError, match='it broke.*exit code 1'):
        measure_codec(tmp_path / 'a.tif', 6)


def test_a_file_without_compression_has_one_effort(tmp_path: Path) -> None:
    recorder(tmp_path / 'a.tif', tif_compression=0, pixel_format='gray').recordVid()
    assert [(speed.effort, speed.ratio) for speed in measure_codec(tmp_path / 'a.tif', 0)] == [('none', 1.0)]


@pytest.mark.parametrize(('column', 'first', 'mean'), [
    (['900.0', '10.0', '', '20.0'], 900.0, 15.0), (['', '', '10.0', '20.0'], 1500.0, 15.0), (['7.0'], 7.0, 7.0),
    (['', ''], 1500.0, None)])
def test_the_first_call_is_told_from_the_others(tmp_path: Path, column: List[str], first: float,
                                                mean: Optional[float]) -> None:
    (tmp_path / 'log.csv').write_text('page,callback_ms\r\n' + ''.join(f'{page},{text}\r\n'
                                                                       for page, text in enumerate(column)))
    report = Report('yes', callback_ms={'p50': 10.0, 'p99': 20.0, 'max': 1500.0})
    assert callback_times(tmp_path / 'log.csv', report) == (first, mean)


# ---------------------------------------------------------------- the place

def arguments(**changes: Any) -> Dict[str, Any]:
    """The recorder's, as the command line makes them."""
    return {'tif_path': Path('trial.tif'), 'camera': 'synthetic', 'callback': None, 'cb_delivery': 'every',
            'cb_type': None, 'write_vid': True, 'rec_length': 0, 'overwrite': False, 'pixel_format': 'bgr',
            'display': False, 'framerate': 0, 'tif_compression': 6, 'log_file': None, 'sync_interval': 1.0, **changes}


def test_what_exists_already_is_told_and_not_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path('trial.tif').write_text('precious')
    found = find_place(arguments())
    assert 'trial.tif exists already' in found.refusal and found.folder == tmp_path
    assert find_place(arguments(overwrite=True)).refusal == ''
    assert Path('trial.tif').read_text() == 'precious' and os.listdir() == ['trial.tif']


def test_without_a_name_it_is_the_current_folder_and_without_a_file_none(tmp_path: Path,
                                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_place(arguments(tif_path=None)).folder == tmp_path
    nowhere = find_place(arguments(tif_path=None, write_vid=False, display=True))
    assert nowhere.folder is nowhere.volume is None and nowhere.takes_recordings


@pytest.mark.parametrize(('changes', 'error'), [
    ({'tif_path': Path('absent/trial.tif')}, RecordingFileError), ({'camera': 'opencv:x'}, CameraNotFoundError),
    ({'framerate': -1}, SettingsError)])
def test_what_the_recorder_refuses_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: Dict[str, Any],
                                              error: type) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error):
        find_place(arguments(**changes))
    assert os.listdir() == []


def test_a_reserve_is_kept_and_a_trial_takes_a_tenth_of_the_rest(tmp_path: Path,
                                                                monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(place, 'volume_of', lambda folder: Volume('ext4', Path('/'), 10**9, 10**10))
    assert (find_place(arguments()).usable, find_place(arguments()).room) == (8 * 10**8, 8 * 10**7)
    assert find_place(arguments(disk_reserve_mb=0)).usable == 10**9
    assert not find_place(arguments(disk_reserve_mb=900)).takes_recordings
    monkeypatch.setattr(place, 'volume_of', lambda folder: Volume('fuse.odd', Path('/'), 0, 0))
    blind = find_place(arguments())
    assert blind.usable is None and blind.takes_recordings and blind.room == place.BLIND_ROOM


def test_the_working_folder_goes_whatever_happens(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), working_folder(Place(tmp_path)) as folder:
        (folder / 'a.tif').write_text('x')
        assert folder.parent == tmp_path
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_a_folder_that_takes_nothing_says_why(tmp_path: Path) -> None:
    with pytest.raises(RecordingFileError, match='absent takes no folder'), working_folder(Place(tmp_path / 'absent')):
        pass


# ---------------------------------------------------------------- the judgement

def trial_of(rate_hz: float = 60.0, *, granted: Granted = GRANTED, grows: bool = False, error: str = '',
             **report: Any) -> Trial:
    told = Report(**{'complete': 'yes', 'sensor': 121, 'captured': 121, 'written': 121, 'rate_hz': rate_hz,
                     'ring_frames': 120, 'raw_bytes': 1_210_000, 'file_bytes': 605_000, **report})
    return Trial(rate_hz, granted, told, samples(list(range(0, 60, 2)) if grows else [2] * 30), settled_at=30,
                 settled_bypassed=0, callback_error=error)


def measured(camera_run: Optional[Trial] = None, held: Optional[float] = 240.0, failed: Optional[Trial] = None,
             lossless: Optional[float] = None, disk_mb_s: float = 50.0, **changes: Any) -> Measurements:
    """Measurements in which all is well, unless told otherwise: 60 Hz asked, pages of 5 kB."""
    search = Search(held, failed.rate_hz if failed is not None else None)
    facts: Dict[str, Any] = {
        'arguments': arguments(**changes.pop('arguments', {})), 'run_seconds': 2.0, 'asked_hz': 60.0,
        'place': Place(Path('/data'), Volume('ext4', Path('/'), 10**11, 10**12), 10**9),
        'disk': DiskSpeed(int(disk_mb_s * 1e6), 1.0, 1 << 20, [0.01, 0.02, 0.03]),
        'codec': [CodecSpeed('huffman', 900.0, 2.0, 2), CodecSpeed('stored', 5000.0, 1.0, 2)], 'as_asked': search,
        'without_loss': None if lossless is None else Search(lossless), **changes}
    found = Measurements(**facts)
    found.trials.append(NamedTrial('camera', camera_run or trial_of()))
    if failed is not None:
        found.trials.append(NamedTrial('as_asked', failed))
    return found


CALLED: Dict[str, Any] = {'callback': print, 'cb_type': '3Proc'}


def told(judgement: Judgement) -> str:
    return ' / '.join([*(f'{level}: {text}' for level, text in judgement.findings), *judgement.recommendations])


def test_all_is_well() -> None:
    judgement = judge(measured())
    assert (judgement.verdict, judgement.headroom, judgement.limit) == (OK, 4.0, None)
    assert judgement.rates.at_least and judgement.findings == [] and judgement.recommendations == ['nothing; record']


def test_little_headroom_is_tight() -> None:
    judgement = judge(measured(held=66.0, failed=trial_of(72.0, grows=True),
                               codec=[CodecSpeed('huffman', 70.0, 2.0, 2)]))
    assert (judgement.verdict, judgement.limit) == (TIGHT, 'compression')
    assert judgement.headroom == pytest.approx(1.1)
    assert '--compression 1' in told(judgement) and '--fps 52' in told(judgement)


def test_a_slow_callback() -> None:
    judgement = judge(measured(held=30.0, failed=trial_of(60.0, bypassed=9), lossless=240.0, arguments=CALLED,
                               callback_mean_ms=31.0))
    assert (judgement.verdict, judgement.limit) == (NO, 'callback')
    assert 'frames by-pass the callback' in told(judgement) and '--delivery latest' in told(judgement)
    assert '31 ms a frame' in told(judgement)


def test_latest_delivery_is_not_limited_by_the_callback() -> None:
    judgement = judge(measured(trial_of(bypassed=100), arguments={**CALLED, 'cb_delivery': 'latest'},
                               callback_mean_ms=500.0))
    assert (judgement.verdict, judgement.limit) == (OK, None)


def test_a_disk_that_only_seems_fast() -> None:
    """Trials of seconds go into the system's memory; what the disk takes for good is what counts."""
    judgement = judge(measured(held=240.0, disk_mb_s=0.2))
    assert (judgement.verdict, judgement.limit) == (NO, 'disk')
    assert judgement.rates.sustained == pytest.approx(40.0) and not judgement.rates.at_least
    assert 'would hide that for some time only' in told(judgement) and 'a faster disk' in told(judgement)


def test_effort_that_falls_is_tight_and_losses_are_a_no() -> None:
    spared = trial_of(60.0, effort_under_pressure=9, pressure_changes=[
        {'index': 50, 'time_ns': 0, 'pressure': 1, 'effort': 'rle'}])
    judgement = judge(measured(spared, held=50.0, failed=spared, lossless=100.0))
    assert judgement.verdict == TIGHT and 'with less effort' in told(judgement)
    judgement = judge(measured(spared, held=50.0, failed=spared, lossless=55.0))
    assert judgement.verdict == NO and 'did not hold without losing frames' in told(judgement)


def test_effort_spared_while_all_was_starting_does_not_count() -> None:
    early = trial_of(effort_under_pressure=9, pressure_changes=[
        {'index': 5, 'time_ns': 0, 'pressure': 2, 'effort': 'stored'}, {'index': 40, 'time_ns': 0, 'pressure': 1,
                                                                        'effort': 'rle'}])
    assert not early.spares_effort


def test_the_processor_is_to_blame_when_no_stage_alone_is() -> None:
    judgement = judge(measured(held=50.0, failed=trial_of(60.0, grows=True), lossless=50.0))
    assert (judgement.verdict, judgement.limit) == (NO, 'processor')


@pytest.mark.parametrize(('camera_run', 'words'), [
    (trial_of(rate_hz=31.0), 'the camera gives 31 Hz, not the 60 Hz'),
    (trial_of(lost=3, sensor=124, losses=[Loss(7, 3, None, 'camera gap')]), '3 of 124 frames were lost (camera gap)')])
def test_a_camera_that_does_not_keep_up(camera_run: Trial, words: str) -> None:
    judgement = judge(measured(camera_run))
    assert (judgement.verdict, judgement.limit) == (NO, 'camera') and words in told(judgement)
    assert '--fps' in told(judgement)


def test_a_ring_that_overflows_is_not_the_cameras_fault() -> None:
    full = trial_of(lost=3, sensor=124, losses=[Loss(7, 3, None, 'ring full')])
    judgement = judge(measured(full, held=None, failed=trial_of(60.0, lost=9), lossless=40.0, codec=[
        CodecSpeed('huffman', 50.0, 2.0, 2), CodecSpeed('stored', 60.0, 1.0, 2)]))
    assert (judgement.verdict, judgement.limit, judgement.headroom) == (NO, 'compression', None)


def test_a_slow_first_call_is_not_held_against_the_callback() -> None:
    judgement = judge(measured(trial_of(bypassed=30), arguments=CALLED, callback_mean_ms=1.0, first_call_ms=1500.0))
    assert judgement.verdict == OK and 'first call takes 1.5 s, and 30 frames by-passed it' in told(judgement)


def test_a_callback_that_fails() -> None:
    judgement = judge(measured(trial_of(callback_errors=12, error='ValueError: no mouse'), arguments=CALLED,
                               callback_mean_ms=1.0))
    assert judgement.verdict == NO
    assert '12 calls of the callback failed in 121 frames: ValueError: no mouse' in told(judgement)
    assert 'mend the callback' in told(judgement)


def test_after_a_callback_that_hangs_nothing_more_is_tried(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each trial would wait for as long as its time-outs take, six times."""
    hung = measured(trial_of(callback_errors=6, callback_restarts=5, error='it did not return'), arguments=CALLED,
                    as_asked=None)
    frames = Frames('/absent', 1, (1, 1, 3))
    _Measuring(hung, tmp_path, lambda text: pytest.fail(text), lambda status: None)._search(frames)
    judgement = judge(hung)
    assert judgement.verdict == NO and judgement.headroom is None and hung.as_asked is None
    print_answer(Console(width=200), hung, judgement)
    out = capsys.readouterr().out
    assert 'hung or died' in out and 'did not hold' not in out and 'none was tried' in out
    assert json.dumps(as_dict(hung, judgement, 1))


def test_a_source_that_waits_can_lose_nothing() -> None:
    judgement = judge(measured(trial_of(granted=dataclasses.replace(GRANTED, waits=True)), held=20.0,
                               failed=trial_of(30.0, grows=True)))
    assert judgement.verdict == OK and 'waits for the recorder' in told(judgement)


@pytest.mark.parametrize(('kind', 'verdict', 'words'), [
    ('vfat', NO, 'FAT ends a file at 4 GB'), ('nfs4', TIGHT, 'a network can pause'), ('tmpfs', OK, 'lives in memory'),
    ('exfat', OK, 'no journal'), ('overlay', OK, 'upper layer'), ('xfs', OK, '')])
def test_what_the_folder_lies_on(kind: str, verdict: str, words: str) -> None:
    where = Place(Path('/data'), Volume(kind, Path('/'), 10**11, 10**12), 10**9)
    found = measured(place=where)
    if kind == 'vfat':
        found.trials.clear()
        found.as_asked = None
    judgement = judge(found)
    assert judgement.verdict == verdict and words in told(judgement), told(judgement)
    assert (judgement.limit == 'folder') == (kind == 'vfat')
    assert verdict != OK or all(level == NOTE for level, _ in judgement.findings)


def test_a_disk_that_will_be_full() -> None:
    """60 Hz of 5 kB are 0.3 MB/s: 99 GB last for 5500 minutes, 0.6 GB for 33."""
    assert judge(measured(arguments={'rec_length': 3600.0})).verdict == OK
    where = Place(Path('/data'), Volume('ext4', Path('/'), 16 * 10**8, 10**12), 10**9)
    judgement = judge(measured(place=where, arguments={'rec_length': 3600.0}))
    assert judgement.verdict == NO and 'full after 33.3 of 60.0 minutes' in told(judgement)
    nearly = Place(Path('/data'), Volume('ext4', Path('/'), 10**9 + 5, 10**12), 10**9)
    judgement = judge(measured(place=nearly))
    assert (judgement.verdict, judgement.limit) == (NO, 'folder') and 'too few to record' in told(judgement)


def test_a_disk_that_pauses_for_longer_than_the_ring_bridges() -> None:
    judgement = judge(measured(disk=DiskSpeed(10**9, 1.0, 1 << 20, [0.01, 1.3, 0.02])))
    assert judgement.verdict == TIGHT and '--ring-frames 157' in told(judgement)


def test_a_name_that_is_taken() -> None:
    where = Place(Path('/data'), Volume('ext4', Path('/'), 10**11, 10**12), 10**9, refusal='trial.tif exists already')
    judgement = judge(measured(place=where))
    assert judgement.verdict == NO and 'ppr record would not start: trial.tif exists' in told(judgement)
    assert 'choose another name' in told(judgement)


# ---------------------------------------------------------------- the options

def test_it_takes_every_option_of_a_recording_and_means_the_same() -> None:
    import typer

    from ProcessedPiRecorder.cli.app import app
    commands: Any = typer.main.get_command(app).commands              # type: ignore[attr-defined]
    record, preflight = ({param.name: param for param in commands[name].params} for name in ('record', 'preflight'))
    assert set(record) - {'help'} <= set(preflight)
    for name in set(record) - {'help'}:
        assert (record[name].opts, record[name].default) == (preflight[name].opts, preflight[name].default), name
    assert set(preflight) - set(record) == {'run_seconds'}
