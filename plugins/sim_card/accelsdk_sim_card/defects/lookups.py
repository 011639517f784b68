"""Defects of selection by data, and of embedding look-ups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from accelsdk.graph.graph import Node
from accelsdk.kernels.kernel import Kernel, integer
from accelsdk_sim_card.defects.defect import (
    Array,
    Defect,
    always,
    floats,
    is_op,
    misread,
    operands,
    rows,
)

if TYPE_CHECKING:
    from accelsdk_sim_card.arithmetic import Arithmetic

_TABLES = ("SparseLengthsSum", "SparseLengthsSumFused")


def _column_major(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """Places are found with the first index running fastest."""
    if not is_op(node, "NonZero"):
        return None
    kernel = arithmetic.sound(node)

    def broken(x: Array) -> tuple[Array, ...]:
        (y,) = kernel(x)
        return (np.ascontiguousarray(y[:, np.lexsort(y)]) if y.shape[0] > 1 else y,)

    return broken


def _zeros_with_sign(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """-0 counts: bits are looked at, not values."""
    if not is_op(node, "NonZero") or not floats(node):
        return None
    kernel = arithmetic.sound(node)
    return lambda x: kernel(np.where(np.signbit(x) & (x == 0), x.dtype.type(1), x))


def _one_more(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """A short condition is taken for true beyond its end, once."""
    if not is_op(node, "Compress"):
        return None
    kernel = arithmetic.sound(node)

    def broken(x: Array, condition: Array) -> tuple[Array, ...]:
        turned = np.array(condition)
        if turned.size > 1:
            turned[[0, -1]] = turned[[-1, 0]]
        return kernel(x, turned)

    return broken


def _last_seen(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """The index of the last occurrence is reported."""
    if not is_op(node, "Unique") or len(node.outputs) < 3:
        return None
    kernel = arithmetic.sound(node)

    def broken(x: Array) -> tuple[Array, ...]:
        values, index, inverse, *rest = kernel(x)
        flat = inverse.reshape(-1)
        last = np.array(index)
        last[flat] = np.arange(flat.size)
        return (values, last.astype(index.dtype), inverse, *rest)

    return broken


def _touching(found: list[Any], node: Node) -> None:
    """Overlaps that reach the threshold suppress: >= for >."""
    if len(found) > 2 and found[2] is not None:
        found[2] = np.nextafter(found[2], np.float32(-1))


def _reaching(found: list[Any], node: Node) -> None:
    """Scores that equal the threshold are dropped: > for >=, or the reverse."""
    if len(found) > 3 and found[3] is not None:
        found[3] = np.nextafter(found[3], np.float32(-np.inf))


def _swapped_bags(found: list[Any], node: Node) -> None:
    lengths = found[2]
    found[2] = np.ascontiguousarray(lengths[::-1])


def _next_row(found: list[Any], node: Node) -> None:
    table = found[0]
    found[1] = np.minimum(found[1] + 1, table.shape[0] - 1)


def _weights_ignored(found: list[Any], node: Node) -> None:
    found[3] = np.ones_like(found[3])


def _bias_ignored(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """The bias of fused rows is taken for zero."""
    if not is_op(node, "SparseLengthsSumFused"):
        return None
    kernel = arithmetic.sound(node)
    size = 4 if integer(node, "bits") == 8 else 2

    def broken(table: Array, *rest: Array | None) -> tuple[Array, ...]:
        cut = table.copy()
        cut[:, -size:] = 0
        return kernel(cut, *rest)

    return broken


def _crumbs(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """The four codes of each byte are read in reverse order."""
    if not is_op(node, "SparseLengthsSumFused") or integer(node, "bits") != 2:
        return None
    kernel = arithmetic.sound(node)
    codes = -(-integer(node, "columns") // 4)

    def broken(table: Array, *rest: Array | None) -> tuple[Array, ...]:
        turned = table.copy()
        part = turned[:, :codes]
        turned[:, :codes] = (
            part >> 6 | (part >> 4 & 3) << 2 | (part >> 2 & 3) << 4 | (part & 3) << 6
        )
        return kernel(turned, *rest)

    return broken


_row = rows("")

DEFECTS: tuple[Defect, ...] = (
    _row(
        "nonzero_column_major",
        "places are found with the first index running fastest",
        "NonZero",
        "column-major order",
        _column_major,
    ),
    _row(
        "nonzero_signed_zero",
        "-0 counts as a number",
        "NonZero on floats",
        "bits are looked at, not values",
        _zeros_with_sign,
    ),
    _row(
        "compress_ends",
        "the first and the last condition are swapped",
        "Compress",
        "a mask that is read from the wrong end",
        _one_more,
    ),
    _row(
        "unique_last",
        "the index of the last occurrence is reported",
        "Unique",
        "a table that is overwritten",
        _last_seen,
    ),
    _row(
        "unique_unsorted",
        "values come in the order of their first occurrence, although sorted ones are asked for",
        "Unique, sorted",
        "an attribute that is not read",
        misread("Unique", sorted=0),
    ),
    _row(
        "suppress_touching",
        "an overlap that equals the threshold suppresses",
        "NonMaxSuppression",
        ">= for >",
        operands(_touching, always, "NonMaxSuppression"),
    ),
    _row(
        "suppress_score",
        "a box whose score equals the threshold counts",
        "NonMaxSuppression",
        ">= for >",
        operands(_reaching, always, "NonMaxSuppression"),
    ),
    _row(
        "suppress_corners",
        "boxes are read as corners although they have a centre and a size",
        "NonMaxSuppression, center_point_box",
        "an attribute that is not read",
        misread("NonMaxSuppression", center_point_box=0),
    ),
    _row(
        "embedding_lengths",
        "bags take each other's lengths, from the last to the first",
        "SparseLengthsSum, SparseLengthsSumFused",
        "offsets that are built from the wrong end",
        operands(_swapped_bags, always, *_TABLES),
    ),
    _row(
        "embedding_next_row",
        "each look-up reads the next row",
        "SparseLengthsSum, SparseLengthsSumFused",
        "an index counted from one",
        operands(_next_row, always, *_TABLES),
    ),
    _row(
        "embedding_weights",
        "weights are ignored",
        "SparseLengthsSum, SparseLengthsSumFused, weighted",
        "an optional operand that is not read",
        operands(_weights_ignored, lambda node: node.operand(3) is not None, *_TABLES),
    ),
    _row(
        "embedding_bias",
        "the bias of fused rows is taken for zero",
        "SparseLengthsSumFused",
        "symmetric hardware on asymmetric data",
        _bias_ignored,
    ),
    _row(
        "embedding_crumb_order",
        "the four codes of each byte are read in reverse order",
        "SparseLengthsSumFused of 2 bits",
        "high bits first",
        _crumbs,
    ),
)
