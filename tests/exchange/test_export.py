"""Exported graphs: valid ONNX, the same results, and clear refusals."""

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accelsdk import formats as f
from accelsdk.errors import Unimplemented
from accelsdk.exchange.emitter import DOMAIN, OPSET
from accelsdk.exchange.export import FORMAT_KEY, IR_VERSION, to_onnx
from accelsdk.graph.graph import Constant, Graph, Node
from accelsdk.graph.opdef import NumericsClass
from accelsdk.graph.ops import TABLE
from accelsdk.graph.rewrite import Builder
from accelsdk.graph.types import TensorType, Value
from accelsdk.kernels.api import evaluate
from tests.exchange.onnx_runs import run
from tests.graph.strategies import Source, add_node, graphs


@given(graph=graphs(most=5))
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_any_graph_exports_as_valid_onnx(graph):
    for expand in (False, True):
        model = to_onnx(graph, expand=expand)
        onnx.checker.check_model(model)
        assert model.ir_version == IR_VERSION <= 13
        assert {entry.version for entry in model.opset_import if not entry.domain} == {OPSET}
        assert [v.name for v in model.graph.input] == [v.name for v in graph.inputs]
        assert len(model.graph.output) == len(graph.outputs)


#: Ops whose results are exact, in formats that onnxruntime computes them in.
EXACT = [op for op, row in TABLE.items() if row.numerics is NumericsClass.EXACT]
#: What onnxruntime 1.31 has no CPU kernel for in some of these formats, or computes otherwise.
ELSEWHERE = {"Mod", "Min", "Max", "MaxPool", "TopK", "ConvInteger", "Floor", "Ceil", "Round"}
ELSEWHERE |= {"Unique"}
SUPPORTED = (f.FLOAT32, f.INT32, f.INT64, f.BOOL, f.E4M3, f.E2M1, f.E8M0, f.MXINT8)


@pytest.mark.parametrize("op", [op for op in EXACT if op not in ELSEWHERE])
@given(data=st.data())
@settings(max_examples=6, suppress_health_check=[HealthCheck.too_slow])
def test_exact_op_gives_the_bits_of_the_kernels(op, data):
    source = Source(data.draw, formats=SUPPORTED)
    results = add_node(source, op)
    graph = source.builder.graph(source.inputs, results)
    if any(v.format not in SUPPORTED for v in graph.values() if v.format.bits > 8):
        return
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    feeds = {v.name: filled(v, rng) for v in graph.inputs}
    wanted = evaluate(graph, feeds)
    for value, found in zip(graph.outputs, run(graph, feeds), strict=True):
        expected = wanted[value.name]
        assert found.dtype == expected.dtype
        assert found.shape == expected.shape
        assert found.tobytes() == np.ascontiguousarray(expected).tobytes()


def filled(value, rng):
    """Small numbers: valid as indices into every axis, and exact in every format."""
    drawn = rng.integers(0, 2, value.shape)
    if value.format in (f.INT32, f.INT64):
        return np.zeros(value.shape, value.format.dtype)
    if value.format.bits <= 8 and value.format is not f.BOOL:
        return np.asarray(drawn, np.uint8).view(value.format.dtype)
    return np.asarray(drawn).astype(value.format.dtype)


def test_own_op_becomes_one_function_per_signature():
    b = Builder()
    x, y = b.input("x", f.FLOAT32, (4, 32)), b.input("y", f.FLOAT32, (4, 64))
    outputs = []
    for value in (x, x, y):
        outputs += b.op("QuantizeBlock", value, to="float4_e2m1fn", outputs=2)
    model = to_onnx(b.graph([x, y], outputs))
    assert [(node.domain, node.op_type) for node in model.graph.node] == [
        (DOMAIN, "QuantizeBlock"),
        (DOMAIN, "QuantizeBlock"),
        (DOMAIN, "QuantizeBlock_2"),
    ]
    assert [function.name for function in model.functions] == ["QuantizeBlock", "QuantizeBlock_2"]
    assert all(n.domain == "" for function in model.functions for n in function.node)
    props = {entry.key: entry.value for entry in model.metadata_props}
    assert props[FORMAT_KEY + outputs[0].name] == "float4_e2m1fn"
    assert props[FORMAT_KEY + outputs[1].name] == "float8_e8m0fnu"
    assert FORMAT_KEY + "x" not in props


def test_outputs_that_no_node_makes_and_repeated_outputs():
    b = Builder()
    x = b.input("x", f.FLOAT32, (2,))
    c = b.constant(np.array([3, 4], np.float32), name="c")
    y = b.op("Neg", x)
    graph = b.graph([x], [x, c, y, y])
    given = np.array([1, 2], np.float32)
    found = run(graph, {"x": given})
    assert [a.tolist() for a in found] == [[1, 2], [3, 4], [-1, -2], [-1, -2]]


def test_absent_operands_and_results():
    b = Builder()
    x, w, r = (
        b.input(n, f.FLOAT32, s) for n, s in (("x", (2, 1, 3)), ("w", (1, 8, 3)), ("r", (1, 8, 2)))
    )
    _, h, _ = b.op("LSTM", x, w, r, None, None, None, None, outputs=3, hidden_size=2, layout=1)
    model = to_onnx(b.graph([x, w, r], [h]))
    onnx.checker.check_model(model, full_check=True)


def test_vendor_composite_is_refused_by_name():
    kind = TensorType(f.FLOAT32, (2,))
    x, y = Value("x", kind), Value("y", kind)
    graph = Graph((x,), (y,), (), (Node("Magic", (x,), (y,), {}, "acme", "m"),))
    with pytest.raises(Unimplemented, match="acme:Magic") as caught:
        to_onnx(graph)
    assert caught.value.node == "m"


def test_constants_beyond_a_protocol_buffer_are_refused_unread():
    def load():
        raise AssertionError("must not be read")

    huge = Constant(Value("w", TensorType(f.FLOAT32, (1 << 29,))), load)
    with pytest.raises(Unimplemented, match="2,147,483,648 bytes"):
        to_onnx(Graph((), (huge.value,), (huge,), ()))
