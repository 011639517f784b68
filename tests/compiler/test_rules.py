"""Lowering rules against onnxruntime, over random shapes and attributes."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from accelsdk.compiler import pipeline
from accelsdk.kernels.api import evaluate

onnxruntime = pytest.importorskip("onnxruntime")

SMALL = settings(max_examples=25)


def compare(op, inputs, constants=(), *, outputs=1, terms=1, **attributes):
    """Runs one op both ways; sums of n terms may differ by n u of their magnitude."""
    names = [f"x{i}" for i in range(len(inputs))]
    held = [numpy_helper.from_array(a, f"c{i}") for i, a in enumerate(constants)]
    results = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(op, [*names, *(t.name for t in held)], results, op, **attributes)
    kinds = [helper.np_dtype_to_tensor_dtype(a.dtype) for a in inputs]
    graph = helper.make_graph(
        [node],
        "g",
        [
            helper.make_tensor_value_info(n, k, a.shape)
            for n, k, a in zip(names, kinds, inputs, strict=True)
        ],
        [onnx.ValueInfoProto(name=r) for r in results],
        held,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    feeds = dict(zip(names, inputs, strict=True))
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    expected = session.run(None, feeds)
    found = evaluate(pipeline.to_core(model), feeds)
    for name, array in zip(results, expected, strict=True):
        assert found[name].shape == array.shape
        scale = max(np.abs(array).max(initial=0), 1) if array.size else 1
        atol = 0 if array.dtype.kind in "iub" else 4 * terms * scale * 2.0**-24
        np.testing.assert_allclose(found[name], array, rtol=0, atol=atol)


def floats(*shape):
    return np.random.default_rng(sum(shape)).uniform(-1, 1, shape).astype(np.float32)


@SMALL
@given(
    data=st.data(),
    rank=st.integers(1, 2),
    group=st.integers(1, 3),
    mode=st.sampled_from(["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]),
)
def test_conv(data, rank, group, mode):
    kernel = data.draw(st.tuples(*[st.integers(1, 3)] * rank))
    strides = data.draw(st.tuples(*[st.integers(1, 2)] * rank))
    # onnxruntime takes SAME together with dilations otherwise than ONNX defines it
    dilations = (
        data.draw(st.tuples(*[st.integers(1, 2)] * rank)) if mode == "NOTSET" else (1,) * rank
    )
    spatial = data.draw(st.tuples(*[st.integers(5, 8)] * rank))
    attributes = {
        "pads": data.draw(st.lists(st.integers(0, 2), min_size=2 * rank, max_size=2 * rank))
    }
    if mode != "NOTSET":
        attributes = {"auto_pad": mode}
    x, w = floats(2, 2 * group, *spatial), floats(3 * group, 2, *kernel)
    compare(
        "Conv",
        [x],
        [w, floats(3 * group)],
        strides=strides,
        dilations=dilations,
        group=group,
        terms=20,
        **attributes,
    )


@SMALL
@given(
    data=st.data(),
    op=st.sampled_from(["MaxPool", "AveragePool"]),
    ceil=st.booleans(),
    include=st.booleans(),
)
def test_pool(data, op, ceil, include):
    kernel = data.draw(st.tuples(st.integers(1, 3), st.integers(2, 3)))
    pads = data.draw(st.tuples(*(st.integers(0, k - 1) for k in kernel * 2)))
    strides = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 2)))
    attributes = {"count_include_pad": int(include)} if op == "AveragePool" else {}
    shape = (1, 2, data.draw(st.integers(4, 8)), data.draw(st.integers(4, 8)))
    compare(
        op,
        [floats(*shape)],
        kernel_shape=kernel,
        pads=pads,
        strides=strides,
        ceil_mode=int(ceil),
        terms=9,
        **attributes,
    )


@SMALL
@given(data=st.data(), shape=st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_slice(data, shape):
    count = data.draw(st.integers(1, len(shape)))
    axes = data.draw(st.permutations(range(len(shape))))[:count]
    edges = st.lists(st.integers(-7, 7), min_size=count, max_size=count)
    steps = data.draw(st.lists(st.sampled_from([-2, -1, 1, 2, 3]), min_size=count, max_size=count))
    numbers = [data.draw(edges), data.draw(edges), axes, steps]
    compare("Slice", [floats(*shape)], [np.array(n, np.int64) for n in numbers])


@SMALL
@given(
    data=st.data(),
    op=st.sampled_from(["ReduceSum", "ReduceMean", "ReduceMax", "ReduceL2", "ReduceLogSumExp"]),
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    keepdims=st.integers(0, 1),
)
def test_reduce(data, op, shape, keepdims):
    axes = data.draw(st.lists(st.sampled_from(range(len(shape))), unique=True, max_size=len(shape)))
    signed = [a - len(shape) if data.draw(st.booleans()) else a for a in axes]
    compare(op, [floats(*shape)], [np.array(signed, np.int64)], keepdims=keepdims, terms=64)


@SMALL
@given(
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    wanted=st.lists(st.integers(1, 4), min_size=1, max_size=4),
)
def test_expand(shape, wanted):
    pairs = zip(reversed(shape), reversed(wanted), strict=False)
    if any(a != b and 1 not in (a, b) for a, b in pairs):
        wanted = [1] * len(wanted)
    compare("Expand", [floats(*shape)], [np.array(wanted, np.int64)])


@SMALL
@given(
    data=st.data(),
    shape=st.lists(st.integers(2, 5), min_size=1, max_size=3),
    mode=st.sampled_from(["constant", "reflect", "edge"]),
)
def test_pad(data, shape, mode):
    pads = [data.draw(st.integers(0, n - 1)) for n in shape * 2]
    compare("Pad", [floats(*shape)], [np.array(pads, np.int64)], mode=mode)


@SMALL
@given(
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    depth=st.integers(1, 6),
    data=st.data(),
)
def test_one_hot(shape, depth, data):
    axis = data.draw(st.integers(-len(shape) - 1, len(shape)))
    indices = np.random.default_rng(0).integers(-depth, depth, shape)
    compare("OneHot", [indices], [np.array(depth), np.float32([2, 5])], axis=axis)


@pytest.mark.parametrize(
    "equation",
    ["ij,jk->ik", "bij,bkj->bik", "abc,cd->dba", "i,j->ij", "ij->ji", "ij->i", "ij,kl->"],
)
def test_einsum(equation):
    sizes = dict(zip("abcdijkl", (2, 3, 4, 5, 3, 4, 2, 5), strict=True)) | {"b": 3}
    operands = equation.split("->")[0].split(",")
    arrays = [floats(*(sizes[c] for c in letters)) for letters in operands]
    compare("Einsum", arrays, equation=equation, terms=64)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(("op", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_recurrent(op, gates, direction):
    both = 2 if direction == "bidirectional" else 1
    weights = [floats(both, gates * 5, 3), floats(both, gates * 5, 5), floats(both, 2 * gates * 5)]
    count = 3 if op == "LSTM" else 2
    compare(
        op, [floats(6, 2, 3)], weights, outputs=count, hidden_size=5, direction=direction, terms=64
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_qlinear_conv(channels):
    random = np.random.default_rng(5)
    x = random.integers(0, 256, (1, 2, 6, 6), dtype=np.uint8)
    w = random.integers(-128, 128, (3, 2, 3, 3), dtype=np.int8)
    scale = random.uniform(0.01, 0.02, channels).astype(np.float32)
    scale = scale if channels > 1 else scale.reshape(())
    zero = np.zeros(scale.shape, np.int8)
    bias = random.integers(-500, 500, 3, dtype=np.int32)
    constants = [
        *(np.float32(0.02), np.uint8(120), w, scale, zero, np.float32(0.5), np.uint8(128), bias),
    ]
    compare("QLinearConv", [x], [np.asarray(c) for c in constants], pads=[1, 1, 1, 1])
