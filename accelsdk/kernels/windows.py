"""Sliding windows: what convolutions and pools see of a tensor, tap by tap.

A *tap* is one position inside the window; its view holds, for every output position, the
element that this tap meets. There are two layouts:

* *flat*: the padded image is one long row per channel, so that a tap's view is the same row,
  shifted. Views are contiguous (copies and sums run at memory speed), and the few columns
  between the rows of the result hold garbage that `Taps.crop` cuts off. Strides are handled
  by first splitting the image into phases, one for each remainder.
* *direct*: a strided slice of the padded image, for shapes where the garbage would dominate.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from accelsdk.graph.graph import Node
from accelsdk.graph.types import Shape
from accelsdk.kernels.kernel import integers, shape_of, trailing

#: Largest share of useless columns, and number of phases, that the flat layout may have.
_WASTE, _PHASES = 1.5, 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The geometry of a sliding window over the spatial axes of one node.

    Attributes:
        extents: Spatial extents of the operand.
        results: Spatial extents of the result.
        kernel: Extents of the window, in taps.
        strides: Steps between windows.
        dilations: Steps between taps.
        begin: Padding before each axis; what the windows need after it follows.
    """

    extents: Shape
    results: Shape
    kernel: Shape
    strides: Shape
    dilations: Shape
    begin: Shape

    @classmethod
    def of(cls, node: Node, kernel: Shape) -> Window:
        """Returns the geometry of a node with ONNX's window attributes."""
        return cls(
            extents=shape_of(node, 0)[2:],
            results=node.result.shape[2:],
            kernel=kernel,
            strides=integers(node, "strides"),
            dilations=integers(node, "dilations"),
            begin=integers(node, "pads")[: len(kernel)],
        )

    @property
    def rank(self) -> int:
        """Number of spatial axes."""
        return len(self.kernel)

    @property
    def padded(self) -> Shape:
        """Extents that the windows cover, padding included."""
        return tuple(
            max(result - 1, 0) * stride + (taps - 1) * dilation + 1
            for result, stride, taps, dilation in zip(
                self.results, self.strides, self.kernel, self.dilations, strict=True
            )
        )

    @property
    def is_pointwise(self) -> bool:
        """True for windows of one tap that never meet padding."""
        inside = all(p <= e for p, e in zip(self.padded, self.extents, strict=True))
        return math.prod(self.kernel) == 1 and not any(self.begin) and inside

    def taps(self) -> Iterator[Shape]:
        """Yields the position of each tap in the padded image, row-major."""
        steps = [range(0, k * d, d) for k, d in zip(self.kernel, self.dilations, strict=True)]
        return product(*steps)

    def subsample(self, x: NDArray[Any]) -> NDArray[Any]:
        """Returns the elements that a pointwise window meets."""
        if all(stride == 1 for stride in self.strides) and self.results == self.extents:
            return x
        steps = zip(self.padded, self.strides, strict=True)
        found: NDArray[Any] = x[trailing(*(slice(0, stop, stride) for stop, stride in steps))]
        return found

    def rows(self, size: int, limit: int) -> Iterator[slice]:
        """Cuts the first result axis so that ``size`` items a row stay under ``limit``."""
        step = max(1, limit // max(size, 1))
        for start in range(0, self.results[0], step):
            yield slice(start, min(start + step, self.results[0]))


class Taps:
    """A padded copy of an image batch [N, C, ...], looked at tap by tap."""

    def __init__(self, x: NDArray[Any], window: Window, fill: float = 0) -> None:
        self._window, self.dtype = window, x.dtype
        self._batch, self._channels = range(x.shape[0]), x.shape[1]
        phased = tuple(-(-p // s) for p, s in zip(window.padded, window.strides, strict=True))
        useful = max(math.prod(window.results[1:]), 1)
        self._flat = (
            window.rank > 1
            and math.prod(phased[1:]) <= _WASTE * useful
            and math.prod(window.strides) <= _PHASES
        )
        if self._flat:
            self._extents = phased
            self._fill_phases(x, fill)
        else:
            self._image = pad(x, window, fill)

    def _fill_phases(self, x: NDArray[Any], fill: float) -> None:
        window, extents = self._window, self._extents
        shape = (*window.strides, *x.shape[:2], *extents)
        # The last taps of the last channel look beyond its end, by less than one row.
        memory = np.empty(math.prod(shape) + math.prod(extents[1:]), x.dtype)
        phases = memory[: math.prod(shape)].reshape(shape)
        memory.fill(fill)
        for phase in product(*map(range, window.strides)):
            target: list[slice] = []
            source: list[slice] = []
            for i, remainder in enumerate(phase):
                stride, begin = window.strides[i], window.begin[i]
                first = max(0, -(-(begin - remainder) // stride))
                start = remainder + first * stride - begin
                count = max(0, min(extents[i] - first, -(-(window.extents[i] - start) // stride)))
                target.append(slice(first, first + count))
                source.append(slice(start, start + count * stride, stride))
            if all(part.stop > part.start for part in target):
                phases[phase][trailing(*target)] = x[trailing(*source)]
        self._image = phases

    def view(self, tap: Shape, rows: slice) -> NDArray[Any]:
        """Returns what a tap meets for some rows of the result: [N, C, *layout].

        The view is read-only, and valid as long as this object.
        """
        window, image = self._window, self._image
        if not self._flat:
            bounds = [(rows.start, rows.stop), *((0, count) for count in window.results[1:])]
            cut = tuple(
                slice(t + low * s, t + (high - 1) * s + 1, s)
                for t, s, (low, high) in zip(tap, window.strides, bounds, strict=True)
            )
            found: NDArray[Any] = image[trailing(*cut)]
            return found
        pairs = list(zip(tap, window.strides, strict=True))
        phase = image[tuple(t % s for t, s in pairs)]
        offset = [t // s for t, s in pairs]
        row = math.prod(self._extents[1:])
        start = phase[(slice(None), slice(None), offset[0] + rows.start, *offset[1:])]
        length = (rows.stop - rows.start) * row
        return as_strided(
            start, (*start.shape, length), (*start.strides, image.itemsize), writeable=False
        )

    def gather(self, images: slice, rows: slice) -> NDArray[Any]:
        """Returns a copy of what all taps meet: [images, C, taps, *layout]."""
        window, layout = self._window, self.layout(rows)
        batch, channels = self._batch[images], self._channels
        columns = np.empty((len(batch), channels, math.prod(window.kernel), *layout), self.dtype)
        if self._flat:
            for index, tap in enumerate(window.taps()):
                columns[:, :, index] = self.view(tap, rows)[images]
            return columns
        image = self._image[images, :, rows.start * window.strides[0] :]
        down, across = image.strides[:2], image.strides[2:]
        between = tuple(d * step for d, step in zip(window.dilations, across, strict=True))
        along = tuple(s * step for s, step in zip(window.strides, across, strict=True))
        shape = (len(batch), channels, *window.kernel, *layout)
        seen = as_strided(image, shape, (*down, *between, *along), writeable=False)
        columns.reshape(shape)[...] = seen
        return columns

    def layout(self, rows: slice) -> Shape:
        """Returns the shape of a view behind [N, C]."""
        count = rows.stop - rows.start
        if self._flat:
            return (count * math.prod(self._extents[1:]),)
        return (count, *self._window.results[1:])

    def crop(self, computed: NDArray[Any], rows: slice) -> NDArray[Any]:
        """Returns the real result [N, M, rows, ...] of what was computed on views."""
        count = rows.stop - rows.start
        if not self._flat:
            return computed.reshape(*computed.shape[:2], count, *self._window.results[1:])
        rectangular = computed.reshape(*computed.shape[:2], count, *self._extents[1:])
        kept = trailing(*(slice(0, stop) for stop in self._window.results[1:]))
        return np.asarray(rectangular[kept])


def pad(x: NDArray[Any], window: Window, fill: float) -> NDArray[Any]:
    """Returns the image with padding around it, cut to what the windows cover."""
    padded = window.padded
    if not any(window.begin) and all(p <= e for p, e in zip(padded, window.extents, strict=True)):
        return x
    image = np.full((*x.shape[:2], *padded), fill, x.dtype)
    target, source = [], []
    for begin, extent, covered in zip(window.begin, window.extents, padded, strict=True):
        count = max(0, min(extent, covered - begin))
        target.append(slice(min(begin, covered), min(begin, covered) + count))
        source.append(slice(0, count))
    image[trailing(*target)] = x[trailing(*source)]
    return image
