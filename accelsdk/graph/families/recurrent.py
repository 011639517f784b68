"""Recurrent layers: LSTM, GRU and RNN as ONNX defines them."""

from __future__ import annotations

from collections.abc import Sequence

from accelsdk.formats import INT32
from accelsdk.graph.decompose import cells
from accelsdk.graph.families.sets import FLOATS
from accelsdk.graph.graph import Node
from accelsdk.graph.opdef import (
    AttributeDef,
    Call,
    Decomposition,
    Family,
    InferRule,
    NumericsClass,
    OpDef,
    Work,
    choice,
    flag,
    integer,
    operands,
    real,
    reals,
    required,
    results,
    strings,
    traffic,
)
from accelsdk.graph.types import TensorType

#: Activations that a gate may have, and how many of alpha, beta each takes (ONNX order).
ACTIVATIONS = (
    "Relu",
    "Tanh",
    "Sigmoid",
    "Affine",
    "LeakyRelu",
    "ThresholdedRelu",
    "ScaledTanh",
    "HardSigmoid",
    "Elu",
    "Softsign",
    "Softplus",
)

_COMMON: tuple[AttributeDef, ...] = (
    choice("direction", ("forward", "reverse", "bidirectional"), "forward"),
    integer("hidden_size"),
    strings("activations", (), "per direction; () are the defaults of ONNX"),
    reals("activation_alpha", (), "for those activations that take one, in order"),
    reals("activation_beta", (), "for those activations that take one, in order"),
    real("clip", 0.0, "limits activation inputs to [-clip, clip]; 0: does not"),
    flag("layout", 0, "1: X is [batch,time,...] and states [batch,directions,...]"),
)


def _infer(gates: int, biases: int, per_direction: int, lstm_states: bool) -> InferRule:
    """Returns the rule of a recurrent layer.

    Args:
        gates: Gates stacked in W and R.
        biases: Bias vectors of hidden size in B.
        per_direction: Activations that each direction takes.
        lstm_states: Whether there are a cell state and peepholes.
    """

    def infer(call: Call) -> Sequence[TensorType]:
        x, w, r = call.operand(0), call.operand(1), call.operand(2)
        call.among(x, FLOATS)
        others = [call.optional(i) for i in (3, 5, 6, 7)]
        call.same_format(x, w, r, *others)
        call.check(x.rank == 3, "rank", f"X is {x}; it must be 3-D")
        hidden = call.integer("hidden_size")
        directions = 2 if call.string("direction") == "bidirectional" else 1
        batch_first = bool(call.integer("layout"))
        time, batch = (x.shape[1], x.shape[0]) if batch_first else x.shape[:2]
        state = (batch, directions, hidden) if batch_first else (directions, batch, hidden)
        call.has_shape(w, (directions, gates * hidden, x.shape[2]), "W")
        call.has_shape(r, (directions, gates * hidden, hidden), "R")
        call.has_shape(call.optional(3), (directions, biases * hidden), "B")
        if (lengths := call.optional(4)) is not None:
            call.among(lengths, (INT32,), "sequence_lens")
            call.has_shape(lengths, (batch,), "sequence_lens")
        call.has_shape(call.optional(5), state, "initial_h")
        call.has_shape(call.optional(6), state, "initial_c")
        call.has_shape(call.optional(7), (directions, 3 * hidden), "P")
        _check_activations(call, per_direction * directions)
        h = TensorType(x.format, state)
        sequence = (
            (batch, time, directions, hidden) if batch_first else (time, directions, batch, hidden)
        )
        y = TensorType(x.format, sequence)
        return (y, h, h) if lstm_states else (y, h)

    return infer


def _check_activations(call: Call, count: int) -> None:
    given = call.strings("activations")
    call.check(
        len(given) in (0, count), "activations", f"{len(given)} activations; it takes {count}"
    )
    unknown = [name for name in given if name not in ACTIVATIONS]
    call.check(not unknown, "activations", f"no activation {unknown}; known: {ACTIVATIONS}")


def _work(node: Node) -> Work:
    # Each step multiplies W and R of every direction with the input and the state.
    x, w, r = (required(node, index) for index in range(3))
    steps = x.shape[0] * x.shape[1]  # time x batch, in either layout
    weights = w.type.count + r.type.count
    gate_work = 8 * w.shape[0] * w.shape[1]
    return Work(steps * (2 * weights + gate_work), traffic(node))


def _row(
    name: str,
    help: str,
    names: str,
    result: str,
    infer: InferRule,
    decompose: Decomposition,
    *attributes: AttributeDef,
) -> OpDef:
    return OpDef(
        name=name,
        family=Family.RECURRENT,
        help=help,
        operands=operands(names),
        results=results(result),
        attributes=(*_COMMON, *attributes),
        infer=infer,
        numerics=NumericsClass.COMPOSITE,
        work=_work,
        decompose=decompose,
        formats="floats; sequence_lens int32",
    )


ROWS: tuple[OpDef, ...] = (
    _row(
        "LSTM",
        "Long short-term memory; gates i, o, f, c stacked in W, R, B; peepholes i, o, f in P",
        "X W R B? sequence_lens? initial_h? initial_c? P?",
        "Y? Y_h? Y_c?",
        _infer(4, 8, 3, lstm_states=True),
        cells.lstm,
        flag("input_forget", 0, "whether the forget gate is 1 minus the input gate"),
    ),
    _row(
        "GRU",
        "Gated recurrent unit; gates z, r, h stacked in W, R, B",
        "X W R B? sequence_lens? initial_h?",
        "Y? Y_h?",
        _infer(3, 6, 2, lstm_states=False),
        cells.gru,
        flag("linear_before_reset", 0, "whether the reset gate acts after the product with R"),
    ),
    _row(
        "RNN",
        "Simple recurrence: h = f(x W' + h R' + B)",
        "X W R B? sequence_lens? initial_h?",
        "Y? Y_h?",
        _infer(1, 2, 1, lstm_states=False),
        cells.rnn,
    ),
)
