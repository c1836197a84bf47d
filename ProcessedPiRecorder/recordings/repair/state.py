"""What is the matter with one file: its whole pages, where they stand, and what else of it survived."""

from __future__ import annotations

import bisect
import os
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from ...errors import RecordingFormatError
from ..bigtiff import HEADER_SIZE, PageLayout
from ..decoder import decode_strip
from ..index import INDEX_DTYPE, PAGES_A_BLOCK, index_block
from ..preface import HEAD_SIZE, head_length, parse_preface
from ..tags import PageShape
from .haystack import Haystack, Progress
from .remains import PRECIOUS, Budget, Description, Gap, find_by_index, find_description, index_rows
from .scan import FULL_BLOCK, ROW_DTYPE, Scan, aligned, find_pages, layout_of, read_own_ifd, rows_of

__all__ = ['FileState', 'examine']

MAGIC_BYTES = struct.pack('<2sHHH', b'II', 43, 8, 0)
MOST_PAGES = 1 << 40         # more than any disk holds


@dataclass
class FileState:
    """One file of a recording, as it was found.

    Attributes:
        path, size: bytes. found: whole pages of whatever kind.
        rows: the pages that belong to it, by their numbers (ROW_DTYPE). shape, layout: theirs; None without pages.
        part: its number in the recording; None when nothing tells.
        about: settings, metadata, camera and file, from the preface or the OME-XML. description: the OME-XML.
        known: how many pages it is known to have had, at least. damaged: of these, how many are not whole.
        left_out: whole pages that do not belong to it. unreadable: bytes that the disk could not read.
        linked: pages that the chain reached.
        regular: all pages stand where they were written, none is missing among them; only what can be made anew
            (links, IFDs, index, description) may be damaged. Then: begin: where page 0 begins; end: where the last
            page ends; blocks: where index blocks stand between the pages; reached: how far page 0's own IFD leads.
        finished: it came to a clean end, and pages, index, description and every byte else are as they should be.
    """

    path: Path
    size: int = 0
    found: int = 0
    rows: np.ndarray = field(default_factory=lambda: np.zeros(0, ROW_DTYPE))
    shape: Optional[PageShape] = None
    part: Optional[int] = None
    about: Dict[str, Any] = field(default_factory=dict)
    has_preface: bool = False
    description: Optional[Description] = None
    known: int = 0
    damaged: int = 0
    left_out: int = 0
    unreadable: int = 0
    linked: int = 0
    regular: bool = False
    begin: int = HEADER_SIZE
    end: int = HEADER_SIZE
    blocks: List[int] = field(default_factory=list)
    reached: int = 0
    first_ifd: int = 0
    header_ok: bool = False
    finished: bool = False

    @property
    def layout(self) -> PageLayout:
        assert self.shape is not None
        return layout_of(self.shape)

    @property
    def annotations(self) -> Dict[str, Any]:
        """Of a finished file whose description is whole; {} else."""
        return self.description.annotations if self.description is not None and self.description.sealed else {}

    @property
    def described(self) -> bool:
        """The description is whole and speaks of just the pages that are here."""
        facts = self.annotations.get('file')
        return isinstance(facts, dict) and facts.get('pages') == len(self.rows) and self.regular

    def expected_next(self) -> np.ndarray:
        """The link that each page should have."""
        following = np.zeros(len(self.rows), np.uint64)
        following[:-1] = self.rows['ifd_offset'][1:]
        return following

    def index_blocks(self) -> List[Tuple[int, bytes]]:
        """All index blocks of a regular file, and where they belong; those behind the pages from ``end`` on."""
        made: List[Tuple[int, bytes]] = []
        offset, previous = self.end, 0
        for number, first in enumerate(range(0, len(self.rows), PAGES_A_BLOCK)):
            rows = self.rows[first:first + PAGES_A_BLOCK]
            records = np.empty(len(rows), INDEX_DTYPE)
            for name in INDEX_DTYPE.names or ():
                records[name] = rows[name]
            block = index_block(records.tobytes(), first, previous)
            place = self.blocks[number] if number < len(self.blocks) else offset
            if place == offset:
                offset = aligned(offset + len(block))
            made.append((place, block))
            previous = place
        return made


def examine(path: Path, progress: Optional[Progress] = None) -> FileState:
    """Look at a file; it is only read. Raises OSError when it cannot be."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        file = Haystack(path, fd, progress)
        state = FileState(path, size=file.size)
        _look(file, state)
        state.unreadable = file.unreadable
        return state
    finally:
        os.close(fd)


def _look(file: Haystack, state: FileState) -> None:
    begin = _read_beginning(file, state)
    state.begin = begin if state.has_preface else HEADER_SIZE
    scan = find_pages(file, begin)
    gaps = _gaps(scan, file.size)
    counted, hidden, budget = 0, [], Budget(file)
    known = scan.rows['strip_offset'] + scan.rows['strip_length']
    for first_page, records in index_rows(file, gaps):
        counted = max(counted, first_page + len(records))
        hidden += find_by_index(file, first_page, records, known, budget)
    rows = np.concatenate([scan.rows, rows_of(hidden, scan.shapes)]) if hidden else scan.rows
    state.found = len(rows)
    state.description = find_description(file, gaps)
    _take_annotations(state)
    if len(rows):
        state.shape = _shape(file, rows, scan.shapes, state.about)
    if state.shape is not None:
        state.rows = _choose(file, rows, scan.shapes, state.shape)
    state.left_out = state.found - len(state.rows)
    if len(state.rows):
        state.part = int(state.rows['part'][0])
        _count_damaged(state, scan, counted)
        _place_pages(state)
        state.linked = _linked(file, state)
        state.finished = state.header_ok and _is_finished(file, state)


def _read_beginning(file: Haystack, state: FileState) -> int:
    """Header and preface; where page 0 begins, as far as they tell."""
    header = file.part(0, HEADER_SIZE)
    state.header_ok = header[:8] == MAGIC_BYTES and len(header) == HEADER_SIZE
    if len(header) == HEADER_SIZE:
        state.first_ifd, = struct.unpack_from('<Q', header, 8)
    length = head_length(file.part(HEADER_SIZE, HEAD_SIZE))
    block = file.part(HEADER_SIZE, aligned(length))
    if not length or len(block) < length:
        return HEADER_SIZE
    try:
        state.about = parse_preface(block[:length])
        state.has_preface = not any(block[length:])
    except RecordingFormatError:
        pass                               # the description may tell the same
    return HEADER_SIZE + aligned(length)


def _take_annotations(state: FileState) -> None:
    if state.description is not None and not state.about:
        names = (*PRECIOUS, 'file') if state.description.sealed else PRECIOUS
        state.about = {name: state.description.annotations[name] for name in names
                       if isinstance(state.description.annotations.get(name), dict)}
    place = state.about.get('file')
    if isinstance(place, dict) and type(place.get('part')) is int:
        state.part = place['part']


def _gaps(scan: Scan, size: int) -> List[Gap]:
    """What lies before, between and behind the pages."""
    rows = scan.rows
    sizes = np.array([layout_of(shape).size for shape in scan.shapes] + [0], np.int64)
    ends = rows['ifd_offset'].astype(np.int64) + np.where(rows['has_ifd'], sizes[rows['shape']], 0)
    starts = np.concatenate([[HEADER_SIZE], ends])
    stops = np.concatenate([rows['strip_offset'].astype(np.int64), [size]])
    wide = np.flatnonzero(stops > starts)
    return [(int(starts[number]), int(stops[number])) for number in wide]


def _shape(file: Haystack, rows: np.ndarray, shapes: List[PageShape], about: Dict[str, Any]) -> Optional[PageShape]:
    """The shape of most pages that fits; where no IFD tells one, that of preface or description, if it fits."""
    told = rows['shape'][rows['has_ifd']]
    for number in np.argsort(-np.bincount(told), kind='stable') if len(told) else ():
        # One flipped bit in the width of an IFD makes another IFD.
        like = np.flatnonzero(rows['has_ifd'] & (rows['shape'] == number))
        if len(like) and _fits(file, rows[like[0]], shapes[number]):
            return shapes[number]
    camera, settings = about.get('camera'), about.get('settings')
    if not isinstance(camera, dict):
        return None
    scale = settings.get('scale_factor', 1) if isinstance(settings, dict) else 1
    sizes = [(camera.get('frame_height'), camera.get('frame_width')), (camera.get('height'), camera.get('width'))]
    if isinstance(scale, (int, float)):
        sizes += [(round(height * scale), round(width * scale)) for height, width in sizes
                  if type(height) is int and type(width) is int]
    for height, width in sizes:
        for compressed in (True, False):
            if type(height) is int and type(width) is int and height > 0 and width > 0:
                shape = PageShape(height, width, 1 if camera.get('pixel_format') == 'gray' else 3, compressed)
                if _fits(file, rows[0], shape):
                    return shape
    return None


def _fits(file: Haystack, row: np.void, shape: PageShape) -> bool:
    """Whether a strip holds pixels of this shape."""
    length = int(row['strip_length'])
    if not shape.compressed:
        return length == shape.nbytes
    try:
        decode_strip(file.part(int(row['strip_offset']), length), *shape, 'rgb')
    except RecordingFormatError:
        return False
    return True


def _choose(file: Haystack, rows: np.ndarray, shapes: List[PageShape], shape: PageShape) -> np.ndarray:
    """The pages that belong together, by their numbers: of one shape and part, each once, in order of time."""
    alike = np.array([bool(row['has_ifd']) and shapes[row['shape']] == shape for row in rows])
    # An IFD in its place that tells of another size, over pixels of this one, is damaged.
    keep = np.array([same or not (row['has_ifd'] and row['shift']) and _fits(file, row, shape)
                     for same, row in zip(alike, rows)])
    rows, alike = rows[keep], alike[keep]
    rows['has_ifd'] &= alike
    rows['tail_ok'] &= alike
    parts, counts = np.unique(rows['part'], return_counts=True)
    rows = rows[(rows['part'] == parts[counts.argmax()]) & (rows['page'] >= 0)]
    # A page in its place comes first; one that stands elsewhere is of another recording when it, or another page that
    # was moved as far, contradicts one in its place.
    rows = rows[np.lexsort((rows['strip_offset'], rows['shift'] != 0, rows['page']))]
    double = np.concatenate([[False], rows['page'][1:] == rows['page'][:-1]])
    first = np.maximum.accumulate(np.where(double, 0, np.arange(len(rows))))
    contradicts = double & (rows['crc32'] != rows['crc32'][first])
    foreign = np.unique(rows['shift'][contradicts])
    rows = rows[~double & ((rows['shift'] == 0) | ~np.isin(rows['shift'], foreign))]
    for name in ('time_ns', 'index'):
        rows = rows[_rising(rows[name])]
    return rows


def _rising(values: np.ndarray) -> np.ndarray:
    """Indices of a longest strictly increasing choice of the values."""
    if (np.diff(values) > 0).all():
        return np.arange(len(values))
    tails: List[int] = []
    places: List[int] = []
    before = np.full(len(values), -1)
    for number, value in enumerate(values.tolist()):
        at = bisect.bisect_left(tails, value)
        before[number] = places[at - 1] if at else -1
        tails[at:at + 1] = [value]
        places[at:at + 1] = [number]
    chosen = []
    number = places[-1]
    while number >= 0:
        chosen.append(number)
        number = int(before[number])
    return np.array(chosen[::-1])


def _count_damaged(state: FileState, scan: Scan, counted: int) -> None:
    pages = state.rows['page']
    facts = state.annotations.get('file')
    if isinstance(facts, dict) and type(facts.get('pages')) is int:
        counted = max(counted, facts['pages'])
    counted = counted if counted < MOST_PAGES else 0
    # A text without a right checksum may say anything: nothing beyond what the file could hold is believed.
    last = int(pages[-1])
    seen = {page for page in scan.damaged if last < page < last + 2 + state.size // 512}
    state.known = max(counted, last + 1, max(seen) + 1 if seen else 0)
    missing = max(counted, last + 1) - len(pages)
    state.damaged = missing + len([page for page in seen if page >= counted])


def _place_pages(state: FileState) -> None:
    """Whether every page stands where it was written, one behind the other."""
    rows = state.rows
    ends = rows['ifd_offset'].astype(np.int64) + state.layout.size
    gaps = rows['strip_offset'].astype(np.int64) - np.concatenate([[state.begin], ends[:-1]])
    between = np.flatnonzero(gaps)
    state.blocks = [int(ends[number - 1]) for number in between if number > 0]
    pages_before = PAGES_A_BLOCK * np.arange(1, len(between) + 1)
    state.regular = bool((rows['page'] == np.arange(len(rows))).all() and (rows['shift'] == 0).all()
                         and (gaps[between] == FULL_BLOCK).all() and (between >= pages_before).all())
    state.end = int(ends[-1])


def _linked(file: Haystack, state: FileState) -> int:
    """How many of the pages the chain reaches."""
    rows, first = state.rows, state.first_ifd
    good = rows['has_ifd'] & (rows['shift'] == 0)
    follows = np.append(rows['next'][:-1] == rows['ifd_offset'][1:], False)
    breaks = np.flatnonzero(~(good & follows))
    state.reached = reached = _up_to(int(breaks[0]), good)
    if first == rows['ifd_offset'][0]:
        return reached
    ifd = read_own_ifd(file, first)
    if ifd is None or ifd.strip_offset != rows['strip_offset'][0]:
        return 0
    if len(rows) == 1 or ifd.next != rows['ifd_offset'][1]:
        return 1
    return _up_to(int(breaks[breaks > 0][0]), good)


def _up_to(last: int, good: np.ndarray) -> int:
    """Pages of a chain that breaks off at this one: behind it, or before it if its own IFD is not whole."""
    return last + 1 if good[last] else last


def _is_finished(file: Haystack, state: FileState) -> bool:
    """Whether every byte is as the end of a recording leaves it."""
    if not state.described or state.damaged or state.left_out or state.description is None:
        return False
    rows = state.rows
    if not (rows['tail_ok'].all() and (rows['next'] == state.expected_next()).all()):
        return False
    blocks = state.index_blocks()
    offset = state.end
    for place, block in blocks:
        if file.part(place, aligned(len(block))) != block + bytes(-len(block) % 8):
            return False
        offset = max(offset, aligned(place + len(block)))
    xml_at, length = state.description.offset, state.description.length
    ifd_at = aligned(xml_at + length + 1)
    ifd = state.layout.ifd(int(rows['strip_offset'][0]), int(rows['strip_length'][0]), xml_at, length + 1,
                           int(rows['next'][0]))
    padding = file.part(xml_at + length, ifd_at - xml_at - length)
    return (xml_at == offset and state.first_ifd == ifd_at and not any(padding) and file.part(ifd_at, len(ifd)) == ifd
            and state.size == ifd_at + len(ifd)
            and state.annotations['file'].get('index') == [place for place, _ in blocks])
