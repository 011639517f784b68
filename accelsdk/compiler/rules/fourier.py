"""Discrete Fourier transforms of static lengths as matrix products.

Complex numbers are pairs along the last axis. A transform of length n is one product with a
constant matrix of 2n x 2n while that is small. Longer ones are split in two (Cooley and Tukey,
Math. Comp. 19, 1965): with n = p * q, t = q t1 + t2 and k = k1 + p k2,

    X[k] = sum over t2 of w_q^(t2 k2) * w_n^(t2 k1) * sum over t1 of w_p^(t1 k1) x[t].

Lengths with a large prime factor become a convolution of a power of two (Bluestein, IEEE Trans.
Audio 18, 1970). Angles are reduced exactly, in integers, and functions taken in float64.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from accelsdk.graph.rewrite import Builder
from accelsdk.graph.types import Value

#: Longest transform that is one product. Its matrix takes 8 MB in float32.
DIRECT = 1024
#: The largest first factor of a longer one.
_RADIX = 64


def transform(b: Builder, x: Value, inverse: bool = False, scale: float = 1.0) -> Value:
    """Emits the transforms of rows of complex numbers.

    Args:
        b: Where to.
        x: [rows, n, 2], n at least 1.
        inverse: Whether exponents are positive.
        scale: Factor of the result.

    Returns:
        [rows, n, 2].
    """
    count = x.shape[1]
    if count <= DIRECT:
        return product(b, x, matrix(count, count, inverse, scale), 2)
    factor = _factor(count)
    if factor == 1:
        return _chirped(b, x, inverse, scale)
    return _split(b, x, factor, inverse, scale)


def matrix(rows: int, columns: int, inverse: bool, scale: float = 1.0) -> NDArray[np.complex128]:
    """Returns a transform of length ``columns`` of its first ``rows`` items: items x results."""
    return _roots(np.outer(np.arange(rows), np.arange(columns)), columns, inverse) * scale


def product(b: Builder, x: Value, weights: NDArray[np.complex128], parts: int) -> Value:
    """Emits a complex matrix product with a constant.

    Args:
        b: Where to.
        x: [rows, n, 2], or [rows, n, 1] if it is real.
        weights: n x m.
        parts: 2 for complex results, 1 for their real parts.

    Returns:
        [rows, m, parts].
    """
    pair = np.stack([weights.real, weights.imag], axis=-1)
    # (a + bi)(c + di): a meets (c, d), b meets (-d, c).
    turned = np.stack([-weights.imag, weights.real], axis=-1)
    full = np.stack([pair, turned], axis=1)[:, : x.shape[2], :, :parts]
    rows, items, count = x.shape[0], weights.shape[0] * x.shape[2], weights.shape[1]
    constant = np.ascontiguousarray(full).reshape(items, count * parts)
    flat = b.op("Reshape", x, shape=(rows, items))
    made = b.op("MatMul", flat, b.constant(constant.astype(x.format.dtype), x.format))
    return b.op("Reshape", made, shape=(rows, count, parts))


def scaled(b: Builder, x: Value, weights: NDArray[np.complex128]) -> Value:
    """Emits the product of complex numbers [..., 2] with constants that broadcast to [...]."""
    kind = x.format
    real = np.stack([weights.real, weights.real], axis=-1).astype(kind.dtype)
    cross = np.stack([-weights.imag, weights.imag], axis=-1).astype(kind.dtype)
    axis = x.type.rank - 1
    swapped = b.op("Slice", x, starts=(1,), ends=(-3,), axes=(axis,), steps=(-1,))
    straight = b.op("Mul", x, b.constant(real, kind))
    return b.op("Add", straight, b.op("Mul", swapped, b.constant(cross, kind)))


def _roots(powers: NDArray[np.int64], count: int, inverse: bool) -> NDArray[np.complex128]:
    """Returns exp(-2 pi i powers / count), or its conjugate."""
    angle = (powers % count) * (2 * np.pi / count)
    return np.asarray(np.cos(angle) + (1j if inverse else -1j) * np.sin(angle))


def _factor(count: int) -> int:
    """Returns the largest divisor up to the radix that leaves only small primes; 1: none."""
    rest = count
    for prime in range(2, _RADIX + 1):
        while rest % prime == 0:
            rest //= prime
    if rest > DIRECT:
        return 1
    return max(p for p in range(1, _RADIX + 1) if count % p == 0)


def _split(b: Builder, x: Value, p: int, inverse: bool, scale: float) -> Value:
    rows, count, _ = x.shape
    q = count // p
    grid = b.op("Reshape", x, shape=(rows, p, q, 2))
    grid = b.op("Transpose", grid, perm=(0, 2, 1, 3))
    grid = b.op("Reshape", grid, shape=(rows * q, p, 2))
    inner = b.op("Reshape", transform(b, grid, inverse, scale), shape=(rows, q, p, 2))
    turns = _roots(np.outer(np.arange(q), np.arange(p)), count, inverse)
    turned = b.op("Transpose", scaled(b, inner, turns), perm=(0, 2, 1, 3))
    outer = transform(b, b.op("Reshape", turned, shape=(rows * p, q, 2)), inverse)
    outer = b.op("Reshape", outer, shape=(rows, p, q, 2))
    return b.op("Reshape", b.op("Transpose", outer, perm=(0, 2, 1, 3)), shape=x.shape)


def _chirped(b: Builder, x: Value, inverse: bool, scale: float) -> Value:
    """Bluestein: t k = (t^2 + k^2 - (k - t)^2) / 2 makes the transform a convolution."""
    count = x.shape[1]
    length = 1 << (2 * count - 2).bit_length()
    steps = np.arange(count)
    chirp = _roots(steps * steps, 2 * count, inverse)
    kernel = np.zeros(length, np.complex128)
    kernel[:count] = chirp.conj()
    kernel[length - count + 1 :] = chirp[:0:-1].conj()
    padded = b.op("Pad", scaled(b, x, chirp), pads=(0, 0, 0, 0, length - count, 0))
    spectrum = scaled(b, transform(b, padded), np.fft.fft(kernel))
    found = transform(b, spectrum, inverse=True, scale=1 / length)
    kept = b.op("Slice", found, starts=(0,), ends=(count,), axes=(1,), steps=(1,))
    return scaled(b, kept, chirp * scale)
