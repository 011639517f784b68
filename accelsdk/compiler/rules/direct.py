"""Ops that the core table has under the same name, with the same operands and attributes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from accelsdk.compiler.rules.common import Rewrite, axis_of, integer, ops, required, rule
from accelsdk.graph.graph import Node
from accelsdk.graph.rewrite import Builder, LoweringRule
from accelsdk.graph.types import Value

_PLAIN = """
    Abs Neg Sign Floor Ceil Round Sqrt Reciprocal Exp Log Sin Cos Tan Asin Acos Atan Sinh Cosh
    Asinh Acosh Atanh Tanh Sigmoid Erf Not BitwiseNot IsNaN Add Sub Mul Div Pow And Or Xor Equal
    Less LessOrEqual Greater GreaterOrEqual BitwiseAnd BitwiseOr BitwiseXor Where MatMul
    Relu PRelu HardSwish Softplus Softsign Mish
"""

#: Ops whose attributes carry over as they are.
_WITH_ATTRIBUTES: Mapping[str, str] = {
    "IsInf": "detect_negative detect_positive",
    "LeakyRelu": "alpha",
    "Elu": "alpha",
    "Selu": "alpha gamma",
    "Celu": "alpha",
    "HardSigmoid": "alpha beta",
    "ThresholdedRelu": "alpha",
    "Swish": "alpha",
    "Gelu": "approximate",
    "Gemm": "alpha beta transA transB",
    "ScatterND": "reduction",
    "GatherND": "batch_dims",
}

#: Ops that also have an axis, made non-negative here: its default.
_WITH_AXIS: Mapping[str, tuple[int, str]] = {
    "Gather": (0, ""),
    "GatherElements": (0, ""),
    "ScatterElements": (0, "reduction"),
    "ArgMax": (0, "keepdims select_last_index"),
    "ArgMin": (0, "keepdims select_last_index"),
}


def _same(*names: str) -> Rewrite:
    def rewrite(b: Builder, node: Node) -> Sequence[Value | None]:
        carried = {name: node.attributes[name] for name in names if name in node.attributes}
        return ops(b, node.op, *node.inputs, outputs=1, **carried)

    return rewrite


def _same_with_axis(default: int, *names: str) -> Rewrite:
    def rewrite(b: Builder, node: Node) -> Sequence[Value | None]:
        carried = {name: node.attributes[name] for name in names if name in node.attributes}
        rank = required(node, 0).type.rank
        axis = axis_of(node, integer(node, "axis", default), rank)
        return ops(b, node.op, *node.inputs, outputs=1, axis=axis, **carried)

    return rewrite


RULES: tuple[LoweringRule, ...] = (
    *(rule(name, _same()) for name in _PLAIN.split()),
    *(rule(name, _same(*a.split()), a) for name, a in _WITH_ATTRIBUTES.items()),
    *(
        rule(name, _same_with_axis(axis, *a.split()), f"axis {a}")
        for name, (axis, a) in _WITH_AXIS.items()
    ),
)
