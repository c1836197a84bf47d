"""What all exports share: which frames, read ahead, with progress; and what they say in the end."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any, Callable, Iterator, NamedTuple, Optional, Sequence, Tuple, TypeVar

from ..errors import ExportError
from ..frame import Frame
from ..reading import Recording
from ..reading.readahead import pages_in_order
from .range import Place, leave_nothing, page_range
from .whole import PathLike, refuse_own_files, whole_file, whole_files, whole_folder

__all__ = ['Exported', 'PathLike', 'Place', 'Progress', 'chosen_pages', 'each_frame', 'each_made', 'refuse_own_files',
           'stored_bytes', 'whole_file', 'whole_files', 'whole_folder']

#: Called with (frames done, frames in all) in the exporting thread; it may raise ExportCancelled.
Progress = Callable[[int, int], None]

Made = TypeVar('Made')

HARDLY = 0.9


class Exported(NamedTuple):
    """What an export made.

    path: the file or folder; frames, bytes: how many are in it; notes: what its user has to know, one sentence each.
    beside: further files that belong to it (times, the video of an NWB file). rows: of a table; None for all else.
    """

    path: Path
    frames: int
    bytes: int
    notes: Tuple[str, ...] = ()
    beside: Tuple[Path, ...] = ()
    rows: Optional[int] = None


def chosen_pages(recording: Recording, start: Optional[Place] = 0, stop: Optional[Place] = None, every: int = 1
                 ) -> range:
    """The pages from ``start`` up to, not including, ``stop`` (None: the end), every so many. Raises ExportError.

    Whole numbers are pages, and negative ones count from the end, as in slices; texts are frames' numbers, seconds or
    times of day (:mod:`.range`).
    """
    if isinstance(every, bool) or not isinstance(every, int) or every < 1:
        raise ExportError(f'every={every!r} is no step; pass 1 for all frames, 2 for every second one, …')
    first, behind = page_range(recording, start if isinstance(start, str) else None,
                               stop if isinstance(stop, str) else None)
    pages = range(len(recording))[first if isinstance(start, str) else start:behind if isinstance(stop, str) else stop]
    if not pages:
        last = len(recording) - 1 if recording.indices is None else int(recording.indices[-1])
        span = '' if recording.duration_s is None else f', {recording.duration_s:.6g} s from the first to the last'
        raise ExportError(f'{leave_nothing(start, stop)} no frame of the {len(recording):,} of '
                          f'{recording.path.name} (the last one is number {last}{span})')
    return pages[::every]


def each_frame(recording: Recording, pages: range, progress: Optional[Progress] = None) -> Iterator[Frame]:
    """The frames of these pages in order, decoded ahead; tells the progress after each that was taken."""
    return each_made(recording, pages, lambda page, frame: frame, progress)


def each_made(recording: Recording, pages: Sequence[int], make: Callable[[int, Frame], Made],
              progress: Optional[Progress] = None) -> Iterator[Made]:
    """What ``make(page, frame)`` makes of the frames of these pages, in order; tells the progress after each.

    Frames are read, and ``make`` is called, in threads of their own, ahead of the one who takes them, bounded.
    """
    total = len(pages)
    tell = progress or (lambda done, total: None)
    tell(0, total)
    frame_bytes = recording.nbytes // len(recording)
    ahead: Any = pages_in_order(lambda page: make(page, recording.read(page)), pages, frame_bytes)  # type: ignore
    with closing(ahead):
        for done, one in enumerate(ahead, 1):
            yield one
            tell(done, total)


def stored_bytes(recording: Recording, pages: range) -> int:
    """What these pages take in the recording's files, about: a measure for other lossless forms of them.

    0 where that is not known, or where they are hardly compressed: that tells nothing of how small others make them.
    """
    try:
        stored = sum(path.stat().st_size for path in recording.files)
    except OSError:                            # renamed since it was opened; it is read all the same
        return 0
    return stored * len(pages) // len(recording) if stored < recording.nbytes * HARDLY else 0
