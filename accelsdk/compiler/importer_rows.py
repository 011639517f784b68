"""Softmax, LogSoftmax and Hardmax as opsets before 13 had them: over rows of all later axes.

onnx's converter passes Hardmax on as it is, which changes what the model computes, and gives
Softmax and LogSoftmax a Reshape in which the extent 0 stands for another one. So all three pass
as Hardmax, and are themselves again afterwards, marked with the first axis of their rows.
"""

from __future__ import annotations

import onnx

#: From this opset on, the three work along one axis, the last by default.
ROWS_13 = 13
#: The mark that nodes of older opsets carry: an attribute, the first axis of the rows.
FIRST_AXIS = "accelsdk.first_axis"
_OP = "accelsdk.op"
_OPS = ("Softmax", "LogSoftmax", "Hardmax")


def hide(graph: onnx.GraphProto) -> None:
    """Marks the three ops of a graph of an opset before 13, all as Hardmax, in place."""
    for node in graph.node:
        if node.op_type in _OPS and node.domain in ("", "ai.onnx"):
            first = next((item.i for item in node.attribute if item.name == "axis"), 1)
            del node.attribute[:]
            node.attribute.append(onnx.helper.make_attribute(FIRST_AXIS, first))
            node.attribute.append(onnx.helper.make_attribute(_OP, node.op_type))
            node.op_type = "Hardmax"
        for item in node.attribute:
            if item.HasField("g"):
                hide(item.g)


def show(graph: onnx.GraphProto) -> None:
    """Turns what `hide` hid into the ops that they were, in place, still marked."""
    for node in graph.node:
        found = [item for item in node.attribute if item.name == _OP]
        if found:
            node.op_type = found[0].s.decode()
            node.attribute.remove(found[0])
        for item in node.attribute:
            if item.HasField("g"):
                show(item.g)
