"""Windows and mel weights: constants, computed in float64 and rounded once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from accelsdk.compiler.rules.common import Rewrite, constant, integer, refuse, rule, text
from accelsdk.formats import FLOAT32, by_name
from accelsdk.graph.graph import Node
from accelsdk.graph.rewrite import Builder, LoweringRule
from accelsdk.graph.types import Value

#: A constant of more items is taken for a mistake.
_LARGEST = 1 << 26


def _window(*weights: float) -> Rewrite:
    """Returns the rule of a sum of cosines: w0 - w1 cos(2 pi n / N) + w2 cos(4 pi n / N)."""

    def rewrite(b: Builder, node: Node) -> Sequence[Value | None]:
        size = int(_number(b, node, 0, "size"))
        if not 0 <= size <= _LARGEST:
            refuse(node, f"size {size} is not supported")
        periodic = integer(node, "periodic", 1)
        places = np.arange(size) / max(size if periodic else size - 1, 1)
        if size == 1 and not periodic:
            places += 0.5  # its middle, as elsewhere; ONNX's formula would divide 0 by 0
        angle = 2 * np.pi * places
        terms = [(-1) ** i * weight * np.cos(i * angle) for i, weight in enumerate(weights)]
        return [_made(b, node, np.sum(terms, axis=0))]

    return rewrite


def _mel(b: Builder, node: Node) -> Sequence[Value | None]:
    """Triangles between bins that are equally far apart on the mel scale (ONNX-17)."""
    names = ("num_mel_bins", "dft_length", "sample_rate", "lower_edge_hertz", "upper_edge_hertz")
    bands, length, rate, lower, upper = (_number(b, node, i, name) for i, name in enumerate(names))
    rows, columns = int(length) // 2 + 1, int(bands)
    if columns < 1 or length < 0 or rate <= 0 or rows * columns > _LARGEST:
        refuse(node, f"{columns} bands of a spectrum of {rows} items are not supported")
    ends = 2595 * np.log10(1 + np.array([lower, upper]) / 700)
    marks = ends[0] + np.arange(columns + 2) * (ends[1] - ends[0]) / (columns + 2)
    hertz = 700 * (10 ** (marks / 2595) - 1)
    edges = np.floor((length + 1) * hertz / rate).astype(np.int64)
    if edges.min() < 0 or edges.max() >= rows:
        refuse(node, f"{lower} .. {upper} Hz reach beyond the {rows} items of the spectrum")
    left, middle, right = edges[:-2], edges[1:-1], edges[2:]
    at = np.arange(rows)[:, None]
    rising = (at - left) / np.maximum(middle - left, 1)
    falling = (right - at) / np.maximum(right - middle, 1)
    shape = np.where(at < middle, rising, np.where(at == middle, 1.0, falling))
    return [_made(b, node, np.where((at >= left) & ((at < right) | (at == middle)), shape, 0.0))]


def _number(b: Builder, node: Node, index: int, what: str) -> float:
    array = constant(b, node, index, what)
    if array is None or array.size != 1:
        refuse(node, f"it needs one {what}")
    return float(array.reshape(()).item())


def _made(b: Builder, node: Node, numbers: NDArray[np.float64]) -> Value:
    kind = by_name(text(node, "output_datatype", FLOAT32.name))
    return b.constant(numbers.astype(kind.dtype), kind)


RULES: tuple[LoweringRule, ...] = (
    rule("HannWindow", _window(0.5, 0.5), "output_datatype periodic"),
    rule("HammingWindow", _window(25 / 46, 21 / 46), "output_datatype periodic"),
    rule("BlackmanWindow", _window(0.42, 0.5, 0.08), "output_datatype periodic"),
    rule("MelWeightMatrix", _mel, "output_datatype"),
)
