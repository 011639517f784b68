"""Accumulator models of the matrix engine: the card's own, and those of measured units.

Each published model is read off the literature (Fasi et al., PeerJ CS 7:e330, 2021; Xie et
al., MMA-Sim, arXiv 2511.10909; the MATLAB-tensor-core project) and reproduces, bit for
bit, the measured dot products of its unit in the public MATLAB-tensor-core data, which
``tests/plugins/sim_card`` replays. The engine and the datasheet use the same objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from accelsdk.numerics.accumulate import AccumulatorSpec

DEFAULT = "card"


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """The accumulators of one unit; None: the unit has none, and the vector path is used.

    Attributes:
        name: As given by ``--option preset=``.
        summary: Which unit.
        half: float16 products, and bfloat16 ones unless ``brain`` says otherwise.
        brain: bfloat16 products.
        tf32: TF32 products; kept for measurements, no op of the table asks for them.
        half_to_half: float16 products in the unit's mode with float16 sums, likewise.
        narrow: FP8, FP6, FP4 and MXINT8 products.
        fp4: FP4 products, if they have a path of their own.
        narrow_to_half: FP8 products in the mode with float16 sums; for measurements.
    """

    name: str
    summary: str
    half: AccumulatorSpec | None = None
    brain: AccumulatorSpec | None = None
    tf32: AccumulatorSpec | None = None
    half_to_half: AccumulatorSpec | None = None
    narrow: AccumulatorSpec
    fp4: AccumulatorSpec | None = None
    narrow_to_half: AccumulatorSpec | None = None

    def sixteen(self, fmt: str) -> AccumulatorSpec | None:
        """Returns the accumulator of a 16-bit float format."""
        return self.brain if fmt == "bfloat16" and self.brain is not None else self.half

    def scaled(self, a: str, b: str) -> AccumulatorSpec:
        """Returns the accumulator of a pair of narrow formats."""
        own = self.fp4 is not None and a == b == "float4_e2m1fn"
        return self.fp4 if own and self.fp4 is not None else self.narrow


def _fused(width: int, bits: int | None) -> AccumulatorSpec:
    """Returns a unit of NVIDIA's kind: aligned sums of neighbours, everything truncated."""
    return AccumulatorSpec(
        guarantee="bit_exact",
        align_bits=bits,
        align_rounding="rz",
        store_rounding="rz",
        width=width,
        order="contiguous",
        tree="sequential",
    )


def _nearest(width: int, bits: int | None) -> AccumulatorSpec:
    """Returns a unit as `_fused`, whose stored sums are rounded to nearest."""
    return replace(_fused(width, bits), store_rounding="rne")


def _to_half(spec: AccumulatorSpec) -> AccumulatorSpec:
    """Returns a unit with float16 sums: rounded to nearest once, from the aligned sum."""
    return replace(spec, significand_bits=11, store_rounding="rne", store_range="float16")


def _fourteen(width: int) -> AccumulatorSpec:
    """Returns a unit of Ada and Hopper for FP8: sums of 14 bits, 13 of them fraction."""
    return replace(_fused(width, 13), significand_bits=14)


def _staged(width: int, lanes: Literal[1, 2] = 1) -> AccumulatorSpec:
    """Returns a unit of CDNA3: products cut to 24 bits, their sum to 31, downwards."""
    return replace(_nearest(width, 24), stage_bits=31, lanes=lanes, product_overflow="inf")


def _rounded(width: int) -> AccumulatorSpec:
    """Returns a unit of CDNA2: a tree of float32 additions, subnormals flushed throughout."""
    return replace(
        _nearest(width, None), inside="pairwise", subnormals_in="flush", subnormals_out="flush"
    )


#: The card's own unit: 32 exact products, 25 fraction bits, float32 stores rounded to nearest.
CARD = _nearest(32, 25)

_VOLTA = _fused(4, 23)
_TURING = _fused(4, 24)
_AMPERE = replace(_fused(8, 24), align_floor=-132)
_AMPERE_TF32 = replace(_fused(4, 24), align_floor=-132)
_HOPPER = replace(_fused(16, 25), align_floor=-133)
_HOPPER_TF32 = replace(_fused(8, 25), align_floor=-133)
#: FP8 products with float16 sums go through the 16-wide float16 unit, a register's lower and
#: upper pairs in turn, and the addend comes last.
_HOPPER_FP8_TO_HALF = replace(_to_half(_fused(16, 25)), order="interleaved", addend="separate")

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        preset.name: preset
        for preset in (
            Preset(name=DEFAULT, summary="the simulated card's own matrix engine", narrow=CARD),
            Preset(
                name="v100",
                summary="NVIDIA V100; FP8 as the card",
                half=_VOLTA,
                half_to_half=_to_half(_VOLTA),
                narrow=CARD,
            ),
            Preset(
                name="turing",
                summary="NVIDIA Turing; FP8 as the card",
                half=_TURING,
                half_to_half=_to_half(_TURING),
                narrow=CARD,
            ),
            Preset(
                name="a100",
                summary="NVIDIA A100, A2, A30; FP8 as the card",
                half=_AMPERE,
                tf32=_AMPERE_TF32,
                half_to_half=_to_half(_AMPERE),
                narrow=CARD,
            ),
            Preset(
                name="ada",
                summary="NVIDIA Ada, L40S: FP8 sums keep 13 fraction bits",
                half=_AMPERE,
                tf32=_AMPERE_TF32,
                half_to_half=_to_half(_AMPERE),
                narrow=_fourteen(16),
                narrow_to_half=_to_half(_fourteen(16)),
            ),
            Preset(
                name="h100",
                summary="NVIDIA H100, H200: FP8 sums keep 13 fraction bits",
                half=_HOPPER,
                tf32=_HOPPER_TF32,
                half_to_half=_to_half(_HOPPER),
                narrow=_fourteen(32),
                narrow_to_half=_HOPPER_FP8_TO_HALF,
            ),
            Preset(
                name="b200",
                summary="NVIDIA B200, RTX PRO 6000: FP8 addend last; FP4 aligned to its scales",
                half=_HOPPER,
                tf32=_HOPPER_TF32,
                half_to_half=_to_half(_HOPPER),
                narrow=replace(_fused(32, 25), addend="separate"),
                fp4=replace(_fused(64, 35), align_exponent="block_scale"),
                narrow_to_half=_HOPPER_FP8_TO_HALF,
            ),
            Preset(
                name="mi100",
                summary="AMD MI100 (CDNA1): four exact products, two of bfloat16; FP8 as the card",
                half=_nearest(4, None),
                brain=_nearest(2, None),
                narrow=CARD,
            ),
            Preset(
                name="mi200",
                summary="AMD MI210, MI250 (CDNA2): rounded pairs, no subnormals; FP8 as the card",
                half=_rounded(4),
                narrow=CARD,
            ),
            Preset(
                name="mi300",
                summary="AMD MI300 (CDNA3): products, then the running sum; FP8 in two lanes",
                half=_staged(8),
                tf32=_staged(4),
                narrow=_staged(16, lanes=2),
            ),
        )
    }
)
