"""Power cuts, simulated from the real writes and syncs of real recordings and of repairs where they stand.

    python -m tests.faults.power_cuts --states 2000 --seed 1

A disk may have written or lost each block that was not synced, in any order, each with any of the states that it went
through. Whatever it kept: the chain that starts at the header consists of whole pages, and `ppr repair` recovers every
page that was synced, and every one whose blocks are all there.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import random
import re
import shutil
import struct
import sys
import tempfile
import threading
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple, Union
from unittest import mock

import numpy as np

from ProcessedPiRecorder.errors import RecordingFormatError
from ProcessedPiRecorder.recordings.page import PageRecord
from ProcessedPiRecorder.recordings.repair import repair
from ProcessedPiRecorder.recordings.sink import PageJob, PageSink
from ProcessedPiRecorder.recordings.verification import verify
from tests.faults.tape import Images, State, Tape, Write, by_chance, read_images, systematic

HEIGHT, WIDTH = 9, 11
LOST_FRAME = 7                   # the camera loses one, so that the pages have something to tell
ABOUT = {'settings': {'tif_path': 'a.tif'}, 'metadata': {'animal': 'M12'},
         'camera': {'width': WIDTH, 'height': HEIGHT, 'framerate': 100.0, 'loss_detection': 'count'}}

PAGE_TEXT = re.compile(rb'\{"ppr":1,"page":\d+,[^\0]*?,"crc32":"([0-9a-f]{8})"\}\0')

# ---------------------------------------------------------------------- an independent reader


class Page(NamedTuple):
    """A page found by its text in the bytes of a file. end: of its IFD, without the link."""

    index: int
    start: int
    end: int
    file: str


def whole_pages(file: str, data: bytes) -> List[Page]:
    """Pages with strip, text and IFD in a file that a recorder has finished."""
    found = []
    for text in PAGE_TEXT.finditer(data):
        ifd = -(-text.end() // 8) * 8
        count, = struct.unpack_from('<Q', data, ifd)
        tags = {tag: value for tag, _, _, value in struct.iter_unpack('<HHQQ', data[ifd + 8:ifd + 8 + 20 * count])}
        found.append(Page(json.loads(text.group()[:-1])['index'], tags[273], ifd + 8 + 20 * count, file))
    return found


def chain(data: bytes, picture: Callable[[int], np.ndarray]) -> List[int]:
    """The frames' numbers along the chain; every page is checked. Raises AssertionError."""
    if data[:8] != struct.pack('<2sHHH', b'II', 43, 8, 0):
        return []                       # no reader opens it
    offset, = struct.unpack_from('<Q', data, 8)
    indices: List[int] = []
    while offset:
        assert offset % 8 == 0 and offset + 8 <= len(data), f'the chain leads to {offset}'
        count, = struct.unpack_from('<Q', data, offset)
        assert count in (14, 16) and offset + 16 + 20 * count <= len(data), f'{count} tags at {offset}'
        tags = {tag: (length, value) for tag, _, length, value in
                struct.iter_unpack('<HHQQ', data[offset + 8:offset + 8 + 20 * count])}
        strip = data[tags[273][1]:tags[273][1] + tags[279][1]]
        text = data[tags[270][1]:tags[270][1] + tags[270][0]]
        if text.startswith(b'<?xml'):
            assert not indices and text.endswith(b'</OME>\0'), 'a torn description'
            text = data[tags[273][1] + tags[279][1]:]
            text = text[:text.index(b'\0') + 1]
        indices.append(check_page(strip, text, picture, compressed=count == 16))
        offset, = struct.unpack_from('<Q', data, offset + 8 + 20 * count)
        assert len(indices) < 10_000, 'the chain loops'
    return indices


def check_page(strip: bytes, text: bytes, picture: Callable[[int], np.ndarray], compressed: bool) -> int:
    seal = re.search(rb',"crc32":"([0-9a-f]{8})"}\0$', text)
    assert seal, 'a torn text'
    assert zlib.crc32(strip + text[:seal.start()]) == int(seal.group(1), 16), 'a wrong checksum'
    index = json.loads(text[:-1])['index']
    expected = picture(index)
    pixels = np.frombuffer(zlib.decompress(strip) if compressed else strip, np.uint8).reshape(expected.shape)
    if compressed:
        pixels = np.cumsum(pixels, axis=1, dtype=np.uint8)
    assert (pixels[..., ::-1] if expected.ndim == 3 else pixels).tobytes() == expected.tobytes(), 'wrong pixels'
    return int(index)


# ---------------------------------------------------------------------- recordings and repairs on tape


@dataclass
class Take:
    """A tape, and what is known of its recording: every page where it was written, and the camera's pictures."""

    name: str
    tape: Tape
    picture: Callable[[int], np.ndarray]
    pages: List[Page] = field(default_factory=list)
    originals: Images = field(default_factory=dict)
    least: int = 0                  # pages that the chains had before (a repair must not lose one)


def pictures(channels: int) -> Callable[[int], np.ndarray]:
    shape = (HEIGHT, WIDTH) if channels == 1 else (HEIGHT, WIDTH, channels)

    @functools.cache
    def picture(index: int) -> np.ndarray:
        return np.clip(np.random.default_rng(index).normal(100, 9, shape), 0, 255).astype(np.uint8)

    return picture


def take_recording(folder: Path, *, pages: int = 30, channels: int = 3, level: int = 6, split: int = 0) -> Take:
    """Record; the pages come while syncs are going on."""
    folder.mkdir()
    picture = pictures(channels)
    tape = Tape(folder)
    errors: List[BaseException] = []
    room = threading.Semaphore(3)      # a few pages at a time, so that there are many writes

    def written(jobs: List[PageJob]) -> None:
        for _ in jobs:
            room.release()

    with tape.recording():
        sink = PageSink(folder / 'a.tif', height=HEIGHT, width=WIDTH, pixel_format='gray' if channels == 1 else 'bgr',
                        level=level, split_frames=split, sync_interval_s=0.004, on_written=written,
                        on_error=errors.append, about=ABOUT, threads=1)
        tape.pages_come = True
        for number in range(pages):
            index = number + (number >= LOST_FRAME)
            lost = ({'index': LOST_FRAME, 'count': 1, 'time_ns': 10**18 + LOST_FRAME - 1, 'reason': 'camera gap'},) \
                if number == LOST_FRAME else ()
            room.acquire(timeout=10)
            sink.submit(PageJob(picture(index), PageRecord(index, 10**18 + index, host_ns=number, lost=lost)))
        tape.pages_come = False
        sink.finish(lambda info: {'report': {}, **ABOUT})
    assert not errors, errors
    originals = read_images(folder)
    found = [page for file, data in originals.items() for page in whole_pages(file, data)]
    assert [page.index for page in found] == [n + (n >= LOST_FRAME) for n in range(pages)], 'no proper recording'
    return Take(folder.name, tape, picture, found, originals)


def take_repair(folder: Path, of: Take, state: State) -> Optional[Take]:
    """Repair a recording where it stands, after a power cut; None where there is nothing to repair."""
    if 'a.tif' not in state.images:
        return None                 # its name had not reached the disk yet
    folder.mkdir()
    lay_out(folder, state.images)
    tape = Tape(folder, sync_s=0)
    try:
        with tape.recording():
            repair(folder / 'a.tif', in_place=True)
    except RecordingFormatError:
        return None
    if any(isinstance(operation, Write) and operation.file.startswith('.') for operation in tape.operations):
        return None                 # a new file takes the old one's place: nothing is written into the old one
    least = sum(len(chain(data, of.picture)) for data in state.images.values())
    return Take(folder.name, tape, of.picture, of.pages, of.originals, least)


def before_the_switch(take: Take) -> State:
    """Everything is written, but the header does not lead to the description yet."""
    at = max(number for number, operation in enumerate(take.tape.operations)
             if isinstance(operation, Write) and operation.offset == 8 and len(operation.data) == 8)
    return State(at, {file: take.tape.image(file, at) for file in take.tape.files(at)}, 'before the switch')


def lay_out(folder: Path, images: Images) -> None:
    for name, data in images.items():
        (folder / name).write_bytes(data)


def takes(folder: Path, rng: random.Random) -> List[Take]:
    """Recordings in one file and in several, compressed and not; repairs in place of what they leave when cut off."""
    made = [take_recording(folder / 'one', pages=30),
            take_recording(folder / 'split', pages=26, channels=1, level=0, split=9),
            take_recording(folder / 'long', pages=90, channels=1)]
    for take in list(made):
        # Only what was not moved: blocks that are missing would have the whole file written anew.
        states = [state for state in systematic(take.tape) if state.what in ('all kept', 'all unsynced lost')]
        for number, state in enumerate(rng.sample(states, 4) + [before_the_switch(take)]):
            repaired = take_repair(folder / f'{take.name}-repair-{number}', take, state)
            if repaired is not None and repaired.tape.operations:
                made.append(repaired)
    return made


# ---------------------------------------------------------------------- the judge


class Judge:
    """Judges states, each distinct one once. Attributes: states, distinct, and what was wrong, by kind."""

    KINDS = ('bad_chains', 'missing_linked', 'missing_synced', 'missing_whole', 'wrong_pixels', 'not_verified',
             'other_errors')

    def __init__(self, folder: Path) -> None:
        self.states = self.distinct = self.repaired = self.recovered = 0
        self.wrong = dict.fromkeys(self.KINDS, 0)
        self.failures: List[str] = []
        self._folder = folder
        self._seen: Set[int] = set()
        self._chains: Dict[Tuple[int, bytes], Union[int, str]] = {}

    def stats(self) -> Dict[str, Any]:
        return {'states': self.states, 'distinct': self.distinct, 'repaired': self.repaired,
                'pages_recovered': self.recovered, **self.wrong, 'failures': self.failures[:50]}

    def state(self, take: Take, state: State) -> None:
        """One power cut: the chains as they are, then the repair."""
        self.states += 1
        self.chains(take, state)
        key = hash((take.name, state.at if take.least else 0, *sorted(state.images.items())))
        if key in self._seen:
            return
        self._seen.add(key)
        self.distinct += 1
        self._repair(take, state)

    def chains(self, take: Take, state: State) -> None:
        """The chain of each file consists of whole pages, all of those that were linked and synced among them."""
        reached = 0
        for file, data in state.images.items():
            pages = self._chain(take, data)
            if isinstance(pages, str):
                self._fail('bad_chains', take, state, f'{file}: {pages}')
                continue
            reached += pages
            linked = links(take.tape.image(file, take.tape.durable(file, state.at)))
            if pages < linked:
                self._fail('missing_linked', take, state, f'{file}: {pages} of {linked} pages')
        if reached < take.least:
            self._fail('missing_linked', take, state, f'{reached} of the {take.least} pages before the repair')

    def _chain(self, take: Take, data: bytes) -> Union[int, str]:
        """Pages of the chain, or what is wrong with it; most states of a file are alike."""
        key = (id(take), data)
        if key not in self._chains:
            try:
                self._chains[key] = len(chain(data, take.picture))
            except (AssertionError, KeyError, ValueError, struct.error, zlib.error) as error:
                self._chains[key] = str(error) or type(error).__name__
        return self._chains[key]

    def _fail(self, kind: str, take: Take, state: State, text: str) -> None:
        self.wrong[kind] += 1
        self.failures.append(f'{kind}: {take.name}, operation {state.at}, {state.what}: {text}')

    def _repair(self, take: Take, state: State) -> None:
        whole = {page.index for page in take.pages if _same(take, page, state.images.get(page.file, b''))}
        synced = {page.index for page in take.pages if _same(
            take, page, take.tape.image(page.file, take.tape.durable(page.file, state.at)))}
        place = Path(tempfile.mkdtemp(dir=self._folder))
        try:
            lay_out(place, state.images)
            with mock.patch.multiple(os, fdatasync=_nothing, fsync=_nothing):      # real disks are slow
                got = self._repaired(take, state, place, bool(whole | synced))
        finally:
            shutil.rmtree(place)
        self.recovered += len(got)
        for kind, expected in (('missing_synced', synced), ('missing_whole', whole)):
            if expected - set(got):
                self._fail(kind, take, state, f'frames {sorted(expected - set(got))[:9]}')

    def _repaired(self, take: Take, state: State, place: Path, expected: bool) -> List[int]:
        given = place / sorted(state.images)[0] if state.images else place / 'a.tif'
        try:
            result = repair(given)
        except RecordingFormatError as error:
            if expected:
                self._fail('other_errors', take, state, str(error))
            return []
        except Exception as error:
            if state.images:
                self._fail('other_errors', take, state, f'{type(error).__name__}: {error}')
            return []
        files = result.files or result.sources
        self.repaired += 1
        if any((place / name).read_bytes() != data for name, data in state.images.items()):
            self._fail('other_errors', take, state, 'the original was changed')
        verification = verify(files[0], threads=1)
        if not verification.ok and not (result.healthy and take.least == 0):
            self._fail('not_verified', take, state, str(verification.findings[:2]))
        try:
            return [index for path in files for index in chain(path.read_bytes(), take.picture)]
        except (AssertionError, KeyError, ValueError, struct.error, zlib.error) as error:
            self._fail('wrong_pixels', take, state, str(error))
            return []


def _nothing(fd: int) -> None:
    pass


def _same(take: Take, page: Page, data: bytes) -> bool:
    """Whether strip, text and IFD of a page are there (its link may be missing)."""
    return data[page.start:page.end] == take.originals[page.file][page.start:page.end]


def links(data: bytes) -> int:
    """How many pages the chain has, by its links alone."""
    offset, pages = (struct.unpack_from('<Q', data, 8)[0] if len(data) >= 16 else 0), 0
    while offset:
        count, = struct.unpack_from('<Q', data, offset)
        offset, = struct.unpack_from('<Q', data, offset + 8 + 20 * count)
        pages += 1
    return pages


# ---------------------------------------------------------------------- all of it


def run(seed: int, count: int, folder: Path) -> Dict[str, Any]:
    """`count` states: systematic ones in a seeded choice, two in five by chance. Raises nothing for what it finds."""
    rng = random.Random(seed)
    place = Path(tempfile.mkdtemp(prefix='power-cuts-', dir=folder))
    try:
        made = takes(place, rng)
        judge = Judge(place)
        planned = [(take, state) for take in made for state in systematic(take.tape)]
        rng.shuffle(planned)
        for take, state in planned[:count - 2 * count // 5]:
            judge.state(take, state)
        while judge.states < count:
            take = rng.choice(made)
            judge.state(take, by_chance(take.tape, rng))
        return {**judge.stats(), 'takes': len(made), 'systematic_states': len(planned)}
    finally:
        shutil.rmtree(place)


def main(arguments: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--states', type=int, default=2000)
    parser.add_argument('--seed', type=int, default=0)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        stats = run(options.seed, options.states, Path(folder))
    print(json.dumps(stats, indent=2))
    return 1 if stats['failures'] else 0


if __name__ == '__main__':
    sys.exit(main())
