"""Test data by construction: every code, every midpoint and its neighbours, edges, noise."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from accelsdk.formats import FLOAT32, Format, Kind, by_name
from accelsdk_conformance.case import Case
from accelsdk_conformance.oracles.tensor import (
    F64,
    Codes,
    Tensor,
    code_dtype,
    encode,
    from_integers,
    magnitudes,
    represent,
)
from accelsdk_conformance.problem import Context

_WIDE = 4096  # samples where not every code fits


def rng(case: Case, context: Context) -> np.random.Generator:
    """Returns the random numbers of a case: its own seed plus the run's."""
    return np.random.default_rng(case.seed + context.seed)


def format_of(case: Case, index: int) -> Format:
    """Returns format ``index`` of the case's row."""
    return by_name(case.formats[index])


def all_codes(fmt: Format) -> Tensor:
    """Returns every code of a format of up to 16 bits."""
    return Tensor(fmt, np.arange(1 << fmt.bits).astype(code_dtype(fmt)))


def scalar(value: float, fmt: Format = FLOAT32) -> Tensor:
    """Returns a scalar that the format holds exactly."""
    return represent(np.array(value), fmt)


def vector(values: Sequence[float] | F64, fmt: Format = FLOAT32) -> Tensor:
    """Returns values that the format holds exactly."""
    return represent(np.asarray(values, np.float64), fmt)


def specials(fmt: Format) -> F64:
    """Returns the edge values of a float format: both signs of each."""
    edges = [0.0, fmt.smallest_subnormal, fmt.smallest_normal, 1.0, fmt.max]
    edges.append(fmt.smallest_normal - fmt.smallest_subnormal)
    edges += [np.inf] if fmt.has_inf else []
    both = [sign * edge for edge in edges for sign in (1.0, -1.0)]
    return np.array([*both, np.nan] if fmt.has_nan else both)


def boundaries(target: Format, source: Format) -> F64:
    """Returns where rounding from ``source`` into a float ``target`` turns over.

    Values of the target, midpoints between them, and both neighbours of each in the source;
    every one for a target of up to 8 bits, every seventh binade-spanning sample beyond.
    """
    table = magnitudes(target)
    if len(table) > _WIDE:
        keep = np.unique(np.concatenate([np.arange(0, len(table), 7), np.arange(64)]))
        table = np.append(table[keep[keep < len(table) - 3]], table[-3:])
    middles = (table[1:] + table[:-1]) / 2
    centre = np.concatenate([table, middles, [2 * table[-1]]])
    return both_signs(with_neighbours(encode(centre, source).values, source))


def with_neighbours(x: F64, fmt: Format) -> F64:
    """Returns positive values and their next smaller and larger neighbours in ``fmt``."""
    codes = encode(x, fmt).codes.astype(np.int64)
    top = int(encode(np.array([fmt.max]), fmt).codes[0])
    around = np.concatenate([codes, np.maximum(codes - 1, 0), np.minimum(codes + 1, top)])
    return Tensor(fmt, np.unique(around).astype(code_dtype(fmt))).values


def paired(
    fmt: Format, codes: Codes, generator: np.random.Generator, shape: str
) -> tuple[Tensor, Tensor]:
    """Returns two operands made of the given codes.

    Args:
        fmt: Format of both.
        codes: At least 91 codes, worth meeting each other.
        generator: Random numbers.
        shape: ``grid`` is each with each; ``same`` has equal shapes and many near equals, in a
            number that leaves a rest in any vector; the others are ways to broadcast.
    """
    if shape == "alias":  # one buffer, given twice
        one = Tensor(fmt, generator.permutation(codes))
        return one, one
    if shape != "grid":
        codes = generator.permutation(codes)
    match shape:
        case "grid":  # the second backwards, for the result must not be symmetric
            parts = codes[:, None], codes[None, ::-1]
        case "scalar":
            parts = codes, codes[7].reshape(())
        case "left":
            parts = codes[5].reshape((1,)), codes[:77]
        case "rank0":
            parts = codes[3].reshape(()), codes[9].reshape(())
        case "ranks":
            parts = codes[:60].reshape(3, 1, 5, 4), codes[60:90].reshape(6, 5, 1)
        case "six":
            parts = codes[:6].reshape(1, 3, 1, 2, 1, 1), codes[10:90].reshape(2, 1, 5, 1, 4, 2)
        case "empty":
            parts = codes[:0].reshape(0, 3), codes[:3]
        case "channel":  # a slope broadcasts to the operand, never the other way
            parts = codes[:120].reshape(2, 5, 12), codes[60:65].reshape(5, 1)
        case _:
            near = codes[generator.integers(0, len(codes), 4096 + 63)]
            twin = near ^ near.dtype.type(1)
            half = generator.random(near.size) < 0.5
            parts = near, np.where(half, twin, generator.permutation(near)).astype(near.dtype)
    return Tensor(fmt, parts[0]), Tensor(fmt, parts[1])


def in_every_lane(values: F64, fmt: Format) -> Tensor:
    """Repeats values so that each comes to lie in each lane of a vector of up to 64 items.

    Their number is made odd; the length leaves the longest rest (63) for vectors of 64, and for
    all shorter ones: what handles the rest sees every value, too.
    """
    codes = represent(values, fmt).codes
    codes = codes[: len(codes) - (len(codes) + 1) % 2]
    turns = 63 * pow(len(codes), -1, 64) % 64
    return Tensor(fmt, np.tile(codes, turns + (64 if turns < 32 else 0)))


def both_signs(x: F64) -> F64:
    """Returns values and their negatives."""
    return np.concatenate([x, -x])


def ties(target: Format, source: Format) -> F64:
    """Returns midpoints of ``target`` moved by 2**-9 and 2**-13 of themselves.

    A conversion through a 16-bit format lands on the midpoint first and rounds twice.
    """
    table = magnitudes(target)
    middles = (table[1:] + table[:-1]) / 2
    if len(middles) > _WIDE:
        middles = middles[:: len(middles) // 512]
    moved = [middles * (1 + sign * 2.0**-shift) for shift in (9, 13) for sign in (1, -1)]
    return both_signs(encode(np.concatenate(moved), source).values)


def noise(generator: np.random.Generator, fmt: Format, count: int) -> Tensor:
    """Returns random codes of a format: every exponent, special values included."""
    codes = generator.integers(0, 1 << fmt.bits, count, dtype=np.uint64)
    return Tensor(fmt, codes.astype(code_dtype(fmt)))


def integers_of(fmt: Format, generator: np.random.Generator) -> Tensor:
    """Returns every integer of a narrow format; edges, powers of two and noise of a wide one."""
    if fmt.bits <= 16:
        return all_codes(fmt)
    powers = [1 << shift for shift in range(fmt.bits)]
    edges = {value + near for value in powers for near in (-1, 0, 1)}
    signed = sorted({*edges, *(-value for value in edges)})
    wide = np.array([value & ((1 << 64) - 1) for value in signed], np.uint64).view(np.int64)
    random = generator.integers(-(1 << 62), 1 << 62, _WIDE, dtype=np.int64)
    return from_integers(np.concatenate([wide, random >> 3, random >> 31, random >> 40]), fmt)


def samples(fmt: Format, generator: np.random.Generator) -> Tensor:
    """Returns every code of a narrow format, edges and noise of a wide one."""
    if fmt.kind is Kind.BOOL:
        return Tensor(fmt, np.array([0, 1], np.uint8))
    if not fmt.is_float:
        return integers_of(fmt, generator)
    if fmt.bits <= 16:
        return all_codes(fmt)
    wide = noise(generator, fmt, _WIDE)
    near_one = encode(generator.normal(size=_WIDE), fmt)
    edges = represent(specials(fmt), fmt)
    return Tensor(fmt, np.concatenate([edges.codes, near_one.codes, wide.codes]))


def ramp(fmt: Format, shape: tuple[int, ...]) -> Tensor:
    """Returns codes by which every place is told from its neighbours.

    They count up; where there are too few codes to count with, they are mixed (the finaliser of
    MurmurHash3), for a short period would look the same after many a wrong movement.
    """
    count = math.prod(shape)
    limit = 2 if fmt.kind is Kind.BOOL else 1 << min(fmt.bits, 32)
    codes = np.arange(count, dtype=np.uint64) * np.uint64(37) + np.uint64(11)
    if limit < 256:
        word = np.uint64(0xFFFFFFFF)
        for factor in (0x85EBCA6B, 0xC2B2AE35):
            codes = ((codes ^ (codes >> np.uint64(15))) * np.uint64(factor)) & word
        codes ^= codes >> np.uint64(16)
    codes %= np.uint64(limit)
    if fmt.is_float and fmt.bits > 16:  # stay among ordinary numbers: 0x3F000000 is 0.5
        codes = codes + np.uint64(0x3F000000 if fmt.bits == 32 else 0x3FE0000000000000)
    return Tensor(fmt, codes.astype(code_dtype(fmt)).reshape(shape))
