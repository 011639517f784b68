"""Puts what is computed from constants alone right before what reads it first.

Models list such nodes (dequantised weights, Expand of a number) up front, and their results then
live until the last layer. Computed late, few of them live at a time.
"""

from __future__ import annotations

from dataclasses import replace

from accelsdk.compiler.passes.manager import Pass
from accelsdk.graph.graph import Graph, Node


def _run(graph: Graph) -> Graph:
    fixed = _fixed(graph)
    order: list[Node] = []
    placed: set[str] = set()
    for node in graph.nodes:
        if node.name not in fixed:
            _put(graph, node, fixed, placed, order)
    for node in graph.nodes:  # those that only outputs need
        if node.name not in placed:
            _put(graph, node, fixed, placed, order)
    if all(a is b for a, b in zip(order, graph.nodes, strict=True)):
        return graph
    return replace(graph, nodes=tuple(order))


def _fixed(graph: Graph) -> set[str]:
    """Returns the names of the nodes whose operands come from constants alone."""
    known = set(graph.constant_by_name)
    found: set[str] = set()
    for node in graph.nodes:
        if all(v is None or v.name in known for v in node.inputs):
            found.add(node.name)
            known.update(v.name for v in node.outputs if v is not None)
    return found


def _put(graph: Graph, node: Node, fixed: set[str], placed: set[str], order: list[Node]) -> None:
    """Places a node after the constant computation that it needs, in the order of operands."""
    todo = [(node, False)]
    while todo:
        current, ready = todo.pop()
        if ready:
            if current.name not in placed:
                placed.add(current.name)
                order.append(current)
            continue
        todo.append((current, True))
        for value in reversed(current.inputs):
            before = graph.producers.get(value.name) if value is not None else None
            if before is not None and before.name in fixed and before.name not in placed:
                todo.append((before, False))


CONSTANTS_LATE = Pass(
    name="constants-late",
    changes="moves nodes whose operands are all constant to right before their first reader, so "
    "that less memory is in use at a time; bits stay",
    run=_run,
)
