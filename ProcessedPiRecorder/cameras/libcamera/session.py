"""An open libcamera camera: every frame that it completes, in order, each given back at once.

::

    libcamera ─► picamera2's thread ─► its list of completed requests ─► process_requests ─► ready ─► ring slot
                 (one for all cameras)                                   (in the thread that reads)    │
         ▲                                                                                             │
         └──────────────────────────────── the buffer, as soon as it is copied ────────────────────────┘

``Picamera2.capture_request`` in a loop will not do: picamera2 keeps one completed request and recycles the older
ones, so that whoever is not waiting just then misses frames without a word. ``pre_callback`` is given every one. No
preview runs, not even the 'null' one: its event loop would be one more thread that frames wait for, and would keep
its errors to itself; the reading thread runs the loop.
"""

from __future__ import annotations

import gc
import logging
import select
import socket
import threading
import time
from collections import deque
from typing import Any, Callable, ClassVar, Deque, Dict, Optional, Set

import numpy as np

from ...errors import CameraError
from .system import Found, Stack, explain, open_camera, takes

__all__ = ['Session']

log = logging.getLogger(__name__)

SILENCE_S = 1.0            # after how long a silent camera is asked what is the matter
CLOSE_TIMEOUT_S = 2.0

Metadata = Dict[str, Any]
Copy = Callable[[np.ndarray, np.ndarray], None]


class Session:
    """One acquired ``Picamera2``. Opens in the constructor; ``close`` gives the camera back.

    One thread reads; ``close`` may come from another. Raises CameraError for whatever picamera2 raises.
    """

    _open_here: ClassVar[Set[str]] = set()       # ids of the cameras that are open in this process

    def __init__(self, stack: Stack, camera: Found) -> None:
        if camera.id in self._open_here:
            raise CameraError(f'{camera} is in use by this very recorder; two cameras are needed for a pair')
        self.stack, self.camera = stack, camera
        self.picam2 = open_camera(stack, camera)
        self._open_here.add(camera.id)
        self.closed = False
        self._ready: Deque[Any] = deque()
        self._broken: Optional[BaseException] = None
        # Buffers must not be unmapped while they are copied.
        self._busy = threading.Lock()
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._poll = select.poll()
        for source in (self.picam2.notifyme_r, self._wake_out):
            self._poll.register(source, select.POLLIN)
        self._last_s = time.monotonic()
        self.picam2.pre_callback = self._keep
        mapped = stack.picamera2.MappedArray
        self._mapping = {'reshape': False, **({'write': False} if takes(mapped.__init__, 'write') else {})}

    def start(self) -> None:
        """Let frames flow."""
        try:
            self.picam2.start(show_preview=None)
        except Exception as error:
            raise explain(error, self.camera, 'started') from error
        self._last_s = time.monotonic()

    def wait(self, timeout_s: float = SILENCE_S) -> bool:
        """Wait for a frame, at most so long, or until ``wake``. False: there is none, or the camera is closed."""
        with self._busy:
            if self.closed:
                return False
            if not self._ready:
                self._turn_guarded(timeout_s)
            if self._ready:
                self._last_s = time.monotonic()
            elif time.monotonic() - self._last_s >= SILENCE_S:
                self._ask_why_it_is_silent()
            return bool(self._ready)

    def wake(self) -> None:
        """Let ``wait`` return at once. From any thread; harmless at any time."""
        try:
            self._wake_in.send(b'x')
        except OSError:
            pass           # woken already, or closed

    def peek(self) -> Metadata:
        """The metadata of the frame that ``wait`` found."""
        metadata: Metadata = self._ready[0].get_metadata()
        return metadata

    def take(self, copy: Optional[Copy] = None, out: Optional[np.ndarray] = None) -> Optional[Metadata]:
        """Copy the next frame's pixels to ``out`` and give its buffer back. None: the camera has been closed."""
        with self._busy:
            if self.closed or not self._ready:
                return None
            request = self._ready.popleft()
            try:
                if copy is not None and out is not None:
                    with self._mapped(request) as mapped:
                        copy(mapped.array, out)
                metadata: Metadata = request.get_metadata()
            finally:
                self._give_back(request)
            return metadata

    def drain(self) -> None:
        """Give back all that has come so far, unseen."""
        while self.wait(0):
            self.take()

    def close(self) -> None:
        """Stop and release the camera, once a frame that is being copied has been. Harmless twice."""
        was_closed, self.closed = self.closed, True
        if was_closed:
            return
        self.wake()
        if not self._busy.acquire(timeout=CLOSE_TIMEOUT_S):
            log.warning('%s hangs and cannot be closed; it is left to the end of the process', self.camera)
            return
        try:
            while self._ready:
                self._ready.popleft().release()
            self.picam2.pre_callback = None
            self.picam2.close()
            # picamera2's objects refer to each other in circles, and each holds a descriptor until it is collected.
            self.picam2 = None
            gc.collect()
            self._open_here.discard(self.camera.id)
        finally:
            self._wake_in.close()
            self._wake_out.close()
            self._busy.release()

    def render_request(self, request: Any) -> None:
        """What picamera2 asks of a display; there is none."""

    def _give_back(self, request: Any) -> None:
        try:
            request.release()
        except Exception as error:     # the frame is whole; what has happened since is told where the next is awaited
            self._broken = error

    def _turn_guarded(self, timeout_s: float) -> None:
        try:
            if self._broken is not None:
                raise self._broken
            self._turn(timeout_s)
        except Exception as error:
            self._require_it_is_there(error)
            raise explain(error, self.camera, 'read') from error

    def _turn(self, timeout_s: float) -> None:
        """Once round the event loop."""
        for source, _ in self._poll.poll(1000 * timeout_s):
            if source == self._wake_out.fileno():
                self._wake_out.recv(64)
            else:
                self.picam2.notifymeread.read()
                self.picam2.process_requests(self)

    def _keep(self, request: Any) -> None:
        # Older ones of picamera2 pass on frames that libcamera marks as damaged; to the timestamps they are missing.
        buffer = next(iter(request.request.buffers.values()))
        if buffer.metadata.status == self.stack.libcamera.FrameMetadata.Status.Success:
            request.acquire()
            self._ready.append(request)

    def _mapped(self, request: Any) -> Any:
        return self.stack.picamera2.MappedArray(request, 'main', **self._mapping)

    def _ask_why_it_is_silent(self) -> None:
        self._last_s = time.monotonic()
        # Both may be known only this way: a camera that is gone completes its requests as cancelled, which picamera2
        # drops; and an error in its thread is printed there, and no more comes.
        self._require_it_is_there()
        thread = getattr(getattr(self.picam2, '_cm', None), 'thread', None)
        if thread is not None and not thread.is_alive():
            raise CameraError(f'{self.camera} is silent because picamera2\'s own thread has died of an error, which it '
                              'printed above')

    def _require_it_is_there(self, cause: Optional[BaseException] = None) -> None:
        gone = self.camera.id not in [one.id for one in self.picam2.camera_manager.cameras]
        if gone or (cause is not None and 'No such device' in str(cause)):
            raise CameraError(f'{self.camera} has gone: it was unplugged, or its driver gave up (`dmesg` may tell)') \
                from cause
