"""Orders of summation, recovered from sums alone."""

import numpy as np
import pytest

from accelsdk.formats import E4M3
from accelsdk_conformance.probe import contraction, structure
from accelsdk_conformance.probe.unit import Bench
from accelsdk_sim_card.engines.presets import CARD
from tests.conformance.probe.models import Engine, Ordered, lanes, one_by_one, pairwise, split


def measure(add, length):
    return structure.measure(Bench(Ordered(add)), length)


def test_one_after_the_other():
    found = measure(one_by_one, 40)
    assert (found.kind, found.width, found.order, found.tree) == (
        "fused",
        1,
        "contiguous",
        "sequential",
    )


@pytest.mark.parametrize("length", [2, 5, 16, 37])
def test_a_balanced_tree(length):
    found = measure(pairwise, length)
    assert found.tree == ("pairwise" if length > 2 else found.tree)
    assert sum(found.sizes) == length - 1


def test_parts_that_grow_with_k_are_split_k():
    readings, _ = contraction.measure(Ordered(split(3)))
    assert readings["tree"].value == "split_k:3"
    assert readings["promote_every"].value is None


def test_lanes_are_no_known_tree_but_bits_are_found():
    readings, _ = contraction.measure(Ordered(lanes(8)))
    assert not readings["width"].measured
    assert "leaves join as 23 x 1, 24, 48, 96" in readings["width"].reason
    assert readings["significand_bits"].value == 24
    assert readings["store_rounding"].value == "rne"


def test_sums_that_forget_are_not_told():
    found = structure.measure(Bench(Ordered(lambda products: products[:, :, 0])), 20)
    assert found is None


def test_leaves_of_chosen_pairs():
    bench = Bench(Engine(CARD, E4M3))
    assert structure.leaves(bench, 96, [(0, 1), (0, 40), (33, 40), (0, 95)]).tolist() == [
        32,
        64,
        64,
        96,
    ]


def test_products_are_what_was_asked_for():
    bench = Bench(Ordered(one_by_one, E4M3))
    wanted = [2.0**16, 2.25 * 2.0**16, -(2.0**-12), 2.0**-18, 1.25, 0.0]
    assert bench.sums(np.array(wanted)[:, None]).tolist() == wanted
