"""The files of a soak: every finished part is checked while the next ones are recorded, and then makes room for them.

Half an hour of 1280×480 in colour at 60 Hz is some 100 GB. So the recording is split, and deleting the parts that were
checked belongs to the soak. The recorder does not mind: it never looks back at a part that it has finished. The
exception is the first one, whose name is the recording's: that it is still there at the end, the recorder checks.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import List, Optional

from ProcessedPiRecorder.cameras import SyntheticCamera
from ProcessedPiRecorder.errors import RecordingFileError
from ProcessedPiRecorder.recordings.part import part_path
from ProcessedPiRecorder.recordings.reader import RecordingFile

__all__ = ['PartKeeper']

CHECK_EVERY = 10        # pages: of these the checksum is verified ...
DECODE_EVERY = 60       # ... and of these the pixels are decoded, and the frame's painted number read
NICENESS = 10           # the recording goes first


class PartKeeper:
    """Checks the parts of one recording in a thread of its own, as they are finished.

    Attributes, for the judgement (read them after ``finish``):
        pages: in all parts checked; verified, decoded: of these; parts; removed_bytes.
        problems: what was found wrong, as texts.
    """

    def __init__(self, path: Path, keep: bool) -> None:
        self.pages = self.verified = self.decoded = self.parts = self.removed_bytes = 0
        self.problems: List[str] = []
        self._path, self._keep = path, keep
        self._last_index, self._last_ns = -1, 0
        self._look = threading.Event()
        self._recorded = False
        self._thread = threading.Thread(target=self._work, name='soak-parts', daemon=True)
        self._thread.start()

    def look(self) -> None:
        """There may be a new part. Never blocks."""
        self._look.set()

    def finish(self) -> None:
        """The recording has ended: check the rest, remove it unless it is to be kept. Blocks."""
        self._recorded = True
        self._look.set()
        self._thread.join()

    def _work(self) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        number = 0
        while True:
            path = part_path(self._path, number)
            if path.exists() and (self._recorded or _is_finished(path)):
                self._check(path)
                if number and not self._keep:
                    self._remove(path)
                number += 1
            elif self._recorded:
                break
            else:
                self._look.wait()
                self._look.clear()
        if not self._keep:
            self._remove(self._path)

    def _check(self, path: Path) -> None:
        self.parts += 1
        try:
            with RecordingFile(path) as recording:
                if not recording.finished:
                    self.problems.append(f'{path.name} is not finished')
                self._check_order(path, recording)
                self._check_pages(path, recording)
        except RecordingFileError as error:
            self.problems.append(str(error))

    def _check_order(self, path: Path, recording: RecordingFile) -> None:
        """All pages: no frame is missing, none comes twice, time goes on; also from one part to the next."""
        for row in recording.index():
            if row['index'] != self._last_index + 1 or row['time_ns'] <= self._last_ns:
                self.problems.append(f'{path.name}: frame {row["index"]} follows frame {self._last_index}')
            self._last_index, self._last_ns = int(row['index']), int(row['time_ns'])
        self.pages += recording.pages

    def _check_pages(self, path: Path, recording: RecordingFile) -> None:
        for page in {*range(0, recording.pages, CHECK_EVERY), recording.pages - 1}:
            self.verified += 1
            if not recording.verify_page(page):
                self.problems.append(f'{path.name}, page {page}: its checksum does not fit')
        for page in range(0, recording.pages, DECODE_EVERY):
            self.decoded += 1
            painted = _painted_number(recording, page)
            if painted != recording.page_record(page).index:
                self.problems.append(f'{path.name}, page {page} holds the picture of frame {painted}')

    def _remove(self, path: Path) -> None:
        try:
            self.removed_bytes += path.stat().st_size
            path.unlink()
        except FileNotFoundError:
            self.problems.append(f'{path.name} is not there')


def _painted_number(recording: RecordingFile, page: int) -> Optional[int]:
    """The number that the camera painted into the frame; None: a torn image."""
    try:
        return SyntheticCamera.index_of(recording.read_page(page))
    except ValueError:
        return None


def _is_finished(path: Path) -> bool:
    try:
        with RecordingFile(path) as recording:
            return recording.finished
    except RecordingFileError:         # it has no page yet
        return False
