"""Defects of data movement: nothing is computed, but it arrives in another place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from accelsdk.graph.graph import Node
from accelsdk.kernels.kernel import Kernel, axis_of, integer, integers, text
from accelsdk_sim_card.defects.defect import (
    Array,
    Defect,
    always,
    fmt_of,
    is_op,
    misread,
    operands,
    results,
    rows,
    singles,
)
from accelsdk_sim_card.defects.tampering import rolled, without_subnormals

if TYPE_CHECKING:
    from accelsdk_sim_card.arithmetic import Arithmetic

_MOVES = ("Reshape", "Transpose", "Concat", "Slice", "Gather", "Expand", "Tile", "Pad")
_NAMES = ", ".join(_MOVES)


def _inverse(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """The axes go where they should come from."""
    if not is_op(node, "Transpose"):
        return None
    perm = integers(node, "perm")
    inverse = tuple(int(i) for i in np.argsort(perm))
    if inverse == perm:
        return None
    shape = node.result.shape
    return lambda x: (np.ascontiguousarray(x.transpose(inverse)).reshape(shape),)


def _backward_from_end(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """Reversed slices start one element too early and wrap around."""
    if not is_op(node, "Slice") or min(integers(node, "steps"), default=1) > 0:
        return None
    axes, steps = integers(node, "axes"), integers(node, "steps")
    kernel = arithmetic.sound(node)

    def broken(x: Array) -> tuple[Array, ...]:
        (y,) = kernel(x)
        for axis, step in zip(axes, steps, strict=True):
            y = np.roll(y, 1, axis=axis) if step < 0 else y
        return (y,)

    return broken


def _same_pieces(found: list[Any], node: Node) -> None:
    """The data of the second piece follow those of the last."""
    axis = axis_of(node)
    joined = np.concatenate([found[0], *found[:0:-1]], axis=axis)
    ends = np.cumsum([x.shape[axis] for x in found])[:-1]
    found[:] = np.split(joined, ends, axis=axis)


def _mirrored(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """Reflections repeat the edge."""
    value = node.operand(0)
    if not is_op(node, "Pad") or text(node, "mode") != "reflect" or value is None:
        return None
    pads = integers(node, "pads")
    rank = len(pads) // 2
    widths = list(zip(pads[:rank], pads[rank:], strict=True))
    if min(pads) < 0 or not any(pads):
        return None
    return lambda x, *rest: (np.pad(x, widths, mode="symmetric"),)


def _repeated(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """Each element is repeated in place, instead of the whole."""
    if not is_op(node, "Tile"):
        return None
    repeats = integers(node, "repeats")

    def repeat(x: Array) -> tuple[Array, ...]:
        for axis, count in enumerate(repeats):
            x = np.repeat(x, count, axis=axis)
        return (x,)

    return repeat


def _last_update(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """The last update is not written."""
    value = node.operand(0)
    if not is_op(node, "ScatterElements", "ScatterND") or value is None:
        return None
    kernel = arithmetic.sound(node)

    def broken(x: Array, index: Array, updates: Array) -> tuple[Array, ...]:
        (y,) = kernel(x, index, updates)
        if not index.size:
            return (y,)
        y = y.copy()
        if is_op(node, "ScatterND"):
            place = tuple(index.reshape(-1, index.shape[-1])[-1])
            y[place] = x[place]
        else:
            axis = integer(node, "axis")
            spot = [n - 1 for n in index.shape]
            spot[axis] = int(index.reshape(-1)[-1])
            y[tuple(spot)] = x[tuple(spot)]
        return (y,)

    return broken


def _odd_tail(y: Array, node: Node) -> Array:
    flat = y.reshape(-1)
    flat[-1:] = np.zeros(1, np.uint8).view(y.dtype)
    return flat.reshape(y.shape)


def _half_byte(node: Node) -> bool:
    return node.result.format.bits < 8 and node.result.type.count % 2 == 1


def _through_float_unit(y: Array, node: Node) -> Array:
    return without_subnormals(y) + np.float32(0)


def _first_row_again(y: Array, node: Node) -> Array:
    if y.ndim > 1 and y.shape[0] > 1:
        y[-1] = y[0]
    return y


def _unpadded(found: list[Any], node: Node) -> None:
    """Parts of a split come from the start of the tensor, one element late."""
    found[0] = np.roll(found[0], -1, axis=axis_of(node))


def _other_axis(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    value = node.operand(0)
    axis = axis_of(node)
    if value is None or axis == 0:
        return None
    shape = node.result.shape

    def wrong(x: Array, index: Array) -> tuple[Array, ...]:
        limit = x.shape[0]
        found = np.take(x, np.clip(index, -limit, limit - 1), axis=0)
        return (np.resize(found, shape),)

    return wrong


_row = rows("")

DEFECTS: tuple[Defect, ...] = (
    _row(
        "transpose_inverse",
        "the inverse permutation is applied",
        "Transpose",
        "axes that go where they should come from",
        _inverse,
    ),
    _row(
        "slice_backward",
        "reversed slices start one element too early",
        "Slice with negative steps",
        "an end that is counted from the wrong side",
        _backward_from_end,
    ),
    _row(
        "concat_order",
        "pieces after the first are joined in reverse order",
        "Concat",
        "descriptors pushed on a stack",
        operands(_same_pieces, lambda node: len(node.inputs) > 2, "Concat"),
    ),
    _row(
        "pad_reflect_edge",
        "reflections repeat the edge",
        "Pad, reflect",
        "symmetric for reflect",
        _mirrored,
    ),
    _row(
        "pad_edge_zero",
        "zeros are written instead of the edge",
        "Pad, edge",
        "a mode that is not read",
        misread("Pad", when=lambda node: text(node, "mode") == "edge", mode="constant"),
    ),
    _row(
        "pad_wrap_reflect",
        "reflections are written instead of the other end",
        "Pad, wrap",
        "a mode that is not known",
        misread("Pad", when=lambda node: text(node, "mode") == "wrap", mode="reflect"),
    ),
    _row(
        "tile_repeats",
        "each element is repeated in place, instead of the whole",
        "Tile",
        "np.repeat for np.tile",
        _repeated,
    ),
    _row(
        "gather_next_index",
        "each element is read with its neighbour's index",
        "Gather, GatherND, GatherElements",
        "a prefetch that is one step ahead",
        operands(rolled(1), always, "Gather", "GatherElements"),
    ),
    _row(
        "scatter_last_update",
        "the last update is not written",
        "ScatterElements, ScatterND",
        "a loop bound off by one",
        _last_update,
    ),
    _row(
        "split_shifted",
        "every part starts one element late",
        "Split",
        "an offset that is added twice",
        operands(_unpadded, always, "Split"),
    ),
    _row(
        "half_byte_tail",
        "the last element of an odd number is lost",
        f"{_NAMES} on formats below 8 bits",
        "whole bytes are moved, rounded down",
        results(_odd_tail, _half_byte, *_MOVES),
    ),
    _row(
        "move_flushes",
        "subnormals become zero on the way",
        f"{_NAMES} on float32",
        "copies through a floating-point register",
        results(_through_float_unit, singles, *_MOVES),
    ),
    _row(
        "expand_last_row",
        "the last row repeats the first",
        "Gather, Concat, Slice, Pad, Transpose",
        "a double buffer that is swapped too late",
        results(
            _first_row_again,
            lambda node: fmt_of(node) is not None,
            *("Gather", "Concat", "Slice", "Pad", "Transpose"),
        ),
    ),
    _row(
        "gather_axis_zero",
        "the axis is 0, whatever the model says",
        "Gather on square data",
        "an attribute that is not read",
        lambda node, arithmetic: _other_axis(node, arithmetic) if is_op(node, "Gather") else None,
    ),
)
