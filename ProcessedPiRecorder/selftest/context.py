"""What every check is given, and how it says what it found."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional

from ..errors import RecorderWarning
from ..recorder import ProcessedPiRecorder
from .takes import Take, read_take

__all__ = ['BY_HAND', 'FAIL', 'PASS', 'SKIPPED', 'WARN', 'Context', 'Finding', 'Judge', 'Skip']

PASS, WARN, FAIL, SKIPPED, BY_HAND = 'pass', 'warn', 'fail', 'skipped', 'by hand'

LOOK_S = 0.1
BRIEF_S, BRIEF_FRAMES = 0.5, 10


@dataclass(frozen=True)
class Finding:
    """What a check found: PASS, WARN (it works, but look), FAIL, SKIPPED or BY_HAND; in words, and in figures."""

    result: str
    problems: List[str]
    notes: List[str]
    figures: Dict[str, Any] = field(default_factory=dict)


class Skip(Exception):
    """This check cannot be made here; its text is the reason. WARN: but it should have been possible."""

    def __init__(self, reason: str, result: str = SKIPPED) -> None:
        super().__init__(reason)
        self.reason, self.result = reason, result

    def finding(self) -> Finding:
        """As a finding."""
        return Finding(self.result, [self.reason] if self.result == WARN else [],
                       [] if self.result == WARN else [self.reason])


class Judge:
    """Collects what is wrong, what is doubtful and what was measured, in the order of weight."""

    def __init__(self, **figures: Any) -> None:
        self.figures: Dict[str, Any] = figures
        self._wrong: List[str] = []
        self._doubtful: List[str] = []
        self._notes: List[str] = []

    def require(self, good: bool, problem: str) -> None:
        """Fail with this text unless it is good."""
        if not good:
            self._wrong.append(problem)

    def doubt(self, good: bool, problem: str) -> None:
        """Warn with this text unless it is good."""
        if not good:
            self._doubtful.append(problem)

    def note(self, text: str) -> None:
        """What was measured."""
        if text:
            self._notes.append(text)

    def finding(self) -> Finding:
        """The sum of it."""
        result = FAIL if self._wrong else WARN if self._doubtful else PASS
        return Finding(result, [*self._wrong, *self._doubtful], self._notes, self.figures)


@dataclass
class Context:
    """What was asked for, and what earlier checks have found out for later ones.

    Attributes:
        folder: where recordings go; theirs alone.
        ask: shows a text, waits for Enter, and returns whether it was done; None when nobody is there to ask.
        watch: is called with the Status of the running recording, some times a second.
        granted: what the camera gave (``Granted`` as a dict), once it has been opened.
        main: the recording without a callback, whose times other checks look at.
        disk_mb_s: how fast the disk took a file.
    """

    camera: Any
    folder: Path
    seconds: float = 5.0
    width: int = 0
    height: int = 0
    framerate: float = 0.0
    stereo: bool = False
    controls: Mapping[str, Any] = field(default_factory=dict)
    ask: Optional[Callable[[str], bool]] = None
    watch: Callable[[Any], None] = lambda status: None
    granted: Optional[Mapping[str, Any]] = None
    main: Optional[Take] = None
    disk_mb_s: Optional[float] = None

    def recorder(self, name: str, seconds: float, **settings: Any) -> ProcessedPiRecorder:
        """A recorder of this camera into the folder; does not block. Raises as the class does."""
        chosen: Dict[str, Any] = {
            'camera': self.camera, 'x_resolution': self.width, 'y_resolution': self.height, 'stereo': self.stereo,
            'framerate': self.framerate, 'rec_length': seconds, 'camera_controls': dict(self.controls),
            'display': False, 'blocking': False}
        return ProcessedPiRecorder(self.folder / f'{name}.tif', **{**chosen, **settings})

    def record(self, name: str, seconds: float, **settings: Any) -> Take:
        """Record for so long and read the file back. Raises what the recorder raises."""
        with caught() as told:
            with self.recorder(name, seconds, **settings) as recorder:
                recorder.recordVid()
                while recorder.wait(LOOK_S) is None:
                    self.watch(recorder.status())
            return read_take(self.folder / f'{name}.tif', recorder.report, texts(told))

    @property
    def rate(self) -> float:
        """Hz: as granted, else as asked for, else 30."""
        return float((self.granted or {}).get('framerate') or self.framerate or 30.0)

    def brief(self) -> float:
        """Seconds for a recording that needs a few frames only."""
        return max(BRIEF_S, BRIEF_FRAMES / self.rate)


@contextmanager
def caught() -> Iterator[List[warnings.WarningMessage]]:
    """The recorder's warnings, to be told with the check instead of in between."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter('always', RecorderWarning)
        yield told


def texts(told: List[warnings.WarningMessage]) -> List[str]:
    """The recorder's own among the warnings, each once."""
    return list(dict.fromkeys(str(item.message) for item in told if issubclass(item.category, RecorderWarning)))
