"""Sessions over the bundled plugins: arrays in, arrays out, and every mistake explained."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import accelsdk
from accelsdk.errors import (
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    ModelError,
    NotFound,
    UnsupportedGraph,
)


def model(shape=("n", 4), op="Add", element=TensorProto.FLOAT, opset=21):
    a, b, c = (helper.make_tensor_value_info(name, element, shape) for name in "abc")
    nodes = [helper.make_node(op, ["a", "b"], ["c"], name="only")]
    graph = helper.make_graph(nodes, "g", [a, b], [c])
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()


@pytest.fixture(scope="module", params=["reference_cpu", "sim_card"])
def client(request):
    with accelsdk.connect(request.param) as made:
        yield made


@pytest.fixture
def session(client):
    with accelsdk.InferenceSession(model(), client) as made:
        yield made


def ones(n, dtype=np.float32):
    return np.ones((n, 4), dtype)


def test_run_gives_the_sum(session):
    for n in (1, 3, 2, 3, 3):
        (c,) = session.run(None, {"a": ones(n), "b": 2 * ones(n)})
        assert c.dtype == np.float32
        assert c.tolist() == (3 * ones(n)).tolist()


def test_results_belong_to_the_caller(session):
    (first,) = session.run(None, {"a": ones(1), "b": ones(1)})
    session.run(None, {"a": 5 * ones(1), "b": ones(1)})
    assert first.tolist() == [[2.0] * 4]


def test_inputs_and_outputs_are_described_as_by_onnxruntime(session):
    ort = pytest.importorskip("onnxruntime")
    theirs = ort.InferenceSession(model())
    for mine, other in (
        (session.get_inputs(), theirs.get_inputs()),
        (session.get_outputs(), theirs.get_outputs()),
    ):
        assert [(a.name, a.shape, a.type) for a in mine] == [
            (a.name, a.shape, a.type) for a in other
        ]


@pytest.mark.parametrize(
    "element", ["FLOAT16", "DOUBLE", "BFLOAT16", "INT32", "UINT8", "FLOAT8E4M3FN"]
)
def test_types_are_spelled_as_by_onnxruntime(client, element):
    ort = pytest.importorskip("onnxruntime")
    made = model((2,), "Identity", getattr(TensorProto, element))
    made = onnx.load_from_string(made)
    del made.graph.node[0].input[1]
    made = made.SerializeToString()
    theirs = ort.InferenceSession(made).get_inputs()[0].type
    with accelsdk.InferenceSession(made, client) as session:
        assert session.get_inputs()[0].type == theirs


def test_outputs_by_name(session):
    assert len(session.run(["c", "c"], {"a": ones(1), "b": ones(1)})) == 2
    with pytest.raises(InvalidArgument, match=r"no output 'd' \(the model gives c\)"):
        session.run(["d"], {"a": ones(1), "b": ones(1)})


@pytest.mark.parametrize(
    ("feeds", "says"),
    [
        ({"a": ones(1)}, r"input 'b' is missing \(the model takes a: float32\[n,4\], b: "),
        ({"a": ones(1), "b": ones(1), "q": ones(1)}, "no input 'q'"),
        ({"a": ones(1), "b": ones(1, np.float64)}, r"feed 'b' is float64\[1,4\]; the model takes"),
        ({"a": ones(1), "b": np.ones((1, 5), np.float32)}, r"'b' is float32\[1,5\]"),
        ({"a": ones(1), "b": np.ones(4, np.float32)}, r"'b' is float32\[4\]"),
    ],
)
def test_wrong_feeds_are_named(session, feeds, says):
    with pytest.raises(InvalidArgument, match=says):
        session.run(None, feeds)


def test_fixed_shapes_compile_at_once(client):
    with accelsdk.InferenceSession(model((2, 4)), client) as session:
        assert session.run(None, {"a": ones(2), "b": ones(2)})[0].shape == (2, 4)


def test_input_shapes_compile_at_once(client):
    shapes = {"a": (2, 4), "b": (2, 4)}
    with accelsdk.InferenceSession(model(), client, input_shapes=shapes) as session:
        assert session.run(None, {"a": ones(2), "b": ones(2)})[0].shape == (2, 4)
    with pytest.raises(InvalidArgument, match="open dimensions"):
        accelsdk.InferenceSession(model(), client, input_shapes={"a": (2, 4)})


def test_a_compiled_program_runs_and_refuses_other_shapes(client, tmp_path):
    program = client.compile(model(), input_shapes={"a": (2, 4), "b": (2, 4)})
    program.save(tmp_path / "add.accel")
    feeds = {"a": ones(2), "b": ones(2)}
    for source in (tmp_path / "add.accel", (tmp_path / "add.accel").read_bytes(), program):
        with accelsdk.InferenceSession(source, client) as session:
            assert session.run(None, feeds)[0].tolist() == (2 * ones(2)).tolist()
    with (
        accelsdk.InferenceSession(tmp_path / "add.accel", client) as session,
        pytest.raises(InvalidArgument, match=r"the model takes a: float32\[2,4\]"),
    ):
        session.run(None, {"a": ones(3), "b": ones(3)})


def test_one_executable_stands_for_a_family(client):
    program = client.compile(model(), input_shapes={"a": (2, 4), "b": (2, 4)})
    other = program.specialise({"a": (3, 4), "b": (3, 4)})
    assert other is program.specialise({"a": (3, 4), "b": (3, 4)})
    types = [spec.type for spec in other.inputs]
    assert [str(t) for t in program.output_types(types)] == ["float32[3,4]"]


def test_a_saved_program_has_one_member(client, tmp_path):
    client.compile(model((2, 4))).save(tmp_path / "add.accel")
    program = accelsdk.open_program(tmp_path / "add.accel")
    with pytest.raises(FailedPrecondition, match=r"compiled for a: float32\[2,4\]"):
        program.specialise({"a": (3, 4), "b": (3, 4)})


def test_memory_is_given_back(client):
    device = client.device(0)
    before = device.memory_stats().in_use
    with accelsdk.InferenceSession(model(), client) as session:
        for n in range(1, 12):
            session.run(None, {"a": ones(n), "b": ones(n)})
    assert device.memory_stats().in_use == before


def test_a_session_survives_trimming(client, session):
    for _ in range(3):
        assert session.run(None, {"a": ones(1), "b": ones(1)})[0].tolist() == [[2.0] * 4]
        client.device(0).trim()


def test_a_session_survives_a_reset(client):
    with accelsdk.InferenceSession(model(), client, device=0) as session:
        session.run(None, {"a": ones(1), "b": ones(1)})
        client.device(0).reset()
        assert session.run(None, {"a": ones(1), "b": ones(1)})[0].tolist() == [[2.0] * 4]


@pytest.mark.parametrize("backend", ["reference_cpu", "sim_card"])
def test_a_session_of_its_own_client(backend, tmp_path):
    (tmp_path / "add.onnx").write_bytes(model())
    with accelsdk.InferenceSession(tmp_path / "add.onnx", backend=backend) as session:
        assert session.run(None, {"a": ones(1), "b": ones(1)})[0].tolist() == [[2.0] * 4]


# -- mistakes ------------------------------------------------------------------------------


def test_missing_corrupt_and_unsupported_models(client, tmp_path):
    with pytest.raises(NotFound, match=r"absent\.onnx"):
        accelsdk.InferenceSession(tmp_path / "absent.onnx", client)
    with pytest.raises(ModelError):
        accelsdk.InferenceSession(model()[:40], client)
    with pytest.raises(UnsupportedGraph, match=r"only.*Nonsense|Nonsense.*only"):
        accelsdk.InferenceSession(model((2, 4), "Nonsense", opset=23), client)


def test_a_truncated_program_is_data_loss(client, tmp_path):
    client.compile(model((2, 4))).save(tmp_path / "p")
    with pytest.raises(DataLoss):
        accelsdk.InferenceSession((tmp_path / "p").read_bytes()[:-1], client)


def test_an_unknown_device_lists_the_devices(client):
    with pytest.raises(NotFound, match=r"no device 99 .*devices: 0 \("):
        accelsdk.InferenceSession(model(), client, device=99)


@pytest.mark.parametrize("feeds", [None, 3, [np.ones(4, np.float32)] * 2])
def test_feeds_that_are_no_mapping(feeds):
    with (
        accelsdk.InferenceSession(model((4,))) as session,
        pytest.raises(InvalidArgument, match="dict"),
    ):
        session.run(None, feeds)


def test_a_feed_that_is_no_array_is_named():
    array = np.ones(4, np.float32)
    with accelsdk.InferenceSession(model((4,))) as session:
        with pytest.raises(InvalidArgument, match=r"feed 'b' cannot be made an array"):
            session.run(None, {"a": array, "b": [[1], [2, 3]]})
        assert session.run(None, {"a": array, "b": array})[0].tolist() == [2] * 4


@pytest.mark.parametrize("source", [None, 3, ["model.onnx"]])
def test_what_is_no_model(source):
    with pytest.raises(InvalidArgument, match="cannot be read from"):
        accelsdk.InferenceSession(source)


def test_a_closed_session_stays_closed_even_if_its_client_is_open():
    array = np.ones(4, np.float32)
    with accelsdk.connect("reference_cpu") as client:
        session = accelsdk.InferenceSession(model((4,)), client)
        session.run(None, {"a": array, "b": array})
        session.close()
        with pytest.raises(FailedPrecondition, match="session is closed"):
            session.run(None, {"a": array, "b": array})


@pytest.mark.parametrize(("shapes", "named"), [({"q": (4,)}, "'q'"), ({"a": 4}, "'a'")])
def test_wrong_input_shapes_are_named(shapes, named):
    with pytest.raises(InvalidArgument, match=named):
        accelsdk.InferenceSession(model((4,)), input_shapes=shapes)
