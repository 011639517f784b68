"""What the tests of the simulated card share: options, constants in memory, one-node runs."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest

from accelsdk.backend.driver import View
from accelsdk.backend.program import ConstantSpec, PackedConstant
from accelsdk.formats import Format
from accelsdk.graph.graph import Graph
from accelsdk.graph.rewrite import Builder
from accelsdk.graph.types import TensorType
from accelsdk.numerics import codec
from accelsdk_sim_card.backend import SimCard


class Packer:
    """Keeps packed constants in memory."""

    def __init__(self):
        self.kept = []

    def graph_constant(self, constant):
        data = codec.to_bytes(constant.array(), constant.value.format)
        spec = ConstantSpec(
            name=constant.name,
            nbytes=len(data),
            digest=constant.digest(),
            type=constant.value.type,
        )
        self.kept.append(PackedConstant(spec=spec, read=lambda: iter([data])))
        return spec


class Rig:
    """A backend with its cards open, and the shortest ways to use them."""

    def __init__(self, **given):
        self.backend = SimCard()
        self.options = self.backend.info.resolve({"profile": "test", **given})
        self.target = self.backend.targets(self.options)[0]
        self.devices = self.backend.enumerate_devices(self.options).devices
        self.drivers = {}

    def card(self, ordinal=0):
        if ordinal not in self.drivers:
            self.drivers[ordinal] = self.backend.open(self.devices[ordinal], self.options)
        return self.drivers[ordinal]

    def view(self, array_or_nbytes, ordinal=0, kind: TensorType | None = None):
        driver = self.card(ordinal)
        if isinstance(array_or_nbytes, int):
            nbytes, data = array_or_nbytes, None
        else:
            kind = kind or TensorType(_format(array_or_nbytes), tuple(np.shape(array_or_nbytes)))
            data = codec.to_bytes(np.ascontiguousarray(array_or_nbytes), kind.format)
            nbytes = len(data)
        handle = driver.allocate(max(nbytes, 1), "device", 64)
        view = View(handle, 0, nbytes, kind, nbytes)
        if data is not None and nbytes:
            driver.write(view, data)
        return view

    def bytes(self, view, ordinal=0):
        out = np.zeros(view.nbytes, np.uint8)
        self.card(ordinal).read(view, out.data)
        return out

    def compile(self, graph):
        packer = Packer()
        program = self.backend.compile(graph, self.target, self.options, packer)
        return program, packer.kept

    def load(self, graph, ordinal=0):
        program, kept = self.compile(graph)
        return self.card(ordinal).load(program, iter(kept))

    def run(self, graph, feeds: Sequence, ordinal=0):
        """Runs a graph and returns its outputs as arrays."""
        driver = self.card(ordinal)
        loaded = self.load(graph, ordinal)
        inputs = [
            self.view(np.asarray(feed), ordinal, value.type)
            for feed, value in zip(feeds, graph.inputs, strict=True)
        ]
        outputs = [self.view(v.type.nbytes, ordinal, v.type) for v in graph.outputs]
        driver.execute(loaded, inputs, outputs)
        found = [
            codec.from_bytes(self.bytes(view, ordinal), view.type.format, view.type.shape)
            for view in outputs
        ]
        driver.unload(loaded)
        for view in (*inputs, *outputs):
            driver.free(view.handle)
        return found

    def op(self, op: str, *arrays, formats: Sequence[Format] = (), outputs=1, **attributes):
        """Runs one op on arrays (None: left out) and returns its outputs."""
        graph = one_op(op, *arrays, formats=formats, outputs=outputs, **attributes)
        return self.run(graph, [array for array in arrays if array is not None])

    def close(self):
        for driver in self.drivers.values():
            driver.close()


def _format(array):
    from accelsdk.formats import from_dtype

    return from_dtype(np.asarray(array).dtype)


def one_op(op, *arrays, formats=(), outputs=1, **attributes):
    """Returns a graph of one node whose inputs are like ``arrays``."""
    build = Builder()
    values = []
    for index, array in enumerate(arrays):
        if array is None:
            values.append(None)
            continue
        given = formats[index] if index < len(formats) else None
        fmt = given or _format(array)
        values.append(build.input(f"x{index}", fmt, np.shape(array)))
    made = build.op(op, *values, outputs=outputs, **attributes)
    results = made if isinstance(made, tuple) else (made,)
    return Graph(
        inputs=tuple(value for value in values if value is not None),
        outputs=tuple(value for value in results if value is not None),
        constants=build.constants,
        nodes=tuple(build.nodes),
    )


@pytest.fixture
def rigs() -> Iterator:
    """Makes rigs with the given options; closes their cards at the end."""
    made = []

    def make(**given):
        made.append(Rig(**given))
        return made[-1]

    yield make
    for rig in made:
        rig.close()


@pytest.fixture
def rig(rigs):
    """A sound rig."""
    return rigs()


@pytest.fixture
def graphs():
    """The builder of one-op graphs."""
    return one_op


@pytest.fixture
def rename():
    """Gives a graph another name."""
    return lambda graph, name: replace(graph, name=name)
