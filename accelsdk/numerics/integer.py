"""Exact integer matrix products on floating-point units.

NumPy has no fast integer matmul, but BLAS has a fast floating-point one, and a sum of integers
is exact in floating point while it stays within the significand. So K is cut into blocks short
enough that no partial sum of a block can leave it, whatever order BLAS adds in, and the blocks
are added as int32. float32 holds every integer up to 2**24: 1024 products of two int8, 514 of
uint8 and int8.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accelsdk import formats
from accelsdk.errors import InvalidArgument

_SHORTEST = 64  # below this many products a float32 block costs more than float64 does


def matmul_int32(
    a: NDArray[Any],
    b: NDArray[Any],
    a_zero_point: ArrayLike = 0,
    b_zero_point: ArrayLike = 0,
) -> NDArray[np.int32]:
    """Returns ``(a - a_zero_point) @ (b - b_zero_point)``, exact modulo 2**32.

    This is ONNX MatMulInteger: the sum wraps at 32 bits.

    Args:
        a: Integers of 4 to 16 bits, ``[..., M, K]`` (or ``[K]``).
        b: Integers of 4 to 16 bits, ``[..., K, N]`` (or ``[K]``); batches broadcast.
        a_zero_point: Scalar, or one per row: ``[M]`` or broadcastable ``[..., M, 1]``.
        b_zero_point: Scalar, or one per column: ``[N]`` or broadcastable ``[..., 1, N]``.

    Returns:
        int32 ``[..., M, N]``.

    Raises:
        InvalidArgument: An operand is not integer, or the shapes do not multiply.
    """
    a, b = np.asarray(a), np.asarray(b)
    a_zeros, b_zeros = np.asarray(a_zero_point), np.asarray(b_zero_point)
    if not a.ndim or not b.ndim or a.shape[-1] != b.shape[-2 if b.ndim > 1 else 0]:
        raise InvalidArgument(f"cannot multiply {a.shape} by {b.shape}")
    if a_zeros.ndim == 1 and a_zeros.size > 1:
        a_zeros = a_zeros[:, None]
    product = _magnitude(a, a_zeros) * _magnitude(b, b_zeros)
    block, work = block_length(product)
    left, right = _centred(a, a_zeros, work), _centred(b, b_zeros, work)
    length = a.shape[-1]
    if length <= block:
        return _to_int32(np.matmul(left, right))
    total = _to_int32(np.matmul(left[..., :block], _rows(right, 0, block)))
    for start in range(block, length, block):
        part = np.matmul(left[..., start : start + block], _rows(right, start, start + block))
        total = total + _to_int32(part)
    return total


def block_length(largest_product: int) -> tuple[int, np.dtype[Any]]:
    """Returns how many products add up exactly, and in which float type.

    Args:
        largest_product: Largest magnitude of one product.
    """
    largest_product = max(largest_product, 1)
    single = (1 << 24) // largest_product
    if single >= _SHORTEST:
        return single, np.dtype(np.float32)
    return (1 << 53) // largest_product, np.dtype(np.float64)


def _magnitude(x: NDArray[Any], zeros: NDArray[Any]) -> int:
    """Largest magnitude of ``x - zeros`` that the format of ``x`` allows."""
    fmt = formats.from_dtype(x.dtype)
    if not fmt.is_integer or fmt.bits > 16:
        raise InvalidArgument(f"operand is {fmt}", remedy="pass integers of at most 16 bits")
    if not zeros.size:
        return 0
    low, high = int(zeros.min()), int(zeros.max())
    return max(int(fmt.max) - low, high - int(fmt.min))


def _centred(x: NDArray[Any], zeros: NDArray[Any], work: np.dtype[Any]) -> NDArray[Any]:
    values = x.astype(work)
    return values - zeros.astype(work) if zeros.any() else values


def _rows(b: NDArray[Any], start: int, stop: int) -> NDArray[Any]:
    return b[..., start:stop, :] if b.ndim > 1 else b[start:stop]


def _to_int32(exact: NDArray[Any]) -> NDArray[np.int32]:
    if exact.dtype == np.float32:  # at most 2**24
        return np.asarray(exact).astype(np.int32)
    return np.asarray(exact).astype(np.int64).astype(np.int32)  # keeps the low 32 bits


def matmul_acc16(a: NDArray[np.uint8], b: NDArray[np.int8], spill_every: int) -> NDArray[np.int32]:
    """FBGEMM's 16-bit accumulation: what ``vpmaddubsw`` and ``vpaddsw`` compute.

    ``p = sat16(a[k] * b[k] + a[k+1] * b[k+1])`` and ``s = sat16(s + p)`` for each pair; every
    ``spill_every`` elements of K, ``s`` is added to the int32 result and cleared. An odd K ends
    in a pair with zero. Source: FBGEMM ``matmul_u8i8acc16_ref``.

    Args:
        a: ``[M, K]``.
        b: ``[K, N]``.
        spill_every: Elements of K between spills, a positive even number.

    Returns:
        int32 ``[M, N]``.
    """
    if spill_every < 2 or spill_every % 2:
        raise InvalidArgument(f"spill_every={spill_every}", remedy="pass a positive even number")
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0]:
        raise InvalidArgument(f"cannot multiply {a.shape} by {b.shape}")
    odd = a.shape[1] % 2
    left = np.pad(a, ((0, 0), (0, odd))).astype(np.int32)
    right = np.pad(b, ((0, odd), (0, 0))).astype(np.int32)
    total = np.zeros((a.shape[0], b.shape[1]), np.int32)
    running = np.zeros_like(total)
    for k in range(0, left.shape[1], 2):  # saturation makes the order of pairs matter
        pair = left[:, k, None] * right[k] + left[:, k + 1, None] * right[k + 1]
        running = _sat16(running + _sat16(pair))
        if (k + 2) % spill_every == 0:
            total += running
            running[...] = 0
    return total + running


def _sat16(x: NDArray[np.int32]) -> NDArray[np.int32]:
    return np.clip(x, -(1 << 15), (1 << 15) - 1)
