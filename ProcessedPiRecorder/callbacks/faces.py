"""Find faces: a ready-made callback on OpenCV's own cascade files.

::

    from ProcessedPiRecorder.callbacks.faces import FaceDetector
    rec = ppr('trial.tif', callback=FaceDetector(draw=True), cb_type='3Proc')

or, on the command line, ``--callback ProcessedPiRecorder.callbacks.faces:find_faces``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from ..errors import CallbackError, SettingsError

if TYPE_CHECKING:
    from ..frame import Frame

__all__ = ['FaceDetector', 'find_faces']

Box = Tuple[int, int, int, int]

#: Debian's and Raspberry Pi OS's own OpenCV keep their cascades here (package opencv-data).
SYSTEM_FOLDERS = ('/usr/share/opencv4/haarcascades', '/usr/share/opencv4/lbpcascades',
                  '/usr/share/opencv/haarcascades')


class FaceDetector:
    """A callback that looks for faces in the newest frame and puts what it found, for every frame.

    For each frame it puts ``{'index': int, 'time_ns': int, 'faces': [{'x', 'y', 'w', 'h'}, ...]}`` on the
    cb_queue: plain ints, pixels of the frame, (x, y) the upper left corner, the largest face first. A frame
    without a face gives an empty list, so that "no face" and "not looked at" are never confused.

    The cascade is loaded in ``__enter__``, in the process where the callback runs; until then the detector is
    a few numbers and can be pickled. One detector serves one stream of frames.

    Args:
        cascade: name of one of OpenCV's cascade files, or the path of one (Haar or LBP).
        draw: return the frame with the faces framed, to be recorded so; else the frame is recorded as it came.
        scale_factor: step between the sizes looked at, > 1. Nearer to 1 finds more and takes longer.
        min_neighbors: how many overlapping hits make a face; fewer finds more, also false ones.
        min_size: the smallest face to look for, as a part of the frame's shorter side.
        tilts: tilts of the head to try in turn until one gives a face; degrees, counter-clockwise. Cascades
            know upright faces only: (0,) is the fastest, and misses heads that lean by more than about 10°.
        max_side: frames with a longer side than this (pixels) are shrunk for the search.
    """

    def __init__(self, cascade: str = 'haarcascade_frontalface_alt2.xml', draw: bool = False,
                 scale_factor: float = 1.1, min_neighbors: int = 5, min_size: float = 0.15,
                 tilts: Sequence[float] = (0, 15, -15), max_side: int = 320) -> None:
        if not scale_factor > 1:
            raise SettingsError(f'scale_factor={scale_factor!r} must be above 1, such as 1.1')
        if min_neighbors < 0:
            raise SettingsError(f'min_neighbors={min_neighbors!r} must not be negative; 3 to 6 is usual')
        if not 0 <= min_size <= 1:
            raise SettingsError(f'min_size={min_size!r} must be between 0 and 1: a part of the frame\'s shorter side')
        if not tilts:
            raise SettingsError('tilts is empty, so nothing would be looked for; use (0,) for upright faces')
        if max_side < 16:
            raise SettingsError(f'max_side={max_side!r} is too small to find a face in; use 320 or so')
        self.cascade = cascade
        self.draw = draw
        self.scale_factor = scale_factor
        self.min_neighbors = min_neighbors
        self.min_size = min_size
        self.tilts = tuple(float(tilt) for tilt in tilts)
        self.max_side = max_side
        self._classifier: Any = None
        self._last_tilt = self.tilts[0]

    def __enter__(self) -> 'FaceDetector':
        self._classifier = load_cascade(self.cascade)
        self._last_tilt = self.tilts[0]
        return self

    def __exit__(self, *exception: object) -> None:
        self._classifier = None

    def __getstate__(self) -> Dict[str, Any]:
        # A loaded cascade is an object of OpenCV's that cannot be pickled; the other side loads its own.
        return {**self.__dict__, '_classifier': None}

    def __call__(self, buffer: 'Sequence[Frame]', cb_queue: Any) -> Optional[np.ndarray]:
        """The callback. Works with every buffer length; looks at ``buffer[-1]``."""
        frame = buffer[-1]
        faces = self.find(frame)
        cb_queue.put({'index': frame.index, 'time_ns': frame.time_ns,
                      'faces': [dict(zip('xywh', box)) for box in faces]})
        return framed(frame, faces) if self.draw else None

    def find(self, image: np.ndarray) -> List[Box]:
        """The faces in an image, uint8, (height, width, 3) BGR or (height, width): (x, y, w, h), largest first."""
        if self._classifier is None:
            self.__enter__()
        gray, shrunk = self._prepare(image)
        for tilt in self._tilts_in_turn():
            boxes = self._upright_faces(turned(gray, -tilt))
            if boxes:
                self._last_tilt = tilt
                placed = (place_back(box, gray.shape, tilt, shrunk, image.shape) for box in boxes)
                return sorted(placed, key=lambda box: -box[2] * box[3])
        return []

    def _tilts_in_turn(self) -> Iterator[float]:
        # A head keeps its tilt for some frames: the last one that gave a face most likely gives it again.
        yield self._last_tilt
        yield from (tilt for tilt in self.tilts if tilt != self._last_tilt)

    def _prepare(self, image: np.ndarray) -> Tuple[np.ndarray, float]:
        import cv2
        plain = np.asarray(image)
        gray = cv2.cvtColor(plain, cv2.COLOR_BGR2GRAY) if plain.ndim == 3 else plain
        shrink = min(1.0, self.max_side / max(gray.shape))
        if shrink < 1:
            gray = cv2.resize(gray, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
        return gray, shrink

    def _upright_faces(self, gray: np.ndarray) -> List[Box]:
        side = max(1, int(min(gray.shape) * self.min_size))
        found = self._classifier.detectMultiScale(gray, self.scale_factor, self.min_neighbors, minSize=(side, side))
        return [(int(x), int(y), int(w), int(h)) for x, y, w, h in found]


def turned(gray: np.ndarray, degrees: float) -> np.ndarray:
    """The image turned counter-clockwise about its middle, same size; what comes in from outside is black."""
    import cv2
    if not degrees:
        return gray
    height, width = gray.shape
    return cv2.warpAffine(gray, cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1), (width, height))


def place_back(box: Box, searched_shape: Tuple[int, ...], tilt: float, shrink: float,
               image_shape: Tuple[int, ...]) -> Box:
    """A box found in the turned and shrunk image, as an upright box of the whole image, clipped to it."""
    x, y, w, h = box
    height, width = searched_shape[:2]
    across, down = x + w / 2 - width / 2, y + h / 2 - height / 2
    cosine, sine = np.cos(np.radians(tilt)), np.sin(np.radians(tilt))
    # y points down, so turning counter-clockwise by tilt takes (across, down) to:
    middle_x = (across * cosine + down * sine + width / 2) / shrink
    middle_y = (-across * sine + down * cosine + height / 2) / shrink
    left, top = int(round(middle_x - w / shrink / 2)), int(round(middle_y - h / shrink / 2))
    right, bottom = left + int(round(w / shrink)), top + int(round(h / shrink))
    left, top = max(0, left), max(0, top)
    return left, top, min(right, image_shape[1]) - left, min(bottom, image_shape[0]) - top


def framed(image: np.ndarray, boxes: Sequence[Box]) -> np.ndarray:
    """The image with a box drawn around each face, in place."""
    import cv2
    thickness = max(1, min(image.shape[:2]) // 160)
    color = (64, 224, 64) if image.ndim == 3 else (255,)
    for x, y, w, h in boxes:
        cv2.rectangle(image, (x, y), (x + w - 1, y + h - 1), color, thickness)
    return image


def load_cascade(cascade: str) -> Any:
    """An OpenCV CascadeClassifier from a file's path, or from the name of one of OpenCV's own.

    Raises CallbackError when there is no such file or it is not a cascade.
    """
    import cv2
    folders = cascade_folders()
    for path in [Path(cascade), *(folder / cascade for folder in folders)]:
        if path.is_file():
            try:
                classifier = cv2.CascadeClassifier(str(path))
            except cv2.error:
                classifier = None
            if classifier is None or classifier.empty():
                raise CallbackError(f'{path} is not a cascade that OpenCV {cv2.__version__} can read; '
                                    'pass a Haar or LBP cascade file (.xml)')
            return classifier
    known = sorted(file.name for folder in folders for file in folder.glob('*.xml'))
    if known:
        raise CallbackError(f'there is no cascade {cascade!r}; OpenCV {cv2.__version__} brings {", ".join(known)}; '
                            'or pass the path of a cascade file')
    raise CallbackError(f'OpenCV {cv2.__version__} here brings no cascade files (OpenCV 5 does not), so '
                        f'{cascade!r} cannot be loaded; install one that does:  '
                        'pip install "opencv-contrib-python>=4.6,<5"  or pass the path of a cascade file')


def cascade_folders() -> List[Path]:
    """Where this machine's OpenCV keeps its cascade files."""
    import cv2
    data = getattr(cv2, 'data', None)
    own = [getattr(data, 'haarcascades', '')] if data is not None else []
    return [Path(folder) for folder in (*own, *SYSTEM_FOLDERS) if folder and os.path.isdir(folder)]


#: A FaceDetector with its default settings, ready to be named: ``ProcessedPiRecorder.callbacks.faces:find_faces``.
find_faces = FaceDetector()
