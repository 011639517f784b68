"""Composites, convolutions, embeddings and recurrent layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from accelsdk.backend.datasheet import NumericsDatasheet
from accelsdk.formats import BOOL, Format
from accelsdk_conformance.case import Case
from accelsdk_conformance.generators import data
from accelsdk_conformance.oracles import functions
from accelsdk_conformance.oracles.carried import Carried
from accelsdk_conformance.oracles.doubled import Doubled
from accelsdk_conformance.oracles.tensor import Tensor, encode, represent
from accelsdk_conformance.problem import (
    Context,
    Expected,
    Problem,
    Tier,
    Within,
    always,
    expect_exact,
)


def carried_problem(
    op: str,
    operands: tuple[Tensor | None, ...],
    attributes: Mapping[str, Any],
    results: Sequence[Carried],
    nan: Sequence[Any] = (),
) -> Problem:
    """Returns the problem whose results are judged by the error that they carry."""
    expected = []
    for index, result in enumerate(results):
        fmt = result.fmt
        value = np.where(np.isfinite(result.value), result.value, 0.0)
        mask = nan[index] if index < len(nan) else None
        edge = np.abs(value) + result.error >= fmt.max
        within = Within(
            Doubled(value, np.zeros_like(value)),
            np.where(np.isfinite(result.error), result.error, 0.0),
            nan=mask,
            positive=result.value == np.inf,
            negative=result.value == -np.inf,
            overflow=edge,
        )
        expected.append(Expected(fmt, value.shape, ((Tier.U, within),), Tier.U))
    return Problem(
        op=op,
        operands=operands,
        attributes=attributes,
        outputs=len(results),
        oracle=always(*expected),
    )


def _ulp(op: str, fmt: Format, sheet: NumericsDatasheet) -> float:
    """Returns the declared error of a primitive, or its default."""
    spec = sheet.function(op, fmt.name)
    return spec.ulp if spec is not None else functions.LIMITS[op].default(fmt)


def softmax(case: Case, context: Context) -> Problem:
    """Softmax and LogSoftmax: far values, equal values, -Inf, beyond the range of exp."""
    fmt = data.format_of(case, 0)
    axis = int(case.parameters.get("axis", -1))
    rng = data.rng(case, context)
    n = int(case.parameters["n"])
    rows = [rng.normal(size=n) * s for s in (0.1, 1.0, 5.0, 20.0)]
    rows += [np.zeros(n), np.full(n, 89.0), np.where(np.arange(n) == 0, 0.0, -80.3)]
    lanes = np.arange(n)
    rows += [np.where(lanes % 3 == 0, 2.0, -np.inf), np.where(lanes == n - 1, 60.0, -60.0)]
    rows += [np.where(lanes == lane, np.nan, 0.5) for lane in (0, n // 2, n - 1)]
    x = encode(np.array(rows, np.float64), fmt)
    values = x.values
    nan = np.asarray(np.isnan(values).any(axis=1))
    clean = np.where(nan[:, None], 0.0, values)
    top = Carried.exact(clean.max(axis=1, keepdims=True), fmt)
    with np.errstate(invalid="ignore"):
        distance = Carried.exact(clean, fmt) - top
    dead = distance.value == -np.inf
    distance = distance.where(dead, -2000.0)
    powers = distance.exp(_ulp("Exp", fmt, context.datasheet))
    powers = powers.where(dead, 0.0)
    total = powers.total()
    if case.op == "Softmax":
        result = powers.divided(total)
    else:
        result = distance - total.log(_ulp("Log", fmt, context.datasheet))
        result = Carried(np.where(dead, -np.inf, result.value), result.error, fmt)
    mask = np.broadcast_to(nan[:, None], values.shape)
    if axis == 0:
        x = Tensor(fmt, np.ascontiguousarray(x.codes.T))
        result, mask = Carried(result.value.T, result.error.T, fmt), mask.T
    return carried_problem(case.op, (x,), {"axis": axis}, [result], [mask])


def reduce(case: Case, context: Context) -> Problem:
    """ReduceMean, L1, L2, SumSquare, LogSum and LogSumExp along their decompositions."""
    fmt = data.format_of(case, 0)
    n = int(case.parameters["n"])
    rng = data.rng(case, context)
    x = encode(rng.normal(size=(9, n)) * 2.0, fmt)
    if case.op == "ReduceLogSum":
        x = encode(np.abs(x.values) + 0.5, fmt)
    value = Carried.exact(x.values, fmt)
    log = _ulp("Log", fmt, context.datasheet)
    match case.op:
        case "ReduceMean":
            result = value.mean()
        case "ReduceL1":
            result = Carried.exact(np.abs(x.values), fmt).total()
        case "ReduceL2":
            result = (value * value).total().sqrt()
        case "ReduceSumSquare":
            result = (value * value).total()
        case "ReduceLogSum":
            result = value.total().log(log)
        case _:
            top = Carried.exact(x.values.max(axis=1, keepdims=True), fmt)
            powers = (value - top).exp(_ulp("Exp", fmt, context.datasheet))
            result = powers.total().log(log) + top
    return carried_problem(case.op, (x,), {"axes": (1,), "keepdims": 1}, [result])


def normalise(case: Case, context: Context) -> Problem:
    """Layer, RMS, batch, instance and group normalisation."""
    fmt = data.format_of(case, 0)
    rng = data.rng(case, context)
    op, epsilon = case.op, float(np.float32(case.parameters.get("epsilon", 1e-5)))
    if op in ("LayerNormalization", "RMSNormalization"):
        return _normalise_rows(case, fmt, epsilon, rng)
    shape = (2, 6, 5, 3)
    x = encode(rng.normal(size=shape), fmt)
    scale, bias = (encode(rng.normal(size=6), fmt) for _ in range(2))
    spread = [Carried.exact(t.values.reshape(1, 6, 1, 1), fmt) for t in (scale, bias)]
    value = Carried.exact(x.values, fmt)
    attributes: dict[str, Any] = {"epsilon": epsilon}
    operands: tuple[Tensor | None, ...] = (x, scale, bias)
    if op == "BatchNormalization":
        mean = encode(rng.normal(size=6) * 0.2, fmt)
        variance = encode(rng.uniform(0.5, 2.0, 6), fmt)
        operands = (x, scale, bias, mean, variance)
        centred = value - Carried.exact(mean.values.reshape(1, 6, 1, 1), fmt)
        spread_variance = Carried.exact(variance.values.reshape(1, 6, 1, 1), fmt)
        result = _affine(centred, spread_variance, epsilon, spread, fmt)
    else:
        groups = 3 if op == "GroupNormalization" else 6
        if op == "GroupNormalization":
            attributes["num_groups"] = groups
        rows = Carried.exact(x.values.reshape(2 * groups, -1), fmt)
        centred = rows - rows.mean()
        variance_rows = (centred * centred).mean()
        unit = _unit(centred, variance_rows, epsilon, fmt)
        unit = Carried(unit.value.reshape(shape), unit.error.reshape(shape), fmt)
        result = unit * spread[0] + spread[1]
    return carried_problem(op, operands, attributes, [result])


def _unit(centred: Carried, variance: Carried, epsilon: float, fmt: Format) -> Carried:
    root = (variance + Carried.exact(np.array(epsilon), fmt).rounded(0.5)).sqrt()
    one = Carried.exact(np.array(1.0), fmt)
    return centred * one.divided(root)


def _affine(
    centred: Carried, variance: Carried, epsilon: float, spread: list[Carried], fmt: Format
) -> Carried:
    # The product may be taken with the scale first: both orders lie within twice the bound.
    found = _unit(centred, variance, epsilon, fmt) * spread[0] + spread[1]
    return Carried(found.value, 2 * found.error, fmt)


def _normalise_rows(case: Case, fmt: Format, epsilon: float, rng: np.random.Generator) -> Problem:
    n = int(case.parameters["n"])
    # Rows of +-s have mean 0 exactly, so that the variance is not a difference of large numbers.
    signs = np.where(np.arange(n - n % 2) % 2 == 0, 1.0, -1.0)
    signs = np.concatenate([signs, np.zeros(n % 2)])
    rows = [signs * s for s in (2.0**-9, 1.0, 100.0)]
    rows += [rng.normal(size=n) for _ in range(4)]
    x = encode(np.array(rows), fmt)
    scale, bias = (encode(rng.normal(size=n), fmt) for _ in range(2))
    value = Carried.exact(x.values, fmt)
    factor, offset = Carried.exact(scale.values, fmt), Carried.exact(bias.values, fmt)
    attributes = {"axis": -1, "epsilon": epsilon}
    if case.op == "RMSNormalization":
        result = _unit(value, (value * value).mean(), epsilon, fmt) * factor
        return carried_problem(case.op, (x, scale), attributes, [result])
    centred = value - value.mean()
    result = _unit(centred, (centred * centred).mean(), epsilon, fmt) * factor + offset
    return carried_problem(case.op, (x, scale, bias), attributes, [result])


def gemm(case: Case, context: Context) -> Problem:
    """Gemm with transposes, alpha, beta and every broadcast of C; whole numbers, exact."""
    fmt = data.format_of(case, 0)
    rng = data.rng(case, context)
    trans_a, trans_b = int(case.parameters["trans_a"]), int(case.parameters["trans_b"])
    a, b = rng.integers(-3, 4, (7, 19)), rng.integers(-3, 4, (19, 5))
    shapes: dict[str, tuple[int, ...]] = {"row": (5,), "column": (7, 1), "full": (7, 5), "one": ()}
    c = rng.integers(-8, 9, shapes[str(case.parameters["c"])])
    value = 2.0 * (a @ b) + 0.5 * c
    operands = (
        represent(a.T if trans_a else a, fmt),
        represent(b.T if trans_b else b, fmt),
        represent(c, fmt),
    )
    attributes = {"alpha": 2.0, "beta": 0.5, "transA": trans_a, "transB": trans_b}
    expected = expect_exact(represent(value, fmt), signed_zero=False)
    return Problem(op="Gemm", operands=operands, attributes=attributes, oracle=always(expected))


def attention(case: Case, context: Context) -> Problem:
    """Attention with no mask, a causal one, a boolean one; a row that sees nothing is zero."""
    fmt = data.format_of(case, 0)
    rng = data.rng(case, context)
    kind = str(case.parameters["mask"])
    q, k, v = (encode(rng.normal(size=(2, 3, n, 8)), fmt) for n in (5, 7, 7))
    scale = 0.25
    q_, k_, v_ = (Carried.exact(t.values, fmt) for t in (q, k, v))
    keys = Carried(k_.value.swapaxes(-1, -2), k_.error.swapaxes(-1, -2), fmt)
    scores = q_.matmul(keys) * Carried.exact(np.array(scale), fmt).rounded(1.0)
    scores = Carried(scores.value, 2 * scores.error, fmt)  # the scale may go to Q and K instead
    seen = np.ones((5, 7), bool)
    mask = None
    if kind == "causal":
        seen = np.tril(seen)
    elif kind == "bool":
        seen = rng.random((5, 7)) < 0.6
        seen[2] = False
        mask = Tensor(BOOL, seen.astype(np.uint8))
    hidden = np.broadcast_to(~seen, scores.value.shape)
    low = np.where(hidden, -np.inf, scores.value)
    top_value = low.max(axis=-1, keepdims=True)
    blind = np.isneginf(top_value)
    top = Carried(np.where(blind, 0.0, top_value), scores.error.max(axis=-1, keepdims=True), fmt)
    powers = (scores - top).exp(_ulp("Exp", fmt, context.datasheet))
    powers = powers.where(hidden, 0.0)
    total = powers.total().where(blind, 1.0)
    result = powers.divided(total).matmul(v_)
    attributes = {"scale": scale, "is_causal": int(kind == "causal")}
    return carried_problem("Attention", (q, k, v, mask), attributes, [result])


def recurrent(case: Case, context: Context) -> Problem:
    """LSTM, GRU and RNN over a short sequence, forward and reverse, by carried errors."""
    fmt = data.format_of(case, 0)
    rng = data.rng(case, context)
    steps, batch, width, hidden = 4, 2, 3, 5
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[case.op]
    reverse = case.parameters["direction"] == "reverse"
    x = encode(rng.normal(size=(steps, batch, width)), fmt)
    w = encode(rng.normal(size=(1, gates * hidden, width)) * 0.5, fmt)
    r = encode(rng.normal(size=(1, gates * hidden, hidden)) * 0.5, fmt)
    b = encode(rng.normal(size=(1, 2 * gates * hidden)) * 0.25, fmt)
    value = [Carried.exact(t.values, fmt) for t in (x, w, r, b)]
    state = Carried.exact(np.zeros((batch, hidden)), fmt)
    cell = Carried.exact(np.zeros((batch, hidden)), fmt)
    outputs = []
    order = range(steps)[::-1] if reverse else range(steps)
    reset = int(case.parameters.get("linear_before_reset", 0))
    for step in order:
        parts = _gates(value, step, state, gates, hidden)
        if case.op == "LSTM":
            (i, o, f, c) = (g[0] + g[1] for g in parts)
            cell = f.sigmoid() * cell + i.sigmoid() * c.tanh()
            state = o.sigmoid() * cell.tanh()
        elif case.op == "GRU":
            z, gate = (parts[0][0] + parts[0][1]).sigmoid(), (parts[1][0] + parts[1][1]).sigmoid()
            state = _gru_step(value, parts[2], z, gate, state, hidden, reset)
        else:
            state = (parts[0][0] + parts[0][1]).tanh()
        outputs.append(state)
    if reverse:
        outputs.reverse()
    whole = Carried(
        np.stack([o.value for o in outputs])[:, None],
        np.stack([o.error for o in outputs])[:, None],
        fmt,
    )
    results = [whole, state[None]]
    if case.op == "LSTM":
        results.append(cell[None])
    attributes: dict[str, Any] = {"hidden_size": hidden, "direction": case.parameters["direction"]}
    if case.op == "GRU":
        attributes["linear_before_reset"] = reset
    return carried_problem(case.op, (x, w, r, b), attributes, results)


def _gates(
    value: list[Carried], step: int, state: Carried, gates: int, hidden: int
) -> list[tuple[Carried, Carried]]:
    """Returns each gate's input and recurrent part, biases included."""
    x, w, r, b = value
    found = []
    for gate in range(gates):
        own = slice(gate * hidden, (gate + 1) * hidden)
        second = slice((gates + gate) * hidden, (gates + gate + 1) * hidden)
        from_input = x[step].matmul(_transposed(w[0, own])) + b[0, own]
        from_state = state.matmul(_transposed(r[0, own])) + b[0, second]
        found.append((from_input, from_state))
    return found


def _transposed(x: Carried) -> Carried:
    return Carried(x.value.T, x.error.T, x.fmt)


def _gru_step(
    value: list[Carried],
    part: tuple[Carried, Carried],
    z: Carried,
    gate: Carried,
    state: Carried,
    hidden: int,
    reset: int,
) -> Carried:
    own, second = slice(2 * hidden, 3 * hidden), slice(5 * hidden, 6 * hidden)
    if reset:
        candidate = (part[0] + gate * part[1]).tanh()
    else:
        moved = (gate * state).matmul(_transposed(value[2][0, own])) + value[3][0, second]
        candidate = (part[0] + moved).tanh()
    one = Carried.exact(np.ones(z.value.shape), z.fmt)
    return (one - z) * candidate + z * state
