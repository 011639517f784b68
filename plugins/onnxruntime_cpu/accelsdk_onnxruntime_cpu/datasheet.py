"""What the arithmetic of onnxruntime on the CPU claims to be, as far as it was measured.

Most functions are unclaimed: their error depends on the processor (onnxruntime has kernels of its
own for AVX2, AVX-512 and NEON), and stays within the default limits. So are reductions: ReduceMax
and ReduceMin lose a NaN in some lanes, which is neither of the behaviours that could be claimed.
"""

from __future__ import annotations

from accelsdk.backend.datasheet import (
    CastSpec,
    FunctionSpec,
    IntSpec,
    MxSpec,
    NumericsDatasheet,
    QuantSpec,
    RequantSpec,
)
from accelsdk.numerics.accumulate import AccumulatorSpec

DATASHEET = NumericsDatasheet(
    # float32 in an order of its own choice; 16-bit operands are cast to float32 before.
    contractions={("*", "*", "*", "*"): AccumulatorSpec(guarantee="at_least")},
    integers={("*", "*", "*", "*"): IntSpec(acc_bits=32, overflow="wrap")},
    # Narrow floats are cast by tables that the exporter writes; the others by onnxruntime.
    casts={
        ("*", "*"): CastSpec(),
        **{("float64", to): CastSpec(via="float32") for to in ("float16", "bfloat16")},
    },
    quantize=QuantSpec(),
    requantize=RequantSpec(arithmetic="float32"),
    mx={("*", "*"): MxSpec(scale_rule="floor")},
    functions={
        # Accurate in absolute terms: 0 for some x of about -18 and less.
        ("Sigmoid", "float32"): FunctionSpec(ulp=2, floor=2),
        # alpha * (exp(x) - 1): 4.05 ULP were seen, the default limit is 4.
        **{(op, "float32"): FunctionSpec(ulp=8, floor=1) for op in ("Selu", "Celu")},
    },
)
