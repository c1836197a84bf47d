"""Lossless video codecs, as one reaches them from Python."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path
from typing import Any, ClassVar, Dict, Iterator, List, Sequence, Tuple

import numpy as np

from .base import Contender, Meter

__all__ = ['VIDEOS']

RATE_HZ = 60
FFMPEG = {'imageio_ffmpeg': 'imageio-ffmpeg'}


class Video(Contender):
    """Read back by the ffmpeg that comes with imageio-ffmpeg."""

    suffix = '.mkv'
    needs = FFMPEG

    def record(self, frames: Sequence[np.ndarray], count: int, folder: Path, meter: Meter) -> None:
        self._shape = frames[0].shape
        self.path(folder).unlink(missing_ok=True)
        self.write(frames, count, self.path(folder), meter)

    def write(self, frames: Sequence[np.ndarray], count: int, path: Path, meter: Meter) -> None:
        """The work itself; returns when the file is closed."""
        raise NotImplementedError

    def decode(self, path: Path) -> Iterator[np.ndarray]:
        import imageio_ffmpeg
        command = [imageio_ffmpeg.get_ffmpeg_exe(), '-v', 'error', '-i', str(path), '-fps_mode', 'passthrough', '-f',
                   'rawvideo', '-pix_fmt', 'gray' if len(self._shape) == 2 else 'bgr24', '-']
        size = int(np.prod(self._shape))
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as ffmpeg:
            assert ffmpeg.stdout is not None
            while True:
                data = ffmpeg.stdout.read(size)
                if len(data) < size:
                    return
                yield np.frombuffer(data, np.uint8).reshape(self._shape)


class FfmpegPipe(Video):
    """Raw frames through a pipe to ffmpeg, by imageio-ffmpeg."""

    codecs: ClassVar[Dict[str, Tuple[str, str]]] = {}      # pixel format -> codec, its pixel format
    parameters: ClassVar[List[str]] = []

    def write(self, frames: Sequence[np.ndarray], count: int, path: Path, meter: Meter) -> None:
        import imageio_ffmpeg
        height, width = frames[0].shape[:2]
        codec, stored = self.codecs['gray' if frames[0].ndim == 2 else 'bgr']
        meter.begin()
        writer = imageio_ffmpeg.write_frames(
            str(path), (width, height), pix_fmt_in='gray' if frames[0].ndim == 2 else 'bgr24', pix_fmt_out=stored,
            fps=RATE_HZ, quality=None, codec=codec, macro_block_size=1, ffmpeg_log_level='error',
            output_params=[*self.parameters, '-threads', str(cores())])
        writer.send(None)
        meter.first_frame()
        for number in range(count):
            writer.send(frames[number % len(frames)])
        writer.close()


class Ffv1(FfmpegPipe):
    name, what = 'FFV1 (ffmpeg)', 'FFV1 version 3, 4 slices, raw frames piped to ffmpeg by imageio-ffmpeg'
    codecs = {'gray': ('ffv1', 'gray'), 'bgr': ('ffv1', 'bgr0')}
    parameters = ['-level', '3', '-slices', '4']


class X264(FfmpegPipe):
    name, what = 'x264 lossless (ffmpeg)', 'H.264 by libx264, ultrafast, qp 0, RGB or gray, piped likewise'
    codecs = {'gray': ('libx264', 'gray'), 'bgr': ('libx264rgb', 'bgr24')}
    parameters = ['-preset', 'ultrafast', '-qp', '0']


class VidGearFfv1(Video):
    """WriteGear in its compression mode, told to use FFV1 without change of colours."""

    name, what = 'VidGear FFV1', "VidGear's WriteGear, compression mode, FFV1 version 3, 4 slices"
    needs = {'vidgear': 'vidgear', **FFMPEG}

    def write(self, frames: Sequence[np.ndarray], count: int, path: Path, meter: Meter) -> None:
        import imageio_ffmpeg
        import vidgear.gears
        meter.begin()
        with quiet():
            writer = vidgear.gears.WriteGear(output=str(path), compression_mode=True, logging=False,
                                             custom_ffmpeg=imageio_ffmpeg.get_ffmpeg_exe(),
                                             **{'-input_framerate': RATE_HZ, **self.parameters(frames[0].ndim == 2)})
            meter.first_frame()
            for number in range(count):
                writer.write(frames[number % len(frames)])
            writer.close()

    def parameters(self, gray: bool) -> Dict[str, Any]:
        """What WriteGear is told beyond the frame rate."""
        return {'-vcodec': 'ffv1', '-level': 3, '-slices': 4, '-threads': cores(),
                '-pix_fmt': 'gray' if gray else 'bgr0'}


class VidGearDefault(VidGearFfv1):
    name, what = 'VidGear as it comes', "VidGear's WriteGear, compression mode with its own settings (x264)"
    suffix = '.mp4'

    def parameters(self, gray: bool) -> Dict[str, Any]:
        """Nothing."""
        return {}


class OpenCvFfv1(Video):
    name, what = 'OpenCV FFV1', "cv2.VideoWriter, FFmpeg back-end, fourcc 'FFV1'"

    def write(self, frames: Sequence[np.ndarray], count: int, path: Path, meter: Meter) -> None:
        import cv2
        height, width = frames[0].shape[:2]
        meter.begin()
        writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*'FFV1'), RATE_HZ, (width, height),
                                 [cv2.VIDEOWRITER_PROP_IS_COLOR, int(frames[0].ndim == 3)])
        if not writer.isOpened():
            raise RuntimeError('this OpenCV has no FFV1')
        for number in range(count):
            writer.write(frames[number % len(frames)])
        writer.release()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Standard error goes nowhere: ffmpeg and VidGear tell there what they do."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0))


VIDEOS: Tuple[Any, ...] = (Ffv1, X264, VidGearFfv1, VidGearDefault, OpenCvFfv1)
