"""The script's ear: a thread that hears from the keeper while a recording runs, until it has its outcome."""

from __future__ import annotations

import logging
import time
from typing import Any, Callable, List, Optional, Tuple

from .heir import take_over
from .messages import relog
from .outcome import Run
from .pipeline.cb_queue import CallbackQueue
from .pipeline.channel import RemoteError
from .pipeline.ring import Ring
from .status import Status

__all__ = ['PROGRESS_PERIOD_S', 'listen']

log = logging.getLogger(__name__)

PROGRESS_PERIOD_S = 0.5
#: For results that still lie in a pipe when its callback is dead: some kilobytes.
QUEUE_DRAIN_TIMEOUT_S = 5.0

Progress = Optional[Callable[[Status], None]]


def listen(run: Run, cb_queue: CallbackQueue, progress: Progress, status: Callable[[], Status]) -> None:
    """The thread's whole life. ``progress`` is called with a Status every half second."""
    try:
        outcome = _hear(run, cb_queue, progress, status)
    except BaseException as error:         # no threads or no memory left: whoever waits must hear of it
        log.debug('the listening thread failed', exc_info=True)
        run.keeper.crash = RemoteError.of(error, 'ProcessDiedError', 'the script cannot hear it: ')
        outcome = ('died', None)
    if outcome[0] == 'died':
        run.channel.close()                # should it still be there, it ends the recording now
        outcome = ('died', _take_over(run))
    run.keeper.bury(10)
    cb_queue.end()
    if not cb_queue.wait_drained(QUEUE_DRAIN_TIMEOUT_S):
        cb_queue.abandon()
    run.let_go()
    with run.changed:
        run.outcome = outcome
        run.changed.notify_all()


def _take_over(run: Run) -> Any:
    try:
        return take_over(run)
    except Exception:
        log.exception('the recording could not be finished without its keeper')
        return None


def _hear(run: Run, cb_queue: CallbackQueue, progress: Progress, status: Callable[[], Status]) -> Tuple[str, Any]:
    next_progress = time.monotonic() + PROGRESS_PERIOD_S
    while True:
        if progress is not None:
            while not run.channel.wait(next_progress - time.monotonic()):
                # Before recordVid() has started everything there is nothing to tell, and nothing to stop.
                if run.started:
                    _tell(progress, status)
                next_progress = time.monotonic() + PROGRESS_PERIOD_S
        message = run.channel.receive()
        if message is None:
            return 'died', None
        kind, payload, fds = message
        if kind in ('done', 'failed'):
            return kind, payload
        _take(run, cb_queue, kind, payload, fds)


def _take(run: Run, cb_queue: CallbackQueue, kind: str, payload: Any, fds: List[int]) -> None:
    """One of the keeper's words."""
    if kind == 'queue':
        cb_queue.attach(fds[0], fds[1])
    elif kind == 'born':
        run.lifelines.add(payload[0], payload[1], fds[0])
    elif kind == 'created':
        run.file = payload
    elif kind == 'granted':
        run.granted = payload[1]
        run.warnings.extend(payload[1].warnings)
        run.ring = Ring(fds[0], payload[0])
    elif kind == 'log':
        relog(payload)
    elif kind == 'warning':
        run.warnings.append(payload)
    elif kind == 'crashed':
        run.keeper.crash = payload
    elif kind == 'source_ended':
        run.source_ended = True
    elif kind in ('started', 'stopping'):
        with run.changed:
            run.started = run.started or kind == 'started'
            run.stop_heard = run.stop_heard or kind == 'stopping'
            run.changed.notify_all()


def _tell(progress: Callable[[Status], None], status: Callable[[], Status]) -> None:
    try:
        progress(status())
    except BaseException:                  # sys.exit() in here would leave the script waiting for ever
        log.exception('the progress function failed')
