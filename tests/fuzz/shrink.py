"""Makes a failing case small: one node, fewer nodes, half the extents."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from accelsdk.graph.graph import Graph
from tests.fuzz.checks import Difference
from tests.fuzz.generator import Case, rebuilt

Check = Callable[[Case], "list[Difference]"]


def shrunk(case: Case, difference: Difference, check: Check) -> tuple[Case, Difference]:
    """Returns the smallest case found that fails the same check, and how it fails."""
    best, how = case, difference
    if difference.node is not None:
        alone = _alone(case, difference)
        found = alone and _failing(alone, check)
        if alone and found:
            best, how = alone, found
    for _ in range(40):
        smaller = next(
            ((c, d) for c in _smaller(best) if (d := _failing(c, check)) is not None), None
        )
        if smaller is None:
            return best, how
        best, how = smaller
    return best, how


def _failing(case: Case, check: Check) -> Difference | None:
    found = check(case)
    return found[0] if found else None


def _alone(case: Case, difference: Difference) -> Case | None:
    node = difference.node
    if node is None:
        return None
    constants = tuple(c for c in case.graph.constants if c.name in difference.operands)
    known = {c.name for c in constants}
    inputs = {v.name: v for v in node.inputs if v is not None and v.name not in known}
    outputs = tuple(v for v in node.outputs if v is not None)
    graph = Graph(tuple(inputs.values()), outputs, constants, (node,), case.graph.name)
    return Case.of(graph, {n: difference.operands[n] for n in inputs}, case.seed, case.mode)


def _smaller(case: Case):
    graph = case.graph
    for position in range(len(graph.nodes)):
        found = _without(case, position)
        if found is not None:
            yield found
    extents = sorted({n for v in graph.inputs for n in v.shape if n > 1}, reverse=True)
    for extent in extents:
        feeds = {}
        for value in graph.inputs:
            part = tuple(slice(n // 2 if n == extent else n) for n in value.shape)
            feeds[value.name] = np.asarray(case.feeds[value.name][part], order="C")
        found = rebuilt(graph, feeds)
        if found is not None:
            yield Case(case.seed, case.mode, found.graph, found.feeds, found.values)


def _without(case: Case, position: int) -> Case | None:
    """A graph without a node: what it made and others read is fed."""
    graph = case.graph
    gone = graph.nodes[position]
    nodes = (*graph.nodes[:position], *graph.nodes[position + 1 :])
    if not nodes:
        return None
    names = {v.name for v in gone.outputs if v is not None}
    read = {v.name for node in nodes for v in node.inputs if v is not None}
    fed = [v for v in gone.outputs if v is not None and v.name in read]
    made = {v.name for node in nodes for v in node.outputs if v is not None}
    outputs = tuple(v for v in graph.outputs if v.name not in names and v.name in made)
    outputs = outputs or tuple(v for v in nodes[-1].outputs if v is not None)
    inputs = tuple(v for v in (*graph.inputs, *fed) if v.name in read)
    constants = tuple(c for c in graph.constants if c.name in read)
    small = Graph(inputs, outputs, constants, nodes, graph.name)
    feeds = {v.name: case.values[v.name] for v in inputs}
    return Case.of(small, feeds, case.seed, case.mode)
