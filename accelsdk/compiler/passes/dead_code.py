"""Removes what no output needs."""

from __future__ import annotations

from accelsdk.compiler.passes.manager import Pass
from accelsdk.graph.graph import Graph
from accelsdk.graph.rewrite import remove_dead


def _run(graph: Graph) -> Graph:
    alive = remove_dead(graph)
    same = len(alive.nodes) == len(graph.nodes) and len(alive.constants) == len(graph.constants)
    return graph if same else alive


DEAD_CODE = Pass(
    name="dead-code",
    changes="removes nodes and constants that no output needs; bits stay",
    run=_run,
)
