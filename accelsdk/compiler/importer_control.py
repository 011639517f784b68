"""If, Loop, Scan and SequenceMap (ONNX 23; Scan of opset 8 too), unrolled while a model is walked.

A static graph has no control flow. How often a body runs must be known at import: from constants,
from static extents, or from conditions that fold to constants turn after turn. An If whose
condition is computed at run time becomes a selection, where both branches give the same types:
inference ops have no side effects, so that computing both is right.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx

from accelsdk.compiler.importer_scan8 import is_scan_8
from accelsdk.compiler.importer_scope import Item, Listed, Place, Scope, Visit, look_up
from accelsdk.compiler.importer_tensors import tensor_constant
from accelsdk.graph.types import TensorType, Value

Results = Sequence[Item | None]


@dataclass(frozen=True, slots=True)
class Body:
    """A graph that runs in place of a node, any number of times.

    What each turn would make anew (initialisers and Constant nodes) is made once.

    Attributes:
        visit: The node.
        graph: The graph.
        nodes: Its nodes that are walked in each turn.
        scope: What names stand for in every turn.
        place: Where it is.
    """

    visit: Visit
    graph: onnx.GraphProto
    nodes: Sequence[onnx.NodeProto]
    scope: Scope
    place: Place

    @classmethod
    def of(cls, visit: Visit, graph: onnx.GraphProto) -> Body:
        """Returns a body of ``visit``'s node, its constants made."""
        walker = visit.walker
        scope: Scope = ChainMap({}, visit.scope)
        origin = visit.place.origin or (visit.name,)
        place = replace(visit.place, prefix=f"{visit.name}/", origin=origin)
        for tensor in graph.initializer:
            stem = f"{place.prefix}{tensor.name}"
            made = tensor_constant(tensor, stem, walker.origin)
            scope[tensor.name] = walker.add_constant(made)
        fixed = [node for node in graph.node if node.op_type == "Constant" and not node.input]
        walker.walk(fixed, scope, place)
        turning = [node for node in graph.node if node.op_type != "Constant" or node.input]
        return cls(visit, graph, turning, scope, place)

    def run(self, turn: str, given: Sequence[Item]) -> list[Item]:
        """Walks the body once.

        Args:
            turn: Names the turn, within the node; empty where there is only one.
            given: What its inputs stand for, in order.

        Returns:
            What its outputs stand for.
        """
        self.visit.walker.spend(self.visit, len(self.nodes) + 1)
        names = [item.name for item in self.graph.input]
        scope: Scope = ChainMap(dict(zip(names, given, strict=True)), self.scope)
        place = self.place
        if turn:
            place = replace(place, prefix=f"{place.prefix}{turn}/")
        self.visit.walker.walk(self.nodes, scope, place)
        found = [look_up(scope, item.name, self.visit.name) for item in self.graph.output]
        if None in found:
            self.visit.invalid("its body has an output without a name")
        return [item for item in found if item is not None]

    def types(self, given: Sequence[Item]) -> list[Item]:
        """Returns what `run` would, and adds no node: for a loop of no turns."""
        kept = len(self.visit.walker.nodes)
        found = self.run("types", given)
        del self.visit.walker.nodes[kept:]
        return found

    def check(self, inputs: int, least_outputs: int) -> None:
        """Refuses a body that does not have so many inputs and outputs."""
        has = len(self.graph.input), len(self.graph.output)
        if has[0] != inputs or has[1] < max(least_outputs, len(self.visit.proto.output)):
            self.visit.invalid(
                f"its body has {has[0]} inputs and {has[1]} outputs; it needs {inputs} and "
                f"{least_outputs} or more"
            )


# -- If ----------------------------------------------------------------------------------------


def _if(visit: Visit) -> Results:
    condition = visit.tensor(0)
    known = visit.contents(condition)
    if known is not None:
        return _branch(visit, "then_branch" if bool(known.any()) else "else_branch", "")
    taken = _branch(visit, "then_branch", "then")
    other = _branch(visit, "else_branch", "else")
    chosen = condition
    if condition.type.rank:
        (chosen,) = visit.emit("Reshape", condition, visit.ints())
    return [_selected(visit, chosen, *pair) for pair in zip(taken, other, strict=False)]


def _branch(visit: Visit, name: str, turn: str) -> list[Item]:
    body = Body.of(visit, visit.body(name))
    body.check(0, 0)
    return body.run(turn, [])


def _selected(visit: Visit, condition: Value, taken: Item, other: Item) -> Item:
    if isinstance(taken, Listed) and isinstance(other, Listed):
        if len(taken.items) == len(other.items):
            pairs = zip(taken.items, other.items, strict=True)
            return Listed(tuple(_chosen(visit, condition, *pair) for pair in pairs))
    elif isinstance(taken, Value) and isinstance(other, Value):
        return _chosen(visit, condition, taken, other)
    visit.refuse(
        "its condition is computed at run time, and its branches give sequences of different "
        "lengths, or optionals"
    )


def _chosen(visit: Visit, condition: Value, taken: Value, other: Value) -> Value:
    if taken.type != other.type:
        visit.refuse(
            f"its condition is computed at run time, and its branches give {taken.type} and "
            f"{other.type}; bind the condition to a constant, or make the types equal"
        )
    return visit.emit("Where", condition, taken, other)[0]


# -- Loop --------------------------------------------------------------------------------------


def _loop(visit: Visit) -> Results:
    """Runs until the trip count is reached or the condition is false.

    As in ONNX's reference and in onnxruntime, the body's condition counts even if the node was
    given none; the last one, after which the trip count ends the loop anyway, does not.
    """
    body = Body.of(visit, visit.body("body"))
    carried = [_present(visit, index) for index in range(2, len(visit.inputs))]
    body.check(2 + len(carried), 1 + len(carried))
    most = visit.whole(0, "trip count")
    condition = visit.known(1, "condition")
    goes_on = condition is None or bool(condition.any())
    always = visit.constant(np.array(True), "condition")
    # Exporters write the number of the turn as a scalar or as a vector of one.
    vector = len(body.graph.input[0].type.tensor_type.shape.dim) == 1
    scans: list[list[Value]] = [[] for _ in body.graph.output[1 + len(carried) :]]
    turn = 0

    def given() -> list[Item]:
        number = np.array([turn] if vector else turn, np.int64)
        return [visit.constant(number, f"turn{turn}"), always, *carried]

    while goes_on and (most is None or turn < most):
        found = body.run(str(turn), given())
        carried, turn = found[1 : 1 + len(carried)], turn + 1
        _collect(visit, scans, found[1 + len(carried) :])
        if most is None or turn < most:
            goes_on = _goes_on(visit, found[0], turn)
    if turn == 0 and scans:
        shapes = _tensors(visit, body.types(given())[1 + len(carried) :])
        return [*carried, *(_nothing(visit, value.type, 0) for value in shapes)]
    return [*carried, *(_stacked(visit, parts, 0) for parts in scans)]


def _present(visit: Visit, index: int) -> Item:
    found = visit.item(index)
    if found is None:
        visit.invalid(f"operand {index} is missing")
    return found


def _goes_on(visit: Visit, condition: Item, turn: int) -> bool:
    (value,) = _tensors(visit, [condition])
    known = visit.contents(value)
    if known is None:
        visit.refuse(f"whether it goes on after turn {turn} is computed at run time")
    return bool(known.any())


# -- Scan --------------------------------------------------------------------------------------


def _scan(visit: Visit) -> Results:
    if is_scan_8(visit.proto, visit.place.opsets.get("", 9)):
        return _scan_8(visit)
    count = visit.integer("num_scan_inputs", 0)
    operands = [visit.tensor(index) for index in range(len(visit.inputs))]
    states = len(operands) - count
    if count < 1 or states < 0:
        visit.invalid(f"num_scan_inputs is {count} of {len(operands)} operands")
    body = Body.of(visit, visit.body("body"))
    body.check(len(operands), states)
    axes = visit.integers("scan_input_axes", count)
    backward = visit.integers("scan_input_directions", count)
    scans = len(body.graph.output) - states
    into = visit.integers("scan_output_axes", scans)
    reversed_ = visit.integers("scan_output_directions", scans)
    parts = _slices(visit, body, operands[states:], axes)
    ordered = [
        list(reversed(own)) if flag else own for own, flag in zip(parts, backward, strict=True)
    ]
    last, found = _turns(visit, body, operands[:states], ordered, "")
    if not parts[0]:
        pairs = zip(operands[states:], axes, strict=True)
        blank = [_nothing_of(visit, _slice_type(value.type, axis)) for value, axis in pairs]
        made = _tensors(visit, body.types([*operands[:states], *blank])[states:])
        none = [_nothing(visit, v.type, axis) for v, axis in zip(made, into, strict=True)]
        return [*last, *none]
    return [
        *last,
        *(
            _stacked(visit, own[::-1] if flag else own, axis)
            for own, axis, flag in zip(found, into, reversed_, strict=True)
        ),
    ]


def _slices(
    visit: Visit, body: Body, operands: Sequence[Value], axes: Sequence[int]
) -> list[list[Value]]:
    """Returns what each turn takes of each operand, in order along its axis."""
    lengths = []
    for value, axis in zip(operands, axes, strict=True):
        if not -value.type.rank <= axis < value.type.rank:
            visit.invalid(f"axis {axis} is no axis of {value.type}")
        lengths.append(value.shape[axis])
    if len(set(lengths)) != 1:
        visit.invalid(f"its operands are scanned {lengths} times")
    # The turns themselves are counted one by one; this stops before too many are cut.
    visit.walker.spend(visit, 0 if lengths[0] < 2 else lengths[0])
    return [_cut(visit, value, axis) for value, axis in zip(operands, axes, strict=True)]


def _cut(visit: Visit, value: Value, axis: int) -> list[Value]:
    """Returns the slices of a value along an axis, without the axis."""
    axis %= value.type.rank
    length = value.shape[axis]
    if length == 0:
        return []
    pieces = [value]
    if length > 1:
        sizes = visit.ints(*(1,) * length)
        pieces = visit.emit("Split", value, sizes, outputs=length, axis=axis)
    return [visit.emit("Squeeze", piece, visit.ints(axis))[0] for piece in pieces]


def _turns(
    visit: Visit,
    body: Body,
    states: Sequence[Value],
    parts: Sequence[Sequence[Value]],
    prefix: str,
) -> tuple[list[Item], list[list[Value]]]:
    """Runs a body for each slice; returns the last states, and what each turn gives besides."""
    carried: list[Item] = list(states)
    found: list[list[Value]] = [[] for _ in body.graph.output[len(states) :]]
    for turn, own in enumerate(zip(*parts, strict=True)):
        made = body.run(f"{prefix}{turn}", [*carried, *own])
        carried = made[: len(states)]
        _collect(visit, found, made[len(states) :])
    return carried, found


def _scan_8(visit: Visit) -> Results:
    """A Scan of opset 8: over axis 1, for each item of the batch on axis 0 by itself.

    An item whose sequence is shorter stops there; its outputs are 0 beyond, as onnxruntime's.
    """
    count = visit.integer("num_scan_inputs", 0)
    operands = [visit.tensor(index) for index in range(1, len(visit.inputs))]
    states = len(operands) - count
    if count < 1 or states < 0 or any(v.type.rank < 1 for v in operands):
        visit.invalid(f"num_scan_inputs is {count} of {len(operands)} operands")
    body = Body.of(visit, visit.body("body"))
    body.check(len(operands), states)
    backward = visit.integers("directions", count)
    lengths = visit.known(0, "sequence_lens")
    batches = list(zip(*(_cut(visit, value, 0) for value in operands), strict=True))
    rows: list[list[Value]] = [[] for _ in body.graph.output]
    for batch, items in enumerate(batches):
        cut = _slices(visit, body, items[states:], (0,) * count)
        length = len(cut[0]) if lengths is None else int(lengths.reshape(-1)[batch])
        own = [
            part[:length][::-1] if flag else part[:length]
            for part, flag in zip(cut, backward, strict=True)
        ]
        last, found = _turns(visit, body, items[:states], own, f"{batch}/")
        row = [*_tensors(visit, last), *(_filled(visit, made, len(cut[0])) for made in found)]
        for column, value in zip(rows, row, strict=True):
            column.append(value)
    return [_stacked(visit, column, 0) for column in rows]


def _filled(visit: Visit, made: list[Value], length: int) -> Value:
    if not made:
        visit.refuse("a sequence of no items is not supported")
    blank = [_nothing_of(visit, made[0].type)] * (length - len(made))
    return _stacked(visit, [*made, *blank], 0)


# -- SequenceMap -------------------------------------------------------------------------------


def _sequence_map(visit: Visit) -> Results:
    first = visit.sequence(0)
    operands = [_present(visit, index) for index in range(len(visit.inputs))]
    listed = [item for item in operands if isinstance(item, Listed)]
    if any(len(item.items) != len(first.items) for item in listed):
        visit.invalid("its sequences differ in length")
    body = Body.of(visit, visit.body("body"))
    body.check(len(operands), 0)
    found: list[list[Value]] = [[] for _ in body.graph.output]
    for turn in range(len(first.items)):
        own = [item.items[turn] if isinstance(item, Listed) else item for item in operands]
        _collect(visit, found, body.run(str(turn), own))
    return [Listed(tuple(items)) for items in found]


# -- tensors -----------------------------------------------------------------------------------


def _tensors(visit: Visit, items: Sequence[Item]) -> list[Value]:
    found = [item for item in items if isinstance(item, Value)]
    if len(found) != len(items):
        visit.invalid("its body gives a sequence or an optional where a tensor must be")
    return found


def _collect(visit: Visit, lists: Sequence[list[Value]], items: Sequence[Item]) -> None:
    for own, value in zip(lists, _tensors(visit, items), strict=True):
        own.append(value)


def _stacked(visit: Visit, parts: Sequence[Value], axis: int) -> Value:
    """Joins values along a new axis."""
    kinds = {part.type for part in parts}
    if len(kinds) != 1:
        listed = ", ".join(sorted(map(str, kinds))) or "none"
        visit.refuse(f"what its turns give cannot be stacked: {listed}")
    rank = parts[0].type.rank + 1
    if not -rank <= axis < rank:
        visit.invalid(f"axis {axis} is no axis of rank {rank}")
    wide = [visit.emit("Unsqueeze", part, visit.ints(axis % rank))[0] for part in parts]
    return wide[0] if len(wide) == 1 else visit.emit("Concat", *wide, axis=axis % rank)[0]


def _nothing(visit: Visit, kind: TensorType, axis: int) -> Value:
    """Returns what stacking no values of a type gives."""
    shape = list(kind.shape)
    shape.insert(axis % (kind.rank + 1), 0)
    return visit.constant(np.zeros(shape, kind.format.dtype), "nothing")


def _nothing_of(visit: Visit, kind: TensorType) -> Value:
    return visit.constant(np.zeros(kind.shape, kind.format.dtype), "zero")


def _slice_type(kind: TensorType, axis: int) -> TensorType:
    axis %= kind.rank
    return TensorType(kind.format, (*kind.shape[:axis], *kind.shape[axis + 1 :]))


CONTROL: Mapping[str, Callable[[Visit], Results]] = {
    "If": _if,
    "Loop": _loop,
    "Scan": _scan,
    "SequenceMap": _sequence_map,
}
