"""A little vendor: one program, ``y = x + 1`` on uint8, with every misbehaviour on a switch."""

import itertools
import threading
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from accelsdk.backend.backend import NATIVE, Backend
from accelsdk.backend.driver import Driver
from accelsdk.backend.info import BackendInfo, DeviceInfo, Discovery, MemoryInfo, Target, Threading
from accelsdk.backend.optional import (
    Completion,
    Engine,
    Execute,
    Health,
    HealthState,
    NodeTime,
    QueueInfo,
)
from accelsdk.backend.program import ConstantSpec, Program, ProgramHeader, TensorSpec
from accelsdk.errors import Cancelled, OutOfMemory
from accelsdk.formats import by_name
from accelsdk.graph.types import TensorType
from accelsdk.runtime.client import Client
from accelsdk.runtime.program import CompiledProgram
from accelsdk.runtime.worker import run_command

N = 8
BYTES = TensorType(by_name("uint8"), (N,))


@dataclass
class Behaviour:
    """Switches of a fake card, shared with the test."""

    fail: list = field(default_factory=list)  # raised by the next executions, in order
    hold: threading.Event | None = None  # executions wait for it
    calls: list = field(default_factory=list)  # (name, thread name)
    live: dict = field(default_factory=dict)  # handle -> bytes
    overlaps: int = 0  # driver calls that overlapped
    closed: int = 0


class FakeDriver(Driver):
    def __init__(self, info, behaviour, capacity, view_alignment):
        self.info = info
        self.behaviour = behaviour
        self.capacity = capacity
        self.view_alignment = view_alignment
        self._handles = itertools.count(1)
        self._inside = 0
        self._healthy = True

    @contextmanager
    def _call(self, name):
        self.behaviour.calls.append((name, threading.current_thread().name))
        self._inside += 1
        self.behaviour.overlaps += self._inside > 1
        try:
            yield
        finally:
            self._inside -= 1

    def _bytes(self, view):
        assert view.offset % self.view_alignment == 0, "a view that is not aligned"
        memory = self.behaviour.live[view.handle]  # KeyError: use after free
        assert view.offset + view.nbytes <= len(memory)
        return memoryview(memory)[view.offset : view.offset + view.nbytes]

    def allocate(self, nbytes, memory, alignment):
        with self._call("allocate"):
            in_use = sum(map(len, self.behaviour.live.values()))
            if in_use + nbytes > self.capacity:
                raise OutOfMemory(requested=nbytes, in_use=in_use, limit=self.capacity)
            handle = next(self._handles)
            self.behaviour.live[handle] = bytearray(b"\xaa" * nbytes)
            return handle

    def free(self, handle):
        with self._call("free"):
            del self.behaviour.live[handle]

    def write(self, dst, source):
        with self._call("write"):
            self._bytes(dst)[:] = source

    def read(self, src, destination):
        with self._call("read"):
            destination[:] = self._bytes(src)

    def load(self, program, constants, share=None):
        with self._call("load"):
            return {"code": program.code, "constants": [c.tobytes() for c in constants]}

    def unload(self, loaded):
        with self._call("unload"):
            loaded["code"] = None

    def execute(self, loaded, inputs, outputs):
        with self._call("execute"):
            if self.behaviour.hold is not None:
                assert self.behaviour.hold.wait(10)
            if self.behaviour.fail:
                raise self.behaviour.fail.pop(0)
            assert loaded["code"] is not None, "use of an unloaded program"
            x = np.frombuffer(self._bytes(inputs[0]), np.uint8)
            self._bytes(outputs[0])[:] = (x + 1).astype(np.uint8).tobytes()

    def execute_profiled(self, loaded, inputs, outputs):
        shapes = self.execute(loaded, inputs, outputs)
        return shapes, (NodeTime(node="add", op="Add", engine="fake", started=5, finished=9),)

    def close(self):
        with self._call("close"):
            self.behaviour.closed += 1

    def map(self, view):
        @contextmanager
        def mapped():
            yield self._bytes(view)

        return mapped()

    def health(self):
        return Health(state=HealthState.OK if self._healthy else HealthState.FAILED)

    def reset(self):
        with self._call("reset"):
            self.behaviour.live.clear()

    def can_copy_from(self, peer):
        return True

    def copy_from_peer(self, dst, src, peer):
        with self._call("copy_from_peer"):
            self._bytes(dst)[:] = peer._bytes(src)

    def telemetry(self):
        return {"power_w": 5.0}


class Fabric:
    """Outcome of every ticket of one domain: None while outstanding, else (error,)."""

    def __init__(self):
        self.lock = threading.Lock()
        self.tickets = itertools.count(1)
        self.outcome = {}


class QueueDriver(FakeDriver):
    """Native queues: two in-order queues. Eager ones have a thread, others move when polled."""

    def __init__(self, info, behaviour, capacity, view_alignment, progress, fabric):
        super().__init__(info, behaviour, capacity, view_alignment)
        self.progress = progress
        self.fabric = fabric
        self.queues = (
            QueueInfo(name="compute", engines=frozenset({Engine.COMPUTE})),
            QueueInfo(name="copy", engines=frozenset({Engine.COPY})),
        )
        self._pending = [deque(), deque()]
        self._finished = []
        self._changed = threading.Condition()
        self._stop = False
        self._cancelled = set()
        self._clock = itertools.count(1)
        if progress == "eager":
            threading.Thread(target=self._run_forever, name="card", daemon=True).start()

    def submit(self, queue, commands, after):
        with self.fabric.lock:
            ticket = next(self.fabric.tickets)
            assert all(t in self.fabric.outcome for t in after), "an unknown ticket"
            self.fabric.outcome[ticket] = None
        self.behaviour.calls.append(("submit", threading.current_thread().name))
        with self._changed:
            self._pending[queue].append((ticket, tuple(commands), tuple(after)))
            self._changed.notify_all()
        return ticket

    def poll(self, timeout):
        if self.progress == "on_wait":
            self._step()
            done, self._finished = self._finished, []
            return done
        with self._changed:
            if not self._finished:
                self._changed.wait(timeout)
            done, self._finished = self._finished, []
            return done

    def cancel(self, ticket):
        self._cancelled.add(ticket)

    def close(self):
        with self._changed:
            self._stop = True
            self._changed.notify_all()
        super().close()

    def _run_forever(self):
        while not self._stop:
            if not self._step():
                with self._changed:
                    self._changed.wait(0.001)

    def _step(self):
        """Runs the first batch that may run; returns whether there was one."""
        for queue in self._pending:
            with self._changed:
                if not queue:
                    continue
                ticket, commands, after = queue[0]
                outcomes = [self.fabric.outcome[t] for t in after]
                if any(outcome is None for outcome in outcomes):
                    continue
            failed = [outcome[0] for outcome in outcomes if outcome[0] is not None]
            completion = self._run(ticket, commands, failed)
            with self._changed:
                queue.popleft()
                self.fabric.outcome[ticket] = (completion.error,)
                self._finished.append(completion)
                self._changed.notify_all()
            return True
        return False

    def _run(self, ticket, commands, failed):
        started = next(self._clock)
        if failed:
            return Completion(ticket=ticket, error=failed[0])
        profile = ()
        try:
            for command in commands:
                if ticket in self._cancelled:
                    raise Cancelled("cancelled on the card")
                done = run_command(self, command)
                if isinstance(command, Execute) and done is not None:
                    profile = done.profile
        except Exception as error:
            return Completion(ticket=ticket, error=error)
        return Completion(
            ticket=ticket, started=started, finished=next(self._clock), profile=profile
        )


CAPABILITIES = frozenset({"health", "telemetry", "profiling", "peer-copy", "map"})


class FakeBackend(Backend):
    """Two cards. ``kind``: sync, eager or on_wait."""

    def __init__(
        self,
        kind="sync",
        *,
        capabilities=CAPABILITIES,
        threading_=Threading.SERIAL,
        capacity=1 << 16,
        view_alignment=1,
        host_visible=True,
    ):
        self.kind = kind
        native = frozenset() if kind == "sync" else frozenset({"queues", "cancel"})
        self.capabilities = frozenset(capabilities) | native
        self.threading = threading_
        self.capacity = capacity
        self.view_alignment = view_alignment
        self.host_visible = host_visible
        self.behaviours = [Behaviour(), Behaviour()]
        self.fabric = Fabric()

    @property
    def info(self):
        return BackendInfo(name=f"fake-{self.kind}", vendor="tests", version="1")

    def targets(self, options):
        return [
            Target(
                name="fake",
                capabilities=self.capabilities,
                alignment=64,
                view_alignment=self.view_alignment,
            )
        ]

    def enumerate_devices(self, options):
        memory = MemoryInfo(capacity=self.capacity, host_visible=self.host_visible)
        return Discovery(
            devices=tuple(
                DeviceInfo(
                    id=f"fake-{n}",
                    ordinal=n,
                    kind="Fake",
                    target="fake",
                    memories=(memory,),
                    threading=self.threading,
                    ticket_domain="fakes",
                )
                for n in range(len(self.behaviours))
            )
        )

    def supports(self, graph, node, target):
        return NATIVE

    def compile(self, graph, target, options, pack):
        raise NotImplementedError

    def open(self, device, options):
        args = (device, self.behaviours[device.ordinal], self.capacity, self.view_alignment)
        if self.kind == "sync":
            return FakeDriver(*args)
        return QueueDriver(*args, self.kind, self.fabric)


class NoConstants:
    def constants(self, program):
        return iter(())


def program(backend, *, aliases=(), constants: tuple[ConstantSpec, ...] = (), version="1"):
    return Program(
        header=ProgramHeader(
            backend=backend.info.name,
            backend_version=version,
            api_version=(1, 0),
            target="fake",
            graph_digest="d" * 64,
            inputs=(TensorSpec(name="x", type=BYTES),),
            outputs=(TensorSpec(name="y", type=BYTES),),
            aliases=aliases,
        ),
        code=b"increment",
        constants=constants,
    )


class Rig:
    """A client of a fake backend, and what tests want of it."""

    def __init__(self, kind, **settings):
        self.kind = kind
        self.backend = FakeBackend(kind, **settings)
        self.client = Client(self.backend)
        self.device, self.other = self.client.devices
        self.behaviour, self.other_behaviour = self.backend.behaviours

    def load(self, device=None, **settings):
        executable = CompiledProgram(program(self.backend, **settings), NoConstants())
        return self.client.load(executable, device or self.device)

    def put(self, *values, device=None):
        array = np.array(values or range(N), np.uint8)
        return (device or self.device).put(np.resize(array, N))

    def empty(self, device=None):
        return (device or self.device).empty(BYTES)
