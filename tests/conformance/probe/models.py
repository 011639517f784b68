"""Units for the probes to measure: the card's engine under any specification, and others."""

import numpy as np

from accelsdk.formats import BFLOAT16, FLOAT16, FLOAT32
from accelsdk.numerics import codec
from accelsdk_sim_card.engines import accumulator
from accelsdk_sim_card.engines.accumulator import Operand


class Engine:
    """The card's matrix engine, with an addend, on any formats."""

    has_addend = True

    def __init__(self, spec, fmt, out=FLOAT32, block=0):
        self.spec, self.a, self.b, self.out, self.block = spec, fmt, fmt, out, block

    def multiply(self, a, b, scales=None, c=None):
        pairs = zip(a.values, b.values, strict=True)
        found = [self._one(i, left, right, scales, c) for i, (left, right) in enumerate(pairs)]
        return _rounded(np.stack(found), self.out)

    def _one(self, index, a, b, scales, c):
        powers = (None, None)
        if scales is not None:
            codes = [scale.codes[index].astype(np.int16) - np.int16(127) for scale in scales]
            powers = np.repeat(codes[0], 32, axis=1), np.repeat(codes[1], 32, axis=0)
        left = Operand.of(a, self.a, powers[0], self.spec)
        right = Operand.of(b, self.b, powers[1], self.spec)
        if c is not None:
            c = np.broadcast_to(c.astype(np.float32), (a.shape[0], b.shape[1]))
        return accumulator.contract(left, right, self.spec, c)


def _rounded(sums, out):
    if out is FLOAT16:
        with np.errstate(over="ignore"):
            return sums.astype(np.float16).astype(np.float64)
    if out is BFLOAT16:
        return codec.decode(codec.cast(sums, FLOAT32, BFLOAT16), BFLOAT16, np.float64)
    return sums.astype(np.float64)


class Ordered:
    """float32 sums in an order that a function of the products chooses."""

    has_addend = False
    block = 0

    def __init__(self, add, fmt=FLOAT32):
        self.add, self.a, self.b, self.out = add, fmt, fmt, FLOAT32

    def multiply(self, a, b, scales=None, c=None):
        with np.errstate(over="ignore", invalid="ignore"):
            products = a.values[:, :, :, None] * b.values[:, None, :, :]
            return self.add(products.astype(np.float32)).astype(np.float64)


def one_by_one(products):
    total = np.zeros_like(products[:, :, 0])
    for k in range(products.shape[2]):
        total = total + products[:, :, k]
    return total


def pairwise(products):
    while products.shape[2] > 1:
        even = products.shape[2] // 2 * 2
        joined = products[:, :, 0:even:2] + products[:, :, 1:even:2]
        products = np.concatenate([joined, products[:, :, even:]], axis=2)
    return products[:, :, 0]


def split(parts):
    """K in contiguous parts, one after the other inside, added one after the other."""

    def add(products):
        length = -(-products.shape[2] // parts)
        found = [
            one_by_one(products[:, :, i : i + length]) for i in range(0, products.shape[2], length)
        ]
        return one_by_one(np.stack(found, axis=2))

    return add


def lanes(count):
    """As vector code adds: one sum for each lane, the lanes at the end."""

    def add(products):
        found = [one_by_one(products[:, :, i::count]) for i in range(min(count, products.shape[2]))]
        return pairwise(np.stack(found, axis=2))

    return add
