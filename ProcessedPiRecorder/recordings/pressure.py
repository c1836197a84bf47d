"""Where a filling ring lowered the compression effort, and where there was room again."""

from __future__ import annotations

from typing import Any, Dict, List

__all__ = ['MOST_CHANGES', 'PressureLog']

#: Changes that are kept; every page tells its own pressure anyway.
MOST_CHANGES = 1000


class PressureLog:
    """Pages in their order, kept as the changes of their pressure (0 none, 1 the fastest effort, 2 stored).

    Attributes:
        pages: how many were written under pressure.
        changes: the first MOST_CHANGES of them, ``{'index', 'time_ns', 'pressure', 'effort'}`` of the frame that began
            each; changed: how many there were.
    """

    def __init__(self) -> None:
        self.pages = 0
        self.changed = 0
        self.changes: List[Dict[str, Any]] = []
        self._last = 0

    def page(self, index: int, time_ns: int, pressure: int, effort: str) -> None:
        """The next page."""
        self.pages += 1 if pressure else 0
        if pressure != self._last:
            self._last = pressure
            self.changed += 1
            if len(self.changes) < MOST_CHANGES:
                self.changes.append({'index': index, 'time_ns': time_ns, 'pressure': pressure, 'effort': effort})
