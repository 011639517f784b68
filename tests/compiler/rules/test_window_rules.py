"""What windows over space take and give back, against direct evaluation."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.compiler.rules.single import close, lowered, uniform

FEW = settings(max_examples=40)
MANY = settings(max_examples=120)
FLOATS = st.sampled_from([np.float16, np.float32, np.float64])


def int64(*numbers):
    return np.array(numbers, np.int64)


# -- Col2Im, MaxUnpool ----------------------------------------------------------------------------


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


# -- pools, ConvTranspose -------------------------------------------------------------------------


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
