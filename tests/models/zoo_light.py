"""Nine ImageNet networks that ONNX itself carries: real topologies without trained weights.

Their weights are fills of one number each, so that every class scores alike. Where they would
take less than `_LARGEST` bytes, weights drawn by He's rule (arXiv 1502.01852) take their place,
and the scores differ.
"""

from __future__ import annotations

import math
import os
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from zoo_base import Feeds, Model, Run, classes, locate

_NAMES = (
    *("bvlc_alexnet", "densenet121", "inception_v1", "inception_v2", "resnet50", "shufflenet"),
    *("squeezenet", "vgg19", "zfnet512"),
)
_LARGEST = 120_000_000
_IMAGE = (1, 3, 224, 224)


def _picture(seed: int) -> NDArray[np.float32]:
    """A smooth coloured pattern, normalised."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:224, 0:224] / 224
    waves = rng.uniform(1, 9, (3, 4, 2))
    made = sum(np.sin(2 * np.pi * (w[:, :1, None] * x + w[:, 1:, None] * y)) for w in
               waves.transpose(1, 0, 2))  # fmt: skip
    return np.asarray(made, np.float32)[None]


def _make(name: str, path: Path) -> None:
    """Writes the model with drawn weights, if they are not too many."""
    import onnx

    model = onnx.load(locate("onnx", f"onnx/backend/test/data/light/light_{name}.onnx"))
    shapes = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    fills = [n for n in model.graph.node if n.op_type == "ConstantOfShape"]
    extents = {n.output[0]: tuple(shapes[n.input[0]].tolist()) for n in fills}
    if sum(4 * math.prod(extent) for extent in extents.values()) <= _LARGEST:
        rng = np.random.default_rng(len(name))
        for node in fills:
            extent = extents[node.output[0]]
            if len(extent) < 2:
                continue  # biases and statistics stay
            spread = math.sqrt(2 / math.prod(extent[1:]))
            array = rng.normal(0, spread, extent).astype(np.float32)
            model.graph.initializer.append(onnx.numpy_helper.from_array(array, node.output[0]))
            model.graph.node.remove(node)
    onnx.save(model, path)


def _input(name: str) -> str:
    import onnx

    model = onnx.load(locate("onnx", f"onnx/backend/test/data/light/light_{name}.onnx"))
    given = {tensor.name for tensor in model.graph.initializer}
    return next(item.name for item in model.graph.input if item.name not in given)


def _feeds(name: str) -> list[Feeds]:
    return [{_input(name): _picture(seed)} for seed in range(2)]


def _run(name: str, run: Run) -> list[str]:
    return [classes(run(feeds)) for feeds in _feeds(name)]


LIGHT = tuple(
    Model(
        name=f"light {name}",
        make=partial(_make, name),
        shapes={_input(name): _IMAGE},
        run=partial(_run, name),
        feeds=partial(_feeds, name),
    )
    # 20 GFLOP in float64, five times over, is a minute: only when asked for.
    for name in _NAMES
    if name != "vgg19" or os.environ.get("ACCELSDK_LARGE_MODELS")
)
