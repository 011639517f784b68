"""Activations: elementwise composites that a backend may keep whole."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from accelsdk.graph.decompose import activation as decompose
from accelsdk.graph.families.elementwise import unary
from accelsdk.graph.families.sets import FLOATS, NUMBERS, SIGNED
from accelsdk.graph.opdef import (
    AttributeDef,
    Call,
    Decomposition,
    Family,
    InferRule,
    NumericsClass,
    OpDef,
    choice,
    operands,
    per_result,
    real,
    results,
)
from accelsdk.graph.types import TensorType

# ONNX's attributes are float32, and so are their defaults; it shows with float64 operands.
_LEAKY_ALPHA, _HARD_ALPHA = (float(np.float32(x)) for x in (0.01, 0.2))
_SELU_ALPHA, _SELU_GAMMA = (float(np.float32(x)) for x in (1.6732632423543772, 1.0507009873554805))


def _prelu(call: Call) -> Sequence[TensorType]:
    x, slope = call.operand(0), call.operand(1)
    call.among(x, (*FLOATS, *SIGNED))
    call.same_format(x, slope)
    # ONNX broadcasts the slope one way only.
    call.check(
        call.broadcast(x.shape, slope.shape) == x.shape,
        "broadcast",
        f"slope {slope} does not broadcast to {x}",
    )
    return (x,)


def _clip(call: Call) -> Sequence[TensorType]:
    x = call.operand(0)
    call.among(x, NUMBERS)
    for index, what in ((1, "min"), (2, "max")):
        call.same_format(x, call.optional(index))
        call.has_shape(call.optional(index), (), what)
    return (x,)


def _row(
    name: str,
    help: str,
    decomposition: Decomposition,
    *attributes: AttributeDef,
    names: str = "X",
    infer: InferRule | None = None,
    operations: int = 4,
    formats: str = "floats",
) -> OpDef:
    return OpDef(
        name=name,
        family=Family.ACTIVATION,
        help=help,
        operands=operands(names),
        results=results("Y"),
        attributes=attributes,
        infer=infer or unary(FLOATS),
        numerics=NumericsClass.COMPOSITE,
        work=per_result(operations),
        decompose=decomposition,
        formats=formats,
    )


ROWS: tuple[OpDef, ...] = (
    _row(
        "Relu",
        "max(x, 0)",
        decompose.relu,
        infer=unary((*FLOATS, *SIGNED)),
        operations=1,
        formats="floats, signed integers",
    ),
    _row("LeakyRelu", "x, or alpha*x below 0", decompose.leaky_relu, real("alpha", _LEAKY_ALPHA)),
    _row(
        "PRelu",
        "x, or slope*x below 0; slope broadcasts to x",
        decompose.prelu,
        names="X slope",
        infer=_prelu,
        formats="floats, signed integers",
    ),
    _row("Elu", "x, or alpha*(exp(x)-1) below 0", decompose.elu, real("alpha", 1.0)),
    _row(
        "Selu",
        "gamma * (x, or alpha*(exp(x)-1) at and below 0)",
        decompose.selu,
        real("alpha", _SELU_ALPHA),
        real("gamma", _SELU_GAMMA),
    ),
    _row(
        "Celu",
        "max(0,x) + min(0, alpha*(exp(x/alpha)-1))",
        decompose.celu,
        real("alpha", 1.0),
    ),
    _row(
        "HardSigmoid",
        "max(0, min(1, alpha*x + beta))",
        decompose.hard_sigmoid,
        real("alpha", _HARD_ALPHA),
        real("beta", 0.5),
    ),
    _row("HardSwish", "x * max(0, min(1, x/6 + 1/2))", decompose.hard_swish),
    _row("Softplus", "log(1 + exp(x))", decompose.softplus),
    _row("Softsign", "x / (1 + |x|)", decompose.softsign),
    _row("Mish", "x * tanh(softplus(x))", decompose.mish),
    _row(
        "ThresholdedRelu", "x above alpha, else 0", decompose.thresholded_relu, real("alpha", 1.0)
    ),
    _row("Swish", "x * sigmoid(alpha*x)", decompose.swish, real("alpha", 1.0)),
    _row(
        "Gelu",
        "x/2 * (1 + erf(x/sqrt(2))), or its tanh approximation",
        decompose.gelu,
        choice("approximate", ("none", "tanh"), "none"),
        operations=8,
    ),
    _row(
        "Clip",
        "min(max(x, min), max); a scalar limit left out does not limit",
        decompose.clip,
        names="input min? max?",
        infer=_clip,
        operations=2,
        formats="floats, integers",
    ),
)
