"""Computes nodes whose operands are all constant; quantised weights stay quantised.

What is worth folding is the rule of `accelsdk.compiler.evaluate`.
"""

from __future__ import annotations

from dataclasses import replace

from accelsdk.compiler.evaluate import fold
from accelsdk.compiler.passes.manager import Pass
from accelsdk.errors import InvalidArgument, Unimplemented
from accelsdk.graph.graph import CORE, Constant, Graph, Node
from accelsdk.graph.ops import bounded


def _run(graph: Graph) -> Graph:
    known = dict(graph.constant_by_name)
    nodes: list[Node] = []
    for node in graph.nodes:
        # A result of data-dependent size is an output, whose type must stay its bound.
        made = _folded(node, known) if node.domain == CORE and not bounded(node) else None
        if made is None:
            nodes.append(node)
        else:
            known.update(made)
    if len(nodes) == len(graph.nodes):
        return graph
    return replace(graph, nodes=tuple(nodes), constants=tuple(known.values()))


def _folded(node: Node, known: dict[str, Constant]) -> dict[str, Constant] | None:
    """Returns the results of a node as constants, or None if it stays."""
    operands = {v.name for v in node.inputs if v is not None}
    if not operands <= known.keys():
        return None
    outputs = tuple(v for v in node.outputs if v is not None)
    alone = Graph((), outputs, tuple(known[name] for name in sorted(operands)), (node,))
    try:
        made = fold(alone)
    except (InvalidArgument, Unimplemented):
        return None  # the device that runs it refuses it, with the node's name, if it ever does
    return None if made is None else dict(made)


CONSTANT_FOLDING = Pass(
    name="constant-folding",
    changes="replaces nodes with constant operands by their results; bits stay those of the "
    "kernels, unless a backend would have rounded otherwise",
    run=_run,
    exact=False,
)
