"""Decoding and encoding of narrow formats in standard ONNX ops.

Decoding is a look-up in a table of all codes. Encoding is monotone in the magnitude, so it is
a count of the thresholds that the magnitude reaches; the thresholds, one per code, are found
by bisection over the bit patterns of floats, from the same codec that the kernels use. Both
are exact.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from accelsdk.exchange.emitter import Emitter
from accelsdk.exchange.storage import onnx_type
from accelsdk.formats import E8M0, FLOAT32, FLOAT64, Format, Kind
from accelsdk.numerics import block, codec
from accelsdk.numerics.rounding import Overflow, ScaleMode

#: Bits of +Inf: the magnitudes of a float, infinity included, are the patterns up to it.
_INFINITY = {np.dtype(np.float32): 0x7F800000, np.dtype(np.float64): 0x7FF0000000000000}
#: Up to so many thresholds are compared at once; more are searched in two levels.
_AT_ONCE = 16

Magnitudes = NDArray[Any]
Encode = Callable[[Magnitudes], NDArray[Any]]


def decode(em: Emitter, codes: str, format: Format, wide: bool = False) -> str:
    """Emits the values of codes as FLOAT (as DOUBLE if ``wide``)."""
    dtype = np.float64 if wide else np.float32
    if format.kind is Kind.FIXED:
        values = em.cast(codes, TensorProto.DOUBLE if wide else TensorProto.FLOAT)
        return em.node("Mul", values, em.constant(dtype(2.0**-format.mantissa_bits)))
    every = np.arange(1 << format.bits, dtype=np.uint8).view(format.dtype)
    table = em.constant(codec.decode(every, format, dtype))
    return em.node("Gather", table, em.cast(codes, TensorProto.INT32))


def thresholds(encode: Encode, top: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Returns the smallest magnitude that gives each code 1 .. ``top`` or more.

    Args:
        encode: Codes, as integers, of an array of magnitudes; monotone.
        top: Largest code to look for; codes that are never reached get NaN.
        dtype: float32 or float64: what magnitudes are.
    """
    unsigned = np.dtype(f"u{dtype.itemsize}")
    low = np.zeros(top, unsigned)  # reaches no code, or is the answer itself
    high = np.full(top, _INFINITY[dtype] + 1, unsigned)
    wanted = np.arange(1, top + 1)
    for _ in range(8 * dtype.itemsize):
        middle = low + (high - low) // 2
        infinity = unsigned.type(_INFINITY[dtype])
        reached = encode(np.minimum(middle, infinity).view(dtype)) >= wanted
        reached |= middle > infinity
        high = np.where(reached, middle, high)
        low = np.where(reached, low, np.minimum(middle + 1, high))
    return high.view(dtype)


def count_reached(em: Emitter, x: str, limits: NDArray[Any]) -> str:
    """Emits, as INT64, how many of the sorted ``limits`` each element of ``x`` reaches."""
    column = em.node("Unsqueeze", x, em.ints([-1]))
    if limits.size <= _AT_ONCE:
        return _count(em, column, em.constant(limits))
    group = int(np.ceil(np.sqrt(limits.size + 1)))
    # Pad so that whole groups stand between the coarse limits; NaN is never reached.
    groups = -(-(limits.size + 1) // group)
    padded = np.full(groups * group - 1, np.nan, limits.dtype)
    padded[: limits.size] = limits
    coarse = _count(em, column, em.constant(padded[group - 1 :: group]))
    fine_limits = np.append(padded, padded.dtype.type(np.nan)).reshape(groups, group)[:, :-1]
    row = em.node("Gather", em.constant(np.ascontiguousarray(fine_limits)), coarse)
    whole = em.node("Mul", coarse, em.constant(np.int64(group)))
    return em.node("Add", whole, _count(em, column, row))


def _count(em: Emitter, column: str, limits: str) -> str:
    reached = em.cast(em.node("GreaterOrEqual", column, limits), TensorProto.INT64)
    return em.node("ReduceSum", reached, em.ints([-1]), keepdims=0)


@cache
def _element_thresholds(format: Format, saturate: bool, dtype: np.dtype[Any]) -> NDArray[Any]:
    overflow = Overflow.SATURATE if saturate else Overflow.SPECIAL
    top = (1 << (format.bits - 1)) - 1  # overflow may lead to the code of -0: NaN in FNUZ
    top += not format.has_negative_zero

    def encode(x: Magnitudes) -> NDArray[Any]:
        return codec.encode(x, format, overflow=overflow).view(np.uint8).astype(np.int64)

    found = thresholds(encode, top, dtype)
    reached: NDArray[Any] = found[~np.isnan(found)]
    return reached


def encode(em: Emitter, x: str, format: Format, saturate: bool = True, wide: bool = False) -> str:
    """Emits the codes of FLOAT values (DOUBLE if ``wide``), rounded to nearest even.

    Args:
        em: Where to.
        x: Values.
        format: FP8, FP6, FP4 or MXINT8.
        saturate: Whether overflow gives the largest finite value (else Inf or NaN).
        wide: Whether ``x`` is DOUBLE.
    """
    dtype = np.dtype(np.float64 if wide else np.float32)
    if format.kind is Kind.FIXED:
        scaled = em.node("Mul", x, em.constant(dtype.type(2.0**format.mantissa_bits)))
        return to_integer(em, scaled, format, TensorProto.INT8, dtype)
    sign_bit = np.int64(1 << (format.bits - 1))
    limits = _element_thresholds(format, saturate, dtype)
    code = count_reached(em, em.node("Abs", x), limits)
    # 1/x tells the zeros apart: the sign of -0 is kept.
    zero = em.constant(dtype.type(0))
    negative = em.node("Less", x, zero)
    negative_zero = em.node("Less", em.node("Reciprocal", x), zero)
    negative = em.node("Or", negative, negative_zero)
    if not format.has_negative_zero:
        # Neither 0 nor the one NaN, which has the sign bit already, takes a sign.
        signed = em.node(
            "Greater", em.node("Mod", code, em.constant(sign_bit)), em.constant(np.int64(0))
        )
        negative = em.node("And", negative, signed)
    sign = em.node("Where", negative, em.constant(sign_bit), em.constant(np.int64(0)))
    code = em.node("Add", code, sign)
    nan = codec.encode(np.array([np.nan], np.float32), format).view(np.uint8)[0]
    code = em.node("Where", em.node("IsNaN", x), em.constant(np.int64(nan)), code)
    return em.cast(code, TensorProto.UINT8)


def to_integer(em: Emitter, x: str, format: Format, to: int, dtype: np.dtype[Any]) -> str:
    """Emits round-half-even of ``x``, limited to a format's codes, as an ONNX integer type."""
    scale = 2.0**format.mantissa_bits
    low, high = (em.constant(dtype.type(end * scale)) for end in (format.min, format.max))
    # NaN becomes 0, as in casts.
    finite = em.node("Where", em.node("IsNaN", x), em.constant(dtype.type(0)), x)
    return em.cast(em.node("Clip", em.node("Round", finite), low, high), to)


@cache
def _scale_thresholds(format: Format, rule: str) -> NDArray[Any]:
    def encode(x: Magnitudes) -> NDArray[Any]:
        finite = np.where(np.isfinite(x), x, np.finfo(np.float32).max)
        return block.scale_codes(finite, format, block.ScaleRule(rule)).astype(np.int64)

    return thresholds(encode, 0xFE, np.dtype(np.float32))


def scale_codes(em: Emitter, amax: str, format: Format, rule: str) -> str:
    """Emits the INT64 code of the E8M0 scale for the largest magnitude of each block."""
    limits = _scale_thresholds(format, rule)
    code = count_reached(em, amax, limits[~np.isnan(limits)])
    at_infinity = block.scale_codes(np.array([np.inf], np.float32), format, block.ScaleRule(rule))[
        0
    ]
    infinite = em.constant(np.int64(at_infinity))
    code = em.node("Where", em.node("IsInf", amax), infinite, code)
    return em.node("Where", em.node("IsNaN", amax), em.constant(np.int64(0xFF)), code)


@cache
def _e8m0_thresholds(mode: str, dtype: np.dtype[Any]) -> NDArray[Any]:
    source = FLOAT64 if dtype == np.float64 else FLOAT32

    def encode(x: Magnitudes) -> NDArray[Any]:
        codes = codec.cast(x, source, E8M0, scale_mode=ScaleMode(mode)).view(np.uint8)
        return codes.astype(np.int64)

    return thresholds(encode, 0xFE, dtype)


def encode_scale(em: Emitter, x: str, mode: str, saturate: bool, wide: bool) -> str:
    """Emits E8M0 codes of FLOAT (or DOUBLE) values by an ONNX ``round_mode``."""
    dtype = np.dtype(np.float64 if wide else np.float32)
    code = count_reached(em, x, _e8m0_thresholds(mode, dtype))
    invalid = em.node("Or", em.node("IsNaN", x), em.node("Less", x, em.constant(dtype.type(0))))
    if not saturate:
        lowest, highest = em.constant(dtype.type(E8M0.min)), em.constant(dtype.type(E8M0.max))
        outside = em.node("Or", em.node("Less", x, lowest), em.node("Greater", x, highest))
        invalid = em.node("Or", invalid, outside)
    code = em.node("Where", invalid, em.constant(np.int64(0xFF)), code)
    return em.cast(code, TensorProto.UINT8)


def product(em: Emitter, codes: str, scale: str, to: Format) -> str:
    """Emits the product of two FLOAT values, exact in DOUBLE, rounded once to a 16-bit format.

    Runtimes cast DOUBLE to 16 bits by way of FLOAT, which rounds twice. Whatever FLOAT holds
    takes that way all the same. The rest is no tie, and is rounded before: to the precision of
    the format by Dekker's splitting (Numerische Mathematik 18, 1971), and to whole multiples of
    its smallest number by adding and subtracting a number large enough.
    """
    exact = em.node("Mul", em.cast(codes, TensorProto.DOUBLE), em.cast(scale, TensorProto.DOUBLE))
    single = em.float32(exact)
    lifted = em.node("Mul", exact, em.constant(np.float64(2 ** (53 - to.precision) + 1)))
    split = em.node("Add", em.node("Sub", exact, lifted), lifted)
    large = em.constant(np.float64(1.5 * 2.0**52 * to.smallest_subnormal))
    fixed = em.node("Sub", em.node("Add", exact, large), large)
    tiny = em.node("Less", em.node("Abs", exact), em.constant(np.float64(to.smallest_normal)))
    rounded = em.float32(em.node("Where", tiny, fixed, split))
    held = em.node("Equal", em.cast(single, TensorProto.DOUBLE), exact)
    # Zeros keep their sign that way. A NaN is not equal to itself, and stays one either way.
    held = em.node("Or", held, em.node("Equal", fixed, em.constant(np.float64(0))))
    return em.cast(_selected(em, held, single, rounded), onnx_type(to))


def _selected(em: Emitter, condition: str, first: str, second: str) -> str:
    """Emits a selection that moves: Where of onnxruntime does not keep the sign of every zero."""
    last = em.constant(np.array([-1], np.int64))
    both = em.node("Concat", *(em.node("Unsqueeze", x, last) for x in (second, first)), axis=-1)
    which = em.node("Unsqueeze", em.cast(condition, TensorProto.INT64), last)
    return em.node("Squeeze", em.node("GatherElements", both, which, axis=-1), last)
