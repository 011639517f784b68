"""Real models on several inputs at once, through a few compiled sizes."""

import functools

import agreement
import numpy as np
import pytest
import zoo

import accelsdk
from accelsdk.compiler import pipeline

BATCHED = [zoo.MAGIKA, zoo.MINILM, *(m for m in zoo.VARIANTS if m.name.endswith("half"))]
#: Which axis of its inputs and outputs is the batch, where it is not the first.
INNER = {"state": 1, "stateN": 1}
ROWS = 3


def stacked(arrays):
    """Joins feeds, or outputs, of one row each."""
    return {
        name: np.concatenate([one[name] for one in arrays], axis=INNER.get(name, 0))
        for name in arrays[0]
    }


@functools.lru_cache(maxsize=1)
def reference(model):
    """What float32 may make of the model for that many rows, by Monte Carlo arithmetic."""
    fed = stacked((model.feeds() * ROWS)[:ROWS])
    shapes = {name: array.shape for name, array in fed.items()}
    graph = pipeline.to_core(model.file(), input_shapes=shapes, passes=())
    return fed, agreement.Reference(graph, fed)


@pytest.mark.parametrize("model", BATCHED, ids=lambda model: model.name)
@pytest.mark.parametrize("plugin", ["reference_cpu", "sim_card"])
def test_a_batch_in_passes_is_as_right_as_the_exact_shape(model, plugin):
    try:
        source = str(model.file())
        fed, limits = reference(model)
    except (zoo.Missing, ModuleNotFoundError) as missing:
        pytest.skip(f"{missing}: see tests/models/requirements.txt")
    batch = {"magika": "unk__214"}.get(model.name, "batch")
    with accelsdk.InferenceSession(source, plugin, buckets={batch: (2,)}) as session:
        names = [argument.name for argument in session.get_outputs()]
        found = dict(zip(names, session.run(None, fed), strict=True))  # a pass of 2, a padded one
    for agreed in limits.compare(found):
        assert agreed, agreed


def test_what_mixes_a_sequence_is_told():
    try:
        source = str(zoo.MINILM.file())
    except zoo.Missing as missing:
        pytest.skip(f"{missing}: see tests/models/requirements.txt")
    shapes = dict.fromkeys(zoo.MINILM.shapes, (1, 8))
    with pytest.raises(accelsdk.errors.UnsupportedGraph, match="independent rows"):
        accelsdk.InferenceSession(source, buckets={"sequence": (8, 32)}, input_shapes=shapes)
