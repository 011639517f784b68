"""The numerics datasheet of a preset, made of the objects that drive the engines."""

from __future__ import annotations

from dataclasses import replace

from accelsdk.backend.datasheet import (
    CastSpec,
    ContractionKey,
    FunctionSpec,
    IntSpec,
    MxSpec,
    NumericsDatasheet,
    OpKey,
    QuantSpec,
    ReduceSpec,
    RequantSpec,
)
from accelsdk.formats import E2M1, MX_ELEMENTS
from accelsdk.numerics.accumulate import AccumulatorSpec
from accelsdk_sim_card.engines.presets import Preset

#: Products through the host's BLAS: float32 sums in an order that BLAS chooses.
BLAS = AccumulatorSpec(guarantee="at_least", significand_bits=24)
_DOUBLE = AccumulatorSpec(guarantee="at_least", significand_bits=53)
_HALVES = ("float16", "bfloat16")
_FLOATS = (*_HALVES, "float32")


def of(preset: Preset) -> NumericsDatasheet:
    """Returns what the sound arithmetic of a preset claims to be."""
    return NumericsDatasheet(
        contractions=_contractions(preset),
        integers={("*", "*", "*", "*"): IntSpec(acc_bits=32, overflow="wrap")},
        casts={("*", "*"): CastSpec()},
        quantize=QuantSpec(),
        requantize=RequantSpec(),
        mx=_blocks(),
        functions=_functions(),
        reductions={("*", name): ReduceSpec() for name in _FLOATS},
    )


def _contractions(preset: Preset) -> dict[ContractionKey, AccumulatorSpec]:
    claims: dict[ContractionKey, AccumulatorSpec] = {
        ("ScaledMatMul", "*", "*", "*"): preset.narrow,
    }
    for op in ("MatMul", "Gemm", "Conv", "ConvTranspose"):
        claims |= {(op, name, name, name): BLAS for name in _FLOATS}
        claims[op, "float64", "float64", "float64"] = _DOUBLE
    if preset.fp4 is not None:
        claims["ScaledMatMul", E2M1.name, E2M1.name, "*"] = preset.fp4
    for name in _HALVES:
        spec = preset.sixteen(name)
        if spec is not None:
            claims["MatMul", name, name, name] = spec
            # A bias is added to the finished float32 sums.
            claims["Conv", name, name, name] = replace(spec, addend="separate")
    return claims


def _blocks() -> dict[OpKey, MxSpec]:
    return {("*", fmt.name): MxSpec(scale_rule="floor", tail="short") for fmt in MX_ELEMENTS}


def _functions() -> dict[OpKey, FunctionSpec]:
    """The vector engine rounds once from float64: half a unit, and a little for float64 libm."""
    rounded = ("Add", "Sub", "Mul", "Div", "Sqrt", "Reciprocal")
    return {(op, name): FunctionSpec(ulp=0.5) for op in rounded for name in _FLOATS}
