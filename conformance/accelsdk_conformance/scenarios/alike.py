"""Programs alike but for one attribute, op or format: no cache may take one for another."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.errors import UnsupportedGraph
from accelsdk.formats import (
    BFLOAT16,
    E4M3,
    E5M2,
    FLOAT16,
    FLOAT32,
    INT8,
    INT16,
    INT32,
    INT64,
    UINT32,
    Format,
)
from accelsdk.graph.graph import Attribute
from accelsdk.graph.rewrite import Builder
from accelsdk.graph.types import TensorType, Value
from accelsdk.runtime.executable import LoadedExecutable
from accelsdk_conformance.scenarios.lab import Array, Lab, equal

Reference = Callable[..., NDArray[Any] | Sequence[NDArray[Any]]]
#: Makes the contents of an operand of a shape.
_Draw = Callable[[np.random.Generator, tuple[int, ...]], Array]
_Given = tuple[Mapping[str, Attribute], Reference]


@dataclass(frozen=True, slots=True)
class _Twin:
    """One of several programs on operands of the same shapes.

    Attributes:
        op: What it runs.
        attributes: Of the op.
        reference: What it gives.
        format: Of its operands, but for those in ``formats``.
        formats: Of the first operands.
        draws: Make the contents of operands; of others they are whole numbers.
        constants: Scalar operands behind them that the program holds.
        outputs: How many results it has.
        turned: Whether the result is transposed, or its order would look the same.
        nearest: Whether the result counts as the whole numbers next to it.
    """

    op: str
    attributes: Mapping[str, Attribute]
    reference: Reference
    format: Format = FLOAT32
    formats: tuple[Format, ...] = ()
    draws: tuple[_Draw | None, ...] = ()
    constants: tuple[int, ...] = ()
    outputs: int = 1
    turned: bool = False
    nearest: bool = False


def _attributes(op: str, *pairs: _Given, **given: Attribute) -> list[_Twin]:
    return [_Twin(op, {**given, **own}, reference) for own, reference in pairs]


def _far_apart(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return np.asarray(rng.permutation(math.prod(shape)).reshape(shape) * 256.0)


def _places(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return np.asarray(rng.integers(0, 4, shape))


def _powers(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return np.asarray(np.exp2(rng.permutation(math.prod(shape)) - 4.0))


def _small(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Returns what every float format of 8 bits holds: no card rounds it."""
    return np.asarray(rng.integers(-4, 5, shape))


def _largest(axis: int) -> Reference:
    def reference(x: Array) -> NDArray[Any]:
        return np.asarray(x == x.max(axis, keepdims=True))

    return reference


def _affine(op: str, axis: int, target: Format) -> _Twin:
    def reference(x: Array, scale: Array) -> NDArray[Any]:
        wide = scale[:, None] if axis == 0 else scale[None]
        return x / wide if op == "Quantize" else x * wide

    source = FLOAT32 if op == "Quantize" else INT8
    given: Mapping[str, Attribute] = {"axis": axis, "block_size": 0, "to": target.name}
    draws = (_small, _powers)
    return _Twin(op, given, reference, formats=(source, FLOAT32), draws=draws)


def _integers(**own: tuple[int, ...]) -> _Twin:
    given = {"pads": (0, 0, 0, 0), "strides": (1, 1), "dilations": (1, 1), **own}

    def reference(x: Array, w: Array) -> NDArray[Any]:
        (top, left, bottom, right), (down, along) = given["pads"], given["dilations"]
        wide = np.pad(x.astype(np.int32), [(0, 0), (0, 0), (top, bottom), (left, right)])
        seen = np.lib.stride_tricks.sliding_window_view(wide, (down + 1, along + 1), (2, 3))
        seen = seen[:, :, :: given["strides"][0], :: given["strides"][1], ::down, ::along]
        return np.asarray(np.einsum("nchwij,ocij->nohw", seen, w.astype(np.int32)))

    return _Twin("ConvInteger", {**given, "group": 1}, reference, INT8)


def _split(axis: int, *parts: int) -> _Twin:
    ends = np.cumsum(parts)[:-1]
    given: Mapping[str, Attribute] = {"axis": axis, "split": parts}
    return _Twin("Split", given, lambda x: np.split(x, ends, axis), outputs=2)


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
        [  # sums that went through a transform are near whole numbers
            replace(twin, nearest=True)
            for twin in _attributes(
                "Conv",
                *(_conv(pads) for pads in ((1, 0, 0, 1), (0, 1, 1, 0), (0, 0, 1, 1), (1, 1, 0, 0))),
                group=1,
                **_WINDOW,
            )
        ],
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
    (
        _SQUARE,
        [
            _Twin("Softmax", {"axis": a}, _largest(a), draws=(_far_apart,), nearest=True)
            for a in (0, 1)
        ],
    ),
    (
        ((1, 2, 5, 5), (3, 2, 2, 2)),
        [
            *(_integers(pads=p) for p in ((1, 0, 0, 1), (0, 1, 1, 0), (0, 0, 1, 1), (1, 1, 0, 0))),
            *(_integers(strides=s) for s in ((1, 2), (2, 1))),
            *(_integers(dilations=d) for d in ((1, 2), (2, 1))),
        ],
    ),
    (
        _SQUARE,
        [
            _Twin("Clip", {}, lambda x, b=b: x.clip(*b), format, constants=b)
            for format in (FLOAT32, INT32)
            for b in ((-3, 5), (-5, 3), (0, 4))
        ],
    ),
    (
        ((4, 4), (4,)),
        [
            _Twin(
                "Gather",
                {"axis": a},
                lambda x, i, a=a: x.take(i, a),
                formats=(FLOAT32, INT64),
                draws=(None, _places),
            )
            for a in (0, 1)
        ],
    ),
    (
        ((4, 4), (4, 4)),
        [
            _Twin(
                "GatherElements",
                {"axis": a},
                lambda x, i, a=a: np.take_along_axis(x, i, a),
                formats=(FLOAT32, INT64),
                draws=(None, _places),
            )
            for a in (0, 1)
        ],
    ),
    (
        _SQUARE,
        [
            _Twin("Tile", {"repeats": r}, lambda x, r=r: np.tile(x, r))
            for r in ((1, 4), (4, 1), (2, 2))
        ],
    ),
    (((4, 4),), [_split(axis, *parts) for axis in (0, 1) for parts in ((1, 3), (3, 1), (2, 2))]),
    (
        ((4, 6),),
        [
            _Twin("Reshape", {"shape": shape}, lambda x, s=shape: x.reshape(s).T, turned=True)
            for shape in ((2, 12), (3, 8), (8, 3), (12, 2))
        ],
    ),
    (
        ((5, 5), (5, 5)),
        [
            _Twin("Concat", {"axis": a}, lambda x, y, a=a: np.concatenate([x, y], a))
            for a in (0, 1)
        ],
    ),
    (
        _SQUARE,
        [
            _Twin("Cast", {"to": fmt.name}, lambda x, t=fmt.dtype: x.astype(t), draws=(_small,))
            for fmt in (FLOAT16, BFLOAT16, INT16, INT8, E4M3, E5M2, INT32)
        ],
    ),
    *(
        (((5, 5), (5,)), [_affine(op, axis, fmt) for axis in (0, 1) for fmt in targets])
        for op, targets in (("Quantize", (INT8, E5M2)), ("Dequantize", (FLOAT16, BFLOAT16)))
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
    kinds = [
        TensorType(fmt, shape) for fmt, shape in zip(_formats(twin, shapes), shapes, strict=True)
    ]

    def body(make: Builder, *x: Value) -> Sequence[Value]:
        scalars = [
            make.constant(np.array(c, twin.format.dtype), twin.format) for c in twin.constants
        ]
        more: Mapping[str, Any] = twin.attributes
        made = make.op(twin.op, *x, *scalars, outputs=twin.outputs, **more)
        results = (made,) if isinstance(made, Value) else made
        return [make.op("Transpose", y, perm=(1, 0)) for y in results] if twin.turned else results

    try:
        return lab.build(kinds, body)
    except UnsupportedGraph:
        return None


def _formats(twin: _Twin, shapes: Sequence[tuple[int, ...]]) -> Sequence[Format]:
    return twin.formats or [twin.format] * len(shapes)


def _drawn(lab: Lab, twin: _Twin, shapes: Sequence[tuple[int, ...]]) -> Iterator[Array]:
    operands = zip_longest(_formats(twin, shapes), shapes, twin.draws)
    for fmt, shape, draw in operands:
        low = -9 if fmt.is_signed else 0
        values = draw(lab.rng, shape) if draw else lab.rng.integers(low, 10, shape)
        yield values.astype(fmt.dtype)


def _compare(
    lab: Lab,
    twin: _Twin,
    program: LoadedExecutable,
    shapes: Sequence[tuple[int, ...]],
    turn: int,
) -> None:
    given = [*_drawn(lab, twin, shapes)]
    found = twin.reference(*given)
    wanted = [found] if isinstance(found, np.ndarray) else found
    told = f"{twin.op} {dict(twin.attributes)} {twin.constants or ''} turn {turn}"
    for got, right in zip(lab.run(program, *given), wanted, strict=True):
        seen = np.rint(got) if twin.nearest else got
        equal(seen + 0, right.astype(got.dtype) + 0, told)  # -0 is 0
