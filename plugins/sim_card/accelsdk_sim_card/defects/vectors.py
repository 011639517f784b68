"""Defects of the vector engine: elementwise functions, reductions, pools, look-ups."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from accelsdk.formats import FLOAT32
from accelsdk.graph.graph import Node
from accelsdk.kernels.kernel import Kernel, axes_of, integer, integers, real
from accelsdk_sim_card.defects.defect import (
    Array,
    Bind,
    Defect,
    after,
    before,
    floats,
    fmt_of,
    is_op,
    misread,
    rows,
    with_attributes,
)
from accelsdk_sim_card.defects.tampering import through_bfloat16, without_subnormals

if TYPE_CHECKING:
    from accelsdk_sim_card.arithmetic import Arithmetic

_ARITHMETIC = ("Add", "Sub", "Mul", "Div", "Sqrt", "Exp", "Tanh", "Sigmoid", "Relu")
_LANES = 8


def _softmax(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    if not is_op(node, "Softmax"):
        return None
    axis, dtype = integer(node, "axis"), node.result.format.dtype

    def plain(x: Array) -> tuple[Array, ...]:
        grown = np.exp(x.astype(np.float32))
        return ((grown / grown.sum(axis=axis, keepdims=True)).astype(dtype),)

    return plain


def _nan_dropped(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    if not floats(node) or not is_op(node, "Max", "Min", "ReduceMax", "ReduceMin"):
        return None
    smallest = is_op(node, "Min", "ReduceMin")
    if is_op(node, "Max", "Min"):
        pick = np.fmin if smallest else np.fmax
        return lambda x, y: (pick(x, y),)

    def ignore(operands: list[Array | None]) -> None:
        x = operands[0]
        if x is not None:
            operands[0] = np.where(np.isnan(x), x.dtype.type(np.inf if smallest else -np.inf), x)

    return before(arithmetic.sound(node), ignore)


def _vector_tail(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    if not is_op(node, *_ARITHMETIC) or node.result.format is not FLOAT32:
        return None

    def coarse_tail(y: Array) -> Array:
        flat = np.array(y).reshape(-1)
        tail = flat[flat.size - flat.size % _LANES :]
        tail[:] = through_bfloat16(tail)
        return flat.reshape(y.shape)

    return after(arithmetic.sound(node), coarse_tail)


def _flush(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    if not is_op(node, "Add", "Sub", "Mul", "Div") or node.result.format is not FLOAT32:
        return None
    return after(arithmetic.sound(node), without_subnormals)


def _last_lost(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    value = node.operand(0)
    if not is_op(node, "ReduceSum", "ReduceMean") or value is None or not value.type.count:
        return None
    axes = axes_of(node) or tuple(range(len(value.shape)))
    if all(value.shape[axis] == 1 for axis in axes):
        return None
    last = tuple(-1 if axis in axes else slice(None) for axis in range(len(value.shape)))

    def drop(operands: list[Array | None]) -> None:
        x = operands[0]
        if x is not None:
            operands[0] = x = x.copy()
            x[last] = 0

    return before(arithmetic.sound(node), drop)


def _epsilon(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    ops = ("LayerNormalization", "RMSNormalization", "InstanceNormalization", "GroupNormalization")
    if not is_op(node, *ops):
        return None
    return arithmetic.sound(with_attributes(node, epsilon=10 * real(node, "epsilon")))


def _coarse(*ops: str) -> Bind:
    """Returns the binding of functions whose float32 results have the precision of bfloat16."""

    def bind(node: Node, arithmetic: Arithmetic) -> Kernel | None:
        if not is_op(node, *ops) or node.result.format is not FLOAT32:
            return None
        return after(arithmetic.sound(node), through_bfloat16)

    return bind


def _table(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """A table of 256 entries over -8..8, whose index is one too high."""
    if not is_op(node, "Sigmoid", "Tanh") or not floats(node):
        return None

    def to_grid(operands: list[Array | None]) -> None:
        x = operands[0]
        if x is not None:
            grid = np.clip(np.rint(x.astype(np.float32) * 16), -128, 127)
            operands[0] = ((grid + 1) / 16).astype(x.dtype)

    return before(arithmetic.sound(node), to_grid)


def _pad_zero(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    value = node.operand(0)
    if not is_op(node, "MaxPool") or value is None or integer(node, "ceil_mode"):
        return None
    pads = integers(node, "pads")
    if not any(pads) or any(output is not None for output in node.outputs[1:]):
        return None
    rank = len(pads) // 2
    widths = [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)]
    shape = tuple(n + sum(w) for n, w in zip(value.shape, widths, strict=True))
    padded = replace(value, type=replace(value.type, shape=shape))
    wider = with_attributes(replace(node, inputs=(padded,)), pads=(0,) * len(pads))
    kernel = arithmetic.sound(wider)
    return lambda x: kernel(np.pad(x, widths))


def _round_away(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    if not is_op(node, "Round"):
        return None

    def away(x: Array) -> tuple[Array, ...]:
        whole = np.trunc(x)
        up = np.copysign((np.abs(x - whole) >= 0.5).astype(x.dtype), x)
        return ((whole + up).astype(x.dtype),)

    return away


def _div_floors(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    fmt = fmt_of(node)
    if not is_op(node, "Div") or fmt is None or not fmt.is_integer or not fmt.is_signed:
        return None
    return lambda x, y: (np.floor_divide(x, y),)


def _index_clamped(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    if not is_op(node, "Gather", "GatherND", "GatherElements"):
        return None

    def clamp(operands: list[Array | None]) -> None:
        if operands[1] is not None:
            operands[1] = np.maximum(operands[1], 0)

    return before(arithmetic.sound(node), clamp)


def _nibbles_swapped(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    if not is_op(node, "SparseLengthsSumFused") or integer(node, "bits") != 4:
        return None
    codes = -(-integer(node, "columns") // 2)

    def swap(operands: list[Array | None]) -> None:
        rows = operands[0]
        if rows is not None:
            rows = rows.copy()
            rows[:, :codes] = rows[:, :codes] >> 4 | rows[:, :codes] << 4
            operands[0] = rows

    return before(arithmetic.sound(node), swap)


def _last_lookup(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """The weight of each bag's last row is that of the row before."""
    if not is_op(node, "SparseLengthsSum", "SparseLengthsSumFused") or node.operand(3) is None:
        return None

    def shift(operands: list[Array | None]) -> None:
        weights = operands[3]
        if weights is not None:
            operands[3] = np.roll(weights, 1)

    return before(arithmetic.sound(node), shift)


_row = rows("")

DEFECTS: tuple[Defect, ...] = (
    _row(
        "avgpool_counts_padding",
        "padding counts as items although it should not",
        "AveragePool with padding",
        "count_include_pad ignored",
        misread("AveragePool", count_include_pad=1),
    ),
    _row(
        "maxpool_pads_zero",
        "padding competes as the value zero",
        "MaxPool with padding",
        "a zero-filled line buffer",
        _pad_zero,
    ),
    _row(
        "softmax_no_max",
        "the maximum is not subtracted first, so that exp overflows",
        "Softmax",
        "exp(x) / sum(exp(x))",
        _softmax,
    ),
    _row(
        "max_drops_nan",
        "NaN loses against numbers",
        "Max, Min, ReduceMax, ReduceMin",
        "fmaxf; onnxruntime keeps NaN only from lane 0",
        _nan_dropped,
    ),
    _row(
        "argmax_last_tie",
        "of equal maxima the last one is reported",
        "ArgMax",
        "a comparison with >= for >",
        misread("ArgMax", select_last_index=1),
    ),
    _row(
        "argmin_last_tie",
        "of equal minima the last one is reported",
        "ArgMin",
        "a comparison with <= for <",
        misread("ArgMin", select_last_index=1),
    ),
    _row(
        "vector_tail",
        "the elements after the last full vector have the precision of bfloat16",
        f"{', '.join(_ARITHMETIC)}, float32",
        "a scalar tail on another code path (12 of 61 torch ops differ)",
        _vector_tail,
    ),
    _row(
        "float32_ftz",
        "subnormal results become zero",
        "Add, Sub, Mul, Div, float32",
        "flush-to-zero mode left on",
        _flush,
    ),
    _row(
        "reduce_last_lost",
        "the last element of a reduction is dropped",
        "ReduceSum, ReduceMean",
        "a loop bound off by one",
        _last_lost,
    ),
    _row(
        "normalization_epsilon",
        "epsilon is ten times too large",
        "LayerNormalization, RMSNormalization, InstanceNormalization, GroupNormalization",
        "a default in place of the model's value",
        _epsilon,
    ),
    _row(
        "exp_bf16",
        "results have the precision of bfloat16",
        "Exp, Log, Sqrt, Reciprocal, float32",
        "special-function units of 8 bits",
        _coarse("Exp", "Log", "Sqrt", "Reciprocal"),
    ),
    _row(
        "sigmoid_table",
        "a table of 256 entries is read one entry too high",
        "Sigmoid, Tanh",
        "a look-up index off by one",
        _table,
    ),
    _row(
        "round_ties_away",
        "ties round away from zero",
        "Round",
        "C's roundf",
        _round_away,
    ),
    _row(
        "int_div_floors",
        "integer quotients round down instead of toward zero",
        "Div on signed integers",
        "Python's // for C's /",
        _div_floors,
    ),
    _row(
        "gather_negative_index",
        "negative indices read the first element",
        "Gather, GatherND, GatherElements",
        "indices clamped to the valid range",
        _index_clamped,
    ),
    _row(
        "embedding_nibble_order",
        "the two codes of each byte are swapped",
        "SparseLengthsSumFused of 4 bits",
        "high nibble first",
        _nibbles_swapped,
    ),
    _row(
        "embedding_weight_order",
        "each row gets the weight of the row before",
        "SparseLengthsSum and SparseLengthsSumFused with weights",
        "an index off by one",
        _last_lookup,
    ),
)
