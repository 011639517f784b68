"""The judge against mutants of a device and of itself: nothing wrong may pass."""

import numpy as np
import pytest
from stand_ins import Changed, Perfect

from accelsdk.errors import InvalidArgument, NotFound
from accelsdk.formats import E4M3, FLOAT32, INT32
from accelsdk_conformance import judge as judging
from accelsdk_conformance.case import Case, Level, Profile, select
from accelsdk_conformance.catalogue import bundled, expand
from accelsdk_conformance.examine import examine
from accelsdk_conformance.oracles.doubled import Doubled
from accelsdk_conformance.oracles.tensor import Tensor, encode
from accelsdk_conformance.problem import Exact, Expected, Tier, Within, expect_exact
from accelsdk_conformance.result import Status

#: Cases for stand-ins that claim nothing; repetition is asked of a claim alone.
SAMPLE = [
    case
    for case in bundled()
    if case.profile is not Profile.DEVICE and case.generator != "contraction.repeated"
][::29]


def within(value, bound, **more):
    value = np.asarray(value, np.float64)
    accept = Within(Doubled(value, np.zeros_like(value)), np.asarray(bound, np.float64), **more)
    return Expected(FLOAT32, value.shape, ((Tier.T3, accept),), Tier.T3)


def f32(*values):
    return encode(np.array(values, np.float64), FLOAT32)


@pytest.mark.parametrize("case", SAMPLE, ids=lambda case: case.id)
def test_right_answers_pass(case):
    assert examine(case, Perfect()).status is Status.PASSED


def zeros(problem, out):
    return Tensor(out.format, np.zeros_like(out.codes))


def echo(problem, out):
    first = next(t for t in problem.operands if t is not None)
    mask = np.uint64((1 << out.format.bits) - 1)
    codes = np.resize(first.codes, out.shape).astype(np.uint64) & mask
    return Tensor(out.format, codes.astype(out.codes.dtype))


def poisoned(problem, out):
    return Tensor(out.format, np.full_like(out.codes, 0xA5 % (1 << out.format.bits)))


def one_bit(problem, out):
    """The highest mantissa bit of the last element: nothing that is checked allows for it."""
    codes = out.codes.copy()
    if codes.size:
        wide = out.format.is_float and out.format.bits >= 16
        codes.flat[-1] ^= codes.dtype.type(1 << (out.format.mantissa_bits - 1) if wide else 1)
    return Tensor(out.format, codes)


@pytest.mark.parametrize("change", [zeros, echo, poisoned])
def test_a_device_that_computes_nothing_fails(change):
    cases = [c for c in bundled() if c.generator in (
        "contraction.exact_grid", "elementwise.unary", "movement.move", "conversion.cast",
        "mx.quantize_block", "composite.softmax", "reduction.total", "integers.grid",
    )][::37]  # fmt: skip
    differs = []

    def noted(problem, out):
        made = change(problem, out)
        differs.append(not np.array_equal(made.values, out.values, equal_nan=True))
        return made

    # All zeros are right where all results are zero, and an echo where nothing changes.
    survivors = [
        case.id
        for case in cases
        if not differs.clear()
        and examine(case, Changed(noted)).status is Status.PASSED
        and any(differs)
    ]
    assert survivors == []


def test_one_wrong_bit_in_one_element_is_seen_and_named():
    case = next(c for c in bundled() if c.id == "fp8/ScaledMatMul/e4m3xe4m3/exact_grid/k33")
    result = examine(case, Changed(one_bit))
    assert result.status is Status.FAILED
    assert result.wrong == 1
    failure = result.failures[0]
    assert failure.element == (17, 8)
    assert "K=33" in failure.inputs
    assert failure.bound == "exact"


def test_nan_is_never_accepted_by_a_bound():
    assert not judging.judge(f32(np.nan), within([1.0], [1e30])).passed
    assert not judging.judge(f32(np.inf), within([1.0], [1e30])).passed


def test_a_number_is_never_accepted_where_nan_is_due():
    expected = within([0.0], [1e30], nan=np.array([True]))
    assert not judging.judge(f32(0.0), expected).passed
    assert judging.judge(f32(np.nan), expected).passed


def test_infinities_have_signs():
    expected = within([0.0], [0.0], positive=np.array([True]))
    assert judging.judge(f32(np.inf), expected).passed
    assert not judging.judge(f32(-np.inf), expected).passed
    assert not judging.judge(f32(3e38), expected).passed


@pytest.mark.parametrize("factor", [0.999, 1.001, 10.0])
def test_the_bound_itself_decides(factor):
    judged = judging.judge(f32(1 + 2.0**-10 * factor), within([1.0], [2.0**-10]))
    assert judged.passed is (factor < 1)


def test_narrow_outputs_are_held_to_their_rounded_neighbourhood():
    accept = Within(Doubled(np.array([1.06]), np.array([0.0])), np.array([0.001]), narrow=True)
    expected = Expected(E4M3, (1,), ((Tier.T2, accept),), Tier.T2)
    assert judging.judge(encode(np.array([1.0]), E4M3), expected).passed
    assert not judging.judge(encode(np.array([1.125]), E4M3), expected).passed


def test_signed_zeros_count_only_where_they_are_under_test():
    plus, minus = f32(0.0), f32(-0.0)
    assert not judging.judge(minus, expect_exact(plus)).passed
    assert judging.judge(minus, expect_exact(plus, signed_zero=False)).passed


def test_the_strictest_tier_reached_is_reported():
    value = np.array([1.0])
    tiers = (
        (Tier.T0, Exact(f32(1.0).codes)),
        (Tier.T3, Within(Doubled(value, value * 0), np.array([0.5]))),
    )
    expected = Expected(FLOAT32, (1,), tiers, Tier.T3)
    assert judging.judge(f32(1.0), expected).tier is Tier.T0
    assert judging.judge(f32(1.25), expected).tier is Tier.T3
    assert not judging.judge(f32(2.0), expected).passed


def test_wrong_shape_format_and_missing_tier_fail():
    expected = expect_exact(f32(1.0, 2.0))
    assert not judging.judge(f32(1.0), expected).passed
    assert not judging.judge(Tensor(INT32, np.zeros(2, np.uint32)), expected).passed
    untested = Expected(FLOAT32, (1,), (), Tier.T0)
    assert not judging.judge(f32(1.0), untested).passed


def test_an_empty_parametrisation_is_an_error():
    text = '[[group]]\nid = "fp8/x{k}"\nprofile = "fp8"\ngenerator = "a.b"\ngrid = { k = [] }\n'
    with pytest.raises(InvalidArgument, match="expands to no case"):
        list(expand(text, "vendor.toml"))
    with pytest.raises(NotFound, match="matches 'nothing/like/this'"):
        select(bundled(), patterns=["nothing/like/this"])


def test_cases_travel_as_json_and_are_the_same_every_time():
    cases = bundled()
    assert len({case.id for case in cases}) == len(cases)
    for case in cases[::50]:
        again = Case.from_json(case.to_json())
        assert again.id == case.id
        assert dict(again.parameters) == dict(case.parameters)
        assert again.seed == case.seed
    with pytest.raises(InvalidArgument, match="not a conformance case"):
        Case.from_json("{}")


def test_every_profile_has_cases_at_both_levels():
    for profile in Profile:
        for level in Level:
            assert select(bundled(), profiles=[profile], level=level)
