"""Reads ONNX models as graphs of the level "imported".

Every value gets a static type: dynamic dimensions are fixed by the caller's shapes, opsets
below the pinned one are converted by onnx, shape arithmetic is computed at once. Weights are
not copied; they stay in the file, or in the caller's bytes, until someone asks for them.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import ArrayLike

from accelsdk.backend.program_file import MAGIC
from accelsdk.compiler.importer_bound import bound
from accelsdk.compiler.importer_check import check_model, check_size
from accelsdk.compiler.importer_constants import dense
from accelsdk.compiler.importer_convert import PINNED_OPSET as PINNED_OPSET
from accelsdk.compiler.importer_convert import converted, first_line
from accelsdk.compiler.importer_nodes import Walker
from accelsdk.compiler.importer_scope import Listed, Place, Scope
from accelsdk.compiler.importer_tensors import Origin, dynamic, format_of, tensor_constant
from accelsdk.compiler.importer_wire import split
from accelsdk.compiler.rules.catalogue import RULES
from accelsdk.errors import (
    AccelError,
    InvalidArgument,
    ModelError,
    NotFound,
    UnsupportedGraph,
)
from accelsdk.graph.graph import Constant, Graph
from accelsdk.graph.rewrite import LoweringRule
from accelsdk.graph.types import TensorType, Value

#: What `read` takes a model from: a path, the serialised model, or the model itself.
Source = str | Path | bytes | onnx.ModelProto


def read(
    source: Source,
    *,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    input_values: Mapping[str, ArrayLike] | None = None,
    rules: Sequence[LoweringRule] = (),
) -> Graph:
    """Reads an ONNX model as a typed graph of ai.onnx nodes.

    Args:
        source: Path of a model file, the serialised model, or the model itself. A file must
            stay as it is while the graph's constants are in use.
        input_shapes: Shape of each input that has dynamic dimensions, by name.
        input_values: Inputs to bind to a constant, by name; they are inputs no more.
        rules: Lowering rules that will be used besides the built-in ones (a vendor's); they
            come first.

    Returns:
        The graph, whose nodes are each lowered by one rule. Constants are lazy.

    Raises:
        NotFound: The file, or an external data file, does not exist; or a name in
            ``input_shapes`` or ``input_values`` is no input.
        ModelError: The model is corrupt, or not valid ONNX.
        InvalidArgument: A dynamic dimension was left open, or a shape does not fit.
        UnsupportedGraph: A node cannot be lowered; carries the reasons.
    """
    model, origin = load_model(source)
    try:
        return _read(model, origin, input_shapes or {}, input_values or {}, rules)
    except AccelError:
        raise
    except Exception as error:
        # A model is untrusted input: whatever its contents upset is told as its fault.
        raise ModelError(f"the model is not valid: {first_line(error)}") from error


def _read(
    model: onnx.ModelProto,
    origin: Origin,
    input_shapes: Mapping[str, Sequence[int]],
    input_values: Mapping[str, ArrayLike],
    rules: Sequence[LoweringRule],
) -> Graph:
    check_model(model)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    sparse = {tensor.values.name: tensor for tensor in model.graph.sparse_initializer}
    weights = tensors.keys() | sparse.keys()
    declared = [item for item in model.graph.input if item.name not in weights]
    known = (*rules, *RULES)
    current = converted(model, {(rule.domain, rule.op) for rule in known})
    opsets = {
        "" if entry.domain == "ai.onnx" else entry.domain: entry.version
        for entry in current.opset_import
    }
    functions = {(f.domain, f.name, f.overload): f for f in current.functions}
    walker = Walker(known, functions, origin)
    scope: Scope = {}
    inputs: list[Value] = []
    _check_names([item.name for item in declared], input_shapes, input_values)
    for item in declared:
        value = _input(item, input_shapes.get(item.name), input_values.get(item.name))
        check_size(value)
        walker.fresh(value.name)
        scope[item.name] = value
        if item.name in input_values:
            array = bound(value.name, input_values[item.name], value.format)
            walker.constants[value.name] = Constant.of(
                value.name, np.ascontiguousarray(array).reshape(value.shape), value.format
            )
        else:
            inputs.append(value)
    # The converter makes initialisers of attributes that have become operands.
    made = {t.name: t for t in current.graph.initializer if t.name not in scope}
    for name, tensor in (made | tensors).items():
        scope[name] = walker.add_constant(tensor_constant(tensor, name, origin))
    for name, made in sparse.items():
        scope[name] = walker.add_constant(dense(made, name, origin))
    walker.walk(current.graph.node, scope, Place(opsets))
    for node in walker.nodes:
        for result in node.outputs:
            if result is not None:
                check_size(result, node.name)
    outputs = [_output(walker, scope, item.name) for item in model.graph.output]
    if not outputs:
        raise ModelError("the model has no outputs")
    constants = tuple(walker.constants.values())
    name = model.graph.name or "model"
    return Graph(tuple(inputs), tuple(outputs), constants, tuple(walker.nodes), name)


def _output(walker: Walker, scope: Scope, name: str) -> Value:
    """The value of a graph output; an Identity keeps its name where another value has it."""
    value = scope.get(name)
    if value is None:
        raise ModelError(f"output {name!r} is never computed")
    if not isinstance(value, Value):
        kind = "a sequence" if isinstance(value, Listed) else "an optional"
        raise UnsupportedGraph(
            f"output {name!r} is {kind}; sequences and maps are not supported as outputs",
            remedy="give its tensors as outputs of their own",
        )
    if value.name == name:
        return value
    return walker.copy(value, name)


# -- loading -----------------------------------------------------------------------------------


def load_model(source: Source) -> tuple[onnx.ModelProto, Origin]:
    """Returns a model without its weights, and where they lie.

    Args:
        source: Path of a model file, the serialised model, or the model itself.

    Raises:
        NotFound: The file does not exist.
        ModelError: It cannot be read, or is no ONNX model.
    """
    if isinstance(source, onnx.ModelProto):
        try:
            data = source.SerializeToString()
        except Exception as error:
            raise ModelError(
                f"the model cannot be serialised: {first_line(error)}",
                remedy="models over 2 GB need their weights in an external data file",
            ) from error
        return _parse(memoryview(data), Origin(None, data))
    if isinstance(source, (bytes, bytearray, memoryview)):
        held = bytes(source)
        return _parse(memoryview(held), Origin(None, held))
    if not isinstance(source, (str, Path)):
        raise InvalidArgument(
            f"a model cannot be read from {type(source).__name__}",
            remedy="pass a path, bytes or an onnx.ModelProto",
        )
    path = Path(source)
    if path.is_dir():
        raise ModelError(f"{str(path)!r} is a directory", remedy="pass the model file in it")
    try:
        with path.open("rb") as stream:
            stat = path.stat()
            if stat.st_size == 0:
                raise ModelError(f"{str(path)!r} is empty", remedy="export or copy it again")
            origin = Origin(path, None, (stat.st_size, stat.st_mtime_ns))
            # Not closed by hand: the traceback of a refusal still holds views of it.
            mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
            return _parse(memoryview(mapped), origin)
    except FileNotFoundError:
        raise NotFound(f"there is no model file {str(path)!r}", remedy="check the path") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{str(path)!r} cannot be read: {first_line(error)}") from error


def _parse(data: memoryview, origin: Origin) -> tuple[onnx.ModelProto, Origin]:
    where = f"{str(origin.path)!r}" if origin.path else "the model"
    if len(data) == 0:
        raise ModelError(f"{where} is empty", remedy="export or copy it again")
    if data[: len(MAGIC)] == MAGIC:
        raise ModelError(
            f"{where} is a compiled program, not an ONNX model",
            remedy="load or run it, or give the model it was compiled from",
        )
    remedy = "check that it is a complete ONNX file; export or copy it again"
    model = onnx.ModelProto()
    try:
        skeleton = split(data)
        model.ParseFromString(skeleton.data)
    except ModelError as error:
        raise ModelError(f"{where}: {error.message}", remedy=remedy) from None
    except Exception as error:  # protobuf's DecodeError, whichever implementation is installed
        raise ModelError(f"{where} is no ONNX model: {first_line(error)}", remedy=remedy) from None
    if not model.HasField("graph"):
        raise ModelError(f"{where} is no ONNX model: it has no graph", remedy=remedy)
    return model, replace(origin, blobs=skeleton.blobs)


# -- inputs ------------------------------------------------------------------------------------


def _check_names(
    inputs: Sequence[str],
    shapes: Mapping[str, Sequence[int]],
    values: Mapping[str, ArrayLike],
) -> None:
    unknown = [name for name in (*shapes, *values) if name not in inputs]
    if unknown:
        raise NotFound(
            f"the model has no input {unknown[0]!r}",
            remedy=f"its inputs are {', '.join(inputs) or 'none'}",
        )


def _input(
    item: onnx.ValueInfoProto, shape: Sequence[int] | None, bound: ArrayLike | None
) -> Value:
    what = f"input {item.name!r}"
    kind = item.type.tensor_type
    if not item.name or not item.type.HasField("tensor_type"):
        raise ModelError(f"{what} is no tensor; sequences and maps are not supported")
    element = format_of(kind.elem_type, what)
    if bound is not None and shape is None:
        shape = np.shape(bound)
    if not kind.HasField("shape") and shape is None:
        raise InvalidArgument(f"{what} has no shape", remedy=f"give --shape {item.name}=...")
    dims = [d.dim_param or "?" if dynamic(d) else d.dim_value for d in kind.shape.dim]
    if shape is None:
        if any(isinstance(d, str) for d in dims):
            example = ",".join(str(d) if isinstance(d, int) else "1" for d in dims)
            raise InvalidArgument(
                f"{what} has dynamic dimensions [{', '.join(map(str, dims))}]",
                remedy=f"fix them: --shape {item.name}={example}, "
                f"or input_shapes={{{item.name!r}: ({example})}}",
            )
        return Value(item.name, TensorType(element, tuple(int(d) for d in dims)))
    wanted = tuple(int(extent) for extent in shape)
    fits = not kind.HasField("shape") or len(wanted) == len(dims)
    # Some exporters write 0 where the extent is open: a caller's shape overrides it.
    fits = fits and all(
        isinstance(d, str) or d in (0, w) for d, w in zip(dims, wanted, strict=False)
    )
    if not fits or min(wanted, default=0) < 0:
        raise InvalidArgument(
            f"{what} is [{', '.join(map(str, dims))}]; the shape {list(wanted)} does not fit",
            remedy="give one extent for each dimension, and keep those that are fixed",
        )
    return Value(item.name, TensorType(element, wanted))
