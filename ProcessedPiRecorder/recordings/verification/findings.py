"""What a verification found, and what it counted on the way."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional

from ...report import Report
from ..tally import Tally

__all__ = ['KINDS', 'MOST_FINDINGS', 'Finding', 'Findings', 'Verification']

#: Findings that are kept; of the others only the number is: a destroyed disk must not fill the memory too.
MOST_FINDINGS = 10_000

#: What a finding can be about.
KINDS = {
    'unfinished': 'the recording was cut off, or is still running',
    'unreadable': 'a file of the recording cannot be read as one',
    'header': "the file's first bytes",
    'preface': 'what was known before the first page',
    'checksum': 'pixels or text of a page are not those that were written',
    'pixels': 'the pixels of a page cannot be decoded',
    'text': 'the JSON of a page',
    'tags': "a page's IFD",
    'link': 'the chain of pages',
    'layout': 'bytes that belong to nothing, or to two things',
    'index': 'the page index',
    'order': "numbers of pages or frames, and frames' times",
    'loss': 'frames that are missing and of which no page tells',
    'description': 'the OME-XML',
    'report': "what the report tells, and what the pages tell",
    'parts': 'the files of a split recording',
    'results': 'the results file',
}


class Finding(NamedTuple):
    """One disagreement.

    Attributes:
        kind: one of KINDS. file: the name of the file. page: its number in that file; None where it is about no page.
        text: what was found and what was expected, for people.
    """

    kind: str
    file: str
    page: Optional[int]
    text: str


class Findings:
    """Collects findings. One thread at a time."""

    def __init__(self) -> None:
        self.kept: List[Finding] = []
        self.more = 0

    def add(self, kind: str, path: Path, text: str, page: Optional[int] = None) -> None:
        """One more disagreement."""
        assert kind in KINDS, kind
        if len(self.kept) < MOST_FINDINGS:
            self.kept.append(Finding(kind, path.name, page, text))
        else:
            self.more += 1


@dataclass
class Verification:
    """The outcome of ``verify``: whether a recording is what its own report says.

    Whether the recording is *complete* is another question, which the report answers.

    Attributes:
        path: as it was given. files: all files of the recording, in order.
        finished: whether every file came to a clean end.
        findings: the disagreements, the first MOST_FINDINGS of them; more: how many others there were.
        pages, nbytes: what was checked. results: lines of the results file; None without one.
        tally: the ledger as the pages alone tell it. report: the stored one; None when there is none to be had.
    """

    path: Path
    tally: Tally
    files: List[Path] = field(default_factory=list)
    finished: bool = True
    findings: List[Finding] = field(default_factory=list)
    more: int = 0
    pages: int = 0
    nbytes: int = 0
    results: Optional[int] = None
    report: Optional[Report] = None

    @property
    def ok(self) -> bool:
        """Whether everything agrees."""
        return not self.findings

    def as_dict(self) -> Dict[str, Any]:
        """All of it as JSON types."""
        tally = self.tally
        return {
            'path': str(self.path), 'files': [str(path) for path in self.files], 'ok': self.ok,
            'finished': self.finished, 'pages': self.pages, 'bytes': self.nbytes, 'results': self.results,
            'findings': [finding._asdict() for finding in self.findings], 'more_findings': self.more,
            'complete': self.report.complete if self.report else None,
            'tally': {'captured': tally.captured, 'lost': tally.lost, 'by_status': tally.by_status,
                      'processed': tally.processed, 'effort': tally.effort,
                      'effort_under_pressure': tally.pressure.pages, 'raw_bytes': tally.raw_bytes,
                      'strip_bytes': tally.strip_bytes, 'first_ns': tally.first_ns, 'last_ns': tally.last_ns,
                      'slowest_ns': tally.slowest_ns, 'marks': len(tally.marks)},
            'report': self.report.as_dict() if self.report else None}
