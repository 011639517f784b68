"""The rows of formats.py against independent tables."""

import ml_dtypes
import numpy as np
import pytest

from accelsdk import formats
from accelsdk.errors import InvalidArgument
from accelsdk.formats import FORMATS, Kind

FLOATS = [row for row in FORMATS if row.kind is Kind.FLOAT]


@pytest.mark.parametrize("row", FLOATS, ids=str)
def test_limits_agree_with_ml_dtypes(row):
    info = ml_dtypes.finfo(row.dtype)
    assert row.bits == info.bits
    assert row.max == float(info.max)
    assert row.min == float(info.min)
    assert row.smallest_normal == float(info.smallest_normal)
    assert row.smallest_subnormal == float(info.smallest_subnormal)
    assert row.precision == info.nmant + 1


@pytest.mark.parametrize("row", [row for row in FORMATS if row.is_integer], ids=str)
def test_integer_limits(row):
    info = ml_dtypes.iinfo(row.dtype)
    # Limits of 64 bits are not float64 numbers; the float is their rounding.
    assert (row.min, row.max) == (float(int(info.min)), float(int(info.max)))
    assert row.bits == info.bits


@pytest.mark.parametrize(
    ("row", "has_inf", "has_nan"),
    [
        (formats.E4M3, False, True),
        (formats.E5M2, True, True),
        (formats.E4M3FNUZ, False, True),
        (formats.E5M2FNUZ, False, True),
        (formats.E3M2, False, False),
        (formats.E2M3, False, False),
        (formats.E2M1, False, False),
        (formats.E8M0, False, True),
        (formats.MXINT8, False, False),
        (formats.FLOAT32, True, True),
        (formats.INT8, False, False),
    ],
    ids=str,
)
def test_special_values(row, has_inf, has_nan):
    assert (row.has_inf, row.has_nan) == (has_inf, has_nan)


@pytest.mark.parametrize("row", FLOATS, ids=str)
def test_only_fnuz_has_no_negative_zero(row):
    zero = np.zeros(1, row.dtype)
    assert row.has_negative_zero == bool(np.signbit((-zero).astype(np.float64))[0])
    assert row.has_negative_zero == (not row.name.endswith("fnuz"))


def test_block_formats_have_the_exponents_of_the_mx_paper():
    emax = {row.name: row.emax for row in formats.MX_ELEMENTS}
    assert emax == {
        "float8_e4m3fn": 8,
        "float8_e5m2": 15,
        "float6_e3m2fn": 4,
        "float6_e2m3fn": 2,
        "float4_e2m1fn": 2,
        "mxint8": 0,
    }
    assert formats.MXINT8.max == 1 + 63 / 64
    assert formats.MXINT8.min == -2.0
    assert (formats.E8M0.min, formats.E8M0.max) == (2.0**-127, 2.0**127)


@pytest.mark.parametrize(
    ("name", "count", "nbytes"),
    [
        ("float32", 3, 12),
        ("e2m1", 3, 2),
        ("e3m2", 4, 3),
        ("e3m2", 1, 1),
        ("int4", 0, 0),
        ("int2", 5, 2),
    ],
)
def test_packed_size(name, count, nbytes):
    assert formats.by_name(name).nbytes(count) == nbytes


@pytest.mark.parametrize("row", [row for row in FORMATS if row is not formats.MXINT8], ids=str)
def test_dtype_round_trip(row):
    assert formats.from_dtype(row.dtype) is row
    assert formats.by_name(row.name) is row


def test_unknown_names_list_the_known_ones():
    with pytest.raises(InvalidArgument, match="float8_e4m3fn"):
        formats.by_name("float9")
    with pytest.raises(InvalidArgument, match="complex64"):
        formats.from_dtype(np.complex64)
