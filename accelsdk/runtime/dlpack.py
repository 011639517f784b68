"""DLPack both ways: out of host-visible memory without a copy, and in from any producer.

FP8, FP6, FP4, bfloat16 and packed sub-byte formats have no type that every consumer knows,
so they leave as their device bytes (uint8); the buffer's ``type`` says what they mean.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from accelsdk.backend.info import Capability
from accelsdk.backend.optional import SupportsHostImport, SupportsMap
from accelsdk.errors import InvalidArgument
from accelsdk.formats import from_dtype
from accelsdk.graph.types import TensorType
from accelsdk.runtime.progress import LOCK
from accelsdk.runtime.transfer import span_of

if TYPE_CHECKING:
    from accelsdk.runtime.buffer import Buffer
    from accelsdk.runtime.device import Device

#: kDLCPU and kDLExtDev of dlpack.h.
CPU = 1
EXTENSION = 12
_EXPORTABLE = "biufc"


class Producer(Protocol):
    """Anything that exports DLPack."""

    def __dlpack__(self) -> object: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...


def device_of(buffer: Buffer) -> tuple[int, int]:
    """Returns the DLPack device: CPU for host-visible memory, else an extension device."""
    return (CPU, 0) if _in_host_reach(buffer) else (EXTENSION, buffer.device.ordinal)


def _in_host_reach(buffer: Buffer) -> bool:
    return buffer.memory.host_visible and Capability.MAP in buffer.device.capabilities


def export(
    buffer: Buffer,
    stream: int | None,
    max_version: tuple[int, int] | None,
    dl_device: tuple[int, int] | None,
    copy: bool | None,
) -> object:
    """Returns a DLPack capsule on the buffer's own memory, after its last writer is done.

    The memory stays alive until the consumer has given the capsule back.

    Raises:
        BufferError: The memory is not visible to the host, or a stream was given.
    """
    # Consumers are known to ignore __dlpack_device__, so it is refused here.
    if not _in_host_reach(buffer):
        raise BufferError(
            f"{buffer!r} lies in memory that the host cannot see; copy it with Buffer.numpy()"
        )
    if stream is not None or (dl_device is not None and tuple(dl_device) != (CPU, 0)):
        raise BufferError("a buffer in host-visible memory exports to the CPU, without a stream")
    buffer.ready.wait()
    array = _pinned_array(buffer)
    if copy:
        array = array.copy()
    return array.__dlpack__(max_version=max_version)


def _pinned_array(buffer: Buffer) -> np.ndarray[Any, Any]:
    """Returns an array over the buffer's memory that keeps it alive."""
    storage, device = buffer.storage, buffer.device
    around = span_of(buffer).enclosing()
    mapper: SupportsMap = device.card.ability(Capability.MAP)
    mapping = mapper.map(around.view())
    raw = np.frombuffer(mapping.__enter__(), np.uint8)
    with LOCK:
        storage.references += 1

    def unpin() -> None:  # inside a garbage collection: no lock, no driver but the unmapping
        mapping.__exit__(None, None, None)
        device.pool.dropped.append(storage)

    weakref.finalize(raw, unpin).atexit = False
    part, dtype = raw[buffer.offset - around.start :], buffer.format.dtype
    if buffer.format.bits < 8 or dtype.kind not in _EXPORTABLE:
        return part
    return part.view(dtype).reshape(buffer.shape)


def import_from(device: Device, producer: Producer) -> Buffer:
    """Returns a buffer with a producer's contents.

    Uses the producer's memory in place where the target has ``host-import``, and keeps it
    alive; else copies it.

    Raises:
        InvalidArgument: The producer's memory is not on the CPU, or of no known format.
    """
    from accelsdk.runtime.buffer import Buffer
    from accelsdk.runtime.memory import Storage

    try:
        array = np.from_dlpack(producer)  # type: ignore[arg-type] # NumPy names its own protocol
    except (AttributeError, BufferError, RuntimeError, TypeError) as error:
        raise InvalidArgument(
            f"cannot import a {type(producer).__name__} by DLPack: {error}",
            remedy="move it to the CPU; pass formats unknown to NumPy as uint8",
        ) from error
    if Capability.HOST_IMPORT not in device.capabilities or not array.flags.writeable:
        return device.put(array)
    array = np.ascontiguousarray(array)
    if not array.nbytes:
        return device.put(array)
    driver: SupportsHostImport = device.card.ability(Capability.HOST_IMPORT)
    handle = device.call("host import", driver.import_host, array.reshape(-1).view(np.uint8).data)
    memory = device.memories[device.default_memory]
    device.pool.note_allocation(memory, array.nbytes)
    storage = Storage(device, memory.kind, handle, array.nbytes)
    storage.imported = array  # alive until the storage is freed
    return Buffer(storage, 0, TensorType(from_dtype(array.dtype), array.shape))
