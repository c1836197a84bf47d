"""A recording of ours as a camera: the same frames again, gaps and all."""

from __future__ import annotations

import os
import threading
from typing import Any, List, Optional

import numpy as np

from ..errors import CameraError, CameraFormatError, RecordingFileError, RecordingFormatError
from ..recordings.reader import RecordingFile
from .base import CameraListing, CameraRequest, FrameSink, Granted, Stamp
from .capture import require_format
from .pace import Pace, PacedFile, chosen_pace
from .videofile import Broken

__all__ = ['ReplayCamera']

CLOSE_TIMEOUT_S = 2.0


class ReplayCamera(PacedFile):
    """Replays a recording at the pace of its own times (``pace='own'``) or as fast as it is taken (``'fastest'``).

    Args:
        path: a TIFF made by this package, finished or not.
        pace: also as ``camera_controls={'pace': ...}``.

    It waits for the recorder. Frames that the original lost are reported as lost again, at their places (its frame
    index is the camera's counter). Pages that cannot be decoded, and a recording that never came to its end, are
    reported as 'source broke off'; everything readable is delivered. Of a recording that was split into several
    files it plays the one that it is given. Times count from the first page.
    """

    name = 'replay'

    def __init__(self, path: Any, pace: str = 'own') -> None:
        super().__init__(path, pace)
        self._file: Optional[RecordingFile] = None

    def open(self, request: CameraRequest) -> Granted:
        pace = chosen_pace(self.pace, request.controls, 'a replay')
        self._pace, self._busy = Pace(pace), threading.Lock()
        self._page = 0
        self._broken: List[Broken] = []
        file = self._file = self._open_file()
        size = (file.width, file.height)
        if request.pixel_format != file.pixel_format:
            raise CameraFormatError(f'the recording {self.path} is {file.pixel_format!r}, not '
                                    f'{request.pixel_format!r}; pass pixel_format={file.pixel_format!r}')
        rate = self._read_times(file)
        require_format(request, size, rate, f'the recording {self.path}')
        return Granted(*size, *size, rate, file.pixel_format, "the recording's own times, from its first page", 'count',
                       waits=True, model=os.path.basename(self.path), details={
                           'path': self.path, 'pace': pace, 'pages': len(self._times), 'finished': file.finished,
                           'original_start_ns': int(self._times[0])})

    def read(self, out: np.ndarray) -> Optional[Stamp]:
        if self._file is None or self._pace is None:
            raise CameraError('read() before open(): open the camera first')
        page = self._read_intact(self._file, out)
        if page is None:
            return None
        stamp = Stamp(int(self._times[page] - self._times[0]), None, int(self._indexes[page]))
        assert stamp.sensor_ns is not None
        return stamp if self._pace.wait(stamp.sensor_ns, self._period_ns) else None

    def stream(self, sink: FrameSink) -> None:
        while not sink.stopping:
            stamp = self.read(sink.slot())
            self._tell(sink)
            if stamp is None:
                return
            sink.commit(stamp)

    def close(self) -> None:
        if self._pace is not None:
            self._pace.close()
        # Closing the file under a read in another thread would have it read from whatever gets the descriptor next.
        if self._file is not None and self._busy.acquire(timeout=CLOSE_TIMEOUT_S):
            self._file.close()
            self._busy.release()

    def _open_file(self) -> RecordingFile:
        try:
            return RecordingFile(self.path)
        except RecordingFormatError as error:
            raise CameraError(f'{self.path} cannot be replayed: {error}') from error
        except RecordingFileError as error:
            raise CameraError(f'{self.path} cannot be opened: {error}') from error

    def _read_times(self, file: RecordingFile) -> Optional[float]:
        try:
            index = file.index()
        except RecordingFileError as error:
            raise CameraError(f'{self.path} cannot be replayed: {error}') from error
        self._times, self._indexes = index['time_ns'].astype(np.int64), index['index'].astype(np.int64)
        steps = np.diff(self._indexes)
        self._period_ns = float(np.median(np.diff(self._times) / np.maximum(steps, 1))) if len(steps) else 0.0
        return 1e9 / self._period_ns if self._period_ns > 0 else None

    def _read_intact(self, file: RecordingFile, out: np.ndarray) -> Optional[int]:
        """Decode the next page that can be decoded into ``out``; returns its number, None after the last."""
        assert self._pace is not None
        while not self._pace.closed and self._page < len(self._times):
            page = self._page
            self._page += 1
            try:
                with self._busy:
                    file.read_page(page, out, 'bgr')
                return page
            except RecordingFileError as error:
                self._broken.append(Broken(1, f'page {page} cannot be read: {error}'))
        if not self._pace.closed and not file.finished:
            self._broken.append(Broken(0, f'the recording was never finished; its {len(self._times)} pages were read'))
        return None

    def _tell(self, sink: FrameSink) -> None:
        broken, self._broken = self._broken, []
        for count, detail in broken:
            sink.lost(count, 'source broke off', detail=detail)

    @classmethod
    def listings(cls) -> List[CameraListing]:
        return [CameraListing('RECORDING', 'a TIFF recorded by this package, replayed', True)]
