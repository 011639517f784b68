"""A unit that multiplies matrices, seen from outside, and the bench that feeds it products.

The probes think in products and sums; the bench turns a wanted product into two codes (or, for
formats too narrow for that, into codes and block scales) and packs many independent sums into
one execution: the diagonal of a matrix product.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from accelsdk.errors import AccelError
from accelsdk.formats import E8M0, FLOAT32, Format
from accelsdk.graph.graph import Attribute
from accelsdk_conformance.oracles.tensor import F64, Tensor, encode
from accelsdk_conformance.problem import Problem, always
from accelsdk_conformance.subject import ClientSubject

_ROWS = 16  # sums in one matrix product: its diagonal is used, the rest is thrown away
_BLOCK = 32
_POISON = 0xA5
_REACH = 60  # powers of two beyond which no probe goes, so that float32 sums stay normal
_BIAS = 127
#: Attributes of a convolution that is a matrix product.
WINDOW: Mapping[str, Attribute] = MappingProxyType(
    {"strides": (1,), "pads": (0, 0), "dilations": (1,), "group": 1}
)


class Unit(Protocol):
    """What multiplies: a device behind the SDK, or a model of one."""

    a: Format
    b: Format
    out: Format
    block: int

    @property
    def has_addend(self) -> bool:
        """Whether there is a C that enters the sums."""

    def multiply(
        self,
        a: Tensor,
        b: Tensor,
        scales: tuple[Tensor, Tensor] | None = None,
        c: F64 | None = None,
    ) -> F64:
        """Returns ``a[G, M, K] @ b[G, K, N]``, scaled by blocks, plus ``c[N]``.

        Raises:
            AccelError: The unit does not do that.
        """


@dataclass(slots=True)
class SdkUnit:
    """One op of a plugin on one choice of formats; see `Unit`."""

    subject: ClientSubject
    op: str
    a: Format
    b: Format
    out: Format
    block: int = 0

    @property
    def has_addend(self) -> bool:
        """Whether the op has a bias that enters the sums."""
        return self.op == "Conv"

    def multiply(
        self,
        a: Tensor,
        b: Tensor,
        scales: tuple[Tensor, Tensor] | None = None,
        c: F64 | None = None,
    ) -> F64:
        """Runs the product as a graph of one node."""
        if self.op == "Conv":
            return self._convolve(a, b, c)
        operands: tuple[Tensor, ...] = (a, b)
        if self.op == "ScaledMatMul":
            one = encode(np.array(1.0), FLOAT32)
            operands = (a, b, *(scales or (one, one)))
            return self._run(operands, {"to": self.out.name, "block_size": self.block})
        return self._run(operands, {})

    def _convolve(self, a: Tensor, b: Tensor, c: F64 | None) -> F64:
        """Channels are K, positions are rows, output channels are columns."""
        found = []
        for left, right in zip(a.codes, b.codes, strict=True):
            x = Tensor(self.a, np.ascontiguousarray(left.T)[None])
            w = Tensor(self.b, np.ascontiguousarray(right.T)[:, :, None])
            bias = () if c is None else (encode(c, self.out),)
            found.append(self._run((x, w, *bias), WINDOW)[0].T)
        return np.stack(found)

    def _run(self, operands: tuple[Tensor, ...], attributes: Mapping[str, Attribute]) -> F64:
        problem = Problem(
            op=self.op,
            operands=operands,
            attributes=attributes,
            oracle=always(),
        )
        return self.subject.run(problem, _POISON)[0].values


class Bench:
    """Sums of wanted products, on one unit.

    Attributes:
        unit: What multiplies.
        spaced: Whether every product has a block, and so a scale, of its own.
        low: Exponent of the smallest product of normal operands.
        high: Exponent of the largest product, 1.5 * 1.5 times which is still a product.
        executions: How often the unit was asked.
    """

    def __init__(self, unit: Unit) -> None:
        self.unit = unit
        self.spaced = unit.block > 0
        self.executions = 0
        self.subnormals = True
        normal = unit.a.is_float and unit.b.is_float
        low = unit.a.emin + unit.b.emin if normal and not self.spaced else -_REACH
        high = unit.a.emax + unit.b.emax if normal and not self.spaced else _REACH
        self.low, self.high = max(low, -_REACH), min(high, _REACH)

    @property
    def lowest(self) -> int:
        """Exponent of the smallest product, subnormal operands included if they count."""
        if self.spaced or not self.subnormals or self.low <= -_REACH:
            return self.low
        return self.low - self.unit.a.mantissa_bits - self.unit.b.mantissa_bits

    def sums(self, products: F64, c: F64 | None = None) -> F64:
        """Returns the unit's sum of each row of wanted products.

        Args:
            products: ``[rows, K]``; each a power of two times a number that both formats
                hold. A multiple of 1.125 is made as 1.5 * 1.5 times half that power.
            c: Addend of each row.
        """
        if self.spaced:
            return self._spaced(products)
        a, b = self._factors(products)
        return self.raw(a, b, c)

    def raw(
        self, a: F64, b: F64, c: F64 | None = None, scales: NDArray[np.int64] | None = None
    ) -> F64:
        """Returns the unit's dot product of each row of ``a`` and of ``b``, ``[rows, K]``.

        Args:
            a: Values of the left format.
            b: Values of the right format.
            c: Addend of each row.
            scales: Exponent of each block's scale, ``[rows, blocks]``, split between both sides.
        """
        rows, length = a.shape
        groups = -(-rows // _ROWS)
        pad = ((0, groups * _ROWS - rows), (0, 0))
        left = np.pad(a, pad).reshape(groups, _ROWS, length)
        right = np.pad(b, pad).reshape(groups, _ROWS, length).transpose(0, 2, 1)
        codes = encode(left, self.unit.a), encode(np.ascontiguousarray(right), self.unit.b)
        found = np.empty((groups, _ROWS))
        if c is not None:
            addends = np.pad(c, pad[0]).reshape(groups, _ROWS)
            for i in range(groups):
                one_a, one_b = (Tensor(t.format, t.codes[i : i + 1]) for t in codes)
                product = self._multiply(one_a, one_b, None, addends[i])
                found[i] = np.diagonal(product[0])
            return found.reshape(-1)[:rows]
        given = None
        if scales is not None:
            exponents = np.pad(scales, pad).reshape(groups, _ROWS, -1)
            half = exponents // 2
            given = (
                Tensor(E8M0, (half + _BIAS).astype(np.uint8)),
                Tensor(E8M0, (exponents - half + _BIAS).transpose(0, 2, 1).astype(np.uint8)),
            )
        product = self._multiply(*codes, given, None)
        return np.ascontiguousarray(np.diagonal(product, axis1=1, axis2=2)).reshape(-1)[:rows]

    def _multiply(
        self, a: Tensor, b: Tensor, scales: tuple[Tensor, Tensor] | None, c: F64 | None
    ) -> F64:
        self.executions += 1
        return self.unit.multiply(a, b, scales, c)

    def _factors(self, products: F64) -> tuple[F64, F64]:
        mantissa, exponent = np.frexp(products)
        mantissa, exponent = mantissa * 2, exponent - 1
        square = np.abs(mantissa) == 1.125
        exponent = np.where(square, exponent - 1, exponent)
        left = np.where(square, 1.5 * np.sign(mantissa), mantissa)
        right = np.where(square, 1.5, 1.0)
        a_format, b_format = self.unit.a, self.unit.b
        top = np.where(np.abs(left) * 2.0**a_format.emax <= a_format.max, 0, 1)
        most = np.where(right * 2.0**b_format.emax <= b_format.max, 0, 1)
        share = np.clip(exponent // 2, a_format.emin, a_format.emax - top)
        share = np.clip(share, exponent - (b_format.emax - most), exponent - b_format.emin)
        share = np.clip(share, a_format.emin - a_format.mantissa_bits, a_format.emax - top)
        share = np.where(products == 0, 0, share)
        rest = np.where(products == 0, 0, exponent - share)
        return np.ldexp(left, share), np.ldexp(right, rest)

    def _spaced(self, products: F64) -> F64:
        rows, length = products.shape
        mantissa, exponent = np.frexp(products)
        mantissa, exponent = mantissa * 2, exponent - 1
        square = np.abs(mantissa) == 1.125
        a, b = np.zeros((rows, length * _BLOCK)), np.zeros((rows, length * _BLOCK))
        a[:, ::_BLOCK] = np.where(square, 1.5 * np.sign(mantissa), mantissa)
        b[:, ::_BLOCK] = np.where(square, 1.5, 1.0)
        scales = np.where(products == 0, 0, np.where(square, exponent - 1, exponent))
        return self.raw(a, b, None, scales.astype(np.int64))


def works(bench: Bench) -> str:
    """Returns why a unit cannot be measured, or an empty string: 1 + 2 must be 3."""
    try:
        found = float(bench.sums(np.array([[1.0, 2.0]]))[0])
    except AccelError as error:
        return " ".join(str(error).split())
    return "" if found == 3.0 else f"1 + 2 gives {found:g}"
