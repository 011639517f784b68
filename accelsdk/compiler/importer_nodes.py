"""Walks the nodes of an ONNX graph in order and gives every value its static type.

Types come from our own op table: each node is lowered on a scratch builder, and the types of
what it becomes are its types. Nodes whose operands are constant and whose results are small
are computed at once, so that chains such as Shape, Gather, Concat, Reshape end as static
shapes. Bodies of ONNX functions, of the model's own functions, and the taken branch of an If
with a known condition are walked in place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import onnx
from onnx import defs

from accelsdk.compiler.evaluate import fold
from accelsdk.compiler.importer_convert import PINNED_OPSET, needs_upgrade, upgraded
from accelsdk.compiler.importer_tensors import Origin, attributes_of, tensor_constant
from accelsdk.errors import GraphError, ModelError, UnsupportedGraph
from accelsdk.formats import FLOAT32
from accelsdk.graph.graph import ONNX, Constant, Graph, Node
from accelsdk.graph.ops import bounded
from accelsdk.graph.rewrite import Builder, LoweringRule
from accelsdk.graph.types import TensorType, Value

_FUNCTIONS_DEEP = 16
#: Rules of the op table that valid ONNX may break; breaking others makes a model invalid.
_OUTSIDE_THE_TABLE = ("format", "attribute", "attribute-choice", "group")
#: Type of a result while the rule that finds its type runs.
_UNKNOWN = TensorType(FLOAT32, ())

Scope = dict[str, Value]


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


class Walker:
    """Collects typed nodes and constants; see the module docstring.

    Args:
        rules: Lowering rules that will be used later.
        functions: The model's own functions by domain and name.
        origin: Where contents of tensors are.
    """

    def __init__(
        self,
        rules: Sequence[LoweringRule],
        functions: Mapping[tuple[str, str], onnx.FunctionProto],
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
        self._values: set[str] = set()
        self._nodes: set[str] = set()

    # -- names ---------------------------------------------------------------------------

    def fresh(self, name: str) -> str:
        """Returns a name like ``name`` that no value has yet, and takes it."""
        return _fresh(name, self._values)

    def add_constant(self, constant: Constant) -> Value:
        """Adds a constant under its own name or one like it."""
        name = self.fresh(constant.name)
        value = Value(name, constant.value.type)
        self.constants[name] = replace(constant, value=value)
        return value

    def copy(self, value: Value, name: str) -> Value:
        """Adds an Identity that gives ``value`` another name."""
        result = Value(self.fresh(name), value.type)
        node = _fresh(f"{name}/copy", self._nodes)
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
        if place.settings is not None:
            proto = _with_settings(proto, place.settings)
        inputs = [_look_up(scope, item, name) for item in proto.input]
        made = upgraded(proto, _stem(proto), inputs, self.constants, version)
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
        inputs = [_look_up(scope, item, name) for item in proto.input]
        if place.settings is not None:
            proto = _with_settings(proto, place.settings)
        if domain == ONNX and proto.op_type == "Constant":
            scope[proto.output[0]] = self._constant(proto, name, place)
            return
        if domain == ONNX and proto.op_type == "If":
            self._if(proto, name, inputs, scope, place)
            return
        if domain == ONNX and proto.op_type in ("Loop", "Scan", "SequenceMap"):
            _unsupported(proto, name, "loops are not supported; export the model unrolled")
        results = self._apply_rules(proto, name, domain, inputs, place)
        if results is None:
            results = self._function(proto, name, domain, inputs, place)
        for item, value in zip(proto.output, results, strict=False):
            if item and value is not None:
                scope[item] = value

    def _node_name(self, proto: onnx.NodeProto, place: Place) -> str:
        return _fresh(f"{place.prefix}{_stem(proto)}", self._nodes)

    def _constant(self, proto: onnx.NodeProto, name: str, place: Place) -> Value:
        item = proto.attribute[0] if len(proto.attribute) == 1 else None
        if item is None:
            raise ModelError("a Constant node needs exactly one attribute", node=name)
        match item.name:
            case "value":
                tensor = item.t
            case "value_float" | "value_floats":
                numbers = [item.f] if item.name == "value_float" else list(item.floats)
                dims = [] if item.name == "value_float" else [len(numbers)]
                tensor = onnx.helper.make_tensor(name, onnx.TensorProto.FLOAT, dims, numbers)
            case "value_int" | "value_ints":
                whole = [item.i] if item.name == "value_int" else list(item.ints)
                dims = [] if item.name == "value_int" else [len(whole)]
                tensor = onnx.helper.make_tensor(name, onnx.TensorProto.INT64, dims, whole)
            case _:
                _unsupported(proto, name, f"attribute {item.name!r} is not supported")
        stem = f"{place.prefix}{proto.output[0]}"
        return self.add_constant(tensor_constant(tensor, stem, self.origin))

    def _if(
        self,
        proto: onnx.NodeProto,
        name: str,
        inputs: Sequence[Value | None],
        scope: Scope,
        place: Place,
    ) -> None:
        """Walks the branch that a constant condition takes."""
        condition = inputs[0] if inputs else None
        known = self.constants.get(condition.name) if condition is not None else None
        if known is None:
            _unsupported(
                proto, name, "its condition is computed at run time; only constant ones can be"
            )
        wanted = "then_branch" if bool(known.array().reshape(-1)[:1].any()) else "else_branch"
        branch = next((a.g for a in proto.attribute if a.name == wanted), None)
        if branch is None or len(branch.output) < len(proto.output):
            raise ModelError(f"If has no proper {wanted}", node=name)
        inner = dict(scope)
        below = replace(place, prefix=f"{name}/", origin=place.origin or (name,))
        for tensor in branch.initializer:
            stem = f"{below.prefix}{tensor.name}"
            inner[tensor.name] = self.add_constant(tensor_constant(tensor, stem, self.origin))
        self.walk(branch.node, inner, below)
        for result, source in zip(proto.output, branch.output, strict=False):
            value = _look_up(inner, source.name, name)
            if result and value is not None:
                scope[result] = value

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
                _unsupported(proto, name, error.message)
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
        by_data = self.bounded.union(*map(bounded, graph.nodes))
        self.bounded.update(
            value.name
            for value, result in zip(outputs, results, strict=False)
            if value is not None and result is not None and result.name in by_data
        )
        return list(outputs)

    def _check_sizes(
        self, proto: onnx.NodeProto, name: str, inputs: Sequence[Value | None]
    ) -> None:
        """Refuses to read a value whose size depends on the data: its type is only a bound."""
        for value in inputs:
            if value is not None and value.name in self.bounded:
                _unsupported(
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
        inputs: Sequence[Value | None],
        place: Place,
    ) -> list[Value | None]:
        """Walks the body of a function in place of its call."""
        body = self.functions.get((proto.domain, proto.op_type))
        if body is None and domain == ONNX:
            body = _schema_function(proto, inputs, place.opsets.get("", 1))
        if body is None:
            self._refuse(proto, name, domain, inputs)
        if place.depth >= _FUNCTIONS_DEEP:
            raise ModelError("functions call each other endlessly", node=name)
        defaults = _schema_defaults(proto, place) if domain == ONNX else {}
        defaults |= {a.name: a for a in body.attribute_proto}
        below = Place(
            opsets={entry.domain: entry.version for entry in body.opset_import},
            prefix=f"{name}/",
            origin=place.origin or (name,),
            depth=place.depth + 1,
            settings=defaults | {a.name: a for a in proto.attribute},
        )
        scope: Scope = {}
        for parameter, value in zip(body.input, inputs, strict=False):
            if value is not None:
                scope[parameter] = value
        missing = set(body.input) - scope.keys()
        self.walk([_without(node, missing) for node in body.node], scope, below)
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
        _unsupported(proto, name, "; ".join(reasons) or default)


def _stem(proto: onnx.NodeProto) -> str:
    return proto.name or next((o for o in proto.output if o), proto.op_type)


def _fresh(name: str, taken: set[str]) -> str:
    found, count = name, 1
    while found in taken:
        found, count = f"{name}_{count}", count + 1
    taken.add(found)
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


def _look_up(scope: Scope, name: str, node: str) -> Value | None:
    if not name:
        return None
    if name not in scope:
        raise ModelError(f"value {name!r} is read before anything makes it", node=node)
    return scope[name]


def _with_settings(
    proto: onnx.NodeProto, settings: Mapping[str, onnx.AttributeProto]
) -> onnx.NodeProto:
    """Returns a node of a function body with the call's attributes put in."""
    if not any(item.ref_attr_name for item in proto.attribute):
        return proto
    made = onnx.NodeProto()
    made.CopyFrom(proto)
    del made.attribute[:]
    for item in proto.attribute:
        if not item.ref_attr_name:
            made.attribute.append(item)
        elif item.ref_attr_name in settings:
            given = made.attribute.add()
            given.CopyFrom(settings[item.ref_attr_name])
            given.name = item.name
    return made


def _without(proto: onnx.NodeProto, missing: set[str]) -> onnx.NodeProto:
    """Returns a node of a function body without operands that the call left out."""
    if not missing.intersection(proto.input):
        return proto
    made = onnx.NodeProto()
    made.CopyFrom(proto)
    made.input[:] = ["" if item in missing else item for item in proto.input]
    return made


def _schema_defaults(proto: onnx.NodeProto, place: Place) -> dict[str, onnx.AttributeProto]:
    """Returns the default values of an ONNX op's attributes, by name."""
    schema: Any = defs.get_schema(proto.op_type, place.opsets.get("", 1), "")
    return {
        name: item.default_value
        for name, item in schema.attributes.items()
        if item.default_value.name
    }


def _schema_function(
    proto: onnx.NodeProto, inputs: Sequence[Value | None], opset: int
) -> onnx.FunctionProto | None:
    """Returns the body that ONNX itself defines for an op, if it does."""
    if not defs.has(proto.op_type, max_inclusive_version=opset):
        return None
    schema: Any = defs.get_schema(proto.op_type, opset, "")
    if schema.has_context_dependent_function:
        versions = schema.context_dependent_function_opset_versions
        version = max((v for v in versions if v <= opset), default=min(versions))
        types = [_type_proto(value).SerializeToString() for value in inputs]
        data = schema.get_context_dependent_function_with_opset_version(
            version, proto.SerializeToString(), types
        )
    elif schema.has_function:
        versions = schema.function_opset_versions
        version = max((v for v in versions if v <= opset), default=min(versions))
        data = schema.get_function_with_opset_version(version)
    else:
        return None
    if not data:
        return None
    body = onnx.FunctionProto()
    body.ParseFromString(data)
    return body


def _type_proto(value: Value | None) -> onnx.TypeProto:
    if value is None:
        return onnx.TypeProto()
    kind = onnx.helper.np_dtype_to_tensor_dtype(value.format.dtype)
    return onnx.helper.make_tensor_type_proto(kind, list(value.shape))


def _unsupported(proto: onnx.NodeProto, name: str, reason: str) -> NoReturn:
    text = f"node {name!r} ({proto.op_type}): {reason}"
    raise UnsupportedGraph("the model cannot be lowered to core ops", reasons=[text])
