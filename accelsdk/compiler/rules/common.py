"""What the lowering rules are written with.

A rule rewrites one ONNX node into core ops through a `Builder`. It may look at operand types,
attributes and the contents of constant operands, never at the types of its own results: the
importer applies it to find them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import NoReturn

import numpy as np

from accelsdk.errors import UnsupportedGraph
from accelsdk.formats import INT64
from accelsdk.graph.graph import ONNX, Array, Attribute, Node
from accelsdk.graph.rewrite import Builder, LoweringRule
from accelsdk.graph.types import Shape, Value

Rewrite = Callable[[Builder, Node], Sequence[Value | None]]


def rule(op: str, rewrite: Rewrite, attributes: str = "", domain: str = ONNX) -> LoweringRule:
    """Returns a rule that refuses nodes with attributes it does not know.

    Args:
        op: The ONNX op.
        rewrite: Emits core ops and returns the results in order.
        attributes: Names of all attributes that ``rewrite`` heeds.
        domain: Domain of the op.
    """
    known = frozenset(attributes.split())

    def checked(b: Builder, node: Node) -> Sequence[Value | None]:
        for name in node.attributes:
            if name not in known:
                refuse(node, f"attribute {name!r} is not supported")
        return rewrite(b, node)

    return LoweringRule(domain=domain, op=op, rewrite=checked)


def refuse(node: Node, reason: str) -> NoReturn:
    """Raises UnsupportedGraph that names the node, its op and the reason."""
    text = f"node {node.name!r} ({node.op}): {reason}"
    raise UnsupportedGraph("the model cannot be lowered to core ops", reasons=[text])


def refuse_varying(node: Node, value: Value, what: str) -> NoReturn:
    """Raises UnsupportedGraph because ``value`` would have to be constant, and is not."""
    text = f"node {node.name!r} ({node.op}): {what} is computed at run time; it must be constant"
    raise UnsupportedGraph(
        "the model cannot be lowered to core ops",
        reasons=[text],
        not_constant=[value.name],
        remedy="bind the model's inputs that it depends on (input_values)",
    )


def required(node: Node, index: int) -> Value:
    """Returns an operand that must be there."""
    value = node.operand(index)
    if value is None:
        refuse(node, f"operand {index} is missing")
    return value


def constant(b: Builder, node: Node, index: int, what: str) -> Array | None:
    """Returns the contents of an operand that must be constant; None if it was left out."""
    value = node.operand(index)
    if value is None:
        return None
    array = b.known(value)
    if array is None:
        refuse_varying(node, value, f"its {what} (operand {index})")
    return array


def integers(b: Builder, node: Node, index: int, name: str) -> tuple[int, ...] | None:
    """Returns integers that are an attribute (older opsets) or a constant operand."""
    given = node.attributes.get(name)
    if isinstance(given, tuple):
        return tuple(int(v) for v in given)
    if given is not None:
        return (int(given),)
    array = constant(b, node, index, name)
    return None if array is None else tuple(int(v) for v in array.reshape(-1).tolist())


def integer(node: Node, name: str, default: int) -> int:
    """Returns an integer attribute."""
    value = node.attributes.get(name, default)
    if not isinstance(value, int):
        refuse(node, f"attribute {name!r} is {value!r} instead of an integer")
    return int(value)


def real(node: Node, name: str, default: float) -> float:
    """Returns a float attribute; like all of ONNX's, the default is a float32 number."""
    value = node.attributes.get(name, float(np.float32(default)))
    if not isinstance(value, (int, float)):
        refuse(node, f"attribute {name!r} is {value!r} instead of a number")
    return float(value)


def text(node: Node, name: str, default: str, choices: Sequence[str] = ()) -> str:
    """Returns a string attribute, checked against ``choices`` if there are any."""
    value = node.attributes.get(name, default)
    if not isinstance(value, str) or (choices and value not in choices):
        refuse(node, f"attribute {name!r} is {value!r}; supported: {', '.join(choices)}")
    return value


def spatial(node: Node, name: str, count: int, default: int) -> tuple[int, ...]:
    """Returns an attribute of one integer a spatial dimension."""
    value = node.attributes.get(name)
    if value is None:
        return (default,) * count
    if not isinstance(value, tuple) or len(value) != count:
        refuse(node, f"attribute {name!r} is {value!r}; it needs {count} integers")
    return tuple(int(v) for v in value)


def axis_of(node: Node, axis: int, rank: int) -> int:
    """Returns an axis as a non-negative number, or refuses one out of range."""
    if not -rank <= axis < max(rank, 1):
        refuse(node, f"axis {axis} is out of range for rank {rank}")
    return axis % rank if rank else 0


def axes_of(node: Node, axes: Sequence[int], rank: int) -> tuple[int, ...]:
    """Returns distinct axes as sorted non-negative numbers."""
    found = tuple(sorted({axis_of(node, axis, rank) for axis in axes}))
    if len(found) != len(axes):
        refuse(node, f"axes {tuple(axes)} repeat an axis")
    return found


#: Rules make no constants of more elements: a model of a few bytes could ask for terabytes.
_MOST_ELEMENTS = 1 << 26


def affordable(node: Node, *extents: int) -> None:
    """Refuses a node whose constant, of the extents, would be too large to carry."""
    if prod(extents) > _MOST_ELEMENTS:
        refuse(
            node,
            f"it needs a constant of {prod(extents):,} elements; at most "
            f"{_MOST_ELEMENTS:,} are supported",
        )


def only_result(node: Node, count: int = 1) -> None:
    """Refuses a node of which someone reads results past the first ``count``."""
    if any(value is not None for value in node.outputs[count:]):
        refuse(node, f"only its first {count} result(s) are supported")


def int64s(b: Builder, numbers: Sequence[int]) -> Value:
    """Returns a one-dimensional int64 constant."""
    return b.constant(np.array(list(numbers), np.int64), INT64)


def ops(
    b: Builder, name: str, *inputs: Value | None, outputs: int, **attributes: Attribute
) -> tuple[Value, ...]:
    """Emits a core op that has several results."""
    result = b.op(name, *inputs, outputs=outputs, name=None, **attributes)
    return (result,) if isinstance(result, Value) else tuple(result)


def picked(node: Node, *names: str) -> dict[str, Attribute]:
    """Returns those attributes of a node that it carries."""
    return {name: node.attributes[name] for name in names if name in node.attributes}


def reshaped(b: Builder, value: Value, shape: Shape) -> Value:
    """Returns a value in another shape."""
    return value if value.shape == shape else b.op("Reshape", value, shape=shape)
