"""Resize in exact fractions: where each result looks, and with which weights.

Written from the text of ONNX Resize-19 alone. The kernels are the triangle and the cubic of
Keys (IEEE Trans. ASSP 29(6), 1981); with antialiasing they are stretched by the scale.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

#: Source position: weight; None is a result outside of the source, which is extrapolated.
Taps = dict[int, Fraction] | None

_HALF = Fraction(1, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One axis of a Resize.

    Attributes:
        source: Extent of the source.
        result: Extent of the result.
        scale: Scale, as the node says it.
        transform: The op's ``coordinate_transformation_mode``.
        crop: Begin and end of this axis in ``roi``.
    """

    source: int
    result: int
    scale: Fraction
    transform: str
    crop: tuple[Fraction, Fraction] = (Fraction(0), Fraction(1))

    def coordinate(self, at: int) -> Fraction:
        """Returns the source coordinate of a result position."""
        centred = (at + _HALF) / self.scale - _HALF
        match self.transform:
            case "half_pixel":
                return centred
            case "pytorch_half_pixel":
                return centred if self.result > 1 else Fraction(0)
            case "half_pixel_symmetric":
                stretched = self.scale * self.source
                return centred + Fraction(self.source, 2) * (1 - self.result / stretched)
            case "align_corners":
                if self.result == 1:
                    return Fraction(0)
                return Fraction(at * (self.source - 1), self.result - 1)
            case "asymmetric":
                return at / self.scale
        start, end = self.crop
        if self.result == 1:
            return (start + end) / 2 * (self.source - 1)
        step = (end - start) * (self.source - 1) / (self.result - 1)
        return start * (self.source - 1) + at * step

    def outside(self, x: Fraction) -> bool:
        """Says whether a coordinate is extrapolated."""
        cropped = self.transform == "tf_crop_and_resize"
        return cropped and not 0 <= x <= self.source - 1

    def nearest(self, at: int, mode: str, shift: Fraction = Fraction(0)) -> Taps:
        """Returns the one source position of a result.

        Args:
            at: Result position.
            mode: The op's ``nearest_mode``.
            shift: Added to the coordinate: what a device may have lost.
        """
        x = self.coordinate(at)
        if self.outside(x):
            return None
        x += shift
        place = {
            "round_prefer_floor": math.ceil(x - _HALF),
            "round_prefer_ceil": math.floor(x + _HALF),
            "floor": math.floor(x),
            "ceil": math.ceil(x),
        }[mode]
        return {min(max(place, 0), self.source - 1): Fraction(1)}

    def weighted(
        self, at: int, cubic: Fraction | None, exclude_outside: bool, antialias: bool
    ) -> Taps:
        """Returns the weights of a result.

        Args:
            at: Result position.
            cubic: Coefficient of the cubic kernel; None is the triangle.
            exclude_outside: Whether taps outside of the source weigh nothing; else they take
                the value at the border.
            antialias: Whether the kernel is stretched where the scale is below 1.
        """
        x = self.coordinate(at)
        if self.outside(x):
            return None
        shrink = min(self.scale, Fraction(1)) if antialias else Fraction(1)
        below = math.floor(x)
        found: dict[int, Fraction] = {}
        for step, weight in _kernel(x - below, shrink, cubic):
            place = below + step
            inside = min(max(place, 0), self.source - 1)
            if place == inside or not exclude_outside:
                found[inside] = found.get(inside, Fraction(0)) + weight
        total = sum(found.values())
        return {place: weight / total for place, weight in found.items()}


@cache
def _kernel(
    phase: Fraction, shrink: Fraction, cubic: Fraction | None
) -> tuple[tuple[int, Fraction], ...]:
    """Returns the steps from the position below a coordinate, and what weighs there.

    Kept, for the results along an axis have few phases.

    Args:
        phase: How far the coordinate lies above that position.
        shrink: By which distances are shortened.
        cubic: Coefficient of the cubic kernel; None is the triangle.
    """
    reach = (1 if cubic is None else 2) / shrink
    found = []
    for step in range(math.ceil(phase - reach), math.floor(phase + reach) + 1):
        distance = abs(step - phase) * shrink
        weight = max(1 - distance, Fraction(0)) if cubic is None else _keys(distance, cubic)
        if weight:
            found.append((step, weight))
    return tuple(found)


def _keys(d: Fraction, a: Fraction) -> Fraction:
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * (d**3 - 5 * d**2 + 8 * d - 4) if d < 2 else Fraction(0)
