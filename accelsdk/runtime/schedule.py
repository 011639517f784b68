"""When a plan runs its programs, what it copies, and where the values in between lie.

All of it is fixed when a plan is made: a run only walks through the steps. Values that are
not needed at the same time share memory, and a step that writes memory which others used
before comes after those (`Step.after`); that a value is made before it is read, the buffers
themselves see to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from accelsdk.backend.program import ProgramHeader, TensorSpec
from accelsdk.backend.program_plan import Crossing, Outline
from accelsdk.errors import Internal
from accelsdk.graph.types import TensorType

#: The place of host memory through which copies between devices go.
_HOST = -1
#: A value at a place.
_Where = tuple[str, int]


class Kind(StrEnum):
    """Whose memory a value lies in."""

    INPUT = "input"  # the caller's argument
    OUTPUT = "output"  # the caller's result
    OWN = "own"  # the plan's


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a value lies: the caller's input or output of that index, or the plan's view."""

    kind: Kind
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that a run does.

    Attributes:
        reads: What it reads, in order.
        writes: What it writes, in order.
        after: Indices of earlier steps that used the memory which it writes.
        piece: The program that it runs; -1 if it is a copy.
        value: What it copies; empty if it runs a program.
        places: Where a copy goes from and to, or twice where the program runs.
        stage: Host memory that a copy goes through; -1 if none.
    """

    reads: tuple[Spot, ...]
    writes: tuple[Spot, ...]
    after: tuple[int, ...]
    piece: int = -1
    value: str = ""
    places: tuple[int, int] = (0, 0)
    stage: int = -1


@dataclass(frozen=True, slots=True)
class Slot:
    """Memory of the plan: where, of which kind, and how much."""

    place: int
    memory: str
    nbytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A plan as steps.

    Attributes:
        steps: In an order in which they can run one after the other.
        slots: Memory on the places.
        views: (slot, type) of each value in it.
        stages: Lengths of host memory, bytes.
    """

    steps: tuple[Step, ...]
    slots: tuple[Slot, ...]
    views: tuple[tuple[int, TensorType], ...]
    stages: tuple[int, ...]


@dataclass(slots=True, eq=False)
class _Block:
    """Memory that is handed from value to value; each is itself, however alike they are."""

    nbytes: int
    users: list[int] = field(default_factory=list)  # steps that used it for its last value


class _Blocks:
    """All memory of one place and kind: values take blocks, and give them back."""

    def __init__(self) -> None:
        self.all: list[_Block] = []
        self._free: list[_Block] = []

    def take(self, nbytes: int) -> _Block:
        """Returns the smallest free block that fits, or a free one made larger, or a new one."""
        free = sorted(self._free, key=lambda block: block.nbytes)
        block = next((b for b in free if b.nbytes >= nbytes), free[-1] if free else None)
        if block is None:
            block = _Block(nbytes)
            self.all.append(block)
        else:
            self._free.remove(block)
        block.nbytes = max(block.nbytes, nbytes)
        return block

    def give(self, block: _Block) -> None:
        """Takes a block back."""
        self._free.append(block)


def schedule(outline: Outline, headers: Sequence[ProgramHeader]) -> Schedule:
    """Returns the steps of a plan.

    Args:
        outline: The plan.
        headers: One a piece.

    Raises:
        Internal: A value is read where it is not; or a type or layout does not fit.
    """
    return _Scheduler(outline, headers).build()


class _Scheduler:
    def __init__(self, outline: Outline, headers: Sequence[ProgramHeader]) -> None:
        self.outline, self.headers = outline, headers
        self.spots: dict[_Where, Spot] = {}
        self.types: dict[_Where, TensorSpec] = {}
        self.steps: list[Step] = []
        self.pools: dict[tuple[int, str], _Blocks] = {}
        self.held: dict[_Where, tuple[tuple[int, str], _Block]] = {}
        self.views: list[tuple[tuple[int, str], _Block, TensorType]] = []
        self.stage_blocks: list[_Block] = []
        self.busy: list[tuple[int, _Block]] = []  # host memory, and the step that frees it
        self.last: Mapping[_Where, int] = {}
        self.outputs = _first_index(spec.name for spec in outline.header.outputs)

    def build(self) -> Schedule:
        """Walks through the plan once, handing out memory."""
        header = self.outline.header
        order = self._order()
        for index, spec in enumerate(header.inputs):
            self._note((spec.name, 0), Spot(Kind.INPUT, index), spec)
        last = self.last = self._last_reads(order)
        for number, item in enumerate(order):
            if isinstance(item, Crossing):
                self._copy(number, item)
            else:
                self._run(number, item)
            for where in [w for w in self.held if last.get(w, number) <= number]:
                pool, block = self.held.pop(where)
                self.pools[pool].give(block)
        self._hand_back()
        return self._finish()

    def _order(self) -> list[Crossing | int]:
        """Programs and copies in the order of submission: inputs late, results at once."""
        order: list[Crossing | int] = []
        for piece in range(len(self.headers)):
            order += [c for c in self.outline.crossings if c.after < 0 and c.before == piece]
            order.append(piece)
            order += [c for c in self.outline.crossings if c.after == piece]
        return order

    def _last_reads(self, order: Sequence[Crossing | int]) -> Mapping[_Where, int]:
        last: dict[_Where, int] = {}
        for number, item in enumerate(order):
            if isinstance(item, Crossing):
                last[item.value.name, item.source] = number
            else:
                place = self.outline.pieces[item].place
                last.update({(spec.name, place): number for spec in self.headers[item].inputs})
        return last

    # -- steps -----------------------------------------------------------------------------

    def _run(self, number: int, piece: int) -> None:
        header, place = self.headers[piece], self.outline.pieces[piece].place
        reads = tuple(self._read(number, (spec.name, place), spec, piece) for spec in header.inputs)
        after: set[int] = set()
        writes = tuple(self._write(number, (s.name, place), s, after) for s in header.outputs)
        step = Step(
            reads=reads,
            writes=writes,
            after=tuple(sorted(after)),
            piece=piece,
            places=(place, place),
        )
        self.steps.append(step)

    def _copy(self, number: int, item: Crossing) -> None:
        name, ends = item.value.name, (item.source, item.destination)
        spec = TensorSpec(name=name, type=item.value.type, memory=self._wanted(item))
        read = self._read(number, (name, item.source), spec, item.after)
        after: set[int] = set()
        write = self._write(number, (name, item.destination), spec, after)
        for until, block in [entry for entry in self.busy if entry[0] < number]:
            self.busy.remove((until, block))
            self._pool((_HOST, "")).give(block)
        block = self._pool((_HOST, "")).take(spec.type.nbytes)
        after.update(block.users)
        block.users = [number]
        self.busy.append((self.last.get((name, item.destination), number), block))
        self.stage_blocks.append(block)
        self.steps.append(
            Step(
                reads=(read,),
                writes=(write,),
                after=tuple(sorted(after)),
                value=name,
                places=ends,
                stage=len(self.stage_blocks) - 1,
            )
        )

    def _wanted(self, item: Crossing) -> str:
        """Returns the kind of memory that the first reader wants a value in."""
        if item.before < len(self.headers):
            for spec in self.headers[item.before].inputs:
                if spec.name == item.value.name:
                    return spec.memory
        return "device"

    def _hand_back(self) -> None:
        """Copies what the model gives back twice, or as it was fed."""
        for index, spec in enumerate(self.outline.header.outputs):
            where, target = (spec.name, 0), Spot(Kind.OUTPUT, index)
            source = self._read(len(self.steps), where, spec, len(self.headers))
            if source != target:
                step = Step(reads=(source,), writes=(target,), after=(), value=spec.name)
                self.steps.append(step)

    # -- memory ----------------------------------------------------------------------------

    def _read(self, number: int, where: _Where, spec: TensorSpec, reader: int) -> Spot:
        spot = self.spots.get(where)
        if spot is None:
            raise self._defect(f"piece {reader} reads {where[0]!r} on place {where[1]}: not there")
        have = self.types[where]
        if (have.type, have.layout) != (spec.type, spec.layout):
            raise self._defect(
                f"{where[0]!r} is {have.type} ({have.layout}), read as {spec.type} ({spec.layout})"
            )
        if where in self.held:
            self.held[where][1].users.append(number)
        return spot

    def _write(self, number: int, where: _Where, spec: TensorSpec, after: set[int]) -> Spot:
        if where[1] == 0 and where[0] in self.outputs:
            spot = Spot(Kind.OUTPUT, self.outputs[where[0]])
        else:
            key = (where[1], spec.memory)
            block = self._pool(key).take(spec.type.nbytes)
            after.update(block.users)
            block.users = [number]
            self.held[where] = (key, block)
            self.views.append((key, block, spec.type))
            spot = Spot(Kind.OWN, len(self.views) - 1)
        self._note(where, spot, spec)
        return spot

    def _note(self, where: _Where, spot: Spot, spec: TensorSpec) -> None:
        self.spots[where], self.types[where] = spot, spec

    def _pool(self, key: tuple[int, str]) -> _Blocks:
        return self.pools.setdefault(key, _Blocks())

    def _finish(self) -> Schedule:
        slots: list[Slot] = []
        numbers: dict[int, int] = {}
        for (place, memory), pool in self.pools.items():
            for block in pool.all if place != _HOST else ():
                numbers[id(block)] = len(slots)
                slots.append(Slot(place, memory, block.nbytes))
        stages = {id(block): block.nbytes for block in self._pool((_HOST, "")).all}
        rank = {key: index for index, key in enumerate(stages)}
        return Schedule(
            steps=tuple(self._ranked(step, rank) for step in self.steps),
            slots=tuple(slots),
            views=tuple((numbers[id(block)], type) for _, block, type in self.views),
            stages=tuple(stages.values()),
        )

    def _ranked(self, step: Step, rank: Mapping[int, int]) -> Step:
        if step.stage < 0:
            return step
        number = rank[id(self.stage_blocks[step.stage])]
        return replace(step, stage=number)

    def _defect(self, what: str) -> Internal:
        return Internal(f"the plan of the model is wrong: {what}", remedy="report it")


def _first_index(names: Iterable[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for index, name in enumerate(names):
        found.setdefault(name, index)
    return found
