"""Programs of more than one node of inputs: constants among the operands, nodes behind nodes."""

from dataclasses import replace

import numpy as np
import pytest
from stand_ins import Perfect

from accelsdk.backend.datasheet import NumericsDatasheet
from accelsdk_conformance.catalogue import bundled
from accelsdk_conformance.examine import attempt
from accelsdk_conformance.oracles.tensor import Tensor
from accelsdk_conformance.problem import Context, NotApplicable
from accelsdk_conformance.registry import generator
from accelsdk_conformance.replay import case_of, export, from_folder
from accelsdk_conformance.result import Status
from accelsdk_conformance.settings import Settings
from accelsdk_conformance.shrink import describe, shrink
from accelsdk_conformance.subject import ClientSubject, graph_of

CASES = {case.id: case for case in bundled()}
CONTEXT = Context(NumericsDatasheet())


def problem(name):
    case = CASES[name]
    return generator(case.generator)(case, CONTEXT)


@pytest.mark.parametrize(("which", "held"), [("first", {0}), ("others", {1, 2}), ("last", {2})])
def test_constants_are_constants_of_the_program(which, held):
    made = problem(f"fp32/Gemm/fp32/constant/{which}")
    graph = graph_of(made)
    names = [value.name for value in graph.nodes[0].inputs]
    assert {names.index(c.name) for c in graph.constants} == held
    assert [value.name for value in graph.inputs] == [
        name for i, name in enumerate(names) if i not in held
    ]


def test_every_case_that_another_is_made_of_is_its_own():
    originals = {str(c.parameters["of"]) for c in CASES.values() if "of" in c.parameters}
    assert originals <= CASES.keys()
    assert not any("of" in CASES[name].parameters for name in originals)


def test_a_chain_is_a_graph_whose_last_result_is_judged():
    made = problem("fp32/Conv/fp32xfp32/then/bias_relu/nan")
    graph = graph_of(made)
    assert [node.op for node in graph.nodes] == ["Conv", "Add", "Relu"]
    assert graph.outputs == graph.nodes[-1].outputs
    assert [c.name for c in graph.constants] == [graph.nodes[1].inputs[1].name]
    ((_, wanted),) = made.oracle(())[0].tiers
    assert wanted.nan.any()
    values = Tensor(made.oracle(())[0].format, wanted.codes).values
    assert np.nanmin(values) == 0 < np.nanmax(values)


@pytest.mark.parametrize("name", [name for name in CASES if "/then/residual_relu" in name])
def test_chains_pass_on_a_perfect_card(name):
    assert attempt(CASES[name], problem(name), Perfect()).result.status is Status.PASSED


def test_what_is_not_exact_has_no_chain():
    case = CASES["fp32/MatMul/fp32xfp32/then/relu"]
    inexact = replace(case, parameters={"of": "fp32/MatMul/fp32xfp32/normal/k40", "then": "relu"})
    with pytest.raises(NotApplicable, match="to the bit"):
        generator(case.generator)(inexact, CONTEXT)


def test_only_what_commutes_with_rounding_stands_behind_what_is_rounded():
    case = CASES["fp32/Add/fp32/then/neg/whole"]
    biased = replace(case, parameters={**case.parameters, "then": "bias"})
    with pytest.raises(ValueError, match=r"fp32/Add/fp32/then/neg/whole: Add reads a rounded"):
        generator(case.generator)(biased, CONTEXT)


def test_what_no_generator_makes_again_is_a_mistake_of_the_suite():
    made = replace(problem("fp32/Gemm/fp32/then/bias"), remake=None)
    with pytest.raises(ValueError, match="Gemm cannot be made of other operands"):
        made.with_operands(made.operands)


@pytest.mark.parametrize("name", [n for n in CASES if n.endswith(("/then/clip", "/then/quantise"))])
def test_most_results_lie_between_the_bounds(name):
    made, before = problem(name), _first(CASES[name])
    accept, fmt = expected(made)
    values = Tensor(fmt, accept.codes).values
    saturated = (values == values.min()) | (values == values.max())
    assert 2 * np.count_nonzero(saturated) <= saturated.size
    assert len(np.unique(values)) >= min(16, len(np.unique(before)))
    if name.endswith("quantise"):
        assert np.isin(values, (-128, 127)).any()
        assert made.operands[-1].values != 0


def _first(case):
    made = generator("held.constants")(
        replace(case, parameters={**case.parameters, "which": "last"}), CONTEXT
    )
    accept, fmt = expected(made)
    return Tensor(fmt, accept.codes).values


def expected(made):
    """What must come out at the strictest tier, and its format."""
    (result,) = made.oracle(())
    return result.tiers[0][1], result.format


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("fp32/Add/fp32/then/neg/whole", True),
        ("fp32/Mul/bf16/then/abs/whole", True),
        ("fp32/Max/fp32/then/abs/whole", True),  # its sign was open, and is no more
        ("fp32/Sub/fp16/then/transpose/whole", True),
        ("fp32/Mul/fp32/then/flat/whole", True),
        ("fp32/Mul/fp32/then/relu/whole", False),
        ("fp32/Max/fp32/then/neg/whole", False),
    ],
)
def test_zeros_have_signs_as_far_as_they_are_known(name, told):
    accept, fmt = expected(problem(name))
    assert (Tensor(fmt, accept.codes).values == 0).any()
    assert accept.signed_zero is told


@pytest.mark.parametrize("name", [n for n in CASES if "/then/" in n and "cast_" in n])
def test_conversions_are_to_what_the_name_says(name):
    made = problem(name)
    names = {"fp16": "float16", "bf16": "bfloat16", "fp32": "float32"}
    assert made.then[-1].attributes["to"] == names[name.rpartition("_")[2]]


@pytest.mark.parametrize(
    ("defect", "name"),
    [
        ("fused_relu_nan", "fp32/MatMul/fp32xfp32/then/relu/nan"),
        ("fused_scale_lost", "fp32/Gemm/fp32/then/half"),
        ("fused_neg_zero", "fp32/Add/bf16/then/neg/whole"),
        ("fused_cast_truncates", "fp32/MatMul/fp32xfp32/then/cast_fp16"),
        ("fused_quantise_ties", "fp32/Conv/fp32xfp32/then/quantise"),
        ("fused_clip_narrowed", "fp32/MatMul/fp32xfp32/then/clip"),
        ("constant_column_lost", "fp32/MatMul/fp32xfp32/constant/others"),
    ],
)
def test_they_shrink_and_replay_as_what_they_are(defect, name, tmp_path):
    card, sound = ClientSubject("sim_card", {"defect": defect}), ClientSubject("sim_card", {})
    case, made = CASES[name], problem(name)

    def fails(candidate):
        return attempt(case, candidate, card).result.status is Status.FAILED

    small = shrink(made, fails, 300).problem
    assert sum(t.codes.size for t in small.operands) < sum(t.codes.size for t in made.operands)
    assert (small.then == (), small.constants) == (made.then == (), made.constants)
    assert all(f"then {step.op}" in describe(small) for step in made.then)
    assert [step.attributes for step in small.then] == [step.attributes for step in made.then]
    export(str(tmp_path), "f", case, Settings(plugin="p"), small, attempt(case, small, card))
    again = from_folder(case_of(tmp_path / "f"), CONTEXT)
    assert fails(again)
    assert attempt(case, again, sound).result.status is Status.PASSED
    card.close()
    sound.close()
