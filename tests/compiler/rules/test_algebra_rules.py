"""Determinants and Einsum against direct evaluation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsdk.errors import AccelError, UnsupportedGraph
from tests.compiler.rules.single import close, lowered, uniform

FEW = settings(max_examples=40)
MANY = settings(max_examples=120)
FLOATS = st.sampled_from([np.float16, np.float32, np.float64])


def int64(*numbers):
    return np.array(numbers, np.int64)


# -- Det ------------------------------------------------------------------------------------------


@FEW
@given(size=st.integers(0, 7), batch=st.lists(st.integers(0, 3), max_size=2), dtype=FLOATS)
def test_det(size, batch, dtype):
    x = uniform(*batch, size, size, dtype=dtype)
    found = lowered("Det", [x])[0]
    # backward error of elimination: growth 2^(n-1) at worst, cofactors of |x| <= 1 (Hadamard)
    scale = size * size * float(max(size, 1)) ** (size / 2)
    close(found, np.linalg.det(x.astype(np.float64)), 4, scale=scale)


def test_det_pivots_and_is_zero_for_singular_matrices():
    x = np.float32([[[0, 1], [1, 0]], [[1, 2], [2, 4]], [[0, 0], [0, 0]], [[1e-9, 1], [1, 1]]])
    np.testing.assert_array_equal(lowered("Det", [x])[0], np.float32([-1, 0, 0, -1]))
    with pytest.raises(UnsupportedGraph, match="at most 128"):
        lowered("Det", [np.eye(129, dtype=np.float32)])


# -- Einsum ---------------------------------------------------------------------------------------

LETTERS = "abcdAB"


@MANY
@given(data=st.data(), count=st.integers(1, 4), dtype=FLOATS, explicit=st.booleans())
def test_einsum(data, count, dtype, explicit):
    sizes = dict(zip(LETTERS, data.draw(st.tuples(*[st.integers(0, 4)] * 6)), strict=True))
    dots = data.draw(st.booleans())
    hidden = data.draw(st.lists(st.integers(1, 3), max_size=2)) if dots else []
    names, arrays, broadcasts = [], [], []
    for index in range(count):
        letters = "".join(data.draw(st.lists(st.sampled_from(LETTERS), max_size=3)))
        shape, name = [sizes[c] for c in letters], letters
        if dots and data.draw(st.booleans()):
            cut = data.draw(st.integers(0, len(letters)))
            kept = hidden[data.draw(st.integers(0, len(hidden))) :]
            kept = [n if data.draw(st.booleans()) else 1 for n in kept]
            name = f"{letters[:cut]}...{letters[cut:]}"
            shape = [*shape[:cut], *kept, *shape[cut:]]
            broadcasts.append(kept)
        names.append(name)
        arrays.append(uniform(*shape, seed=index, dtype=dtype))
    equation = ",".join(names)
    if explicit:
        every = sorted(set(equation) & set(LETTERS))
        result = data.draw(st.permutations(every))[: data.draw(st.integers(0, 3))]
        equation += f" -> {'...' if broadcasts else ''}{''.join(result)}"
    found = lowered("Einsum", arrays, equation=equation)[0]
    wide = [a.astype(np.float64) for a in arrays]
    expected = np.einsum(equation, *wide)
    scale = np.einsum(equation, *map(np.abs, wide)).max(initial=0)
    assert found.dtype == dtype
    # half floats round between products
    steps = 2.0**13 * count if dtype == np.float16 else 4096
    close(found, expected, steps, scale=scale)


@pytest.mark.parametrize("equation", ["ij->k", "ij->ii", "i->i", "ij,k->i", "i1->i", "ij->...ij."])
def test_einsum_that_does_not_fit_is_refused(equation):
    with pytest.raises(AccelError):
        lowered("Einsum", [uniform(2, 3)], equation=equation)


def test_einsum_takes_the_cheap_order():
    from accelsdk.compiler import pipeline
    from accelsdk.graph.ops import work
    from tests.compiler.rules.single import model_of

    operands = [uniform(100, 2), uniform(2, 100), uniform(100, 3)]
    graph = pipeline.to_core(model_of("Einsum", operands, equation="ab,bc,cd->ad"))
    assert sum(work(node).operations for node in graph.nodes) < 2 * 2 * 100 * 2 * 3 + 2000
