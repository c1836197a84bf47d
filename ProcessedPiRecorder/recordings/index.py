"""The packed page index: blocks of fixed records, so that a million pages open with a few reads, not a walk.

A block is a header of 48 bytes and up to 4096 records of 64 bytes; each block tells where the one before it is.
All numbers are little-endian (format: docs/format.md).
"""

from __future__ import annotations

import struct
from typing import NamedTuple, Optional, Tuple

import numpy as np

from ..errors import RecordingFormatError
from .deflate import crc32
from .encoder import EFFORTS
from .page import STATUSES, PageRecord

__all__ = ['BLOCK_HEADER_SIZE', 'INDEX_DTYPE', 'PAGES_A_BLOCK', 'BlockHeader', 'IndexBuilder', 'index_block',
           'index_record', 'pack_record', 'parse_block_header', 'parse_block']

MAGIC = b'PPRINDEX'
VERSION = 1
PAGES_A_BLOCK = 4096
NO_SENSOR_TIME = -2**63
WITHOUT_INDEX = 'TIFF readers do not need it: tifffile, for example, may still read the pages'

#: One record. ``marks`` counts the page's marks (65535: that many or more); ``sensor_ns`` is -2**63 for none.
INDEX_DTYPE = np.dtype([
    ('ifd_offset', '<u8'), ('strip_offset', '<u8'), ('index', '<i8'), ('time_ns', '<i8'), ('sensor_ns', '<i8'),
    ('host_ns', '<i8'), ('strip_length', '<u4'), ('text_length', '<u4'), ('crc32', '<u4'), ('status', 'u1'),
    ('effort', 'u1'), ('marks', '<u2')])

_RECORD = struct.Struct('<QQqqqqIIIBBH')
# magic, version, record size, first page, pages, offset of the block before (0: none), CRC-32, zero
_HEADER = struct.Struct('<8sIIQQQII')
BLOCK_HEADER_SIZE = _HEADER.size
_CRC_FROM = 40

_STATUS_CODES = {status: code for code, status in enumerate(STATUSES)}
_EFFORT_CODES = {effort: code for code, effort in enumerate(EFFORTS)}


def index_record(ifd_offset: int, strip_offset: int, strip_length: int, text_length: int, record: PageRecord,
                 effort: str, crc: int) -> Tuple[int, ...]:
    """The fields of one record, in the order of INDEX_DTYPE."""
    sensor_ns = NO_SENSOR_TIME if record.sensor_ns is None else int(record.sensor_ns)
    return (ifd_offset, strip_offset, int(record.index), int(record.time_ns), sensor_ns, int(record.host_ns),
            strip_length, text_length, crc, _STATUS_CODES[record.status], _EFFORT_CODES.get(effort, 255),
            min(len(record.marks), 65535))


def pack_record(fields: Tuple[int, ...]) -> bytes:
    """One record as it stands in a block."""
    return _RECORD.pack(*fields)


def index_block(records: bytes, first_page: int, previous: int) -> bytes:
    """A whole block; ``previous``: offset of the block before it, 0 for none."""
    count = len(records) // _RECORD.size
    head = _HEADER.pack(MAGIC, VERSION, _RECORD.size, first_page, count, previous, 0, 0)[:_CRC_FROM]
    return head + struct.pack('<II', crc32(records, crc32(head)), 0) + records


class IndexBuilder:
    """Collects records and hands them out as blocks. One thread at a time."""

    def __init__(self) -> None:
        self._records = bytearray(PAGES_A_BLOCK * _RECORD.size)
        self._first = 0
        self._count = 0
        self._previous = 0

    @property
    def full(self) -> bool:
        return self._count == PAGES_A_BLOCK

    @property
    def pending(self) -> int:
        """Records that are in no block yet."""
        return self._count

    @property
    def room(self) -> int:
        """Records that can be added until a block is full; a full one has to be taken out first."""
        return PAGES_A_BLOCK - self._count or PAGES_A_BLOCK

    def add(self, fields: Tuple[int, ...]) -> None:
        _RECORD.pack_into(self._records, self._count * _RECORD.size, *fields)
        self._count += 1

    def block(self, offset: int) -> bytes:
        """The block of the records collected since the last one; it is going to be written at ``offset``."""
        records = bytes(self._records[:self._count * _RECORD.size])
        block = index_block(records, self._first, self._previous)
        self._first += self._count
        self._count = 0
        self._previous = offset
        return block


class BlockHeader(NamedTuple):
    """What stands before a block's records."""

    first_page: int
    pages: int
    previous: int
    crc32: int

    @property
    def size(self) -> int:
        """Bytes of the whole block."""
        return BLOCK_HEADER_SIZE + self.pages * _RECORD.size


def parse_block_header(data: bytes) -> BlockHeader:
    """Raises RecordingFormatError when this is no index block that we can read."""
    if len(data) < BLOCK_HEADER_SIZE:
        raise RecordingFormatError(f'a page index block is cut off; {WITHOUT_INDEX}')
    magic, version, size, first, count, previous, crc, _ = _HEADER.unpack_from(data)
    if magic != MAGIC or version != VERSION or size != _RECORD.size or not 0 < count <= PAGES_A_BLOCK:
        raise RecordingFormatError(f'no page index block of version {VERSION} where one should be; '
                                   f'{WITHOUT_INDEX}')
    return BlockHeader(first, count, previous, crc)


def parse_block(data: bytes, header: Optional[BlockHeader] = None) -> np.ndarray:
    """The records of a whole block as an array of INDEX_DTYPE. Raises RecordingFormatError if it is damaged."""
    header = header or parse_block_header(data)
    records = data[BLOCK_HEADER_SIZE:header.size]
    if len(data) < header.size or crc32(records, crc32(data[:_CRC_FROM])) != header.crc32:
        raise RecordingFormatError(f'the page index block of pages from {header.first_page} is damaged '
                                   f'(its checksum does not fit); {WITHOUT_INDEX}')
    return np.frombuffer(records, INDEX_DTYPE)
