"""The host in device memory, and host memory on the device: mapping, DLPack, import."""

from __future__ import annotations

import gc
from typing import Any, cast

import numpy as np

from accelsdk.errors import DataLoss, FailedPrecondition, InvalidArgument
from accelsdk.formats import UINT8
from accelsdk.graph.types import TensorType
from accelsdk_conformance.scenarios.lab import BLOCK, Lab, check, equal, need, raises


def mapped(lab: Lab) -> None:
    """A mapped buffer is the same memory, both ways."""
    need("map", lab)
    data = lab.noise(256)
    buffer = lab.upload(data)
    with buffer.map() as memory:
        equal(bytes(memory), data, "mapped contents")
        memory[0:4] = b"\x01\x02\x03\x04"
        memory[255] = 0x99
    equal(lab.bytes_of(buffer), b"\x01\x02\x03\x04" + data[4:255] + b"\x99", "after the mapping")
    buffer.fill(b"\x77")
    with buffer.map() as memory:
        equal(bytes(memory), b"\x77" * 256, "contents of a second mapping")


def mapped_view(lab: Lab) -> None:
    """Mapping a view gives its bytes, and no others."""
    need("map", lab)
    data = lab.noise(256)
    buffer = lab.upload(data)
    with buffer.view(100, UINT8, (20,)).map() as memory:
        equal(bytes(memory), data[100:120], "contents of a mapped view")
        memory[:] = b"\x55" * 20
    equal(lab.bytes_of(buffer), data[:100] + b"\x55" * 20 + data[120:], "after the mapping")


def excludes(lab: Lab) -> None:
    """While it is mapped, the device may not use any part of the allocation."""
    need("map", lab)
    buffer = lab.put(lab.full(1))
    view = buffer.view(0, lab.format, (64,))
    other = lab.device.empty(buffer.type)
    with lab.program() as program:
        with buffer.map():
            for what, use in (
                ("read", lambda: buffer.copy_to_host(bytearray(1))),
                ("write", lambda: buffer.copy_from_host(bytes(1))),
                ("fill", lambda: view.fill(b"\x00")),
                ("copy", lambda: view.copy_to(other)),
                ("operand", lambda: program.execute([buffer, other])),
                ("result", lambda: program.execute([other, other], [view])),
                ("second mapping", lambda: buffer.map().__enter__()),
            ):
                with raises(FailedPrecondition, f"{what} of a mapped buffer"):
                    use()
        equal(lab.run(program, lab.full(1), lab.full(2))[0], lab.full(3), "a run afterwards")
    equal(lab.array_of(buffer), lab.full(1), "contents after refused uses")


def mapping_waits(lab: Lab) -> None:
    """Mapping waits for the work in flight on the buffer, and tells its failure."""
    need("map", lab)
    stream, buffer = lab.device.create_stream(), lab.raw(100_000)
    for turn in range(10):
        stream.fill(buffer, bytes([turn]))
    with buffer.map() as memory:
        equal(bytes(memory), b"\x09" * 100_000, "mapped contents after ten fills in flight")
    poisoned = lab.device.poisoned(TensorType(UINT8, (64,)), DataLoss("planted"))
    with raises(DataLoss, "mapping of a poisoned buffer", "planted"), poisoned.map():
        check(False, "a poisoned buffer was mapped")


def deleted_while_mapped(lab: Lab) -> None:
    """A buffer that is deleted while mapped stays until the mapping ends."""
    need("map", lab)
    buffer = lab.upload(b"\x42" * 64)
    with buffer.map() as memory:
        buffer.delete()
        lab.upload(bytes(64)).delete()
        equal(bytes(memory), b"\x42" * 64, "mapped contents after delete()")


def dlpack_out(lab: Lab) -> None:
    """DLPack exports host-visible memory in place, and refuses where the host cannot see it."""
    values = lab.rng.integers(-99, 99, (3, 5)).astype(np.float32)
    buffer = lab.put(values)
    visible = buffer.memory.host_visible and "map" in lab.device.capabilities
    equal(buffer.__dlpack_device__()[0], 1 if visible else 12, "DLPack device type")
    if not visible:
        try:
            np.from_dlpack(cast(Any, buffer))
        except BufferError:
            return
        check(False, "memory that the host cannot see was exported")
    array = np.from_dlpack(cast(Any, buffer))
    equal(array, values, "exported contents")
    buffer.fill(b"\x00" * 4)
    equal(array, values * 0, "exported contents after a fill: the same memory")
    buffer.delete()
    lab.put(values).delete()
    equal(array, values * 0, "exported contents after delete(): the export keeps the memory")
    del array
    gc.collect()


def dlpack_in(lab: Lab) -> None:
    """Arrays of any producer come in with their contents, strided and read-only ones too."""
    base = lab.rng.integers(0, 99, (6, 8)).astype(np.int32)
    frozen = base.copy()
    frozen.flags.writeable = False
    for what, array in (("plain", base), ("transposed", base.T), ("strided", base[::2, ::3])):
        buffer = lab.device.from_dlpack(array)
        equal(buffer.numpy(), array, f"a {what} array through DLPack")
        equal(buffer.shape, array.shape, f"shape of a {what} array")
        buffer.delete()
    equal(lab.device.from_dlpack(np.zeros((0, 3), np.float32)).shape, (0, 3), "an empty array")
    with raises(InvalidArgument, "import of what is no array"):
        lab.device.from_dlpack(object())  # type: ignore[arg-type] # the point of it


def imported(lab: Lab) -> None:
    """Imported host memory is used in place, and kept alive as long as it is used."""
    need("host-import", lab)
    array = lab.rng.integers(0, 99, 256).astype(np.uint8)
    wanted = array.tobytes()
    buffer = lab.device.from_dlpack(array)
    equal(lab.bytes_of(buffer), wanted, "imported contents")
    buffer.fill(b"\x13", offset=10, nbytes=20)
    equal(array[10:30].tobytes(), b"\x13" * 20, "the host's array after a fill on the device")
    equal(array[:10].tobytes() + array[30:].tobytes(), wanted[:10] + wanted[30:], "the rest of it")
    array[0] = 0xAB
    equal(lab.bytes_of(buffer)[0], 0xAB, "what the host wrote, on the device")
    del array
    gc.collect()
    equal(lab.bytes_of(buffer)[10:30], b"\x13" * 20, "contents when the host has let go")
    x = np.array(lab.full(2))
    with lab.program() as program:
        (result,) = program.execute([lab.device.from_dlpack(x), lab.put(x)], options=BLOCK).outputs
        equal(lab.array_of(result), lab.full(4), "a program on imported memory")


def numpy_face(lab: Lab) -> None:
    """`numpy.asarray` of a buffer gives numbers, in any dtype that is asked for."""
    values = lab.rng.integers(-9, 9, (2, 3)).astype(np.float32)
    buffer = lab.put(values)
    equal(np.asarray(buffer), values, "asarray")
    equal(np.asarray(buffer, np.int32), values.astype(np.int32), "asarray as int32")
