"""The measurements, one after the other, and what they are called."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional

from ..settings import MAX_RING_FRAMES
from .codec import CodecSpeed, measure_codec
from .disk import DiskSpeed, measure_disk
from .loop import Frames, LoopCamera, SharedFrames
from .place import Place, working_folder
from .search import Attempt, Search, highest_rate
from .trial import Trial, Watch, callback_times, make_trial

__all__ = ['Measurements', 'NamedTrial', 'measure']

#: A camera's rate and what was asked for are one, this close to each other.
SAME_RATE = 0.98
#: Rates beyond so many times the asked one are not tried: that is room enough.
CEILING = 4.0
CAMERA_RUNS = 2                    # lengths of a trial that the camera's own run lasts
TRIALS_AS_ASKED, TRIALS_WITHOUT_LOSS = 3, 2
TRIALS_S = 60.0                    # no trial is begun after so many seconds of them
#: However low a rate is, a trial is to have so many frames, unless that takes longer than this.
FEWEST_FRAMES, LONGEST_S = 30, 10.0
LONGEST_FIRST_CALL_S = 20.0
KEPT_BYTES = 48_000_000
#: Where effort may fall, a ring so short that it must fall within the trial, if it ever will.
SHORT_RING_S, SHORTEST_RING = 0.5, 8
FIRST_SHARE = 0.9                  # of what the slowest stage does alone, the first trial asks

Say = Callable[[str], None]


class NamedTrial(NamedTuple):
    """purpose: 'camera', 'as_asked' or 'without_loss'."""

    purpose: str
    trial: Trial


@dataclass
class Measurements:
    """What was measured; None or empty: it was not, because there was nothing to measure or no room for it.

    Attributes:
        arguments: the recorder's. run_seconds: length of a trial.
        asked_hz: the rate that the question is about.
        first_call_ms, callback_mean_ms: of the callback, in the camera's run.
        as_asked: the search for the highest rate with nothing lost, by-passed or spared. without_loss: with nothing
            lost, whatever else; None where that can be no other rate.
    """

    arguments: Mapping[str, Any]
    run_seconds: float
    place: Place
    asked_hz: float = 0.0
    trials: List[NamedTrial] = field(default_factory=list)
    first_call_ms: Optional[float] = None
    callback_mean_ms: Optional[float] = None
    disk: Optional[DiskSpeed] = None
    codec: List[CodecSpeed] = field(default_factory=list)
    as_asked: Optional[Search] = None
    without_loss: Optional[Search] = None
    seconds: float = 0.0

    @property
    def camera_run(self) -> Optional[Trial]:
        """The recording of the camera itself."""
        return next((trial for purpose, trial in self.trials if purpose == 'camera'), None)

    @property
    def every(self) -> bool:
        """Whether the callback is to see every frame."""
        return self.arguments['callback'] is not None and self.arguments['cb_delivery'] == 'every'

    @property
    def ceiling_hz(self) -> float:
        """No rate above it was tried."""
        return CEILING * self.asked_hz

    @property
    def lowest_tried_hz(self) -> Optional[float]:
        """The lowest rate of any trial."""
        return min((trial.rate_hz for purpose, trial in self.trials if purpose != 'camera'), default=None)

    @property
    def starts_slowly(self) -> bool:
        """Whether the first call takes so long that frames by-pass the callback for it at the start."""
        return (self.first_call_ms or 0.0) > 1000 * 0.25 * self.run_seconds

    def trial_at(self, purpose: str, rate_hz: Optional[float]) -> Optional[Trial]:
        """The trial for this purpose at this rate."""
        return next((trial for name, trial in self.trials if name == purpose and trial.rate_hz == rate_hz), None)


def measure(arguments: Mapping[str, Any], place: Place, run_seconds: float, say: Say, watch: Watch) -> Measurements:
    """Make all measurements; blocks for 10 to 30 s with trials of 2 s, and for what camera and callback take to start.

    Args:
        arguments: the recorder's, as checked by ``find_place``.
        say: gets a line about each step before it begins. watch: gets the Status of running recordings.

    Raises what the recorder raises. Nothing is left behind, whatever is raised.
    """
    began = time.monotonic()
    with working_folder(place) as folder:
        measured = Measurements(arguments, run_seconds, place)
        _Measuring(measured, folder, say, watch).run()
    measured.seconds = time.monotonic() - began
    return measured


class _Measuring:
    """Makes the measurements in this folder, which is ours."""

    def __init__(self, measured: Measurements, folder: Path, say: Say, watch: Watch) -> None:
        self._to, self._folder, self._say, self._watch = measured, folder, say, watch
        self._writes = measured.place.folder is not None
        self._no_more_trials = 0.0

    def run(self) -> None:
        measured = self._to
        if not measured.place.takes_recordings:
            self._measure_disk(4 * (1 << 20))
            return
        camera_run = self._run_camera()
        if self._writes:
            self._measure_disk((camera_run.bytes_a_frame or 0) * measured.asked_hz
                               * float(measured.arguments['sync_interval']))
            self._say('measuring how fast these frames can be compressed')
            measured.codec = measure_codec(self._path('camera'), measured.arguments['tif_compression'])
        self._tidy()
        with SharedFrames(camera_run.frames) as shared:
            camera_run.frames.clear()
            self._search(shared.frames)

    # -- the camera itself

    def _run_camera(self) -> Trial:
        measured = self._to
        asked_hz = float(measured.arguments['framerate'])
        seconds = max(CAMERA_RUNS * measured.run_seconds, _long_enough(asked_hz, 0.0))
        self._say(f'recording the camera for {seconds:g} s')
        trial = self._make('camera', {**measured.arguments, 'rec_length': seconds,
                                      'log_file': self._folder / 'camera.csv'}, asked_hz, keep_bytes=KEPT_BYTES)
        measured.asked_hz = asked_hz or trial.granted.framerate or trial.camera_hz
        if measured.arguments['callback'] is not None:
            measured.first_call_ms, measured.callback_mean_ms = callback_times(self._folder / 'camera.csv',
                                                                               trial.report)
        return trial

    def _make(self, purpose: str, arguments: Mapping[str, Any], rate_hz: float, **more: Any) -> Trial:
        ours: Dict[str, Any] = {'tif_path': self._path(purpose) if self._writes else None, 'overwrite': True}
        room = self._to.place.room if self._writes else 1 << 62
        trial = make_trial({**arguments, **ours}, rate_hz, room=room, watch=self._watch, **more)
        self._to.trials.append(NamedTrial(purpose, trial))
        return trial

    def _path(self, purpose: str) -> Path:
        return self._folder / f'{purpose}.tif'

    def _tidy(self) -> None:
        for path in self._folder.iterdir():
            path.unlink()

    def _measure_disk(self, bytes_a_sync: float) -> None:
        place = self._to.place
        if place.volume is not None:
            self._say('measuring how fast the disk takes what is written')
            # Also where no recording may be made: to know how slow it is costs nothing.
            self._to.disk = measure_disk(self._folder, place.room, bytes_a_sync)

    # -- the highest rates

    def _search(self, frames: Frames) -> None:
        measured = self._to
        if measured.asked_hz <= 0:
            return
        self._no_more_trials = time.monotonic() + TRIALS_S
        camera_run = measured.camera_run
        assert camera_run is not None
        if camera_run.report.callback_restarts:
            return                         # each further trial would take its time-outs, and tell no more
        holds = not camera_run.granted.waits and not camera_run.shortfalls(measured.every) \
            and camera_run.camera_hz >= SAME_RATE * measured.asked_hz
        measured.as_asked = self._highest('as_asked', frames, TRIALS_AS_ASKED, FIRST_SHARE * self._slowest_hz(),
                                          measured.asked_hz if holds else None)
        can_yield = measured.every or (self._writes and len(measured.codec) > 1)
        if can_yield and (measured.as_asked.held_hz or 0.0) < measured.ceiling_hz:
            first = FIRST_SHARE * self._least_effort_hz()
            measured.without_loss = self._highest('without_loss', frames, TRIALS_WITHOUT_LOSS, first,
                                                  measured.as_asked.held_hz)

    def _highest(self, purpose: str, frames: Frames, most: int, first_hz: float, known_hz: Optional[float]) -> Search:
        strict = purpose == 'as_asked'

        def attempt(rate_hz: float) -> Attempt:
            trial = self._try(purpose, frames, rate_hz)
            shortfalls = trial.shortfalls(self._to.every, strict)
            return Attempt(rate_hz, not shortfalls, trial.served_hz('by-passed' in shortfalls))

        return highest_rate(attempt, first=max(first_hz, (known_hz or 0.0) * 1.2), ceiling=self._to.ceiling_hz,
                            asked=self._to.asked_hz, known=known_hz,
                            go_on=lambda made: made < most and time.monotonic() < self._no_more_trials)

    def _try(self, purpose: str, frames: Frames, rate_hz: float) -> Trial:
        measured = self._to
        camera_run = measured.camera_run
        assert camera_run is not None
        self._say(f'trying {rate_hz:.4g} Hz' + ('' if purpose == 'as_asked' else ', as long as nothing is lost'))
        settling_s = min((measured.first_call_ms or 0.0) / 1000, LONGEST_FIRST_CALL_S)
        arguments = {
            **measured.arguments, 'camera': LoopCamera(frames, camera_run.granted, rate_hz), 'framerate': rate_hz,
            'rec_length': settling_s + max(measured.run_seconds, _long_enough(rate_hz, measured.run_seconds)),
            'camera_controls': {}, 'log_file': self._folder / 'trial.csv' if measured.arguments['log_file'] else None,
            # What the ring must bridge at this rate is not what it must bridge at the asked one.
            'cb_timeout': None}
        if purpose == 'without_loss':
            arguments.update(ring_mb=None, ring_frames=self._short_ring(rate_hz, camera_run.report.ring_frames))
        trial = self._make(purpose, arguments, rate_hz, settling_s=settling_s)
        self._tidy()
        return trial

    @staticmethod
    def _short_ring(rate_hz: float, asked_frames: int) -> int:
        return min(max(round(SHORT_RING_S * rate_hz), SHORTEST_RING), max(asked_frames, SHORTEST_RING), MAX_RING_FRAMES)

    def _slowest_hz(self) -> float:
        """What the slowest stage does alone."""
        measured = self._to
        rates = [self._to.ceiling_hz / FIRST_SHARE]
        if measured.every and measured.callback_mean_ms:
            rates.append(1000 / measured.callback_mean_ms)
        rates += [speed.rate_hz for speed in measured.codec[:1]]
        camera_run = measured.camera_run
        if measured.disk is not None and camera_run is not None and camera_run.bytes_a_frame:
            rates.append(measured.disk.bytes_a_second / camera_run.bytes_a_frame)
        return min(rates)

    def _least_effort_hz(self) -> float:
        measured = self._to
        rates = [self._to.ceiling_hz / FIRST_SHARE, *(speed.rate_hz for speed in measured.codec[-1:])]
        return min(rates)


def _long_enough(rate_hz: float, otherwise: float) -> float:
    """Seconds of a recording that is to have some frames."""
    return min(FEWEST_FRAMES / rate_hz, LONGEST_S) if rate_hz else otherwise
