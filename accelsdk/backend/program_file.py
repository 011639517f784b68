"""Program files: one program, or a plan of several, for any process to load.

Layout of a file, little-endian::

    8   magic  b"ACCELPRG"
    4   format version: 1 for one program, 2 for a plan
    8   length of the header
    32  SHA-256 of the header
    ..  header: JSON, UTF-8 (`accelsdk.backend.program_record` has its fields)
    ..  code of each program, then each different constant once, at the offsets in the header

Offsets count from the end of the header. Everything that is read is checked against a digest;
constants are read, and checked, only when a driver asks for them. Programs of a plan share
the constants that they have in common.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import IO, Any

from accelsdk.backend import program_record
from accelsdk.backend.files import written
from accelsdk.backend.program import PROGRAM_FORMAT, ConstantSpec, PackedConstant, Program
from accelsdk.backend.program_plan import Outline
from accelsdk.errors import AccelError, DataLoss, IncompatibleProgram, InvalidArgument, NotFound

MAGIC = b"ACCELPRG"
#: Version of the file of a plan; one program is written as `PROGRAM_FORMAT`.
PLAN_FORMAT = 2
_PREFIX = struct.Struct("<8sIQ32s")
_CHUNK = 1 << 20


def save(
    path: str | os.PathLike[str], program: Program, constants: Iterable[PackedConstant]
) -> None:
    """Writes the file of one program, whole or not at all.

    Args:
        path: Where to.
        program: Header, code and manifest.
        constants: Contents, in manifest order.

    Raises:
        NotFound: The folder does not exist.
        InvalidArgument: The file cannot be written there.
    """
    places, end = _places((program,), len(program.code))
    record = {**program_record.of_program(program, places), "nbytes": end}
    _write(path, PROGRAM_FORMAT, record, (program,), constants)


def save_plan(
    path: str | os.PathLike[str],
    outline: Outline,
    programs: Sequence[Program],
    constants: Iterable[PackedConstant],
) -> None:
    """Writes the file of a plan, whole or not at all.

    Args:
        path: Where to.
        outline: What the plan is.
        programs: One a piece.
        constants: Contents of the first program's, in manifest order, then the second's, ...

    Raises:
        NotFound: The folder does not exist.
        InvalidArgument: The file cannot be written there.
    """
    places, end = _places(programs, sum(len(program.code) for program in programs))
    parts, offset = [], 0
    for program in programs:
        parts.append({**program_record.of_program(program, places), "code_offset": offset})
        offset += len(program.code)
    record = {"plan": program_record.of_outline(outline), "parts": parts, "nbytes": end}
    _write(path, PLAN_FORMAT, record, programs, constants)


def _places(programs: Sequence[Program], start: int) -> tuple[dict[str, int], int]:
    """Returns the offset of each different constant, by digest, and the end of them all."""
    places: dict[str, int] = {}
    for spec in chain.from_iterable(program.constants for program in programs):
        if spec.digest not in places:
            places[spec.digest] = start
            start += spec.nbytes
    return places, start


def _write(
    path: str | os.PathLike[str],
    version: int,
    record: Mapping[str, Any],
    programs: Sequence[Program],
    constants: Iterable[PackedConstant],
) -> None:
    header = json.dumps(record, sort_keys=True).encode()
    with written(path) as file:
        digest = hashlib.sha256(header).digest()
        file.write(_PREFIX.pack(MAGIC, version, len(header), digest))
        file.write(header)
        for program in programs:
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
        programs: Header, code and manifest of each program.
        outline: How they go together; None for a file of one program.

    Raises:
        NotFound: There is no such file.
        DataLoss: It is truncated or corrupt, or no program file at all.
        IncompatibleProgram: Its format is newer than this accelsdk reads.
    """

    def __init__(self, source: str | os.PathLike[str] | bytes) -> None:
        self._lock = threading.Lock()
        self._file, self._name = _open(source)
        try:
            self.programs, self.outline = self._parse()
        except BaseException:
            self._file.close()
            raise

    @property
    def program(self) -> Program:
        """The only program, or the first."""
        return self.programs[0]

    def _parse(self) -> tuple[tuple[Program, ...], Outline | None]:
        prefix = self._file.read(_PREFIX.size)
        if prefix[: len(MAGIC)] != MAGIC:
            raise DataLoss(
                f"{self._name} is not an accelsdk program", remedy="give a file of accelsdk compile"
            )
        if len(prefix) < _PREFIX.size:
            raise self._corrupt("it ends within its first bytes")
        _, version, length, digest = _PREFIX.unpack(prefix)
        if version > PLAN_FORMAT:
            raise IncompatibleProgram(
                f"{self._name} has program format {version}; this accelsdk reads up to "
                f"{PLAN_FORMAT}",
                remedy="update accelsdk, or compile the model again",
            )
        text = self._file.read(min(length, self._size()))
        if hashlib.sha256(text).digest() != digest:
            raise self._corrupt("its header does not match its digest")
        self._start = _PREFIX.size + length
        try:
            return self._programs(json.loads(text))
        except AccelError:
            raise
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise self._corrupt(f"its header is malformed: {error!r}") from error

    def _programs(self, record: Mapping[str, Any]) -> tuple[tuple[Program, ...], Outline | None]:
        if self._size() != self._start + record["nbytes"]:
            raise self._corrupt(f"it should have {self._start + record['nbytes']:,} bytes")
        parts = record["parts"] if "plan" in record else [record]
        self._places = {c["digest"]: int(c["offset"]) for part in parts for c in part["constants"]}
        programs = tuple(program_record.to_program(part, self._code(part)) for part in parts)
        if "plan" not in record:
            return programs, None
        outline = program_record.to_outline(record["plan"])
        if len(outline.pieces) != len(programs):
            raise self._corrupt("its plan does not fit its programs")
        return programs, outline

    def _code(self, part: Mapping[str, Any]) -> bytes:
        self._file.seek(self._start + part.get("code_offset", 0))
        code = self._file.read(part["code_nbytes"])
        if hashlib.sha256(code).hexdigest() != part["code_digest"]:
            raise self._corrupt("its code does not match its digest")
        return code

    def constants(self, program: Program | None = None) -> Iterator[PackedConstant]:
        """Yields the constants in manifest order; each is checked as it is read to its end."""
        for spec in (program or self.program).constants:
            yield PackedConstant(spec, partial(self._read, spec))

    def verify(self) -> None:
        """Reads, and checks, all constants.

        Raises:
            DataLoss: One is corrupt.
        """
        for spec in {spec.digest: spec for p in self.programs for spec in p.constants}.values():
            for _ in self._read(spec):
                pass

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
