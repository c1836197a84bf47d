"""From frames to a file: compression on all cores, order restored, appended in batches, synced beside it.

::

    submit ──► [workers] ── compress ── put in order ── whose turn it is: append ──► file ◄── [syncer]
     (hub)      one a core, and one more                   │ on_written        every second: fdatasync, then link

Who finishes the page that is next in the file writes it, and whatever has become ready behind it: a thread that only
wrote would have to be woken for each page, and each waking costs the interpreter and a processor. One worker more than
cores, so that the cores have work while one waits for the disk.

Nothing here copies or queues without bound: a job holds its ring slot until ``on_written``.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from collections import deque
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Callable, Deque, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from ..errors import RecordingFileError
from .bigtiff import EncodedPage, PageLayout, file_error, is_full, refuse_fat, refuse_if_recording, remove, sync_folder
from .effort import Choice, EffortChooser, Load, Room
from .encoder import PageEncoder
from .jobs import PageJob, Totals
from .page import open_text, seal_text, strip_crc
from .part import FinishedPage, PartInfo, RecordingPart, part_path, parts_on_disk
from .rescue import rescue
from .salvage import refuse_if_going_on, remove_older_parts
from .space import SpaceWatch
from .stages import InOrder, Syncer

__all__ = ['PageJob', 'PageSink', 'Totals']

log = logging.getLogger(__name__)

MAX_BATCH = 64            # pages in one write; more would only delay on_written ...
MAX_BATCH_BYTES = 8_000_000   # ... and so would more than this: a slow card takes half a second for it
PIXEL_FORMATS = {'bgr': 3, 'gray': 1}
NO_RING = Room(0, 1_000_000)

Describe = Callable[[PartInfo], Mapping[str, Any]]


class _Encoded(NamedTuple):
    job: PageJob
    page: FinishedPage


class PageSink:
    """The recording's file(s) while they are written. Used by one thread; runs threads of its own.

    Creating it makes the file (exclusively; with ``overwrite`` under a temporary name beside it) and starts the
    threads. Then ``publish`` and ``submit`` …, ``finish``; or ``discard``. Raises RecordingFileError.

    Args:
        path: the (first) file. height, width: pixels. pixel_format: 'bgr' or 'gray'.
        level: ``tif_compression``, 0 to 9. split_frames: pages a file, 0 = all in one.
        threads: cores to compress on; None = all that this process may use.
        sync_interval_s: how much a power cut may cost, at most about twice this.
        room: what is taken and what is free of the ring; called from any thread, must be quick.
        waits: the source can be slowed down, so effort is never lowered for time.
        framerate: the camera's, Hz, as far as it is known.
        on_written: gets the jobs that the kernel has taken, in order; from one of its threads at a time.
        on_error: gets the error that ended the writing, once; from one of its threads, or from within ``finish``.
            After it no job is reported written any more, ``submit`` does nothing, and ``finish`` raises.
        about: what is known before the first page (settings, metadata, …): each file's preface, and the annotations
            of a part that is finished while the recording goes on.
        space: is asked to look whenever the file has grown; from the thread that has written.

    Attributes:
        totals: see Totals. unfinished: after ``finish`` has raised, the files with pages that could not be finished.
    """

    def __init__(self, path: Path, *, height: int, width: int, pixel_format: str, level: int,
                 on_written: Callable[[List[PageJob]], None], on_error: Callable[[BaseException], None],
                 overwrite: bool = False, split_frames: int = 0, threads: Optional[int] = None,
                 sync_interval_s: float = 1.0, room: Callable[[], Room] = lambda: NO_RING, waits: bool = False,
                 framerate: Optional[float] = None, about: Optional[Mapping[str, Any]] = None,
                 space: Optional[SpaceWatch] = None) -> None:
        channels = PIXEL_FORMATS[pixel_format]
        self.totals = Totals()
        self.unfinished: List[Path] = []
        self._path = path
        self._size = (height, width, channels)
        self._shape = (height, width) if channels == 1 else (height, width, channels)
        self._layout = PageLayout(height, width, channels, compressed=level > 0)
        self._converts = level == 0 and channels == 3       # an uncompressed page is an array of its own then
        self._overwrite = overwrite
        self._split = split_frames
        self._on_written, self._on_error = on_written, on_error
        self._room = room
        self._about = dict(about or {})
        self._recording = uuid.uuid4().hex
        self._space = space
        self._error: Optional[BaseException] = None
        self._error_told = False
        self._lock = threading.Lock()     # guards _error and _closed_bytes
        self._result: Optional[List[Path]] = None
        self._submitted = 0
        self._closed_bytes = 0            # of the parts before the current one
        self._files: List[Path] = [path]
        self._part = self._create_first()
        threads = threads or len(os.sched_getaffinity(0))
        self._chooser = EffortChooser(level, height, width, channels, threads, self._load, waits, framerate)
        self._work: SimpleQueue[Optional[Tuple[int, PageJob]]] = SimpleQueue()
        self._order: InOrder[_Encoded] = InOrder()
        self._spare: Deque[np.ndarray] = deque()      # arrays of uncompressed pages that are written
        self._syncer = Syncer(self._part, sync_interval_s, self._finish_full_part, self._fail)
        # Without compression there is nothing to do but to write, and several would only stand in each other's way.
        self._alone = level == 0
        self._workers = self._make_workers(1 if self._alone else threads + 1)
        self._start()

    def _make_workers(self, count: int) -> List[threading.Thread]:
        return [threading.Thread(target=self._work_on, name=f'ppr-page-{number}', daemon=True)
                for number in range(count)]

    def _start(self) -> None:
        try:
            for thread in (*self._workers, self._syncer.thread):
                thread.start()
        except BaseException:
            self.discard()
            raise

    # ------------------------------------------------------------------ the caller's thread

    @property
    def current_path(self) -> Path:
        """Where the file stands that is being written; with ``overwrite`` a temporary name until ``publish``."""
        return self._part.path

    def publish(self) -> None:
        """Everything else has started well: with ``overwrite`` the new file takes the old one's place now."""
        if self._part.path != self._path:
            refuse_if_going_on(self._path)
            self._part.publish(self._path)
            sync_folder(self._path)

    def discard(self) -> None:
        """The start failed: end the threads and remove what was created. An old file stays as it was."""
        if self._result is not None:
            return
        self._order.break_off()
        self._end_threads()
        self._part.close()
        remove(self._part.path)
        self._result = []

    def submit(self, job: PageJob) -> None:
        """Take the next frame, in the order of capture. Never blocks; the caller's ring bounds how many wait.

        Raises ValueError for an image of another shape or type. After an error it does nothing.
        """
        if job.image.shape != self._shape or job.image.dtype != np.uint8:
            raise ValueError(f'this recording takes uint8 images of shape {self._shape}, '
                             f'got {job.image.dtype} {job.image.shape}')
        if self._error is not None or self._result is not None:
            return
        self._chooser.arrived(job.record.index, job.record.time_ns)
        job.page = self._submitted
        self._submitted += 1
        self._work.put((job.page, job))

    def finish(self, describe: Describe) -> List[Path]:
        """Write what was submitted, describe and close the last file, and return all files. Blocks.

        describe: gets the last file's PartInfo and returns its annotations, names to JSON values ('report',
        'settings', 'metadata', 'camera', …); ``totals`` is complete then but for the description itself.
        No page at all: a TIFF cannot be empty, so the file is removed and the list is empty.
        Raises RecordingFileError when anything could not be written; what had been written remains readable, and is
        described and finished all the same where the disk still allows it (``unfinished``: where it does not).
        """
        if self._result is not None:
            return self._result
        self._end_threads()
        self._result = []
        if self._error is not None:
            self._tell_error()
            self._rescue(describe)
            if self._overwrite:
                remove_older_parts(self._path, len(self._files))
            raise self._as_file_error(self._error)
        if self._part.pages == 0:
            self._part.close()
            remove(self._part.path)
            return self._result
        self._finish_last(describe)
        if self._overwrite:
            remove_older_parts(self._path, len(self._files))
        self._result = list(self._files)
        return self._result

    def _finish_last(self, describe: Describe) -> None:
        self._count_bytes()
        failure: Optional[BaseException] = None
        annotations: Mapping[str, Any] = {}
        info = self._info(self._part, last=True)
        try:
            annotations = describe(info)
        except Exception as error:
            failure = error               # raised once the recording is safe
        try:
            self._part.finish(info, annotations)
        except Exception as error:
            self._fail(error)
            self._tell_error()
            self._rescue(describe)
            raise self._as_file_error(error) from error
        self._count_bytes()
        if failure is not None:
            raise failure

    def _end_threads(self) -> None:
        for _ in self._workers:
            self._work.put(None)
        for thread in self._workers:
            if thread.ident is not None:
                thread.join()
        self._syncer.close()

    # ------------------------------------------------------------------ the workers: compressing

    def _work_on(self) -> None:
        encoder = PageEncoder(*self._size, self._spare)
        while True:
            item = self._work.get()
            if item is None:
                return
            if self._error is None:
                try:
                    has_turn = self._order.put(item[0], self._encode(encoder, *item))
                    try:
                        if self._alone:
                            for more in self._jobs_that_wait(MAX_BATCH_BYTES // item[1].image.nbytes):
                                self._order.put(more[0], self._encode(encoder, *more))
                    finally:          # whatever happens: an error is told by whoever has the turn, or by nobody
                        if has_turn:
                            self._append_ready()
                    self._chooser.sample()
                except BaseException as error:   # noqa: B036 (whatever it is, the recording must hear of it)
                    self._fail(error)
            del item      # the thread must not hold the last job's slot while it waits

    def _jobs_that_wait(self, most: int) -> Iterator[Tuple[int, PageJob]]:
        """Up to so many, for who works alone: then they are written all at once."""
        for _ in range(most):
            try:
                item = self._work.get_nowait()
            except Empty:
                return
            if item is None:
                self._work.put(None)
                return
            yield item

    def _encode(self, encoder: PageEncoder, number: int, job: PageJob) -> _Encoded:
        choice = self._chooser.choose(job.image)
        strip = self._strip(encoder, job, choice.effort)
        if not strip:
            choice = Choice('stored', 2)
            strip = self._strip(encoder, job, 'stored')
        effort, job.pressure = choice
        length = sum(memoryview(buffer).nbytes for buffer in strip)
        part, page = divmod(number, self._split) if self._split else (0, number)
        text, crc = seal_text(open_text(page, part, job.record, effort, job.pressure), strip_crc(strip))
        job.effort, job.nbytes = effort, length
        return _Encoded(job, FinishedPage(EncodedPage(strip, length, text), job.record, effort, crc))

    def _strip(self, encoder: PageEncoder, job: PageJob, effort: str) -> List[Any]:
        """The page's strip; empty when it was given up because the ring fills meanwhile."""
        cpu, wall = time.thread_time(), time.perf_counter()
        strip = encoder.encode(job.image, effort, self._chooser.hurry(effort))
        if strip:
            size = sum(memoryview(buffer).nbytes for buffer in strip) / job.image.nbytes
            self._chooser.spent(effort, size, time.thread_time() - cpu, time.perf_counter() - wall)
        return strip

    def _load(self) -> Load:
        """For the chooser, in any thread."""
        room, unwritten = self._room(), self._submitted - self.totals.pages
        return Load(room.taken / max(room.taken + room.free, 1), room.free,
                    (self._submitted - self._order.received) / max(unwritten, 1))

    # ------------------------------------------------------------------ the workers: appending, in turn

    def _append_ready(self) -> None:
        """Write what is next in the file, until nothing more is ready. One thread at a time."""
        try:
            batch = self._order.take(MAX_BATCH)
            while batch:
                self._append_batch(batch)
                batch = self._order.take(MAX_BATCH)
        except BaseException as error:   # noqa: B036 (whatever it is, the recording must hear of it)
            self._fail(error)
        if self._error is not None:      # whoever met it has left it to us to tell: nothing is reported written now
            self._tell_error()

    def _append_batch(self, batch: Sequence[_Encoded]) -> None:
        while batch and self._error is None:
            if self._split and self._part.pages == self._split:
                self._begin_part()
            room = min(self._part.room_for, _whole_pages(batch, MAX_BATCH_BYTES))
            if self._split:
                room = min(room, self._split - self._part.pages)
            self._append(batch[:room])
            batch = batch[room:]

    def _append(self, batch: Sequence[_Encoded]) -> None:
        """Write pages that all belong to one part."""
        try:
            self._part.append([encoded.page for encoded in batch])
        except RecordingFileError as error:
            if len(batch) == 1 or not is_full(error):
                raise
            log.info('%s; trying page by page', error)
            for encoded in batch:          # each one that still fits is one more that is not lost
                self._append([encoded])
            return
        written_ns = time.monotonic_ns()
        jobs = [encoded.job for encoded in batch]
        if self._converts:
            self._spare.extend(encoded.page.encoded.buffers[0] for encoded in batch)
        for job in jobs:
            job.written_ns = written_ns
            self.totals.effort[job.effort] = self.totals.effort.get(job.effort, 0) + 1
            self.totals.raw_bytes += job.image.nbytes
            self.totals.strip_bytes += job.nbytes
            self.totals.pressure.page(job.record.index, job.record.time_ns, job.pressure, job.effort)
        self.totals.pages += len(jobs)
        self._count_bytes()
        self._on_written(jobs)
        self._syncer.touched(self._part)
        if self._space is not None and self._space.due(self.totals.file_bytes):
            self._space.look(self._part.disk_room(), self.totals.file_bytes, self._bytes_to_finish())

    def _begin_part(self) -> None:
        """Go on in the next file. The one before counts as full only once this one holds a page: it may stay the last.
        """
        number = self._part.number + 1
        path = part_path(self._path, number)
        if self._overwrite:
            refuse_if_recording(path)
            remove(path)
        part = RecordingPart(path, number, self.totals.pages, self._path.name, self._layout, self._size, self._about,
                             self._recording)
        with self._lock:
            self._closed_bytes += self._part.nbytes
        self._files.append(path)
        self._part = part

    def _bytes_to_finish(self) -> int:
        """What the ends of the files take that are open, or may still be begun for the pages on their way."""
        parts = 1
        if self._split:
            parts += self._syncer.full_parts + -(-(self._submitted - self.totals.pages) // self._split) + 1
        return parts * self._part.bytes_to_finish

    # ------------------------------------------------------------------ the sync thread

    def _finish_full_part(self, part: RecordingPart) -> None:
        sync_folder(self._path)       # the name of the part that follows it
        info = self._info(part, last=False)
        before = part.nbytes
        part.finish(info, self._about)
        with self._lock:
            self._closed_bytes += part.nbytes - before

    # ------------------------------------------------------------------ all of them

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            if self._error is not None:
                return
            self._error = error
        if self._order.break_off():
            self._tell_error()

    def _as_file_error(self, error: BaseException) -> BaseException:
        if isinstance(error, RecordingFileError) or not isinstance(error, Exception):
            return error
        if isinstance(error, OSError):
            return file_error(self._path, 'cannot be written', error)
        wrapped = RecordingFileError(f'{self._path} cannot be written: {type(error).__name__}: {error}; what was '
                                     'recorded before remains readable')
        wrapped.__cause__ = error
        return wrapped

    def _tell_error(self) -> None:
        assert self._error is not None
        with self._lock:
            told, self._error_told = self._error_told, True
        if not told:
            self._on_error(self._as_file_error(self._error))

    def _rescue(self, describe: Describe) -> None:
        """Make what was written before the error reachable, and finish it, as far as the disk still lets us."""
        parts = self._syncer.take_open()
        if not self._part.pages:
            self._remove_empty(self._part)
            parts = [part for part in parts if part.pages]
            if parts:
                self._part = parts[-1]
                self._closed_bytes -= self._part.nbytes
                self._count_bytes()
        rescue(parts, lambda part, last: self._finish_part(part, describe, last))
        self.unfinished = [part.path for part in parts if not part.finished]
        self._count_bytes()

    def _finish_part(self, part: RecordingPart, describe: Describe, last: bool) -> None:
        info = self._info(part, last)
        part.finish(info, describe(info) if last else self._about)

    def _remove_empty(self, part: RecordingPart) -> None:
        """The first page of a file has already failed: nothing is in it."""
        part.close()
        self._files = [path for path in self._files if path != part_path(self._path, part.number)]
        try:
            remove(part.path)
        except RecordingFileError as error:
            log.warning('%s', error)

    def _count_bytes(self) -> None:
        self.totals.file_bytes = self._closed_bytes + self._part.nbytes

    def _info(self, part: RecordingPart, last: bool) -> PartInfo:
        return PartInfo(part.number, part_path(self._path, part.number), self._path.name, part.first_page, part.pages,
                        last, tuple(self._files[:part.number + 1]))

    # ------------------------------------------------------------------ the files

    def _create_first(self) -> RecordingPart:
        refuse_fat(self._path)
        self._refuse_existing()
        created = self._path
        if self._overwrite and os.path.lexists(self._path):
            if not self._path.is_file():
                raise RecordingFileError(f'{self._path} is not an ordinary file and will not be overwritten; '
                                         'choose another name')
            refuse_if_going_on(self._path)
            self._path = self._path.resolve()     # what a link points to is replaced, not the link
            created = self._path.with_name(f'.ppr-{os.getpid()}-{time.time_ns():x}.tif')
        part = RecordingPart(created, 0, 0, self._path.name, self._layout, self._size, self._about, self._recording)
        sync_folder(created)
        self._files = [self._path]
        return part

    def _refuse_existing(self) -> None:
        if self._overwrite or not self._split:
            return
        try:
            others = parts_on_disk(self._path)
        except OSError as error:
            raise file_error(self._path.parent, 'cannot be read', error) from error
        if others:
            raise RecordingFileError(f'{others[0][1]} exists already, and split_frames={self._split} would need that '
                                     'name; choose another name, or pass overwrite=True')


def _whole_pages(batch: Sequence[_Encoded], most_bytes: int) -> int:
    """How many of the first pages are together no longer than this; at least one."""
    total = 0
    for number, encoded in enumerate(batch):
        total += encoded.job.nbytes
        if total > most_bytes:
            return max(number, 1)
    return len(batch)
