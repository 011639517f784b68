"""Claimed regions: what breaks the contract is refused with the reason, and nothing else is."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsdk.backend.backend import EMULATED, NATIVE, Claim, Refusal, Verdict, refuse
from accelsdk.compiler.partition.claims import check_claims
from accelsdk.compiler.partition.dag import Dag
from accelsdk.compiler.pipeline import partition
from accelsdk.errors import Internal, UnsupportedGraph
from accelsdk.formats import FLOAT32
from accelsdk.graph.graph import Graph
from accelsdk.graph.rewrite import Builder
from tests.compiler.partitioning import CPU, anything, diamond, ops, place, region
from tests.graph.strategies import graphs


def checked(graph: Graph, *claims: Claim, **options):
    return check_claims(Dag.of(graph), claims, **options)


def test_what_holds_is_accepted_in_order():
    claims = [region("d", "e"), region("a"), region("b", "c")]
    found = checked(diamond(), *claims)
    assert found.accepted == tuple(claims)
    assert found.faults == {}


@pytest.mark.parametrize(
    ("claim", "fault"),
    [
        (region("a", "ghost"), "the graph has no node 'ghost'"),
        (region("a", "b", "a"), "it names a node twice"),
        (region("a", "d"), r"it is not convex: a path leaves it, and comes back from b \(Exp\)"),
        (region("a", "b", "d"), "comes back from c"),
        (region("a", "e"), "comes back from d"),
        (region(), "it has no nodes"),
        (Claim(nodes=("a", "b"), support=refuse(Refusal.SHAPE, "too big")), "too big"),
        (Claim(nodes=("a", "b"), support=refuse(Refusal.SHAPE, "")), "no reason given"),
        (Claim(nodes="ab", support=NATIVE), "instead of a tuple of names"),
        (Claim(nodes=("a", 3), support=NATIVE), "instead of a tuple of names"),
        (Claim(nodes=("a", "b"), support="yes"), "instead of a Support"),
        (Claim(nodes=("a", "b"), support=NATIVE, name=7), "instead of a string"),
        (Claim(nodes=("a", "b"), support=NATIVE, cost="cheap"), "instead of seconds"),
    ],
)
def test_what_does_not_hold_is_refused(claim, fault):
    found = checked(diamond(), claim, region("c"))
    assert [c.nodes for c in found.accepted] == [("c",)]
    if isinstance(claim.nodes, tuple) and "a" in claim.nodes:
        assert re.search(fault, found.faults["a"])


def test_the_second_claim_on_a_node_is_refused():
    found = checked(diamond(), region("a", "b", name="one"), region("b", "d", name="two"))
    assert [c.name for c in found.accepted] == ["one"]
    assert found.faults == {"d": "its claim 'two' does not hold: node 'b' is in claim 'one' too"}


def ladder() -> Graph:
    """a -> d and c -> b, of which {a, b} and {c, d} are convex and wait for each other."""
    b = Builder()
    x = b.input("x", FLOAT32, (4,))
    a, c = b.op("Neg", x, name="a"), b.op("Abs", x, name="c")
    two, four = b.op("Exp", c, name="b"), b.op("Tanh", a, name="d")
    return b.graph([x], [two, four])


def test_regions_that_wait_for_each_other_are_broken_up():
    found = checked(ladder(), region("a", "b", name="one"), region("c", "d", name="two"))
    assert [c.name for c in found.accepted] == ["one"]
    assert found.faults["d"] == ("its claim 'two' does not hold: it and 'one' wait for each other")
    alone = checked(ladder(), region("c", "d", name="two"))
    assert [c.name for c in alone.accepted] == ["two"]


def test_a_region_that_is_not_convex_does_not_take_a_sound_one_with_it():
    loose, sound = region("a", "d", name="loose"), region("b", "c", name="sound")
    for claims in ((loose, sound), (sound, loose)):
        found = checked(diamond(), *claims)
        assert [c.name for c in found.accepted] == ["sound"]


def test_regions_of_other_places_stay():
    taken = region("a", "b", name="taken")
    found = checked(ladder(), region("c", "d", name="late"), taken=[taken], wanted={"c", "d"})
    assert found.accepted == ()
    assert "'taken' wait for each other" in found.faults["c"]


def test_claims_on_nodes_that_are_not_to_be_had_are_passed_over():
    found = checked(diamond(), region("a", "b"), region("d", "e"), wanted={"b", "c", "d", "e"})
    assert [c.nodes for c in found.accepted] == [("d", "e")]
    assert found.faults == {}


def contracted_is_acyclic(graph: Graph, claims) -> bool:
    """By brute force: takes points without unmet operands away until none is left."""
    point = {node.name: node.name for node in graph.nodes}
    for number, claim in enumerate(claims):
        point.update(dict.fromkeys(claim.nodes, f"claim {number}"))
    edges = {
        (point[graph.producers[v.name].name], point[node.name])
        for node in graph.nodes
        for v in node.inputs
        if v is not None and v.name in graph.producers
    }
    edges = {(a, b) for a, b in edges if a != b}
    left = set(point.values())
    while left:
        free = {p for p in left if not any(b == p and a in left for a, b in edges)}
        if not free:
            return False
        left -= free
    return True


@given(graph=graphs(most=14), data=st.data())
@settings(max_examples=200)
def test_random_claims(graph, data):
    names = [node.name for node in graph.nodes]
    colours = data.draw(st.lists(st.integers(0, 4), min_size=len(names), max_size=len(names)))
    claims = [
        region(*(n for n, c in zip(names, colours, strict=True) if c == colour), name=str(colour))
        for colour in range(1, 5)
        if colour in colours
    ]
    found = checked(graph, *claims)
    assert contracted_is_acyclic(graph, found.accepted)
    refused = [claim for claim in claims if claim not in found.accepted]
    assert set(found.faults) == {name for claim in refused for name in claim.nodes}
    for claim in refused:
        # each refused one is not convex, or fails together with others that were claimed
        assert not contracted_is_acyclic(graph, claims)
        convex = contracted_is_acyclic(graph, [claim])
        assert ("wait for each other" in found.faults[claim.nodes[0]]) == convex


# -- in a plan -------------------------------------------------------------------------------


def test_a_node_in_a_region_need_not_be_supported_alone():
    found = partition(diamond(), [place(ops("a"), claims=lambda g: [region("b", "d", "c")]), CPU])
    assert [(p.place, p.claim) for p in found.placements] == [
        (1, ""),
        (0, "region"),
        (0, "region"),
        (0, "region"),
        (1, ""),
    ]
    assert [len(part.claims) for part in found.parts] == [0, 1, 0]


def test_the_verdict_of_a_region_is_that_of_its_claim():
    claim = Claim(nodes=("b", "c"), support=EMULATED, name="pair")
    found = partition(diamond(), [place(anything, claims=lambda g: [claim])])
    verdicts = [p.support.verdict for p in found.placements]
    assert verdicts == [Verdict.NATIVE, *[Verdict.EMULATED] * 2, *[Verdict.NATIVE] * 2]


def test_nodes_of_a_refused_claim_are_asked_about_one_by_one():
    card = place(ops("Neg", "Add", "Tanh"), claims=lambda g: [region("a", "b", "d")])
    found = partition(diamond(), [card, CPU])
    assert [p.place for p in found.placements] == [0, 1, 1, 0, 0]
    fault = "its claim 'region' does not hold: it is not convex"
    assert [p.fault.startswith(fault) for p in found.placements] == [
        True,
        False,
        False,
        True,
        False,
    ]
    assert found.placements[1].refusal.startswith(f"no Exp on chooser; {fault}")


def test_a_refused_claim_is_among_the_reasons():
    card = place(ops("Neg"), claims=lambda g: [region("b", "ghost")])
    with pytest.raises(UnsupportedGraph, match="no Exp on chooser; its claim 'region'") as caught:
        partition(diamond(), [card])
    assert len(caught.value.reasons) == 4


def test_regions_of_two_places_do_not_block_each_other():
    card = place(ops(), "card", claims=lambda g: [region("a", "b", name="one")])
    host = place(anything, "host", claims=lambda g: [region("c", "d", name="two")])
    found = partition(ladder(), [card, host])
    assert [p.claim for p in found.placements] == ["one", "", "one", ""]
    assert [p.place for p in found.parts] == [1, 0, 1]


@pytest.mark.parametrize("answer", [None, 3, "abc", [region("a"), "b"]])
def test_claims_of_another_type_are_a_defect(answer):
    with pytest.raises(Internal, match=r"claim\(\) returned"):
        partition(diamond(), [place(anything, claims=lambda g: answer)])


def test_unnamed_regions_are_told_apart_from_lone_nodes():
    card = place(anything, claims=lambda g: [region("b", "c", name="")])
    found = partition(diamond(), [card])
    assert [bool(p.claim) for p in found.placements] == [False, True, True, False, False]
