"""Program files, and the spool that keeps constants on disk while a program is compiled.

Layout of a file, version 1, little-endian::

    8   magic  b"ACCELPRG"
    4   format version
    8   length of the header
    32  SHA-256 of the header
    ..  header: JSON, UTF-8 (what `ProgramHeader` and the manifest say)
    ..  code, then each different constant once, at the offsets that the header gives

Offsets count from the end of the header. Everything that is read is checked against a digest;
constants are read, and checked, only when a driver asks for them.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import tempfile
import threading
from collections.abc import Iterable, Iterator
from dataclasses import fields
from functools import partial
from typing import IO, Any

from accelsdk.backend.files import written
from accelsdk.backend.program import (
    PROGRAM_FORMAT,
    ConstantSpec,
    PackedConstant,
    Program,
    ProgramHeader,
    TensorSpec,
)
from accelsdk.errors import DataLoss, IncompatibleProgram, Internal, InvalidArgument, NotFound
from accelsdk.formats import by_name
from accelsdk.graph.graph import Constant as GraphConstant
from accelsdk.graph.types import TensorType

MAGIC = b"ACCELPRG"
_PREFIX = struct.Struct("<8sIQ32s")
_CHUNK = 1 << 20
#: Constants up to this many bytes in all stay in memory; beyond, they go to a temporary file.
SPOOL_BYTES = 1 << 22


class Spool:
    """Takes the constants of a program while it is compiled; a `ConstantPacker`.

    Contents are streamed to a temporary file once they pass `SPOOL_BYTES`; equal contents are
    kept once. Reading is thread-safe.
    """

    def __init__(self, memory: int = SPOOL_BYTES) -> None:
        # Programs refer to this object and keep it alive; the file is closed with it.
        self._file = tempfile.SpooledTemporaryFile(max_size=memory)  # noqa: SIM115 # see above
        self._lock = threading.Lock()
        self._places: dict[str, int] = {}
        self._names: dict[str, ConstantSpec] = {}
        self._end = 0

    def graph_constant(self, constant: GraphConstant) -> ConstantSpec:
        """Keeps a constant of the graph as it is, under its own name."""
        return self.packed(constant.name, constant.chunks(), constant.value.type)

    def packed(
        self, name: str, chunks: Iterable[bytes | memoryview], type: TensorType | None = None
    ) -> ConstantSpec:
        """Keeps vendor-packed bytes under ``name``.

        Raises:
            InvalidArgument: The name was used before.
        """
        if name in self._names:
            raise InvalidArgument(f"two constants of one program are named {name!r}")
        state = hashlib.sha256()
        with self._lock:
            start = self._end
            self._file.seek(start)
            for chunk in chunks:
                state.update(chunk)
                self._file.write(chunk)
                self._end += memoryview(chunk).nbytes
            spec = ConstantSpec(
                name=name, nbytes=self._end - start, digest=state.hexdigest(), type=type
            )
            if self._places.setdefault(spec.digest, start) != start:
                self._end = start  # known contents: written over by what comes next
        self._names[name] = spec
        return spec

    def constants(self, program: Program) -> Iterator[PackedConstant]:
        """Yields the program's constants in manifest order, readable any number of times."""
        for spec in program.constants:
            if spec.digest not in self._places:
                raise Internal(
                    f"the program's constant {spec.name!r} was never packed",
                    backend=program.header.backend,
                )
            yield PackedConstant(spec, partial(self._read, spec))

    def _read(self, spec: ConstantSpec) -> Iterator[memoryview]:
        start = self._places[spec.digest]
        for offset in range(0, spec.nbytes, _CHUNK):
            with self._lock:
                self._file.seek(start + offset)
                data = self._file.read(min(_CHUNK, spec.nbytes - offset))
            yield memoryview(data)

    def close(self) -> None:
        """Removes what was spooled."""
        self._file.close()

    def __del__(self) -> None:
        file = getattr(self, "_file", None)
        if file is not None:
            file.close()


def save(
    path: str | os.PathLike[str], program: Program, constants: Iterable[PackedConstant]
) -> None:
    """Writes a program file, whole or not at all.

    Args:
        path: Where to.
        program: Header, code and manifest.
        constants: Contents, in manifest order.

    Raises:
        NotFound: The folder does not exist.
        InvalidArgument: The file cannot be written there.
    """
    places: dict[str, int] = {}
    end = len(program.code)
    for spec in program.constants:
        if spec.digest not in places:
            places[spec.digest] = end
            end += spec.nbytes
    header = json.dumps(_header_record(program, places, end), sort_keys=True).encode()
    with written(path) as file:
        digest = hashlib.sha256(header).digest()
        file.write(_PREFIX.pack(MAGIC, PROGRAM_FORMAT, len(header), digest))
        file.write(header)
        file.write(program.code)
        done: set[str] = set()
        for constant in constants:
            if constant.spec.digest not in done:
                done.add(constant.spec.digest)
                for chunk in constant.chunks():
                    file.write(chunk)


class ProgramFile:
    """An open program file: header and code in memory, constants read when asked for.

    Args:
        source: Path of a file, or its bytes.

    Attributes:
        program: Header, code and manifest.

    Raises:
        NotFound: There is no such file.
        DataLoss: It is truncated or corrupt, or no program file at all.
        IncompatibleProgram: Its format is newer than this accelsdk reads.
    """

    def __init__(self, source: str | os.PathLike[str] | bytes) -> None:
        self._lock = threading.Lock()
        self._file, self._name = _open(source)
        try:
            self.program = self._parse()
        except BaseException:
            self._file.close()
            raise

    def _parse(self) -> Program:
        prefix = self._file.read(_PREFIX.size)
        if prefix[: len(MAGIC)] != MAGIC:
            raise DataLoss(
                f"{self._name} is not an accelsdk program", remedy="give a file of accelsdk compile"
            )
        if len(prefix) < _PREFIX.size:
            raise self._corrupt("it ends within its first bytes")
        _, version, length, digest = _PREFIX.unpack(prefix)
        if version > PROGRAM_FORMAT:
            raise IncompatibleProgram(
                f"{self._name} has program format {version}; this accelsdk reads up to "
                f"{PROGRAM_FORMAT}",
                remedy="update accelsdk, or compile the model again",
            )
        text = self._file.read(min(length, self._size()))
        if hashlib.sha256(text).digest() != digest:
            raise self._corrupt("its header does not match its digest")
        record = json.loads(text)
        self._start = _PREFIX.size + length
        if self._size() != self._start + record["nbytes"]:
            raise self._corrupt(f"it should have {self._start + record['nbytes']:,} bytes")
        code = self._file.read(record["code_nbytes"])
        if hashlib.sha256(code).hexdigest() != record["code_digest"]:
            raise self._corrupt("its code does not match its digest")
        self._places = {c["digest"]: int(c["offset"]) for c in record["constants"]}
        return _program_of(record, code)

    def constants(self, program: Program | None = None) -> Iterator[PackedConstant]:
        """Yields the constants in manifest order; each is checked as it is read to its end."""
        for spec in (program or self.program).constants:
            yield PackedConstant(spec, partial(self._read, spec))

    def close(self) -> None:
        """Closes the file; constants cannot be read any more."""
        self._file.close()

    def __del__(self) -> None:
        file = getattr(self, "_file", None)
        if file is not None:
            file.close()

    def _read(self, spec: ConstantSpec) -> Iterator[memoryview]:
        start = self._start + self._places[spec.digest]
        state = hashlib.sha256()
        for offset in range(0, spec.nbytes, _CHUNK):
            with self._lock:
                self._file.seek(start + offset)
                data = self._file.read(min(_CHUNK, spec.nbytes - offset))
            state.update(data)
            yield memoryview(data)
        if state.hexdigest() != spec.digest:
            raise self._corrupt(f"its constant {spec.name!r} does not match its digest")

    def _size(self) -> int:
        here = self._file.tell()
        size = self._file.seek(0, os.SEEK_END)
        self._file.seek(here)
        return size

    def _corrupt(self, why: str) -> DataLoss:
        return DataLoss(f"{self._name} is corrupt: {why}", remedy="compile the model again")


def _open(source: str | os.PathLike[str] | bytes) -> tuple[IO[bytes], str]:
    if isinstance(source, bytes):
        return io.BytesIO(source), "the program"
    try:
        return open(source, "rb"), repr(os.fspath(source))
    except FileNotFoundError:
        raise NotFound(f"no program file {os.fspath(source)!r}", remedy="check the path") from None
    except OSError as error:
        raise InvalidArgument(
            f"cannot read {os.fspath(source)!r}: {error.strerror or error}"
        ) from error


def is_program(source: str | os.PathLike[str] | bytes) -> bool:
    """Says whether a file, or bytes, start as a program file does."""
    if isinstance(source, bytes):
        return source[: len(MAGIC)] == MAGIC
    try:
        with open(source, "rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def _header_record(program: Program, places: dict[str, int], end: int) -> dict[str, Any]:
    header = program.header
    record = {
        **{name: getattr(header, name) for name in ("backend", "backend_version", "target")},
        "api_version": list(header.api_version),
        "target_options": dict(header.target_options),
        "graph_digest": header.graph_digest,
        "inputs": [_spec_record(spec) for spec in header.inputs],
        "outputs": [_spec_record(spec) for spec in header.outputs],
        "aliases": [list(pair) for pair in header.aliases],
        "workspace": header.workspace,
        "attributes": dict(header.attributes),
    }
    constants = [
        {
            "name": spec.name,
            "nbytes": spec.nbytes,
            "digest": spec.digest,
            "type": _type_record(spec.type),
            "offset": places[spec.digest],
        }
        for spec in program.constants
    ]
    return {
        "header": record,
        "constants": constants,
        "code_nbytes": len(program.code),
        "code_digest": hashlib.sha256(program.code).hexdigest(),
        "nbytes": end,
    }


def _spec_record(spec: TensorSpec) -> dict[str, Any]:
    record = {name: getattr(spec, name) for name in ("name", "memory", "layout", "bounded")}
    return {**record, "type": _type_record(spec.type)}


def _type_record(type: TensorType | None) -> list[Any] | None:
    return None if type is None else [type.format.name, list(type.shape)]


def _type_of(record: list[Any] | None) -> TensorType | None:
    return None if record is None else TensorType(by_name(record[0]), tuple(record[1]))


def _program_of(record: dict[str, Any], code: bytes) -> Program:
    given = _known(ProgramHeader, record["header"])
    for name in ("inputs", "outputs"):
        specs = (_known(TensorSpec, spec) for spec in given[name])
        given[name] = tuple(
            TensorSpec(**{**spec, "type": _type_of(spec["type"])}) for spec in specs
        )
    given["api_version"] = tuple(given["api_version"])
    given["aliases"] = tuple(tuple(pair) for pair in given["aliases"])
    constants = tuple(
        ConstantSpec(**{**_known(ConstantSpec, spec), "type": _type_of(spec["type"])})
        for spec in record["constants"]
    )
    return Program(header=ProgramHeader(**given), code=code, constants=constants)


def _known(cls: type, record: dict[str, Any]) -> dict[str, Any]:
    """Leaves out what a later version of accelsdk added."""
    names = {field.name for field in fields(cls)}
    return {name: value for name, value in record.items() if name in names}
