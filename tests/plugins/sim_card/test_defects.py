"""Every defect changes at least one result, and only in the card that has it."""

import numpy as np
import pytest

from accelsdk import formats as f
from accelsdk.kernels import api as kernels
from accelsdk_sim_card.defects import catalogue

_RNG = np.random.default_rng(0)
F32 = np.float32


def _codes(fmt, *shape):
    every = (np.arange(np.prod(shape)) % (1 << fmt.bits)).astype(np.uint8)
    return every.reshape(shape).view(fmt.dtype)


def _all(fmt):
    return _codes(fmt, 1 << fmt.bits)


def _decode(fmt):
    return ("Cast", (_all(fmt),), {"to": "float32"})


def _cast(fmt, *values, source=F32, **attributes):
    return ("Cast", (np.array(values, source),), {"to": fmt.name, **attributes})


def _scaled(fmt, a, b):
    return ("ScaledMatMul", (a.view(fmt.dtype), b.view(fmt.dtype), F32(1), F32(1)), {})


def _blocks(x, fmt=f.E4M3, **attributes):
    return ("QuantizeBlock", (np.asarray(x, F32),), {"to": fmt.name, "outputs": 2, **attributes})


def _dequant_blocks(scales, fmt=f.E4M3):
    elements = np.full((1, 32 * len(scales)), 0x38, np.uint8).view(fmt.dtype)
    given = np.array([scales], np.uint8).view(f.E8M0.dtype)
    return ("DequantizeBlock", (elements, given), {})


def _ints(a, b, *zeros):
    return ("MatMulInteger", (a, b, *zeros), {})


def _requant(acc, multiplier, shift=None, bias=None, **attributes):
    arrays = (np.array(acc, np.int32), multiplier, shift, None, bias)
    return ("Requantize", arrays, {"to": "int8", **attributes})


def _e4m3(*codes):
    return np.array(codes, np.uint8)


def _grid(seed, *shape, high=0x7E):
    return np.random.default_rng(seed).integers(0, high, shape).astype(np.uint8)


_X = _RNG.standard_normal((3, 40)).astype(F32)
_W = _RNG.standard_normal((40, 9)).astype(F32)
_U8 = np.array([[255, 255, 128, 3]], np.uint8)
_S8 = np.array([[127], [127], [-128], [2]], np.int8)
_IMAGE = _RNG.integers(1, 255, (1, 2, 4, 4)).astype(np.uint8)
_KERNEL = _RNG.integers(-9, 9, (3, 2, 3, 3)).astype(np.int8)
_WINDOW = {"strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1)}
_BAGS = np.array([0, 1, 2, 1], np.int64), np.array([2, 2], np.int32)
_Q31 = np.int32(1 << 30)
_RAMP = np.linspace(-1, 1, 64, dtype=F32).reshape(1, 64)


def _block(**at):
    row = np.full(32, 1.0, F32)
    for lane, value in at.items():
        row[int(lane[1:])] = value
    return row[None]


PROBES = {
    "e4m3_nan_480": _decode(f.E4M3),
    "e4m3_ieee": _decode(f.E4M3),
    "e4m3_fnuz": _decode(f.E4M3),
    "negative_zero_nan": _decode(f.E5M2),
    "e5m2_nan_is_inf": _decode(f.E5M2),
    "input_ftz": _scaled(f.E4M3, _e4m3(1).reshape(1, 1), _e4m3(0x38).reshape(1, 1)),
    "fp6_swapped": _decode(f.E3M2),
    "fp4_sign_extended": _decode(f.E2M1),
    "nibble_order": _decode(f.E2M1),
    "int4_min": ("Cast", (np.arange(-8, 8).astype(f.INT4.dtype),), {"to": "float32"}),
    "cast_rtz": _cast(f.E4M3, 1.1, 1.2),
    "cast_ties_away": _cast(f.E4M3, 1.0625),
    "cast_half_up": _cast(f.E4M3, 1.0625, -1.0625, -1.1875),
    "output_ftz": _cast(f.E4M3, 2.0**-8),
    "early_saturation": _cast(f.E4M3, 300.0),
    "overflow_special": _cast(f.E4M3, 1e4),
    "overflow_saturates": _cast(f.E4M3, 1e4, saturate=0),
    "inf_clamped": _cast(f.E5M2, np.inf, saturate=0),
    "nan_clamped": _cast(f.E4M3, np.nan),
    "double_rounding": _cast(f.E4M3, 1.0625 * (1 + 2**-12)),
    "bf16_truncated": _cast(f.BFLOAT16, 1 + 3 * 2**-9),
    "float_to_int_rounds": _cast(f.INT32, 1.7, -1.7),
    "int_cast_saturates": _cast(f.INT8, 300, source=np.int32),
    "e8m0_rounds_down": _cast(f.E8M0, 1.5),
    "mx_scale_off_by_one": _blocks(_RAMP),
    "mx_scale_ceil": _blocks(_RAMP * 3),
    "mx_scale_nearest": _blocks(_block(l0=1.98)),
    "mx_amax_bf16": _blocks(_block(l3=1024 * (1 - 2.0**-20))),
    "mx_amax_signed": _blocks(_block(l3=-8.0)),
    "mx_amax_last_lane": _blocks(_block(l31=8.0)),
    "mx_block_16": _blocks(_block(l20=8.0)),
    "mx_tail_garbage": _blocks(np.ones((1, 40))),
    "mx_nan_dropped": _blocks(_block(l5=np.nan)),
    "mx_elements_truncated": _blocks(_RAMP),
    "mx_nan_scale_finite": _dequant_blocks([0xFF]),
    "mx_zero_scale": _dequant_blocks([0x00]),
    "mx_scale_used_once": (
        "ScaledMatMul",
        (
            _codes(f.E4M3, 1, 32),
            np.ones((32, 1), f.E4M3.dtype),
            np.array([[120]], np.uint8).view(f.E8M0.dtype),
            np.array([[130]], np.uint8).view(f.E8M0.dtype),
        ),
        {"block_size": 32},
    ),
    "mx_scale_neighbour": _dequant_blocks([120, 130]),
    "mxint8_fraction": (
        "DequantizeBlock",
        (np.arange(32, dtype=np.int8)[None], np.array([[127]], np.uint8).view(f.E8M0.dtype)),
        {"formats": (f.MXINT8,)},
    ),
    "accumulator_13_bits": _scaled(f.E4M3, _grid(1, 4, 96), _grid(2, 96, 4)),
    "accumulator_one_bit_short": _scaled(
        f.E5M2, _grid(1, 8, 96, high=0x7B), _grid(2, 96, 8, high=0x7B)
    ),
    "accumulator_rounding": _scaled(f.E5M2, _grid(1, 8, 96, high=0x7B), _grid(2, 96, 8, high=0x7B)),
    "accumulator_fp16": _scaled(f.E4M3, _grid(1, 4, 96), _grid(2, 96, 4)),
    "accumulator_bf16": _scaled(f.E4M3, _grid(1, 4, 96), _grid(2, 96, 4)),
    "products_rounded": _scaled(f.E4M3, _e4m3(0x3F).reshape(1, 1), _e4m3(0x3F).reshape(1, 1)),
    "last_element_lost": ("MatMul", (_X, _W), {}),
    "element_doubled": ("MatMul", (_X, _W), {}),
    "stale_edge_tile": ("MatMul", (_X, _W), {}),
    "tf32_inputs": ("MatMul", (_X, _W), {}),
    "fp16_sum_per_product": ("MatMul", (_X.astype("f2"), _W.astype("f2")), {}),
    "bias_twice": ("Gemm", (_X, _W, np.ones(9, F32)), {}),
    "stuck_lane_bit": ("MatMul", (_X, _W), {}),
    "pair16_saturation": _ints(_U8, _S8),
    "int_accumulator_saturates": _ints(
        np.full((1, 131072), -128, np.int8), np.full((131072, 1), -128, np.int8)
    ),
    "min_times_min": _ints(np.full((1, 3), -128, np.int8), np.full((3, 1), -128, np.int8)),
    "zero_point_sign": _ints(_U8, _S8, np.uint8(9)),
    "zero_point_padding": ("ConvInteger", (_IMAGE, _KERNEL, np.uint8(9)), _WINDOW),
    "signed_unsigned_mixed": _ints(_U8, _S8),
    "quantize_reciprocal": (
        "Quantize",
        (np.array([2.017864942550659], F32), F32(0.06405920535326004)),
        {"to": "int8"},
    ),
    "quantize_zero_point_first": (
        "Quantize",
        (np.array([0.5], F32), F32(1), np.int8(5)),
        {"to": "int8"},
    ),
    "quantize_ties_away": ("Quantize", (np.array([0.5], F32), F32(1)), {"to": "int8"}),
    "quantize_wraps": ("Quantize", (np.array([300.0], F32), F32(1)), {"to": "int8"}),
    "dequantize_zero_point": (
        "Dequantize",
        (np.array([7], np.int8), F32(1), np.int8(3)),
        {},
    ),
    "dequantize_next_channel": (
        "Dequantize",
        (np.array([[7, 8]], np.int8), np.array([1, 2], F32)),
        {"axis": 1},
    ),
    "requant_ties_away": _requant([128, -128], F32(2**-8)),
    "requant_half_up": _requant([384, -384], F32(2**-8)),
    "requant_truncates": _requant([200], F32(2**-8)),
    "requant_double_rounding": _requant([-24], _Q31, np.int32(34), arithmetic="fixed_single"),
    "requant_single_rounding": _requant([-24], _Q31, np.int32(34), arithmetic="fixed_double"),
    "requant_shift_truncates": _requant([-3], _Q31, np.int32(32), arithmetic="fixed_single"),
    "requant_short_multiplier": _requant(
        [-3 << 20], np.int32((1 << 30) + 0xFFFF), np.int32(51), arithmetic="fixed_single"
    ),
    "requant_next_channel": _requant([[100, 100]], np.array([0.5, 0.25], F32)),
    "relu_before_bias": _requant([[-50, 50]], F32(1), bias=np.int32(20), relu=1),
    "avgpool_counts_padding": (
        "AveragePool",
        (_IMAGE.astype(F32),),
        {"kernel_shape": (3, 3), **_WINDOW},
    ),
    "maxpool_pads_zero": (
        "MaxPool",
        (-_IMAGE.astype(F32),),
        {"kernel_shape": (3, 3), **_WINDOW},
    ),
    "softmax_no_max": ("Softmax", (np.array([[100.0, 0.0]], F32),), {"axis": 1}),
    "max_drops_nan": ("Max", (np.array([np.nan], F32), np.array([1.0], F32)), {}),
    "argmax_last_tie": ("ArgMax", (np.array([1, 3, 3], F32),), {"axis": 0, "keepdims": 1}),
    "argmin_last_tie": ("ArgMin", (np.array([3, 1, 1], F32),), {"axis": 0, "keepdims": 1}),
    "vector_tail": ("Add", (_X[0, :11], _X[1, :11]), {}),
    "float32_ftz": ("Mul", (np.array([1e-30], F32), np.array([1e-10], F32)), {}),
    "reduce_last_lost": ("ReduceSum", (_X,), {"axes": (1,), "keepdims": 0}),
    "normalization_epsilon": (
        "LayerNormalization",
        (_X * F32(2**-9), np.ones(40, F32)),
        {"axis": -1, "epsilon": 1e-5},
    ),
    "exp_bf16": ("Exp", (_X,), {}),
    "sigmoid_table": ("Sigmoid", (_X,), {}),
    "round_ties_away": ("Round", (np.array([0.5, 2.5], F32),), {}),
    "int_div_floors": ("Div", (np.array([-7], np.int32), np.array([2], np.int32)), {}),
    "gather_negative_index": ("Gather", (_X, np.array([-1], np.int64)), {"axis": 0}),
    "embedding_nibble_order": (
        "SparseLengthsSumFused",
        (_RNG.integers(0, 60, (3, 8)).astype(np.uint8), *_BAGS),
        {"bits": 4, "columns": 8},
    ),
    "embedding_weight_order": (
        "SparseLengthsSum",
        (_X, *_BAGS, np.array([1, 2, 3, 4], F32)),
        {},
    ),
}


def test_the_catalogue_names_each_defect_once():
    # The suite proves for every defect that it shows (tests/conformance/test_defects.py).
    assert PROBES.keys() <= catalogue.BY_NAME.keys()
    assert len(catalogue.BY_NAME) == len(catalogue.DEFECTS) >= 150


@pytest.mark.parametrize("name", PROBES)
def test_a_defect_shows(rigs, graphs, name):
    op, arrays, attributes = PROBES[name]
    sound = rigs().op(op, *arrays, **attributes)
    broken = rigs(defect=name).op(op, *arrays, **attributes)
    assert any(a.tobytes() != b.tobytes() for a, b in zip(sound, broken, strict=True))
    assert [a.dtype for a in sound] == [b.dtype for b in broken]


@pytest.mark.parametrize(
    "name",
    # Products are summed in an order of the card's own: test_arithmetic.py holds them.
    [n for n, (op, *_) in PROBES.items() if op not in ("MatMul", "ScaledMatMul", "Gemm")],
)
def test_the_sound_card_passes_the_probe(rigs, graphs, name):
    op, arrays, attributes = PROBES[name]
    graph = graphs(op, *arrays, **attributes)
    fed = [np.asarray(array) for array in arrays if array is not None]
    feeds = {value.name: array for value, array in zip(graph.inputs, fed, strict=True)}
    want = kernels.evaluate(graph, feeds)
    got = rigs().run(graph, fed)
    for value, array in zip(graph.outputs, got, strict=True):
        assert array.tobytes() == want[value.name].tobytes()


def test_a_defect_does_not_change_the_datasheet(rigs):
    assert rigs().backend.datasheet(rigs().target) == rigs().backend.datasheet(
        rigs(defect="accumulator_13_bits").target
    )
