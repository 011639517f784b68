"""Variants of conversions and sums that a few vendors document: wrapping codes, free orders."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from accelsdk.backend.datasheet import CastSpec, MxSpec, RequantSpec
from accelsdk.formats import E4M3, E5M2, E8M0, FLOAT32, by_name
from accelsdk.graph.graph import Node
from accelsdk.kernels.kernel import Kernel, axes_of, format_of, integer, text
from accelsdk.numerics.requantize import fixed_multiply
from accelsdk.numerics.rounding import Overflow, Rounding
from accelsdk_sim_card.defects.defect import Array, Bind, before, is_op
from accelsdk_sim_card.engines import blocks, convert, requantize
from accelsdk_sim_card.engines.convert import CastUnit
from accelsdk_sim_card.variants.conversions import mx_claims, requantizing
from accelsdk_sim_card.variants.variant import Declare, Variant

if TYPE_CHECKING:
    from accelsdk_sim_card.arithmetic import Arithmetic

_FP8 = (E4M3, E5M2)


def _cast(unit: CastUnit, saturate: bool | None = None) -> Bind:
    """Returns the binding of casts to FP8, of those that ask for saturation, or not, or of all."""

    def bind(node: Node, arithmetic: Arithmetic) -> Kernel | None:
        if not is_op(node, "Cast") or by_name(str(node.attributes["to"])) not in _FP8:
            return None
        if saturate is not None and bool(integer(node, "saturate")) != saturate:
            return None
        return convert.bind_cast(node, unit)

    return bind


def _casts(spec: CastSpec) -> Declare:
    own = {("*", fmt.name): spec for fmt in _FP8}
    return lambda sheet: replace(sheet, casts={**sheet.casts, **own})


def _largest_scale(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """A block that holds an infinity, and no NaN, has the largest scale."""
    if not is_op(node, "QuantizeBlock"):
        return None
    kernel = blocks.bind_quantize_block(node)
    axis, size = integer(node, "axis"), integer(node, "block_size")

    def quantize(x: Array) -> tuple[Array, ...]:
        elements, scales = kernel(x)
        starts = np.arange(0, x.shape[axis], size)
        if not x.size:
            return elements, scales
        infinite = np.logical_or.reduceat(np.isinf(x), starts, axis=axis)
        infinite &= ~np.logical_or.reduceat(np.isnan(x), starts, axis=axis)
        if not infinite.any():
            return elements, scales
        codes = np.where(infinite, np.uint8(0xFE), scales.view(np.uint8))
        spread = np.moveaxis(np.repeat(codes, size, axis=axis), axis, 0)[: x.shape[axis]]
        own = blocks.encode(
            np.where(np.isfinite(x), x, 0), codes, format_of(node, "to"), axis % x.ndim, size
        )
        there = np.moveaxis(spread, 0, axis) == 0xFE
        return np.where(there, own, elements), codes.view(E8M0.dtype)

    return quantize


def _ignores_nan(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """The scale of a block is that of its numbers; a NaN in it becomes zero."""
    if not is_op(node, "QuantizeBlock"):
        return None

    def clean(found: list[Array | None]) -> None:
        x = found[0]
        found[0] = None if x is None else np.where(np.isnan(x), x.dtype.type(0), x)

    return before(blocks.bind_quantize_block(node), clean)


def _by_q31(double: bool) -> Bind:
    """Returns the binding of real factors that are converted to Q31 ones."""

    def bind(node: Node, arithmetic: Arithmetic) -> Kernel | None:
        if not is_op(node, "Requantize") or text(node, "arithmetic") != "float32":
            return None
        name = "fixed_double" if double else "fixed_single"
        kernel = requantize.bind_requantize(
            replace(node, attributes={**node.attributes, "arithmetic": name})
        )

        def convert_factor(
            acc: Array,
            factor: Array,
            shift: Array | None = None,
            zero: Array | None = None,
            bias: Array | None = None,
        ) -> tuple[Array, ...]:
            mantissa, exponent = np.frexp(factor.astype(np.float64))
            q31 = np.ldexp(mantissa, 31).astype(np.int32)  # below 2**31
            return kernel(acc, q31, (31 - exponent).astype(np.int32), zero, bias)

        return convert_factor

    return bind


def _wraps(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """Codes beyond the range lose their upper bits; fixed-point factors."""
    if not is_op(node, "Requantize") or text(node, "arithmetic") == "float32":
        return None
    target, relu = format_of(node, "to"), bool(integer(node, "relu"))
    double, channel = text(node, "arithmetic") == "fixed_double", requantize.per_channel(node)

    def wrap(
        acc: Array,
        factor: Array,
        shift: Array,
        zero: Array | None = None,
        bias: Array | None = None,
    ) -> tuple[Array, ...]:
        total = acc + channel(bias).astype(np.int32)
        zeros = channel(zero).astype(np.int64)
        steps = fixed_multiply(total, channel(factor), channel(shift), double) + zeros
        codes = steps.astype(np.uint8).view(np.int8 if target.is_signed else np.uint8)
        return (np.maximum(codes, zeros).astype(target.dtype) if relu else codes,)

    return wrap


def _shuffled(*ops: str) -> Bind:
    """Returns the binding of float32 reductions along another order in every run."""
    chance = np.random.default_rng(11)

    def bind(node: Node, arithmetic: Arithmetic) -> Kernel | None:
        if not is_op(node, *ops) or node.result.format is not FLOAT32:
            return None
        first = node.operand(0)
        if first is None or not first.type.count or not axes_of(node):
            return None
        kernel, axis = arithmetic.plain(node), axes_of(node)[0]
        return lambda x, *more: kernel(chance.permutation(x, axis=axis), *more)

    return bind


VARIANTS: tuple[Variant, ...] = (
    *(
        Variant(
            f"cast_{rounding.value}",
            f"casts to FP8 round {rounding.value}",
            "declared rounding",
            "Cast",
            bind=_cast(CastUnit(rounding=rounding)),
            declare=_casts(CastSpec(rounding=rounding.value)),
        )
        for rounding in (Rounding.UP, Rounding.DOWN)
    ),
    Variant(
        "cast_keeps_infinities",
        "infinities stay what they are, or become NaN, where saturation is asked for",
        "arXiv 2209.05433, declared inf_to",
        "Cast",
        bind=_cast(CastUnit(overflow=Overflow.SATURATE_FINITE), saturate=True),
        declare=_casts(CastSpec(inf_to="special")),
    ),
    Variant(
        "mx_infinity_is_largest",
        "a block with an infinity has the largest scale",
        "OCP MX leaves it open; declared inf_rule",
        "QuantizeBlock",
        bind=_largest_scale,
        declare=mx_claims(MxSpec(inf_rule="max")),
    ),
    Variant(
        "mx_nan_ignored",
        "a NaN does not count for the scale of its block",
        "declared nan_rule",
        "QuantizeBlock",
        bind=_ignores_nan,
        declare=mx_claims(MxSpec(nan_rule="other")),
    ),
    *(
        Variant(
            f"requantize_as_{spec.arithmetic}",
            "real factors are converted to Q31 factors and shifts",
            "24 bits fit 31: declared arithmetic",
            "Requantize",
            bind=_by_q31(spec.arithmetic == "fixed_double"),
            declare=requantizing(spec),
        )
        for spec in (RequantSpec(arithmetic="fixed_single"), RequantSpec(arithmetic="fixed_double"))
    ),
    Variant(
        "requantize_wraps",
        "codes of fixed-point factors wrap",
        "declared clamp",
        "Requantize",
        bind=_wraps,
        refuses=lambda node: is_op(node, "Requantize") and text(node, "arithmetic") == "float32",
        declare=requantizing(RequantSpec(clamp=False)),
    ),
    Variant(
        "reduce_shuffled",
        "float32 sums of reductions have another order in every run",
        "atomic additions; the order of reductions is unclaimed",
        "ReduceSum, ReduceMean, ReduceL1, ReduceL2, ReduceSumSquare",
        bind=_shuffled("ReduceSum", "ReduceMean", "ReduceL1", "ReduceL2", "ReduceSumSquare"),
    ),
)
