"""What a recording comes to: from the keeper's last words to the report and the error that the script gets."""

from __future__ import annotations

import collections
import dataclasses
import logging
import os
import signal
import threading
from typing import Any, Deque, Dict, List, Optional, Tuple

from . import errors
from .errors import CallbackError, RecorderError
from .pipeline.channel import Channel, RemoteError
from .pipeline.finisher import Account, FinisherOrders, OwnFile
from .pipeline.lifelines import Lifelines
from .pipeline.plan import Plan
from .pipeline.processes import Child, ending_of
from .pipeline.ring import Ring, Stat, frames_captured
from .recordings.salvage import readable, tally_of
from .report import Report
from .settings import Settings

__all__ = ['Run', 'conclude']

log = logging.getLogger(__name__)


class Run:
    """One recording, as the script's process knows it."""

    def __init__(self, channel: Channel, keeper: Child, plan: Plan) -> None:
        self.channel, self.keeper, self.plan = channel, keeper, plan
        self.lifelines = Lifelines()
        self.file: Optional[OwnFile] = None                 # what the writer has created
        self.stop_asked = 0.0                               # monotonic seconds; 0: not yet
        self.stop_heard = False                             # and the keeper has answered
        self.ring: Optional[Ring] = None
        self.changed = threading.Condition()
        self.started = False
        self.source_ended = False
        self.marks: List[Dict[str, Any]] = []
        self.outcome: Optional[Tuple[str, Any]] = None      # ('done' | 'failed' | 'died', payload)
        self.warnings: List[Tuple[str, str]] = []
        self.granted: Any = None
        self.thread: Optional[threading.Thread] = None
        self.rates: Deque[Tuple[float, int]] = collections.deque(maxlen=64)

    def end_keeper(self, why: str) -> None:
        """Kill a keeper that does not answer; the others see its end, and finish the file."""
        if not self.stop_heard:
            self.stop_heard, self.keeper.verdict = True, why
            log.warning('the keeper process is ended: %s', why)
            os.kill(self.keeper.pid, signal.SIGKILL)        # the listening thread waits for it

    def let_go(self) -> None:
        """Close all descriptors. Harmless twice."""
        self.channel.close()
        self.lifelines.close()
        if self.ring is not None:
            self.ring.close()              # the mapping stays


def conclude(run: Run, settings: Settings) -> Tuple[Optional[Report], Optional[RecorderError]]:
    """The report, None when nothing was recorded, and the error to raise, if any.

    What is to be warned of is added to ``run.warnings``.
    """
    assert run.outcome is not None
    kind, payload = run.outcome
    if kind == 'failed':
        return None, payload.to_exception()
    if kind == 'died':
        return payload and _with_late_marks(run, payload), _keeper_died(run, payload)
    return _from_last_words(run, settings, payload)


def _from_last_words(run: Run, settings: Settings, payload: Dict[str, Any]) -> Tuple[Report, Optional[RecorderError]]:
    found: List[RemoteError] = payload['errors']
    callback_errors: List[RemoteError] = payload['callback_errors']
    if payload['report'] is not None:
        report = _with_late_marks(run, Report.from_dict(payload['report']))
    else:
        report = _without_writer(run, settings, [item.message for item in found])
    # What the callback said after the file was closed is missing in the stored report.
    late = [item.message for item in callback_errors if item.message not in report.errors]
    if late:
        report = dataclasses.replace(report, errors=[*report.errors, *late])
    if report.bypassed and settings.cb_delivery == 'every':
        run.warnings.append(('CallbackBypassedWarning', _bypassed(report)))
    if found:
        return report, found[0].to_exception()
    return report, _callback_error(callback_errors[0], report, settings) if callback_errors else None


def _bypassed(report: Report) -> str:
    return (f'{report.bypassed} of {report.captured} frames were recorded without passing through the callback, which '
            'had no time for them; they are marked by-passed. A faster callback, a lower framerate or a larger '
            "ring_frames helps; cb_delivery='latest' makes it the rule")


def _with_late_marks(run: Run, report: Report) -> Report:
    """A mark that came in the very moment of the end may have missed the file: say so, never lose it silently."""
    stored = {(mark['label'], mark['time_ns']) for mark in report.marks}
    late = [mark for mark in run.marks if (mark['label'], mark['time_ns']) not in stored]
    if not late:
        return report
    run.warnings.append(('RecorderWarning', 'these marks came after the last frame and are in rec.report only, not in '
                         f'the file: {late[:20]}'))
    return dataclasses.replace(report, marks=[*report.marks, *late])


def _callback_error(first: RemoteError, report: Report, settings: Settings) -> CallbackError:
    count = max(1, report.callback_errors)
    more = f' (and {count - 1} more failed calls)' if count > 1 else ''
    kept = f'all {report.captured} captured frames were recorded, the ones it failed on as they came' \
        if settings.write_vid else 'no file was asked for'
    error = CallbackError(f'{first.message}{more}; {kept}', count, report.callback_restarts)
    if first.traceback:
        error.__cause__ = errors.RemoteTraceback(first.traceback)
    return error


def _without_writer(run: Run, settings: Settings, texts: List[str]) -> Report:
    """Neither the writer nor its heir could tell: what the counters say, and what can be read of the file."""
    texts = texts or ['the writer process died']
    if run.ring is None or run.file is None:
        return _without_file(run, texts)
    path = run.plan.tif_path if settings.write_vid else None
    _, files = readable(path) if path is not None else (0, [])
    orders = FinisherOrders(run.ring.layout, run.granted, run.file, {'stopped': 'process died'}, texts,
                            [text for _, text in run.warnings], 0)
    report = Account(run.plan, orders, run.ring.stats).of_pages(tally_of(files), files)
    return _with_late_marks(run, dataclasses.replace(report, files=files))


def _without_file(run: Run, texts: List[str]) -> Report:
    """None was asked for, or there was no time to make one: the counters are all there is."""
    report = Report(complete='no', reasons=texts, errors=texts, stopped='process died', marks=list(run.marks))
    if run.ring is None:
        return report
    stats = run.ring.stats
    captured = frames_captured(stats)
    return dataclasses.replace(
        report, sensor=captured + int(stats[Stat.LOST]), captured=captured, lost=int(stats[Stat.LOST]),
        processed=int(stats[Stat.PROCESSED]), results=int(stats[Stat.RESULTS]), ring_frames=run.ring.layout.slots)


def _keeper_died(run: Run, report: Optional[Report]) -> RecorderError:
    stats = run.ring.stats if run.ring is not None else None
    captured, written = (frames_captured(stats), int(stats[Stat.WRITTEN])) if stats is not None else (0, 0)
    if report is not None:
        captured = max(captured, report.captured)      # message and report must not contradict each other
        then = f'the file has been finished all the same, with {report.written} frames'
    else:
        then = f'run  ppr repair {run.plan.tif_path}' if written and run.plan.tif_path else 'nothing was recorded'
    error = errors.ProcessDiedError(
        f'the keeper process ended unexpectedly ({ending_of(run.keeper)}) after {captured} frames were captured and '
        f'{written} written; {then}', 'keeper', run.keeper.exitcode, captured, written)
    if run.keeper.crash is not None:
        error.__cause__ = errors.RemoteTraceback(run.keeper.crash.traceback)
    return error
