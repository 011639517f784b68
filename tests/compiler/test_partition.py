"""Plans: every node in one part, parts that can run in order, and the same bits as the whole."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from accelsdk.backend.backend import EMULATED, NATIVE, Refusal, Verdict, refuse
from accelsdk.compiler.partition.cut import cut
from accelsdk.compiler.partition.placing import Placer
from accelsdk.compiler.partition.plan import Plan
from accelsdk.compiler.pipeline import lower, partition, plan, to_core
from accelsdk.errors import InvalidArgument, UnsupportedGraph
from accelsdk.formats import FLOAT32, INT8
from accelsdk.graph.graph import Constant, Graph
from accelsdk.graph.ops import TABLE
from accelsdk.graph.rewrite import Builder
from accelsdk.graph.types import Value
from accelsdk.graph.verify import verify
from accelsdk.kernels.api import evaluate
from tests.compiler.partitioning import (
    CPU,
    anything,
    diamond,
    feeds_of,
    ops,
    place,
    region,
    run_parts,
)
from tests.graph.strategies import graphs


def names(graph: Graph) -> list[str]:
    return [node.name for node in graph.nodes]


def reach(graph: Graph) -> dict[str, set[str]]:
    """Nodes that can be reached from each node, by brute force."""
    edges = {
        node.name: {
            reader.name
            for value in node.outputs
            if value is not None
            for reader in graph.consumers.get(value.name, ())
        }
        for node in graph.nodes
    }
    found: dict[str, set[str]] = {}
    for name in reversed(names(graph)):
        found[name] = set(edges[name]).union(*(found[reader] for reader in edges[name]))
    return found


def check(found: Plan) -> None:
    """Holds a plan to what it promises."""
    part_of = {name: n for n, part in enumerate(found.parts) for name in names(part.graph)}
    assert sorted(part_of) == sorted(names(found.graph)) or found.whole
    assert sum(len(part.graph.nodes) for part in found.parts) == len(found.graph.nodes)
    assert [p.node for p in found.placements] == names(found.graph)
    for placement in found.placements:
        assert found.parts[part_of[placement.node]].place == placement.place
        assert placement.support
        assert (placement.place == 0) == (placement.refusal == "")
    reached = reach(found.graph)
    for number, part in enumerate(found.parts):
        verify(part.graph)
        inside = set(names(part.graph))
        for name in inside:
            assert all(part_of[later] >= number for later in reached[name])
            for between in reached[name] - inside:
                assert not reached[between] & inside, "not convex"
    assert len({part.name for part in found.parts}) == len(found.parts)
    check_transfers(found, part_of)


def check_transfers(found: Plan, part_of: dict[str, int]) -> None:
    """Compares the transfers with what crosses, value by value."""
    constants = set(found.graph.constant_by_name)
    homes = {value.name: (-1, 0) for value in found.graph.inputs}
    for node in found.graph.nodes:
        part = part_of[node.name]
        homes.update((v.name, (part, found.parts[part].place)) for v in node.outputs if v)
    wanted: dict[tuple[str, int], int] = {}
    for number in reversed(range(len(found.parts))):
        part = found.parts[number]
        for node in part.graph.nodes:
            for value in node.inputs:
                if value is None or value.name in constants:
                    continue
                if homes[value.name][1] != part.place:
                    wanted[value.name, part.place] = number
    for value in found.graph.outputs:
        if value.name not in constants and homes[value.name][1] != 0:
            wanted.setdefault((value.name, 0), len(found.parts))
    told = {(t.value.name, t.destination): t for t in found.transfers}
    assert len(told) == len(found.transfers)
    ours = {key: t for key, t in told.items() if key[0] not in constants}
    assert {key: t.before for key, t in ours.items()} == wanted
    for t in ours.values():
        assert (t.after, t.source) == homes[t.value.name]
    order = [(t.after, t.before) for t in found.transfers]
    assert order == sorted(order)


def feeds_that_run(graph: Graph) -> dict[str, NDArray]:
    """Feeds of a graph; graphs whose random contents no kernel takes are left out."""
    feeds = feeds_of(graph)
    try:
        evaluate(graph, feeds)
    except InvalidArgument:
        reject()
    return feeds


def check_bits(found: Plan, feeds: dict[str, NDArray]) -> None:
    """Compares what the parts make, one after the other, with what the whole makes."""
    expected = evaluate(found.graph, feeds)
    made = run_parts(found, feeds)
    assert list(made) == [v.name for v in dict.fromkeys(found.graph.outputs)]
    for name, array in made.items():
        assert array.tobytes() == expected[name].tobytes()


def fewest_parts(found: Plan) -> int:
    """The least number of parts of two places, by levels: a node's is that of its operands'
    latest level, put off to the next turn of its place."""
    places = {p.node: p.place for p in found.placements}
    best = []
    for start in (0, 1):
        turn: dict[str, int] = {}
        for node in found.graph.nodes:
            before = [found.graph.producers.get(v.name) for v in node.inputs if v is not None]
            mine = places[node.name]
            own = 0 if mine == start else 1
            turn[node.name] = max(
                [own, *(turn[b.name] + (places[b.name] != mine) for b in before if b is not None)]
            )
        if 0 in turn.values():
            best.append(max(turn.values()) + 1)
    return min(best)


@given(graph=graphs(most=12), data=st.data())
@settings(max_examples=150)
def test_a_plan_runs_to_the_bits_of_the_whole(graph, data):
    refused = data.draw(st.sets(st.sampled_from(names(graph))))
    emulated = data.draw(st.sets(st.sampled_from(names(graph))))

    def runs(node):
        if node.name in refused or not set(names(graph)) & {node.name, *node.origin}:
            return False
        return EMULATED if node.name in emulated else NATIVE

    feeds = feeds_that_run(graph)
    found = partition(graph, [place(runs), CPU])
    check(found)
    check_bits(found, feeds)
    if len({p.place for p in found.placements}) == 2:
        assert len(found.parts) == fewest_parts(found)


@given(graph=graphs(most=12), data=st.data())
@settings(max_examples=60)
def test_three_places(graph, data):
    one = data.draw(st.sets(st.sampled_from(sorted(TABLE)), max_size=60))
    two = data.draw(st.sets(st.sampled_from(sorted(TABLE)), max_size=60))
    feeds = feeds_that_run(graph)
    found = partition(graph, [place(ops(*one), "one"), place(ops(*two), "two"), CPU])
    check(found)
    check_bits(found, feeds)


def test_all_on_place_0_is_the_graph_itself():
    found = partition(diamond(), [place(anything), CPU])
    (part,) = found.parts
    assert found.whole
    assert part.graph is found.graph
    assert (found.transfers, found.transfer_bytes) == ((), 0)
    assert lower(diamond(), CPU.backend, CPU.target).nodes[0].op == "Neg"


def test_what_place_0_refuses_runs_on_the_next_with_the_reason():
    found = partition(diamond(), [place(ops("Neg", "Abs", "Add", "Tanh"), "card"), CPU])
    assert [(p.place, names(p.graph)) for p in found.parts] == [
        (0, ["a", "c"]),
        (1, ["b"]),
        (0, ["d", "e"]),
    ]
    assert [p.refusal for p in found.placements] == ["", "no Exp on card", "", "", ""]
    told = [(t.value.name, t.source, t.destination, t.after, t.before) for t in found.transfers]
    assert told == [("a:0", 0, 1, 0, 1), ("b:0", 1, 0, 1, 2)]
    assert found.transfer_bytes == 2 * 16
    assert [v.name for v in found.parts[2].graph.inputs] == ["b:0", "c:0"]


def test_nothing_on_place_0():
    found = partition(diamond(), [place(ops()), CPU])
    assert [p.place for p in found.parts] == [1]
    assert not found.whole
    assert [(t.value.name, t.after, t.before) for t in found.transfers] == [
        ("x", -1, 0),
        ("e:0", 0, 1),
    ]


def test_a_value_is_copied_once_to_each_place_that_reads_it():
    b = Builder()
    x = b.input("x", FLOAT32, (4,))
    one = b.op("Neg", x, name="a")
    two = b.op("Exp", one, name="b")  # on the other place, and back
    three = b.op("Add", b.op("Neg", two), one, name="c")
    four = b.op("Pow", three, one, name="d")  # reads `a` on the other place again
    found = partition(b.graph([x], [four]), [place(ops("Neg", "Add")), CPU])
    check(found)
    assert [t.before for t in found.transfers if t.value.name == "a:0"] == [1]


def test_outputs_that_no_node_makes():
    b = Builder()
    x, c = b.input("x", FLOAT32, (2,)), b.constant(np.ones(2, np.float32), name="c")
    y = b.op("Exp", x)
    for runs in (ops(), ops("Exp")):
        for outputs in ([x, c, y, y], [c, x], [x, y]):
            found = partition(b.graph([x], outputs), [place(runs), CPU])
            check(found)
            check_bits(found, {"x": np.float32([1, 2])})


def test_a_graph_without_nodes_is_whole():
    x = Builder().input("x", FLOAT32, (2,))
    found = partition(Graph((x,), (x,), (), ()), [place(ops()), CPU])
    assert found.whole
    assert found.parts[0].graph is found.graph


def test_constants_go_to_every_part_that_reads_them_and_stay_unread():
    b = Builder()
    x = b.input("x", FLOAT32, (2, 2))
    w = Constant(Value("w", x.type), unreadable)
    y = b.op("Exp", b.op("MatMul", b.op("MatMul", x, w.value), w.value))
    z = b.op("Add", y, w.value)
    graph = replace(b.graph([x], [b.op("MatMul", z, w.value)]), constants=(w,))
    found = Placer([place(ops("MatMul")), CPU], (), ()).place(graph)
    parts, transfers = cut(found.dag, [p.place for p in found.placements], found.regions)
    assert [[c is w for c in part.graph.constants] for part in parts] == [[True]] * 3
    assert not any(t.value.name == "w" for t in transfers)


def unreadable():
    raise AssertionError("a constant was read")


def weights(b: Builder, shape=(64, 64)) -> Value:
    """Int8 weights made float32: more bytes than are folded."""
    codes = b.constant(np.ones(shape, np.int8), INT8, name="codes")
    return b.op("Cast", codes, name="weights", to="float32")


def test_what_is_made_of_constants_goes_where_it_is_read():
    b = Builder()
    x = b.input("x", FLOAT32, (4, 64))
    y = b.op("MatMul", b.op("Exp", x), weights(b))
    found = partition(b.graph([x], [y]), [place(ops("Exp", "Cast")), CPU])
    check(found)
    assert [(p.place, [n.op for n in p.graph.nodes]) for p in found.parts] == [
        (0, ["Exp"]),
        (1, ["Cast", "MatMul"]),
    ]
    moved = found.placements[names(found.graph).index("weights")]
    assert moved.refusal == "its constant result is read on cpu/t alone"


def test_what_two_places_read_stays_where_it_was():
    b = Builder()
    x = b.input("x", FLOAT32, (4, 64))
    w = weights(b)
    y = b.op("MatMul", b.op("Exp", b.op("MatMul", x, w)), b.op("Exp", w))
    found = partition(b.graph([x], [y]), [place(ops("MatMul", "Cast")), CPU])
    check(found)
    assert {p.node: p.place for p in found.placements}["weights"] == 0


def test_a_constant_result_that_is_handed_back_stays_on_place_0():
    b = Builder()
    x = b.input("x", FLOAT32, (4, 64))
    w = weights(b)
    found = partition(b.graph([x], [b.op("MatMul", x, w), w]), [place(ops("Cast")), CPU])
    check(found)
    assert {p.node: p.place for p in found.placements}["weights"] == 0


# -- composites ------------------------------------------------------------------------------


def softmax(rows: int = 8) -> Graph:
    b = Builder()
    x = b.input("x", FLOAT32, (rows, 8))
    b.origin = ("head",)
    return b.graph([x], [b.op("Softmax", x, axis=1, name="softmax")])


def gemm() -> Graph:
    b = Builder()
    x, w, c = (b.input(name, FLOAT32, (16, 16)) for name in ("x", "w", "c"))
    return b.graph([x, w, c], [b.op("Gemm", x, w, c, alpha=1.0, beta=1.0, name="gemm")])


def test_a_composite_of_which_place_0_runs_little_stays_whole_on_the_other():
    found = partition(softmax(), [place(ops("ReduceMax")), CPU])
    assert [(p.place, [n.op for n in p.graph.nodes]) for p in found.parts] == [(1, ["Softmax"])]
    assert found.placements[0].refusal == "no Softmax on chooser"
    assert found.placements[0].support.verdict is Verdict.NATIVE


def test_a_composite_of_which_place_0_runs_most_is_shared():
    found = partition(gemm(), [place(ops("MatMul")), CPU])
    check(found)
    assert [[n.op for n in p.graph.nodes if n.op != "Mul"] for p in found.parts] == [
        ["MatMul"],
        ["Add"],
    ]


def test_a_composite_that_no_place_takes_whole_is_decomposed_for_both():
    only = place(ops("ReduceMax", "ReduceSum"), "sums")
    rest = place(ops("Sub", "Exp", "Div"), "rest")
    found = partition(softmax(), [only, rest])
    check(found)
    assert {n.op for n in found.graph.nodes} == {"ReduceMax", "Sub", "Exp", "ReduceSum", "Div"}


def test_a_fallback_that_wants_a_composite_in_pieces_keeps_them_together():
    pieces = place(lambda node: not TABLE[node.op].is_composite, "pieces")
    found = partition(softmax(), [place(ops("ReduceMax")), pieces])
    check(found)
    assert [p.place for p in found.parts] == [1]
    assert len(found.graph.nodes) > 1
    assert {p.refusal for p in found.placements} == {"no Softmax on chooser"}


def test_an_emulated_composite_stays_if_its_pieces_are_not_supported():
    def runs(node):
        return EMULATED if node.op == "Softmax" else node.op == "Exp"

    graph = lower(softmax(), place(runs).backend, CPU.target)
    assert [n.op for n in graph.nodes] == ["Softmax"]


def test_an_emulated_composite_is_decomposed_if_its_pieces_are_supported():
    def runs(node):
        return EMULATED if node.op == "Softmax" else True

    graph = lower(softmax(), place(runs).backend, CPU.target)
    assert "Softmax" not in {n.op for n in graph.nodes}


def test_a_composite_in_a_claimed_region_stays_whole():
    def claims(graph):
        found = [n.name for n in graph.nodes if n.op in ("Softmax", "Neg")]
        return [region(*found)]

    b = Builder()
    x = b.input("x", FLOAT32, (4, 8))
    graph = b.graph([x], [b.op("Neg", b.op("Softmax", x, axis=1))])
    found = partition(graph, [place(ops(), claims=claims)])
    assert [n.op for n in found.graph.nodes] == ["Softmax", "Neg"]
    assert [p.claim for p in found.placements] == ["region", "region"]
    assert found.parts[0].claims[0].name == "region"


# -- refusals --------------------------------------------------------------------------------


def test_without_another_place_every_reason_is_told():
    with pytest.raises(UnsupportedGraph) as caught:
        partition(softmax(), [place(ops("ReduceMax", "Sub"), "card")])
    assert caught.value.backend == "card"
    told = [reason.split(" from head: ")[1] for reason in caught.value.reasons]
    assert told == ["no Exp on card", "no ReduceSum on card", "no Div on card"]


def test_with_other_places_each_tells_its_reason():
    places = [place(ops("Neg"), "one"), place(ops("Abs"), "two")]
    with pytest.raises(UnsupportedGraph, match="3 of 5 nodes cannot run on any of") as caught:
        partition(diamond(), places)
    assert (
        caught.value.reasons[0] == "node 'b' (Exp) from b: one: no Exp on one; two: no Exp on two"
    )


def test_an_attribute_or_format_refusal_is_told_too():
    def runs(node):
        return refuse(Refusal.SHAPE, "rank 1 only here") if node.op == "Softmax" else False

    found = partition(softmax(), [place(runs), CPU])
    assert found.placements[0].refusal == "rank 1 only here"


def test_there_must_be_a_place():
    with pytest.raises(InvalidArgument, match="no place to run on"):
        partition(diamond(), [])


# -- models ----------------------------------------------------------------------------------


def transformer(layers: int = 2) -> Graph:
    """Attention by hand, normalisation, a Gelu between two products: what a decoder repeats."""
    b = Builder()
    rng = np.random.default_rng(0)
    x = tokens = b.input("x", FLOAT32, (6, 16))

    def matrix(rows, columns):
        return b.constant(rng.standard_normal((rows, columns)).astype(np.float32) / 4)

    for _ in range(layers):
        ones = b.constant(np.ones(16, np.float32))
        normal = b.op("LayerNormalization", x, ones, ones, axis=-1)
        q, k, v = (b.op("MatMul", normal, matrix(16, 16)) for _ in range(3))
        scores = b.op("MatMul", q, b.op("Transpose", k, perm=(1, 0)))
        mixed = b.op("MatMul", b.op("Softmax", scores, axis=-1), v)
        x = b.op("Add", x, mixed)
        inner = b.op("Gelu", b.op("MatMul", x, matrix(16, 64)))
        x = b.op("Add", x, b.op("MatMul", inner, matrix(64, 16)))
    return b.graph([tokens], [x], "transformer")


def test_one_op_serves_a_whole_model():
    found = plan(transformer(), [place(ops("MatMul"), "matmul"), CPU])
    check(found)
    assert {n.op for p in found.parts if p.place == 0 for n in p.graph.nodes} == {"MatMul"}
    kept = {n.op for n in found.graph.nodes}
    assert {"Softmax", "LayerNormalization", "Gelu"} <= kept
    assert len(found.parts) == fewest_parts(found)
    check_bits(found, feeds_of(transformer()))


def chain(count: int) -> Graph:
    b = Builder()
    x = y = b.input("x", FLOAT32, (2,))
    kept = []
    for number in range(count):
        y = b.op(("Neg", "Exp", "Abs", "Tanh")[number % 4], y)
        kept.append(y)
        if number % 10 == 9:
            y = b.op("Add", y, kept[number // 2])
    return b.graph([x], [y])


def pairs(graph: Graph):
    """Regions of two, far from all: many at once."""
    found = names(graph)
    return [region(*found[n : n + 2]) for n in range(0, len(found) - 1, 2)]


@pytest.mark.parametrize("claims", [None, pairs])
def test_large_graphs(claims):
    graph = to_core(chain(50_000))
    found = partition(graph, [place(ops("Neg", "Exp", "Add"), claims=claims), CPU])
    assert len(found.graph.nodes) == len(found.placements) == len(graph.nodes)
    assert sum(len(p.graph.nodes) for p in found.parts) == len(graph.nodes)
