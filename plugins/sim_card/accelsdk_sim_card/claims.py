"""Which nodes the card runs as one region: a matrix operation and what is done on its way out.

A region is a contraction, the Dequantize nodes in front of it, and after it, each at most once
and in this order: Cast, a scale, a bias, an activation, and Quantize or Requantize. Every value
inside is read inside alone, so all paths out lead through the last node: a region is convex,
and no two of them can wait for each other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from accelsdk.backend.backend import NATIVE, Claim
from accelsdk.backend.info import Roofline
from accelsdk.formats import BFLOAT16, FLOAT16, FLOAT32, Format
from accelsdk.graph.graph import Graph, Node
from accelsdk.graph.ops import lookup
from accelsdk.graph.types import Value

_CONTRACTIONS = frozenset(
    {
        *("MatMul", "Gemm", "Conv", "ConvTranspose"),
        *("MatMulInteger", "ConvInteger", "ScaledMatMul"),
    }
)
_BEFORE = frozenset({"Dequantize", "DequantizeBlock"})
_ACTIVATIONS = frozenset(
    {
        *("Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "ThresholdedRelu", "Clip"),
        *("Sigmoid", "HardSigmoid", "Tanh", "HardSwish", "Swish", "Gelu", "Mish"),
        *("Softplus", "Softsign"),
    }
)
#: What may follow a contraction, in this order, and what it is called in the region's name.
_AFTER: tuple[tuple[frozenset[str], str], ...] = (
    (frozenset({"Cast"}), ""),
    (frozenset({"Mul"}), "scale"),
    (frozenset({"Add"}), "bias"),
    (_ACTIVATIONS, ""),
    (frozenset({"Quantize", "QuantizeBlock", "Requantize"}), ""),
)
#: With an operand besides the one that comes down the chain, which must be broadcast.
_BROADCAST = frozenset({"Mul", "Add"})


@dataclass(slots=True)
class _Region:
    """Nodes of a region, in execution order at the end, and the parts of its name."""

    nodes: list[Node]
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)


def regions(graph: Graph, native: Callable[[Node], bool], roofline: Roofline | None) -> list[Claim]:
    """Returns the regions of two nodes or more that the card runs.

    Args:
        graph: The graph.
        native: Whether the card runs a node natively; others are in no region.
        roofline: Peak rates, for the regions' cost.
    """
    finder = _Finder(graph, native)
    order = {node.name: number for number, node in enumerate(graph.nodes)}
    claims = []
    for node in graph.nodes:
        found = finder.region(node)
        if found is None:
            continue
        found.nodes.sort(key=lambda member: order[member.name])
        claims.append(
            Claim(
                nodes=tuple(member.name for member in found.nodes),
                support=NATIVE,
                name="+".join((*found.before, node.op.lower(), *found.after)),
                cost=None if roofline is None else _seconds(node, found.nodes, roofline),
            )
        )
    return claims


class _Finder:
    """Finds regions one after the other; a node goes to the first that wants it."""

    def __init__(self, graph: Graph, native: Callable[[Node], bool]) -> None:
        self._graph, self._native = graph, native
        self._outputs = {value.name for value in graph.outputs}
        self._taken: set[str] = set()

    def region(self, anchor: Node) -> _Region | None:
        """Returns the region around a contraction, or None if it stands alone."""
        if anchor.op not in _CONTRACTIONS or not self._free(anchor):
            return None
        found = _Region([anchor])
        self._take_before(anchor, found)
        last = anchor
        for ops, name in _AFTER:
            reader = self._only_reader(last.result) if len(last.outputs) == 1 else None
            if reader is None or reader.op not in ops or not self._fits(reader, last.result):
                continue
            found.nodes.append(reader)
            found.after.append(name or reader.op.lower())
            self._take_before(reader, found)
            last = reader
        if len(found.nodes) == 1:
            return None
        self._taken.update(node.name for node in found.nodes)
        return found

    def _free(self, node: Node) -> bool:
        return node.name not in self._taken and self._native(node)

    def _only_reader(self, value: Value) -> Node | None:
        """Returns the one node that reads a value which nobody else sees."""
        readers = self._graph.consumers.get(value.name, ())
        return readers[0] if len(readers) == 1 and value.name not in self._outputs else None

    def _fits(self, node: Node, chain: Value) -> bool:
        if not self._free(node) or node.operand(0) is None:
            return False
        operands = [value for value in node.inputs if value is not None]
        if node.op not in _BROADCAST:
            return operands[0] == chain and chain not in operands[1:]
        beside = [value for value in operands if value != chain]
        broadcast = len(beside) == 1 and beside[0].type.count < chain.type.count
        return broadcast and chain.shape == node.result.shape

    def _take_before(self, node: Node, found: _Region) -> None:
        """Adds the Dequantize nodes whose results ``node`` alone reads."""
        for value in dict.fromkeys(node.inputs):
            source = self._graph.producers.get(value.name) if value is not None else None
            if value is None or source is None or source.op not in _BEFORE:
                continue
            if self._free(source) and self._only_reader(value) is node:
                found.nodes.append(source)
                if source.op.lower() not in found.before:
                    found.before.append(source.op.lower())


def _seconds(anchor: Node, nodes: Sequence[Node], roofline: Roofline) -> float:
    """Estimates a region's time: its operations, or the bytes that cross its border."""
    operations = sum(lookup(node).work(node).operations for node in nodes)
    first = anchor.operand(0)
    peak = roofline.operations[_rate(first.format if first is not None else FLOAT32)]
    return max(operations / peak, _border(nodes) / roofline.memory_bandwidth)


def _border(nodes: Collection[Node]) -> int:
    """Returns the bytes that a region reads and writes; what stays inside is never stored."""
    made = {value for node in nodes for value in node.outputs if value is not None}
    read = {value for node in nodes for value in node.inputs if value is not None}
    return sum(value.type.nbytes for value in made ^ read)


def _rate(kind: Format) -> str:
    """Returns the name of the peak rate of the matrix engine on a format."""
    if kind.is_integer:
        return "int8"
    if kind in (FLOAT16, BFLOAT16):
        return "float16"
    return "float32" if kind == FLOAT32 else "float8_e4m3fn"
