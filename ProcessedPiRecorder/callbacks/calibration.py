"""The geometry of a stereo camera: a file of JSON, rectified pictures, disparities, depths. See :mod:`.stereo`."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Dict, NamedTuple, Sequence, Tuple, Union

import numpy as np

from ..errors import CalibrationError, SettingsError
from ..frame import left, right

__all__ = ['Rectification', 'StereoCalibration', 'check_matching', 'is_real', 'is_whole', 'size_text', 'to_gray']

FORMAT, VERSION = 'ProcessedPiRecorder stereo calibration', 1
MAX_JSON_BYTES = 1 << 20
MAX_SIDE = 1 << 14            # pixels
HOW_TO_MAKE_ONE = 'make a new one with calibrate(), see examples/stereo_calibrate.py'

SHAPES = {'left_matrix': (3, 3), 'left_distortion': (5,), 'right_matrix': (3, 3), 'right_distortion': (5,),
          'rotation': (3, 3), 'translation_mm': (3,)}


class Rectification(NamedTuple):
    """What makes both eyes' pictures parallel.

    Attributes:
        left_maps, right_maps: for ``cv2.remap``.
        left_rotation: (3, 3), from the left eye's coordinates to those of the rectified picture.
        focal_px: focal length of both rectified pictures, pixels.
        center_px: principal point of both, (x, y).
    """

    left_maps: Tuple[np.ndarray, np.ndarray]
    right_maps: Tuple[np.ndarray, np.ndarray]
    left_rotation: np.ndarray
    focal_px: float
    center_px: Tuple[float, float]


@dataclass(frozen=True, eq=False)
class StereoCalibration:
    """The geometry of a stereo camera, for frames of one size. Made by :func:`calibrate` or :meth:`load`.

    Arrays are float64 and read-only. Raises CalibrationError for values that no stereo camera can have.

    Attributes:
        image_size: (width, height) of one eye's picture, pixels.
        left_matrix, right_matrix: camera matrices, (3, 3), pixels.
        left_distortion, right_distortion: k1, k2, p1, p2, k3.
        rotation, translation_mm: (3, 3) and (3,); take the left eye's coordinates to the right eye's.
        rms_px: root mean square of how far corners lie from where the geometry puts them, pixels.
        boards: how many pairs it was made from.
    """

    image_size: Tuple[int, int]
    left_matrix: np.ndarray
    left_distortion: np.ndarray
    right_matrix: np.ndarray
    right_distortion: np.ndarray
    rotation: np.ndarray
    translation_mm: np.ndarray
    rms_px: float
    boards: int

    def __post_init__(self) -> None:
        size = self.image_size
        self._require('image_size', isinstance(size, (tuple, list)) and len(size) == 2
                      and all(is_whole(side) and 1 <= side <= MAX_SIDE for side in size), 'two sizes in pixels')
        object.__setattr__(self, 'image_size', tuple(int(side) for side in size))
        for name, shape in SHAPES.items():
            object.__setattr__(self, name, self._array(name, shape))
        self._require('boards', is_whole(self.boards) and self.boards >= 0, 'a whole number from 0')
        self._require('rms_px', is_real(self.rms_px) and self.rms_px >= 0, 'pixels, 0 or more')
        object.__setattr__(self, 'rms_px', float(self.rms_px))
        for name in ('left_matrix', 'right_matrix'):
            matrix = getattr(self, name)
            self._require(name, matrix[0, 0] > 0 and matrix[1, 1] > 0 and not matrix[1, 0]
                          and list(matrix[2]) == [0, 0, 1], 'a camera matrix [[fx, s, cx], [0, fy, cy], [0, 0, 1]]')
        with np.errstate(over='ignore', invalid='ignore'):
            turned = self.rotation @ self.rotation.T
            good = np.allclose(turned, np.eye(3), atol=1e-3) and np.linalg.det(self.rotation) > 0
        self._require('rotation', good, 'a rotation matrix')
        _check_sides(self.translation_mm)

    def _array(self, name: str, shape: Tuple[int, ...]) -> np.ndarray:
        try:
            array = np.array(getattr(self, name), np.float64)
        except (TypeError, ValueError, OverflowError):
            array = np.array(math.nan)
        # Beyond 1e9 nothing is a camera, and squares of it stay far from overflowing.
        good = array.shape == shape and bool(np.all(np.abs(array) < 1e9))
        self._require(name, good, f'{" x ".join(map(str, shape))} finite numbers')
        array.flags.writeable = False
        return array

    def _require(self, name: str, good: bool, allowed: str) -> None:
        if not good:
            got = repr(getattr(self, name))
            raise CalibrationError(f'{name} of a stereo calibration must be {allowed}, not '
                                   f'{got if len(got) < 200 else got[:200] + " …"}; {HOW_TO_MAKE_ONE}')

    def __getstate__(self) -> Dict[str, Any]:
        # The maps are large, and quickly made anew where they are needed.
        return {item.name: getattr(self, item.name) for item in fields(self)}

    @property
    def baseline_mm(self) -> float:
        """Distance between the two lenses."""
        return float(np.linalg.norm(self.translation_mm))

    @cached_property
    def rectification(self) -> Rectification:
        """Made at the first use; afterwards at hand in this process."""
        import cv2
        left_eye, right_eye = (self.left_matrix, self.left_distortion), (self.right_matrix, self.right_distortion)
        try:
            solved: Any = cv2.stereoRectify(*left_eye, *right_eye, self.image_size, self.rotation,
                                            self.translation_mm, flags=cv2.CALIB_ZERO_DISPARITY, alpha=0)
            turns, views = solved[:2], solved[2:4]
            maps: Any = [cv2.initUndistortRectifyMap(*eye, turn, view, self.image_size, cv2.CV_16SC2)
                         for eye, turn, view in zip((left_eye, right_eye), turns, views)]
        except cv2.error as error:
            raise CalibrationError(f'OpenCV cannot rectify with this calibration ({" ".join(str(error).split())}); '
                                   f'{HOW_TO_MAKE_ONE}') from None
        focal_px = float(views[0][0, 0])
        if not 0 < focal_px < 1e9:
            raise CalibrationError(f'rectified pictures would have a focal length of {focal_px} pixels; '
                                   f'{HOW_TO_MAKE_ONE}')
        return Rectification(maps[0], maps[1], turns[0], focal_px, (float(views[0][0, 2]), float(views[0][1, 2])))

    def rectify(self, frame: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Both eyes of a side-by-side frame (BGR or gray), rectified: copies of half the frame's width.

        Raises CalibrationError for a frame of another size than the calibration's.
        """
        import cv2
        self._check_size(frame)
        maps = self.rectification
        first, second = (cv2.remap(np.ascontiguousarray(eye), *both, cv2.INTER_LINEAR) for eye, both in
                         ((left(frame), maps.left_maps), (right(frame), maps.right_maps)))
        return first, second

    def disparity(self, frame: np.ndarray, near_mm: float = 300.0, block_px: int = 5) -> np.ndarray:
        """Disparity of every pixel of the rectified left picture: float32, (height, width), NaN where unknown.

        Args:
            frame: side by side, uint8, BGR or gray.
            near_mm: the nearest distance looked for; what is nearer still is unknown or wrong. Farther is faster.
            block_px: side of the blocks that are compared, odd. Larger is smoother and loses small things.
        """
        return self.match(*self.rectify(frame), near_mm, block_px)

    def match(self, left_rectified: np.ndarray, right_rectified: np.ndarray, near_mm: float = 300.0,
              block_px: int = 5) -> np.ndarray:
        """As :meth:`disparity`, from two pictures that are rectified already."""
        import cv2
        check_matching(near_mm, block_px)
        count = self.disparities(near_mm)
        matcher = cv2.StereoSGBM_create(    # type: ignore[attr-defined]   # missing from OpenCV's own stubs
            minDisparity=0, numDisparities=count, blockSize=block_px, P1=8 * block_px ** 2, P2=32 * block_px ** 2,
            disp12MaxDiff=1, uniquenessRatio=10, speckleWindowSize=50, speckleRange=2,
            mode=cv2.STEREO_SGBM_MODE_SGBM_3WAY)
        # The matcher knows nothing of its first columns; with a rim before them, these are the rim's.
        eyes = (cv2.copyMakeBorder(to_gray(eye), 0, 0, count, 0, cv2.BORDER_REPLICATE)
                for eye in (left_rectified, right_rectified))
        found = matcher.compute(*eyes)[:, count:].astype(np.float32) / 16
        beyond_the_edge = found > np.arange(found.shape[1], dtype=np.float32)
        found[(found <= 0) | beyond_the_edge] = np.nan
        return found

    def disparities(self, near_mm: float) -> int:
        """How many disparities have to be tried to see things at ``near_mm``: a multiple of 16."""
        needed = self.rectification.focal_px * self.baseline_mm / near_mm
        return max(16, 16 * math.ceil(min(needed, self.image_size[0]) / 16))

    def depth_mm(self, disparity: np.ndarray) -> np.ndarray:
        """Distances from the left eye along its (rectified) line of sight: float32, NaN where unknown."""
        known = np.where(disparity > 0, disparity, np.nan)
        depth: np.ndarray = self.rectification.focal_px * self.baseline_mm / known
        return depth.astype(np.float32)

    def scaled_to(self, image_size: Tuple[int, int]) -> 'StereoCalibration':
        """The same camera with its pictures resized (``scale_factor``) to (width, height) an eye.

        Raises CalibrationError when the proportions differ: then the camera shows another part of its sensor.
        """
        across, down = (new / old for new, old in zip(image_size, self.image_size))
        if not (across > 0 and abs(across - down) < 0.02 * across):
            raise CalibrationError(f'a calibration for {size_text(self.image_size)} pixels an eye cannot be scaled to '
                                   f'{size_text(image_size)}: the proportions differ; calibrate at the resolution at '
                                   'which you record')
        scale = np.array([[across, 0, across / 2 - 0.5], [0, down, down / 2 - 0.5], [0, 0, 1]])
        changed = {'image_size': tuple(image_size), 'rms_px': self.rms_px * across,
                   'left_matrix': scale @ self.left_matrix, 'right_matrix': scale @ self.right_matrix}
        return StereoCalibration(**{**self.__getstate__(), **changed})

    def save(self, path: Union[str, 'os.PathLike[str]']) -> None:
        """Write it as JSON; a file of this name is replaced. Raises CalibrationError when that cannot be."""
        plain = {name: value.tolist() if isinstance(value, np.ndarray) else value
                 for name, value in self.__getstate__().items()}
        lines = (f' {json.dumps(name)}: {json.dumps(value)}'
                 for name, value in {'format': FORMAT, 'version': VERSION, **plain}.items())
        text = '{\n' + ',\n'.join(lines) + '\n}\n'
        new = Path(f'{os.fspath(path)}.new')
        try:
            new.write_text(text, encoding='utf-8')
            os.replace(new, path)
        except OSError as error:
            new.unlink(missing_ok=True)
            raise CalibrationError(f'the calibration {path} cannot be written: {error.strerror}; check the folder '
                                   'and its permissions') from error

    @classmethod
    def load(cls, path: Union[str, 'os.PathLike[str]']) -> 'StereoCalibration':
        """Read what :meth:`save` wrote. Raises CalibrationError, naming the file, when it cannot be used."""
        try:
            with open(path, 'rb') as file:
                text = file.read(MAX_JSON_BYTES + 1)
        except OSError as error:
            raise CalibrationError(f'the calibration {path} cannot be read: {error.strerror}; '
                                   f'{HOW_TO_MAKE_ONE}') from error
        try:
            return cls(**_parsed(text))
        except CalibrationError as error:
            raise CalibrationError(f'{path}: {error}') from None

    def _check_size(self, frame: np.ndarray) -> None:
        if frame.dtype != np.uint8 or frame.ndim not in (2, 3) or frame.shape[2:] not in ((), (3,)):
            raise CalibrationError(f'a frame is uint8, (height, width) or (height, width, 3), not {frame.dtype}, '
                                   f'{frame.shape}; pass frames as the recorder gives them')
        height, width = frame.shape[:2]
        if (width, height) != (2 * self.image_size[0], self.image_size[1]):
            raise CalibrationError(
                f'the frames are {size_text((width, height))} pixels, but the calibration was made for two eyes of '
                f'{size_text(self.image_size)} each; for frames that differ by scale_factor only, use '
                f'calibration.scaled_to(({width // 2}, {height})), else calibrate at this resolution')


def _check_sides(translation_mm: np.ndarray) -> None:
    x, y, z = (float(part) for part in translation_mm)
    if max(abs(y), abs(z)) >= abs(x):
        raise CalibrationError(f'the right eye lies {-x:.0f} mm to the right of the left one, {-y:.0f} mm below and '
                               f'{-z:.0f} mm ahead; only eyes side by side are possible: turn the camera, or mount the '
                               'eyes in parallel')
    if x > 0:
        raise CalibrationError('the eyes are swapped: what came as the left eye lies to the right of the other; '
                               'exchange the two camera cables, or mirror both pictures (a StereoPi needs hflip)')


def _parsed(text: bytes) -> Dict[str, Any]:
    """The fields of a StereoCalibration from its JSON."""
    if len(text) > MAX_JSON_BYTES:
        raise CalibrationError(f'more than {MAX_JSON_BYTES} bytes are no stereo calibration; {HOW_TO_MAKE_ONE}')
    try:
        content = json.loads(text.decode('utf-8'))
    except (ValueError, RecursionError) as error:
        raise CalibrationError(f'this is not JSON ({str(error)[:100]}); {HOW_TO_MAKE_ONE}') from None
    if not isinstance(content, dict) or content.get('format') != FORMAT:
        raise CalibrationError(f'this is no stereo calibration of ProcessedPiRecorder; {HOW_TO_MAKE_ONE}')
    if content.get('version') != VERSION:
        raise CalibrationError(f'this calibration has version {str(content.get("version"))[:20]}, this program reads '
                               f'version {VERSION}; update ProcessedPiRecorder, or {HOW_TO_MAKE_ONE}')
    names = [item.name for item in fields(StereoCalibration)]
    missing = [name for name in names if name not in content]
    if missing:
        raise CalibrationError(f'{", ".join(missing)} missing; {HOW_TO_MAKE_ONE}')
    return {name: content[name] for name in names}


def check_matching(near_mm: float, block_px: int) -> None:
    """Raises SettingsError for a distance or a block size that cannot be."""
    if not (is_real(near_mm) and near_mm > 0):
        raise SettingsError(f'near_mm={near_mm!r} must be a distance above 0 in millimeters, such as 300')
    if not (is_whole(block_px) and 1 <= block_px <= 31 and block_px % 2):
        raise SettingsError(f'block_px={block_px!r} must be an odd number from 1 to 31; 5 is usual')


def to_gray(image: np.ndarray) -> np.ndarray:
    """(height, width), contiguous, from BGR or gray."""
    import cv2
    plain = np.ascontiguousarray(image)
    return cv2.cvtColor(plain, cv2.COLOR_BGR2GRAY) if plain.ndim == 3 else plain


def size_text(size: Sequence[Any]) -> str:
    """As people write it: 640 x 480."""
    return ' x '.join(map(str, size))


def is_whole(value: Any) -> bool:
    """Whether it is an integer; True and False are none."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def is_real(value: Any) -> bool:
    """Whether it is a finite number, and not so large that a float could not hold it."""
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    return number and bool(abs(value) < 1e300)
