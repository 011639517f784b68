"""Functions at the places that are hard for them: beside powers of two, zeros and poles."""

from __future__ import annotations

import numpy as np

from accelsdk.formats import FLOAT64, Format
from accelsdk_conformance.case import Case
from accelsdk_conformance.generators import data, elementwise, select
from accelsdk_conformance.oracles.tensor import Tensor, code_dtype, encode
from accelsdk_conformance.problem import Context, Problem


def function(case: Case, context: Context) -> Problem:
    """A function beside each power of two, and beside its own zeros, poles and bends."""
    fmt = data.format_of(case, 0)
    return elementwise.unary(case, context).with_operands([Tensor(fmt, _places(fmt))])


def _places(fmt: Format) -> np.ndarray[tuple[int, ...], np.dtype[np.unsignedinteger]]:
    powers = np.exp2(np.arange(fmt.emin - 2, fmt.emax + 1, 8 if fmt == FLOAT64 else 1))
    turns = np.arange(1.0, 90.0) * (np.pi / 4)
    ties = np.concatenate([np.arange(0.5, 20.0), 2.0 ** (fmt.mantissa_bits - 1) + np.arange(-5, 6)])
    bends = np.array([3.0, 6.0, 0.54, 0.8414, 1.4142135, np.e, 20.0, 88.0, 88.5, 89.0, 103.5])
    centre = np.concatenate([powers, turns, ties, ties + 0.5, bends, bends * np.log(2)])
    codes = encode(centre[centre <= fmt.max], fmt).codes.astype(np.int64)
    around = np.unique(np.concatenate([codes + step for step in range(-3, 4)]))
    top = int(encode(np.array(fmt.max), fmt).codes)
    positive = around[(around >= 0) & (around <= top)].astype(code_dtype(fmt))
    every = np.concatenate([positive, positive | positive.dtype.type(1 << (fmt.bits - 1))])
    # Mixed, so that what a function leaves open lies beside what it does not.
    return np.random.default_rng(5).permutation(every)


def power(case: Case, context: Context) -> Problem:
    """Pow of numbers beside 1 with large exponents: the logarithm needs more than its format."""
    fmt = data.format_of(case, 0)
    steps = np.array([1, 2, 3, 5, 9, 17, 100, 1000]) * 2.0**-fmt.mantissa_bits
    base = np.concatenate([1 + steps, 1 - steps / 2, [1.001, 0.999, 1.1, 0.7]])
    top = fmt.mantissa_bits * np.log(2)
    exponent = np.concatenate([top / steps, [0.5, 3.0, 7.0, 33.0, 120.0, 12345.0, 2.0**20 + 1]])
    return elementwise.power(case, context).with_operands(
        [
            Tensor(fmt, encode(base, fmt).codes[:, None]),
            Tensor(fmt, encode(data.both_signs(exponent[exponent < fmt.max]), fmt).codes[None]),
        ]
    )


def payloads(case: Case, context: Context) -> Problem:
    """IsNaN and IsInf of NaN with each single bit of payload, quiet and signalling."""
    fmt = data.format_of(case, 0)
    infinity = int(encode(np.array(np.inf), fmt).codes)
    bits = np.array([0, *(1 << shift for shift in range(fmt.mantissa_bits))], np.uint64)
    positive = bits + np.uint64(infinity)
    codes = np.concatenate([positive, positive | np.uint64(1 << (fmt.bits - 1))])
    codes = codes.astype(code_dtype(fmt))
    return select.classify(case, context).with_operands([Tensor(fmt, codes)])
