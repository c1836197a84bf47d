"""From the bytes of a strip back to pixels: Deflate, predictor, channel order."""

from __future__ import annotations

from typing import Optional, Union

import numpy as np

from ..errors import RecordingFormatError
from .deflate import codec

__all__ = ['MAX_DEFLATE_RATIO', 'decode_strip']

#: Deflate cannot shrink anything further, so a strip that claims more is a lie (RFC 1951: 258 bytes in 2 bits).
MAX_DEFLATE_RATIO = 1032


def decode_strip(strip: Union[bytes, memoryview], height: int, width: int, channels: int, compressed: bool, order: str,
                 out: Optional[np.ndarray] = None) -> np.ndarray:
    """The pixels of a strip: uint8, (height, width, 3) in ``order`` 'bgr' or 'rgb', or (height, width) gray.

    out: a C-contiguous array of that shape to fill in. Raises RecordingFormatError when the strip holds anything
    but exactly these pixels.
    """
    shape = (height, width) if channels == 1 else (height, width, channels)
    if out is None:
        out = np.empty(shape, np.uint8)
    elif out.shape != shape or out.dtype != np.uint8 or not out.flags.c_contiguous:
        raise ValueError(f'out must be a C-contiguous uint8 array of shape {shape}, got {out.dtype} {out.shape}')
    raw = _inflate(strip, out.nbytes) if compressed else strip
    if len(raw) != out.nbytes:
        raise RecordingFormatError(f'a page holds {len(raw)} bytes of pixels where {out.nbytes} should be; '
                                   'the file is damaged')
    pixels = np.frombuffer(raw, np.uint8).reshape(shape)
    if compressed:
        pixels = _undo_predictor(pixels, out)
    if channels == 3 and order == 'bgr':
        import cv2
        cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR, dst=out)
    elif pixels is not out:
        np.copyto(out, pixels)
    return out


def _undo_predictor(differences: np.ndarray, out: np.ndarray) -> np.ndarray:
    """``out``, filled with the sums along each row, modulo 256, which undo predictor 2.

    By doubling: where each sample is the sum over n pixels, adding the one n pixels back makes it the sum over
    2n. These few additions of whole rows are three times as fast as np.add.accumulate, which goes sample by sample.
    """
    height, width = differences.shape[:2]
    sums, reach = differences.reshape(height, -1), differences.size // (height * width)
    doublings = (width - 1).bit_length()
    if doublings == 0:
        np.copyto(out, differences)
        return out
    targets = [out.reshape(height, -1), np.empty_like(sums)]
    for left in reversed(range(doublings)):
        target = targets[left % 2]                 # the last one is out
        target[:, :reach] = sums[:, :reach]
        np.add(sums[:, reach:], sums[:, :-reach], out=target[:, reach:])
        sums, reach = target, 2 * reach
    return out


def _inflate(strip: Union[bytes, memoryview], size: int) -> bytes:
    stream = codec.decompressobj()
    try:
        raw: bytes = stream.decompress(strip, size + 1)
    except codec.error as error:
        raise RecordingFormatError(f'a page cannot be decompressed ({error}); the file is damaged') from None
    if not stream.eof or stream.unused_data:
        raise RecordingFormatError('a page is cut off or too long; the file is damaged')
    return raw
