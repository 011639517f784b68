"""In-place legality, by brute force: change one element of an operand, and look what changes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsdk import formats as f
from accelsdk.graph.graph import CORE, Node
from accelsdk.graph.memory_plan import check_plan, plan
from accelsdk.graph.ops import TABLE
from accelsdk.graph.rewrite import Builder
from accelsdk.graph.sharing import in_place_operands, view_of
from accelsdk.kernels.api import run
from tests.graph.source import Source
from tests.graph.strategies import RECIPES, add_node

FORMATS = (f.FLOAT32, f.FLOAT16, f.INT32, f.INT8, f.UINT8, f.INT64, f.BOOL)
ELEMENTWISE = sorted(
    name for name in RECIPES if TABLE[name].family in ("elementwise", "activation", "quantisation")
)
OTHERS = ("ScatterElements", "ScatterND", "BatchNormalization", "Reshape")


def contents(random, value):
    if value.format is f.BOOL:
        return random.integers(0, 2, value.shape).astype(bool)
    numbers = random.integers(1, 3, value.shape)
    return numbers.astype(value.format.dtype)


@pytest.mark.parametrize("op", [*ELEMENTWISE, *OTHERS])
@given(data=st.data())
@settings(max_examples=8)
def test_an_element_that_may_be_overwritten_is_read_for_itself_alone(op, data):
    source = Source(data.draw, formats=FORMATS)
    add_node(source, op)
    node = source.builder.nodes[-1]
    random = np.random.default_rng(0)
    feeds = {v.name: contents(random, v) for v in node.inputs if v is not None}
    if op.startswith("Scatter"):
        feeds[node.inputs[1].name][...] = 0
    claimed = list(in_place_operands(node))
    viewed = view_of(node)
    for index in {*claimed, *([viewed] if viewed is not None else [])}:
        alone = [i for i, v in enumerate(node.inputs) if v == node.inputs[index]]
        if alone != [index]:
            continue  # read under another role as well: the planner's matter
        was = result(node, feeds)
        assert was.size == feeds[node.inputs[index].name].size
        for position in range(was.size):
            changed = {**feeds, node.inputs[index].name: feeds[node.inputs[index].name].copy()}
            flat = changed[node.inputs[index].name].reshape(-1)
            flat[position] = contents(np.random.default_rng(position), node.inputs[index]).flat[0]
            now = result(node, changed)
            others = np.arange(was.size) != position
            assert was.reshape(-1)[others].tobytes() == now.reshape(-1)[others].tobytes()


def result(node, feeds):
    return run(node, [None if v is None else feeds[v.name] for v in node.inputs])[0].copy()


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("Softmax", {"axis": 0}),
        ("CumSum", {"axis": 0}),
        ("Transpose", {"perm": (1, 0)}),
        ("Slice", {"starts": (-1,), "ends": (-9,), "axes": (0,), "steps": (-1,)}),
    ],
)
def test_what_mixes_elements_overwrites_nothing(op, attributes):
    b = Builder()
    b.op(op, b.input("x", f.FLOAT32, (3, 3)), **attributes)
    (node,) = b.nodes
    assert in_place_operands(node) == ()
    assert view_of(node) is None


def test_types_must_be_equal():
    b = Builder()
    x = b.input("x", f.FLOAT32, (2, 3))
    row = b.input("row", f.FLOAT32, (3,))
    b.op("Add", row, x)
    b.op("Less", x, x)
    assert [in_place_operands(node) for node in b.nodes] == [(1,), ()]


def test_a_vendors_node_overwrites_nothing():
    b = Builder()
    x = b.input("x", f.FLOAT32, (3,))
    y = b.op("Neg", x)
    own = Node("Neg", (x,), (y,), {}, "acme", "own")
    assert own.domain != CORE
    assert in_place_operands(own) == ()


def test_updates_that_are_the_data_bar_a_scatter_from_writing_over_it():
    b = Builder()
    x = b.input("x", f.FLOAT32, (4,))
    indices = b.constant(np.array([3, 2, 1, 0]))
    y = b.op("Neg", x)
    z = b.op("ScatterElements", y, indices, y)
    other = b.op("ScatterElements", z, indices, x)
    graph = b.graph([x], [other])
    found = plan(graph)
    check_plan(graph, found)
    assert found.offsets[z.name] != found.offsets[y.name]
    assert found.offsets[other.name] == found.offsets[z.name]
