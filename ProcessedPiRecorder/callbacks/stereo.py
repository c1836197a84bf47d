"""Depth from stereo: calibrate once with a chessboard, then measure distances in a ready-made callback.

::

    from ProcessedPiRecorder.callbacks.stereo import StereoDepth, calibrate
    calibration = calibrate(frames, board=(9, 6), square_mm=25)     # side-by-side frames that show the board
    calibration.save('stereo.json')
    rec = ppr('trial.tif', stereo=True, callback=StereoDepth('stereo.json'), cb_type='3Proc')

All geometry is OpenCV's, in its conventions: x to the right, y down, z ahead, millimeters; distances are along z.
*Rectified* pictures of the two eyes show the same thing in the same row, *disparity* is how many pixels further left
the right eye sees it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Dict, Optional, Sequence, Union

import numpy as np

from ..errors import CalibrationError
from ..frame import left, right
from .boards import calibrate
from .calibration import Rectification, StereoCalibration, check_matching

if TYPE_CHECKING:
    from ..frame import Frame

__all__ = ['Rectification', 'StereoCalibration', 'StereoDepth', 'calibrate']

#: Whether the eyes are swapped or mirrored is looked at on the first frame and then after so many.
CHECK_EYES_EVERY = 100


class StereoDepth:
    """A callback that measures distances in the newest frame of a stereo camera.

    For each frame it puts on the cb_queue: ``{'index': int, 'time_ns': int, 'median_disparity_px': float,
    'median_depth_mm': float, 'nearest_depth_mm': float, 'known_part': float}``. ``nearest_depth_mm`` is the 5th
    percentile: what is nearer than 95 % of the picture. ``known_part`` (0 to 1) is the part of the pixels whose
    distance could be told; when it is 0, the measures are None.

    The maps are made in ``__enter__``, in the process where the callback runs. It raises CalibrationError for frames
    of another size than the calibration's, and while the eyes are swapped or mirrored (looked at on the first and
    every 100th frame): no distance is better than a wrong one. The frames are recorded as they came all the same.

    How exact it is: OpenCV's matcher leans towards whole pixels and may be 0.25 px off. That is a part of
    0.25 / disparity of the distance: 3 % where the disparity is 8 px, 0.5 % where it is 50 px.

    Args:
        calibration: a StereoCalibration, or the path of one; read at once, so that errors come before the recording.
        near_mm: the nearest distance looked for, mm; what is nearer still is unknown or wrong. Farther is faster.
        block_px: side of the blocks that are compared, an odd number from 1.
        draw: return the rectified left picture and the disparities beside it, to be recorded so (near is red, or
            white in gray; unknown is black); else the frame is recorded as it came.
    """

    def __init__(self, calibration: Union[StereoCalibration, str, 'os.PathLike[str]'], near_mm: float = 300.0,
                 block_px: int = 5, draw: bool = False) -> None:
        check_matching(near_mm, block_px)
        if not isinstance(calibration, StereoCalibration):
            calibration = StereoCalibration.load(calibration)
        self.calibration = calibration
        self.near_mm = float(near_mm)
        self.block_px = int(block_px)
        self.draw = draw
        self._calls = 0
        self._wrong = ''

    def __enter__(self) -> 'StereoDepth':
        assert self.calibration.rectification is not None      # makes the maps
        self._calls, self._wrong = 0, ''
        return self

    def __exit__(self, *exception: object) -> None:
        """Nothing to give back."""

    def __call__(self, buffer: 'Sequence[Frame]', cb_queue: Any) -> Optional[np.ndarray]:
        """The callback. Works with every buffer length; looks at ``buffer[-1]``."""
        frame = buffer[-1]
        eyes = self.calibration.rectify(frame)
        disparity = self.calibration.match(*eyes, self.near_mm, self.block_px)
        self._check_eyes(frame, disparity)
        cb_queue.put({'index': frame.index, 'time_ns': frame.time_ns, **self.measures(disparity)})
        return self.picture(eyes[0], disparity) if self.draw else None

    def measures(self, disparity: np.ndarray) -> Dict[str, Optional[float]]:
        """The numbers that are put for a disparity map."""
        known = disparity[np.isfinite(disparity)]
        names = ('median_disparity_px', 'median_depth_mm', 'nearest_depth_mm')
        if not known.size:
            return {**dict.fromkeys(names), 'known_part': 0.0}
        middle, near = np.median(known), np.percentile(known, 95)
        depths = self.calibration.depth_mm(np.array([middle, near]))
        return {**dict(zip(names, (float(middle), *map(float, depths)))), 'known_part': known.size / disparity.size}

    def picture(self, left_rectified: np.ndarray, disparity: np.ndarray) -> np.ndarray:
        """The left picture and its disparities side by side, of the shape that the frame had."""
        import cv2
        count = self.calibration.disparities(self.near_mm)
        unknown = np.isnan(disparity)
        shades = (np.where(unknown, 0, disparity) * (255 / count)).clip(0, 255).astype(np.uint8)
        if left_rectified.ndim == 3:
            shades = cv2.applyColorMap(shades, cv2.COLORMAP_TURBO)
            shades[unknown] = 0
        return np.hstack([left_rectified, shades])

    def _check_eyes(self, frame: np.ndarray, disparity: np.ndarray) -> None:
        if self._calls % CHECK_EYES_EVERY == 0:
            self._wrong = self._what_fits_better(frame, float(np.isfinite(disparity).mean()))
        self._calls += 1
        if self._wrong:
            raise CalibrationError(f'{self._wrong}, so no distance would be true; undo it, or calibrate anew')

    def _what_fits_better(self, frame: np.ndarray, known: float) -> str:
        """What has happened to the frame, when the eyes match far better once it is undone."""
        undone = {'the eyes are swapped against the calibration (are the camera cables exchanged?)':
                  (right(frame), left(frame)),
                  'both eyes are mirrored against the calibration (is hflip as it was?)':
                  (left(frame)[:, ::-1], right(frame)[:, ::-1])}
        maps = {what: self.calibration.disparity(np.hstack(eyes), self.near_mm, self.block_px)
                for what, eyes in undone.items()}
        parts = {what: float(np.isfinite(map_).mean()) for what, map_ in maps.items()}
        best = max(parts, key=lambda what: parts[what])
        return best if parts[best] > max(0.4, 1.5 * known) else ''
