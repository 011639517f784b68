"""Compiled programs, and programs loaded on a device: what callers see of them.

What is compiled is one program, or a plan of several on several devices
(`accelsdk.runtime.program`, `accelsdk.runtime.plan`); callers need not care which.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from accelsdk.backend.backend import Compatibility
from accelsdk.backend.driver import Loaded
from accelsdk.backend.info import Capability, Target
from accelsdk.backend.optional import Completion, Profile
from accelsdk.backend.program import ProgramHeader, TensorSpec
from accelsdk.backend.program_plan import Crossing
from accelsdk.errors import FailedPrecondition, InvalidArgument
from accelsdk.graph.types import Shape, TensorType
from accelsdk.runtime.buffer import Buffer
from accelsdk.runtime.cancel import CancelToken
from accelsdk.runtime.device import Device
from accelsdk.runtime.reported import note_shapes
from accelsdk.runtime.stream import Stream
from accelsdk.runtime.sync import Event, Timepoint

if TYPE_CHECKING:
    from accelsdk.runtime.binding import IoBinding
    from accelsdk.runtime.client import Client
    from accelsdk.runtime.program import CompiledProgram, Residence
    from accelsdk.runtime.resident import Resident

#: Programs of other input shapes that one executable keeps.
FAMILY = 8

#: Compiles the same model for other input shapes.
Specialise = Callable[[Mapping[str, Shape]], "Executable"]


class Executable(ABC):
    """A compiled model; no card is needed to make, keep or save it. Thread-safe.

    It stands for a bounded family: `specialise` gives the program of the same model for other
    input shapes, where the model is at hand.

    Attributes:
        header: What can be known without loading; of a plan, what it is as a whole.
        respecialise: Compiles the model for other input shapes, if it is at hand.
    """

    def __init__(self, header: ProgramHeader, respecialise: Specialise | None = None) -> None:
        self.header = header
        self.respecialise = respecialise
        self._family: dict[tuple[tuple[str, Shape], ...], Executable] = {}

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Inputs, in the order of execution arguments."""
        return self.header.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Outputs, in the order of results."""
        return self.header.outputs

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the graph that was compiled, constants included."""
        return self.header.graph_digest

    @property
    @abstractmethod
    def parts(self) -> tuple[CompiledProgram, ...]:
        """The programs that it consists of, in the order in which they run: mostly one."""

    @property
    def crossings(self) -> tuple[Crossing, ...]:
        """What is copied from one place to another between the programs."""
        return ()

    @abstractmethod
    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a program file that any process can load.

        Raises:
            NotFound: The folder does not exist.
            InvalidArgument: The file cannot be written.
        """

    @abstractmethod
    def judge(self, client: Client, target: Target) -> Compatibility:
        """Says how well it fits a client and one of its targets; the worst of its parts."""

    @abstractmethod
    def load_on(
        self, client: Client, device: Device, share: LoadedExecutable | None
    ) -> LoadedExecutable:
        """Loads it on a device of a client; see `Client.load`."""

    def specialise(self, shapes: Mapping[str, Shape]) -> Executable:
        """Returns the program for these input shapes, compiled now or kept from before.

        Raises:
            FailedPrecondition: The program came from a file, which holds one member only.
        """
        own = {spec.name: spec.type.shape for spec in self.inputs}
        if all(own.get(name) == tuple(shape) for name, shape in shapes.items()):
            return self
        if self.respecialise is None:
            listed = ", ".join(f"{spec.name}: {spec.type}" for spec in self.inputs)
            raise FailedPrecondition(
                f"this program was compiled for {listed}",
                remedy="compile the model for the shapes that you need",
            )
        key = tuple(sorted((name, tuple(shape)) for name, shape in shapes.items()))
        member = self._family.pop(key, None) or self.respecialise(dict(key))
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


class LoadedExecutable(ABC):
    """A compiled model on a device, ready to run. Thread-safe.

    The caller owns it: `delete` gives it up; work in flight keeps it until it completes.

    Attributes:
        executable: What was loaded.
        device: Where it takes its inputs and gives its outputs.
        label: For messages.
    """

    def __init__(self, executable: Executable, device: Device, label: str) -> None:
        self.executable = executable
        self.device = device
        self.inputs = executable.inputs
        self.outputs = executable.outputs
        self.label = label

    def __repr__(self) -> str:
        return f"<{type(self).__name__} on {self.device.id}>"

    @property
    def devices(self) -> tuple[Device, ...]:
        """Every device that it runs on, `device` first."""
        return (self.device,)

    @property
    @abstractmethod
    def alive(self) -> bool:
        """Whether it can run: not deleted, and no reset of a device since."""

    @property
    def residence(self) -> Residence | None:
        """What keeps the program on the device; None if there is more than one to keep."""
        return None

    @abstractmethod
    def check(self) -> None:
        """Raises `FailedPrecondition` if it was deleted, or a device was reset since."""

    @abstractmethod
    def delete(self) -> None:
        """Gives it up; work in flight keeps it until it completes."""

    @abstractmethod
    def is_deleted(self) -> bool:
        """Returns whether `delete` was called."""

    @abstractmethod
    def constants_for(self, part: str, device: Device) -> Loaded | None:
        """Returns a driver's program on ``device`` whose equal constants may be used again.

        Args:
            part: Name of the part that is to be loaded.
            device: Where.
        """

    @abstractmethod
    def submit(
        self, arguments: tuple[Buffer, ...], outputs: tuple[Buffer, ...], options: ExecuteOptions
    ) -> Result:
        """Submits one run with checked buffers."""

    def __enter__(self) -> LoadedExecutable:
        return self

    def __exit__(self, *exception: object) -> None:
        self.delete()

    def bind(self) -> IoBinding:
        """Returns a binding, which runs the program again and again on the same buffers."""
        from accelsdk.runtime.binding import IoBinding

        return IoBinding(self)

    def resident(self) -> Resident:
        """Returns it with buffers of its own, to run with arrays."""
        from accelsdk.runtime.resident import Resident

        return Resident(self)

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
        self.check()
        device = self.device
        check_buffers("input", self.inputs, arguments, device)
        if options.profile:
            self.check_profile()
        if options.cancel is not None:
            options.cancel.check()
        donated = [i for i in range(len(arguments)) if options.donates(i)]
        targets = self._output_buffers(arguments, outputs, donated)
        result = self.submit(tuple(arguments), targets, options)
        for index in donated:
            arguments[index].donate()
        if options.block:
            result.wait(options.timeout)
        return result

    def check_profile(self) -> None:
        """Raises `Unimplemented` if a run cannot say when its nodes ran."""
        if Capability.QUEUES not in self.device.capabilities:
            self.device.require(Capability.PROFILING)

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
        if not _may_overlap(arguments, outputs):
            return  # the usual case, in one pass
        allowed = {(o, i) for o, i in self.executable.header.aliases if i in donated}
        for o, output in enumerate(outputs):
            others = [(f"input {self.inputs[i].name!r}", a) for i, a in enumerate(arguments)
                      if (o, i) not in allowed]  # fmt: skip
            others += [(f"output {self.outputs[p].name!r}", b) for p, b in enumerate(outputs[:o])]
            for name, other in others:
                twice = output is other and name == f"output {self.outputs[o].name!r}"
                if overlap(output, other) and not twice:
                    raise InvalidArgument(
                        f"output {self.outputs[o].name!r} shares memory with {name}",
                        device=self.device.id,
                        remedy="give it memory of its own, or donate an input that may alias it",
                    )


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


def _may_overlap(arguments: Sequence[Buffer], outputs: Sequence[Buffer]) -> bool:
    """Says whether an output may share bytes with another buffer: false means that none does."""
    spans = [(id(b.storage), b.offset, b.offset + b.nbytes, False) for b in arguments]
    spans += [(id(b.storage), b.offset, b.offset + b.nbytes, True) for b in outputs]
    spans.sort()
    storage = end = end_of_outputs = -1
    for where, begin, stop, written in spans:
        if where != storage:
            storage, end, end_of_outputs = where, -1, -1
        if begin < (end if written else end_of_outputs):
            return True
        end = max(end, stop)
        if written:
            end_of_outputs = max(end_of_outputs, stop)
    return False


def overlap(a: Buffer, b: Buffer) -> bool:
    """Says whether two buffers share bytes."""
    return (
        a.storage is b.storage and a.offset < b.offset + b.nbytes and b.offset < a.offset + a.nbytes
    )
