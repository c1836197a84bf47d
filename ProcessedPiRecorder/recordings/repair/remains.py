"""What is left between the whole pages of a file: index blocks, and the OME-XML of a file that was finished."""

from __future__ import annotations

import json
import re
from html import unescape
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np

from ...errors import RecordingFormatError
from ..index import BLOCK_HEADER_SIZE, MAGIC, parse_block, parse_block_header
from ..ome import parse_annotations, seal_is_intact
from .haystack import Haystack
from .scan import GUESS_BUDGET, LEAST_BUDGET, MAX_TEXT, Whole, aligned, prove

__all__ = ['Budget', 'Description', 'Gap', 'find_by_index', 'find_description', 'index_rows']

XML_BEGINS = b'<?xml version="1.0" encoding="UTF-8"?>\n<OME '
XML_ENDS = b'</StructuredAnnotations></OME>'
MAX_XML = 1 << 28
PRECIOUS = ('settings', 'metadata', 'camera')

_ANNOTATION = re.compile(rb'Namespace="urn:processedpirecorder:(settings|metadata|camera)"><Value>([^<]*)</Value>')

Gap = Tuple[int, int]


class Description(NamedTuple):
    """The OME-XML of a file.

    offset, length: where it stands. sealed: its checksum is right, and ``annotations`` is all of them; else they are
    what of settings, metadata and camera could still be read.
    """

    offset: int
    length: int
    sealed: bool
    annotations: Dict[str, Any]


class Budget:
    """Bytes that may still be summed up on the word of what may be garbage: in proportion to the file."""

    def __init__(self, file: Haystack) -> None:
        self._left = max(GUESS_BUDGET * file.size, LEAST_BUDGET)

    def spend(self, nbytes: int) -> bool:
        """Whether there is enough left for this."""
        if nbytes > self._left:
            return False
        self._left -= nbytes
        return True


def index_rows(file: Haystack, gaps: List[Gap]) -> Iterator[Tuple[int, np.ndarray]]:
    """Every whole index block in the gaps: the number of its first page, and its records."""
    budget = Budget(file)
    for start, end in gaps:
        position = aligned(start)
        while position + BLOCK_HEADER_SIZE <= end:
            at = file.find(MAGIC, position, end)
            if at < 0:
                break
            position = at + len(MAGIC)
            try:
                header = parse_block_header(file.part(at, BLOCK_HEADER_SIZE))
                if not budget.spend(header.size):
                    return
                rows = parse_block(file.part(at, header.size), header)
            except RecordingFormatError:
                continue
            position = at + header.size
            yield header.first_page, rows


def find_by_index(file: Haystack, first_page: int, rows: np.ndarray, known: 'np.ndarray',
                  budget: Budget) -> List[Whole]:
    """Whole pages that only the index knows how to find. known: text offsets of the pages that were found."""
    found = []
    texts = rows['strip_offset'] + rows['strip_length']
    for number in np.flatnonzero(~np.isin(texts, known)):
        row = rows[number]
        begin, length = int(row['strip_offset']), int(row['strip_length'])
        if not 0 < int(row['text_length']) <= MAX_TEXT or not budget.spend(length):
            continue
        whole = prove(file, begin, length, file.part(begin + length, int(row['text_length'])))
        if whole is not None and whole.stored.page == first_page + int(number):
            found.append(whole)
    return found


def find_description(file: Haystack, gaps: List[Gap]) -> Optional[Description]:
    """The last OME-XML in the gaps, rather a sealed one."""
    best: Optional[Description] = None
    for start, end in gaps:
        at = file.find(XML_BEGINS, start, end)
        while at >= 0:
            follows = file.find(XML_BEGINS, at + 1, end)
            limit = min(follows if follows >= 0 else end, at + MAX_XML)
            last = file.find(XML_ENDS, at, limit)
            stop = last + len(XML_ENDS) if last >= 0 else limit
            found = _description(at, file.part(at, stop - at))
            best = found if best is None or found.sealed or not best.sealed else best
            at = follows
    return best


def _description(offset: int, xml: bytes) -> Description:
    if seal_is_intact(xml):
        try:
            return Description(offset, len(xml), True, parse_annotations(xml) or {})
        except RecordingFormatError:
            pass          # sealed by someone else
    kept: Dict[str, Any] = {}
    for name, text in _ANNOTATION.findall(xml):
        try:
            value = json.loads(unescape(text.decode('ascii')))
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            kept[name.decode('ascii')] = value
    return Description(offset, len(xml), False, kept)
