"""Outputs whose size depends on the data: from the model to the arrays of a session."""

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from accelsdk import formats as f
from accelsdk.compiler import pipeline
from accelsdk.errors import GraphError, UnsupportedGraph
from accelsdk.graph.rewrite import Builder
from accelsdk.graph.verify import verify
from accelsdk.kernels.api import evaluate
from accelsdk.runtime.client import connect
from accelsdk.runtime.session import InferenceSession

BACKENDS = ("reference_cpu", "sim_card")


def model_of(nodes, inputs, outputs, initial=()):
    """A model of ``nodes``; inputs are arrays by name, outputs element types by name."""
    infos = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
        )
        for name, array in inputs.items()
    ]
    results = [helper.make_tensor_value_info(n, kind, None) for n, kind in outputs.items()]
    tensors = [numpy_helper.from_array(np.asarray(a), n) for n, a in dict(initial).items()]
    graph = helper.make_graph(nodes, "g", infos, results, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11)


def elsewhere(model, feeds):
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, feeds)


def ours(model, feeds):
    shapes = {name: array.shape for name, array in feeds.items()}
    return list(evaluate(pipeline.to_core(model, input_shapes=shapes), feeds).values())


def agree(model, feeds):
    for found, wanted in zip(ours(model, feeds), elsewhere(model, feeds), strict=True):
        assert found.shape == wanted.shape
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted)


# -- rules against onnxruntime ---------------------------------------------------------------

shapes = st.lists(st.integers(0, 4), min_size=1, max_size=4).map(tuple)


@given(shape=shapes, kind=st.sampled_from([np.float32, np.int64, np.bool_]), seed=st.integers(0))
@settings(max_examples=40)
def test_nonzero(shape, kind, seed):
    x = np.random.default_rng(seed).integers(0, 2, shape).astype(kind)
    model = model_of(
        [helper.make_node("NonZero", ["x"], ["y"])], {"x": x}, {"y": TensorProto.INT64}
    )
    agree(model, {"x": x})


@given(shape=shapes, data=st.data())
@settings(max_examples=60)
def test_compress(shape, data):
    axis = data.draw(st.none() | st.integers(-len(shape), len(shape) - 1))
    extent = int(np.prod(shape)) if axis is None else shape[axis]
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    x = rng.normal(size=shape).astype(np.float32)
    condition = rng.random(data.draw(st.integers(0, extent + 2))) < 0.5
    given_axis = {} if axis is None else {"axis": axis}
    node = helper.make_node("Compress", ["x", "c"], ["y"], **given_axis)
    model = model_of([node], {"x": x, "c": condition}, {"y": TensorProto.FLOAT})
    (found,) = ours(model, {"x": x, "c": condition})
    short = condition[:extent]  # the rest says nothing, and NumPy would refuse it
    np.testing.assert_array_equal(found, np.compress(short, x, axis=axis))
    if condition.size <= extent:
        agree(model, {"x": x, "c": condition})


@given(
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple),
    kind=st.sampled_from([np.float32, np.int64]),
    data=st.data(),
)
@settings(max_examples=60)
def test_unique(shape, kind, data):
    axis = data.draw(st.none() | st.integers(-len(shape), len(shape) - 1))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    x = rng.integers(-1, 2, shape).astype(kind)
    given_axis = {} if axis is None else {"axis": axis}
    names = ["y", "indices", "inverse", "counts"]
    node = helper.make_node(
        "Unique", ["x"], names, sorted=data.draw(st.integers(0, 1)), **given_axis
    )
    element = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    outputs = dict.fromkeys(names, TensorProto.INT64) | {"y": element}
    agree(model_of([node], {"x": x}, outputs), {"x": x})


@pytest.mark.parametrize("rows", [(0, 3), (4, 0), (0, 0)])
def test_unique_of_nothing(rows):
    b = Builder()
    x = b.input("x", f.FLOAT32, rows)
    y, first, inverse, counts = b.op("Unique", x, axis=0, outputs=4)
    graph = b.graph([x], [y, first, inverse, counts])
    found = evaluate(graph, {"x": np.zeros(rows, np.float32)})
    some = min(rows[0], 1)  # rows of nothing are all equal
    assert found[y.name].shape == (some, rows[1])
    assert found[first.name].tolist() == [0] * some
    assert found[inverse.name].tolist() == [0] * rows[0]
    assert found[counts.name].tolist() == [rows[0]] * some


@given(data=st.data())
@settings(max_examples=120)
def test_non_max_suppression(data):
    batches, classes, count = (data.draw(st.integers(1, m)) for m in (2, 3, 12))
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    centred = data.draw(st.integers(0, 1))
    boxes = rng.uniform(0, 3, (batches, count, 4)).astype(np.float32)
    if data.draw(st.booleans()):
        boxes = np.round(boxes)  # areas of 0, equal boxes, quotients on the threshold
    scores = rng.integers(0, 5, (batches, classes, count)).astype(np.float32) / 4
    limits = {
        "most": np.array([data.draw(st.integers(0, 5))]),
        "iou": np.array([data.draw(st.sampled_from([0, 0.25, 1 / 3, 0.5, 1]))], np.float32),
        "score": np.array(data.draw(st.sampled_from([-1, 0, 0.5, 2])), np.float32),
    }
    names = list(limits)[: data.draw(st.integers(0, 3))]
    constants = {name: limits[name] for name in names if name == "most" or data.draw(st.booleans())}
    feeds = {"boxes": boxes, "scores": scores}
    feeds |= {name: limits[name] for name in names if name not in constants}
    node = helper.make_node(
        "NonMaxSuppression", ["boxes", "scores", *names], ["y"], center_point_box=centred
    )
    agree(model_of([node], feeds, {"y": TensorProto.INT64}, constants), feeds)


def test_how_many_boxes_must_be_known():
    feeds = {
        "boxes": np.zeros((1, 2, 4), np.float32),
        "scores": np.zeros((1, 1, 2), np.float32),
        "most": np.array([1]),
    }
    node = helper.make_node("NonMaxSuppression", list(feeds), ["y"])
    with pytest.raises(UnsupportedGraph, match=r"max_output_boxes_per_class .* must be constant"):
        pipeline.to_core(model_of([node], feeds, {"y": TensorProto.INT64}))


# -- what may read them ----------------------------------------------------------------------


@pytest.mark.parametrize("op", ["Neg", "Shape", "Transpose"])
def test_a_reader_is_refused_with_the_reason(op):
    nodes = [
        helper.make_node("NonZero", ["x"], ["n"]),
        helper.make_node("Identity", ["n"], ["same"]),
        helper.make_node(op, ["same"], ["y"], name="reader"),
    ]
    model = model_of(nodes, {"x": np.zeros((2, 2), np.float32)}, {"y": TensorProto.INT64})
    with pytest.raises(UnsupportedGraph, match=rf"'reader' \({op}\).*depends on the data"):
        pipeline.to_core(model)


def test_the_verifier_names_the_rule():
    b = Builder()
    x = b.input("x", f.FLOAT32, (3,))
    found = b.op("NonZero", x)
    verify(b.graph([x], [found]))
    y = b.op("Neg", found)
    with pytest.raises(GraphError, match="depends on the data") as caught:
        verify(b.graph([x], [y]))
    assert caught.value.rule == "bounded-operand"
    assert caught.value.node == "Neg"


def test_the_inverse_of_unique_has_a_fixed_size_and_may_be_read():
    b = Builder()
    x = b.input("x", f.INT64, (5,))
    _, _, inverse, _ = b.op("Unique", x, axis=0, outputs=4)
    graph = b.graph([x], [b.op("Neg", inverse)])
    verify(graph)
    (found,) = evaluate(graph, {"x": np.array([3, 1, 3, 2, 1])}).values()
    assert found.tolist() == [-2, 0, -2, -1, 0]


def test_constant_operands_make_everything_after_them_static():
    nodes = [
        helper.make_node("NonZero", ["w"], ["n"]),
        helper.make_node("Transpose", ["n"], ["rows"]),
        helper.make_node("GatherND", ["x", "rows"], ["y"]),
    ]
    mask = np.eye(70, dtype=np.float32)  # its bound is larger than what is folded otherwise
    x = np.arange(4900, dtype=np.float32).reshape(70, 70)
    model = model_of(nodes, {"x": x}, {"y": TensorProto.FLOAT}, {"w": mask})
    graph = pipeline.to_core(model)
    assert [node.op for node in graph.nodes] == ["GatherND"]
    assert graph.outputs[0].shape == (70,)
    agree(model, {"x": x})


def test_a_constant_result_is_an_output_of_its_real_shape():
    node = helper.make_node("NonZero", ["w"], ["n"])
    model = model_of([node], {}, {"n": TensorProto.INT64}, {"w": np.array([0, 4, 0, 1])})
    graph = pipeline.to_core(model)
    assert graph.outputs[0].shape == (1, 2)


# -- devices ---------------------------------------------------------------------------------


def everything():
    """One graph with every bounded op, a packed format and an output of fixed size."""
    b = Builder()
    x, c = b.input("x", f.FLOAT32, (3, 4)), b.input("c", f.BOOL, (3,))
    q, boxes = b.input("q", f.INT4, (3, 3)), b.input("boxes", f.FLOAT32, (1, 3, 4))
    scores, weight = b.input("scores", f.FLOAT32, (1, 2, 3)), b.constant(np.eye(3), f.FLOAT32)
    outputs = [
        b.op("NonZero", x),
        b.op("Compress", x, c, axis=1),
        b.op("Compress", q, c, axis=0),
        *b.op("Unique", x, outputs=4, axis=0),
        b.op("NonMaxSuppression", boxes, scores, max_output_boxes_per_class=2),
        b.op("NonZero", weight, name="fixed"),
        b.op("Relu", x),
    ]
    return b.graph([x, c, q, boxes, scores], outputs)


def feeds_of(seed):
    rng = np.random.default_rng(seed)
    return {
        "x": rng.integers(-1, 2, (3, 4)).astype(np.float32),
        "c": rng.random(3) < 0.5,
        "q": rng.integers(-8, 8, (3, 3)).astype(f.INT4.dtype),
        "boxes": rng.integers(0, 4, (1, 3, 4)).astype(np.float32),
        "scores": rng.random((1, 2, 3)).astype(np.float32),
    }


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_session_returns_arrays_of_the_real_shape(backend):
    graph = everything()
    sizes = set()
    with InferenceSession(graph, backend) as session:
        for seed in range(6):
            feeds = feeds_of(seed)
            wanted = evaluate(graph, feeds)
            found = session.run(None, feeds)
            for value, array in zip(graph.outputs, found, strict=True):
                assert array.shape == wanted[value.name].shape
                assert array.dtype == wanted[value.name].dtype
                np.testing.assert_array_equal(array, wanted[value.name])
            sizes.add(tuple(array.shape for array in found))
    assert len(sizes) > 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_buffers_keep_the_bound_and_report_the_real_shape(backend):
    b = Builder()
    x = b.input("x", f.FLOAT32, (2, 3))
    graph = b.graph([x], [b.op("NonZero", x), b.op("Neg", x)])
    given_x = np.array([[0, 1, 0], [2, 0, 0]], np.float32)
    with connect(backend) as client:
        executable = client.compile(graph)
        assert [spec.bounded for spec in executable.outputs] == [True, False]
        assert executable.outputs[0].type.shape == (2, 6)
        device = client.device(0)
        with client.load(executable, device) as loaded:
            result = loaded.execute([device.put(given_x)]).wait()
            found, negated = result.outputs
            assert (found.shape, found.valid_shape) == ((2, 6), (2, 2))
            assert found.numpy().tolist() == [[0, 1], [1, 0]]
            assert negated.valid_shape == (2, 3)


def test_exported_outputs_leave_their_extents_open():
    from accelsdk.exchange.export import to_onnx

    b = Builder()
    x = b.input("x", f.FLOAT32, (2, 3))
    model = to_onnx(b.graph([x], [b.op("NonZero", x), b.op("Neg", x)]))
    onnx.checker.check_model(model, full_check=True)
    first, second = (output.type.tensor_type.shape.dim for output in model.graph.output)
    assert [d.HasField("dim_value") for d in first] == [False, False]
    assert [d.dim_value for d in second] == [2, 3]
