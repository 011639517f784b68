"""Convolutions as matrix products: windows gathered into rows, one product a group."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from accelsdk.graph.graph import Node
from accelsdk.kernels.kernel import integer, integers, shape_of

Array = NDArray[Any]


class Windows:
    """The geometry of one Conv or ConvInteger node."""

    def __init__(self, node: Node) -> None:
        self.w_shape = shape_of(node, 1)
        self.shape = node.result.shape
        self.group = integer(node, "group")
        self.rank = len(self.w_shape) - 2
        self.depth = math.prod(self.w_shape[1:])
        pads, strides = integers(node, "pads"), integers(node, "strides")
        dilations = integers(node, "dilations")
        self._widths = [(0, 0), (0, 0), *zip(pads[: self.rank], pads[self.rank :], strict=True)]
        self._padded = any(pads)
        taps = zip(self.w_shape[2:], dilations, strict=True)
        self._reach = tuple((kernel - 1) * dilation + 1 for kernel, dilation in taps)
        self._steps: tuple[Any, ...] = (
            ...,
            *(slice(None, None, step) for step in (*strides, *dilations)),
        )

    @property
    def empty(self) -> bool:
        """Whether there is nothing to multiply."""
        return not math.prod(self.shape) or not math.prod(self.w_shape)

    def columns(self, x: Array, fill: float = 0) -> Array:
        """Returns what each window sees: ``[group, images * positions, depth]``."""
        image = np.pad(x, self._widths, constant_values=fill) if self._padded else x
        spatial = tuple(range(2, 2 + self.rank))
        found = sliding_window_view(image, self._reach, spatial)[self._steps]
        found = found.reshape(x.shape[0], self.group, -1, *found.shape[2:])
        places = tuple(range(3, 3 + self.rank))
        taps = tuple(range(3 + self.rank, 3 + 2 * self.rank))
        ordered = found.transpose(1, 0, *places, 2, *taps)
        return np.asarray(ordered.reshape(self.group, -1, self.depth))

    def weights(self, w: Array) -> Array:
        """Returns ``[group, depth, channels of the group]``."""
        return w.reshape(self.group, -1, self.depth).transpose(0, 2, 1)

    def result(self, product: Array) -> Array:
        """Returns a product of columns and weights in the node's result shape."""
        images, channels = self.shape[0], self.w_shape[0] // self.group
        split = product.reshape(self.group, images, -1, channels)
        return np.ascontiguousarray(split.transpose(1, 0, 3, 2)).reshape(self.shape)
