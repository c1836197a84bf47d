"""What is measured against what. ``CONTENDERS`` has every kind, by its name."""

from __future__ import annotations

from typing import Dict, Type

from .base import Contender, Meter, Run, Verdict
from .limits import LIMITS
from .original import ORIGINALS
from .recorder import RECORDERS
from .tiffs import TIFFS
from .videos import VIDEOS

__all__ = ['CONTENDERS', 'Contender', 'Meter', 'Run', 'Verdict']

CONTENDERS: Dict[str, Type[Contender]] = {kind.name: kind for kind in
                                          (*RECORDERS, *LIMITS, *ORIGINALS, *TIFFS, *VIDEOS)}
