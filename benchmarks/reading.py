"""Reading back: a long recording's opening, pages, memory and results; frames in order against the bare decoder.

The long recording is put together page by page with the recorder's own file classes, without a camera. Times are told
beside what they are held against: a limit for what people wait for, the bare decoder in the same round for frames.
"""

from __future__ import annotations

import json
import resource
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Sequence

import numpy as np

from .machine import facts

__all__ = ['run', 'tables', 'targets']

#: The aims: seconds, milliseconds, megabytes, share of the bare decoder.
OPEN_S, PAGE_MS, MEMORY_MB, SHARE = 2.0, 5.0, 200.0, 0.8
DISTINCT = 64
PAGES_READ = 500
FORMATS = ('gray', 'bgr')
NS_A_FRAME = 10**7
BEGIN_NS = 1_700_000_000 * 10**9


def run(folder: Path = Path('.'), count: int = 1_000_000, rounds: int = 5, frames: int = 256, width: int = 1280,
        height: int = 480, small: int = 32) -> Dict[str, Any]:
    """Measure; JSON types. A million pages take some minutes to make, and 3 GB in ``folder`` for as long.

    count: pages of the long recording, ``small`` pixels square; frames: of the one that is read in order.
    Raises RuntimeError when a measurement failed, or read anything but what was written.
    """
    found: Dict[str, Any] = {'machine': facts(folder), 'settings': {
        'count': count, 'rounds': rounds, 'frames': frames, 'width': width, 'height': height, 'small': small}}
    with tempfile.TemporaryDirectory(dir=folder, prefix='bench-reading-') as scratch:
        found['long'] = {}
        for pixel_format in FORMATS:
            path = Path(scratch, f'{pixel_format}.tif')
            make(path, small, small, pixel_format, count, with_results=True)
            found['long'][pixel_format] = [_apart('open', path, count) for _ in range(rounds)]
            _remove(path)
        found['in_order'] = {}
        for pixel_format in FORMATS:
            path = Path(scratch, f'{pixel_format}.tif')
            make(path, width, height, pixel_format, frames)
            found['in_order'][pixel_format] = [_apart('in_order', path, number) for number in range(rounds)]
            _remove(path)
    return found


def _apart(name: str, path: Path, number: int) -> Dict[str, Any]:
    from .live_trials import answer_of
    return answer_of('benchmarks.reading', name, str(path), str(number))


def _remove(path: Path) -> None:
    path.unlink()
    path.with_suffix('.results.jsonl').unlink(missing_ok=True)


# ---------------------------------------------------------------- a recording without a recorder

def make(path: Path, width: int, height: int, pixel_format: str, count: int, with_results: bool = False) -> None:
    """A finished recording of camera-like frames, DISTINCT of them again and again; one result a frame if wanted."""
    from ProcessedPiRecorder.recordings.bigtiff import EncodedPage, PageLayout
    from ProcessedPiRecorder.recordings.encoder import PageEncoder
    from ProcessedPiRecorder.recordings.page import PageRecord, open_text, seal_text, strip_crc
    from ProcessedPiRecorder.recordings.part import FinishedPage, PartInfo, RecordingPart

    from .frames import camera_like
    channels = 3 if pixel_format == 'bgr' else 1
    encoder = PageEncoder(height, width, channels)
    strips = [b''.join(bytes(buffer) for buffer in encoder.encode(frame, 'huffman'))
              for frame in camera_like(width, height, pixel_format, min(DISTINCT, count))]
    crcs = [strip_crc([strip]) for strip in strips]

    def page(number: int) -> FinishedPage:
        record = PageRecord(number, BEGIN_NS + number * NS_A_FRAME, host_ns=number)
        text, crc = seal_text(open_text(number, 0, record, 'huffman'), crcs[number % len(crcs)])
        strip = strips[number % len(strips)]
        return FinishedPage(EncodedPage([strip], len(strip), text), record, 'huffman', crc)

    part = RecordingPart(path, 0, 0, path.name, PageLayout(height, width, channels, compressed=True),
                         (height, width, channels), {'settings': {}})
    number = 0
    while number < count:
        following = min(number + part.room_for, number + DISTINCT, count)
        part.append([page(one) for one in range(number, following)])
        number = following
    part.finish(PartInfo(0, path, path.name, 0, count, True, (path,)), {'settings': {}})
    if with_results:
        _write_results(path.with_suffix('.results.jsonl'), count)


def _write_results(path: Path, count: int) -> None:
    from ProcessedPiRecorder.recordings.results import encode_line
    result = {'boxes': [[10, 20, 30, 40]], 'score': 0.93}
    with open(path, 'wb') as file:
        for number in range(count):
            file.write(encode_line(number, BEGIN_NS + number * NS_A_FRAME, result))


# ---------------------------------------------------------------- in a process of its own

def opened(path: str, count: int) -> Dict[str, Any]:
    """What opening, pages and results take, s; CPU of it; and the most memory that the process ever had, MB."""
    begun = time.perf_counter()
    from ProcessedPiRecorder import open_recording
    imported = time.perf_counter()
    cpu = time.process_time()
    recording = open_recording(path)
    open_s, open_cpu_s = time.perf_counter() - imported, time.process_time() - cpu
    assert len(recording) == count
    random = np.random.default_rng(1)
    first_s = _timed(lambda: recording[count // 2])
    pages_s = [_timed(lambda page=page: recording[int(page)])            # type: ignore[misc]
               for page in random.integers(0, count, PAGES_READ)]
    found_s = _timed(lambda: recording.page_of(count - 7))
    pages_mb = _peak_mb()
    cpu = time.process_time()
    results_s = _timed(lambda: len(recording.results))
    results_cpu_s = time.process_time() - cpu
    first_result_s = _timed(lambda: recording.results_of(count // 2))
    result_s = [_timed(lambda page=page: recording.results_of(int(page)))        # type: ignore[misc]
                for page in random.integers(0, count, PAGES_READ)]
    if recording.results_of(count - 1)[0].index != count - 1 or recording[count - 1].index != count - 1:
        raise RuntimeError('the last page is not the last frame')
    return {'import_s': imported - begun, 'open_s': open_s, 'open_cpu_s': open_cpu_s, 'first_page_s': first_s,
            'pages_s': _told(pages_s), 'page_of_s': found_s, 'memory_mb': pages_mb, 'results_open_s': results_s,
            'results_open_cpu_s': results_cpu_s, 'first_result_s': first_result_s, 'results_s': _told(result_s),
            'memory_with_results_mb': _peak_mb()}


def in_order(path: str, turn: int) -> Dict[str, Any]:
    """Frames a second and CPU ms a frame of the bare decoder on all cores, and of iterating; in turn, twice each."""
    from ProcessedPiRecorder import open_recording
    from ProcessedPiRecorder.reading.readahead import usable_cores
    from ProcessedPiRecorder.recordings.decoder import decode_strip
    with open_recording(path) as recording:
        shape = (*recording.shape[1:3], 1 if recording.pixel_format == 'gray' else 3, True, 'bgr')
        strips = _strips(Path(path))

        def decoded(strip: bytes) -> int:
            return decode_strip(strip, *shape).nbytes

        def bare() -> None:
            with ThreadPoolExecutor(usable_cores()) as pool:
                assert sum(pool.map(decoded, strips)) == recording.nbytes

        def iterated() -> None:
            assert sum(1 for _ in recording) == len(recording)

        contenders = {'bare': bare, 'iterated': iterated}
        for warm_up in contenders.values():
            warm_up()
        seconds: Dict[str, List[float]] = {name: [] for name in contenders}
        cpu_s: Dict[str, List[float]] = {name: [] for name in contenders}
        for repeat in range(2):
            names = list(contenders) if (turn + repeat) % 2 else list(contenders)[::-1]
            for name in names:
                begun = time.process_time()
                seconds[name].append(_timed(contenders[name]))
                cpu_s[name].append(time.process_time() - begun)
        return {**{f'{name}_fps': len(strips) / statistics.mean(each) for name, each in seconds.items()},
                **{f'{name}_cpu_ms': 1000 * statistics.mean(each) / len(strips) for name, each in cpu_s.items()}}


def _strips(path: Path) -> List[bytes]:
    from ProcessedPiRecorder.recordings.reader import RecordingFile
    with RecordingFile(path) as file, open(path, 'rb') as plain:
        strips = []
        for row in file.index():
            plain.seek(int(row['strip_offset']))
            strips.append(plain.read(int(row['strip_length'])))
    return strips


def _timed(call: Any) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def _told(seconds: Sequence[float]) -> Dict[str, float]:
    return {'median': statistics.median(seconds), 'most': max(seconds),
            'p99': float(np.percentile(np.array(seconds), 99))}


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


# ---------------------------------------------------------------- what it says

class _Aim(NamedTuple):
    measure: str
    value: float
    limit: float
    unit: str


def targets(found: Mapping[str, Any]) -> List[Dict[str, Any]]:
    """The aims: measure, target, measured (texts) and reached (bool)."""
    rows = [{'measure': aim.measure, 'target': f'< {aim.limit:g} {aim.unit}',
             'measured': f'{aim.value:.3g} {aim.unit}', 'reached': bool(aim.value < aim.limit)}
            for aim in _limits(found)]
    for pixel_format, rounds in found['in_order'].items():
        shares = [each['iterated_fps'] / each['bare_fps'] for each in rounds]
        share = statistics.median(shares)
        rows.append({'measure': f'frames in order, {_size(found)} {pixel_format}, of the bare decoder on all cores',
                     'target': f'≥ {SHARE}', 'measured': f'{share:.2f} ({min(shares):.2f}–{max(shares):.2f})',
                     'reached': bool(share >= SHARE)})
    return rows


def _limits(found: Mapping[str, Any]) -> Iterator[_Aim]:
    for pixel_format, rounds in found['long'].items():
        name = f'{found["settings"]["count"]:,} pages, {pixel_format}'
        yield _Aim(f'{name}: open', _median(rounds, 'open_s'), OPEN_S, 's')
        yield _Aim(f'{name}: any page', 1000 * _median(rounds, 'pages_s', 'p99'), PAGE_MS, 'ms')
        yield _Aim(f'{name}: results, open', _median(rounds, 'results_open_s'), OPEN_S, 's')
        yield _Aim(f'{name}: results of any page', 1000 * _median(rounds, 'results_s', 'p99'), PAGE_MS, 'ms')
        yield _Aim(f'{name}: memory, pages alone', _median(rounds, 'memory_mb'), MEMORY_MB, 'MB')
        yield _Aim(f'{name}: memory, with results', _median(rounds, 'memory_with_results_mb'), MEMORY_MB, 'MB')


def _median(rounds: Sequence[Mapping[str, Any]], *keys: str) -> float:
    values: List[Any] = list(rounds)
    for key in keys:
        values = [value[key] for value in values]
    return statistics.median(values)


def _size(found: Mapping[str, Any]) -> str:
    return f'{found["settings"]["width"]}×{found["settings"]["height"]}'


def tables(found: Mapping[str, Any]) -> str:
    """Everything as Markdown."""
    settings = found['settings']
    lines = [f'### {settings["count"]:,} pages in one file, a result for each', '',
             f'{settings["small"]}×{settings["small"]}; medians of {settings["rounds"]} fresh processes. Memory is the '
             'most that the process ever had; BGR needs OpenCV.', '',
             '| | import, s | open, s (CPU) | first page, ms | any page: median / p99 / most, ms | '
             'results: open, s (CPU) | of any page: median / most, ms | memory: pages / with results, MB |',
             '|---|---|---|---|---|---|---|---|']
    for pixel_format, rounds in found['long'].items():
        pages = [f'{1000 * _median(rounds, "pages_s", key):.2f}' for key in ('median', 'p99', 'most')]
        results = [f'{1000 * _median(rounds, "results_s", key):.2f}' for key in ('median', 'most')]
        lines.append(f'| {pixel_format} | {_median(rounds, "import_s"):.2f} | {_median(rounds, "open_s"):.3f} '
                     f'({_median(rounds, "open_cpu_s"):.3f}) | '
                     f'{1000 * _median(rounds, "first_page_s"):.1f} | {" / ".join(pages)} | '
                     f'{_median(rounds, "results_open_s"):.2f} ({_median(rounds, "results_open_cpu_s"):.2f}) | '
                     f'{" / ".join(results)} | '
                     f'{_median(rounds, "memory_mb"):.0f} / {_median(rounds, "memory_with_results_mb"):.0f} |')
    lines += ['', f'### Frames in order, {_size(found)}', '',
              f'{settings["frames"]} frames from the page cache. The bare decoder: strips in memory, a thread a core.',
              '', '| | bare decoder, frames/s (CPU ms a frame) | for frame in recording | share |', '|---|---|---|---|']
    for pixel_format, rounds in found['in_order'].items():
        share = statistics.median(each['iterated_fps'] / each['bare_fps'] for each in rounds)
        each = [f'{_median(rounds, f"{name}_fps"):.0f} ({_median(rounds, f"{name}_cpu_ms"):.1f})'
                for name in ('bare', 'iterated')]
        lines.append(f'| {pixel_format} | {" | ".join(each)} | {share:.2f} |')
    return '\n'.join([*lines, ''])


if __name__ == '__main__':
    _asked = {'open': opened, 'in_order': in_order}[sys.argv[1]]
    print(json.dumps(_asked(sys.argv[2], int(sys.argv[3]))))
