"""Joins clamps that follow each other: Relu and Clip with constant limits.

Clip is ``min(max(x, a), b)``. Let a and b be the limits of the first and c and d of the second
(Relu has the lower limit 0 alone). If a <= b and c <= d, both together are a clamp to
``[clamp(a), clamp(b)]``, where ``clamp`` is the second one: clamping is monotone, keeps what is
within, and picks one of its operands, so nothing is rounded; NaN stays NaN. Limits that are
zeros of either sign, or compare equal, are left alone: max may return either zero.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.compiler.passes.common import is_core, maker, only_for, origins
from accelsdk.compiler.passes.manager import Pass
from accelsdk.graph.graph import Graph, Node
from accelsdk.graph.rewrite import Builder, remove_dead
from accelsdk.graph.types import Value

_CLAMPS = ("Relu", "Clip")

Number = NDArray[Any]  # of rank 0


@dataclass(frozen=True, slots=True)
class _Limits:
    """Limits of a clamp in the format of its operand; None does not limit."""

    low: Number | None
    high: Number | None

    def ordered(self) -> bool:
        return self.low is None or self.high is None or bool(self.low <= self.high)

    def clamp(self, item: Number) -> Number:
        """Returns a limit clamped by these."""
        if self.low is not None and item < self.low:
            item = self.low
        return self.high if self.high is not None and item > self.high else item

    def after(self, first: _Limits) -> _Limits:
        """Returns the limits of this clamp after another."""
        low = self.low if first.low is None else self.clamp(first.low)
        high = self.high if first.high is None else self.clamp(first.high)
        return _Limits(low, high)


def _run(graph: Graph) -> Graph:
    builder = Builder.of(graph)
    joined: dict[str, Node] = {}
    for node in graph.nodes:
        before = maker(graph, node.inputs[0], *_CLAMPS) if is_core(node, *_CLAMPS) else None
        if before is None or before.name in joined or not only_for(graph, before.result, node):
            continue
        made = _joined(graph, builder, before, node)
        if made is not None:
            joined[node.name] = made
    if not joined:
        return graph
    nodes = tuple(joined.get(node.name, node) for node in graph.nodes)
    constants = (*graph.constants, *builder.constants)
    return remove_dead(replace(graph, nodes=nodes, constants=constants))


def _joined(graph: Graph, builder: Builder, first: Node, second: Node) -> Node | None:
    origin = origins((first, second))
    if first.op == second.op == "Relu":
        return replace(second, inputs=first.inputs, origin=origin)
    one, two = _limits(graph, first), _limits(graph, second)
    if one is None or two is None or not (one.ordered() and two.ordered()):
        return None
    zeros = [x for x in (one.low, one.high, two.low, two.high) if x is not None and x == 0]
    if len({x.tobytes() for x in zeros}) > 1:
        return None
    both = two.after(one)
    kind = second.result.format

    def limit(number: Number | None) -> Value | None:
        return None if number is None else builder.constant(number, kind)

    inputs = (first.inputs[0], limit(both.low), limit(both.high))
    return replace(second, op="Clip", inputs=inputs, attributes={}, origin=origin)


def _limits(graph: Graph, node: Node) -> _Limits | None:
    """Returns the limits of a clamp if they are constant and no NaN."""
    kind = node.result.format
    if node.op == "Relu":
        return _Limits(np.zeros((), kind.dtype), None)
    found: list[Number | None] = []
    for value in (node.operand(1), node.operand(2)):
        known = graph.constant_by_name.get(value.name) if value is not None else None
        if value is not None and known is None:
            return None
        number = known.array().reshape(()) if known is not None else None
        if number is not None and number != number:  # NaN
            return None
        found.append(number)
    return _Limits(found[0], found[1])


CLAMPS = Pass(
    name="clamps",
    changes="joins Relu and Clip with constant limits that follow each other; bits stay",
    run=_run,
)
