"""Cuts a placed graph into parts that run one after the other, and says what crosses.

Claimed regions are contracted to one point first. Then one place runs all that is ready, and
all that this makes ready there, before the next place takes over. A part is thus a contiguous
piece of a topological order: convex, and acyclic together with the others. With two places the
number of parts is the smallest that is possible, given the place that starts: a node is put off
only if its operands come from the other place, so no order changes places less often. Each
place is tried as the first one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from accelsdk.backend.backend import Claim
from accelsdk.compiler.partition.dag import Dag
from accelsdk.compiler.partition.plan import Part, Transfer
from accelsdk.graph.graph import Graph
from accelsdk.graph.types import Value


def cut(
    dag: Dag, places: Sequence[int], regions: Sequence[Claim]
) -> tuple[tuple[Part, ...], tuple[Transfer, ...]]:
    """Returns parts in the order in which they run, and what is copied between them.

    Args:
        dag: The graph.
        places: Place of each node, in order.
        regions: Disjoint, each on one place, and free of cycles together.
    """
    graph = dag.graph
    if not any(places):
        return (Part(name=graph.name, place=0, graph=graph, claims=tuple(regions)),), ()
    groups = _fewest(_Points(dag, places, regions))
    homes = [0] * len(graph.nodes)
    for part, group in enumerate(groups):
        for node in group:
            homes[node] = part
    part_places = [places[group[0]] for group in groups]
    crossings = _Crossings(graph, homes, part_places)
    inside: list[list[Claim]] = [[] for _ in groups]
    for region in regions:
        inside[homes[dag.index[region.nodes[0]]]].append(region)
    parts = tuple(
        Part(
            name=f"{graph.name}.{number}",
            place=part_places[number],
            graph=crossings.graph(number, group),
            claims=tuple(inside[number]),
        )
        for number, group in enumerate(groups)
    )
    return parts, crossings.transfers()


class _Points:
    """The graph with each region as one point."""

    def __init__(self, dag: Dag, places: Sequence[int], regions: Sequence[Claim]) -> None:
        self.dag, self.places = dag, places
        count = len(dag.before)
        self.point = list(range(count))
        self.members: dict[int, list[int]] = {}
        for region in regions:
            members = sorted(dag.index[name] for name in region.nodes)
            self.members[members[0]] = members
            for node in members:
                self.point[node] = members[0]
        self.waits = [0] * count
        for node, before in enumerate(dag.before):
            point = self.point[node]
            self.waits[point] += sum(self.point[source] != point for source in before)

    def sources(self) -> list[int]:
        """Returns the points that wait for nothing."""
        return [point for point in dict.fromkeys(self.point) if not self.waits[point]]

    def nodes(self, point: int) -> Sequence[int]:
        """Returns the nodes of a point."""
        return self.members.get(point, (point,))

    def order(self, start: int) -> list[list[int]]:
        """Returns the nodes of each part, where place ``start`` runs first."""
        waits = list(self.waits)
        ready: dict[int, list[int]] = {}
        for point in self.sources():
            ready.setdefault(self.places[point], []).append(point)
        groups: list[list[int]] = []
        place = start
        while ready:
            todo = ready.pop(place)
            group: list[int] = []
            while todo:
                point = todo.pop()
                group.extend(self.nodes(point))
                for freed in self._freed(point, waits):
                    there = self.places[freed]
                    (todo if there == place else ready.setdefault(there, [])).append(freed)
            groups.append(sorted(group))
            place = min(ready, default=place)
        return groups

    def _freed(self, point: int, waits: list[int]) -> Iterable[int]:
        for node in self.nodes(point):
            for reader in self.dag.after[node]:
                other = self.point[reader]
                if other != point:
                    waits[other] -= 1
                    if not waits[other]:
                        yield other


def _fewest(points: _Points) -> list[list[int]]:
    starts = sorted({points.places[point] for point in points.sources()})
    return min((points.order(start) for start in starts), key=len)


class _Crossings:
    """Which values cross the borders of parts."""

    def __init__(self, graph: Graph, homes: Sequence[int], places: Sequence[int]) -> None:
        self.whole, self.homes, self.places = graph, homes, places
        #: Part that makes each value that has a home; -1 for an input of the model.
        self.maker: dict[str, int] = {value.name: -1 for value in graph.inputs}
        for node, home in zip(graph.nodes, homes, strict=True):
            self.maker.update((v.name, home) for v in node.outputs if v is not None)
        self.order = {value.name: number for number, value in enumerate(graph.values())}
        self.constant = {constant.name: n for n, constant in enumerate(graph.constants)}
        self._adopt_constant_outputs()
        self.outputs = {value.name for value in graph.outputs}
        self.readers = self._readers()

    def _adopt_constant_outputs(self) -> None:
        """Lets a part hand back outputs that are constants: the first on place 0, if any."""
        home = next((n for n, place in enumerate(self.places) if place == 0), 0)
        for value in self.whole.outputs:
            if value.name in self.constant:
                self.maker[value.name] = home

    def _readers(self) -> Mapping[str, set[int]]:
        """Returns the parts that read each value that another part, or the caller, makes."""
        found: dict[str, set[int]] = {}
        for node, home in zip(self.whole.nodes, self.homes, strict=True):
            for value in node.inputs:
                if value is None or value.name in self.constant:
                    continue
                if self.maker[value.name] != home:
                    found.setdefault(value.name, set()).add(home)
        return found

    def graph(self, number: int, group: Sequence[int]) -> Graph:
        """Returns the graph of one part."""
        nodes = tuple(self.whole.nodes[node] for node in group)
        read = {v.name: v for node in nodes for v in node.inputs if v is not None}
        made = {v.name: v for node in nodes for v in node.outputs if v is not None}
        adopted = [
            v
            for v in dict.fromkeys(self.whole.outputs)
            if v.name in self.constant and self.maker[v.name] == number
        ]
        constants = {name for name in read if name in self.constant} | {v.name for v in adopted}
        inputs = (v for name, v in read.items() if name not in made and name not in constants)
        outputs = [v for v in made.values() if v.name in self.outputs or v.name in self.readers]
        return Graph(
            inputs=tuple(sorted(inputs, key=self._rank)),
            outputs=(*outputs, *adopted),
            constants=tuple(
                self.whole.constants[self.constant[name]]
                for name in sorted(constants, key=self.constant.__getitem__)
            ),
            nodes=nodes,
            name=f"{self.whole.name}.{number}",
        )

    def _rank(self, value: Value) -> int:
        return self.order[value.name]

    def transfers(self) -> tuple[Transfer, ...]:
        """Returns what is copied, once to each place that needs it."""
        found: list[Transfer] = []
        end = len(self.places)
        values = {value.name: value for value in self.whole.values()}
        for name, maker in self.maker.items():
            source = self.places[maker] if maker >= 0 else 0
            first: dict[int, int] = {0: end} if name in self.outputs else {}
            for part in sorted(self.readers.get(name, ()), reverse=True):
                first[self.places[part]] = part
            first.pop(source, None)
            found += [
                Transfer(
                    value=values[name], source=source, destination=place, after=maker, before=part
                )
                for place, part in first.items()
            ]
        return tuple(sorted(found, key=self._when))

    def _when(self, transfer: Transfer) -> tuple[int, int, int, int]:
        return (transfer.after, transfer.before, self._rank(transfer.value), transfer.destination)
