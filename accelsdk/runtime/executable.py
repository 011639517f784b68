"""Compiled programs, and programs loaded on a device."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

from accelsdk.backend import program_file
from accelsdk.backend.driver import Loaded
from accelsdk.backend.info import Capability
from accelsdk.backend.optional import Completion, Engine, Execute, Profile
from accelsdk.backend.program import PackedConstant, Program, ProgramHeader, TensorSpec
from accelsdk.errors import FailedPrecondition, InvalidArgument
from accelsdk.graph.types import Shape, TensorType
from accelsdk.runtime import staging
from accelsdk.runtime.buffer import Buffer
from accelsdk.runtime.cancel import CancelToken
from accelsdk.runtime.device import Device
from accelsdk.runtime.progress import LOCK
from accelsdk.runtime.reported import note_shapes
from accelsdk.runtime.stream import Stream
from accelsdk.runtime.sync import Event, Timepoint
from accelsdk.runtime.work import Range, Work

if TYPE_CHECKING:
    from accelsdk.runtime.binding import IoBinding

#: Programs of other input shapes that one executable keeps.
FAMILY = 8


class ConstantStore(Protocol):
    """Where the contents of a program's constants are: a spool, or a program file."""

    def constants(self, program: Program) -> Iterator[PackedConstant]:
        """Yields them in manifest order."""


#: Compiles the same model for other input shapes.
Specialise = Callable[[Mapping[str, Shape]], "Executable"]


class Executable:
    """A compiled program; no card is needed to make, keep or save it. Thread-safe.

    It stands for a bounded family: `specialise` gives the program of the same model for other
    input shapes, where the model is at hand.

    Attributes:
        program: Header, code and manifest of constants.
        store: The constants' contents.
    """

    def __init__(
        self, program: Program, store: ConstantStore, respecialise: Specialise | None = None
    ) -> None:
        self.program = program
        self.store = store
        self._respecialise = respecialise
        self._family: dict[tuple[tuple[str, Shape], ...], Executable] = {}

    def __repr__(self) -> str:
        header = self.header
        return f"<Executable for {header.backend}/{header.target}, {len(self.program.code)} bytes>"

    @property
    def header(self) -> ProgramHeader:
        """What can be known without loading."""
        return self.program.header

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Inputs, in the order of execution arguments."""
        return self.program.header.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Outputs, in the order of results."""
        return self.program.header.outputs

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the graph that was compiled, constants included."""
        return self.program.header.graph_digest

    def constants(self) -> Iterator[PackedConstant]:
        """Yields the constants in manifest order."""
        return self.store.constants(self.program)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a program file that any process can load.

        Raises:
            NotFound: The folder does not exist.
            InvalidArgument: The file cannot be written.
        """
        program_file.save(path, self.program, self.constants())

    def specialise(self, shapes: Mapping[str, Shape]) -> Executable:
        """Returns the program for these input shapes, compiled now or kept from before.

        Raises:
            FailedPrecondition: The program came from a file, which holds one member only.
        """
        own = {spec.name: spec.type.shape for spec in self.inputs}
        if all(own.get(name) == tuple(shape) for name, shape in shapes.items()):
            return self
        if self._respecialise is None:
            listed = ", ".join(f"{spec.name}: {spec.type}" for spec in self.inputs)
            raise FailedPrecondition(
                f"this program was compiled for {listed}",
                remedy="compile the model for the shapes that you need",
            )
        key = tuple(sorted((name, tuple(shape)) for name, shape in shapes.items()))
        member = self._family.pop(key, None) or self._respecialise(dict(key))
        self._family[key] = member
        while len(self._family) > FAMILY:
            del self._family[next(iter(self._family))]
        return member

    def output_types(self, input_types: Sequence[TensorType]) -> tuple[TensorType, ...]:
        """Returns the types of the outputs for these input types, without a card."""
        shapes = {s.name: t.shape for s, t in zip(self.inputs, input_types, strict=True)}
        return tuple(spec.type for spec in self.specialise(shapes).outputs)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecuteOptions:
    """How to run a program once.

    Attributes:
        stream: Whose order it keeps; None takes the device's default stream, which is
            ordered.
        wait: What must have succeeded before.
        signal: What completion signals, and failure fails.
        donate: Whether the inputs are consumed on acceptance, so that outputs may take
            their memory: all of them, or those of the given indices.
        non_donatable: Indices of inputs that are kept even so.
        timeout: Seconds that a blocking call waits; the work goes on after that.
        cancel: What may cancel it.
        profile: Whether `Result.profile` is wanted.
        block: Whether to return only when it is done, raising its error.
    """

    stream: Stream | None = None
    wait: Sequence[Timepoint | Event] = ()
    signal: Sequence[Timepoint] = ()
    donate: bool | Collection[int] = False
    non_donatable: Collection[int] = ()
    timeout: float | None = None
    cancel: CancelToken | None = None
    profile: bool = False
    block: bool = False

    def on(self, stream: Stream) -> ExecuteOptions:
        """Returns the same options for another stream."""
        return replace(self, stream=stream)

    def donates(self, index: int) -> bool:
        """Says whether the input at ``index`` is consumed."""
        given = self.donate if isinstance(self.donate, bool) else index in self.donate
        return given and index not in self.non_donatable


DEFAULT = ExecuteOptions()
BLOCKING = ExecuteOptions(block=True)


class Result:
    """What one execution gives back, before or after it is complete.

    Attributes:
        outputs: In header order; reading one waits for the execution.
        complete: Completion of the execution.
        profile: When each node ran, once complete, if asked for.
    """

    __slots__ = ("complete", "outputs", "profile")

    def __init__(self, outputs: tuple[Buffer, ...], complete: Event) -> None:
        self.outputs = outputs
        self.complete = complete
        self.profile: Profile = ()

    def wait(self, timeout: float | None = None) -> Result:
        """Blocks until complete, raising the execution's error; returns itself."""
        self.complete.wait(timeout)
        return self

    def take(self, completion: Completion) -> None:
        """Notes what the driver reported: times of the nodes, real shapes of the outputs."""
        self.profile = completion.profile
        if completion.shapes is not None:
            note_shapes(self.outputs, completion.shapes)


class LoadedExecutable:
    """A program on a device, ready to run. Thread-safe.

    The caller owns it: `delete` gives it up; work in flight keeps it until it completes.

    Attributes:
        executable: What was loaded.
        device: Where.
    """

    def __init__(self, executable: Executable, device: Device, loaded: Loaded) -> None:
        self.executable = executable
        self.device = device
        self.inputs = executable.inputs
        self.outputs = executable.outputs
        self._generation = device.generation
        self._loaded: _Residence | None = _Residence(device, loaded)
        self.label = f"program for {executable.header.target}"
        self._types = [spec.type for spec in self.inputs]

    def __repr__(self) -> str:
        return f"<LoadedExecutable on {self.device.id}>"

    @property
    def residence(self) -> _Residence:
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

    def delete(self) -> None:
        """Gives the program up; work in flight keeps it until it completes."""
        self._loaded = None
        with LOCK:
            self.device.epoch += 1

    def is_deleted(self) -> bool:
        """Returns whether `delete` was called."""
        return self._loaded is None

    def __enter__(self) -> LoadedExecutable:
        return self

    def __exit__(self, *exception: object) -> None:
        self.delete()

    def bind(self) -> IoBinding:
        """Returns a binding, which runs the program again and again on the same buffers."""
        from accelsdk.runtime.binding import IoBinding

        return IoBinding(self)

    def execute(
        self,
        arguments: Sequence[Buffer],
        outputs: Sequence[Buffer] | None = None,
        options: ExecuteOptions = DEFAULT,
    ) -> Result:
        """Runs the program once.

        A synchronous rejection raises, produces nothing and leaves donated inputs as they
        are. Accepted work that fails poisons its outputs.

        Args:
            arguments: One buffer an input, in order, on this device.
            outputs: Buffers to write to; None allocates them.
            options: How.

        Returns:
            The outputs, at once unless ``options.block``.

        Raises:
            InvalidArgument: Number, type, layout or device of the buffers is wrong.
            FailedPrecondition: A buffer or the program was deleted, or the device reset.
            Unimplemented: ``profile`` is asked of a target with neither ``profiling`` nor queues.
            DeviceFault: The device has failed and was not reset.
            DeadlineExceeded: ``timeout`` is over; the work goes on.
        """
        residence = self.residence
        device = self.device
        check_buffers("input", self.inputs, arguments, device)
        if options.profile and Capability.QUEUES not in device.capabilities:
            device.require(Capability.PROFILING)
        if options.cancel is not None:
            options.cancel.check()
        donated = [i for i in range(len(arguments)) if options.donates(i)]
        targets = self._output_buffers(arguments, outputs, donated)
        result = self.submit(residence, tuple(arguments), targets, options)
        for index in donated:
            arguments[index].donate()
        if options.block:
            result.wait(options.timeout)
        return result

    def _output_buffers(
        self, arguments: Sequence[Buffer], outputs: Sequence[Buffer] | None, donated: Sequence[int]
    ) -> tuple[Buffer, ...]:
        """Returns the caller's outputs, checked; or new ones, in donated memory if allowed."""
        if outputs is not None:
            check_buffers("output", self.outputs, outputs, self.device)
            self._check_overlap(arguments, outputs, donated)
            return tuple(outputs)
        alias = {o: i for o, i in self.executable.header.aliases if i in donated}
        made: list[Buffer] = []
        for index, spec in enumerate(self.outputs):
            source = arguments[alias[index]] if index in alias else None
            if source is not None:
                made.append(source.view(0, spec.type))
            else:
                made.append(self.device.empty(spec.type, memory=self._memory(spec)))
        return tuple(made)

    def _memory(self, spec: TensorSpec) -> str | None:
        return spec.memory if spec.memory in self.device.memories else None

    def _check_overlap(
        self, arguments: Sequence[Buffer], outputs: Sequence[Buffer], donated: Sequence[int]
    ) -> None:
        allowed = {(o, i) for o, i in self.executable.header.aliases if i in donated}
        for o, output in enumerate(outputs):
            others = [(f"input {self.inputs[i].name!r}", a) for i, a in enumerate(arguments)
                      if (o, i) not in allowed]  # fmt: skip
            others += [(f"output {self.outputs[p].name!r}", b) for p, b in enumerate(outputs[:o])]
            for name, other in others:
                if overlap(output, other):
                    raise InvalidArgument(
                        f"output {self.outputs[o].name!r} shares memory with {name}",
                        device=self.device.id,
                        remedy="give it memory of its own, or donate an input that may alias it",
                    )

    def submit(
        self,
        residence: _Residence,
        arguments: tuple[Buffer, ...],
        outputs: tuple[Buffer, ...],
        options: ExecuteOptions,
    ) -> Result:
        """Submits one run with checked buffers."""
        device = self.device
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
        )
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


def _take(result: Result, residence: _Residence, completion: Completion) -> None:
    result.take(completion)


class _Residence:
    """Keeps a program on its device: for its owner, for bindings, and for work in flight."""

    __slots__ = ("__weakref__", "device", "generation", "loaded")

    def __init__(self, device: Device, loaded: Loaded) -> None:
        self.device = device
        self.loaded = loaded
        self.generation = device.generation

    def __del__(self) -> None:
        # May run inside a garbage collection, so no lock: the device unloads it later.
        self.device.pool.unused.append((self.generation, self.loaded))


def check_buffers(
    what: str, specs: Sequence[TensorSpec], buffers: Sequence[Buffer], device: Device
) -> None:
    """Raises `InvalidArgument` unless the buffers fit the program, naming the first misfit."""
    if len(buffers) != len(specs):
        listed = ", ".join(f"{spec.name}: {spec.type}" for spec in specs)
        raise InvalidArgument(
            f"the program has {len(specs)} {what}s, {len(buffers)} given",
            device=device.id,
            remedy=f"{what}s: {listed}",
        )
    for spec, buffer in zip(specs, buffers, strict=True):
        if not isinstance(buffer, Buffer):
            raise InvalidArgument(
                f"{what} {spec.name!r} is a {type(buffer).__name__}, not a Buffer",
                remedy="copy it to the device with Device.put()",
            )
        if buffer.device is not device:
            raise InvalidArgument(
                f"{what} {spec.name!r} lies on device {buffer.device.id}",
                device=device.id,
                remedy="copy it with Buffer.to_device()",
            )
        if buffer.type != spec.type:
            raise InvalidArgument(
                f"{what} {spec.name!r} is {buffer.type}; the program takes {spec.type}",
                device=device.id,
            )


def overlap(a: Buffer, b: Buffer) -> bool:
    """Says whether two buffers share bytes."""
    return (
        a.storage is b.storage and a.offset < b.offset + b.nbytes and b.offset < a.offset + a.nbytes
    )


def range_of(buffer: Buffer) -> Range:
    """Returns the range of a buffer, as work notes it (one byte where it is empty)."""
    return (buffer.storage, buffer.offset, buffer.offset + max(buffer.nbytes, 1))
