"""Programs: outputs, repetition, shapes, constants, aliases, bindings, files."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from accelsdk.backend.backend import Compatibility
from accelsdk.errors import DataLoss, IncompatibleProgram, InvalidArgument, NotFound
from accelsdk.formats import FLOAT32, INT32, UINT8
from accelsdk.graph.graph import Graph
from accelsdk.graph.types import TensorType
from accelsdk.runtime.client import open_program
from accelsdk.runtime.executable import Executable
from accelsdk_conformance.scenarios.lab import BLOCK, Array, Lab, check, equal, raises


def overwrite(lab: Lab) -> None:
    """Every byte of an output is written, whatever it held before, and none beside it."""
    with lab.program(count=333) as program:
        width = lab.format.nbytes(333)
        arena = lab.raw(width + 128)
        output = arena.view(64, lab.format, (333,))
        for turn, poison in enumerate((b"\xff", b"\x00", b"\xa5", b"\x7f", b"\xff")):
            arena.fill(poison)
            x, y = lab.values(333), lab.values(333)
            arguments = [lab.put(x), lab.put(y)]
            program.execute(arguments, [output], BLOCK)
            wanted = poison * 64 + (x + y).astype(x.dtype).tobytes() + poison * 64
            equal(lab.bytes_of(arena), wanted, f"output and its surroundings, turn {turn}")
            equal(lab.array_of(arguments[0]), x, "first operand after the run")
            equal(lab.array_of(arguments[1]), y, "second operand after the run")


def views_anywhere(lab: Lab) -> None:
    """Operands and results may be views at any offset of one allocation."""
    item = lab.format.nbytes(1)
    with lab.program(count=40) as program:
        nbytes = 40 * item
        for shift in (0, 1, 2, 3, 5, 8, 13, 33, 63, 64, 65):
            x, y = lab.values(40), lab.values(40)
            arena = lab.upload(b"\x5b" * (3 * (nbytes + shift) + 64))
            places = [shift + turn * (nbytes + shift) for turn in range(3)]
            views = [arena.view(place, lab.format, (40,)) for place in places]
            views[0].copy_from_host(x)
            views[1].copy_from_host(y)
            program.execute(views[:2], [views[2]], BLOCK)
            image = bytearray(b"\x5b" * arena.nbytes)
            for place, values in zip(places, (x, y, (x + y).astype(x.dtype)), strict=True):
                image[place : place + nbytes] = values.tobytes()
            equal(lab.bytes_of(arena), bytes(image), f"a run on views {shift} bytes apart")


def operand_twice(lab: Lab) -> None:
    """One buffer may be several operands, and operands may overlap."""
    item = lab.format.nbytes(1)
    with lab.program(count=50) as program:
        values = lab.values(100)
        buffer = lab.put(values)
        first, second = (buffer.view(start * item, lab.format, (50,)) for start in (0, 20))
        for what, (x, y), wanted in (
            ("the same buffer twice", (first, first), 2 * values[:50]),
            ("overlapping operands", (first, second), values[:50] + values[20:70]),
        ):
            (result,) = program.execute([x, y], options=BLOCK).outputs
            equal(lab.array_of(result), wanted, what)
        equal(lab.array_of(buffer), values, "operands after the runs")


def alternate(lab: Lab) -> None:
    """Programs of several shapes, loaded side by side and run in turn, keep apart."""
    programs = {count: lab.program(count=count) for count in (1, 7, 64, 1000)}
    for turn in range(3):
        for count, program in programs.items():
            x, y = lab.values(count), lab.values(count)
            (got,) = lab.run(program, x, y)
            equal(got, x + y, f"{count} elements, turn {turn}")
    for program in programs.values():
        program.delete()


def repeat(lab: Lab) -> None:
    """Twenty runs of one program on one input give the same bits."""
    with lab.program("Exp", 257, 1) as program:
        x = lab.put(lab.rng.normal(size=257).astype(np.float32))
        first = lab.bytes_of(program.execute([x], options=BLOCK).outputs[0])
        for turn in range(20):
            again = lab.bytes_of(program.execute([x], options=BLOCK).outputs[0])
            equal(again, first, f"run {turn} of one input")


def other_inputs(lab: Lab) -> None:
    """The same buffers with other contents give other results: nothing is remembered."""
    with lab.program() as program:
        x, y, out = (lab.device.empty(lab.format, (64,)) for _ in range(3))
        for turn in range(6):
            a, b = lab.values(), lab.values()
            x.copy_from_host(a)
            y.copy_from_host(b)
            program.execute([x, y], [out], BLOCK)
            equal(lab.array_of(out), a + b, f"turn {turn}")


def in_flight(lab: Lab) -> None:
    """Many runs submitted at once finish with their own results."""
    with lab.program() as program:
        runs = [
            program.execute([lab.put(lab.full(turn)), lab.put(lab.full(1))]) for turn in range(32)
        ]
        for turn, run in enumerate(runs):
            lab.finish(run.complete)
            equal(lab.array_of(run.outputs[0]), lab.full(turn + 1), f"run {turn}")


def several_results(lab: Lab) -> None:
    """Each result of a program lands in its own buffer, whether given or allocated."""
    kind = TensorType(lab.format, (30,))
    with lab.build(
        [kind, kind],
        lambda make, x, y: (make.op("Add", x, y), make.op("Add", y, y), make.op("Add", x, x)),
    ) as program:
        x, y = lab.values(30), lab.values(30)
        for what, got in (("allocated", lab.run(program, x, y)),):
            for index, wanted in enumerate((x + y, 2 * y, 2 * x)):
                equal(got[index], wanted, f"{what} result {index}")
        given = [lab.device.empty(kind) for _ in range(3)]
        program.execute([lab.put(x), lab.put(y)], given, BLOCK)
        for index, wanted in enumerate((x + y, 2 * y, 2 * x)):
            equal(lab.array_of(given[index]), wanted, f"given result {index}")


def refusals(lab: Lab) -> None:
    """Wrong types, counts and overlaps are refused before anything runs."""
    with lab.program() as program:
        good, out = lab.put(lab.full(1)), lab.put(lab.full(7))
        other = INT32 if lab.format is not INT32 else FLOAT32
        for name, wrong in (
            ("shape", lab.put(lab.full(1, 63))),
            ("rank", lab.put(lab.full(1).reshape(8, 8))),
            ("format", lab.device.empty(other, (64,))),
        ):
            with raises(InvalidArgument, f"operand of a wrong {name}"):
                program.execute([good, wrong])
            with raises(InvalidArgument, f"output of a wrong {name}"):
                program.execute([good, good], [wrong])
        half = lab.device.empty(lab.format, (96,))
        item = lab.format.nbytes(1)
        low, high = (half.view(start * item, lab.format, (64,)) for start in (0, 32))
        low.copy_from_host(lab.full(1))
        for what, arguments, outputs in (
            ("too few operands", [good], None),
            ("too many operands", [good] * 3, None),
            ("too many outputs", [good] * 2, [out, out]),
            ("an output that is an operand", [good, good], [good]),
            ("an output that overlaps an operand", [low, good], [high]),
        ):
            with raises(InvalidArgument, what):
                program.execute(arguments, outputs)
        equal(lab.array_of(good), lab.full(1), "operand after refusals")
        equal(lab.array_of(out), lab.full(7), "output after refusals")


# -- constants -----------------------------------------------------------------------------------


def _with_constants(lab: Lab, arrays: Sequence[Array]) -> Graph:
    """Returns ``(x + c0, x + c1, ...)``: each result shows which constant it met."""
    kind = TensorType(lab.format, arrays[0].shape)
    return lab.graph(
        [kind],
        lambda make, x: [
            make.op("Add", x, make.constant(array, lab.format, name=f"c{9 - i}"))
            for i, array in enumerate(arrays)
        ],
    )


def constants(lab: Lab) -> None:
    """Constants are the right ones, in the order of the manifest, run after run."""
    arrays = [lab.values() + 0 for _ in range(6)]
    with lab.client.load(lab.client.compile(_with_constants(lab, arrays)), lab.device) as program:
        for turn in range(3):
            x = lab.values()
            for index, got in enumerate(lab.run(program, x)):
                equal(got, x + arrays[index], f"constant {index}, turn {turn}")


def equal_constants(lab: Lab) -> None:
    """Constants with equal contents, and of one element, are each where they belong."""
    one, two = lab.full(1), lab.full(2)
    arrays = [one, two, one.copy(), two.copy()]
    with lab.client.load(lab.client.compile(_with_constants(lab, arrays)), lab.device) as program:
        x = lab.values()
        for index, got in enumerate(lab.run(program, x)):
            equal(got, x + arrays[index], f"constant {index}")


def shared(lab: Lab) -> None:
    """A program that shares constants takes the equal ones, and outlives the other."""
    same, mine, theirs = lab.values(512), lab.values(512), lab.values(512)
    first_made = lab.client.compile(_with_constants(lab, [same, mine]))
    second_made = lab.client.compile(_with_constants(lab, [theirs, same, mine]))
    x = lab.values(512)
    for first_goes in (True, False):
        first = lab.client.load(first_made, lab.device)
        second = lab.client.load(second_made, lab.device, share=first)
        for turn in range(2):
            for index, got in enumerate(lab.run(first, x)):
                equal(got, x + [same, mine][index], f"constant {index} of the first program")
            for index, got in enumerate(lab.run(second, x)):
                wanted = x + [theirs, same, mine][index]
                equal(got, wanted, f"constant {index} of the program that shares, turn {turn}")
        gone, kept = (first, second) if first_goes else (second, first)
        gone.delete()
        del gone
        lab.device.memory_stats()  # a moment at which what nobody uses is given back
        hogs = [lab.upload(b"\xff" * 2048) for _ in range(4)]
        arrays = [theirs, same, mine] if first_goes else [same, mine]
        for index, got in enumerate(lab.run(kept, x)):
            equal(got, x + arrays[index], f"constant {index} when the other program is gone")
        for buffer in hogs:
            buffer.delete()
        kept.delete()
        del first, second, kept


def shared_chain(lab: Lab) -> None:
    """Constants shared on and on survive every program that had them before."""
    arrays = [lab.values(256) for _ in range(3)]
    made = lab.client.compile(_with_constants(lab, arrays))
    before = lab.device.memory_stats().in_use
    program = lab.client.load(made, lab.device)
    x = lab.values(256)
    for turn in range(5):
        following = lab.client.load(made, lab.device, share=program)
        program.delete()
        program = following
        lab.device.memory_stats()
        for index, got in enumerate(lab.run(program, x)):
            equal(got, x + arrays[index], f"constant {index} after {turn + 1} hand-overs")
    program.delete()
    del program, following
    equal(lab.device.memory_stats().in_use, before, "in_use when the last of them is gone")


def large_constant(lab: Lab) -> None:
    """A constant of several chunks arrives whole."""
    count = (1 << 20) // lab.format.nbytes(1) * 2 + 3
    lab.demand(lab.format.nbytes(count))
    array = lab.values(count)
    with lab.client.load(lab.client.compile(_with_constants(lab, [array])), lab.device) as program:
        x = lab.full(1, count)
        equal(lab.run(program, x)[0], x + array, "sum with a constant of 2 MiB")


# -- bindings ------------------------------------------------------------------------------------


def binding(lab: Lab) -> None:
    """A binding runs on its buffers as they are now, however often, blocking or not."""
    with lab.program() as program:
        bound = program.bind()
        x, y = lab.device.empty(lab.format, (64,)), lab.put(lab.full(1))
        bound.bind_input("x0", x)
        bound.bind_input("x1", y)
        for turn in range(6):
            values = lab.values()
            x.copy_from_host(values)
            out = bound.run().outputs[0]
            equal(lab.array_of(out), values + lab.full(1), f"run {turn} of a binding")
        y.copy_from_host(lab.full(2))
        x.fill(bytes(lab.format.nbytes(1)))
        equal(lab.array_of(bound.run().outputs[0]), lab.full(2), "after another operand changed")
        mine = lab.device.empty(lab.format, (64,))
        name = program.outputs[0].name
        bound.bind_output(name, mine)
        bound.bind_input("x0", lab.full(5))
        bound.run()
        equal(lab.array_of(mine), lab.full(7), "an output that was bound")
        with raises(NotFound, "an input that the program lacks"):
            bound.bind_input("nobody", x)
        del bound, out


# -- files ---------------------------------------------------------------------------------------


def saved(lab: Lab) -> None:
    """A program written to a file and read back gives the same bits, with its constants."""
    arrays = [lab.values(100), lab.values(100)]
    made = lab.client.compile(_with_constants(lab, arrays))
    x = lab.values(100)
    with lab.client.load(made, lab.device) as program:
        wanted = [got.tobytes() for got in lab.run(program, x)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "program.accel"
        made.save(path)
        again = open_program(path.read_bytes())
        _same_program(made, again)
        for source in (path, path.read_bytes(), again):
            with lab.client.load(source, lab.device) as program:
                got = [array.tobytes() for array in lab.run(program, x)]
                equal(got, wanted, "results of the program from a file")
        data = bytearray(path.read_bytes())
        data[-1] ^= 0x55
        data[len(data) // 2] ^= 0x55
        with raises((DataLoss, IncompatibleProgram), "load of a damaged file"):
            lab.client.load(bytes(data), lab.device)


def _same_program(made: Executable, again: Executable) -> None:
    equal(again.fingerprint, made.fingerprint, "fingerprint from the file")
    for field in ("inputs", "outputs", "target", "backend", "backend_version", "aliases"):
        equal(getattr(again.header, field), getattr(made.header, field), f"{field} from the file")
    before, after = (dict(one.header.target_options) for one in (made, again))
    equal(after, before, "compile options from the file")
    before, after = (dict(one.header.attributes) for one in (made, again))
    equal(after, before, "attributes from the file")


def compatibility(lab: Lab) -> None:
    """A program is judged from its header alone, in four states, and refused before loading."""
    made = lab.compiled()
    target = lab.device.target.name
    header = made.header
    equal(lab.client.check(made, target), Compatibility.OPTIMAL, "its own program")
    for what, changed, accepted in (
        ("another backend", replace(header, backend="nobody"), (Compatibility.NOT_APPLICABLE,)),
        (
            "another target",
            replace(header, target="nowhere"),
            (Compatibility.UNSUPPORTED, Compatibility.NOT_APPLICABLE),
        ),
        (
            "another version",
            replace(header, backend_version="0.0.0-other"),
            (Compatibility.UNSUPPORTED, Compatibility.PREFER_RECOMPILE),
        ),
    ):
        found = lab.client.check(changed, target)
        check(found in accepted, f"a program of {what} is {found}, not {accepted[0]}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "program.accel"
        made.save(path)
        equal(lab.client.check(path, target), Compatibility.OPTIMAL, "its own file")


def compiled_twice(lab: Lab) -> None:
    """Compiling one graph twice gives the same program; another graph gives another."""
    first, second = lab.compiled(), lab.compiled()
    equal(first.fingerprint, second.fingerprint, "fingerprint")
    codes = [[part.program.code for part in made.parts] for made in (first, second)]
    equal(codes[0], codes[1], "code")
    one, two = (lab.client.compile(_with_constants(lab, [lab.full(v)])) for v in (1, 2))
    check(one.fingerprint != two.fingerprint, "other constants give another fingerprint")
    check(first.fingerprint != lab.compiled(count=65).fingerprint, "so does another shape")


def loaded_twice(lab: Lab) -> None:
    """One executable loaded twice is two programs, each with a life of its own."""
    made = lab.compiled()
    first, second = (lab.client.load(made, lab.device) for _ in range(2))
    equal(lab.run(first, lab.full(1), lab.full(2))[0], lab.full(3), "the first")
    first.delete()
    del first
    lab.device.memory_stats()
    equal(lab.run(second, lab.full(2), lab.full(3))[0], lab.full(5), "the second, alone")
    second.delete()


def moved_bits(lab: Lab) -> None:
    """A program that only moves data moves every bit pattern, whatever it would mean."""
    kind = TensorType(UINT8, (16, 16))
    data = np.arange(256, dtype=np.uint8).reshape(16, 16)
    with lab.build([kind], lambda make, x: make.op("Transpose", x, perm=(1, 0))) as program:
        equal(lab.run(program, data)[0], data.T, "all 256 bytes, transposed")


def zero_sized(lab: Lab) -> None:
    """Programs on tensors without elements run, and so do scalars."""
    for shape in ((0,), (0, 3), ()):
        kind = TensorType(lab.format, shape)
        with lab.build([kind, kind], lambda make, x, y: make.op("Add", x, y)) as program:
            x = lab.values(math.prod(shape)).reshape(shape)
            (got,) = lab.run(program, x, x)
            equal(got.shape, shape, "shape of the result")
            equal(got, x + x, f"sum of {shape}")
