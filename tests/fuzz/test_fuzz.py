"""Random graphs on every implementation, a few of them; `python -m tests.fuzz` runs many."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from accelsdk import formats as f
from accelsdk.graph.graph import Graph
from accelsdk.graph.ops import TABLE
from accelsdk.graph.rewrite import Builder
from accelsdk.graph.verify import verify

pytest.importorskip("onnxruntime")

from tests.fuzz.campaign import fuzz
from tests.fuzz.carry import Carried, carried
from tests.fuzz.checks import Bench
from tests.fuzz.generator import Case, generate
from tests.fuzz.judge import Tally, is_exact, outside, wrong


def test_no_implementation_differs_on_random_graphs():
    report = fuzz(0, 100)
    assert not report.findings, "\n\n".join(report.findings)
    assert report.graphs == 100
    for name in ("sim_card", "onnxruntime", "onnxruntime_cpu", "partition", "reference_cpu, whole"):
        compared = report.counts[f"{name}/elements"]
        assert compared > 1000
        assert report.counts[f"{name}/free"] < 0.02 * compared


def test_graphs_are_verified_typed_and_of_every_op():
    seen, formats, ranks = Counter(), set(), set()
    for seed in range(300):
        case = generate(seed)
        verify(case.graph)
        seen.update(node.op for node in case.graph.nodes)
        formats |= {value.format for value in case.graph.values()}
        ranks |= {value.type.rank for value in case.graph.values()}
        assert {v.name for v in case.graph.values()} <= set(case.values)
    assert set(seen) == set(TABLE)
    assert formats == set(f.FORMATS)
    assert ranks >= set(range(6))


def test_a_seed_is_a_graph():
    first, second = generate(7), generate(7)
    assert [n.op for n in first.graph.nodes] == [n.op for n in second.graph.nodes]
    assert all(a.tobytes() == second.feeds[name].tobytes() for name, a in first.feeds.items())


def one(op: str, *arrays: np.ndarray, **attributes: object) -> tuple[Graph, dict]:
    builder = Builder()
    inputs = [builder.input(f"x{i}", f.from_dtype(a.dtype), a.shape) for i, a in enumerate(arrays)]
    result = builder.op(op, *inputs, **attributes)
    feeds = {v.name: a for v, a in zip(inputs, arrays, strict=True)}
    return builder.graph(inputs, [result]), feeds


@pytest.mark.parametrize(
    ("defect", "graph"),
    [
        ("cast_rtz", one("Cast", np.float32([[0.3, 1.7]]), to="float8_e4m3fn")),
        ("int_cast_saturates", one("Cast", np.int32([[300, 5]]), to="int8")),
    ],
)
def test_a_defect_is_found_shrunk_and_told(defect, graph):
    case = Case.of(*graph)
    with Bench(defect) as bench:
        (found,) = bench.sim_card(case)
    assert found.node is case.graph.nodes[0]


def test_a_defect_is_found_in_random_graphs():
    report = fuzz(0, 40, checks=["sim_card"], defect="nibble_order")
    assert report.findings
    first = report.findings[0]
    assert first.count("= ") >= 2  # the node, and what it was fed
    assert "again: python -m tests.fuzz --seed" in first
    assert first.count("(%") == 1  # one node is left


def test_a_result_that_is_off_is_seen():
    """Bounds are no formality: nearly all float32 results off by one in 64 leave them."""
    seen, missed = Counter(), Counter()
    for seed in range(200):
        case = generate(seed)
        for node in case.graph.nodes:
            if is_exact(node) or node.result.format.bits < 32:
                continue
            operands = [None if v is None else case.values[v.name] for v in node.inputs]
            given = [
                None if v is None or x is None else Carried.exact(x, v.format)
                for v, x in zip(node.inputs, operands, strict=True)
            ]
            (bound, *_), value = carried(node, given), node.result
            right = case.values[value.name]
            wide = right.astype(np.float64)
            with np.errstate(all="ignore"):
                off = (wide * (1 + 2.0**-6)).astype(right.dtype)
            usual = np.isfinite(wide) & (np.abs(wide) > 2.0**-6) & np.isfinite(bound.error)
            for place in np.argwhere(usual)[:4]:
                at = tuple(place)
                one_off = right.copy()
                one_off[at] = off[at]
                seen[node.op] += 1
                missed[node.op] += not outside(node, value.format, one_off, bound, Tally())
    assert len(seen) > 50
    assert missed.total() < 0.1 * seen.total(), missed.most_common(10)


def test_exact_results_are_held_to_the_bit():
    case = Case.of(*one("Add", np.float32([1, -0.0]), np.float32([2, -0.0])))
    (node,) = case.graph.nodes
    operands = [case.values[v.name] for v in node.inputs]
    assert not wrong(node, operands, [np.float32([3, -0.0])], Tally())
    assert wrong(node, operands, [np.float32([3, 0.0])], Tally())
    assert wrong(node, operands, [np.nextafter(np.float32([3, -0.0]), np.float32(9))], Tally())


def test_what_constants_make_is_kept_for_nodes_that_come_before_its_last_reader():
    builder = Builder()
    x = builder.input("x", f.INT64, (1,))
    known = builder.constant(np.full((64, 64), 3, np.int8))
    wide = builder.op("Cast", known, to="int64")  # too large to be folded
    first, second = builder.op("Add", wide, x), builder.op("Neg", wide)
    graph = builder.graph([x], [first, second])
    case = Case.of(graph, {"x": np.int64([4])})
    with Bench() as bench:
        assert not list(bench.sim_card(case))


def test_zero_points_of_nothing():
    builder = Builder()
    a, b = builder.input("a", f.INT8, (0, 1)), builder.input("b", f.INT8, (1, 2))
    zero = builder.input("z", f.INT8, (0,))
    graph = builder.graph([a, b, zero], [builder.op("MatMulInteger", a, b, zero)])
    arrays = {v.name: np.ones(v.shape, np.int8) for v in (a, b, zero)}
    with Bench() as bench:
        assert not list(bench.sim_card(Case.of(graph, arrays)))


def test_requantising_nothing():
    empty = np.zeros((0, 1, 0), np.int32)
    shift, bias = np.array(50, np.int32), np.zeros(0, np.int32)
    builder = Builder()
    inputs = [
        builder.input(n, f.INT32, a.shape) for n, a in (("x", empty), ("s", shift), ("b", bias))
    ]
    scale = builder.constant(np.array(1 << 30, np.int32))
    settings = {"arithmetic": "fixed_single", "axis": 2, "to": "int8"}
    x, s, b = inputs
    graph = builder.graph(inputs, [builder.op("Requantize", x, scale, s, None, b, **settings)])
    with Bench() as bench:
        assert not list(bench.sim_card(Case.of(graph, {"x": empty, "s": shift, "b": bias})))
