"""What comes of the blocks of a recording, written in their order; and the verdict on the whole."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from dataclasses import replace
from io import FileIO
from pathlib import Path
from typing import Any, Callable, ContextManager, Dict, List, Optional

from ..errors import ProcessingError, RecordingFileError
from ..recordings.space import refuse_full_disk
from ..report import Report
from .block_recording import Assembly
from .report import Failure, ProcessReport
from .task import Task
from .worker import BlockResult

__all__ = ['Collector']

MOST_NOTES = 20           # of blocks; they would say the same


class Collector:
    """Takes the blocks of one recording in their order. A context manager; ``finish`` ends it, too.

    Left before, nothing has its final name; results that were there are kept (see Outputs). One thread.

    make: opens a context whose value is the Task. blocks: how many were taken.
    """

    def __init__(self, make: Callable[[], ContextManager[Task]]) -> None:
        self._make, self._began = make, time.monotonic()
        self._stack = contextlib.ExitStack()
        self._file: Optional[FileIO] = None
        self._assembly: Optional[Assembly] = None
        self._results = self._processed = self.blocks = 0
        self._failures: List[Failure] = []
        self._notes: Dict[str, None] = {}         # in their order, each once

    def __enter__(self) -> Collector:
        with contextlib.ExitStack() as stack:
            self.task = stack.enter_context(self._make())
            self._recording, self._outputs = self.task.recording, self.task.outputs
            stack.enter_context(self._outputs)
            stack.callback(self._close)
            if self._outputs.out is not None:
                self._refuse_full_disk(self._outputs.out)
                self._assembly = Assembly(self._outputs.work_tif, self._outputs.out.name, self.task)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self._stack.__exit__(*exc_info)

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
        if self._assembly is not None:
            self._assembly.abandon()

    def _refuse_full_disk(self, out: Path) -> None:
        refuse_full_disk(out, self.task.settings.get('disk_reserve_mb'), 0, overwrite=False)

    def add(self, block: BlockResult) -> None:
        """The next block. Raises ProcessingError where it cannot be written."""
        for name, level, text in block.logs:
            logging.getLogger(name).log(level, '%s', text)
        self.blocks += 1
        self._notes.update(dict.fromkeys(block.notes))
        self._failures += block.failures
        self._results += block.results
        self._processed += block.processed
        try:
            if block.lines:
                self._store(block.lines)
            if self._outputs.out is not None and self._assembly is not None and block.recording is not None:
                self._assembly.add(block.recording)
                self._refuse_full_disk(self._outputs.out)
        except RecordingFileError as error:
            raise ProcessingError(f'processing {self._recording.path} ended early: {error}{self.what_is_kept()}; '
                                  'nothing has its final name') from error
        except OSError as error:
            raise ProcessingError(f'{self._outputs.folder.parent} cannot be written to: {error.strerror or error}; '
                                  'make room, or choose another place') from error

    def _store(self, lines: bytes) -> None:
        if self._file is None:             # without a buffer: it would be written once more when the file is closed
            self._file = open(self._outputs.work_results, 'xb', buffering=0)
        whole = self._file.tell()
        rest = memoryview(lines)
        try:
            while rest:
                rest = rest[self._file.write(rest):]
        except OSError:
            self._file.truncate(whole)     # no half lines among those that are kept
            raise

    def finish(self, notes: List[str]) -> ProcessReport:
        """All blocks are there: give everything its name, and tell. Raises ProcessingError."""
        told = [*self.task.notes(), *notes, *list(self._notes)[:MOST_NOTES]]
        out = self._outputs.out
        try:
            if self._file is not None:
                os.fsync(self._file.fileno())
                self._file.close()
        except OSError as error:
            raise ProcessingError(f'{self._outputs.work_results} cannot be written: {error.strerror or error}; '
                                  'make room, or choose another place') from error
        if self._assembly is not None:
            told += self._finish_recording(self._assembly)
        results_path, failures_path = self._outputs.publish(self._failures)
        report = ProcessReport(self._recording.path, len(self._recording), self._processed, self._results,
                               self._failures, results_path, failures_path, out, time.monotonic() - self._began, told)
        self._stack.close()
        return report

    def _finish_recording(self, assembly: Assembly) -> List[str]:
        if not assembly.pages:
            raise ProcessingError(f'no frame of {self._recording.path} could be read, so there is nothing to record')
        unreadable = sum(failure.why == 'unreadable' for failure in self._failures)
        assembly.finish(self._verdict(unreadable), int(self.task.indices[-1]))
        notes = []
        if unreadable:
            notes.append('the frames that cannot be read are not in the processed recording; its report tells them as '
                         'lost')
        if self.task.settings.get('split_frames'):
            notes.append('the processed recording is one file; split_frames holds for recordings that are not made by '
                         'blocks')
        return notes

    def _verdict(self, unreadable: int) -> Report:
        """The original's, as far as it holds for this one; what the pages tell is filled in by the file."""
        base = self._recording.report
        reasons = [] if base is None else list(base.reasons)
        if base is None:
            base = Report('unknown')
            reasons.append(f'there is no verdict on {self._recording.path.name} that could be taken over')
        missing = self._recording.missing_files
        if missing:
            reasons.insert(0, f'files of the original are missing ({", ".join(missing[:3])})')
        if unreadable:
            reasons.insert(0, f'{unreadable} frame{"s" if unreadable > 1 else ""} could not be read')
        failed = len(self._failures) - unreadable
        return replace(
            base, complete='no' if unreadable or missing else base.complete, reasons=reasons, callback_errors=failed,
            callback_restarts=0, latency_ms={}, callback_ms={}, ring_frames=0, ring_high_water=0, results=self._results,
            stopped='end of source', warnings=list(base.warnings),
            errors=[f'frame {failure.index}: {failure.why}' for failure in self._failures[:20]])

    def what_is_kept(self) -> str:
        """Of results so far, in words that go on a sentence."""
        return self._outputs.what_is_kept()
