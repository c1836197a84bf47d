"""What libcamera offers, and what of it is taken: pixel formats, sensor modes, frame sizes; and pixels out of buffers.

Nothing here touches the camera: it is arithmetic on what picamera2 tells.
"""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from ...errors import CameraFormatError
from ..stacks import RATE_TOLERANCE

__all__ = ['CHOICES', 'PixelCopy', 'SensorMode', 'choose_format', 'choose_mode', 'even', 'nearest_sizes',
           'sensor_modes', 'substitution']

Size = Tuple[int, int]
Box = Tuple[int, int, int, int]

SAME_VIEW = 0.95       # of the area: modes differ by some rows and columns without anybody calling that a crop


class _Coding(NamedTuple):
    """How a pixel lies in memory, and OpenCV's conversion from there; '' where none is needed."""

    pixel_bytes: int             # in the first plane
    to_bgr: str
    to_gray: str = ''
    luma_first: int = 0          # place of the brightness within pixel_bytes, where that is what gray takes
    planar: bool = False         # colour lies in planes of half the size, behind the brightness


# libcamera names formats as DRM does: by a little-endian word, so that the bytes of 'RGB888' lie as B, G, R.
_CODINGS: Dict[str, _Coding] = {
    'RGB888': _Coding(3, '', 'COLOR_BGR2GRAY'),
    'BGR888': _Coding(3, 'COLOR_RGB2BGR', 'COLOR_RGB2GRAY'),
    'XRGB8888': _Coding(4, 'COLOR_BGRA2BGR', 'COLOR_BGRA2GRAY'),
    'XBGR8888': _Coding(4, 'COLOR_RGBA2BGR', 'COLOR_RGBA2GRAY'),
    'YUV420': _Coding(1, 'COLOR_YUV2BGR_I420', planar=True),
    'YVU420': _Coding(1, 'COLOR_YUV2BGR_YV12', planar=True),
    'NV12': _Coding(1, 'COLOR_YUV2BGR_NV12', planar=True),
    'NV21': _Coding(1, 'COLOR_YUV2BGR_NV21', planar=True),
    'YUYV': _Coding(2, 'COLOR_YUV2BGR_YUYV'),
    'UYVY': _Coding(2, 'COLOR_YUV2BGR_UYVY', luma_first=1),
    'R8': _Coding(1, 'COLOR_GRAY2BGR'),
}

#: What is taken for each pixel format of ours, best first. MJPEG is not among them: it is lossy.
CHOICES: Dict[str, Tuple[str, ...]] = {
    'bgr': ('RGB888', 'XRGB8888', 'BGR888', 'XBGR8888', 'YUYV', 'UYVY', 'NV12', 'YUV420', 'NV21', 'YVU420', 'R8'),
    'gray': ('YUV420', 'NV12', 'NV21', 'YVU420', 'R8', 'YUYV', 'UYVY', 'RGB888', 'BGR888', 'XRGB8888', 'XBGR8888'),
}


def choose_format(offered: Iterable[str], pixel_format: str, camera: str) -> str:
    """The format to take for 'bgr' or 'gray'. Raises CameraFormatError where only lossy or unknown ones are offered."""
    offered = list(offered)
    for name in CHOICES[pixel_format]:
        if name in offered:
            return name
    lossy = 'MJPEG' in offered
    raise CameraFormatError(
        f'{camera} offers the pixel formats {", ".join(offered) or "(none)"}; for pixel_format={pixel_format!r} one of '
        f'{", ".join(CHOICES[pixel_format])} is needed'
        + (". MJPEG is lossy and not taken here; camera='opencv:N' records such a webcam" if lossy else ''))


def substitution(taken: str, pixel_format: str) -> str:
    """What 'bgr' loses by coming from this format; '' when nothing."""
    if pixel_format != 'bgr' or taken in CHOICES['bgr'][:4] or taken == 'R8':
        return ''
    return 'half the colour resolution in both directions' if _CODINGS[taken].planar else 'half the colour resolution'


class PixelCopy:
    """Copies pictures of one format out of libcamera's buffers.

    Args:
        taken: libcamera's name of the format.
        size: (width, height) in pixels.
        stride: bytes from one row to the next; what is beyond the width is padding and left behind.
        pixel_format: 'bgr' or 'gray', what comes out.
    """

    def __init__(self, taken: str, size: Size, stride: int, pixel_format: str) -> None:
        coding = _CODINGS[taken]
        self._width, self._height = size
        self._stride = stride
        self._bytes = coding.pixel_bytes
        self._planar = coding.planar and pixel_format == 'bgr'
        self._channel = coding.luma_first
        conversion = coding.to_bgr if pixel_format == 'bgr' else coding.to_gray
        self._code: Optional[int] = None
        if conversion:
            import cv2
            self._convert: Any = cv2.cvtColor
            self._code = getattr(cv2, conversion)

    def __call__(self, buffer: np.ndarray, out: np.ndarray) -> None:
        """Fill ``out`` from the bytes of one buffer."""
        rows = self._height * 3 // 2 if self._planar else self._height
        lines = buffer[:rows * self._stride].reshape(rows, self._stride)
        if self._planar:
            # The planes of colour are as wide as their own stride wants: padding goes after the conversion.
            out[...] = self._convert(lines, self._code)[:, :self._width]
            return
        pixels = lines[:, :self._width * self._bytes].reshape(self._height, self._width, self._bytes)
        if self._code is None:
            out[...] = pixels if out.ndim == 3 else pixels[..., self._channel]
        else:
            image = self._convert(pixels, self._code, dst=out)
            # OpenCV fills the array it was given when that suits it, and else returns one of its own.
            if not np.may_share_memory(image, out):
                out[...] = image


class SensorMode(NamedTuple):
    """One way to read the sensor out."""

    width: int
    height: int
    bit_depth: int
    rate: float                  # Hz, at most
    box: Box                     # what it shows: (x, y, width, height) in pixels of the full sensor

    @property
    def size(self) -> Size:
        return self.width, self.height

    @property
    def view(self) -> int:
        """Area of the sensor that it shows, in pixels of the full sensor."""
        return self.box[2] * self.box[3]

    def __str__(self) -> str:
        return f'{self.width}x{self.height} up to {self.rate:.4g} Hz'


def sensor_modes(told: Iterable[Mapping[str, Any]]) -> List[SensorMode]:
    """From ``Picamera2.sensor_modes``: those of which size and rate are told (webcams tell neither)."""
    modes = []
    for mode in told:
        if 'size' not in mode or not mode.get('fps'):
            continue
        width, height = mode['size']
        box = tuple(mode.get('crop_limits') or (0, 0, width, height))
        modes.append(SensorMode(width, height, int(mode.get('bit_depth') or 0), float(mode['fps']), box))
    return modes


def choose_mode(modes: Sequence[SensorMode], size: Size, rate: float, camera: str) -> Tuple[SensorMode, str]:
    """The sensor mode for frames of ``size`` at ``rate`` Hz, and a warning ('' when there is nothing to warn of).

    Left to itself, libcamera takes the mode nearest in size, which on many sensors shows only their middle. Here: of
    those fast enough, one with at least as many pixels as asked, then the widest view, then the least to read out.
    Raises CameraFormatError where none is fast enough. ``modes`` must not be empty.
    """
    fast = [mode for mode in modes if mode.rate * (1 + RATE_TOLERANCE) >= rate]
    if not fast:
        raise CameraFormatError(f'{camera} cannot make {rate:g} Hz; its sensor modes are '
                                f'{", ".join(dict.fromkeys(map(str, modes)))}')

    def covers(mode: SensorMode) -> bool:
        return mode.width >= size[0] and mode.height >= size[1]

    good = [mode for mode in fast if covers(mode)] or fast
    widest = max(mode.view for mode in good)
    wide = [mode for mode in good if mode.view >= SAME_VIEW * widest]
    best = min(wide, key=lambda mode: (mode.width * mode.height * (1 if covers(mode) else -1), -mode.bit_depth))
    return best, _mode_warning(best, covers(best), modes, size, rate)


def _mode_warning(best: SensorMode, covers: bool, modes: Sequence[SensorMode], size: Size, rate: float) -> str:
    told = []
    full = max(modes, key=lambda mode: (mode.view, mode.rate))
    if best.view < SAME_VIEW * full.view:
        remedy = (f"camera_controls={{'sensor_mode': {full.size}}} shows all of it" if full.rate >= rate else
                  f'all of it can be seen at up to {full.rate:.4g} Hz')
        told.append(f'shows only {100 * best.view / full.view:.0f} % of its field of view ({remedy})')
    if not covers:
        told.append('has fewer pixels than that, so that pictures are enlarged (a smaller resolution, or a lower '
                    'framerate, gives true pixels)')
    if not told:
        return ''
    return (f'for {size[0]}x{size[1]} at {rate:g} Hz the sensor is read out in its mode {best.width}x{best.height}, '
            f'which {", and ".join(told)}')


def even(size: Size) -> Size:
    """The nearest even size, half up: libcamera has no odd ones."""
    return size[0] + size[0] % 2, size[1] + size[1] % 2


def nearest_sizes(offered: Iterable[Size], size: Size, count: int = 4) -> List[Size]:
    """The offered sizes that are nearest to ``size``, nearest first."""
    return sorted(set(offered), key=lambda one: (abs(one[0] - size[0]) + abs(one[1] - size[1]), one))[:count]
