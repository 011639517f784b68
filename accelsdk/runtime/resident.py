"""A program that stays on a device with its buffers: write, execute and read as one batch."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.backend.optional import Completion, Engine, Execute, Read, Write
from accelsdk.numerics.codec import from_bytes, to_bytes
from accelsdk.runtime.buffer import Buffer
from accelsdk.runtime.executable import LoadedExecutable
from accelsdk.runtime.transfer import span_of
from accelsdk.runtime.work import Work


class Resident:
    """A loaded program with buffers of its own. One run at a time.

    A run is one piece of work: inputs written, program executed, outputs read. On native
    queues that is one submission; on a synchronous driver one pass on the caller's thread.

    Args:
        loaded: The program; given up with `delete`.
    """

    __slots__ = ("__weakref__", "_buffers", "_running", "device", "loaded")

    def __init__(self, loaded: LoadedExecutable) -> None:
        self.loaded = loaded
        self.device = loaded.device
        self._buffers: tuple[list[Buffer], list[Buffer]] | None = None
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
        buffers, self._buffers = self._buffers, None
        for buffer in (*buffers[0], *buffers[1]) if buffers else ():
            buffer.delete()

    def run(self, arrays: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Runs once.

        Args:
            arrays: One an input, of its format and shape.

        Returns:
            New arrays, one an output.
        """
        with self._running:
            if self._buffers is None:
                self._buffers = (
                    [self.device.empty(spec.type) for spec in self.loaded.inputs],
                    [self.device.empty(spec.type) for spec in self.loaded.outputs],
                )
            inputs, outputs = self._buffers
            sources = [
                to_bytes(array, buffer.format) for array, buffer in zip(arrays, inputs, strict=True)
            ]
            results = [_Result(buffer) for buffer in outputs]
            shapes = self._submit(inputs, outputs, sources, results)
        return [
            result.array(None if shapes is None else tuple(shapes[index]))
            for index, result in enumerate(results)
        ]

    def _submit(
        self,
        inputs: Sequence[Buffer],
        outputs: Sequence[Buffer],
        sources: Sequence[memoryview],
        results: Sequence[_Result],
    ) -> Sequence[tuple[int, ...]] | None:
        residence = self.loaded.residence
        execute = Execute(
            residence.loaded,
            tuple(buffer.view_for_driver() for buffer in inputs),
            tuple(buffer.view_for_driver() for buffer in outputs),
        )
        writes = [
            Write(span_of(buffer).view(), source)
            for buffer, source in zip(inputs, sources, strict=True)
            if source.nbytes
        ]
        reads = [
            Read(span_of(buffer).view(), result.raw)
            for buffer, result in zip(outputs, results, strict=True)
            if buffer.nbytes
        ]
        work = Work(
            self.device,
            self.loaded.label,
            commands=(*writes, execute, *reads),
            engine=Engine.COMPUTE,
            retain=[buffer.storage for buffer in (*inputs, *outputs)],
        )
        reported: list[Completion] = []
        work.finished_hook = reported.append
        lane = self.device.default_stream
        work.submit(lane, wait=lane.gates(), inline=True).wait()
        return reported[0].shapes if reported else None


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

    def array(self, shape: tuple[int, ...] | None) -> NDArray[Any]:
        """Returns the contents, of the real shape if the program reported one."""
        if self._whole is not None and shape in (None, self._buffer.shape):
            return self._whole
        valid = self._buffer.shape if shape is None else shape
        nbytes = self._buffer.format.nbytes(int(np.prod(valid, dtype=np.int64)))
        return from_bytes(self.raw[:nbytes], self._buffer.format, valid)
