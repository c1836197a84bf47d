"""Any other TIFF as frames: no times, no verdict, but readable in the same way."""

from __future__ import annotations

import logging
import os
import re
import struct
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, List, Optional, Tuple

import numpy as np

from ..errors import RecordingFileError, RecordingFormatError
from ..memory import available_memory
from ..recordings.tags import TIFF_MAGIC, FileBytes, open_to_read
from .sources import PageSource, Readers

__all__ = ['ForeignPages', 'is_tiff']

MOST_SHRUNK = 10_000         # a frame this many times as large as its file is none
SMALL_BYTES = 1 << 26        # but for those that cost nothing
ALPHA = {1, 2}               # kinds of further samples
MOST_NOTES = 3               # of what tifffile says of a file
_OBJECT = re.compile(r'^<[^>]*>\s*')               # at the beginning of what it says: which of its objects says it
GRAY, RGB, PALETTE, YCBCR = (0, 1), 2, 3, 6       # photometric interpretations; 0: white is 0


def is_tiff(path: Path) -> bool:
    """Whether a file begins as a TIFF does. Raises RecordingFileError when it cannot be opened."""
    fd = open_to_read(path)
    try:
        return os.pread(fd, 4, 0) in TIFF_MAGIC
    except OSError:
        return False
    finally:
        os.close(fd)


class ForeignPages(PageSource):
    """The images of a TIFF's first series, in the order of the file: every axis but height, width and colour counts.

    Colour comes as BGR, as everywhere else here; transparency is left out. Samples keep their type. Uncompressed
    images that lie one behind the other are read by any number of threads; others one at a time, since tifffile's
    handle is one for all. Raises RecordingFormatError when tifffile cannot read the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files = (path,)
        self.finished = True
        self._absolute = os.path.abspath(path)        # a fork opens it once more
        self._readers = Readers(str(path))
        self._fd = open_to_read(path)
        try:
            self._file = _Bytes(path, self._fd)
            _refuse_loops(self._file)
            with _hearing_tifffile() as said:
                self._open()
                self._settle()
            self.notes = (*self.notes, *_as_notes(said))
        except RecordingFileError:
            self.close()
            raise
        except Exception as error:                # tifffile's own, and whatever a mutated file makes it stumble over
            self.close()
            raise _unreadable(path, error) from error

    _fd = -1
    _tiff: Any = None

    def read(self, page: int, out: Optional[np.ndarray] = None) -> np.ndarray:
        if not 0 <= page < self.pages:
            raise IndexError(f'page {page} of {self.path}, which has {self.pages}')
        if out is not None and (out.shape != self.frame_shape or out.dtype != self.dtype):
            raise ValueError(f'out must be an array of {self.dtype} of shape {self.frame_shape}, got {out.dtype} '
                             f'{out.shape}')
        with self._readers.reading():
            try:
                pixels = self._image(page)
            except RecordingFileError:
                raise
            except Exception as error:
                raise _unreadable(self.path, error, page) from error
        if out is None:
            return np.array(pixels, self.dtype, order='C')
        np.copyto(out, pixels)
        return out

    def close(self) -> None:
        self._readers.end()
        if self._tiff is not None:
            self._tiff.close()
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    # ------------------------------------------------------------------ what is in it

    def _open(self) -> None:
        import tifffile
        self._tiff = tifffile.TiffFile(self._absolute)
        self._opened_in = os.getpid()
        self._series = self._tiff.series[0]

    def _settle(self) -> None:
        series = self._series
        axes, shape = str(series.axes), tuple(int(length) for length in series.shape)
        if not axes.endswith(('YX', 'YXS', 'SYX')) or 0 in shape:
            raise RecordingFormatError(f'{self.path} is a TIFF of shape {shape} (axes {axes}), which are no frames; '
                                       'frames have a height and a width')
        size = (shape[axes.index('Y')], shape[axes.index('X')])
        samples = shape[axes.index('S')] if 'S' in axes else 1
        colour = self._is_colour(series.keyframe, samples)
        self.pixel_format = 'bgr' if colour else 'gray'
        self.frame_shape = (*size, 3) if colour else size
        self.dtype = np.dtype(series.dtype)
        self._stored_shape = (samples, *size) if axes.endswith('SYX') else (*size, samples)
        self._planar = axes.endswith('SYX')
        self._frame_bytes = size[0] * size[1] * samples * self.dtype.itemsize
        self.pages = int(np.prod(shape, dtype=object)) // (size[0] * size[1] * samples)
        self.notes = tuple([*self._find_pixels(), *self._own_notes(samples)])

    def _is_colour(self, first: Any, samples: int) -> bool:
        photometric, spare = int(first.photometric), [int(kind) for kind in first.extrasamples]
        if samples == 1 or photometric in GRAY and samples == 1 + len(spare) and set(spare) <= ALPHA:
            return False
        if photometric in (RGB, YCBCR) and samples >= 3:
            return True
        name = getattr(first.photometric, 'name', photometric)
        raise RecordingFormatError(f'{self.path} is a TIFF of {samples} samples a pixel ({name}), which are neither '
                                   'gray nor RGB; save it as one of these with the program that made it')

    def _find_pixels(self) -> Iterator[str]:
        """Where the frames are: one behind the other in the file, one a page, or several in a page. Notes."""
        self._offset: Optional[int] = self._series.dataoffset
        if self._offset is not None and self.pages == 1 and self._tiff.is_imagej:
            # Of a stack that is cut off, tifffile sees the first image only.
            self.pages = max(int((self._tiff.imagej_metadata or {}).get('images', 1)), 1)
        self._whole: Optional[np.ndarray] = None
        self._series_pages: List[Any] = []
        if self._offset is not None:
            here = max(self._file.size - self._offset, 0) // self._frame_bytes
            if here < self.pages:
                yield f'it is cut off: {here:,} of the {self.pages:,} frames that it should have are in it'
                self.pages, self.finished = here, False
            if not here:
                raise self._file_too_small()
            return
        if self._frame_bytes > max(SMALL_BYTES, MOST_SHRUNK * self._file.size):
            raise self._file_too_small()
        self._series_pages = list(self._series)
        if len(self._series_pages) != self.pages:
            free = available_memory()
            if self.pages * self._frame_bytes > max(SMALL_BYTES, MOST_SHRUNK * self._file.size) \
                    or free is not None and self.pages * self._frame_bytes > free:
                raise RecordingFormatError(f'{self.path} holds {self.pages:,} frames in {len(self._series_pages):,} '
                                           'pages, and they are too large to be decoded at once; save it with one '
                                           'page for each frame')
            self._whole = self._series.asarray().reshape(self.pages, *self._stored_shape)

    def _file_too_small(self) -> RecordingFormatError:
        return RecordingFormatError(f'{self.path} claims frames of {self._frame_bytes:,} bytes, and has '
                                    f'{self._file.size:,}; it is damaged or cut off: get it once more from where it '
                                    'came from')

    def _own_notes(self, samples: int) -> Iterator[str]:
        yield f'{self.path.name} was not made by ProcessedPiRecorder: its frames have no times, numbers or verdict'
        if len(self._tiff.series) > 1:
            yield f'it holds {len(self._tiff.series)} series of images; this is the first one'
        spare = samples - (3 if self.pixel_format == 'bgr' else 1)
        if spare:
            yield f'{spare} more {"samples" if spare > 1 else "sample"} of each pixel (transparency) ' \
                  f'{"are" if spare > 1 else "is"} left out'
        if int(self._series.keyframe.photometric) == PALETTE:
            yield 'its pixels are numbers of colours in a palette, and come as these numbers'

    # ------------------------------------------------------------------ pixels

    def _image(self, page: int) -> np.ndarray:
        if self._offset is not None:
            data = self._file.read(self._offset + page * self._frame_bytes, self._frame_bytes, f'page {page}')
            pixels = np.frombuffer(data, self.dtype.newbyteorder(self._tiff.byteorder)).reshape(self._stored_shape)
        elif self._whole is not None:
            pixels = self._whole[page]
        else:
            with self._readers.alone():
                pixels = self._decoded(page).reshape(self._stored_shape)
        if self._planar:
            pixels = np.moveaxis(pixels, 0, -1)
        return pixels[..., 2::-1] if self.pixel_format == 'bgr' else pixels[..., 0]        # RGB to BGR

    def _decoded(self, page: int) -> np.ndarray:
        if self._opened_in != os.getpid():         # a fork shares its parent's place in the file
            self._open()
            self._series_pages = list(self._series)
        stored = self._series_pages[page]
        if stored is None:
            raise ValueError('it is not in the file')
        pixels: np.ndarray = stored.asarray()
        return pixels


class _Bytes(FileBytes):
    """Bounded reads, whose errors do not speak of recordings."""

    def damaged(self, why: str) -> RecordingFormatError:
        return RecordingFormatError(f'{self.path} is a TIFF that cannot be read: {why}; check it with the program that '
                                    'made it')


def _refuse_loops(file: FileBytes) -> None:
    """Raises RecordingFormatError when the chain of pages comes back to itself: tifffile would follow it for ever."""
    head = file.read(0, min(16, file.size), 'header')
    if len(head) < 16:
        raise file.damaged(f'it has only {file.size} bytes')
    order = '<' if head[:2] == b'II' else '>'
    big = head[2:4] in (b'+\0', b'\0+')
    count, link, entry = ('Q', 'Q', 20) if big else ('H', 'I', 12)
    offset, = struct.unpack_from(order + link, head, 8 if big else 4)
    seen = set()
    while 0 < offset < file.size:
        if offset in seen:
            raise file.damaged(f'its page at {offset} follows on itself')
        seen.add(offset)
        try:
            tags, = struct.unpack(order + count, file.read(offset, struct.calcsize(order + count), 'IFD'))
            end = offset + struct.calcsize(order + count) + entry * tags
            offset, = struct.unpack(order + link, file.read(end, struct.calcsize(order + link), 'IFD'))
        except RecordingFormatError:
            return                                # broken off, which tifffile sees for itself


_hearing = threading.local()          # of the thread that opens a file: what tifffile says to it meanwhile


@contextmanager
def _hearing_tifffile() -> Iterator[List[str]]:
    """What tifffile warns of in this thread, which else would stand on the screen as a line that names no file."""
    logging.getLogger('tifffile').addFilter(_heard_by_nobody)
    said: List[str] = []
    _hearing.said = said
    try:
        yield said
    finally:
        del _hearing.said


def _heard_by_nobody(record: logging.LogRecord) -> bool:
    said: Optional[List[str]] = getattr(_hearing, 'said', None)
    if said is None or record.levelno < logging.WARNING:
        return True
    said.append(record.getMessage())
    return False


def _as_notes(said: List[str]) -> Iterator[str]:
    different = list(dict.fromkeys(_OBJECT.sub('', text) for text in said))
    for text in different[:MOST_NOTES]:
        yield f'it may be damaged, or read otherwise than it was meant; tifffile, which reads it, says: {text}'
    if len(different) > MOST_NOTES:
        yield f'tifffile says {len(different) - MOST_NOTES:,} more such things of it'


def _unreadable(path: Path, error: Exception, page: Optional[int] = None) -> RecordingFormatError:
    what: Tuple[str, str] = (f'page {page} of {path}', 'cannot be read') if page is not None else (
        str(path), 'is neither a recording nor another TIFF that can be read')
    advice = ('install what decodes it:  pip install imagecodecs' if 'imagecodecs' in str(error) else
              'check the file with the program that made it')
    return RecordingFormatError(f'{what[0]} {what[1]} ({type(error).__name__}: {error}); {advice}')
