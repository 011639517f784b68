"""Correct cards raise no alarm: every variant at smoke here, at standard by hand."""

import pytest

from accelsdk_conformance.case import Level
from accelsdk_conformance.catalogue import bundled
from accelsdk_sim_card.variants import catalogue
from tests.conformance.kill.variants import judge, touched

_MOST = 12  # cases that one variant runs here

#: Alarms that were mended, where smoke has no case of the kind.
MENDED = [
    ("conv_winograd_f4", "fp32/Conv/fp32xfp32/depthwise2d/bias0"),
    ("conv_fft", "fp32/Conv/fp16xfp16/point2d"),
    ("integer_pairs", "int8/ConvInteger/uint8xint8/high_zeros/deep"),
    ("integer_pairs", "int8/ConvInteger/uint8xint8/padded2d/without_x"),
    ("requantize_up", "int8/Requantize/int8/float32/channel/axis0/zero_none/relu1"),
    ("requantize_wraps", "int8/Requantize/int8/shifts2x20/fixed_single/zero3/bias1/relu0"),
    ("nan_ignored", "fp32/Max/fp16/same"),
    ("nan_ignored", "fp32/Min/fp32/ranks"),
    ("empty_zero", "fp32/ReduceProd/fp16/empty"),
    ("empty_undefined", "fp32/ReduceMax/fp32/empty"),
    ("functions_flush", "fp32/LeakyRelu/fp16/all"),
    ("functions_flush", "fp32/Clip/fp32/both"),
    ("norm_one_pass_float32", "fp32/LayerNormalization/fp32/n33"),
    ("sigmoid_decomposed", "fp32/Sigmoid/fp32/all"),
]


def test_there_are_a_hundred_ways_of_being_right():
    assert len(catalogue.BY_NAME) == len(catalogue.VARIANTS) >= 100


@pytest.mark.parametrize("name", catalogue.BY_NAME)
def test_a_variant_raises_no_alarm(name):
    cases = touched(name, Level.SMOKE)
    assert cases or touched(name, Level.STANDARD)
    step = -(-len(cases) // _MOST) or 1
    assert judge(Level.SMOKE, name, cases[::step]).alarms == []


@pytest.mark.parametrize(("name", "case"), MENDED)
def test_what_was_mended_stays_silent(name, case):
    (found,) = [known for known in bundled() if known.id == case]
    assert judge(Level.STANDARD, name, [found]).alarms == []
