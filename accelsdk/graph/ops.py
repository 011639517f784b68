"""The closed table of core ops: one row per op, from which everything else is derived.

Lowering targets the table, `accelsdk.graph.verify` checks against it, kernels implement it,
conformance enumerates it, and ``docs/ops.md`` is printed from it.

An op named as in ONNX means what ONNX (opsets 21 to 23) means. What ONNX takes as constant
tensors (shape, axes, pads, ...) are attributes here, explicit tuples. Shapes are static.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from accelsdk.errors import GraphError
from accelsdk.graph.families import (
    activation,
    compound,
    contraction,
    elementwise,
    embedding,
    movement,
    normalisation,
    pooling,
    quantisation,
    recurrent,
    reduction,
    selection,
)
from accelsdk.graph.graph import CORE, Attribute, Node
from accelsdk.graph.opdef import (
    AttributeDef,
    AttributeKind,
    Call,
    Family,
    NumericsClass,
    OpDef,
    Operand,
    Required,
    Result,
    Work,
)
from accelsdk.graph.types import TensorType

__all__ = [
    "TABLE",
    "AttributeDef",
    "AttributeKind",
    "Family",
    "NumericsClass",
    "OpDef",
    "Operand",
    "Result",
    "Work",
    "attribute",
    "bounded",
    "filled",
    "infer",
    "infer_row",
    "lookup",
    "rows_with",
    "work",
]

_ROWS = (
    *contraction.ROWS,
    *quantisation.ROWS,
    *embedding.ROWS,
    *elementwise.ROWS,
    *reduction.ROWS,
    *pooling.ROWS,
    *movement.ROWS,
    *selection.ROWS,
    *activation.ROWS,
    *normalisation.ROWS,
    *compound.ROWS,
    *recurrent.ROWS,
)

#: Every core op by name, in the order of the documentation.
TABLE: Mapping[str, OpDef] = MappingProxyType({row.name: row for row in _ROWS})

#: The rows of the table by domain and name.
_BY_KEY: Mapping[tuple[str, str], OpDef] = MappingProxyType(
    {(row.domain, row.name): row for row in _ROWS}
)


def rows_with(composites: Iterable[OpDef]) -> Mapping[tuple[str, str], OpDef]:
    """Returns the rows of the table and vendors' composites, by domain and name.

    Without composites this is one mapping for all callers: a small graph is verified in less
    time than a new one takes to build.
    """
    added = {(row.domain, row.name): row for row in composites}
    return {**_BY_KEY, **added} if added else _BY_KEY


def lookup(op: Node | str) -> OpDef:
    """Returns the row of a core node or of an op's name.

    Raises:
        GraphError: The table has no such op (rule ``unknown-op``).
    """
    name = op.op if isinstance(op, Node) else op
    node = op.name if isinstance(op, Node) else None
    domain = op.domain if isinstance(op, Node) else CORE
    if domain != CORE or name not in TABLE:
        raise GraphError(f"no core op {domain}:{name}", rule="unknown-op", node=node)
    return TABLE[name]


def attribute(node: Node, name: str) -> Attribute:
    """Returns an attribute of a core node, or its default if the node leaves it out.

    Raises:
        GraphError: The op has no such attribute, or the node lacks a required one.
    """
    if name in node.attributes:
        return node.attributes[name]
    row = lookup(node)
    definition = row.attribute_def(name)
    if definition is None:
        raise GraphError(f"{row.name} has no {name!r}", rule="unknown-attribute", node=node.name)
    if isinstance(definition.default, Required):
        raise GraphError(f"{row.name} needs {name!r}", rule="missing-attribute", node=node.name)
    return definition.default


def infer(
    op: str,
    inputs: Sequence[TensorType | None],
    attributes: Mapping[str, Attribute],
    outputs: int = 1,
    node: str = "",
) -> tuple[TensorType, ...]:
    """Returns the types of the first ``outputs`` results of a core op.

    Args:
        op: Name of the op.
        inputs: Operand types; None stands for an optional operand left out.
        attributes: Attributes given; defaults are filled in.
        outputs: Results asked for, those nobody reads included.
        node: Name of the node, for messages.

    Raises:
        GraphError: The application breaks a rule; ``rule`` names it.
    """
    return infer_row(lookup(op), inputs, attributes, outputs, node)


def infer_row(
    row: OpDef,
    inputs: Sequence[TensorType | None],
    attributes: Mapping[str, Attribute],
    outputs: int = 1,
    node: str = "",
) -> tuple[TensorType, ...]:
    """Returns result types of any row, a vendor's composite included; see `infer`."""
    operands = _operands(row, inputs, node)
    call = Call(
        op=row.name,
        inputs=operands,
        attributes=filled(row, attributes, node),
        outputs=outputs,
        node=node,
    )
    variadic = bool(row.results) and row.results[-1].variadic
    least = sum(not result.optional for result in row.results)
    if outputs < least and not _leading_optional(row):
        call.fail("results", f"has {least} results or more, {outputs} are given")
    if outputs > len(row.results) and not variadic:
        call.fail("results", f"has at most {len(row.results)} results, {outputs} are given")
    return tuple(row.infer(call))[:outputs]


def _leading_optional(row: OpDef) -> bool:
    return bool(row.results) and row.results[0].optional


def _operands(
    row: OpDef, inputs: Sequence[TensorType | None], node: str
) -> tuple[TensorType | None, ...]:
    """Checks the number of operands, and pads those left out at the end with None."""
    variadic = bool(row.operands) and row.operands[-1].variadic
    if len(inputs) > len(row.operands) and not variadic:
        raise GraphError(
            f"{row.name} takes at most {len(row.operands)} operands, {len(inputs)} are given",
            rule="operands",
            node=node or None,
        )
    padded = (*inputs, *(None,) * (len(row.operands) - len(inputs)))
    for index, given in enumerate(padded):
        definition = row.operands[min(index, len(row.operands) - 1)]
        if given is None and not definition.optional:
            raise GraphError(
                f"{row.name} needs operand {definition.name!r}",
                rule="operands",
                node=node or None,
            )
    return padded


_KINDS: Mapping[AttributeKind, tuple[type, type | None]] = {
    AttributeKind.INT: (int, None),
    AttributeKind.FLAG: (int, None),
    AttributeKind.FLOAT: (float, None),
    AttributeKind.STRING: (str, None),
    AttributeKind.FORMAT: (str, None),
    AttributeKind.INTS: (tuple, int),
    AttributeKind.FLOATS: (tuple, float),
    AttributeKind.STRINGS: (tuple, str),
}


def filled(
    row: OpDef, attributes: Mapping[str, Attribute], node: str = ""
) -> Mapping[str, Attribute]:
    """Returns all attributes of a row: those given, checked, and the defaults.

    Raises:
        GraphError: One is unknown, missing, of the wrong kind or not among the choices.
    """
    where = node or None
    known = {definition.name for definition in row.attributes}
    for name in attributes:
        if name not in known:
            listed = ", ".join(sorted(known)) or "none"
            raise GraphError(
                f"{row.name} has no attribute {name!r}; it has {listed}",
                rule="unknown-attribute",
                node=where,
            )
    found: dict[str, Attribute] = {}
    for definition in row.attributes:
        value = attributes.get(definition.name, definition.default)
        if isinstance(value, Required):
            raise GraphError(
                f"{row.name} needs attribute {definition.name!r}",
                rule="missing-attribute",
                node=where,
            )
        _check_attribute(row, definition, value, where)
        found[definition.name] = value
    return found


def _check_attribute(
    row: OpDef, definition: AttributeDef, value: Attribute, node: str | None
) -> None:
    place = f"{row.name}.{definition.name}"
    outer, inner = _KINDS[definition.kind]
    allowed_bool = definition.kind is AttributeKind.FLAG
    right = isinstance(value, outer) and (allowed_bool or not isinstance(value, bool))
    if right and inner is not None and isinstance(value, tuple):
        right = all(isinstance(v, inner) and not isinstance(v, bool) for v in value)
    if right and allowed_bool:
        right = value in (0, 1)
    if not right:
        raise GraphError(
            f"{place} is {value!r}; it must be of kind {definition.kind}",
            rule="attribute-kind",
            node=node,
        )
    if definition.choices and value not in definition.choices:
        listed = ", ".join(map(str, definition.choices))
        raise GraphError(
            f"{place} is {value!r}; choices: {listed}", rule="attribute-choice", node=node
        )


def bounded(node: Node, row: OpDef | None = None) -> frozenset[str]:
    """Returns the names of the results of a node whose size depends on the data.

    Args:
        node: Of any domain; what is not in the table has none.
        row: The node's row, if it is at hand.
    """
    row = row or (TABLE.get(node.op) if node.domain == CORE else None)
    if row is None or not any(result.bounded for result in row.results):
        return frozenset()
    pairs = zip(node.outputs, row.results, strict=False)
    return frozenset(v.name for v, result in pairs if v is not None and result.bounded)


def work(node: Node) -> Work:
    """Returns the operations and bytes of one run of a core node."""
    return lookup(node).work(node)
