"""Programs: outputs, donation, refusals, files, repetition, several shapes and devices."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from accelsdk.errors import FailedPrecondition, InvalidArgument
from accelsdk.formats import FLOAT32
from accelsdk.runtime.executable import ExecuteOptions
from accelsdk_conformance.problem import NotApplicable
from accelsdk_conformance.scenarios.lab import Lab, check, equal, raises

_BLOCK = ExecuteOptions(block=True)


def overwrite(lab: Lab) -> None:
    """Every byte of an output is written, whatever it held before, run after run."""
    with lab.program(count=333) as program:
        output = lab.device.empty(FLOAT32, (333,))
        for turn in range(5):
            output.fill(b"\xff")
            x = lab.rng.integers(-99, 99, 333).astype(np.float32)
            arguments = [lab.put(x), lab.put(x[::-1].copy())]
            program.execute(arguments, [output], _BLOCK)
            equal(output.numpy(), x + x[::-1], f"turn {turn}")
            equal(arguments[0].numpy(), x, "operand after the run")


def alternate(lab: Lab) -> None:
    """Programs of several shapes, loaded side by side and run in turn, keep apart."""
    programs = {count: lab.program(count=count) for count in (1, 7, 64, 1000)}
    for turn in range(3):
        for count, program in programs.items():
            x = lab.rng.integers(-99, 99, count).astype(np.float32)
            got = program.execute([lab.put(x), lab.put(x)], options=_BLOCK).outputs[0].numpy()
            equal(got, 2 * x, f"{count} elements, turn {turn}")
    for program in programs.values():
        program.delete()


def repeat(lab: Lab) -> None:
    """Twenty runs of one program on one input give the same bits."""
    with lab.program("Exp", 257, 1) as program:
        x = lab.put(lab.rng.normal(size=257).astype(np.float32))
        first = program.execute([x], options=_BLOCK).outputs[0].numpy().tobytes()
        for turn in range(20):
            again = program.execute([x], options=_BLOCK).outputs[0].numpy().tobytes()
            equal(again, first, f"run {turn} of one input")


def in_flight(lab: Lab) -> None:
    """Many runs submitted at once finish with their own results."""
    with lab.program() as program:
        runs = []
        for turn in range(32):
            x = lab.put(np.full(64, turn, np.float32))
            runs.append(program.execute([x, x]))
        for turn, run in enumerate(runs):
            run.wait(60)
            equal(run.outputs[0].numpy(), np.full(64, 2 * turn, np.float32), f"run {turn}")


def donation(lab: Lab) -> None:
    """A donated operand is consumed on acceptance and untouched by a rejection."""
    x, y = (lab.put(np.full(64, v, np.float32)) for v in (1, 2))
    with lab.program() as program:
        with raises(InvalidArgument, "execute with an operand missing"):
            program.execute([x], options=ExecuteOptions(donate=True))
        equal(x.numpy(), np.full(64, 1, np.float32), "donated operand after a rejection")
        result = program.execute([x, y], options=ExecuteOptions(donate=[0], block=True))
        equal(result.outputs[0].numpy(), np.full(64, 3, np.float32), "result of a donation")
        check(x.is_deleted(), "a donated operand is consumed")
        with raises(FailedPrecondition, "use of a donated operand"):
            x.numpy()
        equal(y.numpy(), np.full(64, 2, np.float32), "operand that was not donated")


def refusals(lab: Lab) -> None:
    """Wrong types, counts and overlaps are refused before anything runs."""
    with lab.program() as program:
        good = lab.put(np.ones(64, np.float32))
        for name, wrong in (
            ("shape", lab.put(np.ones(63, np.float32))),
            ("format", lab.put(np.ones(64, np.int32))),
        ):
            with raises(InvalidArgument, f"operand of a wrong {name}"):
                program.execute([good, wrong])
        with raises(InvalidArgument, "output that overlaps an operand"):
            program.execute([good, good], [good])
        equal(good.numpy(), np.ones(64, np.float32), "operand after refusals")


def saved(lab: Lab) -> None:
    """A program written to a file and read back gives the same bits."""
    executable = lab.compiled("Exp", 100, 1)
    x = lab.put(lab.rng.normal(size=100).astype(np.float32))
    with lab.client.load(executable, lab.device) as program:
        wanted = program.execute([x], options=_BLOCK).outputs[0].numpy().tobytes()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "program.accel"
        executable.save(path)
        with lab.client.load(path, lab.device) as program:
            got = program.execute([x], options=_BLOCK).outputs[0].numpy().tobytes()
    equal(got, wanted, "results of the program from a file")


def compiled_twice(lab: Lab) -> None:
    """Compiling one graph twice gives the same program."""
    first, second = lab.compiled(), lab.compiled()
    equal(first.fingerprint, second.fingerprint, "fingerprint")
    codes = [[part.program.code for part in made.parts] for made in (first, second)]
    equal(codes[0], codes[1], "code")


def every_device(lab: Lab) -> None:
    """One program gives the same bits on every device of its target."""
    devices = [d for d in lab.client.devices if d.target.name == lab.device.target.name]
    if len(devices) < 2:
        raise NotApplicable("there is one device of this target only")
    executable = lab.compiled("Exp", 65, 1)
    x = lab.rng.normal(size=65).astype(np.float32)
    found = []
    for device in devices:
        with lab.client.load(executable, device) as program:
            result = program.execute([device.put(x)], options=_BLOCK)
            found.append(result.outputs[0].numpy().tobytes())
    for device, got in zip(devices, found, strict=True):
        equal(got, found[0], f"results of {device.id} against {devices[0].id}")


def unload(lab: Lab) -> None:
    """Loading and unloading, again and again, leaves no memory behind."""
    lab.device.trim()
    before = lab.device.memory_stats().in_use
    for _ in range(25):
        lab.program(count=4096).delete()
    lab.device.trim()
    equal(lab.device.memory_stats().in_use, before, "memory in use after 25 programs")
