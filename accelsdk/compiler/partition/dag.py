"""Who reads whom: the nodes of a graph by number, for what walks it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from accelsdk.graph.graph import Graph


@dataclass(frozen=True, slots=True)
class Dag:
    """A graph's nodes by their place in the execution order, and the edges between them.

    Attributes:
        graph: The graph.
        index: Number of each node, by name.
        before: Numbers of the nodes whose results each node reads; each is smaller.
        after: Numbers of the nodes that read a result of each node; each is larger.
    """

    graph: Graph
    index: Mapping[str, int]
    before: Sequence[Sequence[int]]
    after: Sequence[Sequence[int]]

    @classmethod
    def of(cls, graph: Graph) -> Dag:
        """Returns nodes and edges of a verified graph, in time linear in both."""
        maker: dict[str, int] = {}
        before: list[list[int]] = []
        after: list[list[int]] = [[] for _ in graph.nodes]
        for number, node in enumerate(graph.nodes):
            names = (value.name for value in node.inputs if value is not None)
            read = list(dict.fromkeys(maker[name] for name in names if name in maker))
            before.append(read)
            for source in read:
                after[source].append(number)
            maker.update((value.name, number) for value in node.outputs if value is not None)
        index = {node.name: number for number, node in enumerate(graph.nodes)}
        return cls(graph, index, before, after)
