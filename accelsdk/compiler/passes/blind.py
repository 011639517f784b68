"""Ops that compute the same when the axes of all that they touch are permuted.

With ``y = op(x)`` and ``x = Transpose(x', perm)``, such an op has attributes for which
``y = Transpose(op'(x'), perm)``: axis a of x is axis perm[a] of x'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from accelsdk.compiler.passes.common import ints, inverse, number
from accelsdk.graph.graph import CORE, Attribute, Node
from accelsdk.graph.opdef import Family
from accelsdk.graph.ops import TABLE
from accelsdk.graph.types import Value

_ELEMENTWISE = frozenset(
    {n for n, row in TABLE.items() if row.family in (Family.ELEMENTWISE, Family.ACTIVATION)}
    | {"Cast"}
)
_SCALED = frozenset({"Quantize", "Dequantize"})
#: Reductions whose bits follow no order of addition.
_EXTREMES = frozenset({"ReduceMax", "ReduceMin"})
_POSITIONS = frozenset({"ArgMax", "ArgMin"})
_BY_AXIS = frozenset({"Concat", "Split"})
_BLIND = _ELEMENTWISE | _SCALED | _EXTREMES | _POSITIONS | _BY_AXIS
_BLIND |= {"Slice", "Pad", "Tile", "Expand"}
#: Ops all of whose operands are permuted; of others it is the first alone.
_ALL_OPERANDS = _ELEMENTWISE | {"Concat"}


def rank_if_blind(node: Node) -> int:
    """Returns the rank in which a node is blind to the order of axes, or 0 if it is not."""
    if node.domain != CORE or node.op not in _BLIND or not node.inputs:
        return 0
    first = node.inputs[0]
    if first is None or node.outputs[0] is None:
        return 0
    rank = node.outputs[0].type.rank
    if node.op in _SCALED and number(node, "block_size"):
        return 0
    if node.op not in _ELEMENTWISE | {"Expand"} and first.type.rank != rank:
        return 0  # a reduction that drops its axes
    return rank if rank > 1 else 0


def permuted_operands(node: Node) -> tuple[Value, ...]:
    """Returns the operands that are permuted with the results; one item is in any order."""
    taken = node.inputs if node.op in _ALL_OPERANDS else node.inputs[:1]
    return tuple(v for v in taken if v is not None and v.type.count != 1)


def permuted_attributes(node: Node, perm: Sequence[int]) -> Mapping[str, Attribute]:
    """Returns the attributes of the node that computes on permuted operands."""
    given = dict(node.attributes)
    rank = len(perm)
    if node.op in _BY_AXIS | _SCALED | _POSITIONS:
        return {**given, "axis": perm[number(node, "axis") % rank]}
    if node.op in _EXTREMES or node.op == "Slice":
        return {**given, "axes": tuple(perm[axis % rank] for axis in ints(node, "axes"))}
    back = inverse(perm)
    if node.op == "Pad":
        pads = ints(node, "pads")
        return {**given, "pads": tuple(pads[end + axis] for end in (0, rank) for axis in back)}
    if node.op == "Tile":
        return {**given, "repeats": tuple(ints(node, "repeats")[axis] for axis in back)}
    if node.op == "Expand":
        return {**given, "shape": tuple(node.result.shape[axis] for axis in back)}
    return given
