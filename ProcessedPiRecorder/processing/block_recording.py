"""What the callback returned for a block, as a small recording of its own; and the blocks put together, in order.

Pages that were not returned are taken from the original as they are, still compressed.
"""

from __future__ import annotations

import os
import uuid
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Mapping, Optional, Tuple

import numpy as np

from ..errors import ClusterError, RecordingFileError
from ..reading.copying import NewRecording
from ..reading.kept import Opening, kept_open
from ..recordings.bigtiff import remove
from ..recordings.encoder import PageEncoder
from ..recordings.page import PageRecord, StoredPage, strip_crc, text_is_intact
from ..recordings.reader import RecordingFile
from ..recordings.tags import PageShape
from ..report import Loss, Report
from .block_process import pages_of
from .task import Task

__all__ = ['Assembly', 'BlockRecording']

LOOK_BACK = 8              # pages that may have lost their texts one after the other
DAMAGED = 'damaged'        # the reason that verify and repair know for pages that cannot be read


class BlockRecording:
    """A block's pages as they are to be recorded, on their way into a file. One thread. Created exclusively.

    path: of the new file; original: where the frames come from. level: tif_compression. rate_hz: of an original
    without times. Raises RecordingFileError.
    """

    def __init__(self, path: Path, original: Opening, level: int, rate_hz: Optional[float]) -> None:
        with ExitStack() as stack:
            self._original = stack.enter_context(kept_open(original))
            self._own = stack.enter_context(self._original.own_pages()) if self._original.is_ours else None
            self._indices, self._times_ns = pages_of(self._original, rate_hz)
            height, width = self._original.shape[1:3]
            shape = PageShape(height, width, 3 if self._original.pixel_format == 'bgr' else 1, level > 0)
            # Pages of another encoding cannot be taken as they are.
            self._alike = self._own is not None and self._own.place(0)[0].shape == shape
            self._encoder = PageEncoder(*shape[:3])
            self._effort = 'huffman' if level else 'none'
            self._new = NewRecording(path, shape, {})
            self._stack = stack.pop_all()

    def add(self, page: int, status: str, cb_ms: Optional[float], encoded: Optional[Tuple[bytes, str]]) -> None:
        """The next page: the original's ``page``, or with its times and marks what the callback returned.

        encoded: (strip, effort) of that. cb_ms: that the call took; None: it did not come to its end.
        """
        stored = self._proven(page)
        record = self._told_by_index(page) if stored is None else stored.record
        pressure = 0
        if encoded is not None:
            strip, effort = encoded
        elif stored is not None and self._alike:
            strip, effort, pressure = self._strip(page), stored.effort, stored.pressure
        else:
            strip, effort = b''.join(self._encoder.encode(self._original.read(page), self._effort)), self._effort
        self._new.add_encoded(strip, record._replace(status=status, cb_ms=cb_ms), effort, pressure)

    def _proven(self, page: int) -> Optional[StoredPage]:
        """What the page's text tells; None where there is none, or it is not what was written.

        Number and time are in the index, too, which has a checksum of its own; marks and the like are then not told.
        """
        try:
            return self._own.stored_page(page) if self._own is not None and self._own.is_intact(page) else None
        except RecordingFileError:
            return None

    def _told_by_index(self, page: int) -> PageRecord:
        record = PageRecord(int(self._indices[page]), int(self._times_ns[page]))
        before = next(filter(None, map(self._proven, range(page - 1, max(page - LOOK_BACK, -1), -1))), None)
        return record if before is None else record._replace(host_ns=before.record.host_ns)     # arrivals keep order

    def _strip(self, page: int) -> bytes:
        assert self._own is not None
        file, number = self._own.place(page)
        strip, text = file.encoded_page(number)
        if not text_is_intact(text, strip_crc([strip])):
            raise RecordingFileError(f'page {page} of {file.path} reads differently each time; its disk is failing')
        return strip

    def finish(self) -> Optional[str]:
        """Close the file, whole; returns its path, None where it has no page. Blocks until the disk has it."""
        if not len(self._new):
            self._new.abandon()
            return None
        self._new.finish_unjudged()
        return str(self._new.path)

    def abandon(self) -> None:
        """Remove the file, unless it is finished."""
        self._new.abandon()

    def close(self) -> None:
        """Let go of the original, and close the new one as it is. Harmless twice."""
        self._stack.close()
        self._new.close()


class Assembly:
    """The processed recording, put together of the blocks' recordings in their order. One thread.

    path: of the new file, while it is made; name: that it will bear. task: whose original's camera and losses behind
    its last page it takes over. Raises RecordingFileError.
    """

    def __init__(self, path: Path, name: str, task: Task) -> None:
        self._path, self._name, self._original, self._indices = path, name, task.recording, task.indices
        self._new: Optional[NewRecording] = None
        self._next_index = 0
        self._last_ns: Optional[int] = None
        about = {'settings': task.stored_settings(), 'metadata': task.stored_metadata(),
                 'camera': task.recording.camera}
        self._about = {key: value for key, value in about.items() if value}

    @property
    def pages(self) -> int:
        """So far."""
        return 0 if self._new is None else len(self._new)

    def add(self, block: str) -> None:
        """Take over the pages of a block's recording, and remove it."""
        try:
            source = RecordingFile(block)
        except RecordingFileError as error:
            if os.path.exists(block):
                raise
            raise ClusterError(f'a worker has written {block}, and it is not here: workers and this machine have to '
                               'share the file system of the output (NFS, …) under the same paths') from error
        with source:
            if self._new is None:
                self._new = NewRecording(self._path, source, self._about, uuid.uuid4().hex, self._name)
            for page in range(source.pages):
                self._add_page(self._new, source, page)
        remove(Path(block))

    def _add_page(self, new: NewRecording, source: RecordingFile, page: int) -> None:
        stored = source.stored_page(page)
        record = stored.record
        missing = record.index - self._next_index - sum(int(loss['count']) for loss in record.lost)
        if missing > 0:
            first: Mapping[str, Any] = {'index': self._next_index, 'count': missing, 'time_ns': self._last_ns,
                                        'reason': self._why_missing(self._next_index, missing)}
            stored = stored._replace(record=record._replace(lost=(first, *record.lost)))
        new.add(source, page, stored)
        self._next_index, self._last_ns = record.index + 1, record.time_ns

    def _why_missing(self, first: int, count: int) -> str:
        """Of frames that no page tells of: the original has them, and they could not be read; or it has not, either."""
        begin, end = np.searchsorted(self._indices, (first, first + count))
        if begin < end:
            return DAMAGED
        return 'source broke off' if self._original.missing_files else 'camera gap'

    def finish(self, report: Report, last_index: int) -> Report:
        """Write its verdict, and close it. Blocks until the disk has it. last_index: of the original's last page."""
        assert self._new is not None
        missing = last_index + 1 - self._next_index
        after = [Loss(self._next_index, missing, self._last_ns, DAMAGED)] if missing > 0 else []
        after += [loss for loss in report.losses if loss.index > last_index]
        marks = [mark for mark in self._original.marks if mark['page'] is None] if self._original.is_ours else []
        return self._new.finish(report, lost_after=after, marks_after=[
            {'label': mark['label'], 'time_ns': mark['time_ns']} for mark in marks])

    def abandon(self) -> None:
        """Remove what there is of it. Harmless after ``finish`` and twice."""
        if self._new is not None:
            self._new.abandon()
