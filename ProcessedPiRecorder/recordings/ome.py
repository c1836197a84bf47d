"""The OME-XML (schema 2016-06) that describes a finished file, and the annotations in it.

Everything that XML could not carry as it is (control characters, lone surrogates) travels inside JSON with all
non-ASCII escaped, one JSON text per ``CommentAnnotation``.
"""

from __future__ import annotations

import json
import math
import re
from datetime import datetime, timedelta, timezone
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence

from .._version import __version__
from ..errors import RecordingFormatError
from .deflate import crc32

__all__ = ['ANNOTATION_PREFIX', 'MAX_PLANES', 'SCHEMA', 'FileFacts', 'acquisition_date', 'ome_xml', 'parse_annotations',
           'seal_is_intact', 'to_json']

SCHEMA = 'http://www.openmicroscopy.org/Schemas/OME/2016-06'
ANNOTATION_PREFIX = 'urn:processedpirecorder:'

#: Up to so many pages each page's time stands in the XML; beyond, readers would choke on its size.
MAX_PLANES = 50_000

OPEN_PAGES = 'a general TIFF reader, such as tifffile, may still read the pages'

#: In text, and in an attribute's value; by hand, since xml.sax brings an HTTP client and TLS along.
_IN_TEXT = str.maketrans({'&': '&amp;', '<': '&lt;', '>': '&gt;'})
_IN_VALUE = {**_IN_TEXT, **str.maketrans({'"': '&quot;', '\t': '&#9;', '\n': '&#10;', '\r': '&#13;'})}

_NAME = re.compile(r'[A-Za-z0-9_.-]+')
_SEAL = re.compile(rb'"([0-9a-f]{8})"</Value></CommentAnnotation></StructuredAnnotations></OME>\Z')


class FileFacts(NamedTuple):
    """What the XML says about the images. times_ns: of the first MAX_PLANES pages; last_ns: of the last one."""

    name: str
    pages: int
    height: int
    width: int
    channels: int
    times_ns: Sequence[int]
    last_ns: int


def ome_xml(facts: FileFacts, annotations: Mapping[str, Any]) -> bytes:
    """The document, pure ASCII. Annotation names are letters, digits, ``_ . -``; values are what JSON can hold.

    Its last annotation, 'seal', is the CRC-32 of all that stands before it.
    """
    pieces = ['<?xml version="1.0" encoding="UTF-8"?>\n',
              f'<OME xmlns="{SCHEMA}" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
              f'xsi:schemaLocation="{SCHEMA} {SCHEMA}/ome.xsd" Creator="ProcessedPiRecorder {__version__}">',
              *_image(facts, len(annotations) + 1),
              '<StructuredAnnotations>']
    for number, (name, value) in enumerate(annotations.items()):
        if not _NAME.fullmatch(name):
            raise ValueError(f'an annotation is named {name!r}; use letters, digits, "_", "." and "-" only')
        text = to_json(value).translate(_IN_TEXT)
        pieces.append(f'{_begin_annotation(number, name)}{text}</Value></CommentAnnotation>')
    pieces.append(_begin_annotation(len(annotations), 'seal'))
    document = ''.join(pieces).encode('ascii', 'xmlcharrefreplace')
    return document + b'"%08x"</Value></CommentAnnotation></StructuredAnnotations></OME>' % crc32(document)


def _begin_annotation(number: int, name: str) -> str:
    return f'<CommentAnnotation ID="Annotation:{number}" Namespace="{ANNOTATION_PREFIX}{name}"><Value>'


def seal_is_intact(xml: bytes) -> bool:
    """Whether the document ends in a seal that fits what stands before it."""
    seal = _SEAL.search(xml)
    return seal is not None and crc32(xml[:seal.start()]) == int(seal.group(1), 16)


def _image(facts: FileFacts, annotations: int) -> List[str]:
    increment = ''
    if facts.pages > MAX_PLANES:
        seconds = (facts.last_ns - facts.times_ns[0]) / (facts.pages - 1) / 1e9
        increment = f' TimeIncrement="{seconds:.9f}" TimeIncrementUnit="s"'
    samples = f' SamplesPerPixel="{facts.channels}"'
    date = acquisition_date(facts.times_ns[0])
    pieces = [f'<Image ID="Image:0" Name="{_xml_text(facts.name).translate(_IN_VALUE)}">',
              f'<AcquisitionDate>{date}</AcquisitionDate>' if date else '',
              f'<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SignificantBits="8" Interleaved="true" '
              f'BigEndian="false" SizeX="{facts.width}" SizeY="{facts.height}" SizeZ="1" SizeC="{facts.channels}" '
              f'SizeT="{facts.pages}"{increment}>',
              f'<Channel ID="Channel:0:0"{samples}/>', '<TiffData/>']
    if not increment:
        pieces += _planes(facts.times_ns)
    pieces.append('</Pixels>')
    pieces += [f'<AnnotationRef ID="Annotation:{number}"/>' for number in range(annotations)]
    pieces.append('</Image>')
    return pieces


def _planes(times_ns: Sequence[int]) -> List[str]:
    first = times_ns[0]
    return [f'<Plane TheZ="0" TheC="0" TheT="{number}" DeltaT="{(time_ns - first) / 1e9:.9f}" DeltaTUnit="s"/>'
            for number, time_ns in enumerate(times_ns)]


def acquisition_date(time_ns: int) -> str:
    """UTC as OME has it; '' for what is no date."""
    try:
        moment = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=time_ns // 1000)
    except OverflowError:
        return ''
    return moment.strftime('%Y-%m-%dT%H:%M:%S.%f')


def _xml_text(text: str) -> str:
    """A file name may hold what XML cannot."""
    return re.sub('[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]', '\ufffd', text)


def to_json(value: Any) -> str:
    """ASCII JSON. What JSON does not know becomes text; NaN and infinities become null."""
    try:
        return json.dumps(value, default=str, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), default=str, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def parse_annotations(xml: bytes) -> Optional[Dict[str, Any]]:
    """Our annotations by name, without the seal; None when the document is OME-XML of someone else.

    Raises RecordingFormatError when it is no XML, or annotations of ours are damaged.
    """
    if b'<!' in xml or b'\0' in xml or not xml.isascii():
        # Entities in a document type could blow up while they are read, and other encodings could hide one.
        raise RecordingFormatError('the OME-XML is not plain ASCII, or holds a declaration, which a recording '
                                   'never does; open the file with a general TIFF reader')
    from xml.etree import ElementTree  # here: who only records need not wait for it

    try:
        root = ElementTree.fromstring(xml)
    except (ElementTree.ParseError, ValueError, LookupError) as error:      # LookupError: of its encoding's name
        raise RecordingFormatError(f'the OME-XML is damaged ({error}); {OPEN_PAGES}') from None
    found: Dict[str, Any] = {}
    for annotation in root.iter(f'{{{SCHEMA}}}CommentAnnotation'):
        namespace = annotation.get('Namespace', '')
        if namespace.startswith(ANNOTATION_PREFIX):
            found[namespace[len(ANNOTATION_PREFIX):]] = _json_value(annotation)
    found.pop('seal', None)
    return found or None


def _json_value(annotation: Any) -> Any:
    text = annotation.findtext(f'{{{SCHEMA}}}Value') or ''
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecordingFormatError(f'an annotation of the OME-XML is damaged ({error}); {OPEN_PAGES}') from None
