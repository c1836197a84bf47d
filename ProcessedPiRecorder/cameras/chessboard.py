"""A chessboard before a speckled wall, seen by two eyes whose geometry is known: the truth to judge calibrations by.

Pixels are computed from the geometry by additions, multiplications and divisions of doubles alone, one numpy call
each. IEEE 754 settles every bit of these, so the pixels are the same on every machine; sines, matrix products and
OpenCV's warps would not be.
"""

from __future__ import annotations

from typing import NamedTuple, Tuple

import numpy as np

__all__ = ['BOARD', 'SQUARE_MM', 'Chessboard', 'Eye', 'Pose']

#: Inner corners (columns, rows) and the side of one square, mm.
BOARD = (9, 6)
SQUARE_MM = 25.0

# A StereoPi's usual distance of lenses; the right eye is mounted a little crooked, as real ones are.
BASELINE_MM = 65.0
CROOKED = (0.004, -0.006, 0.003)            # half the tangents of the turns about x, y, z
ASIDE_MM = (-BASELINE_MM, 0.8, -0.5)

FOCAL = 0.8                                 # focal length as a part of the eye's width (at 4:3)
DISTORTION = ((-0.12, 0.02), (-0.10, 0.015))     # k1, k2 of the left and the right eye
OFF_CENTER = ((0.01, -0.008), (-0.006, 0.012))   # principal points, as parts of the focal length
UNDISTORT_ROUNDS = 25

MARGIN = 0.8                                # the white rim of the board, squares
EDGE_PX = 1.5                               # how far edges are blurred, as a lens does
BOARD_WHITE, WALL_WHITE = 150.0, 100.0      # added to the scene's ground level
SPECKLES = 128                              # the wall's texture repeats after so many speckles
SPECKLE_PX = 5.0                            # at 640 pixels an eye

# What swings in which period (frames): place x, y, z; turns about x, y, z. No two share a divisor.
PERIODS = (23, 31, 41, 17, 29, 37)
TURNS = (0.28, 0.28, 0.15)                  # half the tangents of the largest turns: 31, 31 and 17 degrees

Vector = Tuple[float, float, float]
Matrix = Tuple[Vector, Vector, Vector]      # rows
IDENTITY: Matrix = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


class Pose(NamedTuple):
    """Where a thing is: a point p of it lies at ``rotation @ p + translation_mm``."""

    rotation: Matrix
    translation_mm: Vector


class Eye(NamedTuple):
    """One eye, in OpenCV's conventions: x to the right, y down, z ahead; pixel centers at whole numbers."""

    focal_px: float
    center_px: Tuple[float, float]
    distortion: Tuple[float, float]         # k1, k2
    pose: Pose                              # takes the left eye's coordinates to this eye's

    def project(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Pixel coordinates of points given in this eye's coordinates (z > 0)."""
        x, y = x / z, y / z
        stretch = self._stretch(x * x + y * y)
        return x * stretch * self.focal_px + self.center_px[0], y * stretch * self.focal_px + self.center_px[1]

    def rays(self, width: int, height: int) -> Tuple[np.ndarray, np.ndarray]:
        """For every pixel, x and y of what it sees at the distance 1; each of shape (height, width)."""
        bent_y, bent_x = np.mgrid[:height, :width].astype(np.float64)
        bent_x, bent_y = (bent_x - self.center_px[0]) / self.focal_px, (bent_y - self.center_px[1]) / self.focal_px
        x, y = bent_x, bent_y
        for _ in range(UNDISTORT_ROUNDS):
            stretch = self._stretch(x * x + y * y)
            x, y = bent_x / stretch, bent_y / stretch
        return x, y

    def _stretch(self, square: np.ndarray) -> np.ndarray:
        k1, k2 = self.distortion
        return 1 + square * (k1 + k2 * square)


class Chessboard:
    """What both eyes see in every frame, and where everything truly is.

    The board has 9 x 6 inner corners, squares of 25 mm and a white rim. It swings through the field that both eyes
    share, nearer and farther, tilted to all sides; within some 30 frames it has been about everywhere. The wall
    behind it is at right angles to the left eye's view.

    Args:
        width, height: size of one eye's image, pixels.
        seed: of the wall's speckles and of where the swinging begins.

    Attributes:
        eyes: the left and the right :class:`Eye`.
        wall_mm: distance of the wall from the left eye.
    """

    def __init__(self, width: int, height: int, seed: int = 0) -> None:
        self.width, self.height = width, height
        focal = FOCAL * max(width, height * 4 / 3)
        poses = Pose(IDENTITY, (0.0, 0.0, 0.0)), Pose(_turn(CROOKED), ASIDE_MM)
        self.eyes = tuple(
            Eye(focal, ((width - 1) / 2 + across * focal, (height - 1) / 2 + down * focal), bent, pose)
            for (across, down), bent, pose in zip(OFF_CENTER, DISTORTION, poses))
        self._sight = width / 2 / focal, height / 2 / focal       # half of what is seen at the distance 1
        half_board = [SQUARE_MM * (inner + 1 + 2 * MARGIN) / 2 for inner in BOARD]
        self._near = max(half / sight for half, sight in zip(half_board, self._sight)) * 1.55
        self.wall_mm = self._near * 3.5
        self._phases = [int(raw) % 10_000 for raw in np.random.PCG64([seed, 3]).random_raw(len(PERIODS))]
        self._rays = [eye.rays(width, height) for eye in self.eyes]
        self._walls = [self._wall(number, seed) for number in range(len(self.eyes))]

    def add(self, view: np.ndarray, index: int, eye: int) -> None:
        """Add what ``eye`` (0: left, 1: right) sees in frame ``index`` to its part of an image: at most 150."""
        patch = self._patch(index, eye)
        u, v, _ = self._on_plane(self._seen_pose(index, eye), eye, *patch)
        blur = EDGE_PX * self.pose(index).translation_mm[2] / (self.eyes[eye].focal_px * SQUARE_MM)
        opacity, shade = _board(u / SQUARE_MM, v / SQUARE_MM, blur)
        layer = self._walls[eye].copy()
        layer[patch] = layer[patch] * (1 - opacity) + shade * opacity * BOARD_WHITE + 0.5
        for channel in [view] if view.ndim == 2 else np.moveaxis(view, -1, 0):
            np.add(channel, layer, out=channel)

    def pose(self, index: int) -> Pose:
        """Where the board is in frame ``index``, in the left eye's coordinates; its origin is the first corner."""
        x, y, z, *turns = (_swing(index + phase, period) for phase, period in zip(self._phases, PERIODS))
        rotation = _turn(tuple(limit * turn for limit, turn in zip(TURNS, turns)))    # type: ignore[arg-type]
        distance = self._near * (1.3 + 0.3 * z)
        wide, high = (distance * sight - self._near * 0.77 * sight for sight in self._sight)
        # Both eyes see it, and the rows of the frame's number stay clear of it.
        middle = (BASELINE_MM / 2 + x * max(0.0, wide - BASELINE_MM / 2), y * 0.75 * high, distance)
        to_middle = _transform(Pose(rotation, (0.0, 0.0, 0.0)), tuple(      # type: ignore[arg-type]
            SQUARE_MM * (inner - 1) / 2 for inner in BOARD) + (0.0,))
        return Pose(rotation, tuple(a - b for a, b in zip(middle, to_middle)))        # type: ignore[arg-type]

    def corners(self, index: int, eye: int) -> np.ndarray:
        """Where ``eye`` sees the inner corners in frame ``index``: (54, 2) pixel coordinates, row by row."""
        rows, columns = np.mgrid[:BOARD[1], :BOARD[0]] * SQUARE_MM
        return self._project(self._seen_pose(index, eye), eye, columns.ravel(), rows.ravel())

    def depth_mm(self, index: int, eye: int = 0) -> np.ndarray:
        """How far ahead of ``eye`` everything is in frame ``index`` (its z): float64, (height, width)."""
        everything = slice(None), slice(None)
        depth = self._on_plane(self._wall_pose(eye), eye, *everything)[2]
        u, v, board_depth = self._on_plane(self._seen_pose(index, eye), eye, *everything)
        opacity, _ = _board(u / SQUARE_MM, v / SQUARE_MM, 1e-9)
        return np.where((opacity > 0.5) & (board_depth > 0), board_depth, depth)

    def _seen_pose(self, index: int, eye: int) -> Pose:
        return _after(self.eyes[eye].pose, self.pose(index))

    def _wall_pose(self, eye: int) -> Pose:
        return _after(self.eyes[eye].pose, Pose(IDENTITY, (0.0, 0.0, self.wall_mm)))

    def _project(self, pose: Pose, eye: int, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        points = [a * u + b * v + t for (a, b, _), t in zip(*pose)]
        return np.stack(self.eyes[eye].project(*points), axis=-1)

    def _patch(self, index: int, eye: int) -> Tuple[slice, slice]:
        """The part of the image that holds the board and its rim."""
        ends = [(-(1 + MARGIN) * SQUARE_MM, (inner + MARGIN) * SQUARE_MM) for inner in BOARD]
        # The outline bulges where the lens bends it: its middles count as well as its ends.
        u, v = (np.array([(end[0], sum(end) / 2, end[1])[i] for i in order]) for end, order in
                zip(ends, ((0, 1, 2, 0, 2, 0, 1, 2), (0, 0, 0, 1, 1, 2, 2, 2))))
        outline = self._project(self._seen_pose(index, eye), eye, u, v)
        low, high = outline.min(axis=0) - 2 * EDGE_PX, outline.max(axis=0) + 2 * EDGE_PX
        left, top = (int(max(0, value)) for value in low)
        right, bottom = (int(min(size, max(0, value) + 1)) for value, size in zip(high, (self.width, self.height)))
        return slice(top, bottom), slice(left, right)

    def _on_plane(self, pose: Pose, eye: int, rows: slice, columns: slice
                  ) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where the eye's rays meet the plane z = 0 of a pose: its coordinates there, and the depth; mm."""
        x, y = (grid[rows, columns] for grid in self._rays[eye])
        along_u, along_v, _ = zip(*pose.rotation)
        origin = pose.translation_mm
        normal = _cross(along_u, along_v)
        depth = _dot(normal, origin) / _on_rays(normal, x, y)
        scale = depth / _dot(normal, origin)
        return (_on_rays(_cross(along_v, origin), x, y) * scale, _on_rays(_cross(origin, along_u), x, y) * scale,
                depth)

    def _wall(self, eye: int, seed: int) -> np.ndarray:
        u, v, _ = self._on_plane(self._wall_pose(eye), eye, slice(None), slice(None))
        size = SPECKLE_PX / 640 * self.wall_mm / FOCAL
        raw = np.random.PCG64([seed, 4]).random_raw(SPECKLES * SPECKLES // 8).astype('<u8', copy=False).view(np.uint8)
        speckles = raw.reshape(SPECKLES, SPECKLES) * (WALL_WHITE / 255)
        fine, coarse = (_interpolated(speckles, u / (size * factor), v / (size * factor)) for factor in (1, 6))
        return (0.6 * fine + 0.4 * coarse + 0.5).astype(np.uint8)


def _board(u: np.ndarray, v: np.ndarray, blur: float) -> Tuple[np.ndarray, np.ndarray]:
    """Opacity (the board and its rim: 1) and shade (0: black, 1: white) at coordinates in squares."""
    # The outermost squares go on under the rim, so that no line shows where they end.
    across, down = (_stripes(np.clip(part, -0.5, inner - 0.5), blur) for part, inner in zip((u, v), BOARD))
    pattern = 0.5 + 2 * across * down
    inside, opacity = (_within(u, BOARD[0], rim, blur) * _within(v, BOARD[1], rim, blur) for rim in (0.0, MARGIN))
    return opacity, 1 + inside * (pattern - 1)


def _stripes(u: np.ndarray, blur: float) -> np.ndarray:
    """0.5 and -0.5 in turn, changing over at whole numbers."""
    phase = u - 0.5
    distance = np.abs(phase - 2 * np.floor(phase / 2) - 1) - 0.5
    return np.clip(distance / blur, -0.5, 0.5)


def _within(u: np.ndarray, inner: int, rim: float, blur: float) -> np.ndarray:
    """1 between the outermost lines and the rim around them, 0 outside."""
    middle = (inner - 1) / 2
    return np.clip(((inner + 1) / 2 + rim - np.abs(u - middle)) / blur + 0.5, 0, 1)


def _interpolated(table: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """A table of values at whole numbers, repeated for ever, bilinear between them."""
    left, top = np.floor(u), np.floor(v)
    across, down = u - left, v - top
    column, row = left.astype(np.int64) % SPECKLES, top.astype(np.int64) % SPECKLES
    right, below = (column + 1) % SPECKLES, (row + 1) % SPECKLES
    upper = table[row, column] * (1 - across) + table[row, right] * across
    lower = table[below, column] * (1 - across) + table[below, right] * across
    return upper * (1 - down) + lower * down


def _swing(index: int, period: int) -> float:
    """To and fro between -1 and 1, evenly."""
    place = index % period * 2
    return 1 - 2 * abs(place - period) / period


def _turn(half_tangents: Vector) -> Matrix:
    """A rotation without sines (Cayley's): about the vector, by twice the arc tangent of its length."""
    x, y, z = half_tangents
    square = x * x + y * y + z * z
    keep, whole = 1 - square, 1 + square
    return (((keep + 2 * x * x) / whole, 2 * (x * y - z) / whole, 2 * (x * z + y) / whole),
            (2 * (x * y + z) / whole, (keep + 2 * y * y) / whole, 2 * (y * z - x) / whole),
            (2 * (x * z - y) / whole, 2 * (y * z + x) / whole, (keep + 2 * z * z) / whole))


def _dot(a: Vector, b: Vector) -> float:
    # Not sum(): from Python 3.12 on it rounds otherwise.
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _cross(a: Vector, b: Vector) -> Vector:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


def _on_rays(vector: Vector, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The dot product of a vector with the rays (x, y, 1)."""
    return vector[0] * x + vector[1] * y + vector[2]


def _transform(pose: Pose, point: Vector) -> Vector:
    x, y, z = (_dot(row, point) + shift for row, shift in zip(*pose))
    return x, y, z


def _after(outer: Pose, inner: Pose) -> Pose:
    """The pose that does first ``inner``, then ``outer``."""
    columns = list(zip(*inner.rotation))
    first, second, third = (tuple(_dot(row, column) for column in columns) for row in outer.rotation)
    return Pose((first, second, third), _transform(outer, inner.translation_mm))    # type: ignore[arg-type]
