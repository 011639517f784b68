"""Data movement, on codes that differ from place to place: nothing is computed, all is exact."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.formats import FLOAT32, INT64
from accelsdk_conformance.case import Case
from accelsdk_conformance.generators import data
from accelsdk_conformance.oracles.tensor import Tensor, from_integers, represent
from accelsdk_conformance.problem import (
    Context,
    Exact,
    Expected,
    Problem,
    Tier,
    always,
    expect_exact,
)

Codes = NDArray[Any]
#: Operand shapes, indices, attributes and the reference of one movement.
Move = tuple[list[tuple[int, ...]], list[Codes], dict[str, Any], Callable[..., Any]]

_CUBE = (3, 5, 4)


def _moves() -> dict[str, Move]:
    """Returns every movement case by name: op, then variant."""
    rng = np.random.default_rng(7)
    found: dict[str, Move] = {}

    def plain(
        name: str, shape: tuple[int, ...], attributes: dict[str, Any], f: Callable[..., Any]
    ) -> None:
        found[name] = ([shape], [], attributes, f)

    plain("Reshape/flat", _CUBE, {"shape": (60,)}, lambda x: x.reshape(60))
    plain(
        "Reshape/rank6", _CUBE, {"shape": (1, 3, 5, 2, 2, 1)}, lambda x: x.reshape(1, 3, 5, 2, 2, 1)
    )
    plain("Reshape/empty", (0, 4), {"shape": (2, 0)}, lambda x: x.reshape(2, 0))
    for perm in ((2, 1, 0), (0, 2, 1), (1, 2, 0)):
        name = "".join(map(str, perm))
        plain(f"Transpose/{name}", _CUBE, {"perm": perm}, lambda x, p=perm: x.transpose(p))
    plain("Transpose/matrix", (33, 17), {"perm": (1, 0)}, lambda x: x.T)
    for axis in (0, 1, 2):
        shapes = [tuple(n + i if a == axis else n for a, n in enumerate(_CUBE)) for i in range(3)]
        found[f"Concat/axis{axis}"] = (
            shapes, [], {"axis": axis}, lambda *x, a=axis: np.concatenate(x, axis=a),
        )  # fmt: skip
    plain(
        "Slice/steps", (9, 10),
        {"starts": (1, 8), "ends": (9, 1), "axes": (0, 1), "steps": (3, -2)},
        lambda x: x[1:9:3, 8:1:-2],
    )  # fmt: skip
    plain(
        "Slice/reverse", (7, 3), {"starts": (6,), "ends": (-8,), "axes": (0,), "steps": (-1,)},
        lambda x: x[::-1],
    )  # fmt: skip
    plain(
        "Slice/odd", (5, 7), {"starts": (1, 3), "ends": (4, 6), "axes": (0, 1), "steps": (1, 1)},
        lambda x: x[1:4, 3:6],
    )  # fmt: skip
    plain("Split/uneven", (4, 9), {"axis": 1, "split": (2, 3, 4)}, lambda x: np.split(x, [2, 5], 1))
    plain("Split/first", (5, 3), {"axis": 0, "split": (1, 4)}, lambda x: np.split(x, [1], 0))
    for axis in (0, 1, 2):
        index = rng.integers(-_CUBE[axis], _CUBE[axis], (2, 3))
        found[f"Gather/axis{axis}"] = (
            [_CUBE], [index], {"axis": axis}, lambda x, i, a=axis: np.take(x, i, axis=a),
        )  # fmt: skip
    nd = np.stack([rng.integers(0, 3, 7), rng.integers(0, 5, 7)], axis=1)
    found["GatherND/rows"] = ([_CUBE], [nd], {"batch_dims": 0}, lambda x, i: x[i[:, 0], i[:, 1]])
    elements = rng.integers(-5, 5, (3, 6, 4))
    found["GatherElements/axis1"] = (
        [_CUBE], [elements], {"axis": 1}, lambda x, i: np.take_along_axis(x, i, axis=1),
    )  # fmt: skip
    permuted = np.stack([rng.permutation(5)[:2] for _ in range(12)]).reshape(3, 4, 2)
    places = permuted.transpose(0, 2, 1)
    found["ScatterElements/axis1"] = (
        [_CUBE, (3, 2, 4)], [places], {"axis": 1, "reduction": "none"}, _scatter_elements,
    )  # fmt: skip
    rows = np.array([[2, 0], [0, 4], [1, 1]])
    found["ScatterND/rows"] = ([_CUBE, (3, 4)], [rows], {"reduction": "none"}, _scatter_nd)
    for mode in ("constant", "edge", "reflect", "wrap"):
        plain(
            f"Pad/{mode}", (4, 5), {"pads": (1, 2, 3, 0), "mode": mode},
            lambda x, m=mode: np.pad(x, [(1, 3), (2, 0)], mode=m),
        )  # fmt: skip
    plain(
        "Pad/crop", (4, 5), {"pads": (-1, 2, 0, -2), "mode": "constant"},
        lambda x: np.pad(x[1:, :3], [(0, 0), (2, 0)]),
    )  # fmt: skip
    plain("Expand/rank", (5, 1), {"shape": (3, 5, 4)}, lambda x: np.broadcast_to(x, (3, 5, 4)))
    plain("Expand/scalar", (), {"shape": (2, 3)}, lambda x: np.broadcast_to(x, (2, 3)))
    plain("Tile/both", (3, 2), {"repeats": (2, 3)}, lambda x: np.tile(x, (2, 3)))
    return found


def _scatter_elements(x: Codes, updates: Codes, index: Codes) -> Codes:
    out = x.copy()
    np.put_along_axis(out, index, updates, axis=1)
    return out


def _scatter_nd(x: Codes, updates: Codes, index: Codes) -> Codes:
    out = x.copy()
    for row, update in zip(index, updates, strict=True):
        out[tuple(row)] = update
    return out


MOVES = _moves()


def move(case: Case, context: Context) -> Problem:
    """One movement of one format, on a ramp of codes."""
    fmt = data.format_of(case, 0)
    shapes, indices, attributes, reference = MOVES[f"{case.op}/{case.parameters['variant']}"]
    tensors = [data.ramp(fmt, shape) for shape in shapes]
    tensors = [Tensor(fmt, t.codes ^ t.codes.dtype.type(i)) for i, t in enumerate(tensors)]
    wanted = reference(*(t.codes for t in tensors), *indices)
    results = wanted if isinstance(wanted, list) else [wanted]
    expected = [_plain(Tensor(fmt, np.ascontiguousarray(result))) for result in results]
    index = [from_integers(i, INT64) for i in indices]
    operands = (tensors[0], *index, *tensors[1:]) if index else tuple(tensors)
    return Problem(
        op=case.op,
        operands=operands,
        attributes=attributes,
        outputs=len(results),
        oracle=always(*expected),
    )


def _plain(tensor: Tensor) -> Expected:
    """Returns the expectation of exactly these codes: a NaN that is moved keeps its payload."""
    return Expected(tensor.format, tensor.shape, ((Tier.T0, Exact(tensor.codes)),), Tier.T0)


def resize(case: Case, context: Context) -> Problem:
    """Doubling: nearest repeats, linear interpolates on whole numbers, exactly."""
    mode = str(case.parameters["mode"])
    x = represent(4.0 * np.arange(24).reshape(1, 1, 4, 6), FLOAT32)
    attributes: dict[str, Any] = {
        "output_shape": (1, 1, 8, 12),
        "scales": (1.0, 1.0, 2.0, 2.0),
        "mode": mode,
        "coordinate_transformation_mode": "asymmetric",
        "nearest_mode": "floor",
    }
    values = x.values
    for axis in (2, 3):
        doubled = np.repeat(values, 2, axis=axis)
        if mode == "linear":
            after = np.concatenate(
                [values.take(range(1, values.shape[axis]), axis), values.take([-1], axis)], axis
            )
            middle = (values + after) / 2
            doubled = np.stack([values, middle], axis=axis + 1).reshape(doubled.shape)
        values = doubled
    expected = expect_exact(represent(values, FLOAT32))
    return Problem(op="Resize", operands=(x,), attributes=attributes, oracle=always(expected))


# -- pooling ----------------------------------------------------------------------------------


def pool(case: Case, context: Context) -> Problem:
    """MaxPool and AveragePool over whole numbers: strides, padding, corners, both divisors."""
    fmt = data.format_of(case, 0)
    kernel, stride, pad = (int(case.parameters[key]) for key in ("kernel", "stride", "pad"))
    rng = data.rng(case, context)
    size = (2, 3, 11, 9)
    whole = rng.integers(-60, 60, size) if fmt.is_signed else rng.integers(0, 120, size)
    x = represent(whole, fmt) if fmt.is_float else from_integers(whole, fmt)
    padded = np.pad(
        whole.astype(np.float64),
        [(0, 0), (0, 0), (pad, pad), (pad, pad)],
        constant_values=np.nan,
    )
    windows = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), axis=(2, 3))
    windows = windows[:, :, ::stride, ::stride].reshape(
        *windows[:, :, ::stride, ::stride].shape[:4], -1
    )
    attributes: dict[str, Any] = {
        "kernel_shape": (kernel, kernel),
        "strides": (stride, stride),
        "pads": (pad,) * 4,
        "dilations": (1, 1),
    }
    if case.op == "MaxPool":
        found = np.nanmax(windows, axis=-1)
        tensor = represent(found, fmt) if fmt.is_float else from_integers(found, fmt)
        return Problem(
            op="MaxPool", operands=(x,), attributes=attributes, oracle=always(expect_exact(tensor))
        )
    include = int(case.parameters["count_include_pad"])
    count = float(kernel * kernel) if include else (~np.isnan(windows)).sum(axis=-1)
    from accelsdk_conformance.generators.composite import carried_problem
    from accelsdk_conformance.oracles.carried import Carried

    total = Carried.exact(np.nansum(windows, axis=-1), fmt)
    divisor = Carried.exact(np.broadcast_to(count, total.value.shape).astype(np.float64), fmt)
    return carried_problem(
        "AveragePool",
        (x,),
        {**attributes, "count_include_pad": include},
        [total.divided(divisor, 1.0)],
    )
