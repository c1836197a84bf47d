"""The process that calls the callback for a block, beside a Dask worker: it may hang, die or leak; the worker goes on.

It is born by the worker (``worker.py``), takes orders from its channel and tells of each frame. A process of its own
for another reason, too: the callback runs in the main thread of an ordinary process here, as in a recording, while
Dask runs tasks in threads of a process that must answer its scheduler meanwhile.

======== ==========================================================================================================
it tells
======== ==========================================================================================================
refused  the callback cannot be had: it cannot be loaded here, or its __enter__ failed (a RemoteError)
astray   the recording cannot be opened here, or is another one (a text)
entering before the callback is entered
reading  before anything is read, which may take what it takes
calling  before each call: page, index, time_ns of its frame
frame    after each call: page, lines of results, failure, (strip, effort) of what was returned, seconds
leaving  before the callback is left
left     after it: lines of results, and a text where it failed
======== ==========================================================================================================
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import pickle
import queue
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, NamedTuple, Optional, Tuple

import numpy as np

from ..errors import RecorderError
from ..memory import keep_freed_memory
from ..pipeline.channel import Channel, RemoteError
from ..pipeline.rank import be_ended_first
from ..reading import Recording
from ..reading.kept import Opening, kept_open
from ..recordings.effort import EffortChooser
from ..recordings.encoder import PageEncoder
from .blocks import Called, CallsInOrder
from .task import times_at

__all__ = ['WHERE_ARE_YOU', 'Order', 'block_process_main', 'pages_of']

#: Frames come and go. Given back and asked for anew, their memory took 7 ms of system time a frame of 640×480 BGR.
KEPT_BYTES = 64 << 20
LEAVE_S = 5.0     # for what the callback left running, once nothing more is to be done

#: One process for each core does more than threads that get into each other's way. Whoever has set them is obeyed.
ONE_THREAD = {'OPENCV_FOR_THREADS_NUM': '1', 'OMP_NUM_THREADS': '1', 'OPENBLAS_NUM_THREADS': '1',
              'MKL_NUM_THREADS': '1', 'NUMEXPR_NUM_THREADS': '1'}

#: Asks a process where it is. It answers from C, so also while a callback holds the interpreter.
WHERE_ARE_YOU = signal.SIGUSR2


class Order(NamedTuple):
    """A block to be processed, in plain values.

    job: of the run that it belongs to. opening: the recording. start, stop: pages. rate_hz: of one without times.
    timeout_s, first_timeout_s: for a call; for entering, and the first call.
    level: tif_compression of what is recorded; None: nothing is. returned: whether that is what the callback returned.
    folder: where the block's recording goes.
    sys_path: where the user's modules may be found.
    """

    job: str
    opening: Opening
    start: int
    stop: int
    buffer_length: int
    timeout_s: float
    first_timeout_s: float
    rate_hz: Optional[float] = None
    level: Optional[int] = None
    returned: bool = True
    folder: str = ''
    sys_path: Tuple[str, ...] = ()


def block_process_main(channel: Channel, plan: None, last_words: int) -> int:
    """Entry of the process. last_words: a file for what Python still says of a fatal signal, or when it is asked."""
    os.setpgid(0, 0)                       # what the callback starts can be ended with it
    be_ended_first()                       # and not the worker, out of memory; nothing here has to step back otherwise
    faulthandler.enable(last_words)
    faulthandler.register(WHERE_ARE_YOU, last_words, all_threads=False)
    for name, value in ONE_THREAD.items():
        os.environ.setdefault(name, value)
    keep_freed_memory(KEPT_BYTES)
    orders: 'queue.SimpleQueue[Optional[Tuple[Order, bytes]]]' = queue.SimpleQueue()
    left = threading.Event()
    threading.Thread(target=_listen, args=(channel, orders, left), name='ppr-orders', daemon=True).start()
    while True:
        item = orders.get()
        if item is None:
            left.set()
            return 0
        _BlockRun(channel, *item).run()


def _listen(channel: Channel, orders: 'queue.SimpleQueue[Any]', left: threading.Event) -> None:
    """In a thread: end the process when its worker is gone or is done with it, whatever the callback is at."""
    while True:
        message = channel.receive()
        if message is None:
            break
        orders.put(message[1])
    orders.put(None)
    if left.wait(LEAVE_S):
        threading.Event().wait(LEAVE_S)    # exit handlers and pools of the callback
    os.killpg(0, signal.SIGKILL)


class _BlockRun:
    """One block, in the process's main thread."""

    def __init__(self, channel: Channel, order: Order, pickled: bytes) -> None:
        self._channel, self._order, self._pickled = channel, order, pickled
        self._encoder: Optional[_Encoder] = None

    def run(self) -> None:
        order = self._order
        for path in order.sys_path:
            if path not in sys.path and os.path.isdir(path):
                sys.path.append(path)
        with contextlib.ExitStack() as stack:
            try:
                recording = stack.enter_context(kept_open(order.opening))
            except RecorderError as error:
                self._channel.send('astray', str(error))
                return
            self._process(recording)

    def _process(self, recording: Recording) -> None:
        order = self._order
        calls = self._entered(recording)
        if calls is not None:
            if order.level is not None and order.returned:
                self._encoder = _Encoder(recording, order.level)
            self._call(calls)
            self._leave(calls)

    def _entered(self, recording: Recording) -> Optional[CallsInOrder]:
        indices, times_ns = pages_of(recording, self._order.rate_hz)
        try:
            what = 'the callback cannot be loaded: '
            callback: Callable[..., Any] = pickle.loads(self._pickled)
            calls = CallsInOrder(recording, indices, times_ns, callback, self._order.buffer_length, self._tell_calling)
            what = "the callback's __enter__ failed: "
            self._channel.send('entering')
            calls.enter()
            return calls
        except BaseException as error:     # SystemExit too
            self._channel.send('refused', RemoteError.of(error, 'CallbackError', what))
            return None

    def _tell_calling(self, *present: int) -> None:
        self._channel.send('calling', present)

    def _call(self, calls: CallsInOrder) -> None:
        self._channel.send('reading')
        for called in calls.calls(self._order.start, self._order.stop):
            self._tell(called)

    def _tell(self, called: Called) -> None:
        encoded = None
        if self._encoder is not None and called.returned is not None:
            encoded = self._encoder.encode(called.returned)
        self._channel.send('frame', (called.page, called.lines, called.failure, encoded, called.seconds))

    def _leave(self, calls: CallsInOrder) -> None:
        problem = ''
        self._channel.send('leaving')
        try:
            calls.leave()
        except BaseException as error:
            problem = RemoteError.of(error, 'CallbackError', "the callback's __exit__ failed: ").message
        self._channel.send('left', (calls.take_lines(), problem))


def pages_of(recording: Recording, rate_hz: Optional[float]) -> Tuple[np.ndarray, np.ndarray]:
    """Numbers and times of all pages, int64; of a recording without times as at a fixed rate."""
    if recording.indices is None or recording.times_ns is None:
        assert rate_hz is not None
        return np.arange(len(recording), dtype=np.int64), times_at(rate_hz, len(recording))
    return recording.indices, recording.times_ns


class _Encoder:
    """Returned frames become strips where they are made: they are smaller, and there is a core for it."""

    _choosers: Dict[Tuple[Path, int], EffortChooser] = {}     # what was learnt of the content, from block to block

    def __init__(self, recording: Recording, level: int) -> None:
        height, width = recording.shape[1:3]
        channels = 3 if recording.pixel_format == 'bgr' else 1
        self._encoder = PageEncoder(height, width, channels)
        key = (recording.path, level)
        if key not in self._choosers:
            self._choosers.clear()
            self._choosers[key] = EffortChooser(level, height, width, channels, 1, waits=True)
        self._chooser = self._choosers[key]

    def encode(self, image: np.ndarray) -> Tuple[bytes, str]:
        """(strip, effort)."""
        effort = self._chooser.choose(image).effort
        cpu, wall = time.thread_time(), time.perf_counter()
        strip = b''.join(self._encoder.encode(image, effort))
        self._chooser.spent(effort, len(strip) / image.nbytes, time.thread_time() - cpu, time.perf_counter() - wall)
        return strip, effort
