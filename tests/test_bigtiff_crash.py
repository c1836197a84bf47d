"""Power cuts, simulated from the real writes and syncs of a real recording.

A disk may have written or lost each block that was not synced, in any order, each block with any of the states that
it went through. Whatever it kept, the chain that starts at the header must consist of whole pages.
"""

from __future__ import annotations

import json
import os
import re
import struct
import threading
import time
import zlib
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

import numpy as np
import pytest

from ProcessedPiRecorder.recordings import bigtiff
from ProcessedPiRecorder.recordings.page import PageRecord
from ProcessedPiRecorder.recordings.sink import PageJob, PageSink

BLOCK = 4096
PAGES, HEIGHT, WIDTH = 60, 23, 37


class Write(NamedTuple):
    offset: int
    data: bytes


class Synced(NamedTuple):
    """A sync has ended; ``covers`` operations had been logged when it began."""

    covers: int


class Tape:
    """Every write and sync of one file, in the order in which they ended."""

    def __init__(self) -> None:
        self.operations: List[Any] = []
        self._lock = threading.Lock()
        self._pwritev = os.pwritev

    def pwritev(self, fd: int, buffers: Sequence[Any], offset: int) -> int:
        with self._lock:
            written = self._pwritev(fd, buffers, offset)
            self.operations.append(Write(offset, b''.join(bytes(buffer) for buffer in buffers)[:written]))
        return written

    def fdatasync(self, fd: int) -> None:
        covers = len(self.operations)
        time.sleep(0.002)      # a disk of known speed: the real one may be busy; writes happen meanwhile
        self.operations.append(Synced(covers))

    def after_power_cut(self, at: int, rng: np.random.Generator) -> bytes:
        """What may be on the disk when the power fails after ``at`` operations."""
        done = self.operations[:at]
        durable = max((operation.covers for operation in done if isinstance(operation, Synced)), default=0)
        image = bytearray()
        for operation in done[:durable]:
            if isinstance(operation, Write):
                _put(image, operation.offset, operation.data)
        loose: Dict[int, List[Write]] = {}
        for operation in done[durable:]:
            if isinstance(operation, Write):
                for piece in _blocks(operation):
                    loose.setdefault(piece.offset // BLOCK, []).append(piece)
        kept = rng.choice([0.0, 0.3, 0.7, 1.0])
        for pieces in loose.values():
            if rng.random() < kept:
                for piece in pieces[:rng.integers(1, len(pieces) + 1)]:
                    _put(image, piece.offset, piece.data)
        return bytes(image)


def _blocks(write: Write) -> List[Write]:
    pieces = []
    position = 0
    while position < len(write.data):
        offset = write.offset + position
        size = min(BLOCK - offset % BLOCK, len(write.data) - position)
        pieces.append(Write(offset, write.data[position:position + size]))
        position += size
    return pieces


def _put(image: bytearray, offset: int, data: bytes) -> None:
    if len(image) < offset + len(data):
        image.extend(bytes(offset + len(data) - len(image)))
    image[offset:offset + len(data)] = data


def pages_reached(data: bytes, pictures: List[np.ndarray]) -> Optional[int]:
    """How many pages the chain holds; every one is checked. None: the header is not there yet."""
    if data[:2] != b'II':
        assert not any(data[:16])
        return None
    offset, = struct.unpack_from('<Q', data, 8)
    page = 0
    while offset:
        count, = struct.unpack_from('<Q', data, offset)
        assert count == 16
        tags = {tag: (length, value) for tag, _, length, value in
                (struct.unpack_from('<HHQQ', data, offset + 8 + 20 * number) for number in range(count))}
        strip = data[tags[273][1]:tags[273][1] + tags[279][1]]
        text = data[tags[270][1]:tags[270][1] + tags[270][0]]
        check_page(page, strip, text, pictures[page])
        offset, = struct.unpack_from('<Q', data, offset + 8 + 20 * count)
        page += 1
    return page


def check_page(page: int, strip: bytes, text: bytes, picture: np.ndarray) -> None:
    assert text[-1:] == b'\0'
    if text.startswith(b'<?xml'):
        assert page == 0 and text.endswith(b'</OME>\0')
    else:
        seal = re.search(rb',"crc32":"([0-9a-f]{8})"}\0$', text)
        assert seal and json.loads(text[:-1])['page'] == page
        assert zlib.crc32(strip + text[:seal.start()]) == int(seal.group(1), 16)
    pixels = np.frombuffer(zlib.decompress(strip), np.uint8).reshape(picture.shape)
    np.testing.assert_array_equal(np.cumsum(pixels, axis=1, dtype=np.uint8)[..., ::-1], picture)


@pytest.fixture(scope='module')
def pictures() -> List[np.ndarray]:
    rng = np.random.default_rng(4)
    return [np.clip(rng.normal(100, 2.5, (HEIGHT, WIDTH, 3)), 0, 255).astype(np.uint8) for _ in range(PAGES)]


@pytest.fixture(scope='module')
def tape(tmp_path_factory: pytest.TempPathFactory, pictures: List[np.ndarray]) -> Tape:
    tape = Tape()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bigtiff.os, 'pwritev', tape.pwritev)
        patch.setattr(bigtiff.os, 'fdatasync', tape.fdatasync)
        sink = PageSink(tmp_path_factory.mktemp('crash') / 'a.tif', height=HEIGHT, width=WIDTH, pixel_format='bgr',
                        level=6, sync_interval_s=0.004, on_written=lambda jobs: None, on_error=pytest.fail)
        for number, picture in enumerate(pictures):
            sink.submit(PageJob(picture, PageRecord(number, 10**18 + number)))
            time.sleep(0.001)
        sink.finish(lambda info: {'report': {}})
    return tape


def test_the_tape_is_a_real_recording(tape: Tape, pictures: List[np.ndarray]) -> None:
    everything = tape.after_power_cut(len(tape.operations), np.random.default_rng(0))
    assert pages_reached(everything, pictures) == PAGES
    syncs = [number for number, operation in enumerate(tape.operations) if isinstance(operation, Synced)]
    assert len(syncs) >= 6
    assert any(tape.operations[number].covers < number - 1 for number in syncs), 'nothing was written during a sync'


@pytest.mark.parametrize('seed', range(150))
def test_after_a_power_cut_every_reachable_page_is_whole(tape: Tape, pictures: List[np.ndarray], seed: int) -> None:
    rng = np.random.default_rng(seed)
    at = int(rng.integers(0, len(tape.operations) + 1))
    reached = pages_reached(tape.after_power_cut(at, rng), pictures)
    # What was linked before the last sync began stays.
    covered = max((operation.covers for operation in tape.operations[:at] if isinstance(operation, Synced)), default=0)
    durable = bytearray()
    for operation in tape.operations[:covered]:
        if isinstance(operation, Write):
            _put(durable, operation.offset, operation.data)
    if covered:
        assert reached is not None and reached >= (linked_pages(bytes(durable)))


def linked_pages(data: bytes) -> int:
    offset, pages = struct.unpack_from('<Q', data, 8)[0], 0
    while offset:
        offset, = struct.unpack_from('<Q', data, offset + 8 + 20 * 16)
        pages += 1
    return pages


def test_a_killed_recording_opens_everywhere(tmp_path: Path) -> None:
    """A real kill -9, after which a general reader and ours see the same pages."""
    import signal
    import subprocess
    import sys

    import tifffile

    from ProcessedPiRecorder.recordings.reader import RecordingFile
    script = '''
import sys, time
from pathlib import Path
import numpy as np
from ProcessedPiRecorder.recordings.page import PageRecord
from ProcessedPiRecorder.recordings.sink import PageJob, PageSink
sink = PageSink(Path(sys.argv[1]), height=20, width=30, pixel_format='gray', level=6, sync_interval_s=0.05,
                on_written=lambda jobs: None, on_error=print)
number = 0
while True:
    sink.submit(PageJob(np.full((20, 30), number % 256, np.uint8), PageRecord(number, 10**18 + number)))
    number += 1
    time.sleep(0.001)
    if number == 300:
        print('go', flush=True)
'''
    child = subprocess.Popen([sys.executable, '-c', script, str(tmp_path / 'a.tif')], stdout=subprocess.PIPE,
                             cwd=Path(__file__).parent.parent)
    try:
        assert child.stdout is not None and child.stdout.readline() == b'go\n'
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait(10)
        child.stdout.close()
    with RecordingFile(tmp_path / 'a.tif') as recording, tifffile.TiffFile(tmp_path / 'a.tif') as tif:
        assert not recording.finished and recording.annotations == {}
        assert len(tif.pages) == recording.pages >= 20
        for number in range(0, recording.pages, 17):
            assert recording.verify_page(number)
            assert recording.page_record(number).index == number
            assert (tif.pages[number].asarray() == number % 256).all()
            assert (recording.read_page(number) == number % 256).all()
