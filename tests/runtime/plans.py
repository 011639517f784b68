"""Plans to test with: of fakes, made by hand; of a backend that runs one op only."""

from dataclasses import replace

import numpy as np

from accelsdk.backend.backend import Backend, Refusal, refuse
from accelsdk.backend.info import BackendInfo
from accelsdk.backend.program import TensorSpec
from accelsdk.backend.program_plan import Crossing, Outline, Piece
from accelsdk.formats import by_name
from accelsdk.graph.graph import Constant, Graph, Node
from accelsdk.graph.types import TensorType, Value
from accelsdk.registry import registry
from accelsdk.runtime.client import Client
from accelsdk.runtime.plan import CompiledPlan
from accelsdk.runtime.program import CompiledProgram
from tests.runtime.fakes import BYTES, FakeBackend, N, NoConstants, program

FLOAT = by_name("float32")


class OtherFake(FakeBackend):
    """The fakes of another vendor."""

    @property
    def info(self):
        return BackendInfo(name=f"other-{self.kind}", vendor="tests", version="1")


def piece(backend, name, source, target):
    """A program of a fake that reads ``source`` and makes ``target = source + 1``."""
    made = program(backend)
    header = replace(
        made.header,
        inputs=(TensorSpec(name=source, type=BYTES),),
        outputs=(TensorSpec(name=target, type=BYTES),),
    )
    return CompiledProgram(replace(made, header=header), NoConstants(), name=name)


def crossing(name, source, destination, after, before):
    return Crossing(
        value=Value(name, BYTES), source=source, destination=destination, after=after, before=before
    )


class PlanRig:
    """A plan of three fakes' programs, first and last on one vendor's card: ``y = x + 3``.

    The second program's input is an output too, and so is the model's input.
    """

    def __init__(self, kind, other="sync", **settings):
        self.backend, self.there = FakeBackend(kind, **settings), OtherFake(other, **settings)
        self.fallback = Client(self.there)
        self.client = Client(self.backend, fallback=self.fallback)
        self.device, self.elsewhere = self.client.devices[0], self.fallback.devices[0]
        self.behaviour, self.other_behaviour = self.backend.behaviours[0], self.there.behaviours[0]
        self.executable = self.compile()

    def compile(self, source="x", target="y"):
        parts = [
            piece(self.backend, "first", source, "a"),
            piece(self.there, "middle", "a", "b"),
            piece(self.backend, "last", "b", target),
        ]
        outputs = (parts[2].outputs[0], parts[0].outputs[0], parts[0].inputs[0])
        outline = Outline(
            header=replace(parts[0].header, outputs=outputs),
            places=((self.backend.info.name, "fake"), (self.there.info.name, "fake")),
            pieces=tuple(
                Piece(name=part.name, place=place)
                for part, place in zip(parts, (0, 1, 0), strict=True)
            ),
            crossings=(crossing("a", 0, 1, 0, 1), crossing("b", 1, 0, 1, 2)),
        )
        return CompiledPlan(outline, parts)

    def load(self):
        return self.client.load(self.executable, self.device)

    def put(self, value=0):
        return self.device.put(np.full(N, value, np.uint8))

    def close(self):
        for behaviour in (self.behaviour, self.other_behaviour):
            if behaviour.hold is not None:
                behaviour.hold.set()
        self.client.close(timeout=10)
        self.fallback.close(timeout=10)


def reference():
    """The backend that runs everything."""
    return registry().backend("reference_cpu")


def one_op(base):
    """Returns a class of backends like ``base`` that run one op, and refuse all others."""

    class OneOp(type(registry().backend(base))):
        def __init__(self, op="MatMul"):
            super().__init__()
            self.op = op

        @property
        def info(self):
            return replace(super().info, name="one_op")

        def supports(self, graph, node, target):
            if node.op == self.op:
                return super().supports(graph, node, target)
            return refuse(Refusal.OPERATOR, f"only {self.op} is built in, not {node.op}")

        def claim(self, graph, target):
            return Backend.claim(self, graph, target)

        def enumerate_devices(self, options):
            found = super().enumerate_devices(options)
            devices = (replace(d, id=d.id.replace(base, "one_op")) for d in found.devices)
            return replace(found, devices=tuple(devices))

    return OneOp


OneOp = one_op("reference_cpu")


def value(name, *shape):
    return Value(name, TensorType(FLOAT, shape))


def small_model(activation="Tanh"):
    """Two layers, whose hidden values and whose input are outputs too."""
    rng = np.random.default_rng(5)
    weights = [rng.integers(-3, 4, (8, 8)).astype(np.float32) for _ in range(2)]
    w1, w2 = (Constant.of(f"w{i}", weight) for i, weight in enumerate(weights, 1))
    x, a, b, c, y = (value(name, 4, 8) for name in "xabcy")
    nodes = (
        Node("MatMul", (x, w1.value), (a,), name="m1"),
        Node(activation, (a,), (b,), name="t"),
        Node("MatMul", (b, w2.value), (c,), name="m2"),
        Node("Add", (c, a), (y,), name="add"),
    )
    return Graph((x,), (y, a, x, a), (w1, w2), nodes, name="small")
