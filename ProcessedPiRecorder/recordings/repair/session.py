"""One repair from beginning to end: what is to be written, whether there is room, and doing it."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional

from ...errors import RecordingFileError
from ...report import Report
from ..bigtiff import file_error, lock_file, remove, sync_folder
from ..page import parse_text
from ..part import PartInfo, part_path
from ..reader import RecordingFile
from ..results import results_path, whole_lines
from ..space import room_at
from ..tags import FileBytes
from ..tally import Tally, utc_text
from .account import Account
from .beside import Copy, check_copy, moved
from .files import Recording
from .haystack import Progress
from .in_place import InPlace, bytes_needed
from .result import RepairResult
from .state import FileState

__all__ = ['Describe', 'Session']

PAGES_A_WORD = 1024      # of which progress is told

Describe = Callable[[Tally, List[str]], Mapping[str, Any]]


class Session:
    """The repair of one recording.

    out: where a new file is to be written; None: finish the recording's own files.
    describe: gives the last file's annotations instead of a report that says 'cut off'.
    """

    def __init__(self, recording: Recording, path: Path, out: Optional[Path], describe: Optional[Describe],
                 progress: Optional[Progress]) -> None:
        assert recording.first is not None
        self._recording = recording
        self._describe = describe
        self._progress = progress
        self._in_place = out is None
        self._first = out or recording.first
        self._files = [part_path(self._first, number) for number in range(len(recording.parts))]
        # What stays where it is keeps the name that its preface tells, whatever the file is called by now.
        self._name = (recording.recorded_name() if self._in_place else None) or self._first.name
        self._names = tuple(part_path(self._first.with_name(self._name), number) for number in range(len(self._files)))
        self._old_results = results_path(recording.first)
        self._known = recording.known(self._old_results)
        shape = recording.parts[0].shape
        assert shape is not None
        self._account = Account(shape.nbytes, self._known.report)
        self._failure: Optional[BaseException] = None
        self._closed_bytes = 0
        self._copied, self._to_copy = 0, 1
        self.result = RepairResult(path, [state.path for state in recording.parts + recording.empty],
                                   in_place=self._in_place, preface=bool(recording.about))

    # ------------------------------------------------------------------ all of it

    def run(self) -> RepairResult:
        """Do it. Raises RecordingFileError, before anything is changed if it is for lack of room."""
        self._count()
        if self._describe is None and self._recording.healthy():
            self.result.healthy = True
            self.result.in_place = False
            self.result.notes.append('the recording is whole and finished; there was nothing to do')
            self.result.report = self._known.report
            return self.result
        self._refuse()
        self._tell()
        written: List[Path] = []
        try:
            page = 0
            for number, state in enumerate(self._recording.parts):
                info = PartInfo(number, self._files[number], self._name, page, len(state.rows),
                                number + 1 == len(self._files), self._names[:number + 1])
                if not self._in_place:
                    written.append(info.path)
                self._write_part(state, info)
                page += len(state.rows)
            self._write_results(written)
            self._put_empty_aside()
        except BaseException:
            for path in written:
                remove(path)
            raise
        if self._failure is not None:
            raise self._failure
        self.result.files = self._files
        self.result.gaps = self._account.gaps
        return self.result

    def _count(self) -> None:
        result, parts = self.result, self._recording.parts
        result.pages_found = self._recording.pages
        result.pages_linked_before = sum(state.linked for state in parts)
        result.pages_recovered_behind = result.pages_found - result.pages_linked_before
        result.pages_damaged = sum(state.damaged for state in parts + self._recording.empty)
        result.pages_left_out = sum(state.left_out for state in parts)
        result.torn_bytes = sum(map(_torn_bytes, parts))

    # ------------------------------------------------------------------ before anything is changed

    def _refuse(self) -> None:
        if self._in_place:
            if not self._recording.in_order():
                names = ', '.join(state.path.name for state in self._recording.parts)
                raise RecordingFileError(f'files of this recording are missing (there are: {names}), so it cannot be '
                                         'repaired where it stands; repair it into a new file')
            self._refuse_full_disk(self._first.parent, self._room_in_place())
            return
        taken = [path for path in (*self._files, results_path(self._first)) if os.path.lexists(path)]
        if taken:
            raise RecordingFileError(f'{taken[0]} exists already; choose another name, or remove it'
                                     + _may_be_left_over(taken[0]))
        self._refuse_full_disk(self._first.parent, sum(map(self._room_for_copy, self._recording.parts))
                               + _size(self._old_results))

    def _refuse_full_disk(self, folder: Path, needed: int) -> None:
        room = room_at(folder)
        if room is not None and room.free < needed:
            raise RecordingFileError(f'{folder} has {room.free / 1e6:,.1f} MB free, and the repair needs about '
                                     f'{needed / 1e6:,.1f} MB; make room, or repair into a new file on another disk. '
                                     'Nothing was changed')

    def _room_in_place(self) -> int:
        parts = self._recording.parts
        copies = [self._room_for_copy(state) for number, state in enumerate(parts) if self._must_copy(number)]
        return max(copies, default=0) + sum(self._room_to_finish(state) for number, state in enumerate(parts)
                                            if not self._must_copy(number))

    def _room_for_copy(self, state: FileState) -> int:
        rows = state.rows
        pages = int(rows['strip_length'].sum() + rows['text_length'].sum()) + len(rows) * (state.layout.size + 16)
        return pages + self._room_to_finish(state) + len(json.dumps(self._known.about, default=str))

    def _room_to_finish(self, state: FileState) -> int:
        report = self._known.report.to_json(default=str) if self._known.report is not None else ''
        return bytes_needed(state, len(json.dumps(self._known.about, default=str)) + len(report))

    def _must_copy(self, number: int) -> bool:
        """Whether this file cannot be finished where it stands: pages in it must move, or tell of a loss."""
        state = self._recording.parts[number]
        if not state.regular or state.part != number:
            return True
        if number == 0:
            before = -1
        else:
            before = int(self._recording.parts[number - 1].rows['index'][-1])
        missing = int(state.rows['index'][0]) - before - 1
        if missing <= 0:
            return False
        with open(state.path, 'rb') as file:
            text = _text_of(FileBytes(state.path, file.fileno()), state.rows[0])
        return missing > sum(int(loss['count']) for loss in parse_text(text).record.lost)

    # ------------------------------------------------------------------ the files

    def _write_part(self, state: FileState, info: PartInfo) -> None:
        if not self._in_place:
            self._copy(state, info, info.path)
        elif self._must_copy(info.number):
            _remove_left_over(info.path.parent)
            beside = info.path.with_name(f'.ppr-repair-{os.getpid()}-{time.time_ns():x}.tif')
            try:
                self._copy(state, info, beside)
                os.replace(beside, info.path)
            except BaseException as error:
                remove(beside)
                if isinstance(error, OSError):
                    raise file_error(info.path, 'cannot be replaced', error) from error
                raise
            sync_folder(info.path)
            self._closed_bytes += _size(info.path)
        else:
            self._finish_in_place(state, info)

    def _copy(self, state: FileState, info: PartInfo, path: Path) -> None:
        copy = Copy(state, info, path, self._known.about)
        try:
            copy.copy(self._account, self._note_copied)
            copy.finish(self._annotations(info, self._closed_bytes + copy.nbytes))
        except BaseException as error:
            copy.discard()
            if isinstance(error, OSError):
                raise file_error(path, 'cannot be written', error) from error
            raise
        check_copy(path, len(state.rows))
        if not self._in_place:
            self._closed_bytes += _size(path)

    def _finish_in_place(self, state: FileState, info: PartInfo) -> None:
        marks: List[Dict[str, Any]] = []
        first_text = b''
        with open(state.path, 'rb') as opened:
            file = FileBytes(state.path, opened.fileno())
            for number, row in enumerate(state.rows):
                text = _text_of(file, row)
                stored = parse_text(text)
                if number == 0:
                    first_text = text
                self._account.page(moved(stored, number, info.number, self._account, False), int(row['strip_length']))
                marks += [{'label': mark['label'], 'time_ns': mark['time_ns'], 'page': number,
                           'index': stored.record.index} for mark in stored.record.marks]
                if number % PAGES_A_WORD == PAGES_A_WORD - 1:
                    self._note_copied(PAGES_A_WORD * len(text))
        if self._is_done(state, info):
            self._closed_bytes += state.size
            return
        finisher = InPlace(state, first_text, marks)
        finisher.finish(info, self._annotations(info, self._closed_bytes + state.end))
        self._closed_bytes += finisher.nbytes

    def _is_done(self, state: FileState, info: PartInfo) -> bool:
        """An earlier file of a split recording that is finished already."""
        facts = state.annotations.get('file', {})
        return (state.finished and not info.last and facts.get('last') is False
                and facts.get('first_page') == info.first_page
                and facts.get('parts') == [path.name for path in info.files])

    def _annotations(self, info: PartInfo, file_bytes: int) -> Mapping[str, Any]:
        if not info.last:
            return self._known.about
        files = [path.name for path in info.files]
        report = self._account.report(self._known, files=files, file_bytes=file_bytes, notes=self._notes_to_keep())
        self.result.report = report
        own = {'report': report.as_dict(), **self._extras(), **self._known.about}
        if self._describe is None:
            return own
        self._account.tally.file_bytes = file_bytes
        try:
            annotations = dict(self._describe(self._account.tally, files))
        except Exception as error:
            self._failure = error            # raised once the recording is safe
            return own
        if isinstance(annotations.get('report'), Mapping):
            self.result.report = Report.from_dict(annotations['report'])
        return annotations

    def _extras(self) -> Dict[str, Any]:
        """What else the recording's program had stored."""
        annotations = self._recording.parts[-1].annotations
        return {name: value for name, value in annotations.items()
                if name not in ('file', 'page0', 'marks', 'report', 'seal')}

    def _note_copied(self, nbytes: int) -> None:
        self._copied += nbytes
        if self._progress is not None:
            total = sum(state.size for state in self._recording.parts)
            self._progress(total + self._copied, total + max(total, self._copied))

    # ------------------------------------------------------------------ results, empty files

    def _write_results(self, written: List[Path]) -> None:
        """The whole lines of the results file: into a new one, or its broken last line cut off."""
        try:
            size, whole = _size(self._old_results), _whole_lines(self._old_results)
            if self._in_place:
                if whole < size:
                    os.truncate(self._old_results, whole)
                return
            if whole:
                self.result.results = results_path(self._first)
                written.append(self.result.results)
                _copy_beginning(self._old_results, self.result.results, whole)
        except OSError as error:
            raise file_error(self._old_results, 'cannot be repaired', error) from error

    def _put_empty_aside(self) -> None:
        """Files of the recording without any whole page must not pass for parts of it."""
        for state in self._recording.empty if self._in_place else []:
            try:
                if state.size <= state.begin:
                    os.unlink(state.path)
                else:
                    os.replace(state.path, _free_name(state.path))
            except OSError as error:
                raise file_error(state.path, 'cannot be put aside', error) from error

    # ------------------------------------------------------------------ in words

    def _notes_to_keep(self) -> List[str]:
        return [f'repaired {utc_text(time.time_ns())[:19]}Z: {"; ".join(self.result.notes)}']

    def _tell(self) -> None:
        result, notes = self.result, self.result.notes
        notes.append(f'{result.pages_found:,} whole pages found, {result.pages_recovered_behind:,} of them where no '
                     'reader got to')
        for number, text in ((result.pages_damaged, 'known to have been there and not whole'),
                             (result.pages_left_out, 'left out, being of another recording or there twice')):
            if number:
                notes.append(f'{number:,} page{"s" if number != 1 else ""} {text}')
        if result.torn_bytes:
            notes.append(f'{result.torn_bytes:,} bytes belong to no whole page')
        if not self._known.about:
            notes.append('settings, metadata and camera could not be recovered')
        if self._known.report is not None:
            notes.append('the report of the recording itself was found; what was destroyed was added to it')
        result.file_notes = self._file_notes()
        notes += result.file_notes

    def _file_notes(self) -> List[str]:
        """What the user has to look after."""
        last, notes = self._recording.parts[-1], []
        unreadable = sum(state.unreadable for state in self._recording.parts)
        if unreadable:
            notes.append(f'{unreadable:,} bytes could not be read from the disk: it is failing')
        if self._known.about and last.description is not None and not last.description.sealed and not last.has_preface:
            notes.append('settings, metadata and camera are from a damaged description; check them')
        return [*notes, *(f'{state.path.name} holds no whole page' for state in self._recording.empty),
                *self._recording.notes]


def _torn_bytes(state: FileState) -> int:
    rows = state.rows
    pages = int((rows['ifd_offset'].astype('int64') - rows['strip_offset'].astype('int64')).sum())
    known = state.begin + pages + len(rows) * state.layout.size
    blocks = state.index_blocks()
    known += sum(len(block) for place, block in blocks if place < state.end or state.description is not None)
    if state.description is not None:
        known += state.description.length + state.layout.size + 16
    return max(0, state.size - known) if not state.finished else 0


def _may_be_left_over(path: Path) -> str:
    try:
        with RecordingFile(path) as recording:
            return '' if recording.finished else ' (it is unfinished: perhaps a repair was killed while it wrote it)'
    except RecordingFileError:
        return ''


def _remove_left_over(folder: Path) -> None:
    """Copies that a repair in place was writing when it was killed: the files that they are of still stand."""
    for path in folder.glob('.ppr-repair-*-*.tif'):
        pid = path.name.split('-')[2]
        if not pid.isdigit() or os.path.exists(f'/proc/{pid}'):
            continue
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            continue
        try:
            if lock_file(fd):              # nor is another machine writing it
                remove(path)
        finally:
            os.close(fd)


def _text_of(file: FileBytes, row: Any) -> bytes:
    return file.read(int(row['strip_offset']) + int(row['strip_length']), int(row['text_length']), 'page description')


def _copy_beginning(old: Path, new: Path, length: int) -> None:
    with open(old, 'rb') as source, open(new, 'xb') as target:
        while length > 0:
            piece = source.read(min(length, 1 << 20))
            if not piece:
                break
            target.write(piece)
            length -= len(piece)
        target.flush()
        os.fsync(target.fileno())
    shutil.copymode(old, new)


def _whole_lines(path: Path) -> int:
    """Bytes of a file up to its last line's end; 0 without one."""
    try:
        with open(path, 'rb') as file:
            return whole_lines(file.fileno())
    except FileNotFoundError:
        return 0


def _free_name(path: Path) -> Path:
    name, number = path.with_name(path.name + '.damaged'), 1
    while os.path.lexists(name):
        name, number = path.with_name(f'{path.name}.damaged{number}'), number + 1
    return name


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
