"""A program that stays on a device with its buffers: write, execute and read as one batch."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.backend.driver import View
from accelsdk.backend.optional import Engine, Execute, Read, Write
from accelsdk.graph.types import TensorType
from accelsdk.numerics.codec import from_bytes, to_bytes
from accelsdk.runtime.binding import IoBinding
from accelsdk.runtime.buffer import Buffer
from accelsdk.runtime.executable import BLOCKING, LoadedExecutable, Result
from accelsdk.runtime.transfer import Submission, read, span_of, write
from accelsdk.runtime.work import Work


class Resident:
    """A loaded program with buffers of its own. One run at a time.

    A run is one piece of work: inputs written, program executed, outputs read. On native
    queues that is one submission; on a synchronous driver one pass on the caller's thread.

    Args:
        loaded: The program; given up with `delete`.
    """

    __slots__ = ("__weakref__", "_binding", "_running", "_views", "device", "loaded")

    def __init__(self, loaded: LoadedExecutable) -> None:
        self.loaded = loaded
        self.device = loaded.device
        self._binding: IoBinding | None = None
        self._views: tuple[list[View], list[View]] = ([], [])
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
        sides = (binding.arguments(), binding.outputs)
        self._views = tuple([span_of(b).view() for b in side] for side in sides)  # type: ignore[assignment] # a pair
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
            inputs, outputs = binding.arguments(), binding.outputs
            sources = [
                to_bytes(array, buffer.format) for array, buffer in zip(arrays, inputs, strict=True)
            ]
            results = [_Result(buffer) for buffer in outputs]
            targets = [result.raw for result in results]
            if binding.armed:
                self._run_here(binding, sources, targets)
            else:
                self._submit(binding, sources, targets)
                binding.arm()
            return [
                result.array(buffer.valid_shape)
                for result, buffer in zip(results, outputs, strict=True)
            ]

    def _run_here(
        self, binding: IoBinding, sources: Sequence[memoryview], targets: Sequence[memoryview]
    ) -> None:
        """Runs on this thread with nothing in the way: a synchronous driver, calls in a row."""
        driver = self.device.driver
        inputs, outputs = self._views
        try:
            with self.device.gate.lock:
                for view, source in zip(inputs, sources, strict=True):
                    if source.nbytes:
                        driver.write(view, source)
                binding.run()
                for view, target in zip(outputs, targets, strict=True):
                    if target.nbytes:
                        driver.read(view, target)
        except Exception as error:
            ours = self.device.note_error(error, self.loaded.label)
            if ours is error:
                raise
            raise ours from error

    def _submit(
        self, binding: IoBinding, sources: Sequence[memoryview], targets: Sequence[memoryview]
    ) -> None:
        """Submits one batch, and waits for it."""
        residence = self.loaded.residence
        if residence is None:
            self._submit_each(binding, sources, targets)
            return
        inputs, outputs = binding.arguments(), binding.outputs
        views, places = self._views
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


class _Result:
    """Host memory that one output is read into."""

    __slots__ = ("_buffer", "_whole", "raw")

    def __init__(self, buffer: Buffer) -> None:
        self._buffer = buffer
        self._whole: NDArray[Any] | None = None
        if buffer.format.bits >= 8:
            self._whole = np.empty(buffer.shape, buffer.format.dtype)
            self.raw = self._whole.reshape(-1).view(np.uint8).data
        else:
            self.raw = memoryview(bytearray(buffer.nbytes))

    def array(self, shape: tuple[int, ...]) -> NDArray[Any]:
        """Returns the contents, which have this shape."""
        if self._whole is not None and shape == self._buffer.shape:
            return self._whole
        nbytes = TensorType(self._buffer.format, shape).nbytes
        return from_bytes(self.raw[:nbytes], self._buffer.format, shape)
