"""Which results may lie in the place of which operands.

Two ways, both facts about an op and no matter of how a kernel is written:

- a *view*: the result is the operand, element for element, in the same order;
- *in place*: element i of the result depends on no element of the operand but element i, so
  that a kernel which reads an element before it writes that element may write over it.

In place asks for equal types: the same format and shape, so that element i lies where element
i lay. What else the node reads must not lie in that place; the memory plan sees to that.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from accelsdk.graph.graph import CORE, Node
from accelsdk.graph.opdef import Family
from accelsdk.graph.ops import TABLE

_ALL = None
#: Operands that the first result of an op may overwrite; `_ALL` stands for every operand.
#: Besides elementwise ops: a format change or an affine of each element by parameters, and a
#: copy of the data with some of its elements replaced.
_IN_PLACE: Mapping[str, tuple[int, ...] | None] = MappingProxyType(
    {
        **{
            name: _ALL
            for name, row in TABLE.items()
            if row.family in (Family.ELEMENTWISE, Family.ACTIVATION)
        },
        **dict.fromkeys(
            ("Cast", "Quantize", "Dequantize", "Requantize", "BatchNormalization"), (0,)
        ),
        **dict.fromkeys(("ScatterElements", "ScatterND"), (0,)),
    }
)


def view_of(node: Node) -> int | None:
    """Returns the operand of which the first result of a node is a view, or None."""
    return 0 if node.domain == CORE and node.op == "Reshape" else None


def in_place_operands(node: Node) -> tuple[int, ...]:
    """Returns the operands that the first result of a node may overwrite, by index.

    Only operands of the result's type are told. A node of a vendor's own overwrites nothing.
    """
    if node.domain != CORE or node.op not in _IN_PLACE:
        return ()
    allowed = _IN_PLACE[node.op]
    kind = node.result.type
    return tuple(
        index
        for index, value in enumerate(node.inputs)
        if value is not None and value.type == kind and (allowed is _ALL or index in allowed)
    )
