"""Removes movement that moves nothing, and joins movement with movement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from accelsdk.compiler.passes.common import ints, keeps_order, origins
from accelsdk.compiler.passes.manager import Pass
from accelsdk.graph.graph import CORE, Graph, Node
from accelsdk.graph.rewrite import remove_dead, substitute
from accelsdk.graph.types import Value

#: With one operand and one result of the same type, these return what they are given.
_SAME_TYPE = frozenset({"Reshape", "Expand", "Concat", "Split", "Cast"})


def _run(graph: Graph) -> Graph:
    joined = _join(graph)
    same = {
        node.result.name: source
        for node in joined.nodes
        if (source := _source(node)) is not None and _removable(joined, node, source)
    }
    if not same:
        return joined
    return remove_dead(substitute(joined, same))


def _source(node: Node) -> Value | None:
    """Returns the operand that a node returns unchanged, or None."""
    if node.domain != CORE or not node.inputs or len(node.outputs) != 1:
        return None
    x, y = node.inputs[0], node.outputs[0]
    if x is None or y is None or x.type != y.type:
        return None
    if node.op in _SAME_TYPE and len(node.inputs) == 1:
        return x
    if node.op == "Transpose" and list(ints(node, "perm")) == list(range(x.type.rank)):
        return x
    if node.op == "Slice" and all(step == 1 for step in ints(node, "steps")):
        return x  # the same extents at step 1 are the whole
    if node.op == "Pad" and not any(ints(node, "pads")):
        return x
    return None


def _removable(graph: Graph, node: Node, source: Value) -> bool:
    """An output keeps its copy unless the copied result can take its name."""
    if node.result.name not in graph.output_names:
        return True
    return source.name in graph.producers and source.name not in graph.output_names


def _join(graph: Graph) -> Graph:
    """Lets a Reshape or Transpose read what its predecessor of the same op read."""
    producers = graph.producers
    nodes = tuple(_joined(node, producers) for node in graph.nodes)
    if all(a is b for a, b in zip(nodes, graph.nodes, strict=True)):
        return graph
    return remove_dead(replace(graph, nodes=nodes))


def _joined(node: Node, producers: Mapping[str, Node]) -> Node:
    x = node.inputs[0] if node.inputs else None
    before = producers.get(x.name) if x is not None else None
    if node.domain != CORE or x is None:
        return node
    perm = ints(node, "perm") if node.op == "Transpose" else ()
    if perm != tuple(range(len(perm))) and keeps_order(x.shape, perm):
        return replace(node, op="Reshape", attributes={"shape": node.result.shape})
    if before is None or before.domain != CORE or before.op != node.op:
        return node
    origin = origins((before, node))
    if node.op == "Reshape":
        return replace(node, inputs=before.inputs, origin=origin)
    if node.op == "Transpose":
        inner = ints(before, "perm")
        joined = tuple(inner[axis] for axis in perm)
        return replace(node, inputs=before.inputs, attributes={"perm": joined}, origin=origin)
    return node


NO_OPS = Pass(
    name="no-ops",
    changes="removes Reshape, Transpose, Expand, Slice, Pad, Concat, Split and Cast that change "
    "nothing, joins chains of Reshape and of Transpose, and turns a Transpose that moves only "
    "extents of 1 into a Reshape; bits stay",
    run=_run,
)
