"""Animated GIFs: for slides and messages, with true times as far as GIF has them (1/100 s)."""

from __future__ import annotations

import struct
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Any, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np

from ..errors import ExportError
from ..frame import Frame
from ..memory import available_memory
from ..reading import Recording
from .base import Exported, PathLike, Place, Progress, chosen_pages, each_made, whole_file
from .times import median_interval_ns, shown_ns

__all__ = ['export_gif', 'gif_schedule']

UNIT_NS = 10_000_000
LEAST_UNITS = 2               # browsers show what is told to last less for 100 ms
MOST_UNITS = 65_535
COLORS = (2, 4, 8, 16, 32, 64, 128, 256)
FAST_OCTREE = 2               # Pillow 9.0 has no name for it yet
MANY_FRAMES, MANY_BYTES = 1000, 50_000_000


class Schedule(NamedTuple):
    """places: of the frames that are kept, among those that were chosen; durations_ms: of each, whole units."""

    places: List[int]
    durations_ms: List[int]


def export_gif(recording: Recording, target: PathLike, *, start: Optional[Place] = 0, stop: Optional[Place] = None,
               every: int = 1, overwrite: bool = False, progress: Optional[Progress] = None,
               max_width: Optional[int] = None, colors: int = 256, speed: float = 1.0, rate_hz: Optional[float] = None
               ) -> Exported:
    """Write a GIF that is repeated for ever. Gray pixels stay as they are; colour frames get a palette each.

    GIF counts in 10 ms, and browsers show no frame for less than 20 ms: frames that come sooner are left out, and no
    frame is shown off its time by more than one unit. All frames are held in memory, a byte a pixel. Blocks.

    Args:
        start, stop, every: pages, or places. max_width: pixels; wider frames are made smaller.
        colors: of each palette, a power of 2 up to 256: fewer make it smaller. speed: 0.1 plays ten times slower.
        rate_hz: of a TIFF without times.

    Raises ExportError, RecordingFileError.
    """
    pages = chosen_pages(recording, start, stop, every)
    size = _size(recording, max_width)
    if recording.dtype != np.uint8:
        raise ExportError(f'{recording.path.name} has {recording.dtype} samples, and GIF holds 8 bits; export PNG, '
                          'which keeps 16 bits, or bring the frames to uint8 first, by a scale that suits them')
    if colors not in COLORS:
        raise ExportError(f'colors={colors!r} is no size of a palette; pass one of {", ".join(map(str, COLORS))}')
    schedule = gif_schedule(shown_ns(recording, pages, rate_hz, speed))
    _require_memory(len(schedule.places) * size[0] * size[1])
    with whole_file(target, overwrite=overwrite, recording=recording) as part:
        images: Any = _images(_pictures(recording, pages, schedule.places, size, progress), _bits(recording, colors))
        with closing(images):                  # generators, whose threads end with them
            _write(part, images, _bits(recording, colors), schedule)
        nbytes = part.stat().st_size
    return Exported(Path(target), len(schedule.places), nbytes,
                    _notes(recording, pages, schedule, size, speed, nbytes))


def gif_schedule(times_ns: np.ndarray) -> Schedule:
    """Which frames are kept, and how long each is shown; rounded from the beginning, so that nothing adds up.

    times_ns: of each frame from the first one, increasing. The last one is shown for as long as usual, so that all
    durations together are the frames' own, within one unit, but for gaps of more than 655 s.
    """
    end = int(times_ns[-1]) + median_interval_ns(times_ns)
    units = (np.append(times_ns, end) + UNIT_NS // 2) // UNIT_NS
    places = [0]
    for place in range(1, len(times_ns)):
        if units[place] - units[places[-1]] >= LEAST_UNITS:
            places.append(place)
    while len(places) > 1 and units[-1] - units[places[-1]] < LEAST_UNITS:
        places.pop()
    shown = np.diff(units[[*places, len(times_ns)]])
    return Schedule(places, (np.clip(shown, LEAST_UNITS, MOST_UNITS) * 10).tolist())


def _pictures(recording: Recording, pages: range, places: List[int], size: Tuple[int, int],
              progress: Optional[Progress]) -> Iterator[np.ndarray]:
    """Gray or RGB, of the size asked for, in order."""
    import cv2

    def picture(page: int, frame: Frame) -> np.ndarray:
        pixels = np.asarray(frame)
        if size != (pixels.shape[1], pixels.shape[0]):
            pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
        return pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    return each_made(recording, [pages[place] for place in places], picture, progress)


def _images(pictures: Iterator[np.ndarray], bits: Optional[int]) -> Iterator[Any]:
    """As Pillow's images, with a palette each, unless ``bits`` is None."""
    from PIL import Image
    for picture in pictures:
        image = Image.fromarray(picture)
        if bits is None:
            yield image
        elif picture.ndim == 2:
            yield image.quantize(2**bits)
        else:                                  # as near to the colours as Pillow's other ways, 50 times as fast
            yield image.quantize(2**bits, method=FAST_OCTREE)


def _write(part: Path, images: Iterator[Any], bits: Optional[int], schedule: Schedule) -> None:
    """Through imageio: it is given one frame, finds that one's palette, and Pillow fetches the others one by one.

    (Given all of them, it would hold them all, three bytes a pixel.)
    """
    import imageio.v3 as imageio
    from PIL import Image
    import_module('imageio.plugins.pillow')    # all of it before the file is there: Ctrl-C in the middle of imageio's
    Image.init()                               # own loading has it print a traceback from a half-made object
    first = next(images)
    options: Any = {'save_all': True, 'append_images': images, 'loop': 0, 'duration': schedule.durations_ms}
    if bits is not None:
        options['bits'] = bits
    try:
        with open(part, 'wb') as file:         # one of imageio's own would not be closed when writing to it fails
            imageio.imwrite(file, np.asarray(first.convert('RGB') if first.mode == 'P' else first), plugin='pillow',
                            extension='.gif', is_batch=False, **options)
    except (struct.error, OverflowError):      # by Pillow, which shows equal frames as one
        raise ExportError('the picture stands still for more than 655 s, longer than GIF can show it; choose other '
                          'frames (start, stop), a higher speed, or export MP4') from None


def _bits(recording: Recording, colors: int) -> Optional[int]:
    """Of the palettes that have to be found; None: 256 grays are a palette already."""
    return None if recording.pixel_format == 'gray' and colors == 256 else colors.bit_length() - 1


def _size(recording: Recording, max_width: Optional[int]) -> Tuple[int, int]:
    height, width = recording.shape[1:3]
    if max_width is None:
        return width, height
    if isinstance(max_width, bool) or not isinstance(max_width, int) or max_width < 1:
        raise ExportError(f'max_width={max_width!r} is no width; pass pixels, such as 640')
    return (width, height) if width <= max_width else (max_width, max(round(height * max_width / width), 1))


def _require_memory(needed: int) -> None:
    free = available_memory()
    if free is not None and needed > free // 2:
        raise ExportError(f'the GIF would hold {needed / 1e9:.1f} GB of pixels in memory, of {free / 1e9:.1f} GB that '
                          'can be had; choose fewer frames (start, stop, every), make them smaller (max_width), or '
                          'export MP4')


def _notes(recording: Recording, pages: range, schedule: Schedule, size: Tuple[int, int], speed: float, nbytes: int
           ) -> Tuple[str, ...]:
    notes: List[str] = []
    left_out = len(pages) - len(schedule.places)
    if left_out:
        notes.append(f'{left_out:,} of {len(pages):,} frames were left out: browsers show no frame of a GIF for less '
                     'than 20 ms (speed=0.5 plays twice as slowly)')
    if max(schedule.durations_ms) == MOST_UNITS * 10:
        notes.append('a gap of more than 655 s, the longest that GIF can show a frame for, became that')
    if size[0] != recording.shape[2]:
        notes.append(f'frames were made smaller, {size[0]}×{size[1]}')
    if speed != 1:
        notes.append(f'it plays at {speed:g} of the true speed')
    if nbytes > MANY_BYTES or len(schedule.places) > MANY_FRAMES:
        notes.append(f'{nbytes / 1e6:,.0f} MB and {len(schedule.places):,} frames are much for a GIF, and many '
                     'programs show such slowly or not at all: choose fewer (start, stop, every), make them smaller '
                     '(max_width), or export MP4')
    return (*notes, *recording.notes)
