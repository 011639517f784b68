"""DynamicQuantizeLSTM of com.microsoft: an LSTM whose products are integer, step by step.

The input is quantised once, by its own range; the hidden state anew at each step. onnxruntime
quantises the state of the items that one thread handles together, so its results depend on
the number of threads; here, as there with one thread, it is the whole batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from accelsdk.compiler.rules.common import integer, refuse, required, reshaped, text
from accelsdk.compiler.rules.microsoft_common import flat, microsoft, widened_sum
from accelsdk.compiler.rules.qlinear import integer_product
from accelsdk.compiler.rules.quantize import dynamically_quantized
from accelsdk.formats import FLOAT32, INT64
from accelsdk.graph.decompose.common import joined
from accelsdk.graph.decompose.gates import Gate, gates_of
from accelsdk.graph.graph import CORE, Node
from accelsdk.graph.rewrite import Builder, LoweringRule
from accelsdk.graph.types import Value

_DIRECTIONS = {"bidirectional": ("forward", "reverse")}
_ATTRIBUTES = "direction hidden_size activations activation_alpha activation_beta clip input_forget"


@dataclass(frozen=True, slots=True)
class _Weights:
    """Codes [rows, 4 * hidden] with a scale and zero point, per tensor or per column."""

    codes: Value
    scale: Value
    zero: Value

    def product(self, b: Builder, x: tuple[Value, Value, Value]) -> Value:
        """Multiplies quantised rows (codes, scale, zero point) by the weights."""
        acc = integer_product(b, x[0], self.codes, x[2], self.zero)
        return widened_sum(b, acc, b.op("Mul", x[1], self.scale), None)


@dataclass(frozen=True, slots=True)
class _Cell:
    """One direction of the layer; the order of gates is input, output, forget, cell."""

    hidden: int
    recurrent: _Weights
    peepholes: tuple[Value | None, ...]
    gates: tuple[Gate, ...]
    coupled: bool

    def step(self, b: Builder, x: Value, h: Value, cell: Value) -> tuple[Value, Value]:
        """Maps the input's share of the gates, and the states, to the next states."""
        total = b.op("Add", x, self.recurrent.product(b, dynamically_quantized(b, h)))
        x_i, x_o, x_f, x_c = b.split(total, 1, (self.hidden,) * 4)
        peep_i, peep_o, peep_f = self.peepholes
        i = self._opened(b, x_i, peep_i, cell)
        one = b.scalar(1, FLOAT32)
        f = b.op("Sub", one, i) if self.coupled else self._opened(b, x_f, peep_f, cell)
        fresh = b.op("Mul", i, self.gates[1].emit(b, x_c))
        cell = b.op("Add", b.op("Mul", f, cell), fresh)
        o = self._opened(b, x_o, peep_o, cell)
        return b.op("Mul", o, self.gates[2].activate(b, cell)), cell

    def _opened(self, b: Builder, total: Value, peephole: Value | None, cell: Value) -> Value:
        if peephole is not None:
            total = b.op("Add", total, b.op("Mul", peephole, cell))
        return self.gates[0].emit(b, total)


def _lstm(b: Builder, node: Node) -> Sequence[Value | None]:
    x, r = required(node, 0), required(node, 2)
    hidden = integer(node, "hidden_size", r.shape[1])
    if x.type.rank != 3 or r.shape[1:] != (hidden, 4 * hidden):
        refuse(node, f"X {x.shape} or R {r.shape} does not fit hidden_size {hidden}")
    if x.shape[0] == 0:
        refuse(node, "its sequence is empty")
    way = text(node, "direction", "forward", ("forward", "reverse", "bidirectional"))
    ways = _DIRECTIONS.get(way, (way,))
    codes = dynamically_quantized(b, x)
    lengths = node.operand(4)
    known = b.known(lengths)
    if known is not None and bool(np.all(np.asarray(known, np.int64) >= x.shape[0])):
        lengths = None
    sequences, hiddens, cells = [], [], []
    for at, name in enumerate(ways):
        weights = _weights(b, node, (1, 8, 9), at, len(ways))
        bias = _bias(b, node, at, len(ways))
        inputs = weights.product(b, codes)
        inputs = inputs if bias is None else b.op("Add", inputs, bias)
        states = tuple(_initial(b, node, index, at, len(ways)) for index in (5, 6))
        cell = _cell(b, node, at, len(ways))
        y, h, c = _run(b, inputs, cell, (states[0], states[1]), lengths, name == "reverse")
        sequences.append(y)
        hiddens.append(reshaped(b, h, (1, *h.shape)))
        cells.append(reshaped(b, c, (1, *c.shape)))
    return [joined(b, sequences, 1), joined(b, hiddens, 0), joined(b, cells, 0)]


def _run(
    b: Builder,
    inputs: Value,
    cell: _Cell,
    states: tuple[Value, Value],
    lengths: Value | None,
    reverse: bool,
) -> tuple[Value, Value, Value]:
    """Emits one direction; returns its outputs [time, 1, batch, hidden] and last states.

    Which states are quantised together: items that have ended count as 0, as in onnxruntime;
    backwards, each item starts at its own end, and all start together.
    """
    steps, batch = inputs.shape[:2]
    if reverse:
        inputs = _reversed(b, inputs, lengths)
    shares = b.split(inputs, 0, (1,) * steps)
    zero = b.scalar(0, FLOAT32)
    h, c = states
    seen = h
    outputs = [zero] * steps
    for t in range(steps):
        share = reshaped(b, shares[t], inputs.shape[1:])
        new_h, new_c = cell.step(b, share, seen, c)
        y = new_h
        if lengths is not None:
            column = reshaped(b, lengths, (batch, 1))
            alive = b.op("Greater", column, b.scalar(t, lengths.format))
            y = b.op("Where", alive, new_h, zero)
            new_h, new_c = b.op("Where", alive, new_h, h), b.op("Where", alive, new_c, c)
        h, c, seen = new_h, new_c, y
        outputs[t] = reshaped(b, y, (1, batch, cell.hidden))
    sequence = joined(b, outputs, 0)
    if reverse:
        sequence = _reversed(b, sequence, lengths)
    return reshaped(b, sequence, (steps, 1, batch, cell.hidden)), h, c


def _reversed(b: Builder, x: Value, lengths: Value | None) -> Value:
    """Each item's own steps of [time, batch, size] in reverse; those past its end stay."""
    steps, batch, _ = x.shape
    forward = b.constant(np.arange(steps, dtype=np.int64).reshape(steps, 1))
    if lengths is None:
        return b.op("Gather", x, b.constant(np.arange(steps)[::-1].astype(np.int64)), axis=0)
    ends = reshaped(b, b.op("Cast", lengths, to=INT64.name), (1, batch))
    back = b.op("Sub", b.op("Sub", ends, b.scalar(1, INT64)), forward)
    own = b.op("Where", b.op("Less", back, b.scalar(0, INT64)), forward, back)
    every = b.op("Expand", reshaped(b, own, (steps, batch, 1)), shape=x.shape)
    return b.op("GatherElements", x, every, axis=0)


def _cell(b: Builder, node: Node, at: int, count: int) -> _Cell:
    hidden, peepholes = required(node, 2).shape[1], node.operand(7)
    parts: tuple[Value | None, ...] = (None, None, None)
    if peepholes is not None:
        parts = b.split(_own(b, peepholes, at, count), 0, (hidden,) * 3)
    layer = replace(node, op="LSTM", domain=CORE)
    return _Cell(
        hidden=hidden,
        recurrent=_weights(b, node, (2, 10, 11), at, count),
        peepholes=parts,
        gates=gates_of(layer, ("Sigmoid", "Tanh", "Tanh"), at),
        coupled=bool(integer(node, "input_forget", 0)),
    )


def _weights(
    b: Builder, node: Node, indices: tuple[int, int, int], at: int, count: int
) -> _Weights:
    codes, scale, zero = (_own(b, required(node, index), at, count) for index in indices)
    return _Weights(codes, flat(b, scale), flat(b, zero))


def _bias(b: Builder, node: Node, at: int, count: int) -> Value | None:
    """Wb + Rb, or None."""
    given = node.operand(3)
    if given is None:
        return None
    own = _own(b, given, at, count)
    return b.op("Add", *b.split(own, 0, (own.shape[0] // 2,) * 2))


def _initial(b: Builder, node: Node, index: int, at: int, count: int) -> Value:
    given, batch = node.operand(index), required(node, 0).shape[1]
    if given is not None:
        return _own(b, given, at, count)
    return b.op("Expand", b.scalar(0, FLOAT32), shape=(batch, required(node, 2).shape[1]))


def _own(b: Builder, value: Value, at: int, count: int) -> Value:
    """The part of one direction; directions lie along the first axis."""
    return reshaped(b, b.split(value, 0, (1,) * count)[at], value.shape[1:])


RULES: tuple[LoweringRule, ...] = (microsoft("DynamicQuantizeLSTM", _lstm, _ATTRIBUTES),)
