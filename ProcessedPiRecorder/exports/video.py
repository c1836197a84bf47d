"""Video files: MP4 (H.264) with each frame at its true time; AVI (FFV1) of constant rate, with the times beside it."""

from __future__ import annotations

import datetime
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np

from .. import _version
from ..errors import ExportError
from ..extras import require
from ..frame import Frame
from ..reading import Recording
from .base import Exported, PathLike, Place, Progress, chosen_pages, each_made, stored_bytes, whole_file, whole_files
from .times import intervals_vary, median_interval_ns, missing_frames, shown_ns, write_times

__all__ = ['export_avi', 'export_mp4', 'presentation_ticks']

TICKS_HZ = 90_000
TICK = Fraction(1, TICKS_HZ)
PRESETS = ('ultrafast', 'superfast', 'veryfast', 'faster', 'fast', 'medium', 'slow', 'slower', 'veryslow')
COLOURLESS = 128
MOST_TICKS = (1 << 31) - 1    # that one frame is shown for: MP4 holds 31 bits of it, and AVI's interval as many
LEAST_SLICE = 64              # lines; FFV1 compresses slices in parallel, and short ones badly

#: As ffmpeg numbers them.
LIMITED, FULL = 1, 2
#: OpenCV decodes by BT.601 whatever a stream tells, and all others do as they are told.
BT601, RGB, SRGB_TRANSFER, BT709_PRIMARIES = 6, 0, 13, 1


class Coding(NamedTuple):
    """How pixels become a stream. options: the encoder's; color: range, space as told in it; convert: what makes
    its frames of ours, in any thread.
    """

    codec: str
    pix_fmt: str
    options: Dict[str, str]
    color: Tuple[int, int]
    convert: Callable[[np.ndarray], Any]


def export_mp4(recording: Recording, target: PathLike, *, start: Optional[Place] = 0, stop: Optional[Place] = None,
               every: int = 1, overwrite: bool = False, progress: Optional[Progress] = None, lossless: bool = False,
               crf: float = 18, preset: Optional[str] = None, speed: float = 1.0, rate_hz: Optional[float] = None
               ) -> Exported:
    """Write an MP4 in which every frame is shown at its true time, within 6 µs: variable rate, 90,000 ticks a second.

    The last frame is shown for as long as usual. Blocks; encodes on all cores.

    Args:
        start, stop, every: pages, or places (see :func:`~.base.chosen_pages`).
        lossless: keep every pixel as it is (frames decode to exactly the recorded ones); several times larger.
        crf: x264's quality where it is not lossless: 0 to 51, smaller is better; 18 looks like the original.
        preset: x264's, from 'ultrafast' to 'veryslow': slower makes it smaller.
        speed: 0.1 plays ten times slower. rate_hz: of a TIFF without times.

    Raises ExportError, MissingExtraError, RecordingFileError.
    """
    av = require('av', 'export', 'MP4 export')
    pages = chosen_pages(recording, start, stop, every)
    _require_8_bit(recording)
    coding = _lossless_h264(recording, av, preset) if lossless else _lossy_h264(recording, av, crf, preset)
    times = shown_ns(recording, pages, rate_hz, speed)
    ticks, last = presentation_ticks(times), max(_ticks(median_interval_ns(times)), 1)
    durations = np.diff(ticks, append=ticks[-1] + last)
    _refuse_too_long(int(durations.max()))
    needs = stored_bytes(recording, pages) // 2 if lossless else 0
    with whole_file(target, overwrite=overwrite, needs_bytes=needs, recording=recording) as part:
        with _container(av, part, 'mp4', recording, pages, {'movflags': '+faststart'}) as container:
            stream = _stream(container, recording, coding, TICK, _rate(times), padded=not lossless)
            for packet in _packets(stream, recording, pages, coding, ticks, progress):
                # The muxer would guess the last one's.
                packet.duration = int(durations[np.searchsorted(ticks, packet.pts)])
                container.mux(packet)
        size = part.stat().st_size
    return Exported(Path(target), len(pages), size, _mp4_notes(recording, pages, lossless, speed))


def export_avi(recording: Recording, target: PathLike, *, start: Optional[Place] = 0, stop: Optional[Place] = None,
               every: int = 1, overwrite: bool = False, progress: Optional[Progress] = None,
               rate_hz: Optional[float] = None) -> Exported:
    """Write an AVI (FFV1, lossless) of constant rate, the usual one, and ``<target's stem>.times.csv`` beside it.

    AVI has no times of frames: who needs them takes them from the CSV, a row a frame. Blocks. Raises as
    :func:`export_mp4` does.
    """
    av = require('av', 'export', 'AVI export')
    pages = chosen_pages(recording, start, stop, every)
    _require_8_bit(recording)
    coding = _ffv1(recording, av)
    times = shown_ns(recording, pages, rate_hz)
    interval = _constant_interval(times)
    main, table = Path(target), Path(target).with_suffix('.times.csv')
    with whole_files([main, table], overwrite=overwrite, needs_bytes=stored_bytes(recording, pages) // 2,
                     recording=recording) as (part, table_part):
        write_times(table_part, recording, pages, times)
        with _container(av, part, 'avi', recording, pages, {}) as container:
            stream = _stream(container, recording, coding, interval, 1 / interval, padded=False)
            for packet in _packets(stream, recording, pages, coding, np.arange(len(pages)), progress):
                container.mux(packet)
        size = part.stat().st_size
    return Exported(main, len(pages), size, _avi_notes(recording, pages, times, table), (table,))


def presentation_ticks(times_ns: np.ndarray) -> np.ndarray:
    """Times in ticks of 1/90000 s, to the nearest, and moved on by one where two frames would have the same."""
    ticks, steps = _ticks(times_ns), np.arange(len(times_ns))
    return np.maximum.accumulate(ticks - steps) + steps


def _ticks(times_ns: Any) -> Any:
    return (times_ns * 9 + 50_000) // 100_000      # 90,000 / 1e9, without leaving 64 bits for 32 years


def _refuse_too_long(ticks: int) -> None:
    if ticks > MOST_TICKS:
        raise ExportError(f'a frame would be shown for {ticks / TICKS_HZ / 3600:.2f} h, and an MP4 can show one for '
                          f'{MOST_TICKS / TICKS_HZ / 3600:.2f} h at most; choose other frames (start, stop, every), a '
                          'higher speed (speed=10), or export PNG')


def _constant_interval(times_ns: np.ndarray) -> Fraction:
    """The usual one, in s, to the µs or as near as numbers of 31 bits can tell it."""
    usual_ns = median_interval_ns(times_ns)
    most = max(1, min(10**6, MOST_TICKS * 10**9 // (usual_ns + 10**9)))
    return max(Fraction(usual_ns, 10**9).limit_denominator(most), Fraction(1, 10**6))


# ---------------------------------------------------------------------- codings

def _lossless_h264(recording: Recording, av: Any, preset: Optional[str]) -> Coding:
    options = {'qp': '0', 'preset': _preset(preset, 'ultrafast'), 'bf': '0'}
    if recording.pixel_format == 'gray':
        return Coding('libx264', 'gray', options, (FULL, BT601), lambda pixels: _gray_frame(av, pixels))
    return Coding('libx264rgb', 'bgr24', options, (FULL, RGB),
                  lambda pixels: av.VideoFrame.from_ndarray(pixels, format='bgr24'))


def _lossy_h264(recording: Recording, av: Any, crf: float, preset: Optional[str]) -> Coding:
    if isinstance(crf, bool) or not isinstance(crf, (int, float)) or not 0 <= crf <= 51:
        raise ExportError(f'crf={crf!r} is no quality of x264; pass 0 (best) to 51, or lossless=True for exact pixels')
    options = {'crf': f'{max(crf, 0.01):g}', 'preset': _preset(preset, 'veryfast'), 'bf': '0'}
    gray = recording.pixel_format == 'gray'

    def convert(pixels: np.ndarray) -> Any:
        odd = [(0, length % 2) for length in pixels.shape[:2]]
        even = np.pad(pixels, odd if gray else [*odd, (0, 0)], 'edge') if any(map(sum, odd)) else pixels
        if gray:                                   # by hand: conversions squeeze it into 16 to 235, in some versions
            planes = np.full((even.shape[0] * 3 // 2, even.shape[1]), COLOURLESS, np.uint8)
            planes[:even.shape[0]] = even
            return _ranged(av.VideoFrame.from_ndarray(planes, format='yuv420p'), FULL)
        return _ranged(av.VideoFrame.from_ndarray(even, format='bgr24').reformat(
            format='yuv420p', dst_colorspace='ITU601', src_color_range='JPEG', dst_color_range='MPEG'), LIMITED)
    return Coding('libx264', 'yuv420p', options, (FULL if gray else LIMITED, BT601), convert)


def _ffv1(recording: Recording, av: Any) -> Coding:
    slices = '4' if min(recording.shape[1:3]) >= 2 * LEAST_SLICE else '1'
    options = {'level': '3', 'slices': slices, 'slicecrc': '1', 'g': '1'} if slices != '1' else {'g': '1'}
    if recording.pixel_format == 'gray':
        return Coding('ffv1', 'gray', options, (FULL, BT601), lambda pixels: _gray_frame(av, pixels))
    return Coding('ffv1', 'bgr0', options, (FULL, RGB),
                  lambda pixels: av.VideoFrame.from_ndarray(pixels, format='bgr24').reformat(format='bgr0'))


def _gray_frame(av: Any, pixels: np.ndarray) -> Any:
    return _ranged(av.VideoFrame.from_ndarray(pixels, format='gray'), FULL)


def _ranged(frame: Any, color_range: int) -> Any:
    frame.color_range = color_range                # or gray would be squeezed into 16 to 235 on its way
    return frame


def _preset(told: Optional[str], usual: str) -> str:
    if told is not None and told not in PRESETS:
        raise ExportError(f'preset={told!r} is none of x264\'s; pass one of {", ".join(PRESETS)}')
    return told or usual


def _require_8_bit(recording: Recording) -> None:
    if recording.dtype != np.uint8:
        raise ExportError(f'{recording.path.name} has {recording.dtype} samples, and video holds 8 bits of them here; '
                          'export PNG, which keeps 16 bits, or bring the frames to uint8 first, by a scale that suits '
                          'them')


# ---------------------------------------------------------------------- the file

@contextmanager
def _container(av: Any, part: Path, format: str, recording: Recording, pages: range, options: Dict[str, str]
               ) -> Iterator[Any]:
    """Open to be written, with what it tells of its origin; closed at the end, which completes the file."""
    try:
        with av.open(str(part), 'w', format=format, options=options) as container:
            container.metadata.update(_told_inside(recording, pages))
            yield container
    except av.error.FFmpegError as error:
        if isinstance(error, OSError):             # a full disk, say
            raise
        raise ExportError(f'the encoder for {part.name} failed: {error}; try another format or preset') from error


def _rate(times_ns: np.ndarray) -> Fraction:
    """Frames a second, about. x264 takes the H.264 level from it, by which players tell whether they can keep up."""
    return Fraction(10**9, median_interval_ns(times_ns)).limit_denominator(1000) or Fraction(1, 1000)


def _stream(container: Any, recording: Recording, coding: Coding, time_base: Fraction, rate: Fraction, padded: bool
            ) -> Any:
    height, width = recording.shape[1:3]
    stream = container.add_stream(coding.codec, rate=rate, options=coding.options)
    stream.height, stream.width = (height + height % 2, width + width % 2) if padded else (height, width)
    stream.pix_fmt = coding.pix_fmt
    codec = stream.codec_context
    stream.time_base = codec.time_base = time_base
    codec.thread_count = 0                         # as many as there are cores
    codec.color_range, codec.colorspace = coding.color
    codec.color_trc, codec.color_primaries = SRGB_TRANSFER, BT709_PRIMARIES
    return stream


def _packets(stream: Any, recording: Recording, pages: range, coding: Coding, ticks: np.ndarray,
             progress: Optional[Progress]) -> Iterator[Any]:
    def convert(page: int, frame: Frame) -> Any:
        return coding.convert(np.asarray(frame))

    for frame, tick in zip(each_made(recording, pages, convert, progress), ticks.tolist()):    # the last one is told
        frame.pts, frame.time_base = tick, stream.codec_context.time_base
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _told_inside(recording: Recording, pages: range) -> Dict[str, str]:
    name, every = recording.path.name, '' if pages.step == 1 else f', every {pages.step}'
    told = {'title': name,
            'comment': f'pages {pages[0]} to {pages[-1]}{every} of {name}; {recording.verdict}; exported by '
                       f'ProcessedPiRecorder {_version.__version__}'}
    if recording.times_ns is not None:
        time_ns = int(recording.times_ns[pages[0]])
        began = datetime.datetime(1970, 1, 1) + datetime.timedelta(microseconds=time_ns // 1000)
        told['creation_time'] = told['date'] = f'{began:%Y-%m-%dT%H:%M:%S.%f}Z'
        told['comment'] += f'; the first one was taken at {time_ns} ns since 1970-01-01 UTC'
    return told


# ---------------------------------------------------------------------- what is said of it

def _mp4_notes(recording: Recording, pages: range, lossless: bool, speed: float) -> Tuple[str, ...]:
    notes: List[str] = []
    height, width = recording.shape[1:3]
    if lossless:
        notes.append('lossless H.264 is read exactly by ffmpeg, OpenCV and what is built on them, and not played by '
                     'browsers and many players')
    elif height % 2 or width % 2:
        notes.append(f'{width}×{height} became {width + width % 2}×{height + height % 2}: this kind of video needs '
                     'even numbers, so the last column or row is there twice; lossless=True keeps the size')
    if speed != 1:
        notes.append(f'it plays at {speed:g} of the true speed')
    missing = missing_frames(recording, pages)
    if missing:
        notes.append(f'{missing:,} {"frame is" if missing == 1 else "frames are"} missing between its first and its '
                     'last; the frame before each gap is shown for as long')
    return (*notes, *recording.notes)


def _avi_notes(recording: Recording, pages: range, times: np.ndarray, table: Path) -> Tuple[str, ...]:
    notes: List[str] = []
    missing = missing_frames(recording, pages)
    if missing:
        notes.append(f'{missing:,} {"frame is" if missing == 1 else "frames are"} missing between its first and its '
                     f'last, and it plays on without them: take times from {table.name}')
    elif intervals_vary(times):
        notes.append('the times from frame to frame vary by more than 1 %, and AVI plays all frames at one rate: take '
                     f'times from {table.name}')
    return (*notes, *recording.notes)
