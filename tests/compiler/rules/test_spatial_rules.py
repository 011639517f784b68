"""Samplers, windows over space and Einsum against direct evaluation."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from accelsdk.errors import AccelError, UnsupportedGraph
from tests.compiler.rules.single import close, lowered, onnxruntime_of, uniform

FEW = settings(deadline=None, max_examples=40)
MANY = settings(deadline=None, max_examples=120)
FLOATS = st.sampled_from([np.float16, np.float32, np.float64])


def int64(*numbers):
    return np.array(numbers, np.int64)


# -- GridSample --------------------------------------------------------------------------------


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


# -- RoiAlign ----------------------------------------------------------------------------------


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
    with pytest.raises(UnsupportedGraph, match="sampling_ratio 0 lets the regions decide"):
        lowered("RoiAlign", operands)


# -- DeformConv --------------------------------------------------------------------------------


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


# -- Col2Im, MaxUnpool -------------------------------------------------------------------------


@FEW
@given(data=st.data(), axes=st.integers(1, 3), dtype=st.sampled_from([np.float32, np.int32]))
def test_col2im(data, axes, dtype):
    numbers = st.tuples(*[st.integers(1, 3)] * axes)
    block, strides, dilations = (data.draw(numbers) for _ in range(3))
    pads = data.draw(st.tuples(*[st.integers(0, 2)] * (2 * axes)))
    image = data.draw(st.tuples(*[st.integers(1, 6)] * axes))
    grid = [
        (e + pads[i] + pads[i + axes] - (k - 1) * d - 1) // s + 1
        for i, (e, k, d, s) in enumerate(zip(image, block, dilations, strides, strict=True))
    ]
    assume(min(grid) >= 1)
    batch = data.draw(st.integers(0, 2))
    x = (uniform(batch, 2 * math.prod(block), math.prod(grid)) * 99).astype(dtype)
    found = lowered(
        "Col2Im",
        [x, int64(*image), int64(*block)],
        [1, 2],
        strides=strides,
        pads=pads,
        dilations=dilations,
    )[0]
    expected = np.zeros((batch, 2, *image))
    columns = x.reshape(batch, 2, *block, *grid)
    for tap in itertools.product(*map(range, block)):
        for step in itertools.product(*map(range, grid)):
            at = [
                s * u + t * d - p
                for s, u, t, d, p in zip(step, strides, tap, dilations, pads, strict=False)
            ]
            if all(0 <= v < e for v, e in zip(at, image, strict=True)):
                expected[(slice(None), slice(None), *at)] += columns[
                    (slice(None), slice(None), *tap, *step)
                ]
    close(found, expected, math.prod(block) if dtype == np.float32 else 0, scale=99 * 27)


@FEW
@given(data=st.data(), axes=st.integers(1, 3), larger=st.booleans())
def test_max_unpool_undoes_max_pool(data, axes, larger):
    kernel = data.draw(st.tuples(*[st.integers(1, 3)] * axes))
    pads = tuple(data.draw(st.integers(0, k - 1)) for k in kernel * 2)
    extents = data.draw(st.tuples(*[st.integers(3, 6)] * axes))
    x = uniform(data.draw(st.integers(1, 2)), 2, *extents)
    window = {"kernel_shape": kernel, "strides": kernel, "pads": pads}
    pooled, positions = lowered("MaxPool", [x], outputs=2, **window)
    inner = [
        (pooled.shape[2 + i] - 1) * kernel[i] + kernel[i] - pads[i] - pads[i + axes]
        for i in range(axes)
    ]
    source = np.zeros((*x.shape[:2], *inner), np.float32)
    assume(positions.max() < source.size)
    source.reshape(-1)[positions.reshape(-1)] = pooled.reshape(-1)
    operands = [pooled, positions]
    if larger:
        operands.append(int64(*x.shape[:2], *(n + 1 for n in inner)))
        source = np.pad(source, [(0, 0)] * 2 + [(0, 1)] * axes)
    found = lowered("MaxUnpool", operands, [2] if larger else [], **window)[0]
    np.testing.assert_array_equal(found, source)


# -- Det ---------------------------------------------------------------------------------------


@FEW
@given(size=st.integers(0, 7), batch=st.lists(st.integers(0, 3), max_size=2), dtype=FLOATS)
def test_det(size, batch, dtype):
    x = uniform(*batch, size, size, dtype=dtype)
    found = lowered("Det", [x])[0]
    # backward error of elimination: growth 2^(n-1) at worst, cofactors of |x| <= 1 (Hadamard)
    scale = size * size * float(max(size, 1)) ** (size / 2)
    close(found, np.linalg.det(x.astype(np.float64)), 4, scale=scale)


def test_det_pivots_and_is_zero_for_singular_matrices():
    x = np.float32([[[0, 1], [1, 0]], [[1, 2], [2, 4]], [[0, 0], [0, 0]], [[1e-9, 1], [1, 1]]])
    np.testing.assert_array_equal(lowered("Det", [x])[0], np.float32([-1, 0, 0, -1]))
    with pytest.raises(UnsupportedGraph, match="at most 128"):
        lowered("Det", [np.eye(129, dtype=np.float32)])


# -- pools, ConvTranspose ----------------------------------------------------------------------


@FEW
@given(data=st.data(), p=st.integers(1, 4), axes=st.integers(1, 2), dtype=FLOATS)
def test_lp_pool(data, p, axes, dtype):
    kernel = data.draw(st.tuples(*[st.integers(1, 3)] * axes))
    strides = data.draw(st.tuples(*[st.integers(1, 3)] * axes))
    pads = tuple(data.draw(st.integers(0, k - 1)) for k in kernel * 2)
    ceil = data.draw(st.booleans())
    extents = data.draw(st.tuples(*[st.integers(3, 6)] * axes))
    x = uniform(1, 2, *extents, dtype=dtype)
    found = lowered(
        "LpPool", [x], kernel_shape=kernel, strides=strides, pads=pads, p=p, ceil_mode=int(ceil)
    )[0]
    grid = []
    for i in range(axes):
        room = extents[i] + pads[i] + pads[i + axes] - kernel[i]
        steps = -(-room // strides[i]) if ceil else room // strides[i]
        grid.append(steps + (steps * strides[i] < extents[i] + pads[i]))
    expected = np.zeros((1, 2, *grid))
    for at in itertools.product(*map(range, grid)):
        corner = [a * s - q for a, s, q in zip(at, strides, pads, strict=False)]
        part = x[(..., *(slice(max(c, 0), c + k) for c, k in zip(corner, kernel, strict=True)))]
        powers = np.abs(part.astype(np.float64)) ** p
        expected[(..., *at)] = powers.sum(axis=tuple(range(2, 2 + axes)))
    # the root of a sum s that is off by e is off by up to e^(1/p) near s = 0
    steps = 8 * math.prod(kernel)
    unit = 2.0**-53 if dtype == np.float64 else 2.0**-24
    root = expected ** (1 / p)
    assert found.shape == root.shape
    error = np.abs(found.astype(np.float64) - root)
    own = 2.0**-11 if dtype == np.float16 else 0
    assert (error <= 2 * steps * unit * np.maximum(root, unit) + own * root + own * 2.0**-13).all()


def test_lp_norms_of_half_floats_do_not_overflow():
    x = np.full((1, 1, 2, 2), 1000, np.float16)
    assert lowered("GlobalLpPool", [x], p=2)[0].item() == 2000
    assert lowered("LpPool", [x], p=2, kernel_shape=(2, 2))[0].item() == 2000


@pytest.mark.parametrize("p", [1, 2, 3])
def test_global_lp_pool(p):
    x = uniform(2, 3, 4, 5)
    expected = (np.abs(x.astype(np.float64)) ** p).sum(axis=(2, 3), keepdims=True) ** (1 / p)
    close(lowered("GlobalLpPool", [x], p=p)[0], expected, 40)


def conv_transpose(x, w, bias, strides, dilations, group, begins, extents):
    """ONNX ConvTranspose-22 by a loop: item i and tap t meet at i * s + t * d - begin."""
    per = w.shape[1]
    out = np.zeros((len(x), per * group, *extents)) + bias.reshape(-1, *[1] * len(extents))
    for at in itertools.product(*map(range, x.shape[2:])):
        for tap in itertools.product(*map(range, w.shape[2:])):
            place = [
                a * s + t * d - b
                for a, s, t, d, b in zip(at, strides, tap, dilations, begins, strict=True)
            ]
            if all(0 <= v < e for v, e in zip(place, extents, strict=True)):
                for c in range(x.shape[1]):
                    g = c // (x.shape[1] // group)
                    out[(slice(None), slice(g * per, (g + 1) * per), *place)] += (
                        x[(slice(None), slice(c, c + 1), *at)] * w[(c, slice(None), *tap)]
                    )
    return out


@MANY
@given(
    data=st.data(),
    axes=st.integers(1, 2),
    group=st.integers(1, 2),
    mode=st.sampled_from(["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]),
    shaped=st.booleans(),
)
def test_conv_transpose(data, axes, group, mode, shaped):
    numbers = st.tuples(*[st.integers(1, 3)] * axes)
    kernel, strides, dilations, extents = (data.draw(numbers) for _ in range(4))
    extra = tuple(
        data.draw(st.integers(0, max(s, d) - 1)) for s, d in zip(strides, dilations, strict=True)
    )
    x, w = uniform(2, group, *extents), uniform(group, 2, *kernel)
    bias = uniform(2 * group) if data.draw(st.booleans()) else None
    full = [
        s * (n - 1) + e + (k - 1) * d + 1
        for s, n, e, k, d in zip(strides, extents, extra, kernel, dilations, strict=True)
    ]
    options = {"strides": strides, "dilations": dilations, "output_padding": extra}
    pads = (0,) * (2 * axes)
    if shaped:
        shape = tuple(data.draw(st.integers(max(f - 3, 1), f + 3)) for f in full)
        options["output_shape"] = shape
    elif mode.startswith("SAME"):
        shape = tuple(n * s for n, s in zip(extents, strides, strict=True))
    else:
        if mode == "NOTSET":
            pads = data.draw(st.tuples(*[st.integers(0, 1)] * (2 * axes)))
            options["pads"] = pads
        shape = tuple(f - pads[i] - pads[i + axes] for i, f in enumerate(full))
        assume(min(shape) >= 1)
    begins = list(pads[:axes])
    if shaped or mode.startswith("SAME"):
        totals = [f - s for f, s in zip(full, shape, strict=True)]
        begins = [t // 2 if mode == "SAME_UPPER" else t - t // 2 for t in totals]
    if mode != "NOTSET":
        options["auto_pad"] = mode
    operands = [x, w, *([] if bias is None else [bias])]
    found = lowered("ConvTranspose", operands, group=group, **options)[0]
    wide = [a.astype(np.float64) for a in (x, w)]
    plain = np.zeros(2 * group) if bias is None else bias.astype(np.float64)
    expected = conv_transpose(*wide, plain, strides, dilations, group, begins, shape)
    close(found, expected, 2 * math.prod(kernel) + 2, scale=math.prod(kernel) + 1)


# -- Einsum ------------------------------------------------------------------------------------

LETTERS = "abcdAB"


@MANY
@given(data=st.data(), count=st.integers(1, 4), dtype=FLOATS, explicit=st.booleans())
def test_einsum(data, count, dtype, explicit):
    sizes = dict(zip(LETTERS, data.draw(st.tuples(*[st.integers(0, 4)] * 6)), strict=True))
    dots = data.draw(st.booleans())
    hidden = data.draw(st.lists(st.integers(1, 3), max_size=2)) if dots else []
    names, arrays, broadcasts = [], [], []
    for index in range(count):
        letters = "".join(data.draw(st.lists(st.sampled_from(LETTERS), max_size=3)))
        shape, name = [sizes[c] for c in letters], letters
        if dots and data.draw(st.booleans()):
            cut = data.draw(st.integers(0, len(letters)))
            kept = hidden[data.draw(st.integers(0, len(hidden))) :]
            kept = [n if data.draw(st.booleans()) else 1 for n in kept]
            name = f"{letters[:cut]}...{letters[cut:]}"
            shape = [*shape[:cut], *kept, *shape[cut:]]
            broadcasts.append(kept)
        names.append(name)
        arrays.append(uniform(*shape, seed=index, dtype=dtype))
    equation = ",".join(names)
    if explicit:
        every = sorted(set(equation) & set(LETTERS))
        result = data.draw(st.permutations(every))[: data.draw(st.integers(0, 3))]
        equation += f" -> {'...' if broadcasts else ''}{''.join(result)}"
    found = lowered("Einsum", arrays, equation=equation)[0]
    wide = [a.astype(np.float64) for a in arrays]
    expected = np.einsum(equation, *wide)
    scale = np.einsum(equation, *map(np.abs, wide)).max(initial=0)
    assert found.dtype == dtype
    # half floats round between products
    steps = 2.0**13 * count if dtype == np.float16 else 4096
    close(found, expected, steps, scale=scale)


@pytest.mark.parametrize("equation", ["ij->k", "ij->ii", "i->i", "ij,k->i", "i1->i", "ij->...ij."])
def test_einsum_that_does_not_fit_is_refused(equation):
    with pytest.raises(AccelError):
        lowered("Einsum", [uniform(2, 3)], equation=equation)


def test_einsum_takes_the_cheap_order():
    from accelsdk.compiler import pipeline
    from accelsdk.graph.ops import work
    from tests.compiler.rules.single import model_of

    operands = [uniform(100, 2), uniform(2, 100), uniform(100, 3)]
    graph = pipeline.to_core(model_of("Einsum", operands, equation="ab,bc,cd->ad"))
    assert sum(work(node).operations for node in graph.nodes) < 2 * 2 * 100 * 2 * 3 + 2000
