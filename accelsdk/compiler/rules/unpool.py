"""MaxUnpool and Col2Im: windows put back to where they came from."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from accelsdk.compiler.rules.common import integers, refuse, required, rule, spatial
from accelsdk.graph.graph import Node
from accelsdk.graph.rewrite import Builder, LoweringRule
from accelsdk.graph.types import Value


def _max_unpool(b: Builder, node: Node) -> Sequence[Value | None]:
    """Scatters items to their flat positions in a tensor of zeros.

    Positions count in the tensor that MaxPool read, whose extents are those of the windows
    without the pads; a larger output_shape adds zeros behind it (ONNX MaxUnpool-22).
    """
    x, positions = required(node, 0), required(node, 1)
    count = x.type.rank - 2
    if count < 1 or positions.shape != x.shape:
        refuse(node, f"operands {x.type} and {positions.type} are no pooled items and positions")
    kernel = spatial(node, "kernel_shape", count, 0)
    strides, pads = spatial(node, "strides", count, 1), spatial(node, "pads", 2 * count, 0)
    extents = tuple(
        (x.shape[i + 2] - 1) * strides[i] - pads[i] - pads[i + count] + kernel[i]
        for i in range(count)
    )
    source = (*x.shape[:2], *extents)
    wanted = integers(b, node, 2, "output_shape") or source
    added = tuple(w - s for w, s in zip(wanted, source, strict=False))
    if min(extents) < 0 or len(wanted) != len(source) or min(added) < 0:
        refuse(node, f"output_shape {wanted} is smaller than {source}, what the windows span")
    zeros = b.op("Expand", b.scalar(0, x.format), shape=(prod(source),))
    places = b.op("Reshape", positions, shape=(x.type.count, 1))
    flat = b.op("ScatterND", zeros, places, b.op("Reshape", x, shape=(x.type.count,)))
    made = b.op("Reshape", flat, shape=source)
    return [b.op("Pad", made, pads=(*(0 for _ in added), *added)) if any(added) else made]


def _col2im(b: Builder, node: Node) -> Sequence[Value | None]:
    """Adds columns up into an image, one spatial axis after the other (ONNX Col2Im-18).

    Where an item goes along an axis depends on its place in block and grid along that axis
    alone, so a block of k1 x k2 takes k1 + k2 additions instead of k1 * k2.
    """
    x = required(node, 0)
    image, block = integers(b, node, 1, "image_shape"), integers(b, node, 2, "block_shape")
    if image is None or block is None or x.type.rank != 3 or len(image) != len(block):
        refuse(node, f"operand {x.type}, image {image} and block {block} do not match")
    count = len(image)
    strides, dilations = spatial(node, "strides", count, 1), spatial(node, "dilations", count, 1)
    pads = spatial(node, "pads", 2 * count, 0)
    if min(*image, *block, *strides, *dilations, 1) < 1 or min(pads, default=0) < 0:
        refuse(node, "image, block, strides and dilations must be positive, pads not negative")
    grid = tuple(
        (image[i] + pads[i] + pads[i + count] - (block[i] - 1) * dilations[i] - 1) // strides[i] + 1
        for i in range(count)
    )
    if x.shape[1] % prod(block) or prod(grid) != x.shape[2] or min(grid) < 1:
        refuse(node, f"operand {x.type} holds no blocks of {block} on a grid of {grid}")
    lead = x.shape[0] * (x.shape[1] // prod(block))
    made = x
    done: tuple[int, ...] = ()
    for i in reversed(range(count)):
        # [lead, outer blocks, block, outer grid, grid, inner extents, which are done]
        around = (lead, prod(block[:i]), block[i], prod(grid[:i]), grid[i], prod(done))
        rows = b.op("Reshape", made, shape=around)
        parts = b.op("Transpose", rows, perm=(0, 1, 3, 2, 4, 5))
        made = _overlapped(
            b,
            parts,
            image[i],
            strides[i],
            tuple(t * dilations[i] - pads[i] for t in range(block[i])),
        )
        done = (image[i], *done)
    return [b.op("Reshape", made, shape=(x.shape[0], x.shape[1] // prod(block), *image))]


def _overlapped(b: Builder, x: Value, extent: int, stride: int, begins: Sequence[int]) -> Value:
    """Sums the items [..., tap, step, :] at ``begins[tap] + step * stride`` of a new axis."""
    *outer, taps, steps, inner = x.shape
    if stride > 1:
        spread = b.op("Reshape", x, shape=(*outer, taps, steps, 1, inner))
        pads = [0] * (2 * spread.type.rank)
        pads[-2] = stride - 1
        x = b.op("Pad", spread, pads=tuple(pads))
    length = steps * stride
    x = b.op("Reshape", x, shape=(*outer, taps, length, inner))
    rank, axis = x.type.rank, x.type.rank - 2
    total: Value | None = None
    for tap, begin in enumerate(begins):
        low, high = max(0, -begin), min(length, extent - begin)
        if low >= high:
            continue
        part = b.op(
            "Slice", x, starts=(tap, low), ends=(tap + 1, high), axes=(axis - 1, axis), steps=(1, 1)
        )
        pads = [0] * (2 * rank)
        pads[axis], pads[axis + rank] = begin + low, extent - begin - high
        placed = b.op("Pad", part, pads=tuple(pads)) if any(pads) else part
        total = placed if total is None else b.op("Add", total, placed)
    if total is None:
        zero = b.scalar(0, x.format)
        return b.op("Expand", zero, shape=(*outer, 1, extent, inner))
    return total


RULES: tuple[LoweringRule, ...] = (
    rule("MaxUnpool", _max_unpool, "kernel_shape pads strides"),
    rule("Col2Im", _col2im, "dilations pads strides"),
)
