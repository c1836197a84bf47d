"""What the synthetic camera looks at: pixels that cost next to nothing and are the same everywhere.

Noise is made once, as a small bank of noisy backgrounds, and each frame is one of them, rolled by whole rows (the
background changes along x only, so rolling moves the noise and nothing else). Shapes are added on top by slicing.
Every value stays within 0..255 by construction, so uint8 sums are exact and need no clipping. Random bits come
from PCG64's raw stream, the one thing that numpy promises never to change, through a table of our own.
"""

from __future__ import annotations

import math
from typing import List, NamedTuple, Tuple

import numpy as np

from .chessboard import Chessboard

__all__ = ['MAX_NOISE', 'SCENES', 'Scene', 'read_index']

SCENES = ('shapes', 'noise', 'flat', 'chessboard')
MAX_NOISE = 10.0

INDEX_BITS = 32
MAX_CELL = 8            # pixels a bit of the index strip
BANK_BYTES = 12 << 20
MAX_BANK = 8

# Backgrounds lie in 40..136, shapes add at most 60, and noise is cut off at 4 sigma: 0 <= value <= 236. The
# chessboard adds at most 150, to a background of 40.
DARKEST, RAMP, CHANNEL_STEP = 40, 80, 8
FLAT_LEVEL = 40
SHAPE_GAINS = ((60, 24, 12), (16, 60, 24), (24, 16, 60))


class _Shape(NamedTuple):
    stamp: np.ndarray      # what is added to the background
    top: int               # of the band that is its own: shapes never overlap, sums never exceed 255
    x_span: int
    y_span: int
    x_speed: int
    y_speed: int
    phase: int


class Scene:
    """Renders frame ``index`` into an array of shape (height, width, 3) BGR or (height, width) gray, uint8.

    With stereo the right half sees the left half's scene shifted left by ``disparity`` pixels, under noise of its
    own; the scene 'chessboard' is in space, and each eye has its own view of it (:class:`Chessboard`). The frame's
    index is written into the first and the last rows of each eye (:func:`read_index`).
    """

    def __init__(self, width: int, height: int, pixel_format: str = 'bgr', *, kind: str = 'shapes',
                 noise: float = 2.5, seed: int = 0, stereo: bool = False, disparity: int = 0) -> None:
        self.width, self.height = width, height
        self.eyes = 2 if stereo else 1
        self.eye_width = width // self.eyes
        self.channels = 1 if pixel_format == 'gray' else 3
        self.disparity = disparity if stereo else 0
        self._bank = self._make_bank(kind, noise, seed)
        # A step near the golden section of the height spreads the rolls evenly; odd, so that it visits many rows.
        self._step = int(height * 0.618) | 1
        self._rolls = noise > 0
        self._shapes = self._make_shapes(seed) if kind in ('shapes', 'flat') else []
        self._chessboard = Chessboard(self.eye_width, height, seed) if kind == 'chessboard' else None
        self._cells = _Cells(self.eye_width, height)

    def render(self, index: int, out: np.ndarray) -> None:
        """Write the image of frame ``index`` into ``out``."""
        image = self._bank[index % len(self._bank)]
        shift = (index // len(self._bank) * self._step) % self.height if self._rolls else 0
        out[shift:] = image[:self.height - shift]
        out[:shift] = image[self.height - shift:]
        strip = self._cells.draw(index)
        for eye in range(self.eyes):
            view = out[:, eye * self.eye_width:(eye + 1) * self.eye_width]
            for shape in self._shapes:
                self._add(view, shape, index, eye * self.disparity)
            if self._chessboard is not None:
                self._chessboard.add(view, index, eye)
            self._cells.put(view, strip)

    def _add(self, view: np.ndarray, shape: _Shape, index: int, disparity: int) -> None:
        x = _bounce(shape.phase + index * shape.x_speed, shape.x_span) - disparity
        y = shape.top + _bounce(shape.phase + index * shape.y_speed, shape.y_span)
        height, width = shape.stamp.shape[:2]
        first, last = max(0, -x), min(width, self.eye_width - x)
        if first < last:
            target = view[y:y + height, x + first:x + last]
            np.add(target, shape.stamp[:, first:last], out=target)

    def _make_bank(self, kind: str, noise: float, seed: int) -> np.ndarray:
        background = self._background(kind)
        if noise == 0:
            return np.repeat(background[None], self.height, axis=1)
        shape = (self.height, self.width) + ((3,) if self.channels == 3 else ())
        values = int(np.prod(shape))
        frames = max(2, min(MAX_BANK, BANK_BYTES // values))
        table, bias = _noise_table(noise)
        words = -(-frames * values // 4)
        raw = np.random.PCG64([seed, 1]).random_raw(words).astype('<u8', copy=False).view('<u2')
        bank = table[raw[:frames * values]].reshape(frames, *shape)
        # bias makes the table's noise unsigned; it is taken off the background, where it fits.
        np.add(bank, background - np.uint8(bias), out=bank)
        return bank

    def _background(self, kind: str) -> np.ndarray:
        """One row, shape (1, width[, 3])."""
        x = np.concatenate([np.arange(self.eye_width) + eye * self.disparity for eye in range(self.eyes)])
        if kind == 'shapes':
            ramp = DARKEST + np.clip(x, 0, self.eye_width) * RAMP // self.eye_width
        else:
            ramp = np.full(self.width, DARKEST + RAMP // 2 if kind == 'noise' else FLAT_LEVEL)
        if self.channels == 3:
            step = CHANNEL_STEP if kind == 'shapes' else 0
            ramp = ramp[:, None] + step * np.arange(3)
        return ramp[None].astype(np.uint8)

    def _make_shapes(self, seed: int) -> List[_Shape]:
        band = self.height // len(SHAPE_GAINS)
        side = min(band * 3 // 4, self.eye_width // 4)
        if side < 2:
            return []
        raw = np.random.PCG64([seed, 2]).random_raw(len(SHAPE_GAINS))
        return [_Shape(_stamp(number, side, self.channels), number * band, self.eye_width - side, band - side,
                       2 + number, 1, int(raw[number]) % 10_000) for number in range(len(SHAPE_GAINS))]


class _Cells:
    """The index strip: the frame's number as 32 black or white cells (fewer in an image narrower than that)."""

    def __init__(self, eye_width: int, height: int) -> None:
        self.bits = min(INDEX_BITS, eye_width)
        self.cell = min(MAX_CELL, eye_width // self.bits)
        self.rows = max(1, min(self.cell, height // 4))

    def draw(self, index: int) -> np.ndarray:
        number = np.array([index & 0xFFFFFFFF], '>u4').view(np.uint8)
        return np.repeat(np.unpackbits(number)[INDEX_BITS - self.bits:] * np.uint8(255), self.cell)

    def put(self, view: np.ndarray, strip: np.ndarray) -> None:
        row = strip if view.ndim == 2 else strip[:, None]
        view[:self.rows, :len(strip)] = row
        view[-self.rows:, :len(strip)] = row

    def read(self, row: np.ndarray) -> int:
        gray = row if row.ndim == 1 else row.mean(axis=1)
        cells = gray[self.cell // 2:self.bits * self.cell:self.cell] > 127
        return int(''.join('1' if cell else '0' for cell in cells), 2)


def read_index(image: np.ndarray) -> int:
    """The frame index in the strips of one eye's image. Raises ValueError on a torn image: top and bottom differ."""
    cells = _Cells(image.shape[1], image.shape[0])
    top, bottom = cells.read(image[0]), cells.read(image[-1])
    if top != bottom:
        raise ValueError(f'a torn image: its first row is of frame {top}, its last of frame {bottom}')
    return top


def _noise_table(sigma: float) -> Tuple[np.ndarray, int]:
    """65,536 equally likely values of rounded Gaussian noise, made unsigned by adding the bias returned with it."""
    bias = int(math.ceil(4 * sigma))
    edges = [round(65536 * 0.5 * (1 + math.erf((value + 0.5) / (sigma * math.sqrt(2)))))
             for value in range(-bias, bias)]
    counts = np.diff([0, *edges, 65536])
    return np.repeat(np.arange(2 * bias + 1, dtype=np.uint8), counts), bias


def _stamp(number: int, side: int, channels: int) -> np.ndarray:
    y, x = np.mgrid[:side, :side] * 2 - (side - 1)
    inside = (x * x + y * y <= side * side, np.ones((side, side), bool), abs(x) + abs(y) <= side)[number]
    gains = np.array(SHAPE_GAINS[number], np.uint8)
    if channels == 1:
        return inside * gains.max()
    return np.ascontiguousarray(inside[..., None] * gains)


def _bounce(position: int, span: int) -> int:
    if span == 0:
        return 0
    position %= 2 * span
    return position if position <= span else 2 * span - position
