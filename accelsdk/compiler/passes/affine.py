"""What Quantize and Dequantize nodes are given: scale, zero point, and over what they hold."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accelsdk.compiler.passes.common import number
from accelsdk.formats import Format
from accelsdk.graph.graph import Graph, Node
from accelsdk.graph.types import Value

#: Parameters of up to this many bytes are compared by contents.
_SMALL = 1 << 16


@dataclass(frozen=True, slots=True)
class Affine:
    """Codes q that stand for ``(q - zero) * scale``.

    Attributes:
        graph: Whose values they are.
        codes: Format of the codes.
        real: Format of what they stand for.
        scale: Scale.
        zero: Zero point; None is 0.
        axis: Axis of one scale for each of its items; None for one scale for all.
        block: Items that share a scale; 0 for no blocks.
    """

    graph: Graph
    codes: Format
    real: Format
    scale: Value
    zero: Value | None
    axis: int | None
    block: int

    @classmethod
    def of(cls, graph: Graph, node: Node) -> Affine:
        """Reads a Quantize or a Dequantize node."""
        x, scale = node.inputs[0], node.inputs[1]
        if x is None or scale is None:
            raise ValueError(f"{node} lacks an operand")
        codes, real = (x, node.result) if node.op == "Dequantize" else (node.result, x)
        return cls(
            graph=graph,
            codes=codes.format,
            real=real.format,
            scale=scale,
            zero=node.operand(2),
            axis=number(node, "axis") % x.type.rank if scale.type.rank else None,
            block=number(node, "block_size"),
        )

    @property
    def per_tensor(self) -> bool:
        """Whether one scale holds for all."""
        return self.axis is None and not self.block

    def key(self) -> Hashable:
        """Returns what is equal if two nodes are given the same."""
        zero = self.offset() if self.zero is None or self._is_small(self.zero) else None
        offset = self.zero and self.zero.name
        known = (zero.any() and zero.tobytes()) if zero is not None else offset
        return self.codes, self.real, self._key(self.scale), known, self.axis, self.block

    def _is_small(self, value: Value) -> bool:
        return value.name in self.graph.constant_by_name and value.type.nbytes <= _SMALL

    def _key(self, value: Value) -> Hashable:
        if self._is_small(value):
            return value.type, self.graph.constant_by_name[value.name].array().tobytes()
        return value.name

    def scales(self) -> NDArray[np.float64] | None:
        """Returns the scales if they are constant, finite and above 0, else None."""
        found = self.graph.constant_by_name.get(self.scale.name)
        if found is None or not self.scale.format.is_float:
            return None
        scales = np.asarray(found.array()).astype(np.float64)
        return scales if np.isfinite(scales).all() and (scales > 0).all() else None

    def offset(self) -> NDArray[np.int64] | None:
        """Returns the zero points of integer codes if they are constant, else None."""
        if self.zero is None:
            return np.zeros((), np.int64)
        found = self.graph.constant_by_name.get(self.zero.name)
        if found is None or not self.codes.is_integer:
            return None
        return np.asarray(found.array()).astype(np.int64)

    def most(self) -> int | None:
        """Returns the largest ``|q - zero|`` of integer codes, or None if it is not known."""
        offset = self.offset()
        if offset is None or not self.codes.is_integer:
            return None
        low, high = int(self.codes.min), int(self.codes.max)
        return max(int((high - offset).max(initial=0)), int((offset - low).max(initial=0)))
