"""CumProd: a chain of products."""

from __future__ import annotations

from collections.abc import Sequence

from accelsdk.compiler.rules.common import axis_of, integer, integers, refuse, required, rule
from accelsdk.graph.graph import Node
from accelsdk.graph.rewrite import Builder, LoweringRule
from accelsdk.graph.types import Value

#: Longest chain of products of floats, a node each.
_LONGEST = 4096


def _cumprod(b: Builder, node: Node) -> Sequence[Value | None]:
    """Running products (ONNX CumProd-26).

    Integers, which wrap, are multiplied in log2(n) rounds of doubled reach (Hillis and Steele,
    "Data parallel algorithms", CACM 29(12), 1986). Floats are not: the product of items far
    from the start may overflow where the running product does not.
    """
    x = required(node, 0)
    given = integers(b, node, 1, "axis")
    if given is None or len(given) != 1 or x.type.rank == 0:
        refuse(node, f"it needs one axis of its operand {x.type}")
    axis = axis_of(node, given[0], x.type.rank)
    count, backwards = x.shape[axis], bool(integer(node, "reverse", 0))
    if integer(node, "exclusive", 0) and count:
        x = _shifted(b, x, axis, 1, backwards)
    if x.type.count == 0 or count == 1:
        return [b.op("Reshape", x, shape=x.shape)]
    if x.format.is_integer:
        reach = 1
        while reach < count:
            x = b.op("Mul", x, _shifted(b, x, axis, reach, backwards))
            reach *= 2
        return [x]
    if count > _LONGEST:
        refuse(node, f"its axis has {count:,} items; of floats, at most {_LONGEST:,} are chained")
    items = b.split(x, axis, (1,) * count)
    made = [items[-1] if backwards else items[0]]
    for item in reversed(items[:-1]) if backwards else items[1:]:
        made.append(b.op("Mul", made[-1], item))
    return [b.op("Concat", *(reversed(made) if backwards else made), axis=axis)]


def _shifted(b: Builder, x: Value, axis: int, by: int, backwards: bool) -> Value:
    """``x`` moved along ``axis`` by that many places, ones moving in."""
    pads = [0] * (2 * x.type.rank)
    first, last = axis, axis + x.type.rank
    pads[first], pads[last] = (-by, by) if backwards else (by, -by)
    return b.op("Pad", x, b.scalar(1, x.format), pads=tuple(pads))


RULES: tuple[LoweringRule, ...] = (rule("CumProd", _cumprod, "exclusive reverse"),)
