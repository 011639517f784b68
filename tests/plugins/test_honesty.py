"""Whatever a backend says it supports must compile and run, alone and as its claims say."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from accelsdk.backend.driver import View
from accelsdk.backend.program import ConstantSpec, PackedConstant
from accelsdk.errors import InvalidArgument
from accelsdk.graph.ops import TABLE
from accelsdk.kernels.api import evaluate
from accelsdk.numerics.codec import to_bytes
from accelsdk_reference_cpu.backend import ReferenceCpu
from accelsdk_sim_card.backend import SimCard
from tests.compiler.partitioning import feeds_of
from tests.graph.strategies import Source, add_node

BACKENDS = {"reference_cpu": (ReferenceCpu(), {}), "sim_card": (SimCard(), {"profile": "test"})}


class Packer:
    """Keeps graph constants in memory."""

    def __init__(self):
        self.kept = []

    def graph_constant(self, constant):
        data = b"".join(bytes(chunk) for chunk in constant.chunks())
        spec = ConstantSpec(
            name=constant.name,
            nbytes=len(data),
            digest=constant.digest(),
            type=constant.value.type,
        )
        self.kept.append(PackedConstant(spec, lambda: iter([memoryview(data)])))
        return spec


def run(backend, given, graph, feeds):
    """Compiles a graph as it is, and runs it; returns the bytes of its outputs."""
    options = backend.info.resolve(given)
    packer = Packer()
    program = backend.compile(graph, backend.targets(options)[0], options, packer)
    driver = backend.open(backend.enumerate_devices(options).devices[0], options)

    def view(kind):
        handle = driver.allocate(max(kind.nbytes, 1), "device", 64)
        return View(handle, 0, kind.nbytes, kind, kind.nbytes)

    loaded = driver.load(program, iter(packer.kept))
    inputs, outputs = ([view(v.type) for v in values] for values in (graph.inputs, graph.outputs))
    for value, where in zip(graph.inputs, inputs, strict=True):
        if where.nbytes:
            driver.write(where, memoryview(to_bytes(feeds[value.name], value.format)))
    driver.execute(loaded, inputs, outputs)
    found = []
    for where in outputs:
        out = bytearray(where.nbytes)
        driver.read(where, memoryview(out))
        found.append(bytes(out))
    driver.close()
    return found


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("op", TABLE)
@given(data=st.data())
@settings(max_examples=6, suppress_health_check=list(HealthCheck))
def test_what_is_supported_compiles_and_runs(op, name, data):
    backend, given = BACKENDS[name]
    source = Source(data.draw)
    results = add_node(source, op)
    graph = source.builder.graph(source.inputs, results)
    target = backend.targets(backend.info.resolve(given))[0]
    feeds = feeds_of(graph)
    try:
        evaluate(graph, feeds)
    except InvalidArgument:
        reject()  # contents that no kernel takes, such as an index that is out of range
    supported = [bool(backend.supports(graph, node, target)) for node in graph.nodes]
    claimed = {n for claim in backend.claim(graph, target) for n in claim.nodes}
    assert claimed == {n.name for n, yes in zip(graph.nodes, supported, strict=True) if yes}
    if all(supported):
        made = run(backend, given, graph, feeds)
        assert [len(out) for out in made] == [v.type.nbytes for v in graph.outputs]
