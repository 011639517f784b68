"""Double-double arithmetic: sums and products with 106 bits, on whole arrays.

A number is the unevaluated sum of two float64, the second at most half an ulp of the first
(Dekker 1971; Knuth TAOCP 4.2.2). Sums go pairwise, so that K terms cost log2(K) array
operations and the relative error stays below ``log2(K) * 2**-104`` of the sum of magnitudes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

#: Relative error of every operation here, with room: one unit of the 104th bit.
UNIT = 2.0**-104
_SPLIT = 134217729.0  # 2**27 + 1


class Doubled(NamedTuple):
    """An unevaluated sum ``high + low``."""

    high: F64
    low: F64

    def distance(self, x: F64) -> F64:
        """Returns ``|x - self|``, rounded once in float64."""
        with np.errstate(invalid="ignore", over="ignore"):
            return np.abs((x - self.high) - self.low)


def two_sum(a: F64, b: F64) -> Doubled:
    """Returns a + b exactly."""
    total = a + b
    part = total - a
    return Doubled(total, (a - (total - part)) + (b - part))


def two_product(a: F64, b: F64) -> Doubled:
    """Returns a * b exactly, unless a part overflows or underflows."""
    product = a * b
    a_high, b_high = a * _SPLIT, b * _SPLIT
    a_high, b_high = a_high - (a_high - a), b_high - (b_high - b)
    a_low, b_low = a - a_high, b - b_high
    low = ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low
    return Doubled(product, low)


def add(a: Doubled, b: Doubled) -> Doubled:
    """Returns a + b with an error of a few units of 2**-105 of |a| + |b|."""
    high = two_sum(a.high, b.high)
    low = two_sum(a.low, b.low)
    high = _quick(high.high, high.low + low.high)
    return _quick(high.high, high.low + low.low)


def scale(a: Doubled, factor: F64) -> Doubled:
    """Returns a * factor."""
    exact = two_product(a.high, factor)
    return _quick(exact.high, exact.low + a.low * factor)


def _quick(a: F64, b: F64) -> Doubled:
    total = a + b
    return Doubled(total, b - (total - a))


def total(terms: F64, axis: int, low: F64 | None = None) -> Doubled:
    """Sums float64 terms (plus optional low halves) along an axis, pairwise.

    Args:
        terms: Finite terms.
        axis: Axis that disappears.
        low: Low halves of the terms.
    """
    high = np.moveaxis(terms, axis, 0)
    rest = np.zeros_like(high) if low is None else np.moveaxis(low, axis, 0)
    if high.shape[0] == 0:
        zero = np.zeros(high.shape[1:])
        return Doubled(zero, zero.copy())
    while (count := high.shape[0]) > 1:
        half = count // 2
        folded = add(
            Doubled(high[:half], rest[:half]), Doubled(high[half : 2 * half], rest[half : 2 * half])
        )
        if count % 2:
            high = np.concatenate([folded.high, high[-1:]])
            rest = np.concatenate([folded.low, rest[-1:]])
        else:
            high, rest = folded
    return Doubled(high[0], rest[0])
