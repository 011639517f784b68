"""Exact-grid data: whole numbers so small that every partial sum is exact in any order.

Codes are drawn, not values: nothing is encoded, and what is drawn is exactly what is sent.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from accelsdk.formats import Format
from accelsdk_conformance.oracles.tensor import (
    F64,
    Codes,
    Mask,
    Tensor,
    code_dtype,
    decode_table,
    encode,
)

_CHOICES = (*range(1, 16), 31, 63, 127, 255)


@cache
def whole(fmt: Format) -> tuple[Codes, F64]:
    """Returns codes and values of the positive whole numbers of a format, ascending.

    Of a wide format those up to 15 and some up to 255; of MXINT8 the whole steps of 2**-6.
    """
    if fmt.bits > 8:
        values = np.array(_CHOICES, np.float64)
        return encode(values, fmt).codes, values
    table = decode_table(fmt) * (1.0 if fmt.is_float else 2.0**fmt.mantissa_bits)
    fits = np.isfinite(table) & (table >= 1) & (table == np.rint(table))
    codes = np.flatnonzero(fits)
    codes = codes[np.argsort(table[codes], kind="stable")]
    return codes.astype(code_dtype(fmt)), table[codes]


@cache
def _mean(fmt: Format, limit: int) -> float:
    """Returns the mean of the whole numbers up to ``limit``."""
    values = whole(fmt)[1]
    return float(values[values <= limit].mean())


def draw(fmt: Format, shape: tuple[int, ...], rng: np.random.Generator, limit: float) -> Tensor:
    """Draws whole numbers up to ``limit``."""
    codes, values = whole(fmt)
    count = max(1, int(np.searchsorted(values, limit, side="right")))
    return Tensor(fmt, codes[rng.integers(0, count, shape)])


def negated(x: Tensor, where: Mask) -> Tensor:
    """Returns numbers with the sign of some turned."""
    if x.format.is_float:
        sign = where.astype(x.codes.dtype) << x.codes.dtype.type(x.format.bits - 1)
        return Tensor(x.format, x.codes ^ sign)
    mask = x.codes.dtype.type((1 << x.format.bits) - 1)
    return Tensor(x.format, np.where(where, (~x.codes + x.codes.dtype.type(1)) & mask, x.codes))


def operands(
    formats: tuple[Format, Format],
    shape: tuple[int, int, int],
    bits: int,
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor]:
    """Draws positive operands [M, K] and [K, N], as large as the exact domain admits.

    Args:
        formats: Of both operands.
        shape: M, K, N.
        bits: What a partial sum may need.
        rng: Random numbers.
    """
    m, k, n = shape
    for limit in sorted(_CHOICES, reverse=True):
        if limit > 1 and _mean(formats[0], limit) * _mean(formats[1], limit) * k >= 2.0**bits:
            continue
        a, b = draw(formats[0], (m, k), rng, limit), draw(formats[1], (k, n), rng, limit)
        steps = 2.0 ** sum(0 if fmt.is_float else fmt.mantissa_bits for fmt in formats)
        if (a.values @ b.values * steps).max(initial=0.0) < 2.0**bits:
            break
    return a, b


def mixed(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Returns numbers with random signs."""
    return negated(x, rng.integers(0, 2, x.shape) == 1)
