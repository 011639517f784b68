"""One program: compiled by one backend, loaded on one device."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

from accelsdk.backend import program_file
from accelsdk.backend.backend import Compatibility
from accelsdk.backend.driver import Loaded
from accelsdk.backend.info import Target
from accelsdk.backend.observer import EventKind
from accelsdk.backend.optional import Completion, Engine, Execute
from accelsdk.backend.program import PackedConstant, Program
from accelsdk.errors import FailedPrecondition, OutOfMemory
from accelsdk.runtime import staging
from accelsdk.runtime.buffer import Buffer
from accelsdk.runtime.compatibility import admit, judge
from accelsdk.runtime.device import Device
from accelsdk.runtime.executable import (
    Executable,
    ExecuteOptions,
    LoadedExecutable,
    Result,
    Specialise,
)
from accelsdk.runtime.progress import LOCK
from accelsdk.runtime.sync import Event
from accelsdk.runtime.work import Edge, Work

if TYPE_CHECKING:
    from accelsdk.runtime.client import Client


class ConstantStore(Protocol):
    """Where the contents of a program's constants are: a spool, or a program file."""

    def constants(self, program: Program) -> Iterator[PackedConstant]:
        """Yields them in manifest order."""


class CompiledProgram(Executable):
    """A model that is one program.

    Attributes:
        program: Header, code and manifest of constants.
        store: The constants' contents.
        name: Of the part, where it is one of a plan.
    """

    def __init__(
        self,
        program: Program,
        store: ConstantStore,
        respecialise: Specialise | None = None,
        *,
        name: str = "",
    ) -> None:
        super().__init__(program.header, respecialise)
        self.program = program
        self.store = store
        self.name = name

    def __repr__(self) -> str:
        header = self.header
        return f"<Executable for {header.backend}/{header.target}, {len(self.program.code)} bytes>"

    @property
    def parts(self) -> tuple[CompiledProgram, ...]:
        """Itself."""
        return (self,)

    def constants(self) -> Iterator[PackedConstant]:
        """Yields the constants in manifest order."""
        return self.store.constants(self.program)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a program file that any process can load; see `Executable.save`."""
        program_file.save(path, self.program, self.constants())

    def judge(self, client: Client, target: Target) -> Compatibility:
        """Says how well it fits a client and one of its targets."""
        return judge(client.backend, self.header, target)

    def load_on(
        self, client: Client, device: Device, share: LoadedExecutable | None
    ) -> LoadedProgram:
        """Loads it on a device of a client; see `Client.load`."""
        admit(client.backend, self.header, device.target)
        return self.load(device, share)

    def load(self, device: Device, share: LoadedExecutable | None = None) -> LoadedProgram:
        """Loads it on a device that it fits; see `Client.load`."""
        other = None if share is None else share.constants_for(self.name, device)

        def load() -> Loaded:
            driver = device.driver
            return device.call("load", driver.load, self.program, self.constants(), other)

        device.pool.collect()
        try:
            loaded = load()
        except OutOfMemory:
            device.trim()
            loaded = load()
        if device.observers:
            nbytes = sum(spec.nbytes for spec in self.program.constants)
            device.observers.tell(EventKind.LOAD, nbytes, self.header.target)
        return LoadedProgram(self, device, loaded)


class LoadedProgram(LoadedExecutable):
    """A model that is one program, on its device."""

    def __init__(self, executable: CompiledProgram, device: Device, loaded: Loaded) -> None:
        super().__init__(executable, device, f"program for {executable.header.target}")
        self._part = executable.name
        self._generation = device.generation
        self._loaded: Residence | None = Residence(device, loaded)

    @property
    def residence(self) -> Residence:
        """What keeps the program on the device.

        Raises:
            FailedPrecondition: It was deleted, or its device was reset.
        """
        residence = self._loaded
        if residence is None:
            raise FailedPrecondition("the program was deleted", device=self.device.id)
        if self._generation != self.device.generation:
            raise FailedPrecondition(
                "the program did not survive the reset of its device",
                device=self.device.id,
                remedy="load it again",
            )
        return residence

    @property
    def alive(self) -> bool:
        """Whether the program is on its device: not deleted, and no reset since."""
        return self._loaded is not None and self._generation == self.device.generation

    def check(self) -> None:
        """Raises `FailedPrecondition` if it was deleted, or its device was reset."""
        _ = self.residence

    def delete(self) -> None:
        """Gives the program up; work in flight keeps it until it completes."""
        self._loaded = None
        with LOCK:
            self.device.epoch += 1

    def is_deleted(self) -> bool:
        """Returns whether `delete` was called."""
        return self._loaded is None

    def constants_for(self, part: str, device: Device) -> Loaded | None:
        """Returns the driver's program, if it is on that device."""
        return self.residence.loaded if device is self.device else None

    def submit(
        self,
        arguments: tuple[Buffer, ...],
        outputs: tuple[Buffer, ...],
        options: ExecuteOptions,
        edges: Sequence[tuple[Event, Edge]] = (),
    ) -> Result:
        """Submits one run with checked buffers.

        Args:
            arguments: One an input.
            outputs: One an output.
            options: How.
            edges: Further events to come after, and how.
        """
        residence, device = self.residence, self.device
        lane = options.stream or device.default_stream
        lane.check(device)
        plan = staging.plan(arguments, outputs, lane)
        command = Execute(residence.loaded, plan.inputs, plan.outputs, options.profile)
        work = Work(
            device,
            self.label,
            commands=(command,),
            engine=Engine.COMPUTE,
            reads=plan.reads,
            writes=plan.writes,
            part=self._part,
        )
        work.edges.extend(edges)
        result = Result(outputs, work.event)
        work.finished_hook = partial(_take, result, residence)
        work.submit(
            lane,
            wait=(*lane.gates(), *options.wait, *plan.wait),
            signal=() if plan.after else options.signal,
            cancel=options.cancel,
            inline=options.block and options.timeout is None,
        )
        if plan.after:
            result.complete = plan.finish(work.event, options.signal)
        return result


def _take(result: Result, residence: Residence, completion: Completion) -> None:
    result.take(completion)


class Residence:
    """Keeps a program on its device: for its owner, for bindings, and for work in flight."""

    __slots__ = ("__weakref__", "device", "generation", "loaded")

    def __init__(self, device: Device, loaded: Loaded) -> None:
        self.device = device
        self.loaded = loaded
        self.generation = device.generation

    def __del__(self) -> None:
        # May run inside a garbage collection, so no lock: the device unloads it later.
        self.device.pool.unused.append((self.generation, self.loaded))
