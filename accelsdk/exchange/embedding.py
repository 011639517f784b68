"""Bodies, in standard ONNX ops, of the sums of embedding rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import TensorProto

from accelsdk import formats as f
from accelsdk.exchange.emitter import Emitter
from accelsdk.exchange.storage import onnx_type
from accelsdk.graph.decompose.common import whole
from accelsdk.graph.graph import Node
from accelsdk.graph.opdef import required


def sparse_lengths_sum(em: Emitter, node: Node, names: Sequence[str]) -> Sequence[str]:
    """Emits SparseLengthsSum and SparseLengthsSumFused."""
    if not required(node, 1).type.count:
        # onnxruntime cannot scatter nothing.
        return (em.constant(np.zeros(node.result.shape), node.result.format),)
    working = f.FLOAT32 if node.result.format != f.FLOAT64 else f.FLOAT64
    rows = em.node("Gather", names[0], names[1])
    if node.op == "SparseLengthsSumFused":
        rows = _unfused(em, node, rows)
    rows = em.cast(rows, onnx_type(working))
    if node.operand(3) is not None:
        weights = em.node("Unsqueeze", names[3], em.ints([-1]))
        rows = em.node("Mul", rows, em.cast(weights, onnx_type(working)))
    ends = em.node("CumSum", em.cast(names[2], TensorProto.INT64), em.constant(np.int64(0)))
    lookups = required(node, 1).type.count
    place = em.constant(np.arange(lookups, dtype=np.int64).reshape(-1, 1))
    # The bag of a lookup is the number of bags that end at it or before.
    ended = em.cast(em.node("GreaterOrEqual", place, ends), TensorProto.INT64)
    bag = em.node("ReduceSum", ended, em.ints([-1]), keepdims=1)
    empty = em.constant(np.zeros(node.result.shape, working.dtype))
    y = em.node("ScatterND", empty, bag, rows, reduction="add")
    return (em.cast(y, onnx_type(node.result.format)),)


def _unfused(em: Emitter, node: Node, rows: str) -> str:
    """Emits the values of fused rows: codes, then little-endian scale and bias."""
    bits, columns = whole(node, "bits"), whole(node, "columns")
    packed = -(-columns * bits // 8)
    width = 4 if bits == 8 else 2
    parts = em.ints([packed, width, width])
    row, scale, bias = (em.fresh("part") for _ in range(3))
    em.emit("Split", (rows, parts), (row, scale, bias), {"axis": 1})
    wide = em.cast(row, TensorProto.INT32)
    if bits < 8:
        shifts = em.constant((1 << bits * np.arange(8 // bits)).astype(np.int32))
        lanes = em.node("Div", em.node("Unsqueeze", wide, em.ints([-1])), shifts)
        lanes = em.node("Mod", lanes, em.constant(np.int32(1 << bits)))
        lookups = required(node, 1).type.count
        flat = em.node("Reshape", lanes, em.ints([lookups, packed * (8 // bits)]), allowzero=1)
        wide = em.node("Slice", flat, em.ints([0]), em.ints([columns]), em.ints([1]))
    scaled = em.node("Mul", em.float32(wide), _little_endian(em, scale, width))
    return em.node("Add", scaled, _little_endian(em, bias, width))


def _little_endian(em: Emitter, raw: str, width: int) -> str:
    """Emits the float32 (4 bytes) or float16 (2 bytes) number in each row, as FLOAT.

    ONNX 23 has no bit cast: the number is put together from sign, exponent and mantissa,
    which is exact.
    """
    exponent_bits, mantissa_bits, bias = (8, 23, 127) if width == 4 else (5, 10, 15)
    places = em.constant(np.int64(1) << (8 * np.arange(width, dtype=np.int64)))
    pattern = em.node("Mul", em.cast(raw, TensorProto.INT64), places)
    pattern = em.node("ReduceSum", pattern, em.ints([1]), keepdims=1)

    def field(start: int, length: int) -> str:
        shifted = em.node("Div", pattern, em.constant(np.int64(1 << start)))
        return em.node("Mod", shifted, em.constant(np.int64(1 << length)))

    mantissa, exponent = field(0, mantissa_bits), field(mantissa_bits, exponent_bits)
    codes_of_exponent = np.arange(1 << exponent_bits)
    scales = np.ldexp(1.0, np.maximum(codes_of_exponent, 1) - bias - mantissa_bits)
    scales[-1] = np.inf
    hidden = np.where(codes_of_exponent > 0, float(1 << mantissa_bits), 0.0)
    significand = em.cast(mantissa, TensorProto.DOUBLE)
    significand = em.node("Add", significand, em.node("Gather", em.constant(hidden), exponent))
    magnitude = em.node("Mul", significand, em.node("Gather", em.constant(scales), exponent))
    # All-ones exponents are Inf if the mantissa is zero, else NaN.
    beyond = em.node("Equal", exponent, em.constant(np.int64((1 << exponent_bits) - 1)))
    nan = em.node("And", beyond, em.node("Greater", mantissa, em.constant(np.int64(0))))
    magnitude = em.node("Where", nan, em.constant(np.float64(np.nan)), magnitude)
    signs = em.constant(np.array([1.0, -1.0]))
    sign = em.node("Gather", signs, field(mantissa_bits + exponent_bits, 1))
    return em.float32(em.node("Mul", magnitude, sign))
