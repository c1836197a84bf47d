"""Neurodata Without Borders: the video as an external file, its times, status, losses, marks and results."""

from __future__ import annotations

import datetime
import math
import os
import re
import uuid
from collections import Counter
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from .._version import __version__
from ..errors import ExportError, RecordingFormatError
from ..extras import require
from ..reading import Recording, Result
from ..recordings.ome import to_json
from ..recordings.page import STATUSES
from ..report import MOST_PLACES
from .astray import first_pages, holes
from .base import Exported, PathLike, Place, Progress, chosen_pages, whole_files
from .flat import EXACT_IN_FLOAT, Flattening, survey
from .video import export_avi, export_mp4

__all__ = ['export_nwb']

MEANINGS = {'raw': 'raw: as it came from the camera', 'returned': 'returned: what the callback returned',
            'by-passed': 'by-passed: as it came, the callback had no time for it',
            'failed': "failed: as it came, the callback's call failed"}
UNKNOWN = 'unknown: a newer version of ProcessedPiRecorder tells of it what this one does not know'
SEXES = ('M', 'F', 'U', 'O')
RESULT_HEAD = {'timestamp': 'seconds from the first frame', 'frame_index': 'number of the frame that it belongs to',
               'result_number': "number of the result among all of the recording's", 'box': (
                   'number of the box in its result; -1: there is none')}
NO_SUBJECT = 'no subject was told, so there is none in it: archives such as DANDI need subject_id, species, age and sex'
IN_MISSING_FILE, NOT_TOLD = 'in a missing file', 'not told'
PAGE_BYTES = 64                # of the tables, a frame

_AS_JSON = ', as JSON'
_AGE = re.compile(r'P(?!$)(\d+(\.\d+)?Y)?(\d+(\.\d+)?M)?(\d+(\.\d+)?W)?(\d+(\.\d+)?D)?(T(?=\d)(\d+H)?(\d+M)?(\d+S)?)?')


def export_nwb(recording: Recording, target: PathLike, *, start: Optional[Place] = 0, stop: Optional[Place] = None,
               every: int = 1, overwrite: bool = False, progress: Optional[Progress] = None, video: PathLike = 'mp4',
               session_description: Optional[str] = None, identifier: Optional[str] = None,
               session_id: Optional[str] = None, experimenter: Union[str, Sequence[str], None] = None,
               lab: Optional[str] = None, institution: Optional[str] = None, subject_id: Optional[str] = None,
               species: Optional[str] = None, age: Optional[str] = None, sex: Optional[str] = None,
               subject: Optional[Mapping[str, Any]] = None) -> Exported:
    """Write an NWB file whose ``ImageSeries`` 'video' leads to a video file beside it. Both come to be, or neither.

    ============================================  ======================================================
    in the file                                   what it is
    ============================================  ======================================================
    acquisition/video                             timestamps (s from the first frame), status as ``control``
    acquisition/frames                            of each frame its number, exact time_ns, status
    acquisition/marks                             events: timestamp, label
    intervals/invalid_times                       where frames are missing, and why
    processing/behavior/results                   the results, in columns as in the CSV; a row for each box
    notes                                         report, settings, metadata and camera as JSON
    ============================================  ======================================================

    The session's start is the time of the first frame. Nothing is invented: without ``subject_id`` there is no subject.

    Args:
        start, stop, every: pages, or places (see :func:`~.base.chosen_pages`).
        video: 'mp4' (H.264, lossless) or 'avi' (FFV1) to make one, named after the target; 'tif' to lead to the
            recording's own files; or the path of a video of just these frames that is there already.
        identifier: of the NWB file, unique; default: a new UUID. experimenter: 'Family, Given', or several of them.
        subject_id, species ('Mus musculus'), age (ISO 8601: 'P90D'), sex ('M', 'F', 'O', 'U' unknown): of the animal;
        subject: these and further fields of ``pynwb.file.Subject``.

    Raises ExportError, MissingExtraError, RecordingFileError.
    """
    pynwb = require('pynwb', 'nwb', 'NWB export')
    if recording.times_ns is None:
        raise ExportError(f'{recording.path.name} was not made by ProcessedPiRecorder and tells no times, which NWB is '
                          'about; export it as MP4 with rate_hz, and describe that in NWB by hand')
    pages = chosen_pages(recording, start, stop, every)
    told = {'subject_id': subject_id, 'species': species, 'age': age, 'sex': sex}
    animal = _subject(pynwb, {**(subject or {}), **{name: value for name, value in told.items() if value is not None}})
    words = _in_words(session_description=session_description, identifier=identifier, session_id=session_id, lab=lab,
                      institution=institution)
    final = Path(target)
    beside = _made_beside(final, video)
    _refuse_other_video(beside, overwrite, final)
    external = _External([beside[0].name], [0]) if beside else _existing(recording, video, pages, final)
    file = _new_file(pynwb, recording, pages, experimenter=_names(experimenter), subject=animal, **words)
    content = _Content(recording, pages, file)
    content.add_video(external)
    content.add_tables()
    with whole_files([final, *beside], overwrite=overwrite, needs_bytes=len(pages) * PAGE_BYTES,
                     recording=recording) as parts:
        _make_video(recording, parts[1:], pages, progress)
        with pynwb.NWBHDF5IO(str(parts[0]), 'w') as io:
            io.write(file)
        size = parts[0].stat().st_size
    notes = content.notes if animal is not None else (*content.notes, NO_SUBJECT)
    return Exported(final, len(pages), size, notes, tuple(beside))


class _External(NamedTuple):
    """The video's files, relative to the NWB file; and the number of each one's first frame."""

    files: List[str]
    starting_frames: List[int]


# ---------------------------------------------------------------------- what is asked for

def _subject(pynwb: Any, told: Dict[str, Any]) -> Any:
    if not told:
        return None
    told = {name: str(value) if type(value) is int else value for name, value in told.items()}
    if not isinstance(told.get('subject_id'), str) or not told['subject_id'].strip() or '/' in told['subject_id']:
        raise ExportError(f'a subject needs a subject_id, a name without slashes; got {told.get("subject_id")!r} with '
                          f'{", ".join(name for name in told if name != "subject_id") or "nothing else"}')
    sex, age = told.get('sex', 'U'), told.get('age')
    if sex not in SEXES:
        raise ExportError(f'sex={sex!r} is none of {", ".join(SEXES)} (male, female, unknown, other)')
    if age is not None and not (isinstance(age, str) and all(_AGE.fullmatch(one) for one in age.split('/') if one)
                                and age.strip('/')):
        raise ExportError(f"age={age!r} is no duration in ISO 8601; give 'P90D' for 90 days, 'P12W', 'P3M', 'P1Y', or "
                          "a range ('P80D/P100D')")
    try:
        return pynwb.file.Subject(**{**told, 'sex': sex})
    except (TypeError, ValueError) as error:
        raise ExportError(f'pynwb takes no such subject: {error}') from error


def _in_words(**told: Any) -> Dict[str, str]:
    """Those that were told, as text. Raises ExportError."""
    for name, value in told.items():
        if value is not None and (not isinstance(value, (str, int)) or isinstance(value, bool) or value == ''):
            raise ExportError(f'{name}={value!r} is no text; pass one, or leave it out')
    return {name: str(value) for name, value in told.items() if value is not None}


def _names(told: Union[str, Sequence[str], None]) -> Optional[List[str]]:
    names = [told] if isinstance(told, str) else [] if told is None else told
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) and name for name in names):
        raise ExportError(f"experimenter={told!r} is no name; pass 'Family, Given', or a list of such")
    return list(names) or None


def _made_beside(final: Path, video: PathLike) -> List[Path]:
    """The files of the video that is to be made; none where it is there already."""
    if video == 'mp4':
        return [final.with_suffix('.mp4')]
    return [final.with_suffix('.avi'), final.with_suffix('.times.csv')] if video == 'avi' else []


def _refuse_other_video(beside: Sequence[Path], overwrite: bool, final: Path) -> None:
    if beside and not overwrite and os.path.lexists(beside[0]):
        raise ExportError(f'{beside[0]} exists already, and {final.name} would come with a new video of that name '
                          f'beside it. If it shows just these frames, pass video={str(beside[0])!r} to lead to it; '
                          'else choose another name, or pass overwrite=True to make it anew')


def _make_video(recording: Recording, parts: Sequence[Path], pages: range, progress: Optional[Progress]) -> None:
    options: Dict[str, Any] = {'start': pages.start, 'stop': pages.stop, 'every': pages.step, 'progress': progress}
    if len(parts) == 1:
        export_mp4(recording, parts[0], lossless=True, **options)
    elif parts:
        export_avi(recording, parts[0], **options)
    elif progress is not None:
        progress(0, len(pages))
        progress(len(pages), len(pages))


def _existing(recording: Recording, video: PathLike, pages: range, final: Path) -> _External:
    if video == 'tif':
        return _own_files(recording, pages, final)
    if not isinstance(video, (str, os.PathLike)):
        raise ExportError(f"video={video!r} is neither 'mp4', 'avi', 'tif' nor a file that is there")
    return _given(Path(video), pages, final)


def _own_files(recording: Recording, pages: range, final: Path) -> _External:
    if len(pages) != len(recording):
        raise ExportError(f"video='tif' leads to all {len(recording):,} frames of {recording.path.name}, and only "
                          f"{len(pages):,} are asked for; leave out start, stop and every, or cut the recording first, "
                          "or take video='mp4'")
    with recording.own_pages() as own:
        return _External([_relative(path, final) for path in recording.files], list(first_pages(own)))


def _given(video: Path, pages: range, final: Path) -> _External:
    if not video.is_file():
        raise ExportError(f"video={str(video)!r} is neither 'mp4', 'avi', 'tif' nor a file that is there")
    av = require('av', 'export', 'checking the video')
    try:
        with av.open(str(video)) as container:
            frames = container.streams.video[0].frames
    except (av.FFmpegError, IndexError) as error:
        raise ExportError(f'{video} is not a video that can be read ({error}); pass another one, or video=\'mp4\' to '
                          'make one') from error
    if frames and frames != len(pages):
        raise ExportError(f'{video} has {frames:,} frames, and {len(pages):,} are asked for; pass the video of just '
                          "these frames, or video='mp4' to make one")
    return _External([_relative(video, final)], [0])


def _relative(path: Path, final: Path) -> str:
    return os.path.relpath(os.path.abspath(path), os.path.abspath(final.parent))


# ---------------------------------------------------------------------- what is in it

def _new_file(pynwb: Any, recording: Recording, pages: range, **told: Any) -> Any:
    assert recording.times_ns is not None
    return pynwb.NWBFile(**{
        'session_description': f'Video recording {recording.path.name}; no description of the session was given.',
        'identifier': uuid.uuid4().hex, 'session_start_time': _utc(int(recording.times_ns[pages.start])),
        'keywords': ['video', 'ProcessedPiRecorder'], 'notes': _notes(recording, pages),
        'data_collection': f'exported by ProcessedPiRecorder {__version__}', **told})


def _utc(time_ns: int) -> datetime.datetime:
    return datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc) + datetime.timedelta(
        microseconds=time_ns // 1000)


def _notes(recording: Recording, pages: range) -> str:
    assert recording.times_ns is not None
    try:
        report = recording.report
    except RecordingFormatError:
        report = None                   # one that cannot be right is none
    return to_json({
        'recording': recording.path.name, 'first_frame_time_ns': int(recording.times_ns[pages.start]),
        'report': None if report is None else report.as_dict(), 'settings': recording.settings,
        'metadata': recording.metadata, 'camera': recording.camera, 'notes': list(recording.notes)})


class _Content:
    """Fills an NWB file. notes: what its user has to know."""

    def __init__(self, recording: Recording, pages: range, file: Any) -> None:
        assert recording.times_ns is not None and recording.indices is not None
        self._common = require('hdmf.common', 'nwb', 'NWB export')
        self._recording, self._pages, self._file = recording, pages, file
        self._first_ns = int(recording.times_ns[pages.start])
        self._times_ns = recording.times_ns[pages.start:pages.stop:pages.step]
        self._indices = recording.indices[pages.start:pages.stop:pages.step]
        status = recording.status
        assert status is not None
        self._status = status[pages.start:pages.stop:pages.step]
        self._meanings = [MEANINGS[known] for known in STATUSES]
        if not np.isin(self._status, STATUSES).all():
            self._meanings.append(UNKNOWN)
        self._timestamps = (self._times_ns - self._first_ns) / 1e9
        self.notes: Tuple[str, ...] = tuple(recording.notes)

    def add_video(self, external: _External) -> None:
        """The ImageSeries, and the camera as its device."""
        image = require('pynwb.image', 'nwb', 'NWB export')
        recording = self._recording
        device = self._file.create_device(name='camera', description=_camera(recording.camera))
        codes = {status: code for code, status in enumerate(STATUSES)}
        self._file.add_acquisition(image.ImageSeries(
            name='video', unit='n.a.', format='external', external_file=external.files,
            starting_frame=external.starting_frames, dimension=[recording.shape[2], recording.shape[1]],
            timestamps=self._timestamps, device=device,
            control=np.array([codes.get(str(status), len(STATUSES)) for status in self._status], np.uint8),
            control_description=self._meanings,
            description='The recorded frames. Timestamps are the originating times of the frames, from the first one '
                        'on; exact times in ns since 1970 UTC are in the table "frames".',
            comments='control: how the recorded pixels of each frame came to be.'))

    def add_tables(self) -> None:
        """Frames, marks, losses, results."""
        self._file.add_acquisition(self._table('frames', 'Each frame of the video.', {
            'timestamp': ('seconds from the first frame', self._timestamps),
            'frame_index': ('number among the frames that the sensor made; lost ones leave gaps', self._indices),
            'time_ns': ('originating time, ns since 1970-01-01 UTC', self._times_ns),
            'status': ('; '.join(self._meanings), self._status.tolist())}))
        marks = self._marks()
        if marks:
            self._file.add_acquisition(self._table('marks', 'Events that were marked while recording.', {
                'timestamp': ('seconds from the first frame', np.array([at for at, _ in marks])),
                'label': ('what was marked', [label for _, label in marks])}))
        self._add_losses()
        self._add_results()

    def _table(self, name: str, description: str, columns: Mapping[str, Tuple[str, Any]]) -> Any:
        return self._common.DynamicTable(name=name, description=description, columns=[
            self._common.VectorData(name=column, description=what, data=data)
            for column, (what, data) in columns.items()])

    def _seconds(self, time_ns: Any) -> float:
        return (int(time_ns) - self._first_ns) / 1e9

    def _marks(self) -> List[Tuple[float, str]]:
        pages, times_ns = self._pages, self._recording.times_ns
        assert times_ns is not None
        # On no page here, as their file is missing, or they came behind the last one: between these, by their times.
        between = range(pages.start + (pages.start > 0), pages.stop + (pages.stop >= len(times_ns)))

        def is_within(mark: Mapping[str, Any]) -> bool:
            if mark['page'] is None:
                return int(np.searchsorted(times_ns, mark['time_ns'])) in between
            return pages.start <= mark['page'] < pages.stop
        return sorted((self._seconds(mark['time_ns']), _text(mark['label'])) for mark in self._recording.marks
                      if is_within(mark))

    def _add_losses(self) -> None:
        indices, times_ns = self._recording.indices, self._recording.times_ns
        assert indices is not None and times_ns is not None
        found: List[Tuple[int, int, str]] = []           # the page behind, how many, why
        elsewhere = 0
        told: Dict[int, int] = Counter()
        for loss in self._recording.losses:
            after = int(np.searchsorted(indices, loss.index))
            told[after] += loss.count
            if self._pages.start < after <= self._pages[-1]:
                found.append((after, loss.count, _text(': '.join(filter(None, (loss.reason, loss.detail))))))
            elif self._pages.start == after == 0 or after == len(indices) == self._pages.stop:
                elsewhere += loss.count
        if elsewhere:
            self.notes += (f'{elsewhere:,} frames are missing before the first or behind the last one, where no '
                           'interval tells of them: see the report in "notes"',)
        for after, count, why in self._untold(told):
            if self._pages.start < after <= self._pages[-1]:
                found.append((after, count, why))
            elif self._pages.start == after == 0:
                self.notes += (f'{count:,} frames are missing before the first one: {why}',)
        if not found:
            return
        for name, what in (('frames_lost', 'how many frames are missing'),
                           ('reason', f'why, as the report tells it; or {IN_MISSING_FILE}, or {NOT_TOLD}')):
            self._file.add_invalid_times_column(name, what)
        for after, count, why in sorted(found, key=lambda one: one[0]):
            self._file.add_invalid_time_interval(
                start_time=self._seconds(times_ns[after - 1]), stop_time=self._seconds(times_ns[after]),
                frames_lost=count, reason=why)

    def _untold(self, told: Mapping[int, int]) -> Iterator[Tuple[int, int, str]]:
        """What is missing right before pages, and is not ``told`` of them: the page, how many, why."""
        recording, indices, losses = self._recording, self._recording.indices, self._recording.losses
        assert indices is not None
        with recording.own_pages() as own:
            of_files = set(holes(own, indices))
        missing = np.diff(indices, prepend=-1) - 1
        for page in map(int, np.flatnonzero(missing)):
            if len(losses) >= MOST_PLACES and indices[page] > losses[-1].index:
                return                               # the last one sums up what is beyond
            rest = int(missing[page]) - told.get(page, 0)
            if rest > 0:
                yield page, rest, IN_MISSING_FILE if page in of_files else NOT_TOLD

    def _add_results(self) -> None:
        outside = int((self._recording.results.pages < 0).sum())
        if outside:
            self.notes += (f'{outside:,} results that belong to no frame of the recording were left out',)
        reserved = [*RESULT_HEAD, *dir(self._common.DynamicTable)]
        flattening = survey((result.result for _, result in self._chosen()), reserved)
        head: List[Tuple[float, int, int, int]] = []
        rows: List[List[Any]] = []
        for number, result in self._chosen():
            for box, *cells in flattening.rows(result.result):
                head.append((self._seconds(result.time_ns), int(result.index or 0), number, -1 if box is None else box))
                rows.append(cells)
        if not rows:
            return
        first = {name: (what, np.array(values)) for (name, what), values in zip(RESULT_HEAD.items(), zip(*head))}
        others = {name: (f'{_text(column.name)}{_AS_JSON if column.kind == "json" else ""}',
                         _column(column.kind, values))
                  for name, column, values in zip(_column_names(flattening, reserved), flattening.columns, zip(*rows))}
        module = self._file.create_processing_module('behavior', "What the recording's callback found in the frames.")
        module.add(self._table('results', 'Results of the callback; of one with boxes, a row for each box.',
                               {**first, **others}))

    def _chosen(self) -> Iterator[Tuple[int, Result]]:
        """The results of the chosen frames, and their numbers among all."""
        for number, result in enumerate(self._recording.results):
            if result.page is not None and result.page in self._pages:
                yield number, result


def _column(kind: str, values: Sequence[Any]) -> Any:
    """The cells of a column, all of one type; a missing one is NaN, or an empty text."""
    missing = any(value is None for value in values)
    if kind == 'int' and not missing:
        return np.array(values, np.int64)
    if kind in ('int', 'float') and all(value is None or abs(value) <= EXACT_IN_FLOAT or kind == 'float'
                                        for value in values):
        return np.array([math.nan if value is None else value for value in values], np.float64)
    if kind == 'bool' and not missing:
        return np.array(values, bool)
    return ['' if value is None else _text(value) for value in values]


def _column_names(flattening: Flattening, reserved: Sequence[str]) -> List[str]:
    """As HDF5 can hold them, no two alike, and none that is ``reserved``."""
    names: List[str] = []
    taken = set(reserved)
    for column in flattening.columns:
        name = _text(column.name).replace('/', '_').replace(':', '_')
        while name in taken:
            name += '_'
        taken.add(name)
        names.append(name)
    return names


def _text(value: Any) -> str:
    """As HDF5 can hold it: no NUL, no half of a surrogate pair."""
    return str(value).encode('utf-8', 'backslashreplace').decode('utf-8').replace('\0', '\\0')


def _camera(camera: Mapping[str, Any]) -> str:
    facts = [str(camera.get('model') or 'camera of unknown model')]
    if camera.get('width') and camera.get('height'):
        facts.append(f'{camera["width"]}×{camera["height"]} {camera.get("pixel_format", "")}'.strip())
    if isinstance(camera.get('framerate'), (int, float)):
        facts.append(f'{camera["framerate"]:g} frames a second asked for or granted')
    return ', '.join(facts)
