"""What `accelsdk explain` knows of a model, gathered once for all its reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from accelsdk.backend.backend import Verdict
from accelsdk.cli.explanation.estimate import Step, published, steps
from accelsdk.compiler.explain import Row, explain, survey
from accelsdk.compiler.partition.plan import Part, Place, Plan, Transfer
from accelsdk.compiler.pipeline import partition
from accelsdk.errors import UnsupportedGraph
from accelsdk.graph import memory_plan
from accelsdk.graph.graph import Graph
from accelsdk.graph.memory_plan import MemoryPlan
from accelsdk.graph.opdef import OpDef


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A stretch of a part's arena, and the values that lie in it.

    Attributes:
        offset: Where it begins, bytes.
        nbytes: How long it is, bytes.
        first: Position of the node that first writes it.
        last: Position of the last node that reads it; past the last node for results.
        values: Values that share it, in the order in which they are made.
    """

    offset: int
    nbytes: int
    first: int
    last: int
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartFacts:
    """One part of the plan.

    Attributes:
        part: Itself.
        memory: Static plan of its results, at the alignment of its target.
        stretches: The places of that plan.
        steps: What runs at once and how long at least; None if the target publishes no
            roofline.
    """

    part: Part
    memory: MemoryPlan
    stretches: tuple[Stretch, ...]
    steps: tuple[Step, ...] | None

    @property
    def seconds(self) -> float | None:
        """Least time at peak rates; None if they are not published."""
        return None if self.steps is None else sum(step.seconds for step in self.steps)


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """A model as it would run, or why it would not.

    Attributes:
        model: What the user called it.
        graph: Lowered; of a model that is refused, as far as it could be.
        rows: One a node of ``graph``, in its order.
        places: The one asked for, then those that serve what it refuses.
        parts: In the order in which they run; none if the model is refused.
        transfers: What is copied between places.
    """

    model: str
    graph: Graph
    rows: tuple[Row, ...]
    places: tuple[Place, ...]
    parts: tuple[PartFacts, ...] = ()
    transfers: tuple[Transfer, ...] = ()
    ops: Counter[str] = field(init=False)
    verdicts: Counter[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ops", Counter(row.op for row in self.rows))
        object.__setattr__(self, "verdicts", Counter(str(row.verdict) for row in self.rows))

    @property
    def refusals(self) -> list[Row]:
        """Nodes that no place runs."""
        return [row for row in self.rows if row.verdict is Verdict.UNSUPPORTED]

    @property
    def operations(self) -> int:
        """Arithmetic operations of one run."""
        return sum(row.operations for row in self.rows)

    @property
    def constant_bytes(self) -> int:
        """Bytes of the graph's constants."""
        return sum(constant.value.type.nbytes for constant in self.graph.constants)

    @property
    def transfer_bytes(self) -> int:
        """Bytes that one run copies between places."""
        return sum(transfer.value.type.nbytes for transfer in self.transfers)

    @property
    def seconds(self) -> float | None:
        """Least time of all parts and copies; None where a rate is not published."""
        times = [part.seconds for part in self.parts]
        times += [self.copy_seconds(transfer) for transfer in self.transfers]
        known = [time for time in times if time is not None]
        return sum(known) if self.parts and len(known) == len(times) else None

    def copy_seconds(self, transfer: Transfer) -> float | None:
        """Returns the least time of a copy, over the slower link of the two that tell one."""
        ends = (self.places[transfer.source], self.places[transfer.destination])
        rooflines = [published(place.target) for place in ends]
        rates = [r.link_bandwidth for r in rooflines if r is not None and r.link_bandwidth > 0]
        return transfer.value.type.nbytes / min(rates) if rates else None

    def reader(self, transfer: Transfer) -> str:
        """Returns who reads a copied value: a part, or the caller."""
        last = transfer.before == len(self.parts)
        return "the caller" if last else self.parts[transfer.before].part.name

    def maker(self, transfer: Transfer) -> str:
        """Returns who makes a copied value: a part, or the caller."""
        return self.parts[transfer.after].part.name if transfer.after >= 0 else "the caller"


def gather(
    graph: Graph, places: Sequence[Place], composites: Sequence[OpDef], model: str
) -> Explanation:
    """Places a core graph, and returns all that is to tell of it.

    Args:
        graph: Such as `accelsdk.compiler.pipeline.to_core` returns.
        places: The one asked for, then those that serve what it refuses.
        composites: Vendors' composites that the graph has.
        model: What the user called it.
    """
    try:
        plan = partition(graph, places, composites)
    except UnsupportedGraph:
        lowered, rows = survey(graph, places, composites)
        return Explanation(model=model, graph=lowered, rows=tuple(rows), places=tuple(places))
    rows = explain(plan, composites)
    by_name = {row.node: row for row in rows}
    return Explanation(
        model=model,
        graph=plan.graph,
        rows=tuple(rows),
        places=plan.places,
        parts=tuple(_part(plan, part, by_name) for part in plan.parts),
        transfers=plan.transfers,
    )


def _part(plan: Plan, part: Part, rows: dict[str, Row]) -> PartFacts:
    target = plan.places[part.place].target
    memory = memory_plan.plan(part.graph, alignment=target.alignment)
    roofline = published(target)
    return PartFacts(
        part=part,
        memory=memory,
        stretches=_stretches(part.graph, memory),
        steps=None if roofline is None else steps(part, roofline, rows),
    )


def _stretches(graph: Graph, memory: MemoryPlan) -> tuple[Stretch, ...]:
    """Returns the places of a memory plan, each with all the values that share it."""
    roots: dict[str, str] = {}
    groups: dict[str, list[str]] = {}
    for name in memory.intervals:  # in the order in which they are made
        source = memory.shares.get(name)
        roots[name] = root = name if source is None else roots[source]
        groups.setdefault(root, []).append(name)
    sizes = {value.name: value.type.nbytes for value in graph.values()}
    return tuple(
        Stretch(
            offset=memory.offsets[root],
            nbytes=max(sizes[name] for name in names),
            first=min(memory.intervals[name].first for name in names),
            last=max(memory.intervals[name].last for name in names),
            values=tuple(names),
        )
        for root, names in groups.items()
    )
