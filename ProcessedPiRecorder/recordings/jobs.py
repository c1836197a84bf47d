"""What is handed to the sink: a frame on its way to the disk; and what has become of them all."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Optional

import numpy as np

from .page import PageRecord
from .pressure import PressureLog

__all__ = ['PageJob', 'Totals']


class PageJob:
    """One frame on its way to the disk.

    Attributes:
        image: uint8, (height, width, 3) BGR or (height, width) gray; stays valid and unchanged until on_written.
        record: what to store with it. token: the caller's own.
        After writing: page (its number in the whole recording), nbytes (of the strip), effort,
        pressure (1 or 2 where the ring's fill lowered the effort, else 0),
        written_ns (CLOCK_MONOTONIC when the kernel had it).
    """

    __slots__ = ('image', 'record', 'token', 'page', 'nbytes', 'effort', 'pressure', 'written_ns')

    def __init__(self, image: np.ndarray, record: PageRecord, token: Any = None) -> None:
        self.image = image
        self.record = record
        self.token = token
        self.page = -1
        self.nbytes = 0
        self.effort = ''
        self.pressure = 0
        self.written_ns = 0


@dataclass
class Totals:
    """What has been written so far, over all parts. file_bytes: of the files as they stand on disk.

    pressure: where a filling ring lowered the effort.
    """

    pages: int = 0
    raw_bytes: int = 0
    strip_bytes: int = 0
    file_bytes: int = 0
    effort: Dict[str, int] = field(default_factory=dict)
    pressure: PressureLog = field(default_factory=PressureLog)

    @property
    def ratio(self) -> Optional[float]:
        """Pixels' bytes over strips' bytes; None before the first page."""
        return self.raw_bytes / self.strip_bytes if self.strip_bytes else None
