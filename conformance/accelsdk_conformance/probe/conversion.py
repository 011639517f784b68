"""Conversions to narrow formats: rounding, overflow, and the scales of MX blocks."""

from __future__ import annotations

import numpy as np

from accelsdk.errors import AccelError
from accelsdk.formats import FLOAT32, Format
from accelsdk.numerics.block import ScaleRule, scale_codes
from accelsdk_conformance.oracles.tensor import F64, Codes, encode, magnitudes
from accelsdk_conformance.probe.reading import Reading, unseen
from accelsdk_conformance.problem import Problem, always
from accelsdk_conformance.subject import ClientSubject

_POISON = 0xA5
_NAN_SCALE, _TOP_SCALE = 0xFF, 0xFE


def cast(subject: ClientSubject, source: Format, target: Format) -> dict[str, Reading]:
    """Measures one conversion of floats."""
    fields = {"rounding": _rounding(subject, source, target)}
    fields["via"] = _via(subject, source, target)
    fields |= _overflow(subject, source, target)
    return fields


def _cast(
    subject: ClientSubject, x: F64, source: Format, target: Format, *, saturate: bool = True
) -> F64:
    problem = Problem(
        op="Cast",
        operands=(encode(x, source),),
        attributes={"to": target.name, "saturate": int(saturate)},
        oracle=always(),
    )
    return subject.run(problem, _POISON)[0].values


def _steps(target: Format) -> tuple[float, float, float]:
    """Three neighbours in [1, 2), or from 1 on, of which the first has an even code."""
    grid = magnitudes(target)
    first = int(np.flatnonzero(grid == 1.0)[0])
    return float(grid[first]), float(grid[first + 1]), float(grid[first + 2])


def _rounding(subject: ClientSubject, source: Format, target: Format) -> Reading:
    """Quarters and halves between neighbours, of both signs and both parities."""
    low, middle, high = _steps(target)
    odd = np.array([low + (middle - low) * q for q in (0.25, 0.5, 0.75)])
    even = np.array([middle + (high - middle) * 0.5])
    x = np.concatenate([odd, even])
    got = _cast(subject, np.concatenate([x, -x]), source, target)
    want = {
        "nearest_even": [low, low, middle, high, -low, -low, -middle, -high],
        "nearest_away": [low, middle, middle, high, -low, -middle, -middle, -high],
        "toward_zero": [low, low, low, middle, -low, -low, -low, -middle],
        "up": [middle, middle, middle, high, -low, -low, -low, -middle],
        "down": [low, low, low, middle, -middle, -middle, -middle, -high],
        "to_odd": [middle, middle, middle, middle, -middle, -middle, -middle, -middle],
        "half_up": [low, middle, middle, high, -low, -low, -middle, -middle],
    }
    for name, values in want.items():
        if got.tolist() == values:
            return Reading(name)
    return unseen(f"{x.tolist()} become {got[:4].tolist()}")


def _via(subject: ClientSubject, source: Format, target: Format) -> Reading:
    """Ties moved by 2**-13 and 2**-9 of themselves: float16 loses one, bfloat16 both."""
    if target.precision > 8 or source.precision < 24:
        return Reading(None) if source.precision < 24 else unseen("too precise to tell")
    low, middle, _ = _steps(target)
    tie = (low + middle) / 2
    got = _cast(subject, np.array([tie * (1 + 2.0**-9), tie * (1 + 2.0**-13)]), source, target)
    seen = (got == middle).tolist()
    if seen == [True, True]:
        return Reading(None)
    names = {(True, False): "float16", (False, False): "bfloat16"}
    name = names.get((bool(seen[0]), bool(seen[1])))
    if name == target.name:
        return unseen("it rounds otherwise")
    return Reading(name) if name else unseen("it rounds otherwise")


def _overflow(subject: ClientSubject, source: Format, target: Format) -> dict[str, Reading]:
    if not (target.has_nan or target.has_inf):
        reason = "the format has nothing but numbers"
        return {"overflow": unseen(reason), "inf_to": unseen(reason)}
    if source.emax <= target.emax:
        reason = "the source reaches no further"
        return {"overflow": unseen(reason), "inf_to": unseen(reason)}
    x = np.array([target.max * 4, -target.max * 4, np.inf, -np.inf])
    plain = _cast(subject, x, source, target, saturate=False)
    finite = bool(np.isfinite(plain[:2]).all())
    fields = {"overflow": Reading("saturate" if finite else "special")}
    if target.bits == 8:
        clamped = _cast(subject, x, source, target)
        fields["inf_to"] = Reading("max" if np.isfinite(clamped[2:]).all() else "special")
        fields["saturates"] = Reading(bool(np.isfinite(clamped[:2]).all()))
    return fields


def block(subject: ClientSubject, source: Format, target: Format) -> dict[str, Reading]:
    """Measures quantisation to one MX format, with the op's default rule."""
    fields = {"scale_rule": _scale_rule(subject, source, target)}
    row = np.ones((2, 32))
    row[0, 31], row[1, 31] = np.nan, np.inf
    _, scales = _quantize(subject, row, source, target)
    fields["nan_rule"] = Reading("nan" if scales[0, 0] == _NAN_SCALE else "other")
    infinite = int(scales[1, 0])
    rule = "nan" if infinite == _NAN_SCALE else "other"
    reached = 128 - (target.emax if target.is_float else 0)
    if infinite != _NAN_SCALE and infinite - 127 >= min(reached, 127) - 1:
        rule = "max"
    fields["inf_rule"] = Reading(rule)
    fields["flush_fp32_subnormals"] = _flush(subject, source, target)
    if not target.is_float:
        elements, _ = _quantize(subject, np.full((1, 32), -2 + 2.0**-10), source, target)
        fields["int8_min"] = Reading(-128 if int(elements[0, 0]) == 0x80 else -127)
    fields["tail"] = _tail(subject, source, target)
    return fields


def _quantize(
    subject: ClientSubject, x: F64, source: Format, target: Format
) -> tuple[Codes, Codes]:
    problem = Problem(
        op="QuantizeBlock",
        operands=(encode(x, source),),
        attributes={"to": target.name, "axis": -1, "block_size": 32, "rule": "floor"},
        outputs=2,
        oracle=always(),
    )
    elements, scales = subject.run(problem, _POISON)
    return elements.codes, scales.codes


def _mantissas(target: Format) -> F64:
    """Largest magnitudes that no two rules treat alike."""
    top = target.max / 2.0 ** (target.emax if target.is_float else 0)
    edge = 2 - 2.0 ** -(target.mantissa_bits + 1)
    beyond = (top + 2) / 2
    near = [1.0, 1 + 2.0**-23, top, edge, beyond, 2 - 2.0**-23]
    found = [x * (1 + s * 2.0**-23) for x in near for s in (-1, 0, 1)]
    kept = [np.float32(x) for x in found]
    return np.array([float(x) for x in dict.fromkeys(kept) if 0.5 < x < 4])


def _scale_rule(subject: ClientSubject, source: Format, target: Format) -> Reading:
    amax = np.concatenate([_mantissas(target) * 2.0**k for k in (0, 7, -9)])
    if source is not FLOAT32:
        amax = np.unique(encode(amax, source).values)
    x = np.zeros((len(amax), 32))
    x[np.arange(len(amax)), np.arange(len(amax)) % 32] = amax * np.where(
        np.arange(len(amax)) % 2, -1, 1
    )
    _, scales = _quantize(subject, x, source, target)
    fitting = [
        str(rule)
        for rule in ScaleRule
        if (scale_codes(amax.astype(np.float32), target, rule) == scales[:, 0]).all()
    ]
    if not fitting:
        return Reading("other")
    return Reading(fitting[0], note=f"so does {', '.join(fitting[1:])}" if fitting[1:] else "")


def _flush(subject: ClientSubject, source: Format, target: Format) -> Reading:
    if source.emin > FLOAT32.emin:
        return unseen("the source has no such numbers")
    low = 2.0**-127 * (2.0 ** (target.emin - target.mantissa_bits) if target.is_float else 2.0**-6)
    exponent = max(low * 4, 2.0 ** (source.emin - source.mantissa_bits))
    value = 2.0**-127 if target.is_float else 2.0**-128
    elements, _ = _quantize(subject, np.full((1, 32), max(value, exponent)), source, target)
    return Reading(not elements.any())


def _tail(subject: ClientSubject, source: Format, target: Format) -> Reading:
    try:
        elements, scales = _quantize(subject, np.ones((1, 33)), source, target)
    except AccelError:
        return Reading("reject")
    if elements.shape[-1] == 33:
        return Reading("short")
    return Reading("zero_pad") if scales.shape[-1] == 2 else unseen("other shapes")
