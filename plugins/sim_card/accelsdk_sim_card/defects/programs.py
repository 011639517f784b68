"""Defects of what a compiler makes of a program: constants packed ahead, nodes fused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from accelsdk.formats import BFLOAT16
from accelsdk.graph.graph import Node
from accelsdk.kernels.kernel import Kernel
from accelsdk_sim_card.defects.defect import Array, Bind, Defect, before, is_op, rows

if TYPE_CHECKING:
    from accelsdk_sim_card.arithmetic import Arithmetic

_SUMS = ("MatMul", "ScaledMatMul", "Gemm", "Conv", "ConvTranspose", "MatMulInteger", "ConvInteger")
_GATHERED = ("Gather", "GatherElements", "GatherND")
_SCATTERED = ("ScatterElements", "ScatterND")
_NAMES = ", ".join(_SUMS)
_FLOW = ("Add", "Sub", "Mul")
_FLOWS = ", ".join(_FLOW)
_VECTOR = ("Add", "Sub", "Mul", "Div", "Max", "Min", "PRelu")


def _is_constant(array: Array | None) -> bool:
    """Whether an operand lies in the memory of constants, which nobody may write to."""
    return array is not None and not array.flags.writeable


def _packed(change: Callable[[Array], Array], index: int, *ops: str) -> Bind:
    """Returns the binding of ops for which one operand is changed where it is constant."""

    def bind(node: Node, arithmetic: Arithmetic) -> Kernel | None:
        if (ops and not is_op(node, *ops)) or node.operand(index) is None:
            return None

        def tamper(found: list[Array | None]) -> None:
            given = found[index]
            if given is not None and _is_constant(given):
                found[index] = np.asarray(change(np.array(given)))

        return before(arithmetic.sound(node), tamper)

    return bind


def _last_lost(x: Array) -> Array:
    x[..., -1:] = 0
    return x


def _last_row_lost(x: Array) -> Array:
    x[-1:] = 0
    return x


def _through_bfloat16(x: Array) -> Array:
    return x.astype(BFLOAT16.dtype).astype(x.dtype) if x.dtype == np.float32 else x


def _first_everywhere(x: Array) -> Array:
    return np.broadcast_to(x.reshape(-1)[:1], x.shape) if x.size else x


def _zero_points(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """Constant zero points are taken for zeros."""
    first = {"MatMulInteger": 2, "ConvInteger": 2, "Quantize": 2, "Dequantize": 2}.get(node.op)
    if not is_op(node, "MatMulInteger", "ConvInteger", "Quantize", "Dequantize") or first is None:
        return None

    def tamper(found: list[Array | None]) -> None:
        for index, given in enumerate(found):
            if index >= first and given is not None and _is_constant(given):
                found[index] = np.zeros_like(given)

    return before(arithmetic.sound(node), tamper)


def _behind(heads: Sequence[str], ops: Sequence[str], change: Callable[..., Array]) -> Bind:
    """Returns the binding of ops whose results are wrong where they read those of others.

    Args:
        heads: The others.
        ops: The ops behind them.
        change: Called with the right result and the operands; returns the wrong result.
    """

    def bind(node: Node, arithmetic: Arithmetic) -> Kernel | None:
        kernel, kept = arithmetic.sound(node), arithmetic.residue

        def head(*given: Array | None) -> tuple[Array, ...]:
            results = kernel(*given)
            kept["head"] = results[0]
            return results

        def fused(*given: Array | None) -> tuple[Array, ...]:
            first, *rest = kernel(*given)
            if given[0] is kept.get("head"):
                first = np.asarray(change(np.array(first), *given))
            return (first, *rest)

        if is_op(node, *heads):
            return head
        return fused if is_op(node, *ops) else None

    return bind


def _behind_a_sum(op: str, change: Callable[..., Array]) -> Bind:
    return _behind(_SUMS, (op,), change)


def _without_nan(y: Array, x: Array) -> Array:
    y[np.isnan(x)] = 0
    return y


def _wrapped(y: Array, x: Array, scale: Array, zero: Array) -> Array:
    return np.asarray(np.rint(x.astype(np.float64) / scale) + zero).astype(np.int64).astype(y.dtype)


def _clamped(y: Array, steps: Array, zero: Array | int) -> Array:
    """Returns steps as codes of the format of a result."""
    limits = np.iinfo(y.dtype)
    codes = np.clip(steps + np.asarray(zero, np.int64), limits.min, limits.max)
    return np.asarray(codes.astype(y.dtype))


def _truncated(y: Array, x: Array) -> Array:
    """Returns floats one step nearer to zero where they were rounded away from it."""
    codes = y.view(f"u{y.dtype.itemsize}")
    away = np.abs(y.astype(np.float64)) > np.abs(x.astype(np.float64))
    return np.asarray((codes - away.astype(codes.dtype)).view(y.dtype))


def _between_narrowed(y: Array, x: Array, *bounds: Array) -> Array:
    low, high = map(_through_bfloat16, bounds)
    return np.asarray(np.clip(x, low, high))


_row = rows("")
DEFECTS: tuple[Defect, ...] = (
    _row(
        "constant_column_lost",
        "the last column of constant weights is not packed",
        "MatMul, ScaledMatMul, Gemm, MatMulInteger",
        "packing of weights off the tile",
        _packed(_last_lost, 1, "MatMul", "ScaledMatMul", "Gemm", "MatMulInteger"),
    ),
    _row(
        "constant_filter_lost",
        "the last filter of constant weights is not packed",
        "Conv, ConvInteger, ConvTranspose",
        "packing of weights off the tile",
        _packed(_last_row_lost, 1, "Conv", "ConvInteger", "ConvTranspose"),
    ),
    _row(
        "constant_left_lost",
        "the last row of a constant first factor is not packed",
        "MatMul, ScaledMatMul, Gemm, MatMulInteger",
        "only the other side is ever packed in tests",
        _packed(_last_row_lost, 0, "MatMul", "ScaledMatMul", "Gemm", "MatMulInteger"),
    ),
    _row(
        "constant_bias_narrowed",
        "a constant bias in float32 is kept in bfloat16",
        "Conv, ConvTranspose, Gemm",
        "biases in the format of the other operands",
        _packed(_through_bfloat16, 2, "Conv", "ConvTranspose", "Gemm"),
    ),
    _row(
        "constant_scalar",
        "a constant second operand is read as a scalar",
        ", ".join(_VECTOR),
        "immediate operands",
        _packed(_first_everywhere, 1, *_VECTOR),
    ),
    _row(
        "constant_table_cut",
        "the last row of a constant table is not placed",
        ", ".join(_GATHERED),
        "tables in another memory",
        _packed(_last_row_lost, 0, *_GATHERED),
    ),
    _row(
        "constant_index_negative",
        "negative constant indices are taken for 0",
        ", ".join((*_GATHERED, *_SCATTERED)),
        "addresses computed ahead",
        _packed(lambda x: np.maximum(x, 0), 1, *_GATHERED, *_SCATTERED),
    ),
    _row(
        "constant_zero_point",
        "constant zero points are taken for zeros",
        "MatMulInteger, ConvInteger, Quantize, Dequantize",
        "a zero point that should have been folded into the bias",
        _zero_points,
    ),
    _row(
        "constant_scale_narrowed",
        "constant scales in float32 are kept in bfloat16",
        "Quantize, Dequantize",
        "scales in the format of the results",
        _packed(_through_bfloat16, 1, "Quantize", "Dequantize"),
    ),
    _row(
        "constant_recurrence_lost",
        "the last gate of constant recurrent weights is not packed",
        "LSTM, GRU, RNN",
        "gates packed four by four",
        _packed(_last_lost, 2, "LSTM", "GRU", "RNN"),
    ),
    _row(
        "fused_relu_nan",
        "Relu behind a sum makes 0 of NaN",
        f"{_NAMES} with Relu behind it",
        "an epilogue made of max(0, x)",
        _behind_a_sum("Relu", _without_nan),
    ),
    _row(
        "fused_clip_zero",
        "Clip behind a sum has the lower bound 0",
        f"{_NAMES} with Clip behind it",
        "an epilogue that knows Relu6 alone",
        _behind_a_sum("Clip", lambda y, *given: np.maximum(y, 0)),
    ),
    _row(
        "fused_clip_narrowed",
        "bounds of Clip behind a sum are kept in bfloat16",
        f"{_NAMES} with Clip behind it",
        "immediate operands of 16 bits",
        _behind_a_sum("Clip", _between_narrowed),
    ),
    _row(
        "fused_addend_tail",
        "the last row of an addend behind a sum is not added",
        f"{_NAMES} with Add behind it",
        "an epilogue off the tile",
        _behind_a_sum("Add", lambda y, x, *given: np.concatenate([y[:-1], x[-1:]])),
    ),
    _row(
        "fused_scale_lost",
        "a factor behind a sum is left out",
        f"{_NAMES} with Mul behind it",
        "a scale that should have been folded into the weights",
        _behind_a_sum("Mul", lambda y, x, *given: x),
    ),
    _row(
        "fused_quantise_wraps",
        "Quantize behind a sum wraps instead of saturating",
        f"{_NAMES} with Quantize behind it",
        "an epilogue that keeps the low byte",
        _behind_a_sum("Quantize", _wrapped),
    ),
    _row(
        "fused_quantise_zero_point",
        "the zero point of Quantize behind a sum is left out",
        f"{_NAMES} with Quantize behind it",
        "an epilogue for symmetric codes alone",
        _behind_a_sum("Quantize", lambda y, x, scale, *zero: _clamped(y, np.rint(x / scale), 0)),
    ),
    _row(
        "fused_quantise_half",
        "the scale of Quantize behind a sum is halved",
        f"{_NAMES} with Quantize behind it",
        "a shift that is off by one",
        _behind_a_sum(
            "Quantize", lambda y, x, scale, zero=0: _clamped(y, np.rint(x / scale * 2), zero)
        ),
    ),
    _row(
        "fused_quantise_ties",
        "Quantize behind a sum rounds ties up",
        f"{_NAMES} with Quantize behind it",
        "a half that is added before bits are dropped",
        _behind_a_sum(
            "Quantize", lambda y, x, scale, zero=0: _clamped(y, np.floor(x / scale + 0.5), zero)
        ),
    ),
    _row(
        "fused_order",
        "Transpose behind a sum stores the sum as it is",
        f"{_NAMES} with Transpose behind it",
        "an order of storing that is ignored where both have as many elements",
        _behind_a_sum("Transpose", lambda y, x: x.reshape(y.shape)),
    ),
    _row(
        "fused_cast_saturates",
        "a conversion behind a sum makes 17 of all that is larger",
        f"{_NAMES} with Cast behind it",
        "an epilogue with a bound left over from a Clip",
        _behind_a_sum("Cast", lambda y, *given: np.minimum(y, y.dtype.type(17))),
    ),
    _row(
        "fused_cast_truncates",
        "a conversion behind a sum drops the bits that do not fit",
        f"{_NAMES} with Cast behind it",
        "the upper half of an accumulator that is stored as it is",
        _behind_a_sum("Cast", _truncated),
    ),
    _row(
        "fused_neg_zero",
        "Neg is 0 - x behind a node that adds or multiplies",
        f"{_FLOWS} with Neg behind it",
        "a negation that is folded into a subtraction",
        _behind(_FLOW, ("Neg",), lambda y, x: 0 - x),
    ),
    _row(
        "fused_abs_zero",
        "Abs keeps -0 behind a node that adds or multiplies",
        f"{_FLOWS} with Abs behind it",
        "the larger of x and -x",
        _behind(_FLOW, ("Abs",), lambda y, x: np.asarray(np.where(x == 0, x, y))),
    ),
    _row(
        "fused_move_zero",
        "moving the result of a node that adds or multiplies makes +0 of -0",
        f"{_FLOWS} with Transpose or Reshape behind it",
        "a move made by adding 0",
        _behind(_FLOW, ("Transpose", "Reshape"), lambda y, x: y + y.dtype.type(0)),
    ),
)
