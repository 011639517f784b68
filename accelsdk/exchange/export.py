"""Graphs as standard ONNX models, which any ONNX runtime runs and any viewer opens.

Ops that ONNX has become standard nodes; a few groups of ops become one (see `groups`). The
others (our own quantised, block-scaled and embedding ops, and composites of newer opsets) become
functions of the domain ``accelsdk`` whose bodies are standard ops; composites can also be
expanded. Narrow formats are stored as codes: see `accelsdk.exchange.storage`; the model's
metadata names the format of each.

A runtime that has the constants already takes the model without them: `to_onnx` with
``contents=False`` declares each as external data, and reads none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from onnx import FunctionProto, ModelProto, TensorProto, ValueInfoProto, helper

from accelsdk.errors import Unimplemented
from accelsdk.exchange import dynamic, fused, narrow, own, scalars, standard
from accelsdk.exchange.emitter import DOMAIN, OPSET, Emitter, Functions
from accelsdk.exchange.group import Group
from accelsdk.exchange.storage import onnx_type, outside, tensor
from accelsdk.formats import Format
from accelsdk.graph.graph import CORE, ONNX, Graph, Node
from accelsdk.graph.ops import bounded, filled, lookup
from accelsdk.graph.rewrite import Builder, apply, decompositions
from accelsdk.graph.types import Value

#: IR version of opset 23; every runtime of that opset reads it.
IR_VERSION = 11
#: Key prefix, in the model's metadata, of the formats of values stored as codes.
FORMAT_KEY = "accelsdk.format:"
#: Protocol buffers end at 2 GiB.
_LIMIT = (1 << 31) - (1 << 20)


def to_onnx(
    graph: Graph, *, expand: bool = False, contents: bool = True, detours: bool = True
) -> ModelProto:
    """Returns a standard ONNX model that computes what ``graph`` does.

    Args:
        graph: Verified, core ops only.
        expand: Whether composites are decomposed even where ONNX has them.
        contents: Whether the model holds the contents of constants. If not, each is external
            data in a file that does not exist, and whoever runs the model supplies them, as
            `accelsdk.exchange.storage.to_storage` lays them out.
        detours: Whether the model goes round what onnxruntime is known to compute wrongly. If
            not, its own kernels are called wherever ONNX has the op, and a graph of FP8
            conversions alone is written in ONNX's own FP8 types.

    Raises:
        Unimplemented: A node is not of the core table, or the constants exceed what a
            protocol buffer holds (2 GiB).
    """
    if expand:
        graph = apply(graph, decompositions())
    size = sum(constant.value.type.nbytes for constant in graph.constants)
    if contents and size > _LIMIT:
        raise Unimplemented(
            f"the constants take {size:,} bytes; an ONNX model in one piece holds {_LIMIT:,}",
            remedy="export the parts of a partitioned graph",
        )
    functions = Functions(detours)
    narrow_types = not detours and narrow.converts_only(graph)
    em = Emitter(functions, [value.name for value in graph.values()])
    together = {group.at: group for group in groups(graph)}
    inside = frozenset[str]().union(*(group.nodes for group in together.values()))
    for node in graph.nodes:
        outputs = [value.name if value is not None else "" for value in node.outputs]
        if node.name in together:
            together[node.name].emit(em)
        elif narrow_types:
            narrow.emit(em, node)
        elif node.name not in inside:
            _emit(em, node, scalars.emit(em, graph, node), outputs)
    _emit_passed_through(em, graph)
    # What a pair of ops does without is not in the model: runtimes refuse contents for it.
    read = {name for node in em.nodes for name in node.input}
    kept = [constant for constant in graph.constants if constant.name in read]
    if contents:
        constants = [tensor(c.name, c.array(), c.value.format) for c in kept]
    else:
        constants = [outside(c.value) for c in kept]
    return _model(graph, em, functions, constants, narrow.data_type if narrow_types else onnx_type)


def groups(graph: Graph) -> list[Group]:
    """Returns the nodes of a graph that `to_onnx` writes together, as one op of ONNX.

    Groups are disjoint.
    """
    return [*fused.groups(graph), *dynamic.groups(graph)]


def _names(node: Node) -> list[str]:
    return [value.name if value is not None else "" for value in node.inputs]


def _emit_passed_through(em: Emitter, graph: Graph) -> None:
    """Gives outputs that no node makes, or that repeat, a name of their own."""
    made = {v.name for node in graph.nodes for v in node.outputs if v is not None}
    for source, output in zip(graph.outputs, output_names(graph), strict=True):
        if output != source.name or source.name not in made:
            em.emit("Identity", (source.name,), (output,))


def output_names(graph: Graph) -> list[str]:
    """Returns the names that the outputs of a graph have in its exported model.

    An output that no node makes, or that stands there twice, gets a name of its own.
    """
    made = {v.name for node in graph.nodes for v in node.outputs if v is not None}
    names: list[str] = []
    for value in graph.outputs:
        own_name = value.name in made and value.name not in names
        names.append(value.name if own_name else f"{value.name}.output.{len(names)}")
    return names


def _emit(em: Emitter, node: Node, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Emits a core node as one standard node or as a call of a function."""
    if node.domain == ONNX:
        em.emit(node.op, inputs, outputs, dict(node.attributes), name=node.name)
        return
    if node.domain != CORE:
        raise Unimplemented(
            f"{node.domain}:{node.op} has no ONNX form",
            node=node.name,
            remedy="decompose vendor composites before the export",
        )
    if standard.has_equivalent(node, em.functions.detours):
        standard.emit(em, node, inputs, outputs)
        return
    function = _function(em.functions, node)
    kept = list(outputs)
    while kept and not kept[-1]:
        kept.pop()
    given = [name for name in inputs if name]
    em.emit(function.name, given, kept, domain=DOMAIN, name=node.name)


def _function(functions: Functions, node: Node) -> FunctionProto:
    """Returns the function for a node, made if no equal node came before."""
    types = tuple(str(value.type) if value is not None else "" for value in node.inputs)
    settings = tuple(sorted(filled(lookup(node), node.attributes, node.name).items()))
    results = tuple(str(value.type) if value is not None else "" for value in node.outputs)
    key = (node.op, types, settings, results)
    if key not in functions.by_key:
        functions.by_key[key] = _make_function(functions, node)
    return functions.by_key[key]


def _make_function(functions: Functions, node: Node) -> FunctionProto:
    row = lookup(node)
    formal = [
        "" if value is None else operand.name
        for operand, value in zip(row.operands, node.inputs, strict=False)
    ]
    em = Emitter(functions, formal)
    if node.op in own.BODIES and not row.is_composite:
        made = list(own.BODIES[node.op](em, node, formal))
    else:
        made = _decomposed(em, node, formal)
    imports = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)]
    count = max(i for i, value in enumerate(node.outputs) if value is not None) + 1
    return helper.make_function(
        DOMAIN,
        functions.name(node.op),
        [name for name in formal if name],
        made[:count],
        em.nodes,
        imports,
        doc_string=row.help,
    )


def _decomposed(em: Emitter, node: Node, formal: Sequence[str]) -> list[str]:
    """Emits the decomposition of a composite; returns the names of its results."""
    row = lookup(node)
    if row.decompose is None:
        raise Unimplemented(f"{node.op} has no ONNX form", node=node.name)
    renamed = tuple(
        None if value is None else Value(name, value.type)
        for name, value in zip(formal, node.inputs, strict=True)
    )
    builder = Builder([name for name in formal if name])
    inner = Node(node.op, renamed, node.outputs, node.attributes, node.domain, node.name)
    results = row.decompose(builder, inner)
    names = {
        constant.name: em.constant(constant.array(), constant.value.format)
        for constant in builder.constants
    }
    for made in builder.nodes:
        inputs = [names.get(name, name) for name in _names(made)]
        outputs = [value.name if value is not None else "" for value in made.outputs]
        _emit(em, made, inputs, outputs)
    # A result that is an operand or a constant still needs a node that makes it.
    own_names = {v.name for made in builder.nodes for v in made.outputs if v is not None}
    return [
        _as_result(em, names.get(v.name, v.name), v.name in own_names) if v is not None else ""
        for v in results
    ]


def _as_result(em: Emitter, name: str, is_made: bool) -> str:
    return name if is_made else em.node("Identity", name)


def _model(
    graph: Graph,
    em: Emitter,
    functions: Functions,
    constants: Sequence[TensorProto],
    type_of: Callable[[Format], int],
) -> ModelProto:
    made_here = {name for node in em.nodes for name in node.output}
    by_data = frozenset[str]().union(*map(bounded, graph.nodes))
    outputs = [
        _value_info(Value(name, value.type), type_of, value.name in by_data)
        for name, value in zip(output_names(graph), graph.outputs, strict=True)
    ]
    made = helper.make_graph(
        em.nodes,
        graph.name,
        [_value_info(value, type_of) for value in graph.inputs],
        outputs,
        constants,
        value_info=[
            _value_info(value, type_of, value.name in by_data)
            for node in graph.nodes
            for value in node.outputs
            if value is not None and value.name in made_here and value not in graph.outputs
        ],
    )
    imports = [helper.make_opsetid("", OPSET)]
    if functions.by_key:
        imports.append(helper.make_opsetid(DOMAIN, 1))
    model = helper.make_model(
        made,
        functions=list(functions.by_key.values()),
        opset_imports=imports,
        ir_version=IR_VERSION,
        producer_name="accelsdk",
    )
    formats = {
        FORMAT_KEY + value.name: value.format.name
        for value in graph.values()
        if value.format.dtype != helper.tensor_dtype_to_np_dtype(onnx_type(value.format))
        or value.format.dtype.name != value.format.name
    }
    helper.set_model_props(model, formats)
    return model


def _value_info(
    value: Value, type_of: Callable[[Format], int], sized_by_data: bool = False
) -> ValueInfoProto:
    shape = [None] * value.type.rank if sized_by_data else value.shape
    return helper.make_tensor_value_info(value.name, type_of(value.format), shape)
