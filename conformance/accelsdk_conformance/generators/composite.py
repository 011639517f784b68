"""Composites, judged by the error that each carries along its decomposition."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.backend.datasheet import NumericsDatasheet
from accelsdk.formats import BOOL, FLOAT64, Format
from accelsdk_conformance.case import Case
from accelsdk_conformance.generators import axes as axes_of
from accelsdk_conformance.generators import data
from accelsdk_conformance.generators.reduction import SHAPES, fold, folded_shape
from accelsdk_conformance.oracles import functions
from accelsdk_conformance.oracles.carried import Carried
from accelsdk_conformance.oracles.doubled import Doubled
from accelsdk_conformance.oracles.tensor import F64, Mask, Tensor, encode, from_integers
from accelsdk_conformance.problem import (
    Context,
    Expected,
    Problem,
    Tier,
    Within,
    always,
    expect_exact,
    separate_axes,
    shrinkable,
)


def carried_problem(
    op: str,
    operands: tuple[Tensor | None, ...],
    attributes: Mapping[str, Any],
    results: Sequence[Carried],
    nan: Sequence[Any] = (),
    free: bool = False,
    claim: str = "",
) -> Problem:
    """Returns the problem whose results are judged by the error that they carry.

    Args:
        op: The node's op.
        operands: Its operands.
        attributes: Its attributes.
        results: What comes out, and how far off it may be.
        nan: Where each result must be NaN.
        free: Whether nothing is said of the values at all.
        claim: Entry of the datasheet that the errors depend on, or empty.
    """
    expected = []
    for index, result in enumerate(results):
        fmt = result.fmt
        value = np.where(np.isfinite(result.value), result.value, 0.0)
        mask = nan[index] if index < len(nan) else None
        edge = (np.abs(value) + result.error >= fmt.max) | free
        # The reference is float64 itself: of float64 results it errs as much as a device may.
        error = result.error * (2 if fmt == FLOAT64 else 1)
        within = Within(
            Doubled(value, np.zeros_like(value)),
            np.where(np.isfinite(error), error, 1e300),
            nan=mask,
            positive=result.value == np.inf,
            negative=result.value == -np.inf,
            overflow=edge,
        )
        expected.append(Expected(fmt, value.shape, ((Tier.U, within),), Tier.U, claim))
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
    n = int(case.parameters["n"])
    drawn = softmax_rows(n, data.rng(case, context))
    rows = encode(np.tile(drawn, (int(case.parameters.get("times", 1)), 1)), fmt)
    # Rows lie along another axis of a matrix, or of a cube.
    lead = {0: (len(rows.codes),), 1: (len(rows.codes) // 2, 2)}.get(axis, (len(rows.codes),))
    codes = np.moveaxis(rows.codes.reshape(*lead, n), -1, axis)
    return softmax_problem(case.op, Tensor(fmt, np.ascontiguousarray(codes)), axis, context)


def softmax_problem(op: str, given: Tensor, axis: int, context: Context) -> Problem:
    """Returns the problem of Softmax or LogSoftmax along an axis of a tensor of any rank."""
    fmt = given.format

    def make(x: Tensor) -> Problem:
        turned = np.ascontiguousarray(np.moveaxis(x.values, axis, -1))
        values = turned.reshape(math.prod(turned.shape[:-1]), turned.shape[-1])
        result, nan = _softmax(op, values, fmt, context.datasheet)

        def placed(part: NDArray[Any]) -> NDArray[Any]:
            return np.moveaxis(part.reshape(turned.shape), -1, axis)

        nan = placed(np.broadcast_to(nan[:, None], values.shape))
        result = Carried(placed(result.value), placed(result.error), fmt)
        claim = claimed(op, fmt, context.datasheet)
        return carried_problem(op, (x,), {"axis": axis}, [result], [nan], claim=claim)

    return shrinkable(make, (given,), separate_axes)


def _softmax(op: str, values: F64, fmt: Format, sheet: NumericsDatasheet) -> tuple[Carried, Mask]:
    """Returns the result of each row, and which rows must be NaN."""
    with np.errstate(invalid="ignore"):
        nan = np.asarray(~(values < np.inf).all(axis=1) | (values == -np.inf).all(axis=1))
    nan &= values.shape[1] > 0
    clean = np.where(nan[:, None], 0.0, values)
    top = Carried.exact(clean.max(axis=1, keepdims=True, initial=-1e30), fmt)
    given = operand(op, clean, fmt, sheet)
    with np.errstate(invalid="ignore"):
        distance = given - top
    dead = distance.value == -np.inf
    distance = distance.where(dead, -2000.0)
    powers = distance.exp(_ulp("Exp", fmt, sheet))
    powers = powers.where(dead, 0.0)
    total = powers.total()
    if op == "Softmax":
        return _left_out(op, powers.divided(total), sheet), nan
    with np.errstate(divide="ignore"):  # of nothing
        result = distance - total.log(_ulp("Log", fmt, sheet))
    result = _left_out(op, result, sheet)
    return Carried(np.where(dead, -np.inf, result.value), result.error, fmt), nan


def claimed(op: str, fmt: Format, sheet: NumericsDatasheet) -> str:
    """Returns the entry of the datasheet that a composite has among the reductions, or nothing."""
    return f"reductions[{op}, {fmt}]" if sheet.reduction(op, fmt.name) is not None else ""


def flushes(op: str, fmt: Format, sheet: NumericsDatasheet) -> bool:
    """Says whether subnormal operands and results of a composite are declared flushed."""
    spec = sheet.reduction(op, fmt.name)
    return spec is not None and spec.subnormals == "flush"


def operand(op: str, values: F64, fmt: Format, sheet: NumericsDatasheet) -> Carried:
    """Returns an operand of a composite as the device may see it."""
    found = Carried.exact(values, fmt)
    return found.flushed() if flushes(op, fmt, sheet) else found


def _left_out(op: str, result: Carried, sheet: NumericsDatasheet) -> Carried:
    """Returns the result with room for subnormal numbers, where they may be flushed."""
    spec = sheet.function("Exp", result.fmt.name)
    exp = spec is not None and spec.subnormals == "flush"
    return result.flushed() if exp or flushes(op, result.fmt, sheet) else result


def softmax_rows(n: int, rng: np.random.Generator) -> F64:
    """Returns ordinary rows, and such with far, equal, infinite and invalid numbers."""
    lanes = np.arange(n)
    rows = [rng.normal(size=n) * s for s in (0.1, 1.0, 5.0, 20.0)]
    rows += [np.zeros(n), np.full(n, 89.0), np.full(n, -89.0)]
    rows += [np.where(lanes == 0, 0.0, -80.3), np.where(lanes % 3 == 0, 2.0, -np.inf)]
    rows += [np.where(lanes == n - 1, 60.0, -60.0), np.full(n, -np.inf)]
    # NaN, and both infinities, in the first lanes, in the middle and in the last one.
    for lane in sorted({*range(min(n, 33)), n // 2, n - 1} & {*range(n)}):
        rows += [np.where(lanes == lane, special, 0.5) for special in (np.nan, np.inf, -np.inf)]
    rows += rows[: len(rows) % 2]
    return np.array(rows, np.float64).reshape(len(rows), n)


#: Lanes of long rows, at the ends of common blocks.
_PEAKS = np.array([1029, 1024, 1023, 513, 512, 300, 257, 256, 255])


def reduce(case: Case, context: Context) -> Problem:
    """ReduceMean, L1, L2, SumSquare, LogSum and LogSumExp along their decompositions."""
    fmt = data.format_of(case, 0)
    rng = data.rng(case, context)
    keep = int(case.parameters.get("keepdims", 1))
    if "n" in case.parameters:
        axes: tuple[int, ...] = (1,)
        given = _reduced_rows(case.op, int(case.parameters["n"]), rng)
    else:
        shape, axes = SHAPES[str(case.parameters["shape"])]
        given = rng.integers(-6, 7, shape) / 2
        given = np.abs(given) + 0.5 if case.op == "ReduceLogSum" else given
        if case.parameters["shape"] in ("wide", "tall"):  # one lane that no sum can do without
            place = np.arange(len(given))
            given[place, _PEAKS[place % len(_PEAKS)] % shape[1]] = 12.0
    if fmt.is_float:
        x = encode(given, fmt)
    else:
        x = from_integers(np.rint(given if fmt.is_signed else np.abs(given)) * 40, fmt)
    return reduced_problem(case.op, x, axes, keep, context)


def reduced_problem(
    op: str, given: Tensor, axes: tuple[int, ...], keep: int, context: Context
) -> Problem:
    """Returns the problem of a reduction of several steps over axes of a tensor of any rank."""
    fmt = given.format
    attributes: dict[str, Any] = {"axes": axes, "keepdims": keep}

    def make(x: Tensor) -> Problem:
        out = folded_shape(x.shape, axes, bool(keep))
        if fmt.is_float:
            result, nan, free = _folded(op, fold(x.values, axes), out, fmt, context.datasheet)
            return carried_problem(
                *(op, (x,), attributes, [result], [nan]),
                free=free,
                claim=claimed(op, fmt, context.datasheet),
            )
        rows = fold(x.integers, axes)
        whole = np.abs(rows) if op == "ReduceL1" else rows * rows
        found = from_integers(whole.sum(axis=1, dtype=np.int64).reshape(out), fmt)
        oracle = always(expect_exact(found))
        return Problem(op=op, operands=(x,), attributes=attributes, oracle=oracle)

    return shrinkable(make, (given,), separate_axes)


def _folded(
    op: str, rows: F64, out: tuple[int, ...], fmt: Format, sheet: NumericsDatasheet
) -> tuple[Carried, Mask, bool]:
    """Returns the results of rows, where they are NaN, and whether nothing is said of them."""
    with np.errstate(all="ignore"):
        direct = _direct(op, rows)
    # Where something is not finite, or nothing is reduced, IEEE 754 alone says what comes out.
    special = ~np.isfinite(rows).all(axis=1) | ~np.isfinite(direct) | (rows.shape[1] == 0)
    plain = np.where(special[:, None], 1.0, rows)
    carried = _reduced(op, plain, fmt, sheet)
    if flushes(op, fmt, sheet):
        carried = carried.flushed()
    value = np.where(special, direct, carried.value[:, 0]).reshape(out)
    error = np.where(special, fmt.max * 1e-7, carried.error[:, 0])
    error = np.where(special & (direct == 0), 0.0, error).reshape(out)
    free = op == "ReduceMean" and rows.shape[1] == 0  # ONNX does not say
    nan = np.zeros(out, bool) if free else np.isnan(direct).reshape(out)
    return Carried(value, error, fmt), nan, free


def _reduced_rows(op: str, n: int, rng: np.random.Generator) -> F64:
    lanes = np.arange(n)
    rows = [rng.normal(size=n) * 2.0 for _ in range(9)]
    if op == "ReduceLogSum":
        rows = [np.abs(row) + 0.5 for row in rows]
    if op == "ReduceLogSumExp":
        rows += [np.full(n, 89.0), np.full(n, -200.0), np.full(n, -np.inf)]
    rows += [np.zeros(n)]
    for lane in sorted({0, 1, n // 2, n - 1} & {*range(n)}):
        rows += [np.where(lanes == lane, special, 0.5) for special in (np.nan, np.inf)]
        if op != "ReduceLogSumExp":
            rows += [np.where(lanes == lane, -np.inf, 0.5)]
    return np.array(rows).reshape(len(rows), n)


def _direct(op: str, rows: F64) -> F64:
    found: F64 = rows.sum(axis=1)
    match op:
        case "ReduceMean":
            found = found / rows.shape[1]
        case "ReduceL1":
            found = np.abs(rows).sum(axis=1)
        case "ReduceL2":
            found = np.sqrt((rows * rows).sum(axis=1))
        case "ReduceSumSquare":
            found = (rows * rows).sum(axis=1)
        case "ReduceLogSum":
            found = np.log(found)
        case _:
            top = rows.max(axis=1, initial=-np.inf)
            shift = np.where(np.isfinite(top), top, 0.0)
            found = np.log(np.exp(rows - shift[:, None]).sum(axis=1)) + shift
    return found


def _reduced(op: str, rows: F64, fmt: Format, sheet: NumericsDatasheet) -> Carried:
    value = operand(op, rows, fmt, sheet)
    if rows.shape[1] == 0:
        return Carried.exact(np.zeros((len(rows), 1)), fmt)
    match op:
        case "ReduceMean":
            return value.mean()
        case "ReduceL1":
            return Carried(np.abs(rows), value.error, fmt).total()
        case "ReduceL2":
            return (value * value).total().sqrt()
        case "ReduceSumSquare":
            return (value * value).total()
        case "ReduceLogSum":
            return value.total().log(_ulp("Log", fmt, sheet))
    top = Carried.exact(rows.max(axis=1, keepdims=True), fmt)
    powers = (value - top).exp(_ulp("Exp", fmt, sheet))
    return powers.total().log(_ulp("Log", fmt, sheet)) + top


def attention(case: Case, context: Context) -> Problem:
    """Attention with every kind of mask, groups of heads; a row that sees nothing is zero."""
    fmt = data.format_of(case, 0)
    given = case.parameters
    rng = data.rng(case, context)
    kind, groups = str(given["mask"]), int(given.get("groups", 1))
    rows, keys_count, size, width = given.get("shape", (5, 7, 8, 8))
    heads = 4 if groups > 1 else 3
    q = encode(rng.normal(size=(2, heads, rows, size)), fmt)
    k = encode(rng.normal(size=(2, heads // groups, keys_count, size)), fmt)
    v = encode(rng.normal(size=(2, heads // groups, keys_count, width)), fmt)
    mask = _mask(kind, (2, heads, rows, keys_count), fmt, rng)
    attributes = {"scale": float(given.get("scale", 0.25)), "is_causal": int("causal" in kind)}
    return attention_problem((q, k, v, mask), attributes, context)


def attention_problem(
    operands: tuple[Tensor, Tensor, Tensor, Tensor | None],
    attributes: Mapping[str, Any],
    context: Context,
) -> Problem:
    """Returns the problem of Attention on Q, K, V and a mask."""

    def make(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Problem:
        result = _attended((q, k, v), mask, attributes, context.datasheet)
        return carried_problem("Attention", (q, k, v, mask), attributes, [result])

    return shrinkable(make, operands, axes_of.attention)


def _attended(
    tensors: tuple[Tensor, Tensor, Tensor],
    mask: Tensor | None,
    attributes: Mapping[str, Any],
    sheet: NumericsDatasheet,
) -> Carried:
    """Returns softmax(scale * Q K' + mask) V."""
    q, k, _ = tensors
    fmt = q.format
    factor = attributes["scale"] or 1 / np.sqrt(q.shape[-1])
    q_, k_, v_ = (Carried.exact(t.values, fmt) for t in tensors)
    if q.shape[1] != k.shape[1]:
        groups = q.shape[1] // k.shape[1]
        k_, v_ = (Carried.exact(np.repeat(t.value, groups, axis=1), fmt) for t in (k_, v_))
    keys = Carried(k_.value.swapaxes(-1, -2), k_.error.swapaxes(-1, -2), fmt)
    scores = q_.matmul(keys) * Carried.exact(np.array(factor), fmt).rounded(1.0)
    scores = Carried(scores.value, 2 * scores.error, fmt)  # the scale may go to Q and K instead
    seen: Mask = np.ones((q.shape[2], k.shape[2]), bool)
    if attributes["is_causal"]:
        seen = np.tril(seen)
    if mask is not None and mask.format != BOOL:
        added = np.where(np.isfinite(mask.values), mask.values, 0.0)
        scores = scores + Carried.exact(added, fmt)
    if mask is not None:
        seen = seen & (mask.codes != 0 if mask.format == BOOL else np.isfinite(mask.values))
    hidden = np.broadcast_to(~seen, scores.value.shape)
    low = np.where(hidden, -np.inf, scores.value)
    top_value = low.max(axis=-1, keepdims=True)
    blind = np.isneginf(top_value)
    top = Carried(np.where(blind, 0.0, top_value), scores.error.max(axis=-1, keepdims=True), fmt)
    powers = (scores - top).where(hidden, 0.0).exp(_ulp("Exp", fmt, sheet))
    powers = powers.where(hidden, 0.0)
    total = powers.total().where(blind, 1.0)
    return powers.divided(total).matmul(v_)


def _mask(
    kind: str, shape: tuple[int, ...], fmt: Format, rng: np.random.Generator
) -> Tensor | None:
    """Returns the mask operand: which keys each query sees, or what is added to scores."""
    rows, keys = shape[-2:]
    own: tuple[int, ...] = shape if "full" in kind else (rows, keys)
    own = (shape[0], 1, 1, keys) if "keys" in kind else own
    own = (1, shape[1], rows, keys) if "heads" in kind else own
    seen = rng.random(own) < 0.6
    if "keys" not in kind:
        seen[..., min(2, rows - 1), :] = False
    if "bool" in kind:
        return Tensor(BOOL, seen.astype(np.uint8))
    if "float" in kind:
        added = np.where(seen, np.rint(rng.normal(size=own) * 8) / 8, -np.inf)
        return encode(added, fmt)
    return None
