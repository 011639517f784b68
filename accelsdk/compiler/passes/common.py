"""What several passes ask of a graph."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

from accelsdk.graph.graph import CORE, Graph, Node
from accelsdk.graph.ops import attribute
from accelsdk.graph.types import Value


def is_core(node: Node | None, *ops: str) -> bool:
    """Says whether there is a node, and it is one of these core ops."""
    return node is not None and node.domain == CORE and node.op in ops


def ints(node: Node, name: str) -> tuple[int, ...]:
    """Returns an attribute that is a tuple of integers, or its default."""
    return cast("tuple[int, ...]", attribute(node, name))


def number(node: Node, name: str) -> int:
    """Returns an integer attribute, or its default."""
    return cast("int", attribute(node, name))


def maker(graph: Graph, value: Value | None, *ops: str) -> Node | None:
    """Returns the node that makes a value if it is one of these core ops, else None."""
    found = graph.producers.get(value.name) if value is not None else None
    return found if found is not None and is_core(found, *ops) else None


def only_for(graph: Graph, value: Value, reader: Node) -> bool:
    """Says whether one node alone reads a value, which is no output of the graph."""
    return graph.consumers.get(value.name) == (reader,) and value.name not in graph.output_names


def origins(nodes: Iterable[Node]) -> tuple[str, ...]:
    """Returns the origins of several nodes, each once."""
    return tuple(dict.fromkeys(name for node in nodes for name in node.origin))


def inverse(perm: Sequence[int]) -> tuple[int, ...]:
    """Returns the permutation that undoes another."""
    return tuple(sorted(range(len(perm)), key=lambda axis: perm[axis]))


def keeps_order(shape: Sequence[int], perm: Sequence[int]) -> bool:
    """Says whether a permutation moves only axes of extent 1: memory stays as it is."""
    moved = [axis for axis in perm if shape[axis] != 1]
    return moved == sorted(moved)
