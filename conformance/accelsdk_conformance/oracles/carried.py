"""Values that carry their error: how composites are judged.

A composite is evaluated in float64 along its decomposition; beside each value goes a bound of
what a device may have lost by then, from the errors of its operands (first order, rounded up)
and the limit of the primitive itself. The result is a bound for the composite that holds for
every right evaluation of that decomposition with the declared primitives.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from accelsdk.formats import Format
from accelsdk_conformance.oracles.tensor import F64, Mask

_ROOM = 1 + 2.0**-20  # second-order terms and the oracle's own rounding
_LEAST = 24  # significand bits of any sum


def _gamma(count: int, fmt: Format) -> float:
    """Returns Higham's gamma_n for roundings that may be directed."""
    unit = 2.0 ** (1 - max(fmt.precision, _LEAST))
    return count * unit / max(1 - count * unit, 0.5)


@cache
def _last_place(fmt: Format) -> tuple[float, float]:
    """Returns a unit in the last place of 1, and the smallest number."""
    return 2.0 ** (1 - fmt.precision), fmt.smallest_subnormal


@dataclass(frozen=True, slots=True, eq=False)
class Carried:
    """A float64 value and the largest distance of a device's value from it.

    Attributes:
        value: Reference.
        error: Bound of the distance.
        fmt: Format that the device computes in.
    """

    value: F64
    error: F64
    fmt: Format

    @classmethod
    def exact(cls, value: F64, fmt: Format) -> Carried:
        """Wraps values that the device holds exactly."""
        return cls(value, np.zeros_like(value), fmt)

    def rounded(self, ulp: float = 0.5) -> Carried:
        """Adds the error of one primitive: ``ulp`` units in the last place, never below one
        subnormal step.
        """
        unit, least = _last_place(self.fmt)
        with np.errstate(over="ignore", invalid="ignore"):
            error = np.abs(self.value) + self.error
            error *= ulp * unit
            error += least
            error += self.error
            error *= _ROOM
            return Carried(self.value, error, self.fmt)

    def flushed(self) -> Carried:
        """Returns the same with room for subnormal numbers to become zeros."""
        small = np.abs(self.value) - self.error < self.fmt.smallest_normal
        extra = np.where(small, self.fmt.smallest_normal, 0.0)
        return Carried(self.value, self.error + extra, self.fmt)

    def __add__(self, other: Carried) -> Carried:
        return Carried(self.value + other.value, self.error + other.error, self.fmt).rounded()

    def __sub__(self, other: Carried) -> Carried:
        return Carried(self.value - other.value, self.error + other.error, self.fmt).rounded()

    def __mul__(self, other: Carried) -> Carried:
        error = (
            np.abs(self.value) * other.error
            + np.abs(other.value) * self.error
            + self.error * other.error
        )
        return Carried(self.value * other.value, error, self.fmt).rounded()

    def divided(self, other: Carried, ulp: float = 2.5) -> Carried:
        """Returns the quotient; the divisor stays away from zero by more than its error."""
        value = self.value / other.value
        room = np.maximum(np.abs(other.value) - other.error, 2.0**-1000)
        error = (self.error + np.abs(value) * other.error) / room
        return Carried(value, error, self.fmt).rounded(ulp)

    def exp(self, ulp: float) -> Carried:
        """Returns e to the value."""
        value = np.exp(self.value)
        return Carried(value, value * np.expm1(self.error), self.fmt).rounded(ulp)

    def log(self, ulp: float) -> Carried:
        """Returns the natural logarithm of positive values."""
        room = np.maximum(self.value - self.error, 2.0**-1000)
        value = np.log(self.value)
        found = Carried(value, self.error / room, self.fmt).rounded(ulp)
        floor = 2.0 ** (1 - self.fmt.precision)  # near 1 a logarithm has an absolute error
        return Carried(value, found.error + floor, self.fmt)

    def sqrt(self, ulp: float = 3.0) -> Carried:
        """Returns the square root of values that are not negative."""
        value = np.sqrt(self.value)
        below = np.sqrt(np.maximum(self.value - self.error, 0.0))
        error = np.where(value + below > 0, self.error / np.maximum(value + below, 2.0**-500), 0.0)
        return Carried(value, error, self.fmt).rounded(ulp)

    def total(self, axis: int = -1) -> Carried:
        """Returns the sum along an axis (kept), in any order.

        It is taken in float32 at least: the floor of the profile (docs/conformance.md).
        """
        count = self.value.shape[axis]
        gamma = _gamma(max(count - 1, 0), self.fmt)
        size = (np.abs(self.value) + self.error).sum(axis=axis, keepdims=True)
        error = self.error.sum(axis=axis, keepdims=True) + gamma * size
        found = Carried(self.value.sum(axis=axis, keepdims=True), error * _ROOM, self.fmt)
        return found.rounded(1.0) if self.fmt.precision < _LEAST else found

    def mean(self, axis: int = -1) -> Carried:
        """Returns the mean along an axis (kept)."""
        count = Carried.exact(np.array(float(self.value.shape[axis])), self.fmt)
        return self.total(axis).divided(count)

    def matmul(self, other: Carried) -> Carried:
        """Returns the matrix product over the last two axes, summed as in `total`."""
        a, b = self.value, other.value
        size = (np.abs(a) + self.error) @ (np.abs(b) + other.error)
        error = np.abs(a) @ other.error + self.error @ np.abs(b) + self.error @ other.error
        gamma = _gamma(a.shape[-1] + 1, self.fmt)
        found = Carried(a @ b, (error + gamma * size) * _ROOM, self.fmt)
        return found.rounded(1.0) if self.fmt.precision < _LEAST else found

    def bounded(self, value: F64, slope: float | F64, ulp: float, floor: float = 0.0) -> Carried:
        """Returns a function of this value whose slope near it never exceeds ``slope``."""
        found = Carried(value, slope * self.error, self.fmt).rounded(ulp)
        extra = floor * 2.0 ** (1 - self.fmt.precision)
        return Carried(value, found.error + extra, self.fmt)

    def sigmoid(self) -> Carried:
        """Returns the logistic function."""
        small = np.exp(-np.abs(self.value))
        value = np.where(self.value >= 0, 1 / (1 + small), small / (1 + small))
        near = 1 / (1 + np.exp(self._nearest()))
        # exp(-x), a sum and a quotient, with the limits of 16-bit functions or of others
        ulp, floor = (4.0, 0.0) if self.fmt.precision < _LEAST else (6.0, 2.0)
        return self.bounded(value, near * (1 - near), ulp, floor)

    def tanh(self) -> Carried:
        """Returns the hyperbolic tangent."""
        ulp = 2.0 if self.fmt.precision < _LEAST else 5.0
        slope = 1 - np.tanh(self._nearest()) ** 2
        return self.bounded(np.tanh(self.value), slope, ulp, 0.5)

    def _nearest(self) -> F64:
        """The least magnitude that a device may have: where sigmoid and tanh are steepest."""
        found: F64 = np.maximum(np.abs(self.value) - self.error, 0.0)
        return found

    def where(self, mask: Mask, value: float) -> Carried:
        """Returns the same with an exact ``value`` wherever ``mask`` holds."""
        return Carried(np.where(mask, value, self.value), np.where(mask, 0.0, self.error), self.fmt)

    def __getitem__(self, index: Any) -> Carried:  # noqa: ANN401 # any NumPy index
        return Carried(self.value[index], self.error[index], self.fmt)
