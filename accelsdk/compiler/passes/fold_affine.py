"""Folds a constant scale and shift for each channel into the contraction before it.

``(W * x + b) * s + t`` becomes ``(W s) * x + (b s + t)``. New weights are computed in float64
and rounded once, so each differs from the real product by half an ULP (or half the smallest
subnormal); results change within the error of a contraction of the same length, not in the same
bits. MatMul has no bias: it takes scales alone, and BatchNormalization leaves an Add.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from accelsdk.compiler.passes.common import is_core, maker, number, only_for, origins
from accelsdk.compiler.passes.manager import Pass
from accelsdk.graph.graph import Array, Constant, Graph, Node
from accelsdk.graph.ops import attribute
from accelsdk.graph.rewrite import Builder, remove_dead
from accelsdk.graph.types import TensorType, Value

_CONTRACTIONS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_AFFINES = ("BatchNormalization", "Mul", "Add", "Sub", "Div")
#: Weights of more bytes than this are scaled anew whenever they are asked for, not held.
_LARGE = 1 << 20

Real = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Affine:
    """y = x * scale + shift, one of each a channel, in float64."""

    scale: Real
    shift: Real


def _run(graph: Graph) -> Graph:
    work = _Folding(graph)
    for node in graph.nodes:
        work.fold(node)
    if not work.instead:
        return graph
    nodes = tuple(new for node in graph.nodes for new in work.instead.get(node.name, (node,)))
    constants = (*graph.constants, *work.made)
    return remove_dead(replace(graph, nodes=nodes, constants=constants))


class _Folding:
    """One run: finds affines behind contractions, and what stands in their place then."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.builder = Builder.of(graph)
        self.made: list[Constant] = []
        self.instead: dict[str, list[Node]] = {}

    def fold(self, node: Node) -> None:
        """Folds ``node`` into the contraction before it, if both allow."""
        x = self._varying_operand(node)
        before = maker(self.graph, x, *_CONTRACTIONS)
        if x is None or before is None or before.name in self.instead:
            return
        if not x.format.is_float or not x.type.rank or not only_for(self.graph, x, node):
            return
        axis = 1 if before.op.startswith("Conv") else x.type.rank - 1
        affine = self._affine(node, x, axis)
        made = self._folded(before, node, affine) if affine is not None else None
        if made is not None:
            self.instead[before.name], self.instead[node.name] = made, []

    def _varying_operand(self, node: Node) -> Value | None:
        """Returns the one operand of an affine node that is not constant."""
        if not is_core(node, *_AFFINES):
            return None
        known = self.graph.constant_by_name
        varying = [v for v in node.inputs if v is not None and v.name not in known]
        first = node.op in ("Mul", "Add") or node.inputs[0] in varying
        if len(varying) != 1 or not first or varying[0].type != node.result.type:
            return None
        return varying[0]

    def _affine(self, node: Node, x: Value, axis: int) -> _Affine | None:
        """Reads a node as scale and shift; None if it is not one number a channel."""
        channels = x.shape[axis]
        one, zero = np.ones(channels), np.zeros(channels)
        known = self.graph.constant_by_name
        constants = [known[v.name] for v in node.inputs if v is not None and v.name in known]
        if node.op == "BatchNormalization":
            gamma, beta, mean, variance = (_float64(constant) for constant in constants)
            with np.errstate(all="ignore"):
                scale = gamma / np.sqrt(variance + cast("float", attribute(node, "epsilon")))
                return _Affine(scale, beta - mean * scale) if axis == 1 else None
        operand = _per_channel(constants[0], x, axis) if len(constants) == 1 else None
        if operand is None:
            return None
        match node.op:
            case "Mul":
                return _Affine(operand, zero)
            case "Div":
                with np.errstate(all="ignore"):
                    return _Affine(1.0 / operand, zero)
            case "Add":
                return _Affine(one, operand)
            case _:
                return _Affine(one, -operand)

    def _folded(self, before: Node, after: Node, affine: _Affine) -> list[Node] | None:
        """Returns the contraction with the affine in it, or None if it takes none."""
        known = self.graph.constant_by_name
        weights, bias = before.inputs[1], before.operand(2)
        if weights is None or weights.name not in known or (bias and bias.name not in known):
            return None
        if not (np.isfinite(affine.scale).all() and np.isfinite(affine.shift).all()):
            return None
        factor = _factor(before, weights, affine.scale)
        old = _bias(before, known[bias.name] if bias is not None else None, affine.scale)
        if factor is None or old is None or (before.op == "MatMul" and after.op in ("Add", "Sub")):
            return None
        shift = old * affine.scale + affine.shift
        if not np.abs(shift).max(initial=0.0) <= weights.format.max:
            return None
        new_weights = weights
        if (affine.scale != 1.0).any():
            scaled = self._scaled(known[weights.name], factor)
            if scaled is None:
                return None
            new_weights = scaled
        origin = origins((before, after))
        if before.op == "MatMul":
            return self._matmul(before, after, new_weights, shift)
        stem = bias.name if bias is not None else f"{before.name}/bias"
        inputs = (before.inputs[0], new_weights, self._constant(stem, shift, weights))
        return [replace(before, inputs=inputs, outputs=after.outputs, origin=origin)]

    def _matmul(self, before: Node, after: Node, weights: Value, shift: Real) -> list[Node]:
        inputs = (before.inputs[0], weights)
        origin = origins((before, after))
        if not shift.any():
            return [replace(before, inputs=inputs, outputs=after.outputs, origin=origin)]
        stem = f"{after.name}/shift"
        added = (before.result, self._constant(stem, shift, weights))
        return [
            replace(before, inputs=inputs, origin=origin),
            replace(after, op="Add", inputs=added, attributes={}),
        ]

    def _constant(self, stem: str, numbers: Real, like: Value) -> Value:
        array: Any = numbers.astype(like.format.dtype)
        made = Constant.of(self.builder.fresh(stem), array, like.format)
        self.made.append(made)
        return made.value

    def _scaled(self, weights: Constant, factor: Real) -> Value | None:
        """Returns scaled weights, or None if they leave the format."""
        array = _times(weights, factor)
        if not np.isfinite(array).all():
            return None
        kind = weights.value.type
        value = Value(self.builder.fresh(weights.name), TensorType(kind.format, kind.shape))
        lazy = kind.nbytes > _LARGE
        load = partial(_times, weights, factor) if lazy else partial(_given, array)
        self.made.append(Constant(value, load))
        return value


def _given(array: Array) -> Array:
    return array


def _times(weights: Constant, factor: Real) -> Array:
    """Scales weights a slice of the first axis at a time: float64 takes twice their bytes."""
    source: Any = weights.array()
    made = np.empty(source.shape, source.dtype)
    rows = np.broadcast_to(factor, source.shape)
    step = max(1, (1 << 18) // max(1, source[:1].size))
    with np.errstate(over="ignore", under="ignore"):
        for start in range(0, len(source), step):
            part = slice(start, start + step)
            made[part] = (source[part].astype(np.float64) * rows[part]).astype(source.dtype)
    return made


def _factor(node: Node, weights: Value, scale: Real) -> Real | None:
    """Returns the scale of each channel in the shape in which it multiplies the weights."""
    spatial = (1,) * (weights.type.rank - 2)
    match node.op:
        case "Conv":
            return scale.reshape(-1, 1, *spatial)
        case "ConvTranspose":  # weights are [C, M/group, ...]
            group = number(node, "group")
            each = np.repeat(scale.reshape(group, -1), weights.shape[0] // group, axis=0)
            return each.reshape(*each.shape, *spatial)
        case "Gemm":
            if attribute(node, "alpha") != 1.0 or attribute(node, "beta") != 1.0:
                return None
            return scale.reshape((-1, 1) if number(node, "transB") else (1, -1))
        case _:
            return scale.reshape(1, -1) if weights.type.rank == 2 else None


def _bias(node: Node, bias: Constant | None, scale: Real) -> Real | None:
    """Returns a bias of one number a channel, or None if it is of another shape."""
    if bias is None:
        return np.zeros(len(scale))
    numbers = _float64(bias)
    if node.op == "Gemm" and numbers.shape not in ((), (1,), scale.shape, (1, len(scale))):
        return None
    return np.broadcast_to(numbers.reshape(-1), scale.shape)


def _per_channel(constant: Constant, x: Value, axis: int) -> Real | None:
    shape = (1,) * (x.type.rank - len(constant.value.shape)) + constant.value.shape
    if any(extent != 1 for at, extent in enumerate(shape) if at != axis):
        return None
    return np.broadcast_to(_float64(constant).reshape(-1), (x.shape[axis],))


def _float64(constant: Constant) -> Real:
    return np.asarray(constant.array()).astype(np.float64)


FOLD_AFFINE = Pass(
    name="fold-affine",
    changes="folds BatchNormalization, and Mul, Div, Add and Sub by constants of one number a "
    "channel, into the Conv, ConvTranspose or Gemm before them, and scales into MatMul; weights "
    "are rounded once more, so bits change",
    run=_run,
    exact=False,
)
