"""ONNX's own node tests, run through the backend interface, and what became of each."""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from onnx.backend.test.case.test_case import TestCase

from accelsdk.errors import ModelError, UnsupportedGraph
from accelsdk.frontends import onnx_backend

PLUGINS = ("reference_cpu", "sim_card")

#: Where ONNX leaves the result open, or its generator rounds where a kernel need not, by the
#: name of the case: what is compared instead, and why.
Judge = Callable[[TestCase, NDArray, NDArray, list[NDArray]], None]


@dataclass(frozen=True)
class Outcome:
    """What became of one case on one plugin.

    Attributes:
        case: Its name.
        op: The op that it tests.
        status: A wrong answer is never expected.
        reason: Why it was refused, or what was wrong.
        folded: Whether the result was computed while compiling, because every operand had to
            be constant.
    """

    case: str
    op: str
    status: Literal["passed", "refused", "wrong"]
    reason: str = ""
    folded: bool = False


@functools.cache
def cases() -> dict[str, TestCase]:
    """Returns every case, by name."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the generators divide by zero on purpose
        return {case.name: case for case in collect_testcases(None)}


def op_of(case: TestCase) -> str:
    """Returns the op that a case tests; for the body of a function, the function's op."""
    whole = cases().get(re.sub(r"_expanded.*$", "", case.name), case)
    node = whole.model.graph.node[-1]
    return f"{node.domain}.{node.op_type}" if node.domain else node.op_type


def run(case: TestCase, plugin: str) -> Outcome:
    """Runs one case; a refusal is an outcome, any other error is raised."""
    made = functools.partial(Outcome, case.name, op_of(case))
    rep = None
    try:
        rep = onnx_backend.backend(plugin, fallback=None).prepare(case.model)
        for inputs, expected in case.data_sets:
            found = rep.run(inputs)
            _compare(case, inputs, found, expected)
        return made("passed", folded=rep.folded)
    except (UnsupportedGraph, ModelError) as error:
        return made("refused", _reason(error))
    except AssertionError as error:
        return made("wrong", str(error))
    finally:
        if rep is not None:
            rep.close()


def _reason(error: UnsupportedGraph | ModelError) -> str:
    listed = error.reasons[0] if isinstance(error, UnsupportedGraph) else error.message
    return re.sub(r"^node '[^']*' \((\w+)\): ", r"\1: ", listed)


def _compare(case: TestCase, inputs: list, found: tuple, expected: list) -> None:
    judge = next(
        (judge for pattern, judge in JUDGES.items() if re.search(pattern, case.name)), None
    )
    operands = [onnx_backend._array("input", item) for item in inputs]
    for ours, item in zip(found, expected, strict=True):
        theirs = onnx_backend._array("output", item)
        assert ours.shape == theirs.shape, f"shape {ours.shape} instead of {theirs.shape}"
        assert ours.dtype == theirs.dtype, f"dtype {ours.dtype} instead of {theirs.dtype}"
        if judge is not None:
            judge(case, ours, theirs, operands)
        else:
            _close(ours, theirs, case.rtol, case.atol)


def _close(ours: NDArray, theirs: NDArray, rtol: float, atol: float) -> None:
    kind = np.complex128 if ours.dtype.kind == "c" else np.float64
    np.testing.assert_allclose(ours.astype(kind), theirs.astype(kind), rtol=rtol, atol=atol)


def _where_in_range(low: float, high: float) -> Judge:
    """Out of this range ONNX leaves the result of the cast undefined; so is NaN."""

    def judge(case: TestCase, ours: NDArray, theirs: NDArray, operands: list[NDArray]) -> None:
        source = operands[0].astype(np.float64).reshape(ours.shape)
        defined = (source >= low) & (source <= high)
        _close(ours[defined], theirs[defined], 0, 0)

    return judge


def _attention(case: TestCase, ours: NDArray, theirs: NDArray, operands: list[NDArray]) -> None:
    """The generator rounds to 16 bits after every step; a kernel may round once, at the end.

    With u the unit roundoff: scores s carry s (n + 2) u / 2 at most from products and sums of
    positive numbers in n = 8 steps, which the softmax turns into as much relative error of
    each weight, twice (numerator and denominator); with s below 2 that stays below 32 u.
    """
    u = 2.0**-8 if ours.dtype.name == "bfloat16" else 2.0**-11
    _close(ours, theirs, 32 * u, 0)


def _resized_extent(
    case: TestCase, ours: NDArray, theirs: NDArray, operands: list[NDArray]
) -> None:
    """The specification divides by the extent of the result, as onnxruntime and we do.

    The generator divides by the extent before it is rounded.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(case.model.SerializeToString())
    names = [item.name for item in session.get_inputs()]
    (expected,) = session.run(None, dict(zip(names, operands, strict=True)))
    _close(ours, expected, case.rtol, case.atol)


def _fourier(case: TestCase, ours: NDArray, theirs: NDArray, operands: list[NDArray]) -> None:
    """The generator's float32 transform has noise where the exact result is 0.

    A fast transform of n points is within log2(n) 5 u of the norm (Higham, Accuracy and
    Stability of Numerical Algorithms, theorem 24.2).
    """
    points = max(operands[0].shape)
    noise = 5 * np.log2(points) * 2.0**-24 * np.sqrt(np.square(theirs.astype(float)).sum())
    _close(ours, theirs, case.rtol, noise)


#: By a pattern of the case's name.
JUDGES: dict[str, Judge] = {
    r"cast(like)?_FLOAT(16)?_to_UINT4": _where_in_range(0, 15),
    r"cast(like)?_FLOAT(16)?_to_INT4": _where_in_range(-8, 7),
    r"cast(like)?_FLOAT(16)?_to_UINT2": _where_in_range(0, 3),
    r"cast(like)?_FLOAT(16)?_to_INT2": _where_in_range(-2, 1),
    r"cast(like)?_FLOAT(16)?_to_FLOAT4E2M1": _where_in_range(-np.inf, np.inf),
    r"attention_.*(bf16|fp16)": _attention,
    r"dft_inverse": _fourier,
    r"resize_downsample_scales_(linear|cubic)_align_corners": _resized_extent,
}
