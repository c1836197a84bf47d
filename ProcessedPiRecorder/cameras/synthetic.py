"""A camera that is not there, with a truth that is known: seeded, exact, and able to fail on request."""

from __future__ import annotations

import logging
import math
import os
import signal
import threading
import time
from collections import deque
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Deque, Iterable, List, Mapping, Optional, Tuple

import numpy as np

from ..errors import CameraError, CameraFormatError, SettingsError
from .base import LOSS_DETECTION, Camera, CameraListing, CameraRequest, Granted, Stamp, recorded_size
from .scene import MAX_NOISE, SCENES, Scene, read_index
from .timeline import Timeline

__all__ = ['SyntheticCamera', 'SyntheticOptions']

log = logging.getLogger(__name__)

DEFAULT_HZ = 30.0
#: Frames that the sensor keeps for a reader that is late, as the capture buffers of a real camera do.
BUFFERS = 4


@dataclass(frozen=True)
class SyntheticOptions:
    """The keywords of :class:`SyntheticCamera`, described there."""

    seed: int = 0
    width: int = 640
    height: int = 480
    scene: str = 'shapes'
    noise: Optional[float] = None
    pace: bool = True
    actual_hz: Optional[float] = None
    lose_every: int = 0
    skip: Tuple[int, ...] = ()
    stall_at: Optional[int] = None
    stall_s: float = 2.0
    raise_at: Optional[int] = None
    exit_at: Optional[int] = None
    exit_code: int = 1
    kill_at: Optional[int] = None
    kill_signal: int = int(signal.SIGKILL)
    frames: Optional[int] = None
    loss_detection: str = 'frame_duration'
    disparity: int = 8
    duration_pattern: Tuple[Tuple[int, float], ...] = ()
    buffers: int = BUFFERS

    def __post_init__(self) -> None:
        for name in ('seed', 'lose_every', 'disparity', 'exit_code'):
            self._require(name, _whole(getattr(self, name), 0), 'a whole number from 0')
        for name in ('width', 'height', 'kill_signal', 'buffers'):
            self._require(name, _whole(getattr(self, name), 1), 'a whole number from 1')
        for name in ('stall_at', 'raise_at', 'exit_at', 'kill_at'):
            value = getattr(self, name)
            self._require(name, value is None or _whole(value, 0), 'the number of a frame, or None')
        self._require('frames', self.frames is None or _whole(self.frames, 1), 'a whole number from 1, or None')
        self._require('lose_every', self.lose_every != 1, '0, or from 2 on (1 would lose every frame)')
        self._require('pace', isinstance(self.pace, bool), 'True or False')
        self._require('scene', self.scene in SCENES, ' or '.join(map(repr, SCENES)))
        self._require('loss_detection', self.loss_detection in LOSS_DETECTION, ' or '.join(map(repr, LOSS_DETECTION)))
        self._require('noise', self.noise is None or _real(self.noise, 0, MAX_NOISE),
                      f'a standard deviation from 0 to {MAX_NOISE:g} gray levels, or None')
        self._require('actual_hz', self.actual_hz is None or _real(self.actual_hz, 1e-3, 1e5),
                      'a rate in Hz from 0.001 to 100000, or None')
        self._require('stall_s', _real(self.stall_s, 0, math.inf), 'seconds, 0 or more; inf: for good')
        self._check_sequences()

    def _check_sequences(self) -> None:
        """Lists are welcome (they come so from JSON); tuples are kept."""
        skip, pattern = self.skip, self.duration_pattern
        good = isinstance(skip, Iterable) and not isinstance(skip, str) and all(_whole(item, 0) for item in skip)
        self._require('skip', good, 'a list of frame numbers')
        good = isinstance(pattern, (list, tuple)) and all(
            isinstance(item, (list, tuple)) and len(item) == 2 and _whole(item[0], 1) and _real(item[1], 0.01, 100)
            for item in pattern)
        self._require('duration_pattern', good, 'a list of (frames, factor) pairs, factor from 0.01 to 100')
        object.__setattr__(self, 'skip', tuple(sorted(int(item) for item in skip)))
        object.__setattr__(self, 'duration_pattern', tuple((int(n), float(factor)) for n, factor in pattern))

    def _require(self, name: str, good: bool, allowed: str) -> None:
        if not good:
            raise SettingsError(f'{name}={getattr(self, name)!r} does not suit the synthetic camera; use {allowed}')


class SyntheticCamera(Camera):
    """A seeded camera whose every frame is known: ``frame(i)`` is exactly what it delivers as frame i.

    Keywords, each also accepted in ``camera_controls`` (those override):
        seed: of noise and shapes. Same seed, same pixels, on every machine and numpy version.
        width, height: default size of one eye's sensor, pixels; x_resolution and y_resolution override.
        scene: 'shapes' (a gradient with moving shapes), 'noise' (nothing but noise), 'flat' (hard-edged shapes
            on an even ground, like dark-field pictures or masks), or 'chessboard' (in perspective, for calibrating;
            what is where is told by ``cameras.chessboard.Chessboard(width of an eye, height, seed)``).
        noise: standard deviation of the sensor's noise in gray levels; None: 2.5, and 0 for 'flat'.
        pace: True: frames come at the granted rate. False: as fast as they are taken; the camera then waits for
            the recorder and its timestamps run at the granted rate all the same.
        actual_hz: runs at this rate whatever was asked, and grants it.
        lose_every: every n-th sensor frame (n-1, 2n-1, ...) is never delivered: a gap in sensor time.
        skip: numbers of sensor frames that are never delivered.
        stall_at, stall_s: hangs for stall_s seconds before frame stall_at; the sensor's frames meanwhile are lost.
        raise_at, exit_at, kill_at: when this frame is due, raises CameraError, leaves the process with exit_code,
            or sends kill_signal to its own process.
        frames: the source ends after this many sensor frames.
        loss_detection: 'frame_duration', 'fixed_rate', 'count', or 'none' (no timestamps at all).
        disparity: with stereo, how far (pixels of the recorded frame) the right eye sees everything further left; not
            in the scene 'chessboard', where it follows from each thing's distance.
        duration_pattern: ((frames, factor), ...), repeated: frame durations as multiples of the granted rate's,
            as auto-exposure makes them.
        buffers: finished frames that the sensor keeps for a reader that is late (4, as real cameras have).

    Frames are rendered at the recorded size: it has a resizer of its own. When paced, it treats a slow reader as
    a real sensor does: finished frames wait in ``buffers``, in order; a frame that finishes while all are taken is
    lost. A frame counts as finished at the end of its duration; its timestamp is its start (CLOCK_MONOTONIC).
    """

    name = 'synthetic'

    def __init__(self, **options: Any) -> None:
        self.options = _options(SyntheticOptions(), options, SettingsError)
        self.granted: Optional[Granted] = None
        self._scene: Optional[Scene] = None
        self._sensor: Optional[_Sensor] = None
        self._closed = threading.Event()

    def __getstate__(self) -> Mapping[str, Any]:
        """What travels to another process: the options. An open camera stays where it is."""
        return {'options': self.options}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__init__(**asdict(state['options']))    # type: ignore[misc]

    def __repr__(self) -> str:
        plain = SyntheticOptions()
        changed = (f'{item.name}={getattr(self.options, item.name)!r}' for item in fields(self.options)
                   if getattr(self.options, item.name) != getattr(plain, item.name))
        return f'SyntheticCamera({", ".join(changed)})'

    def configure(self, request: CameraRequest) -> Granted:
        """Settle size, format and rate without starting anything; afterwards ``frame(i)`` can be asked.

        Raises CameraFormatError for an unknown control or a size that cannot be.
        """
        options = self._options = _options(self.options, request.controls, CameraFormatError)
        width = request.width or options.width * (2 if request.stereo else 1)
        height = request.height or options.height
        if request.stereo and width % 2:
            raise CameraFormatError(f'width {width} cannot be halved between two eyes; use an even x_resolution')
        size = recorded_size(width, height, request.scale_factor, request.stereo)
        noise = options.noise if options.noise is not None else (0.0 if options.scene == 'flat' else 2.5)
        self._scene = Scene(*size, request.pixel_format, kind=options.scene, noise=noise, seed=options.seed,
                            stereo=request.stereo, disparity=min(options.disparity, size[0]))
        rate = options.actual_hz or request.framerate or DEFAULT_HZ
        self._timeline = Timeline(round(1e9 / rate), options.duration_pattern)
        self._plan = _Sensor(options, self._timeline)
        self.granted = Granted(
            width, height, *size, rate, request.pixel_format, clock=_CLOCKS[options.loss_detection == 'none'],
            loss_detection=options.loss_detection, waits=not options.pace,
            clock_base='monotonic' if options.pace else 'own', model='synthetic camera', details=_details(options))
        return self.granted

    def frame(self, index: int) -> np.ndarray:
        """The exact image of sensor frame ``index``: uint8, (height, width, 3) BGR or (height, width) gray.

        Needs ``open`` or ``configure`` first (raises CameraError otherwise): the size must be known.
        """
        if self._scene is None or self.granted is None:
            raise CameraError('frame(i) before the size is known: call configure(CameraRequest(...)) or open() first')
        out = np.empty(self.granted.frame_shape, np.uint8)
        self._scene.render(index, out)
        return out

    def is_lost(self, index: int) -> bool:
        """Whether the camera was told never to deliver this frame (lose_every, skip, a stall)."""
        if self.granted is None:
            raise CameraError('is_lost(i) before the rate is known: call configure(CameraRequest(...)) or open() first')
        return self._plan.is_lost(index)

    @staticmethod
    def index_of(image: np.ndarray, stereo: bool = False) -> int:
        """The frame number written into an image's first and last rows. ValueError: the image is torn."""
        if not stereo:
            return read_index(image)
        half = image.shape[1] // 2
        numbers = read_index(image[:, :half]), read_index(image[:, half:])
        if numbers[0] != numbers[1]:
            raise ValueError(f'the left eye is of frame {numbers[0]}, the right of frame {numbers[1]}')
        return numbers[0]

    def open(self, request: CameraRequest) -> Granted:
        granted = self.configure(request)
        self._closed.clear()
        self._sensor = None
        return granted

    def start(self) -> None:
        if self.granted is None:
            raise CameraError('start() before open(): open the camera first')
        self._sensor = _Sensor(self._options, self._timeline)
        self._start_ns = time.monotonic_ns()

    def read(self, out: np.ndarray) -> Optional[Stamp]:
        if self._sensor is None:
            self.start()
        assert self._sensor is not None and self._scene is not None
        index = self._next_paced() if self._options.pace else self._next_fast()
        if index is None:
            return None
        self._scene.render(index, out)
        return self._stamp(index)

    def close(self) -> None:
        self._closed.set()

    def _next_paced(self) -> Optional[int]:
        sensor = self._sensor
        assert sensor is not None
        while not self._closed.is_set():
            now = time.monotonic_ns() - self._start_ns
            sensor.run_until(now)
            if sensor.held:
                self._misbehave(sensor.held[0])
                return sensor.held.popleft()
            due = sensor.next_arrival()
            if sensor.ended(now):
                return None
            self._closed.wait(None if due is None else max(0, due - now) / 1e9)
        return None

    def _next_fast(self) -> Optional[int]:
        sensor = self._sensor
        assert sensor is not None
        if sensor.stalls_next():
            forever = math.isinf(self._options.stall_s)
            self._closed.wait(None if forever else self._options.stall_s)
        index = sensor.take()
        if index is None or self._closed.is_set():
            return None
        self._misbehave(index)
        return index

    def _misbehave(self, index: int) -> None:
        options = self._options
        if options.exit_at is not None and index >= options.exit_at:
            os._exit(options.exit_code)
        if options.kill_at is not None and index >= options.kill_at:
            os.kill(os.getpid(), options.kill_signal)
        if options.raise_at is not None and index >= options.raise_at:
            raise CameraError(f'the synthetic camera fails at frame {index}, as it was told (raise_at='
                              f'{options.raise_at})')

    def _stamp(self, index: int) -> Stamp:
        mode = self._options.loss_detection
        if mode == 'none':
            return Stamp()
        return Stamp(self._start_ns + self._timeline.offset(index),
                     self._timeline.duration(index) if mode == 'frame_duration' else None,
                     index if mode == 'count' else None)

    @classmethod
    def listings(cls) -> List[CameraListing]:
        return [CameraListing('synthetic', 'a seeded camera with known frames, for trying out and testing', True)]


class _Sensor:
    """Which frame comes when: the sensor makes frames by the clock, whether or not anyone reads them."""

    def __init__(self, options: SyntheticOptions, timeline: Timeline) -> None:
        self.held: Deque[int] = deque()
        self._timeline = timeline
        self._lose_every = options.lose_every
        self._skip = frozenset(options.skip)
        self._limit: float = math.inf if options.frames is None else options.frames
        self._next = 0
        self._buffers = options.buffers
        self._stall: Optional[int] = options.stall_at
        self._stall_end: float = 0
        if self._stall is not None:
            self._stall_end = math.inf if math.isinf(options.stall_s) else timeline.finished(
                timeline.offset(self._stall) + int(options.stall_s * 1e9) - 1) + 1

    def is_lost(self, index: int) -> bool:
        if self._stall is not None and self._stall <= index < self._stall_end:
            return True
        return index in self._skip or bool(self._lose_every and (index + 1) % self._lose_every == 0)

    def _silent_for_good(self, index: int) -> bool:
        return self._stall is not None and math.isinf(self._stall_end) and index >= self._stall

    def run_until(self, now: int) -> None:
        """Let the sensor make everything that is finished by ``now`` (ns since its start)."""
        while self._next < self._limit and self._timeline.offset(self._next + 1) <= now:
            if self.is_lost(self._next):
                self._pass_lost()
            elif len(self.held) < self._buffers:
                self.held.append(self._next)
                self._next += 1
            else:
                # Every buffer is taken: what finished meanwhile is gone, however long that was.
                self._next = int(min(self._timeline.finished(now), self._limit))

    def next_arrival(self) -> Optional[int]:
        """When the next deliverable frame (or else the end) is due; None: never."""
        index: float = self._next
        while index < self._limit and self.is_lost(int(index)):
            if self._silent_for_good(int(index)):
                return None
            index += 1
        return self._timeline.offset(int(min(index + 1, self._limit)))

    def ended(self, now: int) -> bool:
        return self._next >= self._limit and now >= self._timeline.offset(int(self._limit))

    def stalls_next(self) -> bool:
        return self._stall is not None and self._next == self._stall

    def take(self) -> Optional[int]:
        """The next deliverable frame, for a camera that waits."""
        while self._next < self._limit and self.is_lost(self._next):
            if self._silent_for_good(self._next):
                return None
            self._pass_lost()
        if self._next >= self._limit:
            return None
        self._next += 1
        return self._next - 1

    def _pass_lost(self) -> None:
        if self._next == self._stall and not math.isinf(self._stall_end):
            self._next = int(self._stall_end)
        else:
            self._next += 1


_CLOCKS = ('CLOCK_MONOTONIC at the start of the recording plus an exact grid of frame durations', 'none')


def _options(base: SyntheticOptions, changes: Mapping[str, Any], error: type) -> SyntheticOptions:
    allowed = [item.name for item in fields(SyntheticOptions)]
    unknown = [name for name in changes if name not in allowed]
    if unknown:
        raise error(f'the synthetic camera has no control {unknown[0]!r}; it has {", ".join(allowed)}')
    try:
        return replace(base, **changes)
    except SettingsError as problem:
        raise error(str(problem)) from None


def _details(options: SyntheticOptions) -> Mapping[str, Any]:
    details = asdict(options)
    details['skip'] = list(options.skip)
    details['duration_pattern'] = [list(item) for item in options.duration_pattern]
    if math.isinf(options.stall_s):
        details['stall_s'] = 'inf'     # JSON has no infinity
    return details


def _whole(value: Any, low: int) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and int(value) >= low


def _real(value: Any, low: float, high: float) -> bool:
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    return number and low <= float(value) <= high
