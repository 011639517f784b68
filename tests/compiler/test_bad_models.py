"""Whatever is in a model file, the answer is a graph or one of our errors."""

import contextlib
import functools

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from accelsdk.backend import program_file
from accelsdk.compiler import importer
from accelsdk.errors import AccelError, ModelError, NotFound, UnsupportedGraph


@functools.cache
def _model() -> bytes:
    random = np.random.default_rng(0)
    weights = {
        "w": random.standard_normal((8, 3, 3, 3)),
        "b": random.standard_normal(8),
        "m": random.standard_normal((8 * 36, 10)),
    }
    shape = numpy_helper.from_array(np.array([1, -1], np.int64), "shape")
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("Reshape", ["r", "shape"], ["f"], "flat"),
        helper.make_node("MatMul", ["f", "m"], ["l"], "mm"),
        helper.make_node("Softmax", ["l"], ["y"], "soft", axis=-1),
    ]
    graph = helper.make_graph(
        nodes,
        "cnn",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 10])],
        [
            *(numpy_helper.from_array(a.astype(np.float32), n) for n, a in weights.items()),
            shape,
        ],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return made.SerializeToString()


def test_the_model_itself_is_good():
    assert len(importer.read(_model()).nodes) == 5


@pytest.mark.parametrize("share", np.linspace(0, 0.999, 60).tolist())
def test_truncated(share):
    data = _model()
    with pytest.raises(ModelError):
        importer.read(data[: int(share * len(data))])


def _structure() -> list[int]:
    """Offsets outside the raw weights, where a changed byte changes the meaning."""
    from accelsdk.compiler.importer_wire import split

    data = _model()
    inside = np.zeros(len(data), bool)
    for offset, length in split(memoryview(data)).blobs.values():
        inside[offset : offset + length] = True
    return np.flatnonzero(~inside).tolist()


@pytest.mark.parametrize("seed", range(300))
def test_mutated(seed):
    random = np.random.default_rng(seed)
    data = bytearray(_model())
    places = _structure()
    for _ in range(1 + seed % 4):
        data[places[random.integers(len(places))]] = random.integers(256)
    with contextlib.suppress(AccelError):  # anything else fails the test
        importer.read(bytes(data))


@pytest.mark.parametrize(
    "data",
    [b"", b"not a model", b"\x08\x08", bytes(1000), b"PK\x03\x04" * 20, b"\xff" * 64],
    ids=["empty", "text", "header", "zeros", "zip", "ones"],
)
def test_not_a_model(tmp_path, data):
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    for source in (data, path):
        with pytest.raises(ModelError) as caught:
            importer.read(source)
        assert "\n" not in str(caught.value)
    assert "m.onnx" in str(caught.value)


def test_missing_file_and_directory(tmp_path):
    with pytest.raises(NotFound, match=r"no model file .*nothing\.onnx"):
        importer.read(tmp_path / "nothing.onnx")
    with pytest.raises(ModelError, match="is a directory"):
        importer.read(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.graph.initializer[0].dims.__setitem__(0, 9), "'w' .*takes 972 bytes"),
        (lambda m: setattr(m.graph.initializer[0], "data_type", 8), "element type STRING"),
        (lambda m: setattr(m.graph.node[1], "op_type", ""), "."),
        (lambda m: m.graph.node[1].input.__setitem__(0, "ghost"), "ghost"),
        (lambda m: m.graph.ClearField("output"), "no outputs"),
        (lambda m: setattr(m.graph.output[0], "name", "ghost"), "ghost"),
        (lambda m: m.graph.initializer.append(m.graph.initializer[0]), "'w'"),
        (lambda m: m.graph.node.append(m.graph.node[0]), "'c' is made twice"),
    ],
)
def test_inconsistent(change, words):
    made = onnx.ModelProto.FromString(_model())
    change(made)
    with pytest.raises(AccelError, match=words):
        importer.read(made)


@pytest.mark.parametrize(
    ("op", "domain", "opset"),
    [("Frobnicate", domain, opset) for domain in ("", "com.acme") for opset in (9, 13, 18, 23)]
    + [("Gelu", "", 13)],
)
def test_an_op_without_a_schema_is_named_at_every_opset(op, domain, opset):
    node = helper.make_node(op, ["x"], ["y"], "odd_one", domain=domain)
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [4]) for n in "xy")
    graph = helper.make_graph([node], "odd", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    with pytest.raises(UnsupportedGraph) as caught:
        importer.read(model)
    assert "'odd_one'" in str(caught.value)
    assert op in str(caught.value)
    assert "Assertion" not in str(caught.value)


def test_an_unknown_op_in_a_branch_is_named():
    inner = helper.make_node("Frobnicate", ["x"], ["z"], "inner")
    z = helper.make_tensor_value_info("z", TensorProto.FLOAT, [4])
    body = helper.make_graph([inner], "body", [], [z])
    node = helper.make_node("If", ["c"], ["y"], "choose", then_branch=body, else_branch=body)
    c = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [4]) for n in "xy")
    graph = helper.make_graph([node], "odd", [c, x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    with pytest.raises(UnsupportedGraph, match=r"'inner' \(Frobnicate\)"):
        importer.read(model)


def test_a_compiled_program_is_not_taken_for_a_model():
    with pytest.raises(ModelError, match="compiled program"):
        importer.read(program_file.MAGIC + bytes(100))
