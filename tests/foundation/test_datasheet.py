"""Claims are found by the most specific key."""

from accelsdk.backend.datasheet import FunctionSpec, NumericsDatasheet
from accelsdk.numerics.accumulate import AccumulatorSpec

NARROW, WIDE = AccumulatorSpec(significand_bits=14), AccumulatorSpec(significand_bits=24)


def test_most_specific_claim_wins():
    sheet = NumericsDatasheet(
        contractions={
            ("*", "*", "*", "*"): WIDE,
            ("MatMul", "*", "*", "*"): NARROW,
            ("MatMul", "float32", "float32", "float32"): WIDE,
        }
    )
    assert sheet.contraction("Conv", "float16", "float16", "float16") is WIDE
    assert sheet.contraction("MatMul", "float16", "float16", "float16") is NARROW
    assert sheet.contraction("MatMul", "float32", "float32", "float32") is WIDE


def test_what_is_not_claimed_is_none():
    sheet = NumericsDatasheet(functions={("Exp", "float32"): FunctionSpec(ulp=3)})
    assert sheet.function("Exp", "float16") is None
    assert sheet.function("Exp", "float32") == FunctionSpec(ulp=3)
    assert NumericsDatasheet().contraction("MatMul", "a", "b", "c") is None
