"""Recordings to do harm to: drawn by chance, recorded by a witness camera, and judged."""

from __future__ import annotations

import os
import random
import warnings
from pathlib import Path
from typing import Any, Callable, Dict, Optional

import numpy as np

from ProcessedPiRecorder import ProcessedPiRecorder
from ProcessedPiRecorder.cameras import CameraRequest
from ProcessedPiRecorder.errors import RecorderError
from ProcessedPiRecorder.report import Report
from tests.faults.judge import Truth, judge
from tests.faults.outcome import Outcome
from tests.faults.witness import WitnessCamera, delivered, synced

#: A camera like hardware: its own pace, no end; many buffers forgive the machine that runs this.
PACED: Dict[str, Any] = {'pace': True, 'frames': None, 'buffers': 2000}
SIZES = ((96, 64), (128, 96), (160, 120), (240, 160))
LIMIT_S = 45.0

#: The shortened form, for `make test`: fewer frames, shorter waits, the same faults.
SHORT = 'PPR_FAULTS_SHORT' in os.environ


def frames(rng: random.Random) -> int:
    """How many frames a recording without pace has."""
    return rng.randint(40, 60) if SHORT else rng.randint(60, 300)


def seconds(rng: random.Random, low: float, high: float) -> float:
    """How long something lasts; the shortest there is in the shortened form."""
    return low if SHORT else rng.uniform(low, high)


def draw(rng: random.Random, **fixed: Any) -> Dict[str, Any]:
    """Settings drawn by chance; ``fixed`` ones go before."""
    width, height = rng.choice(SIZES[:2] if SHORT else SIZES)
    drawn = {'x_resolution': width, 'y_resolution': height, 'framerate': rng.choice((60, 100, 200)),
             'pixel_format': rng.choice(('gray', 'bgr')), 'tif_compression': rng.choice((0, 1, 6, 9)),
             'split_frames': rng.choice((0, 0, 0, 17, 50)), 'sync_interval': rng.choice((0.05, 0.2, 1.0)),
             'cb_delivery': rng.choice(('every', 'latest')),
             'start_method': 'spawn' if rng.random() < 0.1 and not SHORT else None}
    return {**drawn, **fixed}


class Trial:
    """One recording and everything that is known of it.

    Attributes: path; folder: where the witness writes; recorder, report, error: as they came.
    """

    def __init__(self, folder: Path, rng: random.Random, *, camera: Optional[Dict[str, Any]] = None,
                 change: Any = None, **fixed: Any) -> None:
        self.path = folder / 'trial.tif'
        self.witness = folder.parent / '.witness'
        self.witness.mkdir(exist_ok=True)
        self.settings = draw(rng, **fixed)
        self.controls = {'pace': False, 'frames': frames(rng), **(camera or {})}
        self.change = change
        self.report: Optional[Report] = None
        self.error: Optional[BaseException] = None
        self.recorder: Any = None
        self.hung = False

    def run(self, act: Callable[[Any], None] = lambda recorder: None, limit_s: float = LIMIT_S) -> Trial:
        """Record; ``act(recorder)`` runs in the meantime, in this process. Hung: it takes longer than ``limit_s``."""
        camera = WitnessCamera(self.witness, self.change, **self.controls)
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            try:
                self.recorder = ProcessedPiRecorder(self.path, camera=camera, display=False, blocking=False,
                                                    **self.settings)
                self.recorder.recordVid()
                act(self.recorder)
                self.hung = self.recorder.wait(limit_s) is None and self.recorder.recording
                if not self.hung:
                    self.recorder.close()
            except RecorderError as error:
                self.error = error
            if self.recorder is not None:
                self.report = None if self.hung else self.recorder.report
        return self

    def camera(self) -> WitnessCamera:
        """The camera as the recorder had it, for its truth."""
        camera, settings = WitnessCamera(**self.controls), self.settings
        camera.configure(CameraRequest(settings['x_resolution'], settings['y_resolution'], 1, settings['framerate'],
                                       settings['pixel_format']))
        return camera

    def judged(self, *, returned: Optional[Callable[[np.ndarray], np.ndarray]] = None, own_numbers: bool = False,
               **options: Any) -> Outcome:
        """The outcome. The recorder is let go of, so that what it holds counts as left behind."""
        given = delivered(self.witness)
        truth = Truth(self.camera(), given, synced(self.witness), returned, own_numbers)
        outcome = judge(self.path, truth, self.report, self.error, **options)
        outcome.hung = self.hung
        shown = {name: value for name, value in self.settings.items() if name != 'callback' and value is not None}
        error = '' if self.error is None else f'{self.error}'.replace('\n', ' ')[:200]
        outcome.notes = ' · '.join(filter(None, (outcome.notes, error, f'{shown}', f'{self.controls}')))
        self.recorder = None
        return outcome
