"""Runs passes over core graphs, and holds each to the rules of the IR."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from accelsdk.errors import GraphError, Internal
from accelsdk.graph.graph import Graph, Node
from accelsdk.graph.opdef import OpDef
from accelsdk.graph.verify import verify

#: More rounds than this mean that two passes undo each other.
_MOST_ROUNDS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """A rewrite of core graphs that keeps inputs, outputs and the meaning.

    Attributes:
        name: For messages.
        changes: What it changes, and whether results keep their bits.
        run: Returns a new graph, or the very same object if there is nothing to change.
            Every node of the result keeps the origins of those that it replaces.
        exact: Whether results keep their bits.
    """

    name: str
    changes: str
    run: Callable[[Graph], Graph]
    exact: bool = True


def run_passes(graph: Graph, passes: Sequence[Pass], composites: Iterable[OpDef] = ()) -> Graph:
    """Runs passes in order, again and again, until none changes anything.

    The graph is verified after every pass that changed it. A pass is not run again on a graph
    that it left as it was. Nodes that it makes, or gives another op or more origins, tell its
    name in ``via``.

    Args:
        graph: Verified; not changed.
        passes: In order.
        composites: Vendors' composites that the graph may have.

    Raises:
        Internal: A pass broke the graph; names the pass.
    """
    rows = tuple(composites)
    settled: list[Graph | None] = [None] * len(passes)
    for _ in range(_MOST_ROUNDS):
        for index, step in enumerate(passes):
            if settled[index] is graph:
                continue
            changed = step.run(graph)
            if changed is graph:
                settled[index] = graph
            else:
                _check(step, graph, changed, rows)
                graph = _signed(step, graph, changed)
        if all(seen is graph for seen in settled):
            return graph
    names = ", ".join(step.name for step in passes)
    raise Internal(f"passes {names} do not come to an end", remedy="report this model")


def _signed(step: Pass, before: Graph, after: Graph) -> Graph:
    """Puts the name of a pass after the rules that made the nodes it made or merged."""
    known = {node.name: node for node in before.nodes}

    def signed(node: Node) -> Node:
        old = known.get(node.name)
        kept = old is not None and (old.op, old.origin) == (node.op, node.origin)
        if kept or step.name in node.via:
            return node
        return replace(node, via=(*node.via, step.name))

    return replace(after, nodes=tuple(map(signed, after.nodes)))


def _check(step: Pass, before: Graph, after: Graph, composites: Sequence[OpDef]) -> None:
    try:
        # Most nodes are the very objects that were verified before.
        verify(after, composites=composites, proven=frozenset(before.nodes))
        if after.inputs != before.inputs or after.outputs != before.outputs:
            raise GraphError("it changed the inputs or outputs", rule="interface")
    except GraphError as error:
        raise Internal(f"pass {step.name!r} broke the graph: {error}", node=error.node) from error
