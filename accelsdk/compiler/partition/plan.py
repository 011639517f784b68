"""What a partition comes to: parts of a model, where each runs, and what crosses between them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from accelsdk.backend.backend import Backend, Claim, Support
from accelsdk.backend.info import Target
from accelsdk.graph.graph import Graph
from accelsdk.graph.types import Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where parts can run: a backend, and the target that they are compiled for.

    Attributes:
        backend: Asked about every node that is put here.
        target: One of its targets.
    """

    backend: Backend
    target: Target

    def __str__(self) -> str:
        return f"{self.backend.info.name}/{self.target.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where one node of the partitioned graph runs, and why.

    Attributes:
        node: Name of the node.
        place: Index into `Plan.places`.
        support: How it runs there.
        claim: Name of the claimed region that it belongs to; empty if it stands alone.
        refusal: Why it does not run on place 0; empty if it does.
        fault: What is wrong with the claim that was made for it, if that was refused: a
            defect of the backend. The node is then placed by itself.
    """

    node: str
    place: int
    support: Support
    claim: str = ""
    refusal: str = ""
    fault: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A convex piece of the model that one backend compiles to one program.

    Attributes:
        name: Unique in the plan.
        place: Index into `Plan.places`.
        graph: Lowered for that place. Its inputs and outputs are the values that cross its
            border, under the names that they have in the whole. Constants are shared with
            the whole, not copied.
        claims: Regions of two nodes or more that the backend claimed in it.
    """

    name: str
    place: int
    graph: Graph
    claims: tuple[Claim, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """A value that is copied from one place to another.

    Attributes:
        value: What is copied; ``value.type.nbytes`` bytes.
        source: Place that it is on.
        destination: Place that needs it.
        after: Index of the part that makes it; -1 for an input of the model.
        before: Index of the first part that reads it there; ``len(parts)`` if none does, and
            it is an output of the model.
    """

    value: Value
    source: int
    destination: int
    after: int
    before: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A model cut into parts, in an order in which they can run one after the other.

    The model's inputs are fed, and its outputs handed back, on place 0. An output that is an
    input of the model is handed back as it was fed: no part makes it.

    Attributes:
        graph: The whole, as it was cut: core ops and kept composites.
        places: Place 0 is the one asked for; the others serve what it refuses.
        parts: In an order in which every value is made before it is read.
        transfers: In the order of ``after``, then ``before``.
        placements: One a node of ``graph``, in its order.
    """

    graph: Graph
    places: tuple[Place, ...]
    parts: tuple[Part, ...]
    transfers: tuple[Transfer, ...] = ()
    placements: tuple[Placement, ...] = ()

    @cached_property
    def whole(self) -> bool:
        """Whether one program on place 0 is all there is."""
        return len(self.parts) == 1 and self.parts[0].place == 0

    @cached_property
    def transfer_bytes(self) -> int:
        """Bytes that one run copies between places."""
        return sum(transfer.value.type.nbytes for transfer in self.transfers)
