"""Deflate and CRC-32, from zlib-ng where it is installed, else from the standard library; the calls are the same."""

from __future__ import annotations

import zlib
from types import ModuleType

__all__ = ['NAME', 'codec', 'crc32']

codec: ModuleType
try:
    # About twice as fast at Huffman coding, and CRC-32 is many times faster.
    from zlib_ng import zlib_ng as codec

    NAME = 'zlib-ng'
except ImportError:
    codec = zlib
    NAME = 'zlib'

crc32 = codec.crc32
