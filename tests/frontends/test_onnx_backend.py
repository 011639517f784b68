"""ONNX's backend interface, and ONNX's own node tests through it on both plugins."""

import numpy as np
import onnx
import pytest
from onnx import helper

from accelsdk.errors import InvalidArgument, NotFound, UnsupportedGraph
from accelsdk.frontends import onnx_backend
from tests.frontends import node_cases, node_page


@pytest.mark.parametrize("plugin", node_cases.PLUGINS)
@pytest.mark.parametrize("name", sorted(node_cases.cases()))
def test_node(name, plugin):
    outcome = node_page.outcome(name, plugin)
    assert outcome.status != "wrong", outcome.reason
    if outcome.status == "refused":
        assert node_page.why(outcome), outcome.reason


def test_the_page_is_what_the_cases_gave():
    assert node_page.PAGE.read_text() == node_page.page(), "run python -m tests.frontends.node_page"


def test_enough_pass():
    for plugin in node_cases.PLUGINS:
        passed = [o for o in node_page.outcomes(plugin) if o.status == "passed"]
        assert len(passed) >= 1500


# -- the interface -----------------------------------------------------------------------------


def _model(*nodes, inputs, outputs, opset=18):
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info(n, t, s) for n, t, s in inputs],
        [helper.make_tensor_value_info(n, t, s) for n, t, s in outputs],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


_RELU = _model(
    helper.make_node("Relu", ["x"], ["y"]),
    inputs=[("x", 1, ["n"])],
    outputs=[("y", 1, ["n"])],
)
_RESHAPE = _model(
    helper.make_node("Reshape", ["x", "shape"], ["y"]),
    inputs=[("x", 1, [2, 3]), ("shape", 7, ["rank"])],
    outputs=[("y", 1, None)],
)


@pytest.mark.parametrize("device", ["CPU", "reference_cpu", "sim_card", "sim_card:5"])
def test_a_model_runs_on_any_device(device):
    x = np.array([-1, 2, -3], np.float32)
    (y,) = onnx_backend.run_model(_RELU, [x], device)
    np.testing.assert_array_equal(y, [0, 2, 0])
    assert onnx_backend.supports_device(device)


@pytest.mark.parametrize("device", ["CUDA", "CUDA:0", "sim_card:6", "sim_card:one"])
def test_what_is_not_here_is_not_supported(device):
    assert not onnx_backend.supports_device(device)


def test_an_unknown_device_is_named():
    with pytest.raises(NotFound, match="CUDA"):
        onnx_backend.prepare(_RELU, "CUDA")


def test_feeds_may_be_a_list_a_dict_one_array_or_protos():
    x = np.array([-1, 2], np.float32)
    rep = onnx_backend.prepare(_RELU)
    for feeds in ([x], (x,), {"x": x}, x, [onnx.numpy_helper.from_array(x)]):
        np.testing.assert_array_equal(rep.run(feeds)[0], [0, 2])


def test_a_prepared_model_takes_other_shapes():
    rep = onnx_backend.prepare(_RELU)
    for extent in (0, 1, 7):
        assert rep.run([np.ones(extent, np.float32)])[0].shape == (extent,)
    assert not rep.static
    assert not rep.folded


def test_an_operand_that_must_be_constant_is_bound_and_others_are_not():
    rep = onnx_backend.prepare(_RESHAPE)
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    for shape in ([6], [3, 2], [1, -1]):
        (y,) = rep.run([x, np.array(shape, np.int64)])
        np.testing.assert_array_equal(y, x.reshape(shape))
    assert rep.static == {"shape"}
    assert not rep.folded


def test_wrong_feeds_are_explained():
    rep = onnx_backend.prepare(_RELU)
    with pytest.raises(InvalidArgument, match="2 inputs given"):
        rep.run([np.ones(1, np.float32)] * 2)
    with pytest.raises(InvalidArgument, match="'x' is missing"):
        rep.run([])
    with pytest.raises(InvalidArgument, match="'x' is a str"):
        rep.run(["one"])


def test_a_node_runs_alone():
    node = helper.make_node("Add", ["a", "b"], ["c"])
    (c,) = onnx_backend.run_node(node, [np.float32([1, 2]), np.float32([3, 4])])
    np.testing.assert_array_equal(c, [4, 6])


def test_a_node_of_an_older_opset_runs_alone():
    node = helper.make_node("Squeeze", ["a"], ["b"], axes=[0])
    (b,) = onnx_backend.run_node(node, [np.ones((1, 3), np.float32)], opset_version=11)
    assert b.shape == (3,)


def test_a_refusal_names_node_and_reason():
    node = helper.make_node("Bernoulli", ["a"], ["b"], name="dice")
    with pytest.raises(UnsupportedGraph, match="dice"):
        onnx_backend.run_node(node, [np.ones(3, np.float32)])
