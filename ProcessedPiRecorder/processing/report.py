"""What came of processing a recording again."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional

__all__ = ['Failure', 'ProcessReport']


class Failure(NamedTuple):
    """A frame whose call failed; all others went on.

    page, index, time_ns: of the frame. why: 'raised', 'hung', 'died' (its process ended), 'returned' (what cannot be
    recorded), or 'unreadable' (its page, so that there was no call). text: the error, with its traceback where there
    is one.
    """

    page: int
    index: int                   # type: ignore[assignment]   # hides tuple.index, which nobody misses here
    time_ns: int
    why: str
    text: str


@dataclass(frozen=True)
class ProcessReport:
    """What processing a recording came to; every number in it was counted.

    Attributes:
        recording: what was processed. frames: in it; processed: whose call came to its end; results: put.
        failures: the frames whose call did not, in their order.
        results_path: where the results are; failures_path: where the failures are listed, one line of JSON each.
        out: the processed recording; None where none was wanted. Paths are None where there was nothing to store.
        seconds: that it took. notes: what its user has to know, one sentence each.
    """

    recording: Path
    frames: int
    processed: int
    results: int
    failures: List[Failure] = field(default_factory=list)
    results_path: Optional[Path] = None
    failures_path: Optional[Path] = None
    out: Optional[Path] = None
    seconds: float = 0.0
    notes: List[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether every frame was processed."""
        return self.processed == self.frames

    def as_dict(self) -> Dict[str, Any]:
        """The report as JSON types."""
        known = asdict(self)
        known['failures'] = [failure._asdict() for failure in self.failures]
        return {name: str(value) if isinstance(value, Path) else value for name, value in known.items()}
