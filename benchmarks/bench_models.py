"""The five real models: how fast they run, and how far they are from float64.

    python benchmarks/bench_models.py           # times, as a Markdown table
    python benchmarks/bench_models.py --errors  # errors, as a Markdown table (docs/models.md)

Each model runs on its real inputs. Runs of all contestants alternate in one process, and the
median counts. onnx's ReferenceEvaluator gets the model converted to opset 21 first (as exported,
it evaluates BatchNormalization with momentum as training), and magika's GlobalMaxPool as
ReduceMax (it fails on operands of rank 3).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import version_converter
from onnx.reference import ReferenceEvaluator

import accelsdk
from accelsdk.compiler import pipeline

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "models"))
import agreement
import zoo

_BACKENDS = ("reference_cpu", "sim_card")
Run = Callable[[zoo.Feeds], object]


def _session(model: zoo.Model, backend: str) -> Run:
    session = accelsdk.InferenceSession(
        str(model.file()), backend=backend, input_shapes=model.shapes
    )
    return lambda feeds: session.run(None, feeds)


def _onnxruntime(model: zoo.Model) -> Run:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        str(model.file()), options, providers=["CPUExecutionProvider"]
    )
    return lambda feeds: session.run(None, feeds)


def _reference(model: zoo.Model) -> Run:
    proto = version_converter.convert_version(onnx.load(model.file()), 21)
    for node in proto.graph.node:
        if node.op_type == "GlobalMaxPool":  # it fails for operands of rank 3, as magika has
            node.op_type = "ReduceMax"
            node.input.append("spatial_axes")
            axes = onnx.numpy_helper.from_array(np.array([2], np.int64), "spatial_axes")
            proto.graph.initializer.append(axes)
    evaluator = ReferenceEvaluator(proto)
    return lambda feeds: evaluator.run(None, feeds)


def _times(runs: Mapping[str, Run], feeds: zoo.Feeds, rounds: int) -> dict[str, float | None]:
    """Median seconds of each contestant, None if it fails."""
    taken: dict[str, list[float]] = {}
    for name, run in runs.items():
        try:
            run(feeds)
            taken[name] = []
        except Exception as error:
            print(f"<!-- {name} fails: {str(error).splitlines()[0][:90]} -->")
    for _ in range(rounds):
        for name in taken:
            start = time.perf_counter()
            runs[name](feeds)
            taken[name].append(time.perf_counter() - start)
    return {n: statistics.median(taken[n]) if n in taken else None for n in runs}


def _print_times(rounds: int) -> None:
    print(
        "| model | onnx reference | reference_cpu | sim_card | onnxruntime | speed-up | sim/ref |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|")
    for model in zoo.MODELS:
        runs = {
            "reference": _reference(model),
            **{backend: _session(model, backend) for backend in _BACKENDS},
            "onnxruntime": _onnxruntime(model),
        }
        found = _times(runs, model.feeds()[0], rounds)
        ms = [f"{t * 1e3:.2f} ms" if t is not None else "fails" for t in found.values()]
        slow, cpu, sim = (found[name] for name in ("reference", *_BACKENDS))
        ratio = f"{slow / cpu:.1f}x" if slow and cpu else "-"
        print(f"| {model.name} | {' | '.join(ms)} | {ratio} | {(sim or 0) / (cpu or 1):.2f} |")


def _print_errors() -> None:
    print("| model | output | largest | limit | onnxruntime | reference_cpu | sim_card |")
    print("|---|---|--:|--:|--:|--:|--:|")
    for model in zoo.MODELS:
        plain = pipeline.to_core(model.file(), input_shapes=model.shapes, passes=())
        runs = [_onnxruntime(model), *(_session(model, backend) for backend in _BACKENDS)]
        names = [value.name for value in plain.outputs]
        rows: dict[str, list[float]] = {name: [0.0] * 5 for name in names}
        for feeds in model.feeds()[:3]:
            reference = agreement.Reference(plain, feeds)
            for column, run in enumerate(runs):
                outputs = dict(zip(names, map(np.asarray, run(feeds)), strict=True))
                for found in reference.compare(outputs):
                    row = rows[found.output]
                    row[0], row[1] = max(row[0], found.scale), max(row[1], found.limit)
                    row[2 + column] = max(row[2 + column], found.error)
        for name, row in rows.items():
            print(f"| {model.name} | {name} | {' | '.join(f'{v:.2g}' for v in row)} |")


def main() -> None:
    """Prints one of the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--errors", action="store_true", help="errors instead of times")
    parser.add_argument("--rounds", type=int, default=7, help="runs of each contestant")
    options = parser.parse_args()
    if options.errors:
        _print_errors()
    else:
        _print_times(options.rounds)


if __name__ == "__main__":
    main()
