"""What the walk of a model knows at a place: names, what they stand for, and the node there.

A static graph has tensors only. Sequences and optionals exist while a model is walked: they are
lists of values, and values that may be missing, and nothing of them is left afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import onnx

from accelsdk.errors import ModelError, UnsupportedGraph
from accelsdk.graph.graph import Array
from accelsdk.graph.types import Value

if TYPE_CHECKING:
    from accelsdk.compiler.importer_nodes import Walker


@dataclass(frozen=True, slots=True)
class Listed:
    """A sequence of tensors."""

    items: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Perhaps:
    """An optional: a tensor, a sequence, or nothing."""

    item: Value | Listed | None


#: What a name stands for.
Item = Value | Listed | Perhaps
Scope = MutableMapping[str, Item]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the walk is.

    Attributes:
        prefix: Put before the names of nodes and values, so that they stay unique.
        origin: Source node whose body this is; empty at the top level.
        opsets: Opset version by domain.
        depth: Function bodies entered.
        settings: Attributes of the function call that is being expanded, by name.
    """

    opsets: Mapping[str, int]
    prefix: str = ""
    origin: tuple[str, ...] = ()
    depth: int = 0
    settings: Mapping[str, onnx.AttributeProto] | None = None


@dataclass(frozen=True, slots=True)
class Visit:
    """The walk at one node that is expanded in place.

    Attributes:
        walker: Who walks.
        proto: The node.
        name: Its name, unique in the graph.
        inputs: Its operands.
        scope: What names stand for there.
        place: Where it is.
    """

    walker: Walker
    proto: onnx.NodeProto
    name: str
    inputs: Sequence[Item | None]
    scope: Scope
    place: Place
    _axes: dict[tuple[int, ...], Value] = field(default_factory=dict)

    def refuse(self, reason: str) -> NoReturn:
        """Raises UnsupportedGraph that names the node and the reason."""
        unsupported(self.proto, self.name, reason)

    def invalid(self, text: str) -> NoReturn:
        """Raises ModelError that names the node."""
        raise ModelError(f"{self.proto.op_type} is not valid here: {text}", node=self.name)

    # -- attributes ----------------------------------------------------------------------

    def attribute(self, name: str) -> onnx.AttributeProto | None:
        """Returns an attribute, or None if the node does not carry it."""
        return next((item for item in self.proto.attribute if item.name == name), None)

    def integer(self, name: str, default: int) -> int:
        """Returns an integer attribute."""
        found = self.attribute(name)
        return default if found is None else found.i

    def integers(self, name: str, count: int) -> tuple[int, ...]:
        """Returns an attribute of ``count`` integers; left out, all are 0."""
        found = self.attribute(name)
        if found is None or not found.ints:
            return (0,) * count
        if len(found.ints) != count:
            self.invalid(f"{name} has {len(found.ints)} items instead of {count}")
        return tuple(found.ints)

    def body(self, name: str) -> onnx.GraphProto:
        """Returns an attribute that is a graph."""
        found = self.attribute(name)
        if found is None or not found.HasField("g"):
            self.invalid(f"it has no {name}")
        return found.g

    # -- operands ------------------------------------------------------------------------

    def item(self, index: int) -> Item | None:
        """Returns an operand, or None if it was left out."""
        return self.inputs[index] if index < len(self.inputs) else None

    def tensor(self, index: int) -> Value:
        """Returns an operand that must be a tensor."""
        found = self.item(index)
        if not isinstance(found, Value):
            self.invalid(f"operand {index} must be a tensor")
        return found

    def sequence(self, index: int) -> Listed:
        """Returns an operand that must be a sequence."""
        found = self.item(index)
        if not isinstance(found, Listed):
            self.invalid(f"operand {index} must be a sequence")
        return found

    def known(self, index: int, what: str) -> Array | None:
        """Returns the contents of an operand that must be constant; None if it was left out."""
        if self.item(index) is None:
            return None
        value = self.tensor(index)
        found = self.contents(value)
        if found is None:
            reason = f"its {what} is computed at run time; it must be constant"
            unsupported(self.proto, self.name, reason, not_constant=[value.name])
        return found

    def whole(self, index: int, what: str) -> int | None:
        """Returns a constant operand of one integer; None if it was left out."""
        found = self.known(index, what)
        if found is None:
            return None
        if found.size != 1:
            self.invalid(f"its {what} has {found.size} items instead of one")
        return int(found.reshape(()).item())

    def contents(self, value: Value) -> Array | None:
        """Returns the contents of a value, or None if it is no constant."""
        found = self.walker.constants.get(value.name)
        return None if found is None else found.array()

    # -- making nodes --------------------------------------------------------------------

    def emit(
        self, op: str, *inputs: Value | None, outputs: int = 1, **attributes: int
    ) -> list[Value]:
        """Adds an ai.onnx node of the pinned opset, computed at once where that is worth it."""
        return self.walker.emit(self, op, inputs, outputs, attributes)

    def ints(self, *numbers: int) -> Value:
        """Returns a one-dimensional int64 constant."""
        if numbers not in self._axes:
            self._axes[numbers] = self.constant(np.array(numbers, np.int64), "ints")
        return self._axes[numbers]

    def constant(self, array: Array, stem: str) -> Value:
        """Adds a constant."""
        return self.walker.make_constant(f"{self.name}/{stem}", array)


def look_up(scope: Scope, name: str, node: str) -> Item | None:
    """Returns what a name stands for, or None for the empty name.

    Raises:
        ModelError: It stands for nothing.
    """
    if not name:
        return None
    if name not in scope:
        raise ModelError(f"value {name!r} is read before anything makes it", node=node)
    return scope[name]


def tensors(proto: onnx.NodeProto, name: str, inputs: Sequence[Item | None]) -> list[Value | None]:
    """Returns the operands of a node that takes nothing but tensors.

    Raises:
        UnsupportedGraph: One is a sequence or an optional.
    """
    found: list[Value | None] = []
    for label, item in zip(proto.input, inputs, strict=False):
        if not (item is None or isinstance(item, Value)):
            kind = "a sequence" if isinstance(item, Listed) else "an optional"
            unsupported(proto, name, f"operand {label!r} is {kind}; only tensors are supported")
        found.append(item)
    return found


def unsupported(
    proto: onnx.NodeProto, name: str, reason: str, not_constant: Sequence[str] = ()
) -> NoReturn:
    """Raises UnsupportedGraph that names the node, its op and the reason."""
    text = f"node {name!r} ({proto.op_type}): {reason}"
    raise UnsupportedGraph(
        "the model cannot be lowered to core ops", reasons=[text], not_constant=not_constant
    )
