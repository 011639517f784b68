"""Row-wise quantised embedding tables in the fused layout of FBGEMM and PyTorch.

Each row holds its codes and then its own scale and bias, and means ``scale * code + bias``:

- 8 bits: D codes | float32 scale | float32 bias, ``D + 8`` bytes;
- 4 and 2 bits: packed codes, element 0 in the low bits | float16 scale | float16 bias,
  ``ceil(D * bits / 8) + 4`` bytes.

Numbers are little endian. Sources: FBGEMM ``FloatOrHalfToFused8BitRowwiseQuantizedSBFloat`` and
``FloatOrHalfToFusedNBitRowwiseQuantizedSBHalf``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.errors import InvalidArgument

WIDTHS = (8, 4, 2)


def row_bytes(dim: int, bits: int) -> int:
    """Returns the bytes of one fused row of ``dim`` elements."""
    _check_bits(bits)
    return (dim * bits + 7) // 8 + (8 if bits == 8 else 4)


def _check_bits(bits: int) -> None:
    if bits not in WIDTHS:
        raise InvalidArgument(f"{bits}-bit embedding rows", remedy="use 8, 4 or 2 bits")


def quantize_rows(table: NDArray[np.float32], bits: int = 8) -> NDArray[np.uint8]:
    """Quantises each row to its own range.

    Args:
        table: Finite float32 ``[rows, dim]``.
        bits: Width of a code: 8, 4 or 2.

    Returns:
        Fused rows, uint8 ``[rows, row_bytes(dim, bits)]``.

    Raises:
        InvalidArgument: The width or the shape is not as above.
    """
    _check_bits(bits)
    table = np.asarray(table, np.float32)
    if table.ndim != 2 or not table.shape[1]:
        raise InvalidArgument(
            f"an embedding table of shape {table.shape}", remedy="pass [rows, dim], dim above 0"
        )
    low, high = table.min(axis=1, keepdims=True), table.max(axis=1, keepdims=True)
    if bits == 8:
        span = high - low
        codes = np.rint((table - low) * (np.float32(255) / (span + np.float32(1e-8))))
        tail = np.concatenate([span / np.float32(255), low], axis=1).astype("<f4")
        return np.concatenate([codes.astype(np.uint8), tail.view(np.uint8)], axis=1)
    levels = np.float32((1 << bits) - 1)
    half_low = low.astype(np.float16)
    base = half_low.astype(np.float32)
    scale = ((high - base) / levels).astype(np.float16)
    with np.errstate(divide="ignore", over="ignore"):
        inverse = np.float32(1) / scale.astype(np.float32)
        scale = np.where(np.isinf(inverse), np.float16(1), scale)
        inverse = np.float32(1) / scale.astype(np.float32)
    codes = np.clip(np.rint((table - base) * inverse), 0, levels).astype(np.uint8)
    tail = np.concatenate([scale, half_low], axis=1).astype("<f2")
    return np.concatenate([_pack(codes, bits), tail.view(np.uint8)], axis=1)


def _pack(codes: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    per_byte = 8 // bits
    padded = np.pad(codes, ((0, 0), (0, -codes.shape[1] % per_byte)))
    lanes = padded.reshape(codes.shape[0], padded.shape[1] // per_byte, per_byte)
    packed = np.zeros(lanes.shape[:2], np.uint8)
    for lane in range(per_byte):
        packed |= lanes[:, :, lane] << np.uint8(lane * bits)
    return packed


def split_rows(
    rows: NDArray[np.uint8], dim: int, bits: int = 8
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
    """Takes fused rows apart.

    Args:
        rows: Fused rows, ``[..., row_bytes(dim, bits)]``.
        dim: Elements of a row.
        bits: Width of a code: 8, 4 or 2.

    Returns:
        Codes ``[..., dim]`` as uint8, scale ``[..., 1]`` and bias ``[..., 1]`` as float32.

    Raises:
        InvalidArgument: The rows do not have the length that the width takes.
    """
    length = row_bytes(dim, bits)
    if rows.ndim < 1 or rows.shape[-1] != length or rows.dtype != np.uint8:
        raise InvalidArgument(
            f"fused rows of {rows.dtype}{list(rows.shape)}",
            remedy=f"{dim} elements of {bits} bits take uint8 rows of {length} bytes",
        )
    tail_bytes = 8 if bits == 8 else 4
    tail = np.ascontiguousarray(rows[..., -tail_bytes:])
    pair: NDArray[Any] = tail.view("<f4" if bits == 8 else "<f2").astype(np.float32)
    return _unpack(rows[..., :-tail_bytes], dim, bits), pair[..., :1], pair[..., 1:]


def _unpack(packed: NDArray[np.uint8], dim: int, bits: int) -> NDArray[np.uint8]:
    if bits == 8:
        return packed
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    lanes = (packed[..., None] >> shifts) & np.uint8((1 << bits) - 1)
    return lanes.reshape(*packed.shape[:-1], packed.shape[-1] * len(shifts))[..., :dim]


def dequantize_rows(rows: NDArray[np.uint8], dim: int, bits: int = 8) -> NDArray[np.float32]:
    """Returns ``scale * code + bias`` in float32, rounded after each operation.

    Args:
        rows: Fused rows, ``[..., row_bytes(dim, bits)]``.
        dim: Elements of a row.
        bits: Width of a code: 8, 4 or 2.
    """
    codes, scale, bias = split_rows(rows, dim, bits)
    values = codes.astype(np.float32)
    values *= scale
    values += bias
    return values
