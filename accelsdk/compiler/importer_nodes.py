"""Walks the nodes of an ONNX graph in order and gives every value its static type.

Types come from our own op table: each node is lowered on a scratch builder, and the types of
what it becomes are its types. Nodes whose operands are constant and whose results are small
are computed at once, so that chains such as Shape, Gather, Concat, Reshape end as static
shapes. Bodies of ONNX functions, of the model's own functions, and of If, Loop and Scan are
walked in place, as often as they run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NoReturn

import onnx
from onnx import defs

from accelsdk.compiler.evaluate import fold
from accelsdk.compiler.importer_constants import constant_of
from accelsdk.compiler.importer_control import CONTROL
from accelsdk.compiler.importer_convert import PINNED_OPSET, needs_upgrade, upgraded
from accelsdk.compiler.importer_functions import (
    schema_defaults,
    schema_function,
    with_settings,
    without,
)
from accelsdk.compiler.importer_scope import (
    Item,
    Place,
    Scope,
    Visit,
    look_up,
    tensors,
    unsupported,
)
from accelsdk.compiler.importer_sequences import SEQUENCES
from accelsdk.compiler.importer_tensors import Origin, attributes_of
from accelsdk.errors import GraphError, ModelError
from accelsdk.formats import FLOAT32
from accelsdk.graph.graph import ONNX, Array, Constant, Graph, Node
from accelsdk.graph.ops import bounded
from accelsdk.graph.rewrite import Builder, LoweringRule
from accelsdk.graph.types import TensorType, Value

_FUNCTIONS_DEEP = 16
#: Nodes that the bodies of loops may come to, all their turns counted.
_UNROLLED = 100_000
#: Rules of the op table that valid ONNX may break; breaking others makes a model invalid.
_OUTSIDE_THE_TABLE = ("format", "attribute", "attribute-choice", "group")
#: Type of a result while the rule that finds its type runs.
_UNKNOWN = TensorType(FLOAT32, ())


class Walker:
    """Collects typed nodes and constants; see the module docstring.

    Args:
        rules: Lowering rules that will be used later.
        functions: The model's own functions by domain, name and overload.
        origin: Where contents of tensors are.
    """

    def __init__(
        self,
        rules: Sequence[LoweringRule],
        functions: Mapping[tuple[str, str, str], onnx.FunctionProto],
        origin: Origin,
    ) -> None:
        self.rules: dict[tuple[str, str], list[LoweringRule]] = {}
        for rule in rules:
            self.rules.setdefault((rule.domain, rule.op), []).append(rule)
        self.functions = functions
        self.origin = origin
        self.nodes: list[Node] = []
        self.constants: dict[str, Constant] = {}
        self.bounded: set[str] = set()
        self._values = _Names()
        self._nodes = _Names()
        self._unrolled = 0

    # -- names ---------------------------------------------------------------------------

    def fresh(self, name: str) -> str:
        """Returns a name like ``name`` that no value has yet, and takes it."""
        return self._values.fresh(name)

    def add_constant(self, constant: Constant) -> Value:
        """Adds a constant under its own name or one like it."""
        name = self.fresh(constant.name)
        value = Value(name, constant.value.type)
        self.constants[name] = replace(constant, value=value)
        return value

    def copy(self, value: Value, name: str) -> Value:
        """Adds an Identity that gives ``value`` another name."""
        result = Value(self.fresh(name), value.type)
        node = self._nodes.fresh(f"{name}/copy")
        self.nodes.append(Node("Identity", (value,), (result,), {}, ONNX, node, (node,)))
        return result

    # -- walking -------------------------------------------------------------------------

    def walk(self, protos: Sequence[onnx.NodeProto], scope: Scope, place: Place) -> None:
        """Adds nodes in order; ``scope`` maps the source's names to our values."""
        version = place.opsets.get("", PINNED_OPSET)
        for proto in protos:
            if needs_upgrade(proto, version):
                self._older(proto, scope, place, version)
            else:
                self._node(proto, scope, place)

    def _older(self, proto: onnx.NodeProto, scope: Scope, place: Place, version: int) -> None:
        """Walks what a node of an older opset is in the pinned one."""
        name = f"{place.prefix}{_stem(proto)}"
        inputs = [look_up(scope, item, name) for item in proto.input]
        if not all(item is None or isinstance(item, Value) for item in inputs):
            self._node(proto, scope, place)  # onnx converts nodes of tensors by themselves
            return
        if place.settings is not None:
            proto = with_settings(proto, place.settings)
        operands = tensors(proto, name, inputs)
        made = upgraded(proto, _stem(proto), operands, self.constants, version)
        inner = {item: scope[item] for item in proto.input if item}
        below = replace(
            place,
            opsets={**place.opsets, "": PINNED_OPSET},
            origin=place.origin or (name,),
            settings=None,
        )
        self.walk(made, inner, below)
        scope.update((item, inner[item]) for item in proto.output if item in inner)

    def _node(self, proto: onnx.NodeProto, scope: Scope, place: Place) -> None:
        name = self._node_name(proto, place)
        domain = ONNX if proto.domain in ("", "ai.onnx") else proto.domain
        inputs = [look_up(scope, item, name) for item in proto.input]
        if place.settings is not None:
            proto = with_settings(proto, place.settings)
        for item, value in zip(
            proto.output, self._results(proto, name, domain, inputs, scope, place), strict=False
        ):
            if item and value is not None:
                scope[item] = value

    def _results(
        self,
        proto: onnx.NodeProto,
        name: str,
        domain: str,
        inputs: Sequence[Item | None],
        scope: Scope,
        place: Place,
    ) -> Sequence[Item | None]:
        """Adds what a node is, and returns what its outputs stand for."""
        if domain == ONNX and proto.op_type == "Constant":
            stem = f"{place.prefix}{next(iter(proto.output), name)}"
            return [self.add_constant(constant_of(proto, name, stem, self.origin))]
        plain = all(item is None or isinstance(item, Value) for item in inputs)
        expand = None
        if domain == ONNX:
            # Tensors go through Identity by its rule; anything goes through an If.
            expand = CONTROL.get(proto.op_type) or SEQUENCES.get(proto.op_type)
            expand = None if plain and proto.op_type == "Identity" else expand
        if expand is not None:
            return expand(Visit(self, proto, name, inputs, scope, place))
        found: Sequence[Item | None] | None = None
        if plain or (domain, proto.op_type) in self.rules:
            operands = tensors(proto, name, inputs)
            found = self._apply_rules(proto, name, domain, operands, place)
        return self._function(proto, name, domain, inputs, place) if found is None else found

    # -- what expansions use ---------------------------------------------------------------

    def emit(
        self,
        visit: Visit,
        op: str,
        inputs: Sequence[Value | None],
        outputs: int,
        attributes: Mapping[str, int],
    ) -> list[Value]:
        """Adds a node of the pinned opset for a node that is being expanded."""
        name = self._nodes.fresh(f"{visit.name}/{op}")
        labels = [f"{name}:{index}" for index in range(outputs)]
        given: dict[str, Any] = dict(attributes)
        proto = onnx.helper.make_node(op, [], labels, **given)
        origin = visit.place.origin or (visit.name,)
        place = Place({"": PINNED_OPSET}, origin=origin)
        found = self._apply_rules(proto, name, ONNX, inputs, place) or []
        return [value for value in found if value is not None]

    def make_constant(self, name: str, array: Array) -> Value:
        """Adds a constant of that name, or one like it."""
        return self.add_constant(Constant.of(name, array))

    def spend(self, visit: Visit, nodes: int) -> None:
        """Counts nodes of a loop's body that are about to be walked.

        Raises:
            UnsupportedGraph: The loops of the model come to more than is sensible.
        """
        self._unrolled += nodes
        if self._unrolled > _UNROLLED:
            visit.refuse(
                f"unrolled, the model's loops come to more than {_UNROLLED:,} nodes; "
                "fewer turns are supported"
            )

    def _node_name(self, proto: onnx.NodeProto, place: Place) -> str:
        return self._nodes.fresh(f"{place.prefix}{_stem(proto)}")

    # -- one node ------------------------------------------------------------------------

    def _apply_rules(
        self,
        proto: onnx.NodeProto,
        name: str,
        domain: str,
        inputs: Sequence[Value | None],
        place: Place,
    ) -> list[Value | None] | None:
        """Adds a node that a rule lowers; None if no rule fits it."""
        candidates = self.rules.get((domain, proto.op_type))
        if not candidates:
            return None
        if proto.op_type != "Identity":
            self._check_sizes(proto, name, inputs)
        stems = [f"{place.prefix}{item}" if item else None for item in proto.output]
        node = Node(
            op=proto.op_type,
            inputs=tuple(inputs),
            outputs=tuple(None if stem is None else Value(stem, _UNKNOWN) for stem in stems),
            attributes=attributes_of(proto),
            domain=domain,
            name=name,
            origin=place.origin or (name,),
        )
        try:
            lowered = _lower_alone(node, candidates, self.constants)
        except GraphError as error:
            if error.rule in _OUTSIDE_THE_TABLE:
                unsupported(proto, name, error.message)
            raise ModelError(
                f"{proto.op_type} is not valid here: {error.message}", node=name
            ) from error
        if lowered is None:
            return None
        graph, results = lowered
        folded = fold(graph) if graph.nodes else {}
        if folded is not None:
            known = {**graph.constant_by_name, **folded}
            operands = {value.name for value in inputs if value is not None}
            return [
                v
                if v is None or stem is None or v.name in operands
                else self._known(v, known, stem)
                for v, stem in zip(results, stems, strict=False)
            ]
        outputs = tuple(
            None if stem is None or result is None else Value(self.fresh(stem), result.type)
            for result, stem in zip(results, stems, strict=False)
        )
        self.nodes.append(replace(node, outputs=outputs))
        by_data = frozenset[str]().union(*map(bounded, graph.nodes))
        self.bounded.update(
            value.name
            for value, result in zip(outputs, results, strict=False)
            if value is not None
            and result is not None
            and (result.name in by_data or result.name in self.bounded)
        )
        return list(outputs)

    def _check_sizes(
        self, proto: onnx.NodeProto, name: str, inputs: Sequence[Value | None]
    ) -> None:
        """Refuses to read a value whose size depends on the data: its type is only a bound."""
        for value in inputs:
            if value is not None and value.name in self.bounded:
                unsupported(
                    proto,
                    name,
                    f"the size of its operand {value.name!r} depends on the data; such a value "
                    "can only be an output of the model",
                )

    def _known(self, value: Value, known: Mapping[str, Constant], stem: str) -> Value:
        """Adds a result that turned out constant."""
        found = known[value.name]
        return self.add_constant(replace(found, value=replace(found.value, name=stem)))

    def _function(
        self,
        proto: onnx.NodeProto,
        name: str,
        domain: str,
        inputs: Sequence[Item | None],
        place: Place,
    ) -> list[Item | None]:
        """Walks the body of a function in place of its call."""
        body = self.functions.get((proto.domain, proto.op_type, proto.overload))
        if body is None:
            operands = tensors(proto, name, inputs)
            if domain == ONNX:
                body = schema_function(proto, operands, place.opsets.get("", 1))
            if body is None:
                self._refuse(proto, name, domain, operands)
        if place.depth >= _FUNCTIONS_DEEP:
            raise ModelError("functions call each other endlessly", node=name)
        defaults = schema_defaults(proto, place.opsets.get("", 1)) if domain == ONNX else {}
        defaults |= {a.name: a for a in body.attribute_proto}
        below = Place(
            opsets={entry.domain: entry.version for entry in body.opset_import},
            prefix=f"{name}/",
            origin=place.origin or (name,),
            depth=place.depth + 1,
            settings=defaults | {a.name: a for a in proto.attribute},
        )
        scope: Scope = {
            parameter: item
            for parameter, item in zip(body.input, inputs, strict=False)
            if item is not None
        }
        missing = set(body.input) - scope.keys()
        self.walk([without(node, missing) for node in body.node], scope, below)
        return [scope.get(result) for result in body.output]

    def _refuse(
        self, proto: onnx.NodeProto, name: str, domain: str, inputs: Sequence[Value | None]
    ) -> NoReturn:
        node = Node(proto.op_type, tuple(inputs), (), attributes_of(proto), domain, name)
        builder = Builder((), self.constants)
        reasons = [
            reason
            for rule in self.rules.get((domain, proto.op_type), ())
            if (reason := rule.refusal(builder, node)) is not None
        ]
        known = domain != ONNX or defs.has(proto.op_type)
        default = (
            f"no lowering rule for {domain}:{proto.op_type}"
            if known
            else f"ONNX {onnx.__version__} has no op {proto.op_type!r}"
        )
        unsupported(proto, name, "; ".join(reasons) or default)


def _stem(proto: onnx.NodeProto) -> str:
    return proto.name or next((o for o in proto.output if o), proto.op_type)


class _Names:
    """Names in use; thousands that are alike cost no more than as many that differ."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._copies: dict[str, int] = {}

    def fresh(self, name: str) -> str:
        """Returns a name like ``name`` that is not in use, and takes it."""
        found = name
        while found in self._taken:
            self._copies[name] = self._copies.get(name, 0) + 1
            found = f"{name}_{self._copies[name]}"
        self._taken.add(found)
        return found


def _lower_alone(
    node: Node,
    rules: Sequence[LoweringRule],
    constants: Mapping[str, Constant],
) -> tuple[Graph, list[Value | None]] | None:
    """Lowers one node by itself; None if no rule fits.

    Returns:
        The graph of what it becomes, and the value of each of its results.
    """
    operands = {v.name: v for v in node.inputs if v is not None}
    known = {name: constants[name] for name in operands if name in constants}
    builder = Builder(operands, known)
    builder.scope, builder.origin = node.name, node.origin
    for rule in rules:
        if rule.refusal(builder, node) is None:
            results = list(rule.rewrite(builder, node))
            break
    else:
        return None
    results += [None] * (len(node.outputs) - len(results))
    graph = Graph(
        inputs=tuple(v for name, v in operands.items() if name not in known),
        outputs=tuple(dict.fromkeys(v for v in results if v is not None)),
        constants=(*known.values(), *builder.constants),
        nodes=tuple(builder.nodes),
    )
    return graph, results
