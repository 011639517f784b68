"""How each number format is stored in an exported ONNX model.

Formats that some runtimes cannot move, or that ONNX has no type for, are stored as their
codes: FP8, FP6, FP4 and E8M0 in UINT8, MXINT8 in INT8; integers below 8 bits in INT8 and UINT8,
one element an item. The rest have ONNX types of their own.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from onnx import TensorProto, helper

from accelsdk.formats import Format, Kind
from accelsdk.graph.graph import Array
from accelsdk.graph.types import Value


def is_coded(format: Format) -> bool:
    """Says whether the exported model stores codes that must be decoded to be computed with."""
    return (format.is_float and format.bits <= 8) or format.kind in (Kind.SCALE, Kind.FIXED)


def is_widened(format: Format) -> bool:
    """Says whether the exported model stores each number in a whole byte instead of packed."""
    return format.is_integer and format.bits < 8


@cache
def onnx_type(format: Format) -> int:
    """Returns the TensorProto data type that stores a format."""
    if is_widened(format):
        return TensorProto.INT8 if format.is_signed else TensorProto.UINT8
    if is_coded(format) and format.kind is not Kind.FIXED:
        return TensorProto.UINT8
    return int(helper.np_dtype_to_tensor_dtype(format.dtype))


def to_storage(array: Array, format: Format) -> Array:
    """Returns an array as the exported model takes it; a view where the bytes are the same."""
    if is_widened(format):
        return array.astype(np.int8 if format.is_signed else np.uint8)
    if onnx_type(format) == TensorProto.UINT8:
        return array.view(np.uint8)
    return array


def from_storage(array: Array, format: Format) -> Array:
    """Returns an array that an exported model gave as an array of ``format.dtype``."""
    if is_widened(format):
        return array.astype(format.dtype)
    if onnx_type(format) == TensorProto.UINT8:
        return array.view(format.dtype)
    return array


def tensor(name: str, array: Array, format: Format) -> TensorProto:
    """Returns an initializer with the contents of a constant."""
    stored = to_storage(array, format)
    return helper.make_tensor(name, onnx_type(format), array.shape, stored.tobytes(), raw=True)


def outside(value: Value) -> TensorProto:
    """Returns an initializer without contents: external data, in a file that is not there."""
    proto = TensorProto(
        name=value.name,
        data_type=onnx_type(value.format),
        dims=value.shape,
        data_location=TensorProto.EXTERNAL,
    )
    proto.external_data.add(key="location", value="outside")
    return proto
