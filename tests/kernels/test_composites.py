"""Composite kernels: against their decomposition, run op by op, and against onnxruntime."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from accelsdk.formats import from_dtype
from accelsdk.graph.graph import Graph, Node
from accelsdk.graph.ops import TABLE, infer
from accelsdk.graph.rewrite import apply, decompositions
from accelsdk.graph.types import TensorType, Value
from accelsdk.kernels.api import evaluate, run

RNG = np.random.default_rng(21)


def normal(*shape, dtype=np.float32):
    return RNG.normal(size=shape).astype(dtype)


def both_ways(op, operands, outputs=1, **attributes):
    """Results of the kernel, and of the decomposition run op by op."""
    types = [None if x is None else TensorType(from_dtype(x.dtype), x.shape) for x in operands]
    found = infer(op, types, attributes, outputs)
    inputs = [None if t is None else Value(f"x{i}", t) for i, t in enumerate(types)]
    results = tuple(Value(f"y{i}", t) for i, t in enumerate(found))
    node = Node(op, tuple(inputs), results, attributes, name="node")
    given = tuple(v for v in inputs if v is not None)
    graph = apply(Graph(given, results, (), (node,)), decompositions())
    assert all(TABLE[n.op].decompose is None for n in graph.nodes)
    feeds = {v.name: x for v, x in zip(inputs, operands, strict=True) if v is not None}
    parts = evaluate(graph, feeds)
    native = run(node, operands)
    for value, array in zip(results, native, strict=True):
        assert (array.dtype, array.shape) == (value.format.dtype, value.shape)
    return list(native), [parts[v.name] for v in results]


def agree(native, parts, limit, scale=None):
    """|difference| <= limit rounding units of the magnitude of result, or of ``scale``."""
    for ours, theirs in zip(native, parts, strict=True):
        a, b = ours.astype(np.float64), theirs.astype(np.float64)
        assert np.array_equal(np.isnan(a), np.isnan(b))
        finite = np.isfinite(a) & np.isfinite(b)
        assert np.array_equal(a[~finite], b[~finite], equal_nan=True)
        unit = float(ml_dtypes.finfo(ours.dtype).eps)
        size = np.abs(b[finite]) if scale is None else np.full(b[finite].shape, scale)
        assert np.all(np.abs(a[finite] - b[finite]) <= limit * unit * size + 1e-44)


ACTIVATIONS = [
    # op, attributes, roundings of the decomposition, size they are relative to (None: result)
    ("Relu", {}, 0, None),
    ("LeakyRelu", {"alpha": 0.1}, 0, None),
    ("Elu", {"alpha": 1.5}, 3, 2.0),
    ("Selu", {}, 4, 2.0),
    ("Celu", {"alpha": 0.7}, 4, 2.0),
    ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}, 0, None),
    ("HardSwish", {}, 0, None),
    ("Softplus", {}, 4, 3.0),
    ("Softsign", {}, 0, None),
    ("Mish", {}, 6, 3.0),
    ("ThresholdedRelu", {"alpha": 0.4}, 0, None),
    ("Swish", {"alpha": 1.3}, 4, 3.0),
    ("Gelu", {}, 5, 3.0),
    ("Gelu", {"approximate": "tanh"}, 8, 3.0),
]


@pytest.mark.parametrize(("op", "attributes", "limit", "scale"), ACTIVATIONS, ids=str)
@pytest.mark.parametrize("shape", [(), (1,), (0, 3), (3, 5, 7), (40_000,)])
def test_activation_agrees_with_its_decomposition(op, attributes, limit, scale, shape):
    x = np.asarray(RNG.uniform(-3, 3, shape), np.float32)
    agree(*both_ways(op, [x], **attributes), limit, scale)


@pytest.mark.parametrize(("op", "attributes", "limit", "scale"), ACTIVATIONS, ids=str)
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_activation_in_other_formats(op, attributes, limit, scale, dtype):
    x = RNG.uniform(-3, 3, (9, 11)).astype(dtype)
    agree(*both_ways(op, [x], **attributes), limit + 4, scale or 3.0)


@pytest.mark.parametrize("op", [name for name, *_ in ACTIVATIONS])
def test_activation_of_special_values(op):
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e30, -1e30], np.float32)
    native, parts = both_ways(op, [x])
    if op in ("Gelu", "HardSwish", "Swish", "Mish"):  # 0 * Inf at -Inf, either way NaN or 0
        native, parts = [native[0][[0, 1, 3, 4, 5]]], [parts[0][[0, 1, 3, 4, 5]]]
    if op == "Softsign":
        native, parts = [native[0][3:]], [parts[0][3:]]
    agree(native, parts, 4)


ORT_ACTIVATIONS = ["Relu", "LeakyRelu", "Elu", "Selu", "HardSigmoid", "HardSwish", "Softplus",
                   "Softsign", "Mish", "ThresholdedRelu", "Gelu", "Celu"]  # fmt: skip


@pytest.mark.parametrize("op", ORT_ACTIVATIONS)
def test_activation_against_onnxruntime(op, compute, peer):
    x = RNG.uniform(-3, 3, (5, 60)).astype(np.float32)
    # The limits of both sides (docs/numerics.md): n ulp, or so many rounding units of |x| or 1.
    limit = {"Gelu": 2 * 8, "Mish": 2 * 8, "HardSwish": 2 * 8, "Softplus": 18}.get(op, 8)
    agree([compute(op, x)], [peer(op, x, opset=22)], limit, 3.0)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int32])
def test_prelu_broadcasts_its_slope(dtype, compute):
    x = RNG.integers(-9, 9, (2, 3, 4)).astype(dtype)
    slope = np.array([[2], [3], [-1]], dtype)
    assert np.array_equal(compute("PRelu", x, slope), np.where(x < 0, x * slope, x))


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8, np.uint64])
def test_clip(dtype, compute):
    x = np.array([0, 1, 5, 9, 100], dtype)
    low, high = np.array(2, dtype), np.array(7, dtype)
    assert compute("Clip", x, low, high).tolist() == [2, 2, 5, 7, 7]
    assert compute("Clip", x, low, None).tolist() == [2, 2, 5, 9, 100]
    assert compute("Clip", x, None, high).tolist() == [0, 1, 5, 7, 7]
    assert compute("Clip", x, high, low).tolist() == [2] * 5


def test_clip_propagates_nan(compute):
    x = np.array([np.nan, 1], np.float32)
    assert np.isnan(compute("Clip", x, np.float32(0), np.float32(6))[0])


# -- softmax, reductions, normalisations ------------------------------------------------------


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
def test_softmax_agrees_with_its_decomposition(op, axis, dtype, compute):
    x = (normal(4, 5, 9) * 4).astype(dtype)
    agree(*both_ways(op, [x], axis=axis), 16, 1.0 if op == "Softmax" else 30.0)


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
def test_softmax_against_onnxruntime(op, compute, peer):
    x = normal(3, 7, 50) * 20
    agree([compute(op, x, axis=1)], [peer(op, x, axis=1)], 8, 1.0 if op == "Softmax" else 130.0)


def test_softmax_special_rows(compute):
    x = np.array([[-np.inf, -np.inf], [np.nan, 0], [-np.inf, 0], [1e4, -1e4]], np.float32)
    out = compute("Softmax", x)
    assert np.isnan(out[:2]).all()
    assert out[2:].tolist() == [[0, 1], [1, 0]]
    assert compute("Softmax", np.zeros((3, 0), np.float32)).shape == (3, 0)


REDUCTIONS = [f"Reduce{name}" for name in ("Mean", "L1", "L2", "SumSquare", "LogSum", "LogSumExp")]


@pytest.mark.parametrize("op", REDUCTIONS)
@pytest.mark.parametrize("axes", [(), (0,), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_composite_reduction(op, axes, keepdims, compute, peer):
    x = np.abs(normal(3, 4, 6)) + 0.5
    agree(*both_ways(op, [x], axes=axes, keepdims=keepdims), 6, 200.0)
    if axes:
        theirs = peer(op, x, opset=18, axes=axes, keepdims=keepdims)
        agree([compute(op, x, axes=axes, keepdims=keepdims)], [theirs], 2 * 80, 200.0)


def test_composite_reduction_of_nothing(compute):
    x = np.zeros((2, 0), np.float32)
    for op, expected in (("ReduceL1", 0), ("ReduceL2", 0), ("ReduceSumSquare", 0)):
        assert compute(op, x, axes=(1,), keepdims=0).tolist() == [expected] * 2
    assert compute("ReduceLogSumExp", x, axes=(1,), keepdims=0).tolist() == [-np.inf] * 2


@pytest.mark.parametrize("op", ["ReduceL1", "ReduceSumSquare"])
def test_composite_reduction_of_integers(op, compute):
    x = np.array([[-3, 4], [5, -6]], np.int32)
    expected = [7, 11] if op == "ReduceL1" else [25, 61]
    assert compute(op, x, axes=(1,), keepdims=0).tolist() == expected


def test_log_sum_exp_of_infinities(compute):
    x = np.array([[-np.inf, -np.inf], [np.inf, 0], [1e4, 1e4]], np.float32)
    out = compute("ReduceLogSumExp", x, axes=(1,), keepdims=0)
    assert out[:2].tolist() == [-np.inf, np.inf]
    assert abs(out[2] - (1e4 + np.log(2))) < 1e-3


@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_layer_normalization(axis, biased, dtype, compute):
    x = normal(3, 4, 10, dtype=dtype)
    shape = x.shape[axis:]
    operands = [x, normal(*shape, dtype=dtype), normal(*shape, dtype=dtype) if biased else None]
    for outputs in (1, 3):
        native, parts = both_ways("LayerNormalization", operands, outputs, axis=axis)
        agree(native, parts, 40, 4.0)


def test_layer_normalization_against_onnxruntime(compute, peer):
    x, scale, bias = normal(4, 7, 96), normal(96), normal(96)
    ours = compute("LayerNormalization", x, scale, bias, axis=-1, epsilon=1e-12)
    theirs = peer("LayerNormalization", x, scale, bias, axis=-1, epsilon=1e-12)
    # gamma_n of the two sums, n = 96, on rows of unit variance, on each side.
    agree([ours], [theirs], 2 * 96, float(np.abs(scale).max() * 4))


def test_layer_normalization_survives_a_large_mean(compute):
    x = (np.array([1.0, -1.0] * 32) + 4096.0).astype(np.float32)[None]
    out = compute("LayerNormalization", x, np.ones(64, np.float32), axis=-1, epsilon=0.0)
    assert np.array_equal(np.abs(out), np.ones_like(out))


@pytest.mark.parametrize("axis", [1, -1])
def test_rms_normalization(axis):
    x = normal(3, 4, 10)
    agree(*both_ways("RMSNormalization", [x, normal(*x.shape[axis:])], axis=axis), 40, 4.0)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_batch_normalization(dtype, compute, peer):
    x = normal(2, 5, 6, 7, dtype=dtype)
    stats = [normal(5, dtype=dtype) for _ in range(3)] + [np.abs(normal(5, dtype=dtype)) + dtype(1)]
    agree(*both_ways("BatchNormalization", [x, *stats]), 8, 8.0)
    if dtype is np.float32:
        theirs = peer("BatchNormalization", x, *stats, epsilon=1e-5)
        agree([compute("BatchNormalization", x, *stats)], [theirs], 16, 8.0)


def test_instance_and_group_normalization(compute, peer):
    x, scale, bias = normal(2, 6, 5, 4), normal(6), normal(6)
    agree(*both_ways("InstanceNormalization", [x, scale, bias]), 40, 8.0)
    ours = compute("InstanceNormalization", x, scale, bias)
    agree([ours], [peer("InstanceNormalization", x, scale, bias)], 2 * 20, 8.0)
    for groups in (1, 2, 6):
        agree(*both_ways("GroupNormalization", [x, scale, bias], num_groups=groups), 60, 8.0)


# -- compound --------------------------------------------------------------------------------


@pytest.mark.parametrize("trans", [(0, 0), (1, 0), (0, 1), (1, 1)])
@pytest.mark.parametrize("c_shape", [None, (), (5,), (4, 1), (4, 5)])
@pytest.mark.parametrize("factors", [(1.0, 1.0), (0.5, 2.0)])
def test_gemm(trans, c_shape, factors, compute, peer):
    # Small integers: exact in every order.
    a = RNG.integers(-4, 5, (7, 4) if trans[0] else (4, 7)).astype(np.float32)
    b = RNG.integers(-4, 5, (5, 7) if trans[1] else (7, 5)).astype(np.float32)
    c = None if c_shape is None else RNG.integers(-4, 5, c_shape).astype(np.float32)
    settings = {"transA": trans[0], "transB": trans[1], "alpha": factors[0], "beta": factors[1]}
    agree(*both_ways("Gemm", [a, b, c], **settings), 0)
    assert np.array_equal(compute("Gemm", a, b, c, **settings), peer("Gemm", a, b, c, **settings))


@pytest.mark.parametrize("dtype", [np.int32, np.float16, np.float64])
def test_gemm_in_other_formats(dtype):
    a, b, c = (RNG.integers(-4, 5, s).astype(dtype) for s in ((3, 6), (6, 2), (2,)))
    agree(*both_ways("Gemm", [a, b, c], alpha=2.0, beta=3.0), 0) if dtype != np.int32 else None
    native, parts = both_ways("Gemm", [a, b, c], alpha=2.0, beta=3.0)
    assert np.array_equal(native[0], parts[0])


MASKS = ["none", "bool", "float", "empty_rows"]


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("heads", [(4, 4), (4, 2)])
def test_attention(mask, causal, heads):
    q, k, v = normal(2, heads[0], 5, 8), normal(2, heads[1], 7, 8), normal(2, heads[1], 7, 3)
    given = {
        "none": None,
        "bool": RNG.random((2, 1, 5, 7)) > 0.3,
        "float": normal(5, 7),
        "empty_rows": np.zeros((5, 7), np.bool_),
    }[mask]
    native, parts = both_ways("Attention", [q, k, v, given], is_causal=causal)
    if mask == "empty_rows":
        assert not native[0].any()
    agree(native, parts, 64, 4.0)


def test_attention_scale_and_format():
    q, k, v = (normal(1, 2, 4, 6, dtype=np.float16) for _ in range(3))
    agree(*both_ways("Attention", [q, k, v], scale=0.3), 16, 4.0)


# -- recurrent -------------------------------------------------------------------------------

LAYERS = {"LSTM": (4, 3, 8), "GRU": (3, 2, 6), "RNN": (1, 2, 2)}  # gates, results, biases


def layer(op, direction, layout, full, dtype=np.float32, time=4, batch=3, size=5, hidden=6):
    gates, outputs, biases = LAYERS[op]
    d = 2 if direction == "bidirectional" else 1
    x = normal(*((batch, time) if layout else (time, batch)), size, dtype=dtype)
    state = (batch, d, hidden) if layout else (d, batch, hidden)
    operands = [x, normal(d, gates * hidden, size, dtype=dtype) / dtype(2)]
    operands.append(normal(d, gates * hidden, hidden, dtype=dtype) / dtype(2))
    if full:
        operands.append(normal(d, biases * hidden, dtype=dtype))
        operands.append(np.array([time, 1, 2][:batch], np.int32))
        operands.append(normal(*state, dtype=dtype))
        if op == "LSTM":
            operands.append(normal(*state, dtype=dtype))
            operands.append(normal(d, 3 * hidden, dtype=dtype))
    return operands, outputs, {"direction": direction, "layout": layout, "hidden_size": hidden}


@pytest.mark.parametrize("op", LAYERS)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize("full", [False, True])
def test_recurrent_agrees_with_its_decomposition(op, direction, layout, full):
    operands, outputs, settings = layer(op, direction, layout, full)
    agree(*both_ways(op, operands, outputs, **settings), 64, 2.0)


@pytest.mark.parametrize(
    ("op", "extra"),
    [
        ("LSTM", {"input_forget": 1}),
        ("LSTM", {"clip": 0.4}),
        ("LSTM", {"activations": ("HardSigmoid", "Softsign", "Affine")}),
        ("GRU", {"linear_before_reset": 1}),
        ("GRU", {"activations": ("Sigmoid", "Elu"), "clip": 0.7}),
        ("RNN", {"activations": ("LeakyRelu",), "activation_alpha": (0.3,)}),
        ("RNN", {"activations": ("ScaledTanh",), "activation_alpha": (1.2,),
                 "activation_beta": (0.7,)}),
        ("RNN", {"activations": ("ThresholdedRelu",)}),
        ("RNN", {"activations": ("Softplus",), "clip": 1.0}),
    ],
    ids=str,
)  # fmt: skip
def test_recurrent_settings(op, extra):
    operands, outputs, settings = layer(op, "forward", 0, True)
    agree(*both_ways(op, operands, outputs, **settings, **extra), 64, 4.0)


@pytest.mark.parametrize("op", LAYERS)
@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_recurrent_formats(op, dtype):
    operands, outputs, settings = layer(op, "forward", 0, True, dtype)
    agree(*both_ways(op, operands, outputs, **settings), 32, 4.0)


@pytest.mark.parametrize("op", LAYERS)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("full", [False, True])
def test_recurrent_against_onnxruntime(op, direction, full, compute, peer):
    operands, outputs, settings = layer(op, direction, 0, full)
    ours = compute(op, *operands, outputs=outputs, **settings)
    theirs = peer(op, *operands, outputs=outputs, opset=14, **settings)
    # Four steps, each a product of 11 terms and functions within 5 ulp, on either side.
    agree(ours, theirs, 4 * 2 * (11 + 10), 2.0)


@pytest.mark.parametrize("op", LAYERS)
def test_recurrent_over_no_time(op):
    operands, outputs, settings = layer(op, "forward", 0, False, time=0)
    native, _ = both_ways(op, operands, outputs, **settings)
    assert native[0].shape[0] == 0
    assert not native[1].any()
