"""Recordings processed on a Dask cluster, by blocks: in any order, by any worker, and put together in their order.

::

    this process                                       a worker                       beside it
    ────────────                                       ────────                       ─────────
    recordings ─ ranges ─ orders ──► Dask scheduler ──► run_block (worker.py) ──────► block_process.py: the callback
                                                            │ follows it; ends it          │ frame by frame
    results file, in order  ◄── BlockResult ◄───────────────┘ where it hangs  ◄────────────┘
    processed recording     ◄── the blocks' recordings, over the file system that all share

Never more than a few blocks for each worker are under way, so neither the scheduler nor this process ever holds more
than those, however long the recordings are. A worker that is lost costs time: Dask gives its blocks to others.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import os
import queue
import sys
import uuid
from pathlib import Path
from typing import Any, Callable, ContextManager, Deque, Dict, Iterator, List, NamedTuple, Optional, Sequence, Union

from ..errors import ClusterError, RecorderError, SettingsError
from ..reading import Recording, opened
from ..settings import DEFAULT_CB_TIMEOUT_S, SUFFIXES
from ..termination import terminated_tidily
from .block_process import Order
from .blocks import block_frames_for, ranges
from .collecting import Collector
from .connecting import Cluster, check_workers, cluster_of, seen
from .report import ProcessReport
from .sending import Sent, pickled, state_of
from .task import Progress, Task, task_for
from .worker import BlockResult, end_processes, itself, run_block

__all__ = ['process_many', 'process_on_cluster', 'process_tasks']

log = logging.getLogger(__name__)

#: Blocks under way for each that can be worked on: the others wait at the workers, so that none is ever idle.
WINDOW = 3
#: A block whose worker could not read or write goes to another one so often.
RETRIES = 2
#: The first blocks are so short, to see how long the others should be.
PROBE_FRAMES = 4
DEFAULT_LEVEL, DEFAULT_START_S = 6, 60.0
#: Workers may take so long to let go of blocks that nobody wants any more.
LEAVE_S = 10.0
#: So long nothing may come of the workers before it is looked whether they are there.
LOOK_S = 2.0
#: And so long it may take to hand over what came of a block.
GATHER_S = 30.0
PathOrRecording = Union[str, Path, Recording]


def process_on_cluster(task: Task, *, workers: Optional[int] = None, scheduler: Optional[str] = None,
                       block_frames: Optional[int] = None) -> ProcessReport:
    """Process one recording; see :func:`process_many`."""
    return process_tasks([lambda: contextlib.nullcontext(task)], task.callback, workers=workers, scheduler=scheduler,
                         block_frames=block_frames, progress=task.progress)[0]


def process_many(paths_or_recordings: Sequence[PathOrRecording], callback: Callable[..., Any], *, out: Any = None,
                 record: str = 'returned', workers: Optional[int] = None, scheduler: Optional[str] = None,
                 block_frames: Optional[int] = None, overwrite: bool = False, rate_hz: Optional[float] = None,
                 progress: Optional[Progress] = None, **told: Any) -> List[ProcessReport]:
    """Process recordings on one cluster, one after the other, without a pause between them.

    Each is processed as :func:`process` does it, but by blocks: every block begins with a fresh copy of the callback
    and a deque that holds the frames before. What the callback itself carries from frame to frame begins anew there.

    Args:
        paths_or_recordings: of a split recording, any file, or all: it is processed once, and has one report.
        out: a folder for processed recordings, ``trial_processed.tif`` each; made where there is none yet. None: none
            are made.
        workers: processes on this machine; with a scheduler: so many are waited for.
        scheduler: address of a Dask scheduler ('tcp://…'), whose workers see the recordings under the same paths.
        block_frames: a block's length; None: chosen so that each takes some seconds.
        progress: called with (frames done, frames in all) of all recordings.
        record, overwrite, rate_hz, told: as in :func:`process`.

    Each recording's files get their names when it is done. Raises what :func:`process` raises, before anything is
    begun where it can be seen by then; ClusterError where the cluster cannot do it, or goes away.
    """
    make = _task_maker(callback, out, dict(record=record, overwrite=overwrite, rate_hz=rate_hz, progress=None), told)
    return process_tasks([_later(make, source) for source in paths_or_recordings], callback, workers=workers,
                         scheduler=scheduler, block_frames=block_frames, progress=progress)


def process_tasks(tasks: Sequence[Callable[[], ContextManager[Task]]], callback: Callable[..., Any], *,
                  workers: Optional[int] = None, scheduler: Optional[str] = None, block_frames: Optional[int] = None,
                  progress: Optional[Progress] = None, each: Callable[[ProcessReport], Any] = lambda report: None
                  ) -> List[ProcessReport]:
    """The same for tasks. Each opens a context whose value is a Task: first to be checked, again when its turn comes.

    each: called with every recording's report as soon as its files have their names.
    """
    known: Dict[str, Callable[[], ContextManager[Task]]] = {}
    made: Dict[Path, Path] = {}
    total, files = 0, []
    for make in tasks:
        with make() as task:
            first = os.path.realpath(task.recording.path)
            if first in known:             # a glob finds all files of a split recording
                continue
            known[first] = make
            _refuse_same_name(task, made)
            total += len(task.recording)
            files += [seen(path) for path in task.recording.files]
    if block_frames is not None and (not isinstance(block_frames, int) or block_frames < 1):
        raise SettingsError(f'block_frames={block_frames!r} is no length of blocks; pass 1 or more frames, or None')
    sent = pickled(callback)
    with terminated_tidily(), cluster_of(workers, scheduler) as cluster:
        check_workers(cluster, files)
        return _Run(cluster, sent, state_of(callback), total, block_frames, progress, each).reports(
            list(known.values()))


def _refuse_same_name(task: Task, made: Dict[Path, Path]) -> None:
    for path in filter(None, (task.outputs.out, task.outputs.results)):
        other = made.setdefault(path, task.recording.path)
        if other != task.recording.path:
            raise SettingsError(f'{path} would be made of two recordings, {other} and {task.recording.path}; process '
                                'them apart, or under other names')


def _task_maker(callback: Any, out: Any, options: Dict[str, Any], told: Dict[str, Any]) -> Callable[[Any], Any]:
    folder = None if out is None else _folder(Path(out))

    @contextlib.contextmanager
    def make(source: PathOrRecording) -> Iterator[Task]:
        with opened(source) as recording:
            target = None if folder is None else folder / f'{recording.path.stem}_processed.tif'
            yield task_for(recording, callback, out=target, results=None, told=told, **options)
    return make


def _folder(path: Path) -> Path:
    """Made where it is not there yet."""
    if path.suffix.lower() in SUFFIXES and not path.is_dir():
        raise SettingsError(f'out={str(path)!r} is the name of one file; recordings are processed into a folder here')
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise SettingsError(f'out={str(path)!r} cannot be made a folder ({error.strerror or error}); pass the name of '
                            'one, in a folder that exists') from error
    return path


def _later(make: Callable[[Any], Any], source: PathOrRecording) -> Callable[[], Any]:
    return lambda: make(source)


class _Abandoned(ClusterError):
    """The workers have gone, and nobody starts others."""


class _Under(NamedTuple):
    """A block under way."""

    order: Order
    collector: Collector
    future: Any


class _Run:
    """All recordings of one call, on one cluster."""

    def __init__(self, cluster: Cluster, sent: Sent, state: str, total: int, block_frames: Optional[int],
                 progress: Optional[Progress], each: Callable[[ProcessReport], Any]) -> None:
        self._cluster, self._block_frames, self._progress, self._each = cluster, block_frames, progress, each
        self._sent, self._state = sent, state
        self._job = uuid.uuid4().hex
        self._total, self._written, self._submitted = total, 0, 0
        self._waiting: Deque[_Under] = collections.deque()        # in order: the next to be written first
        self._finished: 'queue.SimpleQueue[Any]' = queue.SimpleQueue()
        self._ahead: Dict[str, int] = {}                           # frames of blocks that are done and not yet written
        self._reports: List[ProcessReport] = []

    def reports(self, tasks: Sequence[Callable[[], ContextManager[Task]]]) -> List[ProcessReport]:
        """Process them all."""
        # A task, too: so it goes to each worker once, and is made again where it gets lost.
        self._callback = self._cluster.client.submit(itself, self._sent.data, key=f'ppr-callback-{self._job}')
        with contextlib.ExitStack() as collectors:
            try:
                self._tell()
                for make in tasks:
                    self._submit_all(self._begun(make, collectors))
                while self._waiting:
                    self._write_next()
            except KeyboardInterrupt as interrupt:         # of whatever kind; that one goes on
                interrupt.args = (self._how_far(str(interrupt)),)
                raise
            finally:
                self._let_go()             # before the collectors remove what workers may still be writing
        return self._reports

    def _begun(self, make: Callable[[], ContextManager[Task]], collectors: contextlib.ExitStack) -> Collector:
        try:
            return collectors.enter_context(Collector(make))
        except RecorderError:
            while self._waiting:           # what stands against this one is none of theirs
                self._write_next()
            raise

    def _submit_all(self, collector: Collector) -> None:
        task = collector.task
        start, stop = 0, len(task.recording)
        if self._block_frames is None:
            start = self._probe(collector, stop)
        for begin, end in ranges(start, stop, self._block_frames or PROBE_FRAMES):
            while len(self._waiting) >= WINDOW * self._cluster.slots + 1:
                self._write_next()
            self._submit(self._order(task, begin, end), collector)

    def _probe(self, collector: Collector, stop: int) -> int:
        """Give each worker some frames, and see by the first ones how long a block should be; returns where to go on.
        """
        begun = min(stop, PROBE_FRAMES * self._cluster.slots)
        for begin, end in ranges(0, begun, PROBE_FRAMES):
            self._submit(self._order(collector.task, begin, end), collector)
        result = self._write_next()
        self._block_frames = block_frames_for(self._total - begun, self._cluster.slots, result.frame_s,
                                              result.enter_s, collector.task.buffer_length)
        return begun

    def _order(self, task: Task, start: int, stop: int) -> Order:
        settings, outputs = task.settings, task.outputs
        timeout_s = float(settings.get('cb_timeout') or DEFAULT_CB_TIMEOUT_S)
        first_timeout_s = max(float(settings.get('cb_start_timeout') or DEFAULT_START_S), timeout_s)
        level = None if outputs.out is None else settings.get('tif_compression', DEFAULT_LEVEL)
        return Order(
            self._job, task.opening, start, stop, task.buffer_length, timeout_s, first_timeout_s, task.rate_hz, level,
            task.record == 'returned', str(outputs.folder), tuple(sys.path))

    # ------------------------------------------------------------------ blocks under way

    def _submit(self, order: Order, collector: Collector) -> None:
        self._submitted += 1
        future = self._cluster.client.submit(
            run_block, order, self._callback, key=f'ppr-block-{self._job}-{self._submitted}', pure=False,
            retries=RETRIES)
        self._waiting.append(_Under(order, collector, future))
        future.add_done_callback(self._finished.put)

    def _write_next(self) -> BlockResult:
        """Wait for the block that is next in order, and write what came of it."""
        under = self._waiting[0]
        while not under.future.done():
            try:
                self._note(self._finished.get(timeout=LOOK_S))
            except queue.Empty:
                self._see_to_workers(under)
        result = self._result(under)
        self._waiting.popleft()
        self._ahead.pop(under.future.key, None)
        under.collector.add(result)
        self._written += result.stop - result.start
        self._tell()
        if result.stop == under.order.opening.pages:
            self._reports.append(under.collector.finish(self._notes(under.collector)))
            self._each(self._reports[-1])
        return result

    def _see_to_workers(self, under: _Under) -> None:
        """Nothing has come for a while: raise ClusterError where nobody is there any more who would start workers."""
        if not self._cluster.alive():
            raise _Abandoned(f'{self._cluster.where} ended, with the process that starts them. {self._written:,} of '
                             f'{self._total:,} frames were done{under.collector.what_is_kept()}; nothing more has its '
                             'final name')

    def _note(self, future: Any) -> None:
        """A block is done; for the progress."""
        frames = {under.future.key: under.order.stop - under.order.start for under in self._waiting}
        if future.status == 'finished' and future.key in frames:
            self._ahead[future.key] = frames[future.key]
            self._tell()

    def _tell(self) -> None:
        if self._progress is not None:
            self._progress(self._written + sum(self._ahead.values()), self._total)

    def _result(self, under: _Under) -> BlockResult:
        try:
            result = self._gathered(under)
        except _Abandoned:
            raise                          # has said all
        except Exception as error:
            raise self._told(error, under) from error
        except BaseException as error:     # Dask's CancelledError is none of Exception's; Ctrl-C is told as it is
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                raise
            raise self._told(error, under) from error
        if result.refused is not None:
            raise result.refused.to_exception()
        return result

    def _gathered(self, under: _Under) -> BlockResult:
        """Its worker may be lost before it has handed over what it made; without others nobody makes it again."""
        while True:
            try:
                result: BlockResult = under.future.result(timeout=GATHER_S)
                return result
            except Exception as error:     # asyncio's TimeoutError, Dask's own, by version
                if 'Timeout' not in type(error).__name__ or under.future.status == 'error':
                    raise
            self._see_to_workers(under)

    def _told(self, error: BaseException, under: _Under) -> Exception:
        """What a block's end was, in words."""
        order = under.order
        what = f'frames {order.start:,} to {order.stop - 1:,} of {order.opening.path}'
        kind = type(error).__name__
        if 'Cancelled' in kind or 'CommClosed' in kind or self._cluster.client.status != 'running':
            why = f'{self._cluster.where} went away (its scheduler has ended, or cannot be reached any more)'
        elif kind == 'KilledWorker':
            why = (f'{what} were with several workers, one after the other, and every one of them was lost: they were '
                   'ended from outside, or ran out of memory; see their logs')
        elif isinstance(error, ClusterError):
            why = f'{what} cannot be processed by a worker: {error}'
        else:
            why = f'{what} failed on a worker: {kind}: {error}'
        return ClusterError(f'{why}. {self._written:,} of {self._total:,} frames were done'
                            f'{under.collector.what_is_kept()}; nothing more has its final name')

    def _how_far(self, why: str) -> str:
        kept = self._waiting[0].collector.what_is_kept() if self._waiting else ''
        return (f'{f"{why}, " if why else ""}after {self._written:,} of {self._total:,} frames{kept}; nothing more has '
                'its final name')

    def _notes(self, collector: Collector) -> List[str]:
        notes = [*self._cluster.notes, *self._sent.notes]
        if self._state and collector.blocks > 1:
            notes.append(f'the callback is {self._state}: each of the {collector.blocks:,} blocks began with a fresh '
                         'copy of it, so whatever it carries from frame to frame began anew there')
        return notes

    def _let_go(self) -> None:
        """Whatever has happened: nothing of this is to be worked on any more."""
        from distributed import wait
        client = self._cluster.client
        futures = [under.future for under in self._waiting]
        self._waiting.clear()
        if client.status == 'running' and self._cluster.alive():
            try:
                client.run(end_processes, self._job, on_error='ignore')
                if futures:                # what they were writing is about to be removed
                    wait(futures, timeout=LEAVE_S)
                client.cancel([*futures, self._callback])
            except Exception as error:     # it has gone at this moment; what is left there ends by itself
                log.debug('the cluster was not there any more: %s', error)
