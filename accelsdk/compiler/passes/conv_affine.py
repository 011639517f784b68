"""Folds a constant scale and shift for each channel into the convolution before it.

``(W * x + b) * s + t`` becomes ``(W s) * x + (b s + t)``. New weights are computed in float64
and rounded once, so each differs from the real product by half an ULP; results change within
the error of a convolution of the same length, not in the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from accelsdk.compiler.passes.manager import Pass
from accelsdk.graph.graph import CORE, Constant, Graph, Node
from accelsdk.graph.ops import attribute
from accelsdk.graph.rewrite import Builder, remove_dead
from accelsdk.graph.types import Value

_CHANNEL_AXIS = 1


@dataclass(frozen=True, slots=True)
class _Affine:
    """y = x * scale + shift, one of each a channel, in float64."""

    scale: NDArray[np.float64]
    shift: NDArray[np.float64]


def _run(graph: Graph) -> Graph:
    builder = Builder.of(graph)
    outputs = {value.name for value in graph.outputs}
    replaced: dict[str, Node] = {}  # conv's name -> the conv that takes its follower's place
    gone: set[str] = set()
    for node in graph.nodes:
        x = _varying_operand(graph, node)
        conv = graph.producers.get(x.name) if x is not None else None
        if x is None or conv is None or conv.op != "Conv" or conv.domain != CORE:
            continue
        if conv.name in replaced or x.name in outputs or len(graph.consumers[x.name]) > 1:
            continue
        affine = _affine(graph, node, x)
        made = _folded(graph, builder, conv, node, affine) if affine is not None else None
        if made is not None:
            replaced[conv.name] = made
            gone.add(node.name)
    if not gone:
        return graph
    nodes = tuple(replaced.get(node.name, node) for node in graph.nodes if node.name not in gone)
    constants = (*graph.constants, *builder.constants)
    return remove_dead(replace(graph, nodes=nodes, constants=constants))


def _varying_operand(graph: Graph, node: Node) -> Value | None:
    """Returns the one operand of an affine node that is not constant."""
    if node.domain != CORE or node.op not in ("BatchNormalization", "Mul", "Add", "Sub", "Div"):
        return None
    varying = [v for v in node.inputs if v is not None and v.name not in graph.constant_by_name]
    if len(varying) != 1 or (
        node.op != "Mul" and node.op != "Add" and node.inputs[0] != varying[0]
    ):
        return None
    return varying[0] if varying[0].type == node.result.type else None


def _affine(graph: Graph, node: Node, x: Value) -> _Affine | None:
    """Reads a node as scale and shift; None if it is not one number a channel."""
    channels = x.shape[_CHANNEL_AXIS]
    one, zero = np.ones(channels), np.zeros(channels)
    constants = [
        graph.constant_by_name[v.name] for v in node.inputs if v is not None and v.name != x.name
    ]
    if node.op == "BatchNormalization":
        gamma, beta, mean, variance = (_float64(constant) for constant in constants)
        scale = gamma / np.sqrt(variance + cast("float", attribute(node, "epsilon")))
        return _Affine(scale, beta - mean * scale)
    operand = _per_channel(constants[0], x) if len(constants) == 1 else None
    if operand is None:
        return None
    match node.op:
        case "Mul":
            return _Affine(operand, zero)
        case "Div":
            return _Affine(1.0 / operand, zero)
        case "Add":
            return _Affine(one, operand)
        case _:
            return _Affine(one, -operand)


def _per_channel(constant: Constant, x: Value) -> NDArray[np.float64] | None:
    shape = (1,) * (x.type.rank - len(constant.value.shape)) + constant.value.shape
    if any(extent != 1 for axis, extent in enumerate(shape) if axis != _CHANNEL_AXIS):
        return None
    return np.broadcast_to(_float64(constant).reshape(-1), (x.shape[_CHANNEL_AXIS],))


def _float64(constant: Constant) -> NDArray[np.float64]:
    return np.asarray(constant.array()).astype(np.float64)


def _folded(
    graph: Graph, builder: Builder, conv: Node, after: Node, affine: _Affine
) -> Node | None:
    """Returns the convolution with the affine in it, or None if its weights are not constant."""
    weights, bias = conv.inputs[1], conv.operand(2)
    known = graph.constant_by_name
    if weights is None or weights.name not in known or (bias and bias.name not in known):
        return None
    if not (np.isfinite(affine.scale).all() and np.isfinite(affine.shift).all()):
        return None
    w: Any = _float64(known[weights.name])
    b = _float64(known[bias.name]) if bias is not None else np.zeros(len(affine.scale))
    scaled = w * affine.scale.reshape(-1, *(1,) * (w.ndim - 1))
    kind = weights.format
    if not (np.abs(scaled).max(initial=0.0) <= kind.max):
        return None
    shift = b * affine.scale + affine.shift
    new_weights = weights
    if (affine.scale != 1.0).any():
        new_weights = builder.constant(scaled.astype(kind.dtype), kind, name=weights.name)
    stem = bias.name if bias is not None else f"{conv.name}/bias"
    new_bias = builder.constant(shift.astype(kind.dtype), kind, name=stem)
    return replace(
        conv,
        inputs=(conv.inputs[0], new_weights, new_bias),
        outputs=after.outputs,
        origin=tuple(dict.fromkeys((*conv.origin, *after.origin))),
    )


CONV_AFFINE = Pass(
    name="conv-affine",
    changes="folds BatchNormalization, and Mul, Div, Add and Sub by constants of one number a "
    "channel, into the Conv before them; weights are rounded once more, so bits change",
    run=_run,
    exact=False,
)
