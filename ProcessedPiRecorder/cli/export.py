"""``ppr export``: recordings in other forms, one by name or many at once."""

from __future__ import annotations

import inspect
import json
import os
import time
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, NoReturn, Optional, Sequence, Set, Tuple

from rich.console import Console
from rich.markup import escape

from ..errors import ExportError, RecorderError
from ..exports import FORMATS, Exported, export
from ..exports.gif import COLORS
from ..exports.range import Moment, parse_place
from ..exports.tables import WHATS
from ..exports.video import PRESETS
from ..reading import Recording, open_recording
from ..settings import SUFFIXES
from .frame_bar import frame_bar
from .interrupts import OneInterrupt
from .outcome import COMPLETE, FAILED, USAGE, BadUsage, in_options, tell_error
from .verdict import count, duration, size

__all__ = ['Wanted', 'parse_settings', 'run_export']

#: What is made of the name of a recording when several are exported.
ENDINGS = {'png': '_frames', 'tif': '_cut.tif'}

#: Options with these values only.
VALUES: Dict[str, Sequence[object]] = {'preset': PRESETS, 'colors': COLORS, 'what': WHATS}
SLOWEST, FASTEST = 1e-4, 1e4

GIVEN_OTHERWISE = ('recording', 'target', 'format', 'progress')


class Wanted(NamedTuple):
    """What was asked for. format: None = by the target's name; output: the target; folder: for targets named after
    their recordings; options: for the exporters, only those that were given.
    """

    paths: Sequence[Path]
    format: Optional[str]
    output: Optional[Path]
    folder: Optional[Path]
    options: Dict[str, Any]


class Job(NamedTuple):
    """One export. target: None = named after the recording."""

    recording: Path
    target: Optional[Path]
    format: str


def run_export(wanted: Wanted, *, as_json: bool, quiet: bool) -> int:
    """Export, and print what came of it; returns the exit code: one that fails does not stop the others.

    Raises BadUsage before anything is started; RecorderError where a single one fails; KeyboardInterrupt.
    """
    jobs = _jobs(wanted)
    _require_options(wanted.options, {job.format for job in jobs})
    if wanted.folder is not None:
        _make_folder(wanted.folder)
    session = _Session(wanted, as_json, quiet)
    with OneInterrupt():
        for job in jobs:
            session.run(job, alone=len(jobs) == 1)
    if as_json:
        print(json.dumps(session.told, indent=2))
    return session.code


def parse_settings(told: Sequence[str]) -> Dict[str, Any]:
    """NAME=VALUE each, with the value in JSON, or a text as it is. Raises BadUsage."""
    found: Dict[str, Any] = {}
    for text in told:
        name, equals, value = text.partition('=')
        if not (name.isidentifier() and equals) or name in GIVEN_OTHERWISE:
            raise BadUsage(f'--set {text!r} is no NAME=VALUE of an option that has no name of its own here')
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


# ---------------------------------------------------------------------- what is to be done

def _jobs(wanted: Wanted) -> List[Job]:
    if wanted.format is not None and wanted.format not in FORMATS:
        raise BadUsage(f'--to {wanted.format} is no format; give one of {", ".join(FORMATS)}')
    if wanted.output is not None and wanted.folder is not None:
        raise BadUsage('--output names one file, and --output-dir a folder for many; pass only one of them')
    if wanted.output is not None:
        if len(wanted.paths) != 1:
            raise BadUsage(f'--output names one file, and {len(wanted.paths)} recordings are given; for many, pass '
                           '--to FORMAT, and --output-dir if they are not to stand beside the recordings')
        return [_job(wanted.paths[0], wanted.output, wanted.format or _format_of(wanted.output))]
    if wanted.format is not None:
        _refuse_a_target_among_recordings(wanted.paths, wanted.format)
        return [Job(path, None, wanted.format) for path in wanted.paths]
    if len(wanted.paths) != 2 or wanted.folder is not None:
        raise BadUsage('give a recording and a target (ppr export trial.tif trial.mp4), or any number of recordings '
                       'and --to FORMAT (ppr export *.tif --to mp4)')
    recording, target = wanted.paths
    _refuse_likely_slips(target, replace_folder=bool(wanted.options.get('overwrite')))
    return [_job(recording, target, _format_of(target))]


def _job(recording: Path, target: Path, format: str) -> Job:
    if format == 'png' and target.suffix.lower() == '.png':
        raise BadUsage(f'PNG images come in a folder, and {target} is the name of one file; name the folder '
                       f'{target.with_suffix("")}, say. For one picture of a recording: ppr sheet, ppr plot')
    return Job(recording, target, format)


def _refuse_a_target_among_recordings(paths: Sequence[Path], format: str) -> None:
    last = paths[-1]
    if len(paths) > 1 and not last.exists() and (format == 'tif' or last.suffix.lower() not in SUFFIXES):
        others = ' '.join(str(path) for path in paths[:-1])
        raise BadUsage(f'{last} is not there, and with --to all names are those of recordings. To write a new file or '
                       f'folder of that name, pass {others} --to {format} --output {last}')


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except FileExistsError:
        raise BadUsage(f'--output-dir {folder} is a file; name a folder') from None
    except OSError as error:
        raise BadUsage(f'--output-dir {folder} cannot be made: {error.strerror}') from error


def _refuse_likely_slips(target: Path, replace_folder: bool) -> None:
    """replace_folder: a folder without an ending may be one of PNG images, which are made anew."""
    if target.name in FORMATS and target.parent == Path():
        raise BadUsage(f'{target} is the name of a format, not of a file; pass --to {target}, or --output {target} if '
                       'a folder of PNG images is really to be called so')
    if target.suffix.lower() in SUFFIXES and target.exists():
        raise BadUsage(f'{target} is there already. To export several recordings, add --to FORMAT; to write a cut, '
                       'choose a new name, or pass --output with --overwrite')
    if target.is_dir() and target.suffix.lower() != '.png' and (target.suffix or not replace_folder):
        anew = '' if target.suffix else ', or --overwrite if it holds such images, which are to be made anew'
        raise BadUsage(f'{target} is a folder; name a new file in it, or pass --to FORMAT --output-dir {target}{anew}')


def _format_of(target: Path) -> str:
    suffix = target.suffix.lower()
    found = next((name for name, known in FORMATS.items() if suffix in known.suffixes), None)
    if found is None:
        known = ', '.join(known.suffixes[0] for known in FORMATS.values())
        raise BadUsage(f'{target} ends in {suffix}, which is no format that is known; end it in one of {known}, or '
                       f'pass --output {target} --to FORMAT')
    return found


def _require_options(options: Dict[str, Any], formats: Set[str]) -> None:
    """Every option is one of the format's, with a value that can be; the start is before the end."""
    places = {name: _place(options[name], name) for name in ('start', 'stop') if name in options}
    if len(places) == 2 and _ends_first(**places):
        raise BadUsage(f'--start {options["start"]} --stop {options["stop"]} leave no frame; --stop tells the first '
                       'frame that is not wanted any more, and comes after --start')
    for name in options:
        if not all(name in _parameters(format) for format in formats):
            _refuse_option(name, sorted(formats))
    for name, values in VALUES.items():
        if options.get(name, values[0]) not in values:
            raise BadUsage(f'--{name} {options[name]} cannot be; give one of {", ".join(map(str, values))}')
    speed = options.get('speed', 1)
    if not isinstance(speed, (int, float)) or not SLOWEST <= speed <= FASTEST:
        raise BadUsage(f'--speed {speed} cannot be; give 1 for the true times, 0.1 for ten times slower '
                       f'({SLOWEST:f} to {FASTEST:,.0f})')


def _place(told: Any, name: str) -> Moment:
    try:
        return parse_place(told, f'--{name}')
    except ExportError as error:
        raise BadUsage(str(error)) from None


def _ends_first(start: Moment, stop: Moment) -> bool:
    """Whether no frame can be between them; not to be told without the recording where they are of two kinds."""
    return any(first is not None and last is not None and last <= first for first, last in zip(start, stop))


def _refuse_option(name: str, formats: Sequence[str]) -> NoReturn:
    meant = [format for format in FORMATS if name in _parameters(format)]
    if meant:
        raise BadUsage(f'--{name.replace("_", "-")} is for {", ".join(meant)}, not for {", ".join(formats)}')
    own = [known for known in _parameters(formats[0]) if known not in GIVEN_OTHERWISE]
    raise BadUsage(f'--set {name}=…: {formats[0]} takes no {name}; it takes {", ".join(own)}')


def _parameters(format: str) -> Sequence[str]:
    return list(inspect.signature(FORMATS[format].exporter()).parameters)


# ---------------------------------------------------------------------- doing it

class _Session:
    """Export after export. told: of each, for JSON; failed: how many did; code: the exit code so far."""

    def __init__(self, wanted: Wanted, as_json: bool, quiet: bool) -> None:
        self._wanted, self._json, self._quiet = wanted, as_json, quiet
        self._made: Dict[str, Path] = {}           # targets, and of which recording
        self._seen: Dict[str, Path] = {}           # files, and with which of their recording they came
        self.told: List[Dict[str, Any]] = []
        self.failed = 0
        self.code = COMPLETE

    def run(self, job: Job, alone: bool) -> None:
        real = os.path.realpath(job.recording)
        if real in self._seen:
            self._say(f'{job.recording} belongs to the recording of {self._seen[real]}, which is named before it')
            return
        try:
            with open_recording(job.recording) as recording:
                self._seen.update({os.path.realpath(path): job.recording for path in recording.files})
                self._export(job, recording)
        except RecorderError as error:
            if alone and not self._json:
                raise
            self.failed += 1
            self.code = USAGE if alone and isinstance(error, BadUsage) else FAILED
            self.told.append({'recording': str(job.recording), 'error': in_options(str(error))})
            tell_error(error, '' if alone else str(job.recording))

    def _export(self, job: Job, recording: Recording) -> None:
        target = self._target(job, recording)
        if os.path.lexists(target) and not self._wanted.options.get('overwrite'):
            raise BadUsage(f'{target} exists already; choose another name, or pass --overwrite')
        before, began = _identity(target), time.monotonic()
        try:
            with frame_bar(target.name, show=not (self._quiet or self._json)) as shown:
                made = export(recording, target, job.format, progress=shown.show, **self._wanted.options)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(self._left(target, whole=_identity(target) != before)) from None
        self._made[os.path.realpath(target)] = recording.path
        seconds = time.monotonic() - began
        self.told.append({'recording': str(recording.path), 'target': str(made.path), 'frames': made.frames,
                          'rows': made.rows, 'bytes': made.bytes, 'seconds': round(seconds, 3),
                          'notes': list(made.notes), 'beside': [str(path) for path in made.beside]})
        self._tell(made, seconds)

    def _target(self, job: Job, recording: Recording) -> Path:
        if job.target is not None:
            return job.target
        name = recording.path.stem + ENDINGS.get(job.format, FORMATS[job.format].suffixes[0])
        target = (self._wanted.folder or recording.path.parent) / name
        other = self._made.get(os.path.realpath(target))
        if other is not None:
            raise ExportError(f'{target} has just been made of {other}; export {recording.path} on its own, with '
                              '--output and another name')
        return target

    def _left(self, target: Path, whole: bool) -> str:
        others = '; what was exported before it stays' if len(self.told) > self.failed else ''
        return f'{target} had just become whole{others}' if whole else f'nothing is left of {target}{others}'

    def _tell(self, made: Exported, seconds: float) -> None:
        beside = ''.join(f' and {path.name}' for path in made.beside)
        held = count(made.frames, 'frame') if made.rows is None else count(made.rows, 'row')
        self._say(f'{made.path}{beside}: {held}, {size(made.bytes)}, in {duration(seconds)}',
                  made.notes)

    def _say(self, text: str, notes: Sequence[str] = ()) -> None:
        if self._quiet or self._json:
            return
        console = Console(highlight=False, soft_wrap=True)
        console.print(escape(text))
        for note in notes:
            console.print(f'  • {escape(note)}')


def _identity(path: Path) -> Optional[Tuple[int, int]]:
    try:
        told = os.lstat(path)
    except OSError:
        return None
    return told.st_ino, told.st_mtime_ns
