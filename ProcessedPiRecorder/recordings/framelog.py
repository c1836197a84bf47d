"""The frame log: a CSV file with one row a frame, for spreadsheets and scripts."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional, TextIO

from ..errors import RecordingFileError
from .bigtiff import file_error

__all__ = ['COLUMNS', 'FrameLog']

COLUMNS = ('page', 'index', 'time_ns', 'sensor_ns', 'host_ns', 'status', 'effort', 'bytes', 'written_ns',
           'callback_ms', 'skew_ns')


class FrameLog:
    """Writes the rows; buffered. One thread at a time.

    Created exclusively unless ``overwrite``. Every method but ``close`` twice may raise RecordingFileError.
    """

    def __init__(self, path: Path, overwrite: bool = False) -> None:
        self.path = path
        self._file: Optional[TextIO] = None
        try:
            self._file = open(path, 'w' if overwrite else 'x', encoding='ascii', newline='', buffering=64 * 1024)
            self._file.write(','.join(COLUMNS) + '\r\n')
            self._file.flush()
        except FileExistsError:
            raise RecordingFileError(f'{path} exists already; choose another log_file, '
                                     'or pass overwrite=True') from None
        except OSError as error:
            self._drop()
            raise file_error(path, 'cannot be written', error) from error

    def add(self, job: Any) -> None:
        """A row for a written :class:`~.sink.PageJob`; what is not known stays empty."""
        record = job.record
        sensor = '' if record.sensor_ns is None else record.sensor_ns
        callback = '' if record.cb_ms is None else f'{record.cb_ms:.3f}'
        skew = '' if record.skew_ns is None else record.skew_ns
        self._do('write', f'{job.page},{record.index},{record.time_ns},{sensor},{record.host_ns},{record.status},'
                          f'{job.effort},{job.nbytes},{job.written_ns},{callback},{skew}\r\n')

    def flush(self) -> None:
        """Hand everything to the kernel."""
        self._do('flush')

    def close(self) -> None:
        """Flush and close. Harmless twice."""
        if self._file is not None:
            try:
                self._do('flush')
            finally:
                self._drop()

    def _do(self, method: str, *arguments: str) -> None:
        if self._file is None:
            raise RecordingFileError(f'{self.path} is closed; rows can no longer be added')
        try:
            getattr(self._file, method)(*arguments)
        except OSError as error:
            raise file_error(self.path, 'cannot be written', error) from error

    def _drop(self) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        try:
            file.close()
        except OSError:
            # close() tries to flush what an earlier, already reported failure left in the buffer.
            pass
