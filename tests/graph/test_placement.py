"""Placement against the plain quadratic algorithm, and at size."""

from unittest import mock

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsdk.graph import placement
from accelsdk.graph.placement import Buffer, best_gap, largest_live, place


def plainly(buffers):
    """The algorithm as published: every buffer is compared with every one placed before."""
    found = [ordered(sorted(buffers, key=key)) for key in placement._ORDERS]
    return min(found, key=lambda o: max((o[b.name] + b.nbytes for b in buffers), default=0))


def ordered(buffers):
    offsets = {}
    done = []
    for buffer in buffers:
        rivals = [
            (offsets[other.name], offsets[other.name] + other.nbytes)
            for other in done
            if other.nbytes and other.first <= buffer.last and buffer.first <= other.last
        ]
        end, best, size = 0, None, None
        for start, stop in sorted(rivals):
            gap = start - end
            if gap >= buffer.nbytes and (size is None or gap < size):
                best, size = end, gap
            end = max(end, stop)
        offsets[buffer.name] = 0 if not buffer.nbytes else end if best is None else best
        done.append(buffer)
    return offsets


@st.composite
def buffers(draw):
    longest = draw(st.sampled_from([2, 40, 1000]))
    sizes = st.integers(0, 6)
    found = []
    for index in range(draw(st.integers(0, 40))):
        first = draw(st.integers(0, 1000))
        last = first + draw(st.integers(0, longest))
        found.append(Buffer(f"b{index}", 64 * draw(sizes), first, last))
    return found


@given(buffers())
@settings(max_examples=150)
def test_places_are_those_of_the_plain_algorithm(given_buffers):
    with mock.patch.object(placement, "_REPAIRS", 0):
        assert place(given_buffers) == plainly(given_buffers)
    ends = [b.last for b in given_buffers]
    live = (
        sum(b.nbytes for b in given_buffers if b.first <= position <= b.last)
        for position in range(max(ends, default=0) + 1)
    )
    assert largest_live(given_buffers) == max(live)


def arena(buffers, offsets):
    return max((offsets[b.name] + b.nbytes for b in buffers), default=0)


@given(buffers())
@settings(max_examples=60)
def test_repairs_never_make_the_arena_larger_nor_buffers_overlap(given_buffers):
    offsets = place(given_buffers)
    assert arena(given_buffers, offsets) <= arena(given_buffers, plainly(given_buffers))
    for i, one in enumerate(given_buffers):
        for other in given_buffers[:i]:
            together = one.first <= other.last and other.first <= one.last
            a, b = offsets[one.name], offsets[other.name]
            apart = a + one.nbytes <= b or b + other.nbytes <= a
            assert not together or apart or not one.nbytes or not other.nbytes


def test_a_repair_closes_the_gap_that_an_order_leaves():
    crowded = [
        Buffer(f"b{i}", 64 * n, first, last)
        for i, (n, first, last) in enumerate(
            [(5, 3, 5), (3, 2, 3), (5, 5, 7), (1, 0, 1), (4, 6, 9), (3, 6, 8)]
        )
    ]
    assert arena(crowded, plainly(crowded)) > largest_live(crowded)
    assert arena(crowded, place(crowded)) == largest_live(crowded)


def test_the_smallest_gap_wins():
    starts, stops = np.array([0, 30, 50]), np.array([10, 40, 60])
    assert best_gap(starts, stops, 10) == 40
    assert best_gap(starts, stops, 15) == 10
    assert best_gap(starts, stops, 25) == 60
    assert best_gap(starts[:0], stops[:0], 5) == 0


def test_fifty_thousand_nodes_are_compared_with_neighbours_alone(monkeypatch):
    compared = []

    def counted(starts, stops, nbytes):
        compared.append(len(starts))
        return best_gap(starts, stops, nbytes)

    monkeypatch.setattr("accelsdk.graph.placement.best_gap", counted)
    count = 50_000
    random = np.random.default_rng(0)
    sizes, lengths = random.integers(1, 100, count), random.integers(1, 20, count)
    chain = [Buffer(str(i), 64 * int(sizes[i]), i, i + int(lengths[i])) for i in range(count)]
    offsets = place(chain)
    arena = max(offsets[b.name] + b.nbytes for b in chain)
    assert largest_live(chain) / arena > 0.8
    assert sum(compared) < 200 * count
