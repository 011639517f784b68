"""Samplers against direct evaluation."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsdk.errors import UnsupportedGraph
from tests.compiler.rules.single import close, lowered, onnxruntime_of, uniform

FEW = settings(max_examples=40)
MANY = settings(max_examples=120)
FLOATS = st.sampled_from([np.float16, np.float32, np.float64])


def int64(*numbers):
    return np.array(numbers, np.int64)


# -- GridSample -----------------------------------------------------------------------------------


def keys(d, a=-0.75):
    """The cubic kernel of Keys."""
    d = abs(d)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0


def folded(x, low, high):
    """Reflects at both edges until within them."""
    if low == high:
        return low
    while not low <= x <= high:
        x = 2 * low - x if x < low else 2 * high - x
    return x


def grid_sample(x, grid, mode, padding, align):
    """ONNX GridSample-22 by a loop over results; coordinates in the grid's format."""
    out = np.zeros((*x.shape[:2], *grid.shape[1:-1]))
    for n, *at in itertools.product(*map(range, (x.shape[0], *grid.shape[1:-1]))):
        taps = []
        for extent, g in zip(x.shape[2:], grid[(n, *at)][::-1], strict=True):
            one, half = g.dtype.type(1), g.dtype.type(0.5)
            if align:
                place = (g + one) * half * g.dtype.type(extent - 1)
            else:
                place = ((g + one) * g.dtype.type(extent) - one) * half
            place = float(np.rint(place) if mode == "nearest" else place)
            taps.append(axis_taps(place, extent, mode, padding, align))
        for combination in itertools.product(*taps):
            positions, weights = zip(*combination, strict=True)
            if None not in positions:
                out[(n, slice(None), *at)] += math.prod(weights) * x[(n, slice(None), *positions)]
    return out


def axis_taps(place, extent, mode, padding, align):
    low, high = (0, extent - 1) if align else (-0.5, extent - 0.5)
    if not low <= place <= high:
        if padding == "border" and mode != "cubic":  # as PyTorch and onnxruntime
            place = min(max(place, 0), extent - 1)
        elif padding == "reflection":
            place = folded(place, low, high)
    cell = math.floor(place)
    if mode == "nearest":
        found = [(cell, 1.0)]
    elif mode == "linear":
        found = [(cell, 1 - (place - cell)), (cell + 1, place - cell)]
    else:
        found = [(cell + i, keys(place - cell - i)) for i in (-1, 0, 1, 2)]

    def position(k):
        if padding == "zeros":
            return k if 0 <= k < extent else None
        if padding == "border":
            return min(max(k, 0), extent - 1)
        return int(folded(k, low, high))

    return [(position(k), weight) for k, weight in found]


@MANY
@given(
    data=st.data(),
    mode=st.sampled_from(["nearest", "linear", "cubic"]),
    padding=st.sampled_from(["zeros", "border", "reflection"]),
    align=st.booleans(),
    axes=st.integers(1, 3),
    dtype=FLOATS,
)
def test_grid_sample(data, mode, padding, align, axes, dtype):
    sizes = st.lists(st.integers(1, 4), min_size=axes, max_size=axes)
    batch, channels = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 2))
    x = uniform(batch, channels, *data.draw(sizes), dtype=dtype)
    reach = data.draw(st.sampled_from([1, 1.5, 4]))
    result = data.draw(sizes) if axes < 3 else [2, 1, 2]
    kind = np.float64 if dtype == np.float64 else np.float32
    grid = (uniform(batch, *result, axes) * reach).astype(kind)
    if data.draw(st.booleans()):
        grid = (np.round(grid * 4) / 4).astype(kind)  # hits edges and centres
    found = lowered(
        "GridSample", [x, grid], mode=mode, padding_mode=padding, align_corners=int(align)
    )[0]
    expected = grid_sample(x.astype(np.float64), grid, mode, padding, align)
    # coordinates: a few roundings of up to 4 reach; weights change at most 4-fold as fast
    close(found, expected, 0 if mode == "nearest" else axes * 4**axes * 16 * reach, scale=1)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("align", [0, 1])
def test_grid_sample_is_as_in_onnxruntime(mode, padding, align):
    x, grid = uniform(2, 3, 5, 7), (uniform(2, 6, 6, 2) * 1.3).astype(np.float32)
    settings_ = {"mode": mode, "padding_mode": padding, "align_corners": align, "opset": 20}
    expected = onnxruntime_of("GridSample", [x, grid], **settings_)[0]
    close(lowered("GridSample", [x, grid], **settings_)[0], expected, 256, scale=1)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_pixels_outside_do_not_leak(mode):
    x = np.full((1, 1, 3, 3), np.inf, np.float32)
    grid = np.full((1, 2, 1, 2), 1e30, np.float32)
    grid[0, 1] = -np.inf
    found = lowered("GridSample", [x, grid], mode=mode)[0]
    np.testing.assert_array_equal(found, np.zeros((1, 1, 2, 1)))


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_a_grid_of_nan_stays_in_the_image(mode, padding):
    grid = np.full((1, 2, 2, 2), np.nan, np.float32)
    found = lowered("GridSample", [uniform(1, 1, 3, 3), grid], mode=mode, padding_mode=padding)[0]
    assert found.shape == (1, 1, 2, 2)


@pytest.mark.parametrize("shape", [(0, 2, 3, 3), (1, 0, 3, 3)])
def test_grid_sample_of_nothing(shape):
    found = lowered("GridSample", [uniform(*shape), uniform(shape[0], 2, 2, 2)])[0]
    assert found.shape == (*shape[:2], 2, 2)


def test_grid_sample_of_integers():
    x = np.arange(18, dtype=np.uint8).reshape(1, 2, 3, 3)
    grid = uniform(1, 4, 4, 2)
    found = lowered("GridSample", [x, grid], mode="nearest", padding_mode="border")[0]
    expected = grid_sample(x, grid, "nearest", "border", False)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(UnsupportedGraph, match="bool pixels"):
        lowered("GridSample", [x.astype(bool), grid])


# -- RoiAlign -------------------------------------------------------------------------------------


def roi_align(x, rois, batch, mode, bins, ratio, scale, half_pixel):
    """ONNX RoiAlign-22 by a loop; coordinates in the operand's working format.

    Like onnxruntime and ONNX's own cases, "max" takes the largest weighted corner.
    """
    kind = rois.dtype.type
    out = np.zeros((len(rois), x.shape[1], *bins))
    for r, roi in enumerate(rois):
        axes = []
        for axis in range(2):
            shift = kind(0.5 if half_pixel else 0)
            begin = roi[1 - axis] * kind(scale) - shift
            size = roi[3 - axis] * kind(scale) - shift - begin
            size = size if half_pixel else max(size, kind(1))
            step = size / kind(bins[axis])
            count = ratio or max(math.ceil(step), 0)
            axes.append(
                [
                    [
                        corner_taps(
                            begin + step * kind(p) + step * kind(i + 0.5) / kind(count),
                            x.shape[2 + axis],
                        )
                        for i in range(count)
                    ]
                    for p in range(bins[axis])
                ]
            )
        for p, q in itertools.product(*map(range, bins)):
            found = []
            for ys, xs in itertools.product(axes[0][p], axes[1][q]):
                corners = [
                    wy * wx * x[batch[r], :, y, z] for (y, wy), (z, wx) in itertools.product(ys, xs)
                ]
                corners = corners or [np.zeros(x.shape[1])]
                found.append(sum(corners) if mode == "avg" else np.max(corners, axis=0))
            if found:
                joined = np.mean(found, axis=0) if mode == "avg" else np.max(found, axis=0)
                out[r, :, p, q] = joined
    return out


def corner_taps(place, extent):
    place = float(place)
    if place < -1 or place > extent:
        return []
    place = min(max(place, 0), extent - 1)
    low = math.floor(place)
    return [(low, 1 - (place - low)), (min(low + 1, extent - 1), place - low)]


@FEW
@given(
    data=st.data(),
    mode=st.sampled_from(["avg", "max"]),
    half_pixel=st.booleans(),
    ratio=st.integers(0, 3),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_roi_align(data, mode, half_pixel, ratio, dtype):
    x = uniform(2, 2, *data.draw(st.tuples(*[st.integers(1, 6)] * 2)), dtype=dtype)
    count = data.draw(st.integers(0, 3))
    corners = np.sort(uniform(count, 2, 2, seed=ratio), axis=1).reshape(count, 4)
    sizes = np.array([1, 6, 3])[:count, None]  # so that they need different numbers of samples
    rois = (corners * sizes + 2).astype(dtype)
    batch = np.arange(count, dtype=np.int64) % 2
    bins, scale = (
        data.draw(st.tuples(*[st.integers(1, 3)] * 2)),
        data.draw(st.sampled_from([1.0, 0.5])),
    )
    found = lowered(
        "RoiAlign",
        [x, rois, batch],
        [1] if ratio == 0 and count else [],
        mode=mode,
        output_height=bins[0],
        output_width=bins[1],
        sampling_ratio=ratio,
        spatial_scale=scale,
        coordinate_transformation_mode="half_pixel" if half_pixel else "output_half_pixel",
    )[0]
    expected = roi_align(x, rois, batch, mode, bins, ratio, scale, half_pixel)
    close(found, expected, 256, scale=1)


@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("half_pixel", ["half_pixel", "output_half_pixel"])
def test_roi_align_is_as_in_onnxruntime(ratio, half_pixel):
    x, batch = uniform(2, 3, 9, 11), int64(0, 1, 1)
    rois = np.float32([[0, 0, 8, 8], [1.5, 2.25, 9, 4], [-2, -2, 13, 12]])
    options = {
        "output_height": 3,
        "output_width": 2,
        "sampling_ratio": ratio,
        "coordinate_transformation_mode": half_pixel,
        "opset": 16,
    }
    expected = onnxruntime_of("RoiAlign", [x, rois, batch], **options)[0]
    close(lowered("RoiAlign", [x, rois, batch], [1], **options)[0], expected, 256, scale=1)


def test_adaptive_roi_align_needs_constant_regions():
    operands = [uniform(1, 1, 4, 4), uniform(2, 4), int64(0, 0)]
    with pytest.raises(UnsupportedGraph, match="with sampling_ratio 0 the regions say"):
        lowered("RoiAlign", operands)


# -- DeformConv -----------------------------------------------------------------------------------


def deform_conv(x, w, offset, bias, mask, window, group, offsets):
    """ONNX DeformConv-22 by a loop, sampling zeros outside."""
    kernel, strides, pads, dilations = window
    axes, grid = len(kernel), offset.shape[2:]
    taps = list(itertools.product(*map(range, kernel)))
    offset = offset.reshape(len(x), offsets, len(taps), axes, *grid)
    mask = mask.reshape(len(x), offsets, len(taps), *grid)
    out = np.zeros((len(x), len(w), *grid)) + bias.reshape(-1, *[1] * axes)
    per, share = w.shape[1], x.shape[1] // offsets
    for n, at in itertools.product(range(len(x)), itertools.product(*map(range, grid))):
        for c, (k, tap) in itertools.product(range(x.shape[1]), enumerate(taps)):
            part = offset[(n, c // share, k, slice(None), *at)]
            place = [
                a * s - p + t * d + o
                for a, s, p, t, d, o in zip(at, strides, pads, tap, dilations, part, strict=False)
            ]
            found = 0.0
            for corner in itertools.product((0, 1), repeat=axes):
                pixel = [math.floor(v) + i for v, i in zip(place, corner, strict=True)]
                if all(0 <= v < e for v, e in zip(pixel, x.shape[2:], strict=True)):
                    share_of = (1 - abs(v - i) for v, i in zip(place, pixel, strict=True))
                    found += math.prod(share_of) * x[(n, c, *pixel)]
            found *= mask[(n, c // share, k, *at)]
            for m in range(len(w) // group):
                row = c // per * (len(w) // group) + m
                out[(n, row, *at)] += found * w[(row, c % per, *tap)]
    return out


@FEW
@given(data=st.data(), axes=st.integers(1, 2), dtype=FLOATS, masked=st.booleans())
def test_deform_conv(data, axes, dtype, masked):
    numbers = st.tuples(*[st.integers(1, 2)] * axes)
    kernel, strides, dilations = (data.draw(numbers) for _ in range(3))
    pads = data.draw(st.tuples(*[st.integers(0, 2)] * (2 * axes)))
    group, offsets = data.draw(st.sampled_from([(1, 1), (2, 1), (1, 2), (2, 2)]))
    extents = data.draw(st.tuples(*[st.integers(3, 5)] * axes))
    x = uniform(2, 2 * group, *extents, dtype=dtype)
    w = uniform(group * 2, 2, *kernel, dtype=dtype)
    grid = [
        (e + pads[i] + pads[i + axes] - (k - 1) * d - 1) // s + 1
        for i, (e, k, d, s) in enumerate(zip(extents, kernel, dilations, strides, strict=True))
    ]
    taps = math.prod(kernel)
    offset = uniform(2, offsets * taps * axes, *grid, seed=1) * 2
    offset = (np.round(offset * 64) / 64).astype(dtype)  # exact in every format
    mask = uniform(2, offsets * taps, *grid, seed=2, dtype=dtype) if masked else None
    bias = uniform(group * 2, dtype=dtype) if masked else None
    found = lowered(
        "DeformConv",
        [x, w, offset, bias, mask],
        strides=strides,
        pads=pads,
        dilations=dilations,
        group=group,
        offset_group=offsets,
    )[0]
    wide = [None if a is None else a.astype(np.float64) for a in (x, w, offset, bias, mask)]
    wide[3] = np.zeros(len(w)) if bias is None else wide[3]
    wide[4] = np.ones((2, offsets * taps, *grid)) if mask is None else wide[4]
    expected = deform_conv(*wide, (kernel, strides, pads, dilations), group, offsets)
    close(found, expected, 16 * 2 * taps, scale=2 * taps)


def test_deform_conv_is_as_in_onnxruntime():
    x, w = uniform(2, 4, 7, 8), uniform(6, 2, 3, 3)
    offset, mask = uniform(2, 2 * 18, 5, 6) * 2, uniform(2, 18, 5, 6, seed=1)
    operands = [x, w, offset.astype(np.float32), uniform(6), mask]
    options = {"group": 2, "offset_group": 2, "opset": 19}
    expected = onnxruntime_of("DeformConv", operands, **options)[0]
    close(lowered("DeformConv", operands, **options)[0], expected, 600, scale=4)


@pytest.mark.parametrize("group", [0, 3])
def test_deform_conv_that_does_not_fit_is_refused(group):
    operands = [uniform(1, 2, 4, 4), uniform(2, 2, 2, 2), uniform(1, 8, 3, 3)]
    with pytest.raises(UnsupportedGraph, match="do not fit"):
        lowered("DeformConv", operands, group=group)
