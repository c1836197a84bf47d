"""Where what comes of processing goes: made in a folder of its own, and given its names when it is whole.

::

    .trial_processed.part/                       while it is in work; hidden, locked
        trial_processed.results.jsonl            → trial_processed.results.jsonl
        trial_processed.failures.jsonl           → trial_processed.failures.jsonl
        trial_processed.tif, …_001.tif           → the same names (only with ``out``)

The file names are the same in there, since a recording's files know one another by their names.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import shutil
from pathlib import Path
from typing import Any, Iterator, List, Optional, Sequence, Tuple

from ..errors import ProcessingError
from ..exports.older import OlderFiles, of_other_suffix
from ..reading import Recording
from ..recordings.bigtiff import sync_folder
from ..recordings.part import part_path
from ..recordings.results import results_path
from ..recordings.whole import rename_new
from ..recordings.workfolder import LocksMissing, claim_folder, release_folder
from ..termination import undisturbed
from .report import Failure

__all__ = ['Outputs']

log = logging.getLogger(__name__)

RESULTS, FAILURES, PARTIAL = '.results.jsonl', '.failures.jsonl', '.partial.results.jsonl'


class Outputs:
    """The files that processing a recording makes.

    Usage: ``with outputs: …`` makes the work folder and removes it; ``publish`` in between gives the names. Left by
    an exception, results that there are so far are kept as ``kept``, ``trial_processed.partial.results.jsonl``; where
    an earlier run has left some there, with a number (unless ``overwrite``).

    Raises ProcessingError where a file exists (unless ``overwrite``), or is one of the recording's own.

    Args:
        out: of the processed recording; None: none is wanted.
        results: of the results; None: beside ``out``, else ``trial_processed.results.jsonl`` beside the recording.

    Attributes:
        out, results, failures: the final names. folder: where they are made; work_tif, work_results: the names in it.
    """

    def __init__(self, recording: Recording, out: Any, results: Any, overwrite: bool) -> None:
        self._recording = recording.path
        self._originals = [Path(os.path.realpath(path)) for path in recording.files]
        self._original_results = [Path(os.path.realpath(path)) for path in _results_of(recording)]
        self.overwrite = overwrite
        self.out: Optional[Path] = None if out is None else _absolute(out)
        self.results = _results_name(recording, self.out, results)
        stem = self.results.name[:-len(RESULTS)] if self.results.name.endswith(RESULTS) else self.results.stem
        self.failures = self.results.with_name(stem + FAILURES)
        self.kept = self.results.with_name(stem + PARTIAL)
        place = self.out or self.results
        self.folder = place.with_name(f'.{stem if self.out is None else self.out.stem}.part')
        self.work_tif = self.folder / (f'{stem}.tif' if self.out is None else self.out.name)
        self.work_results = results_path(self.work_tif)
        self._lock = -1
        self._refuse()
        self._older = OlderFiles(self.out, recording) if overwrite and self.out is not None else None

    # ------------------------------------------------------------------ before it begins

    def _refuse(self) -> None:
        wanted = list(filter(None, (self.out, self.results, self.failures)))
        for path in (*wanted, self.kept):      # which a run that ends early replaces, and one that does not removes
            if self._is_original(path):
                raise ProcessingError(f'{path} is the recording that is to be processed, or belongs to it, and is not '
                                      'touched; choose another name for what comes of it')
        for path in wanted:
            if not path.parent.is_dir():
                raise ProcessingError(f'{path.parent} is not a folder that exists; make it first, or choose another '
                                      'place')
            if os.path.lexists(path) and not (self.overwrite and path.is_file()):
                raise ProcessingError(f'{path} exists already and is not touched; choose another name, or pass '
                                      'overwrite=True')

        self._refuse_others_results()

    def _refuse_others_results(self) -> None:
        """Results have the name of their recording without its suffix, so they may be of one with the other suffix."""
        if self.out is None or self.results != results_path(self.out) or not self.results.exists():
            return
        others = of_other_suffix(self.out)
        if others:
            raise ProcessingError(f'{self.results} exists already, and may hold the results of {", ".join(others)}; '
                                  'move it, or choose another name')

    def _is_original(self, path: Path) -> bool:
        real = Path(os.path.realpath(path))
        if any(_is_same(real, one) for one in (*self._originals, *self._original_results)):
            return True
        parts = re.compile(re.escape(real.stem) + r'_\d{3,}' + re.escape(real.suffix))
        return path == self.out and any(one.parent == real.parent and parts.fullmatch(one.name)
                                        for one in self._originals)

    # ------------------------------------------------------------------ the work folder

    def __enter__(self) -> Outputs:
        try:
            self._lock = claim_folder(self.folder)
        except BlockingIOError:
            raise ProcessingError(f'{self.results.name} is being made already, by another process; wait for it, or '
                                  'choose another name') from None
        except NotADirectoryError:
            raise ProcessingError(f'{self.folder} is in the way: a folder of that name is needed meanwhile; move it'
                                  ) from None
        except LocksMissing as error:
            raise ProcessingError(f'{self.folder} is there: either {self.results.name} is being made already, or who '
                                  'made it was killed; this file system has no locks that would tell. Remove the '
                                  'folder if nobody does') from error
        except OSError as error:
            raise ProcessingError(f'{self.folder.parent} cannot be written to ({error.strerror or error}); choose '
                                  'another place for what comes of it (out=..., or results=...)') from error
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        with undisturbed():
            try:
                if kind is not None:
                    self._keep_results()
            finally:
                lock, self._lock = self._lock, -1
                try:
                    release_folder(self.folder, lock)
                except OSError as failure:                 # everything that is wanted has its name by now
                    log.warning('%s could not be removed: %s; remove it', self.folder, failure)

    def _keep_results(self) -> None:
        """What a run that ends early has brought so far is kept under a name that says what it is."""
        try:
            if _size(self.work_results):
                _move(self.work_results, self._place_to_keep(), self.overwrite)
        except OSError as error:
            raise ProcessingError(f'the results so far cannot be kept as {self.kept}: {error}') from error

    def _place_to_keep(self) -> Path:
        """Beside what earlier runs have left: which of them is worth more, only their user knows."""
        place, number = self.kept, 1
        while not self.overwrite and os.path.lexists(place):
            number += 1
            place = self.kept.with_name(f'{self.kept.name[:-len(RESULTS)]}_{number}{RESULTS}')
        return place

    def what_is_kept(self) -> str:
        """What becomes of the results so far when the run ends early now, in words that go on a sentence."""
        return f'; the results so far are in {self._place_to_keep()}' if _size(self.work_results) else ''

    # ------------------------------------------------------------------ the end

    def publish(self, failures: Sequence[Failure]) -> Tuple[Optional[Path], Optional[Path]]:
        """Give everything its name; returns where results and failures are, None where there are none.

        The processed recording comes last: when it is there, all is. Raises ProcessingError, also where one is wanted
        and has no frames: then nothing gets its name, and what has it stays.
        """
        if self.out is not None and not self._made_parts():
            raise ProcessingError(f'no frame of {self._recording} could be read, so there is nothing to record')
        self._refuse_others_parts()
        if self._older is not None:
            self._older.refuse_running()                   # once more: it took its time
        try:
            with undisturbed():                            # results without their recording would pass for all there is
                written = self._publish(failures)
                self.kept.unlink(missing_ok=True)
        except OSError as error:
            raise ProcessingError(f'{self.results.parent} cannot be written to: {error.strerror or error}; make room, '
                                  'or choose another place') from error
        return written

    def _publish(self, failures: Sequence[Failure]) -> Tuple[Optional[Path], Optional[Path]]:
        work_failures = self.folder / self.failures.name
        if failures:
            _write_lines(work_failures, failures)
        for work, target in ((work_failures, self.failures), (self.work_results, self.results)):
            if work.exists():
                _move(work, target, self.overwrite)
            elif self.overwrite:                           # an older run's would pass for this one's
                target.unlink(missing_ok=True)
        if self.out is not None:
            self._publish_recording(self.out)
        for folder in {path.parent for path in (self.results, self.out or self.results)}:
            sync_folder(folder)
        return (self.results if self.results.exists() else None, self.failures if failures else None)

    def _publish_recording(self, out: Path) -> None:
        parts = self._made_parts()
        for number in reversed(range(len(parts))):         # the first file last: it is what people open
            _move(parts[number], part_path(out, number), self.overwrite)
        if self._older is not None:
            self._older.remove()

    def _refuse_others_parts(self) -> None:
        if self.out is None:
            return
        for number in range(1, len(self._made_parts())):
            path = part_path(self.out, number)
            if os.path.lexists(path) and (self._older is None or path not in self._older):
                raise ProcessingError(f'{path} exists already, and is no file of a recording that is overwritten; move '
                                      'it, or choose another name')

    def _made_parts(self) -> List[Path]:
        parts: List[Path] = []
        while (path := part_path(self.work_tif, len(parts))).exists():
            parts.append(path)
        return parts


def _results_of(recording: Recording) -> Iterator[Path]:
    """Where its callback's results are, and where they are looked for: there, others would pass for its own."""
    if recording.results_path is not None:
        yield recording.results_path
    if recording.is_ours:
        yield results_path(recording.path)


def _results_name(recording: Recording, out: Optional[Path], results: Any) -> Path:
    if results is not None:
        return _absolute(results)
    if out is not None:
        return results_path(out)
    first = _absolute(recording.path)
    return first.with_name(f'{first.stem}_processed{RESULTS}')


def _absolute(path: Any) -> Path:
    return Path(os.path.abspath(os.path.expanduser(os.fsdecode(os.fspath(path)))))


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one == other or os.path.samefile(one, other)
    except OSError:
        return False


def _size(path: Path) -> int:
    """In bytes; 0 where there is no such file."""
    return path.stat().st_size if path.exists() else 0


def _write_lines(path: Path, failures: Sequence[Failure]) -> None:
    with open(path, 'w', encoding='ascii') as file:
        for failure in failures:
            file.write(json.dumps(failure._asdict()) + '\n')
        file.flush()
        os.fsync(file.fileno())


def _move(source: Path, target: Path, overwrite: bool) -> None:
    """Rename; to another disk, copy under a hidden name first. Never replaces anything unless told to."""
    take_name = os.replace if overwrite else rename_new
    try:
        take_name(source, target)
    except FileExistsError:
        raise _came_to_be(target) from None
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        beside = target.with_name(f'.{target.name}.{os.getpid()}.part')
        try:
            shutil.copyfile(source, beside)
            with open(beside, 'rb') as copied:
                os.fsync(copied.fileno())
            take_name(beside, target)
        except FileExistsError:
            raise _came_to_be(target) from None
        finally:
            beside.unlink(missing_ok=True)


def _came_to_be(target: Path) -> ProcessingError:
    return ProcessingError(f'{target} came to be meanwhile; choose another name, or pass overwrite=True')
