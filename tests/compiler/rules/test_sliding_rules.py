"""Convolutions and pools."""

import math
from itertools import product

import numpy as np
import pytest

from tests.compiler.rules.inexact import Inexact, exact, operand
from tests.compiler.rules.peers import FLOATS, Case, Draw, Recipes, check

RECIPES = Recipes()
BYTES = (np.dtype("u1"), np.dtype("i1"))


class Windows:
    """A sliding window drawn for some spatial extents; positions are found one by one."""

    def __init__(self, d: Draw, extents, kernel, *, dilated=True, ceil=False, strided=True) -> None:
        count = len(kernel)
        ones, self.kernel = [1] * count, kernel
        if strided:
            self.strides = d.attr("strides", ones, ([d.int(1, 3) for _ in kernel],))
        self.dilations = ones
        if dilated:
            self.dilations = d.attr("dilations", ones, ([d.int(1, 2) for _ in kernel],))
        reach = [(k - 1) * s + 1 for k, s in zip(kernel, self.dilations, strict=True)]
        modes = ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")
        mode = d.attr("auto_pad", "NOTSET", modes)
        zeros = [0] * count
        if mode == "NOTSET":
            most = [k - 1 for k in kernel]  # a window must touch the operand
            pads = d.attr("pads", zeros * 2, ([d.int(0, m) for m in most * 2],))
            self.begins, self.ends = pads[:count], pads[count:]
        elif mode == "VALID":
            self.begins, self.ends = zeros, zeros
        else:
            totals = [
                max((-(-n // s) - 1) * s + r - n, 0)
                for n, s, r in zip(extents, self.strides, reach, strict=True)
            ]
            small, large = [t // 2 for t in totals], [t - t // 2 for t in totals]
            upper = mode == "SAME_UPPER"
            self.begins, self.ends = (small, large) if upper else (large, small)
        ceil = ceil and mode == "NOTSET"  # the other modes say how many windows there are
        self.counts = []
        for n, s, r, a, b in zip(extents, self.strides, reach, self.begins, self.ends, strict=True):
            room = n + a + b - r
            found = (-(-room // s) if ceil else room // s) + 1
            if ceil and (found - 1) * s >= n + a:
                found -= 1  # a window that starts in the padding at the end is none
            self.counts.append(found)
        self.extents = extents

    @property
    def fits(self) -> bool:
        return min(self.counts, default=1) >= 1

    def taps(self):
        """Yields for each result position: itself, and (kernel, operand) positions it reads."""
        for at in np.ndindex(*self.counts):
            inside = []
            for k in np.ndindex(*self.kernel):
                place = tuple(
                    o * s + i * g - a
                    for o, s, i, g, a in zip(
                        at, self.strides, k, self.dilations, self.begins, strict=True
                    )
                )
                if all(0 <= p < n for p, n in zip(place, self.extents, strict=True)):
                    inside.append((k, place))
            yield at, inside


NAMES = "auto_pad pads strides dilations kernel_shape"


def _extents(d: Draw, rank: int):
    return [d.pick((4, 3, 5, 1, 2)) for _ in range(rank)]


def _windows(d: Draw, least=0, **options):
    """Spatial extents and a window that fits them."""
    rank = d.int(1, 3 if d.int(0, 3) == 0 else 2)
    extents = _extents(d, rank)
    kernel = [d.int(1, min(n, 3)) for n in extents]
    before = dict(d.attributes)
    found = Windows(d, extents, kernel, **options)
    if not found.fits:
        d.attributes = before  # dilated beyond the operand: no window at all
        options["dilated"] = False
        found = Windows(d, extents, kernel, **options)
    return found


def _convolved(x, w, windows: Windows, group: int):
    """The sum over the window, exactly as ONNX Conv says it; operands float64 arrays."""
    y = np.zeros((x.shape[0], w.shape[0], *windows.counts))
    each = w.shape[0] // group
    for at, inside in windows.taps():
        for k, place in inside:
            for g in range(group):
                part = x[:, g * w.shape[1] : (g + 1) * w.shape[1]][(..., *place)]
                rows = slice(g * each, (g + 1) * each)
                y[(slice(None), rows, *at)] += part @ w[rows][(..., *k)].T
    return y


def _conv_setup(d: Draw, kinds, opset, wkinds=None):
    windows = _windows(d)
    group = d.attr("group", 1, (1, 2, 3))
    channels, results = d.int(1, 2), d.int(1, 2)
    batch = d.pick((1, 2, 0))
    kind = d.format(kinds, opset)
    x = d.array(kind, (batch, group * channels, *windows.extents), *((0, 9) if wkinds else (-2, 2)))
    w = d.array(d.pick(wkinds) if wkinds else kind, (group * results, channels, *windows.kernel))
    d.attr("kernel_shape", None, (windows.kernel,))
    return windows, group, x, w


@RECIPES("Conv", f"{NAMES} group", examples=60)
def _conv(d: Draw) -> Case:
    opset = d.opset()
    windows, group, x, w = _conv_setup(d, FLOATS, opset)
    bias = d.array(x.dtype, w.shape[:1]) if d.flag() else None
    y = operand(x).combine(operand(w), lambda a, b: _convolved(a, b, windows, group))
    if bias is not None:
        y = y + operand(bias.reshape(-1, *[1] * len(windows.kernel)))
    return Case([x, w, bias], [y], opset=opset)


@RECIPES("ConvInteger", f"{NAMES} group", examples=40)
def _conv_integer(d: Draw) -> Case:
    opset = d.opset()
    windows, group, x, w = _conv_setup(d, BYTES, opset, BYTES)
    x_zero = d.array(x.dtype, (), 0, 5) if d.flag() else None
    w_zero = (
        d.array(w.dtype, d.pick(((), w.shape[:1])), 0, 5)
        if x_zero is not None and d.flag()
        else None
    )
    wide_x = x.astype(float) - (0 if x_zero is None else float(x_zero))
    shift = 0 if w_zero is None else w_zero.astype(float).reshape(-1, *[1] * (w.ndim - 1))
    y = _convolved(wide_x, w.astype(float) - shift, windows, group)
    return Case([x, w, x_zero, w_zero], [y.astype(np.int32)], opset=opset)


@RECIPES("QLinearConv", f"{NAMES} group", examples=40)
def _qlinear_conv(d: Draw) -> Case:
    opset = d.opset()
    windows, group, x, w = _conv_setup(d, BYTES, opset, BYTES)
    per = d.pick(((), w.shape[:1]))
    scales = [d.array(np.float32, s, 0.05, 0.6) for s in ((), per, ())]
    x_zero, w_zero = d.array(x.dtype, (), 0, 5), d.array(w.dtype, per, 0, 5)
    y_zero = d.array(d.pick(BYTES), (), 0, 9)
    bias = d.array(np.int32, w.shape[:1], -50, 50) if d.flag() else None
    column = (-1, *[1] * len(windows.kernel))
    left = x.astype(float) - float(x_zero)
    right = w.astype(float) - w_zero.astype(float).reshape(-1, *[1] * (w.ndim - 1))
    total = _convolved(left, right, windows, group)
    total = total if bias is None else total + bias.reshape(column)
    # ONNX: scaled in float32, rounded to even, shifted by the zero point and saturated.
    multiplier = (scales[0] * scales[1] / scales[2]).reshape(column)
    info = np.iinfo(y_zero.dtype)
    codes = np.rint(total.astype(np.float32) * multiplier) + np.float32(y_zero)
    y = np.clip(codes, info.min, info.max).astype(y_zero.dtype)
    operands = [x, scales[0], x_zero, w, scales[1], w_zero, scales[2], y_zero, bias]
    return Case(operands, [y], opset=opset)


@RECIPES("ConvTranspose", f"{NAMES} group output_padding output_shape", examples=60)
def _conv_transpose(d: Draw) -> Case:
    opset = d.opset()
    rank = d.int(1, 2)
    extents, kernel, ones = _extents(d, rank), [d.int(1, 3) for _ in range(rank)], [1] * rank
    strides = d.attr("strides", ones, ([d.int(1, 3) for _ in kernel],))
    dilations = d.attr("dilations", ones, ([d.int(1, 2) for _ in kernel],))
    limits = [max(s, g) for s, g in zip(strides, dilations, strict=True)]
    extra = d.attr("output_padding", [0] * rank, ([d.int(0, m - 1) for m in limits],))
    full = [
        s * (n - 1) + (k - 1) * g + 1 + e
        for s, n, k, g, e in zip(strides, extents, kernel, dilations, extra, strict=True)
    ]
    how, begins, ends = d.pick(("pads", "shape", "same", "valid")), [0] * rank, [0] * rank
    if how == "pads":
        both = [min(2, (f - 1) // 2) for f in full]
        pads = d.attr("pads", [0] * 2 * rank, ([d.int(0, m) for m in both * 2],))
        begins, ends = pads[:rank], pads[rank:]
    elif how == "valid":
        d.attr("auto_pad", None, ("VALID",), required=True)
    else:
        mode = d.attr("auto_pad", "NOTSET", ("SAME_UPPER", "SAME_LOWER"), required=how == "same")
        wanted = [n * s for n, s in zip(extents, strides, strict=True)]
        if how == "shape":
            wanted = [d.int(1, f) for f in full]
            d.attr("output_shape", None, (wanted,), required=True)
        if any(w > f for w, f in zip(wanted, full, strict=True)):
            d.attributes.pop("auto_pad")  # larger than the kernel reaches: refused
        else:
            totals = [f - w for f, w in zip(full, wanted, strict=True)]
            small, large = [t // 2 for t in totals], [t - t // 2 for t in totals]
            # ONNX: SAME_UPPER puts the odd one at the end, all else at the begin.
            upper = mode == "SAME_UPPER"
            begins, ends = (small, large) if upper else (large, small)
    group = d.attr("group", 1, (1, 2))
    channels, results = group * d.int(1, 2), d.int(1, 2)
    kind = d.format(FLOATS, opset)
    x = d.array(kind, (d.pick((1, 2, 0)), channels, *extents))
    w = d.array(kind, (channels, results, *kernel))
    d.attr("kernel_shape", None, (kernel,))
    bias = d.array(kind, (group * results,)) if d.flag() else None
    each = channels // group

    def scattered(a, b):
        y = np.zeros((a.shape[0], group * results, *full))
        for at, k in product(np.ndindex(*extents), np.ndindex(*kernel)):
            place = tuple(
                p * s + i * g for p, s, i, g in zip(at, strides, k, dilations, strict=True)
            )
            for g in range(group):
                part = slice(g * each, (g + 1) * each)
                rows = slice(g * results, (g + 1) * results)
                y[(slice(None), rows, *place)] += a[:, part][(..., *at)] @ b[part][(..., *k)]
        inner = (slice(p, f - q) for p, f, q in zip(begins, full, ends, strict=True))
        return y[(..., *inner)]

    y = operand(x).combine(operand(w), scattered)
    if bias is not None:
        y = y + operand(bias.reshape(-1, *[1] * rank))
    return Case([x, w, bias], [y], opset=opset)


# -- pools -----------------------------------------------------------------------------------


def _pool_setup(d: Draw, kinds, opset, *, ceil=True, dilated=True):
    flag = d.attr("ceil_mode", 0, (0, 1)) if ceil and opset >= 10 else 0
    windows = _windows(d, dilated=dilated and opset >= 10, ceil=bool(flag))
    d.attr("kernel_shape", None, (windows.kernel,), required=True)
    batch, channels = d.pick((1, 2, 0)), d.int(1, 2)
    return windows, d.array(d.format(kinds, opset), (batch, channels, *windows.extents), -9, 9)


@RECIPES("MaxPool", f"{NAMES} ceil_mode storage_order", examples=60)
def _max_pool(d: Draw) -> Case:
    opset = d.opset()
    windows, x = _pool_setup(d, (*FLOATS, *(BYTES if opset >= 12 else ())), opset)
    column = d.attr("storage_order", 0, (0, 1))
    y = np.empty((*x.shape[:2], *windows.counts), x.dtype)
    indices = np.empty(y.shape, np.int64)
    strides = np.cumprod([1, *(windows.extents if column else windows.extents[::-1])[:-1]])
    strides = strides if column else strides[::-1]
    for at, inside in windows.taps():
        for n, c in np.ndindex(*x.shape[:2]):
            values = [float(x[(n, c, *place)]) for _, place in inside]
            _, place = inside[int(np.argmax(values))]
            y[(n, c, *at)] = x[(n, c, *place)]
            first = (n * x.shape[1] + c) * math.prod(windows.extents)
            indices[(n, c, *at)] = first + int(np.dot(place, strides))
    return Case([x], [y, indices if d.flag() else None], opset=opset)


@RECIPES("AveragePool", f"{NAMES} ceil_mode count_include_pad", examples=60)
def _average_pool(d: Draw) -> Case:
    opset = d.opset()
    windows, x = _pool_setup(d, FLOATS, opset, dilated=opset >= 19)
    include = d.attr("count_include_pad", 0, (0, 1))
    v = operand(x)
    sums, counts = _summed(v, windows), np.zeros(windows.counts)
    for at, inside in windows.taps():
        counts[at] = len(inside)
        if include:
            # Of a window that hangs over the padding at the end, the overhang counts not.
            counts[at] = sum(
                all(
                    o * s + i * g < n + a + b
                    for o, s, i, g, n, a, b in zip(
                        at,
                        windows.strides,
                        k,
                        windows.dilations,
                        windows.extents,
                        windows.begins,
                        windows.ends,
                        strict=True,
                    )
                )
                for k in np.ndindex(*windows.kernel)
            )
    return Case([x], [sums / counts], opset=opset)


def _summed(v: Inexact, windows: Windows) -> Inexact:
    value = np.zeros((*v.shape[:2], *windows.counts))
    error = np.zeros(value.shape)
    for at, inside in windows.taps():
        parts = [v[(..., *place)] for _, place in inside]
        if parts:
            rows = Inexact(
                np.stack([p.value for p in parts]), np.stack([p.error for p in parts]), v.unit
            )
            total = rows.sum(0)
            value[(..., *at)], error[(..., *at)] = total.value, total.error
    return Inexact(value, error, v.unit)


@RECIPES("LpPool", f"{NAMES} ceil_mode p", examples=50)
def _lp_pool(d: Draw) -> Case:
    opset = d.opset()
    p = d.attr("p", 2, (1, 2))
    windows, x = _pool_setup(d, FLOATS, opset, ceil=False, dilated=opset >= 18)
    if opset >= 18:
        d.attr("ceil_mode", 0, (0,))
    v = operand(x)
    sums = _summed(v.abs() if p == 1 else v * v, windows)
    # The mean is taken and multiplied again: two more roundings.
    sums = sums.rounded(2)
    return Case([x], [sums if p == 1 else sums.sqrt()], opset=opset)


@RECIPES("GlobalLpPool", "p")
@RECIPES("GlobalAveragePool GlobalMaxPool")
def _global_pool(d: Draw) -> Case:
    opset = d.opset()
    x = d.array(d.format(FLOATS, opset), (*d.shape(2, 2), *_extents(d, d.int(1, 3))))
    axes, v = tuple(range(2, x.ndim)), operand(x)
    if d.op == "GlobalAveragePool":
        y = v.mean(axes, keepdims=True)
    elif d.op == "GlobalMaxPool":
        # onnx's ReferenceEvaluator takes other axes for operands of rank 3.
        y = exact(v.value.max(axis=axes, keepdims=True), v.unit)
    else:
        p = d.attr("p", 2, (1, 2))
        y = v.abs().sum(axes, True) if p == 1 else (v * v).sum(axes, True).sqrt()
    return Case([x], [y], opset=opset)


@pytest.mark.parametrize("op", RECIPES.by_op)
def test_rule(op):
    check(op, RECIPES.by_op[op])
