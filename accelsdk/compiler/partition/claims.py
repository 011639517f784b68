"""Checks the regions that a backend claims; what breaks the contract is refused, and told.

A region must be *convex*: no path leaves it and comes back, for then it could not run as one
piece. Regions that are convex each can still wait for each other. Both show as a cycle once
every region is contracted to one point, so one topological sort of the contracted graph (Kahn
1962) clears all regions at once; it is only where the sort is stuck that regions are looked at
one by one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real

from accelsdk.backend.backend import Claim, Support
from accelsdk.compiler.partition.dag import Dag


@dataclass(frozen=True, slots=True)
class Checked:
    """What is left of a backend's claims.

    Attributes:
        accepted: In the order of the backend; disjoint, convex, and free of cycles together.
        faults: What is wrong with the claim that was made for a node, by the node's name.
    """

    accepted: tuple[Claim, ...]
    faults: Mapping[str, str]


def check_claims(
    dag: Dag,
    claims: Sequence[Claim],
    wanted: Collection[str] | None = None,
    taken: Sequence[Claim] = (),
) -> Checked:
    """Returns the claims that hold, and why the others do not.

    Args:
        dag: The graph that they were made for.
        claims: What a backend answered. A claim that shares a node with an earlier one is
            refused.
        wanted: Names of nodes that are to be had; a claim on any other is passed over, which
            is no fault. None: all.
        taken: Regions of other places, accepted before; they stay.
    """
    faults: dict[str, str] = {}
    sound: list[Claim] = []
    owner: dict[str, Claim] = {}
    for claim in claims:
        fault = _misfit(claim) or _unknown(claim, dag) or _overlap(claim, owner)
        if fault:
            _blame(claim, fault, faults)
        elif wanted is None or all(name in wanted for name in claim.nodes):
            sound.append(claim)
            owner.update((name, claim) for name in claim.nodes)
    regions = [claim for claim in (*taken, *sound) if len(claim.nodes) > 1]
    fixed = sum(len(claim.nodes) > 1 for claim in taken)
    refused = _Contraction(dag, regions, fixed).refused()
    for number, fault in refused.items():
        _blame(regions[number], fault, faults)
    gone = {id(regions[number]) for number in refused}
    accepted = tuple(claim for claim in sound if id(claim) not in gone)
    covered = {name for claim in accepted for name in claim.nodes}
    return Checked(accepted, {n: text for n, text in faults.items() if n not in covered})


def _blame(claim: Claim, fault: str, faults: dict[str, str]) -> None:
    text = f"its claim {_label(claim)} does not hold: {fault}"
    names = claim.nodes if isinstance(claim.nodes, list | tuple) else ()
    for name in names:
        if isinstance(name, str):
            faults.setdefault(name, text)


def _label(claim: Claim) -> str:
    if isinstance(claim.name, str) and claim.name:
        return repr(claim.name)
    names = [str(name) for name in claim.nodes[:3]]
    return "of " + ", ".join(names) + (", ..." if len(claim.nodes) > len(names) else "")


def _misfit(claim: Claim) -> str:
    """Says which field of a claim is not what the contract says."""
    nodes = claim.nodes
    if not isinstance(nodes, list | tuple) or not all(isinstance(name, str) for name in nodes):
        return f"nodes is {nodes!r} instead of a tuple of names"
    if not isinstance(claim.support, Support):
        return f"support is {claim.support!r} instead of a Support"
    if not isinstance(claim.name, str):
        return f"name is {claim.name!r} instead of a string"
    if claim.cost is not None and not isinstance(claim.cost, Real):
        return f"cost is {claim.cost!r} instead of seconds"
    if not nodes:
        return "it has no nodes"
    if not claim.support:
        return f"its verdict is unsupported: {claim.support.text or 'no reason given'}"
    return ""


def _unknown(claim: Claim, dag: Dag) -> str:
    missing = [name for name in claim.nodes if name not in dag.index]
    return f"the graph has no node {missing[0]!r}" if missing else ""


def _overlap(claim: Claim, owner: Mapping[str, Claim]) -> str:
    if len(set(claim.nodes)) < len(claim.nodes):
        return "it names a node twice"
    shared = next((name for name in claim.nodes if name in owner), None)
    if shared is None:
        return ""
    return f"node {shared!r} is in claim {_label(owner[shared])} too"


class _Contraction:
    """The graph with each region as one point, sorted topologically.

    Where the sort is stuck there is a cycle, which goes through a region: that one is refused
    and falls apart into its nodes, and the sort goes on. Linear in nodes and edges as long as
    nothing is refused.
    """

    def __init__(self, dag: Dag, regions: Sequence[Claim], fixed: int) -> None:
        count = len(dag.before)
        self.dag, self.regions, self.fixed, self.count = dag, regions, fixed, count
        self.members = [sorted(dag.index[name] for name in region.nodes) for region in regions]
        #: Point of each node: its own number, or that of its region plus the number of nodes.
        self.point = list(range(count))
        for number, members in enumerate(self.members):
            for node in members:
                self.point[node] = count + number
        self.sorted = [False] * count
        self.waits = [0] * (count + len(regions))  # edges into a point from unsorted points
        for node, before in enumerate(dag.before):
            point = self.point[node]
            self.waits[point] += sum(self.point[source] != point for source in before)
        self.outside: dict[int, str] = {}  # region -> why it is not convex; "" if it is

    def refused(self) -> dict[int, str]:
        """Returns why regions cannot be, by their number."""
        found: dict[int, str] = {}
        if not self.regions:
            return found
        ready = deque(point for point in dict.fromkeys(self.point) if not self.waits[point])
        first = 0
        while True:
            self._sort(ready)
            while first < self.count and self.sorted[first]:
                first += 1
            if first == self.count:
                return found
            number, fault = self._culprit(self._cycle(self.point[first]))
            found[number] = fault
            ready.extend(self._dissolve(number))

    def _nodes(self, point: int) -> Sequence[int]:
        return (point,) if point < self.count else self.members[point - self.count]

    def _sort(self, ready: deque[int]) -> None:
        while ready:
            point = ready.popleft()
            for node in self._nodes(point):
                self.sorted[node] = True
                for reader in self.dag.after[node]:
                    other = self.point[reader]
                    if other != point:
                        self.waits[other] -= 1
                        if not self.waits[other]:
                            ready.append(other)

    def _cycle(self, point: int) -> list[int]:
        """Returns points that wait for each other; found by going back from a stuck one."""
        trail: dict[int, int] = {}
        while point not in trail:
            trail[point] = len(trail)
            point = next(
                self.point[source]
                for node in self._nodes(point)
                for source in self.dag.before[node]
                if not self.sorted[source] and self.point[source] != point
            )
        return list(trail)[trail[point] :]

    def _culprit(self, cycle: Sequence[int]) -> tuple[int, str]:
        """Chooses the region of a cycle to refuse: one that is not convex, else the smallest."""
        concerned = [point - self.count for point in cycle if point >= self.count]
        loose = [number for number in concerned if number >= self.fixed]
        for number in loose:
            fault = self._not_convex(number)
            if fault:
                return number, fault
        smallest = min(loose, key=lambda number: (len(self.members[number]), -number))
        others = ", ".join(_label(self.regions[n]) for n in concerned if n != smallest)
        return smallest, f"it and {others} wait for each other"

    def _not_convex(self, number: int) -> str:
        if number not in self.outside:
            self.outside[number] = self._detour(self.members[number])
        return self.outside[number]

    def _detour(self, members: Sequence[int]) -> str:
        """Says through which node a path leaves and comes back; empty if none does."""
        inside, outside = set(members), set[int]()
        for node in range(members[0] + 1, members[-1] + 1):
            before = self.dag.before[node]
            if node not in inside:
                if any(source in inside or source in outside for source in before):
                    outside.add(node)
                continue
            back = next((source for source in before if source in outside), None)
            if back is not None:
                by = self.dag.graph.nodes[back]
                here = self.dag.graph.nodes[node]
                return f"it is not convex: a path leaves it, and comes back from {by} to {here}"
        return ""

    def _dissolve(self, number: int) -> list[int]:
        """Makes each node of a region a point again; returns those that wait for nothing."""
        members = self.members[number]
        for node in members:
            self.point[node] = node
        for node in members:
            self.waits[node] = sum(not self.sorted[source] for source in self.dag.before[node])
        return [node for node in members if not self.waits[node]]
