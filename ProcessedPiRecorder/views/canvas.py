"""What the window shows: the frame, and below it a time line and some lines of text, none over the other.

Drawn in the pixels of the window, so that the text is sharp however large the frame is.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from .drawing import draw_boxes, draw_points, find_boxes, find_points, write_text
from .facts import Facts

__all__ = ['Canvas', 'Scene', 'first_size', 'on_button', 'on_timeline', 'page_under', 'panel_height', 'plain',
           'text_width']

LEAST_WIDTH, LEAST_HEIGHT = 480, 270            # pixels of the canvas
MOST_WIDTH, MOST_HEIGHT = 1280, 720             # of the picture in a new window
COMFORTABLE = 720                               # a new window is at least so wide
MARGIN, LINE, TIMELINE = 10, 20, 34             # pixels
TEXT, GAP = 0.45, 22                            # OpenCV's size of text; pixels between what stands side by side
LEAST_LETTERS = 8                               # of what is cut
DARK, GROUND, BAR, DONE = (24, 24, 24), (38, 36, 34), (90, 86, 82), (210, 170, 90)     # BGR
INK, FAINT = (235, 235, 235), (165, 165, 165)
COLORS = {'plain': FAINT, 'mark': (80, 220, 250), 'warning': (60, 170, 255), 'bad': (110, 110, 255)}
WIDE = 1040                                     # from here on, a place fits into one line
BUTTON = 26                                     # width of play and pause


class Scene(NamedTuple):
    """What is to be seen.

    pixels: uint8, (height, width, 3) BGR or (height, width) gray; None: ``instead`` says why.
    boxes: whether results are drawn; offset: columns of the frame left of ``pixels`` (the right eye).
    hint: a few words for the right end of the time line; message: a line for the user.
    """

    page: int
    pages: int
    pixels: Optional[np.ndarray]
    facts: Facts
    playing: bool = False
    overlay: bool = True
    offset: int = 0
    hint: str = ''
    message: str = ''
    instead: str = ''
    help: Sequence[Tuple[str, str]] = ()


def panel_height(width: int) -> int:
    """Pixels below the picture; a narrow window needs another line."""
    return TIMELINE + (4 if width >= WIDE else 5) * LINE + MARGIN


def first_size(height: int, width: int) -> Tuple[int, int]:
    """(height, width) of the canvas of a new window: the frame's own pixels, or each several times, where they fit."""
    scale = min(MOST_WIDTH / width, MOST_HEIGHT / height)
    if scale >= 1:
        scale = int(scale)
    canvas_width = max(round(width * scale), COMFORTABLE)
    return max(round(height * scale) + panel_height(canvas_width), LEAST_HEIGHT), canvas_width


def page_under(x: int, width: int, pages: int) -> int:
    """The page at a column of the time line."""
    left, right = _bar(width)
    return round(min(max((x - left) / (right - left), 0.0), 1.0) * (pages - 1))


def on_timeline(y: int, height: int, width: int) -> bool:
    """Whether a row of the canvas belongs to the time line."""
    top = height - panel_height(width)
    return top <= y < top + TIMELINE


def on_button(x: int) -> bool:
    """Whether a column of the time line belongs to play and pause."""
    return x < MARGIN + BUTTON


class Canvas:
    """Draws scenes of one recording.

    lossy, marked: pages that are told on the time line. widest: the longest texts of a place, so that each of them
    stays where it is while they change.
    """

    def __init__(self, pages: int, lossy: np.ndarray, marked: np.ndarray, widest: Sequence[str]) -> None:
        self._pages, self._lossy, self._marked, self._widest = pages, lossy, marked, widest
        self._ground = lru_cache(maxsize=1)(self._draw_ground)

    def draw(self, scene: Scene, height: int, width: int) -> np.ndarray:
        """The scene, uint8 (height, width, 3) BGR; never smaller than LEAST_HEIGHT × LEAST_WIDTH."""
        height, width = max(height, LEAST_HEIGHT), max(width, LEAST_WIDTH)
        canvas = np.empty((height, width, 3), np.uint8)
        below = height - panel_height(width)
        _draw_picture(canvas[:below], scene)
        canvas[below:] = self._ground(width)
        self._draw_timeline(canvas[below:below + TIMELINE], scene)
        self._draw_text(canvas[below + TIMELINE:], scene)
        if scene.help:
            _draw_help(canvas[:below], scene.help)
        return canvas

    def _draw_ground(self, width: int) -> np.ndarray:
        ground = np.empty((panel_height(width), width, 3), np.uint8)
        ground[:] = GROUND
        left, right = _bar(width)
        middle = TIMELINE // 2
        ground[middle - 2:middle + 2, left:right + 1] = BAR
        for pages, rows, color in ((self._lossy, slice(middle - 13, middle - 6), COLORS['bad']),
                                   (self._marked, slice(middle + 7, middle + 14), COLORS['mark'])):
            columns = np.unique(left + (pages * (right - left)) // max(self._pages - 1, 1))
            for thick in (0, 1):
                ground[rows, np.minimum(columns + thick, width - 1)] = color
        return ground

    def _draw_timeline(self, strip: np.ndarray, scene: Scene) -> None:
        import cv2
        left, right = _bar(strip.shape[1])
        middle = TIMELINE // 2
        x = left + round(scene.page / max(scene.pages - 1, 1) * (right - left))
        strip[middle - 2:middle + 2, left:x + 1] = DONE
        cv2.circle(strip, (x, middle), 7, GROUND, -1, cv2.LINE_AA)
        cv2.circle(strip, (x, middle), 6, INK, -1, cv2.LINE_AA)
        if scene.playing:
            for start in (MARGIN + 2, MARGIN + 10):
                strip[middle - 7:middle + 7, start:start + 4] = INK
        else:
            corners = [(MARGIN + 2, middle - 7), (MARGIN + 2, middle + 7), (MARGIN + 14, middle)]
            cv2.fillPoly(strip, [np.array(corners, np.int32)], INK, cv2.LINE_AA)

    def _draw_text(self, area: np.ndarray, scene: Scene) -> None:
        """Rows for the place, then for what is special and the results, the last one for message and hint."""
        width, last = area.shape[1], (area.shape[0] - MARGIN) // LINE - 1
        places = _flowed([(text, INK) for text in self._widest], width, last - 1)
        texts = list(scene.facts.place)
        for row, words in enumerate(places):
            shown = [(texts.pop(0), color) for _, color in words[:len(texts)]]
            _write_row(area, row, shown, [text_width(text) for text, _ in words])
        results = scene.facts.results_text
        notices = [(notice.text, COLORS[notice.kind]) for notice in scene.facts.notices]
        special = _flowed(notices, width, last - len(places) - bool(results))
        if results:
            special.append([(_cut(results, width - 2 * MARGIN), INK)])
        for row, words in enumerate(special, len(places)):
            _write_row(area, row, words, [text_width(text) for text, _ in words])
        left = width - MARGIN - text_width(scene.hint)
        _write(area, scene.hint, left, _base(last), FAINT)
        _write(area, _cut(scene.message, left - 3 * MARGIN), MARGIN, _base(last), INK)


def _bar(width: int) -> Tuple[int, int]:
    """First and last column of the time line's bar."""
    return MARGIN + BUTTON + 8, width - MARGIN - 8


# ---------------------------------------------------------------------- the frame

def _draw_picture(area: np.ndarray, scene: Scene) -> None:
    import cv2
    area[:] = DARK
    height, width = area.shape[:2]
    if scene.pixels is None:
        for number, line in enumerate(_wrapped(scene.instead, width - 2 * MARGIN)):
            _write(area, line, MARGIN, height // 3 + number * LINE, COLORS['bad'])
        return
    scale = min(width / scene.pixels.shape[1], height / scene.pixels.shape[0])
    size = (max(round(scene.pixels.shape[1] * scale), 1), max(round(scene.pixels.shape[0] * scale), 1))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST if scale >= 2 else cv2.INTER_LINEAR
    # One that a round scale was chosen for is shown pixel by pixel.
    picture = scene.pixels if scale == 1 else cv2.resize(scene.pixels, size, interpolation=method)
    left, top = (width - size[0]) // 2, (height - size[1]) // 2
    place = area[top:top + size[1], left:left + size[0]]
    place[:] = picture if picture.ndim == 3 else picture[:, :, None]
    if scene.overlay:
        _draw_results(place, [result.result for result in scene.facts.results], scene.offset, scale)


def _draw_results(place: np.ndarray, results: Sequence[Any], offset: int, scale: float) -> None:
    draw_boxes(place, [box._replace(x=box.x - offset) for result in results for box in find_boxes(result)], scale)
    draw_points(place, [point._replace(x=point.x - offset) for result in results for point in find_points(result)],
                scale)


# ---------------------------------------------------------------------- the text

Words = Tuple[str, Tuple[int, int, int]]


def _flowed(words: Sequence[Words], width: int, most: int) -> List[List[Words]]:
    """In rows, as many as fit beside each other in each; ``most`` rows, the last of which is cut."""
    rows: List[List[Words]] = []
    free = 0
    for text, color in words:
        text = _cut(text, width - 2 * MARGIN)
        needed = text_width(text) + GAP
        if not rows or needed - GAP > free and len(rows) < most:
            rows.append([])
            free = width - 2 * MARGIN
        text = _cut(text, free)
        if text:
            rows[-1].append((text, color))
        free -= needed
    return rows


def _write_row(area: np.ndarray, row: int, words: Sequence[Words], widths: Sequence[int]) -> None:
    x = MARGIN
    for (text, color), width in zip(words, widths):
        _write(area, text, x, _base(row), color)
        x += width + GAP


def _draw_help(area: np.ndarray, lines: Sequence[Tuple[str, str]]) -> None:
    """Over a darkened picture; the user asked for it."""
    area[:] = area // 6
    most = max((area.shape[0] - MARGIN) // LINE, 1)
    x = 2 * MARGIN
    for start in range(0, len(lines), most):
        block = lines[start:start + most]
        for column, color in ((0, COLORS['mark']), (1, INK)):
            for row, line in enumerate(block):
                _write(area, line[column], x, MARGIN + _base(row), color)
            x += max(text_width(line[column]) for line in block) + GAP


def _base(row: int) -> int:
    return row * LINE + 14


def _write(area: np.ndarray, text: str, x: int, y: int, color: Tuple[int, int, int]) -> None:
    write_text(area, plain(text), (x, y), TEXT, color)


def plain(text: str) -> str:
    """On one line, and accented letters as those that OpenCV's fonts have."""
    letters = unicodedata.normalize('NFKD', ' '.join(text.split()))
    return ''.join(letter for letter in letters if not unicodedata.combining(letter)).encode(
        'ascii', 'replace').decode()


@lru_cache(maxsize=4096)
def text_width(text: str) -> int:
    """Pixels that a text takes."""
    import cv2
    return int(cv2.getTextSize(plain(text), cv2.FONT_HERSHEY_SIMPLEX, TEXT, 1)[0][0])


def _cut(text: str, width: int) -> str:
    """As much of a text as fits, with dots where something is left out; '' where hardly anything would."""
    text = text[:max(width, 0)]                # no letter is narrower than a pixel
    if text_width(text) <= width:
        return text
    low, high = 0, len(text)
    while low < high:                          # the longest that fits
        middle = (low + high + 1) // 2
        low, high = (middle, high) if text_width(text[:middle] + '...') <= width else (low, middle - 1)
    return text[:low] + '...' if low >= LEAST_LETTERS else ''


def _wrapped(text: str, width: int) -> List[str]:
    """A text in lines that fit, broken between words."""
    lines = ['']
    for word in text.split():
        longer = f'{lines[-1]} {word}'.strip()
        if text_width(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return [_cut(line, width) for line in lines]
