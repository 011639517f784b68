"""How each number format is stored in an exported ONNX model.

Formats that some runtimes cannot move, or that ONNX has no type for, are stored as their
codes: FP8, FP6, FP4 and E8M0 in UINT8, MXINT8 in INT8; int4 and uint4 in INT8 and UINT8, one
element an item. The rest have ONNX types of their own.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

from accelsdk import formats as f
from accelsdk.formats import Format, Kind
from accelsdk.graph.graph import Array
from accelsdk.graph.types import Value

_OWN_TYPES = {
    f.FLOAT64: TensorProto.DOUBLE,
    f.FLOAT32: TensorProto.FLOAT,
    f.FLOAT16: TensorProto.FLOAT16,
    f.BFLOAT16: TensorProto.BFLOAT16,
    f.INT64: TensorProto.INT64,
    f.INT32: TensorProto.INT32,
    f.INT16: TensorProto.INT16,
    f.INT8: TensorProto.INT8,
    f.UINT64: TensorProto.UINT64,
    f.UINT32: TensorProto.UINT32,
    f.UINT16: TensorProto.UINT16,
    f.UINT8: TensorProto.UINT8,
    f.BOOL: TensorProto.BOOL,
    f.INT4: TensorProto.INT8,
    f.MXINT8: TensorProto.INT8,
}


def is_coded(format: Format) -> bool:
    """Says whether the exported model stores codes that must be decoded to be computed with."""
    return (format.is_float and format.bits <= 8) or format.kind in (Kind.SCALE, Kind.FIXED)


def onnx_type(format: Format) -> int:
    """Returns the TensorProto data type that stores a format."""
    return _OWN_TYPES.get(format, TensorProto.UINT8)


def to_storage(array: Array, format: Format) -> Array:
    """Returns an array as the exported model takes it; a view where the bytes are the same."""
    if format in (f.INT4, f.UINT4):
        return array.astype(np.int8 if format == f.INT4 else np.uint8)
    if onnx_type(format) == TensorProto.UINT8:
        return array.view(np.uint8)
    return array


def from_storage(array: Array, format: Format) -> Array:
    """Returns an array that an exported model gave as an array of ``format.dtype``."""
    if format in (f.INT4, f.UINT4):
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
