"""Places buffers of known size and lifetime in one arena.

Greedy by size with best fit (Pisarchyk and Lee, "Efficient Memory Management for Deep Neural
Net Inference", arXiv 2001.03288, section 5.3): the largest buffer comes first, and takes the
smallest gap among those placed before that live at the same time.

Finding those is what costs. Time is cut into cells; a short-lived buffer is looked for in the
cells that it touches, so that networks, where few buffers live long, are placed in time near
to linear. Long-lived ones are kept apart and compared with all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]

#: Positions in a cell, and the most cells that a short-lived buffer touches.
_CELL, _SHORT = 32, 8


@dataclass(frozen=True, slots=True)
class Buffer:
    """What is to be placed.

    Attributes:
        name: For ties, so that placement is deterministic.
        nbytes: Bytes, a multiple of the alignment.
        first: First position at which it is in use.
        last: Last one.
    """

    name: str
    nbytes: int
    first: int
    last: int


#: Orders in which buffers are placed. By size is the published one; by size times lifetime wins
#: where small buffers live long (DenseNet).
_ORDERS: tuple[Callable[[Buffer], tuple[int | str, ...]], ...] = (
    lambda b: (-b.nbytes, b.first, b.name),
    lambda b: (-b.nbytes * (b.last - b.first + 1), b.first, b.name),
)


#: How often an order is repaired, and how many placements of one buffer that may take in all.
_REPAIRS, _WORK = 16, 20_000


def place(buffers: Sequence[Buffer]) -> dict[str, int]:
    """Returns the offset of each buffer; those in use at the same position do not overlap.

    If the arena is larger than what is in use at its peak, the buffer that ends it is placed
    earlier, half-way to the front, and all are placed again, a few times; then another order is
    tried. The best is kept.
    """
    least = largest_live(buffers)
    best: dict[str, int] = {}
    smallest = -1
    for key in _ORDERS:
        order = sorted(buffers, key=key)
        for _ in range(1 + min(_REPAIRS, _WORK // max(len(order), 1))):
            placed = _Placed(order)
            for index in range(len(order)):
                placed.add(index)
            ends = placed.offset + placed.size
            arena = int(ends.max(initial=0))
            if smallest < 0 or arena < smallest:
                smallest = arena
                best = {buffer.name: int(placed.offset[i]) for i, buffer in enumerate(order)}
            if smallest == least:
                return best
            highest = int(ends.argmax())
            order.insert(highest // 2, order.pop(highest))
    return best


def largest_live(buffers: Sequence[Buffer]) -> int:
    """Returns the most bytes in use at one position; no arena can be smaller."""
    end = max((b.last for b in buffers), default=0) + 2
    change = np.zeros(end, np.int64)
    size = np.array([b.nbytes for b in buffers], np.int64)
    np.add.at(change, np.array([b.first for b in buffers], np.int64), size)
    np.subtract.at(change, np.array([b.last + 1 for b in buffers], np.int64), size)
    return int(np.cumsum(change).max())


class _Placed:
    """The buffers placed so far, found by the time in which they are in use."""

    def __init__(self, order: Sequence[Buffer]) -> None:
        count = len(order)
        self.first: Indices = np.array([b.first for b in order], np.int64)
        self.last: Indices = np.array([b.last for b in order], np.int64)
        self.size: Indices = np.array([b.nbytes for b in order], np.int64)
        self.offset: Indices = np.zeros(count, np.int64)
        self._long: Indices = np.zeros(count, np.int64)
        self._longs = 0
        self._cells: dict[int, list[int]] = {}

    def add(self, index: int) -> None:
        """Places buffer ``index``; all before it are placed."""
        if not self.size[index]:
            return
        cells = range(int(self.first[index]) // _CELL, int(self.last[index]) // _CELL + 1)
        short = len(cells) <= _SHORT
        rivals = self._met(cells) if short else np.arange(index)
        alive = (self.first[rivals] <= self.last[index]) & (self.last[rivals] >= self.first[index])
        rivals = rivals[alive]
        starts, sizes = self.offset[rivals], self.size[rivals]
        self.offset[index] = best_gap(starts, starts + sizes, int(self.size[index]))
        if short:
            for cell in cells:
                self._cells.setdefault(cell, []).append(index)
        else:
            self._long[self._longs] = index
            self._longs += 1

    def _met(self, cells: range) -> Indices:
        """Returns candidates, some of them twice: all long-lived ones, and those in cells."""
        near = [index for cell in cells for index in self._cells.get(cell, ())]
        return np.concatenate((self._long[: self._longs], np.array(near, np.int64)))


def best_gap(starts: Indices, stops: Indices, nbytes: int) -> int:
    """Returns the start of the smallest gap that fits, else the end of what is taken.

    Args:
        starts: First bytes of what is taken, in any order; what is taken may overlap.
        stops: The bytes after the last ones.
        nbytes: Bytes to be placed.
    """
    if not len(starts):
        return 0
    by_place = np.argsort(starts, kind="stable")
    starts, ends = starts[by_place], np.maximum.accumulate(stops[by_place])
    before = np.concatenate(([0], ends[:-1]))
    gaps = starts - before
    fits = np.flatnonzero(gaps >= nbytes)
    return int(before[fits[np.argmin(gaps[fits])]]) if len(fits) else int(ends[-1])
