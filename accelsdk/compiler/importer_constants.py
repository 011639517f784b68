"""Constant nodes and sparse tensors as constants of our graph."""

from __future__ import annotations

import math

import numpy as np
import onnx
from numpy.typing import NDArray

from accelsdk.compiler.importer_scope import unsupported
from accelsdk.compiler.importer_tensors import Origin, tensor_constant
from accelsdk.errors import ModelError
from accelsdk.graph.graph import Constant

#: A sparse tensor is made dense up to this many bytes.
_LARGEST = 1 << 31


def constant_of(proto: onnx.NodeProto, name: str, stem: str, origin: Origin) -> Constant:
    """Returns what a Constant node holds.

    Args:
        proto: The node.
        name: Its name, for messages.
        stem: Name of the constant.
        origin: Where contents of tensors are.

    Raises:
        ModelError: It holds nothing, or more than one thing, or what it holds is corrupt.
        UnsupportedGraph: It holds strings.
    """
    item = proto.attribute[0] if len(proto.attribute) == 1 else None
    if item is None:
        raise ModelError("a Constant node needs exactly one attribute", node=name)
    kinds = onnx.TensorProto
    match item.name:
        case "value":
            tensor = item.t
        case "sparse_value":
            return dense(item.sparse_tensor, stem, origin)
        case "value_float" | "value_floats":
            numbers = [item.f] if item.name == "value_float" else list(item.floats)
            dims = [] if item.name == "value_float" else [len(numbers)]
            tensor = onnx.helper.make_tensor(name, kinds.FLOAT, dims, numbers)
        case "value_int" | "value_ints":
            whole = [item.i] if item.name == "value_int" else list(item.ints)
            dims = [] if item.name == "value_int" else [len(whole)]
            tensor = onnx.helper.make_tensor(name, kinds.INT64, dims, whole)
        case "value_string" | "value_strings":
            unsupported(proto, name, f"attribute {item.name!r}: strings are not supported")
        case _:
            unsupported(proto, name, f"attribute {item.name!r} is not supported")
    return tensor_constant(tensor, stem, origin)


def dense(sparse: onnx.SparseTensorProto, name: str, origin: Origin) -> Constant:
    """Returns a sparse tensor as a dense constant.

    Its indices are linear, [count], or one column an axis, [count, rank] (onnx.proto).

    Raises:
        ModelError: Values, indices and shape do not fit each other, or it is very large.
    """
    shape = tuple(sparse.dims)
    values = tensor_constant(sparse.values, f"{name}/values", origin)
    linear = tensor_constant(sparse.indices, f"{name}/indices", origin).array()
    count = values.value.type.count
    if any(extent < 0 for extent in shape):
        raise ModelError(f"sparse tensor {name!r} has a negative extent: {list(shape)}")
    size = math.prod(shape)
    if size * values.value.format.dtype.itemsize > _LARGEST:
        raise ModelError(
            f"sparse tensor {name!r} has {size:,} elements; it would not be dense in memory",
            remedy="export the model without sparse tensors of this size",
        )
    if linear.dtype != np.int64 or linear.shape not in ((count,), (count, len(shape))):
        raise ModelError(f"sparse tensor {name!r} has indices of shape {linear.shape}")
    limits: NDArray[np.int64] = np.array(shape if linear.ndim == 2 else [size], np.int64)
    columns: NDArray[np.int64] = linear.astype(np.int64).reshape(count, len(limits))
    if bool(np.any(columns < 0) or np.any(columns >= limits)):
        raise ModelError(f"sparse tensor {name!r} has an index out of range")
    full = np.zeros(size, values.value.format.dtype)
    strides = np.append(np.cumprod(limits[:0:-1])[::-1], 1)[: len(limits)].astype(np.int64)
    full[columns @ strides] = values.array().reshape(-1)
    return Constant.of(name, full.reshape(shape), values.value.format)
