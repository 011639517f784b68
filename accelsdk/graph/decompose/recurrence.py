"""Unrolling a recurrent layer over its time steps, whatever its cell.

The products of all inputs with W are one MatMul; each step then adds its product with R.
A batch item whose sequence is shorter than the time axis keeps its state beyond the end, in
either direction, and its outputs there are 0: so a reverse direction starts at the item's
own last step, as ONNX wants it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from accelsdk.graph.decompose.common import joined, reshape, text, transpose, whole
from accelsdk.graph.decompose.gates import Gate, gates_of
from accelsdk.graph.graph import Node
from accelsdk.graph.opdef import required
from accelsdk.graph.types import Value

if TYPE_CHECKING:
    from accelsdk.graph.rewrite import Builder

Values = Sequence[Value | None]
States = tuple[Value, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Direction:
    """The operands of one direction of a layer.

    Attributes:
        hidden: Hidden size.
        weights: W transposed: [input, gates * hidden].
        recurrent: R transposed: [hidden, gates * hidden].
        bias: B, [biases * hidden], or None.
        peepholes: P, [3 * hidden], or None.
        gates: Its activations.
    """

    hidden: int
    weights: Value
    recurrent: Value
    bias: Value | None
    peepholes: Value | None
    gates: tuple[Gate, ...]


@dataclass(frozen=True, slots=True)
class Cell:
    """What a kind of recurrent layer does in one direction.

    Attributes:
        input_bias: What is added to all products of inputs and W, or None.
        step: Maps the input's share of the gates, [batch, gates * hidden], and the states
            to the next states; the first state is the output.
    """

    input_bias: Value | None
    step: Callable[[Value, States], States]


MakeCell = Callable[["Builder", Node, Direction], Cell]


def unroll(
    b: Builder, node: Node, make_cell: MakeCell, activations: Sequence[str], states: Sequence[int]
) -> Values:
    """Emits a recurrent layer.

    Args:
        b: Where to.
        node: An LSTM, GRU or RNN.
        make_cell: Its kind of cell.
        activations: Default activations of one direction.
        states: Operand index of each initial state.

    Returns:
        Y, then the last value of each state.
    """
    batch_first = bool(whole(node, "layout"))
    x = required(node, 0)
    if batch_first:
        x = transpose(b, x, 1, 0, 2)
    names = {"bidirectional": ("forward", "reverse")}
    directions = names.get(text(node, "direction"), (text(node, "direction"),))
    masks = _masks(b, node.operand(4), x.shape[0])
    initial = [_initial(b, node, index, x, len(directions)) for index in states]
    sequences: list[Value] = []
    finals: list[States] = []
    for index, name in enumerate(directions):
        operands = _direction(b, node, index, len(directions), activations)
        cell = make_cell(b, node, operands)
        own = tuple(state[index] for state in initial)
        y, last = _run(b, x, operands, cell, own, masks, name == "reverse")
        sequences.append(y)
        finals.append(last)
    return _results(b, sequences, finals, batch_first)


def _direction(
    b: Builder, node: Node, index: int, count: int, activations: Sequence[str]
) -> Direction:
    def part(given: Value) -> Value:
        piece = b.split(given, 0, (1,) * count)[index]
        return reshape(b, piece, *piece.shape[1:])

    w, r = part(required(node, 1)), part(required(node, 2))
    bias, peepholes = node.operand(3), node.operand(7)
    return Direction(
        hidden=r.shape[1],
        weights=transpose(b, w, 1, 0),
        recurrent=transpose(b, r, 1, 0),
        bias=None if bias is None else part(bias),
        peepholes=None if peepholes is None else part(peepholes),
        gates=gates_of(node, activations, index),
    )


def _initial(b: Builder, node: Node, operand: int, x: Value, count: int) -> list[Value]:
    """Returns the initial value of one state, [batch, hidden], of every direction."""
    batch, hidden = x.shape[1], whole(node, "hidden_size")
    given = node.operand(operand)
    if given is None:
        zero = b.op("Expand", b.scalar(0, x.format), shape=(batch, hidden))
        return [zero] * count
    axis = 1 if whole(node, "layout") else 0
    return [reshape(b, part, batch, hidden) for part in b.split(given, axis, (1,) * count)]


def _masks(b: Builder, lengths: Value | None, steps: int) -> list[Value] | None:
    """Returns for each step which batch items still have input there; None if all have."""
    known = b.known(lengths)
    if lengths is None or (
        known is not None and bool(np.all(np.asarray(known, np.int64) >= steps))
    ):
        return None
    column = reshape(b, lengths, lengths.shape[0], 1)
    return [b.op("Greater", column, b.scalar(t, lengths.format)) for t in range(steps)]


def _run(
    b: Builder,
    x: Value,
    operands: Direction,
    cell: Cell,
    states: States,
    masks: list[Value] | None,
    reverse: bool,
) -> tuple[Value, States]:
    """Emits one direction; returns its outputs [time, 1, batch, hidden] and last states."""
    steps, batch, hidden = x.shape[0], x.shape[1], operands.hidden
    zero = b.scalar(0, x.format)
    if steps == 0:
        return b.op("Expand", zero, shape=(0, 1, batch, hidden)), states
    products = b.op("MatMul", x, operands.weights)
    if cell.input_bias is not None:
        products = b.op("Add", products, cell.input_bias)
    inputs = b.split(products, 0, (1,) * steps)
    outputs: list[Value] = [zero] * steps
    for t in reversed(range(steps)) if reverse else range(steps):
        fresh = cell.step(reshape(b, inputs[t], *products.shape[1:]), states)
        y = fresh[0]
        if masks is not None:
            pairs = zip(fresh, states, strict=True)
            fresh = tuple(b.op("Where", masks[t], new, old) for new, old in pairs)
            y = b.op("Where", masks[t], y, zero)
        states = fresh
        outputs[t] = reshape(b, y, 1, 1, batch, hidden)
    return joined(b, outputs, 0), states


def _results(
    b: Builder, sequences: list[Value], finals: list[States], batch_first: bool
) -> list[Value]:
    y = joined(b, sequences, 1)
    last = []
    for state in zip(*finals, strict=True):
        parts = [reshape(b, part, 1, *part.shape) for part in state]
        last.append(joined(b, parts, 0))
    if not batch_first:
        return [y, *last]
    return [transpose(b, y, 2, 0, 1, 3), *(transpose(b, state, 1, 0, 2) for state in last)]
