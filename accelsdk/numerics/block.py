"""Microscaling (MX): blocks of elements that share one E8M0 scale.

OCP MX v1.0 sections 5 and 6.3 and arXiv 2310.10537 Algorithm 1 define the format and the
``FLOOR`` rule; the other scale rules are those of the implementations named at ``ScaleRule``.
Every exponent comes from the bits of the number, never from a floating-point logarithm, which
rounds up just below a power of two.

A block is ``block_size`` consecutive elements along one axis; the last block may be short, and
then has the scale and elements of the same block padded with zeros.
"""

from __future__ import annotations

import math
from enum import StrEnum
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.errors import InvalidArgument
from accelsdk.formats import E4M3, E8M0, FLOAT32, MX_ELEMENTS, MXINT8, Format
from accelsdk.numerics import bitround, codec
from accelsdk.numerics.rounding import Overflow, Rounding, ScaleMode

NAN_SCALE = 0xFF
TOP_SCALE = 0xFE


class ScaleRule(StrEnum):
    """How the largest magnitude of a block gives the scale; L is its exact log2.

    The scale exponent is limited to -127 .. 127, and elements are divided by the limited one.
    """

    FLOOR = "floor"  # floor(L) - emax: OCP MX, microxcaling, gfloat, torchao
    CEIL = "ceil"  # ceil(L) - emax: torchao, FBGEMM MX4
    EVEN = "even"  # amax rounded half up to the element's precision, then floor: torchao
    RCEIL = "rceil"  # ceil(log2(float32(amax / max))): NVIDIA recipe, torchao
    RCEIL_RECIPROCAL = "rceil_reciprocal"  # same of float32(amax * float32(1 / max))
    TOSA = "tosa"  # the smallest scale at which no finite element saturates: TOSA 1.1


class InfRule(StrEnum):
    """What an infinity does to its block; OCP MX leaves it open."""

    NAN = "nan"  # the scale becomes NaN: microxcaling, TOSA
    SATURATE = "saturate"  # it scales like 2**128, and becomes the largest element: torchao


#: What the publisher of each rule does with an infinity.
_INF_RULES = {
    ScaleRule.FLOOR: InfRule.NAN,
    ScaleRule.TOSA: InfRule.NAN,
    ScaleRule.CEIL: InfRule.SATURATE,
    ScaleRule.EVEN: InfRule.SATURATE,
    ScaleRule.RCEIL: InfRule.SATURATE,
    ScaleRule.RCEIL_RECIPROCAL: InfRule.SATURATE,
}


def scale_codes(
    amax: NDArray[np.float32], fmt: Format, rule: ScaleRule, inf: InfRule | None = None
) -> NDArray[np.uint8]:
    """Returns the E8M0 code of each block from its largest magnitude.

    NaN gives 0xFF, zero 0x00; finite values never give 0xFF, MXINT8 included (whose rules other
    than FLOOR reach 2**128 and are limited to 0xFE).

    Args:
        amax: Largest magnitude of each block, any shape; float32 subnormals are numbers.
        fmt: Element format.
        rule: How the scale follows from it.
        inf: Treatment of an infinite ``amax``; None is what the rule's publisher does.
    """
    amax = np.asarray(amax, np.float32)
    inf = inf or _INF_RULES[rule]
    if fmt.is_float and rule not in (ScaleRule.RCEIL, ScaleRule.RCEIL_RECIPROCAL):
        codes = np.empty(amax.shape, np.uint8)
        codec.look_up(amax, _scale_table(fmt, rule, inf), codes)
        return codes
    return _scale_codes(amax, fmt, rule, inf)


@cache
def _scale_table(fmt: Format, rule: ScaleRule, inf: InfRule) -> NDArray[np.uint8]:
    """Codes by the sticky upper half of ``amax``.

    Rules that work on the exponent compare the mantissa with a number of at most 4 bits, to
    which the sticky upper half has the same relation as the whole (MXINT8 has 7 bits, and the
    RCEIL rules divide in float32: not for them).
    """
    upper = np.arange(1 << 16, dtype=np.uint32) << np.uint32(16)
    magnitude = upper & np.uint32(0x7FFFFFFF)
    table = _scale_codes(magnitude.view(np.float32), fmt, rule, inf)
    table.setflags(write=False)
    return table


def _scale_codes(
    amax: NDArray[np.float32], fmt: Format, rule: ScaleRule, inf: InfRule
) -> NDArray[np.uint8]:
    if rule in (ScaleRule.RCEIL, ScaleRule.RCEIL_RECIPROCAL):
        codes = _rceil(amax, fmt, rule)
    else:
        codes = _by_exponent(amax, fmt, rule)
    if inf is InfRule.NAN:
        codes[np.isinf(amax)] = NAN_SCALE
    return codes


def _rceil(amax: NDArray[np.float32], fmt: Format, rule: ScaleRule) -> NDArray[np.uint8]:
    top = np.float32(fmt.max)
    with np.errstate(under="ignore", invalid="ignore"):
        if rule is ScaleRule.RCEIL:
            ratio = np.asarray(amax / top)
        else:
            ratio = np.asarray(amax * (np.float32(1) / top))
    return bitround.encode_e8m0(bitround.widen(ratio), ScaleMode.UP, saturate=True)


def _by_exponent(amax: NDArray[np.float32], fmt: Format, rule: ScaleRule) -> NDArray[np.uint8]:
    # In float64 every float32 is normal: its exponent field is floor(log2) + 1023.
    bits = np.asarray(bitround.widen(amax)).view(np.uint64)
    mantissa = bits & np.uint64((1 << 52) - 1)
    code = (bits >> np.uint64(52)).astype(np.int64) - 1023 - fmt.emax + E8M0.bias
    match rule:
        case ScaleRule.CEIL:
            code += mantissa != 0
        case ScaleRule.EVEN:
            code += mantissa >= _fraction(2.0 - 2.0 ** -(fmt.mantissa_bits + 1))
        case ScaleRule.TOSA:
            half_ulp = 2.0 ** (fmt.emax - fmt.mantissa_bits - 1)
            threshold = _fraction((fmt.max + half_ulp) / 2.0**fmt.emax)
            # E4M3 ties at the threshold round down to max; the others would round up.
            code += mantissa > threshold if fmt is E4M3 else mantissa >= threshold
    limited = np.clip(code, 0, TOP_SCALE)
    # An infinity keeps the code of 2**128, which is what SATURATE means by it.
    infinite = np.clip(128 - fmt.emax + E8M0.bias, 0, TOP_SCALE)
    limited = np.where(np.isinf(amax), infinite, limited)
    return np.where(np.isnan(amax), NAN_SCALE, limited).astype(np.uint8)


def _fraction(significand: float) -> np.uint64:
    """Mantissa field of a float64 significand in [1, 2)."""
    return np.uint64((significand - 1.0) * 2.0**52)


@cache
def _powers(sign: int) -> NDArray[np.float32]:
    """``2**(sign * (code - 127))`` for each E8M0 code; all are float32 numbers, or NaN."""
    values = [math.ldexp(1.0, sign * (code - E8M0.bias)) for code in range(NAN_SCALE)]
    return np.array([*values, math.nan], np.float32)


def quantize_block(
    x: NDArray[Any],
    fmt: Format,
    axis: int = -1,
    block_size: int = 32,
    rule: ScaleRule = ScaleRule.FLOOR,
    rounding: Rounding = Rounding.NEAREST_EVEN,
    int8_symmetric: bool = False,
    inf: InfRule | None = None,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Quantises a tensor to blocks with shared scales.

    Each element is ``x / scale`` rounded once, saturated to the largest finite element; zeros
    keep their sign. Where a scale is NaN (0xFF) the elements of the block mean nothing.

    Args:
        x: float32, float16 or bfloat16 values of any shape with at least one dimension.
        fmt: One of ``formats.MX_ELEMENTS``.
        axis: The axis that blocks lie along.
        block_size: Elements of a block; the last block of an axis may be short.
        rule: How a block's largest magnitude gives its scale.
        rounding: Rounding of the elements; OCP MX requires nearest even.
        int8_symmetric: Leaves -2.0, the lowest MXINT8 code, unused.
        inf: Treatment of infinities; None is what the rule's publisher does.

    Returns:
        The elements, of ``x``'s shape in ``fmt.dtype``, and the scales, of the same shape but
        ``ceil(length / block_size)`` along the axis, in E8M0's dtype.

    Raises:
        InvalidArgument: The format, axis, block size or dtype of ``x`` is not as above.
    """
    if fmt not in MX_ELEMENTS:
        known = ", ".join(row.name for row in MX_ELEMENTS)
        raise InvalidArgument(f"{fmt} is not an MX element format", remedy=f"use one of {known}")
    values = _as_float32(np.asarray(x))
    axis = _axis(values.shape, axis, block_size)
    shape = values.shape
    padded = _pad(np.ascontiguousarray(values), axis, block_size)
    blocks = padded.reshape(_block_shape(padded.shape, axis, block_size))
    elements = np.empty(blocks.shape, np.uint8)
    scales = np.empty((blocks.shape[0], blocks.shape[2]), np.uint8)
    step = max(1, codec.BLOCK // max(1, blocks[:1].size))
    for start in range(0, blocks.shape[0], step):
        part = slice(start, start + step)
        scales[part] = scale_codes(_amax(blocks[part]), fmt, rule, inf)
        _encode(blocks[part], scales[part], fmt, rounding, int8_symmetric, elements[part])
    whole = elements.reshape(padded.shape)
    if padded.shape != shape:
        whole = np.ascontiguousarray(whole[tuple(slice(0, extent) for extent in shape)])
    scale_shape = (*shape[:axis], padded.shape[axis] // block_size, *shape[axis + 1 :])
    return whole.view(fmt.dtype), scales.reshape(scale_shape).view(E8M0.dtype)


def _as_float32(x: NDArray[Any]) -> NDArray[np.float32]:
    if x.dtype.itemsize > 4 or x.dtype.kind not in "fV":
        raise InvalidArgument(
            f"cannot quantise {x.dtype} to blocks", remedy="pass float32, float16 or bfloat16"
        )
    with np.errstate(invalid="ignore"):  # signalling NaN
        return x.astype(np.float32, copy=False)


def _axis(shape: tuple[int, ...], axis: int, block_size: int) -> int:
    if not -len(shape) <= axis < len(shape):
        raise InvalidArgument(f"axis {axis} is not an axis of shape {shape}")
    if block_size < 1:
        raise InvalidArgument(f"block size {block_size}", remedy="use 1 or more (OCP MX: 32)")
    return axis % len(shape)


def _pad(x: NDArray[Any], axis: int, block_size: int) -> NDArray[Any]:
    short = -x.shape[axis] % block_size
    if not short:
        return x
    widths = [(0, short if dim == axis else 0) for dim in range(x.ndim)]
    return np.pad(x, widths)


def _block_shape(shape: tuple[int, ...], axis: int, block_size: int) -> tuple[int, int, int]:
    """(blocks outside the axis x blocks along it, block, everything inside the axis)."""
    outer = math.prod(shape[:axis]) * (shape[axis] // block_size)
    return outer, block_size, math.prod(shape[axis + 1 :])


def _amax(blocks: NDArray[np.float32]) -> NDArray[np.float32]:
    """Largest magnitudes as float32: the bits of magnitudes order like integers, NaN last."""
    count, size, inner = blocks.shape
    magnitude = codec.scratch("magnitude", np.uint32, blocks.size).reshape(blocks.shape)
    np.bitwise_and(blocks.view(np.uint32), np.uint32(0x7FFFFFFF), out=magnitude)
    if inner == 1 and count:
        starts = np.arange(0, count * size, size)
        return np.maximum.reduceat(magnitude.reshape(-1), starts).view(np.float32)[:, None]
    return np.asarray(magnitude.max(axis=1)).view(np.float32)


def _encode(
    blocks: NDArray[np.float32],
    scales: NDArray[np.uint8],
    fmt: Format,
    rounding: Rounding,
    symmetric: bool,
    out: NDArray[np.uint8],
) -> None:
    factors = _powers(-1).take(scales)[:, None, :]
    nearest = rounding in (Rounding.NEAREST_EVEN, Rounding.NEAREST_AWAY, Rounding.TOWARD_ZERO)
    with np.errstate(invalid="ignore", under="ignore", over="ignore"):
        # In float32 a quotient is exact unless it is subnormal. Then it is far below half the
        # smallest element, so that only the directed modes can tell: they get float64.
        if nearest:
            scaled = codec.scratch("scaled", np.float32, blocks.size).reshape(blocks.shape)
            np.multiply(blocks, factors, out=scaled)
        else:
            scaled = blocks * factors.astype(np.float64)
    if fmt is MXINT8:
        out[...] = _encode_int8(scaled, rounding, symmetric)
    elif nearest:
        codec.look_up(scaled, codec.encode_table(fmt, rounding, Overflow.SATURATE), out)
    else:
        out[...] = codec.encode(scaled, fmt, rounding).view(np.uint8)


def _encode_int8(scaled: NDArray[Any], rounding: Rounding, symmetric: bool) -> NDArray[np.uint8]:
    low = -127 if symmetric else -128
    if rounding is not Rounding.NEAREST_EVEN:
        codes: NDArray[np.int8] = bitround.encode_integer(scaled, MXINT8, rounding)
        np.maximum(codes, np.int8(low), out=codes)
        return codes.view(np.uint8)
    scaled *= np.float32(1 << MXINT8.mantissa_bits)
    np.rint(scaled, out=scaled)
    np.clip(scaled, low, 127, out=scaled)
    with np.errstate(invalid="ignore"):  # NaN blocks: their elements mean nothing
        return scaled.astype(np.int8).view(np.uint8)


def dequantize_block(
    elements: NDArray[Any],
    fmt: Format,
    scales: NDArray[Any],
    axis: int = -1,
    block_size: int = 32,
    out: Format = FLOAT32,
) -> NDArray[Any]:
    """Returns the values of blocks: element times scale, rounded once to ``out``.

    The product is exact in float32 unless it exceeds the largest float32, where OCP MX leaves
    the result open; here it is infinite. A NaN scale makes every value of its block NaN.

    Args:
        elements: Elements in ``fmt.dtype``, of any shape with at least one dimension.
        fmt: Format of the elements.
        scales: E8M0 scales, of the shape that ``quantize_block`` returns.
        axis: The axis that blocks lie along.
        block_size: Elements of a block; the last block of an axis may be short.
        out: Float format of the result.

    Raises:
        InvalidArgument: Shapes do not fit together.
    """
    axis = _axis(elements.shape, axis, block_size)
    length = elements.shape[axis]
    expected = (*elements.shape[:axis], -(-length // block_size), *elements.shape[axis + 1 :])
    if scales.shape != expected:
        raise InvalidArgument(
            f"scales of shape {scales.shape} for elements of shape {elements.shape}",
            remedy=f"blocks of {block_size} along axis {axis} take scales of shape {expected}",
        )
    factors = _powers(1)[np.ascontiguousarray(scales).view(np.uint8)]
    values = codec.decode(elements, fmt)
    with np.errstate(over="ignore", invalid="ignore"):
        if length % block_size:
            values *= np.repeat(factors, block_size, axis)[(slice(None),) * axis + (slice(length),)]
        else:
            blocks = values.reshape(_block_shape(values.shape, axis, block_size))
            blocks *= factors.reshape(blocks.shape[0], 1, blocks.shape[2])
    return values if out is FLOAT32 else codec.encode(values, out, overflow=Overflow.SPECIAL)
