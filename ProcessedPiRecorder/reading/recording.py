"""A recording opened for work: an array of frames that are read when they are wanted, and all that is known of them."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple, Union

import numpy as np

from ..errors import RecordingFileError, RecordingFormatError, TooLargeError
from ..frame import Frame, left, right
from ..memory import available_memory
from ..recordings.encoder import EFFORTS
from ..recordings.page import STATUSES, PageRecord, StoredPage
from ..recordings.stored_report import report_of
from ..report import Loss, Report
from . import selection
from .joining import join
from .opening import page_source
from .readahead import pages_in_order, read_into
from .results import Result, Results, check_readable
from .sources import OwnPages

__all__ = ['Recording', 'open_recording', 'opened']

PathLike = Union[str, 'os.PathLike[str]']


def open_recording(path: PathLike, *, results: Optional[PathLike] = None) -> Recording:
    """Open a recording to read it: any file of a split one, finished or not; or another TIFF, as frames without times.

    Reads the page index (64 bytes a page), no pixels. Files without an index are walked through once.

    Args:
        results: the file of results that belongs to it; default: ``trial.results.jsonl`` beside ``trial.tif``.

    Raises RecordingFileError when the file, or the one of results that was named, cannot be opened,
    RecordingFormatError when it holds no frames.
    """
    return Recording(path, results=results)


@contextmanager
def opened(recording: Union[Recording, PathLike], results: Optional[PathLike] = None) -> Iterator[Recording]:
    """A recording as it is, and left open; or one that is opened by its path, with ``results``, and closed at the end.

    For functions that take either. Raises as :func:`open_recording` does.
    """
    if isinstance(recording, Recording):
        yield recording
        return
    with open_recording(recording, results=results) as found:
        yield found


class Recording(Sequence[Frame]):
    """A recording's frames, as an array that is read lazily, with times, numbers, results and verdict.

    Frames are numbered by their *page*, from 0, as in any sequence; a frame's ``index`` is its number among those that
    the sensor made, so that lost frames leave gaps in it. Any number of threads; it may be pickled (it is opened anew
    by its path) and lives on in forked processes. A context manager.

    ::

        rec = open_recording('trial.tif')
        frame = rec[10]                         # uint8, (height, width, 3) BGR or (height, width) gray
        clip = rec[10:20]                       # (10, height, width[, 3])
        for frame in rec: ...                   # decoded ahead, in parallel

    Attributes:
        path; files: all of a split recording's; missing_files: names of those that are not here.
        absolute_files: where the files were at opening, whatever the working folder has become since.
        shape: (frames, height, width[, 3]); dtype: uint8, but for other programs' TIFFs; ndim, nbytes: as numpy's.
        pixel_format: 'bgr' or 'gray'. is_ours: whether it has times, numbers, a verdict.
        times_ns: originating times, int64 ns since 1970 UTC, increasing, read-only; None where they are not known.
        indices: the frames' numbers, int64, increasing, read-only; None where they are not known.
        finished: whether it came to its end and all its files are here.
        notes: what someone who relies on it has to know, one sentence each.
        settings, metadata, camera: as stored; {} where they are not to be had.
    """

    def __init__(self, path: PathLike, *, results: Optional[PathLike] = None) -> None:
        self._results_path = None if results is None else Path(os.path.abspath(results))
        if self._results_path is not None:
            check_readable(self._results_path)
        self._source = page_source(Path(path))
        self._results: List[Results] = []
        source = self._source
        self.path, self.files, self.missing_files = source.path, source.files, source.missing_files
        self.absolute_files = tuple(Path(os.path.abspath(file)) for file in source.files)
        self.shape: Tuple[int, ...] = (source.pages, *source.frame_shape)
        self.dtype, self.ndim = source.dtype, len(self.shape)
        self._frame_bytes = int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize
        self.nbytes = len(self) * self._frame_bytes
        self.pixel_format, self.is_ours, self.finished = source.pixel_format, source.is_ours, source.finished
        self.times_ns, self.indices = source.times_ns, source.indices
        self.notes = (*source.notes, *self._notes_on_results())
        about = source.about if isinstance(source, OwnPages) else {}
        self.settings: Dict[str, Any] = about.get('settings', {})
        self.metadata: Dict[str, Any] = about.get('metadata', {})
        self.camera: Dict[str, Any] = about.get('camera', {})

    # ------------------------------------------------------------------ frames

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        """A frame for a whole number (a :class:`Frame`), else an array in memory, as numpy would select it.

        Selections: slices, lists and arrays of page numbers, masks; after a comma, of rows, columns and channels.
        Decoded in parallel; blocks. Raises IndexError, RecordingFileError, TooLargeError beyond the free memory.
        """
        frames, inside = selection.split(key, self.ndim)
        if isinstance(frames, selection.WHOLE_NUMBER):
            frame = self.read(selection.page_number(frames, len(self)))
            return frame[inside] if inside else frame
        return self._gather(selection.page_numbers(frames, len(self)), inside)

    def read(self, page: int, out: Optional[np.ndarray] = None) -> Frame:
        """One frame, from 0; pixels into ``out`` (C-contiguous, of ``shape[1:]`` and ``dtype``) if given. Blocks."""
        pixels = self._source.read(page, out)
        if self.times_ns is None or self.indices is None:
            return Frame(pixels)
        return Frame(pixels, int(self.indices[page]), int(self.times_ns[page]))

    def frames(self, start: int = 0, stop: Optional[int] = None, step: int = 1, *,
               threads: Optional[int] = None) -> Iterator[Frame]:
        """The frames of a range of pages, in order, each in an array of its own, decoded ahead.

        threads: that decode; None = one for each core that this process may use; 0 = none, each frame when it is
        asked for. They end with the iterator. A page that cannot be read raises RecordingFileError in its turn.
        """
        pages = range(len(self))[start:stop:step]
        return pages_in_order(self.read, pages, self._frame_bytes, threads)    # type: ignore[return-value]

    def __iter__(self) -> Iterator[Frame]:
        return self.frames()

    def left(self, key: Any) -> np.ndarray:
        """The left eye's half of a side-by-side stereo frame or of several (``rec.left(slice(5))``)."""
        return self._eye(key, left)

    def right(self, key: Any) -> np.ndarray:
        """The right eye's half."""
        return self._eye(key, right)

    def __reversed__(self) -> Iterator[Frame]:
        return pages_in_order(self.read, range(len(self))[::-1], self._frame_bytes)    # type: ignore[return-value]

    def __contains__(self, value: object) -> bool:
        raise TypeError('a recording is not searched for pixels; to find a frame use page_of(index), page_at(time_ns)')

    def __array__(self, dtype: Any = None, copy: Optional[bool] = None) -> np.ndarray:
        if copy is False:
            raise ValueError('a recording becomes an array only by reading it; ask for a copy')
        pixels = self[:]
        return pixels if dtype is None else pixels.astype(dtype)

    def _eye(self, key: Any, half: Any) -> np.ndarray:
        halved = half(np.empty((1, self.shape[2]), bool)).shape[1]
        columns = slice(0, halved) if half is left else slice(self.shape[2] // 2, None)
        if isinstance(key, selection.WHOLE_NUMBER):
            return half(self[key])
        return self[key, :, columns]

    def _gather(self, pages: Sequence[int], inside: Tuple[Any, ...]) -> np.ndarray:
        pattern = np.broadcast_to(np.zeros((), self.dtype), self.shape[1:])
        shape = (len(pages), *(pattern[inside].shape if inside else self.shape[1:]))
        wanted, free = int(np.prod(shape, dtype=np.int64)) * self.dtype.itemsize, available_memory()
        if free is not None and wanted > free:
            raise TooLargeError(f'{len(pages):,} frames take {wanted / 1e6:,.1f} MB at once, and {free / 1e6:,.1f} MB '
                                'can be had; take fewer (a smaller slice, or a step), go through them one by one (for '
                                'frame in recording), or use recording.to_dask()')
        gathered = np.empty(shape, self.dtype)
        if inside:
            def read(place: int, page: int) -> None:
                gathered[place] = self._source.read(page)[inside]
        else:
            def read(place: int, page: int) -> None:
                self._source.read(page, gathered[place])
        read_into(read, pages, self._frame_bytes)
        return gathered

    # ------------------------------------------------------------------ what is known of each

    @property
    def times_s(self) -> Optional[np.ndarray]:
        """Seconds from the first frame, float64; None where times are not known."""
        return None if self.times_ns is None else (self.times_ns - self.times_ns[0]) / 1e9

    @property
    def status(self) -> Optional[np.ndarray]:
        """Of each page 'raw', 'returned', 'by-passed' or 'failed' (text); None where that is not known."""
        return self._named('status', (*STATUSES, *['unknown'] * (256 - len(STATUSES))))

    @property
    def effort(self) -> Optional[np.ndarray]:
        """What was spent on each page's compression (text); 'other' for none that has a name; None: not known."""
        return self._named('effort', (*EFFORTS, *['other'] * (256 - len(EFFORTS))))

    def record(self, page: int) -> PageRecord:
        """All that a page tells of its frame: times, status, marks, losses before it, the callback's time.

        Reads the page's text. Raises RecordingFormatError where the file is not ours.
        """
        return self.stored_page(page).record

    def stored_page(self, page: int) -> StoredPage:
        """The same, with what was spent on its compression, whether under pressure, and its checksum."""
        return self._own().stored_page(page)

    def is_intact(self, page: int) -> bool:
        """Whether the page's checksum fits; True in other programs' TIFFs, which have none. Reads the page."""
        return self._source.is_intact(page) if isinstance(self._source, OwnPages) else True

    def index_column(self, name: str) -> np.ndarray:
        """A field of the page index of all pages, read-only: 'strip_length', 'effort', 'status', 'marks', …

        Numbers as in docs/format.md. Reads nothing. Raises RecordingFormatError where the file is not ours.
        """
        return self._own().column(name)

    @contextmanager
    def own_pages(self) -> Iterator[OwnPages]:
        """The pages as they are stored, for who copies them; the files stay open meanwhile (``close`` waits).

        Raises RecordingFormatError where the file is not ours.
        """
        own = self._own()
        with own.reading():
            yield own

    def page_of(self, index: int) -> int:
        """The page of the frame with this number. Raises KeyError where it is not in the recording (lost)."""
        return self._find(self.indices, index, 'number')

    def page_at(self, time_ns: int) -> int:
        """The page of the frame nearest to a time (ns since 1970 UTC). Raises KeyError where times are not known."""
        times = self.times_ns
        if times is None:
            raise KeyError(f'{self.path} tells no times')
        after = int(np.searchsorted(times, time_ns))
        if after == 0 or after < len(times) and times[after] - time_ns < time_ns - times[after - 1]:
            return after
        return after - 1

    @property
    def marks(self) -> List[Dict[str, Any]]:
        """The events: ``{'label', 'time_ns', 'index', 'page'}`` each; those that fall on no page here come last.

        Their index and page are None: they are beyond the last frame, in a file that is missing, or on a page whose
        text is damaged.
        """
        found: List[Dict[str, Any]] = []
        if isinstance(self._source, OwnPages):
            for page in np.flatnonzero(self._source.column('marks')):
                try:
                    record = self.record(int(page))
                except RecordingFileError:
                    continue                   # the report tells its marks all the same
                found.extend({'label': mark['label'], 'time_ns': mark['time_ns'], 'index': record.index,
                              'page': int(page)} for mark in record.marks)
        report = self.report
        seen = Counter((mark['label'], str(mark['time_ns'])) for mark in found)
        for mark in [] if report is None else report.marks:
            place = (str(mark.get('label')), str(mark.get('time_ns')))
            seen[place] -= 1
            if seen[place] < 0:
                found.append({**mark, 'index': None, 'page': None})
        return found

    @property
    def losses(self) -> List[Loss]:
        """Where frames are missing, as the report tells it; of a recording without one, as its pages tell it."""
        if self.report is not None:
            return self.report.losses
        if self.indices is None:
            return []
        before = np.concatenate([[-1], self.indices[:-1]])
        return [Loss(loss['index'], loss['count'], loss['time_ns'], loss['reason'])
                for page in np.flatnonzero(self.indices != before + 1) for loss in self.record(int(page)).lost]

    def _named(self, name: str, names: Sequence[str]) -> Optional[np.ndarray]:
        if not isinstance(self._source, OwnPages):
            return None
        return np.array(names)[self._source.column(name)]

    def _own(self) -> OwnPages:
        if not isinstance(self._source, OwnPages):
            raise RecordingFormatError(f'{self.path} is no recording of ProcessedPiRecorder: its pages hold pixels '
                                       'only')
        return self._source

    def _find(self, values: Optional[np.ndarray], value: int, what: str) -> int:
        place = -1 if values is None else int(np.searchsorted(values, value))
        if values is None or place == len(values) or values[place] != value:
            raise KeyError(f'{self.path} has no frame with {what} {value}')
        return place

    # ------------------------------------------------------------------ what is known of all

    @property
    def report(self) -> Optional[Report]:
        """The verdict on the whole recording; None where there is none (unfinished), or it was changed since.

        Raises RecordingFormatError when it cannot be right.
        """
        stored = self._source.annotations.get('report') if isinstance(self._source, OwnPages) else None
        return report_of(stored) if isinstance(stored, dict) and stored else None

    @property
    def duration_s(self) -> Optional[float]:
        """From the first frame to the last, seconds; None where times are not known."""
        return None if self.times_ns is None else float(self.times_ns[-1] - self.times_ns[0]) / 1e9

    @property
    def rate_hz(self) -> Optional[float]:
        """Mean rate of the frames that are in it, by their own times; None for one frame, or without times."""
        return (len(self) - 1) / self.duration_s if self.duration_s else None

    @property
    def results(self) -> Results:
        """What the callback put, bound to the frames; empty where it put nothing. Scans the file when first asked.

        Raises RecordingFormatError for a damaged file, RecordingFileError where it has gone since.
        """
        if not self._results:                # two threads may both scan it; the first one's is everybody's
            self._results.append(Results(self.results_path, self.indices, self.times_ns))
        return self._results[0]

    @property
    def results_path(self) -> Optional[Path]:
        """The file with the results; None where there is none."""
        if self._results_path is not None:
            return self._results_path
        path = self._source.results_path if isinstance(self._source, OwnPages) else None
        return path if path is not None and path.is_file() else None

    def _notes_on_results(self) -> Iterator[str]:
        try:
            report = self.report
        except RecordingFormatError:
            return                               # verdict, and who asks for the report, tell that
        if report is not None and report.results and self.results_path is None:
            yield (f'its callback put {report.results:,} results, and the file with them, '
                   f'{self._own().results_path.name}, is not here; bring it back beside the recording, under this '
                   f"name, or name it: open_recording('{self.path}', results=...)")

    def results_of(self, page: int) -> List[Result]:
        """The results that belong to a page, in the order in which they were put. Raises IndexError."""
        return self.results.of_page(selection.page_number(page, len(self)))

    join = join

    # ------------------------------------------------------------------ itself

    def to_dask(self, chunk: Optional[int] = None) -> Any:
        """A ``dask.array.Array`` of all frames, shaped as this, which reads them when it is computed, anywhere.

        chunk: frames a block; None: about 64 MB of them. A block opens the recording by its path where it is computed
        (other processes, other machines that see the same files). Raises MissingExtraError without Dask.
        """
        from .chunks import as_dask
        return as_dask(self, chunk)

    def close(self) -> None:
        """Close the files, once no thread reads from them any more. Harmless twice."""
        self._source.close()

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __reduce__(self) -> Any:
        return _reopen, (str(self.absolute_files[0]), self._results_path)

    def _repr_html_(self) -> str:
        from .html import as_html
        return as_html(self)

    def __repr__(self) -> str:
        height, width = self.shape[1:3]
        facts = [f'{len(self):,} frame{"s" * (len(self) != 1)} of {width}×{height} {self.pixel_format}']
        if self.dtype != np.uint8:
            facts.append(str(self.dtype))
        if self.duration_s is not None:
            facts.append(f'{self.duration_s:,.3f} s' + (f' at {self.rate_hz:.2f} Hz' if self.rate_hz else ''))
        if len(self.files) > 1:
            facts.append(f'{len(self.files)} files')
        return f'<Recording {self.path.name}: {", ".join(facts)}; {self.verdict}>'

    @property
    def verdict(self) -> str:
        """In a few words whether it is complete."""
        if not self.is_ours:
            return 'not made by ProcessedPiRecorder: no times, no verdict'
        if self.missing_files:
            return f'{len(self.missing_files)} of its files missing'
        if not self.finished:
            return 'unfinished, no verdict'
        try:
            report = self.report
        except RecordingFormatError:
            report = None
        if report is None:
            return 'no verdict that can be trusted: see notes'
        lost = f' ({report.lost:,} lost)' if report.lost else ''
        return f'complete: {report.complete}{lost}'


def _reopen(path: str, results: Optional[Path]) -> Recording:
    return open_recording(path, results=results)
