"""The cells of LSTM, GRU and RNN (ONNX 22), and the decompositions of the layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from accelsdk.graph.decompose.common import whole
from accelsdk.graph.decompose.recurrence import Cell, Direction, States, unroll
from accelsdk.graph.graph import Node
from accelsdk.graph.types import Value

if TYPE_CHECKING:
    from accelsdk.graph.rewrite import Builder

Values = Sequence[Value | None]


def _both_biases(b: Builder, operands: Direction, gates: int) -> Value | None:
    """Emits Wb + Rb, where both are added at once."""
    if operands.bias is None:
        return None
    of_input, of_state = b.split(operands.bias, 0, (gates * operands.hidden,) * 2)
    return b.op("Add", of_input, of_state)


# -- RNN -------------------------------------------------------------------------------------


def rnn(b: Builder, node: Node) -> Values:
    """Ht = f(Xt W' + Ht-1 R' + Wb + Rb)."""
    return unroll(b, node, _rnn_cell, ("Tanh",), (5,))


def _rnn_cell(b: Builder, node: Node, operands: Direction) -> Cell:
    (activation,) = operands.gates

    def step(x: Value, states: States) -> States:
        total = b.op("Add", x, b.op("MatMul", states[0], operands.recurrent))
        return (activation.emit(b, total),)

    return Cell(_both_biases(b, operands, 1), step)


# -- GRU -------------------------------------------------------------------------------------


def gru(b: Builder, node: Node) -> Values:
    """Ht = (1 - z) * h + z * Ht-1, with gates z, r and candidate h."""
    return unroll(b, node, _gru_cell, ("Sigmoid", "Tanh"), (5,))


def _gru_cell(b: Builder, node: Node, operands: Direction) -> Cell:
    size = operands.hidden
    linear = bool(whole(node, "linear_before_reset"))
    gate, candidate = operands.gates
    weights_zr, weights_h = b.split(operands.recurrent, 1, (2 * size, size))
    bias, bias_h = _gru_biases(b, operands, linear)

    def reset_product(h: Value, r: Value) -> Value:
        if not linear:
            return b.op("MatMul", b.op("Mul", r, h), weights_h)
        product = b.op("MatMul", h, weights_h)
        if bias_h is not None:
            product = b.op("Add", product, bias_h)
        return b.op("Mul", r, product)

    def step(x: Value, states: States) -> States:
        h = states[0]
        x_zr, x_h = b.split(x, 1, (2 * size, size))
        total = b.op("Add", x_zr, b.op("MatMul", h, weights_zr))
        z, r = b.split(gate.emit(b, total), 1, (size, size))
        fresh = candidate.emit(b, b.op("Add", x_h, reset_product(h, r)))
        rest = b.op("Sub", b.scalar(1, x.format), z)
        return (b.op("Add", b.op("Mul", rest, fresh), b.op("Mul", z, h)),)

    return Cell(bias, step)


def _gru_biases(b: Builder, operands: Direction, linear: bool) -> tuple[Value | None, Value | None]:
    """Returns what to add to the inputs' products, and Rbh if the reset gate scales it."""
    size = operands.hidden
    if operands.bias is None or not linear:
        return _both_biases(b, operands, 3), None
    w_zr, w_h, r_zr, r_h = b.split(operands.bias, 0, (2 * size, size, 2 * size, size))
    return b.op("Concat", b.op("Add", w_zr, r_zr), w_h, axis=0), r_h


# -- LSTM ------------------------------------------------------------------------------------


def lstm(b: Builder, node: Node) -> Values:
    """Ct = f * Ct-1 + i * c, Ht = o * h(Ct), with gates i, o, f and candidate c."""
    return unroll(b, node, _lstm_cell, ("Sigmoid", "Tanh", "Tanh"), (5, 6))


def _lstm_cell(b: Builder, node: Node, operands: Direction) -> Cell:
    size = operands.hidden
    coupled = bool(whole(node, "input_forget"))
    gate, candidate, squash = operands.gates
    peepholes: tuple[Value | None, ...] = (None, None, None)
    if operands.peepholes is not None:
        peepholes = b.split(operands.peepholes, 0, (size,) * 3)
    peep_i, peep_o, peep_f = peepholes

    def opened(total: Value, peephole: Value | None, cell: Value) -> Value:
        if peephole is not None:
            total = b.op("Add", total, b.op("Mul", peephole, cell))
        return gate.emit(b, total)

    def step(x: Value, states: States) -> States:
        h, cell = states
        total = b.op("Add", x, b.op("MatMul", h, operands.recurrent))
        x_i, x_o, x_f, x_c = b.split(total, 1, (size,) * 4)
        i = opened(x_i, peep_i, cell)
        f = b.op("Sub", b.scalar(1, x.format), i) if coupled else opened(x_f, peep_f, cell)
        fresh = b.op("Mul", i, candidate.emit(b, x_c))
        cell = b.op("Add", b.op("Mul", f, cell), fresh)
        o = opened(x_o, peep_o, cell)
        return b.op("Mul", o, squash.activate(b, cell)), cell

    return Cell(_both_biases(b, operands, 4), step)
