"""Whether what was put for a frame in one run is what was put in another: boxes in any order, all else as it stands."""

from __future__ import annotations

import json
import math
from collections import Counter, deque
from typing import Any, Deque, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from ..reading.boxes import BOX_KEYS, is_box

__all__ = ['Alike', 'Boxes', 'alike', 'count_boxes', 'equal_values', 'overlap']

#: More possible pairs than this are not weighed one by one; boxes that are identical are paired first then.
MOST_PAIRS = 1_000_000
MOST_TEXT = 60
#: What the text of a value that holds a set has in it.
SET = '"__type__": "set"'

Path = Tuple[Any, ...]
Pair = Tuple[int, int]


class Boxes(NamedTuple):
    """same, changed, added, gone: how many boxes; ious: of those that were paired (same and changed), each."""

    same: int = 0
    changed: int = 0
    added: int = 0
    gone: int = 0
    ious: Tuple[float, ...] = ()


class Alike(NamedTuple):
    """same: whether nothing differs; boxes; texts: what differs, one line each."""

    same: bool
    boxes: Boxes
    texts: Tuple[str, ...] = ()


def alike(a: Sequence[Any], b: Sequence[Any], iou: float = 1.0, tolerance: float = 0.0) -> Alike:
    """Compare what two runs put for a frame, in the order in which it was put.

    iou: from which overlap on two boxes are the same; 1: they are if their numbers are. tolerance: of numbers.
    """
    text_a, text_b = _as_text(list(a)), _as_text(list(b))
    if SET in text_a or SET in text_b:           # few results hold one: the others need not be gone through
        a, b = _ordered(list(a)), _ordered(list(b))
        text_a, text_b = _as_text(a), _as_text(b)
    if text_a == text_b:
        count = sum(map(count_boxes, a))
        return Alike(True, Boxes(same=count, ious=(1.0,) * count))
    boxes_a: Dict[Path, List[Any]] = {}
    boxes_b: Dict[Path, List[Any]] = {}
    rest_a, rest_b = _without_boxes(list(a), (), boxes_a), _without_boxes(list(b), (), boxes_b)
    difference = _difference(rest_a, rest_b, (), tolerance)
    texts = [] if difference is None else [_told(difference, len(a) == len(b) == 1)]
    total = Boxes()
    for path in dict.fromkeys([*boxes_a, *boxes_b]):
        found, told = _compare_boxes(boxes_a.get(path, []), boxes_b.get(path, []), iou, tolerance)
        total = Boxes(*(one + other for one, other in zip(total, found)))     # type: ignore[operator]
        name = _name(path, len(a) == len(b) == 1)
        texts += [f'{name}: {text}' if name else text for text in told]
    return Alike(not texts, total, tuple(texts))


def count_boxes(value: Any) -> int:
    """How many boxes are in what was put."""
    if isinstance(value, list):
        return sum(map(count_boxes, value))
    if not isinstance(value, dict):
        return 0
    if is_box(value):
        return 1
    # What a set holds is compared as it stands.
    return 0 if _is_set(value) else sum(map(count_boxes, value.values()))


def equal_values(a: Any, b: Any, tolerance: float = 0.0) -> bool:
    """Whether two values from JSON are equal: numbers within the tolerance, nan equal to nan, all else exactly."""
    return _difference(a, b, (), tolerance) is None


def overlap(a: Sequence[Any], b: Sequence[Any]) -> np.ndarray:
    """Intersection over union of each box of ``a`` with each of ``b``: float64 (len(a), len(b)), 1 for equal ones."""
    one, other = _corners(a)[:, None], _corners(b)[None]
    with np.errstate(over='ignore', invalid='ignore', divide='ignore'):
        low = np.maximum(one[..., :2], other[..., :2])
        high = np.minimum(one[..., :2] + one[..., 2:], other[..., :2] + other[..., 2:])
        common = np.prod(np.maximum(high - low, 0), axis=-1)
        union = np.prod(one[..., 2:], axis=-1) + np.prod(other[..., 2:], axis=-1) - common
        shares = np.nan_to_num(common / union, nan=0.0, posinf=0.0, neginf=0.0)
    return np.where((one == other).all(axis=-1), 1.0, np.clip(shares, 0, 1))


def _numbers(boxes: Sequence[Any]) -> np.ndarray:
    return np.array([[_float(box[key]) for key in BOX_KEYS] for box in boxes], np.float64).reshape(-1, 4)


def _corners(boxes: Sequence[Any]) -> np.ndarray:
    numbers = _numbers(boxes)
    numbers[:, 2:] = np.maximum(numbers[:, 2:], 0)
    return numbers


def _float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:                        # JSON's whole numbers have no largest one
        return math.inf if value > 0 else -math.inf


# ---------------------------------------------------------------------- sets

def _ordered(value: Any) -> Any:
    """The value, with all sets in it, also those in boxes, in an order that does not depend on who stored them."""
    if isinstance(value, list):
        return [_ordered(item) for item in value]
    if not isinstance(value, dict):
        return value
    value = {key: _ordered(item) for key, item in value.items()}
    return {**value, 'items': sorted(value['items'], key=_place_in_set)} if _is_set(value) else value


def _place_in_set(value: Any) -> Tuple[Any, ...]:
    """Numbers by their value, so that those within a tolerance come at the same place; in tuples, too."""
    if _is_number(value) and value == value:
        return 0, value
    if isinstance(value, list):
        return 1, [_place_in_set(item) for item in value]
    return 2, _as_text(value)


# ---------------------------------------------------------------------- boxes

def _without_boxes(value: Any, path: Path, boxes: Dict[Path, List[Any]]) -> Any:
    """The value without its boxes, which go into ``boxes`` under where they were."""
    if isinstance(value, list):
        rest: List[Any] = []
        for item in value:
            if is_box(item):
                boxes.setdefault(path, []).append(item)
            else:
                rest.append(_without_boxes(item, (*path, len(rest)), boxes))
        return rest
    if isinstance(value, dict):
        if _is_set(value):
            return value
        others = {}
        for key, item in value.items():
            if is_box(item):
                boxes.setdefault((*path, key), []).append(item)
            else:
                others[key] = _without_boxes(item, (*path, key), boxes)
        return others
    return value


def _is_set(value: Dict[str, Any]) -> bool:
    return value.get('__type__') == 'set' and isinstance(value.get('items'), list)


def _compare_boxes(a: List[Any], b: List[Any], iou: float, tolerance: float) -> Tuple[Boxes, List[str]]:
    identical = 0
    if iou >= 1 and tolerance == 0 or len(a) * len(b) > MOST_PAIRS:
        a, b, identical = _without_identical(a, b)
    pairs: List[Pair] = []
    shares = np.zeros((len(a), len(b)))
    if 0 < len(a) * len(b) <= MOST_PAIRS:
        shares = overlap(a, b)
        pairs = _most_pairs([[other for other in np.flatnonzero(near).tolist()
                              if _same_box(a[one], b[other], shares[one, other], iou, tolerance)]
                             for one, near in enumerate(_candidates(a, b, shares, iou, tolerance))])
    moved = _nearest_pairs(shares, pairs)
    texts = [_changed(a[one], b[other], shares[one, other], tolerance) for one, other in moved]
    gone = sorted(set(range(len(a))) - {one for one, _ in (*pairs, *moved)})
    added = sorted(set(range(len(b))) - {other for _, other in (*pairs, *moved)})
    texts += [f'box {_place(a[one])} only in A' for one in gone] + [f'box {_place(b[other])} only in B'
                                                                   for other in added]
    ious = (1.0,) * identical + tuple(float(shares[pair]) for pair in (*pairs, *moved))
    return Boxes(identical + len(pairs), len(moved), len(added), len(gone), ious), texts


def _without_identical(a: List[Any], b: List[Any]) -> Tuple[List[Any], List[Any], int]:
    keys_a, keys_b = [_as_text(box) for box in a], [_as_text(box) for box in b]
    common = Counter(keys_a) & Counter(keys_b)
    return _left_over(a, keys_a, common), _left_over(b, keys_b, common), sum(common.values())


def _left_over(boxes: List[Any], keys: List[str], taken: 'Counter[str]') -> List[Any]:
    left, rest = Counter(taken), []
    for box, key in zip(boxes, keys):
        if left[key]:
            left[key] -= 1
        else:
            rest.append(box)
    return rest


def _candidates(a: List[Any], b: List[Any], shares: np.ndarray, iou: float, tolerance: float) -> np.ndarray:
    """Which pairs may be the same: all that are, and few others; bool (len(a), len(b))."""
    one, other = _numbers(a)[:, None], _numbers(b)[None]
    with np.errstate(invalid='ignore', over='ignore'):
        # Twice the tolerance, since these are floats of what may be whole numbers of any size.
        equal = (np.abs(one - other) <= 2 * tolerance) | (one == other) | np.isnan(one) & np.isnan(other)
    return equal.all(axis=-1) | (shares >= iou)


def _same_box(a: Any, b: Any, share: float, iou: float, tolerance: float) -> bool:
    near = iou < 1 and share >= iou or all(_equal_numbers(a[key], b[key], tolerance) for key in BOX_KEYS)
    return near and equal_values(_extras(a), _extras(b), tolerance)


def _extras(box: Any) -> Dict[str, Any]:
    return {key: value for key, value in box.items() if key not in BOX_KEYS}


def _most_pairs(fits: List[List[int]]) -> List[Pair]:
    """As many pairs as there can be, each of one ``a`` and one of the ``b`` that fit it (augmenting paths)."""
    taken: Dict[int, int] = {}                   # b: its a
    for start in range(len(fits)):
        came_from: Dict[int, Tuple[int, Optional[int]]] = {}       # b: the a that asks for it, and the b that a holds
        waiting: Deque[Tuple[int, Optional[int]]] = deque([(start, None)])
        free = None
        while waiting and free is None:
            one, held = waiting.popleft()
            for other in fits[one]:
                if other not in came_from:
                    came_from[other] = (one, held)
                    if other not in taken:
                        free = other
                        break
                    waiting.append((taken[other], other))
        while free is not None:
            one, held = came_from[free]
            taken[free] = one
            free = held
    return sorted((one, other) for other, one in taken.items())


def _nearest_pairs(shares: np.ndarray, pairs: List[Pair]) -> List[Pair]:
    """Of boxes that are in no pair, those that overlap at all, most overlap first."""
    left = shares.copy()
    for one, other in pairs:
        left[one], left[:, other] = 0, 0
    found: List[Pair] = []
    while left.size and left.max() > 0:
        one, other = (int(place) for place in np.unravel_index(int(left.argmax()), left.shape))
        found.append((one, other))
        left[one], left[:, other] = 0, 0
    return found


def _changed(a: Any, b: Any, share: float, tolerance: float) -> str:
    moved = '' if all(a[key] == b[key] for key in BOX_KEYS) else f' → {_place(b)}, IoU {_share(share)}'
    extras = _difference(_extras(a), _extras(b), (), tolerance)
    return f'box {_place(a)}{moved}' + ('' if extras is None else f', {_told(extras, False)}')


def _share(share: float) -> str:
    """Rounded down: what is not 1 never reads as 1."""
    return f'{math.floor(share * 1000) / 1000:.3f}'


def _place(box: Any) -> str:
    return '(' + ', '.join(_short(box[key]) for key in BOX_KEYS) + ')'


# ---------------------------------------------------------------------- everything else

_Difference = Tuple[Path, str, str]


def _difference(a: Any, b: Any, path: Path, tolerance: float) -> Optional[_Difference]:
    """Where two values first differ, and how; None where they do not."""
    if _is_number(a) and _is_number(b):
        return None if _equal_numbers(a, b, tolerance) else (path, _short(a), _short(b))
    if type(a) is not type(b):
        return path, _short(a), _short(b)
    if isinstance(a, dict):
        for key in dict.fromkeys([*a, *b]):
            if key not in a or key not in b:
                one, other = (_short(side[key]) if key in side else 'nothing' for side in (a, b))
                return (*path, key), one, other
            found = _difference(a[key], b[key], (*path, key), tolerance)
            if found is not None:
                return found
        return None
    if isinstance(a, list):
        for place, (one, other) in enumerate(zip(a, b)):
            found = _difference(one, other, (*path, place), tolerance)
            if found is not None:
                return found
        if len(a) != len(b):
            place = min(len(a), len(b))
            one, other = (_short(side[place]) if place < len(side) else 'nothing' for side in (a, b))
            return (*path, place), one, other
        return None
    return None if a == b else (path, _short(a), _short(b))


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _equal_numbers(a: Any, b: Any, tolerance: float) -> bool:
    if a == b or a != a and b != b:
        return True
    try:
        return bool(tolerance and abs(a - b) <= tolerance)
    except OverflowError:                        # a whole number beyond all floats
        return False


def _told(difference: _Difference, single: bool) -> str:
    path, a, b = difference
    name = _name(path, single)
    return f'{name}: {a} → {b}' if name else f'{a} → {b}'


def _name(path: Path, single: bool) -> str:
    """As one would write it in Python; of a single result, without its number."""
    keys = path[1:] if single and path and isinstance(path[0], int) else path
    text = ''.join(f'[{key}]' if isinstance(key, int) else f'.{key}' for key in keys)
    return text[1:] if text.startswith('.') else text


_as_text = json.JSONEncoder(sort_keys=True).encode


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MOST_TEXT else f'{text[:MOST_TEXT]}…'
