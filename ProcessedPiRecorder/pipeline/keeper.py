"""The keeper: starts the other processes, watches over them, starts the callback again, and buries them all.

It is a small process with one thread, between the user's script and the rest, so that nothing of a recording hangs
on what the script does: if the script is killed, the keeper sees the end of their channel, has the reader stopped
and the file finished. It never touches a frame.

It sleeps until a message or the death of a child (SIGCHLD) wakes it.
"""

from __future__ import annotations

import logging
from typing import Any, Dict, List, Mapping, Optional, Tuple

from ..errors import RecorderError
from ..report import DISK_NEARLY_FULL
from .channel import Channel, RemoteError
from .clocks import clock_steps
from .crew import Crew
from .deaths import death_of, death_while_starting, recounted, stuck, with_advice, with_result
from .finisher import FinisherOrders, OwnFile
from .loop import Loop
from .orphans import adopt_orphans, bury_orphans, end_orphans
from .plan import (
    CALLBACK_RESTARTS,
    FINISH_TIMEOUT_S,
    FLUSH_TIMEOUT_S,
    LEAVE_S,
    RESTART_PAUSE_S,
    STOP_GRACE_S,
    Plan,
    slowest_call_s,
)
from .processes import Child, ending_of
from .ring import Stat
from .ring_ahead import RingMaker

__all__ = ['keeper_main']

log = logging.getLogger(__name__)

CANNOT_START = ('the processes of the recorder could not be started (raise ulimit -n and -u, or end other programs): ')
PATIENCE_S = {'reader': LEAVE_S, 'display': STOP_GRACE_S}      # with who is to end
MOST_CALLBACK_ERRORS = 20     # kept for the script; every one is counted by the writer


class _StartFailed(Exception):
    """The recording cannot begin; carries what to tell the user."""

    def __init__(self, error: RemoteError) -> None:
        self.error = error


class Keeper:
    """One recording's keeper."""

    def __init__(self, parent: Channel, plan: Plan) -> None:
        self._parent, self._plan = parent, plan
        self._settings = plan.settings
        self._loop = Loop(self._look_for_deaths)
        self._loop.watch_deaths()
        self._loop.watch(parent, self._receive_from_parent)
        self._crew = Crew(parent, plan, self._hear)
        self._ring_maker = RingMaker(plan)
        self._granted: Any = None
        self._ready: Dict[str, bool] = {}
        self._gone = False                             # the word to go was given
        self._running = False                          # and the camera has started
        self._stop_reason = ''
        self._reader_end: Optional[Dict[str, Any]] = None
        self._file: Optional[OwnFile] = None           # what the writer has created
        self._report: Optional[Mapping[str, Any]] = None
        self._writer_death: Optional[RemoteError] = None
        self._finisher_started = False                 # its heir is at work, or has been
        self._errors: List[RemoteError] = []           # in the order of weight: the first is raised
        self._callback_errors: List[RemoteError] = []
        self._hung_generation = 0                      # killed because it hung: its death is no news
        self._restarts = 0
        self._vain_restarts = 0                        # since the callback got any further
        self._processed = 0                            # frames, when it died last
        self._callback_despaired = False
        self._warnings: List[str] = []
        self._progress: Tuple[int, ...] = ()

    # -- the whole life

    def run(self) -> None:
        """Start, keep, bury, report."""
        adopt_orphans()
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
            errors = [*([self._writer_death] if self._writer_death else []), *self._errors]
            if self._report is not None:
                errors = [recounted(error, self._report) for error in errors]
            self._parent.send('done', {'report': self._report, 'errors': errors,
                                       'callback_errors': self._callback_errors})

    def _look_for_deaths(self) -> None:
        for child in list(self._crew.members.values()):
            if child.buried():
                self._on_death(child)
        bury_orphans({child.pid for child in self._crew.members.values()})

    def _hear(self, child: Child) -> None:
        self._ready[child.role] = False
        self._loop.watch(child.channel, lambda: self._receive_from_child(child))

    # -- starting

    def _start(self) -> None:
        try:
            self._crew.start_all()
        except OSError as error:
            raise _StartFailed(RemoteError.of(error, 'RecorderError', CANNOT_START)) from None
        self._ready.pop('display', None)       # a window never holds up a recording
        self._ring_maker.make_ahead()
        limit_s = self._settings.camera_start_timeout
        self._loop.after('start', limit_s, lambda: self._start_timed_out('camera', limit_s))
        while self._granted is None:
            self._loop.turn()
        self._make_ring()
        limit_s = self._settings.camera_start_timeout + self._settings.cb_start_timeout
        self._loop.after('start', limit_s, lambda: self._start_timed_out('', limit_s))
        while not all(self._ready.values()):
            self._loop.turn()
        self._gone = True
        self._crew.tell('writer', 'go')
        self._crew.tell('reader', 'go')
        while not self._running:
            self._loop.turn()

    def _make_ring(self) -> None:
        """Now that the camera has said what it gives: the ring, for everyone."""
        granted = self._granted
        try:
            ring = self._ring_maker.ring_for(granted)
        except RecorderError as error:
            raise _StartFailed(RemoteError.of(error, 'RingError')) from None
        layout, self._crew.ring = ring.layout, ring
        for role in self._crew.members:
            self._crew.tell(role, 'ring', (layout, granted) if role == 'writer' else layout, [ring.fd])
        self._parent.send('granted', (layout, granted), [ring.fd])

    def _start_timed_out(self, role: str, limit_s: float) -> None:
        waiting = role or ' and '.join(name for name, ready in self._ready.items() if not ready) or 'camera'
        advice = ('raise camera_start_timeout (the warm_up_s of two cameras add up), or look what  ppr cameras  says'
                  if role == 'camera' else 'raise cb_start_timeout, or see what takes so long')
        raise _StartFailed(RemoteError('StartTimeoutError', f'the {waiting} was not ready within {limit_s:g} s; '
                                       f'nothing was recorded; {advice}', ''))

    def _abort(self) -> None:
        """Nothing was recorded: let the writer take back its file, then end everyone."""
        for role in self._crew.members:
            self._crew.tell(role, 'abort')
        writer = self._crew.alive('writer')
        if writer is not None and not writer.bury(STOP_GRACE_S):
            writer.kill()
        if self._file is not None and not self._stat(Stat.RECEIVED):
            self._file.remove(self._plan.tif_path)     # a writer that was killed could not

    # -- keeping

    def _keep(self) -> None:
        """Until the report is there and the callback has handed over its results, or everyone is dead."""
        while any(self._crew.alive(role) for role in ('writer', 'callback', 'finisher')) or self._unfinished:
            self._loop.turn()

    def _receive_from_parent(self) -> None:
        message = self._parent.receive()
        if message is None:
            self._loop.forget(self._parent)
            log.warning('the script has ended; the recording is stopped and its file finished')
            self._stop('the script ended')
        elif message[0] == 'stop':
            self._parent.send('stopping')
            self._stop(message[1])
        elif message[0] == 'mark':
            self._crew.tell('writer', 'mark', message[1])

    def _stop(self, reason: str) -> None:
        if not self._gone:
            raise _StartFailed(RemoteError('RecorderStateError', f'stopped before the start was complete: {reason}; '
                                           'nothing was recorded', ''))
        if not self._stop_reason:
            self._stop_reason = reason
            self._crew.tell('reader', 'stop', reason)
            frames_s = 3 / self._granted.framerate if self._granted.framerate else 0.0
            self._loop.after('reader', max(STOP_GRACE_S, frames_s) + 2 * STOP_GRACE_S, lambda: self._kill('reader'))

    def _kill(self, role: str, verdict: str = 'it did not end in time and was killed') -> None:
        child = self._crew.alive(role)
        if child is not None:
            log.warning('the %s process does not end in time and is killed', role)
            child.verdict = verdict
            child.kill()
            self._on_death(child)

    def _stat(self, name: Stat) -> int:
        return int(self._crew.ring.stats[name]) if self._crew.ring is not None else 0

    # -- the children's words

    def _receive_from_child(self, child: Child) -> None:
        if child.channel.closed:
            return                          # it was buried in this very turn of the loop
        message = child.channel.receive()
        if message is None:
            self._loop.forget(child.channel)
            return                          # its death is told by SIGCHLD
        kind, payload, _ = message
        if kind == 'log':
            self._parent.send_if_room('log', payload)
        elif kind == 'ready':
            self._ready[child.role] = True
            if self._running and child.role == 'callback':
                self._loop.cancel('callback start')
                self._crew.hand_over_links(child.generation)
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
        self._crew.tell('writer', 'cb_error', error.message)

    def _on_granted(self, child: Child, granted: Any) -> None:
        self._granted = granted

    def _on_created(self, child: Child, file: OwnFile) -> None:
        self._file = file
        self._parent.send('created', file)

    def _on_started(self, child: Child, payload: Any) -> None:
        self._running = True
        self._loop.cancel('start')           # at once: from here on it could end a recording
        self._parent.send('started')

    def _on_crashed(self, child: Child, error: RemoteError) -> None:
        child.crash = error
        if child.role == 'writer' and self._running:     # it still finishes what was handed to the file
            self._stop('the writer failed')

    def _on_ended(self, child: Child, payload: Any) -> None:
        child.said_goodbye = True
        if child.role == 'reader':
            self._end_of_reader(payload)

    def _on_left(self, child: Child, payload: Any) -> None:
        """The callback is not called any more; its process only hands over results."""
        child.left = True
        if self._crew.alive('writer') is None:
            self._loop.after('callback end', FLUSH_TIMEOUT_S, lambda: self._kill('callback'))
        self._finish_for_writer()

    def _end_of_reader(self, end: Dict[str, Any]) -> None:
        if self._reader_end is not None:
            return
        if not self._running:
            # The camera broke while it was started: nothing has been recorded.
            raise _StartFailed(end['error'] or RemoteError('CameraError', 'the camera ended before it began', ''))
        self._reader_end = end
        if end.get('error') is not None:
            self._errors.append(end['error'])
        steps = end.get('clock', {}).get('steps')
        if steps:
            self._warn('RecorderWarning', clock_steps(steps))
        self._crew.tell('writer', 'reader_end', end)
        self._parent.send('source_ended', end.get('stopped'))
        self._loop.cancel('callback')
        self._watch_progress()
        self._finish_for_writer()

    def _on_finished(self, child: Child, report: Mapping[str, Any]) -> None:
        self._report = report
        self._loop.cancel('progress')
        self._loop.after('writer end', FINISH_TIMEOUT_S, lambda: self._kill('writer'))
        self._loop.after('callback end', FLUSH_TIMEOUT_S + self._settings.cb_start_timeout,
                         lambda: self._kill('callback'))

    def _on_unfinished(self, child: Child, error: RemoteError) -> None:
        """The finisher has failed too."""
        assert self._writer_death is not None
        self._writer_death = with_advice(self._writer_death, error.message, self._plan.tif_path)

    def _on_warn(self, child: Child, warning: Tuple[str, str]) -> None:
        self._warn(*warning)

    def _on_disk_nearly_full(self, child: Child, text: str) -> None:
        self._warn('RecorderWarning', text)
        self._stop(DISK_NEARLY_FULL)

    def _on_file_error(self, child: Child, error: RemoteError) -> None:
        self._errors.insert(0, error)
        self._stop('file error')

    def _on_cb_error(self, child: Child, error: RemoteError) -> None:
        if len(self._callback_errors) < MOST_CALLBACK_ERRORS:
            self._callback_errors.append(error)
            self._crew.tell('writer', 'cb_error', error.message)

    def _on_cb_hung(self, child: Child, news: Tuple[int, RemoteError]) -> None:
        generation, error = news
        if len(self._callback_errors) < MOST_CALLBACK_ERRORS:      # under '2Proc' one can hang again and again
            self._callback_errors.append(error)
        callback = self._crew.alive('callback')
        if callback is not None and callback.generation == generation:
            self._hung_generation = generation
            self._kill('callback')

    def _warn(self, category: str, text: str) -> None:
        self._warnings.append(text)
        self._parent.send('warning', (category, text))
        self._crew.tell('writer', 'warning', text)

    def _watch_progress(self) -> None:
        """The file must be finished in bounded time, unless it visibly goes on."""
        progress = tuple(self._stat(name) for name in
                         (Stat.WRITTEN, Stat.PROCESSED, Stat.RESULTS, Stat.FINISHED_BYTES))
        if self._progress == progress and not self._loop.is_set('progress') and self._report is None:
            if self._crew.alive('writer') is None or self._settings.cb_type != '3Proc' or self._callback_despaired:
                self._kill('finisher' if self._crew.alive('writer') is None else 'writer',
                           stuck(self._stat(Stat.WRITE_QUEUE), FINISH_TIMEOUT_S + slowest_call_s(self._settings)))
                return
            # Restarts that hang can take longer than a file: what waits for the callback can go past it.
            self._callback_despaired = True
            self._crew.tell('writer', 'cb_lost')
        self._progress = progress
        self._loop.after('progress', FINISH_TIMEOUT_S + slowest_call_s(self._settings), self._watch_progress)

    # -- deaths

    def _on_death(self, child: Child) -> None:
        """A child has ended and was waited for."""
        self._drain_channel(child)
        if self._crew.members.get(child.role) is not child:
            return
        del self._crew.members[child.role]
        child.channel.close()
        if child.role == 'callback':
            self._callback_ended(child)
        elif child.role == 'reader':
            self._reader_ended(child)
        elif child.role == 'writer':
            self._writer_ended(child)
        elif child.role == 'finisher':
            self._finisher_ended(child)
        elif child.role == 'display' and child.exitcode:
            self._display_died(child)

    def _drain_channel(self, child: Child) -> None:
        """Take what it had still said before it died."""
        while not child.channel.closed and self._loop.watches(child.channel) and child.channel.wait(0):
            self._receive_from_child(child)
        if not child.channel.closed and self._loop.watches(child.channel):
            self._loop.forget(child.channel)

    def _died(self, child: Child) -> RemoteError:
        """An error that tells of this death."""
        return death_of(child, self._crew.ring.stats if self._crew.ring is not None else None)

    @property
    def _begun(self) -> bool:
        """Whether there is a recording that could be lost."""
        return self._running or self._stat(Stat.CAPTURED) > 0

    def _check_start(self, child: Child) -> None:
        if not self._begun:
            raise _StartFailed(death_while_starting(child))

    def _reader_ended(self, child: Child) -> None:
        self._loop.cancel('reader')
        if self._reader_end is None:
            self._check_start(child)
            beyond = 'process died: what the camera made after the last frame is not known'
            self._end_of_reader({'stopped': 'process died', 'error': self._died(child), 'defects': [beyond]})

    def _display_died(self, child: Child) -> None:
        text = f'the live window is gone ({ending_of(child)}); the recording goes on without it'
        self._warn('DisplayWarning', text)
        self._crew.tell('writer', 'display_gone')

    # -- the writer's death, and its heir

    def _writer_ended(self, child: Child) -> None:
        self._check_start(child)
        if self._report is None or child.crash is not None:
            self._writer_death = self._died(child)
        self._loop.cancel('restart')
        if self._report is not None:
            self._loop.after('callback end', FLUSH_TIMEOUT_S, lambda: self._kill('callback'))
            return
        # Nobody waits for its answer any more; but it may have a lamp to switch off, and results to hand over.
        self._loop.after('callback end', 2 * STOP_GRACE_S, lambda: self._kill('callback'))
        self._stop('the writer process died')
        self._finish_for_writer()

    @property
    def _unfinished(self) -> bool:
        """Whether the writer has left a file that its heir can still finish."""
        return (self._writer_death is not None and self._report is None and self._file is not None
                and not self._finisher_started)

    def _finish_for_writer(self) -> None:
        """Once nobody adds anything any more: have the dead writer's file finished."""
        callback = self._crew.alive('callback')
        if not self._unfinished or self._reader_end is None or not (callback is None or callback.left):
            return
        ring = self._crew.ring
        assert self._file is not None and self._writer_death is not None and ring is not None
        self._finisher_started = True
        messages = [item.message for item in (self._writer_death, *self._errors, *self._callback_errors)]
        orders = FinisherOrders(ring.layout, self._granted, self._file, self._reader_end, messages,
                                self._warnings, self._restarts)
        try:
            self._crew.start_finisher(orders)
        except OSError as error:
            self._writer_death = with_advice(self._writer_death, str(error), self._plan.tif_path)
        self._progress = ()                  # the writer's standstill is not the finisher's
        self._watch_progress()

    def _finisher_ended(self, child: Child) -> None:
        assert self._writer_death is not None
        self._loop.cancel('progress')
        if self._report is not None:
            self._writer_death = with_result(self._writer_death, self._report)
        elif child.exitcode or child.crash is not None:
            self._writer_death = with_advice(self._writer_death, ending_of(child), self._plan.tif_path)

    # -- the callback's deaths and rebirths

    def _callback_ended(self, child: Child) -> None:
        child.kill_group()                 # what it had started and left behind
        self._check_start(child)
        self._loop.cancel('callback start')
        self._crew.drop_waiting_links()
        died = not child.said_goodbye      # whatever its exit code: os._exit(0) is no goodbye
        self._crew.tell('writer', 'cb_gone', {'generation': child.generation, 'died': died})
        if self._crew.alive('writer') is None:
            self._finish_for_writer()
            return
        if not died or self._report is not None:
            return
        if child.generation != self._hung_generation:
            error = self._died(child)
            self._callback_errors.append(error)
            self._crew.tell('writer', 'cb_error', error.message)
        self._count_restart()
        if self._vain_restarts > CALLBACK_RESTARTS:
            log.error('the callback process died %d times and is not started again', self._restarts + 1)
            self._crew.tell('writer', 'cb_lost')
            return
        self._restarts += 1
        self._loop.after('restart', RESTART_PAUSE_S * 2 ** (self._vain_restarts - 1), self._restart_callback)

    def _count_restart(self) -> None:
        """A source that waits loses nothing by a callback that dies at many frames, as long as it gets past them."""
        processed = self._stat(Stat.PROCESSED)
        gets_on = self._granted.waits and processed > self._processed
        self._processed = processed
        self._vain_restarts = 1 if gets_on else self._vain_restarts + 1

    def _restart_callback(self) -> None:
        if self._crew.alive('writer') is None or self._report is not None:
            return
        try:
            self._crew.start_callback_again(self._restarts + 1)
        except OSError as error:
            self._on_cb_error(self._crew.members['writer'], RemoteError.of(
                error, 'CallbackError', 'the callback process cannot be started again: '))
            self._crew.tell('writer', 'cb_lost')
            return
        self._loop.after('callback start', self._settings.cb_start_timeout, lambda: self._kill('callback'))

    # -- burying

    def _bury_all(self) -> None:
        """Nobody is left behind."""
        for child in list(self._crew.members.values()):
            if child.exitcode is None and not child.bury(PATIENCE_S.get(child.role, 0)):
                child.kill()
            child.channel.close()
        self._crew.members.clear()
        end_orphans()


def keeper_main(channel: Channel, plan: Plan, arguments: Any) -> int:
    """Entry of the keeper process."""
    try:
        keeper = Keeper(channel, plan)
    except OSError as error:
        channel.send('failed', RemoteError.of(error, 'RecorderError', CANNOT_START))
        return 1
    keeper.run()
    return 0
