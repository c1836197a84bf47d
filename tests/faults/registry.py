"""The list of faults: `@fault` enters a function, `FAULTS` has them by name."""

from __future__ import annotations

import importlib
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, List, Optional, Tuple, Union

from tests.faults.outcome import Outcome

FaultFunction = Callable[[Path, random.Random], Outcome]
Words = Union[str, Tuple[str, ...]]


@dataclass(frozen=True)
class Expect:
    """What may surface: names of errors ('' for none) and verdicts. None: either is right if the ledger agrees."""

    error: Optional[Words] = ''
    complete: Optional[Words] = 'yes'

    def wrong(self, outcome: Outcome) -> List[str]:
        """What surfaced otherwise than expected, one text each."""
        texts = []
        for what, allowed, got in (
            ('error', self.error, outcome.error),
            ('complete', self.complete, outcome.complete),
        ):
            words = (allowed,) if isinstance(allowed, str) else allowed
            if words is not None and got not in words:
                texts.append(f'{what}: {got!r} instead of {" or ".join(map(repr, words))}')
        return texts


@dataclass(frozen=True)
class Fault:
    name: str
    group: str
    expects: Expect
    function: FaultFunction
    limit_s: float
    """A run that takes longer than this is counted as hung, and ended."""

    short: bool
    """Also run, once, in `make test`."""

    runs: Optional[int] = None
    """At most so many runs: each takes thousands of states."""


FAULTS: Dict[str, Fault] = {}
MODULES = ('callbacks', 'cameras', 'overload', 'deaths', 'disk', 'files')


def load() -> Dict[str, Fault]:
    """All faults of all modules, by name."""
    for name in MODULES:
        importlib.import_module(f'tests.faults.{name}')
    return FAULTS


def fault(
    name: str, *, group: str, expects: Optional[Expect] = None, limit_s: float = 60.0, short: bool = True,
    runs: Optional[int] = None
) -> Callable[[FaultFunction], FaultFunction]:
    """Enter `function(folder, rng) -> Outcome`; each run has an own empty folder and an own process.

    `expects` None: no error and a complete recording. Raise `CannotBeMade` where the machine cannot make the fault.
    """

    def enter(function: FaultFunction) -> FaultFunction:
        if name in FAULTS and FAULTS[name].function.__module__ != function.__module__:
            raise ValueError(f'two faults are named {name!r}')
        FAULTS[name] = Fault(name, group, expects or Expect(), function, limit_s, short, runs)
        return function

    return enter


def wrong(fault_made: Fault, outcome: Outcome) -> List[str]:
    """Everything that must not be after this fault, one text each; empty: as expected."""
    texts = fault_made.expects.wrong(outcome)
    if outcome.hung:
        texts.append('hung')
    for count, what in (
        (outcome.missing_synced, 'synced frames are missing'),
        (outcome.wrong_pixels, 'pages have wrong pixels'),
        (outcome.orphans, 'processes are left behind'),
        (outcome.leaked, 'memory files, descriptors or temporary files are left behind'),
    ):
        if count:
            texts.append(f'{count} {what}')
    return texts + list(outcome.ledger_disagrees)
