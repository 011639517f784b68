"""What each node of a lowered graph costs, what made it, where it runs, and why there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from accelsdk.backend.backend import Support, Verdict
from accelsdk.compiler.partition.placing import Placer
from accelsdk.compiler.partition.plan import Place, Placement, Plan
from accelsdk.compiler.passes.catalogue import PASSES
from accelsdk.graph.graph import Graph, Node
from accelsdk.graph.opdef import OpDef, Work
from accelsdk.graph.ops import TABLE


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One node as `explain` tells of it.

    Attributes:
        node: Name of the node.
        op: Its op.
        origin: Source nodes that it computes for.
        via: Lowering rules, decompositions and passes that made it, outermost first.
        place: Backend and target that run it, as ``"backend/target"``; those asked, if they
            do not.
        part: Index of the plan's part that it is in; None if there is no plan.
        claim: Name of the claimed region that it belongs to; empty if it stands alone.
        verdict: How that place runs it.
        reason: Why not the place asked for, or why not natively, and what was wrong with a
            claim that was made for it; empty if there is nothing to tell.
        operations: Arithmetic operations of one run.
        bytes: Bytes of operands and results, packed.
    """

    node: str
    op: str
    origin: tuple[str, ...]
    via: tuple[str, ...]
    place: str
    part: int | None
    claim: str
    verdict: Verdict
    reason: str
    operations: int
    bytes: int

    @property
    def intensity(self) -> float:
        """Operations a byte; what the roofline model places a node by (Williams 2009)."""
        return self.operations / self.bytes if self.bytes else 0.0


def explain(plan: Plan, composites: Sequence[OpDef] = ()) -> list[Row]:
    """Returns one row for each node of a plan's graph, in its order.

    Args:
        plan: Of `accelsdk.compiler.pipeline.plan` or `partition`.
        composites: Vendors' composites that the graph has.
    """
    work = _Costs(composites)
    part = {node.name: n for n, p in enumerate(plan.parts) for node in p.graph.nodes}
    return [
        _row(node, placed, plan.places, part[node.name], work.of(node))
        for node, placed in zip(plan.graph.nodes, plan.placements, strict=True)
    ]


def survey(
    graph: Graph, places: Sequence[Place], composites: Sequence[OpDef] = ()
) -> tuple[Graph, list[Row]]:
    """Returns a graph as far as it can be lowered for places, and one row for each node.

    For models of which a node is refused by every place, so that no plan exists: such a
    node's verdict is unsupported, and its reason is that of each place.

    Args:
        graph: A core graph, such as `accelsdk.compiler.pipeline.to_core` returns.
        places: The one asked for, then those that serve what it refuses.
        composites: Vendors' composites that the graph has.
    """
    work = _Costs(composites)
    placed = Placer(places, composites, PASSES).place(graph)
    placements = {placement.node: placement for placement in placed.placements}
    for name, reason in placed.refused.items():
        support = Support(Verdict.UNSUPPORTED, text=reason)
        placements[name] = Placement(node=name, place=0, support=support)
    lowered = placed.dag.graph
    rows = [
        _row(node, placements[node.name], places, None, work.of(node)) for node in lowered.nodes
    ]
    return lowered, rows


def _row(
    node: Node, placed: Placement, places: Sequence[Place], part: int | None, cost: Work
) -> Row:
    told = (placed.refusal, placed.support.text, placed.fault)
    return Row(
        node=node.name,
        op=node.op,
        origin=node.origin,
        via=node.via,
        place=str(places[placed.place]),
        part=part,
        claim=placed.claim,
        verdict=placed.support.verdict,
        reason="; ".join(filter(None, told)),
        operations=cost.operations,
        bytes=cost.bytes,
    )


class _Costs:
    """What nodes cost, by the rows of their ops."""

    def __init__(self, composites: Sequence[OpDef]) -> None:
        self._rows = {(row.domain, row.name): row for row in (*TABLE.values(), *composites)}

    def of(self, node: Node) -> Work:
        row = self._rows.get((node.domain, node.op))
        return row.work(node) if row is not None else Work(0, 0)
