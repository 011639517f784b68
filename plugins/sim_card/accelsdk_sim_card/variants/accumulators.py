"""Variants of the matrix engine: other widths, alignments, roundings and ranges of sums.

Engine and datasheet are made of one record (`AccumulatorSpec`), so each is declared as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from accelsdk.backend.datasheet import NumericsDatasheet
from accelsdk.numerics.accumulate import AccumulatorSpec
from accelsdk_sim_card.engines.presets import CARD, Preset
from accelsdk_sim_card.variants.variant import Variant

#: Wide enough for the fp32 profile, which asks for 24 bits and 23 fraction bits.
_HALF = replace(CARD, width=8, align_bits=25)


def _narrow(**changed: Any) -> Callable[[Preset], Preset]:  # noqa: ANN401 # fields of the record
    """Returns the preset whose FP8 and MX products have another accumulator."""
    spec: AccumulatorSpec = replace(CARD, **changed)
    return lambda preset: replace(preset, narrow=spec, fp4=None)


def _halves(**changed: Any) -> Callable[[Preset], Preset]:  # noqa: ANN401 # fields of the record
    """Returns the preset whose float16 and bfloat16 products run on the matrix engine."""
    spec: AccumulatorSpec = replace(_HALF, **changed)
    return lambda preset: replace(preset, half=spec)


def _row(name: str, summary: str, legal: str, preset: Callable[[Preset], Preset]) -> Variant:
    return Variant(
        name=f"sum_{name}", summary=summary, legal=legal, touches="ScaledMatMul", preset=preset
    )


def _half_row(name: str, summary: str, legal: str, preset: Callable[[Preset], Preset]) -> Variant:
    return Variant(
        name=f"half_{name}", summary=summary, legal=legal, touches="MatMul, Conv", preset=preset
    )


def _bits_alone(sheet: NumericsDatasheet) -> NumericsDatasheet:
    spec = AccumulatorSpec(guarantee="at_least", significand_bits=24, align_bits=25)
    return replace(sheet, contractions={**sheet.contractions, ("ScaledMatMul", *"***"): spec})


_DECLARED = "declared"

VARIANTS: tuple[Variant, ...] = (
    _row("one_by_one", "one product a step", "a scalar multiply-add unit", _narrow(width=1)),
    _row("by_4", "4 products a step", "V100", _narrow(width=4)),
    _row("by_8", "8 products a step", "A100", _narrow(width=8)),
    _row("by_16", "16 products a step", "Ada", _narrow(width=16)),
    _row("by_64", "64 products a step", _DECLARED, _narrow(width=64)),
    _row("by_128", "128 products a step", _DECLARED, _narrow(width=128)),
    _row(
        "exact",
        "all products are summed exactly and rounded once",
        "a Kulisch accumulator",
        _narrow(width=0, align_bits=None),
    ),
    _row(
        "exact_by_16",
        "16 products are summed exactly, the sum is rounded",
        "CDNA1 by the MATLAB models",
        _narrow(width=16, align_bits=None),
    ),
    _row("wide_alignment", "30 fraction bits are kept", _DECLARED, _narrow(align_bits=30)),
    _row("widest_alignment", "40 fraction bits are kept", _DECLARED, _narrow(align_bits=40)),
    _row(
        "short",
        "16 significand bits, 20 fraction bits",
        "above the floor of the fp8 and mx profiles",
        _narrow(significand_bits=16, align_bits=20),
    ),
    _row(
        "truncated", "sums are truncated", "all NVIDIA tensor cores", _narrow(store_rounding="rz")
    ),
    _row("rounded_down", "sums are rounded down", _DECLARED, _narrow(store_rounding="rd")),
    _row("rounded_up", "sums are rounded up", _DECLARED, _narrow(store_rounding="ru")),
    _row(
        "nearest_alignment",
        "what falls below the alignment is rounded to nearest",
        _DECLARED,
        _narrow(align_rounding="rne"),
    ),
    _row(
        "floor_alignment",
        "what falls below the alignment is rounded down",
        "CDNA3",
        _narrow(align_rounding="rd"),
    ),
    _row(
        "even_odd",
        "even and odd positions are summed apart",
        "CDNA3",
        _narrow(order="even_odd", width=8),
    ),
    _row(
        "flush_out",
        "subnormal sums become zero",
        "CDNA2, declared",
        _narrow(subnormals_out="flush"),
    ),
    _row(
        "flush_in",
        "subnormal operands count as zero",
        "CDNA2, declared",
        _narrow(subnormals_in="flush"),
    ),
    _row("saturating", "sums saturate", _DECLARED, _narrow(overflow="saturate")),
    _row(
        "promoted",
        "every 128 products the sum moves to a float32 register",
        "DeepSeek-V3",
        _narrow(align_bits=20, significand_bits=16, promote_every=128, promote_bits=24),
    ),
    Variant(
        name="sum_at_least",
        summary="the unit is declared by its bits alone",
        legal="a vendor that keeps its order to itself",
        touches="ScaledMatMul",
        declare=_bits_alone,
    ),
    _half_row("by_8", "8 products a step, truncated", "A100", _halves(store_rounding="rz")),
    _half_row("by_16", "16 products a step, to nearest", _DECLARED, _halves(width=16)),
    _half_row(
        "one_by_one",
        "fused multiply-add, one product after the other",
        "any scalar unit",
        _halves(width=1, align_bits=None),
    ),
    _half_row(
        "exact",
        "all products are summed exactly and rounded once",
        "a Kulisch accumulator",
        _halves(width=0, align_bits=None),
    ),
    _half_row(
        "by_4_even_odd", "even and odd positions apart", "CDNA3", _halves(order="even_odd", width=4)
    ),
)
