"""Errors judged together: biased units that every bound lets through, and no honest one."""

from dataclasses import replace

import numpy as np
import pytest
from simulated import Simulated

from accelsdk.formats import FLOAT32
from accelsdk.numerics.accumulate import AccumulatorSpec
from accelsdk_conformance.case import Profile
from accelsdk_conformance.catalogue import bundled
from accelsdk_conformance.examine import examine
from accelsdk_conformance.judge import judge
from accelsdk_conformance.oracles import bias
from accelsdk_conformance.oracles.contraction import contract
from accelsdk_conformance.oracles.tensor import encode
from accelsdk_conformance.problem import Context
from accelsdk_conformance.registry import generator
from accelsdk_conformance.result import Status

CLAIM = AccumulatorSpec(guarantee="at_least")
PLAIN = replace(CLAIM, width=1, order="contiguous", tree="sequential")
CASES = {
    case.id: case
    for case in bundled()
    if case.id.startswith(("fp32/MatMul/fp32xfp32/unb", "fp8/ScaledMatMul/e4m3xe4m3/unb"))
}


class Once(Simulated):
    """Sums exactly, then rounds units in the last place by a rule of its own."""

    def __init__(self, rule):
        super().__init__(PLAIN, CLAIM)
        self.rule = rule

    def run(self, problem, poison):
        a, b = problem.operands[:2]
        value = contract(a.values, b.values, a.format, b.format).value
        _, exponent = np.frexp(value.high)
        steps = np.ldexp(value.high, 24 - exponent)
        found = self.rule(steps + np.ldexp(value.low, 24 - exponent))
        return (encode(np.ldexp(found, exponent - 24), FLOAT32),)


def noisy(x):
    """Right in the mean, and wrong by four units in the last place."""
    return np.rint(x) + 4 * np.random.default_rng(1).choice([-1, 1], x.shape)


def away(x):
    return np.copysign(np.floor(np.abs(x) + 0.5), x)


def inwards(x):
    return np.copysign(np.ceil(np.abs(x) - 0.5), x)


#: name: (unit, the direction that is to be named)
BIASED = {
    "truncates, one by one": (
        Simulated(replace(PLAIN, store_rounding="rz"), CLAIM),
        "towards zero",
    ),
    "truncates every 16": (
        Simulated(replace(PLAIN, store_rounding="rz", width=16), CLAIM),
        "towards zero",
    ),
    "truncates once": (
        Simulated(replace(PLAIN, store_rounding="rz", width=0), CLAIM),
        "towards zero",
    ),
    "down": (Simulated(replace(PLAIN, store_rounding="rd", width=8), CLAIM), "down"),
    "up, in a tree": (
        Simulated(replace(PLAIN, store_rounding="ru", width=4, tree="pairwise"), CLAIM),
        "up",
    ),
    "half up": (Once(lambda x: np.floor(x + 0.5)), "up"),
    "half down": (Once(lambda x: np.ceil(x - 0.5)), "down"),
    "half away from zero": (Once(away), "away from zero"),
    "half towards zero": (Once(inwards), "towards zero"),
    "a quarter of a unit too high": (Once(lambda x: np.rint(x + 0.25)), "up"),
}


def results(subject, seed=0):
    """Returns the verdicts, and what each element alone would have said."""
    found, alone = {}, {}
    for case in CASES.values():
        found[case.id] = examine(case, subject, seed)
        problem = generator(case.generator)(case, Context(subject.datasheet, seed))
        outputs = subject.run(problem, 0)
        wanted = problem.oracle(outputs)
        alone[case.id] = all(
            judge(out, replace(want, objection="")).passed
            for out, want in zip(outputs, wanted, strict=True)
        )
    return found, alone


@pytest.mark.parametrize("name", BIASED)
def test_a_biased_unit_that_the_bounds_let_through_is_refuted(name):
    subject, direction = BIASED[name]
    found, alone = results(subject)
    caught = [r for id, r in found.items() if r.status is Status.FAILED and alone[id]]
    assert caught, "only bounds see it, or nothing does"
    assert all(r.claim.endswith("].store_rounding") for r in caught)
    assert any(f"rounded {direction}" in r.reason for r in caught), [r.reason for r in caught]


def test_errors_without_a_bias_that_scatter_too_far_are_refuted():
    found, alone = results(Once(noisy))
    caught = [r for id, r in found.items() if r.status is Status.FAILED and alone[id]]
    assert caught
    assert all(r.claim.endswith("].significand_bits") for r in caught)


HONEST = [
    {},
    {"width": 0},
    {"width": 16, "order": "even_odd"},
    {"tree": "pairwise", "width": 2},
    {"tree": "split_k:4"},
    {"inside": "pairwise", "width": 8},
    {"significand_bits": 14},
    {"significand_bits": 14, "promote_every": 4, "promote_bits": 24},
    {"subnormals_out": "flush"},
]


@pytest.mark.parametrize("changes", HONEST, ids=str)
def test_no_unit_that_rounds_to_nearest_even_is_accused(changes):
    actual = replace(PLAIN, **changes)
    subject = Simulated(actual, replace(actual, width=None, order=None, tree=None))
    for case in CASES.values():
        if actual.significand_bits < 24 and case.profile is Profile.FP32:
            continue
        result = examine(case, subject, 5)
        assert result.status is Status.PASSED, (case.id, result.reason)


def test_a_unit_that_says_that_it_truncates_is_not_asked_for_more():
    spec = replace(PLAIN, store_rounding="rz", width=16)
    for case in CASES.values():
        assert examine(case, Simulated(spec, spec)).status is Status.PASSED


def test_the_limits_are_below_half_a_unit_and_above_chance():
    # 512 outputs of one rounding: a bias of half a unit is found, one of chance is not.
    assert 0.1 < bias.mean_limit(512, 1) < 0.25
    assert bias.mean_limit(512, 32) == pytest.approx(4 * np.sqrt(32 / 512))
    assert 0.5 < bias.scatter_limit(512, 1) < 0.65
    rng = np.random.default_rng(0)
    for _ in range(200):
        even = rng.choice([-0.5, 0.5], (4, 512))
        assert bias.leaning(even, np.ones(4), 1) is None
        assert bias.leaning(even * 3, np.ones(4), 1) is not None
