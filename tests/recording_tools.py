"""What several tests need: short recordings, callbacks that misbehave, and the judges that read files back."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import numpy as np

from ProcessedPiRecorder import ProcessedPiRecorder
from ProcessedPiRecorder.cameras import CameraRequest, SyntheticCamera
from ProcessedPiRecorder.recordings.reader import RecordingFile
from ProcessedPiRecorder.recordings.results import read_results

ROOT = Path(__file__).resolve().parent.parent
WIDTH, HEIGHT = 96, 64


def recorder(path: Optional[Path], **settings: Any) -> ProcessedPiRecorder:
    """A recorder of a small synthetic camera; 30 frames, as fast as possible, unless told otherwise."""
    controls = {'pace': False, 'frames': 30, **settings.pop('controls', {})}
    options: Dict[str, Any] = {'camera': 'synthetic', 'display': False, 'x_resolution': WIDTH, 'y_resolution': HEIGHT,
                               'framerate': 100, 'camera_controls': controls}
    options.update(settings)
    return ProcessedPiRecorder(path, **options)


def paced(**controls: Any) -> Dict[str, Any]:
    """Camera controls for a synthetic camera that behaves like hardware: its own pace, no end.

    Its many buffers forgive the machine that runs the tests: a reader that does not get the processor for a while.
    """
    return {'pace': True, 'frames': None, 'buffers': 1000, **controls}


def truth(settings: Any, **controls: Any) -> Callable[[int], np.ndarray]:
    """The exact image of each frame of a synthetic recording with these settings."""
    camera = SyntheticCamera()
    camera.configure(CameraRequest(settings.x_resolution, settings.y_resolution, settings.scale_factor,
                                   settings.framerate, settings.pixel_format, settings.stereo,
                                   {**settings.camera_controls, **controls}))
    return camera.frame


def pages(path: Path) -> Iterator[Tuple[Any, np.ndarray]]:
    """Each page's record and pixels (BGR or gray), read by our own reader, checksums verified."""
    with RecordingFile(path) as recording:
        for number in range(recording.pages):
            assert recording.verify_page(number)
            yield recording.page_record(number), recording.read_page(number)


def statuses(path: Path) -> List[str]:
    """Each page's status."""
    with RecordingFile(path) as recording:
        return [recording.page_record(number).status for number in range(recording.pages)]


def results(path: Path) -> List[Tuple[Any, Any, Any]]:
    """What is stored of the callback's results."""
    return list(read_results(path.with_suffix('.results.jsonl')))


def assert_matches_truth(path: Path, settings: Any, count: int) -> None:
    """Every page is the synthetic camera's frame of its index, and none is missing."""
    frame = truth(settings)
    seen = []
    for record, image in pages(path):
        np.testing.assert_array_equal(image, frame(record.index))
        seen.append(record.index)
    assert seen == list(range(count))


def run_script(text: str, folder: Path, *, wait: bool = True, python: str = sys.executable,
               **options: Any) -> 'subprocess.Popen[str]':
    """A user's script in a process of its own, with the package importable."""
    script = folder / 'script.py'
    script.write_text(text)
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'PYTHONUNBUFFERED': '1'}
    process = subprocess.Popen([python, str(script)], cwd=folder, env=environment, text=True, stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
    if wait:
        process.out, process.err = process.communicate(timeout=50)   # type: ignore[attr-defined]
    return process


def wait_until(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    """The condition's value once it is true."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value or time.monotonic() > deadline:
            assert value, 'it did not happen in time'
            return value
        time.sleep(0.01)
