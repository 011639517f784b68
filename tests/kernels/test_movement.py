"""Movement, gathering, scattering and Resize: exact against onnxruntime and NumPy."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from accelsdk.errors import InvalidArgument
from accelsdk.formats import FLOAT32, from_dtype
from accelsdk.graph.graph import Node
from accelsdk.graph.ops import infer
from accelsdk.graph.types import TensorType, Value
from accelsdk.kernels.api import run

RNG = np.random.default_rng(2)
X = RNG.normal(size=(3, 4, 5)).astype(np.float32)
SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=5)


def apply(op, *operands, outputs=1, **attributes):
    types = [TensorType(from_dtype(x.dtype), x.shape) for x in operands]
    results = infer(op, types, attributes, outputs)
    node = Node(
        op,
        tuple(Value(f"x{i}", t) for i, t in enumerate(types)),
        tuple(Value(f"y{i}", t) for i, t in enumerate(results)),
        attributes,
    )
    found = run(node, list(operands))
    assert [a.shape for a in found] == [t.shape for t in results]
    return found[0] if outputs == 1 else found


def ramp(shape):
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("Reshape", {"shape": (5, 12)}),
        ("Transpose", {"perm": (2, 0, 1)}),
        ("Slice", {"starts": (1, 3), "ends": (3, 0), "axes": (0, 1), "steps": (1, -1)}),
        ("Slice", {"starts": (-1,), "ends": (-100,), "axes": (2,), "steps": (-2,)}),
        ("Slice", {"starts": (4,), "ends": (2,), "axes": (2,), "steps": (1,)}),
        ("Slice", {"starts": (-100,), "ends": (100,), "axes": (1,), "steps": (3,)}),
        ("Pad", {"pads": (0, 1, 2, 3, 0, 1)}),
        ("Pad", {"pads": (0, -1, 2, 1, 0, -2)}),
        ("Pad", {"pads": (0, 1, 2, 2, 0, 1), "mode": "reflect"}),
        ("Pad", {"pads": (4, 1, 2, 0, 0, 1), "mode": "edge"}),
        ("Pad", {"pads": (2, 1, 2, 0, 0, 1), "mode": "wrap"}),
        ("Expand", {"shape": (2, 1, 4, 1)}),
        ("Tile", {"repeats": (2, 1, 3)}),
    ],
    ids=str,
)
def test_movement_against_onnxruntime(op, attributes, compute, peer):
    assert np.array_equal(compute(op, X, **attributes), peer(op, X, **attributes))


def test_pad_with_a_value(compute):
    x = np.ones((2, 2), ml_dtypes.float8_e4m3fn)
    out = compute("Pad", x, np.array(3.0, x.dtype), pads=(1, 0, 0, 2))
    assert out.astype(float).tolist() == [[3, 3, 3, 3], [1, 1, 3, 3], [1, 1, 3, 3]]


def test_concat_and_split(compute):
    parts = compute("Split", X, outputs=3, axis=1, split=(1, 0, 3))
    assert [p.shape for p in parts] == [(3, 1, 5), (3, 0, 5), (3, 3, 5)]
    assert np.array_equal(compute("Concat", *parts, axis=1), X)
    assert np.array_equal(compute("Concat", X, X, axis=-1), np.concatenate([X, X], -1))


@settings(max_examples=80)
@given(data=st.data())
def test_slice_follows_python(data):
    shape = data.draw(SHAPES)
    x = ramp(shape)
    axis = data.draw(st.integers(0, len(shape) - 1))
    n = shape[axis]
    start, stop = data.draw(st.integers(0, n)), data.draw(st.integers(0, n))
    step = data.draw(st.integers(1, 4))
    out = apply("Slice", x, starts=(start,), ends=(stop,), axes=(axis,), steps=(step,))
    assert np.array_equal(out, x[(slice(None),) * axis + (slice(start, stop, step),)])
    back = apply("Slice", x, starts=(n - 1,), ends=(-n - 1,), axes=(axis,), steps=(-step,))
    assert np.array_equal(back, x[(slice(None),) * axis + (slice(None, None, -step),)])


@settings(max_examples=60)
@given(data=st.data())
def test_pad_then_crop_is_identity(data):
    shape = data.draw(SHAPES)
    pads = tuple(data.draw(st.integers(0, 3)) for _ in range(2 * len(shape)))
    mode = data.draw(st.sampled_from(["constant", "edge", "wrap"]))
    x = ramp(shape)
    grown = apply("Pad", x, pads=pads, mode=mode)
    rank = len(shape)
    pairs = [(pads[i], pads[i + rank]) for i in range(rank)]
    assert np.array_equal(grown, np.pad(x, pairs, mode=mode))
    assert np.array_equal(apply("Pad", grown, pads=tuple(-p for p in pads)), x)


@settings(max_examples=60)
@given(data=st.data())
def test_gather_follows_take(data):
    shape = data.draw(SHAPES)
    axis = data.draw(st.integers(0, len(shape) - 1))
    n = shape[axis]
    indices = data.draw(
        hnp.arrays(np.int64, hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3),
                   elements=st.integers(-n, n - 1))
    )  # fmt: skip
    x = ramp(shape)
    assert np.array_equal(apply("Gather", x, indices, axis=axis), np.take(x, indices, axis))


def test_gather_family_against_onnxruntime(compute, peer):
    wide = np.array([[0, -1], [2, 1]], np.int64)
    for axis in range(3):
        assert np.array_equal(
            compute("Gather", X, wide % 3, axis=axis), peer("Gather", X, wide % 3, axis=axis)
        )
        indices = RNG.integers(-X.shape[axis], X.shape[axis], (2, 3, 4))
        assert np.array_equal(
            compute("GatherElements", X, indices, axis=axis),
            peer("GatherElements", X, indices, axis=axis),
        )
    pairs = np.array([[0, 1], [-1, -2], [2, 3]], np.int64)
    assert np.array_equal(compute("GatherND", X, pairs), peer("GatherND", X, pairs))
    batched = np.array([[[1], [0]], [[3], [-1]], [[2], [2]]], np.int64)
    assert np.array_equal(
        compute("GatherND", X, batched, batch_dims=1), peer("GatherND", X, batched, batch_dims=1)
    )


@pytest.mark.parametrize("op", ["Gather", "GatherElements", "GatherND"])
@pytest.mark.parametrize("wrong", [5, -6])
def test_index_out_of_range_is_refused(op, wrong, compute):
    x = np.zeros(5, np.float32)
    indices = np.array([[wrong]] if op == "GatherND" else [wrong], np.int64)
    with pytest.raises(InvalidArgument, match=str(wrong)):
        compute(op, x, indices)


def test_gather_of_nothing(compute):
    empty = np.zeros((0,), np.int64)
    assert compute("Gather", X, empty, axis=1).shape == (3, 0, 5)
    assert compute("Gather", np.zeros((0, 3), np.float32), empty, axis=0).shape == (0, 3)


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
def test_scatter_elements_against_onnxruntime(reduction, compute, peer):
    for axis in range(3):
        indices = np.stack([RNG.permutation(X.shape[axis])[:2] for _ in range(6)], -1)
        indices = np.moveaxis(indices.reshape(2, 2, 3)[..., None][..., 0], 0, axis)
        if reduction != "none":
            indices = indices * 0  # duplicates
        updates = RNG.normal(size=indices.shape).astype(np.float32)
        settings_ = {"axis": axis, "reduction": reduction}
        ours = compute("ScatterElements", X, indices, updates, **settings_)
        theirs = peer("ScatterElements", X, indices, updates, **settings_)
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
def test_scatter_nd_against_onnxruntime(reduction, compute, peer):
    pairs = np.array([[0, 1], [-1, -2], [2, 3]], np.int64)
    pairs = pairs if reduction == "none" else np.concatenate([pairs, pairs[:1]])
    updates = RNG.normal(size=(len(pairs), 5)).astype(np.float32)
    ours = compute("ScatterND", X, pairs, updates, reduction=reduction)
    assert np.array_equal(ours, peer("ScatterND", X, pairs, updates, reduction=reduction))


def test_scatter_takes_updates_in_order(compute):
    out = compute(
        "ScatterElements", np.zeros(3, np.float32), np.array([1, 1]), np.array([5, 7], np.float32)
    )
    assert out.tolist() == [0, 7, 0]


# -- Resize ----------------------------------------------------------------------------------

IMAGE = RNG.normal(size=(1, 2, 6, 7)).astype(np.float32)
TRANSFORMS = [
    *("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel"),
    *("align_corners", "asymmetric"),
]


def resized(x, scales):
    return tuple(int(np.floor(e * s)) for e, s in zip(x.shape, scales, strict=True))


@pytest.mark.parametrize(
    "scales", [(1.0, 1.0, 2.0, 3.0), (1.0, 1.0, 0.5, 1.5), (1.0, 1.0, 2.5, 0.3)]
)
@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_resize_against_onnxruntime(mode, transform, scales, compute, peer):
    settings_ = {"mode": mode, "coordinate_transformation_mode": transform, "scales": scales}
    ours = compute("Resize", IMAGE, output_shape=resized(IMAGE, scales), **settings_)
    theirs = peer("Resize", IMAGE, roi=(), opset=19, **settings_)
    # onnxruntime finds coordinates in float32: an error of 4 ulp of the largest coordinate,
    # times the steepest slope between neighbours, on either axis, and the sums' rounding.
    slope = 2 * np.abs(IMAGE).max() * (1 if mode == "linear" else 3)
    assert np.abs(ours - theirs).max() <= slope * 8 * 4 * 2.0**-23 * 4


@pytest.mark.parametrize("scales", [(1.0, 1.0, 2.0, 3.0), (1.0, 1.0, 0.5, 1.5)])
@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("rule", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_nearest_resize_against_onnxruntime(rule, transform, scales, dtype, compute, peer):
    x = np.arange(84).reshape(1, 2, 6, 7).astype(dtype)
    settings_ = {
        "mode": "nearest", "nearest_mode": rule,
        "coordinate_transformation_mode": transform, "scales": scales,
    }  # fmt: skip
    ours = compute("Resize", x, output_shape=resized(x, scales), **settings_)
    assert np.array_equal(ours, peer("Resize", x, roi=(), opset=19, **settings_))


@pytest.mark.parametrize("exclude", [0, 1])
def test_cubic_resize_with_exclude_outside(exclude, compute, peer):
    settings_ = {
        "mode": "cubic", "exclude_outside": exclude, "cubic_coeff_a": -0.5,
        "scales": (1.0, 1.0, 1.7, 0.6),
    }  # fmt: skip
    ours = compute("Resize", IMAGE, output_shape=resized(IMAGE, settings_["scales"]), **settings_)
    theirs = peer("Resize", IMAGE, roi=(), opset=19, **settings_)
    assert np.abs(ours - theirs).max() <= 6 * np.abs(IMAGE).max() * 8 * 16 * 2.0**-23


@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_antialiased_resize_against_onnxruntime(mode, compute, peer):
    settings_ = {
        "mode": mode, "antialias": 1, "exclude_outside": 1, "scales": (1.0, 1.0, 0.5, 0.43),
    }  # fmt: skip
    ours = compute("Resize", IMAGE, output_shape=resized(IMAGE, settings_["scales"]), **settings_)
    theirs = peer("Resize", IMAGE, roi=(), opset=19, **settings_)
    assert np.abs(ours - theirs).max() <= 6 * np.abs(IMAGE).max() * 8 * 16 * 2.0**-23


def test_cropping_resize_against_onnxruntime(compute, peer):
    roi = (0.0, 0.0, 0.2, -0.3, 1.0, 1.0, 0.9, 1.2)
    settings_ = {
        "mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize",
        "extrapolation_value": 9.5, "scales": (1.0, 1.0, 2.0, 2.0), "roi": roi,
    }  # fmt: skip
    # The extents of the result are onnxruntime's, which leaves the crop out of them.
    ours = compute("Resize", IMAGE, output_shape=(1, 2, 12, 14), **settings_)
    theirs = peer("Resize", IMAGE, opset=19, **settings_)
    assert np.array_equal(ours == 9.5, theirs == 9.5)
    assert np.abs(ours - theirs).max() <= 2 * np.abs(IMAGE).max() * 8 * 16 * 2.0**-23


def test_resize_of_bytes_rounds_and_saturates(compute):
    x = np.array([[0, 255, 0, 255]], np.uint8)
    out = compute("Resize", x, output_shape=(1, 8), scales=(1.0, 2.0), mode="cubic")
    assert out.min() == 0
    assert out.max() == 255


def test_float32_operands_are_needed_only_where_numbers_are_made():
    for dtype in (ml_dtypes.float4_e2m1fn, ml_dtypes.int4, np.bool_, np.int64):
        x = np.arange(6).astype(dtype).reshape(2, 3)
        assert apply("Transpose", x, perm=(1, 0)).dtype == x.dtype
        assert apply("Concat", x, x, axis=0).dtype == x.dtype
        assert apply("Pad", x, pads=(0, 1, 0, 1)).dtype == x.dtype
    assert FLOAT32.dtype == np.float32
