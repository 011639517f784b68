"""The open card: memory is NumPy arrays, a program is a list of bound kernels."""

from __future__ import annotations

import contextvars
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.backend.driver import Bound, Driver, MemoryStats, View
from accelsdk.backend.info import DeviceInfo
from accelsdk.backend.optional import NodeTime, Profile
from accelsdk.backend.program import PackedConstant, Program
from accelsdk.errors import OutOfMemory
from accelsdk.graph.graph import Node
from accelsdk.graph.ops import bounded
from accelsdk.graph.serialize import parse_structure
from accelsdk.graph.types import Shape, TensorType
from accelsdk.kernels.api import bind
from accelsdk.kernels.kernel import Kernel
from accelsdk.numerics.codec import from_bytes, to_bytes

Array = NDArray[Any]
#: Values of a program by number; number 0 is the operand that was left out.
Slots = list[Any]


@dataclass(frozen=True, slots=True)
class Step:
    """One node: its kernel, where operands and results lie, and what is dead afterwards."""

    kernel: Kernel
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    dead: tuple[int, ...]
    node: Node


@dataclass(frozen=True, slots=True)
class CpuLoaded:
    """A program ready to run: constants in their slots, kernels bound."""

    steps: tuple[Step, ...]
    slots: Slots
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    bounded: frozenset[int]  # slots of outputs whose size depends on the data
    constants: Mapping[object, Array]  # by digest, or by what computed them from constants


@dataclass(slots=True)
class CpuBound(Bound):
    """A loaded program with views of its arguments.

    Packed formats are converted in each run. So are outputs of data-dependent size, which fill
    the first bytes of their bound.
    """

    slots: Slots
    packed_inputs: tuple[tuple[int, Array, TensorType], ...]
    targets: tuple[tuple[int, Array], ...]
    packed_targets: tuple[tuple[int, Array, TensorType], ...]


class CpuDriver(Driver):
    """The host as a device."""

    def __init__(self, device: DeviceInfo) -> None:
        self._device, self._limit = device, device.memories[0].capacity
        self._in_use = self._peak = self._count = 0
        # Inf and NaN are results, not warnings; entering a context costs less than errstate.
        self._quiet = contextvars.copy_context()
        self._quiet.run(np.seterr, all="ignore")

    # -- memory --------------------------------------------------------------------------

    def allocate(self, nbytes: int, memory: str, alignment: int) -> Array:
        """Returns bytes of host memory that start at a multiple of ``alignment``."""
        self._reserve(nbytes)
        raw = np.empty(nbytes + alignment, np.uint8)
        start = -raw.ctypes.data % alignment
        return raw[start : start + nbytes]

    def free(self, handle: Array) -> None:
        """Takes the bytes off the account; NumPy frees them with the last view."""
        self._release(handle.nbytes)

    def _reserve(self, nbytes: int) -> None:
        if self._in_use + nbytes > self._limit:
            raise OutOfMemory(
                requested=nbytes, in_use=self._in_use, limit=self._limit, device=self._device.id
            )
        self._in_use, self._count = self._in_use + nbytes, self._count + 1
        self._peak = max(self._peak, self._in_use)

    def _release(self, nbytes: int) -> None:
        self._in_use, self._count = self._in_use - nbytes, self._count - 1

    def memory_stats(self, memory: str) -> MemoryStats:
        """Returns the account of buffers and loaded constants."""
        return MemoryStats(
            in_use=self._in_use, limit=self._limit, peak=self._peak, allocations=self._count
        )

    def write(self, dst: View, source: memoryview) -> None:
        """Copies host bytes in."""
        _bytes(dst)[:] = np.frombuffer(source, np.uint8)

    def read(self, src: View, destination: memoryview) -> None:
        """Copies device bytes out."""
        np.frombuffer(destination, np.uint8)[:] = _bytes(src)

    def copy(self, dst: View, src: View) -> None:
        """Copies without a detour."""
        _bytes(dst)[:] = _bytes(src)

    def fill(self, dst: View, pattern: bytes) -> None:
        """Repeats the pattern."""
        _bytes(dst).reshape(-1, len(pattern))[:] = np.frombuffer(pattern, np.uint8)

    @contextmanager
    def map(self, view: View) -> Iterator[memoryview]:
        """Yields the bytes themselves: the host is the device."""
        yield _bytes(view).data

    # -- programs ------------------------------------------------------------------------

    def load(
        self,
        program: Program,
        constants: Iterator[PackedConstant],
        share: CpuLoaded | None = None,
    ) -> CpuLoaded:
        """Rebuilds the graph, binds its kernels and takes its constants in, or shares them.

        Nodes of nothing but constants run now, once, not in every execution.
        """
        graph = parse_structure(program.code)
        shared = {} if share is None else share.constants
        number = {value.name: index for index, value in enumerate(graph.values(), start=1)}
        slots: Slots = [None] * (len(number) + 1)
        keys: dict[int, object] = {0: None}
        kept: dict[object, Array] = {}
        for packed, constant in zip(constants, graph.constants, strict=True):
            key = (packed.spec.digest, constant.value.type)
            array = shared.get(key)
            if array is None:
                array = self._constant(packed, constant.value.type)
            kept[key] = slots[number[constant.name]] = array
            keys[number[constant.name]] = key
        steps = []
        for step in _steps(graph.nodes, number, [v.name for v in graph.outputs]):
            if all(slot in keys for slot in step.inputs):
                self._compute_once(step, slots, keys, shared, kept)
            else:
                steps.append(step)
        return CpuLoaded(
            steps=tuple(steps),
            slots=slots,
            inputs=tuple(number[v.name] for v in graph.inputs),
            outputs=tuple(number[v.name] for v in graph.outputs),
            bounded=frozenset(number[name] for node in graph.nodes for name in bounded(node)),
            constants=kept,
        )

    def _compute_once(
        self,
        step: Step,
        slots: Slots,
        keys: dict[int, object],
        shared: Mapping[object, Array],
        kept: dict[object, Array],
    ) -> None:
        node, operands = step.node, tuple(keys[slot] for slot in step.inputs)
        call = (node.op, tuple(sorted(node.attributes.items())), operands)
        results: Sequence[Array] | None = None
        for index, slot in enumerate(step.outputs):
            key = (call, index)
            array = shared.get(key)
            if array is None:
                if results is None:
                    results = self._quiet.run(step.kernel, *[slots[i] for i in step.inputs])
                array = results[index]
                if array.base is None:  # a view takes no memory of its own
                    self._account(array, array.nbytes)
            if slot:
                kept[key] = slots[slot] = array
                keys[slot] = key

    def _constant(self, packed: PackedConstant, kind: TensorType) -> Array:
        array = from_bytes(packed.tobytes(), kind.format, kind.shape)
        self._account(array, packed.spec.nbytes)
        return array

    def _account(self, array: Array, nbytes: int) -> None:
        self._reserve(nbytes)
        # Programs may share it: its bytes are given back when the last of them is gone.
        weakref.finalize(array, self._release, nbytes).atexit = False

    def bind(self, loaded: CpuLoaded, inputs: Sequence[View], outputs: Sequence[View]) -> CpuBound:
        """Makes arrays of the views once, so that a run need not."""
        slots, reads, writes, packs = loaded.slots.copy(), [], [], []
        for slot, view in zip(loaded.inputs, inputs, strict=True):
            kind = _type(view)
            if kind.format.bits < 8:
                reads.append((slot, _bytes(view), kind))
            else:
                slots[slot] = from_bytes(_bytes(view), kind.format, kind.shape)
        for slot, view in zip(loaded.outputs, outputs, strict=True):
            kind = _type(view)
            if kind.format.bits < 8 or slot in loaded.bounded:
                packs.append((slot, _bytes(view), kind))
            else:
                writes.append((slot, from_bytes(_bytes(view), kind.format, kind.shape)))
        return CpuBound(
            loaded=loaded,
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            slots=slots,
            packed_inputs=tuple(reads),
            targets=tuple(writes),
            packed_targets=tuple(packs),
        )

    def execute(
        self, loaded: CpuLoaded, inputs: Sequence[View], outputs: Sequence[View]
    ) -> Sequence[Shape] | None:
        """Runs a program once."""
        return self.execute_bound(self.bind(loaded, inputs, outputs))

    def execute_bound(self, bound: CpuBound) -> Sequence[Shape] | None:  # type: ignore[override] # what bind made
        """Runs a bound program once."""
        return self._quiet.run(_run, bound, None)

    def execute_profiled(
        self, loaded: CpuLoaded, inputs: Sequence[View], outputs: Sequence[View]
    ) -> tuple[Sequence[Shape] | None, Profile]:
        """Runs a program once, and says when each node ran."""
        times: list[NodeTime] = []
        shapes = self._quiet.run(_run, self.bind(loaded, inputs, outputs), times)
        return shapes, tuple(times)

    def close(self) -> None:
        """Nothing to give back: memory goes with the handles."""


def _bytes(view: View) -> Array:
    """The bytes of a view, in place."""
    memory: Array = view.handle
    return memory[view.offset : view.offset + view.nbytes]


def _type(view: View) -> TensorType:
    if view.type is None:
        raise TypeError("a program's argument has no type")
    return view.type


def _steps(
    nodes: Sequence[Node], number: Mapping[str, int], outputs: Sequence[str]
) -> Iterator[Step]:
    """Binds the nodes; values that nobody reads any more are dropped after each."""
    made = {v.name for node in nodes for v in node.outputs if v is not None}
    last = {v.name: i for i, node in enumerate(nodes) for v in node.inputs if v is not None}
    for i, node in enumerate(nodes):
        used = {v.name for v in (*node.inputs, *node.outputs) if v is not None}
        dead = [n for n in used if last.get(n, i) == i and n in made and n not in outputs]
        yield Step(
            kernel=bind(node),
            inputs=tuple(0 if v is None else number[v.name] for v in node.inputs),
            outputs=tuple(0 if v is None else number[v.name] for v in node.outputs),
            dead=tuple(sorted(number[n] for n in dead)),
            node=node,
        )


def _run(bound: CpuBound, times: list[NodeTime] | None) -> Sequence[Shape] | None:
    """Runs the nodes; returns real shapes of the outputs if one depends on the data."""
    slots = bound.slots.copy()
    for slot, packed, kind in bound.packed_inputs:
        slots[slot] = from_bytes(packed, kind.format, kind.shape)
    for step in bound.loaded.steps:
        started = 0 if times is None else time.perf_counter_ns()
        results = step.kernel(*[slots[i] for i in step.inputs])
        for slot, result in zip(step.outputs, results, strict=True):
            slots[slot] = result
        slots[0] = None
        for slot in step.dead:
            slots[slot] = None
        if times is not None:
            node, finished = step.node, time.perf_counter_ns()
            times.append(
                NodeTime(
                    node=node.name, op=node.op, engine="cpu", started=started, finished=finished
                )
            )
    for slot, target in bound.targets:
        np.copyto(target, slots[slot])
    for slot, packed, kind in bound.packed_targets:
        data = np.frombuffer(to_bytes(slots[slot], kind.format), np.uint8)
        packed[: data.size] = data
    loaded: CpuLoaded = bound.loaded
    return [slots[slot].shape for slot in loaded.outputs] if loaded.bounded else None
