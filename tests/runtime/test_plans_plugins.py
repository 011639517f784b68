"""A backend of one op serves a whole model, on cards with queues and without.

The numbers are small integers, so that every card computes the same bits.
"""

import numpy as np
import pytest

import accelsdk
from accelsdk.errors import AccelError, DeviceFault
from accelsdk.formats import by_name
from accelsdk.graph.graph import Graph, Node
from accelsdk.graph.types import TensorType, Value
from accelsdk.runtime.client import Client
from accelsdk.runtime.executable import ExecuteOptions
from tests.runtime.plans import OneOp, one_op, reference, small_model

BLOCK = ExecuteOptions(block=True)


def inputs(seed):
    return np.random.default_rng(seed).integers(-4, 5, (4, 8)).astype(np.float32)


def expected(x):
    w1, w2 = (constant.array() for constant in small_model().constants)
    a = x @ w1
    return [np.maximum(a, 0) @ w2 + a, a, x, a]


@pytest.fixture(params=["reference_cpu", "sim_card"])
def client(request):
    with Client(reference()) as other, Client(one_op(request.param)(), fallback=other) as made:
        yield made


@pytest.fixture
def loaded(client):
    program = client.compile(small_model("Relu"))
    assert {part.header.backend for part in program.parts} == {"one_op", "reference_cpu"}
    return client.load(program)


def check(result, x):
    for buffer, wanted in zip(result.outputs, expected(x), strict=True):
        np.testing.assert_array_equal(buffer.numpy(), wanted)


def test_an_output_without_elements_that_another_part_reads(client):
    x, hidden, y = (Value(name, TensorType(by_name("float32"), (0, 2))) for name in "xhy")
    nodes = (Node("Tanh", (x,), (hidden,), name="t"), Node("Ceil", (hidden,), (y,), name="c"))
    program = client.compile(Graph((x,), (hidden, y), (), nodes))
    client.backend.op = "Ceil"
    cut = client.compile(Graph((x,), (hidden, y), (), nodes))
    assert len(cut.parts) == 2
    for made in (program, cut):
        with client.load(made) as loaded:
            result = loaded.execute([loaded.device.put(np.zeros((0, 2), np.float32))])
            result.wait(10)
            assert [buffer.numpy().shape for buffer in result.outputs] == [(0, 2), (0, 2)]


def test_memory_is_not_taken_before_a_copy_of_nothing_has_had_its_turn():
    """Each copy waits for the one that used the staging memory before, an empty one too."""
    kinds = {"x": (64, 64), "a": (64, 64), "e": (64, 0), "b": (64, 64)}
    x, a, e, b = (Value(n, TensorType(by_name("float32"), kinds[n])) for n in kinds)
    cut = {"starts": (0,), "ends": (0,), "axes": (1,), "steps": (1,)}
    nodes = (
        Node("Neg", (x,), (a,), name="n"),
        Node("Slice", (x,), (e,), cut, name="s"),
        Node("Abs", (a,), (b,), name="p"),
    )
    given = np.arange(4096, dtype=np.float32).reshape(64, 64) / 512
    with Client(one_op("sim_card")(), fallback=Client(reference())) as client:
        loaded = client.load(client.compile(Graph((x,), (a, e, b), (), nodes)))
        for _ in range(20):
            result = loaded.execute([client.device(0).put(given)])
            found = [buffer.numpy() for buffer in result.wait().outputs]
            np.testing.assert_array_equal(found[0], -given)
            np.testing.assert_array_equal(found[2], given)


def test_sessions_and_bindings(client, loaded):
    with accelsdk.InferenceSession(small_model("Relu"), client) as session:
        for seed in range(3):
            got = session.run(None, {"x": inputs(seed)})
            for array, wanted in zip(got, expected(inputs(seed)), strict=True):
                np.testing.assert_array_equal(array, wanted)
    binding = loaded.bind()
    for seed in range(3):
        binding.bind_input("x", inputs(seed))
        check(binding.run(), inputs(seed))


@pytest.mark.parametrize("ordered", [True, False])
def test_streams_with_runs_in_flight(loaded, ordered):
    streams = [loaded.device.create_stream(ordered=ordered) for _ in range(2)]
    runs = []
    for seed in range(8):
        x = loaded.device.put(inputs(seed))
        runs.append(streams[seed % 2].execute(loaded, [x]))
    for seed, run in reversed(list(enumerate(runs))):
        check(run, inputs(seed))


def test_donated_inputs_are_consumed(loaded):
    x = loaded.device.put(inputs(1))
    result = loaded.execute([x], options=ExecuteOptions(donate=True))
    assert x.is_deleted()
    check(result, inputs(1))


def test_a_poisoned_input_poisons_all(loaded):
    bad = loaded.device.poisoned(loaded.inputs[0].type, AccelError("spoilt"))
    result = loaded.execute([bad])
    for buffer in result.outputs:
        with pytest.raises(AccelError, match="spoilt"):
            buffer.numpy()
    check(loaded.execute([loaded.device.put(inputs(2))], options=BLOCK), inputs(2))


def test_a_card_that_is_lost_is_named_with_its_part():
    options = {"fault": "device_loss"}
    with Client(one_op("sim_card")(), options, fallback=Client(reference())) as client:
        loaded = client.load(client.compile(small_model("Relu")))
        x = client.device(0).put(inputs(1))
        with pytest.raises(DeviceFault, match=r"backend one_op.*part small\.0"):
            loaded.execute([x], options=BLOCK)
        with pytest.raises(DeviceFault, match="the device has failed"):
            loaded.execute([x], options=BLOCK)
        assert client.fallback.client.device(0).fault is None


def test_real_shapes_come_through_the_fallback():
    """What depends on the data in size keeps its real shape on its way between devices."""
    x = Value("x", TensorType(by_name("float32"), (4, 8)))
    y = Value("y", TensorType(by_name("int64"), (2, 32)))
    graph = Graph((x,), (y,), (), (Node("NonZero", (x,), (y,), name="n"),))
    with Client(OneOp(), fallback=Client(reference())) as client:
        loaded = client.load(client.compile(graph))
        for seed in range(3):
            result = loaded.execute([client.device(0).put(inputs(seed))])
            np.testing.assert_array_equal(
                result.wait().outputs[0].numpy(), np.array(np.nonzero(inputs(seed)))
            )
