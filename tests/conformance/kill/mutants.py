"""Ways in which a checker goes blind. Each replaces one part of the suite by a weaker one."""

from dataclasses import replace

import numpy as np

from accelsdk.errors import InvalidArgument, NotFound
from accelsdk_conformance import (
    case,
    catalogue,
    examine,
    judge,
    registry,
    run,
    together,
    waivers,
    worker,
)
from accelsdk_conformance.generators import data, products
from accelsdk_conformance.oracles.tensor import Tensor
from accelsdk_conformance.problem import Exact, Tier, Within, expect_exact
from accelsdk_conformance.result import Status


def _comparison(change):
    """Returns the mutant that changes what is compared as wrong."""

    def apply(patch):
        sound = judge.compare

        def compare(actual, acceptance):
            found = sound(actual, acceptance)
            wrong = change(np.array(found.wrong), actual, acceptance)
            return replace(found, wrong=wrong)

        patch.setattr(judge, "compare", compare)

    return apply


def _acceptance(change):
    """Returns the mutant that compares with a weaker acceptance."""

    def apply(patch):
        sound = judge.compare
        patch.setattr(judge, "compare", lambda actual, accept: sound(actual, change(accept)))

    return apply


def _first_only(wrong, actual, accept):
    flat = wrong.reshape(-1)
    flat[1:] = False
    return wrong


def _last_skipped(wrong, actual, accept):
    wrong.reshape(-1)[-1:] = False
    return wrong


def _bound(factor):
    def change(accept):
        return (
            replace(accept, bound=accept.bound * factor) if isinstance(accept, Within) else accept
        )

    return change


def _free(accept):
    if not isinstance(accept, Exact):
        return accept
    return replace(accept, free=np.ones(accept.codes.shape, bool))


def _wide_narrow(accept):
    if not (isinstance(accept, Within) and accept.narrow):
        return accept
    return replace(accept, bound=accept.bound + 1)


def _signless(accept):
    return replace(accept, signed_zero=False) if isinstance(accept, Exact) else accept


def _overflowing(accept):
    if not isinstance(accept, Within):
        return accept
    return replace(accept, overflow=np.ones(accept.bound.shape, bool))


def _judged(change):
    """Returns the mutant that replaces the verdict on one output."""

    def apply(patch):
        sound = judge.judge

        def mutant(actual, expected):
            return change(sound, actual, expected)

        patch.setattr(judge, "judge", mutant)
        patch.setattr(examine, "judge", mutant)

    return apply


def _itself(sound, actual, expected):
    """The expectation is compared with itself."""
    own = expect_exact(actual)
    return sound(actual, replace(own, required=Tier.T0))


def _any_shape(sound, actual, expected):
    if actual.format != expected.format or actual.shape == expected.shape:
        return sound(actual, expected)
    return judge.Judgement(True, Tier.T0, None)


def _any_format(sound, actual, expected):
    return sound(Tensor(expected.format, actual.codes), expected)


def _zeros_pass(sound, actual, expected):
    found = sound(actual, expected)
    return found if actual.codes.any() else replace(found, passed=True)


def _best_tier(sound, actual, expected):
    found = sound(actual, expected)
    return replace(found, tier=Tier.T0) if found.passed else found


def _loosest_tier(sound, actual, expected):
    """Whatever any tier accepts passes."""
    reached = [
        name for name, accept in expected.tiers if not judge.compare(actual, accept).wrong.any()
    ]
    found = sound(actual, expected)
    return replace(found, passed=True, tier=reached[0]) if reached else found


def _verdict(change):
    """Returns the mutant that changes the verdict on a case."""

    def apply(patch):
        sound = examine.verdict

        def mutant(one, problem, out, want):
            return change(sound, one, problem, out, want)

        patch.setattr(examine, "verdict", mutant)
        patch.setattr(together, "verdict", mutant)

    return apply


def _without_objection(sound, actual, expected):
    return sound(actual, replace(expected, objection=""))


def _problem_without(**fields):
    """Returns the mutant that runs problems without something that they demand."""

    def apply(patch):
        sound = examine.attempt

        def mutant(one, problem, *more):
            return sound(one, replace(problem, **fields), *more)

        patch.setattr(examine, "attempt", mutant)

    return apply


def _echo_passes(sound, one, problem, out, want):
    found = sound(one, problem, out, want)
    first = next(t for t in problem.operands if t is not None)
    same = bool(out) and np.array_equal(
        np.resize(first.codes, out[0].shape).astype(np.uint64)
        & np.uint64((1 << out[0].format.bits) - 1),
        out[0].codes.astype(np.uint64),
    )
    return found.having(Status.PASSED, "") if same else found


def _first_output_only(sound, one, problem, out, want):
    return sound(one, problem, out[:1], want[:1])


def _unsupported_for_failed(sound, one, problem, out, want):
    found = sound(one, problem, out, want)
    failed = found.status is Status.FAILED
    return found.having(Status.UNSUPPORTED, "not claimed") if failed else found


def _constant_digest(patch):
    patch.setattr(examine, "_digest", lambda outputs: "0" * 16)


def _oracle_is_device(patch):
    """What the device gave is what it should have given."""
    sound = registry.generator

    def generator(name):
        def make(one, context):
            problem = sound(name)(one, context)
            oracle = problem.oracle

            def agree(outputs):
                known = oracle(outputs)
                if len(outputs) != len(known):
                    return known
                return tuple(map(expect_exact, outputs))

            return replace(problem, oracle=agree)

        return make

    patch.setattr(registry, "generator", generator)
    patch.setattr(examine, "generator", generator)


def _errors_pass(patch):
    sound = worker.run_case

    def run_case(one, subject, seed):
        found = sound(one, subject, seed)
        swallowed = found.status is Status.ERROR
        return found.having(Status.PASSED, "") if swallowed else found

    patch.setattr(worker, "run_case", run_case)


def _device_errors_are_unsupported(patch):
    patch.setattr(examine, "UnsupportedGraph", Exception)


def _sentinels_ignored(patch):
    sound = examine.examine

    def mutant(one, subject, seed=0):
        found = sound(one, subject, seed)
        overwritten = found.reason.startswith("SentinelOverwritten")
        return found.having(Status.PASSED, "") if overwritten else found

    patch.setattr(examine, "examine", mutant)
    patch.setattr(worker, "examine", mutant)


def _company_excuses(patch):
    patch.setattr(together, "only_together", lambda result, *given: result)


def _parts_pass(patch):
    sound = together._judged
    patch.setattr(together, "_judged", lambda part, out: sound(part, out).having(Status.PASSED, ""))


def _exit_zero(patch):
    patch.setattr(run.Run, "exit_code", property(lambda self: run.CONFORMANT))


def _hung_is_conformant(patch):
    sound = Status.conformant.fget
    patch.setattr(Status, "conformant", property(lambda self: self is Status.HUNG or sound(self)))


def _waivers_match_all(patch):
    patch.setattr(waivers.Waiver, "matches", lambda self, name: True)


def _stale_waivers_ignored(patch):
    sound = waivers.apply
    known = {"a/b", "a/c", "a/d"}

    def apply(results, entries, *more):
        results = list(results)
        ids = {result.id for result in results}
        return [r for r in sound(results, entries, *more) if r.id in ids & known]

    patch.setattr(waivers, "apply", apply)


def _empty_grid_allowed(patch):
    sound = catalogue.expand

    def expand(text, source):
        try:
            return iter([*sound(text, source)])
        except InvalidArgument:
            return iter(())

    patch.setattr(catalogue, "expand", expand)


def _unknown_pattern_allowed(patch):
    sound = case.select

    def select(*given, **named):
        try:
            return sound(*given, **named)
        except NotFound:
            return []

    patch.setattr(case, "select", select)


def _level_drops(patch):
    sound = case.select
    patch.setattr(case, "select", lambda *given, **named: sound(*given, **named)[::2])


def _half_of_the_suite(patch):
    some = [c for c in catalogue.bundled() if not c.generator.startswith("elementwise")]
    kept = tuple(some[: len(some) // 3])
    patch.setattr(catalogue, "bundled", lambda: kept)


def _seed_ignored(patch):
    patch.setattr(data, "rng", lambda one, context: np.random.default_rng(1))


def _floors_ignored(patch):
    patch.setattr(products, "floor_bits", lambda one: 2)


def _no_elements(patch):
    sound = examine.examine
    patch.setattr(
        examine, "examine", lambda *given: replace(sound(*given), elements=0, status=Status.PASSED)
    )


def _nan_blind_exact(wrong, actual, accept):
    return wrong & ~np.isnan(actual.values) if isinstance(accept, Exact) else wrong


def _nan_blind_within(wrong, actual, accept):
    return wrong & ~np.isnan(actual.values) if isinstance(accept, Within) else wrong


def _nan_wanted_ignored(wrong, actual, accept):
    return wrong if accept.nan is None else wrong & ~np.asarray(accept.nan)


def _infinity_sign(wrong, actual, accept):
    return wrong & ~np.isinf(actual.values)


MUTANTS = {
    "NaN equals everything": _comparison(_nan_blind_exact),
    "NaN lies within every bound": _comparison(_nan_blind_within),
    "a number passes where NaN is due": _comparison(_nan_wanted_ignored),
    "infinities have no sign": _comparison(_infinity_sign),
    "infinities lie within every bound": _acceptance(_overflowing),
    "only the first element is judged": _comparison(_first_only),
    "the last element is not judged": _comparison(_last_skipped),
    "bounds are ten times as wide": _acceptance(_bound(10.0)),
    "bounds are twice as wide": _acceptance(_bound(2.0)),
    "bounds are infinite": _acceptance(_bound(np.inf)),
    "narrow outputs have a wide neighbourhood": _acceptance(_wide_narrow),
    "exact results are free": _acceptance(_free),
    "zeros have no sign": _acceptance(_signless),
    "the expectation is compared with itself": _judged(_itself),
    "the shape does not count": _judged(_any_shape),
    "the format does not count": _judged(_any_format),
    "all zeros pass": _judged(_zeros_pass),
    "every tier is called T0": _judged(_best_tier),
    "the loosest tier is enough": _judged(_loosest_tier),
    "an echo of the input passes": _verdict(_echo_passes),
    "only the first output is judged": _verdict(_first_output_only),
    "what fails is called unsupported": _verdict(_unsupported_for_failed),
    "what is wrong as a whole passes": _judged(_without_objection),
    "only the first of several runs is looked at": _problem_without(repeats=1),
    "a refusal breaks no promise": _problem_without(promise=None),
    "the digest is constant": _constant_digest,
    "the oracle is the device": _oracle_is_device,
    "exceptions are swallowed": _errors_pass,
    "device errors are called unsupported": _device_errors_are_unsupported,
    "overwritten sentinels are ignored": _sentinels_ignored,
    "what is wrong only in company passes": _company_excuses,
    "parts of a shared program are not judged": _parts_pass,
    "the exit code is always 0": _exit_zero,
    "a hung case is conformant": _hung_is_conformant,
    "waivers match everything": _waivers_match_all,
    "stale waivers are ignored": _stale_waivers_ignored,
    "an empty grid is no error": _empty_grid_allowed,
    "an unknown pattern is no error": _unknown_pattern_allowed,
    "every second case is dropped": _level_drops,
    "two thirds of the suite are gone": _half_of_the_suite,
    "the seed is ignored": _seed_ignored,
    "the floors of the profiles are ignored": _floors_ignored,
    "nothing is compared": _no_elements,
}
