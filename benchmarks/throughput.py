"""How many frames a second each contender takes, and what a frame costs it: ``python -m benchmarks throughput``."""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence

from . import frames as pictures
from . import machine
from .contenders import CONTENDERS
from .runs import Material, RunFailed, run_apart

__all__ = ['CARPHONE_SIZE', 'Case', 'cases_of', 'run']

SIZES = ('384x144', '1280x480', '1920x1080')
FORMATS = ('gray', 'bgr')
CARPHONE_SIZE = '1280x480'
CHECKED = 64                      # frames of the run that is read back: each picture once
LONGEST = 2.0                       # times the length of a run: slower contenders get fewer frames
PACE_MAKER = 'bare codec'           # its rate decides how many frames the others get
EFFORTS_OF = "recorder, '3Proc'"    # whose efforts the bare codec spends

Tell = Callable[[str], None]


class Case(NamedTuple):
    """One kind of frames. content: 'camera-like' or 'carphone'."""

    content: str
    width: int
    height: int
    pixel_format: str

    def __str__(self) -> str:
        return f'{self.content} {self.width}×{self.height} {self.pixel_format}'


def cases_of(sizes: Sequence[str], formats: Sequence[str], carphone_sizes: Sequence[str]) -> List[Case]:
    """Sizes as 'WIDTHxHEIGHT'. Raises ValueError for what is not a size."""
    cases = []
    for content, wanted in (('camera-like', sizes), ('carphone', carphone_sizes)):
        for size in wanted:
            width, cross, height = size.partition('x')
            if not (cross and width.isdigit() and height.isdigit()):
                raise ValueError(f'{size!r} is not a size; write WIDTHxHEIGHT in pixels, such as 1280x480')
            cases += [Case(content, int(width), int(height), pixel_format) for pixel_format in formats]
    return cases


def run(cases: Sequence[Case], *, rounds: int = 3, seconds: float = 4.0, frames: Optional[int] = None,
        folder: Path = Path('.'), only: Sequence[str] = (), out: Optional[Path] = None,
        tell: Tell = print) -> Dict[str, Any]:
    """Measure every case; blocks for minutes to hours.

    Args:
        rounds: how often each contender runs; they take turns, each round begins with another one.
        seconds: how long the bare codec runs; the others get the same number of frames, the slow ones fewer.
        frames: that many for all instead.
        folder: on the disk that is to be measured; a folder is made there and removed.
        only: parts of contenders' names; the bare codec runs in any case.
        out: where throughput.json goes, after each case.
        tell: gets one line for each run.

    Returns:
        What is stored: {machine, settings, cases: [{content, width, height, pixel_format, contenders: [...]}]}.
    """
    found: Dict[str, Any] = {'machine': machine.facts(folder), 'cases': [], 'settings': {
        'rounds': rounds, 'seconds': seconds, 'frames': frames, 'only': list(only), 'distinct_frames': CHECKED,
        'load_average': round(os.getloadavg()[0], 2), 'date': time.strftime('%Y-%m-%d', time.gmtime())}}
    with tempfile.TemporaryDirectory(prefix='benchmark-', dir=folder) as scratch:
        for case in cases:
            try:
                material = Material.stored(pictures.frames_of(*case, CHECKED), Path(scratch))
            except pictures.MissingClip as error:
                tell(f'{case} is left out: {error}')
                continue
            tell(str(case))
            trial = _Case(case, material, chosen(only), seconds, tell)
            found['cases'].append(trial.measure(rounds, frames))
            if out is not None:
                out.mkdir(parents=True, exist_ok=True)
                (out / 'throughput.json').write_text(json.dumps(found, indent=1) + '\n')
    return found


def chosen(only: Sequence[str]) -> List[str]:
    """The contenders in whose name one of the texts occurs; all, when there are none. Raises ValueError."""
    names = [name for name in CONTENDERS if not only or any(part.lower() in name.lower() for part in only)]
    unknown = [part for part in only if not any(part.lower() in name.lower() for name in CONTENDERS)]
    if unknown:
        raise ValueError(f'{unknown[0]!r} is in no contender\'s name; there are: {", ".join(CONTENDERS)}')
    return names if PACE_MAKER in names else [*names, PACE_MAKER]


class _Case:
    """The contenders of one case, in turn."""

    def __init__(self, case: Case, material: Material, names: Sequence[str], seconds: float, tell: Tell) -> None:
        self._case, self._material, self._seconds, self._tell = case, material, seconds, tell
        self._entries = {name: _entry(name) for name in names}
        self._efforts: Dict[str, int] = {}

    def measure(self, rounds: int, frames: Optional[int]) -> Dict[str, Any]:
        """The case as it is stored."""
        self._learn_efforts(frames)
        counts = self._counts(frames)
        names = list(counts)
        for number in range(rounds):
            start = number * len(names) // rounds
            for name in (*names[start:], *names[:start]):
                self._run(name, counts[name], number)
        return {**self._case._asdict(), 'efforts': self._efforts, 'contenders': list(self._entries.values())}

    def _learn_efforts(self, frames: Optional[int]) -> None:
        """What the recorder spends on these frames, so that the bare codec spends the same."""
        report = run_apart(EFFORTS_OF, self._material, min(frames or 10 * CHECKED, 10 * CHECKED))
        self._efforts = report['details']['effort']

    def _counts(self, frames: Optional[int]) -> Dict[str, int]:
        """How many frames each of those that work here gets; each has been read back then."""
        rates = {name: self._checked(name, frames) for name, entry in self._entries.items() if not entry['missing']}
        rates = {name: rate for name, rate in rates.items() if rate}
        base = frames or self._frames_in(self._seconds, PACE_MAKER, rates[PACE_MAKER])
        return {name: base if frames else min(base, self._most(name, rate, base)) for name, rate in rates.items()}

    def _checked(self, name: str, frames: Optional[int]) -> float:
        """Frames a second of a short run whose every image is read back; 0 where it failed."""
        entry = self._entries[name]
        count = min(frames or CHECKED, CHECKED)
        try:
            found = run_apart(name, self._material, count, self._options(), verify=True)
        except RunFailed as error:
            entry['failed'] = str(error)
            self._tell(f'  {name}: FAILED: {error}')
            return 0.0
        entry.update(lossless=found['lossless'], checked=found['decoded'], verdict=found['note'])
        self._tell(f'  {name}: {_lossless(entry)}')
        return float(found['frames'] / found['seconds'])

    def _most(self, name: str, rate: float, base: int) -> int:
        """Frames for a contender that may be slow; a short run says too little where much goes into start and end."""
        if base / rate <= LONGEST * self._seconds:
            return base
        return self._frames_in(LONGEST * self._seconds, name, rate)

    def _frames_in(self, seconds: float, name: str, rate: float) -> int:
        count = max(int(rate * seconds / 4), CHECKED)
        found = run_apart(name, self._material, count, self._options())
        return max(int(count / found['seconds'] * seconds), CHECKED)

    def _run(self, name: str, count: int, number: int) -> None:
        entry = self._entries[name]
        try:
            found = run_apart(name, self._material, count, self._options())
        except RunFailed as error:
            entry['failed'] = str(error)
            self._tell(f'  {name}: FAILED: {error}')
            return
        if name == EFFORTS_OF:
            self._efforts = found['details']['effort']
        entry['runs'].append({'round': number, **found})
        self._tell(f'  round {number + 1}  {name:44} {count / found["seconds"]:9.1f} frames/s '
                   f'{1000 * found["cpu_s"] / count:8.3f} ms CPU a frame')

    def _options(self) -> Mapping[str, Any]:
        return {'efforts': self._efforts}


def _entry(name: str) -> Dict[str, Any]:
    kind = CONTENDERS[name]
    return {'name': name, 'what': kind.what, 'group': kind.group, 'note': kind.note, 'missing': kind.missing(),
            'failed': None, 'lossless': None, 'checked': 0, 'verdict': '', 'runs': []}


def _lossless(entry: Mapping[str, Any]) -> str:
    if entry['lossless'] is None:
        return 'writes nothing'
    if not entry['lossless']:
        return f'NOT LOSSLESS: {entry["verdict"]}'
    return f'lossless, {entry["checked"]} images read back'
