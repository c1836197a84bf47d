"""Results as rows of a table: nested names joined by dots, boxes one row each, whatever else as JSON text."""

from __future__ import annotations

import json
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Set, Tuple

from ..reading.boxes import is_box

__all__ = ['FlatColumn', 'Flattening', 'as_json', 'survey']

#: More columns than people or programs can handle: results that are keyed by something that goes on counting.
MOST_COLUMNS = 1000
EXACT_IN_FLOAT = 2**53

Path = Tuple[str, ...]

_KINDS = {type(None): 'none', bool: 'bool', int: 'int', float: 'float', str: 'text'}


class FlatColumn(NamedTuple):
    """name; kind: 'int', 'float', 'bool', 'text', or 'json' (nested, or of several kinds); path: its keys."""

    name: str
    kind: str
    path: Path


class Flattening(NamedTuple):
    """How the results become rows.

    columns: in the order in which they first come. boxes: where lists of boxes are. whole: there would be too many
    columns, so that each result is one cell of JSON.
    """

    columns: List[FlatColumn]
    boxes: Set[Path]
    whole: bool = False

    def rows(self, result: Any) -> Iterator[List[Any]]:
        """The rows of one result: [the box's number or None, a value for each column] each."""
        if self.whole:
            yield [None, as_json(result)]
            return
        lists: Dict[Path, List[Dict[str, Any]]] = {}
        common = {path: value for path, value in _leaves(result, (), lists)
                  if not (value == [] and path in self.boxes)}
        for path, boxes in lists.items():
            for number, box in enumerate(boxes):
                yield [number, *self._cells({**common, **dict(_leaves(box, path, None))})]
        if not lists:
            yield [None, *self._cells(common)]

    def _cells(self, values: Dict[Path, Any]) -> Iterator[Any]:
        for column in self.columns:
            value = values.get(column.path)
            if value is None or column.kind not in ('json', 'float'):
                yield value
            else:
                yield as_json(value) if column.kind == 'json' else float(value)


class _Seen:
    """Which values a column holds."""

    def __init__(self) -> None:
        self.kinds: Set[str] = set()
        self.largest = 0

    def add(self, value: Any) -> None:
        kind = _KINDS.get(type(value), 'json') if value != [] else 'empty'
        self.kinds.add(kind)
        if kind == 'int':
            self.largest = max(self.largest, value if value >= 0 else -value - 1)

    def kind(self) -> str:
        kinds = self.kinds - {'none'}
        if kinds == {'int', 'float'} and self.largest <= EXACT_IN_FLOAT:
            return 'float'
        if len(kinds) > 1 or kinds == {'empty'} or kinds == {'int'} and self.largest >= 2**63:
            return 'json'
        return kinds.pop() if kinds else 'text'


def survey(results: Iterable[Any], reserved: Iterable[str]) -> Flattening:
    """Look through all results for the columns that they need; ``reserved`` names get 'result.' before them."""
    seen: Dict[Path, _Seen] = {}
    boxes: Set[Path] = set()
    for result in results:
        lists: Dict[Path, List[Dict[str, Any]]] = {}
        found = list(_leaves(result, (), lists))
        found += [leaf for path, several in lists.items() for box in several for leaf in _leaves(box, path, None)]
        boxes.update(lists)
        for path, value in found:
            seen.setdefault(path, _Seen()).add(value)
        if len(seen) > MOST_COLUMNS:
            return Flattening([FlatColumn('result', 'json', ())], set(), whole=True)
    for path in boxes:
        if path in seen:
            seen[path].kinds.discard('empty')         # no boxes are no rows
            if seen[path].kinds <= {'none'}:
                del seen[path]
    taken = {*reserved, 'result', ''}
    return Flattening([FlatColumn(_name(path, taken), known.kind(), path) for path, known in seen.items()], boxes)


def as_json(value: Any) -> str:
    """A value as JSON text; nan and the infinities as Python writes them."""
    return json.dumps(value, ensure_ascii=False)


def _leaves(value: Any, path: Path, lists: Any) -> Iterator[Tuple[Path, Any]]:
    """What is in a value, with the keys that lead to it; lists of boxes go into ``lists`` instead (if not None)."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _leaves(item, (*path, key), lists)
    elif lists is not None and isinstance(value, list) and value and all(map(is_box, value)):
        lists[path] = value
    else:
        yield path, value


def _name(path: Path, taken: Set[str]) -> str:
    """Keys joined by dots; dots in a key are told from these by a backslash."""
    keys = [key.replace('\\', '\\\\').replace('.', '\\.') for key in path]
    return '.'.join(['result', *keys] if not keys or keys[0] in taken else keys)
