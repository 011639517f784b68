"""Random graphs by a seed, with the contents of their operands and every value they make."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from accelsdk.errors import AccelError
from accelsdk.formats import Format
from accelsdk.graph.graph import Graph, Node
from accelsdk.graph.ops import TABLE, bounded, filled, infer, lookup
from accelsdk.graph.rewrite import Builder, apply, decompositions
from accelsdk.graph.types import TensorType, Value
from accelsdk.kernels.api import run
from tests.fuzz.data import ROLES, Contents, Illegal, Mode, contents_of
from tests.graph.source import Source
from tests.graph.strategies import RECIPES

#: A node whose operands and results have more elements than this is not taken.
MOST_ELEMENTS = 2000
_MODES = (*(Mode.GRID,) * 9, *(Mode.MIXED,) * 7, *(Mode.SPECIAL,) * 4)
Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Case:
    """A graph, what it is fed, and every value as the kernels compute it.

    Attributes:
        seed: What it was made of.
        mode: What its operands look like.
        graph: Verified, core ops only.
        feeds: One array an input.
        values: One array for each value, inputs and constants included.
    """

    seed: int
    mode: Mode
    graph: Graph
    feeds: Arrays
    values: Arrays

    @classmethod
    def of(cls, graph: Graph, feeds: Arrays, seed: int = -1, mode: Mode = Mode.MIXED) -> Case:
        """The case of a graph; its values are computed now."""
        return cls(seed, mode, graph, feeds, evaluated(graph, feeds))


def evaluated(graph: Graph, feeds: Arrays) -> dict[str, np.ndarray]:
    """Every value of a graph, by the kernels."""
    values = {constant.name: constant.array() for constant in graph.constants}
    values |= {value.name: feeds[value.name] for value in graph.inputs}
    for node in graph.nodes:
        results = run(node, [None if v is None else values[v.name] for v in node.inputs])
        for value, array in zip(node.outputs, results, strict=True):
            if value is not None:
                values[value.name] = np.asarray(array)
    return values


class Dice(Source):
    """Draws by a seed; operands have contents, and nodes are computed as they are drawn."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        super().__init__(None, least=0 if self._dice.random() < 0.15 else 1)
        rng = np.random.default_rng(seed)
        self.mode = self.pick(_MODES)
        self.contents = Contents(rng, self.mode)
        self.values: dict[str, np.ndarray] = {}

    def int(self, low: int, high: int) -> int:
        return self._dice.randint(low, high)

    def pick(self, options):
        found = options if isinstance(options, (tuple, list)) else list(options)
        return found[int(self._dice.random() * len(found))]

    def order(self, count: int) -> tuple[int, ...]:
        return tuple(self._dice.sample(range(count), count))

    def shape(self, low: int = 0, high: int = 4) -> tuple[int, ...]:
        if high == 4 and self.int(0, 5) == 0:
            high = 5
        # mostly short, so that five axes stay small
        rank = self.int(low, high)
        most = 4 if rank < 4 else 3
        return tuple(1 if self.int(0, 4) == 0 else self.int(self.least, most) for _ in range(rank))

    def any(self, formats: Sequence[Format], low: int = 0, high: int = 4) -> Value:
        high = 5 if high == 4 else high
        fits = [v for v in self.pool if v.format in formats and low <= v.type.rank <= high]
        if fits and self.int(0, 2):
            return self.pick(fits[-4:])
        return self.new(self.pick(formats), self.shape(low, min(high, 4)))

    def new(self, format: Format, shape: Sequence[int]) -> Value:
        same = [v for v in self.pool if v.format == format and v.shape == tuple(shape)]
        if same and self.flag():
            return self.pick(same)
        return self.fresh(self.contents.general(TensorType(format, tuple(shape))), format)

    def fresh(self, array: np.ndarray, format: Format) -> Value:
        """A new input or constant with these contents."""
        if self.int(0, 2) == 0:
            value = self.builder.constant(array, format, name=f"c{len(self.pool)}")
        else:
            value = self.builder.input(f"x{len(self.inputs)}", format, array.shape)
            self.inputs.append(value)
        self.pool.append(value)
        self.values[value.name] = array
        return value

    def add(self, op: str) -> bool:
        """Draws a node and computes it; says whether it was taken."""
        operands, attributes, outputs = RECIPES[op](self)
        types = [None if v is None else v.type for v in operands]
        try:
            # Whoever draws an index draws it for one operand: it gets contents that fit.
            given = list(operands)
            every = filled(lookup(op), attributes, op)
            for index, value in enumerate(operands):
                if value is not None and (op, index) in ROLES:
                    array = contents_of(self.contents, op, index, types, every)
                    given[index] = self.fresh(np.asarray(array), value.format)
            made = infer(op, types, attributes, outputs, op)
        except Illegal:
            return False
        if sum(kind.count for kind in made) > MOST_ELEMENTS:
            return False
        results = self.builder.op(op, *given, outputs=outputs, **attributes)
        node = self.builder.nodes[-1]
        arrays = [None if v is None else self.values[v.name] for v in given]
        computed = run(node, arrays)
        unreadable = bounded(node)
        for value, array in zip(
            results if isinstance(results, tuple) else (results,), computed, strict=True
        ):
            self.values[value.name] = np.asarray(array)
            if value.name not in unreadable:
                self.pool.append(value)
        return True


def generate(seed: int, ops: Sequence[str] = tuple(TABLE)) -> Case:
    """Returns the case of a seed: 1 to 12 nodes, composites kept or decomposed."""
    dice = Dice(seed)
    wanted = dice.int(1, 12)
    tries = 0
    while len(dice.builder.nodes) < wanted and tries < 4 * wanted:
        tries += 1
        dice.add(dice.pick(ops))
    nodes = dice.builder.nodes
    read = {v.name for node in nodes for v in node.inputs if v is not None}
    results = [v for node in nodes for v in node.outputs if v is not None]
    outputs = [v for v in results if v.name not in read or dice.int(0, 7) == 0]
    if dice.int(0, 9) == 0:
        outputs.append(dice.pick(outputs or dice.inputs or dice.pool))
    if dice.int(0, 19) == 0 and dice.inputs:
        outputs.append(dice.pick(dice.inputs))
    kept = read | {v.name for v in outputs}
    inputs = [v for v in dice.inputs if v.name in kept or dice.int(0, 9) == 0]
    graph = dice.builder.graph(inputs, outputs, f"seed{seed}")
    if dice.int(0, 4) == 0:
        chosen = {node.name for node in nodes if dice.flag()}
        graph = apply(graph, decompositions(), keep=lambda node: node.name in chosen)
    feeds = {value.name: dice.values[value.name] for value in graph.inputs}
    return Case.of(graph, feeds, seed, dice.mode)


def rebuilt(graph: Graph, feeds: Arrays) -> Case | None:
    """The same nodes over inputs of other shapes; None if a rule forbids them."""
    builder = Builder()
    named: dict[str, Value] = {}
    inputs = []
    try:
        for value in graph.inputs:
            named[value.name] = builder.input(value.name, value.format, feeds[value.name].shape)
            inputs.append(named[value.name])
        for constant in graph.constants:
            named[constant.name] = builder.constant(
                constant.array(), constant.value.format, name=constant.name
            )
        for node in graph.nodes:
            _copied(builder, node, named)
        outputs = [named[value.name] for value in graph.outputs]
        return Case.of(builder.graph(inputs, outputs, graph.name), feeds)
    except (AccelError, ValueError, IndexError):
        return None


def _copied(builder: Builder, node: Node, named: dict[str, Value]) -> None:
    operands = [None if v is None else named[v.name] for v in node.inputs]
    made = builder.op(
        node.op, *operands, outputs=len(node.outputs), name=node.name, **node.attributes
    )
    for old, new in zip(node.outputs, made if isinstance(made, tuple) else (made,), strict=True):
        if old is not None:
            named[old.name] = new
