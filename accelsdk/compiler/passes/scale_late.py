"""Scales the result of a product instead of its quantised weights.

``MatMul(x, q * s)`` becomes ``MatMul(x, q) * s`` where ``s`` is one number a column, which is how
weight-only quantisation is defined: one multiplication for each result instead of each weight.
The sum is rounded before it is scaled, not after: each result is within the bound of a product
of the same length, its bits differ.
"""

from __future__ import annotations

from dataclasses import replace

from accelsdk.compiler.passes.manager import Pass
from accelsdk.graph.graph import CORE, Graph, Node
from accelsdk.graph.rewrite import Builder, remove_dead
from accelsdk.graph.types import Value


def _run(graph: Graph) -> Graph:
    builder = Builder.of(graph)
    nodes: list[Node] = []
    for node in graph.nodes:
        scaled = _scaled(graph, node)
        if scaled is None:
            nodes.append(node)
            continue
        codes, scale = scaled
        product = replace(node.result, name=builder.fresh(f"{node.name}/unscaled"))
        scaling = graph.producers[node.inputs[1].name] if node.inputs[1] else node
        inner = replace(node, inputs=(node.inputs[0], codes), outputs=(product,))
        outer = replace(
            scaling,
            inputs=(product, scale),
            outputs=node.outputs,
            name=builder.fresh(f"{scaling.name}/late"),
        )
        nodes += [inner, outer]
    if len(nodes) == len(graph.nodes):
        return graph
    return remove_dead(replace(graph, nodes=tuple(nodes)))


def _scaled(graph: Graph, node: Node) -> tuple[Value, Value] | None:
    """Returns codes and scale of a product with quantised weights, or None."""
    weights = node.operand(1)
    if node.domain != CORE or node.op != "MatMul" or weights is None or weights.type.rank != 2:
        return None
    scaling = graph.producers.get(weights.name)
    if scaling is None or scaling.domain != CORE or scaling.op != "Mul":
        return None
    codes, scale = scaling.inputs
    if codes is None or scale is None or scale.name not in graph.constant_by_name:
        return None
    cast = graph.producers.get(codes.name)
    source = cast.inputs[0] if cast is not None and cast.op == "Cast" else None
    if source is None or source.name not in graph.constant_by_name or source.format.bits > 8:
        return None
    columns = weights.shape[1]
    fits = scale.shape in ((), (1,), (columns,), (1, columns)) and codes.shape == weights.shape
    # A result smaller than its weights is what makes it worth while.
    return (codes, scale) if fits and node.result.type.count < weights.type.count else None


SCALE_LATE = Pass(
    name="scale-late",
    changes="multiplies the result of MatMul, instead of its 8-bit weights, by their scale of "
    "one number a column; the sum is rounded before it is scaled, so bits change",
    run=_run,
    exact=False,
)
