"""What a numerics defect is: a named, deliberate fault in one place of the arithmetic.

A defect works on the binding of a node. It looks at the node and returns a kernel that is
wrong in one way, made of the sound one by changing what goes in, what comes out, an
attribute, or the parameters of the engine; or None, where it does not concern the node.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.formats import Format
from accelsdk.graph.graph import CORE, Attribute, Node
from accelsdk.kernels.kernel import Kernel

if TYPE_CHECKING:
    from accelsdk_sim_card.arithmetic import Arithmetic

Array = NDArray[Any]
#: Returns the wrong kernel of a node, or None where the defect does not concern it.
Bind = Callable[[Node, "Arithmetic"], Kernel | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Defect:
    """One row of the catalogue.

    Attributes:
        name: As given by ``--option defect=``.
        summary: What is wrong, in one sentence.
        breaks: The ops, and formats where it matters, whose results it changes.
        seen: Where the like was seen, or what hardware habit it stands for.
        bind: Lays it around a node.
    """

    name: str
    summary: str
    breaks: str
    seen: str
    bind: Bind


def fmt_of(node: Node, index: int = 0) -> Format | None:
    """Returns the format of an operand, or None if it was left out."""
    value = node.operand(index)
    return None if value is None else value.format


def is_op(node: Node, *ops: str) -> bool:
    """Says whether a node is one of some core ops."""
    return node.domain == CORE and node.op in ops


def with_attributes(node: Node, **changed: Attribute) -> Node:
    """Returns the node with other attributes: a request that was decoded wrongly."""
    return replace(node, attributes=MappingProxyType({**node.attributes, **changed}))


def before(kernel: Kernel, change: Callable[[list[Array | None]], None]) -> Kernel:
    """Returns a kernel whose operands (a list, to be changed in place) are tampered with."""

    def broken(*operands: Array | None) -> tuple[Array, ...]:
        changed = list(operands)
        change(changed)
        return kernel(*changed)

    return broken


def after(kernel: Kernel, change: Callable[[Array], Array]) -> Kernel:
    """Returns a kernel whose first result is tampered with."""

    def broken(*operands: Array | None) -> tuple[Array, ...]:
        first, *rest = kernel(*operands)
        return (np.asarray(change(first)), *rest)

    return broken
