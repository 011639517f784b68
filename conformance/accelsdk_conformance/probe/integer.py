"""Integer sums, and how they come back to 8 bits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accelsdk.formats import FLOAT32, INT8, INT32, UINT8, Format
from accelsdk.numerics.requantize import fixed_multiply
from accelsdk_conformance.oracles.tensor import Tensor, encode, from_integers
from accelsdk_conformance.probe.reading import Reading, unseen
from accelsdk_conformance.probe.unit import WINDOW
from accelsdk_conformance.problem import Problem, always
from accelsdk_conformance.subject import ClientSubject

_POISON = 0xA5
_WIDEST = 32
Integers = NDArray[np.int64]


@dataclass(slots=True)
class IntegerUnit:
    """An integer product of a plugin: rows times one column.

    Attributes:
        subject: The device.
        op: MatMulInteger or ConvInteger.
        a: Format of the left operand.
        b: Format of the right operand.
        executions: How often it ran.
    """

    subject: ClientSubject
    op: str
    a: Format
    b: Format
    executions: int = 0

    def dots(self, a: Integers, b: Integers) -> Integers:
        """Returns ``a[M, K] @ b[K]``."""
        self.executions += 1
        left, right = from_integers(a, self.a), from_integers(b, self.b)
        if self.op == "ConvInteger":  # channels are K, positions are rows
            left = Tensor(self.a, np.ascontiguousarray(left.codes.T)[None])
            right = Tensor(self.b, right.codes[None, :, None])
        else:
            right = Tensor(self.b, right.codes[:, None])
        problem = Problem(
            op=self.op,
            operands=(left, right),
            attributes=WINDOW if self.op == "ConvInteger" else {},
            oracle=always(),
        )
        return self.subject.run(problem, _POISON)[0].integers.reshape(-1)


def measure(unit: IntegerUnit) -> dict[str, Reading]:
    """Measures the accumulator: bits, overflow, and whether pairs saturate at 16 bits."""
    found = _pairs(unit)
    return {"pair16": found} | _accumulator(unit, paired=found.value == "saturate")


def _largest(unit: IntegerUnit) -> tuple[int, int]:
    """The two codes with the largest positive product."""
    low = int(unit.a.min) * int(unit.b.min)
    high = int(unit.a.max) * int(unit.b.max)
    return (int(unit.a.min), int(unit.b.min)) if low > high else (int(unit.a.max), int(unit.b.max))


def _pairs(unit: IntegerUnit) -> Reading:
    """Two products beyond int16, side by side in each way that they can be."""
    x, y = _largest(unit)
    if 2 * x * y <= 32767:
        return unseen("no pair of products is that large")
    places = [(0, 1), (1, 2), (2, 3), (0, 2), (0, 4)]
    a = np.zeros((len(places), 8), np.int64)
    for row, pair in zip(a, places, strict=True):
        row[list(pair)] = x
    found = unit.dots(a, np.full(8, y))
    if (found == 2 * x * y).all():
        return Reading("none")
    return Reading(
        "saturate", note=", ".join(f"{p}: {v}" for p, v in zip(places, found, strict=True))
    )


def _accumulator(unit: IntegerUnit, *, paired: bool) -> dict[str, Reading]:
    """Sums that just pass each power of two, up to 2**31."""
    x, y = _largest(unit)
    step = 2 if paired else 1  # one product of each pair, so that no pair saturates
    bits = np.arange((x * y).bit_length() + 1, _WIDEST + 1)
    counts = [-(-(1 << int(b - 1)) // (x * y)) for b in bits]
    a = np.zeros((len(bits), max(counts) * step), np.int64)
    for row, count in zip(a, counts, strict=True):
        row[: count * step : step] = x
    found = unit.dots(a, np.full(a.shape[1], y))
    for b, count, got in zip(bits, counts, found, strict=True):
        want = count * x * y
        if got == want:
            continue
        wrapped = (want + (1 << int(b - 1))) % (1 << int(b)) - (1 << int(b - 1))
        limit = (1 << int(b - 1)) - 1
        how = {wrapped: "wrap", limit: "saturate"}.get(int(got))
        overflow = Reading(how) if how else unseen(f"{want} becomes {got}")
        return {"acc_bits": Reading(int(b)), "overflow": overflow}
    return {"acc_bits": Reading(_WIDEST, least=True), "overflow": unseen("nothing overflows")}


def requantize(subject: ClientSubject) -> dict[str, Reading]:
    """Measures how sums come back to int8: rounding, precision, clamp, fixed point."""
    ties = np.array([1, 3, 5, -1, -3, -5])
    found = _requantize(subject, ties, 0.5)
    shown = {
        (0, 2, 2, 0, -2, -2): "nearest_even",
        (1, 2, 3, -1, -2, -3): "nearest_away",
        (1, 2, 3, 0, -1, -2): "half_up",
        (0, 1, 2, 0, -1, -2): "toward_zero",
        (0, 1, 2, -1, -2, -3): "down",
    }.get(tuple(found.tolist()))
    rounding = Reading(shown) if shown else unseen(f"{ties / 2} become {found}")
    long = int(_requantize(subject, np.array([(1 << 24) + 1]), 2.5 * 2.0**-24)[0])
    arithmetic = {2: "float32", 3: "float64"}.get(long)
    clamp = _requantize(subject, np.array([1 << 20, -(1 << 20)]), 1.0)
    fields = {
        "rounding": rounding,
        "arithmetic": Reading(arithmetic) if arithmetic else unseen(f"2.5 and a bit is {long}"),
        "clamp": Reading(bool(clamp.tolist() == [127, -128])),
    }
    for name in ("fixed_single", "fixed_double"):
        fields[name] = _fixed(subject, name)
    return fields


def _requantize(subject: ClientSubject, acc: Integers, multiplier: float) -> Integers:
    problem = Problem(
        op="Requantize",
        operands=(from_integers(acc, INT32), encode(np.array(multiplier), FLOAT32)),
        attributes={"to": "int8", "arithmetic": "float32", "axis": 0},
        oracle=always(),
    )
    return subject.run(problem, _POISON)[0].integers


def _fixed(subject: ClientSubject, arithmetic: str) -> Reading:
    """Sums for which one rounding and two differ, and ordinary ones."""
    rng = np.random.default_rng(3)
    acc = rng.integers(-(1 << 30), 1 << 30, 200_000).astype(np.int32)
    q31, shift = np.int64((1 << 30) + 12345), np.int64(54)
    single = fixed_multiply(acc, q31, shift)
    double = fixed_multiply(acc, q31, shift, double_round=True)
    fits = np.abs(single) < 127
    differ = np.flatnonzero(fits & (single != double))[:16]
    chosen = np.concatenate([differ, np.flatnonzero(fits)[:16]])
    problem = Problem(
        op="Requantize",
        operands=(
            from_integers(acc[chosen], INT32),
            from_integers(np.array(q31), INT32),
            from_integers(np.array(shift), INT32),
        ),
        attributes={"to": "int8", "arithmetic": arithmetic, "axis": 0},
        oracle=always(),
    )
    found = subject.run(problem, _POISON)[0].integers
    for name, want in (("one rounding", single), ("two roundings", double)):
        if (found == want[chosen]).all():
            return Reading(name)
    return unseen("neither FBGEMM's rule nor gemmlowp's")


PAIRS: tuple[tuple[Format, Format], ...] = ((UINT8, INT8), (INT8, INT8), (UINT8, UINT8))
