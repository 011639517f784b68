"""Defects of integer products, zero points, quantisation and requantisation."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from accelsdk.formats import INT8, UINT8
from accelsdk.graph.graph import Node
from accelsdk.kernels.kernel import Kernel, text
from accelsdk.numerics.affine import AffineRule, ZeroPoint
from accelsdk.numerics.requantize import fixed_multiply
from accelsdk.numerics.rounding import Rounding
from accelsdk_sim_card.defects.defect import (
    Array,
    Bind,
    Defect,
    before,
    fmt_of,
    is_op,
    operands,
    rows,
    shape_of,
    with_attributes,
)
from accelsdk_sim_card.defects.tampering import rolled
from accelsdk_sim_card.engines import convert, integer, requantize
from accelsdk_sim_card.engines.convert import AffineUnit
from accelsdk_sim_card.engines.integer import IntUnit
from accelsdk_sim_card.engines.requantize import RequantUnit

if TYPE_CHECKING:
    from accelsdk_sim_card.arithmetic import Arithmetic

_PRODUCTS = "MatMulInteger, ConvInteger"


# -- products --------------------------------------------------------------------------------


def _unit(unit: IntUnit, mixed_only: bool = False) -> Bind:
    """Returns the binding of an integer engine with other parameters."""

    def bind(node: Node, arithmetic: Arithmetic) -> Kernel | None:
        if mixed_only and {fmt_of(node), fmt_of(node, 1)} != {UINT8, INT8}:
            return None
        if is_op(node, "MatMulInteger"):
            return integer.bind_matmul(node, unit)
        return integer.bind_conv(node, unit) if is_op(node, "ConvInteger") else None

    return bind


def _min_times_min(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    if not is_op(node, "MatMulInteger") or {fmt_of(node), fmt_of(node, 1)} != {INT8}:
        return None
    kernel = arithmetic.sound(node)

    def broken(a: Array, b: Array, *zeros: Array | None) -> tuple[Array, ...]:
        (y,) = kernel(a, b, *zeros)
        pairs = (a == -128).astype(np.float32) @ (b == -128).astype(np.float32)
        return (np.asarray(y - (pairs * 2 * 16384).astype(np.int32)),)

    return broken


def _zero_point_sign(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    if not is_op(node, "MatMulInteger", "ConvInteger") or node.operand(2) is None:
        return None
    kernel = arithmetic.sound(node)

    def broken(a: Array, b: Array, zero: Array, *rest: Array | None) -> tuple[Array, ...]:
        # The sum is linear in the zero point: f(-z) = 2 f(0) - f(z), modulo 2**32.
        without, with_it = kernel(a, b, None, *rest)[0], kernel(a, b, zero, *rest)[0]
        return (np.asarray(without + without - with_it),)

    return broken


def _signed_mixed(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    if not is_op(node, "MatMulInteger") or fmt_of(node) is not UINT8:
        return None
    kernel = arithmetic.sound(node)

    def broken(
        a: Array, b: Array, a_zero: Array | None = None, b_zero: Array | None = None
    ) -> tuple[Array, ...]:
        (y,) = kernel(a, b, a_zero, b_zero)
        (high,) = kernel((a >= 128).astype(np.uint8), b, None, b_zero)
        return (np.asarray(y - np.int32(256) * high),)

    return broken


# -- quantisation ----------------------------------------------------------------------------


def with_affine_rule(rule: AffineRule) -> Bind:
    """Returns the binding of a quantiser to integers with another rule."""

    def bind(node: Node, arithmetic: Arithmetic) -> Kernel | None:
        if not is_op(node, "Quantize") or not node.result.format.is_integer:
            return None
        return convert.bind_quantize(node, AffineUnit(rule=rule))

    return bind


def _zero_ignored(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    if not is_op(node, "Dequantize") or node.operand(2) is None:
        return None

    def ignore(operands: list[Array | None]) -> None:
        operands[2] = None

    return before(arithmetic.sound(node), ignore)


def _per_channel(node: Node) -> bool:
    return shape_of(node, 1) not in ((), (1,))


# -- requantisation --------------------------------------------------------------------------


def _float_stage(to_integer: Callable[[Array], Array]) -> Bind:
    """Returns the binding of an output stage that rounds float32 sums in another way."""

    def bind(node: Node, arithmetic: Arithmetic) -> Kernel | None:
        if not is_op(node, "Requantize"):
            return None
        return requantize.bind_requantize(node, RequantUnit(to_integer=to_integer))

    return bind


def _fixed_stage(fixed: requantize.Multiply, *arithmetics: str) -> Bind:
    """Returns the binding of an output stage that multiplies in another way."""

    def bind(node: Node, arithmetic: Arithmetic) -> Kernel | None:
        if not is_op(node, "Requantize") or text(node, "arithmetic") not in arithmetics:
            return None
        return requantize.bind_requantize(node, RequantUnit(fixed=fixed))

    return bind


def _away(x: Array) -> Array:
    return np.asarray(np.trunc(x) + np.copysign(np.abs(x - np.trunc(x)) >= 0.5, x))


def _half_up(x: Array) -> Array:
    return np.floor(x) + (x - np.floor(x) >= 0.5)


def _twice(acc: Array, q31: Array, shift: Array) -> Array:
    return fixed_multiply(acc, q31, shift, double_round=True)


def _toward_zero(acc: Array, q31: Array, shift: Array) -> Array:
    product = acc.astype(np.int64) * q31.astype(np.int64)
    shifted = np.abs(product) >> shift.astype(np.int64)
    return np.asarray(np.copysign(shifted, product).astype(np.int64))


def _short_multiplier(acc: Array, q31: Array, shift: Array) -> Array:
    return fixed_multiply(acc, q31 >> 16 << 16, shift)


def _relu_first(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    if not is_op(node, "Requantize") or node.operand(4) is None:
        return None
    return requantize.bind_requantize(node, RequantUnit(relu_first=True))


def _no_clamp(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """Codes beyond the range keep their low bits."""
    if not is_op(node, "Quantize") or node.result.format not in (INT8, UINT8):
        return None
    kernel = convert.bind_quantize(with_attributes(node, to="int16"))
    dtype = node.result.format.dtype

    def wrapping(x: Array, scale: Array, zero: Array | None = None) -> tuple[Array, ...]:
        wide = None if zero is None else zero.astype(np.int16)
        return (kernel(x, scale, wide)[0].astype(dtype),)

    return wrapping


_AWAY_RULE = AffineRule(rounding=Rounding.NEAREST_AWAY)

_row = rows("")

DEFECTS: tuple[Defect, ...] = (
    _row(
        "pair16_saturation",
        "the sum of two neighbouring products saturates at 16 bits",
        f"{_PRODUCTS} of uint8 by int8",
        "vpmaddubsw without VNNI (onnxruntime issue 6004)",
        _unit(IntUnit(pair16=True), mixed_only=True),
    ),
    _row(
        "int_accumulator_saturates",
        "the accumulator saturates at 32 bits where wrapping is claimed",
        _PRODUCTS,
        "a saturating adder",
        _unit(IntUnit(saturate=True)),
    ),
    _row(
        "min_times_min",
        "-128 times -128 gives -16384",
        "MatMulInteger of int8 by int8",
        "a 15-bit product register",
        _min_times_min,
    ),
    _row(
        "zero_point_sign",
        "the first operand's zero point is added instead of subtracted",
        _PRODUCTS,
        "a correction term with the wrong sign",
        _zero_point_sign,
    ),
    _row(
        "zero_point_padding",
        "padding holds the code 0 instead of the zero point",
        "ConvInteger",
        "a zero-filled line buffer",
        _unit(IntUnit(pad_with_zero_point=False)),
    ),
    _row(
        "signed_unsigned_mixed",
        "codes of 128 and above are read as negative",
        "MatMulInteger of uint8",
        "an operand sign bit left set",
        _signed_mixed,
    ),
    _row(
        "quantize_reciprocal",
        "x * (1 / scale) is computed instead of x / scale",
        "Quantize to integers",
        "FBGEMM and torch",
        with_affine_rule(AffineRule(reciprocal=True)),
    ),
    _row(
        "quantize_zero_point_first",
        "the zero point is added before rounding",
        "Quantize to integers",
        "Glow",
        with_affine_rule(AffineRule(zero_point=ZeroPoint.BEFORE)),
    ),
    _row(
        "quantize_ties_away",
        "ties round away from zero",
        "Quantize to integers",
        "C's roundf",
        with_affine_rule(_AWAY_RULE),
    ),
    _row(
        "quantize_wraps",
        "codes out of range keep their low bits instead of saturating",
        "Quantize to 8 bits",
        "onnx's reference evaluator beyond 2**31",
        _no_clamp,
    ),
    _row(
        "dequantize_zero_point",
        "the zero point is ignored",
        "Dequantize",
        "symmetric hardware on asymmetric data",
        _zero_ignored,
    ),
    _row(
        "dequantize_next_channel",
        "each channel is read with its neighbour's scale",
        "Dequantize per channel and per block",
        "an index off by one",
        operands(rolled(1), _per_channel, "Dequantize"),
    ),
    _row(
        "requant_ties_away",
        "ties round away from zero",
        "Requantize, float32 multipliers",
        "lround for lrint",
        _float_stage(_away),
    ),
    _row(
        "requant_half_up",
        "ties round toward +Inf",
        "Requantize, float32 multipliers",
        "floor(x + 0.5)",
        _float_stage(_half_up),
    ),
    _row(
        "requant_truncates",
        "scaled sums are truncated",
        "Requantize, float32 multipliers",
        "a cast for a rounding",
        _float_stage(np.trunc),
    ),
    _row(
        "requant_double_rounding",
        "products are rounded twice where once is asked for",
        "Requantize, fixed_single",
        "gemmlowp's SRDHM and shift",
        _fixed_stage(_twice, "fixed_single"),
    ),
    _row(
        "requant_single_rounding",
        "products are rounded once where twice is asked for",
        "Requantize, fixed_double",
        "FBGEMM in place of gemmlowp",
        _fixed_stage(fixed_multiply, "fixed_double"),
    ),
    _row(
        "requant_shift_truncates",
        "the right shift drops bits toward zero",
        "Requantize, fixed-point",
        "a shift of the magnitude without rounding",
        _fixed_stage(_toward_zero, "fixed_single", "fixed_double"),
    ),
    _row(
        "requant_short_multiplier",
        "the multiplier loses its lower 16 bits",
        "Requantize, fixed-point",
        "TOSA's scale32=false hardware",
        _fixed_stage(_short_multiplier, "fixed_single", "fixed_double"),
    ),
    _row(
        "requant_next_channel",
        "each channel is scaled with its neighbour's multiplier",
        "Requantize per channel",
        "an index off by one",
        operands(rolled(1), _per_channel, "Requantize"),
    ),
    _row(
        "relu_before_bias",
        "ReLU looks at the sum before the bias is added",
        "Requantize with relu and bias",
        "a fused epilogue in the wrong order",
        _relu_first,
    ),
)
