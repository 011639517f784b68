"""What a row of the op table says about an op, and the tools its rules are written with."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Final, NoReturn, cast

from accelsdk.errors import GraphError
from accelsdk.formats import Format, by_name
from accelsdk.graph.graph import CORE, Attribute, Node
from accelsdk.graph.types import Shape, TensorType, Value

if TYPE_CHECKING:
    from accelsdk.graph.rewrite import Builder


class Family(StrEnum):
    """Which part of the table an op stands in."""

    CONTRACTION = "contraction"
    QUANTISATION = "quantisation"
    EMBEDDING = "embedding"
    ELEMENTWISE = "elementwise"
    REDUCTION = "reduction"
    MOVEMENT = "movement"
    SELECTION = "selection"
    ACTIVATION = "activation"
    NORMALISATION = "normalisation"
    RECURRENT = "recurrent"
    COMPOUND = "compound"


class NumericsClass(StrEnum):
    """How the result of an op may differ between two right implementations."""

    EXACT = "exact"  # not at all
    ROUNDED = "rounded"  # elementwise and correctly rounded: not at all
    FUNCTION = "function"  # elementwise, within a number of ULP
    CONTRACTION = "contraction"  # a sum of products in some order
    REDUCTION = "reduction"  # a sum or product in some order
    QUANTISATION = "quantisation"  # exact, given the declared rounding
    COMPOSITE = "composite"  # as its decomposition


class AttributeKind(StrEnum):
    """What an attribute holds."""

    INT = "int"
    FLAG = "flag"  # 0 or 1
    FLOAT = "float"
    STRING = "string"
    FORMAT = "format"  # the name of a number format
    INTS = "ints"
    FLOATS = "floats"
    STRINGS = "strings"


class Required(Enum):
    """The default of an attribute that has none."""

    REQUIRED = "required"


REQUIRED: Final = Required.REQUIRED


@dataclass(frozen=True, slots=True, kw_only=True)
class Operand:
    """One operand of an op.

    Attributes:
        name: As in ONNX, where the op is there.
        optional: Whether None may stand for it.
        variadic: Whether it stands for one operand or more; only the last may.
        help: One phrase: shape and formats.
    """

    name: str
    optional: bool = False
    variadic: bool = False
    help: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One result of an op; ``optional``, ``variadic`` and ``help`` as for `Operand`.

    Attributes:
        bounded: Whether its size depends on the data. Its type is then a bound: no extent of
            what an execution makes is larger.
    """

    name: str
    optional: bool = False
    variadic: bool = False
    help: str = ""
    bounded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributeDef:
    """One attribute of an op.

    Attributes:
        name: As in ONNX, where the op is there.
        kind: What it holds.
        default: Its value if left out, or `REQUIRED`.
        choices: Allowed values (of a FORMAT: names of formats), if the set is closed.
        help: One phrase.
    """

    name: str
    kind: AttributeKind
    default: Attribute | Required = REQUIRED
    choices: tuple[Attribute, ...] = ()
    help: str = ""


@dataclass(frozen=True, slots=True)
class Work:
    """What running an op costs, from its shapes alone.

    Attributes:
        operations: Arithmetic operations; a multiply-add is two.
        bytes: Bytes of operands read and results written, packed.
    """

    operations: int
    bytes: int

    def __add__(self, other: Work) -> Work:
        return Work(self.operations + other.operations, self.bytes + other.bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """An application of an op, as its inference rule sees it.

    Attributes:
        op: Name of the op.
        inputs: Operand types, padded with None to the arity of the op.
        attributes: All attributes, defaults filled in, kinds checked.
        outputs: Number of results asked for.
        node: Name of the node, for messages.
    """

    op: str
    inputs: tuple[TensorType | None, ...]
    attributes: Mapping[str, Attribute]
    outputs: int
    node: str = ""

    def fail(self, rule: str, text: str) -> NoReturn:
        """Raises GraphError that names the rule, the op and the node."""
        raise GraphError(f"{self.op}: {text}", rule=rule, node=self.node or None)

    def check(self, holds: bool, rule: str, text: str) -> None:
        """Raises GraphError unless ``holds``."""
        if not holds:
            self.fail(rule, text)

    def operand(self, index: int) -> TensorType:
        """Returns the type of an operand that must be there."""
        found = self.inputs[index]
        if found is None:
            self.fail("operands", f"operand {index} is missing")
        return found

    def optional(self, index: int) -> TensorType | None:
        """Returns the type of an operand, or None if it was left out."""
        return self.inputs[index] if index < len(self.inputs) else None

    def integer(self, name: str) -> int:
        """Returns an INT or FLAG attribute."""
        return cast("int", self.attributes[name])

    def string(self, name: str) -> str:
        """Returns a STRING attribute."""
        return cast("str", self.attributes[name])

    def ints(self, name: str) -> tuple[int, ...]:
        """Returns an INTS attribute."""
        return cast("tuple[int, ...]", self.attributes[name])

    def floats(self, name: str) -> tuple[float, ...]:
        """Returns a FLOATS attribute."""
        return cast("tuple[float, ...]", self.attributes[name])

    def strings(self, name: str) -> tuple[str, ...]:
        """Returns a STRINGS attribute."""
        return cast("tuple[str, ...]", self.attributes[name])

    def format(self, name: str) -> Format:
        """Returns a FORMAT attribute."""
        return by_name(self.string(name))

    def among(self, given: TensorType, formats: Sequence[Format], what: str = "operand") -> None:
        """Checks that the format of ``given`` is one of ``formats``."""
        if given.format not in formats:
            known = ", ".join(f.name for f in formats)
            self.fail("format", f"{what} is {given.format}; it may be {known}")

    def same_format(self, first: TensorType, *others: TensorType | None) -> None:
        """Checks that all the given operands have one format."""
        for other in others:
            if other is not None and other.format != first.format:
                self.fail("format", f"operands differ in format: {first} and {other}")

    def has_shape(self, given: TensorType | None, shape: Shape, what: str) -> None:
        """Checks the shape of an operand that may have been left out."""
        if given is not None and given.shape != shape:
            self.fail("shape", f"{what} is {list(given.shape)}; it must be {list(shape)}")

    def axis(self, axis: int, rank: int) -> int:
        """Returns ``axis`` as a non-negative number, checked against ``rank``."""
        self.check(-rank <= axis < rank, "axis", f"axis {axis} is not an axis of rank {rank}")
        return axis % rank

    def axes(self, name: str, rank: int) -> tuple[int, ...]:
        """Returns an INTS attribute of distinct axes as non-negative numbers."""
        axes = tuple(self.axis(axis, rank) for axis in self.ints(name))
        self.check(len(set(axes)) == len(axes), "axis", f"{name} {axes} repeat an axis")
        return axes

    def broadcast(self, *shapes: Shape) -> Shape:
        """Returns the shape to which all shapes broadcast (NumPy's rule)."""
        rank = max(map(len, shapes))
        padded = [(1,) * (rank - len(shape)) + shape for shape in shapes]
        extents = [set(column) - {1} for column in zip(*padded, strict=True)]
        if any(len(extent) > 1 for extent in extents):
            self.fail("broadcast", f"shapes {', '.join(map(str, shapes))} do not broadcast")
        return tuple(extent.pop() if extent else 1 for extent in extents)


InferRule = Callable[[Call], Sequence[TensorType]]
WorkRule = Callable[[Node], Work]
Decomposition = Callable[["Builder", Node], Sequence[Value | None]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OpDef:
    """One row of the op table.

    Attributes:
        name: Unique within the domain.
        domain: `CORE`, or the vendor's own for a vendor composite.
        family: Part of the table.
        help: One sentence: what it computes.
        operands: In order.
        results: In order; trailing optional ones may be left out.
        attributes: Every attribute that a node may carry.
        infer: Type and shape rule: result types, or GraphError naming the rule.
        numerics: How results may differ between right implementations.
        work: Operations and bytes from the node's types.
        decompose: Emits the same computation in other ops of the table and returns its
            results in order; None for an op that is not a composite.
        formats: Which formats it takes, in words.
    """

    name: str
    family: Family
    help: str
    operands: tuple[Operand, ...]
    results: tuple[Result, ...]
    infer: InferRule
    numerics: NumericsClass
    work: WorkRule
    attributes: tuple[AttributeDef, ...] = ()
    decompose: Decomposition | None = None
    formats: str = ""
    domain: str = CORE

    @property
    def is_composite(self) -> bool:
        """Whether it has a decomposition into other ops."""
        return self.decompose is not None

    def attribute_def(self, name: str) -> AttributeDef | None:
        """Returns the definition of one attribute, or None if there is none."""
        return next((a for a in self.attributes if a.name == name), None)


# -- parsing of compact rows -----------------------------------------------------------------


def operands(text: str) -> tuple[Operand, ...]:
    """Returns operands from names: ``"X W B?"``; ``?`` is optional, ``*`` variadic."""
    return tuple(
        Operand(name=word.rstrip("?*"), optional="?" in word, variadic="*" in word)
        for word in text.split()
    )


def results(text: str) -> tuple[Result, ...]:
    """Returns results from names, written as for `operands`."""
    return tuple(
        Result(name=word.rstrip("?*"), optional="?" in word, variadic="*" in word)
        for word in text.split()
    )


def flag(name: str, default: int | Required = REQUIRED, help: str = "") -> AttributeDef:
    """Returns a 0-or-1 attribute."""
    return AttributeDef(name=name, kind=AttributeKind.FLAG, default=default, help=help)


def integer(
    name: str,
    default: int | Required = REQUIRED,
    help: str = "",
    choices: tuple[int, ...] = (),
) -> AttributeDef:
    """Returns an integer attribute."""
    return AttributeDef(
        name=name, kind=AttributeKind.INT, default=default, help=help, choices=choices
    )


def real(name: str, default: float | Required = REQUIRED, help: str = "") -> AttributeDef:
    """Returns a float attribute."""
    return AttributeDef(name=name, kind=AttributeKind.FLOAT, default=default, help=help)


def integers(
    name: str, default: tuple[int, ...] | Required = REQUIRED, help: str = ""
) -> AttributeDef:
    """Returns an attribute that is a tuple of integers."""
    return AttributeDef(name=name, kind=AttributeKind.INTS, default=default, help=help)


def reals(
    name: str, default: tuple[float, ...] | Required = REQUIRED, help: str = ""
) -> AttributeDef:
    """Returns an attribute that is a tuple of floats."""
    return AttributeDef(name=name, kind=AttributeKind.FLOATS, default=default, help=help)


def strings(name: str, default: tuple[str, ...] = (), help: str = "") -> AttributeDef:
    """Returns an attribute that is a tuple of strings."""
    return AttributeDef(name=name, kind=AttributeKind.STRINGS, default=default, help=help)


def choice(
    name: str, choices: tuple[str, ...], default: str | Required = REQUIRED, help: str = ""
) -> AttributeDef:
    """Returns a string attribute with a closed set of values."""
    return AttributeDef(
        name=name, kind=AttributeKind.STRING, default=default, choices=choices, help=help
    )


def format_name(
    name: str, choices: Sequence[Format], default: str | Required = REQUIRED, help: str = ""
) -> AttributeDef:
    """Returns an attribute that names a number format."""
    return AttributeDef(
        name=name,
        kind=AttributeKind.FORMAT,
        default=default,
        choices=tuple(row.name for row in choices),
        help=help,
    )


# -- work ------------------------------------------------------------------------------------


def traffic(node: Node) -> int:
    """Returns the bytes of all operands and results of ``node``, packed."""
    return sum(v.type.nbytes for v in (*node.inputs, *node.outputs) if v is not None)


def per_result(operations: int = 1) -> WorkRule:
    """Returns the rule "so many operations for each element of the first result"."""
    return lambda node: Work(operations * _first(node).type.count, traffic(node))


def per_operand(operations: int = 1) -> WorkRule:
    """Returns the rule "so many operations for each element of the first operand"."""
    return lambda node: Work(operations * required(node, 0).type.count, traffic(node))


def copied(node: Node) -> Work:
    """The work of an op that only moves: no operation, all bytes."""
    return Work(0, traffic(node))


def _first(node: Node) -> Value:
    return next(value for value in node.outputs if value is not None)


def required(node: Node, index: int) -> Value:
    """Returns operand ``index`` of a node.

    Raises:
        GraphError: It was left out.
    """
    value = node.operand(index)
    if value is None:
        raise GraphError(f"operand {index} is missing", rule="operands", node=node.name)
    return value


def product(shape: Sequence[int]) -> int:
    """Returns the number of elements of a shape."""
    return math.prod(shape)
