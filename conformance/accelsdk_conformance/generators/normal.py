"""Normalisations: two passes over rows or channels, judged by the error that they carry."""

from __future__ import annotations

from typing import Any

import numpy as np

from accelsdk.formats import FLOAT32, FLOAT64, Format
from accelsdk_conformance.case import Case
from accelsdk_conformance.generators import data
from accelsdk_conformance.generators.composite import carried_problem
from accelsdk_conformance.oracles.carried import Carried
from accelsdk_conformance.oracles.tensor import F64, Tensor, encode
from accelsdk_conformance.problem import Context, Problem


def rows(case: Case, context: Context) -> Problem:
    """Layer and RMS normalisation: rows of mean 0, far means, zeros, NaN; over several axes."""
    fmt = data.format_of(case, 0)
    given = case.parameters
    n, epsilon = int(given["n"]), float(np.float32(given.get("epsilon", 1e-5)))
    rng = data.rng(case, context)
    x = encode(_rows(n, rng), fmt)
    nan = np.asarray(np.isnan(x.values).any(axis=1))
    inner: tuple[int, ...] = tuple(given.get("inner", (n,)))
    axis = int(given.get("axis", -1))
    scale = encode(rng.normal(size=inner), fmt)
    bias = encode(rng.normal(size=inner), fmt) if given.get("bias", 1) else None
    attributes: dict[str, Any] = {"axis": axis, "epsilon": epsilon}
    # Mean and deviation are found in float32 at least (ONNX: stash_type).
    wide = FLOAT64 if fmt == FLOAT64 else FLOAT32
    value = Carried.exact(np.where(nan[:, None], 0.0, x.values), wide)
    results = []
    if case.op == "RMSNormalization":
        unit = value * inverse((value * value).mean(), epsilon, wide)
        operands: tuple[Tensor | None, ...] = (_shaped(x, inner), scale)
    else:
        mean = value.mean()
        centred = value - mean
        deviation = inverse((centred * centred).mean(), epsilon, wide)
        unit, results = centred * deviation, [mean, deviation]
        operands = (_shaped(x, inner), scale, bias)
    narrow = Carried(unit.value, unit.error, fmt).rounded(0.5)
    result = narrow * Carried.exact(scale.values.reshape(-1), fmt)
    if case.op == "LayerNormalization" and bias is not None:
        result = result + Carried.exact(bias.values.reshape(-1), fmt)
    shape = (len(nan), *inner)
    shown = [Carried(result.value.reshape(shape), result.error.reshape(shape), fmt)]
    masks = [np.broadcast_to(nan[:, None], x.shape).reshape(shape)]
    for extra in results[: int(given.get("outputs", 1)) - 1]:
        row = (len(nan), *(1,) * len(inner))
        shown.append(Carried(extra.value.reshape(row), extra.error.reshape(row), wide))
        masks.append(nan.reshape(row))
    return carried_problem(case.op, operands, attributes, shown, masks)


def _rows(n: int, rng: np.random.Generator) -> F64:
    # Rows of +-s have mean 0 exactly, so that the variance is not a difference of large numbers.
    signs = np.where(np.arange(n - n % 2) % 2 == 0, 1.0, -1.0)
    signs = np.concatenate([signs, np.zeros(n % 2)])
    made = [signs * s for s in (2.0**-9, 1.0, 100.0)]
    made += [rng.normal(size=n) for _ in range(4)]
    made += [100 + rng.normal(size=n), np.zeros(n), np.full(n, 0.5)]
    for lane in sorted({0, n // 2, n - 1}):
        made.append(np.where(np.arange(n) == lane, np.nan, signs))
    return np.array(made)


def _shaped(x: Tensor, inner: tuple[int, ...]) -> Tensor:
    return Tensor(x.format, x.codes.reshape(len(x.codes), *inner))


def inverse(variance: Carried, epsilon: float, fmt: Format) -> Carried:
    """Returns 1 / sqrt(variance + epsilon)."""
    root = (variance + Carried.exact(np.array(epsilon), fmt).rounded(0.5)).sqrt()
    return Carried.exact(np.array(1.0), fmt).divided(root)


_SHAPES: dict[str, tuple[int, ...]] = {
    "cube": (2, 6, 5, 3),
    "line": (3, 6, 17),
    "volume": (1, 6, 2, 3, 4),
    "point": (4, 6, 1),
}


def channels(case: Case, context: Context) -> Problem:
    """Batch, instance and group normalisation."""
    fmt = data.format_of(case, 0)
    given = case.parameters
    rng = data.rng(case, context)
    op, epsilon = case.op, float(np.float32(given.get("epsilon", 1e-5)))
    shape = _SHAPES[str(given.get("shape", "cube"))]
    spread_shape = (1, 6, *(1,) * (len(shape) - 2))
    x = encode(rng.normal(size=shape), fmt)
    scale, bias = (encode(rng.normal(size=6), fmt) for _ in range(2))
    spread = [Carried.exact(t.values.reshape(spread_shape), fmt) for t in (scale, bias)]
    value = Carried.exact(x.values, fmt)
    attributes: dict[str, Any] = {"epsilon": epsilon}
    operands: tuple[Tensor | None, ...] = (x, scale, bias)
    if op == "BatchNormalization":
        mean = encode(rng.normal(size=6) * 0.2, fmt)
        variance = encode(rng.uniform(0.5, 2.0, 6), fmt)
        operands = (x, scale, bias, mean, variance)
        centred = value - Carried.exact(mean.values.reshape(spread_shape), fmt)
        own = Carried.exact(variance.values.reshape(spread_shape), fmt)
        found = centred * inverse(own, epsilon, fmt) * spread[0] + spread[1]
        # The product may be taken with the scale first: both orders lie within twice the bound.
        result = Carried(found.value, 2 * found.error, fmt)
    else:
        groups = int(given.get("groups", 3)) if op == "GroupNormalization" else 6
        if op == "GroupNormalization":
            attributes["num_groups"] = groups
        parts = Carried.exact(x.values.reshape(shape[0] * groups, -1), fmt)
        centred = parts - parts.mean()
        unit = centred * inverse((centred * centred).mean(), epsilon, fmt)
        unit = Carried(unit.value.reshape(shape), unit.error.reshape(shape), fmt)
        result = unit * spread[0] + spread[1]
    return carried_problem(op, operands, attributes, [result])
