"""What one place says about the nodes of a graph."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from accelsdk.backend.ask import ask, ask_all
from accelsdk.backend.backend import Backend, Claim, Support
from accelsdk.compiler.partition.claims import check_claims
from accelsdk.compiler.partition.dag import Dag
from accelsdk.compiler.partition.plan import Place


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What a place says about nodes.

    Attributes:
        support: How each node that it was asked about would run, by the node's name.
        regions: Claims of two nodes or more that hold.
        region: The region that a node is in, by the node's name.
        faults: What is wrong with the claim that was made for a node, by the node's name.
    """

    support: Mapping[str, Support]
    regions: tuple[Claim, ...]
    region: Mapping[str, Claim]
    faults: Mapping[str, str]


def ask_place(
    dag: Dag, place: Place, wanted: Collection[str] | None = None, taken: Sequence[Claim] = ()
) -> Verdicts:
    """Asks a place for its claims, and about each node that none of them covers.

    Args:
        dag: The graph.
        place: Whom to ask.
        wanted: Names of the nodes in question; None: all.
        taken: Regions of other places.

    Raises:
        Internal: The backend fails, or answers with something of another type.
    """
    graph, backend, target = dag.graph, place.backend, place.target
    # The default claims node by node what supports() says, which is asked below.
    by_node = type(backend).claim is Backend.claim
    claims = () if by_node else ask_all(backend, "claim", Claim, graph, target)
    checked = check_claims(dag, claims, wanted, taken)
    support = {name: claim.support for claim in checked.accepted for name in claim.nodes}
    for node in graph.nodes:
        if node.name not in support and (wanted is None or node.name in wanted):
            support[node.name] = ask(backend, "supports", Support, graph, node, target)
    regions = tuple(claim for claim in checked.accepted if len(claim.nodes) > 1)
    region = {name: claim for claim in regions for name in claim.nodes}
    return Verdicts(support, regions, region, checked.faults)
