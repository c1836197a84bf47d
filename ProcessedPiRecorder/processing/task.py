"""What is to be processed again, how, and where what comes of it goes: settled before anything starts."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Callable, Dict, Mapping, Optional

import numpy as np

from ..errors import ProcessingError, SettingsError
from ..reading import Recording
from ..reading.kept import Opening, opening_of
from ..settings import Settings
from .outputs import Outputs

__all__ = ['Progress', 'Task', 'task_for']

#: Called with (frames done, frames in all) in the processing thread; what it raises ends the processing.
Progress = Callable[[int, int], None]

#: Settings of a recording that hold for its processing too, unless told otherwise.
STORED = ('buffer_length', 'Hz_buffer', 'cb_timeout', 'cb_start_timeout', 'tif_compression', 'split_frames', 'stereo')
#: Further ones that may be told.
TOLD = ('start_method', 'ring_frames', 'ring_mb', 'sync_interval', 'disk_reserve_mb', 'metadata')


@dataclass(frozen=True)
class Task:
    """One recording to be processed.

    Attributes:
        recording: open for as long as it is worked on. callback: the user's, as it was given.
        outputs: where results, failures and the processed recording go.
        record: 'returned' or 'raw': what a processed recording holds.
        settings: arguments of the recorder that hold for it: always ``buffer_length``; what was told, and what the
            recording has stored.
        rate_hz: of a TIFF without times. progress: may be None.
    """

    recording: Recording
    callback: Callable[..., Any]
    outputs: Outputs
    record: str = 'returned'
    settings: Mapping[str, Any] = field(default_factory=dict)
    rate_hz: Optional[float] = None
    progress: Optional[Progress] = None

    @property
    def buffer_length(self) -> int:
        """Frames in the callback's deque."""
        return int(self.settings['buffer_length'])

    @cached_property
    def opening(self) -> Opening:
        """For those who process blocks of it elsewhere. Raises RecordingFileError where a file has gone."""
        return opening_of(self.recording)

    @cached_property
    def times_ns(self) -> np.ndarray:
        """Of each page, int64; of a TIFF without times: from 0 on, at ``rate_hz``."""
        if self.recording.times_ns is not None:
            return self.recording.times_ns
        assert self.rate_hz is not None
        return times_at(self.rate_hz, len(self.recording))

    @cached_property
    def indices(self) -> np.ndarray:
        """Of each page, int64; of a TIFF without numbers: its pages'."""
        known = self.recording.indices
        return np.arange(len(self.recording), dtype=np.int64) if known is None else known

    def stored_settings(self) -> Dict[str, Any]:
        """What a processed recording tells of its settings: the original's, and in place of some this processing's."""
        own = _checked(self.settings, self.callback, self.record, self.outputs, self.recording).as_dict()
        taken = {'callback', 'record', *self.settings} - {'metadata'}
        return {**self.recording.settings, **{name: own[name] for name in taken}}

    def stored_metadata(self) -> Dict[str, Any]:
        """The original's, what was told, and where the pages come from; the original's marks, which no page tells."""
        recording = self.recording
        origin = {'recording': recording.path.name, 'frames': len(recording), 'marks': recording.marks}
        return {**recording.metadata, **(self.settings.get('metadata') or {}), 'processed': origin}

    def tell(self, done: int) -> None:
        """So many frames are done."""
        if self.progress is not None:
            self.progress(done, len(self.recording))

    def notes(self) -> 'list[str]':
        """What whoever relies on the results has to know of the recording, one sentence each."""
        recording = self.recording
        notes = list(recording.notes)
        if not recording.is_ours:
            notes.append(f'its frames were given the numbers of its pages, and times at {self.rate_hz:g} Hz from 0 on')
        returned = 0 if recording.status is None else int(np.count_nonzero(recording.status == 'returned'))
        if returned:
            notes.append(f'{returned:,} of its {len(recording):,} pages hold what a callback had returned, not what '
                         'the camera gave; the callback now sees those')
        return notes


def task_for(recording: Recording, callback: Any, *, out: Any, results: Any, overwrite: bool, record: str,
             rate_hz: Optional[float], progress: Optional[Progress], told: Mapping[str, Any]) -> Task:
    """Check everything that can be checked before it begins. Raises SettingsError, ProcessingError."""
    if not callable(callback):
        raise SettingsError(f'callback must be a function callback(buffer, cb_queue), got {type(callback).__name__}; '
                            'pass the function itself')
    settings = _settings(recording, told)
    if recording.dtype != np.uint8:
        raise ProcessingError(f'{recording.path} holds samples of {recording.dtype}, and callbacks take 8 bits '
                              '(uint8); convert it first')
    rate_hz = _rate(recording, rate_hz)
    outputs = Outputs(recording, out, results, overwrite)
    _checked(settings, callback, record, outputs, recording)
    return Task(recording, callback, outputs, record, settings, rate_hz, progress)


def _checked(settings: Mapping[str, Any], callback: Callable[..., Any], record: str, outputs: Outputs,
             recording: Recording) -> Settings:
    """The recorder's, for this. Raises SettingsError."""
    return Settings(**{**settings, 'metadata': settings.get('metadata', {})}, callback=callback, record=record,
                    display=False, tif_path=outputs.out, write_vid=outputs.out is not None,
                    pixel_format=recording.pixel_format)


def _settings(recording: Recording, told: Mapping[str, Any]) -> Dict[str, Any]:
    unknown = [name for name in told if name not in (*STORED, *TOLD)]
    if unknown:
        raise SettingsError(f'{unknown[0]!r} is no setting of process(); it takes {", ".join((*STORED, *TOLD))}')
    stored = {name: recording.settings[name] for name in STORED if name in recording.settings}
    defaults = {'buffer_length': 1}
    return {**defaults, **stored, **{name: value for name, value in told.items() if value is not None}}


def _rate(recording: Recording, rate_hz: Optional[float]) -> Optional[float]:
    if recording.times_ns is not None:
        if rate_hz is not None:
            raise SettingsError(f'{recording.path} has times of its own, and rate_hz={rate_hz!r} would be another one; '
                                'leave rate_hz out')
        return None
    if rate_hz is None:
        raise ProcessingError(f'{recording.path} was not made by ProcessedPiRecorder, and its frames have no times; '
                              'pass rate_hz=..., the rate at which it was taken, to give them some')
    if not isinstance(rate_hz, numbers.Real) or not 0 < rate_hz < math.inf:
        raise SettingsError(f'rate_hz={rate_hz!r} is no rate; pass the frames a second at which it was taken')
    return float(rate_hz)


def times_at(rate_hz: float, frames: int) -> np.ndarray:
    """Times of frames at a fixed rate, from 0 on, ns, int64."""
    return np.rint(np.arange(frames) * (1e9 / rate_hz)).astype(np.int64)
