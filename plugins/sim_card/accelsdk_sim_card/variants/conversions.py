"""Variants of conversions: quantisation, casts and MX blocks, as declared."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from accelsdk.backend.datasheet import CastSpec, MxSpec, NumericsDatasheet, QuantSpec, RequantSpec
from accelsdk.formats import E4M3, E5M2, E8M0, FLOAT32, MX_ELEMENTS, MXINT8, Format, by_name
from accelsdk.graph.graph import Node
from accelsdk.kernels.kernel import Kernel, format_of, integer, text
from accelsdk.numerics.affine import AffineRule, ZeroPoint
from accelsdk.numerics.rounding import Overflow, Rounding
from accelsdk_sim_card.defects.defect import Array, Bind, before, fmt_of, is_op
from accelsdk_sim_card.defects.integers import with_affine_rule
from accelsdk_sim_card.engines import blocks, convert, requantize
from accelsdk_sim_card.engines.blocks import BlockUnit
from accelsdk_sim_card.engines.convert import CastUnit
from accelsdk_sim_card.engines.requantize import RequantUnit
from accelsdk_sim_card.variants.variant import Declare, Variant

if TYPE_CHECKING:
    from accelsdk_sim_card.arithmetic import Arithmetic

_FP8 = (E4M3, E5M2)
_WIDE = ("float16", "float32", "float64")


def _beyond_integers(node: Node) -> bool:
    """The rule is one of float32 scales and integer codes."""
    scale = fmt_of(node, 1)
    return is_op(node, "Quantize") and (
        node.result.format.is_float or (scale is not None and scale is not FLOAT32)
    )


def _cast(unit: CastUnit, *targets: Format) -> Bind:
    def bind(node: Node, arithmetic: Arithmetic) -> Kernel | None:
        if not is_op(node, "Cast"):
            return None
        if by_name(str(node.attributes["to"])) not in targets:
            return None
        return convert.bind_cast(node, unit)

    return bind


def _finite_saturates(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    if not is_op(node, "Cast") or integer(node, "saturate"):
        return None
    return _cast(CastUnit(overflow=Overflow.SATURATE_FINITE), *_FP8)(node, arithmetic)


def _through_bfloat16(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    source = fmt_of(node)
    if source is None or source.name not in _WIDE:
        return None
    return _cast(CastUnit(via=by_name("bfloat16")), *_FP8)(node, arithmetic)


def _casts(spec: CastSpec, *targets: Format, sources: tuple[str, ...] = ("*",)) -> Declare:
    """Returns the maker of a datasheet with a claim for casts from sources to targets."""

    def declare(sheet: NumericsDatasheet) -> NumericsDatasheet:
        own = {(source, target.name): spec for source in sources for target in targets}
        return replace(sheet, casts={**sheet.casts, **own})

    return declare


def _wide_requantize(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """Sums are scaled in float64; the multiplier is the float32 number that was given."""
    if not is_op(node, "Requantize") or text(node, "arithmetic") != "float32":
        return None
    return requantize.bind_requantize(node, RequantUnit(carry=np.float64))


def mx_claims(spec: MxSpec, source: str = "*") -> Declare:
    """Returns the maker of a datasheet with a claim for every MX element, of a source or of all."""

    def declare(sheet: NumericsDatasheet) -> NumericsDatasheet:
        own = {(source, fmt.name): spec for fmt in MX_ELEMENTS}
        return replace(sheet, mx={**sheet.mx, **own})

    return declare


def _symmetric(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """-128 is not emitted."""
    if not is_op(node, "QuantizeBlock") or format_of(node, "to") is not MXINT8:
        return None
    kernel = blocks.bind_quantize_block(node, BlockUnit())

    def quantize(x: Array) -> tuple[Array, ...]:
        elements, scales = kernel(x)
        codes = elements.view(np.uint8)
        return np.where(codes == 0x80, np.uint8(0x81), codes).view(elements.dtype), scales

    return quantize


def _flushed(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """Subnormal float32 inputs count as zero."""
    if not is_op(node, "QuantizeBlock") or fmt_of(node) is not FLOAT32:
        return None
    kernel = blocks.bind_quantize_block(node, BlockUnit())

    def flush(found: list[Array | None]) -> None:
        x = found[0]
        if x is not None:
            tiny = np.abs(x) < np.float32(FLOAT32.smallest_normal)
            found[0] = np.where(tiny, np.copysign(np.float32(0), x), x)

    return before(kernel, flush)


def _free_elements(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """Elements of a block without a scale are zero: they mean nothing."""
    if not is_op(node, "QuantizeBlock"):
        return None
    kernel, size = blocks.bind_quantize_block(node, BlockUnit()), integer(node, "block_size")

    def quantize(x: Array) -> tuple[Array, ...]:
        elements, scales = kernel(x)
        axis = integer(node, "axis") % x.ndim
        spread = np.repeat(scales.view(np.uint8), size, axis=axis)
        spread = spread[(slice(None),) * axis + (slice(x.shape[axis]),)]
        codes = np.where(spread == 0xFF, np.uint8(0), elements.view(np.uint8))
        return codes.view(elements.dtype), scales.view(E8M0.dtype)

    return quantize


def quantizing(spec: QuantSpec) -> Declare:
    """Returns the maker of a datasheet with this claim for quantisation."""
    return lambda sheet: replace(sheet, quantize=spec)


def requantizing(spec: RequantSpec) -> Declare:
    """Returns the maker of a datasheet with this claim for requantisation."""
    return lambda sheet: replace(sheet, requantize=spec)


def _quantizer(name: str, summary: str, legal: str, rule: AffineRule, claim: QuantSpec) -> Variant:
    """Returns the variant that quantises by a rule, and claims it."""
    return Variant(
        f"quantize_{name}",
        summary,
        legal,
        "Quantize",
        bind=with_affine_rule(rule),
        refuses=_beyond_integers,
        declare=quantizing(claim),
    )


VARIANTS: tuple[Variant, ...] = (
    _quantizer(
        "reciprocal",
        "x * (1 / scale)",
        "FBGEMM, declared",
        AffineRule(reciprocal=True),
        QuantSpec(scaling="reciprocal"),
    ),
    _quantizer(
        "zero_point_first",
        "the zero point is added before rounding",
        "Glow, declared",
        AffineRule(zero_point=ZeroPoint.BEFORE),
        QuantSpec(zero_point="before"),
    ),
    _quantizer(
        "fused",
        "one multiply-add with the reciprocal, then rounding",
        "torch on CPU, declared",
        AffineRule(reciprocal=True, zero_point=ZeroPoint.FMA),
        QuantSpec(scaling="reciprocal", zero_point="fma"),
    ),
    _quantizer(
        "ties_away",
        "ties round away from zero",
        "declared",
        AffineRule(rounding=Rounding.NEAREST_AWAY),
        QuantSpec(rounding="nearest_away"),
    ),
    Variant(
        "requantize_wide",
        "sums are scaled in float64",
        "declared; no neighbour code is wrong within float error of a tie",
        "Requantize",
        bind=_wide_requantize,
        declare=requantizing(RequantSpec(arithmetic="float64")),
    ),
    Variant(
        "cast_truncates",
        "casts to FP8 truncate",
        "declared",
        "Cast",
        bind=_cast(CastUnit(rounding=Rounding.TOWARD_ZERO), *_FP8),
        declare=_casts(CastSpec(rounding="toward_zero"), *_FP8),
    ),
    Variant(
        "cast_ties_away",
        "ties of casts to FP8 round away from zero",
        "declared",
        "Cast",
        bind=_cast(CastUnit(rounding=Rounding.NEAREST_AWAY), *_FP8),
        declare=_casts(CastSpec(rounding="nearest_away"), *_FP8),
    ),
    Variant(
        "cast_saturates",
        "finite overflow of casts to FP8 saturates, whether it is asked for or not",
        "ml_dtypes issue 400: both are legal, declared",
        "Cast",
        bind=_finite_saturates,
        declare=_casts(CastSpec(overflow="saturate"), *_FP8),
    ),
    Variant(
        "cast_through_bfloat16",
        "casts to FP8 go through bfloat16",
        "declared via",
        "Cast",
        bind=_through_bfloat16,
        declare=_casts(CastSpec(via="bfloat16"), *_FP8, sources=_WIDE),
    ),
    Variant(
        "mx_symmetric",
        "MXINT8 does not emit -128",
        "declared int8_min",
        "QuantizeBlock",
        bind=_symmetric,
        declare=mx_claims(MxSpec(int8_min=-127)),
    ),
    Variant(
        "mx_flush",
        "subnormal inputs of blocks count as zero",
        "declared flush_fp32_subnormals",
        "QuantizeBlock",
        bind=_flushed,
        declare=mx_claims(MxSpec(flush_fp32_subnormals=True), "float32"),
    ),
    Variant(
        "mx_free_elements",
        "elements of a block whose scale is NaN are zero",
        "OCP MX 5.1: they mean nothing",
        "QuantizeBlock",
        bind=_free_elements,
    ),
    *(
        Variant(
            f"mx_claims_{rule}",
            f"the rule of choice is {rule}",
            legal,
            "QuantizeBlock",
            declare=mx_claims(
                MxSpec(scale_rule=rule, inf_rule="nan" if rule == "tosa" else "other")
            ),
        )
        for rule, legal in (
            ("ceil", "FBGEMM, declared"),
            ("even", "torchao, declared"),
            ("rceil", "NVIDIA's recipe, declared"),
            ("tosa", "TOSA 1.1, declared"),
        )
    ),
)
