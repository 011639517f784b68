"""Sets of formats that several rows of the op table share."""

from __future__ import annotations

from accelsdk import formats as f
from accelsdk.formats import Format

#: Formats in which floats are computed.
FLOATS: tuple[Format, ...] = (f.FLOAT16, f.BFLOAT16, f.FLOAT32, f.FLOAT64)
#: Integers in which arithmetic is done (4-bit integers are storage only).
SIGNED: tuple[Format, ...] = (f.INT8, f.INT16, f.INT32, f.INT64)
UNSIGNED: tuple[Format, ...] = (f.UINT8, f.UINT16, f.UINT32, f.UINT64)
INTEGERS: tuple[Format, ...] = (*SIGNED, *UNSIGNED)
NUMBERS: tuple[Format, ...] = (*FLOATS, *INTEGERS)
#: The formats that ONNX lets sums run in.
SUMMABLE: tuple[Format, ...] = (*FLOATS, f.INT32, f.INT64, f.UINT32, f.UINT64)
INDICES: tuple[Format, ...] = (f.INT32, f.INT64)
BYTES: tuple[Format, ...] = (f.INT8, f.UINT8)
#: Float formats of 8 bits and fewer, in OCP's order.
NARROW_FLOATS: tuple[Format, ...] = (f.E4M3, f.E5M2, f.E3M2, f.E2M3, f.E2M1)
ALL: tuple[Format, ...] = f.FORMATS
