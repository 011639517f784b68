"""Softmax, composite reductions and normalisations."""

from __future__ import annotations

from collections.abc import Sequence

from accelsdk.formats import FLOAT32, FLOAT64, Format
from accelsdk.graph.decompose import normalisation as norm
from accelsdk.graph.decompose import reduction as reduce
from accelsdk.graph.families.reduction import AXES, reduction
from accelsdk.graph.families.sets import FLOATS, SUMMABLE
from accelsdk.graph.opdef import (
    AttributeDef,
    Call,
    Decomposition,
    Family,
    InferRule,
    NumericsClass,
    OpDef,
    integer,
    operands,
    per_operand,
    real,
    results,
)
from accelsdk.graph.types import TensorType

_EPSILON = real("epsilon", 1e-5, "added to the variance")


def stash(format: Format) -> Format:
    """Returns the format in which a normalisation finds mean and variance: float32 at least."""
    return FLOAT64 if format == FLOAT64 else FLOAT32


def _softmax(call: Call) -> Sequence[TensorType]:
    x = call.operand(0)
    call.among(x, FLOATS)
    call.axis(call.integer("axis"), x.rank)
    return (x,)


def _trailing(call: Call, x: TensorType) -> int:
    call.among(x, FLOATS)
    return call.axis(call.integer("axis"), x.rank)


def _fits(call: Call, given: TensorType | None, x: TensorType, what: str) -> None:
    """Checks that a scale or a bias broadcasts to ``x`` one way."""
    if given is not None:
        call.same_format(x, given)
        call.check(
            call.broadcast(x.shape, given.shape) == x.shape,
            "broadcast",
            f"{what} {given} does not broadcast to {x}",
        )


def _layer(call: Call) -> Sequence[TensorType]:
    x = call.operand(0)
    axis = _trailing(call, x)
    _fits(call, call.operand(1), x, "Scale")
    _fits(call, call.optional(2), x, "B")
    row = TensorType(stash(x.format), (*x.shape[:axis], *(1,) * (x.rank - axis)))
    return x, row, row


def _rms(call: Call) -> Sequence[TensorType]:
    x = call.operand(0)
    _trailing(call, x)
    _fits(call, call.operand(1), x, "scale")
    return (x,)


def _channels(call: Call) -> Sequence[TensorType]:
    """X [N,C,...] with one item per channel in every other operand."""
    x = call.operand(0)
    call.among(x, FLOATS)
    call.check(x.rank >= 2, "rank", f"X is {x}; it must be [N,C,...]")
    for index in range(1, len(call.inputs)):
        call.same_format(x, call.operand(index))
        call.has_shape(call.operand(index), (x.shape[1],), f"operand {index}")
    return (x,)


def _instance(call: Call) -> Sequence[TensorType]:
    call.check(call.operand(0).rank >= 3, "rank", "X must be [N,C,D1,...]")
    return _channels(call)


def _group(call: Call) -> Sequence[TensorType]:
    groups, x = call.integer("num_groups"), call.operand(0)
    _channels(call)
    call.check(
        groups >= 1 and x.shape[1] % groups == 0,
        "group",
        f"{x.shape[1]} channels do not make {groups} groups",
    )
    return (x,)


def _row(
    name: str,
    help: str,
    infer: InferRule,
    decompose: Decomposition,
    *attributes: AttributeDef,
    names: str = "X",
    result: str = "Y",
    operations: int = 5,
    formats: str = "floats",
) -> OpDef:
    return OpDef(
        name=name,
        family=Family.NORMALISATION,
        help=help,
        operands=operands(names),
        results=results(result),
        attributes=attributes,
        infer=infer,
        numerics=NumericsClass.COMPOSITE,
        work=per_operand(operations),
        decompose=decompose,
        formats=formats,
    )


_SUMS = "floats, 32- and 64-bit integers"

ROWS: tuple[OpDef, ...] = (
    _row(
        "Softmax",
        "exp(x - max) / sum of it, along an axis",
        _softmax,
        norm.softmax,
        integer("axis", -1),
    ),
    _row(
        "LogSoftmax",
        "x - max - log(sum exp(x - max))",
        _softmax,
        norm.log_softmax,
        integer("axis", -1),
    ),
    _row(
        "ReduceMean",
        "Mean",
        reduction(FLOATS),
        reduce.mean,
        *AXES,
        operations=1,
    ),
    _row(
        "ReduceL1",
        "Sum of |x|",
        reduction(SUMMABLE),
        reduce.l1,
        *AXES,
        operations=2,
        formats=_SUMS,
    ),
    _row("ReduceL2", "Root of the sum of squares", reduction(FLOATS), reduce.l2, *AXES),
    _row(
        "ReduceSumSquare",
        "Sum of squares",
        reduction(SUMMABLE),
        reduce.sum_square,
        *AXES,
        operations=2,
        formats=_SUMS,
    ),
    _row(
        "ReduceLogSum",
        "Logarithm of the sum",
        reduction(FLOATS),
        reduce.log_sum,
        *AXES,
        operations=1,
    ),
    _row(
        "ReduceLogSumExp",
        "Logarithm of the sum of exponentials",
        reduction(FLOATS),
        reduce.log_sum_exp,
        *AXES,
    ),
    _row(
        "LayerNormalization",
        "(x - mean) / sqrt(variance + epsilon) * Scale + B over the axes",
        _layer,
        norm.layer,
        integer("axis", -1, "first normalised axis"),
        _EPSILON,
        names="X Scale B?",
        result="Y Mean? InvStdDev?",
        operations=8,
    ),
    _row(
        "RMSNormalization",
        "x / sqrt(mean of squares + epsilon) * scale over the axes from axis",
        _rms,
        norm.rms,
        integer("axis", -1, "first normalised axis"),
        _EPSILON,
        names="X scale",
    ),
    _row(
        "BatchNormalization",
        "(x - mean) / sqrt(var + epsilon) * scale + B per channel",
        _channels,
        norm.batch,
        _EPSILON,
        names="X scale B input_mean input_var",
        operations=2,
    ),
    _row(
        "InstanceNormalization",
        "Normalises each channel of each item over its positions",
        _instance,
        norm.instance,
        _EPSILON,
        names="input scale B",
        operations=8,
    ),
    _row(
        "GroupNormalization",
        "Normalises groups of channels of each item (ONNX 21)",
        _group,
        norm.group,
        _EPSILON,
        integer("num_groups"),
        names="X scale bias",
        operations=8,
    ),
)
