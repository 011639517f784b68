"""Dot products that real units gave, and in how many rows a model gives others.

``tests/data/tensor_cores`` holds them; a set is named by its unit and the format of its operands.
"""

from pathlib import Path

import numpy as np

from accelsdk import formats
from accelsdk.numerics import codec
from accelsdk_sim_card.engines import accumulator
from accelsdk_sim_card.engines.accumulator import Operand
from accelsdk_sim_card.engines.presets import PRESETS

_DATA = Path(__file__).parents[2] / "data" / "tensor_cores"
#: Which preset stands for which unit.
UNITS = {
    "V100": "v100",
    "A100": "a100",
    "A2": "a100",
    "Ada": "ada",
    "L40S": "ada",
    "H100": "h100",
    "H200": "h100",
    "B200": "b200",
}
SETS = sorted(path.stem for path in _DATA.glob("*.npz"))


def load(name):
    """Returns the arrays of a set: codes of ``a`` and ``b``, bits of ``c`` and of the results."""
    return np.load(_DATA / f"{name}.npz")


#: Sets that have results of a float16 mode, too.
HALVES = [name for name in SETS if "d_fp16" in load(name)]


def spec_of(name, out="fp32"):
    """Returns the accumulator that a preset claims for a set, with sums of that format."""
    unit, kind = name.split("_")
    preset = PRESETS[UNITS[unit]]
    if out == "fp16":
        return preset.narrow_to_half if kind.startswith("E") else preset.half_to_half
    if kind.startswith("E"):
        return preset.narrow
    return preset.tf32 if kind == "tf32" else preset.half


def mismatches(name, spec):
    """Returns the number of rows in which a float32 mode differs from the measured bits."""
    unit, kind = name.split("_")
    # The stored FP8 results of Hopper were taken without the addend.
    without = unit in ("H100", "H200") and kind.startswith("E")
    data = load(name)
    got = _row_by_row(data, kind, spec, None if without else data["c"].view(np.float32))
    return int((got.view(np.uint32) != data["d_fp32"]).sum())


def half_mismatches(name, spec):
    """Returns the same of a float16 mode, whose addend is float16 too."""
    data = load(name)
    c = data["c"].view(np.float32).astype(np.float16).astype(np.float32)
    got = _row_by_row(data, name.split("_")[1], spec, c)
    return int((got.view(np.uint32) != data["d_fp16"]).sum())


def _row_by_row(data, kind, spec, c):
    """One dot product a row, through the engine: the diagonal of small products."""
    (a, fmt), (b, _) = _values(data["a"], kind), _values(data["b"], kind)
    found = np.empty(len(a), np.float32)
    for start in range(0, len(a), 50):
        part = slice(start, start + 50)
        left, right = Operand.of(a[part], fmt), Operand.of(b[part].T.copy(), fmt)
        addend = None if c is None else np.broadcast_to(c[part], (len(a[part]),) * 2)
        found[part] = np.diagonal(accumulator.contract(left, right, spec, addend))
    return found


def _values(codes, kind):
    """Returns float64 values and the format whose exponent fields they have."""
    if kind == "tf32":
        return codes.view(np.float32).astype(np.float64), formats.FLOAT32
    fmt = formats.by_name(kind.lower())
    return codec.decode(codes.view(fmt.dtype), fmt, np.float64), fmt
