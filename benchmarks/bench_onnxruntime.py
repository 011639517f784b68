"""What the SDK adds to onnxruntime: each real model through the plugin, and directly.

    python benchmarks/bench_onnxruntime.py              # as a Markdown table
    python benchmarks/bench_onnxruntime.py --threads 2

Both run in one process, with the same threads, on the same inputs, turn by turn; the median
counts. "Direct" is the original model file. Each is called twice: with arrays (`run`), and with
arguments bound once (bar for either ratio: 1.1).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime

import accelsdk
from accelsdk.compiler import pipeline

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "models"))
import zoo

Run = Callable[[], object]


def direct(model: zoo.Model, feeds: zoo.Feeds, threads: int) -> tuple[Run, Run]:
    """Returns runs of the original model: with arrays, and bound."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        str(model.file()), options, providers=["CPUExecutionProvider"]
    )
    outputs = session.run(None, feeds)
    binding = session.io_binding()
    for name, array in feeds.items():
        binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
    for item, array in zip(session.get_outputs(), outputs, strict=True):
        given = (array.dtype, array.shape, array.ctypes.data)
        binding.bind_output(item.name, "cpu", 0, *given)
    kept = (feeds, outputs)  # the memory that is bound

    def bound() -> object:
        session.run_with_iobinding(binding)
        return kept

    return lambda: session.run(None, feeds), bound


def through_plugin(model: zoo.Model, feeds: zoo.Feeds, threads: int) -> tuple[Run, Run]:
    """Returns runs through the plugin: with arrays, and bound."""
    graph = pipeline.to_core(model.file(), input_shapes=model.shapes, input_values=model.values)
    client = accelsdk.connect("onnxruntime_cpu", fallback=None, threads=threads)
    program = client.compile(graph)
    session = accelsdk.InferenceSession(program, client)
    given = {value.name: feeds[value.name] for value in graph.inputs}
    binding = client.load(program, client.device(0)).bind()
    for name, array in given.items():
        binding.bind_input(name, array)
    return lambda: session.run(None, given), binding.run


def medians(runs: list[Run], rounds: int) -> list[float]:
    """Returns median seconds; the runs take turns."""
    taken: list[list[float]] = [[] for _ in runs]
    for count in range(rounds + 2):
        for index, run in enumerate(runs):
            start = time.perf_counter()
            run()
            if count >= 2:
                taken[index].append(time.perf_counter() - start)
    return [statistics.median(times) for times in taken]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--model", help="part of a name")
    options = parser.parse_args()
    print("| model | direct, ms | plugin, ms | ratio | direct bound | plugin bound | ratio |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for model in zoo.EVERY:
        if options.model and options.model not in model.name:
            continue
        try:
            feeds = {n: np.ascontiguousarray(a) for n, a in model.feeds()[0].items()}
        except zoo.Missing as missing:
            print(f"<!-- {model.name}: {missing} -->")
            continue
        plain, bound = direct(model, feeds, options.threads)
        our_plain, our_bound = through_plugin(model, feeds, options.threads)
        a, b, c, d = medians([plain, our_plain, bound, our_bound], options.rounds)
        cells = (f"{a * 1e3:.2f}", f"{b * 1e3:.2f}", f"{b / a:.3f}")
        more = (f"{c * 1e3:.2f}", f"{d * 1e3:.2f}", f"{d / c:.3f}")
        print(f"| {model.name} | {' | '.join((*cells, *more))} |", flush=True)


if __name__ == "__main__":
    main()
