"""Every row of the golden vectors, made by independent implementations."""

import hashlib
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from accelsdk import formats
from accelsdk.formats import E8M0, INT8, MXINT8, UINT8
from accelsdk.numerics import affine, block, codec, embedding, integer, rounding
from accelsdk.numerics.accumulate import dot
from accelsdk.numerics.compare import bound_any_order
from accelsdk.numerics.rounding import Overflow, ScaleMode

FOLDER = Path(__file__).parents[1] / "data" / "golden"
MANIFEST = json.loads((FOLDER / "manifest.json").read_text())
ELEMENTS = ["e4m3", "e5m2", "e3m2", "e2m3", "e2m1", "int8"]
POLICIES = {"sat": Overflow.SATURATE, "nonsat": Overflow.SPECIAL}


def load(name):
    return dict(np.load(FOLDER / f"{name}.npz"))


def format_of(name):
    return MXINT8 if name == "int8" else formats.by_name(name)


def assert_same(got, expected):
    assert np.count_nonzero(got != expected) == 0


@pytest.mark.parametrize("name", sorted(MANIFEST["files"]))
def test_files_are_the_published_ones(name):
    digest = hashlib.sha256((FOLDER / f"{name}.npz").read_bytes()).hexdigest()
    assert digest == MANIFEST["files"][name]["sha256"]["public"]


@pytest.mark.parametrize("name", [*ELEMENTS, "e8m0"])
def test_decode(name):
    fmt = format_of(name)
    expected = load("decode_tables")[name]
    codes = np.arange(1 << fmt.bits, dtype=np.uint8)
    for got in (
        codec.decode(codes, fmt, np.float64),
        np.array([rounding.decode(int(code), fmt) for code in codes]),
    ):
        np.testing.assert_array_equal(got, expected)
        finite = ~np.isnan(expected)
        assert_same(np.signbit(got)[finite], np.signbit(expected)[finite])


@pytest.mark.parametrize("name", ELEMENTS)
@pytest.mark.parametrize("policy", ["sat", "nonsat"])
def test_cast(name, policy):
    data, fmt = load(f"cast_{name}"), format_of(name)
    if f"code_{policy}" not in data:
        assert name not in ("e4m3", "e5m2")
        return
    x, status, expected = (
        data["x_bits"].view("f4"),
        data[f"status_{policy}"],
        data[f"code_{policy}"],
    )
    scalar = np.array([rounding.encode(float(v), fmt, overflow=POLICIES[policy]) for v in x])
    for got in (codec.encode(x, fmt, overflow=POLICIES[policy]), scalar.astype(np.uint8)):
        codes = got.view(np.uint8)
        assert_same(codes[status == 0], expected[status == 0])
        assert np.isnan(codec.decode(codes[status == 1], fmt)).all()


@pytest.mark.parametrize("mode", list(ScaleMode))
@pytest.mark.parametrize("policy", ["sat", "nonsat"])
def test_cast_to_scale(mode, policy):
    data = load("cast_e8m0")
    x, checked = data["x_bits"].view("f4"), data["status"] == 0
    expected = data[f"{policy}_{mode}"]
    got = codec.cast(x, formats.FLOAT32, E8M0, overflow=POLICIES[policy], scale_mode=mode)
    assert_same(got.view(np.uint8)[checked], expected[checked])
    scalar = np.array([rounding.encode_e8m0(float(v), mode, policy == "sat") for v in x])
    assert_same(scalar[checked], expected[checked])


@pytest.mark.parametrize("name", ELEMENTS)
def test_mx_blocks(name):
    data, fmt = load(f"mx_{name}"), format_of(name)
    x, exact = data["x_bits"].view("f4"), data["status"] == 0
    variants = [
        (data["elems"], data["scale"], {}),
        (data["tosa_elems"], data["tosa_scale"], {"rule": block.ScaleRule.TOSA}),
    ]
    if name == "int8":
        variants.append((data["elems_sym"], data["scale"], {"int8_symmetric": True}))
    for elems, scale, options in variants:
        got, got_scale = block.quantize_block(x, fmt, **options)
        assert_same(got_scale.view(np.uint8)[:, 0], scale)
        wrong = got.view(np.uint8)[exact] != elems[exact]
        if "rule" in options and name == "int8":
            # The TOSA model returns 1 for some elements far below half a step.
            ratio = np.abs(x[exact] / np.exp2(scale[exact, None].astype(np.float64) - 127))
            wrong &= ~((elems[exact] == 1) & (ratio < 2.0**-40))
        assert not wrong.any()
    amax = np.abs(x).max(axis=1)
    assert_same(block.scale_codes(amax, fmt, block.ScaleRule.RCEIL_RECIPROCAL), data["nv_scale"])


@pytest.mark.parametrize("name", ELEMENTS)
def test_scale_rules(name):
    data, fmt = load(f"scale_rules_{name}"), format_of(name)
    amax = data["amax_bits"].view("f4")
    rules = {
        "floor": ("floor", None),
        "rceil_div": ("rceil", None),
        "rceil_mul": ("rceil_reciprocal", None),
        "tosa": ("tosa", None),
        "torchao_floor": ("floor", block.InfRule.SATURATE),
        "torchao_ceil": ("ceil", None),
        "torchao_even": ("even", None),
    }
    for column, (rule, inf) in rules.items():
        if column in data:
            got = block.scale_codes(amax, fmt, block.ScaleRule(rule), inf)
            assert_same(got, data[column])
    if "torchao_rceil" in data:
        # torchao takes a float32 log2, which is wrong beside powers of two: ours is NVIDIA's.
        differs = data["torchao_rceil"] != data["rceil_div"]
        got = block.scale_codes(amax, fmt, block.ScaleRule.RCEIL)
        assert_same(got[~differs], data["torchao_rceil"][~differs])


@pytest.mark.parametrize("name", ELEMENTS)
def test_dequantize(name):
    data, fmt = load(f"dequant_{name}"), format_of(name)
    scales = data["scale"][:, None].view(E8M0.dtype)
    got = block.dequantize_block(data["elems"].view(fmt.dtype), fmt, scales)
    status = data["status"]
    assert_same(got.view(np.uint32)[status == 0], data["y_bits"][status == 0])
    assert np.isnan(got[status == 1]).all()
    assert np.isinf(got[status == 2]).all()


@pytest.mark.parametrize("name", sorted(n for n in MANIFEST["files"] if n.startswith("dot_")))
def test_dot_products(name):
    data = load(name)
    a_fmt, b_fmt = (format_of(part) for part in name.split("_")[1:])
    for i in range(len(data["nblk"])):
        values = []
        for side, fmt in (("a", a_fmt), ("b", b_fmt)):
            elems, scale = data[f"{side}_elems"][i], data[f"{side}_scale"][i]
            values.append(
                (
                    codec.decode(elems, fmt, np.float64).ravel(),
                    codec.decode(scale, E8M0, np.float64),
                )
            )
        (a, a_scale), (b, b_scale) = values
        scales = np.repeat(a_scale * b_scale, 32)
        got = dot(a, b, 0.0, a_fmt=a_fmt, b_fmt=b_fmt, scales=scales)
        expected = data["f32"][i]
        np.testing.assert_array_equal(np.float32(got), expected)
        if data["fp32_safe"][i] and data["status"][i] == 0:
            products = a.astype("f4") * b.astype("f4") * scales.astype("f4")
            total = np.add.reduce(products, dtype=np.float32)
            bound = bound_any_order(data["sumabs"][i], np.count_nonzero(products))
            assert abs(float(total) - data["f64"][i]) <= bound


@pytest.mark.parametrize(
    ("name", "axis", "size"),
    [("tensor", None, 0), ("axis0", 0, 0), ("axis1", 1, 0), ("block16_tail", 1, 16)],
)
def test_affine(name, axis, size):
    data = load(f"int8_quant_{name}")
    for i, x in enumerate(data["x"]):
        fmt = UINT8 if data["unsigned"][i] else INT8
        scale, zero = data["scale"][i], data["zp"][i]
        got = affine.quantize(x, scale, zero, fmt, axis, size)
        assert_same(got, data["y"][i])
        assert_same(affine.dequantize(got, fmt, scale, zero, axis, size), data["dq"][i])
        if "y_fbgemm" in data:
            assert_same(
                affine.quantize(x, scale, zero, fmt, rule=affine.FBGEMM), data["y_fbgemm"][i]
            )


def test_matmul():
    data = load("int8_matmul")
    for i, k in enumerate(data["K"]):
        a, b = data["a"][i][:, :k], data["b"][i][:k]
        acc = integer.matmul_int32(a, b, data["azp"][i], data["bzp"][i])
        assert_same(acc, data["acc"][i])
        multiplier = data["asc"][i] * data["bsc"][i] / data["ysc"][i]
        assert_same(affine.requantize(acc, multiplier, data["yzp"][i], UINT8), data["y"][i])


def test_convolution():
    data = load("int8_conv")
    for i in range(len(data["x"])):
        pad, stride, group = (int(data[key][i]) for key in ("pad", "stride", "group"))
        zero = int(data["xzp"][i])
        x = np.pad(data["x"][i], ((0, 0), (pad, pad), (pad, pad)), constant_values=zero)
        windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))[:, ::stride, ::stride]
        height = windows.shape[1]
        channels, outputs = 4 // group, 8 // group
        parts = []
        for g in range(group):
            taken = windows[g * channels : (g + 1) * channels]
            columns = taken.transpose(1, 2, 0, 3, 4).reshape(height * height, -1)
            weights = data["w"][i][g * outputs : (g + 1) * outputs, :channels].reshape(outputs, -1)
            parts.append(integer.matmul_int32(columns, weights.T, zero))
        acc = np.concatenate(parts, axis=1)
        image = acc.T.reshape(8, height, height)
        multiplier = data["xsc"][i] * data["wsc"][i] / data["ysc"][i]
        y = affine.requantize(
            image, multiplier, data["yzp"][i], UINT8, axis=0, bias=data["bias"][i]
        )
        assert_same(y, data["y"][i][:, :height, :height])
        plain = data["acc"][i][:, :height, :height]
        assert_same(image, plain)


def test_requantize():
    data = load("int8_requant")
    for i, acc in enumerate(data["acc"]):
        assert_same(
            affine.requantize(acc, data["mult"][i], data["zp"][i], UINT8), data["y_float"][i]
        )
        chosen = affine.choose_requantization_multiplier(float(data["mult"][i]))
        assert chosen == (data["q31"][i], data["shift"][i])
        single = affine.fixed_multiply(acc, *chosen)
        assert_same(single, data["fixed_raw"][i])
        assert_same(single, data["tosa_single"][i])
        double = affine.fixed_multiply(acc, *chosen, double_round=True)
        assert_same(double, data["gemmlowp_raw"][i])
        assert_same(double, data["tosa_double"][i])
        clamped = np.clip(single + data["zp"][i], 0, 255)
        assert_same(affine.requantize_fixed(acc, *chosen, data["zp"][i], UINT8), clamped)


def test_sixteen_bit_accumulation():
    data = load("int8_acc16")
    for i, (a, b) in enumerate(zip(data["a"], data["b"], strict=True)):
        assert_same(integer.matmul_int32(a, b), data["acc32"][i])
        for spill in (64, 8):
            assert_same(integer.matmul_acc16(a, b, spill), data[f"acc16_spill{spill}"][i])


@pytest.mark.parametrize(
    ("column", "fmt", "symmetric"), [("sym0", UINT8, False), ("sym1", INT8, True)]
)
def test_choose_qparams(column, fmt, symmetric):
    data = load("int8_choose_qparams")
    for i, (low, high) in enumerate(zip(data["min"], data["max"], strict=True)):
        scale, zero = affine.choose_qparams(float(low), float(high), fmt, symmetric)
        assert (scale, zero) == (data[f"{column}_scale"][i], data[f"{column}_zp"][i])


def test_embedding_rows():
    data = load("embedding_rowwise")
    for i, table in enumerate(data["table"]):
        for bits in embedding.WIDTHS:
            rows = embedding.quantize_rows(table, bits)
            assert_same(rows, data[f"fused{bits}"][i])
        for bits in (8, 4):
            values = embedding.dequantize_rows(data[f"fused{bits}"][i], 32, bits).astype(np.float64)
            weights = data["weights"][i][:, None].astype(np.float64)
            picked = values[data["indices"][i]] * weights
            codes, scale, bias = embedding.split_rows(data[f"fused{bits}"][i], 32, bits)
            size = (np.abs(codes * scale) + np.abs(bias)).astype(np.float64)[data["indices"][i]]
            bags = [*data["offsets"][i], len(picked)]
            for bag, (start, stop) in enumerate(itertools.pairwise(bags)):
                got = data[f"sls{bits}"][i][bag]
                total = (size * np.abs(weights))[start:stop].sum(axis=0)
                bound = bound_any_order(total, stop - start + 2)
                assert (np.abs(got - picked[start:stop].sum(axis=0)) <= bound).all()
