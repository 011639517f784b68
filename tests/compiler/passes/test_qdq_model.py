"""A quantised network as exporters write it (QDQ), from ONNX to both backends."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import accelsdk
from accelsdk.compiler.pipeline import to_core
from tests.compiler.passes.checks import ops


def qdq_network():
    """Conv, Relu, MaxPool, Transpose, Reshape and MatMul; per-channel int8 weights."""
    random = np.random.default_rng(0)
    nodes, tensors = [], []

    def tensor(array, name):
        name = f"{name}{len(tensors)}"
        tensors.append(numpy_helper.from_array(array, name))
        return name

    def node(op, *inputs, **attributes):
        name = f"{op}_{len(nodes)}"
        nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def quantised(x, scale, zero):
        given = (tensor(np.float32(scale), "s"), tensor(np.uint8(zero), "z"))
        return node("DequantizeLinear", node("QuantizeLinear", x, *given), *given)

    def weights(shape, axis):
        codes = random.integers(-127, 128, shape).astype(np.int8)
        scales = random.uniform(0.002, 0.004, shape[axis]).astype(np.float32)
        given = (tensor(scales, "s"), tensor(np.zeros(shape[axis], np.int8), "z"))
        return node("DequantizeLinear", tensor(codes, "w"), *given, axis=axis), scales

    x = quantised("x", 0.02, 128)
    w, scales = weights((8, 3, 3, 3), 0)
    bias = tensor(random.integers(-900, 900, 8).astype(np.int32), "b")
    steps = tensor(np.float32(0.02) * scales, "s")
    b = node("DequantizeLinear", bias, steps, axis=0)
    y = node("Relu", node("Conv", x, w, b, pads=[1, 1, 1, 1]))
    y = quantised(y, 0.015, 0)
    y = node("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2])
    y = quantised(y, 0.015, 0)
    y = quantised(node("Transpose", y, perm=[0, 2, 3, 1]), 0.015, 0)
    y = quantised(node("Reshape", y, tensor(np.array([16, 8]), "shape")), 0.015, 0)
    w, _ = weights((8, 5), 1)
    y = quantised(node("MatMul", y, w), 0.03, 100)
    interface = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", [1, 3, 8, 8]), (y, [16, 5]))
    ]
    graph = helper.make_graph(nodes, "qdq", interface[:1], interface[1:], tensors)
    opset = [helper.make_opsetid("", 21)]
    return helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString()


def test_all_between_the_ends_is_done_in_integers():
    graph = to_core(qdq_network())
    found = ops(graph)
    assert found[0] == "Quantize"
    assert found[-1] == "Dequantize"
    between = ["ConvInteger", "MatMulInteger", "MaxPool", "Requantize", "Requantize"]
    assert sorted(found[1:-1]) == [*between, "Reshape", "Transpose"]
    made = [v.format.name for n in graph.nodes[:-1] for v in n.outputs if v is not None]
    assert set(made) == {"uint8", "int32"}


@pytest.mark.parametrize("backend", ["reference_cpu", "sim_card"])
def test_results_are_those_of_onnxruntime_but_for_ties(backend):
    onnxruntime = pytest.importorskip("onnxruntime")
    model = qdq_network()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    peer = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(1).uniform(-2.5, 2.5, (1, 3, 8, 8)).astype(np.float32)
    (expected,) = peer.run(None, {"x": x})
    with accelsdk.InferenceSession(model, backend=backend) as session:
        (found,) = session.run(None, {"x": x})
    steps = np.abs(np.rint((found - expected) / np.float32(0.03)))
    # A code of the first layer that a tie moves by one moves a sum by 127 * 0.004 * 0.015.
    assert steps.max() <= 1
    assert steps.mean() < 0.05
