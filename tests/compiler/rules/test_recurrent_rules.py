"""LSTM, GRU and RNN, step by step as ONNX writes them."""

import numpy as np
import pytest

from tests.compiler.rules.inexact import Inexact, operand, stack, where
from tests.compiler.rules.peers import FLOATS, Case, Draw, Recipes, check

RECIPES = Recipes()

_PLAIN = {
    "Relu": lambda x: x.maximum(0),
    "Tanh": Inexact.tanh,
    "Sigmoid": Inexact.sigmoid,
    "Softsign": lambda x: x / (x.abs() + 1),
    "Softplus": lambda x: x.monotone(lambda v: np.logaddexp(v, 0)),
}
#: With alpha, or alpha and beta.
_ALPHA = {
    "LeakyRelu": lambda x, a: where(x.value < 0, x * a, x),
    "Elu": lambda x, a: where(x.value < 0, x.monotone(np.expm1) * a, x),
    "ThresholdedRelu": lambda x, a: where(x.value > a, x, 0 * x),
}
_BOTH = {
    "Affine": lambda x, a, b: x * a + b,
    "ScaledTanh": lambda x, a, b: (x * b).tanh() * a,
    "HardSigmoid": lambda x, a, b: (x * a + b).minimum(1).maximum(0),
}
_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_DEFAULT = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}
_COMMON = "direction hidden_size activations activation_alpha activation_beta clip layout"


def _activations(d: Draw, directions: int):
    """One function for each activation of each direction."""
    names = _DEFAULT[d.op] * directions
    if d.flag():
        choices = d.pick((_PLAIN, _ALPHA, _BOTH))
        # Steps of thresholds are no place for a bound: inputs near them fall on either side.
        names = tuple(d.pick(n for n in choices if n != "ThresholdedRelu") for _ in names)
        d.attr("activations", None, (list(names),), required=True)
    alphas, betas = [0.25 + 0.125 * i for i in range(len(names))], [0.5] * len(names)
    if any(n not in _PLAIN for n in names):
        d.attr("activation_alpha", None, (alphas,), required=True)
        if any(n in _BOTH for n in names):
            d.attr("activation_beta", None, (betas,), required=True)
    made = []
    for name, alpha, beta in zip(names, alphas, betas, strict=True):
        if name in _PLAIN:
            made.append(_PLAIN[name])
        elif name in _ALPHA:
            made.append(lambda x, f=_ALPHA[name], a=alpha: f(x, a))
        else:
            made.append(lambda x, f=_BOTH[name], a=alpha, b=beta: f(x, a, b))
    return made


@RECIPES("LSTM", f"{_COMMON} input_forget", examples=40)
@RECIPES("GRU", f"{_COMMON} linear_before_reset", examples=40)
@RECIPES("RNN", _COMMON, examples=40)
def _recurrent(d: Draw) -> Case:
    opset = d.opset()
    kind, gates = d.format(FLOATS, opset), _GATES[d.op]
    direction = d.attr("direction", "forward", ("reverse", "bidirectional"))
    directions = 2 if direction == "bidirectional" else 1
    length, batch, width, hidden = d.int(1, 4), d.int(1, 3), d.int(1, 3), d.int(1, 3)
    d.attr("hidden_size", hidden, (hidden,))
    functions = _activations(d, directions)
    clip = d.attr("clip", 0.0, (0.5, 1.5))
    option = {"LSTM": "input_forget", "GRU": "linear_before_reset"}.get(d.op)
    flag = d.attr(option, 0, (0, 1)) if option else 0
    layout = d.attr("layout", 0, (0, 1)) if opset >= 14 else 0
    x = d.array(kind, (length, batch, width), -1, 1)
    w = d.array(kind, (directions, gates * hidden, width), -1, 1)
    r = d.array(kind, (directions, gates * hidden, hidden), -1, 1)
    bias = d.array(kind, (directions, 2 * gates * hidden), -1, 1) if d.flag() else None
    lengths = d.rng.integers(0, length + 1, batch).astype(np.int32) if d.flag() else None
    state = (directions, batch, hidden)
    h0 = d.array(kind, state, -1, 1) if d.flag() else None
    more = [h0]
    if d.op == "LSTM":
        more.append(d.array(kind, state, -1, 1) if d.flag() else None)
        more.append(d.array(kind, (directions, 3 * hidden), -1, 1) if d.flag() else None)
    each = len(functions) // directions
    runs = []
    for index in range(directions):
        weights = [None if a is None else operand(a[index]) for a in (w, r, bias)]
        states = [
            operand(np.zeros(state[1:], kind) if a is None else a[index])
            for a in (more[:2] if d.op == "LSTM" else more)
        ]
        peepholes = operand(more[2][index]) if len(more) > 2 and more[2] is not None else None
        cell = _Cell(d.op, functions[index * each :][:each], weights, peepholes, clip, flag)
        backward = direction == "reverse" or index == 1
        runs.append(_walk(cell, operand(x), states, lengths, backward))
    y = stack([run[0] for run in runs], 1)  # length, directions, batch, hidden
    last = [stack([run[1][i] for run in runs]) for i in range(len(runs[0][1]))]
    operands = [x, w, r, bias, lengths, *more]
    if layout:
        y = y.moved(lambda a: a.transpose(2, 0, 1, 3))
        last = [s.moved(lambda a: a.swapaxes(0, 1)) for s in last]
        for at in (0, 5, *((6,) if d.op == "LSTM" else ())):
            operands[at] = None if operands[at] is None else operands[at].swapaxes(0, 1)
    return Case(operands, [y, *last], opset=opset)


class _Cell:
    """One step of one direction: gates are split off the stacked weights."""

    def __init__(self, op, functions, weights, peepholes, clip, flag) -> None:
        self.op, self.functions, self.flag, self.peepholes = op, functions, flag, peepholes
        self.w, self.r, self.bias = weights
        self.clip = (lambda x: x.maximum(-clip).minimum(clip)) if clip else (lambda x: x)

    def parts(self, x: Inexact, matrix: Inexact, first_bias: int) -> list[Inexact]:
        """The product with each gate's weights, plus its half of the bias."""
        count = _GATES[self.op]
        made = x @ matrix.moved(np.transpose)
        size = matrix.shape[0] // count
        if self.bias is not None:
            start = first_bias * count * size
            made = made + self.bias[start : start + count * size]
        return [made[:, i * size : (i + 1) * size] for i in range(count)]

    def step(self, x: Inexact, states: list[Inexact]) -> list[Inexact]:
        given, kept = self.parts(x, self.w, 0), self.parts(states[0], self.r, 1)
        match self.op:
            case "RNN":
                return [self.functions[0](self.clip(given[0] + kept[0]))]
            case "GRU":
                return self._gru(given, kept, states[0])
        return self._lstm([a + b for a, b in zip(given, kept, strict=True)], states[1])

    def _gru(self, given, kept, h):
        f, g = self.functions
        z, reset = (f(self.clip(given[i] + kept[i])) for i in (0, 1))
        if self.flag:
            inner = reset * kept[2]
        else:
            size = h.shape[1]
            inner = (reset * h) @ self.r[2 * size :].moved(np.transpose)
            if self.bias is not None:
                inner = inner + self.bias[5 * size :]
        return [(1 - z) * g(self.clip(given[2] + inner)) + z * h]

    def _lstm(self, sums, cell):
        f, g, last = self.functions
        i, o, forget, fresh = sums
        size = cell.shape[1]
        peep = [0, 0, 0]
        if self.peepholes is not None:
            peep = [self.peepholes[k * size : (k + 1) * size] for k in range(3)]  # i, o, f
        i = f(self.clip(i + cell * peep[0]))
        forget = 1 - i if self.flag else f(self.clip(forget + cell * peep[2]))
        cell = forget * cell + i * g(self.clip(fresh))
        o = f(self.clip(o + cell * peep[1]))
        return [o * last(cell), cell]


def _walk(cell: _Cell, x: Inexact, states, lengths, backward: bool):
    """All steps; a sequence that has ended keeps its state and gives zeros."""
    length, batch = x.shape[:2]
    lengths = np.full(batch, length) if lengths is None else lengths
    outputs = [None] * length
    for t in reversed(range(length)) if backward else range(length):
        made = cell.step(x[t], states)
        alive = (t < lengths)[:, None]
        states = [where(alive, new, old) for new, old in zip(made, states, strict=True)]
        outputs[t] = where(alive, made[0], 0 * made[0])
    return stack(outputs), states


@pytest.mark.parametrize("op", RECIPES.by_op)
def test_rule(op):
    check(op, RECIPES.by_op[op])
