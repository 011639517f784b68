"""What holds for every pass, on random graphs over the whole op table."""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings

from accelsdk import formats as f
from accelsdk.compiler.passes.catalogue import PASSES
from accelsdk.compiler.passes.manager import Pass, run_passes
from accelsdk.errors import AccelError, GraphError
from accelsdk.graph.rewrite import Builder
from accelsdk.graph.verify import verify
from accelsdk.kernels.api import evaluate
from tests.compiler.passes.checks import bits, feeds, optimised
from tests.docs.pages import ROOT
from tests.graph.strategies import RECIPES, graphs

#: Ops whose random operands are mostly refused by their kernels (indices, lengths, codes).
REFUSED = ("SparseLengthsSum", "SparseLengthsSumFused", "Quantize", "Dequantize")
OPS = tuple(op for op in RECIPES if op not in REFUSED)
EXACT = [step for step in PASSES if step.exact]


def computed(graph):
    """Results for inputs whose integers are 0, an index that exists wherever one does."""
    fed = feeds(graph)
    for value in graph.inputs:
        if value.format in (f.INT32, f.INT64):
            fed[value.name][...] = 0
    with np.errstate(all="ignore"):
        return bits(evaluate(graph, fed))


@given(graphs(OPS, most=8))
@settings(max_examples=150, suppress_health_check=[HealthCheck.filter_too_much])
def test_exact_passes_keep_bits(graph):
    try:
        expected = computed(graph)
    except AccelError:
        assume(False)
    for step in EXACT:
        assert computed(run_passes(graph, [step])) == expected, step.name
    assert computed(run_passes(graph, EXACT)) == expected


@given(graphs(OPS, most=12))
@settings(max_examples=100)
def test_all_passes_together_end_where_none_changes_anything(graph):
    after = optimised(graph, *PASSES)
    assert run_passes(after, PASSES) is after
    assert len(after.outputs) == len(graph.outputs)


def test_each_pass_says_what_it_changes():
    assert len({step.name for step in PASSES}) == len(PASSES)
    for step in PASSES:
        assert step.changes.endswith(("bits stay", "bits change", "exact result")) or (
            not step.exact and "bits" in step.changes
        )


def test_the_page_lists_every_pass_in_order():
    page = (ROOT / "docs" / "compiler.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `([a-z-]+)` \|", page, re.MULTILINE) == [step.name for step in PASSES]


def test_a_pass_does_not_run_again_on_what_it_left_alone():
    runs = []

    def watch(graph):
        runs.append(graph)
        return graph

    b = Builder()
    x = b.input("x", f.FLOAT32, (3,))
    b.op("Exp", x)
    graph = b.graph([x], [b.op("Neg", x)])
    late = Pass(name="late", changes="", run=watch)
    from_dead = next(step for step in PASSES if step.name == "dead-code")
    after = run_passes(graph, [late, from_dead, late])
    assert [seen is after for seen in runs] == [False, True, True]


def test_verify_takes_proven_nodes_at_their_word_but_not_their_names():
    b = Builder()
    x = b.input("x", f.FLOAT32, (3,))
    y = b.op("Neg", b.op("Exp", x))
    graph = b.graph([x], [y])
    verify(graph, proven=frozenset(graph.nodes))

    without = replace(graph, nodes=graph.nodes[1:])
    with pytest.raises(GraphError, match="define-before-use"):
        verify(without, proven=frozenset(graph.nodes))
