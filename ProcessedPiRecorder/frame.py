"""A frame: a numpy array that knows which one it is and when it was taken."""

from __future__ import annotations

from typing import Any, Optional, Sequence

import numpy as np

__all__ = ['Frame', 'left', 'right', 'why_not_recordable']


class Frame(np.ndarray):
    """One image from the camera, with its place in the recording.

    It *is* a numpy array: uint8, shape (height, width, 3) in BGR order or (height, width) gray, so every
    numpy and OpenCV call takes it. Views and copies keep the attributes, and so does pickling.

    Attributes:
        index: its number among the frames that the sensor made, from 0. Lost frames leave gaps.
        time_ns: its originating time, nanoseconds since 1970-01-01 UTC; strictly increasing.
    """

    index: Optional[int]
    time_ns: Optional[int]

    def __new__(cls, image: Any, index: Optional[int] = None, time_ns: Optional[int] = None) -> 'Frame':
        frame = np.asarray(image).view(cls)
        frame.index = index
        frame.time_ns = time_ns
        return frame

    def __array_finalize__(self, source: Any) -> None:
        self.index = getattr(source, 'index', None)
        self.time_ns = getattr(source, 'time_ns', None)

    def __reduce__(self) -> Any:
        reduced: Any = super().__reduce__()
        return reduced[0], reduced[1], (reduced[2], self.index, self.time_ns)

    def __setstate__(self, state: Any) -> None:
        array_state, self.index, self.time_ns = state
        super().__setstate__(array_state)


def left(frame: np.ndarray) -> np.ndarray:
    """The left eye's half of a side-by-side stereo frame, as a view (no copy)."""
    return frame[:, :frame.shape[1] // 2]


def right(frame: np.ndarray) -> np.ndarray:
    """The right eye's half of a side-by-side stereo frame, as a view (no copy)."""
    return frame[:, frame.shape[1] // 2:]


def why_not_recordable(returned: Any, shape: Sequence[int]) -> str:
    """Why what a callback returned cannot stand in the recording for a frame of this shape; '' when it can, or is None.
    """
    if returned is None:
        return ''
    if not isinstance(returned, np.ndarray):
        what = f'a {type(returned).__name__}'
    elif returned.dtype != np.uint8 or returned.shape != tuple(shape):
        what = f'an array of {returned.dtype}, shape {returned.shape}'
    else:
        return ''
    return f'it returned {what}; it must return None or a frame to record: uint8, shape {tuple(shape)}'
