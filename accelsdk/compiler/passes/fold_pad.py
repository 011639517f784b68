"""Lets a window pad for itself instead of reading what Pad has padded.

Conv pads with 0, ConvInteger with the zero point of x, MaxPool with the lowest value, and
AveragePool counts what was padded if it is told to. A Pad of spatial axes with that value comes
to the same: each window sees the same items in the same places.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from accelsdk.compiler.passes.common import ints, is_core, maker, number, only_for, origins
from accelsdk.compiler.passes.manager import Pass
from accelsdk.graph.graph import Array, Graph, Node
from accelsdk.graph.ops import attribute
from accelsdk.graph.rewrite import remove_dead

_WINDOWS = ("Conv", "ConvInteger", "MaxPool", "AveragePool")


def _run(graph: Graph) -> Graph:
    made = {
        node.name: joined
        for node in graph.nodes
        if is_core(node, *_WINDOWS) and (joined := _joined(graph, node)) is not None
    }
    if not made:
        return graph
    nodes = tuple(made.get(node.name, node) for node in graph.nodes)
    return remove_dead(replace(graph, nodes=nodes))


def _joined(graph: Graph, window: Node) -> Node | None:
    value = window.inputs[0]
    pad = maker(graph, value, "Pad")
    if value is None or pad is None or not only_for(graph, value, window):
        return None
    rank, pads = value.type.rank, ints(pad, "pads")
    outer = (*pads[:2], *pads[rank : rank + 2])
    if attribute(pad, "mode") != "constant" or any(outer) or min(pads, default=0) < 0:
        return None
    fill = _fill(graph, pad)
    if fill is None or not _pads_with(graph, window, fill):
        return None
    added = (*pads[2:rank], *pads[rank + 2 :])
    attributes = dict(window.attributes)
    if window.op == "AveragePool":
        if any(ints(window, "pads")) or number(window, "ceil_mode"):
            return None
        attributes["count_include_pad"] = 1
    if window.op == "MaxPool":
        positions = len(window.outputs) > 1 and window.outputs[1] is not None
        if positions or number(window, "ceil_mode") or not _reaches_data(window, added):
            return None
    own = ints(window, "pads")
    attributes["pads"] = tuple(a + b for a, b in zip(own, added, strict=True))
    inputs = (pad.inputs[0], *window.inputs[1:])
    return replace(window, inputs=inputs, attributes=attributes, origin=origins((pad, window)))


def _reaches_data(pool: Node, added: tuple[int, ...]) -> bool:
    """Whether no window lies in padding alone, as ONNX asks of the pads of pools."""
    kernel = ints(pool, "kernel_shape")
    total = [a + b for a, b in zip(ints(pool, "pads"), added, strict=True)]
    return all(pads < kernel[i % len(kernel)] for i, pads in enumerate(total)) and set(
        ints(pool, "dilations")
    ) <= {1}


def _fill(graph: Graph, pad: Node) -> Array | None:
    """Returns what a Pad fills with if it is constant, else None."""
    fill = pad.operand(1)
    if fill is None:
        return np.zeros((), pad.result.format.dtype)
    known = graph.constant_by_name.get(fill.name)
    return known.array() if known is not None else None


def _pads_with(graph: Graph, window: Node, fill: Array) -> bool:
    kind = window.inputs[0].format if window.inputs[0] is not None else window.result.format
    if window.op == "MaxPool":
        lowest = -np.inf if kind.is_float else kind.min
        return bool(fill == np.asarray(lowest).astype(kind.dtype))
    zero = window.operand(2) if window.op == "ConvInteger" else None
    if zero is not None:
        known = graph.constant_by_name.get(zero.name)
        return known is not None and bool((known.array() == fill).all())
    return not np.frombuffer(fill.tobytes(), np.uint8).any()  # 0, and not -0.0


FOLD_PAD = Pass(
    name="fold-pad",
    changes="folds a Pad of spatial axes into the Conv, ConvInteger, MaxPool or AveragePool that "
    "reads it, where the window pads with the same value; bits stay",
    run=_run,
)
