"""Animated GIFs and folders of PNG images, as Pillow, OpenCV and imageio see them."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any, Iterator, List, Tuple

import cv2
import numpy as np
import pytest
import tifffile
from disk_kit import CannotMount, small_tmpfs
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageSequence
from recording_tools import recorder

from ProcessedPiRecorder import open_recording
from ProcessedPiRecorder.errors import ExportCancelled, ExportError
from ProcessedPiRecorder.exports import export
from ProcessedPiRecorder.exports.gif import gif_schedule
from ProcessedPiRecorder.exports.times import median_interval_ns
from ProcessedPiRecorder.reading import Recording


def recorded(folder: Path, pixel_format: str, hertz: float, **controls: Any) -> Recording:
    path = folder / f'{pixel_format}{hertz}.tif'
    with recorder(path, pixel_format=pixel_format, framerate=hertz, controls=controls) as rec:
        rec.recordVid()
    return open_recording(path)


@pytest.fixture(scope='module', params=['bgr', 'gray'])
def recording(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recording]:
    """27 of 30 frames at 30 Hz, which fits no hundredths of a second."""
    with recorded(tmp_path_factory.mktemp('recorded'), request.param, 30, skip=(3, 4, 10)) as opened:
        yield opened


def frames_of(path: Path) -> Tuple[List[int], List[np.ndarray]]:
    """What Pillow sees in a GIF: durations in ms, and RGB images."""
    with Image.open(path) as image:
        frames = [(frame.info['duration'], np.asarray(frame.convert('RGB'))) for frame in ImageSequence.Iterator(image)]
    return [duration for duration, _ in frames], [pixels for _, pixels in frames]


def rgb(frame: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(np.asarray(frame), cv2.COLOR_GRAY2RGB if frame.ndim == 2 else cv2.COLOR_BGR2RGB)


# ---------------------------------------------------------------------- GIF

def test_a_gif_shows_every_frame_for_its_time(recording: Recording, tmp_path: Path) -> None:
    made = export(recording, tmp_path / 'a.gif')
    durations, images = frames_of(made.path)
    assert made.frames == len(durations) == 27 and made.notes == ()
    times = recording.times_s
    assert times is not None
    begins = np.concatenate([[0], np.cumsum(durations)]) / 1e3
    np.testing.assert_allclose(begins[:-1], times, rtol=0, atol=0.005001)
    assert abs(begins[-1] - (times[-1] + 1 / 30)) < 0.0051
    for image, frame in zip(images, recording):
        if recording.pixel_format == 'gray':
            np.testing.assert_array_equal(image, rgb(frame))
        else:
            assert np.abs(image.astype(int) - rgb(frame)).mean() < 3
    with Image.open(made.path) as image:
        assert image.info['loop'] == 0 and image.n_frames == 27


def test_a_gif_leaves_out_what_comes_too_fast(tmp_path: Path) -> None:
    with recorded(tmp_path, 'gray', 100) as fast:
        made = export(fast, tmp_path / 'a.gif')
        assert made.notes[0].startswith('15 of 30 frames were left out: browsers show no frame of a GIF for less than')
        durations, images = frames_of(made.path)
        assert durations == [20] * 15 and made.frames == 15
        for image, frame in zip(images, fast.frames(0, None, 2)):
            np.testing.assert_array_equal(image, rgb(frame))
        slow = export(fast, tmp_path / 'slow.gif', speed=0.2)
        assert frames_of(slow.path)[0] == [50] * 30 and slow.notes == ('it plays at 0.2 of the true speed',)


def test_a_gif_can_be_made_smaller(recording: Recording, tmp_path: Path) -> None:
    whole = export(recording, tmp_path / 'a.gif', stop=9)
    for options, size in (({'max_width': 50}, (50, 33)), ({'max_width': 500}, (96, 64)), ({'colors': 16}, (96, 64))):
        made = export(recording, tmp_path / 'b.gif', stop=9, overwrite=True, **options)
        _, images = frames_of(made.path)
        assert len(images) == 9 and images[0].shape == (*size[::-1], 3)
        assert made.bytes <= whole.bytes and ('frames were made smaller, 50×33' in made.notes) == (size == (50, 33))
        if 'colors' in options:
            assert all(len(np.unique(image.reshape(-1, 3), axis=0)) <= 16 for image in images)
        assert np.abs(cv2.resize(images[4], (96, 64)).astype(int) - rgb(recording[4])).mean() < 25


def test_a_picture_that_stands_still_is_shown_for_as_long(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / 'still.tif', np.full((20, 16, 16), 77, np.uint8), photometric='minisblack')
    made = export(tmp_path / 'still.tif', tmp_path / 'a.gif', rate_hz=10)
    assert sum(frames_of(made.path)[0]) == 2000
    with pytest.raises(ExportError, match='stands still for more than 655 s'):
        export(tmp_path / 'still.tif', tmp_path / 'b.gif', rate_hz=0.01)
    assert sorted(os.listdir(tmp_path)) == ['a.gif', 'still.tif']


def test_one_frame_is_a_gif_too(recording: Recording, tmp_path: Path) -> None:
    with Image.open(export(recording, tmp_path / 'a.gif', stop=1).path) as image:
        assert image.size == (96, 64)


@given(st.lists(st.integers(1, 3 * 10**9), min_size=1, max_size=60))
def test_schedules_never_drift(intervals: List[int]) -> None:
    times = np.concatenate([[0], np.cumsum(intervals)]).astype(np.int64)
    schedule = gif_schedule(times)
    assert min(schedule.durations_ms) >= 20 and schedule.places[0] == 0
    begins = np.concatenate([[0], np.cumsum(schedule.durations_ms)]) * 10**6
    assert np.abs(begins[:-1] - times[schedule.places]).max() <= 5_000_000
    whole = int(times[-1]) + median_interval_ns(times)
    assert abs(int(begins[-1]) - whole) <= (5_000_000 if len(schedule.places) > 1 else 20_000_000)
    left_out = sorted(set(range(len(times))) - set(schedule.places))
    for place in left_out:                              # only what comes within 20 ms of one that is shown, or the end
        others = np.append(times[schedule.places], whole)
        assert np.abs(others - times[place]).min() < 30_000_000


def test_gaps_longer_than_a_gif_can_show(tmp_path: Path) -> None:
    assert gif_schedule(np.array([0, 10**12])).durations_ms[0] == 655_350
    tifffile.imwrite(tmp_path / 'rare.tif', np.random.default_rng(0).integers(0, 255, (3, 9, 9), np.uint8),
                     photometric='minisblack')
    made = export(tmp_path / 'rare.tif', tmp_path / 'a.gif', rate_hz=1e-3)
    assert frames_of(made.path)[0] == [655_350] * 3
    assert made.notes[0].startswith('a gap of more than 655 s')


def test_many_frames_are_told_to_be_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile.imwrite(tmp_path / 'many.tif', np.random.default_rng(0).integers(0, 255, (1001, 8, 8), np.uint8),
                     photometric='minisblack')
    made = export(tmp_path / 'many.tif', tmp_path / 'a.gif', rate_hz=25)
    assert '1,001 frames are much for a GIF' in made.notes[0] and made.frames == 1001
    monkeypatch.setattr('ProcessedPiRecorder.exports.gif.available_memory', lambda: 100_000)
    with pytest.raises(ExportError, match=r'0.0 GB of pixels in memory.*\(max_width\), or export MP4'):
        export(tmp_path / 'many.tif', tmp_path / 'b.gif', rate_hz=25)
    assert export(tmp_path / 'many.tif', tmp_path / 'b.gif', rate_hz=25, every=2).frames == 501


@pytest.mark.parametrize(('options', 'message'), [
    ({'max_width': 0}, 'is no width'), ({'max_width': 1.5}, 'is no width'), ({'colors': 100}, 'pass one of 2, 4, 8'),
    ({'speed': 0}, 'cannot be'), ({'rate_hz': 30}, 'times of its own'), ({'start': '9', 'stop': '5'}, 'no frame')])
def test_options_that_cannot_be(recording: Recording, tmp_path: Path, options: Any, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        export(recording, tmp_path / 'a.gif', **options)
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------- PNG

def by_pillow(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        pixels = np.asarray(image)
    return pixels[..., ::-1] if pixels.ndim == 3 else pixels


def by_opencv(path: Path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def by_imageio(path: Path) -> np.ndarray:
    import imageio.v3 as imageio
    pixels = imageio.imread(path)
    return pixels[..., ::-1] if pixels.ndim == 3 else pixels


@pytest.mark.parametrize('judge', [by_pillow, by_opencv, by_imageio])
def test_images_are_exact_and_named_by_their_numbers(recording: Recording, tmp_path: Path, judge: Any) -> None:
    made = export(recording, tmp_path / 'frames')
    names = sorted(os.listdir(made.path))
    assert names == [*(f'frame_{index:08d}.png' for index in range(30) if index not in (3, 4, 10)), 'times.csv']
    for name, frame in zip(names, recording):
        np.testing.assert_array_equal(judge(made.path / name), frame)
    assert made.frames == 27 and made.bytes == sum((made.path / name).stat().st_size for name in names)
    assert made.notes == ('3 frames are missing between its first and its last, and their numbers with them',)


def test_the_table_tells_the_times_of_the_images(recording: Recording, tmp_path: Path) -> None:
    made = export(recording, tmp_path / 'frames.png', start=2, every=3)
    with open(made.path / 'times.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert [row['file'] for row in rows] == sorted(os.listdir(made.path))[:-1]
    for row in rows:
        frame = recording[int(row['page'])]
        assert (int(row['index']), int(row['time_ns'])) == (frame.index, frame.time_ns)
    times = recording.times_s
    assert times is not None
    assert [float(row['time_s']) for row in rows] == pytest.approx((times[2::3] - times[2]).tolist(), abs=1e-9)


@pytest.mark.parametrize('shape', [(4, 21, 33), (4, 21, 33, 3)])
@pytest.mark.parametrize('dtype', ['<u2', '>u2', 'u1'])
def test_16_bits_stay_16_bits(tmp_path: Path, shape: Tuple[int, ...], dtype: str) -> None:
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape).astype(dtype)
    tifffile.imwrite(tmp_path / 'deep.tif', pixels, photometric='rgb' if len(shape) == 4 else 'minisblack',
                     byteorder='>' if dtype[0] == '>' else '<')
    made = export(tmp_path / 'deep.tif', tmp_path / 'frames')
    for page in range(4):
        seen = by_opencv(made.path / f'frame_{page:08d}.png')
        assert seen.dtype == np.dtype(dtype[-2:])
        np.testing.assert_array_equal(seen, pixels[page][..., ::-1] if len(shape) == 4 else pixels[page])
    table = (made.path / 'times.csv').read_text().splitlines()
    assert table[:2] == ['frame,page,index,time_ns,time_s,file', '0,0,,,,frame_00000000.png']
    export(tmp_path / 'deep.tif', tmp_path / 'frames', rate_hz=4, overwrite=True)
    assert (made.path / 'times.csv').read_text().splitlines()[2] == '1,1,,,0.250000000,frame_00000001.png'


def test_what_png_and_gif_do_not_hold(tmp_path: Path) -> None:
    for dtype in (np.float32, np.int16):
        tifffile.imwrite(tmp_path / 'a.tif', np.zeros((2, 8, 8), dtype), photometric='minisblack')
        with pytest.raises(ExportError, match='PNG holds uint8 and uint16'):
            export(tmp_path / 'a.tif', tmp_path / 'frames')
        with pytest.raises(ExportError, match='GIF holds 8 bits; export PNG'):
            export(tmp_path / 'a.tif', tmp_path / 'a.gif')
    assert os.listdir(tmp_path) == ['a.tif']


def test_an_older_folder_is_replaced_only_if_it_is_such_a_one(recording: Recording, tmp_path: Path) -> None:
    export(recording, tmp_path / 'frames')
    export(recording, tmp_path / 'frames', start=3, stop=4, overwrite=True)
    assert sorted(os.listdir(tmp_path / 'frames')) == ['frame_00000005.png', 'times.csv']
    (tmp_path / 'frames/labels.csv').write_text('a week of work')
    with pytest.raises(ExportError, match=r'holds what no such export made \(labels.csv\)'):
        export(recording, tmp_path / 'frames', overwrite=True)
    assert (tmp_path / 'frames/labels.csv').exists() and os.listdir(tmp_path) == ['frames']


@pytest.mark.parametrize('target', ['frames', 'a.gif'])
def test_cancelled_ones_leave_nothing(recording: Recording, tmp_path: Path, target: str) -> None:
    def cancel(done: int, total: int) -> None:
        if done == 20:
            raise ExportCancelled('enough')
    with pytest.raises(ExportCancelled):
        export(recording, tmp_path / target, progress=cancel)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('target', ['frames', 'a.gif'])
def test_a_full_disk_leaves_nothing(recording: Recording, tmp_path: Path, target: str, monkeypatch: pytest.MonkeyPatch
                                    ) -> None:
    monkeypatch.setattr('ProcessedPiRecorder.exports.pictures.stored_bytes', lambda *anything: 0)
    try:
        with small_tmpfs(tmp_path, 0.05) as disk:
            with pytest.raises(ExportError, match='ran full while'):
                export(recording, disk / target)
            assert list(disk.iterdir()) == []
    except CannotMount as error:
        pytest.skip(f'no small disk here: {error}')
