"""Where onnxruntime is not compared, besides what its plugin refuses: one reason each.

A bound is never widened for it: either it is held to the bounds of all, or it is left out here,
and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from accelsdk.formats import FLOAT16, FLOAT64, Kind
from accelsdk.graph.graph import Graph, Node
from accelsdk.graph.ops import attribute

Arrays = Mapping[str, np.ndarray]
#: It selects by adding what is chosen to zeros: -0 becomes 0.
EITHER_ZERO = ("Where",)
_WHOLE = (Kind.INT, Kind.UINT)


def _operand(node: Node, index: int, values: Arrays) -> np.ndarray:
    value = node.operand(index)
    return np.zeros(0) if value is None else values[value.name]


def _leaves_integers(node: Node, values: Arrays) -> bool:
    """Floats beyond the integers that they become: undefined in C++ and in ONNX."""
    source, target = node.inputs[0], node.result.format
    if node.op != "Cast" or source is None or target.kind not in _WHOLE:
        return False
    if source.format.kind is not Kind.FLOAT:
        return False
    x = _floats(node, values)
    low = -(2.0 ** (target.bits - 1)) if target.is_signed else 0.0
    high = 2.0 ** (target.bits - target.is_signed)
    return not bool(np.all((np.trunc(x) >= low) & (np.trunc(x) < high)))


def _wide_zero_point(node: Node, values: Arrays) -> bool:
    """Differences that need 33 bits; ONNX gives int32 no zero point but 0."""
    x = _operand(node, 0, values)
    return node.op == "Dequantize" and x.dtype == np.int32 and _operand(node, 2, values).size > 0


def _reduced_beyond(node: Node, values: Arrays) -> bool:
    """It reduces integers as float64, and what is beyond becomes the highest or lowest."""
    target = node.result.format
    if node.op not in _REDUCTIONS or target.kind not in _WHOLE:
        return False
    x = np.abs(_operand(node, 0, values).astype(np.float64))
    match node.op:
        case "ReduceProd":
            most = np.prod(np.maximum(x, 1))
        case "ReduceSumSquare":
            most = np.sum(x * x)
        case _:
            most = np.sum(x)
    return not bool(most < 2.0 ** min(target.bits - 1, 53))


def _power_beyond(node: Node, values: Arrays) -> bool:
    """Powers that are no number of the base's format, such as roots of negative ones."""
    target = node.result.format
    if node.op != "Pow" or target.kind not in _WHOLE:
        return False
    x, y = (_operand(node, index, values).astype(np.float64) for index in (0, 1))
    with np.errstate(all="ignore"):
        return not bool(np.all(np.abs(np.power(x, y)) < 2.0 ** min(target.bits - 1, 53)))


def _ordered_nan(node: Node, values: Arrays) -> bool:
    """NaN among what is put in order: ONNX leaves its place open."""
    if node.op.startswith("Scatter"):
        ordered = attribute(node, "reduction") in ("max", "min")
        return ordered and bool(np.isnan(_floats(node, values, 0, 2)).any())
    if node.op == "Clip":
        return bool(np.isnan(_floats(node, values, 0, 1, 2)).any())
    return node.op in _ORDERS and bool(np.isnan(_floats(node, values)).any())


def _reduced_angle(node: Node, values: Arrays) -> bool:
    """Its float64 reduction to the first quadrant loses digits: 4e-16 at 6.5, more beyond."""
    wide = node.op in ("Sin", "Cos", "Tan") and node.result.format == FLOAT64
    return wide and bool(np.any(np.abs(_floats(node, values)) > 1.5))


def _unscaled(node: Node, values: Arrays) -> bool:
    """Elements beside an infinity or NaN, whose block has no scale: their codes mean nothing."""
    return node.op == "QuantizeBlock" and not bool(np.isfinite(_floats(node, values)).all())


def _floats(node: Node, values: Arrays, *indices: int) -> np.ndarray:
    """All elements of float operands, the first one's if none is named, as float64."""
    sources = [node.operand(index) for index in indices or (0,)]
    floats = [v for v in sources if v is not None and v.format.kind is Kind.FLOAT]
    with np.errstate(invalid="ignore"):
        parts = [values[v.name].astype(np.float64).reshape(-1) for v in floats]
    return np.concatenate([np.zeros(0), *parts])


_REDUCTIONS = ("ReduceSum", "ReduceProd", "ReduceL1", "ReduceSumSquare")
_ORDERS = ("ReduceMax", "ReduceMin", "TopK", "ArgMax", "ArgMin", "MaxPool", "Unique")

_GAPS: Mapping[str, Callable[[Node, Arrays], bool]] = {
    "Cast of floats beyond the integers": _leaves_integers,
    "Dequantize of int32 with a zero point": _wide_zero_point,
    "reduction of integers beyond 31 or 53 bits": _reduced_beyond,
    "Pow of integers beyond 31 or 53 bits": _power_beyond,
    "order of NaN": _ordered_nan,
    "Sin and Cos of float64 beyond pi / 2": _reduced_angle,
    "QuantizeBlock of what is not finite": _unscaled,
}


def gap(node: Node, values: Arrays) -> str:
    """Says why a node is not compared on these operands; empty if it is."""
    return next((why for why, meets in _GAPS.items() if meets(node, values)), "")


def without(graph: Graph, values: Arrays, counted: Counter[str]) -> Graph | None:
    """The graph without such nodes, whose results are fed to the others; None if none is left."""
    reasons = {node.name: gap(node, values) for node in graph.nodes}
    counted.update(f"{why} (node)" for why in reasons.values() if why)
    nodes = tuple(node for node in graph.nodes if not reasons[node.name])
    if len(nodes) == len(graph.nodes):
        return graph
    if not nodes:
        return None
    made = {v.name for node in nodes for v in node.outputs if v is not None}
    read = {v.name: v for node in nodes for v in node.inputs if v is not None}
    constants = tuple(c for c in graph.constants if c.name in read)
    known = made | {c.name for c in constants}
    return replace(
        graph,
        nodes=nodes,
        constants=constants,
        inputs=tuple(v for v in read.values() if v.name not in known),
        outputs=tuple(v for v in graph.outputs if v.name in made),
    )


_LAYERS = ("LSTM", "GRU", "RNN")
_PRODUCTS = ("MatMul", "Gemm", "Attention", *_LAYERS)


def in_plugin(graph: Graph, values: Arrays, counted: Counter[str]) -> bool:
    """Says whether the plugin is not compared on a graph at all."""
    why = next((why for node in graph.nodes if (why := gap(node, values))), "")
    for node in graph.nodes:
        kind = node.result.format
        if node.op in _PRODUCTS and kind == FLOAT64:
            # FusedMatMul has a float32 attribute for the factor.
            why = "float64 products, whose factors its optimiser rounds to float32"
        if node.op in _LAYERS and kind == FLOAT16:
            why = "float16 recurrent layers, whose constants end its optimiser"
    if why:
        counted[f"{why} (graph)"] += 1
    return bool(why)
