"""Memory plans: no two live values collide, and places are reused."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsdk import formats as f
from accelsdk.errors import GraphError, InvalidArgument
from accelsdk.graph.memory_plan import (
    check_plan,
    nothing_in_place,
    plan,
)
from accelsdk.graph.rewrite import Builder, apply, decompositions
from accelsdk.graph.sharing import in_place_operands
from tests.graph.strategies import graphs

MOVING = ("Add", "Mul", "Relu", "Reshape", "Concat", "Softmax", "Split", "Transpose", "Where")


@pytest.mark.parametrize("in_place", [in_place_operands, nothing_in_place])
@given(
    graph=graphs(most=20) | graphs(MOVING, most=20),
    alignment=st.sampled_from([1, 16, 64, 512]),
    views=st.booleans(),
)
@settings(max_examples=60)
def test_plan_holds_and_brute_force_agrees(graph, alignment, views, in_place):
    found = plan(graph, alignment, in_place, views)
    check_plan(graph, found, in_place)
    assert 0 < found.efficiency <= 1
    replay(graph, found)


def replay(graph, found):
    """Writes a mark for each value, byte by byte, and looks for it where the value is read.

    In place and views are legal exactly if every operand is whole when its node runs.
    """
    arena = np.zeros(found.arena_bytes, object)
    marks = {}
    for node in graph.nodes:
        for value in node.inputs:
            if value is not None and value.name in marks:
                start = found.offsets[value.name]
                held = arena[start : start + value.type.nbytes]
                assert all(mark == marks[value.name] for mark in held), value.name
        for value in node.outputs:
            if value is None:
                continue
            start = found.offsets[value.name]
            source = node.inputs[0] if node.op == "Reshape" else None
            view = source is not None and found.shares.get(value.name) == source.name
            marks[value.name] = marks[source.name] if view else value.name
            arena[start : start + value.type.nbytes] = marks[value.name]
    for value in graph.outputs:
        if value.name in marks:
            start = found.offsets[value.name]
            held = arena[start : start + value.type.nbytes]
            assert all(mark == marks[value.name] for mark in held), value.name


def chain(length=6, count=1000):
    b = Builder()
    x = b.input("x", f.FLOAT32, (count,))
    y = x
    for _ in range(length):
        y = b.op("Neg", y)
    return b.graph([x], [y])


def test_chain_in_place_takes_one_buffer_and_else_two():
    graph = chain()
    assert plan(graph).arena_bytes == 4032
    assert plan(graph, in_place=nothing_in_place).arena_bytes == 2 * 4032
    assert plan(graph).efficiency == 1


def test_reshape_is_a_view_unless_told_otherwise():
    b = Builder()
    x = b.input("x", f.FLOAT32, (4, 4))
    y = b.op("Neg", x)
    z = b.op("Reshape", y, shape=(16,))
    graph = b.graph([x], [z])
    found = plan(graph)
    assert found.offsets[z.name] == found.offsets[y.name]
    apart = plan(graph, views=False)
    assert apart.offsets[z.name] != apart.offsets[y.name]


def test_view_that_is_read_later_bars_in_place():
    b = Builder()
    x = b.input("x", f.FLOAT32, (4, 4))
    y = b.op("Neg", x)
    view = b.op("Reshape", y, shape=(16,))
    over = b.op("Abs", y)
    graph = b.graph([x], [over, b.op("Neg", view)])
    found = plan(graph)
    check_plan(graph, found)
    assert found.offsets[over.name] != found.offsets[y.name]


def test_operand_read_under_another_shape_bars_in_place():
    b = Builder()
    x = b.input("x", f.FLOAT32, (1, 4))
    y = b.op("Neg", x)
    flat = b.op("Reshape", y, shape=(4,))
    total = b.op("Add", y, flat)
    graph = b.graph([x], [total])
    found = plan(graph)
    check_plan(graph, found)
    assert found.offsets[flat.name] == found.offsets[y.name] != found.offsets[total.name]


def test_lowered_network_plans_well():
    b = Builder()
    x = b.input("x", f.FLOAT32, (1, 8, 16, 16))
    y = x
    for _ in range(4):
        w = b.constant(np.zeros((8, 8, 3, 3), np.float32), name="w")
        skip = y
        y = b.op("Conv", y, w, strides=(1, 1), pads=(1, 1, 1, 1), dilations=(1, 1))
        y = b.op("Gelu", y)
        y = b.op("Add", y, skip)
    y = b.op("Softmax", b.op("Reshape", y, shape=(1, 8, 256)))
    graph = apply(b.graph([x], [y]), decompositions())
    found = plan(graph)
    check_plan(graph, found)
    assert found.efficiency >= 0.9


def test_bad_alignment_is_refused():
    with pytest.raises(InvalidArgument, match="power of two"):
        plan(chain(), alignment=48)


def broken(change, rule):
    graph = chain()
    good = plan(graph, in_place=nothing_in_place)
    with pytest.raises(GraphError) as caught:
        check_plan(graph, change(graph, good), nothing_in_place)
    assert caught.value.rule == rule
    assert caught.value.node


def test_check_notices_each_violation():
    def moved(name_index, offset):
        def change(graph, good):
            name = graph.nodes[name_index].result.name
            return replace(good, offsets={**good.offsets, name: offset})

        return change

    broken(lambda graph, good: replace(good, offsets={}), "plan-missing")
    broken(moved(0, 32), "plan-alignment")
    broken(moved(0, -64), "plan-alignment")
    broken(moved(0, 1 << 20), "plan-bounds")
    broken(lambda graph, good: replace(good, arena_bytes=64), "plan-bounds")
    broken(lambda g, good: replace(good, offsets=dict.fromkeys(good.offsets, 0)), "plan-overlap")
    broken(moved(1, 64), "plan-overlap")


def test_in_place_plan_fails_where_nothing_may_be_overwritten():
    graph = chain()
    with pytest.raises(GraphError, match="plan-overlap"):
        check_plan(graph, plan(graph), nothing_in_place)
