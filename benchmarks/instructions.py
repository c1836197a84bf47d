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
PIPELINE_FRAMES = 300
ARM_QEMU, ARM_CPU = 'qemu-aarch64', 'cortex-a72'
#: In the order in which they are started.
PROCESSES = ('script', 'keeper', 'reader', 'writer', 'callback')
SMALL_CALLS = 50             # as many of a cheap stage for each frame, and as many to warm up
TIMED_S = 0.3                # for the time without valgrind
#: The C function at whose entry callgrind writes down what it has counted; Python calls it for us and for nobody else.
MARK = 'getppid'
HUFFMAN = (6, 8, 15, 9, 2)   # level, method, window, memory, strategy: what PageEncoder's 'huffman' is
#: Callgrind counts each byte of a "rep movsb" as an instruction; so the C library is to copy in vectors.
IN_VECTORS = {'GLIBC_TUNABLES': 'glibc.cpu.x86_rep_movsb_threshold=1000000000:'
                                'glibc.cpu.x86_rep_stosb_threshold=1000000000'}


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


def count(pixel_format: str, width: int, height: int, frames: int = FRAMES) -> Dict[str, float]:
    """Instructions a frame of each of STAGES; takes a minute or so. Raises RuntimeError when valgrind fails."""
    with tempfile.TemporaryDirectory() as folder:
        command = ['valgrind', '--tool=callgrind', f'--dump-before={MARK}', '--compress-strings=yes',
                   f'--callgrind-out-file={folder}/out', sys.executable, '-m', 'benchmarks.instructions', '--marked',
                   pixel_format, '--size', f'{width}x{height}', '--frames', str(frames)]
        done = subprocess.run(command, cwd=REPO, env={**os.environ, **IN_VECTORS},
                              stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f'valgrind ended with exit code {done.returncode}:\n{done.stderr[-3000:]}')
        return _from_dumps(Path(folder), frames)


def _from_dumps(folder: Path, frames: int) -> Dict[str, float]:
    """The dump that a mark writes holds what was counted since the one before it."""
    return _from_steps([_total(path) for path in sorted(folder.glob('out.*'), key=lambda path: int(path.suffix[1:]))
                        if _total(path)], frames)


def _from_steps(totals: List[int], frames: int) -> Dict[str, float]:
    """From what was counted up to each mark since the one before."""
    if len(totals) != 4 * len(STAGES):
        raise RuntimeError(f'{len(totals)} marks for {len(STAGES)} stages: somebody else called {MARK}, or nobody did')
    # Four marks a stage: up to its first one, N frames, between, 2N frames.
    calls = {name: frames * (SMALL_CALLS if name in SMALL else 1) for name in STAGES}
    return {name: (totals[4 * place + 3] - totals[4 * place + 1]) / calls[name] for place, name in enumerate(STAGES)}


# ---------------------------------------------------------------- for arm64, emulated

def arm_python() -> Optional[Path]:
    """The Python of the Debian for arm64 that scripts/arm-tests.sh has made; None where there is none."""
    cache = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'ppr'
    return next(iter(sorted(cache.glob('bookworm-arm64-*/usr/bin/python3.11'))), None)


def count_arm(pixel_format: str, width: int, height: int, frames: int = FRAMES) -> Dict[str, float]:
    """Instructions a frame of each of STAGES on a Pi's processor, counted by qemu. Raises RuntimeError.

    These are the packages' own arm64 wheels: NEON, ARM's CRC instructions, no estimate.
    """
    python = arm_python()
    if python is None or shutil.which(ARM_QEMU) is None or shutil.which('cc') is None:
        raise RuntimeError(f'it needs {ARM_QEMU} (apt install qemu-user), a C compiler, and the Debian for arm64 that  '
                           'sh scripts/arm-tests.sh tests/test_stamps.py  leaves in ~/.cache/ppr')
    with tempfile.TemporaryDirectory() as folder:
        plugin = Path(folder) / 'count.so'
        subprocess.run(['cc', '-shared', '-fPIC', '-O2', '-o', str(plugin),
                        str(REPO / 'benchmarks' / 'count_instructions.c')], check=True)
        command = [ARM_QEMU, '-cpu', ARM_CPU, '-L', str(python.parents[2]), '-E', f'PYTHONPATH={REPO}',
                   '-E', 'OPENBLAS_NUM_THREADS=1', '-plugin', str(plugin), str(python), '-m', 'benchmarks.instructions',
                   '--marked', pixel_format, '--size', f'{width}x{height}', '--frames', str(frames)]
        done = subprocess.run(command, cwd=REPO, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f'{ARM_QEMU} ended with exit code {done.returncode}:\n{done.stderr[-3000:]}')
    marks = [int(number) for number in re.findall(r'^counted (\d+)$', done.stderr, re.MULTILINE)]
    return _from_steps([after - before for before, after in zip([0, *marks], marks)], frames)


# ---------------------------------------------------------------- a whole recording

def _record(frames: int) -> None:
    """Tiny frames, uncompressed: what is counted then is the pipeline itself."""
    from ProcessedPiRecorder import ProcessedPiRecorder

    from .frames import PreloadedCamera, camera_like
    from .live_trials import pass_through
    with tempfile.TemporaryDirectory() as folder:
        camera = PreloadedCamera(camera_like(64, 48, 'gray', 4), frames)
        recorder = ProcessedPiRecorder(Path(folder) / 'small.tif', 64, 48, 1, 1000, display=False, camera=camera,
                                       callback=pass_through, cb_type='3Proc', ring_frames=64, pixel_format='gray',
                                       tif_compression=0)
        report = recorder.recordVid()
        assert report is not None and report.complete == 'yes' and report.written == frames


def count_pipeline(frames: int = PIPELINE_FRAMES) -> Dict[str, float]:
    """Instructions a frame of the processes that a frame passes, for tiny ones; some minutes. Raises RuntimeError."""
    some, more = (_processes(number) for number in (frames, 2 * frames))
    # A fork begins with the counts of the process that it came from; and the keeper does nothing for a frame.
    began = more['keeper'] - some['keeper']
    return {role: (more[role] - some[role] - began) / frames for role in ('reader', 'writer', 'callback')}


def _processes(frames: int) -> Dict[str, int]:
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(['valgrind', '--tool=callgrind', f'--callgrind-out-file={folder}/out.%p', sys.executable,
                               '-m', 'benchmarks.instructions', '--record', str(frames)], cwd=REPO,
                              env={**os.environ, **IN_VECTORS, 'PYTHONHASHSEED': '0'}, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f'valgrind ended with exit code {done.returncode}:\n{done.stderr[-3000:]}')
        totals = [_total(path) for path in sorted(Path(folder).iterdir(), key=lambda path: int(path.suffix[1:]))]
    if len(totals) != len(PROCESSES):
        raise RuntimeError(f'{len(totals)} processes were counted, and a recording has {", ".join(PROCESSES)}')
    return dict(zip(PROCESSES, totals))


def _total(path: Path) -> int:
    found = re.search(r'^(?:totals|summary): (\d+)', path.read_text(), re.MULTILINE)
    return int(found.group(1)) if found else 0


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
            # The least disturbed: what else runs on the machine only ever adds.
            found[stage.name] = {'what': stage.what, 'cpu_us': min(passes) / 1000,
                                 'bytes_read': stage.bytes_read, 'bytes_written': stage.bytes_written}
    return found


def run(sizes: Sequence[str], formats: Sequence[str], frames: int) -> Dict[str, Any]:
    """Counts and times of all of it, JSON types. Where arm64 cannot be emulated 'arm64' says why."""
    cases, arm64 = [], f'counted by {ARM_QEMU} -cpu {ARM_CPU}'
    for size in sizes:
        width, height = (int(side) for side in size.split('x'))
        for pixel_format in formats:
            stages = times(pixel_format, width, height)
            for name, instructions in count(pixel_format, width, height, frames).items():
                stages[name]['instructions'] = instructions
            try:
                for name, instructions in count_arm(pixel_format, width, height, frames).items():
                    stages[name]['instructions_arm64'] = instructions
            except RuntimeError as error:
                arm64 = f'not counted: {error}'
            cases.append({'size': size, 'pixel_format': pixel_format, 'stages': stages})
    version = subprocess.run(['valgrind', '--version'], capture_output=True, text=True).stdout.strip()
    return {'machine': facts(), 'valgrind': version, 'isa': _isa(), 'arm64': arm64, 'frames': frames, 'cases': cases,
            'pipeline': count_pipeline()}


def _isa() -> str:
    """The widest vector instructions that were there to be counted."""
    flags = re.search(r'^flags\s*:(.*)$', Path('/proc/cpuinfo').read_text(), re.MULTILINE)
    known = flags.group(1).split() if flags else []
    # Valgrind knows no AVX-512 and hides it.
    return next((name for name in ('avx2', 'avx', 'sse4_2') if name in known), os.uname().machine)


def tables(found: Mapping[str, Any]) -> str:
    """Everything as Markdown."""
    lines: List[str] = []
    for case in found['cases']:
        lines += _stage_table(found, case)
    lines += ['### Instructions a frame of a whole recording', '',
              "64×48 gray, uncompressed, '3Proc' pass-through: the pipeline itself, Python mostly.", '',
              '| process | instructions a frame |', '|---|---|']
    lines += [f'| {role} | {instructions:,.0f} |' for role, instructions in found['pipeline'].items()]
    return '\n'.join([*lines, f'| all | {sum(found["pipeline"].values()):,.0f} |', ''])


def _stage_table(found: Mapping[str, Any], case: Mapping[str, Any]) -> List[str]:
    stages = dict(case['stages'])
    # What is not run by itself is a difference.
    page, huffman = stages['page'], stages['huffman']
    stages['predictor'] = {
        'what': 'colour order and predictor: page less huffman',
        **{key: page[key] - huffman[key] for key in page if key != 'what'}}
    lines = [f'### Instructions a frame, {case["size"].replace("x", "×")} {case["pixel_format"]}', '',
             f'User space only. x86: {found["isa"].upper()}, counted by {found["valgrind"]}. arm64: {found["arm64"]}. '
             'CPU time beside it: here, without either, one thread, the least of many runs.', '',
             '| stage | x86 | arm64 | CPU here, µs | MB read + written |', '|---|---|---|---|---|']
    for name, stage in stages.items():
        arm64 = f'{stage["instructions_arm64"]:,.0f}' if 'instructions_arm64' in stage else '–'
        moved = ' + '.join(f'{stage[key] / 1e6:.2f}' for key in ('bytes_read', 'bytes_written'))
        lines.append(f'| {name}: {stage["what"]} | {stage["instructions"]:,.0f} | {arm64} | {stage["cpu_us"]:.1f} | '
                     f'{moved} |')
    return [*lines, '']


def main() -> int:
    """Print the tables and store results/instructions.json."""
    parser = argparse.ArgumentParser(prog='python -m benchmarks.instructions', description=__doc__)
    parser.add_argument('--sizes', '--size', nargs='+', default=[f'{SIZE[0]}x{SIZE[1]}'], metavar='WxH')
    parser.add_argument('--formats', nargs='+', default=list(FORMATS), choices=FORMATS)
    parser.add_argument('--frames', type=int, default=FRAMES, help='N; each stage is run for N and for 2N frames')
    parser.add_argument('--out', type=Path, default=REPO / 'benchmarks' / 'results')
    parser.add_argument('--record', type=int, help=argparse.SUPPRESS)
    parser.add_argument('--marked', choices=FORMATS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.record:
        _record(args.record)
    elif args.marked:
        width, height = (int(side) for side in args.sizes[0].split('x'))
        _run_marked(args.marked, width, height, args.frames)
    elif shutil.which('valgrind') is None:
        print('valgrind is not installed, and instructions cannot be counted without it; apt install valgrind',
              file=sys.stderr)
        return 1
    else:
        found = run(args.sizes, args.formats, args.frames)
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / 'instructions.json').write_text(json.dumps(found, indent=1))
        print(tables(found))
    return 0


if __name__ == '__main__':
    sys.exit(main())
