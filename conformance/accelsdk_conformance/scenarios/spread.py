"""Programs whose operands and results are many, far apart, or written on many streams."""

from __future__ import annotations

from functools import reduce

import numpy as np

from accelsdk.graph.types import TensorType
from accelsdk_conformance.scenarios.lab import BLOCK, Lab, equal

_MANY = 11


def views_far(lab: Lab) -> None:
    """Operands and results far into one allocation: offsets of more than a page, or two bytes."""
    nbytes = lab.format.nbytes(40)
    arena = lab.raw(3 << 20)
    with lab.program(count=40) as program:
        for step in (4160, 65600, 262208, 1000000):
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
