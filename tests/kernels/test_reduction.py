"""Reductions, positions, running sums, the largest items and pools."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from accelsdk.formats import FLOAT32
from accelsdk.graph.graph import Node
from accelsdk.graph.ops import infer
from accelsdk.graph.types import TensorType, Value
from accelsdk.kernels.api import run

RNG = np.random.default_rng(5)
AXES = [(), (0,), (1,), (2,), (0, 2), (0, 1, 2)]


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("op", ["ReduceSum", "ReduceProd", "ReduceMax", "ReduceMin"])
def test_reduction_against_numpy(op, axes, keepdims, compute, within_sum):
    x = RNG.normal(size=(3, 5, 7)).astype(np.float32)
    wide = x.astype(np.float64)
    function = {
        "ReduceSum": np.sum,
        "ReduceProd": np.prod,
        "ReduceMax": np.max,
        "ReduceMin": np.min,
    }
    expected = function[op](wide, axis=axes, keepdims=bool(keepdims))
    actual = compute(op, x, axes=axes, keepdims=keepdims)
    if op in ("ReduceMax", "ReduceMin"):
        assert np.array_equal(actual, expected)
        return
    size = np.sum(np.abs(wide), axis=axes, keepdims=bool(keepdims))
    size = np.abs(expected) if op == "ReduceProd" else size
    within_sum(actual, expected, size, 1, peers=1)  # float64 inside: one rounding


@pytest.mark.parametrize("op", ["ReduceSum", "ReduceProd", "ReduceMax", "ReduceMin"])
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_integer_reduction_against_onnxruntime(op, dtype, compute, peer):
    x = RNG.integers(-2, 3, (3, 4, 5)).astype(dtype)
    assert np.array_equal(
        compute(op, x, axes=(1, 2), keepdims=1), peer(op, x, axes=(1, 2), keepdims=1, opset=18)
    )


@pytest.mark.parametrize(
    ("op", "dtype", "expected"),
    [
        ("ReduceSum", np.float32, 0),
        ("ReduceProd", np.float32, 1),
        ("ReduceMax", np.float32, -np.inf),
        ("ReduceMin", np.float32, np.inf),
        ("ReduceMax", np.int64, np.iinfo(np.int64).min),
        ("ReduceMin", np.int64, np.iinfo(np.int64).max),
        ("ReduceMax", np.uint8, 0),
        ("ReduceMin", np.int8, 127),
        ("ReduceMax", np.bool_, False),
        ("ReduceMin", np.bool_, True),
        ("ReduceSum", ml_dtypes.bfloat16, 0),
        ("ReduceMax", np.float16, -np.inf),
    ],
)
def test_reduction_of_nothing(op, dtype, expected, compute):
    out = compute(op, np.zeros((2, 0), dtype), axes=(1,), keepdims=0)
    assert out.tolist() == [expected, expected]


def test_sums_of_16_bit_floats_do_not_stall(compute):
    for dtype in (np.float16, ml_dtypes.bfloat16):
        assert compute("ReduceSum", np.ones((4096,), dtype), axes=(0,), keepdims=0) == 4096


@pytest.mark.parametrize("op", ["ReduceMax", "ReduceMin"])
def test_extremes_propagate_nan_from_every_lane(op, compute):
    for lane in range(19):
        x = np.arange(38, dtype=np.float32).reshape(2, 19)
        x[1, lane] = np.nan
        out = compute(op, x, axes=(1,), keepdims=0)
        assert not np.isnan(out[0])
        assert np.isnan(out[1])


@settings(max_examples=50)
@given(data=st.data())
def test_sum_over_any_axes(data):
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=4))
    axes = tuple(sorted(data.draw(st.sets(st.integers(0, len(shape) - 1)))))
    keepdims = data.draw(st.integers(0, 1))
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    attributes = {"axes": axes, "keepdims": keepdims}
    kind = TensorType(FLOAT32, shape)
    (result,) = infer("ReduceSum", [kind], attributes)
    node = Node("ReduceSum", (Value("x", kind),), (Value("y", result),), attributes)
    (out,) = run(node, [x])
    assert np.array_equal(out, x.sum(axis=axes, keepdims=bool(keepdims)))
    assert out.shape == result.shape


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_arg_against_onnxruntime(op, axis, last, keepdims, compute, peer):
    x = RNG.integers(0, 4, (4, 5, 6)).astype(np.float32)  # many ties
    settings = {"axis": axis, "select_last_index": last, "keepdims": keepdims}
    assert np.array_equal(compute(op, x, **settings), peer(op, x, **settings))


@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_cumsum_against_onnxruntime(exclusive, reverse, dtype, compute, peer):
    x = RNG.integers(-9, 9, (3, 4, 5)).astype(dtype)
    settings = {"axis": 1, "exclusive": exclusive, "reverse": reverse}
    assert np.array_equal(compute("CumSum", x, **settings), peer("CumSum", x, **settings))


@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("k", [0, 1, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.uint8, np.float16])
def test_top_k_is_stable(largest, axis, k, dtype, compute):
    x = RNG.integers(0, 4, (4, 9)).astype(dtype)
    values, indices = compute("TopK", x, outputs=2, k=k, axis=axis, largest=largest)
    lines = np.moveaxis(x, axis, -1)
    for line, value, index in zip(
        lines.tolist(),
        np.moveaxis(values, axis, -1).tolist(),
        np.moveaxis(indices, axis, -1).tolist(),
        strict=True,
    ):
        ranked = sorted(range(len(line)), key=lambda i: (-line[i] if largest else line[i], i))[:k]
        assert index == ranked
        assert value == [line[i] for i in ranked]


def test_top_k_of_extreme_integers(compute):
    x = np.array([np.iinfo(np.int64).min, 0, np.iinfo(np.int64).max])
    values, _ = compute("TopK", x, outputs=2, k=3, axis=0)
    assert values.tolist() == x[::-1].tolist()


POOLS = [
    ((1, 2, 9), (3,), (2,), (1, 1), (1,)),
    ((2, 3, 8, 9), (3, 3), (2, 2), (1, 1, 1, 1), (1, 1)),
    ((1, 2, 7, 8), (2, 3), (1, 2), (0, 0, 1, 2), (2, 1)),
    ((1, 2, 5, 5), (5, 5), (1, 1), (0, 0, 0, 0), (1, 1)),
    ((1, 1, 6, 6), (3, 3), (1, 1), (1, 1, 1, 1), (1, 1)),
    ((1, 2, 4, 5, 6), (2, 2, 3), (2, 1, 2), (0, 1, 1, 0, 0, 1), (1, 1, 1)),
]


def pool_arguments(case, ceil_mode):
    _, kernel, strides, pads, dilations = case
    return {
        "kernel_shape": kernel, "strides": strides, "pads": pads,
        "dilations": dilations, "ceil_mode": ceil_mode,
    }  # fmt: skip


@pytest.mark.parametrize("case", POOLS, ids=str)
@pytest.mark.parametrize("ceil_mode", [0, 1])
@pytest.mark.parametrize("dtype", [np.float32, np.int8, np.uint8])
def test_max_pool_against_onnxruntime(case, ceil_mode, dtype, compute, peer):
    x = RNG.permutation(int(np.prod(case[0])))
    x = (x % 100 - (50 if dtype != np.uint8 else 0)).reshape(case[0]).astype(dtype)
    settings = pool_arguments(case, ceil_mode)
    assert np.array_equal(compute("MaxPool", x, **settings), peer("MaxPool", x, **settings))


@pytest.mark.parametrize("case", POOLS, ids=str)
@pytest.mark.parametrize("storage_order", [0, 1])
def test_max_pool_positions_against_onnxruntime(case, storage_order, compute, peer):
    x = RNG.permutation(int(np.prod(case[0]))).reshape(case[0]).astype(np.float32)
    settings = {**pool_arguments(case, 0), "storage_order": storage_order}
    values, positions = compute("MaxPool", x, outputs=2, **settings)
    theirs = peer("MaxPool", x, outputs=2, **settings)
    assert np.array_equal(values, theirs[0])
    if storage_order == 0 or len(case[0]) <= 4:  # its column order of 3-D pools is its own
        assert np.array_equal(positions, theirs[1])


def test_max_pool_propagates_nan_and_ignores_padding(compute):
    x = np.full((1, 1, 5, 5), -7.0, np.float32)
    x[0, 0, 2, 2] = np.nan
    settings = pool_arguments((0, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1)), 0)
    for outputs in (1, 2):
        out = compute("MaxPool", x, outputs=outputs, **settings)
        out = out[0] if outputs == 2 else out
        assert np.isnan(out[0, 0, 1:4, 1:4]).all()
        assert np.isnan(out).sum() == 9
        assert out[0, 0, 0, 0] == -7


@pytest.mark.parametrize("case", POOLS, ids=str)
@pytest.mark.parametrize("ceil_mode", [0, 1])
@pytest.mark.parametrize("include", [0, 1])
def test_average_pool_against_onnxruntime(case, ceil_mode, include, compute, peer, within_sum):
    x = RNG.normal(size=case[0]).astype(np.float32)
    settings = {**pool_arguments(case, ceil_mode), "count_include_pad": include}
    actual = compute("AveragePool", x, **settings)
    size = compute("AveragePool", np.abs(x), **settings)
    terms = int(np.prod(case[1])) + 2
    within_sum(actual, peer("AveragePool", x, opset=19, **settings), size * 1.001, terms)
