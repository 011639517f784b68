import numpy as np
import pytest

from accelsdk.backend.backend import NATIVE, Backend, Refusal, Verdict, refuse
from accelsdk.backend.info import BackendInfo, Target
from accelsdk.compiler.explain import explain, survey
from accelsdk.compiler.partition.plan import Place
from accelsdk.compiler.pipeline import lower, partition, to_core
from accelsdk.errors import GraphError, UnsupportedGraph
from accelsdk.formats import FLOAT32
from accelsdk.graph.graph import Graph, Node
from accelsdk.graph.rewrite import Builder
from accelsdk.kernels.api import evaluate

TARGET = Target(name="t")


class Picky(Backend):
    """Supports what it is told to."""

    def __init__(self, refuses=()):
        self.refuses = set(refuses)

    @property
    def info(self):
        return BackendInfo(name="picky", vendor="tests", version="1")

    def targets(self, options):
        return [TARGET]

    def enumerate_devices(self, options):
        raise NotImplementedError

    def supports(self, graph, node, target):
        if node.op in self.refuses:
            return refuse(Refusal.OPERATOR, f"no {node.op} here")
        return NATIVE

    def compile(self, graph, target, options, pack):
        raise NotImplementedError

    def open(self, device, options):
        raise NotImplementedError


def softmax() -> Graph:
    b = Builder()
    x = b.input("x", FLOAT32, (2, 5))
    b.origin = ("classifier",)
    return b.graph([x], [b.op("Softmax", x, axis=1)])


def test_native_composites_stay():
    assert [n.op for n in lower(softmax(), Picky(), TARGET).nodes] == ["Softmax"]


def test_other_composites_are_decomposed_and_keep_their_origin():
    graph = lower(softmax(), Picky({"Softmax"}), TARGET)
    assert "Softmax" not in {n.op for n in graph.nodes}
    assert {n.origin for n in graph.nodes} == {("classifier",)}
    x = np.random.default_rng(0).standard_normal((2, 5)).astype(np.float32)
    expected = evaluate(softmax(), {"x": x})
    found = evaluate(graph, {"x": x})
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-6)


def test_decomposition_goes_on_level_by_level():
    b = Builder()
    x = b.input("x", FLOAT32, (2, 5))
    graph = b.graph([x], [b.op("LogSoftmax", x, axis=1)])
    found = {n.op for n in lower(graph, Picky({"LogSoftmax", "ReduceLogSumExp"}), TARGET).nodes}
    assert not found & {"LogSoftmax", "ReduceLogSumExp"}


def test_every_reason_is_told():
    b = Builder()
    x = b.input("x", FLOAT32, (3,))
    b.origin = ("layer1",)
    graph = b.graph([x], [b.op("Erf", b.op("Exp", b.op("Neg", x)))])
    with pytest.raises(UnsupportedGraph, match="2 of 3 nodes cannot run on t") as caught:
        lower(graph, Picky({"Exp", "Erf"}), TARGET)
    assert [reason.split(": ")[1] for reason in caught.value.reasons] == [
        "no Exp here",
        "no Erf here",
    ]
    assert all("from layer1" in reason for reason in caught.value.reasons)


def test_a_broken_graph_is_refused():
    x = softmax().inputs[0]
    bad = Graph((x,), (x,), (), (Node("Exp", (x,), (x,), name="n"),))
    with pytest.raises(GraphError, match="single-assignment"):
        to_core(bad)


def product() -> Graph:
    b = Builder()
    x, w = b.input("x", FLOAT32, (4, 8)), b.input("w", FLOAT32, (8, 2))
    return b.graph([x, w], [b.op("MatMul", x, w)])


def picky(*refuses: str) -> Place:
    return Place(backend=Picky(refuses), target=TARGET)


def test_a_survey_tells_of_refused_nodes_too():
    graph, (row,) = survey(product(), [picky("MatMul")])
    assert [node.name for node in graph.nodes] == [row.node]
    assert (row.op, row.verdict, row.reason) == ("MatMul", Verdict.UNSUPPORTED, "no MatMul here")
    assert (row.place, row.part, row.claim) == ("picky/t", None, "")
    assert (row.operations, row.bytes) == (2 * 4 * 8 * 2, 4 * (32 + 16 + 8))
    assert row.intensity == pytest.approx(128 / 224)


def test_a_survey_of_several_places_tells_each_ones_reason_and_what_they_run():
    b = Builder()
    x = b.input("x", FLOAT32, (2, 5))
    graph = b.graph([x], [b.op("Erf", b.op("LogSoftmax", x, axis=1))])
    lowered, rows = survey(graph, [picky("LogSoftmax", "Erf"), picky("Erf")])
    assert "LogSoftmax" not in {node.op for node in lowered.nodes}
    *pieces, erf = rows
    assert {row.verdict for row in pieces} == {Verdict.NATIVE}
    assert erf.verdict is Verdict.UNSUPPORTED
    assert erf.reason == "picky: no Erf here; picky: no Erf here"


def test_explain_tells_where_each_node_runs_and_why():
    b = Builder()
    x = b.input("x", FLOAT32, (2, 5))
    b.origin = ("classifier",)
    graph = b.graph([x], [b.op("Erf", b.op("LogSoftmax", x, axis=1))])
    rows = explain(partition(graph, [picky("LogSoftmax", "Erf"), picky()]))
    *pieces, erf = rows
    assert {"ReduceMax", "Exp", "ReduceSum"} <= {row.op for row in pieces}
    assert {(row.place, row.part, row.reason, row.via) for row in pieces} == {
        ("picky/t", 0, "", ("LogSoftmax",))
    }
    assert (erf.op, erf.part, erf.reason, erf.via) == ("Erf", 1, "no Erf here", ())
    assert {row.origin for row in rows} == {("classifier",)}
    assert {row.verdict for row in rows} == {Verdict.NATIVE}
    assert all(row.bytes > 0 for row in rows)


def test_a_pass_tells_its_name_on_what_it_makes_and_merges_alone():
    b = Builder()
    x = b.input("x", FLOAT32, (2, 6))
    folded = b.op("Reshape", b.op("Reshape", x, shape=(12,), name="one"), shape=(3, 4), name="two")
    graph = to_core(b.graph([x], [b.op("Exp", folded)]))
    assert [(n.op, n.origin, n.via) for n in graph.nodes] == [
        ("Reshape", ("one", "two"), ("no-ops",)),
        ("Exp", ("Exp",), ()),
    ]
