"""What a finished file's OME-XML tells, held against its pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional
from xml.etree import ElementTree

from ..ome import MAX_PLANES, SCHEMA, acquisition_date, seal_is_intact
from ..part import part_path
from ..tags import PageShape
from .recorded_file import RecordedFile
from .sequence import FileSequence

__all__ = ['check_description']


def check_description(recorded: RecordedFile, facts: FileSequence, blocks: List[int],
                      first_page: Optional[int]) -> None:
    """Note every disagreement. first_page: the number in the whole recording of page 0; None: not known."""
    if not recorded.finished:
        return
    if not seal_is_intact(recorded.xml):
        recorded.found('description', 'its seal does not fit: what it tells (verdict, settings, metadata) is not what '
                                      'was written')
    if not recorded.annotations or facts.damaged:
        return
    problems = [*_own_facts(recorded, facts, blocks, first_page), *_image(recorded, facts), *_marks(recorded, facts),
                *_preface(recorded)]
    for text in problems:
        recorded.found('description', text)


def _own_facts(recorded: RecordedFile, facts: FileSequence, blocks: List[int],
               first_page: Optional[int]) -> Iterator[str]:
    stored: Dict[str, Any] = recorded.annotations['file']
    number, name = stored.get('part'), stored.get('first_name')
    if stored.get('ppr') != 1:
        yield f'it names version {stored.get("ppr")!r} of the format, its pages version 1'
    if stored.get('pages') != facts.pages:
        yield f'it tells of {stored.get("pages")!r} pages; there are {facts.pages}'
    if stored.get('index') != blocks:
        yield f'it says that the page index lies at {str(stored.get("index"))[:60]}, not at {str(blocks)[:60]}'
    if first_page is not None and stored.get('first_page') != first_page:
        yield f'it says that it begins with page {stored.get("first_page")!r} of the recording, not {first_page}'
    if type(number) is not int or not isinstance(name, str) or not name or '/' in name or '\0' in name:
        yield f'it calls itself part {number!r} of {name!r}, which cannot be'
    elif 0 <= number < 100_000 and stored.get('parts') != [
            part_path(Path(name), before).name for before in range(number + 1)]:
        yield f'its list of files, {str(stored.get("parts"))[:80]}, is not that of part {number} of {name!r}'
    text = recorded.annotations.get('page0')
    row = recorded.row(0)
    own = recorded.file.read(row.strip_offset + row.strip_length, row.text_length, 'page description')
    if not isinstance(text, str) or text.encode('ascii', 'replace') != own:
        yield 'its copy of the text of page 0 is not that text'


def _image(recorded: RecordedFile, facts: FileSequence) -> Iterator[str]:
    assert recorded.shape is not None
    image = ElementTree.fromstring(recorded.xml).find(f'{{{SCHEMA}}}Image')
    pixels = None if image is None else image.find(f'{{{SCHEMA}}}Pixels')
    if image is None or pixels is None:
        yield 'it describes no image'
        return
    for name, value in _expected_pixels(recorded.shape, facts).items():
        if pixels.get(name) != value:
            yield f'its {name} is {pixels.get(name)!r}; the pages make it {value!r}'
    date = image.findtext(f'{{{SCHEMA}}}AcquisitionDate') or ''
    if facts.times_ns and date != acquisition_date(facts.times_ns[0]):
        yield f'its AcquisitionDate is {date!r}; page 0 was taken at {acquisition_date(facts.times_ns[0])!r}'
    yield from _planes(pixels.findall(f'{{{SCHEMA}}}Plane'), facts)


def _expected_pixels(shape: PageShape, facts: FileSequence) -> Dict[str, Optional[str]]:
    increment = None
    if facts.pages > MAX_PLANES:
        increment = f'{(facts.last_ns - facts.times_ns[0]) / (facts.pages - 1) / 1e9:.9f}'
    return {'SizeX': str(shape.width), 'SizeY': str(shape.height), 'SizeZ': '1', 'SizeC': str(shape.channels),
            'SizeT': str(facts.pages), 'Type': 'uint8', 'DimensionOrder': 'XYCZT', 'TimeIncrement': increment}


def _planes(planes: List[ElementTree.Element], facts: FileSequence) -> Iterator[str]:
    expected = facts.pages if facts.pages <= MAX_PLANES else 0
    if len(planes) != expected:
        yield f'it has {len(planes)} Planes; there should be {expected}'
        return
    for number, plane in enumerate(planes):
        delta = f'{(facts.times_ns[number] - facts.times_ns[0]) / 1e9:.9f}'
        if plane.get('TheT') != str(number) or plane.get('DeltaT') != delta:
            yield (f'it says that plane {plane.get("TheT")!r} came {plane.get("DeltaT")!r} s after the first; page '
                   f'{number} came {delta} s after it')
            return


def _marks(recorded: RecordedFile, facts: FileSequence) -> Iterator[str]:
    """Marks with their pages are those of this file; without, they are the recording's, as the report has them."""
    stored = recorded.annotations.get('marks')
    if not isinstance(stored, list):
        yield 'its marks are no list'
    elif any(isinstance(mark, dict) and 'page' in mark for mark in stored) or 'report' not in recorded.annotations:
        if stored != facts.marks:
            yield f'it tells of {len(stored)} marks, which are not the {len(facts.marks)} of its pages'
    else:
        report = recorded.annotations['report']
        told = report.get('marks', []) if isinstance(report, dict) else []
        if stored != told and stored != facts.marks:
            yield f'it tells of {len(stored)} marks, which are not the {len(told)} of its report'


def _preface(recorded: RecordedFile) -> Iterator[str]:
    before, after = recorded.about, recorded.annotations
    for name in ('settings', 'metadata', 'camera'):
        if name in before and name in after and before[name] != after[name]:
            yield f'its {name} are not those that stood in the file before the first page'
    place = before.get('file')
    if isinstance(place, dict):
        # first_page is not compared: a repair can have left out pages of the parts before.
        for name in ('part', 'first_name'):
            if name in place and place[name] != after['file'].get(name):
                yield f'its {name} is {after["file"].get(name)!r}, the preface says {place[name]!r}'
