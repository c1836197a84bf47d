"""What became of one recording that had a fault."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Dict, List, Mapping


class CannotBeMade(Exception):
    """This machine cannot make this fault (no root, no loop device, …): the run counts as skipped, with this text."""


@dataclass
class Outcome:
    """What was found after one fault; all zero and empty is what a healthy recording leaves behind."""

    recorded: int = 0
    """Pages that can be read afterwards."""

    synced: int = 0
    """Pages known to have been synced before the fault; 0 where that is not known."""

    missing_synced: int = 0
    """Synced pages that are neither in the file nor in its repair: must be 0."""

    wrong_pixels: int = 0
    """Pages whose pixels are not the camera's: must be 0."""

    ledger_disagrees: List[str] = field(default_factory=list)
    """One text per disagreement between report, pages and truth: must be empty."""

    error: str = ''
    """Type name of the error that surfaced; empty for none."""

    complete: str = '-'
    """The report's verdict: 'yes', 'no', 'unknown'; '-' where no report exists."""

    hung: bool = False
    orphans: int = 0
    leaked: int = 0
    """Memory files, segments, descriptors and temporary files left behind."""

    notes: str = ''

    def as_dict(self) -> Dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Outcome:
        return cls(**{known.name: values[known.name] for known in fields(cls) if known.name in values})
