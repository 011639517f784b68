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

from accelsdk.formats import BFLOAT16, FLOAT16, FLOAT32, Format, by_name, from_dtype
from accelsdk.graph.graph import CORE, Attribute, Node
from accelsdk.kernels.kernel import Kernel

if TYPE_CHECKING:
    from accelsdk_sim_card.arithmetic import Arithmetic

Array = NDArray[Any]
#: Returns the wrong kernel of a node, or None where the defect does not concern it.
Bind = Callable[[Node, "Arithmetic"], Kernel | None]
#: Says whether a defect concerns a node.
When = Callable[[Node], bool]
#: Makes the wrong result of a copy of the right one.
Change = Callable[[Array, Node], Array]
#: Replaces entries of a list of operands; it must not write into them.
Tamper = Callable[[list[Any], Node], None]


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


def shape_of(node: Node, index: int = 0) -> tuple[int, ...]:
    """Returns the shape of an operand, or that of a scalar if it was left out."""
    value = node.operand(index)
    return () if value is None else value.shape


def target_of(node: Node) -> Format | None:
    """Returns what a Cast or Quantize converts to; None of another op."""
    return by_name(str(node.attributes["to"])) if is_op(node, "Cast", "Quantize") else None


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


def rows(domain: str) -> Callable[[str, str, str, str, Bind], Defect]:
    """Returns the maker of rows whose ``breaks`` begin with the same words."""

    def row(name: str, summary: str, of: str, seen: str, bind: Bind) -> Defect:
        return Defect(name=name, summary=summary, breaks=f"{domain}{of}", seen=seen, bind=bind)

    return row


def always(node: Node) -> bool:
    """Every node is concerned."""
    return True


def misread(*ops: str, when: When = always, **changed: Attribute) -> Bind:
    """Returns the binding of ops whose attributes are decoded as these.

    Args:
        ops: Which ops are concerned.
        when: Which of their nodes are.
        changed: What the attributes are taken for.
    """

    def bind(node: Node, arithmetic: Arithmetic) -> Kernel | None:
        if not is_op(node, *ops) or not when(node):
            return None
        return arithmetic.sound(with_attributes(node, **changed))

    return bind


def results(change: Change, when: When, *ops: str) -> Bind:
    """Returns the binding of ops whose first result is tampered with.

    Args:
        change: Tampers with it.
        when: Which nodes are concerned.
        ops: Which ops are; empty for all.
    """

    def bind(node: Node, arithmetic: Arithmetic) -> Kernel | None:
        if (ops and not is_op(node, *ops)) or not when(node):
            return None
        return after(arithmetic.sound(node), lambda y: change(np.array(y), node))

    return bind


def operands(change: Tamper, when: When, *ops: str) -> Bind:
    """Returns the binding of ops whose operands are tampered with.

    Args:
        change: Tampers with them.
        when: Which nodes are concerned.
        ops: Which ops are.
    """

    def bind(node: Node, arithmetic: Arithmetic) -> Kernel | None:
        if not is_op(node, *ops) or not when(node):
            return None
        return before(arithmetic.sound(node), lambda found: change(found, node))

    return bind


def computed(function: Callable[..., Array], when: When, *ops: str) -> Bind:
    """Returns the binding of ops that another function of the operands computes.

    Its result is converted to the format of the node's.
    """

    def bind(node: Node, arithmetic: Arithmetic) -> Kernel | None:
        if not is_op(node, *ops) or not when(node):
            return None
        dtype = node.result.format.dtype
        return lambda *given: (np.asarray(function(*given)).astype(dtype),)

    return bind


def floats(node: Node) -> bool:
    """Concerns nodes whose first operand is floating point."""
    fmt = fmt_of(node)
    return fmt is not None and fmt.is_float


def signed(node: Node) -> bool:
    """Concerns nodes whose first operand has a sign."""
    fmt = fmt_of(node)
    return fmt is not None and fmt.is_signed


def unsigned(node: Node) -> bool:
    """Concerns nodes whose first operand is an unsigned integer of bytes."""
    fmt = fmt_of(node)
    return fmt is not None and fmt.is_integer and not fmt.is_signed and fmt.bits >= 8


def singles(node: Node) -> bool:
    """Concerns nodes whose first operand is float32."""
    return fmt_of(node) is FLOAT32


def halves(node: Node) -> bool:
    """Concerns nodes whose first operand is float16 or bfloat16."""
    return fmt_of(node) in (FLOAT16, BFLOAT16)


def of_format(*formats: Format) -> When:
    """Concerns nodes whose first operand is of one of some formats."""
    return lambda node: fmt_of(node) in formats


def nonempty(when: When) -> When:
    """Concerns those of the nodes whose result has elements."""
    return lambda node: node.result.type.count > 0 and when(node)


def ranked(least: int, most: int = 99) -> When:
    """Concerns nodes whose first operand has a number of axes from one to another."""
    return lambda node: least <= len(shape_of(node)) <= most


def longer(axis: int, count: int, operand: int | None = None) -> When:
    """Concerns nodes of which a tensor has more than so many indices along an axis.

    Args:
        axis: Counted from the first axis, or, if negative, from the last.
        count: How many are not too many.
        operand: Which tensor; None for the first result.
    """

    def when(node: Node) -> bool:
        shape = node.result.shape if operand is None else shape_of(node, operand)
        return -len(shape) <= axis < len(shape) and shape[axis] > count

    return when


def flipped(x: Array) -> Array:
    """Returns elements with one bit wrong: in the middle of the mantissa, or the lowest."""
    fmt = from_dtype(x.dtype)
    bit = fmt.mantissa_bits // 2 if fmt.is_float else 0
    codes = np.ascontiguousarray(x).view(f"u{x.dtype.itemsize}")
    return np.asarray((codes ^ codes.dtype.type(1 << bit)).view(x.dtype).reshape(x.shape))


def last_wrong(y: Array, node: Node) -> Array:
    """Returns a result whose last element has a wrong bit."""
    flat = y.reshape(-1)
    flat[-1:] = flipped(flat[-1:])
    return flat.reshape(y.shape)
