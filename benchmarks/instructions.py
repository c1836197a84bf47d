"""How many instructions a frame costs, stage by stage: ``python -m benchmarks.instructions``. Needs valgrind.

Times hang on the machine and on who else uses it; instructions do not, so they can be scaled to other processors (on
paper: docs/performance.md). Each stage is run for N and for 2N frames under callgrind; the difference is what N frames
cost, without start-up. What the kernel does (copies to the page cache, pipes) is not counted: valgrind sees user space.
So the bytes that each stage moves are told beside it, and its time without valgrind.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence

import numpy as np

from ProcessedPiRecorder.frame import Frame
from ProcessedPiRecorder.pipeline.links import Kind, LinkReader, LinkWriter, make_link
from ProcessedPiRecorder.recordings.bigtiff import BigTiffAppender, EncodedPage, PageLayout
from ProcessedPiRecorder.recordings.deflate import NAME as CODEC_NAME
from ProcessedPiRecorder.recordings.deflate import codec, crc32
from ProcessedPiRecorder.recordings.encoder import PageEncoder
from ProcessedPiRecorder.recordings.page import PageRecord, open_text, seal_text, strip_crc

from .live_trials import REPO
from .machine import facts

__all__ = ['STAGES', 'count', 'main', 'stages_of', 'tables']

SIZE = (1280, 480)
FORMATS = ('gray', 'bgr')
FRAMES = 2                   # N; and 2N
SMALL_CALLS = 50             # as many of a cheap stage for each frame, and as many to warm up
TIMED_S = 0.3                # for the time without valgrind
#: The C function at whose entry callgrind writes down what it has counted; Python calls it for us and for nobody else.
MARK = 'getppid'
HUFFMAN = (6, 8, 15, 9, 2)   # level, method, window, memory, strategy: what PageEncoder's 'huffman' is
#: Callgrind counts each byte of a "rep movsb" as an instruction; so the C library is to copy in vectors.
COPY_IN_VECTORS = 'glibc.cpu.x86_rep_movsb_threshold=1000000000:glibc.cpu.x86_rep_stosb_threshold=1000000000'
WIDE = {'GLIBC_TUNABLES': COPY_IN_VECTORS}
#: Without the vector instructions beyond 16 bytes, where libraries let us say so: nearer to what NEON takes.
NARROW = {'NPY_DISABLE_CPU_FEATURES': 'AVX2 FMA3', 'OPENCV_CPU_DISABLE': 'AVX2,FMA3,AVX',
          'GLIBC_TUNABLES': f'{COPY_IN_VECTORS}:glibc.cpu.hwcaps=-AVX2,-AVX,-AVX_Fast_Unaligned_Load'}


class Stage(NamedTuple):
    """One thing that is done for a frame. bytes_read, bytes_written: of pixels and strips, by the processor."""

    name: str
    what: str
    run: Callable[[int], Any]              # called with the frame's number
    bytes_read: int
    bytes_written: int

    @property
    def calls(self) -> int:
        """How often it is run for a frame, so that there is something to count."""
        return SMALL_CALLS if self.name in SMALL else 1


#: What costs so little that one call would drown in its surroundings.
SMALL = ('frame', 'link', 'text', 'append', 'append, uncompressed', 'crc', 'crc, zlib')
#: In this order; 'predictor' is what is left of 'page' without 'huffman'.
STAGES = ('copy', 'frame', 'link', 'huffman', 'huffman, zlib', 'page', 'crc', 'crc, zlib', 'text', 'append',
          'append, uncompressed')


def stages_of(pixel_format: str, width: int, height: int, folder: Path) -> List[Stage]:
    """All of STAGES, ready to run; each call of ``run`` does the work of one frame."""
    from .frames import camera_like
    frames = camera_like(width, height, pixel_format, 4)
    slot = np.empty_like(frames[0])
    channels = 1 if slot.ndim == 2 else 3
    encoder = PageEncoder(height, width, channels)
    rows = [_differences(image) for image in frames]
    strips = [encoder.encode(image, 'huffman') for image in frames]
    raw, packed = slot.nbytes, sum(len(part) for part in strips[0])
    link_reader, link_writer = _link()
    compressed = BigTiffAppender(folder / 'instructions.tif', PageLayout(height, width, channels, True))
    plain = BigTiffAppender(folder / 'instructions-plain.tif', PageLayout(height, width, channels, False))
    text, _ = _sealed(0, strips[0])

    def link(number: int) -> None:
        link_writer.send(Kind.FRAME, 1, number, number, number, number)
        link_reader.receive()

    def deflate(module: Any) -> Callable[[int], Any]:
        def run(number: int) -> Any:
            stream = module.compressobj(*HUFFMAN)
            return stream.compress(rows[number % 4]), stream.flush()
        return run

    return [
        Stage('copy', 'the frame into its ring slot (np.copyto)', lambda n: np.copyto(slot, frames[n % 4]), raw, raw),
        Stage('frame', "the callback's own Frame around its copy (the copy not counted)",
              lambda n: Frame(slot, n, n), 0, 0),
        Stage('link', 'a record sent and received over a pipe', link, 0, 0),
        Stage('huffman', f'Huffman coding alone, {CODEC_NAME}', deflate(codec), raw, packed),
        Stage('huffman, zlib', "the same by the standard library's zlib", deflate(zlib), raw, packed),
        Stage('page', f'predictor and Huffman coding, {CODEC_NAME} (PageEncoder)',
              lambda n: encoder.encode(frames[n % 4], 'huffman'), raw * (2 if channels == 3 else 1) + raw,
              raw * (2 if channels == 3 else 1) + packed),
        Stage('crc', f'CRC-32 of the strip, {CODEC_NAME}', lambda n: [crc32(part) for part in strips[n % 4]], packed,
              0),
        Stage('crc, zlib', 'the same by the standard library', lambda n: [zlib.crc32(p) for p in strips[n % 4]], packed,
              0),
        Stage('text', "the page's JSON, sealed, CRC of the strip included", lambda n: _sealed(n, strips[n % 4]), packed,
              0),
        Stage('append', 'a compressed page to the file: IFD, links, pwritev', lambda n: compressed.append(
            [EncodedPage(strips[n % 4], sum(len(part) for part in strips[n % 4]), text)]), packed, packed),
        Stage('append, uncompressed', 'an uncompressed page to the file', lambda n: plain.append(
            [EncodedPage([frames[n % 4]], raw, text)]), raw, raw)]


def _differences(image: np.ndarray) -> np.ndarray:
    """What the predictor makes of an image: each row's samples less those one pixel to the left."""
    pixels = image if image.ndim == 2 else image[..., ::-1]
    rows = pixels.copy()
    rows[:, 1:] -= pixels[:, :-1]
    return np.ascontiguousarray(rows.reshape(-1))


def _link() -> Any:
    reading, writing = make_link()
    return LinkReader(reading), LinkWriter(writing)


def _sealed(number: int, strip: List[Any]) -> Any:
    record = PageRecord(number, 1_700_000_000_000_000_000 + number, number, number)
    return seal_text(open_text(number, 0, record, 'huffman'), strip_crc(strip))


# ---------------------------------------------------------------- under valgrind, in a process of its own

def _run_marked(pixel_format: str, width: int, height: int, frames: int) -> None:
    """Each stage once to warm up, then N and 2N frames, a mark before and behind each."""
    with tempfile.TemporaryDirectory() as folder:
        for stage in stages_of(pixel_format, width, height, Path(folder)):
            for index in range(stage.calls):
                stage.run(index)
            for number in (frames, 2 * frames):
                os.getppid()
                for index in range(number * stage.calls):
                    stage.run(index)
                os.getppid()


def count(pixel_format: str, width: int, height: int, frames: int = FRAMES,
          environment: Optional[Mapping[str, str]] = None) -> Dict[str, float]:
    """Instructions a frame of each of STAGES; takes a minute or so. Raises RuntimeError when valgrind fails."""
    with tempfile.TemporaryDirectory() as folder:
        command = ['valgrind', '--tool=callgrind', f'--dump-before={MARK}', '--compress-strings=yes',
                   f'--callgrind-out-file={folder}/out', sys.executable, '-m', 'benchmarks.instructions', '--marked',
                   pixel_format, '--size', f'{width}x{height}', '--frames', str(frames)]
        done = subprocess.run(command, cwd=REPO, env={**os.environ, **(environment or WIDE)},
                              stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f'valgrind ended with exit code {done.returncode}:\n{done.stderr[-3000:]}')
        return _from_dumps(Path(folder), frames)


def _from_dumps(folder: Path, frames: int) -> Dict[str, float]:
    """The dump that a mark writes holds what was counted since the one before it."""
    totals = []
    for path in sorted(folder.glob('out.*'), key=lambda path: int(path.suffix[1:])):
        found = re.search(r'^(?:totals|summary): (\d+)', path.read_text(), re.MULTILINE)
        if found:
            totals.append(int(found.group(1)))
    if len(totals) != 4 * len(STAGES):
        raise RuntimeError(f'{len(totals)} dumps for {len(STAGES)} stages: somebody else called {MARK}, or nobody did')
    # Four dumps a stage: up to its first mark, N frames, between, 2N frames.
    calls = {name: frames * (SMALL_CALLS if name in SMALL else 1) for name in STAGES}
    return {name: (totals[4 * place + 3] - totals[4 * place + 1]) / calls[name] for place, name in enumerate(STAGES)}


# ---------------------------------------------------------------- without valgrind

def times(pixel_format: str, width: int, height: int) -> Dict[str, Dict[str, Any]]:
    """Time, bytes and a description of each stage, here and now, in this thread."""
    found: Dict[str, Dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(dir='.') as folder:
        for stage in stages_of(pixel_format, width, height, Path(folder)):
            stage.run(0)
            passes: List[float] = []
            ends = time.perf_counter() + TIMED_S
            while len(passes) < 5 or (time.perf_counter() < ends and len(passes) < 300):
                begun = time.thread_time_ns()
                for number in range(4):
                    stage.run(number)
                passes.append((time.thread_time_ns() - begun) / 4)
            found[stage.name] = {'what': stage.what, 'cpu_us': float(np.median(passes)) / 1000,
                                 'bytes_read': stage.bytes_read, 'bytes_written': stage.bytes_written}
    return found


def run(sizes: Sequence[str], formats: Sequence[str], frames: int, narrow: bool) -> Dict[str, Any]:
    """Counts and times of all of it, JSON types."""
    cases = []
    for size in sizes:
        width, height = (int(side) for side in size.split('x'))
        for pixel_format in formats:
            stages = times(pixel_format, width, height)
            for name, instructions in count(pixel_format, width, height, frames).items():
                stages[name]['instructions'] = instructions
            if narrow:
                for name, instructions in count(pixel_format, width, height, frames, NARROW).items():
                    stages[name]['instructions_narrow'] = instructions
            cases.append({'size': size, 'pixel_format': pixel_format, 'stages': stages})
    version = subprocess.run(['valgrind', '--version'], capture_output=True, text=True).stdout.strip()
    return {'machine': facts(), 'valgrind': version, 'isa': _isa(), 'frames': frames, 'cases': cases}


def _isa() -> str:
    """The widest vector instructions that were there to be counted."""
    flags = re.search(r'^flags\s*:(.*)$', Path('/proc/cpuinfo').read_text(), re.MULTILINE)
    known = flags.group(1).split() if flags else []
    # Valgrind knows no AVX-512 and hides it.
    return next((name for name in ('avx2', 'avx', 'sse4_2') if name in known), os.uname().machine)


def tables(found: Mapping[str, Any]) -> str:
    """Everything as Markdown."""
    lines = []
    for case in found['cases']:
        stages = case['stages']
        narrow = any('instructions_narrow' in stage for stage in stages.values())
        lines += [f'### Instructions a frame, {case["size"].replace("x", "×")} {case["pixel_format"]}', '',
                  f'User space, {found["isa"].upper()}' + (' and 16-byte vectors' if narrow else '')
                  + f', counted by {found["valgrind"]}; CPU time beside it, without valgrind, one thread.', '',
                  '| stage | instructions |' + (' 16-byte |' if narrow else '') + ' CPU µs | MB read + written |',
                  '|---|---|' + ('---|' if narrow else '') + '---|---|']
        for name, stage in stages.items():
            cells = [f'{name}: {stage["what"]}', f'{stage["instructions"]:,.0f}']
            cells += [f'{stage["instructions_narrow"]:,.0f}'] if narrow else []
            moved = ' + '.join(f'{stage[key] / 1e6:.2f}' for key in ('bytes_read', 'bytes_written'))
            lines.append(f'| {" | ".join(cells)} | {stage["cpu_us"]:.1f} | {moved} |')
        predictor = stages['page']['instructions'] - stages['huffman']['instructions']
        time_us = stages['page']['cpu_us'] - stages['huffman']['cpu_us']
        lines += ['', f'Predictor and colour order (page less huffman): {predictor:,.0f} instructions, '
                  f'{time_us:.0f} µs.', '']
    return '\n'.join(lines)


def main() -> int:
    """Print the tables and store results/instructions.json."""
    parser = argparse.ArgumentParser(prog='python -m benchmarks.instructions', description=__doc__)
    parser.add_argument('--sizes', '--size', nargs='+', default=[f'{SIZE[0]}x{SIZE[1]}'], metavar='WxH')
    parser.add_argument('--formats', nargs='+', default=list(FORMATS), choices=FORMATS)
    parser.add_argument('--frames', type=int, default=FRAMES, help='N; each stage is run for N and for 2N frames')
    parser.add_argument('--no-narrow', action='store_true', help='count once only, with all vector instructions')
    parser.add_argument('--out', type=Path, default=REPO / 'benchmarks' / 'results')
    parser.add_argument('--marked', choices=FORMATS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.marked:
        width, height = (int(side) for side in args.sizes[0].split('x'))
        _run_marked(args.marked, width, height, args.frames)
        return 0
    if shutil.which('valgrind') is None:
        print('valgrind is not installed, and instructions cannot be counted without it; apt install valgrind',
              file=sys.stderr)
        return 1
    found = run(args.sizes, args.formats, args.frames, not args.no_narrow)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / 'instructions.json').write_text(json.dumps(found, indent=1))
    print(tables(found))
    return 0


if __name__ == '__main__':
    sys.exit(main())
