"""``ppr record``: run a recording in the foreground, show how it goes, and end with the verdict."""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback
import warnings
from typing import Any, Callable, Dict, NoReturn, Optional, TextIO

from rich.console import Console

from ..errors import CallbackError, CameraFormatError, CameraNotFoundError, RecorderError, SettingsError
from ..report import DISK_NEARLY_FULL, Report
from .interrupts import Interrupts
from .outcome import COMPLETE, DOUBTFUL, FAILED, USAGE, stderr_console, tell_error, tell_warnings
from .progress import Silence, choose_progress
from .streams import stdout_of_our_own
from .verdict import print_verdict

__all__ = ['run_recording']

LOOK_S = 0.25     # how often the live figures are read

#: Some of what was asked for shows itself to be impossible only once the camera has been opened.
NOT_POSSIBLE = (SettingsError, CameraNotFoundError)


class StopSignals(Interrupts):
    """SIGINT, SIGTERM and SIGHUP as a wish to stop; a second one ends the wait.

    While the recording is being started, which on a Pi camera takes seconds, already the first one calls it off.
    """

    def __init__(self) -> None:
        super().__init__()
        self.wanted = False
        self.starting = True

    def note(self) -> None:
        at_once, self.wanted = self.wanted or self.starting, True
        if at_once:
            raise KeyboardInterrupt


def run_recording(settings: Dict[str, Any], *, as_json: bool, quiet: bool, print_results: bool,
                  debug: Callable[[], bool]) -> int:
    """Record with these arguments of the recorder's; returns the exit code. Blocks until the recording has ended."""
    with stdout_of_our_own(as_json) as out, warnings.catch_warnings():
        tell_warnings(stderr_console())
        try:
            from ..recorder import ProcessedPiRecorder
            recorder = ProcessedPiRecorder(blocking=False, **settings)
        except RecorderError as error:
            _tell(error, debug, 'nothing was started')
            return USAGE
        try:
            failure = _run(recorder, choose_progress(quiet, recorder.settings.rec_length),
                           out if print_results else None)
        except KeyboardInterrupt:
            _abandon(recorder)
        if recorder.report is not None:
            _print_report(recorder.report, out, as_json, quiet)
    if failure is not None:
        _tell(failure, debug, _title(failure, recorder.report))
    elif recorder.report is not None and is_empty(recorder.report):
        tell_error(RecorderError(_why_empty(recorder.report)), 'nothing was recorded')
    return exit_code(recorder.report, failure)


def _run(recorder: Any, progress: Silence, out: Optional[TextIO]) -> Optional[BaseException]:
    results: Optional[threading.Thread] = None
    failure: Optional[BaseException] = None
    try:
        with StopSignals() as stop, progress:
            if recorder.settings.callback is not None:
                # Read in any case: unread results would pile up for as long as the recording lasts.
                results = threading.Thread(target=_read_results, args=(recorder.cb_queue, out),
                                           name='ppr-results', daemon=True)
            _start(recorder, stop)
            if results is not None:
                results.start()
            _watch(recorder, stop, progress)
    except RecorderError as error:
        failure = error
    # Its last lines come before the verdict. It ends with the queue; it never began when nothing was started.
    if results is not None and results.ident is not None:
        results.join()
    return failure


def _start(recorder: Any, stop: StopSignals) -> None:
    try:
        recorder.recordVid()
    except KeyboardInterrupt:
        if recorder.recording:
            raise                        # a second one: it is not waited for
        recorder.wait()                  # raises that it was called off
    finally:
        stop.starting = False


def _abandon(recorder: Any) -> NoReturn:
    """Leave at once. The recorder would wait for its processes; they finish the file without us, too."""
    told = 'the recorder\'s processes finish the file on their own. Look at it in a moment with:  ppr info'
    if not recorder.status().captured:
        told = 'no frame had come yet; the recorder\'s processes give the camera back and end on their own'
    tell_error(RecorderError(f'not waited for: {told}'), 'stopped twice')
    sys.stdout.flush()
    os._exit(FAILED)


def _watch(recorder: Any, stop: StopSignals, progress: Silence) -> None:
    stopping = False
    while recorder.wait(LOOK_S) is None:
        if stop.wanted and not stopping:
            stopping = True
            recorder.stopVid(timeout=0)
            progress.say('stopping, and finishing the file (once more to leave it to itself)')
        elif not stopping:
            progress.show(recorder.status())


def _read_results(queue: Any, out: Optional[TextIO]) -> None:
    for result in queue:
        if out is not None:
            print(_result_line(result), file=out, flush=True)


def _result_line(result: Any) -> str:
    from ..recordings.results import encode_line
    return json.dumps(json.loads(encode_line(None, None, result))['result'])


def _print_report(report: Report, out: TextIO, as_json: bool, quiet: bool) -> None:
    if as_json:
        print(report.to_json(indent=2), file=out, flush=True)
    elif not quiet:
        print_verdict(Console(highlight=False), report)


def exit_code(report: Optional[Report], error: Optional[BaseException]) -> int:
    """0 complete; 1 the file is good, but not all is well; 2 it cannot be done so; 3 it failed, or nothing came."""
    if was_impossible(error, report):
        return USAGE
    if error is not None and not isinstance(error, CallbackError):
        return FAILED
    if report is not None and is_empty(report):
        return FAILED
    if error is not None or report is None or report.complete != 'yes' or report.callback_errors \
            or report.stopped == DISK_NEARLY_FULL:
        return DOUBTFUL
    return COMPLETE


def was_impossible(error: Optional[BaseException], report: Optional[Report]) -> bool:
    """Whether nothing was started, because it cannot be done so: what was asked is wrong, not what happened."""
    # Without a report the camera was never started: it is its settings that do not suit it.
    return isinstance(error, NOT_POSSIBLE) or (isinstance(error, CameraFormatError) and report is None)


def is_empty(report: Report) -> bool:
    """Whether a recording ended without a single frame and without a file."""
    return not report.captured and not report.files


def _why_empty(report: Report) -> str:
    end = f' (it was ended by: {report.stopped})' if report.stopped else ''
    return (f'the recording ended before the camera had given a single frame{end}, so there is no file; '
            'record longer, or check the camera (ppr cameras lists what there is)')


def _title(error: BaseException, report: Optional[Report]) -> str:
    if isinstance(error, CallbackError):
        return 'the callback failed'
    return 'nothing was started' if was_impossible(error, report) else 'the recording failed'


def _tell(error: BaseException, debug: Callable[[], bool], title: str) -> None:
    if debug():
        traceback.print_exception(type(error), error, error.__traceback__, file=sys.stderr)
    tell_error(error, title)
