"""ONNX tensors, types and attributes as constants, formats and attributes of our graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from accelsdk.errors import DataLoss, ModelError, NotFound
from accelsdk.formats import FORMATS, Format, by_name
from accelsdk.graph.graph import Array, Attribute, Constant
from accelsdk.graph.types import TensorType, Value
from accelsdk.numerics.codec import from_bytes

_Type = onnx.TensorProto

#: Names of the formats that ONNX has: they are those of its dtypes.
_FORMATS: Mapping[int, str] = {
    number: dtype.name
    for number, dtype in (
        (number, onnx.helper.tensor_dtype_to_np_dtype(number))
        for number in _Type.DataType.values()
        if number != _Type.UNDEFINED
    )
    if dtype.name in {row.name for row in FORMATS}
}

#: Attributes whose integer is a TensorProto.DataType.
_TYPE_ATTRIBUTES = frozenset(
    {"to", "dtype", "output_dtype", "output_datatype", "precision", "softmax_precision"}
)


def format_of(data_type: int, what: str) -> Format:
    """Returns the format of an ONNX element type.

    Args:
        data_type: Value of TensorProto.DataType.
        what: What has that type, for the message.

    Raises:
        ModelError: We have no such format (strings, complex numbers).
    """
    if data_type not in _FORMATS:
        known = _Type.DataType.DESCRIPTOR.values_by_number
        name = known[data_type].name if data_type in known else str(data_type)
        raise ModelError(
            f"{what} has element type {name}, which accelsdk has no number format for",
            remedy="cast it to a supported format before export",
        )
    return by_name(_FORMATS[data_type])


def dynamic(extent: onnx.TensorShapeProto.Dimension) -> bool:
    """Says whether a dimension is open; a given 0 is an empty axis, and -1 is not legal."""
    return extent.WhichOneof("value") != "dim_value" or extent.dim_value < 0


@dataclass(frozen=True)
class Origin:
    """Where a model's bytes are.

    Attributes:
        path: The model file, or None if the model came as bytes or a proto.
        data: The bytes, or None if they stay in the file.
        stamp: Size and modification time (ns) of the file when it was imported.
        blobs: Offset and length of detached initialisers' contents, by name.
    """

    path: Path | None
    data: bytes | None
    stamp: tuple[int, int] = (0, 0)
    blobs: Mapping[str, tuple[int, int]] = field(default_factory=dict)


def tensor_constant(tensor: onnx.TensorProto, name: str, origin: Origin) -> Constant:
    """Returns a tensor of the model as a constant of that name, contents still in place.

    Raises:
        ModelError: Its type is not supported, or its contents do not fit its shape.
        NotFound: Its external file is missing.
    """
    what = f"tensor {name!r}"
    kind = TensorType(format_of(tensor.data_type, what), tuple(tensor.dims))
    if any(extent < 0 for extent in kind.shape):
        raise ModelError(f"{what} has a negative extent: {list(kind.shape)}")
    value = Value(name, kind)
    if tensor.data_location == _Type.EXTERNAL:
        return _external(tensor, value, origin)
    blob = origin.blobs.get(tensor.name)
    if blob is not None and not tensor.raw_data and not _typed_items(tensor):
        return _detached(value, blob, origin)
    return Constant(value, _in_memory(tensor, value))


def _typed_items(tensor: onnx.TensorProto) -> int:
    lists = (tensor.float_data, tensor.int32_data, tensor.int64_data)
    return sum(map(len, lists)) + len(tensor.double_data) + len(tensor.uint64_data)


def _in_memory(tensor: onnx.TensorProto, value: Value) -> _Held:
    if tensor.raw_data:
        raw = tensor.raw_data
        _check_length(value, len(raw))
        return _Held(_decode(raw, value))
    try:
        array = numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError) as error:
        raise ModelError(f"tensor {value.name!r} is corrupt: {_first_line(error)}") from error
    if array.shape != value.shape:
        raise ModelError(f"tensor {value.name!r} holds {array.shape}, not {value.shape}")
    return _Held(np.ascontiguousarray(array).reshape(value.shape).astype(value.format.dtype))


def _detached(value: Value, blob: tuple[int, int], origin: Origin) -> Constant:
    offset, length = blob
    _check_length(value, length)
    if origin.data is not None:
        view = memoryview(origin.data)[offset : offset + length]
        return Constant(value, _Held(_decode(view, value)))
    if origin.path is None:
        raise ModelError(f"tensor {value.name!r} has no contents")
    load = _InFile(origin.path, offset, value, origin.stamp)
    return Constant(value, load, (str(origin.path), offset, length))


def _external(tensor: onnx.TensorProto, value: Value, origin: Origin) -> Constant:
    """A tensor in a file beside the model; the file must not lie outside its folder."""
    what = f"tensor {value.name!r}"
    if origin.path is None:
        raise ModelError(
            f"{what} lies in an external file, and a model given as bytes has no folder",
            remedy="pass the path of the model file",
        )
    entries = {entry.key: entry.value for entry in tensor.external_data}
    folder = origin.path.parent.resolve()
    location = entries.get("location", "")
    path = (folder / location).resolve()
    if not location or "\0" in location or not path.is_relative_to(folder):
        raise ModelError(f"{what}: external file {location!r} is outside the model's folder")
    if not path.is_file():
        raise NotFound(
            f"{what} lies in {str(path)!r}, which does not exist",
            remedy="keep the external data files beside the model",
        )
    try:
        offset = int(entries.get("offset") or 0)
        length = int(entries.get("length") or value.type.nbytes)
    except ValueError:
        raise ModelError(f"{what}: offset or length of its external data is no number") from None
    _check_length(value, length)
    stat = path.stat()
    if offset < 0 or offset + length > stat.st_size:
        raise ModelError(
            f"{what} takes bytes {offset:,} to {offset + length:,} of {path.name}, "
            f"which has {stat.st_size:,}",
            remedy="the external data file is truncated: copy it again",
        )
    load = _InFile(path, offset, value, (stat.st_size, stat.st_mtime_ns))
    return Constant(value, load, (str(path), offset, length))


def _check_length(value: Value, length: int) -> None:
    if length != value.type.nbytes:
        raise ModelError(
            f"tensor {value.name!r} is {value.type} and takes {value.type.nbytes:,} bytes, "
            f"but the model holds {length:,}"
        )


def _decode(raw: bytes | memoryview, value: Value) -> Array:
    array: Array
    if value.format.name == "bool":
        array = np.asarray(np.frombuffer(raw, np.uint8).reshape(value.shape) != 0)
    else:
        array = from_bytes(raw, value.format, value.shape)
    array.flags.writeable = False
    return array


@dataclass(frozen=True, slots=True, eq=False)
class _Held:
    """Contents in memory; a view of the model's bytes where the format allows it."""

    array: Array

    def __call__(self) -> Array:
        return self.array


@dataclass(frozen=True, slots=True, eq=False)
class _InFile:
    """Contents in a file; read anew at each call, so that nothing is held."""

    path: Path
    offset: int
    value: Value
    stamp: tuple[int, int]

    def __call__(self) -> Array:
        try:
            with self.path.open("rb") as stream:
                stat = self.path.stat()
                stream.seek(self.offset)
                raw = stream.read(self.value.type.nbytes)
        except OSError as error:
            raise NotFound(
                f"{str(self.path)!r} cannot be read any more: {error.strerror}"
            ) from error
        if (stat.st_size, stat.st_mtime_ns) != self.stamp:
            raise DataLoss(
                f"{str(self.path)!r} changed after it was imported",
                remedy="import the model again",
            )
        return _decode(raw, self.value)


def attributes_of(node: onnx.NodeProto) -> dict[str, Attribute]:
    """Returns the attributes of a node, tensors and graphs left out.

    An element type becomes the name of its format. A one-element tensor (the ``value`` of
    ConstantOfShape) becomes the number itself, and its format's name stands beside it under
    ``<name>_format``.

    Raises:
        ModelError: An attribute has a type that no op we read has.
    """
    found: dict[str, Attribute] = {}
    for item in node.attribute:
        what = f"attribute {item.name!r} of node {node.name or node.op_type!r}"
        match item.type:
            case onnx.AttributeProto.INT if item.name in _TYPE_ATTRIBUTES:
                if item.i != _Type.UNDEFINED:  # UNDEFINED stands for the default
                    found[item.name] = format_of(item.i, what).name
            case onnx.AttributeProto.INT:
                found[item.name] = item.i
            case onnx.AttributeProto.FLOAT:
                found[item.name] = item.f
            case onnx.AttributeProto.STRING:
                found[item.name] = item.s.decode("utf-8", errors="replace")
            case onnx.AttributeProto.INTS:
                found[item.name] = tuple(item.ints)
            case onnx.AttributeProto.FLOATS:
                found[item.name] = tuple(item.floats)
            case onnx.AttributeProto.STRINGS:
                found[item.name] = tuple(s.decode("utf-8", errors="replace") for s in item.strings)
            case onnx.AttributeProto.TENSOR:
                found |= _number(item.t, item.name, what)
            case onnx.AttributeProto.GRAPH:
                pass  # the importer inlines or refuses it
            case _:
                raise ModelError(f"{what} has a type that accelsdk does not read")
    return found


def _number(tensor: onnx.TensorProto, name: str, what: str) -> dict[str, Attribute]:
    array = tensor_constant(tensor, what, Origin(None, None)).array()
    if array.size != 1:
        raise ModelError(f"{what} holds {array.size} elements instead of one")
    number = array.reshape(()).item()
    kind = format_of(tensor.data_type, what).name
    # ml_dtypes scalars come out of item() as themselves or as float
    exact = number if isinstance(number, (bool, int, float)) else float(number)
    return {name: exact, f"{name}_format": kind}


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
