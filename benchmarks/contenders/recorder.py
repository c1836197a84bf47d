"""This project's recorder, in its several ways."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, ClassVar, Dict, Iterator, Optional, Sequence

import numpy as np

from ..frames import PreloadedCamera
from .base import Contender, Meter

__all__ = ['RECORDERS']

RING = 120      # frames: what a camera of 60 Hz gets by default


def pass_through(buffer: Any, cb_queue: Any) -> np.ndarray:
    """The cheapest callback that returns a frame to be recorded."""
    return buffer[-1]


def look_only(buffer: Any, cb_queue: Any) -> None:
    """The cheapest callback: the frame is recorded as it came."""


class Recorder(Contender):
    """A blocking recording of a camera that waits for the recorder and copies each frame from memory into its slot.

    details: the report's, and start_s, from recordVid to the first frame; end_s, from the last frame taken (a whole
    ring may wait to be written then) to its return.
    """

    group = 'recorder'
    cb_type: ClassVar[Optional[str]] = None
    callback: ClassVar[Any] = None
    level: ClassVar[int] = 6

    def record(self, frames: Sequence[np.ndarray], count: int, folder: Path, meter: Meter) -> Dict[str, Any]:
        from ProcessedPiRecorder import ProcessedPiRecorder
        height, width = frames[0].shape[:2]
        camera = PreloadedCamera(frames, count)
        rec = ProcessedPiRecorder(self.path(folder), width, height, 1, 0, display=False, camera=camera, overwrite=True,
                                  tif_compression=self.level, ring_frames=RING, cb_type=self.cb_type,
                                  callback=type(self).__dict__['callback'] if self.cb_type else None,
                                  pixel_format='gray' if frames[0].ndim == 2 else 'bgr')
        meter.begin()
        begun_ns = time.monotonic_ns()
        report = rec.recordVid()
        ended_ns = time.monotonic_ns()
        meter.first_frame(camera.first_ns)
        if report is None or report.complete != 'yes' or report.written != count:
            raise RuntimeError(f'the recording is not complete: {report}')
        return {'start_s': (camera.first_ns - begun_ns) / 1e9, 'end_s': (ended_ns - int(camera.ready_ns[-1])) / 1e9,
                'effort': report.effort, 'ring_high_water': report.ring_high_water, 'latency_ms': report.latency_ms,
                'compression_ratio': report.compression_ratio, 'callback_ms': report.callback_ms}

    def decode(self, path: Path) -> Iterator[np.ndarray]:
        """By tifffile; pages are RGB."""
        import tifffile
        with tifffile.TiffFile(path) as tif:
            for page in tif.pages:
                image = page.asarray()
                yield image if image.ndim == 2 else image[..., ::-1]


class NoCallback(Recorder):
    name, what = 'recorder, no callback', 'this recorder, no callback'


class TwoProc(Recorder):
    name, what = "recorder, '2Proc'", "this recorder, '2Proc' callback that returns its frame"
    cb_type, callback = '2Proc', pass_through


class ThreeProc(Recorder):
    name, what = "recorder, '3Proc'", "this recorder, '3Proc' callback that returns its frame"
    cb_type, callback = '3Proc', pass_through


class ThreeProcNone(Recorder):
    name, what = "recorder, '3Proc', None", "this recorder, '3Proc' callback that returns None"
    cb_type, callback = '3Proc', look_only


class NoCallbackPlain(NoCallback):
    name, what, level = 'recorder, no callback, uncompressed', 'the same with tif_compression=0', 0


class TwoProcPlain(TwoProc):
    name, what, level = "recorder, '2Proc', uncompressed", 'the same with tif_compression=0', 0
    callback = pass_through


class ThreeProcPlain(ThreeProc):
    name, what, level = "recorder, '3Proc', uncompressed", 'the same with tif_compression=0', 0
    callback = pass_through


class ThreeProcNonePlain(ThreeProcNone):
    name, what, level = "recorder, '3Proc', None, uncompressed", 'the same with tif_compression=0', 0
    callback = look_only


RECORDERS = (NoCallback, TwoProc, ThreeProc, ThreeProcNone, NoCallbackPlain, TwoProcPlain, ThreeProcPlain,
             ThreeProcNonePlain)
