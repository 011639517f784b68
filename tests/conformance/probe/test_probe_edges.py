"""Integers, casts, blocks, special values: each rule is told from the others."""

import numpy as np
import pytest

from accelsdk import formats as f
from accelsdk.numerics import codec
from accelsdk.numerics.rounding import Overflow, Rounding
from accelsdk_conformance.oracles.tensor import Tensor, from_integers
from accelsdk_conformance.probe import conversion, integer, specials
from accelsdk_conformance.probe.unit import Bench
from tests.conformance.probe.models import Ordered, one_by_one


class Integers:
    """An integer unit that a test describes."""

    def __init__(self, bits=32, overflow="wrap", pair16=False):
        self.a, self.b = f.UINT8, f.INT8
        self.bits, self.overflow, self.pair16 = bits, overflow, pair16

    def dots(self, a, b):
        products = a * b
        if self.pair16:
            products = np.clip(products[:, 0::2] + products[:, 1::2], -32768, 32767)
        total = products.sum(axis=1)
        half = 1 << (self.bits - 1)
        if self.overflow == "saturate":
            return np.clip(total, -half, half - 1)
        return (total + half) % (2 * half) - half


@pytest.mark.parametrize("bits", [18, 24, 31, 32])
@pytest.mark.parametrize("overflow", ["wrap", "saturate"])
@pytest.mark.parametrize("pair16", [False, True])
def test_integer_sums(bits, overflow, pair16):
    found = integer.measure(Integers(bits, overflow, pair16))
    assert found["acc_bits"].value == bits
    assert found["overflow"].value == overflow
    assert found["pair16"].value == ("saturate" if pair16 else "none")


class Casts:
    """A subject that casts as a test says."""

    def __init__(self, rounding=Rounding.NEAREST_EVEN, via=None, overflow=None):
        self.rounding, self.via, self.overflow = rounding, via, overflow

    def run(self, problem, poison):
        (x,) = problem.operands
        target = f.by_name(problem.attributes["to"])
        asked = None if problem.attributes["saturate"] else Overflow.SPECIAL
        source, values = x.format, x.codes.view(x.format.dtype)
        if self.via is not None:
            values, source = codec.cast(values, source, self.via), self.via
        out = codec.cast(values, source, target, self.rounding, self.overflow or asked)
        return (Tensor(target, np.asarray(out).view(f"u{target.dtype.itemsize}")),)


@pytest.mark.parametrize("target", [f.E4M3, f.E5M2, f.E2M1, f.BFLOAT16, f.FLOAT16], ids=str)
@pytest.mark.parametrize("rounding", list(Rounding))
def test_roundings_of_casts(target, rounding):
    found = conversion.cast(Casts(rounding), f.FLOAT32, target)
    assert found["rounding"].value == str(rounding)


@pytest.mark.parametrize("via", [None, f.FLOAT16, f.BFLOAT16])
def test_double_rounding_of_casts(via):
    found = conversion.cast(Casts(via=via), f.FLOAT32, f.E4M3)
    assert found["via"].value == (None if via is None else via.name)


def test_overflow_of_casts():
    sound = conversion.cast(Casts(), f.FLOAT32, f.E5M2)
    assert [sound[name].value for name in ("overflow", "inf_to", "saturates")] == [
        "special",
        "max",
        True,
    ]
    never = conversion.cast(Casts(overflow=Overflow.SATURATE), f.FLOAT32, f.E5M2)
    assert never["overflow"].value == "saturate"
    always = conversion.cast(Casts(overflow=Overflow.SPECIAL), f.FLOAT32, f.E5M2)
    assert (always["inf_to"].value, always["saturates"].value) == ("special", False)


class Requantises:
    """A subject that rounds as a test says."""

    def __init__(self, rounding, wide=np.float32):
        self.rounding, self.wide = rounding, wide

    def run(self, problem, poison):
        acc, multiplier = problem.operands[:2]
        scaled = acc.integers.astype(self.wide) * self.wide(multiplier.values)
        return (from_integers(np.clip(self.rounding(scaled), -128, 127), f.INT8),)


@pytest.mark.parametrize(
    ("name", "rounding"),
    [
        ("nearest_even", np.rint),
        ("half_up", lambda x: np.floor(x + 0.5)),
        ("nearest_away", lambda x: np.copysign(np.floor(np.abs(x) + 0.5), x)),
        ("toward_zero", np.trunc),
        ("down", np.floor),
    ],
)
def test_roundings_of_requantisation(name, rounding):
    assert integer.requantize(Requantises(rounding))["rounding"].value == name


def test_precision_of_requantisation():
    for wide in (np.float32, np.float64):
        found = integer.requantize(Requantises(np.rint, wide))
        assert found["arithmetic"].value == np.dtype(wide).name


def cut(bits, mode):
    def add(unit):
        def multiply(a, b, scales=None, c=None):
            left = specials._cut(a.values, bits, mode)
            right = specials._cut(b.values, bits, mode)
            return (left @ right).astype(np.float32).astype(np.float64)

        unit.multiply = multiply
        return unit

    return add(Ordered(one_by_one))


@pytest.mark.parametrize(
    ("bits", "mode", "name"),
    [(24, "rne", "native"), (11, "rz", "tf32"), (11, "rne", "tf32"), (8, "rne", "bf16")],
)
def test_operands_that_are_cut(bits, mode, name):
    with np.errstate(over="ignore", invalid="ignore"):
        found = specials._input_precision(Bench(cut(bits, mode)))
    assert found.value == name


def test_split_operands():
    def multiply(a, b, scales=None, c=None):
        parts = []
        for x in (a.values, b.values):
            high = specials._cut(x, 8, "rne")
            parts.append((high, specials._cut(x - high, 8, "rne")))
        (a_high, a_low), (b_high, b_low) = parts
        return a_high @ b_high + a_high @ b_low + a_low @ b_high

    unit = Ordered(one_by_one)
    unit.multiply = multiply
    with np.errstate(invalid="ignore"):
        assert specials._input_precision(Bench(unit)).value == "bf16x3"


def test_a_lost_nan_is_named():
    def forgets(products):
        return one_by_one(np.nan_to_num(products, nan=0.0, posinf=np.inf, neginf=-np.inf))

    found = specials._rules(Bench(Ordered(forgets, f.E5M2)))
    assert found.value == "other"
    assert "nan" in found.note
