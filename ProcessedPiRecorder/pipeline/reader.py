"""The reader process: takes every frame from the camera into the ring, numbers it, times it, finds what is missing.

Its main thread does nothing but that. A second thread listens to the keeper, takes clock anchors and notices a
camera that has gone silent; it sleeps in between.
"""

from __future__ import annotations

import collections
import logging
import os
import threading
import time
from typing import Any, Callable, Deque, Dict, List, NamedTuple, Optional

import numpy as np

from ..cameras.base import Camera, FrameSink, Granted, Stamp, recorded_size
from ..errors import CameraError, CameraStalledError
from .channel import Channel, RemoteError
from .clocks import ANCHOR_PERIOD_S, SET_BACK_NS, TICK_NS, Anchors, OriginatingTime
from .links import NOTHING, Kind, LinkReader, LinkWriter, fit_link
from .losses import LossDetector
from .plan import LOSS_REASONS, STOP_GRACE_S, Plan
from .ring import Ring, Stat
from .stamps import Stamper

__all__ = ['ReaderArguments', 'reader_main']

log = logging.getLogger(__name__)

#: However short camera_timeout is, a camera may be silent for so many frame periods.
STALL_PERIODS = 3
#: A broken cable can damage every frame, each in a way of its own: the first of these tell enough, and neither memory
#: nor the report may grow with the rest. (Lost frames are counted, all of them.)
MOST_DETAILS, MOST_DEFECTS = 10_000, 100


class ReaderArguments(NamedTuple):
    """The reader's ends of its links."""

    frames_fd: int       # to the writer
    free_fd: int         # from the writer


class _WriterGone(BrokenPipeError):
    """The writer process has ended. A BrokenPipeError of the camera's own is something else."""


class _PendingLoss:
    """Losses next to each other, for the same reason, told as one."""

    def __init__(self, index: int, count: int, time_ns: int, reason: str) -> None:
        self.index, self.count, self.time_ns, self.reason = index, count, time_ns, reason


class RingSink(FrameSink):
    """The camera's way into the ring. Used by one thread at a time, in the reader process."""

    def __init__(self, plan: Plan, granted: Granted, ring: Ring, frames: LinkWriter, free: LinkReader) -> None:
        settings = plan.settings
        self.stopping = False
        self.stopped = ''                       # why, once it is known
        self.last_host_ns = time.monotonic_ns()
        self.details: Dict[int, str] = {}       # loss index -> more about it
        self.defects: List[str] = []
        self._ring, self._frames, self._free_link = ring, frames, free
        self._free: Deque[int] = collections.deque(range(ring.layout.slots))
        self._slot: Optional[int] = None
        self._waits = granted.waits
        self._spare = np.empty(ring.layout.shape, np.uint8)
        self._resize = granted.frame_shape != ring.layout.shape
        self._camera_image = np.empty(granted.frame_shape, np.uint8) if self._resize else None
        self._wake_read, self._wake_write = os.pipe()
        self._wakers: List[Callable[[], None]] = []
        self._waking = threading.Lock()
        # What goes to the writer: one thread's, until the control thread ends a recording whose camera hangs.
        self._telling = threading.RLock()
        self._ended = False
        period_ns = round(1e9 / granted.framerate) if granted.framerate else None
        self._detector = LossDetector(granted.loss_detection, period_ns)
        self._period_ns = period_ns or 0
        self.times = OriginatingTime(granted.clock_base, granted.clock_offset_ns,
                                     1 if granted.exact_times else TICK_NS)
        self._length_ns = round(settings.rec_length * 1e9)
        # Half a period of tolerance: the frame *at* rec_length is already the next second's first.
        self._limit_ns = self._length_ns - self._period_ns // 2
        self._begin_ns: Optional[int] = None
        self._by_sensor = False
        self._elapsed_ns = 0
        self._next_index = 0
        self._last_time_ns = NOTHING
        self._pending: Optional[_PendingLoss] = None
        self._lost = 0
        self._captured = 0
        ring.stats[Stat.HOST_OFFSET_NS] = self.times.host_offset_ns
        wanted = settings.timestamp or settings.report_Hz or settings.monitor_qs
        self._stamper = Stamper(settings.timestamp, settings.report_Hz, settings.monitor_qs, settings.Hz_buffer,
                                ring.layout.shape[0], ring.layout.shape[1]) if wanted else None

    # -- for the camera

    def slot(self) -> np.ndarray:
        if self._slot is None:
            self._slot = self._take_slot()
        if self._camera_image is not None:
            return self._camera_image
        return self._spare if self._slot is None else self._ring.slots[self._slot]

    def when_stopping(self, wake: Callable[[], None]) -> None:
        with self._waking:
            self._wakers.append(wake)
            if not self.stopping:
                return
        wake()

    def commit(self, stamp: Stamp) -> None:
        with self._telling:
            if not self._ended:
                self._commit(stamp)

    def lost(self, count: int, reason: str, sensor_ns: Optional[int] = None, detail: str = '') -> None:
        with self._telling:
            if not (self._ended or self._is_beyond(sensor_ns)):
                self._report(count, reason, detail)

    def _commit(self, stamp: Stamp) -> None:
        host_ns = time.monotonic_ns()
        before_ns, self.last_host_ns = self.last_host_ns, host_ns
        if self.stopping:
            return
        missing = self._detector.see(stamp, host_ns)
        if self._past_the_end(stamp.sensor_ns, host_ns, host_ns - before_ns, missing):
            return
        if missing:
            self._lose(missing, self._gap_reason())
        time_ns = self.times.of(stamp.sensor_ns, host_ns)
        if self._slot is None:
            self._lose(1, 'ring full')
        else:
            self._pass_on(self._slot, time_ns, stamp, host_ns)
            self._slot = None
        self._last_time_ns = time_ns

    def _report(self, count: int, reason: str, detail: str) -> None:
        if detail:
            self._note_detail(self._next_index, detail)
        defect = f'{reason}: {detail}' if detail else '' if count else reason
        if defect and defect not in self.defects and len(self.defects) <= MOST_DEFECTS:
            self.defects.append(defect if len(self.defects) < MOST_DEFECTS else 'and more of the like')
        if count:
            self._detector.reported(count)
            self._lose(count, reason)

    def _note_detail(self, index: int, detail: str) -> None:
        if len(self.details) < MOST_DETAILS or index in self.details:
            self.details[index] = detail

    # -- for the reader

    @property
    def clock_defects(self) -> Dict[str, int]:
        """How often the camera's clock or its evidence of losses failed."""
        return {'not_increasing': self._detector.defects, 'losses_unseen': self._detector.unseen,
                'moved_times': self.times.moved}

    def stop(self, reason: str) -> None:
        """No more frames; wakes a source that waits for room. From any thread."""
        with self._waking:
            if self.stopping:
                return
            self.stopped = self.stopped or reason
            self.stopping = True
            os.write(self._wake_write, b'x')
            wakers = list(self._wakers)
        for wake in wakers:
            wake()

    def end(self) -> None:
        """Tell the writer of what is still untold, and that nothing follows; nothing does."""
        with self._telling:
            self._ended = True
            self._tell_losses()
            self._send(Kind.END)

    # -- inside

    def _take_slot(self) -> Optional[int]:
        if not self._free:                 # the link has room for all slots: no need to look before
            self._collect()
        if self._waits:
            while not self._free and not self.stopping:
                self._free_link.wait(None, self._wake_read)
                self._collect()
        return self._free.popleft() if self._free else None

    def _collect(self) -> None:
        for record in self._free_link.receive():
            self._free.append(record.slot)
        if self._free_link.ended:
            raise _WriterGone('the writer process is gone')

    def _past_the_end(self, sensor_ns: Optional[int], host_ns: int, host_gap_ns: int, missing: int) -> bool:
        """Whether this frame lies beyond rec_length; losses before the end are then still counted."""
        if self._begin_ns is None:
            self._by_sensor = sensor_ns is not None      # the first frame decides by which clock
            self._begin_ns = sensor_ns if sensor_ns is not None else host_ns
        now_ns = sensor_ns if self._by_sensor else host_ns
        if now_ns is None:
            return False                   # a frame without a time among others with one
        before_ns = self._elapsed_ns
        if now_ns - self._begin_ns < before_ns - SET_BACK_NS:
            self._begin_ns = now_ns - before_ns - host_gap_ns      # or rec_length would never come
        self._elapsed_ns = now_ns - self._begin_ns
        if not self._length_ns:
            return False
        if self._elapsed_ns < self._limit_ns:
            return False
        step_ns = (self._elapsed_ns - before_ns) / (missing + 1)
        inside = sum(before_ns + step_ns * (place + 1) < self._limit_ns for place in range(min(missing, 1_000_000)))
        if inside:
            self._lose(inside, self._gap_reason())
        self.stop('rec_length')
        return True

    def _is_beyond(self, sensor_ns: Optional[int]) -> bool:
        """Whether a frame that the camera knows to be lost would not have been recorded anyway."""
        if not self._length_ns or not self._by_sensor or sensor_ns is None or self._begin_ns is None:
            return False
        return sensor_ns - self._begin_ns >= self._limit_ns

    def _gap_reason(self) -> str:
        return 'stall' if self._detector.is_stall(self._detector.last_gap_ns) else 'camera gap'

    def _pass_on(self, slot: int, time_ns: int, stamp: Stamp, host_ns: int) -> None:
        image = self._ring.slots[slot]
        if self._resize:
            import cv2
            cv2.resize(self._camera_image, (image.shape[1], image.shape[0]), dst=image,
                       interpolation=cv2.INTER_AREA)
        stats = self._ring.stats
        if self._stamper is not None:
            self._stamper.stamp(image, time_ns, host_ns, {
                'ring': int(stats[Stat.IN_USE]), 'callback': int(stats[Stat.CALLBACK_QUEUE]),
                'write': int(stats[Stat.WRITE_QUEUE])})
        if self._pending is not None:
            self._tell_losses()
        self._send(Kind.FRAME, slot, self._next_index, time_ns,
                   NOTHING if stamp.sensor_ns is None else stamp.sensor_ns, host_ns,
                   NOTHING if stamp.skew_ns is None else stamp.skew_ns)
        self._next_index += 1
        self._captured += 1
        if self._captured == 1:
            stats[Stat.FIRST_NS] = time_ns
        stats[Stat.LAST_NS] = time_ns
        stats[Stat.CAPTURED] = self._captured

    def _lose(self, count: int, reason: str) -> None:
        pending = self._pending
        if pending is not None and pending.reason == reason and self._next_index not in self.details:
            pending.count += count
        else:
            self._tell_losses()
            self._pending = _PendingLoss(self._next_index, count, self._last_time_ns, reason)
        self._next_index += count
        self._lost += count
        self._ring.stats[Stat.LOST] = self._lost

    def _tell_losses(self) -> None:
        if self._pending is not None:
            loss, self._pending = self._pending, None
            known = loss.reason if loss.reason in LOSS_REASONS else 'other'
            if known == 'other':
                self._note_detail(loss.index, self.details.get(loss.index, loss.reason))
            self._send(Kind.LOST, 0, loss.index, loss.count, loss.time_ns, LOSS_REASONS.index(known))

    def _send(self, kind: int, *fields: int) -> None:
        try:
            self._frames.send(kind, *fields)
        except BrokenPipeError as error:
            raise _WriterGone('the writer process is gone') from error


class _Reader:
    """The reader process while it records."""

    def __init__(self, channel: Channel, plan: Plan, camera: Camera, granted: Granted, sink: RingSink) -> None:
        self._channel, self._plan, self._camera, self._granted, self._sink = channel, plan, camera, granted, sink
        self._anchors = Anchors()
        self._ending = threading.Lock()
        self._ended = False
        # At a frame in twenty seconds, ten of silence say nothing.
        periods_s = STALL_PERIODS / granted.framerate if granted.framerate else 0.0
        self._timeout_s = max(plan.settings.camera_timeout, periods_s)

    def run(self) -> None:
        """Record until the source ends, or is told to, or breaks."""
        control = threading.Thread(target=self._listen, name='ppr-reader-control', daemon=True)
        error: Optional[RemoteError] = None
        try:
            self._camera.start()
            self._sink.last_host_ns = time.monotonic_ns()
            self._channel.send('started', None)
            control.start()
            self._camera.stream(self._sink)
        except _WriterGone:
            self._sink.stop('the writer is gone')
        except BaseException as raised:
            self._sink.stop('camera error')
            error = camera_error(raised, self._plan.camera, 'broke off')
        self._finish('end of source', error)

    def _finish(self, otherwise: str, error: Optional[RemoteError]) -> bool:
        """The last words; waits while the other thread says them, and returns False then."""
        with self._ending:
            if self._ended:
                return False
            self._ended = True
            self._say_last_words(otherwise, error)
        return True

    def _say_last_words(self, otherwise: str, error: Optional[RemoteError]) -> None:
        sink = self._sink
        sink.stop(otherwise)
        self._note_silence()
        self._anchors.take()
        try:
            sink.end()
        except _WriterGone:
            pass
        self._channel.send('ended', {
            'stopped': sink.stopped, 'error': error, 'loss_details': sink.details,
            'defects': sink.defects,
            'clock': {'clock': self._granted.clock, **sink.clock_defects, **self._anchors.as_dict()},
            'camera': _final_statistics(self._camera)})

    def _note_silence(self) -> None:
        """A camera that had gone silent when it was stopped: nobody knows what it would have shown."""
        silent_s = (time.monotonic_ns() - self._sink.last_host_ns) / 1e9
        expected_s = 10 / self._granted.framerate if self._granted.framerate else 0.0
        if not self._granted.waits and self._sink.stopped not in ('rec_length', 'camera error', 'stall') \
                and silent_s > max(1.0, expected_s):
            self._sink.defects.append(f'stall: the camera had sent no frame for {silent_s:.1f} s when the recording '
                                      'was ended')

    # -- the control thread

    def _listen(self) -> None:
        self._anchors.take()
        next_anchor = time.monotonic() + ANCHOR_PERIOD_S
        while not self._ended:
            if self._channel.wait(min(next_anchor - time.monotonic(), self._silence_left_s())):
                message = self._channel.receive()
                if message is None or message[0] == 'stop':
                    self._sink.stop('the keeper is gone' if message is None else message[1])
                    return self._end_by_force_after_grace()
            if time.monotonic() >= next_anchor:
                self._anchors.take()
                next_anchor = time.monotonic() + ANCHOR_PERIOD_S
            if self._silence_left_s() <= 0:
                return self._stalled()

    def _silence_left_s(self) -> float:
        """Seconds until the camera counts as stalled."""
        if self._granted.waits:
            return self._timeout_s         # a file has its pauses, and is not asked while the ring is full
        return self._timeout_s - (time.monotonic_ns() - self._sink.last_host_ns) / 1e9

    def _stalled(self) -> None:
        text = (f'the camera sent no frame for {self._timeout_s:g} s and counts as stalled; '
                'what came before is safe. Check its cable and power, or raise camera_timeout')
        # One that hangs when all its frames are here takes nothing from the recording.
        error = None if self._sink.stopped == 'rec_length' else RemoteError('CameraStalledError', text, '')
        if self._finish('stall', error):
            # A main thread that hangs in the camera cannot be woken: then this thread ends the process. But a camera
            # that can still be closed is to be closed; Pi firmware may keep it locked otherwise.
            time.sleep(STOP_GRACE_S)
            os._exit(0)

    def _end_by_force_after_grace(self) -> None:
        frame_s = 3 / self._granted.framerate if self._granted.framerate else 0.0
        deadline = time.monotonic() + max(STOP_GRACE_S, frame_s)
        while time.monotonic() < deadline:
            if self._channel.wait(deadline - time.monotonic()) and self._channel.receive() is None:
                break
        if not self._ended:
            self._finish('stopped', None)
        time.sleep(STOP_GRACE_S)          # for camera.close() in the main thread
        os._exit(0)


def camera_error(raised: BaseException, camera: Any, doing: str) -> RemoteError:
    """Whatever a camera raised, as an error of our tree."""
    if isinstance(raised, (CameraError, CameraStalledError)):
        return RemoteError.of(raised, 'CameraError')
    return RemoteError.of(raised, 'CameraError', f'the camera {describe_camera(camera)} {doing}: ')


def describe_camera(camera: Any) -> str:
    """A camera's name for messages."""
    return repr(camera.name or type(camera).__name__)


def _final_statistics(camera: Camera) -> Dict[str, Any]:
    statistics = getattr(camera, 'statistics', None)
    if statistics is None:
        return {}
    try:
        return dict(statistics())
    except Exception:
        log.exception('the camera could not tell its statistics')
        return {}


def reader_main(channel: Channel, plan: Plan, arguments: ReaderArguments) -> int:
    """Entry of the reader process."""
    frames, free = LinkWriter(arguments.frames_fd), LinkReader(arguments.free_fd)
    camera = plan.camera
    try:
        try:
            granted = open_unless_called_off(camera, plan, channel)
        except BaseException as raised:
            channel.send('error', camera_error(raised, camera, 'could not be opened'))
            return 1
        channel.send('granted', granted)
        message = channel.receive()
        if message is None or message[0] != 'ring':
            return 0
        layout = message[1]
        fit_link(arguments.frames_fd, layout.slots)
        sink = RingSink(plan, granted, Ring(message[2][0], layout, at_once=True), frames, free)
        channel.send('ready', None)
        message = channel.receive()
        if message is not None and message[0] == 'go':
            _Reader(channel, plan, camera, granted, sink).run()
        return 0
    finally:
        frames.close()
        try:
            camera.close()
        except Exception:
            log.exception('the camera could not be closed')


def open_unless_called_off(camera: Camera, plan: Plan, channel: Channel) -> Granted:
    """Open the camera; close it at once where the keeper calls the start off, or is gone, meanwhile.

    The warm-up may last half a minute, the keeper's patience with a process that is to end six seconds. And a Pi's
    firmware may keep a camera locked whose process was killed.
    """
    opened, closing = threading.Event(), threading.Lock()

    def listen() -> None:
        channel.wait(None)               # until it is open the keeper has nothing else to say
        with closing:
            if not opened.is_set():
                camera.close()

    threading.Thread(target=listen, name='ppr-reader-opening', daemon=True).start()
    try:
        return camera.open(plan.request)
    finally:
        with closing:                    # the process must not end before the camera is closed
            opened.set()


def granted_shape(plan: Plan, granted: Granted) -> 'tuple[int, ...]':
    """Shape of the recorded frames."""
    settings = plan.settings
    width, height = recorded_size(granted.width, granted.height, settings.scale_factor, settings.stereo)
    return (height, width) if granted.pixel_format == 'gray' else (height, width, 3)
