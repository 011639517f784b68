"""A subject that computes contractions by one accumulator and declares another."""

import numpy as np

from accelsdk.backend.datasheet import NumericsDatasheet
from accelsdk.errors import UnsupportedGraph
from accelsdk.formats import FLOAT32, by_name
from accelsdk_conformance.oracles.accumulator import simulate
from accelsdk_conformance.oracles.contraction import contract
from accelsdk_conformance.oracles.tensor import encode


class Simulated:
    """Products on the declared accumulator's model, with other numbers in it.

    Args:
        actual: What it computes by.
        declared: What it says it computes by.
        change: Applied to both operands (inputs that are cut), or None.
    """

    def __init__(self, actual, declared, change=None):
        self.datasheet = NumericsDatasheet(contractions={("*", "*", "*", "*"): declared})
        self.actual, self.change = actual, change

    def run(self, problem, poison):
        if problem.op not in ("MatMul", "ScaledMatMul"):
            raise UnsupportedGraph(problem.op)
        a, b, *scales = problem.operands
        if a.codes.ndim != 2 or b.codes.ndim != 2:
            raise UnsupportedGraph("stacks of matrices")
        block = int(problem.attributes.get("block_size", 0))
        out = a.format if problem.op == "MatMul" else by_name(problem.attributes["to"])
        left, right = a.values, b.values
        if self.change is not None:
            left, right = self.change(left), self.change(right)
        powers = [None, None]
        nan = np.zeros((a.shape[0], b.shape[1]), bool)
        if block:
            k = a.shape[1]
            raw = [scales[0].codes.astype(np.int64), scales[1].codes.astype(np.int64)]
            powers = [
                np.repeat(raw[0], block, 1)[:, :k] - 127,
                np.repeat(raw[1], block, 0)[:k] - 127,
            ]
            nan = (raw[0] == 255).any(1)[:, None] | (raw[1] == 255).any(0)[None]
        sums = contract(left, right, a.format, b.format, a_exponent=powers[0], b_exponent=powers[1])
        stored = simulate(sums.factors, self.actual, block, most=10_000)
        assert stored is not None
        stored = np.where(sums.positive, np.inf, np.where(sums.negative, -np.inf, stored))
        stored = np.where(nan | sums.nan, np.nan, stored)
        for scale in scales if scales and not block else ():
            stored = encode(encode(stored, FLOAT32).values * scale.values, FLOAT32).values
        return (encode(np.broadcast_to(stored, nan.shape), out),)
