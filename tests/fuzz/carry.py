"""Values with the largest distance that a right implementation may have from them.

A node is computed in float64 along its decomposition; beside each value goes a bound of what an
implementation may have lost by then: the errors of the operands, to first order and rounded up,
and the limit of each primitive (docs/conformance.md, tier U; docs/numerics.md, tier T3). Where
no bound holds (a comparison within the error, an overflow on the way) it is infinite, and the
element is *free*: counted, and not compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from accelsdk import formats as f
from accelsdk.formats import Format
from accelsdk.graph.graph import Graph, Node
from accelsdk.graph.opdef import Family, NumericsClass
from accelsdk.graph.ops import lookup
from accelsdk.graph.rewrite import apply, decompositions
from accelsdk.graph.types import TensorType, Value
from accelsdk.kernels.api import run
from accelsdk.numerics import codec
from accelsdk.numerics.compare import bound_ulp
from accelsdk_conformance.oracles.functions import LIMITS

_ROOM = 1 + 2.0**-20  # second-order terms, and the roundings of the bound itself


@dataclass(frozen=True, eq=False)
class Carried:
    """Values, and how far an implementation's may be from each.

    Attributes:
        value: float64 for floats; the elements themselves otherwise.
        error: Not negative; infinite where nothing can be said.
    """

    value: np.ndarray
    error: np.ndarray

    @classmethod
    def exact(cls, array: np.ndarray, row: Format) -> Carried:
        """What an implementation holds without error."""
        value = codec.decode(array, row, np.float64) if row.is_float else array
        return cls(value, np.zeros(array.shape))

    @property
    def is_exact(self) -> bool:
        """Whether no element has an error."""
        return not self.error.any()


Operands = Sequence[Carried | None]
_SPECIAL_SAFE = frozenset({"Relu", "LeakyRelu", "PRelu", "Clip", "ThresholdedRelu"})


def tidy(value: np.ndarray, error: np.ndarray) -> Carried:
    """Makes errors that are no numbers infinite: there nothing can be said."""
    return Carried(value, np.where(np.isnan(error), np.inf, error))


def rounded(given: Carried, row: Format, ulps: float = 0.5) -> Carried:
    """Adds the error of one rounding to a format; overflow frees an element.

    An infinity or NaN of exact operands is what every implementation has.
    """
    size = np.abs(given.value) + given.error
    unit = 2.0 ** (1 - row.precision) * (2 if row == f.FLOAT64 else 1)
    extra = (ulps * unit * size + row.smallest_subnormal) * _ROOM
    error = np.where(np.isfinite(given.value), given.error + extra, given.error)
    over = np.isfinite(given.value) & (size + extra > row.max)
    zero = (given.value == 0) & (given.error == 0)
    return tidy(given.value, np.where(over, np.inf, np.where(zero, 0.0, error)))


def carried(node: Node, operands: Operands, *, inner: bool = False) -> list[Carried]:
    """Returns the results of a node whose operands carry errors.

    Args:
        node: A core node with float results.
        operands: One an operand.
        inner: Whether the results are operands of further nodes, and so rounded to their
            format. If not, one rounding of what lies within the error is still to come.
    """
    with np.errstate(all="ignore"):
        if lookup(node).is_composite:
            return _composite(node, operands)
        rule = RULES.get(node.op)
        if rule is not None:
            return [rule(node, operands, inner)]
        return _moved(node, operands)


def unknown(node: Node, values: Sequence[np.ndarray]) -> list[Carried]:
    """Results of which nothing is known but what the kernels make of the values."""
    return [
        Carried(
            codec.decode(x, v.format, np.float64) if v.format.is_float else x,
            np.full(x.shape, np.inf),
        )
        for v, x in zip(node.outputs, values, strict=True)
        if v is not None
    ]


# -- nodes that move, select and compare -----------------------------------------------------


def widened(node: Node) -> Node:
    """The same node on float64 where it is on other floats."""

    def wide(value: Value | None) -> Value | None:
        if value is None or not value.format.is_float:
            return value
        return Value(value.name, TensorType(f.FLOAT64, value.shape))

    inputs, outputs = tuple(map(wide, node.inputs)), tuple(map(wide, node.outputs))
    return replace(node, inputs=inputs, outputs=outputs)


def _moved(node: Node, operands: Operands) -> list[Carried]:
    """Results that are operands, elsewhere; their errors go the same way."""
    wide = widened(node)
    values = run(wide, [None if x is None else x.value for x in operands])
    if all(x is None or x.is_exact for x in operands):
        return [Carried(np.asarray(v), np.zeros(np.shape(v))) for v in values]
    if lookup(node).family is not Family.MOVEMENT:
        return [Carried(np.asarray(v), np.full(np.shape(v), np.inf)) for v in values]
    errors = run(
        wide,
        [
            None if x is None else x.error if v is not None and v.format.is_float else x.value
            for v, x in zip(node.inputs, operands, strict=True)
        ],
    )
    return [tidy(np.asarray(v), np.asarray(e)) for v, e in zip(values, errors, strict=True)]


def _given(operands: Operands, *indices: int) -> list[Carried]:
    found = [operands[index] for index in indices]
    return [x for x in found if x is not None]


def _compared(node: Node, operands: Operands, inner: bool) -> Carried:
    a, b = _given(operands, 0, 1)
    (value,) = run(widened(node), [a.value, b.value])
    reach = a.error + b.error
    unsure = (reach > 0) & ~(np.abs(a.value - b.value) > reach)
    return Carried(value, np.where(unsure, np.inf, 0.0))


def _selected(node: Node, operands: Operands, inner: bool) -> Carried:
    c, x, y = _given(operands, 0, 1, 2)
    value = np.where(c.value, x.value, y.value)
    error = np.where(c.value, x.error, y.error)
    either = np.abs(x.value - y.value) + np.maximum(x.error, y.error)
    return tidy(value, np.where(c.error > 0, either, error))


def _is_infinite(node: Node, operands: Operands, inner: bool) -> Carried:
    (x,) = _given(operands, 0)
    (value,) = run(widened(node), [x.value])
    return Carried(value, np.where(x.error > 0, np.where(np.isfinite(x.error), 0, np.inf), 0.0))


def _extreme(node: Node, operands: Operands, inner: bool) -> Carried:
    a, b = _given(operands, 0, 1)
    (value,) = run(widened(node), [a.value, b.value])
    far = np.abs(a.value - b.value) > a.error + b.error
    chosen = np.where(value == a.value, a.error, b.error)
    return tidy(value, np.where(far, chosen, np.maximum(a.error, b.error)))


def _extremes(node: Node, operands: Operands, inner: bool) -> Carried:
    (x,) = _given(operands, 0)
    wide = widened(node)
    (value,) = run(wide, [x.value])
    if x.is_exact:
        return Carried(value, np.zeros(value.shape))
    (error,) = run(replace(wide, op="ReduceMax"), [x.error])
    return tidy(value, np.maximum(error, 0.0))


def _converted(node: Node, operands: Operands, inner: bool) -> Carried:
    (x,) = _given(operands, 0)
    source, target = node.inputs[0], node.result.format
    if source is None or not (source.format.is_float and target.is_float and target.bits >= 16):
        (value,) = run(node, [x.value])
        return Carried(value, np.where(x.error > 0, np.inf, 0.0))
    return x if target.precision >= source.format.precision else rounded(x, target)


# -- arithmetic and functions ----------------------------------------------------------------


def _signed(node: Node, operands: Operands, inner: bool) -> Carried:
    (x,) = _given(operands, 0)
    return Carried(np.abs(x.value) if node.op == "Abs" else -x.value, x.error)


def _arithmetic(node: Node, operands: Operands, inner: bool) -> Carried:
    a, b = _given(operands, 0, 1)
    row = node.result.format
    match node.op:
        case "Add":
            found = Carried(a.value + b.value, a.error + b.error)
        case "Sub":
            found = Carried(a.value - b.value, a.error + b.error)
        case "Mul":
            error = np.abs(a.value) * b.error + np.abs(b.value) * a.error + a.error * b.error
            zero = ((a.value == 0) & (a.error == 0)) | ((b.value == 0) & (b.error == 0))
            finite = np.isfinite(np.abs(a.value) + np.abs(b.value) + a.error + b.error)
            error = np.where((a.error + b.error == 0) | (zero & finite), 0.0, error)
            found = Carried(a.value * b.value, error)
        case _:
            found = _quotient(a, b)
    return rounded(tidy(*np.broadcast_arrays(found.value, found.error)), row)


def _quotient(a: Carried, b: Carried) -> Carried:
    value = a.value / b.value
    room = np.abs(b.value) - b.error
    error = np.where(room > 0, (a.error + np.abs(value) * b.error) / room, np.inf)
    return tidy(value, np.where(a.error + b.error == 0, 0.0, error))


def _inverse(node: Node, operands: Operands, inner: bool) -> Carried:
    (x,) = _given(operands, 0)
    one = Carried(np.ones(()), np.zeros(()))
    return rounded(_quotient(one, x), node.result.format)


def _root(node: Node, operands: Operands, inner: bool) -> Carried:
    (x,) = _given(operands, 0)
    value = np.sqrt(x.value)
    low, high = np.sqrt(np.maximum(x.value - x.error, 0)), np.sqrt(x.value + x.error)
    error = np.where(x.error > 0, np.maximum(high - value, value - low), 0.0)
    below = (x.error > 0) & (x.value - x.error < 0)  # NaN is possible
    return rounded(tidy(value, np.where(below, np.inf, error)), node.result.format)


#: How fast a function changes at most within ``error`` of ``value``.
_GROWTH: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "Exp": lambda x, e: np.exp(x) * np.expm1(e),
    "Log": lambda x, e: np.where(x > e, e / (x - e), np.inf),
    "Tanh": lambda x, e: np.minimum(e, 2.0),
    "Sigmoid": lambda x, e: np.minimum(0.25 * e, 1.0),
    "Erf": lambda x, e: np.minimum(1.13 * e, 2.0),
    "Sin": lambda x, e: np.minimum(e, 2.0),
    "Cos": lambda x, e: np.minimum(e, 2.0),
    "Atan": lambda x, e: np.minimum(e, 4.0),
    "Asinh": lambda x, e: e,
}


def _function(node: Node, operands: Operands, inner: bool) -> Carried:
    arguments = [x for x in operands if x is not None]
    (value,) = run(widened(node), [x.value for x in arguments])
    row, limit, x = node.result.format, LIMITS[node.op], arguments[0]
    # float64 is judged by itself: both sides err
    sides = 2 if row == f.FLOAT64 else 1
    error = bound_ulp(value, row, sides * limit.largest(row), sides * limit.floor_cap)
    error = np.where(np.isfinite(value), error + row.smallest_subnormal, 0.0)
    if any(not a.is_exact for a in arguments):
        growth = _GROWTH.get(node.op)
        passed = np.full(value.shape, np.inf) if growth is None else growth(x.value, x.error)
        settled = np.zeros(value.shape, bool)
        for a in arguments:
            settled = settled | (a.error > 0)
        error = error + np.where(settled, passed, 0.0)
    if limit.domain is not None:
        error = np.where(np.abs(x.value) > limit.domain, np.inf, error)
    size = np.abs(value) + error
    near = np.isfinite(value) & (size > row.max) & (np.abs(value) - error <= row.max)
    return tidy(value, np.where(near | (inner & (size > row.max) & (error > 0)), np.inf, error))


# -- composites ------------------------------------------------------------------------------


def _composite(node: Node, operands: Operands) -> list[Carried]:
    """A composite is as good as its decomposition; orders of factors lie within twice that."""
    known: dict[str, Carried] = {}
    for value, given in zip(node.inputs, operands, strict=True):
        if value is not None and given is not None:
            known[value.name] = given
    inputs = {v.name: v for v in node.inputs if v is not None}
    outputs = tuple(v for v in node.outputs if v is not None)
    graph = apply(Graph(tuple(inputs.values()), outputs, (), (node,)), decompositions())
    for constant in graph.constants:
        given = Carried.exact(constant.array(), constant.value.format)
        whole = not constant.value.format.is_float or bool(
            np.all((given.value == np.rint(given.value)) | ~np.isfinite(given.value))
        )
        # others are rounded here, and need not be elsewhere
        known[constant.name] = given if whole else rounded(given, constant.value.format)
    for step in graph.nodes:
        taken = [None if v is None else known[v.name] for v in step.inputs]
        for value, made in zip(step.outputs, carried(step, taken, inner=True), strict=True):
            if value is not None:
                known[value.name] = made
    found = [known[v.name] for v in graph.outputs]
    return [_freed(node, operands, Carried(x.value, 2 * x.error)) for x in found]


def _freed(node: Node, operands: Operands, result: Carried) -> Carried:
    """Frees what comes of infinities and NaN, which formulas of one function treat otherwise."""
    if node.op in _SPECIAL_SAFE:
        return result
    data = operands[0]
    rows = node.op in ("Softmax", "LogSoftmax")
    if data is not None and lookup(node).family is Family.ACTIVATION and not rows:
        return tidy(result.value, np.where(np.isfinite(data.value), result.error, np.inf))
    floats = [x.value for x in operands if x is not None and x.value.dtype.kind == "f"]
    # beyond the root of the range, factors in another order overflow
    most = {f.FLOAT64: 2.0**500}.get(node.result.format, 2.0**60)
    if all(np.all(np.abs(x) < most) for x in floats):
        return result
    return Carried(result.value, np.full(result.value.shape, np.inf))


Rule = Callable[[Node, Operands, bool], Carried]


def _linear(node: Node, operands: Operands, inner: bool) -> Carried:
    from tests.fuzz.linear import summed

    return summed(node, operands, inner)


RULES: Mapping[str, Rule] = {
    **dict.fromkeys(("Less", "LessOrEqual", "Greater", "GreaterOrEqual"), _compared),
    "Where": _selected,
    "IsInf": _is_infinite,
    **dict.fromkeys(("Max", "Min"), _extreme),
    **dict.fromkeys(("ReduceMax", "ReduceMin"), _extremes),
    "Cast": _converted,
    **dict.fromkeys(("Abs", "Neg"), _signed),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), _arithmetic),
    "Reciprocal": _inverse,
    "Sqrt": _root,
    **{name: _function for name in LIMITS if lookup(name).numerics is NumericsClass.FUNCTION},
    **dict.fromkeys(("MatMul", "Conv", "ConvTranspose", "ScaledMatMul", "ReduceSum"), _linear),
    **dict.fromkeys(("CumSum", "AveragePool", "ScatterElements", "ScatterND"), _linear),
    **dict.fromkeys(("Resize", "SparseLengthsSum", "SparseLengthsSumFused"), _linear),
    "ReduceProd": _linear,
}
