"""Two cameras as one: paired by time, side by side.

::

    left camera  ─► thread ─► up to 8 frames ─┐
                                              ├─ same time? ─► both halves into one ring slot
    right camera ─► thread ─► up to 8 frames ─┘      no: the older frame is 'unpaired'
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import replace
from typing import Any, Callable, Deque, Dict, List, Mapping, NamedTuple, NoReturn, Optional, Tuple

import numpy as np

from ..errors import CameraError, CameraFormatError
from .base import LOSS_DETECTION, Camera, CameraRequest, FrameSink, Granted, Stamp

__all__ = ['StereoPair']

log = logging.getLogger(__name__)

BUFFERS = 8               # frames of one eye that may wait for the other
RATE_TOLERANCE = 0.01
JOIN_TIMEOUT_S = 1.0
ROOM_TIMEOUT_S = 0.25     # so long an eye keeps all its frames for the other's sake
#: How far apart a pair's two times may be, in frame periods. The second holds while the two drift past each other:
#: with the first alone, frames half a period apart would change partners with every quiver of a timestamp.
NEAREST, KEPT = 0.5, 0.6
#: A skew that jumps by more is that of another frame (a whole period away), because one was lost.
JUMP = 0.7
#: Of each pair's skew, so much goes into the usual one.
LEARNING = 1 / 8
SIDES = ('left', 'right')


class _Half(NamedTuple):
    """One eye's frame, waiting for the other's."""

    stamp: Stamp
    host_ns: int
    image: np.ndarray


class _Pair(NamedTuple):
    """Two frames of the same time; skew is the left one's time minus the right one's."""

    left: _Half
    right: _Half
    skew_ns: int


class StereoPair(Camera):
    """Two cameras of the same size, format and rate, recorded side by side, the left one on the left.

    Each is read in a thread of its own, in the reader process. Frames are paired by sensor time where both cameras
    count on the same clock of the system (or are files, by time from their start), else by arrival; a pair's two times
    differ by half a frame period at most (0.6 while they drift past each other). The recording begins with the first
    pair; a frame that finds no partner after that is dropped and reported as lost with the reason 'unpaired'. Two
    free-running cameras drift; where their phases cross, single frames stay unpaired. The pair bears the times of the
    eye whose losses can be seen better. Each pair's skew is in its ``Stamp`` (and so in its page); ``statistics`` sums
    it up.

    The request's width is that of both eyes together. ``camera_controls`` go to both, or separately as
    ``{'left': {...}, 'right': {...}}``.
    """

    name = 'pair'

    def __init__(self, left: Camera, right: Camera) -> None:
        for side, camera in zip(SIDES, (left, right)):
            if not isinstance(camera, Camera):
                raise CameraError(f'the {side} camera is a {type(camera).__name__}, not a Camera; pass instances')
        if left is right:
            raise CameraError('left and right are the same camera object; pass two')
        self.left, self.right = left, right
        self._eyes: Tuple[_Eye, ...] = ()

    def __repr__(self) -> str:
        return f'StereoPair({self.left!r}, {self.right!r})'

    def open(self, request: CameraRequest) -> Granted:
        if request.width % 2:
            raise CameraFormatError(f'width {request.width} cannot be halved between two cameras; '
                                    'use an even x_resolution')
        self._changed = threading.Condition()
        self._closed = self._stopping = False
        self._error: Optional[Tuple[str, BaseException]] = None
        self._reports: List[Tuple[int, str, Optional[int], str]] = []
        self._pairs = 0
        self._before_first = 0
        self._unpaired = {side: 0 for side in SIDES}
        self._skew_sum = self._skew_max = 0
        self._by_sensor: Optional[bool] = None
        self._usual_ns: Optional[float] = None         # skew
        granted = self._open_both(request)
        self._require_alike(*granted)
        self._eyes = tuple(_Eye(self, *item) for item in zip(SIDES, (self.left, self.right), granted))
        self._leader = min((0, 1), key=lambda eye: LOSS_DETECTION.index(granted[eye].loss_detection))
        return _joined(granted, self._leader)

    def start(self) -> None:
        for eye in self._eyes:
            eye.camera.start()
        for eye in self._eyes:
            eye.thread.start()

    def read(self, out: np.ndarray) -> Optional[Stamp]:
        pair = self._next_pair()
        return None if pair is None else self._join(pair, out)

    def stream(self, sink: FrameSink) -> None:
        sink.when_stopping(self._stop_waiting)
        while not sink.stopping:
            pair = self._next_pair()
            self._tell(sink)
            if pair is None:
                return
            sink.commit(self._join(pair, sink.slot()))

    def close(self) -> None:
        """Stop both threads (waiting 1 s for each, then closing its camera under it), then both cameras."""
        eyes, self._eyes = self._eyes, ()
        if eyes:
            with self._changed:
                self._closed = True
                for eye in eyes:
                    eye.stopping = True
                self._changed.notify_all()
        # A camera that waits for a frame is woken, or else by its close; the others end with their next frame.
        for eye in eyes:
            eye.wake()
        for eye in eyes:
            eye.stop()
        self._close_both()

    def statistics(self) -> Dict[str, Any]:
        """How the pairing went: skew is the distance of a pair's two times, without its sign; and each eye's own."""
        pairs = self._pairs
        told = {'pairs': pairs, 'unpaired': sum(self._unpaired.values()), 'unpaired_by_eye': dict(self._unpaired),
                'before_first_pair': self._before_first,
                'paired_by': 'sensor' if self._by_sensor else 'arrival',
                'skew_mean_ms': self._skew_sum / pairs / 1e6 if pairs else None,
                'skew_max_ms': self._skew_max / 1e6 if pairs else None}
        for side, camera in zip(SIDES, (self.left, self.right)):
            statistics = getattr(camera, 'statistics', None)
            if statistics is not None:
                told[side] = dict(statistics())
        return told

    def _open_both(self, request: CameraRequest) -> Tuple[Granted, Granted]:
        granted = []
        try:
            for side, camera in zip(SIDES, (self.left, self.right)):
                granted.append(camera.open(_eye_request(request, side)))
        except BaseException:
            self._close_both()
            raise
        return granted[0], granted[1]

    def _close_both(self) -> None:
        try:
            self.left.close()
        finally:
            self.right.close()

    def _require_alike(self, left: Granted, right: Granted) -> None:
        facts = [(one.frame_width, one.frame_height, one.pixel_format) for one in (left, right)]
        rates = [one.framerate for one in (left, right)]
        differ = None not in rates and abs(rates[0] - rates[1]) > RATE_TOLERANCE * rates[0]    # type: ignore
        if facts[0] == facts[1] and not differ:
            return
        self._close_both()
        told = [f'{width}x{height} {form} at {rate or "?"} Hz' for (width, height, form), rate in zip(facts, rates)]
        raise CameraFormatError(f'the left camera gives {told[0]}, the right {told[1]}; a pair needs the same size, '
                                'format and rate: ask for them with x_resolution, y_resolution, framerate')

    # -- between the threads; everything below holds self._changed

    def _next_pair(self) -> Optional[_Pair]:
        """Wait for two frames of the same time. None: one of the cameras has ended, or we are closed."""
        if not self._eyes:
            return None
        left, right = self._eyes
        with self._changed:
            while not self._closed and not self._stopping:
                if self._error is not None:
                    _raise_for(*self._error)
                pair = self._match(left, right)
                if pair is not None:
                    return pair
                if any(eye.ended and not eye.waiting for eye in (left, right)):
                    return None
                self._changed.wait()
        return None

    def _stop_waiting(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def _match(self, left: '_Eye', right: '_Eye') -> Optional[_Pair]:
        while left.waiting and right.waiting:
            if self._by_sensor is None:
                self._by_sensor = left.can_pair_by_sensor(right)
            skew = left.time_of(left.waiting[0], self._by_sensor) - right.time_of(right.waiting[0], self._by_sensor)
            if self._belong_together(skew, max(left.period_ns(), right.period_ns())):
                self._pairs += 1
                self._skew_sum += abs(skew)
                self._skew_max = max(self._skew_max, abs(skew))
                return _Pair(left.waiting.popleft(), right.waiting.popleft(), skew)
            self._leave_alone(left if skew < 0 else right)
        return None

    def _make_room(self, eye: '_Eye') -> None:
        """An eye has waited for a buffer in vain: unless there is something to pair, its oldest frame stays alone."""
        if eye.waiting and not any(other.waiting for other in self._eyes if other is not eye):
            self._leave_alone(eye)

    def _leave_alone(self, eye: '_Eye') -> None:
        """Drop the eye's oldest frame: it has no partner."""
        alone = eye.drop_oldest()
        if not self._pairs:
            self._before_first += 1          # one camera started earlier: the recording begins with the first pair
            return
        self._unpaired[eye.side] += 1
        on_the_pairs_clock = eye.side == SIDES[self._leader]
        self._reports.append((1, 'unpaired', alone.stamp.sensor_ns if on_the_pairs_clock else None, ''))

    def _belong_together(self, skew: int, period: float) -> bool:
        usual = self._usual_ns
        if usual is None:
            together = abs(skew) <= NEAREST * period
        else:
            as_usual = abs(skew - usual) <= JUMP * period
            together = as_usual and abs(skew) <= KEPT * period
            if as_usual and not together:
                self._usual_ns = None      # they have drifted past each other: from now on other frames are nearer
        if together:
            self._usual_ns = skew if usual is None else usual + LEARNING * (skew - usual)
        return together

    # -- in the reader's own thread

    def _join(self, pair: _Pair, out: np.ndarray) -> Stamp:
        width = pair.left.image.shape[1]
        out[:, :width] = pair.left.image
        out[:, width:] = pair.right.image
        halves = (pair.left, pair.right)
        with self._changed:
            for eye, half in zip(self._eyes, halves):
                eye.free.append(half.image)
            self._changed.notify_all()
        return halves[self._leader].stamp._replace(skew_ns=pair.skew_ns)

    def _tell(self, sink: FrameSink) -> None:
        with self._changed:
            reports, self._reports = self._reports, []
        for count, reason, sensor_ns, detail in reports:
            sink.lost(count, reason, sensor_ns, detail)


class _Eye(FrameSink):
    """One camera of the pair: its thread, and the sink into which that streams."""

    def __init__(self, pair: StereoPair, side: str, camera: Camera, granted: Granted) -> None:
        self.side, self.camera, self.granted = side, camera, granted
        self.stopping = False
        self.ended = False
        self.free: Deque[np.ndarray] = deque(np.empty(granted.frame_shape, np.uint8) for _ in range(BUFFERS))
        self.waiting: Deque[_Half] = deque()
        self.thread = threading.Thread(target=self._run, name=f'ppr-{side}-eye', daemon=True)
        self._pair = pair
        self._filling: Optional[np.ndarray] = None
        self._first_ns: Optional[int] = None
        self._last_host_ns = 0
        self._interval_ns = 0
        self._wakers: List[Callable[[], None]] = []

    def when_stopping(self, wake: Callable[[], None]) -> None:
        with self._pair._changed:
            self._wakers.append(wake)
            stopping = self.stopping
        if stopping:
            wake()

    def wake(self) -> None:
        """Tell the camera, which may be silent, that it is to stop."""
        with self._pair._changed:
            wakers = list(self._wakers)
        for wake in wakers:
            wake()

    def slot(self) -> np.ndarray:
        """Waits while all buffers are taken: a real camera then loses frames itself, where its clock shows it.

        But not for ever where the other eye shows nothing: both may live in one and the same thread (the firmware's).
        """
        if self._filling is None:
            with self._pair._changed:
                while not self.free and not self.stopping:
                    came = self._pair._changed.wait(None if self.granted.waits else ROOM_TIMEOUT_S)
                    if not came:
                        self._pair._make_room(self)
                self._filling = self.free.popleft() if self.free else np.empty(self.granted.frame_shape, np.uint8)
        return self._filling

    def commit(self, stamp: Stamp) -> None:
        host_ns = time.monotonic_ns()
        assert self._filling is not None
        with self._pair._changed:
            self.waiting.append(_Half(stamp, host_ns, self._filling))
            self._interval_ns = host_ns - self._last_host_ns if self._last_host_ns else 0
            self._last_host_ns = host_ns
            if self._first_ns is None:
                self._first_ns = stamp.sensor_ns
            self._filling = None
            self._pair._changed.notify_all()

    def lost(self, count: int, reason: str, sensor_ns: Optional[int] = None, detail: str = '') -> None:
        """The partner of a frame that an eye reports lost is found unpaired, and counted there."""
        text = f'{self.side} camera: {reason}' + (f', {detail}' if detail else '')
        with self._pair._changed:
            self._pair._reports.append((0, reason, sensor_ns, text))

    def drop_oldest(self) -> _Half:
        half = self.waiting.popleft()
        self.free.append(half.image)
        self._pair._changed.notify_all()
        return half

    def can_pair_by_sensor(self, other: '_Eye') -> bool:
        if self._first_ns is None or other._first_ns is None:
            return False
        if self._is_tied() and other._is_tied():
            return True
        bases = {self.granted.clock_base, other.granted.clock_base}
        return len(bases) == 1 and ('own' not in bases or (self.granted.waits and other.granted.waits))

    def _is_tied(self) -> bool:
        return self.granted.clock_base == 'own' and self.granted.clock_offset_ns is not None

    def time_of(self, half: _Half, by_sensor: bool) -> int:
        if not by_sensor or half.stamp.sensor_ns is None:
            return half.host_ns
        if self.granted.clock_base != 'own':
            return half.stamp.sensor_ns
        if self.granted.clock_offset_ns is not None:
            return half.stamp.sensor_ns + self.granted.clock_offset_ns
        # The zeros of two files' clocks have nothing in common but the start of what they stamp.
        return half.stamp.sensor_ns - (self._first_ns or 0)

    def period_ns(self) -> float:
        if self.waiting and self.waiting[0].stamp.duration_ns:
            return self.waiting[0].stamp.duration_ns
        return 1e9 / self.granted.framerate if self.granted.framerate else self._interval_ns or 1e9

    def stop(self) -> None:
        """End the thread; a camera that hangs is closed under it, which may or may not wake it."""
        if not self.thread.ident:
            return
        self.thread.join(JOIN_TIMEOUT_S)
        if self.thread.is_alive():
            self.camera.close()
            self.thread.join(JOIN_TIMEOUT_S)
        if self.thread.is_alive():
            log.warning('the %s camera hangs; its thread is left to the end of the process', self.side)

    def _run(self) -> None:
        error: Optional[BaseException] = None
        try:
            self.camera.stream(self)
        except BaseException as problem:
            error = problem
        with self._pair._changed:
            self.ended = True
            if error is not None and self._pair._error is None:
                self._pair._error = self.side, error
            self._pair._changed.notify_all()


def _eye_request(request: CameraRequest, side: str) -> CameraRequest:
    controls: Mapping[str, Any] = request.controls
    if controls and set(controls) <= set(SIDES):
        controls = controls.get(side, {})
    return replace(request, width=request.width // 2, stereo=False, controls=controls)


def _joined(granted: Tuple[Granted, Granted], leader: int) -> Granted:
    left, right = granted
    about = {side: {'model': one.model, 'clock': one.clock, 'loss_detection': one.loss_detection,
                    'details': dict(one.details)} for side, one in zip(SIDES, granted)}
    rate = None if left.framerate is None or right.framerate is None else left.framerate
    return replace(granted[leader], width=left.width + right.width, frame_width=left.frame_width + right.frame_width,
                   framerate=rate if granted[leader].loss_detection != 'fixed_rate' else granted[leader].framerate,
                   waits=left.waits and right.waits, model=f'{left.model} + {right.model}', details=about,
                   warnings=left.warnings + right.warnings)


def _raise_for(side: str, error: BaseException) -> NoReturn:
    kind = type(error) if type(error).__module__ == CameraError.__module__ and isinstance(error, CameraError) \
        else CameraError
    raise kind(f'the {side} camera: {error}') from error
