"""Pages of recordings, copied into a new one while they stay compressed: nothing is decoded, nothing is lost by it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Mapping, Optional, Sequence, Union

from ..errors import RecordingFormatError
from ..recordings.bigtiff import EncodedPage, PageLayout, remove, sync_folder
from ..recordings.deflate import crc32
from ..recordings.page import PageRecord, StoredPage, open_text, parse_text, seal_text, text_is_intact
from ..recordings.part import SYNC_BYTES, FinishedPage, PartInfo, RecordingPart, copied_page
from ..recordings.reader import RecordingFile
from ..recordings.tags import PageShape
from ..recordings.tally import Tally
from ..report import Loss, Report, summed_up

__all__ = ['NewRecording']

#: What `finish` writes of its own accord; the caller's annotations must not take their places.
OWN = frozenset({'file', 'page0', 'marks', 'report', 'seal'})


class NewRecording:
    """A recording file made of pages of others. Created exclusively; whole only after ``finish``. One thread at a time.

    ::

        new = NewRecording(path, like=source, about=source.about, recording_id=uuid.uuid4().hex)
        try:
            for page in wanted:
                new.add(source, page, lambda page: page._replace(record=page.record._replace(index=…, lost=…)))
            new.finish(Report('yes', …), new_annotations)
        except BaseException:
            new.abandon()
            raise

    A page keeps its strip, and where its text does not change every byte. The pages come in the order in which they
    are added; their frames' numbers and times have to increase, and each has to tell (``lost``) what is missing before
    it, or ``ppr verify`` finds fault. Pages that were made elsewhere come in by ``add_encoded``.

    Attributes:
        tally: the ledger of the pages so far. path: where the file is.

    Args:
        path: the new file. like: size and encoding of the pages that will come, or a file whose pages have them.
        about: 'settings', 'metadata', 'camera', … for its preface.
        recording_id: a text that is the same in all files of a recording and in no other.
        name: that the file shall bear in the end, where ``path`` is for the time being only.

    Raises RecordingFileError when the file cannot be made or written.
    """

    def __init__(self, path: Union[str, 'os.PathLike[str]'], like: Union[RecordingFile, PageShape],
                 about: Mapping[str, Any], recording_id: str = '', name: Optional[str] = None) -> None:
        self.path = Path(path)
        self._name = name or self.path.name
        self._shape = like if isinstance(like, PageShape) else like.shape
        self._about = {name: value for name, value in about.items() if name not in OWN}
        self.tally = Tally(self._shape.nbytes)
        height, width, channels, compressed = self._shape
        self._part = RecordingPart(self.path, 0, 0, self._name, PageLayout(height, width, channels, compressed),
                                   (height, width, channels), self._about, recording_id)
        self._synced = self._part.nbytes

    def __len__(self) -> int:
        return self._part.pages

    @property
    def nbytes(self) -> int:
        """Bytes of the new file so far."""
        return self._part.nbytes

    def add(self, source: RecordingFile, page: int, stored: Union[StoredPage, Callable[[StoredPage], StoredPage]]
            ) -> None:
        """Copy a page of ``source``, told as ``stored``; its place in the new file (page, part) is filled in here.

        stored: also a function of the page as it was, proven; it may differ from that in index, lost, marks,
        sensor_ns and host_ns (which has to stay in order where pages of several machines come together).

        Blocks for reading it, and every 64 MB for the disk. Raises RecordingFormatError, with its place, when the
        page is damaged or of another size or encoding, ValueError for other differences; nothing of it has been
        added then.
        """
        if source.shape != self._shape:
            raise RecordingFormatError(f'{source.path} has pages of {_in_words(source.shape)}, and {self._name} is '
                                       f'made of {_in_words(self._shape)}; pages are copied as they are, so they have '
                                       'to be alike')
        strip, text = source.encoded_page(page)
        crc_of_strip = crc32(strip)
        if not text_is_intact(text, crc_of_strip):
            raise RecordingFormatError(f'page {page} of {source.path} is damaged (its checksum does not fit);  ppr '
                                       'repair  makes a recording of the pages that are whole')
        before = parse_text(text)
        now = (stored(before) if callable(stored) else stored)._replace(page=len(self), part=0, crc32=before.crc32)
        _refuse_other_changes(source, before, now)
        finished = copied_page(strip, text, before, now, crc_of_strip)
        self._append(finished, now)

    def add_encoded(self, strip: bytes, record: PageRecord, effort: str, pressure: int = 0) -> None:
        """Add a page whose pixels have become ``strip`` elsewhere, with the new file's size and encoding.

        effort, pressure: that its compression was given (see :class:`~..recordings.page.StoredPage`). Blocks every
        64 MB for the disk. Raises RecordingFileError.
        """
        text, crc = seal_text(open_text(len(self), 0, record, effort, pressure), crc32(strip))
        self._append(FinishedPage(EncodedPage([strip], len(strip), text), record, effort, crc),
                     StoredPage(len(self), 0, record, effort, crc, pressure))

    def _append(self, finished: FinishedPage, stored: StoredPage) -> None:
        self._part.append([finished])
        self.tally.page(stored, finished.encoded.strip_length)
        if self._part.nbytes - self._synced >= SYNC_BYTES:
            self._part.sync()
            self._synced = self._part.nbytes

    def finish(self, report: Report, annotations: Optional[Mapping[str, Any]] = None, *,
               lost_after: Sequence[Loss] = (), marks_after: Sequence[Mapping[str, Any]] = ()) -> Report:
        """Write index, description and report, and close the file. Blocks until the disk has it all.

        Args:
            report: the verdict; whatever the pages tell (counts, losses, times, marks, sizes) is filled in here. Of
                its losses the details are taken, for those that begin with the same number.
            annotations: further ones; settings, metadata and camera are those given at the start.
            lost_after, marks_after: what came behind the last page, which no page can tell.

        Returns the report as it was stored. Raises RecordingFileError; ValueError without any page.
        """
        if not len(self):
            raise ValueError('a recording needs at least one page')
        self._part.sync()
        stored = self._counted(report, lost_after, marks_after)
        further = {name: value for name, value in (annotations or {}).items() if name not in OWN}
        self._finish({'report': stored.as_dict(), **further, **self._about})
        return stored

    def finish_unjudged(self) -> None:
        """The same without a verdict: for a file that is read once more by those who make a recording of it."""
        self._finish(self._about)

    def _finish(self, annotations: Mapping[str, Any]) -> None:
        final = self.path.with_name(self._name)
        self._part.finish(PartInfo(0, final, self._name, 0, len(self), True, (final,)), annotations)
        sync_folder(self.path)

    def abandon(self) -> None:
        """Close the file and remove it. Harmless after ``finish``, whose file stays, and twice."""
        if self._part.finished:
            return
        self.close()
        remove(self.path)

    def close(self) -> None:
        """Close the file as it is. Harmless twice, and after ``finish``."""
        self._part.close()

    def _counted(self, report: Report, lost_after: Sequence[Loss], marks_after: Sequence[Mapping[str, Any]]) -> Report:
        lost = self.tally.lost + sum(loss.count for loss in lost_after)
        details = {loss.index: loss.detail for loss in report.losses}
        losses = [replace(loss, detail=loss.detail or details.get(loss.index, ''))
                  for loss in (*self.tally.losses, *lost_after)]
        figures = {**self.tally.figures(report.camera.get('framerate')), 'lost': lost,
                   'sensor': self.tally.captured + lost, 'losses': summed_up(losses),
                   'marks': [*self.tally.marks, *map(dict, marks_after)]}
        return replace(report, files=[self._name], file_bytes=self._part.nbytes, **figures)


def _refuse_other_changes(source: RecordingFile, before: StoredPage, now: StoredPage) -> None:
    """Time, status and effort belong to the pixels: who changed them would tell of others."""
    free = {name: getattr(now.record, name) for name in ('index', 'lost', 'marks', 'sensor_ns', 'host_ns')}
    if before._replace(page=now.page, part=now.part, record=before.record._replace(**free)) != now:
        raise ValueError(f'page {before.page} of {source.path} can be told anew in its index, losses, marks and '
                         'clocks, and in nothing else')


def _in_words(shape: PageShape) -> str:
    return (f'{shape.width}×{shape.height} {"BGR" if shape.channels == 3 else "gray"} pixels, '
            f'{"" if shape.compressed else "not "}compressed')
