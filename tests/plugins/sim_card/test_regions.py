"""The regions that the card claims: contractions with what is fused into them."""

import numpy as np
import pytest
from hypothesis import given, settings

from accelsdk.compiler.partition.claims import check_claims
from accelsdk.compiler.partition.dag import Dag
from accelsdk.compiler.partition.plan import Place
from accelsdk.compiler.pipeline import partition
from accelsdk.formats import FLOAT32, FLOAT64, INT8
from accelsdk.graph.rewrite import Builder
from accelsdk_sim_card.backend import SimCard
from tests.graph.strategies import graphs

CARD = SimCard()
TARGET = CARD.targets(CARD.info.resolve({}))[0]
FUSED = (
    *("MatMul", "Gemm", "Conv", "MatMulInteger", "Add", "Mul", "Relu", "Sigmoid", "Clip"),
    *("Quantize", "Dequantize", "Cast", "Requantize"),
)


def named(graph):
    """Regions of two nodes or more: name -> ops, in the order of the claims."""
    op = {node.name: node.op for node in graph.nodes}
    found = CARD.claim(graph, TARGET)
    assert sorted(n for claim in found for n in claim.nodes) == sorted(op)
    return [(c.name, [op[n] for n in c.nodes]) for c in found if len(c.nodes) > 1]


def conv(b, kind=FLOAT32):
    x = b.input("x", kind, (1, 3, 8, 8))
    w = b.constant(np.ones((4, 3, 3, 3), kind.dtype), kind, name="w")
    one = (1, 1)
    return x, b.op("Conv", x, w, strides=one, pads=(0, 0, 0, 0), dilations=one, group=1)


@pytest.mark.parametrize("activation", ["Relu", "Sigmoid", "HardSwish", "Clip", "Gelu"])
def test_convolution_with_bias_and_activation(activation):
    b = Builder()
    x, y = conv(b)
    biased = b.op("Add", y, b.constant(np.ones((4, 1, 1), np.float32)))
    limits = (b.scalar(0, FLOAT32), b.scalar(6, FLOAT32)) if activation == "Clip" else ()
    graph = b.graph([x], [b.op(activation, biased, *limits)])
    assert named(graph) == [(f"conv+bias+{activation.lower()}", ["Conv", "Add", activation])]
    (claim,) = CARD.claim(graph, TARGET)
    operations = 2 * 4 * 27 * 36 + 2 * 4 * 36
    assert claim.cost >= operations / TARGET.roofline.operations["float32"]


def quantised(b, read_twice=False):
    codes = b.input("codes", INT8, (4, 8))
    scale, zero = b.scalar(0.5, FLOAT32), b.scalar(3, INT8)
    weights = b.constant(np.ones((8, 2), np.int8), INT8, name="w")
    left = b.op("Dequantize", codes, scale, zero)
    right = b.op("Dequantize", weights, scale, zero)
    y = b.op("MatMul", left, right)
    y = b.op("Relu", b.op("Add", y, b.constant(np.ones(2, np.float32))))
    out = b.op("Quantize", y, scale, zero, to="int8")
    return b.graph([codes], [out, left] if read_twice else [out])


def test_quantised_product():
    ((name, ops),) = named(quantised(Builder()))
    assert name == "dequantize+matmul+bias+relu+quantize"
    assert sorted(ops) == sorted(["Dequantize", "Dequantize", "MatMul", "Add", "Relu", "Quantize"])


def test_what_others_see_stays_outside():
    ((_, ops),) = named(quantised(Builder(), read_twice=True))
    assert ops.count("Dequantize") == 1
    b = Builder()
    x, y = conv(b)
    assert named(b.graph([x], [y, b.op("Relu", y)])) == []
    b = Builder()
    x, y = conv(b)
    assert named(b.graph([x], [b.op("Relu", y), b.op("Exp", y)])) == []


def test_a_residual_is_no_bias():
    b = Builder()
    x, y = conv(b)
    other = b.input("other", FLOAT32, y.shape)
    graph = b.graph([x, other], [b.op("Relu", b.op("Add", y, other))])
    assert named(graph) == []


def test_what_is_emulated_is_in_no_region():
    b = Builder()
    x, y = conv(b, FLOAT64)
    assert named(b.graph([x], [b.op("Relu", y)])) == []


@given(graph=graphs(ops=FUSED, most=16))
@settings(max_examples=150)
def test_regions_always_hold(graph):
    claims = CARD.claim(graph, TARGET)
    found = check_claims(Dag.of(graph), claims)
    assert found.accepted == tuple(claims)
    assert {n for c in claims for n in c.nodes} == {n.name for n in graph.nodes}
    for claim in claims:
        assert len(claim.nodes) == 1 or claim.cost > 0


def test_a_plan_tells_the_regions():
    plan = partition(quantised(Builder()), [Place(backend=CARD, target=TARGET)])
    assert plan.whole
    assert {p.claim for p in plan.placements} == {"dequantize+matmul+bias+relu+quantize"}
    assert [len(claim.nodes) for claim in plan.parts[0].claims] == [6]
