"""What a callback found, drawn into a picture; and pictures of any depth made fit for a screen.

Any result counts that has boxes or points in it, alone or in lists and dicts, however deep. Boxes are dicts with
``x, y, w, h``; points (key points, trajectories) are dicts with ``x`` and ``y``, and no ``w`` and ``h``.
"""

from __future__ import annotations

import math
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Tuple

import numpy as np

from ..reading import Result

__all__ = ['Box', 'Point', 'draw_boxes', 'draw_points', 'eight_bit', 'find_boxes', 'find_points', 'real',
           'shades', 'write_text']

#: BGR: a bright green on a dark rim shows on any picture, for the colour-blind too.
RIM, GREEN, WHITE = (40, 40, 40), (60, 220, 60), 255
LARGEST = 1e300                # JSON's whole numbers may be larger than any float
FAR = 1 << 15                  # pixels: beyond it OpenCV's lines overflow
ARM = 6                        # pixels of each of a cross's arms


class Box(NamedTuple):
    """A box in pixels of the frame: its upper left corner, width and height."""

    x: float
    y: float
    w: float
    h: float


class Point(NamedTuple):
    """In pixels of the frame."""

    x: float
    y: float


def find_boxes(result: Any) -> List[Box]:
    """Every box in a result (or a :class:`~..reading.Result`): any dict with finite numbers x, y, w and h."""
    return [Box(*(float(item[name]) for name in 'xywh')) for item in _dicts_with('xywh', result)]


def find_points(result: Any) -> List[Point]:
    """Every point in a result (or a :class:`~..reading.Result`): any dict with finite numbers x and y, and no size."""
    return [Point(float(item['x']), float(item['y'])) for item in _dicts_with('xy', result)
            if 'w' not in item and 'h' not in item]


def draw_boxes(image: np.ndarray, results: Iterable[Any], scale: float = 1.0) -> int:
    """Draw the boxes of some results into an image, in place; returns how many there were.

    image: uint8, (height, width, 3) BGR or (height, width) gray. results: such as ``recording.results_of(page)``, or
    what was put, or boxes. scale: pixels of the image for each pixel of the frame.
    """
    import cv2
    boxes = [box for result in results for box in ([result] if isinstance(result, Box) else find_boxes(result))]
    gray = image.ndim == 2
    for box in boxes:
        corners = ((_pixel(box.x * scale), _pixel(box.y * scale)),
                   (_pixel((box.x + box.w) * scale) - 1, _pixel((box.y + box.h) * scale) - 1))
        cv2.rectangle(image, *corners, RIM[:1] if gray else RIM, 4, cv2.LINE_AA)
        cv2.rectangle(image, *corners, WHITE if gray else GREEN, 2, cv2.LINE_AA)
    return len(boxes)


def draw_points(image: np.ndarray, points: Iterable[Point], scale: float = 1.0) -> None:
    """Draw a cross at each point into a uint8 image, BGR or gray; scale: its pixels for each pixel of the frame."""
    import cv2
    gray = image.ndim == 2
    for point in points:
        x, y = (point.x + 0.5) * scale, (point.y + 0.5) * scale
        if max(abs(x), abs(y)) < FAR:
            for color, thickness in ((RIM[:1] if gray else RIM, 4), (WHITE if gray else GREEN, 2)):
                cv2.drawMarker(image, (int(x), int(y)), color, cv2.MARKER_CROSS, 2 * ARM, thickness, cv2.LINE_AA)


def real(image: np.ndarray) -> np.ndarray:
    """The image in numbers that have shades: of complex samples their magnitudes."""
    return np.abs(image) if image.dtype.kind == 'c' else np.asarray(image)


def shades(images: Iterable[np.ndarray]) -> Tuple[float, float]:
    """The darkest and the brightest sample of some images; (0, 255) if they are 8-bit, and need no scaling."""
    darkest, brightest = math.inf, -math.inf
    for image in images:
        if image.dtype == np.uint8:
            return 0.0, 255.0
        finite = image[np.isfinite(image)] if image.dtype.kind == 'f' else image
        if finite.size:
            darkest, brightest = min(darkest, float(finite.min())), max(brightest, float(finite.max()))
    return (darkest, brightest) if darkest <= brightest else (0.0, 255.0)


def eight_bit(image: np.ndarray, darkest: float, brightest: float) -> np.ndarray:
    """An image as uint8, from ``darkest`` (0) to ``brightest`` (255); 8-bit ones as they are. NaN becomes 0."""
    if image.dtype == np.uint8:
        return image
    scaled = (image.astype(np.float64) - darkest) * (255 / max(brightest - darkest, 1e-300))
    return np.rint(np.clip(np.nan_to_num(scaled, nan=0.0), 0, 255)).astype(np.uint8)


def write_text(image: np.ndarray, text: str, place: Tuple[int, int], size: float, color: Tuple[int, int, int]) -> None:
    """A line of text into a BGR image, its baseline beginning at ``place``; OpenCV's fonts know ASCII only."""
    import cv2
    plain = text.encode('ascii', 'replace').decode()
    cv2.putText(image, plain, place, cv2.FONT_HERSHEY_SIMPLEX, size, color, 1, cv2.LINE_AA)


def _dicts_with(names: str, result: Any) -> Iterator[Dict[str, Any]]:
    """Every dict in a result that has finite numbers under these names; nothing is looked for within one."""
    ahead = [result.result if isinstance(result, Result) else result]
    while ahead:                   # no recursion: results may be nested deeper than calls can be
        item = ahead.pop()
        if isinstance(item, dict):
            if all(_is_number(item.get(name)) for name in names):
                yield item
                continue
            item = list(item.values())
        if isinstance(item, list):
            ahead.extend(reversed(item))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < LARGEST


def _pixel(position: float) -> int:
    return round(min(max(position, -FAR), FAR))
