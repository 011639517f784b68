"""Which files a model lies in, and the digest of all of them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import onnx

from accelsdk.compiler.importer import Source, load_model

_CHUNK = 1 << 20


def digest(source: Source) -> str:
    """Returns the SHA-256 of a model and of the external files that its weights lie in.

    Contents are streamed; weights are not parsed.

    Raises:
        NotFound: The model file does not exist.
        ModelError: It is no ONNX model.
    """
    state = hashlib.sha256()
    model, _ = load_model(source)
    if isinstance(source, bytes):
        state.update(source)
    elif isinstance(source, str | Path):
        folder = Path(source).parent
        for path in (Path(source), *(folder / name for name in sorted(_locations(model)))):
            _add(state, path)
    else:
        state.update(source.SerializeToString())
    return state.hexdigest()


def _add(state: hashlib._Hash, path: Path) -> None:
    try:
        with path.open("rb") as file:
            state.update(f"{path.name} {os.fstat(file.fileno()).st_size}\n".encode())
            while chunk := file.read(_CHUNK):
                state.update(chunk)
    except OSError:
        state.update(f"{path.name} is missing\n".encode())  # which the importer will tell


def _locations(model: onnx.ModelProto) -> set[str]:
    """Returns the names of the external files of a model's tensors."""
    functions = chain.from_iterable(function.node for function in model.functions)
    return {
        entry.value
        for tensor in (*_of_graph(model.graph), *_of_nodes(functions))
        if tensor.data_location == onnx.TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }


def _of_graph(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    yield from _of_nodes(graph.node)


def _of_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for body in (attribute.g, *attribute.graphs):
                yield from _of_graph(body)
