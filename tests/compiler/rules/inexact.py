"""Direct evaluation that carries its own error bound.

An `Inexact` is a float64 value with a bound on how far a right implementation may be from it,
grown by each operation as in running error analysis (Higham, "Accuracy and Stability of
Numerical Algorithms", 2nd ed., section 3.3): what the operands' errors do to the exact result,
and one rounding of it. A formula written in `Inexact` thus derives its own tolerance, and no
test chooses one. Sums of n terms count n roundings of the sum of magnitudes, in any order.
"""

from dataclasses import dataclass

import numpy as np

from accelsdk.formats import FLOAT32, FLOAT64, Format, from_dtype

#: NumPy's float32 functions, the weakest in use, are within 4 ULP: 8 units of roundoff.
FUNCTION = 8.0


@dataclass(frozen=True)
class Unit:
    """The roundoff of one step: relative, and absolute below the normal numbers."""

    relative: float
    tiny: float


def own(fmt: Format) -> Unit:
    """Every step is rounded to the format itself (or a wider one)."""
    # float64 is its own reference, so its formulas err as well: twice the roundoff.
    spare = 2.0 if fmt is FLOAT64 else 1.0
    return Unit(spare * 2.0**-fmt.precision, spare * 2.0 ** (fmt.emin - fmt.precision))


def wide(fmt: Format) -> Unit:
    """Every step is rounded to float32, or to float64 for float64; the result once more."""
    return own(fmt if fmt is FLOAT64 else FLOAT32)


class Inexact:
    """See the module docstring.

    Attributes:
        value: What direct evaluation gives, float64.
        error: Largest distance of a right implementation from it, of the same shape.
        unit: The roundoff of a step.
    """

    __array_ufunc__ = None  # numpy's operators leave mixed operations to this class

    def __init__(self, value, error, unit: Unit) -> None:
        self.value = np.asarray(value, np.float64)
        self.error = np.broadcast_to(np.asarray(error, np.float64), self.value.shape)
        self.unit = unit

    def rounded(self, count=1.0) -> "Inexact":
        """This, after ``count`` roundings."""
        size = np.abs(self.value) + self.error
        error = self.error + count * (self.unit.relative * size + self.unit.tiny)
        return Inexact(self.value, error, self.unit)

    def _other(self, x) -> "Inexact":
        return x if isinstance(x, Inexact) else Inexact(x, 0.0, self.unit)

    def __add__(self, x):
        x = self._other(x)
        return Inexact(self.value + x.value, self.error + x.error, self.unit).rounded()

    __radd__ = __add__

    def __neg__(self):
        return Inexact(-self.value, self.error, self.unit)

    def __sub__(self, x):
        return self + -self._other(x)

    def __rsub__(self, x):
        return -self + x

    def __mul__(self, x):
        x = self._other(x)
        error = np.abs(self.value) * x.error + np.abs(x.value) * self.error + self.error * x.error
        return Inexact(self.value * x.value, error, self.unit).rounded()

    __rmul__ = __mul__

    def __truediv__(self, x):
        x = self._other(x)
        quotient = self.value / x.value
        room = np.abs(x.value) - x.error
        error = np.where(room > 0, (self.error + np.abs(quotient) * x.error) / room, np.inf)
        error = np.where((self.error == 0) & (x.error == 0), 0.0, error)
        return Inexact(quotient, error, self.unit).rounded()

    def __rtruediv__(self, x):
        return self._other(x) / self

    def monotone(self, function, roundings=FUNCTION) -> "Inexact":
        """Applies a monotone function: the error is what it makes of the interval's ends."""
        value = function(self.value)
        low, high = function(self.value - self.error), function(self.value + self.error)
        error = np.fmax(np.abs(low - value), np.abs(high - value))
        return Inexact(value, np.where(self.error == 0, 0.0, error), self.unit).rounded(roundings)

    def sqrt(self):
        return self.monotone(lambda x: np.sqrt(np.maximum(x, 0)), 1.0)

    def exp(self):
        return self.monotone(np.exp)

    def log(self):
        return self.monotone(lambda x: np.log(np.maximum(x, 0)))

    def tanh(self):
        return self.monotone(np.tanh)

    def sigmoid(self):
        return self.monotone(lambda x: 1 / (1 + np.exp(-x)))

    def abs(self):
        return Inexact(np.abs(self.value), self.error, self.unit)

    def maximum(self, x):
        x = self._other(x)
        return Inexact(np.maximum(self.value, x.value), np.maximum(self.error, x.error), self.unit)

    def minimum(self, x):
        return -((-self).maximum(-self._other(x)))

    def sum(self, axis, keepdims=False):
        count = np.prod([self.value.shape[a] for a in np.atleast_1d(axis)]) if axis != () else 0
        size = (np.abs(self.value) + self.error).sum(axis=axis, keepdims=keepdims)
        error = self.error.sum(axis=axis, keepdims=keepdims)
        value = self.value.sum(axis=axis, keepdims=keepdims)
        extra = _sum_roundings(count, size, self.unit)
        return Inexact(value, error + extra, self.unit)

    def mean(self, axis, keepdims=False):
        count = np.prod([self.value.shape[a] for a in np.atleast_1d(axis)]) if axis != () else 1
        return self.sum(axis, keepdims) / np.float64(count)

    def combine(self, x, product):
        """A bilinear form of two operands, such as a matrix product, by ``product``.

        Args:
            x: The other operand.
            product: Computes the form of two float64 arrays.
        """
        x = self._other(x)
        size, ones = np.abs(self.value), np.ones_like
        magnitude = product(size + self.error, np.abs(x.value) + x.error)
        exact = product(size, np.abs(x.value))
        terms = product(ones(self.value), ones(x.value))
        error = (magnitude - exact) * (1 + 2.0**-40)  # what the operands' errors come to
        if not self.error.any() and not x.error.any():
            error = np.zeros_like(exact)
        extra = _sum_roundings(terms, magnitude, self.unit)
        return Inexact(product(self.value, x.value), error + extra, self.unit)

    def __matmul__(self, x):
        return self.combine(x, np.matmul)

    def __getitem__(self, key):
        return Inexact(self.value[key], self.error[key], self.unit)

    def moved(self, function) -> "Inexact":
        """Applies a function that moves elements and computes nothing."""
        return Inexact(function(self.value), function(self.error), self.unit)

    @property
    def shape(self):
        return self.value.shape


def _sum_roundings(count, size, unit):
    """What rounding makes of a sum of ``count`` terms, in any order, products rounded too."""
    terms = np.asarray(count, np.float64)
    nu = terms * unit.relative
    return np.where(terms > 0, nu / (1 - nu) * size + terms * unit.tiny, 0.0)


def exact(x, unit: Unit) -> Inexact:
    """An operand: what it holds, with no error."""
    return Inexact(np.asarray(x).astype(np.float64), 0.0, unit)


def operand(x, each_step=True) -> Inexact:
    """An operand in a formula of several steps, each rounded to the operand's own format.

    Args:
        x: Array of a float format.
        each_step: False for kernels that promise float32 inside whatever the format.
    """
    fmt = from_dtype(np.asarray(x).dtype)
    return exact(x, own(fmt) if each_step else wide(fmt))


def where(condition, a, b) -> Inexact:
    """Chooses elementwise, values and errors alike."""
    unit = a.unit if isinstance(a, Inexact) else b.unit
    a, b = (x if isinstance(x, Inexact) else Inexact(x, 0.0, unit) for x in (a, b))
    return Inexact(
        np.where(condition, a.value, b.value), np.where(condition, a.error, b.error), unit
    )


def stack(parts, axis=0) -> Inexact:
    """Stacks along a new axis."""
    values, errors = ([getattr(p, name) for p in parts] for name in ("value", "error"))
    return Inexact(np.stack(values, axis), np.stack(errors, axis), parts[0].unit)


def concatenate(parts, axis=0) -> Inexact:
    """Joins along an axis."""
    values, errors = ([getattr(p, name) for p in parts] for name in ("value", "error"))
    return Inexact(np.concatenate(values, axis), np.concatenate(errors, axis), parts[0].unit)
