"""In which order a unit adds: FPRev, with nodes of many children.

A large M at position i and -M at j swallow every unit added to them until they meet, so the sum
counts the units that arrive afterwards: the rest are the leaves under the meeting point of i and
j (Xie, Gao, Liu, "FPRev: revealing the order of floating-point summation from numerical
testing", 2024). Level sets of that count, seen from position 0, are the chunks in their order.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from accelsdk_conformance.oracles.tensor import F64
from accelsdk_conformance.probe.unit import Bench

Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Structure:
    """How the sum over K is built.

    Attributes:
        length: K that was measured.
        kind: ``fused``, ``exact`` (a fused chunk that drops nothing), ``pairwise`` (rounded
            pairs inside a chunk) or ``other``.
        width: Products in a chunk; 0: all of K.
        order: How K is dealt to chunks, or None if it is in none of the known ways.
        tree: How chunks combine: ``sequential``, ``pairwise``, or None for another way.
        period: Products after which partial sums move on, or None.
        chunks: Positions that meet one after the other: the first ones.
        sizes: Leaves that join, from position 0 outwards.
    """

    length: int
    kind: str
    width: int | None
    order: str | None
    tree: str | None
    period: int | None = None
    chunks: list[list[int]] = field(default_factory=list)
    sizes: tuple[int, ...] = ()


def leaves(bench: Bench, length: int, pairs: list[tuple[int, int]]) -> Counts | None:
    """Returns the leaves under the meeting point of each pair; None if they cannot be told."""
    for small, large in _masses(bench):
        for sign in (1.0, -1.0):
            rows = np.full((len(pairs), length), sign * small)
            for row, (i, j) in zip(rows, pairs, strict=True):
                row[i], row[j] = large, -large
            counts = bench.sums(rows) / (sign * small)
            if np.all((counts == np.rint(counts)) & (counts >= 0) & (counts <= length - 2)):
                return (length - counts).astype(np.int64)
    return None


def _masses(bench: Bench) -> list[tuple[float, float]]:
    """Choices of a unit and of an M that swallows it; sums of units must be results."""
    low = max(bench.lowest, bench.unit.out.emin)
    highs = dict.fromkeys(min(bench.high, top) for top in (40, bench.unit.out.emax - 1))
    return [(2.0 ** max(low, high - 40), 2.0**high) for high in highs]


def measure(bench: Bench, length: int) -> Structure | None:
    """Returns the structure for one K, or None if the unit's sums cannot tell it."""
    found = leaves(bench, length, [(0, j) for j in range(1, length)])
    if found is None:
        return None
    levels = [(int(level), np.flatnonzero(found == level) + 1) for level in np.unique(found)]
    groups = [[int(j) for j in members] for _, members in levels]
    sizes = tuple(map(len, groups))
    if levels[0][0] == 2 and (sizes[0] > 1 or (len(levels) > 1 and levels[1][0] < 2 + sizes[1])):
        return _chunked("exact", length, groups)
    if sizes == _doubling(length):
        chain = [[0], *([group[0]] for group in groups)]
        return Structure(length, "pairwise", 1, "contiguous", "pairwise", None, chain, sizes)
    if sizes[0] == 1:
        return _from_pairs(bench, length, groups)
    if levels[0][0] == sizes[0] + 1 and _one_node(bench, length, groups[0]):
        return _chunked("fused", length, groups)
    return _other(length, groups)


def _doubling(length: int) -> tuple[int, ...]:
    """Sizes that a balanced tree of neighbours shows from position 0."""
    sizes, reached = [], 1
    while reached < length:
        sizes.append(min(reached, length - reached))
        reached *= 2
    return tuple(sizes)


def _one_node(bench: Bench, length: int, group: list[int]) -> bool:
    """Whether the first positions that meet 0 meet each other no earlier."""
    if len(group) < 2:
        return True
    mutual = leaves(bench, length, [(group[0], j) for j in group[1:]])
    return mutual is not None and bool((mutual > len(group)).all())


def _chunked(kind: str, length: int, groups: list[list[int]]) -> Structure:
    chunks = [[0, *groups[0]], *groups[1:]]
    width = len(chunks[0])
    sizes = tuple(map(len, groups))
    if len(chunks) == 1:
        return Structure(length, kind, 0, "contiguous", "sequential", None, chunks, sizes)
    period, regular = _period(chunks, width)
    tree = "sequential" if regular else None
    return Structure(length, kind, width, _order(chunks, width), tree, period, chunks, sizes)


def _period(chunks: list[list[int]], width: int) -> tuple[int | None, bool]:
    """Chunks of one width, then parts of one size: the sum is promoted after the first part."""
    count = next((i for i, chunk in enumerate(chunks) if len(chunk) != width), len(chunks))
    rest = [len(chunk) for chunk in chunks[count:]]
    if not rest or (len(rest) == 1 and rest[0] < width):
        return None, True
    part = count * width
    return (part, True) if all(size == part for size in rest[:-1]) else (None, False)


def _order(chunks: list[list[int]], width: int) -> str | None:
    first = chunks[0]
    if first == list(range(width)):
        return "contiguous"
    if first == list(range(0, 2 * width, 2)):
        return "even_odd"
    both = np.arange(2 * width)
    return "interleaved" if first == both[both // 2 % 2 == 0].tolist() else None


def _from_pairs(bench: Bench, length: int, groups: list[list[int]]) -> Structure:
    """Two positions meet first: additions one by one, chunks of two, or trees in chunks."""
    sizes = tuple(map(len, groups))
    if sizes[:2] in ((1,), (1, 1)):
        chain = [[0], *groups]
        period, regular = _period(chain, 1)
        if not regular:
            return _other(length, groups)
        first = [chunk[0] for chunk in chain[: period or length]]
        order = "contiguous" if first == list(range(len(first))) else None
        return Structure(length, "fused", 1, order, "sequential", period, chain, sizes)
    reached, count = 2, 1
    while count + 1 < len(sizes) and sizes[count : count + 2] == (reached, 2 * reached):
        reached, count = reached * 2, count + 1
    period, regular = _period([list(range(reached)), *groups[count:]], reached)
    if not regular:
        return _other(length, groups)
    chunks = [[0, *(j for group in groups[:count] for j in group)], *groups[count:]]
    kind = "pairwise"
    if reached == 2:
        inner = leaves(bench, length, [(groups[1][0], groups[1][1])])
        kind = "pairwise" if inner is None or int(inner[0]) == 2 else "fused"
    order = _order([sorted(chunks[0]), *chunks[1:]], reached)
    return Structure(length, kind, reached, order, "sequential", period, chunks, sizes)


def _other(length: int, groups: list[list[int]]) -> Structure:
    chain = [[0], *([group[0]] for group in groups)]
    return Structure(length, "other", None, None, None, None, chain, tuple(map(len, groups)))


def row(structure: Structure, *chunks: list[float]) -> F64:
    """Returns a row of products whose first ones stand in the given chunks, the rest zero."""
    found = np.zeros(structure.length)
    for places, values in zip(structure.chunks, chunks, strict=False):
        found[places[: len(values)]] = values
    return found
