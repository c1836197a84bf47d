"""Calibrating: from pictures of a chessboard to the geometry of the stereo camera that took them."""

from __future__ import annotations

import math
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple, Union

import numpy as np

from ..errors import CalibrationError, SettingsError
from ..frame import left, right
from .calibration import StereoCalibration, is_real, is_whole, size_text, to_gray

__all__ = ['Pair', 'calibrate']

#: A side-by-side frame, or (left, right).
Pair = Union[np.ndarray, Sequence[np.ndarray]]

MIN_BOARDS = 8
MAX_RMS_PX = 2.0              # good calibrations stay below half a pixel
MIN_TILT_DEG = 4.0            # below it, focal length and distance cannot be told apart (10 and more are good)
OUTLIER = 3.0                 # boards that fit this much worse than the median were blurred or misread


def calibrate(pairs: Iterable[Pair], board: Tuple[int, int] = (9, 6), square_mm: float = 25.0) -> StereoCalibration:
    """Measure the geometry of a stereo camera from pictures of a chessboard. Blocks, for 5 to 50 ms a pair and more
    than that for each pair without a board.

    Take 15 to 40 pairs: the board near and far, in the middle and in the corners, tilted to all sides, whole in both
    eyes, at rest when the shutter rolls. Pairs without a whole board are passed over, and so are boards that fit
    three times worse than the others.

    Args:
        pairs: side-by-side frames as the recorder gives them, or (left, right); uint8, BGR or gray; taken one by one.
        board: inner corners (columns, rows): where four squares meet. Two different numbers, from 3.
        square_mm: side of one square. All lengths that come out are as exact as this one.

    Raises SettingsError for an impossible board, and CalibrationError when fewer than 8 pairs show it, when the
    pictures differ in size, when the eyes are swapped or the board was not tilted enough to settle the geometry.
    """
    if not (len(board) == 2 and all(is_whole(inner) and inner >= 3 for inner in board) and board[0] != board[1]):
        raise SettingsError(f'board={board!r} must be two different numbers of inner corners from 3, such as (9, 6)')
    if not (is_real(square_mm) and square_mm > 0):
        raise SettingsError(f'square_mm={square_mm!r} must be the side of one square in millimeters, above 0')
    corners, size = _all_corners(pairs, board)
    points = np.zeros((board[0] * board[1], 3), np.float32)
    points[:, :2] = np.mgrid[:board[0], :board[1]].T.reshape(-1, 2) * square_mm
    solution, errors = _solve(points, corners, size)
    good = [pair for pair, error in zip(corners, errors) if error <= OUTLIER * float(np.median(errors))]
    if MIN_BOARDS <= len(good) < len(corners):
        solution, _ = _solve(points, good, size)
    rms = solution['rms_px']
    if not rms <= MAX_RMS_PX:
        raise CalibrationError(f'the corners lie {rms:.1f} pixels (rms) from where any stereo camera would see them; '
                               f'up to {MAX_RMS_PX:g} is allowed. Are both eyes of one moment, both or none mirrored, '
                               'and the board flat and at rest?')
    return StereoCalibration(image_size=size, **solution)


def _all_corners(pairs: Iterable[Pair], board: Tuple[int, int]) -> Tuple[List[List[np.ndarray]], Tuple[int, int]]:
    """The corners in both eyes of all pairs that show the board, and the size of an eye's picture."""
    corners: List[List[np.ndarray]] = []
    seen, size, count = [0, 0], (0, 0), 0
    for count, pair in enumerate(pairs, 1):
        eyes = _eyes_of(pair, count)
        own_size = eyes[0].shape[1], eyes[0].shape[0]
        if count > 1 and own_size != size:
            raise CalibrationError(f'pair {count} has {size_text(own_size)} pixels an eye, the ones before '
                                   f'{size_text(size)}; pass pictures of one size')
        size = own_size
        found = [_find_corners(eye, board) for eye in eyes]
        seen = [number + (one is not None) for number, one in zip(seen, found)]
        both = [one for one in found if one is not None]
        if len(both) == 2:
            corners.append(_in_one_order(both))
    if len(corners) < MIN_BOARDS:
        raise CalibrationError(
            f'of {count} pairs {len(corners)} show the whole board of {size_text(board)} inner corners in both eyes '
            f'(left: {seen[0]}, right: {seen[1]}); at least {MIN_BOARDS} are needed. Count the inner corners again '
            '(squares less one), keep the white rim in view, and see to light and focus')
    return corners, size


def _solve(points: np.ndarray, corners: Sequence[Sequence[np.ndarray]], size: Tuple[int, int]
           ) -> Tuple[Dict[str, Any], np.ndarray]:
    """The fields of a StereoCalibration, and the error of each pair, pixels."""
    import cv2
    boards, (lefts, rights) = [points] * len(corners), zip(*corners)
    left_eye, right_eye = (_solve_eye(boards, eye, size) for eye in (lefts, rights))
    solved: Any = cv2.stereoCalibrateExtended(boards, lefts, rights, *left_eye, *right_eye, size, np.eye(3),
                                              np.zeros((3, 1)), flags=cv2.CALIB_FIX_INTRINSIC)
    # Between the translation and the errors, OpenCV's versions give different things.
    rms, rotation, translation, errors = solved[0], solved[5], solved[6], solved[-1]
    fields = {'left_matrix': left_eye[0], 'left_distortion': left_eye[1], 'right_matrix': right_eye[0],
              'right_distortion': right_eye[1], 'rotation': rotation, 'translation_mm': translation.ravel(),
              'rms_px': float(rms), 'boards': len(corners)}
    return fields, errors.max(axis=1)


def _solve_eye(boards: Sequence[np.ndarray], corners: Sequence[np.ndarray], size: Tuple[int, int]
               ) -> Tuple[np.ndarray, np.ndarray]:
    """Camera matrix and distortion of one eye."""
    import cv2
    # k3 matters for fish-eyes only, and runs wild where no corner was seen.
    solved: Any = cv2.calibrateCamera(boards, corners, size, None, None, flags=cv2.CALIB_FIX_K3)
    _, matrix, distortion, turns, _ = solved
    normals = np.array([cv2.Rodrigues(turn)[0][:, 2] for turn in turns])
    mean = normals.sum(axis=0) / np.linalg.norm(normals.sum(axis=0))
    tilt = math.degrees(math.sqrt(np.mean(np.arccos(np.clip(normals @ mean, -1, 1)) ** 2)))
    if tilt < MIN_TILT_DEG:
        raise CalibrationError(f'the boards were all held at nearly the same angle (they differ by {tilt:.1f}°, at '
                               f'least {MIN_TILT_DEG:g}° are needed), which leaves the focal length unknown; tilt the '
                               'board to all sides')
    return matrix, distortion.ravel()[:5]


def _eyes_of(pair: Pair, number: int) -> Tuple[np.ndarray, np.ndarray]:
    side_by_side = isinstance(pair, np.ndarray) and pair.ndim in (2, 3)
    eyes = (left(pair), right(pair)) if side_by_side else tuple(pair)     # type: ignore[arg-type]
    shapes = [getattr(eye, 'shape', None) for eye in eyes]
    if len(eyes) != 2 or shapes[0] is None or shapes[0] != shapes[1]:
        raise CalibrationError(f'pair {number} must be two eyes of equal size, not {shapes}; pass side-by-side frames '
                               'of even width, or (left, right)')
    if any(eye.dtype != np.uint8 or eye.ndim not in (2, 3) for eye in eyes):
        raise CalibrationError(f'pair {number} must be uint8, BGR or gray, not {eyes[0].dtype}, {shapes[0]}; pass '
                               'pictures as the recorder gives them')
    return eyes[0], eyes[1]


def _find_corners(image: np.ndarray, board: Tuple[int, int]) -> Optional[np.ndarray]:
    """(corners, 2) float32, to some hundredths of a pixel; None: the board is not wholly there."""
    import cv2
    gray = to_gray(image)
    found, corners = cv2.findChessboardCorners(gray, board)
    if not found:
        # It finds more boards, above all small ones, and takes ten times as long.
        found, corners = cv2.findChessboardCornersSB(gray, board)
    if not found:
        return None
    grid = corners.reshape(board[1], board[0], 2)
    spacing = min(np.linalg.norm(np.diff(grid, axis=axis), axis=2).min() for axis in (0, 1))
    # The window around a corner must not reach the next one.
    reach = int(min(11, max(1, spacing * 0.45)))
    refined = cv2.cornerSubPix(gray, corners.reshape(-1, 1, 2), (reach, reach), (-1, -1),
                               (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_MAX_ITER, 40, 1e-3))
    return refined.reshape(-1, 2)


def _in_one_order(both: List[np.ndarray]) -> List[np.ndarray]:
    """Boards look the same upside down; let both eyes begin at the same end."""
    directions = [corners[-1] - corners[0] for corners in both]
    return both if directions[0] @ directions[1] > 0 else [both[0], both[1][::-1]]
