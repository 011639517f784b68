"""Sets of formats that several rows of the op table share."""

from __future__ import annotations

from accelsdk.formats import FORMATS, INT8, INT32, INT64, UINT8, UINT32, UINT64, Format

_BY_WIDTH = sorted(FORMATS, key=lambda row: row.bits)
#: Formats in which floats are computed.
FLOATS: tuple[Format, ...] = tuple(row for row in _BY_WIDTH if row.is_float and row.bits > 8)
_WHOLE = [row for row in _BY_WIDTH if row.is_integer and row.bits >= 8]
#: Integers in which arithmetic is done (narrower ones are storage only).
SIGNED: tuple[Format, ...] = tuple(row for row in _WHOLE if row.is_signed)
UNSIGNED: tuple[Format, ...] = tuple(row for row in _WHOLE if not row.is_signed)
INTEGERS: tuple[Format, ...] = (*SIGNED, *UNSIGNED)
NUMBERS: tuple[Format, ...] = (*FLOATS, *INTEGERS)
#: The formats that ONNX lets sums run in.
SUMMABLE: tuple[Format, ...] = (*FLOATS, INT32, INT64, UINT32, UINT64)
INDICES: tuple[Format, ...] = (INT32, INT64)
BYTES: tuple[Format, ...] = (INT8, UINT8)
#: Formats that affine quantisation writes: integers of up to 16 bits, floats of up to 8.
AFFINE_CODES: tuple[Format, ...] = tuple(
    row for row in FORMATS if row.bits <= (16 if row.is_integer else 8 * row.is_float)
)
