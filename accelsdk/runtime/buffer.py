"""Buffers: typed ranges of device memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.backend.driver import View
from accelsdk.backend.info import Capability
from accelsdk.backend.optional import SupportsMap
from accelsdk.errors import FailedPrecondition, InvalidArgument
from accelsdk.formats import Format
from accelsdk.graph.types import Shape, TensorType, type_of
from accelsdk.numerics.codec import from_bytes, to_bytes
from accelsdk.runtime import dlpack, transfer
from accelsdk.runtime.device import Device
from accelsdk.runtime.memory import Memory, Storage
from accelsdk.runtime.progress import LOCK
from accelsdk.runtime.sync import Event, Timepoint, completed, join
from accelsdk.runtime.transfer import Submission, span_of

if TYPE_CHECKING:
    from accelsdk.runtime.stream import Stream

_RAW = (memoryview, bytes, bytearray)


class Buffer:
    """A typed range of device memory. Thread-safe; type and place never change.

    The caller owns it: `delete` gives it up, so does the end of a ``with`` block or the last
    reference. Reading it waits for its last submitted writer. If that failed, the buffer is
    poisoned: every use fails with the same error until it is written again.

    Methods that move data take ``stream`` (None: the device's default stream, which is
    ordered), ``wait`` and ``signal``, and block unless told otherwise.

    Attributes:
        offset: Bytes from the start of the allocation.
        type: Format and shape.
        nbytes: Bytes in device memory.
        valid_shape: The real shape, where a program reported one; else the type's.
    """

    __slots__ = (
        "__weakref__",
        "_device",
        "_gone",
        "_storage",
        "_view",
        "nbytes",
        "offset",
        "type",
        "valid",
    )

    def __init__(self, storage: Storage, offset: int, type: TensorType) -> None:
        self._storage: Storage | None = storage
        self._device = storage.device
        self._gone = ""
        self._view: View | None = None
        self.offset = offset
        self.type = type
        self.nbytes = type.nbytes
        self.valid: Shape | None = None

    def __repr__(self) -> str:
        state = f", {self._gone}" if self._gone else ""
        return f"<Buffer {self.type} on {self._device.id}{state}>"

    # -- what it is ------------------------------------------------------------------------

    @property
    def device(self) -> Device:
        """Where it lies."""
        return self._device

    @property
    def memory(self) -> Memory:
        """The memory in which it lies."""
        return self._device.memories[self.storage.memory]

    @property
    def format(self) -> Format:
        """Number format of the elements."""
        return self.type.format

    @property
    def shape(self) -> Shape:
        """Extents, outermost first; the bound, where the real shape is data-dependent."""
        return self.type.shape

    @property
    def valid_shape(self) -> Shape:
        """The real shape, where a program reported one; else the type's."""
        return self.type.shape if self.valid is None else self.valid

    @property
    def storage(self) -> Storage:
        """The allocation, for use by the device.

        Raises:
            FailedPrecondition: The buffer was deleted or donated, is mapped, or its device
                was reset.
        """
        storage = self._storage
        if storage is None:
            raise FailedPrecondition(
                f"the buffer {self.type} was {self._gone}", device=self._device.id
            )
        if storage.maps or storage.generation != self._device.generation:
            storage.check()
        return storage

    @property
    def ready(self) -> Event:
        """Completion of the last submitted writer; fails with the error that poisons it."""
        storage = self.storage
        with LOCK:
            writers = storage.writers_of(self.offset, self.offset + max(self.nbytes, 1))
        if not writers:
            return completed(label="buffer")
        return join(writers, "buffer")

    def view_for_driver(self) -> View:
        """Returns what a driver is handed for the whole buffer."""
        view = self._view
        if view is None:
            handle = self.storage.handle
            self._view = view = View(handle, self.offset, self.nbytes, self.type, self.nbytes)
        return view

    # -- lifetime --------------------------------------------------------------------------

    def delete(self) -> None:
        """Gives the buffer up at once; work in flight keeps the memory until it completes."""
        self._give_up("deleted")

    def is_deleted(self) -> bool:
        """Returns whether the buffer was deleted or donated. Always allowed."""
        return self._storage is None

    def donate(self) -> None:
        """Marks the buffer as consumed by work that was accepted."""
        self._give_up("donated to an execution")

    def _give_up(self, how: str) -> None:
        with LOCK:
            storage, self._storage = self._storage, None
            if storage is None:
                return
            self._gone = how
            self._device.epoch += 1
            storage.release()
        self._device.pool.collect()

    def __enter__(self) -> Buffer:
        return self

    def __exit__(self, *exception: object) -> None:
        self.delete()

    def __del__(self) -> None:
        # May run inside a garbage collection, so no lock: the device collects it later.
        storage = getattr(self, "_storage", None)
        if storage is not None:
            storage.device.pool.dropped.append(storage)

    def view(
        self, offset: int, format: Format | str | TensorType, shape: Sequence[int] | None = None
    ) -> Buffer:
        """Returns a part of this buffer as a buffer of its own, which keeps the memory alive.

        Args:
            offset: Bytes from the start of this buffer.
            format: Number format of the part, or its whole type.
            shape: Extents, unless ``format`` is a tensor type.

        Raises:
            InvalidArgument: The part leaves this buffer, or the shape is none.
        """
        type = type_of(format, shape)
        span = span_of(self, offset, type.nbytes)
        with LOCK:
            span.storage.references += 1
        return Buffer(span.storage, span.start, type)

    # -- moving data -----------------------------------------------------------------------

    def copy_from_host(
        self,
        source: NDArray[Any] | bytes | bytearray | memoryview,
        *,
        offset: int = 0,
        stream: Stream | None = None,
        wait: Sequence[Timepoint | Event] = (),
        signal: Sequence[Timepoint] = (),
        block: bool = True,
        borrow: bool = False,
    ) -> Event:
        """Copies host memory into the buffer.

        Args:
            source: An array of this buffer's format and shape; or bytes as they lie on the
                device, for a part of it.
            offset: Bytes from the start of this buffer.
            stream: Whose order it keeps.
            wait: What must have succeeded before.
            signal: What completion signals.
            block: Whether to return only when it is done, raising its error.
            borrow: Without ``block``: read ``source`` in place, which must not change until
                completion, instead of copying it first.
        """
        data = self._host_bytes(source)
        if not block and not borrow:
            data = memoryview(bytes(data))
        span = span_of(self, offset, data.nbytes)
        event = transfer.write(span, data, self._submission(stream, wait, signal, block))
        if block:
            self.valid = None
            event.wait()
        return event

    def copy_to_host(
        self,
        destination: NDArray[Any] | bytearray | memoryview,
        *,
        offset: int = 0,
        stream: Stream | None = None,
        wait: Sequence[Timepoint | Event] = (),
        signal: Sequence[Timepoint] = (),
        block: bool = True,
    ) -> Event:
        """Copies device bytes, as many as ``destination`` has, into host memory.

        Args:
            destination: Contiguous writable memory; defined from completion on.
            offset: Bytes from the start of this buffer.
            stream: Whose order it keeps.
            wait: What must have succeeded before.
            signal: What completion signals.
            block: Whether to return only when it is done, raising its error.
        """
        data = _writable_bytes(destination)
        span = span_of(self, offset, data.nbytes)
        event = transfer.read(span, data, self._submission(stream, wait, signal, block))
        if block:
            event.wait()
        return event

    def numpy(self) -> NDArray[Any]:
        """Returns the contents as a new array of `valid_shape`, one element an item. Blocks."""
        shape = self.valid_shape
        nbytes = self.type.nbytes if self.valid is None else TensorType(self.format, shape).nbytes
        if self.format.bits >= 8:
            array = np.empty(shape, self.format.dtype)
            if nbytes:
                self.copy_to_host(array)
            else:
                self.ready.wait()
            return array
        raw = bytearray(nbytes)
        self.copy_to_host(raw)
        return from_bytes(raw, self.format, shape)

    def fill(
        self,
        pattern: bytes,
        *,
        offset: int = 0,
        nbytes: int | None = None,
        stream: Stream | None = None,
        wait: Sequence[Timepoint | Event] = (),
        signal: Sequence[Timepoint] = (),
        block: bool = True,
    ) -> Event:
        """Repeats a pattern of 1, 2, 4 or 8 bytes over the buffer, or a range of it.

        Raises:
            InvalidArgument: The pattern is no such bytes, or does not divide the length.
        """
        if not isinstance(pattern, _RAW):
            raise InvalidArgument(
                f"a {type(pattern).__name__} is no pattern",
                remedy="give 1, 2, 4 or 8 bytes, such as numpy.float32(1).tobytes()",
            )
        span = span_of(self, offset, nbytes)
        event = transfer.fill(span, bytes(pattern), self._submission(stream, wait, signal, block))
        if block:
            event.wait()
        return event

    def copy_to(
        self,
        destination: Buffer,
        *,
        stream: Stream | None = None,
        wait: Sequence[Timepoint | Event] = (),
        signal: Sequence[Timepoint] = (),
        block: bool = True,
    ) -> Event:
        """Copies this buffer into one of equal length, on this or another device.

        Between devices it goes directly where they can (``peer-copy``), else through the
        host. The stream is one of the destination's device.
        """
        how = destination._submission(stream, wait, signal, block)
        event = transfer.copy(span_of(destination), span_of(self), how)
        if block:
            event.wait()
        return event

    def to_device(self, device: Device, *, memory: str | None = None) -> Buffer:
        """Returns a copy on another device (or in another memory). Blocks."""
        copy = device.empty(self.type, memory=memory)
        self.copy_to(copy)
        return copy

    def _submission(
        self,
        stream: Stream | None,
        wait: Sequence[Timepoint | Event],
        signal: Sequence[Timepoint],
        inline: bool,
    ) -> Submission:
        lane = stream or self._device.default_stream
        lane.check(self._device)
        return Submission(lane, (*lane.gates(), *wait), signal, None, inline)

    def _host_bytes(self, source: NDArray[Any] | bytes | bytearray | memoryview) -> memoryview:
        if isinstance(source, _RAW):
            data = memoryview(source)
            return data.cast("B") if data.format != "B" or data.ndim != 1 else data
        array = np.asarray(source)
        if array.dtype != self.format.dtype or array.shape != self.shape:
            raise InvalidArgument(
                f"an array of {array.dtype}{list(array.shape)} does not fit {self.type}",
                device=self._device.id,
                remedy="convert it, or pass raw bytes for a part of the buffer",
            )
        return to_bytes(array, self.format)

    # -- in place --------------------------------------------------------------------------

    @contextmanager
    def map(self) -> Iterator[memoryview]:
        """Gives the host the bytes in place, for the length of a ``with`` block.

        Waits until the device has finished with the buffer; meanwhile the device may not use
        any part of its allocation.

        Raises:
            Unimplemented: The target lacks ``map``.
            FailedPrecondition: It is mapped already.
        """
        device = self._device
        device.require(Capability.MAP)
        storage = self.storage
        with LOCK:
            busy = [work.event for work in storage.works]
        for event in busy:
            event.wait()
        self.ready.wait()
        around = span_of(self).enclosing()
        with LOCK:
            storage.maps += 1
            storage.references += 1
            device.epoch += 1
        try:
            mapper: SupportsMap = device.card.ability(Capability.MAP)
            mapping = device.call("map", mapper.map, around.view())
            data = device.call("map", mapping.__enter__)
            try:
                yield data[self.offset - around.start :]
            finally:
                device.gate.call(mapping.__exit__, None, None, None)
        finally:
            with LOCK:
                storage.maps -= 1
                storage.release()
            device.pool.collect()

    def __array__(
        self, dtype: np.dtype[Any] | None = None, copy: bool | None = None
    ) -> NDArray[Any]:
        """Returns what `numpy` does, so that ``numpy.asarray`` gives numbers, not an object."""
        if copy is False:
            raise ValueError("a buffer is always copied: numpy.asarray(buffer, copy=None)")
        array = self.numpy()
        return array if dtype is None else array.astype(dtype)

    def __dlpack_device__(self) -> tuple[int, int]:
        return dlpack.device_of(self)

    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> object:
        return dlpack.export(self, stream, max_version, dl_device, copy)


def _writable_bytes(destination: NDArray[Any] | bytearray | memoryview) -> memoryview:
    if isinstance(destination, np.ndarray):
        if not destination.flags.c_contiguous:
            raise InvalidArgument("the destination is not contiguous", remedy="pass a C array")
        data = destination.reshape(-1).view(np.uint8).data
    else:
        data = memoryview(destination)
        data = data.cast("B") if data.format != "B" or data.ndim != 1 else data
    if data.readonly:
        raise InvalidArgument("the destination is read-only", remedy="pass a writable array")
    return data
