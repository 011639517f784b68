"""Weights of 2, 4 and 8 bits with a scale for each block: com.microsoft's own forms.

The weights stay narrow: packed bytes become codes of a 4- or 8-bit format with the same
contents (2-bit codes take 4 bits), and are widened block by block as the program runs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from accelsdk.compiler.rules.common import axis_of, constant, integer, refuse, required, reshaped
from accelsdk.compiler.rules.microsoft_common import microsoft, transposed
from accelsdk.compiler.rules.quantize import dequantize_linear, quantize_linear
from accelsdk.formats import UINT4, UINT8, Format
from accelsdk.graph.graph import Array, Node
from accelsdk.graph.rewrite import Builder, LoweringRule
from accelsdk.graph.types import Value


def _format(bits: int) -> Format:
    return UINT8 if bits == 8 else UINT4


def _unpacked(packed: Array, bits: int) -> NDArray[np.uint8]:
    """Codes of bytes that hold several along the last axis, the first in the low bits."""
    if bits == 8:
        return packed.view(np.uint8)
    parts = [packed.view(np.uint8) >> shift for shift in range(0, 8, bits)]
    codes = np.stack(parts, axis=-1) & np.uint8((1 << bits) - 1)
    return codes.reshape(*packed.shape[:-1], -1).astype(np.uint8)


def _matmul_nbits(b: Builder, node: Node) -> Sequence[Value | None]:
    """A times the transpose of blocks of codes [N, K / block, bytes].

    The product is summed in float32 (or in A's format). `accuracy_level` lets a runtime round
    A to fewer bits; it need not, and we do not.
    """
    a, scales = required(node, 0), required(node, 2)
    rows, depth = integer(node, "N", 0), integer(node, "K", 0)
    bits, block = integer(node, "bits", 4), integer(node, "block_size", 0)
    if bits not in (2, 4, 8) or block < 1 or integer(node, "weight_prepacked", 0):
        refuse(node, f"bits {bits}, block_size {block} or prepacked weights are not supported")
    packed = constant(b, node, 1, "packed weights")
    blocks = -(-depth // block)
    if packed is None or packed.size * 8 != rows * blocks * block * bits:
        refuse(node, f"its packed weights do not hold {rows} x {depth} codes of {bits} bits")
    codes = _unpacked(packed.reshape(rows, -1), bits)[:, :depth]
    form = _format(bits)
    weights = b.constant(np.ascontiguousarray(codes).astype(form.dtype), form)
    scales = reshaped(b, scales, (rows, blocks))
    zeros = _zeros(b, node, rows, blocks, bits)
    if node.operand(4) is not None or zeros.format.is_float:
        wide = _by_group(b, node, weights, scales, zeros)
    else:
        wide = b.op(
            *("Dequantize", weights, scales, zeros),
            axis=1,
            block_size=block,
            to=a.format.name,
        )
    y = b.op("MatMul", a, transposed(b, wide, (1, 0)))
    bias = node.operand(5)
    return [y if bias is None else b.op("Add", y, bias)]


def _zeros(b: Builder, node: Node, rows: int, blocks: int, bits: int) -> Value:
    """Zero points [rows, blocks]: packed codes, floats, or the middle of the range."""
    given, form = node.operand(3), _format(bits)
    if given is not None and given.format.is_float:
        return reshaped(b, given, (rows, blocks))
    if given is None:
        codes = np.full((rows, blocks), 1 << (bits - 1), np.uint8)
    else:
        packed = constant(b, node, 3, "zero points")
        width = -(-blocks * bits // 8)
        if packed is None or packed.size != rows * width:
            refuse(node, f"its zero points are not {rows} rows of {blocks} codes")
        codes = _unpacked(packed.reshape(rows, width), bits)[:, :blocks]
    return b.constant(np.ascontiguousarray(codes).astype(form.dtype), form)


def _by_group(b: Builder, node: Node, weights: Value, scales: Value, zeros: Value) -> Value:
    """(codes - zero) * scale for float zero points, or columns grouped by `g_idx`."""
    depth, block = weights.shape[1], integer(node, "block_size", 0)
    groups = constant(b, node, 4, "g_idx")
    if groups is None:
        groups = np.arange(depth) // block
    where = b.constant(groups.reshape(-1)[:depth].astype(np.int32))
    each = (b.op("Gather", value, where, axis=1) for value in (zeros, scales))
    zero, scale = (v if v.format is scales.format else _cast(b, v, scales) for v in each)
    return b.op("Mul", b.op("Sub", _cast(b, weights, scales), zero), scale)


def _cast(b: Builder, value: Value, like: Value) -> Value:
    return b.op("Cast", value, to=like.format.name)


def _gather(b: Builder, node: Node) -> Sequence[Value | None]:
    """Gathers rows of codes, with their scales, and widens those alone."""
    data, indices, scales = (required(node, index) for index in range(3))
    zeros, bits = node.operand(3), integer(node, "bits", 4)
    block = integer(node, "block_size", 128)
    if data.format is UINT8 and bits != 8:
        data = _repacked(b, node, 0, "packed data", bits)
        zeros = None if zeros is None else _repacked(b, node, 3, "zero points", bits)
        if zeros is not None and zeros.shape != scales.shape:
            zeros = _cut(b, zeros, scales)
    if data.format is UINT8 and zeros is None:
        zeros = b.constant(np.full(scales.shape, 128, np.uint8), UINT8)
    elif zeros is None and node.operand(0) is not data:
        middle = np.full(scales.shape, 1 << (bits - 1), np.uint8)
        zeros = b.constant(middle.astype(data.format.dtype), data.format)
    rank = data.type.rank
    gather = axis_of(node, integer(node, "gather_axis", 0), rank)
    along = axis_of(node, integer(node, "quantize_axis", 1), rank)
    if gather == along:
        refuse(node, f"gather_axis and quantize_axis are both {gather}")
    operands = (data, scales) if zeros is None else (data, scales, zeros)
    picked = [b.op("Gather", value, indices, axis=gather) for value in operands]
    axis = along + (indices.type.rank - 1 if along > gather else 0)
    to = scales.format.name
    return [b.op("Dequantize", *picked, axis=axis, block_size=block, to=to)]


def _repacked(b: Builder, node: Node, index: int, what: str, bits: int) -> Value:
    packed = constant(b, node, index, what)
    if packed is None or bits not in (2, 4):
        refuse(node, f"bits {bits} is not supported")
    return b.constant(_unpacked(packed, bits).astype(UINT4.dtype), UINT4)


def _cut(b: Builder, zeros: Value, scales: Value) -> Value:
    """Zero points without the filling of their last byte."""
    axis = zeros.type.rank - 1
    return b.op("Slice", zeros, starts=(0,), ends=(scales.shape[axis],), axes=(axis,), steps=(1,))


RULES: tuple[LoweringRule, ...] = (
    microsoft("QuantizeLinear", quantize_linear, "axis"),
    microsoft("DequantizeLinear", dequantize_linear, "axis"),
    microsoft("MatMulNBits", _matmul_nbits, "K N bits block_size accuracy_level weight_prepacked"),
    microsoft("GatherBlockQuantized", _gather, "bits block_size gather_axis quantize_axis"),
)
