"""A contact sheet: frames spread over a recording, with the boxes and points that its callback put, in one PNG."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import List, NamedTuple, Optional, Tuple, Union

import numpy as np

from ..errors import RecordingFileError
from ..reading import Recording, opened
from ..recordings.page import STATUSES
from ..recordings.whole import write_whole
from .drawing import draw_boxes, draw_points, eight_bit, find_boxes, find_points, real, shades, write_text

__all__ = ['contact_sheet', 'spread', 'write_contact_sheet']

TILE_WIDTH = 240                    # pixels; a tile is no higher than it is wide
MARGIN, CAPTION, TITLE = 10, 24, 64
PAPER, INK, FAINT = (250, 250, 248), (40, 40, 40), (115, 115, 115)                    # BGR
GREEN, RED, GROUND = (51, 119, 17), (17, 51, 204), (232, 232, 230)
#: Beyond so many results they are not all parsed to count those in which something was found.
MOST_COUNTED = 200_000


def write_contact_sheet(recording: Union[str, 'os.PathLike[str]', Recording],
                        output: Optional[Union[str, 'os.PathLike[str]']] = None, frames: int = 20) -> str:
    """Draw the sheet of a recording into a PNG (an older one is replaced); returns its heading.

    recording: its path (any TIFF; of a split one, any file), or opened. output: default: ``trial.png`` beside it.
    frames: how many to show, at most. Raises RecordingFileError; nothing half is left then.
    """
    import cv2
    with opened(recording) as rec:
        sheet = _Sheet(rec, frames)
        coded, data = cv2.imencode('.png', sheet.draw())
        assert coded
        beside = () if rec.results_path is None else (rec.results_path,)
        write_whole(sheet_path(rec) if output is None else output, data.tobytes(), 'the contact sheet', suffix='.png',
                    besides=[*rec.files, *beside])
    return sheet.heading


def sheet_path(recording: Recording) -> Path:
    """Where a recording's sheet goes unless told otherwise."""
    return recording.path.with_suffix('.png')


def contact_sheet(recording: Recording, frames: int = 20) -> np.ndarray:
    """The sheet as an image, uint8 (height, width, 3) BGR. A page that cannot be read becomes a tile that says so."""
    return _Sheet(recording, frames).draw()


def spread(pages: int, frames: int) -> List[int]:
    """Up to ``frames`` page numbers, evenly over all pages, the first and the last among them."""
    if pages <= frames:
        return list(range(pages))
    return [round(number * (pages - 1) / max(1, frames - 1)) for number in range(frames)]


class _Tile(NamedTuple):
    page: int
    picture: Optional[np.ndarray]       # as small as it is drawn, of the samples' own depth
    problem: str = ''


class _Sheet:
    """What goes onto one sheet: few pages are read, and kept as small as they are drawn."""

    def __init__(self, recording: Recording, frames: int) -> None:
        self._recording = recording
        height, width = recording.shape[1:3]
        self._scale = TILE_WIDTH / max(height, width)
        self._size = max(1, round(width * self._scale)), max(1, round(height * self._scale))
        self._ranges: List[Tuple[float, float]] = []
        self._tiles = [self._take(page) for page in spread(len(recording), frames)]
        self.heading = self._summary()

    def draw(self) -> np.ndarray:
        count = len(self._tiles)
        step_x, step_y = TILE_WIDTH + MARGIN, self._size[1] + CAPTION + MARGIN
        # About as wide as a screen: 4 to 3.
        columns = min(count, max(1, round(math.sqrt(count * 4 / 3 * step_y / step_x))))
        rows = math.ceil(count / columns)
        sheet = np.full((TITLE + rows * step_y + MARGIN, max(columns, 2) * step_x + MARGIN, 3), PAPER, np.uint8)
        self._draw_title(sheet)
        for place, tile in enumerate(self._tiles):
            self._draw_tile(sheet, tile, MARGIN + place % columns * step_x,
                            TITLE + place // columns * step_y + MARGIN // 2)
        return sheet

    # ------------------------------------------------------------------ pages

    def _take(self, page: int) -> _Tile:
        import cv2
        try:
            image = real(self._recording.read(page))
            if not self._recording.is_intact(page):
                raise RecordingFileError('its checksum does not fit')
        except RecordingFileError as error:
            return _Tile(page, None, str(error))
        self._ranges.append(shades([image]))
        known = image if image.dtype in (np.uint8, np.uint16, np.float32) else image.astype(np.float32)
        return _Tile(page, cv2.resize(known, self._size,
                                      interpolation=cv2.INTER_AREA if self._scale < 1 else cv2.INTER_CUBIC))

    def _range(self) -> Tuple[float, float]:
        return (min(low for low, _ in self._ranges), max(high for _, high in self._ranges)) if self._ranges else (0, 0)

    # ------------------------------------------------------------------ drawing

    def _draw_title(self, sheet: np.ndarray) -> None:
        recording = self._recording
        room = sheet.shape[1] - 2 * MARGIN
        write_text(sheet, _cut(recording.path.name, room, 0.55), (MARGIN, 20), 0.55, INK)
        good = recording.verdict.startswith('complete: yes')
        write_text(sheet, _cut(recording.verdict, room, 0.45), (MARGIN, 39), 0.45, GREEN if good else RED)
        write_text(sheet, _cut(self.heading, room, 0.4), (MARGIN, 57), 0.4, FAINT)

    def _draw_tile(self, sheet: np.ndarray, tile: _Tile, x: int, y: int) -> None:
        place = sheet[y:y + self._size[1], x:x + TILE_WIDTH]
        place[:] = GROUND
        left = (TILE_WIDTH - self._size[0]) // 2
        if tile.picture is None:
            _write_wrapped(place, f'This page cannot be read: {tile.problem}')
        else:
            place[:, left:left + self._size[0]] = self._picture(tile)
        caption, status = self._caption(tile.page)
        write_text(sheet, caption, (x, y + self._size[1] + 16), 0.4, INK)
        if status not in ('raw', 'returned') and _width(caption, 0.4) + _width(status, 0.4) + 8 < TILE_WIDTH:
            write_text(sheet, status, (x + TILE_WIDTH - _width(status, 0.4), y + self._size[1] + 16), 0.4, RED)

    def _picture(self, tile: _Tile) -> np.ndarray:
        import cv2
        assert tile.picture is not None
        picture = eight_bit(tile.picture, *self._range())
        color = cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR) if picture.ndim == 2 else np.ascontiguousarray(picture)
        try:
            results = self._recording.results_of(tile.page)
            draw_boxes(color, results, self._scale)
            draw_points(color, [point for result in results for point in find_points(result)], self._scale)
        except RecordingFileError:
            pass                       # the heading says so
        return color

    def _caption(self, page: int) -> Tuple[str, str]:
        recording = self._recording
        indices, times_ns = recording.indices, recording.times_ns
        if indices is None or times_ns is None:
            return f'page {page}', ''
        return (f'frame {indices[page]}   {(int(times_ns[page]) - int(times_ns[0])) / 1e9:.3f} s',
                STATUSES[recording.index_column('status')[page]])

    # ------------------------------------------------------------------ words

    def _summary(self) -> str:
        recording = self._recording
        height, width = recording.shape[1:3]
        unread = sum(tile.picture is None for tile in self._tiles)
        facts = [f'{len(self._tiles)} of {len(recording)} frames', f'{width} x {height}']
        if unread:
            facts.append(f'{unread} unreadable')
        if recording.dtype != np.uint8 and self._ranges:
            samples = f'{"magnitudes of " if recording.dtype.kind == "c" else ""}{recording.dtype} samples'
            facts.append('{} shown from {:g} (black) to {:g} (white)'.format(samples, *self._range()))
        return ', '.join(facts) + self._about_results()

    def _about_results(self) -> str:
        if self._recording.results_path is None:
            return ', no results beside it'
        try:
            results = self._recording.results
            if len(results) > MOST_COUNTED:
                return f'; {len(results)} results'
            looked_at, found = set(), set()
            for result in results:
                if result.page is not None:       # others may lie beside it, or have come since it was opened
                    looked_at.add(result.page)
                    if find_boxes(result) or find_points(result):
                        found.add(result.page)
        except RecordingFileError:
            return '; its results cannot be read, and are not drawn'
        if not found:
            return (f'; no boxes (x, y, w, h) or points (x, y) in {len(results)} '
                    f'result{"s" * (len(results) != 1)}')
        return f'; something found in {len(found)} of {len(looked_at)}'


def _width(text: str, size: float) -> int:
    import cv2
    return int(cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, 1)[0][0])


def _cut(text: str, room: int, size: float) -> str:
    """As much of a text as there is room for."""
    if _width(text, size) <= room:
        return text
    while text and _width(text + '...', size) > room:
        text = text[:-1]
    return text + '...'


def _write_wrapped(image: np.ndarray, text: str) -> None:
    lines = ['']
    for word in text.split():
        if _width(f'{lines[-1]} {word}', 0.4) > image.shape[1] - 16 and lines[-1]:
            lines.append('')
        lines[-1] = f'{lines[-1]} {word}'.strip()
    for number, line in enumerate(lines):
        if 20 + 16 * number > image.shape[0] - 4:
            break
        write_text(image, _cut(line, image.shape[1] - 16, 0.4), (8, 20 + 16 * number), 0.4, RED)
