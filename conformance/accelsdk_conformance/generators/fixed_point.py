"""Requantisation over every shift: the ties of each, of both signs, and both ends."""

from __future__ import annotations

import numpy as np

from accelsdk.formats import FLOAT32, INT32
from accelsdk_conformance.case import Case
from accelsdk_conformance.generators import data
from accelsdk_conformance.generators.conversion import requantized
from accelsdk_conformance.oracles.tensor import from_integers, represent
from accelsdk_conformance.problem import Context, Problem

_MULTIPLIERS = (1 << 30, (1 << 30) + 1, 1518500250, (1 << 31) - 1)


def shifts(case: Case, context: Context) -> Problem:
    """A channel for each shift and multiplier; rows hold its ties and their neighbours."""
    target = data.format_of(case, 0)
    low, high = (int(x) for x in case.parameters["range"])
    rng = data.rng(case, context)
    shift = np.repeat(np.arange(low, high + 1), len(_MULTIPLIERS))
    q31 = np.tile(np.array(_MULTIPLIERS), high + 1 - low)
    # acc * 2**30 is half a step of 2**shift where acc is an odd multiple of 2**(shift - 31).
    step = np.exp2(np.maximum(shift - 31, 0).astype(np.float64)).astype(np.int64)
    odd = np.array([s * v for v in (1, 3, 5, 127, 255, 257) for s in (1, -1)])
    ties = odd[:, None] * step[None]
    near = np.concatenate([ties, ties + 1, ties - 1])
    ends = np.array([0, 1, -1, 2**31 - 1, -(2**31), 2**30, -(2**30), -1153024])
    noise = rng.integers(-(2**31), 2**31, (12, len(shift)))
    acc = np.concatenate([near, np.repeat(ends[:, None], len(shift), axis=1), noise])
    acc = np.clip(acc, -(2**31), 2**31 - 1)
    zero = np.int64(case.parameters["zero"])
    bias = None
    if case.parameters.get("bias", 0):
        bias = rng.integers(-(2**20), 2**20, len(shift))
        acc = np.clip(acc - bias, -(2**31), 2**31 - 1)  # what is built comes back with the bias
    operands = (
        from_integers(acc, INT32),
        from_integers(q31, INT32),
        from_integers(shift, INT32),
        from_integers(np.array(zero), target),
        None if bias is None else from_integers(bias, INT32),
    )
    return requantized(case, context, operands)


def wide_ties(case: Case, context: Context) -> Problem:
    """Sums beyond 24 bits, one beside a tie: float32 rounds them onto it, float64 does not."""
    target = data.format_of(case, 0)
    ties = (2 * np.arange(-63, 64, dtype=np.int64) + 1) << 23
    acc = np.concatenate([ties + near for near in (-63, -1, 0, 1, 63)])[:, None]
    zero = from_integers(np.array(0), target)
    factor = represent(np.array(2.0**-24), FLOAT32)
    return requantized(case, context, (from_integers(acc, INT32), factor, None, zero, None))
