"""A program on a card: its constants in device memory, its nodes bound to engines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.backend.driver import View
from accelsdk.backend.optional import NodeTime, Profile
from accelsdk.backend.program import PackedConstant, Program
from accelsdk.errors import AccelError, DataLoss, FailedPrecondition
from accelsdk.graph.graph import Graph, Node
from accelsdk.graph.types import Shape, TensorType
from accelsdk.numerics import codec
from accelsdk_sim_card.cost import graph_cost

if TYPE_CHECKING:
    from accelsdk_sim_card.card import Card

Array = NDArray[Any]
Kernel = Callable[..., tuple[Array, ...]]
#: Turns a node into the function that computes it.
Bind = Callable[[Node], Kernel]

#: One node, ready to run: kernel, slots of operands (-1: left out), of results, to be dropped.
Step = tuple[Node, Kernel, tuple[int, ...], tuple[int, ...], tuple[int, ...]]


class LoadedProgram:
    """What `SimDriver.load` returns.

    Args:
        card: Where it is loaded.
        program: What was compiled.
        graph: The program's graph, without constant contents.
        constants: In manifest order.
        share: A loaded program whose constants of equal digest are used again, or None.
        bind: The card's arithmetic.
    """

    def __init__(
        self,
        card: Card,
        program: Program,
        graph: Graph,
        constants: Iterator[PackedConstant],
        share: LoadedProgram | None,
        bind: Bind,
    ) -> None:
        self.name = graph.name
        self._card = card
        self._epoch = card.epoch
        self._header = program.header
        self._resident: dict[str, Resident] = {}
        self._workspace: int | None = None
        self._slots: list[Array | None] = []
        try:
            held = self._load_constants(constants, share)
            if program.header.workspace:
                self._workspace = card.allocate(program.header.workspace, card.profile.alignment)
            self._bind(graph, held, bind)
        except BaseException:
            self.unload()
            raise
        self._costs = graph_cost(graph, card.profile)
        self._ends = tuple(accumulate(cost.nanoseconds for cost in self._costs))
        self.nanoseconds = self._ends[-1] if self._ends else 0

    # -- loading -------------------------------------------------------------------------

    def _load_constants(
        self, constants: Iterator[PackedConstant], share: LoadedProgram | None
    ) -> dict[str, Array]:
        held: dict[str, Array] = {}
        alive = share is not None and share._card is self._card and share._epoch == self._epoch
        shared = share._resident if share is not None and alive else {}
        for constant in constants:
            spec = constant.spec
            kind = spec.type
            if kind is None:
                raise FailedPrecondition(
                    f"constant {spec.name} has no type",
                    device=self._card.id,
                    remedy="compile again: every constant of this backend is typed",
                )
            resident = self._resident.get(spec.digest) or shared.get(spec.digest)
            if resident is None:
                resident = Resident(self._card, spec.name, spec.nbytes, constant)
            else:
                resident.users += spec.digest not in self._resident
            self._resident[spec.digest] = resident
            held[spec.name] = resident.array(kind)
        return held

    def _bind(self, graph: Graph, held: dict[str, Array], bind: Bind) -> None:
        slot = {value.name: index for index, value in enumerate(graph.values())}
        self._slots = [None] * len(slot)
        for name, array in held.items():
            self._slots[slot[name]] = array
        last: dict[str, int] = {}
        for index, node in enumerate(graph.nodes):
            last.update((v.name, index) for v in (*node.inputs, *node.outputs) if v is not None)
        keep = held.keys() | {value.name for value in graph.outputs}
        dropped: list[list[int]] = [[] for _ in graph.nodes]
        for name, index in last.items():
            if name not in keep:
                dropped[index].append(slot[name])
        fixed = {slot[name] for name in held}
        # What depends on constants alone is computed in the first run and remembered: the card
        # spends its time on it in every run, the simulator need not.
        self._first: list[Step] = []
        self._steps: list[Step] = []
        for index, node in enumerate(graph.nodes):
            operands = tuple(-1 if v is None else slot[v.name] for v in node.inputs)
            results = tuple(-1 if v is None else slot[v.name] for v in node.outputs)
            step = (node, bind(node), operands, results, tuple(dropped[index]))
            if all(i < 0 or i in fixed for i in operands):
                self._first.append(step)
                fixed.update(results)
            else:
                self._steps.append(step)
        read = {i for _, _, operands, _, _ in self._steps for i in operands}
        self._first = [
            (*step[:4], tuple(i for i in step[4] if i not in read)) for step in self._first
        ]
        self._inputs = [(slot[v.name], Reader(v.type)) for v in graph.inputs]
        self._outputs = [(slot[v.name], Reader(v.type)) for v in graph.outputs]
        self._sized_by_data = any(spec.bounded for spec in self._header.outputs)

    def unload(self) -> None:
        """Releases constants and workspace, unless a reset has done so already."""
        alive = self._epoch == self._card.epoch
        for resident in self._resident.values():
            resident.users -= 1
            if alive and not resident.users:
                self._card.memory.free(resident.handle)
        if alive and self._workspace is not None:
            self._card.memory.free(self._workspace)
        self._resident, self._workspace = {}, None
        self._epoch = -1

    # -- running -------------------------------------------------------------------------

    def run(self, inputs: Sequence[View], outputs: Sequence[View]) -> tuple[Shape, ...] | None:
        """Computes the program from device memory to device memory.

        Returns:
            Real shapes of the outputs, if the size of one depends on the data.

        Raises:
            FailedPrecondition: It was unloaded, or the card was reset since.
            DeviceFault: A view is not valid memory of the card.
        """
        if self._epoch != self._card.epoch:
            raise FailedPrecondition(
                f"program {self.name} is not loaded any more",
                device=self._card.id,
                remedy="load it again",
            )
        memory = self._card.memory
        with np.errstate(all="ignore"):  # overflow and its like are results, as on a card
            self._compute(self._first, self._slots)
            self._first = []
            slots = self._slots.copy()
            for view, (index, reader) in zip(inputs, self._inputs, strict=True):
                slots[index] = reader.read(memory.range(view))
            self._compute(self._steps, slots)
        results = self._results(slots, len(outputs) > 1 and _overlap(inputs, outputs))
        for view, array, (_, reader) in zip(outputs, results, self._outputs, strict=True):
            reader.write(memory.range(view), array)
        return tuple(array.shape for array in results) if self._sized_by_data else None

    def _compute(self, steps: Sequence[Step], slots: list[Array | None]) -> None:
        for node, kernel, operands, results, dropped in steps:
            try:
                made = kernel(*[None if i < 0 else slots[i] for i in operands])
            except AccelError as error:
                error.node = error.node or node.name
                error.device = error.device or self._card.id
                raise
            for index, array in zip(results, made, strict=False):
                if index >= 0:
                    slots[index] = array
            for index in dropped:
                slots[index] = None

    def _results(self, slots: list[Array | None], donated: bool) -> list[Array]:
        found = [slots[index] for index, _ in self._outputs]
        arrays = [array for array in found if array is not None]
        if donated:  # one output may lie where another still is to be read from
            arrays = [array.copy() for array in arrays]
        return arrays

    def profile(self, begin: int, slowdown: float) -> Profile:
        """Returns when each node ran, for an execution whose nodes began at ``begin``."""
        starts = (0, *self._ends[:-1])
        return tuple(
            NodeTime(
                node=cost.node,
                op=cost.op,
                engine=cost.engine,
                started=begin + round(start * slowdown),
                finished=begin + round(end * slowdown),
            )
            for cost, start, end in zip(self._costs, starts, self._ends, strict=True)
        )


class Resident:
    """One constant in device memory, shared by the programs that hold equal contents."""

    def __init__(self, card: Card, name: str, nbytes: int, constant: PackedConstant) -> None:
        self.users = 1
        self.handle = card.allocate(max(nbytes, 1), card.profile.alignment)
        self._bytes = card.memory.range(View(self.handle, 0, nbytes, None, nbytes))
        self._arrays: dict[TensorType, Array] = {}
        filled = 0
        try:
            for chunk in constant.chunks():
                end = filled + chunk.nbytes
                if end > nbytes:
                    raise _wrong_length(name, nbytes, card.id)
                self._bytes[filled:end] = np.frombuffer(chunk, np.uint8)
                filled = end
            if filled != nbytes:
                raise _wrong_length(name, nbytes, card.id)
        except BaseException:
            card.memory.free(self.handle)
            raise

    def array(self, kind: TensorType) -> Array:
        """Returns the contents as a read-only array; sub-byte formats are unpacked once."""
        found = self._arrays.get(kind)
        if found is None:
            found = Reader(kind).read(self._bytes)
            found = found.view()
            found.flags.writeable = False
            self._arrays[kind] = found
        return found


class Reader:
    """Turns device bytes into an array of one type, and back; made once, used each run."""

    def __init__(self, kind: TensorType) -> None:
        self._format = kind.format
        self._shape = kind.shape
        self._dtype = kind.format.dtype
        self._plain = kind.format.bits >= 8

    def read(self, data: NDArray[np.uint8]) -> Array:
        """Returns the elements: in place where the format has whole bytes."""
        if not self._plain:
            return codec.from_bytes(data, self._format, self._shape)
        array = data.view(self._dtype).reshape(self._shape)
        return array if array.flags.aligned else array.copy()

    def write(self, data: NDArray[np.uint8], array: Array) -> None:
        """Stores elements; an array smaller than the type fills the first bytes."""
        if not self._plain:
            packed = codec.pack(array, self._format)
            data[: packed.size] = packed
        elif array.shape == self._shape:
            data.view(self._dtype).reshape(self._shape)[...] = array
        else:
            data.view(self._dtype)[: array.size] = array.reshape(-1)


def _wrong_length(name: str, nbytes: int, device: str) -> DataLoss:
    return DataLoss(
        f"constant {name} does not have its {nbytes} bytes",
        device=device,
        remedy="compile the program again",
    )


def _overlap(inputs: Sequence[View], outputs: Sequence[View]) -> bool:
    return not {view.handle for view in inputs}.isdisjoint(view.handle for view in outputs)
