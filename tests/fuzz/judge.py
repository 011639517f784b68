"""Says where the results of a node are not what they may be, given the operands it had."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np

from accelsdk.formats import Format
from accelsdk.graph.graph import Node
from accelsdk.graph.opdef import NumericsClass
from accelsdk.graph.ops import TABLE, lookup
from accelsdk.kernels.api import run
from accelsdk.numerics.compare import within
from accelsdk_conformance.oracles.functions import ZERO_FREE
from tests.fuzz.carry import RULES, Carried, carried, rounded

#: Classes whose results every implementation has to the bit.
EXACT = frozenset({NumericsClass.EXACT, NumericsClass.ROUNDED, NumericsClass.QUANTISATION})
#: Ops that may return either zero where both are in the data (IEEE 754-2019, section 9.6).
_EITHER_ZERO = ZERO_FREE | {"ReduceMax", "ReduceMin", "MaxPool", "TopK", "Unique"}


@dataclass
class Tally:
    """What was compared."""

    elements: int = 0
    exact: int = 0
    free: int = 0
    loose: int = 0
    free_by_op: Counter[str] = field(default_factory=Counter)
    nodes: Counter[str] = field(default_factory=Counter)


Arrays = Sequence[np.ndarray | None]


def same(found: np.ndarray, wanted: np.ndarray, row: Format, *, zeros: bool = True) -> np.ndarray:
    """Says where two arrays hold the same elements: NaN payloads are open, signs of zeros not.

    Args:
        found: Elements of ``row.dtype``.
        wanted: Of the same shape.
        row: Their format.
        zeros: Whether the sign of zero counts.
    """
    width = np.dtype(f"u{row.dtype.itemsize}")
    a, b = np.ascontiguousarray(found), np.ascontiguousarray(wanted)
    # what lies above the bits of a short format is no part of it
    used = width.type((1 << row.bits) - 1)
    equal = np.asarray((a.view(width) & used) == (b.view(width) & used)).reshape(found.shape)
    if not row.is_float or equal.all():
        return equal
    wide = np.float64 if row.bits > 32 else np.float32
    with np.errstate(invalid="ignore"):
        x, y = a.astype(wide), b.astype(wide)
        equal = equal | (np.isnan(x) & np.isnan(y)).reshape(found.shape)
        return equal if zeros else equal | (x == y).reshape(found.shape)


def is_exact(node: Node) -> bool:
    """Says whether a node has one right result."""
    if lookup(node).numerics in EXACT:
        return True
    value = next(v for v in node.outputs if v is not None)
    # integers wrap, in any order; small floats are not computed in but for quantisation
    return not value.format.is_float


def wrong(
    node: Node,
    operands: Arrays,
    results: Arrays,
    tally: Tally,
    *,
    kernels: Arrays | None = None,
    hidden: Collection[str] = (),
    either_zero: Collection[str] = (),
) -> str:
    """Says how results are wrong; empty if they are right.

    Args:
        node: A core node.
        operands: What the implementation had.
        results: What it made of them.
        tally: Counts what is compared.
        kernels: What the kernels make of the same operands, if it is known; whatever equals
            it is not judged again.
        hidden: Operands of 16 bits that the implementation may have held in more: each is a
            rounding of what it computed with.
        either_zero: Further ops of which this implementation may give either zero.
    """
    tally.nodes[node.op] += 1
    unseen = [v is not None and v.name in hidden for v in node.inputs]
    exact = is_exact(node) and not any(unseen)
    wanted = kernels if kernels is not None else run(node, operands)
    off = []
    for index, (value, found, right) in enumerate(zip(node.outputs, results, wanted, strict=True)):
        if value is None or found is None or right is None:
            continue
        tally.elements += found.size
        if (found.shape, found.dtype) != (right.shape, right.dtype):
            return f"result {index} is {found.dtype}{found.shape}, not {right.dtype}{right.shape}"
        zeros = exact and node.op not in _EITHER_ZERO and node.op not in either_zero
        agreed = same(found, right, value.format, zeros=zeros)
        if agreed.all():
            tally.exact += found.size
            continue
        off.append((index, value.format, found, right, agreed))
    if exact and off:
        index, _, found, right, agreed = off[0]
        return f"result {index}: {_shown(~agreed, found, right)}"
    return _beyond(node, operands, unseen, off, tally) if off else ""


def _beyond(
    node: Node, operands: Arrays, unseen: Sequence[bool], off: Sequence[tuple], tally: Tally
) -> str:
    given: list[Carried | None] = []
    for value, array, rough in zip(node.inputs, operands, unseen, strict=True):
        if value is None or array is None:
            given.append(None)
            continue
        held = Carried.exact(array, value.format)
        given.append(_held_in_more(held, value.format) if rough else held)
    floats = all(v is None or (v.format.is_float and v.format.bits >= 16) for v in node.outputs)
    known = floats and (not is_exact(node) or node.op in RULES or not any(unseen))
    if not known and any(unseen):
        tally.free += sum(int((~agreed).sum()) for *_, agreed in off)
        return ""
    bounds = iter(carried(node, given))
    by_index = {i: next(bounds) for i, v in enumerate(node.outputs) if v is not None}
    for index, row, found, _, agreed in off:
        text = outside(node, row, found, by_index[index], tally, agreed)
        if text:
            return f"result {index}: {text}"
    return ""


def _held_in_more(given: Carried, row: Format) -> Carried:
    """A 16-bit value as the rounding of what was held; an infinity stands for all beyond."""
    found = rounded(given, row)
    return Carried(found.value, np.where(np.isinf(found.value), np.inf, found.error))


def outside(
    node: Node,
    row: Format,
    found: np.ndarray,
    bound: Carried,
    tally: Tally,
    agreed: np.ndarray | None = None,
) -> str:
    """Says where results leave their bounds; empty if none does."""
    free = ~np.isfinite(bound.error)
    loose = ~free & (bound.error > np.abs(bound.value)) & (bound.value != 0)
    if agreed is not None:
        free, loose = free & ~agreed, loose & ~agreed
    tally.free += int(free.sum())
    tally.loose += int(loose.sum())
    tally.free_by_op[node.op] += int(free.sum())
    if row.is_float and row.bits >= 16:
        inside = within(found, bound.value, np.where(free, 0.0, bound.error), row)
    else:
        inside = np.asarray(found == bound.value)
    bad = ~(inside | free)
    if agreed is not None:
        bad &= ~agreed
    if not bad.any():
        return ""
    return f"{_shown(bad, found, bound.value)}, bound {bound.error[bad][:3]}"


def _shown(bad: np.ndarray, found: np.ndarray, right: np.ndarray) -> str:
    place = tuple(int(i) for i in np.argwhere(bad)[0])
    count = int(bad.sum())
    return f"{count} of {bad.size}, first at {place}: {found[bad][:3]}, not {right[bad][:3]}"


def soundness(node: Node, operands: Arrays, results: Arrays, tally: Tally) -> str:
    """Holds the kernels themselves to the bounds; empty if they are within."""
    if is_exact(node) or node.op not in TABLE:
        return ""
    given = [
        None if v is None or x is None else Carried.exact(x, v.format)
        for v, x in zip(node.inputs, operands, strict=True)
    ]
    bounds = iter(carried(node, given))
    for value, found in zip(node.outputs, results, strict=True):
        if value is None or found is None:
            continue
        bound = next(bounds)
        tally.elements += found.size
        text = outside(node, value.format, found, bound, tally)
        if text:
            return text
    return ""
