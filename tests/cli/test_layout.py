"""The layout of graphs: every box has its place, below what it reads, on random graphs."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsdk.cli.explanation.layout import LAYER, Net, _isotonic, lay_out

PAGE = 1000.0


@st.composite
def graphs(draw):
    count = draw(st.integers(1, 60))
    widths = draw(st.lists(st.integers(40, 160), min_size=count, max_size=count))
    nets = []
    for source in range(count - 1):
        later = st.integers(source + 1, min(count - 1, source + draw(st.sampled_from([2, 50]))))
        targets = draw(st.lists(later, max_size=4, unique=True))
        if targets:
            nets.append(Net(source, tuple(sorted(targets))))
    return [float(width) for width in widths], nets


@given(graphs())
def test_boxes_do_not_overlap_and_edges_lead_down_or_to_the_next_column(graph):
    widths, nets = graph
    found = lay_out(widths, nets, PAGE)
    lanes = {}
    for item, width in enumerate(widths):
        left, right = found.x[item] - width / 2, found.x[item] + width / 2
        assert 0 <= left < right <= found.width
        assert 0 <= found.y[item] - LAYER / 2 < found.y[item] + LAYER / 2 <= found.height
        lanes.setdefault(found.y[item], []).append((left, right))
    for lane in lanes.values():
        for (_, right), (left, _) in pairwise(sorted(lane)):
            assert right < left
    for upper, lower in found.links:
        if found.column[upper] == found.column[lower]:
            assert found.y[lower] - found.y[upper] == pytest.approx(LAYER)
        else:
            assert found.column[lower] == found.column[upper] + 1
            assert found.x[upper] < found.gutters[found.column[upper]] < found.x[lower]


@given(graphs())
def test_every_edge_is_drawn_or_told_as_a_stub(graph):
    widths, nets = graph
    found = lay_out(widths, nets, PAGE)
    after = {}
    for upper, lower in found.links:
        after.setdefault(upper, []).append(lower)
    for net in nets:
        reached, todo = set(), [net.source]
        while todo:
            for item in after.get(todo.pop(), ()):
                if item < len(widths):
                    reached.add(item)
                else:
                    todo.append(item)
        stubs = {target for source, target in found.stubs if source == net.source}
        assert set(net.targets) <= reached | stubs


def test_a_value_read_from_afar_takes_one_lane_and_too_many_become_stubs():
    chain = [Net(n, (n + 1,)) for n in range(99)]
    far = lay_out([60.0] * 101, [*chain, Net(100, tuple(range(10, 100, 10)))], PAGE)
    assert len(far.x) - 101 < 100
    assert far.stubs == []
    many = [Net(n, (n + 1, 99)) for n in range(98)]
    dense = lay_out([60.0] * 100, many, PAGE)
    assert dense.stubs
    assert len(dense.x) <= 13 * 100


def test_a_tower_is_broken_into_columns_that_the_page_has_room_for():
    tower = lay_out([60.0] * 200, [Net(n, (n + 1,)) for n in range(199)], PAGE)
    assert max(tower.column) >= 5
    assert tower.width <= PAGE


@given(st.lists(st.tuples(st.floats(-50, 50), st.floats(0.5, 4)), min_size=1, max_size=12))
def test_isotonic_regression_ascends_and_keeps_the_mean(pairs):
    values, weights = zip(*pairs, strict=True)
    found = _isotonic(values, weights)
    assert all(left <= right + 1e-9 for left, right in pairwise(found))
    before = sum(v * w for v, w in pairs)
    assert sum(v * w for v, w in zip(found, weights, strict=True)) == pytest.approx(
        before, abs=1e-6
    )
    if list(values) == sorted(values):
        assert found == pytest.approx(list(values))
