"""Sequences and optionals (ONNX 23), worked out while a model is walked.

Inside a model whose positions and lengths are known, a sequence is a list of values and nothing of
it is left in the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from accelsdk.compiler.importer_scope import Item, Listed, Perhaps, Visit
from accelsdk.graph.types import Value

Results = Sequence[Item | None]


def _empty(visit: Visit) -> Results:
    return [Listed(())]


def _construct(visit: Visit) -> Results:
    return [Listed(tuple(visit.tensor(index) for index in range(len(visit.inputs))))]


def _position(visit: Visit, index: int, count: int, default: int) -> int:
    """Returns a position among ``count`` places, which may be counted from the end."""
    given = visit.whole(index, "position")
    position = default if given is None else given
    # An insertion has one place more than the sequence, but counts back by its items.
    items = len(visit.sequence(0).items)
    position += items if position < 0 else 0
    if not 0 <= position < count:
        visit.invalid(f"position {given} is out of range for a sequence of {items}")
    return position


def _insert(visit: Visit) -> Results:
    items = visit.sequence(0).items
    at = _position(visit, 2, len(items) + 1, len(items))
    return [Listed((*items[:at], visit.tensor(1), *items[at:]))]


def _erase(visit: Visit) -> Results:
    items = visit.sequence(0).items
    at = _position(visit, 1, len(items), -1)
    return [Listed((*items[:at], *items[at + 1 :]))]


def _at(visit: Visit) -> Results:
    items = visit.sequence(0).items
    return [items[_position(visit, 1, len(items), 0)]]


def _length(visit: Visit) -> Results:
    return [visit.constant(np.array(len(visit.sequence(0).items), np.int64), "length")]


def _concat(visit: Visit) -> Results:
    items = visit.sequence(0).items
    axis = visit.integer("axis", 0)
    if not items:
        visit.refuse("the sequence is empty, and has no type to join")
    if visit.integer("new_axis", 0):
        rank = items[0].type.rank + 1
        if not -rank <= axis < rank:
            visit.invalid(f"axis {axis} is no axis of rank {rank}")
        axis %= rank
        items = tuple(visit.emit("Unsqueeze", item, visit.ints(axis))[0] for item in items)
    return [items[0]] if len(items) == 1 else visit.emit("Concat", *items, axis=axis)


def _split(visit: Visit) -> Results:
    value, axis = visit.tensor(0), visit.integer("axis", 0)
    rank = value.type.rank
    if not -rank <= axis < rank:
        visit.invalid(f"axis {axis} is no axis of {value.type}")
    axis %= rank
    sizes = _sizes(visit, value.shape[axis])
    pieces: list[Value] = [value] if len(sizes) == 1 else []
    if len(sizes) > 1:
        visit.walker.spend(visit, len(sizes))
        cut = visit.ints(*sizes)
        pieces = visit.emit("Split", value, cut, outputs=len(sizes), axis=axis)
    if visit.item(1) is None and not visit.integer("keepdims", 1):
        pieces = [visit.emit("Squeeze", piece, visit.ints(axis))[0] for piece in pieces]
    return [Listed(tuple(pieces))]


def _sizes(visit: Visit, extent: int) -> list[int]:
    """Returns the extents of the pieces: of one each, of one size, or as listed."""
    given = visit.known(1, "split")
    step = 1 if given is None else int(given.reshape(-1)[0]) if given.ndim == 0 else None
    if step is None and given is not None:
        sizes = [int(size) for size in given.reshape(-1)]
        if min(sizes, default=0) < 0 or sum(sizes) != extent:
            visit.invalid(f"split {sizes} does not cut extent {extent}")
        return sizes
    if step is None or step < 1:
        visit.invalid(f"split is {step}")
    visit.walker.spend(visit, extent // step)  # before so long a list is made
    return [min(step, extent - start) for start in range(0, extent, step)]


# -- optionals ---------------------------------------------------------------------------------


def _optional(visit: Visit) -> Results:
    item = visit.item(0)
    if isinstance(item, Perhaps):
        visit.invalid("an optional cannot hold an optional")
    return [Perhaps(item)]


def _has_element(visit: Visit) -> Results:
    item = visit.item(0)
    has = item.item is not None if isinstance(item, Perhaps) else item is not None
    return [visit.constant(np.array(has), "has")]


def _get_element(visit: Visit) -> Results:
    item = visit.item(0)
    found = item.item if isinstance(item, Perhaps) else item
    if found is None:
        visit.invalid("the optional is empty")
    return [found]


def _identity(visit: Visit) -> Results:
    return [visit.item(0)]


SEQUENCES: Mapping[str, Callable[[Visit], Results]] = {
    "SequenceEmpty": _empty,
    "SequenceConstruct": _construct,
    "SequenceInsert": _insert,
    "SequenceErase": _erase,
    "SequenceAt": _at,
    "SequenceLength": _length,
    "ConcatFromSequence": _concat,
    "SplitToSequence": _split,
    "Optional": _optional,
    "OptionalHasElement": _has_element,
    "OptionalGetElement": _get_element,
    "Identity": _identity,
}
