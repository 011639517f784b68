"""Casts, affine quantisation, requantisation and MX blocks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.backend.datasheet import CastSpec, QuantSpec, RequantSpec
from accelsdk.formats import (
    BFLOAT16,
    E8M0,
    FLOAT16,
    FLOAT32,
    FLOAT64,
    INT32,
    Format,
    Kind,
    by_name,
)
from accelsdk.numerics.rounding import Rounding
from accelsdk_conformance.case import Case
from accelsdk_conformance.generators import axes, data
from accelsdk_conformance.generators.granularity import Layout, layout_of, scale_extents, spread
from accelsdk_conformance.oracles import conversion as oracle
from accelsdk_conformance.oracles.tensor import (
    F64,
    Codes,
    Tensor,
    code_dtype,
    encode,
    from_integers,
)
from accelsdk_conformance.problem import (
    Along,
    Axis,
    Context,
    Problem,
    always,
    expect_exact,
    shrinkable,
)


def cast(case: Case, context: Context) -> Problem:
    """Every code, every boundary and every tie of one conversion."""
    source, target = data.format_of(case, 0), data.format_of(case, 1)
    attributes: dict[str, Any] = {"to": target.name, **case.parameters}
    shape = attributes.pop("shape", None)
    given = _cast_data(source, target, data.rng(case, context))
    if shape is not None:
        count = math.prod(shape)
        given = Tensor(source, np.resize(given.codes[2:], count).reshape(shape))
    spec = context.datasheet.cast(source.name, target.name)
    how = spec or CastSpec()

    def make(tensor: Tensor) -> Problem:
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
        return Problem(
            op="Cast", operands=(tensor,), attributes=attributes, oracle=always(expected)
        )

    return shrinkable(make, (given,))


def _cast_data(source: Format, target: Format, rng: np.random.Generator) -> Tensor:
    every = data.samples(source, rng).codes
    if source.is_float:
        every = np.concatenate([every, data.in_every_lane(data.specials(source), source).codes])
    if source.bits == 16 and source.is_integer and target.bits > 8 and not target.is_float:
        every = every[::13]
    parts = [every, every[:3]]  # an odd number of sub-byte codes
    if source.is_float and source.bits > 16:
        parts += [encode(part, source).codes for part in _turning(source, target)]
    if source.bits > 16 and source.is_integer and target.is_float:
        parts.append(_whole_ties(source, target))
    codes = np.concatenate(parts)
    if source.is_integer and target.kind is Kind.SCALE:
        codes = codes[np.abs(Tensor(source, codes).values) < 2.0**53]
    return Tensor(source, codes)


def _turning(source: Format, target: Format) -> list[F64]:
    """Returns float values at which the result turns over: ties, their neighbours, limits."""
    parts: list[F64] = []
    if target.is_float and target.bits <= 16:
        parts += [data.boundaries(target, source), data.ties(target, source)]
    if source == FLOAT64:
        parts += [_float64_ties(target), _float64_edges(target)]
    if target.kind is Kind.SCALE:
        powers = np.ldexp(1.0, np.arange(-149, 128))
        parts += [data.with_neighbours(encode(powers * m, source).values, source) for m in (1, 1.5)]
    if target.kind is Kind.FIXED:
        halves = np.arange(1, 300) / 2 * target.smallest_subnormal
        parts += [data.both_signs(data.with_neighbours(halves, source))]
    if target.is_integer:
        halves = np.arange(-300, 301) / 2
        limits = np.array([target.min, target.max, 2.0 * target.max])
        near = data.with_neighbours(encode(np.abs(limits), source).values, source)
        parts += [halves, data.both_signs(near)]
    return parts


def _float64_ties(target: Format) -> F64:
    """Values that a detour through float32 rounds to a tie first: 1.0625 + 2**-40, ..."""
    if not target.is_float or target.bits > 32:
        return np.array([0.0])
    step = 2.0 ** -(target.mantissa_bits + 1)
    odd = 1 + step * np.arange(1, 8, 2)
    return data.both_signs(np.concatenate([odd + 2.0**-40, odd - 2.0**-40, odd]))


def _float64_edges(target: Format) -> F64:
    """The ends of float32: where it overflows, and midpoints among its subnormal numbers."""
    if target != FLOAT32:
        return np.array([0.0])
    half = 2.0 ** (target.emax - target.mantissa_bits - 1)
    ends = np.array([target.max, target.max + half, 2 * target.max])
    small = np.arange(0.5, 20.0) * target.smallest_subnormal
    centre = np.concatenate([ends, small])
    return data.both_signs(np.concatenate([np.nextafter(centre, end) for end in (0.0, np.inf)]))


def _whole_ties(source: Format, target: Format) -> Codes:
    """Integers halfway between two numbers of the target, and one beside them."""
    p, top = target.precision, source.bits - source.is_signed
    found = [
        ((1 << p) + step << shift) + near
        for step in (1, 3, (1 << p) - 1)
        for shift in range(top - p)  # the largest have the top bit set
        for near in (-1, 0, 1)
    ]
    signed = [*found, *(-value for value in found)] if source.is_signed else found
    mask = (1 << source.bits) - 1
    return np.array([value & mask for value in signed], np.uint64).astype(code_dtype(source))


# -- affine -----------------------------------------------------------------------------------


def quantize(case: Case, context: Context) -> Problem:
    """Ties, limits and noise under one granularity: tensor, channel, block or short tail."""
    target = data.format_of(case, -1)
    source = data.format_of(case, 0) if len(case.formats) > 1 else FLOAT32
    mode = str(case.parameters["scales"])
    rng = data.rng(case, context)
    layout = layout_of(case)
    shape, axis, block = layout
    scale, wide = _scales(case, layout, rng)
    zero = None if mode == "symmetric" else _zero_points(target, scale.shape, rng)
    x = _quantize_data(shape, wide, target, source, rng)
    spec = context.datasheet.quantize
    how = spec or QuantSpec()
    saturate = bool(case.parameters.get("saturate", 1))
    attributes: dict[str, Any] = {
        "to": target.name,
        "axis": axis,
        "block_size": block,
        "saturate": int(saturate),
    }

    def make(x: Tensor, scale: Tensor, zero: Tensor | None) -> Problem:
        wide, points = _factors(x, scale, zero, axis, block)
        converted = oracle.quantize(
            x.values,
            wide,
            points,
            target,
            saturate=saturate,
            scaling=how.scaling,
            zero_point_is=how.zero_point,
            rounding=Rounding(how.rounding),
            work=scale.format if scale.format in (FLOAT16, BFLOAT16) else FLOAT32,
        )
        claim = "quantize" if spec else ""
        expected = expect_exact(converted.tensor, free=converted.free, claim=claim)
        return Problem(
            op="Quantize", operands=(x, scale, zero), attributes=attributes, oracle=always(expected)
        )

    return shrinkable(make, (x, scale, zero), lambda *given: axes.granular(axis, block, *given))


def _factors(
    x: Tensor, scale: Tensor, zero: Tensor | None, axis: int, block: int
) -> tuple[F64, NDArray[np.int64]]:
    """Spreads scales and zero points over the shape of the data.

    Raises:
        ValueError: A scale is not positive.
    """
    if not ((scale.values > 0) & np.isfinite(scale.values)).all():
        raise ValueError("no scale to divide by")
    layout = (x.shape, axis, block)
    points = np.zeros(scale.shape, np.int64) if zero is None else zero.integers
    return spread(scale.values, layout), spread(points, layout)


def _scales(case: Case, layout: Layout, rng: np.random.Generator) -> tuple[Tensor, F64]:
    """Returns the scale operand, and the same spread over the shape of the data."""
    fmt = by_name(str(case.parameters.get("scale", "float32")))
    mode = str(case.parameters["scales"])
    extents = scale_extents(mode, layout)
    values = np.exp2(rng.uniform(-6, 3, extents))
    if not extents:
        values = np.array(0.25 if mode == "power2" else float(np.float32(0.0764)))
    if case.op == "Quantize" and fmt == FLOAT32 and len(case.formats) == 1 and values.size > 4:
        values.flat[3:5] *= np.ldexp(1.0, [-100, 90])  # no least scale stands in for small ones
    if fmt == E8M0:
        values = np.exp2(np.rint(np.log2(values)))
    scale = encode(values, fmt) if fmt.is_float else _as_scales(values)
    return scale, spread(scale.values, layout)


def _as_scales(values: F64) -> Tensor:
    return Tensor(E8M0, (np.log2(values) + 127).astype(np.uint8))


def _zero_points(target: Format, shape: tuple[int, ...], rng: np.random.Generator) -> Tensor:
    if not target.is_integer:
        return Tensor(target, np.zeros(shape, code_dtype(target)))
    if target.bits > 16:
        return from_integers(np.zeros(shape), target)
    low = -(1 << (target.bits - 1)) if target.is_signed else 0
    odd = rng.integers(low // 2, (low + (1 << target.bits)) // 2, shape) * 2 + 1
    high = low + (1 << target.bits) - 1
    points = odd.clip(low, high)
    if points.size > 2:  # the ends, of which negation and sums need a bit more
        points.flat[1], points.flat[2] = low, high
    return from_integers(points, target)


def _quantize_data(
    shape: tuple[int, ...], scale: F64, target: Format, source: Format, rng: np.random.Generator
) -> Tensor:
    """Half steps exactly and just beside, values beyond both ends, infinities, NaN, zeros."""
    count = math.prod(shape)
    span = target.max if target.is_float else float(1 << target.bits)
    steps = rng.integers(-2 * int(span), 2 * int(span), count) / 2
    pick = rng.integers(0, 8, count)
    steps = np.where(pick == 0, rng.normal(0, span, count), steps)
    if target.is_float:
        steps = np.where(pick < 5, rng.choice(data.boundaries(target, FLOAT32), count), steps)
    x = oracle.float32(steps.reshape(shape) * scale)
    if not source.is_float:  # the int32 of an accumulator
        return from_integers(np.clip(np.rint(x), -(2.0**24), 2.0**24), source)
    near = pick.reshape(shape)
    x = np.where(near == 1, np.nextafter(x.astype(np.float32), np.float32(np.inf)), x)
    x = np.where(near == 2, np.nextafter(x.astype(np.float32), np.float32(-np.inf)), x)
    edges = [np.inf, -np.inf, 0.0, -0.0, 3e38, -3e38, np.nan]
    if x.size > 2 * len(edges):
        x.flat[: len(edges)] = edges
        x.flat[-len(edges) :] = edges[::-1]
    return encode(x, source)


def dequantize(case: Case, context: Context) -> Problem:
    """Every code under one granularity."""
    source = data.format_of(case, 0)
    target = data.format_of(case, 1) if len(case.formats) > 1 else FLOAT32
    mode = str(case.parameters["scales"])
    rng = data.rng(case, context)
    layout = layout_of(case)
    shape, axis, block = layout
    scale, _ = _scales(case, layout, rng)
    zero = None if mode == "symmetric" else _zero_points(source, scale.shape, rng)
    attributes: dict[str, Any] = {"axis": axis, "block_size": block, "to": target.name}

    def make(q: Tensor, scale: Tensor, zero: Tensor | None) -> Problem:
        wide, points = _factors(q, scale, zero, axis, block)
        expected = expect_exact(oracle.dequantize(q, wide, points, target), signed_zero=False)
        return Problem(
            op="Dequantize",
            operands=(q, scale, zero),
            attributes=attributes,
            oracle=always(expected),
        )

    operands = (_quantised(source, shape, rng), scale, zero)
    return shrinkable(make, operands, lambda *given: axes.granular(axis, block, *given))


def _quantised(fmt: Format, shape: tuple[int, ...], rng: np.random.Generator) -> Tensor:
    """Returns codes: all of them as far as they go, each beside many others."""
    count = math.prod(shape)
    if fmt.bits > 16:  # what float32 holds: ONNX does not say how more is rounded
        return from_integers(rng.integers(-(2**24), 2**24, shape), fmt)
    every = rng.permutation(1 << fmt.bits)
    turns = [rng.permutation(every) for _ in range(count // len(every) + 1)]
    return Tensor(fmt, np.concatenate(turns)[:count].astype(code_dtype(fmt)).reshape(shape))


# -- requantise -------------------------------------------------------------------------------


def requantize(case: Case, context: Context) -> Problem:
    """Built ties of both signs, limits, wrapping bias, short and long multipliers."""
    target = data.format_of(case, 0)
    arithmetic, how = (str(case.parameters[key]) for key in ("arithmetic", "multipliers"))
    rng = data.rng(case, context)
    channels = 16 if how == "channel" else 1
    multiplier, shift = _multipliers(arithmetic, how, channels, rng)
    acc = _accumulators(arithmetic, how, channels, rng)
    zero: Tensor | None = from_integers(np.array(3 if target.is_signed else 129), target)
    if case.parameters.get("zero") == "none":
        zero = None
    elif case.parameters.get("zero") == "channel":
        every = rng.integers(-20, 20, channels) if target.is_signed else np.arange(channels) * 17
        zero = from_integers(every, target)
    bias = None
    if case.parameters.get("bias", 0):
        bias = from_integers(rng.integers(-(2**31), 2**31, channels), INT32)
    if case.parameters.get("axis", -1) == 0:  # channels lie along the last axis so far
        acc = Tensor(acc.format, np.ascontiguousarray(acc.codes.T))
    parts: list[Tensor | None] = [multiplier, shift, bias]
    if channels == 1:
        parts = [part and Tensor(part.format, part.codes.reshape(())) for part in parts]
    return requantized(case, context, (acc, parts[0], parts[1], zero, parts[2]))


def requantized(case: Case, context: Context, operands: Sequence[Tensor | None]) -> Problem:
    """Returns the problem of sums, multipliers, shifts, zero points and biases of channels."""
    target, given = data.format_of(case, 0), case.parameters
    attributes: dict[str, Any] = {
        "to": target.name,
        "arithmetic": str(given["arithmetic"]),
        "axis": int(given.get("axis", -1)),
        "relu": int(bool(given.get("relu", 0))),
    }
    spec = context.datasheet.requantize or RequantSpec()
    axis = attributes["axis"]

    def make(
        acc: Tensor, factor: Tensor, shift: Tensor | None, zero: Tensor | None, bias: Tensor | None
    ) -> Problem:
        sums = acc.integers
        got = oracle.requantize(
            np.moveaxis(sums, axis, -1) if sums.ndim else sums,
            factor.values,
            None if shift is None else shift.integers,
            np.array(0) if zero is None else zero.integers,
            target,
            bias=None if bias is None else bias.integers,
            arithmetic=attributes["arithmetic"],
            relu=bool(attributes["relu"]),
            work=spec.arithmetic,
            rounding=Rounding(spec.rounding),
            clamp=spec.clamp,
        )
        found, other = (
            np.moveaxis(t.codes, -1, axis) if sums.ndim else t.codes
            for t in (got.tensor, got.other)
        )
        expected = expect_exact(
            Tensor(target, np.ascontiguousarray(found)),
            others=(np.ascontiguousarray(other),),
            claim="requantize" if context.datasheet.requantize else "",
        )
        return Problem(
            op=case.op,
            operands=(acc, factor, shift, zero, bias),
            attributes=attributes,
            oracle=always(expected),
        )

    def chosen(acc: Tensor, *per: Tensor | None) -> list[Axis]:
        at = attributes["axis"] % len(acc.shape)
        own = [Along(i, 0) for i, part in enumerate(per, 1) if part is not None and part.shape]
        return [(Along(0, i), *(own if i == at else ())) for i in range(len(acc.shape))]

    return shrinkable(make, operands, chosen, fixed=(1, 2))


def _multipliers(
    arithmetic: str, how: str, channels: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor | None]:
    """Returns the multiplier operand, and the shift."""
    if arithmetic == "float32":
        value = np.full(channels, 2.0**-8)
        if how != "power2":
            value = np.exp2(rng.uniform(-14, -2, channels))
        return encode(value, FLOAT32), None
    q31 = np.full(channels, 1 << 30)
    shifts = np.full(channels, 38)  # 2**30 >> 38 is 2**-8
    if how != "power2":
        q31 = rng.integers(1 << 30, (1 << 31) - 1, channels)
        shifts = rng.integers(32, 46, channels)
    if how == "channel":
        q31[:4] = [1 << 30, (1 << 31) - 1, 1 << 30, (1 << 31) - 1]
        shifts[:4] = [42, 62, 32, 31]
    return from_integers(q31, INT32), from_integers(shifts, INT32)


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
