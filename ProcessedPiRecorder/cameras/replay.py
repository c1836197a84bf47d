"""A recording of ours as a camera: the same frames again, gaps and all."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, Deque, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Tuple

import numpy as np

from ..errors import CameraError, CameraFormatError, RecorderStateError, RecordingFileError, RecordingFormatError
from ..reading.foreign import ForeignPages
from ..reading.readahead import usable_cores
from ..reading.sources import OwnPages, PageSource
from ..recordings.stored_report import report_of
from ..report import Report
from .base import CameraListing, CameraRequest, FrameSink, Granted, Stamp
from .capture import require_format
from .pace import Pace, PacedFile, chosen_pace
from .videofile import Broken

__all__ = ['ReplayCamera', 'files_played']

#: Frames of fewer bytes are decoded in less time than it takes to hand them from thread to thread.
WORTH_A_THREAD = 100_000
OWN_CLOCK = "the recording's own times, from its first page"
ORIGINAL_CLOCK = "the originating times of the recording that is replayed, unchanged"


class ReplayCamera(PacedFile):
    """Replays a recording at the pace of its own times (``pace='own'``) or as fast as it is taken (``'fastest'``).

    Args:
        path: a TIFF made by this package, finished or not; of one that was split into several files, any of them: all
            that are there are played, as one.
        pace: also as ``camera_controls={'pace': ...}``.
        original_times: also as ``camera_controls={'original_times': True}``. True: each frame has exactly the
            originating time and the number that it has in the original, and what is missing there (before the first
            page, in between, after the last as far as its report tells) is lost with the original's reason. False:
            times count from the first page, as if the frames were taken now; the numbers begin at 0.
        rate_hz: for a TIFF of another program, which tells no times: the rate at which it was taken. Its frames are
            numbered by their pages, and their times begin at 0. Without it, such a file is refused.
        pages: play no more than the first so many: a recording that is still being made has more by the time it is
            opened here than whoever looked at it before has seen. That it has more is reported, not what is lost there.

    It waits for the recorder. Frames that the original lost are reported as lost again, at their places (its frame
    index is the camera's counter). Pages that cannot be decoded, files that are missing, and a recording that never
    came to its end, are reported as 'source broke off'; everything readable is delivered. ``stream`` decodes ahead, in
    as many threads as there are cores.
    """

    name = 'replay'

    def __init__(self, path: Any, pace: str = 'own', original_times: bool = False,
                 rate_hz: Optional[float] = None, *, pages: Optional[int] = None) -> None:
        super().__init__(path, pace)
        self.original_times, self.rate_hz, self.pages = original_times, rate_hz, pages
        self._source: Optional[PageSource] = None

    def open(self, request: CameraRequest) -> Granted:
        pace, self._original = _controls(self.pace, self.original_times, request.controls)
        if self.pages is not None and self.pages < 1:
            raise CameraFormatError(f'pages={self.pages!r} is nothing to play; pass 1 or more, or None for all')
        self._pace = Pace(pace)
        self._page = 0
        self._broken: List[Broken] = []
        source = self._source = self._open_source()
        height, width = source.frame_shape[:2]
        if request.pixel_format != source.pixel_format:
            raise CameraFormatError(f'the recording {self.path} is {source.pixel_format!r}, not '
                                    f'{request.pixel_format!r}; pass pixel_format={source.pixel_format!r}')
        rate = self._read_times(source)
        require_format(request, (width, height), rate, f'the recording {self.path}')
        self._losses = _Losses(source, len(self._times)) if self._original and isinstance(source, OwnPages) else None
        blind = self._losses is not None and self._losses.unknown
        return Granted(width, height, width, height, rate, source.pixel_format,
                       ORIGINAL_CLOCK if self._original else OWN_CLOCK, 'none' if blind else 'count', waits=True,
                       clock_base='utc' if self._original else 'own', exact_times=self._original,
                       model=os.path.basename(self.path), details={
                           'path': self.path, 'pace': pace, 'pages': len(self._times), 'finished': source.finished,
                           'files': len(source.files), 'original_times': self._original,
                           'original_start_ns': int(self._times[0])})

    def read(self, out: np.ndarray) -> Optional[Stamp]:
        if self._source is None or self._pace is None:
            raise CameraError('read() before open(): open the camera first')
        try:
            return self._read_next(self._source, self._pace, out)
        except RecorderStateError:
            if self._pace.closed:               # by another thread, just before the page was to be read
                return None
            raise

    def _read_next(self, source: PageSource, pace: Pace, out: np.ndarray) -> Optional[Stamp]:
        while not pace.closed and self._page < len(self._times):
            page = self._page
            self._page += 1
            try:
                source.read(page, out)
            except RecordingFileError as error:
                self._note_unreadable(page, error)
                continue
            return self._stamp(page)
        self._note_end(source)
        return None

    def stream(self, sink: FrameSink) -> None:
        if self._source is None or self._pace is None:
            raise CameraError('stream() before open(): open the camera first')
        try:
            self._stream(self._source, self._pace, sink)
        except RecorderStateError:
            if not self._pace.closed:           # else another thread closed it, just before a page was to be read
                raise

    def _stream(self, source: PageSource, pace: Pace, sink: FrameSink) -> None:
        for page, fill in self._pages(source):
            if sink.stopping or pace.closed:
                return
            slot = sink.slot()
            if sink.stopping:
                return
            self._tell_losses(sink, page)
            try:
                fill(slot)
            except RecordingFileError as error:
                self._note_unreadable(page, error)
                self._tell_broken(sink)
                continue
            stamp = self._stamp(page)
            if stamp is None:
                return
            sink.commit(stamp)
        self._tell_losses(sink, len(self._times))
        self._note_end(source)
        self._tell_broken(sink)

    def close(self) -> None:
        if self._pace is not None:
            self._pace.close()
        if self._source is not None:
            self._source.close()

    # ------------------------------------------------------------------ pages

    def _pages(self, source: PageSource) -> Iterator[Tuple[int, Callable[[np.ndarray], Any]]]:
        """Each page's number, and what fills a slot with its pixels; that raises RecordingFileError."""
        threads = usable_cores()
        if threads == 1 or int(np.prod(source.frame_shape)) < WORTH_A_THREAD or not source.is_ours:
            for page in range(len(self._times)):
                yield page, lambda slot, page=page: source.read(page, slot)     # type: ignore[misc]
        else:
            yield from _decoded_ahead(source, len(self._times), threads)

    def _stamp(self, page: int) -> Optional[Stamp]:
        """Wait until the frame is due. None: closed meanwhile."""
        assert self._pace is not None
        since_first = int(self._times[page] - self._times[0])
        if not self._pace.wait(since_first, self._period_ns):
            return None
        if not self._original:
            return Stamp(since_first, None, int(self._indexes[page]))
        skew_ns = None if self._losses is None else self._losses.skew_ns(page)
        return Stamp(int(self._times[page]), None, int(self._indexes[page]), skew_ns)

    def _open_source(self) -> PageSource:
        path = Path(self.path)
        try:
            return OwnPages(path)
        except RecordingFormatError as error:
            if self.rate_hz is None:
                raise CameraError(f'{self.path} cannot be replayed: {error}') from error
        except RecordingFileError as error:
            raise CameraError(str(error)) from error
        try:
            foreign = ForeignPages(path)
        except RecordingFileError as error:
            raise CameraError(f'{self.path} cannot be replayed: {error}') from error
        if foreign.dtype != np.uint8:
            foreign.close()
            raise CameraFormatError(f'{self.path} holds samples of {foreign.dtype}; frames have 8 bits (uint8)')
        return foreign

    def _read_times(self, source: PageSource) -> Optional[float]:
        if source.times_ns is None or source.indices is None:
            assert self.rate_hz is not None
            self._indexes = np.arange(source.pages, dtype=np.int64)
            self._times = np.rint(self._indexes * (1e9 / self.rate_hz)).astype(np.int64)
        else:
            self._times, self._indexes = source.times_ns, source.indices
        self._times, self._indexes = self._times[:self.pages], self._indexes[:self.pages]
        steps = np.diff(self._indexes)
        self._period_ns = float(np.median(np.diff(self._times) / np.maximum(steps, 1))) if len(steps) else 0.0
        return 1e9 / self._period_ns if self._period_ns > 0 else None

    # ------------------------------------------------------------------ what is missing

    def _tell_losses(self, sink: FrameSink, page: int) -> None:
        """What the original lacks before a page, or behind the last one; else the counter tells of it."""
        if self._losses is not None:
            for count, reason, detail in self._losses.before(page):
                sink.lost(count, reason, detail=detail)

    def _note_unreadable(self, page: int, error: RecordingFileError) -> None:
        self._broken.append(Broken(1, f'page {page} cannot be read: {error}'))

    def _note_end(self, source: PageSource) -> None:
        assert self._pace is not None
        played, more = len(self._times), source.pages > len(self._times)
        if self._pace.closed or source.finished and not more:
            return
        what = 'the recording went on after it had been looked at' if source.finished else \
            f'files of the recording are missing ({", ".join(source.missing_files[:3])})' if source.missing_files \
            else 'the recording was never finished, or is cut off'
        read = f'the first {played} of its {source.pages} pages' if more else f'its {played} pages'
        self._broken.append(Broken(0, f'{what}; {read} were read'))

    def _tell_broken(self, sink: FrameSink) -> None:
        broken, self._broken = self._broken, []
        for count, detail in broken:
            sink.lost(count, 'source broke off', detail=detail)

    @classmethod
    def listings(cls) -> List[CameraListing]:
        return [CameraListing('RECORDING', 'a TIFF recorded by this package, replayed', True)]


def files_played(path: Path) -> Tuple[Path, ...]:
    """All files of the recording that would be replayed; none where it is none of ours."""
    try:
        source = OwnPages(path)
    except (RecordingFileError, OSError):
        return ()
    source.close()
    return source.files


class _Loss(NamedTuple):
    count: int                   # type: ignore[assignment]   # hides tuple.count, which nobody misses here
    reason: str
    detail: str = ''


class _Losses:
    """What the original tells of frames that are not in it.

    pages: how many of it are played. unknown: whether nobody knows if any are missing.
    """

    def __init__(self, source: OwnPages, pages: int) -> None:
        assert source.indices is not None
        self._source, self._indexes, self._pages = source, source.indices, pages
        self._report = _report_of(source)
        self.unknown = source.finished and (self._report is None or self._report.complete == 'unknown')
        self._has_skew = self._of(0, 'skew_ns') is not None

    def before(self, page: int) -> Iterable[_Loss]:
        if page == self._pages:
            return self._behind() if page == len(self._indexes) else ()      # else what is behind it is no loss
        missing = int(self._indexes[page]) - (int(self._indexes[page - 1]) + 1 if page else 0)
        return self._between(page, missing) if missing > 0 else ()

    def skew_ns(self, page: int) -> Optional[int]:
        """Of a pair of cameras; None where there was one camera."""
        return self._of(page, 'skew_ns') if self._has_skew else None

    def _between(self, page: int, missing: int) -> List[_Loss]:
        told = [_Loss(int(loss['count']), str(loss['reason'])) for loss in self._of(page, 'lost') or ()]
        untold = missing - sum(loss.count for loss in told)
        if untold < 0 or any(loss.count < 0 for loss in told):
            return [_Loss(missing, 'camera gap')]                   # the page contradicts the numbers
        rest = _Loss(untold, 'source broke off', 'files of the original are missing') if self._source.missing_files \
            else _Loss(untold, 'camera gap')
        return told + [rest] if untold else told

    def _behind(self) -> List[_Loss]:
        report = self._report
        if report is None:
            return []
        behind = [_Loss(loss.count, loss.reason, loss.detail) for loss in report.losses
                  if loss.index > self._indexes[-1] and loss.count > 0]
        if report.complete == 'no' and not report.lost:
            behind.append(_Loss(0, 'source broke off', f'the original is not complete: {"; ".join(report.reasons)}'))
        return behind

    def _of(self, page: int, name: str) -> Any:
        """A field of what the page's own text tells; None where that cannot be read."""
        try:
            return getattr(self._source.stored_page(page).record, name)
        except RecordingFileError:
            return None


def _controls(pace: str, original_times: bool, controls: Mapping[str, Any]) -> Tuple[str, bool]:
    others = {name: value for name, value in controls.items() if name != 'original_times'}
    original = controls.get('original_times', original_times)
    if not isinstance(original, bool):
        raise CameraFormatError(f'original_times={original!r} is not known; use True or False')
    return chosen_pace(pace, others, 'a replay (but for original_times)'), original


def _report_of(source: OwnPages) -> Optional[Report]:
    stored = source.annotations.get('report')
    try:
        return report_of(stored) if isinstance(stored, dict) and stored else None
    except RecordingFormatError:
        return None                            # damaged: as good as none


def _decoded_ahead(source: PageSource, count: int, threads: int
                   ) -> Iterator[Tuple[int, Callable[[np.ndarray], Any]]]:
    """As _pages, decoded by threads into buffers that go round; who takes a page copies it before the next one."""
    spare: Deque[np.ndarray] = deque(np.empty(source.frame_shape, np.uint8) for _ in range(threads + 2))
    ahead: 'Deque[Tuple[int, np.ndarray, Future[np.ndarray]]]' = deque()
    pages = iter(range(count))
    with ThreadPoolExecutor(threads, 'ppr-read') as executor:
        try:
            while True:
                while spare and (next_page := next(pages, None)) is not None:
                    buffer = spare.popleft()
                    ahead.append((next_page, buffer, executor.submit(source.read, next_page, buffer)))
                if not ahead:
                    return
                page, buffer, decoded = ahead.popleft()
                yield page, lambda slot, decoded=decoded: np.copyto(slot, decoded.result())   # type: ignore[misc]
                decoded.exception()            # who did not take it must still wait until nobody writes to its buffer
                spare.append(buffer)
        finally:
            for _, _, decoded in ahead:
                decoded.cancel()
