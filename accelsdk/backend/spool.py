"""The spool that keeps constants on disk while a model is compiled."""

from __future__ import annotations

import hashlib
import tempfile
import threading
from collections.abc import Iterable, Iterator
from functools import partial

from accelsdk.backend.program import ConstantSpec, PackedConstant, Program
from accelsdk.errors import Internal, InvalidArgument
from accelsdk.graph.graph import Constant as GraphConstant
from accelsdk.graph.types import TensorType

_CHUNK = 1 << 20
#: Constants up to this many bytes in all stay in memory; beyond, they go to a temporary file.
SPOOL_BYTES = 1 << 22


class Spool:
    """Takes the constants of a program while it is compiled; a `ConstantPacker`.

    Contents are streamed to a temporary file once they pass `SPOOL_BYTES`; equal contents are
    kept once. Reading is thread-safe.

    Args:
        memory: Bytes that stay in memory.
        beside: Another program's spool, whose file this one is to share.
    """

    def __init__(self, memory: int = SPOOL_BYTES, *, beside: Spool | None = None) -> None:
        self._store: _Store = _Store(memory) if beside is None else beside._store
        self._names: set[str] = set()

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
        digest, nbytes = self._store.add(chunks)
        self._names.add(name)
        return ConstantSpec(name=name, nbytes=nbytes, digest=digest, type=type)

    def constants(self, program: Program) -> Iterator[PackedConstant]:
        """Yields the program's constants in manifest order, readable any number of times."""
        for spec in program.constants:
            if spec.digest not in self._store.places:
                raise Internal(
                    f"the program's constant {spec.name!r} was never packed",
                    backend=program.header.backend,
                )
            yield PackedConstant(spec, partial(self._store.read, spec))

    def close(self) -> None:
        """Removes what was spooled."""
        self._store.close()


class _Store:
    """A temporary file of different contents, by digest."""

    def __init__(self, memory: int) -> None:
        # Programs refer to this object and keep it alive; the file is closed with it.
        self._file = tempfile.SpooledTemporaryFile(max_size=memory)  # noqa: SIM115 # see above
        self._lock = threading.Lock()
        self.places: dict[str, int] = {}
        self._end = 0

    def add(self, chunks: Iterable[bytes | memoryview]) -> tuple[str, int]:
        """Keeps contents; returns their digest and length."""
        state = hashlib.sha256()
        with self._lock:
            start = end = self._end
            self._file.seek(start)
            for chunk in chunks:
                state.update(chunk)
                self._file.write(chunk)
                end += memoryview(chunk).nbytes
            if self.places.setdefault(state.hexdigest(), start) == start:
                self._end = end  # else known contents: written over by what comes next
        return state.hexdigest(), end - start

    def read(self, spec: ConstantSpec) -> Iterator[memoryview]:
        """Yields the contents of a constant."""
        start = self.places[spec.digest]
        for offset in range(0, spec.nbytes, _CHUNK):
            with self._lock:
                self._file.seek(start + offset)
                data = self._file.read(min(_CHUNK, spec.nbytes - offset))
            yield memoryview(data)

    def close(self) -> None:
        """Removes the file."""
        self._file.close()

    def __del__(self) -> None:
        file = getattr(self, "_file", None)
        if file is not None:
            file.close()
