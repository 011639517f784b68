"""What a model takes and gives, read without its weights and before its shapes are fixed."""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from accelsdk.compiler.importer import Source, load_model
from accelsdk.compiler.importer_tensors import dynamic, format_of
from accelsdk.errors import ModelError
from accelsdk.formats import Format


@dataclass(frozen=True, slots=True)
class Argument:
    """One input or output as the model declares it.

    Attributes:
        name: As in the model.
        format: Number format of the elements.
        shape: One entry a dimension: its extent, or its name, or None where it has neither.
            None altogether if the model does not even give the rank.
    """

    name: str
    format: Format
    shape: tuple[int | str | None, ...] | None


def signature(source: Source) -> tuple[tuple[Argument, ...], tuple[Argument, ...]]:
    """Returns the inputs and outputs that a model declares; weights are not read.

    Args:
        source: Path of a model file, the serialised model, or the model itself.

    Raises:
        NotFound: The file does not exist.
        ModelError: The model is corrupt, or an input is no tensor.
    """
    model, _ = load_model(source)
    weights = {tensor.name for tensor in model.graph.initializer}
    weights |= {tensor.values.name for tensor in model.graph.sparse_initializer}
    inputs = [item for item in model.graph.input if item.name not in weights]
    return (
        tuple(_argument(item, "input") for item in inputs),
        tuple(_argument(item, "output") for item in model.graph.output),
    )


def _argument(item: onnx.ValueInfoProto, what: str) -> Argument:
    what = f"{what} {item.name!r}"
    if not item.type.HasField("tensor_type"):
        raise ModelError(f"{what} is no tensor; sequences and maps are not supported")
    kind = item.type.tensor_type
    shape = None
    if kind.HasField("shape"):
        shape = tuple(d.dim_param or None if dynamic(d) else d.dim_value for d in kind.shape.dim)
    return Argument(item.name, format_of(kind.elem_type, what), shape)
