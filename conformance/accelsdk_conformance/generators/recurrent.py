"""LSTM, GRU and RNN over a short sequence, by carried errors: every operand and attribute."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from accelsdk.formats import INT32, Format
from accelsdk_conformance.case import Case
from accelsdk_conformance.generators import data
from accelsdk_conformance.generators.composite import carried_problem
from accelsdk_conformance.oracles.carried import Carried
from accelsdk_conformance.oracles.tensor import F64, Mask, Tensor, encode, from_integers
from accelsdk_conformance.problem import Along, Axis, Context, Problem, shrinkable

_STEPS, _BATCH, _WIDTH = 4, 3, 3
_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_DEFAULTS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}
_FADING = 20  # hidden units, and steps, of which R has its full size
_LENGTHS = (4, 1, 3)
_SOME_EMPTY = (4, 0, 3)  # where no initial state would be handed on: runtimes differ there


@dataclass(frozen=True, slots=True)
class _Layer:
    """The operands of one direction, and how it computes."""

    op: str
    hidden: int
    w: F64
    r: F64
    bias: F64
    peep: F64
    gates: tuple[tuple[str, float, float], ...]
    clip: float
    reset: bool
    coupled: bool
    fmt: Format

    def weights(self, values: F64) -> Carried:
        """Returns the transposed weights, gate after gate."""
        return Carried.exact(values.T, self.fmt)

    def biases(self) -> tuple[Carried, Carried]:
        """Returns the biases of the input's and of the state's product, gate after gate."""
        of_input, of_state = np.split(self.bias, 2)
        return Carried.exact(of_input, self.fmt), Carried.exact(of_state, self.fmt)

    def of_gate(self, sums: Carried, gate: int) -> Carried:
        """Returns what belongs to one gate."""
        return sums[..., gate * self.hidden : (gate + 1) * self.hidden]

    def activate(self, index: int, x: Carried, clipped: bool = True) -> Carried:
        """Applies an activation of the cell."""
        if self.clip and clipped:
            held = np.clip(x.value, -self.clip, self.clip)
            x = Carried(held, x.error, self.fmt)  # limiting brings nothing further apart
        name, alpha, beta = self.gates[index]
        value = x.value
        match name:
            case "Sigmoid":
                return x.sigmoid()
            case "Tanh":
                return x.tanh()
            case "Relu":
                return x.bounded(np.maximum(value, 0.0), 1.0, 0.5)
            case "LeakyRelu":
                slope = max(1.0, abs(alpha))
                return x.bounded(np.where(value < 0, alpha * value, value), slope, 1.0)
            case "Affine":
                return x.bounded(alpha * value + beta, abs(alpha), 2.0, 2.0)
            case "HardSigmoid":
                line = np.clip(alpha * value + beta, 0.0, 1.0)
                return x.bounded(line, abs(alpha), 2.0, 2.0)
            case "ScaledTanh":
                curve = alpha * np.tanh(beta * value)
                return x.bounded(curve, abs(alpha * beta), 8.0, 2.0)
            case "Softsign":
                return x.bounded(value / (1 + np.abs(value)), 1.0, 4.0)
            case "Softplus":
                curve = np.maximum(value, 0) + np.log1p(np.exp(-np.abs(value)))
                return x.bounded(curve, 1.0, 5.0, 4.0)
        curve = np.where(value > 0, value, alpha * np.expm1(np.minimum(value, 0)))
        return x.bounded(curve, max(1.0, abs(alpha)), 4.0, 3.0 * max(1.0, abs(alpha)))


def layer(case: Case, context: Context) -> Problem:
    """A layer with the operands and attributes that the case names."""
    fmt = data.format_of(case, 0)
    given = case.parameters
    rng = data.rng(case, context)
    hidden, gates = int(given.get("hidden", 5)), _GATES[case.op]
    direction = str(given.get("direction", "forward"))
    count = 2 if direction == "bidirectional" else 1
    first = bool(given.get("layout", 0))
    steps, batch = int(given.get("steps", _STEPS)), int(given.get("batch", _BATCH))
    width = int(given.get("features", _WIDTH))
    shapes: dict[str, tuple[int, ...]] = {
        "x": (steps, batch, width),
        "w": (count, gates * hidden, width),
        "r": (count, gates * hidden, hidden),
        "b": (count, 2 * gates * hidden),
        "h": (count, batch, hidden),
        "c": (count, batch, hidden),
        "p": (count, 3 * hidden),
    }
    # A small R: errors fade from step to step. W by its width: gates are not all saturated.
    small = 0.25 * min(1.0, _FADING / max(hidden, 1)) * min(1.0, _FADING / max(steps, 1))
    sizes = {"x": 1.0, "b": 0.25, "r": small, "w": 0.5 * min(1.0, (8 / max(width, 1)) ** 0.5)}
    tensors = {
        name: encode(rng.normal(size=shape) * sizes.get(name, 0.5), fmt)
        for name, shape in shapes.items()
    }
    chosen = str(given.get("operands", "b"))
    names = "xwrblhcp" if case.op == "LSTM" else "xwrblh"

    def make(*operands: Tensor | None) -> Problem:
        own = {name: part for name, part in zip(names, operands, strict=True) if part is not None}
        turned = {name: _swapped(part) for name, part in own.items() if first and name in "xhc"}
        results, direction = _computed(case, {**own, **turned})
        if first:
            order = [(2, 0, 1, 3), *[(1, 0, 2)] * (len(results) - 1)]
            results = [_moved(r, perm) for r, perm in zip(results, order, strict=True)]
        results = results[: int(given.get("outputs", len(results)))]
        if "l" in own:
            steps = own["x"].shape[1 if first else 0]
            own["l"] = from_integers(np.minimum(own["l"].integers, steps), INT32)
        attributes = _attributes(case, own["r"].shape[-1], direction)
        return carried_problem(case.op, tuple(own.get(n) for n in names), attributes, results)

    operands = _operands(case, tensors, chosen, first)
    return shrinkable(make, operands, lambda *now: _axes(gates, first, *now), fixed=(4,))


def _axes(gates: int, first: bool, *operands: Tensor | None) -> list[Axis]:
    """Returns directions, steps, items, and both widths, each with all that lies along it."""
    item, lead = (0, 1) if first else (1, 0)
    along = [
        (Along(1, 0), Along(2, 0), Along(3, 0), Along(5, lead), Along(6, lead), Along(7, 0)),
        (Along(0, lead),),
        (Along(0, item), Along(4, 0), Along(5, item), Along(6, item)),
        (Along(0, 2), Along(1, 2)),
        (
            *(Along(1, 1, runs=gates), Along(2, 1, runs=gates), Along(2, 2)),
            *(Along(3, 1, runs=2 * gates), Along(5, 2), Along(6, 2), Along(7, 1, runs=3)),
        ),
    ]
    return [tuple(part for part in axis if part.operand < len(operands)) for axis in along]


def _computed(case: Case, given: Mapping[str, Tensor]) -> tuple[list[Carried], str]:
    """Returns the results of all directions, and the direction.

    Args:
        case: Says how it is computed.
        given: Operands by their letter, the sequence first.

    Raises:
        ValueError: Their extents do not fit.
    """
    x, w, r = (given[name] for name in "xwr")
    (steps, batch, _), gates, hidden = x.shape, _GATES[case.op], r.shape[-1]
    count = len(w.codes)
    if w.shape[1] != gates * hidden or not min(batch, hidden):
        raise ValueError(f"weights {w.shape} of {hidden} hidden units")
    direction = str(case.parameters.get("direction", "forward"))
    if direction == "bidirectional" and count == 1:
        direction = "forward"
    shapes = {
        "b": (count, 2 * gates * hidden),
        "h": (count, batch, hidden),
        "c": (count, batch, hidden),
        "p": (count, 3 * hidden),
    }
    absent = {name: encode(np.zeros(shape), x.format) for name, shape in shapes.items()}
    tensors = {**absent, **given}
    lengths = [min(int(n), steps) for n in given["l"].integers] if "l" in given else [steps] * batch
    sequences, finals = [], []
    for index in range(count):
        part = _direction(case, tensors, index, x.format)
        y, last = _run(part, tensors, index, lengths, direction == "reverse" or index == 1)
        sequences.append(y)
        finals.append(last)
    states = (_stacked(parts, 0) for parts in zip(*finals, strict=True))
    return [_stacked(sequences, 1), *states], direction


def _lengths(case: Case) -> tuple[int, ...]:
    """Returns how many steps each item of the batch has, ``lengths`` over and over."""
    steps, batch = (
        int(case.parameters.get(k, n)) for k, n in (("steps", _STEPS), ("batch", _BATCH))
    )
    usual = _LENGTHS if "h" in str(case.parameters["operands"]) else _SOME_EMPTY
    lengths = case.parameters.get("lengths", usual)
    return tuple(min(int(n), steps) for n in np.resize(lengths, batch))


def _attributes(case: Case, hidden: int, direction: str) -> dict[str, Any]:
    names = ("clip", "layout", "linear_before_reset", "input_forget")
    found: dict[str, Any] = {"hidden_size": hidden, "direction": direction}
    found |= {name: case.parameters[name] for name in names if name in case.parameters}
    if "activations" in case.parameters:
        both = direction == "bidirectional"
        first = tuple(case.parameters["activations"])
        second = tuple(case.parameters.get("second", first))
        found["activations"] = first + second * both
        takers = {"activation_alpha": _TAKES_ALPHA, "activation_beta": _TAKES_BETA}
        for name in takers:  # in this order in every process
            if name not in case.parameters:
                continue
            given = tuple(map(float, case.parameters[name]))
            if "second" not in case.parameters:
                found[name] = given * (2 if both else 1)
            else:
                own = sum(activation in takers[name] for activation in first)
                found[name] = given if both else given[:own]
    return found


def _operands(
    case: Case, tensors: Mapping[str, Tensor], chosen: str, first: bool
) -> tuple[Tensor | None, ...]:
    def given(name: str) -> Tensor | None:
        if name not in chosen:
            return None
        tensor = tensors[name]
        return _swapped(tensor) if first and name in "hc" else tensor

    x = _swapped(tensors["x"]) if first else tensors["x"]
    lengths = from_integers(np.array(_lengths(case)), INT32) if "l" in chosen else None
    every = (x, tensors["w"], tensors["r"], given("b"), lengths, given("h"))
    return (*every, given("c"), given("p")) if case.op == "LSTM" else every


def _swapped(tensor: Tensor) -> Tensor:
    return Tensor(tensor.format, np.ascontiguousarray(tensor.codes.swapaxes(0, 1)))


def _direction(case: Case, tensors: Mapping[str, Tensor], index: int, fmt: Format) -> _Layer:
    def own(name: str) -> F64:
        values: F64 = tensors[name].values[index]
        return values

    return _Layer(
        op=case.op,
        hidden=tensors["r"].shape[-1],
        w=own("w"),
        r=own("r"),
        bias=own("b"),
        peep=own("p"),
        gates=_activations(case, index),
        clip=float(np.float32(case.parameters.get("clip", 0.0))),
        reset=bool(case.parameters.get("linear_before_reset", 0)),
        coupled=bool(case.parameters.get("input_forget", 0)),
        fmt=fmt,
    )


_ALPHA = {"LeakyRelu": 0.01, "HardSigmoid": 0.2}
_TAKES_ALPHA = ("Affine", "LeakyRelu", "ScaledTanh", "HardSigmoid", "Elu", "ThresholdedRelu")
_TAKES_BETA = ("Affine", "ScaledTanh", "HardSigmoid")


def _activations(case: Case, index: int) -> tuple[tuple[str, float, float], ...]:
    """Returns the functions of a direction with their factors.

    A case names those of the first direction, and those of the second where they are others;
    the factors are then of both, one after the other as the functions take them.
    """
    first = case.parameters.get("activations", _DEFAULTS[case.op])
    second = case.parameters.get("second", ())
    found = tuple(_with_factors(case, [*first, *second]))
    return found[len(first) :] if second and index else found[: len(first)]


def _with_factors(case: Case, names: Sequence[str]) -> Iterator[tuple[str, float, float]]:
    alphas = iter(case.parameters.get("activation_alpha", ()))
    betas = iter(case.parameters.get("activation_beta", ()))
    for name in names:
        alpha = next(alphas, _ALPHA.get(name, 1.0)) if name in _TAKES_ALPHA else 0.0
        default = {"HardSigmoid": 0.5, "ScaledTanh": 1.0}.get(name, 0.0)
        beta = next(betas, default) if name in _TAKES_BETA else 0.0
        yield name, float(alpha), float(beta)


def _run(
    part: _Layer,
    tensors: Mapping[str, Tensor],
    index: int,
    lengths: Sequence[int],
    backward: bool,
) -> tuple[Carried, tuple[Carried, ...]]:
    """Runs one direction; an item whose sequence has ended keeps its state, and gives zeros."""
    steps, batch = tensors["x"].shape[:2]
    fmt, shape = part.fmt, (batch, part.hidden)
    states = [
        Carried.exact(tensors[name].values[index], fmt)
        for name in ("hc" if part.op == "LSTM" else "h")
    ]
    zero = Carried.exact(np.zeros(shape), fmt)
    outputs = [zero] * steps
    x = Carried.exact(tensors["x"].values, fmt)
    of_input = x.matmul(part.weights(part.w)) + part.biases()[0]  # of all steps and gates
    step = {"LSTM": _lstm, "GRU": _gru, "RNN": _rnn}[part.op]
    for t in reversed(range(steps)) if backward else range(steps):
        fresh = step(part, of_input[t], states)
        lives = (t < np.array(lengths))[:, None]
        states = [_chosen(lives, new, old) for new, old in zip(fresh, states, strict=True)]
        outputs[t] = _chosen(lives, fresh[0], zero)
    if not steps:
        return Carried.exact(np.zeros((0, *shape)), fmt), tuple(states)
    return _stacked(outputs, 0), tuple(states)


def _chosen(where: Mask, a: Carried, b: Carried) -> Carried:
    value, error = np.where(where, a.value, b.value), np.where(where, a.error, b.error)
    return Carried(value, error, a.fmt)


def _of_state(part: _Layer, h: Carried) -> Carried:
    return h.matmul(part.weights(part.r)) + part.biases()[1]


def _lstm(part: _Layer, of_input: Carried, states: Sequence[Carried]) -> list[Carried]:
    h, cell = states
    sums = of_input + _of_state(part, h)
    totals = [part.of_gate(sums, gate) for gate in range(4)]  # i, o, f, c
    peeps = [Carried.exact(p, part.fmt) for p in part.peep.reshape(3, part.hidden)]
    i = part.activate(0, totals[0] + peeps[0] * cell)
    one = Carried.exact(np.ones(i.value.shape), part.fmt)
    f = one - i if part.coupled else part.activate(0, totals[2] + peeps[2] * cell)
    cell = f * cell + i * part.activate(1, totals[3])
    o = part.activate(0, totals[1] + peeps[1] * cell)
    return [o * part.activate(2, cell, clipped=False), cell]


def _gru(part: _Layer, of_input: Carried, states: Sequence[Carried]) -> list[Carried]:
    (h,) = states
    of_state = _of_state(part, h)
    sums = of_input + of_state
    z, r = (part.activate(0, part.of_gate(sums, gate)) for gate in range(2))
    if part.reset:
        right = r * part.of_gate(of_state, 2)
    else:
        weights, bias = (part.weights(part.r), part.biases()[1])
        right = (r * h).matmul(part.of_gate(weights, 2)) + part.of_gate(bias, 2)
    candidate = part.of_gate(of_input, 2) + right
    one = Carried.exact(np.ones(z.value.shape), part.fmt)
    return [(one - z) * part.activate(1, candidate) + z * h]


def _rnn(part: _Layer, of_input: Carried, states: Sequence[Carried]) -> list[Carried]:
    return [part.activate(0, of_input + _of_state(part, states[0]))]


def _stacked(parts: Sequence[Carried], axis: int) -> Carried:
    value, error = (np.stack(p, axis) for p in ([c.value for c in parts], [c.error for c in parts]))
    return Carried(value, error, parts[0].fmt)


def _moved(x: Carried, perm: tuple[int, ...]) -> Carried:
    return Carried(x.value.transpose(perm), x.error.transpose(perm), x.fmt)
