"""Computes equal expressions once."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace

from accelsdk.compiler.passes.manager import Pass
from accelsdk.graph.graph import Graph, Node
from accelsdk.graph.rewrite import remove_dead, substitute
from accelsdk.graph.types import Value

#: Constants of up to this many bytes are compared by contents.
_SMALL = 4096


def _run(graph: Graph) -> Graph:
    same: dict[str, Value] = {}
    _equal_constants(graph, same)
    first: dict[Hashable, Node] = {}
    merged: dict[str, tuple[str, ...]] = {}
    interface = {value.name for value in graph.outputs}
    for node in graph.nodes:
        key = _key(node, same)
        kept = first.setdefault(key, node)
        # Two outputs cannot share a value without a copy: those stay as they are.
        if kept is node or any(v is not None and v.name in interface for v in node.outputs):
            continue
        for old, new in zip(node.outputs, kept.outputs, strict=True):
            if old is not None and new is not None:
                same[old.name] = new
        merged[kept.name] = (*merged.get(kept.name, kept.origin), *node.origin)
    if not same:
        return graph
    nodes = tuple(
        replace(node, origin=tuple(dict.fromkeys(merged[node.name])))
        if node.name in merged
        else node
        for node in graph.nodes
    )
    return remove_dead(substitute(replace(graph, nodes=nodes), same))


def _equal_constants(graph: Graph, same: dict[str, Value]) -> None:
    interface = {value.name for value in graph.outputs}
    first: dict[Hashable, Value] = {}
    for constant in graph.constants:
        if constant.value.type.nbytes > _SMALL or constant.name in interface:
            continue
        kept = first.setdefault((constant.value.type, constant.array().tobytes()), constant.value)
        if kept is not constant.value:
            same[constant.name] = kept


def _key(node: Node, same: dict[str, Value]) -> Hashable:
    operands = tuple(
        None if value is None else same.get(value.name, value).name for value in node.inputs
    )
    # repr tells 0.0 from -0.0, and 1 from True, which compare as equal
    attributes = tuple(sorted((name, repr(value)) for name, value in node.attributes.items()))
    present = tuple(value is not None for value in node.outputs)
    return node.domain, node.op, operands, attributes, present


CSE = Pass(
    name="cse",
    changes="merges nodes of the same op, operands and attributes, and equal small constants; "
    "bits stay",
    run=_run,
)
