"""Programs whose operands and results are many, far apart, or written on many streams."""

from __future__ import annotations

from functools import reduce

import numpy as np

from accelsdk.formats import UINT8
from accelsdk.graph.types import TensorType
from accelsdk_conformance.scenarios.lab import BLOCK, Lab, equal

_MANY = 11


def views_far(lab: Lab) -> None:
    """Operands and results far into one allocation: offsets of more than a page, or two bytes."""
    nbytes = lab.format.nbytes(40)
    arena = lab.raw(600_000)
    with lab.program(count=40) as program:
        for step in (4160, 65600, 262208):
            places = [4160 + turn * step for turn in range(3)]
            arena.fill(b"\x5b")
            views = [arena.view(place // 64 * 64, lab.format, (40,)) for place in places]
            x, y = lab.values(40), lab.values(40)
            views[0].copy_from_host(x)
            views[1].copy_from_host(y)
            program.execute(views[:2], [views[2]], BLOCK)
            image = bytearray(b"\x5b" * arena.nbytes)
            for place, values in zip(places, (x, y, (x + y).astype(x.dtype)), strict=True):
                at = place // 64 * 64
                image[at : at + nbytes] = values.tobytes()
            equal(lab.bytes_of(arena), bytes(image), f"a run on views {step} bytes apart")


def many_operands(lab: Lab) -> None:
    """A program of many operands and results takes and writes every one of them."""
    kind = TensorType(lab.format, (8,))
    with lab.build(
        [kind] * _MANY,
        lambda make, *x: [make.op("Add", one, x[0]) for one in x],
    ) as program:
        arrays = [lab.full(turn, 8) for turn in range(3, 3 + _MANY)]
        for index, got in enumerate(lab.run(program, *arrays)):
            equal(got, arrays[index] + arrays[0], f"result {index}")


def many_writers(lab: Lab) -> None:
    """A program waits for the writers of all its operands, each on a stream of its own."""
    kind = TensorType(lab.format, (4096,))
    streams = [lab.device.create_stream() for _ in range(_MANY)]
    buffers = [lab.put(lab.full(0, 4096)) for _ in streams]
    with lab.build(
        [kind] * _MANY,
        lambda make, *x: reduce(lambda total, one: make.op("Add", total, one), x),
    ) as program:
        for turn in range(6):
            values = [np.roll(np.arange(_MANY), turn)[i] for i in range(_MANY)]
            for stream, buffer, value in zip(streams, buffers, values, strict=True):
                stream.fill(buffer, lab.full(int(value), 1).tobytes())
            found = program.execute(buffers, options=BLOCK).outputs[0].numpy()
            equal(found, lab.full(sum(range(_MANY)), 4096), f"sum of turn {turn}")


def boundaries(lab: Lab) -> None:
    """Small writes, reads, fills and copies over the ends of pages touch both sides alike."""
    size = 3 * 65536
    data = bytearray(lab.noise(size))
    buffer, other = lab.upload(bytes(data)), lab.upload(lab.noise(256))
    given = lab.bytes_of(other)
    for end in (512, 4096, 8192, 65536, 131072):
        for before, nbytes in ((1, 2), (3, 8), (5, 37), (33, 64), (100, 200)):
            at = end - before
            view = buffer.view(at, UINT8, (nbytes,))
            told = f"{nbytes} bytes from {before} before {end}"
            part = lab.noise(nbytes)
            buffer.copy_from_host(part, offset=at)
            data[at : at + nbytes] = part
            equal(lab.bytes_of(view), part, f"a write and a read of {told}")
            view.fill(b"\x3c")
            data[at : at + nbytes] = b"\x3c" * nbytes
            equal(lab.bytes_of(view), bytes(data[at : at + nbytes]), f"a fill of {told}")
            other.view(7, UINT8, (nbytes,)).copy_to(view)
            data[at : at + nbytes] = given[7 : 7 + nbytes]
            equal(lab.bytes_of(view), given[7 : 7 + nbytes], f"a copy of {told}")
    equal(lab.bytes_of(buffer), bytes(data), "everything in the end")


def many_buffers(lab: Lab) -> None:
    """Several hundred buffers live side by side, each with contents of its own."""
    contents = [turn.to_bytes(2, "little") * 24 for turn in range(600)]
    buffers = [lab.upload(data) for data in contents]
    for index, (buffer, data) in enumerate(zip(buffers, contents, strict=True)):
        equal(lab.bytes_of(buffer), data, f"buffer {index} of {len(buffers)}")
    for buffer in buffers[::3]:
        buffer.delete()
    again = [lab.upload(b"\xee" * 48) for _ in buffers[::3]]
    for index, buffer in enumerate(buffers):
        if index % 3:
            equal(lab.bytes_of(buffer), contents[index], f"buffer {index}, others deleted")
    equal(lab.bytes_of(again[-1]), b"\xee" * 48, "a new one")
