"""Transposes move where that saves some, and results keep their bits."""

import numpy as np
import pytest
from hypothesis import given, settings

from accelsdk.compiler.passes.constant_folding import CONSTANT_FOLDING
from accelsdk.compiler.passes.no_ops import NO_OPS
from accelsdk.compiler.passes.transposes import TRANSPOSES
from accelsdk.formats import FLOAT16, FLOAT32, INT8
from accelsdk.graph.rewrite import Builder
from tests.compiler.passes.checks import ops, optimised, same_bits
from tests.graph.strategies import graphs

NHWC, NCHW = (0, 2, 3, 1), (0, 3, 1, 2)
PASSES = (CONSTANT_FOLDING, NO_OPS, TRANSPOSES)


def moved(graph):
    """Bytes that Transposes move, and how many there are."""
    found = [n.result.type.nbytes for n in graph.nodes if n.op == "Transpose"]
    return sum(found), len(found)


@given(
    graphs(
        (
            *("Add", "Relu", "Concat", "Split", "Slice", "Pad", "ReduceMax", "ArgMax", "Where"),
            *("Transpose", "Transpose", "Tile", "Expand", "Reshape", "Cast", "Clip", "PRelu"),
        ),
        most=10,
    )
)
@settings(max_examples=120)
def test_bits_stay_and_transposes_never_grow(graph):
    after = same_bits(graph, *PASSES)
    assert moved(after) <= moved(graph)


def started():
    b = Builder()
    x = b.input("x", FLOAT32, (1, 3, 4, 5))
    return b, x, b.op("Transpose", x, perm=NHWC)


def test_a_pair_around_a_branch_that_joins_again_cancels():
    b, x, t = started()
    left = b.op("Relu", t)
    right = b.op("Mul", left, b.constant(np.arange(3, dtype=np.float32), name="c"))
    y = b.op("Transpose", b.op("Add", right, t), perm=NCHW)
    after = same_bits(b.graph([x], [y]), *PASSES)
    assert ops(after) == ["Relu", "Mul", "Add"]
    assert after.nodes[1].inputs[1].shape == (1, 3, 1, 1)


@pytest.mark.parametrize("perm", [(0, 1, 2), (1, 0, 2)])
def test_a_copy_that_an_output_needs_comes_to_an_end(perm):
    b = Builder()
    x = b.input("x", FLOAT32, (3, 3, 2))
    joined = b.op("Concat", x, b.op("Relu", x), axis=2)
    left, right = b.op("Split", joined, outputs=2, axis=2, split=(2, 2))
    turns = [b.op("Transpose", v, perm=perm) for v in (joined, joined, x)]
    graph = b.graph([x], [*turns, left, right])
    assert moved(same_bits(graph, *PASSES)) <= moved(graph)


@pytest.mark.parametrize(
    ("op", "attributes", "outputs"),
    [
        ("Slice", {"starts": (1,), "ends": (3,), "axes": (1,), "steps": (1,)}, 1),
        ("Pad", {"pads": (0, 1, 2, 0, 0, 0, 1, 3)}, 1),
        ("Split", {"axis": 3, "split": (1, 2)}, 2),
        ("Tile", {"repeats": (1, 2, 1, 3)}, 1),
        ("Expand", {"shape": (2, 1, 1, 3)}, 1),
        ("ReduceMax", {"axes": (1, 2), "keepdims": 1}, 1),
        ("ArgMax", {"axis": -2, "keepdims": 1}, 1),
        ("Clip", {}, 1),
        ("Cast", {"to": "int32"}, 1),
    ],
)
def test_each_op_is_passed(op, attributes, outputs):
    b, x, t = started()
    made = b.op(op, t, outputs=outputs, **attributes)
    results = made if isinstance(made, tuple) else (made,)
    back = [b.op("Transpose", value, perm=NCHW) for value in results]
    after = same_bits(b.graph([x], back), *PASSES)
    assert "Transpose" not in ops(after)


def test_concat_of_transposes_becomes_a_transpose_of_the_concat():
    b, x, t = started()
    z = b.input("z", FLOAT32, (1, 3, 4, 5))
    y = b.op("Relu", b.op("Concat", t, b.op("Transpose", z, perm=NHWC), axis=3))
    after = same_bits(b.graph([x, z], [y]), *PASSES)
    assert ops(after).count("Transpose") == 1
    assert next(n for n in after.nodes if n.op == "Concat").attributes["axis"] == 1


def test_a_transpose_moves_to_where_values_are_small():
    b = Builder()
    x = b.input("x", FLOAT16, (1, 3, 4, 5))
    wide = b.op("Transpose", b.op("Cast", x, to="float32"), perm=NHWC)
    assert ops(same_bits(b.graph([x], [wide]), *PASSES)) == ["Transpose", "Cast"]
    b, x, t = started()
    top = b.op("ReduceMax", t, axes=(1,), keepdims=1)
    assert ops(same_bits(b.graph([x], [top]), *PASSES)) == ["ReduceMax", "Transpose"]


def test_quantised_data_moves_in_its_codes():
    b = Builder()
    x = b.input("x", INT8, (2, 3, 4))
    scales = b.constant(np.array([1, 2, 4], np.float32), name="s")
    wide = b.op("Dequantize", x, scales, axis=1)
    y = b.op("Transpose", wide, perm=(2, 1, 0))
    after = same_bits(b.graph([x], [y]), *PASSES)
    assert ops(after) == ["Transpose", "Dequantize"]
    assert after.nodes[1].attributes["axis"] == 1


@pytest.mark.parametrize("also", ["read", "output", "other order", "sum"])
def test_transposes_that_would_not_become_fewer_stay(also):
    b, x, t = started()
    y = b.op("Relu", t)
    outputs = [y]
    if also == "read":
        z = b.input("z", FLOAT32, (1, 4, 5, 3))
        outputs = [b.op("Add", y, z)]
    elif also == "other order":
        outputs = [b.op("Transpose", y, perm=(0, 2, 1, 3))]
    elif also == "sum":
        outputs = [b.op("ReduceSum", y, axes=(1,), keepdims=1)]
    graph = b.graph([x, *([z] if also == "read" else [])], outputs)
    after = optimised(graph, TRANSPOSES)
    assert moved(after) <= moved(graph)
    if also != "other order":
        assert after is graph


def test_a_long_chain_keeps_its_cost():
    b = Builder()
    y = x = b.input("x", FLOAT32, (2, 3, 4))
    for _ in range(200):
        y = b.op("Transpose", b.op("Relu", b.op("Transpose", y, perm=(0, 2, 1))), perm=(0, 2, 1))
    assert ops(same_bits(b.graph([x], [y]), *PASSES)) == ["Relu"] * 200


def test_regions_on_both_sides_of_one_transpose_do_not_both_claim_it():
    b = Builder()
    x = b.input("x", FLOAT16, (2, 2, 1))
    turned = b.op("Transpose", b.op("Cast", x, to="float32"), perm=(1, 0, 2))
    cut = b.op("Pad", turned, pads=(0, 0, 0, 0, -1, 0))
    graph = b.graph([x], [b.op("Reshape", cut, shape=(2, 1))])
    after = same_bits(graph, *PASSES)  # comes to an end
    assert moved(after) <= moved(graph)
