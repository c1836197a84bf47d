"""A recording through the recorder's own processes once more: a camera that waits, no frame by-passed, in order."""

from __future__ import annotations

import re
import threading
import time
import warnings
from pathlib import Path
from queue import Empty
from typing import Any, Callable, List, Optional, Tuple, Union

import numpy as np

from ..cameras.replay import ReplayCamera
from ..errors import (
    CallbackBypassedWarning,
    CallbackError,
    ProcessingError,
    RecorderError,
    RecordingFileError,
    SettingsError,
)
from ..reading import Recording, opened
from ..recorder import ProcessedPiRecorder
from ..report import MAX_ERRORS, Report
from ..settings import DEFAULT_CB_TIMEOUT_S
from ..termination import terminated_tidily
from .report import Failure, ProcessReport
from .task import Progress, Task, task_for
from .watched import CallState, Trail, watched

__all__ = ['process', 'run_task']

LOOK_S = 0.25             # how often it is looked how far it is
#: A source that waits needs no room for slow moments, only enough for all to be at work at once.
RING_FRAMES = 32
RING_BYTES = 256 << 20
#: How the recorder tells of a call that hung, and of a callback's process that ended.
HUNG, ENDED = r'did not return from frame (\d+) in time', r'the callback process ended unexpectedly \((.*?)\) after'


def process(path_or_recording: Union[str, Path, Recording], callback: Callable[..., Any], *, out: Any = None,
            record: str = 'returned', buffer_length: Optional[int] = None, cb_timeout: Optional[float] = None,
            cb_start_timeout: Optional[float] = None, rate_hz: Optional[float] = None, workers: Optional[int] = None,
            scheduler: Optional[str] = None, block_frames: Optional[int] = None, overwrite: bool = False,
            results: Any = None, progress: Optional[Progress] = None, **settings: Any) -> ProcessReport:
    """Call the callback with every frame of a recording, as a recorder would, as fast as the machine allows.

    The same contract: ``callback(buffer, cb_queue)`` in a process of its own, one call after the other, in order of
    capture; frames have the numbers and times of the original. It may put results, keep state, be a context manager;
    nobody puts anything for it to get. Blocks until all is on disk. A call that raises, hangs, ends its process or
    returns what cannot be recorded costs its own frame: it is listed, and the others go on.

    Args:
        path_or_recording: a path (of a split recording, any file), or a Recording.
        out: of a processed recording, with the original's numbers and times; None: none is made.
        record: what it holds: frames as the callback 'returned' them, or 'raw' ones.
        buffer_length, cb_timeout, cb_start_timeout: as the recorder's; None: as stored in the recording.
        rate_hz: for a TIFF of another program, whose frames have no times.
        workers, scheduler, block_frames: process by blocks, on so many processes of this machine or a Dask cluster
            ('tcp://…'); a block's length, None = some seconds of work (docs/processing.md).
        overwrite: replace what an earlier run has made; the recording itself is never touched.
        results: where to; default: beside ``out``, else ``trial_processed.results.jsonl`` beside the recording.
        progress: called in this thread with (frames done, frames in all), some four times a second; what it raises
            ends the processing.
        settings: further arguments of the recorder: Hz_buffer, tif_compression, split_frames, stereo, start_method,
            ring_frames, ring_mb, sync_interval, disk_reserve_mb, metadata.

    Nothing has its final name before all is done. Ended early (by an error, a signal), the results so far are kept as
    ``trial_processed.partial.results.jsonl``.

    Raises SettingsError for arguments that cannot work; RecordingFileError where the recording cannot be read;
    CallbackError where the callback cannot be started; ProcessingError for everything that ends it early.
    """
    told = dict(settings, buffer_length=buffer_length, cb_timeout=cb_timeout, cb_start_timeout=cb_start_timeout)
    with opened(path_or_recording) as recording:
        task = task_for(recording, callback, out=out, results=results, overwrite=overwrite, record=record,
                        rate_hz=rate_hz, progress=progress, told=told)
        return run_task(task, workers, scheduler, block_frames)


def run_task(task: Task, workers: Optional[int] = None, scheduler: Optional[str] = None,
             block_frames: Optional[int] = None) -> ProcessReport:
    """What process() does once everything is checked; here, or on a cluster."""
    if workers is not None or scheduler is not None:
        from .cluster import process_on_cluster
        return process_on_cluster(task, workers=workers, scheduler=scheduler, block_frames=block_frames)
    if block_frames is not None:
        raise SettingsError(f'block_frames={block_frames!r} without workers or a scheduler: there are no blocks then; '
                            'pass workers=..., or leave it out')
    with terminated_tidily(), task.outputs:
        return _Run(task).report()


class _Run:
    """One run through the recorder."""

    def __init__(self, task: Task) -> None:
        self._task, self._recording, self._outputs = task, task.recording, task.outputs
        self._trail = Trail(self._outputs.folder)
        self._ended: Optional[Report] = None

    def report(self) -> ProcessReport:
        """Run it, publish what came of it, and tell."""
        began = time.monotonic()
        self._prepare_trail()
        report = self._run()
        failures = self._failures(report)
        results = _lines_in(self._outputs.work_results)
        notes = [*self._task.notes(), *self._own_notes(report, failures)]
        results_path, failures_path = self._outputs.publish(failures)
        return ProcessReport(self._recording.path, len(self._recording), report.processed, results, failures,
                             results_path, failures_path, self._outputs.out, time.monotonic() - began, notes)

    def _prepare_trail(self) -> None:
        try:
            self._trail.prepare(len(self._recording))
        except OSError as error:
            raise ProcessingError(f'{self._outputs.folder.parent} cannot be written to: {error.strerror or error}; '
                                  'make room, or choose another place') from error

    # ------------------------------------------------------------------ running

    def _run(self) -> Report:
        recorder = self._recorder()
        reading = threading.Thread(target=_read_all, args=(recorder.cb_queue,), name='ppr-results', daemon=True)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter('ignore', CallbackBypassedWarning)      # it is an error here, told below
                recorder.recordVid()
                reading.start()
                self._watch(recorder)
        except KeyboardInterrupt as interrupt:
            self._abandon(recorder)
            interrupt.args = (self._how_far(str(interrupt)),)      # the same one: a signal may have become it
            raise
        except BaseException:
            self._abandon(recorder)
            raise
        finally:
            if reading.ident is not None:
                reading.join()
        report = self._ended
        assert report is not None
        self._check(report)
        return report

    def _recorder(self) -> ProcessedPiRecorder:
        task, outputs = self._task, self._outputs
        own = dict(task.settings)
        if own.get('ring_frames') is None and own.get('ring_mb') is None:
            frame_bytes = self._recording.nbytes // len(self._recording)
            own['ring_frames'] = max(8, min(RING_FRAMES, RING_BYTES // frame_bytes))
        own['metadata'] = task.stored_metadata()
        callback = watched(task.callback, self._trail, task.indices, own.get('cb_timeout') or DEFAULT_CB_TIMEOUT_S)
        # A recording that is still being made may have more pages by now; these are the ones that were asked for.
        camera = ReplayCamera(self._recording.absolute_files[0], 'fastest', original_times=True, rate_hz=task.rate_hz,
                              pages=len(self._recording))
        return ProcessedPiRecorder(
            outputs.work_tif, camera=camera, callback=callback, cb_type='3Proc', blocking=False, display=False,
            write_vid=outputs.out is not None, pixel_format=self._recording.pixel_format, record=task.record, **own)

    def _watch(self, recorder: ProcessedPiRecorder) -> None:
        while True:
            try:
                self._ended = recorder.wait(LOOK_S)
            except CallbackError:
                self._ended = recorder.report          # which frames, is known
            except RecorderError as error:
                self._ended = recorder.report
                raise self._broken_off(str(error)) from error
            if self._ended is not None:
                return
            status = recorder.status()
            if status.bypassed:
                recorder.stopVid(0)
            self._task.tell(min(status.processed + status.failed, len(self._recording)))

    def _abandon(self, recorder: ProcessedPiRecorder) -> None:
        self._trail.call_off()
        try:
            recorder.close()
        except RecorderError:
            pass                                       # what ended it before is what is told

    # ------------------------------------------------------------------ how it went

    def _check(self, report: Report) -> None:
        """Raise ProcessingError where not every frame was given to the callback, or results are missing."""
        if report.bypassed:
            endings = sorted({ending for text in report.errors for ending in re.findall(ENDED, text)})
            raise self._broken_off("the callback's process ended again and again without getting through one frame "
                                   f'more ({", ".join(endings) or "it hung"}), and is not started any longer; try the '
                                   'callback on one frame')
        if report.stopped != 'end of source':
            raise self._broken_off(f'it was ended by: {report.stopped or "an error"}')
        unstored = [text for text in report.errors if str(self._outputs.work_results) in text]
        if unstored:
            raise self._broken_off(f'results could not be stored: {unstored[0]}')
        self._task.tell(len(self._recording))

    def _broken_off(self, why: str) -> ProcessingError:
        return ProcessingError(f'processing {self._recording.path} ended early: {why}; {self._how_far()}')

    def _how_far(self, why: str = '') -> str:
        done = int(np.count_nonzero(self._trail.states() != CallState.NOT_BEGUN))
        return (f'{f"{why}, " if why else ""}after {done:,} of {len(self._recording):,} frames of '
                f'{self._recording.path.name}{self._outputs.what_is_kept()}; nothing has its final name')

    def _failures(self, report: Report) -> List[Failure]:
        states = self._trail.states()
        autopsy = self._autopsy = _Autopsy(self._trail, states, self._task.indices, report)
        found = [self._failure(int(page), CallState(int(states[page])), autopsy)
                 for page in np.flatnonzero(states != CallState.DONE)]
        called = sum(failure.why != 'unreadable' for failure in found)
        if report.failed > called:
            found += [self._told(page, 'died', 'its process ended when the call had just returned, so its results may '
                                               'be missing') for page in autopsy.done_last]
        return sorted(found)

    def _failure(self, page: int, state: CallState, autopsy: '_Autopsy') -> Failure:
        if state == CallState.NOT_BEGUN:
            try:
                self._recording.read(page)
            except RecordingFileError as error:
                return self._told(page, 'unreadable', str(error))
            return self._told(page, 'died', "the callback's process ended before this call had begun")
        if state == CallState.BEGUN:
            return self._told(page, *autopsy.of(page))
        return self._told(page, 'raised' if state == CallState.RAISED else 'returned', autopsy.text(page))

    def _told(self, page: int, why: str, text: str) -> Failure:
        return Failure(page, int(self._task.indices[page]), int(self._task.times_ns[page]), why, text)

    def _own_notes(self, report: Report, failures: List[Failure]) -> List[str]:
        notes = []
        if report.callback_restarts:
            notes.append(f"the callback's process was started again {report.callback_restarts} time"
                         f'{"s" if report.callback_restarts > 1 else ""}; its state, and its deque, began anew then')
        notes += [text for text in report.errors if text.startswith("the callback's __exit__")]
        notes += [f"the callback's process ended between two calls, or after the last one: {ending}"
                  for ending in self._autopsy.between]
        if self._outputs.out is not None and any(failure.why == 'unreadable' for failure in failures):
            notes.append('the frames that cannot be read are not in the processed recording; its report tells them as '
                         'lost')
        return notes


class _Autopsy:
    """Why calls did not end: from what they left behind, and what the recorder tells of its callback's processes.

    done_last: pages whose call was the last of a process, and had come to its end.
    between: how processes ended, where more did than calls are missing.
    """

    def __init__(self, trail: Trail, states: np.ndarray, indices: np.ndarray, report: Report) -> None:
        self._trail, self._texts, self._first_pages = trail, trail.texts(), trail.first_pages()
        looks, self._all_told = trail.looks(), len(report.errors) < MAX_ERRORS
        told = {int(index) for text in report.errors for index in re.findall(HUNG, text)}
        begun = [int(page) for page in np.flatnonzero(states == CallState.BEGUN)]
        self._hung = {page: looks.get(page, '') for page in begun
                      if int(indices[page]) in told or (page in looks and not self._all_told)}
        died = [page for page in begun if page not in self._hung]
        endings = [ending for text in report.errors for ending in re.findall(ENDED, text)]
        # As many deaths as pages: each has its own. Else a process died between two calls, or not all are told.
        self._endings = dict(zip(died, endings)) if len(died) == len(endings) else {}
        self.between = endings if len(died) < len(endings) else []
        self.done_last = [page for page in (*(first - 1 for first in self._first_pages[1:]), len(states) - 1)
                          if states[page] == CallState.DONE]

    def text(self, page: int) -> str:
        """What was wrong with a call that raised, or returned what cannot be recorded."""
        return self._texts.get(page, 'what was wrong could not be noted: see the log')

    def of(self, page: int) -> Tuple[str, str]:
        """(why, text) for a call that was begun and has not ended."""
        if page in self._hung:
            look = self._hung[page]
            return 'hung', 'the call did not return in time' + (f'; half that time ago it was here:\n{look}'
                                                                if look else '')
        said, ending = self._trail.crash_at(page, self._first_pages), self._endings.get(page)
        return 'died', (f'the process ended during this call{f" ({ending})" if ending else ""}'
                        + (f':\n{said}' if said else ''))


def _lines_in(path: Path) -> int:
    if not path.exists():
        return 0
    with open(path, 'rb') as file:
        return sum(block.count(b'\n') for block in iter(lambda: file.read(1 << 20), b''))


def _read_all(cb_queue: Any) -> None:
    """In a thread: what the callback puts for the script is stored already; unread it would only pile up."""
    while True:
        try:
            cb_queue.get()
        except Empty:
            return
        except RecorderError:
            return
        except Exception:
            continue                                   # an object that cannot be unpickled in this process
