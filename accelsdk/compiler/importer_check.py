"""What is looked at in a model before anything is made of it, and the sizes it may ask for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import onnx
from onnx import defs

from accelsdk.compiler.importer_convert import PINNED_OPSET
from accelsdk.errors import ModelError
from accelsdk.graph.types import Value

#: What 64-bit processors address (48 bits, half of it for programs): no tensor can be larger.
_ADDRESSABLE = 1 << 47


def check_model(model: onnx.ModelProto) -> None:
    """Checks what the rest of the importer, and onnx's converter, take for granted.

    Raises:
        ModelError: The opset is not known, a name is no text, a value is made twice, or a
            node does not have the results that it says.
    """
    _check_opset(model)
    graphs = [model.graph, *(function for function in model.functions)]
    for graph in graphs:
        for node in _nodes(graph.node):
            _check_node(node)
    tensors = [tensor.name for tensor in model.graph.initializer]
    _check_text([*tensors, *(item.name for item in (*model.graph.input, *model.graph.output))])
    results = (name for node in model.graph.node for name in node.output if name)
    twice = [name for name, count in Counter([*tensors, *results]).items() if count > 1]
    if twice:
        raise ModelError(f"value {twice[0]!r} is made twice")


def check_size(value: Value, node: str | None = None) -> None:
    """Raises ModelError if a value is larger than any memory."""
    if value.type.nbytes > _ADDRESSABLE:
        raise ModelError(
            f"value {value.name!r} is {value.type} and would take {value.type.nbytes:,} bytes",
            node=node,
            remedy="check the shapes in the model",
        )


def _check_opset(model: onnx.ModelProto) -> None:
    newest = defs.onnx_opset_version()
    versions = [e.version for e in model.opset_import if e.domain in ("", "ai.onnx")]
    if len(versions) != 1 or versions[0] < 1:
        raise ModelError(
            "the model does not say which ai.onnx opset it uses", remedy="export it again"
        )
    if versions[0] > newest:
        raise ModelError(
            f"the model uses opset {versions[0]}; onnx {onnx.__version__} knows up to {newest}",
            remedy=f"install a newer onnx, or export with opset {PINNED_OPSET}",
        )


def _nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Yields nodes, and those of the bodies in their attributes."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                yield from _nodes(body.node)


def _check_node(node: onnx.NodeProto) -> None:
    _check_text((node.op_type, node.domain, node.name, *node.input, *node.output))
    _check_text(attribute.name for attribute in node.attribute)
    if node.op_type == "Split":
        # Shape inference would make as many results as are announced.
        for attribute in node.attribute:
            if attribute.name == "num_outputs" and attribute.i > len(node.output):
                raise ModelError(
                    f"Split announces {attribute.i} results and has {len(node.output)}",
                    node=node.name,
                )


def _check_text(texts: Iterable[str | bytes]) -> None:
    """Protobuf hands out bytes where a string is not UTF-8."""
    for text in texts:
        if isinstance(text, bytes):
            raise ModelError(f"the name {text!r} in the model is not UTF-8 text")
