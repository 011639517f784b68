"""Elementwise functions, computed in float64 and rounded once to the operand's dtype.

NumPy's own float32 functions err by up to 4 units in the last place; through float64 the
result is the correctly rounded one but for about one argument in 10**7. NumPy casts operands
in small buffers, so that no float64 copy of a large tensor ever exists; functions of several
steps work in blocks for the same reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.kernels.kernel import BLOCK, Function

Float64 = NDArray[np.float64]
#: Computes on a block of float64, which it may overwrite; the result has the same shape.
BlockFunction = Callable[[Float64], Float64]


def through_float64(ufunc: np.ufunc) -> Function:
    """Returns a unary ufunc that computes in float64, result in the operand's dtype."""

    def function(x: NDArray[Any]) -> NDArray[Any]:
        out = np.empty_like(x)
        ufunc(x, out=out, dtype=np.float64, casting="same_kind")
        return out

    return function


def blockwise(
    function: BlockFunction, dtype: type[np.floating[Any]] | None = np.float64
) -> Function:
    """Returns ``function`` applied in cache-sized blocks, rounded once at the end.

    Args:
        function: Computes on a scratch block, which it may overwrite.
        dtype: What blocks are computed in; None is the operand's own.
    """

    def apply(x: NDArray[Any]) -> NDArray[Any]:
        work = x.dtype if dtype is None else dtype
        if x.size <= BLOCK:
            block = x.reshape(-1).astype(work)
            return function(block).astype(x.dtype, copy=False).reshape(x.shape)
        source = np.ascontiguousarray(x).reshape(-1)
        out = np.empty(source.size, x.dtype)
        scratch = np.empty(BLOCK, work)
        for start in range(0, source.size, BLOCK):
            part = source[start : start + BLOCK]
            block = scratch[: part.size]
            np.copyto(block, part)
            out[start : start + BLOCK] = function(block)
        return out.reshape(x.shape)

    return apply


def sigmoid(x: Float64) -> Float64:
    """Computes 1 / (1 + exp(-x)) in place; where exp overflows, the quotient is right: 0."""
    np.negative(x, out=x)
    np.exp(x, out=x)
    x += 1.0
    return np.reciprocal(x, out=x)


def sigmoid_wide(x: Float64) -> Float64:
    """Computes the sigmoid for float64 results, down to the subnormal ones."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, small) / (1.0 + small)


def softplus(x: Float64) -> Float64:
    """Computes log(1 + exp(x)) in place, without overflow."""
    positive = np.maximum(x, 0.0)
    np.abs(x, out=x)
    np.negative(x, out=x)
    np.log1p(np.exp(x, out=x), out=x)
    x += positive
    return x


# -- the error function ----------------------------------------------------------------------
#
# Around the nearest point c of a grid, erf(c + d) is its Taylor series: with the physicists'
# Hermite polynomials H, the coefficient of d**(n+1) is
#     2/sqrt(pi) exp(-c*c) (-1)**n H_n(c) / (n + 1)!            (DLMF 7.10.1)
# Tables of function values refined by a short series are the method of Gal and Bachelis,
# ACM TOMS 17(1), 1991. The grid is symmetric and holds 0, where the series is odd and keeps
# the relative error of small results.

_LIMIT = 6.0  # erf(6) rounds to 1 in float64


@cache
def _erf_series(steps: int, order: int) -> tuple[Float64, ...]:
    """Coefficients of d**0 .. d**order at each grid point, ``steps`` points per unit."""
    centre = np.arange(-_LIMIT * steps, _LIMIT * steps + 1) / steps
    value = np.array([math.erf(c) for c in centre])
    value[centre == 0] = -0.0  # added to a signed zero, it keeps the sign
    slope = 2.0 / math.sqrt(math.pi) * np.exp(-centre * centre)
    hermite, following = np.ones_like(centre), 2.0 * centre
    series = [value]
    for n in range(order):
        series.append((-1) ** n * slope * hermite / math.factorial(n + 1))
        hermite, following = following, 2.0 * centre * following - 2.0 * (n + 1) * hermite
    for coefficients in series:
        coefficients.setflags(write=False)
    return tuple(series)


def erf(x: Float64, steps: int = 256, order: int = 3) -> Float64:
    """Computes erf in place.

    Args:
        x: Operand, overwritten.
        steps: Grid points per unit.
        order: Highest power of d. With 256 steps, order 3 leaves a relative error below
            2**-30, enough for float32 results; with 64, order 8 leaves less than the rounding
            of float64.
    """
    np.clip(x, -_LIMIT, _LIMIT, out=x)
    x *= steps
    nearest = np.rint(x)
    nearest += _LIMIT * steps
    index = nearest.astype(np.intp)
    nearest -= _LIMIT * steps  # now its zero is +0, so that x - nearest keeps the sign of -0
    x -= nearest
    x *= 1.0 / steps
    series = _erf_series(steps, order)
    result, term = nearest, np.empty_like(x)
    np.take(series[order], index, out=result, mode="clip")
    for coefficients in reversed(series[:order]):
        result *= x
        result += np.take(coefficients, index, out=term, mode="clip")
    return result


def erf_wide(x: Float64) -> Float64:
    """Computes erf for float64 results."""
    return erf(x, steps=64, order=8)


def gelu(error: BlockFunction) -> BlockFunction:
    """Returns the exact Gelu, x/2 (1 + erf(x / sqrt 2)), over one of the two `erf`."""

    def function(x: Float64) -> Float64:
        bent = error(x * math.sqrt(0.5))
        bent += 1.0
        x *= 0.5
        x *= bent
        return x

    return function
