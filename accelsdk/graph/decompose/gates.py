"""The activations of recurrent cells, with their parameters and clipping."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from accelsdk.graph.decompose.common import floating, given
from accelsdk.graph.graph import Node
from accelsdk.graph.types import Value

if TYPE_CHECKING:
    from accelsdk.graph.rewrite import Builder

#: Default alpha and beta of the activations that take them (ONNX, operator LSTM; Affine and
#: ScaledTanh have none there: the identity and tanh).
_PARAMETERS: dict[str, tuple[float, float | None]] = {
    "Affine": (1.0, 0.0),
    "LeakyRelu": (0.01, None),
    "ThresholdedRelu": (1.0, None),
    "ScaledTanh": (1.0, 1.0),
    "HardSigmoid": (0.2, 0.5),
    "Elu": (1.0, None),
}


@dataclass(frozen=True, slots=True)
class Gate:
    """One activation of a cell.

    Attributes:
        name: Its ONNX name.
        alpha: First parameter, if it takes one.
        beta: Second parameter, if it takes one.
        clip: Inputs are limited to [-clip, clip]; 0: they are not.
    """

    name: str
    alpha: float = 0.0
    beta: float = 0.0
    clip: float = 0.0

    def emit(self, b: Builder, x: Value) -> Value:
        """Emits the clipped activation of ``x``."""
        if self.clip:
            limit = b.scalar(self.clip, x.format)
            x = b.op("Clip", x, b.scalar(-self.clip, x.format), limit)
        return self.activate(b, x)

    def activate(self, b: Builder, x: Value) -> Value:
        """Emits the activation of ``x``, not clipped."""
        alpha, beta = self.alpha, self.beta
        match self.name:
            case "Affine":
                line = b.op("Mul", x, b.scalar(alpha, x.format))
                return b.op("Add", line, b.scalar(beta, x.format))
            case "ScaledTanh":
                inner = b.op("Tanh", b.op("Mul", x, b.scalar(beta, x.format)))
                return b.op("Mul", inner, b.scalar(alpha, x.format))
            case "HardSigmoid":
                return b.op("HardSigmoid", x, alpha=alpha, beta=beta)
            case "LeakyRelu" | "ThresholdedRelu" | "Elu":
                return b.op(self.name, x, alpha=alpha)
            case _:
                return b.op(self.name, x)


def gates_of(node: Node, defaults: Sequence[str], direction: int) -> tuple[Gate, ...]:
    """Returns the activations of one direction of a recurrent layer.

    ``activation_alpha`` and ``activation_beta`` hold one value for each activation that
    takes one, over all directions in order; those left out take the activation's default.
    """
    names = cast("tuple[str, ...]", given(node, "activations"))
    names = names or tuple(defaults) * (direction + 1)
    alphas = iter(cast("tuple[float, ...]", given(node, "activation_alpha")))
    betas = iter(cast("tuple[float, ...]", given(node, "activation_beta")))
    clip = floating(node, "clip")
    gates = [_gate(name, alphas, betas, clip) for name in names]
    return tuple(gates[direction * len(defaults) : (direction + 1) * len(defaults)])


def parameters(node: Node) -> tuple[list[float], list[float]]:
    """Returns alphas and betas of a layer's named activations, defaults filled in."""
    names = cast("tuple[str, ...]", given(node, "activations"))
    gates = [gate for gate in gates_of(node, names, 0) if gate.name in _PARAMETERS]
    betas = [gate.beta for gate in gates if _PARAMETERS[gate.name][1] is not None]
    return [gate.alpha for gate in gates], betas


def _gate(name: str, alphas: Iterator[float], betas: Iterator[float], clip: float) -> Gate:
    if name not in _PARAMETERS:
        return Gate(name, clip=clip)
    alpha, beta = _PARAMETERS[name]
    alpha = next(alphas, alpha)
    beta = next(betas, beta) if beta is not None else 0.0
    return Gate(name, alpha, beta, clip)
