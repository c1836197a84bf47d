"""What the script does when its keeper was killed: waits for the others, ends who stays, has the file finished.

It does not know these processes as its children; but each holds a *lifeline*, a pipe on which nothing is written, and
end-of-file there means that the process is gone (``pipeline/crew.py``).
"""

from __future__ import annotations

import logging
import threading
from typing import Any, List, Optional, Tuple

from .outcome import Run
from .pipeline.finisher import FinisherOrders, finisher_main
from .pipeline.plan import FINISH_TIMEOUT_S, FLUSH_TIMEOUT_S, LEAVE_S, STOP_GRACE_S, slowest_call_s
from .pipeline.processes import start_child
from .pipeline.ring import Ring, Stat
from .recordings.salvage import finished_report
from .report import Report

__all__ = ['forking', 'take_over']

log = logging.getLogger(__name__)

#: One fork of this process at a time: one in between would inherit our end of a channel, and the process at its other
#: end would never see it closed.
forking = threading.Lock()

DEATH = 'the keeper process died'
PROGRESS = (Stat.WRITTEN, Stat.PROCESSED, Stat.RESULTS, Stat.FINISHED_BYTES)


def take_over(run: Run) -> Optional[Report]:
    """Wait until nobody is left and the file is finished; its report. None: nothing was recorded, or it cannot be had.

    Blocks, in the listening thread; bounded in time unless the file visibly grows.
    """
    run.keeper.bury(10)
    ours = _Inheritance(run)
    # They end by themselves: the reader at once, the writer when all that was captured is in the file.
    ours.await_progressing('writer')
    ours.await_end(['reader', 'display'], LEAVE_S)
    ours.await_end(['callback'], LEAVE_S + FLUSH_TIMEOUT_S)
    ours.await_progressing('finisher')       # the writer had died, too, and the keeper had started one
    return ours.report()


class _Inheritance:
    """One recording without a keeper."""

    def __init__(self, run: Run) -> None:
        self._run, self._plan = run, run.plan
        self._patience_s = FINISH_TIMEOUT_S + slowest_call_s(run.plan.settings)

    def _progress(self) -> Tuple[int, ...]:
        ring = self._run.ring
        return tuple(int(ring.stats[name]) for name in PROGRESS) if ring is not None else ()

    def await_progressing(self, role: str) -> None:
        """Wait for its end; end it when nothing gets on any more."""
        patience_s = self._patience_s if self._run.ring is not None else LEAVE_S
        progress: Tuple[int, ...] = (-1,)
        while not self._run.lifelines.wait([role], patience_s):
            if progress == self._progress():
                self._run.lifelines.kill(role)
                return
            progress = self._progress()

    def await_end(self, roles: List[str], seconds: float) -> None:
        if not self._run.lifelines.wait(roles, seconds):
            for role in roles:
                self._run.lifelines.kill(role)

    def report(self) -> Optional[Report]:
        run, path = self._run, self._plan.tif_path
        if run.ring is None or not run.ring.stats[Stat.RECEIVED]:
            if run.file is not None:
                run.file.remove(path)      # a writer that was killed could not
            return None
        if path is None or run.file is None or not run.file.is_at(path):
            return None
        return finished_report(path) or self._finish(run.ring)

    def _finish(self, ring: Ring) -> Optional[Report]:
        """The writer was killed as well: have its file finished."""
        run = self._run
        assert run.file is not None
        end = {'stopped': DEATH, 'defects': ["the writer process died too, and with them the reader's last words"]}
        orders = FinisherOrders(ring.layout, run.granted, run.file, end, [f'{DEATH}, and so did the writer process'],
                                [text for _, text in run.warnings], 0)
        try:
            with forking:
                finisher = start_child('finisher', finisher_main, self._plan, self._plan.start_method)
        except OSError as error:
            log.error('%s cannot be finished: %s; run  ppr repair  on it', self._plan.tif_path, error)
            return None
        finisher.channel.send('finish', orders, [ring.fd])
        answer = self._hear(finisher.channel)
        if not finisher.bury(STOP_GRACE_S):
            finisher.kill()
        finisher.channel.close()
        if answer is not None and answer[0] == 'finished':
            return Report.from_dict(answer[1])
        log.error('%s could not be finished (%s); run  ppr repair  on it', self._plan.tif_path,
                  answer[1].message if answer is not None else 'the finisher process died')
        return None

    def _hear(self, channel: Any) -> Optional[Tuple[str, Any]]:
        """The finisher's result; None: it died, or does not get on."""
        progress: Tuple[int, ...] = (-1,)
        while True:
            if not channel.wait(self._patience_s):
                if progress == self._progress():
                    return None
                progress = self._progress()
                continue
            message = channel.receive()
            if message is None or message[0] in ('finished', 'unfinished'):
                return None if message is None else (message[0], message[1])
