"""Bindings: a program on fixed buffers, run again and again. The fast path.

A blocking run on a synchronous driver, with nothing in its way, is one comparison, one lock
and one driver call. What may come in its way (work in flight, a poisoned or deleted buffer,
a failed device) raises `Device.epoch`, and then the next run looks at everything again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.backend.driver import Bound
from accelsdk.backend.program import TensorSpec
from accelsdk.errors import InvalidArgument, NotFound
from accelsdk.formats import from_dtype
from accelsdk.runtime.buffer import Buffer
from accelsdk.runtime.executable import BLOCKING, ExecuteOptions, Result, check_buffers
from accelsdk.runtime.memory import Storage
from accelsdk.runtime.progress import LOCK
from accelsdk.runtime.reported import note_shapes
from accelsdk.runtime.sync import completed
from accelsdk.runtime.work import Work

if TYPE_CHECKING:
    from accelsdk.runtime.executable import LoadedExecutable

_NEVER = -1


class IoBinding:
    """A loaded program with its arguments fixed. One thread at a time.

    Inputs are bound by name to buffers, or to arrays, which are copied to the device at once.
    Outputs that nobody binds are allocated by the binding and written again by every run.
    """

    def __init__(self, loaded: LoadedExecutable) -> None:
        self._loaded = loaded
        self._device = loaded.device
        self._inputs: dict[str, Buffer] = {}
        self._outputs: dict[str, Buffer] = {}
        self._own: set[str] = set()
        self._epoch = _NEVER
        self._bound: Bound | None = None
        self._held: list[Storage] = []
        self._residence: object = None
        self._result: Result | None = None
        self._lock: Any = None
        self._execute: Any = None

    def __repr__(self) -> str:
        return f"<IoBinding of {self._loaded!r}>"

    # -- binding ---------------------------------------------------------------------------

    def bind_input(self, name: str, value: Buffer | NDArray[Any]) -> None:
        """Binds one input.

        Args:
            name: Of the input.
            value: A buffer on the program's device, or an array to copy there now. A
                further array goes into the memory of the one before.

        Raises:
            NotFound: There is no such input.
            InvalidArgument: Format, shape or device is wrong.
        """
        spec = _spec("input", self._loaded.inputs, name)
        if not isinstance(value, Buffer):
            value = self._upload(spec, np.asarray(value))
        else:
            self._own.discard(name)
        check_buffers("input", (spec,), (value,), self._device)
        if self._inputs.get(name) is not value:
            self._inputs[name] = value
            self._unbind()

    def _upload(self, spec: TensorSpec, array: NDArray[Any]) -> Buffer:
        if array.dtype != spec.type.format.dtype or array.shape != spec.type.shape:
            raise InvalidArgument(
                f"input {spec.name!r} wants {spec.type}, got {_describe(array)}",
                remedy="convert the array",
            )
        if spec.name not in self._own:
            memory = spec.memory if spec.memory in self._device.memories else None
            self._inputs[spec.name] = self._device.empty(spec.type, memory=memory)
            self._own.add(spec.name)
            self._unbind()
        buffer = self._inputs[spec.name]
        buffer.copy_from_host(array)
        return buffer

    def bind_output(self, name: str, buffer: Buffer | None = None) -> None:
        """Binds one output to a buffer; None has the binding allocate it.

        Raises:
            NotFound: There is no such output.
            InvalidArgument: Format, shape or device is wrong.
        """
        spec = _spec("output", self._loaded.outputs, name)
        if buffer is not None:
            check_buffers("output", (spec,), (buffer,), self._device)
            self._outputs[name] = buffer
        else:
            self._outputs.pop(name, None)
        self._unbind()

    @property
    def inputs(self) -> dict[str, Buffer]:
        """The bound inputs, by name."""
        return dict(self._inputs)

    @property
    def outputs(self) -> tuple[Buffer, ...]:
        """The output buffers in program order, allocated if need be."""
        for spec in self._loaded.outputs:
            if spec.name not in self._outputs:
                memory = spec.memory if spec.memory in self._device.memories else None
                self._outputs[spec.name] = self._device.empty(spec.type, memory=memory)
        return tuple(self._outputs[spec.name] for spec in self._loaded.outputs)

    def arguments(self) -> tuple[Buffer, ...]:
        """Returns the bound inputs in program order.

        Raises:
            InvalidArgument: One is not bound; the message names all that are missing.
        """
        missing = [spec.name for spec in self._loaded.inputs if spec.name not in self._inputs]
        if missing:
            raise InvalidArgument(
                "not bound: " + ", ".join(f"input {name!r}" for name in missing),
                remedy="call bind_input() for each",
            )
        return tuple(self._inputs[spec.name] for spec in self._loaded.inputs)

    # -- running ---------------------------------------------------------------------------

    def run(self, options: ExecuteOptions | None = None) -> Result:
        """Runs the program once; blocks, unless options say otherwise.

        Args:
            options: How; None blocks, in the order of the device's default stream.

        Returns:
            The outputs. Without options it is the same object for every run.

        Raises:
            AccelError: As `LoadedExecutable.execute`; and the run's own error if it blocks.
        """
        if options is None and self._epoch == self._device.epoch:
            try:
                with self._lock:
                    shapes = self._execute(self._bound)
                if shapes is not None:
                    note_shapes(self._result.outputs, shapes)  # type: ignore[union-attr] # set whenever the epoch is
            except Exception as error:
                raise self._failed(error) from error.__cause__
            return self._result  # type: ignore[return-value] # set whenever the epoch is
        return self._run(options or BLOCKING, remember=options is None)

    def _run(self, options: ExecuteOptions, *, remember: bool) -> Result:
        """Runs with every check; afterwards the next run may be a fast one."""
        result = self._loaded.execute(self.arguments(), self.outputs, options)
        if remember:
            self.arm()
        return result

    @property
    def armed(self) -> bool:
        """Whether nothing can be in the way of a run: the next one takes the fast path."""
        return self._epoch == self._device.epoch

    def arm(self) -> None:
        """Arms the fast path, if nothing can be in its way as long as the epoch stays."""
        device = self._device
        gate = device.gate
        residence = self._loaded.residence
        if residence is None or device.launcher.native or gate.thread or device.observers:
            return
        inputs, outputs = self.arguments(), self.outputs
        step = device.target.view_alignment
        views = [buffer.view_for_driver() for buffer in (*inputs, *outputs)]
        if any(view.offset % step for view in views):
            return
        if self._bound is None:
            self._residence = residence  # stays loaded as long as it is bound
            sides = views[: len(inputs)], views[len(inputs) :]
            self._bound = device.call("bind", device.driver.bind, residence.loaded, *sides)
            self._hold([buffer.storage for buffer in (*inputs, *outputs)])
            self._result = Result(outputs, completed(label="run"))
        self._execute = device.driver.execute_bound
        self._lock = gate.lock
        with LOCK:
            clean = not device.live and not any(
                buffer.storage.writers_of(buffer.offset, buffer.offset + buffer.nbytes)
                for buffer in (*inputs, *outputs)
            )
            if clean and device.usable:
                self._epoch = device.epoch

    def _failed(self, error: Exception) -> Exception:
        """Gives a failure of the fast path the effect of any failed work."""
        storages = [(b.storage, b.offset, b.offset + max(b.nbytes, 1)) for b in self.outputs]
        work = Work(self._device, self._loaded.label, writes=storages)

        def fail() -> None:
            raise error

        work.body = fail
        work.submit(self._device.default_stream, inline=True)
        return work.event.failure or error

    # -- lifetime --------------------------------------------------------------------------

    def _hold(self, storages: list[Storage]) -> None:
        """Keeps the bound memory alive: the driver may have kept addresses."""
        with LOCK:
            for storage in storages:
                storage.references += 1
        self._held = storages

    def _unbind(self) -> None:
        self._epoch = _NEVER
        self._bound = self._residence = None
        held, self._held = self._held, []
        for storage in held:
            storage.device.pool.dropped.append(storage)

    def __del__(self) -> None:
        if getattr(self, "_held", None):
            self._unbind()


def _spec(what: str, specs: tuple[TensorSpec, ...], name: str) -> TensorSpec:
    for spec in specs:
        if spec.name == name:
            return spec
    listed = ", ".join(f"{spec.name}: {spec.type}" for spec in specs) or "none"
    raise NotFound(f"the program has no {what} {name!r}", remedy=f"{what}s: {listed}")


def _describe(array: NDArray[Any]) -> str:
    try:
        name = from_dtype(array.dtype).name
    except InvalidArgument:
        name = str(array.dtype)
    return f"{name}[{','.join(map(str, array.shape))}]"
