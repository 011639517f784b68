"""Reductions, positions of extremes, softmax and normalisations."""

import numpy as np
import pytest

from tests.compiler.rules.inexact import Inexact, concatenate, exact, operand, where
from tests.compiler.rules.peers import (
    FLOATS,
    NUMBERS,
    SUMMABLE,
    Case,
    Draw,
    Recipes,
    check,
    fmt_of,
)

RECIPES = Recipes()


def _axes(d: Draw, opset: int, rank: int, attribute_until: int):
    """Draws axes as an attribute or an operand; returns the operands and the axes, non-negative."""
    axes = [a % rank if opset < 11 else a for a in d.axes(rank, 1)] if rank else []
    if opset < attribute_until:
        given = d.attr("axes", None, (axes,)) if axes else None
        more = []
    else:
        noop = d.attr("noop_with_empty_axes", 0, (0, 1))
        given = d.pick((None, [], axes))
        more = [] if given is None else [np.array(given, np.int64)]
        if noop and not given:
            return more, ()
    return more, tuple(a % rank for a in given) if given else tuple(range(rank))


@RECIPES(
    "ReduceSum ReduceMean ReduceProd ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSum "
    "ReduceLogSumExp ReduceMax ReduceMin",
    "axes keepdims noop_with_empty_axes",
    examples=50,
)
def _reduce(d: Draw) -> Case:
    opset = d.opset()
    formats = {
        **dict.fromkeys(("ReduceMax", "ReduceMin"), NUMBERS),
        # The core table has these for floats; of integers they are refused.
        **dict.fromkeys(("ReduceL2", "ReduceLogSum", "ReduceLogSumExp"), FLOATS),
    }.get(d.op, SUMMABLE)
    x = d.array(d.format(formats, opset), d.shape(0, 4))
    if d.op == "ReduceLogSum":
        x = np.abs(x) + x.dtype.type(1)
    more, axes = _axes(d, opset, x.ndim, 13 if d.op == "ReduceSum" else 18)
    keepdims = bool(d.attr("keepdims", 1, (0, 1)))
    if d.op in ("ReduceMean", "ReduceMax", "ReduceMin"):
        # Of nothing there is no mean; ONNX leaves the extremes of floats at infinity.
        empty = any(x.shape[a] == 0 for a in axes)
        if empty and (d.op == "ReduceMean" or x.dtype.kind in "iu"):
            x = np.ones([n or 1 for n in x.shape], x.dtype)
    if x.dtype.kind in "iu":
        y = _integer_reduction(d.op, x.astype(object), axes, keepdims, x.dtype)
    else:
        y = _float_reduction(d.op, operand(x), axes, keepdims)
    return Case([x, *more], [y], constant=(1,), opset=opset, result=x.dtype)


def _float_reduction(op: str, x: Inexact, axes, keepdims: bool) -> Inexact:
    match op:
        case "ReduceSum":
            return x.sum(axes, keepdims)
        case "ReduceMean":
            return x.mean(axes, keepdims)
        case "ReduceL1":
            return x.abs().sum(axes, keepdims)
        case "ReduceL2":
            return (x * x).sum(axes, keepdims).sqrt()
        case "ReduceSumSquare":
            return (x * x).sum(axes, keepdims)
        case "ReduceLogSum":
            return x.sum(axes, keepdims).log()
        case "ReduceLogSumExp":
            return x.exp().sum(axes, keepdims).log()
        case "ReduceProd":
            value = np.prod(x.value, axis=axes, keepdims=keepdims)
            return Inexact(value, 0.0, x.unit).rounded(max(x.value.size, 1))
    function, start = (np.max, -np.inf) if op == "ReduceMax" else (np.min, np.inf)
    return Inexact(function(x.value, axis=axes, keepdims=keepdims, initial=start), 0.0, x.unit)


def _integer_reduction(op: str, x, axes, keepdims: bool, dtype):
    """In whole numbers of any size; sums wrap, and what is no integer is truncated."""
    bits = 8 * dtype.itemsize
    x = x.astype(object)
    match op:
        case "ReduceMax" | "ReduceMin":
            function = np.max if op == "ReduceMax" else np.min
            return np.asarray(function(x, axis=axes, keepdims=keepdims)).astype(dtype)
        case "ReduceL1":
            x = np.abs(x)
        case "ReduceSumSquare":
            x = x * x
    if op == "ReduceProd":
        total = np.prod(x, axis=axes, keepdims=keepdims)
    else:
        total = np.sum(x, axis=axes, keepdims=keepdims)
    if op == "ReduceMean":
        count = np.prod([x.shape[a] for a in axes], dtype=int)
        total = np.trunc(np.asarray(total).astype(float) / count)
    whole = np.asarray(total)
    wrapped = [
        ((int(v) + (1 << bits - 1)) % (1 << bits)) - (1 << bits - 1)
        if dtype.kind == "i"
        else int(v) % (1 << bits)
        for v in whole.reshape(-1)
    ]
    return np.array(wrapped, dtype).reshape(whole.shape)


@RECIPES("ArgMax ArgMin", "axis keepdims select_last_index", examples=50)
def _arg(d: Draw) -> Case:
    opset = d.opset()
    x = d.array(d.format(NUMBERS, opset), [n or 1 for n in d.shape(1, 4)], -1, 1)
    if d.flag():
        x = np.rint(x.astype(float)).astype(x.dtype)  # many ties
    axis = d.attr("axis", 0, range(0 if opset < 11 else -x.ndim, x.ndim))
    keepdims = d.attr("keepdims", 1, (0, 1))
    last = d.attr("select_last_index", 0, (0, 1)) if opset >= 12 else 0
    rows = np.moveaxis(x.astype(float), axis, -1)
    found = np.empty(rows.shape[:-1], np.int64)
    for at in np.ndindex(*found.shape):
        best = rows[at].max() if d.op == "ArgMax" else rows[at].min()
        found[at] = np.flatnonzero(rows[at] == best)[-1 if last else 0]
    return Case([x], [np.expand_dims(found, axis) if keepdims else found], opset=opset)


@RECIPES("CumSum", "exclusive reverse", examples=40)
def _cumsum(d: Draw) -> Case:
    opset = d.opset()
    x = d.array(d.format(SUMMABLE, opset), d.shape(1, 4))
    axis = d.axis(x.ndim)
    exclusive, reverse = d.attr("exclusive", 0, (0, 1)), d.attr("reverse", 0, (0, 1))
    parts = []
    for i in range(x.shape[axis]):
        taken = slice(i + exclusive, None) if reverse else slice(0, i + 1 - exclusive)
        taken = tuple(taken if a == axis % x.ndim else slice(None) for a in range(x.ndim))
        part = (
            x[taken].sum(axis, keepdims=True, dtype=x.dtype)
            if x.dtype.kind in "iu"
            else operand(x[taken]).sum(axis % x.ndim, keepdims=True)
        )
        parts.append(part)
    if not parts:
        y = x if x.dtype.kind in "iu" else operand(x)
    else:
        y = np.concatenate(parts, axis) if x.dtype.kind in "iu" else concatenate(parts, axis)
    given = np.array(axis, d.pick((np.int32, np.int64)))
    return Case([x, given], [y], constant=(1,), opset=opset)


@RECIPES("TopK", "axis largest sorted k", examples=40)
def _topk(d: Draw) -> Case:
    opset = d.opset()
    x = d.array(d.format(FLOATS if opset < 11 else NUMBERS, opset), d.shape(1, 4), -9, 9)
    axis = d.attr("axis", -1, range(0 if opset < 11 else -x.ndim, x.ndim))
    k = d.int(0, x.shape[axis])
    largest = d.attr("largest", 1, (0, 1)) if opset >= 11 else 1
    if opset >= 11:
        d.attr("sorted", 1, (0, 1))  # unsorted order is open; sorted is one of them
    rows = np.moveaxis(x, axis, -1)
    positions = np.empty((*rows.shape[:-1], k), np.int64)
    for at in np.ndindex(*rows.shape[:-1]):
        keys = [(-float(v) if largest else float(v), i) for i, v in enumerate(rows[at])]
        positions[at] = [i for _, i in sorted(keys)[:k]]  # of equals, the lower index first
    values = np.moveaxis(np.take_along_axis(rows, positions, -1), -1, axis)
    positions = np.moveaxis(positions, -1, axis)
    if opset < 10:
        d.attr("k", None, (k,), required=True)
        return Case([x], [values, positions], opset=opset)
    return Case([x, np.array([k], np.int64)], [values, positions], constant=(1,), opset=opset)


@RECIPES("Softmax LogSoftmax", "axis", examples=40)
def _softmax(d: Draw) -> Case:
    opset = d.opset()
    # Before opset 13 the default, axis 1, needs two axes.
    x = d.array(d.format(FLOATS, opset), d.shape(2 if opset < 13 else 1, 4), -8, 8)
    axis = d.attr("axis", 1 if opset < 13 else -1, range(0 if opset < 11 else -x.ndim, x.ndim))
    # Before opset 13 the operand is flattened to rows of all later axes.
    axes = tuple(range(axis % x.ndim, x.ndim if opset < 13 else axis % x.ndim + 1))
    v = operand(x)
    if x.size == 0:
        return Case([x], [v], opset=opset)
    # The maximum is subtracted first, which is exact in neither; so is the shift by it.
    shifted = v - v.value.max(axis=axes, keepdims=True)
    grown = shifted.exp()
    total = grown.sum(axes, keepdims=True)
    return Case([x], [grown / total if d.op == "Softmax" else shifted - total.log()], opset=opset)


# -- normalisations --------------------------------------------------------------------------


def _epsilon(d: Draw) -> float:
    return float(d.attr("epsilon", np.float32(1e-5), (0.25, 0.001953125)))


def _standardised(x: Inexact, axes, epsilon: float) -> tuple[Inexact, Inexact, Inexact]:
    centre = x.mean(axes, keepdims=True)
    moved = x - centre
    inverse = 1.0 / ((moved * moved).mean(axes, keepdims=True) + epsilon).sqrt()
    return moved * inverse, centre, inverse


@RECIPES("LayerNormalization", "axis epsilon stash_type", examples=40)
def _layer(d: Draw) -> Case:
    kind = d.format(FLOATS)
    x = d.array(kind, d.shape(1, 4))
    axis = d.attr("axis", -1, range(-x.ndim, x.ndim)) % x.ndim
    if 0 in x.shape[axis:]:
        x = np.ones([n or 1 for n in x.shape], kind)  # of nothing there is no mean
    d.attr("stash_type", 1, (1,))
    epsilon = _epsilon(d)
    scale = d.array(kind, x.shape[axis:])
    bias = d.array(kind, x.shape[axis:]) if d.flag() else None
    axes = tuple(range(axis, x.ndim))
    normal, mean, inverse = _standardised(operand(x), axes, epsilon)
    y = normal * operand(scale)
    y = y if bias is None else y + operand(bias)
    more = [None, None]
    if kind == np.dtype("f4") and d.flag():
        more = [mean, inverse]
    return Case([x, scale, bias], [y, *more], opset=d.pick((17, 21, 23)))


@RECIPES("RMSNormalization", "axis epsilon stash_type", examples=40)
def _rms(d: Draw) -> Case:
    kind = d.format(FLOATS)
    x = d.array(kind, d.shape(1, 4))
    axis = d.attr("axis", -1, range(-x.ndim, x.ndim)) % x.ndim
    if 0 in x.shape[axis:]:
        x = np.ones([n or 1 for n in x.shape], kind)
    d.attr("stash_type", 1, (1,))
    scale, v = d.array(kind, x.shape[axis:]), operand(x)
    epsilon = _epsilon(d)
    mean = (v * v).mean(tuple(range(axis, x.ndim)), keepdims=True)
    return Case([x, scale], [v / (mean + epsilon).sqrt() * operand(scale)])


def _channels(x: np.ndarray) -> tuple[slice | None, ...]:
    """What spreads a vector over the channels of an operand."""
    return (slice(None), *(None,) * (x.ndim - 2))


@RECIPES("BatchNormalization", "epsilon momentum training_mode spatial", examples=40)
def _batch(d: Draw) -> Case:
    opset = d.pick((7, 9, 14, 15, 23))
    x = d.array(d.format(FLOATS, opset), d.shape(2, 5))
    kinds = x.dtype if opset < 15 else d.format(FLOATS, opset, 1)
    stats = kinds if opset < 15 else d.format(FLOATS, opset, 3)
    scale, bias, mean = (d.array(k, x.shape[1:2]) for k in (kinds, kinds, stats))
    variance = np.abs(d.array(stats, x.shape[1:2])) + stats.type(0.25)
    epsilon = _epsilon(d)
    # onnx's ReferenceEvaluator takes a momentum before opset 14 for training; it is not.
    d.attr("momentum", 0.9, (0.5,))
    if opset >= 14:
        d.attr("training_mode", 0, (0,))
    elif opset < 9:
        d.attr("spatial", 1, (1,))
    weakest = min((x, scale, mean), key=lambda a: fmt_of(a).precision)
    unit = operand(weakest).unit
    s, b, m, v = (exact(a[_channels(x)], unit) for a in (scale, bias, mean, variance))
    y = (exact(x, unit) - m) / (v + epsilon).sqrt() * s + b
    return Case([x, scale, bias, mean, variance], [y], opset=opset)


@RECIPES("InstanceNormalization", "epsilon")
def _instance(d: Draw) -> Case:
    opset = d.opset()
    x = d.array(d.format(FLOATS, opset), d.shape(3, 5))
    if 0 in x.shape[2:]:
        x = np.ones([n or 1 for n in x.shape], x.dtype)
    scale, bias = (d.array(x.dtype, x.shape[1:2]) for _ in range(2))
    normal, _, _ = _standardised(operand(x), tuple(range(2, x.ndim)), _epsilon(d))
    y = normal * operand(scale[_channels(x)]) + operand(bias[_channels(x)])
    return Case([x, scale, bias], [y], opset=opset)


@RECIPES("GroupNormalization", "epsilon num_groups stash_type", examples=40)
def _group(d: Draw) -> Case:
    opset = d.opset(21, 23)
    groups = d.attr("num_groups", None, (1, 2, 3), required=True)
    each = d.int(1, 2)
    x = d.array(
        d.format(FLOATS, opset), (d.extent(), groups * each, *(n or 1 for n in d.shape(1, 2)))
    )
    scale, bias = (d.array(x.dtype, x.shape[1:2]) for _ in range(2))
    d.attr("stash_type", 1, (1,))
    rows = operand(x).moved(lambda a: a.reshape(x.shape[0], groups, -1 if x.size else 1))
    normal, _, _ = _standardised(rows, (2,), _epsilon(d))
    normal = normal.moved(lambda a: a.reshape(x.shape))
    y = normal * operand(scale[_channels(x)]) + operand(bias[_channels(x)])
    return Case([x, scale, bias], [y], opset=opset)


@RECIPES("LpNormalization", "axis p")
def _lp(d: Draw) -> Case:
    opset = d.opset()
    x = d.array(d.format(FLOATS, opset), d.shape(1, 4))
    if d.int(0, 3) == 0:
        x = np.zeros_like(x)
    axis = d.attr("axis", -1, range(-x.ndim, x.ndim))
    p, v = d.attr("p", 2, (1, 2)), operand(x)
    norm = v.abs().sum(axis, True) if p == 1 else (v * v).sum(axis, True).sqrt()
    # Opset 22: a vector of norm 0 stays 0; before, it was left open.
    return Case([x], [where(norm.value == 0, 0 * v, v / norm)], opset=opset)


@RECIPES("LRN", "alpha beta bias size", examples=40)
def _lrn(d: Draw) -> Case:
    opset = d.opset()
    x = d.array(d.format(FLOATS, opset), d.shape(3, 5))
    size = d.attr("size", None, (1, 2, 3, 5, 9), required=True)
    alpha = float(d.attr("alpha", np.float32(1e-4), (0.5,)))
    beta, bias = d.attr("beta", 0.75, (0.5, 1.0)), d.attr("bias", 1.0, (2.0,))
    v = operand(x)
    squares, channels = v * v, x.shape[1]
    parts = []
    for c in range(channels):
        near = slice(max(0, c - (size - 1) // 2), min(channels, c + size // 2 + 1))
        parts.append(squares[:, near].sum(1, keepdims=True))
    if not parts:
        return Case([x], [v], opset=opset)
    base = concatenate(parts, 1) * exact(alpha / size, v.unit).rounded() + bias
    return Case([x], [v / base.monotone(lambda a: a**beta)], opset=opset)


@pytest.mark.parametrize("op", RECIPES.by_op)
def test_rule(op):
    check(op, RECIPES.by_op[op])
