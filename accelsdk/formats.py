"""Every number format is one frozen row of data.

Sources of the rows: IEEE 754-2019 (float16, float32, float64); arXiv 2209.05433 Table 1
and OCP OFP8 v1.0 (E4M3, E5M2); arXiv 2206.02915 and the float8 page of ONNX (the FNUZ formats);
OCP MX v1.0 section 5.3 (E3M2, E2M3, E2M1, MXINT8, E8M0).
The names are those of NumPy and ml_dtypes, so that ``Format.name`` and ``dtype.name`` agree;
``mxint8`` is the one name of our own, because it stores int8 and means int8 x 2**-6.

Adding a format is adding a row: codecs, casts, packing, import and export go by what the row says.
Elsewhere a format is named only where a rule is its own: an op that takes no other.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING

from accelsdk.errors import InvalidArgument

if TYPE_CHECKING:
    import numpy as np


class Kind(StrEnum):
    """How the bits of a code become a value."""

    FLOAT = "float"  # sign, exponent, mantissa
    INT = "int"  # two's complement
    UINT = "uint"
    FIXED = "fixed"  # two's complement times 2**-mantissa_bits
    SCALE = "scale"  # exponent only, unsigned: a power of two
    BOOL = "bool"


class Specials(StrEnum):
    """Which codes of a float format are not finite numbers."""

    IEEE = "ieee"  # all-ones exponent: Inf at mantissa 0, NaN elsewhere
    FN = "fn"  # no Inf; NaN only where exponent and mantissa are all ones
    FNUZ = "fnuz"  # no Inf, no -0; the code that -0 would have is the one NaN
    FINITE = "finite"  # neither Inf nor NaN


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """One number format.

    Attributes:
        name: NumPy or ml_dtypes name of the format.
        kind: How a code becomes a value.
        bits: Width of one code in device memory (sub-byte formats are packed).
        exponent_bits: Width of the exponent field.
        mantissa_bits: Width of the mantissa field; for FIXED, the fraction bits.
        bias: Exponent bias.
        specials: Which codes are not finite numbers.
        dtype_name: Host dtype that holds one element (sub-byte: one byte an element).
    """

    name: str
    kind: Kind
    bits: int
    exponent_bits: int = 0
    mantissa_bits: int = 0
    bias: int = 0
    specials: Specials = Specials.FINITE
    dtype_name: str = ""

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """The NumPy dtype that holds one element on the host."""
        return _dtype(self.dtype_name or self.name)

    @property
    def is_float(self) -> bool:
        """True for formats with sign, exponent and mantissa."""
        return self.kind is Kind.FLOAT

    @property
    def is_integer(self) -> bool:
        """True for plain signed and unsigned integers (not bool, not MXINT8)."""
        return self.kind in (Kind.INT, Kind.UINT)

    @property
    def is_signed(self) -> bool:
        """True if negative values exist."""
        return self.kind in (Kind.FLOAT, Kind.INT, Kind.FIXED)

    @property
    def has_inf(self) -> bool:
        """True if the format encodes infinities."""
        return self.is_float and self.specials is Specials.IEEE

    @property
    def has_nan(self) -> bool:
        """True if the format encodes NaN."""
        if self.kind is Kind.SCALE:
            return True
        return self.is_float and self.specials is not Specials.FINITE

    @property
    def has_negative_zero(self) -> bool:
        """True if the format tells -0 from +0."""
        return self.is_float and self.specials is not Specials.FNUZ

    @property
    def precision(self) -> int:
        """Significand bits of a normal number, the hidden one included."""
        return self.mantissa_bits + 1 if self.is_float else self.bits

    @property
    def emax(self) -> int:
        """Exponent of the largest finite number (0 for MXINT8)."""
        if self.kind is Kind.FIXED:
            return 0
        top = (1 << self.exponent_bits) - 1 - self.bias
        # The topmost exponent is reserved whole, or only its last mantissa, or not at all.
        reserved = self.kind is Kind.SCALE or self.specials is Specials.IEEE
        return top - 1 if reserved else top

    @property
    def emin(self) -> int:
        """Exponent of the smallest normal number (MXINT8: of one step)."""
        if self.kind is Kind.FIXED:
            return -self.mantissa_bits
        return -self.bias if self.kind is Kind.SCALE else 1 - self.bias

    @property
    def max(self) -> float:
        """Largest finite value, exact as a Python float."""
        if self.kind is Kind.BOOL:
            return 1.0
        if self.kind is Kind.UINT:
            return float((1 << self.bits) - 1)
        if self.kind in (Kind.INT, Kind.FIXED):
            return float((1 << (self.bits - 1)) - 1) * 2.0**-self.mantissa_bits
        if self.kind is Kind.SCALE:
            return 2.0**self.emax
        ulps = (1 << (self.mantissa_bits + 1)) - 1
        ulps -= self.specials is Specials.FN  # the last mantissa of the last binade is NaN
        return float(ulps) * 2.0 ** (self.emax - self.mantissa_bits)

    @property
    def min(self) -> float:
        """Lowest finite value."""
        if self.kind in (Kind.BOOL, Kind.UINT):
            return 0.0
        if self.kind in (Kind.INT, Kind.FIXED):
            return -float(1 << (self.bits - 1)) * 2.0**-self.mantissa_bits
        return self.smallest_normal if self.kind is Kind.SCALE else -self.max

    @property
    def smallest_normal(self) -> float:
        """Smallest positive normal value of a float or scale format."""
        return 2.0**self.emin

    @property
    def smallest_subnormal(self) -> float:
        """Smallest positive value of a float format; one step for the others."""
        if self.kind is Kind.SCALE:
            return self.smallest_normal
        return (
            2.0 ** (self.emin - self.mantissa_bits) if self.is_float else 2.0**-self.mantissa_bits
        )

    def nbytes(self, count: int) -> int:
        """Bytes that ``count`` elements take in device memory, packed, rounded up."""
        return (count * self.bits + 7) // 8

    def __str__(self) -> str:
        return self.name


def _float(name: str, e: int, m: int, bias: int, specials: Specials) -> Format:
    return Format(
        name=name,
        kind=Kind.FLOAT,
        bits=1 + e + m,
        exponent_bits=e,
        mantissa_bits=m,
        bias=bias,
        specials=specials,
    )


FLOAT64 = _float("float64", 11, 52, 1023, Specials.IEEE)
FLOAT32 = _float("float32", 8, 23, 127, Specials.IEEE)
FLOAT16 = _float("float16", 5, 10, 15, Specials.IEEE)
BFLOAT16 = _float("bfloat16", 8, 7, 127, Specials.IEEE)
E4M3 = _float("float8_e4m3fn", 4, 3, 7, Specials.FN)
E5M2 = _float("float8_e5m2", 5, 2, 15, Specials.IEEE)
E4M3FNUZ = _float("float8_e4m3fnuz", 4, 3, 8, Specials.FNUZ)
E5M2FNUZ = _float("float8_e5m2fnuz", 5, 2, 16, Specials.FNUZ)
E3M2 = _float("float6_e3m2fn", 3, 2, 3, Specials.FINITE)
E2M3 = _float("float6_e2m3fn", 2, 3, 1, Specials.FINITE)
E2M1 = _float("float4_e2m1fn", 2, 1, 1, Specials.FINITE)
E8M0 = Format(name="float8_e8m0fnu", kind=Kind.SCALE, bits=8, exponent_bits=8, bias=127)
MXINT8 = Format(name="mxint8", kind=Kind.FIXED, bits=8, mantissa_bits=6, dtype_name="int8")
INT64, INT32, INT16, INT8, INT4, INT2 = (
    Format(name=f"int{bits}", kind=Kind.INT, bits=bits) for bits in (64, 32, 16, 8, 4, 2)
)
UINT64, UINT32, UINT16, UINT8, UINT4, UINT2 = (
    Format(name=f"uint{bits}", kind=Kind.UINT, bits=bits) for bits in (64, 32, 16, 8, 4, 2)
)
BOOL = Format(name="bool", kind=Kind.BOOL, bits=8)

FORMATS: tuple[Format, ...] = (
    *(FLOAT64, FLOAT32, FLOAT16, BFLOAT16, E4M3, E5M2, E4M3FNUZ, E5M2FNUZ, E3M2, E2M3, E2M1),
    *(E8M0, MXINT8, INT64, INT32, INT16, INT8, INT4, INT2),
    *(UINT64, UINT32, UINT16, UINT8, UINT4, UINT2, BOOL),
)

#: The element formats of OCP MX v1.0 (section 5.3), each scaled by E8M0 per block of 32.
MX_ELEMENTS: tuple[Format, ...] = (E4M3, E5M2, E3M2, E2M3, E2M1, MXINT8)

#: Short names that people type; ``by_name`` accepts them too.
ALIASES = {
    "e4m3": E4M3,
    "e5m2": E5M2,
    "e4m3fnuz": E4M3FNUZ,
    "e5m2fnuz": E5M2FNUZ,
    "e3m2": E3M2,
    "e2m3": E2M3,
    "e2m1": E2M1,
    "e8m0": E8M0,
    "fp64": FLOAT64,
    "fp32": FLOAT32,
    "fp16": FLOAT16,
    "bf16": BFLOAT16,
}

_BY_NAME = {**{row.name: row for row in FORMATS}, **ALIASES}


def by_name(name: str) -> Format:
    """Returns the format of that name (canonical, or an alias such as ``e4m3``).

    Raises:
        InvalidArgument: There is no such format; the message lists all names.
    """
    try:
        return _BY_NAME[name]
    except KeyError:
        known = ", ".join(row.name for row in FORMATS)
        raise InvalidArgument(f"no number format {name!r}", remedy=f"known: {known}") from None


def from_dtype(dtype: np.dtype[np.generic] | type | str) -> Format:
    """Returns the format that a NumPy or ml_dtypes dtype holds (``int8``: plain int8).

    Raises:
        InvalidArgument: No format is stored in that dtype.
    """
    import numpy as np

    found = np.dtype(dtype).name
    if found not in _BY_NAME:
        raise InvalidArgument(
            f"dtype {found!r} holds no accelsdk number format",
            remedy="cast the array to one of " + ", ".join(row.name for row in FORMATS),
        )
    return _BY_NAME[found]


@cache
def _dtype(name: str) -> np.dtype[np.generic]:
    import ml_dtypes
    import numpy as np

    return np.dtype(getattr(ml_dtypes, name, name))
