"""A program that runs again on other data: nothing of the first run may be seen in the second.

What accumulators, scratch memory, caches of operands and results of the run before leave behind
differs from op to op; so every op has such a case. Its data are those of the op's first case.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np

from accelsdk_conformance.case import Case
from accelsdk_conformance.catalogue import bundled
from accelsdk_conformance.oracles.tensor import Tensor, encode
from accelsdk_conformance.problem import Context, Problem
from accelsdk_conformance.registry import generator


@cache
def _first() -> dict[tuple[str, tuple[str, ...]], Case]:
    """Returns the first case of each op and row of formats that is not of this module."""
    found: dict[tuple[str, tuple[str, ...]], Case] = {}
    for case in bundled():
        if not case.generator.startswith("again."):
            found.setdefault((case.op, case.formats), case)
    return found


def after(case: Case, context: Context) -> Problem:
    """The first case of the op, after a run of the same program on NaN and on turned data."""
    like = _first()[case.op, case.formats]
    made = generator(like.generator)(like, context)
    first, *others = made.operands
    earlier = (first and _spoilt(first), *(other and _turned(other) for other in others))
    return replace(made, before=earlier, explain=None, remake=None)


def _spoilt(x: Tensor) -> Tensor:
    """Returns NaN in every second place; numbers turned around where there is no NaN."""
    turned = _turned(x)
    if not x.format.has_nan:
        return turned
    nan = encode(np.array(np.nan), x.format).codes
    flat = turned.codes.reshape(-1).copy()
    flat[::2] = nan
    return Tensor(x.format, flat.reshape(x.shape))


def _turned(x: Tensor) -> Tensor:
    """Returns the slices from last to first: indices stay indices, and tuples of them whole."""
    return Tensor(x.format, np.flip(x.codes, axis=0).copy() if x.codes.ndim else x.codes)
