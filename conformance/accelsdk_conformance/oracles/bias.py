"""Whether errors lean to one side or scatter too far: what bounds on single elements let through.

The data make the errors of a unit that rounds to nearest even *odd*: each output is one large
product and small ones of random signs, too few and too small to leave its binade. Whatever the
order, a node of the tree of additions rounds ``P + Q``, where P, which holds the large product, is
a multiple of the last place, and Q has the signs of products of its own. Turning these signs turns
the error; so it has mean zero given all before it, and is at most half a unit in the last place.
With m stores, Azuma's inequality (Tohoku Math. J. 19, 1967) bounds the sum of the errors of N
independent outputs, and the tail bound of Hsu, Kakade and Zhang (Electron. Commun. Probab. 17,
2012) that of their squares::

    |sum e|  <=  L sqrt(N m) / 2                      but for a chance of 2 exp(-L**2 / 2)
    sum e**2 <=  (m / 4) (N + 2 sqrt(N T) + 2 T)      but for a chance of exp(-T)

in units of the last place. These are the bias and the variance test of TOSA 1.1 (its
specification, "Dot product accuracy requirements") with limits that hold for every order.
docs/datasheet.md has the details.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from accelsdk_conformance.oracles.contraction import F64

#: Standard deviations that a sum of errors may reach: 2 exp(-32) = 3e-14 is the chance of more.
_DEVIATIONS = 8.0
#: Natural logarithm of the chance that squares of errors exceed their limit.
_RARITY = 32.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What errors show as a whole.

    Attributes:
        field: The field of an accumulator's claim that is false.
        reason: What was seen, and what would be legal.
    """

    field: str
    reason: str


def mean_limit(count: int, stores: float) -> float:
    """Returns how far the mean error of outputs may be from zero, in units of the last place.

    Args:
        count: Independent outputs.
        stores: Roundings that one output may see.
    """
    return _DEVIATIONS / 2 * math.sqrt(stores / count)


def scatter_limit(count: int, stores: float) -> float:
    """Returns the largest root mean square of errors, in units of the last place."""
    tail = 2 * math.sqrt(_RARITY / count) + 2 * _RARITY / count
    return math.sqrt(stores / 4 * (1 + tail))


def leaning(errors: F64, signs: F64, stores: float) -> Finding | None:
    """Judges each row by itself, for the rows share their right operands.

    Args:
        errors: [M, N] in units of the last place.
        signs: Sign of the results of each row.
        stores: Roundings that one output may see.

    Returns:
        What is wrong, or None.
    """
    count = errors.shape[1]
    mean, limit = errors.mean(axis=1), mean_limit(count, stores)
    off = np.abs(mean) > limit
    if off.any():
        worst = int(np.argmax(np.abs(mean)))
        reason = (
            f"the mean error of row {worst} is {mean[worst]:+.3g} units in the last place over "
            f"{count} outputs, where rounding to nearest even keeps within {limit:.3g}; sums "
            f"are rounded {_direction(mean[off], signs[off])}"
        )
        return Finding("store_rounding", reason)
    scatter, most = np.sqrt((errors**2).mean(axis=1)), scatter_limit(count, stores)
    if (scatter > most).any():
        worst = int(np.argmax(scatter))
        reason = (
            f"the errors of row {worst} scatter by {scatter[worst]:.3g} units in the last place, "
            f"where {stores:g} roundings keep within {most:.3g}"
        )
        return Finding("significand_bits", reason)
    return None


def _direction(mean: F64, signs: F64) -> str:
    """Names the direction that rows of both signs agree on, as far as they do."""
    for direction, toward in (
        ("towards zero", -signs),
        ("away from zero", signs),
        ("up", np.ones_like(signs)),
        ("down", -np.ones_like(signs)),
    ):
        if (np.sign(mean) == toward).all():
            return direction
    return "to one side"
