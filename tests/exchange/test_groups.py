"""Core ops that are exported together: one op of ONNX, which gives their bits."""

import itertools
from dataclasses import replace

import numpy as np
import onnx
import pytest

from accelsdk import formats as f
from accelsdk.compiler.rules.quantize import dynamically_quantized
from accelsdk.exchange.export import groups, to_onnx
from accelsdk.graph.rewrite import Builder
from accelsdk.kernels.api import evaluate
from tests.exchange.onnx_runs import run

BYTES = (f.INT8, f.UINT8)
PLAIN = {"strides": (1, 1), "pads": (0, 0, 0, 0), "dilations": (1, 1)}


def ops(graph):
    return [node.op_type for node in to_onnx(graph).graph.node if node.op_type != "Constant"]


def codes(rng, format, shape):
    return rng.integers(int(format.min), int(format.max) + 1, shape).astype(format.dtype)


def pair(op, x, w, y, *, channels=True, zeros=(3, 0, 5), bias=False, relu=0, **attributes):
    """A contraction and its Requantize; zeros are those of data, weights and result."""
    rng, b = np.random.default_rng(len(x.name) + len(w.name)), Builder()
    shapes = ((2, 4, 9, 7), (6, 4, 3, 2)) if op == "ConvInteger" else ((2, 5, 40), (40, 6))
    feeds = {"x": codes(rng, x, shapes[0])}
    if op == "ConvInteger" and attributes.get("group") == 2:
        shapes = (shapes[0], (6, 2, 3, 2))
    data = b.input("x", x, shapes[0])
    weights = b.constant(codes(rng, w, shapes[1]), w)
    data_zero, weight_zero, zero = (
        None if number is None else b.constant(np.array(number, format.dtype), format)
        for number, format in zip(zeros, (x, w, y), strict=True)
    )
    window = PLAIN | attributes if op == "ConvInteger" else {}
    total = b.op(op, data, weights, data_zero, weight_zero, **window)
    scale = rng.uniform(1e-4, 3e-4, 6 if channels else ()).astype(np.float32)
    offset = b.constant(rng.integers(-9000, 9000, 6).astype(np.int32)) if bias else None
    settings = {"to": y.name, "relu": relu, "axis": 1 if op == "ConvInteger" else -1}
    out = b.op("Requantize", total, b.constant(scale), None, zero, offset, **settings)
    return b.graph([data], [out]), feeds


def agrees(graph, feeds):
    (found,) = run(graph, feeds)
    (wanted,) = evaluate(graph, feeds).values()
    assert found.dtype == wanted.dtype
    assert np.array_equal(found, wanted)
    assert len(np.unique(found)) > 3


FORMATS = [(f.UINT8, f.UINT8), (f.UINT8, f.INT8), (f.INT8, f.INT8)]


@pytest.mark.parametrize(("x", "w"), FORMATS, ids=str)
@pytest.mark.parametrize("channels", [True, False])
@pytest.mark.parametrize("relu", [0, 1])
@pytest.mark.parametrize("op", ["ConvInteger", "MatMulInteger"])
def test_contraction_and_requantize(op, x, w, channels, relu):
    graph, feeds = pair(op, x, w, x, channels=channels, relu=relu)
    wanted = {"ConvInteger": "QLinearConv", "MatMulInteger": "QLinearMatMul"}[op]
    assert ops(graph) == [wanted, *(["Max"] if relu else [])]
    agrees(graph, feeds)


@pytest.mark.parametrize("zeros", [(None, None, None), (0, 7, 0), (200, 0, 255)])
def test_zero_points(zeros):
    for op in ("ConvInteger", "MatMulInteger"):
        graph, feeds = pair(op, f.UINT8, f.UINT8, f.UINT8, zeros=zeros)
        assert len(ops(graph)) == 1
        agrees(graph, feeds)


@pytest.mark.parametrize(
    "attributes",
    [
        {"pads": (1, 0, 2, 1)},
        {"strides": (2, 3)},
        {"dilations": (2, 1)},
        {"group": 2},
    ],
    ids=str,
)
def test_windows_and_a_bias(attributes):
    graph, feeds = pair("ConvInteger", f.UINT8, f.INT8, f.UINT8, bias=True, **attributes)
    assert ops(graph) == ["QLinearConv"]
    agrees(graph, feeds)


def test_relu_on_the_lowest_zero_point_is_nothing():
    graph, _ = pair("ConvInteger", f.UINT8, f.INT8, f.UINT8, zeros=(3, 0, 0), relu=1)
    assert ops(graph) == ["QLinearConv"]
    graph, _ = pair("ConvInteger", f.UINT8, f.INT8, f.UINT8, zeros=(3, 0, None), relu=1)
    assert ops(graph) == ["QLinearConv"]


def test_weights_below_a_byte():
    for w in (f.INT4, f.UINT4):
        graph, feeds = pair("MatMulInteger", f.UINT8, w, f.UINT8)
        assert ops(graph) == ["QLinearMatMul"]
        agrees(graph, feeds)


def test_equal_zero_points_of_all_filters_are_one():
    for zeros, together in (([0] * 6, True), ([4] * 6, True), ([4, 4, 4, 4, 4, 3], False)):
        rng, b = np.random.default_rng(5), Builder()
        x = b.input("x", f.UINT8, (1, 4, 6, 6))
        w = b.constant(codes(rng, f.INT8, (6, 4, 3, 3)))
        total = b.op("ConvInteger", x, w, None, b.constant(np.array(zeros, np.int8)), **PLAIN)
        out = b.op("Requantize", total, b.constant(np.float32(2e-3)), to="uint8", axis=1)
        graph = b.graph([x], [out])
        assert bool(groups(graph)) is together
        agrees(graph, {"x": codes(rng, f.UINT8, x.shape)})


def separate(case):
    """Pairs that ONNX, or onnxruntime, has no one op for."""
    b = Builder()
    x = b.input("x", f.UINT8, (3, 0 if case == "empty" else 8))
    w = b.input("w", f.INT8, (x.shape[1], 4))
    total = b.op("MatMulInteger", x, w)
    given = {"to": "int8" if case == "formats" else "uint8", "axis": 1}
    scale, shift, bias = b.constant(np.float32(0.01)), None, None
    if case == "rows":
        scale, given["axis"] = b.constant(np.full(3, 0.01, np.float32)), 0
    if case == "zeros":
        zero = b.constant(np.array([1, 2, 3, 4], np.uint8))
        return b.graph([x, w], [b.op("Requantize", total, scale, None, zero, **given)])
    if case == "bias":
        bias = b.constant(np.arange(4, dtype=np.int32))
    if case == "fixed":
        scale, shift = b.constant(np.int32(1 << 30)), b.constant(np.int32(36))
        given["arithmetic"] = "fixed_single"
    out = b.op("Requantize", total, scale, shift, None, bias, **given)
    return b.graph([x, w], [out, total] if case == "output" else [out])


@pytest.mark.parametrize("case", ["formats", "rows", "zeros", "bias", "fixed", "output", "empty"])
def test_what_has_no_one_op_stays_apart(case):
    graph = separate(case)
    assert not groups(graph)
    onnx.checker.check_model(to_onnx(graph), full_check=True)


# -- DynamicQuantizeLinear ---------------------------------------------------------------------


def dynamic(shape=(3, 17)):
    b = Builder()
    x = b.input("x", f.FLOAT32, shape)
    return b.graph([x], dynamically_quantized(b, x))


@pytest.mark.parametrize(
    "x", [[-3, 5, 0.1], [2, 3, 4], [-2, -3, -1], [0, 0, 0], [1e-30, 3e-30, 0]], ids=str
)
def test_dynamic_quantisation_is_one_op_again(x):
    graph = dynamic((3,))
    assert ops(graph) == ["DynamicQuantizeLinear"]
    feeds = {"x": np.array(x, np.float32)}
    wanted = evaluate(graph, feeds)
    for value, found in zip(graph.outputs, run(graph, feeds), strict=True):
        assert np.array_equal(found, wanted[value.name])


def test_dynamic_quantisation_of_random_data():
    graph, rng = dynamic(), np.random.default_rng(0)
    for _ in range(20):
        feeds = {"x": (rng.standard_normal((3, 17)) * rng.uniform(0, 9)).astype(np.float32)}
        wanted = evaluate(graph, feeds)
        for value, found in zip(graph.outputs, run(graph, feeds), strict=True):
            assert np.array_equal(found, wanted[value.name])


def test_steps_that_somebody_else_reads_stay_steps():
    graph = dynamic()
    assert len(groups(graph)) == 1
    inner = [n.result for n in graph.nodes if n.result not in graph.outputs]
    for value in inner:
        assert not groups(replace(graph, outputs=(*graph.outputs, value))), value.name


def test_another_range_is_not_dynamic_quantisation():
    b = Builder()
    x = b.input("x", f.FLOAT32, (4,))
    zero = b.scalar(0, f.FLOAT32)
    high = b.op("Max", b.op("ReduceMax", x, axes=(0,), keepdims=0), zero)
    low = b.op("Min", b.op("ReduceMin", x, axes=(0,), keepdims=0), zero)
    scale = b.op("Div", b.op("Sub", high, low), b.scalar(127, f.FLOAT32))
    start = b.op("Div", b.op("Neg", low), scale)
    clipped = b.op("Clip", start, zero, b.scalar(255, f.FLOAT32))
    offset = b.op("Cast", b.op("Round", clipped), to="uint8")
    graph = b.graph([x], [b.op("Quantize", x, scale, offset, to="uint8")])
    assert not groups(graph)


# -- scalars between Dequantize and Quantize ---------------------------------------------------


@pytest.mark.parametrize(
    ("op", "number", "order", "format"),
    list(itertools.product(["Add", "Mul"], [0.3, -2.5], [1, -1], BYTES)),
)
def test_a_scalar_among_codes_is_a_code(op, number, order, format):
    b = Builder()
    q = b.input("q", format, (256,))
    scale, zero = b.constant(np.float32(0.05)), b.constant(np.array(7, format.dtype))
    x, c = b.op("Dequantize", q, scale, zero), b.scalar(number, f.FLOAT32)
    y = b.op(op, *(x, c)[::order])
    out = b.op("Quantize", y, b.constant(np.float32(0.07)), zero, to=format.name)
    graph = b.graph([q], [out])
    assert ops(graph).count("DequantizeLinear") == 2
    agrees(graph, {"q": np.arange(256).astype(np.uint8).view(format.dtype)})


@pytest.mark.parametrize("number", [0.0, np.inf, np.nan, 1e-42])
def test_what_is_no_scale_stays_a_number(number):
    b = Builder()
    q = b.input("q", f.UINT8, (8,))
    scale = b.constant(np.float32(0.05))
    y = b.op("Add", b.op("Dequantize", q, scale), b.scalar(number, f.FLOAT32))
    graph = b.graph([q], [b.op("Quantize", y, scale, to="uint8")])
    assert ops(graph).count("DequantizeLinear") == 1
