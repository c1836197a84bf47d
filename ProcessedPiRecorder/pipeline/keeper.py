"""The keeper: starts the other processes, watches over them, starts the callback again, and buries them all.

It is a small process with one thread, between the user's script and the rest, so that nothing of a recording hangs
on what the script does: if the script is killed, the keeper sees the end of their channel, has the reader stopped
and the file finished. It never touches a frame.

It sleeps until a message or the death of a child (SIGCHLD) wakes it.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import selectors
import signal
import time
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from ..errors import RecorderError, SettingsError
from ..report import DISK_NEARLY_FULL
from .callback import CallbackArguments, callback_main
from .channel import Channel, RemoteError
from .display_feed import DisplayArguments, display_main
from .links import make_link
from .plan import (
    CALLBACK_RESTARTS,
    FINISH_TIMEOUT_S,
    FLUSH_TIMEOUT_S,
    RESTART_PAUSE_S,
    STOP_GRACE_S,
    Plan,
)
from .processes import Child, exit_text, start_child
from .reader import ReaderArguments, granted_shape, reader_main
from .ring import Ring, Stat, plan_ring
from .writer import WriterArguments, writer_main

__all__ = ['keeper_main']

log = logging.getLogger(__name__)


class _StartFailed(Exception):
    """The recording cannot begin; carries what to tell the user."""

    def __init__(self, error: RemoteError) -> None:
        self.error = error


class Keeper:
    """One recording's keeper."""

    def __init__(self, parent: Channel, plan: Plan) -> None:
        self._parent, self._plan = parent, plan
        self._settings = plan.settings
        self._children: Dict[str, Child] = {}
        self._selector = selectors.DefaultSelector()
        self._ring: Optional[Ring] = None
        self._granted: Any = None
        self._ready: Dict[str, bool] = {}
        self._gone = False                             # the word to go was given
        self._running = False                          # and the camera has started
        self._stop_reason = ''
        self._reader_end: Optional[Dict[str, Any]] = None
        self._report: Optional[Mapping[str, Any]] = None
        self._errors: List[RemoteError] = []           # in the order of weight: the first is raised
        self._callback_errors: List[RemoteError] = []
        self._hung_generation = 0                      # killed because it hung: its death is no news
        self._restarts = 0
        self._waiting_links: Tuple[int, ...] = ()      # the writer's ends for a callback that is not ready yet
        self._open: List[int] = []                     # descriptors that a forked child must not keep
        self._timers: Dict[str, Tuple[float, Callable[[], None]]] = {}
        self._progress: Tuple[int, ...] = ()

    # -- the whole life

    def run(self) -> None:
        """Start, keep, bury, report."""
        self._watch_deaths()
        self._selector.register(self._parent, selectors.EVENT_READ, self._receive_from_parent)
        failure: Optional[RemoteError] = None
        try:
            self._start()
            self._keep()
        except _StartFailed as failed:
            failure = failed.error
            self._abort()
        # Not in a finally clause: should the keeper itself fail, the others see its end and finish the file.
        self._bury_all()
        if failure is not None:
            self._parent.send('failed', failure)
        else:
            self._parent.send('done', {'report': self._report, 'errors': self._errors,
                                       'callback_errors': self._callback_errors})

    def _watch_deaths(self) -> None:
        read, write = os.pipe()
        os.set_blocking(read, False)
        os.set_blocking(write, False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        # The handler does nothing; the byte that Python writes for it wakes the selector.
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        self._selector.register(read, selectors.EVENT_READ, lambda: self._drain(read))

    @staticmethod
    def _drain(fd: int) -> None:
        try:
            os.read(fd, 4096)
        except BlockingIOError:
            pass

    def _turn(self) -> None:
        """Wait for one event and answer it."""
        due = min((when for when, _ in self._timers.values()), default=None)
        for key, _ in self._selector.select(None if due is None else max(0.0, due - time.monotonic())):
            key.data()
        for child in list(self._children.values()):
            if child.buried():
                self._on_death(child)
        now = time.monotonic()
        for name, (when, action) in list(self._timers.items()):
            if when <= now and name in self._timers:
                del self._timers[name]
                action()

    def _after(self, name: str, seconds: float, action: Callable[[], None]) -> None:
        self._timers[name] = (time.monotonic() + seconds, action)

    # -- starting

    def _start(self) -> None:
        try:
            self._start_children()
        except OSError as error:
            raise _StartFailed(RemoteError.of(error, 'RecorderError', 'the processes of the recorder could not be '
                                              'started (raise ulimit -n and -u, or end other programs): ')) from None
        limit_s = self._settings.camera_start_timeout
        self._after('start', limit_s, lambda: self._start_timed_out('camera', limit_s))
        while self._granted is None:
            self._turn()
        self._make_ring()
        limit_s = self._settings.camera_start_timeout + self._settings.cb_start_timeout
        self._after('start', limit_s, lambda: self._start_timed_out('', limit_s))
        while not all(self._ready.values()):
            self._turn()
        self._gone = True
        self._children['writer'].channel.send('go')
        self._children['reader'].channel.send('go')
        while not self._running:
            self._turn()
        del self._timers['start']

    def _start_children(self) -> None:
        settings = self._settings
        frames_read, frames_write = make_link()
        free_read, free_write = make_link()
        inner: Optional[CallbackArguments] = None
        outer: Optional[CallbackArguments] = None
        offers_read = offers_write = answers_read = answers_write = -1
        if settings.callback is not None:
            offers_read, offers_write = make_link()
            answers_read, answers_write = make_link()
            arguments = CallbackArguments(offers_read, answers_write, *self._queue_ends(), 1)
            inner, outer = (arguments, None) if settings.cb_type == '2Proc' else (None, arguments)
        request_read = request_write = tell_read = tell_write = -1
        if settings.display:
            request_read, request_write = make_link()
            tell_read, tell_write = make_link()
        self._open = [fd for fd in (frames_read, frames_write, free_read, free_write, offers_read, offers_write,
                                    answers_read, answers_write, request_read, request_write, tell_read, tell_write)
                      if fd >= 0]
        if settings.callback is not None:
            self._open += [arguments.receive_fd, arguments.send_fd]
        self._launch('reader', reader_main, ReaderArguments(frames_write, free_read), [frames_write, free_read])
        writer = WriterArguments(frames_read, free_write, offers_write, answers_read, request_read, tell_write, inner)
        self._launch('writer', writer_main, writer, [
            fd for fd in (*writer[:6], *((inner.offers_fd, inner.answers_fd, inner.receive_fd, inner.send_fd)
                                         if inner else ())) if fd >= 0])
        if outer is not None:
            self._launch('callback', callback_main, outer, list(outer[:4]))
        if settings.display:
            self._launch('display', display_main, DisplayArguments(tell_read, request_write, self._title()),
                         [tell_read, request_write])
            self._ready.pop('display')     # a window never holds up a recording
        for fd in self._open:
            os.close(fd)
        self._open = []

    def _title(self) -> str:
        name = self._settings.tif_path.name if self._settings.tif_path else 'not recorded'
        return f'ProcessedPiRecorder: {name}'

    def _queue_ends(self) -> Tuple[int, int]:
        """Pipes for cb_queue; the script's ends go to the script, the callback's (receive, send) are returned."""
        from_script_read, from_script_write = make_link()
        to_script_read, to_script_write = make_link()
        self._parent.send('queue', None, [to_script_read, from_script_write])
        os.close(to_script_read)
        os.close(from_script_write)
        return from_script_read, to_script_write

    def _launch(self, role: str, entry: Callable[..., Any], arguments: Any, keep: List[int],
                generation: int = 1) -> None:
        ours = [self._parent.fileno(), *(child.channel.fileno() for child in self._children.values())]
        if self._ring is not None:
            ours.append(self._ring.fd)
        child = start_child(role, entry, self._plan, self._plan.start_method, keep_fds=keep,
                            close_fds=[*ours, *(fd for fd in self._open if fd not in keep)], arguments=arguments,
                            generation=generation)
        self._children[role] = child
        self._ready[role] = False
        self._selector.register(child.channel, selectors.EVENT_READ, lambda: self._receive_from_child(child))

    def _make_ring(self) -> None:
        """Now that the camera has said what it gives: the ring, for everyone."""
        settings, granted = self._settings, self._granted
        try:
            layout = plan_ring(settings, granted_shape(self._plan, granted), granted.framerate)
            self._check_timeout(layout.slots)
            self._ring = Ring.create(layout)
        except RecorderError as error:
            raise _StartFailed(RemoteError.of(error, 'RingError')) from None
        fds = [self._ring.fd]
        for role, child in self._children.items():
            child.channel.send('ring', (layout, granted) if role == 'writer' else layout, fds)
        self._parent.send('granted', (layout, granted), fds)

    def _check_timeout(self, slots: int) -> None:
        """A frame that the callback holds for cb_timeout must not make the ring overflow."""
        settings, granted = self._settings, self._granted
        if settings.cb_timeout is None or granted.waits or not granted.framerate or settings.callback is None:
            return
        needed = settings.cb_timeout * granted.framerate
        if needed > slots * 0.85:
            raise SettingsError(
                f'cb_timeout={settings.cb_timeout:g} s holds {needed:.0f} frames at {granted.framerate:g} Hz, and the '
                f'ring of {slots} frames can bridge {slots * 0.85 / granted.framerate:.2g} s; '
                f'pass ring_frames={int(needed / 0.85) + 1} or more, or a shorter cb_timeout')

    def _start_timed_out(self, role: str, limit_s: float) -> None:
        waiting = role or ' and '.join(name for name, ready in self._ready.items() if not ready) or 'camera'
        advice = ('raise camera_start_timeout (the warm_up_s of two cameras add up), or look what  ppr cameras  says'
                  if role == 'camera' else 'raise cb_start_timeout, or see what takes so long')
        raise _StartFailed(RemoteError('StartTimeoutError', f'the {waiting} was not ready within {limit_s:g} s; '
                                       f'nothing was recorded; {advice}', ''))

    def _abort(self) -> None:
        """Nothing was recorded: let the writer take back its file, then end everyone."""
        for child in self._children.values():
            child.channel.send('abort')
        writer = self._children.get('writer')
        if writer is not None:
            writer.bury(STOP_GRACE_S)

    # -- keeping

    def _keep(self) -> None:
        """Until the report is there and the callback has handed over its results, or everyone is dead."""
        while not self._all_done():
            self._turn()

    def _all_done(self) -> bool:
        writer, callback = self._children.get('writer'), self._children.get('callback')
        return (writer is None or writer.exitcode is not None) and \
            (callback is None or callback.exitcode is not None)

    def _receive_from_parent(self) -> None:
        message = self._parent.receive()
        if message is None:
            self._selector.unregister(self._parent)
            log.warning('the script has ended; the recording is stopped and its file finished')
            self._stop('the script ended')
        elif message[0] == 'stop':
            self._stop(message[1])
        elif message[0] == 'mark':
            self._tell('writer', 'mark', message[1])

    def _stop(self, reason: str) -> None:
        if not self._gone:
            raise _StartFailed(RemoteError('RecorderStateError', f'stopped before the start was complete: {reason}; '
                                           'nothing was recorded', ''))
        if not self._stop_reason:
            self._stop_reason = reason
            self._tell('reader', 'stop', reason)
            frames_s = 3 / self._granted.framerate if self._granted.framerate else 0.0
            self._after('reader', max(STOP_GRACE_S, frames_s) + 2 * STOP_GRACE_S, lambda: self._kill('reader'))

    def _tell(self, role: str, kind: str, payload: Any = None, fds: Any = ()) -> None:
        child = self._children.get(role)
        if child is not None and child.exitcode is None:
            child.channel.send(kind, payload, fds)

    def _kill(self, role: str) -> None:
        child = self._children.get(role)
        if child is not None and child.exitcode is None:
            log.warning('the %s process does not end in time and is killed', role)
            child.kill()
            self._on_death(child)

    # -- the children's words

    def _receive_from_child(self, child: Child) -> None:
        if child.channel.closed:
            return                          # it was buried in this very turn of the loop
        message = child.channel.receive()
        if message is None:
            self._selector.unregister(child.channel)
            return                          # its death is told by SIGCHLD
        kind, payload, _ = message
        if kind == 'log':
            self._parent.send_if_room('log', payload)
        elif kind == 'ready':
            self._ready[child.role] = True
            if self._running and child.role == 'callback':
                self._callback_is_back(child)
        elif kind == 'error':
            self._failed(child, payload)
        else:
            handler = getattr(self, f'_on_{kind}', None)
            if handler is not None:
                handler(child, payload)

    def _failed(self, child: Child, error: RemoteError) -> None:
        """A child could not start."""
        if not self._running:
            raise _StartFailed(error)
        self._callback_errors.append(error)             # only the callback starts while we run
        self._tell('writer', 'cb_error', error.message)

    def _on_granted(self, child: Child, granted: Any) -> None:
        self._granted = granted

    def _on_started(self, child: Child, payload: Any) -> None:
        self._running = True
        self._parent.send('started')

    def _on_crashed(self, child: Child, error: RemoteError) -> None:
        child.crash = error
        if child.role == 'writer' and self._running:     # it still finishes what was handed to the file
            self._errors.insert(0, dataclasses.replace(error, values={'role': 'writer'}))
            self._stop('the writer failed')

    def _on_ended(self, child: Child, payload: Any) -> None:
        child.said_goodbye = True
        if child.role == 'reader':
            self._end_of_reader(payload)

    def _end_of_reader(self, end: Dict[str, Any]) -> None:
        if self._reader_end is not None:
            return
        if not self._running:
            # The camera broke while it was started: nothing has been recorded.
            raise _StartFailed(end['error'] or RemoteError('CameraError', 'the camera ended before it began', ''))
        self._reader_end = end
        if end.get('error') is not None:
            self._errors.append(end['error'])
        self._tell('writer', 'reader_end', end)
        self._parent.send('source_ended', end.get('stopped'))
        self._timers.pop('callback', None)
        self._watch_progress()

    def _on_finished(self, child: Child, report: Mapping[str, Any]) -> None:
        self._report = report
        self._timers.pop('progress', None)
        self._after('writer end', FINISH_TIMEOUT_S, lambda: self._kill('writer'))
        self._after('callback end', FLUSH_TIMEOUT_S + self._settings.cb_start_timeout, lambda: self._kill('callback'))

    def _on_warn(self, child: Child, warning: Tuple[str, str]) -> None:
        self._warn(*warning)

    def _on_file_error(self, child: Child, error: RemoteError) -> None:
        self._errors.insert(0, error)
        self._stop('file error')

    def _on_disk_nearly_full(self, child: Child, text: str) -> None:
        self._warn('RecorderWarning', text)
        self._stop(DISK_NEARLY_FULL)

    def _on_cb_error(self, child: Child, error: RemoteError) -> None:
        if len(self._callback_errors) < 20:
            self._callback_errors.append(error)
            self._tell('writer', 'cb_error', error.message)

    def _on_cb_hung(self, child: Child, news: Tuple[int, RemoteError]) -> None:
        generation, error = news
        self._callback_errors.append(error)
        callback = self._children.get('callback')
        if callback is not None and callback.generation == generation:
            self._hung_generation = generation
            self._kill('callback')

    def _watch_progress(self) -> None:
        """The file must be finished in bounded time, unless it visibly goes on."""
        assert self._ring is not None
        progress = tuple(int(self._ring.stats[name]) for name in (Stat.WRITTEN, Stat.PROCESSED, Stat.RESULTS))
        if self._progress == progress and 'progress' not in self._timers and self._report is None:
            self._kill('writer')
            return
        self._progress = progress
        slowest_call_s = max(self._settings.cb_timeout or 10.0, self._settings.cb_start_timeout)
        self._after('progress', FINISH_TIMEOUT_S + slowest_call_s, self._watch_progress)

    # -- deaths

    def _on_death(self, child: Child) -> None:
        """A child has ended and was waited for."""
        self._drain_channel(child)
        if self._children.get(child.role) is not child:
            return
        if child.role == 'callback':
            self._callback_ended(child)
            return
        del self._children[child.role]
        child.channel.close()
        if child.role == 'reader':
            self._reader_ended(child)
        elif child.role == 'writer':
            self._writer_ended(child)
        elif child.role == 'display' and child.exitcode:
            self._display_died(child)

    def _drain_channel(self, child: Child) -> None:
        """Take what it had still said before it died."""
        while not child.channel.closed and child.channel.fileno() in self._selector.get_map() \
                and child.channel.wait(0):
            self._receive_from_child(child)
        if not child.channel.closed and child.channel.fileno() in self._selector.get_map():
            self._selector.unregister(child.channel)

    def _died(self, child: Child) -> RemoteError:
        stats = self._ring.stats if self._ring is not None else None
        captured = int(stats[Stat.CAPTURED]) if stats is not None else 0
        written = int(stats[Stat.WRITTEN]) if stats is not None else 0
        how = child.crash.message if child.crash is not None else exit_text(child.exitcode)
        safe = 'what had reached the disk, up to about the last second, is safe' if child.role == 'writer' else \
            'what was written is safe'
        text = (f'the {child.role} process ended unexpectedly ({how}) after {captured} frames '
                f'were captured and {written} written; {safe}')
        return RemoteError('ProcessDiedError', text, child.crash.traceback if child.crash is not None else '', {
            'role': child.role, 'exitcode': child.exitcode, 'frames_captured': captured, 'frames_written': written})

    def _reader_ended(self, child: Child) -> None:
        self._timers.pop('reader', None)
        if self._reader_end is None:
            self._check_start(child)
            self._end_of_reader({'stopped': 'process died', 'error': self._died(child)})

    def _check_start(self, child: Child) -> None:
        if not self._running:
            raise _StartFailed(self._died(child))

    def _writer_ended(self, child: Child) -> None:
        self._check_start(child)
        if self._report is None:
            self._errors.insert(0, self._died(child))
            self._stop('the writer process died')
        self._after('callback end', FLUSH_TIMEOUT_S, lambda: self._kill('callback'))
        self._timers.pop('restart', None)

    def _display_died(self, child: Child) -> None:
        text = f'the live window is gone ({exit_text(child.exitcode)}); the recording goes on without it'
        self._warn('DisplayWarning', text)
        self._tell('writer', 'display_gone')

    def _warn(self, category: str, text: str) -> None:
        self._parent.send('warning', (category, text))
        self._tell('writer', 'warning', text)

    # -- the callback's deaths and rebirths

    def _callback_ended(self, child: Child) -> None:
        del self._children['callback']
        child.channel.close()
        child.kill_group()                 # what it had started and left behind
        self._check_start(child)
        self._timers.pop('callback start', None)
        self._close_waiting_links()
        died = not child.said_goodbye      # whatever its exit code: os._exit(0) is no goodbye
        self._tell('writer', 'cb_gone', {'generation': child.generation, 'died': died})
        if not died or 'writer' not in self._children or self._report is not None:
            return
        if child.generation != self._hung_generation:
            error = self._died(child)
            self._callback_errors.append(error)
            self._tell('writer', 'cb_error', error.message)
        if self._restarts >= CALLBACK_RESTARTS:
            log.error('the callback process died %d times and is not started again', self._restarts + 1)
            self._tell('writer', 'cb_lost')
            return
        self._restarts += 1
        self._after('restart', RESTART_PAUSE_S * 2 ** (self._restarts - 1), self._restart_callback)

    def _restart_callback(self) -> None:
        if 'writer' not in self._children or self._ring is None or self._report is not None:
            return
        try:
            self._start_callback_again(self._ring)
        except OSError as error:
            self._on_cb_error(self._children['writer'], RemoteError.of(
                error, 'CallbackError', 'the callback process cannot be started again: '))
            self._tell('writer', 'cb_lost')

    def _start_callback_again(self, ring: Ring) -> None:
        offers_read, offers_write = make_link()
        answers_read, answers_write = make_link()
        generation = self._restarts + 1
        arguments = CallbackArguments(offers_read, answers_write, *self._queue_ends(), generation)
        self._open = [offers_read, offers_write, answers_read, answers_write, arguments.receive_fd, arguments.send_fd]
        self._launch('callback', callback_main, arguments, list(arguments[:4]), generation)
        self._waiting_links = (offers_write, answers_read)
        for fd in self._open:
            if fd not in self._waiting_links:
                os.close(fd)
        self._open = []
        self._children['callback'].channel.send('ring', ring.layout, [ring.fd])
        self._after('callback start', self._settings.cb_start_timeout, lambda: self._kill('callback'))

    def _callback_is_back(self, child: Child) -> None:
        self._timers.pop('callback start', None)
        self._tell('writer', 'cb_new', child.generation, self._waiting_links)
        self._close_waiting_links()

    def _close_waiting_links(self) -> None:
        for fd in self._waiting_links:
            os.close(fd)
        self._waiting_links = ()

    # -- burying

    def _bury_all(self) -> None:
        """Nobody is left behind."""
        for child in list(self._children.values()):
            if child.exitcode is None and not child.bury(STOP_GRACE_S if child.role in ('reader', 'display') else 0):
                child.kill()
            child.channel.close()
        self._children.clear()


def keeper_main(channel: Channel, plan: Plan, arguments: Any) -> int:
    """Entry of the keeper process."""
    Keeper(channel, plan).run()
    return 0
