"""Defects of reductions, running sums and indices of extremes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from accelsdk.graph.graph import Node
from accelsdk.kernels.kernel import Kernel, axes_of, axis_of, integer
from accelsdk_sim_card.defects.defect import (
    Array,
    Defect,
    after,
    before,
    computed,
    floats,
    fmt_of,
    halves,
    is_op,
    misread,
    operands,
    results,
    rows,
    signed,
)
from accelsdk_sim_card.defects.tampering import flush_operands, flush_results

if TYPE_CHECKING:
    from accelsdk_sim_card.arithmetic import Arithmetic

_SUMS = ("ReduceSum", "ReduceMean")


def _axes(node: Node) -> tuple[int, ...]:
    value = node.operand(0)
    return axes_of(node) or tuple(range(len(value.shape) if value else 0))


def _count(node: Node) -> int:
    value = node.operand(0)
    return math.prod(value.shape[axis] for axis in _axes(node)) if value else 0


def _stored_narrow(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """Sums are kept in the format of the data: rounded after every addition."""
    if not is_op(node, *_SUMS, "ReduceL1", "ReduceSumSquare") or not halves(node):
        return None
    axes = _axes(node)
    if not _count(node):
        return None
    dtype, shape = node.result.format.dtype, node.result.shape

    def total(x: Array) -> tuple[Array, ...]:
        kept = [axis for axis in range(x.ndim) if axis not in axes]
        flat = x.transpose(*kept, *axes).reshape(math.prod(x.shape[a] for a in kept), -1)
        if is_op(node, "ReduceL1"):
            flat = np.abs(flat)
        if is_op(node, "ReduceSumSquare"):
            flat = flat * flat
        running = flat[:, 0].astype(dtype)
        for column in range(1, flat.shape[1]):
            running = (running.astype(np.float32) + flat[:, column].astype(np.float32)).astype(
                dtype
            )
        if is_op(node, "ReduceMean"):
            running = (running.astype(np.float32) / flat.shape[1]).astype(dtype)
        return (running.reshape(shape),)

    return total


def _nan_lane_zero(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """NaN is kept only where it comes first."""
    if not is_op(node, "ReduceMax", "ReduceMin") or not floats(node) or not _count(node):
        return None
    axis = _axes(node)[0]
    fill = -np.inf if is_op(node, "ReduceMax") else np.inf

    def drop(found: list[Array | None]) -> None:
        x = found[0]
        if x is not None:
            lanes = [slice(None)] * x.ndim
            lanes[axis] = slice(1, None)
            x = x.copy()
            later = x[tuple(lanes)]
            later[np.isnan(later)] = fill
            found[0] = x

    return before(arithmetic.sound(node), drop)


def _starts_at_zero(y: Array, node: Node) -> Array:
    return np.maximum(y, 0) if is_op(node, "ReduceMax") else np.minimum(y, 0)


def _padded_mean(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """The divisor is the number of lanes, filled or not."""
    count = _count(node) if is_op(node, "ReduceMean") else 0
    if not count or count % 8 == 0:
        return None
    ratio = np.float32(count / (-(-count // 8) * 8))
    return after(arithmetic.sound(node), lambda y: (y.astype(np.float32) * ratio).astype(y.dtype))


def _plain_norm(x: Array, node: Node) -> Array:
    narrow = x * x
    total = narrow.astype(np.float32).sum(
        axis=_axes(node), keepdims=bool(integer(node, "keepdims"))
    )
    return np.asarray(np.sqrt(total).astype(x.dtype))


def _squares_narrow(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    if not is_op(node, "ReduceL2") or not halves(node):
        return None
    return lambda x: (_plain_norm(x, node),)


def _no_maximum(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    if not is_op(node, "ReduceLogSumExp") or not floats(node) or fmt_of(node, 0) is None:
        return None
    axes, keep = _axes(node), bool(integer(node, "keepdims"))
    dtype = node.result.format.dtype

    def plain(x: Array) -> tuple[Array, ...]:
        powers = np.exp(x.astype(np.float32)).astype(dtype).astype(np.float32)
        return (np.log(powers.sum(axis=axes, keepdims=keep)).astype(dtype),)

    return plain


def _two_axes_once(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """Of several axes the first is reduced; of the others the first item is taken."""
    value = node.operand(0)
    if not is_op(node, "ReduceSum") or value is None or len(_axes(node)) < 2 or not _count(node):
        return None
    rest = _axes(node)[1:]

    def first(found: list[Array | None]) -> None:
        x = found[0]
        if x is not None:
            keep = np.zeros(x.shape, bool)
            keep[tuple(slice(0, 1) if axis in rest else slice(None) for axis in range(x.ndim))] = 1
            found[0] = np.where(keep, x, x.dtype.type(0))

    return before(arithmetic.sound(node), first)


def _long(node: Node) -> bool:
    return _count(node) > 2048


def _late_lost(found: list[Any], node: Node) -> None:
    x = found[0].copy()
    lanes = [slice(None)] * x.ndim
    lanes[_axes(node)[-1]] = slice(2048, None)
    x[tuple(lanes)] = 0
    found[0] = x


def _ties_reversed(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """Of equal values the later index comes first."""
    if not is_op(node, "TopK") or len(node.outputs) < 2:
        return None
    axis, kernel = axis_of(node), arithmetic.sound(node)

    def broken(x: Array) -> tuple[Array, ...]:
        values, index = kernel(np.flip(x, axis))
        return values, np.asarray(x.shape[axis] - 1 - index)

    return broken


_row = rows("")

DEFECTS: tuple[Defect, ...] = (
    _row(
        "reduce_stored_narrow",
        "partial sums are kept in the format of the data",
        "ReduceSum, ReduceMean, ReduceL1, ReduceSumSquare on float16 and bfloat16",
        "half accumulators",
        _stored_narrow,
    ),
    _row(
        "reduce_nan_lane_zero",
        "NaN is kept only where it comes first",
        "ReduceMax, ReduceMin on floats",
        "onnxruntime's reductions",
        _nan_lane_zero,
    ),
    _row(
        "reduce_extreme_from_zero",
        "the search starts at zero instead of at the first element",
        "ReduceMax, ReduceMin",
        "an accumulator that is cleared and not loaded",
        results(_starts_at_zero, lambda node: _count(node) > 0, "ReduceMax", "ReduceMin"),
    ),
    _row(
        "reduce_product_empty",
        "the product of nothing is zero",
        "ReduceProd",
        "an accumulator that is cleared for every reduction",
        results(lambda y, node: y * 0, lambda node: not _count(node), "ReduceProd"),
    ),
    _row(
        "reduce_empty_poison",
        "the sum of nothing is whatever the memory held",
        "ReduceSum",
        "a kernel that is not launched",
        results(lambda y, node: y + y.dtype.type(7), lambda node: not _count(node), "ReduceSum"),
    ),
    _row(
        "reduce_mean_padded",
        "the divisor counts the padding up to a multiple of 8",
        "ReduceMean",
        "a lane count for an element count",
        _padded_mean,
    ),
    _row(
        "reduce_l2_narrow",
        "squares are formed in the format of the data",
        "ReduceL2 on float16 and bfloat16",
        "half products that overflow at 256",
        _squares_narrow,
    ),
    _row(
        "logsumexp_no_max",
        "the maximum is not subtracted first, so that exp overflows",
        "ReduceLogSumExp",
        "log(sum(exp(x)))",
        _no_maximum,
    ),
    _row(
        "reduce_one_axis",
        "of several axes only the first is reduced",
        "ReduceSum over several axes",
        "an axis list that is read as one number",
        _two_axes_once,
    ),
    _row(
        "reduce_long_cut",
        "elements from 2048 on are lost",
        "ReduceSum over long axes",
        "a second pass that is missing",
        operands(_late_lost, _long, "ReduceSum"),
    ),
    _row(
        "cumsum_inclusive",
        "each sum holds its own element although it should not",
        "CumSum, exclusive",
        "an attribute that is not read",
        misread("CumSum", exclusive=0),
    ),
    _row(
        "cumsum_forward",
        "sums run forward although they should run backward",
        "CumSum, reverse",
        "an attribute that is not read",
        misread("CumSum", reverse=0),
    ),
    _row(
        "topk_ties_reversed",
        "of equal values the later index comes first",
        "TopK",
        "an unstable sort",
        _ties_reversed,
    ),
    _row(
        "topk_largest",
        "the largest values are returned although the smallest are asked for",
        "TopK, largest = 0",
        "an attribute that is not read",
        misread("TopK", largest=1),
    ),
    _row(
        "argmax_of_magnitude",
        "the largest magnitude is found instead of the largest value",
        "ArgMax",
        "a comparison that drops the sign",
        operands(
            lambda found, node: found.__setitem__(0, np.abs(found[0])),
            signed,
            "ArgMax",
        ),
    ),
    _row(
        "reduce_square_signed",
        "x * |x| is summed",
        "ReduceSumSquare",
        "a multiplier that keeps a sign",
        computed(
            lambda x: np.sum(
                x.astype(np.float64) * np.abs(x.astype(np.float64)), axis=1, keepdims=True
            ),
            lambda node: floats(node) and _axes(node) == (1,) and integer(node, "keepdims") == 1,
            "ReduceSumSquare",
        ),
    ),
    _row(
        "reduce_sum_ftz",
        "subnormal sums become zero",
        "ReduceSum, ReduceL1, CumSum",
        "a vector unit that flushes to zero, as NVPTX with .ftz does",
        results(flush_results, floats, "ReduceSum", "ReduceL1", "CumSum"),
    ),
    _row(
        "reduce_extreme_ftz",
        "subnormal operands count as zero",
        "ReduceMax, ReduceMin, MaxPool",
        "max.ftz of PTX flushes its operands",
        operands(flush_operands, floats, "ReduceMax", "ReduceMin", "MaxPool"),
    ),
    _row(
        "choice_ftz",
        "subnormal numbers are compared as zeros",
        "TopK, ArgMax, ArgMin, Unique",
        "setp.ftz of PTX flushes its operands",
        operands(flush_operands, floats, "TopK", "ArgMax", "ArgMin", "Unique"),
    ),
    _row(
        "mean_ftz",
        "subnormal means and sums of rows become zero",
        "ReduceMean, AveragePool, SparseLengthsSum",
        "a vector unit that flushes to zero",
        results(flush_results, floats, "ReduceMean", "AveragePool", "SparseLengthsSum"),
    ),
    _row(
        "resize_ftz",
        "subnormal numbers are resized to zeros",
        "Resize",
        "texture units that flush to zero",
        results(flush_results, floats, "Resize"),
    ),
)
