"""Rules that make constants or masks, and those that convert formats."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from accelsdk.formats import by_name
from accelsdk.numerics import codec
from accelsdk.numerics.rounding import Overflow, ScaleMode
from tests.compiler.rules.inexact import exact, wide
from tests.compiler.rules.peers import (
    ANY,
    BOOL,
    FLOATS,
    NUMBERS,
    Case,
    Draw,
    Recipes,
    check,
    fmt_of,
)

RECIPES = Recipes()


def _type(dtype) -> int:
    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


@RECIPES("ConstantOfShape", "value")
def _constant_of_shape(d: Draw) -> Case:
    opset = d.opset()
    # More than the rule keeps as a constant: made at run time.
    shape = (70, 70) if d.int(0, 5) == 0 else d.shape()
    kind = d.pick(k for k in ANY if k.name != "bfloat16" or opset >= 20)
    number = d.array(kind, (1,), special=True)
    tensor = helper.make_tensor("v", _type(kind), [1], number.tolist())
    if d.attr("value", None, (tensor,)) is None:
        number = np.zeros(1, np.float32)
    y = np.broadcast_to(number.reshape(()), shape)
    return Case([np.array(shape, np.int64)], [y], constant=(0,), opset=opset)


@RECIPES("EyeLike", "dtype k")
def _eye_like(d: Draw) -> Case:
    opset = d.opset()
    x = d.array(d.format((*NUMBERS, BOOL), opset), d.shape(2, 2))
    kind = d.attr("dtype", None, [_type(k) for k in NUMBERS if k.name != "bfloat16"])
    dtype = x.dtype if kind is None else helper.tensor_dtype_to_np_dtype(kind)
    k = d.attr("k", 0, (-2, -1, 1, 2, 9))
    y = [[c - r == k for c in range(x.shape[1])] for r in range(x.shape[0])]
    return Case([x], [np.array(y, bool).reshape(x.shape).astype(dtype)], opset=opset)


@RECIPES("Range")
def _range(d: Draw) -> Case:
    opset = d.opset()
    kind = d.format(NUMBERS, opset)
    start, limit = d.array(kind, (), -5, 9), d.array(kind, (), -5, 9)
    delta = d.array(kind, (), 1, 3)
    if kind.kind != "u" and d.flag():
        delta = np.negative(delta)
    a, b, c = (float(v) for v in (start, limit, delta))
    count = max(int(np.ceil((b - a) / c)), 0)
    wide_y = a + np.arange(count) * c
    if kind.kind in "iu":
        y = wide_y.astype(kind)
    else:
        # ONNX: start + i * delta; it does not say whether the product is rounded first.
        y = exact(wide_y, wide(fmt_of(start))).rounded(4.0)
        unit = 2.0 ** -fmt_of(start).precision
        y = type(y)(y.value, y.error + unit * np.abs(wide_y - a), y.unit)
    return Case([start, limit, delta], [y], constant=(0, 1, 2), opset=opset)


@RECIPES("Trilu", "upper")
def _trilu(d: Draw) -> Case:
    opset = d.opset()
    x = d.array(d.format(ANY, opset), d.shape(2, 4), special=True)
    upper = d.attr("upper", 1, (0, 1))
    k = d.int(-4, 4) if d.flag() else None
    given = [] if k is None else [d.pick((np.array(k), np.array([k])))]
    y = np.zeros_like(x)
    for r, c in np.ndindex(*x.shape[-2:]):
        if (c - r >= (k or 0)) if upper else (c - r <= (k or 0)):
            y[..., r, c] = x[..., r, c]
    return Case([x, *given], [y], constant=(1,), opset=opset)


@RECIPES("OneHot", "axis")
def _one_hot(d: Draw) -> Case:
    opset = d.opset()
    depth = d.int(1, 5)
    indices = d.array(d.format(NUMBERS, opset), d.shape(0, 3), -depth - 2, depth + 2)
    indices = np.trunc(indices.astype(float)).astype(indices.dtype)
    least = -indices.ndim - 1
    axis = d.attr("axis", -1, range(least, indices.ndim + 1)) % (indices.ndim + 1)
    kind = d.format((*NUMBERS, BOOL), opset, 2)
    values = d.array(kind, (2,), special=True)
    shape = (*indices.shape[:axis], depth, *indices.shape[axis:])
    y = np.full(shape, values[0], kind)
    for at in np.ndindex(*indices.shape):
        index = int(indices[at])
        if -depth <= index < depth:
            y[(*at[:axis], index % depth, *at[axis:])] = values[1]
    given = np.array(depth, d.pick(k for k in NUMBERS if k.name != "bfloat16"))
    if d.flag():
        given = given.reshape(1)
    return Case([indices, given, values], [y], constant=(1,), opset=opset)


@RECIPES("Hardmax", "axis")
def _hardmax(d: Draw) -> Case:
    opset = d.opset(9, 11, 13, 23)
    # The default, axis 1, needs two axes.
    x = d.array(d.format(FLOATS, opset), d.shape(2 if opset < 13 else 1, 4), special=False)
    axis = d.attr("axis", 1 if opset < 13 else -1, range(0 if opset < 11 else -x.ndim, x.ndim))
    axis %= x.ndim
    # Before opset 13 the axis parts the operand into rows of all later axes.
    shape = x.shape
    flat = x.reshape(int(np.prod(shape[:axis])), 1, -1) if opset < 13 and x.size else None
    if flat is None:
        flat = np.moveaxis(x, axis, -1)
    y = np.zeros(flat.shape, x.dtype)
    for at in np.ndindex(*flat.shape[:-1]):
        if flat.shape[-1]:
            y[(*at, int(np.argmax(flat[at].astype(float))))] = 1
    y = y.reshape(shape) if opset < 13 else np.moveaxis(y, -1, axis)
    return Case([x], [y], opset=opset)


#: Narrow formats that Cast converts to, by the opset that brought them.
_CAST: dict[int, tuple[str, ...]] = {
    19: ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"),
    21: ("int4", "uint4"),
    23: ("float4_e2m1fn",),
    24: ("float8_e8m0fnu",),
    25: ("int2", "uint2"),
}


def _converted(x: np.ndarray, target, **options) -> np.ndarray:
    """The conversion is tested code by code in tests/numerics; here, that the rule asks for it."""
    source, fmt = fmt_of(x), by_name(target)
    return codec.cast(x, source, fmt, **options)


@RECIPES("Cast", "to saturate round_mode", examples=120)
def _cast(d: Draw) -> Case:
    return _cast_case(d, d.pick((25, 24, d.opset())), like=False)


@RECIPES("CastLike", "saturate round_mode", examples=120)
def _cast_like(d: Draw) -> Case:
    return _cast_case(d, d.pick((25, 24, d.opset(15, 19, 21, 23))), like=True)


def _cast_case(d: Draw, opset: int, like: bool) -> Case:
    narrow = opset >= 19 and d.int(0, 2) > 0
    kinds = d.format(FLOATS if narrow else (*ANY,), opset)
    x = d.array(kinds, d.shape(), -100, 100, special=kinds.kind == "f")
    names = [k.name for k in ANY if k.name != "bfloat16" or opset >= 13]
    if narrow:
        names = _CAST[d.pick([since for since in _CAST if opset >= since])]
    target = d.pick(names)
    fmt = by_name(target)
    options = {}
    if opset >= 19 and target.startswith("float8") and "e8m0" not in target:
        if not d.attr("saturate", 1, (0, 1)):
            options["overflow"] = Overflow.SPECIAL
    elif opset >= 24 and "e8m0" in target:
        mode = d.attr("round_mode", "up", ("up", "down", "nearest"))
        options["scale_mode"] = ScaleMode(mode)
    if not fmt.has_inf or not fmt.has_nan:
        # What has no code in the target is left open by ONNX.
        x = np.nan_to_num(x.astype(float), nan=1, posinf=1, neginf=1).astype(x.dtype)
        if fmt.is_integer and x.dtype in FLOATS:
            low, high = max(fmt.min, -8), min(fmt.max, 7)
            x = np.clip(x, x.dtype.type(low), x.dtype.type(high))
    y = _converted(x, target, **options)
    if like:
        return Case([x, np.zeros(d.shape(0, 2), fmt.dtype)], [y], opset=opset)
    number = next(code for code, name in _ONNX.items() if name == target)
    d.attr("to", None, (number,), required=True)
    return Case([x], [y], opset=opset)


_ONNX = {
    TensorProto.FLOAT8E4M3FN: "float8_e4m3fn",
    TensorProto.FLOAT8E5M2: "float8_e5m2",
    TensorProto.FLOAT8E4M3FNUZ: "float8_e4m3fnuz",
    TensorProto.FLOAT8E5M2FNUZ: "float8_e5m2fnuz",
    TensorProto.FLOAT8E8M0: "float8_e8m0fnu",
    TensorProto.FLOAT4E2M1: "float4_e2m1fn",
    TensorProto.INT4: "int4",
    TensorProto.UINT4: "uint4",
    TensorProto.INT2: "int2",
    TensorProto.UINT2: "uint2",
    **{_type(k): k.name for k in ANY},
}


@pytest.mark.parametrize("op", RECIPES.by_op)
def test_rule(op):
    check(op, RECIPES.by_op[op])
