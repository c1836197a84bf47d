"""Exported videos, as other programs see them: PyAV, OpenCV, imageio, and ffmpeg itself."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import cv2
import numpy as np
import pytest
import tifffile
from disk_kit import CannotMount, small_tmpfs
from hypothesis import given
from hypothesis import strategies as st
from recording_tools import recorder

from ProcessedPiRecorder import __version__, open_recording
from ProcessedPiRecorder.errors import ExportCancelled, ExportError, MissingExtraError
from ProcessedPiRecorder.exports import Exported, export
from ProcessedPiRecorder.exports.times import shown_ns
from ProcessedPiRecorder.exports.video import presentation_ticks
from ProcessedPiRecorder.reading import Recording

av = pytest.importorskip('av')

HALF_TICK_S = 0.5 / 90_000
Judge = Callable[[Path, Recording], np.ndarray]


@pytest.fixture(scope='module')
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Recording]]:
    """Recordings of the synthetic camera, each made once."""
    folder, made = tmp_path_factory.mktemp('recorded'), {}          # type: Path, Dict[str, Recording]

    def recording(pixel_format: str = 'bgr', width: int = 96, height: int = 64, **controls: Any) -> Recording:
        name = f'{pixel_format}{width}x{height}{"-".join(map(str, controls))}'
        if name not in made:
            path = folder / f'{name}.tif'
            with recorder(path, x_resolution=width, y_resolution=height, pixel_format=pixel_format,
                          controls=controls) as rec:
                rec.recordVid()
            made[name] = open_recording(path)
        return made[name]
    yield recording
    for opened in made.values():
        opened.close()


@pytest.fixture(scope='module')
def exports(recordings: Callable[..., Recording], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Exported]:
    """Exports of such recordings, each made once."""
    folder, made = tmp_path_factory.mktemp('exported'), {}          # type: Path, Dict[str, Exported]

    def exported(suffix: str, *recorded: Any, **options: Any) -> Exported:
        name = '-'.join(map(str, (*recorded, *options)))
        if name + suffix not in made:
            made[name + suffix] = export(recordings(*recorded), folder / f'{name}{suffix}', **options)
        return made[name + suffix]
    return exported


@pytest.fixture
def uneven(recordings: Callable[..., Recording]) -> Recording:
    """12 and 9 ms in turns; 3 frames are missing."""
    return recordings(skip=(3, 4, 10), duration_pattern=((2, 1.2), (3, 0.9)))


def gray_or_bgr(recording: Recording) -> str:
    return 'bgr24' if recording.pixel_format == 'bgr' else 'gray'


def by_pyav(path: Path, recording: Recording) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.array([frame.to_ndarray(format=gray_or_bgr(recording)) for frame in container.decode(video=0)])


def by_opencv(path: Path, recording: Recording) -> np.ndarray:
    capture, frames = cv2.VideoCapture(str(path)), []
    while True:
        is_there, frame = capture.read()
        if not is_there:
            capture.release()
            return np.array(frames)
        if recording.pixel_format == 'gray':
            assert (frame == frame[..., :1]).all()
            frame = frame[..., 0]
        frames.append(frame)


def by_imageio(path: Path, recording: Recording) -> np.ndarray:
    import imageio.v3 as imageio
    if recording.pixel_format == 'gray':
        return imageio.imread(path, plugin='pyav', format='gray')
    return imageio.imread(path, plugin='pyav', format='rgb24')[..., ::-1]


def by_ffmpeg(path: Path, recording: Recording) -> np.ndarray:
    need('ffmpeg')
    raw = subprocess.run(['ffmpeg', '-v', 'error', '-i', str(path), '-fps_mode', 'passthrough', '-f', 'rawvideo',
                          '-pix_fmt', gray_or_bgr(recording), '-'], check=True, capture_output=True, timeout=50).stdout
    with av.open(str(path)) as container:
        width, height = container.streams.video[0].width, container.streams.video[0].height
    return np.frombuffer(raw, np.uint8).reshape(-1, height, width, *recording.shape[3:])


JUDGES = (by_pyav, by_opencv, by_imageio, by_ffmpeg)


def need(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f'{program} is not installed: what it makes of the file is not judged')


def probed(path: Path) -> Dict[str, Any]:
    need('ffprobe')
    out = subprocess.run(['ffprobe', '-v', 'error', '-show_format', '-show_streams', '-show_frames', '-of', 'json',
                          str(path)], check=True, capture_output=True, timeout=50).stdout
    return json.loads(out)


def times_in(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.array([float(frame.time) for frame in container.decode(video=0)])


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((one.astype(float) - other) ** 2)))


# ---------------------------------------------------------------------- pixels

@pytest.mark.parametrize('judge', JUDGES)
@pytest.mark.parametrize('pixel_format', ['bgr', 'gray'])
@pytest.mark.parametrize('size', [(67, 49), (160, 128)])
@pytest.mark.parametrize('suffix', ['.mp4', '.avi'])
def test_lossless_is_exact(recordings: Any, exports: Any, judge: Judge, pixel_format: str, size: Tuple[int, int],
                           suffix: str) -> None:
    recording = recordings(pixel_format, *size)
    made = exports(suffix, pixel_format, *size, **({'lossless': True} if suffix == '.mp4' else {}))
    np.testing.assert_array_equal(judge(made.path, recording), recording[:])
    assert made.frames == len(recording) and made.bytes == made.path.stat().st_size


@pytest.mark.parametrize('judge', JUDGES)
@pytest.mark.parametrize('pixel_format', ['bgr', 'gray'])
def test_lossy_looks_the_same(recordings: Any, exports: Any, judge: Judge, pixel_format: str) -> None:
    recording = recordings(pixel_format, 320, 240)
    made = exports('.mp4', pixel_format, 320, 240)
    assert psnr(judge(made.path, recording), recording[:]) > 35
    assert made.bytes < recording.nbytes / 50 and made.notes == ()


@pytest.mark.parametrize('judge', JUDGES)
@pytest.mark.parametrize('pixel_format', ['bgr', 'gray'])
def test_colours_and_grays_keep_their_values(tmp_path: Path, judge: Judge, pixel_format: str) -> None:
    """Whoever took full range for limited, or one colour matrix for another, would be off by ten and more."""
    patches = [(0, 0, 0), (255, 255, 255), (16, 16, 16), (235, 235, 235), (200, 30, 30), (30, 200, 30), (30, 30, 200),
               (128, 128, 128)]
    image = np.repeat(np.repeat(np.array(patches, np.uint8)[None], 64, 1), 96, 0)
    image = np.ascontiguousarray(image if pixel_format == 'bgr' else image[..., 0])
    tifffile.imwrite(tmp_path / 'patches.tif', np.stack([image] * 4),
                     photometric='rgb' if pixel_format == 'bgr' else 'minisblack')
    with open_recording(tmp_path / 'patches.tif') as recording:
        made = export(recording, tmp_path / 'a.mp4', rate_hz=10, crf=10)
        found, true = judge(made.path, recording), recording[:]
    inner = np.s_[:, 16:-16, np.arange(512) % 64 // 16 % 3 != 0]       # away from the edges of the patches
    assert np.abs(found[inner].astype(int) - true[inner]).max() <= 5


def test_odd_sizes_get_an_even_frame_and_say_so(recordings: Any, tmp_path: Path) -> None:
    for pixel_format in ('bgr', 'gray'):
        recording = recordings(pixel_format, 67, 49)
        made = export(recording, tmp_path / f'{pixel_format}.mp4', crf=5)
        assert made.notes[0].startswith('67×49 became 68×50: this kind of video needs even numbers')
        frames = by_pyav(made.path, recording)
        assert frames.shape[1:3] == (50, 68)
        padding = [(0, 0), (0, 1), (0, 1), (0, 0)][:frames.ndim]
        assert psnr(frames, np.pad(recording[:], padding, 'edge')) > 30


# ---------------------------------------------------------------------- times

@pytest.mark.parametrize('lossless', [False, True])
def test_every_frame_is_shown_at_its_time(uneven: Recording, tmp_path: Path, lossless: bool) -> None:
    made = export(uneven, tmp_path / 'a.mp4', lossless=lossless)
    true = uneven.times_s
    assert true is not None and len(set(np.diff(true).round(4))) > 2
    np.testing.assert_allclose(times_in(made.path), true, rtol=0, atol=HALF_TICK_S)
    assert '3 frames are missing between its first and its last; the frame before each gap is shown for as long' \
        in made.notes
    told = probed(made.path)
    shown = np.array([int(frame['pts']) for frame in told['frames']])
    assert shown.tolist() == presentation_ticks(uneven.times_ns - uneven.times_ns[0]).tolist()  # type: ignore
    assert told['streams'][0]['time_base'] == '1/90000' and int(told['streams'][0]['nb_frames']) == len(uneven)
    usual = float(np.median(np.diff(true)))
    assert abs(float(told['streams'][0]['duration']) - (true[-1] + usual)) < 2 * HALF_TICK_S


def test_opencv_sees_the_times_too(uneven: Recording, tmp_path: Path) -> None:
    made = export(uneven, tmp_path / 'a.mp4')
    capture, seen = cv2.VideoCapture(str(made.path)), []
    while capture.grab():
        seen.append(capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3)
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == len(uneven)
    np.testing.assert_allclose(seen, uneven.times_s, rtol=0, atol=2 * HALF_TICK_S)      # type: ignore[arg-type]


def test_frames_can_be_found_by_their_number(recordings: Any, tmp_path: Path) -> None:
    recording = recordings('gray')
    made = export(recording, tmp_path / 'a.mp4', lossless=True)
    capture = cv2.VideoCapture(str(made.path))
    for page in (17, 3, 29, 0, 18):
        capture.set(cv2.CAP_PROP_POS_FRAMES, page)
        np.testing.assert_array_equal(capture.read()[1][..., 0], recording[page])


def test_a_part_begins_at_its_own_first_frame(uneven: Recording, tmp_path: Path) -> None:
    made = export(uneven, tmp_path / 'a.mp4', lossless=True, start='5', stop=-2, every=4)
    pages = np.arange(3, len(uneven) - 2, 4)
    np.testing.assert_array_equal(by_pyav(made.path, uneven), uneven[pages])
    times = uneven.times_s[pages]                                       # type: ignore[index]
    np.testing.assert_allclose(times_in(made.path), times - times[0], rtol=0, atol=HALF_TICK_S)
    assert made.frames == len(pages)


def test_slow_motion(uneven: Recording, tmp_path: Path) -> None:
    made = export(uneven, tmp_path / 'a.mp4', speed=0.1)
    np.testing.assert_allclose(times_in(made.path), uneven.times_s * 10, rtol=0, atol=2 * HALF_TICK_S)  # type: ignore
    assert 'it plays at 0.1 of the true speed' in made.notes


@given(st.lists(st.integers(1, 3 * 10**9), min_size=1, max_size=60), st.integers(0, 10**17))
def test_ticks_increase_and_are_near(intervals: List[int], begin: int) -> None:
    times = begin + np.concatenate([[0], np.cumsum(intervals)]).astype(np.int64)
    ticks = presentation_ticks(times)
    assert (np.diff(ticks) > 0).all()
    exact = [Fraction(int(time) * 9, 100_000) for time in times]
    if min(intervals) >= 22_223:                    # two ticks: none is ever moved on
        assert all(abs(tick - true) <= Fraction(1, 2) for tick, true in zip(ticks.tolist(), exact))
    assert all(tick >= true - Fraction(1, 2) for tick, true in zip(ticks.tolist(), exact))


def test_frames_that_come_faster_than_ticks() -> None:
    assert presentation_ticks(np.array([0, 1000, 2000, 3000, 10**9])).tolist() == [0, 1, 2, 3, 90_000]


def test_one_frame_is_a_video_too(recordings: Any, tmp_path: Path) -> None:
    for suffix in ('.mp4', '.avi'):
        made = export(recordings(), tmp_path / f'a{suffix}', start=4, stop=5)
        assert made.frames == len(by_pyav(made.path, recordings())) == 1


@pytest.mark.parametrize('interval_s', [7, 3600, 3600.123457, 23_860.9, 86_400, 86_399.9876])
def test_time_lapses(tmp_path: Path, interval_s: float) -> None:
    tifffile.imwrite(tmp_path / 'lapse.tif', np.zeros((4, 32, 32), np.uint8), photometric='minisblack')
    made = export(tmp_path / 'lapse.tif', tmp_path / 'a.avi', rate_hz=1 / interval_s)
    np.testing.assert_allclose(times_in(made.path), np.arange(4) * interval_s, rtol=0, atol=2e-5)
    if interval_s < 23_861:                            # 2**31 ticks
        made = export(tmp_path / 'lapse.tif', tmp_path / 'a.mp4', rate_hz=1 / interval_s)
        np.testing.assert_allclose(times_in(made.path), np.arange(4) * interval_s, rtol=0, atol=HALF_TICK_S + 1e-6)
        return
    with pytest.raises(ExportError, match=r'shown for 24\.00 h, and an MP4 can show one for 6\.63 h at most; choose'):
        export(tmp_path / 'lapse.tif', tmp_path / 'a.mp4', rate_hz=1 / interval_s)
    assert not (tmp_path / 'a.mp4').exists()
    assert export(tmp_path / 'lapse.tif', tmp_path / 'a.mp4', rate_hz=1 / interval_s, speed=10).frames == 4


# ---------------------------------------------------------------------- AVI and its table

def test_an_avi_plays_at_the_usual_rate_with_its_times_beside_it(uneven: Recording, tmp_path: Path) -> None:
    made = export(uneven, tmp_path / 'a.avi')
    assert made.beside == (tmp_path / 'a.times.csv',)
    with av.open(str(made.path)) as container:
        assert float(1 / container.streams.video[0].average_rate) == pytest.approx(
            float(np.median(np.diff(uneven.times_s))), rel=1e-6)        # type: ignore[arg-type]
    with open(made.beside[0], newline='') as file:
        rows = list(csv.DictReader(file))
    assert [int(row['index']) for row in rows] == uneven.indices.tolist()               # type: ignore[union-attr]
    assert [int(row['time_ns']) for row in rows] == uneven.times_ns.tolist()            # type: ignore[union-attr]
    assert [int(row['frame']) for row in rows] == [int(row['page']) for row in rows] == list(range(len(uneven)))
    assert [float(row['time_s']) for row in rows] == pytest.approx(uneven.times_s.tolist(), abs=1e-9)  # type: ignore
    assert made.notes[0].startswith('3 frames are missing between its first and its last') \
        and 'a.times.csv' in made.notes[0]


def test_an_avi_says_when_its_rate_is_not_the_truth(recordings: Any, tmp_path: Path) -> None:
    assert export(recordings(), tmp_path / 'steady.avi').notes == ()
    varying = recordings(duration_pattern=((2, 1.02), (2, 0.98)))
    assert export(varying, tmp_path / 'varying.avi').notes[0].startswith('the times from frame to frame vary by more')


def test_an_avi_and_its_table_come_together(recordings: Any, tmp_path: Path) -> None:
    (tmp_path / 'a.times.csv').write_text('theirs')
    with pytest.raises(ExportError, match='a.times.csv exists already'):
        export(recordings(), tmp_path / 'a.avi')
    assert [path.name for path in tmp_path.iterdir()] == ['a.times.csv']
    export(recordings(), tmp_path / 'a.avi', overwrite=True)
    assert (tmp_path / 'a.times.csv').read_text().startswith('frame,page,index')


# ---------------------------------------------------------------------- what the file tells

@pytest.mark.parametrize('suffix', ['.mp4', '.avi'])
def test_it_tells_where_it_comes_from(uneven: Recording, tmp_path: Path, suffix: str) -> None:
    made = export(uneven, tmp_path / f'a{suffix}', start=2)
    with av.open(str(made.path)) as container:
        told = dict(container.metadata)
    began = int(uneven.times_ns[2])                                     # type: ignore[index]
    assert told['title'] == uneven.path.name
    assert f'ProcessedPiRecorder {__version__}' in told['comment'] and f'taken at {began} ns' in told['comment']
    assert f'pages 2 to {len(uneven) - 1} of' in told['comment'] and 'complete: no (3 lost)' in told['comment']
    assert told['date'][:23] == str(np.datetime64(began, 'ns'))[:23]


def test_the_level_is_that_of_the_frames_so_that_players_take_it(recordings: Any, tmp_path: Path) -> None:
    for options in ({}, {'lossless': True}):                       # of 96×64 at 100 Hz; a rate of 90,000 would tell 6.0
        made = export(recordings(), tmp_path / 'tiny.mp4', overwrite=True, **options)
        assert probed(made.path)['streams'][0]['level'] == 11


def test_an_mp4_tells_its_colours_and_begins_with_its_index(recordings: Any, tmp_path: Path) -> None:
    expected = {('bgr', False): ('tv', 'smpte170m', 'yuv420p'), ('gray', False): ('pc', 'smpte170m', 'yuvj420p'),
                ('bgr', True): ('pc', 'gbr', 'gbrp'), ('gray', True): ('pc', None, 'yuvj420p')}
    for (pixel_format, lossless), (range_, space, layout) in expected.items():
        made = export(recordings(pixel_format), tmp_path / 'a.mp4', lossless=lossless, overwrite=True)
        stream = probed(made.path)['streams'][0]
        assert (stream['color_range'], stream.get('color_space'), stream['pix_fmt']) == (range_, space, layout)
        data = made.path.read_bytes()
        assert 0 < data.index(b'moov') < data.index(b'mdat')
        assert stream['codec_name'] == 'h264' and stream['has_b_frames'] == 0


# ---------------------------------------------------------------------- what cannot be

def test_other_tiffs_need_a_rate(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (5, 20, 30, 3), np.uint8)
    tifffile.imwrite(tmp_path / 'foreign.tif', pixels, photometric='rgb')
    with open_recording(tmp_path / 'foreign.tif') as foreign:
        for suffix, options in (('.mp4', {'lossless': True}), ('.avi', {})):
            with pytest.raises(ExportError, match='has no times.*pass rate_hz'):
                export(foreign, tmp_path / f'a{suffix}', **options)
            made = export(foreign, tmp_path / f'a{suffix}', rate_hz=12.5, **options)
            np.testing.assert_array_equal(by_pyav(made.path, foreign), pixels[..., ::-1])
            np.testing.assert_allclose(times_in(made.path), np.arange(5) * 0.08, atol=HALF_TICK_S)
        assert (tmp_path / 'a.times.csv').read_text().splitlines()[2] == '1,1,,,0.080000000'
        for rate in (0, -1, float('nan'), True, '30'):
            with pytest.raises(ExportError, match='is no rate'):
                export(foreign, tmp_path / 'b.mp4', rate_hz=rate)


@pytest.mark.parametrize('dtype', [np.uint16, np.float32])
def test_more_than_8_bits_are_refused(tmp_path: Path, dtype: Any) -> None:
    tifffile.imwrite(tmp_path / 'deep.tif', np.zeros((3, 20, 30), dtype), photometric='minisblack')
    for suffix in ('.mp4', '.avi'):
        with pytest.raises(ExportError, match='8 bits of them here; export PNG, which keeps 16 bits'):
            export(tmp_path / 'deep.tif', tmp_path / f'a{suffix}', rate_hz=10)


@pytest.mark.parametrize(('options', 'message'), [
    ({'crf': 52}, 'crf=52 is no quality'), ({'crf': '18'}, 'is no quality'), ({'preset': 'quick'}, 'pass one of ultra'),
    ({'rate_hz': 30}, 'has times of its own'), ({'speed': 0}, 'speed=0 cannot be'), ({'speed': -1}, 'cannot be'),
    ({'every': 0}, 'is no step'), ({'start': 99}, 'start=99 leave')])
def test_options_that_cannot_be(recordings: Any, tmp_path: Path, options: Dict[str, Any], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        export(recordings(), tmp_path / 'a.mp4', **options)
    assert list(tmp_path.iterdir()) == []


def test_a_speed_whose_times_leave_64_bits_is_refused_with_the_least(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / 'slow.tif', np.zeros((3, 16, 32), np.uint8), photometric='minisblack')
    with open_recording(tmp_path / 'slow.tif') as recording:
        with pytest.raises(ExportError, match=r'speed=0\.0001 is too slow .* pass 0\.000175 to 10000') as told:
            export(recording, tmp_path / 'a.mp4', rate_hz=1 / 86_400, speed=1e-4)
        least = float(str(told.value).split('pass ')[1].split()[0])
        ticks = presentation_ticks(shown_ns(recording, range(3), 1 / 86_400, least))
    assert 0 == ticks[0] < ticks[1] < ticks[2] == pytest.approx(2 * 86_400 / least * 90_000)
    assert not (tmp_path / 'a.mp4').exists()


def test_what_the_encoder_cannot_do_is_told(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / 'wide.tif', np.zeros((2, 16, 20_000), np.uint8), photometric='minisblack')
    with pytest.raises(ExportError, match='the encoder for a.mp4 failed.*try another format'):
        export(tmp_path / 'wide.tif', tmp_path / 'a.mp4', rate_hz=10)
    assert [path.name for path in tmp_path.iterdir()] == ['wide.tif']


def test_without_the_package_it_says_what_to_install(recordings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                                     ) -> None:
    monkeypatch.setitem(sys.modules, 'av', None)
    for suffix, what in (('.mp4', 'MP4 export'), ('.avi', 'AVI export')):
        with pytest.raises(MissingExtraError, match=rf"{what} needs .*ProcessedPiRecorder\[export\]"):
            export(recordings(), tmp_path / f'a{suffix}')


@pytest.mark.parametrize('suffix', ['.mp4', '.avi'])
def test_a_cancelled_video_leaves_nothing(recordings: Any, tmp_path: Path, suffix: str) -> None:
    def cancel(done: int, total: int) -> None:
        assert total == 30
        if done == 20:
            raise ExportCancelled('enough')
    with pytest.raises(ExportCancelled):
        export(recordings(), tmp_path / f'a{suffix}', progress=cancel)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(('suffix', 'options'), [('.mp4', {'lossless': True}), ('.avi', {})])
def test_a_full_disk_leaves_nothing(recordings: Any, tmp_path: Path, suffix: str, options: Dict[str, Any],
                                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('ProcessedPiRecorder.exports.video.stored_bytes', lambda *anything: 0)
    try:
        with small_tmpfs(tmp_path, 1) as disk:
            with pytest.raises(ExportError, match='ran full while a'):
                export(recordings('bgr', 256, 160), disk / f'a{suffix}', **options)
            assert list(disk.iterdir()) == []
    except CannotMount as error:
        pytest.skip(f'no small disk here: {error}')


def test_too_little_room_is_seen_before(recordings: Any, tmp_path: Path) -> None:
    try:
        with small_tmpfs(tmp_path, 1.5) as disk:
            with pytest.raises(ExportError, match='needs about .* free; make room'):
                export(recordings('bgr', 256, 160), disk / 'a.avi', progress=lambda *anything: pytest.fail('begun'))
    except CannotMount as error:
        pytest.skip(f'no small disk here: {error}')
