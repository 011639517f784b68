"""Rules that gather and scatter by index."""

import math

import numpy as np
import pytest

from tests.compiler.rules.inexact import exact, operand
from tests.compiler.rules.peers import ANY, NUMBERS, Case, Draw, Recipes, check

RECIPES = Recipes()
INT32, INT64 = np.dtype("i4"), np.dtype("i8")


def _any(d: Draw, opset: int, low=0, high=4) -> np.ndarray:
    """An operand of any format and of a rank within bounds."""
    return d.array(d.format(ANY, opset), d.shape(low, high), special=True)


def _indices(d: Draw, shape, extent: int, kind=None) -> np.ndarray:
    """Indices into an extent, from either end."""
    if extent == 0:
        shape = (*shape[:-1], 0) if shape else (0,)
    return d.array(kind or d.pick((INT64, INT32)), shape, -extent, extent - 1)


@RECIPES("Gather", "axis")
def _gather(d: Draw) -> Case:
    opset = d.opset()
    x = _any(d, opset, 1)
    axis = d.attr("axis", 0, range(0 if opset < 11 else -x.ndim, x.ndim))
    extent = x.shape[axis]
    kind = d.pick((INT64, INT32))
    shape = d.shape(0, 2)
    indices = _indices(d, shape, extent, kind)
    if opset < 11:
        indices = np.abs(indices) % max(extent, 1)  # no negative ones yet
        indices = indices.astype(kind)
    return Case([x, indices], [np.take(x, indices, axis)], opset=opset)


@RECIPES("GatherElements", "axis")
def _gather_elements(d: Draw) -> Case:
    opset = d.opset()
    x = _any(d, opset, 1)
    axis = d.attr("axis", 0, range(-x.ndim, x.ndim)) % x.ndim
    shape = [d.int(0, 4) if i == axis else d.int(0, n) for i, n in enumerate(x.shape)]
    if x.shape[axis] == 0:
        shape[axis] = 0
    indices = d.array(d.pick((INT64, INT32)), shape, -x.shape[axis], x.shape[axis] - 1)
    y = np.empty(shape, x.dtype)
    for at in np.ndindex(*shape):
        y[at] = x[(*at[:axis], int(indices[at]), *at[axis + 1 :])]
    return Case([x, indices], [y], opset=opset)


@RECIPES("GatherND", "batch_dims")
def _gather_nd(d: Draw) -> Case:
    opset = d.opset(11, 13, 18, 23)
    x = _any(d, opset, 1)
    batch = d.attr("batch_dims", 0, range(min(x.ndim, 3))) if opset >= 12 else 0
    depth = d.int(1, x.ndim - batch)
    shape = (*x.shape[:batch], *d.shape(0 if batch else 1, 2), depth)
    if any(n == 0 for n in x.shape[batch : batch + depth]):
        shape = (*shape[:-1], depth) if 0 in shape else (*x.shape[:batch], 0, depth)
    limits = np.array(x.shape[batch : batch + depth])
    indices = np.floor(d.rng.uniform(-1, 1, shape) * limits).astype(np.int64)
    y = np.empty((*shape[:-1], *x.shape[batch + depth :]), x.dtype)
    for at in np.ndindex(*shape[:-1]):
        y[at] = x[(*at[:batch], *map(int, indices[at]))]
    return Case([x, indices], [y], opset=opset)


def _reduced(old, new, how: str):
    match how:
        case "add":
            return old + new
        case "mul":
            return old * new
        case "max":
            return np.maximum(old, new) if isinstance(old, np.generic) else old.maximum(new)
        case "min":
            return np.minimum(old, new) if isinstance(old, np.generic) else old.minimum(new)
    return new


def _scattered(x, pairs, how: str):
    """What scattering comes to, one update at a time; as `Inexact` where floats add up."""
    if how == "none" or x.dtype.kind in "iub":
        y = x.copy()
        for at, update in pairs:
            y[at] = _reduced(y[at], update, how)
        return y
    y, error = operand(x), None
    value, error = y.value.copy(), y.error.copy()
    for at, update in pairs:
        old = type(y)(value[at], error[at], y.unit)
        new = _reduced(old, exact(update, y.unit), how)
        value[at], error[at] = new.value, new.error
    return type(y)(value, error, y.unit)


def _scatter_setup(d: Draw, high: int):
    opset = d.opset(11, 13, 16, 18, 23)
    hows = ("none", "add", "mul", *(("max", "min") if opset >= 18 else ()))
    how = d.attr("reduction", "none", hows) if opset >= 16 else "none"
    kind = d.format(ANY if how == "none" else NUMBERS, opset)
    return opset, how, d.array(kind, d.shape(1, high))


@RECIPES("ScatterElements", "axis reduction", examples=50)
def _scatter_elements(d: Draw) -> Case:
    opset, how, x = _scatter_setup(d, 3)
    axis = d.attr("axis", 0, range(-x.ndim, x.ndim)) % x.ndim
    extent = x.shape[axis]
    count = d.int(0, extent if how == "none" else 4) if extent else 0
    shape = tuple(count if i == axis else d.int(0, n) for i, n in enumerate(x.shape))
    if how == "none":  # an index twice would leave the result open
        columns = [
            d.rng.permutation(extent)[:count] for _ in range(math.prod(shape) // max(count, 1))
        ]
        others = (*shape[:axis], *shape[axis + 1 :])
        flat = np.array(columns, np.int64).reshape(*others, count)
        indices = np.moveaxis(flat, -1, axis)
    else:
        indices = d.array(INT64, shape, 0, extent - 1)
    if d.flag():
        indices = indices - extent
    updates = d.array(x.dtype, shape)
    pairs = [
        ((*at[:axis], int(indices[at]), *at[axis + 1 :]), updates[at]) for at in np.ndindex(*shape)
    ]
    indices = indices.astype(d.pick((INT64, INT32)))
    return Case([x, indices, updates], [_scattered(x, pairs, how)], opset=opset)


@RECIPES("ScatterND", "reduction", examples=50)
def _scatter_nd(d: Draw) -> Case:
    opset, how, x = _scatter_setup(d, 4)
    depth = d.int(1, x.ndim)
    places = list(np.ndindex(*x.shape[:depth]))
    count = d.int(0, len(places))
    if how == "none":
        chosen = [places[i] for i in d.rng.permutation(len(places))[:count]]
    else:
        chosen = [places[i] for i in d.rng.integers(0, max(len(places), 1), count)]
    lead = (1, count) if d.flag() else (count,)
    indices = np.array(chosen, np.int64).reshape(*lead, depth)
    updates = d.array(x.dtype, (*lead, *x.shape[depth:]))
    flat = updates.reshape(count, *x.shape[depth:])
    pairs = [
        ((*place, *rest), flat[(i, *rest)])
        for i, place in enumerate(chosen)
        for rest in np.ndindex(*x.shape[depth:])
    ]
    if d.flag():
        indices = np.where(np.arange(depth) == 0, indices - x.shape[0], indices)
    return Case([x, indices, updates], [_scattered(x, pairs, how)], opset=opset)


@pytest.mark.parametrize("op", RECIPES.by_op)
def test_rule(op):
    check(op, RECIPES.by_op[op])
