"""Quantised ops of ai.onnx: against onnxruntime, and against their definition where it has none."""

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from accelsdk.errors import AccelError
from accelsdk.formats import by_name
from accelsdk.numerics import codec
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


def _own(op, operands, *, opset=24, **node):
    """Our result of an ai.onnx op."""
    made = model(op, operands, domain="", opset_of=opset, **node)
    return here(made, {f"x{i}": a for i, a in enumerate(operands) if a is not None})[0]


def _rounded(real, zero, kind):
    info = np.iinfo(kind)
    return np.clip(np.rint(real) + zero.astype(np.float64), info.min, info.max).astype(kind)


# -- QLinearMatMul and MatMulInteger -----------------------------------------------------------


@SMALL
@given(data=st.data(), weight=BYTES, wide=st.booleans(), seed=SEEDS)
def test_qlinear_matmul(data, weight, wide, seed):
    make = Data(seed)
    rows, depth, columns = (data.draw(st.integers(1, 6)) for _ in range(3))
    batch = data.draw(st.sampled_from([(), (2,), (2, 1)]))
    count = (columns,) if wide and not batch else ()
    operands = [
        *(make.codes(np.uint8, *batch, rows, depth), make.scale(), make.zero(np.uint8)),
        *(make.codes(weight, *batch, depth, columns), make.scale(*count)),
        *(make.zero(weight, *count), make.scale(low=0.5, high=2), make.zero(np.uint8)),
    ]
    check_codes("QLinearMatMul", operands, domain="")


@SMALL
@given(
    a_kind=BYTES,
    w_kind=BYTES,
    batch=st.sampled_from([(), (2,), (2, 1)]),
    form=st.sampled_from([np.float32, np.float16, ml_dtypes.bfloat16]),
    per_row=st.tuples(*[st.booleans()] * 3),
    seed=SEEDS,
)
def test_scales_and_zero_points_of_rows_and_columns(a_kind, w_kind, batch, form, per_row, seed):
    """onnxruntime takes few of them: compared with the definition."""
    make, (rows, depth, columns) = Data(seed), (3, 5, 4)
    vector = (rows,) if not batch else (*batch, rows, 1)
    last = (columns,) if not batch else (*batch, 1, columns)
    shapes = [full if on else () for full, on in zip((vector, last, vector), per_row, strict=True)]
    scales = [make.scale(*s, low=0.05, high=0.3).astype(form) for s in shapes]
    a, w = make.codes(a_kind, *batch, rows, depth), make.codes(w_kind, *batch, depth, columns)
    zeros = [make.zero(k, *s) for k, s in zip((a_kind, w_kind, a_kind), shapes, strict=True)]
    operands = [a, scales[0], zeros[0], w, scales[1], zeros[1], scales[2], zeros[2]]
    found = _own("QLinearMatMul", operands)

    def column(x):
        return x[:, None] if x.ndim == 1 else x

    left, right = a - column(zeros[0]).astype(np.int64), w - zeros[1].astype(np.int64)
    wide = [s.astype(np.float32) for s in scales]
    multiplier = column(wide[0]) * wide[1] / column(wide[2])
    real = (left @ right).astype(np.float32) * multiplier
    np.testing.assert_array_equal(found, _rounded(real, column(zeros[2]), a_kind))
    (sums,) = here(
        made := model("MatMulInteger", [a, w, zeros[0], zeros[1]], domain=""),
        dict(zip([i.name for i in made.graph.input], [a, w, zeros[0], zeros[1]], strict=True)),
    )
    np.testing.assert_array_equal(sums, left @ right)


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2"])
@pytest.mark.parametrize("per_row", [False, True])
def test_qlinear_matmul_of_fp8(name, per_row):
    make, fmt = Data(1), by_name(name)
    a, w = (codec.encode(make.reals(*shape), fmt) for shape in ((2, 3, 5), (5, 4)))
    a_scale = make.scale(3) if per_row else make.scale()
    w_scale, y_scale = make.scale(4) if per_row else make.scale(), make.scale()
    zero = np.zeros((), fmt.dtype)
    zeros = [np.zeros(s.shape, fmt.dtype) for s in (a_scale, w_scale)]
    found = _own("QLinearMatMul", [a, a_scale, zeros[0], w, w_scale, zeros[1], y_scale, zero])
    rows = a_scale[:, None] if per_row else a_scale
    sums = codec.decode(a, fmt, np.float64) @ codec.decode(w, fmt, np.float64)
    y = (sums.astype(np.float32) * rows * w_scale) / y_scale
    np.testing.assert_array_equal(found.astype(np.float32), codec.encode(y, fmt).astype(np.float32))


@SMALL
@given(
    mode=st.sampled_from(["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]),
    weight=BYTES,
    group=st.integers(1, 2),
    rank=st.integers(1, 2),
    bias=st.booleans(),
    seed=SEEDS,
)
def test_qlinear_conv(mode, weight, group, rank, bias, seed):
    make = Data(seed)
    node = {"pads": [1] * (2 * rank), "dilations": [2] * rank} if mode == "NOTSET" else {}
    node |= {} if mode == "NOTSET" else {"auto_pad": mode, "strides": [2] * rank}
    operands = [
        *(make.codes(np.uint8, 1, 2 * group, *[7] * rank), make.scale(), make.zero(np.uint8)),
        *(make.codes(weight, 2 * group, 2, *[3] * rank), make.scale(2 * group)),
        np.zeros(2 * group, weight) if weight == np.int8 else make.zero(weight),
        *(make.scale(low=1, high=2), make.zero(np.uint8)),
        *([(make.reals(2 * group) * 1000).astype(np.int32)] if bias else []),
    ]
    check_codes("QLinearConv", operands, held=(3, 4, 5), domain="", group=group, **node)


@SMALL
@given(weight=BYTES, zeros=st.booleans(), seed=SEEDS)
def test_conv_integer(weight, zeros, seed):
    make = Data(seed)
    operands = [make.codes(np.uint8, 1, 2, 6, 6), make.codes(weight, 3, 2, 3, 3)]
    operands += [make.zero(np.uint8), make.zero(weight)] if zeros else []
    check_codes("ConvInteger", operands, domain="", pads=[1, 0, 1, 1])


# -- DynamicQuantizeLinear ---------------------------------------------------------------------


@SMALL
@given(
    shape=st.lists(st.integers(0, 4), max_size=3).map(tuple),
    shift=st.sampled_from([-3, 0, 3]),
    factor=st.sampled_from([0, 1, 1e-30, 1e30]),
    seed=SEEDS,
)
def test_dynamic_quantize(shape, shift, factor, seed):
    x = ((Data(seed).reals(*shape) + shift) * factor).astype(np.float32)
    if x.size == 0:
        codes, scale, zero = here(
            model("DynamicQuantizeLinear", [x], outputs=3, domain=""), {"x0": x}
        )
        assert (codes.shape, float(scale), int(zero)) == (shape, 1.0, 0)
        return
    check_floats("DynamicQuantizeLinear", [np.asarray(x)], outputs=3, domain="")


# -- QuantizeLinear and DequantizeLinear -------------------------------------------------------


@SMALL
@given(
    kind=st.sampled_from([np.uint8, np.int8, np.uint16, np.int16]),
    form=st.sampled_from(["tensor", "axis", "block"]),
    axis=st.integers(-2, 1),
    seed=SEEDS,
)
def test_quantize_and_dequantize(kind, form, axis, seed):
    make, shape, block = Data(seed), [5, 6], 4
    count = {"tensor": (), "axis": (shape[axis],), "block": list(shape)}[form]
    if form == "block":
        count[axis] = 2
    node = {} if form == "tensor" else {"axis": axis}
    node |= {"block_size": block} if form == "block" else {}
    scale, zero = make.scale(*count), make.zero(kind, *count)
    settings = {"domain": "", "opset_of": 21, **node}
    check_codes("QuantizeLinear", [make.reals(*shape) * 20, scale, zero], **settings)
    check_floats("DequantizeLinear", [make.codes(kind, *shape), scale, zero], **settings)


@pytest.mark.parametrize(
    "precision", [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16]
)
def test_precision_is_that_of_the_quotient(precision):
    x, scale = Data(1).reals(64) * np.float32(9), scalar(0.07)
    dtype = helper.tensor_dtype_to_np_dtype(precision)
    found = _own("QuantizeLinear", [x, scale, scalar(0, np.int8)], precision=precision)
    quotient = (x.astype(dtype) / scale.astype(dtype)).astype(np.float64)
    np.testing.assert_array_equal(found, np.clip(np.rint(quotient), -128, 127))


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2", "float4_e2m1fn"])
@pytest.mark.parametrize("scales", ["float32", "float16", "float8_e8m0fnu"])
def test_blocks_of_narrow_floats(name, scales):
    """OCP MX as ONNX expresses it: E8M0 scales, blocks of 32, a short last block."""
    make, fmt, form = Data(2), by_name(name), by_name(scales)
    x = make.reals(3, 70)
    scale = codec.encode(np.exp2(make.rng.integers(-3, 3, (3, 3))), form)
    node = {"axis": 1, "block_size": 32}
    kind = helper.np_dtype_to_tensor_dtype(fmt.dtype)
    codes = _own("QuantizeLinear", [x, scale], output_dtype=kind, **node)
    wide = np.repeat(scale.astype(np.float32), 32, axis=1)[:, :70]
    narrow = x.astype(np.float16).astype(np.float32) if scales == "float16" else x
    expected = codec.encode(narrow / wide, fmt)
    np.testing.assert_array_equal(codes.astype(np.float32), expected.astype(np.float32))
    back = _own("DequantizeLinear", [codes, scale], output_dtype=TensorProto.FLOAT, **node)
    np.testing.assert_array_equal(back, expected.astype(np.float32) * wide)


def test_zero_points_must_be_of_the_output_type():
    operands = [np.zeros(2, np.float32), scalar(1), scalar(0, np.uint8)]
    with pytest.raises(AccelError, match="output_dtype int8 differs"):
        _own("QuantizeLinear", operands, output_dtype=onnx.TensorProto.INT8)
