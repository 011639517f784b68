"""Graphs as bytes: a versioned file, and digests that name a graph.

Layout of the file (all integers little endian)::

    8 bytes   magic "ACCELGR", then a zero byte
    u32       format version
    u32       length of the structure
    u64       length of the constants
    32 bytes  SHA-256 of all the above and the structure
    structure canonical JSON: values, nodes, and each constant's place, length and SHA-256;
              blanks up to a multiple of 64 bytes
    constants packed contents, each at a multiple of 64 bytes from the start of the file

Floats in attributes are written as hexadecimal, so that every bit and every infinity survives.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, cast

from accelsdk.errors import (
    DataLoss,
    FailedPrecondition,
    IncompatibleProgram,
    InvalidArgument,
    NotFound,
)
from accelsdk.formats import by_name
from accelsdk.graph.graph import Array, Attribute, Constant, Graph, Node
from accelsdk.graph.types import TensorType, Value
from accelsdk.numerics.codec import from_bytes

#: Version of the format; a reader refuses a newer one.
VERSION: Final = 1
MAGIC: Final = b"ACCELGR\0"
_FIELDS = struct.Struct("<8sIIQ")
_HEADER = struct.Struct("<8sIIQ32s")
_ALIGNMENT = 64


# -- writing ---------------------------------------------------------------------------------


def structure(graph: Graph) -> bytes:
    """Returns inputs, outputs, nodes and the types of constants, without their contents.

    Equal graphs give equal bytes, whatever the order in which attributes were given.
    """
    return _canonical(_structure(graph))


def digest(graph: Graph) -> str:
    """Returns the SHA-256 of structure and constants, in hexadecimal; stable across runs."""
    state = hashlib.sha256(structure(graph))
    for constant in graph.constants:
        state.update(bytes.fromhex(constant.digest()))
    return state.hexdigest()


def dump(graph: Graph) -> bytes:
    """Returns the file that `load` reads."""
    return b"".join(bytes(chunk) for chunk in chunks(graph))


def chunks(graph: Graph) -> Iterator[bytes | memoryview]:
    """Yields the file in pieces; at most one constant is in memory at a time."""
    described = _structure(graph)
    offset = 0
    for line, constant in zip(described["constants"], graph.constants, strict=True):
        nbytes = constant.value.type.nbytes
        line.update(offset=offset, nbytes=nbytes, sha256=_contents_digest(constant))
        offset = _aligned(offset + nbytes)
    body = _canonical(described)
    # Blanks after the JSON bring the constants to an aligned place in the file.
    body += b" " * (_aligned(_HEADER.size + len(body)) - _HEADER.size - len(body))
    fields = _FIELDS.pack(MAGIC, VERSION, len(body), offset)
    yield fields + hashlib.sha256(fields + body).digest()
    yield body
    for constant in graph.constants:
        yield from constant.chunks()
        nbytes = constant.value.type.nbytes
        yield bytes(_aligned(nbytes) - nbytes)


def _contents_digest(constant: Constant) -> str:
    state = hashlib.sha256()
    for chunk in constant.chunks():
        state.update(chunk)
    return state.hexdigest()


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGNMENT) * _ALIGNMENT


def _canonical(described: Mapping[str, Any]) -> bytes:
    return json.dumps(described, sort_keys=True, separators=(",", ":")).encode()


def _structure(graph: Graph) -> dict[str, Any]:
    return {
        "name": graph.name,
        "inputs": [_value(v) for v in graph.inputs],
        "outputs": [_value(v) for v in graph.outputs],
        "constants": [{"value": _value(c.value)} for c in graph.constants],
        "nodes": [_node(node) for node in graph.nodes],
    }


def _value(value: Value | None) -> list[Any] | None:
    if value is None:
        return None
    return [value.name, value.format.name, list(value.shape)]


def _node(node: Node) -> dict[str, Any]:
    described = {
        "op": node.op,
        "domain": node.domain,
        "name": node.name,
        "inputs": [None if v is None else v.name for v in node.inputs],
        "outputs": [_value(v) for v in node.outputs],
        "attributes": {name: _attribute(item) for name, item in node.attributes.items()},
        "origin": list(node.origin),
    }
    # Left out where there is none: files from before it was there are written alike.
    return {**described, "via": list(node.via)} if node.via else described


def _attribute(item: Attribute) -> object:
    """Tags what JSON cannot tell apart: floats, and tuples (which JSON calls lists)."""
    if isinstance(item, tuple):
        return {"tuple": [_attribute(part) for part in item]}
    if isinstance(item, float):
        return {"float": float(item).hex()}
    return item


# -- reading ---------------------------------------------------------------------------------

#: An attribute as JSON carries it: plain, or a tagged float or tuple.
_Json = bool | int | str | dict[str, Any]
_Region = Callable[[int, int], memoryview]


def load(data: bytes | memoryview) -> Graph:
    """Returns the graph that `dump` wrote. Constants are views of ``data``.

    Raises:
        InvalidArgument: ``data`` is no graph file.
        IncompatibleProgram: A newer version of accelsdk wrote it.
        DataLoss: It is truncated or corrupt. Contents of a constant are checked when they
            are first read.
    """
    view = memoryview(data)
    header = _Header.parse(view[: _HEADER.size])
    start = _HEADER.size + header.length
    header.check_size(view.nbytes)
    described = header.structure(view[_HEADER.size : start])
    return _graph(described, _in_region(lambda at, count: view[start + at : start + at + count]))


def parse_structure(data: bytes) -> Graph:
    """Returns the graph that `structure` described; its constants have types, no contents.

    Raises:
        DataLoss: ``data`` is not such a description.
    """
    try:
        described = json.loads(data)
    except ValueError as error:
        raise _malformed(error) from error
    return _graph(described, _without_contents)


def load_file(path: str | os.PathLike[str], offset: int = 0) -> Graph:
    """Returns the graph in a region of a file. Constants are read when they are needed.

    Args:
        path: The file, which must stay as it is while the graph is in use.
        offset: Where in the file the graph starts, in bytes.

    Raises:
        NotFound: There is no such file.
        InvalidArgument: There is no graph at that place.
        IncompatibleProgram: A newer version of accelsdk wrote it.
        DataLoss: It is truncated or corrupt, as for `load`.
    """
    name = os.fspath(path)
    try:
        with Path(name).open("rb") as file:
            file.seek(offset)
            header = _Header.parse(memoryview(file.read(_HEADER.size)))
            header.check_size(Path(name).stat().st_size - offset)
            described = header.structure(memoryview(file.read(header.length)))
    except FileNotFoundError:
        raise NotFound(f"no file {name}", remedy="give the path of a graph file") from None
    start = offset + _HEADER.size + header.length

    def region(at: int, count: int) -> memoryview:
        with Path(name).open("rb") as file:
            file.seek(start + at)
            return memoryview(file.read(count))

    return _graph(described, _in_region(region, (name, start)))


@dataclass(frozen=True, slots=True)
class _Header:
    """The fixed part in front of the structure."""

    fields: bytes
    length: int
    constants: int
    sha256: bytes

    @classmethod
    def parse(cls, head: memoryview) -> _Header:
        if bytes(head[: len(MAGIC)]) != MAGIC:
            raise InvalidArgument("this is no graph file", remedy="give a file that dump() wrote")
        if head.nbytes < _HEADER.size:
            raise _cut_short(head.nbytes, _HEADER.size)
        _, version, length, constants, sha256 = _HEADER.unpack(head)
        if version > VERSION:
            raise IncompatibleProgram(
                f"the graph has format version {version}; this accelsdk reads up to {VERSION}",
                remedy="update accelsdk, or write the graph with this version",
            )
        return cls(bytes(head[: _FIELDS.size]), length, constants, sha256)

    def check_size(self, nbytes: int) -> None:
        needed = _HEADER.size + self.length + self.constants
        if nbytes < needed:
            raise _cut_short(nbytes, needed)

    def structure(self, body: memoryview) -> dict[str, Any]:
        if hashlib.sha256(self.fields + bytes(body)).digest() != self.sha256:
            raise DataLoss(
                "the structure of the graph is corrupt: its digest differs",
                remedy="write or transfer the file again",
            )
        described: dict[str, Any] = json.loads(bytes(body))
        return described


def _cut_short(nbytes: int, needed: int) -> DataLoss:
    return DataLoss(
        f"the graph is cut short: {nbytes:,} of {needed:,} bytes",
        remedy="write or transfer the file again",
    )


def _malformed(error: Exception) -> DataLoss:
    return DataLoss(
        f"the structure of the graph is malformed: {error!r}",
        remedy="write the file, or compile the program, again",
    )


def _graph(
    described: Mapping[str, Any], constant: Callable[[Mapping[str, Any]], Constant]
) -> Graph:
    try:
        return _graph_of(described, constant)
    except (KeyError, TypeError, ValueError) as error:
        raise _malformed(error) from error


def _graph_of(
    described: Mapping[str, Any], constant: Callable[[Mapping[str, Any]], Constant]
) -> Graph:
    constants = tuple(constant(line) for line in described["constants"])
    inputs = tuple(_to_value(line) for line in described["inputs"])
    values = {v.name: v for v in (*inputs, *(constant.value for constant in constants))}
    nodes = []
    for line in described["nodes"]:
        node = _to_node(line, values)
        values.update((v.name, v) for v in node.outputs if v is not None)
        nodes.append(node)
    outputs = tuple(_to_value(line) for line in described["outputs"])
    return Graph(inputs, outputs, constants, tuple(nodes), described["name"])


def _to_value(line: Sequence[Any]) -> Value:
    name, format_name, shape = line
    return Value(name, TensorType(by_name(format_name), tuple(shape)))


def _to_node(line: Mapping[str, Any], values: Mapping[str, Value]) -> Node:
    return Node(
        op=line["op"],
        inputs=tuple(None if name is None else values[name] for name in line["inputs"]),
        outputs=tuple(None if v is None else _to_value(v) for v in line["outputs"]),
        attributes=MappingProxyType(
            {name: _to_attribute(item) for name, item in line["attributes"].items()}
        ),
        domain=line["domain"],
        name=line["name"],
        origin=tuple(line["origin"]),
        via=tuple(line.get("via", ())),
    )


def _to_attribute(item: _Json) -> Attribute:
    if not isinstance(item, dict):
        return item
    if "float" in item:
        return float.fromhex(item["float"])
    # A tuple's parts are all of one kind, which the writer's type guaranteed.
    return cast("Attribute", tuple(_to_attribute(part) for part in item["tuple"]))


def _in_region(
    region: _Region, place: tuple[str, int] | None = None
) -> Callable[[Mapping[str, Any]], Constant]:
    def constant(line: Mapping[str, Any]) -> Constant:
        value = _to_value(line["value"])
        offset, nbytes = line["offset"], line["nbytes"]
        location = (place[0], place[1] + offset, nbytes) if place is not None else None
        return Constant(value, _Contents(value, region, offset, nbytes, line["sha256"]), location)

    return constant


def _without_contents(line: Mapping[str, Any]) -> Constant:
    value = _to_value(line["value"])

    def load() -> Array:
        raise FailedPrecondition(
            f"the contents of constant {value.name!r} travel apart from the structure"
        )

    return Constant(value, load)


@dataclass(slots=True)
class _Contents:
    """Reads a constant from its region; checks the digest the first time."""

    value: Value
    region: _Region
    offset: int
    nbytes: int
    sha256: str
    checked: bool = False

    def __call__(self) -> Array:
        packed = self.region(self.offset, self.nbytes)
        if not self.checked:
            if hashlib.sha256(packed).hexdigest() != self.sha256:
                raise DataLoss(
                    f"the contents of constant {self.value.name!r} are corrupt",
                    remedy="write or transfer the file again",
                )
            self.checked = True
        return from_bytes(packed, self.value.format, self.value.shape)
