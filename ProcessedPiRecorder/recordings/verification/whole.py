"""The verification of a whole recording: file after file, then what they tell together."""

from __future__ import annotations

import os
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional

from ...errors import RecordingFormatError
from ..part import part_path
from ..preface import recording_of
from ..stored_report import report_of
from .description import check_description
from .findings import Findings, Verification
from .ledger import FileBytesTold, disagreements
from .one_file import check_file
from .parts import first_path, later_parts, leftover_parts, part_facts
from .recorded_file import RecordedFile
from .sequence import Sequence
from .stored_results import check_results

__all__ = ['Progress', 'RecordingCheck']

Progress = Callable[[int, int], None]


class _FileFacts(NamedTuple):
    """What is kept of a checked file. facts: what it tells of its place in the recording."""

    finished: bool
    facts: Dict[str, Any]
    annotations: Dict[str, Any]


class RecordingCheck:
    """One verification. One thread at a time."""

    def __init__(self, path: Path, threads: int, progress: Progress) -> None:
        self._threads = threads
        self._progress = progress
        self._findings = Findings()
        self._sequence = Sequence()
        self._result = Verification(path, self._sequence.tally)
        self._total = 0
        self._next_page: Optional[int] = 0      # number in the recording of the next file's page 0; None: not known
        self._whole = True                      # no file is missing or broken
        self._pages_end: List[int] = []         # of each file
        self._name = ''                         # of the recording, by which its files know one another
        self._last: Optional[_FileFacts] = None

    def run(self, executor: Optional[Executor]) -> Verification:
        """Check everything. Raises RecordingFileError for the file that was given, and for no other."""
        result = self._result
        with RecordedFile(result.path, Findings()) as given:
            number, first = given.part or 0, first_path(given)
        if first is None:
            self._findings.add('parts', result.path, f'it is part {number} of a recording, and its name does not end '
                                                     f'in _{number:03d}; the other files cannot be found by it')
            self._miss()
            self._check(result.path, number, executor)
            first = result.path
        else:
            self._check_all(first, number, executor)
        self._finish(first)
        return result

    # ------------------------------------------------------------------ file after file

    def _check_all(self, first: Path, given: int, executor: Optional[Executor]) -> None:
        number: Optional[int] = 0
        last_number = 0
        while number is not None:
            last_number = number
            path = part_path(first, number)
            if number == 0 and not os.path.exists(path):
                self._miss_parts(first, 0, 0)
            else:
                self._check(path, number, executor)
            number = self._number_after(number, first, given)
        if self._last is not None and self._last.facts.get('last') is True:
            name = self._last.facts.get('first_name')
            for path in leftover_parts(first, last_number + 1, name):
                self._findings.add('parts', path, f'it says that it belongs to {name!r}, which ends before it; it is '
                                                  'left over from another recording of that name')

    def _number_after(self, number: int, first: Path, given: int) -> Optional[int]:
        """The number of the next file to look for; None: there is none."""
        last = self._last
        if last is not None and last.facts.get('last') is True:
            return None
        # A part that cannot be read any more is still one where the file before it says that it goes on.
        goes_on = last is not None and last.finished and os.path.exists(part_path(first, number + 1))
        if goes_on:
            return number + 1
        later = later_parts(first, number, given)
        if later and later[0] > number + 1:
            self._miss_parts(first, number + 1, later[0] - 1)
        return later[0] if later else None

    def _miss_parts(self, first: Path, start: int, end: int) -> None:
        which = f'part {start}' if start == end else f'parts {start} to {end}'
        self._findings.add('parts', part_path(first, start), f'{which} of the recording: not here')
        self._miss()
        self._last = None

    def _miss(self) -> None:
        """A file is missing, or broken: the next one does not follow anything."""
        self._next_page, self._whole = None, False

    def _check(self, path: Path, number: int, executor: Optional[Executor]) -> None:
        self._result.files.append(path)
        try:
            recorded = RecordedFile(path, self._findings)
        except RecordingFormatError as error:
            self._findings.add('unreadable', path, str(error))
            self._miss()
            self._last = None
            return
        with recorded:
            self._check_place(recorded, number)
            self._check_opened(recorded, executor)

    def _check_place(self, recorded: RecordedFile, number: int) -> None:
        facts, last = part_facts(recorded), self._last
        if recorded.part is not None and recorded.part != number:
            recorded.found('parts', f'it says that it is part {recorded.part}; by its name it is part {number}')
        names = {name for name in (self._name, recording_of(recorded.about)) if name}
        self._name = self._name or recording_of(recorded.about)
        if len(names) > 1:
            recorded.found('parts', 'it belongs to another recording than the files before it')
        known = last is not None and bool(facts) and bool(last.facts)
        if last is not None and known and facts.get('first_name') != last.facts.get('first_name'):
            recorded.found('parts', f'it belongs to {facts.get("first_name")!r}, the file before it to '
                                    f'{last.facts.get("first_name")!r}')

    def _check_opened(self, recorded: RecordedFile, executor: Optional[Executor]) -> None:
        result = self._result
        facts = self._sequence.begin_file(recorded, self._next_page is not None)
        result.nbytes += recorded.file.size
        result.finished = result.finished and recorded.finished
        self._last = _FileFacts(recorded.finished, part_facts(recorded), recorded.annotations)
        behind = recorded.file.size - recorded.preface_end
        if recorded.broken:
            self._pages_end.append(recorded.preface_end)
            self._miss()
        else:
            self._total += recorded.pages
            accounts = check_file(recorded, self._sequence, facts, executor, self._threads, self._one_more)
            check_description(recorded, facts, accounts.blocks, self._next_page)
            self._pages_end.append(accounts.pages_end)
            behind = recorded.file.size - accounts.at
            told = part_facts(recorded).get('first_page')
            start = self._next_page if self._next_page is not None else told if type(told) is int else None
            self._next_page = None if start is None else start + facts.pages
        if recorded.is_unfinished:
            self._tell_unfinished(recorded, facts.pages, behind)

    def _one_more(self) -> None:
        self._result.pages += 1
        self._progress(self._result.pages, self._total)

    @staticmethod
    def _tell_unfinished(recorded: RecordedFile, pages: int, behind: int) -> None:
        if recorded.is_being_recorded():
            text = 'it is being recorded at this moment; verify it when that has ended'
        elif recorded.has_ended_meanwhile():
            text = 'its recording ended while it was verified; verify it once more'
        else:
            text = (f'the recording was cut off: {pages} pages are linked, and {behind} bytes follow them; `ppr repair '
                    f'{recorded.path.name}` finds what is whole in these, and finishes the file')
        recorded.found('unfinished', text)

    # ------------------------------------------------------------------ what they tell together

    def _finish(self, first: Path) -> None:
        result, sequence = self._result, self._sequence
        self._whole = self._whole and sequence.whole
        if result.finished and self._last is not None:
            self._check_end(self._last, first)
        result.results = check_results(first, result.report, sequence.indices, sequence.times_ns,
                                       self._whole and result.finished, self._findings)
        result.tally = sequence.tally
        result.findings, result.more = self._findings.kept, self._findings.more

    def _check_end(self, last: _FileFacts, first: Path) -> None:
        if last.facts.get('last') is not True:
            if last.annotations and self._whole:
                self._findings.add('parts', part_path(first, len(self._pages_end)),
                                   'the file before it says that the recording goes on, and this one is not here')
            return
        stored = last.annotations.get('report')
        path = self._result.files[-1]
        if not isinstance(stored, dict) or not stored:
            self._findings.add('report', path, 'the file holds no report that its pages could be held against')
            return
        try:
            self._result.report = report_of(stored)
        except RecordingFormatError as error:
            self._findings.add('report', path, str(error))
            return
        if self._whole:
            self._compare(path, str(last.facts.get('first_name')))

    def _compare(self, path: Path, first_name: str) -> None:
        report, sequence = self._result.report, self._sequence
        assert report is not None
        total = self._result.nbytes
        last_end = path.stat().st_size - self._pages_end[-1]
        size = FileBytesTold(sum(self._pages_end), total - last_end, total)
        names = [part_path(Path(first_name), number).name for number in range(len(self._pages_end))]
        for text in disagreements(report, sequence.tally, names, size, sequence.set_back, sequence.next_index):
            self._findings.add('report', path, text)
