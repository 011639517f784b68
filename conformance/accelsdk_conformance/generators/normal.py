"""Normalisations: two passes over rows or channels, judged by the error that they carry."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from accelsdk.formats import FLOAT32, FLOAT64, Format
from accelsdk_conformance.case import Case
from accelsdk_conformance.generators import data
from accelsdk_conformance.generators.axes import groups_of
from accelsdk_conformance.generators.composite import carried_problem, claimed, flushes, operand
from accelsdk_conformance.oracles.carried import Carried
from accelsdk_conformance.oracles.tensor import F64, Tensor, encode
from accelsdk_conformance.problem import Along, Axis, Context, Problem, shrinkable


def rows(case: Case, context: Context) -> Problem:
    """Layer and RMS normalisation: rows of mean 0, far means, zeros, NaN; over several axes.

    With ``lead``, these axes come before: as many of the rows as fit, none of NaN if it is one;
    beyond them, further ordinary rows.
    With ``scale``, scale and bias have that shape, which broadcasts to the operand's.
    """
    fmt = data.format_of(case, 0)
    given = case.parameters
    n, epsilon = int(given["n"]), float(np.float32(given.get("epsilon", 1e-5)))
    rng = data.rng(case, context)
    drawn = _rows(n, rng)
    inner: tuple[int, ...] = tuple(given.get("inner", (n,)))
    lead: tuple[int, ...] = tuple(given.get("lead", (len(drawn),)))
    first = len(lead)
    if "lead" in given:
        drawn = drawn[_FIRST : _FIRST + math.prod(lead)]
        drawn = np.concatenate([drawn, rng.normal(size=(math.prod(lead) - len(drawn), n))])
    x = encode(drawn, fmt)
    own = tuple(given.get("scale", inner))
    scale = encode(rng.normal(size=own), fmt)
    bias = encode(rng.normal(size=own), fmt) if given.get("bias", 1) else None
    attributes: dict[str, Any] = {"axis": int(given.get("axis", -1)), "epsilon": epsilon}
    count = int(given.get("outputs", 1))
    one_pass = _one_pass(case, context, fmt)
    claim = claimed(case.op, fmt, context.datasheet)
    flush = flushes(case.op, fmt, context.datasheet)

    def seen(values: F64) -> Carried:
        return operand(case.op, values, fmt, context.datasheet)

    def spread(x: Tensor, over: Tensor) -> Carried:
        return seen(np.broadcast_to(over.values, x.shape).reshape(-1, math.prod(x.shape[first:])))

    def make(x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Problem:
        kept = x.shape[:first]
        flat = x.values.reshape(math.prod(kept), -1)
        nan = np.asarray(np.isnan(flat).any(axis=1))
        plain = np.where(nan[:, None], 0.0, flat)
        found, extras = _normalised(case.op, seen(plain), epsilon, one_pass)
        result = found * spread(x, scale)
        if bias is not None:
            result = result + spread(x, bias)
        result = result.flushed() if flush else result
        shown = [Carried(result.value.reshape(x.shape), result.error.reshape(x.shape), fmt)]
        masks = [np.broadcast_to(nan[:, None], flat.shape).reshape(x.shape)]
        for extra in extras[: count - 1]:
            row = (*kept, *(1,) * (len(x.shape) - first))
            shown.append(Carried(extra.value.reshape(row), extra.error.reshape(row), extra.fmt))
            masks.append(nan.reshape(row))
        operands = (x, scale) if case.op == "RMSNormalization" else (x, scale, bias)
        return carried_problem(case.op, operands, attributes, shown, masks, claim=claim)

    operands = (Tensor(fmt, x.codes.reshape(*lead, *inner)), scale)
    return shrinkable(make, operands if case.op == "RMSNormalization" else (*operands, bias))


def _one_pass(case: Case, context: Context, fmt: Format) -> bool:
    spec = context.datasheet.reduction(case.op, fmt.name)
    return spec is not None and spec.variance == "one_pass"


def _folds(case: Case, context: Context, fmt: Format) -> bool:
    spec = context.datasheet.reduction(case.op, fmt.name)
    return spec is not None and spec.normalization == "folded"


def _variance(value: Carried, mean: Carried, centred: Carried, one_pass: bool) -> Carried:
    """Returns the mean of squared distances, with the error that its declared way has."""
    found = (centred * centred).mean()
    if not one_pass:
        return found
    difference = (value * value).mean() - mean * mean
    return Carried(found.value, difference.error, found.fmt)


def _normalised(
    op: str, given: Carried, epsilon: float, one_pass: bool
) -> tuple[Carried, list[Carried]]:
    """Returns rows of mean 0 and deviation 1, and the means and deviations that they had.

    These are found in float32 at least (ONNX: stash_type).
    """
    wide = FLOAT64 if given.fmt == FLOAT64 else FLOAT32
    value, extras = Carried(given.value, given.error, wide), []
    if op == "RMSNormalization":
        unit = value * inverse((value * value).mean(), epsilon, wide)
    else:
        mean = value.mean()
        centred = value - mean
        deviation = inverse(_variance(value, mean, centred, one_pass), epsilon, wide)
        unit, extras = centred * deviation, [mean, deviation]
    return Carried(unit.value, unit.error, given.fmt).rounded(0.5), extras


_FIRST = 4  # the first row of ordinary numbers


def _rows(n: int, rng: np.random.Generator) -> F64:
    # Rows of +-s have mean 0 exactly, so that the variance is not a difference of large numbers.
    signs = np.where(np.arange(n - n % 2) % 2 == 0, 1.0, -1.0)
    signs = np.concatenate([signs, np.zeros(n % 2)])
    made = [signs * s for s in (2.0**-9, 1.0, 100.0, 900.0)]  # 900: its square is no float16
    made += [rng.normal(size=n) for _ in range(4)]
    made += [100 + rng.normal(size=n), np.zeros(n), np.full(n, 0.5)]
    for lane in sorted({0, n // 2, n - 1}):
        made.append(np.where(np.arange(n) == lane, np.nan, signs))
    return np.array(made)


def inverse(variance: Carried, epsilon: float, fmt: Format) -> Carried:
    """Returns 1 / sqrt(variance + epsilon)."""
    root = (variance + Carried.exact(np.array(epsilon), fmt).rounded(0.5)).sqrt()
    return Carried.exact(np.array(1.0), fmt).divided(root)


def _spread(found: Carried, rows: tuple[int, ...], shape: tuple[int, ...]) -> Carried:
    """Returns what each row has, or each of its elements, at the places of the operand."""
    value, error = (np.broadcast_to(a, rows).reshape(shape) for a in (found.value, found.error))
    return Carried(value, error, found.fmt)


_SHAPES: dict[str, tuple[int, ...]] = {
    "pair": (5, 6),
    "cube": (2, 6, 5, 3),
    "line": (3, 6, 17),
    "volume": (1, 6, 2, 3, 4),
    "point": (4, 6, 1),
    "many": (2, 18, 5),
    "more": (2, 66, 3),
    "beyond": (3, 66),
}


def channels(case: Case, context: Context) -> Problem:
    """Batch, instance and group normalisation.

    The first channels of an item are one number, those of its last have hardly a variance, so
    that epsilon decides; those of the last item are large, and their squares are no float16.
    With ``small``, the variances that BatchNormalization is given lie around epsilon.
    """
    fmt = data.format_of(case, 0)
    given = case.parameters
    rng = data.rng(case, context)
    op, epsilon = case.op, float(np.float32(given.get("epsilon", 1e-5)))
    named = given.get("shape", "cube")
    shape: tuple[int, ...] = tuple(named) if isinstance(named, list) else _SHAPES[str(named)]
    count = shape[1]
    each = count // int(given.get("groups", 3)) if op == "GroupNormalization" else 1
    drawn = rng.normal(size=shape)
    if op != "BatchNormalization" and "groups" not in given:
        drawn[0, :each] = 0.5
        drawn[0, -each:] *= 2.0**-9
        drawn[-1, :each] *= 900.0
    x = encode(drawn, fmt)
    scale, bias = (encode(rng.normal(size=count), fmt) for _ in range(2))
    operands: tuple[Tensor, ...] = (x, scale, bias)
    if op == "BatchNormalization":
        centre = encode(rng.normal(size=count) * 0.2, fmt)
        variance = encode(rng.uniform(0.5, 2.0, count), fmt)
        if given.get("small", 0):
            variance = encode(rng.choice([0.0, 0.25, 1.0, 4.0], count) * epsilon, fmt)
        operands = (*operands, centre, variance)
    one_pass, folds = _one_pass(case, context, fmt), _folds(case, context, fmt)

    def seen(values: F64) -> Carried:
        return operand(op, values, fmt, context.datasheet)

    def make(x: Tensor, *per: Tensor) -> Problem:
        spread_shape = (1, -1, *(1,) * (len(x.shape) - 2))
        scale, bias, *more = (seen(t.values.reshape(spread_shape)) for t in per)
        attributes: dict[str, Any] = {"epsilon": epsilon}
        value = seen(x.values)
        if op == "BatchNormalization":
            if (more[1].value < 0).any():
                raise ValueError("a negative variance")
            found = (value - more[0]) * inverse(more[1], epsilon, fmt) * scale + bias
            # The product may be taken with the scale first: both orders lie within twice the bound.
            result = Carried(found.value, 2 * found.error, fmt)
        else:
            groups = groups_of(x, each)
            if op == "GroupNormalization":
                attributes["num_groups"] = groups
            parts = seen(x.values.reshape(x.shape[0] * groups, -1))
            mean = parts.mean()
            centred = parts - mean
            deviation = inverse(_variance(parts, mean, centred, one_pass), epsilon, fmt)
            rows = parts.value.shape
            result = _spread(centred * deviation, rows, x.shape) * scale + bias
            if folds:
                slope = _spread(deviation, rows, x.shape) * scale
                folded = value * slope + (bias - _spread(mean, rows, x.shape) * slope)
                result = Carried(result.value, folded.error, fmt)
        result = result.flushed() if flushes(op, fmt, context.datasheet) else result
        claim = claimed(op, fmt, context.datasheet)
        return carried_problem(op, (x, *per), attributes, [result], claim=claim)

    def axes(x: Tensor, *per: Tensor) -> list[Axis]:
        unit = each if x.shape[1] > each else 1
        channel = (Along(0, 1, unit), *(Along(i, 0, unit) for i in range(1, 1 + len(per))))
        return [channel, *((Along(0, i),) for i in range(len(x.shape)) if i != 1)]

    return shrinkable(make, operands, axes)
