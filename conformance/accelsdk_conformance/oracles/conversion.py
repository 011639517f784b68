"""What conversions must give: casts, affine quantisation, requantisation, MX blocks.

Sources: ONNX Cast, QuantizeLinear, DequantizeLinear; OCP OFP8 v1.0 and OCP MX v1.0 sections
5 and 6.3; gemmlowp and TOSA RESCALE for fixed-point multipliers. docs/numerics.md has the
rules; these are written from them a second time, apart from the code that devices use.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.errors import InvalidArgument
from accelsdk.formats import E4M3, E8M0, FLOAT32, Format, Kind
from accelsdk.numerics.rounding import Overflow, Rounding
from accelsdk_conformance.oracles.doubled import two_sum
from accelsdk_conformance.oracles.tensor import (
    F64,
    Mask,
    Tensor,
    decode_integers,
    encode,
    from_integers,
    round_whole,
    to_odd,
)

_NAN_SCALE = 0xFF


@dataclass(frozen=True, slots=True, eq=False)
class Converted:
    """Codes that must come out, and where the source leaves the result open.

    Attributes:
        tensor: The codes.
        free: Where any code will do (NaN into a format without NaN, ...).
    """

    tensor: Tensor
    free: Mask


def float32(x: F64) -> F64:
    """Rounds float64 to float32 once; results stay in float64."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return x.astype(np.float32).astype(np.float64)


# -- casts ------------------------------------------------------------------------------------


def cast(
    source: Tensor,
    target: Format,
    *,
    saturate: bool = True,
    scale_mode: str = "up",
    rounding: Rounding = Rounding.NEAREST_EVEN,
    overflow: str = "special",
    inf_to: str = "max",
    via: Format | None = None,
) -> Converted:
    """Converts every code of ``source`` as ONNX Cast does.

    Args:
        source: What is converted.
        target: Format wanted.
        saturate: The op's attribute; it concerns FP8 and narrower targets only.
        scale_mode: The op's ``round_mode``, for E8M0.
        rounding: Declared rounding into float formats.
        overflow: What the declaration makes of finite overflow without saturation.
        inf_to: What it makes of Inf with saturation.
        via: Declared intermediate format (double rounding).
    """
    none = np.zeros(source.shape, bool)
    if source.format == target:
        return Converted(source, none)
    if source.format.is_integer and target.is_integer:
        return Converted(from_integers(source.integers, target), none)
    values = source.values
    if target.kind is Kind.BOOL:
        return Converted(Tensor(target, (values != 0).astype(np.uint8)), none)
    if target.is_integer:
        return _to_integer(values, target)
    if target.kind is Kind.SCALE:
        return _to_scale(values, scale_mode, saturate)
    if via is not None:
        wide = source.format.is_integer and source.format.bits == 64
        source = _to_wide(source, values, via) if wide else encode(values, via, rounding)
        values = source.values
    if target.bits >= 16:
        return Converted(_to_wide(source, values, target), none)
    mode = Overflow.SATURATE if saturate or not target.has_nan else Overflow.SPECIAL
    if not saturate and overflow == "saturate":
        mode = Overflow.SATURATE_FINITE
    if saturate and inf_to == "special" and target.has_nan:
        mode = Overflow.SATURATE_FINITE
    free = np.isnan(values) & (not target.has_nan)
    return Converted(encode(values, target, rounding, mode), free)


def _to_wide(source: Tensor, values: F64, target: Format) -> Tensor:
    if source.format.is_integer and source.format.bits == 64:
        # Two halves of 32 bits are exact, and so is their sum as a double-double.
        upper = source.codes.view(np.int64 if source.format.is_signed else np.uint64) >> 32
        lower = (source.codes & np.uint64(0xFFFFFFFF)).astype(np.float64)
        exact = two_sum(upper.astype(np.float64) * 2.0**32, lower)
        return encode(exact.high, target, low=exact.low)
    return encode(values, target)


def _to_integer(values: F64, target: Format) -> Converted:
    """Truncates; NaN and what does not fit are undefined by ONNX."""
    low = -(2.0 ** (target.bits - 1)) if target.is_signed else 0.0
    high = low + 2.0**target.bits
    with np.errstate(invalid="ignore"):
        whole = np.trunc(values)
        fits = (whole >= low) & (whole < high)
        whole = np.where(whole >= 2.0**63, whole - 2.0**64, whole)  # the same 64 bits
    return Converted(from_integers(np.where(fits, whole, 0.0), target), ~fits)


def _to_scale(values: F64, mode: str, saturate: bool) -> Converted:
    """E8M0 by the table of ONNX Cast-24; negative values and -0 are unspecified."""
    fraction, exponent = np.frexp(np.where(np.isfinite(values), values, 1.0))
    code = exponent.astype(np.int64) + 126
    code += {"up": fraction > 0.5, "down": fraction > 1.0, "nearest": fraction >= 0.75}[mode]
    code = np.where(values > 2.0**127, 0xFE if saturate else _NAN_SCALE, code)
    code = np.where(values < 2.0**-127, 0x00 if saturate else _NAN_SCALE, code)
    code = np.where(np.isnan(values), _NAN_SCALE, code)
    free = np.signbit(values) & ~np.isnan(values)
    return Converted(Tensor(E8M0, code.clip(0, 255).astype(np.uint8)), free)


# -- affine quantisation ----------------------------------------------------------------------


def quantize(
    x: F64,
    scale: F64,
    zero_point: NDArray[np.int64],
    target: Format,
    *,
    saturate: bool = True,
    scaling: str = "divide",
    zero_point_is: str = "after",
    rounding: Rounding = Rounding.NEAREST_EVEN,
    work: Format = FLOAT32,
) -> Converted:
    """Quantises values; scale and zero point already have the shape of ``x``.

    The quotient is rounded to ``work``: the format of the scale, float32 for E8M0 scales (ONNX
    QuantizeLinear-23). Two float64 roundings of it are as good as one: 53 > 2 * 24 + 1 bits.
    """
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        if work != FLOAT32:
            steps = encode(encode(x, work).values / scale, work).values
        elif scaling == "divide":
            steps = float32(float32(x) / scale)
        else:
            inverse = float32(1.0 / scale)
            exact = x * inverse
            steps = exact if zero_point_is == "fma" else float32(exact)
        if target.is_float:
            mode = Overflow.SATURATE if saturate or not target.has_nan else Overflow.SPECIAL
            free = np.isnan(steps) & (not target.has_nan)
            return Converted(encode(steps, target, rounding, mode), free)
        if zero_point_is == "after":
            whole = round_whole(steps, rounding) + zero_point
        else:
            whole = round_whole(float32(steps + zero_point), rounding)
    low = -(1 << (target.bits - 1)) if target.is_signed else 0
    clipped = np.clip(np.where(np.isnan(whole), 0.0, whole), low, low + (1 << target.bits) - 1)
    return Converted(from_integers(clipped, target), np.isnan(whole))


def dequantize(codes: Tensor, scale: F64, zero_point: NDArray[np.int64], target: Format) -> Tensor:
    """Returns ``(q - zero_point) * scale`` rounded once; shapes as in `quantize`."""
    if codes.format.is_integer:
        steps = (codes.integers - zero_point).astype(np.float64)
    else:
        steps = codes.values
    with np.errstate(invalid="ignore", over="ignore"):
        product = steps * scale
    return encode(product, target)


# -- requantisation ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Requantized:
    """Codes, and the other neighbour where float arithmetic may legally reach it."""

    tensor: Tensor
    other: Tensor


def requantize(
    acc: NDArray[np.int64],
    multiplier: F64,
    shift: NDArray[np.int64] | None,
    zero_point: NDArray[np.int64],
    target: Format,
    *,
    bias: NDArray[np.int64] | None = None,
    arithmetic: str = "float32",
    relu: bool = False,
    work: str = "float32",
    rounding: Rounding = Rounding.NEAREST_EVEN,
    clamp: bool = True,
) -> Requantized:
    """Scales 32-bit accumulators to 8 bits.

    Args:
        acc: Accumulators.
        multiplier: Real factor (float32), or the Q31 integer of the fixed arithmetics.
        shift: Right shift of the fixed arithmetics, 2 to 62.
        zero_point: Added after rounding.
        target: int8 or uint8.
        bias: Added to the accumulator, wrapping at 32 bits.
        arithmetic: ``float32``, ``fixed_single`` or ``fixed_double``.
        relu: Whether results below the zero point become the zero point.
        work: Declared arithmetic of real factors: ``float32``, ``float64``, ``fixed_single``,
            ``fixed_double`` or ``inexact``.
        rounding: Declared rounding of real factors.
        clamp: Whether codes saturate, or wrap.
    """
    if bias is not None:
        acc = ((acc + bias + 2**31) % 2**32) - 2**31
    settled: NDArray[Any]
    other: NDArray[Any]
    if arithmetic == "float32":
        settled, other = _scaled(acc, multiplier, work, rounding)
    elif shift is not None and arithmetic in ("fixed_single", "fixed_double"):
        # Still integers: where codes wrap, the last bits of the largest count.
        settled = other = _fixed(acc, multiplier.astype(np.int64), shift, arithmetic)
    else:
        raise InvalidArgument(f"no requantise arithmetic {arithmetic!r}")
    return Requantized(
        _place(settled, zero_point, target, relu, clamp),
        _place(other, zero_point, target, relu, clamp),
    )


def _scaled(
    acc: NDArray[np.int64], multiplier: F64, work: str, rounding: Rounding
) -> tuple[F64, F64]:
    """Returns sums times real factors as whole numbers, and what else they may become.

    Float arithmetic errs by two roundings; where that may reach the other side of a rounding
    boundary, both sides are right. Results so large that this is more than a step saturate.
    """
    if work.startswith("fixed"):
        # 24 bits fit a Q31 multiplier: the factor is converted without a loss.
        mantissa, exponent = np.frexp(multiplier)
        whole = _fixed(acc, np.ldexp(mantissa, 31).astype(np.int64), 31 - exponent, work)
        return whole.astype(np.float64), whole.astype(np.float64)
    exact = acc.astype(np.float64) * multiplier  # 31 + 24 bits: the last two may be lost
    if work == "inexact":
        return np.floor(exact), np.ceil(exact)
    ulp = 2.0**-24 if work == "float32" else 2.0**-53
    room = np.where(
        (np.abs(acc) < 2**24) & (np.frexp(multiplier)[0] == 0.5), 0.0, 4 * ulp * np.abs(exact)
    )
    low, high = round_whole(exact - room, rounding), round_whole(exact + room, rounding)
    return low, np.where(room > 0, high, low)


def _fixed(
    acc: NDArray[np.int64], multiplier: NDArray[np.int64], shift: NDArray[np.int64], how: str
) -> NDArray[np.int64]:
    half = np.int64(1) << (shift - 1)
    if how == "fixed_double":
        half = half + np.where(shift > 31, np.where(acc >= 0, 1 << 30, -(1 << 30)), 0)
    product: NDArray[np.int64] = (acc * multiplier + half) >> shift
    return product


def _place(
    steps: NDArray[Any], zero_point: NDArray[np.int64], target: Format, relu: bool, clamp: bool
) -> Tensor:
    low = -(1 << (target.bits - 1)) if target.is_signed else 0
    high = low + (1 << target.bits) - 1
    if not clamp:
        codes = (steps + zero_point - low) % (high - low + 1) + low
        return from_integers(np.maximum(codes, zero_point) if relu else codes, target)
    floor = np.maximum(zero_point, low) if relu else low
    return from_integers(np.clip(steps + zero_point, floor, high), target)


# -- MX blocks --------------------------------------------------------------------------------


def blocks(x: F64, axis: int, size: int) -> tuple[F64, Callable[[F64], F64]]:
    """Groups an axis into blocks of ``size``, the last one short and padded with zeros.

    Returns:
        An array [..., blocks, size] with the axis moved last, and a function that turns such
        an array back into the shape of ``x``.
    """
    moved = np.moveaxis(x, axis, -1)
    extent = moved.shape[-1]
    count = -(-extent // size)
    padded = np.zeros((*moved.shape[:-1], count * size), moved.dtype)
    padded[..., :extent] = moved
    grouped = padded.reshape(*moved.shape[:-1], count, size)

    def restore(grid: F64) -> F64:
        flat = grid.reshape(*moved.shape[:-1], count * size)[..., :extent]
        return np.moveaxis(flat, -1, axis)

    return grouped, restore


def scale_exponent(amax: F64, element: Format, rule: str) -> NDArray[np.int64]:
    """Returns the exponent of the shared scale of positive finite ``amax``, unclamped.

    ``floor`` is OCP MX v1.0 section 6.3; the others are published variants (docs/numerics.md).
    """
    fraction, exponent = np.frexp(amax)
    mantissa, exponent = fraction * 2, exponent.astype(np.int64) - 1 - element.emax
    largest = element.max / 2.0**element.emax
    half_step = 2.0 ** -(element.mantissa_bits + 1)
    beyond = largest + half_step  # the mantissa from which rounding would overflow
    match rule:
        case "floor":
            return exponent
        case "ceil":
            return exponent + (mantissa > 1)
        case "even":
            return exponent + (mantissa >= 2 - half_step)
        case "rceil":
            return exponent + (mantissa > largest)
        case "tosa":
            # E4M3 ends below its binade's end, so its midpoint still rounds down to the max.
            over = mantissa > beyond if element == E4M3 else mantissa >= beyond
            return exponent + over
        case "rceil_reciprocal":
            ratio = float32(amax * float32(np.array(1.0 / element.max)))
            fraction, upper = np.frexp(ratio)
            return np.where(ratio > 0, upper.astype(np.int64) - (fraction == 0.5), -1000)
    raise InvalidArgument(f"no MX scale rule {rule!r}")


def block_scales(
    x: F64, element: Format, rule: str, *, inf_rule: str = "nan", flush: bool = False
) -> NDArray[np.int64]:
    """Returns the E8M0 code of each block of ``x[..., blocks, size]``."""
    if flush:
        x = np.where(np.abs(x) < 2.0**-126, 0.0, x)
    special = ~np.isfinite(x)
    amax = np.abs(np.where(special, 0.0, x)).max(axis=-1, initial=0.0)
    safe = np.where(amax > 0, amax, 1.0)
    code = np.clip(scale_exponent(safe, element, rule), -127, 127) + 127
    code = np.where(amax > 0, code, 0)
    infinite = np.isinf(x).any(axis=-1)
    code = np.where(infinite, _NAN_SCALE if inf_rule == "nan" else 0xFE, code)
    return np.where(np.isnan(x).any(axis=-1), _NAN_SCALE, code)


def block_elements(x: F64, scales: NDArray[np.int64], element: Format) -> Tensor:
    """Returns the element codes of ``x[..., blocks, size]`` under the given scale codes."""
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = np.ldexp(x, (127 - scales)[..., None])
    return encode(scaled, element, overflow=Overflow.SATURATE)


def dequantize_block(elements: F64, scales: NDArray[np.int64], target: Format) -> Converted:
    """Returns ``P * 2**(scale - 127)``; free where it exceeds the largest float32."""
    with np.errstate(over="ignore", invalid="ignore"):
        value = np.ldexp(elements, (scales - 127)[..., None])
    value = np.where((scales == _NAN_SCALE)[..., None], np.nan, value)
    free = np.isfinite(value) & (np.abs(value) > target.max)
    return Converted(encode(value, target), free)


def integers(tensor: Tensor) -> NDArray[np.int64]:
    """Returns the integers of a tensor (for zero points and accumulators)."""
    return decode_integers(tensor.codes, tensor.format)


__all__ = [
    "Converted",
    "Requantized",
    "block_elements",
    "block_scales",
    "blocks",
    "cast",
    "dequantize",
    "dequantize_block",
    "float32",
    "integers",
    "quantize",
    "requantize",
    "scale_exponent",
    "to_odd",
]
