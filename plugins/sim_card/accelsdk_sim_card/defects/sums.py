"""Defects of sums of products: special operands, orders and units that are not as claimed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from accelsdk.formats import BFLOAT16, FLOAT16, FLOAT32
from accelsdk.graph.graph import Node
from accelsdk.kernels.kernel import Kernel
from accelsdk.numerics import codec
from accelsdk_sim_card.defects.defect import (
    Array,
    Bind,
    Defect,
    after,
    floats,
    fmt_of,
    is_op,
    of_format,
    operands,
    results,
    rows,
)
from accelsdk_sim_card.defects.lanes import extents
from accelsdk_sim_card.defects.tampering import flush_operands, flush_results
from accelsdk_sim_card.engines import narrow

if TYPE_CHECKING:
    from accelsdk_sim_card.arithmetic import Arithmetic

_PRODUCTS = ("MatMul", "MatMulInteger", "ScaledMatMul")
_NAMES = ", ".join(_PRODUCTS)
_TILE = 16


def _unwritten(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    _, k, _ = extents(node)
    if not is_op(node, *_PRODUCTS) or k or not node.result.type.count:
        return None
    return after(arithmetic.sound(node), lambda y: np.full(y.shape, 0x41, np.uint8).astype(y.dtype))


def _finite_only(pick: Callable[[Array, Array, Array], Array]) -> Bind:
    """Returns the binding of a product that treats special operands in a way of its own.

    Args:
        pick: Makes the result of the sound one and the operands, in float64.
    """

    def bind(node: Node, arithmetic: Arithmetic) -> Kernel | None:
        if not is_op(node, "MatMul", "ScaledMatMul") or not min(extents(node)):
            return None
        a_format, b_format = fmt_of(node, 0), fmt_of(node, 1)
        if a_format is None or b_format is None or not (a_format.has_nan or b_format.has_nan):
            return None
        kernel = arithmetic.sound(node)

        def broken(a: Array, b: Array, *rest: Array | None) -> tuple[Array, ...]:
            (y,) = kernel(a, b, *rest)
            left = codec.decode(a, a_format, np.float64)
            right = codec.decode(b, b_format, np.float64)
            return (np.asarray(pick(y, left, right)).astype(y.dtype),)

        return broken

    return bind


def _nan(x: Array, lanes: slice, axis: int) -> Array:
    part = x[..., lanes] if axis == -1 else x[..., lanes, :]
    found = np.isnan(part).any(axis)
    return np.asarray(found)[..., :, None] if axis == -1 else np.asarray(found)[..., None, :]


def _any(mask: Array, axis: int) -> Array:
    return np.asarray(mask.any(axis))


def _zero_wins(y: Array, a: Array, b: Array) -> Array:
    """Infinities that meet a zero count for nothing; the others for what they are."""
    meets = (np.isinf(a).astype(float) @ (b == 0)) + ((a == 0).astype(float) @ np.isinf(b))
    nan = _any(np.isnan(a), -1)[..., :, None] | _any(np.isnan(b), -2)[..., None, :]
    rest = np.where(np.isinf(a), 0.0, a) @ np.where(np.isinf(b), 0.0, b)
    return np.where((meets > 0) & ~nan, rest, y)


def _infinity_wins(y: Array, a: Array, b: Array) -> Array:
    nan = _any(np.isnan(a), -1)[..., :, None] | _any(np.isnan(b), -2)[..., None, :]
    infinite = _any(np.isinf(a), -1)[..., :, None] | _any(np.isinf(b), -2)[..., None, :]
    return np.where(np.isnan(y) & ~nan & infinite, np.inf, y)


def _first_lane(y: Array, a: Array, b: Array) -> Array:
    """A NaN counts in the first lane of K alone; elsewhere its product is dropped."""
    first, rest = slice(0, 1), slice(1, None)
    late = _nan(a, rest, -1) | _nan(b, rest, -2)
    early = _nan(a, first, -1) | _nan(b, first, -2)
    plain = np.where(np.isfinite(a), a, 0.0) @ np.where(np.isfinite(b), b, 0.0)
    return np.where(late & ~early, plain, y)


def _half_products(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """A product beyond 65504 becomes infinite before the sum can cancel it."""
    if not is_op(node, "MatMul") or fmt_of(node) is not FLOAT16 or not min(extents(node)):
        return None
    kernel = arithmetic.sound(node)

    def broken(a: Array, b: Array) -> tuple[Array, ...]:
        (y,) = kernel(a, b)
        peak = np.abs(a.astype(np.float32)).max(-1)[..., :, None]
        peak = peak * np.abs(b.astype(np.float32)).max(-2)[..., None, :]
        if not (peak > 65504).any():
            return (y,)
        products = a.astype(np.float32)[..., :, :, None] * b.astype(np.float32)[..., None, :, :]
        return (np.where((np.abs(products) > 65504).any(-2), np.float16(np.inf), y),)

    return broken


def _through_blas(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """The unit that the datasheet claims does not exist: float32 BLAS stands in for it."""
    if not is_op(node, "ScaledMatMul") or node.attributes.get("block_size", 0):
        return None
    a_format, b_format, target = fmt_of(node, 0), fmt_of(node, 1), node.result.format
    if a_format is None or b_format is None:
        return None

    def emulated(a: Array, b: Array, a_scale: Array, b_scale: Array) -> tuple[Array, ...]:
        sums = codec.decode(a, a_format, np.float32) @ codec.decode(b, b_format, np.float32)
        return (codec.cast(np.asarray(sums * a_scale * b_scale), FLOAT32, target),)

    return emulated


def _halves_joined(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """The second half of K is summed first: another order than the one claimed."""
    if not is_op(node, "ScaledMatMul") or node.attributes.get("block_size", 0):
        return None
    _, k, _ = extents(node)
    if k <= 2 * _TILE:
        return None
    kernel = arithmetic.sound(node)

    def turned(a: Array, b: Array, *rest: Array | None) -> tuple[Array, ...]:
        return kernel(np.roll(a, k // 2, axis=-1), np.roll(b, k // 2, axis=-2), *rest)

    return turned


def _late(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """The running sum keeps its carry: its exponent is that before normalisation.

    Chunks of the claimed width are aligned to the largest exponent of their products and to
    one less than the exponent of the sum, so that bits survive that a normalising unit drops.
    """
    spec = arithmetic.preset.narrow
    if not is_op(node, "ScaledMatMul") or node.attributes.get("block_size", 0):
        return None
    if spec.align_bits is None or not spec.width or not min(extents(node)):
        return None
    a_format, b_format, target = fmt_of(node, 0), fmt_of(node, 1), node.result.format
    if a_format is None or b_format is None:
        return None
    width, kept = spec.width, spec.align_bits

    def unnormalised(a: Array, b: Array, a_scale: Array, b_scale: Array) -> tuple[Array, ...]:
        left, right = narrow.decode(a, a_format), narrow.decode(b, b_format)
        running = np.zeros((left.shape[-2], right.shape[-1]))
        for start in range(0, left.shape[-1], width):
            part = slice(start, start + width)
            terms = left[:, part, None] * right[None, part, :]
            stack = np.concatenate([terms, running[:, None, :]], axis=1)
            top = np.frexp(np.abs(stack).max(axis=1))[1] - 2  # one below the leading digit
            step = np.ldexp(1.0, top - kept)
            running = (np.trunc(stack / step[:, None, :]) * step[:, None, :]).sum(axis=1)
            running = running.astype(np.float32).astype(np.float64)
        sums = running.astype(np.float32)
        return (codec.cast(np.asarray(sums * a_scale * b_scale), FLOAT32, target),)

    return unnormalised


_row = rows("")

DEFECTS: tuple[Defect, ...] = (
    _row(
        "empty_sum_unwritten",
        "sums of no products are whatever the memory held",
        _NAMES,
        "onnxruntime MatMulInteger with K = 0",
        _unwritten,
    ),
    _row(
        "inf_times_zero",
        "infinity times zero is zero",
        "MatMul, ScaledMatMul",
        "zeros skipped without a look at the other operand",
        _finite_only(_zero_wins),
    ),
    _row(
        "inf_minus_inf",
        "infinities of both signs add up to infinity",
        "MatMul, ScaledMatMul",
        "an overflow flag that is never cleared",
        _finite_only(_infinity_wins),
    ),
    _row(
        "nan_first_lane",
        "NaN counts in the first lane of K alone",
        "MatMul, ScaledMatMul",
        "onnxruntime ReduceMax and ReduceMin",
        _finite_only(_first_lane),
    ),
    _row(
        "half_product_overflow",
        "a product beyond 65504 becomes infinite before the sum can cancel it",
        "MatMul on float16",
        "CDNA3, one format further up",
        _half_products,
    ),
    _row(
        "emulated_unit",
        "products are summed in float32 by a library in place of the claimed unit",
        "ScaledMatMul",
        "a capability that is claimed and emulated",
        _through_blas,
    ),
    _row(
        "order_by_depth",
        "the second half of K is summed first",
        "ScaledMatMul",
        "an order that changes with the tile size",
        _halves_joined,
    ),
    _row(
        "late_normalisation",
        "the running sum is aligned by its exponent before normalisation",
        "ScaledMatMul",
        "tensor cores of V100 and A100, whose sums are not monotone",
        _late,
    ),
    _row(
        "product_ftz",
        "subnormal sums become zero",
        "MatMul, Conv",
        "flush-to-zero outputs (CDNA2)",
        results(flush_results, floats, "MatMul", "Conv"),
    ),
    _row(
        "gemm_ftz",
        "subnormal sums become zero",
        "Gemm",
        "flush-to-zero outputs (CDNA2) of the fused op alone",
        results(flush_results, floats, "Gemm"),
    ),
    _row(
        "operand_ftz",
        "subnormal operands are read as zero",
        "MatMul on float16, bfloat16 and float32",
        "flush-to-zero inputs (CDNA2)",
        operands(flush_operands, of_format(FLOAT16, BFLOAT16, FLOAT32), "MatMul"),
    ),
)
