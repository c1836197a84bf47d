"""A report as it is stored in a file, back into a Report, with every field's type checked: files can be damaged."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any, Callable, Dict, Mapping

from ..errors import RecordingFormatError
from ..report import Loss, Report

__all__ = ['report_of']

Test = Callable[[Any], bool]


def report_of(stored: Mapping[str, Any]) -> Report:
    """The report. Raises RecordingFormatError when a field holds what it never does; unknown fields are left out."""
    for item in fields(Report):
        if item.name in stored and not _TESTS[str(item.type)](stored[item.name]):
            raise RecordingFormatError(f'the report holds {item.name}={str(stored[item.name])[:60]!r}, which cannot '
                                       'be; the file is damaged')
    if stored.get('complete') not in ('yes', 'no', 'unknown'):
        raise RecordingFormatError(f'the report says complete={str(stored.get("complete"))[:60]!r}, which is none of '
                                   "'yes', 'no', 'unknown'; the file is damaged")
    rate = stored.get('camera', {}).get('framerate')
    if not (rate is None or _is_number(rate)):
        raise RecordingFormatError(f'the report holds a frame rate of {str(rate)[:60]!r}; the file is damaged')
    return Report.from_dict(stored)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_int(value: Any) -> bool:
    return type(value) is int and -2**63 <= value < 2**63


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e300 and math.isfinite(value)


def _is_optional_number(value: Any) -> bool:
    return value is None or _is_number(value)


def _is_loss(value: Any) -> bool:
    return (isinstance(value, dict) and {'index', 'count', 'time_ns', 'reason'} <= value.keys()
            <= {item.name for item in fields(Loss)} and _is_int(value['index']) and _is_int(value['count'])
            and (value['time_ns'] is None or _is_int(value['time_ns']))
            and _is_text(value['reason']) and _is_text(value.get('detail', '')))


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _list_of(test: Test) -> Test:
    return lambda value: isinstance(value, list) and all(map(test, value))


def _object_of(test: Test) -> Test:
    return lambda value: isinstance(value, dict) and all(map(test, value.values()))


_TESTS: Dict[str, Test] = {
    'str': _is_text, 'int': _is_int, 'float': _is_number, 'Optional[float]': _is_optional_number,
    'List[str]': _list_of(_is_text), 'List[Loss]': _list_of(_is_loss), 'Dict[str, int]': _object_of(_is_int),
    'Dict[str, float]': _object_of(_is_number),
    'Dict[str, Dict[str, float]]': _object_of(_object_of(_is_number)),
    'Dict[str, Any]': _is_object, 'List[Dict[str, Any]]': _list_of(_is_object)}
