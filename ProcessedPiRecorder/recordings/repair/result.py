"""What a repair found, did, and could not do."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional

from ...report import Report

__all__ = ['RepairResult']


@dataclass
class RepairResult:
    """The outcome of ``repair``.

    Attributes:
        path: as it was given. sources: the recording's files as they were found.
        files: what was written, or finished where it stands; empty when there was nothing to do.
        results: the results file that was written beside a new recording; None without one.
        healthy: nothing is the matter with the recording, and nothing was done.
        in_place: the recording's own files were changed.
        pages_found: whole pages that are in the files now.
        pages_linked_before: of these, those that a reader got to before; pages_recovered_behind: the others.
        pages_damaged: pages that are known to have been there, and are not whole.
        pages_left_out: whole pages that do not belong to this recording.
        gaps: one text for each place where frames were destroyed.
        torn_bytes: bytes of the sources that belong to no whole page and to nothing else that is known.
        preface: settings, metadata and camera are known.
        report: the ledger as it is in the repaired file.
        file_notes: what is odd about the recording's files: missing, of another recording, not to be read.
        notes: what was and what was not recovered, for people; file_notes included.
    """

    path: Path
    sources: List[Path] = field(default_factory=list)
    files: List[Path] = field(default_factory=list)
    results: Optional[Path] = None
    healthy: bool = False
    in_place: bool = False
    pages_found: int = 0
    pages_linked_before: int = 0
    pages_recovered_behind: int = 0
    pages_damaged: int = 0
    pages_left_out: int = 0
    gaps: List[str] = field(default_factory=list)
    torn_bytes: int = 0
    preface: bool = False
    report: Optional[Report] = None
    file_notes: List[str] = field(default_factory=list)
    notes: List[str] = field(default_factory=list)

    @property
    def all_recovered(self) -> bool:
        """Everything that the files held is in the repaired ones."""
        return not (self.pages_damaged or self.pages_left_out or self.gaps) and self.preface

    def as_dict(self) -> Dict[str, Any]:
        """JSON types."""
        report = self.report.as_dict() if self.report is not None else None
        return {'path': str(self.path), 'sources': [str(path) for path in self.sources],
                'files': [str(path) for path in self.files], 'results': str(self.results) if self.results else None,
                'healthy': self.healthy, 'in_place': self.in_place, 'all_recovered': self.all_recovered,
                'pages_found': self.pages_found, 'pages_linked_before': self.pages_linked_before,
                'pages_recovered_behind': self.pages_recovered_behind, 'pages_damaged': self.pages_damaged,
                'pages_left_out': self.pages_left_out, 'gaps': list(self.gaps), 'torn_bytes': self.torn_bytes,
                'preface': self.preface, 'report': report, 'file_notes': list(self.file_notes),
                'notes': list(self.notes)}
