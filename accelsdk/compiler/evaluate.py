"""Computing constant subgraphs while compiling.

One rule decides what is folded, so that quantised weights stay quantised: results may not
take more bytes than the constants they come from, unless they are small, and stored low-bit
tensors are never widened, small or not. Cast(int8 weights) to float32, Dequantize of weights and
Expand are thus left for execution; Transpose of int8 weights, shape arithmetic and small tables
are folded. Results of data-dependent size are folded whatever they take: once they are constant,
all that reads them is static.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from accelsdk.formats import Kind
from accelsdk.graph.graph import CORE, Array, Constant, Graph, Node
from accelsdk.graph.ops import bounded
from accelsdk.kernels.api import evaluate

#: Results of up to this many bytes are folded whatever they come from.
SMALL = 4096
#: Results of more bytes than this are computed when they are asked for, each time, so that
#: compiling does not hold what it folds.
_LARGE = 1 << 20
_DEQUANTIZING = frozenset({"Dequantize", "DequantizeBlock"})


def worth_folding(sources: Sequence[Constant], result_bytes: int) -> bool:
    """Says whether constant results should replace their computation.

    Args:
        sources: The constants that they come from.
        result_bytes: Bytes of all results, packed.
    """
    return result_bytes <= max(SMALL, sum(c.value.type.nbytes for c in sources))


def fold(graph: Graph) -> Mapping[str, Constant] | None:
    """Computes a graph whose inputs are all constant, if that is worth it.

    Returns:
        A constant for each output, by name, of its real shape; None if an operand is not
        constant, or if it is not worth folding.
    """
    if graph.inputs or any(map(_widens, graph.nodes)):
        return None
    by_data = frozenset[str]().union(*map(bounded, graph.nodes))
    nbytes = sum(v.type.nbytes for v in graph.outputs if v.name not in by_data)
    if not worth_folding(graph.constants, nbytes):
        return None
    if nbytes > _LARGE and not by_data:
        return {v.name: Constant(v, partial(_computed, graph, v.name)) for v in graph.outputs}
    results = evaluate(graph, {})
    return {
        value.name: Constant.of(value.name, results[value.name].copy(), value.format)
        for value in graph.outputs
    }


def _computed(graph: Graph, name: str) -> Array:
    return evaluate(graph, {})[name].copy()


def _widens(node: Node) -> bool:
    """Says whether a node turns stored low-bit numbers into wider ones."""
    value = node.inputs[0] if node.inputs else None
    if node.domain != CORE or value is None or value.type.count == 1:
        return False
    if node.op in _DEQUANTIZING:
        return True
    low = value.format.bits <= 8 and value.format.kind is not Kind.BOOL and value.type.rank > 1
    return node.op == "Cast" and low and node.result.format.bits > value.format.bits
