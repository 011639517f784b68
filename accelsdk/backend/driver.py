"""One open card: seven methods to write, right and slow defaults for the rest.

Threads: the SDK calls a driver as `DeviceInfo.threading` says. Bounds, lifetimes, ordering
and poisoning are checked before a call arrives here; a driver may still check, and a wrong
argument that reaches it is a defect of the SDK.

Errors: raise from `accelsdk.errors`. `DeviceFault` latches the device FAILED; `OutOfMemory`
is retried once after the SDK has trimmed; any other only poisons the outputs of the call;
foreign exceptions become `Internal`, chained.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from accelsdk.backend.program import PackedConstant, Program
from accelsdk.graph.types import Shape, TensorType

#: What `Driver.allocate` returns: anything the driver likes, opaque to the SDK.
Handle = Any
#: What `Driver.load` returns, opaque to the SDK.
Loaded = Any

_STAGE = 1 << 22


@dataclass(frozen=True, slots=True)
class View:
    """A range of device memory, as a driver is handed it. Not kept by the driver.

    Attributes:
        handle: What ``allocate`` returned.
        offset: Bytes from the start of the allocation.
        nbytes: Length in bytes.
        type: Format and shape of the contents; None for raw bytes.
        valid_nbytes: Leading bytes that hold data; the rest is undefined. Less than
            ``nbytes`` only where the target has ``partial-tensors``.
    """

    handle: Handle
    offset: int
    nbytes: int
    type: TensorType | None
    valid_nbytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryStats:
    """Use of one memory, bytes. None where the driver does not know."""

    in_use: int
    limit: int | None = None
    peak: int | None = None
    allocations: int | None = None


@dataclass(slots=True)
class Bound:
    """A loaded program with its arguments fixed; a driver may derive from it."""

    loaded: Loaded
    inputs: tuple[View, ...]
    outputs: tuple[View, ...]


class Driver(ABC):
    """One open card.

    The seven abstract methods are a whole plugin. Each call is synchronous: when it
    returns, its effect is complete.
    """

    @abstractmethod
    def allocate(self, nbytes: int, memory: str, alignment: int) -> Handle:
        """Reserves device memory; contents are undefined.

        Args:
            nbytes: More than 0.
            memory: A kind from `DeviceInfo.memories`.
            alignment: Bytes; a power of two, at least the target's.

        Returns:
            An opaque handle that the SDK gives back in views and to `free`.

        Raises:
            OutOfMemory: With the numbers in it; device state is unchanged.
        """

    @abstractmethod
    def free(self, handle: Handle) -> None:
        """Releases an allocation. Nothing in flight uses it; it is not used again."""

    @abstractmethod
    def write(self, dst: View, source: memoryview) -> None:
        """Copies host bytes to device memory.

        Args:
            dst: Where to; ``dst.nbytes`` equals ``source.nbytes``.
            source: Contiguous bytes, read during the call only.
        """

    @abstractmethod
    def read(self, src: View, destination: memoryview) -> None:
        """Copies device memory to host bytes.

        Args:
            src: Where from; ``src.nbytes`` equals ``destination.nbytes``.
            destination: Contiguous writable bytes, written during the call only.
        """

    @abstractmethod
    def load(
        self, program: Program, constants: Iterator[PackedConstant], share: Loaded | None = None
    ) -> Loaded:
        """Makes a program ready to run.

        Args:
            program: Compiled by this backend; `Backend.check` did not refuse it.
            constants: In manifest order, one at a time, so that a model larger than host
                memory can be loaded. To be consumed during the call.
            share: A loaded program whose constants of equal digest may be used again; it
                may be unloaded before this one.

        Raises:
            OutOfMemory: Nothing stays allocated.
        """

    @abstractmethod
    def execute(
        self, loaded: Loaded, inputs: Sequence[View], outputs: Sequence[View]
    ) -> Sequence[Shape] | None:
        """Runs a program once.

        Args:
            loaded: What `load` returned.
            inputs: In header order; types equal the header's.
            outputs: In header order. An output shares memory with an input only where the
                header's ``aliases`` says so and the caller donated it.

        Returns:
            Real shapes of all outputs, if any is of data-dependent size; else None.
        """

    @abstractmethod
    def close(self) -> None:
        """Gives the card back. All handles and loaded programs are dead afterwards."""

    # -- defaults: right, and slow -------------------------------------------------------

    def copy(self, dst: View, src: View) -> None:
        """Copies within the card; ranges do not overlap. Default: through the host."""
        stage = memoryview(bytearray(min(src.nbytes, _STAGE)))
        for start in range(0, src.nbytes, _STAGE):
            nbytes = min(_STAGE, src.nbytes - start)
            self.read(_slice(src, start, nbytes), stage[:nbytes])
            self.write(_slice(dst, start, nbytes), stage[:nbytes])

    def fill(self, dst: View, pattern: bytes) -> None:
        """Repeats ``pattern`` (1, 2, 4 or 8 bytes, dividing the length). Default: writes."""
        whole = pattern * (min(dst.nbytes, _STAGE) // len(pattern))
        for start in range(0, dst.nbytes, len(whole)):
            nbytes = min(len(whole), dst.nbytes - start)
            self.write(_slice(dst, start, nbytes), memoryview(whole)[:nbytes])

    def unload(self, loaded: Loaded) -> None:  # noqa: B027 # optional, not forgotten
        """Releases a loaded program. Default: nothing to release before `close`."""

    def memory_stats(self, memory: str) -> MemoryStats | None:
        """Returns the use of one memory. Default: None, and the SDK counts itself."""
        return None

    def bind(self, loaded: Loaded, inputs: Sequence[View], outputs: Sequence[View]) -> Bound:
        """Fixes arguments for repeated runs; the SDK keeps their storage alive meanwhile."""
        return Bound(loaded, tuple(inputs), tuple(outputs))

    def execute_bound(self, bound: Bound) -> Sequence[Shape] | None:
        """Runs a bound program once; as `execute`."""
        return self.execute(bound.loaded, bound.inputs, bound.outputs)


def _slice(view: View, start: int, nbytes: int) -> View:
    return View(view.handle, view.offset + start, nbytes, None, nbytes)
