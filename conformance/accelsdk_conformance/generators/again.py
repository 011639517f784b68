"""A program that runs again on other data: nothing of the first run may be seen in the second.

What accumulators, scratch memory, caches of operands and results of the run before leave behind
differs from op to op; so every op has such a case. Its data are those of the op's first case.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np

from accelsdk.formats import BOOL
from accelsdk_conformance.case import Case
from accelsdk_conformance.catalogue import bundled
from accelsdk_conformance.oracles.tensor import Tensor, encode
from accelsdk_conformance.problem import Context, Problem
from accelsdk_conformance.registry import generator


@cache
def _first() -> dict[tuple[str, tuple[str, ...]], Case]:
    """Returns the first case of each op and row of formats that is not made of another one."""
    found: dict[tuple[str, tuple[str, ...]], Case] = {}
    for case in bundled():
        if not case.generator.startswith("again.") and "of" not in case.parameters:
            found.setdefault((case.op, case.formats), case)
    return found


def after(case: Case, context: Context) -> Problem:
    """The first case of the op, after a run of the same program on NaN and on turned data."""
    like = _first()[case.op, case.formats]
    made = generator(like.generator)(like, context)
    first, *others = made.operands
    earlier = (first and _spoilt(first), *(other and _turned(other) for other in others))
    return replace(made, before=earlier, explain=None)


def _spoilt(x: Tensor) -> Tensor:
    """Returns other data: NaN in every second place, the other sign, or the other bits."""
    fmt = x.format
    mask = 1 << (fmt.bits - 1) if fmt.is_float and fmt.is_signed else (1 << fmt.bits) - 1
    codes = x.codes ^ x.codes.dtype.type(1 if fmt == BOOL else mask)
    if fmt.has_nan:
        codes.reshape(-1)[::2] = encode(np.array(np.nan), fmt).codes
    return Tensor(fmt, codes)


def _turned(x: Tensor) -> Tensor:
    """Returns the slices from last to first: indices stay indices, and tuples of them whole."""
    return Tensor(x.format, np.flip(x.codes, axis=0).copy() if x.codes.ndim else x.codes)
