"""The rules that every graph keeps, checked after every pass.

Each violation names its rule and, where there is one, the node:

    name-unique         two values, or two nodes, share a name; or a node has none
    name-empty          a value or a node has no name
    single-assignment   a value is made twice
    define-before-use   an operand is read before it is made, or is never made
    operand-type        an operand's type differs from the type it was made with
    bounded-operand     an operand's size depends on the data: such a value is an output only
    output-missing      a graph output is never made
    output-type         a graph output's type differs from the type it was made with
    domain              a node's domain is not admitted at this level
    attribute-frozen    an attribute is of a type that nodes may not carry
    result-type         a result's type differs from what the op infers
    unknown-op, operands, results, unknown-attribute, missing-attribute, attribute-kind,
    attribute-choice, and the type and shape rules of each op: see `accelsdk.graph.ops`
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Mapping
from typing import Literal

from accelsdk.errors import GraphError
from accelsdk.graph.graph import ONNX, Graph, Node
from accelsdk.graph.opdef import OpDef
from accelsdk.graph.ops import bounded, infer_row, rows_with
from accelsdk.graph.types import Value

Level = Literal["core", "imported"]


def verify(
    graph: Graph,
    level: Level = "core",
    composites: Iterable[OpDef] = (),
    proven: Container[Node] = (),
    foreign: Collection[str] = (),
) -> None:
    """Checks every rule of the IR.

    Args:
        graph: The graph.
        level: ``"core"`` admits the op table only, ``"imported"`` ai.onnx nodes too.
        composites: Vendors' composites that are admitted besides.
        proven: Nodes (these very objects) of a graph that was verified at the same level.
            What a node computes from the types written on it is not inferred again: nodes
            are frozen. Its names and its operands' makers are checked all the same.
        foreign: Domains, besides ai.onnx, that the level ``"imported"`` admits: those that
            there are lowering rules for.

    Raises:
        GraphError: A rule is broken; names the rule and the node.
    """
    rows = rows_with(composites)
    made = _check_sources(graph)
    seen: set[str] = set()
    sized_by_data: set[str] = set()
    for node in graph.nodes:
        if not node.name:
            _fail("name-empty", f"a {node.op} node has no name", node)
        if node.name in seen:
            _fail("name-unique", "two nodes have this name", node)
        seen.add(node.name)
        _check_operands(node, made)
        if sized_by_data:
            _check_bounded(node, sized_by_data)
        if node not in proven:
            _check_node(node, rows, level, foreign)
        _check_results(node, made)
        sized_by_data |= bounded(node, rows.get((node.domain, node.op)))
    _check_outputs(graph, made)


def _fail(rule: str, text: str, node: Node | None = None) -> None:
    raise GraphError(text, rule=rule, node=node.name or node.op if node else None)


def _check_sources(graph: Graph) -> dict[str, Value]:
    """Checks inputs and constants; returns them by name."""
    made: dict[str, Value] = {}
    for value in (*graph.inputs, *(constant.value for constant in graph.constants)):
        if not value.name:
            _fail("name-empty", f"an input or constant of type {value.type} has no name")
        if value.name in made:
            _fail("name-unique", f"two inputs or constants are named {value.name!r}")
        made[value.name] = value
    return made


def _check_operands(node: Node, made: Mapping[str, Value]) -> None:
    for value in node.inputs:
        if value is None:
            continue
        source = made.get(value.name)
        if source is None:
            _fail("define-before-use", f"{value.name!r} is read before it is made", node)
        elif source.type != value.type:
            _fail("operand-type", f"{value} was made as {source.type}", node)


def _check_bounded(node: Node, sized_by_data: Collection[str]) -> None:
    """A reader is made for one shape: it cannot tell how much of a bound holds data."""
    for value in node.inputs:
        if value is not None and value.name in sized_by_data:
            text = f"the size of {value.name!r} depends on the data; nodes cannot read it"
            _fail("bounded-operand", text, node)


def _check_node(
    node: Node,
    rows: Mapping[tuple[str, str], OpDef],
    level: Level,
    foreign: Collection[str],
) -> None:
    for name, item in node.attributes.items():
        items = item if isinstance(item, tuple) else (item,)
        if not all(isinstance(part, (bool, int, float, str)) for part in items):
            _fail("attribute-frozen", f"{name} is {type(item).__name__} {item!r}", node)
    if level == "imported" and (node.domain == ONNX or node.domain in foreign):
        return
    row = rows.get((node.domain, node.op))
    if row is None:
        known = node.domain in {domain for domain, _ in rows}
        rule = "unknown-op" if known else "domain"
        _fail(rule, f"{node.domain}:{node.op} is not admitted at level {level}", node)
        return
    types = [value.type if value is not None else None for value in node.inputs]
    inferred = infer_row(row, types, node.attributes, len(node.outputs), node.name)
    for index, (value, kind) in enumerate(zip(node.outputs, inferred, strict=True)):
        optional = row.results[min(index, len(row.results) - 1)].optional
        if value is None:
            if not optional:
                _fail("results", f"result {index} is not optional", node)
        elif value.type != kind:
            _fail("result-type", f"{value} must be {kind}", node)
    if all(value is None for value in node.outputs):
        _fail("results", "the node makes nothing", node)


def _check_results(node: Node, made: dict[str, Value]) -> None:
    for value in node.outputs:
        if value is None:
            continue
        if not value.name:
            _fail("name-empty", "a result has no name", node)
        if value.name in made:
            _fail("single-assignment", f"{value.name!r} is made twice", node)
        made[value.name] = value


def _check_outputs(graph: Graph, made: Mapping[str, Value]) -> None:
    for value in graph.outputs:
        source = made.get(value.name)
        if source is None:
            _fail("output-missing", f"output {value.name!r} is never made")
        elif source.type != value.type:
            _fail("output-type", f"output {value} was made as {source.type}")
