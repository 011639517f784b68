"""Scan as opset 8 had it, kept whole while onnx converts the model around it.

onnx's converter turns it into a Scan of opset 9 by dropping the batch from the types alone, which
changes what the model computes. So it passes as a Loop, whose body the converter treats alike,
and is a Scan again afterwards, marked.
"""

from __future__ import annotations

import onnx

_MARK = "accelsdk.opset8"


def is_scan_8(proto: onnx.NodeProto, opset: int) -> bool:
    """Says whether a Scan has a batch axis: of opset 8, or marked."""
    return opset < 9 or any(item.name == _MARK for item in proto.attribute)


def hide(graph: onnx.GraphProto) -> None:
    """Turns each Scan of a graph of opset 8 into a Loop, in place."""
    for node in graph.node:
        if node.op_type == "Scan" and node.domain in ("", "ai.onnx"):
            node.op_type = "Loop"
            node.attribute.append(onnx.helper.make_attribute(_MARK, 1))
        for item in node.attribute:
            if item.HasField("g"):
                hide(item.g)


def show(graph: onnx.GraphProto) -> None:
    """Turns what `hide` hid into a Scan again, in place, still marked."""
    for node in graph.node:
        if node.op_type == "Loop" and any(item.name == _MARK for item in node.attribute):
            node.op_type = "Scan"
        for item in node.attribute:
            if item.HasField("g"):
                show(item.g)
