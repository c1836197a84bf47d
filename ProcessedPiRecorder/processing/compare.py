"""Results of two runs, frame by frame: what came, went and changed, and why that may be."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from ..errors import ProcessingError, SettingsError
from ..reading import Recording, Result, Results, open_recording
from ..reading.joining import match_times
from ..reading.timestamps import span_ns
from .alike import Boxes, alike, count_boxes
from .reasons import RESULTS, Run, reasons

__all__ = ['BoxComparison', 'Comparison', 'Difference', 'compare']

#: Differences that are kept; all are counted.
MOST_DIFFERENCES = 1000
BLOCK = 1024                     # results that are read at once
TELL_EVERY = 1000                # frames
NONE = -1

Comparable = Union[str, 'os.PathLike[str]', Recording, Results]


class Difference(NamedTuple):
    """A frame whose results differ.

    kind: 'added' (only B has results), 'gone' (only A has), 'changed'. index, time_ns: of the frame; None: results that
    were put outside of any. page: in A's recording, or else in B's; None where neither is known. texts: what differs,
    one line each, A's before the arrow. a, b: what was put.
    """

    kind: str
    index: Optional[int]          # type: ignore[assignment]   # hides tuple.index, which nobody misses here
    time_ns: Optional[int]
    page: Optional[int]
    texts: Tuple[str, ...]
    a: List[Any]
    b: List[Any]


@dataclass(frozen=True)
class BoxComparison:
    """Boxes of all frames: same, changed (they overlap, but not enough), added, gone.

    mean_iou, min_iou: intersection over union of all that were paired (same and changed); None where none was.
    """

    same: int = 0
    changed: int = 0
    added: int = 0
    gone: int = 0
    mean_iou: Optional[float] = None
    min_iou: Optional[float] = None


@dataclass(frozen=True)
class Comparison:
    """Results of two runs, frame by frame.

    Attributes:
        a, b: what was compared; None where that has no path. results_a, results_b: how many results they have.
        by, time_tolerance_ns, iou, tolerance: how it was compared.
        frames: that have results in A or B (what was put outside of any frame counts as one): same + added + gone +
            changed. added: only B has results; gone: only A has.
        boxes: how the boxes fared.
        differences: the first thousand of the frames that differ, by frame.
        reasons: why they may differ, one sentence each; empty where they do not.
        other_times: frames of the same number that have another time in B: then these are not the same frames.
    """

    a: Optional[Path]
    b: Optional[Path]
    by: str
    time_tolerance_ns: int
    iou: float
    tolerance: float
    results_a: int
    results_b: int
    frames: int = 0
    same: int = 0
    added: int = 0
    gone: int = 0
    changed: int = 0
    boxes: BoxComparison = field(default_factory=BoxComparison)
    differences: List[Difference] = field(default_factory=list)
    reasons: List[str] = field(default_factory=list)
    other_times: int = 0

    @property
    def equal(self) -> bool:
        """Whether no frame differs."""
        return self.same == self.frames

    def as_dict(self) -> Dict[str, Any]:
        """The comparison as JSON types."""
        known = {**asdict(self), 'equal': self.equal, 'differences': [one._asdict() for one in self.differences]}
        return {name: str(value) if isinstance(value, Path) else value for name, value in known.items()}

    def __repr__(self) -> str:
        if self.equal:
            return f'<Comparison: {self.frames:,} frames, the same>'
        return (f'<Comparison: {self.frames:,} frames; {self.same:,} same, {self.added:,} added, {self.gone:,} gone, '
                f'{self.changed:,} changed>')


def compare(a: Comparable, b: Comparable, *, iou: float = 1.0, tolerance: float = 0.0, by: str = 'index',
            time_tolerance: Any = 0, progress: Optional[Callable[[int, int], None]] = None) -> Comparison:
    """Compare the results of two runs: of a live one and of its recording processed again, or of two callbacks.

    Results of a frame are compared with those that the other run put for it. Boxes (dicts with x, y, w, h, wherever
    they are) are compared with those in the same place, in any order; everything else in its own order; sets in none.
    Blocks; reads the results block by block.

    Args:
        a, b: recordings (a path, or opened), ``*.results.jsonl`` files, or Results. Of a file of results, the recording
            of that name beside it tells more, if there is one.
        iou: boxes that overlap so much (intersection over union, above 0) count as the same, if what else they hold is;
            they are paired so that as many as possible do. 1: only boxes with the same numbers do.
        tolerance: how far numbers may differ and still count as the same.
        by: frames are those with the same 'index', or 'time': the nearest to each other within ``time_tolerance``
            (seconds, or text such as '2ms').
        progress: called with (frames compared, frames in all) now and then.

    Raises SettingsError for arguments that cannot work, RecordingFileError for what cannot be read, ProcessingError for
    a TIFF of another program, which has no results.
    """
    time_tolerance_ns = _checked(iou, tolerance, by, time_tolerance)
    with ExitStack() as opened:
        run_a, run_b = _run('A', a, opened), _run('B', b, opened)
        tally = _Tally(run_a, run_b, iou, tolerance)
        frames = _aligned(_Groups(run_a.results, by), _Groups(run_b.results, by), by, time_tolerance_ns)
        tally.take_all(frames, progress or (lambda done, total: None))
        return Comparison(run_a.path, run_b.path, by, time_tolerance_ns, iou, tolerance, len(run_a.results),
                          len(run_b.results), **tally.counted(by))


def _checked(iou: Any, tolerance: Any, by: Any, time_tolerance: Any) -> int:
    for name, value, low, high, why in (('iou', iou, 0, 1, 'a share of overlap above 0, up to 1'),
                                        ('tolerance', tolerance, -1, float('inf'), 'a number from 0 on')):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low < value <= high \
                or name == 'tolerance' and value < 0:
            raise SettingsError(f'{name}={value!r} cannot be; pass {why}')
    if by not in ('index', 'time'):
        raise SettingsError(f"by={by!r} is not known; use 'index' or 'time'")
    return span_ns(time_tolerance, 'time_tolerance')


def _run(name: str, given: Comparable, opened: ExitStack) -> Run:
    if isinstance(given, Results):
        return Run(name, given.path, given, None)
    if isinstance(given, Recording):
        return _of_recording(name, given)
    path = Path(given)
    if not path.name.endswith(RESULTS):
        return _of_recording(name, opened.enter_context(open_recording(path)))
    beside = path.with_name(path.name[:-len(RESULTS)] + '.tif')
    recording = opened.enter_context(open_recording(beside, results=path)) if beside.is_file() else None
    return Run(name, path, Results(path) if recording is None else recording.results, recording)


def _of_recording(name: str, recording: Recording) -> Run:
    if not recording.is_ours and recording.results_path is None:
        raise ProcessingError(f'{recording.path} was not made by ProcessedPiRecorder, and has no results to compare; '
                              'pass the *.results.jsonl of the run that processed it')
    return Run(name, recording.path, recording.results, recording)


# ---------------------------------------------------------------------- which frames belong together

class _Groups:
    """Results by frame. keys: the frames' indices or times, increasing; -1 for what was put outside of any."""

    def __init__(self, results: Results, by: str) -> None:
        values = results.indices if by == 'index' else results.times_ns
        self._order = np.argsort(values, kind='stable')
        self.keys, begins = np.unique(values[self._order], return_index=True)
        self._ends = np.append(begins, len(values))

    def numbers(self, places: np.ndarray) -> Iterator[List[int]]:
        """Of the results of some frames, in the order in which they were put; none for place -1.

        places: increasing, but for -1.
        """
        begins = np.where(places == NONE, 0, self._ends[places]).tolist()
        ends = np.where(places == NONE, 0, self._ends[places + 1]).tolist()
        first = min((begin for begin, end in zip(begins, ends) if end), default=0)
        order = self._order[first:max(ends, default=0)].tolist()
        return (order[begin - first:end - first] if end else [] for begin, end in zip(begins, ends))


class _Aligned(NamedTuple):
    """Frames that have results in A or B, in their order: their places in both groups, -1 where there are none."""

    a: _Groups
    b: _Groups
    places_a: np.ndarray
    places_b: np.ndarray

    def numbers(self) -> Iterator[Tuple[List[int], List[int]]]:
        for begin in range(0, len(self.places_a), BLOCK):
            block = slice(begin, begin + BLOCK)
            yield from zip(self.a.numbers(self.places_a[block]), self.b.numbers(self.places_b[block]))


def _aligned(a: _Groups, b: _Groups, by: str, tolerance_ns: int) -> _Aligned:
    keys_b = b.keys if by == 'index' or not tolerance_ns else _drawn(a.keys, b.keys, tolerance_ns)
    keys = np.union1d(a.keys, keys_b)
    return _Aligned(a, b, _places(a.keys, keys), _places(keys_b, keys))


def _places(keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    if not len(keys):
        return np.full(len(wanted), NONE)
    near = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[near] == wanted, near, NONE)


def _drawn(times_a: np.ndarray, times_b: np.ndarray, tolerance_ns: int) -> np.ndarray:
    """B's times, each that is the nearest to one of A's, and that to it, replaced by that; increasing as before."""
    inside_a, inside_b = times_a[times_a != NONE], times_b[times_b != NONE]
    to_a, to_b = match_times(inside_a, inside_b, tolerance_ns), match_times(inside_b, inside_a, tolerance_ns)
    drawn = inside_b.copy()
    for place, nearest in enumerate(to_a.tolist()):
        if nearest != NONE and to_b[nearest] == place:
            drawn[place] = inside_a[nearest]
    return np.concatenate([times_b[times_b == NONE], drawn])


# ---------------------------------------------------------------------- counting

class _Blocks:
    """Lines of results by number, read in blocks: they are asked for nearly in order."""

    def __init__(self, results: Results) -> None:
        self._results = results
        self._blocks: Dict[int, List[bytes]] = {}

    def of(self, numbers: Sequence[int]) -> List[bytes]:
        return [self._block(number // BLOCK)[number % BLOCK] for number in numbers]

    def parsed(self, numbers: Sequence[int], lines: Sequence[bytes]) -> List[Result]:
        return list(map(self._results.parsed, numbers, lines))

    def _block(self, block: int) -> List[bytes]:
        if block not in self._blocks:
            if len(self._blocks) >= 4:
                del self._blocks[next(iter(self._blocks))]
            numbers = range(len(self._results))[block * BLOCK:(block + 1) * BLOCK]
            self._blocks[block] = list(self._results.lines(numbers))
        return self._blocks[block]


class _Tally:
    def __init__(self, a: Run, b: Run, iou: float, tolerance: float) -> None:
        self._runs, self._iou, self._tolerance = (a, b), iou, tolerance
        self._kinds = {'same': 0, 'added': 0, 'gone': 0, 'changed': 0}
        self._boxes = _BoxTally()
        self._differences: List[Difference] = []
        self._other_times = 0

    def take_all(self, frames: _Aligned, tell: Callable[[int, int], None]) -> None:
        blocks_a, blocks_b = (_Blocks(run.results) for run in self._runs)
        total = len(frames.places_a)
        for done, (numbers_a, numbers_b) in enumerate(frames.numbers()):
            if done % TELL_EVERY == 0:
                tell(done, total)
            lines_a, lines_b = blocks_a.of(numbers_a), blocks_b.of(numbers_b)
            put_a = blocks_a.parsed(numbers_a, lines_a)
            if lines_a == lines_b:               # the usual case, and by far the quickest
                self._take_same(put_a)
            else:
                self._take(put_a, blocks_b.parsed(numbers_b, lines_b))
        tell(total, total)

    def _take_same(self, put: List[Result]) -> None:
        self._kinds['same'] += 1
        self._boxes.take_same(sum(count_boxes(one.result) for one in put))

    def _take(self, a: List[Result], b: List[Result]) -> None:
        put_a, put_b = [one.result for one in a], [one.result for one in b]
        found = alike(put_a, put_b, self._iou, self._tolerance)
        self._boxes.take(found.boxes)
        if a and b and a[0].time_ns != b[0].time_ns:
            self._other_times += 1
        kind = 'added' if not a else 'gone' if not b else 'same' if found.same else 'changed'
        self._kinds[kind] += 1
        if kind != 'same' and len(self._differences) < MOST_DIFFERENCES:
            first = (a or b)[0]
            self._differences.append(Difference(kind, first.index, first.time_ns, self._page(first.index), found.texts,
                                                put_a, put_b))

    def _page(self, index: Optional[int]) -> Optional[int]:
        for recording in (run.recording for run in self._runs):
            if recording is not None and recording.indices is not None and index is not None:
                place = int(_places(recording.indices, np.array([index]))[0])
                if place != NONE:
                    return place
        return None

    def counted(self, by: str) -> Dict[str, Any]:
        """What a Comparison tells of the frames."""
        frames = sum(self._kinds.values())
        why = list(self._why(by)) if self._kinds['same'] != frames else []
        return {**self._kinds, 'frames': frames, 'boxes': self._boxes.comparison(), 'differences': self._differences,
                'reasons': why, 'other_times': self._other_times if by == 'index' else 0}

    def _why(self, by: str) -> Iterator[str]:
        if by == 'index' and self._other_times:
            yield (f'{self._other_times:,} frames have another time in B than in A, though the same number: these are '
                   "not two runs over the same frames; by='time' compares frames by their times")
        yield from reasons(*self._runs)


class _BoxTally:
    def __init__(self) -> None:
        self._same = self._changed = self._added = self._gone = self._paired = 0
        self._sum, self._least = 0.0, 1.0

    def take_same(self, count: int) -> None:
        self._same += count
        self._paired += count
        self._sum += count

    def take(self, boxes: Boxes) -> None:
        self._same += boxes.same
        self._changed += boxes.changed
        self._added += boxes.added
        self._gone += boxes.gone
        self._paired += len(boxes.ious)
        self._sum += sum(boxes.ious)
        self._least = min((self._least, *boxes.ious))

    def comparison(self) -> BoxComparison:
        known = (self._sum / self._paired, self._least) if self._paired else (None, None)
        return BoxComparison(self._same, self._changed, self._added, self._gone, *known)
