"""What a plugin says of itself is so, and stays so."""

from __future__ import annotations

import itertools

import numpy as np

from accelsdk.backend.info import Capability, Threading
from accelsdk.backend.optional import HealthState
from accelsdk.errors import NotFound, Unimplemented
from accelsdk.formats import FLOAT32
from accelsdk.graph.types import TensorType
from accelsdk.runtime.executable import ExecuteOptions
from accelsdk_conformance.problem import NotApplicable
from accelsdk_conformance.scenarios.lab import Lab, check, equal, need, raises

_KNOWN = frozenset(Capability)


def undeclared(lab: Lab) -> None:
    """An ability that is not declared raises UNIMPLEMENTED, naming itself; nothing else breaks."""
    buffer = lab.upload(bytes(16))
    missing = _KNOWN - lab.device.capabilities
    if Capability.MAP in missing:
        with raises(Unimplemented, "map() without the capability", "'map'"), buffer.map():
            check(False, "a buffer was mapped")
    if Capability.TELEMETRY in missing:
        with raises(Unimplemented, "telemetry() without the capability", "'telemetry'"):
            lab.device.telemetry()
    if not {Capability.PROFILING, Capability.QUEUES} & lab.device.capabilities:
        with lab.program() as program, raises(Unimplemented, "profile", "'profiling'"):
            x = lab.put(lab.full(1))
            program.execute([x, x], options=ExecuteOptions(profile=True))
    for name in sorted(missing - {Capability.QUEUES}):
        with raises(Unimplemented, f"require({name})", f"'{name}'"):
            lab.device.require(name)
    lab.device.health()  # without the capability it is what the SDK knows
    equal(lab.bytes_of(buffer), bytes(16), "the device beside refused abilities")


def declared(lab: Lab) -> None:
    """What is declared is there as soon as the card is open, and needs no card to be seen."""
    target = next(t for t in lab.client.targets if t.name == lab.device.target.name)
    equal(target.capabilities, lab.device.capabilities, "capabilities of target and device")
    for name in sorted(_KNOWN & lab.device.capabilities):
        lab.device.require(name)
    for value in (target.alignment, target.view_alignment):
        check(value > 0 and value & (value - 1) == 0, f"the alignment {value} is a power of two")
    check(lab.device.info.threading in tuple(Threading), "threading is one of the four")
    if Capability.CANCEL in target.capabilities:
        check(Capability.QUEUES in target.capabilities, "cancel needs queues")


def constant(lab: Lab) -> None:
    """Devices, targets, options and attributes are the same whenever they are asked."""
    backend, options = lab.client.backend, lab.client.options
    first, second = backend.enumerate_devices(options), backend.enumerate_devices(options)
    equal(second.devices, first.devices, "devices, asked twice")
    equal(tuple(d.info for d in lab.client.devices), first.devices, "devices of an open client")
    equal(tuple(backend.targets(options)), lab.client.targets, "targets, asked again")
    equal(backend.info, lab.client.backend.info, "info, asked twice")
    equal(
        backend.datasheet(lab.device.target), backend.datasheet(lab.device.target), "the datasheet"
    )
    before = dict(lab.device.attributes)
    with lab.program() as program:
        lab.run(program, lab.full(1), lab.full(2))
    equal(dict(lab.device.attributes), before, "attributes after work")


def identities(lab: Lab) -> None:
    """Devices have different ids, ordinals from 0 on, a target that exists, and a memory."""
    devices = lab.client.devices
    equal(len({device.id for device in devices}), len(devices), "different ids")
    equal([d.ordinal for d in devices], list(range(len(devices))), "ordinals")
    names = {target.name for target in lab.client.targets}
    equal(len(names), len(lab.client.targets), "different targets")
    for device in devices:
        check(device.info.target in names, f"the target of {device.id} exists")
        check(bool(device.memories), f"{device.id} has a memory")
        check(lab.client.device(device.id) is device, f"{device.id} is found by its id")
        check(lab.client.device(device.ordinal) is device, f"{device.id} is found by position")
    with raises(NotFound, "a device that is not there"):
        lab.client.device("nobody")
    with raises(NotFound, "a target that is not there"):
        lab.client.target("nowhere")


def statistics(lab: Lab) -> None:
    """Memory statistics are consistent on every device, whatever is allocated."""
    sizes = (1, 100, 4096, 65_537)
    for device in lab.client.devices[:3]:
        start = device.memory_stats()
        seen, buffers = start.in_use, []
        for nbytes in sizes:
            buffers.append(lab.raw(nbytes, device))
            now = device.memory_stats()
            check(now.in_use >= seen + nbytes, f"{nbytes} bytes more are in use on {device.id}")
            if now.peak is not None:
                check(now.peak >= now.in_use, "the peak is no less than what is in use")
            seen = now.in_use
        for buffer in reversed(buffers):
            buffer.delete()
            now = device.memory_stats()
            check(now.in_use < seen, f"less is in use after a delete on {device.id}")
            seen = now.in_use
        equal(seen, start.in_use, f"in_use on {device.id} at the end")


def programs_count(lab: Lab) -> None:
    """A loaded program's constants count as memory in use, where the driver counts for itself."""
    own = lab.device.call("memory_stats", lab.device.driver.memory_stats, lab.device.default_memory)
    if own is None:
        raise NotApplicable("the driver does not count")
    kind = TensorType(lab.format, (20_000,))
    array = lab.values(20_000)
    before = lab.device.memory_stats().in_use
    with lab.build([kind], lambda make, x: make.op("Add", x, make.constant(array, lab.format))):
        during = lab.device.memory_stats().in_use
        check(during >= before + kind.nbytes, f"in_use rose by {during - before}")


def profiling(lab: Lab) -> None:
    """A profiled run has every node once, in order, within its own time, and the same result."""
    if not {Capability.PROFILING, Capability.QUEUES} & lab.device.capabilities:
        raise NotApplicable("the target lacks the capability profiling")
    kind = TensorType(lab.format, (5000,))
    with lab.build(
        [kind, kind], lambda make, x, y: make.op("Add", make.op("Add", x, y), y)
    ) as program:
        x, y = lab.put(lab.full(1, 5000)), lab.put(lab.full(2, 5000))
        for turn in range(2):
            result = program.execute([x, y], options=ExecuteOptions(profile=True))
            lab.finish(result.complete)
            equal(lab.array_of(result.outputs[0]), lab.full(5, 5000), "result of a profiled run")
            if not result.profile and Capability.PROFILING not in lab.device.capabilities:
                return
            check(bool(result.profile), f"a profiled run has a profile, turn {turn}")
            for time in result.profile:
                check(time.started <= time.finished, f"{time.node} ends after it starts")
                check(bool(time.op and time.engine), f"{time.node} has an op and an engine")
            for before, after in itertools.pairwise(result.profile):
                check(before.started <= after.started, "nodes are in the order of their start")
            complete = result.complete
            first, last = result.profile[0].started, max(t.finished for t in result.profile)
            if complete.finished:
                check(
                    complete.started <= first and last <= complete.finished,
                    f"nodes from {first} to {last} lie within the run, "
                    f"{complete.started} to {complete.finished}",
                )
        plain = program.execute([x, y])
        lab.finish(plain.complete)
        equal(plain.profile, (), "profile of a run that did not ask for one")


def telemetry(lab: Lab) -> None:
    """Telemetry has names and plain finite values, before, during and after work."""
    need("telemetry", lab)
    with lab.program() as program:
        x = lab.put(lab.full(1))
        keys = set(lab.device.telemetry())
        result = program.execute([x, x])
        during = lab.device.telemetry()
        lab.finish(result.complete)
        for readings in (during, lab.device.telemetry()):
            equal(set(readings), keys, "names of the readings")
            for name, value in readings.items():
                check(isinstance(value, bool | int | float | str), f"{name} is a plain value")
                if isinstance(value, float):
                    check(bool(np.isfinite(value)), f"{name} is finite")


def health(lab: Lab) -> None:
    """A device that works says so, before and after work."""
    for device in lab.client.devices[:3]:
        for _ in range(2):
            state = device.health()
            check(
                state.state in (HealthState.OK, HealthState.DEGRADED),
                f"{device.id} works and says {state.state}: {state.cause}",
            )
            equal(lab.bytes_of(lab.upload(b"\x01", device)), b"\x01", f"a byte on {device.id}")


def peer_paths(lab: Lab) -> None:
    """Whether a direct path exists is a plain answer, the same whenever it is asked."""
    need("peer-copy", lab)
    for other in lab.others:
        answers = [lab.device.driver.can_copy_from(other.info) for _ in range(2)]  # type: ignore[attr-defined] # declared
        check(isinstance(answers[0], bool), f"can_copy_from({other.id}) is a bool")
        equal(answers[1], answers[0], f"can_copy_from({other.id}), asked twice")


def claims(lab: Lab) -> None:
    """What a backend says it supports it compiles and runs; the answer does not change."""
    kind = TensorType(FLOAT32, (8, 8))
    for op, operands in (("Add", 2), ("Relu", 1), ("MatMul", 2), ("Exp", 1), ("Max", 2)):
        graph = lab.graph([kind] * operands, lambda make, *x, op=op: make.op(op, *x))
        node = graph.nodes[0]
        answers = [lab.client.backend.supports(graph, node, lab.device.target) for _ in range(2)]
        equal(answers[1], answers[0], f"supports({op}), asked twice")
        if not answers[0]:
            check(bool(answers[0].text), f"the refusal of {op} says why")
            continue
        with lab.client.load(lab.client.compile(graph), lab.device) as program:
            x = [np.full((8, 8), i + 1, np.float32) for i in range(operands)]
            (got,) = lab.run(program, *x)
            equal(got.shape, (8, 8), f"shape of {op}")
