"""A contact sheet: frames spread over a recording, with the boxes that its callback put, in one PNG.

Any result counts that has boxes in it: dicts with ``x, y, w, h``, alone or in a list, however deep.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple, Union

import numpy as np

from ..errors import RecordingFileError
from .reader import RecordingFile
from .results import read_results, results_path

__all__ = ['boxes_by_frame', 'contact_sheet', 'find_boxes', 'write_contact_sheet']

Box = Tuple[float, float, float, float]

TILE_WIDTH = 240                    # pixels
MARGIN, CAPTION, TITLE = 10, 24, 44
PAPER, INK, FAINT, GREEN = (250, 250, 248), (40, 40, 40), (130, 130, 130), (60, 190, 60)     # BGR


def write_contact_sheet(recording: Union[str, 'os.PathLike[str]'], output: Union[str, 'os.PathLike[str]'],
                        frames: int = 20) -> str:
    """Draw the sheet of a recording into a PNG (an older one is replaced); returns its heading.

    Raises RecordingFileError.
    """
    import cv2
    with RecordingFile(recording) as opened:
        boxes = _stored_boxes(opened.path)
        image = contact_sheet(opened, boxes, frames)
        heading = _summary(opened, boxes, min(frames, opened.pages))
    coded, data = cv2.imencode('.png', image)
    assert coded
    try:
        Path(output).write_bytes(data.tobytes())
    except OSError as error:
        raise RecordingFileError(f'the contact sheet {output} cannot be written: {error.strerror}; '
                                 'choose another place') from error
    return heading


def contact_sheet(recording: RecordingFile, boxes: Optional[Dict[int, List[Box]]] = None,
                  frames: int = 20) -> np.ndarray:
    """The sheet as an image, uint8 (height, width, 3) BGR.

    boxes: for frame indices (not pages), the boxes to draw, in pixels of the frame; None when there are no results.
    """
    pages = spread(recording.pages, frames)
    scale = TILE_WIDTH / recording.width
    tile_height = max(1, round(recording.height * scale))
    step_x, step_y = TILE_WIDTH + MARGIN, tile_height + CAPTION + MARGIN
    # About as wide as a screen: 4 to 3.
    columns = min(len(pages), max(1, round(math.sqrt(len(pages) * 4 / 3 * step_y / step_x))))
    rows = math.ceil(len(pages) / columns)
    sheet = np.full((TITLE + rows * step_y + MARGIN, columns * step_x + MARGIN, 3), PAPER, np.uint8)
    write(sheet, recording.path.name, (MARGIN, 20), 0.55, INK)
    write(sheet, _summary(recording, boxes, len(pages)), (MARGIN, 38), 0.4, FAINT)
    first_ns = recording.page_record(0).time_ns
    for place, page in enumerate(pages):
        x, y = MARGIN + place % columns * step_x, TITLE + place // columns * step_y + MARGIN // 2
        record = recording.page_record(page)
        sheet[y:y + tile_height, x:x + TILE_WIDTH] = _tile(recording.read_page(page), tile_height,
                                                           (boxes or {}).get(record.index, []))
        caption = f'frame {record.index}   {(record.time_ns - first_ns) / 1e9:.3f} s'
        write(sheet, caption, (x, y + tile_height + 16), 0.4, INK)
    return sheet


def _tile(image: np.ndarray, height: int, boxes: List[Box]) -> np.ndarray:
    import cv2
    scale = TILE_WIDTH / image.shape[1]
    color = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if image.ndim == 2 else image
    tile = cv2.resize(color, (TILE_WIDTH, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    draw_boxes(tile, boxes, scale)
    return tile


def spread(pages: int, frames: int) -> List[int]:
    """Up to ``frames`` page numbers, evenly over all pages, the first and the last among them."""
    if pages <= frames:
        return list(range(pages))
    return [round(number * (pages - 1) / max(1, frames - 1)) for number in range(frames)]


def draw_boxes(tile: np.ndarray, boxes: List[Box], scale: float) -> None:
    """Frames around the boxes, green on a dark rim, so that they show on any picture."""
    import cv2
    for x, y, w, h in boxes:
        corners = (round(x * scale), round(y * scale)), (round((x + w) * scale) - 1, round((y + h) * scale) - 1)
        cv2.rectangle(tile, *corners, INK, 4, cv2.LINE_AA)
        cv2.rectangle(tile, *corners, GREEN, 2, cv2.LINE_AA)


def write(image: np.ndarray, text: str, place: Tuple[int, int], size: float, color: Tuple[int, int, int]) -> None:
    """A line of text, its baseline beginning at ``place``; OpenCV's fonts know ASCII only."""
    import cv2
    plain = text.encode('ascii', 'replace').decode()
    cv2.putText(image, plain, place, cv2.FONT_HERSHEY_SIMPLEX, size, color, 1, cv2.LINE_AA)


def find_boxes(result: Any) -> Iterator[Box]:
    """Every box in a result: any dict with numbers x, y, w and h."""
    if isinstance(result, dict):
        sides = [result.get(name) for name in 'xywh']
        if all(isinstance(side, (int, float)) and not isinstance(side, bool) and math.isfinite(side) for side in sides):
            x, y, w, h = (float(side) for side in sides)   # type: ignore[arg-type]
            yield x, y, w, h
            return
        result = list(result.values())
    if isinstance(result, list):
        for item in result:
            yield from find_boxes(item)


def boxes_by_frame(results: Iterator[Tuple[Optional[int], Optional[int], Any]]) -> Dict[int, List[Box]]:
    """The boxes of all results, by frame index; frames that were looked at without success have an empty list."""
    found: Dict[int, List[Box]] = {}
    for index, _, result in results:
        if index is not None:
            found.setdefault(index, []).extend(find_boxes(result))
    return found


def _stored_boxes(path: Path) -> Optional[Dict[int, List[Box]]]:
    beside = results_path(path)
    return boxes_by_frame(read_results(beside)) if beside.is_file() else None


def _summary(recording: RecordingFile, boxes: Optional[Dict[int, List[Box]]], shown: int) -> str:
    text = f'{shown} of {recording.pages} frames, {recording.width} x {recording.height}'
    if boxes is None:
        return text + ', no results beside it'
    return text + f'; something found in {sum(1 for found in boxes.values() if found)} of {len(boxes)}'
