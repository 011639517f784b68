"""Float ops of com.microsoft that onnxruntime's optimiser fuses from several of ai.onnx."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from accelsdk.compiler.rules import conv
from accelsdk.compiler.rules.common import integer, real, refuse, required, text
from accelsdk.compiler.rules.microsoft_common import microsoft, same_as, transposed
from accelsdk.compiler.rules.windows import NAMES
from accelsdk.graph.graph import Node
from accelsdk.graph.rewrite import Builder, LoweringRule
from accelsdk.graph.types import Value

_PLAIN = ("Relu", "Tanh", "Sigmoid", "Softplus", "Softsign")


def _gelu(b: Builder, node: Node) -> Sequence[Value | None]:
    return [b.op("Gelu", required(node, 0))]


def _bias_gelu(b: Builder, node: Node) -> Sequence[Value | None]:
    return [b.op("Gelu", b.op("Add", required(node, 0), required(node, 1)))]


def _fast_gelu(b: Builder, node: Node) -> Sequence[Value | None]:
    """Gelu by tanh, of X + bias."""
    x, bias = required(node, 0), node.operand(1)
    total = x if bias is None else b.op("Add", x, bias)
    return [b.op("Gelu", total, approximate="tanh")]


def _quick_gelu(b: Builder, node: Node) -> Sequence[Value | None]:
    """X * sigmoid(alpha * X)."""
    return [b.op("Swish", required(node, 0), alpha=real(node, "alpha", 1.702))]


def _activated(b: Builder, node: Node, x: Value, parameters: Sequence[float]) -> Value:
    """Applies a node's `activation`, an op of ai.onnx, with its parameters in ONNX's order."""
    name = text(node, "activation", "")
    alpha, beta = (*parameters, 0.0, 0.0)[:2]
    if name == "":
        return x
    if name in _PLAIN:
        return b.op(name, x)
    match name, len(parameters):
        case "LeakyRelu", 1 | 2 | 3:
            return b.op(name, x, alpha=alpha)
        case "Elu" | "ThresholdedRelu" | "Celu", 1 | 2 | 3:
            return b.op(name, x, alpha=alpha)
        case "HardSigmoid", 2 | 3:
            return b.op(name, x, alpha=alpha, beta=beta)
        case "Clip", 2 | 3:
            return b.op(name, x, b.scalar(alpha, x.format), b.scalar(beta, x.format))
    refuse(node, f"activation {name!r} with parameters {tuple(parameters)} is not supported")


def _conv(b: Builder, node: Node) -> Sequence[Value | None]:
    """activation(Conv(X, W, B) + Z)."""
    own = ("activation", "activation_params")
    kept = {name: value for name, value in node.attributes.items() if name not in own}
    inner = replace(node, op="Conv", inputs=node.inputs[:3], attributes=kept)
    (y, *_) = same_as(conv.RULES, "Conv")(b, inner)
    if y is None:
        refuse(node, "it makes no result")
    extra, given = node.operand(3), node.attributes.get("activation_params", ())
    if extra is not None and extra.shape != y.shape:
        refuse(node, f"its addend Z {extra.shape} has another shape than the result {y.shape}")
    if extra is not None:
        y = b.op("Add", y, extra)
    parameters = (
        [float(p) for p in given if isinstance(p, float)] if isinstance(given, tuple) else []
    )
    return [_activated(b, node, y, parameters)]


def _gemm(b: Builder, node: Node) -> Sequence[Value | None]:
    """activation(Gemm(A, B, C))."""
    y = b.op(
        "Gemm",
        *node.inputs,
        alpha=real(node, "alpha", 1.0),
        beta=real(node, "beta", 1.0),
        transA=integer(node, "transA", 0),
        transB=integer(node, "transB", 0),
    )
    names = ("activation_alpha", "activation_beta", "activation_gamma")
    return [_activated(b, node, y, [real(node, n, 0.0) for n in names])]


def _matmul(b: Builder, node: Node) -> Sequence[Value | None]:
    """Matrix product times alpha; `transBatchA` moves the first axis to where the rows are."""
    a, w = (
        _turned(b, required(node, at), integer(node, f"trans{s}", 0), _batch(node, s))
        for at, s in enumerate("AB")
    )
    y, alpha = b.op("MatMul", a, w), real(node, "alpha", 1.0)
    return [y if alpha == 1.0 else b.op("Mul", y, b.scalar(alpha, y.format))]


def _batch(node: Node, side: str) -> int:
    return integer(node, f"transBatch{side}", 0)


def _turned(b: Builder, x: Value, swap: int, batch: int) -> Value:
    """[..., M, K] from an operand that is stored with other axes first."""
    rank = x.type.rank
    if rank < 2:
        return x  # a vector has nothing to transpose
    axes = list(range(rank))
    if batch:
        # Stored [M, batch..., K] (or [K, batch..., M]): the first axis goes behind the batch.
        axes = [*axes[1:-1], axes[0], axes[-1]]
    if swap:
        axes[-2:] = reversed(axes[-2:])
    return transposed(b, x, axes)


_ACTIVATION = "activation activation_alpha activation_beta activation_gamma"
_SIDES = "alpha transA transB"
RULES: tuple[LoweringRule, ...] = (
    microsoft("Gelu", _gelu),
    microsoft("BiasGelu", _bias_gelu),
    microsoft("FastGelu", _fast_gelu),
    microsoft("QuickGelu", _quick_gelu, "alpha"),
    microsoft("FusedConv", _conv, f"{NAMES} group activation activation_params"),
    microsoft("FusedGemm", _gemm, f"{_SIDES} beta {_ACTIVATION}"),
    microsoft("FusedMatMul", _matmul, f"{_SIDES} transBatchA transBatchB"),
    microsoft("TransposeMatMul", _matmul, _SIDES),
)
