"""Stereo: the chessboard's truth, calibrations judged by it, disparities and depths, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import pickle
import queue
import re
import zlib
from collections import deque
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_readme import REPO, SWAP, run_script

from ProcessedPiRecorder import ProcessedPiRecorder as ppr
from ProcessedPiRecorder import left, right
from ProcessedPiRecorder.callbacks import stereo
from ProcessedPiRecorder.callbacks.boards import _find_corners as find_corners
from ProcessedPiRecorder.callbacks.stereo import StereoCalibration, StereoDepth, calibrate
from ProcessedPiRecorder.cameras import CameraRequest, SyntheticCamera, chessboard
from ProcessedPiRecorder.cameras.chessboard import BOARD, Chessboard
from ProcessedPiRecorder.errors import CalibrationError, CallbackError, RecorderError, SettingsError
from ProcessedPiRecorder.frame import Frame
from ProcessedPiRecorder.recordings.reader import RecordingFile

FULL, SMALL = (640, 480), (192, 144)


def camera_of(size: Tuple[int, int], pixel_format: str = 'bgr', **options: Any) -> SyntheticCamera:
    camera = SyntheticCamera(**{'scene': 'chessboard', **options})
    camera.configure(CameraRequest(2 * size[0], size[1], pixel_format=pixel_format, stereo=True))
    return camera


def frames_of(size: Tuple[int, int], count: int, pixel_format: str = 'bgr', **options: Any) -> List[np.ndarray]:
    camera = camera_of(size, pixel_format, **options)
    return [camera.frame(index) for index in range(count)]


def swapped(frame: np.ndarray) -> np.ndarray:
    return np.hstack([right(frame), left(frame)])


def mirrored(frame: np.ndarray) -> np.ndarray:
    return np.hstack([left(frame)[:, ::-1], right(frame)[:, ::-1]])


def ideal(size: Tuple[int, int], **changes: Any) -> StereoCalibration:
    """Two perfect, parallel eyes, which need no rectification."""
    width, height = size
    matrix = [[0.8 * width, 0, (width - 1) / 2], [0, 0.8 * width, (height - 1) / 2], [0, 0, 1]]
    fields = {'image_size': size, 'left_matrix': matrix, 'left_distortion': [0] * 5, 'right_matrix': matrix,
              'right_distortion': [0] * 5, 'rotation': np.eye(3), 'translation_mm': [-65, 0, 0], 'rms_px': 0,
              'boards': 0}
    return StereoCalibration(**{**fields, **changes})


@pytest.fixture(scope='module')
def frames() -> List[np.ndarray]:
    return frames_of(FULL, 30)


@pytest.fixture(scope='module')
def calibration(frames: List[np.ndarray]) -> StereoCalibration:
    return calibrate(frames)


def buffer_of(image: np.ndarray, index: int = 7) -> Any:
    return deque([Frame(image.copy(), index, 1_000)], maxlen=1)


# ---------------------------------------------------------------------- the chessboard and its truth

def test_corners_are_where_the_truth_says() -> None:
    import cv2
    truth = Chessboard(*FULL)
    for index, frame in enumerate(frames_of(FULL, 12, 'gray')):
        for number, eye in enumerate((left(frame), right(frame))):
            expected = truth.corners(index, number)
            seeds = expected.astype(np.float32).round().reshape(-1, 1, 2)
            found = cv2.cornerSubPix(np.ascontiguousarray(eye), seeds, (5, 5), (-1, -1), (3, 40, 1e-3)).reshape(-1, 2)
            assert np.abs(found - expected).max() < 0.35
            assert np.sqrt(((found - expected) ** 2).mean()) < 0.1
            assert np.abs((found - expected).mean(axis=0)) == pytest.approx(0, abs=0.04)


def test_depths_agree_with_poses() -> None:
    truth = Chessboard(*FULL, seed=5)
    for index in (0, 11, 1000):
        depth, pose = truth.depth_mm(index), truth.pose(index)
        x, y = truth.corners(index, 0).round().astype(int)[0]
        assert depth[y, x] == pytest.approx(pose.translation_mm[2], rel=0.01)
        assert depth.max() == pytest.approx(truth.wall_mm)
        assert np.mean(depth == depth.max()) > 0.4
        assert np.allclose(np.array(pose.rotation) @ np.array(pose.rotation).T, np.eye(3), atol=1e-12)


def test_the_board_is_seen_whole_by_both_eyes() -> None:
    for size in (FULL, SMALL, (320, 320)):
        truth = Chessboard(*size, seed=2)
        for index in range(0, 3000, 7):
            for eye in (0, 1):
                corners = truth.corners(index, eye)
                assert corners.min() > 0 and (corners < size).all()


def test_the_boards_pixels_are_the_same_everywhere() -> None:
    camera = camera_of((160, 96), seed=3)
    assert zlib.crc32(b''.join(camera.frame(index).tobytes() for index in (0, 1, 1000, 10**9))) == 1426772075


# ---------------------------------------------------------------------- calibrating

def check_against_truth(found: StereoCalibration, truth: Chessboard, tolerance: float) -> None:
    """``tolerance``: of lengths, as a part of them."""
    for eye, matrix in zip(truth.eyes, (found.left_matrix, found.right_matrix)):
        assert [matrix[0, 0], matrix[1, 1]] == pytest.approx([eye.focal_px] * 2, rel=tolerance)
        assert matrix[:2, 2] == pytest.approx(eye.center_px, abs=0.6)
    turn, shift = truth.eyes[1].pose
    assert found.baseline_mm == pytest.approx(float(np.linalg.norm(shift)), rel=tolerance)
    assert found.translation_mm == pytest.approx(shift, abs=1.2)
    assert np.abs(found.rotation - np.array(turn)).max() < 0.005
    assert found.left_distortion[:2] == pytest.approx(truth.eyes[0].distortion, abs=0.05)


@pytest.mark.parametrize('seed', [0, 1])
@pytest.mark.parametrize('pixel_format', ['bgr', 'gray'])
def test_calibrating_recovers_the_truth(pixel_format: str, seed: int) -> None:
    # Measured: 0.03 % off in focal length and baseline, 0.05 pixels rms.
    found = calibrate(iter(frames_of(FULL, 30, pixel_format, seed=seed)), board=BOARD, square_mm=25)
    check_against_truth(found, Chessboard(*FULL, seed=seed), 0.002)
    assert found.image_size == FULL
    assert 0.01 < found.rms_px < 0.1
    assert 25 <= found.boards <= 30


def test_calibrating_small_pictures() -> None:
    # Measured: 0.2 % off in focal length, 0.1 % in baseline.
    check_against_truth(calibrate(frames_of(SMALL, 30)), Chessboard(*SMALL), 0.01)


def test_pairs_may_be_two_pictures_and_lengths_follow_the_square(frames: List[np.ndarray],
                                                                 calibration: StereoCalibration) -> None:
    halves = calibrate([(left(frame), right(frame)) for frame in frames], square_mm=50)
    assert halves.baseline_mm == pytest.approx(2 * calibration.baseline_mm, rel=1e-3)


def test_boards_of_two_moments_are_left_out(frames: List[np.ndarray], calibration: StereoCalibration) -> None:
    torn = [(left(frames[index]), right(frames[index + 3])) for index in (4, 13)]
    found = calibrate([*frames, *torn])
    assert found.boards <= 30
    assert found.rms_px < 0.1
    assert found.baseline_mm == pytest.approx(calibration.baseline_mm, rel=0.002)


@pytest.mark.parametrize('change', [swapped, mirrored])
def test_swapped_eyes_are_not_calibrated(change: Any, frames: List[np.ndarray]) -> None:
    with pytest.raises(CalibrationError, match='swapped.*exchange.*hflip'):
        calibrate([change(frame) for frame in frames[:15]])


def test_eyes_of_different_moments_are_not_calibrated(frames: List[np.ndarray]) -> None:
    with pytest.raises(CalibrationError, match='one moment'):
        calibrate([(left(one), right(other)) for one, other in zip(frames, frames[5:])])


def test_a_board_that_was_never_tilted_settles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chessboard, 'TURNS', (0.0, 0.0, 0.1))
    with pytest.raises(CalibrationError, match=r'differ by 0\.\d°.*tilt the board'):
        calibrate(frames_of(FULL, 12))


def test_too_few_boards(frames: List[np.ndarray]) -> None:
    blank = np.zeros_like(frames[0])
    half_seen = frames[0].copy()
    right(half_seen)[:] = 0
    with pytest.raises(CalibrationError, match=r'of 9 pairs 7 show .* 9 x 6 .*left: 8, right: 7.*at least 8'):
        calibrate([*frames[:7], blank, half_seen])
    with pytest.raises(CalibrationError, match='of 0 pairs'):
        calibrate([])
    with pytest.raises(CalibrationError, match=r'of 2 pairs 0 show .* 7 x 8'):
        calibrate(frames[:2], board=(7, 8))


def test_unequal_pictures_are_refused(frames: List[np.ndarray]) -> None:
    frame = frames[0]
    for odd in (frame[:, :-1], (left(frame), right(frame)[:-1]), (left(frame),), (left(frame), None), np.zeros(5)):
        with pytest.raises(CalibrationError, match='pair 1 must be two eyes of equal size'):
            calibrate([odd])                                                          # type: ignore[list-item]
    with pytest.raises(CalibrationError, match=r'pair 2 has 320 x 480 pixels an eye, the ones before 640 x 480'):
        calibrate([frame, left(frame)])
    with pytest.raises(CalibrationError, match='uint8'):
        calibrate([frame.astype(np.float32)])


@pytest.mark.parametrize(('board', 'square_mm', 'name'), [
    ((9, 9), 25, 'board'), ((9, 2), 25, 'board'), ((9.0, 6), 25, 'board'), ((9, 6, 3), 25, 'board'),
    ((9, 6), 0, 'square_mm'), ((9, 6), float('nan'), 'square_mm'), ((9, 6), '25', 'square_mm')])
def test_impossible_boards(board: Any, square_mm: Any, name: str) -> None:
    with pytest.raises(SettingsError, match=name):
        calibrate([], board, square_mm)


# ---------------------------------------------------------------------- disparities and depths

@pytest.mark.parametrize('pixel_format', ['bgr', 'gray'])
def test_the_known_disparity_is_found(pixel_format: str) -> None:
    import cv2
    perfect = ideal((320, 240))
    for index, frame in enumerate(frames_of((320, 240), 3, pixel_format, scene='shapes', disparity=12)):
        assert np.array_equal(perfect.rectify(frame)[0], left(frame))
        disparity = perfect.disparity(frame)
        assert disparity.shape == (240, 320) and disparity.dtype == np.float32
        # What is even has no disparity that anyone could see; the outlines of the shapes have.
        image = left(frame) if pixel_format == 'gray' else cv2.cvtColor(left(frame), cv2.COLOR_BGR2GRAY)
        outlines = abs(cv2.Sobel(cv2.GaussianBlur(image, (5, 5), 0), cv2.CV_32F, 1, 0)) > 40
        outlines[:12] = outlines[-12:] = outlines[:, :24] = False
        found = disparity[outlines & np.isfinite(disparity)]
        assert found.size > 200, index
        assert np.mean(abs(found - 12) < 0.5) > 0.9
        assert np.median(perfect.depth_mm(found)) == pytest.approx(256 * 65 / 12, rel=0.01)


@pytest.mark.parametrize(('size', 'tolerance'), [(FULL, 0.015), (SMALL, 0.035)])
def test_depths_are_those_of_the_wall_and_the_board(size: Tuple[int, int], tolerance: float,
                                                    calibration: StereoCalibration) -> None:
    # Measured medians: wall 0.7 % off at 640 x 480 and 1.6 % at 192 x 144 (the matcher leans towards whole pixels,
    # and the wall's disparity is 8), board 0.4 % and 0.6 %.
    import cv2
    fitting = calibration.scaled_to(size)
    truth, camera = Chessboard(*size), camera_of(size)
    for index in (5, 12, 40):
        depth = fitting.depth_mm(fitting.disparity(camera.frame(index)))
        true_depth = cv2.remap(truth.depth_mm(index).astype(np.float32), *fitting.rectification.left_maps,
                               cv2.INTER_NEAREST)
        wall = true_depth > truth.wall_mm - 1
        for part in (wall, ~wall & (true_depth > 0)):
            known = part & np.isfinite(depth)
            assert known.sum() > 0.7 * part.sum()
            assert np.median(depth[known] / true_depth[known]) == pytest.approx(1, abs=tolerance)


def test_rectified_rows_show_the_same(calibration: StereoCalibration) -> None:
    camera, truth = camera_of(FULL), Chessboard(*FULL)
    maps = calibration.rectification
    for index in (3, 20):
        first, second = (find_corners(eye, BOARD) for eye in calibration.rectify(camera.frame(index)))
        assert first is not None and second is not None
        assert np.abs(first[:, 1] - second[:, 1]).max() < 0.3
        raw = [truth.corners(index, number)[:, 1] for number in (0, 1)]
        assert np.abs(raw[0] - raw[1]).max() > 3          # so there was something to rectify
        depth = calibration.depth_mm(first[:, 0] - second[:, 0])
        rays = np.column_stack([(first - maps.center_px) / maps.focal_px, np.ones(len(first))])
        places = (rays * depth[:, None]) @ maps.left_rotation          # in the left eye's coordinates
        turn, shift = truth.pose(index)
        columns, rows = np.mgrid[:BOARD[0], :BOARD[1]] * 25.0
        board = np.column_stack([columns.T.ravel(), rows.T.ravel(), np.zeros(54)]) @ np.array(turn).T + shift
        # The corners may come from either end. Measured: 0.8 mm off at 400 mm, 1.2 at 580.
        assert min(np.abs(places - board).max(), np.abs(places[::-1] - board).max()) < 3


@pytest.mark.parametrize('absurd', [{'translation_mm': [-5e-324, 0, 0]},
                                    {'right_matrix': [[1e8, 0, -1e8], [0, 1e8, 0], [0, 0, 1]]}])
def test_what_cannot_be_rectified_says_so(absurd: Any) -> None:
    with pytest.raises(CalibrationError, match='rectif.*stereo_calibrate'):
        StereoDepth(ideal(SMALL, **absurd)).__enter__()


def test_nothing_is_known_of_an_even_picture(calibration: StereoCalibration) -> None:
    results: 'queue.Queue[Any]' = queue.Queue()
    with StereoDepth(calibration) as callback:
        assert callback(buffer_of(np.full((480, 1280), 90, np.uint8)), results) is None
    assert results.get_nowait() == {'index': 7, 'time_ns': 1_000, 'median_disparity_px': None,
                                    'median_depth_mm': None, 'nearest_depth_mm': None, 'known_part': 0.0}


@pytest.mark.parametrize('pixel_format', ['bgr', 'gray'])
def test_the_callback_measures_and_draws(pixel_format: str, calibration: StereoCalibration) -> None:
    frame = camera_of(SMALL, pixel_format).frame(5)
    results: 'queue.Queue[Any]' = queue.Queue()
    with StereoDepth(calibration.scaled_to(SMALL), near_mm=250, draw=True) as callback:
        picture = callback(buffer_of(frame), results)
    assert picture is not None and picture.shape == frame.shape and picture.dtype == np.uint8
    assert 0.7 < np.mean(right(picture) > 0 if picture.ndim == 2 else right(picture).any(axis=2)) <= 1
    result = results.get_nowait()
    truth = Chessboard(*SMALL)
    assert (result['index'], result['time_ns']) == (7, 1_000)
    assert all(type(result[name]) is float for name in result if name not in ('index', 'time_ns'))
    assert result['median_depth_mm'] == pytest.approx(truth.wall_mm, rel=0.05)
    assert result['nearest_depth_mm'] == pytest.approx(np.percentile(truth.depth_mm(5), 5), rel=0.1)
    assert 0.7 < result['known_part'] <= 1


@pytest.mark.parametrize('change', [swapped, mirrored])
@pytest.mark.parametrize('size', [FULL, SMALL])
def test_swapped_eyes_are_told_until_they_are_put_right(size: Tuple[int, int], change: Any,
                                                        calibration: StereoCalibration,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stereo, 'CHECK_EYES_EVERY', 2)
    results: 'queue.Queue[Any]' = queue.Queue()
    camera = camera_of(size)
    with StereoDepth(calibration.scaled_to(size)) as callback:
        for index in range(2):
            with pytest.raises(CalibrationError, match=f'eyes are {change.__name__} against the calibration'):
                callback(buffer_of(change(camera.frame(index))), results)
        for index in range(2, 6):
            callback(buffer_of(camera.frame(index)), results)
    assert results.qsize() == 4


def test_frames_of_another_size_are_refused(calibration: StereoCalibration) -> None:
    frame = camera_of(SMALL).frame(0)
    with pytest.raises(CalibrationError, match=r'384 x 144 .* 640 x 480 each.*scaled_to\(\(192, 144\)\)'):
        calibration.disparity(frame)
    assert calibration.scaled_to((192, 144)).disparity(frame).shape == (144, 192)
    for wrong in (frame.astype(np.float32), frame[..., :2], frame[0, 0]):
        with pytest.raises(CalibrationError, match='uint8'):
            calibration.rectify(wrong)
    for size in ((640, 400), (0, 0), (640, 0), (-640, -480)):
        with pytest.raises(CalibrationError, match='calibrat'):
            calibration.scaled_to(size)


@pytest.mark.parametrize('bad', [{'near_mm': 0}, {'near_mm': float('nan')}, {'near_mm': None}, {'block_px': 4},
                                 {'block_px': 33}, {'block_px': 5.0}])
def test_impossible_settings(bad: Dict[str, Any], calibration: StereoCalibration) -> None:
    (name, value), = bad.items()
    with pytest.raises(SettingsError, match=name):
        StereoDepth(calibration, **bad)
    with pytest.raises(SettingsError, match=f'{name}={re.escape(repr(value))}'):
        calibration.disparity(np.zeros((480, 1280), np.uint8), **bad)


# ---------------------------------------------------------------------- the file

def same(one: StereoCalibration, other: StereoCalibration) -> bool:
    return all(np.array_equal(getattr(one, item.name), getattr(other, item.name)) for item in dataclasses.fields(one))


def test_what_is_saved_is_loaded(tmp_path: Path, calibration: StereoCalibration) -> None:
    path = tmp_path / 'stereo.json'
    path.write_text('something older')
    calibration.save(path)
    assert same(StereoCalibration.load(path), calibration)
    assert same(StereoDepth(str(path)).calibration, calibration)
    content = json.loads(path.read_text(encoding='utf-8'))
    assert (content['format'], content['version']) == ('ProcessedPiRecorder stereo calibration', 1)
    assert [item.name for item in tmp_path.iterdir()] == ['stereo.json']


def test_it_is_pickled_without_its_maps(calibration: StereoCalibration) -> None:
    assert calibration.rectification.focal_px > 0
    pickled = pickle.dumps(StereoDepth(calibration))
    assert len(pickled) < 10_000
    assert same(pickle.loads(pickled).calibration, calibration)
    with pytest.raises(ValueError, match='read-only'):
        calibration.rotation[0, 0] = 2


def test_files_that_cannot_be(tmp_path: Path, calibration: StereoCalibration) -> None:
    with pytest.raises(CalibrationError, match='none.json cannot be read.*stereo_calibrate'):
        StereoDepth(tmp_path / 'none.json')
    with pytest.raises(CalibrationError, match='cannot be written'):
        calibration.save(tmp_path / 'no-folder' / 'stereo.json')
    with pytest.raises(CalibrationError, match='cannot be written'):
        calibration.save(tmp_path)
    assert not list(tmp_path.iterdir())


def changed(path: Path, calibration: StereoCalibration, **changes: Any) -> Path:
    calibration.save(path)
    content = {**json.loads(path.read_text(encoding='utf-8')), **changes}
    path.write_text(json.dumps({name: value for name, value in content.items() if value != 'gone'}), encoding='utf-8')
    return path


@pytest.mark.parametrize(('changes', 'message'), [
    ({'format': 'another'}, 'no stereo calibration'), ({'version': 2}, 'version 2.*version 1.*update'),
    ({'rotation': 'gone', 'boards': 'gone'}, 'rotation, boards missing'), ({'image_size': [640]}, 'image_size'),
    ({'image_size': [640, 10**6]}, 'image_size'), ({'left_matrix': [[1, 2], [3, 4]]}, 'left_matrix.*3 x 3'),
    ({'left_matrix': np.zeros((3, 3)).tolist()}, 'left_matrix.*camera matrix'),
    ({'right_distortion': [0, 0, 0, 0, float('nan')]}, 'right_distortion.*5 finite'),
    ({'rotation': np.diag([1, 1, -1]).tolist()}, 'rotation matrix'), ({'rotation': [[1, 0, 0]] * 3}, 'rotation matrix'),
    ({'translation_mm': [65, 0, 0]}, 'swapped'), ({'translation_mm': [-10, 65, 0]}, 'side by side'),
    ({'translation_mm': [0, 0, 0]}, 'side by side'), ({'rms_px': -1}, 'rms_px'), ({'rms_px': 10**400}, 'rms_px'),
    ({'boards': 1.5}, 'boards')])
def test_damaged_fields_are_named(changes: Any, message: str, tmp_path: Path, calibration: StereoCalibration) -> None:
    with pytest.raises(CalibrationError, match=f'damaged.json: .*{message}'):
        StereoCalibration.load(changed(tmp_path / 'damaged.json', calibration, **changes))


anything = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
                        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner))
FIELDS = ['format', 'version', *(item.name for item in dataclasses.fields(StereoCalibration))]


def load_or_refuse(path: Path) -> None:
    """It either loads as something that works, or says so as it should."""
    try:
        loaded = StereoCalibration.load(path)
    except CalibrationError as error:
        assert str(error).startswith(f'{path}: ') and len(str(error)) < 800
        return
    assert loaded.baseline_mm > 0 and loaded.rotation.shape == (3, 3)


@given(st.sampled_from(FIELDS), anything)
def test_any_value_in_any_field(tmp_path_factory: Any, name: str, value: Any) -> None:
    path = changed(tmp_path_factory.getbasetemp() / 'field.json', ideal(SMALL), **{name: value})
    load_or_refuse(path)


@given(st.data())
def test_any_damage_to_the_bytes(tmp_path_factory: Any, data: Any) -> None:
    path = tmp_path_factory.getbasetemp() / 'bytes.json'
    ideal(SMALL).save(path)
    content = bytearray(path.read_bytes())
    start = data.draw(st.integers(0, len(content)))
    content[start:start + data.draw(st.integers(0, 200))] = data.draw(st.binary(max_size=20))
    path.write_bytes(content)
    load_or_refuse(path)


@pytest.mark.parametrize('content', [b'', b'[' * 100_000, b' ' * (2 << 20), b'\xff\xfe', b'null', b'9' * 5000])
def test_what_is_no_calibration_at_all(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / 'odd.json'
    path.write_bytes(content)
    with pytest.raises(CalibrationError, match='odd.json: .*stereo_calibrate'):
        StereoCalibration.load(path)


# ---------------------------------------------------------------------- through the recorder

def recorder(path: Path, callback: StereoDepth, cb_type: str, pixel_format: str = 'bgr', size: Any = SMALL) -> ppr:
    camera = SyntheticCamera(scene='chessboard', pace=False, frames=12, width=size[0], height=size[1])
    return ppr(str(path), stereo=True, camera=camera, callback=callback, cb_type=cb_type, pixel_format=pixel_format,
               display=False)


@pytest.mark.parametrize(('cb_type', 'pixel_format'), [('3Proc', 'bgr'), ('2Proc', 'gray')])
def test_recorded_depths(cb_type: str, pixel_format: str, tmp_path: Path, calibration: StereoCalibration) -> None:
    callback = StereoDepth(calibration.scaled_to(SMALL), draw=True)
    rec = recorder(tmp_path / 'depth.tif', callback, cb_type, pixel_format)
    report = rec.recordVid()
    results = list(rec.cb_queue)
    assert (report.complete, report.written, report.returned) == ('yes', 12, 12)
    assert [result['index'] for result in results] == list(range(12))
    wall_mm = Chessboard(*SMALL).wall_mm
    assert [result['median_depth_mm'] for result in results] == pytest.approx([wall_mm] * 12, rel=0.05)
    lines = (tmp_path / 'depth.results.jsonl').read_text(encoding='utf-8').splitlines()
    assert [json.loads(line)['result'] for line in lines] == results
    frame = camera_of(SMALL, pixel_format).frame(3)
    with RecordingFile(tmp_path / 'depth.tif') as recording:
        page = recording.read_page(3)
    with callback:
        assert np.array_equal(page, callback(buffer_of(frame), queue.Queue()))


def test_a_calibration_of_another_size_surfaces_and_the_frames_are_safe(tmp_path: Path,
                                                                       calibration: StereoCalibration) -> None:
    rec = recorder(tmp_path / 'raw.tif', StereoDepth(calibration), '3Proc')
    with pytest.raises(CallbackError, match=r'scaled_to\(\(192, 144\)\)') as caught:
        rec.recordVid()
    assert isinstance(caught.value, RecorderError) and rec.report is not None
    assert (rec.report.written, rec.report.failed) == (12, 12)
    camera = camera_of(SMALL)
    with RecordingFile(tmp_path / 'raw.tif') as recording:
        assert all(np.array_equal(recording.read_page(index), camera.frame(index)) for index in range(12))


def test_the_examples_find_the_truth(tmp_path: Path) -> None:
    swap = SWAP.replace("spec == 'auto'", "spec == 'synthetic'")
    outputs = []
    for name, argument in (('stereo_calibrate', 'synthetic'), ('stereo_calibrate', 'chessboard.tif'),
                           ('stereo_depth', 'synthetic')):
        script = f'{swap}\nimport runpy\nrunpy.run_path({str(REPO / "examples" / name)!r} + ".py", run_name="__main__")'
        outputs.append(run_script(script, tmp_path, argument))
    assert outputs[0] == outputs[1]
    assert re.fullmatch(r'30 pairs, 0\.0\d pixels rms, baseline 6[45]\.\d mm; see stereo\.json\n', outputs[0])
    wall_mm = Chessboard(*SMALL).wall_mm
    medians = [int(found) for found in re.findall(r'median (\d+) mm', outputs[2])]
    assert medians == pytest.approx([wall_mm] * 2, rel=0.05)
