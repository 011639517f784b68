"""Moves data as codes: Dequantize goes behind movement, Quantize before it.

With one scale for all, each element of ``Dequantize(q)`` is a function of one element of q, so
that moving before or after comes to the same; bits stay. So it does for

- MaxPool, which picks elements by an order that Dequantize with a scale above 0 keeps, and whose
  padding loses to every code (each window has an element, if pads are less than the kernel);
- Relu: ``max((q - z) s, 0)`` is ``(max(q, z) - z) s``, and just ``(q - z) s`` if no code is
  below z;
- Pad with 0, which is the code z: ``(z - z) s = 0``, and ``round(0 / s) + z = z``.

Dequantize moves only if nobody else reads what it makes, and if that is no fewer elements than
it makes afterwards (but for Pad). Both directions make the movement one of narrower items, and
none undoes the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from accelsdk.compiler.passes.affine import Affine
from accelsdk.compiler.passes.common import ints, is_core, maker, number, only_for, origins
from accelsdk.compiler.passes.manager import Pass
from accelsdk.graph.graph import Array, Graph, Node
from accelsdk.graph.ops import attribute
from accelsdk.graph.rewrite import Builder, remove_dead
from accelsdk.graph.types import TensorType, Value

_MOVES = (
    *("Reshape", "Transpose", "Concat", "Slice", "Split", "Gather", "GatherND"),
    *("GatherElements", "Expand", "Tile", "Pad", "MaxPool", "Relu"),
)
#: What may follow Quantize instead of going before it: movement that leaves nothing out.
_KEEPS_ALL = ("Reshape", "Transpose", "Concat", "Expand", "Tile", "Pad")


def _run(graph: Graph) -> Graph:
    work = _Moving(graph)
    for node in graph.nodes:
        if is_core(node, *_MOVES):
            work.dequantize_later(node)
        elif is_core(node, "Quantize"):
            work.quantize_earlier(node)
    if not work.instead:
        return graph
    nodes = tuple(new for node in graph.nodes for new in work.instead.get(node.name, (node,)))
    constants = (*graph.constants, *work.builder.constants)
    return remove_dead(replace(graph, nodes=nodes, constants=constants))


class _Moving:
    """One run: finds what moves, and what stands in its place then."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.builder = Builder.of(graph)
        self.instead: dict[str, list[Node]] = {}
        self.taken: set[str] = set()  # nodes that changed in this run

    def dequantize_later(self, move: Node) -> None:
        """Moves the Dequantize nodes before a movement behind it."""
        data = _data(move)
        before = [maker(self.graph, value, "Dequantize") for value in data]
        first = before[0] if before else None
        if first is None or not all(only_for(self.graph, value, move) for value in data):
            return
        affine = Affine.of(self.graph, first)
        makers = [node for node in before if node is not None]
        if not affine.per_tensor or len(makers) != len(data) or self._busy(move, *makers):
            return
        if len({Affine.of(self.graph, node).key() for node in makers}) != 1:
            return
        count = sum(value.type.count for value in move.outputs if value is not None)
        grows = count > sum(value.type.count for value in data)
        if (grows and move.op != "Pad") or not self._commutes(move, affine, first):
            return
        codes = [node.inputs[0] for node in makers]
        moved = self._moved(move, affine, codes)
        late: list[Node] = []
        for inner, outer in zip(moved[-1].outputs if moved else codes, move.outputs, strict=True):
            if outer is not None:
                name = self.builder.fresh(first.name) if late else first.name
                inputs = (inner, *first.inputs[1:])
                origin = first.origin if moved else origins((first, move))
                made = replace(first, inputs=inputs, outputs=(outer,), name=name, origin=origin)
                late.append(made)
        self._put(move, [*moved, *late], makers)

    def quantize_earlier(self, quantize: Node) -> None:
        """Moves a Quantize before the movement whose result it alone reads."""
        value = quantize.inputs[0]
        move = maker(self.graph, value, *_KEEPS_ALL)
        affine = Affine.of(self.graph, quantize)
        if value is None or move is None or not only_for(self.graph, value, quantize):
            return
        data = _data(move)
        if sum(v.type.count for v in data) > value.type.count or not affine.per_tensor:
            return
        if self._busy(move, quantize) or not self._commutes(move, affine, quantize):
            return
        early: list[Node] = []
        codes: list[Value | None] = []
        for item in dict.fromkeys(data):
            name = self.builder.fresh(quantize.name) if early else quantize.name
            made = Value(self.builder.fresh(f"{name}/codes"), TensorType(affine.codes, item.shape))
            inputs = (item, *quantize.inputs[1:])
            early.append(replace(quantize, inputs=inputs, outputs=(made,), name=name))
        found = {node.inputs[0]: node.result for node in early}
        codes = [found[item] for item in data]
        (moved,) = self._moved(move, affine, codes)
        self._put(move, [], [quantize])
        self.instead[quantize.name] = [*early, replace(moved, outputs=quantize.outputs)]

    def _put(self, move: Node, nodes: list[Node], gone: Sequence[Node]) -> None:
        for node in gone:
            self.instead[node.name] = []
        self.instead[move.name] = nodes
        self.taken.update(node.name for node in (move, *gone))

    def _busy(self, *nodes: Node) -> bool:
        return any(node.name in self.taken for node in nodes)

    def _commutes(self, move: Node, affine: Affine, given: Node) -> bool:
        """Says whether a movement comes to the same on codes."""
        above_zero = affine.scales() is not None and affine.offset() is not None
        match move.op:
            case "MaxPool":
                inside = all(
                    pad < ints(move, "kernel_shape")[i % (len(ints(move, "pads")) // 2)]
                    for i, pad in enumerate(ints(move, "pads"))
                )
                plain = len(move.outputs) == 1 or move.outputs[1] is None
                plain = plain and set(ints(move, "dilations")) == {1}
                plain = plain and not number(move, "ceil_mode")
                return above_zero and plain and inside and affine.codes.bits == 8
            case "Relu":
                return above_zero and affine.codes.bits in (8, 16)
            case "Pad" if attribute(move, "mode") == "constant":
                return above_zero and self._pads_with_zero(move)
        return True

    def _pads_with_zero(self, move: Node) -> bool:
        fill = move.operand(1)
        known = self.graph.constant_by_name.get(fill.name) if fill is not None else None
        if fill is None:
            return True
        return known is not None and not np.asarray(known.array()).view(np.uint8).any()

    def _moved(self, move: Node, affine: Affine, codes: Sequence[Value | None]) -> list[Node]:
        """Returns the movement on codes; nothing if codes stay as they are."""
        results = tuple(
            v and Value(self.builder.fresh(f"{v.name}/codes"), TensorType(affine.codes, v.shape))
            for v in move.outputs
        )
        offset = affine.offset()
        if move.op == "Relu" and offset is not None:
            if (offset == int(affine.codes.min)).all():
                return []
            zero = self._zero(offset, affine)
            made = replace(move, op="Max", inputs=(codes[0], zero), outputs=results)
            return [replace(made, attributes={})]
        if move.op == "Pad" and attribute(move, "mode") == "constant" and offset is not None:
            inputs = (codes[0], self._zero(offset, affine))
            return [replace(move, inputs=inputs, outputs=results)]
        rest = () if move.op == "Concat" else move.inputs[1:]
        return [replace(move, inputs=(*codes, *rest), outputs=results)]

    def _zero(self, offset: Array, affine: Affine) -> Value:
        return self.builder.constant(offset.reshape(()), affine.codes)


def _data(move: Node) -> list[Value]:
    """Returns the operands that a movement moves."""
    given = move.inputs if move.op == "Concat" else move.inputs[:1]
    return [value for value in given if value is not None]


MOVE_CODES = Pass(
    name="move-codes",
    changes="moves Dequantize with one scale behind movement, MaxPool and Relu, and Quantize "
    "before movement, so that codes are moved instead of what they stand for; bits stay",
    run=_run,
)
