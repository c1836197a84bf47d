"""Whole recordings, and random mutations of them: anywhere, and where it hurts most."""

from __future__ import annotations

import random
import re
import struct
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Tuple, Union

import numpy as np

from ProcessedPiRecorder.recordings.deflate import crc32
from ProcessedPiRecorder.recordings.ome import seal_is_intact
from ProcessedPiRecorder.recordings.reader import RecordingFile
from tests.faults.tiny import Tiny, make_tiny

BEGIN_NS = 1_700_000_000_000_000_000
SEAL = re.compile(rb'"[0-9a-f]{8}"(?=</Value></CommentAnnotation></StructuredAnnotations></OME>)')


class PageBytes(NamedTuple):
    """A page in its file: strip and text from ``start`` on, and what follows them up to the IFD's link."""

    file: str
    start: int
    strip_and_text: bytes
    ifd: bytes

    def is_in(self, files: Dict[str, bytearray], with_ifd: bool) -> bool:
        """Whether it is still where it was, unchanged."""
        expected = self.strip_and_text + (self.ifd if with_ifd else b'')
        return files.get(self.file, b'')[self.start:self.start + len(expected)] == expected


class Base(NamedTuple):
    """A whole recording: its files by name, the pixels by originating time, and where it can be hurt.

    pages: each page's strip and text, by originating time.
    fields: where in the first file 8-byte numbers stand that readers trust. xml: its extent there.
    """

    name: str
    files: Dict[str, bytes]
    truth: Dict[int, np.ndarray]
    pages: Dict[int, PageBytes]
    fields: List[int]
    xml: Tuple[int, int]
    finished: bool

    @property
    def first(self) -> str:
        return next(iter(self.files))


class Mutant:
    """What has become of a base. done: the names of the mutations."""

    def __init__(self, base: Base) -> None:
        self.base = base
        self.files = {name: bytearray(data) for name, data in base.files.items()}
        self.done: List[str] = []

    @property
    def nbytes(self) -> int:
        return sum(len(data) for data in self.files.values())

    @property
    def is_changed(self) -> bool:
        """Whether a TIFF differs from the base's, in more than what a description that is sealed again tells."""
        return any(self._without_xml(name, data) != self._without_xml(name, self.base.files[name])
                   for name, data in self.files.items() if name.endswith('.tif')) \
            or len(self.files) != len(self.base.files)

    def description(self, name: str) -> bytes:
        """The description to which a file's header leads."""
        data = bytes(self.files[name])
        ifd, = struct.unpack_from('<Q', data, 8)
        count, = struct.unpack_from('<Q', data, ifd)
        for tag, _, length, value in struct.iter_unpack('<HHQQ', data[ifd + 8:ifd + 8 + 20 * count]):
            if tag == 270:
                return data[value:value + length - 1]
        return b''

    def _without_xml(self, name: str, data: Union[bytes, bytearray]) -> bytes:
        start, end = self.base.xml if name == self.base.first else (0, 0)
        xml = bytes(data[start:end])
        return bytes(data[:start] + data[end:]) if xml and seal_is_intact(xml) else bytes(data)

    def write(self, folder: Path) -> None:
        folder.mkdir()
        for name, data in self.files.items():
            (folder / name).write_bytes(data)

    def whole_pages(self) -> List[int]:
        """Originating times of the pages that stand where they were, unchanged, and whose beginning can be known.

        Their own IFD tells it, or the end of the page before; and some IFD in the file has to tell their shape.
        """
        pages = self.base.pages
        with_ifd = {time_ns for time_ns, page in pages.items() if page.is_in(self.files, with_ifd=True)}
        with_shape = {pages[time_ns].file for time_ns in with_ifd}
        before = dict(zip(list(pages)[1:], pages))
        return [time_ns for time_ns, page in pages.items()
                if page.file in with_shape and page.is_in(self.files, with_ifd=False)
                and (time_ns in with_ifd or before.get(time_ns) in with_ifd)]

    @property
    def has_forged_description(self) -> bool:
        """Whether a description was changed and sealed again, which no damage does: only `verify` sees through it."""
        start, end = self.base.xml
        xml = bytes(self.files.get(self.base.first, b'')[start:end])
        return xml != self.base.files[self.base.first][start:end] and bool(xml) and seal_is_intact(xml)

    @property
    def is_ambiguous(self) -> bool:
        """Whether nobody can tell which part of a recording a file is: it holds pages of two."""
        return 'split' in self.base.name and any(
            done.startswith(('concatenate', 'exchange_pages')) for done in self.done)


# ---------------------------------------------------------------------- bases

def make_bases(folder: Path) -> List[Base]:
    """The recordings that are mutated; each call makes the same ones."""
    folder.mkdir(parents=True)
    options: List[Tuple[str, Dict[str, Any]]] = [
        ('gray', {'level': 0, 'pixel_format': 'gray', 'results': 6}), ('colour', {'pages': 5}),
        ('one page', {'pages': 1, 'lost_before': (0,)}), ('unfinished', {'finish': False, 'results': 3}),
        ('split', {'pages': 7, 'split': 3, 'results': 4}),
        ('split, unfinished', {'pages': 7, 'split': 3, 'finish': False}),
        ('alike', {'level': 0, 'pixel_format': 'gray', 'statuses': ('raw',), 'lost_before': (), 'pages': 8})]
    bases = []
    for number, (name, chosen) in enumerate(options):
        place = folder / str(number)
        place.mkdir()
        tiny = make_tiny(place / 'a.tif', seed=number, begin_ns=BEGIN_NS + number * 10**12, **chosen)
        bases.append(_base(name, tiny, chosen.get('finish', True)))
    return bases


def _base(name: str, tiny: Tiny, finished: bool) -> Base:
    paths = [*tiny.files, *([tiny.results] if tiny.results.exists() else [])]
    files = {path.name: path.read_bytes() for path in paths}
    pages: Dict[int, PageBytes] = {}
    for path in tiny.files:
        with RecordingFile(path) as recording:
            for row in recording.index():
                start = int(row['strip_offset'])
                end = start + int(row['strip_length']) + int(row['text_length'])
                data, ifd = files[path.name], int(row['ifd_offset'])
                link = ifd + 8 + 20 * int.from_bytes(data[ifd:ifd + 8], 'little')
                pages[int(row['time_ns'])] = PageBytes(path.name, start, data[start:end], data[end:link])
    with RecordingFile(tiny.path) as recording:
        ifds = [int(offset) for offset in recording.index()['ifd_offset']]
        first = recording._first
        xml = (first.text_offset, first.text_offset + first.text_length) if recording.finished else (0, 0)
        blocks = recording.annotations['file']['index'] if recording.finished else []
    return Base(name, files, tiny.truth, pages, _fields(files[tiny.path.name], [*ifds, first.offset], blocks), xml,
                finished)


def _fields(data: bytes, ifds: List[int], blocks: List[int]) -> List[int]:
    fields = [8, 16, 24, 32]                                  # the header's link; the preface's magic and length
    for ifd in ifds:
        count, = struct.unpack_from('<Q', data, ifd)
        fields.append(ifd)
        for tag in range(count):
            fields += [ifd + 8 + 20 * tag, ifd + 12 + 20 * tag, ifd + 20 + 20 * tag]
        fields.append(ifd + 8 + 20 * count)
    for block in blocks:
        fields += range(block, block + 48 + 64, 8)
    return fields


# ---------------------------------------------------------------------- mutations

def mutate(rng: random.Random, base: Base) -> Mutant:
    """One to three random mutations."""
    mutant = Mutant(base)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        is_about_results = 'a.results.jsonl' in mutant.files and rng.random() < 0.15
        name = 'a.results.jsonl' if is_about_results else rng.choice([
            name for name in mutant.files if name.endswith('.tif')] or ['a.results.jsonl'])
        chosen = rng.choice(RESULTS_MUTATIONS if is_about_results else MUTATIONS)
        chosen(rng, mutant, name)
        mutant.done.append(f'{chosen.__name__[1:]} {name}')
        if name not in mutant.files and not any(other.endswith('.tif') for other in mutant.files):
            mutant.files[name] = bytearray()
    return mutant


def _place(rng: random.Random, data: bytearray) -> Tuple[int, int]:
    """A random range, mostly short."""
    start = rng.randrange(len(data) + 1)
    length = rng.choice((1, 2, 8, 64, 500, 4096, rng.randrange(len(data) + 1)))
    return start, min(len(data), start + length)


def _flip_bits(rng: random.Random, mutant: Mutant, name: str) -> None:
    data = mutant.files[name]
    for _ in range(rng.choice((1, 1, 2, 8)) if data else 0):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _zero(rng: random.Random, mutant: Mutant, name: str) -> None:
    start, end = _place(rng, mutant.files[name])
    mutant.files[name][start:end] = bytes(end - start)


def _randomise(rng: random.Random, mutant: Mutant, name: str) -> None:
    start, end = _place(rng, mutant.files[name])
    mutant.files[name][start:end] = bytes(rng.getrandbits(8) for _ in range(end - start))


def _extreme(rng: random.Random, mutant: Mutant, name: str) -> None:
    """A number that is not what anybody expects, where readers look for numbers or anywhere."""
    data = mutant.files[name]
    size = len(data)
    if size < 16:
        return
    known = [field for field in mutant.base.fields if field + 8 <= size] if name == mutant.base.first else []
    at = rng.choice(known) if known and rng.random() < 0.8 else rng.randrange(size - 8)
    value = rng.choice((0, 1, 2, 63, 64, 65, 2**16, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**40, 2**63 - 1, 2**63,
                        2**64 - 1, size, size - 1, size - 8, at, at - 8, at + 8, rng.randrange(size),
                        rng.randrange(size) & ~7, rng.choice(known or [0]), rng.getrandbits(64)))
    width = rng.choice((8, 8, 8, 4, 2))
    data[at:at + width] = (value & 2**64 - 1).to_bytes(8, 'little')[:width]


def _add_a_little(rng: random.Random, mutant: Mutant, name: str) -> None:
    """A number that is off by some."""
    data = mutant.files[name]
    known = [field for field in mutant.base.fields if field + 8 <= len(data)]
    if name == mutant.base.first and known:
        at = rng.choice(known)
        value = int.from_bytes(data[at:at + 8], 'little') + rng.choice((-64, -20, -8, -1, 1, 8, 20, 64, 4096))
        data[at:at + 8] = (value & 2**64 - 1).to_bytes(8, 'little')


def _insert(rng: random.Random, mutant: Mutant, name: str) -> None:
    data = mutant.files[name]
    start = rng.randrange(len(data) + 1)
    length = rng.choice((1, 7, 8, 300))
    data[start:start] = bytes(rng.getrandbits(8) if rng.random() < 0.5 else 0 for _ in range(length))


def _remove(rng: random.Random, mutant: Mutant, name: str) -> None:
    start, end = _place(rng, mutant.files[name])
    del mutant.files[name][start:end]


def _truncate(rng: random.Random, mutant: Mutant, name: str) -> None:
    data = mutant.files[name]
    del data[rng.randrange(len(data) + 1):]


def _duplicate(rng: random.Random, mutant: Mutant, name: str) -> None:
    data = mutant.files[name]
    start, end = _place(rng, data)
    at = rng.choice((end, start, rng.randrange(len(data) + 1)))
    data[at:at] = bytes(data[start:end])


def _overwrite(rng: random.Random, mutant: Mutant, name: str) -> None:
    """Some of the file's own bytes over others."""
    data = mutant.files[name]
    start, end = _place(rng, data)
    at = rng.randrange(len(data) + 1)
    piece = bytes(data[start:end])[:len(data) - at]
    data[at:at + len(piece)] = piece


def _exchange_pages(rng: random.Random, mutant: Mutant, name: str) -> None:
    """One page's strip and text over another's of the same size."""
    data = mutant.files[name]
    pieces = [page.strip_and_text for page in mutant.base.pages.values() if page.strip_and_text in data]
    pairs = [(one, two) for one in pieces for two in pieces if one is not two and len(one) == len(two)]
    if pairs:
        one, two = rng.choice(pairs)
        at, to = data.find(one), data.find(two)
        data[to:to + len(two)] = one
        if rng.random() < 0.5:
            data[at:at + len(one)] = two


def _concatenate(rng: random.Random, mutant: Mutant, name: str) -> None:
    other = rng.choice([data for other, data in mutant.files.items() if other.endswith('.tif')])
    mutant.files[name] += bytes(other)


def _edit_xml(rng: random.Random, mutant: Mutant, name: str) -> None:
    """Some change to the description, sealed again mostly, so that it is believed."""
    data = mutant.files[name]
    start, end = mutant.base.xml
    if name != mutant.base.first or not start < end <= len(data):
        return _flip_bits(rng, mutant, name)
    xml = bytes(data[start:end])
    found = list(re.finditer(rng.choice((rb'-?\d+(\.\d+)?', rb'"[^"]*"', rb'[{}\[\]<>]', rb': ', rb'true|null')), xml))
    if found:
        hit = rng.choice(found)
        new = rng.choice((b'0', b'-1', b'null', b'[]', b'{}', b'""', b'1e999', b'NaN', b'9' * 25, b'"\\ud800"', b'<',
                          b'&', b'[' * 2000, b'&lt;', b'true', hit.group() + b'0', b''))
        changed = xml[:hit.start()] + new[:max(len(hit.group()), rng.choice((0, 0, 5000)))] + xml[hit.end():]
        # Its length is known to the IFD, so it must stay what it is.
        xml = (changed + b' ' * len(xml))[:len(xml)] if len(changed) < len(xml) else changed[:len(xml)]
    if rng.random() < 0.8:
        place = list(SEAL.finditer(xml))
        if place:
            at = place[-1].start()
            xml = xml[:at] + b'"%08x"' % crc32(xml[:at]) + xml[at + 10:]
    data[start:end] = xml
    return None


def _remove_file(rng: random.Random, mutant: Mutant, name: str) -> None:
    if len(mutant.files) > 1 and name != mutant.base.first:
        del mutant.files[name]


def _mutate_line(rng: random.Random, mutant: Mutant, name: str) -> None:
    """A line of the results file."""
    lines = bytes(mutant.files[name]).splitlines(keepends=True) or [b'\n']
    at = rng.randrange(len(lines))
    lines[at] = rng.choice((
        b'', b'\n', b'{}\n', b'[' * 5000 + b'\n', b'{"index": 1, "time_ns": 1, "result": ' + b'[' * 500 + b'\n',
        b'\xff\xfe\n', b'9' * 9000 + b'\n', lines[at] * 2, lines[at][:-1],
        lines[at].replace(b'0', b'99999999999999999999'),
        lines[at].replace(b'"index": ', b'"index": -'),
        b'{"index": 1e400, "time_ns": NaN, "result": null}\n', b'\0' * 100))
    mutant.files[name] = bytearray(b''.join(lines))


Mutation = Callable[[random.Random, Mutant, str], None]
MUTATIONS: Tuple[Mutation, ...] = (
    _flip_bits, _flip_bits, _zero, _randomise, _extreme, _extreme, _extreme, _add_a_little, _insert, _remove, _truncate,
    _duplicate, _overwrite, _exchange_pages, _concatenate, _edit_xml, _edit_xml, _remove_file)
RESULTS_MUTATIONS: Tuple[Mutation, ...] = (
    _flip_bits, _zero, _randomise, _insert, _remove, _truncate, _duplicate, _mutate_line, _mutate_line, _mutate_line)
