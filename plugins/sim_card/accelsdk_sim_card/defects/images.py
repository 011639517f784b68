"""Defects of pools, convolutions and resizing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from accelsdk.graph.graph import Node
from accelsdk.kernels.kernel import Kernel, integer, integers, text
from accelsdk_sim_card.defects.defect import (
    Array,
    Defect,
    always,
    floats,
    is_op,
    misread,
    operands,
    results,
    rows,
    signed,
    with_attributes,
)

if TYPE_CHECKING:
    from accelsdk_sim_card.arithmetic import Arithmetic

_CONVOLUTIONS = ("Conv", "ConvInteger")


def _flip_kernel(found: list[Any], node: Node) -> None:
    w = found[1]
    found[1] = np.ascontiguousarray(w[(..., *(slice(None, None, -1),) * (w.ndim - 2))])


def _swap_pads(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """Padding before and after each axis is swapped."""
    if not is_op(node, *_CONVOLUTIONS):
        return None
    pads = integers(node, "pads")
    rank = len(pads) // 2
    if pads[:rank] == pads[rank:]:
        return None
    return arithmetic.sound(with_attributes(node, pads=(*pads[rank:], *pads[:rank])))


def _next_group(found: list[Any], node: Node) -> None:
    group, x = integer(node, "group"), found[0]
    found[0] = np.roll(x, x.shape[1] // group, axis=1)


def _grouped(node: Node) -> bool:
    return integer(node, "group") > 1


def _near_taps(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """Taps lie side by side although they should be spread."""
    if not is_op(node, *_CONVOLUTIONS) or max(integers(node, "dilations"), default=1) == 1:
        return None
    value = node.operand(1)
    if value is None:
        return None
    ones = (1,) * len(integers(node, "dilations"))
    taps = zip(value.shape[2:], integers(node, "dilations"), strict=True)
    more = tuple((k - 1) * (d - 1) for k, d in taps)
    pads = integers(node, "pads")
    rank = len(ones)
    shrunk = (*pads[:rank], *(p - m for p, m in zip(pads[rank:], more, strict=True)))
    if min(shrunk) < 0:
        shrunk = pads
        x = node.operand(0)
        if x is None:
            return None
        cut = tuple(slice(0, n - m) for n, m in zip(x.shape[2:], more, strict=True))
        smaller = _cropped(node, cut)
        kernel = arithmetic.sound(with_attributes(smaller, dilations=ones))
        return lambda image, *rest: kernel(np.ascontiguousarray(image[(..., *cut)]), *rest)
    return arithmetic.sound(with_attributes(node, dilations=ones, pads=shrunk))


def _cropped(node: Node, cut: tuple[slice, ...]) -> Node:
    x = node.inputs[0]
    if x is None:
        return node
    shape = (*x.shape[:2], *(part.stop for part in cut))
    smaller = replace(x, type=replace(x.type, shape=shape))
    return replace(node, inputs=(smaller, *node.inputs[1:]))


def _from_zero(y: Array, node: Node) -> Array:
    return np.asarray(np.maximum(y, y.dtype.type(0)))


def _nan_lost(found: list[Any], node: Node) -> None:
    x = found[0]
    found[0] = np.where(np.isnan(x), x.dtype.type(-np.inf), x)


def _last_image(y: Array, node: Node) -> Array:
    y[..., -1] = y[..., -2]
    return y


def _wide_enough(node: Node) -> bool:
    return len(node.result.shape) > 2 and node.result.shape[-1] > 1 and node.result.type.count > 0


_row = rows("")

DEFECTS: tuple[Defect, ...] = (
    _row(
        "conv_flipped",
        "the kernel is flipped",
        "Conv, ConvInteger",
        "convolution in the mathematical sense",
        operands(_flip_kernel, always, *_CONVOLUTIONS),
    ),
    _row(
        "conv_pads_swapped",
        "padding before and after an axis is swapped",
        "Conv, ConvInteger",
        "a layout of pads of another framework",
        _swap_pads,
    ),
    _row(
        "conv_next_group",
        "each group reads the channels of its neighbour",
        "Conv, ConvInteger",
        "a channel offset that is off by one group",
        operands(_next_group, _grouped, *_CONVOLUTIONS),
    ),
    _row(
        "conv_dilation",
        "taps lie side by side although they should be spread",
        "Conv, ConvInteger",
        "an attribute that is not read",
        _near_taps,
    ),
    _row(
        "conv_last_column",
        "the last column repeats the one before",
        "Conv, ConvInteger, MaxPool, AveragePool",
        "an edge tile that is not written",
        results(_last_image, _wide_enough, *_CONVOLUTIONS, "MaxPool", "AveragePool"),
    ),
    _row(
        "conv_transpose_flipped",
        "the kernel is flipped",
        "ConvTranspose",
        "a convolution of the upsampled image without the flip",
        operands(_flip_kernel, always, "ConvTranspose"),
    ),
    _row(
        "maxpool_from_zero",
        "the search starts at zero instead of at the first element",
        "MaxPool",
        "an accumulator that is cleared and not loaded",
        results(_from_zero, signed, "MaxPool"),
    ),
    _row(
        "maxpool_drops_nan",
        "NaN loses against numbers",
        "MaxPool on floats",
        "fmaxf",
        operands(_nan_lost, floats, "MaxPool"),
    ),
    _row(
        "avgpool_skips_padding",
        "padding does not count as items although it should",
        "AveragePool, count_include_pad",
        "an attribute that is not read",
        misread("AveragePool", count_include_pad=0),
    ),
    _row(
        "resize_half_pixel",
        "coordinates are taken at pixel centres",
        "Resize",
        "a mode that is not read",
        misread(
            "Resize",
            when=lambda node: text(node, "coordinate_transformation_mode") != "half_pixel",
            coordinate_transformation_mode="half_pixel",
        ),
    ),
    _row(
        "resize_nearest",
        "linear interpolation takes the nearest element",
        "Resize, linear",
        "a mode that is not known",
        misread("Resize", when=lambda node: text(node, "mode") == "linear", mode="nearest"),
    ),
    _row(
        "resize_ceil",
        "the nearest element is the one after",
        "Resize, nearest",
        "ceil for floor",
        misread("Resize", nearest_mode="ceil"),
    ),
)
