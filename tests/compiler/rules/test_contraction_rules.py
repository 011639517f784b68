"""Products: MatMul, Gemm, Einsum, Attention, and the integer and quantised ones."""

import numpy as np
import pytest

from accelsdk.formats import FLOAT32
from tests.compiler.rules.inexact import exact, operand, own, where, wide
from tests.compiler.rules.peers import (
    BF16,
    BOOL,
    FLOATS,
    SUMMABLE,
    Case,
    Draw,
    Recipes,
    check,
    fmt_of,
)

RECIPES = Recipes()
INT8, UINT8 = np.dtype("i1"), np.dtype("u1")
BYTES, HALVES = (INT8, UINT8), (np.dtype("f2"), BF16)


def _stacks(d: Draw):
    """Shapes of two stacks of matrices; either may be a vector."""
    m, k, n = (d.extent() for _ in range(3))
    lead = d.shape(0, 2)
    a, b = (*d.narrowed(lead), m, k), (*lead, k, n)
    if d.int(0, 4) == 0:
        a = (k,)
    if d.int(0, 4) == 0:
        b = (k,)
    return a, b


@RECIPES("MatMul", examples=40)
def _matmul(d: Draw) -> Case:
    opset = d.opset()
    kind = d.format(SUMMABLE, opset)
    a, b = (d.array(kind, s, special=kind.kind in "iu") for s in _stacks(d))
    if kind.kind in "iu":
        return Case([a, b], [np.asarray(np.matmul(a, b))], opset=opset)  # wraps
    return Case([a, b], [operand(a) @ operand(b)], opset=opset)


@RECIPES("Gemm", "alpha beta transA transB", examples=50)
def _gemm(d: Draw) -> Case:
    opset = d.opset()
    kind = d.format(SUMMABLE, opset)
    m, k, n = (d.extent() for _ in range(3))
    trans_a, trans_b = d.attr("transA", 0, (0, 1)), d.attr("transB", 0, (0, 1))
    whole = kind.kind in "iu"  # a fraction of an integer is left open
    alpha = d.attr("alpha", 1.0, (2.0, 3.0) if whole else (0.5, -2.0, 0.0))
    beta = d.attr("beta", 1.0, (2.0, 0.0) if whole else (0.25, -1.0, 0.0))
    a = d.array(kind, (k, m) if trans_a else (m, k))
    b = d.array(kind, (n, k) if trans_b else (k, n))
    c = d.array(kind, d.narrowed((m, n))) if opset < 11 or d.flag() else None
    left, right = (a.T if trans_a else a), (b.T if trans_b else b)
    if whole:
        y = np.matmul(left, right) * kind.type(alpha)
        y = y if c is None else y + c * kind.type(beta)
        return Case([a, b, c], [np.asarray(y).astype(kind)], opset=opset)
    y = (operand(left) @ operand(right)) * alpha
    return Case([a, b, c], [y if c is None else y + operand(c) * beta], opset=opset)


_EQUATIONS = (
    *("ij,jk->ik", "bij,bkj->bik", "abc,cd->dba", "i,j->ij", "ij->ji", "ij->i", "ij,kl->"),
    *("ij,jk", "ij", "ba", "i,i", "ij,ij->ij", "abij,abkj->abik", "bhq,hqc->bc", "a,b,c"[:3]),
    *("ab , b -> a", "abc->", "abc,ab->c"),
)


@RECIPES("Einsum", "equation", examples=60)
def _einsum(d: Draw) -> Case:
    opset = d.opset()
    equation = d.attr("equation", None, _EQUATIONS, required=True)
    sizes = {letter: d.extent() for letter in "abcdhijklq"}
    terms = equation.replace(" ", "").split("->")[0].split(",")
    kind = d.format(FLOATS, opset)
    arrays = [d.array(kind, [sizes[c] for c in term]) for term in terms]
    if len(arrays) == 1:
        one = np.ones(())
        bare = equation.replace(" ", "")
        left, _, right = bare.partition("->")
        shown = f"{left},->{right}" if "->" in bare else f"{left},->{''.join(sorted(left))}"
        y = operand(arrays[0]).combine(one, lambda p, q: np.einsum(shown, p, q))
    else:
        # An operand may be summed over a letter of its own first: roundings of both sums.
        y = operand(arrays[0]).combine(operand(arrays[1]), lambda p, q: np.einsum(equation, p, q))
        y = y.rounded(2)
    return Case(arrays, [y], opset=opset)


@RECIPES("Attention", "is_causal scale softmax_precision qk_matmul_output_mode", examples=50)
def _attention(d: Draw) -> Case:
    kind = d.format(FLOATS)
    batch, heads, repeats = d.int(1, 2), d.int(1, 2), d.int(1, 2)
    queries, keys, depth, width = (d.int(1, 4) for _ in range(4))
    causal = d.attr("is_causal", 0, (0, 1))
    scale = d.attr("scale", depth**-0.5, (0.25, 1.0))
    if kind != np.dtype("f8"):
        d.attr("softmax_precision", None, (1,))  # float32
    d.attr("qk_matmul_output_mode", 0, (0,))
    q = d.array(kind, (batch, heads * repeats, queries, depth))
    k = d.array(kind, (batch, heads, keys, depth))
    v = d.array(kind, (batch, heads, keys, width))
    mask, how = None, d.pick(("none", "bool", "add"))
    if how != "none":
        shape = d.narrowed((batch, heads * repeats, queries, keys)[d.int(0, 2) :])
        shape = (*shape[:-1], keys) if len(shape) > 1 else (queries, keys)
        mask = d.array(BOOL if how == "bool" else kind, shape)
    unit = operand(q).unit
    wq, wk, wv = exact(q, unit), *(exact(np.repeat(a, repeats, 1), unit) for a in (k, v))
    # ONNX's function body makes the factor in float32: two roundings, and a root, taken twice.
    body = causal and queries != keys
    factor = exact(scale, own(FLOAT32)).rounded(4) if body else exact(scale, unit).rounded(2)
    scores = (wq @ wk.moved(lambda a: a.swapaxes(2, 3))) * factor
    seen = np.ones((queries, keys), bool)
    if how == "bool":
        seen = mask
    elif how == "add":
        scores = scores + exact(mask, unit)
    if causal:
        seen = seen & np.tri(queries, keys, dtype=bool)
    seen = np.broadcast_to(seen, scores.shape)
    top = np.where(seen, scores.value, -np.inf).max(-1, keepdims=True)
    grown = where(seen, (scores - np.where(np.isfinite(top), top, 0)).exp(), 0.0)
    total = grown.sum((3,), keepdims=True)
    share = where(total.value == 0, 0 * grown, grown / total)  # nothing seen: nothing
    return Case([q, k, v, mask], [share @ wv])


# -- integers --------------------------------------------------------------------------------


@RECIPES("MatMulInteger", examples=40)
def _matmul_integer(d: Draw) -> Case:
    opset = d.opset()
    m, k, n, lead = d.extent(), d.extent(), d.extent(), d.shape(0, 1)
    a = d.array(d.pick(BYTES), (*lead, m, k), special=True)
    b = d.array(d.pick(BYTES), d.pick(((k, n), (*lead, k, n))), special=True)
    a_zero = d.array(a.dtype, d.pick(((), (m,))), 0, 9) if d.flag() else None
    b_zero = d.array(b.dtype, d.pick(((), (n,))), 0, 9) if d.flag() else None
    left = a.astype(np.int64) - (0 if a_zero is None else a_zero.astype(np.int64).reshape(-1, 1))
    right = b.astype(np.int64) - (0 if b_zero is None else b_zero.astype(np.int64))
    y = np.matmul(left, right).astype(np.int32)
    return Case([a, b, a_zero, b_zero], [y], opset=opset)


def _scale(d: Draw, shape=()):
    return d.array(np.float32, shape, 0.01, 0.6)


def _requantised(total, multiplier, zero):
    info = np.iinfo(zero.dtype)
    # ONNX: scaled in float32, rounded to even, then shifted by the zero point and saturated.
    codes = np.rint(total.astype(np.float32) * multiplier) + zero.astype(np.float32)
    return np.clip(codes, info.min, info.max).astype(zero.dtype)


@RECIPES("QLinearMatMul", examples=40)
def _qlinear_matmul(d: Draw) -> Case:
    opset = d.opset()
    m, k, n = (d.extent() for _ in range(3))
    a, b = (
        d.array(d.pick(BYTES), (m, k), special=True),
        d.array(d.pick(BYTES), (k, n), special=True),
    )
    a_scale, y_scale = _scale(d), _scale(d)
    per = d.pick(((), (n,)))
    b_scale, y_zero = _scale(d, per), d.array(d.pick(BYTES), (), 0, 9)
    a_zero, b_zero = d.array(a.dtype, (), 0, 9), d.array(b.dtype, per, 0, 9)
    left, right = a.astype(np.int64) - a_zero, b.astype(np.int64) - b_zero.astype(np.int64)
    y = _requantised(left @ right, a_scale * b_scale / y_scale, y_zero)
    return Case([a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero], [y], opset=opset)


def _quantising(d: Draw, opset: int):
    """An operand and how it is quantised: shape of the scale, axis, and the scale spread out."""
    shape = d.shape(1, 3)
    per, block, axis = d.pick(("tensor", "channel", "block")), 0, None
    if per == "block" and opset < 21:
        per = "channel"
    if per == "channel" and opset < 13:
        per = "tensor"
    if per == "tensor":
        return shape, d.pick(((), (1,))), lambda s: s.reshape(())
    axis = d.attr("axis", 1, range(-len(shape), len(shape)), required=len(shape) < 2) % len(shape)
    if per == "channel":
        spread = [-1 if i == axis else 1 for i in range(len(shape))]
        return shape, (shape[axis],), lambda s: s.reshape(spread)
    if shape[axis] == 0:
        shape = (*shape[:axis], 4, *shape[axis + 1 :])
    block = d.attr("block_size", 0, (1, 2, 3), required=True)
    blocks = (*shape[:axis], -(-shape[axis] // block), *shape[axis + 1 :])
    return shape, blocks, lambda s: np.repeat(s, block, axis)[tuple(slice(n) for n in shape)]


@RECIPES("QuantizeLinear", "axis block_size output_dtype precision saturate", examples=80)
def _quantize(d: Draw) -> Case:
    opset = d.opset(10, 13, 19, 21, 23)
    shape, scale_shape, spread = _quantising(d, opset)
    x = d.array(np.float32, shape, -30, 30)
    scale = d.array(np.float32, scale_shape, 0.05, 2)
    if opset >= 19 and d.int(0, 3) == 0:
        x, scale = x.astype(np.float16), np.float16(2) ** np.rint(np.log2(scale)).astype(np.float16)
        scale = np.asarray(scale, np.float16)
    kinds = {"u1": 2, "i1": 3, **({"u2": 4, "i2": 5} if opset >= 21 else {})}
    kind, zero = np.dtype(d.pick(kinds)), None
    if d.flag():
        zero = d.array(kind, scale_shape, 0, 9)
    elif opset >= 21:
        if d.attr("output_dtype", None, (kinds[kind.str.lstrip("|<")],)) is None:
            kind = np.dtype("u1")
    else:
        kind = np.dtype("u1")
    if opset >= 19:
        d.attr("saturate", 1, (0, 1))  # of integers it says nothing
    if opset >= 23 and x.dtype == np.float32:
        d.attr("precision", None, (1,))
    info = np.iinfo(kind)
    codes = np.rint((x / spread(scale)).astype(np.float64))
    codes = codes + (0 if zero is None else spread(zero).astype(np.float64))
    y = np.clip(codes, info.min, info.max).astype(kind)
    return Case([x, scale, zero], [y], opset=opset)


@RECIPES("DequantizeLinear", "axis block_size output_dtype", examples=60)
def _dequantize(d: Draw) -> Case:
    opset = d.opset(10, 13, 19, 21, 23, 24)
    shape, scale_shape, spread = _quantising(d, opset)
    kinds = (
        UINT8,
        INT8,
        np.dtype("i4"),
        *((np.dtype("u2"), np.dtype("i2")) if opset >= 21 else ()),
    )
    kind = d.pick(kinds)
    x = d.array(kind, shape, -100, 100)
    scale = d.array(
        np.float32 if opset < 19 else d.pick((np.float32, np.float16, BF16)), scale_shape, 0.05, 2
    )
    zero = d.array(kind, scale_shape, 0, 9) if kind.itemsize < 4 and d.flag() else None
    shift = 0 if zero is None else spread(zero).astype(np.float64)
    y = exact(
        (x.astype(np.float64) - shift) * spread(scale).astype(np.float64), wide(fmt_of(scale))
    )
    result = scale.dtype
    if opset >= 23 and scale.dtype == np.float32 and d.attr("output_dtype", None, (1,)) == 1:
        result = np.dtype(np.float32)
    return Case([x, scale, zero], [y], opset=opset, result=result)


@RECIPES("DynamicQuantizeLinear")
def _dynamic(d: Draw) -> Case:
    x = d.array(np.float32, [n or 1 for n in d.shape(1, 3)], d.pick((-9, 0, 2)), 9)
    low, high = np.minimum(x.min(), np.float32(0)), np.maximum(x.max(), np.float32(0))
    scale = (high - low) / np.float32(255)
    zero = np.clip(np.rint(np.float32(0) - low / scale), 0, 255)
    y = np.clip(np.rint(x / scale) + zero, 0, 255)
    return Case([x], [y.astype(np.uint8), np.asarray(scale), zero.astype(np.uint8)])


@pytest.mark.parametrize("op", RECIPES.by_op)
def test_rule(op):
    check(op, RECIPES.by_op[op])
