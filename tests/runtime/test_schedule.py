"""Memory that values share is never written while an older value may still be read."""

from itertools import pairwise

import numpy as np
import pytest

from accelsdk.backend.program import ProgramHeader, TensorSpec
from accelsdk.backend.program_plan import Crossing, Outline, Piece
from accelsdk.errors import Internal
from accelsdk.formats import UINT8
from accelsdk.graph.types import TensorType, Value
from accelsdk.runtime.schedule import Kind, _Blocks, schedule


def header(inputs=(), outputs=()):
    return ProgramHeader(
        backend="b",
        backend_version="1",
        api_version=(1, 0),
        target="t",
        inputs=tuple(inputs),
        outputs=tuple(outputs),
    )


def random_plan(seed):
    """A plan of pieces that read a few earlier values, on up to three places."""
    rng = np.random.default_rng(seed)
    specs, homes, readers = [], [], {}
    fed = [TensorSpec(name=f"x{i}", type=TensorType(UINT8, (8,))) for i in range(2)]
    for spec in fed:
        specs.append(spec)
        homes.append((0, -1))
    headers, pieces = [], []
    for number in range(int(rng.integers(2, 14))):
        place = int(rng.integers(0, 3))
        count = int(rng.integers(1, min(4, len(specs) + 1)))
        taken = sorted(rng.choice(len(specs), count, replace=False).tolist())
        made = [
            TensorSpec(name=f"v{number}_{i}", type=TensorType(UINT8, (int(rng.integers(0, 40)),)))
            for i in range(int(rng.integers(1, 3)))
        ]
        for index in taken:
            readers.setdefault((index, place), number)
        headers.append(header((specs[i] for i in taken), made))
        pieces.append(Piece(name=f"p{number}", place=place))
        specs += made
        homes += [(place, number)] * len(made)
    given = sorted(set(rng.choice(len(specs), 3).tolist()) | {len(specs) - 1})
    for index in given:
        readers.setdefault((index, 0), len(pieces))
    crossings = [
        Crossing(
            value=Value(specs[index].name, specs[index].type),
            source=homes[index][0],
            destination=place,
            after=homes[index][1],
            before=before,
        )
        for (index, place), before in readers.items()
        if place != homes[index][0]
    ]
    crossings.sort(key=lambda c: (c.after, c.before))
    outputs = [specs[index] for index in (*given, given[0])]  # one of them twice
    outline = Outline(
        header=header(fed, outputs),
        places=(("b", "t"),) * 3,
        pieces=tuple(pieces),
        crossings=tuple(crossings),
    )
    return outline, headers


@pytest.mark.parametrize("seed", range(150))
def test_any_legal_order_of_the_steps_gives_every_reader_its_value(seed):
    made = schedule(*random_plan(seed))
    steps = made.steps
    writer = {spot: index for index, step in enumerate(steps) for spot in step.writes}
    assert len(writer) == sum(len(step.writes) for step in steps)  # each place once
    before = []  # of each step: all that certainly come before it
    for step in steps:
        direct = {writer[spot] for spot in step.reads if spot.kind is not Kind.INPUT}
        direct |= set(step.after)
        before.append(direct.union(*(before[index] for index in direct)))
    for shared in slots_in_order(made, writer):
        for old, new in pairwise(shared):
            users = {writer[old], *(i for i, step in enumerate(steps) if old in step.reads)}
            assert users <= before[writer[new]]
    copies = [(i, step) for i, step in enumerate(steps) if step.stage >= 0]
    for position, (index, step) in enumerate(copies):
        for other, later in copies[position + 1 :]:
            assert later.stage != step.stage or index in before[other]


def slots_in_order(made, writer):
    by_slot = {}
    for spot in sorted(writer, key=writer.__getitem__):
        if spot.kind is Kind.OWN:
            slot, type = made.views[spot.index]
            assert type.nbytes <= made.slots[slot].nbytes
            by_slot.setdefault(slot, []).append(spot)
    return by_slot.values()


def test_memory_is_shared():
    plans = [schedule(*random_plan(seed)) for seed in range(150)]
    assert sum(len(made.slots) for made in plans) < 0.7 * sum(len(made.views) for made in plans)


def test_free_memory_that_looks_alike_is_not_mixed_up():
    """Two free blocks of one size and history; a larger value takes the last and enlarges it."""
    blocks = _Blocks()
    alike = [blocks.take(8) for _ in range(2)]
    for block in alike:
        block.users = [3]
        blocks.give(block)
    taken = [blocks.take(nbytes) for nbytes in (16, 8, 8)]
    assert len({id(block) for block in taken}) == 3
    assert sorted(block.nbytes for block in blocks.all) == [8, 8, 16]


def test_a_value_that_is_not_there_is_a_defect():
    spec = TensorSpec(name="x", type=TensorType(UINT8, (8,)))
    made = TensorSpec(name="y", type=TensorType(UINT8, (8,)))
    outline = Outline(
        header=header([spec], [made]),
        places=(("b", "t"), ("c", "t")),
        pieces=(Piece(name="p", place=1),),
    )
    with pytest.raises(Internal, match="piece 0 reads 'x' on place 1: not there"):
        schedule(outline, [header([spec], [made])])


def test_a_layout_of_its_own_cannot_leave_its_place():
    spec = TensorSpec(name="x", type=TensorType(UINT8, (8,)), layout="tiled")
    made = TensorSpec(name="y", type=TensorType(UINT8, (8,)))
    crossing = Crossing(value=Value("x", spec.type), source=0, destination=1, after=-1, before=0)
    outline = Outline(
        header=header([spec], [made]),
        places=(("b", "t"), ("c", "t")),
        pieces=(Piece(name="p", place=1),),
        crossings=(crossing,),
    )
    with pytest.raises(Internal, match="tiled"):
        schedule(outline, [header([spec], [made])])
