"""Accumulator models of the matrix engine: the card's own, and those of measured units.

Each published model is read off the literature (Fasi et al., PeerJ CS 7:e330, 2021; Xie et
al., MMA-Sim, arXiv 2511.10909; the MATLAB-tensor-core project) and reproduces, bit for
bit, the measured dot products of its unit in the public MATLAB-tensor-core data, which
``tests/plugins/sim_card`` replays. The engine and the datasheet use the same objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from accelsdk.numerics.accumulate import AccumulatorSpec

DEFAULT = "card"


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """The accumulators of one unit; None: the unit has none, and the vector path is used.

    Attributes:
        name: As given by ``--option preset=``.
        summary: Which unit.
        half: float16 and bfloat16 products.
        tf32: TF32 products; kept for measurements, no op of the table asks for them.
        narrow: FP8, FP6, FP4 and MXINT8 products.
    """

    name: str
    summary: str
    half: AccumulatorSpec | None = None
    tf32: AccumulatorSpec | None = None
    narrow: AccumulatorSpec


def _fused(
    width: int,
    bits: int,
    *,
    store: str = "rz",
    keep: int = 24,
    floor: int = -126,
    addend: str = "in_chunk",
) -> AccumulatorSpec:
    return AccumulatorSpec(
        guarantee="bit_exact",
        significand_bits=keep,
        align_bits=bits,
        align_rounding="rz",
        align_floor=floor,
        store_rounding=store,  # type: ignore[arg-type] # checked by the record
        width=width,
        order="contiguous",
        tree="sequential",
        addend=addend,  # type: ignore[arg-type] # checked by the record
    )


#: The card's own unit: 32 exact products, 25 fraction bits, float32 stores rounded to nearest.
CARD = _fused(32, 25, store="rne")

_AMPERE = -132
_HOPPER = -133

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        preset.name: preset
        for preset in (
            Preset(name=DEFAULT, summary="the simulated card's own matrix engine", narrow=CARD),
            Preset(
                name="v100",
                summary="NVIDIA V100; FP8 as the card",
                half=_fused(4, 23),
                narrow=CARD,
            ),
            Preset(
                name="a100",
                summary="NVIDIA A100, A2, A30; FP8 as the card",
                half=_fused(8, 24, floor=_AMPERE),
                tf32=_fused(4, 24, floor=_AMPERE),
                narrow=CARD,
            ),
            Preset(
                name="ada",
                summary="NVIDIA Ada, L40S: FP8 sums keep 13 fraction bits",
                half=_fused(8, 24, floor=_AMPERE),
                tf32=_fused(4, 24, floor=_AMPERE),
                narrow=_fused(16, 13, keep=14),
            ),
            Preset(
                name="h100",
                summary="NVIDIA H100, H200: FP8 sums keep 13 fraction bits",
                half=_fused(16, 25, floor=_HOPPER),
                tf32=_fused(8, 25, floor=_HOPPER),
                narrow=_fused(32, 13, keep=14),
            ),
            Preset(
                name="b200",
                summary="NVIDIA B200: FP8 addend added afterwards",
                half=_fused(16, 25, floor=_HOPPER),
                tf32=_fused(8, 25, floor=_HOPPER),
                narrow=_fused(32, 25, addend="separate"),
            ),
        )
    }
)
