"""The preface: what is known of a recording before its first page, so that a crash does not take it along.

One block directly behind the header: settings, metadata and camera as JSON, with a checksum (format:
docs/format.md). A finished file tells the same in its OME-XML; ``ppr repair`` needs it of one that is not finished.
"""

from __future__ import annotations

import json
import struct
from typing import Any, Dict, Mapping

from ..errors import RecordingFormatError
from .deflate import crc32
from .ome import to_json

__all__ = ['HEAD_SIZE', 'MAGIC', 'head_length', 'make_preface', 'parse_preface', 'recording_of']

MAGIC = b'PPRABOUT'
VERSION = 1
MAX_BYTES = 1 << 28

# magic, version, CRC-32 of magic, version, length and JSON; length of the JSON
_HEAD = struct.Struct('<8sIIQ')
HEAD_SIZE = _HEAD.size


def make_preface(about: Mapping[str, Any]) -> bytes:
    """The block, without padding. ``about``: names to what JSON can hold."""
    text = to_json(dict(about)).encode('ascii')
    return _HEAD.pack(MAGIC, VERSION, _crc(VERSION, text), len(text)) + text


def head_length(head: bytes) -> int:
    """Bytes of the whole block, from its first HEAD_SIZE; 0 when no preface begins here."""
    if len(head) < HEAD_SIZE or not head.startswith(MAGIC):
        return 0
    length = int(_HEAD.unpack_from(head)[3])
    return HEAD_SIZE + length if length <= MAX_BYTES else 0


def parse_preface(block: bytes) -> Dict[str, Any]:
    """What the block tells. Raises RecordingFormatError when it is damaged or of a version that we do not know."""
    if not 0 < head_length(block) <= len(block):
        raise RecordingFormatError('the preface is cut off or damaged')
    _, version, crc, length = _HEAD.unpack_from(block)
    text = block[HEAD_SIZE:HEAD_SIZE + length]
    if _crc(version, text) != crc:
        raise RecordingFormatError('the preface is damaged (its checksum does not fit)')
    if version != VERSION:
        raise RecordingFormatError(f'the preface is written in version {version}, this reader knows version {VERSION}; '
                                   'install a newer ProcessedPiRecorder')
    try:
        about = json.loads(text.decode('ascii'))
    except (ValueError, RecursionError) as error:
        raise RecordingFormatError(f'the preface is not JSON ({error})') from None
    if not isinstance(about, dict):
        raise RecordingFormatError(f'the preface holds a {type(about).__name__}, not an object')
    return about


def recording_of(about: Mapping[str, Any]) -> str:
    """What a preface tells of the recording that its file is of: the same in all its files, and in no other; or ''."""
    place = about.get('file')
    told = place.get('recording') if isinstance(place, dict) else ''
    return told if isinstance(told, str) else ''


def _crc(version: int, text: bytes) -> int:
    return crc32(text, crc32(struct.pack('<8sIQ', MAGIC, version, len(text))))
