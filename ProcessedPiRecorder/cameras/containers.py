"""What a video file's container says about its own completeness, read from its outer structure alone.

OpenCV ends a truncated file like a whole one, and its frame count is an estimate for some containers and counts
frames that an edit list hides in others. Layouts: ISO/IEC 14496-12 (MP4, MOV), Microsoft's RIFF and OpenDML (AVI),
RFC 8794 and RFC 9559 (Matroska, WebM).
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import BinaryIO, Iterator, List, Optional, Tuple

import numpy as np

__all__ = ['AviIndex', 'Container', 'avi_index', 'inspect']

MAX_BOXES = 100_000
NESTED = (b'moov', b'trak', b'edts', b'mdia', b'minf', b'stbl')
MAX_INDEX_BYTES = 1 << 26
PICTURE = int.from_bytes(b'vide', 'big')


@dataclass(frozen=True)
class Container:
    """Attributes:
        kind: 'mp4', 'avi', 'matroska' or '' for any other.
        exact_count: its declared frame count was counted, not computed from duration and rate.
        missing_bytes: how far its declared structure reaches beyond the end of the file; 0: it is whole.
        steady: every frame lasts equally long, so that a longer step in time is a gap.
        hidden_s: seconds at the start that an edit list may hide, though their frames are counted.
    """

    kind: str = ''
    exact_count: bool = False
    missing_bytes: int = 0
    hidden_s: float = 0.0
    steady: bool = False


def inspect(path: str) -> Container:
    """Read the outer structure of the file at ``path``. Never raises on its content; OSError if it cannot be read."""
    with open(path, 'rb') as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(12)
        if head[4:8] in (b'ftyp', b'moov', b'mdat', b'free', b'skip', b'wide'):
            return _mp4(file, size)
        if head[:4] == b'RIFF' and head[8:12] == b'AVI ':
            return _avi(file, size)
        if head[:4] == b'\x1a\x45\xdf\xa3':
            return Container('matroska', missing_bytes=_matroska(file, size))
    return Container()


def _mp4(file: BinaryIO, size: int) -> Container:
    beyond, fragmented, handler, steady = 0, False, None, False
    scales: List[int] = []
    hidden: List[int] = []
    for kind, start, end in _boxes(file, 0, size):
        beyond = max(beyond, end - size)
        if kind == b'mvex':
            fragmented = True
        elif kind == b'mdhd':
            scales.append(_timescale(file, start))
        elif kind == b'elst':
            hidden.append(_first_media_time(file, start))
        elif kind == b'hdlr':
            handler = _unpack(file, start + 8, '>I')
        elif kind == b'stts' and handler == PICTURE:
            steady = _one_duration(file, start)
    # Which track is the picture does not matter: an edit list only widens what is taken for harmless.
    hidden_s = max(hidden, default=0) / min((scale for scale in scales if scale), default=1)
    return Container('mp4', not fragmented, beyond, hidden_s, steady and not fragmented)


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[Tuple[bytes, int, int]]:
    """(type, start of payload, end) of every box, going into those that hold tracks."""
    todo = [(start, end)]
    for _ in range(MAX_BOXES):
        while todo and todo[-1][0] + 8 > todo[-1][1]:
            todo.pop()
        if not todo:
            return
        at, limit = todo.pop()
        file.seek(at)
        head = file.read(16)
        if len(head) < 8:
            continue
        length, kind = struct.unpack('>I4s', head[:8])
        payload = at + 8
        if length == 1 and len(head) == 16:
            length, payload = struct.unpack('>Q', head[8:])[0], at + 16
        elif length == 0:       # to the end of the file
            length = limit - at
        if length < payload - at or not kind.strip().isalnum():
            continue
        yield kind, payload, at + length
        todo.append((at + length, limit))
        if kind in NESTED or kind == b'moof':
            todo.append((payload, min(at + length, limit)))


def _timescale(file: BinaryIO, payload: int) -> int:
    version = _unpack(file, payload, '>B') or 0
    return _unpack(file, payload + (20 if version == 1 else 12), '>I') or 0


def _first_media_time(file: BinaryIO, payload: int) -> int:
    version = _unpack(file, payload, '>B')
    count = min(_unpack(file, payload + 4, '>I') or 0, 16)
    entry, offset, form = (20, 8, '>q') if version == 1 else (12, 4, '>i')
    times = (_unpack(file, payload + 8 + number * entry + offset, form) or 0 for number in range(count))
    return max(0, next((time for time in times if time >= 0), 0))      # -1 is an empty edit: a pause, nothing hidden


def _one_duration(file: BinaryIO, payload: int) -> bool:
    """Whether all frames last equally long; the last one may differ, and with it nothing is lost."""
    runs = _unpack(file, payload + 4, '>I')
    return runs == 1 or runs == 2 and _unpack(file, payload + 16, '>I') == 1


def _unpack(file: BinaryIO, at: int, form: str) -> Optional[int]:
    file.seek(at)
    raw = file.read(struct.calcsize(form))
    return struct.unpack(form, raw)[0] if len(raw) == struct.calcsize(form) else None


def _avi(file: BinaryIO, size: int) -> Container:
    """A chain of RIFF chunks; files beyond 1 GB have several."""
    at = 0
    for _ in range(MAX_BOXES):
        file.seek(at)
        head = file.read(12)
        if len(head) < 12 or head[:4] != b'RIFF' or head[8:] not in (b'AVI ', b'AVIX'):
            break
        length = struct.unpack('<I', head[4:8])[0]
        if length == 0xFFFFFFFF:      # written to a pipe: the length was never known
            return Container('avi', True, steady=True)
        at += 8 + length
        # Chunks are padded to even lengths, but some writers leave the last byte out.
        if at + 1 >= size:
            break
        at += length % 2
    return Container('avi', True, max(0, at - size), steady=True)


class AviIndex:
    """Which of an AVI's frames each picture chunk is that a demuxer still finds in a damaged file.

    A demuxer numbers the chunks that it meets, so that behind a destroyed stretch all its numbers are too low. The
    index at the end of the file says where every chunk was; those whose headers are destroyed cannot have been met.

    Headers are read as the film goes on, when the demuxer has just been there: at once it would be a search all over
    the disk. Not for several threads, but ``close`` may come from another.
    """

    def __init__(self, file: BinaryIO, offsets: np.ndarray, ids: np.ndarray) -> None:
        self._file, self._offsets, self._ids = file, offsets, ids
        self._number = self._met = -1
        self._overrun = False

    def number_of_chunk(self, met: int) -> Optional[int]:
        """The number, from 0, of the frame in the ``met``-th chunk, from 0, that is intact; None: there is none."""
        while self._met < met:
            if self._number + 1 >= len(self._offsets):
                self._overrun = True
                return None
            self._number += 1
            self._met += self.intact(self._number)
        return self._number

    @property
    def agrees(self) -> bool:
        """Whether all that was met is in the index, and no intact chunk follows the one met last."""
        return not self._overrun and not any(map(self.intact, range(self._number + 1, len(self._offsets))))

    def intact(self, number: int) -> bool:
        """Whether the chunk of this frame still begins as the index says."""
        try:
            self._file.seek(int(self._offsets[number]))
            return self._file.read(4) == self._ids[number].tobytes()
        except (OSError, ValueError):       # ValueError: closed meanwhile
            return False

    def close(self) -> None:
        self._file.close()


def avi_index(path: str, frames: int) -> Optional[AviIndex]:
    """The index of the AVI at ``path``; None where it has none, or none of exactly so many frames."""
    file = open(path, 'rb')
    try:
        index = _avi_index(file, frames)
    except (OSError, ValueError):
        index = None
    if index is None:
        file.close()
    return index


def _avi_index(file: BinaryIO, frames: int) -> Optional[AviIndex]:
    movi, at, length = _movi_and_index(file)
    if not movi or length > min(MAX_INDEX_BYTES, os.fstat(file.fileno()).st_size - at):
        return None
    file.seek(at)
    entries = np.frombuffer(file.read(length - length % 16), np.uint8).reshape(-1, 16)
    pictures = entries[(entries[:, 2] == ord('d')) & np.isin(entries[:, 3], (ord('c'), ord('b')))]
    if not frames or len(pictures) != frames or (pictures[:, :2] != pictures[0, :2]).any():
        return None
    ids, offsets = pictures[:, :4], pictures[:, 8:12].copy().view('<u4')[:, 0].astype(np.int64)
    # Offsets count from the list's name by the letter of the format, and from the file's beginning with some writers.
    for base in (movi, 0):
        index = AviIndex(file, offsets + base, ids)
        if any(map(index.intact, range(0, frames, max(1, frames // 64)))):
            return index
    return None


def _movi_and_index(file: BinaryIO) -> Tuple[int, int, int]:
    """Where the name of the list of chunks lies, the index's payload, and its length; zeros without them."""
    at, movi = 12, 0
    for _ in range(MAX_BOXES):
        file.seek(at)
        head = file.read(12)
        if len(head) < 8:
            break
        kind, length = struct.unpack('<4sI', head[:8])
        if kind == b'LIST' and head[8:] == b'movi':
            movi = at + 8
        elif kind == b'idx1':
            return movi, at + 8, length
        at += 8 + length + length % 2
    return 0, 0, 0


def _matroska(file: BinaryIO, size: int) -> int:
    """Bytes of the Segment that lie beyond the end of the file."""
    at = 0
    for _ in range(64):
        file.seek(at)
        raw = file.read(12)
        if len(raw) < 2 or not raw[0]:
            return 0
        id_length = 9 - raw[0].bit_length()
        length, used = _variable_size(raw[id_length:])
        if length is None:      # unknown: a live recording, which may end anywhere
            return 0
        payload = at + id_length + used
        if raw[:4] == b'\x18\x53\x80\x67':
            return max(0, payload + length - size)
        at = payload + length
        if at >= size:      # and perhaps beyond what a file offset can be
            return 0
    return 0


def _variable_size(raw: bytes) -> Tuple[Optional[int], int]:
    if not raw or not raw[0]:
        return None, 0
    used = 9 - raw[0].bit_length()
    value = int.from_bytes(raw[:used], 'big') & ((1 << 7 * used) - 1)
    return (None if value == (1 << 7 * used) - 1 or len(raw) < used else value), used
