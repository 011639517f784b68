"""Ops that ONNX does not have: their exported functions give the bits that the kernels give."""

import numpy as np
import pytest

from accelsdk import formats as f
from accelsdk.exchange.codes import thresholds
from accelsdk.formats import MX_ELEMENTS, by_name
from accelsdk.graph.families.quantisation import SCALE_RULES
from accelsdk.kernels.api import evaluate
from accelsdk.numerics.codec import decode
from tests.exchange.onnx_runs import one_node, run

NARROW = tuple(row for row in f.FORMATS if row.is_float and row.bits <= 8)


def bits(array):
    array = np.asarray(array)
    if array.dtype.name in ("int4", "uint4", "int2", "uint2"):
        return array.astype(np.int8)
    return np.ascontiguousarray(array).reshape(array.shape or (1,)).view(f"u{array.itemsize}")


def same_bits(op, operands, outputs=1, nan_equal=False, **options):
    graph, feeds = one_node(op, operands, outputs=outputs, **options)
    wanted = evaluate(graph, feeds)
    for value, found in zip(graph.outputs, run(graph, feeds), strict=True):
        expected = wanted[value.name]
        assert found.dtype == expected.dtype
        assert found.shape == expected.shape
        if nan_equal:
            assert np.array_equal(np.isnan(found), np.isnan(expected))
            found, expected = np.nan_to_num(found, nan=0), np.nan_to_num(expected, nan=0)
        assert np.array_equal(bits(found), bits(expected)), (op, options)


def boundaries(format, dtype=np.float32):
    """Every value of a format, the midpoints between them, and their neighbours."""
    codes = np.arange(1 << format.bits, dtype=np.uint8).view(format.dtype)
    values = decode(codes, format, np.float64)
    values = np.unique(values[np.isfinite(values)])
    mids = (values[1:] + values[:-1]) / 2
    points = np.concatenate([values, mids, 1.2 * values[-1:], [1e30, -1e30, 1e-40]])
    points = points.astype(dtype)
    near = [np.nextafter(points, dtype(np.inf)), np.nextafter(points, dtype(-np.inf))]
    extra = np.array([0.0, -0.0, np.inf, -np.inf, np.nan], dtype)
    return np.concatenate([points, *near, extra])


@pytest.mark.parametrize("format", [*NARROW, f.MXINT8], ids=str)
@pytest.mark.parametrize("saturate", [1, 0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cast_to_codes(format, saturate, dtype):
    same_bits("Cast", [boundaries(format, dtype)], to=format.name, saturate=saturate)


@pytest.mark.parametrize("mode", ["up", "down", "nearest"])
@pytest.mark.parametrize("saturate", [1, 0])
def test_cast_to_e8m0(mode, saturate):
    powers = np.ldexp(np.float32(1), np.arange(-149, 128)).astype(np.float32)
    x = np.concatenate([powers, powers * np.float32(1.5), powers * np.float32(1.25)])
    x = np.concatenate([x, np.array([0, -0.0, -1, np.inf, -np.inf, np.nan], np.float32)])
    same_bits("Cast", [x], to=f.E8M0.name, round_mode=mode, saturate=saturate)


@pytest.mark.parametrize("format", [*NARROW, f.E8M0, f.MXINT8], ids=str)
@pytest.mark.parametrize("to", ["float32", "float16"])
def test_cast_from_codes(format, to):
    codes = np.arange(1 << format.bits, dtype=np.uint8).view(format.dtype)
    same_bits("Cast", [codes], to=to, formats={0: format}, nan_equal=True)


@pytest.mark.parametrize("format", [f.INT4, f.UINT4, f.INT2, f.UINT2], ids=str)
def test_cast_to_integers_below_a_byte(format):
    whole = np.arange(-40, 40, dtype=np.int32)
    same_bits("Cast", [whole], to=format.name)
    same_bits("Cast", [whole.astype(np.float32) / 4], to=format.name)


@pytest.mark.parametrize("format", [f.E4M3, f.E5M2, f.E5M2FNUZ, f.E2M1], ids=str)
@pytest.mark.parametrize("op", ["IsNaN", "IsInf"])
def test_tests_of_codes(op, format):
    codes = np.arange(1 << format.bits, dtype=np.uint8).view(format.dtype)
    same_bits(op, [codes], formats={0: format})


def test_thresholds_are_the_first_magnitudes_that_reach_a_code():
    def encode(x):
        return np.floor(x).clip(0, 5).astype(np.int64)

    found = thresholds(encode, 6, np.dtype(np.float32))
    assert found[:5].tolist() == [1, 2, 3, 4, 5]
    assert np.isnan(found[5])


def rng(seed=0):
    return np.random.default_rng(seed)


AFFINE = ("int8", "uint8", "int16", "uint16", "int4", "uint4", "int2", "uint2")


@pytest.mark.parametrize("to", [*AFFINE, *(row.name for row in NARROW)])
@pytest.mark.parametrize("kind", ["tensor", "channel", "block"])
def test_quantize(to, kind):
    x = (rng().standard_normal((3, 5, 4)) * 9).astype(np.float32)
    shape = {"tensor": (), "channel": (5,), "block": (3, 3, 4)}[kind]
    scale = rng(1).uniform(0.02, 2, shape).astype(np.float32)
    format = by_name(to)
    zero = None
    if format.is_integer:
        low = 0 if not format.is_signed else -4
        zero = rng(2).integers(low, 5, shape).astype(np.int8).astype(format.dtype)
        zero = np.asarray(zero)
    block = 2 if kind == "block" else 0
    same_bits("Quantize", [x, scale, zero], to=to, axis=1, block_size=block)


@pytest.mark.parametrize("origin", [*AFFINE, "int32", *(row.name for row in NARROW)])
@pytest.mark.parametrize("kind", ["tensor", "channel", "block"])
@pytest.mark.parametrize("to", ["float32", "float16"])
def test_dequantize(origin, kind, to):
    format = by_name(origin)
    if format.is_integer:
        low, high = (int(format.min), int(format.max)) if format.bits <= 16 else (-900, 900)
        q = rng().integers(low, high + 1, (3, 5, 4)).astype(np.int32).astype(format.dtype)
    else:
        q = rng().integers(0, 1 << (format.bits - 1), (3, 5, 4)).astype(np.uint8)
        q = np.minimum(q, 0x5F).astype(np.uint8).view(format.dtype)
    shape = {"tensor": (), "channel": (5,), "block": (3, 3, 4)}[kind]
    scale = rng(1).uniform(0.02, 2, shape).astype(np.float32)
    if to != "float32":
        # ONNX rounds to float32 and then to 16 bits; a power of two makes the first exact.
        scale = np.asarray(np.exp2(np.rint(np.log2(scale))))
    zero = None
    if format.is_integer and format.bits <= 16:
        zero = np.asarray(rng(2).integers(0, 5, shape).astype(np.int8).astype(format.dtype))
    block = 2 if kind == "block" else 0
    same_bits("Dequantize", [q, scale, zero], axis=1, block_size=block, to=to)


@pytest.mark.parametrize("to", ["int8", "float8_e4m3fn"])
def test_quantize_rounds_both_operands_to_the_type_of_the_scale(to):
    """ONNX 23: the quotient is computed in the type of the scale, and so from operands of it."""
    x = (rng().standard_normal((40, 25)) * 9).astype(np.float32)
    scale = rng(1).uniform(0.02, 2, (25,)).astype(np.float16)
    same_bits("Quantize", [x, scale], to=to, axis=1)


def test_quantize_with_a_power_of_two_scale():
    x = (rng().standard_normal((4, 6)) * 9).astype(np.float32)
    scale = rng(1).integers(120, 130, (4, 3)).astype(np.uint8).view(f.E8M0.dtype)
    same_bits("Quantize", [x, scale], to="float4_e2m1fn", axis=1, block_size=2)


ACC = (
    np.concatenate(
        [
            rng().integers(-(1 << 20), 1 << 20, 300),
            np.array([0, 1, -1, (1 << 31) - 1, -(1 << 31), 3 << 8, -(3 << 8)]),
        ]
    )
    .astype(np.int32)[: 300 // 4 * 4]
    .reshape(-1, 4)
)


@pytest.mark.parametrize("to", ["int8", "uint8"])
@pytest.mark.parametrize("relu", [0, 1])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("arithmetic", ["float32", "fixed_single", "fixed_double"])
def test_requantize(to, relu, per_channel, arithmetic):
    shape = (4,) if per_channel else ()
    zero = np.asarray(rng(3).integers(0, 9, shape).astype(to))
    bias = rng(4).integers(-(1 << 20), 1 << 20, 4).astype(np.int32)
    if arithmetic == "float32":
        multiplier = np.asarray(rng(1).uniform(1e-5, 1e-3, shape).astype(np.float32))
        shift = None
    else:
        multiplier = np.asarray(rng(1).integers(1 << 30, (1 << 31) - 1, shape).astype(np.int32))
        shift = np.asarray(rng(2).integers(30, 46, shape).astype(np.int32))
    given = {"arithmetic": arithmetic, "to": to, "relu": relu}
    same_bits("Requantize", [ACC, multiplier, shift, zero, bias], **given)
    same_bits("Requantize", [ACC, multiplier, shift, None, None], **given)


@pytest.mark.parametrize("element", MX_ELEMENTS, ids=str)
@pytest.mark.parametrize("rule", SCALE_RULES)
def test_quantize_block(element, rule):
    x = rng().standard_normal((3, 70)).astype(np.float32)
    x *= np.exp2(rng(1).integers(-140, 120, (3, 70))).astype(np.float32)
    x[0, 3], x[1, 40], x[2, :32] = np.nan, np.inf, 0
    x[2, 33] = -0.0
    graph, feeds = one_node("QuantizeBlock", [x], outputs=2, to=element.name, rule=rule)
    elements, scales = run(graph, feeds)
    wanted = evaluate(graph, feeds)
    wanted_elements, wanted_scales = (wanted[v.name] for v in graph.outputs)
    assert np.array_equal(bits(scales), bits(wanted_scales))
    # OCP MX: elements of a block whose scale is NaN mean nothing.
    real = np.repeat(bits(scales) != 0xFF, 32, axis=1)[:, :70]
    assert np.array_equal(bits(elements)[real], bits(wanted_elements)[real])


@pytest.mark.parametrize("axis", [0, 1])
def test_quantize_block_axis_and_size(axis):
    x = rng().standard_normal((5, 6)).astype(np.float32)
    given = {"to": "float8_e4m3fn", "axis": axis, "block_size": 4}
    same_bits("QuantizeBlock", [x], outputs=2, **given)


@pytest.mark.parametrize("element", MX_ELEMENTS, ids=str)
@pytest.mark.parametrize("to", ["float32", "float16"])
def test_dequantize_block(element, to):
    codes = rng().integers(0, 1 << element.bits, (3, 70)).astype(np.uint8).view(element.dtype)
    scales = rng(1).integers(110, 140, (3, 3)).astype(np.uint8)
    scales[1, 1] = 0xFF
    operands = [codes, scales.view(f.E8M0.dtype)]
    same_bits("DequantizeBlock", operands, formats={0: element}, to=to, nan_equal=True)


def exact_codes(element, shape, seed):
    """Codes of small integers, whose products and sums are exact in any order."""
    small = np.array([-2, -1, 0, 1, 2], np.float32)
    if element == f.MXINT8:
        return (rng(seed).integers(-2, 2, shape)).astype(np.int8)
    return rng(seed).choice(small, shape).astype(element.dtype)


@pytest.mark.parametrize("pair", [(a, b) for a in MX_ELEMENTS for b in MX_ELEMENTS[::2]], ids=str)
def test_block_scaled_matmul(pair):
    a, b = exact_codes(pair[0], (2, 4, 70), 1), exact_codes(pair[1], (70, 5), 2)
    scales = [
        rng(i).integers(124, 130, s).astype(np.uint8).view(f.E8M0.dtype)
        for i, s in enumerate([(2, 4, 3), (3, 5)])
    ]
    formats = dict(enumerate(pair))
    same_bits("ScaledMatMul", [a, b, *scales], formats=formats, block_size=32)


@pytest.mark.parametrize("shapes", [((), ()), ((4, 1), ()), ((), (1, 5)), ((4, 1), (1, 5))])
@pytest.mark.parametrize("to", ["float32", "float16"])
def test_scaled_matmul(shapes, to):
    a, b = exact_codes(f.E4M3, (4, 20), 1), exact_codes(f.E5M2, (20, 5), 2)
    scales = [np.asarray(rng(3).uniform(0.1, 2, s).astype(np.float32)) for s in shapes]
    same_bits("ScaledMatMul", [a, b, *scales], to=to)


@pytest.mark.parametrize("types", ["u8s8", "s8s8", "u8u8", "int4uint4"])
@pytest.mark.parametrize("zeros", ["none", "scalar", "row_column"])
def test_matmul_integer(types, zeros):
    formats = {
        "u8s8": (f.UINT8, f.INT8),
        "s8s8": (f.INT8, f.INT8),
        "u8u8": (f.UINT8, f.UINT8),
        "int4uint4": (f.INT4, f.UINT4),
    }[types]

    def codes(format, shape, seed):
        drawn = rng(seed).integers(int(format.min), int(format.max) + 1, shape)
        return np.asarray(drawn).astype(np.int16).astype(format.dtype)

    shapes = {"none": None, "scalar": ((), ()), "row_column": ((3,), (4,))}[zeros]
    points = [None, None]
    if shapes is not None:
        points = [codes(row, shape, 9) for row, shape in zip(formats, shapes, strict=True)]
    a, b = codes(formats[0], (3, 40), 1), codes(formats[1], (40, 4), 2)
    same_bits("MatMulInteger", [a, b, *points])


@pytest.mark.parametrize("weighted", [False, True])
def test_sparse_lengths_sum(weighted):
    # Integers: exact in any order.
    table = rng().integers(-9, 9, (10, 4)).astype(np.float32)
    indices, lengths = np.array([3, 1, 9, 9, 0, 2], np.int64), np.array([2, 0, 3, 1], np.int32)
    weights = rng(1).integers(-3, 3, 6).astype(np.float32) if weighted else None
    same_bits("SparseLengthsSum", [table, indices, lengths, weights])


@pytest.mark.parametrize("bits_of_code", [8, 4, 2])
@pytest.mark.parametrize("columns", [1, 5, 8])
def test_sparse_lengths_sum_fused(bits_of_code, columns):
    packed = -(-columns * bits_of_code // 8)
    codes = rng().integers(0, 256, (7, packed)).astype(np.uint8)
    kind = np.float32 if bits_of_code == 8 else np.float16
    # Powers of two and small integers keep every product and sum exact.
    scale = np.ldexp(1.0, rng(1).integers(-2, 3, (7, 1))).astype(kind)
    bias = rng(2).integers(-4, 4, (7, 1)).astype(kind)
    table = np.concatenate([codes, scale.view(np.uint8), bias.view(np.uint8)], axis=1)
    indices, lengths = np.array([3, 1, 6, 6, 0], np.int32), np.array([2, 3, 0], np.int64)
    given = {"bits": bits_of_code, "columns": columns}
    same_bits("SparseLengthsSumFused", [table, indices, lengths], **given)


def test_every_float_of_a_fused_row_is_read_exactly():
    numbers = np.array([0, -0.0, 1e-7, 6e-8, 65504, -1.5, np.inf, 0.1], np.float16)
    table = np.zeros((len(numbers), 5), np.uint8)
    table[:, 3:] = numbers.view(np.uint8).reshape(-1, 2)
    indices = np.arange(len(numbers), dtype=np.int64)
    lengths = np.ones(len(numbers), np.int64)
    given = {"bits": 4, "columns": 1}
    same_bits("SparseLengthsSumFused", [table, indices, lengths], **given)


@pytest.mark.parametrize("origin", ["float8_e4m3fn", "float8_e5m2", "int8", "uint16"])
@pytest.mark.parametrize("power", [0, -20, -126, 8])
def test_dequantize_to_float16_rounds_once(origin, power):
    """Ties of the result beside what float32 makes of products, and subnormal results."""
    format = by_name(origin)
    noise = rng(3).uniform(1, 2, (500, 1)).astype(np.float32)
    scale = np.ldexp(noise, power).astype(np.float32)
    # 3 q = a tie of the result and a little: the product has more bits than float32 holds.
    scale[:200] = np.float32(2.0**power * (1 + 2.0**-11) / 3)
    scale[:200] += np.spacing(scale[:200]) * rng(4).integers(-3, 4, (200, 1)).astype(np.float32)
    every = np.arange(256, dtype=np.uint16 if format.bits == 16 else np.uint8)
    q = np.broadcast_to(every.view(format.dtype), (500, 256)).copy()
    given = {"to": "float16", "axis": 0, "formats": {0: format}}
    graph, feeds = one_node("Dequantize", [q, scale[:, 0]], **given)
    (found,), (wanted,) = run(graph, feeds), evaluate(graph, feeds).values()
    # onnxruntime's Where gives 0 for -0.
    assert np.array_equal(found, wanted, equal_nan=True)


@pytest.mark.parametrize("format", [*NARROW, f.E8M0, f.MXINT8, f.INT4], ids=str)
def test_cast_to_the_same_format_keeps_codes(format):
    codes = np.arange(1 << format.bits, dtype=np.uint8)
    codes = codes.astype(np.int8).astype(format.dtype) if format is f.INT4 else codes
    codes = codes if format is f.INT4 else codes.view(format.dtype)
    same_bits("Cast", [codes], to=format.name, formats={0: format})


def test_scales_of_blocks_may_undo_each_other():
    """2**127 on one side and 2**-127 on the other: the products are in range, not the factors."""
    a = np.full((2, 32), 0x7E, np.uint8).view(f.E4M3.dtype)  # 448
    far = [np.full((2, 1), code, np.uint8).view(f.E8M0.dtype) for code in (0xFE, 0x00)]
    operands = [a, np.ascontiguousarray(a.T), far[0], np.ascontiguousarray(far[1].T)]
    formats = {0: f.E4M3, 1: f.E4M3, 2: f.E8M0, 3: f.E8M0}
    same_bits("ScaledMatMul", operands, formats=formats, block_size=32)


@pytest.mark.parametrize("activation", ["Affine", "ScaledTanh", "LeakyRelu", "HardSigmoid", "Elu"])
def test_recurrent_activations_take_our_defaults(activation):
    x, w, r = (rng(i).standard_normal(s).astype(np.float32) for i, s in enumerate(RNN_SHAPES))
    given = {"hidden_size": 4, "activations": (activation,), "outputs": 2}
    graph, feeds = one_node("RNN", [x, w, r], **given)
    for value, found in zip(graph.outputs, run(graph, feeds), strict=True):
        np.testing.assert_allclose(found, evaluate(graph, feeds)[value.name], rtol=1e-5, atol=1e-6)


RNN_SHAPES = ((3, 2, 5), (1, 4, 5), (1, 4, 4))


def test_group_normalization_of_float64_is_computed_in_float64():
    x = rng().standard_normal((2, 4, 9))
    scale, shift = np.array([1.0, 2, 3, 4]), np.array([0.5, 0, -1, 2])
    graph, feeds = one_node("GroupNormalization", [x, scale, shift], num_groups=2, epsilon=2.0**-17)
    (found,), (wanted,) = run(graph, feeds), evaluate(graph, feeds).values()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-14)
