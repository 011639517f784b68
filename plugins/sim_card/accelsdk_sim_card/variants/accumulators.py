"""Variants of the matrix engine: other widths, alignments, roundings and ranges of sums.

Engine and datasheet are made of one record (`AccumulatorSpec`), so each is declared as it is.
"""

from __future__ import annotations

from dataclasses import replace

from accelsdk.backend.datasheet import NumericsDatasheet
from accelsdk.numerics.accumulate import AccumulatorSpec
from accelsdk_sim_card.engines.presets import CARD, Preset
from accelsdk_sim_card.variants.variant import Variant

#: Wide enough for the fp32 profile, which asks for 24 bits and 23 fraction bits.
_HALF = replace(CARD, width=8, align_bits=25)


def _narrow(name: str, summary: str, legal: str, spec: AccumulatorSpec) -> Variant:
    """Returns the variant whose FP8 and MX products have this accumulator."""

    def changed(preset: Preset) -> Preset:
        return replace(preset, narrow=spec, fp4=None)

    return Variant(f"sum_{name}", summary, legal, "ScaledMatMul", preset=changed)


def _halves(name: str, summary: str, legal: str, spec: AccumulatorSpec) -> Variant:
    """Returns the variant whose float16 and bfloat16 products run on this matrix engine."""

    def changed(preset: Preset) -> Preset:
        return replace(preset, half=spec)

    return Variant(f"half_{name}", summary, legal, "MatMul, Conv", preset=changed)


def _bits_alone(sheet: NumericsDatasheet) -> NumericsDatasheet:
    spec = AccumulatorSpec(guarantee="at_least", significand_bits=24, align_bits=25)
    return replace(sheet, contractions={**sheet.contractions, ("ScaledMatMul", *"***"): spec})


_DECLARED = "declared"

VARIANTS: tuple[Variant, ...] = (
    _narrow(
        "one_by_one", "one product a step", "a scalar multiply-add unit", replace(CARD, width=1)
    ),
    _narrow("by_4", "4 products a step", "V100", replace(CARD, width=4)),
    _narrow("by_8", "8 products a step", "A100", replace(CARD, width=8)),
    _narrow("by_16", "16 products a step", "Ada", replace(CARD, width=16)),
    _narrow("by_64", "64 products a step", _DECLARED, replace(CARD, width=64)),
    _narrow("by_128", "128 products a step", _DECLARED, replace(CARD, width=128)),
    _narrow(
        "exact",
        "all products are summed exactly and rounded once",
        "a Kulisch accumulator",
        replace(CARD, width=0, align_bits=None),
    ),
    _narrow(
        "exact_by_16",
        "16 products are summed exactly, the sum is rounded",
        "CDNA1 by the MATLAB models",
        replace(CARD, width=16, align_bits=None),
    ),
    _narrow("wide_alignment", "30 fraction bits are kept", _DECLARED, replace(CARD, align_bits=30)),
    _narrow(
        "widest_alignment", "40 fraction bits are kept", _DECLARED, replace(CARD, align_bits=40)
    ),
    _narrow(
        "short",
        "16 significand bits, 20 fraction bits",
        "above the floor of the fp8 and mx profiles",
        replace(CARD, significand_bits=16, align_bits=20),
    ),
    _narrow(
        "truncated",
        "sums are truncated",
        "all NVIDIA tensor cores",
        replace(CARD, store_rounding="rz"),
    ),
    _narrow("rounded_down", "sums are rounded down", _DECLARED, replace(CARD, store_rounding="rd")),
    _narrow("rounded_up", "sums are rounded up", _DECLARED, replace(CARD, store_rounding="ru")),
    _narrow(
        "nearest_alignment",
        "what falls below the alignment is rounded to nearest",
        _DECLARED,
        replace(CARD, align_rounding="rne"),
    ),
    _narrow(
        "floor_alignment",
        "what falls below the alignment is rounded down",
        "CDNA3",
        replace(CARD, align_rounding="rd"),
    ),
    _narrow(
        "even_odd",
        "even and odd positions are summed apart",
        "CDNA3",
        replace(CARD, order="even_odd", width=8),
    ),
    _narrow(
        "flush_out",
        "subnormal sums become zero",
        "CDNA2, declared",
        replace(CARD, subnormals_out="flush"),
    ),
    _narrow(
        "flush_in",
        "subnormal operands count as zero",
        "CDNA2, declared",
        replace(CARD, subnormals_in="flush"),
    ),
    _narrow("saturating", "sums saturate", _DECLARED, replace(CARD, overflow="saturate")),
    _narrow(
        "promoted",
        "every 128 products the sum moves to a float32 register",
        "DeepSeek-V3",
        replace(CARD, align_bits=20, significand_bits=16, promote_every=128, promote_bits=24),
    ),
    Variant(
        "sum_at_least",
        "the unit is declared by its bits alone",
        "a vendor that keeps its order to itself",
        "ScaledMatMul",
        declare=_bits_alone,
    ),
    _halves("by_8", "8 products a step, truncated", "A100", replace(_HALF, store_rounding="rz")),
    _halves("by_16", "16 products a step, to nearest", _DECLARED, replace(_HALF, width=16)),
    _halves(
        "one_by_one",
        "fused multiply-add, one product after the other",
        "any scalar unit",
        replace(_HALF, width=1, align_bits=None),
    ),
    _halves(
        "exact",
        "all products are summed exactly and rounded once",
        "a Kulisch accumulator",
        replace(_HALF, width=0, align_bits=None),
    ),
    _halves(
        "by_4_even_odd",
        "even and odd positions apart",
        "CDNA3",
        replace(_HALF, order="even_odd", width=4),
    ),
)
