"""Models as onnxruntime's own quantiser makes them, in the opsets that it is given."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from accelsdk.compiler import pipeline
from accelsdk.kernels.api import evaluate
from tests.compiler.rules.microsoft_peer import peer

quantization = pytest.importorskip("onnxruntime.quantization")

RNG = np.random.default_rng(5)


def _reals(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def _model(nodes, initializers, shape, opset):
    graph = helper.make_graph(
        [helper.make_node(op, inputs, [name], name, **node) for op, inputs, name, node in nodes],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(nodes[-1][2], TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in initializers.items()],
    )
    imports = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=imports, ir_version=7)


def convolutions(opset):
    """Every op that the quantiser has an integer form of, in one net."""
    nodes = [
        ("Conv", ["x", "w", "b"], "c1", {"pads": [1] * 4}),
        ("Relu", ["c1"], "r1", {}),
        ("Conv", ["r1", "w2"], "c2", {}),
        ("Sigmoid", ["c2"], "s2", {}),
        ("Mul", ["c2", "s2"], "m2", {}),
        ("Add", ["m2", "r1"], "a", {}),
        ("LeakyRelu", ["a"], "l", {"alpha": 0.1}),
        ("Concat", ["l", "r1"], "cc", {"axis": 1}),
        ("AveragePool", ["cc"], "ap", {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ("MaxPool", ["ap"], "mp", {"kernel_shape": [2, 2], "pads": [0, 0, 1, 1]}),
        ("GlobalAveragePool", ["mp"], "gp", {}),
        ("Reshape", ["gp", "shape"], "f", {}),
        ("Gemm", ["f", "fc", "fb"], "g", {}),
        ("Softmax", ["g"], "y", {"axis": -1}),
    ]
    weights = {
        "w": _reals(4, 3, 3, 3),
        "b": _reals(4),
        "w2": _reals(4, 4, 1, 1),
        "shape": np.array([0, 8]),
        "fc": _reals(8, 10) * np.float32(0.2),  # so that no class takes all
        "fb": _reals(10),
    }
    return _model(nodes, weights, [2, 3, 8, 8], opset)


def recurrent(opset):
    nodes = [("LSTM", ["x", "W", "R", "B"], "s", {"hidden_size": 4})]
    weights = {"W": _reals(1, 16, 5), "R": _reals(1, 16, 4), "B": _reals(1, 32), "m": _reals(4, 3)}
    if opset < 13:
        nodes.append(("Squeeze", ["s"], "q", {"axes": [1]}))
    else:
        weights["axes"] = np.array([1])
        nodes.append(("Squeeze", ["s", "axes"], "q", {}))
    nodes.append(("MatMul", ["q", "m"], "y", {}))
    return _model(nodes, weights, [3, 2, 5], opset)


class _Reader(quantization.CalibrationDataReader):
    def __init__(self, feeds):
        self.feeds = iter(feeds)

    def get_next(self):
        return next(self.feeds, None)


def _static(source, tmp_path, feeds, **settings):
    before, after = tmp_path / "float.onnx", tmp_path / "quantised.onnx"
    onnx.save(source, before)
    quantization.quantize_static(before, after, _Reader(feeds), **settings)
    return onnx.load(after)


def _compare(model, feeds, step):
    """Same results, but for steps of the last quantisation where a sum is a near tie."""
    for feed in feeds:
        # Not optimised: it fuses operations, and rounds otherwise than the model says.
        (theirs,) = peer(model, feed, optimised=False)
        (ours,) = evaluate(pipeline.to_core(model), feed).values()
        assert ours.shape == theirs.shape
        difference = np.abs(ours - theirs)
        assert difference.max() <= step
        assert np.count_nonzero(difference > 1e-5) <= difference.size // 10


@pytest.mark.parametrize("opset", [11, 13, 17])
@pytest.mark.parametrize("form", list(quantization.QuantFormat))
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("kind", ["QUInt8", "QInt8"])
def test_static(opset, form, per_channel, kind, tmp_path):
    if opset < 13 and per_channel and form is quantization.QuantFormat.QDQ:
        return  # the quantiser makes a model that onnxruntime refuses: axis came with opset 13
    feeds = [{"x": _reals(2, 3, 8, 8)} for _ in range(3)]
    made = _static(
        convolutions(opset),
        tmp_path,
        feeds,
        quant_format=form,
        per_channel=per_channel,
        activation_type=quantization.QuantType[kind],
    )
    domains = {node.domain for node in made.graph.node}
    assert ("com.microsoft" in domains) == (form is quantization.QuantFormat.QOperator)
    _compare(made, feeds, 2 / 255)


@pytest.mark.parametrize("kind", ["QInt16", "QUInt16"])
def test_static_of_16_bits(kind, tmp_path):
    """Below opset 21 ONNX has no 16-bit codes: the quantiser takes com.microsoft's ops."""
    feeds = [{"x": _reals(2, 3, 8, 8)} for _ in range(2)]
    made = _static(
        convolutions(13),
        tmp_path,
        feeds,
        quant_format=quantization.QuantFormat.QDQ,
        activation_type=quantization.QuantType[kind],
        extra_options={"UseQDQContribOps": True},
    )
    assert "com.microsoft" in {node.domain for node in made.graph.node}
    _compare(made, feeds, 1e-3)


@pytest.mark.parametrize("opset", [11, 13, 17])
@pytest.mark.parametrize(
    ("source", "shape"), [(convolutions, (2, 3, 8, 8)), (recurrent, (3, 2, 5))]
)
def test_dynamic(source, shape, opset, tmp_path):
    before, after = tmp_path / "float.onnx", tmp_path / "quantised.onnx"
    onnx.save(source(opset), before)
    quantization.quantize_dynamic(before, after)
    made = onnx.load(after)
    ops = {node.op_type for node in made.graph.node}
    assert ops & {"DynamicQuantizeLSTM", "MatMulInteger", "ConvInteger"}
    _compare(made, [{"x": _reals(*shape)} for _ in range(2)], 1e-4)
