"""Shapes known only at run time: data-dependent results, dynamic extents, partial tensors."""

from __future__ import annotations

import numpy as np

from accelsdk.backend.driver import View
from accelsdk.formats import FLOAT32, INT64, UINT8
from accelsdk.graph.types import TensorType
from accelsdk_conformance.scenarios.lab import BLOCK, Lab, equal, need


def valid_shape(lab: Lab) -> None:
    """A result of data-dependent size reports its real shape, each run its own."""
    kind = TensorType(FLOAT32, (12,))
    with lab.build([kind], lambda make, x: make.op("NonZero", x)) as program:
        output = lab.device.empty(program.outputs[0].type)
        for where in ((3, 5, 11), (), tuple(range(12)), (0,), (11,)):
            x = np.zeros(12, np.float32)
            x[list(where)] = 1
            output.fill(b"\xff")
            program.execute([lab.put(x)], [output], BLOCK)
            equal(output.valid_shape, (1, len(where)), f"valid_shape of {len(where)} elements")
            equal(output.shape, program.outputs[0].type.shape, "shape: the bound")
            got = output.numpy()
            equal(got.shape, (1, len(where)), "shape of the array")
            equal(got.reshape(-1).tolist(), list(where), "indices")


def several_valid_shapes(lab: Lab) -> None:
    """Runs in flight report their shapes to their own results."""
    kind = TensorType(FLOAT32, (9,))
    with lab.build([kind], lambda make, x: make.op("NonZero", x)) as program:
        runs = []
        for count in range(9):
            x = np.zeros(9, np.float32)
            x[:count] = 1
            runs.append(program.execute([lab.put(x)]))
        for count, run in enumerate(runs):
            lab.finish(run.complete)
            equal(run.outputs[0].numpy().tolist(), [list(range(count))], f"run with {count}")


def fixed_shapes(lab: Lab) -> None:
    """A result of fixed size has its type's shape as its valid one."""
    with lab.program() as program:
        x = lab.put(lab.full(1))
        (out,) = program.execute([x, x], options=BLOCK).outputs
        equal(out.valid_shape, (64,), "valid_shape")


def gathered(lab: Lab) -> None:
    """A program with inputs of several formats takes each as what it is."""
    kinds = [TensorType(FLOAT32, (10, 3)), TensorType(INT64, (4,))]
    with lab.build(kinds, lambda make, x, i: make.op("Gather", x, i, axis=0)) as program:
        x = np.arange(30, dtype=np.float32).reshape(10, 3)
        for rows in ([0, 9, 5, 5], [1, 2, 3, 4]):
            (got,) = lab.run(program, x, np.array(rows, np.int64))
            equal(got, x[rows], f"rows {rows}")


def partial_tensors(lab: Lab) -> None:
    """A transfer of a partial tensor moves the valid bytes, and leaves the neighbours alone."""
    need("partial-tensors", lab)
    device = lab.device
    start = max(64, device.target.view_alignment)
    around = b"\x5e" * start
    for valid in (0, 1, 16, 63, 64):
        buffer = lab.upload(around + b"\x5e" * 128)
        span = View(buffer.storage.handle, start, 64, None, valid)
        source = lab.noise(64)
        device.call("write", device.driver.write, span, memoryview(source))
        got = lab.bytes_of(buffer)
        equal(
            got[:start] + got[start + 64 :],
            around + b"\x5e" * 64,
            f"around a write of {valid} valid bytes",
        )
        equal(got[start : start + valid], source[:valid], f"{valid} valid bytes")
        host = bytearray(64)
        device.call("read", device.driver.read, span, memoryview(host))
        equal(bytes(host[:valid]), source[:valid], f"{valid} valid bytes, read back")
        buffer.delete()


def whole_without_partial(lab: Lab) -> None:
    """Whatever a target says of partial tensors, whole ones are defined to the last byte."""
    for nbytes in (1, 63, 65, 100):
        buffer = lab.upload(b"\xff" * 128)
        view = buffer.view(0, UINT8, (nbytes,))
        view.copy_from_host(bytes(nbytes))
        equal(lab.bytes_of(buffer), bytes(nbytes) + b"\xff" * (128 - nbytes), f"{nbytes} bytes")
