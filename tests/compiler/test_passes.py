"""Each pass does what it declares, keeps the meaning, and ends."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsdk.compiler.passes.constant_folding import CONSTANT_FOLDING
from accelsdk.compiler.passes.cse import CSE
from accelsdk.compiler.passes.dead_code import DEAD_CODE
from accelsdk.compiler.passes.fold_affine import FOLD_AFFINE
from accelsdk.compiler.passes.gather_early import GATHER_EARLY
from accelsdk.compiler.passes.manager import Pass, run_passes
from accelsdk.compiler.passes.no_ops import NO_OPS
from accelsdk.compiler.passes.scale_late import SCALE_LATE
from accelsdk.compiler.pipeline import PASSES
from accelsdk.errors import Internal
from accelsdk.formats import FLOAT32, INT8, INT64
from accelsdk.graph.graph import Graph
from accelsdk.graph.rewrite import Builder, remove_dead
from accelsdk.graph.verify import verify
from accelsdk.kernels.api import evaluate

ALL = (DEAD_CODE, CONSTANT_FOLDING, CSE, NO_OPS, FOLD_AFFINE, GATHER_EARLY, SCALE_LATE)


def ops(graph: Graph) -> list[str]:
    return [node.op for node in graph.nodes]


def check(before: Graph, *passes: Pass, exact: bool | None = None) -> Graph:
    """Runs passes; the result is valid, at a fix-point, and computes the same."""
    exact = all(step.exact for step in passes) if exact is None else exact
    after = run_passes(before, passes)
    verify(after)
    assert all(step.run(after) is after for step in passes)
    random = np.random.default_rng(0)
    feeds = {
        v.name: random.integers(0, 4, v.shape)
        if v.format is INT64
        else random.standard_normal(v.shape).astype(v.format.dtype)
        for v in before.inputs
    }
    expected, found = evaluate(before, feeds), evaluate(after, feeds)
    for name, array in expected.items():
        if exact:
            np.testing.assert_array_equal(found[name], array)
        else:
            np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-5)
    named = {name for node in before.nodes for name in node.origin}
    named |= {value.name for value in before.outputs}  # copies for outputs that share a value
    assert {name for node in after.nodes for name in node.origin} <= named
    return after


def test_dead_code():
    b = Builder()
    x = b.input("x", FLOAT32, (3,))
    y = b.op("Exp", x)
    b.op("Add", y, b.constant(np.ones(3, np.float32)))
    after = check(b.graph([x], [y]), DEAD_CODE)
    assert ops(after) == ["Exp"]
    assert not after.constants


def test_constant_folding():
    b = Builder()
    x = b.input("x", FLOAT32, (3,))
    two = b.op("Add", b.constant(np.ones(3, np.float32)), b.constant(np.ones(3, np.float32)))
    y = b.op("Mul", x, b.op("Neg", two))
    assert ops(check(b.graph([x], [y]), CONSTANT_FOLDING, DEAD_CODE)) == ["Mul"]


def test_constant_folding_keeps_weights_quantised():
    b = Builder()
    x = b.input("x", FLOAT32, (2, 100))
    codes = b.constant(np.arange(10000).astype(np.int8).reshape(100, 100))
    turned = b.op("Transpose", codes, perm=(1, 0))
    wide = b.op("Cast", turned, to="float32")
    y = b.op("MatMul", x, b.op("Mul", wide, b.scalar(0.25, FLOAT32)))
    # BLAS adds in another order once the weights are laid out another way.
    after = check(b.graph([x], [y]), CONSTANT_FOLDING, DEAD_CODE)
    # the Transpose of int8 goes, what would make float32 of the weights stays
    assert ops(after) == ["Cast", "Mul", "MatMul"]
    assert max(c.value.type.nbytes for c in after.constants) == 10000


def test_cse_merges_and_keeps_both_origins():
    b = Builder()
    x = b.input("x", FLOAT32, (3,))
    b.origin = ("first",)
    left = b.op("Exp", x)
    b.origin = ("second",)
    right = b.op("Exp", x)
    y = b.op("Add", left, right)
    after = check(b.graph([x], [y]), CSE)
    assert ops(after) == ["Exp", "Add"]
    assert after.nodes[0].origin == ("first", "second")


def test_cse_tells_zeros_and_attributes_apart():
    b = Builder()
    x = b.input("x", FLOAT32, (2, 2))
    zeros = [b.constant(np.array([z, z], np.float32), name="z") for z in (0.0, -0.0)]
    parts = [b.op("Div", x, zero) for zero in zeros]
    sums = [b.op("ReduceSum", x, axes=(axis,), keepdims=1) for axis in (0, 1)]
    y = b.op("Add", b.op("Sub", *sums), b.op("Max", *parts))
    assert len(check(b.graph([x], [y]), CSE).nodes) == 7


def test_equal_outputs_keep_their_names():
    b = Builder()
    x = b.input("x", FLOAT32, (3,))
    graph = b.graph([x], [b.op("Exp", x), b.op("Exp", x)])
    assert check(graph, *PASSES).outputs == graph.outputs


def test_no_ops():
    b = Builder()
    x = b.input("x", FLOAT32, (2, 1, 3))
    v = b.op("Reshape", x, shape=(2, 1, 3))
    v = b.op("Transpose", v, perm=(0, 2, 1))
    v = b.op("Transpose", v, perm=(0, 2, 1))
    v = b.op("Slice", v, starts=(0,), ends=(2,), axes=(0,), steps=(1,))
    v = b.op("Pad", v, pads=(0,) * 6)
    v = b.op("Reshape", b.op("Reshape", v, shape=(6,)), shape=(3, 2))
    y = b.op("Exp", v)
    assert ops(check(b.graph([x], [y]), NO_OPS)) == ["Reshape", "Exp"]


def test_copy_of_an_input_stays():
    b = Builder()
    x = b.input("x", FLOAT32, (3,))
    graph = b.graph([x], [b.op("Reshape", x, shape=(3,))])
    assert ops(check(graph, *PASSES)) == ["Reshape"]


@pytest.mark.parametrize("bias", [False, True])
def test_batch_normalisation_and_affines_fold_into_conv(bias):
    random = np.random.default_rng(3)

    def constant(*shape: int):
        return b.constant(random.uniform(0.5, 2, shape).astype(np.float32), name="c")

    b = Builder()
    x = b.input("x", FLOAT32, (1, 3, 8, 8))
    operands = [x, constant(4, 3, 3, 3), *([constant(4)] if bias else [])]
    v = b.op("Conv", *operands, strides=(1, 1), pads=(1, 1, 1, 1), dilations=(1, 1))
    v = b.op("BatchNormalization", v, *(constant(4) for _ in range(4)))
    v = b.op("Mul", constant(4, 1, 1), v)
    v = b.op("Add", v, constant(1, 4, 1, 1))
    y = b.op("Div", v, b.scalar(3.0, FLOAT32))
    after = check(b.graph([x], [y]), FOLD_AFFINE)
    assert ops(after) == ["Conv"]
    assert len(after.nodes[0].origin) == 5


def test_conv_with_other_readers_is_left_alone():
    b = Builder()
    x = b.input("x", FLOAT32, (1, 1, 4))
    w = b.constant(np.ones((1, 1, 1), np.float32), name="w")
    v = b.op("Conv", x, w, strides=(1,), pads=(0, 0), dilations=(1,))
    y = b.op("Mul", v, b.scalar(2.0, FLOAT32))
    assert ops(check(b.graph([x], [y, v]), FOLD_AFFINE)) == ["Conv", "Mul"]


def test_an_affine_over_positions_is_left_alone():
    b = Builder()
    x = b.input("x", FLOAT32, (1, 4, 4))
    w = b.constant(np.ones((4, 4, 1), np.float32), name="w")
    v = b.op("Conv", x, w, strides=(1,), pads=(0, 0), dilations=(1,))
    y = b.op("Mul", v, b.constant(np.arange(4, dtype=np.float32)))
    assert ops(check(b.graph([x], [y]), FOLD_AFFINE)) == ["Conv", "Mul"]


@pytest.mark.parametrize("scale", [(), (50, 1), (8,), (1, 8)])
def test_gather_overtakes_dequantisation(scale):
    b = Builder()
    random = np.random.default_rng(4)
    rows = b.input("rows", INT64, (2, 3))
    table = b.constant(random.integers(-128, 128, (50, 8)).astype(INT8.dtype))
    factor = b.constant(random.uniform(1, 2, scale).astype(np.float32))
    wide = b.op("Mul", b.op("Cast", table, to="float32"), factor)
    y = b.op("Gather", wide, rows, axis=0)
    after = check(b.graph([rows], [y]), GATHER_EARLY)
    assert ops(after)[0] == "Gather"
    assert ops(after)[-1] == "Mul"
    assert after.nodes[0].inputs[0].format is INT8


@pytest.mark.parametrize(
    ("rows", "scale", "late"), [(2, (1, 6), True), (2, (8, 1), False), (50, (6,), False)]
)
def test_scales_of_columns_move_behind_the_product(rows, scale, late):
    b = Builder()
    random = np.random.default_rng(6)
    x = b.input("x", FLOAT32, (rows, 8))
    codes = b.constant(random.integers(-128, 128, (8, 6)).astype(INT8.dtype))
    factor = b.constant(random.uniform(1, 2, scale).astype(np.float32))
    y = b.op("MatMul", x, b.op("Mul", b.op("Cast", codes, to="float32"), factor))
    after = check(b.graph([x], [y]), SCALE_LATE)
    assert ops(after) == (["Cast", "MatMul", "Mul"] if late else ["Cast", "Mul", "MatMul"])


def test_a_broken_pass_is_named():
    def drops_a_node(graph: Graph) -> Graph:
        return Graph(graph.inputs, graph.outputs, graph.constants, graph.nodes[1:], graph.name)

    b = Builder()
    x = b.input("x", FLOAT32, (3,))
    y = b.op("Exp", b.op("Neg", x))
    broken = Pass(name="broken", changes="", run=drops_a_node)
    with pytest.raises(Internal, match=r"pass 'broken' broke the graph: define-before-use"):
        run_passes(b.graph([x], [y]), [broken])


def test_passes_that_undo_each_other_end():
    b = Builder()
    x = b.input("x", FLOAT32, (3,))
    graph = b.graph([x], [b.op("Exp", x)])
    other = remove_dead(graph)
    swap = Pass(name="swap", changes="", run=lambda g: other if g is graph else graph)
    with pytest.raises(Internal, match="swap do not come to an end"):
        run_passes(graph, [swap])


UNARY = ("Neg", "Exp", "Tanh", "Abs")
BINARY = ("Add", "Mul", "Sub", "Max")


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Random graphs of elementwise ops, movement and constants, all of one element count."""
    b = Builder()
    shapes = ((2, 3), (3, 2), (1, 6), (2, 1, 3))
    values = [
        b.input("x", FLOAT32, (2, 3)),
        b.constant(np.arange(6, dtype=np.float32).reshape(2, 3)),
    ]
    for _ in range(draw(st.integers(1, 12))):
        kind = draw(st.integers(0, 3))
        value = draw(st.sampled_from(values))
        if kind == 0:
            values.append(b.op(draw(st.sampled_from(UNARY)), value))
        elif kind == 1:
            same = [v for v in values if v.shape == value.shape]
            values.append(b.op(draw(st.sampled_from(BINARY)), value, draw(st.sampled_from(same))))
        elif kind == 2:
            values.append(b.op("Reshape", value, shape=draw(st.sampled_from(shapes))))
        else:
            perm = draw(st.permutations(range(value.type.rank)))
            values.append(b.op("Transpose", value, perm=tuple(perm)))
    outputs = draw(st.lists(st.sampled_from(values[2:]), min_size=1, max_size=3))
    return b.graph(values[:1], outputs)


@settings(max_examples=150)
@given(graphs())
def test_passes_keep_the_meaning(graph):
    check(graph, *ALL, exact=True)
