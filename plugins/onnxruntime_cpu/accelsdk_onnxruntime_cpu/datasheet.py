"""What the arithmetic of onnxruntime on the CPU claims to be, as far as it was measured.

Most functions are unclaimed: their error depends on the processor (onnxruntime has kernels of its
own for AVX2, AVX-512 and NEON), and stays within the default limits. So are most reductions:
ReduceMax and ReduceMin lose a NaN in some lanes, which is neither of the behaviours that could be
claimed.
"""

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

#: Wider than the significand of float32, through which they are cast.
_INTEGERS = ("int64", "int32", "uint64", "uint32")

DATASHEET = NumericsDatasheet(
    # float32 in an order of its own choice; 16-bit operands are cast to float32 before.
    contractions={("*", "*", "*", "*"): AccumulatorSpec(guarantee="at_least")},
    integers={("*", "*", "*", "*"): IntSpec(acc_bits=32, overflow="wrap")},
    # Narrow floats are cast by tables that the exporter writes; the others by onnxruntime.
    casts={
        ("*", "*"): CastSpec(),
        ("float64", "float16"): CastSpec(via="float32"),
        **{(source, "bfloat16"): CastSpec(via="float32") for source in ("float64", *_INTEGERS)},
    },
    quantize=QuantSpec(),
    requantize=RequantSpec(arithmetic="float32"),
    mx={("*", "*"): MxSpec(scale_rule="floor")},
    functions={
        # Accurate in absolute terms: 0 for some x of about -18 and less.
        **{("Sigmoid", real): FunctionSpec(ulp=2, floor=2) for real in ("float32", "float64")},
        # alpha * (exp(x) - 1): 4.05 ULP were seen, the default limit is 4.
        **{(op, "float32"): FunctionSpec(ulp=8, floor=1) for op in ("Selu", "Celu")},
    },
    # onnxruntime/core/providers/cpu/nn/instance_norm.cc: x * channel_scale + channel_shift.
    reductions={("InstanceNormalization", "*"): ReduceSpec(normalization="folded")},
)
