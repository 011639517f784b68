"""Softmax, normalisations and composite reductions.

Rows are handled a few at a time, so that the passes over a row (maximum, exponential, sum,
quotient) find it in cache. Exponentials and sums are computed in float64 and rounded once;
the elementwise rest is in the operand's own precision, float32 at least.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.graph.graph import Node
from accelsdk.kernels.kernel import (
    BLOCK,
    Binder,
    Binders,
    Kernel,
    axis_of,
    integer,
    one,
    real,
    shape_of,
)
from accelsdk.kernels.reduction import accumulator, reducer, total, wide_total

Array = NDArray[Any]
#: Computes rows [n, length], float32 or float64, into an array of their shape and dtype.
RowFunction = Callable[[Array, Array], None]


def _exponentials(x: Array, top: Array) -> NDArray[np.float64]:
    grown: NDArray[np.float64] = np.subtract(x, top, dtype=np.float64)
    return np.exp(grown, out=grown)


def _softmax_rows(x: Array, out: Array) -> None:
    grown = _exponentials(x, np.maximum.reduce(x, axis=1, keepdims=True))
    share = np.reciprocal(np.add.reduce(grown, axis=1, keepdims=True))
    np.multiply(grown, share, out=out, casting="same_kind")


def _log_softmax_rows(x: Array, out: Array) -> None:
    top = np.maximum.reduce(x, axis=1, keepdims=True)
    total_of = np.add.reduce(_exponentials(x, top), axis=1, keepdims=True)
    np.subtract(x, top + np.log(total_of), out=out, dtype=np.float64, casting="same_kind")


def masked_softmax_rows(x: Array, out: Array) -> None:
    """Softmax in which a row of nothing but -Inf gives zeros."""
    top = np.maximum.reduce(x, axis=1, keepdims=True)
    empty = np.isneginf(top)
    grown = _exponentials(x, np.where(empty, x.dtype.type(0), top))
    sums = np.add.reduce(grown, axis=1, keepdims=True)
    share = np.reciprocal(np.where(empty, 1.0, sums))
    np.multiply(grown, share, out=out, casting="same_kind")


def by_rows(x: Array, function: RowFunction) -> Array:
    """Applies a row function along the last axis, some rows at a time."""
    length = x.shape[-1]
    if x.size == 0:
        return x.copy()
    rows = np.ascontiguousarray(_wide(x)).reshape(-1, length)
    step = max(1, BLOCK // length)
    out = np.empty_like(rows)
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        function(rows[part], out[part])
    return out.reshape(x.shape).astype(x.dtype, copy=False)


def _softmax(function: RowFunction) -> Binder:
    def bind(node: Node) -> Kernel:
        axis, last = axis_of(node), len(shape_of(node, 0)) - 1

        def softmax(x: Array) -> Array:
            if axis == last:
                return by_rows(x, function)
            return np.moveaxis(by_rows(np.moveaxis(x, axis, -1), function), -1, axis)

        return one(softmax)

    return bind


# -- normalisations --------------------------------------------------------------------------


def _wide(x: Array) -> Array:
    """At least float32, in which means are taken."""
    return x if x.dtype.itemsize >= 4 else x.astype(np.float32)


def _moments(rows: Array, epsilon: float) -> tuple[Array, Array]:
    """Subtracts from each row its mean, in place; returns mean and inverse deviation."""
    length = rows.shape[1]  # of nothing the mean is 0 / 0, as in the decomposition
    wide = accumulator(rows)
    mean = np.add.reduce(rows, axis=1, keepdims=True, dtype=wide) / length
    mean = mean.astype(rows.dtype)
    rows -= mean
    squares = np.einsum("ij,ij->i", rows, rows)[:, None]
    variance = squares / rows.dtype.type(length)
    return mean, np.reciprocal(np.sqrt(variance + rows.dtype.type(epsilon)))


def _standardise(x: Array, epsilon: float) -> tuple[Array, Array, Array]:
    """Returns standardised rows of [n, length], means and inverse deviations."""
    out = np.array(x, order="C")
    mean, inverse = np.empty((len(out), 1), out.dtype), np.empty((len(out), 1), out.dtype)
    step = max(1, 2 * BLOCK // max(out.shape[1], 1))
    for start in range(0, len(out), step):
        part = slice(start, start + step)
        mean[part], inverse[part] = _moments(out[part], epsilon)
        out[part] *= inverse[part]
    return out, mean, inverse


def _bind_layer(node: Node) -> Kernel:
    axis, epsilon = axis_of(node), real(node, "epsilon")
    shape = shape_of(node, 0)
    rows = (math.prod(shape[:axis]), math.prod(shape[axis:]))
    reduced = (*shape[:axis], *(1,) * (len(shape) - axis))
    results = len(node.outputs)

    def layer(x: Array, scale: Array, bias: Array | None = None) -> tuple[Array, ...]:
        normal, mean, inverse = _standardise(_wide(x).reshape(rows), epsilon)
        y = _affine(normal.reshape(shape), x.dtype, scale, bias)
        return (y, mean.reshape(reduced), inverse.reshape(reduced))[:results]

    return layer


def _affine(normal: Array, dtype: np.dtype[Any], scale: Array, bias: Array | None) -> Array:
    """Scales in the format of X: a 16-bit result is rounded after each step, as in ONNX."""
    if normal.dtype != dtype:
        y = (normal.astype(dtype).astype(np.float32) * scale.astype(np.float32)).astype(dtype)
        if bias is None:
            return y
        return np.asarray((y.astype(np.float32) + bias.astype(np.float32)).astype(dtype))
    normal *= scale
    if bias is not None:
        normal += bias
    return normal


def _bind_rms(node: Node) -> Kernel:
    axis, epsilon, shape = axis_of(node), real(node, "epsilon"), shape_of(node, 0)
    rows = (math.prod(shape[:axis]), math.prod(shape[axis:]))

    def rms(x: Array, scale: Array) -> Array:
        wide = _wide(x).reshape(rows)
        kind = wide.dtype.type
        squares = np.einsum("ij,ij->i", wide, wide)[:, None] / kind(max(rows[1], 1))
        normal = wide * np.reciprocal(np.sqrt(squares + kind(epsilon)))
        return _affine(normal.reshape(shape), x.dtype, scale, None)

    return one(rms)


def _bind_batch(node: Node) -> Kernel:
    epsilon, shape = real(node, "epsilon"), shape_of(node, 0)
    spread = (slice(None), *(None,) * (len(shape) - 2))

    def batch(x: Array, scale: Array, bias: Array, mean: Array, variance: Array) -> Array:
        wide, scale, bias, mean, variance = map(_wide, (x, scale, bias, mean, variance))
        factor = scale * np.reciprocal(np.sqrt(variance + variance.dtype.type(epsilon)))
        y = np.subtract(wide, mean[spread])
        y *= factor[spread]
        y += bias[spread]
        return y.astype(x.dtype, copy=False)

    return one(batch)


def _bind_grouped(node: Node) -> Kernel:
    """InstanceNormalization is GroupNormalization with one channel a group."""
    epsilon, shape = real(node, "epsilon"), shape_of(node, 0)
    groups = shape[1] if node.op == "InstanceNormalization" else integer(node, "num_groups")
    length = math.prod(shape[1:]) // max(groups, 1)
    spread = (slice(None), *(None,) * (len(shape) - 2))

    def normalise(x: Array, scale: Array, bias: Array) -> Array:
        normal, _, _ = _standardise(_wide(x).reshape(shape[0] * groups, length), epsilon)
        return _affine(normal.reshape(shape), x.dtype, scale[spread], bias[spread])

    return one(normalise)


# -- composite reductions --------------------------------------------------------------------


def _mean(x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    count = math.prod(x.shape[axis] for axis in axes)
    return np.asarray(wide_total(x, axes, keepdims) / count).astype(x.dtype, copy=False)


def _l1(x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    return total(np.abs(x), axes, keepdims)


def _squares(x: Array) -> Array:
    wide = x.astype(accumulator(x), copy=False)
    return np.asarray(np.multiply(wide, wide))


def _sum_square(x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    return total(_squares(x), axes, keepdims).astype(x.dtype, copy=False)


def _l2(x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    root = np.sqrt(wide_total(_squares(x), axes, keepdims))
    return np.asarray(root).astype(x.dtype, copy=False)


def _log_sum(x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    return np.asarray(np.log(wide_total(x, axes, keepdims))).astype(x.dtype, copy=False)


def _log_sum_exp(x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    top = np.maximum.reduce(x, axis=axes, keepdims=True, initial=-np.inf).astype(np.float64)
    top = np.where(np.isfinite(top), top, 0.0)
    sums = np.add.reduce(np.exp(x - top), axis=axes, keepdims=True)
    found = np.log(sums) + top
    if not keepdims:
        found = np.squeeze(found, axis=axes)
    return np.asarray(found).astype(x.dtype, copy=False)


BINDERS: Binders = {
    "Softmax": _softmax(_softmax_rows),
    "LogSoftmax": _softmax(_log_softmax_rows),
    "LayerNormalization": _bind_layer,
    "RMSNormalization": _bind_rms,
    "BatchNormalization": _bind_batch,
    "InstanceNormalization": _bind_grouped,
    "GroupNormalization": _bind_grouped,
    "ReduceMean": reducer(_mean),
    "ReduceL1": reducer(_l1),
    "ReduceL2": reducer(_l2),
    "ReduceSumSquare": reducer(_sum_square),
    "ReduceLogSum": reducer(_log_sum),
    "ReduceLogSumExp": reducer(_log_sum_exp),
}
