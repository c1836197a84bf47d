"""Video files, replays and pairs through the whole recorder; and the long run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, List

import cv2
import numpy as np
import psutil
import pytest
import tifffile
from recording_tools import paced, pages, recorder, truth

from ProcessedPiRecorder import ProcessedPiRecorder
from ProcessedPiRecorder.cameras import ReplayCamera, VideoFileCamera


def film(path: Path, count: int = 40, fps: float = 25.0) -> List[np.ndarray]:
    """A film on disk, and its frames as OpenCV decodes them."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), fps, (128, 96))
    assert writer.isOpened()
    for number in range(count):
        image = np.full((96, 128, 3), 30, np.uint8)
        image[:, :3 * number + 1] = (200, 40 + 4 * number, 90)
        writer.write(image)
    writer.release()
    capture = cv2.VideoCapture(str(path))
    decoded = [capture.read()[1] for _ in range(count)]
    capture.release()
    return decoded


@pytest.mark.parametrize('pace', ['own', 'fastest'])
def test_a_film_is_recorded_frame_by_frame_with_its_own_times(tmp_path: Path, pace: str) -> None:
    decoded = film(tmp_path / 'film.avi')
    path = tmp_path / 'a.tif'
    begun = time.monotonic()
    camera = VideoFileCamera(tmp_path / 'film.avi', pace=pace)
    report = ProcessedPiRecorder(path, display=False, camera=camera).recordVid()
    took = time.monotonic() - begun
    assert report.complete == 'yes' and report.written == 40 and report.stopped == 'end of source'
    if pace == 'own':
        assert took > 1.55                 # 40 frames at 25 Hz
    recorded = list(pages(path))
    for (_, image), true in zip(recorded, decoded):
        np.testing.assert_array_equal(image, true)
    assert [page.index for page, _ in recorded] == list(range(40))
    steps = {later[0].time_ns - earlier[0].time_ns for earlier, later in zip(recorded, recorded[1:])}
    assert all(abs(step - 40_000_000) < 1_000_000 for step in steps)


def test_a_film_that_breaks_off_is_recorded_as_far_as_it_goes(tmp_path: Path) -> None:
    film(tmp_path / 'film.avi')
    whole = (tmp_path / 'film.avi').read_bytes()
    (tmp_path / 'film.avi').write_bytes(whole[:len(whole) * 6 // 10])
    report = ProcessedPiRecorder(tmp_path / 'a.tif', display=False, camera=str(tmp_path / 'film.avi')).recordVid()
    assert report.complete == 'no' and 10 < report.written < 40 and report.lost == 40 - report.written
    loss, = report.losses
    assert loss.reason == 'source broke off' and loss.index == report.written and loss.detail
    assert len(list(pages(tmp_path / 'a.tif'))) == report.written


def test_a_recording_is_replayed_bit_for_bit(tmp_path: Path) -> None:
    first = recorder(tmp_path / 'a.tif', controls={'lose_every': 7})
    report = first.recordVid()
    again = ProcessedPiRecorder(tmp_path / 'b.tif', display=False,
                                camera=ReplayCamera(tmp_path / 'a.tif', pace='fastest')).recordVid()
    assert again.written == report.written
    assert again.lost == report.lost > 0               # what was missing is still missing
    for (page, image), (copy, copied) in zip(pages(tmp_path / 'a.tif'), pages(tmp_path / 'b.tif')):
        assert page.index == copy.index
        np.testing.assert_array_equal(image, copied)


def test_two_cameras_become_one_side_by_side(tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    controls: Any = {'left': {'seed': 1}, 'right': {'seed': 2}}
    rec = ProcessedPiRecorder(path, 192, 64, 1, 50, 1, False, camera=('synthetic', 'synthetic'), stereo=True,
                              camera_controls=controls)
    report = rec.recordVid()
    assert report.written > 30
    pairing = report.camera['statistics']
    skews = [record.skew_ns for record, _ in pages(path)]
    assert None not in skews and max(map(abs, skews)) <= pairing['skew_max_ms'] * 1e6 + 1 < 10e6
    with tifffile.TiffFile(path) as tif:
        assert tif.pages[0].shape == (64, 192, 3)
    from ProcessedPiRecorder.cameras import CameraRequest, SyntheticCamera
    eyes = []
    for seed in (1, 2):
        eye = SyntheticCamera(seed=seed)
        eye.configure(CameraRequest(96, 64, framerate=50))
        eyes.append(eye)
    for _, image in pages(path):
        left, right = image[:, :96], image[:, 96:]
        np.testing.assert_array_equal(left, eyes[0].frame(eyes[0].index_of(left)))
        np.testing.assert_array_equal(right, eyes[1].frame(eyes[1].index_of(right)))


def test_metadata_and_settings_come_back_from_the_file(tmp_path: Path) -> None:
    from ProcessedPiRecorder.recordings.reader import RecordingFile
    metadata = {'animal': 'M12', 'session': 3, 'note': 'Körner & <mäuse> \u0007 "x"', 'nested': {'a': [1, None, True]}}
    rec = recorder(tmp_path / 'a.tif', metadata=metadata, tif_compression=3)
    report = rec.recordVid()
    with RecordingFile(tmp_path / 'a.tif') as recording:
        stored = recording.annotations
    assert stored['metadata'] == metadata
    assert stored['settings']['tif_compression'] == 3 and stored['settings']['camera'] == 'synthetic'
    assert stored['report']['written'] == report.written == 30 and stored['report']['complete'] == 'yes'


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_minute_at_60_fps_through_a_callback_is_complete_in_flat_memory(tmp_path: Path) -> None:
    path = tmp_path / 'a.tif'
    memory: List[int] = []
    with recorder(path, x_resolution=1280, y_resolution=480, framerate=60, rec_length=60, controls=paced(),
                  callback=lambda buffer, cb_queue: buffer[-1], blocking=False) as rec:
        rec.recordVid()
        while rec.recording:
            time.sleep(2)
            processes = psutil.Process().children(recursive=True)
            if len(processes) == 4 and rec.recording:
                memory.append(sum(process.memory_full_info().uss for process in processes))
    assert rec.report.complete == 'yes' and rec.report.written == 3600 == rec.report.returned
    middle, end = memory[len(memory) // 3], max(memory[-5:])
    assert end < middle * 1.1
    frame = truth(rec.settings)
    with tifffile.TiffFile(path) as tif:
        assert len(tif.pages) == 3600
        for number in (0, 1799, 3599):
            np.testing.assert_array_equal(tif.pages[number].asarray()[..., ::-1], frame(number))
