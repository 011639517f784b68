"""Embedding bags: sums of table rows, and of fused row-wise quantised rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.errors import InvalidArgument
from accelsdk.graph.graph import Node
from accelsdk.kernels.gather import checked
from accelsdk.kernels.kernel import Binders, Function, Kernel, integer, one, shape_of
from accelsdk.kernels.reduction import accumulator
from accelsdk.numerics.embedding import dequantize_rows

Array = NDArray[Any]
#: Looked-up rows handled at a time, in items.
_ITEMS = 1 << 18


def _summed(node: Node, lookup: Function) -> Kernel:
    """Binds a bag sum: ``lookup(table, positions)`` gives rows of floats [n, D]."""
    rows, columns = shape_of(node, 0)[0], node.result.shape[1]
    name = node.name
    step = max(1, _ITEMS // max(columns, 1))

    def kernel(table: Array, indices: Array, lengths: Array, weights: Array | None = None) -> Array:
        positions = checked(indices, rows, name)
        if int(lengths.sum()) != indices.size or (lengths.size and int(lengths.min()) < 0):
            raise InvalidArgument(
                f"lengths sum to {int(lengths.sum())}; there are {indices.size} indices",
                node=name,
                remedy="give non-negative lengths whose sum is the number of indices",
            )
        bags = np.repeat(np.arange(lengths.size), lengths)
        sums = np.zeros((lengths.size, columns), np.float64)
        for start in range(0, indices.size, step):
            part = slice(start, start + step)
            terms = lookup(table, positions[part])
            if weights is not None:
                terms = terms * weights[part, None]
            _add_runs(sums, bags[part], terms)
        return sums.astype(node.result.format.dtype)

    return one(kernel)


def _add_runs(sums: Array, bags: Array, terms: Array) -> None:
    """Adds the rows of each run of equal bag numbers, which ascend, to that bag."""
    starts = np.flatnonzero(np.r_[True, bags[1:] != bags[:-1]])
    sums[bags[starts]] += np.add.reduceat(terms, starts, axis=0, dtype=accumulator(terms))


def _bind_sum(node: Node) -> Kernel:
    def rows(table: Array, positions: Array) -> Array:
        found = np.take(table, positions, axis=0)
        return found if found.dtype.itemsize >= 4 else found.astype(np.float32)

    return _summed(node, rows)


def _bind_sum_fused(node: Node) -> Kernel:
    bits, columns = integer(node, "bits"), integer(node, "columns")
    return _summed(node, lambda table, at: dequantize_rows(table[at], columns, bits))


BINDERS: Binders = {
    "SparseLengthsSum": _bind_sum,
    "SparseLengthsSumFused": _bind_sum_fused,
}
