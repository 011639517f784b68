"""Models of older opsets whose nodes onnx cannot all convert at once."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser
from onnx.reference import ReferenceEvaluator

from accelsdk.compiler import importer, pipeline
from accelsdk.errors import ModelError, UnsupportedGraph
from accelsdk.kernels.api import evaluate

#: A node that onnx has no schema for, so that nothing behind it has a shape.
_UNKNOWN = helper.make_node("Gelu", ["x"], ["u"], "unknown", domain="com.microsoft")


def _model(nodes, opset, initializers=(), shape=(2, 3, 4)):
    outputs = [onnx.ValueInfoProto(name=nodes[-1].output[0])]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "g", [x], outputs, initializers)
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def _floats(*shape):
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(
    ("opset", "op", "initializers", "attributes"),
    [
        (6, "Gemm", {"w": _floats(4, 5), "c": _floats(5)}, {"broadcast": 1}),
        (6, "Add", {"w": _floats(3)}, {"broadcast": 1, "axis": 0}),
        (7, "Softmax", {}, {"axis": 0}),
        (7, "Clip", {}, {"min": -0.5, "max": 0.5}),
        (9, "Upsample", {"w": np.float32([1, 1, 2, 2])}, {}),
        (11, "ReduceSum", {}, {"axes": [1]}),
        (11, "Unsqueeze", {}, {"axes": [0, -1]}),
        (11, "Split", {}, {"axis": 1}),
    ],
)
def test_a_node_behind_an_unknown_one_is_upgraded_by_itself(opset, op, initializers, attributes):
    """The same node converted by onnx in a model where every type is known."""
    shape = {"Gemm": (3, 4), "Add": (3, 4), "Upsample": (1, 2, 3, 4)}.get(op, (2, 3, 4))
    held = [numpy_helper.from_array(a, n) for n, a in initializers.items()]
    relu = helper.make_node("Relu", ["x"], ["u"])
    skipped = helper.make_node("SimplifiedLayerNormalization", ["x", "one"], ["s"])
    one = numpy_helper.from_array(np.ones(shape[-1], np.float32), "one")
    node = helper.make_node(op, ["u", *initializers], ["y"], "old", **attributes)
    mixed = _model([relu, skipped, node], opset, [*held, one], shape)
    found = pipeline.to_core(mixed)
    expected = pipeline.to_core(_model([relu, node], opset, held, shape))
    feeds = {"x": _floats(*shape)}
    np.testing.assert_array_equal(evaluate(found, feeds)["y"], evaluate(expected, feeds)["y"])
    made = importer.read(mixed).nodes[2:]
    assert all(node.origin == ("old",) for node in made)


def test_results_keep_their_names():
    softmax = helper.make_node("Softmax", ["u"], ["y"], "old", axis=1)
    skipped = helper.make_node("SimplifiedLayerNormalization", ["x", "one"], ["s"])
    one = numpy_helper.from_array(np.ones(4, np.float32), "one")
    relu = helper.make_node("Relu", ["x"], ["u"])
    graph = importer.read(_model([relu, skipped, softmax], 11, [one]))
    assert [value.name for value in graph.outputs] == ["y"]
    assert [node.op for node in graph.nodes] == [
        *("Relu", "SimplifiedLayerNormalization", "Softmax"),
    ]


@pytest.mark.parametrize("kind", ["f2", "f4", "f8"])
@pytest.mark.parametrize("attributes", [{}, {"min": 0.0}, {"max": 0.0}], ids=["none", "min", "max"])
@pytest.mark.parametrize("alone", [False, True], ids=["converted", "upgraded"])
def test_bounds_that_an_old_clip_leaves_out_are_those_of_float32(kind, attributes, alone):
    """The schema of opset 6 says so; onnxruntime and onnx's evaluator agree."""
    x = np.array([-np.inf, -6e4, -1, 1, 6e4, np.inf, np.nan, 0], kind)
    clip = helper.make_node("Clip", ["x"], ["y"], **attributes)
    one = numpy_helper.from_array(np.ones(4, np.float32), "one")
    skipped = helper.make_node("SimplifiedLayerNormalization", ["one", "one"], ["s"])
    old, mixed = _model([clip], 9, shape=x.shape), _model([skipped, clip], 9, [one], x.shape)
    for model in (old, mixed):
        model.graph.input[0].type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(x.dtype)
    with np.errstate(over="ignore"):
        (expected,) = ReferenceEvaluator(old).run(None, {"x": x})
    found = evaluate(pipeline.to_core(mixed if alone else old), {"x": x})["y"]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Hardmax"])
@pytest.mark.parametrize("shape", [(2, 3, 4), (0, 3, 4), (0, 0, 2), (2, 3, 0)])
def test_rows_of_old_opsets_are_all_later_axes(op, shape):
    model = _model([helper.make_node(op, ["x"], ["y"])], 11, (), shape)
    x = _floats(*shape)
    found = evaluate(pipeline.to_core(model), {"x": x})["y"]
    rows = x.reshape(shape[0], shape[1] * shape[2])
    newer = _model([helper.make_node(op, ["x"], ["y"], axis=-1)], 23, (), rows.shape)
    expected = evaluate(pipeline.to_core(newer), {"x": rows})["y"]
    np.testing.assert_array_equal(found, expected.reshape(shape))


def test_own_functions_of_an_older_opset_are_upgraded():
    source = parser.parse_model(
        """
        <ir_version: 8, opset_import: ["" : 24, "own" : 1]>
        g (float[2,3] x) => (float[2,1,3] y) { y = own.lifted(x) }
        <domain: "own", opset_import: ["" : 11]>
        lifted (a) => (b) { b = Unsqueeze<axes = [1]>(a) }
        """
    )
    x = _floats(2, 3)
    np.testing.assert_array_equal(evaluate(pipeline.to_core(source), {"x": x})["y"], x[:, None])


def test_what_cannot_be_upgraded_is_named():
    skipped = helper.make_node("SimplifiedLayerNormalization", ["x", "one"], ["s"])
    one = numpy_helper.from_array(np.ones(4, np.float32), "one")
    odd = helper.make_node("Upsample", ["x", "x"], ["y"], "odd", mode="cubic")
    with pytest.raises((ModelError, UnsupportedGraph), match="odd"):
        pipeline.to_core(_model([skipped, odd], 7, [one]))
