"""Matrix products: float, integer, and scaled narrow formats; Gemm."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.formats import FLOAT32, Format
from accelsdk.graph.graph import Node
from accelsdk.kernels.kernel import (
    Binders,
    Function,
    Kernel,
    computing,
    format_of,
    integer,
    one,
    operand_format,
    real,
)
from accelsdk.numerics import codec
from accelsdk.numerics.integer import matmul_int32

_LIMB = 16


def for_blas(x: NDArray[Any]) -> NDArray[Any]:
    """Returns ``x`` so that BLAS takes it: rows, or columns, of adjacent items.

    `numpy.matmul` falls back to a scalar loop, a hundred times slower, for other layouts.
    """
    if x.flags.c_contiguous or x.ndim < 2:
        return x
    (rows, columns), (down, along), item = x.shape[-2:], x.strides[-2:], x.itemsize
    if (along == item and down >= columns * item) or (down == item and along >= rows * item):
        return x
    return np.ascontiguousarray(x)


def product(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """Multiplies float matrices (stacks broadcast) through BLAS, in their own dtype."""
    if a.ndim > 2 and b.ndim == 2 and a.size and a.flags.c_contiguous:
        # One product of many rows instead of many products of few.
        rows = np.matmul(a.reshape(-1, a.shape[-1]), for_blas(b))
        return np.asarray(rows).reshape(*a.shape[:-1], b.shape[-1])
    return np.asarray(np.matmul(for_blas(a), for_blas(b)))


def _wrapping_product(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """Multiplies integer matrices modulo 2**bits, in exact float64 products of 16-bit limbs."""
    bits = a.dtype.itemsize * 8
    depth = max(a.shape[-1], 1)
    largest = [max(abs(int(x.min())), abs(int(x.max()))) if x.size else 0 for x in (a, b)]
    if largest[0] * largest[1] * depth < 1 << 53:
        exact = product(a.astype(np.float64), b.astype(np.float64))
        # By way of int64: NumPy leaves floats beyond the range of a narrower type undefined.
        return exact.astype(np.int64).astype(a.dtype)
    limbs = [_limbs(x, bits) for x in (a, b)]
    total = None
    step = 1 << (53 - 2 * _LIMB)  # depth up to which sums of limb products are exact
    for i, left in enumerate(limbs[0]):
        for j, right in enumerate(limbs[1][: len(limbs[1]) - i]):
            for start in range(0, depth, step):
                inner = slice(start, start + step)
                right_part = right[inner] if right.ndim == 1 else right[..., inner, :]
                part = product(left[..., inner], right_part).astype(np.uint64)
                part = part << np.uint64(_LIMB * (i + j))
                total = part if total is None else total + part
    return np.asarray(total).astype(a.dtype)


def _limbs(x: NDArray[Any], bits: int) -> list[NDArray[np.float64]]:
    words = x.astype(np.uint64) if x.dtype.kind == "u" else x.astype(np.int64).view(np.uint64)
    mask = np.uint64((1 << _LIMB) - 1)
    return [
        ((words >> np.uint64(shift)) & mask).astype(np.float64) for shift in range(0, bits, _LIMB)
    ]


def multiplier(fmt: Format) -> Function:
    """Returns the matrix product of operands in ``fmt``, results in ``fmt``."""
    return _wrapping_product if fmt.is_integer else computing(fmt, product)


def _bind_matmul(node: Node) -> Kernel:
    return one(multiplier(operand_format(node, 0)))


def _bind_matmul_integer(_node: Node) -> Kernel:
    def matmul(
        a: NDArray[Any],
        b: NDArray[Any],
        a_zero: NDArray[Any] | None = None,
        b_zero: NDArray[Any] | None = None,
    ) -> NDArray[Any]:
        return matmul_int32(a, b, 0 if a_zero is None else a_zero, 0 if b_zero is None else b_zero)

    return one(matmul)


def _bind_scaled_matmul(node: Node) -> Kernel:
    a_format, b_format = operand_format(node, 0), operand_format(node, 1)
    scale_format, target = operand_format(node, 2), format_of(node, "to")
    block = integer(node, "block_size")

    def per_tensor(
        a: NDArray[Any], b: NDArray[Any], a_scale: NDArray[Any], b_scale: NDArray[Any]
    ) -> NDArray[Any]:
        sums = product(codec.decode(a, a_format), codec.decode(b, b_format))
        sums = np.multiply(np.multiply(sums, a_scale), b_scale)
        return codec.cast(np.asarray(sums), FLOAT32, target)

    def per_block(
        a: NDArray[Any], b: NDArray[Any], a_scale: NDArray[Any], b_scale: NDArray[Any]
    ) -> NDArray[Any]:
        sums = _block_scaled(
            codec.decode(a, a_format, np.float64),
            codec.decode(b, b_format, np.float64),
            codec.decode(a_scale, scale_format, np.float64),
            codec.decode(b_scale, scale_format, np.float64),
            block,
        )
        return codec.cast(sums.astype(np.float32), FLOAT32, target)

    return one(per_block if block else per_tensor)


def _block_scaled(
    a: NDArray[Any], b: NDArray[Any], a_scale: NDArray[Any], b_scale: NDArray[Any], block: int
) -> NDArray[Any]:
    """Sums blocks of products in float64, where every scaled element is exact.

    An element times its scale has at most 7 significant bits and an exponent within
    -127-17 .. 127+15: a float64 with room for the product of two, never under- or overflowing.
    """
    depth = a.shape[-1]
    a = a * np.repeat(a_scale, block, axis=-1)[..., :depth]
    b = b * np.repeat(b_scale, block, axis=-2)[..., :depth, :]
    return product(a, b)


def _bind_gemm(node: Node) -> Kernel:
    fmt = operand_format(node, 0)
    alpha, beta = real(node, "alpha"), real(node, "beta")
    trans_a, trans_b = integer(node, "transA"), integer(node, "transB")

    def gemm(a: NDArray[Any], b: NDArray[Any], c: NDArray[Any] | None = None) -> NDArray[Any]:
        y = product(a.T if trans_a else a, b.T if trans_b else b)
        if alpha != 1.0:
            y *= y.dtype.type(alpha)
        if c is not None:
            y += c if beta == 1.0 else c * y.dtype.type(beta)
        return y

    def integer_gemm(
        a: NDArray[Any], b: NDArray[Any], c: NDArray[Any] | None = None
    ) -> NDArray[Any]:
        y = _wrapping_product(a.T if trans_a else a, b.T if trans_b else b)
        y = y if alpha == 1.0 else (alpha * y).astype(y.dtype)
        if c is None:
            return y
        return np.asarray(y + (c if beta == 1.0 else (beta * c).astype(y.dtype)))

    if fmt.is_integer:
        return one(integer_gemm)
    return one(_optional_last(computing(fmt, gemm)))


def _optional_last(function: Function) -> Function:
    """Drops a last operand that was left out, which `computing` could not convert."""

    def call(*operands: NDArray[Any] | None) -> NDArray[Any]:
        return function(*(x for x in operands if x is not None))

    return call


BINDERS: Binders = {
    "MatMul": _bind_matmul,
    "MatMulInteger": _bind_matmul_integer,
    "ScaledMatMul": _bind_scaled_matmul,
    "Gemm": _bind_gemm,
}
