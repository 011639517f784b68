"""Defects that change nothing: the proofs of the list in docs/kill-matrix.md."""

import numpy as np
import pytest

from accelsdk.formats import E2M1, E2M3, E3M2, E4M3, E5M2, MXINT8
from accelsdk.numerics import block, codec
from accelsdk.numerics.block import ScaleRule


def significands(fmt):
    values = np.array(codec.decode_table(fmt, np.dtype(np.float64)))
    finite = values[np.isfinite(values) & (values != 0)]
    mantissa = np.abs(np.frexp(finite)[0]) * 2.0 ** (fmt.mantissa_bits + 1)
    return np.unique(mantissa.astype(np.int64))


def amaxes():
    """Every mantissa that starts with 16 given bits, and its neighbours, in three binades."""
    top = np.arange(1 << 16, dtype=np.uint32) << np.uint32(7)
    mantissas = np.concatenate([top, top + 1, top + 127]) & np.uint32(0x7FFFFF)
    return np.concatenate(
        [(mantissas | np.uint32(e << 23)).view(np.float32) for e in (64, 127, 190)]
    )


@pytest.mark.parametrize("fmt", [E4M3, E3M2, E2M3, E2M1], ids=str)
def test_products_cut_to_ten_bits_are_whole(fmt):
    found = significands(fmt)
    assert int(np.multiply.outer(found, found).max()).bit_length() <= 8


@pytest.mark.parametrize("fmt", [E5M2, E3M2, E2M3, E2M1, MXINT8], ids=str)
def test_even_and_tosa_are_one_rule_but_for_e4m3(fmt):
    x = amaxes()
    even, tosa = (block.scale_codes(x, fmt, rule) for rule in (ScaleRule.EVEN, ScaleRule.TOSA))
    assert (even == tosa).all()


def test_even_and_tosa_differ_for_e4m3():
    x = amaxes()
    even, tosa = (block.scale_codes(x, E4M3, rule) for rule in (ScaleRule.EVEN, ScaleRule.TOSA))
    assert (even != tosa).any()


@pytest.mark.parametrize("fmt", [E4M3, E5M2, E3M2, E2M3, E2M1], ids=str)
def test_rceil_by_division_is_rceil_by_reciprocal(fmt):
    x = amaxes()
    rules = (ScaleRule.RCEIL, ScaleRule.RCEIL_RECIPROCAL)
    divided, multiplied = (block.scale_codes(x, fmt, rule) for rule in rules)
    assert (divided == multiplied).all()
