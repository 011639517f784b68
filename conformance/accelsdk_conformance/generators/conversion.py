"""Casts, affine quantisation, requantisation and MX blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.backend.datasheet import CastSpec, QuantSpec
from accelsdk.formats import (
    FLOAT32,
    FLOAT64,
    INT32,
    Format,
    Kind,
    by_name,
)
from accelsdk.numerics.rounding import Rounding
from accelsdk_conformance.case import Case
from accelsdk_conformance.generators import data
from accelsdk_conformance.oracles import conversion as oracle
from accelsdk_conformance.oracles.tensor import (
    F64,
    Tensor,
    code_dtype,
    encode,
    from_integers,
)
from accelsdk_conformance.problem import (
    Context,
    Problem,
    always,
    expect_exact,
)


def cast(case: Case, context: Context) -> Problem:
    """Every code, every boundary and every tie of one conversion."""
    source, target = data.format_of(case, 0), data.format_of(case, 1)
    attributes: dict[str, Any] = {"to": target.name, **case.parameters}
    tensor = _cast_data(source, target, data.rng(case, context))
    spec = context.datasheet.cast(source.name, target.name)
    how = spec or CastSpec()
    converted = oracle.cast(
        tensor,
        target,
        saturate=bool(attributes.get("saturate", 1)),
        scale_mode=str(attributes.get("round_mode", "up")),
        rounding=Rounding(how.rounding),
        overflow=how.overflow,
        inf_to=how.inf_to,
        via=by_name(how.via) if how.via else None,
    )
    claim = f"casts[{source}, {target}]" if spec else ""
    expected = expect_exact(converted.tensor, free=converted.free, claim=claim)
    return Problem(op="Cast", operands=(tensor,), attributes=attributes, oracle=always(expected))


def _cast_data(source: Format, target: Format, rng: np.random.Generator) -> Tensor:
    tensor = data.samples(source, rng)
    if source.bits <= 16 or not source.is_float:
        return tensor
    parts: list[F64] = []
    if target.is_float and target.bits <= 16:
        parts += [data.boundaries(target, source), data.ties(target, source)]
    if source == FLOAT64:
        parts += [_float64_ties(target)]
    if target.kind is Kind.SCALE:
        powers = np.ldexp(1.0, np.arange(-149, 128))
        parts += [data.with_neighbours(encode(powers * m, source).values, source) for m in (1, 1.5)]
    if target.is_integer:
        halves = np.arange(-300, 301) / 2
        limits = np.array([target.min, target.max])
        parts += [halves, encode(limits, source).values]
    codes = [encode(part, source).codes for part in parts]
    return Tensor(source, np.concatenate([tensor.codes, *codes]))


def _float64_ties(target: Format) -> F64:
    """Values that a detour through float32 rounds to a tie first: 1.0625 + 2**-40, ..."""
    if not target.is_float or target.bits > 32:
        return np.array([0.0])
    step = 2.0 ** -(target.mantissa_bits + 1)
    odd = 1 + step * np.arange(1, 8, 2)
    return data.both_signs(np.concatenate([odd + 2.0**-40, odd - 2.0**-40, odd]))


# -- affine -----------------------------------------------------------------------------------


def quantize(case: Case, context: Context) -> Problem:
    """Ties, limits and noise under one granularity: tensor, channel, block or short tail."""
    target = data.format_of(case, 0)
    mode = str(case.parameters["scales"])
    rng = data.rng(case, context)
    shape, axis, block = _GRANULARITY[mode]
    scale, wide = _scales(mode, shape, axis, block, rng)
    zero = None if mode == "symmetric" else _zero_points(target, scale.shape, rng)
    points = _spread(zero.integers if zero else np.zeros(scale.shape, np.int64), mode, shape)
    x = _quantize_data(shape, wide, target, rng)
    spec = context.datasheet.quantize
    how = spec or QuantSpec()
    saturate = bool(case.parameters.get("saturate", 1))
    converted = oracle.quantize(
        x.values,
        wide,
        points,
        target,
        saturate=saturate,
        scaling=how.scaling,
        zero_point_is=how.zero_point,
        rounding=Rounding(how.rounding),
    )
    attributes: dict[str, Any] = {
        "to": target.name,
        "axis": axis,
        "block_size": block,
        "saturate": int(saturate),
    }
    expected = expect_exact(converted.tensor, free=converted.free, claim="quantize" if spec else "")
    return Problem(
        op="Quantize", operands=(x, scale, zero), attributes=attributes, oracle=always(expected)
    )


#: Shape of the tensor, axis and block size of each granularity.
_GRANULARITY: dict[str, tuple[tuple[int, ...], int, int]] = {
    "tensor": ((8, 512), 1, 0),
    "power2": ((8, 512), 1, 0),
    "symmetric": ((8, 512), 1, 0),
    "channel0": ((7, 200), 0, 0),
    "channel1": ((3, 37, 19), 1, 0),
    "block16": ((5, 128), 1, 16),
    "block_tail": ((5, 150), 1, 32),
    "block_axis0": ((70, 6), 0, 32),
}


def _scales(
    mode: str, shape: tuple[int, ...], axis: int, block: int, rng: np.random.Generator
) -> tuple[Tensor, F64]:
    """Returns the scale operand, and the same spread over the shape of the data."""
    if mode in ("tensor", "power2", "symmetric"):
        scale = data.scalar(0.25 if mode == "power2" else float(np.float32(0.0764)))
        return scale, np.broadcast_to(scale.values, shape)
    extents = [shape[axis]]
    if block:
        extents = [*shape[:axis], -(-shape[axis] // block), *shape[axis + 1 :]]
    scale = encode(np.exp2(rng.uniform(-6, 3, extents)), FLOAT32)
    return scale, _spread(scale.values, mode, shape)


def _spread(values: NDArray[Any], mode: str, shape: tuple[int, ...]) -> NDArray[Any]:
    _, axis, block = _GRANULARITY[mode]
    if values.ndim == 0:
        return np.broadcast_to(values, shape)
    if block:
        return np.repeat(values, block, axis=axis).take(range(shape[axis]), axis=axis)
    extents = [1] * len(shape)
    extents[axis] = shape[axis]
    return np.broadcast_to(values.reshape(extents), shape)


def _zero_points(target: Format, shape: tuple[int, ...], rng: np.random.Generator) -> Tensor | None:
    if not target.is_integer:
        return None
    low = -(1 << (target.bits - 1)) if target.is_signed else 0
    odd = rng.integers(low // 2, (low + (1 << target.bits)) // 2, shape) * 2 + 1
    return from_integers(odd.clip(low, low + (1 << target.bits) - 1), target)


def _quantize_data(
    shape: tuple[int, ...], scale: F64, target: Format, rng: np.random.Generator
) -> Tensor:
    """Half steps exactly and just beside, values beyond both ends, infinities, zeros."""
    count = int(np.prod(shape))
    span = target.max if target.is_float else float(1 << target.bits)
    steps = rng.integers(-2 * int(span), 2 * int(span), count) / 2
    pick = rng.integers(0, 8, count)
    steps = np.where(pick == 0, rng.normal(0, span, count), steps)
    if target.is_float:
        steps = np.where(pick < 5, rng.choice(data.boundaries(target, FLOAT32), count), steps)
    x = oracle.float32(steps.reshape(shape) * scale)
    near = pick.reshape(shape)
    x = np.where(near == 1, np.nextafter(x.astype(np.float32), np.float32(np.inf)), x)
    x = np.where(near == 2, np.nextafter(x.astype(np.float32), np.float32(-np.inf)), x)
    x.flat[:6] = [np.inf, -np.inf, 0.0, -0.0, 3e38, -3e38]
    return encode(x, FLOAT32)


def dequantize(case: Case, context: Context) -> Problem:
    """Every code under one granularity."""
    source = data.format_of(case, 0)
    mode = str(case.parameters["scales"])
    rng = data.rng(case, context)
    shape, axis, block = _GRANULARITY[mode]
    scale, wide = _scales(mode, shape, axis, block, rng)
    zero = None if mode == "symmetric" else _zero_points(source, scale.shape, rng)
    points = _spread(zero.integers if zero else np.zeros(scale.shape, np.int64), mode, shape)
    codes = (np.arange(np.prod(shape)) % (1 << source.bits)).reshape(shape)
    q = Tensor(source, codes.astype(code_dtype(source)))
    attributes: dict[str, Any] = {"axis": axis, "block_size": block, "to": "float32"}
    expected = expect_exact(oracle.dequantize(q, wide, points, FLOAT32), signed_zero=False)
    return Problem(
        op="Dequantize", operands=(q, scale, zero), attributes=attributes, oracle=always(expected)
    )


# -- requantise -------------------------------------------------------------------------------


def requantize(case: Case, context: Context) -> Problem:
    """Built ties of both signs, limits, wrapping bias, short and long multipliers."""
    target = data.format_of(case, 0)
    arithmetic = str(case.parameters["arithmetic"])
    how = str(case.parameters["multipliers"])
    rng = data.rng(case, context)
    channels = 16 if how == "channel" else 1
    multiplier, real, shift = _multipliers(arithmetic, how, channels, rng)
    acc = _accumulators(arithmetic, how, channels, rng)
    zero_value = np.int64(3 if target.is_signed else 129)
    zero = from_integers(np.array(zero_value), target)
    relu = bool(case.parameters.get("relu", 0))
    bias = None
    if case.parameters.get("bias", 0):
        bias = from_integers(rng.integers(-(2**31), 2**31, channels), INT32)
    got = oracle.requantize(
        acc.integers,
        real,
        shift.integers if shift else None,
        np.array(zero_value),
        target,
        bias=bias.integers if bias else None,
        arithmetic=arithmetic,
        relu=relu,
    )
    expected = expect_exact(
        got.tensor,
        others=(got.other.codes,),
        claim="requantize" if context.datasheet.requantize else "",
    )
    parts: list[Tensor | None] = [multiplier, shift, bias]
    if channels == 1:
        parts = [part and Tensor(part.format, part.codes.reshape(())) for part in parts]
    attributes: dict[str, Any] = {
        "to": target.name,
        "arithmetic": arithmetic,
        "axis": -1,
        "relu": int(relu),
    }
    return Problem(
        op="Requantize",
        operands=(acc, parts[0], parts[1], zero, parts[2]),
        attributes=attributes,
        oracle=always(expected),
    )


def _multipliers(
    arithmetic: str, how: str, channels: int, rng: np.random.Generator
) -> tuple[Tensor, F64, Tensor | None]:
    """Returns the multiplier operand, the number that the oracle scales by, and the shift."""
    if arithmetic == "float32":
        value = np.full(channels, 2.0**-8)
        if how != "power2":
            value = np.exp2(rng.uniform(-14, -2, channels))
        multiplier = encode(value, FLOAT32)
        return multiplier, multiplier.values, None
    q31 = np.full(channels, 1 << 30)
    shifts = np.full(channels, 38)  # 2**30 >> 38 is 2**-8
    if how != "power2":
        q31 = rng.integers(1 << 30, (1 << 31) - 1, channels)
        shifts = rng.integers(32, 46, channels)
    if how == "channel":
        q31[:4] = [1 << 30, (1 << 31) - 1, 1 << 30, (1 << 31) - 1]
        shifts[:4] = [42, 62, 32, 31]
    return (
        from_integers(q31, INT32),
        q31.astype(np.float64),
        from_integers(shifts, INT32),
    )


def _accumulators(arithmetic: str, how: str, channels: int, rng: np.random.Generator) -> Tensor:
    built = np.array([s * v for v in (128, 384, 640, 1, 127, 129, 32768, 32767) for s in (1, -1)])
    far = np.array([-1153024, 1153024, 2**31 - 1, -(2**31), 2**30, -(2**30), 0])
    odd = (2 * np.arange(-150, 150) + 1) * 128  # every tie of 2**-8
    small, large = rng.integers(-(2**17), 2**17, 800), rng.integers(-(2**31), 2**31, 800)
    values = np.concatenate([built, far, odd, small, large])
    if arithmetic == "float32" and how == "power2":
        values = np.concatenate([built[:-4], odd, small])
    if channels == 1:
        return from_integers(values, INT32)
    return from_integers(np.repeat(values[:, None], channels, axis=1), INT32)
