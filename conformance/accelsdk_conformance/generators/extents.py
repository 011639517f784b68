"""Sweeps over extents: lengths, rows, columns, depths and batches beside every common tile.

Engines cut their work into tiles and change their code path at the edge of one, behind the first
that is full, and where a counter needs another byte. Data are whole numbers, exact everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.formats import BOOL, E8M0, FLOAT32, INT32, INT64, Format, by_name
from accelsdk_conformance.case import Case
from accelsdk_conformance.generators import axes, contraction, data, integers, products
from accelsdk_conformance.oracles.tensor import Tensor, from_integers, represent
from accelsdk_conformance.problem import (
    Along,
    Axis,
    Context,
    Problem,
    always,
    expect_exact,
    separate_axes,
    shrinkable,
)

Whole = NDArray[np.int64]


def product(case: Case, context: Context) -> Problem:
    """An exact product of the extents M, K and N that the case names."""
    m, k, n = (int(extent) for extent in case.parameters["mkn"])
    rest = {key: value for key, value in case.parameters.items() if key != "mkn"}
    if case.op == "MatMulInteger":
        return integers.grid(replace(case, parameters={**rest, "m": m, "k": k, "n": n}), context)
    return contraction.exact_grid(replace(case, parameters={**rest, "k": k, "mn": (m, n)}), context)


def scaled_batches(case: Case, context: Context) -> Problem:
    """Batched products of codes: each matrix has scales of its own, 1 or 2, and sums are exact."""
    formats = data.format_of(case, 0), data.format_of(case, 1)
    shapes = [tuple(int(n) for n in shape) for shape in case.parameters["shapes"]]
    block = int(case.parameters.get("block_size", 0))
    out = by_name(str(case.parameters.get("to", "float32")))
    products.specification(case, context, *formats)
    rng, inner = data.rng(case, context), shapes[0][-1]
    count = -(-inner // block) if block else 1
    operands = [
        *(represent(rng.integers(-1, 2, s), f) for s, f in zip(shapes, formats, strict=True)),
        _one_or_two(rng, (*shapes[0][:-1], count), E8M0 if block else FLOAT32),
        _one_or_two(rng, (*shapes[1][:-2], count, shapes[1][-1]), E8M0 if block else FLOAT32),
    ]

    def make(a: Tensor, b: Tensor, *scales: Tensor) -> Problem:
        depth, each = a.shape[-1], block or a.shape[-1]
        left, right = scales[0].values, scales[1].values
        left = a.values * left.repeat(each, axis=-1)[..., :depth]
        right = b.values * right.repeat(each, axis=-2)[..., :depth, :]
        expected = expect_exact(represent(np.matmul(left, right), out), signed_zero=False)
        return Problem(
            op=case.op,
            operands=(a, b, *scales),
            attributes={"block_size": block, "to": out.name},
            oracle=always(expected),
        )

    def parts(a: Tensor, b: Tensor, *scales: Tensor) -> list[Axis]:
        found = [
            tuple(Along(i + 2 * j, axis) for i, axis, *_ in part for j in (0, 1))
            for part in list(axes.product(a, b))[1:]
        ]
        rank = len(a.shape), len(b.shape)
        whole = (Along(0, rank[0] - 1, block or 1), Along(1, rank[1] - 2, block or 1))
        own = (Along(2, rank[0] - 1), Along(3, rank[1] - 2)) if block else ()
        return [(*whole, *own), *found]

    return shrinkable(make, operands, parts)


def _one_or_two(rng: np.random.Generator, shape: tuple[int, ...], fmt: Format) -> Tensor:
    powers = rng.integers(0, 2, shape)
    if fmt == E8M0:
        return Tensor(fmt, (powers + 127).astype(np.uint8))
    return represent(1 + powers, fmt)


def batches(case: Case, context: Context) -> Problem:
    """Products of many or of deeply nested matrices, with and without zero points."""
    formats = data.format_of(case, 0), data.format_of(case, 1)
    left, right = (tuple(int(n) for n in shape) for shape in case.parameters["shapes"])
    rng = data.rng(case, context)
    if case.op == "MatMulInteger":
        # No two products together leave 16 bits: a card may declare that it adds them there.
        a, b = (
            from_integers(rng.integers(-90 if fmt.is_signed else 0, 91, shape), fmt)
            for fmt, shape in zip(formats, (left, right), strict=True)
        )
        zeros = [from_integers(np.array(5), formats[0]), from_integers(np.array(3), formats[1])]

        def whole(a: Tensor, b: Tensor, *zeros: Tensor) -> Problem:
            offset = [zero.values for zero in zeros]
            value = np.matmul(a.values - offset[0], b.values - offset[1]).astype(np.int64)
            expected = expect_exact(from_integers(value, INT32))
            return Problem(op=case.op, operands=(a, b, *zeros), oracle=always(expected))

        return shrinkable(whole, (a, b, *zeros), axes.product, fixed=(2, 3))

    def make(a: Tensor, b: Tensor) -> Problem:
        found = represent(np.matmul(a.values, b.values), formats[0])
        expected = expect_exact(found, signed_zero=False)
        return Problem(op=case.op, operands=(a, b), oracle=always(expected))

    operands = [
        represent(rng.integers(-3, 4, shape), fmt)
        for fmt, shape in zip(formats, (left, right), strict=True)
    ]
    return shrinkable(make, operands, axes.product)


_UNARY: Mapping[str, Callable[[Whole], Whole]] = {
    "Relu": lambda x: np.maximum(x, 0),
    "Neg": np.negative,
    "Abs": np.abs,
    "Sign": np.sign,
}
_BINARY: Mapping[str, Callable[[Whole, Whole], Whole]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Max": np.maximum,
    "Min": np.minimum,
}


def vector(case: Case, context: Context) -> Problem:
    """An elementwise op on a vector, or on a tensor of a given shape: whole numbers."""
    fmt = data.format_of(case, 0)
    rng = data.rng(case, context)
    given = case.parameters.get("shapes") or 2 * [
        case.parameters.get("shape", (case.parameters.get("count"),))
    ]
    shape, other = (tuple(int(n) for n in extents) for extents in given)
    kinds = [data.format_of(case, index) for index in range(len(case.formats))]
    digits = min(kind.precision if kind.is_float else kind.bits // 2 for kind in kinds)
    top = min(11, (1 << digits) - (kinds[0].bits == 8))  # products lie within every format
    x = rng.integers(-top if fmt.is_signed else 0, top + 1, shape)
    y = rng.integers(1, top + 1, other)
    operands = [_numbers(x * y if case.op == "Div" else x, fmt), _numbers(y, fmt)]
    if case.op == "Where":
        operands.insert(0, from_integers(rng.integers(0, 2, shape), BOOL))
    elif case.op == "Cast" or case.op in _UNARY:
        del operands[1]
    return shrinkable(lambda *given: _vector(case, *given), operands)


def _vector(case: Case, *operands: Tensor) -> Problem:
    numbers = [np.rint(t.values).astype(np.int64) for t in operands]
    target, attributes = operands[-1].format, {}
    if case.op == "Cast":
        target = data.format_of(case, 1)
        value, attributes = numbers[0], {"to": target.name}
    elif case.op == "Where":
        value = np.where(numbers[0], *numbers[1:])
    elif case.op in _UNARY:
        value = _UNARY[case.op](numbers[0])
    elif case.op == "Div":
        value, rest = np.divmod(*numbers)
        if rest.any() or (numbers[1] == 0).any():
            raise ValueError("no whole quotients")
    else:
        value = _BINARY[case.op](*numbers)
    expected = expect_exact(_numbers(value, target), signed_zero=False)
    return Problem(op=case.op, operands=operands, attributes=attributes, oracle=always(expected))


def _numbers(values: NDArray[Any], fmt: Format) -> Tensor:
    return represent(values, fmt) if fmt.is_float else from_integers(values, fmt)


_FOLDS: Mapping[str, Callable[..., NDArray[Any]]] = {
    "ReduceSum": np.sum,
    "ReduceMean": np.mean,
    "ReduceL1": np.sum,
    "ReduceSumSquare": np.sum,
    "ReduceL2": np.sum,
    "ReduceMax": np.max,
    "ReduceMin": np.min,
    "ReduceProd": np.prod,
}


def reduction(case: Case, context: Context) -> Problem:
    """Reductions over long axes and of many rows, whose results are exact in every order.

    Means are of a whole multiple of the count; norms are of one number beside zeros.
    """
    fmt = data.format_of(case, 0)
    shape = tuple(int(n) for n in case.parameters["shape"])
    over = tuple(int(axis) for axis in case.parameters["axes"])
    rng = data.rng(case, context)
    count = math.prod(shape[axis] for axis in over)
    x = rng.integers(-1, 2, shape) if fmt.is_signed else rng.integers(0, 2, shape)
    x *= rng.random(shape) < 200 / max(count, 1)  # sums that bfloat16 holds
    if case.op == "ReduceProd":
        x = np.where(rng.random(shape) < 2.0 / max(count, 2), 2, 1 - 2 * (x < 0))
    if case.op in ("ReduceMax", "ReduceMin"):  # each row has an extreme of its own
        bases = [1 if axis in [a % len(shape) for a in over] else n for axis, n in enumerate(shape)]
        away = rng.integers(0, 20, shape) * (1 if case.op == "ReduceMin" else -1)
        x = rng.integers(-100, 101, bases) + away
    if case.op == "ReduceMean":
        x = _balanced(x, over, count)
    if case.op == "ReduceL2":
        x = _one_of_each(shape, over, rng)
    keep = int(case.parameters.get("keepdims", 1))
    attributes: dict[str, Any] = {"axes": over, "keepdims": keep}

    def make(x: Tensor) -> Problem:
        values = x.values
        if case.op in ("ReduceL1", "ReduceL2", "ReduceSumSquare"):
            values = np.abs(values) if case.op != "ReduceSumSquare" else values * values
        found = _FOLDS[case.op](values, axis=over, keepdims=bool(keep))
        if (found != np.rint(found)).any():
            raise ValueError("no whole result")
        expected = expect_exact(_numbers(found.astype(np.int64), fmt), signed_zero=False)
        return Problem(op=case.op, operands=(x,), attributes=attributes, oracle=always(expected))

    return shrinkable(make, (_numbers(x, fmt),), separate_axes)


def _balanced(x: Whole, over: tuple[int, ...], count: int) -> Whole:
    """Returns rows whose sums are the count, or minus it: their means are 1 and -1."""
    rows = np.moveaxis(x, over, range(-len(over), 0)).copy()
    flat = rows.reshape(-1, count)
    half = count // 2
    flat[:, :half], flat[:, half : 2 * half] = 2, 0
    flat[:, 2 * half :] = 1
    signs = 1 - 2 * ((np.arange(len(flat)) * 0x9E3779B1 >> 16) & 1)  # of no period
    flat[:] = np.stack([np.roll(row, 3 * i) * signs[i] for i, row in enumerate(flat)])
    return np.moveaxis(flat.reshape(rows.shape), range(-len(over), 0), over)


def _one_of_each(shape: tuple[int, ...], over: tuple[int, ...], rng: np.random.Generator) -> Whole:
    """Returns zeros with one number in each row."""
    rows = np.moveaxis(np.zeros(shape, np.int64), over, range(-len(over), 0))
    flat = rows.reshape(-1, math.prod(shape[axis] for axis in over)).copy()
    flat[np.arange(len(flat)), rng.integers(0, flat.shape[1], len(flat))] = (
        1 + np.arange(len(flat)) % 13
    )
    return np.moveaxis(flat.reshape(rows.shape), range(-len(over), 0), over)


def running(case: Case, context: Context) -> Problem:
    """CumSum over a long axis: sums stay small, and each one tells its place."""
    fmt = data.format_of(case, 0)
    shape = tuple(int(n) for n in case.parameters["shape"])
    axis = int(case.parameters["axis"])
    exclusive, reverse = (int(case.parameters.get(key, 0)) for key in ("exclusive", "reverse"))
    rng = data.rng(case, context)
    x = np.where(rng.random(shape) < 0.5, 1, -1) if fmt.is_signed else rng.integers(0, 2, shape)
    scale = 1
    if not fmt.is_float and fmt.bits == 64:
        scale = (1 << 33) + 1  # sums in one word of the two would do otherwise
    attributes: dict[str, Any] = {"axis": axis, "exclusive": exclusive, "reverse": reverse}

    def make(x: Tensor) -> Problem:
        given = x.values if fmt.is_float else x.integers
        turned = np.flip(given, axis) if reverse else given
        found = turned.cumsum(axis) - (turned if exclusive else 0)
        found = np.flip(found, axis) if reverse else found
        expected = expect_exact(_numbers(found, fmt), signed_zero=False)
        return Problem(op=case.op, operands=(x,), attributes=attributes, oracle=always(expected))

    return shrinkable(make, (_numbers(x * scale, fmt),), separate_axes)


def position(case: Case, context: Context) -> Problem:
    """ArgMax and ArgMin along long axes: the position needs more than a byte, or than two."""
    fmt = data.format_of(case, 0)
    shape = tuple(int(n) for n in case.parameters["shape"])
    last = int(case.parameters.get("select_last_index", 0))
    rng = data.rng(case, context)
    values = rng.integers(0, 3, shape) + 1
    rows = values.reshape(-1, shape[-1])
    at = rng.integers(min(shape[-1] * 15 // 16, shape[-1] - 3), shape[-1], len(rows))
    rows[np.arange(len(rows)), at] = 9 if case.op == "ArgMax" else 0
    attributes: dict[str, Any] = {"axis": -1, "select_last_index": last, "keepdims": 0}

    def make(x: Tensor) -> Problem:
        signed = x.values if case.op == "ArgMax" else -x.values
        index = signed.argmax(-1)
        if last:
            index = signed.shape[-1] - 1 - np.flip(signed, -1).argmax(-1)
        expected = expect_exact(from_integers(index, INT64))
        return Problem(op=case.op, operands=(x,), attributes=attributes, oracle=always(expected))

    return shrinkable(make, (_numbers(values, fmt),), separate_axes)


def order(case: Case, context: Context) -> Problem:
    """ArgMax, ArgMin and TopK of integers of every size: neighbours at both ends of the range.

    A comparison in a narrower type, of a signed kind, or through a float confuses them.
    """
    fmt = data.format_of(case, 0)
    rng = data.rng(case, context)
    low = -(1 << (fmt.bits - 1)) if fmt.is_signed else 0
    high = low + (1 << fmt.bits) - 1
    ends = [low, low + 1, high - 1, high, 0, 1, high // 2, high // 2 + 1, high // 2 + 2, high - 2]
    rows = np.array([rng.permutation(len(ends)) for _ in range(40)])
    # Each row lacks some of them, so that others win.
    rows = np.stack([np.resize(np.sort(row[: 3 + i % 6])[::-1], 11) for i, row in enumerate(rows)])
    mask = (1 << fmt.bits) - 1
    codes = np.array([end & mask for end in ends], np.uint64).astype(f"u{max(fmt.bits // 8, 1)}")
    x = Tensor(fmt, rng.permuted(codes[rows], axis=1))
    keys = np.array([sorted(set(ends)).index(end) for end in ends])
    rank = {int(code): int(key) for code, key in zip(codes, keys, strict=True)}

    def make(x: Tensor) -> Problem:
        ranks = np.vectorize(rank.__getitem__, otypes=[np.int64])(x.codes)
        if case.op == "TopK":
            return _top(case, x, ranks)
        index = (ranks if case.op == "ArgMax" else -ranks).argmax(1)
        return Problem(
            op=case.op,
            operands=(x,),
            attributes={"axis": 1, "keepdims": 0, "select_last_index": 0},
            oracle=always(expect_exact(from_integers(index, INT64))),
        )

    return shrinkable(make, (x,), separate_axes)


def _top(case: Case, x: Tensor, ranks: Whole) -> Problem:
    largest = int(case.parameters.get("largest", 1))
    k = min(int(case.parameters["k"]), x.shape[-1])
    found = np.argsort(-ranks if largest else ranks, axis=-1, kind="stable")[..., :k]
    return Problem(
        op="TopK",
        operands=(x,),
        attributes={"k": k, "axis": -1, "largest": largest, "sorted": 1},
        outputs=2,
        oracle=always(
            expect_exact(Tensor(x.format, np.take_along_axis(x.codes, found, axis=-1))),
            expect_exact(from_integers(found, INT64)),
        ),
    )


def top(case: Case, context: Context) -> Problem:
    """TopK of long rows: few different values, so that ties reach over every tile."""
    fmt = data.format_of(case, 0)
    shape = tuple(int(n) for n in case.parameters["shape"])
    values = data.rng(case, context).integers(0, 90, shape)

    def make(x: Tensor) -> Problem:
        return _top(case, x, x.values.astype(np.int64))

    return shrinkable(make, (_numbers(values, fmt),), separate_axes)
