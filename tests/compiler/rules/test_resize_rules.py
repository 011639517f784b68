"""Resize in all its modes, and of formats that are moved alone."""

import numpy as np
import pytest

from accelsdk.errors import UnsupportedGraph
from tests.compiler.rules.single import close, lowered, uniform


def int64(*numbers):
    return np.array(numbers, np.int64)


TRANSFORMS = (
    *("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"),
    "tf_crop_and_resize",
)


def resize(dtype, mode, transform, sizes, **options):
    x = (uniform(2, 5, 6) * 99).astype(dtype)
    roi = None
    if transform == "tf_crop_and_resize":
        roi = np.float32([0.125, -0.25, 0.75, 1.25])  # coordinates are exact
        options["extrapolation_value"] = 7.0
    operands = [x, roi, None, int64(*sizes)]
    options |= {"mode": mode, "coordinate_transformation_mode": transform, "axes": (1, 2)}
    return operands, [3] if roi is None else [1, 3], options


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize(("antialias", "exclude"), [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("sizes", [(3, 9), (8, 4), (5, 2)])
def test_resize_interpolates(mode, transform, antialias, exclude, sizes):
    from onnx.reference import ReferenceEvaluator

    from tests.compiler.rules.single import model_of

    operands, constant, options = resize(
        np.float32, mode, transform, sizes, antialias=antialias, exclude_outside=exclude
    )
    found = lowered("Resize", operands, constant, **options)[0]
    model = model_of("Resize", operands, constant, **options)
    expected = ReferenceEvaluator(model).run(None, {"x0": operands[0]})[0]
    close(found, expected, 512, scale=99)


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("nearest", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
@pytest.mark.parametrize("dtype", [np.bool_, np.int16, np.uint32, np.int64, np.float16])
def test_resize_picks_items_of_every_format(transform, nearest, dtype):
    operands, constant, options = resize(dtype, "nearest", transform, (8, 4), nearest_mode=nearest)
    found = lowered("Resize", operands, constant, **options)[0]
    assert found.dtype == dtype
    wide = [operands[0].astype(np.float64), *operands[1:]]
    expected = lowered("Resize", wide, constant, **options)[0]
    np.testing.assert_array_equal(found, expected.astype(dtype))


def test_resize_keeps_every_bit_of_wide_integers():
    x = np.array([2**62 + 1, 2**62 + 3])
    found = lowered("Resize", [x, None, np.float32([2])], [2])[0]
    assert found.tolist() == [x[0], x[0], x[1], x[1]]


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.int32, np.uint32])
def test_resize_rounds_interpolated_integers(dtype):
    limits = np.iinfo(dtype)
    x = np.array([limits.min, limits.max, limits.max, limits.min, 5], dtype)
    options = {"mode": "cubic", "opset": 19}
    found = lowered("Resize", [x, None, np.float32([2])], [2], **options)[0]
    wide = lowered("Resize", [x.astype(np.float64), None, np.float32([2])], [2], **options)[0]
    kept = np.clip(np.rint(wide), limits.min, limits.max)
    assert found.dtype == dtype
    # 16-bit integers are weighed in float32: a weight and a sum of four may round
    assert np.abs(found.astype(np.float64) - kept).max() <= (dtype in (np.int16, np.uint16))
    with pytest.raises(UnsupportedGraph, match="nearest"):
        lowered("Resize", [x.astype(np.int64), None, np.float32([2])], [2], **options)


@pytest.mark.parametrize("policy", ["stretch", "not_larger", "not_smaller"])
def test_resize_of_nothing(policy):
    operands = [uniform(0, 3, 4), None, None, int64(6, 0)]
    found = lowered("Resize", operands, [3], axes=(1, 2), keep_aspect_ratio_policy=policy)[0]
    assert found.size == 0
    with pytest.raises(UnsupportedGraph, match="operand is empty"):
        lowered("Resize", [uniform(0, 3), None, None, int64(2, 3)], [3])
