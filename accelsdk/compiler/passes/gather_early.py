"""Gathers rows of a quantised table before it is dequantised.

``Gather(f(table), i)`` becomes ``f(Gather(table, i))`` where ``f`` is elementwise with a number
for all, a number a row, or a row: the same numbers, of the rows that are needed alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from accelsdk.compiler.passes.manager import Pass
from accelsdk.graph.graph import CORE, Graph, Node
from accelsdk.graph.opdef import Family
from accelsdk.graph.ops import TABLE, attribute
from accelsdk.graph.rewrite import Builder, remove_dead
from accelsdk.graph.types import TensorType, Value

_ELEMENTWISE = frozenset(
    {name for name, row in TABLE.items() if row.family is Family.ELEMENTWISE} | {"Cast"}
)


def _run(graph: Graph) -> Graph:
    builder = Builder.of(graph)
    nodes: list[Node] = []
    for node in graph.nodes:
        before = _before(graph, node)
        nodes.extend((node,) if before is None else _swapped(builder, node, before))
    if len(nodes) == len(graph.nodes):
        return graph
    return remove_dead(replace(graph, nodes=tuple(nodes)))


def _before(graph: Graph, gather: Node) -> Node | None:
    """Returns the elementwise node that a Gather can overtake, or None."""
    table, indices = gather.operand(0), gather.operand(1)
    if gather.op != "Gather" or gather.domain != CORE or table is None or indices is None:
        return None
    if attribute(gather, "axis") != 0 or gather.result.type.count >= table.type.count:
        return None
    before = graph.producers.get(table.name)
    if before is None or before.domain != CORE:
        return None
    if before.op not in _ELEMENTWISE and not _per_tensor(before):
        return None
    operands = [value for value in before.inputs if value is not None]
    fits = all(
        value.type.rank < table.type.rank
        or value.shape[0] == table.shape[0]
        or (value.shape[0] == 1 and indices.type.rank > 0)
        for value in operands
    )
    outputs = {value.name for value in graph.outputs}
    shared = table.name in outputs or graph.consumers[table.name] != (gather,)
    return before if fits and not shared and _constant(graph, operands) else None


def _per_tensor(node: Node) -> bool:
    return node.op == "Dequantize" and all(v is None or v.shape == () for v in node.inputs[1:])


def _constant(graph: Graph, values: Sequence[Value]) -> bool:
    """Whether values are computed from constants alone."""
    todo = list(values)
    while todo:
        value = todo.pop()
        if value.name in graph.constant_by_name:
            continue
        if value.name not in graph.producers:
            return False
        todo += [v for v in graph.producers[value.name].inputs if v is not None]
    return True


def _swapped(builder: Builder, gather: Node, before: Node) -> list[Node]:
    table = gather.inputs[0]
    rows = table.shape[0] if table is not None else 0
    rank = table.type.rank if table is not None else 0
    nodes: list[Node] = []
    inputs: list[Value | None] = []
    for value in before.inputs:
        if value is None or value.type.rank < rank or value.shape[0] != rows:
            inputs.append(value)
            continue
        name = builder.fresh(f"{gather.name}/rows")
        lead = gather.result.shape[: gather.result.type.rank - rank + 1]
        early = Value(f"{name}:0", TensorType(value.format, (*lead, *value.shape[1:])))
        inputs.append(early)
        operands = (value, *gather.inputs[1:])
        nodes.append(replace(gather, inputs=operands, outputs=(early,), name=name))
    late = builder.fresh(f"{before.name}/rows")
    nodes.append(replace(before, inputs=tuple(inputs), outputs=gather.outputs, name=late))
    return nodes


GATHER_EARLY = Pass(
    name="gather-early",
    changes="moves Gather of rows of a constant table before Cast, Dequantize and elementwise "
    "ops on it; bits stay",
    run=_run,
)
