"""Programs alike but for one attribute, op or format: no cache may take one for another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.errors import UnsupportedGraph
from accelsdk.formats import FLOAT32, INT32, UINT32, Format
from accelsdk.graph.graph import Attribute
from accelsdk.graph.types import TensorType
from accelsdk.runtime.executable import LoadedExecutable
from accelsdk_conformance.scenarios.lab import Array, Lab, equal

Reference = Callable[..., NDArray[Any]]
_Given = tuple[Mapping[str, Attribute], Reference]


@dataclass(frozen=True, slots=True)
class _Twin:
    """One of several programs on operands of the same shapes."""

    op: str
    attributes: Mapping[str, Attribute]
    reference: Reference
    format: Format = FLOAT32


def _attributes(op: str, *pairs: _Given, **given: Attribute) -> list[_Twin]:
    return [_Twin(op, {**given, **own}, reference) for own, reference in pairs]


def _of_axes(op: str, reduce: Callable[..., NDArray[Any]]) -> list[_Twin]:
    return [
        _Twin(op, {"axes": (axis,), "keepdims": 0}, lambda x, axis=axis: reduce(x, axis=axis))
        for axis in (0, 1)
    ]


def _pool(pads: tuple[int, ...]) -> _Given:
    def reference(x: Array) -> NDArray[Any]:
        ends = [(0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])]
        wide = np.pad(x, ends, constant_values=-np.inf)
        found = np.lib.stride_tricks.sliding_window_view(wide, (2, 2), (2, 3)).max(axis=(4, 5))
        return np.asarray(found)

    return {"pads": pads}, reference


def _conv(pads: tuple[int, ...]) -> _Given:
    def reference(x: Array, w: Array) -> NDArray[Any]:
        wide = np.pad(x, [(0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])])
        seen = np.lib.stride_tricks.sliding_window_view(wide, (2, 2), (2, 3))
        return np.asarray(np.einsum("nchwij,ocij->nohw", seen, w))

    return {"pads": pads}, reference


def _running(axis: int, exclusive: int, reverse: int) -> _Given:
    def reference(x: Array) -> NDArray[Any]:
        turned = np.flip(x, axis) if reverse else x
        found = turned.cumsum(axis) - (turned if exclusive else 0)
        return np.flip(found, axis) if reverse else found

    return {"axis": axis, "exclusive": exclusive, "reverse": reverse}, reference


def _padded(*pads: int) -> _Given:
    rank = len(pads) // 2
    ends = [(pads[i], pads[i + rank]) for i in range(rank)]
    return {"pads": pads}, lambda x: np.pad(x, ends)


def _sliced(start: int, step: int) -> _Given:
    end = start + 3 * step
    given: Mapping[str, Attribute] = {
        "starts": (start,),
        "ends": (end,),
        "axes": (1,),
        "steps": (step,),
    }
    return given, lambda x: x[:, start : end if end >= 0 else None : step]


_SQUARE, _CUBE = ((5, 5),), ((4, 4, 4),)
_WINDOW: Mapping[str, Attribute] = {"strides": (1, 1), "dilations": (1, 1)}
#: Shapes of the operands, and the programs on them; whole numbers from -9 to 9.
_GROUPS: Sequence[tuple[Sequence[tuple[int, ...]], Sequence[_Twin]]] = (
    (
        _CUBE,
        [
            _Twin("Transpose", {"perm": perm}, lambda x, perm=perm: x.transpose(perm))
            for perm in ((0, 2, 1), (2, 1, 0), (1, 2, 0), (2, 0, 1))
        ],
    ),
    (_SQUARE, _of_axes("ReduceSum", np.sum)),
    (_SQUARE, [*_of_axes("ReduceMax", np.max), *_of_axes("ReduceMin", np.min)]),
    (
        _SQUARE,
        _attributes(
            "CumSum", _running(0, 0, 0), _running(1, 0, 0), _running(1, 1, 0), _running(1, 1, 1)
        ),
    ),
    (
        _SQUARE,
        _attributes(
            "Pad", _padded(1, 0, 0, 2), _padded(0, 2, 1, 0), _padded(1, 2, 0, 0), mode="constant"
        ),
    ),
    (_SQUARE, _attributes("Slice", _sliced(0, 1), _sliced(2, 1), _sliced(4, -1))),
    (
        _SQUARE,
        _attributes(
            "ArgMax",
            *(({"axis": axis}, lambda x, axis=axis: x.argmax(axis)) for axis in (0, 1)),
            keepdims=0,
            select_last_index=0,
        ),
    ),
    (
        _SQUARE,
        [
            _Twin("LeakyRelu", {"alpha": a}, lambda x, a=a: np.where(x < 0, a * x, x))
            for a in (0.5, 0.25, 2.0)
        ],
    ),
    (
        ((1, 2, 5, 5),),
        _attributes(
            "MaxPool",
            *(_pool(pads) for pads in ((1, 0, 0, 1), (0, 1, 1, 0), (0, 0, 1, 1), (1, 1, 0, 0))),
            kernel_shape=(2, 2),
            ceil_mode=0,
            **_WINDOW,
        ),
    ),
    (
        ((1, 2, 5, 5), (3, 2, 2, 2)),
        _attributes(
            "Conv",
            *(_conv(pads) for pads in ((1, 0, 0, 1), (0, 1, 1, 0), (0, 0, 1, 1), (1, 1, 0, 0))),
            group=1,
            **_WINDOW,
        ),
    ),
    (
        ((5, 5), (5, 5)),
        [
            _Twin(
                "Gemm",
                {"transA": a, "transB": b, "alpha": alpha, "beta": 1.0},
                lambda x, y, a=a, b=b, alpha=alpha: alpha * (x.T if a else x) @ (y.T if b else y),
            )
            for a, b, alpha in ((0, 0, 1.0), (1, 0, 1.0), (0, 1, 1.0), (0, 0, 2.0))
        ],
    ),
    (
        ((5, 5), (5, 5)),
        [
            *(
                _Twin(op, {}, function)
                for op, function in (
                    ("Add", np.add), ("Sub", np.subtract), ("Mul", np.multiply),
                    ("Max", np.maximum), ("Min", np.minimum), ("MatMul", np.matmul),
                )
            ),
            _Twin("Add", {}, np.add, INT32),
            _Twin("Sub", {}, np.subtract, INT32),
        ],
    ),
    (
        _SQUARE,
        [
            _Twin("Relu", {}, lambda x: np.maximum(x, 0)),
            _Twin("Neg", {}, np.negative),
            _Twin("Abs", {}, np.abs),
            _Twin("Neg", {}, np.negative, INT32),
            _Twin("Abs", {}, np.abs, INT32),
        ],
    ),
    (
        ((5, 5), (5, 5)),
        [
            _Twin("BitShift", {"direction": "LEFT"}, np.left_shift, UINT32),
            _Twin("BitShift", {"direction": "RIGHT"}, np.right_shift, UINT32),
        ],
    ),
)  # fmt: skip


def alike(lab: Lab) -> None:
    """Programs alike but for one attribute, op or format run in turn, each as it says.

    Raises:
        UnsupportedGraph: The backend claims no two of any group.
    """
    seen = 0
    for shapes, twins in _GROUPS:
        programs = [(twin, _built(lab, twin, shapes)) for twin in twins]
        known = [(twin, program) for twin, program in programs if program is not None]
        seen += len(known) > 1
        for turn in range(2):
            for twin, program in known:
                _compare(lab, twin, program, shapes, turn)
        for _, program in known:
            program.delete()
    if not seen:
        raise UnsupportedGraph("the backend claims no two programs that are alike")


def _built(lab: Lab, twin: _Twin, shapes: Sequence[tuple[int, ...]]) -> LoadedExecutable | None:
    kinds = [TensorType(twin.format, shape) for shape in shapes]
    try:
        return lab.build(kinds, lambda make, *x: make.op(twin.op, *x, **twin.attributes))
    except UnsupportedGraph:
        return None


def _compare(
    lab: Lab,
    twin: _Twin,
    program: LoadedExecutable,
    shapes: Sequence[tuple[int, ...]],
    turn: int,
) -> None:
    low = -9 if twin.format.is_signed else 0
    given = [lab.rng.integers(low, 10, shape).astype(twin.format.dtype) for shape in shapes]
    wanted = twin.reference(*given)
    (got,) = lab.run(program, *given)
    told = f"{twin.op} {dict(twin.attributes)} of {twin.format}, turn {turn}"
    equal(got + 0, wanted.astype(got.dtype) + 0, told)  # -0 is 0
