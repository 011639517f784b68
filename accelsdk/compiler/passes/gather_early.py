"""Gathers rows of a quantised table before it is dequantised.

``Gather(f(table), i)`` becomes ``f(Gather(table, i))`` where ``f`` is elementwise with scalars:
the same numbers, of the rows that are needed alone.
"""

from __future__ import annotations

from dataclasses import replace

from accelsdk.compiler.passes.manager import Pass
from accelsdk.graph.graph import CORE, Graph, Node
from accelsdk.graph.opdef import Family
from accelsdk.graph.ops import TABLE
from accelsdk.graph.rewrite import Builder, remove_dead
from accelsdk.graph.types import TensorType, Value

_ELEMENTWISE = frozenset(
    {name for name, row in TABLE.items() if row.family is Family.ELEMENTWISE}
    | {"Cast", "Dequantize"}
)


def _run(graph: Graph) -> Graph:
    builder = Builder.of(graph)
    nodes: list[Node] = []
    for node in graph.nodes:
        before = _before(graph, node)
        if before is None:
            nodes.append(node)
        else:
            nodes.extend(_swapped(builder, node, before))
    if len(nodes) == len(graph.nodes):
        return graph
    return remove_dead(replace(graph, nodes=tuple(nodes)))


def _before(graph: Graph, node: Node) -> Node | None:
    """Returns the elementwise node that a Gather can overtake, or None."""
    if node.op != "Gather" or node.domain != CORE or node.inputs[0] is None:
        return None
    table, gathered = node.inputs[0], node.result
    before = graph.producers.get(table.name)
    if before is None or before.domain != CORE or before.op not in _ELEMENTWISE:
        return None
    main, *others = before.inputs
    if main is None or main.shape != table.shape or gathered.type.count > table.type.count:
        return None
    if any(value is not None and value.type.count != 1 for value in others):
        return None
    scalars_fit = all(value is None or value.type.rank == 0 for value in others)
    if not scalars_fit or not _constant_root(graph, main):
        return None
    outputs = {value.name for value in graph.outputs}
    shared = table.name in outputs or graph.consumers[table.name] != (node,)
    return None if shared else before


def _constant_root(graph: Graph, value: Value) -> bool:
    """Whether a value comes from a constant table through first operands alone."""
    while value.name in graph.producers:
        source = graph.producers[value.name].inputs[0]
        if source is None:
            return False
        value = source
    return value.name in graph.constant_by_name


def _swapped(builder: Builder, gather: Node, before: Node) -> tuple[Node, Node]:
    main, result = before.inputs[0], gather.result
    if main is None:
        raise ValueError(f"{before} has no first operand")
    name = builder.fresh(f"{gather.name}/rows")
    rows = Value(name, TensorType(main.format, result.shape))
    early = replace(gather, inputs=(main, *gather.inputs[1:]), outputs=(rows,))
    late = replace(before, inputs=(rows, *before.inputs[1:]), outputs=(result,))
    return early, replace(late, name=builder.fresh(f"{before.name}/rows"))


GATHER_EARLY = Pass(
    name="gather-early",
    changes="moves Gather of a constant table before Cast, Dequantize and elementwise ops with "
    "scalars on it; bits stay",
    run=_run,
)
