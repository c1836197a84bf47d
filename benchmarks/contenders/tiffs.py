"""Other writers of TIFF files."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any, ClassVar, Dict, Iterator, Sequence

import numpy as np

from .base import Contender, Meter

__all__ = ['TIFFS']


class TiffReadBack(Contender):
    """What is written by others, read by tifffile: the channels stand in the file as they were given."""

    needs = {'tifffile': 'tifffile'}

    def decode(self, path: Path) -> Iterator[np.ndarray]:
        """By tifffile."""
        import tifffile
        with tifffile.TiffFile(path) as tif:
            for page in tif.pages:
                yield page.asarray()


class TifffileZlib(TiffReadBack):
    """One page a frame, in a loop, as its documentation shows."""

    name, what = 'tifffile zlib-6', 'tifffile, one page a frame, zlib level 6'
    settings: ClassVar[Dict[str, Any]] = {'compression': 'zlib', 'compressionargs': {'level': 6}}

    def record(self, frames: Sequence[np.ndarray], count: int, folder: Path, meter: Meter) -> None:
        import tifffile
        photometric = 'minisblack' if frames[0].ndim == 2 else 'rgb'
        meter.begin()
        with tifffile.TiffWriter(self.path(folder), bigtiff=True) as tif:
            for number in range(count):
                tif.write(frames[number % len(frames)], photometric=photometric, contiguous=False, metadata=None,
                          **self.settings)


class TifffileZlibPredictor(TifffileZlib):
    name, what = 'tifffile zlib-6, predictor', 'the same with the horizontal predictor'
    settings = {**TifffileZlib.settings, 'predictor': True}


class TifffileZstd(TifffileZlib):
    name, what = 'tifffile zstd', 'tifffile, one page a frame, zstd at its default level, horizontal predictor'
    needs = {'tifffile': 'tifffile', 'imagecodecs': 'imagecodecs'}
    settings = {'compression': 'zstd', 'predictor': True}
    note = 'OpenCV cannot read it'


class TifffilePlain(TifffileZlib):
    name, what = 'tifffile, uncompressed', 'tifffile, one page a frame, no compression'
    settings: ClassVar[Dict[str, Any]] = {}
    note = 'not compressed'


class OmeWriters(TiffReadBack):
    """Its writer thread takes from a queue without bounds, and its close() waits for five seconds only; so frames are
    given no faster than they are written, as with the other queue without bounds.
    """

    name, what = 'ome-writers', 'ome-writers, OME-TIFF by its tifffile back-end, as it comes: no compression'
    needs = {'ome_writers': "'ome-writers[tifffile]'", 'ome_types': "'ome-writers[tifffile]'"}
    suffix = '.ome.tiff'
    compression: ClassVar[Any] = None
    note = 'not compressed; takes single planes only: a BGR frame is three pages'

    def record(self, frames: Sequence[np.ndarray], count: int, folder: Path, meter: Meter) -> None:
        import ome_writers
        height, width = frames[0].shape[:2]
        planes = 1 if frames[0].ndim == 2 else 3
        dimensions = [ome_writers.Dimension(name='t', count=None, type='time'),
                      ome_writers.Dimension(name='c', count=planes, type='channel'),
                      ome_writers.Dimension(name='y', count=height, type='space'),
                      ome_writers.Dimension(name='x', count=width, type='space')]
        settings = ome_writers.AcquisitionSettings(
            root_path=str(self.path(folder)), dimensions=dimensions, dtype='uint8', format='tifffile', overwrite=True,
            compression=self.compression)
        meter.begin()
        with ome_writers.create_stream(settings) as stream:
            writer = next(thread for thread in threading.enumerate() if thread.name.startswith('TiffWriterThread'))
            meter.first_frame()
            for number in range(count):
                frame = frames[number % len(frames)]
                for plane in ([frame] if planes == 1 else np.moveaxis(frame, -1, 0)):
                    stream.append(np.ascontiguousarray(plane))
                _wait_for(writer, planes * (number - 63))
            _wait_for(writer, planes * count)

    def decode(self, path: Path) -> Iterator[np.ndarray]:
        """By tifffile; three pages make one image where the file tells of three channels."""
        import tifffile
        with tifffile.TiffFile(path) as tif:
            planes = 3 if 'C' in tif.series[0].axes and tif.series[0].shape[tif.series[0].axes.index('C')] == 3 else 1
            images = (page.asarray() for page in tif.pages)
            for image in images:
                yield image if planes == 1 else np.stack([image, next(images), next(images)], axis=-1)


class OmeWritersLzw(OmeWriters):
    name, what, compression = 'ome-writers, LZW', 'the same with LZW, the only compression that it has for TIFF', 'lzw'
    needs = {**OmeWriters.needs, 'imagecodecs': 'imagecodecs'}
    note = 'takes single planes only: a BGR frame is three pages'


def _wait_for(writer: Any, planes: int) -> None:
    while writer.frames_written < planes:
        if not writer.is_alive():
            raise RuntimeError('the writer thread of ome-writers ended early')
        time.sleep(0.001)


TIFFS = (TifffilePlain, TifffileZlib, TifffileZlibPredictor, TifffileZstd, OmeWriters, OmeWritersLzw)
