"""A program that stays on a device with its buffers: write, execute and read as one batch."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.backend.optional import Engine, Execute, Read, Write
from accelsdk.graph.types import TensorType
from accelsdk.numerics.codec import from_bytes, pack
from accelsdk.runtime.binding import IoBinding
from accelsdk.runtime.buffer import Buffer
from accelsdk.runtime.executable import BLOCKING, LoadedExecutable, Result
from accelsdk.runtime.transfer import Submission, read, span_of, write
from accelsdk.runtime.work import Work

#: Host memory that one output is read into: its array, unless of sub-byte elements, and bytes.
_Fresh = tuple[NDArray[Any] | None, memoryview]


class Resident:
    """A loaded program with buffers of its own. One run at a time.

    A run is one piece of work: inputs written, program executed, outputs read. On native
    queues that is one submission; on a synchronous driver one pass on the caller's thread.

    Args:
        loaded: The program; given up with `delete`.
    """

    __slots__ = ("__weakref__", "_binding", "_inputs", "_outputs", "_running", "device", "loaded")

    def __init__(self, loaded: LoadedExecutable) -> None:
        self.loaded = loaded
        self.device = loaded.device
        self._binding: IoBinding | None = None
        self._inputs: tuple[_Place, ...] = ()
        self._outputs: tuple[_Place, ...] = ()
        self._running = threading.Lock()
        self.device.pool.add_cache(self)

    @property
    def usable(self) -> bool:
        """Whether the program is still on the device."""
        return self.loaded.alive

    def trim(self) -> None:
        """Gives the buffers back unless they are in use; the next run allocates them again."""
        if self._running.acquire(blocking=False):
            try:
                self._drop()
            finally:
                self._running.release()

    def delete(self) -> None:
        """Gives buffers and program back."""
        with self._running:
            self._drop()
        self.loaded.delete()

    def _drop(self) -> None:
        binding, self._binding = self._binding, None
        if binding is not None:
            for buffer in (*binding.arguments(), *binding.outputs):
                buffer.delete()

    def _bind(self) -> IoBinding:
        binding = self.loaded.bind()
        for spec in self.loaded.inputs:
            binding.bind_input(spec.name, self.device.empty(spec.type))
        self._inputs = tuple(map(_Place, binding.arguments()))
        self._outputs = tuple(map(_Place, binding.outputs))
        self._binding = binding
        return binding

    def run(self, arrays: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Runs once.

        Args:
            arrays: One an input, of its format and shape.

        Returns:
            New arrays, one an output.
        """
        with self._running:
            binding = self._binding or self._bind()
            if binding.armed:
                return self._run_here(binding, arrays)
            sources = [place.bytes_of(a) for place, a in zip(self._inputs, arrays, strict=True)]
            results = [place.fresh() for place in self._outputs]
            self._submit(binding, sources, [target for _, target in results])
            binding.arm()
            return self._taken(results)

    def _run_here(self, binding: IoBinding, arrays: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Runs on this thread with nothing in the way: a synchronous driver, calls in a row.

        A small model is through in tens of microseconds: nothing is looked up here that stays.
        """
        driver = self.device.driver
        results = []
        try:
            with self.device.gate.lock:
                for place, array in zip(self._inputs, arrays, strict=True):
                    if place.view.nbytes:
                        driver.write(place.view, place.bytes_of(array))
                binding.run()
                for place in self._outputs:
                    result = place.fresh()
                    if place.view.nbytes:
                        driver.read(place.view, result[1])
                    results.append(result)
        except Exception as error:
            ours = self.device.note_error(error, self.loaded.label)
            if ours is error:
                raise
            raise ours from error
        return self._taken(results)

    def _taken(self, results: Sequence[_Fresh]) -> list[NDArray[Any]]:
        """Returns what was read, in the shapes that it came out with."""
        return [
            whole
            if whole is not None and place.buffer.valid_shape == place.shape
            else place.cut(raw)
            for place, (whole, raw) in zip(self._outputs, results, strict=True)
        ]

    def _submit(
        self, binding: IoBinding, sources: Sequence[memoryview], targets: Sequence[memoryview]
    ) -> None:
        """Submits one batch, and waits for it."""
        residence = self.loaded.residence
        if residence is None:
            self._submit_each(binding, sources, targets)
            return
        inputs, outputs = binding.arguments(), binding.outputs
        views, places = ([place.view for place in side] for side in (self._inputs, self._outputs))
        execute = Execute(
            residence.loaded,
            tuple(buffer.view_for_driver() for buffer in inputs),
            tuple(buffer.view_for_driver() for buffer in outputs),
        )
        work = Work(
            self.device,
            self.loaded.label,
            commands=(
                *(Write(v, s) for v, s in zip(views, sources, strict=True) if s.nbytes),
                execute,
                *(Read(v, t) for v, t in zip(places, targets, strict=True) if t.nbytes),
            ),
            engine=Engine.COMPUTE,
            retain=[buffer.storage for buffer in (*inputs, *outputs)],
        )
        result = Result(outputs, work.event)
        work.finished_hook = result.take
        lane = self.device.default_stream
        work.submit(lane, wait=lane.gates(), inline=True).wait()

    def _submit_each(
        self, binding: IoBinding, sources: Sequence[memoryview], targets: Sequence[memoryview]
    ) -> None:
        """Submits inputs, execution and outputs, and waits for them: what runs in parts."""
        lane = self.device.default_stream
        how = Submission(lane, lane.gates(), inline=True)
        inputs, outputs = binding.arguments(), binding.outputs
        for buffer, source in zip(inputs, sources, strict=True):
            if source.nbytes:
                write(span_of(buffer), source, how)
        result = self.loaded.execute(inputs, outputs, BLOCKING)
        copies = [
            read(span_of(buffer), target, how)
            for buffer, target in zip(outputs, targets, strict=True)
            if target.nbytes
        ]
        for event in (result.complete, *copies):
            event.wait()


class _Place:
    """The buffer of one argument, and all that a run asks of it."""

    __slots__ = ("buffer", "format", "shape", "view")

    def __init__(self, buffer: Buffer) -> None:
        self.buffer = buffer
        self.format, self.shape = buffer.format, buffer.shape
        self.view = span_of(buffer).view()

    def bytes_of(self, array: NDArray[Any]) -> memoryview:
        """Returns the device bytes of an array of this format."""
        return pack(array, self.format).data

    def fresh(self) -> _Fresh:
        """Returns host memory for the contents: as an array where one can be, and as bytes."""
        if self.format.bits < 8:
            return None, memoryview(bytearray(self.view.nbytes))
        whole = np.empty(self.shape, self.format.dtype)
        return whole, whole.reshape(-1).view(np.uint8).data

    def cut(self, raw: memoryview) -> NDArray[Any]:
        """Returns the part of the contents that the last run has defined."""
        shape = self.buffer.valid_shape
        return from_bytes(raw[: TensorType(self.format, shape).nbytes], self.format, shape)
