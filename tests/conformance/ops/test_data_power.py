"""The data of a case must tell a right result from wrong ones that look like it.

Each corruption is what a broken device may do with the data, whatever the op: it answers zeros,
its first operand, everything one place further, backwards, with two axes exchanged, with two
operands exchanged, one value everywhere, or nothing at the end. A case whose data are regular
(a short period, a symmetry, one value) would let some of them pass.
"""

from collections import defaultdict

import numpy as np
import pytest
from scan import cases
from stand_ins import Perfect

from accelsdk.backend.datasheet import NumericsDatasheet
from accelsdk_conformance.examine import verdict
from accelsdk_conformance.generators.whole import whole
from accelsdk_conformance.oracles.tensor import Tensor, unpack
from accelsdk_conformance.problem import BelowProfile, Context, NotApplicable
from accelsdk_conformance.registry import generator
from accelsdk_conformance.result import Status

_SAMPLED = 4  # cases of each op and generator
_LEAST = 16  # elements of a result, below which it may look regular by chance


def zeros(problem, out):
    return np.zeros_like(out.codes)


def echo(problem, out):
    source = problem.operands[0].codes.reshape(-1).astype(np.uint64)
    kept = source & np.uint64((1 << out.format.bits) - 1)
    return np.resize(kept, out.shape).astype(out.codes.dtype) if kept.size else out.codes


def shifted(problem, out):
    return np.roll(out.codes.reshape(-1), 1).reshape(out.shape)


def backwards(problem, out):
    return out.codes.reshape(-1)[::-1].reshape(out.shape)


def transposed(problem, out):
    if out.codes.ndim < 2 or 1 in out.shape[-2:]:
        return out.codes
    return np.ascontiguousarray(out.codes.swapaxes(-1, -2)).reshape(out.shape)


def constant(problem, out):
    return np.full_like(out.codes, out.codes.reshape(-1)[0])


def unwritten(problem, out):
    """The last eighth still holds what the memory was filled with."""
    poison = unpack(bytes([0xA5]) * out.format.nbytes(out.codes.size), out.format, out.shape)
    codes = out.codes.reshape(-1).copy()
    codes[-max(1, len(codes) // 8) :] = poison.codes.reshape(-1)[0]
    return codes.reshape(out.shape)


def exchanged(problem, out):
    formats = {operand.format for operand in problem.operands if operand is not None}
    if problem.remake is None or len(problem.operands) != 2 or len(formats) != 1:
        return out.codes
    try:
        other = problem.remake.make((problem.operands[1], problem.operands[0]))
    except Exception:  # these operands cannot change places: a maker may say so in any way
        return out.codes
    found = Perfect().run(other, 0)[0]
    same = found.format == out.format and found.codes.size == out.codes.size
    return found.codes.reshape(out.shape) if same else out.codes


CORRUPTIONS = (zeros, echo, shifted, backwards, transposed, constant, unwritten, exchanged)

#: (corruption or "*", op or function of a generator): why the corrupted result is right, too.
RIGHT_TOO = {
    ("echo", "Abs"): "of unsigned numbers",
    ("echo", "Cast"): "of the same bits",
    ("echo", "Clip"): "without limits",
    ("echo", "Compress"): "of everything",
    ("echo", "Expand"): "of a row, or over leading axes",
    ("echo", "Split"): "the first part along the first axis",
    ("echo", "PRelu"): "of nothing below zero",
    ("echo", "Reshape"): "codes keep their order",
    ("echo", "total"): "over no axis, or one of extent 1",
    ("echo", "product"): "over no axis, or one of extent 1",
    ("echo", "extreme_over"): "over no axis, or one of extent 1",
    ("echo", "reduce"): "over no axis, or one of extent 1",
    ("echo", "reduction"): "over an axis of extent 1",
    ("*", "empty"): "a sum of nothing is zero everywhere",
    ("*", "tosa"): "TOSA's first data set multiplies by zeros on purpose",
    ("*", "nan_payloads"): "every result is a NaN",
    ("*", "IsNaN"): "the format has none",
    ("*", "IsInf"): "the format has none",
    ("*", "Clip"): "crossed limits give the upper one everywhere",
    ("transposed", "all_pairs"): "equal formats give a symmetric table",
    ("transposed", "pairs"): "equal formats give a symmetric table",
    ("transposed", "far_scales"): "scales on both sides are as far",
    # They tell one declared accumulator from another; of an undeclared one little is demanded.
    ("*", "all_ones"): "the sum of magnitudes is all that bounds it",
    ("*", "ladder"): "the sum of magnitudes is all that bounds it",
    ("*", "order"): "the sum of magnitudes is all that bounds it",
    ("*", "probes"): "the sum of magnitudes is all that bounds it",
    ("transposed", "pool_nan"): "a NaN stands in the middle",
    ("exchanged", "Add"): "commutes",
    ("exchanged", "Mul"): "commutes",
    ("exchanged", "Max"): "commutes",
    ("exchanged", "Min"): "commutes",
    ("exchanged", "Equal"): "commutes",
    ("exchanged", "BitwiseAnd"): "commutes",
    ("exchanged", "BitwiseOr"): "commutes",
    ("exchanged", "BitwiseXor"): "commutes",
}


def sampled():
    """Returns some cases of each op and generator, spread over their order."""
    groups = defaultdict(list)
    for case in cases():
        alias = case.parameters.get("shape") == "alias"  # x - x is 0, and x == x everywhere
        if not alias and case.parameters.get("bags") != "all_empty":  # of which all are 0
            groups[case.op, case.generator].append(case)
    return {
        f"{op}-{name}": group[:: max(1, len(group) // _SAMPLED)]
        for (op, name), group in groups.items()
    }


GROUPS = sampled()


def excused(case, corruption):
    return any(
        (what, where) in RIGHT_TOO
        for what in ("*", corruption.__name__)
        for where in (case.op, case.generator.split(".")[1])
    )


def accepted(case, corruption, problem, outputs):
    """Says whether the suite would take the corrupted first result for a right one."""
    codes = corruption(problem, outputs[0])
    changed = (Tensor(outputs[0].format, codes.astype(outputs[0].codes.dtype)), *outputs[1:])
    result = verdict(case, problem, changed, problem.oracle(changed))
    return result.status is not Status.FAILED


@pytest.mark.parametrize("group", GROUPS)
def test_wrong_results_are_seen(group):
    missed = []
    for case in GROUPS[group]:
        try:
            problem = generator(case.generator)(case, Context(NumericsDatasheet()))
        except (NotApplicable, BelowProfile):
            continue
        outputs = Perfect().run(problem, 0)
        if outputs[0].codes.size < _LEAST:
            continue
        for corruption in CORRUPTIONS:
            inert = corruption in (transposed, exchanged) and np.array_equal(
                corruption(problem, outputs[0]), outputs[0].codes
            )
            natural = inert and (corruption is exchanged or 1 in outputs[0].shape[-2:])
            if natural or (outputs[0].codes.ndim < 2 and corruption is transposed):
                continue
            if accepted(case, corruption, problem, outputs) and not excused(case, corruption):
                missed.append(f"{corruption.__name__} of {case.id}")
    assert missed == []


def lost(value, bits):
    """Says whether a float of so many bits does not hold an integer."""
    return int({32: np.float32, 64: np.float64}[bits](value)) != value


FITTING = [case for case in cases() if case.parameters.get("data") == "fits"]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("case", FITTING, ids=lambda case: case.id)
def test_reductions_that_fit_are_lost_in_a_float_of_their_width(case, seed):
    problem = generator(case.generator)(case, Context(NumericsDatasheet(), seed))
    (expected,) = problem.oracle(())
    ((_, wanted),) = expected.tiers
    found = whole(Tensor(expected.format, wanted.codes)).reshape(-1).tolist()
    assert [value for value in found if not lost(value, expected.format.bits)] == []


def test_every_integer_reduction_has_a_case_that_fits():
    ops = "ReduceSum", "ReduceProd", "ReduceL1", "ReduceSumSquare"
    formats = "int32", "int64", "uint32", "uint64"
    assert {(c.op, *c.formats) for c in FITTING} == {(op, fmt) for op in ops for fmt in formats}
