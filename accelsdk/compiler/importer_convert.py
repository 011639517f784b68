"""Brings models of older opsets to the pinned one.

onnx converts a whole model at once, which is fast; but it stops at ops that it has no schema
for, and at conversions that need a shape which it could not find (behind an op of another
domain, say). Such a model is read as it is, and each of its ai.onnx nodes is converted by
itself when the walk reaches it: by then its operands have static types.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from functools import lru_cache

import numpy as np
import onnx
from onnx import defs, helper, inliner, numpy_helper, version_converter

from accelsdk.compiler import importer_rows, importer_scan8
from accelsdk.errors import ModelError, UnsupportedGraph
from accelsdk.graph.graph import ONNX, Constant
from accelsdk.graph.types import Value

#: Models of older opsets are converted to this one before they are read.
PINNED_OPSET = 23
#: The converter may need the contents (axes, pads, shapes, scales) of tensors up to this size.
_SMALL = 64
_OWN = ("", "ai.onnx")
#: From this opset on, a Scan is what it is in the pinned one.
_SCAN_9 = 9
#: The opsets in which the bounds of Clip are attributes that have defaults.
_CLIP_6 = range(6, 11)


def converted(model: onnx.ModelProto, lowered: Container[tuple[str, str]]) -> onnx.ModelProto:
    """Returns a copy of a model, in the pinned opset and with its functions inlined if it can be.

    Weights are turned into inputs first: the converter is C++ and would copy them. Opsets
    above the pinned one are read as they are: since then ops have gained formats and
    attributes only, and rules refuse attributes that they do not know. A model that has nodes
    without an ONNX schema, and cannot be converted, comes back in its own opset; see
    `needs_upgrade`.

    Args:
        model: Not changed.
        lowered: Domain and name of each op that has a lowering rule.

    Raises:
        ModelError: The model is not valid ONNX of its opset.
        UnsupportedGraph: It cannot be converted for ops that nobody knows; names each node.
    """
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    version = next(e.version for e in bare.opset_import if e.domain in _OWN)
    if version >= PINNED_OPSET:
        return bare
    untouched = bare
    bare = _without_weights(bare)
    try:
        if bare.functions:
            bare = inliner.inline_local_functions(bare, convert_version=True)
        _hide(bare.graph, version)
        made = version_converter.convert_version(bare, PINNED_OPSET)
        _show(made.graph, version)
        return made
    except Exception as error:
        what = f"the model cannot be converted from opset {version} to {PINNED_OPSET}"
        remedy = f"export it with opset {PINNED_OPSET}, or 18 and later"
        foreign = list(_without_schema(untouched.graph, version))
        functions = {(f.domain, f.name) for f in untouched.functions}
        reasons = [
            reason
            for op, reason in foreign
            if not (op in lowered or op in functions) or (op[0] == ONNX and defs.has(op[1]))
        ]
        if reasons:
            raise UnsupportedGraph(what, reasons=reasons, remedy=remedy) from error
        if not foreign and not _has_sparse(untouched.graph):
            raise ModelError(f"{what}: {first_line(error)}", remedy=remedy) from error
        return untouched


def _hide(graph: onnx.GraphProto, version: int) -> None:
    """Hides or spells out what onnx's converter would change the meaning of."""
    if version in _CLIP_6:
        _spell_bounds(graph)
    if version < importer_rows.ROWS_13:
        importer_rows.hide(graph)
    if version < _SCAN_9:
        importer_scan8.hide(graph)


def _show(graph: onnx.GraphProto, version: int) -> None:
    """Brings back what was hidden, as the pinned opset has it."""
    if version < importer_rows.ROWS_13:
        importer_rows.show(graph)
    if version < _SCAN_9:
        importer_scan8.show(graph)


def _spell_bounds(graph: onnx.GraphProto) -> None:
    """Gives each Clip of opset 6 the bounds that it leaves out, in place.

    Whatever the format, they default to the largest finite numbers of float32; the converter
    takes some of them for no bound.
    """
    for node in graph.node:
        if node.op_type == "Clip" and node.domain in _OWN:
            given = {item.name for item in node.attribute}
            schema = defs.get_schema("Clip", _CLIP_6.start, "")
            node.attribute.extend(
                bound.default_value
                for name, bound in schema.attributes.items()
                if name not in given
            )
        for item in node.attribute:
            if item.HasField("g"):
                _spell_bounds(item.g)


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns a copy whose large initialisers have become inputs."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    given = {item.name for item in bare.graph.input}
    small = []
    for tensor in bare.graph.initializer:
        if _is_small(tensor):
            small.append(tensor)
        elif tensor.name not in given:
            info = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            bare.graph.input.append(info)
    for sparse in bare.graph.sparse_initializer:
        if sparse.values.name not in given:
            kind = sparse.values.data_type
            info = helper.make_tensor_value_info(sparse.values.name, kind, sparse.dims)
            bare.graph.input.append(info)
    del bare.graph.sparse_initializer[:]
    kept = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in small]
    del bare.graph.initializer[:]
    bare.graph.initializer.extend(kept)
    # Types of intermediate values are found anew; what the exporter wrote may be wrong.
    del bare.graph.value_info[:]
    bare.ir_version = max(bare.ir_version, 4)  # from 4 on initialisers need not be inputs
    return bare


def _has_sparse(graph: onnx.GraphProto) -> bool:
    """Whether a node holds a sparse tensor, which onnx cannot convert."""
    return any(
        item.HasField("sparse_tensor") or (item.HasField("g") and _has_sparse(item.g))
        for node in graph.node
        for item in node.attribute
    )


def _is_small(tensor: onnx.TensorProto) -> bool:
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        return False
    count = int(np.prod(tensor.dims, dtype=np.float64))
    return count <= _SMALL and bool(tensor.raw_data or count == 0 or _items(tensor))


def _items(tensor: onnx.TensorProto) -> int:
    lists = (tensor.float_data, tensor.int32_data, tensor.int64_data, tensor.uint64_data)
    return sum(map(len, lists)) + len(tensor.double_data)


def _without_schema(graph: onnx.GraphProto, version: int) -> Iterator[tuple[tuple[str, str], str]]:
    """Yields each op that the converter knows no schema for, and a line about its node."""
    for node in graph.node:
        name = node.name or next((item for item in node.output if item), node.op_type)
        where = f"node {name!r} ({node.op_type})"
        if node.domain not in _OWN:
            key = (node.domain, node.op_type)
            yield key, f"{where}: no lowering rule for {node.domain}:{node.op_type}"
        elif not defs.has(node.op_type, version, ""):
            key = (ONNX, node.op_type)
            yield key, f"{where}: ONNX has no op {node.op_type!r} in opset {version}"
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                yield from _without_schema(body, version)


# -- one node ----------------------------------------------------------------------------------


def needs_upgrade(proto: onnx.NodeProto, version: int) -> bool:
    """Says whether a node may mean something else in the pinned opset than in its own.

    Nodes with bodies (If, Loop, Scan) mean the same since opset 9; the nodes in their bodies
    are upgraded one by one.
    """
    if version >= PINNED_OPSET or proto.domain not in _OWN:
        return False
    if any(item.HasField("g") or item.graphs for item in proto.attribute):
        return False
    if not defs.has(proto.op_type, version, "") or proto.op_type == "Constant":
        return False
    now = defs.get_schema(proto.op_type, PINNED_OPSET, "").since_version
    return bool(defs.get_schema(proto.op_type, version, "").since_version != now)


def upgraded(
    proto: onnx.NodeProto,
    name: str,
    inputs: Sequence[Value | None],
    constants: Mapping[str, Constant],
    version: int,
) -> list[onnx.NodeProto]:
    """Returns what an ai.onnx node of an older opset is in the pinned one.

    Args:
        proto: The node.
        name: Its name; also the stem of the names of values in between.
        inputs: Its operands, whose types the converter is told.
        constants: Those that operands may be, by name.
        version: The node's opset.

    Returns:
        Nodes in order; they read the node's operands and make its results under their own
        names.

    Raises:
        ModelError: onnx cannot convert the node.
    """
    alone = onnx.NodeProto()
    alone.CopyFrom(proto)
    alone.name = alone.doc_string = ""
    alone.input[:] = [f"i{at}" if item else "" for at, item in enumerate(proto.input)]
    alone.output[:] = [f"o{at}" if item else "" for at, item in enumerate(proto.output)]
    given, held = [], []
    for at, value in enumerate(inputs):
        if value is None:
            continue
        kind = helper.np_dtype_to_tensor_dtype(value.format.dtype)
        if value.name in constants and value.type.count <= _SMALL:
            held.append(numpy_helper.from_array(constants[value.name].array(), f"i{at}"))
        else:
            given.append(helper.make_tensor_value_info(f"i{at}", kind, value.shape))
    results = [onnx.ValueInfoProto(name=item) for item in alone.output if item]
    graph = helper.make_graph([alone], "node", given, results, held)
    _hide(graph, version)
    opset = helper.make_opsetid("", version)
    # 10 is the last IR version before formats that older opsets do not have.
    model = helper.make_model(graph, opset_imports=[opset], ir_version=10)
    try:
        template = _upgraded_alone(model.SerializeToString(deterministic=True), version)
    except Exception as error:
        raise ModelError(
            f"{proto.op_type} cannot be converted from opset {version} to {PINNED_OPSET}: "
            f"{first_line(error)}",
            node=name,
            remedy=f"export the model with opset {PINNED_OPSET}, or 18 and later",
        ) from error
    names = {f"i{at}": item for at, item in enumerate(proto.input)}
    names |= {f"o{at}": item for at, item in enumerate(proto.output)}
    return [_renamed(node, names, proto.op_type, name) for node in template]


@lru_cache(maxsize=256)  # the converter takes 10 ms a call, and models repeat their layers
def _upgraded_alone(data: bytes, version: int) -> tuple[onnx.NodeProto, ...]:
    model = version_converter.convert_version(onnx.load_from_string(data), PINNED_OPSET)
    _show(model.graph, version)
    constants = [
        helper.make_node("Constant", [], [tensor.name], value=tensor)
        for tensor in model.graph.initializer
        if not tensor.name.startswith("i")
    ]
    return (*constants, *model.graph.node)


def _renamed(node: onnx.NodeProto, names: Mapping[str, str], op: str, stem: str) -> onnx.NodeProto:
    made = onnx.NodeProto()
    made.CopyFrom(node)
    made.name = stem if node.op_type == op else f"{stem}/{node.op_type}"
    made.input[:] = [names.get(item, f"{stem}/{item}") if item else "" for item in node.input]
    made.output[:] = [names.get(item, f"{stem}/{item}") if item else "" for item in node.output]
    return made


def first_line(error: Exception) -> str:
    """Returns the first line of an error's message, at most 300 characters."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
