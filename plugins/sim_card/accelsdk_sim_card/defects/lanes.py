"""Defects of the matrix engine that show in some lanes, tiles, depths or shapes alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from accelsdk.formats import FLOAT32
from accelsdk.graph.graph import Node
from accelsdk_sim_card.defects.defect import (
    Array,
    Defect,
    Tamper,
    When,
    flipped,
    is_op,
    operands,
    results,
    rows,
    singles,
)
from accelsdk_sim_card.defects.tampering import flip, through_bfloat16

_PRODUCTS = ("MatMul", "MatMulInteger", "ScaledMatMul")
_NAMES = ", ".join(_PRODUCTS)
_TILE = 16


def extents(node: Node) -> tuple[int, int, int]:
    """Returns M, K and N of a product of matrices, or zeros."""
    a, b = node.operand(0), node.operand(1)
    if a is None or b is None or min(len(a.shape), len(b.shape)) < 2:
        return 0, 0, 0
    return a.shape[-2], a.shape[-1], b.shape[-1]


def when_extents(test: Callable[[int, int, int], bool]) -> When:
    """Concerns products with extents that pass a test, none of them zero."""

    def when(node: Node) -> bool:
        m, k, n = extents(node)
        return m * k * n > 0 and test(m, k, n)

    return when


def _last_column_zero(y: Array, node: Node) -> Array:
    y[..., -1] = 0
    return y


def _edge_rows(y: Array, node: Node) -> Array:
    y[..., y.shape[-2] // _TILE * _TILE :, :] = 0
    return y


def _without(cut: Callable[[int], slice | int]) -> Tamper:
    """Returns the change that drops a part of K from every sum."""

    def change(found: list[Any], node: Node) -> None:
        a = found[0].copy()
        zero = found[2] if is_op(node, "MatMulInteger") and len(found) > 2 else None
        a[..., cut(a.shape[-1])] = 0 if zero is None else zero.reshape(-1)[0]
        found[0] = a

    return change


def _coarse_row(found: list[Any], node: Node) -> None:
    found[0] = through_bfloat16(found[0])


def _swap_pairs(found: list[Any], node: Node) -> None:
    a = found[0].copy()
    even = a.shape[-1] // 2 * 2
    a[..., :even] = (
        a[..., :even].reshape(*a.shape[:-1], -1, 2)[..., ::-1].reshape(a[..., :even].shape)
    )
    found[0] = a


def _transposed(found: list[Any], node: Node) -> None:
    found[1] = np.ascontiguousarray(found[1].swapaxes(-1, -2))


def _first_batch(found: list[Any], node: Node) -> None:
    b = found[1]
    found[1] = np.broadcast_to(b[:1], b.shape)


def _batched(node: Node) -> bool:
    b = node.operand(1)
    return b is not None and len(b.shape) > 2 and b.shape[0] > 1 and bool(b.type.count)


def _vector_operand(node: Node) -> bool:
    a, b = node.operand(0), node.operand(1)
    return a is not None and b is not None and 1 in (len(a.shape), len(b.shape))


def _flip_all(y: Array, node: Node) -> Array:
    return flipped(y)


def _on_pattern(y: Array, node: Node) -> Array:
    codes = y.view(np.uint32)
    struck = (codes >> np.uint32(16)) & np.uint32(0x7F) == np.uint32(0x55)
    codes[struck] ^= np.uint32(1 << 14)
    return y


def _is_single(node: Node) -> bool:
    return node.result.format is FLOAT32


_row = rows("")

DEFECTS: tuple[Defect, ...] = (
    _row(
        "lane_31",
        "one bit of output lane 31 is wrong",
        _NAMES,
        "a broken lane that small tests never reach",
        results(flip(..., 31), when_extents(lambda m, k, n: n > 31), *_PRODUCTS),
    ),
    _row(
        "row_16",
        "one bit of output row 16 is wrong",
        _NAMES,
        "the first row of the second tile",
        results(flip(..., 16, slice(None)), when_extents(lambda m, k, n: m > 16), *_PRODUCTS),
    ),
    _row(
        "edge_tile_rows",
        "rows after the last full tile of 16 are zero",
        _NAMES,
        "an edge tile that is masked out",
        results(_edge_rows, when_extents(lambda m, k, n: m > _TILE and m % _TILE > 0), *_PRODUCTS),
    ),
    _row(
        "odd_columns",
        "the last column is zero where the number of columns is odd",
        _NAMES,
        "columns handled in pairs",
        results(_last_column_zero, when_extents(lambda m, k, n: n > 1 and n % 2 == 1), *_PRODUCTS),
    ),
    _row(
        "deep_sums",
        "the product at K = 128 is lost where K is larger",
        _NAMES,
        "a seam between two passes over K",
        operands(_without(lambda k: 128), when_extents(lambda m, k, n: k > 128), *_PRODUCTS),
    ),
    _row(
        "depth_tail",
        "products after the last multiple of 32 are lost where K is larger than 32",
        _NAMES,
        "a loop over full vectors without its tail",
        operands(
            _without(lambda k: slice(k // 32 * 32, k)),
            when_extents(lambda m, k, n: k > 32 and k % 32 > 0),
            *_PRODUCTS,
        ),
    ),
    _row(
        "depth_counter",
        "products from K = 4095 on are lost",
        _NAMES,
        "a counter of 12 bits that stops at its largest value",
        operands(
            _without(lambda k: slice(4095, k)), when_extents(lambda m, k, n: k > 4095), *_PRODUCTS
        ),
    ),
    _row(
        "one_row_coarse",
        "the first operand is cut to bfloat16 where there is only one row",
        "MatMul on float32",
        "a matrix-vector path of its own",
        operands(_coarse_row, when_extents(lambda m, k, n: m == 1), "MatMul"),
    ),
    _row(
        "pairs_swapped",
        "neighbours along K of the first operand are swapped",
        _NAMES,
        "a shuffle applied to one operand and not to the other",
        operands(_swap_pairs, when_extents(lambda m, k, n: k > 1), *_PRODUCTS),
    ),
    _row(
        "square_transposed",
        "a square second operand is read transposed",
        "MatMul, ScaledMatMul, MatMulInteger",
        "a layout guessed from the strides",
        operands(_transposed, when_extents(lambda m, k, n: k == n > 1), *_PRODUCTS),
    ),
    _row(
        "first_batch_only",
        "every batch is multiplied by the second operand's first matrix",
        "MatMul, MatMulInteger",
        "a batch stride of zero",
        operands(_first_batch, _batched, *_PRODUCTS),
    ),
    _row(
        "vector_operand",
        "one bit is wrong where an operand is a vector",
        "MatMul",
        "a promotion to a matrix that is tested by nobody",
        results(_flip_all, _vector_operand, "MatMul"),
    ),
    _row(
        "pattern_flip",
        "a mantissa bit flips where the bits above it have one pattern",
        "MatMul, ScaledMatMul, float32 results",
        "silent data corruption that depends on the data",
        results(_on_pattern, _is_single, "MatMul", "ScaledMatMul"),
    ),
    _row(
        "wide_columns_coarse",
        "columns from 8 on are cut to bfloat16",
        "MatMul on float32",
        "a second code path for the last columns",
        results(
            lambda y, node: np.concatenate([y[..., :8], through_bfloat16(y[..., 8:])], axis=-1),
            lambda node: singles(node) and len(node.result.shape) > 1,
            "MatMul",
        ),
    ),
)
