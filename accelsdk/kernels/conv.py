"""Convolutions: matrix products of gathered windows, or sums of shifted images."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.formats import Format
from accelsdk.graph.graph import Node
from accelsdk.kernels.kernel import (
    Binders,
    Kernel,
    computing,
    integer,
    integers,
    one,
    operand_format,
    shape_of,
    trailing,
)
from accelsdk.kernels.matmul import product
from accelsdk.kernels.windows import Taps, Window

#: Bytes of gathered windows at a time, and items of a depthwise sum (to stay in cache).
_GATHERED = 4 << 20
_SUMMED = 1 << 17

Convolution = Callable[..., NDArray[Any]]


def _convolution(node: Node) -> Convolution:
    """Returns the convolution of (X, W) that suits the node's geometry."""
    w_shape, group = shape_of(node, 1), integer(node, "group")
    window = Window.of(node, w_shape[2:])
    shape = node.result.shape

    def pointwise(x: NDArray[Any], w: NDArray[Any]) -> NDArray[Any]:
        x = window.subsample(x)
        columns = x.reshape(x.shape[0], group, x.shape[1] // group, -1)
        out = np.matmul(w.reshape(group, -1, w.shape[1]), columns)
        return np.asarray(out).reshape(shape)

    def depthwise(x: NDArray[Any], w: NDArray[Any]) -> NDArray[Any]:
        return _depthwise(x, w, window, np.empty(shape, x.dtype))

    def gathered(x: NDArray[Any], w: NDArray[Any]) -> NDArray[Any]:
        return _gathered(x, w, window, group, shape)

    if math.prod(shape) == 0 or math.prod(w_shape) == 0:
        return lambda x, w: np.zeros(shape, x.dtype)
    if window.is_pointwise:
        return pointwise
    return depthwise if w_shape[1] == 1 and group > 1 else gathered


def _depthwise(x: NDArray[Any], w: NDArray[Any], window: Window, out: NDArray[Any]) -> NDArray[Any]:
    """Sums shifted images, each times its tap's weights, a few channels at a time."""
    channels = x.shape[1]
    multiple = w.shape[0] // channels
    weights = w.reshape(channels, multiple, -1)
    results = out.reshape(out.shape[0], channels, multiple, *window.results)
    per_channel = x.shape[0] * math.prod(window.padded)
    step = max(1, _SUMMED // max(per_channel, 1))
    rows = slice(0, window.results[0])
    for start in range(0, channels, step):
        part = slice(start, start + step)
        taps = Taps(x[:, part], window)
        shape = (x.shape[0], min(step, channels - start), *taps.layout(rows))
        total, term = np.empty(shape, x.dtype), np.empty(shape, x.dtype)
        spread = (slice(None), *(None,) * (len(shape) - 2))
        for copy in range(multiple):
            for index, tap in enumerate(window.taps()):
                factor = weights[part, copy, index][spread]
                target = term if index else total
                np.multiply(taps.view(tap, rows), factor, out=target)
                if index:
                    total += term
            results[:, part, copy] = taps.crop(total, rows)
    return out


def _gathered(
    x: NDArray[Any],
    w: NDArray[Any],
    window: Window,
    group: int,
    shape: tuple[int, ...],
) -> NDArray[Any]:
    """Gathers windows as columns, in chunks of bounded memory, and multiplies by weights."""
    batch, channels = x.shape[:2]
    count = math.prod(window.kernel)
    weights = w.reshape(group, w.shape[0] // group, -1)
    taps = Taps(x, window)
    row_items = channels * count * math.prod(taps.layout(slice(0, 1)))
    limit = _GATHERED // x.itemsize
    together = max(1, limit // max(row_items * window.results[0], 1))
    out: NDArray[Any] | None = None
    for rows in window.rows(row_items, limit):
        for start in range(0, batch, together):
            images = slice(start, min(start + together, batch))
            columns = taps.gather(images, rows)
            columns = columns.reshape(len(columns), group, channels // group * count, -1)
            found = np.matmul(weights, columns)
            if out is None:
                out = np.empty(shape, found.dtype)
            out[images, :, rows] = taps.crop(found.reshape(len(found), shape[1], -1), rows)
    return np.zeros(shape, x.dtype) if out is None else out


def _with_bias(convolution: Convolution, rank: int) -> Convolution:
    spread = (slice(None), *(None,) * rank)

    def convolve(x: NDArray[Any], w: NDArray[Any], *bias: NDArray[Any]) -> NDArray[Any]:
        out = convolution(x, w)
        if bias:
            out += bias[0][spread]
        return out

    return convolve


def _bind_conv(node: Node) -> Kernel:
    rank = len(shape_of(node, 1)) - 2
    function = computing(operand_format(node, 0), _with_bias(_convolution(node), rank))
    return one(lambda *operands: function(*(x for x in operands if x is not None)))


# -- integers --------------------------------------------------------------------------------


def _bind_conv_integer(node: Node) -> Kernel:
    x_format, w_format = operand_format(node, 0), operand_format(node, 1)
    w_shape = shape_of(node, 1)
    depth = math.prod(w_shape[1:])
    convolve = _convolution(node)

    def conv(
        x: NDArray[Any],
        w: NDArray[Any],
        x_zero: NDArray[Any] | None = None,
        w_zero: NDArray[Any] | None = None,
    ) -> NDArray[Any]:
        x_wide, x_bound = _centred(x, x_format, x_zero)
        if w_zero is not None and w_zero.size > 1:
            w_zero = w_zero.reshape(-1, *(1,) * (w.ndim - 1))
        w_wide, w_bound = _centred(w, w_format, w_zero)
        if x_bound * w_bound * depth >= 1 << 24:
            # Sums that float32 does not hold exactly; float64 holds any that fit in memory.
            x_wide, w_wide = x_wide.astype(np.float64), w_wide.astype(np.float64)
        return convolve(x_wide, w_wide).astype(np.int64).astype(np.int32)

    return one(conv)


def _centred(
    x: NDArray[Any], fmt: Format, zero: NDArray[Any] | None
) -> tuple[NDArray[np.float32], int]:
    """Returns x - zero in float32 and the largest magnitude it can have."""
    wide = x.astype(np.float32)
    if zero is None:
        return wide, int(max(fmt.max, -fmt.min))
    wide -= zero.astype(np.float32)
    low, high = int(zero.min()), int(zero.max())
    return wide, int(max(fmt.max - low, high - fmt.min))


# -- transposed ------------------------------------------------------------------------------


def _bind_conv_transpose(node: Node) -> Kernel:
    w_shape, group = shape_of(node, 1), integer(node, "group")
    kernel, shape = w_shape[2:], node.result.shape
    strides, dilations = integers(node, "strides"), integers(node, "dilations")
    begin = integers(node, "pads")[: len(kernel)]
    extents = shape_of(node, 0)[2:]
    reach = [
        max((e - 1) * s + (k - 1) * d + 1, b + result)
        for e, s, k, d, b, result in zip(
            extents, strides, kernel, dilations, begin, shape[2:], strict=True
        )
    ]
    window = Window(
        extents=extents,
        results=extents,
        kernel=kernel,
        strides=strides,
        dilations=dilations,
        begin=begin,
    )
    kept = tuple(slice(b, b + result) for b, result in zip(begin, shape[2:], strict=True))

    def transposed(x: NDArray[Any], w: NDArray[Any], *bias: NDArray[Any]) -> NDArray[Any]:
        whole = np.zeros((*shape[:2], *reach), x.dtype)
        # [G, C/G, M/G * K] -> each input position gives K values to M channels.
        weights = w.reshape(group, w.shape[0] // group, -1).transpose(0, 2, 1)
        for image, target in zip(x, whole, strict=True):
            columns = image.reshape(group, image.shape[0] // group, -1)
            spread = product(weights, columns).reshape(shape[1], -1, *extents)
            for index, tap in enumerate(window.taps()):
                cut = tuple(
                    slice(t, t + (e - 1) * s + 1, s)
                    for t, e, s in zip(tap, extents, strides, strict=True)
                )
                target[(slice(None), *cut)] += spread[:, index]
        out = whole[trailing(*kept)]
        if bias:
            out = out + bias[0][(slice(None), *(None,) * len(kernel))]
        return np.ascontiguousarray(out)

    empty = math.prod(shape_of(node, 0)) == 0 or math.prod(w_shape) == 0

    def only_bias(x: NDArray[Any], w: NDArray[Any], *bias: NDArray[Any]) -> NDArray[Any]:
        out = np.zeros(shape, x.dtype)
        return out + bias[0][(slice(None), *(None,) * len(kernel))] if bias else out

    function = computing(operand_format(node, 0), only_bias if empty else transposed)
    return one(lambda *operands: function(*(x for x in operands if x is not None)))


BINDERS: Binders = {
    "Conv": _bind_conv,
    "ConvInteger": _bind_conv_integer,
    "ConvTranspose": _bind_conv_transpose,
}
