"""Clamps, pads, affines and the order of constant computations."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsdk import formats as f
from accelsdk.compiler.passes.clamps import CLAMPS
from accelsdk.compiler.passes.constants_late import CONSTANTS_LATE
from accelsdk.compiler.passes.dead_code import DEAD_CODE
from accelsdk.compiler.passes.fold_affine import FOLD_AFFINE
from accelsdk.compiler.passes.fold_pad import FOLD_PAD
from accelsdk.graph.memory_plan import plan
from accelsdk.graph.rewrite import Builder
from accelsdk.kernels.api import evaluate
from tests.compiler.passes.checks import feeds, ops, optimised, same_bits
from tests.graph.strategies import graphs

SPECIAL = np.array(
    [0.0, -0.0, np.nan, np.inf, -np.inf, 1e-45, -1e-45, 0.5, -0.5, 2, 3, 5.5, 6, 7, -7], np.float32
)
LIMITS = st.sampled_from([None, 0.0, -0.0, -1.0, 0.5, 6.0, 3.0, -np.inf, np.inf, np.nan])


@given(st.lists(st.none() | st.tuples(LIMITS, LIMITS), min_size=1, max_size=4))
@settings(max_examples=200)
def test_clamps_keep_every_bit(clamps):
    b = Builder()
    y = x = b.input("x", f.FLOAT32, SPECIAL.shape)
    for limits in clamps:
        if limits is None:
            y = b.op("Relu", y)
        else:
            y = b.op("Clip", y, *(v if v is None else b.scalar(v, f.FLOAT32) for v in limits))
    same_bits(b.graph([x], [y]), CLAMPS, given={"x": SPECIAL})


@pytest.mark.parametrize("kind", [f.FLOAT32, f.FLOAT16, f.BFLOAT16, f.INT8, f.INT64])
def test_clamps_join(kind):
    b = Builder()
    x = b.input("x", kind, (7,))
    y = b.op("Clip", b.op("Relu", x), b.scalar(-2, kind), b.scalar(3, kind))
    y = b.op("Relu", b.op("Relu", b.op("Clip", y, b.scalar(1, kind))))
    after = same_bits(b.graph([x], [y]), CLAMPS, DEAD_CODE)
    assert ops(after) == ["Clip"]
    assert sorted(float(c.array()) for c in after.constants) == [1, 3]
    assert after.nodes[0].origin == ("Relu", "Clip", "Clip_1", "Relu_1", "Relu_2")


@pytest.mark.parametrize("why", ["crossed", "fed", "read"])
def test_clamps_stay_apart(why):
    b = Builder()
    x, low = b.input("x", f.FLOAT32, (7,)), b.input("low", f.FLOAT32, ())
    limits = (b.scalar(2, f.FLOAT32), b.scalar(1, f.FLOAT32)) if why == "crossed" else (low,)
    y = b.op("Relu", x)
    z = b.op("Clip", y, *limits)
    graph = b.graph([x, low], [z, y] if why == "read" else [z])
    assert CLAMPS.run(graph) is graph


def padded(op, fill, around=(0, 0, 1, 0, 0, 0, 2, 1), **attributes):
    b = Builder()
    integer = op == "ConvInteger"
    kind = f.UINT8 if integer else f.FLOAT32
    x = b.input("x", kind, (1, 2, 5, 6))
    given = None if fill is None else b.constant(np.array(fill, kind.dtype), name="fill")
    y = b.op("Pad", x, given, pads=around, mode=attributes.pop("mode", "constant"))
    window = {"strides": (2, 1), "pads": (0, 1, 1, 0), "dilations": (1, 1), **attributes}
    random = np.random.default_rng(0)
    if op == "Conv":
        w = b.constant(random.standard_normal((3, 2, 3, 3)).astype(np.float32), name="w")
        y = b.op(op, y, w, **window)
    elif integer:
        w = b.constant(random.integers(0, 9, (3, 2, 3, 3)).astype(np.int8), name="w")
        y = b.op(op, y, w, b.scalar(4, kind), **window)
    else:
        y = b.op(op, y, kernel_shape=(4, 3), **window)
    return b.graph([x], [y])


@pytest.mark.parametrize(
    ("op", "fill", "more"),
    [
        ("Conv", None, {}),
        ("Conv", 0.0, {"dilations": (1, 2)}),
        ("ConvInteger", 4, {}),
        ("MaxPool", -np.inf, {}),
        ("AveragePool", 0.0, {"pads": (0, 0, 0, 0)}),
    ],
)
def test_a_window_pads_for_itself(op, fill, more):
    assert ops(same_bits(padded(op, fill, **more), FOLD_PAD)) == [op]


@pytest.mark.parametrize(
    ("op", "fill", "more"),
    [
        ("Conv", 1.0, {}),
        ("Conv", -0.0, {}),
        ("Conv", 0.0, {"mode": "edge"}),
        ("Conv", 0.0, {"pads": (0, 0, 0, 0), "around": (0, 0, -1, 0, 0, 0, 1, 1)}),
        ("ConvInteger", 0, {}),
        ("MaxPool", 0.0, {}),
        ("MaxPool", -np.inf, {"around": (0, 0, 4, 0, 0, 0, 0, 0)}),
        ("AveragePool", 0.0, {}),
        ("AveragePool", 0.0, {"pads": (0, 0, 0, 0), "ceil_mode": 1}),
    ],
)
def test_other_pads_stay(op, fill, more):
    graph = padded(op, fill, **more)
    assert FOLD_PAD.run(graph) is graph


def channelled(op, affines, group=1, magnitudes=False):
    """A contraction and affines; with ``magnitudes``, what bounds their rounding errors."""
    b = Builder()
    random = np.random.default_rng(5)

    def constant(*shape):
        return b.constant(random.uniform(0.5, 2, shape).astype(np.float32), name="c")

    window = {"strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1), "group": group}
    if op.startswith("Conv"):
        x = b.input("x", f.FLOAT32, (2, 4, 5, 5))
        shape = (4, 6 // group, 3, 3) if op == "ConvTranspose" else (6, 4 // group, 3, 3)
        y, along = b.op(op, x, constant(*shape), constant(6), **window), (6, 1, 1)
    elif op.startswith("Gemm"):
        x, turned = b.input("x", f.FLOAT32, (3, 4)), int("T" in op)
        shape = (6, 4) if turned else (4, 6)
        y, along = b.op("Gemm", x, constant(*shape), constant(1, 6), transB=turned), (6,)
    else:
        x = b.input("x", f.FLOAT32, (3, 4))
        y, along = b.op("MatMul", x, constant(4, 6)), (6,)
    for affine in affines:
        if affine == "BatchNormalization":
            scale, shift, mean, variance = (random.uniform(0.5, 2, 6) for _ in range(4))
            mean = -mean if magnitudes else mean
            operands = (scale, shift, mean, variance)
            y = b.op(affine, y, *(b.constant(v.astype(np.float32), name="c") for v in operands))
        else:
            op = "Add" if magnitudes and affine == "Sub" else affine
            y = b.op(op, y, constant(*along))
    return b.graph([x], [y])


@pytest.mark.parametrize(
    ("op", "affines", "left"),
    [
        ("Conv", ["BatchNormalization", "Mul", "Sub"], 1),
        ("ConvTranspose", ["BatchNormalization", "Add", "Div"], 1),
        ("Gemm", ["BatchNormalization", "Mul"], 1),
        ("GemmT", ["Div", "Add", "BatchNormalization"], 1),
        ("MatMul", ["Mul", "Div"], 1),
        ("MatMul", ["BatchNormalization"], 2),
        ("MatMul", ["Add"], 2),
    ],
)
@pytest.mark.parametrize("group", [1, 2])
def test_affines_fold_into_contractions(op, affines, left, group):
    graph = channelled(op, affines, group)
    after = optimised(graph, FOLD_AFFINE, DEAD_CODE)
    assert len(after.nodes) == left
    fed = feeds(graph)
    (old,), (new,) = (tuple(evaluate(g, fed).values()) for g in (graph, after))
    # What either way rounds: each of up to 36 products and additions, the weights, the bias,
    # and at most 4 times an affine; with n roundings, n u / (1 - n u) times the magnitudes.
    n = 2 * 36 + 2 + 4 * len(affines)
    bound = 2 * n * 2.0**-24 / (1 - n * 2.0**-24)
    larger = channelled(op, affines, group, magnitudes=True)
    (most,) = evaluate(larger, {name: np.abs(x) for name, x in fed.items()}).values()
    assert (np.abs(old.astype(np.float64) - new) <= bound * most).all()


def test_large_weights_are_scaled_when_they_are_asked_for():
    b = Builder()
    x = b.input("x", f.FLOAT32, (1, 600))
    w = b.constant(np.ones((600, 600), np.float32), name="w")
    y = b.op("Mul", b.op("MatMul", x, w), b.scalar(3, f.FLOAT32))
    after = optimised(b.graph([x], [y]), FOLD_AFFINE, DEAD_CODE)
    (scaled,) = after.constants
    assert scaled.array() is not scaled.array()
    assert (scaled.array() == 3).all()


@pytest.mark.parametrize("factor", [np.inf, np.nan, 3e38])
def test_scales_that_leave_the_format_stay(factor):
    b = Builder()
    x = b.input("x", f.FLOAT32, (1, 4))
    w = b.constant(np.full((4, 4), 2, np.float32), name="w")
    y = b.op("Mul", b.op("MatMul", x, w), b.scalar(factor, f.FLOAT32))
    graph = b.graph([x], [y])
    assert FOLD_AFFINE.run(graph) is graph


def test_integers_are_not_scaled():
    b = Builder()
    x = b.input("x", f.INT32, (1, 4))
    w = b.constant(np.full((4, 4), 2, np.int32), name="w")
    y = b.op("Div", b.op("MatMul", x, w), b.scalar(4, f.INT32))
    graph = b.graph([x], [y])
    assert FOLD_AFFINE.run(graph) is graph


@given(graphs(("Add", "Relu", "Concat", "Transpose", "Where", "MatMul", "Expand"), most=14))
@settings(max_examples=60)
def test_constants_late_keeps_bits(graph):
    same_bits(graph, CONSTANTS_LATE)


def test_constant_computations_stand_before_their_readers():
    b = Builder()
    x = b.input("x", f.FLOAT32, (64, 64))
    wide = [
        b.op("Cast", b.constant(np.full((64, 64), i, np.int8), name="w"), to="float32")
        for i in range(8)
    ]
    y = x
    for w in wide:
        y = b.op("MatMul", y, w)
    graph = b.graph([x], [y])
    after = same_bits(graph, CONSTANTS_LATE)
    assert ops(after) == ["Cast", "MatMul"] * 8
    assert plan(after).arena_bytes == 3 * 64 * 64 * 4 < plan(graph).arena_bytes
    assert CONSTANTS_LATE.run(after) is after
