"""What the arithmetic of onnxruntime on the CPU claims to be, as far as it was measured.

Functions are unclaimed: their error depends on the processor (onnxruntime has kernels of its own
for AVX2, AVX-512 and NEON). So are reductions: some keep a NaN only if it comes first.
"""

from __future__ import annotations

from accelsdk.backend.datasheet import (
    CastSpec,
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
    casts={("*", "*"): CastSpec()},
    quantize=QuantSpec(),
    requantize=RequantSpec(arithmetic="float32"),
    mx={("*", "*"): MxSpec(scale_rule="floor")},
)
