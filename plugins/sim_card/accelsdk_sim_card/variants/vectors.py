"""Variants of the vector engine: other algorithms within the declared or default limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from accelsdk.backend.datasheet import FunctionSpec, NumericsDatasheet, ReduceSpec
from accelsdk.formats import FLOAT32
from accelsdk.graph.graph import Node
from accelsdk.kernels.kernel import Kernel, axes_of, axis_of, real
from accelsdk_sim_card.defects.defect import Array, Bind, after, fmt_of, is_op
from accelsdk_sim_card.variants.variant import Declare, Variant

if TYPE_CHECKING:
    from accelsdk_sim_card.arithmetic import Arithmetic


def _single(function: Callable[..., Array], *ops: str) -> Bind:
    """Returns the binding of float32 functions that are computed in another way."""

    def bind(node: Node, arithmetic: Arithmetic) -> Kernel | None:
        if not is_op(node, *ops) or fmt_of(node) is not FLOAT32:
            return None
        return lambda *given: (np.asarray(function(*given), np.float32),)

    return bind


def _after(change: Callable[[Array], Array], *ops: str) -> Bind:
    def bind(node: Node, arithmetic: Arithmetic) -> Kernel | None:
        if not is_op(node, *ops) or not node.result.format.is_float:
            return None
        return after(arithmetic.plain(node), change)

    return bind


def _step_up(y: Array) -> Array:
    """One unit in the last place beside the nearest, where the bits say so."""
    codes = np.array(y).view(np.uint32)
    move = (codes & np.uint32(1) == 1) & np.isfinite(y) & (np.abs(y) > 1e-30) & (np.abs(y) < 1e30)
    return np.asarray((codes + move.astype(np.uint32)).view(np.float32).reshape(y.shape))


def _off_by_one(*ops: str) -> Bind:
    def bind(node: Node, arithmetic: Arithmetic) -> Kernel | None:
        if not is_op(node, *ops) or node.result.format is not FLOAT32:
            return None
        return after(arithmetic.plain(node), _step_up)

    return bind


def _negative_nan(y: Array) -> Array:
    return np.where(np.isnan(y), -np.abs(y), y).astype(y.dtype)


def _negative_zero(y: Array) -> Array:
    return np.where(y == 0, y.dtype.type(-0.0), y)


def _claim(ulp: float, *ops: str, subnormals: Literal["keep", "flush"] = "keep") -> Declare:
    """Returns the maker of a datasheet with an error limit for these functions."""

    def declare(sheet: NumericsDatasheet) -> NumericsDatasheet:
        spec = FunctionSpec(ulp=ulp, subnormals=subnormals)
        own = {(op, "float32"): spec for op in ops}
        return replace(sheet, functions={**sheet.functions, **own})

    return declare


def _reduce_spec(spec: ReduceSpec) -> Declare:
    return lambda sheet: replace(
        sheet, reductions={("*", name): spec for name in ("float16", "bfloat16", "float32")}
    )


def _sums(total: Callable[[Array], Array]) -> Bind:
    """Returns the binding of float32 sums over flattened axes, in another order."""

    def bind(node: Node, arithmetic: Arithmetic) -> Kernel | None:
        value = node.operand(0)
        if not is_op(node, "ReduceSum", "ReduceMean") or fmt_of(node) is not FLOAT32:
            return None
        if value is None or not value.type.count or not axes_of(node):
            return None
        axes, shape = axes_of(node), node.result.shape
        kept = [axis for axis in range(len(value.shape)) if axis not in axes]
        mean = is_op(node, "ReduceMean")

        def reduce(x: Array) -> tuple[Array, ...]:
            rows = x.transpose(*kept, *axes).reshape(*(x.shape[a] for a in kept), -1)
            y = total(np.ascontiguousarray(rows))
            y = y * np.float32(1 / rows.shape[-1]) if mean else y
            return (np.asarray(y, np.float32).reshape(shape),)

        return reduce

    return bind


def _in_order(rows: Array) -> Array:
    return np.asarray(np.add.accumulate(rows, axis=-1)[..., -1])


def _by_halves(rows: Array) -> Array:
    while rows.shape[-1] > 1:
        half = -(-rows.shape[-1] // 2)
        low, high = rows[..., :half], rows[..., half:]
        low = np.array(low)
        low[..., : high.shape[-1]] += high
        rows = low
    return rows[..., 0]


def _one_pass(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """The variance is the mean of squares less the square of the mean, in float64."""
    if not is_op(node, "LayerNormalization") or node.result.format is not FLOAT32:
        return None
    if axis_of(node) != len(node.result.shape) - 1 or len(node.outputs) > 1:
        return None
    epsilon = real(node, "epsilon")

    def normalise(x: Array, scale: Array, bias: Array | None = None) -> tuple[Array, ...]:
        wide = x.astype(np.float64)
        mean = wide.mean(axis=-1, keepdims=True)
        variance = np.maximum((wide * wide).mean(axis=-1, keepdims=True) - mean * mean, 0)
        y = ((wide - mean) / np.sqrt(variance + epsilon)).astype(np.float32) * scale
        return (np.asarray(y if bias is None else y + bias, np.float32),)

    return normalise


def _softmax_by_powers_of_two(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """exp(x) as 2**(x / ln 2), the product carried wide."""
    if not is_op(node, "Softmax") or fmt_of(node) is not FLOAT32:
        return None
    axis = axis_of(node)
    if not node.result.shape[axis]:
        return None  # there is no maximum

    def softmax(x: Array) -> tuple[Array, ...]:
        distance = (x - x.max(axis=axis, keepdims=True)).astype(np.float64)
        powers = np.exp2(distance / np.log(2.0)).astype(np.float32)
        share = np.float32(1) / powers.sum(axis=axis, keepdims=True)
        return (powers * share,)

    return softmax


def _sigmoid_by_tanh(x: Array) -> Array:
    wide = x.astype(np.float64)
    small = np.exp(np.minimum(wide, 0))
    by_tanh = np.tanh(wide / 2) / 2 + 0.5
    return np.where(wide < -4, small / (1 + small), by_tanh)


def _flush(y: Array) -> Array:
    tiny = np.abs(y) < np.float32(FLOAT32.smallest_normal)
    return np.where(tiny, np.copysign(np.float32(0), y), y)


def _flush_all(*ops: str) -> Bind:
    """Operands and results that are subnormal count as zero, in all lanes alike."""

    def bind(node: Node, arithmetic: Arithmetic) -> Kernel | None:
        if not is_op(node, *ops) or node.result.format is not FLOAT32:
            return None
        kernel = arithmetic.plain(node)
        return lambda *given: tuple(_flush(y) for y in kernel(*(_flush(x) for x in given)))

    return bind


def _divide(x: Array, y: Array) -> Array:
    """The reciprocal carries 32 bits: within 2.5 units where 1 / y is not subnormal."""
    with np.errstate(all="ignore"):
        wide = x.astype(np.float64) * (np.float64(1) / y.astype(np.float64))
        rounded = np.asarray(wide, np.float32)
        exact = np.asarray(x / y, np.float32)
    return np.where(np.isfinite(exact) & (np.abs(exact) > 1e-30), rounded, exact)


_TRANSCENDENTAL = ("Exp", "Log", "Sin", "Cos", "Tanh", "Erf")
_ARITHMETIC = ("Add", "Sub", "Mul", "Div")
_SIGNLESS = ("MatMul", "Gemm", "Conv", "ReduceSum")

VARIANTS: tuple[Variant, ...] = (
    Variant(
        "functions_3_ulp",
        "transcendental functions are one unit beside the nearest",
        "declared: 3 ulp",
        ", ".join(_TRANSCENDENTAL),
        bind=_off_by_one(*_TRANSCENDENTAL),
        declare=_claim(3.0, *_TRANSCENDENTAL),
    ),
    Variant(
        "functions_unclaimed",
        "transcendental functions are one unit beside the nearest",
        "within the default limits",
        ", ".join(_TRANSCENDENTAL),
        bind=_off_by_one(*_TRANSCENDENTAL),
    ),
    Variant(
        "divide_by_reciprocal",
        "x * (1 / y)",
        "declared: 2.5 ulp",
        "Div",
        bind=_single(_divide, "Div"),
        declare=_claim(2.5, "Div"),
    ),
    Variant(
        "arithmetic_flushes",
        "subnormal operands and results count as zero",
        "declared subnormals = flush",
        ", ".join(_ARITHMETIC),
        bind=_flush_all(*_ARITHMETIC),
        declare=_claim(0.5, *_ARITHMETIC, subnormals="flush"),
    ),
    Variant(
        "negative_nan",
        "every NaN has its sign set",
        "IEEE 754 6.2.1: sign and payload of NaN are free",
        "Add, Mul, Div, Sqrt, Log, MatMul, ScaledMatMul, Softmax",
        bind=_after(
            _negative_nan,
            *("Add", "Mul", "Div", "Sqrt", "Log", "MatMul", "ScaledMatMul", "Softmax"),
        ),
    ),
    Variant(
        "negative_zero_sums",
        "sums that are zero are -0",
        "the sign of an exact zero sum depends on the order",
        ", ".join(_SIGNLESS),
        bind=_after(_negative_zero, *_SIGNLESS),
    ),
    Variant(
        "sigmoid_by_tanh",
        "sigmoid(x) = tanh(x / 2) / 2 + 1/2",
        "within the default limit",
        "Sigmoid",
        bind=_single(_sigmoid_by_tanh, "Sigmoid"),
    ),
    Variant(
        "softmax_by_powers_of_two",
        "powers of two, and a product with the reciprocal of the sum",
        "within the error that the decomposition carries",
        "Softmax",
        bind=_softmax_by_powers_of_two,
    ),
    Variant(
        "reduce_in_order",
        "float32 sums from first to last; means by a reciprocal",
        "the order is unclaimed",
        "ReduceSum, ReduceMean",
        bind=_sums(_in_order),
    ),
    Variant(
        "reduce_by_halves",
        "float32 sums by halves; means by a reciprocal",
        "declared order = pairwise",
        "ReduceSum, ReduceMean",
        bind=_sums(_by_halves),
        declare=_reduce_spec(ReduceSpec(order="pairwise")),
    ),
    Variant(
        "norm_one_pass",
        "the variance is a difference of means, carried wide",
        "declared variance = one_pass",
        "LayerNormalization",
        bind=_one_pass,
        declare=_reduce_spec(ReduceSpec(variance="one_pass")),
    ),
)
