"""Every op of the table in every format that it takes, and every attribute at work."""

import pytest
from scan import admitted, admitted_pairs, format_attributes, scan

from accelsdk.graph import ops
from accelsdk.graph.opdef import AttributeKind

#: (op, what): why nothing is lost without a case.
EXCUSED = {
    ("LSTM", "result Y never left out"): "a case asks for the first results; the compiler drops Y",
    ("GRU", "result Y never left out"): "as of LSTM",
    ("RNN", "result Y never left out"): "as of LSTM",
}


#: Generators whose oracle a replay folder cannot hold, and why.
ASKED_AGAIN = {
    "unbiased.sums": "the mean error of many sums is held to that of the declared accumulator",
    "unbiased.products": "as of sums",
}


@pytest.fixture(scope="module")
def seen():
    return scan()


@pytest.mark.parametrize("op", ops.TABLE)
def test_every_format_has_a_case(op, seen):
    row = ops.TABLE[op]
    missing = [
        f"operand {row.operands[index].name}: {fmt.name}"
        for index, formats in sorted(admitted(row, seen[op]).items())
        for fmt in formats - seen[op].operands[index]
    ]
    assert [text for text in sorted(missing) if (op, text) not in EXCUSED] == []


@pytest.mark.parametrize("op", [op for op, row in ops.TABLE.items() if format_attributes(row)])
def test_every_pair_of_source_and_target_has_a_case(op, seen):
    row = ops.TABLE[op]
    missing = admitted_pairs(row, seen[op]) - seen[op].formats
    assert [" to ".join(pair) for pair in sorted(missing)] == []


@pytest.mark.parametrize("op", ops.TABLE)
def test_every_attribute_takes_all_its_values_or_two(op, seen):
    missing = []
    for attribute in ops.TABLE[op].attributes:
        values = {int(v) if isinstance(v, bool) else v for v in seen[op].attributes[attribute.name]}
        closed = {*attribute.choices} or ({0, 1} if attribute.kind is AttributeKind.FLAG else None)
        if closed is not None:
            missing += [f"{attribute.name} is never {value!r}" for value in closed - values]
        elif len(values) < 2:
            missing.append(f"{attribute.name} is always {values}")
    assert [text for text in sorted(missing) if (op, text) not in EXCUSED] == []


@pytest.mark.parametrize("op", ops.TABLE)
def test_optional_operands_and_results_are_there_and_not(op, seen):
    row, missing = ops.TABLE[op], []
    for index, operand in enumerate(row.operands):
        if operand.optional and not seen[op].operands[index]:
            missing.append(f"operand {operand.name} never given")
        if operand.optional and index not in seen[op].absent:
            missing.append(f"operand {operand.name} never left out")
    for index, result in enumerate(row.results):
        if result.optional and max(seen[op].results) <= index:
            missing.append(f"result {result.name} never asked for")
        if result.optional and min(seen[op].results) > index:
            missing.append(f"result {result.name} never left out")
    assert [text for text in missing if (op, text) not in EXCUSED] == []


def test_every_failure_can_be_shrunk(seen):
    """A generator ends in `shrinkable`, or offers a `Remake` of its own."""
    assert {name for one in seen.values() for name in one.unshrinkable} == set()


def test_every_replay_folder_stands_alone(seen):
    """Oracles that see the outputs are rules with a name, or choices that can be stored."""
    found = {name for one in seen.values() for name in one.dependent}
    assert found <= set(ASKED_AGAIN)


def test_excuses_are_needed(seen):
    """An excuse for what has a case by now is to be taken out."""
    for op, text in EXCUSED:
        if text.startswith("result"):
            index = [result.name for result in ops.TABLE[op].results].index(text.split()[1])
            assert min(seen[op].results) > index


@pytest.mark.parametrize(
    "op", ["Add", "Exp", "Cast", "Transpose", "Reshape", "ReduceSum", "Equal", "Where"]
)
def test_shapes_of_every_kind(op, seen):
    assert {0, 1, 2} <= seen[op].ranks
    assert max(seen[op].ranks) >= 3
