"""What each node of a lowered graph costs, what made it, where it runs, and why there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from accelsdk.backend.backend import Verdict
from accelsdk.compiler.partition.dag import Dag
from accelsdk.compiler.partition.plan import Place, Plan
from accelsdk.compiler.partition.verdicts import ask_place
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
    rows = []
    for node, placed in zip(plan.graph.nodes, plan.placements, strict=True):
        cost = work.of(node)
        told = (placed.refusal, placed.support.text, placed.fault)
        rows.append(
            Row(
                node=node.name,
                op=node.op,
                origin=node.origin,
                via=node.via,
                place=str(plan.places[placed.place]),
                part=part[node.name],
                claim=placed.claim,
                verdict=placed.support.verdict,
                reason="; ".join(filter(None, told)),
                operations=cost.operations,
                bytes=cost.bytes,
            )
        )
    return rows


def survey(graph: Graph, place: Place, composites: Sequence[OpDef] = ()) -> list[Row]:
    """Returns what one place says about each node of a core graph, refused ones included.

    For models that cannot be placed; nothing is decomposed.

    Args:
        graph: A core graph, such as `accelsdk.compiler.pipeline.to_core` returns.
        place: Whom to ask.
        composites: Vendors' composites that the graph has.
    """
    work = _Costs(composites)
    asked = ask_place(Dag.of(graph), place)
    rows = []
    for node in graph.nodes:
        cost, support = work.of(node), asked.support[node.name]
        region = asked.region.get(node.name)
        rows.append(
            Row(
                node=node.name,
                op=node.op,
                origin=node.origin,
                via=node.via,
                place=str(place),
                part=None,
                claim=region.name if region is not None else "",
                verdict=support.verdict,
                reason="; ".join(filter(None, (support.text, asked.faults.get(node.name)))),
                operations=cost.operations,
                bytes=cost.bytes,
            )
        )
    return rows


class _Costs:
    """What nodes cost, by the rows of their ops."""

    def __init__(self, composites: Sequence[OpDef]) -> None:
        self._rows = {(row.domain, row.name): row for row in (*TABLE.values(), *composites)}

    def of(self, node: Node) -> Work:
        row = self._rows.get((node.domain, node.op))
        return row.work(node) if row is not None else Work(0, 0)
