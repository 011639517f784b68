"""Takes the weights out of a serialised ONNX model before protobuf sees them.

Parsing a model copies every weight at least once. Here the bytes are scanned by the protobuf
wire format (https://protobuf.dev/programming-guides/encoding/), and what is parsed is a
skeleton without the raw contents of large initialisers, which stay where they are: in the
file, or in the caller's bytes. Field numbers are those of onnx.proto3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from accelsdk.errors import ModelError

#: Initialisers with at least so many raw bytes stay out of the skeleton.
DETACH_BYTES = 1024

_GRAPH, _INITIALIZER, _TENSOR_NAME, _RAW_DATA = 7, 5, 8, 9
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_BROKEN = "the file is truncated, or is not an ONNX model"


@dataclass(frozen=True, slots=True)
class Skeleton:
    """A model without its large weights.

    Attributes:
        data: Serialised ModelProto whose large initialisers have no contents.
        blobs: Offset and length of each one's contents in the original, by its name.
    """

    data: bytes
    blobs: dict[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class _Field:
    number: int
    wire: int
    start: int  # of the tag
    body: int  # of the contents, after tag and length
    end: int


def split(data: memoryview) -> Skeleton:
    """Splits a serialised ModelProto into a skeleton and the places of its weights.

    Raises:
        ModelError: The bytes are no protobuf message; the message names the offset.
    """
    blobs: dict[str, tuple[int, int]] = {}
    pieces: list[bytes | memoryview] = []
    for field in _fields(data, 0, len(data)):
        if field.number == _GRAPH and field.wire == _BYTES:
            graph = b"".join(_graph(data, field, blobs))
            pieces += [_tag(_GRAPH), _varint(len(graph)), graph]
        else:
            pieces.append(data[field.start : field.end])
    return Skeleton(b"".join(pieces), blobs)


def _graph(
    data: memoryview, graph: _Field, blobs: dict[str, tuple[int, int]]
) -> Iterator[bytes | memoryview]:
    for field in _fields(data, graph.body, graph.end):
        if field.number == _INITIALIZER and field.wire == _BYTES:
            yield from _initializer(data, field, blobs)
        else:
            yield data[field.start : field.end]


def _initializer(
    data: memoryview, tensor: _Field, blobs: dict[str, tuple[int, int]]
) -> Iterator[bytes | memoryview]:
    if tensor.end - tensor.body < DETACH_BYTES:
        yield data[tensor.start : tensor.end]
        return
    fields = list(_fields(data, tensor.body, tensor.end))
    name = b""
    raw: _Field | None = None
    for field in fields:
        if field.wire == _BYTES and field.number == _TENSOR_NAME:
            name = bytes(data[field.body : field.end])
        elif field.wire == _BYTES and field.number == _RAW_DATA:
            raw = field
    key = name.decode("utf-8", errors="replace")
    if raw is None or raw.end - raw.body < DETACH_BYTES or key in blobs:
        yield data[tensor.start : tensor.end]
        return
    blobs[key] = (raw.body, raw.end - raw.body)
    rest = b"".join(data[f.start : f.end] for f in fields if f.number != _RAW_DATA)
    yield from (_tag(_INITIALIZER), _varint(len(rest)), rest)


def _fields(data: memoryview, position: int, end: int) -> Iterator[_Field]:
    while position < end:
        start = position
        tag, position = _read_varint(data, position, end)
        number, wire = tag >> 3, tag & 7
        body = position
        if wire == _VARINT:
            _, position = _read_varint(data, position, end)
        elif wire == _BYTES:
            length, body = _read_varint(data, position, end)
            position = body + length
        elif wire in (_FIXED32, _FIXED64):
            position += 4 if wire == _FIXED32 else 8
        else:
            raise ModelError(f"byte {start:,}: wire type {wire} does not exist; {_BROKEN}")
        if number == 0 or position > end:
            raise ModelError(f"byte {start:,}: a field runs past the end; {_BROKEN}")
        yield _Field(number, wire, start, body, position)


def _read_varint(data: memoryview, position: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= end:
            break
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ModelError(f"byte {position:,}: a number is cut off; {_BROKEN}")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _tag(number: int) -> bytes:
    return _varint(number << 3 | _BYTES)
