"""Pad: pads on some axes become pads on all."""

from __future__ import annotations

from collections.abc import Sequence

from accelsdk.compiler.rules.common import axis_of, integers, refuse, required, rule, text
from accelsdk.graph.graph import Node
from accelsdk.graph.rewrite import Builder, LoweringRule
from accelsdk.graph.types import Value

_MODES = ("constant", "reflect", "edge", "wrap")


def _pad(b: Builder, node: Node) -> Sequence[Value | None]:
    x = required(node, 0)
    given = integers(b, node, 1, "pads")
    if given is None:
        refuse(node, "it has no pads")
    axes = integers(b, node, 3, "axes")
    if axes is None:
        axes = tuple(range(x.type.rank))
    if len(given) != 2 * len(axes):
        refuse(node, f"{len(given)} pads for {len(axes)} axes")
    pads = [0] * (2 * x.type.rank)
    for index, axis in enumerate(axes):
        axis = axis_of(node, axis, x.type.rank)
        pads[axis], pads[axis + x.type.rank] = given[index], given[index + len(axes)]
    mode = text(node, "mode", "constant", _MODES)
    fill = node.operand(2) if mode == "constant" else None
    if fill is not None and fill.format is not x.format:
        fill = b.op("Cast", fill, to=x.format.name)  # onnx makes float32 of the old attribute
    if fill is not None and fill.shape != () and fill.type.count == 1:
        fill = b.op("Reshape", fill, shape=())  # function bodies of ONNX itself do this
    return [b.op("Pad", *((x,) if fill is None else (x, fill)), pads=tuple(pads), mode=mode)]


RULES: tuple[LoweringRule, ...] = (rule("Pad", _pad, "mode pads"),)
