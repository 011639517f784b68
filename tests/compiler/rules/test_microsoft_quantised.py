"""Quantised ops of com.microsoft against onnxruntime."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsdk.errors import AccelError
from tests.compiler.rules.microsoft_peer import (
    BYTES,
    SEEDS,
    SMALL,
    Data,
    check_codes,
    check_floats,
    here,
    model,
    scalar,
)

SHAPES = st.lists(st.integers(0, 5), min_size=0, max_size=4).map(tuple)


def _broadcastable(draw, shape):
    """A shape that broadcasts with ``shape``."""
    kept = shape[draw(st.integers(0, len(shape))) :]
    return tuple(1 if draw(st.booleans()) else extent for extent in kept)


@SMALL
@given(data=st.data(), op=st.sampled_from(["QLinearAdd", "QLinearMul"]), kind=BYTES, seed=SEEDS)
def test_binary(data, op, kind, seed):
    make = Data(seed)
    shape = data.draw(SHAPES)
    other = _broadcastable(data.draw, shape)
    if data.draw(st.booleans()):
        shape, other = other, shape
    operands = [
        *(make.codes(kind, *shape), make.scale(), make.zero(kind)),
        *(make.codes(kind, *other), make.scale(), make.zero(kind)),
        *(make.scale(low=0.05, high=0.3), make.zero(kind)),
    ]
    check_codes(op, [np.asarray(a) for a in operands])


@SMALL
@given(
    op=st.sampled_from(["QLinearSigmoid", "QLinearLeakyRelu"]),
    kind=BYTES,
    shape=SHAPES,
    seed=SEEDS,
    alpha=st.sampled_from([0.0, 0.01, 0.2]),
)
def test_unary(op, kind, shape, seed, alpha):
    make = Data(seed)
    y_scale = scalar(1 / 256) if op == "QLinearSigmoid" else make.scale()
    # The kernels read tables that they build from constant scales.
    operands = [np.asarray(make.codes(kind, *shape)), make.scale(), make.zero(kind), y_scale]
    attributes = {"alpha": alpha} if op == "QLinearLeakyRelu" else {}
    check_codes(op, [*operands, make.zero(kind)], held=(1, 2, 3, 4), **attributes)


@SMALL
@given(
    data=st.data(),
    kind=BYTES,
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple),
    opset=st.sampled_from([11, 13]),
    seed=SEEDS,
)
def test_softmax(data, kind, shape, opset, seed):
    make = Data(seed)
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    together = shape[axis] if opset > 11 else math.prod(shape[axis % len(shape) :])
    if together == 1 and kind == np.uint8:
        return  # onnxruntime wraps 256, the quotient 1, to 0
    zero = scalar(np.iinfo(kind).min, kind)
    operands = [make.codes(kind, *shape), make.scale(), make.zero(kind), scalar(1 / 256), zero]
    node = {"opset": opset, "axis": axis}
    check_codes("QLinearSoftmax", operands, held=(1, 2, 3, 4), **node)


@SMALL
@given(data=st.data(), kind=BYTES, shape=SHAPES, seed=SEEDS)
def test_where(data, kind, shape, seed):
    make = Data(seed)
    condition = make.rng.random(_broadcastable(data.draw, shape)) > 0.5
    operands = [
        np.asarray(condition),
        *(np.asarray(make.codes(kind, *shape)), make.scale(), make.zero(kind)),
        np.asarray(make.codes(kind, *_broadcastable(data.draw, shape))),
        *(make.scale(), make.zero(kind), make.scale(), make.zero(kind)),
    ]
    check_codes("QLinearWhere", operands, held=(2, 3, 5, 6, 7, 8))


@SMALL
@given(
    kind=BYTES,
    axis=st.integers(-2, 1),
    extents=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    seed=SEEDS,
)
def test_concat(kind, axis, extents, seed):
    make = Data(seed)
    operands = [make.scale(), make.zero(kind)]
    for extent in extents:
        shape = [3, 3]
        shape[axis] = extent
        operands += [make.codes(kind, *shape), make.scale(), make.zero(kind)]
    held = [at for at in range(len(operands)) if at < 2 or (at - 2) % 3]
    check_codes("QLinearConcat", operands, held=held, axis=axis)


def test_concat_leaves_codes_of_the_same_scale_alone():
    make = Data(0)
    scale, zero = make.scale(), make.zero(np.uint8)
    codes = make.codes(np.uint8, 2, 3)
    made = model("QLinearConcat", [scale, zero, codes, scale, zero], axis=0)
    made.graph.node[0].input[3:] = ["x0", "x1"]
    (found,) = here(made, {"x0": scale, "x1": zero, "x2": codes, "x3": scale, "x4": zero})
    np.testing.assert_array_equal(found, codes)


@SMALL
@given(data=st.data(), kind=BYTES, last=st.booleans(), include=st.booleans(), seed=SEEDS)
def test_average_pool(data, kind, last, include, seed):
    make = Data(seed)
    kernel = data.draw(st.tuples(st.integers(1, 3), st.integers(2, 3)))
    pads = data.draw(st.tuples(*(st.integers(0, k - 1) for k in kernel * 2)))
    shape = (2, 6, 7, 3) if last else (2, 3, 6, 7)
    operands = [make.codes(kind, *shape), make.scale(), make.zero(kind), make.scale()]
    check_codes(
        "QLinearAveragePool",
        [*operands, make.zero(kind)],
        kernel_shape=kernel,
        pads=pads,
        strides=data.draw(st.tuples(st.integers(1, 3), st.integers(1, 2))),
        channels_last=int(last),
        count_include_pad=int(include),
    )


@SMALL
@given(
    kind=BYTES,
    last=st.booleans(),
    extents=st.lists(st.integers(1, 6), min_size=2, max_size=3),
    seed=SEEDS,
)
def test_global_average_pool(kind, last, extents, seed):
    make = Data(seed)
    shape = (2, *extents, 3) if last else (2, 3, *extents)
    operands = [make.codes(kind, *shape), make.scale(), make.zero(kind), make.scale()]
    check_codes("QLinearGlobalAveragePool", [*operands, make.zero(kind)], channels_last=int(last))


@pytest.mark.parametrize("kind", [np.uint8, np.int8])
@pytest.mark.parametrize(("axes", "keepdims"), [((1, 2), 1), ((-1,), 0), ((), 1)])
def test_reduce_mean(kind, axes, keepdims):
    """onnxruntime defines the op and has no kernel: compared with its definition."""
    make = Data(1)
    x, zero, y_zero = make.codes(kind, 2, 3, 5), make.zero(kind), make.zero(kind)
    scale, y_scale = make.scale(), make.scale()
    operands = [x, scale, zero, y_scale, y_zero]
    made = model("QLinearReduceMean", operands, axes=axes or (0, 1, 2), keepdims=keepdims)
    (found,) = here(made, {f"x{i}": a for i, a in enumerate(operands)})
    real = (x.astype(np.float64) - int(zero)) * float(scale)
    mean = real.mean(axis=axes or None, keepdims=bool(keepdims)) / float(y_scale)
    info = np.iinfo(kind)
    exact = np.clip(mean + int(y_zero), info.min, info.max)
    assert np.abs(found - exact).max() <= 0.5 + 1e-4


@SMALL
@given(kind=BYTES, ceil=st.integers(0, 1), seed=SEEDS, strides=st.integers(1, 3))
def test_nhwc_max_pool(kind, ceil, seed, strides):
    check_codes(
        "NhwcMaxPool",
        [Data(seed).codes(kind, 2, 7, 6, 3)],
        kernel_shape=[3, 2],
        strides=[strides, 2],
        pads=[1, 0, 1, 1],
        ceil_mode=ceil,
    )


@SMALL
@given(
    kind=BYTES,
    weight=BYTES,
    last=st.booleans(),
    group=st.integers(1, 3),
    bias=st.booleans(),
    seed=SEEDS,
)
def test_conv(kind, weight, last, group, bias, seed):
    make = Data(seed)
    if kind == np.int8:
        weight = np.int8  # onnxruntime has no kernel for int8 with uint8 weights
    channels = 2 * group
    x = make.codes(kind, *((1, 6, 5, channels) if last else (1, channels, 6, 5)))
    per_channel = make.scale(3 * group)
    zeros = np.zeros(3 * group, np.int8) if weight == np.int8 else make.zero(weight)
    operands = [
        *(x, make.scale(), make.zero(kind)),
        *(make.codes(weight, 3 * group, 2, 3, 2), per_channel, zeros),
        *(make.scale(low=1, high=3), make.zero(kind)),
        (make.reals(3 * group) * 1000).astype(np.int32) if bias else None,
    ]
    operands = operands if bias else operands[:-1]
    node = {"group": group, "pads": [1, 0, 1, 1], "channels_last": int(last)}
    check_codes("QLinearConv", operands, held=(3, 4, 5), **node)


@SMALL
@given(data=st.data(), weight=BYTES, seed=SEEDS)
def test_matmul_integer_to_float(data, weight, seed):
    make = Data(seed)
    rows, depth, columns = (data.draw(st.integers(1, 6)) for _ in range(3))
    batch = data.draw(st.sampled_from([(), (2,), (2, 1)]))
    wide = data.draw(st.booleans())
    operands = [
        *(make.codes(np.uint8, *batch, rows, depth), make.codes(weight, depth, columns)),
        *(make.scale(), make.scale(columns) if wide else make.scale()),
        make.zero(np.uint8) if data.draw(st.booleans()) else None,
        make.zero(weight, *((columns,) if wide else ())) if data.draw(st.booleans()) else None,
        make.reals(columns) if data.draw(st.booleans()) else None,
    ]
    check_floats("MatMulIntegerToFloat", operands)


@SMALL
@given(data=st.data(), weight=BYTES, seed=SEEDS)
def test_dynamic_quantize_matmul(data, weight, seed):
    make = Data(seed)
    rows, depth, columns = (data.draw(st.integers(1, 6)) for _ in range(3))
    batch = data.draw(st.sampled_from([(), (2,)]))
    wide = data.draw(st.booleans())
    a = make.reals(*batch, rows, depth) * data.draw(st.sampled_from([0, 1, 100]))
    operands = [
        *(a.astype(np.float32), make.codes(weight, depth, columns)),
        make.scale(columns) if wide else make.scale(),
        make.zero(weight, *((columns,) if wide else ())) if data.draw(st.booleans()) else None,
        make.reals(columns) if data.draw(st.booleans()) else None,
    ]
    check_floats("DynamicQuantizeMatMul", operands)


@SMALL
@given(data=st.data(), weight=BYTES, seed=SEEDS, trans=st.tuples(*[st.integers(0, 1)] * 2))
def test_gemm(data, weight, seed, trans):
    make = Data(seed)
    rows, depth, columns = (data.draw(st.integers(1, 6)) for _ in range(3))
    a = make.codes(np.uint8, *((depth, rows) if trans[0] else (rows, depth)))
    w = make.codes(weight, *((columns, depth) if trans[1] else (depth, columns)))
    wide = data.draw(st.booleans())
    shape = data.draw(st.sampled_from([None, (columns,), (1, columns), (rows, columns)]))
    operands = [
        *(a, make.scale(), make.zero(np.uint8)),
        *(w, make.scale(columns) if wide else make.scale()),
        make.zero(weight, *((columns,) if wide else ())),
        None if shape is None else (make.reals(*shape) * 1000).astype(np.int32),
    ]
    node = {"transA": trans[0], "transB": trans[1], "alpha": data.draw(st.sampled_from([1.0, 0.3]))}
    if data.draw(st.booleans()):
        check_codes("QGemm", [*operands, make.scale(low=1, high=9), make.zero(np.uint8)], **node)
    else:
        check_floats("QGemm", [*operands, None, None], **node)


def test_matmul_integer16():
    make = Data(3)
    operands = [make.codes(np.int16, 3, 9), make.codes(np.int16, 9, 4)]
    check_codes("MatMulInteger16", operands)


@SMALL
@given(
    data=st.data(),
    weight=BYTES,
    direction=st.sampled_from(["forward", "reverse", "bidirectional"]),
    lengths=st.sampled_from([None, (3, 1), (2, 3)]),
    extras=st.booleans(),
    per_column=st.booleans(),
    seed=SEEDS,
)
def test_lstm(data, weight, direction, lengths, extras, per_column, seed):
    make = Data(seed)
    ways, batch, size, hidden = (2 if direction == "bidirectional" else 1), 2, 4, 3
    columns = (ways, 4 * hidden) if per_column else (ways,)
    zero = make.zero(weight, *columns)
    if per_column:  # one zero point for all columns is all that onnxruntime takes
        zero = np.full(columns, 0 if weight == np.int8 else 128, weight)
    extra = [make.reals(ways, batch, hidden) for _ in range(2)] + [make.reals(ways, 3 * hidden)]
    operands = [
        make.reals(3, batch, size),
        make.codes(weight, ways, size, 4 * hidden),
        make.codes(weight, ways, hidden, 4 * hidden),
        make.reals(ways, 8 * hidden) if extras else None,
        None if lengths is None else np.array(lengths, np.int32),
        *(extra if extras else (None,) * 3),
        *(make.scale(*columns, high=0.02), zero, make.scale(*columns, high=0.02), zero),
    ]
    node = {"direction": direction, "hidden_size": hidden}
    if data.draw(st.booleans()):
        node |= {"clip": 0.7, "input_forget": 1}
    # One code of the state is 2 / 255 of a product with up to 128 * 0.02.
    check_floats(
        *("DynamicQuantizeLSTM", operands),
        held=(1, 2, 8, 9, 10, 11),
        outputs=3,
        terms=8,
        **node,
    )


_PARAMETERS = (scalar(1), scalar(0, np.uint8))


@pytest.mark.parametrize(
    ("op", "operands", "words"),
    [
        ("QLinearAdd", [np.zeros(2, np.float32)] * 8, "must be int8 or uint8"),
        ("QLinearConcat", [scalar(1), scalar(0, np.uint8), np.zeros(2, np.uint8)], "triple"),
        (
            "QLinearSoftmax",
            [np.zeros(2, np.uint8), *_PARAMETERS, *_PARAMETERS],
            "axis 7 is out of range",
        ),
    ],
)
def test_refusals_say_why(op, operands, words):
    node = {"QLinearConcat": {"axis": 0}, "QLinearSoftmax": {"axis": 7, "opset": 13}}
    made = model(op, operands, **node.get(op, {}))
    with pytest.raises(AccelError, match=words):
        here(made, {})
