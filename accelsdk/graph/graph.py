"""The graph: frozen, typed, single-assignment nodes in execution order."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

import numpy as np

from accelsdk.errors import GraphError
from accelsdk.formats import Format, from_dtype
from accelsdk.graph.types import TensorType, Value
from accelsdk.numerics.codec import to_bytes

Array = np.ndarray[tuple[int, ...], np.dtype[np.generic]]

#: Domain of the ops in the closed core table (`accelsdk.graph.ops`).
CORE = "core"
#: Domain of nodes as they come from an ONNX file, before lowering.
ONNX = "ai.onnx"

#: What an attribute may hold. Tuples, never lists, so that nodes cannot change.
Attribute = bool | int | float | str | tuple[int, ...] | tuple[float, ...] | tuple[str, ...]

_NO_ATTRIBUTES: Mapping[str, Attribute] = MappingProxyType({})
_CHUNK = 1 << 24


@dataclass(frozen=True, slots=True, eq=False)
class Constant:
    """A named tensor whose contents are fixed when the graph is made.

    Contents are lazy, so that weights larger than memory can pass through: only
    `array` brings them into memory whole.

    Attributes:
        value: Name and type.
        load: Returns the contents as an array of ``value.format.dtype``, one element an
            item (sub-byte formats unpacked). Read-only to everyone.
        location: File, offset and length (bytes) of the packed contents, if they lie in
            a file as they are; else None.
    """

    value: Value
    load: Callable[[], Array]
    location: tuple[str, int, int] | None = None

    @classmethod
    def of(cls, name: str, array: Array, kind: Format | None = None) -> Constant:
        """Makes a constant of an array in memory, which must not change afterwards.

        Args:
            name: Name of the value.
            array: Contents; the dtype gives the format unless ``kind`` does.
            kind: Needed where the dtype is ambiguous (mxint8 is stored as int8).
        """
        tensor_type = TensorType(kind or from_dtype(array.dtype), tuple(array.shape))
        return cls(Value(name, tensor_type), lambda: array)

    @property
    def name(self) -> str:
        """Name of the value."""
        return self.value.name

    def array(self) -> Array:
        """Returns the contents in memory, one element an item."""
        return self.load()

    def chunks(self, nbytes: int = _CHUNK) -> Iterator[memoryview]:
        """Yields the packed contents in order, at most ``nbytes`` at a time."""
        packed = to_bytes(self.load(), self.value.format)
        for start in range(0, len(packed), nbytes):
            yield packed[start : start + nbytes]

    def digest(self) -> str:
        """Returns the SHA-256 of type and packed contents, in hexadecimal."""
        state = hashlib.sha256(str(self.value.type).encode())
        for chunk in self.chunks():
            state.update(chunk)
        return state.hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One application of an op.

    Attributes:
        op: Name of the op within its domain.
        inputs: Operands in order; None stands for an optional operand left out.
        outputs: Results in order; None stands for an optional result nobody reads.
        attributes: Settings fixed when the graph is made.
        domain: `CORE`, `ONNX`, or a vendor's own.
        name: Unique within the graph; errors, profiles and reports use it.
        origin: Names of the source-model nodes that this one computes for; every pass
            keeps it.
        via: Names of the lowering rules, decompositions and passes that made it, outermost
            first; empty if it is as somebody wrote it. Every pass keeps it.
    """

    op: str
    inputs: tuple[Value | None, ...]
    outputs: tuple[Value | None, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=lambda: _NO_ATTRIBUTES)
    domain: str = CORE
    name: str = ""
    origin: tuple[str, ...] = ()
    via: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name} ({self.op})" if self.name else self.op

    def operand(self, index: int) -> Value | None:
        """Returns operand ``index``, or None if it was left out or not given."""
        return self.inputs[index] if index < len(self.inputs) else None

    @property
    def result(self) -> Value:
        """The first output, which every op has."""
        first = self.outputs[0] if self.outputs else None
        if first is None:
            raise GraphError("the first output is missing", rule="outputs", node=self.name)
        return first


@dataclass(frozen=True, eq=False)
class Graph:
    """A computation: inputs and constants in, nodes in execution order, outputs out.

    Attributes:
        inputs: Values that the caller feeds, in order.
        outputs: Values that the caller gets back, in order; one may repeat, or be an
            input or a constant.
        constants: Fixed values.
        nodes: In an order in which every operand is made before it is read.
        name: For people.
    """

    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    constants: tuple[Constant, ...]
    nodes: tuple[Node, ...]
    name: str = "graph"

    @cached_property
    def producers(self) -> Mapping[str, Node]:
        """Node that makes each value, by value name."""
        return {v.name: node for node in self.nodes for v in node.outputs if v is not None}

    @cached_property
    def constant_by_name(self) -> Mapping[str, Constant]:
        """Constant behind each constant value's name."""
        return {constant.name: constant for constant in self.constants}

    @cached_property
    def output_names(self) -> frozenset[str]:
        """Names of the outputs."""
        return frozenset(value.name for value in self.outputs)

    @cached_property
    def consumers(self) -> Mapping[str, tuple[Node, ...]]:
        """Nodes that read each value, by value name, in execution order."""
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(v.name for v in node.inputs if v is not None):
                found.setdefault(name, []).append(node)
        return {name: tuple(nodes) for name, nodes in found.items()}

    def values(self) -> Iterator[Value]:
        """Yields every value once: inputs, constants, then results in order."""
        yield from self.inputs
        yield from (constant.value for constant in self.constants)
        for node in self.nodes:
            yield from (value for value in node.outputs if value is not None)
