"""The sound card computes what the kernels compute, from device memory to device memory."""

import numpy as np
import pytest

from accelsdk.formats import E2M1, E4M3, E8M0
from accelsdk.kernels import api as kernels
from accelsdk.numerics import accumulate, codec


def _compare(rig, graphs, op, *arrays, **attributes):
    graph = graphs(op, *arrays, **attributes)
    feeds = [a for a in arrays if a is not None]
    want = kernels.evaluate(
        graph, {v.name: np.asarray(f) for v, f in zip(graph.inputs, feeds, strict=True)}
    )
    got = rig.run(graph, feeds)
    for value, array in zip(graph.outputs, got, strict=True):
        assert array.dtype == want[value.name].dtype
        np.testing.assert_array_equal(array, want[value.name])


@pytest.mark.parametrize(
    ("a", "b"), [(np.uint8, np.int8), (np.int8, np.int8), (np.uint8, np.uint8)]
)
@pytest.mark.parametrize("depth", [1, 7, 600, 3000])
def test_integer_products_equal_numpys(rig, a, b, depth):
    rng = np.random.default_rng(depth)
    left = rng.integers(np.iinfo(a).min, np.iinfo(a).max + 1, (5, depth)).astype(a)
    right = rng.integers(np.iinfo(b).min, np.iinfo(b).max + 1, (depth, 3)).astype(b)
    zeros = a(3), np.array([1, 2, 3], b)
    (got,) = rig.op("MatMulInteger", left, right, *zeros)
    want = (left.astype(np.int64) - 3) @ (right.astype(np.int64) - np.array([1, 2, 3]))
    np.testing.assert_array_equal(got, want.astype(np.int32))


def test_integer_sums_wrap_at_32_bits(rig):
    left = np.full((1, 131072), -128, np.int8)
    (got,) = rig.op("MatMulInteger", left, left.T.copy())
    assert got == np.int32(-(2**31))


@pytest.mark.parametrize("group", [1, 2, 4])
def test_integer_convolution_equals_the_kernel(rig, graphs, group):
    rng = np.random.default_rng(group)
    x = rng.integers(0, 256, (2, 4, 7, 6)).astype(np.uint8)
    w = rng.integers(-128, 128, (8, 4 // group, 3, 2)).astype(np.int8)
    zeros = np.uint8(7), rng.integers(-9, 9, 8).astype(np.int8)
    geometry = {"strides": (2, 1), "pads": (1, 0, 2, 1), "dilations": (1, 2), "group": group}
    _compare(rig, graphs, "ConvInteger", x, w, *zeros, **geometry)


def test_float_convolution_and_movement(rig, graphs):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((1, 4, 8, 8)).astype(np.float32)
    w = rng.standard_normal((6, 4, 3, 3)).astype(np.float32)
    _compare(
        rig,
        graphs,
        "Conv",
        x,
        w,
        None,
        strides=(1, 1),
        pads=(1, 1, 1, 1),
        dilations=(1, 1),
        group=1,
    )
    _compare(rig, graphs, "Transpose", x, perm=(3, 1, 0, 2))


def test_scaled_products_equal_the_scalar_model(rig):
    rng = np.random.default_rng(2)
    a = rng.integers(0, 0x7F, (3, 70)).astype(np.uint8).view(E4M3.dtype)
    b = rng.integers(0x80, 0xFF, (70, 2)).astype(np.uint8).view(E4M3.dtype)
    scales = np.float32(0.5), np.float32(4.0)
    (got,) = rig.op("ScaledMatMul", a, b, *scales)
    spec = rig.backend.datasheet(rig.target).contraction(
        "ScaledMatMul", E4M3.name, E4M3.name, "float32"
    )
    left, right = codec.decode(a, E4M3), codec.decode(b, E4M3)
    for (i, j), value in np.ndenumerate(got):
        want = accumulate.dot(left[i], right[:, j], 0.0, spec, a_fmt=E4M3, b_fmt=E4M3)
        assert value == want * 0.5 * 4.0


def test_block_scaled_products_equal_the_scalar_model(rig):
    rng = np.random.default_rng(3)
    a = rng.integers(0, 16, (2, 40)).astype(np.uint8).view(E2M1.dtype)
    b = rng.integers(0, 16, (40, 3)).astype(np.uint8).view(E2M1.dtype)
    a_scale = rng.integers(120, 134, (2, 2)).astype(np.uint8)
    b_scale = rng.integers(120, 134, (2, 3)).astype(np.uint8)
    (got,) = rig.op(
        "ScaledMatMul", a, b, a_scale.view(E8M0.dtype), b_scale.view(E8M0.dtype), block_size=32
    )
    spec = rig.backend.datasheet(rig.target).contraction(
        "ScaledMatMul", E2M1.name, E2M1.name, "float32"
    )
    left, right = codec.decode(a, E2M1), codec.decode(b, E2M1)
    block = np.arange(40) // 32
    for (i, j), value in np.ndenumerate(got):
        powers = a_scale[i][block].astype(int) + b_scale[:, j][block].astype(int) - 254
        weights = [2.0**power for power in powers.tolist()]
        want = accumulate.dot(
            left[i], right[:, j], 0.0, spec, a_fmt=E2M1, b_fmt=E2M1, scales=weights
        )
        assert value == want


def test_a_nan_scale_makes_its_products_nan(rig):
    one = np.full((1, 32), 0x38, np.uint8).view(E4M3.dtype)
    scale = np.array([[0xFF]], np.uint8).view(E8M0.dtype)
    good = np.array([[127]], np.uint8).view(E8M0.dtype)
    (got,) = rig.op("ScaledMatMul", one, one.T.copy(), scale, good, block_size=32)
    assert np.isnan(got).all()
