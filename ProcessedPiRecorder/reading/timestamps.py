"""Times as other programs write them, as int64 ns since 1970 UTC: whole and decimal numbers, floats, ISO-8601 text.

Text is never taken through a float: ``1700000000.123456789`` keeps its last digit. A float64 of seconds since 1970
holds steps of 238 ns only, and cannot do better.
"""

from __future__ import annotations

import datetime
import functools
import re
from array import array
from decimal import Decimal, InvalidOperation
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from ..errors import SettingsError

__all__ = ['MISSING', 'UNITS', 'Converted', 'Zone', 'convert', 'first_present', 'iso_ns', 'looks_like', 'span_ns']

#: Of a row that tells no time or number.
MISSING = int(np.iinfo(np.int64).min)
#: Beyond the year 2116; differences of two times within still fit into int64.
MOST_NS = 2**62
UNITS: Dict[str, int] = {'ns': 1, 'us': 10**3, 'ms': 10**6, 's': 10**9}

Zone = Union[None, str, datetime.tzinfo]

EPOCH_DAY = datetime.date(1970, 1, 1).toordinal()
QUARTER_NS = 15 * 60 * 10**9            # no zone changes its distance to UTC within a quarter of an hour
ABSENT = frozenset(('', 'nan', 'nat', 'na', 'n/a', 'null', 'none', '<na>'))

_DECIMAL = re.compile(r'(\d{1,19})(?:\.(\d{0,9}))?')
_ISO = re.compile(r'(\d{4}-?\d\d-?\d\d)[T ](\d\d):?(\d\d)(?::?(\d\d)(?:[.,](\d+))?)? ?(Z|z|UTC|[+-]\d\d(?::?\d\d)?)?')
_SPAN = re.compile(r'([0-9.]+(?:[eE][+-]?\d+)?) ?(ns|us|µs|μs|ms|s|sec|seconds|min)?')
_SPANS: Dict[str, int] = {**UNITS, '': 10**9, 'µs': 10**3, 'μs': 10**3, 'sec': 10**9, 'seconds': 10**9,
                          'min': 60 * 10**9}


class Converted(NamedTuple):
    """A column as whole numbers.

    values: int64; MISSING where there is none. rounded: whether they came as binary floats, whose last digits are gone.
    """

    values: np.ndarray
    rounded: bool = False


def span_ns(span: Any, what: str) -> int:
    """A span of time in ns: seconds as a number, a timedelta, or text such as '2ms'. Raises SettingsError."""
    try:
        if isinstance(span, str):
            known = _SPAN.fullmatch(span.strip())
            amount = Decimal(known.group(1)) * _SPANS[known.group(2) or ''] if known else None
        elif isinstance(span, datetime.timedelta):       # pandas' too; only that one knows nanoseconds
            amount = Decimal(getattr(span, 'value', span // datetime.timedelta(microseconds=1) * 1000))
        else:
            amount = None if isinstance(span, bool) else Decimal(str(span)) * 10**9
        if amount is not None and amount >= 0 and not amount.is_nan():
            return int(min(amount, Decimal(MOST_NS)).to_integral_value())
    except (InvalidOperation, ValueError, TypeError):
        pass
    raise SettingsError(f'{what}={span!r} is no span of time; pass seconds (0.002), or text with a unit: '
                        "'2ms', '500us', '100ns', '1.5s'")


def first_present(values: Sequence[Any]) -> Any:
    """The first value that is there; None if there is none."""
    return next((value for value in values if not _absent(value)), None)


def looks_like(value: Any) -> str:
    """'date' (ISO text, datetime), 'number' (also as text), or 'other'."""
    if isinstance(value, (datetime.datetime, np.datetime64)):
        return 'date'
    if isinstance(value, (bool, np.bool_)):
        return 'other'
    if isinstance(value, str):
        text = value.strip()
        if _ISO.fullmatch(text):
            return 'date'
        return 'number' if re.fullmatch(r'[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?', text) else 'other'
    return 'number' if isinstance(value, (int, float, np.number, Decimal)) else 'other'


def convert(values: Sequence[Any], scale: int, where: str, *, comma: bool = False, zone: Zone = None,
            dates: bool = False) -> Converted:
    """A column as int64: numbers times ``scale``, or dates as ns since 1970 UTC. Raises SettingsError.

    comma: whether text has decimal commas. zone: of dates that tell none. where: what to call the column.
    """
    if dates:
        return Converted(_dates(values, where, zone))
    if not len(values):
        return Converted(np.empty(0, np.int64))
    column = values if isinstance(values, np.ndarray) else None
    if column is not None and column.dtype.kind in 'iuf':
        return _numbers(column, scale, where)
    kinds = set(map(type, values))
    if kinds == {int}:
        return Converted(_in_range(_whole(list(values), where), scale, where))
    if kinds <= {float, np.float64}:
        return _numbers(np.asarray(values, np.float64), scale, where)
    return _mixed(values, scale, where, comma)


def _numbers(column: np.ndarray, scale: int, where: str) -> Converted:
    if column.dtype.kind == 'u' and len(column) and int(column.max()) > MOST_NS:
        raise _beyond(where, int(column.max()))
    if column.dtype.kind in 'iu':
        return Converted(_in_range(column.astype(np.int64), scale, where))
    present = np.isfinite(column)
    kept = np.where(present, column, 0).astype(np.float64)
    if len(kept) and float(np.abs(kept).max()) > MOST_NS / scale:
        raise _beyond(where, float(np.abs(kept).max()))
    whole = np.floor(kept)                       # the fraction alone is scaled: the product of both would be rounded
    scaled = whole.astype(np.int64) * scale + np.rint((kept - whole) * scale).astype(np.int64)
    return Converted(np.where(present, scaled, MISSING), rounded=bool(present.any()))


def _whole(values: List[int], where: str) -> np.ndarray:
    try:
        return np.array(values, np.int64)
    except OverflowError:
        raise _beyond(where, max(values, key=abs)) from None


def _in_range(column: np.ndarray, scale: int, where: str) -> np.ndarray:
    present = column != MISSING
    limit = MOST_NS // scale
    wrong = present & ((column > limit) | (column < -limit))
    if wrong.any():
        raise _beyond(where, int(column[wrong][0]))
    return np.where(present, np.where(present, column, 0) * scale, MISSING)


def _mixed(values: Sequence[Any], scale: int, where: str, comma: bool) -> Converted:
    numbers = array('q')
    rounded, digits = False, len(str(scale)) - 1
    for place, value in enumerate(values):
        if type(value) is str:
            text = value.replace(',', '.', 1) if comma else value
            known = _DECIMAL.fullmatch(text.strip())
            fraction = (known.group(2) or '') if known else ''
            if known and len(fraction) <= digits:
                number = int(known.group(1)) * scale + int(fraction.ljust(digits, '0') or 0)
            else:
                number = _any_number(value, text, scale, where, place)
        elif type(value) is int:
            number = value * scale
        elif _absent(value):
            number = MISSING
        else:
            rounded = rounded or isinstance(value, (float, np.floating))
            number = _any_number(value, str(value), scale, where, place)
        if abs(number) > MOST_NS and number != MISSING:
            raise _beyond(where, value)
        numbers.append(number)
    return Converted(np.array(numbers), rounded)


def _any_number(value: Any, text: str, scale: int, where: str, place: int) -> int:
    """Signs, exponents, more digits than nanoseconds have, and what is no number at all."""
    if text.strip().lower() in ABSENT:
        return MISSING
    try:
        exact = Decimal(value) if isinstance(value, float) else Decimal(text.strip())
        if exact.is_finite() and not isinstance(value, (bool, np.bool_)):
            return int((exact * scale).to_integral_value()) if exact.adjusted() < 30 else MOST_NS * 2
    except InvalidOperation:
        pass
    raise SettingsError(f'{where} holds {_short(value)} in row {place}, which is no number; correct or remove that row')


def iso_ns(value: Any, where: str, zone: Zone = None) -> int:
    """One moment, ISO-8601 text or a datetime, as ns since 1970 UTC. Raises SettingsError."""
    return int(_dates([value], where, zone)[0])


def _dates(values: Sequence[Any], where: str, zone: Zone) -> np.ndarray:
    """ns since 1970 UTC; of what tells no zone, by ``zone``."""
    column = values if isinstance(values, np.ndarray) else None
    if column is not None and column.dtype.kind == 'M':
        naive = column.astype('datetime64[ns]').astype(np.int64)
        return _to_utc(naive, np.ones(len(naive), bool), where, zone, column[:1])
    moments, without_zone = np.full(len(values), MISSING, np.int64), np.zeros(len(values), bool)
    for place, value in enumerate(values):
        if _absent(value):
            continue
        text = value if isinstance(value, str) else str(value) if isinstance(value, np.datetime64) else \
            value.isoformat() if isinstance(value, datetime.datetime) else ''
        moment, offset_ns = _iso(text.strip(), value, where, place)
        moments[place] = moment - (offset_ns or 0)
        without_zone[place] = offset_ns is None
    return _to_utc(moments, without_zone, where, zone, values)


def _iso(text: str, value: Any, where: str, place: int) -> Tuple[int, Optional[int]]:
    """(ns since 1970 by the clock on the wall, ns by which that is ahead of UTC or None)."""
    known = _ISO.fullmatch(text)
    try:
        if known is None:
            raise ValueError
        date, hour, minute, second, fraction, zone = known.groups()
        if int(hour) > 23 or int(minute) > 59 or int(second or 0) > 60:
            raise ValueError
        seconds = _day(date) * 86_400 + int(hour) * 3600 + int(minute) * 60 + int(second or 0)
        return seconds * 10**9 + _fraction_ns(fraction or ''), None if zone is None else _offset_ns(zone)
    except ValueError:
        raise SettingsError(f'{where} holds {_short(value)} in row {place}, which is no date and time as ISO 8601 '
                            'writes it, such as 2024-05-01T10:00:00.123456Z; correct or remove that row') from None


def _fraction_ns(digits: str) -> int:
    if len(digits) <= 9:
        return int(digits.ljust(9, '0'))
    return int((Decimal(f'0.{digits}') * 10**9).to_integral_value())


@functools.lru_cache(maxsize=64)
def _day(date: str) -> int:
    plain = date.replace('-', '')
    return datetime.date(int(plain[:4]), int(plain[4:6]), int(plain[6:])).toordinal() - EPOCH_DAY


@functools.lru_cache(maxsize=64)
def _offset_ns(zone: str) -> int:
    if zone in ('Z', 'z', 'UTC'):
        return 0
    digits = zone[1:].replace(':', '').ljust(4, '0')
    minutes = int(digits[:2]) * 60 + int(digits[2:])
    return (-minutes if zone[0] == '-' else minutes) * 60 * 10**9


def _to_utc(moments: np.ndarray, without_zone: np.ndarray, where: str, zone: Zone, values: Sequence[Any]) -> np.ndarray:
    naive = without_zone & (moments != MISSING)
    if not naive.any():
        return moments
    if zone is None:
        sample = values[int(np.argmax(naive))] if len(values) > 1 else values[0]
        raise SettingsError(f'{where} holds times without a zone, such as {_short(str(sample))}, which may mean any '
                            "place's clock; pass zone='UTC', zone='+02:00', or the place's, such as "
                            "zone='Europe/Berlin'")
    quarters, which = np.unique(moments[naive] // QUARTER_NS, return_inverse=True)
    ahead = _ahead_of_utc(zone, where)
    offsets = np.array([ahead(int(quarter)) for quarter in quarters], np.int64)
    converted = moments.copy()
    converted[naive] -= offsets[which]
    return converted


def _ahead_of_utc(zone: Zone, where: str) -> Callable[[int], int]:
    """A function from a quarter of an hour since 1970, on the clock of that place, to ns ahead of UTC."""
    if isinstance(zone, str) and re.fullmatch(r'Z|UTC|[+-]\d\d(:?\d\d)?', zone):
        fixed = _offset_ns(zone)
        return lambda quarter: fixed
    place = _place(zone)

    def ahead(quarter: int) -> int:
        moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(minutes=15 * quarter)
        offsets = {moment.replace(tzinfo=place, fold=fold).utcoffset() for fold in (0, 1)}
        offset = offsets.pop()
        if offsets or offset is None:
            raise SettingsError(f'{where} holds times near {moment:%Y-%m-%d %H:%M}, which the clocks of {zone} show '
                                "twice or never, when they are changed; pass the zone in numbers, such as "
                                "zone='+02:00'")
        return offset // datetime.timedelta(microseconds=1) * 1000
    return ahead


def _place(zone: Zone) -> datetime.tzinfo:
    if isinstance(zone, datetime.tzinfo):
        return zone
    import zoneinfo
    try:
        return zoneinfo.ZoneInfo(str(zone))
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise SettingsError(f"zone={zone!r} is not known here; pass 'UTC', a distance such as '+02:00', or a place "
                            "such as 'Europe/Berlin' (which needs the system's, or the package tzdata's, list of "
                            'zones)') from None


def _absent(value: Any) -> bool:
    if value is None:
        return True
    if isinstance(value, str):
        return value.strip().lower() in ABSENT
    try:
        return bool(value != value) or type(value).__name__ in ('NAType', 'NaTType')   # only NaN and NaT differ so
    except (TypeError, ValueError):
        return True                              # pandas' NA does not answer


def _beyond(where: str, value: Any) -> SettingsError:
    return SettingsError(f'{where} holds {_short(value)}, which is no time that can be (beyond the year 2116) in that '
                         "unit; pass the right one: clock='ns', 'us', 'ms' or 's'")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f'{text[:60]}…'
