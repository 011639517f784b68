"""How long steps would take if a target ran at its published peak rates.

The roofline model (Williams, Waterman and Patterson 2009): a step is bound by its arithmetic or
by its traffic, whichever takes longer. The result is a lower bound on time, no prediction:
launches, conversions and imperfect schedules come on top.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from accelsdk.backend.info import Roofline, Target
from accelsdk.compiler.explain import Row
from accelsdk.compiler.partition.plan import Part
from accelsdk.errors import NotFound
from accelsdk.formats import Format, by_name
from accelsdk.graph.graph import Graph, Node


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A node, or a claimed region: what runs at once.

    Attributes:
        nodes: Names, in execution order.
        name: Name of the region, or op of the node.
        operations: Arithmetic operations of one run.
        bytes: Bytes that cross its border; what stays inside a region is never stored.
        format: Format of which the peak rate was taken; empty if the step computes nothing.
        seconds: Least time at peak rates.
        compute_bound: Whether arithmetic takes longer than traffic.
    """

    nodes: tuple[str, ...]
    name: str
    operations: int
    bytes: int
    format: str
    seconds: float
    compute_bound: bool


def published(target: Target) -> Roofline | None:
    """Returns the peak rates of a target, if it tells some that mean anything."""
    roofline = target.roofline
    if roofline is None:
        return None
    rates = (roofline.memory_bandwidth, *roofline.operations.values())
    good = roofline.operations and all(math.isfinite(rate) and rate > 0 for rate in rates)
    return roofline if good else None


def steps(part: Part, roofline: Roofline, rows: Mapping[str, Row]) -> tuple[Step, ...]:
    """Returns the steps of a part with their least times.

    Args:
        part: Of a plan.
        roofline: What its target has `published`.
        rows: What each of its nodes costs, by name.
    """
    regions = {name: claim for claim in part.claims for name in claim.nodes}
    members: dict[str, list[Node]] = {}
    for node in part.graph.nodes:
        region = regions.get(node.name)
        members.setdefault(region.nodes[0] if region is not None else node.name, []).append(node)
    found = []
    for first, nodes in members.items():
        region = regions.get(first)
        if region is None:
            found.append(_step(nodes, nodes[0].op, rows[first].bytes, roofline, rows))
        else:
            nbytes = _border(nodes, _hidden(part.graph, nodes))
            found.append(_step(nodes, region.name or "region", nbytes, roofline, rows))
    return tuple(found)


def _hidden(graph: Graph, nodes: Sequence[Node]) -> set[str]:
    """Returns the results of a region that nobody outside reads."""
    inside = {node.name for node in nodes}
    outputs = {value.name for value in graph.outputs}
    return {
        value.name
        for node in nodes
        for value in node.outputs
        if value is not None
        and value.name not in outputs
        and all(reader.name in inside for reader in graph.consumers.get(value.name, ()))
    }


def _step(
    nodes: Sequence[Node], name: str, nbytes: int, roofline: Roofline, rows: Mapping[str, Row]
) -> Step:
    busiest = max(nodes, key=lambda node: rows[node.name].operations)
    kind = _peak(busiest, roofline)
    arithmetic = sum(
        rows[node.name].operations / roofline.operations[_peak(node, roofline)]
        for node in nodes
        if rows[node.name].operations
    )
    traffic = nbytes / roofline.memory_bandwidth
    operations = sum(rows[node.name].operations for node in nodes)
    return Step(
        nodes=tuple(node.name for node in nodes),
        name=name,
        operations=operations,
        bytes=nbytes,
        format=kind if operations else "",
        seconds=max(arithmetic, traffic),
        compute_bound=arithmetic > traffic,
    )


def _border(nodes: Collection[Node], hidden: Collection[str]) -> int:
    """Returns the bytes that a region reads from outside, and writes for others to read."""
    made = {v.name: v for node in nodes for v in node.outputs if v is not None}
    read = {v.name: v for node in nodes for v in node.inputs if v is not None}
    crossing = [v for name, v in read.items() if name not in made]
    crossing += [v for name, v in made.items() if name not in hidden]
    return sum(value.type.nbytes for value in crossing)


def _peak(node: Node, roofline: Roofline) -> str:
    """Returns the published format at whose rate a node's arithmetic runs.

    That of its first operand; if it has no rate, the narrowest of the same kind (integer or
    not) that holds as many bits; if there is none, the slowest.
    """
    rates = roofline.operations
    value = next((v for v in (*node.inputs, *node.outputs) if v is not None), None)
    if value is None or value.format.name in rates:
        return value.format.name if value is not None else min(rates, key=lambda n: rates[n])
    wide = [
        (kind.bits, name)
        for name in rates
        if (kind := _known(name)) is not None
        and kind.is_integer == value.format.is_integer
        and kind.bits >= value.format.bits
    ]
    return min(wide)[1] if wide else min(rates, key=lambda name: rates[name])


def _known(name: str) -> Format | None:
    """Returns a format by the name in a vendor's roofline; vendors may have others than we."""
    try:
        return by_name(name)
    except NotFound:
        return None
