"""DynamicQuantizeLinear, found again in the steps that it was lowered to.

Runtimes compute range, scale, zero point and codes in one op, and join it with the integer
product that follows; of its steps they know nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import partial

import numpy as np

from accelsdk import formats as f
from accelsdk.exchange.emitter import Emitter
from accelsdk.exchange.group import Group
from accelsdk.graph.graph import CORE, Graph, Node
from accelsdk.graph.types import Value

#: What is computed, by which op, of what: the definition of DynamicQuantizeLinear, backwards.
#: Data that are all zero get the scale 1.
_STEPS: Sequence[tuple[str, str, tuple[str | float, ...]]] = (
    ("codes", "Quantize", ("x", "scale", "zero")),
    ("zero", "Cast", ("rounded",)),
    ("rounded", "Round", ("clipped",)),
    ("clipped", "Clip", ("start", 0.0, 255.0)),
    ("start", "Div", ("opposite", "scale")),
    ("opposite", "Neg", ("low",)),
    ("low", "Min", ("least", 0.0)),
    ("least", "ReduceMin", ("x",)),
    ("scale", "Where", ("nothing", 1.0, "step")),
    ("nothing", "Equal", ("step", 0.0)),
    ("step", "Div", ("range", 255.0)),
    ("range", "Sub", ("high", "low")),
    ("high", "Max", ("most", 0.0)),
    ("most", "ReduceMax", ("x",)),
)
_RESULTS = ("codes", "scale", "zero")


def groups(graph: Graph) -> list[Group]:
    """Returns the groups of steps that are a DynamicQuantizeLinear each."""
    order = {node.name: index for index, node in enumerate(graph.nodes)}
    found = [_group(graph, order, node) for node in graph.nodes if node.op == "Quantize"]
    # Two that share steps are written as steps.
    count = Counter(name for group in found if group is not None for name in group.nodes)
    return [g for g in found if g is not None and all(count[name] == 1 for name in g.nodes)]


def _group(graph: Graph, order: Mapping[str, int], quantize: Node) -> Group | None:
    x = quantize.inputs[0]
    if x is None or x.format is not f.FLOAT32 or quantize.result.format is not f.UINT8:
        return None
    bound = {"codes": quantize.result, "x": x}
    nodes: dict[str, Node] = {}
    for name, op, operands in _STEPS:
        node = graph.producers.get(bound[name].name)
        if node is None or (node.domain, node.op) != (CORE, op):
            return None
        given = [value for value in node.inputs if value is not None]
        if len(given) != len(operands) or not all(
            _is(graph, bound, value, wanted) for value, wanted in zip(given, operands, strict=True)
        ):
            return None
        nodes[node.name] = node
    if not _whole(bound) or _leaks(graph, bound, nodes.keys()):
        return None
    names = (bound["x"].name, *(bound[name].name for name in _RESULTS))
    # Both extremes read x, and come before all else.
    first = min(nodes, key=order.__getitem__)
    emit = partial(_emit, names=names, name=quantize.name)
    return Group(frozenset(nodes), first, "DynamicQuantizeLinear", emit)


def _is(graph: Graph, bound: dict[str, Value], value: Value, wanted: str | float) -> bool:
    """Says whether an operand is what a step wants; a name met first is bound to it."""
    if isinstance(wanted, str):
        return bound.setdefault(wanted, value) is value or bound[wanted].name == value.name
    known = graph.constant_by_name.get(value.name)
    return known is not None and value.shape == () and float(np.asarray(known.array())) == wanted


def _whole(bound: dict[str, Value]) -> bool:
    """Says whether the range is that of all data, and scale and zero point are one each."""
    return all(bound[name].shape == () for name in ("least", "most", "scale", "zero"))


def _leaks(graph: Graph, bound: dict[str, Value], nodes: Collection[str]) -> bool:
    """Says whether anybody else reads a step that has no place in the one op."""
    inner = [value for name, value in bound.items() if name not in (*_RESULTS, "x")]
    read = {node.name for value in inner for node in graph.consumers.get(value.name, ())}
    return not read <= set(nodes) or any(v.name in graph.output_names for v in inner)


def _emit(em: Emitter, names: Sequence[str], name: str) -> None:
    x, codes, scale, zero = names
    em.emit("DynamicQuantizeLinear", (x,), (codes, scale, zero), name=name)
