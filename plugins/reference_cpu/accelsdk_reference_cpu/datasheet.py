"""What the arithmetic of reference_cpu claims to be; conformance holds it to this page."""

from __future__ import annotations

from accelsdk.backend.datasheet import (
    CastSpec,
    FunctionSpec,
    IntSpec,
    MxSpec,
    NumericsDatasheet,
    QuantSpec,
    ReduceSpec,
    RequantSpec,
)
from accelsdk.numerics.accumulate import AccumulatorSpec

#: Computed in float64 and rounded once (16-bit formats: in float32, and rounded once).
_FUNCTIONS = (
    *("Exp", "Log", "Pow", "Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh"),
    *("Asinh", "Acosh", "Atanh", "Tanh", "Sigmoid", "Erf"),
    *("Elu", "Selu", "Celu", "Softplus", "Mish", "Swish", "Gelu"),
)

DATASHEET = NumericsDatasheet(
    # float32 BLAS in an order of its own choice; narrow codes are decoded first.
    contractions={("*", "*", "*", "*"): AccumulatorSpec(guarantee="at_least")},
    integers={("*", "*", "*", "*"): IntSpec(acc_bits=32, overflow="wrap")},
    casts={("*", "*"): CastSpec()},
    quantize=QuantSpec(),
    requantize=RequantSpec(arithmetic="float32"),
    mx={("*", "*"): MxSpec(scale_rule="floor")},
    functions={
        (op, fmt): FunctionSpec(ulp=0.51)
        for op in _FUNCTIONS
        for fmt in ("float32", "float16", "bfloat16")
    }
    | {
        # 1 + erf(x / sqrt 2) cancels below x = -8: absolute accuracy in the far left tail.
        ("Gelu", fmt): FunctionSpec(ulp=0.51, floor=0.001, floor_of="|x|")
        for fmt in ("float32", "float16", "bfloat16")
    },
    reductions={("*", "*"): ReduceSpec()},
)
