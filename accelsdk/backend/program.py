"""What a compiler hands to a driver: a program, and the constants it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

from accelsdk.backend.info import BackendInfo, Options, OptionValue, Target
from accelsdk.graph.graph import Constant as GraphConstant
from accelsdk.graph.graph import Graph
from accelsdk.graph.ops import bounded
from accelsdk.graph.serialize import digest
from accelsdk.graph.types import Shape, TensorType

#: Version of the program file; a reader refuses a newer major.
PROGRAM_FORMAT = 1

_NOTHING: Mapping[str, OptionValue] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """One input or output of a program.

    Attributes:
        name: As in the model.
        type: Format and shape; for an output of data-dependent size, its bound.
        memory: Kind of memory it is expected in.
        layout: ``"dense"`` is row-major and packed; any other name is opaque and belongs
            to the backend.
        bounded: True if ``execute`` reports the output's real shape.
    """

    name: str
    type: TensorType
    memory: str = "device"
    layout: str = "dense"
    bounded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ConstantSpec:
    """One constant of a program's manifest, as the driver will see it.

    Attributes:
        name: Unique in the program.
        nbytes: Length of the packed contents.
        digest: SHA-256 of the contents, hexadecimal; equal digests may be shared.
        type: Format and shape, unless vendor-packed.
    """

    name: str
    nbytes: int
    digest: str
    type: TensorType | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramHeader:
    """What can be known of a program without loading it.

    Attributes:
        backend: Name of the backend that compiled it.
        backend_version: Its version.
        api_version: Contract version.
        target: Name of the target.
        target_options: Resolved target options it was compiled with.
        graph_digest: SHA-256 of the lowered graph, constants included.
        inputs: In the order in which ``execute`` takes them.
        outputs: In the order in which ``execute`` writes them.
        aliases: (output index, input index) pairs that may share storage when the input
            is donated; type and layout of each pair are equal.
        workspace: Bytes of device memory that one execution needs besides.
        attributes: Anything else worth showing.
    """

    backend: str
    backend_version: str
    api_version: tuple[int, int]
    target: str
    target_options: Options = field(default_factory=lambda: _NOTHING)
    graph_digest: str = ""
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    aliases: tuple[tuple[int, int], ...] = ()
    workspace: int = 0
    attributes: Options = field(default_factory=lambda: _NOTHING)

    @classmethod
    def of(
        cls,
        info: BackendInfo,
        target: Target,
        graph: Graph,
        *,
        aliases: tuple[tuple[int, int], ...] = (),
        workspace: int = 0,
    ) -> ProgramHeader:
        """Returns the header of ``graph`` compiled for ``target``, all tensors dense.

        Outputs of data-dependent size are marked as bounded.
        """
        by_data = frozenset[str]().union(*map(bounded, graph.nodes))
        return cls(
            backend=info.name,
            backend_version=info.version,
            api_version=info.api_version,
            target=target.name,
            target_options=target.options,
            graph_digest=digest(graph),
            inputs=tuple(TensorSpec(name=v.name, type=v.type) for v in graph.inputs),
            outputs=tuple(
                TensorSpec(name=v.name, type=v.type, bounded=v.name in by_data)
                for v in graph.outputs
            ),
            aliases=aliases,
            workspace=workspace,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A compiled graph: no card is needed to make it, and any process can load it.

    Attributes:
        header: What can be known without loading.
        code: The backend's own bytes.
        constants: Manifest, in the order in which ``load`` receives the contents.
    """

    header: ProgramHeader
    code: bytes
    constants: tuple[ConstantSpec, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class PackedConstant:
    """One constant on its way to a driver.

    Attributes:
        spec: Its line in the manifest.
        read: Returns the packed contents as an iterator of chunks, from the start.
    """

    spec: ConstantSpec
    read: Callable[[], Iterator[memoryview]]

    def chunks(self) -> Iterator[memoryview]:
        """Yields the packed contents in order; each chunk is valid until the next."""
        return self.read()

    def tobytes(self) -> bytes:
        """Returns the whole packed contents in host memory."""
        return b"".join(self.read())


class ConstantPacker(Protocol):
    """Takes the constants of a program while it is compiled; the SDK spools them to disk."""

    def graph_constant(self, constant: GraphConstant) -> ConstantSpec:
        """Keeps a constant of the graph as it is, under its own name."""

    def packed(
        self, name: str, chunks: Iterable[bytes | memoryview], type: TensorType | None = None
    ) -> ConstantSpec:
        """Keeps vendor-packed bytes under ``name``."""


#: Shapes that an execution reports for outputs of data-dependent size.
ReportedShapes = tuple[Shape, ...]
