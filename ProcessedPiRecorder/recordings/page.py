"""What is known about one page, and the JSON text that holds it in the page's ImageDescription.

The text is pure ASCII and ends in a checksum of the strip and of itself (format: docs/format.md)::

    {"ppr":1,"page":0,"index":0,"time_ns":1,"sensor_ns":null,"host_ns":1,"status":"raw","effort":"huffman","crc32":"…"}
"""

from __future__ import annotations

import json
import re
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Tuple

from ..errors import RecordingFormatError
from .deflate import crc32

__all__ = ['FORMAT_VERSION', 'MOST_LOSSES', 'STATUSES', 'PageRecord', 'StoredPage', 'open_text', 'parse_text',
           'rewritten', 'seal_text', 'strip_crc', 'text_is_intact']

FORMAT_VERSION = 1

#: How the recorded pixels came to be; the order is that of the codes in the page index.
STATUSES = ('raw', 'returned', 'by-passed', 'failed')

#: Places of loss that a page tells of; were there more, the last one sums them up.
MOST_LOSSES = 1000

_SEAL = re.compile(rb',"crc32":"([0-9a-f]{8})"\}\Z')


class PageRecord(NamedTuple):
    """What the recording knows about one frame.

    Attributes:
        index: its number among the frames that the sensor made, from 0; lost frames leave gaps.
        time_ns: its originating time, ns since 1970 UTC.
        sensor_ns: the camera's own clock, ns; None where it has none.
        host_ns: CLOCK_MONOTONIC when it arrived, ns.
        status: 'raw' as it came, 'returned' by the callback, 'by-passed' raw because the callback had no time,
            'failed' raw because its call failed.
        marks: the events that fall on this frame, ``{'label': str, 'time_ns': int}`` each.
        cb_ms: how long the callback took, ms; None without one.
        skew_ns: for two cameras recorded as one, time of the left image minus time of the right one, ns.
        lost: what is missing between the page before and this one, ``{'index': int, 'count': int, 'time_ns': int or
            None, 'reason': str}`` each (index: of the first missing frame; time_ns: of the last frame before it).
    """

    index: int               # type: ignore[assignment]   # hides tuple.index, which nobody misses here
    time_ns: int
    sensor_ns: Optional[int] = None
    host_ns: int = 0
    status: str = 'raw'
    marks: Tuple[Mapping[str, Any], ...] = ()
    cb_ms: Optional[float] = None
    skew_ns: Optional[int] = None
    lost: Tuple[Mapping[str, Any], ...] = ()


class StoredPage(NamedTuple):
    """A page as its text tells it.

    Attributes:
        page: its number in this file; part: the file's number in a split recording.
        effort: spent on its compression; pressure: 1 or 2 where a filling ring had lowered it, else 0.
        crc32: over strip and text.
    """

    page: int
    part: int
    record: PageRecord
    effort: str
    crc32: int
    pressure: int = 0


def open_text(page: int, part: int, record: PageRecord, effort: str, pressure: int = 0) -> bytes:
    """The JSON text up to where the checksum goes (:func:`seal_text` adds it)."""
    sensor = 'null' if record.sensor_ns is None else f'{int(record.sensor_ns)}'
    text = (f'{{"ppr":{FORMAT_VERSION},"page":{page},' + (f'"part":{part},' if part else '')
            + f'"index":{int(record.index)},"time_ns":{int(record.time_ns)},"sensor_ns":{sensor},'
              f'"host_ns":{int(record.host_ns)},"status":"{record.status}","effort":"{effort}"')
    if pressure:
        text += f',"pressure":{pressure}'
    if record.cb_ms is not None:
        text += f',"cb_ms":{record.cb_ms:.3f}'
    if record.skew_ns is not None:
        text += f',"skew_ns":{int(record.skew_ns)}'
    if record.lost:
        lost = [{'index': int(loss['index']), 'count': int(loss['count']),
                 'time_ns': None if loss['time_ns'] is None else int(loss['time_ns']), 'reason': str(loss['reason'])}
                for loss in record.lost]
        text += ',"lost":' + json.dumps(lost, separators=(',', ':'))
    if record.marks:
        marks = [{'label': str(mark['label']), 'time_ns': int(mark['time_ns'])} for mark in record.marks]
        text += ',"marks":' + json.dumps(marks, separators=(',', ':'))
    return text.encode('ascii')


def strip_crc(buffers: Iterable[Any]) -> int:
    """CRC-32 over the strip's buffers, one after the other."""
    crc = 0
    for buffer in buffers:
        crc = crc32(buffer, crc)
    return crc


def seal_text(opened: bytes, crc_of_strip: int) -> Tuple[bytes, int]:
    """The whole text, and the CRC-32 over the strip followed by the text before the checksum's field."""
    crc = crc32(opened, crc_of_strip)
    return opened + b',"crc32":"%08x"}' % crc, crc


def text_is_intact(text: bytes, crc_of_strip: int) -> bool:
    """Whether the text's checksum fits the strip and the text."""
    seal = _SEAL.search(text)
    return seal is not None and crc32(text[:seal.start()], crc_of_strip) == int(seal.group(1), 16)


def rewritten(text: bytes, before: StoredPage, stored: StoredPage, crc_of_strip: int) -> Tuple[bytes, int]:
    """The text of a page, which told it as ``before``, as ``stored`` tells it now; sealed anew, and its CRC-32.

    ``stored`` may differ from what the text tells in its place (page, part), index, sensor_ns, host_ns, losses, marks.
    """
    opened = open_text(before.page, before.part, before.record, before.effort, before.pressure)
    if text.startswith(opened) and _SEAL.fullmatch(text, len(opened)):
        opened = open_text(stored.page, stored.part, stored.record, stored.effort, stored.pressure)
    else:
        opened = _edited(text, stored)     # fields of a newer version are kept
    return seal_text(opened, crc_of_strip)


def _edited(text: bytes, stored: StoredPage) -> bytes:
    known = json.loads(text.decode('ascii'))
    record = stored.record
    told = {'part': stored.part, 'lost': [dict(loss) for loss in record.lost],
            'marks': [dict(mark) for mark in record.marks]}
    values = {'ppr': known.pop('ppr'), 'page': stored.page, **({'part': stored.part} if stored.part else {})}
    values.update((name, value) for name, value in known.items() if name not in ('page', 'crc32', *told))
    values.update(index=record.index, sensor_ns=record.sensor_ns, host_ns=record.host_ns)
    values.update((name, told[name]) for name in ('lost', 'marks') if told[name])
    return json.dumps(values, separators=(',', ':'))[:-1].encode('ascii')


def parse_text(text: bytes) -> StoredPage:
    """The page that a text describes. Raises RecordingFormatError when it is not a page's text of ours."""
    try:
        fields = json.loads(text.decode('ascii'))
    except (ValueError, RecursionError) as error:
        raise RecordingFormatError(f'the page description is not JSON ({error}); this is not a recording of '
                                   'ProcessedPiRecorder, or it is damaged') from None
    if not isinstance(fields, dict) or 'ppr' not in fields:
        raise RecordingFormatError('the page description is not one of ProcessedPiRecorder; open the file with '
                                   'a general TIFF reader')
    if fields['ppr'] != FORMAT_VERSION:
        raise RecordingFormatError(f'the page is written in format version {fields["ppr"]!r}, this reader knows '
                                   f'version {FORMAT_VERSION}; install a newer ProcessedPiRecorder')
    return _stored_page(fields)


def _stored_page(fields: Dict[str, Any]) -> StoredPage:
    sensor_ns = fields.get('sensor_ns')
    cb_ms = fields.get('cb_ms')
    record = PageRecord(_integer(fields, 'index'), _integer(fields, 'time_ns'),
                        None if sensor_ns is None else _integer(fields, 'sensor_ns'), _integer(fields, 'host_ns'),
                        _text(fields, 'status'), tuple(_marks(fields)),
                        None if cb_ms is None else _number(fields, 'cb_ms'),
                        _integer(fields, 'skew_ns') if 'skew_ns' in fields else None, tuple(_losses(fields)))
    if record.status not in STATUSES:
        raise _bad('status', record.status)
    crc = _text(fields, 'crc32')
    if not re.fullmatch('[0-9a-f]{8}', crc):
        raise _bad('crc32', crc)
    part = _integer(fields, 'part') if 'part' in fields else 0
    pressure = _integer(fields, 'pressure') if 'pressure' in fields else 0
    return StoredPage(_integer(fields, 'page'), part, record, _text(fields, 'effort'), int(crc, 16), pressure)


def _losses(fields: Dict[str, Any]) -> List[Dict[str, Any]]:
    losses = fields.get('lost', [])
    if not isinstance(losses, list) or not all(isinstance(loss, dict) for loss in losses):
        raise _bad('lost', losses)
    return [{'index': _integer(loss, 'index'), 'count': _integer(loss, 'count'),
             'time_ns': None if loss.get('time_ns') is None else _integer(loss, 'time_ns'),
             'reason': _text(loss, 'reason')} for loss in losses]


def _marks(fields: Dict[str, Any]) -> List[Dict[str, Any]]:
    marks = fields.get('marks', [])
    if not isinstance(marks, list) or not all(isinstance(mark, dict) for mark in marks):
        raise _bad('marks', marks)
    return [{'label': _text(mark, 'label'), 'time_ns': _integer(mark, 'time_ns')} for mark in marks]


def _integer(fields: Dict[str, Any], name: str) -> int:
    value = fields.get(name)
    # The page index holds these as signed 64-bit numbers.
    if type(value) is not int or not -2**63 <= value < 2**63:
        raise _bad(name, value)
    return value


def _number(fields: Dict[str, Any], name: str) -> float:
    value = fields.get(name)
    if type(value) not in (int, float):
        raise _bad(name, value)
    return float(value)   # type: ignore[arg-type]


def _text(fields: Dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise _bad(name, value)
    return value


def _bad(name: str, value: Any) -> RecordingFormatError:
    return RecordingFormatError(f'the page description holds {name}={str(value)[:60]!r}, which cannot be; '
                                'the file is damaged')
