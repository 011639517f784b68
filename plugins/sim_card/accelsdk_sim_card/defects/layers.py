"""Defects of composites: normalisation, softmax, attention, recurrent layers, Gemm."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from accelsdk.formats import BFLOAT16
from accelsdk.graph.graph import Node
from accelsdk.kernels.kernel import Kernel, axis_of, integer, real
from accelsdk_sim_card.defects.defect import (
    Array,
    Bind,
    Defect,
    Tamper,
    always,
    before,
    floats,
    halves,
    is_op,
    misread,
    operands,
    results,
    rows,
    singles,
    with_attributes,
)
from accelsdk_sim_card.defects.tampering import rolled

if TYPE_CHECKING:
    from accelsdk_sim_card.arithmetic import Arithmetic


def _exp_coarse(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """Powers and their sum are kept in bfloat16."""
    if not is_op(node, "Softmax") or not singles(node):
        return None
    axis = axis_of(node)

    def coarse(x: Array) -> tuple[Array, ...]:
        powers = np.exp(x - x.max(axis=axis, keepdims=True)).astype(BFLOAT16.dtype)
        wide = powers.astype(np.float32)
        return (wide / wide.sum(axis=axis, keepdims=True),)

    return coarse


def _uniform(y: Array, node: Node) -> Array:
    lost = np.isnan(y)
    return np.where(lost, y.dtype.type(1 / max(y.shape[axis_of(node)], 1)), y)


def _log_of_softmax(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """log(softmax(x)): what underflows becomes -Inf."""
    if not is_op(node, "LogSoftmax"):
        return None
    axis, dtype = axis_of(node), node.result.format.dtype

    def plain(x: Array) -> tuple[Array, ...]:
        wide = x.astype(np.float32)
        powers = np.exp(wide - wide.max(axis=axis, keepdims=True))
        share = (powers / powers.sum(axis=axis, keepdims=True)).astype(dtype)
        return (np.log(share.astype(np.float32)).astype(dtype),)

    return plain


def _other_axis(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    value = node.operand(0)
    if not is_op(node, "Softmax", "LogSoftmax") or value is None or len(value.shape) < 2:
        return None
    if axis_of(node) == len(value.shape) - 1:
        return None
    return arithmetic.sound(with_attributes(node, axis=-1))


def _rows_by(variance: Callable[[Array, Array], Array]) -> Bind:
    """Returns the binding of LayerNormalization with another variance of its rows."""

    def bind(node: Node, arithmetic: Arithmetic) -> Kernel | None:
        if not is_op(node, "LayerNormalization") or axis_of(node) != len(node.result.shape) - 1:
            return None
        epsilon, dtype = real(node, "epsilon"), node.result.format.dtype

        def normalise(x: Array, scale: Array, bias: Array | None = None) -> tuple[Array, ...]:
            wide = x.astype(np.float32)
            mean = wide.mean(axis=-1, keepdims=True)
            unit = (wide - mean) / np.sqrt(variance(wide, mean) + np.float32(epsilon))
            y = unit * scale.astype(np.float32)
            return ((y if bias is None else y + bias.astype(np.float32)).astype(dtype),)

        return normalise

    return bind


def _sample_variance(x: Array, mean: Array) -> Array:
    total = ((x - mean) ** 2).sum(axis=-1, keepdims=True)
    return np.asarray(total / max(x.shape[-1] - 1, 1))


def _centred(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    if not is_op(node, "RMSNormalization"):
        return None

    def centre(found: list[Array | None]) -> None:
        x = found[0]
        if x is not None:
            wide = x.astype(np.float32)
            found[0] = (wide - wide.mean(axis=-1, keepdims=True)).astype(x.dtype)

    return before(arithmetic.sound(node), centre)


def _of_first_row(found: list[Any], node: Node) -> None:
    """Gives all rows the scale of the first one."""
    axes = len(node.result.shape) - axis_of(node)
    if found[1].ndim > axes:
        found[1] = found[1][(slice(0, 1),) * (found[1].ndim - axes)]


def _causal_late(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """The mask is one key short: a row sees its successor."""
    if not is_op(node, "Attention") or not integer(node, "is_causal") or node.operand(3):
        return None
    q, k = node.operand(0), node.operand(1)
    if q is None or k is None:
        return None
    free = arithmetic.sound(with_attributes(node, is_causal=0))
    strict = arithmetic.sound(node)

    def broken(q_: Array, k_: Array, v_: Array, *rest: Array | None) -> tuple[Array, ...]:
        (y,) = strict(q_, k_, v_, *rest)
        (all_seen,) = free(q_, k_, v_, *rest)
        y = y.copy()
        y[..., -1, :] = all_seen[..., -1, :]
        return (y,)

    return broken


def _blind_rows(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """A row that sees nothing takes the mean of all values."""
    if not is_op(node, "Attention") or node.operand(3) is None:
        return None
    kernel = arithmetic.sound(node)

    def broken(q: Array, k: Array, v: Array, mask: Array) -> tuple[Array, ...]:
        (y,) = kernel(q, k, v, mask)
        if mask.dtype != bool:
            return (y,)
        blind = ~mask.any(axis=-1, keepdims=True)
        mean = v.astype(np.float32).mean(axis=-2, keepdims=True).astype(y.dtype)
        return (np.where(blind, mean, y),)

    return broken


def _gates_swapped(first: int, second: int) -> Tamper:
    def change(found: list[Any], node: Node) -> None:
        hidden = integer(node, "hidden_size")
        for index in (1, 2):
            w = found[index].copy()
            one = slice(first * hidden, (first + 1) * hidden)
            two = slice(second * hidden, (second + 1) * hidden)
            w[:, one], w[:, two] = found[index][:, two], found[index][:, one]
            found[index] = w

    return change


def _recurrent_bias(found: list[Any], node: Node) -> None:
    if len(found) > 3 and found[3] is not None:
        b = found[3].copy()
        b[:, b.shape[1] // 2 :] = 0
        found[3] = b


def _epilogue(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """The product is rounded to the output format before C is added."""
    if not is_op(node, "Gemm") or not halves(node) or node.operand(2) is None:
        return None
    bare = arithmetic.sound(with_attributes(node, beta=0.0))
    beta = real(node, "beta")

    def rounded(a: Array, b: Array, c: Array) -> tuple[Array, ...]:
        (y,) = bare(a, b, c)
        return ((y + (c.astype(np.float32) * beta).astype(y.dtype)).astype(y.dtype),)

    return rounded


def _bias_after(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """As `_epilogue`, of a convolution."""
    if not is_op(node, "Conv") or not halves(node) or node.operand(2) is None:
        return None
    kernel = arithmetic.sound(node)

    def rounded(x: Array, w: Array, bias: Array) -> tuple[Array, ...]:
        (y,) = kernel(x, w, None)
        return ((y + bias.reshape(-1, *(1,) * (y.ndim - 2))).astype(y.dtype),)

    return rounded


def _c_as_row(found: list[Any], node: Node) -> None:
    found[2] = np.full(found[2].shape, found[2].reshape(-1)[0])


def _has_column(node: Node) -> bool:
    c = node.operand(2)
    return c is not None and len(c.shape) == 2 and c.shape[1] == 1 and c.shape[0] > 1


_row = rows("")

DEFECTS: tuple[Defect, ...] = (
    _row(
        "softmax_coarse",
        "powers are kept in bfloat16",
        "Softmax on float32",
        "a special-function unit of 8 bits",
        _exp_coarse,
    ),
    _row(
        "softmax_nan_uniform",
        "a row with NaN becomes the uniform distribution",
        "Softmax",
        "a guard against division by zero",
        results(_uniform, floats, "Softmax"),
    ),
    _row(
        "softmax_last_axis",
        "the last axis is taken, whatever the model says",
        "Softmax, LogSoftmax",
        "an attribute that is not read",
        _other_axis,
    ),
    _row(
        "logsoftmax_of_softmax",
        "log(softmax(x)) is computed, which underflows",
        "LogSoftmax",
        "two kernels in place of one",
        _log_of_softmax,
    ),
    _row(
        "layer_norm_sample",
        "the variance is divided by n - 1",
        "LayerNormalization",
        "Bessel's correction",
        _rows_by(_sample_variance),
    ),
    _row(
        "layer_norm_bias",
        "the bias is ignored",
        "LayerNormalization",
        "an optional operand that is not read",
        operands(
            lambda found, node: found.__setitem__(2, None),
            lambda node: node.operand(2) is not None,
            "LayerNormalization",
        ),
    ),
    _row(
        "norm_scale_of_first_row",
        "a scale with axes before the normalised ones is that of the first row",
        "LayerNormalization, RMSNormalization",
        "a scale held as one row, although it need only broadcast",
        operands(_of_first_row, always, "LayerNormalization", "RMSNormalization"),
    ),
    _row(
        "rms_norm_centres",
        "the mean is subtracted",
        "RMSNormalization",
        "LayerNormalization's kernel",
        _centred,
    ),
    _row(
        "norm_without_epsilon",
        "epsilon is ignored",
        "BatchNormalization, InstanceNormalization, RMSNormalization",
        "an attribute that is not read",
        misread("BatchNormalization", "InstanceNormalization", "RMSNormalization", epsilon=0.0),
    ),
    _row(
        "batch_norm_channel",
        "each channel has its neighbour's scale",
        "BatchNormalization",
        "an index off by one",
        operands(rolled(1), always, "BatchNormalization"),
    ),
    _row(
        "group_norm_groups",
        "every channel is a group of its own",
        "GroupNormalization",
        "InstanceNormalization's kernel",
        lambda node, arithmetic: (
            arithmetic.sound(with_attributes(node, num_groups=node.result.shape[1]))
            if is_op(node, "GroupNormalization")
            else None
        ),
    ),
    _row(
        "attention_scale",
        "scores are not scaled",
        "Attention",
        "a factor folded into weights that were not changed",
        misread("Attention", scale=1.0),
    ),
    _row(
        "attention_causal_late",
        "the last row sees all keys",
        "Attention, causal",
        "a mask that is one tile short",
        _causal_late,
    ),
    _row(
        "attention_blind_rows",
        "a row that sees nothing takes the mean of all values",
        "Attention with a mask",
        "-1e9 in place of -Inf",
        _blind_rows,
    ),
    _row(
        "lstm_gate_order",
        "the forget and cell gates are swapped",
        "LSTM",
        "weights in the order of another framework",
        operands(_gates_swapped(2, 3), always, "LSTM"),
    ),
    _row(
        "gru_gate_order",
        "the update and reset gates are swapped",
        "GRU",
        "weights in the order of another framework",
        operands(_gates_swapped(0, 1), always, "GRU"),
    ),
    _row(
        "gru_reset_order",
        "the reset gate is applied before the product, whatever the model says",
        "GRU",
        "an attribute that is not read",
        misread("GRU", linear_before_reset=0),
    ),
    _row(
        "recurrent_bias",
        "the bias of the recurrent part is ignored",
        "LSTM, GRU, RNN",
        "one bias vector where there are two",
        operands(_recurrent_bias, always, "LSTM", "GRU", "RNN"),
    ),
    _row(
        "recurrent_forward",
        "sequences run forward although they should run backward",
        "LSTM, GRU, RNN, reverse",
        "an attribute that is not read",
        misread(
            *("LSTM", "GRU", "RNN"),
            when=lambda node: node.attributes.get("direction") == "reverse",
            direction="forward",
        ),
    ),
    _row(
        "gemm_alpha",
        "alpha is ignored",
        "Gemm",
        "an attribute that is not read",
        misread("Gemm", alpha=1.0),
    ),
    _row(
        "gemm_beta",
        "beta is ignored",
        "Gemm",
        "an attribute that is not read",
        misread("Gemm", beta=1.0),
    ),
    _row(
        "gemm_column",
        "a column C is read as if it were one number",
        "Gemm",
        "a broadcast that is not supported",
        operands(_c_as_row, _has_column, "Gemm"),
    ),
    _row(
        "epilogue_rounds",
        "the product is rounded to the output format before C is added",
        "Gemm on float16 and bfloat16",
        "an epilogue in its own kernel",
        _epilogue,
    ),
    _row(
        "bias_after_rounding",
        "the sum is rounded to the output format before the bias is added",
        "Conv on float16 and bfloat16",
        "an epilogue in its own kernel",
        _bias_after,
    ),
)
