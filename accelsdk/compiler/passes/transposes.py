"""Moves Transposes through ops that are blind to the order of axes, where that saves some.

A region of such ops is computed in another order of axes as a whole. At its borders Transposes
vanish (those that the new order undoes), and others are put in; the region is turned if the
bytes that Transposes move become fewer, or the bytes stay and the Transposes become fewer. Each
turn lowers that pair, so turning ends. Tried are whole connected regions, those that hang on
Transposes before them alone, and those that do so on Transposes after them.

The idea of a cost for each move is that of onnxruntime's transpose optimiser (MIT); there it is
local, and a region that branches and joins again is not seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from accelsdk.compiler.passes.blind import permuted_attributes, permuted_operands, rank_if_blind
from accelsdk.compiler.passes.common import ints, inverse, is_core, keeps_order, maker
from accelsdk.compiler.passes.manager import Pass
from accelsdk.compiler.passes.no_ops import NO_OPS
from accelsdk.graph.graph import CORE, Graph, Node
from accelsdk.graph.rewrite import Builder, remove_dead
from accelsdk.graph.types import TensorType, Value

Perm = tuple[int, ...]
#: Most orders of axes that are tried in one run: each takes a look at the whole graph.
_MOST_ORDERS = 12
#: A constant that others read too is turned without cost up to this many bytes.
_SMALL = 1 << 16


def _run(graph: Graph) -> Graph:
    given = graph
    for perm in _orders(graph):
        turned = _turned(graph, perm)
        if turned is not graph:
            graph = NO_OPS.run(turned)  # joins Transposes that have met
    return graph if graph is given else remove_dead(graph)


def _orders(graph: Graph) -> list[Perm]:
    """Returns the permutations of Transposes and their inverses, those of most bytes first.

    One that moves no axis is a copy of an input or of another output: no order undoes it.
    """
    found: Counter[Perm] = Counter()
    for node in graph.nodes:
        if is_core(node, "Transpose"):
            order = ints(node, "perm")
            for perm in {order, inverse(order)} - {tuple(range(len(order)))}:
                found[perm] += node.result.type.nbytes
    return [perm for perm, _ in sorted(found.items(), key=lambda i: (-i[1], i[0]))][:_MOST_ORDERS]


def _turned(graph: Graph, perm: Perm) -> Graph:
    search = _Search(graph, perm)
    for regions in (search.connected, search.after, search.before):
        chosen: set[str] = set()
        taken: set[str] = set()
        for region in regions():
            # What two regions on either side of one Transpose save together is less than both.
            beside = search.beside(region)
            if not beside & taken and search.saves(region):
                chosen |= region
                taken |= beside
        if chosen:
            return _Turning(search, frozenset(chosen)).run()
    return graph


@dataclass
class _Search:
    """Looks for regions whose values v are better held as v' with v = Transpose(v', perm)."""

    graph: Graph
    perm: Perm
    nodes: dict[str, Node] = field(init=False)
    moved: dict[str, frozenset[str]] = field(init=False)

    def __post_init__(self) -> None:
        rank = len(self.perm)
        self.nodes = {n.name: n for n in self.graph.nodes if rank_if_blind(n) == rank}
        self.moved = {
            name: frozenset(v.name for v in permuted_operands(node))
            for name, node in self.nodes.items()
        }

    def connected(self) -> Iterator[set[str]]:
        """Whole regions: every blind node that a value joins to another."""
        return self._parts(frozenset(self.nodes))

    def after(self) -> Iterator[set[str]]:
        """Regions that need no Transpose before them that is not there already."""
        held: set[str] = set()
        found = set()
        for node in self.graph.nodes:
            if node.name in self.nodes and all(
                v.name in held or not self._cost_before(v) for v in permuted_operands(node)
            ):
                found.add(node.name)
                held.update(v.name for v in node.outputs if v is not None)
        return self._parts(found)

    def before(self) -> Iterator[set[str]]:
        """Regions that need no Transpose after them that is not there already."""
        found: set[str] = set()
        for node in reversed(self.graph.nodes):
            if node.name in self.nodes and all(
                v.name not in self.graph.output_names
                and all(
                    reader.name in found or self._undoes(reader)
                    for reader in self.graph.consumers.get(v.name, ())
                )
                for v in node.outputs
                if v is not None
            ):
                found.add(node.name)
        return self._parts(found)

    def _parts(self, names: Iterable[str]) -> Iterator[set[str]]:
        """Cuts a set of blind nodes into connected ones that touch a Transpose of the order."""
        left = set(names)
        for start in [n for n in self.nodes if n in left]:
            if start not in left:
                continue
            left.discard(start)
            part, todo = {start}, [start]
            while todo:
                for near in self._near(self.nodes[todo.pop()]):
                    if near in left:
                        left.discard(near)
                        part.add(near)
                        todo.append(near)
            yield part

    def _near(self, node: Node) -> Iterator[str]:
        for value in permuted_operands(node):
            if (made := self.graph.producers.get(value.name)) is not None:
                yield made.name
        for result in node.outputs:
            for reader in self.graph.consumers.get(result.name, ()) if result else ():
                if result and result.name in self.moved.get(reader.name, ()):
                    yield reader.name

    def beside(self, region: set[str]) -> set[str]:
        """Returns the Transposes that a region reads, and those that read it."""
        found: set[str] = set()
        for node in (self.nodes[name] for name in region):
            makers = (maker(self.graph, v, "Transpose") for v in permuted_operands(node))
            found.update(before.name for before in makers if before is not None)
            for value in node.outputs:
                readers = self.graph.consumers.get(value.name, ()) if value else ()
                found.update(reader.name for reader in readers if is_core(reader, "Transpose"))
        return found

    def saves(self, region: set[str]) -> bool:
        """Says whether turning a region leaves fewer bytes, or else Transposes, to move."""
        removed: list[int] = []
        added: list[int] = []
        nodes = [self.nodes[name] for name in region]
        operands = {v.name: v for node in nodes for v in permuted_operands(node)}
        made = {v.name: v for node in nodes for v in node.outputs if v is not None}
        for value in operands.values():
            if value.name not in made:
                alone = self._read_within(value, region)
                added += [value.type.nbytes] * self._cost_before(value, alone)
                if alone and self._undone(value):
                    removed.append(value.type.nbytes)
        for value in made.values():
            if value.type.count == 1:
                continue
            readers = [n for n in self.graph.consumers.get(value.name, ()) if n.name not in region]
            removed += [value.type.nbytes for reader in readers if self._undoes(reader)]
            if value.name in self.graph.output_names or not all(
                is_core(n, "Transpose") for n in readers
            ):
                added.append(value.type.nbytes)
        return (sum(added), len(added)) < (sum(removed), len(removed))

    def _read_within(self, value: Value, region: set[str]) -> bool:
        readers = self.graph.consumers.get(value.name, ())
        return value.name not in self.graph.output_names and all(n.name in region for n in readers)

    def _undone(self, value: Value) -> bool:
        """Whether a value is a Transpose that the order undoes."""
        node = maker(self.graph, value, "Transpose")
        return node is not None and ints(node, "perm") == self.perm

    def _undoes(self, reader: Node) -> bool:
        return is_core(reader, "Transpose") and ints(reader, "perm") == inverse(self.perm)

    def _cost_before(self, value: Value, alone: bool = False) -> bool:
        """Whether turning an operand from outside takes a Transpose that was not there."""
        shape = (1,) * (len(self.perm) - value.type.rank) + value.shape
        if value.type.count == 1 or self._undone(value):
            return False
        if keeps_order(shape, inverse(self.perm)):
            return False
        if value.name in self.graph.constant_by_name:
            return not alone and value.type.nbytes > _SMALL
        return not (alone and maker(self.graph, value, "Transpose"))


class _Turning:
    """Rewrites a graph with regions in the new order."""

    def __init__(self, search: _Search, region: frozenset[str]) -> None:
        self.search, self.region = search, region
        self.graph, self.perm = search.graph, search.perm
        self.back = inverse(search.perm)
        self.builder = Builder.of(search.graph)
        self.turned: dict[str, Value] = {}
        self.nodes: list[Node] = []

    def run(self) -> Graph:
        for node in self.graph.nodes:
            if node.name in self.region:
                self._turn(node)
            else:
                self.nodes.append(node)
        return remove_dead(replace(self.graph, nodes=tuple(self.nodes)))

    def _turn(self, node: Node) -> None:
        moved = self.search.moved[node.name]
        inputs = tuple(
            self._operand(node, v) if v is not None and v.name in moved else v for v in node.inputs
        )
        results: list[Value | None] = []
        backs: list[Node] = []
        for value in node.outputs:
            if value is None:
                results.append(None)
                continue
            shape = tuple(value.shape[axis] for axis in self.back)
            name = self.builder.fresh(f"{value.name}/turned")
            made = self.turned[value.name] = Value(name, TensorType(value.format, shape))
            results.append(made)
            readers = self.graph.consumers.get(value.name, ())
            if value.name in self.graph.output_names or any(
                n.name not in self.region or value.name not in self.search.moved[n.name]
                for n in readers
            ):
                backs.append(self._transpose(node, made, value, self.perm))
        attributes = permuted_attributes(node, self.perm)
        self.nodes.append(
            replace(node, inputs=inputs, outputs=tuple(results), attributes=attributes)
        )
        self.nodes += backs

    def _transpose(self, node: Node, x: Value, y: Value, perm: Perm) -> Node:
        name = self.builder.fresh(f"{node.name}/order")
        return replace(
            node,
            op="Transpose",
            domain=CORE,
            inputs=(x,),
            outputs=(y,),
            name=name,
            attributes={"perm": perm},
        )

    def _operand(self, node: Node, value: Value) -> Value | None:
        """Returns an operand in the new order; made once, where it is first read."""
        if value.name in self.turned:
            return self.turned[value.name]
        before = maker(self.graph, value, "Transpose")
        if before is not None and ints(before, "perm") == self.perm:
            return before.inputs[0]
        full = (1,) * (len(self.perm) - value.type.rank) + value.shape
        source = value
        if full != value.shape:
            name = self.builder.fresh(f"{node.name}/full")
            source = Value(f"{name}:0", TensorType(value.format, full))
            self.nodes.append(
                replace(
                    node,
                    op="Reshape",
                    inputs=(value,),
                    outputs=(source,),
                    name=name,
                    attributes={"shape": full},
                )
            )
        shape = tuple(full[axis] for axis in self.back)
        name = self.builder.fresh(f"{value.name}/turned")
        made = self.turned[value.name] = Value(name, TensorType(value.format, shape))
        self.nodes.append(self._transpose(node, source, made, self.back))
        return made


TRANSPOSES = Pass(
    name="transposes",
    changes="moves Transpose through elementwise ops, Cast, Quantize, Dequantize, ReduceMax, "
    "ReduceMin, ArgMax, ArgMin, Concat, Split, Slice, Pad, Tile and Expand, and cancels those "
    "that meet their inverse, where that leaves fewer bytes or fewer Transposes; bits stay",
    run=_run,
)
