"""LSTM, GRU and RNN: one matrix product for all inputs, then a loop over time.

Products run in the operands' precision (float32 at least); the cell itself, which is cheap
beside them, is computed in float64, so that its functions and states are rounded once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.graph.decompose.gates import Gate, gates_of
from accelsdk.graph.graph import Node
from accelsdk.kernels import activation, functions
from accelsdk.kernels.functions import BlockFunction, Float64
from accelsdk.kernels.kernel import Binder, Binders, Kernel, integer, shape_of, text

Array = NDArray[Any]
States = tuple[Float64, ...]
#: Maps the input's share of the gates, [batch, gates * hidden], and the states to new states.
Step = Callable[[Float64, States], States]


@dataclass(frozen=True, slots=True, kw_only=True)
class Direction:
    """The weights of one direction, in the precision that products run in.

    Attributes:
        recurrent: R transposed: [hidden, gates * hidden].
        of_input: Wb, [gates * hidden].
        of_state: Rb, [gates * hidden].
        peepholes: P as [3, hidden], or None.
    """

    recurrent: Array
    of_input: Float64
    of_state: Float64
    peepholes: Float64 | None


#: Makes the step of one direction, and the bias that all inputs' products get at once.
Cell = Callable[[Direction, Sequence[BlockFunction]], tuple[Float64, Step]]


def _affine(alpha: float, beta: float) -> BlockFunction:
    return lambda x: x * alpha + beta


def _scaled_tanh(alpha: float, beta: float) -> BlockFunction:
    return lambda x: alpha * np.tanh(beta * x)


def _function(gate: Gate, clipped: bool) -> BlockFunction:
    """Returns an activation that may overwrite its operand."""
    alpha, beta = gate.alpha, gate.beta
    makers: dict[str, Callable[[], BlockFunction]] = {
        "Relu": lambda: activation.relu,
        "Tanh": lambda: lambda x: np.tanh(x, out=x),
        "Sigmoid": lambda: functions.sigmoid,
        "Affine": lambda: _affine(alpha, beta),
        "LeakyRelu": lambda: activation.leaky_relu(alpha),
        "ThresholdedRelu": lambda: activation.thresholded_relu(alpha),
        "ScaledTanh": lambda: _scaled_tanh(alpha, beta),
        "HardSigmoid": lambda: activation.hard_sigmoid(alpha, beta),
        "Elu": lambda: activation.elu(alpha),
        "Softsign": lambda: activation.softsign,
        "Softplus": lambda: functions.softplus,
    }
    function, limit = makers[gate.name](), gate.clip
    if not (clipped and limit):
        return function
    return lambda x: function(np.clip(x, -limit, limit, out=x))


def _product(h: Float64, weights: Array) -> Array:
    return np.asarray(np.matmul(h.astype(weights.dtype, copy=False), weights))


# -- cells -----------------------------------------------------------------------------------


def _rnn(_node: Node) -> Cell:
    def cell(own: Direction, gates: Sequence[BlockFunction]) -> tuple[Float64, Step]:
        def step(x: Float64, states: States) -> States:
            return (gates[0](x + _product(states[0], own.recurrent)),)

        return own.of_input + own.of_state, step

    return cell


def _gru(node: Node) -> Cell:
    hidden, linear = integer(node, "hidden_size"), bool(integer(node, "linear_before_reset"))

    def cell(own: Direction, gates: Sequence[BlockFunction]) -> tuple[Float64, Step]:
        both, bias = 2 * hidden, own.of_input + own.of_state
        state_bias = own.of_state[both:]
        if linear:
            bias = np.concatenate([bias[:both], own.of_input[both:]])
        weights_zr, weights_h = own.recurrent[:, :both], own.recurrent[:, both:]

        def step(x: Float64, states: States) -> States:
            h = states[0]
            zr = gates[0](x[:, :both] + _product(h, weights_zr))
            z, r = zr[:, :hidden], zr[:, hidden:]
            if linear:
                product = r * (_product(h, weights_h) + state_bias)
            else:
                product = _product(r * h, weights_h)
            fresh = gates[1](x[:, both:] + product)
            return (fresh + z * (h - fresh),)

        return bias, step

    return cell


def _lstm(node: Node) -> Cell:
    hidden, coupled = integer(node, "hidden_size"), bool(integer(node, "input_forget"))

    def cell(own: Direction, gates: Sequence[BlockFunction]) -> tuple[Float64, Step]:
        gate, candidate, squash = gates
        peep = own.peepholes
        i, o, f, c = (slice(k * hidden, (k + 1) * hidden) for k in range(4))

        def step(x: Float64, states: States) -> States:
            h, state = states
            total = x + _product(h, own.recurrent)
            if peep is None and not coupled:
                gate_values = gate(total[:, : 3 * hidden])
                forget, entry = gate_values[:, f], gate_values[:, i]
                state = forget * state + entry * candidate(total[:, c])
                return gate_values[:, o] * squash(state.copy()), state
            peep_i, peep_o, peep_f = (0.0, 0.0, 0.0) if peep is None else peep
            entry = gate(total[:, i] + peep_i * state)
            forget = 1.0 - entry if coupled else gate(total[:, f] + peep_f * state)
            state = forget * state + entry * candidate(total[:, c])
            return gate(total[:, o] + peep_o * state) * squash(state.copy()), state

        return own.of_input + own.of_state, step

    return cell


# -- the layer -------------------------------------------------------------------------------


def _recurrent(make: Callable[[Node], Cell], defaults: Sequence[str], states: int) -> Binder:
    def bind(node: Node) -> Kernel:
        batch_first = bool(integer(node, "layout"))
        hidden = integer(node, "hidden_size")
        both = {"bidirectional": ("forward", "reverse")}
        names = both.get(text(node, "direction"), (text(node, "direction"),))
        gates = [
            # The last activation of an LSTM, on the cell state, is not clipped.
            [_function(g, k < 2) for k, g in enumerate(gates_of(node, defaults, d))]
            for d in range(len(names))
        ]
        cell = make(node)
        shape = shape_of(node, 0)
        batch = shape[0] if batch_first else shape[1]
        results = len(node.outputs)

        def layer(
            x: Array,
            w: Array,
            r: Array,
            b: Array | None = None,
            lengths: Array | None = None,
            h: Array | None = None,
            c: Array | None = None,
            p: Array | None = None,
        ) -> tuple[Array, ...]:
            dtype = x.dtype
            x, w, r = (v if v.dtype.itemsize >= 4 else v.astype(np.float32) for v in (x, w, r))
            x = x.swapaxes(0, 1) if batch_first else x
            outputs = np.zeros((x.shape[0], len(names), batch, hidden), dtype)
            finals = np.empty((states, len(names), batch, hidden), dtype)
            for d, name in enumerate(names):
                bias = np.zeros(2 * w.shape[1]) if b is None else b[d].astype(np.float64)
                own = Direction(
                    recurrent=r[d].T,
                    of_input=bias[: w.shape[1]],
                    of_state=bias[w.shape[1] :],
                    peepholes=None if p is None else p[d].astype(np.float64).reshape(3, hidden),
                )
                input_bias, step = cell(own, gates[d])
                start = tuple(
                    _initial(given, d, batch_first, (batch, hidden)) for given in (h, c)[:states]
                )
                rows = np.matmul(x.reshape(-1, x.shape[2]), w[d].T).astype(np.float64)
                shares = (rows + input_bias).reshape(*x.shape[:2], w.shape[1])
                last = _loop(shares, step, start, lengths, name == "reverse", outputs[:, d])
                for k, state in enumerate(last):
                    finals[k, d] = state
            if batch_first:
                outputs, finals = outputs.transpose(2, 0, 1, 3), finals.swapaxes(1, 2)
            return (outputs, *finals)[:results]

        return layer

    return bind


def _initial(
    given: Array | None, direction: int, batch_first: bool, shape: tuple[int, int]
) -> Float64:
    if given is None:
        return np.zeros(shape)
    own = given[:, direction] if batch_first else given[direction]
    return own.astype(np.float64)


def _loop(
    shares: Float64,
    step: Step,
    states: States,
    lengths: Array | None,
    reverse: bool,
    outputs: Array,
) -> States:
    """Runs one direction over time; items past their length keep their state, and give 0."""
    count = len(shares)
    if lengths is not None and bool(np.all(lengths >= count)):
        lengths = None
    for t in reversed(range(count)) if reverse else range(count):
        fresh = step(shares[t], states)
        if lengths is None:
            outputs[t] = fresh[0]
            states = fresh
            continue
        there = (lengths > t)[:, None]
        outputs[t] = np.where(there, fresh[0], 0.0)
        states = tuple(np.where(there, new, old) for new, old in zip(fresh, states, strict=True))
    return states


BINDERS: Binders = {
    "RNN": _recurrent(_rnn, ("Tanh",), 1),
    "GRU": _recurrent(_gru, ("Sigmoid", "Tanh"), 1),
    "LSTM": _recurrent(_lstm, ("Sigmoid", "Tanh", "Tanh"), 2),
}
