"""Defects of elementwise functions: special cases, signs, ranges, defaults."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from accelsdk.formats import INT64, UINT8
from accelsdk.graph.graph import Node
from accelsdk.graph.types import Value
from accelsdk_sim_card.defects.defect import (
    Array,
    Defect,
    always,
    computed,
    flipped,
    floats,
    fmt_of,
    misread,
    of_format,
    operands,
    results,
    rows,
    singles,
)
from accelsdk_sim_card.defects.tampering import clamped, flush_operands

_COMPARISONS = ("Less", "LessOrEqual", "Greater", "GreaterOrEqual")
_PLAIN = ("Add", "Sub", "Mul", "Neg", "Abs", "Relu", "Max", "Min")


def _integers(node: Node) -> bool:
    fmt = fmt_of(node)
    return fmt is not None and fmt.is_integer


def _narrow_integers(node: Node) -> bool:
    fmt = fmt_of(node)
    return fmt is not None and fmt.is_integer and fmt.bits == 8


def _wide(x: Array) -> Array:
    return x.astype(np.float64)


def _saturating_add(a: Array, b: Array) -> Array:
    info = np.iinfo(a.dtype)
    return np.clip(a.astype(np.int64) + b.astype(np.int64), info.min, info.max)


def _without_carry(a: Array, b: Array) -> Array:
    low = np.uint64(0xFFFFFFFF)
    left, right = a.view(np.uint64), b.view(np.uint64)
    high = ((left >> np.uint64(32)) + (right >> np.uint64(32))) << np.uint64(32)
    return (high | ((left + right) & low)).view(np.int64)


def _lane_15(y: Array, node: Node) -> Array:
    flat = y.reshape(-1)
    flat[15::16] = flipped(flat[15::16])
    return flat.reshape(y.shape)


def _coarse_divide(a: Array, b: Array) -> Array:
    return a * (np.float32(1) / b)


def _coarse_root(y: Array, node: Node) -> Array:
    codes = y.view(np.uint32)
    codes[(y > 0) & np.isfinite(y) & (codes & np.uint32(3) == 3)] += np.uint32(1)
    return y


def _power(x: Array, y: Array) -> Array:
    return np.asarray(np.exp(_wide(y) * np.log(_wide(x))))


def _floored_remainder(a: Array, b: Array) -> Array:
    return np.asarray(np.mod(_wide(a), _wide(b)))


def _truncated_remainder(a: Array, b: Array) -> Array:
    safe = np.where(b == 0, 1, b)
    return np.where(b == 0, 0, a - (np.fmod(a, safe) * 0 + _quotient(a, safe)) * safe)


def _quotient(a: Array, b: Array) -> Array:
    floor = a // b
    return np.where((floor < 0) & (floor * b != a), floor + 1, floor)


def _no_reduction(found: list[Any], node: Node) -> None:
    """Folds into one period with a float32 value of two pi."""
    x = found[0]
    turn = np.float32(6.2831855)
    found[0] = np.where(np.isfinite(x), x - turn * np.rint(x / turn), x)


def _nan_to_zero(y: Array, node: Node) -> Array:
    return np.where(np.isnan(y), y.dtype.type(0), y)


def _swapped_condition(found: list[Any], node: Node) -> None:
    condition = np.array(found[0]).reshape(-1)
    condition[-1:] = ~condition[-1:]
    found[0] = condition.reshape(found[0].shape)


def _clip_fills(x: Array, low: Array | None = None, high: Array | None = None) -> Array:
    """Fmin and fmax drop NaN."""
    y = x if low is None else np.fmax(x, low)
    return np.asarray(y if high is None else np.fmin(y, high))


def _greater(x: Array, y: Array) -> Array:
    return np.where(x > y, x, y)


def _bounded(node: Node) -> bool:
    return floats(node) and len(node.inputs) > 1 and any(v is not None for v in node.inputs[1:])


def _is_wide_integer(node: Node) -> bool:
    return fmt_of(node) is INT64 and _same_shapes(node)


def _same_shapes(node: Node) -> bool:
    a, b = node.operand(0), node.operand(1)
    return a is not None and b is not None and a.shape == b.shape


def _broadcasts(node: Node) -> bool:
    first, second = node.operand(0), node.operand(1)
    if first is None or second is None:
        return False
    return min(_span(first), _span(second)) > 1 and first.shape != second.shape


def _span(value: Value) -> int:
    return value.type.count


def _rolled_operand(found: list[Any], node: Node) -> None:
    small = 0 if found[0].size < found[1].size else 1
    found[small] = np.roll(found[small].reshape(-1), 1).reshape(found[small].shape)


def _as_signed(found: list[Any], node: Node) -> None:
    found[:2] = [x ^ np.uint8(0x80) for x in found[:2]]


def _unordered(op: str) -> Callable[[Array, Array], Array]:
    """A comparison made by negating its opposite: true wherever a NaN is."""
    opposite = {"LessOrEqual": np.greater, "GreaterOrEqual": np.less}[op]
    return lambda a, b: ~opposite(a, b)


def _same_bits(a: Array, b: Array) -> Array:
    kind = f"u{a.dtype.itemsize}"
    left, right = np.ascontiguousarray(a).view(kind), np.ascontiguousarray(b).view(kind)
    return np.asarray(left == right)


_row = rows("")

DEFECTS: tuple[Defect, ...] = (
    _row(
        "vector_lane_15",
        "one bit of every sixteenth element is wrong",
        ", ".join(_PLAIN),
        "one broken lane of a vector unit",
        results(_lane_15, always, *_PLAIN),
    ),
    _row(
        "divide_by_reciprocal",
        "x * (1 / y) is computed instead of x / y",
        "Div on float32",
        "fast-math",
        computed(_coarse_divide, singles, "Div"),
    ),
    _row(
        "root_one_ulp",
        "a quarter of the roots are one unit in the last place too large",
        "Sqrt on float32",
        "torch.sqrt before its correction step",
        results(_coarse_root, singles, "Sqrt"),
    ),
    _row(
        "negate_by_subtraction",
        "0 - x is computed, so that zero keeps its sign",
        "Neg on floats",
        "a subtractor in place of a sign flip",
        computed(lambda x: x.dtype.type(0) - x, floats, "Neg"),
    ),
    _row(
        "relu_nan_zero",
        "NaN becomes zero",
        "Relu on floats",
        "max(x, 0) that drops NaN",
        results(_nan_to_zero, floats, "Relu"),
    ),
    _row(
        "clip_drops_nan",
        "NaN becomes a bound",
        "Clip on floats",
        "fmin and fmax",
        computed(_clip_fills, _bounded, "Clip"),
    ),
    _row(
        "max_first_if_greater",
        "x > y ? x : y, so that a NaN on the left is lost",
        "Max on floats",
        "vmaxps keeps its second operand",
        computed(_greater, floats, "Max"),
    ),
    _row(
        "floor_truncates",
        "negative numbers are rounded toward zero",
        "Floor",
        "a cast to an integer and back",
        computed(np.trunc, floats, "Floor"),
    ),
    _row(
        "ceil_truncates",
        "positive numbers are rounded toward zero",
        "Ceil",
        "a cast to an integer and back",
        computed(np.trunc, floats, "Ceil"),
    ),
    _row(
        "round_beyond_int32",
        "numbers beyond 2**31 are clamped",
        "Round, Floor, Ceil on float32",
        "a detour through int32",
        results(lambda y, node: np.clip(y, -(2.0**31), 2.0**31), singles, "Round", "Floor", "Ceil"),
    ),
    _row(
        "fmod_floors",
        "the remainder has the sign of the divisor",
        "Mod on floats",
        "Python's % for C's fmod",
        computed(_floored_remainder, floats, "Mod"),
    ),
    _row(
        "mod_truncates",
        "the remainder has the sign of the dividend",
        "Mod on integers",
        "C's % for Python's",
        computed(_truncated_remainder, _integers, "Mod"),
    ),
    _row(
        "power_by_logarithm",
        "exp(y * log(x)), which is NaN for negative x",
        "Pow",
        "a power without its special cases",
        computed(_power, floats, "Pow"),
    ),
    _row(
        "exp_range",
        "arguments are clamped to +-80",
        "Exp on float32",
        "a table that ends early",
        operands(clamped(-80, 80), singles, "Exp"),
    ),
    _row(
        "log_of_subnormals",
        "subnormal arguments are taken for zero",
        "Log on float32",
        "flush-to-zero inputs",
        operands(flush_operands, singles, "Log"),
    ),
    _row(
        "sine_of_large",
        "arguments are folded with two pi in float32",
        "Sin, Cos on float32",
        "one-step range reduction",
        operands(_no_reduction, singles, "Sin", "Cos"),
    ),
    _row(
        "tanh_saturates",
        "arguments are clamped to +-4",
        "Tanh",
        "a table that ends early",
        operands(clamped(-4, 4), floats, "Tanh"),
    ),
    _row(
        "sigmoid_saturates",
        "arguments are clamped to +-8",
        "Sigmoid",
        "a table that ends early",
        operands(clamped(-8, 8), floats, "Sigmoid"),
    ),
    _row(
        "gelu_tanh",
        "the approximation by tanh is used although it was not asked for",
        "Gelu",
        "one kernel for both",
        misread("Gelu", approximate="tanh"),
    ),
    _row(
        "leaky_default",
        "the slope is the default, whatever the model says",
        "LeakyRelu",
        "an attribute that is not read",
        misread("LeakyRelu", alpha=0.01),
    ),
    _row(
        "elu_default",
        "alpha is 1, whatever the model says",
        "Elu",
        "an attribute that is not read",
        misread("Elu", alpha=1.0),
    ),
    _row(
        "celu_default",
        "alpha is 1, whatever the model says",
        "Celu",
        "an attribute that is not read",
        misread("Celu", alpha=1.0),
    ),
    _row(
        "threshold_inclusive",
        "the threshold is 1, whatever the model says",
        "ThresholdedRelu",
        "an attribute that is not read",
        misread("ThresholdedRelu", alpha=1.0),
    ),
    _row(
        "hard_sigmoid_default",
        "the slope is 0.2, whatever the model says",
        "HardSigmoid",
        "an attribute that is not read",
        misread("HardSigmoid", alpha=0.2),
    ),
    _row(
        "isinf_positive_only",
        "negative infinity is not found",
        "IsInf",
        "a comparison with +Inf",
        misread("IsInf", detect_negative=0),
    ),
    _row(
        "isnan_never",
        "x != x is folded to false",
        "IsNaN",
        "fast-math",
        computed(lambda x: np.zeros(x.shape, bool), always, "IsNaN"),
    ),
    _row(
        "less_equal_unordered",
        "NaN is less than or equal to everything",
        "LessOrEqual",
        "not (x > y)",
        computed(_unordered("LessOrEqual"), floats, "LessOrEqual"),
    ),
    _row(
        "greater_equal_unordered",
        "NaN is greater than or equal to everything",
        "GreaterOrEqual",
        "not (x < y)",
        computed(_unordered("GreaterOrEqual"), floats, "GreaterOrEqual"),
    ),
    _row(
        "equal_bits",
        "bits are compared: 0 differs from -0, and NaN equals NaN",
        "Equal on floats",
        "an integer comparison",
        computed(_same_bits, lambda node: floats(node) and _same_shapes(node), "Equal"),
    ),
    _row(
        "compare_signed",
        "codes of 128 and above count as negative",
        f"{', '.join(_COMPARISONS)} on uint8",
        "a signed comparison",
        operands(_as_signed, of_format(UINT8), *_COMPARISONS),
    ),
    _row(
        "add_saturates",
        "sums out of range saturate instead of keeping their low bits",
        "Add on int8 and uint8",
        "a saturating adder",
        computed(_saturating_add, _narrow_integers, "Add"),
    ),
    _row(
        "carry_lost",
        "the carry between the 32-bit halves is lost",
        "Add on int64",
        "64-bit sums on 32-bit hardware",
        computed(_without_carry, _is_wide_integer, "Add"),
    ),
    _row(
        "broadcast_shifted",
        "the smaller operand is read one element further",
        "Add, Sub, Mul, Div",
        "a broadcast stride that is off by one",
        operands(_rolled_operand, _broadcasts, "Add", "Sub", "Mul", "Div"),
    ),
    _row(
        "alias_operands",
        "both operands are read from the first, where they are of one shape",
        "Sub, Mul, Div, Max, Min, Equal",
        "two descriptors that share a slot",
        operands(
            lambda found, node: found.__setitem__(1, found[0]),
            _same_shapes,
            *("Sub", "Mul", "Div", "Max", "Min", "Equal"),
        ),
    ),
    _row(
        "where_last",
        "the last condition is inverted",
        "Where",
        "a mask register that is one bit short",
        operands(_swapped_condition, lambda node: node.inputs[0] is not None, "Where"),
    ),
)
