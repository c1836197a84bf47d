"""From pixels to the bytes of a strip: RGB order, horizontal predictor, Deflate.

Every effort gives an ordinary Deflate (zlib) stream, so that pages of one file may differ in effort and still
have the same tags; only ``'none'`` is a format of its own, and then for the whole file.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Callable, Deque, Dict, List, Optional, Tuple

import numpy as np

from .deflate import codec

__all__ = ['EFFORTS', 'PageEncoder', 'ladder']

#: Every effort, from the least to the most; the order is that of the codes in the page index.
EFFORTS = ('none', 'stored', 'huffman', 'rle', *(f'deflate-{level}' for level in range(2, 10)))

_HUFFMAN_ONLY, _RLE, _DEFAULT = 2, 3, 0   # zlib's strategies; the standard library does not name Z_RLE
_WINDOW_BITS, _MEMORY_LEVEL = 15, 9
_CHUNKS = 8          # how often a page under way may be given up; more would cost time where a callback holds the GIL

# Level and strategy. Huffman and RLE look for no matches beyond the last byte, whatever the level, but level 0
# would override the strategy.
_CALLS: Dict[str, Tuple[int, int]] = {
    'stored': (0, _DEFAULT), 'huffman': (6, _HUFFMAN_ONLY), 'rle': (6, _RLE),
    **{f'deflate-{level}': (level, _DEFAULT) for level in range(2, 10)}}


def ladder(level: int) -> Tuple[str, ...]:
    """The efforts that ``tif_compression=level`` allows, 0 to 9."""
    if level == 0:
        return ('none',)
    return ('stored', 'huffman', 'rle', *(f'deflate-{step}' for step in range(2, level + 1)))


class PageEncoder:
    """Encodes pages of one size; for one thread, which reuses its scratch arrays.

    height, width: pixels; channels: 1 (gray) or 3 (BGR in, RGB out).
    spare: arrays of a page's shape that nobody needs any more, for uncompressed pages (fresh memory costs more than
    what is done with it); whoever is through with such a page may put its array there.
    """

    def __init__(self, height: int, width: int, channels: int, spare: Optional[Deque[np.ndarray]] = None) -> None:
        self._spare = spare if spare is not None else deque()
        self._shape = (height, width) if channels == 1 else (height, width, channels)
        self._channels = channels
        self._rgb = np.empty(self._shape, np.uint8) if channels == 3 else None
        self._differences = np.empty((height, width * channels), np.uint8)

    def encode(self, image: np.ndarray, effort: str, give_up: Optional[Callable[[float], bool]] = None) -> List[Any]:
        """The strip of one page, as a list of buffers to be written one after the other.

        image: uint8, (height, width, 3) BGR or (height, width) gray. With effort ``'none'`` and gray the buffer is
        the image itself; every other buffer is the caller's own.
        give_up: asked a few times, with the share that is done, 0 to 1; when it says yes, the list is empty. Not asked
        about ``'none'`` and ``'stored'``, which nothing is faster than.
        """
        if image.shape != self._shape or image.dtype != np.uint8:
            raise ValueError(f'expected a uint8 image of shape {self._shape}, got {image.dtype} {image.shape}')
        if effort == 'none':
            return [self._plain(image)]
        level, strategy = _CALLS[effort]
        stream = codec.compressobj(level, codec.DEFLATED, _WINDOW_BITS, _MEMORY_LEVEL, strategy)
        rows = self._predict(image)
        if give_up is None or effort == 'stored':
            parts = [stream.compress(rows)]
        else:
            parts = _in_chunks(stream, rows.reshape(-1), give_up)
            if not parts:
                return []
        return [part for part in (*parts, stream.flush()) if part]

    def _plain(self, image: np.ndarray) -> np.ndarray:
        if self._channels == 1:
            return np.ascontiguousarray(image)
        import cv2
        try:
            out = self._spare.pop()
        except IndexError:
            # Not the scratch array: that may hold the next page before this one is written.
            out = np.empty(self._shape, np.uint8)
        cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=out)
        return out

    def _predict(self, image: np.ndarray) -> np.ndarray:
        """TIFF's predictor 2: each sample less the same sample of the pixel to its left, modulo 256."""
        if self._rgb is not None:
            import cv2
            cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=self._rgb)
            image = self._rgb
        rows = np.ascontiguousarray(image).reshape(self._differences.shape)
        step = self._channels
        # One contiguous subtraction over the whole page; the first pixel of each row, which then holds the
        # difference to the end of the row before, is put right afterwards.
        flat, out = rows.reshape(-1), self._differences.reshape(-1)
        np.subtract(flat[step:], flat[:-step], out=out[step:])
        self._differences[:, :step] = rows[:, :step]
        return self._differences


def _in_chunks(stream: Any, data: np.ndarray, give_up: Callable[[float], bool]) -> List[bytes]:
    """What the stream makes of the data, bit by bit; empty once ``give_up`` says so."""
    parts: List[bytes] = []
    size = -(-data.size // _CHUNKS)
    for begin in range(0, data.size, size):
        parts.append(stream.compress(data[begin:begin + size]))
        end = begin + size
        if end < data.size and give_up(end / data.size):
            return []
    return parts
