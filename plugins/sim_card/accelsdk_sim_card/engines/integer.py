"""The integer engine: 8- and 4-bit products into 32-bit accumulators that wrap.

Built as hardware builds it: the raw codes are multiplied, and zero points are taken out
afterwards by row and column sums (FBGEMM, arXiv 2101.05615, section 3). The products run
through float BLAS in blocks of K that are short enough to be exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.formats import Format
from accelsdk.graph.graph import Node
from accelsdk.kernels.kernel import Binders, Kernel, operand_format, shape_of
from accelsdk_sim_card.engines.windows import Windows

Array = NDArray[Any]
Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class IntUnit:
    """How the engine accumulates.

    Attributes:
        pair16: Whether pairs of products saturate at 16 bits, as in ``vpmaddubsw``.
        saturate: Whether the accumulator saturates at 32 bits instead of wrapping.
        pad_with_zero_point: Whether padding stands for the value zero.
    """

    pair16: bool = False
    saturate: bool = False
    pad_with_zero_point: bool = True


SOUND = IntUnit()


def multiply(a: Array, b: Array, largest: int) -> Doubles:
    """Returns the exact product of integer matrices, as float64.

    Args:
        a: ``[..., M, K]``.
        b: ``[..., K, N]``.
        largest: Largest magnitude of one product.
    """
    length = a.shape[-1]
    block = max((1 << 24) // max(largest, 1), 1)
    if length <= block:
        single = np.asarray(np.matmul(a.astype(np.float32), b.astype(np.float32)))
        return single.astype(np.float64)
    if length > 8 * block:  # many blocks cost more than double precision does
        return np.asarray(np.matmul(a.astype(np.float64), b.astype(np.float64)))
    left, right = a.astype(np.float32), b.astype(np.float32)
    first = np.asarray(np.matmul(left[..., :block], right[..., :block, :]))
    total = first.astype(np.float64)
    for start in range(block, length, block):
        part = slice(start, start + block)
        total += np.matmul(left[..., part], right[..., part, :])
    return total


def multiply_pair16(a: Array, b: Array, largest: int) -> Doubles:
    """As `multiply`, where the sum of two neighbouring products saturates at int16."""
    del largest
    length = a.shape[-1]
    left, right = a.astype(np.float32), b.astype(np.float32)
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    total = np.zeros((*batch, a.shape[-2], b.shape[-1]))
    for k in range(0, length, 2):
        pair = left[..., k : k + 2] @ right[..., k : k + 2, :]
        total += np.clip(pair, -32768, 32767)
    return total


def accumulate(exact: Doubles, unit: IntUnit) -> NDArray[np.int32]:
    """Returns exact sums as the 32-bit accumulator holds them."""
    if unit.saturate:
        exact = np.clip(exact, -(2.0**31), 2.0**31 - 1)
    return exact.astype(np.int64).astype(np.int32)


def product(
    a: Array,
    b: Array,
    a_zero: Array | None,
    b_zero: Array | None,
    formats: tuple[Format, Format],
    unit: IntUnit,
) -> NDArray[np.int32]:
    """Returns ``(a - a_zero) @ (b - b_zero)``; zero points broadcast to rows and columns."""
    largest = math.prod(int(max(fmt.max, -fmt.min)) for fmt in formats)
    total = (multiply_pair16 if unit.pair16 else multiply)(a, b, largest)
    if a_zero is not None and a_zero.any():
        total -= a_zero * b.sum(axis=-2, keepdims=True, dtype=np.int64)
    if b_zero is not None and b_zero.any():
        rows = a.sum(axis=-1, keepdims=True, dtype=np.int64)
        if a_zero is not None:
            rows = rows - a_zero * a.shape[-1]
        total -= rows * b_zero
    return accumulate(total, unit)


def _zero(zero: Array | None, shape: tuple[int, ...]) -> Doubles | None:
    """A zero point in float64, a vector reshaped to ``shape``."""
    if zero is None:
        return None
    wide = zero.astype(np.float64)
    return wide.reshape(()) if wide.size == 1 else wide.reshape(shape)


def bind_matmul(node: Node, unit: IntUnit = SOUND) -> Kernel:
    """Returns the kernel of a MatMulInteger."""
    formats = operand_format(node, 0), operand_format(node, 1)
    a_rank, b_rank = len(shape_of(node, 0)), len(shape_of(node, 1))

    def matmul(
        a: Array, b: Array, a_zero: Array | None = None, b_zero: Array | None = None
    ) -> tuple[Array, ...]:
        left = _whole(a[None, :] if a_rank == 1 else a)
        right = _whole(b[:, None] if b_rank == 1 else b)
        out = product(left, right, _zero(a_zero, (-1, 1)), _zero(b_zero, (1, -1)), formats, unit)
        if a_rank == 1:
            out = out[..., 0, :]
        return (out[..., 0] if b_rank == 1 else out,)

    return matmul


def _whole(x: Array) -> Array:
    """4-bit codes as int8: NumPy sums no others."""
    return x if x.dtype.kind in "iu" and x.dtype.isbuiltin else x.astype(np.int8)


def bind_conv(node: Node, unit: IntUnit = SOUND) -> Kernel:
    """Returns the kernel of a ConvInteger: gathered windows times weights."""
    formats = operand_format(node, 0), operand_format(node, 1)
    windows = Windows(node)

    def conv(
        x: Array, w: Array, x_zero: Array | None = None, w_zero: Array | None = None
    ) -> tuple[Array, ...]:
        if windows.empty:
            return (np.zeros(windows.shape, np.int32),)
        fill = 0 if x_zero is None or not unit.pad_with_zero_point else x_zero.reshape(-1)[0]
        zeros = _zero(x_zero, ()), _zero(w_zero, (windows.group, 1, -1))
        columns, weights = windows.columns(x, fill), windows.weights(w)
        return (windows.result(product(columns, weights, *zeros, formats, unit)),)

    return conv


BINDERS: Binders = {"MatMulInteger": bind_matmul, "ConvInteger": bind_conv}
